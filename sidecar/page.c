/* page.c - answers of plain HTTP that come later: by a waiting place that knows its client, or that it has gone. */
#include <stdlib.h>

#include "sidecar/conn.h"

struct page_wait {
    struct conn *conn; /* NULL: gone */
    struct grpc_call *call;
    bool head_only, keep;
};

struct page_wait *page_later(const struct http_request *request)
{
    struct page_origin *o = request->origin;

    o->wait = malloc(sizeof *o->wait);
    if (o->wait != NULL)
        *o->wait = (struct page_wait){o->conn, o->call, o->head_only, o->keep};
    return o->wait;
}

void page_gone(struct page_wait *w)
{
    if (w != NULL)
        w->conn = NULL;
}

void page_answer(struct page_wait *w, const struct http_reply *reply)
{
    struct conn *c = w != NULL ? w->conn : NULL;

    if (c != NULL && w->call != NULL) {
        w->call->page = NULL;
        h2_submit_page(w->call, reply);
    } else if (c != NULL) {
        c->page = NULL;
        http1_answer(c, reply, w->head_only, w->keep);
        http1_receive(c); /* what stands behind it */
    }
    free(w);
}
