/* grpc-testservice - grpc.testing.TestService over our gRPC layer, for the interoperability client of grpc-go and for
 * h2spec. Listens on a port of 127.0.0.1 that the kernel chooses, prints it, and serves until its standard input ends: by TLS, if it
 * is given a certificate and its key. grpc-testservice [CERT KEY]
 *
 * Messages: github.com/grpc/grpc/blob/master/src/proto/grpc/testing/messages.proto */
#include <stdio.h>
#include <stdlib.h>

#include "proto/wire.h"
#include "sidecar/grpc.h"
#include "tls/tls.h"

#define SIZE_MAX_BYTES (16 * 1024 * 1024)

struct request {
    uint64_t size;          /* response_size */
    size_t payload_bytes;
    uint64_t status;
    char message[256];
};

static size_t payload_length(struct slice in)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t len = 0;

    while (wire_next(&r, &f))
        if (f.number == 2)
            len = f.bytes.len;
    return len;
}

static void read_status(struct slice in, struct request *q)
{
    struct reader r = reader_make(in);
    struct wire_field f;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            q->status = f.value;
        else if (f.number == 2)
            snprintf(q->message, sizeof q->message, "%.*s", (int)f.bytes.len, (const char *)f.bytes.data);
    }
}

static struct request read_request(struct slice in, unsigned payload_field)
{
    struct reader r = reader_make(in);
    struct request q = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        if (f.number == payload_field && f.type == WIRE_BYTES)
            q.payload_bytes = payload_length(f.bytes);
        else if (f.number == 2 && f.type == WIRE_VARINT)
            q.size = f.value;
        else if (f.number == 7 && f.type == WIRE_BYTES)
            read_status(f.bytes, &q);
    }
    return q;
}

/* SimpleResponse and StreamingOutputCallResponse alike: payload { body } */
static void send_payload(struct grpc_call *call, uint64_t size)
{
    struct bytes payload, out;
    uint8_t *body;

    if (size > SIZE_MAX_BYTES) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "too large");
        return;
    }
    bytes_init(&payload);
    bytes_init(&out);
    bytes_u8(&payload, 2 << 3 | WIRE_BYTES);
    bytes_varint(&payload, size);
    body = bytes_grow(&payload, size);
    if (body != NULL)
        memset(body, 0, size);
    bytes_u8(&out, 1 << 3 | WIRE_BYTES);
    bytes_varint_slice(&out, bytes_slice(&payload));
    grpc_send_bytes(call, slice_make(NULL, 0), bytes_slice(&out));
    bytes_fini(&payload);
    bytes_fini(&out);
}

static void empty_message(struct grpc_call *call, struct slice message)
{
    grpc_send_bytes(call, slice_make(NULL, 0), slice_make(NULL, 0));
    grpc_finish(call, GRPC_OK, NULL);
}

#define ECHO_INITIAL "x-grpc-test-echo-initial"
#define ECHO_TRAILING "x-grpc-test-echo-trailing-bin"

/* Of the case custom_metadata. */
static void echo_metadata(struct grpc_call *call)
{
    struct slice initial = grpc_metadata(call, ECHO_INITIAL), trailing = grpc_metadata(call, ECHO_TRAILING);

    if (initial.len > 0)
        grpc_add_metadata(call, false, ECHO_INITIAL, initial);
    if (trailing.len > 0)
        grpc_add_metadata(call, true, ECHO_TRAILING, trailing);
}

static void unary_message(struct grpc_call *call, struct slice message)
{
    struct request q = read_request(message, 3);

    echo_metadata(call);

    if (q.status != 0) {
        grpc_finish(call, (enum grpc_code)q.status, q.message);
        return;
    }
    send_payload(call, q.size);
    grpc_finish(call, GRPC_OK, NULL);
}

/* Each response_parameters { size } asks for one answer. */
static void output_message(struct grpc_call *call, struct slice message)
{
    struct request q = read_request(message, 3);
    struct reader r = reader_make(message);
    struct wire_field f;

    if (grpc_state(call) == NULL) /* the first message */
        echo_metadata(call);
    grpc_set_state(call, call);
    if (q.status != 0) {
        grpc_finish(call, (enum grpc_code)q.status, q.message);
        return;
    }
    while (wire_next(&r, &f)) {
        struct reader inner;
        struct wire_field size;
        uint64_t n = 0;

        if (f.number != 2 || f.type != WIRE_BYTES)
            continue;
        inner = reader_make(f.bytes);
        while (wire_next(&inner, &size))
            if (size.number == 1)
                n = size.value;
        send_payload(call, n);
    }
}

static void finish_ok(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static void input_message(struct grpc_call *call, struct slice message)
{
    uintptr_t sum = (uintptr_t)grpc_state(call) + read_request(message, 1).payload_bytes;

    grpc_set_state(call, (void *)sum);
}

static void input_half_close(struct grpc_call *call)
{
    struct bytes out;

    bytes_init(&out);
    bytes_u8(&out, 1 << 3 | WIRE_VARINT);
    bytes_varint(&out, (uintptr_t)grpc_state(call));
    grpc_send_bytes(call, slice_make(NULL, 0), bytes_slice(&out));
    bytes_fini(&out);
    grpc_finish(call, GRPC_OK, NULL);
}

#define PATH(name) "/grpc.testing.TestService/" name

static const struct grpc_method empty = {.path = PATH("EmptyCall"), .kind = GRPC_UNARY, .message = empty_message};
static const struct grpc_method unary = {.path = PATH("UnaryCall"), .kind = GRPC_UNARY, .message = unary_message};
static const struct grpc_method output = {
    .path = PATH("StreamingOutputCall"), .kind = GRPC_STREAM, .message = output_message, .half_close = finish_ok};
static const struct grpc_method input = {
    .path = PATH("StreamingInputCall"), .kind = GRPC_STREAM, .message = input_message, .half_close = input_half_close};
static const struct grpc_method duplex = {
    .path = PATH("FullDuplexCall"), .kind = GRPC_STREAM, .message = output_message, .half_close = finish_ok};
static const struct grpc_method *const methods[] = {&empty, &unary, &output, &input, &duplex, NULL};

static void page(void *app, const struct http_request *request, struct http_reply *reply)
{
    reply->status = 200;
    bytes_append(&reply->body, slice_from_str("a page of some length for h2spec\n"));
}

static void on_stopped(void *app)
{
    uv_close((uv_handle_t *)app, NULL);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char byte[16]; /* what comes is not looked at */

    *buf = uv_buf_init(byte, sizeof byte);
}

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0) {
        uv_read_stop(stream);
        grpc_server_stop(stream->data, on_stopped);
    }
}

int main(int argc, char **argv)
{
    struct tls_options tls = {.http2 = true};
    static const char *const metadata[] = {ECHO_INITIAL, ECHO_TRAILING, NULL};
    struct grpc_config config = {.methods = methods, .page = page, .metadata = metadata, .max_streams = 100}; /* h2spec opens as many as allowed */
    struct grpc_server *server;
    struct sockaddr_in address;
    uv_loop_t loop;
    uv_pipe_t pipe;
    int port;

    if (argc == 3) {
        char text[TLS_TEXT_MAX_BYTES];

        tls.cert_file = argv[1];
        tls.key_file = argv[2];
        if (tls_context_open(&tls, &config.tls, text, sizeof text) < 0) {
            fprintf(stderr, "%s\n", text);
            return 1;
        }
    }
    if (uv_loop_init(&loop) < 0)
        return 1;
    config.app = &pipe;
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (grpc_server_new(&loop, &config, &server) < 0 ||
        grpc_server_listen(server, (struct sockaddr *)&address, argc == 3 ? GRPC_TLS : GRPC_PLAIN, &port) < 0)
        return 1;
    uv_pipe_init(&loop, &pipe, 0);
    pipe.data = server;
    if (uv_pipe_open(&pipe, 0) < 0 || uv_read_start((uv_stream_t *)&pipe, on_alloc, on_input) < 0)
        return 1;
    printf("%d\n", port);
    fflush(stdout);
    uv_run(&loop, UV_RUN_DEFAULT);
    grpc_server_free(server);
    tls_context_close(config.tls);
    return uv_loop_close(&loop) == 0 ? 0 : 1;
}
