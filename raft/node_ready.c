/* node_ready.c - carries out what one step of the core asks for: hard state, entries, messages, in this order. */
#include "raft/node_state.h"

#include <errno.h>

static int keep_entries(struct node *n, const struct core_ready *ready)
{
    int rc = 0;

    if (ready->entries[0].index <= log_last_index(n->log))
        rc = log_truncate(n->log, ready->entries[0].index);
    if (rc == 0)
        rc = log_append(n->log, ready->entries, ready->n_entries);
    for (size_t i = 0; i < ready->n_entries; i++)
        n->unflushed_bytes += ready->entries[i].payload.len;
    return rc;
}

static int send_messages(struct node *n, const struct core_ready *ready)
{
    struct peer_message whole = {0}; /* the append that n->frame holds, if it is one */

    for (size_t i = 0; i < ready->n_messages; i++) {
        struct peer_message m = ready->messages[i];

        if (m.type == PEER_APPEND) {
            int rc = append_send(n, &m, &whole);

            if (rc < 0)
                return rc;
            continue;
        }
        whole = (struct peer_message){0};
        if (m.type == PEER_APPEND_RESULT)
            m.append_result.round = reads_round_back(n, m.peer, m.append_result.term);
        bytes_reset(&n->frame);
        peer_message_encode(&m, &n->frame);
        node_send(n, m.peer, (uint8_t)m.type, &n->frame);
    }
    return 0;
}

int node_ready(void *ctx, const struct core_ready *ready)
{
    struct node *n = ctx;
    struct log_hard_state hs = log_hard_state(n->log);
    int rc = 0;

    if (ready->hard_state_changed &&
        (hs.term != ready->hard_state.term || hs.voted_for != ready->hard_state.voted_for))
        rc = log_set_hard_state(n->log, ready->hard_state);
    if (rc == 0 && ready->n_entries > 0)
        rc = keep_entries(n, ready);
    if (rc == 0 && ready->n_messages > 0)
        rc = send_messages(n, ready);
    if (rc == 0 && ready->leaving)
        commit_tell_all(n, ready->commit);
    if (ready->snapshot_peer != 0)
        snapshots_wanted(n, ready->snapshot_peer);
    return rc;
}
