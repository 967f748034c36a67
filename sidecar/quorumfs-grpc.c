/* quorumfs-grpc - etcd's v3 API in front of one quorumfs node. docs/grpc.md says what it serves, docs/supervisor.md how
 * quorumfsd runs it.
 *
 * One loop in one thread, or several (--grpc-loops, loops.h); two kinds of work go to libuv's workers: long Ranges and the
 * catching up of watches.
 * Nothing here is state that a restart would lose. */
#include "base/streams.h"
#include "base/timeslice.h"
#include "sidecar/loops.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLICE_US 400 /* more than the node's, which it waits for; less than what others have */
#define EXIT_UNUSABLE 2 /* a restart mends nothing: docs/supervisor.md */

struct program {
    struct logger log;
    struct options options;
    int ready_fd;
};

/* Inherited open, to be kept from our own children. */
static int take_fd(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long fd;

    if (text == NULL)
        return -1;
    fd = strtol(text, &end, 10);
    if (*end != '\0' || fd < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)fd;
}

/* Large messages come and go: their memory goes back at once instead of staying with each worker's arena. */
static void tame_malloc(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

static void raise_files_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void on_ready(void *ctx)
{
    const struct program *p = ctx;

    if (p->ready_fd >= 0 && write(p->ready_fd, "ready\n", 6) != 6)
        log_warn(&p->log, "telling the supervisor: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    struct program program = {0}, *p = &program;
    char text[512];
    int rc;

    if (streams_hold() < 0)
        return EXIT_UNUSABLE;
    p->log = (struct logger){.level = LOG_LEVEL_INFO, .program = "quorumfs-grpc"};
    if (options_parse(argc - 1, argv + 1, &p->options, text, sizeof text) < 0) {
        log_error(&p->log, "%s", text);
        return EXIT_UNUSABLE;
    }
    if (p->options.action != OPTIONS_RUN) {
        if (p->options.action == OPTIONS_HELP)
            fputs(options_usage(), stdout);
        else
            printf("quorumfs-grpc Version: %s\nAPI of etcd Version: %s\n", QUORUMFS_VERSION, ETCD_API_VERSION);
        return 0;
    }
    p->log.level = p->options.log_level;
    p->ready_fd = take_fd("QUORUMFS_READY_FD");
    take_fd("QUORUMFS_PARENT_FD");
    signal(SIGPIPE, SIG_IGN);
    raise_files_limit();
    tame_malloc();
    rc = timeslice_set(SLICE_US);
    if (rc < 0)
        log_debug(&p->log, "shorter turns on the processors: %s", strerror(-rc));
    return loops_run(&p->options, &p->log, on_ready, p);
}
