/* usage.h - inside store/: how much there is, as the quota counts it.
 *
 * Process: the node counts, any process reads.
 * Thread:  that of the snapshot.
 * Errors:  negative errno.
 * Memory:  none.
 * Units:   bytes, revisions. */
#ifndef STORE_USAGE_H
#define STORE_USAGE_H

#include "store/env.h"
#include "store/row.h"

/* What a row takes beside its key and value: rounded, and the same for good, since all nodes must agree. */
#define USAGE_KEY_BYTES 64
#define USAGE_DIR_BYTES 64
#define USAGE_LOG_BYTES 64
#define USAGE_LEASE_BYTES 64
#define USAGE_LEASE_KEY_BYTES 64
#define USAGE_XATTR_BYTES 64
#define USAGE_LOCK_BYTES 128

#define USAGE_SAMPLE_BYTES (1024 * 1024) /* of log between two places that compaction may be counted up to */

static inline uint64_t usage_bytes(const struct usage *u)
{
    return u->row_bytes + u->base_live_bytes + (u->log_bytes - u->base_log_bytes);
}

/* A live key or directory came (sign 1) or went (-1); a change is both. */
void usage_key(struct usage *u, int sign, size_t key_bytes, const struct node *node);
void usage_dir(struct usage *u, int sign, size_t path_bytes);
/* Rows of other tables, with what they hold. */
void usage_rows(struct usage *u, int64_t bytes);
/* A row was added to the log. own_value_bytes: 0 if it refers to another row's. */
void usage_log(struct usage *u, size_t key_bytes, size_t own_value_bytes);

/* After a command that took a revision: a sample, if enough has been written since the last. */
int usage_sample(struct snap *p);
/* A compaction of this revision was applied: it counts as removed from now on. */
int usage_compact(struct snap *p, int64_t revision);
/* History counts from here on only. */
int usage_forget_history(struct snap *p);
/* Counts keys and directories anew, for an environment of a version that did not. */
int usage_count(struct snap *p);

#endif
