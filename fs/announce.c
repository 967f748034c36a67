#include "fs/announce.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "fs/steps.h"

#define TABLE_SIZE 65536
#define OLDEST_LOOKS 1000 /* records are nearly in the order in which they came */

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct dirty **slot_of(const struct announce *a, const struct inode *dir, struct slice name)
{
    uint64_t h = dir->id * 0x9e3779b97f4a7c15ULL;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ name.data[i]) * 0x100000001b3ULL;
    h ^= h >> 29;
    return &a->table[h & (a->size - 1)];
}

int announce_init(struct announce *a)
{
    *a = (struct announce){.size = TABLE_SIZE};
    list_init(&a->queue);
    list_init(&a->delayed);
    list_init(&a->steps);
    a->table = calloc(TABLE_SIZE, sizeof(struct dirty *));
    return a->table != NULL ? 0 : -ENOMEM;
}

void announce_fini(struct announce *a, struct inode_table *t)
{
    if (a->table == NULL)
        return;
    steps_give_up_all(a, t);
    if (!list_empty(&a->steps)) /* the one that was under way */
        steps_give_up(a, t, steps_first(a));
    while (!list_empty(&a->queue))
        announce_drop(a, t, LIST_ITEM(a->queue.next, struct dirty, queue));
    while (!list_empty(&a->delayed))
        announce_drop(a, t, LIST_ITEM(a->delayed.next, struct dirty, queue));
    free(a->table);
    a->table = NULL;
}

struct dirty *announce_find(const struct announce *a, const struct inode *dir, struct slice name)
{
    struct dirty *d = *slot_of(a, dir, name);

    while (d != NULL && (d->dir != dir || !slice_equal(d->name, name)))
        d = d->next;
    return d;
}

static void take_node(struct dirty *d, const struct seen *told)
{
    d->told = *told;
    if (d->told.node != NULL) {
        inode_hold(d->told.node);
        d->told.node->shown = d;
    }
}

static void leave_node(struct inode_table *t, struct dirty *d)
{
    struct inode *node = d->told.node;

    d->told.node = NULL;
    if (node == NULL)
        return;
    if (node->shown == d)
        node->shown = NULL;
    inode_release(t, node);
}

struct dirty *announce_add(struct announce *a, struct inode *dir, struct slice name, const struct seen *told)
{
    struct dirty *d, **slot = slot_of(a, dir, name);
    uint8_t *copy;

    if (a->count >= ANNOUNCE_MAX_NAMES)
        return NULL;
    d = calloc(1, sizeof(*d));
    copy = malloc(name.len + 1);
    if (d == NULL || copy == NULL) {
        free(d);
        free(copy);
        return NULL;
    }
    memcpy(copy, name.data, name.len);
    copy[name.len] = 0;
    d->name = slice_make(copy, name.len);
    d->dir = dir;
    d->since_ms = now_ms();
    inode_hold(dir);
    take_node(d, told);
    d->next = *slot;
    *slot = d;
    list_push_back(&a->queue, &d->queue);
    a->count++;
    dir->n_dirty++;
    return d;
}

void announce_tell(struct announce *a, struct inode_table *t, struct dirty *d, const struct seen *told)
{
    struct inode *keep = told->node;

    if (keep != NULL)
        inode_hold(keep);
    leave_node(t, d);
    take_node(d, told);
    if (keep != NULL)
        inode_release(t, keep);
}

void announce_drop(struct announce *a, struct inode_table *t, struct dirty *d)
{
    struct dirty **at = slot_of(a, d->dir, d->name);

    assert(d->steps == 0);
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    list_remove(&d->queue);
    a->count--;
    d->dir->n_dirty--;
    leave_node(t, d);
    inode_release(t, d->dir);
    free((void *)d->name.data);
    free(d);
}

void announce_later(struct announce *a, struct dirty *d, uint64_t not_before_ms)
{
    list_remove(&d->queue);
    list_push_back(&a->delayed, &d->queue);
    d->not_before_ms = not_before_ms;
}

uint64_t announce_wake(struct announce *a, uint64_t now_ms)
{
    uint64_t earliest_ms = UINT64_MAX;

    LIST_FOREACH_SAFE(it, &a->delayed) {
        struct dirty *d = LIST_ITEM(it, struct dirty, queue);

        if (d->not_before_ms <= now_ms) {
            list_remove(it);
            list_push_back(&a->queue, it);
        } else if (d->not_before_ms < earliest_ms) {
            earliest_ms = d->not_before_ms;
        }
    }
    return earliest_ms;
}

static void find_oldest(const struct list *queue, uint64_t *oldest_ms)
{
    unsigned looks = 0;

    LIST_FOREACH(it, queue) {
        const struct dirty *d = LIST_ITEM(it, struct dirty, queue);

        if (*oldest_ms == 0 || d->since_ms < *oldest_ms)
            *oldest_ms = d->since_ms;
        if (++looks == OLDEST_LOOKS)
            break;
    }
}

uint64_t announce_oldest(const struct announce *a)
{
    uint64_t oldest_ms = 0;

    find_oldest(&a->queue, &oldest_ms);
    find_oldest(&a->delayed, &oldest_ms);
    if (!list_empty(&a->steps)) {
        const struct dirty *d = steps_first(a)->to;

        if (oldest_ms == 0 || d->since_ms < oldest_ms)
            oldest_ms = d->since_ms;
    }
    return oldest_ms;
}

bool seen_same(const struct seen *a, const struct seen *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == 0)
        return true;
    if (a->node != NULL && b->node != NULL)
        return a->node == b->node;
    if (a->type == S_IFDIR && (a->implicit || b->implicit))
        return true; /* such a directory is its place */
    return a->ino == b->ino;
}

bool announce_has_below(const struct announce *a, const struct inode *dir)
{
    return dir->n_dirty != 0;
}
