/* steps.h - the changes that watchers have yet to be told of one by one, in the order of the log.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  false: there is no room, or what the row says does not follow from what the name is told as.
 * Memory:  a step counts in the records of its names, which stay as long, and holds the node that it makes.
 * Units:   bytes.
 *
 * A record (announce.h) says what a name is told as, and the committed state says what it is now. Between the two stand
 * the steps of the name: each is one row of the log and one command of the helper, and says what the name is told as
 * before it and after it. A name is *behind* when something happened to it that is no step: for want of room, or since a step
 * could not be taken. Then its steps that still follow are taken, and after them what is left is told as one change
 * (reconcile.c). So a step that is given up loses a way, never the end.
 *
 * Past STEPS_MAX waiting steps there are no new ones until all have been taken: that is when changes are told as one. */
#ifndef FS_STEPS_H
#define FS_STEPS_H

#include "fs/announce.h"

#define STEPS_MAX 1024
#define STEPS_TRIES 4 /* of a command; then its names are behind */

enum step_kind { STEP_MADE, STEP_CONTENT, STEP_ATTRIBUTES, STEP_GONE, STEP_MOVED, STEP_EXCHANGED };

struct step {
    struct list link;
    enum step_kind kind;
    struct dirty *from, *to; /* from: of MOVED and EXCHANGED */
    struct seen was_from, was_to;
    struct inode *node;      /* held: what is made or moved, for the rows that follow; it may have moved on or died */
    struct inode *other;     /* held: what it changes places with */
    uint64_t size;           /* of the content then */
    bool sent;               /* its command is under way */
    unsigned tries;
};

/* What the name will be told as when its steps have been taken. */
const struct seen *steps_expected(const struct dirty *d);
/* Nothing is known of the name that is not a step: what happens to it next can be one. */
bool steps_can(const struct announce *a, const struct dirty *d);

bool steps_made(struct announce *a, struct dirty *d, struct inode *node, uint64_t size);
/* ino: the node's, as the row says. */
bool steps_content(struct announce *a, struct dirty *d, uint64_t ino, uint64_t size);
bool steps_attributes(struct announce *a, struct dirty *d);
bool steps_gone(struct announce *a, struct dirty *d, bool is_dir);
/* there: what has the name; NULL: nothing that is known. */
bool steps_moved(struct announce *a, struct dirty *from, struct dirty *to, struct inode *node, struct inode *there,
                 bool exchange);

struct step *steps_first(const struct announce *a);
/* Whether what its names are told as is what it begins with. */
bool steps_follows(const struct step *s);
/* It was taken. What then has no steps any more stands in the queue. */
void steps_taken(struct announce *a, struct inode_table *t, struct step *s);
/* It cannot be: what it would have told is left to the end. */
void steps_give_up(struct announce *a, struct inode_table *t, struct step *s);
/* A change made here has changed what the name is told as: its steps are over. One that is under way will fail. */
void steps_overtaken(struct announce *a, struct inode_table *t, struct dirty *d);
void steps_give_up_all(struct announce *a, struct inode_table *t);

#endif
