/* What front ends ask, and what they are told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/socket_impl.h"

/* ---- request structures ---- */

struct socket_request *socket_request_new(struct socket_conn *c, enum request_kind kind, uint64_t tag, size_t bytes)
{
    struct socket_server *s = c->s;
    struct socket_request *r;

    if (list_empty(&s->pool)) {
        r = malloc(sizeof(*r));
        if (r == NULL)
            return NULL;
    } else {
        r = LIST_ITEM(s->pool.next, struct socket_request, link);
        list_remove(&r->link);
        s->n_pool--;
    }
    memset(r, 0, sizeof(*r));
    r->conn = c;
    r->kind = kind;
    r->tag = tag;
    r->bytes = bytes;
    list_push_back(&c->requests, &r->link);
    c->n_requests++;
    c->request_bytes += bytes;
    s->counters.requests++;
    return r;
}

void socket_request_free(struct socket_request *r)
{
    struct socket_server *s = r->conn->s;

    r->conn->n_requests--;
    r->conn->request_bytes -= r->bytes;
    s->counters.requests--;
    list_remove(&r->link);
    if (s->n_pool == SOCKET_POOL_MAX) {
        free(r);
        return;
    }
    list_push_front(&s->pool, &r->link);
    s->n_pool++;
}

void socket_pool_free(struct socket_server *s)
{
    while (!list_empty(&s->pool)) {
        struct socket_request *r = LIST_ITEM(s->pool.next, struct socket_request, link);

        list_remove(&r->link);
        free(r);
    }
    s->n_pool = 0;
}

void socket_requests_cancel(struct socket_conn *c)
{
    while (!list_empty(&c->requests)) {
        struct socket_request *r = LIST_ITEM(c->requests.next, struct socket_request, link);

        if (r->kind == REQUEST_PROPOSAL)
            node_proposal_cancel(c->s->o.node, &r->proposal);
        else if (r->kind == REQUEST_BARRIER)
            node_barrier_cancel(c->s->o.node, &r->barrier);
        else
            socket_service_cancel(r);
        socket_request_free(r);
    }
}

/* ---- replies ---- */

static void send_proposed(struct socket_conn *c, uint64_t tag, uint16_t status, int64_t revision, struct slice body)
{
    struct socket_server *s = c->s;
    struct socket_proposed m = {status, revision, s->term, body};

    bytes_reset(&s->scratch);
    socket_proposed_encode(&m, &s->scratch);
    socket_conn_send(c, SOCKET_PROPOSED, tag, bytes_slice(&s->scratch));
}

static void send_barrier_done(struct socket_conn *c, uint64_t tag, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct socket_server *s = c->s;
    struct socket_barrier_done m = {status, epoch, s->term, revision};

    bytes_reset(&s->scratch);
    socket_barrier_done_encode(&m, &s->scratch);
    socket_conn_send(c, SOCKET_BARRIER_DONE, tag, bytes_slice(&s->scratch));
}

void socket_send_owed(struct socket_conn *c)
{
    struct socket_server *s = c->s;

    if (c->leader) {
        struct socket_leader m = {s->leader, s->term};

        c->leader = false;
        bytes_reset(&s->scratch);
        socket_leader_encode(&m, &s->scratch);
        socket_conn_send(c, SOCKET_LEADER, 0, bytes_slice(&s->scratch));
    }
    if (c->notice) {
        struct socket_notice m = {s->epoch, s->revision};

        c->notice = false;
        bytes_reset(&s->scratch);
        socket_notice_encode(&m, &s->scratch);
        socket_conn_send(c, SOCKET_NOTICE, 0, bytes_slice(&s->scratch));
    }
}

static void proposal_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct socket_request *r = (struct socket_request *)((char *)p - offsetof(struct socket_request, proposal));
    struct socket_conn *c = r->conn;
    uint64_t tag = r->tag;

    socket_request_free(r);
    if (body.len > SOCKET_ANSWER_MAX_BYTES - 64) /* it took effect, and the answer cannot be carried */
        body = slice_make(NULL, 0), status = STATUS_TOO_LARGE;
    send_proposed(c, tag, status, revision, body);
}

static void barrier_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct socket_request *r = (struct socket_request *)((char *)b - offsetof(struct socket_request, barrier));
    struct socket_conn *c = r->conn;
    uint64_t tag = r->tag;

    socket_request_free(r);
    send_barrier_done(c, tag, status, epoch, revision);
}

/* ---- frames ---- */

bool socket_has_room(const struct socket_conn *c, size_t bytes)
{
    return c->n_requests < SOCKET_REQUESTS_MAX && c->request_bytes + bytes <= SOCKET_REQUEST_BYTES_MAX;
}

static int take_propose(struct socket_conn *c, uint64_t tag, struct slice payload)
{
    struct socket_server *s = c->s;
    struct socket_request *r = NULL;
    uint8_t *command = NULL;

    s->counters.proposals++;
    if (payload.len == 0)
        return -EBADMSG;
    if (!socket_has_room(c, payload.len)) {
        s->counters.too_many++;
        send_proposed(c, tag, STATUS_TOO_MANY_REQUESTS, 0, slice_make(NULL, 0));
        return 0;
    }
    command = malloc(payload.len);
    r = command != NULL ? socket_request_new(c, REQUEST_PROPOSAL, tag, payload.len) : NULL;
    if (r == NULL) {
        free(command);
        return -ENOMEM;
    }
    memcpy(command, payload.data, payload.len);
    r->proposal.take_command = command;
    r->proposal.command_len = payload.len;
    r->proposal.done = proposal_done;
    node_propose(s->o.node, &r->proposal);
    return 0;
}

static int take_barrier(struct socket_conn *c, uint64_t tag)
{
    struct socket_server *s = c->s;
    struct socket_request *r;

    s->counters.barriers++;
    if (!socket_has_room(c, 0)) {
        s->counters.too_many++;
        send_barrier_done(c, tag, STATUS_TOO_MANY_REQUESTS, 0, 0);
        return 0;
    }
    r = socket_request_new(c, REQUEST_BARRIER, tag, 0);
    if (r == NULL)
        return -ENOMEM;
    r->barrier.done = barrier_done;
    node_barrier(s->o.node, &r->barrier);
    return 0;
}

static int take_status(struct socket_conn *c, uint64_t tag)
{
    struct bytes *b = &c->s->scratch;

    bytes_reset(b);
    socket_status_json(c->s, b);
    if (bytes_status(b) < 0)
        return -ENOMEM;
    socket_conn_send(c, SOCKET_STATUS_REPLY, tag, bytes_slice(b));
    return 0;
}

static void refuse(struct socket_conn *c, uint64_t tag, const char *text)
{
    c->s->counters.refused++;
    socket_conn_send(c, SOCKET_REFUSED, tag, slice_from_str(text));
    c->last_words = true;
}

static int take_hello(struct socket_conn *c, uint64_t tag, struct slice payload)
{
    struct socket_server *s = c->s;
    struct socket_hello hello;
    struct socket_welcome m = {
        .version = SOCKET_VERSION,
        .cluster_id = s->o.cluster_id,
        .member_id = s->o.member_id,
        .leader = s->leader,
        .term = s->term,
        .epoch = s->epoch,
        .revision = s->revision,
        .heartbeat_ms = s->o.heartbeat_ms,
        .election_ms = s->o.election_ms,
        .name = slice_from_str(s->name),
        .store_dir = slice_from_str(s->store_dir),
    };
    char text[128];
    int rc = socket_hello_decode(payload, &hello);

    if (rc == -EPROTONOSUPPORT) {
        snprintf(text, sizeof(text), "this node speaks version %d of the socket's protocol", SOCKET_VERSION);
        refuse(c, tag, text);
        return 0;
    }
    if (rc < 0)
        return rc;
    if (s->counters.connections > SOCKET_CONNECTIONS_MAX) {
        refuse(c, tag, "this node has too many front ends");
        return 0;
    }
    c->greeted = true;
    bytes_reset(&s->scratch);
    socket_welcome_encode(&m, &s->scratch);
    socket_conn_send(c, SOCKET_WELCOME, tag, bytes_slice(&s->scratch));
    log_debug(s->o.logger, "front end '%.*s', process %u", (int)(hello.program.len < 64 ? hello.program.len : 64),
              hello.program.len != 0 ? (const char *)hello.program.data : "", hello.pid);
    return 0;
}

int socket_take_frame(struct socket_conn *c, const struct socket_head *head, struct slice payload)
{
    if (!c->greeted)
        return head->type == SOCKET_HELLO ? take_hello(c, head->tag, payload) : -EBADMSG;
    switch (head->type) {
    case SOCKET_PROPOSE:
        return take_propose(c, head->tag, payload);
    case SOCKET_BARRIER:
        return payload.len == 0 ? take_barrier(c, head->tag) : -EBADMSG;
    case SOCKET_STATUS:
        return payload.len == 0 ? take_status(c, head->tag) : -EBADMSG;
    default:
        return socket_take_service(c, head, payload);
    }
}
