/* core_heap.c - the memory of libraft: the C library's, except for what only looks like it (guard 18). */
#include "raft/core_library.h"

#include <stdlib.h>

static const uint8_t no_batch;

void *core_no_batch(void)
{
    return (void *)(uintptr_t)&no_batch;
}

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    return malloc(size);
}

static void heap_free(void *data, void *p)
{
    (void)data;
    if (p != core_no_batch())
        free(p);
}

static void *heap_calloc(void *data, size_t n, size_t size)
{
    (void)data;
    return calloc(n, size);
}

static void *heap_realloc(void *data, void *p, size_t size)
{
    (void)data;
    return realloc(p, size);
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return aligned_alloc(alignment, size);
}

static void heap_aligned_free(void *data, size_t alignment, void *p)
{
    (void)data;
    (void)alignment;
    free(p);
}

void core_heap_init(void)
{
    static const struct raft_heap heap = {
        .malloc = heap_malloc,
        .free = heap_free,
        .calloc = heap_calloc,
        .realloc = heap_realloc,
        .aligned_alloc = heap_aligned_alloc,
        .aligned_free = heap_aligned_free,
    };

    raft_heap_set((struct raft_heap *)(uintptr_t)&heap); /* never written */
}
