/* join.h - a member that was added to a cluster finds out which one it is, before it has a data directory of its own.
 *
 * Process: node.
 * Thread:  the loop's; join_ask() runs the loop until it knows.
 * Errors:  negative errno with one line of text for the operator. -ETIMEDOUT: nobody knew within JOIN_WAIT_MS: it may
 *          mend itself.
 * Memory:  none kept.
 * Units:   milliseconds. */
#ifndef RAFT_JOIN_H
#define RAFT_JOIN_H

#include "raft/identity.h"
#include "raft/peer_frame.h"
#include "raft/transport.h"

#define JOIN_WAIT_MS 30000

struct join {
    uv_loop_t *loop;
    const struct logger *logger;
    bool known, refused;
    uint64_t cluster_id, data_id, member_id;
    char text[256]; /* what was said last */
};

/* Asks the others of --initial-cluster; answers come by join_answered(), which is the transport's answered(). */
int join_ask(struct join *j, struct transport *t, const struct config *c, struct identity *id, char *ret_text, size_t text_size);
void join_answered(struct join *j, const struct peer_answer *answer);

#endif
