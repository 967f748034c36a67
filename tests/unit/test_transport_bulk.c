/* raft/transport_bulk: files between members over real sockets: whole, from where they were, and no more of them at a time than
 * there may be. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "raft/transport_impl.h"
#include "tests/unit/temp_dir.h"

#define BOUND_MS 10000
#define CLUSTER 0xc1
#define INDEX 77
#define CRC 0xfeed
#define FILE_BYTES (3u * 1024 * 1024 + 4711)

struct end {
    struct transport *t;
    struct network network;
    struct url listen;
    char url[64], path[160]; /* of its file */
    uint64_t id, rate;
    unsigned fetched, opened;
    int error;
    bool closed;
};

struct world {
    uv_loop_t loop;
    uv_timer_t bound;
    bool late;
    char dir[100];
    struct end a, b; /* a has the file */
};

static void on_bound(uv_timer_t *t)
{
    ((struct world *)t->data)->late = true;
}

/* Turns the loop until the condition holds, with a bound; the timer wakes it for what no handle of the loop tells. */
#define WAIT(w, condition)                                                                           \
    do {                                                                                             \
        uint64_t until_ms = uv_hrtime() / 1000000 + BOUND_MS;                                        \
                                                                                                     \
        uv_timer_start(&(w)->bound, on_bound, 5, 5);                                                 \
        while (!(condition) && uv_hrtime() / 1000000 < until_ms)                                     \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                                         \
        uv_timer_stop(&(w)->bound);                                                                  \
        if (!(condition))                                                                            \
            fail_msg("line %d: %s: not within %d ms", __LINE__, #condition, BOUND_MS);               \
    } while (0)

static int on_receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    return 0;
}

static void on_connected(void *ctx, uint64_t peer, uint32_t program)
{
}

static void on_disconnected(void *ctx, uint64_t peer)
{
}

static int open_checkpoint(void *ctx, uint64_t index, uint32_t crc)
{
    struct end *e = ctx;

    if (index != INDEX || crc != CRC)
        return -ENOENT;
    e->opened++;
    return open(e->path, O_RDONLY | O_CLOEXEC);
}

static void on_fetched(void *ctx, int error)
{
    struct end *e = ctx;

    e->fetched++;
    e->error = error;
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

static void open_end(struct world *w, struct end *e)
{
    struct transport_options o = {.cluster_id = CLUSTER, .id = e->id, .listen = &e->listen, .n_listen = 1, .urls = e->url,
                                  .election_ms = 200, .ctx = e, .receive = on_receive, .connected = on_connected,
                                  .disconnected = on_disconnected, .open_checkpoint = open_checkpoint,
                                  .fetched = on_fetched, .bulk_bytes_per_s = e->rate};
    char text[256] = "";

    assert_int_equal(transport_open(&w->loop, &o, &e->t, text, sizeof(text)), 0);
    transport_table(e->t, &e->network);
}

static void know(struct end *e, const struct end *peer)
{
    const char *urls[] = {peer->url};

    e->network.set_peers(e->network.ctx, &peer->id, urls, 1);
}

static void open_both(struct world *w)
{
    open_end(w, &w->a);
    open_end(w, &w->b);
    know(&w->b, &w->a);
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

static void name_end(struct world *w, struct end *e, uint64_t id)
{
    const char *why;

    e->id = id;
    snprintf(e->path, sizeof(e->path), "%s/file%u", w->dir, (unsigned)id);
    snprintf(e->url, sizeof(e->url), "http://127.0.0.1:%d", free_port());
    assert_int_equal(url_parse(slice_from_str(e->url), &e->listen, &why), 0);
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 257);
}

/* The first n bytes. */
static void write_file(const char *path, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        putc(byte_at(i), f);
    assert_int_equal(fclose(f), 0);
}

static void expect_file(const char *path)
{
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    for (size_t i = 0; i < FILE_BYTES; i++)
        if (getc(f) != byte_at(i))
            fail_msg("byte %zu is another", i);
    assert_int_equal(getc(f), EOF);
    fclose(f);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->bound);
    w->bound.data = w;
    temp_dir(w->dir, sizeof(w->dir), "bulk");
    name_end(w, &w->a, 1);
    name_end(w, &w->b, 2);
    write_file(w->a.path, FILE_BYTES);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    close_end(w, &w->a);
    close_end(w, &w->b);
    uv_close((uv_handle_t *)&w->bound, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0); /* nothing is left open */
    unlink(w->a.path);
    unlink(w->b.path);
    assert_int_equal(rmdir(w->dir), 0);
    free(w);
    return 0;
}

static void fetch(struct end *e)
{
    struct fetch f = {.from = 1, .index = INDEX, .bytes = FILE_BYTES, .crc = CRC, .path = e->path};

    e->network.fetch(e->network.ctx, &f);
}

/* ---- connections without a member behind them ---- */

static int connect_raw(const struct end *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(e->listen.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void hello_of(uint64_t from, struct bytes *out)
{
    struct peer_hello m = {.version = PEER_PROTOCOL, .min_version = PEER_PROTOCOL_MIN, .cluster_id = CLUSTER, .from = from, .to = 1,
                           .urls = slice_from_str("http://127.0.0.1:1")};

    peer_hello_encode(&m, out);
}

static void send_frame(int fd, uint8_t type, const struct bytes *payload)
{
    struct bytes frame = {0};

    peer_frame_encode(&frame, type, bytes_slice(payload));
    assert_int_equal(send(fd, frame.data, frame.len, MSG_NOSIGNAL), frame.len);
    bytes_fini(&frame);
}

static int ask_for_file(const struct end *e, uint64_t from)
{
    struct bytes hello = {0}, payload = {0};
    int fd = connect_raw(e);

    hello_of(from, &hello);
    peer_fetch_encode(&(struct peer_fetch){bytes_slice(&hello), INDEX, 0, CRC}, &payload);
    send_frame(fd, PEER_FRAME_FETCH, &payload);
    bytes_fini(&hello);
    bytes_fini(&payload);
    return fd;
}

/* The type of the frame that has come; 0 while none has. Its code, of a FETCH_END. */
static uint8_t answer_of(int fd, uint32_t *ret_code)
{
    uint8_t head[PEER_FRAME_HEAD_BYTES + 4];

    if (recv(fd, head, sizeof(head), MSG_PEEK) < (ssize_t)sizeof(head))
        return 0;
    *ret_code = get_le32(head + PEER_FRAME_HEAD_BYTES);
    return head[8];
}

/* ---- tests ---- */

static void a_file_comes_whole(void **state)
{
    struct world *w = *state;

    open_both(w);
    fetch(&w->b);
    WAIT(w, w->b.fetched == 1);
    assert_int_equal(w->b.error, 0);
    expect_file(w->b.path);
    WAIT(w, w->a.t->n_bulk == 0);
    assert_int_equal(transport_counters(w->a.t).bulk_bytes_sent, FILE_BYTES);
}

static void it_goes_on_where_it_was(void **state)
{
    const size_t there = 1234567;
    struct world *w = *state;

    write_file(w->b.path, there);
    open_both(w);
    fetch(&w->b);
    WAIT(w, w->b.fetched == 1);
    assert_int_equal(w->b.error, 0);
    assert_int_equal(transport_counters(w->a.t).bulk_bytes_sent, FILE_BYTES - there);
    expect_file(w->b.path);
}

/* The sender's process is replaced in the middle. */
static void it_outlives_its_sender(void **state)
{
    struct world *w = *state;
    uint64_t sent;

    w->a.rate = 2 * 1024 * 1024;
    open_both(w);
    fetch(&w->b);
    WAIT(w, transport_counters(w->b.t).bulk_bytes_received > FILE_BYTES / 4);
    sent = transport_counters(w->b.t).bulk_bytes_received;
    close_end(w, &w->a);
    assert_int_equal(w->b.fetched, 0);
    w->a.rate = 0;
    open_end(w, &w->a);
    WAIT(w, w->b.fetched == 1);
    assert_int_equal(w->b.error, 0);
    assert_true(transport_counters(w->a.t).bulk_bytes_sent <= FILE_BYTES - sent); /* what was there was not sent again */
    expect_file(w->b.path);
}

static void one_that_is_not_there_ends_it(void **state)
{
    struct world *w = *state;
    struct fetch f = {.from = 1, .index = INDEX, .bytes = FILE_BYTES, .crc = CRC + 1, .path = w->b.path};

    open_both(w);
    w->b.network.fetch(w->b.network.ctx, &f);
    WAIT(w, w->b.fetched == 1);
    assert_int_equal(w->b.error, -ENOENT);
    assert_int_equal(w->a.t->n_bulk, 0);
}

static void no_more_files_at_a_time_than_there_may_be(void **state)
{
    int fds[TRANSPORT_BULK_MAX], last;
    struct world *w = *state;
    uint32_t code;

    w->a.rate = 1024 * 1024; /* none is through before the test is */
    open_both(w);
    for (int i = 0; i < TRANSPORT_BULK_MAX; i++) {
        fds[i] = ask_for_file(&w->a, 100 + (uint64_t)i);
        WAIT(w, answer_of(fds[i], &code) == PEER_FRAME_CHUNK);
    }
    assert_int_equal(w->a.opened, TRANSPORT_BULK_MAX);
    last = ask_for_file(&w->a, 200);
    WAIT(w, answer_of(last, &code) == PEER_FRAME_FETCH_END);
    assert_int_equal(code, PEER_HELLO_BUSY);
    fetch(&w->b); /* asks again and again */
    WAIT(w, w->b.t->fetch.dial->state == DIAL_WAITING && w->b.t->fetch.dial->backoff_ms > 20);
    assert_int_equal(w->a.opened, TRANSPORT_BULK_MAX);
    assert_int_equal(w->b.fetched, 0);
    close(fds[0]);
    WAIT(w, w->b.fetched == 1);
    assert_int_equal(w->b.error, 0);
    expect_file(w->b.path);
    for (int i = 1; i < TRANSPORT_BULK_MAX; i++)
        close(fds[i]);
    close(last);
    WAIT(w, w->a.t->n_bulk == 0);
}

/* Who does not read makes the sender neither read the file nor keep it. */
static void who_does_not_read_costs_little(void **state)
{
    struct world *w = *state;
    struct peer_conn *c = NULL;
    uint64_t at = 0, before = 1;
    uint32_t code;
    int fd;

    open_both(w);
    assert_int_equal(truncate(w->a.path, 256 * 1024 * 1024), 0); /* more than any socket holds */
    fd = ask_for_file(&w->a, 100);
    WAIT(w, answer_of(fd, &code) == PEER_FRAME_CHUNK);
    LIST_FOREACH(it, &w->a.t->conns)
        if (LIST_ITEM(it, struct peer_conn, link)->bulk != NULL)
            c = LIST_ITEM(it, struct peer_conn, link);
    assert_non_null(c);
    for (int still = 0; still < 10; still += at == before) { /* nothing moves for some turns of the timer */
        before = at;
        w->late = false;
        WAIT(w, w->late);
        at = transport_counters(w->a.t).bulk_bytes_sent;
    }
    assert_true(at < 64 * 1024 * 1024);
    assert_true(stream_unsent(&c->stream) < 4 * (uint64_t)TRANSPORT_CHUNK_BYTES);
    close(fd);
    WAIT(w, w->a.t->n_bulk == 0);
}

static size_t count_guests(const struct transport *t)
{
    size_t n = 0;

    LIST_FOREACH(it, &t->dials)
        n += LIST_ITEM(it, struct dial, link)->guest;
    return n;
}

/* Strangers of the own cluster are answered, up to a number; all of them may talk. */
static void no_more_guests_than_there_may_be(void **state)
{
    int fds[TRANSPORT_GUESTS_MAX + 3];
    struct world *w = *state;
    uint32_t code;

    open_end(w, &w->a);
    for (int i = 0; i < TRANSPORT_GUESTS_MAX + 3; i++) {
        struct bytes hello = {0};

        fds[i] = connect_raw(&w->a);
        hello_of(100 + (uint64_t)i, &hello);
        send_frame(fds[i], PEER_FRAME_HELLO, &hello);
        bytes_fini(&hello);
        WAIT(w, answer_of(fds[i], &code) == PEER_FRAME_HELLO_REPLY);
    }
    assert_int_equal(count_guests(w->a.t), TRANSPORT_GUESTS_MAX);
    assert_null(dial_find(w->a.t, 100 + TRANSPORT_GUESTS_MAX));
    for (int i = 0; i < TRANSPORT_GUESTS_MAX + 3; i++)
        close(fds[i]);
    WAIT(w, count_guests(w->a.t) == 0); /* who has left is not dialled for ever */
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_comes_whole),
        TEST(it_goes_on_where_it_was),
        TEST(it_outlives_its_sender),
        TEST(one_that_is_not_there_ends_it),
        TEST(no_more_files_at_a_time_than_there_may_be),
        TEST(who_does_not_read_costs_little),
        TEST(no_more_guests_than_there_may_be),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
