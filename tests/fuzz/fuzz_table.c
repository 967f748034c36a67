/* Rows of every table of the store from any bytes, as a damaged environment could hold them, with good checksums: they are put among
 * good ones, then everything is read and changed that meets them, in a batch that is given up. An input is a list of rows:
 *
 *   table, place, length of key, length of body (2), key, body    place 255: that key; else the place-th row of the table
 *
 * With bit 7 of table the body is written over the row's own, from a place on that its first byte says. Reads say yes or a known no,
 * end, and touch nothing but what is there; a batch that met such a row cannot be committed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/apply.h"
#include "store/batch.h"
#include "store/inspect.h"
#include "store/row.h"
#include "tests/fuzz/fuzz.h"

#define ROWS_MAX 6
#define KEY_MAX 511 /* LMDB's */
#define T(s) slice_from_str(s)

struct world {
    struct store *store;
    char dir[100];
    uint64_t index;
    struct arena arena;
};

static struct world world;

static bool known(int rc)
{
    return rc >= 0 || rc == -EUCLEAN || rc == -EPROTONOSUPPORT || rc == -ENOENT || rc == -ENODATA || rc == -E2BIG ||
           rc == -ENOSPC;
}

#define KNOWN(call) FUZZ_MUST(known(call))

/* ---- a store with something in every table ---- */

static void apply(struct command cmd)
{
    struct store_batch *b;
    struct result result;
    bool fresh;

    cmd.time_ns = 1000;
    world.index++;
    FUZZ_MUST(store_batch_begin(world.store, &b) == 0);
    FUZZ_MUST(store_apply(b, world.index, 1, 0, &cmd, &world.arena, &result, &fresh) == 0);
    FUZZ_MUST(result.status == STATUS_OK);
    if (cmd.session != 0)
        FUZZ_MUST(store_session_save(b, cmd.session, cmd.sequence, STATUS_OK, result.revision, T("answer")) == 0);
    FUZZ_MUST(store_batch_set_membership(b, world.index, T("membership")) == 0);
    FUZZ_MUST(store_batch_advance(b, world.index, 1) == 0);
    FUZZ_MUST(store_batch_commit(b) == 0);
    arena_reset(&world.arena);
}

static void put(struct slice key, struct slice value, int64_t lease)
{
    apply((struct command){.kind = COMMAND_PUT, .session = 5, .sequence = world.index,
                           .put = {.key = key, .value = value, .lease = lease}});
}

static void file(uint16_t kind, const char *path, const char *path2, struct slice value)
{
    apply((struct command){.kind = kind, .file = {.path = T(path), .path2 = T(path2), .value = value, .flags = FILE_CREATE,
                                                  .attrs = {.has = ATTR_MODE | ATTR_INO, .mode = 0100644,
                                                            .ino = 100 + world.index}}});
}

static void lock(uint64_t owner, bool wait)
{
    struct lock_op op = {.ino = 7, .session = 9, .owner = owner, .request = owner, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE,
                         .end = 9, .pid = 1, .wait = wait, .lease = 7};

    apply((struct command){.kind = COMMAND_FILE_LOCK, .lock = op});
}

static void fill(void)
{
    static uint8_t long_key[1200], long_value[3000];
    struct slice urls[1] = {T("http://h:1")};

    memset(long_key, 'k', sizeof(long_key));
    memset(long_value, 'v', sizeof(long_value));
    apply((struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 7, .ttl_s = 60}});
    put(T("/a"), T("1"), 0);
    put(T("/a"), slice_make(long_value, sizeof(long_value)), 7);
    put(T("/a/b"), T("3"), 7);
    put(T("gone"), T("x"), 0);
    put(slice_make(long_key, sizeof(long_key)), T("x"), 0);
    apply((struct command){.kind = COMMAND_DELETE_RANGE, .del = {.key = T("gone")}});
    file(COMMAND_FILE_MKDIR, "/dir", "", T(""));
    file(COMMAND_FILE_WRITE, "/dir/file", "", T("content"));
    file(COMMAND_FILE_SETXATTR, "/dir/file", "user.x", slice_make(long_value, sizeof(long_value)));
    file(COMMAND_FILE_SETXATTR, "/dir", "user.y", T("small"));
    apply((struct command){.kind = COMMAND_FILE_RENAME, .file = {.path = T("/dir/file"), .path2 = T("/dir/moved")}});
    lock(1, false);
    lock(2, true);
    apply((struct command){.kind = COMMAND_ALARM, .alarm = {ALARM_ACTIVATE, ALARM_NOSPACE, 5}});
    apply((struct command){.kind = COMMAND_MEMBER_PUBLISH,
                           .member = {.id = 1, .name = T("n1"), .client_urls = urls, .n_client_urls = 1, .version = 2,
                                      .instance = 3}});
    apply((struct command){.kind = COMMAND_COMPACT, .compact = {.revision = 3}});
}

static void remove_world(void)
{
    static const char *const files[] = {"env.1/data.mdb", "env.1/lock.mdb", "CURRENT"};
    char path[160];

    store_close(world.store);
    arena_fini(&world.arena);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", world.dir, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/env.1", world.dir);
    rmdir(path);
    rmdir(world.dir);
}

static void start(void)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 64u << 20};

    snprintf(world.dir, sizeof(world.dir), "%.70s/fuzz-table.XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    FUZZ_MUST(mkdtemp(world.dir) != NULL);
    FUZZ_MUST(store_open(world.dir, &options, &world.store) == 0);
    arena_init(&world.arena);
    fill();
    atexit(remove_world);
}

/* ---- the rows of the input ---- */

static MDB_dbi table_of(uint8_t n)
{
    const struct store *s = world.store;
    const MDB_dbi tables[] = {s->main, s->keys,   s->gone,       s->dirs,   s->layers, s->log,
                              s->sessions, s->leases, s->lease_keys, s->xattrs, s->locks,  s->usage};

    return tables[n % (sizeof(tables) / sizeof(tables[0]))];
}

/* The place-th row, counted round. */
static bool find_row(MDB_txn *txn, MDB_dbi dbi, uint8_t place, MDB_val *ret_key, MDB_val *ret_val)
{
    MDB_cursor *cursor;
    MDB_stat stat;
    int rc;

    FUZZ_MUST(mdb_stat(txn, dbi, &stat) == 0 && mdb_cursor_open(txn, dbi, &cursor) == 0);
    rc = stat.ms_entries == 0 ? MDB_NOTFOUND : mdb_cursor_get(cursor, ret_key, ret_val, MDB_FIRST);
    for (size_t n = stat.ms_entries != 0 ? place % stat.ms_entries : 0; rc == 0 && n > 0; n--)
        rc = mdb_cursor_get(cursor, ret_key, ret_val, MDB_NEXT);
    mdb_cursor_close(cursor);
    return rc == 0;
}

static void put_row(MDB_txn *txn, MDB_dbi dbi, struct slice key, struct slice body)
{
    MDB_val k = {key.len, (void *)key.data}, v = {ROW_CRC_BYTES + body.len, NULL};
    uint8_t *row = malloc(v.mv_size);

    FUZZ_MUST(row != NULL);
    if (body.len > 0)
        memcpy(row + ROW_CRC_BYTES, body.data, body.len);
    put_le32(row, row_crc(&k, row + ROW_CRC_BYTES, body.len));
    v.mv_data = row;
    mdb_put(txn, dbi, &k, &v, 0); /* of main: the name of a table is refused */
    free(row);
}

/* The bytes that the row has, with others over them. */
static void patch_row(MDB_txn *txn, MDB_dbi dbi, struct slice key, struct slice old, struct slice patch)
{
    struct bytes body;
    size_t at, n;

    if (patch.len < 1 || old.len <= ROW_CRC_BYTES)
        return;
    bytes_init(&body);
    bytes_raw(&body, old.data + ROW_CRC_BYTES, old.len - ROW_CRC_BYTES);
    FUZZ_MUST(bytes_status(&body) == 0);
    at = patch.data[0] % body.len;
    n = patch.len - 1 < body.len - at ? patch.len - 1 : body.len - at;
    memcpy(body.data + at, patch.data + 1, n);
    put_row(txn, dbi, key, bytes_slice(&body));
    bytes_fini(&body);
}

/* False: that was the last one. */
static bool take_row(MDB_txn *txn, struct slice *in)
{
    uint8_t key_bytes[KEY_MAX];
    MDB_val key = {0, NULL}, val = {0, NULL};
    size_t key_len, body_len;
    MDB_dbi dbi;
    uint8_t table, place;
    struct slice body;

    if (in->len < 5)
        return false;
    table = in->data[0];
    place = in->data[1];
    key_len = place == 255 ? in->data[2] : 0;
    body_len = get_le16(in->data + 3);
    *in = slice_make(in->data + 5, in->len - 5);
    if (key_len > in->len)
        return false;
    dbi = table_of(table & 0x7f);
    if (dbi == 0 || (place != 255 && !find_row(txn, dbi, place, &key, &val)) || key.mv_size > KEY_MAX)
        return false;
    if (place == 255)
        key = (MDB_val){key_len, (void *)in->data};
    if (key.mv_size == 0)
        return false;
    memcpy(key_bytes, key.mv_data, key.mv_size);
    *in = slice_make(in->data + key_len, in->len - key_len);
    body = slice_make(in->data, body_len < in->len ? body_len : in->len);
    if (table & 0x80)
        patch_row(txn, dbi, slice_make(key_bytes, key.mv_size), slice_make(val.mv_data, val.mv_size), body);
    else
        put_row(txn, dbi, slice_make(key_bytes, key.mv_size), body);
    *in = slice_make(in->data + body.len, in->len - body.len);
    return true;
}

/* ---- reading ---- */

static int on_kv(void *ctx, const struct kv *kv)
{
    return 0;
}

static int on_lease(void *ctx, const struct lease_info *lease)
{
    return 0;
}

static int on_slice(void *ctx, struct slice s)
{
    return 0;
}

static int on_child(void *ctx, const struct store_child *child)
{
    return 0;
}

static int on_lock(void *ctx, const struct lock_op *op, uint64_t token)
{
    return 0;
}

static int on_xattr(void *ctx, struct slice name, uint64_t len)
{
    return 0;
}

static int on_row(void *ctx, const struct store_row *row)
{
    return 0;
}

static int on_table(void *ctx, const struct store_table *table)
{
    return 0;
}

static void on_problem(void *ctx, const char *text)
{
}

static int on_event(void *ctx, const struct event *e)
{
    struct arena arena;
    struct slice value;
    struct kv kv;

    arena_init(&arena);
    KNOWN(store_event_value(ctx, e, &arena, &value));
    KNOWN(store_event_kv(ctx, e, &arena, &kv));
    KNOWN(store_event_prev_kv(ctx, e, &arena, &kv));
    arena_fini(&arena);
    return 0;
}

static int on_history(void *ctx, const struct event *e)
{
    return 0;
}

static void read_keys(struct store_read *r, struct arena *arena)
{
    static const char *const keys[] = {"/a", "/a/b", "gone", "/dir/moved"};
    struct op_range all = {.key = slice_make("\0", 1), .range_end = slice_make("\0", 1)};
    struct range_result range;
    struct event *events;
    struct slice value;
    struct event event;
    uint16_t status;
    int64_t number;
    uint32_t hash;
    uint64_t index;
    size_t n;
    bool more;

    KNOWN(store_range(r, &all, arena, 0, &range, &status));
    KNOWN(store_range_each(r, &all, on_kv, NULL, &number, &status));
    all.revision = 4;
    KNOWN(store_range(r, &all, arena, 0, &range, &status));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct slice key = T(keys[i]);

        KNOWN(store_key_events(r, key, 4, arena, 100, &events, &n, &more, &status));
        KNOWN(store_key_history(r, key, 100, on_history, NULL));
        KNOWN(store_key_version(r, key, 4, arena, &event));
        KNOWN(store_value(r, key, arena, &value));
        KNOWN(store_value_at(r, key, 4, arena, &value, &status));
    }
    KNOWN(store_events(r, 4, on_event, r, &number, &status));
    KNOWN(store_hash(r, &hash, &number, &index));
}

static void read_files(struct store_read *r, struct arena *arena)
{
    static const char *const paths[] = {"", "/a", "/dir", "/dir/moved", "/dir/file"};
    struct node_stat stat;
    struct slice value;
    bool was_key, was_dir, more = true;
    uint64_t keys, dirs;
    struct store_old *old;
    uint16_t status;
    int rc;

    FUZZ_MUST(store_old_new(5, &old) == 0);
    for (int i = 0; more && i < 100; i++) {
        rc = store_old_advance(old, r, 1000, &more, &status);
        KNOWN(rc);
        more = more && rc == 0 && status == STATUS_OK;
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct slice path = T(paths[i]);

        KNOWN(store_stat(r, path, &stat));
        KNOWN(store_stat_key(r, path, &stat));
        KNOWN(store_list(r, path, T(""), on_child, NULL));
        KNOWN(store_list_ever(r, path, on_child, NULL));
        KNOWN(store_was(r, path, &was_key, &was_dir));
        KNOWN(store_xattr_list(r, path, on_xattr, NULL));
        KNOWN(store_xattr_get(r, path, T("user.x"), arena, &value));
        rc = store_stat_at(r, old, path, &stat);
        FUZZ_MUST(known(rc) || rc == -EAGAIN || rc == -ESTALE);
        rc = store_list_at(r, old, path, on_child, NULL);
        FUZZ_MUST(known(rc) || rc == -EAGAIN || rc == -ESTALE);
    }
    KNOWN(store_list_bare(r, T(""), T(""), on_child, NULL));
    KNOWN(store_list_bare_ever(r, T(""), on_child, NULL));
    KNOWN(store_count(r, &keys, &dirs));
    for (uint64_t ino = 108; ino < 112; ino++) {
        KNOWN(store_xattr_list_ino(r, ino, on_xattr, NULL));
        KNOWN(store_xattr_get_ino(r, ino, T("user.x"), arena, &value));
    }
    store_old_free(old);
}

static void read_rest(struct store_read *r, struct arena *arena)
{
    struct lock_op op = {.ino = 7, .session = 8, .owner = 3, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE, .end = 9}, conflict;
    struct store_check sums;
    struct member_info *members;
    struct lease_info lease;
    struct store_meta meta;
    struct alarm *alarms;
    bool found;
    size_t n;

    KNOWN(store_read_meta(r, &meta));
    KNOWN(store_members(r, arena, &members, &n));
    KNOWN(store_member_removed(r, 1, &found));
    KNOWN(store_leases(r, 0, on_lease, NULL));
    KNOWN(store_lease_get(r, 7, &lease));
    KNOWN(store_lease_keys(r, 7, on_slice, NULL));
    KNOWN(store_alarms(r, arena, &alarms, &n));
    KNOWN(store_lock_query(r, &op, &conflict, &found));
    KNOWN(store_locks(r, on_lock, NULL));
    KNOWN(store_tables(r, on_table, NULL));
    KNOWN(store_each_row(r, STORE_ROWS_KEYS, on_row, NULL));
    KNOWN(store_each_row(r, STORE_ROWS_DIRS, on_row, NULL));
    KNOWN(store_each_row(r, STORE_ROWS_GONE, on_row, NULL));
    KNOWN(store_check(r, on_problem, NULL, &sums));
}

/* ---- changing ---- */

static void change(struct store_batch *b, struct arena *arena)
{
    struct op_compare compare = {.target = COMPARE_LEASE, .key = T("/a"), .range_end = T("/b"), .number = 7};
    struct op op = {.kind = OP_DELETE, .del = {.key = T("/a"), .range_end = T("/b"), .prev_kv = true}};
    struct lock_op unlock = {.ino = 7, .session = 9, .owner = 1, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE, .all = true};
    const struct command commands[] = {
        {.kind = COMMAND_PUT, .put = {.key = T("/a/b"), .value = T("5"), .lease = 7, .prev_kv = true}},
        {.kind = COMMAND_PUT, .put = {.key = T("gone"), .value = T("again")}},
        {.kind = COMMAND_FILE_UNLOCK, .lock = unlock},
        {.kind = COMMAND_FILE_SETXATTR, .file = {.path = T("/dir/moved"), .path2 = T("user.x"), .value = T("z")}},
        {.kind = COMMAND_FILE_RENAME, .file = {.path = T("/dir"), .path2 = T("/other")}},
        {.kind = COMMAND_FILE_UNLINK, .file = {.path = T("/other/moved")}},
        {.kind = COMMAND_ALARM, .alarm = {ALARM_DEACTIVATE, ALARM_NOSPACE, 5}},
        {.kind = COMMAND_TXN, .txn = {&compare, &op, NULL, 1, 1, 0}},
        {.kind = COMMAND_LEASE_REVOKE, .lease = {.id = 7}},
        {.kind = COMMAND_COMPACT, .compact = {.revision = 9}},
    };
    struct result result;
    int64_t revision;
    uint16_t status;
    struct slice body;
    bool fresh, more = true;
    int found;

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        int rc = store_apply(b, world.index + 1, 1, (uint32_t)i, &commands[i], arena, &result, &fresh);

        KNOWN(rc);
        FUZZ_MUST(rc == 0 || store_batch_advance(b, world.index + 1, 1) == 0); /* poisoned: what follows says the same */
    }
    KNOWN(store_session_find(b, 5, 1, &found, &status, &revision, &body));
    for (int i = 0; more && i < 100; i++)
        if (store_batch_compact(b, 100, &more) < 0)
            break;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    struct store_read r = {.snap = {.store = NULL}};
    struct store_batch *b;
    int rc;

    if (world.store == NULL)
        start();
    if (size == 0)
        return 0;
    FUZZ_MUST(store_batch_begin(world.store, &b) == 0);
    for (int i = 0; i < ROWS_MAX && take_row(b->snap.txn, &in); i++)
        ;
    rc = state_load(b->snap.txn, world.store->main, &b->snap.state, NULL);
    KNOWN(rc);
    if (rc == 0) {
        r.snap = (struct snap){.store = world.store, .txn = b->snap.txn, .state = b->snap.state};
        read_keys(&r, &world.arena);
        read_files(&r, &world.arena);
        read_rest(&r, &world.arena);
        if (r.snap.log_cursor != NULL)
            mdb_cursor_close(r.snap.log_cursor);
        arena_reset(&world.arena);
        session_unload(world.store);
        rc = session_load(b);
        KNOWN(rc);
        if (rc == 0)
            change(b, &world.arena);
    }
    store_batch_abort(b);
    arena_reset(&world.arena);
    return 0;
}
