/* Whole connections of a peer from any bytes, over 127.0.0.1. The first byte says in how many pieces they come, and with bit 7
 * behind a good hello; with bit 6 within a connection of TLS, with bit 5 too of which the last record is damaged, with bit 5 alone as
 * they are to an https URL; with bit 4 behind a good request for a checkpoint file instead of a hello. The transport must end the
 * connection when the peer's side ends, within a bound. */
#include "raft/message.h"
#include "raft/peer_frame.h"
#include "raft/transport.h"
#include "tests/fuzz/converse_tls.h"

#include <fcntl.h>

#define CHECKPOINT 5

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

static void no_program(void *ctx, uint64_t peer, uint32_t program)
{
}

static int open_checkpoint(void *ctx, uint64_t index, uint32_t crc)
{
    return index == CHECKPOINT ? open("/proc/self/exe", O_RDONLY | O_CLOEXEC) : -ENOENT;
}

static void lookup(void *ctx, struct slice urls, struct peer_answer *ret_answer)
{
    *ret_answer = (struct peer_answer){.version = PEER_PROTOCOL, .cluster_id = 7, .data_id = 8, .member_id = urls.len % 3};
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
    struct logger log;
    struct tls_context *server_tls, *client_tls;
    int plain, tls;
};

static void start(struct world *w)
{
    struct url urls[2] = {{.scheme = URL_HTTP, .host = "127.0.0.1"}, {.scheme = URL_HTTPS, .host = "127.0.0.1"}};
    struct transport_options options = {.cluster_id = 7, .id = 1, .listen = urls, .n_listen = 2, .urls = "http://127.0.0.1:1",
                                        .election_ms = 1000, .receive = receive, .connected = no_program,
                                        .disconnected = no_peer, .open_checkpoint = open_checkpoint, .lookup = lookup,
                                        .logger = &w->log};
    char text[256];

    w->log = (struct logger){.level = LOG_LEVEL_ERROR, .program = "fuzz"};
    converse_certs(false, &w->server_tls, &w->client_tls);
    options.tls = w->server_tls;
    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    w->plain = free_port();
    w->tls = free_port();
    urls[0].port = (uint16_t)w->plain;
    urls[1].port = (uint16_t)w->tls;
    FUZZ_MUST(transport_open(&w->loop, &options, &w->transport, text, sizeof(text)) == 0);
}

static void begin(uint8_t how, struct bytes *in)
{
    struct bytes hello, fetch;

    bytes_init(&hello);
    bytes_init(&fetch);
    peer_hello_encode(&(struct peer_hello){1, 1, 7, 2, 1, slice_from_str("http://127.0.0.1:2"), 0}, &hello);
    peer_fetch_encode(&(struct peer_fetch){.hello = bytes_slice(&hello), .index = CHECKPOINT}, &fetch);
    if (how & 0x10)
        peer_frame_encode(in, PEER_FRAME_FETCH, bytes_slice(&fetch));
    else if (how & 0x80)
        peer_frame_encode(in, PEER_FRAME_HELLO, bytes_slice(&hello));
    bytes_fini(&hello);
    bytes_fini(&fetch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world; /* a transport per input would be a hundred times slower */
    static bool started;
    struct bytes in;
    uint8_t how;

    if (!started)
        start(&world);
    started = true;
    if (size < 2)
        return 0;
    how = data[0];
    bytes_init(&in);
    begin(how, &in);
    bytes_raw(&in, data + 1, size - 1);
    if (how & 0x40)
        converse_by_tls(&world.loop, converse_dial(world.tls), world.client_tls, bytes_slice(&in), how % 8 + 1u, how & 0x20);
    else
        converse(&world.loop, converse_dial(how & 0x20 ? world.tls : world.plain), bytes_slice(&in), how % 8 + 1u);
    bytes_fini(&in);
    return 0;
}
