/* The remains of mounts. Nothing here may touch a mounted file system in this process: a call into a dead or
 * hanging mount does not return. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raft/child.h"

#define CONNECTIONS "/sys/fs/fuse/connections"
#define STEP_MS 2000 /* for a process that looks or detaches */

/* The exit status of a process that may hang; -1: it did, and was killed. */
static int wait_bounded(pid_t pid)
{
    const struct timespec nap = {0, 5000000};
    uint64_t end_ms = child_now_ms() + STEP_MS;
    int status;

    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);

        if (got == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (got < 0 && errno != EINTR)
            return -1;
        if (child_now_ms() >= end_ms)
            break;
        nanosleep(&nap, NULL); /* no signal of its own: SIGCHLD is blocked and read elsewhere */
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, WNOHANG); /* in D state it stays; SIGCHLD comes later */
    return -1;
}

static int write_abort(unsigned connection)
{
    char path[64];
    int fd, rc = 0;

    snprintf(path, sizeof(path), CONNECTIONS "/%u/abort", connection);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, "1", 1) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

static bool has_control_files(void)
{
    struct stat st, parent;

    return stat(CONNECTIONS, &st) == 0 && stat("/sys/fs/fuse", &parent) == 0 && st.st_dev != parent.st_dev;
}

static int run_fusermount(const char *dir)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", dir, (char *)NULL);
        _exit(127);
    }
    return pid < 0 ? -errno : wait_bounded(pid) == 0 ? 0 : -EIO;
}

static void detach(const char *dir, const struct logger *l)
{
    int rc = umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;

    if (rc == -EPERM)
        rc = run_fusermount(dir);
    if (rc < 0 && rc != -EINVAL) /* EINVAL: nothing is mounted there any more */
        log_warn(l, "%s cannot be detached: %s", dir, strerror(-rc));
}

/* Is the file system of this connection mounted somewhere? By the kernel's table, which asks nobody. */
static bool is_mounted(unsigned connection)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, want[32];
    size_t size = 0;
    bool found = false;

    snprintf(want, sizeof(want), "0:%u", connection);
    while (f != NULL && !found && getline(&line, &size, f) >= 0) {
        char device[32];

        if (sscanf(line, "%*s %*s %31s", device) == 1 && strcmp(device, want) == 0)
            found = true;
    }
    free(line);
    if (f != NULL)
        fclose(f);
    return found;
}

void child_mount_abort(struct child *c, const struct logger *l)
{
    int rc;

    if (!c->has_fuse)
        return;
    c->has_fuse = false;
    if (!has_control_files() && mount("fusectl", CONNECTIONS, "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        log_warn(l, CONNECTIONS " is not there: %s", strerror(errno));
    rc = write_abort(c->fuse);
    if (rc < 0 && rc != -ENOENT) /* ENOENT: the kernel has ended it already */
        log_warn(l, "the connection %u of %s cannot be aborted: %s", c->fuse, c->mount_dir, strerror(-rc));
    if (is_mounted(c->fuse))
        detach(c->mount_dir, l);
}

void child_mount_clear(const struct child *c, const struct logger *l)
{
    struct stat st;
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(stat(c->mount_dir, &st) < 0 && errno == ENOTCONN ? 10 : 0);
    }
    if (pid > 0 && wait_bounded(pid) == 10) {
        log_info(l, "detaching the remains of a mount from %s", c->mount_dir);
        detach(c->mount_dir, l);
    }
}
