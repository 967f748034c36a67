/* env.h - inside store/: the open environment, its tables, and a snapshot of it.
 *
 * Process: see store.h.
 * Thread:  see store.h; struct store itself changes only on the writer's thread.
 * Errors:  negative errno, from err_from_mdb().
 * Memory:  a snap belongs to a store_read or a store_batch.
 * Units:   revisions and indexes from 1. */
#ifndef STORE_ENV_H
#define STORE_ENV_H

#include <lmdb.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "store/store.h"
#include "store/tree.h"

#define STORE_FORMAT 1                 /* of everything in the environment; docs/disk.md */
#define STORE_MAP_BYTES (16ull << 30)  /* address space by default */
#define STORE_MAX_TABLES 32
#define STORE_MAX_READERS 1024         /* slots of lock.mdb: read transactions of all processes */
#define STORE_COMPACT_BATCH_ROWS 256   /* of the log that each batch takes through compaction */
#define STORE_READER_CHECK_BATCHES 64  /* the writer clears slots of dead processes once in so many batches */

/* The one translator of LMDB's errors. MDB_NOTFOUND is -ENOENT, a full map -ENOSPC, damage -EUCLEAN. */
int err_from_mdb(int mdb_rc);

/* What the quota is compared with; usage.c says how it counts. */
struct usage {
    uint64_t row_bytes;  /* of the tables of what is there now */
    uint64_t live_bytes; /* of the rows of the log that live keys need */
    uint64_t log_bytes;  /* of all rows that ever were in the log */
    uint64_t base_log_bytes, base_live_bytes; /* the same two at the place up to which compaction is counted */
    uint64_t sampled_log_bytes;               /* log_bytes at the last sample */
};

/* What changes with every batch: one row, in the data's own transaction. */
struct state {
    uint64_t applied_index, applied_term; /* whole entries */
    uint64_t part_index, part_next; /* commands of entry part_index before position part_next are applied too */
    int64_t revision, compacted;
    struct rev removal;       /* rows before this one have been through compaction up to `compacted` */
    uint64_t next_inode, next_layer, session_uses;
    uint64_t membership_index;
    struct usage usage;
    uint64_t quota_bytes;     /* 0: none */
    uint64_t lock_serial;     /* numbers locks, waiters and grants (tokens) */
    uint64_t lock_count;      /* rows of locks and waiters */
    uint64_t cluster_version; /* 0: never set */
    uint64_t xattr_count;     /* of all nodes */
    uint64_t alarms;          /* 1 << type of each type that is active on any member */
};

struct session_use {
    uint64_t session, use;
};

struct store {
    MDB_env *env;
    char *dir;
    unsigned flags;
    bool marked; /* as running without syncs */
    enum store_origin origin;
    atomic_bool checkpoint_canceled;
    uint64_t epoch, cluster_id, env_id;
    /* tables; meta rows stand in the environment's main database */
    MDB_dbi main, keys, gone, dirs, layers, log, sessions;
    MDB_dbi leases, lease_keys, xattrs, locks, usage; /* 0: a reader of an environment that has none of them yet */
    /* writer only */
    bool failed;           /* a commit failed: what is on disk is unknown */
    bool in_batch;
    uint64_t batches_count;
    struct session_use *session_uses; /* of each row of the table, NULL until loaded */
    size_t n_session_uses;
};

/* The data at one moment, or inside a batch as changed so far. */
struct snap {
    struct store *store;
    MDB_txn *txn;
    struct state state;
    MDB_cursor *log_cursor; /* opened when first needed */
    bool writing;           /* what points into the map dies at the next write: copy it */
};

struct store_read {
    struct snap snap;
};

struct tree snap_keys(const struct snap *p);
struct tree snap_gone(const struct snap *p);
struct tree snap_dirs(const struct snap *p);
int snap_log_cursor(struct snap *p, MDB_cursor **ret_cursor);
/* Bytes as they may be handed out: themselves, or a copy in arena while writing. */
int snap_keep(const struct snap *p, struct slice s, struct arena *arena, struct slice *ret_kept);

/* *ret_counted (or NULL): false: the row is of a version that did not count usage. */
int state_load(MDB_txn *txn, MDB_dbi main_dbi, struct state *ret_state, bool *ret_counted);
int state_save(MDB_txn *txn, MDB_dbi main_dbi, const struct state *state);

/* The row "begun": how the environment began, if not empty. */
enum env_begun { ENV_BEGUN_INSTALLED = 1, ENV_BEGUN_RESTORED = 2 };
int begun_get(MDB_txn *txn, MDB_dbi main_dbi, struct store_meta *meta);
int begun_put(MDB_txn *txn, MDB_dbi main_dbi, enum env_begun how, uint64_t index, uint64_t term);

/* Meta rows by name: CRC, then bytes. -ENOENT. */
int meta_row_get(MDB_txn *txn, MDB_dbi main_dbi, const char *name, struct slice *ret_body);
int meta_row_put(MDB_txn *txn, MDB_dbi main_dbi, const char *name, struct slice body);

#endif
