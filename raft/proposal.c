/* proposal.c - commands on their way into the log: queued, submitted or forwarded, and found again when applied.
 *
 *   QUEUED --leader: submit / follower: forward--> SENT(term) --applied (origin, request)--> done()
 *      ^                                              |
 *      +-- the leader refused the forward ------------+
 *      +-- an entry of a newer term is applied -------+
 *
 * A SENT proposal of term T stands in an entry of term T or in none: the leader appends a forward only in
 * the term that it names. Once an entry of a term above T is applied, every entry of T that will ever be
 * committed has been applied before it. So what is then still SENT in T has not happened and never will,
 * and goes back to the queue; no client learns of a change of leader, except by the time it took.
 *
 * A forward may be lost. The leader remembers which frames of a peer it has taken (windows of WINDOW_BITS), so
 * that one that stays without an answer is sent again under its old sequence, as often as it takes. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/command.h"

#define NEVER UINT64_MAX
#define WINDOW_BITS 64

/* ---- the table by request ---- */

static size_t slot_of(uint64_t request)
{
    return (size_t)(request * 0x9E3779B97F4A7C15u >> 40) & (PROPOSAL_TABLE_SIZE - 1);
}

static void table_add(struct proposals *ps, struct node_proposal *p)
{
    size_t i = slot_of(p->request);

    while (ps->table[i] != NULL)
        i = (i + 1) & (PROPOSAL_TABLE_SIZE - 1);
    ps->table[i] = p;
}

static bool table_find(const struct proposals *ps, uint64_t request, size_t *ret_slot)
{
    for (size_t i = slot_of(request); ps->table[i] != NULL; i = (i + 1) & (PROPOSAL_TABLE_SIZE - 1)) {
        if (ps->table[i]->request == request) {
            *ret_slot = i;
            return true;
        }
    }
    return false;
}

/* Closes the gap: what follows in the run moves up if its own place is at or before the hole. */
static void table_remove(struct proposals *ps, uint64_t request)
{
    const size_t mask = PROPOSAL_TABLE_SIZE - 1;
    size_t hole, i;

    if (!table_find(ps, request, &hole))
        return;
    ps->table[hole] = NULL;
    for (i = (hole + 1) & mask; ps->table[i] != NULL; i = (i + 1) & mask) {
        size_t home = slot_of(ps->table[i]->request);

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            ps->table[hole] = ps->table[i];
            ps->table[i] = NULL;
            hole = i;
        }
    }
}

/* ---- life ---- */

int proposals_init(struct node *n)
{
    struct proposals *ps = &n->proposals;

    list_init(&ps->queued);
    list_init(&ps->sent);
    list_init(&ps->ended);
    ps->next_deadline_ms = NEVER;
    /* Numbers of a former life of this node are in its log: never give one of them again. */
    ps->next_request = n->clock.random(n->clock.ctx) | 1;
    ps->life = n->clock.random(n->clock.ctx);
    ps->forward_sequence = n->clock.random(n->clock.ctx) >> 1;
    ps->table = calloc(PROPOSAL_TABLE_SIZE, sizeof *ps->table);
    ps->uncommitted = calloc(NODE_MAX_UNCOMMITTED_ENTRIES, sizeof *ps->uncommitted);
    return ps->table == NULL || ps->uncommitted == NULL ? -ENOMEM : 0;
}

/* Unhooks p and gives its memory back; only done() is missing. */
static void forget(struct node *n, struct node_proposal *p)
{
    struct proposals *ps = &n->proposals;

    if (p->state != PROPOSAL_ENDED) {
        table_remove(ps, p->request);
        ps->count--;
        ps->bytes -= p->command_len;
    }
    list_remove(&p->link);
    free(p->take_command);
    p->take_command = NULL;
}

static void end(struct node *n, struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    forget(n, p);
    p->done(p, status, revision, body);
}

static void end_list(struct node *n, struct list *list, uint16_t status)
{
    struct list these;

    /* done() may propose again: only those that are here now. */
    if (list_empty(list))
        return;
    these = *list;
    these.next->prev = these.prev->next = &these;
    list_init(list);
    while (!list_empty(&these)) {
        struct node_proposal *p = LIST_ITEM(these.next, struct node_proposal, link);

        end(n, p, p->state == PROPOSAL_ENDED && status == STATUS_OK ? p->status : status, 0, slice_make(NULL, 0));
    }
}

void proposals_fini(struct node *n, uint16_t status)
{
    struct proposals *ps = &n->proposals;

    while (!list_empty(&ps->sent) || !list_empty(&ps->queued) || !list_empty(&ps->ended)) {
        end_list(n, &ps->sent, status);
        end_list(n, &ps->queued, status);
        end_list(n, &ps->ended, STATUS_OK);
    }
    free(ps->table);
    free(ps->uncommitted);
}

/* The shortest life that survives an election: one and a half timeouts, as etcd has it. */
static int64_t lease_min_ttl_s(const struct node *n)
{
    return (int64_t)((n->config.election_ms * 3 / 2 + 999) / 1000);
}

/* A lease asked for without a number gets one, and none ends before a new leader could be told of its keep-alive. */
static bool complete_grant(const struct node *n, struct command *cmd)
{
    int64_t id = cmd->lease.id, ttl_s = cmd->lease.ttl_s;

    while (cmd->lease.id == 0)
        cmd->lease.id = (int64_t)(n->clock.random(n->clock.ctx) >> 1);
    if (ttl_s < lease_min_ttl_s(n))
        cmd->lease.ttl_s = lease_min_ttl_s(n);
    return cmd->lease.id != id || cmd->lease.ttl_s != ttl_s;
}

static uint16_t encode_again(struct node_proposal *p, const struct command *cmd)
{
    struct bytes b;
    uint8_t *encoded;

    bytes_init(&b);
    command_encode(cmd, &b);
    encoded = bytes_take(&b, &p->command_len);
    bytes_fini(&b);
    free(p->take_command);
    p->take_command = encoded;
    return encoded != NULL ? STATUS_OK : STATUS_TOO_MANY_REQUESTS;
}

/* The store does not keep up: more would only wait. What frees it of work is let through, as in etcd. */
static bool is_behind(const struct node *n)
{
    return core_commit(n->core) > n->applied_index + NODE_MAX_APPLY_GAP;
}

static uint16_t check(struct node *n, struct node_proposal *p)
{
    struct slice encoded = slice_make(p->take_command, p->command_len);
    struct command cmd;
    uint16_t status = STATUS_INVALID_REQUEST;

    if (n->failed)
        return STATUS_STOPPED;
    if (n->no_leader_told)
        return STATUS_NO_LEADER;
    if (n->proposals.count >= NODE_MAX_PROPOSALS || n->proposals.bytes + p->command_len > NODE_MAX_PROPOSAL_BYTES)
        return STATUS_TOO_MANY_REQUESTS;
    if (p->command_len > COMMAND_MAX_BYTES)
        return STATUS_TOO_LARGE;
    /* An entry that cannot be decoded stops every member: nothing undecodable gets as far as the log. */
    arena_reset(&n->send_arena);
    if (command_decode(encoded, &n->send_arena, &cmd) == 0) {
        bool changed = cmd.kind == COMMAND_LEASE_GRANT && complete_grant(n, &cmd);

        status = command_check(&cmd);
        if (status == STATUS_OK && cmd.min_version > FIRST_VERSION && members_any_older(n))
            status = STATUS_NOT_CAPABLE;
        if (status == STATUS_OK && cmd.kind != COMMAND_LEASE_REVOKE && is_behind(n))
            status = STATUS_TOO_MANY_REQUESTS;
        if (changed && status == STATUS_OK)
            status = encode_again(p, &cmd);
    }
    arena_reset(&n->send_arena);
    return status;
}

void node_propose(struct node *n, struct node_proposal *p)
{
    struct proposals *ps = &n->proposals;
    uint16_t status = check(n, p);

    list_init(&p->link);
    p->sequence = p->term = 0;
    p->status = status;
    node_want_turn(n);
    if (status != STATUS_OK) {
        p->state = PROPOSAL_ENDED;
        list_push_back(&ps->ended, &p->link);
        return;
    }
    p->state = PROPOSAL_QUEUED;
    p->request = ps->next_request++;
    if (p->deadline_ms == 0)
        p->deadline_ms = node_now(n) + n->config.proposal_timeout_ms;
    if (p->deadline_ms < ps->next_deadline_ms)
        ps->next_deadline_ms = p->deadline_ms;
    command_stamp(p->take_command, n->config.id, p->request, n->clock.wall_ns(n->clock.ctx));
    ps->count++;
    ps->bytes += p->command_len;
    table_add(ps, p);
    list_push_back(&ps->queued, &p->link);
}

void node_proposal_cancel(struct node *n, struct node_proposal *p)
{
    forget(n, p);
}

/* ---- on the leader ---- */

static bool has_room(const struct node *n)
{
    const struct proposals *ps = &n->proposals;

    return ps->uncommitted_count < NODE_MAX_UNCOMMITTED_ENTRIES && ps->uncommitted_bytes < NODE_MAX_UNCOMMITTED_BYTES &&
           node_may_write(n);
}

static bool submit_entry(struct node *n, struct bytes *payload)
{
    struct proposals *ps = &n->proposals;
    struct log_entry e = {.type = LOG_ENTRY_COMMANDS};
    size_t at = (ps->uncommitted_front + ps->uncommitted_count) % NODE_MAX_UNCOMMITTED_ENTRIES;

    if (bytes_status(payload) < 0) {
        node_fail(n, -ENOMEM, "out of memory for a log entry");
        return false;
    }
    e.payload = bytes_slice(payload);
    if (!node_core_ok(n, core_submit(n->core, node_now(n), &e, 1)))
        return false;
    ps->uncommitted[at] = (struct uncommitted){e.index, e.payload.len};
    ps->uncommitted_count++;
    ps->uncommitted_bytes += e.payload.len;
    return true;
}

static void mark_sent(struct node *n, struct node_proposal *p, uint64_t sequence)
{
    list_remove(&p->link);
    list_push_back(&n->proposals.sent, &p->link);
    p->state = PROPOSAL_SENT;
    p->term = core_term(n->core);
    p->sequence = sequence;
}

/* All that waits, in as few entries as the limits allow. */
static void submit_queued(struct node *n)
{
    struct proposals *ps = &n->proposals;
    struct bytes payload;

    bytes_init(&payload);
    while (!list_empty(&ps->queued) && has_room(n) && core_can_submit(n->core) && !n->failed) {
        size_t count = 0;

        bytes_reset(&payload);
        entry_begin(&payload);
        while (!list_empty(&ps->queued) && count < ENTRY_MAX_COMMANDS) {
            struct node_proposal *p = LIST_ITEM(ps->queued.next, struct node_proposal, link);

            if (count > 0 && payload.len + p->command_len > NODE_ENTRY_TARGET_BYTES)
                break;
            entry_add(&payload, slice_make(p->take_command, p->command_len));
            mark_sent(n, p, 0);
            count++;
        }
        submit_entry(n, &payload);
    }
    bytes_fini(&payload);
}

bool proposals_have_room(const struct node *n)
{
    return has_room(n) && core_can_submit(n->core);
}

bool proposals_submit_own(struct node *n, struct command *commands, size_t count, uint64_t *ret_index)
{
    struct proposals *ps = &n->proposals;
    struct bytes payload, one;
    bool ok;

    bytes_init(&payload);
    bytes_init(&one);
    entry_begin(&payload);
    for (size_t i = 0; i < count; i++) {
        commands[i].origin = n->config.id;
        commands[i].request = ps->next_request++;
        commands[i].time_ns = n->clock.wall_ns(n->clock.ctx);
        bytes_reset(&one);
        command_encode(&commands[i], &one);
        if (bytes_status(&one) < 0)
            payload.status = -ENOMEM;
        entry_add(&payload, bytes_slice(&one));
    }
    ok = submit_entry(n, &payload);
    if (ok)
        *ret_index = core_last_index(n->core);
    node_want_turn(n); /* to flush and send it */
    bytes_fini(&payload);
    bytes_fini(&one);
    return ok;
}

void proposals_committed(struct node *n)
{
    struct proposals *ps = &n->proposals;

    while (ps->uncommitted_count > 0 && ps->uncommitted[ps->uncommitted_front].index <= core_commit(n->core)) {
        ps->uncommitted_bytes -= ps->uncommitted[ps->uncommitted_front].bytes;
        ps->uncommitted_front = (ps->uncommitted_front + 1) % NODE_MAX_UNCOMMITTED_ENTRIES;
        ps->uncommitted_count--;
    }
}

void proposals_lost_leadership(struct node *n)
{
    n->proposals.uncommitted_count = 0;
    n->proposals.uncommitted_bytes = 0;
}

/* ---- forwarding ---- */

static struct node_proposal *forwarded(const struct node *n, struct list *link)
{
    struct node_proposal *p;

    for (; link != &n->proposals.sent; link = link->next) {
        p = LIST_ITEM(link, struct node_proposal, link);
        if (p->sequence != 0 && p->term == core_term(n->core))
            return p;
    }
    return NULL;
}

/* The commands of the frame that begins with first; those of one frame stand together in the list. */
static void send_forward(struct node *n, struct node_proposal *first, struct slice *commands)
{
    struct peer_forward m = {.term = first->term,
                             .life = n->proposals.life,
                             .sequence = first->sequence,
                             .commands = commands};

    for (struct list *it = &first->link; it != &n->proposals.sent; it = it->next) {
        struct node_proposal *p = LIST_ITEM(it, struct node_proposal, link);

        if (p->sequence != first->sequence || p->term != first->term)
            break;
        commands[m.n_commands++] = slice_make(p->take_command, p->command_len);
    }
    bytes_reset(&n->frame);
    peer_forward_encode(&m, &n->frame);
    node_send(n, core_leader(n->core), PEER_FORWARD, &n->frame);
}

static bool may_forward(const struct node *n)
{
    return core_leader(n->core) != 0 && core_role(n->core) == CORE_FOLLOWER;
}

/* What waits, in frames; no more of them than the leader's window can tell apart. */
static void forward_queued(struct node *n)
{
    struct proposals *ps = &n->proposals;
    struct slice *commands = arena_array(&n->send_arena, ENTRY_MAX_COMMANDS, sizeof *commands);
    struct node_proposal *oldest = forwarded(n, ps->sent.next);

    while (commands != NULL && !list_empty(&ps->queued) &&
           (oldest == NULL || ps->forward_sequence + 1 - oldest->sequence < WINDOW_BITS)) {
        struct node_proposal *first = LIST_ITEM(ps->queued.next, struct node_proposal, link);
        size_t bytes = 0, count = 0;

        ps->forward_sequence++;
        while (!list_empty(&ps->queued) && count < ENTRY_MAX_COMMANDS) {
            struct node_proposal *p = LIST_ITEM(ps->queued.next, struct node_proposal, link);

            if (count > 0 && bytes + p->command_len > NODE_ENTRY_TARGET_BYTES)
                break;
            bytes += p->command_len;
            count++;
            mark_sent(n, p, ps->forward_sequence);
        }
        if (oldest == NULL) {
            oldest = first;
            ps->forward_heard_ms = node_now(n);
        }
        send_forward(n, first, commands);
    }
    arena_reset(&n->send_arena);
}

static void resend_forwards(struct node *n)
{
    struct proposals *ps = &n->proposals;
    struct slice *commands = arena_array(&n->send_arena, ENTRY_MAX_COMMANDS, sizeof *commands);
    struct node_proposal *p = forwarded(n, ps->sent.next);

    ps->forward_heard_ms = node_now(n);
    while (commands != NULL && p != NULL) {
        uint64_t sequence = p->sequence;

        send_forward(n, p, commands);
        while (p != NULL && p->sequence == sequence)
            p = forwarded(n, p->link.next);
    }
    arena_reset(&n->send_arena);
}

uint64_t proposals_resend_ms(const struct node *n)
{
    if (!may_forward(n) || forwarded(n, n->proposals.sent.next) == NULL)
        return NEVER;
    return n->proposals.forward_heard_ms + n->config.election_ms / 2;
}

/* What was under way to it is lost with the old connection. */
void proposals_peer_connected(struct node *n, uint64_t peer)
{
    if (n->started && !n->failed && may_forward(n) && peer == core_leader(n->core))
        resend_forwards(n);
}

/* A new life of the peer begins a new window; false for a life that is past. */
static bool window_enter_life(struct forward_window *w, uint64_t life)
{
    if (w->lives[0] == life)
        return true;
    for (size_t i = 1; i < WINDOW_LIVES; i++)
        if (w->lives[i] == life)
            return false;
    memmove(&w->lives[1], &w->lives[0], (WINDOW_LIVES - 1) * sizeof w->lives[0]);
    w->lives[0] = life;
    w->newest = w->seen = 0;
    return true;
}

/* False: seen before, or too old to tell. */
static bool window_take(struct node *n, uint64_t peer, uint64_t life, uint64_t sequence)
{
    struct forward_window *w = NULL;

    for (size_t i = 0; i < NODE_MAX_MEMBERS && w == NULL; i++)
        if (n->proposals.windows[i].peer == peer || n->proposals.windows[i].peer == 0)
            w = &n->proposals.windows[i];
    for (size_t i = 0; i < NODE_MAX_MEMBERS && w == NULL; i++) /* of one that is no member any more */
        if (!core_is_member(n->core, n->proposals.windows[i].peer)) {
            w = &n->proposals.windows[i];
            w->peer = 0;
        }
    if (w == NULL)
        return false;
    if (w->peer == 0 || w->term != core_term(n->core))
        *w = (struct forward_window){.peer = peer, .term = core_term(n->core), .lives = {life}};
    if (!window_enter_life(w, life))
        return false;
    if (sequence > w->newest) {
        uint64_t shift = sequence - w->newest;

        w->seen = shift < WINDOW_BITS ? w->seen << shift : 0;
        w->seen |= 1;
        w->newest = sequence;
        return true;
    }
    if (w->newest - sequence >= WINDOW_BITS || (w->seen >> (w->newest - sequence) & 1) != 0)
        return false;
    w->seen |= (uint64_t)1 << (w->newest - sequence);
    return true;
}

static void reject_forward(struct node *n, uint64_t to, const struct peer_forward *m, uint8_t reason)
{
    struct peer_forward_reject reject = {.term = m->term, .sequence = m->sequence, .reason = reason};

    bytes_reset(&n->frame);
    peer_forward_reject_encode(&reject, &n->frame);
    node_send(n, to, PEER_FORWARD_REJECT, &n->frame);
}

static int check_forwarded(struct node *n, uint64_t from, const struct peer_forward *m)
{
    for (size_t i = 0; i < m->n_commands; i++) {
        struct command cmd;
        int rc = command_decode(m->commands[i], &n->arena, &cmd);

        if (rc < 0)
            return rc == -ENOMEM ? rc : -EBADMSG;
        if (cmd.origin != from)
            return -EBADMSG;
    }
    return 0;
}

int proposals_receive_forward(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_forward m;
    struct bytes entry;
    int rc = peer_forward_decode(payload, &n->arena, &m);

    if (rc == 0)
        rc = check_forwarded(n, from, &m);
    if (rc < 0)
        return rc;
    /* Not the leader of that term: silence. This node may have appended the frame when it was (and this is a
     * duplicate), so a refusal could be a lie; the first entry of the next term settles it for the sender. */
    if (m.term != core_term(n->core) || !node_is_leader(n) || !window_take(n, from, m.life, m.sequence))
        return 0;
    if (!core_can_submit(n->core) || !has_room(n)) {
        reject_forward(n, from, &m, core_can_submit(n->core) ? PEER_FORWARD_BUSY : PEER_FORWARD_NOT_LEADER);
        return 0;
    }
    bytes_init(&entry);
    entry_begin(&entry);
    for (size_t i = 0; i < m.n_commands; i++)
        entry_add(&entry, m.commands[i]);
    submit_entry(n, &entry);
    bytes_fini(&entry);
    return 0;
}

int proposals_receive_reject(struct node *n, uint64_t from, struct slice payload)
{
    struct proposals *ps = &n->proposals;
    struct peer_forward_reject m;
    struct list busy;
    int rc = peer_forward_reject_decode(payload, &m);

    if (rc < 0)
        return rc;
    list_init(&busy);
    LIST_FOREACH_SAFE(it, &ps->sent)
    {
        struct node_proposal *p = LIST_ITEM(it, struct node_proposal, link);

        if (p->sequence != m.sequence || p->term != m.term)
            continue;
        list_remove(&p->link);
        list_push_back(m.reason == PEER_FORWARD_BUSY ? &busy : &ps->queued, &p->link);
        p->state = PROPOSAL_QUEUED;
    }
    if (m.reason == PEER_FORWARD_NOT_LEADER && from == core_leader(n->core))
        ps->forward_hold_ms = node_now(n) + n->config.heartbeat_ms; /* our view of it is old, or it hands over */
    end_list(n, &busy, STATUS_TOO_MANY_REQUESTS);
    return 0;
}

/* ---- the end ---- */

void proposals_answer(struct node *n, uint64_t request, uint16_t status, int64_t revision, struct slice body)
{
    size_t slot;

    if (!table_find(&n->proposals, request, &slot))
        return;
    n->proposals.forward_heard_ms = node_now(n);
    end(n, n->proposals.table[slot], status, revision, body);
}

void proposals_requeue(struct node *n, uint64_t applied_term)
{
    struct proposals *ps = &n->proposals;
    struct list back;

    list_init(&back);
    LIST_FOREACH_SAFE(it, &ps->sent)
    {
        struct node_proposal *p = LIST_ITEM(it, struct node_proposal, link);

        if (p->term >= applied_term)
            continue;
        list_remove(&p->link);
        list_push_back(&back, &p->link);
        p->state = PROPOSAL_QUEUED;
    }
    /* In front of what came later, in their own order. */
    while (!list_empty(&back)) {
        struct list *last = back.prev;

        list_remove(last);
        list_push_front(&ps->queued, last);
    }
}

static uint64_t expire_list(struct node *n, struct list *list, uint64_t now, uint64_t next_ms)
{
    struct list late;

    list_init(&late);
    LIST_FOREACH_SAFE(it, list)
    {
        struct node_proposal *p = LIST_ITEM(it, struct node_proposal, link);

        if (p->deadline_ms > now) {
            next_ms = p->deadline_ms < next_ms ? p->deadline_ms : next_ms;
            continue;
        }
        list_remove(&p->link);
        list_push_back(&late, &p->link);
    }
    end_list(n, &late, STATUS_TIMEOUT);
    return next_ms;
}

void proposals_expire(struct node *n)
{
    struct proposals *ps = &n->proposals;
    uint64_t now = node_now(n), next_ms = NEVER;

    ps->next_deadline_ms = NEVER; /* done() may propose, and lowers it then */
    next_ms = expire_list(n, &ps->sent, now, next_ms);
    next_ms = expire_list(n, &ps->queued, now, next_ms);
    if (next_ms < ps->next_deadline_ms)
        ps->next_deadline_ms = next_ms;
}

/* Nobody leads: what is in no log is refused for sure, of the rest nobody knows. */
void proposals_fail_all(struct node *n)
{
    end_list(n, &n->proposals.queued, STATUS_NO_LEADER);
    end_list(n, &n->proposals.sent, STATUS_TIMEOUT);
}

void proposals_pump(struct node *n)
{
    struct proposals *ps = &n->proposals;

    end_list(n, &ps->ended, STATUS_OK);
    if (node_now(n) >= proposals_resend_ms(n))
        resend_forwards(n);
    if (list_empty(&ps->queued))
        return;
    if (node_is_leader(n)) {
        /* While a flush is out, wait for it: what gathers meanwhile shares one entry and one flush. */
        if (!n->flush_out)
            submit_queued(n);
        return;
    }
    if (may_forward(n) && node_now(n) >= ps->forward_hold_ms)
        forward_queued(n);
}
