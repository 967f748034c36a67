/* node_service.c - what a node does besides commands and barriers: members, maintenance. */
#include "raft/node_state.h"

#include <stdlib.h>

void services_init(struct node *n)
{
    list_init(&n->services.members);
    list_init(&n->services.maintain);
}

/* Whoever is on a list has its status; done() may ask again, which waits for the next turn. */
static void end_all(struct node *n, uint16_t status)
{
    while (!list_empty(&n->services.members)) {
        struct node_member_change *m = LIST_ITEM(n->services.members.next, struct node_member_change, link);
        struct socket_member_done done = {.status = m->status};

        list_remove(&m->link);
        free(m->take_peer_urls);
        m->done(m, &done);
    }
    while (!list_empty(&n->services.maintain)) {
        struct node_maintain *m = LIST_ITEM(n->services.maintain.next, struct node_maintain, link);

        list_remove(&m->link);
        m->done(m, m->status != 0 ? m->status : status, 0, "");
    }
}

void services_fini(struct node *n, uint16_t status)
{
    end_all(n, status);
    checkpoints_end_requests(n, status);
}

void services_pump(struct node *n)
{
    end_all(n, STATUS_UNIMPLEMENTED);
}

void node_member_change(struct node *n, struct node_member_change *m)
{
    list_init(&m->link);
    m->status = STATUS_TOO_MANY_REQUESTS;
    if (!n->failed && members_ask(n, m))
        return;
    list_push_back(&n->services.members, &m->link);
    node_want_turn(n);
}

void node_member_change_cancel(struct node *n, struct node_member_change *m)
{
    if (members_cancel(n, m))
        return;
    list_remove(&m->link);
    free(m->take_peer_urls);
}

void node_maintain(struct node *n, struct node_maintain *m)
{
    bool transfer = m->op == SOCKET_MAINTAIN_MOVE_LEADER || m->op == SOCKET_MAINTAIN_TRANSFER_AWAY;

    list_init(&m->link);
    m->status = transfer ? STATUS_TOO_MANY_REQUESTS : 0;
    if (transfer && !n->failed && members_ask_transfer(n, m))
        return;
    if (m->op == SOCKET_MAINTAIN_CHECKPOINT || m->op == SOCKET_MAINTAIN_DEFRAGMENT)
        checkpoints_request(n, m);
    else
        list_push_back(&n->services.maintain, &m->link);
    node_want_turn(n);
}

void node_maintain_cancel(struct node *n, struct node_maintain *m)
{
    if (members_cancel(n, m))
        return;
    list_remove(&m->link);
}
