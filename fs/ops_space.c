/* Room: statfs and fallocate. */
#include <errno.h>
#include <linux/falloc.h>

#include "fs/mount.h"

#define BLOCK_BYTES 4096
#define BYTES_PER_NAME 256        /* what a small file takes, about: how many more there is room for */
#define UNLIMITED_BYTES (16ull << 30) /* without a quota: a node's address space for its data */

void ops_statfs(fuse_req_t req, fuse_ino_t id)
{
    struct mount *m = fuse_req_userdata(req);
    struct statvfs st = {.f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES, .f_namemax = NAME_LONGEST_BYTES};
    uint64_t total, used, keys, dirs;
    struct store_meta meta;
    int rc = store_read_meta(m->read, &meta);

    if (rc == 0)
        rc = store_count(m->read, &keys, &dirs);
    if (rc < 0) {
        fuse_reply_err(req, errno_of(rc));
        return;
    }
    /* What the quota counts, if there is one: history included, until it is compacted. */
    total = meta.quota_bytes != 0 ? meta.quota_bytes : UNLIMITED_BYTES;
    used = meta.quota_bytes != 0 && meta.logical_bytes != 0 ? meta.logical_bytes : meta.db_bytes_in_use;
    st.f_blocks = total / BLOCK_BYTES;
    st.f_bfree = st.f_bavail = used < total ? (total - used) / BLOCK_BYTES : 0;
    st.f_ffree = st.f_favail = st.f_bfree * (BLOCK_BYTES / BYTES_PER_NAME);
    st.f_files = keys + dirs + st.f_ffree;
    fuse_reply_statfs(req, &st);
}

/* Nothing is reserved: content is committed whole. What a caller can see of it is done: the size, and zeros. */
void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
    const int zeroes = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct mount *m = fuse_req_userdata(req);
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    uint64_t end = (uint64_t)offset + (uint64_t)length;
    struct buffer *b;
    struct stat st;
    int rc = 0;

    if ((mode & ~(zeroes | FALLOC_FL_KEEP_SIZE)) != 0 || (mode & zeroes) == zeroes)
        rc = -EOPNOTSUPP;
    else if (h->echo || !h->writes || h->node->lock_lost)
        rc = h->node->lock_lost ? -EIO : -EBADF;
    else if (offset < 0 || length <= 0 || end > m->opt.max_file_bytes)
        rc = offset < 0 || length <= 0 ? -EINVAL : -EFBIG;
    else
        rc = -commit_possible(m);
    if (rc == 0)
        rc = view_stat(m, h->node, &st);
    if (rc == 0 && (mode & zeroes) == 0 && ((mode & FALLOC_FL_KEEP_SIZE) != 0 || end <= (uint64_t)st.st_size)) {
        fuse_reply_err(req, 0);
        return;
    }
    if (rc == 0)
        rc = commit_buffer(m, h->node, false, &b);
    if (rc == 0 && (mode & zeroes) != 0)
        buffer_zero(b, (uint64_t)offset, end);
    if (rc == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0 && end > b->size)
        rc = buffer_truncate(b, end, m->opt.max_file_bytes);
    if (rc == 0) {
        buffer_touch(b, mount_now_ns(), client_now_ms());
        b->written = true;
    }
    fuse_reply_err(req, errno_of(rc));
}
