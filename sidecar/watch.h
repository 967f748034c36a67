/* watch.h - inside of the watch service: streams, watches and the feed that serves them.
 *
 * Process: quorumfs-grpc; for the files watch*.c, and feed_* for main and metrics.
 * Thread:  the loop's; jobs read in a worker thread and touch nothing but themselves.
 * Errors:  negative errno at start-up; later trouble makes a watch fall behind, never lose an event.
 * Memory:  a stream owns its watches; a watch that a job works for outlives its stream until the job is done.
 * Units:   revisions; milliseconds.
 *
 * A watch has a cursor, `next`: it has got everything of its range below it, and nothing from it on. It is
 *
 *   LIVE        has missed nothing up to the feed's tail: events that the tail passes are handed to it. Its real
 *               cursor is max(next, tail + 1).
 *   BEHIND      its stream was full when an event came; waits for the stream to drain.
 *   KEY_WAIT    a single key to be read along its chain, KEY_JOB: by a worker just now.
 *   SWEEP_WAIT  a range that waits for the sweep to come by, SWEEP: it is on it.
 *
 *   create: next > tail -> LIVE, else KEY_WAIT or SWEEP_WAIT
 *   LIVE, SWEEP, KEY_JOB -> BEHIND  fall_behind(), an event met a full stream
 *   BEHIND -> KEY_WAIT, SWEEP_WAIT  feed_stream_drained()
 *   KEY_JOB, SWEEP -> LIVE          go_live(), the snapshot that was read to its end is not older than the tail
 *
 * Invariants:
 *  1. No queue holds events but a stream's output, which has a limit. Everything else is cursors.
 *  2. The tail moves past a revision when its watchers have been collected (`touches`); all of a revision's events go to
 *     a watcher in one message (or fragments of one).
 *  3. Turns are bounded: FEED_TURN_EVENTS messages, slices of the log as limits.h has them. */
#ifndef SIDECAR_WATCH_H
#define SIDECAR_WATCH_H

#include "sidecar/app.h"
#include "sidecar/watch_index.h"
#include "sidecar/watch_slice.h"

enum watch_state {
    WATCH_IS_LIVE,
    WATCH_IS_BEHIND,
    WATCH_IS_KEY_WAIT,
    WATCH_IS_KEY_JOB,
    WATCH_IS_SWEEP_WAIT,
    WATCH_IS_SWEEP,
};

enum watch_filter { WATCH_NOPUT = 1, WATCH_NODELETE = 2 };

struct watch_stream;

struct watch {
    struct list link;       /* by state: group's members, stream's behind, feed's waiting lists */
    struct list sweep_link; /* feed's sweep, while SWEEP */
    struct watch_group *group;
    struct watch_stream *stream; /* NULL: cancelled while a job worked for it */
    int64_t id, next;
    uint32_t touched; /* 1 + its place in the delivery's touches; 0: none */
    uint8_t state, filters;
    bool prev_kv, fragment, progress_notify, sent;
};

/* Where the events of a stream go that is not a client's of Watch: v3lock and v3election wait by it. Neither function may
 * end the stream, its watches or its call: they note what came, and act in a later turn (app->wakes). */
struct watch_sink {
    void (*events)(void *ctx, int64_t revision, const struct slice_event *const *events, size_t n);
    void (*compacted)(void *ctx, int64_t compacted); /* the watch is gone */
};

struct watch_stream {
    struct grpc_call *call;
    struct feed *feed;
    const struct watch_sink *sink; /* NULL: the call is one of Watch */
    void *sink_ctx;
    struct list link; /* feed's streams */
    struct list progress_link;
    struct list behind;
    struct watch **ids; /* open addressing by id */
    size_t ids_cap, n_watches, n_lagging, n_progress_notify;
    int64_t next_id, progress_rev, max_start;
};

struct touch {
    struct watch *watch; /* NULL: not the first of its watch, or cancelled */
    uint32_t event, next, last; /* next: 1 + place of the watch's next event of this revision; last: of the first only */
};

/* A slice on its way to those of one role that it concerns. */
struct delivery {
    enum watch_role role;
    struct watch_slice slice;
    size_t at_event;
    struct touch *touches;
    size_t n_touches, touches_cap, at_touch;
    int64_t revision; /* that touches are of */
};

struct feed_counters {
    uint64_t watches, lagging, streams;
    uint64_t events_sent, messages_sent, fell_behind, compacted;
    uint64_t slices_live, slices_sweep, key_jobs;
};

struct feed {
    struct app *app;
    struct watch_index index;
    struct list streams, progress; /* progress: streams with an open request */
    struct list key_wait, sweep_wait, sweep;
    int64_t revision; /* announced */
    int64_t tail;
    int64_t sweep_pos;
    struct delivery live, swept;
    bool job_busy, sweep_delivering, last_was_keys, closing;
    bool job_failed; /* no job until the next notice or watch, or the retry timer */
    uint64_t n_live;
    uv_idle_t work;
    uv_timer_t progress_timer, leader_timer, retry_timer;
    unsigned handles;
    struct feed_counters counters;
};

/* watch_feed.c */
int feed_new(struct app *app, uint64_t progress_interval_ms, struct feed **ret_feed);
void feed_close(struct feed *f);
void feed_free(struct feed *f);
void feed_on_revision(struct feed *f, int64_t revision);
const struct feed_counters *feed_counters(const struct feed *f);
void feed_kick(struct feed *f);
/* Something could not be read: not again before a notice or FEED_RETRY_MS. */
void feed_job_failed(struct feed *f);
void feed_place(struct feed *f, struct watch *w);            /* a new watch, by its cursor */
void feed_remove(struct feed *f, struct watch *w);           /* takes it out and frees it; the stream forgets it first */
void feed_stream_drained(struct feed *f, struct watch_stream *s);
/* Sends the events of one revision to one watch, or makes it fall behind. */
void feed_send_events(struct feed *f, struct watch *w, int64_t revision, const struct slice_event *const *events, size_t n);
void feed_fall_behind(struct feed *f, struct watch *w, int64_t next);
void feed_go_live(struct feed *f, struct watch *w, int64_t next);
bool feed_stream_full(const struct watch_stream *s);
bool feed_filtered(const struct watch *w, const struct slice_event *e);
void feed_deliver(struct feed *f, struct delivery *d, unsigned *budget); /* until the slice is out or the budget */
bool delivery_busy(const struct delivery *d);

/* watch_progress.c */
void feed_request_progress(struct feed *f, struct watch_stream *s, int64_t revision);
void feed_on_leader(struct feed *f, uint64_t leader);
void feed_answer_progress(struct feed *f);
void feed_on_progress_timer(uv_timer_t *timer);

/* watch_jobs.c: reading in workers for those that lag */
void feed_jobs_turn(struct feed *f, unsigned *budget);
bool feed_jobs_ready(const struct feed *f); /* there is something for feed_jobs_turn() to do now */

/* watch.c */
void watch_cancel_compacted(struct watch *w, int64_t compacted);
void watch_send_progress(struct watch_stream *s, int64_t id, int64_t revision);
struct watch *watch_find(const struct watch_stream *s, int64_t id);
/* A stream for the sake of call, which a full queue of that call holds up; NULL without memory. */
struct watch_stream *watch_stream_new(struct grpc_call *call, const struct watch_sink *sink, void *sink_ctx);
void watch_stream_free(struct watch_stream *s); /* with its watches; NULL is fine */
/* From start on; end as in WatchCreateRequest. -ENOMEM. */
int watch_stream_add(struct watch_stream *s, struct slice key, struct slice end, int64_t start, uint8_t filters);
void watch_stream_clear(struct watch_stream *s); /* ends its watches */

/* A WatchResponse without events, and what stands before the events in one with. */
struct watch_head {
    struct etcd_header header;
    int64_t watch_id;
    bool created, canceled, fragment;
    int64_t compact_revision;
    const char *reason;
};
/* NULL without memory. */
struct grpc_out *watch_head_out(const struct watch_head *h, size_t n_bodies);

#endif
