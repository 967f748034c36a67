/* inode.h - what the kernel knows of the tree: one struct inode for each node with nlookup > 0, its ancestors, and what
 * is held by handles, requests and the overlay of announced names.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  NULL without memory.
 * Memory:  an inode lives while the kernel has references (nlookup), it has children, or somebody holds it
 *          (inode_hold). It is freed by the call that takes the last of these away.
 * Units:   none.
 *
 * Invariants:
 *  - ids (fuse_ino_t) count up from 1, the root, and are never used again; a node never changes its type.
 *  - parent and name are the committed position, as users see it. A node without a parent that is not the root is
 *    *dead*: it has lost its name for users, though watchers may not have been told yet (announce.h).
 *  - a child holds its parent, so a directory moves with all that is known below it by moving one node.
 *  - of one parent and name there is at most one. */
#ifndef FS_INODE_H
#define FS_INODE_H

#include <sys/stat.h>

#include "base/list.h"
#include "base/slice.h"

struct buffer;
struct dirty;
struct virtual_kind;

struct inode {
    uint64_t id;          /* the kernel's */
    uint64_t nlookup;
    uint64_t ino;         /* the store's identity of the node, and st_ino */
    uint64_t shown_ino;   /* st_ino while it is open, if it was another when it was opened; 0: ino */
    mode_t type;          /* S_IFMT */
    bool implicit;        /* a directory that is there only for what is below it: known by its place, not its ino */
    bool fresh;           /* a file made here that is not committed yet */
    bool unlinked_here;   /* dead by a local change: writes to it go nowhere, as POSIX has it */
    bool committing;      /* a proposal with its content is under way */
    bool cached;          /* the kernel may have its attributes (cached.c) */
    unsigned holds, n_children, n_writers, n_handles;
    unsigned n_dirty;     /* names in it that watchers have yet to be told of */
    struct inode *parent; /* NULL: root or dead */
    struct slice name;    /* owned */
    struct inode *id_next, *name_next;
    struct list children, sibling;
    struct dirty *shown;  /* the name that watchers know it by, where that is another one or gone (announce.h) */
    struct buffer *buffer;
    struct list commit_waiters; /* struct waiting: want the commit under way to end */
    int64_t own_rev;      /* of the last commit made here */
    int64_t expect_rev;   /* the next commit is to find it; then the node is held. 0: nothing is expected */
    uint64_t lock_token;  /* of the last lock granted to this mount; 0: none */
    struct list locks;    /* struct lock_mark */
    bool lock_lost;       /* the session in which it was locked is over: no writes before all handles are closed */
    struct stat last;     /* attributes when it died */
    struct list untold;   /* the kernel is to be told that they changed, and could not be yet; then the node is held */
    uint64_t untold_ms;   /* since when */
    const struct virtual_kind *kind; /* of what is below .quorumfs, in a table of its own (virtual.h); else NULL */
    int64_t number;                  /* of that: a revision, an id */
};

struct inode_table {
    struct inode *root;
    uint64_t next_id;
    struct inode **by_id, **by_name;
    size_t size, count; /* size: of both tables, a power of two */
};

int inode_table_init(struct inode_table *t); /* with the root; -ENOMEM */
void inode_table_fini(struct inode_table *t);

struct inode *inode_find(const struct inode_table *t, uint64_t id);
struct inode *inode_child(const struct inode_table *t, const struct inode *parent, struct slice name);

/* A new node, held once by the caller. parent NULL: dead from the start. What has the name must be detached before. */
struct inode *inode_new(struct inode_table *t, struct inode *parent, struct slice name, mode_t type, uint64_t ino);

/* Somebody else made the file too, and first: it is that one. Programs that have it open (sqlite) take another number for another
 * file, so they go on seeing the one that they saw. */
void inode_renumber(struct inode *i, uint64_t ino);

void inode_hold(struct inode *i);
void inode_release(struct inode_table *t, struct inode *i);
void inode_looked_up(struct inode *i);
void inode_forget(struct inode_table *t, struct inode *i, uint64_t nlookup);

/* The node loses its name. The caller holds it. */
void inode_detach(struct inode_table *t, struct inode *i);
/* It gets another; also a dead one gets one again. -ENOMEM: nothing has changed. */
int inode_move(struct inode_table *t, struct inode *i, struct inode *parent, struct slice name);
/* Two nodes change places. */
void inode_exchange(struct inode_table *t, struct inode *a, struct inode *b);

/* It has no place in the tree any more, itself or with a directory above it. */
static inline bool inode_is_dead(const struct inode_table *t, const struct inode *i)
{
    while (i->parent != NULL)
        i = i->parent;
    return i != t->root;
}

bool inode_is_below(const struct inode *i, const struct inode *ancestor); /* or the same */

#endif
