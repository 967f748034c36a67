#include "raft/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "tls/tls.h"

#define CIPHER_READ_BYTES (64 * 1024)
#define SEAL_BYTES (256 * 1024) /* at a time: a long queue neither holds the loop up nor stands in memory twice */
#define KEPT_BYTES (4 * 1024 * 1024) /* a buffer that one large frame has made larger does not stay */

int err_from_uv(int rc)
{
    if (rc == UV_EOF)
        return -ECONNRESET;
    return rc > -1000 ? rc : -EIO;
}

void stream_init(struct stream *s, size_t read_bytes, const struct stream_calls *calls, void *ctx)
{
    s->calls = calls;
    s->ctx = ctx;
    s->read_bytes = read_bytes;
    s->uv.stream.data = s->write.data = s;
    bytes_init(&s->out);
    bytes_init(&s->busy);
    bytes_init(&s->cipher_out);
}

void stream_set_tls(struct stream *s, struct tls_conn *take_tls)
{
    s->tls = take_tls;
}

const char *stream_why(const struct stream *s, int error)
{
    if (error == -EPROTO && s->tls != NULL)
        return tls_conn_why(s->tls);
    return error == -ECONNRESET ? "closed by the peer" : strerror(-error);
}

static void on_closed(uv_handle_t *h)
{
    struct stream *s = h->data;

    bytes_fini(&s->out);
    bytes_fini(&s->busy);
    bytes_fini(&s->cipher_out);
    tls_conn_free(s->tls);
    free(s->cipher_in);
    free(s->in);
    s->calls->closed(s->ctx);
}

void stream_close(struct stream *s)
{
    s->closing = true;
    uv_close((uv_handle_t *)&s->uv.stream, on_closed);
}

/* ---- in ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret_buf)
{
    struct stream *s = h->data;

    if (s->tls != NULL) {
        if (s->cipher_in == NULL)
            s->cipher_in = malloc(CIPHER_READ_BYTES);
        *ret_buf = uv_buf_init((char *)s->cipher_in, s->cipher_in != NULL ? CIPHER_READ_BYTES : 0);
        return;
    }
    if (s->in_cap - s->in_len < s->read_bytes / 4) {
        size_t cap = s->in_cap < s->read_bytes ? s->read_bytes : 2 * s->in_cap;
        uint8_t *in = realloc(s->in, cap);

        if (in == NULL) {
            *ret_buf = uv_buf_init(NULL, 0); /* read with UV_ENOBUFS */
            return;
        }
        s->in = in;
        s->in_cap = cap;
    }
    *ret_buf = uv_buf_init((char *)s->in + s->in_len, (unsigned)(s->in_cap - s->in_len));
}

static void drop_taken(struct stream *s, size_t taken)
{
    if (taken != 0) {
        memmove(s->in, s->in + taken, s->in_len - taken);
        s->in_len -= taken;
    }
    if (s->in_len == 0 && s->in_cap > 4 * s->read_bytes) {
        free(s->in);
        s->in = NULL;
        s->in_cap = 0;
    }
}

/* Bytes of the network into bytes of the owner, behind those that wait in `in`. */
static int open_sealed(struct stream *s, size_t n)
{
    struct bytes plain = {s->in, s->in_len, s->in_cap, 0};
    int rc = tls_conn_feed(s->tls, slice_make(s->cipher_in, n), &plain, &s->cipher_out);

    s->in = plain.data;
    s->in_len = plain.len;
    s->in_cap = plain.cap;
    if (rc == -EPROTO)
        stream_flush(s); /* the alert that says why */
    return rc;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = stream->data;
    ssize_t taken;
    int rc = 0;

    if (n == 0 || s->closing)
        return;
    if (n < 0) {
        s->calls->broken(s->ctx, err_from_uv((int)n));
        return;
    }
    if (s->tls != NULL)
        rc = open_sealed(s, (size_t)n);
    else
        s->in_len += (size_t)n;
    taken = s->calls->take(s->ctx, slice_make(s->in, s->in_len)); /* also of one that has ended: what came before it */
    if (s->closing)
        return;
    if (taken >= 0)
        drop_taken(s, (size_t)taken);
    if (taken < 0 || rc < 0)
        s->calls->broken(s->ctx, taken < 0 ? (int)taken : rc);
}

int stream_read_start(struct stream *s)
{
    int rc = s->tls != NULL ? tls_conn_start(s->tls, &s->cipher_out) : 0;

    return rc < 0 ? rc : err_from_uv(uv_read_start(&s->uv.stream, on_alloc, on_read));
}

void stream_read_stop(struct stream *s)
{
    uv_read_stop(&s->uv.stream);
}

/* ---- out ---- */

size_t stream_unsent(const struct stream *s)
{
    return s->out.len - s->sealed + s->busy.len + s->cipher_out.len;
}

static void forget(struct bytes *b)
{
    if (b->cap > KEPT_BYTES)
        bytes_fini(b);
    bytes_reset(b);
}

static void on_written(uv_write_t *w, int status)
{
    struct stream *s = w->data;

    s->writing = false;
    forget(&s->busy);
    if (s->closing)
        return;
    if (status < 0)
        s->calls->broken(s->ctx, err_from_uv(status));
    else if (s->calls->written != NULL)
        s->calls->written(s->ctx);
}

/* Of a stream of TLS: the next of what has gathered becomes records, if that can be already. */
static int seal(struct stream *s)
{
    size_t n = s->out.len - s->sealed;
    int rc;

    if (n == 0 || s->cipher_out.len >= SEAL_BYTES || !tls_conn_established(s->tls))
        return 0;
    n = n < SEAL_BYTES ? n : SEAL_BYTES;
    rc = tls_conn_send(s->tls, slice_make(s->out.data + s->sealed, n), &s->cipher_out);
    s->sealed += n;
    if (s->sealed == s->out.len) {
        forget(&s->out);
        s->sealed = 0;
    } else if (s->sealed > s->out.len / 2) { /* the rest to the front, not at every piece */
        memmove(s->out.data, s->out.data + s->sealed, s->out.len - s->sealed);
        s->out.len -= s->sealed;
        s->sealed = 0;
    }
    return rc;
}

/* 1: all that there was is with the kernel; 0: not, or there was nothing. */
static int write_out(struct stream *s, struct bytes *out)
{
    struct bytes spare;
    uv_buf_t buf = uv_buf_init((char *)out->data, (unsigned)out->len);
    size_t at;
    int rc;

    if (out->len == 0)
        return 0;
    rc = uv_try_write(&s->uv.stream, &buf, 1);
    if (rc < 0 && rc != UV_EAGAIN)
        return err_from_uv(rc);
    at = rc > 0 ? (size_t)rc : 0;
    if (at == out->len) {
        forget(out);
        return 1;
    }
    spare = s->busy;
    s->busy = *out;
    *out = spare;
    buf = uv_buf_init((char *)s->busy.data + at, (unsigned)(s->busy.len - at));
    rc = uv_write(&s->write, &s->uv.stream, &buf, 1, on_written);
    s->writing = rc == 0;
    return err_from_uv(rc);
}

int stream_flush(struct stream *s)
{
    int rc;

    if (s->closing || s->writing)
        return 0;
    if (s->tls == NULL) {
        rc = write_out(s, &s->out);
        return rc < 0 ? rc : 0;
    }
    do { /* until the socket is full; what is left goes on when that has been written */
        rc = seal(s);
        if (rc == 0)
            rc = write_out(s, &s->cipher_out);
    } while (rc == 1);
    return rc;
}
