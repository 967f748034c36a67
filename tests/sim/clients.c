/* clients.c - programs that use the cluster: puts with and without a session, barriers and reads; each at one node at a time. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "proto/command.h"

#define MAX_CLIENTS 12
#define KEYS 6
#define PIPELINE 8 /* unanswered puts without a session, of one client */

/* One request at a node. Freed when its done() has come. */
struct request {
    struct world *world;
    int client, node;
    bool retried; /* belongs to a session: an unknown outcome is tried again */
    bool cancelled;
    char key[32], value[48];
    uint64_t sequence;
    int64_t bound; /* newest revision acknowledged before it was first asked: a read must see it, a put comes after */
    struct node_proposal proposal;
    struct node_barrier barrier;
};

struct client {
    uint64_t session, sequence;
    bool waits;        /* for its session's put */
    int64_t bound;     /* of that put */
    char key[32], value[48]; /* of that put */
    unsigned in_flight, counter;
};

struct clients {
    struct client at[MAX_CLIENTS];
    int n;
    bool stopped;
    unsigned think; /* ms between two requests of a client */
};

struct clients *clients_new(struct world *w)
{
    struct clients *c = calloc(1, sizeof *c);

    c->n = 1 + (int)rng_below(&w->rng, MAX_CLIENTS);
    c->think = 1 + (unsigned)rng_below(&w->rng, 100) + (w->padding > 3000 ? 400 : 0);
    for (int i = 0; i < c->n; i++) {
        c->at[i].session = rng_next(&w->rng) | 1;
        world_at(w, rng_below(&w->rng, 1 * SECOND), SIM_CLIENT, 0, (uint64_t)i);
    }
    return c;
}

void clients_free(struct clients *c)
{
    free(c);
}

void clients_stop(struct world *w)
{
    w->clients->stopped = true;
}

bool clients_idle(const struct world *w)
{
    for (int i = 0; i < w->clients->n; i++)
        if (w->clients->at[i].waits || w->clients->at[i].in_flight > 0)
            return false;
    return true;
}

static bool is_unknown(uint16_t status)
{
    return status == STATUS_TIMEOUT || status == STATUS_LEADER_CHANGED || status == STATUS_STOPPED;
}

static void again(struct world *w, int client)
{
    world_at(w, 1 + rng_below(&w->rng, w->clients->think * MS), SIM_CLIENT, 0, (uint64_t)client);
}

static void put_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct request *q = LIST_ITEM(p, struct request, proposal);
    struct world *w = q->world;
    struct client *c = &w->clients->at[q->client];

    world_note(w, "client %d: put %s=%s at node %d: %s, revision %lld", q->client, q->key, q->value, q->node,
               status_name(status), (long long)revision);
    if (status == STATUS_OK) {
        w->stats.acknowledged++;
        if (revision <= q->bound)
            world_violation(w, "%s has revision %lld, and %lld was acknowledged before it was asked for", q->value,
                            (long long)revision, (long long)q->bound);
        check_acknowledged(w, q->key, q->value, revision);
    } else if (is_unknown(status)) {
        w->stats.unknown++;
    } else {
        w->stats.refused++;
        if (status != STATUS_NO_LEADER && status != STATUS_TOO_MANY_REQUESTS)
            world_violation(w, "client %d: put is answered with %s", q->client, status_name(status));
        if (!q->retried)
            check_refused(w, q->value);
    }
    if (q->retried && status == STATUS_OK)
        c->waits = false;
    if (q->retried && status != STATUS_OK)
        w->stats.retried++;
    if (!q->retried)
        c->in_flight--;
    if (q->retried)
        again(w, q->client);
    free(q);
}

static void propose(struct world *w, int client, struct sim_node *s, bool session)
{
    struct client *c = &w->clients->at[client];
    struct request *q = calloc(1, sizeof *q);
    struct command cmd = {.kind = COMMAND_PUT};
    struct bytes encoded, padded;

    q->world = w;
    q->client = client;
    q->node = s->index;
    q->retried = session;
    if (session) {
        if (!c->waits) {
            c->sequence++;
            c->waits = true;
            c->bound = check_newest_acknowledged(w);
            snprintf(c->key, sizeof c->key, "key%llu", (unsigned long long)rng_below(&w->rng, KEYS));
            snprintf(c->value, sizeof c->value, "s%d.%llu", client, (unsigned long long)c->sequence);
        }
        q->bound = c->bound;
        cmd.session = c->session;
        cmd.sequence = c->sequence;
        snprintf(q->key, sizeof q->key, "%s", c->key);
        snprintf(q->value, sizeof q->value, "%s", c->value);
    } else {
        c->in_flight++;
        q->bound = check_newest_acknowledged(w);
        snprintf(q->key, sizeof q->key, "key%llu", (unsigned long long)rng_below(&w->rng, KEYS));
        snprintf(q->value, sizeof q->value, "p%d.%u", client, ++c->counter);
    }
    cmd.put.key = slice_from_str(q->key);
    bytes_init(&padded);
    bytes_append(&padded, slice_from_str(q->value));
    if (w->padding > 0) {
        size_t n = 1 + crc32c(0, q->value, strlen(q->value)) % w->padding;

        memset(bytes_grow(&padded, n), VALUE_END, n);
    }
    cmd.put.value = bytes_slice(&padded);
    bytes_init(&encoded);
    command_encode(&cmd, &encoded);
    bytes_fini(&padded);
    q->proposal.take_command = bytes_take(&encoded, &q->proposal.command_len);
    q->proposal.done = put_done;
    w->stats.proposed++;
    node_propose(s->node, &q->proposal);
}

/* ---- reads ---- */

/* A put only if the key is still what was read. */
static void swap_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct request *q = LIST_ITEM(p, struct request, proposal);
    struct world *w = q->world;
    struct result result;
    struct arena arena;

    w->clients->at[q->client].in_flight--;
    arena_init(&arena);
    if (status == STATUS_OK) {
        if (result_decode(COMMAND_TXN, body, &arena, &result) < 0)
            world_violation(w, "client %d: the answer to a swap is no answer", q->client);
        if (result.txn.succeeded) {
            w->stats.swapped++;
            check_acknowledged(w, q->key, q->value, revision);
            check_swapped(w, q->key, q->bound, revision);
        } else {
            check_refused(w, q->value);
        }
    } else if (!is_unknown(status)) {
        check_refused(w, q->value);
    }
    arena_fini(&arena);
    free(q);
}

static void swap(struct world *w, int client, int node, const char *key, int64_t from)
{
    struct client *c = &w->clients->at[client];
    struct request *q = calloc(1, sizeof *q);
    struct op_compare unchanged = {.result = COMPARE_EQUAL, .target = COMPARE_MOD, .number = from};
    struct op put = {.kind = OP_PUT};
    struct command cmd = {.kind = COMMAND_TXN, .txn = {&unchanged, &put, NULL, 1, 1, 0}};
    struct bytes encoded;

    q->world = w;
    q->client = client;
    q->node = node;
    q->bound = from;
    snprintf(q->key, sizeof q->key, "%s", key);
    snprintf(q->value, sizeof q->value, "x%d.%u", client, ++c->counter);
    unchanged.key = put.put.key = slice_from_str(q->key);
    put.put.value = slice_from_str(q->value);
    bytes_init(&encoded);
    command_encode(&cmd, &encoded);
    q->proposal.take_command = bytes_take(&encoded, &q->proposal.command_len);
    q->proposal.done = swap_done;
    c->in_flight++;
    w->stats.swaps++;
    node_propose(w->nodes[node].node, &q->proposal);
}

static void read_checked(struct world *w, struct request *q, int64_t revision)
{
    int64_t got;

    struct sim_node *s = &w->nodes[q->node];
    struct store_read *read;

    if (revision < q->bound)
        world_violation(w, "stale read: a barrier at node %d says revision %lld, %lld was acknowledged before it began",
                        q->node, (long long)revision, (long long)q->bound);
    if (store_read_begin(node_store(s->node), &read) < 0)
        world_violation(w, "node %d cannot be read", q->node);
    if (store_read_revision(read) < revision)
        world_violation(w, "node %d says revision %lld and reads %lld", q->node, (long long)revision,
                        (long long)store_read_revision(read));
    got = check_read(w, read, q->key, q->bound);
    store_read_end(read);
    if (!w->clients->stopped && rng_chance(&w->rng, 400))
        swap(w, q->client, q->node, q->key, got);
}

static void barrier_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct request *q = LIST_ITEM(b, struct request, barrier);
    struct world *w = q->world;

    world_note(w, "client %d: barrier at node %d: %s, revision %lld", q->client, q->node, status_name(status),
               (long long)revision);
    if (status == STATUS_OK) {
        w->stats.barriers_ok++;
        read_checked(w, q, revision);
    } else if (!is_unknown(status) && status != STATUS_NO_LEADER && status != STATUS_TOO_MANY_REQUESTS) {
        world_violation(w, "a barrier is answered with %s", status_name(status));
    }
    w->clients->at[q->client].in_flight--;
    free(q);
}

static void barrier(struct world *w, int client, struct sim_node *s)
{
    struct request *q = calloc(1, sizeof *q);

    q->world = w;
    q->client = client;
    q->node = s->index;
    q->bound = check_newest_acknowledged(w);
    snprintf(q->key, sizeof q->key, "key%llu", (unsigned long long)rng_below(&w->rng, KEYS));
    q->barrier.done = barrier_done;
    w->clients->at[client].in_flight++;
    w->stats.barriers++;
    node_barrier(s->node, &q->barrier);
}

void clients_event(struct world *w, uint64_t number)
{
    int i = (int)number;
    struct clients *all = w->clients;
    struct client *c = &all->at[i];
    struct sim_node *s = &w->nodes[rng_below(&w->rng, (uint64_t)w->n_nodes)];
    uint64_t choice = rng_below(&w->rng, 10);

    if (all->stopped && !c->waits)
        return;
    if (s->node == NULL) {
        again(w, i);
        return;
    }
    if (c->waits || (choice < 4 && !all->stopped)) {
        propose(w, i, s, true); /* its answer goes on */
        return;
    }
    if (c->in_flight < PIPELINE) {
        if (choice < 7)
            propose(w, i, s, false);
        else
            barrier(w, i, s);
    }
    again(w, i);
}
