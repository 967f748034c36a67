#include "sidecar/range_sort.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRY_OVERHEAD_BYTES 32 /* its place in the heap, and the allocator's */

struct entry {
    int64_t number; /* what is compared, if that is one */
    uint64_t size;
    uint32_t key_len, value_len; /* value: what is compared, if that is it */
    uint8_t bytes[];             /* key, value */
};

struct range_sort {
    enum sort_order order;
    enum sort_target target;
    size_t max_bytes, held_bytes;
    int64_t want;
    struct entry **heap; /* the largest on top; sorted after the round */
    size_t n, cap;
    struct entry *last; /* of the round before; NULL: none */
    bool left_out;      /* something larger than the top was not kept */
};

struct range_sort *range_sort_new(const struct op_range *op, size_t max_bytes)
{
    struct range_sort *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->order = op->sort_order;
    s->target = op->sort_target;
    s->max_bytes = max_bytes;
    return s;
}

static void forget(struct range_sort *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->heap[i]);
    s->n = s->held_bytes = 0;
}

void range_sort_rewind(struct range_sort *s)
{
    forget(s);
    free(s->last);
    s->last = NULL;
    s->left_out = false;
}

void range_sort_free(struct range_sort *s)
{
    if (s == NULL)
        return;
    range_sort_rewind(s);
    free(s->heap);
    free(s);
}

/* ---- the order: as the store's, store/range.c ---- */

static struct slice key_of(const struct entry *e)
{
    return slice_make(e->bytes, e->key_len);
}

static struct slice value_of(const struct entry *e)
{
    return slice_make(e->bytes + e->key_len, e->value_len);
}

static int64_t number_of(const struct range_sort *s, const struct kv *kv)
{
    switch (s->target) {
    case SORT_BY_VERSION:
        return kv->version;
    case SORT_BY_CREATE:
        return kv->create_revision;
    case SORT_BY_MOD:
        return kv->mod_revision;
    default:
        return 0;
    }
}

static int compare(const struct range_sort *s, int64_t number, struct slice key, struct slice value, const struct entry *b)
{
    int c = s->target == SORT_BY_KEY     ? slice_cmp(key, key_of(b))
            : s->target == SORT_BY_VALUE ? slice_cmp(value, value_of(b))
                                         : (number > b->number) - (number < b->number);

    if (s->order == SORT_DESCEND)
        c = -c;
    return c != 0 ? c : slice_cmp(key, key_of(b)); /* equals in key order */
}

static int compare_entries(const struct range_sort *s, const struct entry *a, const struct entry *b)
{
    return compare(s, a->number, key_of(a), value_of(a), b);
}

/* ---- the heap ---- */

static size_t cost(const struct entry *e)
{
    return sizeof *e + ENTRY_OVERHEAD_BYTES + e->key_len + e->value_len;
}

static void swap(struct range_sort *s, size_t a, size_t b)
{
    struct entry *e = s->heap[a];

    s->heap[a] = s->heap[b];
    s->heap[b] = e;
}

static void sift_up(struct range_sort *s, size_t i)
{
    for (; i > 0 && compare_entries(s, s->heap[i], s->heap[(i - 1) / 2]) > 0; i = (i - 1) / 2)
        swap(s, i, (i - 1) / 2);
}

static void sift_down(struct range_sort *s, size_t n)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_entries(s, s->heap[child + 1], s->heap[child]) > 0)
            child++;
        if (compare_entries(s, s->heap[child], s->heap[i]) <= 0)
            break;
        swap(s, i, child);
    }
}

static void drop_top(struct range_sort *s)
{
    s->held_bytes -= cost(s->heap[0]);
    free(s->heap[0]);
    s->heap[0] = s->heap[--s->n];
    sift_down(s, s->n);
    s->left_out = true;
}

static struct entry *entry_new(const struct range_sort *s, const struct kv *kv, uint64_t size)
{
    size_t value_len = s->target == SORT_BY_VALUE ? kv->value.len : 0;
    struct entry *e = malloc(sizeof *e + kv->key.len + value_len);

    if (e == NULL)
        return NULL;
    *e = (struct entry){number_of(s, kv), size, (uint32_t)kv->key.len, (uint32_t)value_len};
    memcpy(e->bytes, kv->key.data, kv->key.len);
    if (value_len > 0)
        memcpy(e->bytes + kv->key.len, kv->value.data, value_len);
    return e;
}

static int keep(struct range_sort *s, struct entry *e)
{
    if (s->n == s->cap) {
        size_t cap = s->cap != 0 ? s->cap * 2 : 64;
        struct entry **heap = realloc(s->heap, cap * sizeof(struct entry *));

        if (heap == NULL)
            return -ENOMEM;
        s->heap = heap;
        s->cap = cap;
    }
    s->heap[s->n] = e;
    s->held_bytes += cost(e);
    sift_up(s, s->n++);
    while (s->n > 1 && (s->held_bytes > s->max_bytes || (uint64_t)s->n > (uint64_t)s->want))
        drop_top(s);
    return 0;
}

/* ---- a round ---- */

void range_sort_begin(struct range_sort *s, int64_t want)
{
    if (s->n > 0) {
        free(s->last);
        s->last = s->heap[--s->n];
    }
    forget(s);
    s->want = want > 0 ? want : 1;
    s->left_out = false;
}

int range_sort_offer(struct range_sort *s, const struct kv *kv, uint64_t size)
{
    int64_t number = number_of(s, kv);
    struct entry *e;
    int rc;

    if (s->last != NULL && compare(s, number, kv->key, kv->value, s->last) <= 0)
        return 0; /* sent already */
    /* Once something was left out, what is larger than the top may be larger than that too: for the next round. */
    if (s->left_out && compare(s, number, kv->key, kv->value, s->heap[0]) > 0)
        return 0;
    e = entry_new(s, kv, size);
    rc = e != NULL ? keep(s, e) : -ENOMEM;
    if (rc < 0)
        free(e);
    return rc;
}

void range_sort_end(struct range_sort *s)
{
    for (size_t n = s->n; n > 1;) { /* the largest to the end, again and again */
        swap(s, 0, --n);
        sift_down(s, n);
    }
}

size_t range_sort_count(const struct range_sort *s)
{
    return s->n;
}

struct slice range_sort_key(const struct range_sort *s, size_t i)
{
    return key_of(s->heap[i]);
}

uint64_t range_sort_size(const struct range_sort *s, size_t i)
{
    return s->heap[i]->size;
}

bool range_sort_goes_on(const struct range_sort *s)
{
    return s->left_out;
}
