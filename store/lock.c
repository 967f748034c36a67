#include <errno.h>

#include "store/env.h"

int store_lock_query(struct store_read *r, const struct lock_op *op, struct lock_op *ret_conflict, bool *ret_found)
{
    *ret_found = false;
    return 0;
}

int store_locks(struct store_read *r, store_lock_fn emit, void *ctx)
{
    return 0;
}
