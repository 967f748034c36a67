/* store_first_version.h - an environment as version 0.1 left it.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the fixture's.  Units: bytes. */
#ifndef TESTS_UNIT_STORE_FIRST_VERSION_H
#define TESTS_UNIT_STORE_FIRST_VERSION_H

#include <lmdb.h>

#include "store/env.h"
#include "tests/unit/store_fixture.h"

/* Takes away what it did not have, and closes it. */
static inline void make_first_version(struct fixture *f)
{
    MDB_dbi later[] = {f->store->leases, f->store->lease_keys, f->store->xattrs, f->store->locks, f->store->usage};
    struct slice body;
    uint8_t words[12 * 8];
    MDB_txn *txn;

    assert_int_equal(0, mdb_txn_begin(f->store->env, NULL, 0, &txn));
    assert_int_equal(0, meta_row_get(txn, f->store->main, "state", &body));
    memcpy(words, body.data, sizeof(words));
    assert_int_equal(0, meta_row_put(txn, f->store->main, "state", slice_make(words, sizeof(words))));
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
        assert_int_equal(0, mdb_drop(txn, later[i], 1));
    assert_int_equal(0, mdb_txn_commit(txn));
    store_close(f->store);
    f->store = NULL;
}

#endif
