/* status.h - how a request ended, as every part of quorumfs says it: the one error table.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  none.
 * Memory:  static strings.
 *
 * A status is an answer ("the lease does not exist"), a negative errno is a failure of the machinery.
 * Numbers are on the socket, between nodes and in the sessions table: never reuse or renumber.
 * The texts and gRPC codes are etcd's public interface (rpctypes of api/v3): clients compare them to
 * the letter. The errno is what a mount answers. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stdint.h>

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/*      name                  number  errno          gRPC code            text */
#define STATUS_TABLE(X)                                                                                     \
    X(OK,                          0, 0,             GRPC_OK,                  "")                               \
    /* requests that cannot be right */                                                                     \
    X(EMPTY_KEY,                   1, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: key is not provided") \
    X(KEY_NOT_FOUND,               2, ENOENT,        GRPC_INVALID_ARGUMENT,    "etcdserver: key not found")       \
    X(VALUE_PROVIDED,              3, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: value is provided")   \
    X(LEASE_PROVIDED,              4, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: lease is provided")   \
    X(TOO_MANY_OPS,                5, E2BIG,         GRPC_INVALID_ARGUMENT,    "etcdserver: too many operations in txn request") \
    X(DUPLICATE_KEY,               6, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: duplicate key given in txn request") \
    X(INVALID_SORT,                7, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: invalid sort option") \
    X(TOO_LARGE,                   8, EFBIG,         GRPC_INVALID_ARGUMENT,    "etcdserver: request is too large") \
    X(COMPACTED,                   9, ESTALE,        GRPC_OUT_OF_RANGE,        "etcdserver: mvcc: required revision has been compacted") \
    X(FUTURE_REVISION,            10, EINVAL,        GRPC_OUT_OF_RANGE,        "etcdserver: mvcc: required revision is a future revision") \
    X(NO_SPACE,                   11, ENOSPC,        GRPC_RESOURCE_EXHAUSTED,  "etcdserver: mvcc: database space exceeded") \
    X(LEASE_NOT_FOUND,            12, ENOENT,        GRPC_NOT_FOUND,           "etcdserver: requested lease not found") \
    X(LEASE_EXISTS,               13, EEXIST,        GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists") \
    X(LEASE_TTL_TOO_LARGE,        14, EINVAL,        GRPC_OUT_OF_RANGE,        "etcdserver: too large lease TTL") \
    X(CORRUPT,                    15, EIO,           GRPC_DATA_LOSS,           "etcdserver: corrupt cluster")     \
    X(INVALID_REQUEST,            16, EINVAL,        GRPC_INVALID_ARGUMENT,    "quorumfs: malformed request")     \
    X(UNIMPLEMENTED,              17, ENOSYS,        GRPC_UNIMPLEMENTED,       "quorumfs: not implemented")       \
    /* the cluster's state */                                                                               \
    X(NO_LEADER,                  32, EROFS,         GRPC_UNAVAILABLE,         "etcdserver: no leader")           \
    X(LEADER_CHANGED,             33, ETIMEDOUT,     GRPC_UNAVAILABLE,         "etcdserver: leader changed")      \
    X(STOPPED,                    34, ETIMEDOUT,     GRPC_UNAVAILABLE,         "etcdserver: server stopped")      \
    X(TIMEOUT,                    35, ETIMEDOUT,     GRPC_UNAVAILABLE,         "etcdserver: request timed out")   \
    X(TIMEOUT_LEADER_FAIL,        36, ETIMEDOUT,     GRPC_UNAVAILABLE,         "etcdserver: request timed out, possibly due to previous leader failure") \
    X(TIMEOUT_CONNECTION_LOST,    37, ETIMEDOUT,     GRPC_UNAVAILABLE,         "etcdserver: request timed out, possibly due to connection lost") \
    X(TOO_MANY_REQUESTS,          38, EAGAIN,        GRPC_RESOURCE_EXHAUSTED,  "etcdserver: too many requests")   \
    X(NOT_LEADER,                 39, EAGAIN,        GRPC_FAILED_PRECONDITION, "etcdserver: not leader")          \
    X(SESSION_EXPIRED,            40, EIO,           GRPC_FAILED_PRECONDITION, "quorumfs: session is not known any more, the outcome of the request is unknown") \
    X(SEQUENCE_OLD,               41, EIO,           GRPC_FAILED_PRECONDITION, "quorumfs: sequence number was used before") \
    X(NOT_CAPABLE,                42, ENOSYS,        GRPC_FAILED_PRECONDITION, "etcdserver: not capable")         \
    X(UNHEALTHY,                  43, EIO,           GRPC_UNAVAILABLE,         "etcdserver: unhealthy cluster")   \
    X(PERMISSION_DENIED,          44, EACCES,        GRPC_PERMISSION_DENIED,   "etcdserver: permission denied")   \
    /* the cluster's members */                                                                             \
    X(MEMBER_NOT_FOUND,           45, ENOENT,        GRPC_NOT_FOUND,           "etcdserver: member not found")    \
    X(MEMBER_EXISTS,              46, EEXIST,        GRPC_FAILED_PRECONDITION, "etcdserver: member ID already exist") \
    X(PEER_URL_EXISTS,            47, EEXIST,        GRPC_FAILED_PRECONDITION, "etcdserver: Peer URLs already exists") \
    X(NOT_ENOUGH_STARTED,         48, EBUSY,         GRPC_FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members") \
    X(LEARNER_NOT_READY,          49, EBUSY,         GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader") \
    X(MEMBER_NOT_LEARNER,         50, EINVAL,        GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member") \
    X(TOO_MANY_LEARNERS,          51, EBUSY,         GRPC_FAILED_PRECONDITION, "etcdserver: too many learner members in cluster") \
    X(BAD_TRANSFEREE,             52, EINVAL,        GRPC_FAILED_PRECONDITION, "etcdserver: bad leader transferee") \
    X(BAD_MEMBER_URLS,            53, EINVAL,        GRPC_INVALID_ARGUMENT,    "etcdserver: given member URLs are invalid") \
    X(NOT_SUPPORTED_FOR_LEARNER,  54, ENOSYS,        GRPC_FAILED_PRECONDITION, "etcdserver: rpc not supported for learner") \
    X(CLUSTER_ID_MISMATCH,        55, EINVAL,        GRPC_FAILED_PRECONDITION, "etcdserver: cluster ID mismatch") \
    /* a node's own files */                                                                                \
    X(CHECKPOINT_FAILED,          56, EIO,           GRPC_INTERNAL,            "quorumfs: the checkpoint failed, the node's log says why") \
    X(DISK_FULL,                  57, ENOSPC,        GRPC_RESOURCE_EXHAUSTED,  "quorumfs: the node's disk has no room for it") \
    /* file commands, as POSIX has them */                                                                  \
    X(EXISTS,                     64, EEXIST,        GRPC_ALREADY_EXISTS,      "quorumfs: file exists")           \
    X(NO_ENTRY,                   65, ENOENT,        GRPC_NOT_FOUND,           "quorumfs: no such file or directory") \
    X(NOT_DIRECTORY,              66, ENOTDIR,       GRPC_FAILED_PRECONDITION, "quorumfs: not a directory")       \
    X(IS_DIRECTORY,               67, EISDIR,        GRPC_FAILED_PRECONDITION, "quorumfs: is a directory")        \
    X(NOT_EMPTY,                  68, ENOTEMPTY,     GRPC_FAILED_PRECONDITION, "quorumfs: directory not empty")   \
    X(STALE,                      69, ESTALE,        GRPC_ABORTED,             "quorumfs: the file was replaced or changed meanwhile") \
    X(CROSS_DEVICE,               70, EXDEV,         GRPC_OUT_OF_RANGE,        "quorumfs: too much to move in one step") \
    X(INVALID_MOVE,               71, EINVAL,        GRPC_INVALID_ARGUMENT,    "quorumfs: a directory cannot move into itself") \
    X(NAME_TOO_LONG,              72, ENAMETOOLONG,  GRPC_INVALID_ARGUMENT,    "quorumfs: name too long")         \
    X(WOULD_BLOCK,                73, EAGAIN,        GRPC_ABORTED,             "quorumfs: locked by another owner") \
    X(NO_ATTRIBUTE,               74, ENODATA,       GRPC_NOT_FOUND,           "quorumfs: no such attribute")     \
    X(TOO_MANY,                   75, ENOLCK,        GRPC_RESOURCE_EXHAUSTED,  "quorumfs: too many locks")        \
    X(ATTRIBUTE_TOO_LARGE,        76, E2BIG,         GRPC_INVALID_ARGUMENT,    "quorumfs: attribute too large")   \
    X(ATTRIBUTES_FULL,            77, ENOSPC,        GRPC_RESOURCE_EXHAUSTED,  "quorumfs: no room for more attributes of this file") \
    X(DEADLOCK,                   78, EDEADLK,       GRPC_ABORTED,             "quorumfs: the lock would be waited for forever") \
    X(FENCED,                     79, EIO,           GRPC_ABORTED,             "quorumfs: the lock session has ended")

enum status {
#define STATUS_ENUM(name, number, errno_value, code, text) STATUS_##name = number,
    STATUS_TABLE(STATUS_ENUM)
#undef STATUS_ENUM
};

/* A number that this version does not know is answered for as GRPC_UNKNOWN, EIO, "unknown status". */
const char *status_name(uint16_t status);
const char *status_text(uint16_t status);
enum grpc_code status_grpc_code(uint16_t status);
int status_errno(uint16_t status); /* positive; 0 for OK */

#endif
