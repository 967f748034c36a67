/* raft/socket_server: what front ends may ask, in which order they are answered, and what happens at each limit. The node
 * behind it is a fake that keeps what it is asked.
 * wrap: node_propose node_proposal_cancel node_barrier node_barrier_cancel node_status
 * wrap: node_lease node_lease_cancel node_member_change node_member_change_cancel node_maintain node_maintain_cancel */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/socket.h"
#include "raft/socket_server.h"
#include "tests/unit/temp_dir.h"

#define BOUND_MS 20000
#define KEPT_MAX 65536

struct node {
    struct node_proposal *proposals[KEPT_MAX];
    struct node_barrier *barriers[KEPT_MAX];
    size_t n_proposals, n_barriers, cancelled;
    struct node_lease *lease;
    struct node_member_change *member;
    struct node_maintain *maintain;
};

struct world {
    uv_loop_t loop;
    uv_timer_t tick; /* the front end's side is polled between turns of the loop */
    uint64_t end_ms;
    struct node node;
    struct socket_server *server;
    char dir[64], path[96];
    int fd; /* the front end's */
    struct bytes in;
    size_t in_at;
};

void __wrap_node_propose(struct node *n, struct node_proposal *p);
void __wrap_node_proposal_cancel(struct node *n, struct node_proposal *p);
void __wrap_node_barrier(struct node *n, struct node_barrier *b);
void __wrap_node_barrier_cancel(struct node *n, struct node_barrier *b);
void __wrap_node_status(const struct node *n, struct node_status *ret_status);
void __wrap_node_lease(struct node *n, struct node_lease *l);
void __wrap_node_lease_cancel(struct node *n, struct node_lease *l);
void __wrap_node_member_change(struct node *n, struct node_member_change *m);
void __wrap_node_member_change_cancel(struct node *n, struct node_member_change *m);
void __wrap_node_maintain(struct node *n, struct node_maintain *m);
void __wrap_node_maintain_cancel(struct node *n, struct node_maintain *m);

/* One of each at a time is enough. */
void __wrap_node_lease(struct node *n, struct node_lease *l)
{
    n->lease = l;
}

void __wrap_node_lease_cancel(struct node *n, struct node_lease *l)
{
    assert_ptr_equal(n->lease, l);
    n->cancelled++;
}

void __wrap_node_member_change(struct node *n, struct node_member_change *m)
{
    n->member = m;
}

void __wrap_node_member_change_cancel(struct node *n, struct node_member_change *m)
{
    assert_ptr_equal(n->member, m);
    free(m->take_peer_urls);
    n->cancelled++;
}

void __wrap_node_maintain(struct node *n, struct node_maintain *m)
{
    n->maintain = m;
}

void __wrap_node_maintain_cancel(struct node *n, struct node_maintain *m)
{
    assert_ptr_equal(n->maintain, m);
    n->cancelled++;
}

void __wrap_node_propose(struct node *n, struct node_proposal *p)
{
    assert_true(n->n_proposals < KEPT_MAX);
    n->proposals[n->n_proposals++] = p;
}

void __wrap_node_proposal_cancel(struct node *n, struct node_proposal *p)
{
    size_t i = 0;

    while (i < n->n_proposals && n->proposals[i] != p)
        i++;
    assert_true(i < n->n_proposals); /* it is one that has not ended */
    n->proposals[i] = n->proposals[--n->n_proposals];
    free(p->take_command);
    n->cancelled++;
}

void __wrap_node_barrier(struct node *n, struct node_barrier *b)
{
    assert_true(n->n_barriers < KEPT_MAX);
    n->barriers[n->n_barriers++] = b;
}

void __wrap_node_barrier_cancel(struct node *n, struct node_barrier *b)
{
    size_t i = 0;

    while (i < n->n_barriers && n->barriers[i] != b)
        i++;
    assert_true(i < n->n_barriers);
    n->barriers[i] = n->barriers[--n->n_barriers];
    n->cancelled++;
}

void __wrap_node_status(const struct node *n, struct node_status *ret_status)
{
    *ret_status = (struct node_status){.id = 0xa1, .cluster_id = 0xc1, .leader = 0xa1, .term = 5, .last_index = 9,
                                       .commit_index = 8, .applied_index = 6, .epoch = 1, .revision = 40,
                                       .is_leader = true, .n_members = 1};
    ret_status->members[0].member = (struct node_member){0xa1, "a\"b\\c\n", "http://h:1", true};
}

static void end_proposal(struct node *n, uint16_t status, int64_t revision, struct slice body)
{
    struct node_proposal *p = n->proposals[0];

    assert_true(n->n_proposals > 0);
    memmove(n->proposals, n->proposals + 1, --n->n_proposals * sizeof(n->proposals[0]));
    free(p->take_command);
    p->done(p, status, revision, body);
}

static void end_barrier(struct node *n, uint16_t status, int64_t revision)
{
    struct node_barrier *b = n->barriers[--n->n_barriers];

    b->done(b, status, 1, revision);
}

/* ---- the loop and the front end's side ---- */

static void on_tick(uv_timer_t *t)
{
}

#define WAIT(w, condition)                                                                 \
    do {                                                                                   \
        (w)->end_ms = uv_now(&(w)->loop) + BOUND_MS;                                       \
        while (!(condition)) {                                                             \
            if (uv_now(&(w)->loop) > (w)->end_ms)                                          \
                fail_msg("line %d: %s: not within %d ms", __LINE__, #condition, BOUND_MS); \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                               \
        }                                                                                  \
    } while (0)

static int dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void put(struct world *w, uint8_t type, uint64_t tag, struct slice payload)
{
    struct bytes b;
    ssize_t n;
    size_t at = 0;

    bytes_init(&b);
    socket_frame(&b, type, tag, payload);
    while (at < b.len) {
        n = send(w->fd, b.data + at, b.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            uv_run(&w->loop, UV_RUN_NOWAIT);
        else
            assert_true(n > 0);
        at += n > 0 ? (size_t)n : 0;
    }
    bytes_fini(&b);
}

static void hello(struct world *w, uint32_t version)
{
    struct socket_hello m = {version, slice_from_str("test"), 1};
    struct bytes b;

    bytes_init(&b);
    socket_hello_encode(&m, &b);
    put(w, SOCKET_HELLO, 1, bytes_slice(&b));
    bytes_fini(&b);
}

/* 1: a frame (its payload is valid until the next call); 0: none yet; -1: closed. */
static int poll_frame(struct world *w, struct socket_head *head, struct slice *payload)
{
    for (;;) {
        struct slice rest = slice_make(w->in.data + w->in_at, w->in.len - w->in_at);
        int rc = socket_head_decode(rest, SOCKET_ANSWER_MAX_BYTES, head);
        uint8_t *p;
        ssize_t n;

        assert_true(rc >= 0);
        if (rc == 1 && rest.len - SOCKET_HEAD_BYTES >= head->payload_bytes) {
            *payload = slice_make(rest.data + SOCKET_HEAD_BYTES, head->payload_bytes);
            w->in_at += SOCKET_HEAD_BYTES + head->payload_bytes;
            return 1;
        }
        if (w->in_at == w->in.len)
            w->in_at = w->in.len = 0;
        p = bytes_grow(&w->in, 65536);
        assert_non_null(p);
        n = recv(w->fd, p, 65536, 0);
        w->in.len -= 65536 - (n > 0 ? (size_t)n : 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 0 : -1;
    }
}

static struct slice expect(struct world *w, uint8_t type, uint64_t tag)
{
    struct socket_head head = {0};
    struct slice payload;
    int rc;

    WAIT(w, (rc = poll_frame(w, &head, &payload)) != 0);
    assert_int_equal(rc, 1);
    if (head.type != type || head.tag != tag)
        fail_msg("type %u, tag %llu instead of type %u, tag %llu", head.type, (unsigned long long)head.tag, type,
                 (unsigned long long)tag);
    return payload;
}

static void expect_closed(struct world *w)
{
    struct socket_head head;
    struct slice payload;
    int rc;

    WAIT(w, (rc = poll_frame(w, &head, &payload)) != 0);
    assert_int_equal(rc, -1);
}

static struct socket_proposed expect_proposed(struct world *w, uint64_t tag)
{
    struct socket_proposed m;

    assert_int_equal(socket_proposed_decode(expect(w, SOCKET_PROPOSED, tag), &m), 0);
    return m;
}

static struct socket_barrier_done expect_barrier(struct world *w, uint64_t tag)
{
    struct socket_barrier_done m;

    assert_int_equal(socket_barrier_done_decode(expect(w, SOCKET_BARRIER_DONE, tag), &m), 0);
    return m;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct socket_server_options o = {.name = "n1", .store_dir = "/d/store", .cluster_id = 0xc1, .member_id = 0xa1,
                                      .heartbeat_ms = 100, .election_ms = 1000};
    char text[256];

    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->tick);
    uv_timer_start(&w->tick, on_tick, 1, 1);
    temp_dir(w->dir, sizeof(w->dir), "quorumfs-socket");
    snprintf(w->path, sizeof(w->path), "%s/node.sock", w->dir);
    o.path = w->path;
    o.node = &w->node;
    assert_int_equal(socket_server_open(&w->loop, &o, &w->server, text, sizeof(text)), 0);
    bytes_init(&w->in);
    w->fd = dial(w->path);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    if (w->server != NULL)
        socket_server_close(w->server);
    close(w->fd);
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_int_equal(w->node.n_proposals + w->node.n_barriers, 0); /* ended or cancelled */
    bytes_fini(&w->in);
    assert_int_equal(rmdir(w->dir), 0); /* the socket is gone */
    free(w);
    return 0;
}

static void greet(struct world *w)
{
    hello(w, SOCKET_VERSION);
    expect(w, SOCKET_WELCOME, 1);
}

/* ---- tests ---- */

static void a_hello_is_welcomed(void **state)
{
    struct world *w = *state;
    struct socket_welcome m;
    struct stat st;

    socket_server_on_leader(w->server, 0xa1, 6);
    hello(w, SOCKET_VERSION);
    assert_int_equal(socket_welcome_decode(expect(w, SOCKET_WELCOME, 1), &m), 0);
    assert_true(m.cluster_id == 0xc1 && m.member_id == 0xa1 && m.leader == 0xa1 && m.term == 6);
    assert_true(m.epoch == 1 && m.revision == 40 && m.heartbeat_ms == 100 && m.election_ms == 1000);
    assert_true(slice_equal(m.name, slice_from_str("n1")) && slice_equal(m.store_dir, slice_from_str("/d/store")));
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
}

static void answers_come_before_the_notice(void **state)
{
    struct world *w = *state;
    struct socket_proposed m;
    struct socket_notice notice;

    greet(w);
    put(w, SOCKET_PROPOSE, 7, slice_from_str("first"));
    put(w, SOCKET_PROPOSE, 8, slice_from_str("second"));
    WAIT(w, w->node.n_proposals == 2);
    assert_memory_equal(w->node.proposals[1]->take_command, "second", 6);
    assert_int_equal(w->node.proposals[1]->command_len, 6);
    end_proposal(&w->node, STATUS_OK, 41, slice_from_str("one"));
    socket_server_on_revision(w->server, 1, 41);
    end_proposal(&w->node, STATUS_TIMEOUT, 0, slice_make(NULL, 0));
    socket_server_on_revision(w->server, 1, 42);
    m = expect_proposed(w, 7);
    assert_true(m.status == STATUS_OK && m.revision == 41 && slice_equal(m.body, slice_from_str("one")));
    m = expect_proposed(w, 8);
    assert_int_equal(m.status, STATUS_TIMEOUT);
    assert_int_equal(socket_notice_decode(expect(w, SOCKET_NOTICE, 0), &notice), 0);
    assert_true(notice.epoch == 1 && notice.revision == 42); /* one for both */
}

static void barriers_status_and_leader(void **state)
{
    struct world *w = *state;
    struct socket_barrier_done b;
    struct socket_leader l;
    struct slice json;

    greet(w);
    put(w, SOCKET_BARRIER, 3, slice_make(NULL, 0));
    WAIT(w, w->node.n_barriers == 1);
    end_barrier(&w->node, STATUS_OK, 40);
    b = expect_barrier(w, 3);
    assert_true(b.status == STATUS_OK && b.epoch == 1 && b.revision == 40);
    put(w, SOCKET_STATUS, 4, slice_make(NULL, 0));
    json = expect(w, SOCKET_STATUS_REPLY, 4);
    assert_non_null(memmem(json.data, json.len, "\"lag\":2", 7));
    assert_non_null(memmem(json.data, json.len, "\"name\":\"a\\\"b\\\\c\\u000a\"", 21)); /* nothing breaks out */
    assert_int_equal(json.data[json.len - 1], '}');
    socket_server_on_leader(w->server, 0, 7);
    assert_int_equal(socket_leader_decode(expect(w, SOCKET_LEADER, 0), &l), 0);
    assert_true(l.leader == 0 && l.term == 7);
}

static void put_lease(struct world *w, uint8_t type, uint64_t tag, int64_t id)
{
    struct bytes b;

    bytes_init(&b);
    socket_lease_encode(&(struct socket_lease){id}, &b);
    put(w, type, tag, bytes_slice(&b));
    bytes_fini(&b);
}

static void put_member(struct world *w, uint64_t tag, const char *urls)
{
    struct bytes b;

    bytes_init(&b);
    socket_member_change_encode(&(struct socket_member_change){SOCKET_MEMBER_ADD, true, 0, slice_from_str(urls)}, &b);
    put(w, SOCKET_MEMBER, tag, bytes_slice(&b));
    bytes_fini(&b);
}

static void put_maintain(struct world *w, uint64_t tag)
{
    struct bytes b;

    bytes_init(&b);
    socket_maintain_encode(&(struct socket_maintain){SOCKET_MAINTAIN_MOVE_LEADER, 5}, &b);
    put(w, SOCKET_MAINTAIN, tag, bytes_slice(&b));
    bytes_fini(&b);
}

static void leases_are_passed_on_and_answered(void **state)
{
    struct world *w = *state;
    struct socket_keepalive_done keepalive;
    struct socket_lease_time_done time;

    greet(w);
    put_lease(w, SOCKET_KEEPALIVE, 3, -77);
    WAIT(w, w->node.lease != NULL);
    assert_true(w->node.lease->prolong && w->node.lease->id == -77);
    w->node.lease->done(w->node.lease, STATUS_OK, 60, 60);
    assert_int_equal(socket_keepalive_done_decode(expect(w, SOCKET_KEEPALIVE_DONE, 3), &keepalive), 0);
    assert_true(keepalive.status == STATUS_OK && keepalive.ttl_s == 60);
    w->node.lease = NULL;
    put_lease(w, SOCKET_LEASE_TIME, 4, 78);
    WAIT(w, w->node.lease != NULL);
    assert_false(w->node.lease->prolong);
    w->node.lease->done(w->node.lease, STATUS_OK, 60, 7);
    assert_int_equal(socket_lease_time_done_decode(expect(w, SOCKET_LEASE_TIME_DONE, 4), &time), 0);
    assert_true(time.status == STATUS_OK && time.granted_s == 60 && time.remaining_s == 7);
}

static void changes_of_members_and_maintenance_are_passed_on_and_answered(void **state)
{
    struct socket_member_done done = {.status = STATUS_OK, .id = 9, .n_members = 1};
    struct world *w = *state;
    struct socket_maintain_done maintained;
    struct socket_member_done got;

    greet(w);
    put_member(w, 5, "http://h:1,http://h:2");
    WAIT(w, w->node.member != NULL);
    assert_true(w->node.member->op == SOCKET_MEMBER_ADD && w->node.member->learner);
    assert_string_equal(w->node.member->take_peer_urls, "http://h:1,http://h:2");
    done.members[0] = (struct socket_member){9, true, slice_from_str("n9"), slice_from_str("a"), slice_from_str("b")};
    free(w->node.member->take_peer_urls);
    w->node.member->done(w->node.member, &done);
    assert_int_equal(socket_member_done_decode(expect(w, SOCKET_MEMBER_DONE, 5), &got), 0);
    assert_true(got.id == 9 && got.n_members == 1 && slice_equal(got.members[0].name, slice_from_str("n9")));
    put_maintain(w, 6);
    WAIT(w, w->node.maintain != NULL);
    assert_true(w->node.maintain->op == SOCKET_MAINTAIN_MOVE_LEADER && w->node.maintain->arg == 5);
    w->node.maintain->done(w->node.maintain, STATUS_OK, 12, "/c");
    assert_int_equal(socket_maintain_done_decode(expect(w, SOCKET_MAINTAIN_DONE, 6), &maintained), 0);
    assert_true(maintained.index == 12 && slice_equal(maintained.path, slice_from_str("/c")));
}

static void an_end_cancels_the_services_too(void **state)
{
    struct world *w = *state;

    greet(w);
    put_lease(w, SOCKET_KEEPALIVE, 3, 1);
    put_member(w, 4, "");
    put_maintain(w, 5);
    WAIT(w, w->node.maintain != NULL);
    shutdown(w->fd, SHUT_WR);
    WAIT(w, w->node.cancelled == 3);
}

static void who_breaks_a_rule_is_disconnected(void **state)
{
    static const struct {
        bool greeted;
        uint8_t type;
        const char *payload;
    } cases[] = {
        {false, SOCKET_PROPOSE, "x"}, {false, SOCKET_HELLO, "x"},  {true, SOCKET_HELLO, "x"}, {true, SOCKET_PROPOSE, ""},
        {true, SOCKET_BARRIER, "x"},  {true, SOCKET_STATUS, "x"}, {true, SOCKET_NOTICE, ""}, {true, 99, ""},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cases[i].greeted)
            greet(w);
        put(w, cases[i].type, 2, slice_from_str(cases[i].payload));
        expect_closed(w);
        close(w->fd);
        w->fd = dial(w->path);
        w->in.len = w->in_at = 0;
    }
    assert_int_equal(send(w->fd, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4); /* a length without bounds */
    expect_closed(w);
}

static void another_version_is_refused_with_a_text(void **state)
{
    struct world *w = *state;
    struct slice text;

    hello(w, SOCKET_VERSION + 1);
    text = expect(w, SOCKET_REFUSED, 1);
    assert_non_null(memmem(text.data, text.len, "version", 7));
    expect_closed(w);
    assert_int_equal(socket_server_counters(w->server).refused, 1);
}

static void an_end_cancels_what_was_asked(void **state)
{
    struct world *w = *state;

    greet(w);
    for (uint64_t i = 0; i < 10; i++) {
        put(w, SOCKET_PROPOSE, 10 + i, slice_from_str("c"));
        put(w, SOCKET_BARRIER, 30 + i, slice_make(NULL, 0));
    }
    WAIT(w, w->node.n_proposals == 10 && w->node.n_barriers == 10);
    end_proposal(&w->node, STATUS_OK, 41, slice_make(NULL, 0));
    shutdown(w->fd, SHUT_RDWR);
    WAIT(w, w->node.cancelled == 19);
    assert_int_equal(socket_server_counters(w->server).connections, 0);
    assert_int_equal(socket_server_counters(w->server).requests, 0);
}

static void too_many_requests_are_answered_at_once(void **state)
{
    struct world *w = *state;

    greet(w);
    for (uint64_t i = 0; i < SOCKET_REQUESTS_MAX + 2; i++)
        put(w, SOCKET_BARRIER, 100 + i, slice_make(NULL, 0));
    assert_int_equal(expect_barrier(w, 100 + SOCKET_REQUESTS_MAX).status, STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(expect_barrier(w, 101 + SOCKET_REQUESTS_MAX).status, STATUS_TOO_MANY_REQUESTS);
    assert_int_equal(socket_server_counters(w->server).too_many, 2);
    assert_int_equal(w->node.n_barriers, SOCKET_REQUESTS_MAX);
    end_barrier(&w->node, STATUS_OK, 40);
    expect_barrier(w, 99 + SOCKET_REQUESTS_MAX);
    put(w, SOCKET_BARRIER, 5, slice_make(NULL, 0));
    WAIT(w, w->node.n_barriers == SOCKET_REQUESTS_MAX);
}

static void notices_for_one_that_never_reads_cost_nothing(void **state)
{
    struct world *w = *state;
    struct socket_notice m = {0, 0};
    struct socket_head head;
    struct slice payload;
    size_t seen = 0;
    int64_t before = 0;

    greet(w);
    for (int64_t i = 1; i <= 200000; i++) {
        socket_server_on_revision(w->server, 1, 40 + i);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    while (m.revision != 200040) {
        WAIT(w, poll_frame(w, &head, &payload) == 1);
        assert_int_equal(head.type, SOCKET_NOTICE);
        assert_int_equal(socket_notice_decode(payload, &m), 0);
        assert_true(m.revision > before);
        before = m.revision;
        seen++;
    }
    assert_true(seen < 100000); /* the others were never made */
    assert_int_equal(socket_server_counters(w->server).overflowed, 0);
}

static void one_that_does_not_read_is_not_read(void **state)
{
    struct world *w = *state;
    struct bytes frame;
    size_t sent = 0, idle = 0;

    greet(w);
    bytes_init(&frame);
    socket_frame(&frame, SOCKET_STATUS, 9, slice_make(NULL, 0));
    while (idle < 1000) { /* until nothing moves any more: an answer has some hundred bytes, the limit is 1 MiB */
        if (send(w->fd, frame.data, frame.len, MSG_NOSIGNAL) == (ssize_t)frame.len) {
            sent++;
            idle = 0;
        } else {
            idle++;
            uv_run(&w->loop, UV_RUN_NOWAIT);
        }
        assert_true(sent < 200000);
    }
    for (size_t i = 0; i < sent; i++) /* and it goes on where it stopped */
        expect(w, SOCKET_STATUS_REPLY, 9);
    assert_int_equal(socket_server_counters(w->server).overflowed, 0);
    bytes_fini(&frame);
}

static void answers_that_nobody_reads_end_in_a_disconnect(void **state)
{
    struct world *w = *state;
    size_t len = 48 * 1024 * 1024;
    uint8_t *body = calloc(1, len);

    assert_non_null(body);
    greet(w);
    for (uint64_t i = 0; i < 6; i++)
        put(w, SOCKET_PROPOSE, 10 + i, slice_from_str("c"));
    WAIT(w, w->node.n_proposals == 6);
    for (int i = 0; i < 3; i++)
        end_proposal(&w->node, STATUS_OK, 41, slice_make(body, len));
    WAIT(w, socket_server_counters(w->server).connections == 0);
    assert_int_equal(socket_server_counters(w->server).overflowed, 1);
    assert_int_equal(w->node.cancelled, 3);
    free(body);
}

static void a_large_answer_arrives(void **state)
{
    struct world *w = *state;
    size_t len = 20 * 1024 * 1024;
    uint8_t *body = malloc(len);
    struct socket_proposed m;

    assert_non_null(body);
    for (size_t i = 0; i < len; i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
    greet(w);
    put(w, SOCKET_PROPOSE, 10, slice_from_str("c"));
    WAIT(w, w->node.n_proposals == 1);
    end_proposal(&w->node, STATUS_OK, 41, slice_make(body, len));
    m = expect_proposed(w, 10);
    assert_int_equal(m.body.len, len);
    assert_memory_equal(m.body.data, body, len);
    free(body);
}

static void a_stop_answers_what_was_asked(void **state)
{
    struct world *w = *state;

    greet(w);
    put(w, SOCKET_PROPOSE, 10, slice_from_str("c"));
    WAIT(w, w->node.n_proposals == 1);
    socket_server_stop(w->server);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    put(w, SOCKET_PROPOSE, 11, slice_from_str("too late"));
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->node.n_proposals, 1);
    end_proposal(&w->node, STATUS_STOPPED, 0, slice_make(NULL, 0));
    socket_server_close(w->server);
    w->server = NULL;
    assert_int_equal(expect_proposed(w, 10).status, STATUS_STOPPED);
    expect_closed(w);
    assert_int_equal(access(w->path, F_OK), -1);
}

static void a_stranger_is_refused(void **state)
{
    struct world *w = *state;
    struct slice text;
    int fds[2], status;
    pid_t pid;

    if (getuid() != 0)
        skip();
    assert_int_equal(chmod(w->path, 0666), 0); /* even if somebody opened the door */
    assert_int_equal(chmod(w->dir, 0755), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid = fork();
    if (pid == 0) {
        char control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec iov = {.iov_base = "x", .iov_len = 1};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", w->path);
        if (setgid(65534) < 0 || setuid(65534) < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            _exit(1);
        CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
        _exit(sendmsg(fds[1], &msg, 0) == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    {
        char control[CMSG_SPACE(sizeof(int))], byte;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

        assert_int_equal(recvmsg(fds[0], &msg, 0), 1);
        close(w->fd);
        memcpy(&w->fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(w->fd));
    }
    text = expect(w, SOCKET_REFUSED, 0);
    assert_non_null(memmem(text.data, text.len, "permission", 10));
    expect_closed(w);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hello_is_welcomed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_come_before_the_notice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(barriers_status_and_leader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leases_are_passed_on_and_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_of_members_and_maintenance_are_passed_on_and_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_cancels_the_services_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_breaks_a_rule_is_disconnected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_version_is_refused_with_a_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_cancels_what_was_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_requests_are_answered_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(notices_for_one_that_never_reads_cost_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_does_not_read_is_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_that_nobody_reads_end_in_a_disconnect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_answer_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_answers_what_was_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stranger_is_refused, set_up, tear_down),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
