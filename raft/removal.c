/* removal.c - what a compaction left behind goes on being removed while nothing else is to be applied.
 *
 * Each job of apply.c takes a few rows with it, which is enough as long as there are any. Without them the node itself
 * goes on: a slice, a pause, the next slice. The batches of both are the store's, one at a time: a slice is an apply
 * that is out. */
#include "raft/node_state.h"

#include <errno.h>

static void removal_run(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, removal.work);
    struct store_batch *b;
    int rc = store_batch_begin(n->removal.store, &b);

    if (rc == 0)
        rc = store_batch_compact(b, NODE_REMOVAL_ROWS, &n->removal.more);
    if (rc == 0)
        rc = store_batch_commit(b);
    else
        store_batch_abort(b);
    n->removal.rc = rc;
}

static void removal_done(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, removal.work);

    n->apply_out = false;
    n->removal.at_ms = node_now(n) + NODE_REMOVAL_PAUSE_MS;
    if (n->removal.rc < 0)
        n->removal.more = true;
    if (n->failed)
        return;
    if (n->removal.rc == -ENOSPC)
        node_disk_full(n, DISK_FULL_FOR_STORE);
    else if (n->removal.rc < 0)
        node_fail(n, n->removal.rc, "rows that a compaction took cannot be removed: %s", strerror(-n->removal.rc));
    node_advance(n);
}

void removal_pump(struct node *n)
{
    uint64_t now = node_now(n);

    if (n->apply_out || n->apply_held || n->failed || !n->removal.more || now < n->disk_full_ms || now < n->removal.at_ms)
        return;
    n->removal.store = n->store;
    n->removal.work.run = removal_run;
    n->removal.work.done = removal_done;
    n->apply_out = true;
    n->workers.submit(n->workers.ctx, WORK_APPLY, &n->removal.work);
}

uint64_t removal_timeout_ms(const struct node *n)
{
    if (n->apply_out || n->apply_held || !n->removal.more) /* the worker's while it is out */
        return UINT64_MAX;
    return n->removal.at_ms > n->disk_full_ms ? n->removal.at_ms : n->disk_full_ms;
}
