/* The bytes of every kind of row, as docs/disk.md prints them: what a fixed list of commands writes, dumped from
 * the tables. PRINT_DUMP=1 prints the dump. Run at the top of the source tree. */
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <lmdb.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "store/env.h"

#define RUN_MIN 8

/* ---- text ---- */

/* Hexadecimal; eight or more equal bytes as xx*count. */
static void print_bytes(struct bytes *out, struct slice s)
{
    char text[32];

    for (size_t i = 0; i < s.len;) {
        size_t n = 1;

        while (i + n < s.len && s.data[i + n] == s.data[i])
            n++;
        if (n >= RUN_MIN) {
            snprintf(text, sizeof(text), "%s%02x*%zu%s", i > 0 && out->data[out->len - 1] != ' ' ? " " : "",
                     s.data[i], n, i + n < s.len ? " " : "");
            i += n;
        } else {
            snprintf(text, sizeof(text), "%02x", s.data[i]);
            i++;
        }
        bytes_raw(out, text, strlen(text));
    }
}

static void print_text(struct bytes *out, const char *s)
{
    bytes_raw(out, s, strlen(s));
}

static void dump_table(struct bytes *out, MDB_txn *txn, MDB_dbi dbi, const char *name, int64_t skip_from, int64_t skip_to)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc;

    assert_int_equal(0, mdb_cursor_open(txn, dbi, &cursor));
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct slice key = slice_make(k.mv_data, k.mv_size);

        if (skip_from > 0 && get_be64(key.data) >= (uint64_t)skip_from && get_be64(key.data) <= (uint64_t)skip_to)
            continue;
        print_text(out, name);
        print_text(out, " ");
        print_bytes(out, key);
        print_text(out, "\n  ");
        print_bytes(out, slice_make(v.mv_data, v.mv_size));
        print_text(out, "\n");
    }
    mdb_cursor_close(cursor);
}

/* Meta rows alone: the main database holds the tables' own records too. */
static void dump_meta(struct bytes *out, MDB_txn *txn, MDB_dbi dbi, const char *name)
{
    MDB_val k = {strlen(name), (void *)name}, v;

    assert_int_equal(0, mdb_get(txn, dbi, &k, &v));
    print_text(out, "main ");
    print_text(out, name);
    print_text(out, "\n  ");
    print_bytes(out, slice_make(v.mv_data, v.mv_size));
    print_text(out, "\n");
}

/* ---- the commands ---- */

static struct slice repeat(struct fixture *f, char c, size_t n)
{
    uint8_t *p = arena_alloc(&f->arena, n);

    memset(p, c, n);
    return slice_make(p, n);
}

/* What version 0.2 added. */
static void run_later_commands(struct fixture *f)
{
    struct lock_op lock = {.ino = 5, .session = 6, .owner = 7, .request = 8, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE,
                           .start = 1, .end = UINT64_MAX, .pid = 9, .lease = 77};
    struct lease_checkpoint point = {77, 30};

    fixture_apply(f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 77, .ttl_s = 60}});
    fixture_apply(f, (struct command){.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {&point, 1}});
    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("l"), .lease = 77}}); /* 77 */
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_SETXATTR,                              /* 78 */
                                      .file = {.path = S("/g"), .path2 = S("user.x"), .value = repeat(f, 'X', 1400)}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_LOCK, .lock = lock});
    lock.wait = true;
    for (int i = 0; i < 2; i++) {
        lock.owner++;
        lock.request++;
        fixture_apply(f, (struct command){.kind = COMMAND_FILE_LOCK, .lock = lock});
    }
    lock.owner = 7;
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_UNLOCK, .lock = lock}); /* 79 */
    fixture_apply(f, (struct command){.kind = COMMAND_ALARM, .alarm = {ALARM_ACTIVATE, ALARM_NOSPACE, 3}});
    fixture_apply(f, (struct command){.kind = COMMAND_QUOTA_SET, .quota.bytes = 1 << 30});
}

static void run_commands(struct fixture *f)
{
    const struct attrs attrs = {.has = ATTR_MODE | ATTR_UID | ATTR_GID, .mode = 0644, .uid = 1, .gid = 2};
    struct store_batch *b;

    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .session = 9, .sequence = 1, .origin = 3,
                                      .put = {.key = S("a"), .value = S("one")}});             /* revision 2 */
    fixture_put(f, "a", "two");                                                               /* 3 */
    fixture_delete(f, "a", S(""));                                                            /* 4 */
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_MKDIR, .file = {.path = S("/d"), .attrs = attrs}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_WRITE,                             /* 6 */
                                      .file = {.path = S("/d/f"), .value = repeat(f, 'v', 600), .flags = FILE_CREATE,
                                               .attrs = attrs}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_SETATTR,                           /* 7 */
                                      .file = {.path = S("/d/f"), .attrs = {.has = ATTR_MODE, .mode = 0600}}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_RENAME, .file = {.path = S("/d/f"), .path2 = S("/g")}});
    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = repeat(f, 'k', 503)}});        /* 9 */
    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("p"), .value = repeat(f, 'P', 1400)}});
    for (int i = 0; i < 64; i++)                                                              /* 11 to 74 */
        fixture_put(f, "s", "");
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_RMDIR, .file = {.path = S("/d")}}); /* 75 */
    fixture_put(f, "s", "");                                                                  /* 76 */
    run_later_commands(f);
    fixture_apply(f, (struct command){.kind = COMMAND_MEMBER_PUBLISH, .member = {.id = 3, .name = S("n1")}});
    assert_int_equal(0, store_batch_begin(f->store, &b));
    assert_int_equal(0, store_session_save(b, 9, 1, STATUS_OK, 2, S("body")));
    assert_int_equal(0, store_batch_set_membership(b, 5, S("members")));
    assert_int_equal(0, store_batch_commit(b));
}

static void dump_all(struct fixture *f, struct bytes *out)
{
    struct store *s = f->store;
    MDB_txn *txn;

    assert_int_equal(0, mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
    dump_table(out, txn, s->keys, "keys", 0, 0);
    dump_table(out, txn, s->layers, "layers", 0, 0);
    dump_table(out, txn, s->gone, "gone", 0, 0);
    dump_table(out, txn, s->log, "log", 11, 73);
    dump_table(out, txn, s->sessions, "sessions", 0, 0);
    dump_table(out, txn, s->leases, "leases", 0, 0);
    dump_table(out, txn, s->lease_keys, "lease_keys", 0, 0);
    dump_table(out, txn, s->xattrs, "xattrs", 0, 0);
    dump_table(out, txn, s->locks, "locks", 0, 0);
    dump_meta(out, txn, s->main, "alarms");
    dump_meta(out, txn, s->main, "state");
    dump_meta(out, txn, s->main, "member/0000000000000003");
    dump_meta(out, txn, s->main, "membership");
    mdb_txn_abort(txn);
}

/* The block that begins with ```rows in docs/disk.md. */
static char *documented_rows(void)
{
    FILE *file = fopen("docs/disk.md", "r");
    char *text = calloc(1, 1 << 20), *begin, *end;

    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    begin = strstr(text, "```rows\n");
    assert_non_null(begin);
    begin += strlen("```rows\n");
    end = strstr(begin, "```");
    assert_non_null(end);
    *end = '\0';
    memmove(text, begin, strlen(begin) + 1);
    return text;
}

static void rows_are_as_documented(void **state)
{
    struct fixture f;
    struct bytes dump;
    char *documented;

    bytes_init(&dump);
    fixture_begin(&f);
    run_commands(&f);
    dump_all(&f, &dump);
    bytes_u8(&dump, 0);
    assert_int_equal(0, bytes_status(&dump));
    if (getenv("PRINT_DUMP") != NULL)
        printf("%s", (const char *)dump.data);
    documented = documented_rows();
    assert_string_equal(documented, (const char *)dump.data);
    free(documented);
    bytes_fini(&dump);
    fixture_end(&f);
}

/* The row that says which format follows: all but the random environment id. */
static void format_row_is_as_documented(void **state)
{
    static const uint8_t expected[] = {1, 0, 0, 0, 0, 0, 0, 0};
    struct fixture f;
    MDB_txn *txn;
    MDB_val k = {6, "format"}, v;

    fixture_begin(&f);
    assert_int_equal(0, mdb_txn_begin(f.store->env, NULL, MDB_RDONLY, &txn));
    assert_int_equal(0, mdb_get(txn, f.store->main, &k, &v));
    assert_int_equal(36, v.mv_size);
    assert_memory_equal(expected, (uint8_t *)v.mv_data + 4, 8);
    assert_int_equal(7, get_le64((uint8_t *)v.mv_data + 20)); /* cluster id */
    assert_int_equal(1, get_le64((uint8_t *)v.mv_data + 28)); /* epoch */
    mdb_txn_abort(txn);
    fixture_end(&f);
}

/* Writes a meta row from outside, as a later version or a damaged disk would. */
static void rewrite_format(struct fixture *f, uint64_t format, bool damage)
{
    struct slice old;
    uint8_t body[32];
    MDB_txn *txn;
    MDB_val k = {6, "format"}, v;

    assert_int_equal(0, mdb_txn_begin(f->store->env, NULL, 0, &txn));
    assert_int_equal(0, meta_row_get(txn, f->store->main, "format", &old));
    memcpy(body, old.data, sizeof(body));
    put_le64(body, format);
    assert_int_equal(0, meta_row_put(txn, f->store->main, "format", slice_make(body, sizeof(body))));
    if (damage) {
        assert_int_equal(0, mdb_get(txn, f->store->main, &k, &v));
        memcpy(body, (uint8_t *)v.mv_data, 4);
        body[0] ^= 1;
        old = slice_make(v.mv_data, v.mv_size);
        memcpy((uint8_t *)v.mv_data, body, 4);
    }
    assert_int_equal(0, mdb_txn_commit(txn));
}

static void later_formats_and_damage_are_refused(void **state)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 1u << 30};
    struct fixture f;
    struct store *s;

    fixture_begin(&f);
    rewrite_format(&f, 2, false);
    store_close(f.store);
    assert_int_equal(-EPROTONOSUPPORT, store_open(f.store_dir, &options, &s));
    options.flags = 0;
    assert_int_equal(-EPROTONOSUPPORT, store_open(f.store_dir, &options, &s));
    f.store = NULL;
    fixture_end(&f);
    fixture_begin(&f);
    rewrite_format(&f, 1, true);
    store_close(f.store);
    assert_int_equal(-EUCLEAN, store_open(f.store_dir, &options, &s));
    f.store = NULL;
    fixture_end(&f);
}

/* Any one wrong bit in any row of any table is noticed by whoever reads it. */
static void damaged_rows_are_noticed(void **state)
{
    struct fixture f;
    MDB_txn *txn;
    MDB_val k = {1, "k"}, v;
    struct store_read *r;
    struct arena arena;
    struct slice value;
    uint8_t *row;

    arena_init(&arena);
    fixture_begin(&f);
    fixture_put(&f, "k", "value");
    for (size_t bit = 0;; bit++) {
        assert_int_equal(0, mdb_txn_begin(f.store->env, NULL, 0, &txn));
        assert_int_equal(0, mdb_get(txn, f.store->keys, &k, &v));
        if (bit / 8 == v.mv_size) {
            mdb_txn_abort(txn);
            break;
        }
        row = arena_alloc(&arena, v.mv_size);
        memcpy(row, v.mv_data, v.mv_size);
        row[bit / 8] ^= (uint8_t)(1 << bit % 8);
        v.mv_data = row;
        assert_int_equal(0, mdb_put(txn, f.store->keys, &k, &v, 0));
        assert_int_equal(0, mdb_txn_commit(txn));
        assert_int_equal(0, store_read_begin(f.store, &r));
        assert_int_equal(-EUCLEAN, store_value(r, S("k"), &arena, &value));
        store_read_end(r);
        row[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(0, mdb_txn_begin(f.store->env, NULL, 0, &txn));
        assert_int_equal(0, mdb_put(txn, f.store->keys, &k, &v, 0));
        assert_int_equal(0, mdb_txn_commit(txn));
    }
    fixture_end(&f);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_as_documented),
        cmocka_unit_test(format_row_is_as_documented),
        cmocka_unit_test(later_formats_and_damage_are_refused),
        cmocka_unit_test(damaged_rows_are_noticed),
    };

    return cmocka_run_group_tests_name("store_golden", tests, NULL, NULL);
}
