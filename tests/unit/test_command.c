/* proto/command: the bytes of every kind are fixed, lies are refused, and the checks answer as etcd does. */
#include "tests/unit/wire_check.h"

#include <errno.h>

#include "proto/command.h"

#define ENVELOPE_HEX(kind)                                                                                          \
    "01 00 " kind " 00000100 1111111111111111 0200000000000000 0300000000000000 0400000000000000 "                 \
    "0500000000000000 0600000000000000 0300 0000 "

static struct command new_command(uint16_t kind)
{
    struct command cmd;

    memset(&cmd, 0, sizeof(cmd));
    cmd.kind = kind;
    cmd.session = 0x1111111111111111;
    cmd.sequence = 2;
    cmd.origin = 3;
    cmd.request = 4;
    cmd.auth_revision = 5;
    cmd.time_ns = 6;
    cmd.min_version = 1 << 16;
    cmd.user = slice_from_str("bob");
    return cmd;
}

static struct file_op some_file(void)
{
    return (struct file_op){
        .path = slice_from_str("/a"), .path2 = slice_from_str("/b"), .value = slice_from_str("v"), .ino = 7, .ino2 = 8,
        .flags = FILE_CREATE | FILE_EXPECT_REV, .expect_rev = 9,
        .attrs = {ATTR_MODE | ATTR_INO, 0100644, 1, 2, -1, 3, 4},
    };
}

#define FILE_HEX                                                                                                    \
    "2e000000 626f62 0a022f61 12022f62 1a0176 2007 2808 3011 3809 4219 0821 10a48302 1801 2002 28ffffffffffffffffff01 " \
    "3003 3804"

#define LOCK_HEX                                                                                                    \
    "18000000 626f62 0807 1008 1809 200a 2801 3002 380b 400c 480d 5001 5801 600e"

static struct lease_checkpoint checkpoint_list[] = {{7, 30}, {8, 0}};
static struct slice url_list[] = {{(const uint8_t *)"http://h:1", 10}};
static struct op_compare compare_list[] = {{.key = {(const uint8_t *)"k", 1}, .number = 0}};
static struct op success_list[] = {{.kind = OP_PUT, .put = {.key = {(const uint8_t *)"k", 1}}}};
static struct op failure_list[] = {{.kind = OP_RANGE, .range = {.key = {(const uint8_t *)"k", 1}}}};

static const struct {
    uint16_t kind;
    const char *hex;
} golden[] = {
    {COMMAND_NOOP, ENVELOPE_HEX("0100") "00000000 626f62"},
    {COMMAND_PUT, ENVELOPE_HEX("0200") "0c000000 626f62 0a016b 120176 1805 2001 2801"},
    {COMMAND_DELETE_RANGE, ENVELOPE_HEX("0300") "08000000 626f62 0a016b 120100 1801"},
    {COMMAND_TXN, ENVELOPE_HEX("0400") "15000000 626f62 0a05 1a016b 2000 1205 12030a016b 1a05 0a030a016b"},
    {COMMAND_COMPACT, ENVELOPE_HEX("0500") "04000000 626f62 0809 1001"},
    {COMMAND_MEMBER_PUBLISH, ENVELOPE_HEX("1000") "12000000 626f62 0805 12026e31 1a0a687474703a2f2f683a31"},
    {COMMAND_ALLOC_INODES, ENVELOPE_HEX("1100") "03000000 626f62 08e807"},
    {COMMAND_FILE_WRITE, ENVELOPE_HEX("2000") FILE_HEX},
    {COMMAND_FILE_APPEND, ENVELOPE_HEX("2100") FILE_HEX},
    {COMMAND_FILE_MKDIR, ENVELOPE_HEX("2200") FILE_HEX},
    {COMMAND_FILE_SYMLINK, ENVELOPE_HEX("2300") FILE_HEX},
    {COMMAND_FILE_UNLINK, ENVELOPE_HEX("2400") FILE_HEX},
    {COMMAND_FILE_RMDIR, ENVELOPE_HEX("2500") FILE_HEX},
    {COMMAND_FILE_RENAME, ENVELOPE_HEX("2600") FILE_HEX},
    {COMMAND_FILE_SETATTR, ENVELOPE_HEX("2700") FILE_HEX},
    {COMMAND_FILE_SETXATTR, ENVELOPE_HEX("2800") FILE_HEX},
    {COMMAND_FILE_REMOVEXATTR, ENVELOPE_HEX("2900") FILE_HEX},
    {COMMAND_FILE_LOCK, ENVELOPE_HEX("2a00") LOCK_HEX},
    {COMMAND_FILE_UNLOCK, ENVELOPE_HEX("2b00") LOCK_HEX},
    {COMMAND_FILE_LOCK_CANCEL, ENVELOPE_HEX("2c00") LOCK_HEX},
    {COMMAND_LEASE_GRANT, ENVELOPE_HEX("0600") "04000000 626f62 083c 1007"},
    {COMMAND_LEASE_REVOKE, ENVELOPE_HEX("0700") "02000000 626f62 0807"},
    {COMMAND_LEASE_EXPIRE, ENVELOPE_HEX("0800") "04000000 626f62 0807 1009"},
    {COMMAND_LEASE_CHECKPOINT, ENVELOPE_HEX("0900") "0a000000 626f62 0a04 0807 101e 0a02 0808"},
    {COMMAND_ALARM, ENVELOPE_HEX("0a00") "06000000 626f62 0801 1005 1802"},
    {COMMAND_QUOTA_SET, ENVELOPE_HEX("0b00") "03000000 626f62 088008"},
    {COMMAND_CLUSTER_VERSION, ENVELOPE_HEX("1200") "02000000 626f62 0802"},
};

#define N_GOLDEN (sizeof(golden) / sizeof(golden[0]))

static struct command golden_command(uint16_t kind)
{
    struct command cmd = new_command(kind);

    switch (kind) {
    case COMMAND_PUT:
        cmd.put = (struct op_put){slice_from_str("k"), slice_from_str("v"), 5, true, true, false};
        break;
    case COMMAND_DELETE_RANGE:
        cmd.del = (struct op_delete){slice_from_str("k"), slice_make("\0", 1), true};
        break;
    case COMMAND_TXN:
        cmd.txn = (struct txn){compare_list, success_list, failure_list, 1, 1, 1};
        break;
    case COMMAND_COMPACT:
        cmd.compact.revision = 9;
        cmd.compact.physical = true;
        break;
    case COMMAND_MEMBER_PUBLISH:
        cmd.member = (struct member_info){5, slice_from_str("n1"), url_list, 1, 0, 0};
        break;
    case COMMAND_ALLOC_INODES:
        cmd.alloc_inodes.count = 1000;
        break;
    case COMMAND_NOOP:
        break;
    case COMMAND_LEASE_GRANT:
        cmd.lease = (struct lease_op){.id = 7, .ttl_s = 60};
        break;
    case COMMAND_LEASE_REVOKE:
        cmd.lease = (struct lease_op){.id = 7};
        break;
    case COMMAND_LEASE_EXPIRE:
        cmd.lease = (struct lease_op){.id = 7, .term = 9};
        break;
    case COMMAND_LEASE_CHECKPOINT:
        cmd.checkpoint.items = checkpoint_list;
        cmd.checkpoint.n_items = 2;
        break;
    case COMMAND_ALARM:
        cmd.alarm = (struct alarm_op){.action = ALARM_ACTIVATE, .member_id = 5, .type = ALARM_CORRUPT};
        break;
    case COMMAND_QUOTA_SET:
        cmd.quota.bytes = 1024;
        break;
    case COMMAND_CLUSTER_VERSION:
        cmd.cluster_version.version = 2;
        break;
    case COMMAND_FILE_LOCK:
    case COMMAND_FILE_UNLOCK:
    case COMMAND_FILE_LOCK_CANCEL:
        cmd.lock = (struct lock_op){7, 8, 9, 10, LOCK_POSIX, LOCK_EXCLUSIVE, 11, 12, 13, true, true, 14};
        break;
    default:
        cmd.file = some_file();
    }
    return cmd;
}

static void each_kind_has_its_bytes(void **state)
{
    struct arena arena;
    struct bytes b, again;

    arena_init(&arena);
    bytes_init(&b);
    bytes_init(&again);
    for (size_t i = 0; i < N_GOLDEN; i++) {
        struct command cmd = golden_command(golden[i].kind), back;

        bytes_reset(&b);
        command_encode(&cmd, &b);
        check_hex(bytes_slice(&b), golden[i].hex);
        assert_int_equal(command_decode(bytes_slice(&b), &arena, &back), 0);
        bytes_reset(&again);
        command_encode(&back, &again);
        assert_true(slice_equal(bytes_slice(&b), bytes_slice(&again)));
    }
    bytes_fini(&b);
    bytes_fini(&again);
    arena_fini(&arena);
}

static void a_raw_body_makes_the_same_command(void **state)
{
    struct command cmd = golden_command(COMMAND_PUT), back;
    struct bytes b, raw;
    struct slice body;

    bytes_init(&b);
    bytes_init(&raw);
    bytes_u8(&b, 0xee); /* an envelope may begin anywhere in a buffer */
    command_encode(&cmd, &b);
    assert_int_equal(command_decode_envelope(slice_make(b.data + 1, b.len - 1), &back, &body), 0);
    command_encode_raw(&back, body, &raw);
    assert_true(slice_equal(slice_make(b.data + 1, b.len - 1), bytes_slice(&raw)));
    bytes_fini(&b);
    bytes_fini(&raw);
}

static void stamping_fills_in_what_the_node_knows(void **state)
{
    struct command cmd = golden_command(COMMAND_PUT), back;
    struct bytes b;
    struct slice body;

    bytes_init(&b);
    command_encode(&cmd, &b);
    command_stamp(b.data, 70, 80, 90);
    command_set_session(b.data, 100, 110);
    assert_int_equal(command_decode_envelope(bytes_slice(&b), &back, &body), 0);
    assert_true(back.origin == 70 && back.request == 80 && back.time_ns == 6); /* a time that is given stays */
    assert_true(back.session == 100 && back.sequence == 110);
    assert_true(back.auth_revision == 5 && back.min_version == 1 << 16 && back.kind == COMMAND_PUT);
    cmd.time_ns = 0;
    bytes_reset(&b);
    command_encode(&cmd, &b);
    command_stamp(b.data, 70, 80, 90);
    assert_int_equal(command_decode_envelope(bytes_slice(&b), &back, &body), 0);
    assert_true(back.time_ns == 90);
    bytes_fini(&b);
}

static void a_cut_or_longer_command_is_refused(void **state)
{
    struct arena arena;
    struct bytes b;

    arena_init(&arena);
    bytes_init(&b);
    for (size_t i = 0; i < N_GOLDEN; i++) {
        struct command cmd = golden_command(golden[i].kind);

        bytes_reset(&b);
        command_encode(&cmd, &b);
        for (size_t n = 0; n < b.len; n++) {
            uint8_t *p = exact_copy(slice_make(b.data, n));

            assert_int_equal(command_decode(slice_make(p, n), &arena, &cmd), -EBADMSG);
            free(p);
        }
        bytes_u8(&b, 0);
        assert_int_equal(command_decode(bytes_slice(&b), &arena, &cmd), -EBADMSG);
    }
    bytes_fini(&b);
    arena_fini(&arena);
}

static void what_is_newer_is_told_from_damage(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } changes[] = {
        {0, 2, -ENOTSUP},    {0, 0, -EBADMSG},  {1, 1, -ENOTSUP},   {58, 1, -ENOTSUP}, {59, 1, -ENOTSUP},
        {2, 0, -EBADMSG},    {2, 12, -ENOTSUP}, {2, 15, -ENOTSUP},  {2, 19, -ENOTSUP}, {2, 45, -ENOTSUP},
        {3, 1, -ENOTSUP},    {56, 4, -EBADMSG}, {60, 13, -EBADMSG}, {63, 1, -EBADMSG},
    };
    struct command cmd = golden_command(COMMAND_PUT), back;
    struct arena arena;
    struct bytes b;

    arena_init(&arena);
    bytes_init(&b);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        bytes_reset(&b);
        command_encode(&cmd, &b);
        b.data[changes[i].at] = changes[i].value;
        assert_int_equal(command_decode(bytes_slice(&b), &arena, &back), changes[i].error);
    }
    bytes_reset(&b);
    memset(bytes_grow(&b, COMMAND_MAX_BYTES + 1), 1, COMMAND_MAX_BYTES + 1);
    assert_int_equal(command_decode(bytes_slice(&b), &arena, &back), -E2BIG);
    bytes_fini(&b);
    arena_fini(&arena);
}

static void answers_are_read_back(void **state)
{
    struct kv kv = {slice_from_str("k"), slice_from_str("v"), 2, 3, 1, 0};
    struct alarm alarm = {5, ALARM_NOSPACE};
    struct result r = {.kind = COMMAND_PUT, .revision = 5, .op = {.kind = OP_PUT, .put = {&kv}}}, back;
    struct arena arena;
    struct bytes b;

    arena_init(&arena);
    bytes_init(&b);
    result_encode(&r, &b);
    check_hex(bytes_slice(&b), "120c 0a016b 1002 1803 2001 2a0176");
    assert_int_equal(result_decode(COMMAND_PUT, bytes_slice(&b), &arena, &back), 0);
    assert_int_equal(back.op.kind, OP_PUT);
    assert_true(slice_equal(back.op.put.prev_kv->value, kv.value));

    r = (struct result){.kind = COMMAND_FILE_WRITE, .file = {.ino = 7, .size = 300, .changed = true}};
    bytes_reset(&b);
    result_encode(&r, &b);
    check_hex(bytes_slice(&b), "0807 10ac02 1801");
    assert_int_equal(result_decode(COMMAND_FILE_WRITE, bytes_slice(&b), &arena, &back), 0);
    assert_true(back.file.ino == 7 && back.file.size == 300 && back.file.changed);

    r = (struct result){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 7, .ttl_s = 60}};
    bytes_reset(&b);
    result_encode(&r, &b);
    check_hex(bytes_slice(&b), "1007 183c");
    assert_int_equal(result_decode(COMMAND_LEASE_GRANT, bytes_slice(&b), &arena, &back), 0);
    assert_true(back.lease.id == 7 && back.lease.ttl_s == 60);

    r = (struct result){.kind = COMMAND_ALARM, .alarms = {&alarm, 1}};
    bytes_reset(&b);
    result_encode(&r, &b);
    check_hex(bytes_slice(&b), "1204 0805 1001");
    assert_int_equal(result_decode(COMMAND_ALARM, bytes_slice(&b), &arena, &back), 0);
    assert_true(back.alarms.n_items == 1 && back.alarms.items[0].member_id == 5 &&
                back.alarms.items[0].type == ALARM_NOSPACE);

    r = (struct result){.kind = COMMAND_FILE_LOCK, .lock = {true, 9}};
    bytes_reset(&b);
    result_encode(&r, &b);
    check_hex(bytes_slice(&b), "0801 1009");
    assert_int_equal(result_decode(COMMAND_FILE_LOCK, bytes_slice(&b), &arena, &back), 0);
    assert_true(back.lock.granted && back.lock.token == 9);

    r.status = STATUS_EXISTS;
    bytes_reset(&b);
    result_encode(&r, &b);
    assert_int_equal(b.len, 0);
    assert_int_equal(result_decode(COMMAND_NOOP, slice_from_str("x"), &arena, &back), -EBADMSG);
    bytes_fini(&b);
    arena_fini(&arena);
}

/* ---- checks ---- */

static struct slice str(const char *s)
{
    return slice_from_str(s);
}

static uint16_t check_put(struct op_put put)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = put};

    return command_check(&cmd);
}

static void single_requests_are_checked_as_in_etcd(void **state)
{
    struct command del = {.kind = COMMAND_DELETE_RANGE};
    struct op_range range = {.key = str("k")};

    assert_int_equal(check_put((struct op_put){.key = str("k")}), STATUS_OK);
    assert_int_equal(check_put((struct op_put){.ignore_value = true, .value = str("v")}), STATUS_EMPTY_KEY);
    assert_int_equal(check_put((struct op_put){.key = str("k"), .ignore_value = true, .value = str("v"),
                                               .ignore_lease = true, .lease = 1}), STATUS_VALUE_PROVIDED);
    assert_int_equal(check_put((struct op_put){.key = str("k"), .ignore_lease = true, .lease = 1}),
                     STATUS_LEASE_PROVIDED);
    assert_int_equal(command_check(&del), STATUS_EMPTY_KEY);
    assert_int_equal(command_check_range(&range), STATUS_OK);
    range.sort_order = (enum sort_order)3;
    assert_int_equal(command_check_range(&range), STATUS_INVALID_SORT);
    range.key.len = 0;
    assert_int_equal(command_check_range(&range), STATUS_EMPTY_KEY);
    range = (struct op_range){.key = str("k"), .sort_target = (enum sort_target)-1};
    assert_int_equal(command_check_range(&range), STATUS_INVALID_SORT);
}

static void requests_past_the_limits_are_too_large(void **state)
{
    static uint8_t big[FILE_MAX_BYTES + 1];
    struct op_put put = {.key = slice_make(big, KEY_MAX_BYTES)};
    struct command file = {.kind = COMMAND_FILE_WRITE, .file = {.path = str("/a")}};

    memset(big, 'x', sizeof(big));
    assert_int_equal(check_put(put), STATUS_OK);
    put.key.len++;
    assert_int_equal(check_put(put), STATUS_TOO_LARGE);
    put = (struct op_put){.key = str("k"), .value = slice_make(big, REQUEST_MAX_BYTES - 100)};
    assert_int_equal(check_put(put), STATUS_OK);
    put.value.len += 100;
    assert_int_equal(check_put(put), STATUS_TOO_LARGE);
    file.file.value = slice_make(big, FILE_MAX_BYTES);
    assert_int_equal(command_check(&file), STATUS_OK);
    file.file.value.len++;
    assert_int_equal(command_check(&file), STATUS_TOO_LARGE);
    file.file.value.len = 0;
    file.file.path = slice_make(big, KEY_MAX_BYTES + 1);
    assert_int_equal(command_check(&file), STATUS_NAME_TOO_LONG);
    file.file.path.len = 0;
    assert_int_equal(command_check(&file), STATUS_INVALID_REQUEST);
    file.file = (struct file_op){.path = str("/a"), .flags = 1 << 20};
    assert_int_equal(command_check(&file), STATUS_INVALID_REQUEST);
}

static struct op put_op(const char *key)
{
    return (struct op){.kind = OP_PUT, .put = {.key = str(key)}};
}

static struct op del_op(const char *key, struct slice end)
{
    return (struct op){.kind = OP_DELETE, .del = {.key = str(key), .range_end = end}};
}

static struct op txn_op(struct txn *t)
{
    return (struct op){.kind = OP_TXN, .txn = t};
}

static uint16_t check_ops(struct op *success, size_t n_success, struct op *failure, size_t n_failure)
{
    struct command cmd = {.kind = COMMAND_TXN,
                          .txn = {.success = success, .n_success = n_success, .failure = failure,
                                  .n_failure = n_failure}};

    return command_check(&cmd);
}

#define OPS(...) ((struct op[]){__VA_ARGS__}), sizeof((struct op[]){__VA_ARGS__}) / sizeof(struct op)

static void a_key_changes_once_in_a_txn(void **state)
{
    static const struct slice none = {NULL, 0};
    struct slice zero = slice_make("\0", 1);

    assert_int_equal(check_ops(OPS(put_op("a"), put_op("b")), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(put_op("a"), put_op("b"), put_op("a")), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(NULL, 0, OPS(put_op("a"), put_op("a"))), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(put_op("a")), OPS(put_op("a"))), STATUS_OK);
    assert_int_equal(check_ops(OPS(put_op("a"), del_op("a", none)), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(del_op("a", none), put_op("aa")), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(del_op("a", str("c")), put_op("b")), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(del_op("a", str("b")), put_op("b")), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(del_op("b", str("c")), put_op("a")), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(del_op("a", zero), put_op("z")), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(del_op("a", str("c")), del_op("b", none)), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(del_op("a", str("c"))), OPS(put_op("b"))), STATUS_OK);
}

static void inner_txns_exclude_only_their_own_other_side(void **state)
{
    static const struct slice none = {NULL, 0};
    struct op a[] = {put_op("a")}, del_a[] = {del_op("a", none)};
    struct txn then_a = {.success = a, .n_success = 1};
    struct txn else_a = {.failure = a, .n_failure = 1};
    struct txn both_a = {.success = a, .n_success = 1, .failure = a, .n_failure = 1};
    struct txn then_del = {.success = del_a, .n_success = 1};
    struct txn mixed = {.success = a, .n_success = 1, .failure = del_a, .n_failure = 1};
    struct op deep_ops[] = {txn_op(&both_a)};
    struct txn deep = {.success = deep_ops, .n_success = 1, .failure = a, .n_failure = 1};

    assert_int_equal(check_ops(OPS(txn_op(&both_a)), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(txn_op(&mixed)), NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(OPS(txn_op(&deep)), OPS(put_op("a"))), STATUS_OK);
    assert_int_equal(check_ops(OPS(txn_op(&deep), put_op("a")), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(put_op("a"), txn_op(&else_a)), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(txn_op(&then_a), txn_op(&else_a)), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(txn_op(&then_a), txn_op(&then_del)), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(txn_op(&then_del), txn_op(&then_a)), NULL, 0), STATUS_DUPLICATE_KEY);
    assert_int_equal(check_ops(OPS(txn_op(&then_a)), OPS(txn_op(&then_del))), STATUS_OK);
}

static void inner_txns_share_the_number_of_operations(void **state)
{
    static struct op many[TXN_MAX_OPS + 1];
    static char names[TXN_MAX_OPS + 1][8];
    struct txn inner = {.success = many};
    struct op two[] = {txn_op(&inner), put_op("x")};

    for (int i = 0; i <= TXN_MAX_OPS; i++) {
        snprintf(names[i], sizeof(names[i]), "k%d", i);
        many[i] = put_op(names[i]);
    }
    assert_int_equal(check_ops(many, TXN_MAX_OPS, NULL, 0), STATUS_OK);
    assert_int_equal(check_ops(many, TXN_MAX_OPS + 1, NULL, 0), STATUS_TOO_MANY_OPS);
    inner.n_success = TXN_MAX_OPS - 2;
    assert_int_equal(check_ops(two, 2, NULL, 0), STATUS_OK);
    inner.n_success++;
    assert_int_equal(check_ops(two, 2, NULL, 0), STATUS_TOO_MANY_OPS);
}

static void txns_are_checked_in_etcds_order(void **state)
{
    struct op_compare bare = {0};
    struct command cmd = {.kind = COMMAND_TXN, .txn = {.compares = &bare, .n_compares = 1}};
    struct op no_op[] = {{0}}, ignoring[] = {put_op("a"), put_op("a")};

    assert_int_equal(command_check(&cmd), STATUS_EMPTY_KEY);
    bare.key = str("k");
    bare.target = (enum compare_target)7;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    assert_int_equal(check_ops(no_op, 1, NULL, 0), STATUS_KEY_NOT_FOUND);
    ignoring[1].put.ignore_lease = true;
    ignoring[1].put.lease = 1;
    assert_int_equal(check_ops(ignoring, 2, NULL, 0), STATUS_LEASE_PROVIDED); /* before the keys are compared */
    cmd = (struct command){.kind = COMMAND_PUT, .session = 1, .put = {.key = str("k")}};
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd = (struct command){.kind = 99};
    assert_int_equal(command_check(&cmd), STATUS_UNIMPLEMENTED);
}

static uint16_t check_xattr(const char *name, size_t value_bytes, uint32_t flags)
{
    static uint8_t value[XATTR_VALUE_MAX_BYTES + 1];
    struct command cmd = {.kind = COMMAND_FILE_SETXATTR,
                          .file = {.path = str("/a"), .path2 = str(name), .value = slice_make(value, value_bytes),
                                   .flags = flags}};

    return command_check(&cmd);
}

static void attributes_and_locks_are_checked(void **state)
{
    struct lock_op lock = {.ino = 2, .session = 1, .kind = LOCK_POSIX, .type = LOCK_SHARED, .start = 1, .end = 1};
    struct command cmd = {.kind = COMMAND_FILE_LOCK, .lock = lock};
    char name[XATTR_NAME_MAX_BYTES + 2] = {0};

    memset(name, 'n', XATTR_NAME_MAX_BYTES);
    assert_int_equal(check_xattr(name, XATTR_VALUE_MAX_BYTES, FILE_CREATE), STATUS_OK);
    assert_int_equal(check_xattr(name, XATTR_VALUE_MAX_BYTES + 1, 0), STATUS_ATTRIBUTE_TOO_LARGE);
    assert_int_equal(check_xattr(name, 0, FILE_CREATE | FILE_REPLACE), STATUS_INVALID_REQUEST);
    assert_int_equal(check_xattr("", 0, 0), STATUS_INVALID_REQUEST);
    name[XATTR_NAME_MAX_BYTES] = 'n';
    assert_int_equal(check_xattr(name, 0, 0), STATUS_NAME_TOO_LONG);

    assert_int_equal(command_check(&cmd), STATUS_OK);
    cmd.lock.end = 0;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd.lock = lock;
    cmd.lock.type = 3;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd.kind = COMMAND_FILE_UNLOCK;
    assert_int_equal(command_check(&cmd), STATUS_OK); /* whatever it was */
    cmd.lock.kind = 0;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd.lock.all = true;
    assert_int_equal(command_check(&cmd), STATUS_OK);
    cmd.lock.session = 0;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
}

static void leases_and_alarms_are_checked(void **state)
{
    static struct lease_checkpoint many[LEASE_CHECKPOINT_MAX + 1];
    struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.id = -1, .ttl_s = LEASE_TTL_MAX_S}};

    assert_int_equal(command_check(&cmd), STATUS_OK);
    cmd.lease.ttl_s++;
    assert_int_equal(command_check(&cmd), STATUS_LEASE_TTL_TOO_LARGE);
    cmd.lease = (struct lease_op){.id = 0};
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd.kind = COMMAND_LEASE_REVOKE;
    assert_int_equal(command_check(&cmd), STATUS_LEASE_NOT_FOUND);
    for (size_t i = 0; i <= LEASE_CHECKPOINT_MAX; i++)
        many[i].id = 1;
    cmd = (struct command){.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {many, LEASE_CHECKPOINT_MAX}};
    assert_int_equal(command_check(&cmd), STATUS_OK);
    cmd.checkpoint.n_items++;
    assert_int_equal(command_check(&cmd), STATUS_TOO_LARGE);
    cmd = (struct command){.kind = COMMAND_ALARM, .alarm = {.action = ALARM_DEACTIVATE, .type = ALARM_CORRUPT}};
    assert_int_equal(command_check(&cmd), STATUS_OK);
    cmd.alarm.type++;
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
    cmd = (struct command){.kind = COMMAND_CLUSTER_VERSION};
    assert_int_equal(command_check(&cmd), STATUS_INVALID_REQUEST);
}

static void later_kinds_say_which_version_they_need(void **state)
{
    struct command cmd = {.kind = COMMAND_FILE_LOCK}, back;
    struct slice body;
    struct bytes b;

    bytes_init(&b);
    command_encode(&cmd, &b);
    assert_int_equal(command_decode_envelope(bytes_slice(&b), &back, &body), 0);
    assert_int_equal(back.min_version, 2);
    assert_true(back.min_version <= APPLY_VERSION);
    cmd.kind = COMMAND_FILE_SETATTR;
    bytes_reset(&b);
    command_encode(&cmd, &b);
    assert_int_equal(command_decode_envelope(bytes_slice(&b), &back, &body), 0);
    assert_int_equal(back.min_version, 0);
    bytes_fini(&b);
}

/* The rule itself, the slow way: list what each choice of sides changes and look for a key that comes twice. */
static bool changes_twice(const struct txn *t, uint32_t sides, unsigned *depth, struct slice *puts, size_t *n_puts,
                          struct slice *dels, size_t *n_dels)
{
    bool then = (sides >> (*depth)++ & 1) != 0;
    const struct op *ops = then ? t->success : t->failure;
    size_t n = then ? t->n_success : t->n_failure;

    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == OP_PUT)
            puts[(*n_puts)++] = ops[i].put.key;
        else if (ops[i].kind == OP_DELETE)
            dels[(*n_dels)++] = ops[i].del.key;
        else
            changes_twice(ops[i].txn, sides, depth, puts, n_puts, dels, n_dels);
    }
    for (size_t i = 0; i < *n_puts; i++) {
        for (size_t j = 0; j < i; j++)
            if (slice_equal(puts[i], puts[j]))
                return true;
        for (size_t j = 0; j < *n_dels; j++)
            if (slice_equal(puts[i], dels[j]))
                return true;
    }
    return false;
}

static struct txn *random_txn(struct dice *d, struct arena *arena, unsigned depth)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct txn *t = arena_alloc(arena, sizeof(*t));

    for (int side = 0; side < 2; side++) {
        size_t n = dice_below(d, 3);
        struct op *ops = arena_array(arena, n, sizeof(*ops));

        for (size_t i = 0; i < n; i++) {
            const char *key = keys[dice_below(d, 8)];
            uint64_t roll = dice_below(d, 5);

            if (roll >= 3 && depth < 3)
                ops[i] = txn_op(random_txn(d, arena, depth + 1));
            else
                ops[i] = roll == 0 ? del_op(key, slice_make(NULL, 0)) : put_op(key);
        }
        *(side == 0 ? &t->success : &t->failure) = ops;
        *(side == 0 ? &t->n_success : &t->n_failure) = n;
    }
    return t;
}

static void the_check_of_keys_agrees_with_trying_all_sides(void **state)
{
    struct dice d = dice_new();
    struct arena arena;
    unsigned twice = 0;

    arena_init(&arena);
    for (int i = 0; i < 1500; i++) {
        struct txn *t = random_txn(&d, &arena, 1);
        struct command cmd = {.kind = COMMAND_TXN, .txn = *t};
        bool found = false;

        /* At most 1 + 2 + 4 txns run in one choice of sides. */
        for (uint32_t sides = 0; sides < 128 && !found; sides++) {
            struct slice puts[64], dels[64];
            size_t n_puts = 0, n_dels = 0;
            unsigned depth = 0;

            found = changes_twice(t, sides, &depth, puts, &n_puts, dels, &n_dels);
        }
        assert_int_equal(command_check(&cmd), found ? STATUS_DUPLICATE_KEY : STATUS_OK);
        twice += found;
        arena_reset(&arena);
    }
    assert_in_range(twice, 100, 1400); /* both answers came */
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_bytes),
        cmocka_unit_test(a_raw_body_makes_the_same_command),
        cmocka_unit_test(stamping_fills_in_what_the_node_knows),
        cmocka_unit_test(a_cut_or_longer_command_is_refused),
        cmocka_unit_test(what_is_newer_is_told_from_damage),
        cmocka_unit_test(answers_are_read_back),
        cmocka_unit_test(single_requests_are_checked_as_in_etcd),
        cmocka_unit_test(requests_past_the_limits_are_too_large),
        cmocka_unit_test(a_key_changes_once_in_a_txn),
        cmocka_unit_test(inner_txns_exclude_only_their_own_other_side),
        cmocka_unit_test(inner_txns_share_the_number_of_operations),
        cmocka_unit_test(txns_are_checked_in_etcds_order),
        cmocka_unit_test(the_check_of_keys_agrees_with_trying_all_sides),
        cmocka_unit_test(attributes_and_locks_are_checked),
        cmocka_unit_test(leases_and_alarms_are_checked),
        cmocka_unit_test(later_kinds_say_which_version_they_need),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
