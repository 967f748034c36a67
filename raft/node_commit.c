/* node_commit.c - tells the followers of a new commit index at once.
 *
 * The core tells it with the next entries or the next heartbeat. Under load that is soon; when little is written a
 * follower's client, and its watchers, would wait for a heartbeat interval. So whoever is known to have the
 * committed entry, and was sent no frame that says so, gets one that says just that. */
#include "raft/node_state.h"

static uint64_t *told_slot(struct node *n, uint64_t peer)
{
    if (n->told_term != core_term(n->core)) {
        memset(n->told, 0, sizeof(n->told));
        n->told_term = core_term(n->core);
    }
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        if (n->told[i].peer == 0)
            n->told[i].peer = peer;
        if (n->told[i].peer == peer)
            return &n->told[i].commit;
    }
    return NULL;
}

void commit_was_told(struct node *n, uint64_t peer, uint64_t commit)
{
    uint64_t *told = told_slot(n, peer);

    if (told != NULL && commit > *told)
        *told = commit;
}

static void tell(struct node *n, uint64_t peer, uint64_t commit, uint64_t commit_term)
{
    struct peer_commit m = {.term = core_term(n->core), .index = commit, .index_term = commit_term};

    bytes_reset(&n->frame);
    peer_commit_encode(&m, &n->frame);
    node_send(n, peer, PEER_COMMIT, &n->frame);
}

/* Two logs that hold an entry of one index and term are equal up to there. */
int commit_receive(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_commit m;
    int rc = peer_commit_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (m.term == core_term(n->core) && from == core_leader(n->core) && log_term_at(n->log, m.index) == m.index_term)
        node_core_ok(n, core_learn_commit(n->core, node_now(n), m.index));
    return 0;
}

/* The last words of a leader that has removed itself: with this commit it steps down. */
void commit_tell_all(struct node *n, uint64_t commit)
{
    struct core_member members[NODE_MAX_MEMBERS];
    size_t count = core_members(n->core, members, NODE_MAX_MEMBERS);

    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++)
        tell(n, members[i].id, commit, log_term_at(n->log, commit));
}

void commit_pump(struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    uint64_t commit = core_commit(n->core), commit_term;
    size_t count;

    if (n->failed || !node_is_leader(n))
        return;
    commit_term = log_term_at(n->log, commit);
    if (commit_term == 0)
        return;
    count = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        uint64_t *told;

        if (members[i].id == n->config.id || core_match_index(n->core, members[i].id) < commit)
            continue;
        told = told_slot(n, members[i].id);
        if (told == NULL || *told >= commit)
            continue;
        tell(n, members[i].id, commit, commit_term);
        *told = commit;
    }
}
