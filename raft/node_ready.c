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

/* Reads entries for one frame; how many there are in ret_count. What the log does not have ends the frame:
 * the follower refuses what comes behind a gap and the core starts again from what it has. */
static int gather(struct node *n, uint64_t index, size_t max, size_t *ret_count, size_t *ret_bytes)
{
    size_t count = 0, bytes = 0;

    while (count < max && count < APPEND_MAX_ENTRIES && bytes < APPEND_FRAME_BYTES) {
        int rc = log_get(n->log, index + count, &n->send_arena, &n->send_entries[count]);

        if (rc == -ENOENT)
            break;
        if (rc < 0)
            return rc;
        bytes += n->send_entries[count].payload.len + 16;
        count++;
    }
    *ret_count = count;
    *ret_bytes = bytes;
    return 0;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static size_t unsent_bytes(const struct node *n, uint64_t peer)
{
    return n->network.unsent != NULL ? n->network.unsent(n->network.ctx, peer) : 0;
}

/* What n->frame holds is one append as a whole. */
static void send_frame(struct node *n, uint64_t to, const struct peer_append *a)
{
    node_send(n, to, PEER_APPEND, &n->frame);
    commit_was_told(n, to, min_u64(a->commit, a->prev_index + a->n_entries));
    reads_round_sent(n, to, a->round);
}

/* One message of the core as frames of bounded size: the receiver takes them as so many appends. */
static int send_append(struct node *n, const struct peer_message *message)
{
    struct peer_message m = *message;
    size_t left = message->append.n_entries, sent_bytes = unsent_bytes(n, m.peer);
    int rc = 0;

    m.append.entries = n->send_entries;
    do {
        size_t count = 0, bytes = 0;

        if (left > 0) {
            rc = gather(n, m.append.prev_index + 1, left, &count, &bytes);
            if (rc < 0)
                break;
        }
        m.append.n_entries = count;
        bytes_reset(&n->frame);
        peer_message_encode(&m, &n->frame);
        send_frame(n, m.peer, &m.append);
        m.append.round = 0; /* the first answer counts */
        if (count == 0)
            break;
        left -= count;
        sent_bytes += bytes;
        m.append.prev_index += count;
        m.append.prev_term = n->send_entries[count - 1].term;
        arena_reset(&n->send_arena);
    } while (left > 0 && sent_bytes < NODE_APPEND_BYTES);
    arena_reset(&n->send_arena);
    return rc;
}

static bool same_append(const struct peer_message *a, const struct peer_message *b)
{
    return a->type == PEER_APPEND && b->type == PEER_APPEND && a->append.prev_index == b->append.prev_index &&
           a->append.n_entries == b->append.n_entries && a->append.commit == b->append.commit &&
           a->append.round == b->append.round;
}

/* What would make the peer's queue longer than it may be is not sent: what stands there already says that this leader lives, and
 * what comes behind the gap makes the peer ask for the rest. */
static bool has_no_room(const struct node *n, const struct peer_message *m)
{
    return m->append.n_entries > 0 && unsent_bytes(n, m->peer) >= NODE_APPEND_BYTES;
}

static int send_messages(struct node *n, const struct core_ready *ready)
{
    struct peer_message whole = {0}; /* the append that n->frame holds, if it is one */

    for (size_t i = 0; i < ready->n_messages; i++) {
        struct peer_message m = ready->messages[i];
        int rc;

        if (m.type == PEER_APPEND && has_no_room(n, &m))
            continue;
        if (m.type == PEER_APPEND)
            m.append.round = reads_round_for(n, m.peer);
        if (m.type == PEER_APPEND && same_append(&whole, &m)) { /* followers that are level get the same bytes */
            send_frame(n, m.peer, &m.append);
            continue;
        }
        whole = (struct peer_message){0};
        if (m.type == PEER_APPEND) {
            rc = send_append(n, &m);
            if (rc < 0)
                return rc;
            if (m.append.n_entries <= 1)
                whole = m;
            continue;
        }
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
