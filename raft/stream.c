#include "raft/stream.h"

#include <errno.h>
#include <stdlib.h>

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
}

static void on_closed(uv_handle_t *h)
{
    struct stream *s = h->data;

    bytes_fini(&s->out);
    bytes_fini(&s->busy);
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

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = stream->data;
    ssize_t taken;

    if (n == 0 || s->closing)
        return;
    if (n < 0) {
        s->calls->broken(s->ctx, err_from_uv((int)n));
        return;
    }
    s->in_len += (size_t)n;
    taken = s->calls->take(s->ctx, slice_make(s->in, s->in_len));
    if (s->closing)
        return;
    if (taken < 0)
        s->calls->broken(s->ctx, (int)taken);
    else
        drop_taken(s, (size_t)taken);
}

int stream_read_start(struct stream *s)
{
    return err_from_uv(uv_read_start(&s->uv.stream, on_alloc, on_read));
}

void stream_read_stop(struct stream *s)
{
    uv_read_stop(&s->uv.stream);
}

/* ---- out ---- */

size_t stream_unsent(const struct stream *s)
{
    return s->out.len + s->busy.len;
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

int stream_flush(struct stream *s)
{
    struct bytes spare;
    uv_buf_t buf;
    size_t at;
    int rc;

    if (s->closing || s->writing || s->out.len == 0)
        return 0;
    buf = uv_buf_init((char *)s->out.data, (unsigned)s->out.len);
    rc = uv_try_write(&s->uv.stream, &buf, 1);
    if (rc < 0 && rc != UV_EAGAIN)
        return err_from_uv(rc);
    at = rc > 0 ? (size_t)rc : 0;
    if (at == s->out.len) {
        forget(&s->out);
        return 0;
    }
    spare = s->busy;
    s->busy = s->out;
    s->out = spare;
    buf = uv_buf_init((char *)s->busy.data + at, (unsigned)(s->busy.len - at));
    rc = uv_write(&s->write, &s->uv.stream, &buf, 1, on_written);
    s->writing = rc == 0;
    return err_from_uv(rc);
}
