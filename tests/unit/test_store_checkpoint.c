/* Checkpoint files: what one holds, what damage is found, what a start makes of them, and what a failing call leaves.
 *
 * wrap: write fsync rename open pipe2 close unlink mkdir pthread_create mdb_env_copyfd2 mdb_env_open mdb_env_create
 * wrap: mdb_env_sync mdb_txn_begin mdb_txn_commit mdb_put mdb_get statvfs */
#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/crc32c.h"
#include "store/checkpoint.h"

/* ---- calls that fail ---- */

static long calls_left; /* the call that fails; 0: none does */
static int fault_error;
static uint64_t free_bytes; /* as the disk says; 0: the truth */

static bool fault(void)
{
    return __atomic_load_n(&calls_left, __ATOMIC_RELAXED) > 0 &&
           __atomic_sub_fetch(&calls_left, 1, __ATOMIC_RELAXED) == 0;
}

#define WRAP(type, name, parameters, arguments, failure)                                                     \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        if (!fault())                                                                                        \
            return __real_##name arguments;                                                                  \
        errno = fault_error;                                                                                 \
        return failure;                                                                                      \
    }

WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), -1)
WRAP(int, fsync, (int fd), (fd), -1)
WRAP(int, rename, (const char *a, const char *b), (a, b), -1)
WRAP(int, pipe2, (int *fds, int flags), (fds, flags), -1)
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), -1)
WRAP(int, unlink, (const char *p), (p), -1)
WRAP(int, open, (const char *p, int flags, mode_t mode), (p, flags, mode), -1)
WRAP(int, pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *x), (t, a, f, x), fault_error)
WRAP(int, mdb_env_copyfd2, (MDB_env * e, mdb_filehandle_t fd, unsigned f), (e, fd, f), fault_error)
WRAP(int, mdb_env_open, (MDB_env * e, const char *p, unsigned f, mdb_mode_t m), (e, p, f, m), fault_error)
WRAP(int, mdb_env_create, (MDB_env * *e), (e), fault_error)
WRAP(int, mdb_env_sync, (MDB_env * e, int f), (e, f), fault_error)
WRAP(int, mdb_txn_begin, (MDB_env * e, MDB_txn *p, unsigned f, MDB_txn **t), (e, p, f, t), fault_error)
WRAP(int, mdb_put, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v, unsigned f), (t, d, k, v, f), fault_error)
WRAP(int, mdb_get, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v), (t, d, k, v), fault_error)

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    int rc = __real_close(fd);

    if (!fault())
        return rc;
    errno = fault_error;
    return -1;
}

int __real_mdb_txn_commit(MDB_txn *t);
int __wrap_mdb_txn_commit(MDB_txn *t);
int __wrap_mdb_txn_commit(MDB_txn *t)
{
    if (!fault())
        return __real_mdb_txn_commit(t);
    mdb_txn_abort(t);
    return fault_error;
}

int __real_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st)
{
    int rc = __real_statvfs(path, st);

    if (fault()) {
        errno = fault_error;
        return -1;
    }
    if (free_bytes != 0)
        st->f_bavail = free_bytes / st->f_frsize;
    return rc;
}

/* ---- a store that a machine's crash spoils ---- */

static int open_at(struct fixture *f, uint64_t log_first)
{
    struct store_options options = {
        .flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = 7, .map_bytes = 1u << 30, .log_first = log_first};

    return store_open(f->store_dir, &options, &f->store);
}

static void begin(struct fixture *f)
{
    calls_left = 0;
    free_bytes = 0;
    *f = (struct fixture){.time_ns = 1000};
    temp_dir(f->dir, sizeof(f->dir), "quorumfs-checkpoint");
    snprintf(f->store_dir, sizeof(f->store_dir), "%s/store", f->dir);
    arena_init(&f->arena);
    assert_int_equal(0, open_at(f, 0));
}

static void end(struct fixture *f)
{
    char command[256];

    store_close(f->store);
    arena_fini(&f->arena);
    snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    assert_int_equal(0, system(command));
}

static void put_many(struct fixture *f, unsigned from, unsigned to)
{
    char key[32], value[2000];

    memset(value, 'v', sizeof(value));
    for (unsigned i = from; i < to; i++) {
        snprintf(key, sizeof(key), "/k/%06u", i);
        snprintf(value, sizeof(value), "%06u", i);
        value[6] = 'v';
        value[i % 5 == 0 ? sizeof(value) - 1 : 100] = '\0';
        fixture_put(f, key, value);
        value[i % 5 == 0 ? sizeof(value) - 1 : 100] = 'v';
        arena_reset(&f->arena);
    }
}

/* The machine goes down: the mark is of another boot, so what the environment holds is not believed. */
static void crash_machine(struct fixture *f)
{
    char path[256];
    FILE *file;

    store_close(f->store);
    f->store = NULL;
    snprintf(path, sizeof(path), "%s/RUN", f->store_dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("env.1 running in boot 0, file 0:0\n", file);
    fclose(file);
}

static int digest_kv(void *ctx, const struct kv *kv)
{
    uint32_t *crc = ctx;

    *crc = crc32c(*crc, kv->key.data, kv->key.len);
    *crc = crc32c(*crc, kv->value.data != NULL ? kv->value.data : (const uint8_t *)"", kv->value.len);
    *crc = crc32c(*crc, &kv->mod_revision, sizeof(kv->mod_revision));
    return 0;
}

static int digest_event(void *ctx, const struct event *e)
{
    uint32_t *crc = ctx;

    *crc = crc32c(*crc, &e->rev, sizeof(e->rev));
    *crc = crc32c(*crc, e->key.data, e->key.len);
    return 0;
}

static uint32_t digest(struct store *s, struct store_meta *ret_meta)
{
    const struct op_range op = {.key = slice_make("", 1), .range_end = slice_make("", 1)};
    struct store_read *r;
    int64_t count, next;
    uint16_t status;
    uint32_t crc = 0;

    assert_int_equal(0, store_read_begin(s, &r));
    assert_int_equal(0, store_range_each(r, &op, digest_kv, &crc, &count, &status));
    assert_int_equal(0, store_events(r, 1, digest_event, &crc, &next, &status));
    assert_int_equal(0, store_read_meta(r, ret_meta));
    store_read_end(r);
    return crc;
}

static size_t count_names(const struct fixture *f, const char *prefix)
{
    DIR *d = opendir(f->store_dir);
    struct dirent *e;
    size_t n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

static void damage(const char *path, uint64_t at)
{
    int fd = open(path, O_RDWR, 0);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(1, pread(fd, &byte, 1, (off_t)at));
    byte ^= 0x10;
    assert_int_equal(1, pwrite(fd, &byte, 1, (off_t)at));
    close(fd);
}

/* ---- what one holds ---- */

static void a_checkpoint_holds_everything(void **state)
{
    struct checkpoint_info info, again;
    struct store_meta live, image_meta;
    struct store *image;
    struct store_batch *b;
    struct slice membership;
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 2000);
    for (unsigned i = 0; i < 1000; i++) {
        char key[32];

        snprintf(key, sizeof(key), "/k/%06u", i);
        fixture_delete(&f, key, S(""));
    }
    assert_int_equal(0, store_batch_begin(f.store, &b));
    assert_int_equal(0, store_batch_advance(b, ++f.index, 3));
    assert_int_equal(0, store_batch_set_membership(b, f.index, S("the members")));
    assert_int_equal(0, store_batch_commit(b));
    assert_int_equal(0, checkpoint_write(f.store, &info));
    assert_int_equal(f.index, info.applied_index);
    assert_int_equal(3, info.applied_term);
    assert_int_equal(7, info.cluster_id);
    assert_int_equal(1, info.epoch);
    assert_int_equal(0, checkpoint_verify(info.path, &again));
    assert_memory_equal(&info, &again, offsetof(struct checkpoint_info, path));
    assert_int_equal(0, checkpoint_membership(info.path, &f.arena, &membership));
    assert_slice("the members", membership);
    assert_int_equal(f.index, info.membership_index);
    assert_int_equal(0, store_open_image(info.path, &image));
    assert_int_equal(digest(f.store, &live), digest(image, &image_meta));
    assert_int_equal(live.revision, image_meta.revision);
    assert_int_equal(live.applied_index, image_meta.applied_index);
    store_close(image);
    end(&f);
}

static void the_two_newest_are_kept(void **state)
{
    struct checkpoint_info infos[8], info;
    struct fixture f;
    size_t n, bad;

    begin(&f);
    for (unsigned i = 0; i < 4; i++) {
        put_many(&f, i, i + 1);
        assert_int_equal(0, checkpoint_write(f.store, &info));
    }
    assert_int_equal(0, checkpoint_list(f.store_dir, infos, 8, &n, &bad));
    assert_int_equal(2, n);
    assert_int_equal(0, bad);
    assert_int_equal(4, infos[0].applied_index);
    assert_int_equal(3, infos[1].applied_index);
    assert_int_equal(0, checkpoint_latest(f.store_dir, &info));
    assert_int_equal(4, info.applied_index);
    end(&f);
}

static void each_damaged_byte_is_found(void **state)
{
    struct checkpoint_info info, other;
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 50);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    for (uint64_t at = 0; at < info.bytes; at += at < info.image_bytes ? 1021 : 1) {
        damage(info.path, at);
        assert_int_equal(-EUCLEAN, checkpoint_verify(info.path, &other));
        damage(info.path, at);
    }
    assert_int_equal(0, checkpoint_verify(info.path, &other));
    for (uint64_t len = info.bytes - 1; len > info.image_bytes - 2; len--) {
        assert_int_equal(0, truncate(info.path, (off_t)len));
        assert_int_equal(-EUCLEAN, checkpoint_read_info(info.path, &other));
    }
    assert_int_equal(-ENOENT, checkpoint_latest(f.store_dir, &other));
    end(&f);
}

static void append_bytes(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(n, write(fd, p, n));
    close(fd);
}

/* As etcd's clients keep a snapshot: zeros up to a multiple of 512 behind the checkpoint, and a digest behind that. */
static void one_kept_by_an_etcd_client_is_whole(void **state)
{
    static const uint8_t zeros[512];
    uint8_t digest[32];
    struct checkpoint_info info, other;
    struct fixture f;
    size_t padding;

    begin(&f);
    put_many(&f, 0, 50);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    padding = (512 - info.bytes % 512) % 512;
    append_bytes(info.path, zeros, padding);
    assert_int_equal(0, checkpoint_verify(info.path, &other));
    assert_int_equal(info.bytes, other.bytes);
    memset(digest, 0x51, sizeof(digest));
    append_bytes(info.path, digest, sizeof(digest));
    assert_int_equal(0, checkpoint_verify(info.path, &other));
    assert_int_equal(info.bytes, other.bytes);
    assert_int_equal(info.revision, other.revision);
    damage(info.path, info.bytes - 12); /* its magic: nothing says any more where it ends */
    assert_int_equal(-EUCLEAN, checkpoint_verify(info.path, &other));
    damage(info.path, info.bytes - 12);
    damage(info.path, 4096);
    assert_int_equal(-EUCLEAN, checkpoint_verify(info.path, &other));
    damage(info.path, 4096);
    if (padding > 0) { /* what is between is no padding */
        damage(info.path, info.bytes);
        assert_int_equal(-EUCLEAN, checkpoint_verify(info.path, &other));
    }
    end(&f);
}

/* ---- beside the writer ---- */

struct writer {
    struct fixture *f;
    bool stop;
};

static void *write_on(void *arg)
{
    struct writer *w = arg;

    for (unsigned i = 0; !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); i++)
        put_many(w->f, i % 3000, i % 3000 + 1);
    return NULL;
}

static void the_writer_goes_on_beside_it(void **state)
{
    struct writer w = {0};
    struct checkpoint_info info, verified;
    struct store_meta meta;
    struct store *image;
    struct fixture f;
    pthread_t thread;
    uint64_t last = 0;

    begin(&f);
    put_many(&f, 0, 3000);
    w.f = &f;
    assert_int_equal(0, pthread_create(&thread, NULL, write_on, &w));
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(0, checkpoint_write(f.store, &info));
        assert_int_equal(0, checkpoint_verify(info.path, &verified));
        assert_int_equal(0, store_open_image(info.path, &image));
        digest(image, &meta);
        assert_int_equal(info.revision, meta.revision);
        assert_true(meta.applied_index >= last);
        last = meta.applied_index;
        store_close(image);
    }
    __atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    end(&f);
}

static void a_canceled_one_leaves_nothing(void **state)
{
    struct checkpoint_info info;
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 3000);
    checkpoint_cancel(f.store);
    assert_int_equal(-ECANCELED, checkpoint_write(f.store, &info));
    assert_int_equal(0, count_names(&f, "checkpoint"));
    end(&f);
}

static void without_room_the_older_goes_first(void **state)
{
    struct checkpoint_info info;
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 2; i++) {
        put_many(&f, i, i + 1);
        assert_int_equal(0, checkpoint_write(f.store, &info));
    }
    put_many(&f, 2, 3);
    free_bytes = CHECKPOINT_LEAVE_BYTES;
    assert_int_equal(-ENOSPC, checkpoint_write(f.store, &info));
    assert_int_equal(1, count_names(&f, "checkpoint-"));
    assert_int_equal(0, checkpoint_latest(f.store_dir, &info));
    assert_int_equal(2, info.applied_index);
    free_bytes = CHECKPOINT_LEAVE_BYTES + (1 << 20);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    assert_int_equal(3, info.applied_index);
    end(&f);
}

/* ---- a start ---- */

static void a_start_recovers_from_the_newest(void **state)
{
    struct checkpoint_info info;
    struct store_meta before, after;
    struct fixture f;
    uint32_t sum;

    begin(&f);
    put_many(&f, 0, 20);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    put_many(&f, 20, 40);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    sum = digest(f.store, &before);
    put_many(&f, 40, 50);
    crash_machine(&f);
    free_bytes = 1 << 20; /* a start needs no more than the copy itself */
    assert_int_equal(0, open_at(&f, 41)); /* the log goes on right behind it */
    free_bytes = 0;
    assert_int_equal(STORE_FROM_CHECKPOINT, store_origin(f.store));
    assert_int_equal(2, store_epoch(f.store));
    assert_int_equal(sum, digest(f.store, &after));
    assert_int_equal(40, after.applied_index);
    assert_int_equal(40, after.begun_index);
    assert_int_equal(1, count_names(&f, "env."));
    f.index = 40;
    put_many(&f, 40, 60); /* it is an environment as any other */
    assert_int_equal(0, checkpoint_write(f.store, &info));
    assert_int_equal(2, info.epoch);
    store_close(f.store);
    assert_int_equal(0, open_at(&f, 61));
    assert_int_equal(STORE_KEPT, store_origin(f.store));
    end(&f);
}

static void a_damaged_one_is_passed_over(void **state)
{
    struct checkpoint_info newest, older;
    struct store_meta meta;
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 20);
    assert_int_equal(0, checkpoint_write(f.store, &older));
    put_many(&f, 20, 40);
    assert_int_equal(0, checkpoint_write(f.store, &newest));
    damage(newest.path, 5000);
    crash_machine(&f);
    assert_int_equal(-ENODATA, open_at(&f, 30)); /* the log does not reach back to the older */
    assert_int_equal(1, count_names(&f, "env."));
    assert_int_equal(-ENODATA, open_at(&f, 22));
    assert_int_equal(0, open_at(&f, 21));
    assert_int_equal(STORE_FROM_CHECKPOINT, store_origin(f.store));
    digest(f.store, &meta);
    assert_int_equal(20, meta.applied_index);
    damage(older.path, older.bytes - 1);
    crash_machine(&f);
    assert_int_equal(-ENODATA, open_at(&f, 2));
    assert_int_equal(0, open_at(&f, 1)); /* the log has everything */
    assert_int_equal(STORE_FROM_LOG, store_origin(f.store));
    end(&f);
}

static void a_lost_environment_is_made_again(void **state)
{
    struct checkpoint_info info;
    struct store_meta meta;
    char command[600];
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 20);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    store_close(f.store);
    snprintf(command, sizeof(command), "rm -rf '%s'/env.*", f.store_dir);
    assert_int_equal(0, system(command));
    assert_int_equal(0, open_at(&f, 21));
    digest(f.store, &meta);
    assert_int_equal(20, meta.applied_index);
    store_close(f.store);
    snprintf(command, sizeof(command), "rm -rf '%s'/env.* '%s'/CURRENT '%s'/RUN", f.store_dir, f.store_dir, f.store_dir);
    assert_int_equal(0, system(command));
    assert_int_equal(0, open_at(&f, 21));
    assert_true(store_epoch(f.store) > 1);
    store_close(f.store);
    snprintf(command, sizeof(command), "rm -rf '%s'/*", f.store_dir);
    assert_int_equal(0, system(command));
    assert_int_equal(-ENODATA, open_at(&f, 21)); /* nothing is begun anew behind a trimmed log */
    assert_int_equal(0, open_at(&f, 1));
    end(&f);
}

static void another_clusters_is_refused(void **state)
{
    struct checkpoint_info info;
    struct fixture f;
    uint64_t epoch;

    begin(&f);
    put_many(&f, 0, 20);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    assert_int_equal(-EXDEV, checkpoint_install(f.store_dir, info.path, 8, &epoch));
    assert_int_equal(1, count_names(&f, "env."));
    end(&f);
}

static void an_installed_one_takes_over(void **state)
{
    struct checkpoint_info info, adopted;
    struct store_meta here, there;
    struct fixture from, to;
    char part[160], command[600];
    uint64_t epoch;
    uint32_t sum;

    begin(&from);
    begin(&to);
    put_many(&from, 0, 200);
    put_many(&to, 0, 20);
    assert_int_equal(0, checkpoint_write(from.store, &info));
    snprintf(part, sizeof(part), "%s/incoming.part", to.store_dir);
    snprintf(command, sizeof(command), "cp '%.200s' '%s'", info.path, part);
    assert_int_equal(0, system(command));
    damage(part, 4444);
    assert_int_equal(-EUCLEAN, checkpoint_adopt(to.store_dir, part, &adopted));
    damage(part, 4444);
    assert_int_equal(0, checkpoint_adopt(to.store_dir, part, &adopted));
    assert_int_equal(0, checkpoint_latest(to.store_dir, &info));
    assert_int_equal(200, info.applied_index);
    assert_int_equal(0, checkpoint_install(to.store_dir, info.path, 7, &epoch));
    assert_int_equal(2, epoch);
    sum = digest(from.store, &there);
    store_close(to.store);
    assert_int_equal(0, open_at(&to, 1));
    assert_int_equal(STORE_KEPT, store_origin(to.store));
    assert_int_equal(2, store_epoch(to.store));
    assert_int_equal(sum, digest(to.store, &here));
    assert_int_equal(200, here.applied_index);
    assert_int_equal(1, count_names(&to, "env."));
    end(&to);
    end(&from);
}

static void a_restored_one_is_another_clusters(void **state)
{
    struct store_options options = {
        .flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = 8, .map_bytes = 1u << 30, .log_first = 1};
    struct checkpoint_info info, made;
    struct store_meta meta, old;
    struct fixture from, to;
    char command[200];
    uint64_t epoch;
    uint32_t sum;

    begin(&from);
    begin(&to);
    put_many(&from, 0, 100);
    sum = digest(from.store, &old);
    assert_int_equal(0, checkpoint_write(from.store, &info));
    assert_int_equal(-EEXIST, checkpoint_restore(to.store_dir, info.path, 8, S("members"), &made));
    store_close(to.store);
    to.store = NULL;
    snprintf(command, sizeof(command), "rm -rf '%s'/*", to.store_dir);
    assert_int_equal(0, system(command));
    assert_int_equal(0, checkpoint_restore(to.store_dir, info.path, 8, S("members"), &made));
    assert_int_equal(8, made.cluster_id);
    assert_int_equal(100, made.membership_index);
    for (int life = 0; life < 2; life++) { /* and when the machine goes down before anything was applied */
        assert_int_equal(0, store_open(to.store_dir, &options, &to.store));
        assert_int_equal(life == 0 ? STORE_KEPT : STORE_FROM_CHECKPOINT, store_origin(to.store));
        assert_int_equal(sum, digest(to.store, &meta));
        assert_int_equal(8, meta.cluster_id);
        assert_true(meta.restored);
        assert_int_equal(100, meta.begun_index);
        assert_int_equal(100, meta.membership_index);
        crash_machine(&to);
    }
    /* A member that joins is sent that very file: it has a vote to keep, and a log that goes on behind it. */
    assert_int_equal(0, checkpoint_latest(to.store_dir, &made));
    assert_int_equal(0, checkpoint_install(to.store_dir, made.path, 8, &epoch));
    assert_int_equal(0, store_open(to.store_dir, &options, &to.store));
    assert_int_equal(sum, digest(to.store, &meta));
    assert_false(meta.restored);
    assert_int_equal(100, meta.begun_index);
    to.index = 100;
    put_many(&to, 100, 101);
    digest(to.store, &meta);
    assert_false(meta.restored);
    end(&to);
    end(&from);
}

static void leftovers_are_removed(void **state)
{
    static const char *const names[] = {"checkpoint.new", "CURRENT.new", "RUN.new"};
    char command[500];
    struct fixture f;

    begin(&f);
    put_many(&f, 0, 2);
    store_close(f.store);
    for (size_t i = 0; i < 3; i++) {
        snprintf(command, sizeof(command), "echo x > '%s/%s'; cp -r '%s/env.1' '%s/env.%zu'", f.store_dir, names[i],
                 f.store_dir, f.store_dir, i + 2);
        assert_int_equal(0, system(command));
    }
    assert_int_equal(0, open_at(&f, 1));
    assert_int_equal(1, store_epoch(f.store));
    assert_int_equal(1, count_names(&f, "env."));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(0, count_names(&f, names[i]));
    end(&f);
}

/* ---- every call failing in turn ---- */

static void each_failing_call_of_a_checkpoint_leaves_no_trace(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    struct checkpoint_info info, infos[4];
    struct store_meta before, after;
    struct fixture f;
    uint32_t sum;
    size_t n, bad;

    begin(&f);
    put_many(&f, 0, 100);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    put_many(&f, 100, 200);
    sum = digest(f.store, &before);
    for (size_t e = 0; e < 2; e++) {
        bool met = true;
        unsigned failed = 0;

        for (long call = 1; met; call++) {
            int rc;

            fault_error = errors[e];
            calls_left = call;
            rc = checkpoint_write(f.store, &info);
            met = calls_left == 0;
            calls_left = 0;
            failed += rc < 0;
            if (rc < 0 && rc != -EIO && rc != -ENOSPC)
                fail_msg("call %ld fails with %d", call, rc);
            assert_int_equal(0, count_names(&f, "checkpoint.new"));
            /* Whatever has the name is whole. */
            assert_int_equal(0, checkpoint_list(f.store_dir, infos, 4, &n, &bad));
            assert_int_equal(0, bad);
            assert_true(n >= 1);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(0, checkpoint_verify(infos[i].path, &info));
            assert_int_equal(sum, digest(f.store, &after));
        }
        assert_true(failed > 20);
    }
    put_many(&f, 200, 201); /* and the store goes on */
    assert_int_equal(0, checkpoint_write(f.store, &info));
    end(&f);
}

static void each_failing_call_of_an_install_leaves_no_trace(void **state)
{
    struct checkpoint_info info;
    struct store_meta meta;
    struct fixture f;
    uint64_t epoch;
    unsigned failed = 0;
    bool met = true;
    uint32_t sum;

    begin(&f);
    put_many(&f, 0, 100);
    assert_int_equal(0, checkpoint_write(f.store, &info));
    sum = digest(f.store, &meta);
    for (long call = 1; met; call++) {
        int rc;

        fault_error = ENOSPC;
        calls_left = call;
        rc = checkpoint_install(f.store_dir, info.path, 7, &epoch);
        met = calls_left == 0;
        calls_left = 0;
        failed += rc < 0;
        if (rc < 0 && rc != -EIO && rc != -ENOSPC)
            fail_msg("call %ld fails with %d", call, rc);
        /* Whatever it left, a start finds the same data, be it in the old environment or in the new one. */
        store_close(f.store);
        f.store = NULL;
        assert_int_equal(0, open_at(&f, 101));
        assert_int_equal(sum, digest(f.store, &meta));
        assert_int_equal(1, count_names(&f, "env."));
    }
    assert_true(failed > 15);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_holds_everything),
        cmocka_unit_test(the_two_newest_are_kept),
        cmocka_unit_test(each_damaged_byte_is_found),
        cmocka_unit_test(one_kept_by_an_etcd_client_is_whole),
        cmocka_unit_test(the_writer_goes_on_beside_it),
        cmocka_unit_test(a_canceled_one_leaves_nothing),
        cmocka_unit_test(without_room_the_older_goes_first),
        cmocka_unit_test(a_start_recovers_from_the_newest),
        cmocka_unit_test(a_damaged_one_is_passed_over),
        cmocka_unit_test(a_lost_environment_is_made_again),
        cmocka_unit_test(another_clusters_is_refused),
        cmocka_unit_test(an_installed_one_takes_over),
        cmocka_unit_test(a_restored_one_is_another_clusters),
        cmocka_unit_test(leftovers_are_removed),
        cmocka_unit_test(each_failing_call_of_a_checkpoint_leaves_no_trace),
        cmocka_unit_test(each_failing_call_of_an_install_leaves_no_trace),
    };

    return cmocka_run_group_tests_name("store_checkpoint", tests, NULL, NULL);
}
