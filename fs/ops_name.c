/* What changes names: mkdir, mknod, symlink, unlink, rmdir, rename. Each is one proposal, which carries the identity that each
 * name had here, so that it does what its user saw or fails with ESTALE. */
#include <errno.h>
#include <linux/fs.h>

#include "fs/mount.h"

/* ---- what they share ---- */

static struct waiting *begin(fuse_req_t req, fuse_ino_t parent, const char *name, wait_then then)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = ops_inode(m, parent);
    struct waiting *w;

    if (dir == NULL || inode_is_dead(&m->inodes, dir)) {
        fuse_reply_err(req, dir == NULL ? ESTALE : ENOENT);
        return NULL;
    }
    if (commit_possible(m) != 0) {
        fuse_reply_err(req, EROFS);
        return NULL;
    }
    w = wait_new(m, req, then);
    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    if (wait_names(w, dir, name, NULL, NULL) < 0) {
        wait_fail(w, ENOMEM);
        return NULL;
    }
    return w;
}

/* The key that a name stands for. */
static int path_of(struct waiting *w, struct inode *dir, struct slice name, struct slice *ret_path, enum name_kind *ret_kind)
{
    struct name_place p;
    int rc;

    name_place_init(&p);
    rc = view_place_of(w->m, dir, name, &p);
    if (rc == 0)
        rc = arena_copy(&w->arena, bytes_slice(&p.key), ret_path);
    if (rc == 0)
        *ret_kind = p.kind;
    name_place_fini(&p);
    return rc;
}

/* Names under which the cluster's file commands can make something. */
static int check_makable(enum name_kind kind, struct slice path)
{
    return kind == NAME_NODE && path.len != 0 && path.data[path.len - 1] != '/' ? 0 : -EINVAL;
}

/* The name was another's when the command arrived. On a local disk the call would act on what has the name by then, so it is
 * done again with what this is; the kernel tries once by itself, which is not enough where many change one name. True: later. */
static bool try_again(struct waiting *w, int error, wait_then go)
{
    if (error != ESTALE || w->tries >= STALE_TRIES || client_now_ms() >= w->deadline_ms)
        return false;
    w->tries++;
    if (w->node != NULL)
        inode_release(&w->m->inodes, w->node);
    w->node = NULL;
    w->ino = 0;
    w->then = go;
    wait_newest(w);
    return true;
}

/* ---- mkdir, symlink, mknod ---- */

static void made(struct waiting *w, int error)
{
    struct mount *m = w->m;
    mode_t type = w->cmd.file.attrs.mode & S_IFMT;
    struct inode *i;
    struct stat st;
    struct view v;

    if (error != 0) {
        wait_fail(w, error);
        return;
    }
    if (view_name(m, w->dir, w->name, &v) == 0 && v.seen.type == type && v.seen.ino == w->ino)
        i = view_node(m, w->dir, w->name, &v.seen);
    else /* made, and already gone again */
        i = inode_new(&m->inodes, NULL, w->name, type, w->ino);
    if (i == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    w->node = i;
    ops_told(m, w->dir, w->name, i);
    if (inode_is_dead(&m->inodes, i) || view_stat(m, i, &st) < 0)
        view_stat_dead(i, true, &st);
    ops_reply_entry(m, w->req, i, &st, 0);
    wait_free(w);
}

static void make_go(struct waiting *w, int error)
{
    struct file_op *f = &w->cmd.file;
    enum name_kind kind;
    int rc = -error;

    if (rc == 0 && (root_wait(w) || (w->ino == 0 && wait_ino(w, &w->ino) < 0)))
        return;
    if (rc == 0)
        rc = path_of(w, w->dir, w->name, &f->path, &kind);
    if (rc == 0)
        rc = check_makable(kind, f->path);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    w->cmd.kind = S_ISDIR(w->mode) ? COMMAND_FILE_MKDIR : COMMAND_FILE_SYMLINK;
    f->attrs = (struct attrs){.has = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_INO, .mode = w->mode, .uid = w->uid,
                              .gid = w->gid, .ino = w->ino};
    w->then = made;
    wait_propose(w);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, const char *target)
{
    struct mount *m = fuse_req_userdata(req);
    struct waiting *w;

    if (ops_is_echo(m, req)) {
        struct inode *dir = ops_inode(m, parent);

        if (dir != NULL)
            reconcile_made(m, req, dir, slice_from_str(name), NULL);
        else
            fuse_reply_err(req, ESTALE);
        return;
    }
    w = begin(req, parent, name, make_go);
    if (w == NULL)
        return;
    ops_owner(w, w->dir, mode);
    if (arena_copy(&w->arena, slice_from_str(target), &w->cmd.file.value) < 0)
        wait_fail(w, ENOMEM);
    else
        make_go(w, 0);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, S_IFDIR | (mode & 07777), "");
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, target);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (S_ISREG(mode) || (mode & S_IFMT) == 0)
        ops_create(req, parent, name, mode & 07777, NULL);
    else if (S_ISFIFO(mode) || S_ISSOCK(mode))
        make(req, parent, name, mode, "");
    else
        fuse_reply_err(req, EPERM);
}

/* ---- unlink, rmdir ---- */

/* The node has lost its name by a change made here. */
static void lost_name(struct mount *m, struct inode *i)
{
    if (i == NULL)
        return;
    i->unlinked_here = true;
    if (i->n_writers == 0 && !i->committing)
        commit_drop_buffer(i);
}

static void rmdir_go(struct waiting *w, int error);
static void unlink_again(struct waiting *w, int error);

static void removed(struct waiting *w, int error)
{
    if (error == 0 && w->node != NULL && inode_is_dead(&w->m->inodes, w->node))
        lost_name(w->m, w->node);
    else if (w->node != NULL)
        commit_rest(w->m, w->node);
    if (try_again(w, error, w->cmd.kind == COMMAND_FILE_RMDIR ? rmdir_go : unlink_again))
        return;
    fuse_reply_err(w->req, error);
    wait_free(w);
}

/* A file that nobody else knows of yet. */
static void remove_fresh(struct waiting *w)
{
    struct mount *m = w->m;
    struct inode *i = w->node;
    struct dirty *d = announce_find(&m->announce, w->dir, w->name);
    const struct seen gone = {0};

    tail_detach(m, i);
    lost_name(m, i);
    if (d != NULL)
        announce_tell(&m->announce, &m->inodes, d, &gone);
    fuse_reply_err(w->req, 0);
    wait_free(w);
}

/* error: of a commit that was waited for, whose own callers were told. */
static void unlink_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    enum name_kind kind;
    struct slice path;
    struct view v;
    int rc = view_name(m, w->dir, w->name, &v);

    if (rc == 0 && v.seen.type == 0)
        rc = -ENOENT;
    if (rc == 0 && v.seen.type == S_IFDIR)
        rc = -EISDIR;
    if (rc == 0)
        rc = path_of(w, w->dir, w->name, &path, &kind);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    if (w->node == NULL && v.seen.node != NULL) {
        w->node = v.seen.node;
        inode_hold(w->node);
    }
    if (w->node != NULL && commit_busy(w, w->node, unlink_go))
        return;
    if (w->node != NULL && w->node->fresh) {
        remove_fresh(w);
        return;
    }
    if (kind == NAME_NODE) {
        w->cmd.kind = COMMAND_FILE_UNLINK;
        w->cmd.file.path = path;
        w->cmd.file.ino = v.seen.ino;
    } else {
        w->cmd.kind = COMMAND_DELETE_RANGE;
        w->cmd.del.key = path;
    }
    w->then = removed;
    wait_propose(w);
}

static void unlink_again(struct waiting *w, int error)
{
    if (error != 0)
        wait_fail(w, error);
    else
        unlink_go(w, 0);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, wait_then go)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = ops_inode(m, parent);
    struct waiting *w;

    if (dir != NULL && ops_is_echo(m, req)) {
        reconcile_removed(m, req, dir, slice_from_str(name));
        return;
    }
    w = begin(req, parent, name, go);
    if (w != NULL)
        go(w, 0);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, unlink_go);
}

static int check_rmdir(struct waiting *w, struct view *v, enum name_kind *ret_kind)
{
    struct mount *m = w->m;
    int rc = view_name(m, w->dir, w->name, v);

    if (rc == 0 && v->seen.type != S_IFDIR)
        rc = v->seen.type == 0 ? -ENOENT : -ENOTDIR;
    if (rc == 0)
        rc = path_of(w, w->dir, w->name, &w->cmd.file.path, ret_kind);
    if (rc == 0 && *ret_kind != NAME_NODE)
        rc = -EPERM;
    if (rc < 0)
        return rc;
    w->node = view_node(m, w->dir, w->name, &v->seen);
    if (w->node == NULL)
        return -ENOMEM;
    rc = view_is_empty(m, w->node);
    return rc < 0 ? rc : rc == 0 ? -ENOTEMPTY : 0;
}

static void rmdir_go(struct waiting *w, int error)
{
    enum name_kind kind;
    struct view v;
    int rc = error != 0 ? -error : check_rmdir(w, &v, &kind);

    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    w->cmd.kind = COMMAND_FILE_RMDIR;
    w->cmd.file.ino = v.seen.implicit ? 0 : v.seen.ino;
    w->then = removed;
    wait_propose(w);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, rmdir_go);
}

/* ---- rename ---- */

/* A file with content that was not committed has gone along: it is committed now, under its new name. */
static void carried(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct inode *i = w->node;
    struct buffer *b = i->buffer;

    i->committing = false;
    if (error == 0) {
        struct inode *there = inode_child(&m->inodes, w->dir2, w->name2);
        struct dirty *d = announce_find(&m->announce, w->dir, w->name);
        const struct seen gone = {0};
        struct view v;

        i->fresh = false;
        i->own_rev = w->revision;
        if (there != NULL && there != i) {
            inode_hold(there);
            tail_detach(m, there);
            inode_release(&m->inodes, there);
        }
        if (there != i && inode_move(&m->inodes, i, w->dir2, w->name2) < 0)
            error = ENOMEM;
        if (view_name(m, w->dir2, w->name2, &v) < 0 || v.seen.node != i)
            tail_detach(m, i); /* it came and went while the answer was on its way */
        if (d != NULL)
            announce_tell(&m->announce, &m->inodes, d, &gone);
        ops_told(m, w->dir2, w->name2, i);
        if (b != NULL && b->changes == w->changes)
            commit_drop_buffer(i);
    }
    commit_ended(m, i, error);
    commit_rest(m, i);
}

static void rename_go(struct waiting *w, int error);

static void rename_again(struct waiting *w, int error)
{
    if (error != 0)
        wait_fail(w, error);
    else
        rename_go(w, 0);
}

static void renamed(struct waiting *w, int error)
{
    bool fresh = (w->cmd.file.flags & FILE_WITH_VALUE) != 0;
    struct inode *i = w->node;

    if (error == ESTALE) {
        inode_hold(i); /* who waits for what would have been a commit looks anew, and so does this */
        if (fresh) {
            i->committing = false;
            commit_ended(w->m, i, 0);
            commit_rest(w->m, i);
        }
        if (try_again(w, error, rename_again)) {
            inode_release(&w->m->inodes, i);
            return;
        }
        inode_release(&w->m->inodes, i);
        fuse_reply_err(w->req, error);
        wait_free(w);
        return;
    }

    if (error == 0 && w->ino != 0) { /* what was replaced */
        struct inode *replaced = inode_find(&w->m->inodes, w->ino);

        if (replaced != NULL && replaced != w->node && (fresh || inode_is_dead(&w->m->inodes, replaced)))
            lost_name(w->m, replaced);
    }
    if (fresh)
        carried(w, error);
    fuse_reply_err(w->req, error);
    wait_free(w);
}

static int set_rename(struct waiting *w, const struct view *from, const struct view *to)
{
    struct file_op *f = &w->cmd.file;
    struct inode *i = w->node;
    enum name_kind kind, kind2;
    int rc = path_of(w, w->dir, w->name, &f->path, &kind);

    if (rc == 0)
        rc = path_of(w, w->dir2, w->name2, &f->path2, &kind2);
    /* A key beside a directory of its path has no name of its own that it could take along. */
    if (rc == 0 && (kind == NAME_VALUE || kind == NAME_SLASH || kind2 == NAME_VALUE || kind2 == NAME_SLASH))
        rc = -EXDEV;
    if (rc == 0 && kind != NAME_NODE)
        rc = -EPERM;
    if (rc == 0)
        rc = check_makable(kind2, f->path2);
    if (rc < 0)
        return rc;
    w->cmd.kind = COMMAND_FILE_RENAME;
    f->flags = 0;
    f->ino = from->seen.ino;
    f->ino2 = to->seen.node != NULL && to->seen.node->fresh ? 0 : to->seen.ino;
    if (w->flags & RENAME_NOREPLACE)
        f->flags |= FILE_NOREPLACE;
    if (w->flags & RENAME_EXCHANGE)
        f->flags |= FILE_EXCHANGE;
    if (i == NULL || !i->fresh)
        return 0;
    f->flags |= FILE_WITH_VALUE;
    f->attrs = i->buffer->attrs;
    f->attrs.mode = S_IFREG | (i->buffer->attrs.mode & 07777);
    f->attrs.has |= ATTR_INO;
    f->attrs.ino = i->ino;
    f->ino = 0; /* the cluster does not know it; who made the name meanwhile is moved, with this content */
    w->changes = i->buffer->changes;
    return arena_copy(&w->arena, buffer_content(i->buffer), &f->value);
}

static int check_rename(struct waiting *w, const struct view *from, const struct view *to)
{
    bool exchange = (w->flags & RENAME_EXCHANGE) != 0;
    int rc;

    if (from->seen.type == 0 || (exchange && to->seen.type == 0))
        return -ENOENT;
    if ((w->flags & RENAME_NOREPLACE) != 0 && to->seen.type != 0)
        return -EEXIST;
    if (to->seen.type == 0 || exchange)
        return 0;
    if (from->seen.type != S_IFDIR)
        return to->seen.type == S_IFDIR ? -EISDIR : 0;
    if (to->seen.type != S_IFDIR)
        return -ENOTDIR;
    if (to->seen.node == NULL)
        return 0;
    rc = view_is_empty(w->m, to->seen.node); /* of files that only this mount knows the cluster cannot tell */
    return rc < 0 ? rc : rc == 0 ? -ENOTEMPTY : 0;
}

static void rename_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct view from, to;
    int rc = view_name(m, w->dir, w->name, &from);

    if (rc == 0)
        rc = view_name(m, w->dir2, w->name2, &to);
    if (rc == 0)
        rc = check_rename(w, &from, &to);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    if (w->node != NULL)
        inode_release(&m->inodes, w->node);
    w->node = view_node(m, w->dir, w->name, &from.seen);
    if (w->node == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    if (commit_busy(w, w->node, rename_go))
        return;
    if (to.seen.node != NULL && to.seen.node != w->node && (w->flags & RENAME_EXCHANGE) != 0 &&
        (w->node->fresh || to.seen.node->fresh)) {
        wait_fail(w, EBUSY); /* one of them is not there for the cluster yet */
        return;
    }
    if (to.seen.node != NULL && commit_busy(w, to.seen.node, rename_go))
        return;
    w->ino = to.seen.node != NULL && (w->flags & RENAME_EXCHANGE) == 0 ? to.seen.node->id : 0;
    rc = set_rename(w, &from, &to);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    if (w->node->fresh)
        w->node->committing = true;
    w->then = renamed;
    wait_propose(w);
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = ops_inode(m, parent), *dir2 = ops_inode(m, parent2);
    struct waiting *w;

    if (dir == NULL || dir2 == NULL) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (ops_is_echo(m, req)) {
        reconcile_renamed(m, req, dir, slice_from_str(name), dir2, slice_from_str(name2));
        return;
    }
    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    w = begin(req, parent, name, rename_go);
    if (w == NULL)
        return;
    w->flags = flags;
    w->dir2 = dir2;
    inode_hold(dir2);
    if (arena_copy(&w->arena, slice_from_str(name2), &w->name2) < 0)
        wait_fail(w, ENOMEM);
    else
        rename_go(w, 0);
}
