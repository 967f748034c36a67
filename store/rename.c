#include <errno.h>

#include "store/apply.h"

int apply_rename(struct apply *a, struct result *ret_result)
{
    ret_result->status = STATUS_UNIMPLEMENTED;
    return 0;
}
