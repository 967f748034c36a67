/* core_receive.c - messages of peers into the core, and the guards on their way (numbers: see core.c). */
#include <errno.h>

#include "raft/core_library.h"

static int feed_message(struct core *c, struct raft_message *m)
{
    struct raft_event e = {.type = RAFT_RECEIVE};

    e.receive.message = m;
    return core_step(c, &e);
}

/* How many of the entries may go in one event: a membership entry only in front (guard 1). */
static size_t chunk(const struct log_entry *entries, size_t n)
{
    size_t i = 1;

    while (i < n && entries[i].type != LOG_ENTRY_MEMBERSHIP)
        i++;
    return i < n ? i : n;
}

static int feed_append(struct core *c, const struct peer_append *a, uint64_t from, const struct log_entry *entries,
                       size_t n, uint64_t prev_index, uint64_t prev_term)
{
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES, .server_id = from, .server_address = PEER_ADDRESS};
    int rc;

    rc = core_reserve(&c->raft_entries, &c->raft_entries_cap, n, sizeof *c->raft_entries);
    if (rc < 0)
        return core_fail(c, rc, "append");
    for (size_t i = 0; i < n; i++) {
        c->raft_entries[i] = (struct raft_entry){
            .term = entries[i].term,
            .type = (core_entry_type)entries[i].type,
            .buf = {.base = (void *)(uintptr_t)entries[i].payload.data, .len = entries[i].payload.len},
            .batch = core_no_batch(),
        };
    }
    m.append_entries.term = a->term;
    m.append_entries.prev_log_index = prev_index;
    m.append_entries.prev_log_term = prev_term;
    m.append_entries.leader_commit = a->commit;
    m.append_entries.entries = c->raft_entries;
    m.append_entries.n_entries = (unsigned)n;
    c->stale_append = a->term < c->raft.current_term;
    rc = feed_message(c, &m);
#if RAFT_VERSION_NUMBER < 2201
    if (rc < 0) { /* guard 18: the array is gone, or is lost, as this core is */
        c->raft_entries = NULL;
        c->raft_entries_cap = 0;
    }
#endif
    return rc;
}

/* An append from behind what the log begins with cannot be compared there, and the library refuses it for good (guard 17). But
 * what a checkpoint holds is committed, so every leader has it: the append may as well begin at the checkpoint's entry. */
static struct peer_append behind_checkpoint(const struct core *c, struct peer_append a)
{
    const struct raft_trail *t = &c->raft.trail;
    uint64_t skip = t->snapshot.index > a.prev_index ? t->snapshot.index - a.prev_index : 0;

    if (skip == 0 || a.prev_index > t->offset || a.term < c->raft.current_term)
        return a;
    a.prev_index = t->snapshot.index;
    a.prev_term = t->snapshot.term;
    a.entries = skip < a.n_entries ? a.entries + skip : NULL;
    a.n_entries = skip < a.n_entries ? a.n_entries - skip : 0;
    return a;
}

static int receive_append(struct core *c, const struct peer_message *m)
{
    const struct peer_append a = behind_checkpoint(c, m->append);
    uint64_t prev_index = a.prev_index, prev_term = a.prev_term;
    size_t at = 0;

    if (a.term == c->raft.current_term && c->raft.state == RAFT_LEADER) /* guard 9 */
        return -EBADMSG;
    for (size_t i = 0; i < a.n_entries; i++)
        if (a.entries[i].type == LOG_ENTRY_MEMBERSHIP && core_membership_check(a.entries[i].payload) < 0)
            return -EBADMSG;
    if (a.term >= c->raft.current_term)
        c->heard_ms = c->now_ms;
    do {
        size_t n = a.n_entries == 0 ? 0 : chunk(a.entries + at, a.n_entries - at);
        int rc = feed_append(c, &a, m->peer, a.entries + at, n, prev_index, prev_term);

        if (rc < 0)
            return rc;
        at += n;
        if (at < a.n_entries) {
            prev_index = a.entries[at - 1].index;
            prev_term = a.entries[at - 1].term;
        }
        /* Behind a part that was refused the rest would be refused as well. */
    } while (at < a.n_entries && core_last_index(c) >= prev_index && c->raft.current_term == a.term);
    return 0;
}

/* What is known to match stays so: a rejection below it is old news (guard 11). */
static void give_append_result(const struct core *c, const struct peer_message *m,
                               struct raft_append_entries_result *to)
{
    uint64_t match = m->append_result.term == c->raft.current_term ? core_match_index(c, m->peer) : 0;

    *to = (struct raft_append_entries_result){
        .version = 1,
        .term = m->append_result.term,
        .rejected = m->append_result.rejected,
        .last_log_index = m->append_result.last_index,
    };
    if (to->rejected != 0 && to->rejected <= match)
        to->rejected = to->last_log_index = 0;
}

/* A member that is no voter as far as its log goes votes all the same (guard 15): the one who asks may know better, and be
 * without a quorum for want of it. Nothing in a vote changes the configuration, which is put back behind it. */
static int feed_vote(struct core *c, struct raft_message *m)
{
    struct raft_configuration own = c->raft.configuration, voting;
    int rc;

    if (core_is_voter(c, c->options.id))
        return feed_message(c, m);
    rc = core_membership_with_voters(&own, c->options.id, m->server_id, &voting);
    if (rc < 0)
        return core_fail(c, rc, "vote");
    c->raft.configuration = voting;
    rc = feed_message(c, m);
    raft_configuration_close(&c->raft.configuration);
    c->raft.configuration = own;
    return rc;
}

int core_receive(struct core *c, uint64_t now_ms, const struct peer_message *m)
{
    struct raft_message out = {.server_id = m->peer, .server_address = PEER_ADDRESS};

    if (m->peer == 0 || m->peer == c->options.id)
        return -EBADMSG;
    core_set_now(c, now_ms);
    switch (m->type) {
    case PEER_APPEND:
        return receive_append(c, m);
    case PEER_APPEND_RESULT:
        out.type = RAFT_APPEND_ENTRIES_RESULT;
        give_append_result(c, m, &out.append_entries_result);
        return feed_message(c, &out);
    case PEER_VOTE:
        out.type = RAFT_REQUEST_VOTE;
        out.request_vote.version = 2;
        out.request_vote.term = m->vote.term;
        out.request_vote.candidate_id = m->peer;
        out.request_vote.last_log_index = m->vote.last_index;
        out.request_vote.last_log_term = m->vote.last_term;
        out.request_vote.disrupt_leader = m->vote.disrupt_leader;
        out.request_vote.pre_vote = m->vote.pre_vote;
        return feed_vote(c, &out);
    case PEER_VOTE_RESULT:
        if (c->raft.state != RAFT_CANDIDATE) /* guard 7 */
            return 0;
        out.type = RAFT_REQUEST_VOTE_RESULT;
        out.request_vote_result.version = 2;
        out.request_vote_result.term = m->vote_result.term;
        out.request_vote_result.vote_granted = m->vote_result.granted;
        out.request_vote_result.pre_vote = m->vote_result.pre_vote;
        return feed_message(c, &out);
    case PEER_TIMEOUT_NOW:
        if (core_is_sole_voter(&c->raft.configuration, c->options.id)) /* guard 13: its own timeout does it right */
            return 0;
        out.type = RAFT_TIMEOUT_NOW;
        out.timeout_now.version = 1;
        out.timeout_now.term = m->timeout_now.term;
        out.timeout_now.last_log_index = m->timeout_now.last_index;
        out.timeout_now.last_log_term = m->timeout_now.last_term;
        return feed_message(c, &out);
    default:
        return -EBADMSG;
    }
}
