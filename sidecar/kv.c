/* kv.c - etcdserverpb.KV: writes go to the node as they came in, reads come out of the map.
 *
 * A linearizable Range waits for a barrier and then reads; barriers that wait together share one round (client.h).
 * What can be long is read and encoded in a worker thread, so that the loop goes on; what turns out to be long is sent in
 * pieces (range_stream.h). */
#include "proto/command.h"
#include "sidecar/ask.h"
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
    bool in_chunks;   /* RangeStream */
    struct range_stream *stream; /* once the answer has turned out to be long, or is asked for in chunks */
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
        ask_no_memory(call);
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

/* ---- writes ---- */

/* Checks as etcd does, before anything is sent; cmd's body has been decoded. */
static void check_and_propose(struct grpc_call *call, int decoded, struct command *cmd, struct slice message)
{
    uint16_t status;

    if (decoded < 0) {
        ask_malformed(call);
        return;
    }
    status = command_check(cmd);
    if (status != STATUS_OK)
        grpc_finish_status(call, status);
    else
        ask_propose_and_answer(call, cmd->kind, message);
}

static void put_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_PUT};

    if (!ask_refused(call))
        check_and_propose(call, etcd_put_decode(message, &cmd.put), &cmd, message);
}

static void delete_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_DELETE_RANGE};

    if (!ask_refused(call))
        check_and_propose(call, etcd_delete_decode(message, &cmd.del), &cmd, message);
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
    k->error = store_range(r, &k->op, &arena, range_stream_possible(&k->op) ? RANGE_WHOLE_BYTES : 0, &result, &k->status);
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
        ask_no_memory(call);
    } else if (k->error < 0) {
        log_error(&k->app->log, "range: %s", strerror(-k->error));
        grpc_finish(call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    } else if (k->status == STATUS_TOO_LARGE && range_stream_possible(&k->op)) {
        if (range_stream_start(k->app, call, &k->op, RANGE_IN_PIECES, &k->stream) < 0)
            ask_no_memory(call);
    } else if (k->status != STATUS_OK) {
        grpc_finish_status(call, k->status);
    } else if ((out = grpc_out_new(0, 1)) == NULL) {
        ask_no_memory(call);
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
    if (k->in_chunks) {
        if (range_stream_start(k->app, k->call, &k->op, RANGE_IN_CHUNKS, &k->stream) < 0)
            ask_no_memory(k->call);
        return;
    }
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

/* Copies the request and decodes it; what is wrong with it ends the call. */
static bool take_request(struct kv_call *k, struct slice message)
{
    k->request = malloc(message.len + 1);
    if (k->request == NULL) {
        ask_no_memory(k->call);
        return false;
    }
    if (message.len > 0)
        memcpy(k->request, message.data, message.len);
    if (etcd_range_decode(slice_make(k->request, message.len), &k->op) < 0) {
        ask_malformed(k->call);
        return false;
    }
    if (k->op.key.len == 0) {
        grpc_finish_status(k->call, STATUS_EMPTY_KEY);
        return false;
    }
    if ((unsigned)k->op.sort_order > SORT_DESCEND || (unsigned)k->op.sort_target > SORT_BY_VALUE) {
        grpc_finish_status(k->call, STATUS_INVALID_SORT);
        return false;
    }
    return true;
}

static void start_range(struct kv_call *k)
{
    struct app *app = k->app;

    if (k->op.serializable) {
        run_range(k);
        return;
    }
    if (app->learner) {
        grpc_finish_status(k->call, STATUS_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    k->ticket = client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, k);
    if (k->ticket < 0)
        ask_no_memory(k->call);
    node_line_touch(app->line);
}

static void range_message(struct grpc_call *call, struct slice message)
{
    struct kv_call *k = ask_refused_even_of_learners(call) ? NULL : begin(call);

    if (k != NULL && take_request(k, message))
        start_range(k);
}

/* RangeStream, as etcd 3.7 has it: the default order alone, and no filters. */
static void range_stream_message(struct grpc_call *call, struct slice message)
{
    struct kv_call *k;

    if (grpc_state(call) != NULL) {
        grpc_finish(call, GRPC_INTERNAL, "a call of RangeStream has one request");
        return;
    }
    k = ask_refused_even_of_learners(call) ? NULL : begin(call);
    if (k == NULL || !take_request(k, message))
        return;
    k->in_chunks = true;
    if (k->op.sort_order != SORT_NONE && (k->op.sort_order != SORT_ASCEND || k->op.sort_target != SORT_BY_KEY)) {
        grpc_finish(call, GRPC_UNIMPLEMENTED, "RangeStream does not support custom sort orders");
    } else if (k->op.min_mod_revision != 0 || k->op.max_mod_revision != 0 || k->op.min_create_revision != 0 ||
               k->op.max_create_revision != 0) {
        grpc_finish(call, GRPC_UNIMPLEMENTED, "RangeStream does not support revision filters");
    } else {
        k->op.sort_order = SORT_NONE;
        k->op.sort_target = SORT_BY_KEY;
        start_range(k);
    }
}

static void range_stream_half_close(struct grpc_call *call)
{
    if (grpc_state(call) == NULL)
        grpc_finish(call, GRPC_INTERNAL, "a call of RangeStream has one request");
}

const struct grpc_method kv_range = {
    .path = "/etcdserverpb.KV/Range", .kind = GRPC_UNARY, .message = range_message, .drained = range_drained, .end = kv_end};
const struct grpc_method kv_range_stream = {.path = "/etcdserverpb.KV/RangeStream",
                                            .kind = GRPC_STREAM,
                                            .message = range_stream_message,
                                            .half_close = range_stream_half_close,
                                            .drained = range_drained,
                                            .end = kv_end};
const struct grpc_method kv_put = {
    .path = "/etcdserverpb.KV/Put", .kind = GRPC_UNARY, .message = put_message, .end = ask_end};
const struct grpc_method kv_delete_range = {
    .path = "/etcdserverpb.KV/DeleteRange", .kind = GRPC_UNARY, .message = delete_message, .end = ask_end};
