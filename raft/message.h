/* message.h - what members say to each other, as bytes: the payloads of peer frames (docs/peer.md fixes every byte).
 *
 * Process: node.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that lie, -EPROTONOSUPPORT for a payload version newer than this program.
 *          A peer is authenticated and may lie all the same: nothing that passes here can upset the core.
 * Memory:  decoding borrows from the bytes and takes arrays from the arena.
 * Units:   bytes; terms and indexes from 1, 0 is "none". */
#ifndef RAFT_MESSAGE_H
#define RAFT_MESSAGE_H

#include "base/arena.h"
#include "base/bytes.h"
#include "raft/log.h"
#include "store/command.h"

#define PEER_PAYLOAD_VERSION 1

/* Numbers are on the wire: never reuse or renumber. 1 to 15 belong to the transport (hello and the like). */
enum peer_type {
    PEER_VOTE = 16,
    PEER_VOTE_RESULT = 17,
    PEER_APPEND = 18,
    PEER_APPEND_RESULT = 19,
    PEER_TIMEOUT_NOW = 20,
    PEER_SNAPSHOT_OFFER = 21,
    PEER_SNAPSHOT_REPLY = 22,
    PEER_FORWARD = 32,
    PEER_FORWARD_REJECT = 33,
    PEER_READ_INDEX = 34,
    PEER_READ_INDEX_REPLY = 35,
    PEER_READ_CONFIRM = 36,
    PEER_READ_CONFIRMED = 37,
    PEER_COMMIT = 38,
    PEER_LEASE = 39, /* lease_message.h */
    PEER_LEASE_REPLY = 40,
    PEER_MEMBER_CHANGE = 48,
    PEER_MEMBER_RESULT = 49,
};

/* Limits (docs/limits.md). An entry holds one command of any size, or several that are small together. */
#define ENTRY_MAX_BYTES (COMMAND_MAX_BYTES + 64)
#define ENTRY_MAX_COMMANDS 4096
#define APPEND_FRAME_BYTES (1024 * 1024) /* an append frame is closed behind the entry that passes this */
#define APPEND_MAX_ENTRIES 4096          /* of one frame */
#define FORWARD_FRAME_BYTES (1024 * 1024)
#define PEER_PAYLOAD_MAX_BYTES (APPEND_FRAME_BYTES + ENTRY_MAX_BYTES + 64 * APPEND_MAX_ENTRIES)
#define PEER_NUMBER_MAX (UINT64_MAX / 4) /* terms and indexes above it are lies: sums must not overflow */

struct peer_vote {
    uint64_t term, last_index, last_term;
    bool disrupt_leader, pre_vote; /* disrupt: a transfer of leadership, so do not defend the old leader */
};

struct peer_vote_result {
    uint64_t term;
    bool granted, pre_vote;
};

struct peer_append {
    uint64_t term, prev_index, prev_term, commit;
    const struct log_entry *entries; /* indexes follow prev_index */
    size_t n_entries;
    uint64_t round; /* of reads, which this append asks to confirm; 0: none. For members of PEER_PROTOCOL_ROUNDS alone */
};

struct peer_append_result {
    uint64_t term;
    uint64_t rejected;   /* 0: accepted; else the prev_index that did not match */
    uint64_t last_index; /* durable and matching up to here; with rejected: a hint where to try */
    uint64_t round;      /* of an append of this term that has come; 0: none */
};

struct peer_timeout_now {
    uint64_t term, last_index, last_term;
};

/* A message of the consensus core, either way. On its way out an append names its entries by prev_index and n_entries alone. */
struct peer_message {
    enum peer_type type;
    uint64_t peer; /* from or to */
    union {
        struct peer_vote vote;
        struct peer_vote_result vote_result;
        struct peer_append append;
        struct peer_append_result append_result;
        struct peer_timeout_now timeout_now;
    };
};

enum peer_forward_reason {
    PEER_FORWARD_NOT_LEADER = 1, /* the leader is handing over and takes no more */
    PEER_FORWARD_BUSY = 2,       /* a limit of the leader is reached */
};

struct peer_forward {
    uint64_t term;     /* appended in exactly this term or not at all */
    uint64_t life;     /* of the sender: a random number, another after each restart */
    uint64_t sequence; /* rising in one life; a frame that comes twice counts once */
    const struct slice *commands;
    size_t n_commands;
};

/* None of the commands of that frame was appended, or will be. */
struct peer_forward_reject {
    uint64_t term, sequence;
    uint8_t reason; /* enum peer_forward_reason */
};

struct peer_read_index {
    uint64_t sequence;
};

struct peer_read_index_reply {
    uint64_t sequence;
    bool ok; /* false: not the leader */
    uint64_t index;
};

struct peer_read_confirm { /* CONFIRM, and the same back as CONFIRMED */
    uint64_t term, sequence;
};

/* What is committed, told at once and not with the next append or heartbeat. True for a log that holds an entry
 * of that index and term; needs no answer. */
struct peer_commit {
    uint64_t term; /* the leader's */
    uint64_t index, index_term;
};

#define PEER_URLS_MAX_BYTES 4096 /* of one member, as text */

/* A follower's client wants another membership, or another leader. */
struct peer_member_change {
    uint64_t sequence; /* from a random start in each life; repeated until it is answered, carried out once */
    uint8_t op;        /* enum member_op of raft/member.h */
    bool learner;
    uint64_t id;
    struct slice peer_urls;
};

struct peer_member_result {
    uint64_t sequence;
    uint16_t status;
    uint64_t index; /* of the entry; 0: none */
    uint64_t id;    /* of the member that was added */
};

/* A member needs what the leader's log has no more: the newest checkpoint, which it may fetch (docs/peer.md, "Checkpoints"). */
struct peer_snapshot_offer {
    uint64_t term; /* the leader's */
    uint64_t index, index_term;
    uint64_t bytes;
    uint32_t crc; /* as its trailer says: tells two files of one index apart */
};

enum peer_snapshot_code {
    PEER_SNAPSHOT_FETCHING = 0,  /* it is being fetched, or will be */
    PEER_SNAPSHOT_INSTALLED = 1, /* everything up to index is here and durable */
};

struct peer_snapshot_reply {
    uint64_t term; /* of the offer */
    uint64_t index;
    uint8_t code; /* enum peer_snapshot_code */
};

/* Each appends a payload to out. */
void peer_message_encode(const struct peer_message *m, struct bytes *out);
void peer_forward_encode(const struct peer_forward *m, struct bytes *out);
void peer_forward_reject_encode(const struct peer_forward_reject *m, struct bytes *out);
void peer_read_index_encode(const struct peer_read_index *m, struct bytes *out);
void peer_read_index_reply_encode(const struct peer_read_index_reply *m, struct bytes *out);
void peer_read_confirm_encode(const struct peer_read_confirm *m, struct bytes *out);
void peer_commit_encode(const struct peer_commit *m, struct bytes *out);
void peer_member_change_encode(const struct peer_member_change *m, struct bytes *out);
void peer_member_result_encode(const struct peer_member_result *m, struct bytes *out);
void peer_snapshot_offer_encode(const struct peer_snapshot_offer *m, struct bytes *out);
void peer_snapshot_reply_encode(const struct peer_snapshot_reply *m, struct bytes *out);

/* type: one of VOTE to TIMEOUT_NOW. Leaves .peer alone. */
int peer_message_decode(uint8_t type, struct slice in, struct arena *arena, struct peer_message *ret_m);
int peer_forward_decode(struct slice in, struct arena *arena, struct peer_forward *ret_m);
int peer_forward_reject_decode(struct slice in, struct peer_forward_reject *ret_m);
int peer_read_index_decode(struct slice in, struct peer_read_index *ret_m);
int peer_read_index_reply_decode(struct slice in, struct peer_read_index_reply *ret_m);
int peer_read_confirm_decode(struct slice in, struct peer_read_confirm *ret_m);
int peer_commit_decode(struct slice in, struct peer_commit *ret_m);
int peer_member_change_decode(struct slice in, struct peer_member_change *ret_m);
int peer_member_result_decode(struct slice in, struct peer_member_result *ret_m);
int peer_snapshot_offer_decode(struct slice in, struct peer_snapshot_offer *ret_m);
int peer_snapshot_reply_decode(struct slice in, struct peer_snapshot_reply *ret_m);

/* ---- the payload of an entry of type LOG_ENTRY_COMMANDS ----
 * u8 format = 1, u32 count, then each command with a u32 length in front. */
#define ENTRY_FORMAT 1
void entry_begin(struct bytes *out);                       /* into an empty buffer */
void entry_add(struct bytes *out, struct slice command);   /* any number of times, within the limits */
size_t entry_count(struct slice payload);
int entry_decode(struct slice payload, struct arena *arena, struct slice **ret_commands, size_t *ret_count);

#endif
