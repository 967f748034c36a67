/* sidecar's connections: TLS, plain and both on one port, Unix sockets, clients that have gone without a word. Over real sockets
 * with a server in the same loop. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "sidecar/grpc.h"
#include "sidecar/limits.h"
#include "tests/unit/certs.h"
#include "tests/unit/temp_dir.h"
#include "tls/tls.h"

#define BOUND_MS 20000
#define LARGE_BYTES (3 * 1024 * 1024)

static void page(void *app, const struct http_request *request, struct http_reply *reply)
{
    reply->status = 200;
    if (slice_equal(request->path, slice_from_str("/large")))
        for (size_t i = 0; i < LARGE_BYTES / 8; i++)
            bytes_u64(&reply->body, i * 0x9e3779b97f4a7c15u);
    else
        bytes_append(&reply->body, slice_from_str("a page\n"));
}

struct world {
    uv_loop_t loop;
    struct grpc_server *server;
    struct tls_context *tls, *client_tls;
    struct cert ca;
    char dir[100], path[160];
    int port;
    bool stopped;
};

static const char *in_dir(struct world *w, const char *name)
{
    snprintf(w->path, sizeof(w->path), "%s/%s", w->dir, name);
    return w->path;
}

static void on_stopped(void *app)
{
    ((struct world *)app)->stopped = true;
}

static void make_contexts(struct world *w, bool mutual)
{
    struct cert c = cert_make(&w->ca, (struct cert_spec){.cn = "node", .names = "DNS:localhost"});
    char ca[160], cert[160], key[160], text[TLS_TEXT_MAX_BYTES];
    struct tls_options o = {.cert_file = cert, .key_file = key, .http2 = true};

    strcpy(ca, in_dir(w, "ca.pem"));
    strcpy(cert, in_dir(w, "cert.pem"));
    strcpy(key, in_dir(w, "key.pem"));
    cert_write(&w->ca, ca);
    cert_write(&c, cert);
    cert_write_key(&c, key);
    o.ca_file = mutual ? ca : NULL;
    assert_int_equal(tls_context_open(&o, &w->tls, text, sizeof(text)), 0);
    o.ca_file = ca;
    if (mutual)
        o.cert_file = o.key_file = NULL; /* a client without one */
    assert_int_equal(tls_context_open(&o, &w->client_tls, text, sizeof(text)), 0);
    cert_free(&c);
}

static void open_world(struct world *w, unsigned security, bool mutual, struct grpc_config config)
{
    static const struct grpc_method *const methods[] = {NULL};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memset(w, 0, sizeof(*w));
    temp_dir(w->dir, sizeof(w->dir), "sidecar-tls");
    w->ca = cert_make(NULL, (struct cert_spec){.cn = "authority", .is_ca = true});
    make_contexts(w, mutual);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    config.methods = methods;
    config.page = page;
    config.app = w;
    config.tls = w->tls;
    assert_int_equal(grpc_server_new(&w->loop, &config, &w->server), 0);
    assert_int_equal(grpc_server_listen(w->server, (struct sockaddr *)&at, security, &w->port), 0);
}

static void close_world(struct world *w)
{
    char command[120];

    grpc_server_stop(w->server, on_stopped);
    while (!w->stopped)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    grpc_server_free(w->server);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    tls_context_close(w->tls);
    tls_context_close(w->client_tls);
    cert_free(&w->ca);
    snprintf(command, sizeof(command), "rm -rf '%s'", w->dir);
    assert_int_equal(system(command), 0);
}

/* ---- a client ---- */

struct client {
    struct world *w;
    int fd;
    struct tls_conn *tls; /* NULL: plain */
    struct bytes out, in;
    bool ended;
    int rc; /* of TLS */
};

static void dial_to(struct client *c, struct world *w, const struct sockaddr *to, socklen_t len, bool tls)
{
    memset(c, 0, sizeof(*c));
    c->w = w;
    c->fd = socket(to->sa_family, SOCK_STREAM, 0);
    assert_int_equal(connect(c->fd, to, len), 0);
    if (!tls)
        return;
    assert_int_equal(tls_conn_new(w->client_tls, TLS_CLIENT, "localhost", &c->tls), 0);
    assert_int_equal(tls_conn_start(c->tls, &c->out), 0);
}

static void dial(struct client *c, struct world *w, bool tls)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    dial_to(c, w, (struct sockaddr *)&to, sizeof(to), tls);
}

static void hang_up(struct client *c)
{
    close(c->fd);
    tls_conn_free(c->tls);
    bytes_fini(&c->out);
    bytes_fini(&c->in);
}

/* One turn of both sides; reads at most `most` bytes. */
static void step(struct client *c, size_t most)
{
    static uint8_t buf[65536];
    ssize_t n;

    uv_run(&c->w->loop, UV_RUN_NOWAIT);
    if (c->out.len > 0) {
        n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            memmove(c->out.data, c->out.data + n, c->out.len - (size_t)n);
            c->out.len -= (size_t)n;
        }
    }
    n = recv(c->fd, buf, most < sizeof(buf) ? most : sizeof(buf), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        c->ended = true;
    if (n > 0 && c->tls == NULL)
        bytes_raw(&c->in, buf, (size_t)n);
    else if (n > 0 && c->rc == 0)
        c->rc = tls_conn_feed(c->tls, slice_make(buf, (size_t)n), &c->in, &c->out);
}

#define UNTIL(c, most, condition)                                                                     \
    do {                                                                                              \
        uint64_t bound = uv_hrtime() / 1000000 + BOUND_MS;                                            \
        while (!(condition)) {                                                                        \
            if (uv_hrtime() / 1000000 > bound)                                                        \
                fail_msg("line %d: %s: not within %d ms", __LINE__, #condition, BOUND_MS);            \
            step(c, most);                                                                            \
        }                                                                                             \
    } while (0)

static bool has(const struct bytes *b, const char *text)
{
    return b->len > 0 && memmem(b->data, b->len, text, strlen(text)) != NULL;
}

static void say(struct client *c, const char *text)
{
    if (c->tls == NULL) {
        bytes_append(&c->out, slice_from_str(text));
        return;
    }
    UNTIL(c, 65536, c->rc < 0 || tls_conn_established(c->tls));
    if (c->rc == 0)
        assert_int_equal(tls_conn_send(c->tls, slice_from_str(text), &c->out), 0);
}

#define GET "GET /health HTTP/1.1\r\nHost: h\r\n\r\n"

/* ---- tests ---- */

static void pages_come_by_tls_and_large_ones_to_slow_readers(void **state)
{
    struct world w;
    struct client c;

    open_world(&w, GRPC_TLS, false, (struct grpc_config){0});
    dial(&c, &w, true);
    say(&c, GET);
    UNTIL(&c, 65536, has(&c.in, "a page\n"));
    assert_true(tls_conn_http2(c.tls));
    c.in.len = 0;
    say(&c, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    UNTIL(&c, 1111, c.in.len > LARGE_BYTES);
    for (size_t i = 0; i < LARGE_BYTES / 8; i++)
        assert_true(get_le64(c.in.data + c.in.len - LARGE_BYTES + 8 * i) == i * 0x9e3779b97f4a7c15u);
    assert_int_equal(grpc_server_counters(w.server)->conns_tls, 1);
    grpc_server_stop(w.server, on_stopped);
    UNTIL(&c, 65536, c.ended);
    assert_int_equal(c.rc, -ECONNRESET); /* it has said good-bye */
    hang_up(&c);
    close_world(&w);
}

static void an_https_port_is_not_served_plainly(void **state)
{
    struct world w;
    struct client c;

    open_world(&w, GRPC_TLS, false, (struct grpc_config){0});
    dial(&c, &w, false);
    say(&c, GET);
    UNTIL(&c, 65536, c.ended);
    assert_true(has(&c.in, "HTTP/1.0 400") && has(&c.in, "HTTP request to an HTTPS server"));
    assert_false(has(&c.in, "a page"));
    hang_up(&c);
    dial(&c, &w, false);
    say(&c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    UNTIL(&c, 65536, c.ended);
    assert_int_equal(c.in.len, 0);
    hang_up(&c);
    assert_int_equal(grpc_server_counters(w.server)->tls_failed, 2);
    close_world(&w);
}

static void one_port_serves_both_if_it_should(void **state)
{
    struct world w;
    struct client c;

    open_world(&w, GRPC_PLAIN | GRPC_TLS, false, (struct grpc_config){0});
    for (int tls = 0; tls < 2; tls++) {
        dial(&c, &w, tls);
        say(&c, GET);
        UNTIL(&c, 65536, has(&c.in, "a page\n"));
        hang_up(&c);
    }
    close_world(&w);
    open_world(&w, GRPC_PLAIN, false, (struct grpc_config){0});
    dial(&c, &w, true);
    UNTIL(&c, 65536, c.ended || c.rc < 0);
    hang_up(&c);
    assert_int_equal(grpc_server_counters(w.server)->conns_tls, 0);
    close_world(&w);
}

static void clients_without_the_certificate_that_is_wanted_get_nothing(void **state)
{
    struct world w;
    struct client c;

    open_world(&w, GRPC_TLS, true, (struct grpc_config){0});
    dial(&c, &w, true);
    say(&c, GET);
    UNTIL(&c, 65536, c.ended);
    assert_int_equal(c.in.len, 0);
    assert_int_equal(c.rc, -EPROTO);
    assert_non_null(strstr(tls_conn_why(c.tls), "certificate required"));
    assert_int_equal(grpc_server_counters(w.server)->tls_failed, 1);
    hang_up(&c);
    close_world(&w);
}

static struct sockaddr_un unix_address(struct world *w, const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    assert_true((size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", w->dir, name) < sizeof(a.sun_path));
    return a;
}

static void unix_sockets_are_served_and_left_ones_replaced(void **state)
{
    struct world w;
    struct client c;
    struct sockaddr_un plain, sealed, taken;
    struct stat st;
    int fd;

    open_world(&w, GRPC_PLAIN, false, (struct grpc_config){0});
    plain = unix_address(&w, "plain");
    sealed = unix_address(&w, "sealed");
    taken = unix_address(&w, "cert.pem");
    fd = socket(AF_UNIX, SOCK_STREAM, 0); /* one that a killed process has left */
    assert_int_equal(bind(fd, (struct sockaddr *)&plain, sizeof(plain)), 0);
    close(fd);
    assert_int_equal(grpc_server_listen(w.server, (struct sockaddr *)&plain, GRPC_PLAIN, NULL), 0);
    assert_int_equal(grpc_server_listen(w.server, (struct sockaddr *)&sealed, GRPC_TLS, NULL), 0);
    assert_int_equal(grpc_server_listen(w.server, (struct sockaddr *)&plain, GRPC_PLAIN, NULL), -EADDRINUSE);
    assert_int_equal(grpc_server_listen(w.server, (struct sockaddr *)&taken, GRPC_PLAIN, NULL), -EADDRINUSE);
    assert_int_equal(stat(taken.sun_path, &st), 0); /* a file is not taken away */
    assert_int_equal(stat(plain.sun_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    for (int tls = 0; tls < 2; tls++) {
        dial_to(&c, &w, (struct sockaddr *)(tls ? &sealed : &plain), sizeof(plain), tls);
        say(&c, GET);
        UNTIL(&c, 65536, has(&c.in, "a page\n"));
        hang_up(&c);
    }
    grpc_server_stop(w.server, on_stopped);
    while (!w.stopped)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(stat(plain.sun_path, &st), -1);
    close_world(&w);
}

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* A client whose machine is gone answers nothing, not even a ping; one that answers may be silent for ever. */
static void silent_clients_are_pinged_and_dead_ones_closed(void **state)
{
    static const uint8_t settings[9] = {0, 0, 0, 4}, ping_ack[17] = {0, 0, 8, 6, 1, 0, 0, 0, 0, 'q', 'u', 'o', 'r', 'u', 'm', 'f', 's'};
    static const uint8_t ping[9] = {0, 0, 8, 6, 0, 0, 0, 0, 0};
    struct world w;
    struct client dead, alive;
    size_t pings = 0;

    open_world(&w, GRPC_PLAIN, false, (struct grpc_config){.keepalive_interval_ms = 1000, .keepalive_timeout_ms = 1500});
    dial(&dead, &w, false);
    dial(&alive, &w, false);
    say(&dead, PREFACE);
    say(&alive, PREFACE);
    bytes_raw(&dead.out, settings, sizeof(settings));
    bytes_raw(&alive.out, settings, sizeof(settings));
    while (!dead.ended) {
        uint8_t *at = alive.in.len > 0 ? memmem(alive.in.data, alive.in.len, ping, sizeof(ping)) : NULL;

        if (at != NULL) {
            at[4] = 1; /* not again */
            bytes_raw(&alive.out, ping_ack, sizeof(ping_ack));
            pings++;
        }
        step(&dead, 65536);
        step(&alive, 65536);
    }
    assert_non_null(memmem(dead.in.data, dead.in.len, ping, sizeof(ping)));
    assert_true(pings > 0 && !alive.ended);
    assert_int_equal(grpc_server_counters(w.server)->conns_silent, 1);
    hang_up(&dead);
    hang_up(&alive);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_by_tls_and_large_ones_to_slow_readers),
        cmocka_unit_test(an_https_port_is_not_served_plainly),
        cmocka_unit_test(one_port_serves_both_if_it_should),
        cmocka_unit_test(clients_without_the_certificate_that_is_wanted_get_nothing),
        cmocka_unit_test(unix_sockets_are_served_and_left_ones_replaced),
        cmocka_unit_test(silent_clients_are_pinged_and_dead_ones_closed),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
