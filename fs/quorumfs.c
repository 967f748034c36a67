/* quorumfs: mounts the keys of a cluster as files. Three processes: the front end, its helper (fs/echo.h), and, unless a
 * supervisor started it, a monitor (fs/monitor.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/streams.h"
#include "fs/background.h"
#include "fs/monitor.h"
#include "fs/mount.h"
#include "fs/ready.h"
#include "fs/requirements.h"

enum exit_status { EXIT_ENDED = 0, EXIT_BROKE = 1, EXIT_NO_USE = 2, EXIT_MOUNTPOINT = 3 };

/* The mount point as the kernel's list of mounts will show it. */
static int resolve_mountpoint(struct mount_options *o, const struct logger *log)
{
    struct stat st;
    char *path;

    monitor_detach_dead(o->mountpoint);
    path = realpath(o->mountpoint, NULL);
    if (path == NULL || stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        log_error(log, "%s: %s", o->mountpoint, path == NULL || !S_ISDIR(st.st_mode) ? strerror(path == NULL ? errno : ENOTDIR)
                                                                                     : strerror(errno));
        free(path);
        return -EINVAL;
    }
    free(o->mountpoint);
    o->mountpoint = path;
    return 0;
}

/* The data directory stands for the socket in it. */
static int resolve_node(struct mount_options *o)
{
    struct stat st;
    char *path;

    if (stat(o->node, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0; /* what is not there yet may come */
    if (asprintf(&path, "%s/node.sock", o->node) < 0)
        return -ENOMEM;
    free(o->node);
    o->node = path;
    return 0;
}

static int run_front_end(void *arg)
{
    const struct mount_options *options = arg;
    struct mount m;
    int rc = mount_open(&m, options);
    int status = EXIT_ENDED;

    if (rc == 0)
        rc = mount_run(&m);
    if (rc < 0) {
        log_error(&m.log, "%s: %s", options->mountpoint, strerror(-rc));
        status = rc == -ENAMETOOLONG || rc == -EPERM ? EXIT_NO_USE : rc == -ENODEV ? EXIT_MOUNTPOINT : EXIT_BROKE;
    }
    mount_close(&m);
    return status;
}

static int monitored(const struct logger *log, struct mount_options *options)
{
    struct background background;
    int status = EXIT_BROKE, rc = 0;

    if (options->background)
        rc = background_start(&background, &status);
    if (rc == 0)
        status = monitor_main(log, options->mountpoint, options->background ? &background : NULL, run_front_end, options);
    return status;
}

int main(int argc, char **argv)
{
    struct logger log = {LOG_LEVEL_INFO, "quorumfs"};
    struct mount_options options;
    char text[512] = "";
    int status;

    if (streams_hold() < 0)
        return EXIT_NO_USE;
    if (argc > 1 && strcmp(argv[1], ECHO_HELPER_ARGUMENT) == 0)
        return echo_helper_main(argc, argv);
    if (mount_options_parse(&options, argc, argv, text, sizeof(text)) < 0) {
        fprintf(stderr, "quorumfs: %s\n", text[0] != 0 ? text : "no memory");
        mount_options_fini(&options);
        return EXIT_NO_USE;
    }
    log.level = options.log_level;
    if (options.show_help || options.show_version) {
        if (options.show_help)
            fputs(mount_options_help, stdout);
        else
            printf("quorumfs %s\n", QUORUMFS_VERSION);
        status = EXIT_ENDED;
    } else if (requirements_check(text, sizeof(text)) < 0) {
        log_error(&log, "%s", text);
        status = EXIT_MOUNTPOINT;
    } else if (resolve_mountpoint(&options, &log) < 0) {
        status = EXIT_MOUNTPOINT;
    } else if (resolve_node(&options) < 0) {
        status = EXIT_BROKE;
    } else if (getenv(READY_VARIABLE) != NULL) {
        status = run_front_end(&options);
    } else {
        status = monitored(&log, &options);
    }
    mount_options_fini(&options);
    return status;
}
