/* The client's requests: a table by ticket, a heap by the moment at which each wants attention, and the lanes. */
#include "raft/client_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/command.h"

#define TABLE_MIN 64

int requests_init(struct client *c)
{
    list_init(&c->queue);
    list_init(&c->sent);
    list_init(&c->wait_lane);
    list_init(&c->doomed);
    c->next_ticket = 1;
    if (getrandom(c->session_seed, sizeof(c->session_seed), 0) != sizeof(c->session_seed))
        return -EIO;
    c->table = calloc(TABLE_MIN, sizeof(struct request *));
    if (c->table == NULL)
        return -ENOMEM;
    c->table_size = TABLE_MIN;
    for (size_t i = 0; i < CLIENT_LANES; i++)
        lane_renew(c, &c->lanes[i]);
    return 0;
}

void requests_fini(struct client *c)
{
    free(c->table);
    free(c->heap);
}

/* ---- heap ---- */

static void heap_put(struct client *c, size_t at, struct request *r)
{
    c->heap[at] = r;
    r->heap_at = at;
}

static void heap_settle(struct client *c, struct request *r)
{
    size_t at = r->heap_at;

    while (at > 0 && c->heap[(at - 1) / 2]->wake_ms > r->wake_ms) {
        heap_put(c, at, c->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < c->heap_size && c->heap[child + 1]->wake_ms < c->heap[child]->wake_ms)
            child++;
        if (child >= c->heap_size || c->heap[child]->wake_ms >= r->wake_ms)
            break;
        heap_put(c, at, c->heap[child]);
        at = child;
    }
    heap_put(c, at, r);
}

static void heap_remove(struct client *c, struct request *r)
{
    struct request *last = c->heap[--c->heap_size];

    if (last == r)
        return;
    heap_put(c, r->heap_at, last);
    heap_settle(c, last);
}

/* ---- table ---- */

static int table_grow(struct client *c)
{
    size_t size = c->table_size * 2;
    struct request **table = calloc(size, sizeof(struct request *));

    if (table == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->table_size; i++) {
        while (c->table[i] != NULL) {
            struct request *r = c->table[i];

            c->table[i] = r->table_next;
            r->table_next = table[r->ticket & (size - 1)];
            table[r->ticket & (size - 1)] = r;
        }
    }
    free(c->table);
    c->table = table;
    c->table_size = size;
    return 0;
}

int request_add(struct client *c, struct request *r)
{
    struct request **slot;

    if (c->heap_size == c->heap_cap) {
        size_t cap = c->heap_cap != 0 ? c->heap_cap * 2 : TABLE_MIN;
        struct request **heap = realloc(c->heap, cap * sizeof(struct request *));

        if (heap == NULL)
            return -ENOMEM;
        c->heap = heap;
        c->heap_cap = cap;
    }
    if (c->n_requests >= c->table_size && table_grow(c) < 0)
        return -ENOMEM;
    slot = &c->table[r->ticket & (c->table_size - 1)];
    r->table_next = *slot;
    *slot = r;
    r->heap_at = c->heap_size++;
    heap_settle(c, r);
    c->n_requests++;
    c->queued_bytes += r->payload_bytes;
    return 0;
}

struct request *request_find(const struct client *c, uint64_t ticket)
{
    struct request *r = c->table[ticket & (c->table_size - 1)];

    while (r != NULL && r->ticket != ticket)
        r = r->table_next;
    return r;
}

void request_set_wake(struct client *c, struct request *r, uint64_t wake_ms)
{
    r->wake_ms = wake_ms;
    heap_settle(c, r);
}

void request_move(struct client *c, struct request *r, enum request_state state)
{
    list_remove(&r->link);
    r->state = state;
    switch (state) {
    case STATE_QUEUED:
        list_push_back(&c->queue, &r->link);
        break;
    case STATE_WAIT_LANE:
        list_push_back(&c->wait_lane, &r->link);
        break;
    case STATE_SENT:
        list_push_back(&c->sent, &r->link);
        break;
    case STATE_DELAYED:
        break;
    case STATE_DOOMED:
        list_push_back(&c->doomed, &r->link);
        break;
    }
}

/* ---- lanes ---- */

void lane_renew(struct client *c, struct lane *l)
{
    do {
        /* splitmix64 over two random words: distinct for each turn, and never a failure in the middle of things. */
        uint64_t z = c->session_seed[0] + ++c->sessions_made * 0x9e3779b97f4a7c15ULL;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        l->session = z ^ (z >> 31) ^ c->session_seed[1];
    } while (l->session == 0);
    l->sequence = 0;
}

void lane_stamp(struct client *c, struct request *r)
{
    const struct lane *l = &c->lanes[r->lane];

    command_set_session(r->payload.data, l->session, l->sequence + 1);
}

void lane_take(struct client *c, struct request *r)
{
    if (c->busy_lanes == UINT64_MAX) {
        request_move(c, r, STATE_WAIT_LANE);
        return;
    }
    r->lane = __builtin_ctzll(~c->busy_lanes);
    c->busy_lanes |= 1ULL << r->lane;
    c->lanes[r->lane].request = r;
    lane_stamp(c, r);
    request_move(c, r, STATE_QUEUED);
}

static void lane_release(struct client *c, struct request *r)
{
    struct lane *l = &c->lanes[r->lane];

    assert(l->request == r);
    l->request = NULL;
    c->busy_lanes &= ~(1ULL << r->lane);
    r->lane = -1;
    if (!list_empty(&c->wait_lane))
        lane_take(c, LIST_ITEM(c->wait_lane.next, struct request, link));
}

void request_remove(struct client *c, struct request *r)
{
    struct request **slot = &c->table[r->ticket & (c->table_size - 1)];

    list_remove(&r->link);
    if (r->state == STATE_DOOMED)
        return;
    while (*slot != r)
        slot = &(*slot)->table_next;
    *slot = r->table_next;
    heap_remove(c, r);
    c->n_requests--;
    c->queued_bytes -= r->payload_bytes;
    if (r->lane >= 0)
        lane_release(c, r);
}

void request_free(struct request *r)
{
    bytes_fini(&r->payload);
    free(r);
}
