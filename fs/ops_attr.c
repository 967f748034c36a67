/* SETATTR: chmod, chown, utimes, truncate. */
#include <errno.h>

#include "fs/mount.h"

/* The kernel takes the mtime of this answer without a look at its pages of the file, which by their mtime may be older: were
 * it the right one, it would never throw them out. It is off by a nanosecond, and not to be kept, so the next question has the
 * right one. */
static void reply_setattr(fuse_req_t req, struct stat *st)
{
    st->st_mtim.tv_nsec ^= 1;
    fuse_reply_attr(req, st, 0);
}

static void reply_attr(struct waiting *w, int error)
{
    struct stat st;
    int rc = error != 0 ? -error : view_stat(w->m, w->node, &st);

    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    reply_setattr(w->req, &st);
    wait_free(w);
}

static void now_reply(struct mount *m, fuse_req_t req, struct inode *i)
{
    struct stat st;
    int rc = view_stat(m, i, &st);

    if (rc < 0)
        fuse_reply_err(req, errno_of(rc));
    else
        reply_setattr(req, &st);
}

static void set_attrs(const struct stat *attr, int to_set, struct attrs *a)
{
    if (to_set & FUSE_SET_ATTR_MODE) {
        a->has |= ATTR_MODE;
        a->mode = attr->st_mode & 07777;
    }
    if (to_set & FUSE_SET_ATTR_UID) {
        a->has |= ATTR_UID;
        a->uid = attr->st_uid;
    }
    if (to_set & FUSE_SET_ATTR_GID) {
        a->has |= ATTR_GID;
        a->gid = attr->st_gid;
    }
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        a->has |= ATTR_MTIME;
        a->mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW
                          ? mount_now_ns()
                          : (int64_t)attr->st_mtim.tv_sec * 1000000000 + attr->st_mtim.tv_nsec;
    }
    if (to_set & FUSE_SET_ATTR_SIZE) {
        a->has |= ATTR_SIZE;
        a->size = (uint64_t)attr->st_size;
    }
}

static void join_buffer(struct buffer *b, const struct attrs *a)
{
    uint64_t written = b->written;

    if (!b->dirty)
        b->dirty_since_ms = client_now_ms();
    b->dirty = true;
    b->changes++;
    b->written = written;
    b->attrs.has |= a->has;
    if (a->has & ATTR_MODE)
        b->attrs.mode = a->mode;
    if (a->has & ATTR_UID)
        b->attrs.uid = a->uid;
    if (a->has & ATTR_GID)
        b->attrs.gid = a->gid;
    if (a->has & ATTR_MTIME)
        b->attrs.mtime_ns = a->mtime_ns;
}

/* Truncation through a handle, or of what is being written anyway: part of the next commit. */
static int truncate_buffer(struct mount *m, struct inode *i, uint64_t size)
{
    struct buffer *b;
    int rc = i->lock_lost ? -EIO : commit_buffer(m, i, false, &b);

    if (rc == 0)
        rc = buffer_truncate(b, size, m->opt.max_file_bytes);
    if (rc == 0) {
        buffer_touch(b, mount_now_ns(), client_now_ms());
        b->written = true;
    }
    return rc;
}

static void attrs_go(struct waiting *w, int error);

/* A node that has lost its name meanwhile has been changed all the same, as on a local disk; one that was moved is
 * found again. */
static void attrs_answered(struct waiting *w, int error)
{
    if ((error != ESTALE && error != ENOENT) || w->tries >= STALE_TRIES || client_now_ms() >= w->deadline_ms) {
        reply_attr(w, error);
        return;
    }
    w->tries++;
    w->then = attrs_go;
    wait_newest(w);
}

/* Changes what w->to_set says of a node that nobody is writing. */
static void attrs_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct inode *i = w->node;
    struct name_place p;
    struct attrs a = {0};
    int rc = -error;

    if (rc < 0 || inode_is_dead(&m->inodes, i)) {
        reply_attr(w, error);
        return;
    }
    set_attrs(&w->attr, w->to_set, &a);
    name_place_init(&p);
    rc = view_place(m, i, &p);
    if (rc == 0 && p.kind == NAME_NODE) {
        w->cmd.kind = COMMAND_FILE_SETATTR;
        w->cmd.file.ino = i->implicit ? 0 : i->ino;
        w->cmd.file.attrs = a;
        w->then = attrs_answered;
        rc = arena_copy(&w->arena, bytes_slice(&p.key), &w->cmd.file.path);
        if (rc == 0)
            wait_propose(w);
    } else if (rc == 0 && (a.has & ATTR_SIZE) != 0) { /* a key without attributes of its own */
        rc = truncate_buffer(m, i, a.size);
        w->then = reply_attr;
        if (rc == 0)
            commit_start(w, i);
    } else if (rc == 0) {
        reply_attr(w, 0);
    }
    name_place_fini(&p);
    if (rc < 0)
        wait_fail(w, errno_of(rc));
}

static void propose_attrs(struct mount *m, fuse_req_t req, struct inode *i, const struct stat *attr, int to_set)
{
    struct waiting *w = wait_new(m, req, attrs_answered);

    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    w->attr = *attr;
    w->to_set = to_set;
    attrs_go(w, 0);
}

void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct attrs a = {0};
    int rc = 0;

    if (i == NULL) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (ops_is_echo(m, req)) { /* it asks for what is so already */
        struct stat st;

        ops_echo_stat(m, i, &st);
        reply_setattr(req, &st);
        return;
    }
    if ((to_set & FUSE_SET_ATTR_SIZE) != 0 && (uint64_t)attr->st_size > m->opt.max_file_bytes)
        rc = -EFBIG;
    set_attrs(attr, to_set, &a);
    if (rc == 0 && a.has != 0)
        rc = -commit_possible(m);
    if (rc == 0 && (a.has & ATTR_SIZE) != 0 && (fi != NULL || i->buffer != NULL)) {
        rc = truncate_buffer(m, i, a.size);
        a.has &= ~(uint32_t)ATTR_SIZE;
        to_set &= ~FUSE_SET_ATTR_SIZE;
    }
    if (rc < 0) {
        fuse_reply_err(req, errno_of(rc));
        return;
    }
    if (i->buffer != NULL && a.has != 0) {
        join_buffer(i->buffer, &a);
    } else if (a.has != 0 && !inode_is_dead(&m->inodes, i)) {
        propose_attrs(m, req, i, attr, to_set);
        return;
    }
    now_reply(m, req, i); /* an access time alone is not kept */
}
