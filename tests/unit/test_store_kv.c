/* The key-value commands, ranges, events and sessions of store/, as etcd has them. */
#include "tests/unit/store_fixture.h"

#include <errno.h>

static void first_put_is_revision_2(void **state)
{
    struct fixture f;
    struct range_result range;

    fixture_begin(&f);
    assert_int_equal(2, fixture_put(&f, "a", "one").revision);
    assert_int_equal(3, fixture_put(&f, "a", "two").revision);
    range = fixture_range(&f, (struct op_range){.key = S("a")}, STATUS_OK);
    assert_int_equal(1, range.n_kvs);
    assert_slice("two", range.kvs[0].value);
    assert_int_equal(2, range.kvs[0].create_revision);
    assert_int_equal(3, range.kvs[0].mod_revision);
    assert_int_equal(2, range.kvs[0].version);
    range = fixture_range(&f, (struct op_range){.key = S("a"), .revision = 2}, STATUS_OK);
    assert_slice("one", range.kvs[0].value);
    fixture_range(&f, (struct op_range){.key = S("a"), .revision = 4}, STATUS_FUTURE_REVISION);
    fixture_range(&f, (struct op_range){.key = S("")}, STATUS_EMPTY_KEY);
    fixture_end(&f);
}

static void delete_restarts_version(void **state)
{
    struct fixture f;
    struct result result;
    struct range_result range;

    fixture_begin(&f);
    fixture_put(&f, "a", "1");
    fixture_put(&f, "b", "2");
    result = fixture_delete(&f, "a", S("c"));
    assert_int_equal(4, result.revision);
    assert_int_equal(2, result.op.del.deleted);
    assert_int_equal(2, result.op.del.n_prev_kvs);
    assert_slice("2", result.op.del.prev_kvs[1].value);
    result = fixture_delete(&f, "a", S("c"));
    assert_int_equal(4, result.revision); /* nothing deleted: no revision */
    fixture_put(&f, "a", "3");
    range = fixture_range(&f, (struct op_range){.key = S("a"), .range_end = slice_make("", 1)}, STATUS_OK);
    assert_int_equal(1, range.count);
    assert_int_equal(1, range.kvs[0].version);
    assert_int_equal(5, range.kvs[0].create_revision);
    range = fixture_range(&f, (struct op_range){.key = S("a"), .range_end = S("z"), .revision = 3}, STATUS_OK);
    assert_int_equal(2, range.count);
    range = fixture_range(&f, (struct op_range){.key = S("a"), .range_end = S("z"), .revision = 4}, STATUS_OK);
    assert_int_equal(0, range.count);
    fixture_end(&f);
}

static void txn_sees_its_own_earlier_operations(void **state)
{
    struct fixture f;
    struct op_compare compare = {.target = COMPARE_CREATE, .result = COMPARE_EQUAL, .key = S("k")};
    struct op_compare inner_compare = {.target = COMPARE_VERSION, .key = S("k"), .number = 0};
    struct op inner_ops[] = {{.kind = OP_PUT, .put = {.key = S("inner"), .value = S("x")}}};
    struct txn inner = {.compares = &inner_compare, .n_compares = 1, .success = inner_ops, .n_success = 1};
    struct op ops[] = {
        {.kind = OP_PUT, .put = {.key = S("k"), .value = S("v")}},
        {.kind = OP_RANGE, .range = {.key = S("k")}},
        {.kind = OP_TXN, .txn = &inner}, /* its compare sees the state before: k is not there yet */
        {.kind = OP_RANGE, .range = {.key = S("inner")}},
    };
    struct command cmd = {.kind = COMMAND_TXN,
                          .txn = {.compares = &compare, .n_compares = 1, .success = ops, .n_success = 4}};
    struct result result;

    fixture_begin(&f);
    result = fixture_apply(&f, cmd);
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(2, result.revision);
    assert_true(result.txn.succeeded);
    assert_slice("v", result.txn.ops[1].range.kvs[0].value);
    assert_int_equal(2, result.txn.ops[1].range.kvs[0].mod_revision);
    assert_true(result.txn.ops[2].txn->succeeded);
    assert_int_equal(1, result.txn.ops[3].range.count);
    result = fixture_apply(&f, cmd);
    assert_false(result.txn.succeeded);
    assert_int_equal(2, result.revision);
    fixture_end(&f);
}

static void duplicate_key_in_txn_is_refused(void **state)
{
    struct fixture f;
    struct op ops[] = {
        {.kind = OP_PUT, .put = {.key = S("b"), .value = S("v")}},
        {.kind = OP_DELETE, .del = {.key = S("a"), .range_end = S("c")}},
    };
    struct result result;

    fixture_begin(&f);
    result = fixture_apply(&f, (struct command){.kind = COMMAND_TXN, .txn = {.success = ops, .n_success = 2}});
    assert_int_equal(STATUS_DUPLICATE_KEY, result.status);
    assert_int_equal(1, result.revision);
    fixture_end(&f);
}

static void put_options_are_checked(void **state)
{
    struct fixture f;
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("a"), .ignore_value = true}};
    struct result result;

    fixture_begin(&f);
    assert_int_equal(STATUS_KEY_NOT_FOUND, fixture_apply(&f, cmd).status);
    cmd.put.value = S("x");
    assert_int_equal(STATUS_VALUE_PROVIDED, fixture_apply(&f, cmd).status);
    fixture_put(&f, "a", "kept");
    cmd.put.value = S("");
    cmd.put.prev_kv = true;
    result = fixture_apply(&f, cmd);
    assert_int_equal(STATUS_OK, result.status);
    assert_slice("kept", result.op.put.prev_kv->value);
    assert_slice("kept", fixture_range(&f, (struct op_range){.key = S("a")}, STATUS_OK).kvs[0].value);
    cmd = (struct command){.kind = COMMAND_PUT, .put = {.key = S("a"), .lease = 5}};
    assert_int_equal(STATUS_LEASE_NOT_FOUND, fixture_apply(&f, cmd).status);
    fixture_end(&f);
}

static void range_sorts_limits_and_filters(void **state)
{
    struct fixture f;
    struct op_range op = {.key = S("a"), .range_end = S("z"), .limit = 2};
    struct range_result range;

    fixture_begin(&f);
    fixture_put(&f, "b", "1");
    fixture_put(&f, "a", "3");
    fixture_put(&f, "c", "2");
    range = fixture_range(&f, op, STATUS_OK);
    assert_int_equal(2, range.n_kvs);
    assert_int_equal(3, range.count);
    assert_true(range.more);
    op.sort_order = SORT_DESCEND;
    op.sort_target = SORT_BY_VALUE;
    range = fixture_range(&f, op, STATUS_OK);
    assert_slice("a", range.kvs[0].key);
    assert_slice("c", range.kvs[1].key);
    op = (struct op_range){.key = S("a"), .range_end = S("z"), .min_mod_revision = 3, .keys_only = true};
    range = fixture_range(&f, op, STATUS_OK);
    assert_int_equal(2, range.n_kvs);
    assert_int_equal(3, range.count);
    assert_int_equal(0, range.kvs[0].value.len);
    op = (struct op_range){.key = S("a"), .range_end = S("z"), .count_only = true};
    range = fixture_range(&f, op, STATUS_OK);
    assert_int_equal(0, range.n_kvs);
    assert_int_equal(3, range.count);
    op.sort_order = 7;
    fixture_range(&f, op, STATUS_INVALID_SORT);
    fixture_end(&f);
}

/* ---- events ---- */

struct seen {
    int count;
    struct event events[16];
    char keys[16][8];
    int stop_at;
};

static int see(void *ctx, const struct event *e)
{
    struct seen *s = ctx;

    snprintf(s->keys[s->count], sizeof(s->keys[0]), "%.*s", (int)e->key.len, (const char *)e->key.data);
    s->events[s->count++] = *e;
    return s->count == s->stop_at;
}

static void events_come_in_order_with_their_past(void **state)
{
    struct fixture f;
    struct store_read *r;
    struct seen seen = {0};
    struct event *events;
    struct kv kv;
    size_t count;
    bool more;
    int64_t next;
    uint16_t status;

    fixture_begin(&f);
    fixture_put(&f, "a", "1");
    fixture_put(&f, "b", "2");
    fixture_put(&f, "a", "3");
    fixture_delete(&f, "a", S("z"));
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_events(r, 1, see, &seen, &next, &status));
    assert_int_equal(STATUS_OK, status);
    assert_int_equal(5, seen.count);
    assert_int_equal(6, next);
    assert_string_equal("b", seen.keys[4]);
    assert_int_equal(EVENT_DELETE, seen.events[4].kind);
    assert_int_equal(1, seen.events[4].rev.sub);
    assert_int_equal(1, store_event_prev_kv(r, &seen.events[4], &f.arena, &kv));
    assert_slice("2", kv.value);
    assert_int_equal(0, store_event_prev_kv(r, &seen.events[0], &f.arena, &kv));
    assert_int_equal(0, store_event_kv(r, &seen.events[2], &f.arena, &kv));
    assert_slice("3", kv.value);
    assert_int_equal(2, kv.version);
    seen = (struct seen){.stop_at = 4}; /* in the middle of revision 5 */
    assert_int_equal(0, store_events(r, 2, see, &seen, &next, &status));
    assert_int_equal(5, next);
    seen = (struct seen){.stop_at = 3};
    assert_int_equal(0, store_events(r, 2, see, &seen, &next, &status));
    assert_int_equal(5, next);
    assert_int_equal(0, store_key_events(r, S("a"), 3, &f.arena, 1, &events, &count, &more, &status));
    assert_int_equal(1, count);
    assert_true(more);
    assert_int_equal(4, events[0].rev.main);
    store_read_end(r);
    fixture_end(&f);
}

/* ---- replay and sessions ---- */

static void replay_changes_nothing(void **state)
{
    struct fixture f;
    struct store_batch *b;
    struct result result;
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("a"), .value = S("x")}};
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_apply(b, 5, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(0, store_apply(b, 5, 1, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(0, store_batch_commit(b)); /* the entry is not complete */
    store_close(f.store);
    fixture_open(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_apply(b, 5, 1, &cmd, &f.arena, &result, &fresh));
    assert_false(fresh);
    assert_int_equal(3, result.revision);
    assert_int_equal(0, store_apply(b, 5, 2, &cmd, &f.arena, &result, &fresh));
    assert_true(fresh);
    assert_int_equal(4, result.revision);
    assert_int_equal(0, store_batch_advance(b, 5, 1));
    assert_int_equal(0, store_apply(b, 5, 3, &cmd, &f.arena, &result, &fresh));
    assert_false(fresh);
    assert_int_equal(0, store_batch_commit(b));
    fixture_end(&f);
}

static void session_answers_are_kept(void **state)
{
    struct fixture f;
    struct store_batch *b;
    int64_t revision;
    uint16_t status;
    struct slice body;
    int found;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_session_find(b, 9, 2, &found, &status, &revision, &body));
    assert_int_equal(2, found);
    assert_int_equal(STATUS_SESSION_EXPIRED, status);
    assert_int_equal(0, store_session_find(b, 9, 1, &found, &status, &revision, &body));
    assert_int_equal(0, found);
    assert_int_equal(0, store_session_save(b, 9, 1, STATUS_EXISTS, 17, S("answer")));
    assert_int_equal(0, store_session_find(b, 9, 1, &found, &status, &revision, &body));
    assert_int_equal(1, found);
    assert_int_equal(STATUS_EXISTS, status);
    assert_int_equal(17, revision);
    assert_slice("answer", body);
    assert_int_equal(0, store_session_save(b, 9, 2, STATUS_OK, 18, S("")));
    assert_int_equal(0, store_session_find(b, 9, 1, &found, &status, &revision, &body));
    assert_int_equal(2, found);
    assert_int_equal(STATUS_SEQUENCE_OLD, status);
    for (uint64_t i = 0; i < SESSION_MAX_COUNT; i++) /* pushes session 9 out */
        assert_int_equal(0, store_session_save(b, 100 + i, 1, STATUS_OK, 1, S("")));
    assert_int_equal(0, store_batch_commit(b));
    store_close(f.store);
    fixture_open(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_session_find(b, 9, 3, &found, &status, &revision, &body));
    assert_int_equal(STATUS_SESSION_EXPIRED, status);
    assert_int_equal(0, store_session_save(b, 9, 1, STATUS_OK, 1, S(""))); /* pushes session 100 out */
    assert_int_equal(0, store_session_find(b, 100, 2, &found, &status, &revision, &body));
    assert_int_equal(2, found);
    assert_int_equal(0, store_session_find(b, 101, 2, &found, &status, &revision, &body));
    assert_int_equal(0, found);
    store_batch_abort(b);
    fixture_end(&f);
}

static void other_clusters_store_is_refused(void **state)
{
    struct fixture f;
    struct store_options options = {.flags = STORE_WRITER, .cluster_id = 8};
    struct store *s;

    fixture_begin(&f);
    store_close(f.store);
    assert_int_equal(-EXDEV, store_open(f.store_dir, &options, &s));
    options.flags = 0;
    assert_int_equal(-ENOENT, store_open(f.dir, &options, &s));
    fixture_open(&f);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_put_is_revision_2),
        cmocka_unit_test(delete_restarts_version),
        cmocka_unit_test(txn_sees_its_own_earlier_operations),
        cmocka_unit_test(duplicate_key_in_txn_is_refused),
        cmocka_unit_test(put_options_are_checked),
        cmocka_unit_test(range_sorts_limits_and_filters),
        cmocka_unit_test(events_come_in_order_with_their_past),
        cmocka_unit_test(replay_changes_nothing),
        cmocka_unit_test(session_answers_are_kept),
        cmocka_unit_test(other_clusters_store_is_refused),
    };

    return cmocka_run_group_tests_name("store_kv", tests, NULL, NULL);
}
