#include "store/range.h"

#include <errno.h>
#include <stdlib.h>

#include "store/eventlog.h"

bool interval_has(const struct interval *i, struct slice key)
{
    if (i->end.len == 0)
        return slice_equal(key, i->key);
    return slice_cmp(key, i->key) >= 0 && (interval_is_open(i) || slice_cmp(key, i->end) < 0);
}

int range_get(struct snap *p, struct slice key, struct node *ret_node)
{
    struct tree keys = snap_keys(p);
    struct slice row;
    int rc = tree_get(&keys, key, &row);

    return rc == 0 ? node_row_decode(row, ret_node) : rc;
}

int range_value(struct snap *p, const struct node *n, struct arena *arena, struct slice *ret_value)
{
    if (n->is_inline)
        return snap_keep(p, n->value, arena, ret_value);
    return eventlog_value_at(p, n->value_rev, n->value_len, arena, ret_value);
}

int range_kv(struct snap *p, struct slice key, const struct node *n, bool with_value, struct arena *arena,
             struct kv *ret_kv)
{
    struct kv kv = {
        .create_revision = n->create.main,
        .mod_revision = n->chain.last.main,
        .version = n->version,
        .lease = n->lease,
    };
    int rc = arena_copy(arena, key, &kv.key);

    if (rc == 0 && with_value)
        rc = range_value(p, n, arena, &kv.value);
    if (rc == 0)
        *ret_kv = kv;
    return rc;
}

/* ---- scanning ---- */

struct scan {
    struct snap *snap;
    const struct interval *interval;
    int64_t revision;
    scan_fn fn;
    void *ctx;
    int64_t count;
    bool stopped;
};

static int scan_hit(struct scan *s, struct slice key, const struct node *node)
{
    int rc;

    s->count++;
    if (s->fn == NULL)
        return 0;
    rc = s->fn(s->ctx, key, node);
    if (rc < 0)
        return rc;
    if (rc == SCAN_STOP)
        s->stopped = true;
    else if (rc == SCAN_ONLY_COUNT)
        s->fn = NULL;
    return 0;
}

/* The key's state at an old revision, given where its history ends. */
static int scan_history(struct scan *s, struct slice key, const struct chain *chain)
{
    struct log_row row;
    struct node node;
    int rc = eventlog_find(s->snap, chain, s->revision, NULL, &row);

    if (rc <= 0 || row.event.kind == EVENT_DELETE)
        return rc < 0 ? rc : 0;
    eventlog_node(&row, &node);
    return scan_hit(s, key, &node);
}

static int scan_live(struct scan *s, struct slice key, struct slice row)
{
    struct node node;
    int rc;

    if (s->fn == NULL && s->revision == SCAN_NEWEST) {
        s->count++;
        return 0;
    }
    rc = node_row_decode(row, &node);
    if (rc < 0)
        return rc;
    if (node.chain.last.main <= s->revision)
        return scan_hit(s, key, &node);
    return scan_history(s, key, &node.chain);
}

static int scan_gone(struct scan *s, struct slice key, struct slice row)
{
    struct chain chain;
    int rc = gone_row_decode(row, &chain);

    if (rc < 0 || chain.last.main <= s->revision)
        return rc;
    return scan_history(s, key, &chain);
}

static int scan_single(struct scan *s)
{
    struct tree keys = snap_keys(s->snap), gone = snap_gone(s->snap);
    struct slice row;
    int rc = tree_get(&keys, s->interval->key, &row);

    if (rc == 0)
        return scan_live(s, s->interval->key, row);
    if (rc != -ENOENT || s->revision == SCAN_NEWEST)
        return rc == -ENOENT ? 0 : rc;
    rc = tree_get(&gone, s->interval->key, &row);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    return scan_gone(s, s->interval->key, row);
}

static bool in_interval(const struct interval *i, const struct tree_iter *it)
{
    return it->valid && (interval_is_open(i) || slice_cmp(it->key, i->end) < 0);
}

static int scan_many(struct scan *s)
{
    const bool old = s->revision != SCAN_NEWEST;
    struct tree keys = snap_keys(s->snap), gone = snap_gone(s->snap);
    struct tree_iter live, dead;
    int rc;

    tree_iter_init(&live, &keys);
    tree_iter_init(&dead, &gone);
    rc = tree_iter_seek(&live, s->interval->key);
    if (rc == 0 && old)
        rc = tree_iter_seek(&dead, s->interval->key);
    while (rc == 0 && !s->stopped) {
        bool has_live = in_interval(s->interval, &live), has_dead = in_interval(s->interval, &dead);
        bool take_dead = has_dead && (!has_live || slice_cmp(dead.key, live.key) < 0);
        struct tree_iter *it = take_dead ? &dead : &live;

        if (!has_live && !has_dead)
            break;
        rc = row_check(&it->raw_key, it->value);
        if (rc == 0)
            rc = take_dead ? scan_gone(s, it->key, it->value) : scan_live(s, it->key, it->value);
        if (rc == 0)
            rc = tree_iter_next(it);
    }
    tree_iter_fini(&live);
    tree_iter_fini(&dead);
    return rc;
}

int range_scan(struct snap *p, const struct interval *i, int64_t revision, scan_fn fn, void *ctx,
               int64_t *ret_count)
{
    struct scan s = {.snap = p, .interval = i, .revision = revision, .fn = fn, .ctx = ctx};
    int rc = i->end.len == 0 ? scan_single(&s) : scan_many(&s);

    if (rc == 0)
        *ret_count = s.count;
    return rc;
}

/* ---- Range with all its options ---- */

uint16_t range_check_revision(const struct snap *p, int64_t revision, int64_t current)
{
    if (revision <= 0)
        return STATUS_OK;
    if (revision > current)
        return STATUS_FUTURE_REVISION;
    return revision < p->state.compacted ? STATUS_COMPACTED : STATUS_OK;
}

struct collect {
    struct snap *snap;
    const struct op_range *op;
    struct arena *arena;
    struct kv *kvs;
    size_t n_kvs, cap;
    size_t max_kvs;   /* then only count */
    size_t max_total; /* of arena's bytes */
    bool with_value, too_large;
};

static bool passes_filters(const struct op_range *op, const struct node *n)
{
    int64_t mod = n->chain.last.main, create = n->create.main;

    return (op->max_mod_revision == 0 || mod <= op->max_mod_revision) &&
           (op->min_mod_revision == 0 || mod >= op->min_mod_revision) &&
           (op->max_create_revision == 0 || create <= op->max_create_revision) &&
           (op->min_create_revision == 0 || create >= op->min_create_revision);
}

static int collect_kv(void *ctx, struct slice key, const struct node *node)
{
    struct collect *c = ctx;
    int rc;

    if (!passes_filters(c->op, node))
        return SCAN_GO_ON;
    if (c->n_kvs == c->cap) {
        size_t cap = c->cap != 0 ? c->cap * 2 : 8;
        struct kv *kvs = arena_array(c->arena, cap, sizeof(*kvs));

        if (kvs == NULL)
            return -ENOMEM;
        if (c->n_kvs > 0)
            memcpy(kvs, c->kvs, c->n_kvs * sizeof(*kvs));
        c->kvs = kvs;
        c->cap = cap;
    }
    rc = range_kv(c->snap, key, node, c->with_value, c->arena, &c->kvs[c->n_kvs]);
    if (rc < 0)
        return rc;
    c->n_kvs++;
    if (c->arena->total_bytes > c->max_total) {
        c->too_large = true;
        return SCAN_STOP;
    }
    return c->n_kvs >= c->max_kvs ? SCAN_ONLY_COUNT : SCAN_GO_ON;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_kvs(const void *x, const void *y, void *arg)
{
    const struct op_range *op = arg;
    const struct kv *a = x, *b = y;
    int c = 0;

    switch (op->sort_target) {
    case SORT_BY_KEY:
        c = slice_cmp(a->key, b->key);
        break;
    case SORT_BY_VERSION:
        c = compare_numbers(a->version, b->version);
        break;
    case SORT_BY_CREATE:
        c = compare_numbers(a->create_revision, b->create_revision);
        break;
    case SORT_BY_MOD:
        c = compare_numbers(a->mod_revision, b->mod_revision);
        break;
    case SORT_BY_VALUE:
        c = slice_cmp(a->value, b->value);
        break;
    }
    if (op->sort_order == SORT_DESCEND)
        c = -c;
    return c != 0 ? c : slice_cmp(a->key, b->key); /* equals in key order, so that all nodes answer alike */
}

static bool sort_is_valid(const struct op_range *op)
{
    return (unsigned)op->sort_order <= SORT_DESCEND && (unsigned)op->sort_target <= SORT_BY_VALUE;
}

/* etcd cuts at the limit while it reads only if it neither sorts by an order nor filters; a target other than the
 * key with no order given is sorted ascending, after that cut. */
static void sort_and_cut(const struct op_range *op, struct collect *c, struct range_result *result)
{
    if (c->n_kvs > 1 && (op->sort_order != SORT_NONE || op->sort_target != SORT_BY_KEY))
        qsort_r(c->kvs, c->n_kvs, sizeof(c->kvs[0]), compare_kvs, (void *)op);
    result->kvs = c->kvs;
    result->n_kvs = c->n_kvs;
    if (op->limit > 0 && c->n_kvs > (uint64_t)op->limit) {
        result->n_kvs = (size_t)op->limit;
        result->more = true;
    }
    if (op->keys_only)
        for (size_t i = 0; i < result->n_kvs; i++)
            result->kvs[i].value = slice_make(NULL, 0);
}

int range_run(struct snap *p, const struct op_range *op, int64_t current, struct arena *arena, size_t max_bytes,
              struct range_result *ret_result, uint16_t *ret_status)
{
    const struct interval interval = {op->key, op->range_end};
    const bool whole = op->sort_order != SORT_NONE || op->min_mod_revision != 0 || op->max_mod_revision != 0 ||
                       op->min_create_revision != 0 || op->max_create_revision != 0;
    struct range_result result = {0};
    struct collect c = {
        .snap = p,
        .op = op,
        .arena = arena,
        .max_kvs = op->limit > 0 && !whole ? (size_t)op->limit + 1 : SIZE_MAX,
        .max_total = max_bytes != 0 && max_bytes < SIZE_MAX - arena->total_bytes ? arena->total_bytes + max_bytes
                                                                                 : SIZE_MAX,
        .with_value = !op->keys_only || op->sort_target == SORT_BY_VALUE,
    };
    int64_t revision;
    int rc;

    *ret_status = op->key.len == 0 ? STATUS_EMPTY_KEY : range_check_revision(p, op->revision, current);
    if (*ret_status == STATUS_OK && !sort_is_valid(op))
        *ret_status = STATUS_INVALID_SORT;
    if (*ret_status != STATUS_OK)
        return 0;
    revision = op->revision <= 0 || op->revision == current ? SCAN_NEWEST : op->revision;
    rc = range_scan(p, &interval, revision, op->count_only ? NULL : collect_kv, &c, &result.count);
    if (rc < 0)
        return rc;
    if (c.too_large) {
        *ret_status = STATUS_TOO_LARGE;
        return 0;
    }
    if (!op->count_only)
        sort_and_cut(op, &c, &result);
    *ret_result = result;
    return 0;
}

/* As in etcd nothing is served from a cluster whose members were found to differ. */
static uint16_t check_alarms(const struct snap *p)
{
    return (p->state.alarms & 1ull << ALARM_CORRUPT) != 0 ? STATUS_CORRUPT : STATUS_OK;
}

int store_range(struct store_read *r, const struct op_range *op, struct arena *arena, size_t max_bytes,
                struct range_result *ret_result, uint16_t *ret_status)
{
    *ret_status = check_alarms(&r->snap);
    if (*ret_status != STATUS_OK)
        return 0;
    return range_run(&r->snap, op, r->snap.state.revision, arena, max_bytes, ret_result, ret_status);
}

/* ---- Range of any size ---- */

struct each {
    struct snap *snap;
    const struct op_range *op;
    struct arena arena;
    store_kv_fn emit;
    void *ctx;
    int64_t emitted;
};

static int emit_kv(void *ctx, struct slice key, const struct node *node)
{
    struct each *e = ctx;
    struct kv kv;
    int rc;

    if (!passes_filters(e->op, node))
        return SCAN_GO_ON;
    arena_reset(&e->arena);
    rc = range_kv(e->snap, key, node, !e->op->keys_only, &e->arena, &kv);
    if (rc < 0)
        return rc;
    e->emitted++;
    rc = e->emit(e->ctx, &kv);
    if (rc < 0)
        return rc;
    return rc != 0 || (e->op->limit > 0 && e->emitted >= e->op->limit) ? SCAN_STOP : SCAN_GO_ON;
}

int store_range_each(struct store_read *r, const struct op_range *op, store_kv_fn emit, void *ctx,
                     int64_t *ret_count, uint16_t *ret_status)
{
    const struct interval interval = {op->key, op->range_end};
    struct each e = {.snap = &r->snap, .op = op, .emit = emit, .ctx = ctx};
    int64_t current = r->snap.state.revision, scanned;
    uint16_t status = check_alarms(&r->snap);
    int rc;

    if (status == STATUS_OK)
        status = op->key.len == 0 ? STATUS_EMPTY_KEY : range_check_revision(&r->snap, op->revision, current);

    if (status != STATUS_OK) {
        *ret_status = status;
        return 0;
    }
    arena_init(&e.arena);
    rc = range_scan(&r->snap, &interval, op->revision <= 0 || op->revision == current ? SCAN_NEWEST : op->revision,
                    emit_kv, &e, &scanned);
    arena_fini(&e.arena);
    if (rc < 0)
        return rc;
    *ret_count = e.emitted;
    *ret_status = STATUS_OK;
    return 0;
}
