/* The transport as a whole: listening, the set of peers, one flush a turn of the loop, one timer. */
#include "raft/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raft/transport_impl.h"

uint64_t transport_now_ms(const struct transport *t)
{
    return uv_now(t->loop);
}

uint64_t transport_ping_ms(const struct transport *t)
{
    uint64_t ms = t->o.election_ms / 4;

    return ms < 25 ? 25 : ms;
}

uint64_t transport_dead_ms(const struct transport *t)
{
    uint64_t ms = 2 * t->o.election_ms;

    return ms < 1000 ? 1000 : ms;
}

void transport_release(struct transport *t)
{
    if (--t->pending > 0 || !t->closing)
        return;
    if (t->closed != NULL)
        t->closed(t->closed_ctx);
    free(t->urls);
    free(t);
}

/* ---- time ---- */

static bool dial_is_there(const struct transport *t, const struct dial *d)
{
    LIST_FOREACH(it, &t->dials)
        if (LIST_ITEM(it, struct dial, link) == d)
            return true;
    return false;
}

/* Items may go while they are visited (a callback changes the peers): the walk begins anew then. */
static void tick_dials(struct transport *t, uint64_t now_ms)
{
    struct dial *dials[2 * NODE_MAX_MEMBERS];
    size_t n = 0;

    LIST_FOREACH(it, &t->dials) {
        if (n == sizeof(dials) / sizeof(dials[0]))
            break;
        dials[n++] = LIST_ITEM(it, struct dial, link);
    }
    for (size_t i = 0; i < n; i++)
        if (dial_is_there(t, dials[i]))
            dial_tick(dials[i], now_ms);
}

static void on_timer(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    uint64_t now_ms = transport_now_ms(t);

    tick_dials(t, now_ms);
    LIST_FOREACH_SAFE(it, &t->conns) {
        struct peer_conn *c = LIST_ITEM(it, struct peer_conn, link);

        if (c->dial == NULL)
            accept_tick(c, now_ms);
    }
}

void transport_arm(struct transport *t, uint64_t at_ms)
{
    uint64_t now_ms = transport_now_ms(t), delay = at_ms > now_ms ? at_ms - now_ms : 0;

    if (t->closing || at_ms == UINT64_MAX)
        return;
    if (uv_is_active((uv_handle_t *)&t->timer) && uv_timer_get_due_in(&t->timer) <= delay)
        return;
    uv_timer_start(&t->timer, on_timer, delay, 0);
}

/* ---- sending ---- */

static void send_frame(void *ctx, uint64_t to, uint8_t type, struct slice payload)
{
    struct transport *t = ctx;
    struct dial *d = dial_find(t, to);

    if (d != NULL && d->state == DIAL_UP && conn_queue(d->conn, type, payload))
        t->counters.frames_sent++;
    else
        t->counters.frames_dropped++;
}

static size_t unsent(void *ctx, uint64_t to)
{
    const struct dial *d = dial_find(ctx, to);

    return d != NULL && d->state == DIAL_UP ? stream_unsent(&d->conn->stream) : 0;
}

static unsigned protocol(void *ctx, uint64_t to)
{
    const struct dial *d = dial_find(ctx, to);

    return d != NULL && d->state == DIAL_UP ? d->conn->protocol : 0;
}

/* Before the loop waits: all that this turn has queued for a peer goes out with one call. */
static void on_prepare(uv_prepare_t *p)
{
    struct transport *t = p->data;
    bool again;

    do { /* a broken connection's callbacks may change the list */
        again = false;
        LIST_FOREACH_SAFE(it, &t->conns) {
            struct peer_conn *c = LIST_ITEM(it, struct peer_conn, link);
            int rc = stream_flush(&c->stream);

            if (rc < 0) {
                conn_broke(c, strerror(-rc));
                again = true;
                break;
            }
        }
    } while (again);
}

/* Failures are met again before the loop waits. */
static void push_out(void *ctx)
{
    struct transport *t = ctx;

    LIST_FOREACH(it, &t->conns)
        stream_flush(&LIST_ITEM(it, struct peer_conn, link)->stream);
}

static void set_peers(void *ctx, const uint64_t *ids, const char *const *urls, size_t n)
{
    struct transport *t = ctx;

    if (t->closing)
        return;
    LIST_FOREACH_SAFE(it, &t->dials) {
        struct dial *d = LIST_ITEM(it, struct dial, link);
        size_t i = 0;

        if (d->use != DIAL_FOR_PEER)
            continue;
        while (i < n && ids[i] != d->id)
            i++;
        if (i < n)
            d->guest = false;
        if (i < n && (strcmp(urls[i], d->text) == 0 || dial_move(d, urls[i]) == 0))
            continue;
        if (i < n || !d->guest)
            dial_free(d);
    }
    for (size_t i = 0; i < n; i++) {
        int rc = 0;

        if (ids[i] != t->o.id && dial_find(t, ids[i]) == NULL)
            rc = dial_new(t, DIAL_FOR_PEER, ids[i], urls[i]);
        if (rc < 0)
            log_error(t->o.logger, "peer %016llx cannot be reached at '%s': %s", (unsigned long long)ids[i], urls[i],
                      strerror(-rc));
    }
}

static void forget(void *ctx, uint64_t id)
{
    struct transport *t = ctx;

    LIST_FOREACH_SAFE(it, &t->conns) {
        struct peer_conn *c = LIST_ITEM(it, struct peer_conn, link);

        if (c->dial == NULL && c->greeted && c->peer == id)
            conn_close(c);
    }
}

void transport_table(struct transport *t, struct network *ret_network)
{
    *ret_network = (struct network){t, send_frame, set_peers, push_out, forget, transport_fetch, transport_fetch_end, unsent,
                                    protocol};
}

struct transport_counters transport_counters(const struct transport *t)
{
    return t->counters;
}

/* ---- all ---- */

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    struct transport *t = l->t;

    free(l);
    transport_release(t);
}

static void on_closed(uv_handle_t *h)
{
    transport_release(h->data);
}

void transport_close(struct transport *t, void (*closed)(void *ctx), void *ctx)
{
    transport_fetch_end(t);
    t->closing = true;
    t->closed = closed;
    t->closed_ctx = ctx;
    while (!list_empty(&t->dials))
        dial_free(LIST_ITEM(t->dials.next, struct dial, link));
    while (!list_empty(&t->conns))
        conn_close(LIST_ITEM(t->conns.next, struct peer_conn, link));
    for (size_t i = 0; i < t->n_listeners; i++)
        uv_close((uv_handle_t *)&t->listeners[i]->tcp, on_listener_closed);
    uv_close((uv_handle_t *)&t->prepare, on_closed);
    uv_close((uv_handle_t *)&t->timer, on_closed);
}

/* Takes fd, also when it fails. */
static int add_listener(struct transport *t, int fd, bool tls)
{
    struct listener *l = malloc(sizeof(*l));
    int rc;

    if (l == NULL || uv_tcp_init(t->loop, &l->tcp) < 0) {
        free(l);
        close(fd);
        return -ENOMEM;
    }
    l->t = t;
    l->tls = tls;
    l->tcp.data = l;
    t->listeners[t->n_listeners++] = l;
    t->pending++;
    rc = uv_tcp_open(&l->tcp, fd);
    if (rc < 0)
        close(fd);
    else
        rc = uv_listen((uv_stream_t *)&l->tcp, TRANSPORT_ACCEPTED_MAX, accept_connection);
    return err_from_uv(rc);
}

/* Of one URL, which may be several addresses. */
static int add_listeners(struct transport *t, const struct url *u, char *text, size_t size)
{
    int fds[LISTEN_MAX], rc;
    size_t n = 0, i = 0;

    if (u->scheme == URL_HTTPS && t->o.tls == NULL) {
        snprintf(text, size, "https://%s:%u needs a certificate", u->host, (unsigned)u->port);
        return -EINVAL;
    }
    rc = listen_open(u, 1, fds, &n, text, size);
    for (; i < n && rc == 0 && t->n_listeners < LISTEN_MAX; i++)
        rc = add_listener(t, fds[i], u->scheme == URL_HTTPS);
    while (i < n)
        close(fds[i++]);
    return rc;
}

int transport_open(uv_loop_t *loop, const struct transport_options *options, struct transport **ret_transport,
                   char *ret_text, size_t text_size)
{
    struct transport *t = calloc(1, sizeof(*t));
    int rc = 0;

    if (t == NULL)
        return -ENOMEM;
    t->urls = strdup(options->urls);
    t->o = *options;
    t->loop = loop;
    list_init(&t->dials);
    list_init(&t->conns);
    uv_prepare_init(loop, &t->prepare); /* these three cannot fail */
    uv_timer_init(loop, &t->timer);
    uv_prepare_start(&t->prepare, on_prepare);
    t->prepare.data = t->timer.data = t;
    t->pending = 2;
    for (size_t i = 0; i < options->n_listen && rc == 0; i++)
        rc = add_listeners(t, &options->listen[i], ret_text, text_size);
    if (rc == 0 && t->urls != NULL) {
        *ret_transport = t;
        return 0;
    }
    transport_close(t, NULL, NULL);
    return rc < 0 ? rc : -ENOMEM;
}
