/* standstill.c - a leader's process stands still while another is elected, and goes on as if nothing had happened: the schedule in
 * which keep-alives and reads are answered by one who leads no more, if they are not confirmed by the others, or by what
 * they said before they were asked.
 *
 *   1. A lease is granted; then the leader stands still. What its followers have answered so far waits in its sockets.
 *   2. The others elect another, whose clock gives the lease its time once more, and an election timeout.
 *   3. Later than that the old leader is asked to keep the lease alive. It goes on: what came before its time was over is
 *      met first. Nobody asks the new one.
 *
 * Clients put and read at everybody all the while. An honest leader confirms nothing until the others have answered what it
 * asked of them then. */
#include "raft/node_state.h"
#include "tests/sim/world.h"

#define MEMBERS 3

struct standstill {
    struct world *world;
    int old, heir;
    uint64_t old_term;
};

void standstill_world(struct world *w)
{
    w->n_first = w->n_nodes = MEMBERS;
    w->faults.latency = 200 + rng_below(&w->rng, 10 * MS);
    w->faults.duplicate = rng_chance(&w->rng, 500) ? (unsigned)rng_below(&w->rng, 100) : 0;
    w->checkpoint_entries = rng_chance(&w->rng, 300) ? 50 + rng_below(&w->rng, 500) : 0;
    w->catchup_entries = rng_chance(&w->rng, 700) ? rng_below(&w->rng, 300) : 100000;
    w->segment_bytes = 5 * 1024 * 1024;
}

/* Event by event, until it holds. */
static bool run_until(struct standstill *s, bool (*holds)(struct standstill *s), uint64_t limit)
{
    struct world *w = s->world;
    uint64_t until = w->now + limit;

    while (!holds(s)) {
        if (w->now >= until)
            return false;
        world_step(w, until);
    }
    return true;
}

static const struct node *node_of(const struct standstill *s, int i)
{
    return s->world->nodes[i].node;
}

static int leader_of(const struct standstill *s, uint64_t above_term)
{
    for (int i = 0; i < MEMBERS; i++) {
        const struct node *n = node_of(s, i);

        if (n != NULL && node_is_leader(n) && core_term(n->core) > above_term && leases_clock_runs(n))
            return i;
    }
    return -1;
}

static bool someone_leads(struct standstill *s)
{
    s->old = leader_of(s, 0);
    return s->old >= 0;
}

static bool lease_is_held(struct standstill *s)
{
    return holder_holds(s->world) && holder_is_idle(s->world);
}

static bool heir_leads(struct standstill *s)
{
    s->heir = leader_of(s, s->old_term);
    return s->heir >= 0;
}

static bool old_goes_on(struct standstill *s)
{
    return s->world->nodes[s->old].paused_until <= s->world->now;
}

static bool lease_is_over(struct standstill *s)
{
    return holder_is_idle(s->world) && node_of(s, s->heir)->leases.table.count == 0;
}

static void stand_still(struct standstill *s)
{
    struct world *w = s->world;
    uint64_t from;

    s->old_term = core_term(node_of(s, s->old)->core);
    world_pause_node(w, s->old, w->now + 5 * SECOND, rng_chance(&w->rng, 750));
    if (!run_until(s, heir_leads, 4 * SECOND))
        return;
    w->stats.standstills_met++;
    from = w->now;
    world_run(w, from + 100 * MS + rng_below(&w->rng, 1200 * MS));
    for (int i = 0; i < 2; i++) {
        w->stats.standstill_keepalives++;
        holder_keeps_alive(w, s->old);
        world_run(w, w->now + 1 + rng_below(&w->rng, 200 * MS));
    }
    run_until(s, old_goes_on, 5 * SECOND);
    run_until(s, lease_is_over, 20 * SECOND);
}

void standstill_run(struct world *w)
{
    struct standstill s = {.world = w, .old = -1, .heir = -1};

    w->stats.standstills++;
    holders_direct(w);
    if (!run_until(&s, someone_leads, 10 * SECOND))
        return;
    world_run(w, w->now + rng_below(&w->rng, SECOND));
    holder_grants(w, (int)rng_below(&w->rng, MEMBERS));
    if (!run_until(&s, lease_is_held, 10 * SECOND) || !run_until(&s, someone_leads, 10 * SECOND))
        return;
    world_run(w, w->now + rng_below(&w->rng, 200 * MS));
    if (run_until(&s, someone_leads, 10 * SECOND))
        stand_still(&s);
}
