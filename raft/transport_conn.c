/* Bytes of one connection into frames and back. */
#include "raft/transport_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "raft/env_uv.h"

int conn_new(struct transport *t, struct peer_conn **ret_conn)
{
    struct peer_conn *c = calloc(1, sizeof(*c));
    int rc;

    if (c == NULL)
        return -ENOMEM;
    rc = uv_tcp_init(t->loop, &c->tcp);
    if (rc < 0) {
        free(c);
        return err_from_uv(rc);
    }
    c->tcp.data = c;
    c->write.data = c;
    c->t = t;
    c->made_ms = c->heard_ms = transport_now_ms(t);
    bytes_init(&c->out);
    bytes_init(&c->busy);
    list_push_back(&t->conns, &c->link);
    t->pending++;
    *ret_conn = c;
    return 0;
}

static void on_closed(uv_handle_t *h)
{
    struct peer_conn *c = h->data;
    struct transport *t = c->t;

    bytes_fini(&c->out);
    bytes_fini(&c->busy);
    free(c->in);
    free(c);
    transport_release(t);
}

void conn_close(struct peer_conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    if (c->dial == NULL)
        c->t->n_accepted--;
    list_remove(&c->link);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

void conn_broke(struct peer_conn *c, const char *why)
{
    if (c->closing)
        return;
    if (c->dial != NULL) {
        dial_drop(c->dial, why);
        return;
    }
    if (c->greeted)
        log_debug(c->t->o.logger, "connection from peer %016llx ended: %s", (unsigned long long)c->peer, why);
    conn_close(c);
}

/* ---- in ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret_buf)
{
    struct peer_conn *c = h->data;

    if (c->in_cap - c->in_len < READ_BUFFER_BYTES / 4) {
        size_t cap = c->in_cap < READ_BUFFER_BYTES ? READ_BUFFER_BYTES : 2 * c->in_cap;
        uint8_t *in = realloc(c->in, cap); /* bounded by the largest frame and one buffer: see take_frames */

        if (in == NULL) {
            *ret_buf = uv_buf_init(NULL, 0); /* read with UV_ENOBUFS */
            return;
        }
        c->in = in;
        c->in_cap = cap;
    }
    *ret_buf = uv_buf_init((char *)c->in + c->in_len, (unsigned)(c->in_cap - c->in_len));
}

static int take_frame(struct peer_conn *c, struct slice frame)
{
    uint8_t type = frame.data[8];
    struct slice payload = slice_make(frame.data + PEER_FRAME_HEAD_BYTES, frame.len - PEER_FRAME_HEAD_BYTES);

    if (peer_frame_verify(frame) < 0)
        return -EBADMSG;
    c->heard_ms = transport_now_ms(c->t);
    if (c->dial != NULL)
        return dial_take_frame(c->dial, type, payload);
    return accept_take_frame(c, type, payload);
}

/* All whole frames of the buffer. */
static int take_frames(struct peer_conn *c)
{
    size_t at = 0;
    int rc = 0;

    while (!c->closing && rc == 0) {
        struct slice rest = slice_make(c->in + at, c->in_len - at);
        struct peer_frame_head head;
        size_t len;

        rc = peer_frame_head_decode(rest, c->greeted ? PEER_FRAME_MAX_BYTES : PEER_HELLO_MAX_BYTES, &head);
        if (rc <= 0)
            break;
        len = PEER_FRAME_HEAD_BYTES + (size_t)head.payload_bytes;
        rc = 0;
        if (rest.len < len)
            break;
        rc = take_frame(c, slice_make(rest.data, len));
        at += len;
    }
    if (at != 0 && !c->closing) {
        memmove(c->in, c->in + at, c->in_len - at);
        c->in_len -= at;
    }
    if (c->in_len == 0 && c->in_cap > 4 * READ_BUFFER_BYTES && !c->closing) {
        free(c->in); /* one large frame does not stay with us */
        c->in = NULL;
        c->in_cap = 0;
    }
    return rc;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct peer_conn *c = s->data;

    if (n == 0 || c->closing)
        return;
    if (n < 0) {
        conn_broke(c, n == UV_EOF ? "closed by the peer" : uv_strerror((int)n));
        return;
    }
    c->in_len += (size_t)n;
    c->t->counters.bytes_received += (uint64_t)n;
    if (take_frames(c) < 0)
        conn_broke(c, "a frame is damaged");
}

int conn_start(struct peer_conn *c)
{
    uv_tcp_nodelay(&c->tcp, 1);
    return err_from_uv(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read));
}

/* ---- out ---- */

bool conn_queue(struct peer_conn *c, uint8_t type, struct slice payload)
{
    if (c->closing || c->out.len + c->busy.len + payload.len > TRANSPORT_QUEUE_MAX_BYTES)
        return false;
    peer_frame_encode(&c->out, type, payload);
    if (bytes_status(&c->out) < 0) {
        c->out.status = 0; /* that frame alone is lost: the encoder leaves no half */
        return false;
    }
    return true;
}

static void on_written(uv_write_t *w, int status)
{
    struct peer_conn *c = w->data;

    c->writing = false;
    if (c->busy.cap > 4 * 1024 * 1024)
        bytes_fini(&c->busy);
    bytes_reset(&c->busy);
    if (status < 0)
        conn_broke(c, uv_strerror(status));
    /* What came meanwhile goes out at the end of this turn. */
}

bool conn_flush(struct peer_conn *c)
{
    uv_buf_t buf;
    struct bytes spare;
    size_t at = 0;
    int rc;

    if (c->closing || c->writing || c->out.len == 0)
        return true;
    c->t->counters.bytes_sent += c->out.len;
    buf = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
    rc = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (rc < 0 && rc != UV_EAGAIN)
        return false;
    if (rc > 0)
        at = (size_t)rc;
    if (at == c->out.len) {
        bytes_reset(&c->out);
        return true;
    }
    spare = c->busy;
    c->busy = c->out;
    c->out = spare;
    buf = uv_buf_init((char *)c->busy.data + at, (unsigned)(c->busy.len - at));
    rc = uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written);
    c->writing = rc == 0;
    return rc == 0;
}
