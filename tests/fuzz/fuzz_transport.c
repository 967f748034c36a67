/* Whole connections of a peer from any bytes, over 127.0.0.1. The first byte says in how many pieces they come, and with bit 7
 * behind a good hello. The transport must end the connection when the peer's side ends, within a bound. */
#include "raft/message.h"
#include "raft/peer_frame.h"
#include "raft/transport.h"
#include "tests/fuzz/converse.h"

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

struct world {
    uv_loop_t loop;
    struct transport *transport;
    int port;
};

static void start(struct world *w)
{
    struct url url = {.scheme = URL_HTTP, .host = "127.0.0.1"};
    struct transport_options options = {.cluster_id = 7, .id = 1, .listen = &url, .n_listen = 1, .urls = "http://127.0.0.1:1",
                                        .election_ms = 1000, .receive = receive, .connected = no_peer,
                                        .disconnected = no_peer};
    char text[256];

    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    w->port = free_port();
    url.port = (uint16_t)w->port;
    FUZZ_MUST(transport_open(&w->loop, &options, &w->transport, text, sizeof(text)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world; /* a transport per input would be a hundred times slower */
    static bool started;
    struct bytes in, hello;

    if (!started)
        start(&world);
    started = true;
    if (size < 2)
        return 0;
    bytes_init(&in);
    bytes_init(&hello);
    if (data[0] & 0x80) {
        peer_hello_encode(&(struct peer_hello){1, 1, 7, 2, 1, slice_from_str("http://127.0.0.1:2")}, &hello);
        peer_frame_encode(&in, PEER_FRAME_HELLO, bytes_slice(&hello));
    }
    bytes_raw(&in, data + 1, size - 1);
    converse(&world.loop, converse_dial(world.port), bytes_slice(&in), data[0] % 8 + 1u);
    bytes_fini(&hello);
    bytes_fini(&in);
    return 0;
}
