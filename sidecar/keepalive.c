/* keepalive.c - etcdserverpb.Lease/LeaseKeepAlive: a stream that many leases may share.
 *
 * Answers come in the order of the requests, as etcd's do. Those that the node has not answered stand in a list: the first
 * LEASE_STREAM_UNDER_WAY of them are at the node, the others wait, up to LEASE_STREAM_QUEUE_MAX. */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

struct beat {
    struct list link;
    struct keepalive_stream *stream;
    int64_t id, revision, ticket, ttl_s; /* ticket: 0 not sent, or answered */
    bool sent, done;
};

struct keepalive_stream {
    struct list link; /* app->keepalive_streams */
    struct grpc_call *call;
    struct app *app;
    struct list beats;
    struct list *next; /* the first that is not sent */
    size_t n, n_sent;
    bool half_closed;
};

static void beat_free(struct beat *b)
{
    b->stream->n--;
    b->stream->n_sent -= b->sent;
    b->stream->app->beats--;
    list_remove(&b->link);
    free(b);
}

/* False: without memory. */
static bool send_answer(struct keepalive_stream *s, const struct beat *b)
{
    struct etcd_header header = node_line_header(s->app->line, b->revision);
    struct grpc_out *out = NULL;
    struct bytes head;
    uint8_t rest[32];
    struct wire_out o = {rest, 0};

    wire_int(&o, 2, b->id);
    wire_int(&o, 3, b->ttl_s);
    bytes_init(&head);
    etcd_header_encode(&header, &head);
    if (bytes_status(&head) == 0)
        out = grpc_out_new(head.len + o.n, 0);
    if (out != NULL) {
        memcpy(grpc_out_head(out), head.data, head.len);
        memcpy(grpc_out_head(out) + head.len, rest, o.n);
        grpc_send(s->call, out);
    }
    bytes_fini(&head);
    return out != NULL;
}

/* Sends the answers that are there, in order. The call may have ended afterwards. */
static void send_answers(struct keepalive_stream *s)
{
    struct grpc_call *call = s->call;

    while (!list_empty(&s->beats)) {
        struct beat *b = LIST_ITEM(s->beats.next, struct beat, link);

        if (!b->done)
            return;
        if (grpc_queued(call) > STREAM_CONTROL_MAX_BYTES) {
            grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
            return;
        }
        if (!send_answer(s, b)) {
            ask_no_memory(call);
            return;
        }
        beat_free(b);
    }
    if (s->half_closed)
        grpc_finish(call, GRPC_OK, NULL);
}

/* Asks the node for as many as may be under way. False: the call has ended. */
static bool send_requests(struct keepalive_stream *s);

static void on_kept_alive(void *arg, uint16_t status, int64_t ttl_s)
{
    struct beat *b = arg;
    struct keepalive_stream *s = b->stream;

    b->ticket = 0;
    b->done = true;
    b->ttl_s = status == STATUS_OK ? ttl_s : 0; /* 0: it is gone */
    if (status != STATUS_OK && status != STATUS_LEASE_NOT_FOUND)
        grpc_finish_status(s->call, status);
    else if (send_requests(s))
        send_answers(s);
}

static bool send_requests(struct keepalive_stream *s)
{
    struct node_line *line = s->app->line;

    while (s->next != &s->beats && s->n_sent < LEASE_STREAM_UNDER_WAY) {
        struct beat *b = LIST_ITEM(s->next, struct beat, link);
        int64_t ticket = client_keepalive(node_line_client(line), b->id, node_line_deadline_ms(line), on_kept_alive, b);

        if (ticket < 0) {
            ask_no_memory(s->call);
            return false;
        }
        b->ticket = ticket;
        b->sent = true;
        s->n_sent++;
        s->next = s->next->next;
        node_line_touch(line);
    }
    return true;
}

/* ---- the method ---- */

static void keepalive_start(struct grpc_call *call)
{
    struct keepalive_stream *s = ask_refused(call) ? NULL : calloc(1, sizeof *s);

    if (s == NULL) {
        ask_no_memory(call); /* nothing, if the call has been refused */
        return;
    }
    s->call = call;
    s->app = app_of(call);
    list_init(&s->beats);
    s->next = &s->beats;
    list_push_back(&s->app->keepalive_streams, &s->link);
    grpc_set_state(call, s);
}

void keepalive_no_leader(struct app *app)
{
    LIST_FOREACH_SAFE(it, &app->keepalive_streams)
    {
        struct keepalive_stream *s = LIST_ITEM(it, struct keepalive_stream, link);

        if (grpc_require_leader(s->call))
            grpc_finish_status(s->call, STATUS_NO_LEADER);
    }
}

static void keepalive_message(struct grpc_call *call, struct slice message)
{
    struct keepalive_stream *s = grpc_state(call);
    struct reader r = reader_make(message);
    struct store_read *read;
    struct wire_field f;
    struct beat *b;
    int64_t id = 0;

    if (s == NULL)
        return;
    while (wire_next(&r, &f))
        if (f.number == 1)
            id = wire_get_int(&r, &f);
    if (reader_status(&r) < 0) {
        ask_malformed(call);
        return;
    }
    read = node_line_read(s->app->line);
    if (read == NULL) {
        grpc_finish_status(call, STATUS_TIMEOUT);
        return;
    }
    if (s->n >= LEASE_STREAM_QUEUE_MAX || s->app->beats >= SERVER_BEATS_MAX) {
        grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
        return;
    }
    b = malloc(sizeof *b);
    if (b == NULL) {
        ask_no_memory(call);
        return;
    }
    /* The revision from before the renewal: nobody sees a lease alive at a revision at which it is not. */
    *b = (struct beat){.stream = s, .id = id, .revision = store_read_revision(read)};
    list_push_back(&s->beats, &b->link);
    s->n++;
    s->app->beats++;
    if (s->next == &s->beats)
        s->next = &b->link;
    send_requests(s);
}

static void keepalive_half_close(struct grpc_call *call)
{
    struct keepalive_stream *s = grpc_state(call);

    if (s == NULL)
        return;
    s->half_closed = true;
    send_answers(s);
}

static void keepalive_end(struct grpc_call *call)
{
    struct keepalive_stream *s = grpc_state(call);

    if (s == NULL)
        return;
    while (!list_empty(&s->beats)) {
        struct beat *b = LIST_ITEM(s->beats.next, struct beat, link);

        if (b->ticket > 0 && node_line_client(s->app->line) != NULL)
            client_cancel(node_line_client(s->app->line), b->ticket);
        beat_free(b);
    }
    list_remove(&s->link);
    free(s);
}

const struct grpc_method lease_keep_alive = {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
                                             .kind = GRPC_STREAM,
                                             .start = keepalive_start,
                                             .message = keepalive_message,
                                             .half_close = keepalive_half_close,
                                             .end = keepalive_end};
