/* conn.c - connections: accepting, telling HTTP/2 from HTTP/1.1, reading, writing, the work budget, closing. */
#include "sidecar/conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PREFACE NGHTTP2_CLIENT_MAGIC
#define PREFACE_LEN NGHTTP2_CLIENT_MAGIC_LEN

/* ---- work budget ---- */

static void refill(struct conn *c)
{
    uint64_t now = uv_now(c->server->loop);

    c->work += (int64_t)(now - c->work_ms) * (CONN_WORK_PER_SECOND / 1000);
    if (c->work > CONN_WORK_BURST)
        c->work = CONN_WORK_BURST;
    c->work_ms = now;
}

void conn_charge(struct conn *c, unsigned units)
{
    c->work -= units;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void pause_reading(struct conn *c)
{
    if (!c->read_paused) {
        c->read_paused = true;
        uv_read_stop(&c->uv.stream);
    }
}

static void resume_reading(struct conn *c)
{
    if (c->read_paused && !c->closing && list_empty(&c->throttled_link)) {
        c->read_paused = false;
        uv_read_start(&c->uv.stream, on_alloc, on_read);
    }
}

static void on_throttle_timer(uv_timer_t *timer)
{
    struct grpc_server *s = timer->data;

    LIST_FOREACH_SAFE(it, &s->throttled)
    {
        struct conn *c = LIST_ITEM(it, struct conn, throttled_link);

        refill(c);
        if (c->work > 0) {
            list_remove(&c->throttled_link);
            resume_reading(c);
        }
    }
    if (list_empty(&s->throttled))
        uv_timer_stop(&s->throttle_timer);
}

static void throttle_if_spent(struct conn *c)
{
    struct grpc_server *s = c->server;

    if (c->work > 0)
        return;
    refill(c);
    if (c->work > 0 || !list_empty(&c->throttled_link))
        return;
    s->counters.throttled++;
    pause_reading(c);
    list_push_back(&s->throttled, &c->throttled_link);
    uv_timer_start(&s->throttle_timer, on_throttle_timer, CONN_WORK_TICK_MS, CONN_WORK_TICK_MS);
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct grpc_server *s = c->server;

    bytes_fini(&c->in);
    bytes_fini(&c->out);
    bytes_fini(&c->tls_out);
    tls_conn_free(c->tls);
    free(c->write_buf);
    free(c);
    s->counters.conns_open--;
    server_check_stopped(s);
}

void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    page_gone(c->page);
    while (!list_empty(&c->calls))
        call_free(LIST_ITEM(c->calls.next, struct grpc_call, link));
    nghttp2_session_del(c->h2);
    c->h2 = NULL;
    if (c->tls != NULL)
        conn_tls_close(c);
    list_remove(&c->link);
    list_remove(&c->dirty_link);
    list_remove(&c->throttled_link);
    uv_close((uv_handle_t *)&c->uv.stream, on_closed);
}

/* ---- writing ---- */

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = write->data;

    c->writing = false;
    free(c->write_buf);
    c->write_buf = NULL;
    if (c->closing)
        return;
    if (status < 0) {
        conn_close(c);
        return;
    }
    resume_reading(c);
    conn_mark_dirty(c);
}

void conn_mark_dirty(struct conn *c)
{
    if (!c->closing && !c->writing && list_empty(&c->dirty_link))
        list_push_back(&c->server->dirty, &c->dirty_link);
}

int conn_write(struct conn *c, const uint8_t *data, size_t len)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    int n = uv_try_write(&c->uv.stream, &buf, 1);

    if (n == UV_EAGAIN)
        n = 0;
    if (n < 0)
        return n;
    c->server->counters.bytes_out += len;
    if ((size_t)n == len)
        return 0;
    c->write_buf = malloc(len - (size_t)n);
    if (c->write_buf == NULL)
        return -ENOMEM;
    memcpy(c->write_buf, data + n, len - (size_t)n);
    buf = uv_buf_init((char *)c->write_buf, (unsigned)(len - (size_t)n));
    c->write.data = c;
    n = uv_write(&c->write, &c->uv.stream, &buf, 1, on_written);
    if (n < 0)
        return n;
    c->writing = true;
    return 0;
}

static int write_some(struct conn *c, const uint8_t *data, size_t len)
{
    return c->tls != NULL ? conn_tls_write(c, data, len) : conn_write(c, data, len);
}

static int flush_h2(struct conn *c, size_t *budget)
{
    while (!c->writing && *budget > 0) {
        ssize_t n = h2_pull(c, c->server->write_scratch, CONN_WRITE_ROOM);
        int rc;

        if (n < 0)
            return (int)n;
        if (n == 0)
            return 0;
        rc = write_some(c, c->server->write_scratch, (size_t)n);
        if (rc < 0)
            return rc;
        *budget = (size_t)n < *budget ? *budget - (size_t)n : 0;
    }
    return 0;
}

void conn_flush(struct conn *c)
{
    size_t budget = WRITE_TURN_BYTES;
    int rc = 0;

    if (c->closing || c->writing)
        return;
    if (c->tls_out.len > 0)
        rc = conn_tls_write(c, NULL, 0);
    if (rc == 0 && c->kind == CONN_H2 && c->h2 != NULL && (c->tls == NULL || tls_conn_established(c->tls))) {
        rc = flush_h2(c, &budget);
    } else if (rc == 0 && c->out.len > 0 && !c->writing) {
        rc = write_some(c, c->out.data, c->out.len);
        bytes_reset(&c->out);
    }
    if (rc < 0) {
        conn_close(c);
    } else if (c->writing) {
        if (c->kind == CONN_H2 && nghttp2_session_get_outbound_queue_size(c->h2) > CONN_CONTROL_QUEUE_MAX)
            pause_reading(c);
    } else if (budget == 0) {
        conn_mark_dirty(c); /* others first; `again` keeps the loop awake */
    } else if (c->close_after_flush || (c->kind == CONN_H2 && !h2_alive(c))) {
        conn_close(c);
    }
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = handle->data;

    *buf = uv_buf_init((char *)c->server->read_scratch, CONN_READ_BYTES);
}

/* Decides by the first bytes. 1: known, 0: more needed, negative errno. */
static int sniff(struct conn *c)
{
    size_t n = c->in.len < PREFACE_LEN ? c->in.len : PREFACE_LEN;
    int rc;

    if (memcmp(c->in.data, PREFACE, n) != 0) {
        c->kind = CONN_HTTP1;
        c->server->counters.conns_http1++;
        return 1;
    }
    if (n < PREFACE_LEN)
        return 0;
    rc = h2_open(c);
    if (rc < 0)
        return rc;
    c->kind = CONN_H2;
    rc = h2_receive(c, c->in.data, c->in.len);
    bytes_fini(&c->in);
    return rc < 0 ? rc : 1;
}

void conn_receive(struct conn *c, const uint8_t *data, size_t len)
{
    int rc = 0;

    if (c->kind != CONN_H2) {
        bytes_raw(&c->in, data, len);
        if (bytes_status(&c->in) < 0 || (c->page != NULL && c->in.len > CONN_HEADERS_MAX_BYTES)) {
            conn_close(c);
            return;
        }
        if (c->kind == CONN_SNIFF) {
            rc = sniff(c);
            if (rc == 0)
                return;
        }
        if (rc >= 0 && c->kind == CONN_HTTP1)
            http1_receive(c);
    } else {
        rc = h2_receive(c, data, len);
    }
    if (rc < 0) {
        c->close_after_flush = true; /* nghttp2 has queued a GOAWAY that says why */
        if (c->h2 == NULL) {
            conn_close(c);
            return;
        }
    }
    conn_mark_dirty(c);
    throttle_if_spent(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;

    if (n == 0 || c->closing)
        return;
    if (n < 0) {
        conn_close(c);
        return;
    }
    c->server->counters.bytes_in += (uint64_t)n;
    c->heard_ms = uv_now(c->server->loop);
    c->pinged_ms = 0;
    if (c->close_after_flush)
        return;
    if (c->kind == CONN_SNIFF && c->tls == NULL && c->in.len == 0 && !conn_tls_choose(c, (uint8_t)buf->base[0]))
        return;
    if (c->tls != NULL)
        conn_tls_receive(c, slice_make(buf->base, (size_t)n));
    else
        conn_receive(c, (const uint8_t *)buf->base, (size_t)n);
}

/* ---- clients that have gone without a word ---- */

static uint64_t or_default(uint64_t value, uint64_t usual)
{
    return value != 0 ? value : usual;
}

void conn_keep_alive(struct conn *c, uint64_t now_ms)
{
    const struct grpc_config *o = &c->server->config;

    if (c->pinged_ms != 0 && now_ms - c->pinged_ms >= or_default(o->keepalive_timeout_ms, KEEPALIVE_TIMEOUT_MS)) {
        c->server->counters.conns_silent++;
        conn_close(c);
    } else if (c->pinged_ms == 0 && !c->read_paused &&
               now_ms - c->heard_ms >= or_default(o->keepalive_interval_ms, KEEPALIVE_INTERVAL_MS)) {
        c->pinged_ms = now_ms;
        h2_ping(c);
    }
}

/* ---- accepting ---- */

static void on_discard(uv_handle_t *handle)
{
    free(handle->data);
}

static int init_handle(struct grpc_server *s, bool is_unix, uv_stream_t *stream)
{
    return is_unix ? uv_pipe_init(s->loop, (uv_pipe_t *)stream, 0) : uv_tcp_init(s->loop, (uv_tcp_t *)stream);
}

static void turn_away(struct grpc_server *s, struct listener *l)
{
    struct conn *c = malloc(sizeof *c); /* for its handle */

    s->counters.conns_refused++;
    if (c != NULL && init_handle(s, l->is_unix, &c->uv.stream) == 0) {
        c->uv.stream.data = c;
        uv_accept(&l->uv.stream, &c->uv.stream);
        uv_close((uv_handle_t *)&c->uv.stream, on_discard);
    } else {
        free(c);
    }
}

/* With its handle, not yet connected to anything; NULL without memory or place. */
static struct conn *conn_new(struct grpc_server *s, unsigned security, bool is_unix)
{
    struct conn *c = s->counters.conns_open < SERVER_CONNS_MAX ? calloc(1, sizeof *c) : NULL;

    if (c == NULL)
        return NULL;
    c->server = s;
    c->security = security;
    list_init(&c->calls);
    list_init(&c->dirty_link);
    list_init(&c->throttled_link);
    bytes_init(&c->in);
    bytes_init(&c->out);
    bytes_init(&c->tls_out);
    c->opened_ms = c->last_request_ms = c->work_ms = c->heard_ms = uv_now(s->loop);
    c->work = CONN_WORK_BURST;
    init_handle(s, is_unix, &c->uv.stream);
    c->uv.stream.data = c;
    s->counters.conns_open++;
    list_push_back(&s->conns, &c->link);
    return c;
}

static void conn_begin(struct conn *c, bool is_unix)
{
    c->server->counters.conns_accepted++;
    if (uv_read_start(&c->uv.stream, on_alloc, on_read) < 0) {
        conn_close(c);
        return;
    }
    if (!is_unix) {
        uv_tcp_nodelay(&c->uv.tcp, 1);
        uv_tcp_keepalive(&c->uv.tcp, 1, 60);
    }
}

/* By a descriptor of its own, since a handle belongs to its loop. */
static bool give_away(struct conn *c, bool is_unix)
{
    const struct grpc_config *o = &c->server->config;
    uv_os_fd_t fd;
    int own;

    if (o->give == NULL || !o->wants_to_give(o->app) || uv_fileno((uv_handle_t *)&c->uv.stream, &fd) < 0)
        return false;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return false;
    if (o->give(o->app, own, c->security, is_unix))
        return true;
    close(own);
    return false;
}

void conn_accept(struct listener *l)
{
    struct grpc_server *s = l->server;
    struct conn *c = conn_new(s, l->security, l->is_unix);

    if (c == NULL) {
        turn_away(s, l);
        return;
    }
    if (uv_accept(&l->uv.stream, &c->uv.stream) < 0 || give_away(c, l->is_unix))
        conn_close(c);
    else
        conn_begin(c, l->is_unix);
}

void grpc_server_adopt(struct grpc_server *s, int fd, unsigned security, bool is_unix)
{
    struct conn *c = s->stopping ? NULL : conn_new(s, security, is_unix);

    if (c == NULL) {
        s->counters.conns_refused++;
        close(fd);
    } else if ((is_unix ? uv_pipe_open(&c->uv.pipe, fd) : uv_tcp_open(&c->uv.tcp, fd)) < 0) {
        close(fd);
        conn_close(c);
    } else {
        conn_begin(c, is_unix);
    }
}
