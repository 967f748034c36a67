/* One node by itself: what it answers at its limits and deadlines, to peers that lie, and when it must stop. The
 * other members are this test. Time, network and workers are by hand; disk and store are real, in a new directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/command.h"
#include "raft/node_state.h"

#define MAX_SENT 4096
#define ELECTION_MS 1000

struct sent {
    uint64_t to;
    uint8_t type;
    struct bytes payload;
};

struct bench { /* a node on the bench */
    char dir[64], store_dir[80];
    struct disk real, disk; /* disk: the real one behind the faults */
    int sync_error, zero_error;
    uint64_t now, timer, random;
    struct work *work[WORK_QUEUES];
    bool idle; /* work may be done in line */
    struct sent sent[MAX_SENT];
    size_t n_sent;
    struct node *node;
    char text[512];
    unsigned fatals, leaders, no_leaders;
    int fatal_error;
    char fatal_text[512];
    int64_t revision;
};

/* ---- the tables ---- */

static uint64_t now_ms(void *ctx)
{
    return ((struct bench *)ctx)->now;
}

static int64_t wall_ns(void *ctx)
{
    return 1700000000000000000;
}

static uint64_t random_u64(void *ctx)
{
    struct bench *b = ctx;

    return b->random = b->random * 6364136223846793005u + 1442695040888963407u;
}

static void set_timer(void *ctx, uint64_t at_ms)
{
    ((struct bench *)ctx)->timer = at_ms;
}

static void send_frame(void *ctx, uint64_t to, uint8_t type, struct slice payload)
{
    struct bench *b = ctx;
    struct sent *s = &b->sent[b->n_sent++ % MAX_SENT];

    bytes_fini(&s->payload);
    *s = (struct sent){.to = to, .type = type};
    bytes_append(&s->payload, payload);
}

static void set_peers(void *ctx, const uint64_t *ids, const char *const *urls, size_t n)
{
}

static void push_out(void *ctx)
{
}

static void submit(void *ctx, enum work_queue queue, struct work *w)
{
    struct bench *b = ctx;

    assert_null(b->work[queue]);
    b->work[queue] = w;
}

static bool idle(void *ctx, enum work_queue queue)
{
    struct bench *b = ctx;

    return b->idle && b->work[queue] == NULL;
}

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    ((struct bench *)ctx)->revision = revision;
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct bench *b = ctx;

    b->leaders += leader != 0;
    b->no_leaders += leader == 0;
}

static void on_fatal(void *ctx, int error, const char *text)
{
    struct bench *b = ctx;

    b->fatals++;
    b->fatal_error = error;
    snprintf(b->fatal_text, sizeof b->fatal_text, "%s", text);
}

static int faulty_sync(void *ctx, struct disk_file *f)
{
    struct bench *b = ctx;

    return b->sync_error != 0 ? b->sync_error : b->real.sync(b->real.ctx, f);
}

static int faulty_zero(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len)
{
    struct bench *b = ctx;

    return b->zero_error != 0 ? b->zero_error : b->real.zero(b->real.ctx, f, offset, len);
}

#define PASS(name, parameters, ...)                            \
    static int pass_##name parameters                          \
    {                                                          \
        struct bench *b = ctx;                                 \
        return b->real.name(b->real.ctx, __VA_ARGS__);         \
    }
PASS(open, (void *ctx, const char *path, unsigned flags, struct disk_file **ret_file), path, flags, ret_file)
PASS(size, (void *ctx, struct disk_file *f, uint64_t *ret_bytes), f, ret_bytes)
PASS(read, (void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len), f, offset, buf, len,
     ret_len)
PASS(write, (void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len), f, offset, buf, len)
PASS(truncate, (void *ctx, struct disk_file *f, uint64_t len), f, len)
PASS(rename, (void *ctx, const char *from, const char *to), from, to)
PASS(remove, (void *ctx, const char *path), path)
PASS(mkdir, (void *ctx, const char *path), path)
PASS(sync_dir, (void *ctx, const char *path), path)
PASS(list, (void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg), path, fn, arg)

static void pass_close(void *ctx, struct disk_file *f)
{
    struct bench *b = ctx;

    b->real.close(b->real.ctx, f);
}

/* ---- life ---- */

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    char child[512];

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        remove_tree(child);
    }
    if (dir != NULL)
        closedir(dir);
    remove(path);
}

static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    struct stat st;

    snprintf(b->dir, sizeof b->dir, "%s/test-node-XXXXXX", stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->store_dir, sizeof b->store_dir, "%s/store", b->dir);
    mkdir(b->store_dir, 0700);
    assert_int_equal(disk_posix_open(b->dir, &b->real), 0);
    b->disk = (struct disk){b, pass_open, pass_close, pass_size, pass_read, pass_write, faulty_zero, pass_truncate,
                            faulty_sync, pass_rename, pass_remove, pass_mkdir, pass_sync_dir, pass_list};
    b->now = 1000;
    b->random = 7;
    b->idle = true;
    return b;
}

/* Member 1 of so many. */
static int bench_open(struct bench *b, unsigned members)
{
    static const struct node_member all[3] = {
        {.id = 3, .name = "c", .peer_url = "c:1", .voter = true},
        {.id = 1, .name = "a", .peer_url = "a:1", .voter = true},
        {.id = 2, .name = "b", .peer_url = "b:1", .voter = true},
    };
    struct node_config config = {.id = 1, .cluster_id = 9, .name = "a", .members = members == 1 ? all + 1 : all,
                                 .n_members = members, .heartbeat_ms = 100, .election_ms = ELECTION_MS,
                                 .store_dir = b->store_dir, .store_flags = STORE_NOSYNC,
                                 .store_map_bytes = (size_t)1 << 30};
    struct clock clock = {b, now_ms, wall_ns, random_u64, set_timer};
    struct network network = {b, send_frame, set_peers, push_out};
    struct workers workers = {b, submit, idle};
    struct node_callbacks callbacks = {b, on_revision, on_leader, on_fatal};

    return node_open(&config, &b->disk, &clock, &network, &workers, &callbacks, &b->node, b->text, sizeof b->text);
}

static struct bench *bench_start(unsigned members)
{
    struct bench *b = bench_new();

    assert_int_equal(bench_open(b, members), 0);
    assert_int_equal(node_start(b->node), 0);
    return b;
}

static void bench_free(struct bench *b)
{
    node_close(b->node);
    disk_posix_close(&b->real);
    for (size_t i = 0; i < MAX_SENT; i++)
        bytes_fini(&b->sent[i].payload);
    remove_tree(b->dir);
    free(b);
}

/* Does what is due: work, then the timer, until this moment is over. */
static void settle(struct bench *b)
{
    for (bool more = true; more;) {
        more = false;
        for (int q = 0; q < WORK_QUEUES; q++) {
            struct work *w = b->work[q];

            if (w == NULL)
                continue;
            b->work[q] = NULL;
            w->run(w);
            w->done(w);
            more = true;
        }
        if (b->timer != 0 && b->timer <= b->now) {
            b->timer = 0;
            node_timer(b->node);
            more = true;
        }
    }
}

static void pass_time(struct bench *b, uint64_t ms)
{
    for (uint64_t end = b->now + ms; b->now < end;) {
        b->now = b->timer > b->now && b->timer < end ? b->timer : end;
        settle(b);
    }
}

static const struct sent *last_sent(const struct bench *b, uint8_t type)
{
    for (size_t i = b->n_sent; i-- > 0 && b->n_sent - i < MAX_SENT;)
        if (b->sent[i % MAX_SENT].type == type)
            return &b->sent[i % MAX_SENT];
    return NULL;
}

static size_t count_sent(const struct bench *b, uint8_t type)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n_sent && i < MAX_SENT; i++)
        n += b->sent[i].type == type;
    return n;
}

/* ---- the other members ---- */

static int from_peer(struct bench *b, const struct peer_message *m)
{
    struct bytes out = {0};
    int rc;

    peer_message_encode(m, &out);
    rc = node_receive(b->node, m->peer, (uint8_t)m->type, bytes_slice(&out));
    bytes_fini(&out);
    settle(b);
    return rc;
}

static int append_from(struct bench *b, uint64_t leader, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                       struct log_entry *entries, size_t n)
{
    struct peer_message m = {.type = PEER_APPEND, .peer = leader};

    m.append = (struct peer_append){term, prev, prev_term, commit, entries, n};
    return from_peer(b, &m);
}

static void elect(struct bench *b)
{
    struct peer_message vote = {.type = PEER_VOTE_RESULT, .peer = 2};
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};
    struct node_status s;

    for (int i = 0; i < 100; i++) {
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
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index}; /* its first entry commits */
    from_peer(b, &heard);
}

/* ---- requests ---- */

struct put {
    struct node_proposal p;
    unsigned ended;
    uint16_t status;
    int64_t revision;
};

static void put_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct put *put = LIST_ITEM(p, struct put, p);

    put->ended++;
    put->status = status;
    put->revision = revision;
}

static uint8_t *encode_put(size_t value_bytes, uint64_t origin, size_t *ret_len)
{
    struct command cmd = {.kind = COMMAND_PUT, .origin = origin};
    struct bytes value = {0}, out = {0};

    if (value_bytes > 0)
        memset(bytes_grow(&value, value_bytes), 'v', value_bytes);
    cmd.put.key = slice_from_str("key");
    cmd.put.value = bytes_slice(&value);
    command_encode(&cmd, &out);
    bytes_fini(&value);
    return bytes_take(&out, ret_len);
}

static void propose(struct bench *b, struct put *put, size_t value_bytes)
{
    memset(put, 0, sizeof *put);
    put->p.take_command = encode_put(value_bytes, 0, &put->p.command_len);
    put->p.done = put_done;
    node_propose(b->node, &put->p);
    assert_int_equal(put->ended, 0); /* never from within */
}

struct wait {
    struct node_barrier b;
    unsigned ended;
    uint16_t status;
};

static void wait_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct wait *w = LIST_ITEM(b, struct wait, b);

    w->ended++;
    w->status = status;
}

static void barrier(struct bench *b, struct wait *w)
{
    memset(w, 0, sizeof *w);
    w->b.done = wait_done;
    node_barrier(b->node, &w->b);
    assert_int_equal(w->ended, 0);
}

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
    struct core_member sorted[3] = {{1, "a:1", true}, {2, "b:1", true}, {3, "c:1", true}};
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
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index}; /* member 2 has it all */
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
