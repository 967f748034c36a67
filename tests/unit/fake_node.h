/* fake_node.h - the other end of a client's socket, in the test's own thread: it says what the test tells it to.
 *
 * Process: test programs.  Thread: one.  Errors: cmocka's assertions, also when 10 s pass without what is waited for.
 * Memory:  fake_close() frees all.  Units: milliseconds. */
#ifndef TESTS_UNIT_FAKE_NODE_H
#define TESTS_UNIT_FAKE_NODE_H

#include "tests/unit/wire_check.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/command.h"
#include "proto/socket.h"
#include "raft/client.h"
#include "tests/unit/temp_dir.h"

#define PATIENCE_MS 10000

struct fake {
    char dir[64];
    char path[80];
    int listen_fd, fd;
    struct client *client; /* runs while the fake waits; NULL once it is closed */
    struct bytes in;
    struct socket_head head; /* of the frame that was read last */
    struct bytes payload;
    int connected, disconnected, refused, leaders, revisions;
    uint64_t leader;
    int64_t revision;
    int close_in; /* which of the callbacks closes the client */
};

enum { CLOSE_NEVER, CLOSE_IN_CONNECTED, CLOSE_IN_LEADER, CLOSE_IN_REVISION, CLOSE_IN_DISCONNECTED, CLOSE_IN_REFUSED,
       CLOSE_IN_ANSWER };

static inline void fake_maybe_close(struct fake *f, int where)
{
    if (f->close_in != where || f->client == NULL)
        return;
    client_close(f->client);
    f->client = NULL;
}

static inline void fake_on_connected(void *ctx, const struct client_info *info)
{
    struct fake *f = ctx;

    assert_string_equal(info->name, "n1");
    assert_string_equal(info->store_dir, "/db");
    f->connected++;
    fake_maybe_close(f, CLOSE_IN_CONNECTED);
}

static inline void fake_on_disconnected(void *ctx)
{
    struct fake *f = ctx;

    f->disconnected++;
    fake_maybe_close(f, CLOSE_IN_DISCONNECTED);
}

static inline void fake_on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct fake *f = ctx;

    assert_true(revision > f->revision);
    f->revision = revision;
    f->revisions++;
    fake_maybe_close(f, CLOSE_IN_REVISION);
}

static inline void fake_on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct fake *f = ctx;

    f->leader = leader;
    f->leaders++;
    fake_maybe_close(f, CLOSE_IN_LEADER);
}

static inline void fake_on_refused(void *ctx, const char *text)
{
    struct fake *f = ctx;

    assert_string_equal(text, "go away");
    f->refused++;
    fake_maybe_close(f, CLOSE_IN_REFUSED);
}

static inline void fake_listen(struct fake *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, f->path);
    unlink(f->path);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(f->listen_fd >= 0);
    assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(f->listen_fd, 8), 0);
}

static inline void fake_open(struct fake *f)
{
    struct client_callbacks cb = {f, fake_on_connected, fake_on_disconnected, fake_on_revision, fake_on_leader,
                                  fake_on_refused};

    memset(f, 0, sizeof(*f));
    f->listen_fd = f->fd = -1;
    temp_dir(f->dir, sizeof(f->dir), "quorumfs-client");
    snprintf(f->path, sizeof(f->path), "%s/node.sock", f->dir);
    bytes_init(&f->in);
    bytes_init(&f->payload);
    assert_int_equal(client_open(f->path, "test", &cb, &f->client), 0);
}

static inline void fake_hang_up(struct fake *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    bytes_reset(&f->in);
}

static inline void fake_close(struct fake *f)
{
    if (f->client != NULL)
        client_close(f->client);
    fake_hang_up(f);
    if (f->listen_fd >= 0)
        close(f->listen_fd);
    unlink(f->path);
    rmdir(f->dir);
    bytes_fini(&f->in);
    bytes_fini(&f->payload);
}

/* Lets the client do what it can; waits a little for something to happen when nothing does. */
static inline void fake_turn(struct fake *f, uint64_t give_up_ms)
{
    struct pollfd p[3] = {{f->client != NULL ? client_fd(f->client) : -1, POLLIN, 0}, {f->fd, POLLIN, 0},
                          {f->listen_fd, f->fd < 0 ? POLLIN : 0, 0}};

    assert_true(client_now_ms() < give_up_ms);
    poll(p, 3, 100);
    if (p[0].revents != 0 && f->client != NULL)
        client_process(f->client);
}

#define FAKE_UNTIL(f, condition)                                                                                    \
    do {                                                                                                            \
        uint64_t give_up_ms_ = client_now_ms() + PATIENCE_MS;                                                       \
                                                                                                                    \
        while (!(condition))                                                                                        \
            fake_turn(f, give_up_ms_);                                                                              \
    } while (0)

static inline bool fake_fill(struct fake *f)
{
    uint8_t chunk[65536];
    ssize_t n = recv(f->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

    if (n > 0)
        bytes_raw(&f->in, chunk, (size_t)n);
    return n > 0;
}

static inline bool fake_have_frame(struct fake *f)
{
    while (fake_fill(f))
        ;
    if (socket_head_decode(bytes_slice(&f->in), SOCKET_FRAME_MAX_BYTES, &f->head) != 1)
        return false;
    return f->in.len >= SOCKET_HEAD_BYTES + f->head.payload_bytes;
}

/* The next frame, which must be of that type, in head and payload. */
static inline void fake_expect(struct fake *f, int type)
{
    size_t n;

    FAKE_UNTIL(f, fake_have_frame(f));
    assert_int_equal(f->head.type, type);
    n = SOCKET_HEAD_BYTES + f->head.payload_bytes;
    bytes_reset(&f->payload);
    bytes_raw(&f->payload, f->in.data + SOCKET_HEAD_BYTES, f->head.payload_bytes);
    memmove(f->in.data, f->in.data + n, f->in.len - n);
    f->in.len -= n;
}

/* Nothing has come that the client had sent by now. */
static inline void fake_expect_silence(struct fake *f)
{
    for (int i = 0; i < 3; i++) {
        if (f->client != NULL)
            client_process(f->client);
        assert_false(fake_have_frame(f));
    }
}

static inline void fake_raw(struct fake *f, const void *data, size_t len)
{
    assert_int_equal(send(f->fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void fake_send(struct fake *f, uint8_t type, uint64_t tag, struct slice payload)
{
    struct bytes b;

    bytes_init(&b);
    socket_frame(&b, type, tag, payload);
    fake_raw(f, b.data, b.len);
    bytes_fini(&b);
}

static inline void fake_accept(struct fake *f)
{
    FAKE_UNTIL(f, (f->fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
}

static inline struct bytes fake_welcome_bytes(int64_t revision)
{
    struct socket_welcome w = {SOCKET_VERSION, 1, 2, 3, 4, 5, revision, 100, 1000, slice_from_str("n1"),
                               slice_from_str("/db")};
    struct bytes b;

    bytes_init(&b);
    socket_welcome_encode(&w, &b);
    return b;
}

static inline void fake_welcome(struct fake *f)
{
    struct bytes b = fake_welcome_bytes(10);
    int before = f->connected;

    fake_expect(f, SOCKET_HELLO);
    fake_send(f, SOCKET_WELCOME, f->head.tag, bytes_slice(&b));
    bytes_fini(&b);
    FAKE_UNTIL(f, f->connected > before);
}

/* From nothing to a client that is connected. */
static inline void fake_start(struct fake *f)
{
    fake_open(f);
    fake_listen(f);
    fake_accept(f);
    fake_welcome(f);
}

static inline void fake_reconnect(struct fake *f)
{
    fake_hang_up(f);
    fake_accept(f);
    fake_welcome(f);
}

/* Answers the proposal that was read last, or the one with that tag. */
static inline void fake_answer_tag(struct fake *f, uint64_t tag, uint16_t status, const char *body)
{
    struct socket_proposed m = {status, 11, 4, slice_from_str(body)};
    struct bytes b;

    bytes_init(&b);
    socket_proposed_encode(&m, &b);
    fake_send(f, SOCKET_PROPOSED, tag, bytes_slice(&b));
    bytes_fini(&b);
}

static inline void fake_answer(struct fake *f, uint16_t status, const char *body)
{
    fake_answer_tag(f, f->head.tag, status, body);
}

/* The envelope of the proposal that was read last. */
static inline struct command fake_command(struct fake *f)
{
    struct command cmd;
    struct slice body;

    assert_int_equal(command_decode_envelope(bytes_slice(&f->payload), &cmd, &body), 0);
    return cmd;
}

#endif
