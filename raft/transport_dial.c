/* The connections that this node dials and sends on: one for each peer, tried again for ever.
 *
 *  WAITING --due--> RESOLVING --addresses--> CONNECTING --connected--> GREETING --reply--> UP
 *     ^                 |                       |  ^ next address          |               |
 *     +---- back_off ---+-----------------------+--+----------------------+-- dial_drop ---+ */
#include "raft/transport_impl.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MIN_MS 20

static uint64_t backoff_max_ms(const struct transport *t)
{
    uint64_t ms = t->o.election_ms / 4; /* well below an election timeout: a peer that is back is heard before one */

    return ms < BACKOFF_MIN_MS ? BACKOFF_MIN_MS : ms > 1000 ? 1000 : ms;
}

/* How long a connection may take to be made, and to be greeted. */
static uint64_t patience_ms(const struct transport *t)
{
    uint64_t ms = t->o.election_ms / 2;

    return ms < 250 ? 250 : ms > 5000 ? 5000 : ms;
}

void dial_set_state(struct dial *d, enum dial_state state, uint64_t due_ms)
{
    d->state = state;
    d->due_ms = due_ms;
    transport_arm(d->t, due_ms);
}

static void complain(struct dial *d, const char *why)
{
    if (d->complained || (d->use == DIAL_FOR_ASKING && why[0] == '\0'))
        return;
    d->complained = true;
    log_info(d->t->o.logger, "peer %016llx at %s: %s; it is tried again", (unsigned long long)d->id, d->text, why);
}

static void forget_addresses(struct dial *d)
{
    if (d->found != NULL)
        uv_freeaddrinfo(d->found);
    d->found = d->next = NULL;
}

static void back_off(struct dial *d)
{
    uint64_t now = transport_now_ms(d->t);

    forget_addresses(d);
    d->next_url = (d->next_url + 1) % d->n_urls;
    dial_set_state(d, DIAL_WAITING, now + d->backoff_ms);
    d->backoff_ms *= 2;
    if (d->backoff_ms > backoff_max_ms(d->t))
        d->backoff_ms = backoff_max_ms(d->t);
}

static void connect_next(struct dial *d);

void dial_drop(struct dial *d, const char *why)
{
    bool was_up = d->state == DIAL_UP;
    struct transport *t = d->t;
    uint64_t id = d->id;

    if (d->conn != NULL)
        conn_close(d->conn);
    d->conn = NULL;
    if (was_up) {
        d->complained = true;
        log_info(t->o.logger, "connection to peer %016llx at %s lost: %s", (unsigned long long)id, d->text, why);
        back_off(d);
        if (d->use == DIAL_FOR_PEER)
            t->o.disconnected(t->o.ctx, id); /* last: it may take d away */
        else
            t->counters.bulk_breaks++;
        return;
    }
    complain(d, why);
    if (d->state == DIAL_CONNECTING && d->next != NULL) {
        connect_next(d);
        return;
    }
    back_off(d);
}

/* Unlike an absence, somebody has to look at this, whatever was said before. */
void dial_tls_failed(struct dial *d)
{
    d->complained = d->tls_failed;
    d->tls_failed = true;
}

int dial_hello(struct dial *d, uint64_t to, struct bytes *out)
{
    struct transport *t = d->t;
    struct peer_hello hello = {PEER_PROTOCOL, PEER_PROTOCOL_MIN, t->o.cluster_id, t->o.id, to,
                               slice_from_str(t->urls), t->o.instance};

    peer_hello_encode(&hello, out);
    return bytes_status(out);
}

static int send_hello(struct dial *d)
{
    struct bytes b;
    bool ok;

    bytes_init(&b);
    ok = dial_hello(d, d->id, &b) == 0 && conn_queue(d->conn, PEER_FRAME_HELLO, bytes_slice(&b));
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM;
}

static void on_connect(uv_connect_t *req, int status)
{
    struct peer_conn *c = req->data;
    struct dial *d = c->dial;

    free(req);
    if (c->stream.closing)
        return;
    if (status == 0)
        status = conn_start(c);
    if (status == 0)
        status = d->use == DIAL_FOR_PEER ? send_hello(d) : d->use == DIAL_FOR_ASKING ? side_greet(d) : fetch_greet(d);
    if (status < 0) {
        dial_drop(d, uv_strerror(status));
        return;
    }
    dial_set_state(d, DIAL_GREETING, transport_now_ms(d->t) + patience_ms(d->t));
}

static int start_connect(struct dial *d, const struct addrinfo *ai)
{
    const struct url *u = &d->urls[d->next_url];
    uv_connect_t *req = malloc(sizeof(*req));
    int rc = req != NULL ? conn_new(d->t, &d->conn) : -ENOMEM;

    if (rc < 0) {
        free(req);
        return rc;
    }
    d->conn->dial = d;
    d->conn->peer = d->id;
    req->data = d->conn;
    if (u->scheme == URL_HTTPS)
        rc = conn_use_tls(d->conn, u->host);
    if (rc < 0) {
        free(req);
        return rc;
    }
    rc = uv_tcp_connect(req, &d->conn->stream.uv.tcp, ai->ai_addr, on_connect);
    if (rc < 0)
        free(req);
    return err_from_uv(rc);
}

static void connect_next(struct dial *d)
{
    const struct addrinfo *ai = d->next;
    int rc;

    d->next = ai->ai_next;
    dial_set_state(d, DIAL_CONNECTING, transport_now_ms(d->t) + patience_ms(d->t));
    rc = start_connect(d, ai);
    if (rc < 0)
        dial_drop(d, strerror(-rc));
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct resolve *r = req->data;
    struct dial *d = r->dial;
    struct transport *t = r->t;

    free(r);
    if (d == NULL) {
        if (found != NULL)
            uv_freeaddrinfo(found);
    } else {
        d->resolve = NULL;
        d->found = d->next = status == 0 ? found : NULL;
        if (status == 0 && found != NULL)
            connect_next(d);
        else
            dial_drop(d, status != 0 ? uv_strerror(status) : "no address");
    }
    transport_release(t);
}

/* Each time anew: a name may mean another machine by now. */
static void resolve(struct dial *d)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const struct url *u = &d->urls[d->next_url];
    struct resolve *r = calloc(1, sizeof(*r));
    char port[8];
    int rc = -ENOMEM;

    if (u->scheme == URL_HTTPS && d->t->o.tls == NULL) {
        free(r);
        dial_drop(d, "its URL is https, and this node has no flags of TLS for peers");
        return;
    }
    dial_set_state(d, DIAL_RESOLVING, UINT64_MAX); /* ends by itself: the resolver has bounds of its own */
    if (r != NULL) {
        *r = (struct resolve){.t = d->t, .dial = d};
        r->req.data = r;
        snprintf(port, sizeof(port), "%u", (unsigned)u->port);
        rc = err_from_uv(uv_getaddrinfo(d->t->loop, &r->req, on_resolved, u->host, port, &hints));
    }
    if (rc < 0) {
        free(r);
        dial_drop(d, strerror(-rc));
        return;
    }
    d->t->pending++;
    d->resolve = r;
}

/* ---- frames: the hello's answer, then pongs ---- */

static int take_reply(struct dial *d, struct slice payload)
{
    struct transport *t = d->t;
    struct peer_hello_reply m;
    char text[256];
    uint64_t id;

    if (peer_hello_reply_decode(payload, &m) < 0)
        return -EBADMSG;
    if (m.code != PEER_HELLO_OK) {
        d->complained = d->refused; /* unlike an absence, somebody has to look at this */
        d->refused = true;
        snprintf(text, sizeof(text), "it refuses us: %.*s", (int)(m.text.len < 200 ? m.text.len : 200),
                 m.text.len != 0 ? (const char *)m.text.data : "");
        id = d->id;
        dial_drop(d, text);
        if (t->o.refused != NULL)
            t->o.refused(t->o.ctx, id, m.code, text + strlen("it refuses us: ")); /* last: it may take d away */
        return 0;
    }
    if (m.cluster_id != t->o.cluster_id || m.member_id != d->id || m.version < PEER_PROTOCOL_MIN ||
        m.version > PEER_PROTOCOL)
        return -EBADMSG;
    d->conn->greeted = true;
    d->conn->protocol = m.version;
    d->backoff_ms = BACKOFF_MIN_MS;
    forget_addresses(d);
    if (d->complained)
        log_info(t->o.logger, "connected to peer %016llx at %s", (unsigned long long)d->id, d->text);
    d->complained = d->refused = d->tls_failed = false;
    dial_set_state(d, DIAL_UP, transport_now_ms(t) + transport_ping_ms(t));
    t->o.connected(t->o.ctx, d->id, m.program); /* last: it may take d away */
    return 0;
}

int dial_take_frame(struct dial *d, uint8_t type, struct slice payload)
{
    if (d->use != DIAL_FOR_PEER)
        return d->use == DIAL_FOR_ASKING ? side_take_frame(d, type, payload) : fetch_take_frame(d, type, payload);
    if (d->state == DIAL_GREETING && type == PEER_FRAME_HELLO_REPLY)
        return take_reply(d, payload);
    return d->state == DIAL_UP && type == PEER_FRAME_PONG && payload.len == 0 ? 0 : -EBADMSG;
}

/* ---- time ---- */

static void ping(struct dial *d, uint64_t now_ms)
{
    if (now_ms - d->due_ms > transport_ping_ms(d->t))
        d->conn->heard_ms = now_ms; /* it is this node that was stopped: answers may wait to be read */
    if (now_ms - d->conn->heard_ms > transport_dead_ms(d->t)) {
        dial_drop(d, "it is silent");
        return;
    }
    conn_queue(d->conn, PEER_FRAME_PING, slice_make(NULL, 0));
    dial_set_state(d, DIAL_UP, now_ms + transport_ping_ms(d->t));
}

/* Whether that peer has a connection to us. */
static bool is_heard(const struct dial *d)
{
    LIST_FOREACH(it, &d->t->conns) {
        const struct peer_conn *c = LIST_ITEM(it, struct peer_conn, link);

        if (c->dial == NULL && c->greeted && c->peer == d->id)
            return true;
    }
    return false;
}

void dial_tick(struct dial *d, uint64_t now_ms)
{
    if (d->guest && d->state != DIAL_RESOLVING && !is_heard(d)) {
        bool was_up = d->state == DIAL_UP;
        struct transport *t = d->t;
        uint64_t id = d->id;

        dial_free(d);
        if (was_up)
            t->o.disconnected(t->o.ctx, id);
        return;
    }
    if (now_ms < d->due_ms) {
        transport_arm(d->t, d->due_ms);
        return;
    }
    switch (d->state) {
    case DIAL_WAITING:
        resolve(d);
        break;
    case DIAL_RESOLVING:
        break;
    case DIAL_CONNECTING:
        dial_drop(d, "the connection is not made in time");
        break;
    case DIAL_GREETING:
        dial_drop(d, "it does not answer the hello");
        break;
    case DIAL_UP:
        if (d->use == DIAL_FOR_FETCHING)
            dial_drop(d, "the file does not go on");
        else
            ping(d, now_ms);
        break;
    }
}

/* ---- all ---- */

struct dial *dial_find(struct transport *t, uint64_t id)
{
    LIST_FOREACH(it, &t->dials) {
        struct dial *d = LIST_ITEM(it, struct dial, link);

        if (d->use == DIAL_FOR_PEER && d->id == id)
            return d;
    }
    return NULL;
}

int dial_new(struct transport *t, enum dial_use use, uint64_t id, const char *urls)
{
    struct dial *d = calloc(1, sizeof(*d));
    struct slice bad;
    const char *why;

    if (d == NULL)
        return -ENOMEM;
    d->text = strdup(urls);
    if (d->text == NULL) {
        free(d);
        return -ENOMEM;
    }
    if (url_list_parse(slice_from_str(urls), d->urls, URL_LIST_MAX, &d->n_urls, &bad, &why) < 0) {
        free(d->text);
        free(d);
        return -EINVAL;
    }
    d->t = t;
    d->use = use;
    d->id = id;
    d->backoff_ms = BACKOFF_MIN_MS;
    list_push_back(&t->dials, &d->link);
    dial_set_state(d, DIAL_WAITING, transport_now_ms(t));
    return 0;
}

int dial_move(struct dial *d, const char *urls)
{
    struct url parsed[URL_LIST_MAX];
    struct slice bad;
    const char *why;
    char *text;
    size_t n;

    if (d->state != DIAL_UP && d->state != DIAL_WAITING)
        return -EBUSY;
    if (url_list_parse(slice_from_str(urls), parsed, URL_LIST_MAX, &n, &bad, &why) < 0)
        return -EINVAL;
    text = strdup(urls);
    if (text == NULL)
        return -ENOMEM;
    free(d->text);
    d->text = text;
    memcpy(d->urls, parsed, sizeof(parsed));
    d->n_urls = n;
    d->next_url = 0;
    forget_addresses(d);
    return 0;
}

void dial_free(struct dial *d)
{
    if (d->conn != NULL)
        conn_close(d->conn);
    if (d->resolve != NULL) {
        d->resolve->dial = NULL;
        uv_cancel((uv_req_t *)&d->resolve->req); /* fails when it runs already: then it is only forgotten */
    }
    forget_addresses(d);
    list_remove(&d->link);
    free(d->text);
    free(d);
}
