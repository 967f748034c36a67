/* watch_feed.c - events from the log's end to live watches, in bounded turns; falling behind; progress.
 * The states and invariants stand in watch.h. */
#include "sidecar/watch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

/* ---- states ---- */

static bool is_lagging(const struct watch *w)
{
    return w->state != WATCH_IS_LIVE;
}

static void set_state(struct feed *f, struct watch *w, enum watch_state state)
{
    bool was = is_lagging(w);

    w->state = (uint8_t)state;
    if (was == is_lagging(w))
        return;
    if (was) {
        f->n_live++;
        f->counters.lagging--;
        if (w->stream != NULL)
            w->stream->n_lagging--;
    } else {
        f->n_live--;
        f->counters.lagging++;
        w->stream->n_lagging++;
    }
}

/* Off every list; the caller puts it on another. */
static void unlink_watch(struct watch *w)
{
    list_remove(&w->link);
    list_remove(&w->sweep_link);
}

static void queue_catch_up(struct feed *f, struct watch *w)
{
    unlink_watch(w);
    if (w->group->is_range) {
        set_state(f, w, WATCH_IS_SWEEP_WAIT);
        list_push_back(&f->sweep_wait, &w->link);
    } else {
        set_state(f, w, WATCH_IS_KEY_WAIT);
        list_push_back(&f->key_wait, &w->link);
    }
}

void feed_go_live(struct feed *f, struct watch *w, int64_t next)
{
    if (next > w->next)
        w->next = next;
    if (w->next <= f->tail) { /* the log went on meanwhile: read once more */
        queue_catch_up(f, w);
        return;
    }
    unlink_watch(w);
    set_state(f, w, WATCH_IS_LIVE);
    list_push_back(&w->group->members[WATCH_LIVE], &w->link);
}

static size_t stream_limit(const struct watch_stream *s)
{
    return grpc_server_counters(s->feed->app->grpc)->output_bytes > SERVER_WATCH_BUFFER_BYTES ? STREAM_BUFFER_MIN_BYTES
                                                                                             : STREAM_BUFFER_BYTES;
}

bool feed_stream_full(const struct watch_stream *s)
{
    return grpc_queued(s->call) >= stream_limit(s);
}

void feed_fall_behind(struct feed *f, struct watch *w, int64_t next)
{
    struct watch_stream *s = w->stream;

    w->next = next;
    f->counters.fell_behind++;
    unlink_watch(w);
    set_state(f, w, WATCH_IS_BEHIND);
    if (list_empty(&s->behind))
        grpc_want_drained(s->call, stream_limit(s) / 2);
    list_push_back(&s->behind, &w->link);
}

void feed_stream_drained(struct feed *f, struct watch_stream *s)
{
    while (!list_empty(&s->behind))
        queue_catch_up(f, LIST_ITEM(s->behind.next, struct watch, link));
    feed_kick(f);
}

void feed_place(struct feed *f, struct watch *w)
{
    list_init(&w->link);
    list_init(&w->sweep_link);
    f->counters.watches++;
    w->group->n_prev_kv += w->prev_kv;
    if (f->n_live == 0 && !delivery_busy(&f->live) && f->revision > f->tail)
        f->tail = f->revision; /* nobody was waiting for what is between */
    w->state = WATCH_IS_LIVE;
    f->n_live++;
    if (w->next > f->tail)
        list_push_back(&w->group->members[WATCH_LIVE], &w->link);
    else
        queue_catch_up(f, w);
    f->job_failed = false;
    feed_kick(f);
}

void feed_remove(struct feed *f, struct watch *w)
{
    struct delivery *d = w->state == WATCH_IS_SWEEP ? &f->swept : &f->live;

    if (w->touched != 0) {
        d->touches[w->touched - 1].watch = NULL;
        w->touched = 0;
    }
    if (w->stream != NULL) {
        f->counters.watches--;
        w->group->n_prev_kv -= w->prev_kv;
        if (is_lagging(w)) {
            w->stream->n_lagging--;
            f->counters.lagging--;
        } else {
            f->n_live--;
        }
        w->stream = NULL;
    }
    unlink_watch(w);
    if (w->state == WATCH_IS_KEY_JOB)
        return; /* the job frees it */
    watch_index_unref(&f->index, w->group);
    free(w);
}

/* ---- sending ---- */

bool feed_filtered(const struct watch *w, const struct slice_event *e)
{
    return (w->filters & (e->is_delete ? WATCH_NODELETE : WATCH_NOPUT)) != 0;
}

static struct body *body_for(const struct watch *w, const struct slice_event *e)
{
    return w->prev_kv && e->with_prev != NULL ? e->with_prev : e->plain;
}

/* How many of the events go into one message: all, or for a watch that asked for fragments as many as fit. */
static size_t fit(const struct watch *w, const struct slice_event *const *events, size_t n)
{
    size_t bytes = 64, i;

    if (!w->fragment)
        return n;
    for (i = 0; i < n; i++) {
        bytes += body_for(w, events[i])->len;
        if (i > 0 && bytes >= GRPC_MESSAGE_MAX_BYTES)
            break;
    }
    return i;
}

void feed_send_events(struct feed *f, struct watch *w, int64_t revision, const struct slice_event *const *events, size_t n)
{
    struct watch_stream *s = w->stream;
    struct watch_head h = {.header = node_line_header(f->app->line, revision), .watch_id = w->id};

    if (feed_stream_full(s)) {
        feed_fall_behind(f, w, revision);
        return;
    }
    if (s->sink != NULL) {
        w->next = revision + 1;
        s->sink->events(s->sink_ctx, revision, events, n);
        return;
    }
    while (n > 0) {
        size_t count = fit(w, events, n);
        struct grpc_out *out;

        h.fragment = count < n;
        out = watch_head_out(&h, count);
        if (out == NULL) {
            /* Unread fragments of this revision cannot be taken back; without any, it is read again later. */
            feed_fall_behind(f, w, revision);
            return;
        }
        for (size_t i = 0; i < count; i++)
            out->bodies[i] = body_ref(body_for(w, events[i]));
        grpc_send(s->call, out);
        f->counters.messages_sent++;
        f->counters.events_sent += count;
        events += count;
        n -= count;
    }
    w->next = revision + 1;
    w->sent = true;
}

/* ---- delivering a slice ---- */

static int touch(struct delivery *d, struct watch *w, uint32_t event)
{
    struct touch *t;

    if (d->n_touches == d->touches_cap) {
        size_t cap = d->touches_cap != 0 ? d->touches_cap * 2 : 256;
        struct touch *touches = cap < UINT32_MAX ? realloc(d->touches, cap * sizeof *touches) : NULL;

        if (touches == NULL)
            return -ENOMEM;
        d->touches = touches;
        d->touches_cap = cap;
    }
    t = &d->touches[d->n_touches++];
    *t = (struct touch){.event = event};
    if (w->touched == 0) {
        t->watch = w;
        w->touched = t->last = (uint32_t)d->n_touches;
    } else {
        struct touch *first = &d->touches[w->touched - 1];

        d->touches[first->last - 1].next = (uint32_t)d->n_touches;
        first->last = (uint32_t)d->n_touches;
    }
    return 0;
}

struct matching {
    struct feed *feed;
    struct delivery *d;
    uint32_t event;
};

static void on_match(void *ctx, struct watch_group *g)
{
    struct matching *m = ctx;
    const struct slice_event *e = &m->d->slice.events[m->event];

    LIST_FOREACH_SAFE(it, &g->members[m->d->role])
    {
        struct watch *w = LIST_ITEM(it, struct watch, link);

        if (w->next > e->revision || feed_filtered(w, e))
            continue;
        if (touch(m->d, w, m->event) < 0) {
            if (w->touched != 0)
                m->d->touches[w->touched - 1].watch = NULL;
            w->touched = 0;
            feed_fall_behind(m->feed, w, e->revision); /* keeps its cursor; no event is lost */
        }
    }
}

/* All watches of the next revision in the slice. */
static void collect(struct feed *f, struct delivery *d)
{
    struct watch_slice *s = &d->slice;

    d->n_touches = d->at_touch = 0;
    d->revision = s->events[d->at_event].revision;
    while (d->at_event < s->n_events && s->events[d->at_event].revision == d->revision) {
        struct matching m = {f, d, (uint32_t)d->at_event};

        watch_index_match(&f->index, s->events[d->at_event].key, on_match, &m);
        d->at_event++;
    }
    if (d->role == WATCH_LIVE)
        f->tail = d->revision;
}

static void deliver_one(struct feed *f, struct delivery *d, struct touch *t)
{
    const struct slice_event *few[16], **events = few;
    struct watch *w = t->watch;
    size_t n = 0, count = 1;

    for (uint32_t at = t->next; at != 0; at = d->touches[at - 1].next)
        count++;
    w->touched = 0;
    if (count > sizeof few / sizeof few[0])
        events = malloc(count * sizeof *events);
    if (events == NULL) {
        feed_fall_behind(f, w, d->revision);
        return;
    }
    events[n++] = &d->slice.events[t->event];
    for (uint32_t at = t->next; at != 0; at = d->touches[at - 1].next)
        events[n++] = &d->slice.events[d->touches[at - 1].event];
    feed_send_events(f, w, d->revision, events, n);
    if (events != few)
        free(events);
}

bool delivery_busy(const struct delivery *d)
{
    return d->at_touch < d->n_touches || d->at_event < d->slice.n_events;
}

void feed_deliver(struct feed *f, struct delivery *d, unsigned *budget)
{
    while (*budget > 0 && delivery_busy(d)) {
        if (d->at_touch < d->n_touches) {
            struct touch *t = &d->touches[d->at_touch++];

            if (t->watch != NULL) {
                --*budget;
                deliver_one(f, d, t);
            }
        } else {
            collect(f, d);
        }
    }
    if (!delivery_busy(d) && d->touches_cap > 65536) { /* one event to 100,000 watches */
        free(d->touches);
        d->touches = NULL;
        d->touches_cap = d->n_touches = d->at_touch = 0;
    }
}

/* ---- the live tail ---- */

static void on_want(void *ctx, struct watch_group *g)
{
    unsigned *want = ctx;

    if (!list_empty(&g->members[WATCH_LIVE]))
        *want |= SLICE_PLAIN | (g->n_prev_kv > 0 ? SLICE_PREV : 0);
}

static unsigned wanted_live(void *ctx, struct slice key, bool is_delete)
{
    struct feed *f = ctx;
    unsigned want = SLICE_SKIP;

    watch_index_match(&f->index, key, on_want, &want);
    return want;
}

/* The log behind the tail has been compacted away: whoever was to get it is told. */
static void cancel_live(struct feed *f, int64_t compacted)
{
    struct list doomed;

    list_init(&doomed);
    LIST_FOREACH(it, &f->streams)
    {
        struct watch_stream *s = LIST_ITEM(it, struct watch_stream, link);

        for (size_t i = 0; i < s->ids_cap; i++)
            if (s->ids[i] != NULL && s->ids[i]->state == WATCH_IS_LIVE && s->ids[i]->next < compacted)
                list_push_back(&doomed, &s->ids[i]->sweep_link);
    }
    f->tail = compacted - 1;
    while (!list_empty(&doomed)) {
        struct watch *w = LIST_ITEM(doomed.next, struct watch, sweep_link);

        list_remove(&w->sweep_link);
        watch_cancel_compacted(w, compacted);
    }
}

/* The next slice behind the tail; false: there is none now. */
static bool read_live(struct feed *f)
{
    struct store_read *r;
    int rc;

    if (f->tail >= f->revision)
        return false;
    if (f->n_live == 0) {
        f->tail = f->revision;
        return false;
    }
    r = node_line_read(f->app->line);
    if (r == NULL || store_read_revision(r) <= f->tail)
        return false;
    rc = watch_slice_read(r, f->tail + 1, wanted_live, f, &f->live.slice);
    if (rc < 0) {
        log_error(&f->app->log, "reading the log from revision %lld: %s", (long long)f->tail + 1, strerror(-rc));
        feed_job_failed(f);
        return false;
    }
    f->counters.slices_live++;
    f->live.at_event = f->live.n_touches = f->live.at_touch = 0;
    if (f->live.slice.compacted > 0)
        cancel_live(f, f->live.slice.compacted);
    else if (f->live.slice.n_events == 0)
        f->tail = f->live.slice.next - 1;
    return true;
}

static void live_turn(struct feed *f, unsigned *budget)
{
    unsigned slices = 4; /* also bounds what is skipped without a message */

    while (*budget > 0 && slices-- > 0) {
        if (delivery_busy(&f->live)) {
            feed_deliver(f, &f->live, budget);
            if (!delivery_busy(&f->live) && f->live.slice.next - 1 > f->tail)
                f->tail = f->live.slice.next - 1;
        } else if (!read_live(f)) {
            break;
        }
    }
}

/* ---- turns ---- */

static bool work_left(const struct feed *f)
{
    return delivery_busy(&f->live) || (f->tail < f->revision && f->n_live > 0) || feed_jobs_ready(f);
}

static void on_work(uv_idle_t *idle)
{
    struct feed *f = idle->data;
    unsigned budget = FEED_TURN_EVENTS / 2, rest = FEED_TURN_EVENTS / 2;
    int64_t tail = f->tail;
    size_t events = f->live.at_event, touches = f->live.at_touch;

    grpc_server_send(f->app->grpc); /* what calls have asked and are told does not wait for a fan-out */
    live_turn(f, &budget);
    feed_jobs_turn(f, &rest);
    if (!list_empty(&f->progress))
        feed_answer_progress(f);
    /* Without a store or with an unreadable log nothing moves: the next notice wakes us. */
    if (!work_left(f) ||
        (!feed_jobs_ready(f) && tail == f->tail && events == f->live.at_event && touches == f->live.at_touch))
        uv_idle_stop(&f->work);
}

void feed_kick(struct feed *f)
{
    if (!f->closing)
        uv_idle_start(&f->work, on_work);
}

static void on_retry(uv_timer_t *timer)
{
    struct feed *f = timer->data;

    f->job_failed = false;
    feed_kick(f);
}

void feed_job_failed(struct feed *f)
{
    f->job_failed = true;
    if (!f->closing)
        uv_timer_start(&f->retry_timer, on_retry, FEED_RETRY_MS, 0);
}

void feed_on_revision(struct feed *f, int64_t revision)
{
    if (revision > f->revision)
        f->revision = revision;
    f->job_failed = false;
    if (f->counters.watches == 0 && !delivery_busy(&f->live))
        f->tail = f->revision;
    else
        feed_kick(f);
}

/* ---- life ---- */

int feed_new(struct app *app, uint64_t progress_interval_ms, struct feed **ret_feed)
{
    struct feed *f = calloc(1, sizeof *f);
    uint64_t seed = 0;

    if (f == NULL)
        return -ENOMEM;
    if (getrandom(&seed, sizeof seed, 0) < 0)
        seed = (uint64_t)(uintptr_t)f ^ uv_hrtime();
    f->app = app;
    watch_index_init(&f->index, seed);
    list_init(&f->streams);
    list_init(&f->progress);
    list_init(&f->key_wait);
    list_init(&f->sweep_wait);
    list_init(&f->sweep);
    f->live.role = WATCH_LIVE;
    f->swept.role = WATCH_SWEEP;
    watch_slice_init(&f->live.slice);
    watch_slice_init(&f->swept.slice);
    uv_idle_init(app->loop, &f->work);
    uv_timer_init(app->loop, &f->progress_timer);
    uv_timer_init(app->loop, &f->leader_timer);
    uv_timer_init(app->loop, &f->retry_timer);
    f->work.data = f->progress_timer.data = f->leader_timer.data = f->retry_timer.data = f;
    f->handles = 4;
    uv_timer_start(&f->progress_timer, feed_on_progress_timer, progress_interval_ms, progress_interval_ms);
    *ret_feed = f;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    ((struct feed *)handle->data)->handles--;
}

void feed_close(struct feed *f)
{
    f->closing = true;
    uv_close((uv_handle_t *)&f->work, on_handle_closed);
    uv_close((uv_handle_t *)&f->progress_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->leader_timer, on_handle_closed);
    uv_close((uv_handle_t *)&f->retry_timer, on_handle_closed);
}

void feed_free(struct feed *f)
{
    if (f == NULL)
        return;
    assert(f->handles == 0 && !f->job_busy && list_empty(&f->streams));
    watch_slice_fini(&f->live.slice);
    watch_slice_fini(&f->swept.slice);
    free(f->live.touches);
    free(f->swept.touches);
    watch_index_fini(&f->index);
    free(f);
}

const struct feed_counters *feed_counters(const struct feed *f)
{
    return &f->counters;
}
