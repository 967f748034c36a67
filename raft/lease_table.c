#include "raft/lease_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64

void lease_table_init(struct lease_table *t)
{
    memset(t, 0, sizeof *t);
}

void lease_table_fini(struct lease_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->heap[i]);
    free(t->heap);
    free(t->buckets);
    lease_table_init(t);
}

/* Clients choose numbers, so they are mixed: else one could fill a single bucket. */
static size_t bucket_of(const struct lease_table *t, int64_t id)
{
    uint64_t z = (uint64_t)id * 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 32) * 0xD6E8FEB86659FD93u;
    return (size_t)(z ^ z >> 32) & (t->n_buckets - 1);
}

struct lease *lease_table_find(const struct lease_table *t, int64_t id)
{
    struct lease *l = t->n_buckets != 0 ? t->buckets[bucket_of(t, id)] : NULL;

    while (l != NULL && l->id != id)
        l = l->next;
    return l;
}

/* ---- heap ---- */

static void heap_put(struct lease_table *t, size_t at, struct lease *l)
{
    t->heap[at] = l;
    l->heap_at = at;
}

static void heap_settle(struct lease_table *t, struct lease *l)
{
    size_t at = l->heap_at;

    while (at > 0 && t->heap[(at - 1) / 2]->deadline_ms > l->deadline_ms) {
        heap_put(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < t->count && t->heap[child + 1]->deadline_ms < t->heap[child]->deadline_ms)
            child++;
        if (child >= t->count || t->heap[child]->deadline_ms >= l->deadline_ms)
            break;
        heap_put(t, at, t->heap[child]);
        at = child;
    }
    heap_put(t, at, l);
}

void lease_table_set_deadline(struct lease_table *t, struct lease *l, uint64_t deadline_ms)
{
    l->deadline_ms = deadline_ms;
    heap_settle(t, l);
}

void lease_table_stop_all(struct lease_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        t->heap[i]->deadline_ms = LEASE_NEVER;
}

void lease_table_order(struct lease_table *t)
{
    for (size_t i = t->count; i-- > 0;)
        heap_settle(t, t->heap[i]);
}

struct lease *lease_table_first(const struct lease_table *t)
{
    return t->count > 0 && t->heap[0]->deadline_ms != LEASE_NEVER ? t->heap[0] : NULL;
}

/* ---- in and out ---- */

static int grow_buckets(struct lease_table *t)
{
    size_t n = t->n_buckets == 0 ? BUCKETS_MIN : t->n_buckets * 2;
    struct lease **buckets = calloc(n, sizeof *buckets);

    if (buckets == NULL)
        return -ENOMEM;
    free(t->buckets);
    t->buckets = buckets;
    t->n_buckets = n;
    for (size_t i = 0; i < t->count; i++) {
        struct lease **b = &t->buckets[bucket_of(t, t->heap[i]->id)];

        t->heap[i]->next = *b;
        *b = t->heap[i];
    }
    return 0;
}

static int make_room(struct lease_table *t)
{
    size_t cap = t->heap_cap == 0 ? BUCKETS_MIN : t->heap_cap * 2;
    struct lease **heap;

    if (t->count == t->n_buckets && grow_buckets(t) < 0)
        return -ENOMEM;
    if (t->count < t->heap_cap)
        return 0;
    heap = realloc(t->heap, cap * sizeof *heap);
    if (heap == NULL)
        return -ENOMEM;
    t->heap = heap;
    t->heap_cap = cap;
    return 0;
}

int lease_table_add(struct lease_table *t, int64_t id, int64_t ttl_s, int64_t noted_s, struct lease **ret_lease)
{
    struct lease *l = lease_table_find(t, id), **b;

    if (l == NULL) {
        l = make_room(t) == 0 ? calloc(1, sizeof *l) : NULL;
        if (l == NULL)
            return -ENOMEM;
        l->id = id;
        b = &t->buckets[bucket_of(t, id)];
        l->next = *b;
        *b = l;
        l->deadline_ms = LEASE_NEVER;
        heap_put(t, t->count++, l);
    }
    l->ttl_s = ttl_s;
    l->noted_s = noted_s;
    l->fresh_ms = l->note_index = 0;
    l->expiring = l->clear = false;
    lease_table_set_deadline(t, l, LEASE_NEVER);
    *ret_lease = l;
    return 0;
}

void lease_table_remove(struct lease_table *t, struct lease *l)
{
    struct lease **b = &t->buckets[bucket_of(t, l->id)], *last = t->heap[--t->count];

    while (*b != l)
        b = &(*b)->next;
    *b = l->next;
    if (last != l) {
        heap_put(t, l->heap_at, last);
        heap_settle(t, last);
    }
    free(l);
}
