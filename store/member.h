/* member.h - inside store/: what members published about themselves, a meta row each.
 *
 * Process: any reads, the node writes.  Thread: the snapshot's.  Errors: negative errno.
 * Memory:  reads stand in the given arena.  Units: none. */
#ifndef STORE_MEMBER_H
#define STORE_MEMBER_H

#include "store/batch.h"

int member_save(struct store_batch *b, const struct member_info *member, uint16_t *ret_status);
int member_forget(struct store_batch *b, uint64_t id); /* 0 also when it never published anything */

#endif
