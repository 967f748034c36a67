/* tail.h - one step from one revision to the next: what tail.c, tail_rows.c and tail_touch.c share.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  the first one stays in tail.rc.
 * Memory:  a struct tail lives for one tail_advance(); it holds the directories of touched names.
 * Units:   revisions. */
#ifndef FS_TAIL_H
#define FS_TAIL_H

#include "fs/mount.h"
#include "fs/steps.h"

#define TAIL_CHUNK_ROWS 4096 /* kept in memory at once; whole revisions */

struct row {
    enum event_kind kind;
    uint32_t flags;
    int64_t revision, version, time_ns;
    uint64_t session, sequence, ino, size;
    struct attrs attrs;
    struct slice key, to; /* to: of a rename */
};

struct rename {
    struct slice from, to;
    bool exchange;
};

struct touched {
    struct inode *dir; /* held */
    struct slice name;
};

struct tail {
    struct mount *m;
    struct store_read *old, *new;
    struct arena arena; /* of the whole advance: renames, touched names */
    struct row *rows; /* of one chunk */
    size_t n_rows;
    int64_t last_revision, next;
    struct rename *renames;
    size_t n_renames, renames_cap;
    struct touched *touched;
    size_t n_touched, touched_cap;
    int rc;
};

enum touch {
    TOUCH_NAME,       /* the name may be another node's now, or nobody's */
    TOUCH_CONTENT,    /* and its content changed */
    TOUCH_ATTRIBUTES, /* somebody set its attributes, be it to what they were */
    TOUCH_DIRECTORY,  /* a directory has a row now: its attributes may have changed, or it was only kept */
    TOUCH_COMPARE,    /* nobody knows: see for yourself */
};

/* ---- tail_touch.c: names ---- */

bool tail_is_known(const struct mount *m, const struct inode *i); /* to the kernel: somebody may watch it */
int tail_grow(void **array, size_t n, size_t *cap, size_t item_bytes);
/* Where a place below directories that were renamed in this advance was before them. -ENOENT: nowhere. */
int tail_place_before(const struct tail *t, struct name_place *p);
/* What users saw under a name until now, and what they will. */
int tail_view_before(struct tail *t, struct inode *dir, struct slice name, struct view *v);
int tail_view_after(struct tail *t, struct inode *dir, struct slice name, struct view *v);
/* The table is to follow the name when all rows are read. */
void tail_note(struct tail *t, struct inode *dir, struct slice name);
/* A foreign row may have changed this name. Its record, if it has one now. */
struct dirty *tail_touch(struct tail *t, struct inode *dir, struct slice name, enum touch how);
/* The same of a noted name at the end of the advance, if it has no record: the directory may have moved since. */
void tail_touch_again(struct tail *t, struct inode *dir, struct slice name);
/* The record of a name that is to get a step, made if there is none; known: somebody may watch it. NULL: nobody can, or there
 * is no room. */
struct dirty *tail_record(struct tail *t, struct inode *dir, struct slice name, bool known);
/* An own row did: what the kernel will know of the name when that is answered. */
void tail_tell_own(struct tail *t, struct inode *dir, struct slice name, const struct seen *seen);

/* ---- tail_rows.c: the log ---- */

/* Reads what is new. 1: it has been compacted away. */
int tail_read_rows(struct tail *t);

#endif
