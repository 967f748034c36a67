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
#define LOAD_MAX_PIDS 64
#define LOAD_STATUSES 18 /* gRPC's 0 to 16, and those whose stream ended without one */
#define LOAD_NO_STATUS 17

#define LOAD_MAX_ENDPOINTS 16

enum load_op {
    LOAD_PUT,
    LOAD_RANGE,
    LOAD_LIST,
    LOAD_TXN,
    LOAD_WATCH,
    LOAD_GRANT,
    LOAD_KEEPALIVE,
    LOAD_FANOUT,
    LOAD_IDLE,
    LOAD_OPS, /* how many */
};
extern const char *const load_op_names[LOAD_OPS];

struct load_endpoint {
    char host[256], port[16];
};

struct load_options {
    struct load_endpoint endpoints[LOAD_MAX_ENDPOINTS]; /* connections take them in turn */
    size_t n_endpoints;
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
    const char *disk;        /* a file or directory on the disk to be watched; NULL: none */
};

/* ---- load_figures.c ---- */

/* Latencies in buckets of at most 1.6 % width. */
#define LOAD_SUB_BITS 6
#define LOAD_BUCKETS ((65 - LOAD_SUB_BITS) << LOAD_SUB_BITS)

struct load_usage {
    double cpu_seconds;
    uint64_t rss_bytes;  /* with mapped files, which several processes share */
    uint64_t anon_bytes; /* memory of their own */
    uint64_t written_bytes; /* by the disk, whoever wrote it; of the processes' own count Linux is generous: a folio */
    uint64_t flushes;       /* of the disk's cache */
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
/* The sum over the processes, from /proc, and the disk's counters. */
int load_usage_read(const struct load_options *o, struct load_usage *ret_usage);
void load_report(const struct load_options *o, const struct load_figures *f);

/* ---- load_line.c: one connection of gRPC ---- */

struct nghttp2_session;
struct nghttp2_session_callbacks;

struct load_line {
    int fd, epoll_fd;
    struct nghttp2_session *session;
    struct bytes out;
    size_t out_at;
    bool wants_write;
    char authority[300];
};

/* Connects and adds it to the epoll descriptor, with itself as the event's data. owner: nghttp2's user data. */
int load_line_open(struct load_line *l, const struct load_endpoint *e, int epoll_fd,
                   struct nghttp2_session_callbacks *callbacks, void *owner);
void load_line_close(struct load_line *l);
int load_line_flush(struct load_line *l);
int load_line_receive(struct load_line *l);
/* Both for an event of epoll. */
int load_line_event(struct load_line *l, unsigned events);
int load_fail(const char *what, const char *why);

/* ---- load_run.c: unary requests ---- */

struct load_run;

int load_run_open(const struct load_options *o, struct load_figures *figures, struct load_run **ret_run);
/* Until the time or the count is over and the last answer is in. */
int load_run_go(struct load_run *r);
void load_run_close(struct load_run *r);

/* ---- load_watch.c: a watcher for each of many keys, then a put of each key ---- */

/* Opens the connections, waits, and says what the processes took. */
int load_idle(const struct load_options *o);
int load_watch(const struct load_options *o, struct load_figures *figures);

#endif
