/* Decoders of etcd's hot messages. A known field of the wrong wire type is damage, an unknown field is skipped. */
#include "proto/etcd.h"

#include <errno.h>

#include "proto/wire.h"

/* ---- requests ---- */

int etcd_put_decode(struct slice in, struct op_put *ret_op)
{
    struct reader r = reader_make(in);
    struct op_put op = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &op.key);
            break;
        case 2:
            wire_get_bytes(&r, &f, &op.value);
            break;
        case 3:
            op.lease = wire_get_int(&r, &f);
            break;
        case 4:
            op.prev_kv = wire_get_bool(&r, &f);
            break;
        case 5:
            op.ignore_value = wire_get_bool(&r, &f);
            break;
        case 6:
            op.ignore_lease = wire_get_bool(&r, &f);
            break;
        }
    }
    if (r.status < 0)
        return r.status;
    *ret_op = op;
    return 0;
}

int etcd_delete_decode(struct slice in, struct op_delete *ret_op)
{
    struct reader r = reader_make(in);
    struct op_delete op = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &op.key);
            break;
        case 2:
            wire_get_bytes(&r, &f, &op.range_end);
            break;
        case 3:
            op.prev_kv = wire_get_bool(&r, &f);
            break;
        }
    }
    if (r.status < 0)
        return r.status;
    *ret_op = op;
    return 0;
}

static void range_field(struct reader *r, const struct wire_field *f, struct op_range *op)
{
    switch (f->number) {
    case 1:
        wire_get_bytes(r, f, &op->key);
        break;
    case 2:
        wire_get_bytes(r, f, &op->range_end);
        break;
    case 3:
        op->limit = wire_get_int(r, f);
        break;
    case 4:
        op->revision = wire_get_int(r, f);
        break;
    case 5:
        op->sort_order = (enum sort_order)wire_get_enum(r, f);
        break;
    case 6:
        op->sort_target = (enum sort_target)wire_get_enum(r, f);
        break;
    case 7:
        op->serializable = wire_get_bool(r, f);
        break;
    case 8:
        op->keys_only = wire_get_bool(r, f);
        break;
    case 9:
        op->count_only = wire_get_bool(r, f);
        break;
    case 10:
        op->min_mod_revision = wire_get_int(r, f);
        break;
    case 11:
        op->max_mod_revision = wire_get_int(r, f);
        break;
    case 12:
        op->min_create_revision = wire_get_int(r, f);
        break;
    case 13:
        op->max_create_revision = wire_get_int(r, f);
        break;
    }
}

int etcd_range_decode(struct slice in, struct op_range *ret_op)
{
    struct reader r = reader_make(in);
    struct op_range op = {0};
    struct wire_field f;

    while (wire_next(&r, &f))
        range_field(&r, &f, &op);
    if (r.status < 0)
        return r.status;
    *ret_op = op;
    return 0;
}

int etcd_compact_decode(struct slice in, int64_t *ret_revision, bool *ret_physical)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    int64_t revision = 0;
    bool physical = false;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            revision = wire_get_int(&r, &f);
        else if (f.number == 2)
            physical = wire_get_bool(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_revision = revision;
    *ret_physical = physical;
    return 0;
}

/* The field of Compare's oneof that a target reads; 0 for a target without a name. */
static unsigned target_field(enum compare_target target)
{
    return (unsigned)target <= COMPARE_LEASE ? (unsigned)target + 4 : 0;
}

static int decode_compare(struct slice in, struct op_compare *c)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    unsigned member = 0;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            c->result = (enum compare_result)wire_get_enum(&r, &f);
            break;
        case 2:
            c->target = (enum compare_target)wire_get_enum(&r, &f);
            break;
        case 3:
            wire_get_bytes(&r, &f, &c->key);
            break;
        case 4:
        case 5:
        case 6:
        case 8:
            c->number = wire_get_int(&r, &f);
            member = f.number;
            break;
        case 7:
            wire_get_bytes(&r, &f, &c->value);
            member = f.number;
            break;
        case 64:
            wire_get_bytes(&r, &f, &c->range_end);
            break;
        }
    }
    /* A member that is not the target's counts as absent, and the target is compared with zero. */
    if (member != 7 || target_field(c->target) != 7)
        c->value = slice_make(NULL, 0);
    if (member == 7 || member != target_field(c->target))
        c->number = 0;
    return r.status;
}

struct txn_decode {
    struct arena *arena;
    size_t n_left; /* compares and operations that may still come, in the whole tree */
};

static int decode_txn(struct txn_decode *d, struct slice in, unsigned depth, struct txn *t);

static int decode_op(struct txn_decode *d, struct slice in, unsigned depth, struct op *op)
{
    struct reader r = reader_make(in);
    struct slice body = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        if (f.number < OP_RANGE || f.number > OP_TXN)
            continue;
        wire_get_bytes(&r, &f, &body);
        op->kind = (enum op_kind)f.number;
    }
    if (r.status < 0)
        return r.status;
    switch (op->kind) {
    case OP_RANGE:
        return etcd_range_decode(body, &op->range);
    case OP_PUT:
        return etcd_put_decode(body, &op->put);
    case OP_DELETE:
        return etcd_delete_decode(body, &op->del);
    case OP_TXN:
        op->txn = arena_alloc(d->arena, sizeof(*op->txn));
        if (op->txn == NULL)
            return -ENOMEM;
        return decode_txn(d, body, depth + 1, op->txn);
    }
    return 0; /* kind 0: an operation that says nothing, for the checks to refuse */
}

/* Counts first: the arrays are then exact, and nothing is taken from the arena for a message that is damaged here. */
static int count_txn(struct txn_decode *d, struct slice in, struct txn *t)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n;

    while (wire_next(&r, &f)) {
        if (f.number >= 1 && f.number <= 3 && f.type != WIRE_BYTES)
            reader_fail(&r);
        t->n_compares += f.number == 1;
        t->n_success += f.number == 2;
        t->n_failure += f.number == 3;
    }
    if (r.status < 0)
        return r.status;
    n = t->n_compares + t->n_success + t->n_failure;
    if (n > d->n_left)
        return -E2BIG;
    d->n_left -= n;
    t->compares = arena_array(d->arena, t->n_compares, sizeof(*t->compares));
    t->success = arena_array(d->arena, t->n_success, sizeof(*t->success));
    t->failure = arena_array(d->arena, t->n_failure, sizeof(*t->failure));
    if (t->compares == NULL || t->success == NULL || t->failure == NULL)
        return -ENOMEM;
    return 0;
}

static int decode_txn(struct txn_decode *d, struct slice in, unsigned depth, struct txn *t)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t compares = 0, success = 0, failure = 0;
    int rc;

    if (depth > TXN_MAX_DEPTH)
        return -E2BIG;
    *t = (struct txn){0};
    rc = count_txn(d, in, t);
    while (rc == 0 && wire_next(&r, &f)) {
        if (f.number == 1)
            rc = decode_compare(f.bytes, &t->compares[compares++]);
        else if (f.number == 2)
            rc = decode_op(d, f.bytes, depth, &t->success[success++]);
        else if (f.number == 3)
            rc = decode_op(d, f.bytes, depth, &t->failure[failure++]);
    }
    return rc;
}

int etcd_txn_decode(struct slice in, struct arena *arena, struct txn *ret_txn)
{
    struct txn_decode d = {arena, TXN_DECODE_MAX_OPS};
    struct txn t;
    int rc = decode_txn(&d, in, 1, &t);

    if (rc == 0)
        *ret_txn = t;
    return rc;
}

/* ---- answers ---- */

int etcd_kv_decode(struct slice in, struct kv *ret_kv)
{
    struct reader r = reader_make(in);
    struct kv kv = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &kv.key);
            break;
        case 2:
            kv.create_revision = wire_get_int(&r, &f);
            break;
        case 3:
            kv.mod_revision = wire_get_int(&r, &f);
            break;
        case 4:
            kv.version = wire_get_int(&r, &f);
            break;
        case 5:
            wire_get_bytes(&r, &f, &kv.value);
            break;
        case 6:
            kv.lease = wire_get_int(&r, &f);
            break;
        }
    }
    if (r.status < 0)
        return r.status;
    *ret_kv = kv;
    return 0;
}

static size_t count_field(struct slice in, unsigned number)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n = 0;

    while (wire_next(&r, &f))
        n += f.number == number;
    return n;
}

/* All occurrences of one field as an array of kvs. */
static int decode_kvs(struct slice in, unsigned number, struct arena *arena, struct kv **ret_kvs, size_t *ret_n)
{
    size_t n = count_field(in, number), i = 0;
    struct kv *kvs = arena_array(arena, n, sizeof(*kvs));
    struct reader r = reader_make(in);
    struct wire_field f;

    if (kvs == NULL)
        return -ENOMEM;
    while (wire_next(&r, &f)) {
        if (f.number != number)
            continue;
        if (f.type != WIRE_BYTES || etcd_kv_decode(f.bytes, &kvs[i++]) < 0)
            reader_fail(&r);
    }
    if (r.status < 0)
        return r.status;
    *ret_kvs = n != 0 ? kvs : NULL;
    *ret_n = n;
    return 0;
}

int etcd_range_response_decode(struct slice in, struct arena *arena, struct range_result *ret_result)
{
    struct range_result res = {0};
    struct reader r = reader_make(in);
    struct wire_field f;
    int rc = decode_kvs(in, 2, arena, &res.kvs, &res.n_kvs);

    if (rc < 0)
        return rc;
    while (wire_next(&r, &f)) {
        if (f.number == 3)
            res.more = wire_get_bool(&r, &f);
        else if (f.number == 4)
            res.count = wire_get_int(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_result = res;
    return 0;
}

static int decode_op_result(enum op_kind kind, struct slice in, struct arena *arena, unsigned depth,
                            struct op_result *res);

static int decode_response_op(struct slice in, struct arena *arena, unsigned depth, struct op_result *res)
{
    struct reader r = reader_make(in);
    struct slice body = {0};
    struct wire_field f;
    unsigned kind = 0;

    while (wire_next(&r, &f)) {
        if (f.number < OP_RANGE || f.number > OP_TXN)
            continue;
        wire_get_bytes(&r, &f, &body);
        kind = f.number;
    }
    if (r.status < 0 || kind == 0)
        return -EBADMSG;
    return decode_op_result((enum op_kind)kind, body, arena, depth, res);
}

static int decode_txn_result(struct slice in, struct arena *arena, unsigned depth, struct op_result *res)
{
    struct txn_result *t = arena_alloc(arena, sizeof(*t));
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t i = 0, n = count_field(in, 3);
    int rc = 0;

    if (depth > TXN_MAX_DEPTH)
        return -E2BIG;
    if (t == NULL)
        return -ENOMEM;
    t->ops = arena_array(arena, n, sizeof(*t->ops));
    if (t->ops == NULL)
        return -ENOMEM;
    t->n_ops = n;
    while (rc == 0 && wire_next(&r, &f)) {
        if (f.number == 2)
            t->succeeded = wire_get_bool(&r, &f);
        else if (f.number == 3 && f.type != WIRE_BYTES)
            reader_fail(&r);
        else if (f.number == 3)
            rc = decode_response_op(f.bytes, arena, depth, &t->ops[i++]);
    }
    res->txn = t;
    return rc < 0 ? rc : r.status;
}

static int decode_put_result(struct slice in, struct arena *arena, struct op_result *res)
{
    struct kv *kvs;
    size_t n;
    int rc = decode_kvs(in, 2, arena, &kvs, &n);

    if (rc == 0 && n != 0)
        res->put.prev_kv = &kvs[n - 1];
    return rc;
}

static int decode_delete_result(struct slice in, struct arena *arena, struct op_result *res)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    int rc = decode_kvs(in, 3, arena, &res->del.prev_kvs, &res->del.n_prev_kvs);

    while (rc == 0 && wire_next(&r, &f))
        if (f.number == 2)
            res->del.deleted = wire_get_int(&r, &f);
    return rc < 0 ? rc : r.status;
}

static int decode_op_result(enum op_kind kind, struct slice in, struct arena *arena, unsigned depth,
                            struct op_result *res)
{
    memset(res, 0, sizeof(*res));
    res->kind = kind;
    switch (kind) {
    case OP_RANGE:
        return etcd_range_response_decode(in, arena, &res->range);
    case OP_PUT:
        return decode_put_result(in, arena, res);
    case OP_DELETE:
        return decode_delete_result(in, arena, res);
    case OP_TXN:
        return decode_txn_result(in, arena, depth + 1, res);
    }
    return -EBADMSG;
}

int etcd_op_result_decode(enum op_kind kind, struct slice in, struct arena *arena, struct op_result *ret_result)
{
    struct op_result res;
    int rc = decode_op_result(kind, in, arena, 0, &res);

    if (rc == 0)
        *ret_result = res;
    return rc;
}
