/* Connections of front ends: bytes in and out, their limits, the beginning and the end. */
#include "raft/socket_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "raft/socket_impl.h"

#define BACKLOG 128

static void release(struct socket_server *s)
{
    if (--s->pending > 0 || !s->closing)
        return;
    socket_pool_free(s);
    bytes_fini(&s->scratch);
    free(s->path);
    free(s->name);
    free(s->store_dir);
    free(s);
}

static void on_conn_closed(void *ctx)
{
    struct socket_conn *c = ctx;
    struct socket_server *s = c->s;

    free(c);
    release(s);
}

void socket_conn_close(struct socket_conn *c)
{
    if (c->stream.closing)
        return;
    socket_requests_cancel(c);
    list_remove(&c->link);
    list_remove(&c->dirty);
    c->s->counters.connections--;
    stream_close(&c->stream);
}

void socket_conn_dirty(struct socket_conn *c)
{
    if (!c->stream.closing && list_empty(&c->dirty))
        list_push_back(&c->s->dirty, &c->dirty);
}

/* ---- out ---- */

void socket_conn_send(struct socket_conn *c, uint8_t type, uint64_t tag, struct slice payload)
{
    struct bytes *out = &c->stream.out;

    if (c->stream.closing || c->doomed)
        return;
    socket_frame(out, type, tag, payload);
    if (bytes_status(out) < 0 || stream_unsent(&c->stream) > SOCKET_OUT_MAX_BYTES) {
        c->s->counters.overflowed++;
        log_warn(c->s->o.logger, "a front end does not read its answers: disconnected");
        c->doomed = true;
    }
    if (!c->paused && stream_unsent(&c->stream) > SOCKET_OUT_PAUSE_BYTES) {
        c->paused = true;
        stream_read_stop(&c->stream);
    }
    socket_conn_dirty(c);
}

/* Reads on, if it had stopped and there is room again. */
static int resume(struct socket_conn *c)
{
    if (!c->paused || stream_unsent(&c->stream) >= SOCKET_OUT_PAUSE_BYTES || c->s->stopped)
        return 0;
    c->paused = false;
    return stream_read_start(&c->stream);
}

static void on_written(void *ctx)
{
    struct socket_conn *c = ctx;

    if (resume(c) < 0)
        socket_conn_close(c);
    else if (c->stream.out.len != 0 || c->notice || c->leader || c->last_words)
        socket_conn_dirty(c);
}

/* Before the loop waits: each connection gets what this turn has made with one call. A notice is added at the end, so
 * behind the answers of its revision, and only to one that keeps up. */
static void on_prepare(uv_prepare_t *p)
{
    struct socket_server *s = p->data;

    while (!list_empty(&s->dirty)) {
        struct socket_conn *c = LIST_ITEM(s->dirty.next, struct socket_conn, dirty);

        if (!c->stream.writing && c->greeted)
            socket_send_owed(c);
        if (c->doomed) {
            socket_conn_close(c);
            continue;
        }
        list_remove(&c->dirty); /* while it writes, on_written puts it back */
        if (stream_flush(&c->stream) < 0 || resume(c) < 0 || (c->last_words && !c->stream.writing))
            socket_conn_close(c);
    }
}

/* ---- in ---- */

static ssize_t take_frames(void *ctx, struct slice in)
{
    struct socket_conn *c = ctx;
    size_t at = 0;

    while (!c->stream.closing && !c->doomed && !c->last_words && !c->s->stopped) {
        struct slice rest = slice_make(in.data + at, in.len - at);
        struct socket_head head;
        int rc = socket_head_decode(rest, SOCKET_FRAME_MAX_BYTES, &head);

        if (rc < 0)
            return rc;
        if (rc == 0 || rest.len - SOCKET_HEAD_BYTES < head.payload_bytes)
            break;
        rc = socket_take_frame(c, &head, slice_make(rest.data + SOCKET_HEAD_BYTES, head.payload_bytes));
        if (rc < 0)
            return rc;
        at += SOCKET_HEAD_BYTES + head.payload_bytes;
    }
    return (ssize_t)at;
}

static void on_broken(void *ctx, int error)
{
    struct socket_conn *c = ctx;

    if (error == -EBADMSG)
        log_warn(c->s->o.logger, "a front end sends what is no request: disconnected");
    socket_conn_close(c);
}

/* ---- connections ---- */

static void on_timer(uv_timer_t *timer)
{
    struct socket_server *s = timer->data;
    uint64_t now_ms = uv_now(s->loop);
    bool waiting = false;

    LIST_FOREACH_SAFE(it, &s->conns) {
        struct socket_conn *c = LIST_ITEM(it, struct socket_conn, link);

        if (c->greeted)
            continue;
        if (now_ms - c->made_ms >= SOCKET_HELLO_WAIT_MS)
            socket_conn_close(c);
        else
            waiting = true;
    }
    if (waiting)
        uv_timer_start(&s->timer, on_timer, SOCKET_HELLO_WAIT_MS / 4, 0);
}

static int check_peer(struct socket_conn *c)
{
    uv_os_fd_t fd;
    int rc = uv_fileno((uv_handle_t *)&c->stream.uv.pipe, &fd);

    return rc < 0 ? err_from_uv(rc) : socket_peer_check(fd, c->s->path);
}

static void on_connection(uv_stream_t *listener, int status)
{
    static const struct stream_calls calls = {take_frames, on_broken, on_written, on_conn_closed};
    struct socket_server *s = listener->data;
    struct socket_conn *c = status == 0 ? calloc(1, sizeof(*c)) : NULL;
    int rc;

    if (c == NULL)
        return; /* out of descriptors or memory: front ends try again */
    uv_pipe_init(s->loop, &c->stream.uv.pipe, 0); /* cannot fail */
    stream_init(&c->stream, SOCKET_READ_BYTES, &calls, c);
    c->s = s;
    c->made_ms = uv_now(s->loop);
    list_init(&c->requests);
    list_init(&c->dirty);
    list_push_back(&s->conns, &c->link);
    s->pending++;
    s->counters.accepted++;
    s->counters.connections++;
    rc = err_from_uv(uv_accept(listener, &c->stream.uv.stream));
    if (rc == 0 && s->counters.connections > SOCKET_CONNECTIONS_MAX + SOCKET_CONNECTIONS_MAX / 8)
        rc = -EMFILE; /* so many that they do not even get a word */
    if (rc == 0)
        rc = check_peer(c);
    if (rc == -EACCES) {
        static const char text[] = "permission denied: not the node's user and not in the socket's group";

        s->counters.refused++;
        log_warn(s->o.logger, "refused a front end: permission denied");
        socket_conn_send(c, SOCKET_REFUSED, 0, slice_make(text, sizeof(text) - 1));
        c->last_words = true;
        return;
    }
    if (rc == 0)
        rc = stream_read_start(&c->stream);
    if (rc < 0) {
        socket_conn_close(c);
        return;
    }
    if (!uv_is_active((uv_handle_t *)&s->timer))
        uv_timer_start(&s->timer, on_timer, SOCKET_HELLO_WAIT_MS, 0);
}

/* ---- what the node says ---- */

void socket_server_on_revision(struct socket_server *s, uint64_t epoch, int64_t revision)
{
    s->epoch = epoch;
    s->revision = revision;
    LIST_FOREACH(it, &s->conns) {
        struct socket_conn *c = LIST_ITEM(it, struct socket_conn, link);

        c->notice = true;
        socket_conn_dirty(c);
    }
}

void socket_server_on_leader(struct socket_server *s, uint64_t leader, uint64_t term)
{
    s->leader = leader;
    s->term = term;
    LIST_FOREACH(it, &s->conns) {
        struct socket_conn *c = LIST_ITEM(it, struct socket_conn, link);

        c->leader = true;
        socket_conn_dirty(c);
    }
}

struct socket_server_counters socket_server_counters(const struct socket_server *s)
{
    return s->counters;
}

/* ---- beginning and end ---- */

static int bind_socket(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (unlink(path) < 0 && errno != ENOENT)
        goto fail;
    /* The mode of the socket is that of its name from the first moment; the umask is made up for. */
    if (fchmod(fd, 0660) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0660) < 0)
        goto fail;
    *ret_fd = fd;
    return 0;
fail:
    rc = -errno;
    close(fd);
    return rc;
}

static void on_closed(uv_handle_t *h)
{
    release(h->data);
}

static void close_handles(struct socket_server *s)
{
    s->closing = true;
    uv_close((uv_handle_t *)&s->timer, on_closed);
    uv_close((uv_handle_t *)&s->prepare, on_closed);
    if (!uv_is_closing((uv_handle_t *)&s->listener))
        uv_close((uv_handle_t *)&s->listener, on_closed);
}

void socket_server_stop(struct socket_server *s)
{
    s->stopped = true;
    if (!uv_is_closing((uv_handle_t *)&s->listener))
        uv_close((uv_handle_t *)&s->listener, on_closed);
    LIST_FOREACH(it, &s->conns)
        stream_read_stop(&LIST_ITEM(it, struct socket_conn, link)->stream);
}

void socket_server_close(struct socket_server *s)
{
    socket_server_stop(s);
    on_prepare(&s->prepare);
    while (!list_empty(&s->conns))
        socket_conn_close(LIST_ITEM(s->conns.next, struct socket_conn, link));
    unlink(s->path);
    close_handles(s);
}

static void init_handles(uv_loop_t *loop, struct socket_server *s)
{
    uv_pipe_init(loop, &s->listener, 0); /* these three cannot fail */
    uv_prepare_init(loop, &s->prepare);
    uv_timer_init(loop, &s->timer);
    uv_prepare_start(&s->prepare, on_prepare);
    s->listener.data = s->prepare.data = s->timer.data = s;
    s->pending = 3;
}

int socket_server_open(uv_loop_t *loop, const struct socket_server_options *options, struct socket_server **ret_server,
                       char *ret_text, size_t text_size)
{
    struct socket_server *s = calloc(1, sizeof(*s));
    struct node_status st;
    int fd = -1, rc;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    s->o = *options;
    s->path = strdup(options->path);
    s->name = strdup(options->name);
    s->store_dir = strdup(options->store_dir);
    list_init(&s->conns);
    list_init(&s->dirty);
    list_init(&s->pool);
    bytes_init(&s->scratch);
    node_status(options->node, &st);
    s->epoch = st.epoch;
    s->revision = st.revision;
    s->term = st.term;
    init_handles(loop, s);
    rc = s->path != NULL && s->name != NULL && s->store_dir != NULL ? bind_socket(s->path, &fd) : -ENOMEM;
    if (rc == 0)
        rc = err_from_uv(uv_pipe_open(&s->listener, fd));
    if (rc < 0 && fd >= 0)
        close(fd);
    if (rc == 0)
        rc = err_from_uv(uv_listen((uv_stream_t *)&s->listener, BACKLOG, on_connection));
    if (rc < 0) {
        snprintf(ret_text, text_size, "cannot listen on %s: %s", options->path, strerror(-rc));
        close_handles(s);
        return rc;
    }
    *ret_server = s;
    return 0;
}
