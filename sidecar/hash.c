/* hash.c - etcdserverpb.Maintenance/Hash and HashKV: long reads, in a worker. */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

struct hash_call {
    struct grpc_call *call; /* NULL: ended while the worker has it */
    struct app *app;
    bool kv;
    int64_t revision; /* asked for */
    uv_work_t work;
    struct store_lease *lease;
    /* the worker's */
    int rc;
    uint16_t status;
    uint32_t hash;
    int64_t current, compacted, hashed;
};

static void hash_work(uv_work_t *work)
{
    struct hash_call *h = work->data;
    struct store_read *r;
    uint64_t applied;

    h->status = STATUS_OK;
    h->rc = store_read_begin(store_lease_store(h->lease), &r);
    if (h->rc < 0)
        return;
    h->current = store_read_revision(r);
    h->rc = h->kv ? store_hash_kv(r, h->revision, &h->hash, &h->compacted, &h->hashed, &h->status)
                  : store_hash(r, &h->hash, &h->current, &applied);
    store_read_end(r);
}

static void emit_answer(struct wire_out *o, const struct hash_call *h)
{
    wire_uint(o, 2, h->hash);
    if (h->kv) {
        wire_int(o, 3, h->compacted);
        wire_int(o, 4, h->hashed);
    }
}

WIRE_MESSAGE(answer, const struct hash_call *)

static void answer(struct hash_call *h)
{
    struct bytes body;

    if (h->rc < 0 && h->rc != -ENOMEM) {
        log_error(&h->app->log, "hash: %s", strerror(-h->rc));
        grpc_finish(h->call, GRPC_INTERNAL, "quorumfs: reading the store failed");
        return;
    }
    if (h->rc == 0 && h->status != STATUS_OK) {
        grpc_finish_status(h->call, h->status);
        return;
    }
    bytes_init(&body);
    append_answer(h, &body);
    if (h->rc < 0 || bytes_status(&body) < 0)
        ask_no_memory(h->call);
    else
        answer_unary(h->app, h->call, h->current, 0, bytes_slice(&body));
    bytes_fini(&body);
}

static void hash_worked(uv_work_t *work, int status)
{
    struct hash_call *h = work->data;

    h->app->hashes--;
    node_line_release(h->app->line, h->lease);
    h->lease = NULL;
    if (h->call == NULL)
        free(h);
    else
        answer(h);
}

static void start_hash(struct grpc_call *call, bool kv, int64_t revision)
{
    struct app *app = app_of(call);
    struct hash_call *h;

    if (ask_refused(call))
        return;
    if (app->hashes >= HASHES_MAX) {
        grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
        return;
    }
    h = calloc(1, sizeof *h);
    if (h == NULL) {
        ask_no_memory(call);
        return;
    }
    *h = (struct hash_call){.call = call, .app = app, .kv = kv, .revision = revision};
    grpc_set_state(call, h);
    h->lease = node_line_lease(app->line);
    if (h->lease == NULL) {
        grpc_finish_status(call, STATUS_TIMEOUT);
        return;
    }
    app->hashes++;
    h->work.data = h;
    uv_queue_work(app->loop, &h->work, hash_work, hash_worked);
}

static void hash_message(struct grpc_call *call, struct slice message)
{
    start_hash(call, false, 0);
}

static void hash_kv_message(struct grpc_call *call, struct slice message)
{
    struct reader r = reader_make(message);
    struct wire_field f;
    int64_t revision = 0;

    while (wire_next(&r, &f))
        if (f.number == 1)
            revision = wire_get_int(&r, &f);
    if (reader_status(&r) < 0)
        ask_malformed(call);
    else
        start_hash(call, true, revision);
}

static void hash_end(struct grpc_call *call)
{
    struct hash_call *h = grpc_state(call);

    if (h == NULL)
        return;
    h->call = NULL;
    if (h->lease == NULL)
        free(h);
}

const struct grpc_method maintenance_hash = {
    .path = "/etcdserverpb.Maintenance/Hash", .kind = GRPC_UNARY, .message = hash_message, .end = hash_end};
const struct grpc_method maintenance_hash_kv = {
    .path = "/etcdserverpb.Maintenance/HashKV", .kind = GRPC_UNARY, .message = hash_kv_message, .end = hash_end};
