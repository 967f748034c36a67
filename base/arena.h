/* arena.h - memory that is freed all at once: the decoded form of one request, one result.
 *
 * Process: any.
 * Thread:  one owner.
 * Errors:  NULL when memory is exhausted.
 * Memory:  everything from an arena lives until arena_reset() or arena_fini().
 * Units:   bytes; results are aligned for any type. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t total_bytes; /* of all blocks, for limits */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);
void arena_reset(struct arena *a); /* may keep one block for reuse */
void *arena_alloc(struct arena *a, size_t size);              /* zeroed */
void *arena_array(struct arena *a, size_t count, size_t size); /* zeroed; checks the product */
/* A copy of s; its data is NULL only for an empty s or without memory (len tells which). */
int arena_copy(struct arena *a, struct slice s, struct slice *ret_copy);

#endif
