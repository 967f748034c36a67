/* duel.c - two changes of membership that do not know of each other, by two leaders of a cluster of four: the schedule in
 * which committed entries are lost if a leader changes the membership before it has committed an entry of its own term.
 *
 *   1. The leader, old, is asked to remove a member, and is cut off at that moment: the change is in its log alone.
 *   2. The three others elect another, heir. Its messages do not reach bystander, whose vote it needed: bystander has no
 *      entry of heir's. At the moment of its election heir is asked to remove old: without old two of three commit.
 *   3. old reaches bystander, and nobody else. In old's membership they are two of three: old may be elected, and commit.
 *
 * An honest heir commits nothing without bystander; and if bystander has what heir committed, it does not vote for old.
 * Who is who, when and for how long is the seed's business; clients ask all the while, and the promises are those of every
 * world. */
#include "raft/node_state.h"
#include "tests/sim/world.h"

#define VOTERS 4
#define NOBODY (-1)
#define ATTEMPTS 6

struct duel {
    struct world *world;
    int old, removed, heir, bystander;
    uint64_t coin;
    uint64_t old_term;
};

void duel_world(struct world *w)
{
    w->members_change = w->lax_reconfig = true;
    w->n_first = w->n_nodes = VOTERS;
    w->faults.latency = 200 + rng_below(&w->rng, 10 * MS);
    w->faults.duplicate = rng_chance(&w->rng, 500) ? (unsigned)rng_below(&w->rng, 100) : 0;
    w->faults.reorder = rng_chance(&w->rng, 500) ? (unsigned)rng_below(&w->rng, 100) : 0;
    w->checkpoint_entries = rng_chance(&w->rng, 300) ? 50 + rng_below(&w->rng, 500) : 0;
    w->catchup_entries = rng_chance(&w->rng, 700) ? rng_below(&w->rng, 300) : 100000;
    w->segment_bytes = 5 * 1024 * 1024;
}

/* Event by event, until it holds. */
static bool run_until(struct duel *d, bool (*holds)(struct duel *d), uint64_t limit)
{
    struct world *w = d->world;
    uint64_t until = w->now + limit;

    while (!holds(d)) {
        if (w->now >= until)
            return false;
        world_step(w, until);
    }
    return true;
}

static void run_some(struct duel *d, uint64_t least, uint64_t most)
{
    world_run(d->world, d->world->now + least + rng_below(&d->world->rng, most - least));
}

/* Two members reach each other if they are on the same side. */
static void divide(struct duel *d, const int side[VOTERS])
{
    for (int i = 0; i < VOTERS; i++)
        for (int j = 0; j < VOTERS; j++)
            d->world->cut[i][j] = side[i] != side[j];
}

static const struct node *node_of(const struct duel *d, int i)
{
    return d->world->nodes[i].node;
}

static bool leads(const struct duel *d, int i)
{
    return node_of(d, i) != NULL && node_is_leader(node_of(d, i));
}

/* As node_has_committed_own() says, which a mutant spoils. */
static bool has_committed_own(const struct duel *d, int i)
{
    const struct node *n = node_of(d, i);

    return leads(d, i) && n->noop_term == core_term(n->core) && core_commit(n->core) >= n->noop_index;
}

static bool someone_leads(struct duel *d)
{
    for (int i = 0; i < VOTERS; i++) {
        if (!has_committed_own(d, i))
            continue;
        d->old = i;
        return true;
    }
    return false;
}

static bool old_has_changed(struct duel *d)
{
    return core_voters(node_of(d, d->old)->core) == VOTERS - 1;
}

/* Of the two others, one that old's membership has. */
static int bystander_of(const struct duel *d, int candidate)
{
    int two[VOTERS], n = 0;

    for (int i = 0; i < VOTERS; i++)
        if (i != d->old && i != candidate && i != d->removed)
            two[n++] = i;
    return two[d->coin % (uint64_t)n];
}

/* Somebody stands for election and bystander has voted for it: that vote is on its way, and nothing comes back. */
static bool vote_is_given(struct duel *d)
{
    for (int i = 0; i < VOTERS; i++) {
        struct log_hard_state hs;
        int voter = bystander_of(d, i);

        if (i == d->old || core_role(node_of(d, i)->core) != CORE_CANDIDATE)
            continue;
        hs = log_hard_state(node_of(d, voter)->log);
        if (hs.term != core_term(node_of(d, i)->core) || hs.voted_for != d->world->nodes[i].id)
            continue;
        d->heir = i;
        d->bystander = voter;
        return true;
    }
    return false;
}

static bool heir_leads(struct duel *d)
{
    return leads(d, d->heir);
}

static bool old_leads_again(struct duel *d)
{
    return leads(d, d->old) && core_term(node_of(d, d->old)->core) > d->old_term && has_committed_own(d, d->old);
}

static bool change_alone(struct duel *d)
{
    struct world *w = d->world;
    int side[VOTERS] = {0};

    if (!run_until(d, someone_leads, 10 * SECOND))
        return false;
    run_some(d, 1, 2 * SECOND);
    if (!run_until(d, someone_leads, 10 * SECOND))
        return false;
    d->removed = (d->old + 1 + (int)rng_below(&w->rng, VOTERS - 1)) % VOTERS;
    d->old_term = core_term(node_of(d, d->old)->core);
    side[d->old] = 1;
    divide(d, side);
    operator_removes(w, &w->nodes[d->old], d->removed);
    world_note(w, "duel: node %d is cut off and asked to remove node %d", d->old, d->removed);
    return run_until(d, old_has_changed, SECOND);
}

static bool elect_heir(struct duel *d)
{
    struct world *w = d->world;

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int side[VOTERS] = {0};

        d->coin = rng_next(&w->rng);
        side[d->old] = 1;
        divide(d, side);
        if (!run_until(d, vote_is_given, 3 * SECOND))
            continue;
        side[d->bystander] = 2;
        divide(d, side);
        if (!run_until(d, heir_leads, 200 * MS))
            continue;
        world_note(w, "duel: node %d is elected by node %d and asked to remove node %d", d->heir, d->bystander, d->old);
        operator_removes(w, &w->nodes[d->heir], d->old);
        return true;
    }
    return false;
}

static void fight(struct duel *d)
{
    struct world *w = d->world;
    uint64_t acknowledged = w->stats.acknowledged;
    int side[VOTERS] = {0};

    w->stats.duels_fought++;
    run_some(d, 50 * MS, 600 * MS);
    if (rng_chance(&w->rng, 250)) { /* heir reaches bystander after all */
        side[d->old] = 1;
        divide(d, side);
        run_some(d, 1, SECOND);
    }
    w->stats.duels_new += has_committed_own(d, d->heir);
    w->stats.duel_puts += w->stats.acknowledged - acknowledged;
    if (rng_chance(&w->rng, 250)) {
        world_crash_node(w, d->old);
        world_start_node(w, d->old);
    }
    side[d->old] = side[d->bystander] = 1;
    divide(d, side);
    world_note(w, "duel: node %d reaches node %d, and nobody else", d->old, d->bystander);
    w->stats.duels_old += run_until(d, old_leads_again, 3 * SECOND);
    run_some(d, 1, SECOND);
}

void duel_run(struct world *w)
{
    struct duel d = {.world = w, .old = NOBODY, .removed = NOBODY, .heir = NOBODY, .bystander = NOBODY};

    w->stats.duels++;
    if (change_alone(&d) && elect_heir(&d))
        fight(&d);
    world_at(w, 0, SIM_MEMBERS, 0, 0); /* the operator reads the list of members after healing */
}
