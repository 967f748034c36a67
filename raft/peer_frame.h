/* peer_frame.h - frames between members, and the transport's own frames (docs/peer.md, "Framing", fixes every byte).
 *
 * Process: node.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that lie. A broken CRC is one: the connection ends, what was lost is sent again.
 * Memory:  decoding borrows.
 * Units:   bytes. */
#ifndef RAFT_PEER_FRAME_H
#define RAFT_PEER_FRAME_H

#include "base/bytes.h"

#define PEER_FRAME_HEAD_BYTES 12
#define PEER_FRAME_MAX_BYTES (16 * 1024 * 1024) /* payload; the node's own limit is below (raft/message.h) */
#define PEER_HELLO_MAX_BYTES 8192               /* payload of a frame before the hello was accepted */
#define PEER_PROTOCOL 2                         /* the newest version that this program speaks */
#define PEER_PROTOCOL_MIN 1                     /* and the oldest */

/* 1 to 15 are the transport's, the others the node's (raft/message.h). */
enum peer_frame_type {
    PEER_FRAME_HELLO = 1,       /* dialler, first, once */
    PEER_FRAME_HELLO_REPLY = 2, /* its answer; with a refusal the connection ends */
    PEER_FRAME_PING = 3,        /* dialler, when it has nothing else to say */
    PEER_FRAME_PONG = 4,        /* its answer */
    PEER_FRAME_ASK = 5,         /* instead of a hello: who am I? by one that joins */
    PEER_FRAME_ANSWER = 6,      /* its answer; the connection ends */
    PEER_FRAME_FETCH = 7,       /* instead of a hello: a checkpoint file, from some offset on */
    PEER_FRAME_CHUNK = 8,       /* its answer: pieces of the file, in order */
    PEER_FRAME_FETCH_END = 9,   /* or: it is not there any more; the connection ends */
    PEER_FRAME_NODE_FIRST = 16,
};

#define PEER_PROTOCOL_ROUNDS 2 /* from here on an append and its answer may carry a round of reads (raft/message.h) */

enum peer_hello_code {
    PEER_HELLO_OK = 0,
    PEER_HELLO_WRONG_CLUSTER = 1,
    PEER_HELLO_WRONG_MEMBER = 2, /* the dialler means another member, or is this one itself */
    PEER_HELLO_WRONG_VERSION = 3,
    PEER_HELLO_BUSY = 4,
    PEER_HELLO_REMOVED = 5,  /* the dialler is no member any more */
    PEER_HELLO_REPLACED = 6, /* that member has, or had, another data directory */
    PEER_HELLO_WRONG_CERT = 7, /* the dialler's certificate is not for a host of its member's URLs */
};

struct peer_frame_head {
    uint32_t payload_bytes;
    uint32_t crc;
    uint8_t type;
};

struct peer_hello {
    uint32_t version, min_version;
    uint64_t cluster_id, from, to;
    struct slice urls; /* where the dialler listens, comma-separated */
    uint64_t instance; /* of its data directory; 0: it does not say */
};

struct peer_hello_reply {
    uint32_t version; /* the one to speak from here on; that of this program in a refusal */
    uint32_t code;    /* enum peer_hello_code; others are refusals too */
    uint64_t cluster_id, member_id;
    struct slice text; /* of a refusal */
    uint32_t program;  /* what it can apply, as APPLY_VERSION; 0: it does not say, so it is one of the first */
};

/* Appends a frame. */
void peer_frame_encode(struct bytes *out, uint8_t type, struct slice payload);
/* The head at the start of in: 1 with a head, 0 when more bytes are needed, -EBADMSG. */
int peer_frame_head_decode(struct slice in, uint32_t limit_bytes, struct peer_frame_head *ret_head);
/* frame: head and payload, whole. -EBADMSG unless the CRC is right. */
int peer_frame_verify(struct slice frame);

/* What a member that was added asks before it has a number. */
struct peer_ask {
    uint32_t version, min_version;
    struct slice urls; /* its peer URLs, canonical and sorted */
};

struct peer_answer {
    uint32_t version;
    uint32_t code; /* PEER_HELLO_OK, _WRONG_MEMBER: nobody has these URLs, _REPLACED: it has run already, _BUSY, _WRONG_VERSION */
    uint64_t cluster_id, data_id, member_id;
    struct slice text; /* of a refusal */
};

struct peer_fetch {
    struct slice hello; /* as in HELLO */
    uint64_t index, offset;
    uint32_t crc;
};

void peer_fetch_encode(const struct peer_fetch *m, struct bytes *out);
int peer_fetch_decode(struct slice in, struct peer_fetch *ret_m);
void peer_ask_encode(const struct peer_ask *m, struct bytes *out);
int peer_ask_decode(struct slice in, struct peer_ask *ret_m);
void peer_answer_encode(const struct peer_answer *m, struct bytes *out);
int peer_answer_decode(struct slice in, struct peer_answer *ret_m);
void peer_hello_encode(const struct peer_hello *m, struct bytes *out);
int peer_hello_decode(struct slice in, struct peer_hello *ret_m);
void peer_hello_reply_encode(const struct peer_hello_reply *m, struct bytes *out);
int peer_hello_reply_decode(struct slice in, struct peer_hello_reply *ret_m);

#endif
