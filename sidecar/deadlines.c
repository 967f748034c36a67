#include "sidecar/deadlines.h"

#include <errno.h>
#include <stdlib.h>

void deadlines_fini(struct deadlines *d)
{
    free(d->items);
    *d = (struct deadlines){0};
}

static void put_at(struct deadlines *d, size_t place, struct deadline *item)
{
    d->items[place - 1] = item;
    item->place = place;
}

static void sift(struct deadlines *d, struct deadline *item)
{
    size_t place = item->place;

    while (place > 1 && d->items[place / 2 - 1]->at_ms > item->at_ms) {
        put_at(d, place, d->items[place / 2 - 1]);
        place /= 2;
    }
    for (;;) {
        size_t child = place * 2;

        if (child > d->count)
            break;
        if (child < d->count && d->items[child]->at_ms < d->items[child - 1]->at_ms)
            child++;
        if (d->items[child - 1]->at_ms >= item->at_ms)
            break;
        put_at(d, place, d->items[child - 1]);
        place = child;
    }
    put_at(d, place, item);
}

int deadlines_add(struct deadlines *d, struct deadline *item, uint64_t at_ms)
{
    if (item->place == 0) {
        if (d->count == d->cap) {
            size_t cap = d->cap != 0 ? d->cap * 2 : 64;
            struct deadline **items = realloc(d->items, cap * sizeof *items);

            if (items == NULL)
                return -ENOMEM;
            d->items = items;
            d->cap = cap;
        }
        put_at(d, ++d->count, item);
    }
    item->at_ms = at_ms;
    sift(d, item);
    return 0;
}

void deadlines_remove(struct deadlines *d, struct deadline *item)
{
    struct deadline *last;
    size_t place = item->place;

    if (place == 0)
        return;
    item->place = 0;
    last = d->items[--d->count];
    if (last == item)
        return;
    put_at(d, place, last);
    sift(d, last);
}

struct deadline *deadlines_first(const struct deadlines *d)
{
    return d->count != 0 ? d->items[0] : NULL;
}
