#include "fs/locks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "fs/mount.h"

#define RETRY_MS 500

void locks_init(struct lock_session *s)
{
    *s = (struct lock_session){0};
    list_init(&s->starters);
    list_init(&s->waiters);
    list_init(&s->granted);
    list_init(&s->interrupted);
}

void locks_fini(struct mount *m)
{
    for (size_t n = 0; m->inodes.by_id != NULL && n < m->inodes.size; n++)
        for (struct inode *i = m->inodes.by_id[n]; i != NULL; i = i->id_next)
            locks_unmark(m, i, 0, 0);
}

/* ---- marks ---- */

static bool fits(const struct lock_mark *k, uint64_t owner, int kind)
{
    return (kind == 0 && owner == 0) || (k->owner == owner && (kind == 0 || k->kind == kind));
}

bool locks_marked(const struct inode *i, uint64_t owner, int kind)
{
    LIST_FOREACH(it, &i->locks)
        if (fits(LIST_ITEM(it, struct lock_mark, link), owner, kind))
            return true;
    return false;
}

void locks_mark(struct mount *m, struct inode *i, uint64_t owner, int kind, const void *via)
{
    struct lock_mark *k;

    m->locks.used_ms = client_now_ms();
    LIST_FOREACH(it, &i->locks) {
        k = LIST_ITEM(it, struct lock_mark, link);
        if (fits(k, owner, kind)) {
            k->via = via;
            return;
        }
    }
    k = calloc(1, sizeof(*k));
    if (k == NULL)
        abort(); /* a lock that would never be released */
    k->owner = owner;
    k->kind = kind;
    k->via = via;
    list_push_back(&i->locks, &k->link);
    m->locks.n_marks++;
}

void locks_releasing(struct inode *i, uint64_t owner, int kind)
{
    LIST_FOREACH(it, &i->locks) {
        struct lock_mark *k = LIST_ITEM(it, struct lock_mark, link);

        k->releasing = k->releasing || fits(k, owner, kind);
    }
}

void locks_unmark(struct mount *m, struct inode *i, uint64_t owner, int kind)
{
    LIST_FOREACH_SAFE(it, &i->locks) {
        struct lock_mark *k = LIST_ITEM(it, struct lock_mark, link);

        if (!fits(k, owner, kind))
            continue;
        list_remove(it);
        free(k);
        m->locks.n_marks--;
    }
    if (list_empty(&i->locks))
        i->lock_token = 0;
}

static struct lock_mark *next_to_release(const struct inode *i, const void *via)
{
    LIST_FOREACH(it, &i->locks) {
        struct lock_mark *k = LIST_ITEM(it, struct lock_mark, link);

        if (!k->releasing && (via == NULL || k->via == via))
            return k;
    }
    return NULL;
}

void locks_closed(struct mount *m, struct inode *i, const void *via)
{
    struct lock_mark *k;

    i->lock_lost = i->lock_lost && via != NULL;
    while ((k = next_to_release(i, via)) != NULL) /* it may be gone when the call returns */
        ops_lock_release(m, NULL, i, k->owner, k->kind);
}

int64_t locks_fence(const struct mount *m, const struct inode *i)
{
    return list_empty(&i->locks) ? 0 : m->locks.lease;
}

/* The process of a thread: the kernel names threads. */
static int process_of(int thread)
{
    char name[64], text[1024];
    const char *at = NULL;
    int process = thread, fd;
    ssize_t n = 0;

    snprintf(name, sizeof(name), "/proc/%d/status", thread);
    fd = thread > 0 ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    if (n > 0) {
        text[n] = 0;
        at = strstr(text, "\nTgid:");
    }
    if (at != NULL)
        process = atoi(at + 6);
    return process;
}

void locks_note(struct mount *m, uint64_t owner, int thread)
{
    struct lock_session *s = &m->locks;

    s->notes[s->grants++ % LOCKS_NOTES] = (struct lock_note){owner, process_of(thread)};
}

bool locks_granted_since(const struct mount *m, uint64_t grants, uint64_t owner, int thread)
{
    const struct lock_session *s = &m->locks;
    int process;

    if (s->grants == grants)
        return false;
    if (s->grants - grants > LOCKS_NOTES)
        return true;
    process = process_of(thread);
    for (uint64_t n = grants; n < s->grants; n++) {
        const struct lock_note *note = &s->notes[n % LOCKS_NOTES];

        if ((owner != 0 && note->owner == owner) || note->process == process)
            return true;
    }
    return false;
}

/* ---- the session ---- */

static void go_on_all(struct list *from, int error)
{
    struct list round;

    list_init(&round);
    while (!list_empty(from)) {
        struct list *it = from->next;

        list_remove(it);
        list_push_back(&round, it);
    }
    while (!list_empty(&round)) {
        struct waiting *w = LIST_ITEM(round.next, struct waiting, link);

        list_remove(&w->link);
        w->state = WAIT_IDLE;
        w->again(w, error);
    }
}

static void started(struct waiting *g, int error)
{
    struct lock_session *s = &g->m->locks;
    uint64_t now_ms = client_now_ms();

    s->state = error == 0 ? LOCKS_UP : LOCKS_NONE;
    s->confirmed_ms = s->used_ms = now_ms;
    s->next_keepalive_ms = now_ms + (uint64_t)g->m->opt.lock_ttl_s * 1000 / 3;
    wait_free(g);
    go_on_all(&s->starters, error == EROFS ? ENOLCK : error);
}

static void start(struct mount *m)
{
    struct lock_session *s = &m->locks;
    struct waiting *g = wait_new(m, NULL, started);
    uint64_t numbers[2] = {0};

    if (g == NULL || getrandom(numbers, sizeof(numbers), 0) != sizeof(numbers)) {
        if (g != NULL)
            wait_free(g);
        go_on_all(&s->starters, ENOLCK);
        return;
    }
    s->state = LOCKS_STARTING;
    s->session = numbers[0] | 1;
    s->lease = (int64_t)((numbers[1] >> 1) | 1);
    g->cmd.kind = COMMAND_LEASE_GRANT;
    g->cmd.lease = (struct lease_op){.id = s->lease, .ttl_s = m->opt.lock_ttl_s};
    wait_propose(g);
}

bool locks_ready(struct waiting *w)
{
    struct lock_session *s = &w->m->locks;

    if (s->state == LOCKS_UP)
        return true;
    w->state = WAIT_OTHER;
    list_remove(&w->link);
    list_push_back(&s->starters, &w->link);
    if (s->state == LOCKS_NONE)
        start(w->m);
    return false;
}

/* What was written under a lock that is gone must not reach the cluster. */
static void lose_node(struct mount *m, struct inode *i)
{
    if (list_empty(&i->locks))
        return;
    locks_unmark(m, i, 0, 0);
    if (i->n_handles == 0)
        return;
    i->lock_lost = true;
    if (i->buffer != NULL && !i->committing)
        commit_drop_buffer(i);
}

void locks_lose(struct mount *m)
{
    struct lock_session *s = &m->locks;

    if (s->state != LOCKS_UP)
        return;
    log_warn(&m->log, "the lock session has ended: %zu locks are lost", s->n_marks);
    s->lost += s->n_marks;
    s->state = LOCKS_NONE;
    s->session = 0;
    s->lease = 0;
    if (s->keepalive_ticket != 0)
        client_cancel(m->client, s->keepalive_ticket);
    s->keepalive_ticket = 0;
    for (size_t n = 0; n < m->inodes.size; n++)
        for (struct inode *i = m->inodes.by_id[n]; i != NULL; i = i->id_next)
            lose_node(m, i);
    go_on_all(&s->waiters, 0); /* they held nothing: they ask again, in a new session */
}

static void on_keepalive(void *arg, uint16_t status, int64_t ttl_s)
{
    struct mount *m = arg;
    struct lock_session *s = &m->locks;
    uint64_t now_ms = client_now_ms();

    s->keepalive_ticket = 0;
    s->next_keepalive_ms = now_ms + RETRY_MS;
    if (status == STATUS_OK) {
        s->confirmed_ms = now_ms;
        s->next_keepalive_ms = now_ms + (uint64_t)m->opt.lock_ttl_s * 1000 / 3;
    } else if (status == STATUS_LEASE_NOT_FOUND) {
        locks_lose(m);
    }
}

static void quietly_done(struct waiting *w, int error)
{
    wait_free(w);
}

void locks_end(struct mount *m)
{
    struct lock_session *s = &m->locks;
    struct waiting *w = s->state == LOCKS_UP ? wait_new(m, NULL, quietly_done) : NULL;

    if (w == NULL)
        return;
    w->cmd.kind = COMMAND_LEASE_REVOKE;
    w->cmd.lease.id = s->lease;
    s->state = LOCKS_NONE;
    s->session = 0;
    s->lease = 0;
    if (s->keepalive_ticket != 0)
        client_cancel(m->client, s->keepalive_ticket);
    s->keepalive_ticket = 0;
    wait_propose(w);
}

static bool is_idle(const struct lock_session *s)
{
    return s->n_marks == 0 && s->n_waiters == 0 && list_empty(&s->starters);
}

void locks_work(struct mount *m)
{
    struct lock_session *s = &m->locks;
    uint64_t now_ms = client_now_ms();

    while (!list_empty(&s->granted))
        ops_lock_granted(LIST_ITEM(s->granted.next, struct waiting, link), 0);
    while (!list_empty(&s->interrupted)) {
        struct waiting *w = LIST_ITEM(s->interrupted.next, struct waiting, interrupted);

        list_remove(&w->interrupted);
        ops_lock_interrupted(w);
    }
    if (s->state != LOCKS_UP || now_ms < s->next_keepalive_ms || s->keepalive_ticket != 0)
        return;
    if (is_idle(s) && now_ms > s->used_ms + LOCKS_IDLE_MS) {
        locks_end(m);
        return;
    }
    s->keepalive_ticket = client_keepalive(m->client, s->lease, now_ms + m->opt.timeout_ms, on_keepalive, m);
    if (s->keepalive_ticket < 0) {
        s->keepalive_ticket = 0;
        s->next_keepalive_ms = now_ms + RETRY_MS;
    }
}

int locks_timeout_ms(const struct mount *m)
{
    const struct lock_session *s = &m->locks;
    uint64_t now_ms = client_now_ms();

    if (!list_empty(&s->interrupted) || !list_empty(&s->granted))
        return 0;
    if (s->state != LOCKS_UP || s->keepalive_ticket != 0)
        return -1;
    return now_ms >= s->next_keepalive_ms ? 0 : (int)(s->next_keepalive_ms - now_ms);
}

/* ---- grants ---- */

static struct waiting *find_request(struct mount *m, uint64_t request)
{
    LIST_FOREACH(it, &m->parked) {
        struct waiting *w = LIST_ITEM(it, struct waiting, all);

        if (w->cmd.kind == COMMAND_FILE_LOCK && w->cmd.lock.request == request && w->cmd.lock.session == m->locks.session)
            return w;
    }
    return NULL;
}

static void granted(struct mount *m, uint64_t request, uint64_t token)
{
    struct waiting *w = find_request(m, request);

    if (w == NULL)
        return; /* it is being cancelled: that answer says that it was granted */
    w->granted = true;
    w->token = token;
    if (w->queued) { /* else its answer is on its way */
        list_remove(&w->link);
        list_push_back(&m->locks.granted, &w->link);
    }
}

void locks_row(struct mount *m, const struct event *e)
{
    uint64_t session = 0;

    for (size_t i = 0; i < e->key.len && i < 8; i++)
        session = session << 8 | e->key.data[i];
    if (session != 0 && session == m->locks.session)
        granted(m, e->lock.request, e->lock.token);
}

static int compare_lock(void *ctx, const struct lock_op *lock, uint64_t token)
{
    struct mount *m = ctx;

    if (!lock->wait && lock->session == m->locks.session)
        granted(m, lock->request, token);
    return 0;
}

void locks_compare(struct mount *m)
{
    if (m->locks.state == LOCKS_UP && !list_empty(&m->locks.waiters) && store_locks(m->read, compare_lock, m) < 0)
        log_warn(&m->log, "cannot read which locks were granted");
}
