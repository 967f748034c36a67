/* Cluster-wide file locks, as POSIX's fcntl() and flock() have them.
 *
 * An owner is a number of a mount's lock session. Locks of one owner never conflict: a new one replaces what the owner had
 * there, is joined to what it touches, and cuts what it overlaps. Whoever asks to wait and cannot have it now is put
 * into the inode's queue; whenever something goes, the queue is gone through from its front, and who is not blocked
 * any more gets its lock, by a row of the log (EVENT_LOCK) in which its mount meets it in order with everything else.
 *
 * The queue is fair: who waits is not overtaken by a later waiter with whom it conflicts, so a writer comes to its turn
 * among readers. Two exceptions: a request that does not wait is asked only whether the locks that are held allow it
 * (what fcntl(F_SETLK) promises), and an owner is not stopped by who waits for a lock of its own.
 *
 * A POSIX lock that would wait, directly or by others, for its own owner is refused (DEADLOCK). flock() gives up its old
 * lock while it waits for another type, so two that upgrade do not wait for each other.
 *
 * The token counts all grants, so of two holders of a lock the later one has the higher: a fencing token. */
#include "store/lock.h"

#include <errno.h>

#include "store/lease.h"
#include "store/lock_table.h"

#define DEADLOCK_OWNERS_MAX 256 /* asked whom they wait for; beyond them no deadlock is seen */

/* ---- who gets it ---- */

static int tell_grant(struct apply *a, const struct lock_op *op, uint64_t token)
{
    uint8_t key[8];
    struct log_row row = {.value_rev = a->next};

    put_be64(key, op->session);
    row.event.kind = EVENT_LOCK;
    row.event.rev = a->next;
    row.event.lock = (struct lock_grant){op->ino, op->owner, op->request, token};
    return apply_append(a, &row, slice_make(key, sizeof(key)), slice_make(NULL, 0));
}

/* Goes through the queue until nobody in it can have what it waits for. */
static int grant_waiters(struct apply *a, struct lock_table *t)
{
    bool again = true;
    int rc = 0;

    while (again && rc == 0) {
        again = false;
        for (size_t i = 0; rc == 0 && i < t->n; i++) {
            const struct lock_item item = t->items[i];
            uint64_t token;
            size_t at = 0;

            if (item.gone || !item.op.wait || lock_table_blocker(t, &item.op, item.id, true, &at) != NULL)
                continue;
            lock_table_drop(t, &t->items[i]);
            token = ++a->snap->state.lock_serial;
            rc = lock_table_hold(t, &item.op, token);
            if (rc == 0)
                rc = tell_grant(a, &item.op, token);
            again = true;
        }
    }
    return rc;
}

static bool is_too_many(const struct lock_table *t)
{
    int64_t more;
    size_t n = lock_table_count(t, &more);

    return more > 0 && (n > LOCK_NODE_MAX || t->snap->state.lock_count + (uint64_t)more > LOCK_MAX);
}

/* ---- deadlocks ---- */

/* An inode's table, loaded once; of each item whether it was met in somebody's way. */
struct searched {
    struct searched *next;
    struct lock_table t;
    bool *met;
};

struct search {
    struct apply *a;
    const struct lock_op *start;
    struct searched *tables;
    struct lock_op owners[DEADLOCK_OWNERS_MAX]; /* in the way, each once */
    size_t n;
    bool found;
};

static void meet(struct search *s, const struct lock_op *op)
{
    if (lock_same_owner(op, s->start))
        s->found = true;
    for (size_t i = 0; i < s->n; i++)
        if (lock_same_owner(op, &s->owners[i]))
            return;
    if (s->n < DEADLOCK_OWNERS_MAX)
        s->owners[s->n++] = *op;
}

static void meet_blockers(struct search *s, struct searched *in, const struct lock_op *op, uint64_t id)
{
    struct lock_item *item;
    size_t at = 0;

    while (!s->found && s->n < DEADLOCK_OWNERS_MAX && (item = lock_table_blocker(&in->t, op, id, true, &at)) != NULL) {
        if (in->met[item - in->t.items])
            continue;
        in->met[item - in->t.items] = true;
        meet(s, &item->op);
    }
}

static int search_table(struct search *s, uint64_t ino, struct searched **ret_table)
{
    struct searched *in = s->tables;
    int rc;

    while (in != NULL && in->t.ino != ino)
        in = in->next;
    if (in == NULL) {
        in = arena_alloc(s->a->arena, sizeof(*in));
        if (in == NULL)
            return -ENOMEM;
        rc = lock_table_load(s->a->snap, ino, s->a->arena, &in->t);
        if (rc < 0)
            return rc;
        in->met = arena_array(s->a->arena, in->t.n, sizeof(bool));
        if (in->met == NULL)
            return -ENOMEM;
        memset(in->met, 0, in->t.n * sizeof(bool));
        in->next = s->tables;
        s->tables = in;
    }
    *ret_table = in;
    return 0;
}

static int look_at_item(void *ctx, uint64_t ino, uint64_t id)
{
    struct search *s = ctx;
    struct searched *in;
    size_t low = 0, high;
    int rc = search_table(s, ino, &in);

    if (rc < 0)
        return rc;
    for (high = in->t.n; low < high;) { /* they are in order of their ids */
        size_t middle = low + (high - low) / 2;

        if (in->t.items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == in->t.n || in->t.items[low].id != id)
        return -EUCLEAN;
    if (in->t.items[low].op.wait && in->t.items[low].op.kind == LOCK_POSIX)
        meet_blockers(s, in, &in->t.items[low].op, id);
    return s->found ? 1 : 0;
}

static int note_item(void *ctx, uint64_t ino, uint64_t id)
{
    *(bool *)ctx = true;
    return 1;
}

/* Would op, waiting there, wait for its own owner? For whom has nothing nobody waits. */
static int check_deadlock(struct apply *a, const struct lock_op *op, bool *ret_found)
{
    struct search *s;
    struct searched *in;
    bool has_any = false;
    int rc = lock_owner_items(a->snap, op, note_item, &has_any);

    *ret_found = false;
    if (rc < 0 || !has_any)
        return rc;
    s = arena_alloc(a->arena, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->a = a;
    s->start = op;
    s->tables = NULL;
    s->n = 0;
    s->found = false;
    rc = search_table(s, op->ino, &in);
    if (rc == 0)
        meet_blockers(s, in, op, UINT64_MAX);
    for (size_t i = 0; rc == 0 && !s->found && i < s->n; i++)
        rc = lock_owner_items(a->snap, &s->owners[i], look_at_item, s);
    *ret_found = s->found;
    return rc;
}

/* ---- commands ---- */

static bool is_request(const struct lock_item *item, const struct lock_op *op)
{
    return lock_same_owner(&item->op, op) && item->op.request == op->request;
}

static int enqueue(struct apply *a, struct lock_table *t, const struct lock_op *op, struct result *result)
{
    bool deadlock = false;
    int rc = 0;

    if (op->kind == LOCK_FLOCK)
        rc = lock_table_free(t, op); /* while it waits it holds nothing */
    else
        rc = check_deadlock(a, op, &deadlock);
    if (rc == 0 && deadlock)
        result->status = STATUS_DEADLOCK;
    return rc == 0 && !deadlock ? lock_table_add(t, op, 0) : rc;
}

static int lock(struct apply *a, struct lock_table *t, const struct lock_op *op, struct result *result)
{
    size_t at = 0;
    int rc = 0;

    for (size_t i = 0; i < t->n; i++)
        if (t->items[i].op.wait && is_request(&t->items[i], op))
            return 0; /* it waits already */
    if (lock_table_blocker(t, op, UINT64_MAX, op->wait, &at) == NULL) {
        result->lock.granted = true;
        result->lock.token = ++a->snap->state.lock_serial;
        rc = lock_table_hold(t, op, result->lock.token);
    } else if (op->wait) {
        rc = enqueue(a, t, op, result);
    } else {
        result->status = STATUS_WOULD_BLOCK;
    }
    return rc;
}

static int unlock(struct lock_table *t, const struct lock_op *op)
{
    if (!op->all)
        return lock_table_free(t, op);
    for (size_t i = 0; i < t->n; i++)
        if (lock_same_owner(&t->items[i].op, op))
            lock_table_drop(t, &t->items[i]);
    return 0;
}

/* Whether the owner holds what was asked for: its parts may have been granted by several requests. */
static bool is_held(const struct lock_table *t, const struct lock_op *op, uint64_t *ret_token)
{
    uint64_t at = op->start;
    bool moved = true;

    *ret_token = 0;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < t->n; i++) {
            const struct lock_item *item = &t->items[i];

            if (item->gone || item->op.wait || item->op.kind != op->kind || !lock_same_owner(&item->op, op) ||
                (item->op.type != op->type && item->op.type != LOCK_EXCLUSIVE) || item->op.start > at ||
                item->op.end < at)
                continue;
            *ret_token = item->token > *ret_token ? item->token : *ret_token;
            if (item->op.end >= op->end)
                return true;
            at = item->op.end + 1;
            moved = true;
        }
    }
    return false;
}

static void cancel(struct lock_table *t, const struct lock_op *op, struct result *result)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->items[i].op.wait && is_request(&t->items[i], op)) {
            lock_table_drop(t, &t->items[i]);
            return;
        }
    }
    result->lock.granted = is_held(t, op, &result->lock.token);
    if (!result->lock.granted)
        result->lock.token = 0;
}

static uint16_t check_op(uint16_t kind, struct lock_op *op)
{
    const bool all = kind == COMMAND_FILE_UNLOCK && op->all;

    if (op->ino == 0 || op->session == 0 || (!all && op->kind != LOCK_POSIX && op->kind != LOCK_FLOCK) ||
        (kind != COMMAND_FILE_UNLOCK && op->type != LOCK_SHARED && op->type != LOCK_EXCLUSIVE))
        return STATUS_INVALID_REQUEST;
    if (op->kind == LOCK_FLOCK) { /* the whole file */
        op->start = 0;
        op->end = UINT64_MAX;
    }
    return op->start <= op->end || all ? STATUS_OK : STATUS_INVALID_REQUEST;
}

int apply_lock(struct apply *a, struct result *result)
{
    const uint64_t serial = a->snap->state.lock_serial;
    struct lock_op op = a->cmd->lock;
    struct lock_table t;
    int rc = 0;

    result->status = check_op(a->cmd->kind, &op);
    if (result->status == STATUS_OK && a->cmd->kind == COMMAND_FILE_LOCK && op.lease != 0)
        rc = lease_check(a->snap, op.lease, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    rc = lock_table_load(a->snap, op.ino, a->arena, &t);
    if (rc < 0)
        return rc;
    if (a->cmd->kind == COMMAND_FILE_LOCK)
        rc = lock(a, &t, &op, result);
    else if (a->cmd->kind == COMMAND_FILE_UNLOCK)
        rc = unlock(&t, &op);
    else
        cancel(&t, &op, result);
    if (rc == 0 && result->status == STATUS_OK && is_too_many(&t))
        result->status = STATUS_TOO_MANY;
    if (result->status != STATUS_OK)
        a->snap->state.lock_serial = serial;
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    rc = grant_waiters(a, &t);
    return rc == 0 ? lock_table_save(&t, &a->b->scratch) : rc;
}

/* ---- the end of a lease ---- */

struct inode_list {
    struct arena *arena;
    uint64_t *inodes;
    size_t n, cap;
};

static int collect_inode(void *ctx, uint64_t ino, uint64_t id)
{
    struct inode_list *l = ctx;

    if (l->n == l->cap) {
        size_t cap = l->cap != 0 ? l->cap * 2 : 16;
        uint64_t *inodes = arena_array(l->arena, cap, sizeof(*inodes));

        if (inodes == NULL)
            return -ENOMEM;
        if (l->n > 0)
            memcpy(inodes, l->inodes, l->n * sizeof(*inodes));
        l->inodes = inodes;
        l->cap = cap;
    }
    l->inodes[l->n++] = ino;
    return 0;
}

int lock_release_lease(struct apply *a, int64_t lease)
{
    struct inode_list l = {.arena = a->arena};
    int rc = lock_lease_inodes(a->snap, lease, collect_inode, &l);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct lock_table t;

        rc = lock_table_load(a->snap, l.inodes[i], a->arena, &t);
        for (size_t j = 0; rc == 0 && j < t.n; j++)
            if (t.items[j].op.lease == lease)
                lock_table_drop(&t, &t.items[j]);
        if (rc == 0)
            rc = grant_waiters(a, &t);
        if (rc == 0)
            rc = lock_table_save(&t, &a->b->scratch);
    }
    return rc;
}

/* ---- reads ---- */

int store_lock_query(struct store_read *r, const struct lock_op *op, struct lock_op *ret_conflict, bool *ret_found)
{
    struct lock_op asked = *op;
    struct lock_item *item;
    struct lock_table t;
    struct arena arena;
    bool found = false;
    size_t at = 0;
    int rc;

    if (check_op(COMMAND_FILE_LOCK, &asked) != STATUS_OK)
        return -EINVAL;
    arena_init(&arena);
    rc = lock_table_load(&r->snap, asked.ino, &arena, &t);
    while (rc == 0 && (item = lock_table_blocker(&t, &asked, 0, false, &at)) != NULL) {
        if (!found || item->op.start < ret_conflict->start)
            *ret_conflict = item->op;
        found = true;
    }
    arena_fini(&arena);
    if (rc == 0)
        *ret_found = found;
    return rc;
}

struct lock_list {
    store_lock_fn emit;
    void *ctx;
};

static int emit_lock(void *ctx, const struct lock_item *item)
{
    struct lock_list *l = ctx;

    return l->emit(l->ctx, &item->op, item->token);
}

int store_locks(struct store_read *r, store_lock_fn emit, void *ctx)
{
    struct lock_list l = {emit, ctx};

    return lock_walk(&r->snap, 0, false, emit_lock, &l);
}
