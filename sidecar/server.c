/* server.c - the gRPC server as a whole: listening, the turn's end, deadlines, starting and stopping. */
#include "sidecar/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- listening ---- */

static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;

    if (status == 0 && !l->server->stopping)
        conn_accept(l);
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* The file of a socket that a killed process has left; -EADDRINUSE: somebody listens there, or it is something else. */
static int clear_path(const struct sockaddr_un *address)
{
    struct stat st;
    int fd, rc;

    if (lstat(address->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -EADDRINUSE;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    rc = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? -errno : 0;
    close(fd);
    if (rc != -ECONNREFUSED)
        return rc == 0 || rc == -EAGAIN ? -EADDRINUSE : rc;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_unix(struct listener *l, const struct sockaddr_un *address)
{
    int rc = clear_path(address);

    if (rc == 0)
        rc = uv_pipe_bind(&l->uv.pipe, address->sun_path);
    /* As with the node's own socket: the user and its group. */
    if (rc == 0 && chmod(address->sun_path, 0660) < 0)
        rc = -errno;
    return rc;
}

static int bind_address(struct listener *l, const struct sockaddr *address, int *ret_port)
{
    struct sockaddr_storage bound;
    int len = sizeof bound, rc;

    if (l->is_unix)
        return bind_unix(l, (const struct sockaddr_un *)address);
    rc = uv_tcp_bind(&l->uv.tcp, address, 0);
    if (rc == 0 && ret_port != NULL) {
        rc = uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&bound, &len);
        if (rc == 0)
            *ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                          : ((struct sockaddr_in *)&bound)->sin_port);
    }
    return rc;
}

int grpc_server_listen(struct grpc_server *s, const struct sockaddr *address, unsigned security, int *ret_port)
{
    struct listener *l = calloc(1, sizeof *l);
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->server = s;
    l->security = security;
    l->is_unix = address->sa_family == AF_UNIX;
    rc = l->is_unix ? uv_pipe_init(s->loop, &l->uv.pipe, 0) : uv_tcp_init(s->loop, &l->uv.tcp);
    if (rc < 0) {
        free(l);
        return rc;
    }
    l->uv.stream.data = l;
    rc = bind_address(l, address, ret_port);
    if (rc == 0)
        rc = uv_listen(&l->uv.stream, 1024, on_connection);
    if (rc < 0) {
        uv_close((uv_handle_t *)&l->uv.stream, on_listener_closed);
        return rc; /* libuv's codes are negative errno on Linux */
    }
    list_push_back(&s->listeners, &l->link);
    return 0;
}

/* ---- time ---- */

static void on_deadline(uv_timer_t *timer)
{
    struct grpc_server *s = timer->data;
    uint64_t now = uv_now(s->loop);
    struct deadline *d;

    while ((d = deadlines_first(&s->deadlines)) != NULL && d->at_ms <= now) {
        struct grpc_call *call = LIST_ITEM(d, struct grpc_call, deadline);

        deadlines_remove(&s->deadlines, d);
        if (call->finished) { /* its answer is not being read */
            h2_reset(call, call->changes ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
        } else {
            s->counters.deadline_exceeded++;
            if (call->changes)
                grpc_finish_status(call, STATUS_TIMEOUT);
            else
                grpc_finish(call, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        }
    }
    server_arm_timer(s);
}

void server_arm_timer(struct grpc_server *s)
{
    struct deadline *d = deadlines_first(&s->deadlines);
    uint64_t now = uv_now(s->loop);

    if (d == NULL)
        uv_timer_stop(&s->timer);
    else
        uv_timer_start(&s->timer, on_deadline, d->at_ms > now ? d->at_ms - now : 0, 0);
}

static void on_again(uv_idle_t *idle)
{
    uv_idle_stop(idle);
}

void grpc_server_send(struct grpc_server *s)
{
    struct list now;

    server_run_drained(s);
    if (s->config.turn != NULL)
        s->config.turn(s->config.app);
    list_init(&now);
    while (!list_empty(&s->dirty)) {
        struct list *it = s->dirty.next;

        list_remove(it);
        list_push_back(&now, it);
    }
    while (!list_empty(&now)) {
        struct conn *c = LIST_ITEM(now.next, struct conn, dirty_link);

        list_remove(&c->dirty_link);
        conn_flush(c);
    }
    if (!list_empty(&s->dirty) || !list_empty(&s->drained))
        uv_idle_start(&s->again, on_again);
}

/* Before the loop sleeps: everything that this turn has queued goes out, once per connection. */
static void on_prepare(uv_prepare_t *prepare)
{
    grpc_server_send(prepare->data);
}

/* Once a second: connections that never said what they want, idle HTTP/1.1, limits that are no longer in use. */
static void on_sweep(uv_timer_t *timer)
{
    struct grpc_server *s = timer->data;
    uint64_t now = uv_now(s->loop);

    LIST_FOREACH_SAFE(it, &s->conns)
    {
        struct conn *c = LIST_ITEM(it, struct conn, link);

        if (c->kind == CONN_SNIFF && now - c->opened_ms > CONN_HANDSHAKE_TIMEOUT_MS)
            conn_close(c);
        else if (c->kind == CONN_HTTP1 && now - c->last_request_ms >
                                              (c->in.len > 0 ? CONN_HANDSHAKE_TIMEOUT_MS : HTTP1_IDLE_TIMEOUT_MS))
            conn_close(c);
        else if (c->kind == CONN_H2) {
            h2_lower_streams(c);
            conn_keep_alive(c, now);
        }
    }
}

static int compare_methods(const void *a, const void *b)
{
    return strcmp(((const struct grpc_method_counts *)a)->method->path, ((const struct grpc_method_counts *)b)->method->path);
}

/* ---- starting and stopping ---- */

int grpc_server_new(uv_loop_t *loop, const struct grpc_config *config, struct grpc_server **ret_server)
{
    struct grpc_server *s = calloc(1, sizeof *s);
    int rc = -ENOMEM;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    s->config = *config;
    list_init(&s->conns);
    list_init(&s->dirty);
    list_init(&s->throttled);
    list_init(&s->drained);
    list_init(&s->listeners);
    while (config->methods[s->n_methods] != NULL)
        s->n_methods++;
    s->methods = calloc(s->n_methods + 1, sizeof *s->methods);
    s->read_scratch = malloc(CONN_READ_BYTES);
    s->write_scratch = malloc(CONN_WRITE_ROOM);
    if (s->methods == NULL || s->read_scratch == NULL || s->write_scratch == NULL)
        goto fail;
    for (size_t i = 0; i < s->n_methods; i++)
        s->methods[i].method = config->methods[i];
    qsort(s->methods, s->n_methods, sizeof *s->methods, compare_methods);
    rc = h2_setup(s);
    if (rc < 0)
        goto fail;
    uv_timer_init(loop, &s->timer);
    uv_timer_init(loop, &s->throttle_timer);
    uv_timer_init(loop, &s->sweep_timer);
    uv_timer_init(loop, &s->stop_timer);
    uv_prepare_init(loop, &s->prepare);
    uv_idle_init(loop, &s->again);
    s->timer.data = s->throttle_timer.data = s->sweep_timer.data = s->stop_timer.data = s->prepare.data = s->again.data = s;
    uv_timer_start(&s->sweep_timer, on_sweep, 1000, 1000);
    uv_prepare_start(&s->prepare, on_prepare);
    s->handles = 6;
    *ret_server = s;
    return 0;

fail:
    h2_teardown(s);
    free(s->methods);
    free(s->read_scratch);
    free(s->write_scratch);
    free(s);
    return rc;
}

static void on_own_closed(uv_handle_t *handle)
{
    struct grpc_server *s = handle->data;

    s->handles--;
    server_check_stopped(s);
}

void server_check_stopped(struct grpc_server *s)
{
    void (*stopped)(void *app) = s->stopped;

    if (!s->stopping || s->counters.conns_open > 0)
        return;
    if (!uv_is_closing((uv_handle_t *)&s->timer)) {
        uv_close((uv_handle_t *)&s->timer, on_own_closed);
        uv_close((uv_handle_t *)&s->throttle_timer, on_own_closed);
        uv_close((uv_handle_t *)&s->sweep_timer, on_own_closed);
        uv_close((uv_handle_t *)&s->stop_timer, on_own_closed);
        uv_close((uv_handle_t *)&s->prepare, on_own_closed);
        uv_close((uv_handle_t *)&s->again, on_own_closed);
    }
    if (s->handles == 0 && stopped != NULL) {
        s->stopped = NULL;
        stopped(s->config.app);
    }
}

static void on_stop_timer(uv_timer_t *timer)
{
    struct grpc_server *s = timer->data;

    while (!list_empty(&s->conns))
        conn_close(LIST_ITEM(s->conns.next, struct conn, link));
    server_check_stopped(s);
}

/* Whoever has heard the notice sends nothing new; now it is final, and streams, which would go on for ever, end. */
static void on_notice_over(uv_timer_t *timer)
{
    struct grpc_server *s = timer->data;

    s->refusing = true;
    LIST_FOREACH(it, &s->conns)
    {
        struct conn *c = LIST_ITEM(it, struct conn, link);

        h2_goaway(c, NGHTTP2_NO_ERROR, "server stopped");
        LIST_FOREACH_SAFE(jt, &c->calls)
        {
            struct grpc_call *call = LIST_ITEM(jt, struct grpc_call, link);

            if (!call->finished && call->method != NULL && call->method->method->kind == GRPC_STREAM)
                grpc_finish_status(call, STATUS_STOPPED);
        }
    }
    uv_timer_start(&s->stop_timer, on_stop_timer, DRAIN_GRACE_MS - DRAIN_NOTICE_MS, 0);
    server_check_stopped(s);
}

void grpc_server_stop(struct grpc_server *s, void (*done)(void *app))
{
    if (s->stopping)
        return;
    s->stopping = true;
    s->stopped = done;
    while (!list_empty(&s->listeners)) {
        struct listener *l = LIST_ITEM(s->listeners.next, struct listener, link);

        list_remove(&l->link);
        uv_close((uv_handle_t *)&l->uv.stream, on_listener_closed);
    }
    LIST_FOREACH_SAFE(it, &s->conns)
    {
        struct conn *c = LIST_ITEM(it, struct conn, link);

        if (c->kind == CONN_H2)
            h2_notice(c);
        else
            conn_close(c);
    }
    uv_timer_start(&s->stop_timer, on_notice_over, DRAIN_NOTICE_MS, 0);
    server_check_stopped(s);
}

void grpc_server_free(struct grpc_server *s)
{
    if (s == NULL)
        return;
    h2_teardown(s);
    bytes_fini(&s->plain);
    bytes_fini(&s->sealed);
    deadlines_fini(&s->deadlines);
    free(s->methods);
    free(s->read_scratch);
    free(s->write_scratch);
    free(s);
}

const struct grpc_counters *grpc_server_counters(const struct grpc_server *s)
{
    return &s->counters;
}

const struct grpc_method_counts *grpc_server_methods(const struct grpc_server *s, size_t *ret_count)
{
    *ret_count = s->n_methods;
    return s->methods;
}

void *grpc_server_app(const struct grpc_server *s)
{
    return s->config.app;
}

uv_loop_t *grpc_server_loop(const struct grpc_server *s)
{
    return s->loop;
}
