#include "store/inspect.h"

#include <errno.h>

#include "store/current.h"
#include "store/env.h"
#include "store/row.h"

int store_tables(struct store_read *r, store_table_fn emit, void *ctx)
{
    const struct store *s = r->snap.store;
    const struct {
        const char *name;
        MDB_dbi dbi;
    } tables[] = {
        {"main", s->main},     {"keys", s->keys},     {"gone", s->gone},     {"dirs", s->dirs},
        {"layers", s->layers}, {"log", s->log},       {"sessions", s->sessions}, {"leases", s->leases},
        {"lease_keys", s->lease_keys}, {"xattrs", s->xattrs}, {"locks", s->locks}, {"usage", s->usage},
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(tables) / sizeof(tables[0]); i++) {
        struct store_table t = {.name = tables[i].name};
        MDB_stat stat;

        if (tables[i].dbi == 0)
            continue; /* an older environment has none */
        rc = err_from_mdb(mdb_stat(r->snap.txn, tables[i].dbi, &stat));
        if (rc < 0)
            return rc;
        t.rows = stat.ms_entries;
        t.depth = stat.ms_depth;
        t.branch_pages = stat.ms_branch_pages;
        t.leaf_pages = stat.ms_leaf_pages;
        t.overflow_pages = stat.ms_overflow_pages;
        t.page_bytes = stat.ms_psize;
        rc = emit(ctx, &t);
    }
    return rc < 0 ? rc : 0;
}

static int decode(enum store_rows rows, const struct tree_iter *it, struct store_row *ret_row)
{
    struct store_row row = {.key = it->key};
    struct chain chain;
    struct node node;
    int rc = row_check(&it->raw_key, it->value);

    if (rc < 0)
        return rc;
    if (rows == STORE_ROWS_GONE) {
        rc = gone_row_decode(it->value, &chain);
        if (rc < 0)
            return rc;
        row.mod = chain.last;
        row.depth = chain.depth;
    } else {
        rc = node_row_decode(it->value, &node);
        if (rc < 0)
            return rc;
        row.mod = node.chain.last;
        row.depth = node.chain.depth;
        row.create = node.create;
        row.version = node.version;
        row.lease = node.lease;
        row.time_ns = node.time_ns;
        row.value_len = node.value_len;
        row.value_rev = node.value_rev;
        row.is_inline = node.is_inline;
        row.attrs = node.attrs;
    }
    *ret_row = row;
    return 0;
}

int store_each_row(struct store_read *r, enum store_rows rows, store_row_fn emit, void *ctx)
{
    struct tree tree = rows == STORE_ROWS_KEYS ? snap_keys(&r->snap) :
                       rows == STORE_ROWS_DIRS ? snap_dirs(&r->snap) : snap_gone(&r->snap);
    struct tree_iter it;
    struct store_row row;
    int rc;

    tree_iter_init(&it, &tree);
    rc = tree_iter_seek(&it, slice_make(NULL, 0));
    while (rc == 0 && it.valid) {
        rc = decode(rows, &it, &row);
        if (rc == 0)
            rc = emit(ctx, &row);
        if (rc == 0)
            rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    return rc < 0 ? rc : 0;
}

int store_is_trusted(const char *dir, bool *ret_trusted)
{
    uint64_t epoch;
    int rc = current_read(dir, &epoch);

    return rc < 0 ? rc : mark_is_trusted(dir, epoch, ret_trusted);
}
