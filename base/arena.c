#include "base/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#define ARENA_BLOCK_BYTES 4096

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t cap;
    alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

void arena_fini(struct arena *a)
{
    struct arena_block *b = a->blocks;

    while (b != NULL) {
        struct arena_block *next = b->next;

        free(b);
        b = next;
    }
    *a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->blocks;

    if (keep == NULL || keep->cap > ARENA_BLOCK_BYTES) {
        arena_fini(a);
        return;
    }
    a->blocks = keep->next;
    arena_fini(a);
    keep->next = NULL;
    keep->used = 0;
    a->blocks = keep;
    a->total_bytes = keep->cap;
}

void *arena_alloc(struct arena *a, size_t size)
{
    struct arena_block *b = a->blocks;
    void *p;

    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (b == NULL || size > b->cap - b->used) {
        size_t cap = size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES;

        b = malloc(sizeof(*b) + cap);
        if (b == NULL)
            return NULL;
        b->used = 0;
        b->cap = cap;
        b->next = a->blocks;
        a->blocks = b;
        a->total_bytes += cap;
    }
    p = b->data + b->used;
    b->used += size;
    return memset(p, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / 2 / size)
        return NULL;
    return arena_alloc(a, count * size);
}

int arena_copy(struct arena *a, struct slice s, struct slice *ret_copy)
{
    void *p;

    if (s.len == 0) {
        *ret_copy = slice_make(NULL, 0);
        return 0;
    }
    p = arena_alloc(a, s.len);
    if (p == NULL)
        return -ENOMEM;
    *ret_copy = slice_make(memcpy(p, s.data, s.len), s.len);
    return 0;
}
