/* Checkpoint files as bytes: the trailer, reading and verifying, names in a directory. */
#include "store/checkpoint_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/current.h"

#define NAME "checkpoint-"
#define NAME_BYTES (sizeof(NAME) - 1 + 16)
/* Magic, format and checksum stand at these places from the end in every format to come, so that "newer" can be told
 * from "damaged". */
#define MAGIC "QFSCKPT\n"

/* ---- writing ---- */

int sink_open(struct sink *k, const char *path)
{
    *k = (struct sink){.fd = -1};
    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    k->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
    return k->fd < 0 ? -errno : 0;
}

static int write_all(int fd, const uint8_t *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EDQUOT ? -ENOSPC : -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int sink_write(struct sink *k, const void *data, size_t len)
{
    int rc = write_all(k->fd, data, len);

    if (rc < 0)
        return rc;
    k->crc = crc32c(k->crc, data, len);
    k->bytes += len;
    if (k->bytes - k->sent < CHECKPOINT_WINDOW_BYTES)
        return 0;
    /* The window before this one is waited for, this one begins. A file system that cannot do that (ENOSYS, EINVAL,
     * ESPIPE) does it all in the sync; an error of the disk is told there again. */
    if (k->sent >= CHECKPOINT_WINDOW_BYTES)
        (void)sync_file_range(k->fd, (off_t)(k->sent - CHECKPOINT_WINDOW_BYTES), CHECKPOINT_WINDOW_BYTES,
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    (void)sync_file_range(k->fd, (off_t)k->sent, (off_t)(k->bytes - k->sent), SYNC_FILE_RANGE_WRITE);
    k->sent = k->bytes;
    return 0;
}

int sink_finish(struct sink *k)
{
    int rc = 0;

    if (fsync(k->fd) < 0)
        rc = errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO;
    if (close(k->fd) < 0 && rc == 0)
        rc = errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO;
    k->fd = -1;
    return rc;
}

void sink_discard(struct sink *k, const char *path)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
    unlink(path);
}

int checkpoint_room(const char *dir, uint64_t bytes)
{
    struct statvfs st;

    if (statvfs(dir, &st) < 0)
        return -errno;
    return (uint64_t)st.f_bavail * st.f_frsize < bytes + CHECKPOINT_LEAVE_BYTES ? -ENOSPC : 0;
}

/* ---- the trailer ---- */

void checkpoint_trailer_encode(const struct checkpoint_info *info, struct slice membership, struct bytes *out)
{
    size_t begin = out->len;
    uint32_t len;

    bytes_u64(out, info->image_bytes);
    bytes_u64(out, info->crc);
    bytes_u64(out, info->cluster_id);
    bytes_u64(out, info->env_id);
    bytes_u64(out, info->epoch);
    bytes_u64(out, info->applied_index);
    bytes_u64(out, info->applied_term);
    bytes_u64(out, (uint64_t)info->revision);
    bytes_u64(out, (uint64_t)info->compacted);
    bytes_u64(out, (uint64_t)info->time_ns);
    bytes_u64(out, info->membership_index);
    bytes_u32_slice(out, membership);
    len = (uint32_t)(out->len - begin) + CHECKPOINT_FOOT_BYTES;
    bytes_u32(out, 0);
    bytes_u32(out, len);
    bytes_u32(out, CHECKPOINT_FORMAT);
    bytes_raw(out, MAGIC, 8);
    if (bytes_status(out) == 0)
        bytes_u32(out, crc32c(0, out->data + begin, len - 4));
}

static int trailer_decode(struct slice trailer, uint64_t file_bytes, struct checkpoint_info *info,
                          struct slice *ret_membership)
{
    struct reader r = reader_make(slice_make(trailer.data, trailer.len - CHECKPOINT_FOOT_BYTES));
    uint64_t crc;

    info->bytes = file_bytes;
    info->image_bytes = reader_u64(&r);
    crc = reader_u64(&r);
    info->crc = (uint32_t)crc;
    info->cluster_id = reader_u64(&r);
    info->env_id = reader_u64(&r);
    info->epoch = reader_u64(&r);
    info->applied_index = reader_u64(&r);
    info->applied_term = reader_u64(&r);
    info->revision = (int64_t)reader_u64(&r);
    info->compacted = (int64_t)reader_u64(&r);
    info->time_ns = (int64_t)reader_u64(&r);
    info->membership_index = reader_u64(&r);
    *ret_membership = reader_u32_slice(&r);
    if (reader_status(&r) < 0 || crc > UINT32_MAX || info->image_bytes + trailer.len != file_bytes ||
        info->revision < 1 || info->compacted < 0 || info->compacted > info->revision)
        return -EUCLEAN;
    return 0;
}

static int read_at(int fd, uint64_t at, uint8_t *p, size_t len)
{
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EUCLEAN; /* it was longer a moment ago */
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Where the checkpoint in a file of that size ends: at its end, or before what the sidecar's Snapshot puts behind it for etcd's
 * clients, zeros up to a multiple of SNAPSHOT_BLOCK_BYTES and, as they keep it, a digest of SNAPSHOT_DIGEST_BYTES. */
static int find_end(int fd, uint64_t size, uint64_t *ret_end)
{
    uint8_t tail[SNAPSHOT_BLOCK_BYTES + SNAPSHOT_DIGEST_BYTES + CHECKPOINT_FOOT_BYTES];
    size_t n = size < sizeof(tail) ? (size_t)size : sizeof(tail);
    size_t digest = size % SNAPSHOT_BLOCK_BYTES == SNAPSHOT_DIGEST_BYTES ? SNAPSHOT_DIGEST_BYTES : 0;
    int rc = read_at(fd, size - n, tail, n);

    if (rc < 0)
        return rc;
    *ret_end = size;
    if (memcmp(tail + n - 12, MAGIC, 8) == 0)
        return 0;
    for (size_t i = n - digest; i >= CHECKPOINT_FOOT_BYTES; i--) {
        if (memcmp(tail + i - 12, MAGIC, 8) == 0) {
            *ret_end = size - n + i;
            return 0;
        }
        if (tail[i - 1] != 0)
            return -EUCLEAN;
    }
    return -EUCLEAN;
}

/* The trailer as it stands at the end of fd; *ret_trailer is malloc'ed. */
static int load_trailer(int fd, uint64_t *ret_file_bytes, uint8_t **ret_trailer, size_t *ret_len)
{
    uint8_t foot[CHECKPOINT_FOOT_BYTES];
    uint8_t *trailer;
    struct stat st;
    uint64_t end;
    uint32_t len;
    int rc;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < CHECKPOINT_FOOT_BYTES)
        return -EUCLEAN;
    rc = find_end(fd, (uint64_t)st.st_size, &end);
    if (rc == 0)
        rc = read_at(fd, end - sizeof(foot), foot, sizeof(foot));
    if (rc < 0)
        return rc;
    len = get_le32(foot + 4);
    if (memcmp(foot + 12, MAGIC, 8) != 0 || len < sizeof(foot) || len > CHECKPOINT_TRAILER_MAX_BYTES ||
        len > end)
        return -EUCLEAN;
    trailer = malloc(len);
    if (trailer == NULL)
        return -ENOMEM;
    rc = read_at(fd, end - len, trailer, len);
    if (rc == 0 && crc32c(0, trailer, len - 4) != get_le32(trailer + len - 4))
        rc = -EUCLEAN;
    if (rc == 0 && get_le32(foot + 8) != CHECKPOINT_FORMAT)
        rc = get_le32(foot + 8) > CHECKPOINT_FORMAT ? -EPROTONOSUPPORT : -EUCLEAN;
    if (rc < 0) {
        free(trailer);
        return rc;
    }
    *ret_file_bytes = end;
    *ret_trailer = trailer;
    *ret_len = len;
    return 0;
}

/* Opens the file too if ret_fd is given; membership goes to arena if that is given. */
static int open_info(const char *path, struct checkpoint_info *ret_info, struct arena *arena,
                     struct slice *ret_membership, int *ret_fd)
{
    struct checkpoint_info info = {0};
    struct slice membership;
    uint8_t *trailer = NULL;
    size_t len = 0;
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    rc = load_trailer(fd, &info.bytes, &trailer, &len);
    if (rc == 0)
        rc = trailer_decode(slice_make(trailer, len), info.bytes, &info, &membership);
    if (rc == 0 && (size_t)snprintf(info.path, sizeof(info.path), "%s", path) >= sizeof(info.path))
        rc = -ENAMETOOLONG;
    if (rc == 0 && arena != NULL)
        rc = arena_copy(arena, membership, ret_membership);
    free(trailer);
    if (rc < 0 || ret_fd == NULL)
        close(fd);
    if (rc < 0)
        return rc;
    if (ret_fd != NULL)
        *ret_fd = fd;
    *ret_info = info;
    return 0;
}

int checkpoint_read_info(const char *path, struct checkpoint_info *ret_info)
{
    return open_info(path, ret_info, NULL, NULL, NULL);
}

int checkpoint_membership(const char *path, struct arena *arena, struct slice *ret_membership)
{
    struct checkpoint_info info;

    return open_info(path, &info, arena, ret_membership, NULL);
}

int checkpoint_copy_image(const char *path, struct sink *to, struct checkpoint_info *ret_info)
{
    struct checkpoint_info info;
    uint32_t crc = 0;
    uint8_t *buffer;
    int fd, rc = open_info(path, &info, NULL, NULL, &fd);

    if (rc < 0)
        return rc;
    buffer = malloc(CHECKPOINT_BUFFER_BYTES);
    rc = buffer == NULL ? -ENOMEM : 0;
    for (uint64_t at = 0; rc == 0 && at < info.image_bytes;) {
        size_t len = CHECKPOINT_BUFFER_BYTES;

        if (len > info.image_bytes - at)
            len = (size_t)(info.image_bytes - at);
        rc = read_at(fd, at, buffer, len);
        if (rc == 0)
            crc = crc32c(crc, buffer, len);
        if (rc == 0 && to != NULL)
            rc = sink_write(to, buffer, len);
        at += len;
    }
    if (rc == 0 && crc != info.crc)
        rc = -EUCLEAN;
    free(buffer);
    close(fd);
    if (rc == 0)
        *ret_info = info;
    return rc;
}

int checkpoint_verify(const char *path, struct checkpoint_info *ret_info)
{
    return checkpoint_copy_image(path, NULL, ret_info);
}

/* ---- names ---- */

static bool is_name(const char *name)
{
    return strncmp(name, NAME, sizeof(NAME) - 1) == 0 && strlen(name) == NAME_BYTES &&
           strspn(name + sizeof(NAME) - 1, "0123456789abcdef") == 16;
}

int checkpoint_path(char *out, size_t size, const char *dir, uint64_t index)
{
    return (size_t)snprintf(out, size, "%s/" NAME "%016" PRIx64, dir, index) < size ? 0 : -ENAMETOOLONG;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(b, a); /* newest first */
}

/* Names of checkpoints, newest first. */
static int list_names(const char *dir, char (*names)[NAME_BYTES + 1], size_t *ret_count)
{
    struct dirent *e;
    size_t n = 0;
    DIR *d = opendir(dir);

    if (d == NULL)
        return -errno;
    while (n < CHECKPOINT_MAX && (errno = 0, e = readdir(d)) != NULL)
        if (is_name(e->d_name))
            memcpy(names[n++], e->d_name, NAME_BYTES + 1);
    closedir(d);
    qsort(names, n, sizeof(names[0]), compare_names);
    *ret_count = n;
    return 0;
}

/* A name that says another index than the trailer is no checkpoint of this directory. */
static int info_of(const char *dir, const char *name, struct checkpoint_info *ret_info)
{
    char path[PATH_MAX];
    struct checkpoint_info info;
    int rc;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
        return -ENAMETOOLONG;
    rc = checkpoint_read_info(path, &info);
    if (rc == 0 && strtoull(name + sizeof(NAME) - 1, NULL, 16) != info.applied_index)
        rc = -EUCLEAN;
    if (rc == 0)
        *ret_info = info;
    return rc;
}

int checkpoint_list(const char *dir, struct checkpoint_info *infos, size_t max, size_t *ret_count, size_t *ret_bad)
{
    char names[CHECKPOINT_MAX][NAME_BYTES + 1];
    size_t n = 0, good = 0, bad = 0;
    int rc = list_names(dir, names, &n);

    for (size_t i = 0; rc == 0 && i < n && good < max; i++) {
        rc = info_of(dir, names[i], &infos[good]);
        if (rc == 0)
            good++;
        else if (rc == -EUCLEAN || rc == -EPROTONOSUPPORT)
            bad++;
        if (rc == -EUCLEAN || rc == -EPROTONOSUPPORT || rc == -ENOENT)
            rc = 0;
    }
    if (rc < 0)
        return rc;
    *ret_count = good;
    if (ret_bad != NULL)
        *ret_bad = bad;
    return 0;
}

int checkpoint_latest(const char *dir, struct checkpoint_info *ret_info)
{
    size_t n;
    int rc = checkpoint_list(dir, ret_info, 1, &n, NULL);

    return rc == 0 && n == 0 ? -ENOENT : rc;
}

int checkpoint_prune(const char *dir, size_t keep)
{
    char names[CHECKPOINT_MAX][NAME_BYTES + 1], path[PATH_MAX];
    struct checkpoint_info info;
    size_t n = 0, good = 0;
    int rc = list_names(dir, names, &n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = info_of(dir, names[i], &info);
        if (rc == 0 && good < keep) {
            good++;
            continue;
        }
        if (rc < 0 && rc != -EUCLEAN)
            return rc;
        rc = 0;
        if (good == 0)
            continue; /* the last that there is, even damaged: somebody may want to look at it */
        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= sizeof(path))
            return -ENAMETOOLONG;
        if (unlink(path) < 0 && errno != ENOENT)
            rc = -errno;
    }
    return rc;
}

int checkpoint_adopt(const char *dir, const char *path, struct checkpoint_info *ret_info)
{
    struct checkpoint_info info;
    char name[PATH_MAX];
    int fd, rc = checkpoint_verify(path, &info);

    if (rc == 0)
        rc = checkpoint_path(name, sizeof(name), dir, info.applied_index);
    if (rc < 0)
        return rc;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        rc = -EIO;
    close(fd);
    if (rc == 0 && rename(path, name) < 0)
        rc = -errno;
    if (rc == 0)
        rc = current_sync_directory(dir);
    if (rc < 0)
        return rc;
    memcpy(info.path, name, sizeof(name));
    *ret_info = info;
    (void)checkpoint_prune(dir, CHECKPOINT_KEEP); /* costs space only */
    return 0;
}
