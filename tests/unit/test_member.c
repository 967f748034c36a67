/* Changes of membership: what the rules let through, and what one node does about them. */
#include "raft/member.h"
#include "tests/unit/node_bench.h"

/* ---- the rules ---- */

static struct member_state states[8];

static struct member_view view_of(size_t voters, size_t learners)
{
    static const char *const urls[] = {"http://a:1", "http://b:1", "http://c:1", "http://d:1", "http://e:1", "http://f:1"};
    struct member_view v = {.self = 1, .last_index = 1000, .members = states, .max_learners = 1, .strict = true};

    for (size_t i = 0; i < voters + learners; i++)
        states[i] = (struct member_state){{i + 1, urls[i], i < voters, false}, true, true, 1000, false};
    v.n = voters + learners;
    return v;
}

static uint16_t try_change(const struct member_view *v, enum member_op op, uint64_t id, bool learner, const char *url,
                           struct core_member *ret, size_t *ret_n)
{
    static char urls[MEMBER_URLS_MAX_BYTES];
    struct member_change change = {op, learner, id, url};

    return member_change_apply(v, &change, urls, sizeof urls, ret, ret_n);
}

static uint16_t verdict(const struct member_view *v, enum member_op op, uint64_t id, bool learner, const char *url)
{
    struct core_member out[9];
    size_t n;

    return try_change(v, op, id, learner, url, out, &n);
}

static void a_change_is_one_member_more_or_less(void **state)
{
    struct member_view v = view_of(3, 1);
    struct core_member out[9];
    size_t n;

    assert_int_equal(try_change(&v, MEMBER_REMOVE, 2, false, "", out, &n), STATUS_OK);
    assert_int_equal(n, 3);
    assert_true(out[0].id == 1 && out[1].id == 3 && out[2].id == 4);
    assert_int_equal(try_change(&v, MEMBER_ADD, 9, false, "HTTP://x:7,http://b2:1", out, &n), STATUS_OK);
    assert_int_equal(n, 5);
    assert_string_equal(out[4].address, "http://b2:1,http://x:7");
    assert_true(!out[4].voter && out[4].joining); /* until it has caught up */
    assert_int_equal(try_change(&v, MEMBER_PROMOTE, 4, false, "", out, &n), STATUS_OK);
    assert_true(n == 4 && out[3].voter);
    assert_int_equal(try_change(&v, MEMBER_UPDATE, 2, false, "http://new:1", out, &n), STATUS_OK);
    assert_string_equal(out[1].address, "http://new:1");
}

static void what_names_nobody_or_somebody_else_is_refused(void **state)
{
    struct member_view v = view_of(3, 1);

    assert_int_equal(verdict(&v, MEMBER_REMOVE, 77, false, ""), STATUS_MEMBER_NOT_FOUND);
    assert_int_equal(verdict(&v, MEMBER_PROMOTE, 77, false, ""), STATUS_MEMBER_NOT_FOUND);
    assert_int_equal(verdict(&v, MEMBER_UPDATE, 77, false, "http://x:1"), STATUS_MEMBER_NOT_FOUND);
    assert_int_equal(verdict(&v, MEMBER_ADD, 2, false, "http://x:1"), STATUS_MEMBER_EXISTS);
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, "http://x:1,http://c:1"), STATUS_PEER_URL_EXISTS);
    assert_int_equal(verdict(&v, MEMBER_UPDATE, 2, false, "http://c:1"), STATUS_PEER_URL_EXISTS);
    assert_int_equal(verdict(&v, MEMBER_UPDATE, 3, false, "http://c:1"), STATUS_OK); /* its own */
    assert_int_equal(verdict(&v, MEMBER_PROMOTE, 2, false, ""), STATUS_MEMBER_NOT_LEARNER);
    assert_int_equal(verdict(&v, MEMBER_MOVE_LEADER, 4, false, ""), STATUS_BAD_TRANSFEREE);
    assert_int_equal(verdict(&v, MEMBER_MOVE_LEADER, 77, false, ""), STATUS_BAD_TRANSFEREE);
    assert_int_equal(verdict(&v, MEMBER_MOVE_LEADER, 3, false, ""), STATUS_OK);
    assert_int_equal(verdict(&v, (enum member_op)99, 3, false, ""), STATUS_INVALID_REQUEST);
}

static void urls_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"", "x", "http://", "http://a:1,", "http://a:1/path", "unix:///x", "http://a:1,http://a:1"};
    struct member_view v = view_of(1, 0);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, bad[i]), STATUS_BAD_MEMBER_URLS);
}

static void one_learner_at_a_time(void **state)
{
    struct member_view v = view_of(3, 1);

    assert_int_equal(verdict(&v, MEMBER_ADD, 9, true, "http://x:1"), STATUS_TOO_MANY_LEARNERS);
    v.max_learners = 2;
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, true, "http://x:1"), STATUS_OK);
}

static void a_learner_that_is_behind_stays_one(void **state)
{
    struct member_view v = view_of(3, 1);

    states[3].match_index = 899;
    assert_int_equal(verdict(&v, MEMBER_PROMOTE, 4, false, ""), STATUS_LEARNER_NOT_READY);
    states[3].match_index = 900;
    assert_int_equal(verdict(&v, MEMBER_PROMOTE, 4, false, ""), STATUS_OK);
    states[3].connected = false;
    assert_int_equal(verdict(&v, MEMBER_PROMOTE, 4, false, ""), STATUS_LEARNER_NOT_READY);
}

/* etcd's strict check: the quorum after the change must be of members that have run and can be reached. */
static void a_change_may_not_cost_the_quorum(void **state)
{
    struct member_view v = view_of(1, 0);

    assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, "http://x:1"), STATUS_OK); /* one may grow to two */
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 1, false, ""), STATUS_NOT_ENOUGH_STARTED);
    v = view_of(2, 0);
    states[1].started = false;
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, "http://x:1"), STATUS_NOT_ENOUGH_STARTED);
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 1, false, ""), STATUS_NOT_ENOUGH_STARTED);
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 2, false, ""), STATUS_OK);
    v.strict = false;
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, "http://x:1"), STATUS_OK);
    v = view_of(3, 0);
    states[2].connected = false;
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, false, "http://x:1"), STATUS_UNHEALTHY);
    assert_int_equal(verdict(&v, MEMBER_ADD, 9, true, "http://x:1"), STATUS_UNHEALTHY);
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 2, false, ""), STATUS_UNHEALTHY); /* one of two would be left */
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 3, false, ""), STATUS_OK);        /* it is missed by nobody */
}

/* Who has yet to catch up has no vote: without the last one that has, nobody could be elected. */
static void the_last_vote_stays(void **state)
{
    struct member_view v = view_of(2, 0);

    v.strict = false;
    states[1].member.voter = false;
    states[1].member.joining = true;
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 1, false, ""), STATUS_NOT_ENOUGH_STARTED);
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 2, false, ""), STATUS_OK);
}

/* ---- one node ---- */

struct change {
    struct node_member_change c;
    unsigned ended;
    struct socket_member_done done;
    char urls[SOCKET_MEMBERS_MAX][64];
};

static void change_done(struct node_member_change *m, const struct socket_member_done *done)
{
    struct change *c = LIST_ITEM(m, struct change, c);

    c->ended++;
    c->done = *done;
    for (size_t i = 0; i < done->n_members; i++)
        snprintf(c->urls[i], sizeof c->urls[i], "%.*s", (int)done->members[i].peer_urls.len,
                 (const char *)done->members[i].peer_urls.data);
}

static void ask(struct bench *b, struct change *c, enum socket_member_op op, uint64_t id, bool learner, const char *urls)
{
    memset(c, 0, sizeof *c);
    c->c.op = (uint8_t)op;
    c->c.id = id;
    c->c.learner = learner;
    c->c.take_peer_urls = strdup(urls);
    c->c.done = change_done;
    node_member_change(b->node, &c->c);
    assert_int_equal(c->ended, 0);
    settle(b);
}

static void a_lone_member_takes_a_learner(void **state)
{
    struct bench *b = bench_start(1);
    struct change c, list;

    settle(b);
    ask(b, &c, SOCKET_MEMBER_ADD, 0, true, "http://new:1");
    assert_int_equal(c.ended, 1);
    assert_int_equal(c.done.status, STATUS_OK);
    assert_int_equal(c.done.n_members, 2);
    assert_int_equal(c.done.id, c.done.members[1].id);
    assert_true(c.done.members[1].learner && c.done.id != 0);
    assert_int_equal(b->n_peers, 1);
    ask(b, &list, SOCKET_MEMBER_LIST, 0, false, "");
    assert_int_equal(list.ended, 1);
    assert_int_equal(list.done.n_members, 2);
    assert_string_equal(list.urls[1], "http://new:1");
    ask(b, &c, SOCKET_MEMBER_PROMOTE, list.done.members[1].id, false, "");
    assert_int_equal(c.done.status, STATUS_LEARNER_NOT_READY);
    ask(b, &c, SOCKET_MEMBER_REMOVE, list.done.members[1].id, false, "");
    assert_int_equal(c.done.status, STATUS_OK);
    assert_int_equal(c.done.n_members, 1);
    assert_int_equal(b->forgotten, list.done.members[1].id); /* what it had dialled is closed */
    assert_int_equal(b->n_peers, 0);
    bench_free(b);
}

static void a_removed_member_is_let_in_no_more(void **state)
{
    struct bench *b = bench_start(1);
    struct change c;
    char text[128];
    uint64_t id;

    settle(b);
    ask(b, &c, SOCKET_MEMBER_ADD, 0, true, "http://new:1");
    id = c.done.id;
    assert_int_equal(node_admits(b->node, id, 0, text, sizeof text), NODE_ADMIT);
    ask(b, &c, SOCKET_MEMBER_REMOVE, id, false, "");
    assert_int_equal(node_admits(b->node, id, 0, text, sizeof text), NODE_REMOVED);
    assert_non_null(strstr(text, "was removed"));
    assert_int_equal(node_admits(b->node, id + 1, 0, text, sizeof text), NODE_ADMIT); /* it may know more than this node */
    node_close(b->node);
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    assert_int_equal(node_admits(b->node, id, 0, text, sizeof text), NODE_REMOVED);
    bench_free(b);
}

/* The fault of single-server changes as first published: a leader that has committed nothing in its term may not know of a change
 * that is committed, or undo one that is not. */
static void no_change_before_the_first_commit_of_a_term(void **state)
{
    struct bench *b = bench_start(3);
    struct peer_message vote = {.type = PEER_VOTE_RESULT, .peer = 2};
    struct change c;
    struct node_status s;

    for (int i = 0; i < 100; i++) { /* as elect(), without the answer that commits */
        node_status(b->node, &s);
        if (s.is_leader)
            break;
        pass_time(b, 100);
        vote.vote_result = (struct peer_vote_result){s.term + 1, true, true};
        from_peer(b, &vote);
        vote.vote_result = (struct peer_vote_result){s.term + 1, true, false};
        from_peer(b, &vote);
    }
    node_status(b->node, &s);
    assert_true(s.is_leader);
    node_peer_connected(b->node, 2);
    assert_int_equal(s.n_members, 3);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 3, false, "");
    node_status(b->node, &s);
    assert_int_equal(s.n_members, 3);
    assert_int_equal(c.ended, 0);
    has_all(b, 2);
    node_status(b->node, &s);
    assert_true(c.ended == 1 || s.n_members == 2); /* refused by the rules, or begun: nobody has published here */
    bench_free(b);
}

static void a_change_on_a_leader_ends_when_it_is_applied(void **state)
{
    struct bench *b = bench_new();
    struct change c, second;
    struct node_status s;

    b->lax = true;
    assert_int_equal(bench_open(b, 3), 0);
    assert_int_equal(node_start(b->node), 0);
    elect(b);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 3, false, "");
    node_status(b->node, &s);
    assert_int_equal(s.n_members, 2); /* in force at once */
    assert_int_equal(c.ended, 0);
    ask(b, &second, SOCKET_MEMBER_ADD, 0, false, "http://x:1");
    node_status(b->node, &s);
    assert_int_equal(s.n_members, 2); /* one at a time */
    has_all(b, 2);
    assert_int_equal(c.ended, 1);
    assert_int_equal(c.done.status, STATUS_OK);
    assert_int_equal(c.done.n_members, 2);
    node_status(b->node, &s);
    assert_int_equal(s.n_members, 3);
    has_all(b, 2);
    assert_int_equal(second.ended, 1);
    assert_int_equal(second.done.status, STATUS_OK);
    bench_free(b);
}

static void a_leader_lets_another_lead_before_it_is_removed(void **state)
{
    struct peer_member_change m = {.sequence = 5, .op = MEMBER_REMOVE, .id = 1};
    struct peer_member_result result;
    struct bench *b = bench_new();
    struct change c;
    struct bytes out = {0};
    struct node_status s;

    b->lax = true;
    assert_int_equal(bench_open(b, 3), 0);
    assert_int_equal(node_start(b->node), 0);
    elect(b);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 1, false, "");
    assert_true(c.ended == 1 && c.done.status == STATUS_UNHEALTHY); /* nobody is connected who could */
    node_peer_connected(b->node, 2);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 1, false, "");
    node_status(b->node, &s);
    assert_true(c.ended == 0 && s.n_members == 3);
    assert_int_equal(last_sent(b, PEER_TIMEOUT_NOW)->to, 2);
    peer_member_change_encode(&m, &out); /* the same for one that a peer asks for */
    assert_int_equal(node_receive(b->node, 3, PEER_MEMBER_CHANGE, bytes_slice(&out)), 0);
    settle(b);
    if (last_sent(b, PEER_MEMBER_RESULT) != NULL) {
        assert_int_equal(peer_member_result_decode(bytes_slice(&last_sent(b, PEER_MEMBER_RESULT)->payload), &result), 0);
        assert_int_equal(result.status, STATUS_TOO_MANY_REQUESTS); /* it asks again, whoever leads then */
    }
    assert_int_equal(append_from(b, 2, s.term + 1, s.last_index, s.term, s.commit_index, NULL, 0), 0);
    pass_time(b, ELECTION_MS + 100);
    assert_non_null(last_sent(b, PEER_MEMBER_CHANGE)); /* the new one is asked */
    bytes_fini(&out);
    bench_free(b);
}

static void a_peer_s_question_is_carried_out_once(void **state)
{
    struct peer_member_change m = {.sequence = 5, .op = MEMBER_REMOVE, .id = 3};
    struct peer_member_result r;
    struct bench *b = bench_new();
    struct bytes out = {0};
    struct node_status s;
    size_t asked;

    b->lax = true;
    assert_int_equal(bench_open(b, 3), 0);
    assert_int_equal(node_start(b->node), 0);
    elect(b);
    peer_member_change_encode(&m, &out);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(node_receive(b->node, 2, PEER_MEMBER_CHANGE, bytes_slice(&out)), 0);
        settle(b);
    }
    assert_int_equal(count_sent(b, PEER_MEMBER_RESULT), 0);
    has_all(b, 2);
    assert_int_equal(count_sent(b, PEER_MEMBER_RESULT), 1);
    assert_int_equal(peer_member_result_decode(bytes_slice(&last_sent(b, PEER_MEMBER_RESULT)->payload), &r), 0);
    assert_true(r.status == STATUS_OK && r.sequence == 5 && r.index != 0);
    node_status(b->node, &s);
    asked = (size_t)s.last_index;
    assert_int_equal(node_receive(b->node, 2, PEER_MEMBER_CHANGE, bytes_slice(&out)), 0); /* the answer was lost */
    settle(b);
    assert_int_equal(count_sent(b, PEER_MEMBER_RESULT), 2);
    node_status(b->node, &s);
    assert_int_equal(s.last_index, asked);
    bytes_fini(&out);
    bench_free(b);
}

static void a_follower_asks_its_leader_and_waits_until_it_has_applied(void **state)
{
    struct peer_member_change m;
    struct peer_member_result r = {.status = STATUS_OK, .index = 3};
    struct log_entry e[2] = {{.term = 2, .type = LOG_ENTRY_BARRIER}, {.term = 2, .type = LOG_ENTRY_BARRIER}};
    struct bench *b = bench_start(3);
    struct bytes out = {0};
    struct change c;

    assert_int_equal(append_from(b, 2, 2, 1, 1, 1, NULL, 0), 0);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 3, false, "");
    assert_non_null(last_sent(b, PEER_MEMBER_CHANGE));
    assert_int_equal(last_sent(b, PEER_MEMBER_CHANGE)->to, 2);
    assert_int_equal(peer_member_change_decode(bytes_slice(&last_sent(b, PEER_MEMBER_CHANGE)->payload), &m), 0);
    assert_true(m.op == MEMBER_REMOVE && m.id == 3);
    r.sequence = m.sequence;
    peer_member_result_encode(&r, &out);
    assert_int_equal(node_receive(b->node, 2, PEER_MEMBER_RESULT, bytes_slice(&out)), 0);
    settle(b);
    assert_int_equal(c.ended, 0);
    e[0].index = 2, e[1].index = 3;
    assert_int_equal(append_from(b, 2, 2, 1, 1, 3, e, 2), 0);
    assert_int_equal(c.ended, 1);
    assert_int_equal(c.done.status, STATUS_OK);
    /* The next is lost with its leader: nobody knows what became of it. */
    ask(b, &c, SOCKET_MEMBER_REMOVE, 3, false, "");
    assert_int_equal(append_from(b, 3, 3, 3, 2, 3, NULL, 0), 0);
    assert_int_equal(c.ended, 1);
    assert_int_equal(c.done.status, STATUS_LEADER_CHANGED);
    bytes_fini(&out);
    bench_free(b);
}

/* It is the heir, so its leader's answer comes behind the order to take over. */
static void a_leader_s_removal_is_asked_of_the_next_one(void **state)
{
    struct bench *b = bench_start(3);
    struct change c;

    assert_int_equal(append_from(b, 2, 2, 1, 1, 1, NULL, 0), 0);
    ask(b, &c, SOCKET_MEMBER_REMOVE, 2, false, "");
    assert_int_equal(last_sent(b, PEER_MEMBER_CHANGE)->to, 2);
    assert_int_equal(append_from(b, 3, 3, 1, 1, 1, NULL, 0), 0);
    assert_int_equal(c.ended, 0);
    pass_time(b, 100);
    assert_int_equal(last_sent(b, PEER_MEMBER_CHANGE)->to, 3);
    node_member_change_cancel(b->node, &c.c);
    bench_free(b);
}

static void a_change_ends_at_its_deadline_and_too_many_are_refused(void **state)
{
    static struct change many[NODE_MAX_MEMBER_REQUESTS + 1];
    struct bench *b = bench_start(3);

    for (size_t i = 0; i < NODE_MAX_MEMBER_REQUESTS + 1; i++)
        ask(b, &many[i], SOCKET_MEMBER_REMOVE, 3, false, "");
    assert_int_equal(many[NODE_MAX_MEMBER_REQUESTS].ended, 1);
    assert_int_equal(many[NODE_MAX_MEMBER_REQUESTS].done.status, STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(many[0].ended, 0);
    node_member_change_cancel(b->node, &many[1].c);
    pass_time(b, 60 * 1000);
    for (size_t i = 0; i < NODE_MAX_MEMBER_REQUESTS; i++)
        assert_int_equal(many[i].ended, i != 1);
    bench_free(b);
}

static void who_is_removed_is_told_once(void **state)
{
    struct bench *b = bench_start(3);

    settle(b);
    node_peer_refused(b->node, 2, NODE_ADMIT, "");
    assert_int_equal(b->removals, 0);
    node_peer_refused(b->node, 2, NODE_REMOVED, "this member was removed");
    node_peer_refused(b->node, 3, NODE_REMOVED, "this member was removed");
    assert_int_equal(b->removals, 1);
    assert_int_equal(b->fatals, 0);
    bench_free(b);
}

/* A follower that applies its own removal; from then on it does not start any more. */
static void a_follower_that_applies_its_removal_says_so(void **state)
{
    struct core_member left[2] = {{2, "b:1", true, false}, {3, "c:1", true, false}};
    struct log_entry e = {.index = 2, .term = 2, .type = LOG_ENTRY_MEMBERSHIP};
    struct bench *b = bench_start(3);
    struct bytes payload = {0};

    assert_int_equal(core_membership_encode(left, 2, &payload), 0);
    e.payload = bytes_slice(&payload);
    assert_int_equal(append_from(b, 2, 2, 1, 1, 2, &e, 1), 0);
    assert_int_equal(b->removals, 1);
    pass_time(b, 10 * ELECTION_MS);
    assert_null(last_sent(b, PEER_VOTE)); /* and it does not stand */
    node_close(b->node);
    b->node = NULL;
    assert_int_equal(bench_open(b, 3), -EIDRM);
    assert_non_null(strstr(b->text, "was removed"));
    b->node = NULL;
    bytes_fini(&payload);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_one_member_more_or_less),
        cmocka_unit_test(what_names_nobody_or_somebody_else_is_refused),
        cmocka_unit_test(urls_that_are_none_are_refused),
        cmocka_unit_test(one_learner_at_a_time),
        cmocka_unit_test(a_learner_that_is_behind_stays_one),
        cmocka_unit_test(a_change_may_not_cost_the_quorum),
        cmocka_unit_test(a_lone_member_takes_a_learner),
        cmocka_unit_test(a_removed_member_is_let_in_no_more),
        cmocka_unit_test(no_change_before_the_first_commit_of_a_term),
        cmocka_unit_test(a_change_on_a_leader_ends_when_it_is_applied),
        cmocka_unit_test(the_last_vote_stays),
        cmocka_unit_test(a_leader_lets_another_lead_before_it_is_removed),
        cmocka_unit_test(a_peer_s_question_is_carried_out_once),
        cmocka_unit_test(a_follower_asks_its_leader_and_waits_until_it_has_applied),
        cmocka_unit_test(a_leader_s_removal_is_asked_of_the_next_one),
        cmocka_unit_test(a_change_ends_at_its_deadline_and_too_many_are_refused),
        cmocka_unit_test(who_is_removed_is_told_once),
        cmocka_unit_test(a_follower_that_applies_its_removal_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
