/* What the request handlers share, and the small ones: lookup, forget, getattr, readlink, statfs. */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount.h"

bool ops_is_echo(struct mount *m, fuse_req_t req)
{
    return m->echo.pid > 0 && fuse_req_ctx(req)->pid == m->echo.pid;
}

struct inode *ops_inode(struct mount *m, fuse_ino_t id)
{
    return inode_find(&m->inodes, id);
}

static void set_entry(struct inode *i, const struct stat *attr, double keep_s, struct fuse_entry_param *e)
{
    /* No timeouts of entries, and no negative ones: no entry has to be invalidated, ever. */
    *e = (struct fuse_entry_param){.ino = i->id, .generation = 1, .attr = *attr, .attr_timeout = keep_s};
}

void ops_reply_entry(struct mount *m, fuse_req_t req, struct inode *i, const struct stat *attr, double keep_s)
{
    struct fuse_entry_param e;

    set_entry(i, attr, keep_s, &e);
    inode_hold(i);
    inode_looked_up(i);
    if (fuse_reply_entry(req, &e) < 0)
        inode_forget(&m->inodes, i, 1); /* the asker is gone, and the kernel has not taken it */
    inode_release(&m->inodes, i);
}

void ops_reply_create(struct mount *m, fuse_req_t req, struct inode *i, const struct stat *attr, struct fuse_file_info *fi)
{
    struct handle *h = ops_new_handle(m, i, fi->flags);
    struct fuse_entry_param e;

    if (h == NULL) {
        fuse_reply_err(req, ENOMEM);
        commit_rest(m, i);
        return;
    }
    h->echo = ops_is_echo(m, req);
    if (h->echo && h->writes) { /* a handle of the helper never holds what users wrote back */
        i->n_writers--;
        h->writes = false;
    }
    set_entry(i, attr, 0, &e);
    fi->direct_io = !h->writes;
    fi->noflush = h->echo;
    fi->fh = (uint64_t)(uintptr_t)h;
    inode_looked_up(i);
    if (fuse_reply_create(req, &e, fi) < 0) {
        ops_free_handle(m, h);
        inode_forget(&m->inodes, i, 1);
    }
}

struct handle *ops_new_handle(struct mount *m, struct inode *i, int flags)
{
    struct handle *h = calloc(1, sizeof(*h));

    if (h == NULL)
        return NULL;
    h->node = i;
    inode_hold(i);
    cached_end(m, i);
    i->n_handles++;
    h->writes = (flags & O_ACCMODE) != O_RDONLY;
    h->appends = h->writes && (flags & O_APPEND) != 0;
    if (h->writes)
        i->n_writers++;
    return h;
}

void ops_free_handle(struct mount *m, struct handle *h)
{
    struct inode *i = h->node;

    m->content_bytes -= h->content_len;
    free(h->content);
    i->n_handles--;
    if (i->n_handles == 0)
        i->shown_ino = 0;
    if (h->writes)
        i->n_writers--;
    commit_rest(m, i);
    if (i->n_handles == 0 || !list_empty(&i->locks))
        locks_closed(m, i, i->n_handles == 0 ? NULL : h);
    inode_release(&m->inodes, i);
    free(h);
}

void ops_owner(struct waiting *w, const struct inode *dir, mode_t mode)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(w->req);
    struct stat st;

    w->mode = mode;
    w->uid = ctx->uid;
    w->gid = ctx->gid;
    /* As on a local disk: a directory with the bit gives its group to what is made in it. */
    if (view_stat(w->m, dir, &st) == 0 && (st.st_mode & S_ISGID) != 0) {
        w->gid = st.st_gid;
        if (S_ISDIR(mode))
            w->mode |= S_ISGID;
    }
}

/* ---- lookup ---- */

static void reply_name(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name, const struct view *v)
{
    struct inode *i = view_node(m, dir, name, &v->seen);
    struct stat st;
    int rc;

    if (i == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    rc = view_stat(m, i, &st);
    if (rc < 0)
        fuse_reply_err(req, errno_of(rc));
    else
        ops_reply_entry(m, req, i, &st, cached_for(m, i));
    inode_release(&m->inodes, i);
}

/* After the barrier: what is not there now was not there when it was asked for. */
static void lookup_again(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct view v;
    int rc = error != 0 ? -error : view_name(m, w->dir, w->name, &v);

    if (rc < 0 || v.seen.type == 0) {
        wait_fail(w, rc < 0 ? errno_of(rc) : ENOENT);
        return;
    }
    reply_name(m, w->req, w->dir, w->name, &v);
    wait_free(w);
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = ops_inode(m, parent);
    struct waiting *w;
    struct view v;
    int rc;

    if (dir == NULL || dir->type != S_IFDIR) {
        fuse_reply_err(req, dir == NULL ? ESTALE : ENOTDIR);
        return;
    }
    if (ops_is_echo(m, req)) {
        reconcile_lookup(m, req, dir, slice_from_str(name));
        return;
    }
    rc = view_name(m, dir, slice_from_str(name), &v);
    if (rc < 0) {
        fuse_reply_err(req, errno_of(rc));
        return;
    }
    if (v.seen.type != 0) {
        reply_name(m, req, dir, slice_from_str(name), &v);
        return;
    }
    if (inode_is_dead(&m->inodes, dir)) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    w = wait_new(m, req, lookup_again);
    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (wait_names(w, dir, name, NULL, NULL) < 0)
        wait_fail(w, ENOMEM);
    else
        wait_barrier(w);
}

static void forget_one(struct mount *m, fuse_ino_t id, uint64_t nlookup)
{
    struct inode *i = ops_inode(m, id);

    if (i != NULL)
        inode_forget(&m->inodes, i, nlookup);
}

void ops_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
    forget_one(fuse_req_userdata(req), id, nlookup);
    fuse_reply_none(req);
}

/* ---- small ones ---- */

/* A dead node still has its name there: the kernel takes it away when it is told so. */
double ops_echo_stat(struct mount *m, struct inode *i, struct stat *st)
{
    if (!inode_is_dead(&m->inodes, i) && view_stat(m, i, st) == 0)
        return cached_for(m, i);
    view_stat_dead(i, true, st);
    return 0;
}

void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct stat st;
    int rc;

    if (i == NULL) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (ops_is_echo(m, req)) {
        double keep_s = ops_echo_stat(m, i, &st);

        fuse_reply_attr(req, &st, keep_s);
        return;
    }
    rc = view_stat(m, i, &st);
    if (rc == 0 && i->shown != NULL && inode_is_dead(&m->inodes, i))
        view_stat_dead(i, true, &st);
    if (rc < 0)
        fuse_reply_err(req, errno_of(rc));
    else
        fuse_reply_attr(req, &st, cached_for(m, i));
}

void ops_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct slice target;
    struct name_place p;
    struct arena arena;
    char text[4096];
    int rc = -ESTALE;

    arena_init(&arena);
    name_place_init(&p);
    if (i != NULL)
        rc = view_place(m, i, &p);
    if (rc == 0)
        rc = view_content(m, m->read, &p, &arena, &target);
    if (rc == 0 && (target.len >= sizeof(text) || memchr(target.data, 0, target.len) != NULL))
        rc = -EIO; /* no path that a system call takes */
    if (rc == 0) {
        memcpy(text, target.data, target.len);
        text[target.len] = 0;
        fuse_reply_readlink(req, text);
    } else {
        fuse_reply_err(req, rc == -ENOENT ? ESTALE : errno_of(rc));
    }
    name_place_fini(&p);
    arena_fini(&arena);
}

void ops_refuse_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
    fuse_reply_err(req, EPERM);
}

void ops_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
                              FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
    conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP /* with an older libfuse: init_flags.c */
    conn->want |= conn->capable & FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
#endif
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
    /* Then the kernel does not ask for security.capability at each write(2). The bits that a write would have to clear have no
     * effect: mounts are nosuid. */
    conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
}
