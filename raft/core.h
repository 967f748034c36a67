/* core.h - our narrow face of the consensus core. No type or rule of the library behind it leaks past core.c.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  0, or a negative errno that is fatal for the node: core_error() says what happened. What cannot
 *          be done now (submit on a follower) is not an error but asked for before: core_can_submit().
 * Memory:  slices and arrays are borrowed for the call, both ways.
 * Units:   milliseconds by a clock of which only the advance counts; terms and indexes from 1.
 *
 * The core is a pure state machine. Every call feeds it one or more events and for each of them calls
 * ready(), which must, in this order: make term and vote durable, append the entries (dropping what stands
 * at their indexes; durability later, told by core_persisted), send the messages, note the new commit
 * index. ready() must not call the core. Guards against the known faults of the library (docs in
 * raft/README.md) all live here. */
#ifndef RAFT_CORE_H
#define RAFT_CORE_H

#include "raft/message.h"

#define CORE_MAX_INFLIGHT_ENTRIES 8192

struct core;

enum core_role { CORE_FOLLOWER, CORE_CANDIDATE, CORE_LEADER };

struct core_member {
    uint64_t id;
    const char *address; /* lives until the next change of membership */
    bool voter;
    bool joining; /* a learner that is to be a voter as soon as it has caught up; never with voter */
};

struct core_ready {
    bool hard_state_changed;
    struct log_hard_state hard_state;
    const struct log_entry *entries; /* to be appended from entries[0].index on */
    size_t n_entries;
    const struct peer_message *messages; /* an append names its entries by prev_index and n_entries alone */
    size_t n_messages;
    uint64_t snapshot_peer; /* not 0: this member needs entries that the log no longer has */
    bool leaving;           /* this leader's own removal is committed: it steps down next and sends nothing more */
    uint64_t commit;        /* never goes back */
};

typedef int (*core_ready_fn)(void *ctx, const struct core_ready *ready);

struct core_options {
    uint64_t id;
    uint64_t heartbeat_ms, election_ms;
    uint64_t seed; /* of the election timeouts */
    core_ready_fn ready;
    void *ctx;
};

/* 0, or -EPROTONOSUPPORT with a text when the installed library is not of the version that we know. */
int core_check_version(char *ret_text, size_t text_size);

int core_new(const struct core_options *options, struct core **ret_core);
void core_free(struct core *c); /* NULL is fine */
const char *core_error(const struct core *c); /* of the call that failed */

struct core_start {
    struct log_hard_state hard_state;
    uint64_t base_index, base_term; /* applied and durable in the state machine; 0: nothing yet */
    uint64_t membership_index;      /* as of base_index */
    struct slice membership;
    uint64_t first_index, last_index; /* of the log; first_index <= base_index + 1 <= last_index + 1 */
    /* Reads an entry; payload is needed for memberships alone. */
    int (*entry)(void *ctx, uint64_t index, struct log_entry *ret_entry);
    void *ctx;
};
/* The first event. A sole voter is the leader when it returns. */
int core_start(struct core *c, uint64_t now_ms, const struct core_start *start);

/* A message from .peer, as peer_message_decode() yields it. -EBADMSG: it cannot come from an honest peer;
 * nothing has happened, and this one alone is not fatal. */
int core_receive(struct core *c, uint64_t now_ms, const struct peer_message *m);
/* The leader of the current term has committed up to index, whose entry here is the leader's own (same term):
 * the caller has compared. */
int core_learn_commit(struct core *c, uint64_t now_ms, uint64_t index);
/* The leader's process is gone: a follower no longer defends it against others who stand for election, and
 * stands itself at the next tick. Pre-vote keeps this harmless when it is not gone: then nobody agrees. */
void core_forget_leader(struct core *c);
/* Entries up to index are durable; an index that says nothing new is ignored. */
int core_persisted(struct core *c, uint64_t now_ms, uint64_t index);
/* Time has passed; does nothing before core_timeout_ms(). */
int core_tick(struct core *c, uint64_t now_ms);
uint64_t core_timeout_ms(const struct core *c);

/* True on a leader that is not about to hand over. */
bool core_can_submit(const struct core *c);
/* Appends entries of the leader's term (their index and term are filled in here). */
int core_submit(struct core *c, uint64_t now_ms, struct log_entry *entries, size_t n);
/* Hands leadership to a voter; nothing happens when this is not the leader or target is none. */
int core_transfer(struct core *c, uint64_t now_ms, uint64_t target);

/* True when a change of membership may begin: on a leader that is not about to hand over, with none under way. That the
 * leader has committed an entry of its own term is the caller's business, and must be. */
bool core_can_change(const struct core *c);
/* Appends a membership that differs by one member; it is in force at once. -EINVAL: it is none (nothing has happened). */
int core_change(struct core *c, uint64_t now_ms, const struct core_member *members, size_t n, uint64_t *ret_index);
/* A checkpoint holds everything up to index, the membership as of it too, and the log begins at first_index or before: members
 * that need older entries are told of in core_ready.snapshot_peer. Ignored unless index is newer than the last such one. */
int core_trimmed(struct core *c, uint64_t now_ms, uint64_t index, uint64_t membership_index, struct slice membership,
                 uint64_t first_index);
uint64_t core_trimmed_index(const struct core *c); /* of the last core_trimmed(), or the start's base */
/* A member has installed a checkpoint of committed state up to index: its log matches as far. */
int core_installed(struct core *c, uint64_t now_ms, uint64_t member, uint64_t index);

enum core_role core_role(const struct core *c);
uint64_t core_term(const struct core *c);
uint64_t core_leader(const struct core *c); /* of the current term; 0: not known */
uint64_t core_commit(const struct core *c);
uint64_t core_last_index(const struct core *c);
/* The membership in force (effective when appended). Returns the count; at most max are written. */
size_t core_members(const struct core *c, struct core_member *ret_members, size_t max);
uint64_t core_members_version(const struct core *c); /* changes whenever core_members() does */
size_t core_voters(const struct core *c);
bool core_is_voter(const struct core *c, uint64_t id);
bool core_is_member(const struct core *c, uint64_t id);
uint64_t core_match_index(const struct core *c, uint64_t id); /* 0 unless leader */

/* The payload of an entry of type LOG_ENTRY_MEMBERSHIP. -EINVAL: an id of 0, two of one id or address. */
int core_membership_encode(const struct core_member *members, size_t n, struct bytes *out);
/* -EBADMSG for bytes that are no membership. */
int core_membership_check(struct slice payload);
/* As core_members(), of such a payload; addresses are borrowed from it. -EBADMSG. */
int core_membership_read(struct slice payload, struct core_member *ret_members, size_t max, size_t *ret_count);

#endif
