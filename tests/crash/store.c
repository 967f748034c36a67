/* Crash states of the store's files: CURRENT, RUN, checkpoints and the environments, written without syncs
 * (docs/decisions/005).
 *
 * The store runs on a real directory; the calls that write (its own and LMDB's, which the linker resolves to the ones here) are
 * also made on a disk in memory that knows what a power cut could leave (disk_memory.h). After each of them some such states are
 * laid out in another directory and opened there as in the next boot. Then, with the entries of the log applied from where the store
 * says that it is, it must hold exactly what the log says. Behind each checkpoint the log gives up what is before it, so a state
 * from which an older entry would be needed is one that has lost data.
 *
 * Usage: crash-store [STATES [MUTANT]]; SEED in the environment replays, CRASH_DIR is where it works (nothing is really synced,
 * so a file system in memory is best). MUTANT "boot": the machine's boot is not told apart, so
 * an environment of unsynced pages is believed; "sync": nothing is ever synced; "trim": the log is trimmed when a checkpoint
 * is begun, not when it is durable; "sync_dir": a checkpoint's name is not synced. All must be found (status not 0). */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "store/checkpoint.h"
#include "store/store.h"
#include "tests/crash/disk_memory.h"

#define ENTRIES_MAX 3000
#define KEYS 40
#define FILES_MAX 1024
#define PATH_BYTES 256

/* ---- the calls that are recorded ---- */

static struct {
    bool on;
    const char *mutant;
    char root[PATH_BYTES];
    unsigned boot; /* of the machine, as the store sees it */
    struct disk_memory *shadow;
    struct {
        struct disk_file *file;
        char dir[64]; /* "": not a directory */
        uint64_t at;
        bool each_synced;
    } fd[FILES_MAX];
} rec;

static struct disk *shadow(void)
{
    return disk_memory_disk(rec.shadow);
}

/* The path below the root, or NULL. */
static const char *below(const char *path)
{
    size_t n = strlen(rec.root);

    if (!rec.on || strncmp(path, rec.root, n) != 0 || path[n] != '/')
        return NULL;
    return path + n + 1;
}

static int open_boot_id(void)
{
    char text[40];
    int fd = (int)syscall(SYS_memfd_create, "boot_id", 0);

    snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012x\n", strcmp(rec.mutant, "boot") == 0 ? 0 : rec.boot);
    assert(fd >= 0 && syscall(SYS_pwrite64, fd, text, strlen(text), 0) == (long)strlen(text));
    return fd;
}

int open(const char *path, int flags, ...)
{
    const char *name;
    struct stat st;
    mode_t mode = 0;
    int fd;

    if (flags & O_CREAT) {
        va_list ap;

        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        return open_boot_id();
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    name = fd >= 0 && fd < FILES_MAX ? below(path) : NULL;
    if (name == NULL)
        return fd;
    assert(fstat(fd, &st) == 0 && rec.fd[fd].file == NULL);
    rec.fd[fd].at = 0;
    rec.fd[fd].each_synced = (flags & (O_SYNC | O_DSYNC)) != 0;
    rec.fd[fd].dir[0] = '\0';
    if (S_ISDIR(st.st_mode)) {
        snprintf(rec.fd[fd].dir, sizeof(rec.fd[fd].dir), "%s", strcmp(name, "s/..") == 0 ? "." : name);
        return fd;
    }
    assert(shadow()->open(rec.shadow, name, flags & O_CREAT ? DISK_CREATE : 0, &rec.fd[fd].file) == 0);
    if (flags & O_TRUNC)
        shadow()->truncate(rec.shadow, rec.fd[fd].file, 0);
    return fd;
}

static void note_write(int fd, uint64_t at, const void *data, size_t len)
{
    if (fd < 0 || fd >= FILES_MAX || rec.fd[fd].file == NULL || !rec.on)
        return;
    assert(shadow()->write(rec.shadow, rec.fd[fd].file, at, data, len) == 0);
    if (rec.fd[fd].each_synced)
        shadow()->sync(rec.shadow, rec.fd[fd].file);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    ssize_t n = syscall(SYS_pwrite64, fd, data, len, at);

    if (n > 0)
        note_write(fd, (uint64_t)at, data, (size_t)n);
    return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
    ssize_t n = syscall(SYS_write, fd, data, len);

    if (n > 0 && fd >= 0 && fd < FILES_MAX) {
        note_write(fd, rec.fd[fd].at, data, (size_t)n);
        rec.fd[fd].at += (uint64_t)n;
    }
    return n;
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    ssize_t sum = 0;

    for (int i = 0; i < count; i++) {
        ssize_t n = write(fd, v[i].iov_base, v[i].iov_len);

        if (n < 0)
            return sum > 0 ? sum : n;
        sum += n;
    }
    return sum;
}

off_t lseek(int fd, off_t offset, int whence)
{
    off_t at = syscall(SYS_lseek, fd, offset, whence);

    if (at >= 0 && fd >= 0 && fd < FILES_MAX)
        rec.fd[fd].at = (uint64_t)at;
    return at;
}

int ftruncate(int fd, off_t len)
{
    int rc = (int)syscall(SYS_ftruncate, fd, len);

    if (rc == 0 && rec.on && fd < FILES_MAX && rec.fd[fd].file != NULL)
        shadow()->truncate(rec.shadow, rec.fd[fd].file, (uint64_t)len);
    return rc;
}

/* Nothing is really synced: the directory is thrown away. */
int fsync(int fd)
{
    if (rec.on && fd >= 0 && fd < FILES_MAX && rec.fd[fd].file != NULL)
        shadow()->sync(rec.shadow, rec.fd[fd].file);
    else if (rec.on && fd >= 0 && fd < FILES_MAX && rec.fd[fd].dir[0] != '\0')
        shadow()->sync_dir(rec.shadow, rec.fd[fd].dir);
    return 0;
}

int fdatasync(int fd)
{
    return fsync(fd);
}

int close(int fd)
{
    if (fd >= 0 && fd < FILES_MAX) {
        if (rec.fd[fd].file != NULL)
            shadow()->close(rec.shadow, rec.fd[fd].file);
        rec.fd[fd].file = NULL;
        rec.fd[fd].dir[0] = '\0';
        rec.fd[fd].at = 0;
    }
    return (int)syscall(SYS_close, fd);
}

int mkdir(const char *path, mode_t mode)
{
    int rc = (int)syscall(SYS_mkdir, path, mode);

    if (rc == 0 && below(path) != NULL)
        shadow()->mkdir(rec.shadow, below(path));
    return rc;
}

int rename(const char *from, const char *to)
{
    int rc = (int)syscall(SYS_rename, from, to);

    if (rc == 0 && below(from) != NULL)
        shadow()->rename(rec.shadow, below(from), below(to));
    return rc;
}

int unlink(const char *path)
{
    int rc = (int)syscall(SYS_unlink, path);

    if (rc == 0 && below(path) != NULL)
        shadow()->remove(rec.shadow, below(path));
    return rc;
}

/* The mark names the file's inode. A copy of ours stands for the file itself. */
int stat(const char *path, struct stat *st)
{
    int rc = (int)syscall(SYS_newfstatat, AT_FDCWD, path, st, 0);
    const char *env = strstr(path, "/s/env.");

    if (rc == 0 && env != NULL) {
        st->st_dev = 1;
        st->st_ino = 0;
        for (const char *p = env; *p != '\0'; p++)
            st->st_ino = st->st_ino * 31 + (unsigned char)*p;
    }
    return rc;
}

int rmdir(const char *path)
{
    int rc = (int)syscall(SYS_rmdir, path);

    if (rc == 0 && below(path) != NULL)
        shadow()->remove(rec.shadow, below(path));
    return rc;
}

/* ---- directories ---- */

struct layout {
    struct disk_memory *from;
    const char *to, *dir;
};

static int lay_out_name(void *arg, const char *name)
{
    struct layout *l = arg;
    char path[PATH_BYTES], real[2 * PATH_BYTES];
    uint8_t *data;
    size_t len = 0;

    snprintf(path, sizeof(path), "%s%s%s", strcmp(l->dir, ".") == 0 ? "" : l->dir, strcmp(l->dir, ".") == 0 ? "" : "/",
             name);
    snprintf(real, sizeof(real), "%s/%s", l->to, path);
    data = disk_memory_content(l->from, path, &len);
    if (data == NULL) { /* a directory */
        struct layout sub = {l->from, l->to, path};

        assert(mkdir(real, 0700) == 0);
        return disk_memory_disk(l->from)->list(l->from, path, lay_out_name, &sub);
    } else {
        int fd = open(real, O_RDWR | O_CREAT | O_TRUNC, 0600);

        assert(fd >= 0 && (len == 0 || write(fd, data, len) == (ssize_t)len));
        close(fd);
    }
    return 0;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    if (d == NULL) {
        unlink(path);
        return;
    }
    while ((e = readdir(d)) != NULL) {
        char child[4 * PATH_BYTES];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
        remove_tree(child);
    }
    closedir(d);
    assert(rmdir(path) == 0);
}

static void clear(const char *dir)
{
    remove_tree(dir);
    assert(mkdir(dir, 0700) == 0);
}

static void lay_out(struct disk_memory *m, const char *to)
{
    struct layout l = {m, to, "."};
    bool on = rec.on;

    rec.on = false;
    clear(to);
    assert(disk_memory_disk(m)->list(m, ".", lay_out_name, &l) == 0);
    rec.on = on;
}

/* ---- the log and what it makes ---- */

struct entry {
    unsigned key;
    uint64_t value; /* 0: delete */
};

struct model {
    uint64_t value[KEYS]; /* 0: not there */
    int64_t revision;
};

struct run {
    uint64_t seed, random;
    char dir[PATH_BYTES], check[PATH_BYTES];
    struct entry log[ENTRIES_MAX];
    uint64_t n_log; /* all of it durable: the log is another test's matter */
    uint64_t log_first; /* entries before this one are given up */
    struct store *live;
    uint64_t *seen;
    size_t n_seen, seen_cap;
    uint64_t made, violations, refilled, trusted, checkpoints, from_checkpoint, swaps;
};

static uint64_t pick(struct run *r, uint64_t n)
{
    return disk_memory_next_random(&r->random) % n;
}

static bool see(struct run *r, uint64_t hash)
{
    size_t i = hash % r->seen_cap;

    for (; r->seen[i] != 0; i = (i + 1) % r->seen_cap)
        if (r->seen[i] == hash)
            return false;
    r->seen[i] = hash;
    return ++r->n_seen < r->seen_cap / 2;
}

static void value_text(char *out, size_t size, uint64_t value)
{
    size_t len = value % 7 == 0 ? size - 1 : 20; /* some need pieces of their own */

    memset(out, 'v', len);
    snprintf(out, 18, "%016" PRIx64, value);
    out[16] = 'v';
    out[len] = '\0';
}

static int apply(struct store *s, const struct entry *log, uint64_t first, uint64_t last)
{
    struct store_batch *b;
    struct arena arena;
    int rc = store_batch_begin(s, &b);

    if (rc < 0)
        return rc;
    arena_init(&arena);
    for (uint64_t i = first; i <= last && rc == 0; i++) {
        const struct entry *e = &log[i - 1];
        char key[20], value[3000];
        struct command cmd = {.kind = e->value != 0 ? COMMAND_PUT : COMMAND_DELETE_RANGE, .time_ns = (int64_t)i};
        struct result result;
        bool fresh;

        snprintf(key, sizeof(key), "/k/%02u", e->key);
        value_text(value, sizeof(value), e->value);
        if (e->value != 0)
            cmd.put = (struct op_put){.key = slice_from_str(key), .value = slice_from_str(value)};
        else
            cmd.del = (struct op_delete){.key = slice_from_str(key)};
        rc = store_apply(b, i, 1, 0, &cmd, &arena, &result, &fresh);
        if (rc == 0)
            rc = store_batch_advance(b, i, 1);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    if (rc == 0)
        return store_batch_commit(b);
    store_batch_abort(b);
    return rc;
}

static void model_apply(struct model *m, const struct entry *e)
{
    if (e->value == 0 && m->value[e->key] == 0)
        return;
    m->value[e->key] = e->value;
    m->revision++;
}

struct comparison {
    const struct model *model;
    unsigned next;
    bool differs;
};

static int compare_kv(void *ctx, const struct kv *kv)
{
    struct comparison *c = ctx;
    char key[20], value[3000];

    while (c->next < KEYS && c->model->value[c->next] == 0)
        c->next++;
    snprintf(key, sizeof(key), "/k/%02u", c->next);
    if (c->next == KEYS) {
        c->differs = true;
        return 1;
    }
    value_text(value, sizeof(value), c->model->value[c->next++]);
    c->differs = !slice_equal(kv->key, slice_from_str(key)) || !slice_equal(kv->value, slice_from_str(value));
    return c->differs;
}

static int read_applied(struct store *s, uint64_t *ret_applied, int64_t *ret_revision)
{
    struct store_read *r;
    struct store_meta meta;
    int rc = store_read_begin(s, &r);

    if (rc < 0)
        return rc;
    rc = store_read_meta(r, &meta);
    if (rc == 0) {
        *ret_applied = meta.applied_index;
        *ret_revision = meta.revision;
    }
    store_read_end(r);
    return rc;
}

/* NULL if the store holds what the log makes up to n. */
static const char *compare(struct run *r, struct store *s, uint64_t n)
{
    static const uint8_t zero;
    struct op_range all = {.key = {&zero, 1}, .range_end = {&zero, 1}};
    struct model model = {.revision = 1};
    struct comparison c = {&model, 0, false};
    struct store_read *read;
    uint64_t applied = 0;
    int64_t revision = 0, count;
    uint16_t status;
    int rc;

    for (uint64_t i = 0; i < n; i++)
        model_apply(&model, &r->log[i]);
    if (read_applied(s, &applied, &revision) < 0 || applied != n)
        return "another applied index";
    if (revision != model.revision)
        return "another revision";
    if (store_read_begin(s, &read) < 0)
        return "no snapshot";
    rc = store_range_each(read, &all, compare_kv, &c, &count, &status);
    store_read_end(read);
    if (rc < 0 || status != STATUS_OK)
        return "it cannot be read";
    while (c.next < KEYS && model.value[c.next] == 0)
        c.next++;
    return c.differs || c.next < KEYS ? "other keys or values" : NULL;
}

static int open_store(const struct run *r, const char *dir, struct store **ret_store)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_UNSYNCED,
                                    .cluster_id = 7,
                                    .map_bytes = 64u << 20,
                                    .log_first = r->log_first};
    char path[PATH_BYTES + 8];

    snprintf(path, sizeof(path), "%s/s", dir);
    return store_open(path, &options, ret_store);
}

static void violation(struct run *r, const char *what, int rc)
{
    r->violations++;
    fprintf(stderr, "VIOLATION seed %" PRIu64 ", %" PRIu64 " entries: %s (%d)\n", r->seed, r->n_log, what, rc);
}

/* A store that was opened: where is it, and does the rest of the log make it whole? */
static bool catch_up(struct run *r, struct store *s, bool *ret_refilled)
{
    const char *why;
    uint64_t applied = 0;
    int64_t revision = 0;
    int rc = read_applied(s, &applied, &revision);

    if (rc < 0 || applied > r->n_log) {
        violation(r, "it claims entries that were never there", rc);
        return false;
    }
    if (applied + 1 < r->log_first) {
        violation(r, "the log does not go on from it", 0);
        return false;
    }
    *ret_refilled = applied == 0;
    why = compare(r, s, applied);
    if (why == NULL && applied < r->n_log) {
        rc = apply(s, r->log, applied + 1, r->n_log);
        why = rc < 0 ? "the log cannot be applied" : compare(r, s, r->n_log);
    }
    if (why != NULL)
        violation(r, why, rc);
    return why == NULL;
}

static void check_state(struct run *r, struct disk_memory *m, bool boots)
{
    struct store *s = NULL;
    bool refilled;
    int rc;

    r->made++;
    if (!see(r, (disk_memory_hash(m) + boots) | 1))
        return;
    lay_out(m, r->check);
    rec.on = false;
    rec.boot += boots;
    rc = open_store(r, r->check, &s);
    if (rc < 0) {
        violation(r, "it cannot be opened", rc);
    } else if (store_origin(s) == STORE_FROM_CHECKPOINT) {
        r->from_checkpoint += catch_up(r, s, &refilled);
    } else if (catch_up(r, s, &refilled)) {
        refilled ? r->refilled++ : r->trusted++;
    }
    store_close(s);
    rec.boot -= boots;
    rec.on = true;
}

static void sample(void *arg)
{
    static const enum disk_memory_cut hows[] = {CUT_NOTHING_PENDING, CUT_ALL_PENDING, CUT_RANDOM, CUT_MOST};
    struct run *r = arg;

    if (!rec.on)
        return;
    for (size_t i = 0; i < 4 && r->violations == 0; i++) {
        struct disk_memory *m;

        if (pick(r, 2)) /* each takes a millisecond */
            continue;
        m = disk_memory_cut(rec.shadow, hows[i], &r->random);
        check_state(r, m, hows[i] != CUT_ALL_PENDING || pick(r, 2)); /* all that is pending: as after a kill, too */
        disk_memory_free(m);
    }
}

/* ---- checkpoints ---- */

static void checkpoint(struct run *r)
{
    struct checkpoint_info info;
    uint64_t keep = pick(r, 2) ? 0 : pick(r, 30);
    int rc;

    r->checkpoints++;
    if (strcmp(rec.mutant, "trim") == 0)
        r->log_first = r->n_log + 1;
    rc = checkpoint_write(r->live, &info);
    if (rc < 0)
        violation(r, "a checkpoint fails", rc);
    else if (info.applied_index > keep && info.applied_index - keep + 1 > r->log_first)
        r->log_first = info.applied_index - keep + 1;
}

/* Another environment takes the place of the live one: made from the newest checkpoint and brought up to date, as in a
 * defragmentation, or as it is, as when another member's state is installed. */
static void replace(struct run *r)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = 7, .map_bytes = 64u << 20};
    struct checkpoint_info info;
    struct store *next = NULL;
    char dir[PATH_BYTES + 8];
    uint64_t epoch = store_epoch(r->live) + 1;
    bool refilled;
    int rc;

    r->swaps++;
    snprintf(dir, sizeof(dir), "%s/s", r->dir);
    rc = checkpoint_latest(dir, &info);
    if (rc == -ENOENT)
        return;
    if (pick(r, 2)) {
        rc = checkpoint_install(dir, info.path, 7, &epoch);
        store_close(r->live);
        r->live = NULL;
        if (rc == 0)
            rc = open_store(r, r->dir, &r->live);
        if (rc == 0)
            catch_up(r, r->live, &refilled);
    } else {
        rc = checkpoint_make(dir, info.path, 7, epoch);
        if (rc == 0)
            rc = store_open_next(dir, epoch, &options, &next);
        if (rc == 0 && info.applied_index < r->n_log)
            rc = apply(next, r->log, info.applied_index + 1, r->n_log);
        if (rc == 0)
            rc = store_publish(next, r->live);
        if (rc == 0) {
            store_close(r->live);
            r->live = next;
            rc = store_clean(next);
        }
    }
    if (rc < 0)
        violation(r, "another environment cannot take over", rc);
}

/* ---- lives ---- */

static void work(struct run *r)
{
    unsigned batches = (unsigned)pick(r, 12);

    for (unsigned i = 0; i < batches && r->violations == 0; i++) {
        uint64_t first = r->n_log + 1, n = 1 + pick(r, 8), other = pick(r, 12);

        if (other < 2)
            checkpoint(r);
        else if (other == 2)
            replace(r);
        if (r->violations != 0)
            return;

        for (uint64_t k = 0; k < n && r->n_log < ENTRIES_MAX; k++)
            r->log[r->n_log++] =
                (struct entry){(unsigned)pick(r, KEYS), pick(r, 5) != 0 ? 1 + pick(r, UINT32_MAX) : 0};
        if (r->n_log >= first)
            assert(apply(r->live, r->log, first, r->n_log) == 0);
    }
}

/* The process or the machine dies, or the store is closed as it should be. */
static void end_life(struct run *r)
{
    uint64_t how = pick(r, 3);

    if (how == 0) {
        store_close(r->live);
        how = 1 + pick(r, 2); /* and then something of the others, with nothing open */
    } else {
        rec.on = false; /* what it still writes is not written */
        store_close(r->live);
    }
    rec.on = false;
    if (how == 2) {
        struct disk_memory *left = disk_memory_cut(rec.shadow, pick(r, 2) ? CUT_RANDOM : CUT_MOST, &r->random);

        disk_memory_free(rec.shadow);
        rec.shadow = left;
        rec.boot++;
    }
    lay_out(rec.shadow, r->dir);
}

static void run_seed(struct run *r, uint64_t seed)
{
    r->seed = r->random = seed;
    r->n_log = 0;
    r->log_first = 1;
    rec.shadow = disk_memory_new();
    clear(r->dir);
    for (unsigned i = 0; i < 5 && r->violations == 0; i++) {
        bool refilled;

        disk_memory_faults(rec.shadow)->lying_sync = strcmp(rec.mutant, "sync") == 0;
        disk_memory_faults(rec.shadow)->lying_sync_dir =
            strcmp(rec.mutant, "sync") == 0 || strcmp(rec.mutant, "sync_dir") == 0;
        disk_memory_watch(rec.shadow, sample, r);
        snprintf(rec.root, sizeof(rec.root), "%s", r->dir);
        rec.on = true;
        int rc = open_store(r, r->dir, &r->live);

        if (rc < 0) {
            violation(r, "a restart fails", rc);
            break;
        }
        if (catch_up(r, r->live, &refilled))
            work(r);
        end_life(r);
    }
    rec.on = false;
    disk_memory_free(rec.shadow);
    rec.shadow = NULL;
}

int main(int argc, char **argv)
{
    uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;
    const char *env = getenv("SEED"), *where = getenv("CRASH_DIR");
    uint64_t seed = env != NULL ? strtoull(env, NULL, 10) : (uint64_t)time(NULL);
    struct run *r = calloc(1, sizeof(*r));
    char top[100];
    uint64_t seeds = 0;
    int status;

    assert(r != NULL);
    rec.mutant = argc > 2 ? argv[2] : "";
    r->seen_cap = 1u << 20;
    r->seen = calloc(r->seen_cap, sizeof(*r->seen));
    assert(r->seen != NULL);
    snprintf(top, sizeof(top), "%.70s/crash-store-XXXXXX", where != NULL ? where : "/tmp");
    assert(mkdtemp(top) != NULL);
    snprintf(r->dir, sizeof(r->dir), "%s/live", top);
    snprintf(r->check, sizeof(r->check), "%s/check", top);
    printf("seed SEED=%" PRIu64 " %s\n", seed, rec.mutant);
    while (r->n_seen < wanted && r->violations == 0)
        run_seed(r, seed + seeds++);
    printf("states %zu distinct of %" PRIu64 " made, from %" PRIu64 " workloads, %" PRIu64 " checkpoints, %" PRIu64
           " other environments; %" PRIu64 " refilled by the log, %" PRIu64 " from a checkpoint, %" PRIu64 " trusted\n",
           r->n_seen, r->made, seeds, r->checkpoints, r->swaps, r->refilled, r->from_checkpoint, r->trusted);
    printf("%s - after a power cut the store and the log make what was acknowledged\n", r->violations == 0 ? "ok" : "not ok");
    remove_tree(top);
    status = r->violations != 0;
    free(r->seen);
    free(r);
    return status;
}
