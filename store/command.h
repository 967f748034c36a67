/* command.h - the commands that nodes agree on, decoded: what proto/ reads and writes, what
 * store_apply() executes, and what comes back.
 *
 * Process: any; only structures here, so proto/ may include it (docs/decisions/001).
 * Thread:  values.
 * Errors:  a result carries a status, see base/status.h.
 * Memory:  slices and arrays borrow: from the encoded bytes, or from the arena that decoded them.
 * Units:   revisions count from 1; time in nanoseconds since 1970 by the proposer's clock.
 *
 * The KV commands have the meaning of etcd's messages of the same name (api/v3 etcdserverpb). The file
 * commands are ours: each takes at most one revision. Apply never looks at a clock or a random source:
 * all of that came with the command. */
#ifndef STORE_COMMAND_H
#define STORE_COMMAND_H

#include "base/slice.h"
#include "base/status.h"

/* Limits (docs/limits.md). A key or path in bytes, after any name mapping. */
#define KEY_MAX_BYTES 16384
#define REQUEST_MAX_BYTES (1536 * 1024)     /* etcd's --max-request-bytes default: for one KV request */
#define FILE_MAX_BYTES (8 * 1024 * 1024)    /* content of one file through a mount, --max-file-bytes */
#define COMMAND_MAX_BYTES (FILE_MAX_BYTES + 64 * 1024) /* one encoded command, whatever its kind */
#define TXN_MAX_OPS 128                     /* etcd's --max-txn-ops default */
#define TXN_MAX_DEPTH 16
#define RENAME_MAX_KEYS 10000
#define RENAME_MAX_BYTES (64 * 1024 * 1024)
#define LEASE_TTL_MAX_S 9000000000 /* etcd's: about 285 years */
#define LEASE_CHECKPOINT_MAX 1000  /* leases in one command, as in etcd */
#define XATTR_NAME_MAX_BYTES 255
#define XATTR_VALUE_MAX_BYTES (64 * 1024)
#define XATTR_NODE_MAX_BYTES (128 * 1024) /* names, values and XATTR_OVERHEAD_BYTES each, of one node */
#define XATTR_OVERHEAD_BYTES 64
#define XATTR_NAMES_MAX_BYTES (64 * 1024) /* what listxattr(2) can tell: names and a zero byte each */
#define LOCK_NODE_MAX 2048                /* locks and waiters of one inode */
#define LOCK_MAX (256 * 1024)             /* of the cluster */

/* This program's version of what can be applied, major << 16 | minor: a command that asks for more stops the node. */
#define APPLY_VERSION (0u << 16 | 2u)

/* Numbers are in every log: never reuse or renumber. A kind that a node does not know stops it. */
enum command_kind {
    COMMAND_NOOP = 1, /* a new leader's first entry; takes no revision */
    COMMAND_PUT = 2,
    COMMAND_DELETE_RANGE = 3,
    COMMAND_TXN = 4,
    COMMAND_COMPACT = 5,
    COMMAND_LEASE_GRANT = 6,
    COMMAND_LEASE_REVOKE = 7,
    COMMAND_LEASE_EXPIRE = 8,     /* the leader's: revoke, unless another term's leader kept it alive meanwhile */
    COMMAND_LEASE_CHECKPOINT = 9, /* the leader's: what remains of leases; takes no revision */
    COMMAND_ALARM = 10,           /* takes no revision */
    COMMAND_QUOTA_SET = 11,       /* takes no revision */
    COMMAND_MEMBER_PUBLISH = 16, /* a member's name and client URLs; takes no revision */
    COMMAND_ALLOC_INODES = 17,   /* a range of inode numbers for one mount; takes no revision */
    COMMAND_CLUSTER_VERSION = 18, /* what every member can apply; takes no revision */
    COMMAND_FILE_WRITE = 32,   /* whole content of a regular file, created if asked */
    COMMAND_FILE_APPEND = 33,
    COMMAND_FILE_MKDIR = 34,
    COMMAND_FILE_SYMLINK = 35, /* also FIFO and socket nodes: content and type say which */
    COMMAND_FILE_UNLINK = 36,
    COMMAND_FILE_RMDIR = 37,
    COMMAND_FILE_RENAME = 38,
    COMMAND_FILE_SETATTR = 39,
    COMMAND_FILE_SETXATTR = 40,
    COMMAND_FILE_REMOVEXATTR = 41,
    COMMAND_FILE_LOCK = 42,
    COMMAND_FILE_UNLOCK = 43,
    COMMAND_FILE_LOCK_CANCEL = 44,
};

struct rev {
    int64_t main; /* 0: none */
    int64_t sub;
};

/* ---- KV ---- */

struct op_put {
    struct slice key, value;
    int64_t lease;
    bool prev_kv, ignore_value, ignore_lease;
};

struct op_delete {
    struct slice key, range_end; /* empty end: one key; "\0": from key on, as etcd has it */
    bool prev_kv;
};

enum sort_order { SORT_NONE, SORT_ASCEND, SORT_DESCEND };
enum sort_target { SORT_BY_KEY, SORT_BY_VERSION, SORT_BY_CREATE, SORT_BY_MOD, SORT_BY_VALUE };

struct op_range {
    struct slice key, range_end;
    int64_t limit;    /* 0: none */
    int64_t revision; /* <= 0: newest */
    enum sort_order sort_order;
    enum sort_target sort_target;
    bool serializable, keys_only, count_only;
    int64_t min_mod_revision, max_mod_revision, min_create_revision, max_create_revision; /* 0: none */
};

enum compare_result { COMPARE_EQUAL, COMPARE_GREATER, COMPARE_LESS, COMPARE_NOT_EQUAL };
enum compare_target { COMPARE_VERSION, COMPARE_CREATE, COMPARE_MOD, COMPARE_VALUE, COMPARE_LEASE };

struct op_compare {
    enum compare_result result;
    enum compare_target target;
    struct slice key, range_end;
    int64_t number;     /* version, revision or lease to compare with */
    struct slice value; /* of COMPARE_VALUE */
};

enum op_kind { OP_RANGE = 1, OP_PUT = 2, OP_DELETE = 3, OP_TXN = 4 }; /* etcd's field numbers */

struct txn {
    struct op_compare *compares;
    struct op *success, *failure;
    size_t n_compares, n_success, n_failure;
};

struct op {
    enum op_kind kind;
    union {
        struct op_range range;
        struct op_put put;
        struct op_delete del;
        struct txn *txn;
    };
};

/* ---- files ---- */

/* Attributes of a file or directory. Keys that only clientv3 ever wrote have none (has == 0). */
enum attr_mask {
    ATTR_MODE = 1,  /* permission bits, and in a new node the type (S_IFMT) */
    ATTR_UID = 2,
    ATTR_GID = 4,
    ATTR_MTIME = 8, /* mtime_ns as given; without it a change of content takes the command's time */
    ATTR_SIZE = 16, /* setattr only: truncate or extend with zeros to .size */
    ATTR_INO = 32,  /* inode number given by the node at create; without it: derived from create revision */
    ATTR_ATIME = 64, /* accepted and not kept */
};

struct attrs {
    uint32_t has; /* enum attr_mask */
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    uint64_t ino;
    uint64_t size;
};

enum file_flags {
    FILE_CREATE = 1,      /* make it if it is not there (with attrs) */
    FILE_EXCLUSIVE = 2,   /* and fail with EXISTS if it is */
    FILE_NOREPLACE = 4,   /* rename: RENAME_NOREPLACE */
    FILE_EXCHANGE = 8,    /* rename: RENAME_EXCHANGE */
    FILE_EXPECT_REV = 16, /* STALE unless the key's mod revision is .expect_rev */
    FILE_WITH_VALUE = 32, /* rename of a file whose new content is not committed yet: write and move in one */
    FILE_REPLACE = 64,    /* setxattr: XATTR_REPLACE, NO_ATTRIBUTE if it is not there (FILE_CREATE: XATTR_CREATE) */
};

/* One structure for all file kinds; a kind reads what its line below says.
 *   WRITE    path ino value attrs flags expect_rev   ino 0 with CREATE: nobody knew the name
 *   APPEND   path ino value
 *   MKDIR    path attrs                              EXISTS if anything has the name
 *   SYMLINK  path value attrs                        attrs.mode says S_IFLNK, S_IFIFO, S_IFSOCK
 *   UNLINK   path ino                                IS_DIRECTORY for a directory
 *   RMDIR    path ino                                NOT_EMPTY, NOT_DIRECTORY
 *   RENAME   path ino path2 ino2 flags [value attrs] ino2: who had the target's name, 0 nobody
 *   SETATTR  path ino attrs                          of files and directories, implicit ones too
 *   SETXATTR path ino path2 value flags              path2: the attribute's name. Of all nodes that SETATTR takes
 *   REMOVEXATTR path ino path2                       NO_ATTRIBUTE
 * An ino of 0 in WRITE without CREATE, APPEND, UNLINK, RMDIR, SETATTR, .. means "whoever it is"; otherwise a
 * different identity is STALE. A path is the key's bytes; a directory's has no trailing slash; a path's
 * parent must exist ("/" always does; an implicit directory is one) or the answer is NO_ENTRY, and
 * NOT_DIRECTORY if it is a file. Any of them with a fence is FENCED, and nothing else, unless that lease is there: a mount's
 * lock session, under whose locks the change was made. */
struct file_op {
    struct slice path, path2, value;
    uint64_t ino, ino2;
    uint32_t flags; /* enum file_flags */
    int64_t expect_rev;
    int64_t fence; /* 0: none */
    struct attrs attrs;
};

/* ---- leases, alarms ---- */

struct lease_op {
    int64_t id;    /* chosen by the proposer; never 0 in the log */
    int64_t ttl_s; /* GRANT: the proposer has raised it to the cluster's minimum */
    uint64_t term; /* EXPIRE: does nothing (NOT_LEADER) unless the entry is of that raft term */
};

struct lease_checkpoint {
    int64_t id, remaining_s; /* 0: nothing was noted, the whole TTL remains */
};

enum alarm_action { ALARM_GET, ALARM_ACTIVATE, ALARM_DEACTIVATE };   /* etcd's numbers */
enum alarm_type { ALARM_NONE, ALARM_NOSPACE, ALARM_CORRUPT }; /* the same */

struct alarm_op {
    int32_t action, type; /* GET with NONE: all */
    uint64_t member_id;
};

struct alarm {
    uint64_t member_id;
    int type; /* enum alarm_type */
};

/* ---- file locks ---- */

enum lock_kind { LOCK_POSIX = 1, LOCK_FLOCK = 2 }; /* they do not meet each other */
enum lock_type { LOCK_SHARED = 1, LOCK_EXCLUSIVE = 2 };

/* Cluster-wide advisory locks of an inode, whatever its name (store/lock.c has the rules).
 *   LOCK         all fields. OK and .granted with a fencing token; OK and not .granted: it waits (and EVENT_LOCK tells
 *                when it has it); WOULD_BLOCK, DEADLOCK, TOO_MANY, LEASE_NOT_FOUND
 *   UNLOCK       ino session owner kind start end, or with all: everything of the owner on the inode, waiters too
 *   LOCK_CANCEL  as its LOCK. .granted says that it had been granted before */
struct lock_op {
    uint64_t ino;
    uint64_t session, owner; /* who: the mount's lock session and its number for the process or open file */
    uint64_t request;        /* the session's number for this request */
    int kind, type;          /* enum lock_kind, enum lock_type */
    uint64_t start, end;     /* bytes, end inclusive; UINT64_MAX: to the end, however long the file gets */
    uint32_t pid;
    bool wait, all;
    int64_t lease; /* when it ends, its locks and waiters end; 0: none, for tests and tools */
};

/* ---- the command ---- */

struct member_info {
    uint64_t id;
    struct slice name;
    struct slice *client_urls;
    size_t n_client_urls;
    uint32_t version; /* of the member's program, as APPLY_VERSION; 0: it did not say, so it is 0.1 */
    uint64_t instance; /* the number of its data directory; 0: it has none */
};

struct command {
    /* envelope */
    uint16_t kind;        /* enum command_kind */
    uint64_t session;     /* 0: none, and then the command is never retried */
    uint64_t sequence;    /* counts from 1 in a session, one proposal at a time */
    uint64_t origin;      /* the member that proposed it */
    uint64_t request;     /* that member's number for it, to find who waits */
    struct slice user;    /* authenticated user, empty without auth */
    uint64_t auth_revision;
    int64_t time_ns;
    uint32_t min_version; /* minimum cluster version, major << 16 | minor */
    /* body */
    union {
        struct op_put put;
        struct op_delete del;
        struct txn txn;
        struct file_op file;
        struct lock_op lock;
        struct lease_op lease;
        struct alarm_op alarm;
        struct member_info member;
        struct {
            int64_t revision;
            bool physical;
        } compact;
        struct {
            uint32_t count;
        } alloc_inodes;
        struct {
            struct lease_checkpoint *items;
            size_t n_items;
        } checkpoint;
        struct {
            uint64_t bytes; /* 0: none */
        } quota;
        struct {
            uint32_t version; /* as APPLY_VERSION; never goes down */
        } cluster_version;
    };
};

/* ---- what comes back ---- */

struct kv {
    struct slice key, value;
    int64_t create_revision, mod_revision, version, lease;
};

struct range_result {
    struct kv *kvs;
    size_t n_kvs;
    int64_t count; /* in range, whatever the limit */
    bool more;
};

struct op_result {
    enum op_kind kind;
    union {
        struct range_result range;
        struct {
            struct kv *prev_kv; /* NULL: none or not asked */
        } put;
        struct {
            int64_t deleted;
            struct kv *prev_kvs;
            size_t n_prev_kvs;
        } del;
        struct txn_result *txn;
    };
};

struct txn_result {
    bool succeeded;
    struct op_result *ops;
    size_t n_ops;
};

/* status != OK: nothing was changed and nothing else is set but the revision. */
struct result {
    uint16_t status;
    uint16_t kind;    /* enum command_kind: says which member of the union holds */
    int64_t revision; /* of the store after this command */
    union {
        struct op_result op;     /* PUT, DELETE_RANGE */
        struct txn_result txn;   /* TXN */
        struct {
            uint64_t ino;        /* of the node made or changed; first number of ALLOC_INODES */
            uint64_t size;
            bool changed;        /* a revision was taken */
        } file;
        struct {
            int64_t id, ttl_s;
        } lease;                 /* LEASE_GRANT */
        struct {
            struct alarm *items; /* by member and type */
            size_t n_items;
        } alarms;                /* ALARM: all asked for, or the one that is or was active */
        struct {
            bool granted;
            uint64_t token; /* of a lock that is granted: later grants have higher ones */
        } lock;             /* FILE_LOCK, FILE_LOCK_CANCEL */
    };
};

#endif
