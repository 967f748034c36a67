#include <errno.h>

#include "store/env.h"

int store_hash(struct store_read *r, uint32_t *ret_hash, int64_t *ret_revision, uint64_t *ret_applied_index)
{
    return -ENOSYS;
}

int store_hash_kv(struct store_read *r, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                  int64_t *ret_hash_revision, uint16_t *ret_status)
{
    *ret_status = STATUS_UNIMPLEMENTED;
    return 0;
}
