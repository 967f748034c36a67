/* lock_table.h - inside store/: all locks and waiters of one inode, taken into memory, changed and written back.
 *
 * Process: any; only the node writes.  Thread: that of the snapshot.
 * Errors:  negative errno.
 * Memory:  a table stands in the arena that it was loaded with.
 * Units:   bytes of a file, both ends included. */
#ifndef STORE_LOCK_TABLE_H
#define STORE_LOCK_TABLE_H

#include "store/env.h"

struct lock_item {
    struct lock_op op; /* .wait: it waits */
    uint64_t id;       /* from state.lock_serial: ages */
    uint64_t token;    /* of one that is held */
    bool stored, gone; /* it has a row; it is to have none */
};

struct lock_table {
    struct snap *snap;
    struct arena *arena;
    uint64_t ino;
    struct lock_item *items; /* oldest first */
    size_t n, cap;
    size_t n_held; /* neither gone nor waiting */
};

int lock_table_load(struct snap *p, uint64_t ino, struct arena *arena, struct lock_table *ret_table);
/* Writes what changed. */
int lock_table_save(struct lock_table *t, struct bytes *scratch);
/* How many there would be after a save, and how many more than before. */
size_t lock_table_count(const struct lock_table *t, int64_t *ret_more);

int lock_table_add(struct lock_table *t, const struct lock_op *op, uint64_t token);
void lock_table_drop(struct lock_table *t, struct lock_item *item);

static inline bool lock_same_owner(const struct lock_op *a, const struct lock_op *b)
{
    return a->session == b->session && a->owner == b->owner;
}

/* Whether both cannot be held at once. */
bool lock_conflicts(const struct lock_op *a, const struct lock_op *b);
/* What is in the way of op: a lock of others, or with `queue` an older waiter of others with which it would conflict
 * (unless that one waits for a lock of op's owner: it must not stop whom it waits for). From item *at on; NULL. */
struct lock_item *lock_table_blocker(const struct lock_table *t, const struct lock_op *op, uint64_t id, bool queue,
                                     size_t *at);

/* op's range becomes its owner's with that type: what the owner had there is cut, replaced and joined, as POSIX has it. */
int lock_table_hold(struct lock_table *t, const struct lock_op *op, uint64_t token);
/* op's range is its owner's no more. */
int lock_table_free(struct lock_table *t, const struct lock_op *op);

/* What an owner has and waits for: emit gets inode and id, and stops with 1. Leases: the inodes on which one has anything. */
typedef int (*lock_place_fn)(void *ctx, uint64_t ino, uint64_t id);
int lock_owner_items(struct snap *p, const struct lock_op *owner, lock_place_fn emit, void *ctx);
int lock_lease_inodes(struct snap *p, int64_t lease, lock_place_fn emit, void *ctx);
/* Every row, by inode and age. */
typedef int (*lock_item_fn)(void *ctx, const struct lock_item *item); /* 1 stops */
int lock_walk(struct snap *p, uint64_t ino, bool one_inode, lock_item_fn emit, void *ctx);

#endif
