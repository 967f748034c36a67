/* One connection in the clear, HTTP/2 by nghttp2: bytes in, bytes out. What is asked on it is the callers' business. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/load.h"

#define WINDOW_BYTES (64 * 1024 * 1024)
#define OUT_BYTES (256 * 1024)

int load_fail(const char *what, const char *why)
{
    fprintf(stderr, "quorumfs-load: %s: %s\n", what, why);
    return -1;
}

static int connect_to(const struct load_endpoint *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *ai;
    int rc = getaddrinfo(e->host, e->port, &hints, &list), fd = -1, one = 1;

    if (rc != 0)
        return load_fail(e->host, gai_strerror(rc));
    for (ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
            rc = errno;
            close(fd);
            fd = -1;
            errno = rc;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return load_fail(e->host, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

int load_line_open(struct load_line *l, const struct load_endpoint *e, int epoll_fd,
                   struct nghttp2_session_callbacks *callbacks, void *owner)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };

    snprintf(l->authority, sizeof(l->authority), "%.255s:%.15s", e->host, e->port);
    l->epoll_fd = epoll_fd;
    l->fd = connect_to(e);
    if (l->fd < 0)
        return -1;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, l->fd, &ev) < 0)
        return load_fail("epoll", strerror(errno));
    if (nghttp2_session_client_new(&l->session, callbacks, owner) < 0 ||
        nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, settings, 2) < 0 ||
        nghttp2_session_set_local_window_size(l->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES) < 0)
        return load_fail("nghttp2", "no memory");
    return 0;
}

void load_line_close(struct load_line *l)
{
    nghttp2_session_del(l->session);
    if (l->fd >= 0)
        close(l->fd);
    bytes_fini(&l->out);
}

static int want_write(struct load_line *l, bool want)
{
    struct epoll_event ev = {.events = want ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = l};

    if (want == l->wants_write)
        return 0;
    l->wants_write = want;
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, l->fd, &ev) < 0 ? load_fail("epoll", strerror(errno)) : 0;
}

int load_line_flush(struct load_line *l)
{
    for (;;) {
        const uint8_t *data;
        ssize_t n = 0;

        while (l->out.len < OUT_BYTES && (n = nghttp2_session_mem_send(l->session, &data)) > 0)
            bytes_raw(&l->out, data, (size_t)n);
        if (n < 0)
            return load_fail("nghttp2", nghttp2_strerror((int)n));
        if (bytes_status(&l->out) < 0)
            return load_fail("send", "no memory");
        if (l->out.len == 0)
            return want_write(l, false);
        n = send(l->fd, l->out.data + l->out_at, l->out.len - l->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return want_write(l, true);
        if (n < 0)
            return load_fail("send", strerror(errno));
        l->out_at += (size_t)n;
        if (l->out_at == l->out.len) {
            bytes_reset(&l->out);
            l->out_at = 0;
        }
    }
}

int load_line_receive(struct load_line *l)
{
    uint8_t buf[65536];
    ssize_t n = recv(l->fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n == 0)
        return load_fail("recv", "the server closed a connection");
    if (n < 0)
        return load_fail("recv", strerror(errno));
    n = nghttp2_session_mem_recv(l->session, buf, (size_t)n);
    return n < 0 ? load_fail("nghttp2", nghttp2_strerror((int)n)) : 0;
}

int load_line_event(struct load_line *l, unsigned events)
{
    if ((events & ~(unsigned)EPOLLOUT) != 0 && load_line_receive(l) < 0)
        return -1;
    return load_line_flush(l);
}
