/* raft/lease.c, raft/lease_request.c: when a lease ends, when it must not, and what a keep-alive is worth.
 * wrap: store_apply */
#include "tests/unit/node_bench.h"

#define TTL_S 5
#define TTL_MS (TTL_S * 1000)

/* ---- the store, as far as leases go ---- */

static int64_t gone[4096];
static size_t n_gone, n_notes;
static int64_t last_note;

int __wrap_store_apply(struct store_batch *b, uint64_t index, uint64_t term, uint32_t position, const struct command *cmd,
                       struct arena *arena, struct result *ret_result, bool *ret_fresh);
int __real_store_apply(struct store_batch *b, uint64_t index, uint64_t term, uint32_t position, const struct command *cmd,
                       struct arena *arena, struct result *ret_result, bool *ret_fresh);
int __wrap_store_apply(struct store_batch *b, uint64_t index, uint64_t term, uint32_t position, const struct command *cmd,
                       struct arena *arena, struct result *ret_result, bool *ret_fresh)
{
    int rc = __real_store_apply(b, index, term, position, cmd, arena, ret_result, ret_fresh);

    if (rc == 0 && *ret_fresh && ret_result->status == STATUS_OK &&
        (cmd->kind == COMMAND_LEASE_EXPIRE || cmd->kind == COMMAND_LEASE_REVOKE))
        gone[n_gone++ % 4096] = cmd->lease.id;
    if (cmd->kind == COMMAND_LEASE_CHECKPOINT && *ret_fresh) {
        n_notes += cmd->checkpoint.n_items;
        last_note = cmd->checkpoint.items[0].remaining_s;
    }
    return rc;
}

static int reset(void **state)
{
    n_gone = n_notes = 0;
    return 0;
}

static void command(struct bench *b, struct command *cmd, struct put *put)
{
    struct bytes out = {0};

    memset(put, 0, sizeof *put);
    command_encode(cmd, &out);
    put->p.take_command = bytes_take(&out, &put->p.command_len);
    put->p.done = put_done;
    node_propose(b->node, &put->p);
    settle(b);
}

static void grant(struct bench *b, int64_t id, int64_t ttl_s)
{
    struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.id = id, .ttl_s = ttl_s}};
    struct put put;

    command(b, &cmd, &put);
    assert_true(put.ended == 1 && put.status == STATUS_OK);
}

struct ask {
    struct node_lease l;
    unsigned ended;
    uint16_t status;
    int64_t granted_s, remaining_s;
};

static void ask_done(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct ask *a = LIST_ITEM(l, struct ask, l);

    a->ended++;
    a->status = status;
    a->granted_s = granted_s;
    a->remaining_s = remaining_s;
}

static void ask(struct bench *b, struct ask *a, bool prolong, int64_t id)
{
    memset(a, 0, sizeof *a);
    a->l.prolong = prolong;
    a->l.id = id;
    a->l.done = ask_done;
    node_lease(b->node, &a->l);
    assert_int_equal(a->ended, 0);
}

static struct bench *sole(void)
{
    struct bench *b = bench_start(1);

    settle(b);
    return b;
}

/* Every heartbeat is a turn of its own, as the loop has them. */
static void wait_ms(struct bench *b, uint64_t ms)
{
    for (uint64_t end = b->now + ms; b->now < end;)
        pass_time(b, end - b->now < 50 ? end - b->now : 50);
}

/* ---- a sole member ---- */

static void a_lease_ends_when_its_time_is_over_and_not_before(void **state)
{
    struct bench *b = sole();
    struct ask a;

    grant(b, 7, TTL_S);
    wait_ms(b, TTL_MS - 100);
    assert_int_equal(n_gone, 0);
    ask(b, &a, false, 7);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_OK && a.granted_s == TTL_S && a.remaining_s == 0);
    wait_ms(b, 300);
    assert_true(n_gone == 1 && gone[0] == 7);
    ask(b, &a, true, 7);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_LEASE_NOT_FOUND);
    bench_free(b);
}

static void a_grant_counts_from_the_moment_of_its_turn(void **state)
{
    struct bench *b = sole();

    grant(b, 6, 100 * TTL_S);
    wait_ms(b, 50);
    b->now += 90; /* since the last turn */
    grant(b, 7, TTL_S);
    wait_ms(b, TTL_MS - 20);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 200);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

static void a_keepalive_gives_the_whole_time_again(void **state)
{
    struct bench *b = sole();
    struct ask a;

    grant(b, 7, TTL_S);
    for (int i = 0; i < 5; i++) {
        wait_ms(b, TTL_MS - 500);
        ask(b, &a, true, 7);
        settle(b);
        assert_true(a.ended == 1 && a.status == STATUS_OK && a.granted_s == TTL_S);
        ask(b, &a, false, 7);
        settle(b);
        assert_int_equal(a.remaining_s, TTL_S);
    }
    wait_ms(b, TTL_MS - 100);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 300);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

/* A process that was stopped finds its clock far ahead and the keep-alives in its sockets. */
static void a_leader_that_slept_hears_the_keepalives_first(void **state)
{
    struct bench *b = sole();
    struct ask a;

    grant(b, 7, TTL_S);
    wait_ms(b, 1000);
    b->now += 60000;
    node_timer(b->node); /* the timers come before the sockets */
    settle(b);
    assert_int_equal(n_gone, 0);
    ask(b, &a, true, 7);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_OK);
    wait_ms(b, TTL_MS - 100);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 300);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

static void nothing_expires_for_an_election_timeout_behind_a_pause(void **state)
{
    struct bench *b = sole();

    grant(b, 7, TTL_S);
    wait_ms(b, TTL_MS - 20);
    b->now += 60000;
    node_timer(b->node);
    wait_ms(b, ELECTION_MS - 100);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 300);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

static void a_short_time_is_raised_and_a_number_is_given(void **state)
{
    struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.ttl_s = 1}};
    struct bench *b = sole();
    struct put put;
    struct ask a;

    command(b, &cmd, &put);
    assert_int_equal(put.status, STATUS_OK);
    assert_int_equal(b->node->leases.table.count, 1);
    assert_true(b->node->leases.table.heap[0]->id > 0);
    ask(b, &a, false, b->node->leases.table.heap[0]->id);
    settle(b);
    assert_int_equal(a.granted_s, 2); /* one and a half election timeouts, in whole seconds */
    bench_free(b);
}

static void many_ends_come_at_a_bounded_rate(void **state)
{
    struct bench *b = sole();
    uint64_t began, last;

    for (int i = 1; i <= 2500; i++)
        grant(b, i, TTL_S);
    began = b->now;
    last = log_last_index(b->node->log);
    wait_ms(b, TTL_MS - 50);
    assert_int_equal(n_gone, 0);
    for (size_t before = 0; n_gone < 2500; before = n_gone) {
        wait_ms(b, 1000);
        assert_in_range(n_gone - before, 1, NODE_LEASE_EXPIRE_PER_S + NODE_LEASE_EXPIRE_BURST);
        assert_true(b->now < began + 20000);
    }
    assert_true(log_last_index(b->node->log) - last < 250); /* many share an entry */
    assert_int_equal(b->node->leases.table.count, 0);
    bench_free(b);
}

static void a_hundred_thousand_leases_are_cheap(void **state)
{
    struct bench *b = sole();
    struct lease *l;

    for (int64_t i = 1; i <= 100000; i++) {
        assert_int_equal(lease_table_add(&b->node->leases.table, i, 1000 + i % 1000, 0, &l), 0);
        lease_table_set_deadline(&b->node->leases.table, l, lease_full_deadline(b->node, l));
    }
    for (int64_t i = 1; i <= 100000; i += 7)
        lease_table_remove(&b->node->leases.table, lease_table_find(&b->node->leases.table, i));
    for (size_t i = 1; i < b->node->leases.table.count; i++)
        assert_true(b->node->leases.table.heap[(i - 1) / 2]->deadline_ms <= b->node->leases.table.heap[i]->deadline_ms);
    for (int64_t i = 1; i <= 100000; i++)
        assert_int_equal(lease_table_find(&b->node->leases.table, i) == NULL, i % 7 == 1);
    wait_ms(b, 10000); /* turns with so many */
    bench_free(b);
}

static void a_new_start_gives_every_lease_its_time_again(void **state)
{
    struct bench *b = sole();

    grant(b, 7, TTL_S);
    wait_ms(b, TTL_MS - 500);
    node_close(b->node);
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    wait_ms(b, TTL_MS + ELECTION_MS - 200);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 500);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

static void what_remains_is_noted_and_a_new_start_knows_it(void **state)
{
    struct bench *b = sole();

    grant(b, 7, 1000);
    wait_ms(b, 290000);
    assert_int_equal(n_notes, 0);
    wait_ms(b, 11000);
    assert_int_equal(n_notes, 1);
    assert_in_range(last_note, 699, 701);
    node_close(b->node);
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    wait_ms(b, 690000);
    assert_int_equal(n_gone, 0);
    wait_ms(b, 15000);
    assert_int_equal(n_gone, 1);
    bench_free(b);
}

static void a_keepalive_takes_a_note_back_before_it_is_confirmed(void **state)
{
    struct bench *b = sole();
    struct ask a;

    grant(b, 7, 1000);
    wait_ms(b, 301000);
    assert_int_equal(n_notes, 1);
    ask(b, &a, true, 7);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_OK);
    assert_true(n_notes == 2 && last_note == 0);
    node_close(b->node);
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    wait_ms(b, 999000);
    assert_int_equal(n_gone, 0);
    bench_free(b);
}

static void requests_have_limits_and_deadlines(void **state)
{
    struct ask *many = calloc(NODE_MAX_LEASE_REQUESTS + 1, sizeof *many);
    struct bench *b = bench_start(3);

    for (size_t i = 0; i <= NODE_MAX_LEASE_REQUESTS; i++)
        ask(b, &many[i], true, 1);
    settle(b);
    assert_true(many[NODE_MAX_LEASE_REQUESTS].ended == 1 &&
                many[NODE_MAX_LEASE_REQUESTS].status == STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(many[0].ended, 0);
    node_lease_cancel(b->node, &many[1].l);
    pass_time(b, 2 * NODE_NO_LEADER_TIMEOUTS * ELECTION_MS); /* nobody leads */
    assert_true(many[0].ended == 1 && many[0].status == STATUS_NO_LEADER);
    assert_int_equal(many[1].ended, 0);
    bench_free(b);
    free(many);
}

/* ---- a leader among three ---- */

static void confirm_round(struct bench *b, uint64_t peer)
{
    const struct sent *s = last_sent(b, PEER_READ_CONFIRM);

    assert_non_null(s);
    assert_int_equal(node_receive(b->node, peer, PEER_READ_CONFIRMED, bytes_slice(&s->payload)), 0);
    settle(b);
}

static void follow_up(struct bench *b)
{
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};

    heard.append_result = (struct peer_append_result){core_term(b->node->core), 0, log_last_index(b->node->log), 0};
    from_peer(b, &heard);
}

static struct bench *leader_with_lease(int64_t id)
{
    struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.id = id, .ttl_s = TTL_S}};
    struct bench *b = bench_start(3);
    struct put put;

    elect(b);
    command(b, &cmd, &put);
    follow_up(b);
    assert_true(put.ended == 1 && put.status == STATUS_OK);
    return b;
}

static void a_keepalive_is_answered_after_a_round_begun_behind_it(void **state)
{
    struct bench *b = leader_with_lease(7);
    struct ask a, later;

    ask(b, &a, true, 7);
    settle(b);
    assert_int_equal(a.ended, 0);
    ask(b, &later, true, 7); /* joins the next round */
    settle(b);
    confirm_round(b, 2);
    assert_true(a.ended == 1 && a.status == STATUS_OK && later.ended == 0);
    confirm_round(b, 3);
    assert_true(later.ended == 1 && later.status == STATUS_OK);
    bench_free(b);
}

static void a_followers_frame_is_answered_as_a_whole(void **state)
{
    struct peer_lease_item items[3] = {{true, 7}, {false, 7}, {true, 8}};
    struct peer_lease m = {5, items, 3};
    struct bench *b = leader_with_lease(7);
    struct peer_lease_reply reply;
    struct arena arena;
    struct bytes out = {0};

    arena_init(&arena);
    peer_lease_encode(&m, &out);
    assert_int_equal(node_receive(b->node, 2, PEER_LEASE, bytes_slice(&out)), 0);
    assert_int_equal(node_receive(b->node, 2, PEER_LEASE, bytes_slice(&out)), 0); /* once more: the same question */
    settle(b);
    assert_null(last_sent(b, PEER_LEASE_REPLY));
    confirm_round(b, 3);
    assert_int_equal(count_sent(b, PEER_LEASE_REPLY), 1);
    assert_int_equal(peer_lease_reply_decode(bytes_slice(&last_sent(b, PEER_LEASE_REPLY)->payload), &arena, &reply), 0);
    assert_true(reply.sequence == 5 && reply.n_answers == 3);
    assert_true(reply.answers[0].status == STATUS_OK && reply.answers[0].granted_s == TTL_S);
    assert_true(reply.answers[1].status == STATUS_OK && reply.answers[1].remaining_s == TTL_S);
    assert_int_equal(reply.answers[2].status, STATUS_LEASE_NOT_FOUND);
    bytes_fini(&out);
    arena_fini(&arena);
    bench_free(b);
}

static void a_deposed_leader_ends_nothing_and_asks_the_new_one(void **state)
{
    struct bench *b = leader_with_lease(7);
    struct ask a;
    uint64_t term = core_term(b->node->core);
    struct peer_lease question;
    struct peer_lease_answer answer = {STATUS_OK, TTL_S, TTL_S};
    struct arena arena;
    struct bytes out = {0};

    arena_init(&arena);
    ask(b, &a, true, 7);
    settle(b);
    assert_int_equal(append_from(b, 2, term + 1, log_last_index(b->node->log), term, core_commit(b->node->core), NULL, 0), 0);
    assert_int_equal(a.ended, 0);
    assert_int_equal(peer_lease_decode(bytes_slice(&last_sent(b, PEER_LEASE)->payload), &arena, &question), 0);
    assert_true(question.n_items == 1 && question.items[0].prolong && question.items[0].id == 7);
    peer_lease_reply_encode(&(struct peer_lease_reply){question.sequence, NULL, 0}, &out);
    assert_int_equal(node_receive(b->node, 2, PEER_LEASE_REPLY, bytes_slice(&out)), 0); /* it is not: asked again */
    pass_time(b, 150);
    assert_int_equal(a.ended, 0);
    assert_true(count_sent(b, PEER_LEASE) >= 2);
    bytes_reset(&out);
    peer_lease_reply_encode(&(struct peer_lease_reply){question.sequence, &answer, 1}, &out);
    assert_int_equal(node_receive(b->node, 3, PEER_LEASE_REPLY, bytes_slice(&out)), 0); /* not from whom was asked */
    settle(b);
    assert_int_equal(a.ended, 0);
    assert_int_equal(node_receive(b->node, 2, PEER_LEASE_REPLY, bytes_slice(&out)), 0);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_OK && a.granted_s == TTL_S);
    assert_int_equal(n_gone, 0);
    bytes_fini(&out);
    arena_fini(&arena);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_lease_ends_when_its_time_is_over_and_not_before, reset),
        cmocka_unit_test_setup(a_grant_counts_from_the_moment_of_its_turn, reset),
        cmocka_unit_test_setup(a_keepalive_gives_the_whole_time_again, reset),
        cmocka_unit_test_setup(a_leader_that_slept_hears_the_keepalives_first, reset),
        cmocka_unit_test_setup(nothing_expires_for_an_election_timeout_behind_a_pause, reset),
        cmocka_unit_test_setup(a_short_time_is_raised_and_a_number_is_given, reset),
        cmocka_unit_test_setup(many_ends_come_at_a_bounded_rate, reset),
        cmocka_unit_test_setup(a_hundred_thousand_leases_are_cheap, reset),
        cmocka_unit_test_setup(a_new_start_gives_every_lease_its_time_again, reset),
        cmocka_unit_test_setup(what_remains_is_noted_and_a_new_start_knows_it, reset),
        cmocka_unit_test_setup(a_keepalive_takes_a_note_back_before_it_is_confirmed, reset),
        cmocka_unit_test_setup(requests_have_limits_and_deadlines, reset),
        cmocka_unit_test_setup(a_keepalive_is_answered_after_a_round_begun_behind_it, reset),
        cmocka_unit_test_setup(a_followers_frame_is_answered_as_a_whole, reset),
        cmocka_unit_test_setup(a_deposed_leader_ends_nothing_and_asks_the_new_one, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
