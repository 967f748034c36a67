/* sidecar's gRPC layer under floods: frames that cost their sender nothing, as fast as the socket takes them. Each ends the connection
 * or is slowed down; what it holds stays small; another client is served meanwhile.
 *
 * The server's clock is the test's: it stands still while a flood comes, so that no budget grows, however slow the machine is,
 * and runs on when a connection has been slowed down. wrap: uv_now */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
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

#include "sidecar/grpc.h"
#include "sidecar/limits.h"

#define BOUND_MS 60000
#define HELD_MAX (24u << 20) /* by everything, for one flooding connection */

static uint64_t clock_ms;
uint64_t __wrap_uv_now(const uv_loop_t *loop);

uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
    return clock_ms;
}

static void stuck_message(struct grpc_call *call, struct slice message)
{
}

static void nothing(struct grpc_call *call)
{
}

static void page(void *app, const struct http_request *request, struct http_reply *reply)
{
    reply->status = 200;
    bytes_append(&reply->body, slice_from_str("a page\n"));
}

struct world {
    uv_loop_t loop;
    struct grpc_server *server;
    int port;
    bool stopped;
};

static void on_stopped(void *app)
{
    ((struct world *)app)->stopped = true;
}

static void open_world(struct world *w)
{
    static const struct grpc_method stuck = {.path = "/t.T/Stuck", .kind = GRPC_STREAM, .start = nothing, .message = stuck_message, .end = nothing};
    static const struct grpc_method *const methods[] = {&stuck, NULL};
    struct grpc_config config = {.methods = methods, .page = page, .app = w};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memset(w, 0, sizeof(*w));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(grpc_server_new(&w->loop, &config, &w->server), 0);
    assert_int_equal(grpc_server_listen(w->server, (struct sockaddr *)&at, GRPC_PLAIN, &w->port), 0);
}

static void close_world(struct world *w)
{
    grpc_server_stop(w->server, on_stopped);
    while (!w->stopped)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(grpc_server_counters(w->server)->calls_open, 0);
    grpc_server_free(w->server);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static int dial(const struct world *w)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* ---- frames ---- */

static void put_frame(struct bytes *b, uint8_t type, uint8_t flags, uint32_t stream, struct slice payload)
{
    uint8_t head[9] = {(uint8_t)(payload.len >> 16), (uint8_t)(payload.len >> 8), (uint8_t)payload.len, type, flags};

    put_be32(head + 5, stream);
    bytes_raw(b, head, sizeof(head));
    bytes_append(b, payload);
}

static void put_header(struct bytes *b, const char *name, const char *value)
{
    bytes_u8(b, 0x10); /* never indexed, by its name */
    bytes_u8(b, (uint8_t)strlen(name));
    bytes_append(b, slice_from_str(name));
    bytes_u8(b, (uint8_t)strlen(value));
    bytes_append(b, slice_from_str(value));
}

static void put_request(struct bytes *b)
{
    put_header(b, ":method", "POST");
    put_header(b, ":scheme", "http");
    put_header(b, ":path", "/t.T/Stuck");
    put_header(b, ":authority", "h");
    put_header(b, "content-type", "application/grpc");
    put_header(b, "te", "trailers");
}

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };

/* Each appends the i-th piece of its flood. */
typedef void (*flood_fn)(struct bytes *b, uint32_t i);

static void rapid_reset(struct bytes *b, uint32_t i)
{
    struct bytes headers = {0};

    put_request(&headers);
    put_frame(b, HEADERS, 4, 2 * i + 1, bytes_slice(&headers));
    put_frame(b, RST_STREAM, 0, 2 * i + 1, slice_make("\0\0\0\x08", 4));
    bytes_fini(&headers);
}

/* Resets without asking: what is sent makes the server reset each stream (CVE-2025-8671). */
static void made_you_reset(struct bytes *b, uint32_t i)
{
    struct bytes headers = {0};

    put_request(&headers);
    put_frame(b, HEADERS, 4, 2 * i + 1, bytes_slice(&headers));
    put_frame(b, WINDOW_UPDATE, 0, 2 * i + 1, slice_make("\0\0\0\0", 4));
    bytes_fini(&headers);
}

static void settings(struct bytes *b, uint32_t i)
{
    put_frame(b, SETTINGS, 0, 0, slice_make("\0\x04\0\0\xff\xff", 6));
}

static void pings(struct bytes *b, uint32_t i)
{
    put_frame(b, PING, 0, 0, slice_make("floodfld", 8));
}

static void probes(struct bytes *b, uint32_t i)
{
    put_frame(b, PING, 0, 0, slice_make("\x02\x04\x10\x10\x09\x0e\x07\x07", 8)); /* as for bandwidth */
}

static void empty_data(struct bytes *b, uint32_t i)
{
    struct bytes headers = {0};

    put_request(&headers);
    if (i == 0)
        put_frame(b, HEADERS, 4, 1, bytes_slice(&headers));
    put_frame(b, DATA, 0, 1, slice_make(NULL, 0));
    bytes_fini(&headers);
}

static void windows(struct bytes *b, uint32_t i)
{
    put_frame(b, WINDOW_UPDATE, 0, 0, slice_make("\0\0\0\x01", 4));
}

static void priorities(struct bytes *b, uint32_t i)
{
    put_frame(b, PRIORITY, 0, 2 * i + 1, slice_make("\0\0\0\0\x10", 5));
}

static void continuations(struct bytes *b, uint32_t i)
{
    struct bytes headers = {0};

    if (i == 0)
        put_request(&headers);
    else
        put_header(&headers, "x-more", "and more");
    put_frame(b, i == 0 ? HEADERS : CONTINUATION, 0, 1, bytes_slice(&headers));
    bytes_fini(&headers);
}

static void empty_continuations(struct bytes *b, uint32_t i)
{
    if (i == 0)
        continuations(b, 0);
    else
        put_frame(b, CONTINUATION, 0, 1, slice_make(NULL, 0));
}

static void unknown_frames(struct bytes *b, uint32_t i)
{
    put_frame(b, 0xfa, 0, 0, slice_make(NULL, 0));
}

/* ---- a flood, and somebody else beside it ---- */

struct outcome {
    bool ended;
    uint32_t pieces; /* that went into the socket */
    size_t held;     /* most, beyond what was held before */
};

static size_t allocated(void)
{
    return mallinfo2().uordblks; /* 0 with a sanitizer's allocator */
}

static void ask_beside(struct world *w)
{
    static const char get[] = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
    int fd = dial(w);
    char answer[512];
    ssize_t n = -1;

    assert_int_equal(send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL), sizeof(get) - 1);
    for (int turns = 0; n < 0; turns++) {
        assert_true(turns < 100); /* turns of the loop: it has its place among them */
        uv_run(&w->loop, UV_RUN_NOWAIT);
        n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
        if (n < 0)
            usleep(100); /* the kernel's turn */
    }
    assert_non_null(memmem(answer, (size_t)n, "a page\n", 7));
    close(fd);
}

static struct outcome drown(struct world *w, flood_fn make, uint32_t pieces, bool reads)
{
    struct outcome o = {.ended = false};
    uint64_t until = uv_hrtime() / 1000000 + BOUND_MS;
    size_t before = allocated(), sent = 0;
    struct bytes out = {0};
    int fd = dial(w);
    uint8_t buf[65536];

    bytes_append(&out, slice_from_str("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    put_frame(&out, SETTINGS, 0, 0, slice_make(NULL, 0));
    for (int turn = 0; !o.ended && (o.pieces < pieces || sent < out.len); turn++) {
        ssize_t n;

        assert_true(uv_hrtime() / 1000000 < until);
        if (sent == out.len) {
            bytes_reset(&out);
            sent = 0;
        }
        for (int i = 0; i < 1000 && o.pieces < pieces && out.len < 60000; i++)
            make(&out, o.pieces++);
        n = send(fd, out.data + sent, out.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        o.ended = n < 0 && errno != EAGAIN;
        uv_run(&w->loop, UV_RUN_NOWAIT);
        if (reads)
            while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
                ;
        o.ended = o.ended || (reads && n == 0);
        if (grpc_server_counters(w->server)->conns_open == 0)
            o.ended = true;
        if (allocated() > before + out.cap && allocated() - before - out.cap > o.held)
            o.held = allocated() - before - out.cap;
        if (turn % 50 == 0)
            ask_beside(w);
        clock_ms += grpc_server_counters(w->server)->throttled > 0;
        if (!reads && grpc_server_counters(w->server)->throttled == 0 && turn > 3000)
            break; /* it is not read any more, because it does not read */
    }
    close(fd);
    bytes_fini(&out);
    for (; grpc_server_counters(w->server)->conns_open > 0; clock_ms++)
        uv_run(&w->loop, UV_RUN_ONCE);
    return o;
}

static void each_flood_is_ended_or_slowed_down(void **state)
{
    static const struct {
        const char *name;
        flood_fn make;
        uint32_t pieces;
        bool ends; /* the connection; else it is slowed down */
    } floods[] = {
        {"rapid reset", rapid_reset, 200000, false},
        {"made you reset", made_you_reset, 250000, false},
        {"settings", settings, 250000, false},
        {"pings", pings, 250000, true},
        {"bandwidth probes", probes, 300000, false},
        {"empty data", empty_data, 300000, false},
        {"window updates", windows, 300000, false},
        {"priorities", priorities, 300000, false},
        {"continuations", continuations, 300000, true},
        {"empty continuations", empty_continuations, 300000, true},
    };

    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        for (int reads = 1; reads >= 0; reads--) {
            struct world w;
            struct outcome o;
            const struct grpc_counters *c;

            open_world(&w);
            o = drown(&w, floods[i].make, floods[i].pieces, reads);
            c = grpc_server_counters(w.server);
            print_message("%s%s: %u pieces, %s, slowed down %llu times, %zu kB held\n", floods[i].name, reads ? "" : ", never reading",
                          o.pieces, o.ended ? "ended" : "goes on", (unsigned long long)c->throttled, o.held / 1024);
            assert_true(o.held < HELD_MAX);
            if (reads && floods[i].ends)
                assert_true(o.ended);
            else if (reads)
                assert_true(o.ended || c->throttled > 0);
            close_world(&w);
        }
    }
}

static void what_is_not_known_is_passed_over(void **state)
{
    struct world w;
    struct outcome o;

    open_world(&w);
    o = drown(&w, unknown_frames, 100000, true); /* each is nine bytes and no work */
    assert_false(o.ended);
    assert_true(o.held < HELD_MAX);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_flood_is_ended_or_slowed_down),
        cmocka_unit_test(what_is_not_known_is_passed_over),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
