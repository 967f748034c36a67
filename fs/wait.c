/* Requests that are answered later. A handler makes a struct waiting, asks the node, and returns; then() goes on when the
 * answer is here and this mount has read up to its revision. Every wait has a deadline.
 *
 *     IDLE -- wait_barrier --> BARRIER --+-- answer --> ANSWERED -- V reaches its revision --> then()
 *     IDLE -- wait_propose --> ANSWER ---+                  |
 *                 ^                                         | no leader, and an election may be under way
 *                 +---- after LEADER_RETRY_MS -- DELAYED <--+
 *
 * A signal ends waits for barriers only, since of a proposal nobody knows whether it takes effect; and only those that have
 * lasted a while: programs do not expect a local file system to be interrupted by their timers and children. */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount.h"

int errno_of(int rc)
{
    switch (rc) {
    case -EUCLEAN:
        return EIO;
    default:
        return rc < 0 ? -rc : rc;
    }
}

struct waiting *wait_new(struct mount *m, fuse_req_t req, wait_then then)
{
    struct waiting *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return NULL;
    w->m = m;
    w->req = req;
    w->then = then;
    w->started_ms = client_now_ms();
    w->deadline_ms = w->started_ms + m->opt.timeout_ms;
    arena_init(&w->arena);
    list_init(&w->link);
    list_init(&w->interrupted);
    list_push_back(&m->parked, &w->all);
    return w;
}

void wait_free(struct waiting *w)
{
    struct inode *held[] = {w->node, w->dir, w->dir2};

    list_remove(&w->all);
    list_remove(&w->link);
    list_remove(&w->interrupted);
    for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++)
        if (held[i] != NULL)
            mount_release(w->m, held[i]);
    arena_fini(&w->arena);
    free(w);
}

int wait_names(struct waiting *w, struct inode *dir, const char *name, struct inode *dir2, const char *name2)
{
    int rc = arena_copy(&w->arena, slice_from_str(name), &w->name);

    if (rc == 0 && name2 != NULL)
        rc = arena_copy(&w->arena, slice_from_str(name2), &w->name2);
    w->dir = dir;
    inode_hold(dir);
    w->dir2 = dir2;
    if (dir2 != NULL)
        inode_hold(dir2);
    return rc;
}

void wait_fail(struct waiting *w, int error)
{
    if (w->req != NULL)
        fuse_reply_err(w->req, error);
    wait_free(w);
}

/* ---- asking ---- */

static void set_answered(struct waiting *w, uint16_t status, int64_t revision)
{
    w->ticket = 0;
    w->state = WAIT_ANSWERED;
    w->status = status;
    w->retry_ms = 0;
    if (!w->row_seen || status == STATUS_OK)
        w->revision = revision;
    list_remove(&w->link);
    list_push_back(&w->m->answered, &w->link);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct waiting *w = arg;

    if (status == STATUS_OK && epoch > w->m->wanted_epoch)
        w->m->wanted_epoch = epoch;
    set_answered(w, status, revision);
}

static void on_answer(void *arg, const struct client_answer *answer)
{
    struct waiting *w = arg;
    uint16_t status = answer->status;

    w->took_revision = status == STATUS_OK && w->cmd.kind <= COMMAND_TXN;
    if (status == STATUS_OK && w->cmd.kind >= COMMAND_ALLOC_INODES) {
        struct result result = {0};
        struct arena arena;

        arena_init(&arena);
        if (client_result(w->cmd.kind, answer, &arena, &result) != 0) {
            result = (struct result){0};
        } else if (w->cmd.kind >= COMMAND_FILE_LOCK) {
            w->granted = w->granted || result.lock.granted;
            w->token = result.lock.granted ? result.lock.token : w->token;
        } else {
            w->result_ino = result.file.ino;
            w->result_size = result.file.size;
            w->took_revision = w->cmd.kind >= COMMAND_FILE_WRITE && result.file.changed;
        }
        arena_fini(&arena);
    }
    set_answered(w, status, answer->revision);
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct waiting *w = data;

    /* libfuse still needs the request here: the loop answers it. */
    if (list_empty(&w->interrupted))
        list_push_back(&w->m->interrupted, &w->interrupted);
}

static void ask(struct waiting *w)
{
    struct client *c = w->m->client;
    int64_t ticket;

    if (w->cmd.kind != 0)
        ticket = client_propose(c, &w->cmd, CLIENT_RETRY, w->deadline_ms, on_answer, w);
    else
        ticket = client_barrier(c, w->deadline_ms, on_barrier, w);
    if (ticket < 0) {
        set_answered(w, ticket == -ENOMEM ? STATUS_TOO_MANY_REQUESTS : STATUS_STOPPED, 0);
        return;
    }
    w->ticket = ticket;
    w->state = w->cmd.kind != 0 ? WAIT_ANSWER : WAIT_BARRIER;
}

void wait_newest(struct waiting *w)
{
    w->cmd = (struct command){0};
    ask(w);
    if (w->req != NULL)
        fuse_req_interrupt_func(w->req, on_interrupt, w);
}

void wait_barrier(struct waiting *w)
{
    w->cmd.kind = 0;
    if (w->m->opt.local_reads)
        set_answered(w, STATUS_OK, w->m->revision);
    else
        wait_newest(w);
}

void wait_propose(struct waiting *w)
{
    w->row_seen = false;
    ask(w);
}

bool wait_is_own(struct mount *m, int64_t revision, uint64_t session, uint64_t sequence)
{
    struct waiting *w;

    LIST_FOREACH(it, &m->answered) {
        w = LIST_ITEM(it, struct waiting, link);
        /* One that changed nothing was answered with a revision as well: that of somebody else's change. */
        if (w->cmd.kind != 0 && w->status == STATUS_OK && w->took_revision && w->revision == revision)
            return true;
    }
    w = session != 0 ? client_proposer(m->client, session, sequence) : NULL;
    if (w == NULL)
        return false;
    w->row_seen = true;
    w->revision = revision;
    return true;
}

/* ---- going on ---- */

static bool may_be_election(const struct waiting *w, uint64_t now_ms)
{
    const struct mount *m = w->m;
    const struct client_info *info = client_get_info(m->client);
    uint64_t grace_ms = info != NULL ? 3 * info->election_ms : 3000;

    return m->leaderless_since_ms == 0 || now_ms < m->leaderless_since_ms + grace_ms;
}

static void go_on(struct waiting *w, int error)
{
    list_remove(&w->link);
    list_remove(&w->interrupted);
    w->state = WAIT_IDLE;
    if (w->req != NULL && w->cmd.kind == 0)
        fuse_req_interrupt_func(w->req, NULL, NULL);
    w->then(w, error);
}

void wait_end(struct waiting *w, int error)
{
    w->ticket = 0;
    go_on(w, error);
}

static void delay(struct waiting *w, uint64_t now_ms)
{
    list_remove(&w->link);
    list_push_back(&w->m->delayed, &w->link);
    w->state = WAIT_DELAYED;
    w->retry_ms = now_ms + LEADER_RETRY_MS;
}

/* ENOSYS would make the kernel never ask again; what an older member of the cluster cannot, it may learn. */
static int error_of(uint16_t status)
{
    int error = status_errno(status);

    return error == ENOSYS ? EOPNOTSUPP : error;
}

static bool is_no_leader(uint16_t status)
{
    return status == STATUS_NO_LEADER || status == STATUS_NOT_LEADER;
}

static bool is_unavailable(uint16_t status)
{
    return is_no_leader(status) || (status >= STATUS_LEADER_CHANGED && status <= STATUS_TOO_MANY_REQUESTS);
}

static void settle_one(struct waiting *w, uint64_t now_ms)
{
    struct mount *m = w->m;
    bool barrier = w->cmd.kind == 0;

    if (w->status != STATUS_OK && w->row_seen && is_unavailable(w->status))
        w->status = STATUS_OK; /* the answer was lost, the row was not */
    if (w->status == STATUS_OK) {
        if (w->revision <= m->revision) {
            go_on(w, 0);
        } else if (now_ms >= w->deadline_ms + 1000) {
            go_on(w, ETIMEDOUT); /* the store does not come as far as the node said */
        } else {
            w->retry_ms = now_ms + 10;
        }
        return;
    }
    if (m->stopping) {
        go_on(w, error_of(w->status));
        return;
    }
    if (is_no_leader(w->status)) {
        bool wait = barrier && !w->for_write ? !m->opt.stale_without_quorum : may_be_election(w, now_ms);

        if (m->leaderless_since_ms == 0)
            m->leaderless_since_ms = now_ms;
        if (wait && now_ms + LEADER_RETRY_MS < w->deadline_ms) {
            delay(w, now_ms);
            return;
        }
    }
    if (barrier && w->status == STATUS_LEADER_CHANGED && now_ms + LEADER_RETRY_MS < w->deadline_ms) {
        delay(w, now_ms);
        return;
    }
    if (barrier && !w->for_write && is_unavailable(w->status))
        go_on(w, m->opt.stale_without_quorum ? 0 : ETIMEDOUT);
    else
        go_on(w, error_of(w->status));
}

static struct waiting *next_interrupted(struct mount *m, uint64_t now_ms)
{
    LIST_FOREACH(it, &m->interrupted) {
        struct waiting *w = LIST_ITEM(it, struct waiting, interrupted);

        if (now_ms >= w->started_ms + INTERRUPT_AFTER_MS)
            return w;
    }
    return NULL;
}

static void settle_interrupted(struct mount *m, uint64_t now_ms)
{
    struct waiting *w;

    while ((w = next_interrupted(m, now_ms)) != NULL) {
        list_remove(&w->interrupted);
        if (w->cmd.kind != 0 || w->state == WAIT_OTHER || w->state == WAIT_IDLE)
            continue;
        if (w->ticket != 0)
            client_cancel(m->client, w->ticket);
        w->ticket = 0;
        go_on(w, EINTR);
    }
}

void wait_settle(struct mount *m)
{
    uint64_t now_ms = client_now_ms();
    struct list round;
    bool behind = m->wanted_revision > m->revision || m->wanted_epoch > m->epoch;

    settle_interrupted(m, now_ms);
    LIST_FOREACH(it, &m->answered) {
        const struct waiting *w = LIST_ITEM(it, struct waiting, link);

        behind = behind || (w->status == STATUS_OK && w->revision > m->revision);
    }
    if (behind)
        tail_advance(m);
    /* What becomes due meanwhile is for the next turn. Moved in one piece, since going on frees and adds. */
    list_init(&round);
    while (!list_empty(&m->answered)) {
        struct list *it = m->answered.next;

        list_remove(it);
        list_push_back(&round, it);
    }
    while (!list_empty(&round)) {
        struct waiting *w = LIST_ITEM(round.next, struct waiting, link);

        list_remove(&w->link);
        list_push_back(&m->answered, &w->link);
        settle_one(w, now_ms);
    }
    LIST_FOREACH(it, &m->delayed) {
        struct waiting *w = LIST_ITEM(it, struct waiting, link);

        if (w->retry_ms <= now_ms || m->stopping) {
            list_remove(it);
            list_push_back(&round, it);
            it = &m->delayed; /* from the start: the ring has changed */
        }
    }
    while (!list_empty(&round)) {
        struct waiting *w = LIST_ITEM(round.next, struct waiting, link);

        list_remove(&w->link);
        ask(w);
    }
}

int wait_timeout_ms(const struct mount *m)
{
    uint64_t now_ms = client_now_ms(), at_ms = UINT64_MAX;

    LIST_FOREACH(it, &m->interrupted) {
        const struct waiting *w = LIST_ITEM(it, struct waiting, interrupted);

        if (w->started_ms + INTERRUPT_AFTER_MS < at_ms)
            at_ms = w->started_ms + INTERRUPT_AFTER_MS;
    }
    LIST_FOREACH(it, &m->answered) {
        const struct waiting *w = LIST_ITEM(it, struct waiting, link);

        if (w->retry_ms < at_ms)
            at_ms = w->retry_ms;
    }
    LIST_FOREACH(it, &m->delayed) {
        const struct waiting *w = LIST_ITEM(it, struct waiting, link);

        if (w->retry_ms < at_ms)
            at_ms = w->retry_ms;
    }
    if (at_ms == UINT64_MAX)
        return -1;
    return at_ms <= now_ms ? 0 : (int)(at_ms - now_ms);
}

void wait_leader_changed(struct mount *m)
{
    if (client_leader(m->client) == 0) {
        if (m->leaderless_since_ms == 0)
            m->leaderless_since_ms = client_now_ms();
        return;
    }
    m->leaderless_since_ms = 0;
    LIST_FOREACH(it, &m->delayed)
        LIST_ITEM(it, struct waiting, link)->retry_ms = 0;
}

/* ---- inode numbers ---- */

static void inodes_came(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct list round;

    m->ino_asked = false;
    if (error == 0 && w->result_ino != 0) {
        if (m->ino_next == m->ino_end) {
            m->ino_next = w->result_ino;
            m->ino_end = w->result_ino + INODE_RANGE;
        } else {
            m->spare_next = w->result_ino;
            m->spare_end = w->result_ino + INODE_RANGE;
        }
    }
    list_init(&round);
    while (!list_empty(&m->ino_waiters)) {
        struct list *it = m->ino_waiters.next;

        list_remove(it);
        list_push_back(&round, it);
    }
    wait_free(w);
    while (!list_empty(&round)) {
        struct waiting *waiter = LIST_ITEM(round.next, struct waiting, link);

        go_on(waiter, error);
    }
}

void wait_ask_inodes(struct mount *m)
{
    struct waiting *w;

    if (m->ino_asked || m->stopping || m->spare_next != m->spare_end)
        return;
    w = wait_new(m, NULL, inodes_came);
    if (w == NULL)
        return;
    m->ino_asked = true;
    w->cmd.kind = COMMAND_ALLOC_INODES;
    w->cmd.alloc_inodes.count = INODE_RANGE;
    wait_propose(w);
}

int wait_ino(struct waiting *w, uint64_t *ret_ino)
{
    struct mount *m = w->m;

    if (m->ino_next == m->ino_end && m->spare_next != m->spare_end) {
        m->ino_next = m->spare_next;
        m->ino_end = m->spare_end;
        m->spare_next = m->spare_end = 0;
    }
    if (m->ino_end - m->ino_next < INODE_RANGE / 2)
        wait_ask_inodes(m);
    if (m->ino_next == m->ino_end) {
        w->state = WAIT_OTHER;
        list_remove(&w->link);
        list_push_back(&m->ino_waiters, &w->link);
        return -EAGAIN;
    }
    *ret_ino = m->ino_next++;
    return 0;
}
