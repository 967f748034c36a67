/* lease.c - the lease clock, which runs on the leader alone; lease_request.c has the keep-alives.
 *
 * Every member keeps the store's leases in a table: read at the start, then changed by what is applied. On the leader of a
 * term each has a deadline, from the moment on at which everything acknowledged before the term is applied here:
 * then every lease gets again what a checkpoint noted of it, or its whole TTL, and an election timeout.
 *
 * Expiry is a command with the leader's term: no other term's leader can be meant by it, nor can it be applied in one. This
 * leader's own commands of that kind go into its log directly, in its term or not at all; as ordinary proposals they would be
 * proposed again after a change of leader, and a note from before a keep-alive would count behind it.
 *
 * The clock is not the machine's: it advances with the node's turns. A turn that comes late (the process was stopped, the
 * machine slept, the loop was held up) counts as one heartbeat, and for an election timeout behind it nothing expires, so that
 * the keep-alives that wait in the sockets are heard first. A lease may live longer by that, never shorter.
 *
 * A checkpoint notes what remains of leases that have not been kept alive for LEASE_NOTE_MS, so that a series of
 * elections does not make them live for ever. A keep-alive of such a lease is confirmed only when the note is taken back. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdlib.h>

#define NEVER UINT64_MAX
#define LEASE_TICK_MS 500 /* the walk over all leases for checkpoints goes on so often */

/* ---- the table ---- */

static int load_one(void *ctx, const struct lease_info *info)
{
    struct node *n = ctx;
    struct lease *l;

    n->leases.load_rc = lease_table_add(&n->leases.table, info->id, info->ttl_s, info->remaining_s, &l);
    return n->leases.load_rc < 0;
}

int leases_load(struct node *n)
{
    struct store_read *read = NULL;
    int rc = store_read_begin(n->store, &read);

    lease_table_fini(&n->leases.table);
    n->leases.term = 0;
    n->leases.load_rc = 0;
    if (rc == 0)
        rc = store_leases(read, 0, load_one, n);
    store_read_end(read);
    return rc < 0 ? rc : n->leases.load_rc;
}

uint64_t lease_full_deadline(const struct node *n, const struct lease *l)
{
    return n->leases.clock_ms + (uint64_t)l->ttl_s * 1000;
}

bool leases_clock_runs(const struct node *n)
{
    return n->leases.term != 0 && node_is_leader(n) && n->leases.term == core_term(n->core);
}

static void granted(struct node *n, const struct lease_event *e)
{
    struct lease *l;

    if (lease_table_add(&n->leases.table, e->id, e->seconds, 0, &l) < 0) {
        node_fail(n, -ENOMEM, "out of memory for a lease");
        return;
    }
    l->fresh_ms = n->leases.clock_ms;
    if (leases_clock_runs(n))
        lease_table_set_deadline(&n->leases.table, l, lease_full_deadline(n, l));
}

static void noted(struct node *n, const struct lease_event *e)
{
    struct lease *l = lease_table_find(&n->leases.table, e->id);

    if (l == NULL)
        return;
    l->noted_s = e->seconds;
    if (l->note_index != 0 && e->index >= l->note_index)
        l->note_index = 0;
}

/* What was applied, in order. */
void leases_applied(struct node *n, const struct lease_event *events, size_t count)
{
    if (count > 0)
        leases_run_clock(n);
    for (size_t i = 0; i < count && !n->failed; i++) {
        const struct lease_event *e = &events[i];
        struct lease *l;

        if (e->what == LEASE_GRANTED) {
            granted(n, e);
        } else if (e->what == LEASE_NOTED) {
            noted(n, e);
        } else {
            l = lease_table_find(&n->leases.table, e->id);
            if (l != NULL)
                lease_table_remove(&n->leases.table, l);
        }
    }
}

/* ---- the clock ---- */

/* Everything acknowledged in older terms is applied: what has happened to leases is in the table. */
static void start_clock(struct node *n)
{
    struct leases *ls = &n->leases;

    ls->term = core_term(n->core);
    ls->note_at = 0;
    ls->hold_ms = 0;
    for (size_t i = 0; i < ls->table.count; i++) {
        struct lease *l = ls->table.heap[i];
        int64_t left_s = l->noted_s > 0 && l->noted_s < l->ttl_s ? l->noted_s : l->ttl_s;

        l->expiring = l->clear = false;
        l->note_index = 0;
        l->fresh_ms = ls->clock_ms;
        l->deadline_ms = ls->clock_ms + (uint64_t)left_s * 1000 + n->config.election_ms;
    }
    lease_table_order(&ls->table);
}

/* Before anything is reckoned by it: what it showed at the last turn would be too early. */
void leases_run_clock(struct node *n)
{
    struct leases *ls = &n->leases;
    uint64_t now = node_now(n), step = now - ls->read_ms;

    ls->read_ms = now;
    if (step > n->config.election_ms / 2) {
        step = n->config.heartbeat_ms;
        ls->hold_ms = now + n->config.election_ms;
    }
    ls->clock_ms += step;
}

/* ---- commands of the leader's own ---- */

static size_t take_tokens(struct leases *ls, size_t want)
{
    uint64_t since = ls->read_ms - ls->token_ms;
    size_t n;

    ls->token_ms = ls->read_ms;
    ls->tokens += since * NODE_LEASE_EXPIRE_PER_S;
    if (ls->tokens > (uint64_t)NODE_LEASE_EXPIRE_BURST * 1000)
        ls->tokens = (uint64_t)NODE_LEASE_EXPIRE_BURST * 1000;
    n = (size_t)(ls->tokens / 1000);
    n = n < want ? n : want;
    ls->tokens -= (uint64_t)n * 1000;
    return n;
}

static bool due(const struct lease_table *t, uint64_t clock_ms)
{
    const struct lease *first = lease_table_first(t);

    return first != NULL && first->deadline_ms <= clock_ms;
}

/* One entry of as many ends as the rate allows. */
static void expire(struct node *n)
{
    struct leases *ls = &n->leases;
    struct command commands[NODE_LEASE_EXPIRE_BURST];
    size_t count = 0, may;
    uint64_t index;

    if (!due(&ls->table, ls->clock_ms) || ls->read_ms < ls->hold_ms || !proposals_have_room(n))
        return;
    may = take_tokens(ls, NODE_LEASE_EXPIRE_BURST);
    while (count < may && due(&ls->table, ls->clock_ms)) {
        struct lease *l = lease_table_first(&ls->table);

        l->expiring = true;
        lease_table_set_deadline(&ls->table, l, LEASE_NEVER);
        commands[count++] = (struct command){.kind = COMMAND_LEASE_EXPIRE, .lease = {.id = l->id, .term = ls->term}};
    }
    if (count > 0)
        proposals_submit_own(n, commands, count, &index);
}

static void submit_notes(struct node *n, struct lease_checkpoint *items, size_t count)
{
    struct command cmd = {.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {items, count}};
    uint64_t index;

    if (!proposals_submit_own(n, &cmd, 1, &index))
        return; /* the node has failed */
    for (size_t i = 0; i < count; i++)
        lease_table_find(&n->leases.table, items[i].id)->note_index = index;
}

static bool wants_note(const struct node *n, const struct lease *l, uint64_t every_ms)
{
    return !l->expiring && !l->clear && l->note_index == 0 && l->deadline_ms != LEASE_NEVER &&
           l->ttl_s > (int64_t)(every_ms / 1000) && n->leases.clock_ms >= l->fresh_ms + every_ms &&
           l->deadline_ms > n->leases.clock_ms;
}

/* A part of all leases each time. */
static void note(struct node *n)
{
    struct leases *ls = &n->leases;
    struct lease_checkpoint items[LEASE_CHECKPOINT_MAX];
    uint64_t every_ms = n->config.lease_note_ms != 0 ? n->config.lease_note_ms : NODE_LEASE_NOTE_MS;
    size_t count = 0;

    if (ls->clock_ms < ls->note_ms || !proposals_have_room(n))
        return;
    ls->note_ms = ls->clock_ms + LEASE_TICK_MS;
    for (size_t seen = 0; seen < NODE_LEASE_WALK && seen < ls->table.count && count < LEASE_CHECKPOINT_MAX; seen++) {
        struct lease *l;

        if (ls->note_at >= ls->table.count)
            ls->note_at = 0;
        l = ls->table.heap[ls->note_at++];
        if (!wants_note(n, l, every_ms))
            continue;
        l->fresh_ms = ls->clock_ms;
        items[count++] = (struct lease_checkpoint){l->id, (int64_t)((l->deadline_ms - ls->clock_ms + 999) / 1000)};
    }
    if (count > 0)
        submit_notes(n, items, count);
}

/* Takes back the notes of leases whose keep-alive waits for that. */
static void clear_notes(struct node *n)
{
    struct leases *ls = &n->leases;
    struct lease_checkpoint items[LEASE_CHECKPOINT_MAX];
    size_t count = 0;

    if (!ls->clear_wanted || !proposals_have_room(n))
        return;
    LIST_FOREACH(it, &ls->settling)
    {
        struct lease *l = lease_table_find(&ls->table, LIST_ITEM(it, struct node_lease, link)->id);

        if (l == NULL || !l->clear || count == LEASE_CHECKPOINT_MAX)
            continue;
        l->clear = false;
        items[count++] = (struct lease_checkpoint){l->id, 0};
    }
    ls->clear_wanted = count == LEASE_CHECKPOINT_MAX;
    if (ls->clear_wanted)
        node_want_turn(n);
    if (count > 0)
        submit_notes(n, items, count);
}

/* ---- the turn ---- */

uint64_t leases_timeout_ms(const struct node *n)
{
    const struct leases *ls = &n->leases;
    const struct lease *first = lease_table_first(&ls->table);
    uint64_t at = ls->next_deadline_ms, left;

    if (ls->resend_ms != 0 && ls->resend_ms < at)
        at = ls->resend_ms;
    if (!leases_clock_runs(n) || first == NULL)
        return at;
    if (ls->read_ms + n->config.heartbeat_ms < at)
        at = ls->read_ms + n->config.heartbeat_ms; /* a turn that comes late would count as a pause */
    left = first->deadline_ms > ls->clock_ms ? first->deadline_ms - ls->clock_ms : NODE_LEASE_LATE_MS;
    if (ls->read_ms + left < ls->hold_ms)
        left = ls->hold_ms - ls->read_ms;
    return ls->read_ms + left < at ? ls->read_ms + left : at;
}

void leases_pump(struct node *n)
{
    struct leases *ls = &n->leases;

    leases_run_clock(n);
    if (node_is_leader(n) && ls->term != core_term(n->core) && n->noop_term == core_term(n->core) &&
        n->applied_index >= n->noop_index)
        start_clock(n);
    lease_requests_pump(n);
    if (!leases_clock_runs(n) || !core_can_submit(n->core))
        return;
    clear_notes(n);
    expire(n);
    note(n);
}

void leases_leader_changed(struct node *n)
{
    n->leases.term = 0;
    lease_table_stop_all(&n->leases.table);
    lease_requests_leader_changed(n);
}

int leases_init(struct node *n)
{
    lease_table_init(&n->leases.table);
    n->leases.read_ms = node_now(n);
    n->leases.clock_ms = 1;
    return lease_requests_init(n);
}

void leases_fini(struct node *n, uint16_t status)
{
    lease_requests_fini(n, status);
    lease_table_fini(&n->leases.table);
}
