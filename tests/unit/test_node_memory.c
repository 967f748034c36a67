/* What a node holds in memory while a member catches up, on either side. */
#include "raft/log_parts.h"
#include "tests/unit/node_bench.h"

#define MIB ((size_t)1024 * 1024)

/* The i-th frame, if it was an append to that member. */
static bool was_append(const struct bench *b, size_t i, uint64_t to, struct arena *arena, struct peer_message *ret_m)
{
    const struct sent *s = &b->sent[i % MAX_SENT];

    if (s->to != to || s->type != PEER_APPEND)
        return false;
    assert_int_equal(peer_message_decode(s->type, bytes_slice(&s->payload), arena, ret_m), 0);
    return true;
}

/* Entries that were sent to a member since the n-th frame. */
static size_t entries_sent(const struct bench *b, uint64_t to, size_t since)
{
    struct peer_message m;
    struct arena arena;
    size_t n = 0;

    arena_init(&arena);
    for (size_t i = since; i < b->n_sent; i++)
        if (was_append(b, i, to, &arena, &m))
            n += m.append.n_entries;
    arena_fini(&arena);
    return n;
}

static void a_member_whose_queue_is_long_is_sent_no_entries(void **state)
{
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};
    struct bench *b = bench_start(3);
    struct node_status s;
    struct put put;
    uint64_t before;
    size_t since;

    elect(b);
    node_status(b->node, &s);
    before = s.last_index;
    b->unsent = NODE_APPEND_BYTES;
    since = b->n_sent;
    propose(b, &put, 1000);
    settle(b);
    pass_time(b, 200);
    assert_int_equal(entries_sent(b, 2, since), 0);
    b->unsent = 0;
    since = b->n_sent;
    node_status(b->node, &s);
    assert_true(s.last_index > before);
    heard.append_result = (struct peer_append_result){s.term, s.last_index, before, 0}; /* there is a gap */
    from_peer(b, &heard);
    assert_int_equal(entries_sent(b, 2, since), s.last_index - before);
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index, 0};
    from_peer(b, &heard);
    assert_int_equal(put.ended, 1);
    assert_int_equal(put.status, STATUS_OK);
    bench_free(b);
}

/* Members that are level get one frame, made once: also when the first of them gets none. */
static void a_long_queue_of_one_member_is_no_harm_to_another(void **state)
{
    for (uint64_t full = 2; full <= 3; full++) {
        struct bench *b = bench_start(3);
        struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 3};
        struct node_status s;
        struct wait wait;
        struct put put;
        size_t since;

        elect(b);
        node_status(b->node, &s);
        heard.append_result = (struct peer_append_result){.term = s.term, .last_index = s.last_index};
        from_peer(b, &heard);
        b->protocol = PEER_PROTOCOL_MIN;
        barrier(b, &wait);
        settle(b); /* leaves another frame behind */
        b->unsent = NODE_APPEND_BYTES;
        b->unsent_only = full;
        since = b->n_sent;
        propose(b, &put, 100);
        settle(b);
        assert_int_equal(entries_sent(b, full, since), 0);
        assert_int_equal(entries_sent(b, 5 - full, since), 1);
        bench_free(b);
    }
}

/* A queue that is almost full is filled up by frames, and not by a whole message behind it. */
static void what_a_queue_has_counts(void **state)
{
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};
    struct bench *b = bench_start(3);
    struct put put[8];
    struct node_status s;
    uint64_t before;
    size_t since;

    elect(b);
    node_status(b->node, &s);
    before = s.last_index;
    b->unsent = NODE_APPEND_BYTES;
    for (int i = 0; i < 8; i++) {
        propose(b, &put[i], MIB);
        settle(b);
    }
    node_status(b->node, &s);
    assert_int_equal(s.last_index, before + 8);
    b->unsent = NODE_APPEND_BYTES - 2 * MIB;
    heard.append_result = (struct peer_append_result){s.term, s.last_index, before, 0};
    since = b->n_sent;
    from_peer(b, &heard);
    assert_int_equal(entries_sent(b, 2, since), 2);
    bench_free(b);
}

/* A leader of 40 entries of 100 KiB, of which member 2 has none, and what it sends when that one says so. */
static struct bench *behind(struct put *put, struct peer_message *ret_heard, uint64_t *ret_last)
{
    struct bench *b = bench_start(3);
    struct node_status s;
    uint64_t before;

    elect(b);
    node_status(b->node, &s);
    before = s.last_index;
    b->unsent = NODE_APPEND_BYTES;
    for (int i = 0; i < 40; i++) {
        propose(b, &put[i], 100 * 1024);
        settle(b);
    }
    b->unsent = 0;
    node_status(b->node, &s);
    *ret_heard = (struct peer_message){.type = PEER_APPEND_RESULT, .peer = 2};
    ret_heard->append_result = (struct peer_append_result){s.term, s.last_index, before, 0};
    *ret_last = s.last_index;
    return b;
}

static int hear(struct bench *b, const struct peer_message *m) /* and nothing more */
{
    struct bytes out = {0};
    int rc;

    peer_message_encode(m, &out);
    rc = node_receive(b->node, m->peer, (uint8_t)m->type, bytes_slice(&out));
    bytes_fini(&out);
    return rc;
}

/* It has the first of them: from now on the core counts on it, and sends without waiting. */
static uint64_t take_one(struct bench *b, struct peer_message *heard)
{
    heard->append_result.rejected = 0;
    heard->append_result.last_index++;
    hear(b, heard);
    return heard->append_result.last_index;
}

static void old_entries_are_sent_a_piece_a_turn(void **state)
{
    const size_t a_turn = NODE_APPEND_PIECE_BYTES / (100 * 1024) + 1;
    struct peer_message heard;
    struct put put[40];
    uint64_t last;
    struct bench *b = behind(put, &heard, &last);
    size_t since = b->n_sent;

    hear(b, &heard);
    assert_int_equal(entries_sent(b, 2, since), a_turn);
    assert_int_equal(b->timer, b->now); /* it goes on at once */
    node_timer(b->node);
    assert_int_equal(entries_sent(b, 2, since), 2 * a_turn);
    hear(b, &(struct peer_message){.type = PEER_APPEND_RESULT, .peer = 3, .append_result = {.term = heard.append_result.term}});
    assert_int_equal(entries_sent(b, 2, since), 2 * a_turn); /* a frame is no turn */
    settle(b);
    assert_int_equal(entries_sent(b, 2, since), 40);
    heard.append_result = (struct peer_append_result){heard.append_result.term, 0, last, 0};
    from_peer(b, &heard);
    assert_int_equal(put[39].ended, 1);
    bench_free(b);
}

/* What is new comes behind the rest, in order, and so do heartbeats: a follower that gets all of it refuses nothing. */
static void what_is_new_joins_the_rest(void **state)
{
    struct peer_message heard;
    struct put put[40], next;
    uint64_t last, at;
    struct bench *b = behind(put, &heard, &last);
    struct arena arena;
    size_t since;

    arena_init(&arena);
    hear(b, &heard);
    since = b->n_sent;
    at = take_one(b, &heard);
    propose(b, &next, 10);
    settle(b);
    assert_int_equal(entries_sent(b, 2, since), 40);
    for (size_t i = since; i < b->n_sent; i++) {
        struct peer_message m;

        if (!was_append(b, i, 2, &arena, &m))
            continue;
        assert_int_equal(m.append.prev_index, at);
        at += m.append.n_entries;
    }
    arena_fini(&arena);
    bench_free(b);
}

/* The core begins again where the follower is: it has lost a piece. */
static void a_refusal_ends_the_rest(void **state)
{
    struct peer_message heard;
    struct put put[40];
    uint64_t last;
    struct bench *b = behind(put, &heard, &last);
    size_t since, restarts = 0;
    struct arena arena;

    hear(b, &heard);
    take_one(b, &heard);
    node_timer(b->node);
    arena_init(&arena);
    since = b->n_sent;
    heard.append_result.rejected = heard.append_result.last_index + 3; /* still no more than one */
    hear(b, &heard);
    for (size_t i = since; i < b->n_sent; i++) {
        struct peer_message m;

        if (was_append(b, i, 2, &arena, &m))
            restarts += m.append.prev_index == heard.append_result.last_index;
    }
    assert_int_equal(restarts, 1);
    arena_fini(&arena);
    bench_free(b);
}

static void a_member_that_goes_is_read_nothing_for(void **state)
{
    struct peer_message heard;
    struct put put[40];
    uint64_t last;
    struct bench *b = behind(put, &heard, &last);
    size_t since = b->n_sent;

    hear(b, &heard);
    b->protocol = 0; /* it is not connected any more */
    settle(b);
    assert_true(entries_sent(b, 2, since) < 40);
    assert_false(append_goes_on(b->node));
    bench_free(b);
}

static void a_follower_with_a_slow_disk_takes_no_more_than_it_may_hold(void **state)
{
    struct bench *b = bench_start(3);
    uint8_t *payload = calloc(1, MIB);
    uint64_t last;

    assert_non_null(payload);
    b->node->flush_out = true; /* its disk is busy for long */
    for (uint64_t i = 0; i < 2 * NODE_MAX_UNFLUSHED_BYTES / MIB; i++) {
        struct log_entry e = {.term = 2, .type = LOG_ENTRY_BARRIER, .payload = slice_make(payload, MIB)};

        last = log_last_index(b->node->log);
        e.index = last + 1;
        assert_int_equal(append_from(b, 2, 2, last, last == 1 ? 1 : 2, 1, &e, 1), 0);
    }
    last = log_last_index(b->node->log);
    assert_int_equal(last, 1 + NODE_MAX_UNFLUSHED_BYTES / MIB);
    assert_true(b->node->unflushed_bytes <= NODE_MAX_UNFLUSHED_BYTES + MIB);
    b->node->flush_out = false;
    assert_int_equal(append_from(b, 2, 2, last, 2, 1, NULL, 0), 0);
    settle(b);
    assert_int_equal(log_synced_index(b->node->log), last);
    assert_true(b->node->log->cached_bytes <= LOG_CACHE_BYTES);
    free(payload);
    bench_free(b);
}

static void the_log_keeps_what_its_budget_allows(void **state)
{
    struct bench *b = bench_start(3);
    uint8_t *payload = calloc(1, MIB);
    struct log_entry e;
    struct arena arena;

    assert_non_null(payload);
    arena_init(&arena);
    for (uint64_t i = 2; i < 2 + 2 * LOG_CACHE_BYTES / MIB; i++) {
        payload[0] = (uint8_t)i;
        e = (struct log_entry){i, 2, LOG_ENTRY_BARRIER, slice_make(payload, MIB)};
        assert_int_equal(append_from(b, 2, 2, i - 1, i == 2 ? 1 : 2, 1, &e, 1), 0);
        assert_true(b->node->log->cached_bytes <= LOG_CACHE_BYTES);
    }
    assert_true(b->node->log->cached_bytes > LOG_CACHE_BYTES - 2 * MIB);
    for (uint64_t i = 2; i <= log_last_index(b->node->log); i++) {
        assert_int_equal(log_get(b->node->log, i, &arena, &e), 0);
        assert_int_equal(e.payload.len, MIB);
        assert_int_equal(e.payload.data[0], i);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    free(payload);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_whose_queue_is_long_is_sent_no_entries),
        cmocka_unit_test(a_long_queue_of_one_member_is_no_harm_to_another),
        cmocka_unit_test(what_a_queue_has_counts),
        cmocka_unit_test(old_entries_are_sent_a_piece_a_turn),
        cmocka_unit_test(what_is_new_joins_the_rest),
        cmocka_unit_test(a_refusal_ends_the_rest),
        cmocka_unit_test(a_member_that_goes_is_read_nothing_for),
        cmocka_unit_test(a_follower_with_a_slow_disk_takes_no_more_than_it_may_hold),
        cmocka_unit_test(the_log_keeps_what_its_budget_allows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
