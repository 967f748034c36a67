/* children.h - inside store/: one level of a directory, put together from paths in any order.
 *
 * Process: any.  Thread: that of the snapshot.
 * Errors:  negative errno; -E2BIG past OLD_CHILDREN_MAX.
 * Memory:  owns copies of the components.
 * Units:   bytes. */
#ifndef STORE_CHILDREN_H
#define STORE_CHILDREN_H

#include "base/bytes.h"
#include "store/store.h"

struct child_place {
    size_t offset, len; /* in names */
    bool is_key, is_dir;
};

struct children {
    struct bytes prefix; /* of all paths in the directory */
    struct bytes end;    /* behind them; "\0": open */
    struct bytes at;     /* where a scan goes on */
    struct bytes names;
    struct child_place *places;
    size_t n_places, cap;
    bool bare_root;
};

int children_init(struct children *c, struct slice dir, bool bare);
void children_fini(struct children *c);
/* A path with the prefix: its component, as a key or as a directory. 1: it is in a longer path, the component is a directory.
 * An empty one that stands for nothing is left out. */
int children_add(struct children *c, struct slice path, bool is_key);
/* Sets `at` behind everything below the component that was added last. */
void children_skip(struct children *c);
/* Each component once, in byte order. */
int children_tell(struct children *c, store_child_fn emit, void *ctx);

#endif
