/* converse_tls.h - the same as converse.h by TLS: the bytes go in as a client says them that has shaken hands.
 *
 * Process: tests.  Thread: one.  Errors: FUZZ_MUST.  Memory: converse_certs() keeps its contexts for good.
 * Units:   milliseconds. */
#ifndef TESTS_FUZZ_CONVERSE_TLS_H
#define TESTS_FUZZ_CONVERSE_TLS_H

#include "tests/fuzz/converse.h"
#include "tls/tls.h"

/* One certificate for 127.0.0.1, which each end shows and trusts. */
static inline void converse_certs(bool http2, struct tls_context **ret_server, struct tls_context **ret_client)
{
    static const char *const hosts[] = {"127.0.0.1"};
    char dir[100], path[120], cert[140], key[140], text[TLS_TEXT_MAX_BYTES];
    struct tls_options o;

    snprintf(dir, sizeof(dir), "%.70s/fuzz-certs.XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    FUZZ_MUST(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/d", dir);
    FUZZ_MUST(tls_self_signed(path, hosts, 1, cert, key, sizeof(cert), text, sizeof(text)) == 0);
    o = (struct tls_options){.cert_file = cert, .key_file = key, .ca_file = cert, .client_cert_auth = true, .http2 = http2};
    FUZZ_MUST(tls_context_open(&o, ret_server, text, sizeof(text)) == 0);
    FUZZ_MUST(tls_context_open(&o, ret_client, text, sizeof(text)) == 0);
    unlink(cert); /* looked for at each connection, told to nobody: the old ones stay in use */
    unlink(key);
    rmdir(path);
    rmdir(dir);
}

struct converse_tls {
    struct tls_conn *tls;
    struct bytes sealed, plain;
    size_t sent;
};

/* What the server has said goes through TLS; what that owes is sent. True: the connection has ended. */
static inline bool converse_tls_turn(uv_loop_t *loop, int fd, struct converse_tls *c)
{
    uint8_t buf[65536];
    ssize_t n;

    uv_run(loop, UV_RUN_NOWAIT);
    n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN))
        return true;
    if (n > 0)
        tls_conn_feed(c->tls, slice_make(buf, (size_t)n), &c->plain, &c->sealed);
    bytes_reset(&c->plain);
    FUZZ_MUST(bytes_status(&c->sealed) == 0);
    if (c->sent < c->sealed.len) {
        n = send(fd, c->sealed.data + c->sent, c->sealed.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        c->sent += n > 0 ? (size_t)n : 0;
    }
    return false;
}

/* Takes the connected descriptor. Every piece is a record of its own; with spoil one bit of the last record is another. */
static inline void converse_by_tls(uv_loop_t *loop, int fd, struct tls_context *client, struct slice in, size_t pieces,
                                   bool spoil)
{
    struct converse_tls c = {.sent = 0};
    size_t step = in.len / pieces + 1;
    uint64_t until = uv_hrtime() / 1000000 + CONVERSE_BOUND_MS;
    bool ended = false, shut = false;

    FUZZ_MUST(tls_conn_new(client, TLS_CLIENT, "127.0.0.1", &c.tls) == 0);
    FUZZ_MUST(tls_conn_start(c.tls, &c.sealed) == 0);
    while (!ended) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        FUZZ_MUST(uv_hrtime() / 1000000 < until);
        poll(&p, 1, shut ? 1 : 0);
        ended = converse_tls_turn(loop, fd, &c);
        if (!tls_conn_established(c.tls) || c.sent < c.sealed.len || ended || shut)
            continue;
        if (in.len > 0) {
            size_t n = in.len < step ? in.len : step;

            tls_conn_send(c.tls, slice_make(in.data, n), &c.sealed);
            in = slice_make(in.data + n, in.len - n);
            if (in.len == 0 && spoil)
                c.sealed.data[c.sealed.len - 1] ^= 1;
        } else {
            shutdown(fd, SHUT_WR);
            shut = true;
        }
    }
    close(fd);
    tls_conn_free(c.tls);
    bytes_fini(&c.sealed);
    bytes_fini(&c.plain);
}

#endif
