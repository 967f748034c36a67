/* node.c - events in, consequences out: the loop side of one member. See node_state.h for how it goes round. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t node_now(const struct node *n)
{
    return n->clock.now_ms(n->clock.ctx);
}

void node_fail(struct node *n, int error, const char *format, ...)
{
    char text[512];
    va_list args;

    if (n->failed)
        return;
    n->failed = true;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n->callbacks.on_fatal != NULL)
        n->callbacks.on_fatal(n->callbacks.ctx, error, text);
}

bool node_core_ok(struct node *n, int rc)
{
    if (rc < 0)
        node_fail(n, rc, "%s", core_error(n->core));
    return rc == 0;
}

void node_disk_full(struct node *n, unsigned whose)
{
    if (n->disk_full == 0 && n->config.logger != NULL)
        log_error(n->config.logger, "the disk is full: this member takes no writes until there is room");
    n->disk_full |= whose;
    n->disk_full_ms = node_now(n) + NODE_DISK_FULL_RETRY_MS;
}

void node_disk_room(struct node *n, unsigned whose)
{
    if ((n->disk_full & whose) == 0)
        return;
    n->disk_full &= ~whose;
    if (n->disk_full != 0)
        return;
    n->disk_full_ms = 0;
    n->stepped_aside = false;
    if (n->config.logger != NULL)
        log_info(n->config.logger, "the disk has room again");
}

bool node_may_write(const struct node *n)
{
    return n->disk_full == 0 && n->unflushed_bytes + n->flushing_bytes < NODE_MAX_UNFLUSHED_BYTES;
}

bool node_is_leader(const struct node *n)
{
    return core_role(n->core) == CORE_LEADER;
}

/* Members of the first version end the connection at a type that they do not know. */
static bool is_newer_type(uint8_t type)
{
    return type == PEER_SNAPSHOT_OFFER || type == PEER_SNAPSHOT_REPLY || type > PEER_COMMIT;
}

void node_send(struct node *n, uint64_t to, uint8_t type, const struct bytes *payload)
{
    if (is_newer_type(type) && members_is_older(n, to))
        return;
    if (bytes_status(payload) == 0) /* out of memory loses a message, as the network may */
        n->network.send(n->network.ctx, to, type, bytes_slice(payload));
}

bool node_has_committed_own(const struct node *n)
{
    return node_is_leader(n) && n->noop_term == core_term(n->core) && core_commit(n->core) >= n->noop_index;
}

void node_removed(struct node *n, const char *text)
{
    if (n->removed)
        return;
    n->removed = true;
    if (n->callbacks.on_removed != NULL)
        n->callbacks.on_removed(n->callbacks.ctx, text);
}

/* ---- leadership ---- */

/* The library leaves the no-op out when it knows nothing uncommitted; reads and changes of membership need it always. */
static void submit_noop(struct node *n)
{
    struct log_entry e = {.type = LOG_ENTRY_BARRIER, .payload = slice_make("", 0)};
    uint64_t last = log_last_index(n->log);

    n->noop_term = core_term(n->core);
    if (log_term_at(n->log, last) == n->noop_term) {
        n->noop_index = last; /* its own, or a sole voter's from before a restart: of this term either way */
        return;
    }
    if (node_core_ok(n, core_submit(n->core, node_now(n), &e, 1)))
        n->noop_index = e.index;
}

static void watch_members(struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    uint64_t ids[2 * NODE_MAX_MEMBERS];
    const char *urls[2 * NODE_MAX_MEMBERS];
    size_t count, peers = 0;

    if (core_members_version(n->core) == n->members_version)
        return;
    n->members_version = core_members_version(n->core);
    count = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        if (members[i].id == n->config.id)
            continue;
        ids[peers] = members[i].id;
        urls[peers++] = members[i].address;
    }
    /* One that is being removed is heard and answered until that is applied: it may be the leader. */
    for (size_t i = 0; i < n->members.n_applied; i++) {
        uint64_t id = n->members.applied[i];

        if (id == n->config.id || core_is_member(n->core, id))
            continue;
        ids[peers] = id;
        urls[peers++] = n->members.applied_urls[i];
    }
    n->network.set_peers(n->network.ctx, ids, urls, peers);
    reads_leader_changed(n);
}

static void watch_leader(struct node *n)
{
    uint64_t leader = core_leader(n->core), term = core_term(n->core);
    bool was_mine = n->leader == n->config.id;

    if (node_is_leader(n) && n->noop_term != term)
        submit_noop(n);
    if (leader == n->leader && term == n->leader_term)
        return;
    n->leader = leader;
    n->leader_term = term;
    n->leader_gone_ms = 0;
    if (was_mine)
        proposals_lost_leadership(n);
    reads_leader_changed(n);
    leases_leader_changed(n);
    if (leader == 0) {
        if (n->no_leader_since_ms == 0)
            n->no_leader_since_ms = node_now(n);
        return;
    }
    n->no_leader_since_ms = 0;
    n->no_leader_told = false;
    n->proposals.forward_hold_ms = 0;
    if (n->callbacks.on_leader != NULL)
        n->callbacks.on_leader(n->callbacks.ctx, leader, term);
}

static uint64_t no_leader_deadline_ms(const struct node *n)
{
    return n->no_leader_since_ms + NODE_NO_LEADER_TIMEOUTS * n->config.election_ms;
}

static void watch_absence(struct node *n)
{
    if (n->leader != 0 || n->no_leader_told || node_now(n) < no_leader_deadline_ms(n))
        return;
    n->no_leader_told = true;
    proposals_fail_all(n);
    reads_fail_all(n);
    lease_requests_fail_all(n);
    members_fail_all(n);
    if (n->callbacks.on_leader != NULL)
        n->callbacks.on_leader(n->callbacks.ctx, 0, core_term(n->core));
}

/* ---- handing over ---- */

bool node_is_connected(const struct node *n, uint64_t peer)
{
    for (size_t i = 0; i < n->n_connected; i++)
        if (n->connected[i] == peer)
            return true;
    return false;
}

/* The voter that is nearest to the end of the log, of those that can be reached. */
uint64_t node_fittest(const struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    uint64_t best = 0, best_match = 0;
    size_t count;

    count = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        uint64_t match = core_match_index(n->core, members[i].id);

        if (members[i].id == n->config.id || !members[i].voter || !node_is_connected(n, members[i].id))
            continue;
        if (match > best_match) {
            best = members[i].id;
            best_match = match;
        }
    }
    return best;
}

static void hand_over(struct node *n)
{
    uint64_t best = node_fittest(n);

    if (best != 0)
        node_core_ok(n, core_transfer(n->core, node_now(n), best));
}

void node_transfer(struct node *n)
{
    if (n->failed || !n->started || !node_is_leader(n))
        return;
    hand_over(n);
    node_advance(n);
}

/* A leader that cannot write lets another lead; once, or two full disks would play ball. */
static void step_aside(struct node *n)
{
    if (n->disk_full == 0 || n->stepped_aside || n->failed || !node_is_leader(n))
        return;
    n->stepped_aside = true;
    hand_over(n);
}

/* ---- the round ---- */

static void earlier(uint64_t *at_ms, uint64_t candidate_ms)
{
    if (candidate_ms < *at_ms)
        *at_ms = candidate_ms;
}

static void set_timer(struct node *n)
{
    uint64_t now = node_now(n), at = core_timeout_ms(n->core);

    if (at <= now)
        at = now + 1; /* the core had its tick: never spin on it */
    if (n->leader == 0 && !n->no_leader_told)
        earlier(&at, no_leader_deadline_ms(n));
    if (n->leader_gone_ms != 0)
        earlier(&at, n->leader_gone_ms);
    earlier(&at, n->proposals.next_deadline_ms);
    if (n->proposals.forward_hold_ms > now)
        earlier(&at, n->proposals.forward_hold_ms);
    earlier(&at, proposals_resend_ms(n));
    earlier(&at, n->reads.next_deadline_ms);
    earlier(&at, members_due_ms(n));
    if (n->reads.open)
        earlier(&at, n->reads.sent_ms + n->config.heartbeat_ms);
    earlier(&at, leases_timeout_ms(n));
    earlier(&at, upkeep_timeout_ms(n));
    if (n->disk_full_ms > now)
        earlier(&at, n->disk_full_ms);
    earlier(&at, checkpoints_retry_ms(n));
    earlier(&at, removal_timeout_ms(n) > now ? removal_timeout_ms(n) : now + 1);
    earlier(&at, n->readers.next_ms);
    if (n->turn_wanted)
        at = now;
    n->timer_ms = at;
    n->clock.set_timer(n->clock.ctx, at);
}

void node_want_turn(struct node *n)
{
    if (n->turn_wanted || n->failed)
        return;
    n->turn_wanted = true;
    if (n->started && !n->advancing)
        n->clock.set_timer(n->clock.ctx, node_now(n));
}

void node_advance(struct node *n)
{
    bool more = true;

    if (n->failed || !n->started || n->advancing)
        return;
    n->advancing = true;
    n->turn_wanted = false;
    while (more && !n->failed) {
        more = false;
        watch_members(n);
        watch_leader(n);
        watch_absence(n);
        proposals_committed(n);
        if (!n->failed)
            reads_open(n);
        if (!n->failed)
            proposals_pump(n);
        commit_pump(n); /* behind whatever this turn sent anyway, and before the loop is kept busy */
        if (!n->failed)
            reads_ask(n);
        more |= node_flush_pump(n);
        more |= apply_pump(n);
        removal_pump(n);
        if (!n->failed)
            reads_pump(n);
        if (!n->failed)
            leases_pump(n);
        if (!n->failed)
            upkeep_pump(n);
        if (!n->failed)
            services_pump(n);
        if (!n->failed)
            more |= members_pump(n);
    }
    if (!n->failed)
        snapshots_pump(n);
    if (!n->failed)
        checkpoints_pump(n);
    if (!n->failed)
        readers_pump(n);
    step_aside(n);
    commit_pump(n);
    n->advancing = false;
    if (append_goes_on(n))
        n->turn_wanted = true;
    if (!n->failed)
        set_timer(n);
}

void node_timer(struct node *n)
{
    uint64_t now = node_now(n);

    if (n->failed || !n->started)
        return;
    if (n->leader_gone_ms != 0 && now >= n->leader_gone_ms) {
        n->leader_gone_ms = 0;
        core_forget_leader(n->core);
    }
    if (!node_core_ok(n, core_tick(n->core, now)))
        return;
    append_pump(n);
    if (now >= n->proposals.next_deadline_ms)
        proposals_expire(n);
    if (now >= n->reads.next_deadline_ms)
        reads_expire(n);
    node_advance(n);
}

/* ---- peers ---- */

static int receive_core(struct node *n, uint64_t from, uint8_t type, struct slice payload)
{
    struct peer_message m = {.peer = from};
    int rc = peer_message_decode(type, payload, &n->arena, &m);

    if (rc < 0)
        return rc;
    if (m.type == PEER_APPEND && (!node_may_write(n) || n->snapshots.replacing))
        m.append.n_entries = 0; /* a heartbeat all the same: the leader sends them again */
    if (m.type == PEER_APPEND && m.append.round != 0)
        reads_round_came(n, from, m.append.term, m.append.round);
    rc = core_receive(n->core, node_now(n), &m);
    if (rc == -EBADMSG && core_error(n->core)[0] == '\0')
        return rc; /* the peer's fault, not ours */
    reads_answer(n);
    if (m.type == PEER_APPEND_RESULT)
        reads_round_confirmed(n, from, m.append_result.term, m.append_result.round);
    if (m.type == PEER_APPEND && from == core_leader(n->core))
        n->leader_gone_ms = 0;
    node_core_ok(n, rc);
    return 0;
}

int node_receive(struct node *n, uint64_t from, uint8_t type, struct slice payload)
{
    int rc;

    if (n->failed || !n->started)
        return 0;
    arena_reset(&n->arena);
    switch (type) {
    case PEER_FORWARD:
        rc = proposals_receive_forward(n, from, payload);
        break;
    case PEER_FORWARD_REJECT:
        rc = proposals_receive_reject(n, from, payload);
        break;
    case PEER_SNAPSHOT_OFFER:
        rc = snapshots_receive_offer(n, from, payload);
        break;
    case PEER_SNAPSHOT_REPLY:
        rc = snapshots_receive_reply(n, from, payload);
        break;
    case PEER_MEMBER_CHANGE:
        rc = members_receive_change(n, from, payload);
        break;
    case PEER_MEMBER_RESULT:
        rc = members_receive_result(n, from, payload);
        break;
    case PEER_COMMIT:
        rc = commit_receive(n, from, payload);
        break;
    case PEER_LEASE:
        rc = leases_receive(n, from, payload);
        break;
    case PEER_LEASE_REPLY:
        rc = leases_receive_reply(n, from, payload);
        break;
    case PEER_READ_INDEX:
        rc = reads_receive_index(n, from, payload);
        break;
    case PEER_READ_INDEX_REPLY:
        rc = reads_receive_reply(n, from, payload);
        break;
    case PEER_READ_CONFIRM:
        rc = reads_receive_confirm(n, from, payload);
        break;
    case PEER_READ_CONFIRMED:
        rc = reads_receive_confirmed(n, from, payload);
        break;
    default:
        rc = receive_core(n, from, type, payload);
    }
    arena_reset(&n->arena);
    node_advance(n);
    return rc;
}

void node_peer_connected(struct node *n, uint64_t peer)
{
    for (size_t i = 0; i < n->n_connected; i++)
        if (n->connected[i] == peer)
            return;
    if (n->n_connected < NODE_MAX_MEMBERS)
        n->connected[n->n_connected++] = peer;
    proposals_peer_connected(n, peer);
}

void node_peer_disconnected(struct node *n, uint64_t peer)
{
    for (size_t i = 0; i < n->n_connected; i++)
        if (n->connected[i] == peer)
            n->connected[i--] = n->connected[--n->n_connected];
    members_disconnected(n, peer);
    if (!n->started || n->failed || peer != core_leader(n->core) || core_role(n->core) != CORE_FOLLOWER)
        return;
    node_leader_goes(n);
}

/* A process that died is noticed here, long before its silence is; a connection that only broke is made anew,
 * and heartbeats come within the first of these intervals. The rest is chance, so that not all stand at once. */
void node_leader_goes(struct node *n)
{
    if (core_role(n->core) != CORE_FOLLOWER)
        return;
    n->leader_gone_ms = node_now(n) + n->config.heartbeat_ms + 1 +
                        n->clock.random(n->clock.ctx) % (2 * n->config.heartbeat_ms + 1);
    node_want_turn(n);
}

/* ---- questions ---- */

static const char *member_name(const struct node *n, uint64_t id)
{
    const struct member_known *k = members_known(n, id);

    if (k != NULL && k->name[0] != '\0')
        return k->name;
    for (size_t i = 0; i < n->n_names; i++)
        if (n->names[i].id == id)
            return n->names[i].name;
    return "";
}

void node_status(const struct node *n, struct node_status *ret_status)
{
    struct core_member members[NODE_MAX_MEMBERS];
    struct node_status s = {.id = n->config.id, .cluster_id = n->config.cluster_id};

    s.leader = core_leader(n->core);
    s.term = core_term(n->core);
    s.is_leader = node_is_leader(n);
    s.has_quorum = s.leader != 0;
    s.last_index = log_last_index(n->log);
    s.synced_index = log_synced_index(n->log);
    s.commit_index = core_commit(n->core);
    s.applied_index = n->applied_index;
    s.epoch = n->epoch;
    s.revision = n->revision;
    s.n_members = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < s.n_members; i++) {
        s.members[i].member.id = members[i].id;
        s.members[i].member.name = member_name(n, members[i].id);
        s.members[i].member.peer_url = members[i].address;
        s.members[i].member.voter = members[i].voter;
        s.members[i].connected = members[i].id == n->config.id || node_is_connected(n, members[i].id);
        s.members[i].match_index = core_match_index(n->core, members[i].id);
        if (members_version(n, members[i].id, &s.members[i].version) && s.members[i].version < FIRST_VERSION)
            s.members[i].version = FIRST_VERSION; /* which did not say so */
    }
    s.cluster_version = n->upkeep.cluster_version != 0 ? n->upkeep.cluster_version : FIRST_VERSION;
    s.log_first_index = log_first_index(n->log);
    s.disk_full = n->disk_full != 0;
    checkpoints_status(n, &s.checkpoint);
    s.readers_pinning = n->readers.pinned;
    s.oldest_reader_ms = n->readers.oldest_ms;
    s.proposals_waiting = n->proposals.count;
    s.barriers_waiting = n->reads.count;
    *ret_status = s;
}

struct store *node_store(struct node *n)
{
    return n->store;
}

bool node_is_idle(const struct node *n)
{
    return !n->flush_out && !n->tend_out && !n->apply_out && !checkpoints_busy(n) && !n->snapshots.out;
}
