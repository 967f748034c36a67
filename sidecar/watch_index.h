/* watch_index.h - which keys and ranges are watched, and by whom: a hash for single keys, an interval tree for ranges.
 *
 * Process: quorumfs-grpc.
 * Thread:  one owner.
 * Errors:  -ENOMEM.
 * Memory:  the index owns its groups; a group is one distinct key or range, shared by all who watch exactly that, and
 *          goes with the last reference. A group's bytes do not move.
 * Units:   none.
 *
 * A group has one list for each role that its watchers can be in; the index itself does not know them, so a
 * watcher that falls behind or catches up changes lists and never the tree. The tree is a treap over (start, end) whose
 * nodes carry the greatest end below them: a key's stabbing query visits the ranges that hold it and O(log n) others. */
#ifndef SIDECAR_WATCH_INDEX_H
#define SIDECAR_WATCH_INDEX_H

#include "base/list.h"
#include "base/slice.h"

enum watch_role { WATCH_LIVE, WATCH_SWEEP, WATCH_ROLES };

struct watch_group {
    struct list members[WATCH_ROLES]; /* the owner's items */
    uint32_t refs;
    uint32_t n_prev_kv; /* kept by the owner: members that want prev_kv */
    struct slice key, end;
    bool is_range, to_infinity; /* end is empty when to_infinity */
    uint32_t priority;
    uint64_t hash;
    struct watch_group *left, *right;    /* of the tree */
    struct watch_group *chain;           /* of the hash */
    const struct watch_group *max_end;   /* the one with the greatest end in this subtree */
    uint8_t bytes[];
};

struct watch_index {
    struct watch_group **buckets;
    size_t n_buckets, n_groups; /* in the hash: single keys and ranges */
    size_t n_ranges;
    struct watch_group *root;
    uint64_t seed;
};

void watch_index_init(struct watch_index *x, uint64_t seed);
void watch_index_fini(struct watch_index *x); /* all groups must have gone */

/* end as etcd's Watch has it: empty for one key, "\0" for everything from key on. */
int watch_index_ref(struct watch_index *x, struct slice key, struct slice end, struct watch_group **ret_group);
void watch_index_unref(struct watch_index *x, struct watch_group *g);

/* Calls fn for each group that holds key; the index must not change meanwhile. */
typedef void (*watch_match_fn)(void *ctx, struct watch_group *g);
void watch_index_match(const struct watch_index *x, struct slice key, watch_match_fn fn, void *ctx);

#endif
