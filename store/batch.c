#include "store/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

int store_batch_begin(struct store *s, struct store_batch **ret_batch)
{
    struct store_batch *b;
    int rc, dead;

    if ((s->flags & STORE_WRITER) == 0)
        return -EROFS;
    if (s->failed)
        return -EIO;
    if (s->in_batch)
        return -EBUSY;
    if (s->batches_count++ % STORE_READER_CHECK_BATCHES == 0) {
        rc = err_from_mdb(mdb_reader_check(s->env, &dead));
        if (rc < 0)
            return rc;
    }
    b = calloc(1, sizeof(*b));
    if (b == NULL)
        return -ENOMEM;
    b->snap.store = s;
    b->snap.writing = true;
    arena_init(&b->arena);
    bytes_init(&b->scratch);
    bytes_init(&b->scratch_value);
    rc = err_from_mdb(mdb_txn_begin(s->env, NULL, 0, &b->snap.txn));
    if (rc == 0) {
        s->in_batch = true;
        rc = state_load(b->snap.txn, s->main, &b->snap.state, NULL);
    }
    if (rc == 0)
        rc = session_load(b);
    if (rc < 0) {
        store_batch_abort(b);
        return rc;
    }
    *ret_batch = b;
    return 0;
}

static void batch_free(struct store_batch *b)
{
    if (b->snap.log_cursor != NULL)
        mdb_cursor_close(b->snap.log_cursor); /* before its transaction ends */
    arena_fini(&b->arena);
    bytes_fini(&b->scratch);
    bytes_fini(&b->scratch_value);
}

void store_batch_abort(struct store_batch *b)
{
    if (b == NULL)
        return;
    batch_free(b);
    if (b->snap.txn != NULL) {
        mdb_txn_abort(b->snap.txn);
        b->snap.store->in_batch = false;
        session_unload(b->snap.store);
    }
    free(b);
}

#define FULL_BYTES ((uint64_t)1 << 20) /* less than that is left: the disk is full */

int batch_error(const struct store *s, int rc)
{
    struct statvfs st;

    if (rc != -EIO || statvfs(s->dir, &st) < 0 || (uint64_t)st.f_bavail * st.f_frsize >= FULL_BYTES)
        return rc;
    return -ENOSPC;
}

/* A commit that fails leaves the environment as it was. When the disk is full the same batch can be tried again; whatever else
 * it is, what the next one would do nobody knows. (LMDB itself refuses the next one when it was the meta page that failed.) */
int store_batch_commit(struct store_batch *b)
{
    struct store *s = b->snap.store;
    int rc = b->status;
    bool more;

    if (rc == 0)
        rc = store_batch_compact(b, STORE_COMPACT_BATCH_ROWS, &more);
    if (rc == 0)
        rc = state_save(b->snap.txn, s->main, &b->snap.state);
    if (rc < 0) {
        store_batch_abort(b);
        return batch_error(s, rc);
    }
    batch_free(b);
    rc = batch_error(s, err_from_mdb(mdb_txn_commit(b->snap.txn)));
    s->in_batch = false;
    if (rc < 0) {
        s->failed |= rc != -ENOSPC;
        session_unload(s);
    }
    free(b);
    return rc;
}

int store_batch_advance(struct store_batch *b, uint64_t index, uint64_t term)
{
    struct state *state = &b->snap.state;

    if (index <= state->applied_index)
        return 0;
    state->applied_index = index;
    state->applied_term = term;
    return 0;
}

int store_batch_set_membership(struct store_batch *b, uint64_t index, struct slice membership)
{
    int rc;

    if (index <= b->snap.state.membership_index)
        return 0;
    rc = meta_row_put(b->snap.txn, b->snap.store->main, "membership", membership);
    if (rc < 0) {
        b->status = rc;
        return rc;
    }
    b->snap.state.membership_index = index;
    return 0;
}
