/* flock(2) and fcntl(2) locks. Waiting for one is a late reply; a signal cancels it, and the cluster says which came first.
 *
 *     setlk_go -> (a new file is committed) -> (the session is there) -> LOCK -> granted: reply
 *                                                                       |  `-> EAGAIN
 *                                                                       `-> queued -- EVENT_LOCK in the log --> reply
 *                                                                              `-- signal --> CANCEL -> EINTR, or granted
 *
 * Before an unlock, what was written is committed. The owner of fcntl locks loses them with any close of the file (FLUSH), of
 * flock locks with the last close of the open file (RELEASE). */
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>

#include "fs/mount.h"

static void setlk_go(struct waiting *w, int error);

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static void unpark(struct waiting *w)
{
    if (w->queued)
        w->m->locks.n_waiters--;
    w->queued = false;
    if (w->partner != NULL)
        w->partner->partner = NULL;
    w->partner = NULL;
}

static void reply(struct waiting *w, int error)
{
    unpark(w);
    if (w->req != NULL) {
        fuse_req_interrupt_func(w->req, NULL, NULL);
        fuse_reply_err(w->req, error);
    }
    wait_free(w);
}

/* ---- locking ---- */

void ops_lock_granted(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct inode *i = w->node;

    (void)error; /* of the time that it waited: it has the lock */
    i->lock_token = w->token;
    locks_note(m, w->cmd.lock.owner, w->thread);
    reply(w, 0);
}

static void cancel_done(struct waiting *c, int error)
{
    struct waiting *w = c->partner;
    bool has_it = error == 0 && c->granted;

    if (w != NULL && (has_it || w->granted)) {
        w->token = has_it ? c->token : w->token;
        ops_lock_granted(w, 0);
    } else if (w != NULL) {
        reply(w, EINTR); /* without an answer too: what it may get after all is released at the next close */
    }
    c->partner = NULL;
    wait_free(c);
}

/* Not to be told to anybody (w NULL), or to one who waits for the answer. */
static void cancel(struct mount *m, struct inode *i, const struct lock_op *op, struct waiting *w)
{
    struct waiting *c = wait_new(m, NULL, cancel_done);

    if (c == NULL)
        return;
    c->node = i;
    inode_hold(i);
    c->cmd.kind = COMMAND_FILE_LOCK_CANCEL;
    c->cmd.lock = *op;
    c->partner = w;
    if (w != NULL)
        w->partner = c;
    wait_propose(c);
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct waiting *w = data;

    w->signalled = true;
    if (list_empty(&w->interrupted)) /* libfuse still needs the request here: the loop answers it */
        list_push_back(&w->m->locks.interrupted, &w->interrupted);
}

void ops_lock_interrupted(struct waiting *w)
{
    if (w->queued && w->partner == NULL && !w->granted)
        cancel(w->m, w->node, &w->cmd.lock, w);
}

static void queue(struct waiting *w)
{
    struct mount *m = w->m;

    w->queued = true;
    w->state = WAIT_OTHER;
    w->again = setlk_go; /* if the session ends meanwhile */
    w->then = reply;     /* if the mount does */
    list_remove(&w->link);
    list_push_back(&m->locks.waiters, &w->link);
    m->locks.n_waiters++;
    if (w->signalled)
        cancel(m, w->node, &w->cmd.lock, w);
}

static void lock_answered(struct waiting *w, int error)
{
    struct mount *m = w->m;

    if (w->status == STATUS_LEASE_NOT_FOUND) {
        locks_lose(m);
        setlk_go(w, client_now_ms() >= w->deadline_ms ? ETIMEDOUT : 0);
    } else if (error != 0) {
        if (error == ETIMEDOUT) /* it may have been granted, or be queued */
            cancel(m, w->node, &w->cmd.lock, NULL);
        reply(w, error == EROFS ? ENOLCK : error);
    } else if (w->granted) {
        ops_lock_granted(w, 0);
    } else {
        queue(w);
    }
}

static void setlk_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct inode *i = w->node;

    if (w->queued) { /* the session ended while it waited */
        unpark(w);
        w->deadline_ms = client_now_ms() + m->opt.timeout_ms;
    }
    if (error == 0 && i->lock_lost)
        error = EIO;
    if (error == 0 && w->signalled)
        error = EINTR;
    if (error == 0 && m->locks.n_waiters >= LOCKS_WAITERS_MAX)
        error = ENOLCK;
    if (error != 0) {
        reply(w, error);
        return;
    }
    w->again = setlk_go;
    if (i->fresh && !inode_is_dead(&m->inodes, i)) {
        w->then = setlk_go;
        commit_start(w, i);
        return;
    }
    if (!locks_ready(w))
        return;
    w->cmd.kind = COMMAND_FILE_LOCK;
    w->cmd.lock.ino = i->ino;
    w->cmd.lock.session = m->locks.session;
    w->cmd.lock.lease = m->locks.lease;
    w->cmd.lock.request = ++m->locks.next_request;
    w->granted = false;
    w->then = lock_answered;
    /* Marked before it is known: what may be held is released at close, whatever became of the answer. */
    locks_mark(m, i, w->cmd.lock.owner, w->cmd.lock.kind, (const void *)(uintptr_t)w->fi.fh);
    wait_propose(w);
}

/* ---- unlocking ---- */

static void unlock_done(struct waiting *w, int error)
{
    struct lock_op *op = &w->cmd.lock;

    if (w->status == STATUS_LEASE_NOT_FOUND)
        error = 0; /* then it is unlocked already */
    if (error != 0 && op->all && w->m->locks.state == LOCKS_UP && w->m->locks.session == op->session && !w->m->stopping) {
        /* Nobody else will release them: until it is done, or the session is over. */
        if (w->req != NULL)
            fuse_reply_err(w->req, w->error != 0 ? w->error : ENOLCK);
        w->req = NULL;
        w->deadline_ms = client_now_ms() + w->m->opt.timeout_ms;
        wait_propose(w);
        return;
    }
    if (error == 0 && (op->all || op->kind == LOCK_FLOCK || (op->start == 0 && op->end == UINT64_MAX)))
        locks_unmark(w->m, w->node, op->owner, op->kind);
    if (w->req != NULL)
        fuse_reply_err(w->req, w->error != 0 ? w->error : error == EROFS ? ENOLCK : error);
    wait_free(w);
}

/* Behind the commit of what was written under the lock. w->error: what the caller is told, of that. */
static void unlock_go(struct waiting *w, int error)
{
    struct mount *m = w->m;

    if (error != 0 && !w->cmd.lock.all) {
        wait_fail(w, error);
        return;
    }
    if (w->error == 0)
        w->error = error;
    w->cmd.lock.session = m->locks.session;
    w->cmd.lock.lease = m->locks.lease;
    w->cmd.lock.ino = w->node->ino;
    if (m->locks.state != LOCKS_UP || !locks_marked(w->node, w->cmd.lock.owner, w->cmd.lock.kind)) {
        w->status = STATUS_OK;
        unlock_done(w, 0);
        return;
    }
    w->cmd.kind = COMMAND_FILE_UNLOCK;
    w->then = unlock_done;
    w->deadline_ms = client_now_ms() + m->opt.timeout_ms;
    wait_propose(w);
}

/* Commits, unlocks everything of the owner, and tells req (if there is one) what the commit ended with. */
void ops_lock_release(struct mount *m, fuse_req_t req, struct inode *i, uint64_t owner, int kind)
{
    struct waiting *w = wait_new(m, req, unlock_go);

    if (req == NULL)
        locks_releasing(i, owner, kind);
    if (w == NULL) {
        if (req != NULL)
            fuse_reply_err(req, ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    w->cmd.lock = (struct lock_op){.owner = owner, .kind = kind, .all = true, .end = UINT64_MAX};
    commit_start(w, i);
}

/* ---- requests ---- */

static struct waiting *begin(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, wait_then then)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct waiting *w = NULL;

    if (i == NULL || handle_of(fi)->echo)
        fuse_reply_err(req, i == NULL ? ESTALE : EBADF);
    else if ((w = wait_new(m, req, then)) == NULL)
        fuse_reply_err(req, ENOMEM);
    if (w == NULL)
        return NULL;
    w->node = i;
    inode_hold(i);
    w->cmd.lock = (struct lock_op){.owner = fi->lock_owner};
    w->thread = fuse_req_ctx(req)->pid;
    w->fi = *fi;
    return w;
}

static void set_range(struct lock_op *op, const struct flock *lock)
{
    op->kind = LOCK_POSIX;
    op->type = lock->l_type == F_RDLCK ? LOCK_SHARED : LOCK_EXCLUSIVE;
    op->start = (uint64_t)lock->l_start;
    op->end = lock->l_len == 0 ? UINT64_MAX : (uint64_t)lock->l_start + (uint64_t)lock->l_len - 1;
    op->pid = (uint32_t)lock->l_pid;
}

static void set_lock(struct waiting *w, bool unlock, bool wait)
{
    if (unlock) {
        w->then = unlock_go;
        w->again = unlock_go;
        if (locks_marked(w->node, w->cmd.lock.owner, w->cmd.lock.kind))
            commit_start(w, w->node);
        else
            reply(w, 0);
        return;
    }
    w->cmd.lock.wait = wait;
    fuse_req_interrupt_func(w->req, on_interrupt, w);
    setlk_go(w, 0);
}

void ops_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
    struct waiting *w = begin(req, id, fi, setlk_go);

    if (w == NULL)
        return;
    set_range(&w->cmd.lock, lock);
    set_lock(w, lock->l_type == F_UNLCK, sleep != 0);
}

void ops_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op)
{
    struct waiting *w = begin(req, id, fi, setlk_go);

    if (w == NULL)
        return;
    w->cmd.lock.kind = LOCK_FLOCK;
    w->cmd.lock.type = (op & LOCK_SH) != 0 ? LOCK_SHARED : LOCK_EXCLUSIVE;
    w->cmd.lock.end = UINT64_MAX;
    w->cmd.lock.pid = (uint32_t)fuse_req_ctx(req)->pid;
    set_lock(w, (op & LOCK_UN) != 0, (op & LOCK_NB) == 0);
}

static void getlk_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    struct lock_op *op = w->query, other;
    bool found = false;
    int rc = -error;

    op->ino = w->node->ino;
    op->session = m->locks.session != 0 ? m->locks.session : 1; /* without one: nobody's */
    if (rc == 0)
        rc = tail_advance(m); /* locks come and go without a revision */
    if (rc == 0 && !w->node->fresh)
        rc = store_lock_query(m->read, op, &other, &found);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    if (found) {
        lock.l_type = other.type == LOCK_SHARED ? F_RDLCK : F_WRLCK;
        lock.l_start = (off_t)other.start;
        lock.l_len = other.end == UINT64_MAX ? 0 : (off_t)(other.end - other.start + 1);
        lock.l_pid = other.session == m->locks.session ? (pid_t)other.pid : 0; /* of another machine: nobody here */
    }
    fuse_reply_lock(w->req, &lock);
    wait_free(w);
}

void ops_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock)
{
    struct waiting *w = begin(req, id, fi, getlk_go);

    if (w == NULL)
        return;
    w->query = arena_alloc(&w->arena, sizeof(*w->query));
    if (w->query == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    *w->query = w->cmd.lock;
    set_range(w->query, lock);
    wait_barrier(w);
}
