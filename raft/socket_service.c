/* What front ends ask besides proposals and barriers: leases, members, maintenance. */
#include <errno.h>
#include <stdlib.h>

#include "raft/socket_impl.h"

#define REQUEST_OF(p, member) ((struct socket_request *)((char *)(p)-offsetof(struct socket_request, member)))

void socket_service_cancel(struct socket_request *r)
{
    struct node *node = r->conn->s->o.node;

    if (r->kind == REQUEST_LEASE)
        node_lease_cancel(node, &r->lease);
    else if (r->kind == REQUEST_MEMBER)
        node_member_change_cancel(node, &r->member);
    else
        node_maintain_cancel(node, &r->maintain);
}

/* ---- replies ---- */

static void send_lease(struct socket_conn *c, bool prolong, uint64_t tag, uint16_t status, int64_t granted_s,
                       int64_t remaining_s)
{
    struct bytes *b = &c->s->scratch;

    bytes_reset(b);
    if (prolong)
        socket_keepalive_done_encode(&(struct socket_keepalive_done){status, granted_s}, b);
    else
        socket_lease_time_done_encode(&(struct socket_lease_time_done){status, granted_s, remaining_s}, b);
    socket_conn_send(c, prolong ? SOCKET_KEEPALIVE_DONE : SOCKET_LEASE_TIME_DONE, tag, bytes_slice(b));
}

static void send_member(struct socket_conn *c, uint64_t tag, const struct socket_member_done *done)
{
    struct bytes *b = &c->s->scratch;

    bytes_reset(b);
    socket_member_done_encode(done, b);
    socket_conn_send(c, SOCKET_MEMBER_DONE, tag, bytes_slice(b));
}

static void send_maintain(struct socket_conn *c, uint64_t tag, uint16_t status, uint64_t index, const char *path)
{
    struct socket_maintain_done m = {status, index, slice_from_str(path)};
    struct bytes *b = &c->s->scratch;

    bytes_reset(b);
    socket_maintain_done_encode(&m, b);
    socket_conn_send(c, SOCKET_MAINTAIN_DONE, tag, bytes_slice(b));
}

static void lease_done(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct socket_request *r = REQUEST_OF(l, lease);
    struct socket_conn *c = r->conn;
    bool prolong = l->prolong;
    uint64_t tag = r->tag;

    socket_request_free(r);
    send_lease(c, prolong, tag, status, granted_s, remaining_s);
}

static void member_done(struct node_member_change *m, const struct socket_member_done *done)
{
    struct socket_request *r = REQUEST_OF(m, member);
    struct socket_conn *c = r->conn;
    uint64_t tag = r->tag;

    socket_request_free(r);
    send_member(c, tag, done);
}

static void maintain_done(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    struct socket_request *r = REQUEST_OF(m, maintain);
    struct socket_conn *c = r->conn;
    uint64_t tag = r->tag;

    socket_request_free(r);
    send_maintain(c, tag, status, index, path);
}

/* ---- frames ---- */

static int take_lease(struct socket_conn *c, bool prolong, uint64_t tag, struct slice payload)
{
    struct socket_request *r;
    struct socket_lease m;
    int rc = socket_lease_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (!socket_has_room(c, 0)) {
        c->s->counters.too_many++;
        send_lease(c, prolong, tag, STATUS_TOO_MANY_REQUESTS, 0, 0);
        return 0;
    }
    r = socket_request_new(c, REQUEST_LEASE, tag, 0);
    if (r == NULL)
        return -ENOMEM;
    r->lease.prolong = prolong;
    r->lease.id = m.id;
    r->lease.done = lease_done;
    node_lease(c->s->o.node, &r->lease);
    return 0;
}

static int take_member(struct socket_conn *c, uint64_t tag, struct slice payload)
{
    struct socket_member_change m;
    struct socket_request *r;
    char *urls;
    int rc = socket_member_change_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (m.peer_urls.len != 0 && memchr(m.peer_urls.data, 0, m.peer_urls.len) != NULL)
        return -EBADMSG;
    if (!socket_has_room(c, payload.len)) {
        c->s->counters.too_many++;
        send_member(c, tag, &(struct socket_member_done){.status = STATUS_TOO_MANY_REQUESTS});
        return 0;
    }
    urls = m.peer_urls.len != 0 ? strndup((const char *)m.peer_urls.data, m.peer_urls.len) : strdup("");
    r = urls != NULL ? socket_request_new(c, REQUEST_MEMBER, tag, payload.len) : NULL;
    if (r == NULL) {
        free(urls);
        return -ENOMEM;
    }
    r->member.op = m.op;
    r->member.learner = m.learner;
    r->member.id = m.id;
    r->member.take_peer_urls = urls;
    r->member.done = member_done;
    node_member_change(c->s->o.node, &r->member);
    return 0;
}

static int take_maintain(struct socket_conn *c, uint64_t tag, struct slice payload)
{
    struct socket_maintain m;
    struct socket_request *r;
    int rc = socket_maintain_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (!socket_has_room(c, 0)) {
        c->s->counters.too_many++;
        send_maintain(c, tag, STATUS_TOO_MANY_REQUESTS, 0, "");
        return 0;
    }
    r = socket_request_new(c, REQUEST_MAINTAIN, tag, 0);
    if (r == NULL)
        return -ENOMEM;
    r->maintain.op = m.op;
    r->maintain.arg = m.arg;
    r->maintain.done = maintain_done;
    node_maintain(c->s->o.node, &r->maintain);
    return 0;
}

int socket_take_service(struct socket_conn *c, const struct socket_head *head, struct slice payload)
{
    switch (head->type) {
    case SOCKET_KEEPALIVE:
        return take_lease(c, true, head->tag, payload);
    case SOCKET_LEASE_TIME:
        return take_lease(c, false, head->tag, payload);
    case SOCKET_MEMBER:
        return take_member(c, head->tag, payload);
    case SOCKET_MAINTAIN:
        return take_maintain(c, head->tag, payload);
    default:
        return -EBADMSG;
    }
}
