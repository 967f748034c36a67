/* What a node holds in memory while a member catches up, on either side. */
#include "raft/log_parts.h"
#include "tests/unit/node_bench.h"

#define MIB ((size_t)1024 * 1024)

/* Entries that were sent to a member since the n-th frame. */
static size_t entries_sent(const struct bench *b, uint64_t to, size_t since)
{
    struct arena arena;
    size_t n = 0;

    arena_init(&arena);
    for (size_t i = since; i < b->n_sent; i++) {
        const struct sent *s = &b->sent[i % MAX_SENT];
        struct peer_message m;

        if (s->to != to || s->type != PEER_APPEND)
            continue;
        assert_int_equal(peer_message_decode(s->type, bytes_slice(&s->payload), &arena, &m), 0);
        n += m.append.n_entries;
    }
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
        cmocka_unit_test(a_follower_with_a_slow_disk_takes_no_more_than_it_may_hold),
        cmocka_unit_test(the_log_keeps_what_its_budget_allows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
