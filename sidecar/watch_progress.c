/* watch_progress.c - what streams hear without an event: progress, asked for or periodic, and that there is no leader. */
#include "sidecar/watch.h"

/* ---- progress ---- */

/* Up to where every live watch has been served. */
static int64_t delivered(const struct feed *f)
{
    return f->live.at_touch < f->live.n_touches ? f->tail - 1 : f->tail;
}

static bool starts_later(const struct watch_stream *s, int64_t revision)
{
    if (s->max_start <= revision + 1)
        return false;
    for (size_t i = 0; i < s->ids_cap; i++)
        if (s->ids[i] != NULL && s->ids[i]->next > revision + 1)
            return true;
    return false;
}

void feed_answer_progress(struct feed *f)
{
    int64_t revision = delivered(f);

    LIST_FOREACH_SAFE(it, &f->progress)
    {
        struct watch_stream *s = LIST_ITEM(it, struct watch_stream, progress_link);

        if (s->n_lagging > 0 || revision < s->progress_rev || starts_later(s, revision))
            continue;
        list_remove(&s->progress_link);
        watch_send_progress(s, -1, revision);
    }
}

void feed_request_progress(struct feed *f, struct watch_stream *s, int64_t revision)
{
    s->progress_rev = revision;
    if (revision > f->revision)
        f->revision = revision; /* read before it was announced */
    list_remove(&s->progress_link);
    list_push_back(&f->progress, &s->progress_link);
    feed_kick(f);
}

/* etcd's periodic progress: for watches that asked for it, are up to date and had nothing since the last time. */
void feed_on_progress_timer(uv_timer_t *timer)
{
    struct feed *f = timer->data;
    int64_t revision = delivered(f);

    LIST_FOREACH_SAFE(it, &f->streams)
    {
        struct watch_stream *s = LIST_ITEM(it, struct watch_stream, link);

        if (s->n_progress_notify == 0)
            continue;
        for (size_t i = 0; i < s->ids_cap; i++) {
            struct watch *w = s->ids[i];

            if (w == NULL || !w->progress_notify)
                continue;
            if (!w->sent && w->state == WATCH_IS_LIVE && w->next <= revision + 1 && !feed_stream_full(s))
                watch_send_progress(s, w->id, revision);
            w->sent = false;
        }
    }
}

/* ---- metadata hasleader ---- */

static void on_no_leader(uv_timer_t *timer)
{
    struct feed *f = timer->data;

    keepalive_no_leader(f->app);
    LIST_FOREACH_SAFE(it, &f->streams)
    {
        struct watch_stream *s = LIST_ITEM(it, struct watch_stream, link);

        if (grpc_require_leader(s->call))
            grpc_finish_status(s->call, STATUS_NO_LEADER);
    }
}

void feed_on_leader(struct feed *f, uint64_t leader)
{
    if (leader != 0)
        uv_timer_stop(&f->leader_timer);
    else if (!f->closing && !uv_is_active((uv_handle_t *)&f->leader_timer))
        uv_timer_start(&f->leader_timer, on_no_leader, 3 * node_line_election_ms(f->app->line), 0);
}
