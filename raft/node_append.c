/* node_append.c - appends of the core as frames of bounded size.
 *
 * The core makes one message of all that a follower needs, up to the end of the log. What is old is read from file, so one turn
 * of the loop sends a piece of it, and the next turns go on: until all is sent, or as much as may wait for one follower.
 * Meanwhile what the core says to that follower joins the rest, and its heartbeats stand where the rest begins; unless the
 * core begins again in front of that, which ends the rest. What is not sent in the end makes the follower ask: it refuses
 * what comes behind the gap. The receiver need not know which frames were one message. */
#include "raft/node_state.h"

#include <errno.h>

static size_t piece_bytes(const struct node *n)
{
    return n->config.append_piece_bytes != 0 ? n->config.append_piece_bytes : NODE_APPEND_PIECE_BYTES;
}

/* Reads entries for one frame; how many there are in ret_count. What the log does not have ends the frame:
 * the follower refuses what comes behind a gap and the core starts again from what it has. */
static int gather(struct node *n, uint64_t index, uint64_t last, size_t *ret_count, size_t *ret_bytes)
{
    size_t count = 0, bytes = 0;

    while (index + count <= last && count < APPEND_MAX_ENTRIES && bytes < piece_bytes(n)) {
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

/* ---- the rest of a message ---- */

static struct append_rest *rest_of(struct node *n, uint64_t peer)
{
    if (n->rest_term != core_term(n->core)) {
        memset(n->rests, 0, sizeof n->rests);
        n->rest_term = core_term(n->core);
    }
    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        if (n->rests[i].peer == peer)
            return &n->rests[i];
    return NULL;
}

static void keep_rest(struct node *n, uint64_t peer, uint64_t next, uint64_t last, size_t budget_bytes)
{
    struct append_rest *free_one = rest_of(n, 0);

    if (free_one != NULL && next <= last && budget_bytes > 0)
        *free_one = (struct append_rest){peer, next, last, budget_bytes};
}

/* One frame of the entries from prev_index on, or a heartbeat when there are none. */
static int send_piece(struct node *n, struct peer_message *m, uint64_t last, size_t *ret_bytes)
{
    size_t count = 0, bytes = 0;
    int rc = m->append.prev_index < last ? gather(n, m->append.prev_index + 1, last, &count, &bytes) : 0;

    if (rc == 0) {
        m->append.entries = n->send_entries;
        m->append.n_entries = count;
        m->append.round = reads_round_for(n, m->peer);
        bytes_reset(&n->frame);
        peer_message_encode(m, &n->frame);
        send_frame(n, m->peer, &m->append);
    }
    arena_reset(&n->send_arena);
    *ret_bytes = bytes;
    return rc;
}

/* Where the rest begins, as an append without entries; false: the log has forgotten what is in front of it. */
static bool begin_at_rest(const struct node *n, const struct append_rest *r, struct peer_message *ret_m)
{
    uint64_t prev = r->next - 1, prev_term = log_term_at(n->log, prev);

    if (prev_term == 0 && prev != 0)
        return false;
    *ret_m = (struct peer_message){.type = PEER_APPEND, .peer = r->peer};
    ret_m->append.term = core_term(n->core);
    ret_m->append.prev_index = prev;
    ret_m->append.prev_term = prev_term;
    ret_m->append.commit = core_commit(n->core);
    return true;
}

/* What goes on where the rest is, or behind it, comes in its turn. */
static bool joins_rest(const struct append_rest *r, const struct peer_append *a)
{
    return a->prev_index + 1 >= r->next && a->prev_index <= r->last;
}

static int send_behind_rest(struct node *n, struct append_rest *r, const struct peer_message *message)
{
    struct peer_message m;
    size_t bytes;

    if (message->append.prev_index + message->append.n_entries > r->last)
        r->last = message->append.prev_index + message->append.n_entries;
    if (message->append.n_entries > 0 || !begin_at_rest(n, r, &m))
        return 0;
    return send_piece(n, &m, m.append.prev_index, &bytes);
}

int append_send(struct node *n, const struct peer_message *message, struct peer_message *whole)
{
    struct append_rest *r = rest_of(n, message->peer);
    struct peer_message m = *message;
    uint64_t last = m.append.prev_index + m.append.n_entries;
    size_t waiting = unsent_bytes(n, m.peer), bytes;
    int rc;

    if (r != NULL && joins_rest(r, &m.append)) {
        *whole = (struct peer_message){0};
        return send_behind_rest(n, r, message);
    }
    if (r != NULL)
        r->peer = 0;
    if (has_no_room(n, &m))
        return 0;
    m.append.round = reads_round_for(n, m.peer);
    if (same_append(whole, &m)) { /* followers that are level get the same bytes */
        send_frame(n, m.peer, &m.append);
        return 0;
    }
    *whole = m;
    rc = send_piece(n, &m, last, &bytes);
    if (m.append.n_entries != message->append.n_entries)
        *whole = (struct peer_message){0};
    if (rc == 0 && m.append.n_entries > 0 && waiting + bytes < NODE_APPEND_BYTES)
        keep_rest(n, m.peer, m.append.prev_index + m.append.n_entries + 1, last, NODE_APPEND_BYTES - waiting - bytes);
    return rc;
}

/* The next piece of one; ends when there is nothing left, or nobody to have it. */
static int send_rest(struct node *n, struct append_rest *r)
{
    struct peer_message m;
    size_t bytes = 0;
    int rc;

    if ((n->network.protocol != NULL && n->network.protocol(n->network.ctx, r->peer) == 0) || !begin_at_rest(n, r, &m)) {
        r->peer = 0;
        return 0;
    }
    rc = send_piece(n, &m, r->last, &bytes);
    r->next += m.append.n_entries;
    if (rc < 0 || m.append.n_entries == 0 || r->next > r->last || bytes >= r->budget_bytes)
        r->peer = 0;
    else
        r->budget_bytes -= bytes;
    return rc;
}

void append_pump(struct node *n)
{
    if (!node_is_leader(n) || n->rest_term != core_term(n->core))
        return;
    for (size_t i = 0; i < NODE_MAX_MEMBERS && !n->failed; i++) {
        int rc = n->rests[i].peer != 0 ? send_rest(n, &n->rests[i]) : 0;

        if (rc < 0)
            node_fail(n, rc, "the log cannot be read: %s", strerror(-rc));
    }
}

bool append_goes_on(const struct node *n)
{
    bool any = false;

    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++)
        any |= n->rests[i].peer != 0;
    return any && node_is_leader(n) && n->rest_term == core_term(n->core);
}
