/* watch_jobs.c - those that lag catch up: single keys along their chain, ranges by one shared sweep over the log.
 *
 * One job is under way at a time, in a worker thread, since reading old rows may wait for the disk. The sweep goes up
 * through the log from the smallest cursor of those on it; a range that lags joins as soon as its cursor is not behind
 * the sweep, at the latest when the sweep has reached the end and begins anew. So one pass serves them all. */
#include "sidecar/watch.h"

#include <errno.h>
#include <stdlib.h>

#define KEY_JOB_BYTES (4u * 1024 * 1024)

struct key_item {
    struct watch *watch;
    struct slice key; /* the group's, which lives as long as the watch */
    int64_t from;
    bool prev_kv;
    int rc; /* 1: not read, the job was full */
    struct watch_slice slice;
};

struct job {
    uv_work_t work;
    struct feed *feed;
    struct store_lease *lease;
    int64_t tail; /* the feed's when the job began: its snapshot must hold that */
    int rc;
    /* of the sweep */
    int64_t from;
    struct watch_slice slice;
    /* of keys */
    size_t n_items;
    struct key_item items[];
};

/* ---- in the worker ---- */

static void read_keys(struct job *j, struct store_read *r)
{
    size_t bytes = 0;

    for (size_t i = 0; i < j->n_items; i++) {
        struct key_item *item = &j->items[i];

        if (bytes >= KEY_JOB_BYTES) {
            item->rc = 1;
            continue;
        }
        item->rc = watch_slice_read_key(r, item->key, item->from, item->prev_kv, KEY_JOB_BYTES - bytes, &item->slice);
        bytes += item->slice.bytes;
    }
}

static void job_work(uv_work_t *work)
{
    struct job *j = work->data;
    struct store_read *r;

    j->rc = store_read_begin(store_lease_store(j->lease), &r);
    if (j->rc < 0)
        return;
    if (j->n_items > 0)
        read_keys(j, r);
    else
        j->rc = watch_slice_read(r, j->from, NULL, NULL, &j->slice);
    store_read_end(r);
}

/* ---- keys ---- */

static void key_done(struct feed *f, struct key_item *item)
{
    struct watch_slice *s = &item->slice;
    struct watch *w = item->watch;

    if (w->stream == NULL) { /* cancelled meanwhile */
        watch_index_unref(&f->index, w->group);
        free(w);
        return;
    }
    if (s->compacted > 0) {
        w->state = WATCH_IS_KEY_WAIT; /* so that removing it frees it */
        watch_cancel_compacted(w, s->compacted);
        return;
    }
    for (size_t i = 0; item->rc == 0 && i < s->n_events && w->state == WATCH_IS_KEY_JOB; i++) {
        const struct slice_event *e = &s->events[i];

        if (e->revision >= w->next && !feed_filtered(w, e))
            feed_send_events(f, w, e->revision, &e, 1);
    }
    if (w->state != WATCH_IS_KEY_JOB)
        return; /* it has fallen behind again */
    if (item->rc != 0 || s->more) {
        if (item->rc == 0 && s->next > w->next)
            w->next = s->next;
        w->state = WATCH_IS_KEY_WAIT;
        list_push_back(&f->key_wait, &w->link);
    } else {
        feed_go_live(f, w, s->next);
    }
}

static void keys_done(struct feed *f, struct job *j)
{
    for (size_t i = 0; i < j->n_items; i++) {
        struct key_item *item = &j->items[i];

        if (j->rc < 0 || item->rc < 0)
            feed_job_failed(f);
        if (j->rc < 0)
            item->rc = j->rc;
        else if (item->rc == 0 && item->slice.snapshot < j->tail)
            feed_job_failed(f); /* a store that is behind what we had seen: wait for its next notice */
        key_done(f, item);
        watch_slice_fini(&item->slice);
    }
    f->counters.key_jobs++;
}

/* ---- the sweep ---- */

static void join_sweep(struct feed *f)
{
    if (list_empty(&f->sweep)) {
        f->sweep_pos = INT64_MAX;
        LIST_FOREACH(it, &f->sweep_wait)
        {
            struct watch *w = LIST_ITEM(it, struct watch, link);

            if (w->next < f->sweep_pos)
                f->sweep_pos = w->next;
        }
    }
    LIST_FOREACH_SAFE(it, &f->sweep_wait)
    {
        struct watch *w = LIST_ITEM(it, struct watch, link);

        if (w->next < f->sweep_pos)
            continue;
        list_remove(&w->link);
        w->state = WATCH_IS_SWEEP;
        list_push_back(&w->group->members[WATCH_SWEEP], &w->link);
        list_push_back(&f->sweep, &w->sweep_link);
    }
}

/* The sweep has come to the end of its snapshot. */
static void end_sweep(struct feed *f, int64_t snapshot)
{
    struct list all;

    list_init(&all);
    while (!list_empty(&f->sweep)) {
        struct list *it = f->sweep.next;

        list_remove(it);
        list_push_back(&all, it);
    }
    while (!list_empty(&all))
        feed_go_live(f, LIST_ITEM(all.next, struct watch, sweep_link), snapshot + 1);
}

static void cancel_sweep(struct feed *f, int64_t compacted)
{
    struct list doomed;

    list_init(&doomed);
    LIST_FOREACH_SAFE(it, &f->sweep)
    {
        struct watch *w = LIST_ITEM(it, struct watch, sweep_link);

        if (w->next < compacted) {
            list_remove(&w->sweep_link);
            list_push_back(&doomed, &w->sweep_link);
        }
    }
    while (!list_empty(&doomed))
        watch_cancel_compacted(LIST_ITEM(doomed.next, struct watch, sweep_link), compacted);
    f->sweep_pos = compacted; /* what was changed at that very revision is kept */
}

static void sweep_done(struct feed *f, struct job *j)
{
    f->counters.slices_sweep++;
    if (j->rc < 0) {
        feed_job_failed(f);
    } else if (j->slice.compacted > 0) {
        cancel_sweep(f, j->slice.compacted);
    } else {
        struct watch_slice empty = f->swept.slice;

        if (!j->slice.more && j->slice.snapshot < j->tail)
            feed_job_failed(f); /* as with keys */

        f->swept.slice = j->slice;
        j->slice = empty;
        f->swept.at_event = f->swept.n_touches = f->swept.at_touch = 0;
        f->sweep_delivering = true;
    }
}

static void sweep_turn(struct feed *f, unsigned *budget)
{
    struct watch_slice *s = &f->swept.slice;

    feed_deliver(f, &f->swept, budget);
    if (delivery_busy(&f->swept))
        return;
    f->sweep_delivering = false;
    f->sweep_pos = s->next;
    if (!s->more)
        end_sweep(f, s->snapshot);
    watch_slice_reset(s);
}

/* ---- jobs ---- */

static void job_done(uv_work_t *work, int status)
{
    struct job *j = work->data;
    struct feed *f = j->feed;

    f->job_busy = false;
    node_line_release(f->app->line, j->lease);
    if (j->rc < 0)
        log_error(&f->app->log, "reading the log for watches that lag: %s", strerror(-j->rc));
    if (j->n_items > 0)
        keys_done(f, j);
    else
        sweep_done(f, j);
    watch_slice_fini(&j->slice);
    free(j);
    feed_kick(f);
}

static bool keys_waiting(const struct feed *f)
{
    return !list_empty(&f->key_wait);
}

static bool ranges_waiting(const struct feed *f)
{
    return !list_empty(&f->sweep) || !list_empty(&f->sweep_wait);
}

static void take_keys(struct feed *f, struct job *j)
{
    while (!list_empty(&f->key_wait) && j->n_items < FEED_KEYS_PER_JOB) {
        struct watch *w = LIST_ITEM(f->key_wait.next, struct watch, link);
        struct key_item *item = &j->items[j->n_items++];

        list_remove(&w->link);
        w->state = WATCH_IS_KEY_JOB;
        *item = (struct key_item){.watch = w, .key = w->group->key, .from = w->next, .prev_kv = w->prev_kv};
        watch_slice_init(&item->slice);
    }
}

static void start_job(struct feed *f)
{
    bool keys = keys_waiting(f) && (!ranges_waiting(f) || !f->last_was_keys);
    struct job *j = calloc(1, sizeof *j + (keys ? FEED_KEYS_PER_JOB * sizeof j->items[0] : 0));

    if (j == NULL || (j->lease = node_line_lease(f->app->line)) == NULL) {
        free(j);
        feed_job_failed(f);
        return;
    }
    j->work.data = j;
    j->feed = f;
    j->tail = f->tail;
    watch_slice_init(&j->slice);
    if (keys) {
        take_keys(f, j);
    } else {
        join_sweep(f);
        j->from = f->sweep_pos;
    }
    f->last_was_keys = keys;
    f->job_busy = true;
    uv_queue_work(f->app->loop, &j->work, job_work, job_done);
}

bool feed_jobs_ready(const struct feed *f)
{
    if (f->sweep_delivering)
        return true;
    return !f->job_busy && !f->job_failed && !f->closing && (keys_waiting(f) || ranges_waiting(f));
}

void feed_jobs_turn(struct feed *f, unsigned *budget)
{
    if (f->sweep_delivering)
        sweep_turn(f, budget);
    if (!f->sweep_delivering && feed_jobs_ready(f))
        start_job(f);
}
