#include "fs/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/background.h"
#include "fs/ready.h"

#define RESTART_FIRST_MS 100
#define RESTART_LONGEST_MS 5000
#define SETTLED_MS 10000 /* after this long a front end counts as good again */
#define STOP_MS 6000     /* for its orderly end; then it is aborted */
#define DETACH_MS 2000   /* for fusermount3 */
#define CONNECTIONS "/sys/fs/fuse/connections"

struct monitor {
    const struct logger *log;
    const char *mountpoint;
    struct background *background; /* NULL: in the foreground */
    int signal_fd, ready_fd;
    pid_t pid;
    uint64_t started_ms, stop_ms; /* stop_ms: when patience ends; 0: not asked to stop */
    unsigned connection;          /* 0: not mounted */
    bool ready;
    char line[128];
    size_t line_len;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void abort_connection(const struct monitor *o)
{
    char path[128];
    int fd;

    if (o->connection == 0)
        return;
    snprintf(path, sizeof(path), CONNECTIONS "/%u/abort", o->connection);
    if (access(CONNECTIONS "/.", F_OK) == 0)
        mount("none", CONNECTIONS, "fusectl", 0, NULL); /* busy when it is there already */
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* gone with its last descriptor: the usual case */
    if (write(fd, "1", 1) != 1)
        log_warn(o->log, "cannot abort connection %u: %s", o->connection, strerror(errno));
    close(fd);
}

static void detach(const char *mountpoint)
{
    pid_t pid;

    if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno != EPERM)
        return;
    pid = fork(); /* an ordinary user's */
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; pid > 0 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
        if (i == DETACH_MS / 10)
            kill(pid, SIGKILL); /* in D state it stays so, and nobody waits for it */
        if (i > DETACH_MS / 10 + 10)
            break;
        poll(NULL, 0, 10);
    }
}

void monitor_detach_dead(const char *mountpoint)
{
    struct stat st;

    for (int i = 0; i < 8 && stat(mountpoint, &st) < 0 && errno == ENOTCONN; i++)
        detach(mountpoint);
}

static void take_line(struct monitor *o)
{
    unsigned number;

    if (sscanf(o->line, "fuse %u", &number) == 1) {
        o->connection = number;
    } else if (strcmp(o->line, "ready") == 0) {
        o->ready = true;
        if (o->background != NULL)
            background_ready(o->background);
    }
}

static void read_ready(struct monitor *o)
{
    char c;

    while (read(o->ready_fd, &c, 1) == 1) {
        if (c == '\n') {
            o->line[o->line_len] = 0;
            take_line(o);
            o->line_len = 0;
        } else if (o->line_len < sizeof(o->line) - 1) {
            o->line[o->line_len++] = c;
        }
    }
}

static int start(struct monitor *o, monitor_run run, void *arg)
{
    pid_t parent = getpid();
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    o->connection = 0;
    o->ready = false;
    o->line_len = 0;
    o->started_ms = now_ms();
    o->pid = fork();
    if (o->pid == 0) {
        char number[16];
        sigset_t none;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        close(fds[0]);
        close(o->signal_fd);
        if (o->background != NULL && o->background->lines_fd >= 0)
            close(o->background->lines_fd);
        snprintf(number, sizeof(number), "%d", fds[1]);
        setenv(READY_VARIABLE, number, 1);
        exit(run(arg));
    }
    close(fds[1]);
    if (o->pid < 0) {
        int rc = -errno;

        close(fds[0]);
        return rc;
    }
    o->ready_fd = fds[0];
    return 0;
}

/* Until the child has ended; its wait status. */
static int watch(struct monitor *o)
{
    int status = 0;

    for (;;) {
        struct pollfd p[3] = {{o->signal_fd, POLLIN, 0}, {o->ready_fd, POLLIN, 0},
                              {o->background != NULL ? o->background->lines_fd : -1, POLLIN, 0}};
        struct signalfd_siginfo info;

        poll(p, 3, o->stop_ms != 0 ? 100 : -1);
        if (o->background != NULL)
            background_relay(o->background);
        read_ready(o);
        if ((p[1].revents & POLLHUP) != 0) {
            close(o->ready_fd);
            o->ready_fd = -1;
        }
        while (read(o->signal_fd, &info, sizeof(info)) == sizeof(info)) {
            if (info.ssi_signo == SIGCHLD)
                continue;
            kill(o->pid, SIGTERM);
            if (o->stop_ms == 0)
                o->stop_ms = now_ms() + STOP_MS;
        }
        if (o->stop_ms != 0 && now_ms() > o->stop_ms) {
            abort_connection(o);
            kill(o->pid, SIGKILL);
        }
        if (waitpid(o->pid, &status, WNOHANG) == o->pid)
            break;
    }
    if (o->ready_fd >= 0) {
        read_ready(o);
        close(o->ready_fd);
    }
    return status;
}

/* Whether a signal asked to stop while waiting. */
static bool wait_before_restart(struct monitor *o, unsigned ms)
{
    struct pollfd p = {o->signal_fd, POLLIN, 0};
    uint64_t until_ms = now_ms() + ms;

    while (now_ms() < until_ms) {
        struct signalfd_siginfo info;

        poll(&p, 1, (int)(until_ms - now_ms()));
        while (read(o->signal_fd, &info, sizeof(info)) == sizeof(info))
            if (info.ssi_signo != SIGCHLD)
                return true;
    }
    return false;
}

static int run_and_watch(struct monitor *o, monitor_run run, void *arg)
{
    unsigned delay_ms = RESTART_FIRST_MS;
    bool was_ready = false;

    for (;;) {
        int status;

        if (start(o, run, arg) < 0)
            return 1;
        status = watch(o);
        was_ready = was_ready || o->ready;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return 0;
        abort_connection(o);
        detach(o->mountpoint);
        if (o->stop_ms != 0)
            return 0;
        if (WIFEXITED(status) && !was_ready && (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) == 3))
            return WEXITSTATUS(status);
        if (now_ms() - o->started_ms > SETTLED_MS)
            delay_ms = RESTART_FIRST_MS;
        log_warn(o->log, "the mount's front end broke (%s %d); starting it again", WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        if (wait_before_restart(o, delay_ms))
            return 0;
        delay_ms = delay_ms * 2 < RESTART_LONGEST_MS ? delay_ms * 2 : RESTART_LONGEST_MS;
        monitor_detach_dead(o->mountpoint);
    }
}

int monitor_main(const struct logger *log, const char *mountpoint, struct background *background, monitor_run run, void *arg)
{
    struct monitor o = {.log = log, .mountpoint = mountpoint, .background = background, .ready_fd = -1};
    sigset_t signals;
    int status;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    o.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (o.signal_fd < 0)
        return 1;
    status = run_and_watch(&o, run, arg);
    if (background != NULL)
        background_relay(background); /* what was said last */
    return status;
}
