/* The history of one key, and what there ever was: as far back as compaction has left it. */
#include <errno.h>

#include "store/children.h"
#include "store/eventlog.h"
#include "store/range.h"
#include "store/view.h"

#define EVENT_FLAGS_PUBLIC (EVENT_OF_RENAME | EVENT_CREATED | EVENT_EXCHANGE)

int store_key_history(struct store_read *r, struct slice key, size_t max, store_event_fn emit, void *ctx)
{
    struct snap *p = &r->snap;
    struct chain chain;
    struct rev at;
    int rc = eventlog_key_chain(p, key, &chain);

    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    at = chain.last;
    for (size_t i = 0; i < max && at.main != 0; i++) {
        struct log_row row;
        struct rev prev;

        rc = eventlog_get(p, at, NULL, &row);
        if (rc < 0)
            return rc == -ENOENT && at.main <= p->state.compacted ? 0 : rc == -ENOENT ? -EUCLEAN : rc;
        /* Of what is at or below the last compaction only the newest row is anybody's, removed yet or not. */
        if (row.event.kind == EVENT_DELETE && at.main < p->state.compacted)
            return 0;
        prev = row.event.prev;
        row.event.flags &= EVENT_FLAGS_PUBLIC;
        row.event.key = key;
        rc = emit(ctx, &row.event);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (at.main <= p->state.compacted)
            return 0;
        at = prev;
    }
    return 0;
}

int store_key_version(struct store_read *r, struct slice key, int64_t revision, struct arena *arena,
                      struct event *ret_event)
{
    struct snap *p = &r->snap;
    struct log_row row, newest;
    struct chain chain;
    int rc = eventlog_key_chain(p, key, &chain);

    if (rc == 0 && revision <= 0)
        rc = -ENOENT;
    if (rc == 0)
        rc = eventlog_find(p, &chain, revision, arena, &row);
    if (rc <= 0 || row.event.rev.main != revision)
        return rc < 0 ? rc : -ENOENT;
    if (revision < p->state.compacted) { /* the newest before a compaction is kept, others may be */
        if (row.event.kind == EVENT_DELETE)
            return -ENOENT;
        rc = eventlog_find(p, &chain, p->state.compacted, NULL, &newest);
        if (rc <= 0 || newest.event.rev.main != revision)
            return rc < 0 ? rc : -ENOENT;
    }
    row.event.flags &= EVENT_FLAGS_PUBLIC;
    *ret_event = row.event;
    return 0;
}

/* A row of `gone` tells of a key as long as its tombstone counts. */
static bool tells(const struct snap *p, struct slice row)
{
    struct chain chain;

    return gone_row_decode(row, &chain) == 0 && chain.last.main >= p->state.compacted;
}

/* 1 if the table has a row with the prefix, 0. */
static int has_prefix(struct snap *p, struct tree tree, struct slice prefix, bool gone)
{
    struct tree_iter it;
    int rc, found = 0;

    tree_iter_init(&it, &tree);
    rc = tree_iter_seek(&it, prefix);
    while (rc == 0 && !found && it.valid && slice_has_prefix(it.key, prefix)) {
        rc = row_check(&it.raw_key, it.value);
        found = !gone || tells(p, it.value);
        if (rc == 0 && !found)
            rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    return rc < 0 ? rc : found;
}

int store_was(struct store_read *r, struct slice path, bool *ret_key, bool *ret_dir)
{
    struct snap *p = &r->snap;
    struct tree gone = snap_gone(p);
    struct bytes prefix;
    struct target t;
    struct slice row;
    bool key;
    int rc = view_load(p, path, &t), dir;

    if (rc < 0)
        return rc;
    key = t.has_key;
    dir = t.is_dir;
    if (!key) {
        rc = tree_get(&gone, path, &row);
        if (rc < 0 && rc != -ENOENT)
            return rc;
        key = rc == 0 && tells(p, row);
    }
    if (!dir) {
        bytes_init(&prefix);
        bytes_append(&prefix, path);
        bytes_u8(&prefix, '/');
        rc = bytes_status(&prefix);
        dir = rc < 0 ? rc : has_prefix(p, gone, bytes_slice(&prefix), true);
        bytes_fini(&prefix);
        if (dir < 0)
            return dir;
    }
    *ret_key = key;
    *ret_dir = dir == 1;
    return 0;
}

static int list_table(struct snap *p, struct tree tree, bool is_key, bool gone, struct children *c)
{
    struct slice prefix = bytes_slice(&c->prefix);
    struct tree_iter it;
    int rc;

    tree_iter_init(&it, &tree);
    rc = tree_iter_seek(&it, prefix);
    while (rc == 0 && it.valid && slice_has_prefix(it.key, prefix)) {
        rc = row_check(&it.raw_key, it.value);
        if (rc == 0 && (!gone || tells(p, it.value)))
            rc = children_add(c, it.key, is_key);
        if (rc == 1) {
            children_skip(c);
            rc = tree_iter_seek(&it, bytes_slice(&c->at));
        } else if (rc == 0) {
            rc = tree_iter_next(&it);
        }
    }
    tree_iter_fini(&it);
    return rc;
}

static int list_ever(struct store_read *r, struct slice dir, bool bare, store_child_fn emit, void *ctx)
{
    struct snap *p = &r->snap;
    struct children c;
    int rc = children_init(&c, dir, bare);

    if (rc == 0)
        rc = list_table(p, snap_keys(p), true, false, &c);
    if (rc == 0)
        rc = list_table(p, snap_gone(p), true, true, &c);
    if (rc == 0)
        rc = list_table(p, snap_dirs(p), false, false, &c);
    if (rc == 0)
        rc = children_tell(&c, emit, ctx);
    children_fini(&c);
    return rc;
}

int store_list_ever(struct store_read *r, struct slice dir, store_child_fn emit, void *ctx)
{
    return list_ever(r, dir, false, emit, ctx);
}

int store_list_bare_ever(struct store_read *r, struct slice dir, store_child_fn emit, void *ctx)
{
    return list_ever(r, dir, true, emit, ctx);
}

int store_count(struct store_read *r, uint64_t *ret_keys, uint64_t *ret_dirs)
{
    struct snap *p = &r->snap;
    MDB_stat keys, dirs;
    int rc = err_from_mdb(mdb_stat(p->txn, p->store->keys, &keys));

    if (rc == 0)
        rc = err_from_mdb(mdb_stat(p->txn, p->store->dirs, &dirs));
    if (rc < 0)
        return rc;
    *ret_keys = keys.ms_entries;
    *ret_dirs = dirs.ms_entries;
    return 0;
}
