/* core.c - the only file that knows libraft (0.22.x, its step interface: no I/O, no clock, no threads).
 *
 * Guards, each with a test in tests/unit/test_core.c; F = fault of the library:
 *  1 F membership entry not first in a batch gets a wrong index     core_receive() splits in front of it
 *  2 F commit index goes back on a heartbeat with a low prev_index  c->commit only grows
 *  3 F persisted index at or below the known one corrupts           core_persisted() ignores it
 *  4 F 32 entries in flight, then a storm of empty messages         limit raised, byte limits are the driver's
 *  5 F pre-vote off, tracer formats every line                      set in core_new()
 *  6 F answer to an append of an older term holds uninitialised     take_append_result() makes it a plain rejection
 *      memory, and could be taken for a success
 *  7 F late pre-vote answers bump the term of a node that is no     core_receive() drops them
 *      candidate any more
 *  8 F configuration bytes are decoded without bounds               core_membership_check() first
 *  9 F built without assertions: a leader that gets an append of    -EBADMSG, the message is not fed
 *      its own term overwrites its state
 * 10   time that goes back                                          c->now_ms only grows
 * 11 F a rejection that comes late (reordered, from before a        give_append_result() makes it say nothing
 *      reconnect) sets next_index at or below match_index: after
 *      that the follower gets nothing but empty messages, for good
 * 12 F each timeout of a leader takes whoever has not answered since   core_tick() leaves a window of some
 *      the one before for unreachable: heartbeats at different moments,     heartbeats
 *      and in quiet times every entry waits for the next heartbeat
 * 13 F a sole voter takes leadership without a new term, which may have had   begin_term() first
 *      another leader (who removed itself), or entries that were sent to
 *      others and lost by this one
 * 14 F a snapshot event for an index that it has already, or has no entry    core_trimmed() ignores it
 *      of, corrupts its list of terms
 * 15 F who is no voter by its own log refuses its vote, even to whom    feed_vote() lets it be one for that step
 *      cannot be elected without it, since it was made a voter in between
 * 16 F who is no voter by its own log believes in its leader for ever, and    core_tick() ends that at the election timeout
 *      refuses its vote for that
 * 17 F an append from before a follower's checkpoint is refused, for good:    behind_checkpoint() lets it begin at the
 *      its leader takes the refusal for old news (11) and sends the same       checkpoint's entry, which is committed
 * 18 F 0.22.0 frees the entries of an append that failed twice, and their    core_no_batch() is never freed; feed_append()
 *      array as well, which is ours                                          lets go of the array
 * 19 F 0.22.0 leaves what was in memory in the entry that begins a term      take_update(), core_membership_encode()
 *      and behind an encoded membership: it would be in the log, and sent
 */
#include "raft/core_library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A follower that answered within so many heartbeat intervals before the last look is reachable. */
#define CONTACT_HEARTBEATS 3

/* The package exports no version number. What counts is that the library behind the linker has the structure
 * of the header that this file was compiled with: set what can be set from outside and look where it went. */
int core_check_version(char *ret_text, size_t text_size)
{
    struct raft r;
    bool known;

    memset(&r, 0, sizeof r);
    if (raft_init(&r, NULL, NULL, 0x1234, PEER_ADDRESS) != 0) {
        snprintf(ret_text, text_size, "libraft cannot be initialised");
        return -EPROTONOSUPPORT;
    }
    r.tracer = NULL;
    raft_seed(&r, 0x51EED);
    raft_set_heartbeat_timeout(&r, 123);
    raft_set_election_timeout(&r, 4567);
    raft_set_max_inflight_entries(&r, 7654);
    raft_set_pre_vote(&r, true);
    r.current_term = 99;
    r.commit_index = 77;
    known = r.id == 0x1234 && strcmp(r.address, PEER_ADDRESS) == 0 && r.heartbeat_timeout == 123 &&
            r.election_timeout == 4567 && r.max_inflight_entries == 7654 && r.pre_vote && r.random != 0x51EED &&
            r.follower_state.randomized_election_timeout >= 4567 && raft_current_term(&r) == 99 &&
            raft_commit_index(&r) == 77;
    raft_close(&r, NULL);
    if (known)
        return 0;
    snprintf(ret_text, text_size,
             "the installed libraft is not the version 0.22.x that this program was built with: install libraft0 "
             "0.22 (Debian 13, or Debian 12 backports)");
    return -EPROTONOSUPPORT;
}

/* ---- life ---- */

int core_new(const struct core_options *options, struct core **ret_core)
{
    struct core *c = calloc(1, sizeof *c);
    int rc;

    if (c == NULL)
        return -ENOMEM;
    core_heap_init();
    c->options = *options;
    rc = core_err_from_raft(raft_init(&c->raft, NULL, NULL, options->id, PEER_ADDRESS));
    if (rc < 0) {
        free(c);
        return rc;
    }
    c->raft.tracer = NULL;
    raft_seed(&c->raft, (unsigned)(options->seed ^ options->seed >> 32));
    raft_set_heartbeat_timeout(&c->raft, (unsigned)options->heartbeat_ms);
    raft_set_election_timeout(&c->raft, (unsigned)options->election_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, CORE_MAX_INFLIGHT_ENTRIES);
    *ret_core = c;
    return 0;
}

void core_free(struct core *c)
{
    if (c == NULL)
        return;
    raft_close(&c->raft, NULL);
    free(c->entries);
    free(c->messages);
    free(c->raft_entries);
    free(c);
}

const char *core_error(const struct core *c)
{
    return c->error;
}

int core_fail(struct core *c, int rc, const char *what)
{
    if (c->error[0] == '\0')
        snprintf(c->error, sizeof c->error, "the consensus core stopped: %s: %s", what, strerror(-rc));
    return rc;
}

/* Room for n items in a scratch array. */
int core_reserve(void *array_p, size_t *cap, size_t n, size_t size)
{
    void **array = array_p;
    size_t want = *cap == 0 ? 64 : *cap;
    void *p;

    if (n <= *cap)
        return 0;
    while (want < n)
        want *= 2;
    p = realloc(*array, want * size);
    if (p == NULL)
        return -ENOMEM;
    *array = p;
    *cap = want;
    return 0;
}

/* ---- from the library to us ---- */

static void take_append_result(const struct core *c, const struct raft_append_entries_result *from,
                               struct peer_append_result *to)
{
    to->term = from->term;
    to->rejected = from->rejected;
    to->last_index = from->last_log_index;
    if (c->stale_append) { /* guard 6 */
        to->rejected = 1;
        to->last_index = 0;
    }
}

/* 1 if there is a message in *m, 0 if it is one that is not sent. */
static int take_message(const struct core *c, const struct raft_message *from, struct peer_message *m)
{
    memset(m, 0, sizeof *m);
    if (from->server_id == 0) /* an answer to a leader that was forgotten meanwhile */
        return 0;
    m->peer = from->server_id;
    switch (from->type) {
    case RAFT_REQUEST_VOTE:
        m->type = PEER_VOTE;
        m->vote = (struct peer_vote){
            .term = from->request_vote.term,
            .last_index = from->request_vote.last_log_index,
            .last_term = from->request_vote.last_log_term,
            .disrupt_leader = from->request_vote.disrupt_leader,
            .pre_vote = from->request_vote.pre_vote,
        };
        return 1;
    case RAFT_REQUEST_VOTE_RESULT:
        m->type = PEER_VOTE_RESULT;
        m->vote_result = (struct peer_vote_result){
            .term = from->request_vote_result.term,
            .granted = from->request_vote_result.vote_granted,
            .pre_vote = from->request_vote_result.pre_vote,
        };
        return 1;
    case RAFT_APPEND_ENTRIES:
        m->type = PEER_APPEND;
        m->append = (struct peer_append){
            .term = from->append_entries.term,
            .prev_index = from->append_entries.prev_log_index,
            .prev_term = from->append_entries.prev_log_term,
            .commit = c->commit > from->append_entries.leader_commit ? c->commit
                                                                      : from->append_entries.leader_commit,
            .n_entries = from->append_entries.n_entries,
        };
        return 1;
    case RAFT_APPEND_ENTRIES_RESULT:
        m->type = PEER_APPEND_RESULT;
        take_append_result(c, &from->append_entries_result, &m->append_result);
        return 1;
    case RAFT_TIMEOUT_NOW:
        m->type = PEER_TIMEOUT_NOW;
        m->timeout_now = (struct peer_timeout_now){
            .term = from->timeout_now.term,
            .last_index = from->timeout_now.last_log_index,
            .last_term = from->timeout_now.last_log_term,
        };
        return 1;
    default:
        return 0;
    }
}

static int take_update(struct core *c, const struct raft_update *u, struct core_ready *ready)
{
    int rc;

    ready->hard_state = (struct log_hard_state){c->raft.current_term, c->raft.voted_for};
    ready->hard_state_changed = (u->flags & (RAFT_UPDATE_CURRENT_TERM)) != 0 ||
                                (u->flags & (RAFT_UPDATE_VOTED_FOR)) != 0 || c->new_term;
    c->new_term = false;
    ready->leaving = c->raft.state == RAFT_LEADER && c->raft.configuration_uncommitted_index != 0 &&
                     c->raft.configuration_uncommitted_index <= c->commit && !core_is_voter(c, c->options.id);
    ready->commit = c->commit;
    if ((u->flags & (RAFT_UPDATE_ENTRIES)) != 0) {
        rc = core_reserve(&c->entries, &c->entries_cap, u->entries.n, sizeof *c->entries);
        if (rc < 0)
            return rc;
        for (unsigned i = 0; i < u->entries.n; i++) {
            const struct raft_entry *e = &u->entries.batch[i];

            c->members_version += e->type == RAFT_CHANGE;
#if RAFT_VERSION_NUMBER < 2201
            if (e->type == RAFT_BARRIER && e->buf.base == c->raft.barrier.buf.base) /* guard 19 */
                memset(e->buf.base, 0, e->buf.len);
#endif
            c->entries[i] = (struct log_entry){
                .index = u->entries.index + i,
                .term = e->term,
                .type = (enum log_entry_type)e->type,
                .payload = slice_make(e->buf.base, e->buf.len),
            };
        }
        ready->entries = c->entries;
        ready->n_entries = u->entries.n;
    }
    if ((u->flags & (RAFT_UPDATE_MESSAGES)) != 0) {
        rc = core_reserve(&c->messages, &c->messages_cap, u->messages.n, sizeof *c->messages);
        if (rc < 0)
            return rc;
        for (unsigned i = 0; i < u->messages.n; i++) {
            const struct raft_message *m = &u->messages.batch[i];

            if (m->type == RAFT_INSTALL_SNAPSHOT)
                ready->snapshot_peer = m->server_id;
            ready->n_messages += (size_t)take_message(c, m, &c->messages[ready->n_messages]);
        }
        ready->messages = c->messages;
    }
    return 0;
}

_Static_assert((int)LOG_ENTRY_COMMANDS == (int)RAFT_COMMAND && (int)LOG_ENTRY_BARRIER == (int)RAFT_BARRIER &&
                   (int)LOG_ENTRY_MEMBERSHIP == (int)RAFT_CHANGE,
               "entry types are the library's numbers");

static void note_leader(struct core *c, const struct raft_event *e)
{
    const struct raft_message *m;

    if (c->raft.state == RAFT_LEADER) {
        c->leader = c->options.id;
        c->leader_term = c->raft.current_term;
        return;
    }
    if (c->leader == c->options.id || c->raft.state == RAFT_CANDIDATE)
        c->leader = 0; /* stepped down, or lost patience */
    if (e->type != RAFT_RECEIVE)
        return;
    /* The library keeps the old leader's id across a change of term: believe an append of this term only. */
    m = e->receive.message;
    if (m->type == RAFT_APPEND_ENTRIES && m->append_entries.term == c->raft.current_term &&
        c->raft.state == RAFT_FOLLOWER) {
        c->leader = m->server_id;
        c->leader_term = c->raft.current_term;
    }
}

static const char *const event_names[] = {
    [RAFT_START] = "start",
    [RAFT_RECEIVE] = "message",
    [RAFT_PERSISTED_ENTRIES] = "entries are durable",
    [RAFT_CONFIGURATION] = "membership is committed",
    [RAFT_TIMEOUT] = "timeout",
    [RAFT_SUBMIT] = "submit",
    [RAFT_TRANSFER] = "transfer",
    [RAFT_SNAPSHOT] = "entries are gone",
};

/* One event through the library and its consequences through ready(). */
static int step_once(struct core *c, struct raft_event *e)
{
    struct raft_update u = {0};
    struct core_ready ready = {0};
    int rv, rc;

    e->time = c->now_ms;
    e->capacity = 0;
    rv = raft_step(&c->raft, e, &u);
    if (rv != 0) {
        snprintf(c->error, sizeof c->error,
                 "the consensus core refused an event (%s): %s%s; log and membership of this node do not fit "
                 "the cluster's",
                 event_names[e->type], raft_strerror(rv),
                 rv == RAFT_SHUTDOWN ? ": a committed entry conflicts with the leader's" : "");
        return -EPROTO;
    }
    if (c->raft.commit_index > c->commit) /* guard 2 */
        c->commit = c->raft.commit_index;
    note_leader(c, e);
    if (c->raft.configuration_uncommitted_index != c->change_index ||
        c->raft.configuration_committed_index != c->committed_change_index) {
        c->change_index = c->raft.configuration_uncommitted_index;
        c->committed_change_index = c->raft.configuration_committed_index;
        c->members_version++;
    }
    rc = take_update(c, &u, &ready);
    if (rc == 0)
        rc = c->options.ready(c->options.ctx, &ready);
    if ((u.flags & (RAFT_UPDATE_ENTRIES)) != 0)
        raft_free(u.entries.batch[0].batch); /* the entry that begins a term is the library's */
    return rc < 0 ? core_fail(c, rc, "its consequences could not be carried out") : 0;
}

/* Tells the library of memberships that are committed now. */
static int settle_membership(struct core *c)
{
    int rc = 0;

    while (rc == 0 && c->raft.configuration_uncommitted_index != 0 &&
           c->raft.configuration_uncommitted_index <= c->commit) {
        struct raft_event committed = {.type = RAFT_CONFIGURATION};

        /* What is in force is the uncommitted configuration; the library takes the copy. */
        committed.configuration.index = c->raft.configuration_uncommitted_index;
        rc = core_membership_copy(&c->raft.configuration, &committed.configuration.conf);
        if (rc < 0)
            return core_fail(c, rc, "membership");
        rc = step_once(c, &committed);
    }
    return rc;
}

int core_step(struct core *c, struct raft_event *e)
{
    int rc = step_once(c, e);

    c->stale_append = false;
    return rc < 0 ? rc : settle_membership(c);
}

void core_set_now(struct core *c, uint64_t now_ms)
{
    if (now_ms > c->now_ms) /* guard 10 */
        c->now_ms = now_ms;
}

/* ---- start ---- */

/* Guard 13: votes for itself in a term of its own; goes out, durable, with the event that follows. */
static void begin_term(struct core *c)
{
    c->raft.current_term++;
    c->raft.voted_for = c->options.id;
    c->new_term = true;
}

/* Whether this member will lead at once: the newest membership has no other voter. */
static bool starts_as_leader(const struct core *c, const struct raft_snapshot_metadata *base,
                             const struct raft_entry *entries, size_t n, bool *ret_leads)
{
    const struct raft_configuration *newest = &base->configuration;
    struct raft_configuration decoded;

    while (n > 0 && entries[n - 1].type != RAFT_CHANGE)
        n--;
    *ret_leads = n == 0 && core_is_sole_voter(newest, c->options.id);
    if (n == 0)
        return true;
    if (core_membership_decode(slice_make(entries[n - 1].buf.base, entries[n - 1].buf.len), &decoded) < 0)
        return false;
    *ret_leads = core_is_sole_voter(&decoded, c->options.id);
    raft_configuration_close(&decoded);
    return true;
}

static int start_entries(struct core *c, const struct core_start *start, struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct log_entry e;
        int rc = start->entry(start->ctx, start->first_index + i, &e);

        if (rc < 0)
            return core_fail(c, rc, "reading the log");
        entries[i] = (struct raft_entry){.term = e.term, .type = (core_entry_type)e.type, .batch = core_no_batch()};
        if (e.type != LOG_ENTRY_MEMBERSHIP)
            continue;
        if (core_membership_check(e.payload) < 0)
            return core_fail(c, -EUCLEAN, "a membership entry of the log is damaged");
        entries[i].buf.base = malloc(e.payload.len);
        entries[i].buf.len = e.payload.len;
        if (entries[i].buf.base == NULL)
            return core_fail(c, -ENOMEM, "start");
        memcpy(entries[i].buf.base, e.payload.data, e.payload.len);
    }
    return 0;
}

int core_start(struct core *c, uint64_t now_ms, const struct core_start *start)
{
    struct raft_snapshot_metadata metadata = {0};
    struct raft_event e = {.type = RAFT_START};
    size_t n = start->last_index + 1 > start->first_index ? start->last_index + 1 - start->first_index : 0;
    struct raft_entry *entries = raft_calloc(n + 1, sizeof *entries);
    struct slice *payloads = calloc(n + 1, sizeof *payloads);
    size_t n_payloads = 0;
    bool fed = false, leads = false;
    int rc = -ENOMEM;

    if (entries == NULL || payloads == NULL)
        goto done;
    rc = start_entries(c, start, entries, n);
    for (size_t i = 0; i < n; i++)
        if (entries[i].buf.base != NULL)
            payloads[n_payloads++] = slice_make(entries[i].buf.base, entries[i].buf.len);
    if (rc == 0 && start->base_index != 0) {
        rc = core_membership_decode(start->membership, &metadata.configuration);
        if (rc < 0)
            core_fail(c, rc, "the membership kept by the store is damaged");
    }
    if (rc == 0 && !starts_as_leader(c, &metadata, entries, n, &leads))
        rc = core_fail(c, -ENOMEM, "start");
    if (rc < 0)
        goto done;
    metadata.index = start->base_index;
    metadata.term = start->base_term;
    metadata.configuration_index = start->membership_index;
    e.start.term = start->hard_state.term + leads;
    e.start.voted_for = leads ? c->options.id : start->hard_state.voted_for;
    c->new_term = leads;
    e.start.metadata = start->base_index != 0 ? &metadata : NULL;
    e.start.start_index = start->first_index;
    e.start.entries = n > 0 ? entries : NULL;
    e.start.n_entries = (unsigned)n;
    core_set_now(c, now_ms);
    fed = true;
    rc = core_step(c, &e);
    if (rc == 0) {
        c->started = true;
        fed = false; /* a start that fails frees them, one that succeeds does not */
    }
done:
    if (!fed)
        raft_free(entries);
    for (size_t i = 0; i < n_payloads; i++)
        free((void *)(uintptr_t)payloads[i].data);
    free(payloads);
    return rc;
}

/* ---- the other events ---- */

int core_persisted(struct core *c, uint64_t now_ms, uint64_t index)
{
    struct raft_event e = {.type = RAFT_PERSISTED_ENTRIES};

    core_set_now(c, now_ms);
    if (index > core_last_index(c))
        return core_fail(c, -EPROTO, "the log says that entries are durable that it was never given");
    if (index <= c->raft.last_stored) /* guard 3 */
        return 0;
    if (c->raft.state == RAFT_CANDIDATE)
        return core_fail(c, -EPROTO, "entries became durable during a candidacy");
    e.persisted_entries.index = index;
    return core_step(c, &e);
}

uint64_t core_timeout_ms(const struct core *c)
{
    return raft_timeout(&c->raft);
}

/* Guard 12. The library counts as reachable who has answered since election_timer_start, and puts that to now at
 * each timeout that finds a quorum. */
static void widen_contact_window(struct core *c, uint64_t before_ms)
{
    uint64_t window_ms = CONTACT_HEARTBEATS * c->options.heartbeat_ms;
    uint64_t begin_ms = c->now_ms > window_ms ? c->now_ms - window_ms : 0;

    if (c->raft.state != RAFT_LEADER || c->raft.election_timer_start <= begin_ms)
        return;
    c->raft.election_timer_start = before_ms > begin_ms ? before_ms : begin_ms;
}

/* The library lets nobody's time be up who has no vote (guard 16). */
static void forget_silent_leader(struct core *c)
{
    c->raft.election_timer_start = c->now_ms;
    if (c->now_ms < c->heard_ms + c->options.election_ms)
        return;
    c->leader = 0;
    c->raft.follower_state.current_leader.id = 0;
}

int core_tick(struct core *c, uint64_t now_ms)
{
    struct raft_event e = {.type = RAFT_TIMEOUT};
    bool leader = c->raft.state == RAFT_LEADER;
    uint64_t before_ms = c->raft.election_timer_start;
    int rc;

    core_set_now(c, now_ms);
    if (!c->started || c->now_ms < core_timeout_ms(c))
        return 0;
    if (c->raft.state == RAFT_FOLLOWER && core_is_sole_voter(&c->raft.configuration, c->options.id) &&
        c->raft.last_stored == core_last_index(c))
        begin_term(c);
    if (c->raft.state == RAFT_FOLLOWER && !core_is_voter(c, c->options.id)) {
        forget_silent_leader(c);
        return 0;
    }
    rc = core_step(c, &e);
    if (leader)
        widen_contact_window(c, before_ms);
    return rc;
}

int core_learn_commit(struct core *c, uint64_t now_ms, uint64_t index)
{
    if (c->raft.state != RAFT_FOLLOWER || index <= c->commit || index > core_last_index(c))
        return 0;
    core_set_now(c, now_ms);
    c->commit = index;
    return settle_membership(c);
}

void core_forget_leader(struct core *c)
{
    if (c->raft.state != RAFT_FOLLOWER || core_leader(c) == 0)
        return;
    c->leader = 0;
    c->raft.follower_state.current_leader.id = 0;
    c->raft.follower_state.randomized_election_timeout = 0; /* the time is up */
}

bool core_can_submit(const struct core *c)
{
    return c->raft.state == RAFT_LEADER && raft_transferee(&c->raft) == 0;
}

int core_submit(struct core *c, uint64_t now_ms, struct log_entry *entries, size_t n)
{
    struct raft_event e = {.type = RAFT_SUBMIT};
    uint64_t index = core_last_index(c) + 1;
    int rc;

    if (!core_can_submit(c) || n == 0)
        return core_fail(c, -EINVAL, "submit without leadership");
    core_set_now(c, now_ms);
    rc = core_reserve(&c->raft_entries, &c->raft_entries_cap, n, sizeof *c->raft_entries);
    if (rc < 0)
        return core_fail(c, rc, "submit");
    for (size_t i = 0; i < n; i++) {
        entries[i].index = index + i;
        entries[i].term = c->raft.current_term;
        c->raft_entries[i] = (struct raft_entry){
            .term = c->raft.current_term,
            .type = (core_entry_type)entries[i].type,
            .buf = {.base = (void *)(uintptr_t)entries[i].payload.data, .len = entries[i].payload.len},
            .batch = core_no_batch(),
        };
    }
    e.submit.entries = c->raft_entries;
    e.submit.n = (unsigned)n;
    return core_step(c, &e);
}

int core_installed(struct core *c, uint64_t now_ms, uint64_t member, uint64_t index)
{
    struct peer_message m = {.type = PEER_APPEND_RESULT, .peer = member};

    if (c->raft.state != RAFT_LEADER || index > c->commit || core_match_index(c, member) >= index)
        return 0;
    m.append_result = (struct peer_append_result){.term = c->raft.current_term, .last_index = index};
    return core_receive(c, now_ms, &m);
}

int core_transfer(struct core *c, uint64_t now_ms, uint64_t target)
{
    struct raft_event e = {.type = RAFT_TRANSFER};

    if (!core_can_submit(c) || target == c->options.id || !core_is_voter(c, target))
        return 0;
    core_set_now(c, now_ms);
    e.transfer.server_id = target;
    return core_step(c, &e);
}

/* ---- questions ---- */

enum core_role core_role(const struct core *c)
{
    switch (c->raft.state) {
    case RAFT_LEADER:
        return CORE_LEADER;
    case RAFT_CANDIDATE:
        return CORE_CANDIDATE;
    default:
        return CORE_FOLLOWER;
    }
}

uint64_t core_term(const struct core *c)
{
    return c->raft.current_term;
}

uint64_t core_leader(const struct core *c)
{
    return c->leader_term == c->raft.current_term ? c->leader : 0;
}

uint64_t core_commit(const struct core *c)
{
    return c->commit;
}

/* The trail of (index, term) is a ring of records, one a term, the newest in front of `back`. */
uint64_t core_last_index(const struct core *c)
{
    const struct raft_trail *t = &c->raft.trail;

    if (t->front == t->back)
        return t->snapshot.index;
    return t->records[(t->back + t->size - 1) % t->size].index;
}

size_t core_members(const struct core *c, struct core_member *ret_members, size_t max)
{
    const struct raft_configuration *conf = &c->raft.configuration;

    for (unsigned i = 0; i < conf->n && i < max; i++)
        core_member_from(conf->servers[i].id, conf->servers[i].address, conf->servers[i].role, &ret_members[i]);
    return conf->n;
}

uint64_t core_members_version(const struct core *c)
{
    return c->members_version;
}

size_t core_voters(const struct core *c)
{
    size_t n = 0;

    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        n += c->raft.configuration.servers[i].role == RAFT_VOTER;
    return n;
}

bool core_is_voter(const struct core *c, uint64_t id)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == id)
            return c->raft.configuration.servers[i].role == RAFT_VOTER;
    return false;
}

bool core_is_member(const struct core *c, uint64_t id)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == id)
            return true;
    return false;
}

uint64_t core_match_index(const struct core *c, uint64_t id)
{
    raft_index index;

    return raft_match_index(&c->raft, id, &index) == 0 ? index : 0;
}
