#include "fs/inode.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TABLE_MIN 256

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    return x ^ x >> 32;
}

static uint64_t name_hash(uint64_t parent_id, struct slice name)
{
    uint64_t h = mix(parent_id);

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ name.data[i]) * 0x100000001b3ULL;
    return mix(h);
}

static struct inode **id_slot(const struct inode_table *t, uint64_t id)
{
    return &t->by_id[mix(id) & (t->size - 1)];
}

static struct inode **name_slot(const struct inode_table *t, const struct inode *parent, struct slice name)
{
    return &t->by_name[name_hash(parent->id, name) & (t->size - 1)];
}

static void link_name(struct inode_table *t, struct inode *i)
{
    struct inode **slot = name_slot(t, i->parent, i->name);

    i->name_next = *slot;
    *slot = i;
}

static void unlink_name(struct inode_table *t, struct inode *i)
{
    struct inode **at = name_slot(t, i->parent, i->name);

    while (*at != i)
        at = &(*at)->name_next;
    *at = i->name_next;
}

/* Best effort: without memory the chains grow longer, nothing else. */
static void grow(struct inode_table *t)
{
    size_t old_size = t->size;
    struct inode **old = t->by_id, **by_id, **by_name;

    by_id = calloc(old_size * 2, sizeof(struct inode *));
    by_name = calloc(old_size * 2, sizeof(struct inode *));
    if (by_id == NULL || by_name == NULL) {
        free(by_id);
        free(by_name);
        return;
    }
    free(t->by_name);
    t->by_id = by_id;
    t->by_name = by_name;
    t->size = old_size * 2;
    for (size_t s = 0; s < old_size; s++) {
        for (struct inode *i = old[s], *next; i != NULL; i = next) {
            struct inode **slot = id_slot(t, i->id);

            next = i->id_next;
            i->id_next = *slot;
            *slot = i;
            if (i->parent != NULL)
                link_name(t, i);
        }
    }
    free(old);
}

static int copy_name(struct slice name, struct slice *ret_copy)
{
    uint8_t *copy = malloc(name.len + 1);

    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, name.data, name.len);
    copy[name.len] = 0;
    *ret_copy = slice_make(copy, name.len);
    return 0;
}

static void attach(struct inode_table *t, struct inode *i, struct inode *parent)
{
    assert(parent != i && parent->type == S_IFDIR);
    i->parent = parent;
    parent->n_children++;
    list_push_back(&parent->children, &i->sibling);
    link_name(t, i);
}

static struct inode *make(struct inode_table *t, mode_t type, uint64_t ino)
{
    struct inode *i = calloc(1, sizeof(*i)), **slot;

    if (i == NULL)
        return NULL;
    i->id = t->next_id++;
    i->ino = ino;
    i->type = type;
    i->holds = 1;
    list_init(&i->children);
    list_init(&i->sibling);
    list_init(&i->commit_waiters);
    list_init(&i->locks);
    list_init(&i->untold);
    slot = id_slot(t, i->id);
    i->id_next = *slot;
    *slot = i;
    t->count++;
    return i;
}

int inode_table_init(struct inode_table *t)
{
    *t = (struct inode_table){.size = TABLE_MIN, .next_id = 1};
    t->by_id = calloc(TABLE_MIN, sizeof(struct inode *));
    t->by_name = calloc(TABLE_MIN, sizeof(struct inode *));
    if (t->by_id != NULL && t->by_name != NULL)
        t->root = make(t, S_IFDIR, 1);
    if (t->root == NULL) {
        inode_table_fini(t);
        return -ENOMEM;
    }
    return 0;
}

void inode_table_fini(struct inode_table *t)
{
    for (size_t s = 0; t->by_id != NULL && s < t->size; s++) {
        for (struct inode *i = t->by_id[s], *next; i != NULL; i = next) {
            next = i->id_next;
            free((void *)i->name.data);
            free(i);
        }
    }
    free(t->by_id);
    free(t->by_name);
    *t = (struct inode_table){0};
}

struct inode *inode_find(const struct inode_table *t, uint64_t id)
{
    struct inode *i = *id_slot(t, id);

    while (i != NULL && i->id != id)
        i = i->id_next;
    return i;
}

struct inode *inode_child(const struct inode_table *t, const struct inode *parent, struct slice name)
{
    struct inode *i = *name_slot(t, parent, name);

    while (i != NULL && (i->parent != parent || !slice_equal(i->name, name)))
        i = i->name_next;
    return i;
}

struct inode *inode_new(struct inode_table *t, struct inode *parent, struct slice name, mode_t type, uint64_t ino)
{
    struct slice copy;
    struct inode *i;

    if (copy_name(name, &copy) < 0)
        return NULL;
    if (t->count >= t->size)
        grow(t);
    i = make(t, type, ino);
    if (i == NULL) {
        free((void *)copy.data);
        return NULL;
    }
    i->name = copy;
    if (parent != NULL) {
        assert(inode_child(t, parent, name) == NULL);
        attach(t, i, parent);
    }
    return i;
}

/* ---- life ---- */

static void leave_parent(struct inode_table *t, struct inode *i)
{
    unlink_name(t, i);
    list_remove(&i->sibling);
    i->parent->n_children--;
    i->parent = NULL;
}

/* Frees i if nobody needs it, then its parent likewise, and so on upwards. */
static void collect(struct inode_table *t, struct inode *i)
{
    while (i != NULL && i != t->root && i->nlookup == 0 && i->holds == 0 && i->n_children == 0) {
        struct inode *parent = i->parent, **at = id_slot(t, i->id);

        assert(i->shown == NULL && i->buffer == NULL);
        if (parent != NULL)
            leave_parent(t, i);
        while (*at != i)
            at = &(*at)->id_next;
        *at = i->id_next;
        t->count--;
        free((void *)i->name.data);
        free(i);
        i = parent;
    }
}

void inode_renumber(struct inode *i, uint64_t ino)
{
    if (i->ino != ino && i->type == S_IFREG && i->n_handles > 0 && i->shown_ino == 0)
        i->shown_ino = i->ino;
    i->ino = ino;
}

void inode_hold(struct inode *i)
{
    i->holds++;
}

void inode_release(struct inode_table *t, struct inode *i)
{
    assert(i->holds > 0);
    i->holds--;
    collect(t, i);
}

void inode_looked_up(struct inode *i)
{
    i->nlookup++;
}

void inode_forget(struct inode_table *t, struct inode *i, uint64_t nlookup)
{
    i->nlookup -= nlookup < i->nlookup ? nlookup : i->nlookup; /* the kernel's word is checked, not trusted */
    collect(t, i);
}

/* ---- moving ---- */

void inode_detach(struct inode_table *t, struct inode *i)
{
    struct inode *parent = i->parent;

    assert(i->holds > 0);
    if (parent == NULL)
        return;
    leave_parent(t, i);
    collect(t, parent);
}

int inode_move(struct inode_table *t, struct inode *i, struct inode *parent, struct slice name)
{
    struct inode *old = i->parent;
    struct slice copy;

    assert(inode_child(t, parent, name) == NULL && !inode_is_below(parent, i));
    if (copy_name(name, &copy) < 0)
        return -ENOMEM;
    if (old != NULL)
        leave_parent(t, i);
    free((void *)i->name.data);
    i->name = copy;
    attach(t, i, parent);
    if (old != NULL)
        collect(t, old);
    return 0;
}

void inode_exchange(struct inode_table *t, struct inode *a, struct inode *b)
{
    struct inode *a_parent = a->parent, *b_parent = b->parent;
    struct slice name = a->name;

    assert(a_parent != NULL && b_parent != NULL && !inode_is_below(a, b) && !inode_is_below(b, a));
    leave_parent(t, a);
    leave_parent(t, b);
    a->name = b->name;
    b->name = name;
    attach(t, a, b_parent);
    attach(t, b, a_parent);
}

bool inode_is_below(const struct inode *i, const struct inode *ancestor)
{
    while (i != NULL && i != ancestor)
        i = i->parent;
    return i == ancestor;
}
