/* What the log adds to its disk: entries/s by log_append() and log_flush(), beside the bare write and fdatasync of the same
 * bytes into a zeroed file, interleaved in one run (A B A B), since machines are noisy.
 * Usage: bench-log DIRECTORY [ROUNDS [MILLISECONDS]] */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "raft/log.h"

#define PAYLOAD 256
#define RECORD (32 + PAYLOAD)
#define ROUNDS_MAX 99
#define SAMPLES_MAX 200000
#define FILE_BYTES (16u << 20)

struct figures {
    double per_s, cpu_us, p50_us, p99_us; /* entries/s, CPU of this process an entry, latency of one flush */
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

struct run {
    double end, began, cpu;
    double *samples;
    size_t count;
    unsigned depth;
};

static void begin(struct run *r, double seconds, unsigned depth)
{
    r->depth = depth;
    r->count = 0;
    r->began = now(CLOCK_MONOTONIC);
    r->cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    r->end = r->began + seconds;
}

static struct figures finish(struct run *r)
{
    double entries = (double)r->count * r->depth;
    double took = now(CLOCK_MONOTONIC) - r->began;
    struct figures f = {.per_s = entries / took, .cpu_us = (now(CLOCK_PROCESS_CPUTIME_ID) - r->cpu) / entries * 1e6};

    qsort(r->samples, r->count, sizeof(double), compare);
    f.p50_us = r->samples[r->count / 2] * 1e6;
    f.p99_us = r->samples[r->count * 99 / 100] * 1e6;
    return f;
}

static void bare_run(const char *dir, struct run *r, double seconds, unsigned depth, struct figures *ret)
{
    size_t bytes = (48 + (size_t)depth * RECORD + 511) & ~(size_t)511, at = 0;
    char path[4096];
    uint8_t *zeros = calloc(1, FILE_BYTES), *data = malloc(bytes);
    int fd;

    snprintf(path, sizeof(path), "%s/bare", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert(fd >= 0 && zeros != NULL && data != NULL);
    assert(pwrite(fd, zeros, FILE_BYTES, 0) == (ssize_t)FILE_BYTES && fdatasync(fd) == 0);
    memset(data, 'd', bytes);
    begin(r, seconds, depth);
    for (double t = r->began; t < r->end && r->count < SAMPLES_MAX;) {
        double then = t;

        assert(pwrite(fd, data, bytes, (off_t)at) == (ssize_t)bytes && fdatasync(fd) == 0);
        at = at + 2 * bytes <= FILE_BYTES ? at + bytes : 0;
        t = now(CLOCK_MONOTONIC);
        r->samples[r->count++] = t - then;
    }
    *ret = finish(r);
    close(fd);
    unlink(path);
    free(zeros);
    free(data);
}

static void log_run(const char *dir, struct run *r, double seconds, unsigned depth, struct figures *ret)
{
    struct log_options options = {.cluster_id = 1};
    uint8_t payload[PAYLOAD];
    struct log *l;
    struct disk d;

    memset(payload, 'p', sizeof(payload));
    assert(disk_posix_open(dir, &d) == 0);
    assert(log_open(&d, "log", &options, &l, NULL, 0) == 0);
    begin(r, seconds, depth);
    for (double t = r->began; t < r->end && r->count < SAMPLES_MAX;) {
        double then = t;
        uint64_t synced;

        for (unsigned i = 0; i < depth; i++) {
            struct log_entry e = {log_last_index(l) + 1, 1, LOG_ENTRY_COMMANDS, slice_make(payload, PAYLOAD)};

            assert(log_append(l, &e, 1) == 0);
        }
        assert(log_flush(l, &synced) == 0 && log_flushed(l, synced) == log_last_index(l));
        t = now(CLOCK_MONOTONIC);
        r->samples[r->count++] = t - then;
        if (r->count % 1024 == 0)
            log_trim(l, log_last_index(l) - 1000); /* as checkpoints will */
    }
    *ret = finish(r);
    log_close(l);
    disk_posix_close(&d);
}

static double median(struct figures *f, size_t n, size_t field)
{
    double v[ROUNDS_MAX];

    for (size_t i = 0; i < n; i++)
        memcpy(&v[i], (const char *)&f[i] + field, sizeof(double));
    qsort(v, n, sizeof(double), compare);
    return v[n / 2];
}

static void print(const char *what, unsigned depth, struct figures *f, size_t n)
{
    printf("%-6s depth %-5u %9.0f entries/s  p50 %7.0f us  p99 %7.0f us  cpu %6.2f us/entry\n", what, depth,
           median(f, n, offsetof(struct figures, per_s)), median(f, n, offsetof(struct figures, p50_us)),
           median(f, n, offsetof(struct figures, p99_us)), median(f, n, offsetof(struct figures, cpu_us)));
}

static void clean(const char *dir)
{
    char command[4200];

    snprintf(command, sizeof(command), "%s/log", dir);
    if (access(command, F_OK) == 0) {
        snprintf(command, sizeof(command), "rm -rf '%s/log'", dir);
        if (system(command) != 0)
            exit(1);
    }
}

int main(int argc, char **argv)
{
    static const unsigned depths[] = {1, 64, 1024};
    static struct figures bare[ROUNDS_MAX], logged[ROUNDS_MAX];
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    double seconds = (argc > 3 ? strtod(argv[3], NULL) : 1000) / 1000;
    struct run r = {.samples = malloc(SAMPLES_MAX * sizeof(double))};

    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || r.samples == NULL || strchr(argv[1], '\'') != NULL) {
        fprintf(stderr, "bench-log DIRECTORY [ROUNDS [MILLISECONDS]]\n");
        return 2;
    }
    printf("entries of %d bytes, medians of %zu rounds\n", PAYLOAD, rounds);
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
        for (size_t i = 0; i < rounds; i++) {
            bare_run(argv[1], &r, seconds, depths[d], &bare[i]);
            clean(argv[1]);
            log_run(argv[1], &r, seconds, depths[d], &logged[i]);
            clean(argv[1]);
        }
        print("bare", depths[d], bare, rounds);
        print("log", depths[d], logged, rounds);
    }
    free(r.samples);
    return 0;
}
