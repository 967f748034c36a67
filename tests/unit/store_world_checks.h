/* store_world_checks.h - every kind of read, compared with the model.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the world's.  Units: bytes. */
#ifndef TESTS_UNIT_STORE_WORLD_CHECKS_H
#define TESTS_UNIT_STORE_WORLD_CHECKS_H

#include "store/eventlog.h"
#include "store/inspect.h"
#include "tests/unit/store_world.h"

static inline void check_kv(const struct kv *kv, const struct mkey *k, const struct version *v)
{
    assert_true(slice_equal(k->key, kv->key));
    assert_int_equal(v->main, kv->mod_revision);
    assert_int_equal(v->create, kv->create_revision);
    assert_int_equal(v->version, kv->version);
    assert_int_equal(v->lease, kv->lease);
    assert_true(slice_equal(slice_make(v->value, v->len), kv->value));
}

struct expected_kv {
    struct mkey *key;
    struct version *v;
};

static inline int order_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static inline int order_kvs(const void *x, const void *y, void *arg)
{
    const struct expected_kv *a = x, *b = y;
    const struct op_range *op = arg;
    int c = 0;

    switch (op->sort_target) {
    case SORT_BY_KEY:
        c = slice_cmp(a->key->key, b->key->key);
        break;
    case SORT_BY_VERSION:
        c = order_numbers(a->v->version, b->v->version);
        break;
    case SORT_BY_CREATE:
        c = order_numbers(a->v->create, b->v->create);
        break;
    case SORT_BY_MOD:
        c = order_numbers(a->v->main, b->v->main);
        break;
    case SORT_BY_VALUE:
        c = slice_cmp(slice_make(a->v->value, a->v->len), slice_make(b->v->value, b->v->len));
        break;
    }
    c = op->sort_order == SORT_DESCEND ? -c : c;
    return c != 0 ? c : slice_cmp(a->key->key, b->key->key);
}

static inline bool outside(int64_t n, int64_t min, int64_t max)
{
    return (min != 0 && n < min) || (max != 0 && n > max);
}

/* Every option, at any revision that can be read. */
static inline void check_range(struct world *w, struct store_read *r)
{
    struct slice key = random_key(w), end = random_end(w, key);
    int64_t oldest = w->m.compacted > 0 ? w->m.compacted : 1;
    int64_t revision = one_in(w, 2) ? 0 : oldest + (int64_t)below(w, (size_t)(w->m.revision - oldest + 1));
    struct op_range op = {.key = key, .range_end = end, .revision = revision, .limit = (int64_t)below(w, 5)};
    struct expected_kv *all = arena_array(&w->arena, w->m.n_keys + 1, sizeof(*all));
    size_t count = 0, n = 0, cut;
    struct range_result range;
    uint16_t status;
    bool whole;

    if (one_in(w, 3)) {
        op.sort_order = (enum sort_order)below(w, 3);
        op.sort_target = (enum sort_target)below(w, 5);
    }
    op.keys_only = one_in(w, 8);
    op.count_only = one_in(w, 8);
    op.min_mod_revision = one_in(w, 8) ? (int64_t)below(w, (size_t)w->m.revision + 1) : 0;
    op.max_mod_revision = one_in(w, 8) ? (int64_t)below(w, (size_t)w->m.revision + 1) : 0;
    op.min_create_revision = one_in(w, 8) ? (int64_t)below(w, (size_t)w->m.revision + 1) : 0;
    op.max_create_revision = one_in(w, 8) ? (int64_t)below(w, (size_t)w->m.revision + 1) : 0;
    assert_int_equal(0, store_range(r, &op, &w->arena, 0, &range, &status));
    if (w->m.corrupt) {
        assert_int_equal(STATUS_CORRUPT, status);
        return;
    }
    assert_int_equal(STATUS_OK, status);
    /* etcd cuts while it reads unless it has to see all of it first */
    whole = op.sort_order != SORT_NONE || op.min_mod_revision != 0 || op.max_mod_revision != 0 ||
            op.min_create_revision != 0 || op.max_create_revision != 0;
    cut = op.limit > 0 && !whole ? (size_t)op.limit + 1 : SIZE_MAX;
    for (size_t i = 0; i < w->m.n_keys; i++) {
        struct version *v = model_at(&w->m.keys[i], revision != 0 ? revision : INT64_MAX);

        if (v == NULL || !model_in(w->m.keys[i].key, key, end))
            continue;
        count++;
        if (n < cut && !outside(v->main, op.min_mod_revision, op.max_mod_revision) &&
            !outside(v->create, op.min_create_revision, op.max_create_revision))
            all[n++] = (struct expected_kv){&w->m.keys[i], v};
    }
    assert_int_equal(count, range.count);
    if (op.count_only) {
        assert_true(range.n_kvs == 0 && !range.more);
        return;
    }
    qsort_r(all, n, sizeof(all[0]), order_kvs, &op);
    assert_int_equal(op.limit > 0 && (int64_t)n > op.limit, range.more);
    n = range.more ? (size_t)op.limit : n;
    assert_int_equal(n, range.n_kvs);
    for (size_t i = 0; i < n; i++) {
        if (op.keys_only) {
            assert_true(slice_equal(all[i].key->key, range.kvs[i].key));
            assert_int_equal(0, range.kvs[i].value.len);
        } else {
            check_kv(&range.kvs[i], all[i].key, all[i].v);
        }
    }
}

struct expected_children {
    struct world *w;
    struct slice names[256];
    bool is_key[256], is_dir[256];
    size_t n, seen;
    struct store_read *r;
    struct slice dir;
    bool bare_root;
};

static inline void expect_child(struct expected_children *e, struct slice name, bool is_key, bool is_dir)
{
    size_t i = 0;

    while (i < e->n && slice_cmp(e->names[i], name) < 0)
        i++;
    if (i == e->n || !slice_equal(e->names[i], name)) {
        assert_true(e->n < 256);
        for (size_t j = e->n; j > i; j--) {
            e->names[j] = e->names[j - 1];
            e->is_key[j] = e->is_key[j - 1];
            e->is_dir[j] = e->is_dir[j - 1];
        }
        e->names[i] = name;
        e->is_key[i] = e->is_dir[i] = false;
        e->n++;
    }
    e->is_key[i] |= is_key;
    e->is_dir[i] |= is_dir;
}

static inline void expect_path(struct expected_children *e, struct slice path, struct slice dir, bool bare_root, bool is_key)
{
    struct slice rest = path;
    const uint8_t *slash;

    if (!bare_root) {
        if (!model_is_below(path, dir))
            return;
        rest = slice_make(path.data + dir.len + 1, path.len - dir.len - 1);
    }
    slash = rest.len > 0 ? memchr(rest.data, '/', rest.len) : NULL;
    if (bare_root && slash == rest.data)
        return;
    if (slash != NULL)
        expect_child(e, slice_make(rest.data, (size_t)(slash - rest.data)), false, true);
    else
        expect_child(e, rest, is_key, !is_key);
}

static inline int see_child(void *ctx, const struct store_child *c)
{
    struct expected_children *e = ctx;

    assert_true(e->seen < e->n);
    assert_true(slice_equal(e->names[e->seen], c->component));
    assert_int_equal(e->is_key[e->seen], c->is_key);
    assert_int_equal(e->is_dir[e->seen], c->is_dir);
    assert_int_equal(c->is_key && !c->is_dir, c->stat != NULL);
    if (c->stat != NULL) { /* what is told on the way is what would be answered */
        struct node_stat stat;
        struct bytes key;

        bytes_init(&key);
        bytes_append(&key, e->dir);
        if (!e->bare_root)
            bytes_u8(&key, '/');
        bytes_append(&key, c->component);
        assert_int_equal(0, store_stat_key(e->r, bytes_slice(&key), &stat));
        assert_memory_equal(&stat, c->stat, sizeof(stat));
        bytes_fini(&key);
    }
    e->seen++;
    return 0;
}

static inline void check_list(struct world *w, struct store_read *r)
{
    struct expected_children e = {.w = w};
    bool bare_root = below(w, 10) == 0;
    struct slice dir = bare_root || below(w, 5) == 0 ? slice_make(NULL, 0) : random_dir(w), after = {0};

    e.r = r;
    e.dir = dir;
    e.bare_root = bare_root;
    for (size_t i = 0; i < w->m.n_keys; i++)
        if (model_at(&w->m.keys[i], INT64_MAX) != NULL)
            expect_path(&e, w->m.keys[i].key, dir, bare_root, true);
    for (size_t i = 0; i < w->m.n_dirs; i++)
        if (w->m.dirs[i].live)
            expect_path(&e, w->m.dirs[i].path, dir, bare_root, false);
    if (e.n > 0 && below(w, 2) == 0) {
        e.seen = below(w, e.n);
        after = e.names[e.seen];
        e.seen += after.len > 0; /* "" is the start */
    }
    if (bare_root)
        assert_int_equal(0, store_list_bare(r, dir, after, see_child, &e));
    else
        assert_int_equal(0, store_list(r, dir, after, see_child, &e));
    assert_int_equal(e.n, e.seen);
}

static inline void check_stat(struct world *w, struct store_read *r)
{
    struct slice path = below(w, 2) == 0 ? random_dir(w) : random_key(w);
    struct version *v = model_live(&w->m, path);
    struct mdir *d = model_dir(&w->m, path, false);
    struct node_stat stat;

    assert_int_equal(0, store_stat(r, path, &stat));
    if (model_is_dir(&w->m, path)) {
        assert_int_equal(NODE_DIRECTORY, stat.type);
        assert_int_equal(v != NULL, stat.also_key);
        assert_int_equal(d == NULL, stat.implicit);
        if (d != NULL && d->ino != 0)
            assert_true(d->ino == stat.ino);
    } else if (v != NULL) {
        assert_int_equal(NODE_FILE, stat.type);
        assert_int_equal(v->len, stat.size);
        assert_true(v->ino == stat.ino);
        assert_int_equal(v->version, stat.version);
    } else {
        assert_int_equal(NODE_NONE, stat.type);
    }
}

struct event_check {
    struct world *w;
    struct store_read *r;
    size_t seen;
};

static inline int see_event(void *ctx, const struct event *e)
{
    struct event_check *c = ctx;
    struct mkey *k;
    struct kv kv, prev;
    size_t i = 0;
    int rc;

    if (!event_is_public(e))
        return 0;
    c->seen++;
    k = model_key(&c->w->m, e->key, false);
    assert_non_null(k);
    while (i < k->n && k->versions[i].main != e->rev.main)
        i++;
    assert_true(i < k->n);
    assert_int_equal(k->versions[i].sub, e->rev.sub);
    assert_int_equal(k->versions[i].deleted, e->kind == EVENT_DELETE);
    assert_int_equal(k->versions[i].attr_only, e->kind == EVENT_ATTR);
    assert_int_equal(0, store_event_kv(c->r, e, &c->w->arena, &kv));
    if (e->kind != EVENT_DELETE)
        check_kv(&kv, k, &k->versions[i]);
    rc = store_event_prev_kv(c->r, e, &c->w->arena, &prev);
    assert_int_equal(i > 0 && !k->versions[i - 1].deleted && e->rev.main > c->w->m.compacted, rc);
    if (rc == 1)
        check_kv(&prev, k, &k->versions[i - 1]);
    return 0;
}

static inline void check_events(struct world *w, struct store_read *r)
{
    int64_t from = w->m.compacted + (int64_t)below(w, (size_t)(w->m.revision - w->m.compacted + 1));
    struct event_check c = {.w = w, .r = r};
    int64_t next;
    uint16_t status;
    size_t expected = 0;

    if (w->m.revision - from > 200)
        from = w->m.revision - 200;
    assert_int_equal(0, store_events(r, from, see_event, &c, &next, &status));
    assert_int_equal(STATUS_OK, status);
    assert_int_equal(w->m.revision + 1, next);
    for (size_t i = 0; i < w->m.n_keys; i++)
        for (size_t j = 0; j < w->m.keys[i].n; j++)
            expected += w->m.keys[i].versions[j].main >= from;
    assert_int_equal(expected, c.seen);
}

static inline void check_key_events(struct world *w, struct store_read *r)
{
    struct mkey *k = &w->m.keys[below(w, w->m.n_keys)];
    int64_t from = w->m.compacted + (int64_t)below(w, (size_t)(w->m.revision - w->m.compacted + 1));
    size_t max = 1 + below(w, 4), count, i = 0;
    struct event *events;
    uint16_t status;
    bool more;

    assert_int_equal(0, store_key_events(r, k->key, from, &w->arena, max, &events, &count, &more, &status));
    while (i < k->n && k->versions[i].main < from)
        i++;
    assert_int_equal(k->n - i > max, more);
    assert_int_equal(k->n - i > max ? max : k->n - i, count);
    for (size_t j = 0; j < count; j++) {
        assert_int_equal(k->versions[i + j].main, events[j].rev.main);
        assert_true(slice_equal(k->key, events[j].key));
    }
}

/* ---- leases, attributes, locks ---- */

struct key_check {
    struct world *w;
    int64_t lease;
    size_t seen;
};

static inline int see_leased(void *ctx, struct slice key)
{
    struct key_check *c = ctx;
    struct version *v = model_live(&c->w->m, key);

    assert_non_null(v);
    assert_int_equal(c->lease, v->lease);
    c->seen++;
    return 0;
}

static inline void check_leases(struct world *w, struct store_read *r)
{
    for (int64_t id = 1; id <= MODEL_LEASES; id++) {
        struct mlease *l = model_lease(&w->m, id);
        struct key_check c = {.w = w, .lease = id};
        struct lease_info info;
        size_t expected = 0;

        assert_int_equal(l != NULL ? 0 : -ENOENT, store_lease_get(r, id, &info));
        if (l != NULL)
            assert_true(info.ttl_s == l->ttl_s && info.remaining_s == l->remaining_s);
        for (size_t i = 0; i < w->m.n_keys; i++) {
            struct version *v = model_at(&w->m.keys[i], INT64_MAX);

            expected += v != NULL && v->lease == id;
        }
        assert_int_equal(0, store_lease_keys(r, id, see_leased, &c));
        assert_int_equal(expected, c.seen);
    }
}

static inline int count_xattr(void *ctx, struct slice name, uint64_t value_len)
{
    (*(size_t *)ctx)++;
    return 0;
}

/* Of everything that lives, and nothing of what does not. */
static inline void check_xattrs(struct world *w, struct store_read *r)
{
    size_t there = 0;

    for (size_t i = 0; i < w->m.n_xattrs; i++) {
        struct mxattr *x = &w->m.xattrs[i];
        struct slice value;
        size_t listed = 0, expected = 0;

        if (x->there && !model_ino_lives(&w->m, x->ino))
            x->there = false;
        assert_int_equal(x->there ? 0 : -ENODATA, store_xattr_get_ino(r, x->ino, x->name, &w->arena, &value));
        if (x->there)
            assert_true(slice_equal(x->value, value));
        there += x->there;
        for (size_t j = 0; j < w->m.n_xattrs; j++)
            expected += w->m.xattrs[j].ino == x->ino && w->m.xattrs[j].there && model_ino_lives(&w->m, x->ino);
        assert_int_equal(0, store_xattr_list_ino(r, x->ino, count_xattr, &listed));
        assert_int_equal(expected, listed);
    }
    assert_int_equal(there, r->snap.state.xattr_count);
}

struct lock_check {
    struct model seen; /* only its locks */
    size_t ranges;
};

static inline int see_lock(void *ctx, const struct lock_op *l, uint64_t token)
{
    struct lock_check *c = ctx;
    struct mfile_locks *f = &c->seen.locks[l->ino - MODEL_FIRST_INO];

    assert_in_range(l->ino, MODEL_FIRST_INO, MODEL_FIRST_INO + MODEL_LOCK_INODES - 1);
    if (l->wait) {
        f->waiters[f->n_waiters++] = *l;
        return 0;
    }
    assert_true(token != 0);
    c->ranges++;
    for (uint64_t i = l->start; i <= l->end && i < MODEL_LOCK_BYTES; i++)
        f->held[l->kind][l->owner][i] = (uint8_t)l->type;
    return 0;
}

static inline void check_locks(struct world *w, struct store_read *r)
{
    struct lock_check c = {.ranges = 0};
    size_t ranges = 0;

    assert_int_equal(0, store_locks(r, see_lock, &c));
    for (size_t f = 0; f < MODEL_LOCK_INODES; f++) {
        const struct mfile_locks *expected = &w->m.locks[f], *seen = &c.seen.locks[f];

        assert_memory_equal(expected->held, seen->held, sizeof(expected->held));
        assert_int_equal(expected->n_waiters, seen->n_waiters);
        for (size_t i = 0; i < expected->n_waiters; i++)
            assert_true(expected->waiters[i].request == seen->waiters[i].request &&
                        expected->waiters[i].owner == seen->waiters[i].owner);
        ranges += model_lock_ranges(expected);
    }
    assert_int_equal(ranges, c.ranges); /* neighbours of one type are one row */
}

static inline void check_reads(struct world *w)
{
    struct store_read *r;

    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(w->m.revision, store_read_revision(r));
    switch (below(w, 4)) {
    case 0:
        for (int i = 0; i < 4; i++)
            check_range(w, r);
        break;
    case 1:
        for (int i = 0; i < 4; i++) {
            check_list(w, r);
            check_stat(w, r);
        }
        break;
    case 2:
        if (w->m.n_keys > 0)
            check_key_events(w, r);
        check_events(w, r);
        break;
    default:
        check_leases(w, r);
        check_xattrs(w, r);
        check_locks(w, r);
        break;
    }
    store_read_end(r);
}

static inline void tell_problem(void *ctx, const char *text)
{
    print_error("%s\n", text);
}

static inline void check_everything_fits(struct world *w)
{
    struct store_check sums;
    struct store_read *r;

    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(0, store_check(r, tell_problem, NULL, &sums));
    assert_int_equal(0, sums.problems);
    store_read_end(r);
}

/* ---- what a compaction leaves ---- */

/* Is the row what a reader at or after the compacted revision may need? */
static inline bool is_needed(struct world *w, const struct log_row *row)
{
    struct mkey *k = model_key(&w->m, row->event.key, false);
    size_t i = 0;

    if (row->event.rev.main >= w->m.compacted)
        return true;
    if (row->event.kind == EVENT_DIR_PUT) {
        struct mdir *d = model_dir(&w->m, row->event.key, true);

        for (size_t j = 0; j < d->n_changes; j++)
            if (d->changes[j] > row->event.rev.main && d->changes[j] <= w->m.compacted)
                return false;
        return d->n_changes > 0;
    }
    if ((row->event.kind != EVENT_PUT && row->event.kind != EVENT_ATTR) || k == NULL)
        return false;
    while (i < k->n && k->versions[i].main != row->event.rev.main)
        i++;
    return i < k->n && (i + 1 == k->n || k->versions[i + 1].main > w->m.compacted);
}

/* Only tombstones that can still be asked for have a row in `gone`. */
static inline void check_gone(struct world *w, struct store_read *r)
{
    struct tree gone = snap_gone(&r->snap);
    struct tree_iter it;
    struct chain chain;

    tree_iter_init(&it, &gone);
    assert_int_equal(0, tree_iter_seek(&it, S("")));
    while (it.valid) {
        assert_int_equal(0, gone_row_decode(it.value, &chain));
        assert_true(chain.last.main >= w->m.compacted);
        assert_int_equal(0, tree_iter_next(&it));
    }
    tree_iter_fini(&it);
}

/* After the removal has come to its end no row is left that nobody can need. */
static inline void check_nothing_is_left(struct world *w)
{
    struct rev *referred = NULL, *unneeded = NULL;
    size_t n_referred = 0, n_unneeded = 0;
    struct store_read *r;
    MDB_cursor *cursor;
    MDB_val k, v;
    bool more = true;
    int rc;

    if (w->m.compacted == 0)
        return;
    assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
    while (more)
        assert_int_equal(0, store_batch_compact(w->batch, 7, &more));
    assert_int_equal(0, store_batch_commit(w->batch));
    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(0, mdb_cursor_open(r->snap.txn, w->f.store->log, &cursor));
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct log_row row;

        if (get_be16((uint8_t *)k.mv_data + 12) != 0)
            continue;
        assert_int_equal(0, eventlog_row_at_cursor(&r->snap, &k, &v, &w->arena, &row));
        if (rev_cmp(row.value_rev, row.event.rev) != 0 && is_needed(w, &row)) {
            referred = realloc(referred, (n_referred + 1) * sizeof(*referred));
            referred[n_referred++] = row.value_rev;
        } else if (!is_needed(w, &row)) {
            unneeded = realloc(unneeded, (n_unneeded + 1) * sizeof(*unneeded));
            unneeded[n_unneeded++] = row.event.rev;
        }
    }
    for (size_t i = 0; i < n_unneeded; i++) {
        size_t j = 0;

        while (j < n_referred && rev_cmp(referred[j], unneeded[i]) != 0)
            j++;
        if (j == n_referred)
            fail_msg("row %lld/%lld is left, compacted %lld", (long long)unneeded[i].main,
                     (long long)unneeded[i].sub, (long long)w->m.compacted);
    }
    mdb_cursor_close(cursor);
    check_gone(w, r);
    store_read_end(r);
    free(referred);
    free(unneeded);
}

/* ---- nodes are equal ---- */

struct event_list {
    struct arena arena;
    struct event *events;
    size_t n, cap;
};

static inline int keep_event(void *ctx, const struct event *e)
{
    struct event_list *l = ctx;

    if (l->n == l->cap) {
        l->cap = l->cap != 0 ? l->cap * 2 : 64;
        l->events = realloc(l->events, l->cap * sizeof(*l->events));
    }
    l->events[l->n] = *e;
    return arena_copy(&l->arena, e->key, &l->events[l->n++].key);
}

static inline struct event_list all_events(struct fixture *f)
{
    struct event_list l = {.n = 0};
    struct store_read *r;
    int64_t next;
    uint16_t status;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_events(r, store_read_compacted(r), keep_event, &l, &next, &status));
    assert_int_equal(STATUS_OK, status);
    store_read_end(r);
    return l;
}

static inline void check_hashes(struct world *w)
{
    struct store_read *a, *b;
    struct store_meta ma, mb;
    uint32_t hash_a, hash_b, kv_a, kv_b;
    int64_t compacted, revision = 0;
    uint64_t index;
    uint16_t status;

    assert_int_equal(0, store_read_begin(w->f.store, &a));
    assert_int_equal(0, store_read_begin(w->twin.store, &b));
    assert_int_equal(0, store_hash(a, &hash_a, &revision, &index));
    assert_int_equal(0, store_hash(b, &hash_b, &revision, &index));
    if (w->m.compacted > 0)
        revision = w->m.compacted + (int64_t)below(w, (size_t)(w->m.revision - w->m.compacted + 1));
    assert_int_equal(0, store_hash_kv(a, revision, &kv_a, &compacted, &revision, &status));
    assert_int_equal(STATUS_OK, status);
    assert_int_equal(0, store_hash_kv(b, revision, &kv_b, &compacted, &revision, &status));
    assert_int_equal(STATUS_OK, status);
    assert_int_equal(hash_a, hash_b);
    assert_int_equal(kv_a, kv_b);
    assert_int_equal(0, store_read_meta(a, &ma));
    assert_int_equal(0, store_read_meta(b, &mb));
    assert_int_equal(ma.logical_bytes, mb.logical_bytes);
    store_read_end(a);
    store_read_end(b);
}

static inline void check_twin(struct world *w)
{
    struct event_list a = all_events(&w->f), b = all_events(&w->twin);

    check_hashes(w);

    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        const struct event *x = &a.events[i], *y = &b.events[i];

        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->flags, y->flags);
        assert_int_equal(0, rev_cmp(x->rev, y->rev));
        assert_int_equal(0, rev_cmp(x->prev, y->prev));
        assert_int_equal(0, rev_cmp(x->create, y->create));
        assert_int_equal(x->version, y->version);
        assert_int_equal(x->time_ns, y->time_ns);
        assert_int_equal(x->value_len, y->value_len);
        assert_true(slice_equal(x->key, y->key));
        assert_memory_equal(&x->attrs, &y->attrs, sizeof(x->attrs));
        assert_memory_equal(&x->lock, &y->lock, sizeof(x->lock));
    }
    arena_fini(&a.arena);
    arena_fini(&b.arena);
    free(a.events);
    free(b.events);
}

#endif
