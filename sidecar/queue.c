#include "sidecar/queue.h"

#include "proto/command.h"
#include "sidecar/lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SESSION_TTL_S 60 /* of etcd's concurrency sessions */
#define FIRST_READ_MAX_BYTES (64u * 1024 * 1024)

void queue_fail(struct grpc_call *call, uint16_t status)
{
    enum grpc_code code = status_grpc_code(status);

    grpc_finish(call, code == GRPC_UNAVAILABLE || code == GRPC_RESOURCE_EXHAUSTED ? code : GRPC_UNKNOWN, status_text(status));
}

int queue_first(struct store_read *r, struct slice prefix, struct arena *arena, struct kv *ret_kv, bool *ret_found)
{
    struct op_range op = {.key = prefix, .limit = 1, .sort_order = SORT_ASCEND, .sort_target = SORT_BY_CREATE};
    struct range_result result;
    uint16_t status;
    int rc = turn_prefix_end(prefix, arena, &op.range_end);

    if (rc == 0)
        rc = store_range(r, &op, arena, FIRST_READ_MAX_BYTES, &result, &status);
    if (rc == 0 && status != STATUS_OK)
        rc = -E2BIG;
    if (rc < 0)
        return rc;
    *ret_found = result.n_kvs > 0;
    if (*ret_found)
        *ret_kv = result.kvs[0];
    return 0;
}

/* ---- changing a key that is still ours ---- */

static struct op change_op(struct slice key, struct slice value, int64_t lease)
{
    struct op op = {.kind = OP_DELETE};

    if (lease < 0) {
        op.del.key = key;
    } else {
        op.kind = OP_PUT;
        op.put = (struct op_put){.key = key, .value = value, .lease = lease};
    }
    return op;
}

static void encode_change(struct slice key, int64_t created, struct op *op, struct op *otherwise, struct bytes *out)
{
    struct op_compare compare = {.result = COMPARE_EQUAL, .target = COMPARE_CREATE, .key = key, .number = created};
    struct txn txn = {.compares = &compare,
                      .n_compares = 1,
                      .success = op,
                      .n_success = 1,
                      .failure = otherwise,
                      .n_failure = otherwise != NULL};

    etcd_txn_encode(&txn, out);
}

bool queue_change(struct ask *a, struct slice key, int64_t created, struct slice value, int64_t lease, client_answer_fn fn)
{
    struct op op = change_op(key, value, lease);
    struct bytes body;
    bool sent = false;

    if (key.len == 0) {
        queue_fail(a->call, STATUS_EMPTY_KEY);
        return false;
    }
    bytes_init(&body);
    encode_change(key, created, &op, NULL, &body);
    if (bytes_status(&body) < 0)
        ask_no_memory(a->call);
    else
        sent = ask_propose(a, COMMAND_TXN, bytes_slice(&body), fn);
    bytes_fini(&body);
    return sent;
}

bool queue_changed(struct ask *a, const struct client_answer *answer, bool *ret_held)
{
    struct result result;
    struct arena arena;
    int rc;

    ask_done(a);
    if (answer->status != STATUS_OK) {
        queue_fail(a->call, answer->status);
        return false;
    }
    arena_init(&arena);
    rc = client_result(COMMAND_TXN, answer, &arena, &result);
    if (rc == 0)
        *ret_held = result.txn.succeeded;
    arena_fini(&arena);
    if (rc < 0)
        grpc_finish(a->call, GRPC_INTERNAL, "quorumfs: the node's answer is not understood");
    return rc == 0;
}

/* ---- leaving ---- */

static void on_ignored(void *arg, const struct client_answer *answer)
{
}

/* The caller is gone: nobody hears how that ends, and if it does not, the lease's end takes the key. */
void queue_take_back(struct queue_entry *q)
{
    struct op op = change_op(bytes_slice(&q->key), slice_make(NULL, 0), -1);
    struct node_line *line = q->ask.app->line;
    struct bytes body;

    if (node_line_client(line) == NULL)
        return;
    bytes_init(&body);
    encode_change(bytes_slice(&q->key), q->created, &op, NULL, &body);
    if (bytes_status(&body) == 0)
        client_propose_raw(node_line_client(line), COMMAND_TXN, slice_make(NULL, 0), bytes_slice(&body), 0,
                           node_line_deadline_ms(line), on_ignored, NULL);
    node_line_touch(line);
    bytes_fini(&body);
}

static void entry_free(struct queue_entry *q)
{
    bytes_fini(&q->name);
    bytes_fini(&q->prefix);
    bytes_fini(&q->key);
    bytes_fini(&q->value);
    free(q);
}

void queue_end(struct grpc_call *call)
{
    struct queue_entry *q = grpc_state(call);
    bool answered;

    if (q == NULL)
        return;
    answered = q->turn.app == NULL || q->turn.watches == NULL;
    turn_cancel(&q->turn);
    q->ask.call = NULL;
    if (q->ask.ticket > 0 && q->created == 0)
        return; /* on_entered() sees to it: only then is it known whether there is a key */
    if (!answered || q->ask.ticket > 0)
        queue_take_back(q);
    ask_cancel(&q->ask);
    entry_free(q);
}

/* ---- entering ---- */

static void on_front(struct turn *t, uint16_t status)
{
    struct queue_entry *q = LIST_ITEM(t, struct queue_entry, turn);

    q->waited = t->waited;
    if (status == STATUS_OK) {
        q->front(q);
        return;
    }
    queue_take_back(q);
    queue_fail(q->ask.call, status);
}

static void wait_for_turn(struct queue_entry *q)
{
    turn_wait(&q->turn, q->ask.call, bytes_slice(&q->prefix), q->created, on_front);
}

static void on_value_changed(void *arg, const struct client_answer *answer)
{
    struct queue_entry *q = arg;
    bool held;

    if (!queue_changed(&q->ask, answer, &held))
        return;
    if (held)
        wait_for_turn(q);
    else
        grpc_finish(q->ask.call, GRPC_UNKNOWN, "election: not leader");
}

/* What the txn that put the key, or found it, came to. 1: the key had another value. */
static int take_answer(struct queue_entry *q, const struct client_answer *answer, bool *ret_put)
{
    struct result result;
    struct arena arena;
    int rc;

    arena_init(&arena);
    rc = client_result(COMMAND_TXN, answer, &arena, &result);
    if (rc == 0 && (result.txn.n_ops != 1 || (!result.txn.succeeded && result.txn.ops[0].range.n_kvs != 1)))
        rc = -EBADMSG;
    if (rc == 0) {
        *ret_put = result.txn.succeeded;
        q->revision = q->created = answer->revision;
        if (!result.txn.succeeded) {
            const struct kv *kv = &result.txn.ops[0].range.kvs[0];

            q->created = kv->create_revision;
            rc = slice_equal(kv->value, bytes_slice(&q->value)) ? 0 : 1;
        }
    }
    arena_fini(&arena);
    return rc;
}

static void on_entered(void *arg, const struct client_answer *answer)
{
    struct queue_entry *q = arg;
    bool was_put = false;
    int rc;

    ask_done(&q->ask);
    rc = answer->status == STATUS_OK ? take_answer(q, answer, &was_put) : 0;
    if (q->ask.call == NULL) {
        if (rc == 0 && was_put)
            queue_take_back(q);
        entry_free(q);
    } else if (answer->status != STATUS_OK) {
        queue_fail(q->ask.call, answer->status);
    } else if (rc < 0) {
        grpc_finish(q->ask.call, GRPC_INTERNAL, "quorumfs: the node's answer is not understood");
    } else if (rc == 1) {
        queue_change(&q->ask, bytes_slice(&q->key), q->created, bytes_slice(&q->value), q->lease, on_value_changed);
    } else {
        wait_for_turn(q);
    }
}

static void put_key(struct queue_entry *q)
{
    struct op op = {.kind = OP_PUT}, otherwise = {.kind = OP_RANGE};
    struct bytes body;
    char hex[24];

    snprintf(hex, sizeof hex, q->lease < 0 ? "-%llx" : "%llx",
             (unsigned long long)(q->lease < 0 ? 0 - (uint64_t)q->lease : (uint64_t)q->lease)); /* Go's %x of an int64 */
    bytes_append(&q->key, bytes_slice(&q->prefix));
    bytes_append(&q->key, slice_from_str(hex));
    bytes_init(&body);
    op.put = (struct op_put){.key = bytes_slice(&q->key), .value = bytes_slice(&q->value), .lease = q->lease};
    otherwise.range.key = bytes_slice(&q->key);
    encode_change(bytes_slice(&q->key), 0, &op, &otherwise, &body);
    if (bytes_status(&q->key) < 0 || bytes_status(&body) < 0)
        ask_no_memory(q->ask.call);
    else if (q->key.len > KEY_MAX_BYTES)
        queue_fail(q->ask.call, STATUS_TOO_LARGE);
    else
        ask_propose(&q->ask, COMMAND_TXN, bytes_slice(&body), on_entered);
    bytes_fini(&body);
}

static void on_granted(void *arg, const struct client_answer *answer)
{
    struct queue_entry *q = arg;

    ask_done(&q->ask);
    if (q->ask.call == NULL)
        entry_free(q);
    else if (answer->status != STATUS_OK)
        queue_fail(q->ask.call, answer->status);
    else
        put_key(q);
}

static void grant_lease(struct queue_entry *q)
{
    struct bytes body;

    bytes_init(&body);
    q->lease = lease_new_id();
    lease_grant_encode(q->lease, SESSION_TTL_S, &body);
    if (q->lease == 0 || bytes_status(&body) < 0)
        ask_no_memory(q->ask.call);
    else
        ask_propose(&q->ask, COMMAND_LEASE_GRANT, bytes_slice(&body), on_granted);
    bytes_fini(&body);
}

void queue_enter(struct grpc_call *call, struct slice name, int64_t lease, struct slice value,
                 void (*front)(struct queue_entry *q))
{
    struct queue_entry *q = ask_begin(call, sizeof *q);

    if (q == NULL)
        return;
    q->front = front;
    q->lease = lease;
    bytes_append(&q->name, name);
    bytes_append(&q->prefix, name);
    bytes_u8(&q->prefix, '/');
    bytes_append(&q->value, value);
    if (bytes_status(&q->name) < 0 || bytes_status(&q->prefix) < 0 || bytes_status(&q->value) < 0)
        ask_no_memory(call);
    else if (lease == 0)
        grant_lease(q);
    else
        put_key(q);
}
