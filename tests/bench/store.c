/* The store alone beside bare LMDB that writes rows as long into tables of the same kind, in turns (A B A B) in one run, since
 * machines are noisy. Neither syncs, as in a node. Then the reads, the old reads, compaction, checkpoints.
 * Usage: bench-store DIRECTORY [KEYS]   up to how many keys (10000000); 1000 only shows that it runs */
#include <assert.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/checkpoint.h"
#include "store/env.h"
#include "store/row.h"
#include "store/store.h"

#define VALUE_BYTES 256
#define ROUNDS 5
#define LOAD_BATCH 1000
#define SAMPLES_MAX 2000000

struct bench {
    const char *dir;
    char store_dir[256], bare_dir[256];
    struct store *store;
    uint64_t index;
    uint64_t random;
    struct arena arena;
    /* bare */
    MDB_env *env;
    MDB_dbi main, keys, log;
    uint64_t rev;
    size_t keys_row, log_row, state_row; /* lengths as in the store */
    uint64_t n_keys;
    bool quick;
};

static double now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static uint64_t pick(struct bench *b, uint64_t n)
{
    uint64_t z = b->random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % n;
}

static void must(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench-store: %s: %s\n", what, rc < 0 ? strerror(-rc) : mdb_strerror(rc));
    exit(1);
}

static uint64_t number_in(const char *path, const char *name)
{
    char line[256];
    FILE *f = fopen(path, "r");
    uint64_t v = 0;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            v = strtoull(line + strlen(name) + 1, NULL, 10);
    if (f != NULL)
        fclose(f);
    return v;
}

static double anonymous_mb(void)
{
    return (double)number_in("/proc/self/status", "RssAnon:") / 1024;
}

/* ---- the store ---- */

static void key_text(char *out, uint64_t n)
{
    snprintf(out, 40, "/bench/%025llu", (unsigned long long)n); /* 32 bytes */
}

static void fill_value(struct bench *b, char *value)
{
    for (size_t i = 0; i < VALUE_BYTES; i += 8) {
        uint64_t v = pick(b, UINT64_MAX);

        memcpy(value + i, &v, 8);
    }
}

static void store_put_bytes(struct bench *b, struct store_batch *batch, const char *key, struct slice value)
{
    struct command cmd = {.kind = COMMAND_PUT, .time_ns = 1, .put = {.key = slice_from_str(key), .value = value}};
    struct result result;
    bool fresh;

    b->index++;
    must(store_apply(batch, b->index, 1, 0, &cmd, &b->arena, &result, &fresh), "store_apply");
    must(store_batch_advance(batch, b->index, 1), "store_batch_advance");
    arena_reset(&b->arena);
}

static void store_put(struct bench *b, struct store_batch *batch, uint64_t n)
{
    char key[40], value[VALUE_BYTES];

    key_text(key, n);
    fill_value(b, value);
    store_put_bytes(b, batch, key, slice_make(value, VALUE_BYTES));
}

static void store_puts(struct bench *b, uint64_t from, unsigned count)
{
    struct store_batch *batch;

    must(store_batch_begin(b->store, &batch), "store_batch_begin");
    for (unsigned i = 0; i < count; i++)
        store_put(b, batch, from != UINT64_MAX ? from + i : pick(b, b->n_keys));
    must(store_batch_commit(batch), "store_batch_commit");
}

/* ---- bare LMDB ---- */

static void bare_put(struct bench *b, MDB_txn *txn, MDB_cursor *log, uint64_t n)
{
    char key[40], value[VALUE_BYTES];
    uint8_t row[4096], log_key[LOG_KEY_BYTES];
    MDB_val k = {32, key}, v = {b->keys_row, row};

    key_text(key, n);
    fill_value(b, value);
    memset(row, 0, sizeof(row));
    memcpy(row + 16, value, VALUE_BYTES);
    must(mdb_put(txn, b->keys, &k, &v, 0), "mdb_put");
    log_key_encode(log_key, (struct rev){(int64_t)++b->rev, 0}, 0);
    k = (MDB_val){LOG_KEY_BYTES, log_key};
    v = (MDB_val){b->log_row, row};
    must(mdb_cursor_put(log, &k, &v, MDB_APPEND), "mdb_cursor_put");
}

static void bare_puts(struct bench *b, uint64_t from, unsigned count)
{
    uint8_t state[256] = {0};
    MDB_val k = {5, "state"}, v = {b->state_row, state};
    MDB_cursor *log;
    MDB_txn *txn;

    must(mdb_txn_begin(b->env, NULL, 0, &txn), "mdb_txn_begin");
    must(mdb_cursor_open(txn, b->log, &log), "mdb_cursor_open");
    for (unsigned i = 0; i < count; i++)
        bare_put(b, txn, log, from != UINT64_MAX ? from + i : pick(b, b->n_keys));
    mdb_cursor_close(log);
    must(mdb_put(txn, b->main, &k, &v, 0), "mdb_put");
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

static size_t row_length(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t len)
{
    MDB_val k = {len, (void *)key}, v;

    must(mdb_get(txn, dbi, &k, &v), "mdb_get");
    return v.mv_size;
}

/* Both empty, and bare's rows as long as an update's are in the store. */
static void open_both(struct bench *b)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = 1, .map_bytes = 64ull << 30};
    uint8_t log_key[LOG_KEY_BYTES];
    char key[40];
    MDB_txn *txn;

    must(store_open(b->store_dir, &options, &b->store), "store_open");
    store_puts(b, 0, 1);
    store_puts(b, 0, 1);
    must(mdb_txn_begin(b->store->env, NULL, MDB_RDONLY, &txn), "mdb_txn_begin");
    key_text(key, 0);
    b->keys_row = row_length(txn, b->store->keys, key, 32);
    log_key_encode(log_key, (struct rev){3, 0}, 0);
    b->log_row = row_length(txn, b->store->log, log_key, LOG_KEY_BYTES);
    b->state_row = row_length(txn, b->store->main, "state", 5);
    mdb_txn_abort(txn);

    must(mkdir(b->bare_dir, 0700), "mkdir");
    must(mdb_env_create(&b->env), "mdb_env_create");
    must(mdb_env_set_maxdbs(b->env, 8), "mdb_env_set_maxdbs");
    must(mdb_env_set_mapsize(b->env, 64ull << 30), "mdb_env_set_mapsize");
    must(mdb_env_open(b->env, b->bare_dir, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600), "mdb_env_open");
    must(mdb_txn_begin(b->env, NULL, 0, &txn), "mdb_txn_begin");
    must(mdb_dbi_open(txn, NULL, 0, &b->main), "mdb_dbi_open");
    must(mdb_dbi_open(txn, "keys", MDB_CREATE, &b->keys), "mdb_dbi_open");
    must(mdb_dbi_open(txn, "log", MDB_CREATE, &b->log), "mdb_dbi_open");
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

/* ---- puts ---- */

struct figure {
    double wall[ROUNDS], cpu[ROUNDS]; /* us a put */
};

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof(v[0]), compare);
    return v[ROUNDS / 2];
}

static void time_puts(struct bench *b, void (*puts)(struct bench *, uint64_t, unsigned), unsigned batch, unsigned count,
                      struct figure *f, unsigned round)
{
    double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);

    for (unsigned done = 0; done < count; done += batch)
        puts(b, UINT64_MAX, batch);
    f->wall[round] = (now(CLOCK_MONOTONIC) - wall) / count * 1e6;
    f->cpu[round] = (now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / count * 1e6;
}

static void puts_beside_bare(struct bench *b)
{
    static const unsigned batches[] = {1, 64};

    for (size_t i = 0; i < 2; i++) {
        unsigned count = b->quick ? 640 : batches[i] == 1 ? 20032 : 64000;
        struct figure s, l;
        double store_cpu, bare_cpu;

        time_puts(b, store_puts, batches[i], count, &s, 0); /* both once to warm up */
        time_puts(b, bare_puts, batches[i], count, &l, 0);
        for (unsigned r = 0; r < ROUNDS; r++) {
            time_puts(b, store_puts, batches[i], count, &s, r);
            time_puts(b, bare_puts, batches[i], count, &l, r);
        }
        store_cpu = median(s.cpu);
        bare_cpu = median(l.cpu);
        printf("put, batch %2u, %8llu keys: CPU %6.2f us, bare %6.2f us, ratio %.2f; wall %7.2f us, bare %7.2f us, ratio "
               "%.2f; anonymous %.0f MB\n",
               batches[i], (unsigned long long)b->n_keys, store_cpu, bare_cpu, store_cpu / bare_cpu, median(s.wall),
               median(l.wall), median(s.wall) / median(l.wall), anonymous_mb());
        fflush(stdout);
    }
}

static void grow(struct bench *b, uint64_t to)
{
    double began = now(CLOCK_MONOTONIC);

    for (uint64_t n = b->n_keys; n < to; n += LOAD_BATCH) {
        unsigned count = to - n < LOAD_BATCH ? (unsigned)(to - n) : LOAD_BATCH;

        store_puts(b, n, count);
        bare_puts(b, n, count);
    }
    printf("filled both to %llu keys in %.0f s\n", (unsigned long long)to, now(CLOCK_MONOTONIC) - began);
    fflush(stdout);
    b->n_keys = to;
}

/* What is handed to the disk for a put: the kernel's count of pages made dirty, which it writes when it likes, and the
 * checkpoints that the policy asks for, against the bytes of a raft log with the same commands. */
static void bytes_written(struct bench *b)
{
    const uint64_t log_bytes_each = 32 + 14 + 32 + VALUE_BYTES; /* record, envelope, key, value */
    uint64_t puts = b->quick ? 6400 : 1280000, since = 0, last, at, checkpoints = 0, checkpoint_bytes = 0;
    struct checkpoint_info first;

    must(checkpoint_write(b->store, &first), "checkpoint_write"); /* what the log is to grow by from then on */
    last = first.bytes;
    at = number_in("/proc/self/io", "write_bytes:");
    for (uint64_t i = 0; i < puts; i += 64) {
        store_puts(b, UINT64_MAX, 64);
        since += 64 * log_bytes_each;
        if (since > (64 << 20) && since > last) {
            struct checkpoint_info info;

            must(checkpoint_write(b->store, &info), "checkpoint_write");
            last = info.bytes;
            checkpoint_bytes += info.bytes;
            since = 0;
            checkpoints++;
        }
    }
    at = number_in("/proc/self/io", "write_bytes:") - at;
    printf("made dirty or written, batches of 64, %llu keys: %.0f bytes a put, of which %.0f are checkpoints (%llu); and %llu of "
           "the log\n", (unsigned long long)b->n_keys, (double)at / (double)puts, (double)checkpoint_bytes / (double)puts,
           (unsigned long long)checkpoints, (unsigned long long)log_bytes_each);
    fflush(stdout);
}

/* ---- latencies beside something ---- */

static void tell_latencies(const char *what, double *samples, size_t n)
{
    if (n == 0)
        return;
    qsort(samples, n, sizeof(samples[0]), compare);
    printf("%s: %zu puts, p50 %.1f us, p99 %.1f us, p99.9 %.1f us, worst %.1f us\n", what, n, samples[n / 2] * 1e6,
           samples[n * 99 / 100] * 1e6, samples[n * 999 / 1000] * 1e6, samples[n - 1] * 1e6);
    fflush(stdout);
}

struct checkpoint_run {
    struct store *store;
    struct checkpoint_info info;
    bool done;
    double took;
};

static void *run_checkpoint(void *arg)
{
    struct checkpoint_run *c = arg;
    double began = now(CLOCK_MONOTONIC);

    must(checkpoint_write(c->store, &c->info), "checkpoint_write");
    c->took = now(CLOCK_MONOTONIC) - began;
    __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void checkpoint_beside_puts(struct bench *b)
{
    struct checkpoint_run c = {.store = b->store};
    double *samples = malloc(SAMPLES_MAX * sizeof(*samples));
    pthread_t thread;
    size_t n = 0;

    assert(samples != NULL);
    must(-pthread_create(&thread, NULL, run_checkpoint, &c), "pthread_create");
    while (!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE) && n < SAMPLES_MAX) {
        double began = now(CLOCK_MONOTONIC);

        store_puts(b, UINT64_MAX, 16);
        samples[n++] = now(CLOCK_MONOTONIC) - began;
    }
    pthread_join(thread, NULL);
    printf("checkpoint of %llu keys: %.0f MB in %.2f s\n", (unsigned long long)b->n_keys, (double)c.info.bytes / 1e6, c.took);
    tell_latencies("batches of 16 beside a checkpoint", samples, n);
    free(samples);
}

static void compaction_beside_puts(struct bench *b)
{
    struct command cmd = {.kind = COMMAND_COMPACT, .time_ns = 1};
    double *samples = malloc(SAMPLES_MAX * sizeof(*samples)), began = now(CLOCK_MONOTONIC);
    struct store_batch *batch;
    struct result result;
    uint64_t turns = 0;
    size_t n = 0;
    bool fresh, more = true;

    assert(samples != NULL);
    cmd.compact.revision = (int64_t)b->index; /* about all there are */
    must(store_batch_begin(b->store, &batch), "store_batch_begin");
    must(store_apply(batch, ++b->index, 1, 0, &cmd, &b->arena, &result, &fresh), "compact");
    must(store_batch_advance(batch, b->index, 1), "store_batch_advance");
    must(store_batch_commit(batch), "store_batch_commit");
    printf("compaction at revision %lld: status %u\n", (long long)cmd.compact.revision, result.status);
    while (more && n < SAMPLES_MAX) {
        double put = now(CLOCK_MONOTONIC);

        store_puts(b, UINT64_MAX, 1);
        samples[n++] = now(CLOCK_MONOTONIC) - put;
        if (n % 4 == 0) { /* the idle node's own slices, between puts */
            must(store_batch_begin(b->store, &batch), "store_batch_begin");
            must(store_batch_compact(batch, 256, &more), "store_batch_compact");
            must(store_batch_commit(batch), "store_batch_commit");
            turns++;
        }
    }
    printf("removed what %lld revisions left in %.1f s, %llu idle slices and %zu puts\n", (long long)cmd.compact.revision,
           now(CLOCK_MONOTONIC) - began, (unsigned long long)turns, n);
    tell_latencies("puts beside compaction", samples, n);
    free(samples);
}

/* ---- reads ---- */

static struct store_read *snapshot(struct bench *b)
{
    struct store_read *r;

    must(store_read_begin(b->store, &r), "store_read_begin");
    return r;
}

static void point_reads(struct bench *b)
{
    const unsigned count = b->quick ? 1000 : 1000000;
    struct store_read *r = snapshot(b);
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    struct slice value;
    char key[40];

    for (unsigned i = 0; i < count; i++) {
        key_text(key, pick(b, b->n_keys));
        must(store_value(r, slice_make(key, 32), &b->arena, &value), "store_value");
        assert(value.len == VALUE_BYTES);
        arena_reset(&b->arena);
    }
    printf("point read, %8llu keys: %.2f us\n", (unsigned long long)b->n_keys,
           (now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / count * 1e6);
    store_read_end(r);
}

static int count_kv(void *ctx, const struct kv *kv)
{
    *(uint64_t *)ctx += kv->value.len;
    return 0;
}

static void scan(struct bench *b)
{
    const struct op_range op = {.key = slice_make("", 1), .range_end = slice_make("", 1)};
    struct store_read *r = snapshot(b);
    double began = now(CLOCK_MONOTONIC);
    uint64_t bytes = 0;
    int64_t count = 0;
    uint16_t status;

    must(store_range_each(r, &op, count_kv, &bytes, &count, &status), "store_range_each");
    printf("scan, %8lld keys: %.3f us a key\n", (long long)count, (now(CLOCK_MONOTONIC) - began) / (double)count * 1e6);
    store_read_end(r);
}

static int count_child(void *ctx, const struct store_child *child)
{
    ++*(uint64_t *)ctx;
    return 0;
}

static void one_level(struct bench *b)
{
    const unsigned children = 100, each = b->quick ? 10 : 10000;
    struct store_read *r;
    uint64_t seen = 0;
    double began;

    for (unsigned c = 0; c < children; c++)
        for (unsigned i = 0; i < each; i += LOAD_BATCH) {
            struct store_batch *batch;
            char key[64];

            must(store_batch_begin(b->store, &batch), "store_batch_begin");
            for (unsigned k = i; k < i + LOAD_BATCH && k < each; k++) {
                snprintf(key, sizeof(key), "/tree/child%03u/%06u", c, k);
                store_put_bytes(b, batch, key, slice_from_str("v"));
            }
            must(store_batch_commit(batch), "store_batch_commit");
        }
    r = snapshot(b);
    began = now(CLOCK_MONOTONIC);
    must(store_list(r, slice_from_str("/tree"), slice_make(NULL, 0), count_child, &seen), "store_list");
    printf("one level: %llu children among %u descendants: %.1f us, %.2f us a child\n", (unsigned long long)seen,
           children * each, (now(CLOCK_MONOTONIC) - began) * 1e6, (now(CLOCK_MONOTONIC) - began) / (double)seen * 1e6);
    store_read_end(r);
}

static void old_reads(struct bench *b)
{
    const unsigned versions = b->quick ? 5000 : 1000000;
    double *samples = malloc(1000 * sizeof(*samples)), sum = 0;
    int64_t first = 0;
    struct store_read *r;

    assert(samples != NULL);
    r = snapshot(b);
    first = store_read_revision(r) + 1;
    store_read_end(r);
    for (unsigned i = 0; i < versions; i += LOAD_BATCH) {
        struct store_batch *batch;

        must(store_batch_begin(b->store, &batch), "store_batch_begin");
        for (unsigned k = 0; k < LOAD_BATCH; k++)
            store_put_bytes(b, batch, "/versions", slice_make(&i, sizeof(i)));
        must(store_batch_commit(batch), "store_batch_commit");
    }
    r = snapshot(b);
    for (unsigned i = 0; i < 1000; i++) {
        double began = now(CLOCK_MONOTONIC);
        struct slice value;
        uint16_t status;

        must(store_value_at(r, slice_from_str("/versions"), first + (int64_t)pick(b, versions), &b->arena, &value, &status),
             "store_value_at");
        samples[i] = now(CLOCK_MONOTONIC) - began;
        sum += samples[i];
        assert(status == STATUS_OK);
        arena_reset(&b->arena);
    }
    qsort(samples, 1000, sizeof(*samples), compare);
    printf("old read of a key with %u versions: mean %.1f us, worst %.1f us\n", versions, sum * 1e3, samples[999] * 1e6);
    free(samples);
    store_read_end(r);
}

static void catch_up(struct bench *b)
{
    const unsigned foreign = b->quick ? 5000 : 1000000;
    struct store_batch *batch;
    struct store_read *r;
    struct event *events;
    size_t count;
    bool more;
    uint16_t status;
    int64_t from;
    double began;

    r = snapshot(b);
    from = store_read_revision(r) + 1;
    store_read_end(r);
    for (unsigned half = 0; half < 2; half++) {
        must(store_batch_begin(b->store, &batch), "store_batch_begin");
        store_put_bytes(b, batch, "/own", slice_from_str("v"));
        must(store_batch_commit(batch), "store_batch_commit");
        for (unsigned i = 0; half == 0 && i < foreign; i += LOAD_BATCH)
            store_puts(b, UINT64_MAX, LOAD_BATCH);
    }
    r = snapshot(b);
    began = now(CLOCK_MONOTONIC);
    must(store_key_events(r, slice_from_str("/own"), from, &b->arena, 1000, &events, &count, &more, &status),
         "store_key_events");
    printf("one key's catch-up over %u foreign revisions: %.1f us, %zu events\n", foreign,
           (now(CLOCK_MONOTONIC) - began) * 1e6, count);
    assert(count == 2);
    arena_reset(&b->arena);
    store_read_end(r);
}

static void large_values(struct bench *b)
{
    double samples[32];
    char *value = malloc(1 << 20), key[40];

    assert(value != NULL);
    memset(value, 'L', 1 << 20);
    for (unsigned i = 0; i < 32; i++) {
        double began = now(CLOCK_MONOTONIC);
        struct store_batch *batch;

        snprintf(key, sizeof(key), "/large/%u", i % 4);
        must(store_batch_begin(b->store, &batch), "store_batch_begin");
        store_put_bytes(b, batch, key, slice_make(value, 1 << 20));
        must(store_batch_commit(batch), "store_batch_commit");
        samples[i] = now(CLOCK_MONOTONIC) - began;
        store_puts(b, UINT64_MAX, 64);
    }
    qsort(samples, 32, sizeof(samples[0]), compare);
    printf("1 MiB value into a fragmented file: median %.2f ms, worst %.2f ms\n", samples[16] * 1e3, samples[31] * 1e3);
    free(value);
}

int main(int argc, char **argv)
{
    static const uint64_t sizes[] = {1000, 1000000, 10000000};
    struct bench b = {.random = 1};
    uint64_t largest = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000000;

    if (argc < 2)
        return fprintf(stderr, "usage: bench-store DIRECTORY [KEYS]\n"), 2;
    b.dir = argv[1];
    b.quick = largest < 100000;
    snprintf(b.store_dir, sizeof(b.store_dir), "%.200s/store", b.dir);
    snprintf(b.bare_dir, sizeof(b.bare_dir), "%.200s/bare", b.dir);
    arena_init(&b.arena);
    open_both(&b);
    for (size_t i = 0; i < 3 && sizes[i] <= largest; i++) {
        grow(&b, sizes[i]);
        puts_beside_bare(&b);
        point_reads(&b);
        if (i == (largest >= 1000000)) {
            bytes_written(&b);
            scan(&b);
            one_level(&b);
            old_reads(&b);
            catch_up(&b);
            checkpoint_beside_puts(&b);
            compaction_beside_puts(&b);
            large_values(&b);
        }
    }
    printf("anonymous memory at the end: %.0f MB\n", anonymous_mb());
    store_close(b.store);
    mdb_env_close(b.env);
    arena_fini(&b.arena);
    return 0;
}
