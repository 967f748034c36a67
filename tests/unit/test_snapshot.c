/* Checkpoints to members that are far behind: what a follower does about an offer, and what a leader offers. */
#include <fcntl.h>

#include "raft/member.h"
#include "tests/unit/node_bench.h"

static void offer(struct bench *b, uint64_t from, uint64_t term, uint64_t index, uint64_t bytes, uint32_t crc)
{
    struct peer_snapshot_offer m = {term, index, term, bytes, crc};
    struct bytes out = {0};

    peer_snapshot_offer_encode(&m, &out);
    assert_int_equal(node_receive(b->node, from, PEER_SNAPSHOT_OFFER, bytes_slice(&out)), 0);
    settle(b);
    bytes_fini(&out);
}

static uint8_t told(const struct bench *b)
{
    struct peer_snapshot_reply m;

    assert_non_null(last_sent(b, PEER_SNAPSHOT_REPLY));
    assert_int_equal(peer_snapshot_reply_decode(bytes_slice(&last_sent(b, PEER_SNAPSHOT_REPLY)->payload), &m), 0);
    return m.code;
}

static void only_the_leader_s_offer_is_taken(void **state)
{
    struct bench *b = bench_start(3);

    assert_int_equal(append_from(b, 2, 2, 1, 1, 1, NULL, 0), 0);
    offer(b, 3, 2, 100, 4096, 1);
    offer(b, 2, 1, 100, 4096, 1);
    assert_int_equal(b->fetches, 0);
    offer(b, 2, 2, 100, 4096, 1);
    assert_int_equal(b->fetches, 1);
    assert_true(b->fetched.from == 2 && b->fetched.index == 100 && b->fetched.bytes == 4096);
    assert_int_equal(told(b), PEER_SNAPSHOT_FETCHING);
    offer(b, 2, 2, 100, 4096, 1); /* again, with the next heartbeat */
    assert_int_equal(b->fetches, 1);
    offer(b, 2, 2, 200, 4096, 2); /* a newer one takes its place */
    assert_int_equal(b->fetches, 2);
    bench_free(b);
}

static void what_is_here_already_is_not_fetched(void **state)
{
    struct log_entry e = {.index = 2, .term = 2, .type = LOG_ENTRY_BARRIER};
    struct bench *b = bench_start(3);

    assert_int_equal(append_from(b, 2, 2, 1, 1, 2, &e, 1), 0);
    offer(b, 2, 2, 2, 4096, 1);
    assert_int_equal(b->fetches, 0);
    assert_int_equal(told(b), PEER_SNAPSHOT_INSTALLED);
    bench_free(b);
}

/* The old state is untouched, the node goes on, and the next offer is taken. */
static void a_file_that_is_none_is_dropped(void **state)
{
    struct bench *b = bench_start(3);
    struct node_status before, after;
    int fd;

    assert_int_equal(append_from(b, 2, 2, 1, 1, 1, NULL, 0), 0);
    node_status(b->node, &before);
    offer(b, 2, 2, 100, 4096, 1);
    fd = open(b->fetched.path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "not a checkpoint", 16), 16);
    close(fd);
    node_fetched(b->node, 0);
    settle(b);
    assert_int_equal(b->replaced, 0);
    assert_int_equal(b->fatals, 0);
    assert_int_equal(access(b->fetched.path, F_OK), -1);
    node_status(b->node, &after);
    assert_int_equal(after.applied_index, before.applied_index);
    offer(b, 2, 2, 100, 4096, 1);
    assert_int_equal(b->fetches, 2);
    node_fetched(b->node, -ENOENT); /* the leader has a newer one by now */
    offer(b, 2, 2, 300, 4096, 3);
    assert_int_equal(b->fetches, 3);
    bench_free(b);
}

struct maintain {
    struct node_maintain m;
    unsigned ended;
    char path[256];
};

static void maintained(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    struct maintain *w = LIST_ITEM(m, struct maintain, m);

    assert_int_equal(status, STATUS_OK);
    w->ended++;
    snprintf(w->path, sizeof w->path, "%s", path);
}

/* A checkpoint of one node takes the place of another's state; the second goes on behind it when it is opened again. */
static void a_checkpoint_takes_the_place_of_an_older_state(void **state)
{
    struct bench *a = bench_start(1), *b = bench_new();
    struct maintain w = {.m = {.op = SOCKET_MAINTAIN_CHECKPOINT, .done = maintained}};
    struct checkpoint_info info;
    struct node_status s, of_a;
    char command[700];
    struct put put;

    for (int i = 0; i < 20; i++) {
        propose(a, &put, 10);
        settle(a);
    }
    node_maintain(a->node, &w.m);
    settle(a);
    assert_int_equal(w.ended, 1);
    assert_int_equal(checkpoint_read_info(w.path, &info), 0);
    node_status(a->node, &of_a);
    assert_int_equal(bench_open(b, 3), 0);
    assert_int_equal(node_start(b->node), 0);
    assert_int_equal(append_from(b, 2, info.applied_term + 1, 1, 1, 1, NULL, 0), 0);
    offer(b, 2, info.applied_term + 1, info.applied_index, info.bytes, info.crc);
    assert_int_equal(b->fetches, 1);
    snprintf(command, sizeof command, "cp %s %s", w.path, b->fetched.path);
    assert_int_equal(system(command), 0);
    node_fetched(b->node, 0);
    settle(b);
    /* The offer named another term for that entry than the file has: not this one. */
    assert_int_equal(b->replaced, 0);
    {
        struct peer_snapshot_offer m = {info.applied_term + 1, info.applied_index, info.applied_term, info.bytes, info.crc};
        struct bytes out = {0};

        peer_snapshot_offer_encode(&m, &out);
        assert_int_equal(node_receive(b->node, 2, PEER_SNAPSHOT_OFFER, bytes_slice(&out)), 0);
        settle(b);
        bytes_fini(&out);
    }
    assert_int_equal(b->fetches, 2);
    assert_int_equal(system(command), 0);
    node_fetched(b->node, 0);
    settle(b);
    assert_int_equal(b->replaced, 1);
    node_close(b->node);
    b->node = NULL;
    assert_int_equal(bench_open(b, 3), 0);
    assert_int_equal(node_start(b->node), 0);
    node_status(b->node, &s);
    assert_int_equal(s.applied_index, info.applied_index + 1); /* by that membership it is the only one, and leads */
    assert_int_equal(s.revision, info.revision);
    bench_free(a);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_leader_s_offer_is_taken),
        cmocka_unit_test(what_is_here_already_is_not_fetched),
        cmocka_unit_test(a_file_that_is_none_is_dropped),
        cmocka_unit_test(a_checkpoint_takes_the_place_of_an_older_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
