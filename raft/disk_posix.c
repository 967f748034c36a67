#include "raft/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZERO_BYTES 65536
#define ZERO_VECTORS 16 /* a mebibyte of zeros a call */

struct posix_dir {
    int fd;
};

struct disk_file {
    int fd;
};

static int posix_open(void *ctx, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct posix_dir *d = ctx;
    int mode = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & DISK_READ_ONLY ? O_RDONLY : O_RDWR);
    struct disk_file *f;
    struct stat st;
    int rc;

    if (flags & DISK_CREATE)
        mode |= O_CREAT;
    if (flags & DISK_EXCLUSIVE)
        mode |= O_EXCL;
    f = malloc(sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    do
        f->fd = openat(d->fd, path, mode, 0600);
    while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0) {
        rc = -errno;
        free(f);
        return rc;
    }
    if (fstat(f->fd, &st) < 0)
        rc = -errno;
    else
        rc = S_ISREG(st.st_mode) ? 0 : -EINVAL; /* a pipe in the place of a file must not block us */
    if (rc < 0) {
        close(f->fd);
        free(f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

static void posix_close(void *ctx, struct disk_file *f)
{
    if (f == NULL)
        return;
    close(f->fd);
    free(f);
}

static int posix_size(void *ctx, struct disk_file *f, uint64_t *ret_bytes)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return -errno;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static int posix_read(void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(f->fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *ret_len = done;
    return 0;
}

static int posix_write(void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(f->fd, (const uint8_t *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* fallocate alone leaves extents marked unwritten, and the first write to each changes metadata. */
static int posix_zero(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len)
{
    static const uint8_t zeros[ZERO_BYTES];
    int rc;

    if (len == 0)
        return 0;
    do
        rc = fallocate(f->fd, 0, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
    while (rc == -EINTR);
    if (rc < 0 && rc != -EOPNOTSUPP && rc != -ENOSYS)
        return rc;
    while (len > 0) {
        struct iovec v[ZERO_VECTORS];
        size_t total = 0;
        int count = 0;
        ssize_t n;

        for (; count < ZERO_VECTORS && total < len; count++) {
            v[count].iov_base = (void *)(uintptr_t)zeros;
            v[count].iov_len = len - total < ZERO_BYTES ? (size_t)(len - total) : ZERO_BYTES;
            total += v[count].iov_len;
        }
        n = pwritev(f->fd, v, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int posix_truncate(void *ctx, struct disk_file *f, uint64_t len)
{
    int rc;

    do
        rc = ftruncate(f->fd, (off_t)len) < 0 ? -errno : 0;
    while (rc == -EINTR);
    return rc;
}

static int posix_sync(void *ctx, struct disk_file *f)
{
    int rc;

    do
        rc = fdatasync(f->fd) < 0 ? -errno : 0;
    while (rc == -EINTR);
    return rc;
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    struct posix_dir *d = ctx;

    return renameat(d->fd, from, d->fd, to) < 0 ? -errno : 0;
}

static int posix_remove(void *ctx, const char *path)
{
    struct posix_dir *d = ctx;

    return unlinkat(d->fd, path, 0) < 0 ? -errno : 0;
}

static int posix_mkdir(void *ctx, const char *path)
{
    struct posix_dir *d = ctx;

    return mkdirat(d->fd, path, 0700) < 0 ? -errno : 0;
}

static int posix_sync_dir(void *ctx, const char *path)
{
    struct posix_dir *d = ctx;
    int fd = openat(d->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return -errno;
    do
        rc = fsync(fd) < 0 ? -errno : 0;
    while (rc == -EINTR);
    close(fd);
    return rc;
}

static int posix_list(void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg)
{
    struct posix_dir *d = ctx;
    int fd = openat(d->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir;
    int rc = 0;

    if (fd < 0)
        return -errno;
    dir = fdopendir(fd);
    if (dir == NULL) {
        rc = -errno;
        close(fd);
        return rc;
    }
    for (;;) {
        struct dirent *e;

        errno = 0;
        e = readdir(dir);
        if (e == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (fn(arg, e->d_name) != 0)
            break;
    }
    closedir(dir);
    return rc;
}

int disk_posix_open(const char *dir, struct disk *ret_disk)
{
    struct posix_dir *d = malloc(sizeof(*d));

    if (d == NULL)
        return -ENOMEM;
    d->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0) {
        int rc = -errno;

        free(d);
        return rc;
    }
    *ret_disk = (struct disk){
        .ctx = d,
        .open = posix_open,
        .close = posix_close,
        .size = posix_size,
        .read = posix_read,
        .write = posix_write,
        .zero = posix_zero,
        .truncate = posix_truncate,
        .sync = posix_sync,
        .rename = posix_rename,
        .remove = posix_remove,
        .mkdir = posix_mkdir,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
    };
    return 0;
}

void disk_posix_close(struct disk *d)
{
    struct posix_dir *p = d->ctx;

    if (p == NULL)
        return;
    close(p->fd);
    free(p);
    d->ctx = NULL;
}
