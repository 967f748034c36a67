/* store.h - the replicated key space of one node, kept in one LMDB environment.
 *
 * Process: one writer (the node daemon), any number of readers in other processes of the same user or
 *          group; one open per path per process (a second one would drop LMDB's locks).
 * Thread:  a batch belongs to one thread at a time and there is one batch at a time; reads from any
 *          thread, one struct store_read each, used by one thread at a time.
 * Errors:  negative errno for what the machinery did (-EIO, -ENOSPC, -ENOMEM, -EUCLEAN for rows that lie);
 *          a request's own outcome is a status (base/status.h). On an error nothing has changed and no
 *          ret_ argument is written.
 * Memory:  slices passed in are borrowed for the call. Slices handed out by reads point into the map
 *          or into the given arena and live until the store_read ends (and the arena is reset).
 * Units:   revisions and raft indexes count from 1, 0 is "none"; sizes in bytes; times in nanoseconds. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/slice.h"
#include "store/command.h"

struct store;
struct store_batch;
struct store_read;

/* ---- opening ---- */

enum store_flags {
    STORE_WRITER = 1, /* the node: creates what is missing, may begin batches */
    STORE_NOSYNC = 2, /* batches are not synced (simulation) */
    /* Batches are not synced, and a mark in dir says so: after a crash of the machine (not of the process) the
     * environment cannot be trusted, and store_open() begins one of the next epoch, from the newest checkpoint that the
     * log reaches back to (store/checkpoint.h), or an empty one. store_close() syncs and clears the mark. */
    STORE_UNSYNCED = 4,
};

struct store_options {
    unsigned flags;       /* enum store_flags */
    size_t map_bytes;     /* 0: the default, 16 GiB of address space; not memory, not disk */
    uint64_t cluster_id;  /* writer: kept at creation, compared at open (-EXDEV if another's); reader: 0 */
    uint64_t log_first;   /* writer: the first entry that the log can apply again; 0 or 1: all */
};

/* Where a writer's environment came from. */
enum store_origin {
    STORE_KEPT,            /* it was there and can be trusted */
    STORE_NEW,
    STORE_FROM_CHECKPOINT, /* it was not to be trusted, and has been made again */
    STORE_FROM_LOG,        /* the same, without a checkpoint: it is empty, and the log fills it */
};

/* Opens the environment of the current epoch under dir (dir/CURRENT names env.<epoch>/; see
 * docs/disk.md). A writer creates both. -ENOENT: a reader found none yet. -EPROTONOSUPPORT: a newer
 * format. -EXDEV: another cluster's. -ENODATA: it cannot be trusted, and neither a whole checkpoint nor the log's begin
 * (log_first) is there to make it again; nothing was changed. */
int store_open(const char *dir, const struct store_options *options, struct store **ret_store);
void store_close(struct store *s); /* NULL is fine */
uint64_t store_epoch(const struct store *s);
enum store_origin store_origin(const struct store *s);
/* Of a node that replaces its store while it runs: opens env.<epoch>, which nobody else knows of, as a writer; then, with
 * all entries applied that `old` has, gives it its mark and names it in CURRENT. -EIO from publish: which of the two is
 * current is not known until the next start; after any other error it is the old one. */
int store_open_next(const char *dir, uint64_t epoch, const struct store_options *options, struct store **ret_store);
int store_publish(struct store *s, struct store *old);
/* After the old one is closed: its files, and what else is left over. */
int store_clean(struct store *s);
/* A checkpoint file, or any file of an environment that nobody writes, to read where it is. */
int store_open_image(const char *path, struct store **ret_store);

/* ---- the writer ---- */

/* One LMDB transaction for any number of entries (64 MiB of changes at most, or one command). */
int store_batch_begin(struct store *s, struct store_batch **ret_batch);

/* Applies one command of the entry at index, of that term. Several commands of one entry come in order, with the same
 * index and increasing position. Anything at or below the applied (index, position) changes nothing and
 * yields status OK with the current revision and *ret_fresh false: raft replays its log after a restart.
 * The result's slices live in arena, or in the map until the batch ends. */
int store_apply(struct store_batch *b, uint64_t index, uint64_t term, uint32_t position, const struct command *cmd,
                struct arena *arena, struct result *ret_result, bool *ret_fresh);

/* The whole entry at index, of that term, has been applied: raises the applied index. Also for entries
 * without commands. */
int store_batch_advance(struct store_batch *b, uint64_t index, uint64_t term);

/* The last committed membership, opaque to the store; kept with its index. */
int store_batch_set_membership(struct store_batch *b, uint64_t index, struct slice membership);
/* The one before; -ENOENT: none yet. Lives until the batch writes or ends. */
int store_batch_membership(struct store_batch *b, struct slice *ret_membership);
/* The entry at index removed that member: what it published goes, and its number is known as a removed one's for good. */
int store_batch_remove_member(struct store_batch *b, uint64_t index, uint64_t id);

/* A session's last answer, kept so that a retried proposal gets it again and changes nothing.
 * find: 0 and *ret_found: 0 apply it (it is later than the last; numbers between were given up by the session), 1 it
 * is the last and the stored answer is in ret_status.. (slices until the batch ends), 2 it is older, or not 1 and
 * the session is not known (ret_status says which). */
int store_session_find(struct store_batch *b, uint64_t session, uint64_t sequence, int *ret_found,
                       uint16_t *ret_status, int64_t *ret_revision, struct slice *ret_body);
/* body over SESSION_BODY_MAX_BYTES is kept as status and revision alone. */
#define SESSION_BODY_MAX_BYTES 4096
#define SESSION_MAX_COUNT 4096 /* past it the one used longest ago is forgotten, by applied index */
int store_session_save(struct store_batch *b, uint64_t session, uint64_t sequence, uint16_t status,
                       int64_t revision, struct slice body);

/* Takes up to max_rows rows of the log through a compaction that was applied; *ret_more: not yet all. Each commit
 * takes a few by itself, so this is for a node that is idle. What it removes nobody can ask for any more. */
int store_batch_compact(struct store_batch *b, size_t max_rows, bool *ret_more);

/* Commits (and syncs, unless opened otherwise). Both end the batch, also when they fail. -ENOSPC: nothing has changed, and the
 * same can be tried again; after another failure of a commit the store refuses further batches with -EIO. */
int store_batch_commit(struct store_batch *b);
void store_batch_abort(struct store_batch *b);

/* ---- reading ---- */

struct store_meta {
    uint64_t cluster_id, epoch;
    uint64_t applied_index, applied_term;
    int64_t revision;  /* newest; a fresh store is at 1, as in etcd */
    int64_t compacted; /* 0: never */
    uint64_t db_bytes, db_bytes_in_use; /* of the environment's file */
    uint64_t membership_index;
    struct slice membership;
    uint64_t quota_bytes;     /* 0: none */
    uint64_t logical_bytes;   /* what the quota limits: the same on all nodes at the same applied index */
    uint32_t cluster_version; /* as APPLY_VERSION; 0: never set, which is 0.1 */
    struct rev removal;       /* a compaction under way has removed what is before this row; main > compacted: it is done */
    uint64_t begun_index, begun_term; /* of the checkpoint that this environment was made from; 0: none */
    bool restored;                    /* from a backup, as a new cluster, and no entry applied since */
};

/* Who holds a snapshot, of all processes. A snapshot is numbered; *ret_newest is the newest there is. What is changed after
 * one that is held cannot use the space again of what was there. */
struct store_reader {
    int pid;
    uint64_t thread, snapshot;
};
typedef int (*store_reader_fn)(void *ctx, const struct store_reader *reader); /* 1 stops */
int store_readers(struct store *s, uint64_t *ret_newest, store_reader_fn emit, void *ctx);

/* A snapshot of everything at one moment. Keep it short: it pins pages. */
int store_read_begin(struct store *s, struct store_read **ret_read);
void store_read_end(struct store_read *r); /* NULL is fine */
/* The same handle on a new snapshot; cheaper than end and begin. */
int store_read_renew(struct store_read *r);
int store_read_meta(struct store_read *r, struct store_meta *ret_meta);
int64_t store_read_revision(const struct store_read *r);
int64_t store_read_compacted(const struct store_read *r);

/* What members published of themselves (COMMAND_MEMBER_PUBLISH), in arena, by id. */
#define STORE_MEMBERS_MAX 256
int store_members(struct store_read *r, struct arena *arena, struct member_info **ret_members, size_t *ret_count);

int store_member_removed(struct store_read *r, uint64_t id, bool *ret_removed);

/* etcd's Range, all options. *ret_status: OK, COMPACTED, FUTURE_REVISION, INVALID_SORT, CORRUPT (that alarm). The kvs stand in
 * arena; their bytes there or in the map. max_bytes bounds what arena may grow by (0: no bound);
 * past it status is TOO_LARGE. */
int store_range(struct store_read *r, const struct op_range *op, struct arena *arena, size_t max_bytes,
                struct range_result *ret_result, uint16_t *ret_status);

/* The same in key order for any size: calls emit for each kv, which may return 1 to stop early (then
 * continue later from the next key at the same op->revision). A value stands in arena, which is reset after each. */
typedef int (*store_kv_fn)(void *ctx, const struct kv *kv);
int store_range_each(struct store_read *r, const struct op_range *op, store_kv_fn emit, void *ctx,
                     int64_t *ret_count, uint16_t *ret_status);

/* ---- leases, alarms, hashes ---- */

struct lease_info {
    int64_t id, ttl_s;
    int64_t remaining_s; /* of the last checkpoint; 0: none, the whole TTL */
};
typedef int (*store_lease_fn)(void *ctx, const struct lease_info *lease); /* 1 stops */
typedef int (*store_lease_key_fn)(void *ctx, struct slice key);           /* 1 stops */

int store_lease_get(struct store_read *r, int64_t id, struct lease_info *ret_lease); /* -ENOENT */
/* All leases after after_id (0: from the first), in the order of their ids as unsigned numbers. */
int store_leases(struct store_read *r, int64_t after_id, store_lease_fn emit, void *ctx);
/* The keys of a lease, in the order in which they came to be. */
int store_lease_keys(struct store_read *r, int64_t id, store_lease_key_fn emit, void *ctx);

/* Active alarms, by member and type, in arena. */
#define STORE_ALARMS_MAX 256
int store_alarms(struct store_read *r, struct arena *arena, struct alarm **ret_alarms, size_t *ret_count);

/* A hash of everything that the log determines, at the snapshot: equal on all nodes that have applied the same index. As
 * long as reading everything; one snapshot. */
int store_hash(struct store_read *r, uint32_t *ret_hash, int64_t *ret_revision, uint64_t *ret_applied_index);
/* etcd's HashKV: a hash of the keys and their history between compaction (-1: never) and revision (0: newest), equal on all nodes
 * with the same compacted revision, however far they have removed what it took. Long; renews the snapshot of r every now
 * and then (r is to be used for nothing else meanwhile). Status COMPACTED, FUTURE_REVISION; COMPACTED also if
 * compaction overtakes it. */
int store_hash_kv(struct store_read *r, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                  int64_t *ret_hash_revision, uint16_t *ret_status);

/* ---- the log: every change in order ---- */

enum event_kind {
    EVENT_PUT = 1,
    EVENT_DELETE = 2,
    EVENT_DIR_PUT = 3,    /* mkdir, or a directory's attributes; etcd's API does not show it */
    EVENT_DIR_DELETE = 4, /* same */
    EVENT_RENAME = 5,     /* header of a rename: key is from, value is to; hidden from etcd's API */
    EVENT_ATTR = 6,       /* a file's attributes alone: shown to etcd's API as a put of the same value */
    EVENT_LOCK = 7,       /* a waiting file lock was granted: .lock says which; hidden from etcd's API. Its key is the
                           * session, 8 bytes big-endian, and belongs to no key's history */
};

enum event_flags {
    EVENT_OF_RENAME = 1, /* this row belongs to the rename header before it in the same revision */
    EVENT_CREATED = 2,   /* no live node had the name before */
    EVENT_EXCHANGE = 4,  /* of EVENT_RENAME: the two changed places */
};

struct lock_grant {
    uint64_t ino, owner, request, token; /* as in the LOCK that waited */
};

struct event {
    enum event_kind kind;
    uint32_t flags;
    struct rev rev;      /* of this row */
    struct rev prev;     /* the same key's row before it; main 0: none */
    struct rev create;
    int64_t version, lease;
    int64_t time_ns;     /* the proposer's */
    uint64_t session, sequence, origin; /* of the command */
    struct slice key;
    uint64_t value_len;
    struct attrs attrs;
    struct lock_grant lock; /* of EVENT_LOCK */
};

/* The number of the node that a row of EVENT_PUT, _ATTR or _DIR_PUT is about. */
uint64_t store_event_ino(const struct event *e);

static inline bool event_is_public(const struct event *e) /* what etcd's Watch shows */
{
    return e->kind == EVENT_PUT || e->kind == EVENT_DELETE || e->kind == EVENT_ATTR;
}

/* Rows with from <= revision (main) in order, up to the snapshot's newest. emit returns 1 to stop.
 * The value is not read: ask with store_event_value(). *ret_next: the main revision to go on from
 * (whole revisions only: emit's stop takes effect after the row, and *ret_next is the row's revision if rows of it are
 * left, so stop at a change of revision). status COMPACTED when from is below the compacted revision
 * (from == compacted is fine, as in etcd: what was changed at that very revision is kept). */
typedef int (*store_event_fn)(void *ctx, const struct event *event);
int store_events(struct store_read *r, int64_t from, store_event_fn emit, void *ctx, int64_t *ret_next,
                 uint16_t *ret_status);

/* One row by its revision; -ENOENT. The slices live in the map or arena. */
int store_event_at(struct store_read *r, struct rev rev, struct arena *arena, struct event *ret_event);
int store_event_value(struct store_read *r, const struct event *e, struct arena *arena, struct slice *ret_value);
/* The event as etcd shows it: a kv with mod revision; a delete's has key and mod revision alone. */
int store_event_kv(struct store_read *r, const struct event *e, struct arena *arena, struct kv *ret_kv);
/* The key's state before the event (etcd's prev_kv); 1 if there is one, 0 if none or compacted. */
int store_event_prev_kv(struct store_read *r, const struct event *e, struct arena *arena, struct kv *ret_kv);

/* The rows of one key with from <= revision, oldest first, along the chain: cost by that key's own
 * changes, not by the log's. At most max rows (the oldest ones); *ret_more if there are further. */
int store_key_events(struct store_read *r, struct slice key, int64_t from, struct arena *arena, size_t max,
                     struct event **ret_events, size_t *ret_count, bool *ret_more, uint16_t *ret_status);

/* ---- the key space seen as files ---- */

enum node_type { NODE_NONE, NODE_FILE, NODE_DIRECTORY };

struct node_stat {
    enum node_type type;
    bool implicit;      /* a directory that exists only because of a key below it */
    bool also_key;      /* the directory's own path is a key too (shown as %:value) */
    uint64_t ino;       /* stable: given, or derived from the create revision, or from the path if implicit */
    uint64_t size;
    struct attrs attrs; /* what is kept; defaults are the mount's business */
    struct rev create, mod;
    int64_t version, lease;
    int64_t time_ns;    /* of the last change */
};

/* Path "" or "/": the root, always a directory. *ret_stat has type NODE_NONE if there is nothing.
 * A path that is both a key and a directory is a directory with also_key. */
int store_stat(struct store_read *r, struct slice path, struct node_stat *ret_stat);
/* The key's own row, for paths that are also directories (%:value) and for any raw key. */
int store_stat_key(struct store_read *r, struct slice key, struct node_stat *ret_stat);
/* Content as of the snapshot; -ENOENT. */
int store_value(struct store_read *r, struct slice key, struct arena *arena, struct slice *ret_value);
/* Content of the version that a key had at a revision; status COMPACTED, KEY_NOT_FOUND. */
int store_value_at(struct store_read *r, struct slice key, int64_t revision, struct arena *arena,
                   struct slice *ret_value, uint16_t *ret_status);

/* One level below dir (path without trailing slash; "" is the root of keys that begin with '/'), in byte
 * order, after the component `after` (empty: from the start). A component may be empty, "." or anything:
 * names are mapped by the caller. emit returns 1 to stop. Cost by children, not by descendants.
 * Reported for "/a" + "/" + component: what the component is; a key and a directory of one name is reported
 * once with both set. A key that ends in '/' is the empty component as a key. */
struct store_child {
    struct slice component;
    bool is_key, is_dir;
    const struct node_stat *stat; /* of a key that is no directory, if the listing has met it; else NULL. For the call */
};
typedef int (*store_child_fn)(void *ctx, const struct store_child *child);
int store_list(struct store_read *r, struct slice dir, struct slice after, store_child_fn emit, void *ctx);
/* The keys without a leading slash (for %:bare), one level likewise; dir "" is their root. */
int store_list_bare(struct store_read *r, struct slice dir, struct slice after, store_child_fn emit, void *ctx);

/* ---- the tree as it was ---- */

/* What directories there were at a revision. Keys have a history to go back along; directories have only the log: this
 * collects from it which of them changed since, in slices, once. It is then good for every later snapshot that it was
 * advanced to, of later epochs too. */
struct store_old;
#define OLD_DIRECTORIES_MAX 1000000 /* changed since the revision; more are TOO_LARGE */
#define OLD_CHILDREN_MAX 4000000    /* in one listing; -E2BIG */
int store_old_new(int64_t revision, struct store_old **ret_old);
void store_old_free(struct store_old *o); /* NULL is fine */
int64_t store_old_revision(const struct store_old *o);
/* Reads on to the snapshot, at most max_rows rows of the log; *ret_more: not yet all. *ret_status: OK, COMPACTED,
 * FUTURE_REVISION, TOO_LARGE. */
int store_old_advance(struct store_old *o, struct store_read *r, size_t max_rows, bool *ret_more, uint16_t *ret_status);

/* As store_stat(), store_stat_key(), store_list() and store_list_bare() have it, at the old revision. Content: store_value_at().
 * -EAGAIN: not advanced to this snapshot; -ESTALE: compacted. What has gone since and stood there costs a listing too. */
int store_stat_at(struct store_read *r, const struct store_old *o, struct slice path, struct node_stat *ret_stat);
int store_stat_key_at(struct store_read *r, const struct store_old *o, struct slice key, struct node_stat *ret_stat);
int store_list_at(struct store_read *r, const struct store_old *o, struct slice dir, store_child_fn emit, void *ctx);
int store_list_bare_at(struct store_read *r, const struct store_old *o, struct slice dir, store_child_fn emit, void *ctx);

/* ---- one key's history ---- */

/* Its rows, the newest first, deletes included, at most max of them, as far back as compaction has left them. emit returns 1 to
 * stop. */
int store_key_history(struct store_read *r, struct slice key, size_t max, store_event_fn emit, void *ctx);
/* The row that the key got in exactly that revision; -ENOENT. */
int store_key_version(struct store_read *r, struct slice key, int64_t revision, struct arena *arena,
                      struct event *ret_event);
/* Whether the path is or was a key, and a directory, as far back as compaction has left keys. */
int store_was(struct store_read *r, struct slice path, bool *ret_key, bool *ret_dir);
/* One level below dir of all keys there are or were, and of the directories there are. */
int store_list_ever(struct store_read *r, struct slice dir, store_child_fn emit, void *ctx);
int store_list_bare_ever(struct store_read *r, struct slice dir, store_child_fn emit, void *ctx);

/* How many keys and directories made by mkdir there are; of keys over 502 bytes some count as one. */
int store_count(struct store_read *r, uint64_t *ret_keys, uint64_t *ret_dirs);

/* ---- extended attributes ---- */

/* Extended attributes of a file or directory (also by its number alone, when that is known). -ENOENT: no such node;
 * -ENODATA: no such attribute. Names ascend; emit returns 1 to stop. */
typedef int (*store_xattr_fn)(void *ctx, struct slice name, uint64_t value_len);
int store_xattr_get(struct store_read *r, struct slice path, struct slice name, struct arena *arena,
                    struct slice *ret_value);
int store_xattr_list(struct store_read *r, struct slice path, store_xattr_fn emit, void *ctx);
int store_xattr_get_ino(struct store_read *r, uint64_t ino, struct slice name, struct arena *arena,
                        struct slice *ret_value);
int store_xattr_list_ino(struct store_read *r, uint64_t ino, store_xattr_fn emit, void *ctx);

/* ---- file locks ---- */

/* Would op (ino, session, owner, kind, type, start, end) be granted? *ret_conflict: the first lock in its way. */
int store_lock_query(struct store_read *r, const struct lock_op *op, struct lock_op *ret_conflict, bool *ret_found);
/* Every lock and waiter (.wait), by inode and age. emit returns 1 to stop. */
typedef int (*store_lock_fn)(void *ctx, const struct lock_op *lock, uint64_t token);
int store_locks(struct store_read *r, store_lock_fn emit, void *ctx);

#endif
