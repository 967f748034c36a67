/* What the helper is to do next, and what its requests are answered. A record of the overlay says what watchers were told of a
 * name; what the name is now is asked of the committed state; the difference is one command:
 *
 *     told       is now      command
 *     nothing    a node      create, or rename if that node is told at another name which it has left
 *     a node     nothing     delete, or rename if the node is at another name now
 *     a node     another     rename over it, exchange, or delete and then create
 *     the same   the same    modify or chmod, if its content or attributes changed; else the record is done
 *
 * Before that come the steps of the log that have yet to be told one by one (steps.h), in their order, in turns with names that
 * have none.
 *
 * "Told" changes in the handler of the helper's own request, at the moment when the kernel raises the event: it holds
 * the directory's lock then, so no user's change of that directory comes between. */
#include <errno.h>
#include <linux/fs.h>

#include "fs/mount.h"
#include "fs/steps.h"

#define RETRY_FIRST_MS 1
#define RETRY_LONGEST_MS 2048
#define PACE_MS 1           /* between commands when the queue is long */
#define WAKE_LEAST_MS 5     /* between looks at all that is delayed */
#define LOOKS_PER_TURN 512  /* records looked at for one command */
#define SLOW_MS 5000        /* a user's change of the same directory is waiting for the cluster */
#define RESTART_FIRST_MS 50
#define RESTART_LONGEST_MS 5000

/* ---- names as watchers know them ---- */

static bool is_told_as(const struct dirty *d, const struct inode *i)
{
    return d->told.node != NULL ? d->told.node == i : d->told.type == i->type && d->told.ino == i->ino;
}

/* The way to a directory as it was announced. -EAGAIN: it has not been yet; -ESTALE: it is gone for watchers too. */
static int announced_way(const struct mount *m, const struct inode *dir, struct bytes *way)
{
    const struct inode *parent;
    struct slice name;
    int rc;

    if (dir == m->inodes.root)
        return 0;
    if (dir->shown != NULL) {
        parent = dir->shown->dir;
        name = dir->shown->name;
    } else if (dir->parent == NULL) {
        return -ESTALE;
    } else {
        const struct dirty *d = announce_find(&m->announce, dir->parent, dir->name);

        if (d != NULL && !is_told_as(d, dir))
            return -EAGAIN;
        parent = dir->parent;
        name = dir->name;
    }
    if (way->len > ECHO_PACKET_MAX_BYTES)
        return -ESTALE; /* cannot be: announced names make a tree */
    rc = announced_way(m, parent, way);
    if (rc < 0)
        return rc;
    if (way->len != 0)
        bytes_u8(way, '/');
    bytes_append(way, name);
    return bytes_status(way);
}

/* The record of a name, made if there is none: then announced is what is committed. */
static struct dirty *record_of(struct mount *m, struct inode *dir, struct slice name)
{
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct view v;

    if (d != NULL || view_name(m, dir, name, &v) < 0)
        return d;
    d = announce_add(&m->announce, dir, name, &v.seen);
    if (d == NULL)
        m->overlay_lost++;
    return d;
}

/* ---- choosing ---- */

struct choice {
    enum echo_verb verb;
    uint32_t flags;
    struct dirty *from, *to;
    struct view now; /* of to */
};

static void choose_removal(struct choice *c, struct dirty *d)
{
    *c = (struct choice){.verb = d->told.type == S_IFDIR ? ECHO_RMDIR : ECHO_UNLINK, .to = d};
}

/* A move over something of the other kind is refused by the kernel: what is there goes first. */
static void choose_move(struct choice *c, struct dirty *from, struct dirty *to)
{
    if (to->told.type != 0 && (from->told.type == S_IFDIR) != (to->told.type == S_IFDIR)) {
        choose_removal(c, to);
        return;
    }
    c->verb = ECHO_RENAME;
    c->from = from;
    c->to = to;
}

static bool has_left(struct mount *m, const struct dirty *d)
{
    struct view v;

    return view_name(m, d->dir, d->name, &v) == 0 && !seen_same(&d->told, &v.seen);
}

static enum echo_verb verb_of_making(mode_t type)
{
    switch (type) {
    case S_IFDIR:
        return ECHO_MKDIR;
    case S_IFLNK:
        return ECHO_SYMLINK;
    case S_IFIFO:
    case S_IFSOCK:
        return ECHO_MKNOD;
    default:
        return ECHO_CREATE;
    }
}

/* The file was written and then moved: that comes first, under the name that it is told at. */
static bool choose_content(struct mount *m, struct dirty *d, struct choice *c)
{
    struct inode *node = d->told.node;
    struct view v;

    if (!d->content || d->told.type != S_IFREG || node == NULL || node->parent == NULL ||
        view_name(m, node->parent, node->name, &v) < 0 || v.seen.node != node)
        return false;
    *c = (struct choice){.verb = ECHO_MODIFY, .to = d, .now = v};
    return true;
}

/* 1: c is to be done; 0: nothing is, the record is done; -EAGAIN: another record's turn must come first. */
static int choose(struct mount *m, struct dirty *d, struct choice *c)
{
    struct inode *node = d->told.node;
    struct dirty *other;
    struct view v;
    int rc;

    *c = (struct choice){.to = d};
    rc = view_name(m, d->dir, d->name, &c->now);
    if (rc < 0)
        return rc == -EINVAL || rc == -ENAMETOOLONG ? 0 : rc;
    if (c->now.seen.type != S_IFREG && (d->told.type != S_IFREG || node == NULL || node->parent == NULL))
        d->content = false; /* of a file that had the name meanwhile */
    if (seen_same(&d->told, &c->now.seen)) {
        if (c->now.seen.type == 0 || (!d->content && !d->attributes))
            return 0;
        c->verb = d->content ? ECHO_MODIFY : ECHO_CHMOD;
        return 1;
    }
    /* What is here now is told elsewhere, and not there any more; or will be. */
    other = c->now.seen.node != NULL ? c->now.seen.node->shown : NULL;
    if (other != NULL && other->steps != 0)
        return -EAGAIN;
    if (other != NULL && other != d && has_left(m, other)) {
        if (choose_content(m, other, c))
            return 1;
        choose_move(c, other, d);
        if (d->told.node != NULL && view_name(m, other->dir, other->name, &v) == 0 && seen_same(&v.seen, &d->told))
            *c = (struct choice){.verb = ECHO_RENAME, .flags = RENAME_EXCHANGE, .from = d, .to = other};
        return 1;
    }
    /* What was here is somewhere else now. */
    if (d->told.type != 0 && node != NULL && node->parent != NULL) {
        other = record_of(m, node->parent, node->name);
        if (other != NULL && other->steps != 0)
            return -EAGAIN;
        if (other != NULL && other != d && !is_told_as(other, node) && view_name(m, node->parent, node->name, &v) == 0 &&
            v.seen.node == node) {
            if (choose_content(m, d, c))
                return 1;
            choose_move(c, d, other);
            if (other->told.node != NULL && view_name(m, d->dir, d->name, &v) == 0 && seen_same(&v.seen, &other->told))
                *c = (struct choice){.verb = ECHO_RENAME, .flags = RENAME_EXCHANGE, .from = d, .to = other};
            return 1;
        }
    }
    if (d->told.type != 0) {
        if (d->told.type == S_IFDIR && node != NULL && announce_has_below(&m->announce, node))
            return -EAGAIN; /* what is in it goes first */
        choose_removal(c, d);
        return 1;
    }
    c->verb = verb_of_making(c->now.seen.type);
    return 1;
}

/* What a step asks for. -EAGAIN: it cannot be taken from what watchers know. */
static int choose_step(struct mount *m, const struct step *s, struct choice *c)
{
    const struct inode *node = s->kind == STEP_MADE ? s->node : s->to->told.node;
    struct stat st = {0};

    *c = (struct choice){.from = s->from, .to = s->to};
    if (!steps_follows(s))
        return -EAGAIN;
    if (node != NULL && (inode_is_dead(&m->inodes, node) || view_stat(m, node, &st) < 0))
        st = node->last;
    c->now.mode = (st.st_mode & 07777) | (s->kind == STEP_MADE ? s->node->type : s->to->told.type);
    c->now.size = s->size;
    switch (s->kind) {
    case STEP_MADE:
        c->verb = verb_of_making(s->node->type);
        break;
    case STEP_CONTENT:
        c->verb = ECHO_MODIFY;
        break;
    case STEP_ATTRIBUTES:
        c->verb = ECHO_CHMOD;
        break;
    case STEP_GONE:
        if (s->to->told.type == S_IFDIR && node != NULL && announce_has_below(&m->announce, node))
            return -EAGAIN; /* what is in it goes first */
        c->verb = s->to->told.type == S_IFDIR ? ECHO_RMDIR : ECHO_UNLINK;
        break;
    case STEP_MOVED:
    case STEP_EXCHANGED:
        c->verb = ECHO_RENAME;
        c->flags = s->kind == STEP_EXCHANGED ? RENAME_EXCHANGE : 0;
        break;
    }
    return 0;
}

/* ---- commanding ---- */

static int send_choice(struct mount *m, const struct choice *c)
{
    const struct dirty *d = c->from != NULL ? c->from : c->to;
    struct echo_command command = {.verb = c->verb, .flags = c->flags, .mode = c->now.mode, .size = c->now.size};
    struct bytes way, way2;
    int rc;

    bytes_init(&way);
    bytes_init(&way2);
    rc = announced_way(m, d->dir, &way);
    if (rc == 0 && c->from != NULL)
        rc = announced_way(m, c->to->dir, &way2);
    if (rc == 0) {
        command.dir_id = d->dir->nlookup > 0 ? d->dir->id : 0;
        command.dir = bytes_slice(&way);
        command.name = d->name;
        command.dir2 = bytes_slice(&way2);
        command.name2 = c->from != NULL ? c->to->name : slice_make(NULL, 0);
        if (c->from != NULL) {
            command.dir2_id = c->to->dir->nlookup > 0 ? c->to->dir->id : 0;
            command.mode = c->from->told.type == S_IFDIR || c->to->told.type == S_IFDIR ? S_IFDIR : 0;
        }
        rc = echo_send(&m->echo, &command);
    }
    bytes_fini(&way);
    bytes_fini(&way2);
    return rc;
}

static void put_off(struct mount *m, struct dirty *d)
{
    uint64_t delay_ms = d->tries < 11 ? (uint64_t)RETRY_FIRST_MS << d->tries : RETRY_LONGEST_MS;

    d->tries++;
    announce_later(&m->announce, d, client_now_ms() + delay_ms);
    if (d->not_before_ms < m->next_wake_ms)
        m->next_wake_ms = d->not_before_ms;
}

/* What is told besides the name itself. */
static void take_flags(struct mount *m, const struct choice *c)
{
    struct dirty *d = c->to;

    m->echo.content = d->content;
    m->echo.attributes = d->attributes;
    if (c->verb == ECHO_MODIFY || c->verb == ECHO_CREATE)
        d->content = false;
    if (c->verb == ECHO_CHMOD || c->verb == ECHO_CREATE || c->verb == ECHO_MKDIR || c->verb == ECHO_SYMLINK)
        d->attributes = false;
}

static void restart_helper(struct mount *m, uint64_t now_ms)
{
    struct echo *e = &m->echo;
    int rc;

    if (m->stopping || now_ms < e->restart_ms)
        return;
    rc = echo_start(e, m->opt.mountpoint);
    e->restart_ms = now_ms + (e->restarts < 7 ? (uint64_t)RESTART_FIRST_MS << e->restarts : RESTART_LONGEST_MS);
    e->restarts++;
    e->restarted++;
    if (rc < 0)
        log_warn(&m->log, "cannot start the helper: %s", strerror(-rc));
    else
        log_info(&m->log, "the helper was started again, pid %d", (int)e->pid);
}

static void start(struct mount *m, const struct choice *c, struct step *s, uint64_t now_ms)
{
    struct echo *e = &m->echo;

    e->verb = c->verb;
    e->flags = c->flags;
    e->from = c->from;
    e->to = c->to;
    e->step = s;
    e->told = c->to->told.type;
    e->told_ino = c->to->told.ino;
    e->started_ms = now_ms;
    m->echoes++;
}

/* The next step that can be taken is given to the helper. False: there is none, or not now. */
static bool next_step(struct mount *m, uint64_t now_ms)
{
    struct announce *a = &m->announce;
    struct choice c;
    struct step *s;
    int rc;

    while ((s = steps_first(a)) != NULL) {
        rc = choose_step(m, s, &c);
        if (rc == 0) {
            rc = send_choice(m, &c);
        }
        if (rc == 0) {
            s->sent = true;
            start(m, &c, s, now_ms);
            return true;
        }
        steps_give_up(a, &m->inodes, s);
    }
    return false;
}

void reconcile_next(struct mount *m)
{
    uint64_t now_ms = client_now_ms();
    struct echo *e = &m->echo;
    unsigned looks = 0;

    if (e->fd < 0)
        restart_helper(m, now_ms);
    if (e->busy && !e->slow && now_ms > e->started_ms + SLOW_MS) {
        log_warn(&m->log, "the helper has been waiting for %d s, in %.*s", SLOW_MS / 1000, (int)e->to->name.len,
                 e->to->name.data);
        e->slow = true;
    }
    if (e->fd < 0 || e->busy || m->stopping)
        return;
    if (m->announce.count > ANNOUNCE_PACE_NAMES && now_ms < e->started_ms + PACE_MS)
        return;
    if (now_ms >= m->next_wake_ms) {
        m->next_wake_ms = announce_wake(&m->announce, now_ms);
        if (m->next_wake_ms < now_ms + WAKE_LEAST_MS)
            m->next_wake_ms = now_ms + WAKE_LEAST_MS;
    }
    m->names_turn = !m->names_turn || list_empty(&m->announce.queue);
    if ((!m->names_turn || list_empty(&m->announce.queue)) && next_step(m, now_ms))
        return;
    for (struct list *it = m->announce.queue.next, *next; it != &m->announce.queue && looks < LOOKS_PER_TURN; it = next) {
        struct dirty *d = LIST_ITEM(it, struct dirty, queue);
        struct choice c;
        int rc;

        next = it->next;
        looks++;
        rc = choose(m, d, &c);
        if (rc == 0) {
            announce_drop(&m->announce, &m->inodes, d);
            continue;
        }
        if (rc > 0)
            rc = send_choice(m, &c);
        if (rc == 0) {
            take_flags(m, &c);
            c.to->behind = true; /* until told is what is committed */
            if (c.from != NULL)
                c.from->behind = true;
            start(m, &c, NULL, now_ms);
            return;
        }
        if (rc == -ESTALE || rc == -EMSGSIZE) /* no watcher can be there */
            announce_drop(&m->announce, &m->inodes, d);
        else
            put_off(m, d);
    }
}

/* A name whose steps have been taken is as committed, unless something else happened to it. */
static void settle(struct mount *m, struct dirty *d)
{
    struct view v;

    if (d != NULL && d->steps == 0 && !d->behind && view_name(m, d->dir, d->name, &v) == 0 && seen_same(&d->told, &v.seen))
        announce_drop(&m->announce, &m->inodes, d);
}

static bool is_told(const struct step *s)
{
    switch (s->kind) {
    case STEP_MADE:
        return s->to->told.node == s->node;
    case STEP_CONTENT:
    case STEP_ATTRIBUTES:
        return true;
    default: /* it changed what it began with */
        return !steps_follows(s);
    }
}

static void step_done(struct mount *m, struct step *s, int error)
{
    struct echo *e = &m->echo;
    struct dirty *from = s->from, *to = s->to;

    s->sent = false;
    if (error == 0 && !is_told(s))
        error = -EAGAIN;
    if (error == 0) {
        e->restarts = 0;
        steps_taken(&m->announce, &m->inodes, s);
        settle(m, from);
        settle(m, to);
        return;
    }
    m->echo_retries++;
    log_debug(&m->log, "step %d of %.*s: %s", (int)s->kind, (int)to->name.len, to->name.data, strerror(-error));
    if (!steps_follows(s) || ++s->tries >= STEPS_TRIES)
        steps_give_up(&m->announce, &m->inodes, s);
}

void reconcile_done(struct mount *m, int error)
{
    struct echo *e = &m->echo;
    struct step *s = e->step;
    struct dirty *d = e->to;

    e->to = NULL;
    e->step = NULL;
    e->slow = false;
    if (s != NULL) {
        e->from = NULL;
        step_done(m, s, error);
        return;
    }
    /* The kernel found nothing to do, which it may: the two names were one node for it. Not at full speed for ever. */
    if (error == 0 && e->verb != ECHO_MODIFY && e->verb != ECHO_CHMOD && d->told.type == e->told &&
        d->told.ino == e->told_ino)
        error = -EAGAIN;
    if (error == 0) {
        e->restarts = 0;
        d->tries = 0;
        if (e->from != NULL)
            e->from->tries = 0;
    } else {
        /* Not a fault: the name moved on meanwhile, or users are quicker. What is not told yet is tried again. */
        m->echo_retries++;
        log_debug(&m->log, "echo %d of %.*s: %s", (int)e->verb, (int)d->name.len, d->name.data, strerror(-error));
        d->content = d->content || e->content;
        d->attributes = d->attributes || e->attributes;
        put_off(m, d);
        if (e->from != NULL)
            put_off(m, e->from);
    }
    e->from = NULL;
}

int reconcile_timeout_ms(const struct mount *m)
{
    uint64_t now_ms = client_now_ms(), at_ms = UINT64_MAX;
    const struct echo *e = &m->echo;

    if (m->stopping || e->busy)
        return -1;
    if (e->fd < 0)
        return e->restart_ms <= now_ms ? 0 : (int)(e->restart_ms - now_ms);
    if (!list_empty(&m->announce.queue) || m->announce.n_steps != 0)
        at_ms = now_ms;
    else if (!list_empty(&m->announce.delayed))
        at_ms = m->next_wake_ms;
    if (at_ms == UINT64_MAX)
        return -1;
    if (m->announce.count > ANNOUNCE_PACE_NAMES && at_ms < e->started_ms + PACE_MS)
        at_ms = e->started_ms + PACE_MS;
    return at_ms <= now_ms ? 0 : (int)(at_ms - now_ms);
}

/* ---- answering the helper ---- */

/* The node that a name is told as, held. What has died, or was never looked up, gets an inode without a place. */
static struct inode *told_node(struct mount *m, struct dirty *d)
{
    struct inode *i = d->told.node;
    struct seen seen = d->told;
    struct view v;

    if (i != NULL) {
        inode_hold(i);
        return i;
    }
    if (view_name(m, d->dir, d->name, &v) == 0 && seen_same(&v.seen, &seen))
        i = view_node(m, d->dir, d->name, &v.seen);
    else
        i = inode_new(&m->inodes, NULL, d->name, seen.type, seen.ino);
    if (i == NULL)
        return NULL;
    seen.node = i;
    announce_tell(&m->announce, &m->inodes, d, &seen);
    return i;
}

static void reply_node(struct mount *m, fuse_req_t req, struct inode *i)
{
    struct stat st;
    double keep_s = ops_echo_stat(m, i, &st);

    ops_reply_entry(m, req, i, &st, keep_s);
}

void reconcile_lookup(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name)
{
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct inode *i = NULL;
    struct view v;
    int rc = 0;

    if (d != NULL && d->told.type != 0) {
        i = told_node(m, d);
    } else if (d == NULL) {
        rc = view_name(m, dir, name, &v);
        if (rc == 0 && v.seen.type != 0)
            i = view_node(m, dir, name, &v.seen);
    }
    if (i == NULL) {
        fuse_reply_err(req, rc < 0 ? errno_of(rc) : ENOENT);
        return;
    }
    reply_node(m, req, i);
    inode_release(&m->inodes, i);
}

/* The record that the command under way is about, if the request is what it asked for and still holds. */
static struct dirty *expected(struct mount *m, struct inode *dir, struct slice name)
{
    struct dirty *d = m->echo.busy ? m->echo.to : NULL;

    return d != NULL && d->dir == dir && slice_equal(d->name, name) ? d : NULL;
}

/* The command under way is a step, and can still be taken. */
static bool is_step(const struct mount *m, enum step_kind kind)
{
    const struct step *s = m->echo.step;

    return s != NULL && s->kind == kind && steps_follows(s);
}

static void step_made(struct mount *m, fuse_req_t req, struct dirty *d, struct inode *i, struct fuse_file_info *fi)
{
    const struct seen made = {.type = i->type, .implicit = i->implicit, .ino = i->ino, .node = i};
    struct stat st;

    if ((fi != NULL) != (i->type == S_IFREG)) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    if (inode_is_dead(&m->inodes, i) || view_stat(m, i, &st) < 0)
        view_stat_dead(i, true, &st);
    announce_tell(&m->announce, &m->inodes, d, &made);
    if (fi != NULL)
        ops_reply_create(m, req, i, &st, fi);
    else
        ops_reply_entry(m, req, i, &st, 0);
}

void reconcile_made(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name, struct fuse_file_info *fi)
{
    struct dirty *d = expected(m, dir, name);
    struct inode *i = NULL;
    struct stat st;
    struct view v;

    if (d != NULL && is_step(m, STEP_MADE)) {
        step_made(m, req, d, m->echo.step->node, fi);
        return;
    }
    if (m->echo.step != NULL)
        d = NULL;
    if (d == NULL || d->told.type != 0 || view_name(m, dir, name, &v) < 0 || v.seen.type == 0 ||
        (fi != NULL && v.seen.type != S_IFREG) || (fi == NULL && v.seen.type == S_IFREG)) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    i = view_node(m, dir, name, &v.seen);
    if (i == NULL || view_stat(m, i, &st) < 0) {
        fuse_reply_err(req, EAGAIN);
    } else {
        v.seen.node = i;
        announce_tell(&m->announce, &m->inodes, d, &v.seen);
        if (fi != NULL)
            ops_reply_create(m, req, i, &st, fi);
        else
            ops_reply_entry(m, req, i, &st, 0);
    }
    if (i != NULL)
        inode_release(&m->inodes, i);
}

void reconcile_removed(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name)
{
    struct dirty *d = expected(m, dir, name);
    const struct seen gone = {0};
    struct view v;

    if (d == NULL || d->told.type == 0 || (m->echo.verb != ECHO_UNLINK && m->echo.verb != ECHO_RMDIR) ||
        (m->echo.step != NULL
             ? !is_step(m, STEP_GONE)
             : view_name(m, dir, name, &v) < 0 || seen_same(&v.seen, &d->told))) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    announce_tell(&m->announce, &m->inodes, d, &gone);
    fuse_reply_err(req, 0);
}

void reconcile_renamed(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name, struct inode *dir2,
                       struct slice name2)
{
    struct dirty *to = expected(m, dir2, name2), *from = m->echo.from;
    const struct seen gone = {0};
    struct seen moved, back;

    if (to == NULL || m->echo.verb != ECHO_RENAME || from == NULL || from->dir != dir || !slice_equal(from->name, name) ||
        from->told.type == 0 || (m->echo.step != NULL ? !steps_follows(m->echo.step) : !has_left(m, from))) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    moved = from->told;
    back = to->told;
    if (moved.node != NULL)
        inode_hold(moved.node);
    if (back.node != NULL)
        inode_hold(back.node);
    announce_tell(&m->announce, &m->inodes, from, &gone);
    announce_tell(&m->announce, &m->inodes, to, &moved);
    if ((m->echo.flags & RENAME_EXCHANGE) != 0)
        announce_tell(&m->announce, &m->inodes, from, &back);
    to->content = to->content || from->content;
    to->attributes = to->attributes || from->attributes;
    fuse_reply_err(req, 0);
    if (moved.node != NULL)
        inode_release(&m->inodes, moved.node);
    if (back.node != NULL)
        inode_release(&m->inodes, back.node);
}
