/* checkpoint.c - when a checkpoint is written, and what may be forgotten then.
 *
 * The order that matters: the file is durable under its name before checkpoints_made() trims the log, and the log never gives up
 * an entry behind the checkpoint's index. A node that loses its environment with the machine begins from that file and has
 * every later entry. Where a checkpoint cannot be written the log is not trimmed: it grows, which costs space alone. */
#include "raft/checkpoint.h"

#include <errno.h>
#include <stdlib.h>

int checkpoints_init(struct node *n)
{
    struct checkpoints *c = calloc(1, sizeof *c);

    if (c == NULL)
        return -ENOMEM;
    c->node = n;
    arena_init(&c->arena);
    list_init(&c->waiting);
    list_init(&c->running);
    n->checkpoints = c;
    return 0;
}

void checkpoints_fini(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    if (c == NULL)
        return;
    store_close(c->next);
    store_close(c->old);
    apply_job_free(c->job);
    arena_fini(&c->arena);
    free(c);
    n->checkpoints = NULL;
}

int checkpoints_start(struct node *n)
{
    struct checkpoints *c = n->checkpoints;
    int rc = checkpoint_latest(n->store_dir, &c->info);

    if (rc == -ENOENT)
        rc = 0; /* none */
    else if (rc == 0 && c->info.applied_index <= n->applied_index) {
        c->index = c->info.applied_index;
        c->bytes = c->info.bytes;
    }
    c->log_bytes = log_bytes_behind(n->log, c->index);
    c->log_entries = log_last_index(n->log) - c->index;
    return rc;
}

void checkpoints_replaced(struct node *n, uint64_t index, uint64_t bytes)
{
    struct checkpoints *c = n->checkpoints;

    c->index = index;
    c->bytes = bytes;
    c->log_bytes = c->log_entries = 0;
}

bool checkpoints_busy(const struct node *n)
{
    return n->checkpoints->phase != CP_IDLE;
}

void checkpoints_applied(struct node *n, uint64_t entries, uint64_t bytes)
{
    n->checkpoints->log_entries += entries;
    n->checkpoints->log_bytes += bytes + entries * 32; /* a record's head */
}

void checkpoints_status(const struct node *n, struct node_checkpoint_status *ret_status)
{
    const struct checkpoints *c = n->checkpoints;

    *ret_status = (struct node_checkpoint_status){
        .index = c->index,
        .bytes = c->bytes,
        .log_bytes = c->log_bytes,
        .made = c->made,
        .failed = c->failed,
        .error = c->error,
        .running = c->phase != CP_IDLE,
    };
}

/* ---- who asks ---- */

void checkpoints_request(struct node *n, struct node_maintain *m)
{
    list_push_back(&n->checkpoints->waiting, &m->link);
}

static void end_list(struct list *list, uint16_t status, uint64_t index, const char *path)
{
    struct list ended;

    list_init(&ended); /* done() may ask again */
    while (!list_empty(list)) {
        struct list *l = list->next;

        list_remove(l);
        list_push_back(&ended, l);
    }
    while (!list_empty(&ended)) {
        struct node_maintain *m = LIST_ITEM(ended.next, struct node_maintain, link);

        list_remove(&m->link);
        m->done(m, status, index, path);
    }
}

void checkpoints_end_running(struct node *n, uint16_t status)
{
    struct checkpoints *c = n->checkpoints;

    end_list(&c->running, status, status == STATUS_OK ? c->info.applied_index : 0,
             status == STATUS_OK ? c->info.path : "");
}

void checkpoints_end_requests(struct node *n, uint16_t status)
{
    if (n->checkpoints == NULL)
        return;
    end_list(&n->checkpoints->running, status, 0, "");
    end_list(&n->checkpoints->waiting, status, 0, "");
}

/* Takes what waits into the one that begins; a defragmentation answers those who wanted a checkpoint alone as well. */
static bool take_requests(struct checkpoints *c, bool *ret_defragment)
{
    size_t n = 0;

    *ret_defragment = false;
    while (!list_empty(&c->waiting)) {
        struct node_maintain *m = LIST_ITEM(c->waiting.next, struct node_maintain, link);

        list_remove(&m->link);
        list_push_back(&c->running, &m->link);
        *ret_defragment |= m->op == SOCKET_MAINTAIN_DEFRAGMENT;
        n++;
    }
    return n > 0;
}

/* ---- the work ---- */

static void write_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);

    arena_reset(&c->arena);
    c->membership = slice_make(NULL, 0);
    c->rc = checkpoint_write(c->node->store, &c->info);
    if (c->rc == 0)
        c->rc = checkpoint_membership(c->info.path, &c->arena, &c->membership);
}

static void work_done(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);
    struct node *n = c->node;

    c->out = false;
    if (n->failed)
        return;
    if (c->phase != CP_WRITING) {
        swap_step(n);
    } else {
        c->phase = CP_IDLE;
        if (c->rc == 0) {
            checkpoints_made(n);
            checkpoints_end_running(n, STATUS_OK);
        } else {
            checkpoints_failed(n, "the checkpoint cannot be written");
        }
    }
    node_advance(n);
}

void checkpoints_submit(struct node *n, enum checkpoint_phase phase, void (*run)(struct work *w))
{
    struct checkpoints *c = n->checkpoints;

    c->phase = phase;
    c->out = true;
    c->work.run = run;
    c->work.done = work_done;
    n->workers.submit(n->workers.ctx, WORK_CHECKPOINT, &c->work);
}

/* ---- what follows ---- */

static void trim(struct node *n)
{
    const struct checkpoints *c = n->checkpoints;
    uint64_t keep = n->config.catchup_entries, until;
    int rc;

    if (members_any_older(n))
        return; /* a member of the first version needs the entries: it takes no file */
    until = c->info.applied_index > keep ? c->info.applied_index - keep : 0;
    if (n->trim_hold_index != 0 && n->trim_hold_index < until)
        until = n->trim_hold_index;
    rc = log_trim(n->log, until);
    if (rc < 0) /* out of memory: the next one does it */
        return;
    n->may_tend = true;
    node_core_ok(n, core_trimmed(n->core, node_now(n), c->info.applied_index, c->info.membership_index, c->membership,
                                 log_first_index(n->log)));
}

void checkpoints_made(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    c->index = c->info.applied_index;
    c->bytes = c->info.bytes;
    c->log_bytes -= c->begun_log_bytes;
    c->log_entries -= c->begun_log_entries;
    c->made++;
    if (c->error != 0 && n->config.logger != NULL)
        log_info(n->config.logger, "a checkpoint as of entry %llu is written", (unsigned long long)c->index);
    c->error = 0;
    c->retry_ms = 0;
    trim(n);
}

void checkpoints_failed(struct node *n, const char *what)
{
    struct checkpoints *c = n->checkpoints;
    bool news = c->error != c->rc;
    uint16_t status = c->rc == -ENOSPC ? STATUS_DISK_FULL : c->rc == -ECANCELED ? STATUS_STOPPED : STATUS_CHECKPOINT_FAILED;

    if (c->rc == -EIO) { /* the disk is not to be relied on: what else it has lost nobody knows */
        node_fail(n, c->rc, "%s: the disk fails", what);
        return;
    }
    c->failed++;
    c->error = c->rc;
    c->retry_ms = node_now(n) + CHECKPOINT_RETRY_MS;
    if (news && c->rc != -ECANCELED && n->config.logger != NULL)
        log_error(n->config.logger, "%s: %s; the one before stays, and the log grows", what, strerror(-c->rc));
    checkpoints_end_running(n, status);
}

/* ---- when ---- */

static bool is_due(const struct node *n)
{
    const struct checkpoints *c = n->checkpoints;
    uint64_t limit = n->config.checkpoint_bytes != 0 ? n->config.checkpoint_bytes : CHECKPOINT_DEFAULT_BYTES;

    if (n->applied_index <= c->index || node_now(n) < c->retry_ms)
        return false;
    if (n->config.checkpoint_entries != 0 && c->log_entries > n->config.checkpoint_entries)
        return true;
    return c->log_bytes > limit && c->log_bytes > c->bytes;
}

uint64_t checkpoints_retry_ms(const struct node *n)
{
    const struct checkpoints *c = n->checkpoints;

    return c->phase == CP_IDLE && c->retry_ms > node_now(n) ? c->retry_ms : UINT64_MAX;
}

static void begin(struct node *n, bool defragment)
{
    struct checkpoints *c = n->checkpoints;

    c->begun_log_bytes = c->log_bytes;
    c->begun_log_entries = c->log_entries;
    if (defragment)
        swap_begin(n);
    else
        checkpoints_submit(n, CP_WRITING, write_run);
}

void checkpoints_pump(struct node *n)
{
    struct checkpoints *c = n->checkpoints;
    bool defragment;

    if (c->out || snapshots_busy(n))
        return;
    if (c->phase != CP_IDLE) {
        swap_step(n); /* it waits for applies to come to rest */
        return;
    }
    if (c->stopping)
        end_list(&c->waiting, STATUS_STOPPED, 0, "");
    else if (take_requests(c, &defragment) || is_due(n))
        begin(n, defragment);
}

void node_prepare_stop(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    if (n->failed || !n->started || c->stopping)
        return;
    if (c->phase == CP_IDLE && n->applied_index > c->index)
        begin(n, false);
    c->stopping = true;
}

void node_checkpoint_cancel(struct node *n)
{
    checkpoint_cancel(n->store);
}
