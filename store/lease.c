#include <errno.h>

#include "store/env.h"

int store_lease_get(struct store_read *r, int64_t id, struct lease_info *ret_lease)
{
    return -ENOENT;
}

int store_leases(struct store_read *r, int64_t after_id, store_lease_fn emit, void *ctx)
{
    return 0;
}

int store_lease_keys(struct store_read *r, int64_t id, store_lease_key_fn emit, void *ctx)
{
    return 0;
}
