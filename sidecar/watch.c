/* watch.c - etcdserverpb.Watch as a stream speaks it: create, cancel, progress, and etcd's answers to wrong ones. */
#include "sidecar/watch.h"

#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

/* ---- WatchResponse ---- */

static void emit_header(struct wire_out *o, const struct etcd_header *h)
{
    wire_uint(o, 1, h->cluster_id);
    wire_uint(o, 2, h->member_id);
    wire_int(o, 3, h->revision);
    wire_uint(o, 4, h->raft_term);
}

WIRE_MESSAGE(header, const struct etcd_header *)

static void emit_head(struct wire_out *o, const struct watch_head *h)
{
    field_header(o, 1, &h->header);
    wire_int(o, 2, h->watch_id);
    wire_uint(o, 3, h->created);
    wire_uint(o, 4, h->canceled);
    wire_int(o, 5, h->compact_revision);
    if (h->reason != NULL)
        wire_bytes(o, 6, slice_from_str(h->reason));
    wire_uint(o, 7, h->fragment);
}

struct grpc_out *watch_head_out(const struct watch_head *h, size_t n_bodies)
{
    struct wire_out o = {NULL, 0};
    struct grpc_out *out;

    emit_head(&o, h);
    out = grpc_out_new(o.n, n_bodies);
    if (out == NULL)
        return NULL;
    o = (struct wire_out){grpc_out_head(out), 0};
    emit_head(&o, h);
    return out;
}

/* Answers to the stream's own requests are not held back by its limit, but by a larger one. */
static void send_control(struct watch_stream *s, const struct watch_head *h)
{
    struct grpc_out *out = watch_head_out(h, 0);

    if (out == NULL)
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else if (grpc_queued(s->call) > STREAM_CONTROL_MAX_BYTES) {
        grpc_out_free(out);
        grpc_finish_status(s->call, STATUS_TOO_MANY_REQUESTS);
    } else {
        grpc_send(s->call, out);
    }
}

static struct etcd_header header_at(struct watch_stream *s, int64_t revision)
{
    return node_line_header(s->feed->app->line, revision);
}

/* ---- the stream's watches by id ---- */

static size_t id_slot(const struct watch_stream *s, int64_t id)
{
    return (size_t)((uint64_t)id * 0x9e3779b97f4a7c15u >> 20) & (s->ids_cap - 1);
}

static size_t find_slot(const struct watch_stream *s, int64_t id)
{
    size_t i = id_slot(s, id);

    while (s->ids[i] != NULL && s->ids[i]->id != id)
        i = (i + 1) & (s->ids_cap - 1);
    return i;
}

struct watch *watch_find(const struct watch_stream *s, int64_t id)
{
    return s->ids_cap != 0 ? s->ids[find_slot(s, id)] : NULL;
}

static int ids_resize(struct watch_stream *s, size_t cap)
{
    struct watch **old = s->ids, **ids = calloc(cap, sizeof *ids);
    size_t old_cap = s->ids_cap;

    if (ids == NULL)
        return -ENOMEM;
    s->ids = ids;
    s->ids_cap = cap;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i] != NULL)
            s->ids[find_slot(s, old[i]->id)] = old[i];
    free(old);
    return 0;
}

static int ids_add(struct watch_stream *s, struct watch *w)
{
    if ((s->n_watches + 1) * 2 > s->ids_cap && ids_resize(s, s->ids_cap != 0 ? s->ids_cap * 2 : 8) < 0)
        return -ENOMEM;
    s->ids[find_slot(s, w->id)] = w;
    s->n_watches++;
    return 0;
}

static void ids_remove(struct watch_stream *s, struct watch *w)
{
    size_t hole = find_slot(s, w->id), i = hole;

    for (;;) { /* moves up what the hole would cut off from its place */
        size_t home;

        i = (i + 1) & (s->ids_cap - 1);
        if (s->ids[i] == NULL)
            break;
        home = id_slot(s, s->ids[i]->id);
        if (((i - home) & (s->ids_cap - 1)) >= ((i - hole) & (s->ids_cap - 1))) {
            s->ids[hole] = s->ids[i];
            hole = i;
        }
    }
    s->ids[hole] = NULL;
    s->n_watches--;
    if (s->ids_cap > 64 && s->n_watches * 8 < s->ids_cap)
        ids_resize(s, s->ids_cap / 4); /* keeps the larger one without memory */
}

static void remove_watch(struct watch *w)
{
    struct watch_stream *s = w->stream;

    ids_remove(s, w);
    s->n_progress_notify -= w->progress_notify;
    feed_remove(s->feed, w);
}

/* ---- requests ---- */

struct create {
    struct slice key, end;
    int64_t start, id;
    uint8_t filters;
    bool progress_notify, prev_kv, fragment;
};

static void add_filter(struct create *c, uint64_t filter)
{
    if (filter == 0)
        c->filters |= WATCH_NOPUT;
    else if (filter == 1)
        c->filters |= WATCH_NODELETE;
}

static int decode_create(struct slice in, struct create *c)
{
    struct reader r = reader_make(in);
    struct wire_field f;

    *c = (struct create){0};
    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &c->key);
            break;
        case 2:
            wire_get_bytes(&r, &f, &c->end);
            break;
        case 3:
            c->start = wire_get_int(&r, &f);
            break;
        case 4:
            c->progress_notify = wire_get_bool(&r, &f);
            break;
        case 5:
            if (f.type == WIRE_BYTES) { /* packed */
                struct reader packed = reader_make(f.bytes);

                while (!reader_at_end(&packed))
                    add_filter(c, reader_varint(&packed));
                if (reader_status(&packed) < 0)
                    reader_fail(&r);
            } else {
                add_filter(c, wire_get_uint(&r, &f));
            }
            break;
        case 6:
            c->prev_kv = wire_get_bool(&r, &f);
            break;
        case 7:
            c->id = wire_get_int(&r, &f);
            break;
        case 8:
            c->fragment = wire_get_bool(&r, &f);
            break;
        default:
            break;
        }
    }
    return reader_status(&r);
}

static void refuse_create(struct watch_stream *s, int64_t revision, const char *reason)
{
    send_control(s, &(struct watch_head){.header = header_at(s, revision),
                                         .watch_id = -1,
                                         .created = true,
                                         .canceled = true,
                                         .reason = reason});
}

/* What is wrong with it, in etcd's words; NULL: nothing. */
static const char *check_create(struct watch_stream *s, const struct create *c)
{
    bool to_infinity = c->end.len == 1 && c->end.data[0] == 0;

    if (c->end.len != 0 && !to_infinity && slice_cmp(c->key, c->end) >= 0)
        return "mvcc: watcher range is empty";
    if (c->id != 0 && watch_find(s, c->id) != NULL)
        return "mvcc: duplicate watch ID provided on the WatchStream";
    if (c->start < 0)
        return "mvcc: required revision has been compacted";
    return NULL;
}

static int64_t unused_id(struct watch_stream *s)
{
    while (watch_find(s, s->next_id) != NULL)
        s->next_id++;
    return s->next_id++;
}

/* revision: the newest, for a watch without a start. NULL without memory. */
static struct watch *add_watch(struct watch_stream *s, const struct create *c, int64_t revision)
{
    struct feed *f = s->feed;
    struct watch *w = calloc(1, sizeof *w);

    if (w == NULL || watch_index_ref(&f->index, c->key, c->end, &w->group) < 0) {
        free(w);
        return NULL;
    }
    w->id = c->id;
    if (ids_add(s, w) < 0) {
        watch_index_unref(&f->index, w->group);
        free(w);
        return NULL;
    }
    w->stream = s;
    w->next = c->start != 0 ? c->start : revision + 1;
    w->filters = c->filters;
    w->prev_kv = c->prev_kv;
    w->fragment = c->fragment;
    w->progress_notify = c->progress_notify;
    s->n_progress_notify += c->progress_notify;
    if (c->start > s->max_start)
        s->max_start = c->start;
    feed_place(f, w);
    return w;
}

int watch_stream_add(struct watch_stream *s, struct slice key, struct slice end, int64_t start, uint8_t filters)
{
    struct create c = {.key = key, .end = end, .start = start, .id = unused_id(s), .filters = filters};

    return add_watch(s, &c, 0) != NULL ? 0 : -ENOMEM;
}

static void create_watch(struct watch_stream *s, struct create *c)
{
    struct feed *f = s->feed;
    struct store_read *r = node_line_read(f->app->line);
    const char *wrong;
    struct watch *w;
    int64_t revision;

    if (r == NULL) {
        grpc_finish_status(s->call, STATUS_TIMEOUT);
        return;
    }
    revision = store_read_revision(r);
    if (c->key.len == 0)
        c->key = slice_make("", 1); /* the smallest key */
    wrong = check_create(s, c);
    if (wrong != NULL) {
        refuse_create(s, revision, wrong);
        return;
    }
    if (c->id == 0)
        c->id = unused_id(s);
    w = add_watch(s, c, revision);
    if (w == NULL)
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else
        send_control(s, &(struct watch_head){.header = header_at(s, revision), .watch_id = c->id, .created = true});
}

static void cancel_watch(struct watch_stream *s, int64_t id)
{
    struct watch *w = watch_find(s, id);
    struct store_read *r;

    if (w == NULL)
        return; /* as etcd: no answer */
    r = node_line_read(s->feed->app->line);
    remove_watch(w);
    send_control(s, &(struct watch_head){.header = header_at(s, r != NULL ? store_read_revision(r) : s->feed->revision),
                                         .watch_id = id,
                                         .canceled = true});
}

void watch_cancel_compacted(struct watch *w, int64_t compacted)
{
    struct watch_stream *s = w->stream;
    struct watch_head h = {.header = header_at(s, 0), /* etcd says none here */
                           .watch_id = w->id,
                           .canceled = true,
                           .compact_revision = compacted};

    s->feed->counters.compacted++;
    remove_watch(w);
    if (s->sink != NULL)
        s->sink->compacted(s->sink_ctx, compacted);
    else
        send_control(s, &h);
}

void watch_send_progress(struct watch_stream *s, int64_t id, int64_t revision)
{
    struct watch_head h = {.header = header_at(s, revision), .watch_id = id};
    struct grpc_out *out = grpc_queued(s->call) <= STREAM_CONTROL_MAX_BYTES ? watch_head_out(&h, 0) : NULL;

    if (out != NULL) /* a notification may be left out; it must not end a stream */
        grpc_send(s->call, out);
}

static int64_t decode_cancel(struct slice in)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    int64_t id = 0;

    while (wire_next(&r, &f))
        if (f.number == 1)
            id = wire_get_int(&r, &f);
    return id;
}

/* ---- the method ---- */

struct watch_stream *watch_stream_new(struct grpc_call *call, const struct watch_sink *sink, void *sink_ctx)
{
    struct feed *f = app_of(call)->feed;
    struct watch_stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->call = call;
    s->feed = f;
    s->sink = sink;
    s->sink_ctx = sink_ctx;
    list_init(&s->behind);
    list_init(&s->progress_link);
    list_push_back(&f->streams, &s->link);
    f->counters.streams += sink == NULL;
    return s;
}

void watch_stream_clear(struct watch_stream *s)
{
    for (size_t i = 0; i < s->ids_cap; i++)
        if (s->ids[i] != NULL)
            feed_remove(s->feed, s->ids[i]);
    free(s->ids);
    s->ids = NULL;
    s->ids_cap = s->n_watches = 0;
    s->n_progress_notify = 0;
}

void watch_stream_free(struct watch_stream *s)
{
    if (s == NULL)
        return;
    watch_stream_clear(s);
    s->feed->counters.streams -= s->sink == NULL;
    list_remove(&s->link);
    list_remove(&s->progress_link);
    free(s);
}

static void watch_start(struct grpc_call *call)
{
    struct watch_stream *s;

    if (ask_refused(call))
        return;
    s = watch_stream_new(call, NULL, NULL);
    if (s == NULL)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else
        grpc_set_state(call, s);
}

static void watch_message(struct grpc_call *call, struct slice message)
{
    struct watch_stream *s = grpc_state(call);
    struct reader r = reader_make(message);
    struct wire_field f, last = {0};
    struct create c;

    if (s == NULL)
        return;
    while (wire_next(&r, &f))
        if (f.number >= 1 && f.number <= 3 && f.type == WIRE_BYTES)
            last = f; /* a oneof: the last one holds */
    if (reader_status(&r) < 0 || (last.number == 1 && decode_create(last.bytes, &c) < 0)) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    switch (last.number) {
    case 1:
        create_watch(s, &c);
        break;
    case 2:
        cancel_watch(s, decode_cancel(last.bytes));
        break;
    case 3:
        if (s->n_watches > 0) { /* etcd says nothing for a stream without watches */
            struct store_read *read = node_line_read(s->feed->app->line);

            feed_request_progress(s->feed, s, read != NULL ? store_read_revision(read) : s->feed->revision);
        }
        break;
    default:
        break; /* as etcd: an empty request is no reason to end the stream */
    }
}

static void watch_half_close(struct grpc_call *call)
{
    grpc_finish(call, GRPC_OK, NULL);
}

static void watch_drained(struct grpc_call *call)
{
    struct watch_stream *s = grpc_state(call);

    if (s != NULL)
        feed_stream_drained(s->feed, s);
}

static void watch_end(struct grpc_call *call)
{
    watch_stream_free(grpc_state(call));
}

const struct grpc_method watch_watch = {.path = "/etcdserverpb.Watch/Watch",
                                        .kind = GRPC_STREAM,
                                        .start = watch_start,
                                        .message = watch_message,
                                        .half_close = watch_half_close,
                                        .drained = watch_drained,
                                        .end = watch_end};
