/* Rounds of reads that ride on appends: who counts as having confirmed one, and who is asked by a message of its own. */
#include "tests/unit/node_bench.h"

#define SLOW_MS 10

static struct peer_message decode(const struct sent *s, struct arena *arena)
{
    struct peer_message m = {0};

    assert_non_null(s);
    assert_int_equal(peer_message_decode(s->type, bytes_slice(&s->payload), arena, &m), 0);
    return m;
}

static uint64_t round_of(const struct sent *s)
{
    struct arena arena;
    struct peer_message m;

    arena_init(&arena);
    m = decode(s, &arena);
    arena_fini(&arena);
    return m.type == PEER_APPEND ? m.append.round : m.append_result.round;
}

/* A leader whose two followers are level with it, and their answer to whatever it sends. */
static struct bench *leading(struct peer_message *ret_answer)
{
    struct bench *b = bench_start(3);
    struct node_status s;

    elect(b);
    node_status(b->node, &s);
    *ret_answer = (struct peer_message){.type = PEER_APPEND_RESULT, .peer = 3};
    ret_answer->append_result = (struct peer_append_result){.term = s.term, .last_index = s.last_index};
    from_peer(b, ret_answer);
    return b;
}

/* A put and a read in one turn; the round that the put's append carries. */
static uint64_t put_and_read(struct bench *b, struct put *put, struct wait *wait)
{
    propose(b, put, 1);
    barrier(b, wait);
    settle(b);
    return round_of(last_sent(b, PEER_APPEND));
}

static void an_append_carries_the_round_and_its_answer_confirms_it(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;
    uint64_t round = put_and_read(b, &put, &wait);

    assert_int_not_equal(round, 0);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 0);
    from_peer(b, &answer); /* to an append from before the read */
    assert_int_equal(wait.ended, 0);
    answer.append_result.round = round - 1; /* to one that carried another round */
    from_peer(b, &answer);
    assert_int_equal(wait.ended, 0);
    answer.append_result.round = round;
    from_peer(b, &answer);
    assert_int_equal(wait.ended, 1);
    assert_int_equal(wait.status, STATUS_OK);
    assert_int_equal(put.ended, 0); /* nobody has its entry */
    bench_free(b);
}

static void a_refusal_for_the_logs_sake_confirms_the_round(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;

    answer.append_result.round = put_and_read(b, &put, &wait);
    answer.append_result.rejected = answer.append_result.last_index + 1;
    from_peer(b, &answer);
    assert_int_equal(wait.status, STATUS_OK);
    assert_int_equal(wait.ended, 1);
    bench_free(b);
}

static void an_answer_of_another_term_confirms_nothing(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;

    answer.append_result.round = put_and_read(b, &put, &wait);
    answer.append_result.term--;
    from_peer(b, &answer);
    assert_int_equal(wait.ended, 0);
    answer.append_result.term += 2;
    from_peer(b, &answer);
    assert_int_equal(wait.ended, 0);
    bench_free(b);
    assert_int_equal(wait.status, STATUS_STOPPED);
}

/* A quorum of three is this leader and one more: the same one twice, of five, is not two. */
static void a_member_counts_once(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;
    uint64_t round = put_and_read(b, &put, &wait);

    reads_round_confirmed(b->node, 99, answer.append_result.term, round); /* no voter */
    reads_round_confirmed(b->node, 99, answer.append_result.term, round);
    settle(b);
    assert_int_equal(wait.ended, 0);
    assert_int_equal(b->node->reads.n_acked, 1);
    bench_free(b);
}

static void members_of_the_first_protocol_are_asked_by_messages(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;

    b->protocol = PEER_PROTOCOL_MIN;
    assert_int_equal(put_and_read(b, &put, &wait), 0);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 2);
    bench_free(b);
}

static void what_is_lost_is_asked_again_by_messages(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put;
    struct wait wait;

    assert_int_not_equal(put_and_read(b, &put, &wait), 0);
    pass_time(b, 99);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 0);
    pass_time(b, 2);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 2);
    bench_free(b);
}

/* While a flush is out commands gather, and their append goes when it ends. */
static void read_during_a_flush(struct bench *b, struct put *put, struct wait *wait)
{
    b->idle = false;
    propose(b, &put[0], 1);
    node_timer(b->node);
    assert_non_null(b->work[WORK_LOG]);
    propose(b, &put[1], 1);
    barrier(b, wait);
    node_timer(b->node);
    assert_non_null(b->work[WORK_LOG]);
}

static void a_round_waits_for_the_append_that_follows_a_flush(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put[2];
    struct wait wait;

    read_during_a_flush(b, put, &wait);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 0);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND)), 0);
    settle(b);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 0);
    assert_int_not_equal(round_of(last_sent(b, PEER_APPEND)), 0);
    bench_free(b);
}

static void a_round_does_not_wait_for_a_slow_disk(void **state)
{
    struct peer_message answer;
    struct bench *b = leading(&answer);
    struct put put[2];
    struct wait wait;

    b->node->flush_took_ms = SLOW_MS;
    read_during_a_flush(b, put, &wait);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRM), 2);
    bench_free(b);
}

/* ---- on a follower ---- */

static int append_with_round(struct bench *b, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t round, bool entry)
{
    struct log_entry e = {.index = prev + 1, .term = term, .type = LOG_ENTRY_BARRIER, .payload = slice_make("", 0)};
    struct peer_message m = {.type = PEER_APPEND, .peer = 2};
    struct bytes out = {0};
    int rc;

    m.append = (struct peer_append){term, prev, prev_term, 1, &e, entry, round};
    peer_message_encode(&m, &out);
    rc = node_receive(b->node, 2, PEER_APPEND, bytes_slice(&out));
    bytes_fini(&out);
    return rc;
}

static struct bench *following(void)
{
    struct bench *b = bench_start(3);

    assert_int_equal(append_with_round(b, 5, 1, 1, 0, false), 0);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 0);
    return b;
}

static void a_heartbeats_answer_carries_its_round(void **state)
{
    struct bench *b = following();

    append_with_round(b, 5, 1, 1, 40, false);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 40);
    append_with_round(b, 5, 1, 1, 0, false);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 0); /* said once */
    append_with_round(b, 5, 9, 5, 41, false);                        /* and so does a refusal */
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 41);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    bench_free(b);
}

/* Under load, when the next append comes before the flush of the one before has ended. */
static void the_answer_of_a_quick_flush_that_is_out_carries_the_round(void **state)
{
    struct bench *b = following();
    size_t said = 0;

    b->idle = false;
    append_with_round(b, 5, 1, 1, 0, true);
    append_with_round(b, 5, 2, 5, 40, true);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    settle(b);
    for (size_t i = 0; i < b->n_sent; i++)
        said += b->sent[i].type == PEER_APPEND_RESULT && round_of(&b->sent[i]) == 40;
    assert_int_equal(said, 1);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    bench_free(b);
}

/* What has still to be flushed is not waited for: a read is quicker than a put. */
static void without_a_flush_out_the_answer_goes_at_once(void **state)
{
    for (int in_line = 0; in_line < 2; in_line++) {
        struct bench *b = following();
        size_t confirmed = 0, result = 0;

        b->idle = in_line != 0;
        append_with_round(b, 5, 1, 1, 40, true);
        assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 1);
        settle(b);
        assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 1);
        for (size_t i = 0; i < b->n_sent; i++) {
            confirmed = b->sent[i].type == PEER_READ_CONFIRMED ? i : confirmed;
            result = b->sent[i].type == PEER_APPEND_RESULT ? i : result;
        }
        assert_true(confirmed < result);
        assert_int_equal(round_of(&b->sent[result]), 0);
        bench_free(b);
    }
}

static void a_slow_disk_does_not_hold_the_answer(void **state)
{
    struct bench *b = following();
    struct peer_read_confirm m;

    b->idle = false;
    b->node->flush_took_ms = SLOW_MS;
    append_with_round(b, 5, 1, 1, 0, true);
    append_with_round(b, 5, 2, 5, 40, true);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 1);
    assert_int_equal(peer_read_confirm_decode(bytes_slice(&last_sent(b, PEER_READ_CONFIRMED)->payload), &m), 0);
    assert_int_equal(m.term, 5);
    assert_int_equal(m.sequence, 40);
    settle(b);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 0);
    bench_free(b);
}

static void an_older_leader_is_not_confirmed(void **state)
{
    struct bench *b = following();

    append_with_round(b, 4, 1, 1, 40, false);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 0);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    bench_free(b);
}

/* A round that waits for a flush is not said in another term. */
static void a_new_term_takes_back_what_is_owed(void **state)
{
    struct bench *b = following();
    struct peer_message vote = {.type = PEER_VOTE, .peer = 3, .vote = {.term = 9, .last_index = 100, .last_term = 8, .disrupt_leader = true}};
    struct bytes out = {0};

    b->idle = false;
    append_with_round(b, 5, 1, 1, 0, true);
    append_with_round(b, 5, 2, 5, 40, true);
    peer_message_encode(&vote, &out);
    assert_int_equal(node_receive(b->node, 3, PEER_VOTE, bytes_slice(&out)), 0);
    bytes_fini(&out);
    assert_int_equal(core_term(b->node->core), 9);
    settle(b);
    for (size_t i = 0; i < b->n_sent; i++)
        if (b->sent[i].type == PEER_APPEND_RESULT)
            assert_int_equal(round_of(&b->sent[i]), 0);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    bench_free(b);
}

static void a_late_append_takes_no_newer_round_away(void **state)
{
    struct bench *b = following();
    size_t said = 0;

    b->idle = false;
    append_with_round(b, 5, 1, 1, 0, true);
    append_with_round(b, 5, 2, 5, 41, true);
    append_with_round(b, 5, 2, 5, 40, true); /* overtaken on its way */
    settle(b);
    for (size_t i = 0; i < b->n_sent; i++) {
        uint64_t round = b->sent[i].type == PEER_APPEND_RESULT ? round_of(&b->sent[i]) : 0;

        assert_true(round == 0 || round == 41);
        said += round == 41;
    }
    assert_int_equal(said, 1);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 0);
    bench_free(b);
}

static void a_leader_of_the_first_protocol_gets_a_message(void **state)
{
    struct bench *b = following();

    b->protocol = PEER_PROTOCOL_MIN;
    append_with_round(b, 5, 1, 1, 40, false);
    assert_int_equal(round_of(last_sent(b, PEER_APPEND_RESULT)), 0);
    assert_int_equal(count_sent(b, PEER_READ_CONFIRMED), 1);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_append_carries_the_round_and_its_answer_confirms_it),
        cmocka_unit_test(a_refusal_for_the_logs_sake_confirms_the_round),
        cmocka_unit_test(an_answer_of_another_term_confirms_nothing),
        cmocka_unit_test(a_member_counts_once),
        cmocka_unit_test(members_of_the_first_protocol_are_asked_by_messages),
        cmocka_unit_test(what_is_lost_is_asked_again_by_messages),
        cmocka_unit_test(a_round_waits_for_the_append_that_follows_a_flush),
        cmocka_unit_test(a_round_does_not_wait_for_a_slow_disk),
        cmocka_unit_test(a_heartbeats_answer_carries_its_round),
        cmocka_unit_test(the_answer_of_a_quick_flush_that_is_out_carries_the_round),
        cmocka_unit_test(without_a_flush_out_the_answer_goes_at_once),
        cmocka_unit_test(a_slow_disk_does_not_hold_the_answer),
        cmocka_unit_test(an_older_leader_is_not_confirmed),
        cmocka_unit_test(a_new_term_takes_back_what_is_owed),
        cmocka_unit_test(a_late_append_takes_no_newer_round_away),
        cmocka_unit_test(a_leader_of_the_first_protocol_gets_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
