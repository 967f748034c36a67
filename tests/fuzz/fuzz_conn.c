/* Whole connections to the gRPC server (HTTP/2 and HTTP/1.1) from any bytes, over 127.0.0.1, as the network has them. The first
 * byte says in how many pieces they come; with bit 7 within a connection of TLS, with bits 7 and 6 of which the last record is
 * damaged; with bit 6 alone as they are to an address of both http and https, with bit 5 too to one of https alone. The server must
 * end the connection when the client's side ends, within a bound, and hold nothing of it afterwards. */
#include "sidecar/grpc.h"
#include "tests/fuzz/converse_tls.h"

static void echo_message(struct grpc_call *call, struct slice message)
{
    grpc_send_bytes(call, slice_make(NULL, 0), message);
    grpc_finish(call, GRPC_OK, NULL);
}

static void stream_message(struct grpc_call *call, struct slice message)
{
    grpc_send_bytes(call, slice_from_str("<"), message);
}

static void stream_half_close(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static void nothing(struct grpc_call *call)
{
}

static void page(void *app, const struct http_request *request, struct http_reply *reply)
{
    reply->status = 200;
    reply->content_type = "text/plain";
    bytes_append(&reply->body, request->path);
    bytes_append(&reply->body, request->query);
}

struct world {
    uv_loop_t loop;
    struct logger log;
    struct grpc_server *grpc;
    struct tls_context *server_tls, *client_tls;
    int plain, tls, both;
};

static void start(struct world *w)
{
    static const struct grpc_method echo = {.path = "/test.T/Echo", .kind = GRPC_UNARY, .message = echo_message, .end = nothing};
    static const struct grpc_method stream = {.path = "/test.T/Stream", .kind = GRPC_STREAM, .start = nothing,
                                              .message = stream_message, .half_close = stream_half_close, .end = nothing};
    static const struct grpc_method *const methods[] = {&echo, &stream, NULL};
    struct grpc_config config = {.methods = methods, .page = page, .log = &w->log};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    w->log = (struct logger){.level = LOG_LEVEL_ERROR, .program = "fuzz"};
    converse_certs(true, &w->server_tls, &w->client_tls);
    config.tls = w->server_tls;
    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    FUZZ_MUST(grpc_server_new(&w->loop, &config, &w->grpc) == 0);
    FUZZ_MUST(grpc_server_listen(w->grpc, (struct sockaddr *)&at, GRPC_PLAIN, &w->plain) == 0);
    FUZZ_MUST(grpc_server_listen(w->grpc, (struct sockaddr *)&at, GRPC_TLS, &w->tls) == 0);
    FUZZ_MUST(grpc_server_listen(w->grpc, (struct sockaddr *)&at, GRPC_PLAIN | GRPC_TLS, &w->both) == 0);
}

static void talk(struct world *w, uint8_t how, struct slice in)
{
    size_t pieces = how % 8 + 1u;

    if (how & 0x80)
        converse_by_tls(&w->loop, converse_dial(w->tls), w->client_tls, in, pieces, how & 0x40);
    else
        converse(&w->loop, converse_dial(how & 0x40 ? how & 0x20 ? w->tls : w->both : w->plain), in, pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world; /* a server per input would be a hundred times slower */
    static bool started;
    const struct grpc_counters *counters;
    uint64_t until;

    if (!started)
        start(&world);
    started = true;
    if (size < 2)
        return 0;
    talk(&world, data[0], slice_make(data + 1, size - 1));
    counters = grpc_server_counters(world.grpc);
    until = uv_hrtime() / 1000000 + CONVERSE_BOUND_MS;
    while (counters->conns_open > 0) {
        FUZZ_MUST(uv_hrtime() / 1000000 < until);
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    FUZZ_MUST(counters->calls_open == 0 && counters->input_bytes == 0 && counters->output_bytes == 0);
    return 0;
}
