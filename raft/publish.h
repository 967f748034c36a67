/* publish.h - what a member tells the cluster of itself: its name and its clients' addresses.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  negative errno.
 * Memory:  as each function says.
 * Units:   none. */
#ifndef RAFT_PUBLISH_H
#define RAFT_PUBLISH_H

#include "base/bytes.h"
#include "raft/config.h"
#include "store/store.h"

/* Whether the store holds already what c says of member id. A false answer costs a command, no more. */
bool publish_is_current(struct store *s, uint64_t id, uint64_t instance, const struct config *c);
/* Whether the cluster's version is this program's: every member has published, and all know that. */
bool publish_is_known(struct store *s);
/* Appends the command that says it. */
int publish_encode(uint64_t id, uint64_t instance, const struct config *c, struct bytes *out);

#endif
