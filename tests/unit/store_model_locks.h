/* store_model_locks.h - file locks as naively as can be: for each owner, which type each byte has; a queue in an array.
 * The last byte stands for itself and all behind it.
 *
 * Process: a test.  Thread: one.  Errors: none.  Memory: values.  Units: bytes of a file. */
#ifndef TESTS_UNIT_STORE_MODEL_LOCKS_H
#define TESTS_UNIT_STORE_MODEL_LOCKS_H

#include <string.h>

#include "store/store.h"

#define MODEL_FIRST_INO 1000
#define MODEL_LOCK_INODES 2
#define MODEL_LOCK_BYTES 16
#define MODEL_LOCK_OWNERS 5
#define MODEL_LOCK_WAITERS 64

struct mfile_locks {
    uint8_t held[LOCK_FLOCK + 1][MODEL_LOCK_OWNERS][MODEL_LOCK_BYTES]; /* enum lock_type, 0: not */
    struct lock_op waiters[MODEL_LOCK_WAITERS];                       /* in order */
    size_t n_waiters;
};

static inline bool model_lock_in(const struct lock_op *op, uint64_t byte)
{
    return byte >= op->start && (byte <= op->end || op->end == UINT64_MAX);
}

/* Whether owner holds what stands in op's way. */
static inline bool model_lock_held_against(const struct mfile_locks *f, const struct lock_op *op, size_t owner)
{
    for (uint64_t i = 0; owner != op->owner && i < MODEL_LOCK_BYTES; i++)
        if (model_lock_in(op, i) && f->held[op->kind][owner][i] != 0 &&
            (op->type == LOCK_EXCLUSIVE || f->held[op->kind][owner][i] == LOCK_EXCLUSIVE))
            return true;
    return false;
}

/* Whether the waiter keeps op, which came later, from going first. */
static inline bool model_lock_queued_against(const struct mfile_locks *f, const struct lock_op *op,
                                             const struct lock_op *waiter)
{
    bool overlap = false;

    for (uint64_t i = 0; i < MODEL_LOCK_BYTES; i++)
        overlap |= model_lock_in(op, i) && model_lock_in(waiter, i);
    return overlap && waiter->owner != op->owner && waiter->kind == op->kind &&
           (waiter->type == LOCK_EXCLUSIVE || op->type == LOCK_EXCLUSIVE) &&
           !model_lock_held_against(f, waiter, op->owner);
}

/* The owners that op waits for, as bits; n: how many waiters came before it. */
static inline uint32_t model_lock_blockers(const struct mfile_locks *f, const struct lock_op *op, size_t n)
{
    uint32_t owners = 0;

    for (size_t o = 0; o < MODEL_LOCK_OWNERS; o++)
        if (model_lock_held_against(f, op, o))
            owners |= 1u << o;
    for (size_t i = 0; i < n; i++)
        if (model_lock_queued_against(f, op, &f->waiters[i]))
            owners |= 1u << f->waiters[i].owner;
    return owners;
}

static inline bool model_lock_deadlock(const struct mfile_locks *files, const struct mfile_locks *f,
                                       const struct lock_op *op)
{
    uint32_t met = model_lock_blockers(f, op, f->n_waiters), before = 0;

    while (met != before) {
        before = met;
        for (size_t k = 0; k < MODEL_LOCK_INODES; k++)
            for (size_t i = 0; i < files[k].n_waiters; i++)
                if ((before & 1u << files[k].waiters[i].owner) != 0 && files[k].waiters[i].kind == LOCK_POSIX)
                    met |= model_lock_blockers(&files[k], &files[k].waiters[i], i);
    }
    return (met & 1u << op->owner) != 0;
}

static inline void model_lock_set(struct mfile_locks *f, const struct lock_op *op, int type)
{
    for (uint64_t i = 0; i < MODEL_LOCK_BYTES; i++)
        if (model_lock_in(op, i))
            f->held[op->kind][op->owner][i] = (uint8_t)type;
}

static inline void model_lock_leave(struct mfile_locks *f, size_t waiter)
{
    memmove(&f->waiters[waiter], &f->waiters[waiter + 1], (f->n_waiters - waiter - 1) * sizeof(f->waiters[0]));
    f->n_waiters--;
}

/* Whoever can have it now; how many. */
static inline int64_t model_lock_grant(struct mfile_locks *f)
{
    int64_t granted = 0, before;

    do {
        before = granted;
        for (size_t i = 0; i < f->n_waiters;) {
            const struct lock_op op = f->waiters[i];

            if (model_lock_blockers(f, &op, i) != 0) {
                i++;
                continue;
            }
            model_lock_leave(f, i);
            model_lock_set(f, &op, op.type);
            granted++;
        }
    } while (granted != before);
    return granted;
}

static inline int64_t model_lock_drop_owner(struct mfile_locks *f, uint64_t owner)
{
    for (int kind = LOCK_POSIX; kind <= LOCK_FLOCK; kind++)
        memset(f->held[kind][owner], 0, MODEL_LOCK_BYTES);
    for (size_t i = f->n_waiters; i-- > 0;)
        if (f->waiters[i].owner == owner)
            model_lock_leave(f, i);
    return model_lock_grant(f);
}

static inline bool model_lock_holds(const struct mfile_locks *f, const struct lock_op *op)
{
    for (uint64_t i = 0; i < MODEL_LOCK_BYTES; i++)
        if (model_lock_in(op, i) && f->held[op->kind][op->owner][i] != op->type &&
            f->held[op->kind][op->owner][i] != LOCK_EXCLUSIVE)
            return false;
    return true;
}

/* The fewest ranges that say the same. */
static inline size_t model_lock_ranges(const struct mfile_locks *f)
{
    size_t n = 0;

    for (int kind = LOCK_POSIX; kind <= LOCK_FLOCK; kind++)
        for (size_t o = 0; o < MODEL_LOCK_OWNERS; o++)
            for (size_t i = 0; i < MODEL_LOCK_BYTES; i++)
                n += f->held[kind][o][i] != 0 && (i == 0 || f->held[kind][o][i - 1] != f->held[kind][o][i]);
    return n;
}

#endif
