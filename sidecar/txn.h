/* txn.h - transactions that only read: evaluated on a snapshot, without an entry in the log.
 *
 * Process: quorumfs-grpc.
 * Thread:  any, with a struct store_read of its own.
 * Errors:  negative errno for the reading; what is wrong with a range is a status.
 * Memory:  results stand in the arena, their bytes there or in the map.
 * Units:   bytes. */
#ifndef SIDECAR_TXN_H
#define SIDECAR_TXN_H

#include "store/store.h"

/* Whether no operation of either branch writes, and whether all of its ranges are content with this member's state. */
bool txn_is_read_only(const struct txn *txn, bool *ret_serializable);
/* The txn on a snapshot, its results in arena. *ret_status: OK, or what is wrong with one of its ranges. */
int txn_read(struct store_read *r, const struct txn *txn, struct arena *arena, size_t max_bytes, struct txn_result *ret_result,
             uint16_t *ret_status);

#endif
