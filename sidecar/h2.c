/* h2.c - the one place that talks to nghttp2: its callbacks become calls of grpc.c, and answers become frames. */
#include "sidecar/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BDP_PING "\x02\x04\x10\x10\x09\x0e\x07\x07" /* grpc-go's bandwidth probe */
#define FRAME_ROOM (16384 + 64 * 1024)

static int err_from_h2(int rc)
{
    if (rc >= 0)
        return 0;
    return rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
}

/* ---- how many streams the client may open ---- */

static uint32_t streams_max(const struct conn *c)
{
    return c->server->config.max_streams != 0 ? c->server->config.max_streams : CONN_STREAMS_MAX;
}

static void announce_streams(struct conn *c, uint32_t limit)
{
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limit};

    if (nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, &entry, 1) == 0)
        c->stream_limit = limit;
    conn_mark_dirty(c);
}

static void raise_streams(struct conn *c)
{
    uint32_t max = streams_max(c);

    if (c->n_calls * 2 > c->stream_limit && c->stream_limit < max)
        announce_streams(c, c->stream_limit > max / 2 ? max : c->stream_limit * 2);
}

void h2_lower_streams(struct conn *c)
{
    if (c->stream_limit > CONN_STREAMS_MIN && c->n_calls * 8 < c->stream_limit)
        announce_streams(c, c->stream_limit / 2 > CONN_STREAMS_MIN ? c->stream_limit / 2 : CONN_STREAMS_MIN);
}

/* ---- what nghttp2 tells ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    struct grpc_server *s = c->server;
    struct grpc_call *call;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    conn_charge(c, 1);
    call = s->counters.calls_open < SERVER_STREAMS_MAX ? call_new(c, frame->hd.stream_id) : NULL;
    if (call == NULL)
        return err_from_h2(nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                                     NGHTTP2_REFUSED_STREAM)) == 0
                   ? 0
                   : NGHTTP2_ERR_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    raise_streams(c);
    return 0;
}

/* What is malformed ends with PROTOCOL_ERROR for its stream alone, and nothing more of it is looked at. */
static void refuse_malformed(struct grpc_call *call)
{
    if (!call->malformed)
        nghttp2_submit_rst_stream(call->conn->h2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_PROTOCOL_ERROR);
    call->malformed = true;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    bool trailer = frame->headers.cat != NGHTTP2_HCAT_REQUEST;

    if (call == NULL || frame->hd.type != NGHTTP2_HEADERS || call->malformed)
        return 0;
    if (!h2_check_header(&call->check, slice_make(name, name_len), slice_make(value, value_len), trailer)) {
        refuse_malformed(call);
        return 0;
    }
    if (trailer)
        call->headers_bytes += name_len + value_len + 32;
    else
        call_header(call, slice_make(name, name_len), slice_make(value, value_len));
    if (call->headers_bytes > CONN_HEADERS_MAX_BYTES)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream */
    return 0;
}

static void on_ping(struct conn *c, const nghttp2_ping *ping)
{
    uint64_t now = uv_now(c->server->loop), min_ms = c->server->config.keepalive_min_ms;

    min_ms = min_ms != 0 ? min_ms : KEEPALIVE_MIN_MS;
    conn_charge(c, 1);
    if ((ping->hd.flags & NGHTTP2_FLAG_ACK) != 0 || memcmp(ping->opaque_data, BDP_PING, 8) == 0)
        return;
    if (c->last_ping_ms != 0 && now - c->last_ping_ms < min_ms) {
        c->server->counters.ping_strikes++;
        if (++c->strikes > PING_STRIKES_MAX)
            h2_goaway(c, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
    }
    c->last_ping_ms = now;
}

static void on_headers(struct grpc_call *call, bool request, bool end)
{
    if (call == NULL || call->malformed)
        return;
    if ((request && !h2_check_request(&call->check)) || (!request && !end) || (end && !h2_check_end(&call->check)))
        refuse_malformed(call);
    else if (request)
        call_begin(call, end);
    else
        call_half_close(call);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        on_headers(call, frame->headers.cat == NGHTTP2_HCAT_REQUEST, end);
        break;
    case NGHTTP2_DATA:
        if (frame->hd.length == 0)
            conn_charge(c, 1); /* costs its sender nothing */
        if (call == NULL || !end || call->malformed)
            break;
        if (h2_check_end(&call->check))
            call_half_close(call);
        else
            refuse_malformed(call);
        break;
    case NGHTTP2_RST_STREAM:
        c->server->counters.resets_received++;
        conn_charge(c, 1);
        break;
    case NGHTTP2_PING:
        on_ping(c, &frame->ping);
        break;
    case NGHTTP2_SETTINGS:
        conn_charge(c, 1 + (unsigned)frame->settings.niv);
        break;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_WINDOW_UPDATE:
        conn_charge(c, 1);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
                         void *user)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    if (call != NULL && !call->malformed) {
        if (h2_check_data(&call->check, len))
            call_data(call, slice_make(data, len));
        else
            refuse_malformed(call);
    }
    /* Taken in full, so the window opens again: what calls hold is bounded by refusal, not by the window. */
    return nghttp2_session_consume(session, stream_id, len) < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    if (call == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    call_free(call);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct conn *c = user;
    struct grpc_call *call;

    if (frame->hd.type == NGHTTP2_GOAWAY)
        c->server->counters.goaways_sent++;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call != NULL && !call->remote_closed) /* the client still sends; we are done with it */
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

int h2_setup(struct grpc_server *s)
{
    nghttp2_session_callbacks *cb;

    if (nghttp2_session_callbacks_new(&cb) != 0)
        return -ENOMEM;
    s->h2_callbacks = cb;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    if (nghttp2_option_new(&s->h2_option) != 0)
        return -ENOMEM;
    nghttp2_option_set_no_auto_window_update(s->h2_option, 1);
    nghttp2_option_set_no_http_messaging(s->h2_option, 1); /* h2_check.h says why */
    /* A thousand cancelled calls in a burst are normal for clientv3; nghttp2's default would answer with GOAWAY for
     * the whole connection. The work budget polices instead (limits.h). */
    nghttp2_option_set_stream_reset_rate_limit(s->h2_option, 1u << 30, 1u << 30);
    return 0;
}

void h2_teardown(struct grpc_server *s)
{
    nghttp2_session_callbacks_del(s->h2_callbacks);
    nghttp2_option_del(s->h2_option);
}

int h2_open(struct conn *c)
{
    uint32_t streams = streams_max(c) < CONN_STREAMS_MIN ? streams_max(c) : CONN_STREAMS_MIN;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, CONN_HEADERS_MAX_BYTES},
    };
    int rc;

    c->stream_limit = streams;
    rc = nghttp2_session_server_new2(&c->h2, c->server->h2_callbacks, c, c->server->h2_option);
    if (rc == 0)
        rc = nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof settings[0]);
    if (rc == 0)
        rc = nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW_BYTES);
    return err_from_h2(rc);
}

int h2_receive(struct conn *c, const uint8_t *data, size_t len)
{
    ssize_t n = nghttp2_session_mem_recv(c->h2, data, len);

    return n < 0 ? err_from_h2((int)n) : 0;
}

ssize_t h2_pull(struct conn *c, uint8_t *out, size_t cap)
{
    size_t len = 0;

    while (cap - len >= FRAME_ROOM) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(c->h2, &data);

        if (n < 0)
            return err_from_h2((int)n);
        if (n == 0)
            break;
        if ((size_t)n > cap - len)
            return -EPROTO;
        memcpy(out + len, data, (size_t)n);
        len += (size_t)n;
    }
    return (ssize_t)len;
}

bool h2_alive(struct conn *c)
{
    return nghttp2_session_want_read(c->h2) || nghttp2_session_want_write(c->h2);
}

void h2_goaway(struct conn *c, uint32_t error, const char *text)
{
    if (c->goaway)
        return;
    c->goaway = true;
    nghttp2_submit_goaway(c->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->h2), error,
                          (const uint8_t *)text, strlen(text));
    if (error != NGHTTP2_NO_ERROR)
        c->close_after_flush = true;
    conn_mark_dirty(c);
}

void h2_notice(struct conn *c)
{
    nghttp2_submit_shutdown_notice(c->h2);
    conn_mark_dirty(c);
}

void h2_ping(struct conn *c)
{
    nghttp2_submit_ping(c->h2, NGHTTP2_FLAG_NONE, (const uint8_t *)"quorumfs");
    conn_mark_dirty(c);
}

/* ---- answers ---- */

#define STATIC_NV(n, v)                                                                                     \
    {(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1,                     \
     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}

static nghttp2_nv nv_make(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static size_t metadata_nv(const struct grpc_call *call, int where, nghttp2_nv nv[GRPC_METADATA_MAX])
{
    size_t n = 0;

    for (struct metadata *m = call->metadata; m != NULL; m = m->next)
        if ((int)m->where == where)
            nv[n++] = (nghttp2_nv){m->bytes, m->bytes + m->name_len, m->name_len, m->value_len, NGHTTP2_NV_FLAG_NONE};
    return n;
}

#define TRAILER_MAX (2 + GRPC_METADATA_MAX)

/* grpc-status and grpc-message, and what the service adds; the count. */
static size_t trailer_nv(struct grpc_call *call, char code[4], nghttp2_nv nv[TRAILER_MAX])
{
    size_t n = 1;

    snprintf(code, 4, "%u", call->code);
    nv[0] = nv_make("grpc-status", code);
    if (call->message != NULL)
        nv[n++] = nv_make("grpc-message", call->message);
    return n + metadata_nv(call, METADATA_END, nv + n);
}

static ssize_t read_data(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct grpc_call *call = source->ptr;
    bool done;
    size_t n = call_read(call, buf, len, &done);

    if (!done) {
        if (n == 0) {
            call->deferred = true;
            return NGHTTP2_ERR_DEFERRED;
        }
        return (ssize_t)n;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!call->is_page) {
        nghttp2_nv nv[TRAILER_MAX];
        char code[4];
        size_t count = trailer_nv(call, code, nv);

        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, stream_id, nv, count) < 0)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

#define HEAD_MAX (3 + GRPC_METADATA_MAX)

/* What an answer begins with; the third says what this server can unpack, to those who compress. */
static size_t head_nv(const struct grpc_call *call, nghttp2_nv nv[HEAD_MAX])
{
    static const nghttp2_nv head[] = {STATIC_NV(":status", "200"), STATIC_NV("content-type", "application/grpc"),
                                      STATIC_NV("grpc-accept-encoding", "gzip")};
    size_t n = call->encoding != ENCODING_NONE ? 3 : 2;

    memcpy(nv, head, n * sizeof nv[0]);
    return n + metadata_nv(call, METADATA_HEAD, nv + n);
}

void h2_submit_error(struct grpc_call *call)
{
    nghttp2_nv nv[HEAD_MAX + TRAILER_MAX];
    char code[4];
    size_t count = head_nv(call, nv);

    count += trailer_nv(call, code, nv + count);
    call->responded = true;
    if (nghttp2_submit_response(call->conn->h2, call->stream_id, nv, count, NULL) < 0)
        h2_reset(call, NGHTTP2_INTERNAL_ERROR);
}

void h2_submit_response(struct grpc_call *call)
{
    nghttp2_nv nv[HEAD_MAX];
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_data};

    call->responded = true;
    if (nghttp2_submit_response(call->conn->h2, call->stream_id, nv, head_nv(call, nv), &provider) < 0)
        h2_reset(call, NGHTTP2_INTERNAL_ERROR);
}

void h2_resume(struct grpc_call *call)
{
    if (!call->deferred)
        return;
    call->deferred = false;
    nghttp2_session_resume_data(call->conn->h2, call->stream_id);
}

void h2_reset(struct grpc_call *call, uint32_t error)
{
    nghttp2_submit_rst_stream(call->conn->h2, NGHTTP2_FLAG_NONE, call->stream_id, error);
    conn_mark_dirty(call->conn);
}

void h2_submit_page(struct grpc_call *call, const struct http_reply *reply)
{
    char status[12], length[24];
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_data};
    nghttp2_nv nv[3];
    struct grpc_out *out;

    snprintf(status, sizeof status, "%d", reply->status);
    snprintf(length, sizeof length, "%zu", reply->body.len);
    nv[0] = nv_make(":status", status);
    nv[1] = nv_make("content-type", reply->content_type);
    nv[2] = nv_make("content-length", length);
    call->responded = true;
    call->finished = true;
    if (reply->body.len == 0 || call->http_method == 'H') {
        nghttp2_submit_response(call->conn->h2, call->stream_id, nv, 3, NULL);
    } else {
        out = grpc_out_new(reply->body.len, 0);
        if (out == NULL) {
            h2_reset(call, NGHTTP2_INTERNAL_ERROR);
            return;
        }
        memcpy(out->head, reply->body.data, reply->body.len);
        out->head_len = (uint32_t)reply->body.len;
        out->total = reply->body.len;
        call->out_first = out;
        call->out_last = &out->next;
        call->out_bytes += out->total;
        call->conn->output_bytes += out->total;
        call->conn->server->counters.output_bytes += out->total;
        nghttp2_submit_response(call->conn->h2, call->stream_id, nv, 3, &provider);
    }
    conn_mark_dirty(call->conn);
}
