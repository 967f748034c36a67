/* checkpoint.h - inside the node: when checkpoints are written, and what follows from one; for checkpoint.c and swap.c.
 *
 * Process: node.
 * Thread:  the loop's, but what a work item owns while it is out.
 * Errors:  negative errno; a disk that fails ends in node_fail().
 * Memory:  one allocation of the node's.
 * Units:   bytes, indexes, milliseconds. */
#ifndef RAFT_CHECKPOINT_H
#define RAFT_CHECKPOINT_H

#include "raft/node_state.h"
#include "store/checkpoint.h"

#define CHECKPOINT_DEFAULT_BYTES (64ull << 20)
#define CHECKPOINT_RETRY_MS 10000 /* after one that failed; the log grows meanwhile */
#define SWAP_HELD_ENTRIES 512       /* fewer than that to be applied again: applies wait for the rest of a swap */

/*  IDLE -> WRITING -> IDLE                                  a checkpoint
 *  IDLE -> MAKING -> CATCHING_UP -> ... -> PUBLISHING -> CLEANING -> IDLE   a new store from one (swap.c);
 *  on an error before PUBLISHING -> DROPPING -> IDLE */
enum checkpoint_phase { CP_IDLE, CP_WRITING, CP_MAKING, CP_CATCHING_UP, CP_PUBLISHING, CP_CLEANING, CP_DROPPING };

struct checkpoints {
    struct work work;
    struct node *node;
    enum checkpoint_phase phase;
    bool out; /* the work item */
    bool stopping;

    /* of the work item */
    int rc;
    struct checkpoint_info info;
    struct arena arena;        /* membership */
    struct slice membership;
    struct store *next;        /* of a swap */
    struct apply_job *job;
    uint64_t next_epoch, next_applied, round_last;
    struct store *old;         /* being closed */
    char text[160];

    /* since the last checkpoint */
    uint64_t index, bytes;     /* of it; 0: none */
    uint64_t log_bytes, log_entries;
    uint64_t begun_log_bytes, begun_log_entries; /* when the one under way was begun */
    uint64_t retry_ms;         /* none before this */
    uint64_t made, failed;
    int error;
    struct list waiting, running; /* requests: for the next one, of this one */
};

/* checkpoint.c */
void checkpoints_submit(struct node *n, enum checkpoint_phase phase, void (*run)(struct work *w));
/* A durable checkpoint, info and membership, is there: the log may give up what is before it. */
void checkpoints_made(struct node *n);
void checkpoints_failed(struct node *n, const char *what);
void checkpoints_end_running(struct node *n, uint16_t status);

/* swap.c */
void swap_begin(struct node *n);
void swap_step(struct node *n); /* the work of this phase is done, or applies have come to rest */

#endif
