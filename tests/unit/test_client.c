/* raft/client: every request ends exactly once, whatever the node does; what may be repeated is, under one number. */
#include "tests/unit/fake_node.h"

struct asked {
    struct fake *f;
    int ended;
    uint16_t status;
    int64_t revision;
    char body[32];
    int64_t ticket, cancel; /* cancel: a ticket to give up in the callback */
};

static void on_answer(void *arg, const struct client_answer *answer)
{
    struct asked *a = arg;

    a->ended++;
    a->status = answer->status;
    a->revision = answer->revision;
    assert_true(answer->body.len < sizeof(a->body));
    if (answer->body.len != 0)
        memcpy(a->body, answer->body.data, answer->body.len);
    a->body[answer->body.len] = '\0';
    if (a->cancel != 0)
        client_cancel(a->f->client, a->cancel);
    fake_maybe_close(a->f, CLOSE_IN_ANSWER);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct client_answer answer = {.status = status, .revision = revision};

    on_answer(arg, &answer);
}

static void on_status(void *arg, uint16_t status, struct slice json)
{
    struct client_answer answer = {.status = status, .body = json};

    on_answer(arg, &answer);
}

static struct asked ask_for(struct fake *f, unsigned flags, uint64_t deadline_ms, struct asked *a)
{
    struct command cmd = {.kind = COMMAND_ALLOC_INODES, .alloc_inodes.count = 5};

    *a = (struct asked){.f = f};
    a->ticket = client_propose(f->client, &cmd, flags, deadline_ms, on_answer, a);
    assert_true(a->ticket > 0);
    assert_int_equal(a->ended, 0);
    return *a;
}

static void ask(struct fake *f, unsigned flags, struct asked *a)
{
    ask_for(f, flags, client_now_ms() + 60000, a);
}

static void a_client_waits_for_its_node_and_greets_it(void **state)
{
    struct socket_hello hello;
    struct fake f;

    fake_open(&f);
    for (int i = 0; i < 3; i++)
        client_process(f.client);
    assert_false(client_connected(f.client));
    assert_null(client_get_info(f.client));
    fake_listen(&f);
    fake_accept(&f);
    fake_expect(&f, SOCKET_HELLO);
    assert_int_equal(socket_hello_decode(bytes_slice(&f.payload), &hello), 0);
    assert_true(slice_equal(hello.program, slice_from_str("test")));
    assert_int_equal(hello.pid, getpid());
    fake_hang_up(&f); /* before the welcome: it tries again */
    fake_accept(&f);
    fake_welcome(&f);
    assert_true(client_connected(f.client));
    assert_int_equal(client_get_info(f.client)->member_id, 2);
    assert_int_equal(client_leader(f.client), 3);
    assert_int_equal(client_term(f.client), 4);
    assert_int_equal(f.revision, 10);
    assert_int_equal(f.disconnected, 0);
    fake_close(&f);
}

static void a_path_that_is_too_long_is_said_so(void **state)
{
    char path[200];
    struct client *c;

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(client_open(path, "test", NULL, &c), -ENAMETOOLONG);
}

static void proposals_are_answered_in_any_order(void **state)
{
    struct asked a, b, c;
    uint64_t tag;
    struct fake f;

    fake_start(&f);
    ask(&f, 0, &a);
    ask(&f, 0, &b);
    fake_expect(&f, SOCKET_PROPOSE);
    assert_int_equal(fake_command(&f).kind, COMMAND_ALLOC_INODES);
    assert_int_equal(fake_command(&f).session, 0);
    tag = f.head.tag;
    fake_expect(&f, SOCKET_PROPOSE);
    fake_answer(&f, STATUS_OK, "second");
    fake_answer_tag(&f, tag, STATUS_EXISTS, "");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_string_equal(b.body, "second");
    assert_int_equal(b.revision, 11);
    assert_int_equal(a.status, STATUS_EXISTS);
    c = (struct asked){.f = &f};
    assert_true(client_propose_raw(f.client, COMMAND_PUT, slice_from_str("ann"), slice_from_str("\x0a\x01k"), 0,
                                   client_now_ms() + 60000, on_answer, &c) > 0);
    fake_expect(&f, SOCKET_PROPOSE);
    assert_true(slice_equal(fake_command(&f).user, slice_from_str("ann")));
    assert_memory_equal(f.payload.data + f.payload.len - 3, "\x0a\x01k", 3);
    fake_close(&f);
    assert_true(a.ended == 1 && b.ended == 1 && c.ended == 1);
    assert_int_equal(c.status, STATUS_STOPPED);
}

static void notices_and_leaders_are_passed_on(void **state)
{
    struct bytes b;
    struct fake f;
    uint64_t epoch;
    int64_t revision;

    fake_start(&f);
    bytes_init(&b);
    socket_notice_encode(&(struct socket_notice){5, 12}, &b);
    fake_send(&f, SOCKET_NOTICE, 0, bytes_slice(&b));
    fake_send(&f, SOCKET_NOTICE, 0, bytes_slice(&b)); /* nothing new: the callback's own check would fail */
    bytes_reset(&b);
    socket_notice_encode(&(struct socket_notice){4, 99}, &b); /* an older environment */
    fake_send(&f, SOCKET_NOTICE, 0, bytes_slice(&b));
    bytes_reset(&b);
    socket_leader_encode(&(struct socket_leader){0, 7}, &b);
    fake_send(&f, SOCKET_LEADER, 0, bytes_slice(&b));
    FAKE_UNTIL(&f, f.leaders == 2);
    client_revision(f.client, &epoch, &revision);
    assert_true(epoch == 5 && revision == 12 && f.revisions == 2);
    assert_true(client_leader(f.client) == 0 && client_term(f.client) == 7);
    bytes_fini(&b);
    fake_close(&f);
}

static void barriers_and_questions_survive_a_lost_connection(void **state)
{
    struct asked barrier, json;
    struct bytes b;
    struct fake f;

    fake_start(&f);
    barrier = json = (struct asked){.f = &f};
    assert_true(client_barrier(f.client, client_now_ms() + 60000, on_barrier, &barrier) > 0);
    assert_true(client_status(f.client, client_now_ms() + 60000, on_status, &json) > 0);
    fake_expect(&f, SOCKET_BARRIER);
    assert_int_equal(f.head.payload_bytes, 0);
    fake_reconnect(&f);
    bytes_init(&b);
    socket_barrier_done_encode(&(struct socket_barrier_done){STATUS_OK, 5, 4, 42}, &b);
    fake_expect(&f, SOCKET_BARRIER);
    fake_send(&f, SOCKET_BARRIER_DONE, f.head.tag, bytes_slice(&b));
    fake_expect(&f, SOCKET_STATUS);
    fake_send(&f, SOCKET_STATUS_REPLY, f.head.tag, slice_from_str("{}"));
    FAKE_UNTIL(&f, json.ended != 0);
    assert_true(barrier.ended == 1 && barrier.status == STATUS_OK && barrier.revision == 42);
    assert_string_equal(json.body, "{}");
    bytes_fini(&b);
    fake_close(&f);
}

struct service {
    int keepalives, times, members, maintained;
    uint16_t status;
    int64_t granted_s, remaining_s;
    uint64_t number;
    size_t n_members;
    char text[32];
};

static void on_keepalive(void *arg, uint16_t status, int64_t ttl_s)
{
    struct service *s = arg;

    s->keepalives++;
    s->status = status;
    s->granted_s = ttl_s;
}

static void on_lease_time(void *arg, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct service *s = arg;

    s->times++;
    s->status = status;
    s->granted_s = granted_s;
    s->remaining_s = remaining_s;
}

static void on_member(void *arg, const struct socket_member_done *done)
{
    struct service *s = arg;

    s->members++;
    s->status = done->status;
    s->number = done->id;
    s->n_members = done->n_members;
    if (done->n_members > 0)
        snprintf(s->text, sizeof(s->text), "%.*s", (int)done->members[0].name.len, (const char *)done->members[0].name.data);
}

static void on_maintain(void *arg, const struct socket_maintain_done *done)
{
    struct service *s = arg;

    s->maintained++;
    s->status = done->status;
    s->number = done->index;
    if (done->path.len != 0)
        snprintf(s->text, sizeof(s->text), "%.*s", (int)done->path.len, (const char *)done->path.data);
}

static void ask_services(struct fake *f, struct service *s)
{
    struct socket_member_change add = {.op = SOCKET_MEMBER_ADD, .peer_urls = slice_from_str("http://h:1")};
    struct socket_member_change list = {.op = SOCKET_MEMBER_LIST};
    struct socket_maintain checkpoint = {.op = SOCKET_MAINTAIN_CHECKPOINT};
    uint64_t deadline_ms = client_now_ms() + 60000;

    assert_true(client_keepalive(f->client, 77, deadline_ms, on_keepalive, s) > 0);
    assert_true(client_lease_time(f->client, 78, deadline_ms, on_lease_time, s) > 0);
    assert_true(client_member(f->client, &list, deadline_ms, on_member, s) > 0);
    assert_true(client_member(f->client, &add, deadline_ms, on_member, s) > 0);
    assert_true(client_maintain(f->client, &checkpoint, deadline_ms, on_maintain, s) > 0);
}

static void leases_members_and_maintenance_are_asked_and_answered(void **state)
{
    struct socket_member_done done = {.n_members = 1, .members = {{.id = 3, .name = slice_from_str("n1")}}};
    struct socket_member_change change;
    struct socket_maintain maintain;
    struct socket_lease lease;
    struct service s = {0};
    struct bytes b;
    struct fake f;

    fake_start(&f);
    ask_services(&f, &s);
    bytes_init(&b);
    fake_expect(&f, SOCKET_KEEPALIVE);
    assert_int_equal(socket_lease_decode(bytes_slice(&f.payload), &lease), 0);
    assert_int_equal(lease.id, 77);
    socket_keepalive_done_encode(&(struct socket_keepalive_done){STATUS_OK, 60}, &b);
    fake_send(&f, SOCKET_KEEPALIVE_DONE, f.head.tag, bytes_slice(&b));
    FAKE_UNTIL(&f, s.keepalives == 1);
    assert_true(s.status == STATUS_OK && s.granted_s == 60);
    fake_expect(&f, SOCKET_LEASE_TIME);
    bytes_reset(&b);
    socket_lease_time_done_encode(&(struct socket_lease_time_done){STATUS_LEASE_NOT_FOUND, 60, 7}, &b);
    fake_send(&f, SOCKET_LEASE_TIME_DONE, f.head.tag, bytes_slice(&b));
    FAKE_UNTIL(&f, s.times == 1);
    assert_true(s.status == STATUS_LEASE_NOT_FOUND && s.remaining_s == 7);
    fake_expect(&f, SOCKET_MEMBER);
    assert_int_equal(socket_member_change_decode(bytes_slice(&f.payload), &change), 0);
    assert_int_equal(change.op, SOCKET_MEMBER_LIST);
    bytes_reset(&b);
    socket_member_done_encode(&done, &b);
    fake_send(&f, SOCKET_MEMBER_DONE, f.head.tag, bytes_slice(&b));
    FAKE_UNTIL(&f, s.members == 1);
    assert_true(s.status == STATUS_OK && s.n_members == 1);
    assert_string_equal(s.text, "n1");
    fake_expect(&f, SOCKET_MEMBER);
    fake_expect(&f, SOCKET_MAINTAIN);
    assert_int_equal(socket_maintain_decode(bytes_slice(&f.payload), &maintain), 0);
    assert_int_equal(maintain.op, SOCKET_MAINTAIN_CHECKPOINT);
    bytes_reset(&b);
    socket_maintain_done_encode(&(struct socket_maintain_done){STATUS_OK, 9, slice_from_str("/c")}, &b);
    fake_send(&f, SOCKET_MAINTAIN_DONE, f.head.tag, bytes_slice(&b));
    FAKE_UNTIL(&f, s.maintained == 1);
    assert_true(s.number == 9 && s.members == 1);
    assert_string_equal(s.text, "/c");
    /* a reply of another kind than the question */
    fake_send(&f, SOCKET_KEEPALIVE_DONE, f.head.tag + 1000, slice_make(NULL, 0)); /* of one given up: skipped */
    assert_true(client_keepalive(f.client, 1, client_now_ms() + 60000, on_keepalive, &s) > 0);
    fake_expect(&f, SOCKET_KEEPALIVE);
    fake_send(&f, SOCKET_MAINTAIN_DONE, f.head.tag, bytes_slice(&b));
    FAKE_UNTIL(&f, f.disconnected == 1);
    bytes_fini(&b);
    fake_close(&f);
    assert_true(s.members == 2 && s.keepalives == 2 && s.status == STATUS_STOPPED);
}

static void questions_of_leases_go_again_and_changes_do_not(void **state)
{
    struct service s = {0};
    struct fake f;

    fake_start(&f);
    ask_services(&f, &s);
    for (int type = SOCKET_KEEPALIVE; type <= SOCKET_MEMBER; type += 2)
        fake_expect(&f, type);
    fake_expect(&f, SOCKET_MEMBER);
    fake_expect(&f, SOCKET_MAINTAIN);
    fake_reconnect(&f);
    assert_true(s.members == 1 && s.maintained == 1 && s.status == STATUS_TIMEOUT_CONNECTION_LOST);
    for (int type = SOCKET_KEEPALIVE; type <= SOCKET_MEMBER; type += 2)
        fake_expect(&f, type);
    fake_expect_silence(&f);
    fake_close(&f);
    assert_true(s.keepalives == 1 && s.times == 1 && s.members == 2);
}

static void a_retried_proposal_keeps_its_number_across_connections(void **state)
{
    struct command first, again;
    struct asked retried, plain;
    struct fake f;

    fake_start(&f);
    ask(&f, CLIENT_RETRY, &retried);
    ask(&f, 0, &plain);
    fake_expect(&f, SOCKET_PROPOSE);
    first = fake_command(&f);
    assert_true(first.session != 0 && first.sequence == 1);
    fake_expect(&f, SOCKET_PROPOSE);
    fake_reconnect(&f);
    assert_int_equal(f.disconnected, 1);
    assert_int_equal(plain.status, STATUS_TIMEOUT_CONNECTION_LOST);
    fake_expect(&f, SOCKET_PROPOSE);
    again = fake_command(&f);
    assert_true(again.session == first.session && again.sequence == 1);
    fake_expect_silence(&f); /* the plain one is never sent twice */
    fake_answer(&f, STATUS_OK, "");
    FAKE_UNTIL(&f, retried.ended != 0);
    ask(&f, CLIENT_RETRY, &retried);
    fake_expect(&f, SOCKET_PROPOSE);
    again = fake_command(&f);
    assert_true(again.session == first.session && again.sequence == 2);
    fake_close(&f);
    assert_true(retried.ended == 1 && plain.ended == 1);
}

static void an_unknown_outcome_is_asked_again_until_it_is_known(void **state)
{
    static const uint16_t statuses[] = {STATUS_LEADER_CHANGED, STATUS_NO_LEADER, STATUS_TIMEOUT, STATUS_STOPPED,
                                        STATUS_TIMEOUT_LEADER_FAIL, STATUS_TOO_MANY_REQUESTS};
    struct command first, again;
    struct asked a;
    struct fake f;

    fake_start(&f);
    ask(&f, CLIENT_RETRY, &a);
    fake_expect(&f, SOCKET_PROPOSE);
    first = fake_command(&f);
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        fake_answer(&f, statuses[i], "");
        fake_expect(&f, SOCKET_PROPOSE);
        again = fake_command(&f);
        assert_true(again.session == first.session && again.sequence == first.sequence);
        assert_int_equal(a.ended, 0);
    }
    fake_answer(&f, STATUS_EXISTS, "");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_int_equal(a.status, STATUS_EXISTS);
    ask(&f, CLIENT_RETRY, &a); /* nothing is uncertain here: a refusal is the answer, at once */
    fake_expect(&f, SOCKET_PROPOSE);
    assert_int_equal(fake_command(&f).sequence, 2);
    fake_answer(&f, STATUS_NO_LEADER, "");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_int_equal(a.status, STATUS_NO_LEADER);
    ask(&f, CLIENT_RETRY, &a); /* whether number 3 is used nobody knows: a new session */
    fake_expect(&f, SOCKET_PROPOSE);
    assert_true(fake_command(&f).session != first.session && fake_command(&f).sequence == 1);
    fake_close(&f);
}

static void a_forgotten_session_is_replaced_once_if_nothing_was_done(void **state)
{
    struct command first, again;
    struct asked a;
    struct fake f;

    fake_start(&f);
    ask(&f, CLIENT_RETRY, &a);
    fake_expect(&f, SOCKET_PROPOSE);
    first = fake_command(&f);
    fake_answer(&f, STATUS_SESSION_EXPIRED, "");
    fake_expect(&f, SOCKET_PROPOSE);
    again = fake_command(&f);
    assert_true(again.session != first.session && again.sequence == 1);
    fake_answer(&f, STATUS_SESSION_EXPIRED, "");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_int_equal(a.status, STATUS_SESSION_EXPIRED);
    ask(&f, CLIENT_RETRY, &a); /* with an uncertain attempt behind it the loss is told */
    fake_expect(&f, SOCKET_PROPOSE);
    fake_answer(&f, STATUS_LEADER_CHANGED, "");
    fake_expect(&f, SOCKET_PROPOSE);
    fake_answer(&f, STATUS_SESSION_EXPIRED, "");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_int_equal(a.status, STATUS_SESSION_EXPIRED);
    fake_close(&f);
}

static void past_the_lanes_proposals_wait_their_turn(void **state)
{
    struct asked a[CLIENT_LANES + 2];
    uint64_t sessions[CLIENT_LANES], tags[CLIENT_LANES];
    struct fake f;

    fake_start(&f);
    for (int i = 0; i < CLIENT_LANES + 2; i++)
        ask(&f, CLIENT_RETRY, &a[i]);
    for (int i = 0; i < CLIENT_LANES; i++) {
        fake_expect(&f, SOCKET_PROPOSE);
        sessions[i] = fake_command(&f).session;
        tags[i] = f.head.tag;
        assert_int_equal(fake_command(&f).sequence, 1);
        for (int k = 0; k < i; k++)
            assert_true(sessions[k] != sessions[i]);
    }
    fake_expect_silence(&f);
    fake_answer_tag(&f, tags[40], STATUS_OK, "");
    fake_expect(&f, SOCKET_PROPOSE);
    assert_true(fake_command(&f).session == sessions[40] && fake_command(&f).sequence == 2);
    assert_int_equal(f.head.tag, (uint64_t)a[CLIENT_LANES].ticket);
    client_cancel(f.client, a[3].ticket); /* its number may be used: the lane goes on with another session */
    fake_expect(&f, SOCKET_PROPOSE);
    assert_true(fake_command(&f).session != sessions[3] && fake_command(&f).sequence == 1);
    fake_answer_tag(&f, tags[3], STATUS_OK, "late"); /* nobody waits for it */
    fake_answer_tag(&f, tags[4], STATUS_OK, "");
    FAKE_UNTIL(&f, a[4].ended != 0);
    assert_int_equal(a[3].ended, 0);
    fake_close(&f);
    for (int i = 0; i < CLIENT_LANES + 2; i++)
        assert_int_equal(a[i].ended, i != 3);
}

static void deadlines_hold_wherever_a_request_is(void **state)
{
    struct asked sent, unsent, retried, waiting[CLIENT_LANES];
    struct command first;
    uint64_t soon;
    struct fake f;

    fake_start(&f);
    soon = client_now_ms() + 60;
    ask_for(&f, CLIENT_RETRY, soon, &retried);
    fake_expect(&f, SOCKET_PROPOSE);
    first = fake_command(&f);
    ask_for(&f, 0, soon, &sent);
    for (int i = 0; i < CLIENT_LANES; i++)
        ask_for(&f, CLIENT_RETRY, i == CLIENT_LANES - 1 ? soon : client_now_ms() + 60000, &waiting[i]);
    FAKE_UNTIL(&f, retried.ended && sent.ended && waiting[CLIENT_LANES - 1].ended);
    assert_true(client_now_ms() >= soon);
    assert_int_equal(retried.status, STATUS_TIMEOUT);
    assert_int_equal(sent.status, STATUS_TIMEOUT);
    assert_int_equal(waiting[CLIENT_LANES - 1].status, STATUS_TIMEOUT);
    ask(&f, CLIENT_RETRY, &retried);
    do
        fake_expect(&f, SOCKET_PROPOSE);
    while (f.head.tag != (uint64_t)retried.ticket);
    assert_true(fake_command(&f).session != first.session);
    fake_hang_up(&f);
    close(f.listen_fd);
    f.listen_fd = -1;
    unlink(f.path);
    FAKE_UNTIL(&f, f.disconnected == 1);
    ask_for(&f, 0, client_now_ms() + 30, &unsent);
    FAKE_UNTIL(&f, unsent.ended != 0);
    assert_int_equal(unsent.status, STATUS_TIMEOUT);
    fake_close(&f);
}

static void callbacks_may_cancel_others_and_themselves(void **state)
{
    struct asked a, b, unsent;
    uint64_t tag;
    struct fake f;

    fake_start(&f);
    ask(&f, CLIENT_RETRY, &a);
    ask(&f, 0, &b);
    a.cancel = b.ticket;
    fake_expect(&f, SOCKET_PROPOSE);
    tag = f.head.tag;
    fake_expect(&f, SOCKET_PROPOSE);
    fake_answer_tag(&f, tag, STATUS_OK, "");
    fake_answer(&f, STATUS_OK, "");
    FAKE_UNTIL(&f, a.ended != 0);
    ask(&f, 0, &a);
    a.cancel = a.ticket;
    fake_expect(&f, SOCKET_PROPOSE);
    fake_answer(&f, STATUS_OK, "");
    FAKE_UNTIL(&f, a.ended != 0);
    fake_hang_up(&f);
    FAKE_UNTIL(&f, f.disconnected == 1);
    ask(&f, 0, &unsent); /* away: it has not been sent and never will be */
    client_cancel(f.client, unsent.ticket);
    client_cancel(f.client, unsent.ticket);
    client_cancel(f.client, 0);
    fake_accept(&f);
    fake_welcome(&f);
    fake_expect_silence(&f);
    fake_close(&f);
    assert_true(a.ended == 1 && b.ended == 0 && unsent.ended == 0);
}

/* Two plain proposals are lost together and the first one's callback gives the second up. */
static void a_lost_connections_requests_may_cancel_each_other(void **state)
{
    struct asked a, b;
    struct fake f;

    fake_start(&f);
    ask(&f, 0, &a);
    ask(&f, 0, &b);
    a.cancel = b.ticket;
    fake_expect(&f, SOCKET_PROPOSE);
    fake_expect(&f, SOCKET_PROPOSE);
    fake_hang_up(&f);
    FAKE_UNTIL(&f, a.ended != 0);
    client_process(f.client);
    fake_close(&f);
    assert_true(a.ended == 1 && b.ended == 0);
}

static void closing_is_possible_in_each_callback(void **state)
{
    for (int where = CLOSE_IN_CONNECTED; where <= CLOSE_IN_ANSWER; where++) {
        struct asked a, b, late = {0};
        struct fake f;

        fake_open(&f);
        f.close_in = where;
        ask(&f, CLIENT_RETRY, &a);
        ask(&f, 0, &b);
        fake_listen(&f);
        fake_accept(&f);
        if (where == CLOSE_IN_REFUSED) {
            fake_expect(&f, SOCKET_HELLO);
            fake_send(&f, SOCKET_REFUSED, f.head.tag, slice_from_str("go away"));
        } else {
            fake_welcome(&f);
        }
        if (where >= CLOSE_IN_DISCONNECTED && where != CLOSE_IN_REFUSED)
            fake_expect(&f, SOCKET_PROPOSE);
        if (where == CLOSE_IN_ANSWER)
            fake_answer(&f, STATUS_OK, "");
        if (where == CLOSE_IN_DISCONNECTED)
            fake_hang_up(&f);
        FAKE_UNTIL(&f, f.client == NULL);
        fake_close(&f);
        assert_true(a.ended == 1 && b.ended == 1 && late.ended == 0);
        assert_int_equal(b.status, STATUS_STOPPED);
        assert_int_equal(a.status, where == CLOSE_IN_ANSWER ? STATUS_OK : STATUS_STOPPED);
    }
}

static void on_stopped_ask_again(void *arg, const struct client_answer *answer)
{
    struct fake *f = arg;
    struct command cmd = {.kind = COMMAND_NOOP};

    assert_int_equal(answer->status, STATUS_STOPPED);
    assert_int_equal(client_propose(f->client, &cmd, 0, UINT64_MAX, on_answer, NULL), -ESHUTDOWN);
    assert_int_equal(client_barrier(f->client, UINT64_MAX, on_barrier, NULL), -ESHUTDOWN);
    f->refused++;
}

static void a_client_that_closes_takes_nothing_more(void **state)
{
    struct command cmd = {.kind = COMMAND_NOOP};
    struct fake f;

    fake_start(&f);
    assert_true(client_propose(f.client, &cmd, 0, UINT64_MAX, on_stopped_ask_again, &f) > 0);
    client_close(f.client);
    f.client = NULL;
    assert_int_equal(f.refused, 1);
    fake_close(&f);
}

static void a_refusal_is_final(void **state)
{
    struct asked a, b;
    struct fake f;

    fake_open(&f);
    ask(&f, CLIENT_RETRY, &a);
    fake_listen(&f);
    fake_accept(&f);
    fake_expect(&f, SOCKET_HELLO);
    fake_send(&f, SOCKET_REFUSED, f.head.tag, slice_from_str("go away"));
    FAKE_UNTIL(&f, a.ended != 0);
    assert_int_equal(f.refused, 1);
    assert_int_equal(a.status, STATUS_PERMISSION_DENIED);
    ask(&f, 0, &b);
    FAKE_UNTIL(&f, b.ended != 0);
    assert_int_equal(b.status, STATUS_PERMISSION_DENIED);
    assert_int_equal(accept(f.listen_fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    fake_close(&f);
}

static void a_node_that_talks_nonsense_is_left_and_tried_again(void **state)
{
    static const struct {
        const char *what;
        const char *bytes;
        size_t len;
    } nonsense[] = {
        {"text", "HTTP/1.1 400 Bad Request\r\n\r\n", 28},
        {"a length below the head's", "\x0b\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0", 16},
        {"an answer past the limit", "\x0d\0\0\x04\x05\0\0\0\x01\0\0\0\0\0\0\0", 16},
        {"an unknown type", "\x0c\0\0\0\x63\0\0\0\0\0\0\0\0\0\0\0", 16},
        {"a client's type", "\x0c\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0", 16},
        {"a second welcome", "\x0c\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0", 16},
        {"a notice cut short", "\x0d\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0x", 17},
        {"an answer cut short", "\x0d\0\0\0\x05\0\0\0\x63\0\0\0\0\0\0\0x", 17},
    };
    struct asked barrier, a;
    struct fake f;

    fake_start(&f);
    barrier = (struct asked){.f = &f};
    assert_true(client_barrier(f.client, client_now_ms() + 60000, on_barrier, &barrier) > 0);
    ask(&f, CLIENT_RETRY, &a);
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        fake_expect(&f, SOCKET_BARRIER);
        fake_expect(&f, SOCKET_PROPOSE);
        fake_raw(&f, nonsense[i].bytes, nonsense[i].len);
        FAKE_UNTIL(&f, f.disconnected == (int)i + 1);
        fake_reconnect(&f);
    }
    fake_expect(&f, SOCKET_BARRIER);
    fake_answer(&f, STATUS_OK, ""); /* a proposal's answer to a barrier */
    FAKE_UNTIL(&f, f.disconnected == (int)(sizeof(nonsense) / sizeof(nonsense[0])) + 1);
    fake_close(&f);
    assert_true(barrier.ended == 1 && a.ended == 1);
}

static void frames_may_come_and_go_in_pieces(void **state)
{
    struct asked a = {0};
    struct bytes b, body, welcome = fake_welcome_bytes(10);
    struct fake f;
    int small = 4096;

    fake_open(&f);
    a.f = &f;
    fake_listen(&f);
    assert_int_equal(setsockopt(f.listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    fake_accept(&f);
    fake_expect(&f, SOCKET_HELLO);
    bytes_init(&b);
    socket_frame(&b, SOCKET_WELCOME, f.head.tag, bytes_slice(&welcome));
    for (size_t i = 0; i < b.len; i++) {
        fake_raw(&f, b.data + i, 1);
        client_process(f.client);
        assert_int_equal(f.connected, i == b.len - 1);
    }
    bytes_init(&body);
    for (uint32_t i = 0; i < FILE_MAX_BYTES / 4; i++)
        bytes_u32(&body, i * 2654435761u);
    assert_true(client_propose_raw(f.client, COMMAND_FILE_WRITE, slice_make(NULL, 0), bytes_slice(&body), CLIENT_RETRY,
                                   client_now_ms() + 60000, on_answer, &a) > 0);
    fake_expect(&f, SOCKET_PROPOSE); /* far more than the socket holds: it goes out as we read */
    assert_int_equal(f.payload.len, COMMAND_ENVELOPE_BYTES + body.len);
    assert_memory_equal(f.payload.data + COMMAND_ENVELOPE_BYTES, body.data, body.len);
    fake_answer(&f, STATUS_OK, "done");
    FAKE_UNTIL(&f, a.ended != 0);
    assert_string_equal(a.body, "done");
    bytes_fini(&b);
    bytes_fini(&body);
    bytes_fini(&welcome);
    fake_close(&f);
}

static void too_much_is_refused_but_never_from_within_the_call(void **state)
{
    static struct asked many[CLIENT_QUEUE_MAX + 1];
    static uint8_t big[COMMAND_MAX_BYTES];
    struct asked large = {0};
    struct fake f;

    fake_open(&f);
    large.f = &f;
    assert_true(client_propose_raw(f.client, COMMAND_PUT, slice_make(NULL, 0), slice_make(big, sizeof(big)), 0,
                                   client_now_ms() + 60000, on_answer, &large) > 0);
    assert_int_equal(large.ended, 0);
    FAKE_UNTIL(&f, large.ended != 0);
    assert_int_equal(large.status, STATUS_TOO_LARGE);
    for (size_t i = 0; i < CLIENT_QUEUE_MAX + 1; i++)
        ask(&f, i % 2 != 0 ? CLIENT_RETRY : 0, &many[i]);
    FAKE_UNTIL(&f, many[CLIENT_QUEUE_MAX].ended != 0);
    assert_int_equal(many[CLIENT_QUEUE_MAX].status, STATUS_TOO_MANY_REQUESTS);
    fake_close(&f);
    for (size_t i = 0; i < CLIENT_QUEUE_MAX + 1; i++)
        assert_int_equal(many[i].ended, 1);
}

struct insistent {
    struct fake *f;
    uint64_t deadline_ms;
    size_t body_bytes;
    int asked;
};

static void on_answer_ask_again(void *arg, const struct client_answer *answer)
{
    static uint8_t big[COMMAND_MAX_BYTES];
    struct insistent *i = arg;

    if (i->asked++ < 1000)
        client_propose_raw(i->f->client, COMMAND_PUT, slice_make(NULL, 0), slice_make(big, i->body_bytes), 0,
                           i->deadline_ms, on_answer_ask_again, i);
}

/* One that is refused, and one whose time is over already: neither keeps client_process() from returning. */
static void a_callback_that_asks_again_at_once_does_not_hold_the_turn(void **state)
{
    struct insistent refused = {.deadline_ms = UINT64_MAX, .body_bytes = COMMAND_MAX_BYTES}, late = {.deadline_ms = 1};
    struct client_answer none = {0};
    struct fake f;

    fake_open(&f);
    refused.f = late.f = &f;
    on_answer_ask_again(&refused, &none);
    on_answer_ask_again(&late, &none);
    for (int turn = 0; turn < 3; turn++) {
        client_process(f.client);
        assert_true(refused.asked <= turn + 2 && late.asked <= turn + 2);
    }
    assert_true(refused.asked > 1 && late.asked > 1);
    FAKE_UNTIL(&f, refused.asked > 20 && late.asked > 20); /* and the descriptor tells that there is something to do */
    refused.asked = late.asked = 1000;
    fake_close(&f);
}

static bool has_ended(void *ctx)
{
    return ((struct asked *)ctx)->ended != 0;
}

static bool is_never(void *ctx)
{
    return false;
}

static void a_tool_waits_with_a_bound(void **state)
{
    struct asked a;
    struct fake f;

    fake_start(&f);
    ask(&f, 0, &a);
    fake_expect(&f, SOCKET_PROPOSE);
    assert_int_equal(client_wait(f.client, has_ended, &a, client_now_ms() + 20), -ETIMEDOUT);
    fake_answer(&f, STATUS_OK, "");
    assert_int_equal(client_wait(f.client, has_ended, &a, client_now_ms() + 10000), 0);
    ask(&f, 0, &a);
    f.close_in = CLOSE_IN_DISCONNECTED;
    fake_hang_up(&f);
    assert_int_equal(client_wait(f.client, is_never, NULL, client_now_ms() + 10000), -ESHUTDOWN);
    fake_close(&f);
}

/* Everything at once, at random: whatever happens, each request ends exactly once, or not at all if it was given up. */
static void each_request_ends_exactly_once_in_a_random_run(void **state)
{
    static struct asked asked[2000];
    static bool cancelled[2000];
    struct dice d = dice_new();
    size_t n = 0;
    struct fake f;

    memset(cancelled, 0, sizeof(cancelled));
    fake_start(&f);
    while (n < 2000) {
        uint64_t roll = dice_below(&d, 100), now_ms = client_now_ms();

        if (roll < 50) {
            ask_for(&f, dice_below(&d, 2) != 0 ? CLIENT_RETRY : 0,
                    now_ms + (dice_below(&d, 10) == 0 ? dice_below(&d, 3) : 60000), &asked[n]);
            n++;
        } else if (roll < 55 && n > 0) {
            size_t i = dice_below(&d, n);

            if (asked[i].ended == 0) {
                client_cancel(f.client, asked[i].ticket);
                cancelled[i] = true;
            }
        } else if (roll < 56) {
            fake_reconnect(&f);
        } else if (fake_have_frame(&f)) {
            static const uint16_t statuses[] = {STATUS_OK, STATUS_EXISTS, STATUS_LEADER_CHANGED, STATUS_NO_LEADER,
                                                STATUS_SESSION_EXPIRED, STATUS_TIMEOUT};

            fake_expect(&f, SOCKET_PROPOSE);
            if (dice_below(&d, 8) != 0)
                fake_answer(&f, statuses[dice_below(&d, 6)], "");
        }
        client_process(f.client);
    }
    fake_close(&f);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(asked[i].ended, !cancelled[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_waits_for_its_node_and_greets_it),
        cmocka_unit_test(a_path_that_is_too_long_is_said_so),
        cmocka_unit_test(proposals_are_answered_in_any_order),
        cmocka_unit_test(notices_and_leaders_are_passed_on),
        cmocka_unit_test(barriers_and_questions_survive_a_lost_connection),
        cmocka_unit_test(leases_members_and_maintenance_are_asked_and_answered),
        cmocka_unit_test(questions_of_leases_go_again_and_changes_do_not),
        cmocka_unit_test(a_retried_proposal_keeps_its_number_across_connections),
        cmocka_unit_test(an_unknown_outcome_is_asked_again_until_it_is_known),
        cmocka_unit_test(a_forgotten_session_is_replaced_once_if_nothing_was_done),
        cmocka_unit_test(past_the_lanes_proposals_wait_their_turn),
        cmocka_unit_test(deadlines_hold_wherever_a_request_is),
        cmocka_unit_test(callbacks_may_cancel_others_and_themselves),
        cmocka_unit_test(a_lost_connections_requests_may_cancel_each_other),
        cmocka_unit_test(closing_is_possible_in_each_callback),
        cmocka_unit_test(a_client_that_closes_takes_nothing_more),
        cmocka_unit_test(a_refusal_is_final),
        cmocka_unit_test(a_node_that_talks_nonsense_is_left_and_tried_again),
        cmocka_unit_test(frames_may_come_and_go_in_pieces),
        cmocka_unit_test(too_much_is_refused_but_never_from_within_the_call),
        cmocka_unit_test(a_callback_that_asks_again_at_once_does_not_hold_the_turn),
        cmocka_unit_test(a_tool_waits_with_a_bound),
        cmocka_unit_test(each_request_ends_exactly_once_in_a_random_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
