/* The client's connection: hello and welcome, frames in, frames out. Whatever is wrong with it ends in line_drop()
 * and a new try. */
#include "raft/client_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/socket.h"

static int epoll_set(struct client *c, int op, unsigned events)
{
    struct epoll_event ev = {.events = events, .data.fd = c->socket_fd};

    if (epoll_ctl(c->epoll_fd, op, c->socket_fd, &ev) < 0)
        return -errno;
    c->epoll_events = events;
    return 0;
}

void line_want_write(struct client *c, bool want)
{
    unsigned events = want ? EPOLLIN | EPOLLOUT : EPOLLIN;

    if (c->socket_fd >= 0 && events != c->epoll_events && epoll_set(c, EPOLL_CTL_MOD, events) < 0)
        c->broken = true;
}

static void send_hello(struct client *c)
{
    struct socket_hello hello = {SOCKET_VERSION, slice_from_str(c->program), (uint32_t)getpid()};
    struct bytes payload;

    bytes_init(&payload);
    socket_hello_encode(&hello, &payload);
    if (bytes_status(&payload) < 0)
        c->broken = true;
    socket_frame(&c->out, SOCKET_HELLO, c->next_ticket++, bytes_slice(&payload));
    bytes_fini(&payload);
}

static void close_socket(struct client *c)
{
    if (c->socket_fd >= 0)
        close(c->socket_fd);
    c->socket_fd = -1;
    c->broken = false;
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    c->in_at = c->out_at = 0;
}

static void back_off(struct client *c)
{
    close_socket(c);
    c->state = CLIENT_AWAY;
    c->connect_ms = client_now_ms() + c->backoff_ms;
    c->backoff_ms *= 2;
    if (c->backoff_ms > BACKOFF_MAX_MS)
        c->backoff_ms = BACKOFF_MAX_MS;
    client_arm(c, c->connect_ms);
}

void line_connect(struct client *c, uint64_t now_ms)
{
    c->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->socket_fd < 0)
        goto fail;
    /* A Unix socket connects at once or says EAGAIN when the listener's queue is full: then later. */
    if (connect(c->socket_fd, (const struct sockaddr *)&c->address, sizeof(c->address)) < 0)
        goto fail;
    if (epoll_set(c, EPOLL_CTL_ADD, EPOLLIN) < 0)
        goto fail;
    c->state = CLIENT_GREETING;
    c->connect_ms = now_ms + WELCOME_WAIT_MS;
    client_arm(c, c->connect_ms);
    send_hello(c);
    line_send(c);
    return;
fail:
    back_off(c);
}

/* What was under way when the connection went: proposals that may be repeated and questions go again, in their old
 * order and before newer ones; the others end. */
static void requeue_sent(struct client *c, struct list *lost)
{
    while (!list_empty(&c->sent)) {
        struct request *r = LIST_ITEM(c->sent.prev, struct request, link);

        list_remove(&r->link);
        if (r->once) {
            list_push_front(lost, &r->link);
            continue;
        }
        r->uncertain = true;
        r->state = STATE_QUEUED;
        list_push_front(&c->queue, &r->link);
    }
}

void line_drop(struct client *c)
{
    bool was_ready = c->state == CLIENT_READY;
    struct list lost;

    list_init(&lost);
    back_off(c);
    c->leader = 0;
    requeue_sent(c, &lost);
    /* On the list of the sent ones again, so that a callback that cancels or closes finds each of them. */
    while (!list_empty(&lost)) {
        struct request *r = LIST_ITEM(lost.next, struct request, link);

        r->uncertain = true;
        request_move(c, r, STATE_SENT);
    }
    if (was_ready && c->cb.on_disconnected != NULL)
        c->cb.on_disconnected(c->cb.ctx);
    while (!c->closed && !list_empty(&c->sent))
        client_finish(c, LIST_ITEM(c->sent.next, struct request, link), STATUS_TIMEOUT_CONNECTION_LOST);
}

/* ---- frames in ---- */

static void note_revision(struct client *c, uint64_t epoch, int64_t revision)
{
    if (epoch < c->epoch || (epoch == c->epoch && revision <= c->revision))
        return;
    c->epoch = epoch;
    c->revision = revision;
    if (c->cb.on_revision != NULL)
        c->cb.on_revision(c->cb.ctx, epoch, revision);
}

static void note_leader(struct client *c, uint64_t leader, uint64_t term)
{
    c->leader = leader;
    c->term = term;
    if (c->cb.on_leader != NULL)
        c->cb.on_leader(c->cb.ctx, leader, term);
}

static char *dup_slice(struct slice s)
{
    char *p = memchr(s.data, 0, s.len) == NULL ? malloc(s.len + 1) : NULL;

    if (p == NULL)
        return NULL;
    memcpy(p, s.data, s.len);
    p[s.len] = '\0';
    return p;
}

static int take_welcome(struct client *c, struct slice payload)
{
    struct socket_welcome w;
    char *name, *store_dir;
    int rc = socket_welcome_decode(payload, &w);

    if (rc < 0)
        return rc;
    name = dup_slice(w.name);
    store_dir = dup_slice(w.store_dir);
    if (name == NULL || store_dir == NULL) {
        free(name);
        free(store_dir);
        return -EBADMSG;
    }
    free(c->name);
    free(c->store_dir);
    c->name = name;
    c->store_dir = store_dir;
    c->info = (struct client_info){w.cluster_id, w.member_id, w.heartbeat_ms, w.election_ms, name, store_dir};
    c->welcomed = true;
    c->state = CLIENT_READY;
    c->backoff_ms = BACKOFF_MIN_MS;
    if (c->cb.on_connected != NULL)
        c->cb.on_connected(c->cb.ctx, &c->info);
    if (!c->closed)
        note_leader(c, w.leader, w.term);
    if (!c->closed)
        note_revision(c, w.epoch, w.revision);
    return 0;
}

static int take_refused(struct client *c, struct slice payload)
{
    char text[256];
    size_t n = payload.len < sizeof(text) - 1 ? payload.len : sizeof(text) - 1;

    if (n != 0)
        memcpy(text, payload.data, n);
    text[n] = '\0';
    close_socket(c);
    c->state = CLIENT_REFUSED;
    c->leader = 0;
    if (c->cb.on_refused != NULL)
        c->cb.on_refused(c->cb.ctx, text);
    while (!c->closed && c->heap_size != 0)
        client_finish(c, c->heap[0], STATUS_PERMISSION_DENIED);
    return 0;
}

static int take_proposed(struct client *c, struct request *r, struct slice payload)
{
    struct socket_proposed m;
    struct client_answer answer;
    int rc = socket_proposed_decode(payload, &m);

    if (rc < 0 || r == NULL)
        return rc;
    if (r->kind != REQUEST_PROPOSE)
        return -EBADMSG;
    answer = (struct client_answer){m.status, m.revision, m.term, m.body};
    client_answered(c, r, &answer);
    return 0;
}

static int take_barrier_done(struct client *c, struct request *r, struct slice payload)
{
    struct socket_barrier_done m;
    int rc = socket_barrier_done_decode(payload, &m);

    if (rc < 0 || r == NULL)
        return rc;
    if (r->kind != REQUEST_BARRIER)
        return -EBADMSG;
    client_finish_barrier(c, r, m.status, m.epoch, m.revision);
    return 0;
}

static int take_status(struct client *c, struct request *r, struct slice payload)
{
    if (r == NULL)
        return 0;
    if (r->kind != REQUEST_STATUS)
        return -EBADMSG;
    client_finish_status(c, r, STATUS_OK, payload);
    return 0;
}

static int take_notice(struct client *c, struct slice payload)
{
    struct socket_notice m;
    int rc = socket_notice_decode(payload, &m);

    if (rc == 0)
        note_revision(c, m.epoch, m.revision);
    return rc;
}

static int take_leader(struct client *c, struct slice payload)
{
    struct socket_leader m;
    int rc = socket_leader_decode(payload, &m);

    if (rc == 0)
        note_leader(c, m.leader, m.term);
    return rc;
}

static int take_frame(struct client *c, const struct socket_head *head, struct slice payload)
{
    struct request *r = request_find(c, head->tag);

    if (c->state == CLIENT_GREETING) {
        if (head->type == SOCKET_WELCOME)
            return take_welcome(c, payload);
        return head->type == SOCKET_REFUSED ? take_refused(c, payload) : -EBADMSG;
    }
    /* A tag without a request is that of one that was given up. One that was not sent yet has no reply. */
    if (r != NULL && r->state != STATE_SENT)
        return -EBADMSG;
    switch (head->type) {
    case SOCKET_REFUSED:
        return take_refused(c, payload);
    case SOCKET_PROPOSED:
        return take_proposed(c, r, payload);
    case SOCKET_BARRIER_DONE:
        return take_barrier_done(c, r, payload);
    case SOCKET_STATUS_REPLY:
        return take_status(c, r, payload);
    case SOCKET_NOTICE:
        return take_notice(c, payload);
    case SOCKET_LEADER:
        return take_leader(c, payload);
    case SOCKET_KEEPALIVE_DONE:
    case SOCKET_LEASE_TIME_DONE:
    case SOCKET_MEMBER_DONE:
    case SOCKET_MAINTAIN_DONE:
        return client_service_done(c, r, head->type, payload);
    }
    return -EBADMSG;
}

/* All whole frames in the buffer. */
static int take_frames(struct client *c)
{
    while (c->socket_fd >= 0 && !c->closed) {
        struct slice rest = slice_make(c->in.data + c->in_at, c->in.len - c->in_at);
        struct socket_head head;
        int rc = socket_head_decode(rest, SOCKET_ANSWER_MAX_BYTES, &head);

        if (rc < 0)
            return rc;
        if (rc == 0 || rest.len - SOCKET_HEAD_BYTES < head.payload_bytes)
            return 0;
        c->in_at += SOCKET_HEAD_BYTES + head.payload_bytes;
        rc = take_frame(c, &head, slice_make(rest.data + SOCKET_HEAD_BYTES, head.payload_bytes));
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void compact_in(struct client *c)
{
    if (c->in_at == 0 || c->in.data == NULL)
        return;
    memmove(c->in.data, c->in.data + c->in_at, c->in.len - c->in_at);
    c->in.len -= c->in_at;
    c->in_at = 0;
    if (c->in.len == 0 && c->in.cap > OUT_HIGH_BYTES)
        bytes_fini(&c->in); /* one large answer does not stay with us */
}

/* 1: there may be more. */
static int receive_chunk(struct client *c)
{
    uint8_t *p = bytes_grow(&c->in, RECEIVE_CHUNK_BYTES);
    ssize_t n;

    if (p == NULL)
        return -ENOMEM;
    n = recv(c->socket_fd, p, RECEIVE_CHUNK_BYTES, 0);
    c->in.len -= RECEIVE_CHUNK_BYTES - (n > 0 ? (size_t)n : 0);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return n == RECEIVE_CHUNK_BYTES;
}

void line_receive(struct client *c)
{
    int rc = 1;

    for (int i = 0; i < RECEIVE_CHUNKS && rc == 1 && c->socket_fd >= 0 && !c->closed; i++) {
        int frames;

        rc = receive_chunk(c);
        frames = take_frames(c);
        if (frames < 0)
            rc = frames;
        if (c->socket_fd >= 0 && !c->closed)
            compact_in(c);
    }
    if (rc < 0 && c->socket_fd >= 0 && !c->closed)
        line_drop(c);
}

/* ---- frames out ---- */

static const uint8_t frame_type[] = {
    [REQUEST_PROPOSE] = SOCKET_PROPOSE,
    [REQUEST_BARRIER] = SOCKET_BARRIER,
    [REQUEST_STATUS] = SOCKET_STATUS,
    [REQUEST_KEEPALIVE] = SOCKET_KEEPALIVE,
    [REQUEST_LEASE_TIME] = SOCKET_LEASE_TIME,
    [REQUEST_MEMBER] = SOCKET_MEMBER,
    [REQUEST_MAINTAIN] = SOCKET_MAINTAIN,
};

void line_pump(struct client *c)
{
    while (c->state == CLIENT_READY && !c->broken && c->out.len - c->out_at < OUT_HIGH_BYTES &&
           !list_empty(&c->queue)) {
        struct request *r = LIST_ITEM(c->queue.next, struct request, link);

        socket_frame(&c->out, frame_type[r->kind], r->ticket, bytes_slice(&r->payload));
        if (bytes_status(&c->out) < 0) {
            c->broken = true;
            return;
        }
        r->attempts++;
        request_move(c, r, STATE_SENT);
        if (r->once)
            bytes_fini(&r->payload);
    }
}

void line_send(struct client *c)
{
    while (!c->broken && c->out_at < c->out.len) {
        ssize_t n = send(c->socket_fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            c->broken = true;
            return;
        }
        c->out_at += (size_t)n;
    }
    if (c->out_at == c->out.len) {
        bytes_reset(&c->out);
        c->out_at = 0;
        if (c->out.cap > 2 * OUT_HIGH_BYTES)
            bytes_fini(&c->out);
    } else if (c->out_at >= OUT_HIGH_BYTES) {
        memmove(c->out.data, c->out.data + c->out_at, c->out.len - c->out_at);
        c->out.len -= c->out_at;
        c->out_at = 0;
    }
    line_want_write(c, c->out.len != 0);
}
