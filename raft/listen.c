#include "raft/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static int bind_one(const struct addrinfo *ai, int *ret_fd)
{
    int on = 1, rc, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    /* ANY of IPv6 beside ANY of IPv4: each its own. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* -EAFNOSUPPORT and -EADDRNOTAVAIL: the name has an address that this machine lacks, often ::1. */
static bool is_passable(int rc)
{
    return rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL;
}

static int open_url(const struct url *u, int *fds, size_t *count, char *text, size_t size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char address[URL_TEXT_MAX_BYTES], port[8];
    size_t before = *count;
    int rc;

    url_format_address(u, address, sizeof(address));
    snprintf(port, sizeof(port), "%u", (unsigned)u->port);
    rc = getaddrinfo(u->host, port, &hints, &found);
    if (rc != 0) {
        snprintf(text, size, "cannot listen on %s: %s", address, gai_strerror(rc));
        return -EADDRNOTAVAIL;
    }
    rc = 0;
    for (const struct addrinfo *ai = found; ai != NULL && *count < LISTEN_MAX; ai = ai->ai_next) {
        int one = bind_one(ai, &fds[*count]);

        if (one == 0)
            (*count)++;
        else if (rc == 0 || is_passable(rc))
            rc = one;
    }
    freeaddrinfo(found);
    if (rc < 0 && is_passable(rc) && *count > before)
        rc = 0;
    if (rc < 0)
        snprintf(text, size, "cannot listen on %s: %s", address, strerror(-rc));
    return rc;
}

int listen_open(const struct url *urls, size_t count, int *ret_fds, size_t *ret_count, char *ret_text,
                size_t text_size)
{
    size_t n = 0;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++)
        rc = open_url(&urls[i], ret_fds, &n, ret_text, text_size);
    if (rc < 0) {
        while (n != 0)
            close(ret_fds[--n]);
        return rc;
    }
    *ret_count = n;
    return 0;
}

int listen_probe(const struct url *urls, size_t count, char *ret_text, size_t text_size)
{
    int fds[LISTEN_MAX], rc;

    for (size_t i = 0; i < count; i++) {
        size_t n;

        if (urls[i].scheme == URL_UNIX || urls[i].scheme == URL_UNIXS)
            continue;
        rc = listen_open(&urls[i], 1, fds, &n, ret_text, text_size);
        if (rc < 0)
            return rc;
        while (n != 0)
            close(fds[--n]);
    }
    return 0;
}
