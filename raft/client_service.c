/* What a client asks its node besides proposals and barriers: leases, members, maintenance. */
#include "raft/client_impl.h"

#include <errno.h>

static int64_t submit(struct client *c, struct request *r)
{
    if (bytes_status(&r->payload) < 0) {
        int rc = bytes_status(&r->payload);

        request_free(r);
        return rc;
    }
    return client_submit(c, r, STATUS_OK);
}

int64_t client_keepalive(struct client *c, int64_t lease, uint64_t deadline_ms, client_keepalive_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_KEEPALIVE, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.keepalive = fn;
    socket_lease_encode(&(struct socket_lease){lease}, &r->payload);
    return submit(c, r);
}

int64_t client_lease_time(struct client *c, int64_t lease, uint64_t deadline_ms, client_lease_time_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_LEASE_TIME, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.lease_time = fn;
    socket_lease_encode(&(struct socket_lease){lease}, &r->payload);
    return submit(c, r);
}

int64_t client_member(struct client *c, const struct socket_member_change *change, uint64_t deadline_ms,
                      client_member_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_MEMBER, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.member = fn;
    r->once = change->op != SOCKET_MEMBER_LIST;
    socket_member_change_encode(change, &r->payload);
    return submit(c, r);
}

int64_t client_maintain(struct client *c, const struct socket_maintain *maintain, uint64_t deadline_ms,
                        client_maintain_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_MAINTAIN, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.maintain = fn;
    r->once = true;
    socket_maintain_encode(maintain, &r->payload);
    return submit(c, r);
}

void client_service_failed(const struct request *r, uint16_t status)
{
    struct socket_member_done member = {.status = status};
    struct socket_maintain_done maintain = {.status = status};

    switch (r->kind) {
    case REQUEST_KEEPALIVE:
        r->fn.keepalive(r->arg, status, 0);
        break;
    case REQUEST_LEASE_TIME:
        r->fn.lease_time(r->arg, status, 0, 0);
        break;
    case REQUEST_MEMBER:
        r->fn.member(r->arg, &member);
        break;
    case REQUEST_MAINTAIN:
        r->fn.maintain(r->arg, &maintain);
        break;
    default: /* the others end in client.c */
        break;
    }
}

static int keepalive_done(struct client *c, struct request *r, struct slice payload)
{
    struct socket_keepalive_done m;
    int rc = socket_keepalive_done_decode(payload, &m);

    if (rc < 0)
        return rc;
    request_remove(c, r);
    r->fn.keepalive(r->arg, m.status, m.ttl_s);
    request_free(r);
    return 0;
}

static int lease_time_done(struct client *c, struct request *r, struct slice payload)
{
    struct socket_lease_time_done m;
    int rc = socket_lease_time_done_decode(payload, &m);

    if (rc < 0)
        return rc;
    request_remove(c, r);
    r->fn.lease_time(r->arg, m.status, m.granted_s, m.remaining_s);
    request_free(r);
    return 0;
}

static int member_done(struct client *c, struct request *r, struct slice payload)
{
    struct socket_member_done m;
    int rc = socket_member_done_decode(payload, &m);

    if (rc < 0)
        return rc;
    request_remove(c, r);
    r->fn.member(r->arg, &m);
    request_free(r);
    return 0;
}

static int maintain_done(struct client *c, struct request *r, struct slice payload)
{
    struct socket_maintain_done m;
    int rc = socket_maintain_done_decode(payload, &m);

    if (rc < 0)
        return rc;
    request_remove(c, r);
    r->fn.maintain(r->arg, &m);
    request_free(r);
    return 0;
}

int client_service_done(struct client *c, struct request *r, uint8_t type, struct slice payload)
{
    static const struct {
        uint8_t type;
        enum request_kind kind;
        int (*take)(struct client *c, struct request *r, struct slice payload);
    } replies[] = {
        {SOCKET_KEEPALIVE_DONE, REQUEST_KEEPALIVE, keepalive_done},
        {SOCKET_LEASE_TIME_DONE, REQUEST_LEASE_TIME, lease_time_done},
        {SOCKET_MEMBER_DONE, REQUEST_MEMBER, member_done},
        {SOCKET_MAINTAIN_DONE, REQUEST_MAINTAIN, maintain_done},
    };

    if (r == NULL)
        return 0; /* it was given up */
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        if (replies[i].type == type && replies[i].kind == r->kind)
            return replies[i].take(c, r, payload);
    return -EBADMSG;
}
