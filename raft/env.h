/* env.h - everything of the outside world that a node uses, as tables of functions: clock, network,
 * worker threads. With raft/disk.h they are all the ways in which a run can differ from its replay, so
 * the simulation links the daemon's own objects and supplies its own tables.
 *
 * Process: node.
 * Thread:  every function and every callback on the loop thread, except a work item's run().
 * Errors:  negative errno; sending never fails: the network may lose anything.
 * Memory:  as each function says.
 * Units:   milliseconds and nanoseconds as the names say. */
#ifndef RAFT_ENV_H
#define RAFT_ENV_H

#include "base/slice.h"

struct clock {
    void *ctx;
    uint64_t (*now_ms)(void *ctx);  /* monotonic, never back */
    int64_t (*wall_ns)(void *ctx);  /* since 1970; for proposals alone, may jump */
    uint64_t (*random)(void *ctx);
    /* One timer per node: calls node_timer() once at or after that moment; a later call replaces it. */
    void (*set_timer)(void *ctx, uint64_t at_ms);
};

/* A checkpoint file of another member: its first bytes may be at path already. */
struct fetch {
    uint64_t from, index, bytes;
    uint32_t crc; /* of its image: tells two files of one index apart */
    const char *path;
};

struct network {
    void *ctx;
    /* Sends one frame (type and payload; framing and CRC are the transport's) to a member, in order with
     * the frames before it if at all. Copies. Drops it when there is no connection or the queue is full. */
    void (*send)(void *ctx, uint64_t to, uint8_t type, struct slice payload);
    /* The peers to keep connections with, by id and peer URL: the transport's whole truth. Copies. */
    void (*set_peers)(void *ctx, const uint64_t *ids, const char *const *urls, size_t n);
    /* The caller is about to keep the loop busy: what was sent so far should be on its way before. */
    void (*push_out)(void *ctx);
    /* That member was removed: whatever it has dialled here is closed. May be NULL. */
    void (*forget)(void *ctx, uint64_t id);
    /* Fetches a file, goes on after a break for as long as it takes, and then calls node_fetched(): 0, or -ENOENT when it is not
     * there. One at a time; fetch_end() ends it, also after that. May be NULL. */
    void (*fetch)(void *ctx, const struct fetch *f);
    void (*fetch_end)(void *ctx);
    /* Bytes for that member that have not left yet. May be NULL: none ever wait. */
    size_t (*unsent)(void *ctx, uint64_t to);
    /* The version of the protocol (raft/peer_frame.h) that may be spoken to that member now; 0: it is not connected. May be NULL:
     * the oldest. */
    unsigned (*protocol)(void *ctx, uint64_t to);
};

/* Queues, each strictly in order, each of one thread: log flushes; applies to the store; checkpoints. */
enum work_queue { WORK_LOG, WORK_APPLY, WORK_CHECKPOINT, WORK_QUEUES };

struct work {
    void (*run)(struct work *w);   /* in the worker; touches nothing of the loop */
    void (*done)(struct work *w);  /* on the loop */
    struct work *next;             /* the queue's */
};

struct workers {
    void *ctx;
    void (*submit)(void *ctx, enum work_queue queue, struct work *w);
    /* True if nothing runs in that queue: run() may then be called in line when that is cheaper. */
    bool (*idle)(void *ctx, enum work_queue queue);
};

#endif
