/* lease_table.h - the leases that the store holds, in memory: found by number, and the one that ends first at the top of a heap.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  -ENOMEM.
 * Memory:  some 100 bytes a lease; the table owns them.
 * Units:   seconds where a name says _s; deadlines are milliseconds of the lease clock (lease.c). */
#ifndef RAFT_LEASE_TABLE_H
#define RAFT_LEASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_NEVER UINT64_MAX

struct lease {
    int64_t id, ttl_s;
    int64_t noted_s;      /* what remained at the last applied checkpoint; 0: none */
    uint64_t deadline_ms; /* LEASE_NEVER: no clock runs for it */
    uint64_t fresh_ms;    /* prolonged, granted or noted last */
    uint64_t note_index;  /* of the last checkpoint that is in the log and not applied; 0: none */
    bool expiring;        /* its end is in the log, by this leader */
    bool clear;           /* a checkpoint must be taken back before a keep-alive is confirmed */
    size_t heap_at;
    struct lease *next; /* of its bucket */
};

struct lease_table {
    struct lease **buckets; /* a power of two of them */
    size_t n_buckets;
    struct lease **heap;
    size_t count, heap_cap;
};

void lease_table_init(struct lease_table *t);
void lease_table_fini(struct lease_table *t); /* empty and usable again */
struct lease *lease_table_find(const struct lease_table *t, int64_t id); /* NULL: none */
/* A lease of that number that is there already takes the new values. Its deadline is LEASE_NEVER. */
int lease_table_add(struct lease_table *t, int64_t id, int64_t ttl_s, int64_t noted_s, struct lease **ret_lease);
void lease_table_remove(struct lease_table *t, struct lease *l);
void lease_table_set_deadline(struct lease_table *t, struct lease *l, uint64_t deadline_ms);
/* No deadline for any of them: nothing is due any more. */
void lease_table_stop_all(struct lease_table *t);
/* Puts the heap in order after the caller has written deadlines of many into heap[]. */
void lease_table_order(struct lease_table *t);
struct lease *lease_table_first(const struct lease_table *t); /* NULL: none has a deadline */

#endif
