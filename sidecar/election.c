/* election.c - v3electionpb.Election: a leader is the key in front below NAME/ (queue.h), its value what it proclaims. */
#include "proto/wire.h"
#include "sidecar/queue.h"

#include <errno.h>
#include <stdlib.h>

#define NOT_LEADER "election: not leader"
#define NO_LEADER "election: no leader"
#define MISSING_LEADER "\"leader\" field must be provided"

struct leader_key {
    bool given;
    struct slice name, key;
    int64_t revision, lease;
};

/* ---- Campaign ---- */

static void emit_leader_key(struct wire_out *o, const struct leader_key *l)
{
    wire_bytes(o, 1, l->name);
    wire_bytes(o, 2, l->key);
    wire_int(o, 3, l->revision);
    wire_int(o, 4, l->lease);
}

WIRE_MESSAGE(leader_key, const struct leader_key *)

static void emit_campaign(struct wire_out *o, const struct leader_key *l)
{
    field_leader_key(o, 2, l);
}

WIRE_MESSAGE(campaign, const struct leader_key *)

static void on_elected(struct queue_entry *q)
{
    struct leader_key l = {.name = bytes_slice(&q->name),
                           .key = bytes_slice(&q->key),
                           .revision = q->created,
                           .lease = q->lease};
    struct bytes body;

    bytes_init(&body);
    append_campaign(&l, &body);
    if (bytes_status(&body) < 0)
        ask_no_memory(q->ask.call);
    else
        answer_unary(q->ask.app, q->ask.call, q->revision, 0, bytes_slice(&body));
    bytes_fini(&body);
}

static void campaign_message(struct grpc_call *call, struct slice message)
{
    struct slice name = slice_make(NULL, 0), value = slice_make(NULL, 0);
    struct reader r = reader_make(message);
    struct wire_field f;
    int64_t lease = 0;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            wire_get_bytes(&r, &f, &name);
        else if (f.number == 2)
            lease = wire_get_int(&r, &f);
        else if (f.number == 3)
            wire_get_bytes(&r, &f, &value);
    }
    if (reader_status(&r) < 0)
        ask_malformed(call);
    else if (!ask_refused(call))
        queue_enter(call, name, lease, value, on_elected);
}

/* ---- Proclaim, Resign ---- */

static int decode_leader_key(struct slice in, struct leader_key *l)
{
    struct reader r = reader_make(in);
    struct wire_field f;

    *l = (struct leader_key){.given = true};
    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &l->name);
            break;
        case 2:
            wire_get_bytes(&r, &f, &l->key);
            break;
        case 3:
            l->revision = wire_get_int(&r, &f);
            break;
        case 4:
            l->lease = wire_get_int(&r, &f);
            break;
        default:
            break;
        }
    }
    return reader_status(&r);
}

static void answer_change(void *arg, const struct client_answer *answer, bool need)
{
    struct ask *a = arg;
    bool held;

    if (!queue_changed(a, answer, &held))
        return;
    if (held || !need)
        answer_unary(a->app, a->call, answer->revision, answer->term, slice_make(NULL, 0));
    else
        grpc_finish(a->call, GRPC_UNKNOWN, NOT_LEADER);
}

static void on_proclaimed(void *arg, const struct client_answer *answer)
{
    answer_change(arg, answer, true);
}

static void on_resigned(void *arg, const struct client_answer *answer)
{
    answer_change(arg, answer, false);
}

static void change_message(struct grpc_call *call, struct slice message, bool resign)
{
    struct reader r = reader_make(message);
    struct slice value = slice_make(NULL, 0);
    struct leader_key l = {0};
    struct wire_field f;
    struct ask *a;

    while (wire_next(&r, &f)) {
        if (f.number == 1 && (f.type != WIRE_BYTES || decode_leader_key(f.bytes, &l) < 0))
            reader_fail(&r);
        else if (f.number == 2)
            wire_get_bytes(&r, &f, &value);
    }
    if (reader_status(&r) < 0) {
        ask_malformed(call);
    } else if (!l.given) {
        grpc_finish(call, GRPC_UNKNOWN, MISSING_LEADER);
    } else if (!ask_refused(call) && (a = ask_begin(call, sizeof *a)) != NULL) {
        if (resign)
            queue_change(a, l.key, l.revision, slice_make(NULL, 0), -1, on_resigned);
        else
            queue_change(a, l.key, l.revision, value, l.lease < 0 ? 0 : l.lease, on_proclaimed);
    }
}

static void proclaim_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, false);
}

static void resign_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, true);
}

/* ---- Leader, Observe ---- */

struct observer {
    struct ask ask;
    struct bytes prefix;
    bool stream;
    /* of Observe */
    struct watch_stream *watches; /* on the leader's key, or on the prefix while there is none */
    struct list link;             /* app->observers_woken */
    bool on_prefix, gone;         /* gone: what is watched is not the leader's key any more */
    struct bytes found;           /* the key that was put while there was none, */
    int64_t found_revision;       /* and when; 0: none yet */
};

static void wake(struct observer *o)
{
    list_remove(&o->link);
    list_push_back(&o->ask.app->observers_woken, &o->link);
}

/* False without memory: nothing was sent. Never ends the call. */
static bool send_leader(struct observer *o, int64_t revision, struct slice kv_field)
{
    struct etcd_header header = node_line_header(o->ask.app->line, revision);
    struct grpc_out *out = NULL;
    struct bytes head;

    bytes_init(&head);
    etcd_header_encode(&header, &head);
    if (bytes_status(&head) == 0 && head.len + kv_field.len < UINT32_MAX / 2)
        out = grpc_out_new(head.len + kv_field.len, 0);
    if (out != NULL) {
        memcpy(grpc_out_head(out), head.data, head.len);
        memcpy(grpc_out_head(out) + head.len, kv_field.data, kv_field.len);
        grpc_send(o->ask.call, out);
    }
    bytes_fini(&head);
    return out != NULL;
}

/* What stands in an encoded event of WatchResponse behind its tag and length. Of a put that is the field kv, with the number that
 * it has in LeaderResponse too. */
static struct slice event_message(const struct body *b)
{
    struct reader r = reader_make(slice_make(b->data, b->len));
    struct wire_field f;

    return wire_next(&r, &f) ? f.bytes : slice_make(NULL, 0);
}

static void on_events(void *ctx, int64_t revision, const struct slice_event *const *events, size_t n)
{
    struct observer *o = ctx;

    for (size_t i = 0; i < n && !o->gone; i++) {
        if (events[i]->is_delete) {
            o->gone = !o->on_prefix;
            continue;
        }
        if (!send_leader(o, revision, event_message(events[i]->plain))) {
            o->gone = true; /* looks again who it is */
        } else if (o->on_prefix) {
            bytes_append(&o->found, events[i]->key);
            o->found_revision = revision;
            o->gone = true;
        }
    }
    if (o->gone)
        wake(o);
}

static void on_compacted(void *ctx, int64_t compacted)
{
    struct observer *o = ctx;

    o->gone = true;
    wake(o);
}

static const struct watch_sink observer_sink = {on_events, on_compacted};

static int watch_next(struct observer *o, struct slice key, struct slice end, int64_t start)
{
    if (o->watches == NULL && (o->watches = watch_stream_new(o->ask.call, &observer_sink, o)) == NULL)
        return -ENOMEM;
    watch_stream_clear(o->watches);
    o->on_prefix = end.len > 0;
    o->gone = false;
    o->found_revision = 0;
    return watch_stream_add(o->watches, key, end, start, 0);
}

/* Who leads now: the answer of Leader, or the next message of Observe, which then watches. */
static void look(struct observer *o)
{
    struct store_read *r = node_line_read(o->ask.app->line);
    struct slice end, prefix = bytes_slice(&o->prefix);
    struct arena arena;
    struct bytes field;
    bool found = false;
    struct kv kv;
    int rc;

    if (r == NULL) {
        if (o->stream)
            wake(o);
        else
            grpc_finish_status(o->ask.call, STATUS_TIMEOUT);
        return;
    }
    arena_init(&arena);
    bytes_init(&field);
    rc = queue_first(r, prefix, &arena, &kv, &found);
    if (rc == 0 && found) {
        struct bytes one;

        bytes_init(&one);
        etcd_kv_encode(&kv, &one);
        bytes_u8(&field, 2 << 3 | WIRE_BYTES);
        bytes_varint_slice(&field, bytes_slice(&one));
        rc = bytes_status(&one) < 0 ? -ENOMEM : bytes_status(&field);
        bytes_fini(&one);
    }
    if (rc == 0 && found && !send_leader(o, store_read_revision(r), bytes_slice(&field)))
        rc = -ENOMEM;
    if (rc == 0 && o->stream && found)
        rc = watch_next(o, kv.key, slice_make(NULL, 0), store_read_revision(r) + 1);
    else if (rc == 0 && o->stream && (rc = turn_prefix_end(prefix, &arena, &end)) == 0)
        rc = watch_next(o, prefix, end, store_read_revision(r) + 1);
    bytes_fini(&field);
    arena_fini(&arena);
    if (rc < 0)
        ask_no_memory(o->ask.call);
    else if (!o->stream && found)
        grpc_finish(o->ask.call, GRPC_OK, NULL);
    else if (!o->stream)
        grpc_finish(o->ask.call, GRPC_UNKNOWN, NO_LEADER);
}

void observers_run(struct app *app)
{
    struct list woken;

    list_init(&woken);
    while (!list_empty(&app->observers_woken)) {
        struct list *it = app->observers_woken.next;

        list_remove(it);
        list_push_back(&woken, it);
    }
    while (!list_empty(&woken)) {
        struct observer *o = LIST_ITEM(woken.next, struct observer, link);

        list_remove(&o->link);
        if (o->found_revision == 0)
            look(o);
        else if (bytes_status(&o->found) < 0 ||
                 watch_next(o, bytes_slice(&o->found), slice_make(NULL, 0), o->found_revision + 1) < 0)
            ask_no_memory(o->ask.call);
        else
            bytes_reset(&o->found);
    }
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct observer *o = arg;

    ask_done(&o->ask);
    if (status != STATUS_OK)
        queue_fail(o->ask.call, status);
    else
        look(o);
}

static void ask_leader(struct grpc_call *call, struct slice message, bool stream)
{
    struct app *app = app_of(call);
    struct reader r = reader_make(message);
    struct slice name = slice_make(NULL, 0);
    struct wire_field f;
    struct observer *o;

    while (wire_next(&r, &f))
        if (f.number == 1)
            wire_get_bytes(&r, &f, &name);
    if (reader_status(&r) < 0) {
        ask_malformed(call);
        return;
    }
    o = ask_refused(call) ? NULL : ask_begin(call, sizeof *o);
    if (o == NULL)
        return;
    list_init(&o->link);
    o->stream = stream;
    bytes_append(&o->prefix, name);
    bytes_u8(&o->prefix, '/');
    if (bytes_status(&o->prefix) < 0)
        ask_no_memory(call);
    else
        ask_waits(&o->ask, client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, o));
}

static void leader_message(struct grpc_call *call, struct slice message)
{
    ask_leader(call, message, false);
}

static void observe_message(struct grpc_call *call, struct slice message)
{
    if (grpc_state(call) != NULL)
        grpc_finish(call, GRPC_INTERNAL, "a call of Observe has one request");
    else
        ask_leader(call, message, true);
}

static void observe_half_close(struct grpc_call *call)
{
    if (grpc_state(call) == NULL)
        grpc_finish(call, GRPC_INTERNAL, "a call of Observe has one request");
}

static void observe_drained(struct grpc_call *call)
{
    struct observer *o = grpc_state(call);

    if (o != NULL && o->watches != NULL)
        feed_stream_drained(o->watches->feed, o->watches);
}

static void observe_end(struct grpc_call *call)
{
    struct observer *o = grpc_state(call);

    if (o == NULL)
        return;
    watch_stream_free(o->watches);
    list_remove(&o->link);
    bytes_fini(&o->prefix);
    bytes_fini(&o->found);
    ask_end(call);
}

const struct grpc_method election_campaign = {
    .path = "/v3electionpb.Election/Campaign", .kind = GRPC_UNARY, .message = campaign_message, .end = queue_end};
const struct grpc_method election_proclaim = {
    .path = "/v3electionpb.Election/Proclaim", .kind = GRPC_UNARY, .message = proclaim_message, .end = ask_end};
const struct grpc_method election_resign = {
    .path = "/v3electionpb.Election/Resign", .kind = GRPC_UNARY, .message = resign_message, .end = ask_end};
const struct grpc_method election_leader = {
    .path = "/v3electionpb.Election/Leader", .kind = GRPC_UNARY, .message = leader_message, .end = observe_end};
const struct grpc_method election_observe = {.path = "/v3electionpb.Election/Observe",
                                             .kind = GRPC_STREAM,
                                             .message = observe_message,
                                             .half_close = observe_half_close,
                                             .drained = observe_drained,
                                             .end = observe_end};
