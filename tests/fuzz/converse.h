/* converse.h - one connection over 127.0.0.1 to a server in the same process and loop: sends bytes in pieces, ends its side, and
 * waits, with a bound, until the server has ended the connection.
 *
 * Process: tests.  Thread: one.  Errors: FUZZ_MUST.  Memory: none kept.
 * Units:   milliseconds. */
#ifndef TESTS_FUZZ_CONVERSE_H
#define TESTS_FUZZ_CONVERSE_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/slice.h"
#include "tests/fuzz/fuzz.h"

#define CONVERSE_BOUND_MS 5000

static inline int converse_dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int rc = connect(fd, (struct sockaddr *)&at, sizeof(at));

    FUZZ_MUST(fd >= 0 && (rc == 0 || errno == EINPROGRESS));
    return fd;
}

static inline bool converse_turn(uv_loop_t *loop, int fd)
{
    uint8_t buf[65536];
    ssize_t n;

    uv_run(loop, UV_RUN_NOWAIT);
    n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN);
}

/* Takes the connected descriptor. */
static inline void converse(uv_loop_t *loop, int fd, struct slice in, size_t pieces)
{
    size_t step = in.len / pieces + 1, at = 0;
    uint64_t until = uv_hrtime() / 1000000 + CONVERSE_BOUND_MS;
    bool ended = false, shut = false;

    while (!ended) {
        struct pollfd p = {.fd = fd, .events = shut ? POLLIN : POLLIN | POLLOUT};

        FUZZ_MUST(uv_hrtime() / 1000000 < until);
        poll(&p, 1, shut ? 1 : 0);
        if (!shut && (p.revents & POLLOUT)) {
            size_t n = in.len - at < step ? in.len - at : step;
            ssize_t sent = n > 0 ? send(fd, in.data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

            if (sent > 0)
                at += (size_t)sent;
            if (at == in.len || (sent < 0 && errno != EAGAIN)) {
                shutdown(fd, SHUT_WR);
                shut = true;
            }
        }
        ended = converse_turn(loop, fd);
    }
    close(fd);
}

#endif
