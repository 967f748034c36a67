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
    assert_int_equal(0, store_apply(b, 5, 1, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(0, store_apply(b, 5, 1, 1, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(0, store_batch_commit(b)); /* the entry is not complete */
    store_close(f.store);
    fixture_open(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_apply(b, 5, 1, 1, &cmd, &f.arena, &result, &fresh));
    assert_false(fresh);
    assert_int_equal(3, result.revision);
    assert_int_equal(0, store_apply(b, 5, 1, 2, &cmd, &f.arena, &result, &fresh));
    assert_true(fresh);
    assert_int_equal(4, result.revision);
    assert_int_equal(0, store_batch_advance(b, 5, 1));
    assert_int_equal(0, store_apply(b, 5, 1, 3, &cmd, &f.arena, &result, &fresh));
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

/* ---- what else is kept and read ---- */

static void long_answers_keep_status_alone(void **state)
{
    static uint8_t body[SESSION_BODY_MAX_BYTES + 1];
    struct fixture f;
    struct store_batch *b;
    int64_t revision;
    uint16_t status;
    struct slice kept;
    int found;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    for (size_t len = SESSION_BODY_MAX_BYTES; len <= sizeof(body); len++) {
        assert_int_equal(0, store_session_save(b, 1, len, STATUS_OK, 5, slice_make(body, len)));
        assert_int_equal(0, store_session_find(b, 1, len, &found, &status, &revision, &kept));
        assert_int_equal(1, found);
        assert_int_equal(5, revision);
        assert_int_equal(len <= SESSION_BODY_MAX_BYTES ? len : 0, kept.len);
    }
    store_batch_abort(b);
    fixture_end(&f);
}

static void members_are_published(void **state)
{
    struct fixture f;
    struct slice urls[] = {S("http://a:1"), S("http://b:2")};
    struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH,
                          .member = {.id = 9, .name = S("nine"), .client_urls = urls, .n_client_urls = 2}};
    struct member_info *members;
    struct store_read *r;
    size_t n;

    fixture_begin(&f);
    assert_int_equal(1, fixture_apply(&f, cmd).revision); /* takes no revision */
    cmd.member.id = 4;
    cmd.member.n_client_urls = 0;
    fixture_apply(&f, cmd);
    cmd.member.name = S("four");
    fixture_apply(&f, cmd);
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_members(r, &f.arena, &members, &n));
    assert_int_equal(2, n);
    assert_int_equal(4, members[0].id);
    assert_slice("four", members[0].name);
    assert_int_equal(9, members[1].id);
    assert_int_equal(2, members[1].n_client_urls);
    assert_slice("http://b:2", members[1].client_urls[1]);
    store_read_end(r);
    cmd.member.id = 0;
    assert_int_equal(STATUS_INVALID_REQUEST, fixture_apply(&f, cmd).status);
    fixture_end(&f);
}

static void inode_numbers_are_handed_out_once(void **state)
{
    struct fixture f;
    struct command cmd = {.kind = COMMAND_ALLOC_INODES, .alloc_inodes = {.count = 1000}};
    uint64_t first;

    fixture_begin(&f);
    first = fixture_apply(&f, cmd).file.ino;
    assert_true(first > 1);
    assert_true(first + 1000 == fixture_apply(&f, cmd).file.ino);
    cmd.alloc_inodes.count = 0;
    assert_int_equal(STATUS_INVALID_REQUEST, fixture_apply(&f, cmd).status);
    fixture_end(&f);
}

static void membership_is_kept_with_its_index(void **state)
{
    struct fixture f;
    struct store_batch *b;
    struct store_read *r;
    struct store_meta meta;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_batch_set_membership(b, 5, S("five")));
    assert_int_equal(0, store_batch_set_membership(b, 4, S("four"))); /* an older one comes again */
    assert_int_equal(0, store_batch_advance(b, 6, 2));
    assert_int_equal(0, store_batch_advance(b, 5, 1));
    assert_int_equal(0, store_batch_commit(b));
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    assert_slice("five", meta.membership);
    assert_int_equal(5, meta.membership_index);
    assert_int_equal(6, meta.applied_index);
    assert_int_equal(2, meta.applied_term);
    assert_int_equal(7, meta.cluster_id);
    assert_int_equal(1, meta.epoch);
    assert_true(meta.db_bytes >= meta.db_bytes_in_use && meta.db_bytes_in_use > 0);
    store_read_end(r);
    fixture_end(&f);
}

struct walked {
    char text[64];
    int stop_after;
};

static int walk(void *ctx, const struct kv *kv)
{
    struct walked *w = ctx;
    size_t n = strlen(w->text);

    snprintf(w->text + n, sizeof(w->text) - n, "%.*s=%.*s ", (int)kv->key.len, (const char *)kv->key.data,
             (int)kv->value.len, (const char *)kv->value.data);
    return w->stop_after > 0 && --w->stop_after == 0;
}

static void any_size_is_walked(void **state)
{
    struct fixture f;
    struct op_range op = {.key = S("a"), .range_end = S("z")};
    struct walked all = {0}, two = {.stop_after = 2}, old = {0};
    struct range_result range;
    struct store_read *r;
    int64_t count;
    uint16_t status;
    char big[3001] = {0};

    fixture_begin(&f);
    fixture_put(&f, "a", "1");
    fixture_put(&f, "b", "2");
    fixture_put(&f, "c", "3");
    fixture_put(&f, "b", "4");
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_range_each(r, &op, walk, &all, &count, &status));
    assert_string_equal("a=1 b=4 c=3 ", all.text);
    assert_int_equal(3, count);
    assert_int_equal(0, store_range_each(r, &op, walk, &two, &count, &status));
    assert_string_equal("a=1 b=4 ", two.text);
    op.revision = 3;
    assert_int_equal(0, store_range_each(r, &op, walk, &old, &count, &status));
    assert_string_equal("a=1 b=2 ", old.text);
    op.revision = 99;
    assert_int_equal(0, store_range_each(r, &op, walk, &old, &count, &status));
    assert_int_equal(STATUS_FUTURE_REVISION, status);
    store_read_end(r);
    memset(big, 'x', 3000);
    for (int i = 0; i < 10; i++)
        fixture_put(&f, (char[]){'b', (char)('a' + i), 0}, big);
    assert_int_equal(0, store_read_begin(f.store, &r));
    op.revision = 0;
    assert_int_equal(0, store_range(r, &op, &f.arena, 20000, &range, &status));
    assert_int_equal(STATUS_TOO_LARGE, status);
    assert_int_equal(0, store_range(r, &op, &f.arena, 200000, &range, &status));
    assert_int_equal(13, range.n_kvs);
    store_read_end(r);
    fixture_end(&f);
}

/* Bounds of a range may be longer than any key. */
static void long_bounds_are_fine(void **state)
{
    static uint8_t bound[KEY_MAX_BYTES * 3];
    struct fixture f;
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = slice_make(bound, KEY_MAX_BYTES)}};
    struct range_result range;

    memset(bound, 'b', sizeof(bound));
    fixture_begin(&f);
    assert_int_equal(STATUS_OK, fixture_apply(&f, cmd).status);
    cmd.put.key.len++;
    assert_int_equal(STATUS_TOO_LARGE, fixture_apply(&f, cmd).status);
    fixture_put(&f, "c", "");
    range = fixture_range(&f, (struct op_range){.key = slice_make(bound, sizeof(bound)), .range_end = S("z")}, 0);
    assert_int_equal(1, range.count);
    range = fixture_range(&f, (struct op_range){.key = S("a"), .range_end = slice_make(bound, sizeof(bound))}, 0);
    assert_int_equal(1, range.count);
    assert_int_equal(KEY_MAX_BYTES, range.kvs[0].key.len);
    fixture_end(&f);
}

static void unknown_kinds_stop_the_node(void **state)
{
    struct fixture f;
    struct store_batch *b;
    struct command cmd = {.kind = 999};
    struct result result;
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(-EPROTONOSUPPORT, store_apply(b, 1, 1, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(-EPROTONOSUPPORT, store_batch_commit(b)); /* nothing of it is kept */
    fixture_end(&f);
}

static void other_clusters_store_is_refused(void **state)
{
    struct fixture f;
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 8};
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
        cmocka_unit_test(long_answers_keep_status_alone),
        cmocka_unit_test(members_are_published),
        cmocka_unit_test(inode_numbers_are_handed_out_once),
        cmocka_unit_test(membership_is_kept_with_its_index),
        cmocka_unit_test(any_size_is_walked),
        cmocka_unit_test(long_bounds_are_fine),
        cmocka_unit_test(unknown_kinds_stop_the_node),
        cmocka_unit_test(other_clusters_store_is_refused),
    };

    return cmocka_run_group_tests_name("store_kv", tests, NULL, NULL);
}
