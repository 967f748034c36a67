/* deadlines.h - many points in time, one timer: a binary heap whose places stand in the items.
 *
 * Process: quorumfs-grpc.
 * Thread:  one owner.
 * Errors:  -ENOMEM.
 * Memory:  the heap owns an array of pointers; items belong to their owners, who remove them before they go.
 * Units:   milliseconds of the loop's clock. */
#ifndef SIDECAR_DEADLINES_H
#define SIDECAR_DEADLINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct deadline {
    uint64_t at_ms;
    size_t place; /* 1-based; 0: not in a heap */
};

struct deadlines {
    struct deadline **items;
    size_t count, cap;
};

void deadlines_fini(struct deadlines *d);
int deadlines_add(struct deadlines *d, struct deadline *item, uint64_t at_ms); /* moves it if it is in */
void deadlines_remove(struct deadlines *d, struct deadline *item);             /* also when it is not in */
struct deadline *deadlines_first(const struct deadlines *d);                   /* NULL: none */

#endif
