/* member.c - changes of membership and of the leader, asked here or by another member: one at a time.
 *
 *   QUEUED --leader: appended--> COMMITTING --committed--> APPLYING --applied here--> done(OK)
 *      |   --follower: asks the leader--> ASKING --OK, index--> APPLYING
 *      +-- the rules refuse it (raft/member_rules.c) --> done(status)
 *
 * The leader takes no change before an entry of its own term is committed (single-server changes are unsafe without
 * that), nor while another is not committed. What it was asked by a peer it does once: it keeps each peer's newest question
 * and the answer. When the leader changes under a change, its outcome is unknown: LEADER_CHANGED. */
#include "raft/member.h"

#include <errno.h>
#include <stdlib.h>

#include "raft/node_state.h"

#define NEVER UINT64_MAX

enum request_state {
    REQUEST_QUEUED = 1,
    REQUEST_ASKING,
    REQUEST_COMMITTING,
    REQUEST_TRANSFERRING,
    REQUEST_APPLYING,
    REQUEST_LISTING
};

struct member_request {
    struct list link;
    enum request_state state;
    struct member_change what;
    uint64_t deadline_ms, retry_ms; /* retry: not before, or the question again */
    uint64_t term, index, sequence;
    uint64_t asked; /* ASKING: the leader */
    struct node *node;
    struct node_barrier barrier;       /* LISTING */
    struct node_member_change *change; /* whose it is: one of these two */
    struct node_maintain *maintain;
};

void members_init(struct node *n)
{
    list_init(&n->members.requests);
    n->members.sequence = n->clock.random(n->clock.ctx) >> 1;
}

/* ---- who they are ---- */

size_t members_view(const struct node *n, struct member_state *ret_states)
{
    struct core_member members[NODE_MAX_MEMBERS];
    size_t count = core_members(n->core, members, NODE_MAX_MEMBERS);

    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        const struct member_known *k = members_known(n, members[i].id);

        ret_states[i] = (struct member_state){
            .member = members[i],
            .started = k != NULL && k->name[0] != '\0',
            .connected = members[i].id == n->config.id || node_is_connected(n, members[i].id),
            .match_index = core_match_index(n->core, members[i].id),
            .older = members_is_older(n, members[i].id),
        };
    }
    return count < NODE_MAX_MEMBERS ? count : NODE_MAX_MEMBERS;
}

/* As of what is applied here. */
static int fill_list(struct node *n, struct arena *arena, struct socket_member_done *done)
{
    struct core_member members[NODE_MAX_MEMBERS];
    struct store_read *read = NULL;
    struct store_meta meta;
    size_t count = 0;
    int rc = store_read_begin(n->store, &read);

    if (rc == 0)
        rc = store_read_meta(read, &meta);
    if (rc == 0)
        rc = core_membership_read(meta.membership, members, NODE_MAX_MEMBERS, &count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        const struct member_known *k = members_known(n, members[i].id);
        struct socket_member *to = &done->members[done->n_members++];

        to->id = members[i].id;
        to->learner = !members[i].voter && !members[i].joining;
        rc = arena_copy(arena, slice_from_str(members[i].address), &to->peer_urls);
        if (k != NULL) {
            to->name = slice_from_str(k->name);
            to->client_urls = slice_from_str(k->client_urls);
        }
    }
    store_read_end(read);
    return rc;
}

/* ---- life of a request ---- */

static void request_free(struct member_request *q)
{
    list_remove(&q->link);
    q->node->members.count--;
    free(q);
}

static void end(struct node *n, struct member_request *q, uint16_t status)
{
    struct node_member_change *change = q->change;
    struct node_maintain *maintain = q->maintain;
    struct socket_member_done done = {.status = status, .id = status == STATUS_OK ? q->what.id : 0};
    struct arena arena;

    arena_init(&arena);
    request_free(q);
    if (maintain != NULL) {
        maintain->done(maintain, status, 0, "");
        return;
    }
    if (status == STATUS_OK && fill_list(n, &arena, &done) < 0)
        done.n_members = 0;
    free(change->take_peer_urls);
    change->take_peer_urls = NULL;
    change->done(change, &done);
    arena_fini(&arena);
}

void members_fini(struct node *n, uint16_t status)
{
    while (!list_empty(&n->members.requests)) {
        struct member_request *q = LIST_ITEM(n->members.requests.next, struct member_request, link);

        if (q->state == REQUEST_LISTING)
            node_barrier_cancel(n, &q->barrier);
        end(n, q, status);
    }
}

static void list_is_new(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct member_request *q = LIST_ITEM(b, struct member_request, barrier);

    end(q->node, q, status);
}

static struct member_request *request_new(struct node *n, uint64_t deadline_ms)
{
    struct member_request *q = n->members.count < NODE_MAX_MEMBER_REQUESTS ? calloc(1, sizeof *q) : NULL;

    if (q == NULL)
        return NULL;
    q->node = n;
    q->state = REQUEST_QUEUED;
    q->deadline_ms = deadline_ms != 0 ? deadline_ms : node_now(n) + n->config.proposal_timeout_ms;
    n->members.count++;
    list_push_back(&n->members.requests, &q->link);
    node_want_turn(n);
    return q;
}

bool members_ask(struct node *n, struct node_member_change *m)
{
    struct member_request *q = request_new(n, m->deadline_ms);

    if (q == NULL)
        return false;
    q->change = m;
    q->what = (struct member_change){.op = (enum member_op)m->op, .learner = m->learner, .id = m->id};
    q->what.peer_urls = m->take_peer_urls;
    if (m->op != SOCKET_MEMBER_LIST)
        return true;
    q->state = REQUEST_LISTING;
    q->barrier.deadline_ms = q->deadline_ms;
    q->barrier.done = list_is_new;
    node_barrier(n, &q->barrier);
    return true;
}

bool members_ask_transfer(struct node *n, struct node_maintain *m)
{
    struct member_request *q = request_new(n, m->deadline_ms);

    if (q == NULL)
        return false;
    q->maintain = m;
    q->what = (struct member_change){.op = MEMBER_MOVE_LEADER, .id = m->op == SOCKET_MAINTAIN_MOVE_LEADER ? m->arg : 0};
    q->what.peer_urls = "";
    return true;
}

/* False: it is not here, so it has ended or is on another list. */
bool members_cancel(struct node *n, const void *whose)
{
    LIST_FOREACH(it, &n->members.requests)
    {
        struct member_request *q = LIST_ITEM(it, struct member_request, link);

        if (q->change != whose && (const void *)q->maintain != whose)
            continue;
        if (q->state == REQUEST_LISTING)
            node_barrier_cancel(n, &q->barrier);
        if (q->change != NULL)
            free(q->change->take_peer_urls);
        request_free(q);
        return true;
    }
    return false;
}

/* ---- on the leader ---- */

bool members_may_change(const struct node *n)
{
    return node_has_committed_own(n) && core_can_change(n->core);
}

static uint64_t new_id(struct node *n)
{
    uint64_t id;

    do
        id = n->clock.random(n->clock.ctx);
    while (id == 0 || members_known(n, id) != NULL);
    return id;
}

/* A leader does not remove itself: if it lost its office in the middle, it alone could have the entry without which nobody
 * is elected, and it would stand no more. It lets another one lead, who is asked then. */
static bool must_hand_over(const struct node *n, const struct member_change *what)
{
    return what->op == MEMBER_REMOVE && what->id == n->config.id && core_is_voter(n->core, n->config.id) &&
           core_voters(n->core) > 1;
}

/* False: there is nobody who could take over. */
static bool hand_over(struct node *n)
{
    uint64_t heir = node_fittest(n);

    if (heir == 0)
        return false;
    node_core_ok(n, core_transfer(n->core, node_now(n), heir));
    return true;
}

/* Begins it. OK: *ret_index is its entry's, 0 for a transfer that has begun. */
static uint16_t begin(struct node *n, struct member_change *what, uint64_t *ret_index)
{
    struct member_state states[NODE_MAX_MEMBERS];
    struct core_member members[NODE_MAX_MEMBERS + 1];
    char urls[MEMBER_URLS_MAX_BYTES];
    struct member_view view = {.self = n->config.id,
                               .last_index = log_last_index(n->log),
                               .members = states,
                               .n = members_view(n, states),
                               .max_learners = n->config.max_learners,
                               .strict = !n->config.lax_reconfig};
    uint16_t status;
    size_t count;

    *ret_index = 0;
    if (what->op == MEMBER_ADD)
        what->id = new_id(n);
    status = member_change_apply(&view, what, urls, sizeof urls, members, &count);
    if (status != STATUS_OK)
        return status;
    if (what->op == MEMBER_MOVE_LEADER) {
        if (what->id == 0)
            what->id = node_fittest(n);
        if (what->id == 0)
            return STATUS_BAD_TRANSFEREE;
        node_core_ok(n, core_transfer(n->core, node_now(n), what->id));
        return STATUS_OK;
    }
    if (core_change(n->core, node_now(n), members, count, ret_index) == -EINVAL)
        return STATUS_BAD_MEMBER_URLS;
    if (*ret_index == 0) {
        node_core_ok(n, -EPROTO);
        return STATUS_STOPPED;
    }
    return STATUS_OK;
}

/* A member that was added as a voter gets the log first, so that it never costs the quorum: a cluster of one that grows to two
 * would have none until the second has started. */
static void finish_joining(struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    size_t count;
    uint64_t index;

    if (!members_may_change(n))
        return;
    count = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        if (!members[i].joining || !node_is_connected(n, members[i].id) ||
            core_match_index(n->core, members[i].id) + MEMBER_CAUGHT_UP_ENTRIES < log_last_index(n->log) ||
            core_match_index(n->core, members[i].id) == 0)
            continue;
        members[i].joining = false;
        members[i].voter = true;
        if (n->config.logger != NULL)
            log_info(n->config.logger, "member %016llx has caught up: it is a voter from now on",
                     (unsigned long long)members[i].id);
        node_core_ok(n, core_change(n->core, node_now(n), members, count, &index));
        return;
    }
}

static struct remote_change *remote_slot(struct node *n, uint64_t peer)
{
    struct remote_change *free_slot = NULL;

    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        struct remote_change *slot = &n->members.remote[i];

        if (slot->peer == peer)
            return slot;
        if (free_slot == NULL && (slot->peer == 0 || (!slot->open && slot->term != core_term(n->core))))
            free_slot = slot;
    }
    return free_slot;
}

static void send_result(struct node *n, uint64_t to, uint64_t sequence, uint16_t status, uint64_t index, uint64_t id)
{
    struct peer_member_result m = {.sequence = sequence, .status = status, .index = index, .id = id};

    bytes_reset(&n->frame);
    peer_member_result_encode(&m, &n->frame);
    if (core_is_member(n->core, to)) /* it may be the one that went */
        node_send(n, to, PEER_MEMBER_RESULT, &n->frame);
}

int members_receive_change(struct node *n, uint64_t from, struct slice payload)
{
    char urls[PEER_URLS_MAX_BYTES + 1];
    struct peer_member_change m;
    struct remote_change *slot;
    struct member_change what;
    int rc = peer_member_change_decode(payload, &m);

    if (rc < 0)
        return rc;
    slot = remote_slot(n, from);
    if (!node_is_leader(n) || slot == NULL)
        return 0; /* who asked notices a change of leader by itself, and the deadline */
    if (slot->peer == from && slot->sequence == m.sequence && slot->term == core_term(n->core)) {
        if (!slot->open)
            send_result(n, from, m.sequence, slot->status, slot->index, slot->id);
        return 0;
    }
    if (slot->open || !members_may_change(n)) {
        send_result(n, from, m.sequence, STATUS_TOO_MANY_REQUESTS, 0, 0);
        return 0;
    }
    if (m.op == MEMBER_REMOVE && must_hand_over(n, &(struct member_change){.op = MEMBER_REMOVE, .id = m.id})) {
        send_result(n, from, m.sequence, hand_over(n) ? STATUS_TOO_MANY_REQUESTS : STATUS_UNHEALTHY, 0, 0);
        return 0;
    }
    memcpy(urls, m.peer_urls.len != 0 ? (const char *)m.peer_urls.data : "", m.peer_urls.len);
    urls[m.peer_urls.len] = '\0';
    what = (struct member_change){(enum member_op)m.op, m.learner, m.id, urls};
    *slot = (struct remote_change){.peer = from, .sequence = m.sequence, .term = core_term(n->core)};
    slot->status = begin(n, &what, &slot->index);
    slot->id = what.id;
    slot->open = slot->status == STATUS_OK && slot->index != 0;
    if (slot->status != STATUS_OK)
        send_result(n, from, m.sequence, slot->status, 0, 0);
    return 0;
}

static bool is_committed(const struct node *n, uint64_t index, uint64_t term)
{
    return core_commit(n->core) >= index && log_term_at(n->log, index) == term;
}

static void pump_remote(struct node *n)
{
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        struct remote_change *slot = &n->members.remote[i];

        if (!slot->open)
            continue;
        if (is_committed(n, slot->index, slot->term)) {
            slot->open = false;
            send_result(n, slot->peer, slot->sequence, STATUS_OK, slot->index, slot->id);
        } else if (slot->term != core_term(n->core) || !node_is_leader(n)) {
            *slot = (struct remote_change){0};
        }
    }
}

/* ---- on a follower ---- */

static void ask(struct node *n, struct member_request *q)
{
    struct peer_member_change m = {.sequence = q->sequence,
                                   .op = (uint8_t)q->what.op,
                                   .learner = q->what.learner,
                                   .id = q->what.id,
                                   .peer_urls = slice_from_str(q->what.peer_urls)};

    q->retry_ms = node_now(n) + n->config.election_ms / 2;
    bytes_reset(&n->frame);
    peer_member_change_encode(&m, &n->frame);
    node_send(n, core_leader(n->core), PEER_MEMBER_CHANGE, &n->frame);
}

int members_receive_result(struct node *n, uint64_t from, struct slice payload)
{
    struct member_request *q;
    struct peer_member_result m;
    int rc = peer_member_result_decode(payload, &m);

    if (rc < 0 || list_empty(&n->members.requests))
        return rc;
    LIST_FOREACH(it, &n->members.requests)
    {
        q = LIST_ITEM(it, struct member_request, link);
        if (q->state != REQUEST_ASKING || q->sequence != m.sequence || from != core_leader(n->core))
            continue;
        if (m.status == STATUS_TOO_MANY_REQUESTS) { /* another is under way */
            q->state = REQUEST_QUEUED;
            q->retry_ms = node_now(n) + n->config.heartbeat_ms;
        } else if (m.status != STATUS_OK) {
            end(n, q, m.status);
        } else {
            q->what.id = q->what.op == MEMBER_ADD ? m.id : q->what.id;
            q->index = m.index;
            q->state = REQUEST_APPLYING;
        }
        return 0;
    }
    return 0;
}

/* ---- the round ---- */

static void start(struct node *n, struct member_request *q)
{
    uint16_t status;

    if (node_now(n) < q->retry_ms)
        return;
    q->term = core_term(n->core);
    if (!node_is_leader(n)) {
        if (core_leader(n->core) == 0 || core_role(n->core) != CORE_FOLLOWER)
            return;
        if (q->what.op == MEMBER_MOVE_LEADER && q->what.id == core_leader(n->core)) {
            end(n, q, STATUS_OK); /* it leads already */
            return;
        }
        if (members_is_older(n, core_leader(n->core))) {
            end(n, q, STATUS_NOT_CAPABLE); /* it cannot be asked */
            return;
        }
        q->sequence = n->members.sequence++;
        q->asked = core_leader(n->core);
        q->state = REQUEST_ASKING;
        ask(n, q);
        return;
    }
    if (q->what.op == MEMBER_MOVE_LEADER && q->what.id == n->config.id) {
        end(n, q, STATUS_OK);
        return;
    }
    if (!members_may_change(n))
        return;
    if (must_hand_over(n, &q->what)) {
        q->retry_ms = node_now(n) + n->config.election_ms;
        if (!hand_over(n))
            end(n, q, STATUS_UNHEALTHY);
        return;
    }
    status = begin(n, &q->what, &q->index);
    q->state = q->index != 0 ? REQUEST_COMMITTING : REQUEST_TRANSFERRING;
    q->retry_ms = node_now(n) + 2 * n->config.election_ms; /* of a transfer: its bound */
    if (status != STATUS_OK)
        end(n, q, status);
}

/* A leader that was to be removed let another one lead, as it had to, and did nothing else: that one is asked. */
static void start_again(struct node *n, struct member_request *q)
{
    q->state = REQUEST_QUEUED;
    q->retry_ms = 0;
    start(n, q);
}

/* The answer to a transfer is another leader. */
static void watch_transfer(struct node *n, struct member_request *q)
{
    uint64_t leader = core_leader(n->core);

    if (leader != 0 && core_term(n->core) != q->term)
        end(n, q, q->what.id == 0 || leader == q->what.id ? STATUS_OK : STATUS_LEADER_CHANGED);
    else if (node_is_leader(n) && core_can_submit(n->core))
        end(n, q, STATUS_TIMEOUT); /* it did not take over */
}

static void go_on(struct node *n, struct member_request *q)
{
    bool same_term = core_term(n->core) == q->term;

    switch (q->state) {
    case REQUEST_QUEUED:
        start(n, q);
        break;
    case REQUEST_ASKING:
        if (q->what.op == MEMBER_MOVE_LEADER && !same_term)
            watch_transfer(n, q);
        else if (!same_term && q->what.op == MEMBER_REMOVE && q->what.id == q->asked)
            start_again(n, q);
        else if (!same_term)
            end(n, q, STATUS_LEADER_CHANGED);
        else if (node_now(n) >= q->retry_ms && core_leader(n->core) != 0)
            ask(n, q);
        break;
    case REQUEST_COMMITTING:
        if (!same_term || !node_is_leader(n))
            end(n, q, STATUS_LEADER_CHANGED);
        break;
    case REQUEST_TRANSFERRING:
        watch_transfer(n, q);
        break;
    default:
        break;
    }
}

bool members_pump(struct node *n)
{
    uint64_t last = log_last_index(n->log);
    bool first = true; /* one change of this node's clients at a time, in their order */

    pump_remote(n);
    finish_joining(n);
    LIST_FOREACH_SAFE(it, &n->members.requests)
    {
        struct member_request *q = LIST_ITEM(it, struct member_request, link);

        if (q->state == REQUEST_LISTING)
            continue;
        if (node_now(n) >= q->deadline_ms) {
            end(n, q, STATUS_TIMEOUT);
            continue;
        }
        if (q->state == REQUEST_COMMITTING && is_committed(n, q->index, q->term))
            q->state = REQUEST_APPLYING;
        if ((q->state == REQUEST_APPLYING && q->index <= n->applied_index) ||
            (n->removed && q->what.op == MEMBER_REMOVE && q->what.id == n->config.id)) {
            end(n, q, STATUS_OK);
            continue;
        }
        if (first)
            go_on(n, q);
        first = false;
        if (n->failed)
            return false;
    }
    return log_last_index(n->log) > last;
}

uint64_t members_due_ms(const struct node *n)
{
    uint64_t at = NEVER;

    LIST_FOREACH(it, &n->members.requests)
    {
        const struct member_request *q = LIST_ITEM(it, struct member_request, link);

        if (q->state == REQUEST_LISTING)
            continue;
        at = q->deadline_ms < at ? q->deadline_ms : at;
        if (q->retry_ms > node_now(n) && q->retry_ms < at && q->state != REQUEST_APPLYING)
            at = q->retry_ms;
    }
    return at;
}

/* No leader for long. A change that waits has not happened; of one that is under way nobody knows. */
void members_fail_all(struct node *n)
{
    LIST_FOREACH_SAFE(it, &n->members.requests)
    {
        struct member_request *q = LIST_ITEM(it, struct member_request, link);

        if (q->state != REQUEST_LISTING && q->state != REQUEST_APPLYING)
            end(n, q, q->state == REQUEST_QUEUED ? STATUS_NO_LEADER : STATUS_TIMEOUT);
    }
}
