/* range.h - inside store/: keys of an interval as they were at a revision.
 *
 * Process: any.  Thread: that of the snapshot.
 * Errors:  negative errno.
 * Memory:  what a callback gets lives until it returns.
 * Units:   revisions, bytes. */
#ifndef STORE_RANGE_H
#define STORE_RANGE_H

#include "store/env.h"
#include "store/row.h"

/* etcd's interval: empty end: one key; "\0": from key on; else [key, end). */
struct interval {
    struct slice key, end;
};

static inline bool interval_is_open(const struct interval *i)
{
    return i->end.len == 1 && i->end.data[0] == 0;
}

bool interval_has(const struct interval *i, struct slice key);

enum scan_answer { SCAN_GO_ON = 0, SCAN_STOP = 1, SCAN_ONLY_COUNT = 2 };
/* node.chain.n_skip is not set for old revisions. Returns enum scan_answer or negative errno. */
typedef int (*scan_fn)(void *ctx, struct slice key, const struct node *node);

#define SCAN_NEWEST INT64_MAX /* as the tables stand, earlier operations of the same command included */

/* Calls fn (may be NULL: only count) in key order. The caller has checked that revision is readable. */
int range_scan(struct snap *p, const struct interval *i, int64_t revision, scan_fn fn, void *ctx,
               int64_t *ret_count);

/* One live key. -ENOENT. While writing its inline value is valid until the next write only. */
int range_get(struct snap *p, struct slice key, struct node *ret_node);

int range_value(struct snap *p, const struct node *n, struct arena *arena, struct slice *ret_value);
int range_kv(struct snap *p, struct slice key, const struct node *n, bool with_value, struct arena *arena,
             struct kv *ret_kv);

/* store_range() in a snapshot whose newest revision is current; see there. */
int range_run(struct snap *p, const struct op_range *op, int64_t current, struct arena *arena, size_t max_bytes,
              struct range_result *ret_result, uint16_t *ret_status);
/* OK, COMPACTED or FUTURE_REVISION. */
uint16_t range_check_revision(const struct snap *p, int64_t revision, int64_t current);

#endif
