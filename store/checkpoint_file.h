/* checkpoint_file.h - inside store/: the bytes of a checkpoint file, and the environment that one becomes.
 *
 * Process: see checkpoint.h.
 * Thread:  see checkpoint.h.
 * Errors:  negative errno.
 * Memory:  a sink owns its buffer and descriptor.
 * Units:   bytes. */
#ifndef STORE_CHECKPOINT_FILE_H
#define STORE_CHECKPOINT_FILE_H

#include "store/checkpoint.h"

#define CHECKPOINT_FORMAT 1
#define CHECKPOINT_FOOT_BYTES 24
#define SNAPSHOT_BLOCK_BYTES 512 /* what etcd's clients keep of Maintenance.Snapshot: */
#define SNAPSHOT_DIGEST_BYTES 32 /* so many bytes behind a multiple of that */
#define CHECKPOINT_TRAILER_MAX_BYTES (1u << 20) /* a membership of any size that there is; more is damage */
#define CHECKPOINT_BUFFER_BYTES (1u << 20)
#define CHECKPOINT_WINDOW_BYTES (8u << 20) /* not yet on the way to the disk, at most twice */
#define CHECKPOINT_NEW "checkpoint.new"    /* being written; means nothing */

/* A file being written in order: checksummed, and on its way to the disk in windows, so that the sync at the end has
 * little to do and the log's syncs beside it do not wait behind a gigabyte. */
struct sink {
    int fd;
    uint32_t crc;
    uint64_t bytes, sent; /* written; handed to the disk */
};

int sink_open(struct sink *k, const char *path); /* anew: what stands there is removed */
int sink_write(struct sink *k, const void *data, size_t len);
/* Synced and closed, or on any error closed. */
int sink_finish(struct sink *k);
void sink_discard(struct sink *k, const char *path);

/* -ENOSPC unless dir's file system has that many bytes and CHECKPOINT_LEAVE_BYTES. */
int checkpoint_room(const char *dir, uint64_t bytes);

struct bytes;
void checkpoint_trailer_encode(const struct checkpoint_info *info, struct slice membership, struct bytes *out);
int checkpoint_path(char *out, size_t size, const char *dir, uint64_t index);
/* Reads all of the file at path, compares checksums, and writes LMDB's part to a sink, if given. */
int checkpoint_copy_image(const char *path, struct sink *to, struct checkpoint_info *ret_info);
/* The newest `keep` stay; so does nothing whose trailer is bad, once there is a good one. */
int checkpoint_prune(const char *dir, size_t keep);

/* Writer's start: the newest checkpoint of dir that is whole and holds entry at_least or a later one becomes env.<epoch>.
 * -ENOENT: there is no checkpoint at all. -EUCLEAN: there are, but none can be used. */
int checkpoint_recover(const char *dir, uint64_t cluster_id, uint64_t at_least, uint64_t epoch);

#endif
