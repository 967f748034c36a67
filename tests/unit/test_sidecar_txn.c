/* Transactions that only read: evaluated on a snapshot they answer, to the byte, what the same come to as commands. */
#include "proto/etcd.h"
#include "sidecar/txn.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/wire_check.h"

static const char *const keys[] = {"a", "b", "b/1", "b/2", "c", "d", "e"};

static struct slice some_key(struct dice *d)
{
    return slice_from_str(keys[dice_below(d, sizeof keys / sizeof keys[0])]);
}

static struct slice some_end(struct dice *d, struct slice key)
{
    struct slice end = some_key(d);

    if (dice_below(d, 2) == 0)
        return slice_make(NULL, 0);
    if (dice_below(d, 5) == 0)
        return slice_make("", 1); /* to the last key */
    return slice_cmp(key, end) < 0 ? end : slice_make(NULL, 0);
}

static struct op_compare some_compare(struct dice *d, int64_t revision)
{
    struct op_compare c = {.result = (enum compare_result)dice_below(d, 4),
                           .target = (enum compare_target)dice_below(d, 5),
                           .key = some_key(d)};

    c.range_end = some_end(d, c.key);
    c.number = dice_below(d, 3) == 0 ? (int64_t)dice_below(d, (uint32_t)revision + 2) : (int64_t)dice_below(d, 3);
    c.value = slice_from_str(dice_below(d, 2) == 0 ? "x" : "y");
    return c;
}

static struct txn *some_txn(struct dice *d, struct arena *arena, int64_t revision, unsigned depth);

static struct op some_op(struct dice *d, struct arena *arena, int64_t revision, unsigned depth)
{
    struct op op = {.kind = OP_RANGE};

    if (depth < 2 && dice_below(d, 6) == 0) {
        op.kind = OP_TXN;
        op.txn = some_txn(d, arena, revision, depth + 1);
        return op;
    }
    op.range.key = some_key(d);
    op.range.range_end = some_end(d, op.range.key);
    op.range.limit = dice_below(d, 4);
    if (dice_below(d, 8) == 0)
        op.range.revision = dice_below(d, 3) == 0 ? revision + 1 : (int64_t)dice_below(d, (uint32_t)revision) + 1;
    op.range.sort_order = (enum sort_order)dice_below(d, 3);
    op.range.sort_target = (enum sort_target)dice_below(d, 5);
    op.range.keys_only = dice_below(d, 5) == 0;
    op.range.count_only = dice_below(d, 5) == 0;
    return op;
}

static struct txn *some_txn(struct dice *d, struct arena *arena, int64_t revision, unsigned depth)
{
    struct txn *t = arena_alloc(arena, sizeof *t);

    t->n_compares = dice_below(d, 3);
    t->n_success = dice_below(d, 4);
    t->n_failure = dice_below(d, 4);
    t->compares = arena_array(arena, 4, sizeof *t->compares);
    t->success = arena_array(arena, 4, sizeof *t->success);
    t->failure = arena_array(arena, 4, sizeof *t->failure);
    for (size_t i = 0; i < t->n_compares; i++)
        t->compares[i] = some_compare(d, revision);
    for (size_t i = 0; i < t->n_success; i++)
        t->success[i] = some_op(d, arena, revision, depth);
    for (size_t i = 0; i < t->n_failure; i++)
        t->failure[i] = some_op(d, arena, revision, depth);
    return t;
}

static void change_something(struct fixture *f, struct dice *d)
{
    struct slice key = some_key(d);
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = key, .value = slice_from_str(dice_below(d, 2) == 0 ? "x" : "y")}};

    if (dice_below(d, 4) == 0)
        cmd = (struct command){.kind = COMMAND_DELETE_RANGE, .del = {.key = key}};
    if (dice_below(d, 40) == 0)
        cmd = (struct command){.kind = COMMAND_COMPACT, .compact = {.revision = (int64_t)f->index / 2}};
    fixture_apply(f, cmd);
}

static void a_read_only_txn_is_what_the_command_comes_to(void **state)
{
    struct dice d = dice_new();
    unsigned answered = 0, refused = 0;
    struct fixture f;

    fixture_begin(&f);
    for (int i = 0; i < 2000; i++) {
        struct txn_result mine = {0};
        struct store_read *r;
        struct result result;
        struct arena arena;
        struct txn *txn;
        struct bytes a, b;
        bool serializable;
        uint16_t status;

        change_something(&f, &d);
        arena_init(&arena);
        bytes_init(&a);
        bytes_init(&b);
        assert_int_equal(0, store_read_begin(f.store, &r));
        txn = some_txn(&d, &arena, store_read_revision(r), 0);
        assert_true(txn_is_read_only(txn, &serializable));
        assert_int_equal(0, txn_read(r, txn, &arena, 1u << 20, &mine, &status));
        if (status == STATUS_OK)
            etcd_txn_response_encode(&mine, store_read_revision(r), &a);
        result = fixture_apply(&f, (struct command){.kind = COMMAND_TXN, .txn = *txn});
        assert_int_equal(result.revision, store_read_revision(r));
        assert_int_equal(result.status, status);
        if (status == STATUS_OK) {
            etcd_txn_response_encode(&result.txn, result.revision, &b);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.data, b.data, b.len);
            answered++;
        } else {
            refused++;
        }
        store_read_end(r);
        bytes_fini(&a);
        bytes_fini(&b);
        arena_fini(&arena);
        arena_reset(&f.arena);
    }
    printf("%u answered, %u refused\n", answered, refused);
    assert_true(answered > 500 && refused > 20);
    fixture_end(&f);
}

static void one_that_writes_is_told_apart(void **state)
{
    struct op put = {.kind = OP_PUT, .put = {.key = slice_from_str("a")}};
    struct op range = {.kind = OP_RANGE, .range = {.key = slice_from_str("a"), .serializable = true}};
    struct txn inner = {.failure = &put, .n_failure = 1}, outer;
    struct op nested = {.kind = OP_TXN, .txn = &inner};
    bool serializable;

    outer = (struct txn){.success = &range, .n_success = 1};
    assert_true(txn_is_read_only(&outer, &serializable));
    assert_true(serializable);
    range.range.serializable = false;
    assert_true(txn_is_read_only(&outer, &serializable));
    assert_false(serializable);
    outer = (struct txn){.success = &nested, .n_success = 1};
    assert_false(txn_is_read_only(&outer, &serializable));
    inner = (struct txn){.success = &range, .n_success = 1};
    assert_true(txn_is_read_only(&outer, &serializable));
    assert_false(serializable);
    outer = (struct txn){0}; /* compares alone */
    assert_true(txn_is_read_only(&outer, &serializable));
    assert_true(serializable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_only_txn_is_what_the_command_comes_to),
        cmocka_unit_test(one_that_writes_is_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
