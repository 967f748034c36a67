/* Directories: the names are taken when one is opened; an offset is an index into them. */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount.h"

struct dir_entry {
    uint64_t ino;
    mode_t type;
    size_t name; /* offset in names */
};

struct dir_handle {
    struct inode *node; /* held */
    struct bytes names; /* each with a NUL behind it */
    struct dir_entry *entries;
    size_t n_entries, cap;
    bool was_read;
};

static struct dir_handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct dir_handle *)(uintptr_t)fi->fh;
}

static void free_handle(struct mount *m, struct dir_handle *h)
{
    bytes_fini(&h->names);
    free(h->entries);
    mount_release(m, h->node);
    free(h);
}

static int add_entry(void *ctx, struct slice name, const struct view *v)
{
    struct dir_handle *h = ctx;

    if (h->n_entries == h->cap) {
        size_t cap = h->cap != 0 ? h->cap * 2 : 64;
        struct dir_entry *entries = realloc(h->entries, cap * sizeof(*entries));

        if (entries == NULL)
            return -ENOMEM;
        h->entries = entries;
        h->cap = cap;
    }
    h->entries[h->n_entries++] = (struct dir_entry){v->seen.ino, v->mode, h->names.len};
    bytes_append(&h->names, name);
    bytes_u8(&h->names, 0);
    return bytes_status(&h->names);
}

static int take_names(struct mount *m, struct dir_handle *h)
{
    const struct inode *above = h->node->parent != NULL ? h->node->parent : h->node->kind != NULL ? m->inodes.root : h->node;
    struct view self = {.mode = S_IFDIR, .seen = {.ino = h->node->ino}}, up = {.mode = S_IFDIR, .seen = {.ino = above->ino}};
    int rc;

    bytes_reset(&h->names);
    h->n_entries = 0;
    rc = add_entry(h, slice_from_str("."), &self);
    if (rc == 0)
        rc = add_entry(h, slice_from_str(".."), &up);
    if (rc < 0)
        return rc;
    return h->node->kind != NULL ? virtual_list(m, h->node, add_entry, h) : view_list(m, m->read, h->node, add_entry, h);
}

static void opendir_go(struct waiting *w, int error)
{
    struct mount *m = w->m;
    struct dir_handle *h;
    int rc;

    if (error != 0) {
        wait_fail(w, error);
        return;
    }
    h = calloc(1, sizeof(*h));
    if (h == NULL) {
        wait_fail(w, ENOMEM);
        return;
    }
    bytes_init(&h->names);
    h->node = w->node;
    inode_hold(h->node);
    rc = take_names(m, h);
    if (rc < 0) {
        free_handle(m, h);
        if (rc != -EAGAIN || !virtual_later(w, opendir_go))
            wait_fail(w, errno_of(rc));
        return;
    }
    w->fi.fh = (uint64_t)(uintptr_t)h;
    if (fuse_reply_open(w->req, &w->fi) < 0)
        free_handle(m, h);
    wait_free(w);
}

void ops_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = virtual_is(id) ? virtual_inode(m, id) : ops_inode(m, id);
    struct waiting *w = i != NULL ? wait_new(m, req, opendir_go) : NULL;

    if (w == NULL) {
        fuse_reply_err(req, i == NULL ? ESTALE : ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    w->fi = *fi;
    if (ops_is_echo(m, req))
        opendir_go(w, 0);
    else
        wait_barrier(w);
}

void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct dir_handle *h = handle_of(fi);
    char *buf = malloc(size);
    size_t used = 0;
    int rc = buf != NULL ? 0 : -ENOMEM;

    if (rc == 0 && off == 0 && h->was_read) /* rewinddir() looks anew */
        rc = take_names(m, h);
    h->was_read = true;
    for (size_t at = (size_t)off; rc == 0 && at < h->n_entries; at++) {
        const struct dir_entry *e = &h->entries[at];
        struct stat st = {.st_ino = e->ino, .st_mode = e->type};
        size_t n = fuse_add_direntry(req, buf + used, size - used, (const char *)h->names.data + e->name, &st,
                                     (off_t)at + 1);

        if (n > size - used)
            break;
        used += n;
    }
    if (rc < 0)
        fuse_reply_err(req, errno_of(rc));
    else
        fuse_reply_buf(req, buf, used);
    free(buf);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    free_handle(fuse_req_userdata(req), handle_of(fi));
    fuse_reply_err(req, 0);
}

/* Names are committed when the call that changes them returns. */
void ops_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}
