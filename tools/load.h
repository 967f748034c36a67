/* load.h - the parts of quorumfs-load: what is asked of it, its connections, its figures.
 *
 * Process: quorumfs-load.
 * Thread:  one.
 * Errors:  0, or -1 after one line on standard error.
 * Memory:  each part is freed by its own fini.
 * Units:   nanoseconds of CLOCK_MONOTONIC where the name says so. */
#ifndef TOOLS_LOAD_H
#define TOOLS_LOAD_H

#include "base/bytes.h"

#define LOAD_MAX_CLIENTS 100000
#define LOAD_MAX_CONNECTIONS 10000
#define LOAD_MAX_PIDS 16
#define LOAD_STATUSES 18 /* gRPC's 0 to 16, and those whose stream ended without one */
#define LOAD_NO_STATUS 17

enum load_op { LOAD_PUT, LOAD_RANGE, LOAD_LIST, LOAD_TXN };

struct load_options {
    char host[256], port[16];
    const char *label;
    enum load_op op;
    bool serializable, sequential, json_only;
    unsigned clients, connections;
    size_t key_bytes, value_bytes;
    uint64_t keys;        /* chosen from this many */
    uint64_t count;       /* requests in all; 0: as many as fit the duration */
    double seconds, warm_up_seconds;
    uint64_t seed;
    int pids[LOAD_MAX_PIDS]; /* the server's processes */
    size_t n_pids;
};

/* ---- load_figures.c ---- */

/* Latencies in buckets of at most 1.6 % width. */
#define LOAD_SUB_BITS 6
#define LOAD_BUCKETS ((64 - LOAD_SUB_BITS) << LOAD_SUB_BITS)

struct load_usage {
    double cpu_seconds;
    uint64_t rss_bytes, written_bytes;
};

struct load_figures {
    uint64_t done[LOAD_STATUSES];
    uint64_t histogram[LOAD_BUCKETS]; /* of those that ended with OK */
    uint64_t max_ns, answer_bytes;
    uint64_t begin_ns, end_ns;
    struct load_usage before, after;
};

uint64_t load_now_ns(void);
void load_record(struct load_figures *f, unsigned status, uint64_t latency_ns, size_t answer_bytes);
uint64_t load_percentile_ns(const struct load_figures *f, double fraction);
/* The sum over the processes, from /proc. */
int load_usage_read(const int *pids, size_t n, struct load_usage *ret_usage);
void load_report(const struct load_options *o, const struct load_figures *f);

/* ---- load_line.c ---- */

struct load_run;

int load_run_open(const struct load_options *o, struct load_figures *figures, struct load_run **ret_run);
/* Until the time or the count is over and the last answer is in. */
int load_run_go(struct load_run *r);
void load_run_close(struct load_run *r);

#endif
