/* One node by itself: what it answers at its limits and deadlines, to peers that lie, and when it must stop. */
#include "tests/unit/node_bench.h"

/* ---- tests ---- */

static void a_sole_member_answers_puts_and_barriers(void **state)
{
    for (int in_line = 0; in_line < 2; in_line++) {
        struct bench *b = bench_start(1);
        struct put put[3];
        struct wait wait;

        b->idle = in_line != 0;
        settle(b);
        for (int i = 0; i < 3; i++)
            propose(b, &put[i], 10);
        settle(b);
        barrier(b, &wait);
        settle(b);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(put[i].ended, 1);
            assert_int_equal(put[i].status, STATUS_OK);
            assert_int_equal(put[i].revision, 2 + i);
        }
        assert_int_equal(wait.status, STATUS_OK);
        assert_int_equal(b->revision, 4);
        bench_free(b);
    }
}

static void what_waits_together_shares_an_entry(void **state)
{
    struct bench *b = bench_start(1);
    struct node_status before, after;
    struct put put[50];

    settle(b);
    node_status(b->node, &before);
    for (int i = 0; i < 50; i++)
        propose(b, &put[i], 10);
    settle(b);
    node_status(b->node, &after);
    assert_int_equal(after.last_index, before.last_index + 1);
    assert_int_equal(put[49].revision, 51);
    bench_free(b);
}

static void an_undecodable_command_is_refused_before_the_log(void **state)
{
    struct bench *b = bench_start(1);
    struct put put = {0};

    settle(b);
    put.p.take_command = calloc(1, 100);
    put.p.command_len = 100;
    put.p.done = put_done;
    node_propose(b->node, &put.p);
    assert_int_equal(put.ended, 0);
    settle(b);
    assert_int_equal(put.ended, 1);
    assert_int_equal(put.status, STATUS_INVALID_REQUEST);
    assert_int_equal(b->fatals, 0);
    bench_free(b);
}

static void without_a_leader_waits_fail_after_three_election_timeouts(void **state)
{
    struct bench *b = bench_start(3);
    struct put put, late;
    struct wait wait, late_wait;

    propose(b, &put, 1);
    barrier(b, &wait);
    pass_time(b, 3 * ELECTION_MS - 1);
    assert_int_equal(put.ended + wait.ended + b->no_leaders, 0);
    pass_time(b, 1);
    assert_int_equal(put.status, STATUS_NO_LEADER);
    assert_int_equal(wait.status, STATUS_NO_LEADER);
    assert_int_equal(b->no_leaders, 1);
    propose(b, &late, 1);
    barrier(b, &late_wait);
    settle(b);
    assert_int_equal(late.status, STATUS_NO_LEADER);
    assert_int_equal(late_wait.status, STATUS_NO_LEADER);
    assert_int_equal(append_from(b, 2, 5, 1, 1, 1, NULL, 0), 0); /* and with a leader they wait again */
    assert_int_equal(b->leaders, 1);
    propose(b, &late, 1);
    settle(b);
    assert_int_equal(late.ended, 0);
    bench_free(b);
    assert_int_equal(late.ended, 1);
    assert_int_equal(late.status, STATUS_STOPPED);
}

static void too_many_proposals_are_refused_at_once(void **state)
{
    struct bench *b = bench_start(3);
    struct put *put = calloc(NODE_MAX_PROPOSALS + 1, sizeof *put);
    struct put big;

    for (int i = 0; i <= NODE_MAX_PROPOSALS; i++)
        propose(b, &put[i], 1);
    settle(b);
    assert_int_equal(put[NODE_MAX_PROPOSALS].ended, 1);
    assert_int_equal(put[NODE_MAX_PROPOSALS].status, STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(put[0].ended, 0);
    node_proposal_cancel(b->node, &put[0].p);
    propose(b, &big, 1); /* there is room for one again */
    settle(b);
    assert_int_equal(big.ended, 0);
    bench_free(b);
    assert_int_equal(put[0].ended, 0);
    assert_int_equal(put[1].status, STATUS_STOPPED);
    free(put);
}

static void too_many_bytes_are_refused_at_once(void **state)
{
    const size_t value = (size_t)1024 * 1024;
    const size_t n = NODE_MAX_PROPOSAL_BYTES / value;
    struct bench *b = bench_start(3);
    struct put *put = calloc(n + 1, sizeof *put);

    for (size_t i = 0; i <= n; i++)
        propose(b, &put[i], value);
    settle(b);
    assert_int_equal(put[n - 2].ended, 0);
    assert_int_equal(put[n].status, STATUS_TOO_MANY_REQUESTS);
    bench_free(b);
    free(put);
}

static void a_member_whose_store_is_far_behind_takes_no_more(void **state)
{
    static struct log_entry entries[1000];
    struct command revoke = {.kind = COMMAND_LEASE_REVOKE, .lease.id = 7};
    struct bench *b = bench_start(3);
    struct bytes out = {0};
    struct put put, freed = {0};
    uint64_t prev = 1;

    b->node->apply_out = true; /* its worker is in the middle of something */
    while (core_commit(b->node->core) <= b->node->applied_index + NODE_MAX_APPLY_GAP) {
        for (size_t i = 0; i < 1000; i++)
            entries[i] = (struct log_entry){.index = prev + 1 + i, .term = 2, .type = LOG_ENTRY_BARRIER};
        assert_int_equal(append_from(b, 2, 2, prev, prev == 1 ? 1 : 2, prev + 1000, entries, 1000), 0);
        prev += 1000;
        settle(b);
        propose(b, &put, 10);
        settle(b);
        assert_int_equal(put.ended, prev > b->node->applied_index + NODE_MAX_APPLY_GAP);
        if (put.ended == 0)
            node_proposal_cancel(b->node, &put.p);
    }
    assert_int_equal(put.status, STATUS_TOO_MANY_REQUESTS);
    command_encode(&revoke, &out);
    freed.p.take_command = bytes_take(&out, &freed.p.command_len);
    freed.p.done = put_done;
    node_propose(b->node, &freed.p);
    settle(b);
    assert_int_equal(freed.ended, 0); /* what frees memory goes on */
    b->node->apply_out = false;
    node_timer(b->node);
    settle(b);
    propose(b, &put, 10);
    settle(b);
    assert_int_equal(put.ended, 0);
    bench_free(b);
}

static void the_leader_compacts_as_its_flag_says(void **state)
{
    struct bench *b = bench_new();
    struct store_read *read;
    struct store_meta meta;
    struct put put;

    b->compaction = (struct compactor_options){.mode = COMPACTOR_REVISION, .keep_revisions = 10};
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    for (int i = 0; i < 50; i++) {
        propose(b, &put, 10);
        settle(b);
    }
    pass_time(b, COMPACTOR_REVISION_INTERVAL_MS + 1000);
    assert_int_equal(store_read_begin(node_store(b->node), &read), 0);
    assert_int_equal(store_read_meta(read, &meta), 0);
    assert_int_equal(meta.compacted, b->revision - 10);
    store_read_end(read);
    bench_free(b);
}

static struct store_meta read_meta(struct bench *b)
{
    struct store_read *read;
    struct store_meta meta;

    assert_int_equal(store_read_begin(node_store(b->node), &read), 0);
    assert_int_equal(store_read_meta(read, &meta), 0);
    meta.membership = slice_make(NULL, 0);
    store_read_end(read);
    return meta;
}

/* Nothing else is applied any more, so nothing takes it along. */
static void an_idle_node_removes_what_a_compaction_took(void **state)
{
    enum { PUTS = 3000 };
    struct bench *b = bench_new();
    static struct put puts[500];
    struct store_meta meta;

    b->compaction = (struct compactor_options){.mode = COMPACTOR_REVISION, .keep_revisions = 1};
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    for (int i = 0; i < PUTS; i++) {
        propose(b, &puts[i % 500], 10);
        if (i % 500 == 499)
            settle(b);
    }
    settle(b);
    for (meta = read_meta(b); meta.compacted == 0; meta = read_meta(b))
        pass_time(b, COMPACTOR_REVISION_INTERVAL_MS / 100);
    settle(b);
    node_close(b->node); /* on its way: the next start goes on with it */
    assert_int_equal(bench_open(b, 1), 0);
    meta = read_meta(b);
    assert_true(meta.compacted > PUTS / 2 && meta.removal.main <= meta.compacted);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    pass_time(b, 40 * NODE_REMOVAL_PAUSE_MS);
    meta = read_meta(b);
    assert_true(meta.removal.main > meta.compacted);
    bench_free(b);
}

static void publish(struct bench *b, uint64_t id, uint32_t version)
{
    struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH,
                          .member = {.id = id, .name = slice_from_str("m"), .version = version}};
    struct bytes out = {0};
    struct put put = {0};

    command_encode(&cmd, &out);
    put.p.take_command = bytes_take(&out, &put.p.command_len);
    put.p.done = put_done;
    node_propose(b->node, &put.p);
    settle(b);
    assert_true(put.ended == 1 && put.status == STATUS_OK);
}

static struct store_meta meta_of(struct bench *b)
{
    struct store_read *read;
    struct store_meta meta;

    assert_int_equal(store_read_begin(node_store(b->node), &read), 0);
    assert_int_equal(store_read_meta(read, &meta), 0);
    store_read_end(read);
    return meta;
}

static uint16_t grant(struct bench *b)
{
    struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.id = 5, .ttl_s = 60}};
    struct bytes out = {0};
    struct put put = {0};

    command_encode(&cmd, &out);
    put.p.take_command = bytes_take(&out, &put.p.command_len);
    put.p.done = put_done;
    node_propose(b->node, &put.p);
    settle(b);
    assert_int_equal(put.ended, 1);
    return put.status;
}

/* A member of the version before would stop at a command that it does not know. */
static void new_commands_wait_for_the_oldest_member(void **state)
{
    struct bench *b = bench_start(1);

    settle(b);
    publish(b, 1, 0);
    pass_time(b, 3000);
    assert_int_equal(meta_of(b).cluster_version, 0);
    assert_int_equal(meta_of(b).quota_bytes, 0);
    assert_int_equal(grant(b), STATUS_NOT_CAPABLE);
    publish(b, 1, APPLY_VERSION); /* it was replaced by this version */
    pass_time(b, 3000);
    assert_int_equal(meta_of(b).cluster_version, APPLY_VERSION);
    assert_int_equal(meta_of(b).quota_bytes, 2147483648);
    assert_int_equal(grant(b), STATUS_OK);
    bench_free(b);
}

static void the_quota_is_what_the_leaders_flag_says(void **state)
{
    struct bench *b = bench_new();

    for (int round = 0; round < 3; round++) {
        b->quota_bytes = round == 0 ? 1 << 20 : round == 1 ? 0 : -1;
        assert_int_equal(bench_open(b, 1), 0);
        assert_int_equal(node_start(b->node), 0);
        settle(b);
        publish(b, 1, APPLY_VERSION);
        pass_time(b, 3000);
        assert_true(meta_of(b).quota_bytes == (round < 2 ? 1 << 20 : INT64_MAX)); /* not given: as it is */
        if (round < 2)
            node_close(b->node);
    }
    bench_free(b);
}

static void too_many_barriers_are_refused_at_once(void **state)
{
    struct bench *b = bench_start(3);
    struct wait *wait = calloc(NODE_MAX_BARRIERS + 1, sizeof *wait);

    for (int i = 0; i <= NODE_MAX_BARRIERS; i++)
        barrier(b, &wait[i]);
    settle(b);
    assert_int_equal(wait[NODE_MAX_BARRIERS].status, STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(wait[0].ended, 0);
    bench_free(b);
    free(wait);
}

static void a_forward_is_repeated_and_ends_at_its_deadline(void **state)
{
    struct bench *b = bench_start(3);
    const struct sent *first;
    struct bytes copy = {0};
    struct put put;

    append_from(b, 2, 5, 1, 1, 1, NULL, 0);
    propose(b, &put, 1);
    settle(b);
    first = last_sent(b, PEER_FORWARD);
    assert_non_null(first);
    assert_int_equal(first->to, 2);
    bytes_append(&copy, bytes_slice(&first->payload));
    for (int i = 0; i < 69; i++) { /* the leader is there and says nothing about it */
        pass_time(b, 100);
        append_from(b, 2, 5, 1, 1, 1, NULL, 0);
    }
    assert_int_equal(put.ended, 0);
    assert_in_range(count_sent(b, PEER_FORWARD), 10, 20);
    assert_true(slice_equal(bytes_slice(&last_sent(b, PEER_FORWARD)->payload), bytes_slice(&copy)));
    pass_time(b, 100);
    append_from(b, 2, 5, 1, 1, 1, NULL, 0);
    assert_int_equal(put.ended, 1); /* 5 s and two election timeouts */
    assert_int_equal(put.status, STATUS_TIMEOUT);
    bytes_fini(&copy);
    bench_free(b);
}

static void what_the_old_leader_lost_goes_to_the_new_one(void **state)
{
    struct log_entry noop = {.index = 2, .term = 6, .type = LOG_ENTRY_BARRIER};
    struct bench *b = bench_start(3);
    struct peer_forward m;
    struct arena arena;
    struct put put;

    append_from(b, 2, 5, 1, 1, 1, NULL, 0);
    propose(b, &put, 1);
    settle(b);
    append_from(b, 3, 6, 1, 1, 1, NULL, 0); /* a new leader, and nothing of it applied yet */
    assert_int_equal(last_sent(b, PEER_FORWARD)->to, 2);
    append_from(b, 3, 6, 1, 1, 1, &noop, 1);
    append_from(b, 3, 6, 2, 6, 2, NULL, 0); /* committed: what term 5 has not brought it never will */
    assert_int_equal(last_sent(b, PEER_FORWARD)->to, 3);
    arena_init(&arena);
    assert_int_equal(peer_forward_decode(bytes_slice(&last_sent(b, PEER_FORWARD)->payload), &arena, &m), 0);
    assert_int_equal(m.term, 6);
    assert_int_equal(put.ended, 0);
    arena_fini(&arena);
    bench_free(b);
}

static int forward(struct bench *b, uint64_t from, uint64_t origin, uint64_t term, uint64_t sequence, size_t value_bytes)
{
    struct slice command;
    struct peer_forward m = {term, 77, sequence, &command, 1};
    struct bytes out = {0};
    uint8_t *encoded = encode_put(value_bytes, origin, &command.len);
    int rc;

    command.data = encoded;
    peer_forward_encode(&m, &out);
    rc = node_receive(b->node, from, PEER_FORWARD, bytes_slice(&out));
    free(encoded);
    bytes_fini(&out);
    settle(b);
    return rc;
}

static void a_forward_is_appended_once_and_in_its_own_term(void **state)
{
    struct bench *b = bench_start(3);
    struct node_status s, after;

    elect(b);
    node_status(b->node, &s);
    assert_int_equal(forward(b, 2, 2, s.term, 10, 1), 0);
    assert_int_equal(forward(b, 2, 2, s.term, 10, 1), 0);     /* twice */
    assert_int_equal(forward(b, 2, 2, s.term, 9, 1), 0);      /* late, but new */
    assert_int_equal(forward(b, 2, 2, s.term - 1, 11, 1), 0); /* for a leader before */
    node_status(b->node, &after);
    assert_int_equal(after.last_index, s.last_index + 2);
    assert_int_equal(count_sent(b, PEER_FORWARD_REJECT), 0);
    assert_int_equal(forward(b, 2, 3, s.term, 12, 1), -EBADMSG); /* in another's name */
    bench_free(b);
}

static void a_leader_takes_no_more_than_it_may_lose(void **state)
{
    const size_t value = (size_t)8 * 1024 * 1024;
    struct bench *b = bench_start(3);
    struct peer_forward_reject m;
    struct node_status s;

    elect(b);
    node_status(b->node, &s);
    for (uint64_t i = 1; i <= 8; i++)
        assert_int_equal(forward(b, 2, 2, s.term, i, value), 0);
    assert_int_equal(count_sent(b, PEER_FORWARD_REJECT), 0);
    assert_int_equal(forward(b, 2, 2, s.term, 9, 10), 0);
    assert_int_equal(peer_forward_reject_decode(bytes_slice(&last_sent(b, PEER_FORWARD_REJECT)->payload), &m), 0);
    assert_int_equal(m.reason, PEER_FORWARD_BUSY);
    assert_int_equal(m.sequence, 9);
    bench_free(b);
}

static void a_barrier_of_a_leader_needs_an_answer_to_this_very_round(void **state)
{
    struct peer_read_confirm m;
    struct bytes out = {0};
    struct bench *b = bench_start(3);
    struct wait wait;

    elect(b);
    barrier(b, &wait);
    settle(b);
    assert_int_equal(peer_read_confirm_decode(bytes_slice(&last_sent(b, PEER_READ_CONFIRM)->payload), &m), 0);
    m.sequence--;
    peer_read_confirm_encode(&m, &out);
    node_receive(b->node, 3, PEER_READ_CONFIRMED, bytes_slice(&out)); /* to the round before */
    settle(b);
    assert_int_equal(wait.ended, 0);
    m.sequence++;
    bytes_reset(&out);
    peer_read_confirm_encode(&m, &out);
    node_receive(b->node, 3, PEER_READ_CONFIRMED, bytes_slice(&out));
    settle(b);
    assert_int_equal(wait.status, STATUS_OK);
    bytes_fini(&out);
    bench_free(b);
}

static void garbage_costs_the_peer_its_connection_and_nothing_else(void **state)
{
    struct bench *b = bench_start(3);

    for (unsigned type = 0; type < 256; type++)
        assert_int_equal(node_receive(b->node, 2, (uint8_t)type, slice_make("\1\2\3\4", 4)), -EBADMSG);
    assert_int_equal(b->fatals, 0);
    assert_int_equal(append_from(b, 2, 5, 1, 1, 1, NULL, 0), 0);
    assert_int_equal(b->leaders, 1);
    bench_free(b);
}

static void entry_of_garbage_stops(const void *payload, size_t len, const char *says)
{
    struct log_entry e = {.index = 2, .term = 5, .type = LOG_ENTRY_COMMANDS, .payload = slice_make(payload, len)};
    struct bench *b = bench_start(3);

    append_from(b, 2, 5, 1, 1, 1, &e, 1);
    assert_int_equal(b->fatals, 0);
    append_from(b, 2, 5, 2, 5, 2, NULL, 0);
    append_from(b, 2, 5, 2, 5, 2, NULL, 0);
    assert_int_equal(b->fatals, 1);
    assert_non_null(strstr(b->fatal_text, "entry 2"));
    assert_non_null(strstr(b->fatal_text, says));
    bench_free(b);
}

static void a_committed_entry_that_cannot_be_applied_stops_the_node(void **state)
{
    size_t len;
    uint8_t *command = encode_put(1, 2, &len);
    struct bytes entry = {0};

    entry_of_garbage_stops("\7", 1, "no list of commands");
    entry_begin(&entry);
    entry_add(&entry, slice_from_str("no command"));
    entry_of_garbage_stops(entry.data, entry.len, "no command");
    bytes_reset(&entry);
    put_le16(command + 2, 60000); /* a kind of the future */
    entry_begin(&entry);
    entry_add(&entry, slice_make(command, len));
    entry_of_garbage_stops(entry.data, entry.len, "upgrade");
    bytes_fini(&entry);
    free(command);
}

static void a_failed_sync_stops_the_node(void **state)
{
    struct bench *b = bench_start(1);
    struct put put;

    settle(b);
    b->sync_error = -EIO;
    propose(b, &put, 1);
    settle(b);
    assert_int_equal(b->fatals, 1);
    assert_int_equal(b->fatal_error, -EIO);
    assert_int_equal(put.ended, 0);
    bench_free(b);
    assert_int_equal(put.status, STATUS_STOPPED); /* nobody knows */
}

static void a_full_disk_lets_writes_wait(void **state)
{
    struct bench *b = bench_start(1);
    struct put put[4];
    struct wait wait;

    settle(b);
    b->idle = false;
    b->zero_error = -ENOSPC;
    for (int i = 0; i < 4; i++)
        propose(b, &put[i], (size_t)1024 * 1024); /* more than is zeroed ahead */
    settle(b);
    assert_int_equal(put[3].ended, 0);
    assert_int_equal(b->fatals, 0);
    barrier(b, &wait);
    pass_time(b, 2000);
    assert_int_equal(wait.status, STATUS_OK); /* reads go on */
    assert_int_equal(wait.ended, 1);
    assert_int_equal(put[3].ended, 0);
    b->zero_error = 0;
    pass_time(b, 1000);
    assert_int_equal(put[3].ended, 1);
    assert_int_equal(put[3].status, STATUS_OK);
    bench_free(b);
}

static void a_new_start_goes_on_where_it_was(void **state)
{
    struct bench *b = bench_start(1);
    struct node_status before, after;
    struct put put;

    propose(b, &put, 1);
    settle(b);
    node_status(b->node, &before);
    node_close(b->node);
    b->n_sent = 0;
    assert_int_equal(bench_open(b, 1), 0);
    assert_int_equal(node_start(b->node), 0);
    settle(b);
    node_status(b->node, &after);
    assert_int_equal(after.applied_index, before.applied_index + 1); /* the first entry of its new term */
    assert_int_equal(after.term, before.term + 1);
    assert_int_equal(after.revision, before.revision);
    propose(b, &put, 1);
    settle(b);
    assert_int_equal(put.revision, before.revision + 1);
    bench_free(b);
}

static void a_store_without_its_log_does_not_start(void **state)
{
    struct bench *b = bench_start(1);
    char path[128];
    struct put put;

    propose(b, &put, 1);
    settle(b);
    node_close(b->node);
    snprintf(path, sizeof path, "%s/raft", b->dir);
    remove_tree(path);
    b->node = NULL;
    assert_int_equal(bench_open(b, 1), -EUCLEAN);
    assert_non_null(strstr(b->text, "log and store do not fit"));
    b->node = NULL;
    bench_free(b);
}

static void the_first_entry_is_the_same_whoever_writes_it(void **state)
{
    struct core_member sorted[3] = {{1, "a:1", true, false}, {2, "b:1", true, false}, {3, "c:1", true, false}};
    struct bench *b = bench_start(3); /* its list of members is in another order */
    struct bytes want = {0};
    struct arena arena;
    struct log_entry e;

    arena_init(&arena);
    assert_int_equal(core_membership_encode(sorted, 3, &want), 0);
    assert_int_equal(log_get(b->node->log, 1, &arena, &e), 0);
    assert_int_equal(e.term, 1);
    assert_int_equal(e.type, LOG_ENTRY_MEMBERSHIP);
    assert_true(slice_equal(e.payload, bytes_slice(&want)));
    bytes_fini(&want);
    arena_fini(&arena);
    bench_free(b);
}

static void a_transfer_goes_to_a_voter_that_can_be_reached(void **state)
{
    struct bench *b = bench_start(3);
    struct put put;

    elect(b);
    node_transfer(b->node); /* nobody is connected */
    assert_null(last_sent(b, PEER_TIMEOUT_NOW));
    node_peer_connected(b->node, 2);
    node_transfer(b->node);
    assert_non_null(last_sent(b, PEER_TIMEOUT_NOW));
    assert_int_equal(last_sent(b, PEER_TIMEOUT_NOW)->to, 2);
    propose(b, &put, 1);
    settle(b);
    assert_int_equal(put.ended, 0); /* it waits for the new leader, or for this one when nothing comes of it */
    bench_free(b);
}

static void a_leader_with_a_full_disk_hands_over_once(void **state)
{
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};
    struct bench *b = bench_start(3);
    struct node_status s;
    struct put put[4];

    elect(b);
    node_peer_connected(b->node, 2);
    b->idle = false;
    b->zero_error = -ENOSPC;
    for (int i = 0; i < 4; i++)
        propose(b, &put[i], (size_t)1024 * 1024);
    settle(b);
    node_status(b->node, &s);
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index, 0}; /* member 2 has it all */
    from_peer(b, &heard);
    assert_int_equal(count_sent(b, PEER_TIMEOUT_NOW), 1);
    for (int i = 0; i < 15; i++) { /* nothing comes of it: it stays, and asks no more */
        pass_time(b, 100);
        from_peer(b, &heard);
    }
    assert_int_equal(count_sent(b, PEER_TIMEOUT_NOW), 1);
    b->zero_error = 0;
    pass_time(b, 600);
    assert_int_equal(put[0].ended, 1); /* member 2 had it: it is committed */
    assert_int_equal(put[0].status, STATUS_OK);
    bench_free(b);
}

static void a_leader_whose_process_died_is_replaced_before_its_silence_is_noticed(void **state)
{
    struct bench *b = bench_start(3);

    assert_int_equal(append_from(b, 2, 5, 1, 1, 1, NULL, 0), 0);
    node_peer_disconnected(b->node, 3); /* another one: no news */
    pass_time(b, 400);
    assert_null(last_sent(b, PEER_VOTE));
    assert_int_equal(append_from(b, 2, 5, 1, 1, 1, NULL, 0), 0);
    node_peer_disconnected(b->node, 2);
    pass_time(b, 100);
    assert_int_equal(append_from(b, 2, 5, 1, 1, 1, NULL, 0), 0); /* only the connection broke */
    pass_time(b, 400);
    assert_null(last_sent(b, PEER_VOTE));
    node_peer_disconnected(b->node, 2);
    pass_time(b, 302);
    assert_non_null(last_sent(b, PEER_VOTE)); /* an election timeout is 1000 to 2000 */
    assert_int_equal(b->no_leaders, 0);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sole_member_answers_puts_and_barriers),
        cmocka_unit_test(what_waits_together_shares_an_entry),
        cmocka_unit_test(an_undecodable_command_is_refused_before_the_log),
        cmocka_unit_test(without_a_leader_waits_fail_after_three_election_timeouts),
        cmocka_unit_test(too_many_proposals_are_refused_at_once),
        cmocka_unit_test(too_many_bytes_are_refused_at_once),
        cmocka_unit_test(a_member_whose_store_is_far_behind_takes_no_more),
        cmocka_unit_test(the_leader_compacts_as_its_flag_says),
        cmocka_unit_test(an_idle_node_removes_what_a_compaction_took),
        cmocka_unit_test(new_commands_wait_for_the_oldest_member),
        cmocka_unit_test(the_quota_is_what_the_leaders_flag_says),
        cmocka_unit_test(too_many_barriers_are_refused_at_once),
        cmocka_unit_test(a_forward_is_repeated_and_ends_at_its_deadline),
        cmocka_unit_test(what_the_old_leader_lost_goes_to_the_new_one),
        cmocka_unit_test(a_forward_is_appended_once_and_in_its_own_term),
        cmocka_unit_test(a_leader_takes_no_more_than_it_may_lose),
        cmocka_unit_test(a_barrier_of_a_leader_needs_an_answer_to_this_very_round),
        cmocka_unit_test(garbage_costs_the_peer_its_connection_and_nothing_else),
        cmocka_unit_test(a_committed_entry_that_cannot_be_applied_stops_the_node),
        cmocka_unit_test(a_failed_sync_stops_the_node),
        cmocka_unit_test(a_full_disk_lets_writes_wait),
        cmocka_unit_test(a_new_start_goes_on_where_it_was),
        cmocka_unit_test(a_store_without_its_log_does_not_start),
        cmocka_unit_test(the_first_entry_is_the_same_whoever_writes_it),
        cmocka_unit_test(a_transfer_goes_to_a_voter_that_can_be_reached),
        cmocka_unit_test(a_leader_with_a_full_disk_hands_over_once),
        cmocka_unit_test(a_leader_whose_process_died_is_replaced_before_its_silence_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
