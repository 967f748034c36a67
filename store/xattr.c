#include <errno.h>

#include "store/env.h"

int store_xattr_get(struct store_read *r, struct slice path, struct slice name, struct arena *arena,
                    struct slice *ret_value)
{
    return -ENODATA;
}

int store_xattr_list(struct store_read *r, struct slice path, store_xattr_fn emit, void *ctx)
{
    return 0;
}

int store_xattr_get_ino(struct store_read *r, uint64_t ino, struct slice name, struct arena *arena,
                        struct slice *ret_value)
{
    return -ENODATA;
}

int store_xattr_list_ino(struct store_read *r, uint64_t ino, store_xattr_fn emit, void *ctx)
{
    return 0;
}
