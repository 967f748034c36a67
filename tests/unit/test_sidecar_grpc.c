/* The gRPC layer over a real socket of 127.0.0.1, with services of its own and a client made of nghttp2. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <uv.h>

#include "sidecar/grpc.h"
#include "sidecar/grpc_text.h"
#include "sidecar/limits.h"

#define BOUND_MS 20000
#define MAX_STREAMS 8192

/* ---- services ---- */

static int ends; /* calls of end(), of all methods */

static void count_end(struct grpc_call *call)
{
    ends++;
}

static void echo_message(struct grpc_call *call, struct slice message)
{
    grpc_send_bytes(call, slice_make(NULL, 0), message);
    grpc_finish(call, GRPC_OK, NULL);
}

static void fail_message(struct grpc_call *call, struct slice message)
{
    grpc_finish_status(call, STATUS_EMPTY_KEY);
}

static void stuck_message(struct grpc_call *call, struct slice message)
{
}

static void stuck_change_message(struct grpc_call *call, struct slice message)
{
    stuck_message(call, message);
    grpc_changes(call);
}

static void flood_message(struct grpc_call *call, struct slice message)
{
    static const uint8_t piece[1000];

    while (grpc_queued(call) < STREAM_BUFFER_BYTES)
        grpc_send_bytes(call, slice_make(NULL, 0), slice_make(piece, sizeof piece));
}

static void stream_message(struct grpc_call *call, struct slice message)
{
    grpc_send_bytes(call, slice_from_str("<"), message);
}

static void stream_half_close(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static const struct grpc_method echo = {.path = "/test.T/Echo", .kind = GRPC_UNARY, .message = echo_message, .end = count_end};
static const struct grpc_method fail_ = {.path = "/test.T/Fail", .kind = GRPC_UNARY, .message = fail_message, .end = count_end};
static const struct grpc_method stuck = {.path = "/test.T/Stuck", .kind = GRPC_UNARY, .message = stuck_message, .end = count_end};
static const struct grpc_method stuck_change = {
    .path = "/test.T/StuckChange", .kind = GRPC_UNARY, .message = stuck_change_message, .end = count_end};
static const struct grpc_method flood = {.path = "/test.T/Flood", .kind = GRPC_STREAM, .message = flood_message, .end = count_end};
static const struct grpc_method stream_ = {.path = "/test.T/Stream", .kind = GRPC_STREAM, .message = stream_message,
                                           .half_close = stream_half_close, .end = count_end};
static const struct grpc_method *const methods[] = {&echo, &fail_, &stuck, &stuck_change, &flood, &stream_, NULL};

static struct page_wait *waiting[4]; /* pages that come later */
static size_t n_waiting;

static void page(void *app, const struct http_request *request, struct http_reply *reply)
{
    if (slice_equal(request->path, slice_from_str("/later"))) {
        waiting[n_waiting++] = page_later(request);
        return;
    }
    reply->status = slice_equal(request->path, slice_from_str("/health")) ? 200 : 404;
    bytes_append(&reply->body, slice_from_str("a page\n"));
}

/* ---- the client ---- */

struct answer {
    int status;           /* grpc-status; -1: none yet */
    char message[200];
    char http_status[8];
    struct bytes body;
    struct slice request;
    size_t sent;
    bool closed, keep_open;
    uint32_t reset;
};

struct world {
    uv_loop_t loop;
    struct grpc_server *server;
    uv_tcp_t tcp;
    uv_timer_t watchdog;
    nghttp2_session *h2;
    struct answer answers[MAX_STREAMS];
    bool connected, ended, stopped, not_reading;
    uint32_t goaway;
    bool got_goaway;
    int port;
    struct bytes http1;
    size_t n_closed;
};

static struct answer *answer_of(struct world *w, int32_t stream)
{
    assert_true(stream / 2 < MAX_STREAMS);
    return &w->answers[stream / 2];
}

static int client_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                         const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    struct answer *a = answer_of(user, frame->hd.stream_id);

    if (name_len == 11 && memcmp(name, "grpc-status", 11) == 0)
        a->status = atoi((const char *)value);
    if (name_len == 12 && memcmp(name, "grpc-message", 12) == 0)
        snprintf(a->message, sizeof a->message, "%.*s", (int)value_len, (const char *)value);
    if (name_len == 7 && memcmp(name, ":status", 7) == 0)
        snprintf(a->http_status, sizeof a->http_status, "%.*s", (int)value_len, (const char *)value);
    return 0;
}

static int client_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t len, void *user)
{
    bytes_raw(&answer_of(user, stream)->body, data, len);
    return 0;
}

static int client_closed(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
    struct world *w = user;

    answer_of(w, stream)->closed = true;
    answer_of(w, stream)->reset = error;
    w->n_closed++;
    return 0;
}

static int client_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct world *w = user;

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        w->got_goaway = true;
        w->goaway = frame->goaway.error_code;
    }
    return 0;
}

static ssize_t client_read(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t len, uint32_t *flags,
                           nghttp2_data_source *source, void *user)
{
    struct answer *a = source->ptr;
    size_t n = a->request.len - a->sent < len ? a->request.len - a->sent : len;

    if (n > 0)
        memcpy(buf, a->request.data + a->sent, n);
    a->sent += n;
    if (a->sent == a->request.len) {
        if (!a->keep_open)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
        else if (n == 0)
            return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    *buf = uv_buf_init(malloc(65536), 65536);
}

static void pump(struct world *w);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct world *w = stream->data;

    if (n < 0)
        w->ended = true;
    else if (w->h2 != NULL && n > 0)
        assert_int_equal(nghttp2_session_mem_recv(w->h2, (const uint8_t *)buf->base, (size_t)n), n);
    else if (n > 0)
        bytes_raw(&w->http1, buf->base, (size_t)n);
    free(buf->base);
    if (w->h2 != NULL && !w->ended)
        pump(w);
}

static void on_written(uv_write_t *write, int status)
{
    free(write->data);
    free(write);
}

static void client_write(struct world *w, const void *data, size_t len)
{
    uv_write_t *write = malloc(sizeof *write);
    uv_buf_t buf = uv_buf_init(malloc(len), (unsigned)len);

    memcpy(buf.base, data, len);
    write->data = buf.base;
    assert_int_equal(uv_write(write, (uv_stream_t *)&w->tcp, &buf, 1, on_written), 0);
}

static void pump(struct world *w)
{
    const uint8_t *data;
    ssize_t n;

    while ((n = nghttp2_session_mem_send(w->h2, &data)) > 0)
        client_write(w, data, (size_t)n);
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct world *w = connect->data;

    assert_int_equal(status, 0);
    w->connected = true;
    uv_read_start((uv_stream_t *)&w->tcp, on_alloc, on_read);
}

static void on_watchdog(uv_timer_t *timer)
{
    fail_msg("the condition was not met within %d ms", BOUND_MS);
}

#define UNTIL(w, condition)                                                                                  \
    do {                                                                                                     \
        uv_timer_start(&(w)->watchdog, on_watchdog, BOUND_MS, 0);                                            \
        while (!(condition))                                                                                 \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                                                 \
        uv_timer_stop(&(w)->watchdog);                                                                       \
    } while (0)

static void start_h2(struct world *w)
{
    nghttp2_session_callbacks *cb;
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};

    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, client_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, client_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, client_closed);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, client_frame);
    if (w->not_reading) {
        nghttp2_option *option;

        nghttp2_option_new(&option);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_session_client_new2(&w->h2, cb, w, option);
        nghttp2_option_del(option);
    } else {
        nghttp2_session_client_new(&w->h2, cb, w);
    }
    nghttp2_session_callbacks_del(cb);
    nghttp2_submit_settings(w->h2, 0, settings, 1);
    pump(w);
}

static void connect_client(struct world *w)
{
    struct sockaddr_in to;
    uv_connect_t connect = {.data = w};

    uv_tcp_init(&w->loop, &w->tcp);
    w->tcp.data = w;
    uv_ip4_addr("127.0.0.1", w->port, &to);
    assert_int_equal(uv_tcp_connect(&connect, &w->tcp, (struct sockaddr *)&to, on_connect), 0);
    UNTIL(w, w->connected);
}

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    struct grpc_config config = {.methods = methods, .page = page, .app = w};
    struct sockaddr_in at;

    ends = 0;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(grpc_server_new(&w->loop, &config, &w->server), 0);
    uv_ip4_addr("127.0.0.1", 0, &at);
    assert_int_equal(grpc_server_listen(w->server, (struct sockaddr *)&at, GRPC_PLAIN, &w->port), 0);
    uv_timer_init(&w->loop, &w->watchdog);
    for (size_t i = 0; i < MAX_STREAMS; i++)
        w->answers[i].status = -1;
    connect_client(w);
    return w;
}

static void on_stopped(void *app)
{
    struct world *w = app;

    w->stopped = true;
}

static void world_free(struct world *w)
{
    if (!uv_is_closing((uv_handle_t *)&w->tcp))
        uv_close((uv_handle_t *)&w->tcp, NULL);
    UNTIL(w, grpc_server_counters(w->server)->conns_open == 0);
    assert_int_equal(grpc_server_counters(w->server)->calls_open, 0);
    assert_int_equal(grpc_server_counters(w->server)->streams_open, 0);
    assert_int_equal(grpc_server_counters(w->server)->output_bytes, 0);
    assert_int_equal(grpc_server_counters(w->server)->input_bytes, 0);
    grpc_server_stop(w->server, on_stopped);
    UNTIL(w, w->stopped);
    uv_close((uv_handle_t *)&w->watchdog, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    grpc_server_free(w->server);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    nghttp2_session_del(w->h2);
    for (size_t i = 0; i < MAX_STREAMS; i++)
        bytes_fini(&w->answers[i].body);
    bytes_fini(&w->http1);
    free(w);
}

#define NV(n, v) {(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0}

/* request: the DATA as it goes out, to live as long as the stream. */
static int32_t call(struct world *w, const char *path, struct slice request, bool keep_open, const char *timeout,
                    const char *encoding)
{
    nghttp2_nv nv[8] = {NV(":method", "POST"), NV(":scheme", "http"), NV(":path", path), NV(":authority", "localhost"),
                        NV("content-type", "application/grpc"), NV("te", "trailers")};
    size_t n = 6;
    int32_t stream = (int32_t)nghttp2_session_get_next_stream_id(w->h2);
    struct answer *a = answer_of(w, stream);
    nghttp2_data_provider provider = {.source.ptr = a, .read_callback = client_read};

    if (timeout != NULL)
        nv[n++] = (nghttp2_nv)NV("grpc-timeout", timeout);
    if (encoding != NULL)
        nv[n++] = (nghttp2_nv)NV("grpc-encoding", encoding);
    a->request = request;
    a->keep_open = keep_open;
    assert_int_equal(nghttp2_submit_request(w->h2, NULL, nv, n, &provider, NULL), stream);
    return stream;
}

static struct slice framed(struct bytes *b, struct slice message)
{
    bytes_init(b);
    grpc_prefix_put(bytes_grow(b, GRPC_PREFIX_BYTES), message.len);
    bytes_append(b, message);
    return bytes_slice(b);
}

/* ---- tests ---- */

static void unary_calls_of_any_size_come_back(void **state)
{
    static const size_t sizes[] = {0, 1, 5, 16379, 16384, 65535, 1000000, GRPC_MESSAGE_MAX_BYTES};
    struct world *w = world_new();

    start_h2(w);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *data = malloc(sizes[i] + 1);
        struct bytes b;
        struct answer *a;

        memset(data, (int)i + 1, sizes[i]);
        a = answer_of(w, call(w, "/test.T/Echo", framed(&b, slice_make(data, sizes[i])), false, NULL, NULL));
        pump(w);
        UNTIL(w, a->closed);
        assert_int_equal(a->status, 0);
        assert_string_equal(a->http_status, "200");
        assert_int_equal(a->body.len, b.len);
        assert_memory_equal(a->body.data, b.data, b.len);
        bytes_fini(&b);
        free(data);
    }
    assert_int_equal(ends, sizeof sizes / sizeof sizes[0]);
    world_free(w);
}

static void errors_have_codes_and_texts(void **state)
{
    static uint8_t large[] = {0, 0, 0x20, 0, 1}, packed[] = {1, 0, 0, 0, 1, 'x'}, two[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                   cut[] = {0, 0, 0, 0, 9, 'x'};
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    static const uint8_t gzip[] = {1, 0, 0, 0, 21, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0}; /* "a" */
    struct world *w = world_new();
    struct {
        const char *path;
        struct slice request;
        const char *encoding;
        int code;
        const char *text;
    } cases[] = {
        {"/test.T/Fail", slice_make(empty, 5), NULL, 3, "etcdserver: key is not provided"},
        {"/test.T/None", slice_make(empty, 5), NULL, 12, "unknown method None for service test.T"},
        {"/other.U/Echo", slice_make(empty, 5), NULL, 12, "unknown service other.U"},
        {"/test.T/Echo", slice_make(large, 5), NULL, 8, "grpc: received message larger than max (2097153 vs. 2097152)"},
        {"/test.T/Echo", slice_make(packed, 6), "gzip", 13, "grpc: failed to decompress the received message: it is not of gzip"},
        {"/test.T/Echo", slice_make(gzip, sizeof(gzip)), "gzip", 0, NULL},
        {"/test.T/Echo", slice_make(packed, 6), "snappy", 12, "grpc: Decompressor is not installed for grpc-encoding \"snappy\""},
        {"/test.T/Echo", slice_make(empty, 5), "identity", 0, NULL},
        {"/test.T/Echo", slice_make(packed, 6), NULL, 13, NULL},
        {"/test.T/Echo", slice_make(cut, 6), NULL, 13, NULL},
        {"/test.T/Echo", slice_make(NULL, 0), NULL, 13, NULL},
        {"/test.T/Stuck", slice_make(two, 10), NULL, 13, NULL},
    };

    start_h2(w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer *a = answer_of(w, call(w, cases[i].path, cases[i].request, false, NULL, cases[i].encoding));

        pump(w);
        UNTIL(w, a->closed);
        assert_int_equal(a->status, cases[i].code);
        if (cases[i].text != NULL)
            assert_string_equal(a->message, cases[i].text);
    }
    world_free(w);
}

static void deadlines_end_calls(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    a = answer_of(w, call(w, "/test.T/Stuck", slice_make(empty, 5), false, "30m", NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 4);
    assert_string_equal(a->message, "context deadline exceeded");
    assert_int_equal(ends, 1);
    world_free(w);
}

/* clientv3 calls again what DEADLINE_EXCEEDED ended while its own context goes on: a change would be made twice. */
static void a_deadline_says_of_a_change_what_etcd_says(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    a = answer_of(w, call(w, "/test.T/StuckChange", slice_make(empty, 5), false, "30m", NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 14);
    assert_string_equal(a->message, "etcdserver: request timed out");
    world_free(w);
}

/* A server that ends a call its client still sends on resets the stream with NO_ERROR. */
static void an_early_end_resets_without_error(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    a = answer_of(w, call(w, "/test.T/Fail", slice_make(empty, 5), true, NULL, NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 3);
    assert_int_equal(a->reset, NGHTTP2_NO_ERROR);
    world_free(w);
}

static void streams_echo_until_half_closed(void **state)
{
    struct world *w = world_new();
    struct bytes b;
    struct answer *a;

    start_h2(w);
    bytes_init(&b);
    for (int i = 0; i < 100; i++) {
        grpc_prefix_put(bytes_grow(&b, GRPC_PREFIX_BYTES), 3);
        bytes_raw(&b, "abc", 3);
    }
    a = answer_of(w, call(w, "/test.T/Stream", bytes_slice(&b), false, NULL, NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 0);
    assert_int_equal(a->body.len, 100 * (GRPC_PREFIX_BYTES + 4));
    bytes_fini(&b);
    world_free(w);
}

/* Cancelling thousands of calls must not cost the connection (nghttp2's own guard would send GOAWAY). */
static void a_burst_of_resets_leaves_the_connection(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    for (int i = 0; i < 4000; i++) {
        int32_t stream = call(w, "/test.T/Stuck", slice_make(empty, 5), false, NULL, NULL);

        pump(w);
        nghttp2_submit_rst_stream(w->h2, 0, stream, NGHTTP2_CANCEL);
        pump(w);
    }
    UNTIL(w, ends == 4000);
    a = answer_of(w, call(w, "/test.T/Echo", slice_make(empty, 5), false, NULL, NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 0);
    assert_false(w->got_goaway);
    assert_int_equal(grpc_server_counters(w->server)->resets_received, 4000);
    world_free(w);
}

/* A client that never opens its window again holds one bounded buffer; others on the connection go on. */
static void an_unread_stream_is_bounded_and_harms_no_other(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    w->not_reading = true;
    start_h2(w);
    nghttp2_session_set_local_window_size(w->h2, 0, 0, 8 << 20); /* the connection's stays open: the stream's does not */
    a = answer_of(w, call(w, "/test.T/Flood", slice_make(empty, 5), true, NULL, NULL));
    pump(w);
    UNTIL(w, a->body.len >= 65535);
    assert_true(grpc_server_counters(w->server)->output_bytes <= STREAM_BUFFER_BYTES + 2000);
    for (int i = 0; i < 100; i++) {
        struct answer *b = answer_of(w, call(w, "/test.T/Echo", slice_make(empty, 5), false, NULL, NULL));

        pump(w);
        UNTIL(w, b->closed);
        assert_int_equal(b->status, 0);
    }
    assert_false(a->closed);
    world_free(w);
    assert_int_equal(ends, 101);
}

static void pings_too_often_are_sent_away_but_not_bandwidth_probes(void **state)
{
    static const uint8_t bdp[] = {2, 4, 16, 16, 9, 14, 7, 7}, other[8] = {1};
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    for (int i = 0; i < 20; i++)
        nghttp2_submit_ping(w->h2, 0, bdp);
    a = answer_of(w, call(w, "/test.T/Echo", slice_make(empty, 5), false, NULL, NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_false(w->got_goaway);
    for (int i = 0; i < 5; i++)
        nghttp2_submit_ping(w->h2, 0, other);
    pump(w);
    UNTIL(w, w->got_goaway && w->ended);
    assert_int_equal(w->goaway, NGHTTP2_ENHANCE_YOUR_CALM);
    world_free(w);
}

static void plain_http_is_answered_on_the_same_port(void **state)
{
    struct world *w = world_new();
    const char *requests = "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"
                           "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\nPOST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char *text;

    for (const char *p = requests; *p != '\0'; p++)
        client_write(w, p, 1);
    UNTIL(w, w->ended);
    bytes_u8(&w->http1, 0);
    text = (char *)w->http1.data;
    assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(text, "\r\n\r\na page\nHTTP/1.1 404 Not Found\r\n"));
    assert_non_null(strstr(text, "HTTP/1.1 405 "));
    world_free(w);
}

static void pages_are_answered_over_http2_too(void **state)
{
    nghttp2_nv nv[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":path", "/health"), NV(":authority", "localhost")};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    a = answer_of(w, nghttp2_submit_request(w->h2, NULL, nv, 4, NULL, NULL));
    pump(w);
    UNTIL(w, a->closed);
    assert_string_equal(a->http_status, "200");
    assert_int_equal(a->body.len, 7);
    world_free(w);
}

static void answer_waiting(const char *text)
{
    struct http_reply reply = {.status = 200, .content_type = "text/plain"};

    bytes_init(&reply.body);
    bytes_append(&reply.body, slice_from_str(text));
    for (size_t i = 0; i < n_waiting; i++)
        page_answer(waiting[i], &reply);
    n_waiting = 0;
    bytes_fini(&reply.body);
}

/* A page that comes later holds up what stands behind it on its connection, and may outlive it. */
static void pages_may_come_later(void **state)
{
    const char *requests = "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    nghttp2_nv nv[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":path", "/later"), NV(":authority", "localhost")};
    struct world *w = world_new();
    struct answer *a;

    client_write(w, requests, strlen(requests));
    UNTIL(w, n_waiting == 1);
    assert_int_equal(w->http1.len, 0);
    answer_waiting("late\n");
    UNTIL(w, w->ended);
    bytes_u8(&w->http1, 0);
    assert_non_null(strstr((char *)w->http1.data, "\r\n\r\nlate\nHTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr((char *)w->http1.data, "a page\n"));
    world_free(w);

    w = world_new();
    start_h2(w);
    a = answer_of(w, nghttp2_submit_request(w->h2, NULL, nv, 4, NULL, NULL));
    pump(w);
    UNTIL(w, n_waiting == 1);
    answer_waiting("late\n");
    UNTIL(w, a->closed);
    assert_int_equal(a->body.len, 5);
    nghttp2_submit_request(w->h2, NULL, nv, 4, NULL, NULL);
    pump(w);
    UNTIL(w, n_waiting == 1);
    world_free(w);
    answer_waiting("for nobody\n");

    w = world_new();
    client_write(w, requests, strlen(requests));
    UNTIL(w, n_waiting == 1);
    world_free(w);
    answer_waiting("for nobody\n");
}

/* Whatever bytes come, the server answers or closes and leaks nothing; the seed replays. */
static void random_bytes_harm_nobody(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);

    printf("SEED=%u\n", seed);
    srand(seed);
    for (int round = 0; round < 60; round++) {
        struct world *w = world_new();
        uint8_t junk[2000];
        size_t n = (size_t)rand() % sizeof junk;

        if (round % 2 == 0)
            client_write(w, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
        for (size_t i = 0; i < n; i++)
            junk[i] = (uint8_t)(rand() % (round % 3 == 0 ? 256 : 10));
        if (n > 0)
            client_write(w, junk, n);
        for (int i = 0; i < 5; i++)
            uv_run(&w->loop, UV_RUN_NOWAIT);
        world_free(w);
    }
}

/* Stopping ends open streams with Unavailable after a GOAWAY, and the server is gone within its grace. */
static void stopping_ends_streams(void **state)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 0};
    struct world *w = world_new();
    struct answer *a;

    start_h2(w);
    a = answer_of(w, call(w, "/test.T/Stream", slice_make(empty, 5), true, NULL, NULL));
    pump(w);
    UNTIL(w, a->body.len > 0);
    grpc_server_stop(w->server, on_stopped);
    UNTIL(w, a->closed);
    assert_int_equal(a->status, 14);
    assert_string_equal(a->message, "etcdserver: server stopped");
    assert_true(w->got_goaway);
    UNTIL(w, w->stopped);
    uv_close((uv_handle_t *)&w->tcp, NULL);
    uv_close((uv_handle_t *)&w->watchdog, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    grpc_server_free(w->server);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    nghttp2_session_del(w->h2);
    for (size_t i = 0; i < MAX_STREAMS; i++)
        bytes_fini(&w->answers[i].body);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_calls_of_any_size_come_back),
        cmocka_unit_test(errors_have_codes_and_texts),
        cmocka_unit_test(deadlines_end_calls),
        cmocka_unit_test(a_deadline_says_of_a_change_what_etcd_says),
        cmocka_unit_test(an_early_end_resets_without_error),
        cmocka_unit_test(streams_echo_until_half_closed),
        cmocka_unit_test(a_burst_of_resets_leaves_the_connection),
        cmocka_unit_test(an_unread_stream_is_bounded_and_harms_no_other),
        cmocka_unit_test(pings_too_often_are_sent_away_but_not_bandwidth_probes),
        cmocka_unit_test(plain_http_is_answered_on_the_same_port),
        cmocka_unit_test(pages_are_answered_over_http2_too),
        cmocka_unit_test(pages_may_come_later),
        cmocka_unit_test(random_bytes_harm_nobody),
        cmocka_unit_test(stopping_ends_streams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
