/* lease_message.h - what members say to each other about leases: the payloads of LEASE and LEASE_REPLY (docs/peer.md).
 *
 * Process: node.
 * Thread:  pure functions.
 * Errors:  -EBADMSG, -EPROTONOSUPPORT as in message.h; -ENOMEM.
 * Memory:  arrays from the arena.
 * Units:   seconds. */
#ifndef RAFT_LEASE_MESSAGE_H
#define RAFT_LEASE_MESSAGE_H

#include "raft/message.h"

#define LEASE_FRAME_ITEMS 4096

struct peer_lease_item {
    bool prolong; /* else a question for its time */
    int64_t id;
};

struct peer_lease {
    uint64_t sequence;
    const struct peer_lease_item *items;
    size_t n_items; /* at least one */
};

struct peer_lease_answer {
    uint16_t status; /* base/status.h */
    int64_t granted_s, remaining_s;
};

struct peer_lease_reply {
    uint64_t sequence;
    const struct peer_lease_answer *answers; /* one for each item, in its place; none: this is not the leader */
    size_t n_answers;
};

void peer_lease_encode(const struct peer_lease *m, struct bytes *out);
int peer_lease_decode(struct slice in, struct arena *arena, struct peer_lease *ret_m);
void peer_lease_reply_encode(const struct peer_lease_reply *m, struct bytes *out);
int peer_lease_reply_decode(struct slice in, struct arena *arena, struct peer_lease_reply *ret_m);

#endif
