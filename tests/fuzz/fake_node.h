/* fake_node.h - raft/client.h for a fuzz target: a node of one member in the same process, over a real store. The linker takes these
 * in place of raft/client*.c. What is asked waits in a list until node_answer(); writes are applied as a node applies them, and
 * with `refuse` each request ends with that status instead.
 *
 * Process: tests.  Thread: the loop's; workers read the store by transactions of their own.
 * Errors:  FUZZ_MUST.
 * Memory:  node_close() frees all.
 * Units:   milliseconds. */
#ifndef TESTS_FUZZ_FAKE_NODE_H
#define TESTS_FUZZ_FAKE_NODE_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "proto/command.h"
#include "raft/client.h"
#include "sidecar/store_share.h"
#include "store/store.h"
#include "tests/fuzz/fuzz.h"

enum question { ASK_PROPOSE, ASK_BARRIER, ASK_STATUS, ASK_KEEPALIVE, ASK_LEASE_TIME, ASK_MEMBER, ASK_MAINTAIN };

struct asked {
    struct list link;
    int64_t ticket;
    enum question question;
    uint16_t status; /* OK, or how it is to end */
    void (*fn)(void);
    void *arg;
    struct bytes command;
    uint16_t kind;
    int64_t lease;
    uint8_t op;
};

struct client { /* and the node behind it */
    struct client_callbacks cb;
    struct client_info info;
    struct list asked;
    struct arena arena;
    struct store *store;
    int fd;
    int64_t next_ticket, revision;
    uint64_t index;
    uint16_t refuse;
    bool changed; /* an entry was applied since node_seeded() */
    char file[160]; /* that a snapshot sends */
};

static struct client *node; /* the one there is; NULL: none */

/* ---- the store, which the line to the node reads too ---- */

struct store_share {
    int unused;
};

struct store_lease {
    int unused;
};

static struct store_lease the_lease;

struct store_share *store_share_new(void)
{
    return calloc(1, sizeof(struct store_share));
}

void store_share_free(struct store_share *s)
{
    free(s);
}

int store_share_open(struct store_share *s, const char *dir, uint64_t epoch, struct store_lease **ret_lease)
{
    *ret_lease = &the_lease;
    return 0;
}

struct store_lease *store_lease_ref(struct store_lease *l)
{
    return l;
}

void store_lease_unref(struct store_lease *l)
{
}

struct store *store_lease_store(const struct store_lease *l)
{
    return node->store;
}

uint64_t store_lease_epoch(const struct store_lease *l)
{
    return 1;
}

/* ---- applying ---- */

static void node_compact(struct client *c)
{
    struct store_batch *b;
    bool more = true;

    while (more) {
        FUZZ_MUST(store_batch_begin(c->store, &b) == 0);
        FUZZ_MUST(store_batch_compact(b, 1000, &more) == 0);
        FUZZ_MUST(store_batch_commit(b) == 0);
    }
}

/* Of a command that has passed the checks. */
static struct result node_apply(struct client *c, const struct command *cmd)
{
    struct store_batch *b;
    struct result result;
    bool fresh;

    c->index++;
    FUZZ_MUST(store_batch_begin(c->store, &b) == 0);
    FUZZ_MUST(store_apply(b, c->index, 1, 0, cmd, &c->arena, &result, &fresh) == 0 && fresh);
    FUZZ_MUST(store_batch_advance(b, c->index, 1) == 0);
    FUZZ_MUST(store_batch_commit(b) == 0);
    if (cmd->kind == COMMAND_COMPACT)
        node_compact(c);
    c->revision = result.revision;
    c->changed = true;
    return result;
}

static void answer_proposal(struct client *c, struct asked *a)
{
    struct client_answer answer = {.status = a->status, .revision = c->revision, .term = 1};
    struct command cmd;
    struct bytes body;

    bytes_init(&body);
    arena_reset(&c->arena);
    if (answer.status == STATUS_OK) {
        answer.status = STATUS_INVALID_REQUEST;
        if (command_decode(bytes_slice(&a->command), &c->arena, &cmd) == 0)
            answer.status = command_check(&cmd);
    }
    if (answer.status == STATUS_OK) {
        struct result result = node_apply(c, &cmd);

        result_encode(&result, &body);
        FUZZ_MUST(bytes_status(&body) == 0);
        answer.status = result.status;
        answer.revision = result.revision;
        answer.body = bytes_slice(&body);
        c->cb.on_revision(c->cb.ctx, 1, c->revision);
    }
    ((client_answer_fn)a->fn)(a->arg, &answer);
    bytes_fini(&body);
}

static int64_t ttl_of(struct client *c, int64_t lease)
{
    struct store_read *r;
    struct lease_info info = {0};

    FUZZ_MUST(store_read_begin(c->store, &r) == 0);
    if (store_lease_get(r, lease, &info) < 0)
        info.ttl_s = 0;
    store_read_end(r);
    return info.ttl_s;
}

static void answer_member(struct asked *a)
{
    struct socket_member_done done = {.status = a->status};

    if (a->status == STATUS_OK) {
        done.id = a->op == SOCKET_MEMBER_LIST ? 0 : 2;
        done.n_members = 2;
        done.members[0] = (struct socket_member){1, false, slice_from_str("n1"), slice_from_str("http://h:1"),
                                                 slice_from_str("http://h:2,http://h:3")};
        done.members[1] = (struct socket_member){.id = 2, .learner = true, .peer_urls = slice_from_str("http://i:1")};
    }
    ((client_member_fn)a->fn)(a->arg, &done);
}

static void answer_maintain(struct client *c, struct asked *a)
{
    struct socket_maintain_done done = {.status = a->status};

    if (a->status == STATUS_OK && a->op == SOCKET_MAINTAIN_CHECKPOINT) {
        done.index = 5;
        done.path = slice_from_str(c->file);
    }
    ((client_maintain_fn)a->fn)(a->arg, &done);
}

#define STATUS_JSON                                                                                                     \
    "{\"member_id\":\"0x1\",\"commit_index\":9,\"members\":[{\"id\":\"0x1\",\"voter\":true}]}"

static void answer(struct client *c, struct asked *a)
{
    const uint16_t ok = a->status;
    int64_t ttl;

    switch (a->question) {
    case ASK_PROPOSE:
        answer_proposal(c, a);
        break;
    case ASK_BARRIER:
        ((client_barrier_fn)a->fn)(a->arg, ok, 1, c->revision);
        break;
    case ASK_STATUS:
        ((client_status_fn)a->fn)(a->arg, ok, ok == STATUS_OK ? slice_from_str(STATUS_JSON) : slice_make(NULL, 0));
        break;
    case ASK_KEEPALIVE:
        ttl = ttl_of(c, a->lease);
        ((client_keepalive_fn)a->fn)(a->arg, ok == STATUS_OK && ttl == 0 ? STATUS_LEASE_NOT_FOUND : ok, ttl);
        break;
    case ASK_LEASE_TIME:
        ttl = ttl_of(c, a->lease);
        ((client_lease_time_fn)a->fn)(a->arg, ok == STATUS_OK && ttl == 0 ? STATUS_LEASE_NOT_FOUND : ok, ttl, ttl);
        break;
    case ASK_MEMBER:
        answer_member(a);
        break;
    default:
        answer_maintain(c, a);
        break;
    }
}

static void asked_free(struct asked *a)
{
    bytes_fini(&a->command);
    free(a);
}

static bool node_answer(struct client *c)
{
    struct asked *a;

    if (list_empty(&c->asked))
        return false;
    a = LIST_ITEM(c->asked.next, struct asked, link);
    list_remove(&a->link); /* its callback may ask, and cancel others */
    answer(c, a);
    asked_free(a);
    return true;
}

/* ---- asking ---- */

static struct asked *ask_node(struct client *c, enum question question, void (*fn)(void), void *arg)
{
    struct asked *a = calloc(1, sizeof(*a));

    FUZZ_MUST(a != NULL && c != NULL);
    *a = (struct asked){.question = question, .fn = fn, .arg = arg, .status = c->refuse, .ticket = ++c->next_ticket};
    list_push_back(&c->asked, &a->link);
    return a;
}

#define FN(fn) ((void (*)(void))(fn))

int64_t client_propose_raw(struct client *c, uint16_t kind, struct slice user, struct slice body, unsigned flags,
                           uint64_t deadline_ms, client_answer_fn fn, void *arg)
{
    struct asked *a = ask_node(c, ASK_PROPOSE, FN(fn), arg);
    struct command cmd = {.kind = kind, .user = user, .origin = 1, .request = (uint64_t)a->ticket, .time_ns = 1000};

    command_encode_raw(&cmd, body, &a->command);
    FUZZ_MUST(bytes_status(&a->command) == 0);
    a->kind = kind;
    return a->ticket;
}

int64_t client_barrier(struct client *c, uint64_t deadline_ms, client_barrier_fn fn, void *arg)
{
    return ask_node(c, ASK_BARRIER, FN(fn), arg)->ticket;
}

int64_t client_status(struct client *c, uint64_t deadline_ms, client_status_fn fn, void *arg)
{
    return ask_node(c, ASK_STATUS, FN(fn), arg)->ticket;
}

int64_t client_keepalive(struct client *c, int64_t lease, uint64_t deadline_ms, client_keepalive_fn fn, void *arg)
{
    struct asked *a = ask_node(c, ASK_KEEPALIVE, FN(fn), arg);

    a->lease = lease;
    return a->ticket;
}

int64_t client_lease_time(struct client *c, int64_t lease, uint64_t deadline_ms, client_lease_time_fn fn, void *arg)
{
    struct asked *a = ask_node(c, ASK_LEASE_TIME, FN(fn), arg);

    a->lease = lease;
    return a->ticket;
}

/* What goes to the node must be as its socket takes it. */
int64_t client_member(struct client *c, const struct socket_member_change *change, uint64_t deadline_ms,
                      client_member_fn fn, void *arg)
{
    struct asked *a = ask_node(c, ASK_MEMBER, FN(fn), arg);
    struct socket_member_change decoded;

    socket_member_change_encode(change, &a->command);
    FUZZ_MUST(bytes_status(&a->command) == 0);
    if (socket_member_change_decode(bytes_slice(&a->command), &decoded) < 0)
        a->status = STATUS_INVALID_REQUEST;
    a->op = change->op;
    return a->ticket;
}

int64_t client_maintain(struct client *c, const struct socket_maintain *maintain, uint64_t deadline_ms,
                        client_maintain_fn fn, void *arg)
{
    struct asked *a = ask_node(c, ASK_MAINTAIN, FN(fn), arg);

    a->op = maintain->op;
    return a->ticket;
}

void client_cancel(struct client *c, int64_t ticket)
{
    LIST_FOREACH(it, &c->asked)
    {
        struct asked *a = LIST_ITEM(it, struct asked, link);

        if (a->ticket == ticket) {
            list_remove(&a->link);
            asked_free(a);
            return;
        }
    }
    FUZZ_MUST(!"a request was cancelled that was not under way");
}

int client_result(uint16_t kind, const struct client_answer *a, struct arena *arena, struct result *ret_result)
{
    return result_decode(kind, a->body, arena, ret_result);
}

/* ---- the line ---- */

uint64_t client_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int client_open(const char *socket_path, const char *program, const struct client_callbacks *callbacks,
                struct client **ret_client)
{
    node->cb = *callbacks;
    *ret_client = node;
    return 0;
}

void client_close(struct client *c)
{
    while (!list_empty(&c->asked)) {
        LIST_ITEM(c->asked.next, struct asked, link)->status = STATUS_STOPPED;
        node_answer(c);
    }
}

int client_fd(const struct client *c)
{
    return c->fd;
}

void client_process(struct client *c)
{
}

bool client_connected(const struct client *c)
{
    return true;
}

uint64_t client_leader(const struct client *c)
{
    return 1;
}

uint64_t client_term(const struct client *c)
{
    return 1;
}

void client_revision(const struct client *c, uint64_t *ret_epoch, int64_t *ret_revision)
{
    *ret_epoch = 1;
    *ret_revision = c->revision;
}

/* ---- a node with something in its store ---- */

static void node_put(struct client *c, const char *key, const char *value, int64_t lease)
{
    struct command cmd = {.kind = COMMAND_PUT, .time_ns = 1000};

    cmd.put = (struct op_put){.key = slice_from_str(key), .value = slice_from_str(value), .lease = lease};
    node_apply(c, &cmd);
}

static void node_seed(struct client *c)
{
    struct command grant = {.kind = COMMAND_LEASE_GRANT, .time_ns = 1000};
    struct command del = {.kind = COMMAND_DELETE_RANGE, .time_ns = 1000};
    struct command compact = {.kind = COMMAND_COMPACT, .time_ns = 1000};

    grant.lease = (struct lease_op){.id = 7, .ttl_s = 60};
    node_apply(c, &grant);
    node_put(c, "/a", "1", 0);
    node_put(c, "/a", "2", 7);
    node_put(c, "/a/b", "3", 7);
    node_put(c, "b", "4", 0);
    node_put(c, "lock/7", "", 7); /* somebody is in front of whoever queues here */
    del.del.key = slice_from_str("b");
    node_apply(c, &del);
    compact.compact.revision = 3;
    node_apply(c, &compact);
    c->changed = false;
}

static void node_open(const char *dir)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 64u << 20};
    char path[128];
    FILE *f;

    node = calloc(1, sizeof(*node));
    FUZZ_MUST(node != NULL);
    list_init(&node->asked);
    arena_init(&node->arena);
    node->refuse = STATUS_OK;
    snprintf(path, sizeof(path), "%s/store", dir);
    FUZZ_MUST(store_open(path, &options, &node->store) == 0);
    node->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    FUZZ_MUST(node->fd >= 0);
    node->info = (struct client_info){7, 1, 100, 1000, "n1", "/store"};
    snprintf(node->file, sizeof(node->file), "%s/file", dir);
    f = fopen(node->file, "w");
    FUZZ_MUST(f != NULL && fputs("of a checkpoint", f) >= 0 && fclose(f) == 0);
    node_seed(node);
}

static void node_close(const char *dir)
{
    static const char *const files[] = {"store/env.1/data.mdb", "store/env.1/lock.mdb", "store/CURRENT", "file"};
    char path[160];

    store_close(node->store);
    close(node->fd);
    arena_fini(&node->arena);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/store/env.1", dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/store", dir);
    rmdir(path);
    free(node);
    node = NULL;
}

#endif
