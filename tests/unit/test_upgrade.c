/* Members of the first version beside this one: what they would stop or hang up at is neither proposed nor sent. */
#include "raft/member.h"
#include "tests/unit/node_bench.h"

/* ---- the rules of a change ---- */

static uint16_t verdict(const struct member_view *v, enum member_op op, uint64_t id)
{
    static char urls[MEMBER_URLS_MAX_BYTES];
    struct member_change change = {op, false, id, "http://x:1"};
    struct core_member out[9];
    size_t n;

    return member_change_apply(v, &change, urls, sizeof urls, out, &n);
}

static void no_change_of_members_but_that_the_last_older_one_goes(void **state)
{
    static const char *const urls[] = {"http://a:1", "http://b:1", "http://c:1"};
    struct member_state states[3];
    struct member_view v = {.self = 1, .last_index = 1000, .members = states, .n = 3, .max_learners = 1, .strict = true};

    for (size_t i = 0; i < 3; i++)
        states[i] = (struct member_state){
            .member = {i + 1, urls[i], true, false}, .started = true, .connected = i != 2, .match_index = 1000, .older = i == 2};
    assert_int_equal(verdict(&v, MEMBER_ADD, 9), STATUS_NOT_CAPABLE);
    assert_int_equal(verdict(&v, MEMBER_UPDATE, 2), STATUS_NOT_CAPABLE);
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 2), STATUS_NOT_CAPABLE);
    assert_int_equal(verdict(&v, MEMBER_MOVE_LEADER, 3), STATUS_OK); /* every version knows that */
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 3), STATUS_OK);      /* a dead one does not keep the others from it for good */
    states[1].older = true;
    assert_int_equal(verdict(&v, MEMBER_REMOVE, 3), STATUS_NOT_CAPABLE);
}

/* ---- one node ---- */

struct asked {
    struct node_proposal p;
    struct node_lease l;
    struct node_member_change c;
    int ended;
    uint16_t status;
};

static void command_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct asked *a = LIST_ITEM(p, struct asked, p);

    a->ended++;
    a->status = status;
}

static void lease_done(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct asked *a = LIST_ITEM(l, struct asked, l);

    a->ended++;
    a->status = status;
}

static void change_done(struct node_member_change *c, const struct socket_member_done *done)
{
    struct asked *a = LIST_ITEM(c, struct asked, c);

    a->ended++;
    a->status = done->status;
}

static void propose_command(struct bench *b, struct asked *a, const struct command *cmd)
{
    struct bytes out = {0};

    *a = (struct asked){.ended = 0};
    command_encode(cmd, &out);
    a->p.take_command = bytes_take(&out, &a->p.command_len);
    a->p.done = command_done;
    node_propose(b->node, &a->p);
    settle(b);
}

static uint16_t grant(struct bench *b, struct asked *a)
{
    const struct command cmd = {.kind = COMMAND_LEASE_GRANT, .lease = {.id = 5, .ttl_s = 60}};

    propose_command(b, a, &cmd);
    return a->ended != 0 ? a->status : STATUS_OK;
}

static uint16_t keep_alive(struct bench *b, struct asked *a)
{
    *a = (struct asked){.l = {.id = 5, .prolong = true, .done = lease_done}};
    node_lease(b->node, &a->l);
    settle(b);
    return a->ended != 0 ? a->status : STATUS_OK;
}

/* Time that passes with a follower that has everything. */
static void go_on(struct bench *b, uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += 100) {
        pass_time(b, 100);
        has_all(b, 2);
    }
}

static void publish(struct bench *b, uint64_t id, uint32_t version)
{
    const struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH,
                                .member = {.id = id, .name = slice_from_str("m"), .version = version}};
    struct asked a;

    propose_command(b, &a, &cmd);
    has_all(b, 2);
    assert_true(a.ended == 1 && a.status == STATUS_OK);
}

static uint32_t cluster_version(struct bench *b)
{
    struct store_read *read;
    struct store_meta meta;

    assert_int_equal(store_read_begin(node_store(b->node), &read), 0);
    assert_int_equal(store_read_meta(read, &meta), 0);
    store_read_end(read);
    return meta.cluster_version;
}

static uint32_t published(struct bench *b, uint64_t id)
{
    return members_known(b->node, id)->version;
}

/* The leader of three who have all published that they are new. */
static struct bench *start_three(void)
{
    struct bench *b = bench_start(3);

    elect(b);
    node_peer_runs(b->node, 3, 0); /* and one says otherwise */
    node_peer_connected(b->node, 3);
    for (uint64_t id = 1; id <= 3; id++)
        publish(b, id, APPLY_VERSION);
    return b;
}

static void what_an_older_member_does_not_know_is_refused(void **state)
{
    struct bench *b = start_three();
    struct asked a;

    assert_int_equal(grant(b, &a), STATUS_NOT_CAPABLE);
    assert_int_equal(keep_alive(b, &a), STATUS_NOT_CAPABLE);
    go_on(b, 3000);
    assert_int_equal(cluster_version(b), 0);
    node_peer_disconnected(b->node, 3);
    node_peer_runs(b->node, 3, APPLY_VERSION); /* it was replaced, and connects */
    node_peer_connected(b->node, 3);
    publish(b, 3, APPLY_VERSION);
    assert_int_equal(grant(b, &a), STATUS_OK);
    has_all(b, 2);
    assert_true(a.ended == 1 && a.status == STATUS_OK);
    go_on(b, 3000);
    assert_int_equal(cluster_version(b), APPLY_VERSION);
    bench_free(b);
}

/* The connection knows it first; the next leader may have none. */
static void a_member_that_went_back_is_published_as_older(void **state)
{
    struct bench *b = start_three();
    struct asked a;

    assert_int_equal(published(b, 3), APPLY_VERSION);
    go_on(b, 2000);
    assert_int_equal(published(b, 3), 0);
    assert_string_equal(members_known(b->node, 3)->name, "m");
    node_peer_disconnected(b->node, 3);
    assert_int_equal(grant(b, &a), STATUS_NOT_CAPABLE);
    go_on(b, 3000);
    assert_int_equal(cluster_version(b), 0);
    bench_free(b);
}

/* What a member published while this node was of the first version is here without its version. */
static void a_connection_says_more_than_what_was_published(void **state)
{
    struct bench *b = bench_start(3);

    elect(b);
    publish(b, 1, APPLY_VERSION);
    publish(b, 2, 0);
    publish(b, 3, APPLY_VERSION);
    go_on(b, 3000);
    assert_int_equal(cluster_version(b), 0);
    node_peer_runs(b->node, 2, APPLY_VERSION);
    node_peer_connected(b->node, 2);
    go_on(b, 3000);
    assert_int_equal(cluster_version(b), APPLY_VERSION);
    bench_free(b);
}

static void an_older_leader_is_asked_for_nothing_that_it_does_not_know(void **state)
{
    struct bench *b = bench_start(3);
    struct asked a;

    node_peer_runs(b->node, 2, 0);
    node_peer_connected(b->node, 2);
    assert_int_equal(append_from(b, 2, 2, 1, 1, 1, NULL, 0), 0);
    assert_int_equal(keep_alive(b, &a), STATUS_NOT_CAPABLE);
    assert_int_equal(grant(b, &a), STATUS_NOT_CAPABLE);
    a = (struct asked){.c = {.op = SOCKET_MEMBER_REMOVE, .id = 3, .take_peer_urls = strdup(""), .done = change_done}};
    node_member_change(b->node, &a.c);
    settle(b);
    assert_true(a.ended == 1 && a.status == STATUS_NOT_CAPABLE);
    assert_int_equal(count_sent(b, PEER_LEASE) + count_sent(b, PEER_MEMBER_CHANGE) + count_sent(b, PEER_FORWARD), 0);
    bench_free(b);
}

static void frames_that_an_older_member_does_not_know_are_not_sent(void **state)
{
    struct bench *b = bench_start(3);
    struct bytes payload = {0};

    node_peer_runs(b->node, 2, 0);
    bytes_u8(&payload, 1);
    for (unsigned type = PEER_VOTE; type < 64; type++)
        for (uint64_t to = 2; to <= 3; to++)
            node_send(b->node, to, (uint8_t)type, &payload);
    for (unsigned type = PEER_VOTE; type < 64; type++) {
        bool known = type <= PEER_TIMEOUT_NOW || (type >= PEER_FORWARD && type <= PEER_COMMIT) ||
                     (type > PEER_SNAPSHOT_REPLY && type < PEER_FORWARD); /* free numbers */

        assert_int_equal(count_sent(b, (uint8_t)type), known ? 2 : 1);
    }
    bytes_fini(&payload);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_change_of_members_but_that_the_last_older_one_goes),
        cmocka_unit_test(what_an_older_member_does_not_know_is_refused),
        cmocka_unit_test(a_member_that_went_back_is_published_as_older),
        cmocka_unit_test(a_connection_says_more_than_what_was_published),
        cmocka_unit_test(an_older_leader_is_asked_for_nothing_that_it_does_not_know),
        cmocka_unit_test(frames_that_an_older_member_does_not_know_are_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
