/* store_check(): nothing is found in a store that has seen everything, and each kind of damage is. The damage is done to the
 * tables below store/, with good CRCs, so that only the comparisons can tell. */
#include "tests/unit/store_fixture.h"

#include <errno.h>

#include "store/env.h"
#include "store/eventlog.h"
#include "store/inspect.h"

static unsigned told;
static char first_problem[512];

static void tell(void *ctx, const char *text)
{
    if (told++ == 0)
        snprintf(first_problem, sizeof(first_problem), "%s", text);
}

static struct store_check run_check(struct fixture *f)
{
    struct store_check sums;
    struct store_read *r;

    told = 0;
    first_problem[0] = '\0';
    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_check(r, tell, NULL, &sums));
    store_read_end(r);
    assert_int_equal(told, sums.problems);
    return sums;
}

static struct slice filled(struct fixture *f, char c, size_t n)
{
    uint8_t *p = arena_alloc(&f->arena, n);

    memset(p, c, n);
    return slice_make(p, n);
}

static void put(struct fixture *f, struct slice key, struct slice value, int64_t lease)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = key, .value = value, .lease = lease}};

    assert_int_equal(STATUS_OK, fixture_apply(f, cmd).status);
}

/* Everything of which the check knows. The key "k" has 130 versions. */
static void fill(struct fixture *f)
{
    char value[16];

    fixture_begin(f);
    fixture_apply(f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 77, .ttl_s = 60}});
    for (int i = 0; i < 130; i++) {
        snprintf(value, sizeof(value), "%d", i);
        put(f, S("k"), S(value), 0);
    }
    put(f, S("leased"), S("v"), 77);
    put(f, S("large"), filled(f, 'L', 5000), 0);
    put(f, filled(f, 'x', 1200), S("long key"), 0);
    put(f, filled(f, 'x', 1300), filled(f, 'y', 700), 0);
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_MKDIR, .file = {.path = S("/d")}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_WRITE,
                                      .file = {.path = S("/d/f"), .value = filled(f, 'f', 900), .flags = FILE_CREATE}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_RENAME, .file = {.path = S("/d"), .path2 = S("/e")}});
    put(f, S("dead"), S("1"), 0);
    fixture_delete(f, "dead", S(""));
}

static void nothing_is_found_in_a_good_store(void **state)
{
    struct store_check sums;
    struct fixture f;

    fill(&f);
    sums = run_check(&f);
    assert_string_equal("", first_problem);
    assert_int_equal(6, sums.keys);
    assert_int_equal(1, sums.lease_keys);
    assert_true(sums.values >= 1 && sums.links >= 2 && sums.layer_rows == 2 && sums.log_pieces > sums.log_rows);
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact = {.revision = 100}});
    run_check(&f);
    assert_string_equal("", first_problem);
    fixture_end(&f);
}

/* ---- damage ---- */

struct raw {
    MDB_txn *txn;
    struct snap snap;
};

static struct raw raw_begin(struct fixture *f)
{
    struct raw raw = {0};
    bool counted;

    assert_int_equal(0, mdb_txn_begin(f->store->env, NULL, 0, &raw.txn));
    raw.snap = (struct snap){.store = f->store, .txn = raw.txn, .writing = true};
    assert_int_equal(0, state_load(raw.txn, f->store->main, &raw.snap.state, &counted));
    return raw;
}

static void raw_end(struct raw *raw)
{
    if (raw->snap.log_cursor != NULL)
        mdb_cursor_close(raw->snap.log_cursor);
    assert_int_equal(0, mdb_txn_commit(raw->txn));
}

/* Rewrites one row with a good sum. */
static void rewrite(struct raw *raw, MDB_dbi dbi, const void *key_bytes, size_t key_len, size_t at, uint8_t flip)
{
    MDB_val key = {key_len, (void *)key_bytes}, val;
    uint8_t *copy;

    assert_int_equal(0, mdb_get(raw->txn, dbi, &key, &val));
    copy = malloc(val.mv_size);
    memcpy(copy, val.mv_data, val.mv_size);
    copy[at < val.mv_size ? at : val.mv_size - 1] ^= flip;
    put_le32(copy, row_crc(&key, copy + 4, val.mv_size - 4));
    val.mv_data = copy;
    assert_int_equal(0, mdb_put(raw->txn, dbi, &key, &val, 0));
    free(copy);
}

static void remove_log_row(struct raw *raw, int64_t main_rev, uint16_t piece)
{
    uint8_t key_bytes[LOG_KEY_BYTES];
    MDB_val key = {LOG_KEY_BYTES, key_bytes};

    log_key_encode(key_bytes, (struct rev){main_rev, 0}, piece);
    assert_int_equal(0, mdb_del(raw->txn, raw->snap.store->log, &key, NULL));
}

enum damage {
    A_BYTE_OF_A_ROW, A_ROW_OF_A_HISTORY, A_PIECE, A_KEYS_ROW, ITS_VALUE, A_KEY, A_LEASE_KEY, A_LAYER_ROW, A_TOMBSTONE, DAMAGES
};

static void damage_one(struct fixture *f, enum damage what)
{
    struct raw raw = raw_begin(f);
    uint8_t log_key[LOG_KEY_BYTES], layer_key[16];
    MDB_val key, val;
    MDB_cursor *cursor;

    switch (what) {
    case A_BYTE_OF_A_ROW:
        log_key_encode(log_key, (struct rev){50, 0}, 0);
        key = (MDB_val){LOG_KEY_BYTES, log_key};
        assert_int_equal(0, mdb_get(raw.txn, f->store->log, &key, &val));
        {
            uint8_t *copy = malloc(val.mv_size);

            memcpy(copy, val.mv_data, val.mv_size);
            copy[val.mv_size - 1] ^= 1; /* and the sum says so */
            val.mv_data = copy;
            assert_int_equal(0, mdb_put(raw.txn, f->store->log, &key, &val, 0));
            free(copy);
        }
        break;
    case A_ROW_OF_A_HISTORY:
        remove_log_row(&raw, 66, 0); /* depth 65 of "k" */
        break;
    case A_PIECE:
        remove_log_row(&raw, 133, 2); /* of "large" */
        break;
    case A_KEYS_ROW:
        rewrite(&raw, f->store->keys, "leased", 6, 9, 1); /* its version, or so */
        break;
    case ITS_VALUE:
        rewrite(&raw, f->store->keys, "leased", 6, SIZE_MAX, 1);
        break;
    case A_KEY:
        key = (MDB_val){1, "k"};
        assert_int_equal(0, mdb_del(raw.txn, f->store->keys, &key, NULL));
        break;
    case A_LEASE_KEY:
        assert_int_equal(0, mdb_cursor_open(raw.txn, f->store->lease_keys, &cursor));
        assert_int_equal(0, mdb_cursor_get(cursor, &key, &val, MDB_FIRST));
        assert_int_equal(0, mdb_cursor_del(cursor, 0));
        mdb_cursor_close(cursor);
        break;
    case A_LAYER_ROW:
        put_be64(layer_key, 999);
        memcpy(layer_key + 8, "nobody's", 8);
        key = (MDB_val){16, layer_key};
        val = (MDB_val){4, "1234"};
        assert_int_equal(0, mdb_put(raw.txn, f->store->layers, &key, &val, 0));
        break;
    case A_TOMBSTONE:
        key = (MDB_val){4, "dead"};
        assert_int_equal(0, mdb_del(raw.txn, f->store->gone, &key, NULL));
        break;
    case DAMAGES:
        break;
    }
    raw_end(&raw);
}

static void each_damage_is_found(void **state)
{
    for (enum damage d = 0; d < DAMAGES; d++) {
        struct fixture f;

        fill(&f);
        damage_one(&f, d);
        run_check(&f);
        if (told == 0)
            fail_msg("damage %d is not found", (int)d);
        fixture_end(&f);
    }
}

static int count_table(void *ctx, const struct store_table *t)
{
    *(uint64_t *)ctx += t->rows;
    return 0;
}

static int count_row(void *ctx, const struct store_row *row)
{
    assert_true(row->mod.main > 1);
    ++*(uint64_t *)ctx;
    return 0;
}

static void tables_and_rows_are_shown(void **state)
{
    uint64_t rows = 0, keys = 0, dirs = 0, gone = 0;
    struct store_read *r;
    struct fixture f;

    fill(&f);
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_tables(r, count_table, &rows));
    assert_true(rows > 150);
    assert_int_equal(0, store_each_row(r, STORE_ROWS_KEYS, count_row, &keys));
    assert_int_equal(0, store_each_row(r, STORE_ROWS_DIRS, count_row, &dirs));
    assert_int_equal(0, store_each_row(r, STORE_ROWS_GONE, count_row, &gone));
    assert_int_equal(6, keys);
    assert_int_equal(1, dirs);
    assert_true(gone >= 1);
    store_read_end(r);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_in_a_good_store),
        cmocka_unit_test(each_damage_is_found),
        cmocka_unit_test(tables_and_rows_are_shown),
    };

    return cmocka_run_group_tests_name("store_check", tests, NULL, NULL);
}
