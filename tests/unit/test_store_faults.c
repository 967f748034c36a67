/* store/ when LMDB fails: the 1st, then the 2nd, ... call of a run fails until a run meets no fault. A failed batch
 * leaves no trace, a failed read says so, and nothing is lost or crashes.
 *
 * wrap: mdb_get mdb_put mdb_del mdb_cursor_get mdb_cursor_put mdb_cursor_open mdb_txn_begin mdb_txn_commit mdb_dbi_open
 * wrap: mdb_env_open mdb_env_create mdb_env_set_mapsize mdb_env_sync mdb_reader_check mdb_cursor_del mdb_stat mdb_txn_renew statvfs */
#include "tests/unit/store_first_version.h"
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/crc32c.h"

static long calls_left; /* the call that fails; 0: none does */
static int fault_error;

static bool fault(void)
{
    return calls_left > 0 && --calls_left == 0;
}

#define WRAP(name, parameters, arguments)                                                                    \
    int __real_##name parameters;                                                                            \
    int __wrap_##name parameters;                                                                            \
    int __wrap_##name parameters                                                                             \
    {                                                                                                        \
        return fault() ? fault_error : __real_##name arguments;                                              \
    }

WRAP(mdb_get, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v), (t, d, k, v))
WRAP(mdb_put, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v, unsigned f), (t, d, k, v, f))
WRAP(mdb_del, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v), (t, d, k, v))
WRAP(mdb_cursor_get, (MDB_cursor * c, MDB_val *k, MDB_val *v, MDB_cursor_op op), (c, k, v, op))
WRAP(mdb_cursor_put, (MDB_cursor * c, MDB_val *k, MDB_val *v, unsigned f), (c, k, v, f))
WRAP(mdb_cursor_del, (MDB_cursor * c, unsigned f), (c, f))
WRAP(mdb_cursor_open, (MDB_txn * t, MDB_dbi d, MDB_cursor **c), (t, d, c))
WRAP(mdb_txn_begin, (MDB_env * e, MDB_txn *p, unsigned f, MDB_txn **t), (e, p, f, t))
WRAP(mdb_txn_renew, (MDB_txn * t), (t))
WRAP(mdb_dbi_open, (MDB_txn * t, const char *n, unsigned f, MDB_dbi *d), (t, n, f, d))
WRAP(mdb_env_open, (MDB_env * e, const char *p, unsigned f, mdb_mode_t m), (e, p, f, m))
WRAP(mdb_env_create, (MDB_env * *e), (e))
WRAP(mdb_env_set_mapsize, (MDB_env * e, size_t n), (e, n))
WRAP(mdb_env_sync, (MDB_env * e, int f), (e, f))
WRAP(mdb_reader_check, (MDB_env * e, int *n), (e, n))
WRAP(mdb_stat, (MDB_txn * t, MDB_dbi d, MDB_stat *s), (t, d, s))

static bool disk_is_full;

int __real_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st)
{
    int rc = __real_statvfs(path, st);

    st->f_bavail = disk_is_full ? 0 : 1 << 20;
    return rc;
}

int __real_mdb_txn_commit(MDB_txn *t);
int __wrap_mdb_txn_commit(MDB_txn *t);
int __wrap_mdb_txn_commit(MDB_txn *t)
{
    if (!fault())
        return __real_mdb_txn_commit(t);
    mdb_txn_abort(t); /* a failed commit has ended its transaction */
    return fault_error;
}

/* ---- everything that can be read, as one number ---- */

struct digest {
    struct store_read *r;
    uint32_t crc;
};

static int digest_kv(void *ctx, const struct kv *kv)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, kv->key.data, kv->key.len);
    d->crc = crc32c(d->crc, kv->value.data != NULL ? kv->value.data : (const uint8_t *)"", kv->value.len);
    d->crc = crc32c(d->crc, &kv->mod_revision, 3 * sizeof(int64_t));
    return 0;
}

static int digest_event(void *ctx, const struct event *e)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, &e->rev, sizeof(e->rev));
    d->crc = crc32c(d->crc, e->key.data, e->key.len);
    return 0;
}

static int digest_child(void *ctx, const struct store_child *c)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, c->component.data, c->component.len);
    return 0;
}

static int digest_lease(void *ctx, const struct lease_info *lease)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, lease, sizeof(*lease));
    return 0;
}

static int digest_slice(void *ctx, struct slice s)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, s.data, s.len);
    return 0;
}

static int digest_xattr(void *ctx, struct slice name, uint64_t value_len)
{
    return digest_slice(ctx, name);
}

static int digest_lock(void *ctx, const struct lock_op *lock, uint64_t token)
{
    struct digest *d = ctx;

    d->crc = crc32c(d->crc, &lock->owner, sizeof(lock->owner));
    d->crc = crc32c(d->crc, &token, sizeof(token));
    return 0;
}

/* What version 0.2 added. */
static int read_later(struct fixture *f, struct digest *d)
{
    const struct lock_op asked = {.ino = 5, .session = 9, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE};
    struct lock_op conflict;
    struct alarm *alarms;
    struct slice value;
    int64_t revision, compacted;
    uint64_t index;
    uint32_t hash = 0;
    uint16_t status;
    size_t n = 0;
    bool found;
    int rc = store_leases(d->r, 0, digest_lease, d);

    if (rc == 0)
        rc = store_lease_keys(d->r, 7, digest_slice, d);
    if (rc == 0)
        rc = store_alarms(d->r, &f->arena, &alarms, &n);
    d->crc = crc32c(d->crc, &n, sizeof(n));
    if (rc == 0)
        rc = store_xattr_list(d->r, S("/dir"), digest_xattr, d);
    if (rc == 0)
        rc = store_xattr_get(d->r, S("/dir"), S("user.kept"), &f->arena, &value);
    if (rc == -ENODATA || rc == -ENOENT) /* it has moved */
        rc = 0;
    if (rc == 0)
        rc = store_locks(d->r, digest_lock, d);
    if (rc == 0)
        rc = store_lock_query(d->r, &asked, &conflict, &found);
    if (rc == 0)
        rc = store_hash(d->r, &hash, &revision, &index);
    d->crc = crc32c(d->crc, &hash, sizeof(hash));
    if (rc == 0)
        rc = store_hash_kv(d->r, 0, &hash, &compacted, &revision, &status);
    d->crc = crc32c(d->crc, &hash, sizeof(hash));
    return rc;
}

static int read_all(struct fixture *f, uint32_t *ret_crc)
{
    const struct op_range op = {.key = slice_make("", 1), .range_end = slice_make("", 1)};
    struct digest d = {0};
    struct store_meta meta;
    struct node_stat stat;
    int64_t count, next;
    uint16_t status;
    int rc = store_read_begin(f->store, &d.r);

    if (rc < 0)
        return rc;
    rc = store_range_each(d.r, &op, digest_kv, &d, &count, &status);
    if (rc == 0)
        rc = store_events(d.r, 1, digest_event, &d, &next, &status);
    if (rc == 0)
        rc = store_list(d.r, S("/dir"), S(""), digest_child, &d);
    if (rc == 0)
        rc = store_list(d.r, S(""), S(""), digest_child, &d);
    if (rc == 0)
        rc = store_stat(d.r, S("/dir"), &stat);
    if (rc == 0)
        rc = read_later(f, &d);
    if (rc == 0)
        rc = store_read_renew(d.r);
    if (rc == 0)
        rc = store_read_meta(d.r, &meta);
    if (rc == 0) {
        d.crc = crc32c(d.crc, &meta.applied_index, sizeof(meta.applied_index));
        d.crc = crc32c(d.crc, &meta.revision, sizeof(meta.revision));
        *ret_crc = d.crc;
    }
    store_read_end(d.r);
    return rc;
}

/* ---- the run under faults ---- */

static struct slice long_bytes(struct fixture *f, size_t n)
{
    uint8_t *p = arena_alloc(&f->arena, n);

    memset(p, 'L', n);
    return slice_make(p, n);
}

static int apply_commands(struct fixture *f, struct store_batch *b, uint64_t index)
{
    struct op ops[] = {
        {.kind = OP_DELETE, .del = {.key = S("old")}},
        {.kind = OP_PUT, .put = {.key = S("new"), .value = S("v")}},
        {.kind = OP_RANGE, .range = {.key = S("a"), .range_end = S("z")}},
    };
    struct lease_checkpoint points[] = {{7, 5}};
    const struct lock_op lock = {.ino = 6, .session = 1, .owner = 1, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE, .end = 99,
                                 .lease = 8};
    const struct lock_op waiting = {.ino = 6, .session = 2, .owner = 2, .request = 1, .kind = LOCK_POSIX,
                                    .type = LOCK_SHARED, .end = 9, .wait = true};
    const struct lock_op other_waiting = {.ino = 5, .session = 2, .owner = 2, .request = 1, .kind = LOCK_POSIX,
                                          .type = LOCK_SHARED, .end = 9};
    const struct lock_op part = {.ino = 6, .session = 1, .owner = 1, .kind = LOCK_POSIX, .start = 20, .end = 29};
    struct op_compare compare = {.key = S("old"), .target = COMPARE_VERSION, .result = COMPARE_GREATER};
    const struct command commands[] = {
        {.kind = COMMAND_PUT, .put = {.key = S("old"), .value = long_bytes(f, 3000), .prev_kv = true}},
        {.kind = COMMAND_PUT, .put = {.key = long_bytes(f, 1200), .value = S("x")}},
        {.kind = COMMAND_TXN,
         .txn = {.compares = &compare, .n_compares = 1, .success = ops, .n_success = 3, .failure = ops, .n_failure = 3}},
        {.kind = COMMAND_FILE_MKDIR, .file = {.path = S("/m")}},
        {.kind = COMMAND_FILE_WRITE, .file = {.path = S("/m/f"), .value = S("1"), .flags = FILE_CREATE}},
        {.kind = COMMAND_FILE_SETATTR, .file = {.path = S("/m/f"), .attrs = {.has = ATTR_MODE, .mode = 0600}}},
        {.kind = COMMAND_FILE_RENAME, .file = {.path = S("/dir"), .path2 = S("/m/moved")}},
        {.kind = COMMAND_FILE_UNLINK, .file = {.path = S("/m/moved/a")}},
        {.kind = COMMAND_DELETE_RANGE, .del = {.key = S("L"), .range_end = S("M"), .prev_kv = true}},
        {.kind = COMMAND_MEMBER_PUBLISH, .member = {.id = 5, .name = S("five")}},
        {.kind = COMMAND_ALLOC_INODES, .alloc_inodes = {.count = 10}},
        {.kind = COMMAND_LEASE_GRANT, .lease = {.id = 8, .ttl_s = 10}},
        {.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {points, 1}},
        {.kind = COMMAND_PUT, .put = {.key = S("leased"), .lease = 8}},
        {.kind = COMMAND_FILE_LOCK, .lock = lock},
        {.kind = COMMAND_FILE_LOCK, .lock = waiting},
        {.kind = COMMAND_FILE_LOCK_CANCEL, .lock = other_waiting},
        {.kind = COMMAND_FILE_UNLOCK, .lock = part},
        {.kind = COMMAND_LEASE_REVOKE, .lease = {.id = 8}},
        {.kind = COMMAND_LEASE_EXPIRE, .lease = {.id = 7, .term = 1}},
        {.kind = COMMAND_FILE_SETXATTR, .file = {.path = S("/m/f"), .path2 = S("user.x"), .value = long_bytes(f, 3000)}},
        {.kind = COMMAND_FILE_SETXATTR, .file = {.path = S("/m/f"), .path2 = S("user.x"), .value = S("short")}},
        {.kind = COMMAND_FILE_REMOVEXATTR, .file = {.path = S("/m/moved"), .path2 = S("user.kept")}},
        {.kind = COMMAND_FILE_UNLINK, .file = {.path = S("/m/f")}},
        {.kind = COMMAND_COMPACT, .compact.revision = 6},
        {.kind = COMMAND_QUOTA_SET, .quota.bytes = 1 << 30},
        {.kind = COMMAND_CLUSTER_VERSION, .cluster_version.version = 2},
        {.kind = COMMAND_ALARM, .alarm = {ALARM_ACTIVATE, ALARM_NOSPACE, 3}},
        {.kind = COMMAND_ALARM, .alarm = {ALARM_DEACTIVATE, ALARM_NOSPACE, 4}},
    };
    struct result result;
    bool fresh;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        rc = store_apply(b, index, 1, i, &commands[i], &f->arena, &result, &fresh);
        if (rc == 0 && result.status != STATUS_OK)
            fail_msg("command %u: status %d", i, result.status);
        if (rc == 0)
            rc = store_session_save(b, 100 + i, 1, result.status, result.revision, S("answer"));
    }
    if (rc == 0)
        rc = store_batch_set_membership(b, index, S("members"));
    return rc == 0 ? store_batch_advance(b, index, 1) : rc;
}

static int run_batch(struct fixture *f, uint64_t index)
{
    struct store_batch *b;
    int rc = store_batch_begin(f->store, &b);

    if (rc < 0)
        return rc;
    rc = apply_commands(f, b, index);
    if (rc < 0) {
        store_batch_abort(b);
        return rc;
    }
    return store_batch_commit(b);
}

static void prepare(struct fixture *f)
{
    struct lock_op lock = {.ino = 5, .session = 1, .owner = 1, .request = 1, .kind = LOCK_POSIX, .type = LOCK_EXCLUSIVE,
                           .end = 9, .lease = 7};

    fixture_begin(f);
    fixture_put(f, "/dir/a", "1");
    fixture_put(f, "/dir/b/c", "2");
    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("/dir/b/d"), .value = long_bytes(f, 2000)}});
    fixture_apply(f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 7, .ttl_s = 10}});
    fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("held"), .lease = 7}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_SETXATTR,
                                      .file = {.path = S("/dir"), .path2 = S("user.kept"), .value = long_bytes(f, 3000)}});
    fixture_apply(f, (struct command){.kind = COMMAND_FILE_LOCK, .lock = lock});
    for (lock.owner = 2; lock.owner < 4; lock.owner++) {
        lock.wait = true;
        lock.lease = 0;
        lock.session = lock.owner;
        fixture_apply(f, (struct command){.kind = COMMAND_FILE_LOCK, .lock = lock});
    }
}

static void each_failing_call_leaves_no_trace(int error)
{
    struct fixture f;
    uint32_t before, after;
    long n = 0;
    int rc;

    prepare(&f);
    assert_int_equal(0, read_all(&f, &before));
    do {
        n++;
        fault_error = error;
        calls_left = n;
        rc = run_batch(&f, f.index + 1);
        if (calls_left > 0)
            break;
        assert_true(rc < 0);
        if (rc != -EUCLEAN && error == EIO)
            assert_int_equal(-EIO, rc);
        store_close(f.store);
        fixture_open(&f);
        assert_int_equal(0, read_all(&f, &after));
        assert_int_equal(before, after);
        arena_reset(&f.arena);
    } while (n < 100000);
    calls_left = 0;
    assert_int_equal(0, rc);
    assert_true(n > 100);
    assert_int_equal(0, read_all(&f, &after));
    assert_true(before != after);
    fixture_end(&f);
}

static void failed_calls_leave_no_trace(void **state)
{
    each_failing_call_leaves_no_trace(EIO);
}

static void a_full_disk_leaves_no_trace(void **state)
{
    each_failing_call_leaves_no_trace(MDB_MAP_FULL);
}

static void failed_reads_say_so(void **state)
{
    struct fixture f;
    uint32_t before, crc;
    long n = 0;
    int rc;

    prepare(&f);
    assert_int_equal(0, run_batch(&f, ++f.index));
    assert_int_equal(0, read_all(&f, &before));
    do {
        fault_error = EIO;
        calls_left = ++n;
        rc = read_all(&f, &crc);
        assert_true(calls_left > 0 ? rc == 0 : rc < 0);
    } while (calls_left == 0);
    calls_left = 0;
    assert_true(n > 50);
    assert_int_equal(before, crc);
    fixture_end(&f);
}

static void failed_opens_leave_what_can_be_opened(void **state)
{
    struct fixture f;
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7};
    long n = 0;
    int rc;

    fixture_begin(&f);
    fixture_end(&f); /* leaves an empty place */
    assert_int_equal(0, mkdir(f.dir, 0700));
    do {
        fault_error = EIO;
        calls_left = ++n;
        rc = store_open(f.store_dir, &options, &f.store);
        assert_true(calls_left > 0 ? rc == 0 : rc < 0);
    } while (calls_left == 0);
    calls_left = 0;
    assert_int_equal(0, rc);
    assert_true(n > 5);
    arena_init(&f.arena);
    fixture_put(&f, "a", "1");
    fixture_end(&f);
}

/* Each failing call on the way from version 0.1: the next start finds it as it was, or done. */
static void failed_upgrades_are_tried_again(void **state)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 1u << 30};
    struct fixture f;
    uint32_t crc;
    long n = 0;
    int rc;

    prepare(&f);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease.id = 7}).status);
    make_first_version(&f);
    do {
        fault_error = EIO;
        calls_left = ++n;
        rc = store_open(f.store_dir, &options, &f.store);
        assert_true(calls_left > 0 ? rc == 0 : rc < 0);
    } while (calls_left == 0);
    calls_left = 0;
    assert_true(n > 20);
    assert_int_equal(0, read_all(&f, &crc));
    assert_int_equal(STATUS_OK,
                     fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 7, .ttl_s = 10}}).status);
    fixture_end(&f);
}

static int commit_one(struct fixture *f, uint64_t index, int error)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("a")}};
    struct store_batch *b;
    struct result result;
    bool fresh;
    int rc = store_batch_begin(f->store, &b);

    if (rc < 0)
        return rc;
    assert_int_equal(0, store_apply(b, index, 1, 0, &cmd, &f->arena, &result, &fresh));
    assert_true(fresh);
    fault_error = error;
    calls_left = error != 0 ? 2 : 0; /* the state row is the first */
    rc = store_batch_commit(b);
    calls_left = 0;
    return rc;
}

static void failed_commit_stops_the_store(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    assert_int_equal(-EIO, commit_one(&f, 1, EIO));
    assert_int_equal(-EIO, commit_one(&f, 1, 0));
    fixture_end(&f);
}

/* LMDB says ENOSPC of a write that fails and EIO of one that is cut short. */
static void on_a_full_disk_the_same_batch_is_tried_again(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    assert_int_equal(-ENOSPC, commit_one(&f, 1, ENOSPC));
    assert_int_equal(-ENOSPC, commit_one(&f, 1, ENOSPC));
    assert_int_equal(0, commit_one(&f, 1, 0));
    disk_is_full = true;
    assert_int_equal(-ENOSPC, commit_one(&f, 2, EIO));
    disk_is_full = false;
    assert_int_equal(0, commit_one(&f, 2, 0));
    fixture_end(&f);
}

/* ---- another process ---- */

/* Reads until it sees revision `until`; its answer is its exit status. */
static int read_until(const char *store_dir, int64_t until, int ready)
{
    struct store_options options = {0};
    struct store *s;
    struct store_read *r;
    struct arena arena;

    arena_init(&arena);
    if (store_open(store_dir, &options, &s) < 0 || store_read_begin(s, &r) < 0)
        return 2;
    if (write(ready, "r", 1) != 1)
        return 3;
    for (int64_t seen = 0; seen < until;) {
        struct op_range op = {.key = slice_from_str("k")};
        struct range_result range;
        uint16_t status;

        if (store_read_renew(r) < 0 || store_read_revision(r) < seen)
            return 4;
        seen = store_read_revision(r);
        if (store_range(r, &op, &arena, 0, &range, &status) < 0 || status != STATUS_OK)
            return 5;
        /* one snapshot: the key's revision is the store's */
        if (seen > 1 && (range.n_kvs != 1 || range.kvs[0].mod_revision != seen))
            return 6;
        arena_reset(&arena);
        usleep(100);
    }
    return 0; /* without ending the read: its slot stays until the writer clears it */
}

static void another_process_reads_whole_revisions(void **state)
{
    enum { PUTS = 500 };
    struct fixture f;
    int pipes[2], status;
    char byte;
    pid_t child;

    fixture_begin(&f);
    assert_int_equal(0, pipe(pipes));
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(read_until(f.store_dir, PUTS + 1, pipes[1]));
    assert_int_equal(1, read(pipes[0], &byte, 1));
    for (int i = 0; i < PUTS; i++)
        fixture_put(&f, "k", "v");
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFEXITED(status));
    assert_int_equal(0, WEXITSTATUS(status));
    close(pipes[0]);
    close(pipes[1]);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_calls_leave_no_trace),
        cmocka_unit_test(a_full_disk_leaves_no_trace),
        cmocka_unit_test(failed_reads_say_so),
        cmocka_unit_test(failed_opens_leave_what_can_be_opened),
        cmocka_unit_test(failed_upgrades_are_tried_again),
        cmocka_unit_test(failed_commit_stops_the_store),
        cmocka_unit_test(on_a_full_disk_the_same_batch_is_tried_again),
        cmocka_unit_test(another_process_reads_whole_revisions),
    };

    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
