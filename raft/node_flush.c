/* node_flush.c - makes the log durable: one flush at a time, of all that waits; in line when little does. */
#include "raft/node_state.h"

#include <errno.h>

static void flush_run(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, flush);

    n->flush_rc = log_flush(n->log, &n->flush_synced);
}

static void flush_finish(struct node *n)
{
    uint64_t synced;

    n->flush_out = false;
    n->flush_took_ms = node_now(n) - n->flush_began_ms;
    if (n->failed)
        return;
    if (n->flush_rc == -ENOSPC) { /* all of it waits again */
        n->unflushed_bytes += n->flushing_bytes;
        n->flushing_bytes = 0;
        node_disk_full(n, DISK_FULL_FOR_LOG);
        return;
    }
    if (n->flush_rc < 0) {
        node_fail(n, n->flush_rc, "the log cannot be written: %s", strerror(-n->flush_rc));
        return;
    }
    n->flushing_bytes = 0;
    n->may_tend = true;
    node_disk_room(n, DISK_FULL_FOR_LOG);
    synced = log_flushed(n->log, n->flush_synced);
    node_core_ok(n, core_persisted(n->core, node_now(n), synced));
}

static void flush_done(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, flush);

    flush_finish(n);
    node_advance(n);
}

static void tend_run(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, tend);

    n->tend_rc = log_tend(n->log);
}

static void tend_done(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct node, tend);

    n->tend_out = false;
    if (n->tend_rc == -EIO && !n->failed)
        node_fail(n, n->tend_rc, "the log cannot be written: %s", strerror(-n->tend_rc));
    node_advance(n);
}

/* Zeroes space ahead while nobody waits, so that a flush need not. */
static void tend(struct node *n)
{
    if (!n->may_tend || !n->workers.idle(n->workers.ctx, WORK_LOG) || !log_wants_tending(n->log))
        return;
    n->may_tend = false;
    n->tend_out = true;
    n->tend.run = tend_run;
    n->tend.done = tend_done;
    n->workers.submit(n->workers.ctx, WORK_LOG, &n->tend);
}

bool node_flush_pump(struct node *n)
{
    bool in_line;

    if (n->flush_out || n->tend_out || n->failed || node_now(n) < n->disk_full_ms)
        return false;
    if (!log_pending(n->log)) {
        tend(n);
        return false;
    }
    /* A thread hop costs a lone client more than the loop loses, as long as the disk is quick. */
    in_line = n->unflushed_bytes <= NODE_INLINE_BYTES && n->flush_took_ms <= NODE_INLINE_MS &&
              n->proposals.count <= 1 && log_last_index(n->log) - core_commit(n->core) <= NODE_INLINE_ENTRIES &&
              n->workers.idle(n->workers.ctx, WORK_LOG);
    n->flushing_bytes = n->unflushed_bytes;
    n->unflushed_bytes = 0;
    n->flush_out = true;
    n->flush_began_ms = node_now(n);
    n->flush.run = flush_run;
    n->flush.done = flush_done;
    if (!in_line) {
        n->workers.submit(n->workers.ctx, WORK_LOG, &n->flush);
        return false;
    }
    n->network.push_out(n->network.ctx); /* the others write at the same time */
    flush_run(&n->flush);
    flush_finish(n);
    return true;
}
