/* socket.h - the frames of the node's local socket (docs/socket.md fixes every byte and the legal replies).
 *
 * Process: node and front ends.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that lie, -EPROTONOSUPPORT for another protocol version.
 * Memory:  decoding borrows.
 * Units:   bytes.
 *
 * Head, little-endian:  0 u32 length of what follows it   4 u8 type   5 u8 zero   6 u16 zero   8 u64 tag
 * The tag is the asker's number for a request and stands in its one reply; 0 in notices. */
#ifndef PROTO_SOCKET_H
#define PROTO_SOCKET_H

#include "base/bytes.h"
#include "base/slice.h"
#include "store/command.h"

#define SOCKET_VERSION 1
#define SOCKET_HEAD_BYTES 16
#define SOCKET_FRAME_MAX_BYTES (COMMAND_MAX_BYTES + 4096) /* an answer can be larger: see below */
#define SOCKET_ANSWER_MAX_BYTES (64 * 1024 * 1024)        /* a txn's answer with ranges in it */

enum socket_type {           /* from      legal replies */
    SOCKET_HELLO = 1,        /* client    WELCOME, REFUSED (then closed); first frame, once */
    SOCKET_WELCOME = 2,      /* node */
    SOCKET_REFUSED = 3,      /* node      text says why; the node closes */
    SOCKET_PROPOSE = 4,      /* client    PROPOSED; payload: one encoded command */
    SOCKET_PROPOSED = 5,     /* node */
    SOCKET_BARRIER = 6,      /* client    BARRIER_DONE; empty */
    SOCKET_BARRIER_DONE = 7, /* node */
    SOCKET_NOTICE = 8,       /* node      unasked: (epoch, revision) is readable */
    SOCKET_LEADER = 9,       /* node      unasked: leader and term; leader 0: none, waits were failed */
    SOCKET_STATUS = 10,      /* client    STATUS_REPLY; empty */
    SOCKET_STATUS_REPLY = 11, /* node     JSON text, for tools and .quorumfs/ */
    SOCKET_KEEPALIVE = 12,       /* client    KEEPALIVE_DONE */
    SOCKET_KEEPALIVE_DONE = 13,  /* node */
    SOCKET_LEASE_TIME = 14,      /* client    LEASE_TIME_DONE; the same payload as KEEPALIVE */
    SOCKET_LEASE_TIME_DONE = 15, /* node */
    SOCKET_MEMBER = 16,          /* client    MEMBER_DONE */
    SOCKET_MEMBER_DONE = 17,     /* node */
    SOCKET_MAINTAIN = 18,        /* client    MAINTAIN_DONE */
    SOCKET_MAINTAIN_DONE = 19,   /* node */
};

struct socket_hello {
    uint32_t version;
    struct slice program; /* "quorumctl", for the node's log and metrics */
    uint32_t pid;
};

struct socket_welcome {
    uint32_t version;
    uint64_t cluster_id, member_id, leader, term, epoch;
    int64_t revision;
    uint64_t heartbeat_ms, election_ms;
    struct slice name;      /* of the member */
    struct slice store_dir; /* absolute */
};

struct socket_proposed {
    uint16_t status;
    int64_t revision;
    uint64_t term;
    struct slice body;
};

struct socket_barrier_done {
    uint16_t status;
    uint64_t epoch, term;
    int64_t revision;
};

struct socket_notice {
    uint64_t epoch;
    int64_t revision;
};

struct socket_leader {
    uint64_t leader, term;
};

struct socket_lease { /* KEEPALIVE and LEASE_TIME */
    int64_t id;
};

struct socket_keepalive_done {
    uint16_t status;
    int64_t ttl_s; /* as granted: the lease lives that long again */
};

struct socket_lease_time_done {
    uint16_t status;
    int64_t granted_s, remaining_s; /* by the leader's clock */
};

enum socket_member_op {
    SOCKET_MEMBER_ADD = 1,
    SOCKET_MEMBER_REMOVE = 2,
    SOCKET_MEMBER_UPDATE = 3,
    SOCKET_MEMBER_PROMOTE = 4,
    SOCKET_MEMBER_LIST = 5, /* linearizable */
};

struct socket_member_change {
    uint8_t op;             /* enum socket_member_op */
    bool learner;           /* ADD */
    uint64_t id;            /* REMOVE, UPDATE, PROMOTE; else 0 */
    struct slice peer_urls; /* ADD, UPDATE: comma-separated */
};

#define SOCKET_MEMBERS_MAX 64

struct socket_member {
    uint64_t id;
    bool learner;
    struct slice name, peer_urls, client_urls; /* comma-separated; name and client_urls empty before it published them */
};

struct socket_member_done {
    uint16_t status;
    uint64_t id;       /* of the member that was changed; 0 for LIST and failures */
    size_t n_members;  /* the cluster as it is then; none unless the status is OK */
    struct socket_member members[SOCKET_MEMBERS_MAX];
};

enum socket_maintain_op {
    SOCKET_MAINTAIN_CHECKPOINT = 1,
    SOCKET_MAINTAIN_DEFRAGMENT = 2,
    SOCKET_MAINTAIN_MOVE_LEADER = 3,   /* arg: to whom; asked of the leader */
    SOCKET_MAINTAIN_TRANSFER_AWAY = 4, /* to whoever is fit for it */
};

struct socket_maintain {
    uint8_t op; /* enum socket_maintain_op */
    uint64_t arg;
};

struct socket_maintain_done {
    uint16_t status;
    uint64_t index;    /* CHECKPOINT: of the log, that the file reaches to */
    struct slice path; /* CHECKPOINT: of the file, absolute */
};

struct socket_head {
    uint32_t payload_bytes;
    uint8_t type;
    uint64_t tag;
};

/* Head of the frame at the start of in: 1 with a head (its payload may not be there yet), 0 when more bytes are
 * needed, -EBADMSG. limit: of the payload. The type may be one that this program does not know. */
int socket_head_decode(struct slice in, uint32_t limit_bytes, struct socket_head *ret_head);
/* Appends head and payload. */
void socket_frame(struct bytes *out, uint8_t type, uint64_t tag, struct slice payload);

void socket_hello_encode(const struct socket_hello *m, struct bytes *out);
int socket_hello_decode(struct slice in, struct socket_hello *ret_m);
void socket_welcome_encode(const struct socket_welcome *m, struct bytes *out);
int socket_welcome_decode(struct slice in, struct socket_welcome *ret_m);
void socket_proposed_encode(const struct socket_proposed *m, struct bytes *out);
int socket_proposed_decode(struct slice in, struct socket_proposed *ret_m);
void socket_barrier_done_encode(const struct socket_barrier_done *m, struct bytes *out);
int socket_barrier_done_decode(struct slice in, struct socket_barrier_done *ret_m);
void socket_notice_encode(const struct socket_notice *m, struct bytes *out);
int socket_notice_decode(struct slice in, struct socket_notice *ret_m);
void socket_leader_encode(const struct socket_leader *m, struct bytes *out);
int socket_leader_decode(struct slice in, struct socket_leader *ret_m);
void socket_lease_encode(const struct socket_lease *m, struct bytes *out);
int socket_lease_decode(struct slice in, struct socket_lease *ret_m);
void socket_keepalive_done_encode(const struct socket_keepalive_done *m, struct bytes *out);
int socket_keepalive_done_decode(struct slice in, struct socket_keepalive_done *ret_m);
void socket_lease_time_done_encode(const struct socket_lease_time_done *m, struct bytes *out);
int socket_lease_time_done_decode(struct slice in, struct socket_lease_time_done *ret_m);
void socket_member_change_encode(const struct socket_member_change *m, struct bytes *out);
int socket_member_change_decode(struct slice in, struct socket_member_change *ret_m);
void socket_member_done_encode(const struct socket_member_done *m, struct bytes *out);
int socket_member_done_decode(struct slice in, struct socket_member_done *ret_m);
void socket_maintain_encode(const struct socket_maintain *m, struct bytes *out);
int socket_maintain_decode(struct slice in, struct socket_maintain *ret_m);
void socket_maintain_done_encode(const struct socket_maintain_done *m, struct bytes *out);
int socket_maintain_done_decode(struct slice in, struct socket_maintain_done *ret_m);

#endif
