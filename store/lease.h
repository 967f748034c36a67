/* lease.h - inside store/: leases, and which keys hang on them.
 *
 * Process: the node; lease_get() any.  Thread: that of the snapshot.
 * Errors:  negative errno; -ENOENT: no such lease.
 * Memory:  borrows.
 * Units:   seconds. */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include "store/apply.h"

int lease_get(struct snap *p, int64_t id, struct lease_info *ret_lease);
/* *ret_status: OK or LEASE_NOT_FOUND. */
int lease_check(struct snap *p, int64_t id, uint16_t *ret_status);
/* A key's row changes: before or after is NULL where there is none. */
int lease_note(struct apply *a, struct slice key, const struct node *before, const struct node *after);

#endif
