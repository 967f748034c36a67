/* leases.c - programs that hold leases, and what they were promised.
 *
 * A keep-alive that was sent at a moment and confirmed promises the lease its whole TTL from that moment on, whatever fails
 * meanwhile, and so does a grant. A lease that nobody keeps alive ends, and its keys with it; a revoked one is gone when that is
 * answered. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/command.h"
#include "raft/node_state.h"

#define MAX_HOLDERS 8
#define KEPT_LEASES 4096
/* Clocks are read in whole milliseconds; and what one jump of a machine's clock may take from a promise. */
#define TOLERANCE (3 * MS)
#define JUMP_TOLERANCE (60 * MS)

enum holder_state { HOLDER_IDLE, HOLDER_GRANTING, HOLDER_HOLDS, HOLDER_ABANDONED };

struct lease_record {
    int64_t id, ttl_s;
    uint64_t promised_until; /* 0: nothing was promised */
    bool revoke_asked, gone, told_gone;
};

struct holder {
    enum holder_state state;
    struct lease_record *record;
    unsigned in_flight, keys;
    bool changes; /* a grant or revoke is out */
};

struct holders {
    struct holder at[MAX_HOLDERS];
    int n;
    bool stopped;
    struct lease_record *records[KEPT_LEASES];
    size_t n_records;
    int64_t next_id;
};

struct lease_request {
    struct world *world;
    int holder, node;
    struct lease_record *record;
    uint64_t sent;
    enum { ASK_GRANT = 1, ASK_REVOKE, ASK_PUT, ASK_KEEPALIVE, ASK_TIME } what;
    char value[32];
    bool told_gone_before;
    struct node_proposal proposal;
    struct node_lease lease;
};

struct holders *holders_new(struct world *w)
{
    struct holders *h = calloc(1, sizeof *h);

    h->n = w->plot == PLOT_STANDSTILL ? 1 : w->plot == PLOT_CHANCE && rng_chance(&w->rng, 700) ? 1 + (int)rng_below(&w->rng, MAX_HOLDERS) : 0;
    h->next_id = 1000;
    for (int i = 0; i < h->n; i++)
        world_at(w, rng_below(&w->rng, 2 * SECOND), SIM_HOLDER, 0, (uint64_t)i);
    return h;
}

void holders_free(struct holders *h)
{
    for (size_t i = 0; i < h->n_records; i++)
        free(h->records[i]);
    free(h);
}

void holders_stop(struct world *w)
{
    w->holders->stopped = true;
}

/* Nothing is asked, and no node knows of a lease any more. */
bool holders_idle(const struct world *w)
{
    for (int i = 0; i < w->holders->n; i++)
        if (w->holders->at[i].in_flight > 0)
            return false;
    for (int i = 0; i < w->n_nodes; i++)
        if (w->nodes[i].member && (w->nodes[i].node == NULL || w->nodes[i].node->leases.table.count != 0))
            return false;
    return true;
}

/* A node has applied the end of a lease. */
void check_lease_gone(struct world *w, int node, int64_t id)
{
    for (size_t i = 0; i < w->holders->n_records; i++) {
        struct lease_record *r = w->holders->records[i];

        if (r->id != id)
            continue;
        if (!r->gone && !r->revoke_asked &&
            w->now + TOLERANCE + w->stats.clock_jumps * JUMP_TOLERANCE < r->promised_until)
            world_violation(w, "node %d ends lease %lld at %llu us, it was promised until %llu", node, (long long)id,
                            (unsigned long long)w->now, (unsigned long long)r->promised_until);
        w->stats.leases_ended += !r->gone && !r->revoke_asked;
        r->gone = true;
    }
}

static void promise(struct lease_record *r, uint64_t sent, int64_t ttl_s)
{
    uint64_t until = sent + (uint64_t)ttl_s * SECOND;

    if (until > r->promised_until)
        r->promised_until = until;
}

static void next_step(struct world *w, int holder, uint64_t delay)
{
    world_at(w, 1 + rng_below(&w->rng, delay), SIM_HOLDER, 0, (uint64_t)holder);
}

static void proposal_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct lease_request *q = LIST_ITEM(p, struct lease_request, proposal);
    struct world *w = q->world;
    struct holder *h = &w->holders->at[q->holder];

    h->in_flight--;
    world_note(w, "holder %d: %s of lease %lld at node %d: %s", q->holder,
               q->what == ASK_GRANT ? "grant" : q->what == ASK_REVOKE ? "revoke" : "put", (long long)q->record->id, q->node,
               status_name(status));
    if (q->what == ASK_PUT) {
        if (status == STATUS_OK)
            check_acknowledged(w, "lease", q->value, revision);
        free(q);
        return;
    }
    h->changes = false;
    if (q->what == ASK_GRANT) {
        if (status == STATUS_OK) {
            w->stats.leases_granted++;
            promise(q->record, q->sent, q->record->ttl_s);
        }
        h->state = status == STATUS_OK ? HOLDER_HOLDS : HOLDER_IDLE;
    } else {
        q->record->told_gone |= status == STATUS_OK;
        h->state = HOLDER_IDLE;
    }
    free(q);
}

static void lease_done(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct lease_request *q = LIST_ITEM(l, struct lease_request, lease);
    struct world *w = q->world;
    struct holder *h = &w->holders->at[q->holder];
    struct lease_record *r = q->record;

    h->in_flight--;
    world_note(w, "holder %d: %s of lease %lld at node %d: %s", q->holder, q->what == ASK_TIME ? "time" : "keep-alive",
               (long long)r->id, q->node, status_name(status));
    if (status == STATUS_OK) {
        if (q->told_gone_before)
            world_violation(w, "lease %lld lives at node %d, and was said to be gone before it was asked",
                            (long long)r->id, q->node);
        if (granted_s != r->ttl_s || remaining_s < 0 || remaining_s > r->ttl_s + 1)
            world_violation(w, "lease %lld of %lld s has %lld of %lld s left at node %d", (long long)r->id,
                            (long long)r->ttl_s, (long long)remaining_s, (long long)granted_s, q->node);
        if (q->what == ASK_KEEPALIVE) {
            w->stats.keepalives++;
            promise(r, q->sent, r->ttl_s);
        }
    } else if (status == STATUS_LEASE_NOT_FOUND) {
        if (!r->gone && r->promised_until != 0)
            world_violation(w, "lease %lld is not found at node %d, and no node has applied its end", (long long)r->id,
                            q->node);
        r->told_gone = r->promised_until != 0; /* a grant whose outcome is not known may come yet */
        if (h->record == r && h->state == HOLDER_HOLDS)
            h->state = HOLDER_IDLE;
    }
    free(q);
}

static struct lease_request *request_new(struct world *w, int holder, int node, int what)
{
    struct lease_request *q = calloc(1, sizeof *q);
    struct holder *h = &w->holders->at[holder];

    q->world = w;
    q->holder = holder;
    q->node = node;
    q->record = h->record;
    q->what = what;
    q->sent = w->now;
    h->in_flight++;
    return q;
}

static void propose(struct world *w, int node, struct lease_request *q, struct command *cmd)
{
    struct bytes encoded;

    bytes_init(&encoded);
    command_encode(cmd, &encoded);
    q->proposal.take_command = bytes_take(&encoded, &q->proposal.command_len);
    q->proposal.done = proposal_done;
    node_propose(w->nodes[node].node, &q->proposal);
}

static void grant(struct world *w, int holder, int node)
{
    struct holders *all = w->holders;
    struct holder *h = &all->at[holder];
    struct lease_record *r = calloc(1, sizeof *r);
    struct command cmd = {.kind = COMMAND_LEASE_GRANT};

    if (all->n_records == KEPT_LEASES) {
        free(r);
        return;
    }
    r->id = all->next_id++;
    r->ttl_s = 1 + (int64_t)rng_below(&w->rng, 7);
    all->records[all->n_records++] = r;
    h->record = r;
    h->keys = 0;
    h->state = HOLDER_GRANTING;
    h->changes = true;
    cmd.lease.id = r->id;
    cmd.lease.ttl_s = r->ttl_s;
    propose(w, node, request_new(w, holder, node, ASK_GRANT), &cmd);
}

static void revoke(struct world *w, int holder, int node)
{
    struct holder *h = &w->holders->at[holder];
    struct command cmd = {.kind = COMMAND_LEASE_REVOKE, .lease.id = h->record->id};

    h->record->revoke_asked = true;
    h->changes = true;
    propose(w, node, request_new(w, holder, node, ASK_REVOKE), &cmd);
}

static void put(struct world *w, int holder, int node)
{
    struct holder *h = &w->holders->at[holder];
    struct lease_request *q = request_new(w, holder, node, ASK_PUT);
    struct command cmd = {.kind = COMMAND_PUT};

    snprintf(q->value, sizeof q->value, "l%lld.%u", (long long)h->record->id, ++h->keys);
    cmd.put.key = slice_from_str(q->value);
    cmd.put.value = slice_from_str(q->value);
    cmd.put.lease = h->record->id;
    propose(w, node, q, &cmd);
}

static void ask(struct world *w, int holder, int node, bool prolong)
{
    struct lease_request *q = request_new(w, holder, node, prolong ? ASK_KEEPALIVE : ASK_TIME);

    q->told_gone_before = q->record->told_gone;
    q->lease.prolong = prolong;
    q->lease.id = q->record->id;
    q->lease.done = lease_done;
    node_lease(w->nodes[node].node, &q->lease);
}

void holders_event(struct world *w, uint64_t number)
{
    int i = (int)number, node = (int)rng_below(&w->rng, (uint64_t)w->n_nodes);
    struct holder *h = &w->holders->at[i];
    uint64_t choice = rng_below(&w->rng, 100);
    uint64_t pace = h->record != NULL ? (uint64_t)h->record->ttl_s * SECOND / 2 : 300 * MS;

    if (w->holders->stopped)
        return;
    next_step(w, i, pace);
    if (w->nodes[node].node == NULL || h->in_flight >= 4 || h->changes)
        return;
    if (h->state == HOLDER_IDLE) {
        if (h->record != NULL && choice < 10)
            ask(w, i, node, true); /* of one that is gone, or may be */
        else
            grant(w, i, node);
    } else if (h->state == HOLDER_ABANDONED) {
        if (h->record->gone)
            h->state = HOLDER_IDLE;
        else if (choice < 30)
            ask(w, i, node, false);
    } else if (h->state == HOLDER_HOLDS) {
        if (choice < 5)
            revoke(w, i, node);
        else if (choice < 12)
            h->state = HOLDER_ABANDONED;
        else if (choice < 30)
            put(w, i, node);
        else
            ask(w, i, node, choice < 90);
    }
}

/* ---- by hand ---- */

void holders_direct(struct world *w)
{
    w->holders->stopped = true;
}

void holder_grants(struct world *w, int node)
{
    grant(w, 0, node);
}

bool holder_holds(const struct world *w)
{
    return w->holders->at[0].state == HOLDER_HOLDS;
}

bool holder_is_idle(const struct world *w)
{
    return w->holders->at[0].in_flight == 0;
}

void holder_keeps_alive(struct world *w, int node)
{
    if (w->holders->at[0].record != NULL)
        ask(w, 0, node, true);
}

/* ---- the end ---- */

/* When all leases are gone, so are their keys. */
static int any_kv(void *ctx, const struct kv *kv)
{
    struct world *w = ctx;

    if (kv->lease != 0)
        world_violation(w, "%.*s stands with lease %lld, and there is none", (int)kv->key.len, (const char *)kv->key.data,
                        (long long)kv->lease);
    return 0;
}

void check_leases_final(struct world *w)
{
    struct op_range all = {.key = slice_make("\0", 1), .range_end = slice_make("\0", 1)};
    struct store_read *read;
    uint16_t status;
    int64_t count;

    for (int i = 0; i < w->n_nodes; i++) {
        if (!w->nodes[i].member)
            continue;
        if (store_read_begin(node_store(w->nodes[i].node), &read) < 0 ||
            store_range_each(read, &all, any_kv, w, &count, &status) < 0)
            world_violation(w, "the store of node %d cannot be read", i);
        store_read_end(read);
    }
}
