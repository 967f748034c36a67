/* txn.c - etcdserverpb.KV/Txn: one that only reads waits for a barrier, if it has to, and reads; any other is proposed. */
#include "sidecar/txn.h"

#include "proto/command.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

/* ---- what it is ---- */

static bool ops_only_read(const struct op *ops, size_t n, bool *serializable)
{
    for (size_t i = 0; i < n; i++) {
        bool nested = true;

        if (ops[i].kind == OP_RANGE) {
            *serializable = *serializable && ops[i].range.serializable;
        } else if (ops[i].kind == OP_TXN && txn_is_read_only(ops[i].txn, &nested)) {
            *serializable = *serializable && nested;
        } else {
            return false;
        }
    }
    return true;
}

bool txn_is_read_only(const struct txn *txn, bool *ret_serializable)
{
    *ret_serializable = true;
    return ops_only_read(txn->success, txn->n_success, ret_serializable) &&
           ops_only_read(txn->failure, txn->n_failure, ret_serializable);
}

/* ---- compares, with etcd's meaning: all keys of a range, and none counts as 0, but as no value ---- */

struct comparing {
    const struct op_compare *compare;
    bool holds;
};

static int order_of(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static bool holds_for(enum compare_result result, int order)
{
    switch (result) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    case COMPARE_NOT_EQUAL:
        return order != 0;
    }
    return true;
}

static int compare_kv(void *ctx, const struct kv *kv)
{
    struct comparing *x = ctx;
    const struct op_compare *c = x->compare;
    int order = 0;

    switch (c->target) {
    case COMPARE_VERSION:
        order = order_of(kv->version, c->number);
        break;
    case COMPARE_CREATE:
        order = order_of(kv->create_revision, c->number);
        break;
    case COMPARE_MOD:
        order = order_of(kv->mod_revision, c->number);
        break;
    case COMPARE_VALUE:
        order = slice_cmp(kv->value, c->value);
        break;
    case COMPARE_LEASE:
        order = order_of(kv->lease, c->number);
        break;
    }
    x->holds = holds_for(c->result, order);
    return !x->holds;
}

static int run_compare(struct store_read *r, const struct op_compare *c, bool *ret_holds)
{
    struct op_range op = {.key = c->key, .range_end = c->range_end, .keys_only = c->target != COMPARE_VALUE};
    struct comparing x = {.compare = c, .holds = true};
    uint16_t status = STATUS_OK;
    int64_t count = 0;
    int rc = store_range_each(r, &op, compare_kv, &x, &count, &status);

    if (rc < 0)
        return rc;
    if (count == 0 && c->target == COMPARE_VALUE)
        x.holds = false;
    else if (count == 0)
        compare_kv(&x, &(struct kv){0});
    *ret_holds = x.holds;
    return 0;
}

/* ---- running it ---- */

static int read_op(struct store_read *r, const struct op *op, struct arena *arena, size_t max_bytes, struct op_result *result,
                   uint16_t *status)
{
    size_t left = arena->total_bytes < max_bytes ? max_bytes - arena->total_bytes : 1;

    result->kind = op->kind;
    if (op->kind == OP_RANGE)
        return store_range(r, &op->range, arena, left, &result->range, status);
    result->txn = arena_alloc(arena, sizeof *result->txn);
    return result->txn != NULL ? txn_read(r, op->txn, arena, max_bytes, result->txn, status) : -ENOMEM;
}

int txn_read(struct store_read *r, const struct txn *txn, struct arena *arena, size_t max_bytes, struct txn_result *ret_result,
             uint16_t *ret_status)
{
    struct txn_result result = {.succeeded = true};
    const struct op *ops;
    int rc = 0;

    *ret_status = STATUS_OK;
    for (size_t i = 0; rc == 0 && result.succeeded && i < txn->n_compares; i++)
        rc = run_compare(r, &txn->compares[i], &result.succeeded);
    if (rc < 0)
        return rc;
    ops = result.succeeded ? txn->success : txn->failure;
    result.n_ops = result.succeeded ? txn->n_success : txn->n_failure;
    result.ops = arena_array(arena, result.n_ops + 1, sizeof *result.ops);
    if (result.ops == NULL)
        return -ENOMEM;
    for (size_t i = 0; rc == 0 && *ret_status == STATUS_OK && i < result.n_ops; i++)
        rc = read_op(r, &ops[i], arena, max_bytes, &result.ops[i], ret_status);
    *ret_result = result;
    return rc;
}

/* ---- the call ---- */

struct txn_call {
    struct ask ask; /* call NULL: ended while a worker has it */
    struct bytes request;
    uv_work_t work;
    bool working;
    struct store_lease *lease;
    /* the worker's */
    int rc;
    uint16_t status;
    int64_t revision;
    struct bytes body;
};

static void txn_free(struct txn_call *t)
{
    bytes_fini(&t->request);
    bytes_fini(&t->body);
    free(t);
}

static void txn_work(uv_work_t *work)
{
    struct txn_call *t = work->data;
    struct txn_result result;
    struct store_read *r;
    struct arena arena;
    struct txn txn;

    t->status = STATUS_OK;
    t->rc = store_read_begin(store_lease_store(t->lease), &r);
    if (t->rc < 0)
        return;
    arena_init(&arena);
    t->revision = store_read_revision(r);
    t->rc = etcd_txn_decode(bytes_slice(&t->request), &arena, &txn);
    if (t->rc == 0)
        t->rc = txn_read(r, &txn, &arena, RANGE_ANSWER_MAX_BYTES, &result, &t->status);
    if (t->rc == 0 && t->status == STATUS_OK) {
        etcd_txn_response_encode(&result, t->revision, &t->body);
        t->rc = bytes_status(&t->body);
    }
    arena_fini(&arena);
    store_read_end(r);
}

static void txn_worked(uv_work_t *work, int status)
{
    struct txn_call *t = work->data;
    struct app *app = t->ask.app;
    struct grpc_call *call = t->ask.call;

    t->working = false;
    app->ranges_in_workers--;
    node_line_release(app->line, t->lease);
    if (call == NULL) {
        txn_free(t);
    } else if (t->rc == -ENOMEM) {
        ask_no_memory(call);
    } else if (t->rc < 0) {
        log_error(&app->log, "txn: %s", strerror(-t->rc));
        grpc_finish(call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    } else if (t->status == STATUS_TOO_LARGE) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "quorumfs: answer is too large, use a limit");
    } else if (t->status != STATUS_OK) {
        grpc_finish_status(call, t->status);
    } else {
        answer_unary(app, call, t->revision, 0, bytes_slice(&t->body));
    }
}

static void run(struct txn_call *t)
{
    t->lease = node_line_lease(t->ask.app->line);
    if (t->lease == NULL) {
        grpc_finish_status(t->ask.call, STATUS_TIMEOUT);
        return;
    }
    t->working = true;
    t->work.data = t;
    t->ask.app->ranges_in_workers++;
    uv_queue_work(t->ask.app->loop, &t->work, txn_work, txn_worked);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct txn_call *t = arg;

    ask_done(&t->ask);
    if (status != STATUS_OK)
        grpc_finish_status(t->ask.call, status);
    else if (epoch > node_line_epoch(t->ask.app->line))
        grpc_finish_status(t->ask.call, STATUS_TIMEOUT);
    else
        run(t);
}

static void on_proposed(void *arg, const struct client_answer *answer)
{
    struct txn_call *t = arg;

    ask_done(&t->ask);
    if (answer->status != STATUS_OK)
        grpc_finish_status(t->ask.call, answer->status);
    else
        answer_unary(t->ask.app, t->ask.call, answer->revision, answer->term, answer->body);
}

static void start(struct grpc_call *call, const struct txn *txn, struct slice message)
{
    struct txn_call *t = ask_begin(call, sizeof *t);
    bool serializable;
    struct node_line *line;

    if (t == NULL)
        return;
    line = t->ask.app->line;
    if (!txn_is_read_only(txn, &serializable)) {
        grpc_changes(call);
        ask_propose(&t->ask, COMMAND_TXN, message, on_proposed);
        return;
    }
    bytes_append(&t->request, message);
    if (bytes_status(&t->request) < 0)
        ask_no_memory(call);
    else if (serializable)
        run(t);
    else
        ask_waits(&t->ask, client_barrier(node_line_client(line), node_line_deadline_ms(line), on_barrier, t));
}

static void txn_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_TXN};
    uint16_t status = STATUS_OK;
    struct arena arena;
    int rc;

    if (ask_refused(call))
        return;
    arena_init(&arena);
    rc = etcd_txn_decode(message, &arena, &cmd.txn);
    if (rc == 0)
        status = command_check(&cmd);
    if (rc < 0 && rc != -E2BIG)
        ask_malformed(call);
    else if (rc < 0)
        grpc_finish_status(call, STATUS_TOO_MANY_OPS);
    else if (status != STATUS_OK)
        grpc_finish_status(call, status);
    else
        start(call, &cmd.txn, message);
    arena_fini(&arena);
}

static void txn_end(struct grpc_call *call)
{
    struct txn_call *t = grpc_state(call);

    if (t == NULL)
        return;
    ask_cancel(&t->ask);
    t->ask.call = NULL;
    if (!t->working)
        txn_free(t);
}

const struct grpc_method kv_txn = {
    .path = "/etcdserverpb.KV/Txn", .kind = GRPC_UNARY, .message = txn_message, .end = txn_end};
