/* One connection between members: frames in, frames out. */
#include "raft/transport_impl.h"

#include <errno.h>
#include <stdlib.h>

static int take_frame(struct peer_conn *c, struct slice frame)
{
    uint8_t type = frame.data[8];
    struct slice payload = slice_make(frame.data + PEER_FRAME_HEAD_BYTES, frame.len - PEER_FRAME_HEAD_BYTES);

    if (peer_frame_verify(frame) < 0)
        return -EBADMSG;
    c->heard_ms = transport_now_ms(c->t);
    c->t->counters.bytes_received += frame.len;
    if (c->dial != NULL)
        return dial_take_frame(c->dial, type, payload);
    return accept_take_frame(c, type, payload);
}

static ssize_t take_frames(void *ctx, struct slice in)
{
    struct peer_conn *c = ctx;
    size_t at = 0;

    while (!c->stream.closing) {
        struct slice rest = slice_make(in.data + at, in.len - at);
        struct peer_frame_head head;
        size_t len;
        int rc = peer_frame_head_decode(rest, c->greeted ? PEER_FRAME_MAX_BYTES : PEER_HELLO_MAX_BYTES, &head);

        if (rc < 0)
            return rc;
        len = PEER_FRAME_HEAD_BYTES + (rc > 0 ? (size_t)head.payload_bytes : 0);
        if (rc == 0 || rest.len < len)
            break;
        rc = take_frame(c, slice_make(rest.data, len));
        if (rc < 0)
            return rc;
        at += len;
    }
    return (ssize_t)at;
}

static void on_broken(void *ctx, int error)
{
    struct peer_conn *c = ctx;
    const char *why = error == -EBADMSG ? "a frame is damaged" : stream_why(&c->stream, error);

    if (error == -EPROTO && c->dial == NULL)
        accept_tls_failed(c, why);
    else if (error == -EPROTO)
        dial_tls_failed(c->dial);
    conn_broke(c, why);
}

/* What was with the kernel is gone. */
static void on_written(void *ctx)
{
    struct peer_conn *c = ctx;

    if (c->bulk == NULL || c->stream.closing)
        return;
    c->heard_ms = transport_now_ms(c->t);
    bulk_pump(c);
}

static void on_closed(void *ctx)
{
    struct peer_conn *c = ctx;
    struct transport *t = c->t;

    free(c);
    transport_release(t);
}

int conn_new(struct transport *t, struct peer_conn **ret_conn)
{
    static const struct stream_calls calls = {take_frames, on_broken, on_written, on_closed};
    struct peer_conn *c = calloc(1, sizeof(*c));
    int rc;

    if (c == NULL)
        return -ENOMEM;
    rc = uv_tcp_init(t->loop, &c->stream.uv.tcp);
    if (rc < 0) {
        free(c);
        return err_from_uv(rc);
    }
    stream_init(&c->stream, READ_BUFFER_BYTES, &calls, c);
    c->t = t;
    c->made_ms = c->heard_ms = transport_now_ms(t);
    list_push_back(&t->conns, &c->link);
    t->pending++;
    *ret_conn = c;
    return 0;
}

int conn_use_tls(struct peer_conn *c, const char *host)
{
    struct tls_conn *tls;
    int rc = tls_conn_new(c->t->o.tls, host != NULL ? TLS_CLIENT : TLS_SERVER, host, &tls);

    if (rc == 0)
        stream_set_tls(&c->stream, tls);
    return rc;
}

int conn_start(struct peer_conn *c)
{
    uv_tcp_nodelay(&c->stream.uv.tcp, 1);
    return stream_read_start(&c->stream);
}

void conn_close(struct peer_conn *c)
{
    if (c->stream.closing)
        return;
    if (c->dial == NULL)
        c->t->n_accepted--;
    bulk_free(c);
    list_remove(&c->link);
    stream_close(&c->stream);
}

void conn_broke(struct peer_conn *c, const char *why)
{
    if (c->stream.closing)
        return;
    if (c->dial != NULL) {
        dial_drop(c->dial, why);
        return;
    }
    if (c->greeted)
        log_debug(c->t->o.logger, "connection from peer %016llx ended: %s", (unsigned long long)c->peer, why);
    conn_close(c);
}

bool conn_queue(struct peer_conn *c, uint8_t type, struct slice payload)
{
    struct bytes *out = &c->stream.out;
    size_t before = out->len;

    if (c->stream.closing || stream_unsent(&c->stream) + payload.len > TRANSPORT_QUEUE_MAX_BYTES)
        return false;
    peer_frame_encode(out, type, payload);
    if (bytes_status(out) < 0) {
        out->status = 0; /* that frame alone is lost: the encoder leaves no half */
        return false;
    }
    c->t->counters.bytes_sent += out->len - before;
    return true;
}
