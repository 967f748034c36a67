/* removed.c - members that were removed: a meta row each, for good. Their number is never given out again, and whoever comes
 * with it is refused; the row is what each member knows it by. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "store/member.h"

#define REMOVED_PREFIX "removed/"
#define REMOVED_NAME_BYTES (sizeof(REMOVED_PREFIX) + 16)

int store_batch_membership(struct store_batch *b, struct slice *ret_membership)
{
    if (b->snap.state.membership_index == 0)
        return -ENOENT;
    return meta_row_get(b->snap.txn, b->snap.store->main, "membership", ret_membership);
}

int store_batch_remove_member(struct store_batch *b, uint64_t index, uint64_t id)
{
    uint8_t body[9] = {ROW_FORMAT};
    char name[REMOVED_NAME_BYTES];
    int rc = member_forget(b, id);

    put_le64(body + 1, index);
    snprintf(name, sizeof(name), REMOVED_PREFIX "%016" PRIx64, id);
    if (rc == 0)
        rc = meta_row_put(b->snap.txn, b->snap.store->main, name, slice_make(body, sizeof(body)));
    if (rc < 0)
        b->status = rc;
    return rc;
}

int store_member_removed(struct store_read *r, uint64_t id, bool *ret_removed)
{
    char name[REMOVED_NAME_BYTES];
    struct slice body;
    int rc;

    snprintf(name, sizeof(name), REMOVED_PREFIX "%016" PRIx64, id);
    rc = meta_row_get(r->snap.txn, r->snap.store->main, name, &body);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    *ret_removed = rc == 0;
    return 0;
}
