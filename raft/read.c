/* read.c - barriers: the ReadIndex round (Raft dissertation, 6.4), with messages of our own.
 *
 *   WAITING --a round opens--> ASKING --confirmed: index known--> APPLYING --applied >= index--> done(OK)
 *      ^                          |
 *      +-- leader, term or membership changed --+
 *
 * On the leader of term T a round captures the commit index and asks the voters READ_CONFIRM{T, sequence}. A
 * voter answers only while its own term is T. A quorum of answers to this very round means that when the round
 * began no newer leader could have been elected, so the commit index covered everything acknowledged. A
 * follower asks the leader for such an index. One round at a time; who comes later joins the next, so the
 * cost does not grow with the readers. A round needs the leader's first entry to be committed: before that
 * its commit index may lag behind what an older leader acknowledged.
 *
 * Under load a round rides: it opens before the turn's appends are sent, and each of them carries its sequence, so does
 * the answer to it. Whoever no append goes to soon is asked by a message of its own, and after a heartbeat interval everyone
 * whose answer is missing. An append result without a sequence, or with another one, identifies no round and is never
 * counted: it may answer what was sent before the reads were asked for. One that refuses for the log's sake counts like
 * any other: its sender has had the append in this term. */
#include "raft/node_state.h"

#include <errno.h>

#include "raft/peer_frame.h"

#define NEVER UINT64_MAX

void reads_init(struct node *n)
{
    struct reads *rs = &n->reads;

    list_init(&rs->waiting);
    list_init(&rs->asking);
    list_init(&rs->applying);
    list_init(&rs->ended);
    rs->next_deadline_ms = NEVER;
    /* An answer to a question of a former life must not fit a question of this one. */
    rs->sequence = n->clock.random(n->clock.ctx) >> 1;
}

static void end(struct node *n, struct node_barrier *b, uint16_t status)
{
    if (b->state != BARRIER_ENDED)
        n->reads.count--;
    list_remove(&b->link);
    b->done(b, status, n->epoch, n->revision);
}

static void end_list(struct node *n, struct list *list, uint16_t status)
{
    struct list these;

    if (list_empty(list))
        return;
    these = *list;
    these.next->prev = these.prev->next = &these;
    list_init(list);
    while (!list_empty(&these)) {
        struct node_barrier *b = LIST_ITEM(these.next, struct node_barrier, link);

        end(n, b, b->state == BARRIER_ENDED ? b->status : status);
    }
}

void reads_fini(struct node *n, uint16_t status)
{
    struct reads *rs = &n->reads;

    while (!list_empty(&rs->waiting) || !list_empty(&rs->asking) || !list_empty(&rs->applying) ||
           !list_empty(&rs->ended)) {
        end_list(n, &rs->waiting, status);
        end_list(n, &rs->asking, status);
        end_list(n, &rs->applying, status);
        end_list(n, &rs->ended, status);
    }
}

void node_barrier(struct node *n, struct node_barrier *b)
{
    struct reads *rs = &n->reads;

    list_init(&b->link);
    b->read_index = 0;
    b->status = n->failed           ? STATUS_STOPPED :
                n->no_leader_told   ? STATUS_NO_LEADER :
                rs->count >= NODE_MAX_BARRIERS ? STATUS_TOO_MANY_REQUESTS : STATUS_OK;
    node_want_turn(n);
    if (b->status != STATUS_OK) {
        b->state = BARRIER_ENDED;
        list_push_back(&rs->ended, &b->link);
        return;
    }
    b->state = BARRIER_WAITING;
    if (b->deadline_ms == 0)
        b->deadline_ms = node_now(n) + n->config.proposal_timeout_ms;
    if (b->deadline_ms < rs->next_deadline_ms)
        rs->next_deadline_ms = b->deadline_ms;
    rs->count++;
    list_push_back(&rs->waiting, &b->link);
}

void node_barrier_cancel(struct node *n, struct node_barrier *b)
{
    if (b->state != BARRIER_ENDED)
        n->reads.count--;
    list_remove(&b->link);
}

/* ---- the round ---- */

static void move_all(struct list *from, struct list *to, int state, uint64_t read_index)
{
    while (!list_empty(from)) {
        struct node_barrier *b = LIST_ITEM(from->next, struct node_barrier, link);

        list_remove(&b->link);
        list_push_back(to, &b->link);
        b->state = state;
        b->read_index = read_index;
    }
}

static bool holds(const uint64_t *ids, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool was_asked(const struct node *n, uint64_t id)
{
    return holds(n->reads.asked, n->reads.n_asked, id);
}

static bool has_acked(const struct node *n, uint64_t id)
{
    return holds(n->reads.acked, n->reads.n_acked, id);
}

static void note_asked(struct node *n, uint64_t id)
{
    if (n->reads.n_asked < NODE_MAX_MEMBERS && !was_asked(n, id))
        n->reads.asked[n->reads.n_asked++] = id;
}

static void send_confirm(struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    struct peer_read_confirm m = {.term = n->reads.term, .sequence = n->reads.sequence};
    size_t count = core_members(n->core, members, NODE_MAX_MEMBERS);

    bytes_reset(&n->frame);
    peer_read_confirm_encode(&m, &n->frame);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        uint64_t id = members[i].id;

        if (!members[i].voter || id == n->config.id || was_asked(n, id) || has_acked(n, id))
            continue;
        node_send(n, id, PEER_READ_CONFIRM, &n->frame);
        note_asked(n, id);
    }
}

static bool disk_is_quick(const struct node *n)
{
    return n->flush_took_ms <= NODE_INLINE_MS;
}

/* An answer goes by itself, unless a flush is out already: what that one made durable is told soon, and carries it. */
void reads_answer(struct node *n)
{
    struct reads *rs = &n->reads;
    struct peer_read_confirm m = {.term = rs->owed.term, .sequence = rs->owed.sequence};

    if (rs->owed.sequence == 0 || (n->flush_out && disk_is_quick(n)))
        return;
    rs->owed.sequence = 0;
    if (m.term != core_term(n->core) || rs->owed.leader != core_leader(n->core))
        return;
    bytes_reset(&n->frame);
    peer_read_confirm_encode(&m, &n->frame);
    node_send(n, rs->owed.leader, PEER_READ_CONFIRMED, &n->frame);
}

static void send_question(struct node *n)
{
    struct peer_read_index m = {.sequence = n->reads.sequence};

    bytes_reset(&n->frame);
    peer_read_index_encode(&m, &n->frame);
    node_send(n, n->reads.leader, PEER_READ_INDEX, &n->frame);
}

static void reply(struct node *n, uint64_t to, uint64_t sequence, bool ok, uint64_t index)
{
    struct peer_read_index_reply m = {.sequence = sequence, .ok = ok, .index = index};

    bytes_reset(&n->frame);
    peer_read_index_reply_encode(&m, &n->frame);
    node_send(n, to, PEER_READ_INDEX_REPLY, &n->frame);
}

static void finish_round(struct node *n, uint64_t index)
{
    struct reads *rs = &n->reads;

    rs->open = false;
    move_all(&rs->asking, &rs->applying, BARRIER_APPLYING, index);
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        if (rs->remote[i].state != BARRIER_ASKING)
            continue;
        rs->remote[i].state = 0;
        reply(n, rs->remote[i].peer, rs->remote[i].sequence, true, index);
    }
}

static bool has_quorum(const struct node *n)
{
    size_t votes = core_is_voter(n->core, n->config.id) ? 1 : 0;

    for (size_t i = 0; i < n->reads.n_acked; i++)
        votes += core_is_voter(n->core, n->reads.acked[i]);
    return votes > core_voters(n->core) / 2;
}

static bool remote_waits(const struct node *n)
{
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        if (n->reads.remote[i].state == BARRIER_WAITING)
            return true;
    return false;
}

static void open_round(struct node *n)
{
    struct reads *rs = &n->reads;

    rs->open = true;
    rs->sequence++;
    rs->term = core_term(n->core);
    rs->leader = core_leader(n->core);
    rs->index = core_commit(n->core);
    rs->sent_ms = node_now(n);
    rs->n_acked = rs->n_asked = 0;
    move_all(&rs->waiting, &rs->asking, BARRIER_ASKING, 0);
    if (!node_is_leader(n)) {
        send_question(n);
        return;
    }
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        if (rs->remote[i].state == BARRIER_WAITING)
            rs->remote[i].state = BARRIER_ASKING;
    if (has_quorum(n))
        finish_round(n, rs->index);
}

static bool may_open(const struct node *n)
{
    const struct reads *rs = &n->reads;

    if (rs->open)
        return false;
    if (!node_is_leader(n))
        return !list_empty(&rs->waiting) && core_leader(n->core) != 0;
    return (!list_empty(&rs->waiting) || remote_waits(n)) && n->noop_term == core_term(n->core) &&
           core_commit(n->core) >= n->noop_index;
}

static void release_applied(struct node *n)
{
    struct list ready;

    list_init(&ready);
    LIST_FOREACH_SAFE(it, &n->reads.applying)
    {
        if (LIST_ITEM(it, struct node_barrier, link)->read_index > n->applied_index)
            continue;
        list_remove(it);
        list_push_back(&ready, it);
    }
    end_list(n, &ready, STATUS_OK);
}

void reads_open(struct node *n)
{
    struct reads *rs = &n->reads;

    if (rs->open && node_now(n) >= rs->sent_ms + n->config.heartbeat_ms) {
        rs->sent_ms = node_now(n); /* the question or its answers may be lost */
        rs->n_asked = 0;
        if (node_is_leader(n))
            send_confirm(n);
        else
            send_question(n);
    }
    if (may_open(n))
        open_round(n);
}

/* Commands wait for a flush that is nearly over: their entry goes to everybody then. */
static bool append_follows(const struct node *n)
{
    return disk_is_quick(n) && n->flush_out && !list_empty(&n->proposals.queued) && core_can_submit(n->core);
}

void reads_ask(struct node *n)
{
    if (n->reads.open && node_is_leader(n) && !append_follows(n))
        send_confirm(n);
}

void reads_pump(struct node *n)
{
    end_list(n, &n->reads.ended, STATUS_OK);
    reads_answer(n);
    release_applied(n);
}

/* ---- the round on appends ---- */

uint64_t reads_round_for(const struct node *n, uint64_t peer)
{
    const struct reads *rs = &n->reads;

    if (!rs->open || !node_is_leader(n) || rs->term != core_term(n->core) || was_asked(n, peer) || has_acked(n, peer) ||
        !core_is_voter(n->core, peer) || n->network.protocol == NULL ||
        n->network.protocol(n->network.ctx, peer) < PEER_PROTOCOL_ROUNDS)
        return 0;
    return rs->sequence;
}

void reads_round_sent(struct node *n, uint64_t peer, uint64_t round)
{
    if (round != 0)
        note_asked(n, peer);
}

void reads_round_came(struct node *n, uint64_t from, uint64_t term, uint64_t round)
{
    if (term < core_term(n->core) || (term == n->reads.owed.term && round < n->reads.owed.sequence))
        return; /* late */
    n->reads.owed.leader = from;
    n->reads.owed.term = term;
    n->reads.owed.sequence = round;
}

/* That this member's term was the leader's when it had the append stays true; it is said in that term alone. */
uint64_t reads_round_back(struct node *n, uint64_t to, uint64_t term)
{
    uint64_t round = n->reads.owed.sequence;

    if (round == 0 || to != n->reads.owed.leader || term != n->reads.owed.term || term != core_term(n->core) ||
        n->network.protocol == NULL || n->network.protocol(n->network.ctx, to) < PEER_PROTOCOL_ROUNDS)
        return 0;
    n->reads.owed.sequence = 0;
    return round;
}

void reads_round_confirmed(struct node *n, uint64_t from, uint64_t term, uint64_t round)
{
    struct reads *rs = &n->reads;

    if (!rs->open || !node_is_leader(n) || term != rs->term || term != core_term(n->core) || round != rs->sequence ||
        has_acked(n, from))
        return;
    if (rs->n_acked < NODE_MAX_MEMBERS)
        rs->acked[rs->n_acked++] = from;
    if (has_quorum(n))
        finish_round(n, rs->index);
}

/* What a round has gathered counts for its leader, term and membership alone. */
void reads_leader_changed(struct node *n)
{
    struct reads *rs = &n->reads;
    struct list later;

    rs->open = false;
    list_init(&later);
    move_all(&rs->waiting, &later, BARRIER_WAITING, 0);
    move_all(&rs->asking, &rs->waiting, BARRIER_WAITING, 0);
    move_all(&later, &rs->waiting, BARRIER_WAITING, 0);
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        if (rs->remote[i].state == 0)
            continue;
        rs->remote[i].state = node_is_leader(n) ? BARRIER_WAITING : 0; /* followers ask again */
    }
}

/* ---- from peers ---- */

int reads_receive_index(struct node *n, uint64_t from, struct slice payload)
{
    struct remote_read *slot = NULL;
    struct peer_read_index m;
    int rc = peer_read_index_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (!node_is_leader(n)) {
        reply(n, from, m.sequence, false, 0);
        return 0;
    }
    for (size_t i = 0; i < NODE_MAX_MEMBERS && slot == NULL; i++)
        if (n->reads.remote[i].peer == from || n->reads.remote[i].peer == 0)
            slot = &n->reads.remote[i];
    for (size_t i = 0; i < NODE_MAX_MEMBERS && slot == NULL; i++) /* of one that is no member any more */
        if (!core_is_member(n->core, n->reads.remote[i].peer))
            slot = &n->reads.remote[i];
    if (slot == NULL || (slot->peer == from && slot->state != 0 && slot->sequence == m.sequence))
        return 0; /* it asks again what is being answered */
    *slot = (struct remote_read){.peer = from, .sequence = m.sequence, .state = BARRIER_WAITING};
    return 0;
}

int reads_receive_reply(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_read_index_reply m;
    int rc = peer_read_index_reply_decode(payload, &m);

    if (rc < 0)
        return rc;
    /* The sequence names the question, so that no answer to an older one can release these readers. A refusal
     * changes nothing: the question is repeated until the view of who leads is put right. */
    if (n->reads.open && !node_is_leader(n) && m.ok && m.sequence == n->reads.sequence && from == n->reads.leader)
        finish_round(n, m.index);
    return 0;
}

int reads_receive_confirm(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_read_confirm m;
    int rc = peer_read_confirm_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (m.term != core_term(n->core))
        return 0;
    bytes_reset(&n->frame);
    peer_read_confirm_encode(&m, &n->frame);
    node_send(n, from, PEER_READ_CONFIRMED, &n->frame);
    return 0;
}

int reads_receive_confirmed(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_read_confirm m;
    int rc = peer_read_confirm_decode(payload, &m);

    if (rc < 0)
        return rc;
    reads_round_confirmed(n, from, m.term, m.sequence);
    return 0;
}

/* ---- the end ---- */

static uint64_t expire_list(struct node *n, struct list *list, uint64_t now, uint64_t next_ms)
{
    struct list late;

    list_init(&late);
    LIST_FOREACH_SAFE(it, list)
    {
        struct node_barrier *b = LIST_ITEM(it, struct node_barrier, link);

        if (b->deadline_ms > now) {
            next_ms = b->deadline_ms < next_ms ? b->deadline_ms : next_ms;
            continue;
        }
        list_remove(it);
        list_push_back(&late, it);
    }
    end_list(n, &late, STATUS_TIMEOUT);
    return next_ms;
}

void reads_expire(struct node *n)
{
    struct reads *rs = &n->reads;
    uint64_t now = node_now(n), next_ms = NEVER;

    rs->next_deadline_ms = NEVER; /* done() may ask again, and lowers it then */
    next_ms = expire_list(n, &rs->waiting, now, next_ms);
    next_ms = expire_list(n, &rs->asking, now, next_ms);
    next_ms = expire_list(n, &rs->applying, now, next_ms);
    if (next_ms < rs->next_deadline_ms)
        rs->next_deadline_ms = next_ms;
}

void reads_fail_all(struct node *n)
{
    end_list(n, &n->reads.waiting, STATUS_NO_LEADER);
    end_list(n, &n->reads.asking, STATUS_NO_LEADER);
}
