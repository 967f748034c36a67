#include <errno.h>
#include <stdlib.h>

#include "store/env.h"
#include "store/usage.h"

int store_read_begin(struct store *s, struct store_read **ret_read)
{
    struct store_read *r = calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return -ENOMEM;
    r->snap.store = s;
    rc = err_from_mdb(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &r->snap.txn));
    if (rc == 0)
        rc = state_load(r->snap.txn, s->main, &r->snap.state, NULL);
    if (rc < 0) {
        store_read_end(r);
        return rc;
    }
    *ret_read = r;
    return 0;
}

void store_read_end(struct store_read *r)
{
    if (r == NULL)
        return;
    if (r->snap.log_cursor != NULL)
        mdb_cursor_close(r->snap.log_cursor);
    if (r->snap.txn != NULL)
        mdb_txn_abort(r->snap.txn);
    free(r);
}

int store_read_renew(struct store_read *r)
{
    struct state state;
    int rc;

    mdb_txn_reset(r->snap.txn);
    rc = err_from_mdb(mdb_txn_renew(r->snap.txn));
    if (rc == 0 && r->snap.log_cursor != NULL)
        rc = err_from_mdb(mdb_cursor_renew(r->snap.txn, r->snap.log_cursor));
    if (rc == 0)
        rc = state_load(r->snap.txn, r->snap.store->main, &state, NULL);
    if (rc == 0)
        r->snap.state = state;
    return rc;
}

int64_t store_read_revision(const struct store_read *r)
{
    return r->snap.state.revision;
}

int64_t store_read_compacted(const struct store_read *r)
{
    return r->snap.state.compacted;
}

static int add_pages(MDB_txn *txn, MDB_dbi dbi, uint64_t *pages)
{
    MDB_stat stat;
    int rc = err_from_mdb(mdb_stat(txn, dbi, &stat));

    if (rc == 0)
        *pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    return rc;
}

int store_read_meta(struct store_read *r, struct store_meta *ret_meta)
{
    const struct store *s = r->snap.store;
    const MDB_dbi tables[] = {s->main, s->keys,   s->gone,       s->dirs,   s->layers, s->log,
                              s->sessions, s->leases, s->lease_keys, s->xattrs, s->locks,  s->usage};
    const struct state *state = &r->snap.state;
    struct store_meta meta = {
        .cluster_id = s->cluster_id,
        .epoch = s->epoch,
        .applied_index = state->applied_index,
        .applied_term = state->applied_term,
        .revision = state->revision,
        .compacted = state->compacted,
        .membership_index = state->membership_index,
        .quota_bytes = state->quota_bytes,
        .logical_bytes = usage_bytes(&state->usage),
        .cluster_version = (uint32_t)state->cluster_version,
        .removal = state->removal,
    };
    uint64_t pages = 2; /* LMDB's own two */
    MDB_envinfo info;
    MDB_stat stat;
    int rc = err_from_mdb(mdb_env_info(s->env, &info));

    if (rc == 0)
        rc = err_from_mdb(mdb_env_stat(s->env, &stat));
    for (size_t i = 0; rc == 0 && i < sizeof(tables) / sizeof(tables[0]); i++)
        rc = tables[i] != 0 ? add_pages(r->snap.txn, tables[i], &pages) : 0;
    if (rc == 0) {
        rc = meta_row_get(r->snap.txn, s->main, "membership", &meta.membership);
        rc = rc == -ENOENT ? 0 : rc;
    }
    if (rc == 0)
        rc = begun_get(r->snap.txn, s->main, &meta);
    if (rc < 0)
        return rc;
    meta.db_bytes = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
    meta.db_bytes_in_use = pages * stat.ms_psize;
    *ret_meta = meta;
    return 0;
}
