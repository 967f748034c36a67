/* mount.h - one mount: what its files share. fs/README.md shows how they fit together.
 *
 * Process: the mount's front end. It makes no system call on its own mount, ever.
 * Thread:  one: the loop of mount_run(). Nothing here blocks.
 * Errors:  negative errno; what goes to the kernel is a positive one (errno_of()).
 * Memory:  a struct waiting lives from its request until its reply.
 * Units:   milliseconds of CLOCK_MONOTONIC; revisions. */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "base/arena.h"
#include "base/logger.h"
#include "fs/announce.h"
#include "fs/buffer.h"
#include "fs/echo.h"
#include "fs/init_flags.h"
#include "fs/locks.h"
#include "fs/name.h"
#include "fs/mount_options.h"
#include "fs/virtual.h"
#include "raft/client.h"
#include "store/store.h"

#define INODE_RANGE 1024             /* numbers asked for at once */
#define DIRTY_MAX_MS 30000           /* what was written is committed after this, without a FLUSH */
#define LEADER_RETRY_MS 50           /* between attempts while an election may be under way */
#define STALE_TRIES 32               /* of one change of a name that others keep changing */
#define STALE_OPENS 64               /* remembered at once; past it the kernel's second try may meet the same */
#define STALE_AGAIN_MS 1000          /* within which it comes */
#define INTERRUPT_AFTER_MS 1000      /* a wait this long answers EINTR when its caller gets a signal */
#define REQUESTS_PER_TURN 64         /* of the kernel, before the other descriptors get their turn */
#define DIRECTORY_MAX_NAMES 4000000  /* in one listing; E2BIG past it */
#define EXPECT_MAX 4096              /* files with user.quorumfs.expect_revision set; ENOSPC past it */
#define CACHED_S 1.0                 /* for which the kernel keeps attributes, if nothing changes */
#define CACHED_AGAIN_MS 2            /* between attempts to tell it of a change */
#define CACHED_UNTOLD_MS 1000        /* by then it has made the node, or will not */
#define CONTENT_MAX_BYTES (512u * 1024 * 1024) /* of all copies that read-only handles hold; ENFILE past it */

struct mount;
struct waiting;

/* What users see of a node, from the store at one revision, with this mount's defaults filled in. */
struct view {
    struct seen seen; /* type 0: nothing there */
    uint32_t mode, uid, gid;
    uint64_t size;
    int64_t mtime_ns, ctime_ns;
    int64_t rev;      /* of the last change */
    uint32_t has;     /* enum attr_mask: what is kept rather than a default */
};

struct stale_open {
    pid_t tid; /* 0: none */
    uint64_t at_ms;
};

struct mount {
    struct mount_options opt;
    struct logger log;
    struct fuse_session *session;
    struct init_flags init;
    bool init_answered;
    struct client *client;
    struct store *store;
    struct store_read *read; /* at revision V, what every request sees */
    uint64_t epoch, wanted_epoch;
    int64_t revision, wanted_revision;
    bool welcomed, stopping, refused;

    struct tail *tail;       /* while tail_advance() is at work */

    struct inode_table inodes;
    struct announce announce;
    struct echo echo;
    struct buffer_budget buffers;
    size_t content_bytes;
    unsigned expecting;     /* nodes with an expect_rev */
    uint64_t next_sweep_ms, next_renew_ms, next_wake_ms;

    struct list parked;     /* struct waiting: all of them */
    struct list answered;   /* struct waiting: answered by the node, to go on when V has come so far */
    struct list delayed;    /* struct waiting: to be tried again, since there was no leader */
    struct list interrupted;
    uint64_t ino_next, ino_end, spare_next, spare_end;
    bool ino_asked;
    struct list ino_waiters;
    bool root_making;
    struct list root_waiters; /* struct waiting: for the directory that is mounted, which nothing has made yet */

    struct virtual_tree virtual; /* .quorumfs */
    struct lock_session locks;
    struct list untold;       /* struct inode: the kernel is to be told of a change (cached.c) */

    struct stale_open stale[STALE_OPENS]; /* open() calls that the kernel is doing again; a ring */
    size_t next_stale;

    uint64_t overlay_lost, echoes, echo_retries;
    bool names_turn; /* of the helper: not the next step's */
    uint64_t leaderless_since_ms; /* 0: there is one */
};

/* ---- mount.c: life and loop ---- */

int mount_open(struct mount *m, const struct mount_options *options);
/* Returns when it was unmounted or asked to stop: 0, or -errno when something broke. */
int mount_run(struct mount *m);
void mount_close(struct mount *m);
int64_t mount_now_ns(void);
/* Of either table. */
void mount_release(struct mount *m, struct inode *i);

/* ---- view.c: the committed name space ---- */

/* Where an inode stands; -ESTALE when it is dead. */
int view_place(const struct mount *m, const struct inode *i, struct name_place *ret_place);
/* The same as if top, a node above it, were the mount's root. */
int view_place_below(const struct mount *m, const struct inode *top, const struct inode *i, struct name_place *ret_place);
int view_place_of(const struct mount *m, const struct inode *dir, struct slice name, struct name_place *ret_place);
/* What is at a place. 0 also when there is nothing (type 0). */
int view_at(const struct mount *m, struct store_read *r, const struct name_place *place, struct view *ret_view);
/* What users see under a name: the store's, or a file that is not committed yet. -EINVAL: it is no name. */
int view_name(const struct mount *m, const struct inode *dir, struct slice name, struct view *ret_view);
/* Committed content of the node, in arena. -ENOENT. */
int view_content(const struct mount *m, struct store_read *r, const struct name_place *place, struct arena *arena,
                 struct slice *ret_content);
/* Attributes as the kernel gets them: of a live node, with what is written and not committed. */
int view_stat(const struct mount *m, const struct inode *i, struct stat *ret_stat);
void view_fill(const struct mount *m, const struct view *v, struct stat *ret_stat);
void view_stat_dead(const struct inode *i, bool linked, struct stat *ret_stat);
/* Calls emit for each name in a directory but . and .., in no particular order. */
typedef int (*view_name_fn)(void *ctx, struct slice name, const struct view *view);
int view_list(const struct mount *m, struct store_read *r, const struct inode *dir, view_name_fn emit, void *ctx);
/* The same of another time. */
struct view_source {
    struct store_read *r;
    const struct store_old *old; /* at its revision */
    bool ever;                   /* all that there is and was: types alone */
};
int view_at_source(const struct mount *m, const struct view_source *s, const struct name_place *place, struct view *ret_view);
int view_list_source(const struct mount *m, const struct view_source *s, const struct name_place *place, view_name_fn emit,
                     void *ctx);
/* 1 if nothing users see is in the directory, 0 if something is. */
int view_is_empty(const struct mount *m, const struct inode *dir);
/* The node that a view says has the name, held once; made if it is not known yet. NULL without memory. */
struct inode *view_node(struct mount *m, struct inode *dir, struct slice name, const struct seen *seen);

/* ---- cached.c: attributes that the kernel keeps ---- */

/* For how many seconds it may keep those that a LOOKUP or GETATTR is answered with. The others (CREATE, MKDIR, SETATTR, ...)
 * never carry a time: the kernel takes these answers even when it was told of a change since. */
double cached_for(struct mount *m, struct inode *i);
/* What view_stat() says of the node has changed, or it is opened. */
void cached_end(struct mount *m, struct inode *i);
void cached_end_below(struct mount *m, struct inode *i); /* of it and all that is known below it */
/* For the loop: tells again what the kernel did not know yet. */
void cached_again(struct mount *m);
int cached_timeout_ms(const struct mount *m);

/* ---- tail.c: from one revision to the next ---- */

/* Reads on to the newest revision and notes what watchers have to be told. */
int tail_advance(struct mount *m);
/* The node has lost its name: it becomes dead, with attributes and content kept for its handles. */
void tail_detach(struct mount *m, struct inode *i);

/* ---- wait.c: requests that are answered later ---- */

enum wait_state { WAIT_IDLE, WAIT_BARRIER, WAIT_ANSWER, WAIT_DELAYED, WAIT_ANSWERED, WAIT_OTHER };

typedef void (*wait_then)(struct waiting *w, int error); /* error: positive errno; must reply or wait again */

struct waiting {
    struct list all, link;
    struct list interrupted;
    struct mount *m;
    fuse_req_t req;      /* NULL: nobody is to be told (commits at RELEASE) */
    enum wait_state state;
    wait_then then;
    wait_then again;     /* of WAIT_OTHER: what goes on */
    int64_t ticket;
    uint64_t started_ms, deadline_ms, retry_ms;
    bool for_write;      /* no leader means EROFS, soon */
    bool row_seen;       /* its row was read from the log: it has succeeded, whatever becomes of the answer */
    uint16_t status;
    int64_t revision;    /* of the answer */
    uint64_t result_ino, result_size;
    struct command cmd;  /* its slices are in arena */
    struct arena arena;
    /* of the request, as each needs them */
    struct inode *node, *dir, *dir2; /* held */
    struct slice name, name2;        /* in arena */
    struct fuse_file_info fi;
    unsigned flags;
    uint32_t mode, uid, gid;
    struct stat attr;
    int to_set;
    uint64_t changes;
    uint64_t ino;
    unsigned tries;      /* of a change whose names were others' when it arrived */
    bool asked;          /* below .quorumfs: a barrier has been passed for it */
    bool took_revision;  /* of the answer: the command changed something, at that revision */
    bool granted, queued, signalled; /* of locks (ops_lock.c) */
    uint64_t token;
    int error, thread;
    struct waiting *partner; /* a lock and its cancellation */
    struct lock_op *query;   /* F_GETLK's, in arena: a barrier forgets the command */
};

struct waiting *wait_new(struct mount *m, fuse_req_t req, wait_then then);
void wait_free(struct waiting *w);
int wait_names(struct waiting *w, struct inode *dir, const char *name, struct inode *dir2, const char *name2);
/* Each goes on in w->then, later, exactly once. */
void wait_barrier(struct waiting *w);
void wait_propose(struct waiting *w); /* w->cmd */
/* A barrier also where reads do not ask for one: what the last answer was about is in V then. */
void wait_newest(struct waiting *w);
/* Ends a wait whose ticket was cancelled. */
void wait_end(struct waiting *w, int error);
void wait_settle(struct mount *m); /* runs what is due; called by the loop */
int wait_timeout_ms(const struct mount *m);
void wait_leader_changed(struct mount *m);
/* Replies with an error and frees. */
void wait_fail(struct waiting *w, int error);
/* The parked own proposal that made a row, or NULL; with NULL and true: an own one already answered. */
bool wait_is_own(struct mount *m, int64_t revision, uint64_t session, uint64_t sequence);
int errno_of(int rc); /* positive, for the kernel; from a negative errno */
/* A number for a new node; -EAGAIN: w waits for more and goes on in then(). */
int wait_ino(struct waiting *w, uint64_t *ret_ino);
void wait_ask_inodes(struct mount *m);

/* ---- root.c: the directory that is mounted ---- */

/* w wants to make something in it and it is not there: true, and w goes on in then() when it is. */
bool root_wait(struct waiting *w);

/* ---- commit.c: from a write buffer to the cluster ---- */

/* The node's buffer, made from what is committed if there is none (empty if it is to be truncated). */
int commit_buffer(struct mount *m, struct inode *i, bool truncate, struct buffer **ret_buffer);
void commit_drop_buffer(struct inode *i);
/* The expectation of the node has been met, or given up. */
void commit_expected(struct mount *m, struct inode *i);
/* A writer, a commit, or what stood for one has ended. If it was the last: what is left is committed, or dropped if that
 * can no longer be. So a buffer is there only while somebody writes to the node or a proposal holds it, and an inode that the
 * kernel forgets has none. The caller holds i. */
void commit_rest(struct mount *m, struct inode *i);
/* Commits what the node has, and goes on in w->then when it is on a majority's disks; at once if there is nothing. */
void commit_start(struct waiting *w, struct inode *i);
/* The same with nobody to tell. */
void commit_quietly(struct mount *m, struct inode *i);
/* Goes on in w->again when no proposal with the node's content is under way any more; true: later. */
bool commit_busy(struct waiting *w, struct inode *i, wait_then again);
/* What stood for a commit of the node (a rename that carried its content) has ended. */
void commit_ended(struct mount *m, struct inode *i, int error);
void commit_sweep(struct mount *m); /* what has been dirty for long */
bool commit_any(const struct mount *m);
/* EROFS when there has been no leader for longer than an election takes; else 0. */
int commit_possible(const struct mount *m);

/* ---- ops_*.c ---- */

struct handle { /* of a file */
    struct inode *node; /* held */
    bool echo;          /* the helper's: RELEASE carries no pid to know it by */
    bool writes, appends;
    uint8_t *content;   /* of a read-only handle: the revision found at open */
    size_t content_len;
    int64_t rev;
    uint64_t grants;    /* of locks to this mount, when content was read */
    bool eof_seen;
};

bool ops_is_echo(struct mount *m, fuse_req_t req);
struct inode *ops_inode(struct mount *m, fuse_ino_t id);
void ops_init(void *userdata, struct fuse_conn_info *conn);
void ops_refuse_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name);
/* What the helper is told of a node: what watchers believe, also where it has lost its name for users. Returns cached_for(). */
double ops_echo_stat(struct mount *m, struct inode *i, struct stat *ret_stat);
/* Replies with an entry for the node and counts the kernel's reference. keep_s: cached_for(), or 0. */
void ops_reply_entry(struct mount *m, fuse_req_t req, struct inode *i, const struct stat *attr, double keep_s);
void ops_reply_create(struct mount *m, fuse_req_t req, struct inode *i, const struct stat *attr, struct fuse_file_info *fi);
struct handle *ops_new_handle(struct mount *m, struct inode *i, int flags);
void ops_free_handle(struct mount *m, struct handle *h);
/* The content of a read-only handle: what is newest now. */
int ops_load_content(struct mount *m, struct handle *h);
const struct fuse_lowlevel_ops *ops_table(void); /* dispatch.c */
/* The kernel raises the event of this local change by itself: if something older was still to be told of the name, it no
 * longer is. */
void ops_told(struct mount *m, struct inode *dir, struct slice name, struct inode *node);
/* Mode and owner of a node that the request makes in dir. */
void ops_owner(struct waiting *w, const struct inode *dir, mode_t mode);

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup);
void ops_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set, struct fuse_file_info *fi);
void ops_readlink(fuse_req_t req, fuse_ino_t id);
void ops_statfs(fuse_req_t req, fuse_ino_t id);
void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);
void ops_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock);
void ops_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep);
void ops_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op);
void ops_lock_granted(struct waiting *w, int error);
void ops_lock_interrupted(struct waiting *w);
/* Commits, releases all locks of that kind that the owner has of the node, and tells req, if there is one, what the commit ended
 * with. */
void ops_lock_release(struct mount *m, fuse_req_t req, struct inode *i, uint64_t owner, int kind);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void ops_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void ops_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags);
void ops_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void ops_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);

/* ---- reconcile.c: what the helper is to do next; and answering it ---- */

/* Gives the helper its next command if it is idle and something is to be told. */
void reconcile_next(struct mount *m);
void reconcile_done(struct mount *m, int error); /* the helper's answer, negative errno */
int reconcile_timeout_ms(const struct mount *m);
void reconcile_lookup(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name);
/* CREATE, MKDIR, MKNOD, SYMLINK of the helper: fi not NULL for CREATE. */
void reconcile_made(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name, struct fuse_file_info *fi);
void reconcile_removed(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name);
void reconcile_renamed(struct mount *m, fuse_req_t req, struct inode *dir, struct slice name, struct inode *dir2,
                       struct slice name2);

#endif
