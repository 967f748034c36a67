#include "raft/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

uint64_t child_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int child_add_word(struct child *c, const char *word)
{
    size_t n = 0;

    while (c->words[n] != NULL)
        n++;
    if (n == CHILD_WORDS_MAX - 1)
        return -E2BIG;
    c->words[n] = strdup(word);
    return c->words[n] != NULL ? 0 : -ENOMEM;
}

void child_free_words(struct child *c)
{
    for (size_t i = 0; c->words[i] != NULL; i++)
        free(c->words[i]);
    memset(c->words, 0, sizeof(c->words));
}

int child_drop(const struct child_user *user)
{
    if (user->uid < 0)
        return 0;
    if (initgroups(user->name, (gid_t)user->gid) < 0 || setresgid((gid_t)user->gid, (gid_t)user->gid, (gid_t)user->gid) < 0 ||
        setresuid((uid_t)user->uid, (uid_t)user->uid, (uid_t)user->uid) < 0)
        return -errno;
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL); /* fails for those that cannot change */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void name_fd(const char *variable, int fd)
{
    char text[16];

    fcntl(fd, F_SETFD, 0);
    snprintf(text, sizeof(text), "%d", fd);
    setenv(variable, text, 1);
}

/* In the child. Never returns. */
static void become(struct child *c, int ready_fd, int parent_fd, pid_t supervisor)
{
    int null_fd = open("/dev/null", O_RDONLY);
    char *path = c->words[0];
    const char *failed = "privileges cannot be dropped";

    reset_signals();
    setpgid(0, 0); /* a terminal's ^C is for the supervisor, which stops in order */
    if (child_drop(c->user) < 0)
        goto fail;
    /* After the change of user, which would undo it. */
    failed = "its end cannot be tied to the supervisor's";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        goto fail;
    if (getppid() != supervisor)
        _exit(1);
    failed = "descriptors cannot be closed";
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        goto fail;
    name_fd("QUORUMFS_READY_FD", ready_fd);
    name_fd("QUORUMFS_PARENT_FD", parent_fd);
    failed = path;
    if (c->argv0 != NULL)
        c->words[0] = (char *)c->argv0; /* exec takes what it does not write to */
    execv(path, c->words);
fail:
    dprintf(STDERR_FILENO, "quorumfsd: %s cannot be started: %s: %s\n", c->title, failed, strerror(errno));
    _exit(1);
}

int child_start(struct child *c, int parent_fd)
{
    pid_t supervisor = getpid(), pid;
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    pid = fork();
    if (pid < 0) {
        rc = -errno;
        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    if (pid == 0)
        become(c, fds[1], parent_fd, supervisor);
    close(fds[1]);
    c->pid = pid;
    c->ready_fd = fds[0];
    c->line_len = 0;
    c->skip_line = c->ready = c->has_fuse = false;
    return 0;
}

/* One line without its end. True: it says ready. */
static bool take_line(struct child *c)
{
    char *end;
    unsigned long n;

    c->line[c->line_len] = '\0';
    if (c->kind == CHILD_MOUNT && strncmp(c->line, "fuse ", 5) == 0) {
        n = strtoul(c->line + 5, &end, 10);
        if (*end == '\0' && end != c->line + 5 && n <= 0xfffff) {
            c->fuse = (unsigned)n;
            c->has_fuse = true;
        }
    }
    if (c->kind == CHILD_NODE && strncmp(c->line, "stuck ", 6) == 0) {
        n = strtoul(c->line + 6, &end, 10);
        if (*end == '\0' && end != c->line + 6 && n > 1 && n <= INT32_MAX && c->n_stuck < CHILD_STUCK_MAX)
            c->stuck[c->n_stuck++] = (pid_t)n;
    }
    return strcmp(c->line, "ready") == 0;
}

static bool take_byte(struct child *c, char byte)
{
    bool says_ready = false;

    if (byte != '\n') {
        if (c->line_len == sizeof(c->line) - 1)
            c->skip_line = true;
        else
            c->line[c->line_len++] = byte;
        return false;
    }
    if (!c->skip_line && take_line(c) && !c->ready) {
        c->ready = c->ever_ready = true;
        c->ready_ms = child_now_ms();
        says_ready = true;
    }
    c->line_len = 0;
    c->skip_line = false;
    return says_ready;
}

bool child_read(struct child *c)
{
    bool became_ready = false;
    char data[CHILD_READ_BYTES];
    ssize_t n;

    if (c->ready_fd < 0)
        return false;
    n = read(c->ready_fd, data, sizeof(data));
    for (ssize_t i = 0; i < n; i++)
        became_ready |= take_byte(c, data[i]);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(c->ready_fd);
        c->ready_fd = -1;
    }
    return became_ready;
}

void child_ended(struct child *c)
{
    child_read(c); /* its last words: the connection to abort may be among them */
    if (c->ready_fd >= 0)
        close(c->ready_fd);
    c->ready_fd = -1;
    c->pid = 0;
    c->ready = false;
}
