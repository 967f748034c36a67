/* proto/etcd: answers and events written by hand agree with protobuf-c byte by byte and field by field. */
#include "tests/unit/etcd_gen.h"

static void kvs_and_events_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct kv kv = any_kv(&g), prev = any_kv(&g), kv2;
        bool deleted = any_bool(&g), with_prev = any_bool(&g);
        Etcd__Event *event;
        void *m;

        bytes_reset(&b);
        etcd_kv_encode(&kv, &b);
        m = unpack_same(&etcd__key_value__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_kv_decode(bytes_slice(&b), &kv2), 0);
        same_kv(&kv, m);
        same_kv(&kv2, m);
        release(m);

        bytes_reset(&b);
        etcd_event_encode(deleted, &kv, with_prev ? &prev : NULL, &b);
        event = unpack_same(&etcd__event__descriptor, bytes_slice(&b));
        assert_int_equal(event->type, deleted);
        same_kv(&kv, event->kv);
        assert_int_equal(event->prev_kv != NULL, with_prev);
        if (with_prev)
            same_kv(&prev, event->prev_kv);
        release(event);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void a_header_in_front_makes_the_whole_response(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct etcd_header h = {dice_number(&g.d), dice_number(&g.d), dice_number(&g.d), any_int(&g)};
        struct range_result r = {.n_kvs = dice_below(&g.d, 5), .count = any_int(&g), .more = any_bool(&g)}, r2;
        Etcd__RangeResponse *m;

        r.kvs = any_kvs(&g, r.n_kvs);
        bytes_reset(&b);
        etcd_header_encode(&h, &b);
        etcd_range_response_encode(&r, &b);
        m = unpack_same(&etcd__range_response__descriptor, bytes_slice(&b));
        assert_true(m->header->cluster_id == h.cluster_id && m->header->member_id == h.member_id &&
                    m->header->raft_term == h.raft_term && m->header->revision == h.revision);
        assert_int_equal(etcd_range_response_decode(bytes_slice(&b), &g.arena, &r2), 0);
        assert_true(m->n_kvs == r.n_kvs && r2.n_kvs == r.n_kvs);
        assert_true(m->count == r.count && r2.count == r.count && m->more == r.more && r2.more == r.more);
        for (size_t k = 0; k < r.n_kvs; k++) {
            same_kv(&r.kvs[k], m->kvs[k]);
            same_kv(&r2.kvs[k], m->kvs[k]);
        }
        release(m);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void same_txn_result(const struct txn_result *a, const Etcd__TxnResponse *b);

static void same_response(const struct op_result *a, const Etcd__ResponseOp *b)
{
    assert_int_equal(a->kind, b->response_case);
    switch (a->kind) {
    case OP_RANGE:
        assert_true(a->range.n_kvs == b->response_range->n_kvs && a->range.count == b->response_range->count &&
                    a->range.more == b->response_range->more);
        for (size_t i = 0; i < a->range.n_kvs; i++)
            same_kv(&a->range.kvs[i], b->response_range->kvs[i]);
        assert_non_null(b->response_range->header);
        break;
    case OP_PUT:
        assert_int_equal(a->put.prev_kv != NULL, b->response_put->prev_kv != NULL);
        if (a->put.prev_kv != NULL)
            same_kv(a->put.prev_kv, b->response_put->prev_kv);
        assert_non_null(b->response_put->header);
        break;
    case OP_DELETE:
        assert_true(a->del.deleted == b->response_delete_range->deleted &&
                    a->del.n_prev_kvs == b->response_delete_range->n_prev_kvs);
        for (size_t i = 0; i < a->del.n_prev_kvs; i++)
            same_kv(&a->del.prev_kvs[i], b->response_delete_range->prev_kvs[i]);
        assert_non_null(b->response_delete_range->header);
        break;
    case OP_TXN:
        same_txn_result(a->txn, b->response_txn);
        assert_non_null(b->response_txn->header);
        break;
    }
}

static void same_txn_result(const struct txn_result *a, const Etcd__TxnResponse *b)
{
    assert_true(a->succeeded == b->succeeded && a->n_ops == b->n_responses);
    for (size_t i = 0; i < a->n_ops; i++)
        same_response(&a->ops[i], b->responses[i]);
}

static void txn_answers_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b, again;

    bytes_init(&b);
    bytes_init(&again);
    for (int i = 0; i < ROUNDS; i++) {
        struct op_result r = any_result(&g, 1), r2;
        Etcd__TxnResponse *m;

        if (r.kind != OP_TXN)
            continue;
        bytes_reset(&b);
        etcd_txn_response_encode(r.txn, 7, &b);
        m = unpack_same(&etcd__txn_response__descriptor, bytes_slice(&b));
        same_txn_result(r.txn, m);
        assert_int_equal(etcd_op_result_decode(OP_TXN, bytes_slice(&b), &g.arena, &r2), 0);
        same_txn_result(r2.txn, m);
        bytes_reset(&again);
        etcd_op_result_encode(&r2, 7, &again);
        assert_true(slice_equal(bytes_slice(&b), bytes_slice(&again)));
        release(m);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    bytes_fini(&again);
    arena_fini(&g.arena);
}

/* Of revision 9: a range sees 8 before the first change; from the put on it is 9; the inner txn's header is empty. */
static void inner_headers_say_what_etcds_say(void **state)
{
    struct op_result inner_ops[1] = {{.kind = OP_RANGE}};
    struct txn_result inner = {true, inner_ops, 1};
    struct op_result ops[5] = {{.kind = OP_RANGE}, {.kind = OP_DELETE}, {.kind = OP_PUT}, {.kind = OP_RANGE},
                               {.kind = OP_TXN, .txn = &inner}};
    struct txn_result txn = {true, ops, 5};
    static const int64_t want[] = {8, 8, 9, 9};
    Etcd__TxnResponse *m;
    struct bytes b;

    bytes_init(&b);
    etcd_txn_response_encode(&txn, 9, &b);
    m = unpack_same(&etcd__txn_response__descriptor, bytes_slice(&b));
    assert_null(m->header);
    assert_true(m->responses[0]->response_range->header->revision == want[0]);
    assert_true(m->responses[1]->response_delete_range->header->revision == want[1]);
    assert_true(m->responses[2]->response_put->header->revision == want[2]);
    assert_true(m->responses[3]->response_range->header->revision == want[3]);
    assert_true(m->responses[4]->response_txn->header->revision == 0);
    assert_true(m->responses[4]->response_txn->responses[0]->response_range->header->revision == 9);
    release(m);
    bytes_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kvs_and_events_agree_with_protobuf_c),
        cmocka_unit_test(a_header_in_front_makes_the_whole_response),
        cmocka_unit_test(txn_answers_agree_with_protobuf_c),
        cmocka_unit_test(inner_headers_say_what_etcds_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
