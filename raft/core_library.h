/* core_library.h - libraft's own types, shared by core*.c; nobody else includes it.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  negative errno; core_err_from_raft() is the one translator of the library's numbers.
 * Memory:  configurations handed out are closed with raft_configuration_close(), or given to the library.
 * Units:   none. */
#ifndef RAFT_CORE_LIBRARY_H
#define RAFT_CORE_LIBRARY_H

#include <raft.h>

#include "raft/core.h"

#if RAFT_VERSION_NUMBER / 100 != 22
#error "quorumfs needs libraft 0.22.x (package libraft-dev)"
#endif

/* An entry's kind, whose type 0.22.1 has a name for and 0.22.0 (Ubuntu 24.04) has not. */
typedef __typeof__(((struct raft_entry *)NULL)->type) core_entry_type;

/* The library insists on an address of the sender and never uses ours. */
#define PEER_ADDRESS "peer"

struct core {
    struct raft raft;
    struct core_options options;
    bool started;
    uint64_t now_ms;
    uint64_t commit;
    uint64_t leader, leader_term;
    uint64_t heard_ms;       /* the leader, last */
    uint64_t members_version;
    uint64_t change_index; /* raft.configuration_uncommitted_index as last seen */
    uint64_t committed_change_index;
    bool stale_append; /* the event is an append of an older term */
    bool new_term;     /* guard 13 has changed the hard state */
    struct log_entry *entries; /* scratch of one step */
    size_t entries_cap;
    struct peer_message *messages;
    size_t messages_cap;
    struct raft_entry *raft_entries;
    size_t raft_entries_cap;
    char error[256];
};

int core_err_from_raft(int rv);
/* The library's memory is the C library's, but for core_no_batch(): what an entry has for its batch, since the payloads
 * are not the library's. It may be freed as often as one likes. */
void core_heap_init(void);
void *core_no_batch(void);
int core_fail(struct core *c, int rc, const char *what); /* keeps the first text; yields rc */
/* Room for n items of a size in a scratch array; array_p points to the pointer. */
int core_reserve(void *array_p, size_t *cap, size_t n, size_t size);
void core_set_now(struct core *c, uint64_t now_ms);
/* One event, and whatever follows from it inside the core, each with its call of ready(). */
int core_step(struct core *c, struct raft_event *e);
/* Checked first: the library's decoder believes every length. */
int core_membership_decode(struct slice payload, struct raft_configuration *ret_conf);
/* The library has no role for a member that is to be a voter: its address begins with a mark. */
void core_member_from(uint64_t id, const char *address, int role, struct core_member *ret_member);
bool core_is_sole_voter(const struct raft_configuration *conf, uint64_t id);
int core_membership_copy(const struct raft_configuration *from, struct raft_configuration *ret_conf);
/* A copy in which both are voters. */
int core_membership_with_voters(const struct raft_configuration *from, uint64_t a, uint64_t b,
                                struct raft_configuration *ret_conf);

#endif
