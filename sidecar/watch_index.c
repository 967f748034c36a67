#include "sidecar/watch_index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define MIN_BUCKETS 64

void watch_index_init(struct watch_index *x, uint64_t seed)
{
    *x = (struct watch_index){.seed = seed};
}

void watch_index_fini(struct watch_index *x)
{
    assert(x->n_groups == 0 && x->root == NULL);
    free(x->buckets);
    *x = (struct watch_index){0};
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h;
}

/* Seeded, so that nobody outside can choose keys that meet in one chain. */
static uint64_t hash_bytes(uint64_t seed, struct slice s)
{
    uint64_t h = seed ^ s.len * 0x9e3779b97f4a7c15u;
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        uint64_t word;

        memcpy(&word, s.data + i, 8);
        h = mix(h ^ word) + seed;
    }
    if (i < s.len) {
        uint64_t word = 0;

        memcpy(&word, s.data + i, s.len - i);
        h = mix(h ^ word) + seed;
    }
    return mix(h);
}

static uint64_t hash_range(uint64_t seed, struct slice key, struct slice end)
{
    uint64_t h = hash_bytes(seed, key);

    return end.len == 0 ? h : mix(h ^ hash_bytes(seed + 1, end));
}

/* ---- the tree ---- */

static int compare_ends(const struct watch_group *a, const struct watch_group *b)
{
    if (a->to_infinity || b->to_infinity)
        return (int)a->to_infinity - (int)b->to_infinity;
    return slice_cmp(a->end, b->end);
}

static int compare_ranges(const struct watch_group *a, const struct watch_group *b)
{
    int c = slice_cmp(a->key, b->key);

    return c != 0 ? c : compare_ends(a, b);
}

static void update(struct watch_group *g)
{
    g->max_end = g;
    if (g->left != NULL && compare_ends(g->left->max_end, g->max_end) > 0)
        g->max_end = g->left->max_end;
    if (g->right != NULL && compare_ends(g->right->max_end, g->max_end) > 0)
        g->max_end = g->right->max_end;
}

/* Everything below at (exclusive) goes to ret_low, the rest to ret_high. */
static void split(struct watch_group *t, const struct watch_group *at, struct watch_group **ret_low,
                  struct watch_group **ret_high)
{
    if (t == NULL) {
        *ret_low = *ret_high = NULL;
    } else if (compare_ranges(t, at) < 0) {
        split(t->right, at, &t->right, ret_high);
        *ret_low = t;
        update(t);
    } else {
        split(t->left, at, ret_low, &t->left);
        *ret_high = t;
        update(t);
    }
}

static struct watch_group *merge(struct watch_group *low, struct watch_group *high)
{
    if (low == NULL || high == NULL)
        return low != NULL ? low : high;
    if (low->priority >= high->priority) {
        low->right = merge(low->right, high);
        update(low);
        return low;
    }
    high->left = merge(low, high->left);
    update(high);
    return high;
}

static struct watch_group *tree_insert(struct watch_group *t, struct watch_group *g)
{
    if (t == NULL || g->priority > t->priority) {
        split(t, g, &g->left, &g->right);
        update(g);
        return g;
    }
    if (compare_ranges(g, t) < 0)
        t->left = tree_insert(t->left, g);
    else
        t->right = tree_insert(t->right, g);
    update(t);
    return t;
}

static struct watch_group *tree_remove(struct watch_group *t, struct watch_group *g)
{
    if (t == g)
        return merge(g->left, g->right);
    if (compare_ranges(g, t) < 0)
        t->left = tree_remove(t->left, g);
    else
        t->right = tree_remove(t->right, g);
    update(t);
    return t;
}

static bool ends_after(const struct watch_group *g, struct slice key)
{
    return g->to_infinity || slice_cmp(key, g->end) < 0;
}

static void stab(struct watch_group *t, struct slice key, watch_match_fn fn, void *ctx)
{
    while (t != NULL && ends_after(t->max_end, key)) {
        stab(t->left, key, fn, ctx);
        if (slice_cmp(t->key, key) > 0)
            return; /* and so does everything to the right */
        if (ends_after(t, key))
            fn(ctx, t);
        t = t->right;
    }
}

/* ---- the hash ---- */

static int grow(struct watch_index *x)
{
    size_t n = x->n_buckets != 0 ? x->n_buckets * 2 : MIN_BUCKETS;
    struct watch_group **buckets = calloc(n, sizeof *buckets);

    if (buckets == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < x->n_buckets; i++) {
        struct watch_group *g = x->buckets[i];

        while (g != NULL) {
            struct watch_group *next = g->chain;

            g->chain = buckets[g->hash & (n - 1)];
            buckets[g->hash & (n - 1)] = g;
            g = next;
        }
    }
    free(x->buckets);
    x->buckets = buckets;
    x->n_buckets = n;
    return 0;
}

static struct watch_group *find(const struct watch_index *x, uint64_t hash, struct slice key, struct slice end,
                                bool is_range, bool to_infinity)
{
    struct watch_group *g = x->n_buckets != 0 ? x->buckets[hash & (x->n_buckets - 1)] : NULL;

    while (g != NULL && !(g->hash == hash && g->is_range == is_range && g->to_infinity == to_infinity &&
                          slice_equal(g->key, key) && slice_equal(g->end, end)))
        g = g->chain;
    return g;
}

int watch_index_ref(struct watch_index *x, struct slice key, struct slice end, struct watch_group **ret_group)
{
    bool is_range = end.len != 0;
    bool to_infinity = end.len == 1 && end.data[0] == 0;
    uint64_t hash = hash_range(x->seed, key, end);
    struct watch_group *g;

    if (to_infinity)
        end = slice_make(NULL, 0);
    g = find(x, hash, key, end, is_range, to_infinity);
    if (g != NULL) {
        g->refs++;
        *ret_group = g;
        return 0;
    }
    if (x->n_groups >= x->n_buckets && grow(x) < 0)
        return -ENOMEM;
    g = malloc(sizeof *g + key.len + end.len);
    if (g == NULL)
        return -ENOMEM;
    *g = (struct watch_group){.refs = 1,
                              .is_range = is_range,
                              .to_infinity = to_infinity,
                              .hash = hash,
                              .priority = (uint32_t)(mix(hash ^ 0x5bd1e995u) >> 16)};
    for (int role = 0; role < WATCH_ROLES; role++)
        list_init(&g->members[role]);
    if (key.len > 0)
        memcpy(g->bytes, key.data, key.len);
    if (end.len > 0)
        memcpy(g->bytes + key.len, end.data, end.len);
    g->key = slice_make(g->bytes, key.len);
    g->end = slice_make(g->bytes + key.len, end.len);
    g->max_end = g;
    g->chain = x->buckets[hash & (x->n_buckets - 1)];
    x->buckets[hash & (x->n_buckets - 1)] = g;
    x->n_groups++;
    if (is_range) {
        x->n_ranges++;
        x->root = tree_insert(x->root, g);
    }
    *ret_group = g;
    return 0;
}

void watch_index_unref(struct watch_index *x, struct watch_group *g)
{
    struct watch_group **at;

    if (--g->refs > 0)
        return;
    at = &x->buckets[g->hash & (x->n_buckets - 1)];
    while (*at != g)
        at = &(*at)->chain;
    *at = g->chain;
    x->n_groups--;
    if (g->is_range) {
        x->n_ranges--;
        x->root = tree_remove(x->root, g);
    }
    free(g);
    if (x->n_groups == 0) { /* 100,000 watches may have grown it */
        free(x->buckets);
        x->buckets = NULL;
        x->n_buckets = 0;
    }
}

void watch_index_match(const struct watch_index *x, struct slice key, watch_match_fn fn, void *ctx)
{
    struct watch_group *g;

    if (x->n_groups > x->n_ranges) {
        g = find(x, hash_range(x->seed, key, slice_make(NULL, 0)), key, slice_make(NULL, 0), false, false);
        if (g != NULL)
            fn(ctx, g);
    }
    stab(x->root, key, fn, ctx);
}
