/* Connections with one purpose, beside the streams between members: a member that was added asks who it is. */
#include "raft/transport_impl.h"

#include <errno.h>
#include <stdio.h>

/* ---- who asks ---- */

int side_greet(struct dial *d)
{
    struct peer_ask m = {PEER_PROTOCOL, PEER_PROTOCOL_MIN, slice_from_str(d->t->urls)};
    struct bytes b;
    bool ok;

    bytes_init(&b);
    peer_ask_encode(&m, &b);
    ok = bytes_status(&b) == 0 && conn_queue(d->conn, PEER_FRAME_ASK, bytes_slice(&b));
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM;
}

int side_take_frame(struct dial *d, uint8_t type, struct slice payload)
{
    struct transport *t = d->t;
    struct peer_answer m;
    char text[256];

    if (d->state != DIAL_GREETING || type != PEER_FRAME_ANSWER || peer_answer_decode(payload, &m) < 0)
        return -EBADMSG;
    snprintf(text, sizeof(text), "%.*s", (int)(m.text.len < 200 ? m.text.len : 200),
             m.text.len != 0 ? (const char *)m.text.data : "it answers");
    if (t->o.answered != NULL)
        t->o.answered(t->o.ctx, &m);
    dial_drop(d, text); /* and asks again later, unless it is told to stop */
    return 0;
}

int transport_ask(struct transport *t, const char *urls)
{
    return dial_new(t, DIAL_FOR_ASKING, 0, urls);
}

void transport_identify(struct transport *t, uint64_t cluster_id, uint64_t id)
{
    t->o.cluster_id = cluster_id;
    t->o.id = id;
    LIST_FOREACH_SAFE(it, &t->dials) {
        struct dial *d = LIST_ITEM(it, struct dial, link);

        if (d->use == DIAL_FOR_ASKING)
            dial_free(d);
    }
}

/* ---- who answers ---- */

int side_take_ask(struct peer_conn *c, struct slice payload)
{
    struct transport *t = c->t;
    struct peer_answer answer = {
        .version = PEER_PROTOCOL, .code = PEER_HELLO_BUSY, .text = slice_from_str("it is not ready yet")};
    struct peer_ask m;
    struct bytes b;
    bool ok;

    if (peer_ask_decode(payload, &m) < 0)
        return -EBADMSG;
    if (m.min_version > PEER_PROTOCOL || m.version < PEER_PROTOCOL_MIN)
        answer.code = PEER_HELLO_WRONG_VERSION;
    else if (t->o.lookup != NULL)
        t->o.lookup(t->o.ctx, m.urls, &answer);
    bytes_init(&b);
    peer_answer_encode(&answer, &b);
    ok = bytes_status(&b) == 0 && conn_queue(c, PEER_FRAME_ANSWER, bytes_slice(&b));
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM; /* the other side closes */
}
