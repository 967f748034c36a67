/* store_world_locks.h - random file locks, and what must come of them.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the world's.  Units: bytes of a file. */
#ifndef TESTS_UNIT_STORE_WORLD_LOCKS_H
#define TESTS_UNIT_STORE_WORLD_LOCKS_H

#include "tests/unit/store_world.h"

/* Owner 0 has no lease, owner n that of number n. */
static inline struct lock_op random_lock(struct world *w)
{
    uint64_t a = below(w, MODEL_LOCK_BYTES), b = below(w, MODEL_LOCK_BYTES);
    struct lock_op op = {
        .ino = MODEL_FIRST_INO + below(w, MODEL_LOCK_INODES),
        .owner = below(w, MODEL_LOCK_OWNERS),
        .request = ++w->requests,
        .kind = one_in(w, 3) ? LOCK_FLOCK : LOCK_POSIX,
        .type = one_in(w, 2) ? LOCK_SHARED : LOCK_EXCLUSIVE,
        .start = a < b ? a : b,
        .end = a < b ? b : a,
        .pid = 5,
    };

    op.session = 1 + op.owner % 2;
    op.lease = (int64_t)op.owner;
    if (op.end == MODEL_LOCK_BYTES - 1)
        op.end = UINT64_MAX;
    if (op.kind == LOCK_FLOCK) {
        op.start = 0;
        op.end = UINT64_MAX;
    }
    return op;
}

static inline void do_lock(struct world *w)
{
    struct lock_op op = random_lock(w);
    struct mfile_locks *f = &w->m.locks[op.ino - MODEL_FIRST_INO];
    struct command cmd = {.kind = COMMAND_FILE_LOCK};
    uint16_t expected = STATUS_OK;
    bool granted = false;
    struct result r;

    op.wait = one_in(w, 2);
    if (f->n_waiters + 1 >= MODEL_LOCK_WAITERS)
        return;
    cmd.lock = op;
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (op.lease != 0 && model_lease(&w->m, op.lease) == NULL) {
        expected = STATUS_LEASE_NOT_FOUND;
    } else if (model_lock_blockers(f, &op, op.wait ? f->n_waiters : 0) == 0) {
        granted = true;
        model_lock_set(f, &op, op.type);
    } else if (!op.wait) {
        expected = STATUS_WOULD_BLOCK;
    } else if (op.kind == LOCK_POSIX && model_lock_deadlock(w->m.locks, f, &op)) {
        expected = STATUS_DEADLOCK;
    } else {
        if (op.kind == LOCK_FLOCK)
            model_lock_set(f, &op, 0);
        f->waiters[f->n_waiters++] = op;
    }
    if (expected == STATUS_OK) {
        assert_int_equal(granted, r.lock.granted);
        assert_true(granted ? r.lock.token > w->token : r.lock.token == 0);
        w->token = granted ? r.lock.token : w->token;
        w->m.sub += model_lock_grant(f);
    }
    check_end(w, &r, expected);
}

static inline void do_unlock(struct world *w)
{
    struct lock_op op = random_lock(w);
    struct mfile_locks *f = &w->m.locks[op.ino - MODEL_FIRST_INO];
    struct result r;

    op.all = one_in(w, 5);
    r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_UNLOCK, .lock = op});
    if (op.all) {
        w->m.sub += model_lock_drop_owner(f, op.owner);
    } else {
        model_lock_set(f, &op, 0);
        w->m.sub += model_lock_grant(f);
    }
    check_end(w, &r, STATUS_OK);
}

static inline void do_lock_cancel(struct world *w)
{
    struct lock_op op = random_lock(w);
    struct mfile_locks *f = &w->m.locks[op.ino - MODEL_FIRST_INO];
    struct result r;
    size_t i = 0;

    if (f->n_waiters > 0 && !one_in(w, 4)) {
        op = f->waiters[below(w, f->n_waiters)];
        op.ino = MODEL_FIRST_INO + (uint64_t)(f - w->m.locks);
    }
    r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_LOCK_CANCEL, .lock = op});
    while (i < f->n_waiters && f->waiters[i].request != op.request)
        i++;
    assert_int_equal(i == f->n_waiters && model_lock_holds(f, &op), r.lock.granted);
    if (i < f->n_waiters) {
        model_lock_leave(f, i);
        w->m.sub += model_lock_grant(f);
    }
    check_end(w, &r, STATUS_OK);
}

#endif
