/* lease_request.c - keep-alives and questions about leases: answered by the leader, through any member.
 *
 *   WAITING --leader: a barrier begins--> ASKING --it ends: a majority confirmed, and all is applied--> SETTLING --> done()
 *      ^      follower: a frame goes -->  ASKING --reply--> done()                                        |
 *      +--------- another leader or term, the leader refused ---------------------------------------------+
 *
 * A keep-alive moves the deadline when it arrives, so that the lease does not end while it waits, and again when it is
 * confirmed. The barrier is begun after it arrived and ends in the same term at the same leader: so no newer leader existed
 * when it came, and any newer one gives the lease its whole TTL again. Many share one barrier; no entry is written.
 * SETTLING waits for what is in the log already: the lease's end, or the taking back of a checkpoint. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdlib.h>

#define NEVER UINT64_MAX

enum { LEASE_WAITING = 1, LEASE_ASKING, LEASE_SETTLING, LEASE_ENDED };

static void round_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision);

int lease_requests_init(struct node *n)
{
    struct leases *ls = &n->leases;

    list_init(&ls->waiting);
    list_init(&ls->asking);
    list_init(&ls->settling);
    list_init(&ls->ended);
    ls->next_deadline_ms = NEVER;
    ls->sequence = n->clock.random(n->clock.ctx) >> 1;
    ls->round.node = n;
    ls->round.barrier.done = round_done;
    return 0;
}

static void end(struct node *n, struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    if (l->state != LEASE_ENDED)
        n->leases.count--;
    list_remove(&l->link);
    l->done(l, status, granted_s, remaining_s);
}

/* The answer is kept until the next turn of this list: done() may ask again. */
static void answer(struct node *n, struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    if (l->state != LEASE_ENDED)
        n->leases.count--;
    list_remove(&l->link);
    list_push_back(&n->leases.ended, &l->link);
    l->state = LEASE_ENDED;
    l->status = status;
    l->granted_s = granted_s;
    l->remaining_s = remaining_s;
}

static void answer_list(struct node *n, struct list *list, uint16_t status)
{
    while (!list_empty(list))
        answer(n, LIST_ITEM(list->next, struct node_lease, link), status, 0, 0);
}

static void end_answered(struct node *n)
{
    struct list these;

    if (list_empty(&n->leases.ended))
        return;
    these = n->leases.ended;
    these.next->prev = these.prev->next = &these;
    list_init(&n->leases.ended);
    while (!list_empty(&these)) {
        struct node_lease *l = LIST_ITEM(these.next, struct node_lease, link);

        end(n, l, l->status, l->granted_s, l->remaining_s);
    }
}

static void move_all(struct list *from, struct list *to, int state)
{
    while (!list_empty(from)) {
        struct node_lease *l = LIST_ITEM(from->next, struct node_lease, link);

        list_remove(&l->link);
        list_push_back(to, &l->link);
        l->state = state;
    }
}

static void prolong(struct node *n, int64_t id)
{
    struct lease *l = leases_clock_runs(n) ? lease_table_find(&n->leases.table, id) : NULL;

    leases_run_clock(n);
    if (l == NULL || l->expiring)
        return;
    l->fresh_ms = n->leases.clock_ms;
    if (l->deadline_ms < lease_full_deadline(n, l))
        lease_table_set_deadline(&n->leases.table, l, lease_full_deadline(n, l));
}

void node_lease(struct node *n, struct node_lease *l)
{
    struct leases *ls = &n->leases;

    list_init(&l->link);
    l->granted_s = l->remaining_s = 0;
    l->status = n->failed                             ? STATUS_STOPPED :
                n->no_leader_told                     ? STATUS_NO_LEADER :
                members_any_older(n)                  ? STATUS_NOT_CAPABLE : /* it ends the connection at such a question */
                ls->count >= NODE_MAX_LEASE_REQUESTS  ? STATUS_TOO_MANY_REQUESTS : STATUS_OK;
    node_want_turn(n);
    if (l->status != STATUS_OK) {
        l->state = LEASE_ENDED;
        list_push_back(&ls->ended, &l->link);
        return;
    }
    if (l->deadline_ms == 0)
        l->deadline_ms = node_now(n) + n->config.proposal_timeout_ms;
    if (l->deadline_ms < ls->next_deadline_ms)
        ls->next_deadline_ms = l->deadline_ms;
    l->state = LEASE_WAITING;
    ls->count++;
    list_push_back(&ls->waiting, &l->link);
    if (l->prolong)
        prolong(n, l->id);
}

void node_lease_cancel(struct node *n, struct node_lease *l)
{
    if (l->state != LEASE_ENDED)
        n->leases.count--;
    list_remove(&l->link);
}

/* ---- on the leader ---- */

static void open_round(struct node *n)
{
    struct leases *ls = &n->leases;

    ls->open = true;
    ls->round.term = core_term(n->core);
    ls->round.barrier.deadline_ms = 0;
    move_all(&ls->waiting, &ls->asking, LEASE_ASKING);
    node_barrier(n, &ls->round.barrier);
}

/* Prolonged once more, or found wanting. */
static void confirm(struct node *n, struct node_lease *q)
{
    struct lease *l = lease_table_find(&n->leases.table, q->id);

    if (l == NULL || l->expiring || !q->prolong)
        return;
    prolong(n, q->id);
    if (l->noted_s != 0 || l->note_index != 0)
        l->clear = n->leases.clear_wanted = true;
}

static void round_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct node *n = LIST_ITEM(b, struct lease_round, barrier)->node;
    struct leases *ls = &n->leases;

    ls->open = false;
    if (status != STATUS_OK || !leases_clock_runs(n) || ls->round.term != core_term(n->core)) {
        if (status == STATUS_OK || status == STATUS_TIMEOUT) {
            move_all(&ls->waiting, &ls->asking, LEASE_WAITING); /* behind those that have waited longer */
            move_all(&ls->asking, &ls->waiting, LEASE_WAITING);
        } else {
            answer_list(n, &ls->asking, status);
        }
        return;
    }
    LIST_FOREACH(it, &ls->asking)
        confirm(n, LIST_ITEM(it, struct node_lease, link));
    move_all(&ls->asking, &ls->settling, LEASE_SETTLING);
}

static void settle(struct node *n, struct node_lease *q)
{
    struct leases *ls = &n->leases;
    struct lease *l = lease_table_find(&ls->table, q->id);

    if (l == NULL) {
        answer(n, q, STATUS_LEASE_NOT_FOUND, 0, 0);
        return;
    }
    if (l->expiring || (q->prolong && (l->noted_s != 0 || l->note_index != 0 || l->clear)))
        return;
    answer(n, q, STATUS_OK, l->ttl_s,
           l->deadline_ms != LEASE_NEVER && l->deadline_ms > ls->clock_ms ?
               (int64_t)((l->deadline_ms - ls->clock_ms) / 1000) : 0);
}

/* ---- from followers ---- */

static void remote_free(struct node *n, struct lease_remote *r)
{
    for (size_t i = 0; i < r->n_items; i++)
        if (r->items[i].lease.state != 0)
            node_lease_cancel(n, &r->items[i].lease);
    free(r->items);
    r->items = NULL;
    r->n_items = r->left = 0;
}

static void send_reply(struct node *n, uint64_t to, uint64_t sequence, const struct peer_lease_answer *answers,
                       size_t n_answers)
{
    struct peer_lease_reply m = {sequence, answers, n_answers};

    bytes_reset(&n->frame);
    peer_lease_reply_encode(&m, &n->frame);
    node_send(n, to, PEER_LEASE_REPLY, &n->frame);
}

static void remote_reply(struct node *n, struct lease_remote *r)
{
    struct peer_lease_answer *answers = arena_array(&n->send_arena, r->n_items, sizeof *answers);

    for (size_t i = 0; i < r->n_items && answers != NULL; i++)
        answers[i] = r->items[i].answer;
    if (answers != NULL)
        send_reply(n, r->peer, r->sequence, answers, r->n_items);
    arena_reset(&n->send_arena);
    remote_free(n, r);
}

static void remote_done(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct lease_remote_item *item = LIST_ITEM(l, struct lease_remote_item, lease);
    struct lease_remote *r = item->remote;

    l->state = 0;
    item->answer = (struct peer_lease_answer){status, granted_s, remaining_s};
    if (--r->left == 0)
        r->ready = true; /* sent by the pump: not from within another list's walk */
}

static struct lease_remote *remote_of(struct node *n, uint64_t peer)
{
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        struct lease_remote *r = &n->leases.remote[i];

        if (r->peer == 0)
            r->peer = peer;
        if (r->peer == peer)
            return r;
    }
    return NULL;
}

int leases_receive(struct node *n, uint64_t from, struct slice payload)
{
    struct lease_remote *r;
    struct peer_lease m;
    int rc = peer_lease_decode(payload, &n->arena, &m);

    if (rc < 0)
        return rc;
    if (!node_is_leader(n)) {
        send_reply(n, from, m.sequence, NULL, 0);
        return 0;
    }
    r = remote_of(n, from);
    if (r == NULL || (r->items != NULL && r->sequence == m.sequence))
        return 0; /* it asks again what is being answered */
    remote_free(n, r);
    r->items = calloc(m.n_items, sizeof *r->items);
    if (r->items == NULL)
        return 0; /* as if it were lost */
    r->sequence = m.sequence;
    r->n_items = r->left = m.n_items;
    r->ready = false;
    for (size_t i = 0; i < m.n_items; i++) {
        r->items[i].remote = r;
        r->items[i].lease.prolong = m.items[i].prolong;
        r->items[i].lease.id = m.items[i].id;
        r->items[i].lease.done = remote_done;
        node_lease(n, &r->items[i].lease);
    }
    return 0;
}

/* ---- on a follower ---- */

static void send_question(struct node *n)
{
    struct leases *ls = &n->leases;
    struct peer_lease_item *items = arena_array(&n->send_arena, ls->n_asked, sizeof *items);
    struct peer_lease m = {ls->sequence, items, ls->n_asked};

    ls->resend_ms = node_now(n) + n->config.heartbeat_ms;
    for (size_t i = 0; i < ls->n_asked && items != NULL; i++)
        items[i] = ls->asked[i];
    if (items != NULL) {
        bytes_reset(&n->frame);
        peer_lease_encode(&m, &n->frame);
        node_send(n, core_leader(n->core), PEER_LEASE, &n->frame);
    }
    arena_reset(&n->send_arena);
}

static void ask_leader(struct node *n)
{
    struct leases *ls = &n->leases;

    ls->open = true;
    ls->sequence++;
    ls->n_asked = 0;
    while (!list_empty(&ls->waiting) && ls->n_asked < LEASE_FRAME_ITEMS) {
        struct node_lease *l = LIST_ITEM(ls->waiting.next, struct node_lease, link);

        list_remove(&l->link);
        list_push_back(&ls->asking, &l->link);
        l->state = LEASE_ASKING;
        l->sequence = ls->n_asked;
        ls->asked[ls->n_asked++] = (struct peer_lease_item){l->prolong, l->id};
    }
    send_question(n);
}

int leases_receive_reply(struct node *n, uint64_t from, struct slice payload)
{
    struct leases *ls = &n->leases;
    struct peer_lease_reply m;
    int rc = peer_lease_reply_decode(payload, &n->arena, &m);

    if (rc < 0)
        return rc;
    if (!ls->open || node_is_leader(n) || from != core_leader(n->core) || m.sequence != ls->sequence || m.n_answers == 0)
        return 0; /* a refusal changes nothing: it is asked again until the view of who leads is put right */
    if (m.n_answers != ls->n_asked)
        return -EBADMSG;
    ls->open = false;
    ls->resend_ms = 0;
    while (!list_empty(&ls->asking)) {
        struct node_lease *l = LIST_ITEM(ls->asking.next, struct node_lease, link);
        const struct peer_lease_answer *a = &m.answers[l->sequence];

        answer(n, l, a->status, a->granted_s, a->remaining_s);
    }
    return 0;
}

/* ---- the turn ---- */

static void expire_list(struct node *n, struct list *list, uint64_t now)
{
    struct leases *ls = &n->leases;

    LIST_FOREACH_SAFE(it, list)
    {
        struct node_lease *l = LIST_ITEM(it, struct node_lease, link);

        if (l->deadline_ms <= now)
            answer(n, l, STATUS_TIMEOUT, 0, 0);
        else if (l->deadline_ms < ls->next_deadline_ms)
            ls->next_deadline_ms = l->deadline_ms;
    }
}

static void expire_requests(struct node *n)
{
    struct leases *ls = &n->leases;
    uint64_t now = node_now(n);

    if (now < ls->next_deadline_ms)
        return;
    ls->next_deadline_ms = NEVER;
    expire_list(n, &ls->waiting, now);
    expire_list(n, &ls->asking, now);
    expire_list(n, &ls->settling, now);
}

void lease_requests_pump(struct node *n)
{
    struct leases *ls = &n->leases;

    expire_requests(n);
    if (ls->open && !node_is_leader(n) && node_now(n) >= ls->resend_ms) {
        if (list_empty(&ls->asking)) { /* all were given up */
            ls->open = false;
            ls->resend_ms = 0;
        } else {
            send_question(n);
        }
    }
    if (!ls->open && !list_empty(&ls->waiting)) {
        if (leases_clock_runs(n))
            open_round(n);
        else if (core_role(n->core) == CORE_FOLLOWER && core_leader(n->core) != 0)
            ask_leader(n);
    }
    LIST_FOREACH_SAFE(it, &ls->settling)
        settle(n, LIST_ITEM(it, struct node_lease, link));
    end_answered(n);
    for (size_t i = 0; i < NODE_MAX_MEMBERS && ls->remote[i].peer != 0; i++)
        if (ls->remote[i].items != NULL && ls->remote[i].ready)
            remote_reply(n, &ls->remote[i]);
}

void lease_requests_leader_changed(struct node *n)
{
    struct leases *ls = &n->leases;
    struct list later;

    if (ls->open && ls->resend_ms == 0)
        node_barrier_cancel(n, &ls->round.barrier);
    ls->open = ls->clear_wanted = false;
    ls->resend_ms = 0;
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        remote_free(n, &ls->remote[i]); /* they ask the new one */
    list_init(&later);
    move_all(&ls->waiting, &later, LEASE_WAITING);
    move_all(&ls->settling, &ls->waiting, LEASE_WAITING);
    move_all(&ls->asking, &ls->waiting, LEASE_WAITING);
    move_all(&later, &ls->waiting, LEASE_WAITING);
}

void lease_requests_fail_all(struct node *n)
{
    answer_list(n, &n->leases.waiting, STATUS_NO_LEADER);
    answer_list(n, &n->leases.asking, STATUS_NO_LEADER);
}

void lease_requests_fini(struct node *n, uint16_t status)
{
    struct leases *ls = &n->leases;

    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        remote_free(n, &ls->remote[i]);
    for (int round = 0; round < 2; round++) { /* done() may ask once more: refused at once */
        answer_list(n, &ls->waiting, status);
        answer_list(n, &ls->asking, status);
        answer_list(n, &ls->settling, status);
        end_answered(n);
    }
}
