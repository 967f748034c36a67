/* Writing a checkpoint: LMDB copies a snapshot into a pipe, from a thread, and this end checks sums, writes, and keeps what is
 * not yet on the disk small. What the snapshot was is read from the copy, so it is opened once before it counts. */
#include "store/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/checkpoint_file.h"
#include "store/current.h"
#include "store/env.h"

#define COPY_LEAK 1 /* a page that is neither used nor free stops a compacting copy */

struct copy {
    MDB_env *env;
    unsigned flags;
    int fd;
    int rc;
};

static void *run_copy(void *arg)
{
    struct copy *c = arg;

    c->rc = mdb_env_copyfd2(c->env, c->fd, c->flags);
    close(c->fd); /* the end, for who reads */
    return NULL;
}

static bool is_canceled(struct store *s)
{
    return atomic_load_explicit(&s->checkpoint_canceled, memory_order_relaxed);
}

void checkpoint_cancel(struct store *s)
{
    atomic_store_explicit(&s->checkpoint_canceled, true, memory_order_relaxed);
}

/* Everything that comes out of the pipe. After an error it is read to its end all the same, or LMDB would meet a pipe without
 * a reader. */
static int pump(struct store *s, int from, struct sink *to, uint8_t *buffer)
{
    int rc = 0;

    for (;;) {
        ssize_t n = read(from, buffer, CHECKPOINT_BUFFER_BYTES);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return rc;
        if (rc == 0 && is_canceled(s))
            rc = -ECANCELED;
        if (rc == 0)
            rc = sink_write(to, buffer, (size_t)n);
    }
}

/* 0, COPY_LEAK, or an error. */
static int copy_image(struct store *s, unsigned flags, struct sink *to)
{
    struct copy copy = {.env = s->env, .flags = flags};
    uint8_t *buffer = malloc(CHECKPOINT_BUFFER_BYTES);
    pthread_t thread;
    int ends[2], rc;

    if (buffer == NULL)
        return -ENOMEM;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        rc = -errno;
        free(buffer);
        return rc;
    }
    (void)fcntl(ends[1], F_SETPIPE_SZ, CHECKPOINT_BUFFER_BYTES); /* smaller is only slower */
    copy.fd = ends[1];
    rc = -pthread_create(&thread, NULL, run_copy, &copy);
    if (rc < 0) {
        close(ends[1]);
    } else {
        rc = pump(s, ends[0], to, buffer);
        pthread_join(thread, NULL);
        if (rc == 0)
            rc = copy.rc == MDB_INCOMPATIBLE ? COPY_LEAK : err_from_mdb(copy.rc);
    }
    close(ends[0]);
    free(buffer);
    return rc;
}

/* What the copy is, from its own rows. */
static int read_image(const char *path, struct checkpoint_info *info, struct bytes *trailer)
{
    struct store *image = NULL;
    struct store_read *r = NULL;
    struct store_meta meta;
    int rc = store_open_image(path, &image);

    if (rc == 0)
        rc = store_read_begin(image, &r);
    if (rc == 0)
        rc = store_read_meta(r, &meta);
    if (rc == 0) {
        info->applied_index = meta.applied_index;
        info->applied_term = meta.applied_term;
        info->epoch = meta.epoch;
        info->env_id = image->env_id;
        info->cluster_id = meta.cluster_id;
        info->revision = meta.revision;
        info->compacted = meta.compacted;
        info->membership_index = meta.membership_index;
        checkpoint_trailer_encode(info, meta.membership, trailer);
        rc = bytes_status(trailer);
    }
    store_read_end(r);
    store_close(image);
    return rc;
}

static int64_t wall_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The image and its trailer, synced, at path. 0, COPY_LEAK, or an error. */
static int write_file(struct store *s, const char *path, unsigned flags, struct checkpoint_info *info)
{
    struct bytes trailer;
    struct sink sink;
    int rc = sink_open(&sink, path);

    if (rc < 0)
        return rc;
    bytes_init(&trailer);
    rc = copy_image(s, flags, &sink);
    info->image_bytes = sink.bytes;
    info->crc = sink.crc;
    info->time_ns = wall_ns();
    if (rc == 0)
        rc = read_image(path, info, &trailer);
    if (rc == 0)
        rc = sink_write(&sink, trailer.data, trailer.len);
    info->bytes = sink.bytes;
    if (rc == 0)
        rc = sink_finish(&sink);
    if (rc != 0)
        sink_discard(&sink, path);
    bytes_fini(&trailer);
    return rc;
}

static int bytes_needed(struct store *s, uint64_t *ret_bytes)
{
    struct store_read *r = NULL;
    struct store_meta meta;
    int rc = store_read_begin(s, &r);

    if (rc == 0)
        rc = store_read_meta(r, &meta);
    if (rc == 0)
        *ret_bytes = meta.db_bytes_in_use;
    store_read_end(r);
    return rc;
}

/* Room for a new one, if need be by giving up all but the newest. */
static int make_room(struct store *s)
{
    uint64_t bytes = 0;
    int rc = bytes_needed(s, &bytes);

    if (rc == 0)
        rc = checkpoint_room(s->dir, bytes);
    if (rc != -ENOSPC)
        return rc;
    rc = checkpoint_prune(s->dir, 1);
    return rc == 0 ? checkpoint_room(s->dir, bytes) : rc;
}

int checkpoint_write(struct store *s, struct checkpoint_info *ret_info)
{
    struct checkpoint_info info = {0};
    char temporary[PATH_MAX];
    int rc = make_room(s);

    if (rc < 0)
        return rc;
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s/" CHECKPOINT_NEW, s->dir) >= sizeof(temporary))
        return -ENAMETOOLONG;
    rc = write_file(s, temporary, MDB_CP_COMPACT, &info);
    if (rc == COPY_LEAK) /* a plain one takes such a page along */
        rc = write_file(s, temporary, 0, &info);
    if (rc == 0)
        rc = checkpoint_path(info.path, sizeof(info.path), s->dir, info.applied_index);
    if (rc == 0 && rename(temporary, info.path) < 0)
        rc = -errno;
    if (rc < 0) {
        unlink(temporary);
        return rc;
    }
    if (current_sync_directory(s->dir) < 0)
        return -EIO; /* it has its name, but for how long nobody knows */
    *ret_info = info;
    (void)checkpoint_prune(s->dir, CHECKPOINT_KEEP); /* costs space only */
    return 0;
}
