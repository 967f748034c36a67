/* cover.c - counts the calls between the driver's files (the linker puts these in between, see sim.mk): a branch of
 * the driver that no seed ever reaches proves nothing. */
#include <stdio.h>

#include "raft/checkpoint.h"
#include "raft/core_library.h"
#include "raft/node_state.h"
#include "tests/sim/world.h"

#define BRANCHES(X)                                                                                                    \
    X(flush_in_line) X(flush_in_worker) X(apply_in_line) X(apply_in_worker) X(truncate) X(noop_of_ours)                 \
    X(entry_of_one_command) X(entry_of_many_commands) X(forward) X(forward_received) X(forward_refused)                 \
    X(requeued) X(read_question) X(read_answer) X(read_confirm) X(read_confirmed) X(append_goes_on) X(round_rides_out) X(round_rides_back) X(transfer) X(fail_all_proposals)     \
    X(fail_all_reads) X(expire_proposals) X(expire_reads) X(started_with_base) X(timeout_now) X(append_rejected)         \
    X(append_in_parts) X(session_answer_kept) X(vote_durable) X(lost_leadership) X(disk_full) X(tend)          \
    X(read_back_of_an_entry) X(forget_leader)        \
    X(commit_told) X(commit_learned) X(lease_question) X(lease_reply) X(lease_granted) X(lease_gone) X(lease_noted)         \
    X(lease_note_taken_back) X(lease_clock_started) X(lease_round) X(own_commands) X(checkpoint_written)      \
    X(store_swapped) X(snapshot_offered) X(snapshot_answered) X(log_trimmed) X(store_from_checkpoint) X(store_from_log) X(member_question)     \
    X(member_answer)

enum branch {
#define BRANCH_ENUM(name) COVER_##name,
    BRANCHES(BRANCH_ENUM)
#undef BRANCH_ENUM
    COVER_COUNT
};

static const char *const names[] = {
#define BRANCH_NAME(name) #name,
    BRANCHES(BRANCH_NAME)
#undef BRANCH_NAME
};

static unsigned long long reached[COVER_COUNT];

#define HIT(name) (reached[COVER_##name]++)

/* ---- mutants: the driver spoilt from outside; the simulation must find each of them ---- */

static const char *const mutants[] = {
    "ack_before_sync",    /* entries count as durable when they are appended */
    "lying_disk",         /* a sync that does nothing */
    "forgetful_vote",     /* term and vote are not synced */
    "no_sessions",        /* a retried command is applied again */
    "read_without_round", /* the leader trusts itself */
    "round_of_before",    /* any answer to an append confirms the round, that of one from before it too */
    "commit_goes_back",   /* the library's commit index as it is */
    "keepalive_without_round", /* a leader confirms keep-alives by itself */
    "keepalive_with_note", /* and leaves what a checkpoint noted */
    "leases_forgotten",   /* a new leader's clock gives leases a tenth of their time */
    "early_change",       /* a leader changes the membership before its first commit */
    "trim_early",         /* the log gives up what no checkpoint holds */
    "requeue_early",      /* proposals are sent again while they may still be applied */
};

static const char *mutant;

bool mutant_is(const char *name)
{
    return mutant != NULL && strcmp(mutant, name) == 0;
}

bool mutant_set(const char *name)
{
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++)
        if (strcmp(mutants[i], name) == 0)
            mutant = mutants[i];
    if (mutant_is("lying_disk"))
        sim_disk_lie(true);
    return mutant != NULL;
}

void mutant_list(void)
{
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++)
        printf("%s\n", mutants[i]);
}

/* ---- wraps ---- */

bool __real_node_flush_pump(struct node *n);
bool __wrap_node_flush_pump(struct node *n);
bool __wrap_node_flush_pump(struct node *n)
{
    bool was_out = n->flush_out, in_line;

    if (mutant_is("ack_before_sync") && !n->failed)
        core_persisted(n->core, node_now(n), log_last_index(n->log));
    in_line = __real_node_flush_pump(n);
    if (in_line)
        HIT(flush_in_line);
    else if (!was_out && n->flush_out)
        HIT(flush_in_worker);
    return in_line;
}

bool __real_apply_pump(struct node *n);
bool __wrap_apply_pump(struct node *n);
bool __wrap_apply_pump(struct node *n)
{
    bool was_out = n->apply_out, in_line = __real_apply_pump(n);

    if (in_line)
        HIT(apply_in_line);
    else if (!was_out && n->apply_out)
        HIT(apply_in_worker);
    return in_line;
}

void __real_append_pump(struct node *n);
void __wrap_append_pump(struct node *n);
void __wrap_append_pump(struct node *n)
{
    if (append_goes_on(n))
        HIT(append_goes_on);
    __real_append_pump(n);
}

void __real_reads_round_sent(struct node *n, uint64_t peer, uint64_t round);
void __wrap_reads_round_sent(struct node *n, uint64_t peer, uint64_t round);
void __wrap_reads_round_sent(struct node *n, uint64_t peer, uint64_t round)
{
    if (round != 0)
        HIT(round_rides_out);
    __real_reads_round_sent(n, peer, round);
}

uint64_t __real_reads_round_back(struct node *n, uint64_t to, uint64_t term);
uint64_t __wrap_reads_round_back(struct node *n, uint64_t to, uint64_t term);
uint64_t __wrap_reads_round_back(struct node *n, uint64_t to, uint64_t term)
{
    uint64_t round = __real_reads_round_back(n, to, term);

    if (round != 0)
        HIT(round_rides_back);
    return round;
}

void __real_reads_round_confirmed(struct node *n, uint64_t from, uint64_t term, uint64_t round);
void __wrap_reads_round_confirmed(struct node *n, uint64_t from, uint64_t term, uint64_t round);
void __wrap_reads_round_confirmed(struct node *n, uint64_t from, uint64_t term, uint64_t round)
{
    __real_reads_round_confirmed(n, from, term, mutant_is("round_of_before") ? n->reads.sequence : round);
}

size_t __real_core_voters(const struct core *c);
size_t __wrap_core_voters(const struct core *c);
size_t __wrap_core_voters(const struct core *c)
{
    return mutant_is("read_without_round") ? 1 : __real_core_voters(c);
}

uint64_t __real_core_commit(const struct core *c);
uint64_t __wrap_core_commit(const struct core *c);
uint64_t __wrap_core_commit(const struct core *c)
{
    return mutant_is("commit_goes_back") ? c->raft.commit_index : __real_core_commit(c);
}

int __real_log_truncate(struct log *l, uint64_t index);
int __wrap_log_truncate(struct log *l, uint64_t index);
int __wrap_log_truncate(struct log *l, uint64_t index)
{
    HIT(truncate);
    return __real_log_truncate(l, index);
}

int __real_core_submit(struct core *c, uint64_t now_ms, struct log_entry *entries, size_t n);
int __wrap_core_submit(struct core *c, uint64_t now_ms, struct log_entry *entries, size_t n);
int __wrap_core_submit(struct core *c, uint64_t now_ms, struct log_entry *entries, size_t n)
{
    if (entries[0].type == LOG_ENTRY_BARRIER)
        HIT(noop_of_ours);
    else if (entry_count(entries[0].payload) > 1)
        HIT(entry_of_many_commands);
    else
        HIT(entry_of_one_command);
    return __real_core_submit(c, now_ms, entries, n);
}

int __real_core_transfer(struct core *c, uint64_t now_ms, uint64_t target);
int __wrap_core_transfer(struct core *c, uint64_t now_ms, uint64_t target);
int __wrap_core_transfer(struct core *c, uint64_t now_ms, uint64_t target)
{
    HIT(transfer);
    return __real_core_transfer(c, now_ms, target);
}

int __real_core_start(struct core *c, uint64_t now_ms, const struct core_start *start);
int __wrap_core_start(struct core *c, uint64_t now_ms, const struct core_start *start);
int __wrap_core_start(struct core *c, uint64_t now_ms, const struct core_start *start)
{
    if (start->base_index > 0)
        HIT(started_with_base);
    return __real_core_start(c, now_ms, start);
}

int __real_core_receive(struct core *c, uint64_t now_ms, const struct peer_message *m);
int __wrap_core_receive(struct core *c, uint64_t now_ms, const struct peer_message *m);
int __wrap_core_receive(struct core *c, uint64_t now_ms, const struct peer_message *m)
{
    if (m->type == PEER_TIMEOUT_NOW)
        HIT(timeout_now);
    if (m->type == PEER_APPEND_RESULT && m->append_result.rejected > 0)
        HIT(append_rejected);
    if (m->type == PEER_APPEND && m->append.n_entries > 1)
        HIT(append_in_parts);
    return __real_core_receive(c, now_ms, m);
}

void __real_node_send(struct node *n, uint64_t to, uint8_t type, const struct bytes *payload);
void __wrap_node_send(struct node *n, uint64_t to, uint8_t type, const struct bytes *payload);
void __wrap_node_send(struct node *n, uint64_t to, uint8_t type, const struct bytes *payload)
{
    switch (type) {
    case PEER_FORWARD:
        HIT(forward);
        break;
    case PEER_FORWARD_REJECT:
        HIT(forward_refused);
        break;
    case PEER_READ_INDEX:
        HIT(read_question);
        break;
    case PEER_READ_INDEX_REPLY:
        HIT(read_answer);
        break;
    case PEER_READ_CONFIRM:
        HIT(read_confirm);
        break;
    case PEER_READ_CONFIRMED:
        HIT(read_confirmed);
        break;
    case PEER_COMMIT:
        HIT(commit_told);
        break;
    case PEER_LEASE:
        HIT(lease_question);
        break;
    case PEER_SNAPSHOT_OFFER:
        HIT(snapshot_offered);
        break;
    case PEER_SNAPSHOT_REPLY:
        HIT(snapshot_answered);
        break;
    case PEER_MEMBER_CHANGE:
        HIT(member_question);
        break;
    case PEER_MEMBER_RESULT:
        HIT(member_answer);
        break;
    case PEER_LEASE_REPLY:
        HIT(lease_reply);
        break;
    default:
        break;
    }
    __real_node_send(n, to, type, payload);
}

int __real_proposals_receive_forward(struct node *n, uint64_t from, struct slice payload);
int __wrap_proposals_receive_forward(struct node *n, uint64_t from, struct slice payload);
int __wrap_proposals_receive_forward(struct node *n, uint64_t from, struct slice payload)
{
    HIT(forward_received);
    return __real_proposals_receive_forward(n, from, payload);
}

void __real_proposals_requeue(struct node *n, uint64_t applied_term);
void __wrap_proposals_requeue(struct node *n, uint64_t applied_term);
void __wrap_proposals_requeue(struct node *n, uint64_t applied_term)
{
    if (!list_empty(&n->proposals.sent))
        HIT(requeued);
    if (mutant_is("requeue_early"))
        applied_term++;
    __real_proposals_requeue(n, applied_term);
}

void __real_proposals_fail_all(struct node *n);
void __wrap_proposals_fail_all(struct node *n);
void __wrap_proposals_fail_all(struct node *n)
{
    if (n->proposals.count > 0)
        HIT(fail_all_proposals);
    __real_proposals_fail_all(n);
}

void __real_reads_fail_all(struct node *n);
void __wrap_reads_fail_all(struct node *n);
void __wrap_reads_fail_all(struct node *n)
{
    if (n->reads.count > 0)
        HIT(fail_all_reads);
    __real_reads_fail_all(n);
}

void __real_proposals_expire(struct node *n);
void __wrap_proposals_expire(struct node *n);
void __wrap_proposals_expire(struct node *n)
{
    HIT(expire_proposals);
    __real_proposals_expire(n);
}

void __real_reads_expire(struct node *n);
void __wrap_reads_expire(struct node *n);
void __wrap_reads_expire(struct node *n)
{
    HIT(expire_reads);
    __real_reads_expire(n);
}

void __real_proposals_lost_leadership(struct node *n);
void __wrap_proposals_lost_leadership(struct node *n);
void __wrap_proposals_lost_leadership(struct node *n)
{
    HIT(lost_leadership);
    __real_proposals_lost_leadership(n);
}

int __real_store_session_find(struct store_batch *b, uint64_t session, uint64_t sequence, int *ret_found,
                              uint16_t *ret_status, int64_t *ret_revision, struct slice *ret_body);
int __wrap_store_session_find(struct store_batch *b, uint64_t session, uint64_t sequence, int *ret_found,
                              uint16_t *ret_status, int64_t *ret_revision, struct slice *ret_body);
int __wrap_store_session_find(struct store_batch *b, uint64_t session, uint64_t sequence, int *ret_found,
                              uint16_t *ret_status, int64_t *ret_revision, struct slice *ret_body)
{
    int rc = __real_store_session_find(b, session, sequence, ret_found, ret_status, ret_revision, ret_body);

    if (rc == 0 && *ret_found == 1)
        HIT(session_answer_kept);
    if (mutant_is("no_sessions") && rc == 0)
        *ret_found = 0;
    return rc;
}

int __real_log_set_hard_state(struct log *l, struct log_hard_state hs);
int __wrap_log_set_hard_state(struct log *l, struct log_hard_state hs);
int __wrap_log_set_hard_state(struct log *l, struct log_hard_state hs)
{
    int rc;

    HIT(vote_durable);
    if (mutant_is("forgetful_vote"))
        sim_disk_lie(true);
    rc = __real_log_set_hard_state(l, hs);
    if (mutant_is("forgetful_vote"))
        sim_disk_lie(false);
    return rc;
}

void __real_node_disk_full(struct node *n, unsigned whose);
void __wrap_node_disk_full(struct node *n, unsigned whose);
void __wrap_node_disk_full(struct node *n, unsigned whose)
{
    HIT(disk_full);
    __real_node_disk_full(n, whose);
}

int __real_log_tend(struct log *l);
int __wrap_log_tend(struct log *l);
int __wrap_log_tend(struct log *l)
{
    HIT(tend);
    return __real_log_tend(l);
}

int __real_log_segment_read(struct log *l, uint32_t segment, uint64_t offset, size_t len, const uint8_t **ret_data);
int __wrap_log_segment_read(struct log *l, uint32_t segment, uint64_t offset, size_t len, const uint8_t **ret_data);
int __wrap_log_segment_read(struct log *l, uint32_t segment, uint64_t offset, size_t len, const uint8_t **ret_data)
{
    HIT(read_back_of_an_entry);
    return __real_log_segment_read(l, segment, offset, len, ret_data);
}

void __real_checkpoints_submit(struct node *n, enum checkpoint_phase phase, void (*run)(struct work *w));
void __wrap_checkpoints_submit(struct node *n, enum checkpoint_phase phase, void (*run)(struct work *w));
void __wrap_checkpoints_submit(struct node *n, enum checkpoint_phase phase, void (*run)(struct work *w))
{
    if (phase == CP_PUBLISHING)
        HIT(store_swapped);
    __real_checkpoints_submit(n, phase, run);
}

int __real_checkpoint_write(struct store *s, struct checkpoint_info *ret_info);
int __wrap_checkpoint_write(struct store *s, struct checkpoint_info *ret_info);
int __wrap_checkpoint_write(struct store *s, struct checkpoint_info *ret_info)
{
    HIT(checkpoint_written);
    return __real_checkpoint_write(s, ret_info);
}

int __real_log_trim(struct log *l, uint64_t index);
int __wrap_log_trim(struct log *l, uint64_t index);
int __wrap_log_trim(struct log *l, uint64_t index)
{
    uint64_t first = log_first_index(l);
    int rc = __real_log_trim(l, mutant_is("trim_early") ? log_synced_index(l) : index);

    if (log_first_index(l) > first)
        HIT(log_trimmed);
    return rc;
}

int __real_store_open(const char *dir, const struct store_options *options, struct store **ret_store);
int __wrap_store_open(const char *dir, const struct store_options *options, struct store **ret_store);
int __wrap_store_open(const char *dir, const struct store_options *options, struct store **ret_store)
{
    int rc = __real_store_open(dir, options, ret_store);

    if (rc == 0 && store_origin(*ret_store) == STORE_FROM_CHECKPOINT)
        HIT(store_from_checkpoint);
    if (rc == 0 && store_origin(*ret_store) == STORE_FROM_LOG)
        HIT(store_from_log);
    return rc;
}

void __real_node_barrier(struct node *n, struct node_barrier *b);
void __wrap_node_barrier(struct node *n, struct node_barrier *b);
void __wrap_node_barrier(struct node *n, struct node_barrier *b)
{
    if (b == &n->leases.round.barrier) {
        HIT(lease_round);
        if (mutant_is("keepalive_without_round")) {
            b->done(b, STATUS_OK, n->epoch, n->revision);
            return;
        }
    }
    __real_node_barrier(n, b);
}

void __real_lease_table_order(struct lease_table *t);
void __wrap_lease_table_order(struct lease_table *t);
void __wrap_lease_table_order(struct lease_table *t)
{
    HIT(lease_clock_started);
    for (size_t i = 0; i < t->count && mutant_is("leases_forgotten"); i++) {
        uint64_t cut_ms = (uint64_t)t->heap[i]->ttl_s * 900;

        t->heap[i]->deadline_ms -= t->heap[i]->deadline_ms > cut_ms ? cut_ms : t->heap[i]->deadline_ms;
    }
    __real_lease_table_order(t);
}

bool __real_node_has_committed_own(const struct node *n);
bool __wrap_node_has_committed_own(const struct node *n);
bool __wrap_node_has_committed_own(const struct node *n)
{
    return mutant_is("early_change") || __real_node_has_committed_own(n);
}

bool __real_proposals_submit_own(struct node *n, struct command *commands, size_t count, uint64_t *ret_index);
bool __wrap_proposals_submit_own(struct node *n, struct command *commands, size_t count, uint64_t *ret_index);
bool __wrap_proposals_submit_own(struct node *n, struct command *commands, size_t count, uint64_t *ret_index)
{
    HIT(own_commands);
    return __real_proposals_submit_own(n, commands, count, ret_index);
}

void __real_leases_applied(struct node *n, const struct lease_event *events, size_t count);
void __wrap_leases_applied(struct node *n, const struct lease_event *events, size_t count);
void __wrap_leases_applied(struct node *n, const struct lease_event *events, size_t count)
{
    const struct sim_node *s = n->callbacks.ctx;

    for (size_t i = 0; i < count; i++) {
        if (events[i].what == LEASE_GRANTED)
            HIT(lease_granted);
        else if (events[i].what == LEASE_NOTED && events[i].seconds != 0)
            HIT(lease_noted);
        else if (events[i].what == LEASE_NOTED)
            HIT(lease_note_taken_back);
        else
            HIT(lease_gone), check_lease_gone(s->world, s->index, events[i].id);
    }
    __real_leases_applied(n, events, count);
    for (size_t i = 0; i < count && mutant_is("keepalive_with_note") && node_is_leader(n); i++) {
        struct lease *l = lease_table_find(&n->leases.table, events[i].id);

        if (l != NULL && events[i].what == LEASE_NOTED)
            l->noted_s = 0; /* this leader forgets that it stands in the log */
    }
}

int __real_core_learn_commit(struct core *c, uint64_t now_ms, uint64_t index);
int __wrap_core_learn_commit(struct core *c, uint64_t now_ms, uint64_t index);
int __wrap_core_learn_commit(struct core *c, uint64_t now_ms, uint64_t index)
{
    if (index > core_commit(c))
        HIT(commit_learned);
    return __real_core_learn_commit(c, now_ms, index);
}

void __real_core_forget_leader(struct core *c);
void __wrap_core_forget_leader(struct core *c);
void __wrap_core_forget_leader(struct core *c)
{
    HIT(forget_leader);
    __real_core_forget_leader(c);
}

size_t cover_missing(void)
{
    size_t n = 0;

    for (int i = 0; i < COVER_COUNT; i++)
        n += reached[i] == 0;
    return n;
}

void cover_print(void)
{
    printf("sim: driver branches reached, %zu of %d:", (size_t)COVER_COUNT - cover_missing(), COVER_COUNT);
    for (int i = 0; i < COVER_COUNT; i++)
        if (reached[i] > 0)
            printf(" %s=%llu", names[i], reached[i]);
    for (int i = 0; i < COVER_COUNT; i++)
        if (reached[i] == 0)
            printf(" NOT %s", names[i]);
    printf("\n");
}
