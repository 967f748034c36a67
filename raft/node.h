/* node.h - one member of a cluster: Raft's core, the log, the state machine, proposals and reads, driven by
 * events. What quorumfsd runs and what the simulation runs.
 *
 * Process: node (the simulation has several in one process: no globals).
 * Thread:  all functions and callbacks on the loop thread.
 * Errors:  negative errno from node_open; afterwards a fatal fault is told once by on_fatal and the
 *          node does nothing more. Requests end with a status.
 * Memory:  requests are embedded by the caller and belong to the node from the call to their done().
 * Units:   milliseconds; indexes and revisions from 1. */
#ifndef RAFT_NODE_H
#define RAFT_NODE_H

#include "base/list.h"
#include "base/logger.h"
#include "base/slice.h"
#include "base/status.h"
#include "proto/socket.h"
#include "raft/compactor.h"
#include "raft/disk.h"
#include "raft/env.h"
#include "store/store.h"

#define NODE_MAX_MEMBERS 64

struct node;

struct node_member {
    uint64_t id;
    const char *name;     /* "" while unknown (publishing it is a command) */
    const char *peer_url; /* comma-separated if there are several; the address in the core's configuration */
    bool voter;
};

struct node_config {
    uint64_t id, cluster_id;
    uint64_t data_id;  /* that log and store carry; 0: cluster_id */
    uint64_t instance; /* of the data directory */
    const char *name;
    const struct node_member *members; /* of a new cluster, itself included: every node bootstraps with the same */
    size_t n_members;
    bool alone;  /* --force-new-cluster: a membership of this member alone is put behind the log */
    bool joined; /* an existing cluster: with an empty log it waits for the leader, and begins none */
    uint64_t heartbeat_ms, election_ms;
    size_t max_learners;          /* 0: 1 */
    bool lax_reconfig;            /* no strict check of changes of membership */
    uint64_t proposal_timeout_ms; /* 0: 5000 + 2 * election, as etcd has it */
    const char *store_dir;        /* absolute; the environment lives outside the disk table */
    unsigned store_flags;         /* STORE_NOSYNC in the simulation */
    size_t store_map_bytes;       /* 0: the store's default */
    uint64_t log_segment_bytes, log_cache_bytes; /* 0: the log's defaults */
    size_t append_piece_bytes; /* of old entries that one turn sends to a follower; 0: NODE_APPEND_PIECE_BYTES */
    uint64_t lease_note_ms;       /* 0: five minutes; then a checkpoint notes what remains of a lease that nobody prolongs */
    struct compactor_options compaction; /* by itself, while it leads */
    int64_t quota_bytes;          /* of the cluster, set by whoever leads; 0: not given, negative: none */
    /* A checkpoint is due when the log behind the last one is larger than it and than checkpoint_bytes (0: 64 MiB), or has
     * more than checkpoint_entries (0: no such rule). The log keeps catchup_entries before it (0: none). */
    uint64_t checkpoint_bytes, checkpoint_entries, catchup_entries;
    uint64_t reader_timeout_ms;      /* an older snapshot of another process is told of; 0: nobody looks */
    const struct logger *logger;     /* may be NULL */
};

struct node_callbacks {
    void *ctx;
    /* (epoch, revision) of the store went up and is readable. After the done() of the requests that did it. */
    void (*on_revision)(void *ctx, uint64_t epoch, int64_t revision);
    /* leader 0: there has been none for three election timeouts; waiting requests have been failed. */
    void (*on_leader)(void *ctx, uint64_t leader, uint64_t term);
    void (*on_fatal)(void *ctx, int error, const char *text);
    /* This member is not one any more, for good: it should stop. It stays a silent follower until then. May be NULL. */
    void (*on_removed)(void *ctx, const char *text);
    /* A checkpoint of the leader took this member's state's place: close the node and open it again. Nothing else happens until
     * then. May be NULL. */
    void (*on_replaced)(void *ctx);
    /* This process has held an old snapshot of the store for twice reader_timeout_ms. May be NULL. */
    void (*on_stuck_reader)(void *ctx, int pid);
};

/* Opens log and store, bootstraps a new data directory, recovers an old one. text explains a failure. */
int node_open(const struct node_config *config, const struct disk *disk, const struct clock *clock,
              const struct network *network, const struct workers *workers, const struct node_callbacks *callbacks,
              struct node **ret_node, char *ret_text, size_t text_size);
/* Feeds the start event; call when the network can send. */
int node_start(struct node *n);
/* Fails what waits with STATUS_STOPPED and frees; all work must have been drained (done() called). A leader
 * should be asked to node_transfer() first. */
void node_close(struct node *n);
bool node_is_idle(const struct node *n); /* no work item is out */

void node_timer(struct node *n);
/* A frame from an authenticated peer; damage in it is that peer's fault: -EBADMSG, close the connection. */
int node_receive(struct node *n, uint64_t from, uint8_t type, struct slice payload);
/* Whether that member may talk to this one; text says why not. instance: of its data directory. */
enum node_admission { NODE_ADMIT, NODE_REMOVED, NODE_REPLACED };
enum node_admission node_admits(struct node *n, uint64_t peer, uint64_t instance, char *ret_text, size_t text_size);
/* Which member has these peer URLs, by what is applied here. *ret_ran: it has served already, from some data directory. */
bool node_lookup(struct node *n, const char *peer_urls, uint64_t *ret_id, bool *ret_ran);
/* The other side of it: that peer does not admit this member. */
void node_peer_refused(struct node *n, uint64_t peer, enum node_admission why, const char *text);
/* What network.fetch() has come to. */
void node_fetched(struct node *n, int error);
/* What the program of a member can apply that is about to be connected, as it says itself; 0: it does not say. */
void node_peer_runs(struct node *n, uint64_t peer, uint32_t version);
void node_peer_connected(struct node *n, uint64_t peer);
/* The connection to peer broke. A leader's death is noticed here before its silence is. */
void node_peer_disconnected(struct node *n, uint64_t peer);

/* Proposes one encoded command (proto/command.h; the node fills in origin, request and, when 0, time). Ends exactly
 * once, always with done(): within the deadline with a result, a definite refusal (nothing will happen)
 * or, for TIMEOUT, LEADER_CHANGED and STOPPED, an unknown outcome: it may still be applied. */
struct node_proposal {
    uint8_t *take_command; /* malloc'ed; the node frees it */
    size_t command_len;
    uint64_t deadline_ms;  /* by clock.now_ms; 0: the configured timeout from now */
    void (*done)(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body);
    struct list link;      /* the node's from here on */
    uint64_t request, term, sequence;
    int state;
    uint16_t status;
};
/* Copies nothing and never calls done() from within: that comes from a later event. */
void node_propose(struct node *n, struct node_proposal *p);
/* Nobody waits any more: done() is not called, the outcome stays unknown. */
void node_proposal_cancel(struct node *n, struct node_proposal *p);

/* Ends with OK when everything that was acknowledged anywhere before the call is readable here. */
struct node_barrier {
    uint64_t deadline_ms;
    void (*done)(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision);
    struct list link;
    uint64_t read_index;
    int state;
    uint16_t status;
};
/* Never calls done() from within. */
void node_barrier(struct node *n, struct node_barrier *b);
void node_barrier_cancel(struct node *n, struct node_barrier *b);

/* ---- services: like a proposal they end exactly once with done(), never from within the call; one that is cancelled does not
 * call back. deadline_ms 0: the configured timeout from now. ---- */

/* Of a lease, answered by the leader's clock and confirmed by a majority after it was asked. */
struct node_lease {
    bool prolong; /* a keep-alive; else a question for its time */
    int64_t id;
    uint64_t deadline_ms;
    void (*done)(struct node_lease *l, uint16_t status, int64_t granted_s, int64_t remaining_s);
    struct list link;
    uint64_t sequence;
    int state;
    uint16_t status;
    int64_t granted_s, remaining_s;
};
void node_lease(struct node *n, struct node_lease *l);
void node_lease_cancel(struct node *n, struct node_lease *l);

struct node_member_change {
    uint8_t op; /* enum socket_member_op */
    bool learner;
    uint64_t id;
    char *take_peer_urls; /* malloc'ed; the node frees it */
    uint64_t deadline_ms;
    void (*done)(struct node_member_change *m, const struct socket_member_done *done);
    struct list link;
    int state;
    uint16_t status;
};
void node_member_change(struct node *n, struct node_member_change *m);
void node_member_change_cancel(struct node *n, struct node_member_change *m);

struct node_maintain {
    uint8_t op; /* enum socket_maintain_op */
    uint64_t arg;
    uint64_t deadline_ms;
    void (*done)(struct node_maintain *m, uint16_t status, uint64_t index, const char *path);
    struct list link;
    int state;
    uint16_t status;
};
void node_maintain(struct node *n, struct node_maintain *m);
void node_maintain_cancel(struct node *n, struct node_maintain *m);

/* Before a planned stop: a checkpoint, if the log behind the last one is not empty. Nothing more is begun afterwards;
 * node_is_idle() tells when it is over, node_checkpoint_cancel() ends it soon. */
void node_prepare_stop(struct node *n);
void node_checkpoint_cancel(struct node *n);

/* Asks the leader (this node) to hand over; best effort, ends by itself within an election timeout. */
void node_transfer(struct node *n);

struct node_status {
    uint64_t id, cluster_id, leader, term; /* leader 0: none known */
    uint64_t last_index, commit_index, applied_index, synced_index;
    uint64_t epoch;
    int64_t revision;
    bool is_leader, has_quorum;
    size_t n_members;
    struct node_member_status {
        struct node_member member;
        bool connected;        /* this node's own connection */
        uint64_t match_index;  /* as the leader knows it; 0 elsewhere */
        uint32_t version;      /* what its program can apply, as APPLY_VERSION; 0: not known */
    } members[NODE_MAX_MEMBERS];
    uint32_t cluster_version; /* what all can apply, as APPLY_VERSION */
    uint64_t proposals_waiting, barriers_waiting;
    uint64_t log_first_index;
    bool disk_full; /* nothing is written until there is room */
    struct node_checkpoint_status {
        uint64_t index, bytes;   /* of the last one; 0: none */
        uint64_t log_bytes;      /* of the log applied since */
        uint64_t made, failed;   /* by this process */
        int error;               /* of the last try, 0: it went well */
        bool running;
    } checkpoint;
    uint64_t readers_pinning, oldest_reader_ms; /* other processes that hold old snapshots, past reader_timeout_ms */
};
/* Strings live until the next change of membership: use them at once. */
void node_status(const struct node *n, struct node_status *ret_status);
struct store *node_store(struct node *n);

#endif
