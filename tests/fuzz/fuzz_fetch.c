/* What a member is sent that fetches a checkpoint file, from any bytes: it dials a peer that answers with them. The first byte says in
 * how many pieces; with bit 7 they stand in good frames already: type, length (2 bytes), payload ..., with bit 6 a chunk's offset is
 * made the one that is waited for. What has come is at most the file that was announced, in order, and the fetching ends when it is
 * told to. */
#include <fcntl.h>
#include <sys/stat.h>

#include "raft/env.h"
#include "raft/peer_frame.h"
#include "raft/transport.h"
#include "tests/fuzz/converse.h"

#define FILE_BYTES 4096
#define BOUND_MS 5000

struct world {
    uv_loop_t loop;
    struct transport *transport;
    struct network network;
    struct logger log;
    int listener;
    char dir[100], file[120], url[64];
    bool fetched;
    int error;
};

static struct world world;

static int receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    return 0;
}

static void no_peer(void *ctx, uint64_t peer)
{
}

static void no_program(void *ctx, uint64_t peer, uint32_t program)
{
}

static void fetched(void *ctx, int error)
{
    FUZZ_MUST(!world.fetched);
    world.fetched = true;
    world.error = error;
}

static int listen_any(int *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    FUZZ_MUST(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, 16) == 0);
    FUZZ_MUST(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static void remove_world(void)
{
    unlink(world.file);
    rmdir(world.dir);
}

static void start(struct world *w)
{
    struct url url = {.scheme = URL_HTTP, .host = "127.0.0.1"};
    struct transport_options options = {.cluster_id = 7, .id = 1, .listen = &url, .n_listen = 1, .urls = "http://127.0.0.1:1",
                                        .election_ms = 1000, .receive = receive, .connected = no_program,
                                        .disconnected = no_peer, .fetched = fetched, .logger = &w->log};
    uint64_t id = 2;
    const char *urls[] = {w->url};
    char text[256];
    int port, own, fd;

    w->log = (struct logger){.level = LOG_LEVEL_ERROR, .program = "fuzz"};
    snprintf(w->dir, sizeof(w->dir), "%.70s/fuzz-fetch.XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    FUZZ_MUST(mkdtemp(w->dir) != NULL);
    snprintf(w->file, sizeof(w->file), "%s/file", w->dir);
    atexit(remove_world);
    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    fd = listen_any(&own);
    close(fd);
    url.port = (uint16_t)own;
    w->listener = listen_any(&port);
    snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%d", port);
    FUZZ_MUST(transport_open(&w->loop, &options, &w->transport, text, sizeof(text)) == 0);
    transport_table(w->transport, &w->network);
    w->network.set_peers(w->network.ctx, &id, urls, 1);
}

/* The next connection that begins with a frame of that type; others (those for messages) are closed. */
static int accept_fetch(struct world *w)
{
    uint64_t until = uv_hrtime() / 1000000 + BOUND_MS;

    for (;;) {
        uint8_t head[PEER_FRAME_HEAD_BYTES];
        struct peer_frame_head h;
        ssize_t n = 0;
        int fd = -1;

        while (fd < 0) {
            FUZZ_MUST(uv_hrtime() / 1000000 < until);
            uv_run(&w->loop, UV_RUN_NOWAIT);
            fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        }
        while (n < (ssize_t)sizeof(head) && uv_hrtime() / 1000000 < until) {
            uv_run(&w->loop, UV_RUN_NOWAIT);
            n = recv(fd, head, sizeof(head), MSG_PEEK);
            if (n == 0)
                break;
        }
        if (n == (ssize_t)sizeof(head) && peer_frame_head_decode(slice_make(head, sizeof(head)), UINT32_MAX >> 1, &h) == 1 &&
            h.type == PEER_FRAME_FETCH)
            return fd;
        close(fd);
    }
}

static void frame_all(uint8_t how, struct slice in, struct bytes *out)
{
    uint64_t at = 0;

    while (in.len >= 3) {
        size_t len = get_le16(in.data + 1), n = len < in.len - 3 ? len : in.len - 3;
        struct bytes payload = {0};

        if (how & 0x40 && in.data[0] % 16 == PEER_FRAME_CHUNK)
            bytes_u64(&payload, at);
        bytes_raw(&payload, in.data + 3, n);
        at += n;
        FUZZ_MUST(bytes_status(&payload) == 0);
        peer_frame_encode(out, in.data[0] % 16, bytes_slice(&payload));
        bytes_fini(&payload);
        in = slice_make(in.data + 3 + n, in.len - 3 - n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fetch f = {.from = 2, .index = 5, .bytes = FILE_BYTES, .crc = 9, .path = world.file};
    struct bytes out = {0};
    struct stat st;

    if (world.dir[0] == '\0')
        start(&world);
    if (size < 2)
        return 0;
    unlink(world.file);
    world.fetched = false;
    world.network.fetch(world.network.ctx, &f);
    if (data[0] & 0x80)
        frame_all(data[0], slice_make(data + 1, size - 1), &out);
    else
        bytes_raw(&out, data + 1, size - 1);
    converse(&world.loop, accept_fetch(&world), bytes_slice(&out), data[0] % 8 + 1u);
    FUZZ_MUST(stat(world.file, &st) == 0 && st.st_size <= FILE_BYTES);
    FUZZ_MUST(!world.fetched || world.error != 0 || st.st_size == FILE_BYTES);
    world.network.fetch_end(world.network.ctx);
    bytes_fini(&out);
    return 0;
}
