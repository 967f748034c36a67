/* raft/transport: real sockets on loopback. Frames arrive whole and in order, strangers are refused, what breaks mends; all of it
 * once more by mutual TLS. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "raft/peer_frame.h"
#include "raft/transport.h"
#include "tests/unit/certs.h"
#include "tests/unit/temp_dir.h"
#include "tls/tls.h"

#define BOUND_MS 10000
#define CLUSTER 0xc1

/* One end. */
struct end {
    struct transport *t;
    struct network network;
    struct url listen;
    struct tls_context *tls;
    char url[64];
    uint64_t id;
    int connected, disconnected, received;
    uint64_t from;
    uint8_t type;
    size_t bytes;
    uint32_t sum; /* of all payload bytes */
    int next;     /* the number expected in the next frame of type 20; -1: they came out of order */
    int answer;   /* of receive */
    bool closed;
};

struct world {
    uv_loop_t loop;
    uv_timer_t bound;
    bool late;
    struct end a, b;
    char dir[100]; /* of certificates; empty: plain */
    struct cert ca;
};

static int on_receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    struct end *e = ctx;

    e->received++;
    e->from = from;
    e->type = type;
    e->bytes += payload.len;
    for (size_t i = 0; i < payload.len; i += 997)
        e->sum += payload.data[i];
    if (type == 20 && payload.len >= 4)
        e->next = e->next >= 0 && get_le32(payload.data) == (uint32_t)e->next ? e->next + 1 : -1;
    return e->answer;
}

static void on_connected(void *ctx, uint64_t peer, uint32_t program)
{
    ((struct end *)ctx)->connected++;
}

static void on_disconnected(void *ctx, uint64_t peer)
{
    ((struct end *)ctx)->disconnected++;
}

static void on_bound(uv_timer_t *t)
{
    ((struct world *)t->data)->late = true;
}

/* Turns the loop until the condition holds, with a bound. */
#define WAIT(w, condition)                                               \
    do {                                                                 \
        (w)->late = false;                                               \
        uv_timer_start(&(w)->bound, on_bound, BOUND_MS, 0);              \
        while (!(condition) && !(w)->late)                               \
            uv_run(&(w)->loop, UV_RUN_ONCE);                             \
        uv_timer_stop(&(w)->bound);                                      \
        if (!(condition))                                                \
            fail_msg("line %d: %s: not within %d ms", __LINE__, #condition, BOUND_MS); \
    } while (0)

static void on_tick(uv_timer_t *t)
{
    ((struct world *)t->data)->late = true;
}

/* Turns the loop for a while in which nothing must happen. */
static void turn(struct world *w, unsigned ms)
{
    w->late = false;
    /* again and again: one that expires before the loop polls would leave it polling for ever */
    uv_timer_start(&w->bound, on_tick, ms, ms);
    while (!w->late)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_timer_stop(&w->bound);
}

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static int open_end(struct world *w, struct end *e, uint64_t cluster)
{
    struct transport_options o = {.cluster_id = cluster, .id = e->id, .listen = &e->listen, .n_listen = 1, .urls = e->url,
                                  .election_ms = 200, .tls = e->tls, .ctx = e, .receive = on_receive, .connected = on_connected,
                                  .disconnected = on_disconnected};
    char text[256] = "";
    int rc = transport_open(&w->loop, &o, &e->t, text, sizeof(text));

    if (rc == 0)
        transport_table(e->t, &e->network);
    else
        assert_non_null(strstr(text, strstr(e->url, "://") + 3));
    return rc;
}

static void name_end(struct end *e, uint64_t id, const char *scheme)
{
    const char *why;

    e->id = id;
    snprintf(e->url, sizeof(e->url), "%s://127.0.0.1:%d", scheme, free_port());
    assert_int_equal(url_parse(slice_from_str(e->url), &e->listen, &why), 0);
}

/* A certificate for the address, of the authority; trusts that one. */
static void certify(struct world *w, struct end *e, const struct cert *ca, const char *names)
{
    char ca_file[128], cert_file[128], key_file[128], text[TLS_TEXT_MAX_BYTES] = "";
    struct tls_options o = {.cert_file = cert_file, .key_file = key_file, .ca_file = ca_file, .client_cert_auth = true};
    struct cert c = cert_make(ca, (struct cert_spec){.cn = "member", .names = names});

    snprintf(ca_file, sizeof(ca_file), "%s/ca%d.pem", w->dir, (int)e->id);
    snprintf(cert_file, sizeof(cert_file), "%s/cert%d.pem", w->dir, (int)e->id);
    snprintf(key_file, sizeof(key_file), "%s/key%d.pem", w->dir, (int)e->id);
    cert_write(ca, ca_file);
    cert_write(&c, cert_file);
    cert_write_key(&c, key_file);
    cert_free(&c);
    tls_context_close(e->tls);
    if (tls_context_open(&o, &e->tls, text, sizeof(text)) < 0)
        fail_msg("%s", text);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->bound);
    w->bound.data = w;
    name_end(&w->a, 1, "http");
    name_end(&w->b, 2, "http");
    *state = w;
    return 0;
}

static int set_up_tls(void **state)
{
    struct world *w;

    set_up(state);
    w = *state;
    temp_dir(w->dir, sizeof(w->dir), "transport");
    w->ca = cert_make(NULL, (struct cert_spec){.cn = "authority", .is_ca = true});
    name_end(&w->a, 1, "https");
    name_end(&w->b, 2, "https");
    certify(w, &w->a, &w->ca, "IP:127.0.0.1");
    certify(w, &w->b, &w->ca, "IP:127.0.0.1");
    return 0;
}

static void on_end_closed(void *ctx)
{
    ((struct end *)ctx)->closed = true;
}

static void close_end(struct world *w, struct end *e)
{
    if (e->t == NULL)
        return;
    e->closed = false;
    transport_close(e->t, on_end_closed, e);
    e->t = NULL;
    WAIT(w, e->closed);
}

static int tear_down(void **state)
{
    struct world *w = *state;

    close_end(w, &w->a);
    close_end(w, &w->b);
    uv_close((uv_handle_t *)&w->bound, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0); /* nothing is left open */
    tls_context_close(w->a.tls);
    tls_context_close(w->b.tls);
    cert_free(&w->ca);
    if (w->dir[0] != '\0') {
        char command[120];

        snprintf(command, sizeof(command), "rm -rf '%s'", w->dir);
        assert_int_equal(system(command), 0);
    }
    free(w);
    return 0;
}

static void know(struct end *e, const struct end *peer)
{
    const char *urls[] = {e->url, peer->url};
    uint64_t ids[] = {e->id, peer->id};

    e->network.set_peers(e->network.ctx, ids, urls, 2); /* itself among them: left out */
}

static void send_text(struct end *e, uint64_t to, uint8_t type, const char *text)
{
    e->network.send(e->network.ctx, to, type, slice_from_str(text));
}

static void meet(struct world *w)
{
    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    know(&w->a, &w->b);
    know(&w->b, &w->a);
    WAIT(w, w->a.connected == 1 && w->b.connected == 1);
}

static void frames_go_both_ways(void **state)
{
    struct world *w = *state;

    meet(w);
    send_text(&w->a, 2, 18, "hello b");
    send_text(&w->b, 1, 19, "hello");
    WAIT(w, w->a.received == 1 && w->b.received == 1);
    assert_int_equal(w->a.from, 2);
    assert_int_equal(w->a.type, 19);
    assert_int_equal(w->a.bytes, 5);
    assert_int_equal(w->b.from, 1);
    assert_int_equal(w->b.bytes, 7);
    assert_int_equal(w->a.network.protocol(w->a.network.ctx, 2), PEER_PROTOCOL);
    assert_int_equal(w->a.network.protocol(w->a.network.ctx, 3), 0);
    send_text(&w->a, 3, 18, "to nobody");
    assert_int_equal(transport_counters(w->a.t).frames_dropped, 1);
    assert_int_equal(transport_counters(w->a.t).frames_sent, 1);
}

static void many_frames_stay_in_order(void **state)
{
    struct world *w = *state;
    uint8_t payload[5000];

    meet(w);
    memset(payload, 7, sizeof(payload));
    for (uint32_t i = 0; i < 5000; i++) {
        put_le32(payload, i);
        w->a.network.send(w->a.network.ctx, 2, 20, slice_make(payload, 4 + i % 4996));
        if (i % 500 == 0)
            uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    WAIT(w, w->b.received == 5000);
    assert_int_equal(w->b.next, 5000);
}

static void the_largest_frame_passes(void **state)
{
    struct world *w = *state;
    uint8_t *payload = malloc(PEER_FRAME_MAX_BYTES);
    uint32_t sum = 0;

    assert_non_null(payload);
    for (size_t i = 0; i < PEER_FRAME_MAX_BYTES; i++)
        payload[i] = (uint8_t)(i * 31 + i / 257);
    for (size_t i = 0; i < PEER_FRAME_MAX_BYTES; i += 997)
        sum += payload[i];
    meet(w);
    w->a.network.send(w->a.network.ctx, 2, 18, slice_make(payload, PEER_FRAME_MAX_BYTES));
    w->a.network.send(w->a.network.ctx, 2, 19, slice_make(payload, 0));
    WAIT(w, w->b.received == 2);
    assert_int_equal(w->b.bytes, PEER_FRAME_MAX_BYTES);
    assert_true(w->b.sum == sum);
    free(payload);
}

static void a_full_queue_drops_frames_and_recovers(void **state)
{
    struct world *w = *state;
    const size_t len = 1 << 20;
    uint8_t *payload = calloc(1, len);
    uint64_t sent;

    assert_non_null(payload);
    meet(w);
    for (size_t i = 0; i < TRANSPORT_QUEUE_MAX_BYTES / len + 10; i++) /* without a turn of the loop */
        w->a.network.send(w->a.network.ctx, 2, 18, slice_make(payload, len));
    sent = transport_counters(w->a.t).frames_sent;
    assert_true(w->a.network.unsent(w->a.network.ctx, 2) >= sent * len);
    assert_int_equal(w->a.network.unsent(w->a.network.ctx, 3), 0);
    assert_true(sent < TRANSPORT_QUEUE_MAX_BYTES / len + 1);
    assert_true(transport_counters(w->a.t).frames_dropped >= 9);
    WAIT(w, (uint64_t)w->b.received == sent);
    WAIT(w, w->a.network.unsent(w->a.network.ctx, 2) == 0);
    send_text(&w->a, 2, 18, "again");
    WAIT(w, (uint64_t)w->b.received == sent + 1);
    free(payload);
}

static void a_peer_that_comes_back_is_found_again(void **state)
{
    struct world *w = *state;

    meet(w);
    for (int i = 1; i <= 3; i++) {
        close_end(w, &w->b);
        WAIT(w, w->a.disconnected == i);
        send_text(&w->a, 2, 18, "lost");
        assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
        know(&w->b, &w->a);
        WAIT(w, w->a.connected == i + 1 && w->b.connected == i + 1);
        send_text(&w->a, 2, 18, "found");
        WAIT(w, w->b.received == i);
    }
}

static void another_cluster_is_refused(void **state)
{
    struct world *w = *state;

    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER + 1), 0);
    know(&w->a, &w->b);
    know(&w->b, &w->a);
    WAIT(w, transport_counters(w->a.t).refused >= 2 && transport_counters(w->b.t).refused >= 2);
    assert_int_equal(w->a.connected + w->b.connected, 0);
}

static void another_member_is_refused(void **state)
{
    struct world *w = *state;
    const char *urls[1];
    uint64_t id = 99; /* is not who listens there */

    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    urls[0] = w->b.url;
    w->a.network.set_peers(w->a.network.ctx, &id, urls, 1);
    WAIT(w, transport_counters(w->b.t).refused >= 2);
    assert_int_equal(w->a.connected, 0);
}

static void a_lying_frame_ends_the_connection(void **state)
{
    struct world *w = *state;

    meet(w);
    w->b.answer = -EBADMSG;
    send_text(&w->a, 2, 18, "nonsense");
    WAIT(w, w->a.disconnected == 1);
    w->b.answer = 0;
    WAIT(w, w->a.connected == 2);
    assert_int_equal(w->b.disconnected, 0); /* its own way is another connection */
}

static void peers_come_and_go(void **state)
{
    struct world *w = *state;

    meet(w);
    w->a.network.set_peers(w->a.network.ctx, NULL, NULL, 0);
    send_text(&w->a, 2, 18, "nobody knows him");
    assert_int_equal(transport_counters(w->a.t).frames_dropped, 1);
    know(&w->a, &w->b);
    WAIT(w, w->a.connected == 2);
    know(&w->a, &w->b); /* nothing new: the connection stays */
    send_text(&w->a, 2, 18, "x");
    WAIT(w, w->b.received == 1);
    assert_int_equal(w->a.connected, 2);
}

static int connect_raw(const struct end *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(e->listen.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* 0: the other side has closed; -1: it has not said anything yet */
static int poll_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

    return n >= 0 ? (int)n : errno == EAGAIN ? -1 : 0;
}

static void strangers_are_shown_the_door(void **state)
{
    static const char *const greetings[] = {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\x10\0\0\0\0\0\0\0\x12\0\0\0xxxxxxxxxxxxxxxx"};
    static const size_t lens[] = {27, 28};
    struct world *w = *state;

    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    for (size_t i = 0; i < 2; i++) {
        int fd = connect_raw(&w->a), rc;

        assert_int_equal(send(fd, greetings[i], lens[i], MSG_NOSIGNAL), lens[i]);
        WAIT(w, (rc = poll_end(fd)) >= 0);
        assert_int_equal(rc, 0);
        close(fd);
    }
    assert_int_equal(w->a.received, 0);
}

static void a_silent_peer_is_given_up(void **state)
{
    struct world *w = *state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(w->b.listen.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, conns[2] = {-1, -1};
    struct peer_hello_reply reply = {.version = PEER_PROTOCOL_MIN, .cluster_id = CLUSTER, .member_id = 2};
    struct bytes payload, frame;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    know(&w->a, &w->b);
    for (int i = 0; i < 2; i++) /* the kernel accepts, nobody answers the hello: dialled again */
        WAIT(w, conns[i] >= 0 || (conns[i] = accept(fd, NULL, NULL)) >= 0);
    assert_int_equal(w->a.connected, 0);
    bytes_init(&payload);
    bytes_init(&frame);
    peer_hello_reply_encode(&reply, &payload);
    peer_frame_encode(&frame, PEER_FRAME_HELLO_REPLY, bytes_slice(&payload));
    assert_int_equal(send(conns[1], frame.data, frame.len, MSG_NOSIGNAL), frame.len);
    assert_int_equal(w->a.network.protocol(w->a.network.ctx, 2), 0);
    WAIT(w, w->a.connected == 1);
    assert_int_equal(w->a.network.protocol(w->a.network.ctx, 2), PEER_PROTOCOL_MIN); /* as it has answered */
    WAIT(w, w->a.disconnected == 1); /* no pong ever comes */
    assert_int_equal(w->a.network.protocol(w->a.network.ctx, 2), 0);
    bytes_fini(&payload);
    bytes_fini(&frame);
    close(conns[0]);
    close(conns[1]);
    close(fd);
}

static void a_busy_port_is_named(void **state)
{
    struct world *w = *state;
    struct end second = w->a;

    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &second, CLUSTER), -EADDRINUSE);
    turn(w, 1);
}

/* ---- TLS alone ---- */

static void a_plain_dialler_gets_no_further(void **state)
{
    struct world *w = *state;
    const char *urls[1];
    char plain[64];
    uint64_t id = 1;

    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    snprintf(plain, sizeof(plain), "http://127.0.0.1:%d", w->a.listen.port);
    urls[0] = plain;
    w->b.network.set_peers(w->b.network.ctx, &id, urls, 1);
    WAIT(w, transport_counters(w->a.t).tls_failed >= 3);
    assert_int_equal(w->b.connected + w->a.received, 0);
    know(&w->b, &w->a); /* the right way there */
    WAIT(w, w->b.connected == 1);
}

static void a_peer_of_another_authority_is_refused(void **state)
{
    struct world *w = *state;
    struct cert other = cert_make(NULL, (struct cert_spec){.cn = "another", .is_ca = true});

    certify(w, &w->b, &other, "IP:127.0.0.1");
    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    know(&w->a, &w->b);
    know(&w->b, &w->a);
    WAIT(w, transport_counters(w->a.t).tls_failed >= 2 && transport_counters(w->b.t).tls_failed >= 2);
    assert_int_equal(w->a.connected + w->b.connected, 0);
    certify(w, &w->b, &w->ca, "IP:127.0.0.1"); /* its context is another: the files of the old one are not looked at */
    cert_free(&other);
}

/* The authority vouches for it, but as another member. */
static void a_member_cannot_be_another_one(void **state)
{
    struct world *w = *state;

    certify(w, &w->b, &w->ca, "IP:127.0.0.2,DNS:b");
    assert_int_equal(open_end(w, &w->a, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    know(&w->b, &w->a); /* a does not know b: then what it says of itself must fit */
    WAIT(w, transport_counters(w->a.t).refused >= 2);
    know(&w->a, &w->b);
    WAIT(w, transport_counters(w->a.t).refused >= 4);
    assert_int_equal(w->a.connected + w->b.connected, 0);
}

/* New connections take the new files; those that stand go on. */
static void changed_files_count_for_new_connections(void **state)
{
    struct world *w = *state;
    struct tls_context *a = w->a.tls, *b = w->b.tls;
    struct cert other = cert_make(NULL, (struct cert_spec){.cn = "another", .is_ca = true});

    meet(w);
    w->a.tls = w->b.tls = NULL;
    certify(w, &w->a, &other, "IP:127.0.0.1"); /* opens contexts of its own: only the files matter */
    certify(w, &w->b, &other, "IP:127.0.0.1");
    tls_context_close(w->a.tls);
    tls_context_close(w->b.tls);
    w->a.tls = a;
    w->b.tls = b;
    send_text(&w->a, 2, 18, "still here");
    WAIT(w, w->b.received == 1);
    w->b.answer = -EBADMSG;
    send_text(&w->a, 2, 18, "nonsense");
    WAIT(w, w->a.disconnected == 1);
    w->b.answer = 0;
    WAIT(w, w->a.connected == 2); /* with the certificates of the other authority on both sides */
    cert_free(&other);
}

static void https_needs_a_certificate(void **state)
{
    struct world *w = *state;
    struct end plain = w->a;

    plain.tls = NULL;
    assert_int_equal(open_end(w, &plain, CLUSTER), -EINVAL);
    turn(w, 1);
    name_end(&plain, 3, "http");
    assert_int_equal(open_end(w, &plain, CLUSTER), 0);
    assert_int_equal(open_end(w, &w->b, CLUSTER), 0);
    know(&plain, &w->b); /* it only says so */
    turn(w, 100);
    assert_int_equal(plain.connected, 0);
    close_end(w, &plain);
}

#define BOTH(test)                                                    \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down),         \
        {"tls_" #test, test, set_up_tls, tear_down, NULL}
#define TLS(test) cmocka_unit_test_setup_teardown(test, set_up_tls, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(frames_go_both_ways),
        BOTH(many_frames_stay_in_order),
        BOTH(the_largest_frame_passes),
        BOTH(a_full_queue_drops_frames_and_recovers),
        BOTH(a_peer_that_comes_back_is_found_again),
        BOTH(another_cluster_is_refused),
        BOTH(another_member_is_refused),
        BOTH(a_lying_frame_ends_the_connection),
        BOTH(peers_come_and_go),
        BOTH(strangers_are_shown_the_door),
        cmocka_unit_test_setup_teardown(a_silent_peer_is_given_up, set_up, tear_down),
        BOTH(a_busy_port_is_named),
        TLS(a_plain_dialler_gets_no_further),
        TLS(a_peer_of_another_authority_is_refused),
        TLS(a_member_cannot_be_another_one),
        TLS(changed_files_count_for_new_connections),
        TLS(https_needs_a_certificate),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
