/* .quorumfs: requests about it. What is there is said by the kinds (virtual_files.c, virtual_tree.c). */
#include "fs/virtual.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/mount.h"

#define STATUS_WAIT_MS 2000 /* for the node's own word; then without it */

struct virtual_file {
    struct inode *node; /* held */
    struct bytes content;
    struct event_stream *stream;
};

static struct virtual_file *file_of(const struct fuse_file_info *fi)
{
    return (struct virtual_file *)(uintptr_t)fi->fh;
}

/* ---- nodes ---- */

int virtual_init(struct mount *m)
{
    struct virtual_tree *v = &m->virtual;
    int rc = inode_table_init(&v->nodes);

    list_init(&v->busy);
    list_init(&v->streams);
    list_init(&v->interrupted);
    if (rc == 0)
        v->nodes.root->kind = virtual_top();
    return rc;
}

void virtual_fini(struct mount *m)
{
    virtual_old_free(m);
    inode_table_fini(&m->virtual.nodes);
}

struct inode *virtual_inode(struct mount *m, fuse_ino_t id)
{
    return inode_find(&m->virtual.nodes, id - VIRTUAL_ID_FIRST + 1);
}

static uint64_t ino_of(const struct inode *dir, struct slice name)
{
    uint64_t h = 0xcbf29ce484222325ULL;

    for (; dir != NULL; dir = dir->parent) { /* the whole way: the same name has the same number next time */
        for (size_t i = 0; i < name.len; i++)
            h = (h ^ name.data[i]) * 0x100000001b3ULL;
        h = (h ^ '/') * 0x100000001b3ULL;
        name = dir->name;
    }
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
    return VIRTUAL_INO_BIT | (h >> 3);
}

void virtual_view(const struct inode *dir, struct slice name, const struct virtual_kind *kind, struct view *v)
{
    *v = (struct view){.mode = kind->mode, .seen = {.type = kind->mode & S_IFMT, .ino = ino_of(dir, name)}};
}

int virtual_number(struct slice text, int64_t *ret_number)
{
    int64_t n = 0;

    if (text.len == 0 || text.len > 18 || text.data[0] < '1' || text.data[0] > '9')
        return -ENOENT;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -ENOENT;
        n = n * 10 + (text.data[i] - '0');
    }
    *ret_number = n;
    return 0;
}

static int get_attributes(struct mount *m, const struct inode *i, struct stat *st)
{
    int64_t now_ns = mount_now_ns();

    *st = (struct stat){.st_ino = i->ino, .st_mode = i->kind->mode, .st_uid = geteuid(), .st_gid = getegid()};
    st->st_nlink = S_ISDIR(i->kind->mode) ? 2 : 1;
    st->st_blksize = 4096;
    st->st_mtim = (struct timespec){now_ns / 1000000000, now_ns % 1000000000};
    st->st_atim = st->st_ctim = st->st_mtim;
    return i->kind->attributes != NULL ? i->kind->attributes(m, i, st) : 0;
}

int virtual_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    return dir->kind->list != NULL ? dir->kind->list(m, dir, emit, ctx) : 0;
}

void virtual_forget(struct mount *m, fuse_ino_t id, uint64_t nlookup)
{
    struct inode *i = virtual_inode(m, id);

    if (i != NULL)
        inode_forget(&m->virtual.nodes, i, nlookup);
}

/* ---- what needs more of the log ---- */

bool virtual_later(struct waiting *w, wait_then again)
{
    if (client_now_ms() >= w->deadline_ms || w->m->stopping)
        return false;
    w->state = WAIT_OTHER;
    w->again = again;
    w->then = again; /* of a stop */
    list_remove(&w->link);
    list_push_back(&w->m->virtual.busy, &w->link);
    return true;
}

void virtual_work(struct mount *m)
{
    struct virtual_tree *v = &m->virtual;
    struct list round;

    if (!list_empty(&v->busy)) {
        virtual_old_work(m);
        list_init(&round);
        while (!list_empty(&v->busy)) {
            struct list *it = v->busy.next;

            list_remove(it);
            list_push_back(&round, it);
        }
        while (!list_empty(&round)) {
            struct waiting *w = LIST_ITEM(round.next, struct waiting, link);

            list_remove(&w->link);
            w->state = WAIT_IDLE;
            w->again(w, client_now_ms() >= w->deadline_ms ? ETIMEDOUT : 0);
        }
    }
    events_work(m);
}

int virtual_timeout_ms(const struct mount *m)
{
    const struct virtual_tree *v = &m->virtual;

    return list_empty(&v->busy) && list_empty(&v->interrupted) && !v->streams_behind ? -1 : 0;
}

/* ---- lookup ---- */

/* -EAGAIN: not yet, nothing was replied. */
static int reply_child(struct waiting *w, struct inode *dir, struct slice name, const struct virtual_kind *kind, int64_t number)
{
    struct mount *m = w->m;
    struct inode_table *t = &m->virtual.nodes;
    struct inode *i = inode_child(t, dir, name);
    struct fuse_entry_param e = {.generation = 1};
    int rc;

    if (i != NULL && (i->kind != kind || i->number != number)) {
        inode_hold(i);
        inode_detach(t, i);
        inode_release(t, i);
        i = NULL;
    }
    if (i != NULL) {
        inode_hold(i);
    } else {
        i = inode_new(t, dir, name, kind->mode & S_IFMT, ino_of(dir, name));
        if (i == NULL) {
            wait_fail(w, ENOMEM);
            return 0;
        }
        i->kind = kind;
        i->number = number;
    }
    e.ino = VIRTUAL_ID_FIRST - 1 + i->id;
    rc = get_attributes(m, i, &e.attr);
    if (rc == 0) {
        inode_looked_up(i);
        if (fuse_reply_entry(w->req, &e) < 0)
            inode_forget(t, i, 1);
    } else if (rc != -EAGAIN) {
        fuse_reply_err(w->req, errno_of(rc));
    }
    inode_release(t, i);
    if (rc != -EAGAIN)
        wait_free(w);
    return rc == -EAGAIN ? rc : 0;
}

static void lookup_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    const struct virtual_kind *kind = NULL;
    int64_t number = 0;
    int rc = error != 0 ? -error : w->dir->kind->lookup(m, w->dir, w->name, &kind, &number);

    if (rc == 0)
        rc = reply_child(w, w->dir, w->name, kind, number);
    if (rc == 0 || (rc == -EAGAIN && virtual_later(w, lookup_go)))
        return;
    if (rc == -ENOENT && !w->asked) { /* it may be there for others already */
        w->asked = true;
        w->then = lookup_go;
        wait_barrier(w);
        return;
    }
    wait_fail(w, rc == -EAGAIN ? ETIMEDOUT : errno_of(rc));
}

/* The top itself. */
static void reply_top(struct mount *m, fuse_req_t req)
{
    struct inode *top = m->virtual.nodes.root;
    struct fuse_entry_param e = {.generation = 1, .ino = VIRTUAL_ID_FIRST - 1 + top->id};

    top->ino = VIRTUAL_INO_BIT;
    get_attributes(m, top, &e.attr);
    inode_looked_up(top);
    if (fuse_reply_entry(req, &e) < 0)
        inode_forget(&m->virtual.nodes, top, 1);
}

void virtual_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *dir = virtual_is(parent) ? virtual_inode(m, parent) : NULL;
    struct waiting *w;

    m->virtual.requests++;
    if (!virtual_is(parent)) {
        reply_top(m, req);
        return;
    }
    if (dir == NULL || dir->kind->lookup == NULL) {
        fuse_reply_err(req, dir == NULL ? ESTALE : ENOTDIR);
        return;
    }
    w = wait_new(m, req, lookup_go);
    if (w == NULL)
        fuse_reply_err(req, ENOMEM);
    else if (wait_names(w, dir, name, NULL, NULL) < 0)
        wait_fail(w, ENOMEM);
    else
        lookup_go(w, 0);
}

static void getattr_go(struct waiting *w, int error)
{
    struct stat st;
    int rc = error != 0 ? -error : get_attributes(w->m, w->node, &st);

    if (rc == -EAGAIN && virtual_later(w, getattr_go))
        return;
    if (rc < 0) {
        wait_fail(w, rc == -EAGAIN ? ETIMEDOUT : errno_of(rc));
        return;
    }
    fuse_reply_attr(w->req, &st, 0);
    wait_free(w);
}

static void readlink_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct bytes text;
    int rc = -error;

    bytes_init(&text);
    if (rc == 0)
        rc = w->node->kind->content != NULL ? w->node->kind->content(m, w->node, slice_make(NULL, 0), &text) : -EINVAL;
    bytes_u8(&text, 0);
    if (rc == 0 && (bytes_status(&text) < 0 || strlen((const char *)text.data) + 1 != text.len || text.len > 4096))
        rc = -EIO;
    if (rc == -EAGAIN && virtual_later(w, readlink_go)) {
        bytes_fini(&text);
        return;
    }
    if (rc < 0) {
        wait_fail(w, rc == -EAGAIN ? ETIMEDOUT : errno_of(rc));
    } else {
        fuse_reply_readlink(w->req, (const char *)text.data);
        wait_free(w);
    }
    bytes_fini(&text);
}

static struct waiting *begin(fuse_req_t req, fuse_ino_t id, wait_then then)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = virtual_inode(m, id);
    struct waiting *w = i != NULL ? wait_new(m, req, then) : NULL;

    m->virtual.requests++;
    if (w == NULL) {
        fuse_reply_err(req, i == NULL ? ESTALE : ENOMEM);
        return NULL;
    }
    w->node = i;
    inode_hold(i);
    return w;
}

void virtual_getattr(fuse_req_t req, fuse_ino_t id)
{
    struct waiting *w = begin(req, id, getattr_go);

    if (w != NULL)
        getattr_go(w, 0);
}

void virtual_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct waiting *w = begin(req, id, readlink_go);

    if (w != NULL)
        readlink_go(w, 0);
}

/* ---- open, read, release ---- */

static void free_file(struct mount *m, struct virtual_file *f)
{
    if (f->stream != NULL)
        events_close(m, f->stream);
    m->content_bytes -= f->content.len;
    bytes_fini(&f->content);
    inode_release(&m->virtual.nodes, f->node);
    free(f);
}

/* w->value: what the node said. */
static int fill_file(struct waiting *w, struct virtual_file *f)
{
    struct mount *m = w->m;
    const struct virtual_kind *kind = f->node->kind;
    int rc;

    if (kind->stream) {
        f->stream = events_open(m, f->node->number);
        return f->stream != NULL ? 0 : m->virtual.n_streams >= VIRTUAL_STREAMS_MAX ? -ENFILE : -ENOMEM;
    }
    rc = kind->content(m, f->node, w->name, &f->content);
    if (rc == 0)
        rc = bytes_status(&f->content);
    if (rc == 0 && m->content_bytes + f->content.len > CONTENT_MAX_BYTES)
        rc = -ENFILE;
    if (rc < 0)
        bytes_reset(&f->content);
    else
        m->content_bytes += f->content.len;
    return rc;
}

static void open_file(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct virtual_file *f;
    int rc;

    if (error != 0) {
        wait_fail(w, error);
        return;
    }
    f = calloc(1, sizeof(*f));
    if (f == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    f->node = w->node;
    inode_hold(f->node);
    bytes_init(&f->content);
    rc = fill_file(w, f);
    if (rc < 0) {
        free_file(m, f);
        if (rc != -EAGAIN || !virtual_later(w, open_file))
            wait_fail(w, rc == -EAGAIN ? ETIMEDOUT : errno_of(rc));
        return;
    }
    /* Those whose attributes have a size can be mapped and executed; the others are read to their end, whatever their size. */
    w->fi.direct_io = f->node->kind->attributes == NULL;
    w->fi.nonseekable = f->stream != NULL;
    w->fi.keep_cache = 0;
    w->fi.fh = (uint64_t)(uintptr_t)f;
    if (fuse_reply_open(w->req, &w->fi) < 0)
        free_file(m, f);
    wait_free(w);
}

static void on_status(void *arg, uint16_t status, struct slice json)
{
    struct waiting *w = arg;

    w->ticket = 0;
    if (status == STATUS_OK && arena_copy(&w->arena, json, &w->name) < 0)
        w->name = slice_make(NULL, 0);
    open_file(w, 0);
}

static void on_health(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct waiting *w = arg;

    w->ticket = 0;
    w->name = slice_from_str(status == STATUS_OK ? "" : status_text(status));
    open_file(w, 0);
}

/* The node's word is waited for shortly: what this mount knows is worth reading when the node is away too. */
static void ask_node(struct waiting *w, bool health)
{
    struct client *c = w->m->client;
    uint64_t deadline_ms = client_now_ms() + STATUS_WAIT_MS;
    int64_t ticket;

    if (deadline_ms > w->deadline_ms)
        deadline_ms = w->deadline_ms;
    w->then = open_file;
    if (!client_connected(c)) {
        w->name = slice_from_str(health ? "the node is away" : "");
        open_file(w, 0);
        return;
    }
    ticket = health ? client_barrier(c, deadline_ms, on_health, w) : client_status(c, deadline_ms, on_status, w);
    if (ticket < 0) {
        wait_fail(w, errno_of((int)ticket));
        return;
    }
    w->ticket = ticket;
    w->state = WAIT_OTHER;
}

void virtual_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct waiting *w;

    if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC) != 0) {
        fuse_reply_err(req, EROFS);
        return;
    }
    w = begin(req, id, open_file);
    if (w == NULL)
        return;
    w->fi = *fi;
    switch (w->node->kind->asks) {
    case ASK_BARRIER:
        wait_barrier(w);
        break;
    case ASK_STATUS:
    case ASK_HEALTH:
        ask_node(w, w->node->kind->asks == ASK_HEALTH);
        break;
    case ASK_NOTHING:
        open_file(w, 0);
        break;
    }
}

void virtual_read(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct virtual_file *f = file_of(fi);
    size_t at = (uint64_t)off < f->content.len ? (size_t)off : f->content.len;

    if (f->stream != NULL)
        events_read(m, req, f->stream, size);
    else
        fuse_reply_buf(req, (const char *)f->content.data + at, f->content.len - at < size ? f->content.len - at : size);
}

void virtual_release(fuse_req_t req, struct fuse_file_info *fi)
{
    free_file(fuse_req_userdata(req), file_of(fi));
    fuse_reply_err(req, 0);
}

void virtual_poll(fuse_req_t req, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    struct virtual_file *f = file_of(fi);

    if (f->stream != NULL) {
        fuse_reply_poll(req, events_poll(fuse_req_userdata(req), f->stream, ph));
        return;
    }
    if (ph != NULL)
        fuse_pollhandle_destroy(ph);
    fuse_reply_poll(req, POLLIN | POLLRDNORM);
}
