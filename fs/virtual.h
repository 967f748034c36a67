/* virtual.h - .quorumfs in the root of a mount: what is beside the data, in the manner of /proc. docs/mount.md says what users
 * find there.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  negative errno. -EAGAIN of a kind's function: more of the log has to be collected first, virtual_later().
 * Memory:  nodes live in an inode table of their own, as long as the kernel knows them or somebody holds them.
 * Units:   revisions, bytes.
 *
 * The kernel's numbers for these nodes are those of the table from VIRTUAL_ID_FIRST on: so no handler of keys ever meets one
 * (dispatch.c), and their st_ino stand in a range that no key's is in. Nothing here is listed in the root, changed by users,
 * told to inotify's readers or touched by the helper. */
#ifndef FS_VIRTUAL_H
#define FS_VIRTUAL_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include "base/bytes.h"
#include "fs/inode.h"
#include "fs/name.h"

#define VIRTUAL_ID_FIRST (1ULL << 62)
#define VIRTUAL_INO_BIT (1ULL << 61)  /* of st_ino: above all numbers given out, below those derived (store/view.h) */
#define VIRTUAL_NAME ".quorumfs"
#define VIRTUAL_OLD_MAX 4             /* revisions whose directories are kept collected at once; others wait */
#define VIRTUAL_STREAMS_MAX 1024      /* open event streams; ENFILE */
#define VIRTUAL_HISTORY_MAX 10000     /* revisions of a file that are listed, the newest; older ones can be opened by number */
#define VIRTUAL_STREAM_BYTES (64 * 1024) /* of lines, read ahead for a stream */
#define VIRTUAL_STREAM_ROWS 5000      /* of the log, looked at for a stream in one turn of the loop */

struct mount;
struct waiting;
struct view;
struct store_old;
struct event_stream;

struct virtual_old {
    struct store_old *old; /* NULL: free */
    bool wanted;           /* somebody waits until it has been read on */
    int error;             /* negative errno that reading on ended with */
    uint64_t used;         /* when last, in lookups */
};

struct virtual_tree {
    struct inode_table nodes; /* root: .quorumfs */
    struct list busy;         /* struct waiting: for an old revision */
    struct list streams;      /* struct event_stream */
    struct list interrupted;  /* struct waiting: readers of streams whose callers got a signal */
    unsigned n_streams;
    int64_t streamed;         /* revision that all streams have been shown */
    bool streams_behind;      /* somebody waits for a stream that has not been read on to it */
    struct virtual_old old[VIRTUAL_OLD_MAX];
    uint64_t uses;
    uint64_t requests;
};

/* What a kind of node is. */
typedef int (*virtual_emit)(void *ctx, struct slice name, const struct view *view);
struct virtual_kind {
    mode_t mode; /* type and permissions; users other than the mount's own see as much as the last three bits say */
    /* Directories. lookup: what a name is, *ret_number its number; -ENOENT. */
    int (*lookup)(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                  int64_t *ret_number);
    int (*list)(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx);
    /* Files and symbolic links; node: what the node's process said, if the kind asks it. */
    int (*content)(struct mount *m, const struct inode *i, struct slice node, struct bytes *out);
    /* Attributes that differ from the default. */
    int (*attributes)(struct mount *m, const struct inode *i, struct stat *st);
    enum { ASK_NOTHING, ASK_BARRIER, ASK_STATUS, ASK_HEALTH } asks; /* before content */
    bool stream;
};

static inline bool virtual_is(fuse_ino_t id)
{
    return id >= VIRTUAL_ID_FIRST;
}

int virtual_init(struct mount *m);
void virtual_fini(struct mount *m);
struct inode *virtual_inode(struct mount *m, fuse_ino_t id);
/* What is due: revisions that are waited for, streams with something new. Called by the loop. */
void virtual_work(struct mount *m);
int virtual_timeout_ms(const struct mount *m);
/* The request goes on in again() when more has been collected. False: it has waited too long. */
bool virtual_later(struct waiting *w, void (*again)(struct waiting *w, int error));
int virtual_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx);
/* A view of a node for listings. */
void virtual_view(const struct inode *dir, struct slice name, const struct virtual_kind *kind, struct view *ret_view);
/* A decimal number as one would print it; -ENOENT. */
int virtual_number(struct slice text, int64_t *ret_number);
int virtual_hex(struct slice text, int64_t *ret_number);

/* ---- requests ---- */
void virtual_lookup(fuse_req_t req, fuse_ino_t parent, const char *name); /* parent 1: of .quorumfs itself */
void virtual_forget(struct mount *m, fuse_ino_t id, uint64_t nlookup);
void virtual_getattr(fuse_req_t req, fuse_ino_t id);
void virtual_readlink(fuse_req_t req, fuse_ino_t id);
void virtual_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void virtual_read(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi);
void virtual_release(fuse_req_t req, struct fuse_file_info *fi);
void virtual_poll(fuse_req_t req, struct fuse_file_info *fi, struct fuse_pollhandle *ph);

/* ---- virtual_files.c, virtual_tree.c: the kinds ---- */
const struct virtual_kind *virtual_top(void);
const struct virtual_kind *virtual_kind_rev(void);
const struct virtual_kind *virtual_kind_history(void);
const struct virtual_kind *virtual_kind_events(void);
const struct virtual_kind *virtual_kind_leases(void);
const struct virtual_kind *virtual_kind_locks(void);
void virtual_old_work(struct mount *m);
void virtual_old_free(struct mount *m);

/* ---- virtual_events.c: streams ---- */
struct event_stream *events_open(struct mount *m, int64_t from);
void events_close(struct mount *m, struct event_stream *s);
void events_read(struct mount *m, fuse_req_t req, struct event_stream *s, size_t size);
unsigned events_poll(struct mount *m, struct event_stream *s, struct fuse_pollhandle *ph);
void events_work(struct mount *m);

#endif
