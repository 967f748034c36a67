/* lease.h - what others need of leases: an id of a new one, and the command that grants it.
 *
 * Process: quorumfs-grpc.
 * Thread:  any.
 * Errors:  0 for an id that could not be had.
 * Memory:  none kept.
 * Units:   seconds. */
#ifndef SIDECAR_LEASE_H
#define SIDECAR_LEASE_H

#include "base/bytes.h"

#define LEASE_TTL_MAX_S 9000000000 /* etcd's */

/* Random, positive: the proposer chooses, as the log holds no 0. */
int64_t lease_new_id(void);
/* LeaseGrantRequest. */
void lease_grant_encode(int64_t id, int64_t ttl_s, struct bytes *out);

#endif
