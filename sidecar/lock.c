/* lock.c - v3lockpb.Lock: a lock is the key in front below NAME/ (queue.h). */
#include "proto/wire.h"
#include "sidecar/queue.h"

#include <errno.h>
#include <stdlib.h>

static void answer_lock(struct queue_entry *q)
{
    struct bytes body;

    bytes_init(&body);
    bytes_u8(&body, 2 << 3 | WIRE_BYTES);
    bytes_varint_slice(&body, bytes_slice(&q->key));
    if (bytes_status(&body) < 0)
        ask_no_memory(q->ask.call);
    else
        answer_unary(q->ask.app, q->ask.call, q->revision, 0, bytes_slice(&body));
    bytes_fini(&body);
}

/* The key may have gone with its lease while it waited: read again, behind a barrier, before it is said to be held. */
static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct queue_entry *q = arg;
    struct node_stat stat = {.type = NODE_NONE};
    struct store_read *r = node_line_read(q->ask.app->line);

    ask_done(&q->ask);
    if (status == STATUS_OK && (r == NULL || epoch > node_line_epoch(q->ask.app->line)))
        status = STATUS_TIMEOUT;
    if (status == STATUS_OK && store_stat_key(r, bytes_slice(&q->key), &stat) < 0)
        status = STATUS_TIMEOUT;
    if (status != STATUS_OK) {
        queue_take_back(q);
        queue_fail(q->ask.call, status);
    } else if (stat.type == NODE_NONE || stat.create.main != q->created) {
        grpc_finish(q->ask.call, GRPC_UNKNOWN, "mutex: session is expired");
    } else {
        q->revision = store_read_revision(r);
        answer_lock(q);
    }
}

static void on_front(struct queue_entry *q)
{
    struct node_line *line = q->ask.app->line;

    if (!q->waited) {
        answer_lock(q);
        return;
    }
    ask_waits(&q->ask, client_barrier(node_line_client(line), node_line_deadline_ms(line), on_barrier, q));
}

static void lock_message(struct grpc_call *call, struct slice message)
{
    struct reader r = reader_make(message);
    struct slice name = slice_make(NULL, 0);
    struct wire_field f;
    int64_t lease = 0;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            wire_get_bytes(&r, &f, &name);
        else if (f.number == 2)
            lease = wire_get_int(&r, &f);
    }
    if (reader_status(&r) < 0)
        ask_malformed(call);
    else if (!ask_refused(call))
        queue_enter(call, name, lease, slice_make(NULL, 0), on_front);
}

static void on_unlocked(void *arg, const struct client_answer *answer)
{
    struct ask *a = arg;

    ask_done(a);
    if (answer->status != STATUS_OK)
        queue_fail(a->call, answer->status);
    else
        answer_unary(a->app, a->call, answer->revision, answer->term, slice_make(NULL, 0));
}

static void unlock_message(struct grpc_call *call, struct slice message)
{
    struct reader r = reader_make(message);
    struct op_delete op = {0};
    struct wire_field f;
    struct bytes body;
    struct ask *a;

    while (wire_next(&r, &f))
        if (f.number == 1)
            wire_get_bytes(&r, &f, &op.key);
    if (reader_status(&r) < 0) {
        ask_malformed(call);
        return;
    }
    if (ask_refused(call))
        return;
    if (op.key.len == 0) {
        queue_fail(call, STATUS_EMPTY_KEY);
        return;
    }
    a = ask_begin(call, sizeof *a);
    if (a == NULL)
        return;
    bytes_init(&body);
    etcd_delete_encode(&op, &body);
    if (bytes_status(&body) < 0)
        ask_no_memory(call);
    else
        ask_propose(a, COMMAND_DELETE_RANGE, bytes_slice(&body), on_unlocked);
    bytes_fini(&body);
}

const struct grpc_method lock_lock = {
    .path = "/v3lockpb.Lock/Lock", .kind = GRPC_UNARY, .message = lock_message, .end = queue_end};
const struct grpc_method lock_unlock = {
    .path = "/v3lockpb.Lock/Unlock", .kind = GRPC_UNARY, .message = unlock_message, .end = ask_end};
