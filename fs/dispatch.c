/* Requests by what they are about: keys (ops_*.c), or what is beside them below .quorumfs (virtual.c). */
#include <errno.h>
#include <poll.h>

#include "fs/mount.h"

static bool is_top(fuse_ino_t parent, const char *name)
{
    return parent == FUSE_ROOT_ID && strcmp(name, VIRTUAL_NAME) == 0;
}

static bool refuses(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (!virtual_is(parent) && !is_top(parent, name))
        return false;
    fuse_reply_err(req, EROFS);
    return true;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (virtual_is(parent) || is_top(parent, name))
        virtual_lookup(req, parent, name);
    else
        ops_lookup(req, parent, name);
}

static void on_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
    if (!virtual_is(id)) {
        ops_forget(req, id, nlookup);
        return;
    }
    virtual_forget(fuse_req_userdata(req), id, nlookup);
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        virtual_getattr(req, id);
    else
        ops_getattr(req, id, fi);
}

static void on_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        fuse_reply_err(req, EROFS);
    else
        ops_setattr(req, id, attr, to_set, fi);
}

static void on_readlink(fuse_req_t req, fuse_ino_t id)
{
    if (virtual_is(id))
        virtual_readlink(req, id);
    else
        ops_readlink(req, id);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (!refuses(req, parent, name))
        ops_mknod(req, parent, name, mode, rdev);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    if (!refuses(req, parent, name))
        ops_mkdir(req, parent, name, mode);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    if (!refuses(req, parent, name))
        ops_symlink(req, target, parent, name);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (!refuses(req, parent, name))
        ops_unlink(req, parent, name);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (!refuses(req, parent, name))
        ops_rmdir(req, parent, name);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    if (!refuses(req, parent, name) && !refuses(req, parent2, name2))
        ops_rename(req, parent, name, parent2, name2, flags);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    if (!refuses(req, parent, name))
        ops_create(req, parent, name, mode, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        virtual_open(req, id, fi);
    else
        ops_open(req, id, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        virtual_read(req, size, off, fi);
    else
        ops_read(req, id, size, off, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        fuse_reply_err(req, EROFS);
    else
        ops_write(req, id, data, size, off, fi);
}

static void on_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        fuse_reply_err(req, 0);
    else
        ops_flush(req, id, fi);
}

static void on_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        fuse_reply_err(req, 0);
    else
        ops_fsync(req, id, datasync, fi);
}

static void on_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        virtual_release(req, fi);
    else
        ops_release(req, id, fi);
}

static void on_poll(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    if (virtual_is(id)) {
        virtual_poll(req, fi, ph);
        return;
    }
    if (ph != NULL)
        fuse_pollhandle_destroy(ph);
    fuse_reply_poll(req, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM); /* as for all files */
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct mount *m = fuse_req_userdata(req);

    for (size_t i = 0; i < count; i++) {
        struct inode *node = virtual_is(forgets[i].ino) ? NULL : ops_inode(m, forgets[i].ino);

        if (virtual_is(forgets[i].ino))
            virtual_forget(m, forgets[i].ino, forgets[i].nlookup);
        else if (node != NULL)
            inode_forget(&m->inodes, node, forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
    if (virtual_is(id))
        fuse_reply_err(req, EROFS);
    else
        ops_fallocate(req, id, mode, offset, length, fi);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    if (virtual_is(id))
        fuse_reply_err(req, ENODATA);
    else
        ops_getxattr(req, id, name, size);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
    if (!virtual_is(id))
        ops_listxattr(req, id, size);
    else if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, NULL, 0);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
    if (virtual_is(id))
        fuse_reply_err(req, EROFS);
    else
        ops_setxattr(req, id, name, value, size, flags);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
    if (virtual_is(id))
        fuse_reply_err(req, EROFS);
    else
        ops_removexattr(req, id, name);
}

static void on_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock)
{
    if (virtual_is(id))
        fuse_reply_err(req, ENOLCK);
    else
        ops_getlk(req, id, fi, lock);
}

static void on_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
    if (virtual_is(id))
        fuse_reply_err(req, ENOLCK);
    else
        ops_setlk(req, id, fi, lock, sleep);
}

static void on_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op)
{
    if (virtual_is(id))
        fuse_reply_err(req, ENOLCK);
    else
        ops_flock(req, id, fi, op);
}

const struct fuse_lowlevel_ops *ops_table(void)
{
    static const struct fuse_lowlevel_ops ops = {
        .init = ops_init, .lookup = on_lookup, .forget = on_forget, .forget_multi = on_forget_multi,
        .getattr = on_getattr, .setattr = on_setattr, .readlink = on_readlink, .mknod = on_mknod,
        .mkdir = on_mkdir, .unlink = on_unlink, .rmdir = on_rmdir, .symlink = on_symlink,
        .rename = on_rename, .link = ops_refuse_link, .open = on_open, .read = on_read,
        .write = on_write, .flush = on_flush, .release = on_release, .fsync = on_fsync,
        .opendir = ops_opendir, .readdir = ops_readdir, .releasedir = ops_releasedir, .fsyncdir = ops_fsyncdir,
        .statfs = ops_statfs, .create = on_create, .poll = on_poll,
        .fallocate = on_fallocate, .getxattr = on_getxattr, .listxattr = on_listxattr, .setxattr = on_setxattr,
        .removexattr = on_removexattr, .getlk = on_getlk, .setlk = on_setlk, .flock = on_flock,
    };

    return &ops;
}
