/* kv.c - etcdserverpb.KV: writes go to the node as they came in, reads come out of the map.
 *
 * A linearizable Range waits for a barrier and then reads; barriers that wait together share one round (client.h).
 * What can be long is read and encoded in a worker thread, so that the loop goes on; what turns out to be long is sent in
 * pieces (range_stream.h). */
#include "proto/command.h"
#include "sidecar/app.h"
#include "sidecar/range_stream.h"

#include <errno.h>
#include <stdlib.h>

#define RANGE_INLINE_LIMIT 100 /* kvs at most that the loop's own thread reads */

struct kv_call {
    struct grpc_call *call; /* NULL: it has ended, and a worker still holds this */
    struct app *app;
    int64_t ticket;
    size_t pending_bytes;
    uint8_t *request; /* of a Range that waits: the bytes that op points into */
    struct op_range op;
    struct range_stream *stream; /* once the answer has turned out to be long */
    /* of the worker */
    uv_work_t work;
    bool working;
    struct store_lease *lease;
    struct etcd_header header;
    struct body *answer;
    uint16_t status;
    int error;
};

/* ---- calls ---- */

static struct kv_call *begin(struct grpc_call *call)
{
    struct kv_call *k = calloc(1, sizeof *k);

    if (k == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    k->call = call;
    k->app = app_of(call);
    grpc_set_state(call, k);
    return k;
}

static void kv_free(struct kv_call *k)
{
    free(k->request);
    body_unref(k->answer);
    free(k);
}

static void kv_end(struct grpc_call *call)
{
    struct kv_call *k = grpc_state(call);

    if (k == NULL)
        return;
    if (k->ticket > 0 && node_line_client(k->app->line) != NULL)
        client_cancel(node_line_client(k->app->line), k->ticket);
    k->app->pending_bytes -= k->pending_bytes;
    k->pending_bytes = 0;
    k->call = NULL;
    range_stream_end(k->stream);
    if (!k->working)
        kv_free(k);
}

void answer_unary(struct app *app, struct grpc_call *call, int64_t revision, uint64_t term, struct slice body)
{
    struct etcd_header header = node_line_header(app->line, revision);
    struct bytes head;

    if (term != 0)
        header.raft_term = term;
    bytes_init(&head);
    etcd_header_encode(&header, &head);
    if (bytes_status(&head) == 0) {
        grpc_send_bytes(call, bytes_slice(&head), body);
        grpc_finish(call, GRPC_OK, NULL);
    } else {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    bytes_fini(&head);
}

/* The leader is asked for by metadata, or needed anyway. */
static bool refused(struct grpc_call *call)
{
    struct app *app = app_of(call);

    if (!node_line_ready(app->line)) {
        grpc_finish_status(call, STATUS_TIMEOUT);
        return true;
    }
    if (grpc_require_leader(call) && client_leader(node_line_client(app->line)) == 0) {
        grpc_finish_status(call, STATUS_NO_LEADER);
        return true;
    }
    return false;
}

/* ---- writes ---- */

static void on_proposed(void *arg, const struct client_answer *answer)
{
    struct kv_call *k = arg;

    k->ticket = 0;
    if (answer->status != STATUS_OK)
        grpc_finish_status(k->call, answer->status);
    else
        answer_unary(k->app, k->call, answer->revision, answer->term, answer->body);
}

static void propose(struct grpc_call *call, uint16_t kind, struct slice message)
{
    struct app *app = app_of(call);
    struct kv_call *k;

    if (message.len > REQUEST_MAX_BYTES) {
        grpc_finish_status(call, STATUS_TOO_LARGE);
        return;
    }
    if (app->pending_bytes + message.len > SERVER_PENDING_MAX_BYTES) {
        grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
        return;
    }
    k = begin(call);
    if (k == NULL)
        return;
    k->ticket = client_propose_raw(node_line_client(app->line), kind, slice_make(NULL, 0), message, 0,
                                   node_line_deadline_ms(app->line), on_proposed, k);
    if (k->ticket < 0) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    k->pending_bytes = message.len;
    app->pending_bytes += message.len;
    node_line_touch(app->line);
}

/* Checks as etcd does, before anything is sent; cmd's body has been decoded. */
static void check_and_propose(struct grpc_call *call, int decoded, struct command *cmd, struct slice message)
{
    uint16_t status;

    if (decoded < 0) {
        if (decoded == -E2BIG)
            grpc_finish_status(call, STATUS_TOO_MANY_OPS);
        else
            grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    status = command_check(cmd);
    if (status != STATUS_OK)
        grpc_finish_status(call, status);
    else
        propose(call, cmd->kind, message);
}

static void put_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_PUT};

    if (!refused(call))
        check_and_propose(call, etcd_put_decode(message, &cmd.put), &cmd, message);
}

static void delete_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_DELETE_RANGE};

    if (!refused(call))
        check_and_propose(call, etcd_delete_decode(message, &cmd.del), &cmd, message);
}

static void txn_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_TXN};
    struct arena arena;

    if (refused(call))
        return;
    arena_init(&arena);
    check_and_propose(call, etcd_txn_decode(message, &arena, &cmd.txn), &cmd, message);
    arena_fini(&arena);
}

/* Answered when it is applied; the rows are removed by and by, whether "physical" was asked for or not. */
static void compact_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_COMPACT};

    if (!refused(call))
        check_and_propose(call, etcd_compact_decode(message, &cmd.compact.revision, &cmd.compact.physical), &cmd, message);
}

/* ---- Range ---- */

/* Reads and encodes: the answer with its header, in one body. Any thread. */
static void read_range(struct kv_call *k, struct store_read *r)
{
    struct range_result result;
    struct arena arena;
    struct bytes out;
    size_t len;

    arena_init(&arena);
    bytes_init(&out);
    k->error = store_range(r, &k->op, &arena,
                           range_stream_possible(&k->op) ? RANGE_WHOLE_BYTES : RANGE_ANSWER_MAX_BYTES, &result,
                           &k->status);
    if (k->error < 0 || k->status != STATUS_OK)
        goto done;
    k->header.revision = store_read_revision(r);
    bytes_grow(&out, sizeof(struct body)); /* the body's own head: no copy afterwards */
    etcd_header_encode(&k->header, &out);
    etcd_range_response_encode(&result, &out);
    k->error = bytes_status(&out);
    if (k->error == 0 && out.len - sizeof(struct body) > UINT32_MAX)
        k->error = -ENOMEM;
    if (k->error == 0) {
        k->answer = (struct body *)(void *)bytes_take(&out, &len);
        *k->answer = (struct body){.refs = 1, .len = (uint32_t)(len - sizeof(struct body))};
    }
done:
    bytes_fini(&out);
    arena_fini(&arena);
}

static void send_range(struct kv_call *k)
{
    struct grpc_call *call = k->call;
    struct grpc_out *out;

    if (k->error == -ENOMEM) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else if (k->error < 0) {
        log_error(&k->app->log, "range: %s", strerror(-k->error));
        grpc_finish(call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    } else if (k->status == STATUS_TOO_LARGE && range_stream_possible(&k->op)) {
        if (range_stream_start(k->app, call, &k->op, &k->stream) < 0)
            grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else if (k->status == STATUS_TOO_LARGE) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "quorumfs: answer is too large, use a limit");
    } else if (k->status != STATUS_OK) {
        grpc_finish_status(call, k->status);
    } else if ((out = grpc_out_new(0, 1)) == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else {
        out->bodies[0] = k->answer;
        k->answer = NULL;
        grpc_send(call, out);
        grpc_finish(call, GRPC_OK, NULL);
    }
}

static void range_work(uv_work_t *work)
{
    struct kv_call *k = work->data;
    struct store_read *r;

    k->error = store_read_begin(store_lease_store(k->lease), &r);
    if (k->error < 0)
        return;
    read_range(k, r);
    store_read_end(r);
}

static void range_worked(uv_work_t *work, int status)
{
    struct kv_call *k = work->data;

    k->working = false;
    k->app->ranges_in_workers--;
    node_line_release(k->app->line, k->lease);
    if (k->call == NULL)
        kv_free(k);
    else
        send_range(k);
}

static bool is_short(const struct op_range *op)
{
    if (op->range_end.len == 0)
        return true;
    return op->limit > 0 && op->limit <= RANGE_INLINE_LIMIT && !op->count_only && op->sort_order != SORT_DESCEND &&
           op->sort_target == SORT_BY_KEY && op->min_mod_revision == 0 && op->max_mod_revision == 0 &&
           op->min_create_revision == 0 && op->max_create_revision == 0;
}

/* k->op points into bytes that live long enough for the way it takes: k->request for a worker. */
static void run_range(struct kv_call *k)
{
    k->header = node_line_header(k->app->line, 0);
    if (is_short(&k->op)) {
        struct store_read *r = node_line_read(k->app->line);

        if (r == NULL) {
            grpc_finish_status(k->call, STATUS_TIMEOUT);
            return;
        }
        read_range(k, r);
        send_range(k);
        return;
    }
    k->lease = node_line_lease(k->app->line);
    if (k->lease == NULL) {
        grpc_finish_status(k->call, STATUS_TIMEOUT);
        return;
    }
    k->working = true;
    k->work.data = k;
    k->app->ranges_in_workers++;
    uv_queue_work(k->app->loop, &k->work, range_work, range_worked);
}

static void range_drained(struct grpc_call *call)
{
    struct kv_call *k = grpc_state(call);

    if (k != NULL)
        range_stream_drained(k->stream);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct kv_call *k = arg;

    k->ticket = 0;
    if (status != STATUS_OK)
        grpc_finish_status(k->call, status);
    else if (epoch > node_line_epoch(k->app->line))
        grpc_finish_status(k->call, STATUS_TIMEOUT); /* the map that it speaks of is not open yet */
    else
        run_range(k);
}

static void range_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct kv_call *k;

    if (refused(call))
        return;
    k = begin(call);
    if (k == NULL)
        return;
    k->request = malloc(message.len + 1);
    if (k->request == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    if (message.len > 0)
        memcpy(k->request, message.data, message.len);
    if (etcd_range_decode(slice_make(k->request, message.len), &k->op) < 0) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    if (k->op.key.len == 0) {
        grpc_finish_status(call, STATUS_EMPTY_KEY);
        return;
    }
    if ((unsigned)k->op.sort_order > SORT_DESCEND || (unsigned)k->op.sort_target > SORT_BY_VALUE) {
        grpc_finish_status(call, STATUS_INVALID_SORT);
        return;
    }
    if (k->op.serializable) {
        run_range(k);
        return;
    }
    k->ticket = client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, k);
    if (k->ticket < 0)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    node_line_touch(app->line);
}

const struct grpc_method kv_range = {
    .path = "/etcdserverpb.KV/Range", .kind = GRPC_UNARY, .message = range_message, .drained = range_drained, .end = kv_end};
const struct grpc_method kv_put = {
    .path = "/etcdserverpb.KV/Put", .kind = GRPC_UNARY, .message = put_message, .end = kv_end};
const struct grpc_method kv_delete_range = {
    .path = "/etcdserverpb.KV/DeleteRange", .kind = GRPC_UNARY, .message = delete_message, .end = kv_end};
const struct grpc_method kv_txn = {
    .path = "/etcdserverpb.KV/Txn", .kind = GRPC_UNARY, .message = txn_message, .end = kv_end};
const struct grpc_method kv_compact = {
    .path = "/etcdserverpb.KV/Compact", .kind = GRPC_UNARY, .message = compact_message, .end = kv_end};
