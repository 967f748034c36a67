/* Whole connections from any bytes, over 127.0.0.1, as the network has them: the first byte says whether the gRPC server
 * (HTTP/2 and HTTP/1.1) or the peer transport gets the rest, and in how many pieces. The server must end the connection when
 * the client's side ends, within a bound, and hold nothing of it afterwards. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>
#include <uv.h>

#include "raft/message.h"
#include "raft/transport.h"
#include "sidecar/grpc.h"
#include "tests/fuzz/fuzz.h"

#define BOUND_MS 5000

/* ---- the gRPC server's services ---- */

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

/* ---- the node behind the transport ---- */

static int receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    struct peer_message m;
    struct arena arena;
    int rc;

    arena_init(&arena);
    rc = peer_message_decode(type, payload, &arena, &m);
    arena_fini(&arena);
    return rc;
}

static void no_peer(void *ctx, uint64_t peer)
{
}

/* ---- both, for all inputs ---- */

struct world {
    uv_loop_t loop;
    struct grpc_server *grpc;
    struct transport *transport;
    int ports[2];
};

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    FUZZ_MUST(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0);
    FUZZ_MUST(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void start(struct world *w)
{
    static const struct grpc_method echo = {.path = "/test.T/Echo", .kind = GRPC_UNARY, .message = echo_message, .end = nothing};
    static const struct grpc_method stream = {.path = "/test.T/Stream", .kind = GRPC_STREAM, .start = nothing,
                                              .message = stream_message, .half_close = stream_half_close, .end = nothing};
    static const struct grpc_method *const methods[] = {&echo, &stream, NULL};
    struct grpc_config config = {.methods = methods, .page = page};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct url url = {.scheme = URL_HTTP, .host = "127.0.0.1"};
    struct transport_options options = {.cluster_id = 7, .id = 1, .listen = &url, .n_listen = 1, .urls = "http://127.0.0.1:1",
                                        .election_ms = 1000, .receive = receive, .connected = no_peer,
                                        .disconnected = no_peer};
    char text[256];

    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    FUZZ_MUST(grpc_server_new(&w->loop, &config, &w->grpc) == 0);
    FUZZ_MUST(grpc_server_listen(w->grpc, (struct sockaddr *)&at, &w->ports[0]) == 0);
    w->ports[1] = free_port();
    url.port = (uint16_t)w->ports[1];
    FUZZ_MUST(transport_open(&w->loop, &options, &w->transport, text, sizeof(text)) == 0);
}

static int dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int rc = connect(fd, (struct sockaddr *)&at, sizeof(at));

    FUZZ_MUST(fd >= 0 && (rc == 0 || errno == EINPROGRESS));
    return fd;
}

static bool turn(struct world *w, int fd)
{
    uint8_t buf[65536];
    ssize_t n;

    uv_run(&w->loop, UV_RUN_NOWAIT);
    n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN);
}

static void converse(struct world *w, int port, struct slice in, size_t pieces)
{
    int fd = dial(port);
    size_t step = in.len / pieces + 1, at = 0;
    uint64_t until = uv_hrtime() / 1000000 + BOUND_MS;
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
        ended = turn(w, fd);
    }
    close(fd);
    while (grpc_server_counters(w->grpc)->conns_open > 0) {
        FUZZ_MUST(uv_hrtime() / 1000000 < until);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    FUZZ_MUST(grpc_server_counters(w->grpc)->calls_open == 0);
    FUZZ_MUST(grpc_server_counters(w->grpc)->input_bytes == 0);
    FUZZ_MUST(grpc_server_counters(w->grpc)->output_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world; /* a server per input would be a hundred times slower */
    static bool started;

    if (!started)
        start(&world);
    started = true;
    if (size < 2)
        return 0;
    converse(&world, world.ports[data[0] & 1], slice_make(data + 1, size - 1), (data[0] >> 1) % 8 + 1);
    return 0;
}
