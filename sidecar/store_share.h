/* store_share.h - the store's environment as the loops of one process share it: LMDB allows one opening of a path in a process.
 *
 * Process: quorumfs-grpc.
 * Thread:  any; each reads with transactions of its own.
 * Errors:  those of store_open(); -EAGAIN: the store that is there is older than asked for.
 * Memory:  a lease keeps its store open; the last one closes it.
 * Units:   none. */
#ifndef SIDECAR_STORE_SHARE_H
#define SIDECAR_STORE_SHARE_H

#include "store/store.h"

struct store_share;
struct store_lease;

struct store_share *store_share_new(void); /* NULL without memory */
void store_share_free(struct store_share *s); /* when all leases are back; NULL is fine */

/* Of the store in dir, at least of this epoch: opened, or the one that is open already. */
int store_share_open(struct store_share *s, const char *dir, uint64_t epoch, struct store_lease **ret_lease);
struct store_lease *store_lease_ref(struct store_lease *l);
void store_lease_unref(struct store_lease *l); /* NULL is fine */
struct store *store_lease_store(const struct store_lease *l);
uint64_t store_lease_epoch(const struct store_lease *l);

#endif
