#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tools/load.h"

uint64_t load_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The exponent and the LOAD_SUB_BITS bits behind the first one. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned shift;

    if (ns < 1u << LOAD_SUB_BITS)
        return (unsigned)ns;
    shift = 63u - (unsigned)__builtin_clzll(ns) - LOAD_SUB_BITS;
    return ((shift + 1) << LOAD_SUB_BITS) + (unsigned)(ns >> shift) - (1u << LOAD_SUB_BITS);
}

/* The middle of the bucket. */
static uint64_t bucket_ns(unsigned b)
{
    unsigned shift;

    if (b < 1u << LOAD_SUB_BITS)
        return b;
    shift = (b >> LOAD_SUB_BITS) - 1;
    return ((uint64_t)((b & ((1u << LOAD_SUB_BITS) - 1)) + (1u << LOAD_SUB_BITS)) << shift) + (1ull << shift) / 2;
}

void load_record(struct load_figures *f, unsigned status, uint64_t latency_ns, size_t answer_bytes)
{
    f->done[status]++;
    if (status != 0)
        return;
    f->histogram[bucket_of(latency_ns)]++;
    f->answer_bytes += answer_bytes;
    if (latency_ns > f->max_ns)
        f->max_ns = latency_ns;
}

uint64_t load_percentile_ns(const struct load_figures *f, double fraction)
{
    uint64_t want = (uint64_t)((double)f->done[0] * fraction), seen = 0;

    for (unsigned b = 0; b < LOAD_BUCKETS; b++) {
        seen += f->histogram[b];
        if (seen > want)
            return bucket_ns(b);
    }
    return f->max_ns;
}

static int read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    size_t n;

    if (f == NULL) {
        fprintf(stderr, "quorumfs-load: %s: %s\n", path, strerror(errno));
        return -1;
    }
    n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
    return 0;
}

static int read_proc(int pid, const char *name, char *text, size_t size)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    return read_text(path, text, size);
}

/* The process's own clock, of all its threads: to the nanosecond, where /proc/PID/stat counts ticks. */
static int add_cpu(int pid, struct load_usage *u)
{
    struct timespec ts;
    clockid_t clock;
    int rc = clock_getcpuclockid(pid, &clock);

    if (rc == 0 && clock_gettime(clock, &ts) < 0)
        rc = errno;
    if (rc != 0) {
        fprintf(stderr, "quorumfs-load: the clock of process %d: %s\n", pid, strerror(rc));
        return -1;
    }
    u->cpu_seconds += (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    return 0;
}

static int add_process(int pid, struct load_usage *u)
{
    char text[4096], *p;
    unsigned long resident = 0;
    unsigned long long anon = 0;

    if (add_cpu(pid, u) < 0)
        return -1;
    if (read_proc(pid, "statm", text, sizeof(text)) < 0 || sscanf(text, "%*u %lu", &resident) != 1)
        return -1;
    if (read_proc(pid, "status", text, sizeof(text)) == 0 && (p = strstr(text, "\nRssAnon:")) != NULL)
        sscanf(p, "\nRssAnon: %llu", &anon);
    u->rss_bytes += resident * (uint64_t)sysconf(_SC_PAGESIZE);
    u->anon_bytes += anon * 1024;
    return 0;
}

/* Field 7 of a block device's statistics is sectors written, field 16 its flushes. */
static int read_disk(const char *path, struct load_usage *u)
{
    char name[64], text[1024];
    struct stat st;
    unsigned long long sectors = 0, flushes = 0;

    if (stat(path, &st) < 0)
        return load_fail(path, strerror(errno));
    snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/stat", major(st.st_dev), minor(st.st_dev));
    if (read_text(name, text, sizeof(text)) < 0)
        return -1;
    if (sscanf(text, "%*u %*u %*u %*u %*u %*u %llu %*u %*u %*u %*u %*u %*u %*u %*u %llu", &sectors, &flushes) < 1)
        return load_fail(name, "cannot be read");
    u->written_bytes = sectors * 512;
    u->flushes = flushes;
    return 0;
}

int load_usage_read(const struct load_options *o, struct load_usage *ret_usage)
{
    struct load_usage u = {0};

    for (size_t i = 0; i < o->n_pids; i++)
        if (add_process(o->pids[i], &u) < 0)
            return -1;
    if (o->disk != NULL && read_disk(o->disk, &u) < 0)
        return -1;
    *ret_usage = u;
    return 0;
}

const char *const load_op_names[LOAD_OPS] = {
    [LOAD_PUT] = "put",     [LOAD_RANGE] = "range",         [LOAD_LIST] = "list",     [LOAD_TXN] = "txn",
    [LOAD_WATCH] = "watch", [LOAD_GRANT] = "grant",         [LOAD_KEEPALIVE] = "keepalive",
    [LOAD_FANOUT] = "fanout", [LOAD_IDLE] = "idle",
};

static uint64_t count_errors(const struct load_figures *f)
{
    uint64_t n = 0;

    for (unsigned s = 1; s < LOAD_STATUSES; s++)
        n += f->done[s];
    return n;
}

void load_report(const struct load_options *o, const struct load_figures *f)
{
    double seconds = (double)(f->end_ns - f->begin_ns) / 1e9;
    double ops = (double)f->done[0], per_op = ops > 0 ? 1 / ops : 0;
    double rate = ops / seconds, p50 = (double)load_percentile_ns(f, 0.5) / 1e6;
    double p99 = (double)load_percentile_ns(f, 0.99) / 1e6;
    double cpu_us = (f->after.cpu_seconds - f->before.cpu_seconds) * 1e6 * per_op;
    double written = (double)(f->after.written_bytes - f->before.written_bytes) * per_op;
    double flushes = (double)(f->after.flushes - f->before.flushes) * per_op;
    const char *reads = o->op == LOAD_RANGE || o->op == LOAD_LIST ? o->serializable ? " serializable" : " linearizable" : "";

    if (!o->json_only) {
        printf("%-14s %s%s, %u clients, %u connections: %.0f/s  p50 %.2f ms  p99 %.2f ms", o->label, load_op_names[o->op],
               reads, o->clients, o->connections, rate, p50, p99);
        if (o->n_pids != 0)
            printf("  cpu %.1f us/op  memory %.1f MB", cpu_us, (double)f->after.anon_bytes / 1e6);
        if (o->disk != NULL)
            printf("  %.0f bytes/op written, %.2f flushes/op", written, flushes);
        for (unsigned s = 1; s < LOAD_STATUSES; s++)
            if (f->done[s] != 0)
                printf("  %s%u: %" PRIu64, s == LOAD_NO_STATUS ? "no status, " : "grpc-status ", s, f->done[s]);
        printf("\n");
    }
    printf("{\"label\":\"%s\",\"op\":\"%s\",\"serializable\":%s,\"clients\":%u,\"connections\":%u,\"key_bytes\":%zu,"
           "\"value_bytes\":%zu,\"seconds\":%.3f,\"ok\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"ops_per_s\":%.1f,"
           "\"p50_ms\":%.4f,\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"cpu_us_per_op\":%.2f,\"rss_bytes\":%" PRIu64
           ",\"anon_bytes\":%" PRIu64 ",\"written_bytes_per_op\":%.1f,\"flushes_per_op\":%.3f,\"answer_bytes\":%" PRIu64 "}\n",
           o->label, load_op_names[o->op], o->serializable ? "true" : "false", o->clients, o->connections, o->key_bytes,
           o->value_bytes, seconds, f->done[0], count_errors(f), rate, p50, (double)load_percentile_ns(f, 0.9) / 1e6,
           p99, (double)f->max_ns / 1e6, cpu_us, f->after.rss_bytes, f->after.anon_bytes, written, flushes, f->answer_bytes);
}
