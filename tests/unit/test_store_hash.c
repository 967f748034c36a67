/* Hashes are equal where data is equal, and reading at the edge of a compaction is exact. */
#include "tests/unit/store_fixture.h"

#include <lmdb.h>

#include "store/env.h"

struct hashed {
    uint32_t hash;
    int64_t compacted, revision;
    uint16_t status;
};

static struct hashed hash_kv(struct fixture *f, int64_t revision)
{
    struct hashed h = {0};
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_hash_kv(r, revision, &h.hash, &h.compacted, &h.revision, &h.status));
    store_read_end(r);
    return h;
}

static uint32_t hash_all(struct fixture *f)
{
    struct store_read *r;
    int64_t revision;
    uint64_t index;
    uint32_t hash;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_hash(r, &hash, &revision, &index));
    assert_int_equal(store_read_revision(r), revision);
    assert_int_equal(f->index, index);
    store_read_end(r);
    return hash;
}

static void compact(struct fixture *f, int64_t revision)
{
    assert_int_equal(STATUS_OK,
                     fixture_apply(f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = revision}).status);
}

static void remove_all(struct fixture *f)
{
    struct store_batch *b;
    bool more = true;

    assert_int_equal(0, store_batch_begin(f->store, &b));
    while (more)
        assert_int_equal(0, store_batch_compact(b, 1000, &more));
    assert_int_equal(0, store_batch_commit(b));
}

static void revisions_are_checked_as_in_etcd(void **state)
{
    struct fixture f;
    struct hashed h;

    fixture_begin(&f);
    for (int i = 0; i < 8; i++)
        fixture_put(&f, "k", "v"); /* to revision 9 */
    assert_int_equal(-1, hash_kv(&f, 0).compacted);
    compact(&f, 5);
    assert_int_equal(STATUS_COMPACTED, hash_kv(&f, 4).status);
    assert_int_equal(STATUS_FUTURE_REVISION, hash_kv(&f, 10).status);
    h = hash_kv(&f, 5);
    assert_true(h.status == STATUS_OK && h.compacted == 5 && h.revision == 5);
    h = hash_kv(&f, 0);
    assert_true(h.status == STATUS_OK && h.compacted == 5 && h.revision == 9);
    assert_true(h.hash == hash_kv(&f, 9).hash && h.hash != hash_kv(&f, 8).hash && h.hash != hash_kv(&f, 5).hash);
    fixture_end(&f);
}

/* One byte, one number of any row. */
static void every_difference_is_seen(void **state)
{
    const struct command base = {.kind = COMMAND_PUT, .time_ns = 5, .put = {.key = S("k"), .value = S("v")}};
    struct command others[7];
    uint32_t hash, whole;
    struct fixture f;

    for (size_t i = 0; i < 7; i++)
        others[i] = base;
    others[0].put.key = S("l");
    others[1].put.value = S("w");
    others[2].time_ns = 6;
    others[3].origin = 1;
    others[4] = (struct command){.kind = COMMAND_FILE_WRITE, .time_ns = 5,
                                 .file = {.path = S("k"), .value = S("v"), .flags = FILE_CREATE}};
    others[5] = others[4];
    others[5].file.attrs = (struct attrs){.has = ATTR_UID, .uid = 1};
    others[6].put.value = S("");
    fixture_begin(&f);
    fixture_apply(&f, base);
    hash = hash_kv(&f, 0).hash;
    whole = hash_all(&f);
    fixture_end(&f);
    for (size_t i = 0; i < 7; i++) {
        fixture_begin(&f);
        fixture_apply(&f, others[i]);
        assert_true(hash != hash_kv(&f, 0).hash);
        assert_true(whole != hash_all(&f));
        fixture_end(&f);
    }
}

/* What HashKV leaves out the whole hash has. */
static void the_whole_hash_covers_the_other_tables(void **state)
{
    const struct command commands[] = {
        {.kind = COMMAND_LEASE_GRANT, .lease = {.id = 7, .ttl_s = 10}},
        {.kind = COMMAND_ALARM, .alarm = {ALARM_ACTIVATE, ALARM_NOSPACE, 1}},
        {.kind = COMMAND_ALARM, .alarm = {ALARM_DEACTIVATE, ALARM_NOSPACE, 1}},
        {.kind = COMMAND_MEMBER_PUBLISH, .member = {.id = 3, .name = S("n")}},
        {.kind = COMMAND_ALLOC_INODES, .alloc_inodes.count = 1},
        {.kind = COMMAND_FILE_LOCK, .lock = {.ino = 2, .session = 1, .kind = LOCK_FLOCK, .type = LOCK_SHARED}},
        {.kind = COMMAND_FILE_MKDIR, .file = {.path = S("/d")}},
        {.kind = COMMAND_FILE_SETXATTR, .file = {.path = S("/d"), .path2 = S("user.x"), .value = S("1")}},
        {.kind = COMMAND_QUOTA_SET, .quota.bytes = 1 << 20},
        {.kind = COMMAND_CLUSTER_VERSION, .cluster_version.version = 2},
    };
    struct fixture f;
    uint32_t last;

    fixture_begin(&f);
    last = hash_all(&f);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        uint32_t next;

        assert_int_equal(STATUS_OK, fixture_apply(&f, commands[i]).status);
        next = hash_all(&f);
        assert_true(next != last);
        last = next;
    }
    fixture_end(&f);
}

/* ---- around a compaction ---- */

/* Rows before the history below: more than a commit takes through compaction, so that at first nothing of it is removed. */
#define BEFORE 400

/* The history of one key around revision 6: created (3), changed (5), deleted (6), created again (7), changed (8);
 * the ones in between belong to another key. All of it BEFORE revisions later. */
static void make_history(struct fixture *f)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("before")}};
    struct store_batch *b;
    struct result result;
    bool fresh;

    assert_int_equal(0, store_batch_begin(f->store, &b));
    for (int i = 0; i < BEFORE; i++)
        assert_int_equal(0, store_apply(b, ++f->index, 1, 0, &cmd, &f->arena, &result, &fresh));
    assert_int_equal(0, store_batch_advance(b, f->index, 1));
    assert_int_equal(0, store_batch_commit(b));
    fixture_put(f, "other", "1");         /* 2 */
    fixture_put(f, "k", "created");       /* 3 */
    fixture_put(f, "other", "2");         /* 4 */
    fixture_put(f, "k", "changed");       /* 5 */
    fixture_delete(f, "k", S(""));        /* 6 */
    fixture_put(f, "k", "created again"); /* 7 */
    fixture_put(f, "k", "changed again"); /* 8 */
}

static void a_read_at_exactly_the_compacted_revision(void **state)
{
    static const struct {
        int64_t compacted;
        const char *value; /* of k */
    } cases[] = {{2, NULL}, {3, "created"}, {4, "created"}, {5, "changed"}, {6, NULL}, {7, "created again"},
                 {8, "changed again"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t c = BEFORE + cases[i].compacted;
        struct op_range op = {.key = S("k"), .revision = c};
        struct fixture f;

        fixture_begin(&f);
        make_history(&f);
        compact(&f, c);
        for (int removed = 0; removed < 2; removed++) { /* before and after the rows have gone */
            struct range_result r = fixture_range(&f, op, STATUS_OK);

            assert_int_equal(cases[i].value != NULL, r.n_kvs);
            if (r.n_kvs == 1)
                assert_slice(cases[i].value, r.kvs[0].value);
            assert_int_equal(1, fixture_range(&f, (struct op_range){.key = S("other"), .revision = c}, STATUS_OK).n_kvs);
            if (cases[i].compacted > 2)
                fixture_range(&f, (struct op_range){.key = S("k"), .revision = c - 1}, STATUS_COMPACTED);
            remove_all(&f);
        }
        fixture_end(&f);
    }
}

static void a_key_created_deleted_and_recreated_around_the_compacted_revision(void **state)
{
    for (int64_t c = BEFORE + 2; c <= BEFORE + 8; c++) {
        struct range_result r;
        struct fixture f;

        fixture_begin(&f);
        make_history(&f);
        compact(&f, c);
        remove_all(&f);
        r = fixture_range(&f, (struct op_range){.key = S("k")}, STATUS_OK);
        assert_true(r.n_kvs == 1 && r.kvs[0].create_revision == BEFORE + 7 && r.kvs[0].version == 2);
        for (int64_t at = c; at <= BEFORE + 8; at++) { /* every revision that can still be read */
            bool there = (at >= BEFORE + 3 && at < BEFORE + 6) || at >= BEFORE + 7;

            r = fixture_range(&f, (struct op_range){.key = S("k"), .revision = at}, STATUS_OK);
            assert_int_equal(there, r.n_kvs);
            if (there)
                assert_int_equal(BEFORE + (at >= BEFORE + 7 ? 7 : 3), r.kvs[0].create_revision);
        }
        fixture_delete(&f, "k", S("")); /* 9 */
        compact(&f, BEFORE + 9);
        remove_all(&f);
        r = fixture_range(&f, (struct op_range){.key = S("k"), .revision = BEFORE + 9}, STATUS_OK);
        assert_int_equal(0, r.n_kvs);
        assert_int_equal(BEFORE + 10, fixture_put(&f, "k", "third").revision);
        r = fixture_range(&f, (struct op_range){.key = S("k")}, STATUS_OK);
        assert_true(r.kvs[0].create_revision == BEFORE + 10 && r.kvs[0].version == 1);
        fixture_end(&f);
    }
}

struct watched {
    struct store_read *r;
    struct arena *arena;
    char text[1024];
};

static int note_event(void *ctx, const struct event *e)
{
    struct watched *w = ctx;
    size_t n = strlen(w->text);
    struct kv prev = {0};
    int has_prev = store_event_prev_kv(w->r, e, w->arena, &prev);

    assert_true(has_prev >= 0);
    snprintf(w->text + n, sizeof(w->text) - n, "%lld%s%.*s", (long long)e->rev.main - BEFORE, e->kind == EVENT_DELETE ? "D" : "P",
             (int)e->key.len, (const char *)e->key.data);
    n = strlen(w->text);
    snprintf(w->text + n, sizeof(w->text) - n, has_prev == 1 ? "(%.*s) " : " ", (int)prev.value.len,
             (const char *)prev.value.data);
    return 0;
}

/* What is changed at the compacted revision itself is still told, but without what was there before: that is gone. */
static void a_watch_from_the_compacted_revision_with_prev_kv(void **state)
{
    static const struct {
        int64_t compacted;
        const char *events;
    } cases[] = {
        {3, "3Pk 4Pother(1) 5Pk(created) 6Dk(changed) 7Pk 8Pk(created again) "},
        {5, "5Pk 6Dk(changed) 7Pk 8Pk(created again) "},
        {6, "6Dk 7Pk 8Pk(created again) "},
        {7, "7Pk 8Pk(created again) "},
        {8, "8Pk "},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        int64_t next;
        uint16_t status;

        fixture_begin(&f);
        make_history(&f);
        compact(&f, BEFORE + cases[i].compacted);
        for (int removed = 0; removed < 2; removed++) {
            struct watched w = {.arena = &f.arena};

            assert_int_equal(0, store_read_begin(f.store, &w.r));
            assert_int_equal(0, store_events(w.r, BEFORE + cases[i].compacted - 1, note_event, &w, &next, &status));
            assert_int_equal(STATUS_COMPACTED, status);
            assert_int_equal(0, store_events(w.r, BEFORE + cases[i].compacted, note_event, &w, &next, &status));
            assert_int_equal(STATUS_OK, status);
            store_read_end(w.r);
            assert_string_equal(cases[i].events, w.text);
            remove_all(&f);
        }
        fixture_end(&f);
    }
}

/* How much of the log there is. */
static size_t count_rows(struct fixture *f)
{
    MDB_stat stat;
    MDB_txn *txn;

    assert_int_equal(0, mdb_txn_begin(f->store->env, NULL, MDB_RDONLY, &txn));
    assert_int_equal(0, mdb_stat(txn, f->store->log, &stat));
    mdb_txn_abort(txn);
    return stat.ms_entries;
}

static void apply_to_all(struct fixture *f, size_t n, struct command cmd)
{
    for (size_t i = 0; i < n; i++) /* one entry a commit: the second node gets no further than that takes it */
        fixture_apply(&f[i], cmd);
}

/* Two nodes, one log. One removes at once; the other as it applies, which leaves it behind. */
static void nodes_that_compact_at_different_times_hash_equal(void **state)
{
    enum { COMMANDS = 3000 };
    unsigned apart = 0;
    struct fixture f[2];
    int64_t revision = 1;

    fixture_begin(&f[0]);
    fixture_begin(&f[1]);
    for (int i = 0; i < COMMANDS; i++) {
        struct command cmd = {.kind = COMMAND_PUT, .time_ns = i + 1};
        char key[600], value[32];

        memset(key, 'k', sizeof(key));
        snprintf(key + (i % 5 == 0 ? 550 : 0), 16, "k%d", i * 31 % 40);
        snprintf(value, sizeof(value), "v%d", i);
        cmd.put = (struct op_put){.key = S(key), .value = S(value)};
        if (i % 4 == 3)
            cmd = (struct command){.kind = COMMAND_DELETE_RANGE, .time_ns = i + 1, .del.key = S(key)};
        if (i % 1000 == 999)
            cmd = (struct command){.kind = COMMAND_COMPACT, .time_ns = i + 1, .compact.revision = revision - 5};
        apply_to_all(f, 2, cmd);
        revision = hash_kv(&f[0], 0).revision;
        if (i % 1000 < 3 || i % 1000 == 999 || i % 100 == 0) {
            remove_all(&f[0]);
            apart += count_rows(&f[0]) != count_rows(&f[1]);
            assert_int_equal(hash_kv(&f[0], 0).hash, hash_kv(&f[1], 0).hash);
            assert_int_equal(hash_kv(&f[0], revision - 3).hash, hash_kv(&f[1], revision - 3).hash);
            assert_int_equal(hash_all(&f[0]), hash_all(&f[1]));
        }
    }
    assert_true(apart > 3); /* else it shows nothing */
    fixture_end(&f[0]);
    fixture_end(&f[1]);
}

/* A hash that is read in many slices, and past a compaction meanwhile, is the same. */
static void many_slices_make_the_same_hash(void **state)
{
    enum { KEYS = 9000 };
    struct fixture f;
    struct store_batch *b;
    struct store_read *r;
    struct result result;
    struct hashed whole, h;
    bool fresh;

    fixture_begin(&f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(0, store_batch_begin(f.store, &b));
        for (int i = 0; i < KEYS; i++) {
            char key[16];
            struct command cmd = {.kind = COMMAND_PUT, .time_ns = 1 + i, .put = {.value = S("v")}};

            snprintf(key, sizeof(key), "k%d", i);
            cmd.put.key = S(key);
            assert_int_equal(0, store_apply(b, ++f.index, 1, 0, &cmd, &f.arena, &result, &fresh));
        }
        assert_int_equal(0, store_batch_advance(b, f.index, 1));
        assert_int_equal(0, store_batch_commit(b));
        if (round == 0)
            compact(&f, KEYS + 1);
    }
    whole = hash_kv(&f, 2 * KEYS);
    assert_int_equal(STATUS_OK, whole.status);
    fixture_put(&f, "k5", "later");
    h = hash_kv(&f, 2 * KEYS);
    assert_int_equal(whole.hash, h.hash);
    assert_int_equal(0, store_read_begin(f.store, &r)); /* an old snapshot; compaction passes it before it is renewed */
    compact(&f, 2 * KEYS + 1);
    assert_int_equal(0, store_hash_kv(r, 2 * KEYS, &h.hash, &h.compacted, &h.revision, &h.status));
    assert_int_equal(STATUS_COMPACTED, h.status);
    store_read_end(r);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revisions_are_checked_as_in_etcd),
        cmocka_unit_test(every_difference_is_seen),
        cmocka_unit_test(the_whole_hash_covers_the_other_tables),
        cmocka_unit_test(a_read_at_exactly_the_compacted_revision),
        cmocka_unit_test(a_key_created_deleted_and_recreated_around_the_compacted_revision),
        cmocka_unit_test(a_watch_from_the_compacted_revision_with_prev_kv),
        cmocka_unit_test(nodes_that_compact_at_different_times_hash_equal),
        cmocka_unit_test(many_slices_make_the_same_hash),
    };

    return cmocka_run_group_tests_name("store_hash", tests, NULL, NULL);
}
