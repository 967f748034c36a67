/* proto/etcd, proto/command_body: requests written by hand agree with protobuf-c byte by byte and field by field, and
 * no decoder reads past its bytes. */
#include "tests/unit/etcd_gen.h"

#include <errno.h>

#include "proto/command_body.h"
#include "proto/etcd.pb-c.h"
#include "proto/quorumfs.pb-c.h"

/* ---- requests ---- */

static void requests_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b, again;

    bytes_init(&b);
    bytes_init(&again);
    for (int i = 0; i < ROUNDS; i++) {
        struct op_put put = any_put(&g), put2;
        struct op_delete del = any_delete(&g), del2;
        struct op_range range = any_range(&g), range2;
        void *m;

        bytes_reset(&b);
        etcd_put_encode(&put, &b);
        assert_int_equal(b.len, etcd_put_size(&put));
        m = unpack_same(&etcd__put_request__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_put_decode(bytes_slice(&b), &put2), 0);
        same_put(&put, m);
        same_put(&put2, m);
        release(m);

        bytes_reset(&b);
        etcd_delete_encode(&del, &b);
        assert_int_equal(b.len, etcd_delete_size(&del));
        m = unpack_same(&etcd__delete_range_request__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_delete_decode(bytes_slice(&b), &del2), 0);
        same_delete(&del, m);
        same_delete(&del2, m);
        release(m);

        bytes_reset(&b);
        etcd_range_encode(&range, &b);
        m = unpack_same(&etcd__range_request__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_range_decode(bytes_slice(&b), &range2), 0);
        same_range(&range, m);
        same_range(&range2, m);
        release(m);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    bytes_fini(&again);
    arena_fini(&g.arena);
}

static void txns_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct txn *t = any_txn(&g, 1), t2;
        void *m;

        bytes_reset(&b);
        etcd_txn_encode(t, &b);
        assert_int_equal(b.len, etcd_txn_size(t));
        m = unpack_same(&etcd__txn_request__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_txn_decode(bytes_slice(&b), &g.arena, &t2), 0);
        same_txn(t, m);
        same_txn(&t2, m);
        release(m);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void compaction_agrees_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < 100; i++) {
        int64_t revision = any_int(&g), revision2;
        bool physical = any_bool(&g), physical2;
        Etcd__CompactionRequest *m;

        bytes_reset(&b);
        body_compact_encode(revision, physical, &b);
        m = unpack_same(&etcd__compaction_request__descriptor, bytes_slice(&b));
        assert_int_equal(etcd_compact_decode(bytes_slice(&b), &revision2, &physical2), 0);
        assert_true(m->revision == revision && m->physical == physical);
        assert_true(revision2 == revision && physical2 == physical);
        release(m);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

/* A member of the oneof that the target does not read counts as absent, in whatever order they come. */
static void a_compare_reads_its_targets_member(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int64_t number;
        size_t value_len;
    } cases[] = {
        {"\x20\x05", 2, 5, 0},                 /* version 5, target VERSION by default */
        {"\x28\x05", 2, 0, 0},                 /* create revision, target VERSION */
        {"\x28\x05\x10\x01", 4, 5, 0},         /* the same, then the target CREATE */
        {"\x3a\x01x", 3, 0, 0},                /* a value, target VERSION */
        {"\x3a\x01x\x10\x03", 5, 0, 1},        /* a value, target VALUE */
        {"\x3a\x01x\x20\x05\x10\x03", 7, 0, 0}, /* the version behind it is the oneof's member now */
    };
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t in[32] = {0x0a, (uint8_t)cases[i].len};
        struct txn t;

        memcpy(in + 2, cases[i].bytes, cases[i].len);
        assert_int_equal(etcd_txn_decode(slice_make(in, cases[i].len + 2), &arena, &t), 0);
        assert_int_equal(t.n_compares, 1);
        assert_true(t.compares[0].number == cases[i].number);
        assert_int_equal(t.compares[0].value.len, cases[i].value_len);
    }
    arena_fini(&arena);
}

static void a_txn_too_deep_or_too_wide_is_refused(void **state)
{
    struct arena arena;
    struct bytes b, outer;
    struct txn t = {0};

    arena_init(&arena);
    bytes_init(&b);
    bytes_init(&outer);
    for (int depth = 2; depth <= TXN_MAX_DEPTH + 1; depth++) { /* each turn wraps what there is in one more txn */
        struct txn in;

        bytes_reset(&outer);
        bytes_u8(&outer, 0x22);
        bytes_varint_slice(&outer, bytes_slice(&b));
        bytes_reset(&b);
        bytes_u8(&b, 0x12);
        bytes_varint_slice(&b, bytes_slice(&outer));
        assert_int_equal(etcd_txn_decode(bytes_slice(&b), &arena, &in), depth <= TXN_MAX_DEPTH ? 0 : -E2BIG);
    }
    bytes_reset(&b);
    for (int i = 0; i < TXN_DECODE_MAX_OPS; i++)
        bytes_raw(&b, i % 2 == 0 ? "\x12\x00" : "\x1a\x00", 2);
    assert_int_equal(etcd_txn_decode(bytes_slice(&b), &arena, &t), 0);
    assert_int_equal(t.success[0].kind, 0);
    bytes_raw(&b, "\x0a\x00", 2);
    assert_int_equal(etcd_txn_decode(bytes_slice(&b), &arena, &t), -E2BIG);
    bytes_fini(&b);
    bytes_fini(&outer);
    arena_fini(&arena);
}

/* ---- quorumfs.proto ---- */

static void file_commands_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct file_op op = {any_bytes(&g), any_bytes(&g), any_bytes(&g), dice_number(&g.d), dice_number(&g.d),
                             (uint32_t)dice_number(&g.d), any_int(&g), any_int(&g), {0}}, op2;
        Quorumfs__FileCommand *m;

        if (any_bool(&g))
            op.attrs = (struct attrs){(uint32_t)dice_number(&g.d), (uint32_t)dice_number(&g.d),
                                      (uint32_t)dice_number(&g.d), (uint32_t)dice_number(&g.d),
                                      any_int(&g), dice_number(&g.d), dice_number(&g.d)};
        bytes_reset(&b);
        body_file_encode(&op, &b);
        m = unpack_same(&quorumfs__file_command__descriptor, bytes_slice(&b));
        assert_int_equal(body_file_decode(bytes_slice(&b), &op2), 0);
        same_bytes(op.path, m->path);
        same_bytes(op.path2, m->path2);
        same_bytes(op.value, m->value);
        assert_true(op.ino == m->ino && op.ino2 == m->ino2 && op.flags == m->flags &&
                    op.expect_rev == m->expect_rev && op.fence == m->fence);
        if (m->attributes != NULL)
            assert_true(op.attrs.has == m->attributes->has && op.attrs.mode == m->attributes->mode &&
                        op.attrs.uid == m->attributes->uid && op.attrs.gid == m->attributes->gid &&
                        op.attrs.mtime_ns == m->attributes->mtime_ns && op.attrs.ino == m->attributes->ino &&
                        op.attrs.size == m->attributes->size);
        assert_true(slice_equal(op.path, op2.path) && slice_equal(op.path2, op2.path2) &&
                    slice_equal(op.value, op2.value));
        assert_true(op.ino == op2.ino && op.ino2 == op2.ino2 && op.flags == op2.flags &&
                    op.expect_rev == op2.expect_rev && op.fence == op2.fence);
        assert_true(op.attrs.has == op2.attrs.has && op.attrs.mode == op2.attrs.mode &&
                    op.attrs.uid == op2.attrs.uid && op.attrs.gid == op2.attrs.gid &&
                    op.attrs.mtime_ns == op2.attrs.mtime_ns && op.attrs.ino == op2.attrs.ino &&
                    op.attrs.size == op2.attrs.size);
        release(m);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void small_messages_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct body_file_response f = {dice_number(&g.d), dice_number(&g.d), any_bool(&g)}, f2;
        struct slice urls[3] = {any_bytes(&g), any_bytes(&g), any_bytes(&g)};
        struct member_info mi = {dice_number(&g.d), any_bytes(&g), urls, dice_below(&g.d, 4),
                                 (uint32_t)dice_number(&g.d), dice_number(&g.d)}, mi2;
        uint32_t count = (uint32_t)dice_number(&g.d), count2;
        Quorumfs__FileResponse *fm;
        Quorumfs__MemberPublish *mm;
        Quorumfs__AllocInodes *am;

        bytes_reset(&b);
        body_file_response_encode(&f, &b);
        fm = unpack_same(&quorumfs__file_response__descriptor, bytes_slice(&b));
        assert_int_equal(body_file_response_decode(bytes_slice(&b), &f2), 0);
        assert_true(f.ino == fm->ino && f.size == fm->size && f.changed == fm->changed);
        assert_true(f.ino == f2.ino && f.size == f2.size && f.changed == f2.changed);
        release(fm);

        bytes_reset(&b);
        body_member_encode(&mi, &b);
        mm = unpack_same(&quorumfs__member_publish__descriptor, bytes_slice(&b));
        assert_int_equal(body_member_decode(bytes_slice(&b), &g.arena, &mi2), 0);
        same_bytes(mi.name, mm->name);
        assert_true(mi.id == mm->id && mi.n_client_urls == mm->n_client_urls);
        assert_true(mi.version == mm->version && mi.version == mi2.version);
        assert_true(mi.id == mi2.id && mi.n_client_urls == mi2.n_client_urls && slice_equal(mi.name, mi2.name));
        for (size_t k = 0; k < mi.n_client_urls; k++) {
            same_bytes(urls[k], mm->client_urls[k]);
            assert_true(slice_equal(urls[k], mi2.client_urls[k]));
        }
        release(mm);

        bytes_reset(&b);
        body_alloc_inodes_encode(count, &b);
        am = unpack_same(&quorumfs__alloc_inodes__descriptor, bytes_slice(&b));
        assert_int_equal(body_alloc_inodes_decode(bytes_slice(&b), &count2), 0);
        assert_true(am->count == count && count2 == count);
        release(am);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void lock_messages_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct lock_op l = {dice_number(&g.d), dice_number(&g.d), dice_number(&g.d), dice_number(&g.d),
                            (int)dice_below(&g.d, 3), (int)dice_below(&g.d, 3), dice_number(&g.d), dice_number(&g.d),
                            (uint32_t)dice_number(&g.d), any_bool(&g), any_bool(&g), (int64_t)dice_number(&g.d)}, l2;
        Quorumfs__LockCommand *m;
        Quorumfs__LockResponse *r;
        bool granted;
        uint64_t token;

        bytes_reset(&b);
        body_lock_encode(&l, &b);
        m = unpack_same(&quorumfs__lock_command__descriptor, bytes_slice(&b));
        assert_int_equal(body_lock_decode(bytes_slice(&b), &l2), 0);
        assert_true(m->ino == l.ino && m->session == l.session && m->owner == l.owner && m->request == l.request);
        assert_true(m->kind == l.kind && m->type == l.type && m->start == l.start && m->end == l.end);
        assert_true(m->pid == l.pid && m->wait == l.wait && m->all == l.all && m->lease == l.lease);
        assert_true(l2.ino == l.ino && l2.session == l.session && l2.owner == l.owner && l2.request == l.request);
        assert_true(l2.kind == l.kind && l2.type == l.type && l2.start == l.start && l2.end == l.end);
        assert_true(l2.pid == l.pid && l2.wait == l.wait && l2.all == l.all && l2.lease == l.lease);
        release(m);

        bytes_reset(&b);
        body_lock_response_encode(l.wait, l.owner, &b);
        r = unpack_same(&quorumfs__lock_response__descriptor, bytes_slice(&b));
        assert_int_equal(body_lock_response_decode(bytes_slice(&b), &granted, &token), 0);
        assert_true(r->granted == l.wait && r->token == l.owner && granted == l.wait && token == l.owner);
        release(r);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void lease_and_alarm_messages_agree_with_protobuf_c(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < ROUNDS; i++) {
        struct lease_op l = {(int64_t)dice_number(&g.d), (int64_t)dice_number(&g.d), dice_number(&g.d)}, l2;
        struct lease_checkpoint items[3] = {{l.id, l.ttl_s}, {l.ttl_s, 0}, {0, 0}}, *items2;
        struct alarm alarms[2] = {{l.term, ALARM_CORRUPT}, {0, ALARM_NOSPACE}}, *alarms2;
        struct alarm_op op = {(int32_t)dice_below(&g.d, 3), (int32_t)dice_below(&g.d, 3), l.term}, op2;
        size_t n = dice_below(&g.d, 3), n2;
        Etcd__LeaseGrantRequest *grant;
        Etcd__LeaseGrantResponse *granted;
        Etcd__LeaseCheckpointRequest *points;
        Etcd__AlarmRequest *alarm;
        Etcd__AlarmResponse *active;
        Quorumfs__LeaseExpire *expire;
        int64_t id, ttl_s;

        bytes_reset(&b);
        body_lease_grant_encode(&l, &b);
        grant = unpack_same(&etcd__lease_grant_request__descriptor, bytes_slice(&b));
        assert_int_equal(body_lease_grant_decode(bytes_slice(&b), &l2), 0);
        assert_true(grant->id == l.id && grant->ttl == l.ttl_s && l2.id == l.id && l2.ttl_s == l.ttl_s);
        release(grant);

        bytes_reset(&b);
        body_lease_grant_response_encode(l.id, l.ttl_s, &b);
        granted = unpack_same(&etcd__lease_grant_response__descriptor, bytes_slice(&b));
        assert_int_equal(body_lease_grant_response_decode(bytes_slice(&b), &id, &ttl_s), 0);
        assert_true(granted->id == l.id && granted->ttl == l.ttl_s && id == l.id && ttl_s == l.ttl_s);
        release(granted);

        bytes_reset(&b);
        body_lease_checkpoint_encode(items, n, &b);
        points = unpack_same(&etcd__lease_checkpoint_request__descriptor, bytes_slice(&b));
        assert_int_equal(body_lease_checkpoint_decode(bytes_slice(&b), &g.arena, &items2, &n2), 0);
        assert_true(points->n_checkpoints == n && n2 == n);
        for (size_t k = 0; k < n; k++)
            assert_true(points->checkpoints[k]->id == items[k].id && items2[k].id == items[k].id &&
                        points->checkpoints[k]->remaining_ttl == items[k].remaining_s &&
                        items2[k].remaining_s == items[k].remaining_s);
        release(points);

        bytes_reset(&b);
        body_alarm_encode(&op, &b);
        alarm = unpack_same(&etcd__alarm_request__descriptor, bytes_slice(&b));
        assert_int_equal(body_alarm_decode(bytes_slice(&b), &op2), 0);
        assert_true((int)alarm->action == op.action && (int)alarm->alarm == op.type && alarm->memberid == op.member_id);
        assert_true(op2.action == op.action && op2.type == op.type && op2.member_id == op.member_id);
        release(alarm);

        bytes_reset(&b);
        body_alarm_response_encode(alarms, n > 2 ? 2 : n, &b);
        active = unpack_same(&etcd__alarm_response__descriptor, bytes_slice(&b));
        assert_int_equal(body_alarm_response_decode(bytes_slice(&b), &g.arena, &alarms2, &n2), 0);
        assert_true(active->n_alarms == n2);
        for (size_t k = 0; k < n2; k++)
            assert_true(active->alarms[k]->memberid == alarms2[k].member_id &&
                        alarms2[k].member_id == alarms[k].member_id && alarms2[k].type == alarms[k].type);
        release(active);

        bytes_reset(&b);
        body_lease_expire_encode(&l, &b);
        expire = unpack_same(&quorumfs__lease_expire__descriptor, bytes_slice(&b));
        assert_int_equal(body_lease_expire_decode(bytes_slice(&b), &l2), 0);
        assert_true(expire->id == l.id && expire->term == l.term && l2.id == l.id && l2.term == l.term);
        release(expire);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

/* ---- bytes that lie ---- */

static int decode_as(unsigned which, struct slice in, struct arena *arena)
{
    union {
        struct op_put put;
        struct op_delete del;
        struct op_range range;
        struct txn txn;
        struct kv kv;
        struct op_result result;
        struct file_op file;
        struct body_file_response response;
        struct member_info member;
        int64_t revision;
        uint32_t count;
    } m;
    bool physical;

    switch (which) {
    case 0:
        return etcd_put_decode(in, &m.put);
    case 1:
        return etcd_delete_decode(in, &m.del);
    case 2:
        return etcd_range_decode(in, &m.range);
    case 3:
        return etcd_txn_decode(in, arena, &m.txn);
    case 4:
        return etcd_kv_decode(in, &m.kv);
    case 5:
    case 6:
    case 7:
    case 8:
        return etcd_op_result_decode((enum op_kind)(which - 4), in, arena, &m.result);
    case 9:
        return body_file_decode(in, &m.file);
    case 10:
        return body_file_response_decode(in, &m.response);
    case 11:
        return body_member_decode(in, arena, &m.member);
    case 12:
        return etcd_compact_decode(in, &m.revision, &physical);
    default:
        return body_alloc_inodes_decode(in, &m.count);
    }
}

#define DECODERS 14

static void random_and_truncated_bytes_are_harmless(void **state)
{
    struct gen g = gen_new();
    struct bytes b;

    bytes_init(&b);
    for (int i = 0; i < 20000; i++) {
        struct slice in;
        uint8_t *p;

        bytes_reset(&b);
        if (i % 3 == 0)
            bytes_append(&b, any_bytes(&g));
        else if (i % 3 == 1)
            etcd_txn_encode(any_txn(&g, 1), &b);
        else
            etcd_op_result_encode(&(struct op_result){.kind = OP_TXN,
                                  .txn = &(struct txn_result){true, (struct op_result[]){any_result(&g, 2)}, 1}},
                                  5, &b);
        in = bytes_slice(&b);
        for (uint64_t n = dice_below(&g.d, 3); n > 0 && in.len > 0; n--)
            b.data[dice_below(&g.d, in.len)] ^= (uint8_t)(1 << dice_below(&g.d, 8));
        if (in.len > 0 && any_bool(&g))
            in.len = dice_below(&g.d, in.len);
        p = exact_copy(in);
        for (unsigned which = 0; which < DECODERS; which++) {
            int rc = decode_as(which, slice_make(p, in.len), &g.arena);

            assert_true(rc == 0 || rc == -EBADMSG || rc == -E2BIG);
        }
        free(p);
        arena_reset(&g.arena);
    }
    bytes_fini(&b);
    arena_fini(&g.arena);
}

static void damage_is_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\x0a", 1},                 /* a tag alone */
        {"\x0a\x05" "abcd", 6},      /* a byte short */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* a length of 2^64-1 */
        {"\x08\x01", 2},             /* the key as a number */
        {"\x00\x01", 2},             /* field 0 */
        {"\x0b\x0c", 2},             /* a group */
        {"\x0e", 1},                 /* wire type 6 */
        {"\x18\x80", 2},             /* an unfinished varint */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11}, /* more than 64 bits */
        {"\x79\1\2\3\4\5\6\7", 8},   /* an unknown fixed64, a byte short */
        {"\x7d\1\2\3", 4},           /* an unknown fixed32, a byte short */
        {"\xfa\xff\xff\xff\xff\x01\x00", 7}, /* a field number past 2^29 */
    };
    struct op_put put;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(etcd_put_decode(slice_make(bad[i].bytes, bad[i].len), &put), -EBADMSG);
    /* Unknown fields of each wire type are passed over; of repeated ones the last counts. */
    assert_int_equal(etcd_put_decode(slice_make("\x0a\x01" "a\x78\x05\x79" "12345678\x7d" "1234\x7a\x02zz\x0a\x01" "b", 26),
                                     &put), 0);
    assert_true(slice_equal(put.key, slice_from_str("b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_agree_with_protobuf_c),
        cmocka_unit_test(txns_agree_with_protobuf_c),
        cmocka_unit_test(compaction_agrees_with_protobuf_c),
        cmocka_unit_test(a_compare_reads_its_targets_member),
        cmocka_unit_test(a_txn_too_deep_or_too_wide_is_refused),
        cmocka_unit_test(file_commands_agree_with_protobuf_c),
        cmocka_unit_test(small_messages_agree_with_protobuf_c),
        cmocka_unit_test(lock_messages_agree_with_protobuf_c),
        cmocka_unit_test(lease_and_alarm_messages_agree_with_protobuf_c),
        cmocka_unit_test(random_and_truncated_bytes_are_harmless),
        cmocka_unit_test(damage_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
