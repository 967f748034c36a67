#include "fs/background.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define SYSLOG_SOCKET "/dev/log"
#define ENDING_MS 10000 /* for an orderly end of what is given up */

static int wait_for(pid_t pid, int ready_fd)
{
    struct pollfd p = {ready_fd, POLLIN, 0};
    int status, n;
    char c;

    do
        n = poll(&p, 1, BACKGROUND_WAIT_MS);
    while (n < 0 && errno == EINTR);
    if (n > 0 && read(ready_fd, &c, 1) == 1)
        return 0;
    if (n == 0) {
        fprintf(stderr, "quorumfs: the mount is not there after %d s; given up\n", BACKGROUND_WAIT_MS / 1000);
        kill(pid, SIGTERM);
    }
    for (int i = 0; i < ENDING_MS / 10; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
        poll(NULL, 0, 10);
    }
    return 1;
}

int background_start(struct background *b, int *ret_status)
{
    int ready[2], lines[2];
    pid_t pid;

    *b = (struct background){.ready_fd = -1, .lines_fd = -1, .stderr_fd = -1};
    if (pipe2(ready, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(lines, O_CLOEXEC | O_NONBLOCK) < 0) { /* a line that does not fit is lost: nobody waits to say something */
        int rc = -errno;

        close(ready[0]);
        close(ready[1]);
        return rc;
    }
    pid = fork();
    if (pid != 0) {
        int rc = -errno;

        close(ready[1]);
        close(lines[0]);
        close(lines[1]);
        if (pid > 0)
            *ret_status = wait_for(pid, ready[0]);
        close(ready[0]);
        return pid > 0 ? 1 : rc;
    }
    close(ready[0]);
    setsid();
    b->ready_fd = ready[1];
    b->lines_fd = lines[0];
    b->stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(lines[1], STDERR_FILENO);
    close(lines[1]);
    return chdir("/") < 0 ? -errno : 0; /* the directory that it was started in can be unmounted */
}

void background_ready(struct background *b)
{
    int null_fd;

    if (b->ready_fd < 0)
        return;
    background_relay(b); /* what was said until now is for who called */
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd >= 0) {
        dup2(null_fd, STDIN_FILENO);
        dup2(null_fd, STDOUT_FILENO);
        close(null_fd);
    }
    if (b->stderr_fd >= 0)
        close(b->stderr_fd);
    b->stderr_fd = -1;
    if (write(b->ready_fd, "r", 1) < 0)
        errno = 0; /* who waited is gone: the mount is there all the same */
    close(b->ready_fd);
    b->ready_fd = -1;
}

/* Not syslog(3), which waits for a syslog that does not read. */
static void to_syslog(const char *line)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
    int level = strstr(line, " error ") != NULL ? LOG_ERR : strstr(line, " warn ") != NULL ? LOG_WARNING : LOG_INFO;
    char text[LOG_LINE_BYTES + 64];
    const char *said = strstr(line, "quorumfs: "); /* syslog has a time and a level of its own */
    int n, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return;
    said = said != NULL ? said + strlen("quorumfs: ") : line;
    n = snprintf(text, sizeof(text), "<%d>quorumfs[%d]: %s", LOG_DAEMON | level, (int)getpid(), said);
    if (n > 0)
        sendto(fd, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL,
               (struct sockaddr *)&to, sizeof(to));
    close(fd);
}

static void pass_on(struct background *b)
{
    b->line[b->line_len] = 0;
    if (b->stderr_fd < 0 || strstr(b->line, " info ") != NULL) { /* who mounts wants to hear of what is wrong */
        to_syslog(b->line);
    } else {
        b->line[b->line_len++] = '\n';
        if (write(b->stderr_fd, b->line, b->line_len) < 0)
            errno = 0; /* the caller's stream is gone */
    }
    b->line_len = 0;
}

void background_relay(struct background *b)
{
    char part[4096];
    ssize_t n;

    while (b->lines_fd >= 0 && (n = read(b->lines_fd, part, sizeof(part))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (part[i] == '\n')
                pass_on(b);
            else if (b->line_len < sizeof(b->line) - 1)
                b->line[b->line_len++] = part[i];
        }
    }
}
