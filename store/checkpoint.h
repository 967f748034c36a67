/* checkpoint.h - checkpoint files: the whole key space as of one applied entry, in one durable file (docs/disk.md).
 *
 * Process: node writes and installs; any process may read and verify.
 * Thread:  checkpoint_write() beside the writer and any readers, one at a time; the rest from any thread, with nobody
 *          else writing checkpoints of that directory.
 * Errors:  negative errno. -EUCLEAN: the file is damaged; -EPROTONOSUPPORT: of a newer version. On an error nothing has
 *          changed that a later start would see.
 * Memory:  none kept.
 * Units:   bytes; indexes, terms, epochs and revisions from 1.
 *
 * A checkpoint is STORE_DIR/checkpoint-INDEX (16 hexadecimal digits): a compacting copy of LMDB's, which may be opened
 * where it stands, and a trailer with what it is and checksums. A file of that name is whole and durable: it gets the
 * name last. Nothing ever writes into it again, so it may be streamed from an open descriptor even when it is removed
 * meanwhile. */
#ifndef STORE_CHECKPOINT_H
#define STORE_CHECKPOINT_H

#include <limits.h>

#include "base/arena.h"
#include "base/slice.h"
#include "store/store.h"

#define CHECKPOINT_KEEP 2 /* the newest so many; the older goes first where there is no room for a new one */
/* A new one leaves so much of the disk to the log, or is not made (-ENOSPC). */
#define CHECKPOINT_LEAVE_BYTES (64ull << 20)
#define CHECKPOINT_MAX 64 /* files looked at in one directory */

struct checkpoint_info {
    uint64_t applied_index, applied_term;
    uint64_t epoch, env_id, cluster_id; /* of the environment that it was copied from */
    int64_t revision, compacted;
    uint64_t membership_index;
    uint64_t bytes;       /* of the file */
    uint64_t image_bytes; /* of LMDB's part, from the file's begin */
    uint32_t crc;         /* CRC-32C of that part */
    int64_t time_ns;      /* when it was made, by that machine's clock */
    char path[PATH_MAX];
};

/* Copies a snapshot as of now, beside the writer. Memory and unwritten pages are bounded, whatever the size. Keeps the
 * CHECKPOINT_KEEP newest and removes older ones. -ENOSPC: there is no room for it; those that were stay, but the oldest
 * of several. -EIO: a write or a sync failed: the disk is not to be relied on. -ECANCELED: checkpoint_cancel(). */
int checkpoint_write(struct store *s, struct checkpoint_info *ret_info);
/* From any thread: ends a checkpoint_write() that runs, soon, and each later one. */
void checkpoint_cancel(struct store *s);

/* The newest whose trailer is good; the rest of it is not read. -ENOENT: there is none. */
int checkpoint_latest(const char *dir, struct checkpoint_info *ret_info);
/* All of dir, newest first, up to max; those with a bad trailer are left out. *ret_bad: how many. */
int checkpoint_list(const char *dir, struct checkpoint_info *infos, size_t max, size_t *ret_count, size_t *ret_bad);
/* Reads the trailer of the file at path. */
int checkpoint_read_info(const char *path, struct checkpoint_info *ret_info);
/* Reads all of it and compares checksums. -EUCLEAN: damaged, or cut short. */
int checkpoint_verify(const char *path, struct checkpoint_info *ret_info);
/* The membership at membership_index, opaque, in arena. */
int checkpoint_membership(const char *path, struct arena *arena, struct slice *ret_membership);

/* A file that came from elsewhere, somewhere on the same file system: verified, synced, and then moved to its name in
 * dir. From then on it is what a start recovers from. */
int checkpoint_adopt(const char *dir, const char *path, struct checkpoint_info *ret_info);

/* Makes env.<epoch> from the file at path: verified as it is copied, with a new environment id, synced. Not named in
 * CURRENT: see store_open_next(). cluster_id: -EXDEV if the file is another's; 0: any. On an error it is gone again. */
int checkpoint_make(const char *dir, const char *path, uint64_t cluster_id, uint64_t epoch);

/* A new member's key space from a backup: makes env.1 in dir, which has no store yet (-EEXIST), as the first state of another
 * cluster: its id, its membership as of the backup's last entry; what the old members published is left out. And a
 * checkpoint of that, so that it survives the machine before it has one of its own. Every member of the new cluster makes
 * the same of the same file, and their logs begin behind that entry. */
int checkpoint_restore(const char *dir, const char *path, uint64_t cluster_id, struct slice membership,
                       struct checkpoint_info *ret_info);

/* Makes env.<epoch + 1> from the file at path, verified, synced, and names it in CURRENT. The environment that was current
 * is not touched: close it, then store_open() opens the new one and removes the old. */
int checkpoint_install(const char *dir, const char *path, uint64_t cluster_id, uint64_t *ret_epoch);

#endif
