/* locks.h - locks of files in the whole cluster: this mount's lock session, what it holds, and who waits.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  negative errno; requests end with a positive one.
 * Memory:  a node that has marks is held by its open handles.
 * Units:   milliseconds of CLOCK_MONOTONIC, seconds in names that say so.
 *
 * Locks live in the replicated state, keyed by inode number, session and owner. The session is a random number, made with the
 * first lock, and bound to a lease that this mount keeps alive: when the lease ends, so do all its locks, and those who
 * wait get them. Then what this mount had locked is *lost*: writing to it fails with EIO until its last handle is closed. The
 * commits of a node with locks carry the lease, and the cluster refuses those that come after its end: a mount that
 * slept learns of it that way, not by its clock. */
#ifndef FS_LOCKS_H
#define FS_LOCKS_H

#include "base/list.h"
#include "store/store.h"

#define LOCKS_IDLE_MS 60000      /* a session without locks for so long is ended */
#define LOCKS_WAITERS_MAX 16384  /* waiting for locks through one mount; ENOLCK */

struct mount;
struct inode;
struct waiting;

struct lock_mark { /* that an owner may have locks of the node */
    struct list link;
    uint64_t owner;
    int kind;       /* enum lock_kind */
    const void *via; /* the handle by which it was locked last, to be compared only */
    bool releasing;
};

/* A process that was granted a lock reads what is newest from then on, through handles that it had open before too. */
#define LOCKS_NOTES 256 /* past it a reader is taken for one of them */
struct lock_note {
    uint64_t owner; /* of fcntl locks: the process's table of files, which its reads name as well */
    int process;
};

enum lock_session_state { LOCKS_NONE, LOCKS_STARTING, LOCKS_UP };

struct lock_session {
    enum lock_session_state state;
    uint64_t session, next_request;
    int64_t lease;
    uint64_t next_keepalive_ms, confirmed_ms, used_ms;
    int64_t keepalive_ticket;
    struct list starters;    /* struct waiting: for the session */
    struct list waiters;     /* struct waiting: queued in the cluster */
    struct list granted;     /* struct waiting: met in the log; their turn is when users see that revision */
    struct list interrupted; /* struct waiting: whose caller got a signal */
    size_t n_waiters, n_marks;
    uint64_t grants, lost;   /* counted */
    struct lock_note notes[LOCKS_NOTES]; /* of grant number n: notes[n % LOCKS_NOTES] */
};

void locks_init(struct lock_session *s);
void locks_fini(struct mount *m);
/* What is due: keep-alives, cancellations, the end of an idle session. */
void locks_work(struct mount *m);
int locks_timeout_ms(const struct mount *m);
/* With a session; false: w goes on in w->again() when there is one, or with an error. */
bool locks_ready(struct waiting *w);
/* The cluster has said that the session is over. */
void locks_lose(struct mount *m);
/* A row of the log: somebody's waiting lock was granted. */
void locks_row(struct mount *m, const struct event *e);
/* The log had a gap: what was granted is asked of the store, at the newest revision. */
void locks_compare(struct mount *m);
/* Ends the session; its locks go at once rather than with the lease. */
void locks_end(struct mount *m);

void locks_mark(struct mount *m, struct inode *i, uint64_t owner, int kind, const void *via);
bool locks_marked(const struct inode *i, uint64_t owner, int kind); /* kind 0: either */
void locks_releasing(struct inode *i, uint64_t owner, int kind);
void locks_unmark(struct mount *m, struct inode *i, uint64_t owner, int kind);
/* A lock was granted to a thread. */
void locks_note(struct mount *m, uint64_t owner, int thread);
/* Whether one was, since so many grants, to the process that reads. */
bool locks_granted_since(const struct mount *m, uint64_t grants, uint64_t owner, int thread);
/* A handle of the node was closed by all who had it; NULL: the last one. What was locked by it and is still there is released:
 * flock's, and fcntl's of open file descriptions, whose owner the kernel does not name at its end. */
void locks_closed(struct mount *m, struct inode *i, const void *via);
/* The lease that a commit of the node's content depends on; 0: none. */
int64_t locks_fence(const struct mount *m, const struct inode *i);

#endif
