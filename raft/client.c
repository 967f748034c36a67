#include "raft/client_impl.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/command.h"

uint64_t client_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- opening and closing ---- */

static void free_client(struct client *c)
{
    if (c->socket_fd >= 0)
        close(c->socket_fd);
    if (c->timer_fd >= 0)
        close(c->timer_fd);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    requests_fini(c);
    free(c->name);
    free(c->store_dir);
    free(c->program);
    free(c);
}

static int open_polling(struct client *c)
{
    struct epoll_event ev = {.events = EPOLLIN};

    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0)
        return -errno;
    c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->timer_fd < 0)
        return -errno;
    ev.data.fd = c->timer_fd;
    return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->timer_fd, &ev) < 0 ? -errno : 0;
}

int client_open(const char *socket_path, const char *program, const struct client_callbacks *callbacks,
                struct client **ret_client)
{
    struct client *c;
    int rc = -ENOMEM;

    if (strlen(socket_path) >= sizeof(c->address.sun_path))
        return -ENAMETOOLONG;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->epoll_fd = c->timer_fd = c->socket_fd = -1;
    c->address.sun_family = AF_UNIX;
    strcpy(c->address.sun_path, socket_path);
    if (callbacks != NULL)
        c->cb = *callbacks;
    c->backoff_ms = BACKOFF_MIN_MS;
    c->armed_ms = UINT64_MAX;
    c->program = strdup(program);
    if (c->program == NULL)
        goto fail;
    rc = requests_init(c);
    if (rc < 0)
        goto fail;
    rc = open_polling(c);
    if (rc < 0)
        goto fail;
    client_arm(c, 0);
    *ret_client = c;
    return 0;
fail:
    free_client(c);
    return rc;
}

/* Ends the requests one by one, since each callback may cancel others. */
static void stop_requests(struct client *c)
{
    while (c->heap_size != 0)
        client_finish(c, c->heap[0], STATUS_STOPPED);
    while (!list_empty(&c->doomed))
        client_finish(c, LIST_ITEM(c->doomed.next, struct request, link), STATUS_STOPPED);
}

void client_close(struct client *c)
{
    if (c == NULL || c->closed)
        return;
    c->closed = true;
    c->depth++;
    stop_requests(c);
    if (--c->depth == 0)
        free_client(c);
}

/* ---- time ---- */

/* The moment of the timer, if it is earlier than the one that is set. */
void client_arm(struct client *c, uint64_t at_ms)
{
    struct itimerspec ts = {0};

    if (at_ms >= c->armed_ms)
        return;
    c->armed_ms = at_ms;
    ts.it_value.tv_sec = (time_t)(at_ms / 1000);
    ts.it_value.tv_nsec = (long)(at_ms % 1000) * 1000000;
    if (at_ms == 0)
        ts.it_value.tv_nsec = 1; /* zero would disarm it */
    timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &ts, NULL);
}

static void rearm(struct client *c)
{
    if (!list_empty(&c->doomed) || c->broken)
        client_arm(c, 0);
    if (c->heap_size != 0 && c->heap[0]->wake_ms != UINT64_MAX)
        client_arm(c, c->heap[0]->wake_ms);
    if (c->state == CLIENT_AWAY || c->state == CLIENT_GREETING)
        client_arm(c, c->connect_ms);
}

/* until: tickets from there on were made by callbacks of this turn, and wait for the next one: a callback that asks
 * again at once must not keep us here for ever. */
static void run_timers(struct client *c, uint64_t now_ms, uint64_t until)
{
    while (!c->closed && c->heap_size != 0 && c->heap[0]->wake_ms <= now_ms) {
        struct request *r = c->heap[0];

        if (r->ticket >= until)
            break;
        if (r->deadline_ms <= now_ms) {
            client_finish(c, r, STATUS_TIMEOUT);
            continue;
        }
        assert(r->state == STATE_DELAYED);
        request_move(c, r, STATE_QUEUED);
        request_set_wake(c, r, r->deadline_ms);
    }
    if (c->closed)
        return;
    if (c->state == CLIENT_GREETING && c->connect_ms <= now_ms)
        line_drop(c);
    else if (c->state == CLIENT_AWAY && c->connect_ms <= now_ms)
        line_connect(c, now_ms);
}

/* ---- the turn ---- */

static void process_turn(struct client *c)
{
    struct epoll_event events[2];
    int n = epoll_wait(c->epoll_fd, events, 2, 0);
    bool readable = false;
    uint64_t expirations, until = c->next_ticket;

    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == c->timer_fd) {
            if (read(c->timer_fd, &expirations, sizeof(expirations)) == sizeof(expirations))
                c->armed_ms = UINT64_MAX;
        } else if ((events[i].events & ~(unsigned)EPOLLOUT) != 0) {
            readable = true;
        }
    }
    while (!c->closed && !list_empty(&c->doomed)) {
        struct request *r = LIST_ITEM(c->doomed.next, struct request, link);

        if (r->ticket >= until)
            break;
        client_finish(c, r, r->doomed_status);
    }
    if (!c->closed && readable && c->socket_fd >= 0)
        line_receive(c);
    if (!c->closed)
        run_timers(c, client_now_ms(), until);
    if (!c->closed && c->socket_fd >= 0) {
        line_pump(c);
        line_send(c);
    }
    if (!c->closed && c->broken)
        line_drop(c);
    c->sent_this_turn = false;
    if (!c->closed)
        rearm(c);
}

void client_process(struct client *c)
{
    if (c->closed)
        return;
    c->depth++;
    process_turn(c);
    if (--c->depth == 0 && c->closed)
        free_client(c);
}

int client_wait(struct client *c, bool (*pred)(void *ctx), void *ctx, uint64_t deadline_ms)
{
    int rc = 0;

    c->depth++;
    for (;;) {
        struct pollfd p = {c->epoll_fd, POLLIN, 0};
        uint64_t now_ms, left_ms;

        if (!c->closed)
            client_process(c);
        if (pred(ctx))
            break;
        if (c->closed) {
            rc = -ESHUTDOWN;
            break;
        }
        now_ms = client_now_ms();
        if (now_ms >= deadline_ms) {
            rc = -ETIMEDOUT;
            break;
        }
        left_ms = deadline_ms - now_ms;
        poll(&p, 1, left_ms < 60000 ? (int)left_ms : 60000);
    }
    if (--c->depth == 0 && c->closed)
        free_client(c);
    return rc;
}

/* ---- asking ---- */

/* Sends at once if nothing was sent since the last turn, so that a lone request does not wait for the owner's loop;
 * what follows in the same turn shares one system call. */
static void kick(struct client *c)
{
    if (c->state != CLIENT_READY || c->depth != 0)
        return;
    line_pump(c);
    if (c->sent_this_turn)
        line_want_write(c, c->out_at != c->out.len);
    else
        line_send(c);
    c->sent_this_turn = true;
    if (c->broken)
        client_arm(c, 0);
}

static void doom(struct client *c, struct request *r, uint16_t status)
{
    r->doomed_status = status;
    request_move(c, r, STATE_DOOMED);
    client_arm(c, 0);
}

int64_t client_submit(struct client *c, struct request *r, uint16_t doomed_status)
{
    int64_t ticket = (int64_t)c->next_ticket;
    int rc;

    r->ticket = c->next_ticket++;
    r->wake_ms = r->deadline_ms;
    r->lane = -1;
    r->payload_bytes = r->payload.len;
    list_init(&r->link);
    if (doomed_status == STATUS_OK && c->state == CLIENT_REFUSED)
        doomed_status = STATUS_PERMISSION_DENIED;
    if (doomed_status == STATUS_OK &&
        (c->n_requests >= CLIENT_QUEUE_MAX || c->queued_bytes + r->payload.len > CLIENT_QUEUE_MAX_BYTES))
        doomed_status = STATUS_TOO_MANY_REQUESTS;
    if (doomed_status != STATUS_OK) {
        doom(c, r, doomed_status);
        return ticket;
    }
    rc = request_add(c, r);
    if (rc < 0) {
        request_free(r);
        return rc;
    }
    if ((r->flags & CLIENT_RETRY) != 0)
        lane_take(c, r);
    else
        request_move(c, r, STATE_QUEUED);
    if (r->deadline_ms != UINT64_MAX)
        client_arm(c, r->deadline_ms);
    kick(c);
    return ticket;
}

int client_request_new(struct client *c, enum request_kind kind, uint64_t deadline_ms, void *arg,
                       struct request **ret_request)
{
    struct request *r = c->closed ? NULL : calloc(1, sizeof(*r));

    if (r == NULL)
        return c->closed ? -ESHUTDOWN : -ENOMEM;
    r->kind = kind;
    r->deadline_ms = deadline_ms;
    r->arg = arg;
    *ret_request = r;
    return 0;
}

static int64_t propose(struct client *c, const struct command *cmd, const struct slice *body, unsigned flags,
                       uint64_t deadline_ms, client_answer_fn fn, void *arg)
{
    struct command copy = *cmd;
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_PROPOSE, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->flags = flags;
    r->once = (flags & CLIENT_RETRY) == 0;
    r->fn.answer = fn;
    if (cmd->user.len > UINT16_MAX)
        return client_submit(c, r, STATUS_INVALID_REQUEST);
    if (body != NULL && body->len > COMMAND_MAX_BYTES)
        return client_submit(c, r, STATUS_TOO_LARGE);
    copy.session = copy.sequence = copy.origin = copy.request = 0;
    if (body != NULL)
        command_encode_raw(&copy, *body, &r->payload);
    else
        command_encode(&copy, &r->payload);
    if (bytes_status(&r->payload) < 0) {
        request_free(r);
        return -ENOMEM;
    }
    return client_submit(c, r, r->payload.len > COMMAND_MAX_BYTES ? STATUS_TOO_LARGE : STATUS_OK);
}

int64_t client_propose(struct client *c, const struct command *cmd, unsigned flags, uint64_t deadline_ms,
                       client_answer_fn fn, void *arg)
{
    return propose(c, cmd, NULL, flags, deadline_ms, fn, arg);
}

int64_t client_propose_raw(struct client *c, uint16_t kind, struct slice user, struct slice body, unsigned flags,
                           uint64_t deadline_ms, client_answer_fn fn, void *arg)
{
    struct command cmd;

    memset(&cmd, 0, sizeof(cmd));
    cmd.kind = kind;
    cmd.user = user;
    return propose(c, &cmd, &body, flags, deadline_ms, fn, arg);
}

int64_t client_barrier(struct client *c, uint64_t deadline_ms, client_barrier_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_BARRIER, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.barrier = fn;
    return client_submit(c, r, STATUS_OK);
}

int64_t client_status(struct client *c, uint64_t deadline_ms, client_status_fn fn, void *arg)
{
    struct request *r = NULL;
    int rc = client_request_new(c, REQUEST_STATUS, deadline_ms, arg, &r);

    if (rc < 0)
        return rc;
    r->fn.status = fn;
    return client_submit(c, r, STATUS_OK);
}

void *client_proposer(const struct client *c, uint64_t session, uint64_t sequence)
{
    for (uint64_t busy = c->busy_lanes; busy != 0; busy &= busy - 1) {
        const struct lane *l = &c->lanes[__builtin_ctzll(busy)];

        if (l->session == session && l->sequence + 1 == sequence && l->request != NULL)
            return l->request->arg;
    }
    return NULL;
}

int client_result(uint16_t kind, const struct client_answer *answer, struct arena *arena, struct result *ret_result)
{
    return result_decode(kind, answer->body, arena, ret_result);
}

/* A number of the lane may or may not be used when its request ends like this: the session ends with it. */
static void leave_lane(struct client *c, struct request *r, uint16_t status)
{
    struct lane *l;

    if (r->state == STATE_DOOMED || r->lane < 0 || r->attempts == 0)
        return;
    l = &c->lanes[r->lane];
    /* From 64 on a status can only come from the store, which has then counted the number. The others may also
     * be the node's own refusal. Believing a number unused that is used would get an old answer for a new
     * command, so in doubt the session is given up. */
    if (status == STATUS_OK || status >= STATUS_EXISTS)
        l->sequence++;
    else
        lane_renew(c, l);
}

void client_cancel(struct client *c, int64_t ticket)
{
    struct request *r;

    if (ticket <= 0)
        return;
    r = request_find(c, (uint64_t)ticket);
    for (struct list *it = c->doomed.next; r == NULL && it != &c->doomed; it = it->next) {
        struct request *d = LIST_ITEM(it, struct request, link);

        if (d->ticket == (uint64_t)ticket)
            r = d;
    }
    if (r == NULL)
        return;
    leave_lane(c, r, STATUS_TIMEOUT);
    request_remove(c, r);
    request_free(r);
}

/* ---- ending ---- */

static void end_request(struct client *c, struct request *r, const struct client_answer *answer, uint64_t epoch)
{
    leave_lane(c, r, answer->status);
    request_remove(c, r);
    switch (r->kind) {
    case REQUEST_PROPOSE:
        r->fn.answer(r->arg, answer);
        break;
    case REQUEST_BARRIER:
        r->fn.barrier(r->arg, answer->status, epoch, answer->revision);
        break;
    case REQUEST_STATUS:
        r->fn.status(r->arg, answer->status, answer->body);
        break;
    default:
        client_service_failed(r, answer->status);
    }
    request_free(r);
}

void client_finish(struct client *c, struct request *r, uint16_t status)
{
    struct client_answer answer = {.status = status, .term = c->term};

    end_request(c, r, &answer, 0);
}

void client_finish_barrier(struct client *c, struct request *r, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct client_answer answer = {.status = status, .revision = revision};

    end_request(c, r, &answer, epoch);
}

void client_finish_status(struct client *c, struct request *r, uint16_t status, struct slice json)
{
    struct client_answer answer = {.status = status, .body = json};

    end_request(c, r, &answer, 0);
}

static bool outcome_unknown(uint16_t status)
{
    return status == STATUS_LEADER_CHANGED || status == STATUS_STOPPED || status == STATUS_TIMEOUT ||
           status == STATUS_TIMEOUT_LEADER_FAIL || status == STATUS_TIMEOUT_CONNECTION_LOST;
}

/* This attempt had no effect, which says nothing of one before it. */
static bool attempt_refused(uint16_t status)
{
    return status == STATUS_NO_LEADER || status == STATUS_NOT_LEADER || status == STATUS_TOO_MANY_REQUESTS ||
           status == STATUS_UNHEALTHY;
}

static void try_later(struct client *c, struct request *r)
{
    uint64_t delay_ms = r->attempts < 6 ? (uint64_t)RETRY_MIN_MS << r->attempts : RETRY_MAX_MS;
    uint64_t at_ms = client_now_ms() + delay_ms;

    request_move(c, r, STATE_DELAYED);
    request_set_wake(c, r, at_ms < r->deadline_ms ? at_ms : r->deadline_ms);
}

void client_answered(struct client *c, struct request *r, const struct client_answer *answer)
{
    bool retried = r->lane >= 0;

    if (retried && outcome_unknown(answer->status)) {
        r->uncertain = true;
        try_later(c, r);
    } else if (retried && r->uncertain && attempt_refused(answer->status)) {
        try_later(c, r);
    } else if (retried && !r->uncertain && r->renewals == 0 &&
               (answer->status == STATUS_SESSION_EXPIRED || answer->status == STATUS_SEQUENCE_OLD)) {
        /* The session was forgotten, or a refusal was taken for an answer. Nothing was done: again, under a new one. */
        r->renewals++;
        lane_renew(c, &c->lanes[r->lane]);
        lane_stamp(c, r);
        request_move(c, r, STATE_QUEUED);
    } else {
        end_request(c, r, answer, 0);
    }
}

/* ---- what is known ---- */

int client_fd(const struct client *c)
{
    return c->epoll_fd;
}

int client_timeout_ms(const struct client *c)
{
    return -1; /* the timer is in the descriptor */
}

bool client_connected(const struct client *c)
{
    return c->state == CLIENT_READY;
}

const struct client_info *client_get_info(const struct client *c)
{
    return c->welcomed ? &c->info : NULL;
}

uint64_t client_leader(const struct client *c)
{
    return c->leader;
}

uint64_t client_term(const struct client *c)
{
    return c->term;
}

void client_revision(const struct client *c, uint64_t *ret_epoch, int64_t *ret_revision)
{
    *ret_epoch = c->epoch;
    *ret_revision = c->revision;
}
