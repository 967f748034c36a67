/* view.h - inside store/: the key space seen as files.
 *
 * Process: any.  Thread: that of the snapshot.
 * Errors:  negative errno; -ENOENT where it says so.
 * Memory:  nodes borrow from the map: while writing, until the next write.
 * Units:   bytes.
 *
 * A path is a key's bytes. It is a directory if `dirs` has it or if any key or directory begins with it and a
 * slash (then it is implicit unless `dirs` has it). "" and "/" are the root; its attributes, once set, stand
 * in `dirs` as "/". */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include "store/env.h"
#include "store/row.h"

#define INO_ROOT 1
#define INO_DERIVED_BIT (1ull << 63)  /* from a create revision */
#define INO_IMPLICIT_BIT (1ull << 62) /* from a path */

/* What has a name. */
struct target {
    struct slice path;
    bool has_key, has_dir; /* rows in keys and in dirs */
    bool is_dir;           /* has_dir, or something is below, or the root */
    struct node key, dir;
    uint64_t key_ino, dir_ino; /* 0: no such node */
};

/* What a node says of itself to the outside. */
void view_stat_node(const struct node *n, enum node_type type, uint64_t ino, struct node_stat *ret_stat);
bool view_is_root(struct slice path);
/* path as the tables have it. */
struct slice view_normal(struct slice path);
/* False: path is in the root, or in the root of bare keys; both always exist. */
bool view_parent(struct slice path, struct slice *ret_parent);

uint64_t view_ino(const struct node *n);
uint64_t view_implicit_ino(struct slice path);
uint64_t view_derived_ino(struct rev create);

int view_dir_row(struct snap *p, struct slice path, struct node *ret_node); /* -ENOENT */
int view_has_below(struct snap *p, struct slice path);                      /* 1, 0 */
int view_load(struct snap *p, struct slice path, struct target *ret_target);
int view_is_dir(struct snap *p, struct slice path);                         /* 1, 0 */

#endif
