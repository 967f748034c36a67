/* log.h - the raft log on disk: segments of records with CRC, and the hard state (term, vote).
 *
 * Process: node.
 * Thread:  two sides. The loop owns struct log: append, truncate, get. One log thread at a time runs
 *          log_flush(), which touches only what append and truncate handed over under the log's mutex.
 * Errors:  negative errno. -EUCLEAN at open: damage that may not be dropped; ret_text says where and
 *          what the operator can do. -EIO, -ENOSPC from flush: nothing of that flush counts as durable.
 * Memory:  append copies. get copies into the arena, wherever the entry was.
 * Units:   indexes count from 1. */
#ifndef RAFT_LOG_H
#define RAFT_LOG_H

#include "base/arena.h"
#include "base/slice.h"
#include "raft/disk.h"

/* On disk: never renumber. */
enum log_entry_type { LOG_ENTRY_COMMANDS = 1, LOG_ENTRY_BARRIER = 2, LOG_ENTRY_MEMBERSHIP = 3 };

struct log_entry {
    uint64_t index, term;
    enum log_entry_type type;
    struct slice payload;
};

struct log_hard_state {
    uint64_t term, voted_for;
};

#define LOG_PAYLOAD_MAX_BYTES (64u << 20)   /* of one entry: -E2BIG */
#define LOG_CACHE_BYTES (16ull << 20)       /* of payloads, kept in memory by default; older ones are read back */

struct log_options {
    uint64_t segment_bytes; /* 0: 16 MiB; a flush that is larger makes a larger segment */
    uint64_t cache_bytes;   /* payload kept in memory, or what is not flushed if that is more; 0: LOG_CACHE_BYTES */
    uint64_t waiting_bytes; /* appended and not flushed, past it -ENOBUFS; 0: 256 MiB, which is the most */
    uint64_t cluster_id;    /* in every segment head; -EXDEV if another's */
};

struct log;

/* Recovers what is there. A torn tail past the last durable mark is cut; other damage is -EUCLEAN. */
int log_open(struct disk *disk, const char *dir, const struct log_options *options, struct log **ret_log,
             char *ret_text, size_t text_size);
void log_close(struct log *l); /* flushes nothing: what was not flushed was not acknowledged */

uint64_t log_first_index(const struct log *l); /* 1 until the log is trimmed */
uint64_t log_last_index(const struct log *l);  /* appended; 0: empty */
uint64_t log_synced_index(const struct log *l); /* durable; never above last */
/* Also of the entry before the first, if it is known; 0: not here. */
uint64_t log_term_at(const struct log *l, uint64_t index);

/* Hard state is durable when set returns (one write and fdatasync, called from the loop: rare).
 * -ENOSPC: it is as it was and set may be tried again. -EIO: the log is unusable, see log_flush(). */
struct log_hard_state log_hard_state(const struct log *l);
int log_set_hard_state(struct log *l, struct log_hard_state hs);

/* Adds entries behind the last one. In memory at once; durable after a flush. All or, on an error, none.
 * -EINVAL: indexes do not follow on or a term goes back. -E2BIG, -ENOBUFS: past a limit. -EIO: see log_flush(). */
int log_append(struct log *l, const struct log_entry *entries, size_t n);
/* Drops index and all behind it, now in memory and on disk by a record of the next flush.
 * -EINVAL: it would reach below the first index. */
int log_truncate(struct log *l, uint64_t index);
/* Drops everything, in the same way: the next entry is index + 1, behind one of that term (which a checkpoint holds).
 * The log's first index is then index + 1. */
int log_reset(struct log *l, uint64_t index, uint64_t term);
/* Of the records of all entries behind index that are here. */
uint64_t log_bytes_behind(const struct log *l, uint64_t index);
/* -ENOENT: not here. -EUCLEAN: what was written is no longer on disk as it was; fatal. */
int log_get(struct log *l, uint64_t index, struct arena *arena, struct log_entry *ret_entry);

/* True if something waits for a flush. */
bool log_pending(const struct log *l);
/* Runs in the log thread (or inline): one write and one fdatasync for everything that waits. On success
 * *ret_synced is the last index that is durable now, as far as no truncate came meanwhile: the loop passes it to
 * log_flushed(), which says what it may believe.
 * -ENOSPC, -ENOMEM: nothing of it is durable, all of it waits again: call again when there may be room.
 * -EIO: a write or a sync has failed, and what is on disk is unknown until a new start reads it: from now on
 * every flush, append and set_hard_state fails with -EIO. */
int log_flush(struct log *l, uint64_t *ret_synced);
/* Loop side, after a flush: the index up to which the log is durable and not truncated meanwhile. */
uint64_t log_flushed(struct log *l, uint64_t synced);

/* Entries up to index may be forgotten (a checkpoint holds them). Whole segments are recycled, later, by the
 * log thread; until then, and after a crash, the log may begin earlier. */
int log_trim(struct log *l, uint64_t index);

/* Housekeeping for when the log thread is idle: zeroes space ahead and gives up trimmed segments, so that a flush
 * need not. Optional: a flush does it when it has to. Both run where log_flush() runs, never beside it.
 * -ENOSPC and others but -EIO are harmless. */
bool log_wants_tending(struct log *l);
int log_tend(struct log *l);

#endif
