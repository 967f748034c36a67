/* etcd_gen.h - random messages of etcd's API in our structures, and their comparison with protobuf-c's.
 *
 * Process: test programs.  Thread: one.  Errors: cmocka's assertions.  Memory: the generator's arena.  Units: bytes. */
#ifndef TESTS_UNIT_ETCD_GEN_H
#define TESTS_UNIT_ETCD_GEN_H

#include "tests/unit/wire_check.h"

#include "proto/etcd.h"
#include "proto/etcd.pb-c.h"

#define ROUNDS 3000

struct gen {
    struct dice d;
    struct arena arena;
};

static inline struct gen gen_new(void)
{
    struct gen g = {.d = dice_new()};

    arena_init(&g.arena);
    return g;
}

static inline struct slice any_bytes(struct gen *g)
{
    size_t n = dice_below(&g->d, 4) == 0 ? 0 : dice_below(&g->d, dice_below(&g->d, 8) == 0 ? 400 : 20);
    uint8_t *p = arena_alloc(&g->arena, n);

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)dice_roll(&g->d);
    return slice_make(p, n);
}

static inline int64_t any_int(struct gen *g)
{
    return (int64_t)dice_number(&g->d);
}

static inline bool any_bool(struct gen *g)
{
    return dice_roll(&g->d) & 1;
}

static inline struct op_put any_put(struct gen *g)
{
    return (struct op_put){any_bytes(g), any_bytes(g), any_int(g), any_bool(g), any_bool(g), any_bool(g)};
}

static inline struct op_delete any_delete(struct gen *g)
{
    return (struct op_delete){any_bytes(g), any_bytes(g), any_bool(g)};
}

static inline struct op_range any_range(struct gen *g)
{
    return (struct op_range){
        any_bytes(g), any_bytes(g), any_int(g), any_int(g),
        (enum sort_order)dice_below(&g->d, 3), (enum sort_target)dice_below(&g->d, 5),
        any_bool(g), any_bool(g), any_bool(g), any_int(g), any_int(g), any_int(g), any_int(g),
    };
}

static inline struct op_compare any_compare(struct gen *g)
{
    struct op_compare c = {.result = (enum compare_result)dice_below(&g->d, 4),
                           .target = (enum compare_target)dice_below(&g->d, 5),
                           .key = any_bytes(g),
                           .range_end = any_bytes(g)};

    if (c.target == COMPARE_VALUE)
        c.value = any_bytes(g);
    else
        c.number = any_int(g);
    return c;
}

static inline struct txn *any_txn(struct gen *g, unsigned depth);

static inline struct op *any_ops(struct gen *g, unsigned depth, size_t *ret_n)
{
    size_t n = dice_below(&g->d, 4);
    struct op *ops = arena_array(&g->arena, n, sizeof(*ops));

    for (size_t i = 0; i < n; i++) {
        ops[i].kind = (enum op_kind)(1 + dice_below(&g->d, depth < 4 ? 4 : 3));
        if (ops[i].kind == OP_RANGE)
            ops[i].range = any_range(g);
        else if (ops[i].kind == OP_PUT)
            ops[i].put = any_put(g);
        else if (ops[i].kind == OP_DELETE)
            ops[i].del = any_delete(g);
        else
            ops[i].txn = any_txn(g, depth + 1);
    }
    *ret_n = n;
    return ops;
}

static inline struct txn *any_txn(struct gen *g, unsigned depth)
{
    struct txn *t = arena_alloc(&g->arena, sizeof(*t));

    t->n_compares = dice_below(&g->d, 4);
    t->compares = arena_array(&g->arena, t->n_compares, sizeof(*t->compares));
    for (size_t i = 0; i < t->n_compares; i++)
        t->compares[i] = any_compare(g);
    t->success = any_ops(g, depth, &t->n_success);
    t->failure = any_ops(g, depth, &t->n_failure);
    return t;
}

static inline struct kv any_kv(struct gen *g)
{
    return (struct kv){any_bytes(g), any_bytes(g), any_int(g), any_int(g), any_int(g), any_int(g)};
}

static inline struct kv *any_kvs(struct gen *g, size_t n)
{
    struct kv *kvs = arena_array(&g->arena, n, sizeof(*kvs));

    for (size_t i = 0; i < n; i++)
        kvs[i] = any_kv(g);
    return kvs;
}

static inline struct op_result any_result(struct gen *g, unsigned depth)
{
    struct op_result r = {.kind = (enum op_kind)(1 + dice_below(&g->d, depth < 4 ? 4 : 3))};

    switch (r.kind) {
    case OP_RANGE:
        r.range.n_kvs = dice_below(&g->d, 3);
        r.range.kvs = any_kvs(g, r.range.n_kvs);
        r.range.count = any_int(g);
        r.range.more = any_bool(g);
        break;
    case OP_PUT:
        r.put.prev_kv = any_bool(g) ? any_kvs(g, 1) : NULL;
        break;
    case OP_DELETE:
        r.del.deleted = (int64_t)dice_below(&g->d, 3);
        r.del.n_prev_kvs = dice_below(&g->d, 3);
        r.del.prev_kvs = any_kvs(g, r.del.n_prev_kvs);
        break;
    case OP_TXN:
        r.txn = arena_alloc(&g->arena, sizeof(*r.txn));
        r.txn->succeeded = any_bool(g);
        r.txn->n_ops = dice_below(&g->d, 4);
        r.txn->ops = arena_array(&g->arena, r.txn->n_ops, sizeof(*r.txn->ops));
        for (size_t i = 0; i < r.txn->n_ops; i++)
            r.txn->ops[i] = any_result(g, depth + 1);
        break;
    }
    return r;
}

/* ---- our structures against protobuf-c's ---- */

static inline void same_bytes(struct slice ours, ProtobufCBinaryData theirs)
{
    assert_true(slice_equal(ours, slice_make(theirs.data, theirs.len)));
}

static inline void same_put(const struct op_put *a, const Etcd__PutRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->value, b->value);
    assert_true(a->lease == b->lease && a->prev_kv == b->prev_kv && a->ignore_value == b->ignore_value &&
                a->ignore_lease == b->ignore_lease);
}

static inline void same_delete(const struct op_delete *a, const Etcd__DeleteRangeRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    assert_true(a->prev_kv == b->prev_kv);
}

static inline void same_range(const struct op_range *a, const Etcd__RangeRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    assert_true(a->limit == b->limit && a->revision == b->revision);
    assert_true((int)a->sort_order == (int)b->sort_order && (int)a->sort_target == (int)b->sort_target);
    assert_true(a->serializable == b->serializable && a->keys_only == b->keys_only &&
                a->count_only == b->count_only);
    assert_true(a->min_mod_revision == b->min_mod_revision && a->max_mod_revision == b->max_mod_revision);
    assert_true(a->min_create_revision == b->min_create_revision &&
                a->max_create_revision == b->max_create_revision);
}

static inline void same_compare(const struct op_compare *a, const Etcd__Compare *b)
{
    static const int cases[] = {4, 5, 6, 7, 8};

    assert_true((int)a->result == (int)b->result && (int)a->target == (int)b->target);
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    assert_int_equal(b->target_union_case, cases[a->target]);
    if (a->target == COMPARE_VALUE)
        same_bytes(a->value, b->value);
    else
        assert_true(a->number == b->version); /* the members of the union have one type */
}

static inline void same_txn(const struct txn *a, const Etcd__TxnRequest *b);

static inline void same_op(const struct op *a, const Etcd__RequestOp *b)
{
    assert_int_equal(a->kind, b->request_case);
    if (a->kind == OP_RANGE)
        same_range(&a->range, b->request_range);
    else if (a->kind == OP_PUT)
        same_put(&a->put, b->request_put);
    else if (a->kind == OP_DELETE)
        same_delete(&a->del, b->request_delete_range);
    else
        same_txn(a->txn, b->request_txn);
}

static inline void same_txn(const struct txn *a, const Etcd__TxnRequest *b)
{
    assert_true(a->n_compares == b->n_compare && a->n_success == b->n_success && a->n_failure == b->n_failure);
    for (size_t i = 0; i < a->n_compares; i++)
        same_compare(&a->compares[i], b->compare[i]);
    for (size_t i = 0; i < a->n_success; i++)
        same_op(&a->success[i], b->success[i]);
    for (size_t i = 0; i < a->n_failure; i++)
        same_op(&a->failure[i], b->failure[i]);
}

static inline void same_kv(const struct kv *a, const Etcd__KeyValue *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->value, b->value);
    assert_true(a->create_revision == b->create_revision && a->mod_revision == b->mod_revision &&
                a->version == b->version && a->lease == b->lease);
}

/* The bytes are exactly what protobuf-c makes of the message that it reads in them. */
static inline void *unpack_same(const ProtobufCMessageDescriptor *type, struct slice in)
{
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, in.len, in.data);
    uint8_t *packed = malloc(in.len + 1);

    assert_non_null(m);
    assert_int_equal(m->n_unknown_fields, 0);
    assert_int_equal(protobuf_c_message_get_packed_size(m), in.len);
    protobuf_c_message_pack(m, packed);
    assert_true(slice_equal(in, slice_make(packed, in.len)));
    free(packed);
    return m;
}

static inline void release(void *m)
{
    protobuf_c_message_free_unpacked(m, NULL);
}

#endif
