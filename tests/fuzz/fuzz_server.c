/* Whole connections of a front end to the node's local socket, from any bytes. The first byte says in how many pieces they come,
 * with bit 7 behind a good hello, and with bit 6 the fake node answers late or never. The server must end the connection when the
 * front end's side ends, within a bound; each request has then ended, once, or was cancelled. */
#include <string.h>
#include <sys/un.h>

#include "base/list.h"
#include "proto/socket.h"
#include "raft/socket_server.h"
#include "tests/fuzz/converse.h"

/* ---- a node that keeps what it is asked; the linker takes these in place of raft/node.c's ---- */

struct node {
    struct list proposals, barriers, leases, changes, maintains;
    bool lazy;
};

void node_propose(struct node *n, struct node_proposal *p)
{
    FUZZ_MUST(p->command_len > 0);
    list_push_back(&n->proposals, &p->link);
}

void node_proposal_cancel(struct node *n, struct node_proposal *p)
{
    list_remove(&p->link);
    free(p->take_command);
}

void node_barrier(struct node *n, struct node_barrier *b)
{
    list_push_back(&n->barriers, &b->link);
}

void node_barrier_cancel(struct node *n, struct node_barrier *b)
{
    list_remove(&b->link);
}

void node_lease(struct node *n, struct node_lease *l)
{
    list_push_back(&n->leases, &l->link);
}

void node_lease_cancel(struct node *n, struct node_lease *l)
{
    list_remove(&l->link);
}

void node_member_change(struct node *n, struct node_member_change *m)
{
    FUZZ_MUST(m->take_peer_urls != NULL);
    list_push_back(&n->changes, &m->link);
}

void node_member_change_cancel(struct node *n, struct node_member_change *m)
{
    list_remove(&m->link);
    free(m->take_peer_urls);
}

void node_maintain(struct node *n, struct node_maintain *m)
{
    list_push_back(&n->maintains, &m->link);
}

void node_maintain_cancel(struct node *n, struct node_maintain *m)
{
    list_remove(&m->link);
}

void node_status(const struct node *n, struct node_status *ret_status)
{
    *ret_status = (struct node_status){.id = 1, .cluster_id = 7, .leader = 1, .term = 5, .is_leader = true};
}

static void answer(struct node *n)
{
    while (!n->lazy && !list_empty(&n->proposals)) {
        struct node_proposal *p = LIST_ITEM(n->proposals.next, struct node_proposal, link);

        list_remove(&p->link);
        free(p->take_command);
        p->done(p, STATUS_OK, 3, slice_from_str("body"));
    }
    while (!n->lazy && !list_empty(&n->barriers)) {
        struct node_barrier *b = LIST_ITEM(n->barriers.next, struct node_barrier, link);

        list_remove(&b->link);
        b->done(b, STATUS_OK, 1, 3);
    }
    while (!n->lazy && !list_empty(&n->leases)) {
        struct node_lease *l = LIST_ITEM(n->leases.next, struct node_lease, link);

        list_remove(&l->link);
        l->done(l, STATUS_OK, 60, 59);
    }
    while (!n->lazy && !list_empty(&n->changes)) {
        struct node_member_change *m = LIST_ITEM(n->changes.next, struct node_member_change, link);
        struct socket_member_done done = {.status = STATUS_OK, .id = m->id};

        list_remove(&m->link);
        free(m->take_peer_urls);
        m->done(m, &done);
    }
    while (!n->lazy && !list_empty(&n->maintains)) {
        struct node_maintain *m = LIST_ITEM(n->maintains.next, struct node_maintain, link);

        list_remove(&m->link);
        m->done(m, STATUS_OK, 9, "/checkpoint");
    }
}

static bool node_has_nothing(const struct node *n)
{
    return list_empty(&n->proposals) && list_empty(&n->barriers) && list_empty(&n->leases) && list_empty(&n->changes) &&
           list_empty(&n->maintains);
}

/* ---- the server, for all inputs ---- */

struct world {
    uv_loop_t loop;
    uv_prepare_t turn;
    struct node node;
    struct socket_server *server;
    char path[100];
};

static void on_turn(uv_prepare_t *handle)
{
    answer(handle->data);
}

static void start(struct world *w)
{
    struct socket_server_options options = {.path = w->path, .name = "n", .store_dir = "/", .cluster_id = 7, .member_id = 1,
                                            .heartbeat_ms = 100, .election_ms = 1000, .node = &w->node};
    char text[256];

    list_init(&w->node.proposals);
    list_init(&w->node.barriers);
    list_init(&w->node.leases);
    list_init(&w->node.changes);
    list_init(&w->node.maintains);
    snprintf(w->path, sizeof(w->path), "%.60s/fuzz-server.%d", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp",
             (int)getpid());
    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    FUZZ_MUST(uv_prepare_init(&w->loop, &w->turn) == 0);
    w->turn.data = &w->node;
    uv_prepare_start(&w->turn, on_turn);
    FUZZ_MUST(socket_server_open(&w->loop, &options, &w->server, text, sizeof(text)) == 0);
}

static int dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    FUZZ_MUST(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    return fd;
}

static struct world world; /* a server per input would be a hundred times slower */

static void remove_socket(void)
{
    unlink(world.path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    struct bytes in, hello;
    uint64_t until;

    if (!started) {
        start(&world);
        atexit(remove_socket);
    }
    started = true;
    if (size < 2)
        return 0;
    bytes_init(&in);
    bytes_init(&hello);
    if (data[0] & 0x80) {
        socket_hello_encode(&(struct socket_hello){SOCKET_VERSION, slice_from_str("fuzz"), 1}, &hello);
        socket_frame(&in, SOCKET_HELLO, 1, bytes_slice(&hello));
    }
    bytes_raw(&in, data + 1, size - 1);
    world.node.lazy = data[0] & 0x40;
    converse(&world.loop, dial(world.path), bytes_slice(&in), data[0] % 8 + 1u);
    until = uv_hrtime() / 1000000 + CONVERSE_BOUND_MS;
    while (socket_server_counters(world.server).connections > 0) {
        FUZZ_MUST(uv_hrtime() / 1000000 < until);
        uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    FUZZ_MUST(socket_server_counters(world.server).requests == 0);
    FUZZ_MUST(node_has_nothing(&world.node));
    bytes_fini(&hello);
    bytes_fini(&in);
    return 0;
}
