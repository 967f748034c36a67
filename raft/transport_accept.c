/* The connections that peers have dialled: hello first, then frames for the node. */
#include "raft/transport_impl.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>

void accept_connection(uv_stream_t *listener, int status)
{
    struct listener *l = listener->data;
    struct transport *t = l->t;
    struct peer_conn *c;

    if (status < 0 || t->closing || conn_new(t, &c) < 0)
        return; /* out of descriptors or memory: the peer tries again */
    t->n_accepted++;
    if (uv_accept(listener, &c->stream.uv.stream) < 0 || t->n_accepted > TRANSPORT_ACCEPTED_MAX ||
        (l->tls && conn_use_tls(c, NULL) < 0) || conn_start(c) < 0) {
        conn_close(c);
        return;
    }
    transport_arm(t, c->made_ms + TRANSPORT_HELLO_WAIT_MS);
}

void accept_tick(struct peer_conn *c, uint64_t now_ms)
{
    uint64_t due_ms = c->greeted ? c->heard_ms + 2 * transport_dead_ms(c->t) : c->made_ms + TRANSPORT_HELLO_WAIT_MS;

    if (now_ms > due_ms + transport_dead_ms(c->t)) { /* it is this node that was stopped */
        c->heard_ms = c->made_ms = now_ms;
        due_ms = now_ms + transport_dead_ms(c->t);
    }
    if (now_ms < due_ms)
        transport_arm(c->t, due_ms);
    if (c->bulk != NULL && now_ms < due_ms)
        bulk_pump(c);
    else if (now_ms >= due_ms)
        conn_broke(c, c->greeted ? "it is silent" : "no hello");
}

void accept_tls_failed(struct peer_conn *c, const char *why)
{
    struct transport *t = c->t;
    struct sockaddr_storage from;
    char host[64] = "?", others[64] = "";
    int len = sizeof(from);
    uint64_t untold;

    t->counters.tls_failed++;
    if (!tls_complaint_is_due(&t->complaints, transport_now_ms(t), why, &untold))
        return;
    if (untold != 0)
        snprintf(others, sizeof(others), " (and %llu others before)", (unsigned long long)untold);
    if (uv_tcp_getpeername(&c->stream.uv.tcp, (struct sockaddr *)&from, &len) == 0)
        getnameinfo((struct sockaddr *)&from, (socklen_t)len, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
    log_warn(t->o.logger, "a connection to the peer port, from %s: %s%s", host, why, others);
}

/* Once for each peer and reason; when the table is full, no more: a stranger cannot fill the log. */
static void log_refusal(struct transport *t, uint64_t from, uint32_t code, const char *text)
{
    t->counters.refused++;
    for (size_t i = 0; i < t->n_refused; i++)
        if (t->refused[i].from == from && t->refused[i].code == code)
            return;
    if (t->n_refused == sizeof(t->refused) / sizeof(t->refused[0]))
        return;
    t->refused[t->n_refused].from = from;
    t->refused[t->n_refused++].code = code;
    log_warn(t->o.logger, "refused a connection of peer %016llx: %s", (unsigned long long)from, text);
}

/* A certificate lets in the member whose URLs name a host of it: as the membership has them, or, of a member that this node
 * does not know yet, as it says itself. */
static bool cert_fits(const struct peer_conn *c, const struct peer_hello *m)
{
    struct url said[URL_LIST_MAX];
    const struct dial *d = dial_find(c->t, m->from);
    const struct url *urls = d != NULL ? d->urls : said;
    size_t n = d != NULL ? d->n_urls : 0;
    struct slice bad;
    const char *why;

    if (c->stream.tls == NULL || !tls_conn_has_cert(c->stream.tls) || c->t->o.any_cert_name)
        return true;
    if (d == NULL && url_list_parse(m->urls, said, URL_LIST_MAX, &n, &bad, &why) < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (tls_conn_cert_is_for(c->stream.tls, urls[i].host))
            return true;
    return false;
}

uint32_t accept_judge(struct peer_conn *c, const struct peer_hello *m, char *text, size_t size)
{
    const struct transport *t = c->t;

    if (m->min_version > PEER_PROTOCOL || m->version < PEER_PROTOCOL_MIN) {
        snprintf(text, size, "it speaks versions %u to %u of the protocol, this node %d to %d", m->min_version, m->version,
                 PEER_PROTOCOL_MIN, PEER_PROTOCOL);
        return PEER_HELLO_WRONG_VERSION;
    }
    if (t->o.id == 0) {
        snprintf(text, size, "it is joining the cluster");
        return PEER_HELLO_BUSY;
    }
    if (m->cluster_id != t->o.cluster_id) {
        snprintf(text, size, "cluster %016llx is not this node's, %016llx", (unsigned long long)m->cluster_id,
                 (unsigned long long)t->o.cluster_id);
        return PEER_HELLO_WRONG_CLUSTER;
    }
    if (m->to != t->o.id || m->from == t->o.id || m->from == 0) {
        snprintf(text, size, "member %016llx looks for member %016llx, this is member %016llx",
                 (unsigned long long)m->from, (unsigned long long)m->to, (unsigned long long)t->o.id);
        return PEER_HELLO_WRONG_MEMBER;
    }
    if (!cert_fits(c, m)) {
        snprintf(text, size, "its certificate is for none of the hosts of the peer URLs of member %016llx",
                 (unsigned long long)m->from);
        return PEER_HELLO_WRONG_CERT;
    }
    return t->o.admit != NULL ? t->o.admit(t->o.ctx, m->from, m->instance, text, size) : (uint32_t)PEER_HELLO_OK;
}

static int send_reply(struct peer_conn *c, const struct peer_hello_reply *m)
{
    struct bytes b;
    bool ok;

    bytes_init(&b);
    peer_hello_reply_encode(m, &b);
    ok = bytes_status(&b) == 0 && conn_queue(c, PEER_FRAME_HELLO_REPLY, bytes_slice(&b));
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM;
}

/* A peer that dials anew has given its older connection up, whatever TCP knows of it. */
static void close_older(struct peer_conn *c)
{
    LIST_FOREACH_SAFE(it, &c->t->conns) {
        struct peer_conn *other = LIST_ITEM(it, struct peer_conn, link);

        if (other != c && other->dial == NULL && other->bulk == NULL && other->greeted && other->peer == c->peer)
            conn_close(other);
    }
}

/* One that this member does not know yet: it slept through a change of membership, or has just joined and knows nobody. To
 * learn of it, it must be able to answer. */
static void invite(struct transport *t, const struct peer_hello *m)
{
    char urls[PEER_HELLO_MAX_BYTES];
    size_t guests = 0;

    LIST_FOREACH(it, &t->dials)
        guests += LIST_ITEM(it, struct dial, link)->guest;
    if (dial_find(t, m->from) != NULL || guests >= TRANSPORT_GUESTS_MAX || m->urls.len == 0 || m->urls.len >= sizeof(urls))
        return;
    memcpy(urls, m->urls.data, m->urls.len);
    urls[m->urls.len] = '\0';
    if (dial_new(t, DIAL_FOR_PEER, m->from, urls) == 0)
        dial_find(t, m->from)->guest = true;
}

static int take_hello(struct peer_conn *c, struct slice payload)
{
    struct transport *t = c->t;
    struct peer_hello hello;
    struct peer_hello_reply reply = {.cluster_id = t->o.cluster_id, .member_id = t->o.id, .program = t->o.program};
    char text[256] = "";
    int rc;

    if (peer_hello_decode(payload, &hello) < 0)
        return -EBADMSG;
    reply.code = accept_judge(c, &hello, text, sizeof(text));
    reply.version = hello.version < PEER_PROTOCOL ? hello.version : PEER_PROTOCOL;
    if (reply.code == PEER_HELLO_WRONG_VERSION)
        reply.version = PEER_PROTOCOL;
    reply.text = slice_from_str(text);
    rc = send_reply(c, &reply);
    if (rc < 0)
        return rc;
    if (reply.code != PEER_HELLO_OK) {
        log_refusal(t, hello.from, reply.code, text);
        stream_flush(&c->stream); /* fits the socket's buffer */
        conn_close(c);
        return 0;
    }
    c->greeted = true;
    c->peer = hello.from;
    close_older(c);
    invite(t, &hello);
    transport_arm(t, c->heard_ms + 2 * transport_dead_ms(t));
    return 0;
}

int accept_take_frame(struct peer_conn *c, uint8_t type, struct slice payload)
{
    struct transport *t = c->t;

    if (!c->greeted)
        return type == PEER_FRAME_HELLO ? take_hello(c, payload) :
               type == PEER_FRAME_ASK   ? side_take_ask(c, payload) :
               type == PEER_FRAME_FETCH ? bulk_take_fetch(c, payload) : -EBADMSG;
    if (c->bulk != NULL)
        return -EBADMSG; /* it has nothing more to say */
    if (type >= PEER_FRAME_NODE_FIRST) {
        t->counters.frames_received++;
        return t->o.receive(t->o.ctx, c->peer, type, payload);
    }
    if (type != PEER_FRAME_PING || payload.len != 0)
        return -EBADMSG;
    return conn_queue(c, PEER_FRAME_PONG, slice_make(NULL, 0)) ? 0 : -ENOMEM;
}
