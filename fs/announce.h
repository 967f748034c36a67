/* announce.h - the names for which this kernel's watchers have been told something else than what is committed.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  NULL without memory or at ANNOUNCE_MAX_NAMES; the caller counts it.
 * Memory:  a record holds its directory and its node.
 * Units:   milliseconds of CLOCK_MONOTONIC.
 *
 * Two namespaces: *committed*, what users see, and *announced*, what inotify's readers have been told. A name
 * that has no record here is the same in both. A record says what the name was announced as; what it is now is
 * asked when its turn comes. Between the two stand the steps of steps.h, one for each change; what is not a step is told as one:
 * any number of changes to one name while it waits is one echo, and a change that was undone is none.
 *
 * A record leaves the queue when announced equals committed and nothing else is to be told. */
#ifndef FS_ANNOUNCE_H
#define FS_ANNOUNCE_H

#include "fs/inode.h"

#define ANNOUNCE_MAX_NAMES (1u << 20)
#define ANNOUNCE_PACE_NAMES 2000 /* a longer queue is worked off more slowly, for readers with a queue of 16,384 events */

struct seen { /* what a name is */
    mode_t type;        /* S_IFMT; 0: nothing */
    bool implicit;
    uint64_t ino;
    struct inode *node; /* NULL: not known to the kernel */
};

struct dirty {
    struct list queue;
    struct dirty *next;       /* of its hash chain */
    struct inode *dir;
    struct slice name;        /* owned */
    struct seen told;         /* announced */
    bool content, attributes; /* changed since told */
    bool behind;              /* what it is now is not what its steps lead to (steps.h) */
    unsigned steps;           /* that are to be taken first; then it is in no queue */
    struct seen next_told;    /* after them; its node is not said */
    unsigned tries;
    uint64_t not_before_ms;
    uint64_t since_ms;        /* when it came here */
};

struct announce {
    struct list queue;   /* to be tried, in order */
    struct list delayed; /* tried without success: not before a moment; they stand in nobody's way */
    struct list steps;   /* steps.h */
    size_t n_steps;
    bool steps_full;     /* there were STEPS_MAX, and not all have been taken yet */
    struct dirty **table;
    size_t size, count;
};

int announce_init(struct announce *a);
void announce_fini(struct announce *a, struct inode_table *t);

struct dirty *announce_find(const struct announce *a, const struct inode *dir, struct slice name);
/* There is no record of the name yet. It goes to the end of the queue. */
struct dirty *announce_add(struct announce *a, struct inode *dir, struct slice name, const struct seen *told);
/* Watchers have been told something else now. */
void announce_tell(struct announce *a, struct inode_table *t, struct dirty *d, const struct seen *told);
void announce_drop(struct announce *a, struct inode_table *t, struct dirty *d);
/* Not to be tried before a moment. */
void announce_later(struct announce *a, struct dirty *d, uint64_t not_before_ms);
/* Those whose moment has come go to the end of the queue. The earliest of the others, or UINT64_MAX. */
uint64_t announce_wake(struct announce *a, uint64_t now_ms);

/* Since when the longest waiting of the first records of both queues is here; 0: there is none. */
uint64_t announce_oldest(const struct announce *a);

/* Whether both say the same node: then there is nothing to create or delete. */
bool seen_same(const struct seen *a, const struct seen *b);

/* Records in the directory that stand in the queue: its deletion waits for theirs. */
bool announce_has_below(const struct announce *a, const struct inode *dir);

#endif
