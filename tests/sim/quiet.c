/* quiet.c - in peace a lone client waits for messages and disks, never for a heartbeat. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/command.h"
#include "tests/sim/world.h"

/* Far more than the messages and syncs of one put take after healing (1 ms each), far less than a heartbeat. */
#define QUIET_LIMIT (40 * MS)

struct lone_put {
    struct node_proposal proposal;
    bool ended;
    uint16_t status;
};

static void on_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct lone_put *put = LIST_ITEM(p, struct lone_put, proposal);

    put->ended = true;
    put->status = status;
}

static void propose_at(struct world *w, int node, struct lone_put *put)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = slice_from_str("quiet"), .value = slice_from_str("#")}};
    struct bytes encoded;

    bytes_init(&encoded);
    command_encode(&cmd, &encoded);
    put->proposal.done = on_done;
    put->proposal.take_command = bytes_take(&encoded, &put->proposal.command_len);
    if (put->proposal.take_command == NULL)
        world_violation(w, "out of memory");
    node_propose(w->nodes[node].node, &put->proposal);
}

/* Until it has ended, or for a second; how long it took. */
static uint64_t run_put(struct world *w, int node, struct lone_put *put)
{
    uint64_t began = w->now;

    propose_at(w, node, put);
    while (!put->ended && w->now < began + SECOND)
        world_run(w, w->now + MS);
    if (!put->ended)
        node_proposal_cancel(w->nodes[node].node, &put->proposal);
    return w->now - began;
}

/* The core probes a follower that it had lost sight of once a heartbeat, until one more entry is stored there: one put
 * goes ahead. */
void check_quiet_latency(struct world *w)
{
    struct lone_put first = {0};

    run_put(w, world_first_member(w)->index, &first);
    world_run(w, w->now + SECOND);
    for (int i = 0; i < w->n_nodes; i++) {
        struct lone_put put = {0};
        uint64_t took;

        if (!w->nodes[i].member)
            continue;
        took = run_put(w, i, &put);
        if (!put.ended || put.status != STATUS_OK || took > QUIET_LIMIT)
            world_violation(w, "a lone put at node %d of a healthy cluster took %llu us (status %u)", i,
                            (unsigned long long)took, put.status);
    }
}
