/* The disk of the daemon: each function on a real directory, what interrupted and short system calls do to it, and the log
 * on it with a thread of its own.
 * wrap: pwrite pread fdatasync fallocate fsync pwritev */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "raft/log.h"

/* ---- injected system calls ---- */

static struct {
    int interrupts;   /* so many calls fail with EINTR first */
    int error;        /* then one with this, if not 0 */
    size_t at_most;   /* bytes that a call moves; 0: all */
    int calls;
} inject;

ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __real_pwritev(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *v, int count, off_t offset);
ssize_t __real_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);

static int injected(void)
{
    if (inject.interrupts == 0 && inject.error == 0 && inject.at_most == 0)
        return 0; /* the log's thread comes here too and must write nothing */
    inject.calls++;
    if (inject.interrupts > 0) {
        inject.interrupts--;
        errno = EINTR;
        return -1;
    }
    if (inject.error != 0) {
        errno = inject.error;
        return -1;
    }
    return 0;
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (injected() < 0)
        return -1;
    return __real_pwrite(fd, buf, inject.at_most != 0 && len > inject.at_most ? inject.at_most : len, offset);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
    if (injected() < 0)
        return -1;
    if (inject.at_most != 0 && v[0].iov_len > inject.at_most)
        return __real_pwrite(fd, v[0].iov_base, inject.at_most, offset);
    return __real_pwritev(fd, v, count, offset);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
    if (injected() < 0)
        return -1;
    return __real_pread(fd, buf, inject.at_most != 0 && len > inject.at_most ? inject.at_most : len, offset);
}

int __wrap_fdatasync(int fd)
{
    return injected() < 0 ? -1 : __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
    return injected() < 0 ? -1 : __real_fsync(fd);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    return injected() < 0 ? -1 : __real_fallocate(fd, mode, offset, len);
}

/* ---- a directory for each test ---- */

struct place {
    char dir[256];
    struct disk disk;
};

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    memset(&inject, 0, sizeof(inject));
    assert_non_null(p);
    snprintf(p->dir, sizeof(p->dir), "%s/disk-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(disk_posix_open(p->dir, &p->disk), 0);
    *state = p;
    return 0;
}

struct names {
    size_t count;
    char name[16][64];
};

static int collect(void *arg, const char *name)
{
    struct names *n = arg;

    assert_true(n->count < 16);
    snprintf(n->name[n->count++], 64, "%s", name);
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    static const char *const dirs[] = {"log", "."};

    memset(&inject, 0, sizeof(inject));
    for (size_t d = 0; d < 2; d++) {
        struct names n = {0};

        if (p->disk.list(p->disk.ctx, dirs[d], collect, &n) < 0)
            continue;
        for (size_t i = 0; i < n.count; i++) {
            char path[400];

            snprintf(path, sizeof(path), "%s/%s/%s", p->dir, dirs[d], n.name[i]);
            remove(path);
        }
    }
    disk_posix_close(&p->disk);
    assert_int_equal(rmdir(p->dir), 0);
    free(p);
    return 0;
}

/* ---- the functions ---- */

static void a_directory_that_is_not_there_is_an_error(void **state)
{
    struct disk d;

    assert_int_equal(disk_posix_open("/no/such/directory", &d), -ENOENT);
    assert_int_equal(disk_posix_open("/dev/null", &d), -ENOTDIR);
}

static void opening_makes_refuses_and_finds(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    struct disk_file *f;
    char path[300];

    assert_int_equal(d->open(d->ctx, "a", 0, &f), -ENOENT);
    assert_int_equal(d->open(d->ctx, "a", DISK_CREATE | DISK_EXCLUSIVE, &f), 0);
    d->close(d->ctx, f);
    assert_int_equal(d->open(d->ctx, "a", DISK_CREATE | DISK_EXCLUSIVE, &f), -EEXIST);
    assert_int_equal(d->open(d->ctx, "a", DISK_READ_ONLY, &f), 0);
    assert_int_equal(d->write(d->ctx, f, 0, "x", 1), -EBADF);
    d->close(d->ctx, f);
    d->close(d->ctx, NULL);
    snprintf(path, sizeof(path), "%s/pipe", ((struct place *)*state)->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(d->open(d->ctx, "pipe", 0, &f), -EINVAL); /* and does not wait for a writer */
}

static void what_was_written_is_read_whatever_the_kernel_does_in_between(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    struct disk_file *f;
    char buf[32];
    uint64_t size;
    size_t len;

    assert_int_equal(d->open(d->ctx, "a", DISK_CREATE, &f), 0);
    inject.at_most = 3;
    inject.interrupts = 2;
    assert_int_equal(d->write(d->ctx, f, 5, "hello, world", 12), 0);
    assert_int_equal(inject.calls, 2 + 4);
    inject.interrupts = 2;
    assert_int_equal(d->read(d->ctx, f, 5, buf, sizeof(buf), &len), 0);
    assert_int_equal(len, 12);
    assert_memory_equal(buf, "hello, world", 12);
    assert_int_equal(d->read(d->ctx, f, 17, buf, sizeof(buf), &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(d->size(d->ctx, f, &size), 0);
    assert_int_equal(size, 17);
    inject.interrupts = 1;
    assert_int_equal(d->sync(d->ctx, f), 0);
    assert_int_equal(d->truncate(d->ctx, f, 6), 0);
    assert_int_equal(d->read(d->ctx, f, 0, buf, sizeof(buf), &len), 0);
    assert_int_equal(len, 6);
    assert_memory_equal(buf, "\0\0\0\0\0h", 6);
    d->close(d->ctx, f);
}

static void zeroing_writes_zeros_on_any_file_system(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    size_t total = 3u << 20, len;
    uint8_t *buf = malloc(total + 10);
    struct disk_file *f;
    struct stat st;
    char path[300];

    assert_non_null(buf);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(d->open(d->ctx, "a", DISK_CREATE, &f), 0);
        memset(buf, 0xee, 1000);
        assert_int_equal(d->write(d->ctx, f, 0, buf, 1000), 0);
        inject.at_most = 50000;
        inject.interrupts = 1;
        assert_int_equal(d->zero(d->ctx, f, 500, total - 500), 0);
        inject.at_most = 0;
        assert_int_equal(d->zero(d->ctx, f, 0, 0), 0);
        assert_int_equal(d->read(d->ctx, f, 0, buf, total + 10, &len), 0);
        assert_int_equal(len, total);
        assert_int_equal(buf[499], 0xee);
        for (size_t i = 500; i < total; i++)
            assert_int_equal(buf[i], 0);
        d->close(d->ctx, f);
        snprintf(path, sizeof(path), "%s/a", ((struct place *)*state)->dir);
        assert_int_equal(stat(path, &st), 0);
        assert_true((uint64_t)st.st_blocks * 512 >= total);
        assert_int_equal(d->remove(d->ctx, "a"), 0);
    }
    free(buf);
}

static void errors_are_handed_on(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    struct disk_file *f;
    char buf[4];
    size_t len = 99;

    assert_int_equal(d->open(d->ctx, "a", DISK_CREATE, &f), 0);
    inject.error = ENOSPC;
    assert_int_equal(d->write(d->ctx, f, 0, "x", 1), -ENOSPC);
    assert_int_equal(d->zero(d->ctx, f, 0, 10), -ENOSPC);
    inject.error = EIO;
    assert_int_equal(d->sync(d->ctx, f), -EIO);
    assert_int_equal(d->sync_dir(d->ctx, "."), -EIO);
    assert_int_equal(d->read(d->ctx, f, 0, buf, 4, &len), -EIO);
    assert_int_equal(len, 99);
    inject.error = 0;
    d->close(d->ctx, f);
    assert_int_equal(d->rename(d->ctx, "b", "c"), -ENOENT);
    assert_int_equal(d->remove(d->ctx, "b"), -ENOENT);
    assert_int_equal(d->sync_dir(d->ctx, "b"), -ENOENT);
    assert_int_equal(d->list(d->ctx, "b", collect, NULL), -ENOENT);
}

static void names_are_made_moved_listed_and_removed(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    struct names n = {0};
    struct disk_file *f;

    assert_int_equal(d->mkdir(d->ctx, "sub"), 0);
    assert_int_equal(d->mkdir(d->ctx, "sub"), -EEXIST);
    assert_int_equal(d->open(d->ctx, "sub/a", DISK_CREATE, &f), 0);
    d->close(d->ctx, f);
    assert_int_equal(d->rename(d->ctx, "sub/a", "sub/b"), 0);
    assert_int_equal(d->sync_dir(d->ctx, "sub"), 0);
    assert_int_equal(d->list(d->ctx, "sub", collect, &n), 0);
    assert_int_equal(n.count, 1);
    assert_string_equal(n.name[0], "b");
    assert_int_equal(d->remove(d->ctx, "sub/b"), 0);
    assert_int_equal(d->list(d->ctx, "sub", collect, &n), 0);
    assert_int_equal(n.count, 1);
}

/* ---- the log on it, with its thread ---- */

struct flusher {
    struct log *log;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool wanted, done, stop;
    uint64_t synced;
    int rc;
};

static void *flush_thread(void *arg)
{
    struct flusher *f = arg;

    pthread_mutex_lock(&f->mutex);
    while (!f->stop) {
        uint64_t synced = 0;
        int rc;

        if (!f->wanted) {
            pthread_cond_wait(&f->changed, &f->mutex);
            continue;
        }
        f->wanted = false;
        pthread_mutex_unlock(&f->mutex);
        rc = log_flush(f->log, &synced);
        if (rc == 0 && log_wants_tending(f->log))
            rc = log_tend(f->log);
        pthread_mutex_lock(&f->mutex);
        f->rc = rc;
        f->synced = synced;
        f->done = true;
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

/* Run it under TSan (SANITIZE=thread) to see that the two sides share nothing without the mutex. */
static void the_loop_goes_on_while_a_thread_flushes(void **state)
{
    struct disk *d = &((struct place *)*state)->disk;
    struct log_options options = {.segment_bytes = 65536, .cache_bytes = 20000, .cluster_id = 5};
    struct flusher f = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    char text[256], payload[200];
    uint64_t index = 0, acked = 0, last_kept;
    struct arena arena;
    pthread_t thread;
    bool out = false;

    memset(payload, 'p', sizeof(payload));
    arena_init(&arena);
    assert_int_equal(log_open(d, "log", &options, &f.log, text, sizeof(text)), 0);
    assert_int_equal(pthread_create(&thread, NULL, flush_thread, &f), 0);
    for (int turn = 0; turn < 3000; turn++) {
        struct log_entry e = {index + 1, 1, LOG_ENTRY_COMMANDS, slice_make(payload, (size_t)(turn % 200))};

        assert_int_equal(log_append(f.log, &e, 1), 0);
        index++;
        if (turn % 37 == 36) {
            assert_int_equal(log_truncate(f.log, index - 5), 0);
            index -= 6;
            acked = acked < index ? acked : index;
        }
        pthread_mutex_lock(&f.mutex);
        if (out && f.done) {
            uint64_t synced = f.synced;

            assert_int_equal(f.rc, 0);
            out = f.done = false;
            pthread_mutex_unlock(&f.mutex);
            acked = log_flushed(f.log, synced);
            if (acked > 100)
                assert_int_equal(log_trim(f.log, acked - 100), 0);
            pthread_mutex_lock(&f.mutex);
        }
        if (!out && log_pending(f.log)) {
            out = f.wanted = true;
            pthread_cond_signal(&f.changed);
        }
        pthread_mutex_unlock(&f.mutex);
        if (acked >= log_first_index(f.log)) {
            arena_reset(&arena);
            assert_int_equal(log_get(f.log, log_first_index(f.log), &arena, &e), 0);
        }
    }
    pthread_mutex_lock(&f.mutex);
    f.stop = true;
    pthread_cond_signal(&f.changed);
    pthread_mutex_unlock(&f.mutex);
    assert_int_equal(pthread_join(thread, NULL), 0);
    log_flushed(f.log, 0);
    last_kept = log_synced_index(f.log);
    assert_true(last_kept >= acked);
    if (!log_pending(f.log))
        assert_int_equal(last_kept, index);
    log_close(f.log);
    assert_int_equal(log_open(d, "log", &options, &f.log, text, sizeof(text)), 0);
    assert_true(log_last_index(f.log) >= last_kept);
    log_close(f.log);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_that_is_not_there_is_an_error),
        cmocka_unit_test_setup_teardown(opening_makes_refuses_and_finds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_written_is_read_whatever_the_kernel_does_in_between, set_up, tear_down),
        cmocka_unit_test_setup_teardown(zeroing_writes_zeros_on_any_file_system, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_are_handed_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_made_moved_listed_and_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_loop_goes_on_while_a_thread_flushes, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
