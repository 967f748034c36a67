/* member.h - the rules of a change of membership: what it may be, and what the members are then. No state.
 *
 * Process: node (the leader).
 * Thread:  pure functions.
 * Errors:  a status, with etcd's texts.
 * Memory:  results borrow from what they were given.
 * Units:   indexes from 1.
 *
 * The checks are etcd's "strict reconfiguration check": a change that would leave the cluster without a quorum of members
 * that have been started and can be reached is refused while it is still a choice. */
#ifndef RAFT_MEMBER_H
#define RAFT_MEMBER_H

#include "base/status.h"
#include "raft/core.h"
#include "raft/node.h"

/* The first four are socket_member_op's; both are on the wire. */
enum member_op {
    MEMBER_ADD = 1,
    MEMBER_REMOVE = 2,
    MEMBER_UPDATE = 3, /* other peer URLs */
    MEMBER_PROMOTE = 4,
    MEMBER_MOVE_LEADER = 6, /* id 0: to whoever is fit for it */
};

struct member_state {
    struct core_member member;
    bool started;   /* it has published its name, so it has run */
    bool connected; /* this leader's own connection; true for itself */
    uint64_t match_index;
    bool older; /* its program is of the first version, in which memberships did not change */
};

struct member_view {
    uint64_t self;
    uint64_t last_index; /* of the leader */
    const struct member_state *members;
    size_t n;
    size_t max_learners;
    bool strict;
};

struct member_change {
    enum member_op op;
    bool learner;
    uint64_t id;           /* of ADD: the new member's number */
    const char *peer_urls; /* as typed; ADD, UPDATE */
};

#define MEMBER_URLS_MAX_BYTES PEER_URLS_MAX_BYTES

/* The list as it is after that change in ret_members (room for n + 1). urls is where the canonical spelling of peer_urls goes.
 * For MOVE_LEADER only whether it may be. */
uint16_t member_change_apply(const struct member_view *v, const struct member_change *change, char *urls, size_t urls_size,
                             struct core_member *ret_members, size_t *ret_n);
/* Comma-separated URLs in canonical spelling and sorted; false: they are none. */
bool member_urls_canonical(const char *text, char *ret_urls, size_t size);

#endif
