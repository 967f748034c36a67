/* Files: create, open, read, write, flush, fsync, release. docs/mount.md says what a reader and a writer can rely on. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/mount.h"

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static void touch_buffer(struct buffer *b, bool written)
{
    buffer_touch(b, mount_now_ns(), client_now_ms());
    b->written = b->written || written;
}

void ops_told(struct mount *m, struct inode *dir, struct slice name, struct inode *node)
{
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct seen seen = {.type = node->type, .ino = node->ino, .node = node};

    if (d != NULL)
        announce_tell(&m->announce, &m->inodes, d, &seen);
}

/* ---- opening ---- */

int ops_load_content(struct mount *m, struct handle *h)
{
    struct slice content;
    struct name_place p;
    struct arena arena;
    uint8_t *copy = NULL;
    struct view v;
    int rc;

    arena_init(&arena);
    name_place_init(&p);
    rc = view_place(m, h->node, &p);
    if (rc == 0)
        rc = view_at(m, m->read, &p, &v);
    if (rc == 0)
        rc = v.seen.type == S_IFREG ? view_content(m, m->read, &p, &arena, &content) : -ESTALE;
    if (rc == 0 && m->content_bytes - h->content_len + content.len > CONTENT_MAX_BYTES)
        rc = -ENFILE;
    if (rc == 0) {
        copy = malloc(content.len + 1);
        rc = copy != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        memcpy(copy, content.data, content.len);
        m->content_bytes = m->content_bytes - h->content_len + content.len;
        free(h->content);
        h->content = copy;
        h->content_len = content.len;
        h->rev = v.rev;
        h->grants = m->locks.grants;
        h->eof_seen = false;
    }
    name_place_fini(&p);
    arena_fini(&arena);
    return rc;
}

/* The node as it is now, for a handle with those flags. */
static int prepare(struct mount *m, struct handle *h, int flags)
{
    struct inode *i = h->node;
    struct buffer *b;
    int rc;

    if (!h->writes)
        return i->buffer == NULL ? ops_load_content(m, h) : 0;
    if ((flags & O_TRUNC) == 0)
        return 0;
    rc = commit_buffer(m, i, true, &b);
    if (rc == 0) {
        buffer_clear(b);
        touch_buffer(b, false);
    }
    return rc;
}

static void set_caching(struct handle *h, struct fuse_file_info *fi)
{
    /* The page cache is one for the node, while each reader has its own revision: only writers use it. */
    fi->direct_io = !h->writes;
    fi->keep_cache = 0;
    fi->fh = (uint64_t)(uintptr_t)h;
}

/* A node that loses its name between lookup and open is ESTALE, and the kernel does both once more, then tells the user.
 * Where many change one name a second time is not rare. So it is remembered for whom that was: the second open() comes
 * after a barrier that began after the call did, needs none of its own, and nothing can come between but what the kernel
 * itself takes. */
static void remember_stale(struct mount *m, fuse_req_t req)
{
    pid_t tid = fuse_req_ctx(req)->pid;

    if (tid == 0)
        return; /* of another name space: it may be anybody */
    m->stale[m->next_stale] = (struct stale_open){tid, client_now_ms()};
    m->next_stale = (m->next_stale + 1) % STALE_OPENS;
}

static bool was_stale(struct mount *m, fuse_req_t req)
{
    pid_t tid = fuse_req_ctx(req)->pid;

    for (size_t i = 0; tid != 0 && i < STALE_OPENS; i++) {
        struct stale_open *s = &m->stale[i];

        if (s->tid == tid) {
            s->tid = 0;
            return client_now_ms() < s->at_ms + STALE_AGAIN_MS;
        }
    }
    return false;
}

static void open_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct handle *h;
    int rc;

    if (error == 0 && inode_is_dead(&m->inodes, w->node)) {
        remember_stale(m, w->req);
        error = ESTALE;
    }
    if (error == 0 && (w->fi.flags & O_ACCMODE) != O_RDONLY)
        error = commit_possible(m);
    if (error != 0) {
        wait_fail(w, error == ETIMEDOUT && w->for_write && m->leaderless_since_ms != 0 ? EROFS : error);
        return;
    }
    h = ops_new_handle(m, w->node, w->fi.flags);
    if (h == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    rc = prepare(m, h, w->fi.flags);
    if (rc < 0) {
        ops_free_handle(m, h);
        wait_fail(w, rc == -ENOENT ? ESTALE : errno_of(rc));
        return;
    }
    set_caching(h, &w->fi);
    if (fuse_reply_open(w->req, &w->fi) < 0)
        ops_free_handle(m, h);
    wait_free(w);
}

static void open_echo(struct mount *m, fuse_req_t req, struct inode *i, struct fuse_file_info *fi)
{
    struct handle *h = ops_new_handle(m, i, O_RDONLY);

    if (h == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    h->echo = true;
    fi->fh = (uint64_t)(uintptr_t)h;
    fi->keep_cache = 1; /* nothing of users' is to be thrown out for its sake, and nothing of the helper's to be kept */
    fi->direct_io = 1;
    fi->noflush = 1;
    if (fuse_reply_open(req, fi) < 0)
        ops_free_handle(m, h);
}

void ops_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct waiting *w;

    if (i == NULL || (ops_is_echo(m, req) && i->shown == NULL && inode_is_dead(&m->inodes, i))) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (ops_is_echo(m, req)) {
        open_echo(m, req, i, fi);
        return;
    }
    w = wait_new(m, req, open_go);
    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    w->fi = *fi;
    w->for_write = (fi->flags & O_ACCMODE) != O_RDONLY;
    if (was_stale(m, req) && !inode_is_dead(&m->inodes, i))
        open_go(w, 0);
    else
        wait_barrier(w);
}

/* ---- creating ---- */

static void open_existing(struct waiting *w, const struct view *v)
{
    struct mount *m = w->m;
    struct inode *i = view_node(m, w->dir, w->name, &v->seen);
    struct buffer *b;
    struct stat st;
    int rc = 0;

    if (i == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    w->node = i;
    ops_told(m, w->dir, w->name, i);
    if ((w->fi.flags & O_ACCMODE) != O_RDONLY && (w->fi.flags & O_TRUNC) != 0) {
        rc = commit_buffer(m, i, true, &b);
        if (rc == 0) {
            buffer_clear(b);
            touch_buffer(b, false);
        }
    }
    if (rc == 0)
        rc = view_stat(m, i, &st);
    if (rc < 0) {
        commit_rest(m, i);
        wait_fail(w, errno_of(rc));
        return;
    }
    ops_reply_create(m, w->req, i, &st, &w->fi);
    wait_free(w);
}

/* Not told to the cluster before it is written, flushed or closed: nobody is to see it empty. */
static void create_fresh(struct waiting *w)
{
    struct mount *m = w->m;
    struct inode *i = inode_child(&m->inodes, w->dir, w->name);
    struct stat st;

    if (i != NULL) { /* of something that has gone */
        inode_hold(i);
        tail_detach(m, i);
        inode_release(&m->inodes, i);
    }
    i = inode_new(&m->inodes, w->dir, w->name, S_IFREG, w->ino);
    if (i == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    w->node = i;
    if (buffer_new(&m->buffers, slice_make(NULL, 0), &i->buffer) < 0) {
        inode_detach(&m->inodes, i);
        wait_fail(w, ENOSPC);
        return;
    }
    i->fresh = true;
    i->buffer->attrs = (struct attrs){.has = ATTR_MODE | ATTR_UID | ATTR_GID, .mode = w->mode & 07777, .uid = w->uid,
                                      .gid = w->gid};
    touch_buffer(i->buffer, false);
    i->buffer->untouched = (w->fi.flags & O_TRUNC) == 0;
    ops_told(m, w->dir, w->name, i);
    if (view_stat(m, i, &st) < 0) {
        tail_detach(m, i);
        commit_rest(m, i);
        wait_fail(w, EIO);
        return;
    }
    ops_reply_create(m, w->req, i, &st, &w->fi);
    wait_free(w);
}

static void create_exclusive_done(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct inode *i;
    struct stat st;
    struct view v;

    if (error != 0) {
        wait_fail(w, error);
        return;
    }
    if (view_name(m, w->dir, w->name, &v) == 0 && v.seen.type == S_IFREG && v.seen.ino == w->ino)
        i = view_node(m, w->dir, w->name, &v.seen);
    else /* made, and already gone again */
        i = inode_new(&m->inodes, NULL, w->name, S_IFREG, w->ino);
    if (i == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    w->node = i;
    ops_told(m, w->dir, w->name, i);
    if (inode_is_dead(&m->inodes, i) || view_stat(m, i, &st) < 0)
        view_stat_dead(i, true, &st);
    if (w->to_set) /* MKNOD */
        ops_reply_entry(m, w->req, i, &st, 0);
    else
        ops_reply_create(m, w->req, i, &st, &w->fi);
    wait_free(w);
}

static int create_exclusive(struct waiting *w)
{
    struct file_op *f = &w->cmd.file;
    struct name_place p;
    int rc;

    name_place_init(&p);
    rc = view_place_of(w->m, w->dir, w->name, &p);
    if (rc == 0 && p.kind != NAME_NODE)
        rc = -EINVAL;
    if (rc == 0)
        rc = arena_copy(&w->arena, bytes_slice(&p.key), &f->path);
    name_place_fini(&p);
    if (rc < 0)
        return rc;
    w->cmd.kind = COMMAND_FILE_WRITE;
    f->flags = FILE_CREATE | FILE_EXCLUSIVE;
    f->attrs = (struct attrs){.has = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_INO, .mode = S_IFREG | (w->mode & 07777),
                              .uid = w->uid, .gid = w->gid, .ino = w->ino};
    w->then = create_exclusive_done;
    wait_propose(w);
    return 0;
}

/* With a number for the node, or coming back here when there is one. */
static void create_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct view v;
    int rc;

    if (error == 0)
        error = commit_possible(m);
    if (error != 0) {
        wait_fail(w, error);
        return;
    }
    rc = view_name(m, w->dir, w->name, &v);
    if (rc == 0 && inode_is_dead(&m->inodes, w->dir))
        rc = -ENOENT;
    if (rc == 0 && v.seen.type != 0) { /* somebody was quicker */
        if ((w->fi.flags & O_EXCL) != 0 || w->to_set)
            rc = -EEXIST;
        else if (v.seen.type != S_IFREG)
            rc = v.seen.type == S_IFDIR ? -EISDIR : -ESTALE;
        else {
            open_existing(w, &v);
            return;
        }
    }
    if (rc == 0 && (root_wait(w) || (w->ino == 0 && wait_ino(w, &w->ino) < 0)))
        return;
    if (rc == 0 && ((w->fi.flags & O_EXCL) != 0 || w->to_set))
        rc = create_exclusive(w);
    else if (rc == 0)
        create_fresh(w);
    if (rc < 0)
        wait_fail(w, errno_of(rc));
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = ops_inode(m, parent);
    struct name_place p;
    struct waiting *w;
    int rc;

    if (dir == NULL) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (ops_is_echo(m, req)) {
        reconcile_made(m, req, dir, slice_from_str(name), fi);
        return;
    }
    name_place_init(&p);
    rc = view_place_of(m, dir, slice_from_str(name), &p);
    /* %: and the pieces of long names are directories, and there when something needs them. */
    if (rc == 0 && (p.kind == NAME_PIECE || p.kind == NAME_BARE ||
                    (p.kind == NAME_NODE && p.key.data[p.key.len - 1] == '/')))
        rc = -EINVAL;
    name_place_fini(&p);
    w = rc == 0 ? wait_new(m, req, create_go) : NULL;
    if (w == NULL) {
        fuse_reply_err(req, rc == -ESTALE ? ENOENT : rc < 0 ? errno_of(rc) : ENOMEM);
        return;
    }
    if (fi != NULL)
        w->fi = *fi;
    else
        w->to_set = 1;
    ops_owner(w, dir, mode);
    w->again = create_go;
    if (wait_names(w, dir, name, NULL, NULL) < 0)
        wait_fail(w, ENOMEM);
    else
        create_go(w, 0);
}

/* ---- reading ---- */

static void reply_part(fuse_req_t req, struct slice content, size_t size, off_t off)
{
    size_t at = (uint64_t)off < content.len ? (size_t)off : content.len;
    size_t len = content.len - at < size ? content.len - at : size;

    fuse_reply_buf(req, (const char *)content.data + at, len);
}

/* Of a handle that writes: what is newest, its own writes included. */
static void read_live(struct mount *m, fuse_req_t req, struct inode *i, size_t size, off_t off)
{
    struct slice content;
    struct name_place p;
    struct arena arena;
    int rc;

    if (i->buffer != NULL) {
        reply_part(req, buffer_content(i->buffer), size, off);
        return;
    }
    arena_init(&arena);
    name_place_init(&p);
    rc = view_place(m, i, &p);
    if (rc == 0)
        rc = view_content(m, m->read, &p, &arena, &content);
    if (rc < 0)
        fuse_reply_err(req, rc == -ENOENT ? ESTALE : errno_of(rc));
    else
        reply_part(req, content, size, off);
    name_place_fini(&p);
    arena_fini(&arena);
}

void ops_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = handle_of(fi);
    struct inode *i = h->node;
    int rc = 0;

    if (h->writes || (i->buffer != NULL && !inode_is_dead(&m->inodes, i))) {
        read_live(m, req, i, size, off);
        return;
    }
    /* At its end, after a write through this mount, and when it has got a lock, a reader moves on to what is newest. */
    if ((h->content == NULL || h->eof_seen || i->own_rev > h->rev ||
         locks_granted_since(m, h->grants, fi->lock_owner, fuse_req_ctx(req)->pid)) &&
        !inode_is_dead(&m->inodes, i))
        rc = ops_load_content(m, h);
    if (rc < 0 && h->content == NULL) {
        fuse_reply_err(req, errno_of(rc));
        return;
    }
    if ((uint64_t)off >= h->content_len)
        h->eof_seen = true;
    reply_part(req, slice_make(h->content, h->content_len), size, off);
}

/* ---- writing ---- */

void ops_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = handle_of(fi);
    struct inode *i = h->node;
    struct buffer *b;
    int rc;

    if (h->echo) { /* it has been written already */
        fuse_reply_write(req, size);
        return;
    }
    if (!h->writes) {
        fuse_reply_err(req, EBADF);
        return;
    }
    if (commit_possible(m) != 0 || i->lock_lost) {
        fuse_reply_err(req, i->lock_lost ? EIO : EROFS);
        return;
    }
    rc = commit_buffer(m, i, false, &b);
    if (rc == 0 && h->appends)
        rc = buffer_append(b, slice_make(data, size), m->opt.max_file_bytes);
    else if (rc == 0)
        rc = buffer_write(b, (uint64_t)off, slice_make(data, size), m->opt.max_file_bytes);
    if (rc < 0) {
        if (i->buffer != NULL && !i->buffer->dirty && !i->committing)
            commit_drop_buffer(i); /* nothing was written: it would hide what others commit */
        fuse_reply_err(req, errno_of(rc));
        return;
    }
    touch_buffer(b, true);
    fuse_reply_write(req, size);
}

static void reply_outcome(struct waiting *w, int error)
{
    fuse_reply_err(w->req, error);
    wait_free(w);
}

static void commit_and_reply(struct mount *m, fuse_req_t req, struct inode *i)
{
    struct waiting *w = wait_new(m, req, reply_outcome);

    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    commit_start(w, i);
}

/* A file that was only truncated at open is not committed here: shells duplicate and close a descriptor first. */
void ops_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = handle_of(fi);
    struct inode *i = h->node;

    if (h->echo)
        fuse_reply_err(req, 0);
    else if (locks_marked(i, fi->lock_owner, LOCK_POSIX)) /* fcntl: any close of the file ends the process's locks */
        ops_lock_release(m, req, i, fi->lock_owner, LOCK_POSIX);
    else if (h->writes && i->lock_lost)
        fuse_reply_err(req, EIO);
    else if (!h->writes || i->buffer == NULL || !i->buffer->dirty || !i->buffer->written)
        fuse_reply_err(req, 0);
    else
        commit_and_reply(m, req, i);
}

void ops_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = handle_of(fi);

    if (!h->echo && h->writes && h->node->lock_lost)
        fuse_reply_err(req, EIO);
    else if (h->echo || !h->writes || h->node->buffer == NULL)
        fuse_reply_err(req, 0);
    else
        commit_and_reply(m, req, h->node);
}

void ops_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = handle_of(fi);
    struct inode *i = h->node;
    bool writes = h->writes;

    inode_hold(i);
    ops_free_handle(m, h);
    if (writes)
        commit_quietly(m, i);
    inode_release(&m->inodes, i);
    fuse_reply_err(req, 0);
}
