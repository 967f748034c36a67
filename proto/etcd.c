/* Encoders of etcd's hot messages. Each emit_x() writes one message (see wire.h for how it is used twice). */
#include "proto/etcd.h"

#include "proto/wire.h"

/* ---- requests ---- */

static void emit_put(struct wire_out *o, const struct op_put *op)
{
    wire_bytes(o, 1, op->key);
    wire_bytes(o, 2, op->value);
    wire_int(o, 3, op->lease);
    wire_uint(o, 4, op->prev_kv);
    wire_uint(o, 5, op->ignore_value);
    wire_uint(o, 6, op->ignore_lease);
}
WIRE_MESSAGE(put, const struct op_put *)

static void emit_delete(struct wire_out *o, const struct op_delete *op)
{
    wire_bytes(o, 1, op->key);
    wire_bytes(o, 2, op->range_end);
    wire_uint(o, 3, op->prev_kv);
}
WIRE_MESSAGE(delete, const struct op_delete *)

static void emit_range(struct wire_out *o, const struct op_range *op)
{
    wire_bytes(o, 1, op->key);
    wire_bytes(o, 2, op->range_end);
    wire_int(o, 3, op->limit);
    wire_int(o, 4, op->revision);
    wire_int(o, 5, (int32_t)op->sort_order);
    wire_int(o, 6, (int32_t)op->sort_target);
    wire_uint(o, 7, op->serializable);
    wire_uint(o, 8, op->keys_only);
    wire_uint(o, 9, op->count_only);
    wire_int(o, 10, op->min_mod_revision);
    wire_int(o, 11, op->max_mod_revision);
    wire_int(o, 12, op->min_create_revision);
    wire_int(o, 13, op->max_create_revision);
}
WIRE_MESSAGE(range, const struct op_range *)

static void emit_compare(struct wire_out *o, const struct op_compare *c)
{
    wire_int(o, 1, (int32_t)c->result);
    wire_int(o, 2, (int32_t)c->target);
    wire_bytes(o, 3, c->key);
    switch (c->target) { /* members of a oneof stand there even when they are zero */
    case COMPARE_VERSION:
        wire_uint_always(o, 4, (uint64_t)c->number);
        break;
    case COMPARE_CREATE:
        wire_uint_always(o, 5, (uint64_t)c->number);
        break;
    case COMPARE_MOD:
        wire_uint_always(o, 6, (uint64_t)c->number);
        break;
    case COMPARE_VALUE:
        wire_bytes_always(o, 7, c->value);
        break;
    case COMPARE_LEASE:
        wire_uint_always(o, 8, (uint64_t)c->number);
        break;
    }
    wire_bytes(o, 64, c->range_end);
}
WIRE_MESSAGE(compare, const struct op_compare *)

static void emit_txn(struct wire_out *o, const struct txn *t);
static void field_txn(struct wire_out *o, unsigned field, const struct txn *t);

static void emit_op(struct wire_out *o, const struct op *op)
{
    switch (op->kind) {
    case OP_RANGE:
        field_range(o, OP_RANGE, &op->range);
        break;
    case OP_PUT:
        field_put(o, OP_PUT, &op->put);
        break;
    case OP_DELETE:
        field_delete(o, OP_DELETE, &op->del);
        break;
    case OP_TXN:
        field_txn(o, OP_TXN, op->txn);
        break;
    }
}
WIRE_MESSAGE(op, const struct op *)

static void emit_txn(struct wire_out *o, const struct txn *t)
{
    for (size_t i = 0; i < t->n_compares; i++)
        field_compare(o, 1, &t->compares[i]);
    for (size_t i = 0; i < t->n_success; i++)
        field_op(o, 2, &t->success[i]);
    for (size_t i = 0; i < t->n_failure; i++)
        field_op(o, 3, &t->failure[i]);
}
WIRE_MESSAGE(txn, const struct txn *)

void etcd_put_encode(const struct op_put *op, struct bytes *out)
{
    append_put(op, out);
}

void etcd_delete_encode(const struct op_delete *op, struct bytes *out)
{
    append_delete(op, out);
}

void etcd_range_encode(const struct op_range *op, struct bytes *out)
{
    append_range(op, out);
}

void etcd_txn_encode(const struct txn *txn, struct bytes *out)
{
    append_txn(txn, out);
}

size_t etcd_put_size(const struct op_put *op)
{
    return size_put(op);
}

size_t etcd_delete_size(const struct op_delete *op)
{
    return size_delete(op);
}

size_t etcd_txn_size(const struct txn *txn)
{
    return size_txn(txn);
}

/* ---- answers ---- */

static void emit_header(struct wire_out *o, const struct etcd_header *h)
{
    wire_uint(o, 1, h->cluster_id);
    wire_uint(o, 2, h->member_id);
    wire_int(o, 3, h->revision);
    wire_uint(o, 4, h->raft_term);
}
WIRE_MESSAGE(header, const struct etcd_header *)

static void emit_header_field(struct wire_out *o, const struct etcd_header *h)
{
    field_header(o, 1, h);
}
WIRE_MESSAGE(header_field, const struct etcd_header *)

void etcd_header_encode(const struct etcd_header *h, struct bytes *out)
{
    append_header_field(h, out);
}

static void emit_kv(struct wire_out *o, const struct kv *kv)
{
    wire_bytes(o, 1, kv->key);
    wire_int(o, 2, kv->create_revision);
    wire_int(o, 3, kv->mod_revision);
    wire_int(o, 4, kv->version);
    wire_bytes(o, 5, kv->value);
    wire_int(o, 6, kv->lease);
}
WIRE_MESSAGE(kv, const struct kv *)

void etcd_kv_encode(const struct kv *kv, struct bytes *out)
{
    append_kv(kv, out);
}

struct event_parts {
    bool is_delete;
    const struct kv *kv, *prev;
};

static void emit_event(struct wire_out *o, const struct event_parts *e)
{
    wire_uint(o, 1, e->is_delete);
    field_kv(o, 2, e->kv);
    if (e->prev != NULL)
        field_kv(o, 3, e->prev);
}
WIRE_MESSAGE(event, const struct event_parts *)

void etcd_event_encode(bool is_delete, const struct kv *kv, const struct kv *prev, struct bytes *out)
{
    struct event_parts e = {is_delete, kv, prev};

    append_event(&e, out);
}

static void emit_range_result(struct wire_out *o, const struct range_result *r)
{
    for (size_t i = 0; i < r->n_kvs; i++)
        field_kv(o, 2, &r->kvs[i]);
    wire_uint(o, 3, r->more);
    wire_int(o, 4, r->count);
}
WIRE_MESSAGE(range_result, const struct range_result *)

void etcd_range_response_encode(const struct range_result *r, struct bytes *out)
{
    append_range_result(r, out);
}

/* What the inner headers of a txn's answer say, as in etcd: operations before the first change show the revision
 * from before the txn, the change and all behind it the txn's own; the header of an inner txn is empty. */
struct inner {
    const struct op_result *op;
    int64_t revision; /* of the txn */
    bool writes;      /* the txn changed something */
    bool changed;     /* an operation before this one did */
};

static bool txn_changes(const struct txn_result *t);

static bool op_changes(const struct op_result *r)
{
    switch (r->kind) {
    case OP_RANGE:
        return false;
    case OP_PUT:
        return true;
    case OP_DELETE:
        return r->del.deleted > 0;
    case OP_TXN:
        return txn_changes(r->txn);
    }
    return false;
}

static bool txn_changes(const struct txn_result *t)
{
    for (size_t i = 0; i < t->n_ops; i++)
        if (op_changes(&t->ops[i]))
            return true;
    return false;
}

static void emit_op_body(struct wire_out *o, const struct inner *in);

static void emit_inner(struct wire_out *o, const struct inner *in)
{
    bool after = in->changed || op_changes(in->op);
    struct etcd_header h = {.revision = in->revision - (in->writes && !after)};

    if (in->op->kind == OP_TXN)
        h.revision = 0;
    field_header(o, 1, &h);
    emit_op_body(o, in);
}
WIRE_MESSAGE(inner, const struct inner *)

static void emit_response_op(struct wire_out *o, const struct inner *in)
{
    field_inner(o, in->op->kind, in);
}
WIRE_MESSAGE(response_op, const struct inner *)

static void emit_op_body(struct wire_out *o, const struct inner *in)
{
    const struct op_result *r = in->op;
    bool changed = in->changed;

    switch (r->kind) {
    case OP_RANGE:
        emit_range_result(o, &r->range);
        break;
    case OP_PUT:
        if (r->put.prev_kv != NULL)
            field_kv(o, 2, r->put.prev_kv);
        break;
    case OP_DELETE:
        wire_int(o, 2, r->del.deleted);
        for (size_t i = 0; i < r->del.n_prev_kvs; i++)
            field_kv(o, 3, &r->del.prev_kvs[i]);
        break;
    case OP_TXN:
        wire_uint(o, 2, r->txn->succeeded);
        for (size_t i = 0; i < r->txn->n_ops; i++) {
            struct inner next = {&r->txn->ops[i], in->revision, in->writes, changed};

            field_response_op(o, 3, &next);
            changed = changed || op_changes(next.op);
        }
        break;
    }
}
WIRE_MESSAGE(op_body, const struct inner *)

void etcd_op_result_encode(const struct op_result *r, int64_t revision, struct bytes *out)
{
    struct inner in = {r, revision, op_changes(r), false};

    append_op_body(&in, out);
}

void etcd_txn_response_encode(const struct txn_result *r, int64_t revision, struct bytes *out)
{
    struct txn_result copy = *r;
    struct op_result op = {.kind = OP_TXN, .txn = &copy};

    etcd_op_result_encode(&op, revision, out);
}
