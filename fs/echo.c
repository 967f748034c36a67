#include "fs/echo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"

/* In the child: the pair's end, and the standard descriptors, are all it gets. */
static void become_helper(int fd, const char *mountpoint)
{
    char number[16];
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (fcntl(fd, F_SETFD, 0) < 0)
        _exit(127);
    snprintf(number, sizeof(number), "%d", fd);
    execl("/proc/self/exe", "quorumfs", ECHO_HELPER_ARGUMENT, number, mountpoint, (char *)NULL);
    _exit(127);
}

int echo_start(struct echo *e, const char *mountpoint)
{
    int fds[2], size = ECHO_PACKET_MAX_BYTES;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    pid = fork();
    if (pid == 0)
        become_helper(fds[1], mountpoint);
    close(fds[1]);
    if (pid < 0) {
        int rc = -errno;

        close(fds[0]);
        return rc;
    }
    e->pid = pid;
    e->fd = fds[0];
    e->busy = false;
    return 0;
}

int echo_send(struct echo *e, const struct echo_command *c)
{
    struct bytes b;
    ssize_t n;
    int rc;

    bytes_init(&b);
    bytes_u64(&b, ++e->number);
    bytes_u32(&b, c->verb);
    bytes_u32(&b, c->flags);
    bytes_u32(&b, c->mode);
    bytes_u32(&b, e->device);
    bytes_u64(&b, c->size);
    bytes_u64(&b, c->dir_id);
    bytes_u64(&b, c->dir2_id);
    bytes_u32_slice(&b, c->dir);
    bytes_u32_slice(&b, c->name);
    bytes_u32_slice(&b, c->dir2);
    bytes_u32_slice(&b, c->name2);
    rc = bytes_status(&b);
    if (rc == 0 && b.len > ECHO_PACKET_MAX_BYTES)
        rc = -EMSGSIZE;
    if (rc == 0) {
        n = send(e->fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        rc = n < 0 ? -errno : 0;
    }
    bytes_fini(&b);
    if (rc == 0)
        e->busy = true;
    return rc;
}

int echo_receive(struct echo *e, int *ret_error)
{
    uint8_t answer[12];
    ssize_t n = recv(e->fd, answer, sizeof(answer), MSG_DONTWAIT);

    if (n < 0)
        return errno == EINTR ? -EAGAIN : errno == EAGAIN ? -EAGAIN : -EPIPE;
    if (n == 0)
        return -EPIPE;
    if (n != sizeof(answer) || get_le64(answer) != e->number || !e->busy)
        return -EAGAIN; /* of a command given up; the present one's comes */
    e->busy = false;
    *ret_error = -(int)(get_le32(answer + 8) & 0xfff);
    return 0;
}

void echo_stop(struct echo *e)
{
    if (e->fd >= 0)
        shutdown(e->fd, SHUT_WR);
}

void echo_reap(struct echo *e)
{
    pid_t pid = e->pid;

    e->pid = 0;
    e->busy = false;
    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
    /* It ends by itself at the end of its socket. If it is still in a system call here it is waited for later, by init. */
    if (pid > 0)
        waitpid(pid, NULL, WNOHANG);
}
