/* The consensus core: elections and replication between cores in memory, and one test for each known fault of the
 * library behind it, by its number in raft/core.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <errno.h>
#include <cmocka.h>

#include "raft/core.h"

#define MEMBERS 3
#define MAX_LOG 256
#define MAX_MAIL 512

struct kept { /* an entry of a member's log */
    uint64_t term;
    enum log_entry_type type;
    uint8_t payload[256];
    size_t len;
};

struct member {
    uint64_t id;
    struct core *core;
    struct log_hard_state hard_state;
    struct kept log[MAX_LOG]; /* by index, from 1 */
    uint64_t last, commit;
    unsigned commit_reports_back;
    unsigned leaving;
    uint64_t snapshot_peer;
    struct peer_message mail[MAX_MAIL];
    size_t n_mail;
};

static int ready(void *ctx, const struct core_ready *r)
{
    struct member *m = ctx;

    if (r->hard_state_changed)
        m->hard_state = r->hard_state;
    for (size_t i = 0; i < r->n_entries; i++) {
        struct kept *k = &m->log[r->entries[i].index];

        assert_true(r->entries[i].index < MAX_LOG && r->entries[i].payload.len <= sizeof k->payload);
        k->term = r->entries[i].term;
        k->type = r->entries[i].type;
        k->len = r->entries[i].payload.len;
        if (k->len > 0)
            memcpy(k->payload, r->entries[i].payload.data, k->len);
        m->last = r->entries[i].index;
    }
    for (size_t i = 0; i < r->n_messages; i++) {
        assert_true(m->n_mail < MAX_MAIL);
        m->mail[m->n_mail++] = r->messages[i];
    }
    m->leaving += r->leaving;
    if (r->snapshot_peer != 0)
        m->snapshot_peer = r->snapshot_peer;
    if (r->commit < m->commit)
        m->commit_reports_back++;
    m->commit = r->commit;
    return 0;
}

static int kept_entry(void *ctx, uint64_t index, struct log_entry *ret_entry)
{
    const struct member *m = ctx;
    const struct kept *k = &m->log[index];

    *ret_entry = (struct log_entry){index, k->term, k->type, slice_make(k->payload, k->len)};
    return 0;
}

static void encode_members(unsigned voters, struct bytes *out)
{
    static const char *const addresses[] = {"a:1", "b:2", "c:3", "d:4", "e:5"};
    struct core_member list[5];

    for (unsigned i = 0; i < voters; i++)
        list[i] = (struct core_member){i + 1, addresses[i], true, false};
    assert_int_equal(core_membership_encode(list, voters, out), 0);
}

/* base: of a checkpoint of that term, in which the log begins; 0: the log has the first entry, of term 1. */
static void start_behind(struct member *m, uint64_t id, unsigned voters, uint64_t base, uint64_t base_term)
{
    struct core_options options = {.id = id, .heartbeat_ms = 100, .election_ms = 1000, .seed = id, .ready = ready, .ctx = m};
    struct core_start s = {.hard_state = {.term = 1}, .first_index = 1, .last_index = 1, .entry = kept_entry, .ctx = m};
    struct bytes conf;

    memset(m, 0, sizeof *m);
    m->id = id;
    bytes_init(&conf);
    encode_members(voters, &conf);
    m->log[1].term = 1;
    m->log[1].type = LOG_ENTRY_MEMBERSHIP;
    m->log[1].len = conf.len;
    memcpy(m->log[1].payload, conf.data, conf.len);
    bytes_fini(&conf);
    m->last = 1;
    if (base != 0) {
        s = (struct core_start){.hard_state = {.term = base_term}, .base_index = base, .base_term = base_term,
                                .membership_index = 1, .membership = slice_make(m->log[1].payload, m->log[1].len),
                                .first_index = base + 1, .last_index = base, .entry = kept_entry, .ctx = m};
        m->last = base;
    }
    assert_int_equal(core_new(&options, &m->core), 0);
    assert_int_equal(core_start(m->core, 0, &s), 0);
}

static void start(struct member *m, uint64_t id, unsigned voters)
{
    start_behind(m, id, voters, 0, 0);
}

static void stop(struct member *m)
{
    core_free(m->core);
}

/* Feeds an append to a member that follows leader 2 and makes all durable. */
static int append(struct member *m, uint64_t term, uint64_t prev_index, uint64_t prev_term, uint64_t commit,
                  struct log_entry *entries, size_t n)
{
    struct peer_message msg = {.type = PEER_APPEND, .peer = 2};
    int rc;

    for (size_t i = 0; i < n; i++)
        entries[i].index = prev_index + 1 + i;
    msg.append = (struct peer_append){term, prev_index, prev_term, commit, entries, n, 0};
    m->n_mail = 0;
    rc = core_receive(m->core, 10, &msg);
    if (rc == 0)
        rc = core_persisted(m->core, 10, m->last);
    return rc;
}

static struct log_entry command(uint64_t term)
{
    return (struct log_entry){.term = term, .type = LOG_ENTRY_COMMANDS, .payload = slice_from_str("x")};
}

/* Time passes until the member wants to be elected; the others say yes. */
static void elect(struct member *m, uint64_t *now)
{
    while (core_role(m->core) != CORE_LEADER) {
        struct peer_message vote = {.type = PEER_VOTE_RESULT, .peer = 2};

        m->n_mail = 0;
        *now = core_timeout_ms(m->core);
        assert_int_equal(core_tick(m->core, *now), 0);
        for (int i = 0; i < 2 && core_role(m->core) == CORE_CANDIDATE; i++) {
            vote.vote_result = (struct peer_vote_result){core_term(m->core) + (i == 0), true, i == 0};
            assert_int_equal(core_receive(m->core, *now, &vote), 0);
        }
    }
}

static void result(struct member *m, uint64_t now, uint64_t peer, uint64_t rejected, uint64_t last)
{
    struct peer_message msg = {.type = PEER_APPEND_RESULT, .peer = peer};

    msg.append_result = (struct peer_append_result){core_term(m->core), rejected, last, 0};
    m->n_mail = 0;
    assert_int_equal(core_receive(m->core, now, &msg), 0);
}

static const struct peer_append *append_to(const struct member *m, uint64_t peer)
{
    for (size_t i = m->n_mail; i-- > 0;)
        if (m->mail[i].type == PEER_APPEND && m->mail[i].peer == peer)
            return &m->mail[i].append;
    return NULL;
}

/* ---- how it works ---- */

static void the_installed_library_is_the_one_we_know(void **state)
{
    char text[256] = "";

    assert_int_equal(core_check_version(text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void a_sole_voter_leads_at_once(void **state)
{
    struct member m;

    start(&m, 1, 1);
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_int_equal(core_leader(m.core), 1);
    assert_int_equal(core_commit(m.core), 1);
    assert_true(core_can_submit(m.core));
    stop(&m);
}

static void three_members_elect_one_with_pre_vote(void **state)
{
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    assert_int_equal(core_role(m.core), CORE_FOLLOWER);
    now = core_timeout_ms(m.core);
    assert_true(now >= 1000 && now <= 2000);
    assert_int_equal(core_tick(m.core, now), 0);
    assert_int_equal(core_role(m.core), CORE_CANDIDATE);
    /* Guard 5: it asks first, and its term stays. */
    assert_int_equal(m.n_mail, 2);
    assert_true(m.mail[0].type == PEER_VOTE && m.mail[0].vote.pre_vote);
    assert_int_equal(m.mail[0].vote.term, 2);
    assert_int_equal(core_term(m.core), 1);
    elect(&m, &now);
    assert_int_equal(core_term(m.core), 2);
    assert_int_equal(m.hard_state.term, 2);
    assert_int_equal(m.hard_state.voted_for, 1);
    stop(&m);
}

static void a_submitted_entry_commits_with_a_quorum(void **state)
{
    struct log_entry e = command(0);
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(core_submit(m.core, now, &e, 1), 0);
    assert_int_equal(e.index, m.last);
    assert_int_equal(e.term, 2);
    assert_int_equal(core_persisted(m.core, now, m.last), 0);
    assert_true(core_commit(m.core) < e.index);
    result(&m, now, 3, 0, e.index);
    assert_int_equal(core_commit(m.core), e.index);
    stop(&m);
}

static void the_membership_of_a_committed_change_is_in_force(void **state)
{
    struct log_entry e = {.type = LOG_ENTRY_MEMBERSHIP};
    struct core_member members[8];
    struct bytes conf;
    struct member m;
    uint64_t version;

    start(&m, 1, 1);
    bytes_init(&conf);
    encode_members(2, &conf);
    e.payload = bytes_slice(&conf);
    version = core_members_version(m.core);
    assert_int_equal(core_submit(m.core, 1, &e, 1), 0);
    assert_true(core_members_version(m.core) != version);
    assert_int_equal(core_members(m.core, members, 8), 2);
    assert_string_equal(members[1].address, "b:2");
    assert_int_equal(core_voters(m.core), 2);
    /* Once it is committed, and the core was told so, the next change may come; before, it would be refused. */
    assert_int_equal(core_persisted(m.core, 1, m.last), 0);
    result(&m, 2, 2, 0, m.last);
    assert_int_equal(core_commit(m.core), m.last);
    bytes_reset(&conf);
    encode_members(3, &conf);
    e.payload = bytes_slice(&conf);
    assert_int_equal(core_submit(m.core, 3, &e, 1), 0);
    assert_int_equal(core_voters(m.core), 3);
    bytes_fini(&conf);
    stop(&m);
}

static void a_change_of_membership_waits_for_the_one_before(void **state)
{
    struct core_member list[4] = {
        {1, "a:1", true, false}, {2, "b:2", true, false}, {3, "c:3", true, false}, {4, "d:4", false, true}};
    struct core_member found[8];
    struct bytes conf;
    struct member m;
    uint64_t now = 0, index = 0;

    start(&m, 1, 3);
    assert_false(core_can_change(m.core));
    elect(&m, &now);
    assert_true(core_can_change(m.core));
    assert_int_equal(core_change(m.core, now, list, 4, &index), 0);
    assert_int_equal(index, m.last);
    assert_false(core_can_change(m.core));
    assert_int_equal(core_persisted(m.core, now, m.last), 0);
    assert_int_equal(core_voters(m.core), 3); /* a learner does not count */
    result(&m, now, 4, 0, index);
    assert_true(core_commit(m.core) < index);
    result(&m, now, 2, 0, index);
    assert_int_equal(core_commit(m.core), index);
    assert_true(core_can_change(m.core));
    bytes_init(&conf);
    assert_int_equal(core_membership_encode(list, 4, &conf), 0);
    assert_int_equal(core_membership_read(bytes_slice(&conf), found, 8, &(size_t){0}), 0);
    assert_int_equal(found[3].id, 4);
    assert_string_equal(found[3].address, "d:4");
    assert_true(!found[3].voter && found[3].joining && !found[2].joining);
    list[3] = list[2];
    assert_int_equal(core_change(m.core, now, list, 4, &index), -EINVAL);
    assert_true(core_can_change(m.core));
    bytes_fini(&conf);
    stop(&m);
}

/* It counts itself no more, says when it goes, and leads no longer. */
static void a_leader_that_removed_itself_goes_when_that_is_committed(void **state)
{
    struct core_member list[2] = {{2, "b:2", true, false}, {3, "c:3", true, false}};
    struct member m;
    uint64_t now = 0, index = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(core_change(m.core, now, list, 2, &index), 0);
    assert_int_equal(core_persisted(m.core, now, m.last), 0);
    result(&m, now, 2, 0, index);
    assert_true(core_commit(m.core) < index); /* one of two */
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_int_equal(m.leaving, 0);
    result(&m, now, 3, 0, index);
    assert_int_equal(core_commit(m.core), index);
    assert_int_equal(m.leaving, 1);
    assert_int_equal(core_role(m.core), CORE_FOLLOWER);
    now = core_timeout_ms(m.core) + 5000;
    assert_int_equal(core_tick(m.core, now), 0);
    assert_int_equal(core_role(m.core), CORE_FOLLOWER); /* and does not stand */
    stop(&m);
}

/* The leader's log begins at 4: member 3, which has nothing, is told of until it has a checkpoint. */
static void who_needs_what_is_gone_needs_a_checkpoint(void **state)
{
    struct log_entry e[4] = {command(0), command(0), command(0), command(0)};
    struct bytes conf;
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(core_submit(m.core, now, e, 4), 0);
    assert_int_equal(core_persisted(m.core, now, m.last), 0);
    result(&m, now, 2, 0, m.last);
    bytes_init(&conf);
    encode_members(3, &conf);
    assert_int_equal(core_trimmed(m.core, now, 4, 1, bytes_slice(&conf), 4), 0);
    for (int i = 0; i < 8 && m.snapshot_peer == 0; i++) {
        const struct peer_append *a = append_to(&m, 3);

        now += 100;
        if (a != NULL && a->prev_index != 0)
            result(&m, now, 3, a->prev_index, 0);
        m.n_mail = m.snapshot_peer != 0 ? m.n_mail : 0;
        assert_int_equal(core_tick(m.core, now), 0);
    }
    assert_int_equal(m.snapshot_peer, 3);
    m.n_mail = 0;
    assert_int_equal(core_installed(m.core, now, 3, 4), 0);
    assert_int_equal(core_match_index(m.core, 3), 4);
    assert_int_equal(append_to(&m, 3)->prev_index, 4);
    bytes_fini(&conf);
    stop(&m);
}

static void a_forgotten_leader_is_not_defended(void **state)
{
    struct peer_message vote = {.type = PEER_VOTE, .peer = 3, .vote = {.term = 3, .last_index = 2, .last_term = 2}};
    struct log_entry e = command(2);
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 2, 1, 1, 1, &e, 1), 0);
    vote.vote.pre_vote = true;
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 20, &vote), 0);
    assert_false(m.mail[0].vote_result.granted);
    core_forget_leader(m.core);
    assert_int_equal(core_leader(m.core), 0);
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 20, &vote), 0);
    assert_true(m.mail[0].vote_result.granted);
    m.n_mail = 0;
    assert_int_equal(core_tick(m.core, 21), 0); /* and stands itself */
    assert_int_equal(core_role(m.core), CORE_CANDIDATE);
    assert_int_equal(core_term(m.core), 2);
    stop(&m);
}

static void an_answer_to_a_forgotten_leader_is_not_sent(void **state)
{
    struct log_entry e = command(2);
    struct peer_message msg = {.type = PEER_APPEND, .peer = 2};
    struct member m;

    start(&m, 1, 3);
    e.index = 2;
    msg.append = (struct peer_append){2, 1, 1, 1, &e, 1, 0};
    assert_int_equal(core_receive(m.core, 10, &msg), 0);
    core_forget_leader(m.core);
    m.n_mail = 0;
    assert_int_equal(core_persisted(m.core, 10, 2), 0); /* the library would answer to member 0 */
    assert_int_equal(m.n_mail, 0);
    stop(&m);
}

static void a_follower_told_of_a_commit_settles_its_membership(void **state)
{
    struct log_entry e = {.term = 2, .type = LOG_ENTRY_MEMBERSHIP};
    struct core_member members[8];
    struct bytes conf;
    struct member m;

    start(&m, 1, 3);
    bytes_init(&conf);
    encode_members(4, &conf);
    e.payload = bytes_slice(&conf);
    assert_int_equal(append(&m, 2, 1, 1, 1, &e, 1), 0);
    assert_int_equal(core_commit(m.core), 1);
    assert_int_equal(core_learn_commit(m.core, 10, 9), 0); /* beyond the log: no */
    assert_int_equal(core_commit(m.core), 1);
    assert_int_equal(core_learn_commit(m.core, 10, 2), 0);
    assert_int_equal(core_commit(m.core), 2);
    assert_int_equal(core_learn_commit(m.core, 10, 1), 0);
    assert_int_equal(core_commit(m.core), 2);
    assert_int_equal(core_members(m.core, members, 8), 4);
    bytes_fini(&conf);
    stop(&m);
}

/* ---- the library's faults ---- */

static void fault_1_membership_behind_a_command_keeps_its_index(void **state)
{
    struct log_entry entries[3] = {command(2), {.term = 2, .type = LOG_ENTRY_MEMBERSHIP}, command(2)};
    struct core_member members[8];
    struct bytes conf;
    struct member m;

    start(&m, 1, 3);
    bytes_init(&conf);
    encode_members(4, &conf);
    entries[1].payload = bytes_slice(&conf);
    assert_int_equal(append(&m, 2, 1, 1, 1, entries, 3), 0);
    assert_int_equal(m.last, 4);
    assert_int_equal(m.log[3].type, LOG_ENTRY_MEMBERSHIP);
    assert_int_equal(core_members(m.core, members, 8), 4);
    /* Taken back with its entry: with the wrong index (2) it would have stayed. */
    entries[0] = command(3);
    assert_int_equal(append(&m, 3, 2, 2, 2, entries, 1), 0);
    assert_int_equal(core_members(m.core, members, 8), 3);
    bytes_fini(&conf);
    stop(&m);
}

static void fault_2_commit_never_goes_back(void **state)
{
    struct log_entry entries[6] = {command(2), command(2), command(2), command(2), command(2), command(2)};
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 2, 1, 1, 5, entries, 4), 0);
    assert_int_equal(core_commit(m.core), 5);
    assert_int_equal(append(&m, 2, 2, 2, 6, NULL, 0), 0); /* a heartbeat anchored low, of a leader with more */
    assert_int_equal(core_commit(m.core), 5);
    assert_int_equal(m.commit_reports_back, 0);
    stop(&m);
}

static void fault_3_old_news_of_the_disk_are_ignored(void **state)
{
    struct log_entry entries[3] = {command(2), command(2), command(2)};
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 2, 1, 1, 1, entries, 3), 0);
    m.n_mail = 0;
    assert_int_equal(core_persisted(m.core, 10, 2), 0);
    assert_int_equal(m.n_mail, 0);
    /* Durable stays what it was: the next answer still says 4. */
    assert_int_equal(append(&m, 2, 4, 2, 1, NULL, 0), 0);
    assert_int_equal(m.mail[0].append_result.last_index, 4);
    /* An index that the log was never given is our own fault, and fatal. */
    assert_true(core_persisted(m.core, 10, 9) < 0);
    stop(&m);
}

static void fault_4_many_entries_in_flight_without_empty_messages(void **state)
{
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    result(&m, now, 2, 0, m.last); /* streams from here on */
    for (int i = 0; i < 200; i++) {
        struct log_entry e = command(0);

        m.n_mail = 0;
        assert_int_equal(core_submit(m.core, now, &e, 1), 0);
        assert_non_null(append_to(&m, 2));
        assert_int_equal(append_to(&m, 2)->n_entries, 1);
    }
    stop(&m);
}

static void fault_6_a_stale_append_is_answered_by_a_plain_rejection(void **state)
{
    struct log_entry e = command(3);
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 3, 1, 1, 1, &e, 1), 0);
    m.n_mail = 0;
    assert_int_equal(append(&m, 2, 0, 0, 0, NULL, 0), 0); /* of the leader before; nothing precedes it */
    assert_int_equal(m.n_mail, 1);
    assert_int_equal(m.mail[0].append_result.term, 3);
    assert_true(m.mail[0].append_result.rejected != 0);
    assert_int_equal(m.mail[0].append_result.last_index, 0);
    stop(&m);
}

static void fault_7_a_late_pre_vote_answer_changes_no_term(void **state)
{
    struct peer_message vote = {.type = PEER_VOTE_RESULT, .peer = 3};
    struct member m;

    start(&m, 1, 3); /* a follower that knows no leader: what the library reads there by mistake is zero */
    vote.vote_result = (struct peer_vote_result){.term = 3, .granted = true, .pre_vote = true};
    assert_int_equal(core_receive(m.core, 20, &vote), 0);
    assert_int_equal(core_term(m.core), 1);
    assert_int_equal(core_role(m.core), CORE_FOLLOWER);
    stop(&m);
}

static void fault_8_membership_bytes_are_checked(void **state)
{
    struct log_entry e = {.term = 2, .type = LOG_ENTRY_MEMBERSHIP};
    struct bytes conf;
    struct member m;

    start(&m, 1, 3);
    bytes_init(&conf);
    encode_members(3, &conf);
    assert_int_equal(core_membership_check(bytes_slice(&conf)), 0);
    for (size_t len = 0; len < 40; len++)
        assert_int_equal(core_membership_check(slice_make(conf.data, len)), len == 40 ? 0 : -EBADMSG);
    conf.data[1] = 0xFF; /* 255 servers */
    assert_int_equal(core_membership_check(bytes_slice(&conf)), -EBADMSG);
    e.payload = bytes_slice(&conf);
    assert_int_equal(append(&m, 2, 1, 1, 1, &e, 1), -EBADMSG);
    assert_string_equal(core_error(m.core), ""); /* the peer's fault: this member goes on */
    assert_int_equal(append(&m, 2, 1, 1, 1, NULL, 0), 0);
    bytes_fini(&conf);
    stop(&m);
}

static void fault_9_a_leader_does_not_follow_in_its_own_term(void **state)
{
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(append(&m, 2, 1, 1, 1, NULL, 0), -EBADMSG);
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_true(core_can_submit(m.core));
    stop(&m);
}

static void fault_10_time_that_goes_back_is_no_time(void **state)
{
    struct log_entry e = command(0);
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    result(&m, now, 2, 0, 1);
    assert_int_equal(core_submit(m.core, now - 500, &e, 1), 0);
    assert_int_equal(core_tick(m.core, now - 900), 0);
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_true(core_timeout_ms(m.core) >= now);
    stop(&m);
}

static void fault_11_a_late_rejection_does_not_wedge_a_follower(void **state)
{
    struct log_entry e = command(0);
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    for (int i = 0; i < 5; i++)
        assert_int_equal(core_submit(m.core, now, &e, 1), 0);
    result(&m, now, 2, 0, 4);
    result(&m, now, 2, 6, 2); /* refused before it had 3 and 4 */
    result(&m, now, 2, 4, 2); /* and this one too, but 4 is known to match */
    for (int i = 0; i < 3; i++) {
        m.n_mail = 0;
        now += 100;
        assert_int_equal(core_tick(m.core, now), 0);
        if (append_to(&m, 2) != NULL && append_to(&m, 2)->n_entries > 0)
            break;
    }
    assert_non_null(append_to(&m, 2));
    assert_true(append_to(&m, 2)->n_entries > 0);
    assert_true(append_to(&m, 2)->prev_index >= 4);
    stop(&m);
}

/* Two followers whose heartbeats fall on different moments, both of which answer all: entries go to both at once. */
static void fault_12_heartbeats_out_of_step_do_not_end_the_pipeline(void **state)
{
    struct log_entry e = command(0);
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(core_submit(m.core, now, &e, 1), 0);
    assert_int_equal(core_persisted(m.core, now, m.last), 0);
    result(&m, now + 10, 2, 0, m.last - 1);
    result(&m, now + 30, 3, 0, m.last - 1);
    result(&m, now + 31, 2, 0, m.last);
    result(&m, now + 32, 3, 0, m.last);
    for (uint64_t beat = now + 110; beat < now + 1200; beat += 100) {
        assert_int_equal(core_tick(m.core, beat), 0);
        result(&m, beat + 1, 2, 0, m.last);
        assert_int_equal(core_tick(m.core, beat + 20), 0);
        result(&m, beat + 21, 3, 0, m.last);
    }
    m.n_mail = 0;
    assert_int_equal(core_submit(m.core, now + 1140, &e, 1), 0);
    assert_true(append_to(&m, 2) != NULL && append_to(&m, 2)->n_entries == 1);
    assert_true(append_to(&m, 3) != NULL && append_to(&m, 3)->n_entries == 1);
    stop(&m);
}

/* A leader of term 2 removes itself and so leaves member 1 as the sole voter: that one's time comes in a term of its own. */
static void fault_13_a_sole_voter_leads_in_a_term_of_its_own(void **state)
{
    struct log_entry e = {.term = 2, .type = LOG_ENTRY_MEMBERSHIP};
    struct core_options options = {.id = 1, .heartbeat_ms = 100, .election_ms = 1000, .seed = 1, .ready = ready};
    struct core_start s = {.first_index = 1, .entry = kept_entry};
    struct bytes conf;
    struct member m;

    start(&m, 1, 3);
    bytes_init(&conf);
    encode_members(1, &conf);
    e.payload = bytes_slice(&conf);
    assert_int_equal(append(&m, 2, 1, 1, 1, &e, 1), 0);
    assert_int_equal(core_term(m.core), 2);
    assert_int_equal(core_tick(m.core, core_timeout_ms(m.core)), 0);
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_int_equal(core_term(m.core), 3);
    assert_int_equal(m.hard_state.term, 3);
    assert_int_equal(m.hard_state.voted_for, 1);
    core_free(m.core);
    /* The same at a new start, also when what it had sent to others was lost. */
    options.ctx = s.ctx = &m;
    s.hard_state = m.hard_state;
    s.last_index = m.last;
    assert_int_equal(core_new(&options, &m.core), 0);
    assert_int_equal(core_start(m.core, 0, &s), 0);
    assert_int_equal(core_role(m.core), CORE_LEADER);
    assert_int_equal(core_term(m.core), 4);
    assert_int_equal(m.hard_state.term, 4);
    bytes_fini(&conf);
    stop(&m);
}

/* It was made a voter by an entry that it has not got: whoever has it needs its vote. */
static void fault_15_who_is_no_voter_by_its_own_log_votes(void **state)
{
    struct peer_message ask = {.type = PEER_VOTE, .peer = 2};
    struct member m;

    start(&m, 4, 3); /* the members are 1 to 3 */
    ask.vote = (struct peer_vote){.term = 5, .last_index = 2, .last_term = 2};
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 10, &ask), 0);
    assert_int_equal(m.n_mail, 1);
    assert_true(m.mail[0].type == PEER_VOTE_RESULT && m.mail[0].peer == 2 && m.mail[0].vote_result.granted);
    assert_true(m.hard_state.term == 5 && m.hard_state.voted_for == 2);
    ask.peer = 3; /* once a term, and nobody whose log is behind */
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 10, &ask), 0);
    assert_true(m.n_mail == 1 && !m.mail[0].vote_result.granted);
    ask.vote = (struct peer_vote){.term = 6, .last_index = 0, .last_term = 0};
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 10, &ask), 0);
    assert_true(m.n_mail == 1 && !m.mail[0].vote_result.granted);
    assert_false(core_is_voter(m.core, 4)); /* and it stands for nothing itself */
    assert_int_equal(core_voters(m.core), 3);
    for (int i = 0; i < 10; i++)
        assert_int_equal(core_tick(m.core, core_timeout_ms(m.core)), 0);
    assert_int_equal(core_role(m.core), CORE_FOLLOWER);
    stop(&m);
}

static void fault_16_who_has_no_vote_forgets_a_silent_leader(void **state)
{
    struct peer_message ask = {.type = PEER_VOTE, .peer = 3};
    struct member m;
    uint64_t silent_ms;

    start(&m, 4, 3);
    assert_int_equal(append(&m, 2, 1, 1, 1, NULL, 0), 0);
    assert_int_equal(core_leader(m.core), 2);
    ask.vote = (struct peer_vote){.term = 3, .last_index = 2, .last_term = 2, .pre_vote = true};
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, 20, &ask), 0);
    assert_true(m.n_mail == 1 && !m.mail[0].vote_result.granted); /* it defends whom it hears */
    for (int i = 0; i < 40; i++) { /* it is heard: nothing changes */
        ask.peer = 2;
        ask.type = PEER_APPEND;
        ask.append = (struct peer_append){2, 1, 1, 1, NULL, 0, 0};
        assert_int_equal(core_receive(m.core, 100 + 100 * (uint64_t)i, &ask), 0);
        assert_int_equal(core_tick(m.core, 100 + 100 * (uint64_t)i), 0);
        assert_int_equal(core_leader(m.core), 2);
    }
    ask = (struct peer_message){.type = PEER_VOTE, .peer = 3};
    ask.vote = (struct peer_vote){.term = 3, .last_index = 2, .last_term = 2, .pre_vote = true};
    silent_ms = 4000;
    while (core_leader(m.core) != 0) {
        silent_ms = core_timeout_ms(m.core);
        assert_in_range(silent_ms, 4000, 9000);
        assert_int_equal(core_tick(m.core, silent_ms), 0);
    }
    assert_true(silent_ms >= 5000);
    assert_true(core_timeout_ms(m.core) > silent_ms + 500); /* and it does not tick without end */
    m.n_mail = 0;
    assert_int_equal(core_receive(m.core, silent_ms + 1, &ask), 0);
    assert_true(m.n_mail == 1 && m.mail[0].vote_result.granted);
    stop(&m);
}

static void fault_14_what_is_trimmed_twice_is_trimmed_once(void **state)
{
    struct log_entry entries[3] = {command(2), command(2), command(2)};
    struct bytes conf;
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 2, 1, 1, 3, entries, 3), 0);
    bytes_init(&conf);
    encode_members(3, &conf);
    assert_int_equal(core_trimmed(m.core, 20, 2, 1, bytes_slice(&conf), 3), 0);
    assert_int_equal(core_trimmed_index(m.core), 2);
    assert_int_equal(core_trimmed(m.core, 20, 2, 1, bytes_slice(&conf), 3), 0);
    assert_int_equal(core_trimmed(m.core, 20, 4, 1, bytes_slice(&conf), 5), 0); /* not committed */
    assert_int_equal(core_trimmed(m.core, 20, 9, 1, bytes_slice(&conf), 5), 0); /* not there */
    assert_int_equal(core_trimmed_index(m.core), 2);
    assert_int_equal(core_last_index(m.core), 4);
    bytes_fini(&conf);
    stop(&m);
}

/* A member that was given a checkpoint as of entry 6, of a leader that knew before that it has entries up to 3. */
static void fault_17_an_append_from_before_the_checkpoint_counts_from_it(void **state)
{
    struct log_entry entries[4] = {command(2), command(2), command(2), command(2)};
    struct member m;

    start_behind(&m, 1, 3, 6, 2);
    assert_int_equal(append(&m, 2, 3, 2, 6, NULL, 0), 0); /* a probe */
    assert_int_equal(m.n_mail, 1);
    assert_int_equal(m.mail[0].type, PEER_APPEND_RESULT);
    assert_int_equal(m.mail[0].append_result.rejected, 0);
    assert_int_equal(m.mail[0].append_result.last_index, 6);
    assert_int_equal(append(&m, 2, 3, 2, 6, entries, 2), 0); /* entries that the checkpoint holds */
    assert_int_equal(core_last_index(m.core), 6);
    assert_int_equal(m.last, 6);
    assert_int_equal(append(&m, 2, 4, 2, 6, entries, 4), 0); /* two that it holds, and two more */
    assert_int_equal(core_last_index(m.core), 8);
    assert_int_equal(m.last, 8);
    assert_int_equal(append(&m, 1, 3, 1, 6, NULL, 0), 0); /* of an old leader: what it says counts for nothing */
    assert_true(m.n_mail == 1 && m.mail[0].append_result.rejected != 0);
    stop(&m);
}

static void a_leader_without_answers_steps_down(void **state)
{
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    result(&m, now + 1, 2, 0, 1);
    for (uint64_t end = now + 3000; now < end && core_role(m.core) == CORE_LEADER;) {
        now = core_timeout_ms(m.core);
        m.n_mail = 0;
        assert_int_equal(core_tick(m.core, now), 0);
    }
    assert_int_equal(core_role(m.core), CORE_FOLLOWER);
    stop(&m);
}

/* The fault of 2015 (and of the library): no change of membership and no read before the leader's own entry is
 * committed. The core leaves that to the driver, and shows here why: it has no entry of its own in this case. */
static void a_new_leader_with_all_committed_has_no_entry_of_its_own(void **state)
{
    struct member m;
    uint64_t now = 0;

    start(&m, 1, 3);
    elect(&m, &now);
    assert_int_equal(m.last, 1); /* entry 1 is committed from the start: no barrier of the library's */
    assert_int_equal(m.log[m.last].term, 1);
    stop(&m);
}

static void a_conflict_with_a_committed_entry_is_fatal_and_says_so(void **state)
{
    struct log_entry entries[2] = {command(2), command(2)};
    struct member m;

    start(&m, 1, 3);
    assert_int_equal(append(&m, 2, 1, 1, 3, entries, 2), 0);
    assert_int_equal(core_commit(m.core), 3);
    entries[0] = command(3);
    assert_int_equal(append(&m, 3, 1, 1, 3, entries, 1), -EPROTO);
    assert_non_null(strstr(core_error(m.core), "conflict"));
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_installed_library_is_the_one_we_know),
        cmocka_unit_test(a_sole_voter_leads_at_once),
        cmocka_unit_test(three_members_elect_one_with_pre_vote),
        cmocka_unit_test(a_submitted_entry_commits_with_a_quorum),
        cmocka_unit_test(the_membership_of_a_committed_change_is_in_force),
        cmocka_unit_test(a_follower_told_of_a_commit_settles_its_membership),
        cmocka_unit_test(a_change_of_membership_waits_for_the_one_before),
        cmocka_unit_test(a_leader_that_removed_itself_goes_when_that_is_committed),
        cmocka_unit_test(who_needs_what_is_gone_needs_a_checkpoint),
        cmocka_unit_test(a_forgotten_leader_is_not_defended),
        cmocka_unit_test(an_answer_to_a_forgotten_leader_is_not_sent),
        cmocka_unit_test(fault_1_membership_behind_a_command_keeps_its_index),
        cmocka_unit_test(fault_2_commit_never_goes_back),
        cmocka_unit_test(fault_3_old_news_of_the_disk_are_ignored),
        cmocka_unit_test(fault_4_many_entries_in_flight_without_empty_messages),
        cmocka_unit_test(fault_6_a_stale_append_is_answered_by_a_plain_rejection),
        cmocka_unit_test(fault_7_a_late_pre_vote_answer_changes_no_term),
        cmocka_unit_test(fault_8_membership_bytes_are_checked),
        cmocka_unit_test(fault_9_a_leader_does_not_follow_in_its_own_term),
        cmocka_unit_test(fault_10_time_that_goes_back_is_no_time),
        cmocka_unit_test(fault_11_a_late_rejection_does_not_wedge_a_follower),
        cmocka_unit_test(fault_12_heartbeats_out_of_step_do_not_end_the_pipeline),
        cmocka_unit_test(fault_13_a_sole_voter_leads_in_a_term_of_its_own),
        cmocka_unit_test(fault_15_who_is_no_voter_by_its_own_log_votes),
        cmocka_unit_test(fault_16_who_has_no_vote_forgets_a_silent_leader),
        cmocka_unit_test(fault_14_what_is_trimmed_twice_is_trimmed_once),
        cmocka_unit_test(fault_17_an_append_from_before_the_checkpoint_counts_from_it),
        cmocka_unit_test(a_leader_without_answers_steps_down),
        cmocka_unit_test(a_new_leader_with_all_committed_has_no_entry_of_its_own),
        cmocka_unit_test(a_conflict_with_a_committed_entry_is_fatal_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
