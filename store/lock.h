/* lock.h - inside store/: cluster-wide file locks.
 *
 * Process: the node.  Thread: the batch's.
 * Errors:  negative errno.
 * Memory:  borrows.
 * Units:   bytes of a file. */
#ifndef STORE_LOCK_H
#define STORE_LOCK_H

#include "store/apply.h"

int apply_lock(struct apply *a, struct result *result);
/* Every lock and waiter of a lease goes; who waited for them gets them. */
int lock_release_lease(struct apply *a, int64_t lease);

#endif
