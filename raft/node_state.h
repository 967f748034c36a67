/* node_state.h - the node's inside, shared by node*.c, proposal.c, read.c and apply.c; nobody else includes it.
 *
 * Process: node.
 * Thread:  the loop's, except what the two work items own while they are out (flush: its three result
 *          fields; apply: the whole job).
 * Errors:  what can fail beyond a request ends in node_fail().
 * Memory:  one allocation, freed by node_close().
 *
 * Everything happens in node_advance(): an event (frame, timer, finished work) changes core or queues, then
 * advance carries on whatever has become possible, and at last sets the timer. Requests made by callers only
 * queue and ask for a turn, so that all that arrives in one turn of the event loop makes one log entry, one
 * flush, one transaction, and so that no callback is ever called from within a request. */
#ifndef RAFT_NODE_STATE_H
#define RAFT_NODE_STATE_H

#include "raft/core.h"
#include "raft/lease_message.h"
#include "raft/lease_table.h"
#include "raft/node.h"
#include "store/checkpoint.h"

/* ---- limits (docs/limits.md); at each of them: TOO_MANY_REQUESTS, unless said otherwise ---- */
#define NODE_MAX_PROPOSALS 32768                         /* unanswered, of this node's own clients */
#define NODE_MAX_PROPOSAL_BYTES ((size_t)128 * 1024 * 1024)
#define NODE_MAX_BARRIERS 65536
#define NODE_MAX_UNCOMMITTED_ENTRIES 4096                /* on the leader; own proposals wait, forwarded ones are refused */
#define NODE_MAX_UNCOMMITTED_BYTES ((size_t)64 * 1024 * 1024)
#define NODE_MAX_APPLY_GAP 5000                          /* committed and not applied, entries */
#define NODE_MAX_UNFLUSHED_BYTES ((size_t)16 * 1024 * 1024) /* a leader takes no more; a follower takes appends as heartbeats */
#define NODE_DISK_FULL_RETRY_MS 500
#define NODE_ENTRY_TARGET_BYTES ((size_t)512 * 1024)     /* commands that wait together share an entry up to this */
#define NODE_APPEND_BYTES ((size_t)8 * 1024 * 1024)      /* sent to one peer for one message of the core; it asks again */
#define NODE_APPEND_PIECE_BYTES ((size_t)256 * 1024)     /* of it in one turn, or one entry */
#define NODE_APPLY_BYTES ((size_t)4 * 1024 * 1024)       /* one transaction, or one entry */
#define NODE_APPLY_ENTRIES 1024
#define NODE_REMOVAL_ROWS 1000   /* one transaction of removing what a compaction took, while nothing is applied */
#define NODE_REMOVAL_PAUSE_MS 10 /* between two of them */
#define NODE_INLINE_BYTES ((size_t)8 * 1024)             /* more than that is never written or applied on the loop */
#define NODE_INLINE_ENTRIES 2                            /* nor when more than these are not committed, or to be applied */
#define NODE_INLINE_MS 2                                 /* nor on a disk that last took longer than this */
#define NODE_READERS_MAX 256                             /* of other processes that are looked at; further ones are not */
#define NODE_NO_LEADER_TIMEOUTS 3                        /* election timeouts without a leader until waits fail */
#define NODE_MAX_LEASE_REQUESTS 65536                    /* keep-alives and questions that have not ended */
#define NODE_LEASE_EXPIRE_PER_S 1000                     /* leases ended by the clock; more wait, as in etcd */
#define NODE_LEASE_EXPIRE_BURST 500                      /* in one entry */
#define NODE_LEASE_LATE_MS 20                            /* until what could not be expired is tried again */
#define NODE_LEASE_NOTE_MS ((uint64_t)5 * 60 * 1000)     /* without a keep-alive, until a checkpoint notes what remains */
#define NODE_LEASE_WALK 2000                             /* leases looked at for that, twice a second */

#define MEMBER_CAUGHT_UP_ENTRIES 1024                    /* behind the leader's log at most, to become a voter */
#define NODE_MAX_MEMBER_REQUESTS 64                      /* changes and lists of members that wait */

#define PROPOSAL_TABLE_SIZE (NODE_MAX_PROPOSALS * 2)

enum proposal_state { PROPOSAL_QUEUED = 1, PROPOSAL_SENT, PROPOSAL_ENDED };

struct uncommitted {
    uint64_t index;
    size_t bytes;
};

#define WINDOW_LIVES 4

/* Which forwards of a peer have been taken in this term: the newest sequence of its newest life and the 63 before it. */
struct forward_window {
    uint64_t peer, term;
    uint64_t lives[WINDOW_LIVES]; /* the newest first: a late frame of an older one is no new life */
    uint64_t newest, seen;
};

struct proposals {
    struct list queued; /* not in any log: may still be refused */
    struct list sent;   /* handed to a leader of .term: the outcome is unknown until applied or that term is past */
    struct list ended;  /* refused within node_propose(); told at the next turn */
    struct node_proposal **table; /* by request; open addressing */
    size_t count, bytes;
    uint64_t next_request;
    uint64_t next_deadline_ms;    /* no deadline is earlier */
    uint64_t life, forward_sequence;
    uint64_t forward_hold_ms;     /* a leader refused: not again before this */
    uint64_t forward_heard_ms;    /* a forward was sent or answered: silent for long, all are sent again */
    struct uncommitted *uncommitted; /* ring, on the leader */
    size_t uncommitted_front, uncommitted_count, uncommitted_bytes;
    struct forward_window windows[NODE_MAX_MEMBERS];
};

enum barrier_state { BARRIER_WAITING = 1, BARRIER_ASKING, BARRIER_APPLYING, BARRIER_ENDED };

/* A follower's question that this leader has to answer. One a peer: a newer one replaces it. */
struct remote_read {
    uint64_t peer, sequence;
    int state; /* enum barrier_state; 0: none */
};

struct reads {
    struct list waiting;  /* for the next round */
    struct list asking;   /* in the round that is out */
    struct list applying; /* have their index; wait until it is applied */
    struct list ended;
    size_t count;
    uint64_t next_deadline_ms;
    bool open;            /* a round is out */
    uint64_t sequence, term, leader, index; /* of the round */
    uint64_t sent_ms;
    uint64_t acked[NODE_MAX_MEMBERS];
    size_t n_acked;
    uint64_t asked[NODE_MAX_MEMBERS]; /* by an append that carried the round, or by a message of its own */
    size_t n_asked;
    struct remote_read remote[NODE_MAX_MEMBERS];
    /* On a follower: the newest round that an append carried and no answer has carried back. sequence 0: none. */
    struct {
        uint64_t leader, term, sequence;
    } owed;
};

/* What an applied command did to a lease. */
struct lease_event {
    enum { LEASE_GRANTED = 1, LEASE_GONE, LEASE_NOTED } what;
    int64_t id, seconds;
    uint64_t index; /* of its entry */
};

struct lease_remote_item {
    struct node_lease lease;
    struct lease_remote *remote;
    struct peer_lease_answer answer;
};

/* A follower's frame of questions. One a peer: a newer one replaces it. */
struct lease_remote {
    uint64_t peer, sequence;
    struct lease_remote_item *items; /* NULL: none */
    size_t n_items, left;
    bool ready;
};

struct lease_round { /* on the leader: the barrier that ASKING waits for */
    struct node *node;
    struct node_barrier barrier;
    uint64_t term;
};

struct leases {
    struct lease_table table;
    int load_rc;
    uint64_t term;              /* for which the clock runs; 0: it stands */
    uint64_t clock_ms, read_ms; /* the clock, and when it was read last by the node's */
    uint64_t hold_ms;           /* nothing expires before */
    uint64_t tokens, token_ms;  /* thousandths of a lease that may be expired */
    uint64_t note_ms;
    size_t note_at;
    bool clear_wanted;
    /* requests */
    struct list waiting, asking, settling, ended;
    size_t count;
    uint64_t next_deadline_ms;
    bool open;          /* a round or a question is out */
    struct lease_round round;
    uint64_t sequence;  /* of the question */
    uint64_t resend_ms; /* of the question; 0: none is out */
    struct peer_lease_item asked[LEASE_FRAME_ITEMS];
    size_t n_asked;
    struct lease_remote remote[NODE_MAX_MEMBERS];
};

/* What a member published of itself. */
#define FIRST_VERSION (0u << 16 | 1u) /* of clusters: its commands every member knows */

struct member_known {
    uint64_t id;
    char *name, *client_urls; /* comma-separated */
    uint64_t instance;        /* of its data directory; 0: not known */
    uint32_t version;         /* of its program, as it published it; 0: it did not say */
};

/* What a member's program is, by the connection to it: it may have been replaced since it published. */
struct member_heard {
    uint64_t id; /* 0: a free place */
    uint32_t version;
};

/* The newest change that a peer asked this leader for. */
struct remote_change {
    uint64_t peer, sequence, term, index, id;
    uint16_t status;
    bool open; /* not committed yet */
};

struct members {
    struct list requests;
    size_t count;
    uint64_t sequence;
    struct remote_change remote[NODE_MAX_MEMBERS];
    struct member_known known[NODE_MAX_MEMBERS];
    size_t n_known;
    struct member_heard heard[NODE_MAX_MEMBERS];
    uint64_t applied[NODE_MAX_MEMBERS]; /* the membership as of applied_index */
    char *applied_urls[NODE_MAX_MEMBERS];
    size_t n_applied;
};

struct snapshot_offer {
    uint64_t peer, index, offered_ms, heard_ms;
    bool wanted;
};

struct snapshots {
    struct snapshot_offer offers[NODE_MAX_MEMBERS]; /* on the leader */
    struct node_maintain request;
    bool requested;
    uint64_t request_ms;
    /* on a follower */
    int state;
    uint64_t from;
    struct peer_snapshot_offer offer;
    bool fetched;
    bool replacing; /* no entries and no applies any more */
    char *path;
    struct work work;
    bool out;
    int rc; /* of the work */
    struct checkpoint_info info;
};

/* What one message of the core had for a follower, and one turn no time for. */
struct append_rest {
    uint64_t peer;       /* 0: none */
    uint64_t next, last; /* entries */
    size_t budget_bytes; /* that may still be sent of it */
};

struct apply_job;
struct checkpoints;

struct node {
    struct node_config config;
    char *name, *store_dir;
    struct {
        uint64_t id;
        char *name;
    } names[NODE_MAX_MEMBERS];
    size_t n_names;
    struct disk disk;
    struct clock clock;
    struct network network;
    struct workers workers;
    struct node_callbacks callbacks;
    struct store *store;
    struct log *log;
    struct core *core;

    bool started, failed, advancing, turn_wanted, removed;
    uint64_t timer_ms; /* as last set; 0: not set */
    uint64_t members_version;
    uint64_t connected[NODE_MAX_MEMBERS];
    size_t n_connected;
    struct arena arena;         /* of one event */
    struct arena send_arena;    /* of one frame */
    struct bytes frame;         /* of one frame */
    struct log_entry *send_entries; /* APPEND_MAX_ENTRIES */

    /* leadership as told */
    uint64_t leader, leader_term;
    uint64_t no_leader_since_ms;
    uint64_t leader_gone_ms; /* its connection broke: believed at this moment, unless it is heard before; 0: no */
    bool no_leader_told;
    uint64_t noop_term, noop_index; /* this leader's first entry in noop_term */

    struct work flush;
    bool flush_out;
    int flush_rc;
    uint64_t flush_synced;
    uint64_t flush_began_ms, flush_took_ms;
    size_t unflushed_bytes, flushing_bytes;
    struct work tend;   /* housekeeping of the log, when there is nothing else */
    bool tend_out, may_tend;
    int tend_rc;
    unsigned disk_full;    /* for whom: enum disk_full_for */
    uint64_t disk_full_ms; /* nothing is written before this moment */
    bool stepped_aside;    /* since then, as leader */

    struct apply_job *job; /* NULL: none made yet */
    bool apply_out;
    bool apply_held; /* the store is about to be replaced: no new job */
    struct {
        struct work work;
        struct store *store;
        int rc;
        bool more;      /* a compaction's removal has not come to its end */
        uint64_t at_ms; /* the next slice, not before */
    } removal;
    struct checkpoints *checkpoints;
    struct {
        struct known_reader {
            struct store_reader reader;
            uint64_t since_ms; /* when it was first seen with this snapshot */
            bool told, asked;
        } known[NODE_READERS_MAX];
        size_t count, pinned;
        uint64_t next_ms, oldest_ms;
    } readers;
    uint64_t trim_hold_index; /* entries behind this one stay in the log: they are wanted elsewhere; 0: no such wish */
    uint64_t apply_began_ms, apply_took_ms;
    uint64_t applied_index, applied_term;
    uint64_t epoch;
    int64_t revision;

    struct proposals proposals;
    struct reads reads;
    struct leases leases;
    struct members members;
    struct snapshots snapshots;
    struct {
        struct compactor compactor;
        uint64_t look_ms, quota_term;
        bool version_settled; /* the cluster's is this program's */
        uint32_t cluster_version; /* as of the last look */
    } upkeep;
    struct {
        struct list members, maintain; /* ended; told at the next turn */
    } services;

    struct {
        uint64_t peer, commit; /* as the frames sent to it let it know, if they arrive */
    } told[NODE_MAX_MEMBERS];
    uint64_t told_term;
    struct append_rest rests[NODE_MAX_MEMBERS];
    uint64_t rest_term;
};

/* node.c */
uint64_t node_now(const struct node *n);
/* The end: tells once, and nothing happens any more. */
void node_fail(struct node *n, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A core call's result: true if it went well. */
bool node_core_ok(struct node *n, int rc);
void node_advance(struct node *n);
void node_want_turn(struct node *n);
bool node_is_leader(const struct node *n);
void node_send(struct node *n, uint64_t to, uint8_t type, const struct bytes *payload);
/* The disk is full: everything that waits goes on waiting, and is tried again. */
enum disk_full_for { DISK_FULL_FOR_LOG = 1, DISK_FULL_FOR_STORE = 2 };
void node_disk_full(struct node *n, unsigned whose);
void node_disk_room(struct node *n, unsigned whose);
bool node_may_write(const struct node *n); /* new entries: there is room, and the log keeps up */

/* node_ready.c: what a step of the core asks for, in its order */
int node_ready(void *ctx, const struct core_ready *ready);


/* node_append.c */
/* A message of the core. whole: the append that n->frame holds for others too; nothing, if it holds none. */
int append_send(struct node *n, const struct peer_message *message, struct peer_message *whole);
void append_pump(struct node *n);           /* a piece of what is left, once a turn */
bool append_goes_on(const struct node *n);  /* something is */

/* node_commit.c */
void commit_pump(struct node *n);
int commit_receive(struct node *n, uint64_t from, struct slice payload);
void commit_tell_all(struct node *n, uint64_t commit);
void commit_was_told(struct node *n, uint64_t peer, uint64_t commit);

/* node_flush.c */
bool node_flush_pump(struct node *n); /* true if something was done in line */

/* apply.c */
int apply_init(struct node *n);
void apply_fini(struct node *n);
bool apply_pump(struct node *n);
void removal_pump(struct node *n);
uint64_t removal_timeout_ms(const struct node *n);

/* One more job, for a store that is to replace the node's: nobody is answered. */
int apply_other_new(struct node *n, struct apply_job **ret_job);
void apply_job_free(struct apply_job *job);
/* Entries behind `from` up to the node's applied one, as many as one job takes; *ret_last is the last of them. */
int apply_other_fill(struct node *n, struct apply_job *job, struct store *to, uint64_t from, uint64_t *ret_last);
int apply_other_run(struct apply_job *job); /* in a worker */

/* checkpoint.c */
int checkpoints_init(struct node *n);
void checkpoints_fini(struct node *n);
int checkpoints_start(struct node *n);            /* what there is, when store and log are open */
void checkpoints_pump(struct node *n);
bool checkpoints_busy(const struct node *n);      /* the worker is out, or a store is being replaced */
uint64_t checkpoints_retry_ms(const struct node *n); /* when checkpoints_pump() wants to be called; UINT64_MAX: not */
void checkpoints_applied(struct node *n, uint64_t entries, uint64_t bytes);
void checkpoints_request(struct node *n, struct node_maintain *m); /* checkpoint or defragment */
void checkpoints_end_requests(struct node *n, uint16_t status);
void checkpoints_status(const struct node *n, struct node_checkpoint_status *ret_status);
/* The newest checkpoint has become the state of this node, and its log begins behind it: what was counted begins anew. */
void checkpoints_replaced(struct node *n, uint64_t index, uint64_t bytes);

/* readers.c */
void readers_init(struct node *n);
void readers_pump(struct node *n);

/* proposal.c */
int proposals_init(struct node *n);
void proposals_fini(struct node *n, uint16_t status);
void proposals_pump(struct node *n);   /* submits, forwards, tells refusals */
void proposals_expire(struct node *n); /* deadlines */
uint64_t proposals_resend_ms(const struct node *n); /* when proposals_pump() wants to be called for that */
void proposals_peer_connected(struct node *n, uint64_t peer);
void proposals_fail_all(struct node *n);
void proposals_answer(struct node *n, uint64_t request, uint16_t status, int64_t revision, struct slice body);
/* An entry of a newer term is applied: what was sent in an older one and is not applied never will be. */
void proposals_requeue(struct node *n, uint64_t applied_term);
void proposals_committed(struct node *n);
void proposals_lost_leadership(struct node *n);
int proposals_receive_forward(struct node *n, uint64_t from, struct slice payload);
int proposals_receive_reject(struct node *n, uint64_t from, struct slice payload);

/* Appends commands of this leader's own as one entry, in its term or not at all; they are answered to nobody. */
bool proposals_have_room(const struct node *n);
bool proposals_submit_own(struct node *n, struct command *commands, size_t count, uint64_t *ret_index);

/* lease.c */
int leases_init(struct node *n);
void leases_fini(struct node *n, uint16_t status);
int leases_load(struct node *n); /* from the store, at the start */
void leases_applied(struct node *n, const struct lease_event *events, size_t count);
void leases_pump(struct node *n);
void leases_run_clock(struct node *n);
void leases_leader_changed(struct node *n); /* leader or term */
uint64_t leases_timeout_ms(const struct node *n);
bool leases_clock_runs(const struct node *n);
uint64_t lease_full_deadline(const struct node *n, const struct lease *l);

/* lease_request.c */
int lease_requests_init(struct node *n);
void lease_requests_fini(struct node *n, uint16_t status);
void lease_requests_pump(struct node *n);
void lease_requests_leader_changed(struct node *n);
void lease_requests_fail_all(struct node *n);
int leases_receive(struct node *n, uint64_t from, struct slice payload);
int leases_receive_reply(struct node *n, uint64_t from, struct slice payload);

/* upkeep.c */
int upkeep_init(struct node *n);
void upkeep_fini(struct node *n);
void upkeep_pump(struct node *n);
uint64_t upkeep_timeout_ms(const struct node *n);

/* node_service.c */
void services_init(struct node *n);
void services_fini(struct node *n, uint16_t status);
void services_pump(struct node *n);

/* node.c again: of members */
bool node_is_connected(const struct node *n, uint64_t peer);
bool node_has_committed_own(const struct node *n); /* an entry of this leader's own term */
uint64_t node_fittest(const struct node *n);       /* to lead next; 0: nobody */
void node_removed(struct node *n, const char *text);
void node_leader_goes(struct node *n); /* it has removed itself */

/* member.c */
struct member_state;
void members_init(struct node *n);
void members_fini(struct node *n, uint16_t status);
bool members_ask(struct node *n, struct node_member_change *m); /* false: too many wait */
bool members_ask_transfer(struct node *n, struct node_maintain *m);
bool members_cancel(struct node *n, const void *whose);
bool members_pump(struct node *n); /* true: an entry was appended */
uint64_t members_due_ms(const struct node *n);
void members_fail_all(struct node *n);
bool members_may_change(const struct node *n);
size_t members_view(const struct node *n, struct member_state *ret_states);
int members_receive_change(struct node *n, uint64_t from, struct slice payload);
int members_receive_result(struct node *n, uint64_t from, struct slice payload);

/* snapshot.c */
int snapshots_init(struct node *n);
void snapshots_fini(struct node *n);
void snapshots_wanted(struct node *n, uint64_t peer); /* it needs entries that are gone */
void snapshots_pump(struct node *n);
bool snapshots_busy(const struct node *n); /* no checkpoint may begin now */
int snapshots_receive_offer(struct node *n, uint64_t from, struct slice payload);
int snapshots_receive_reply(struct node *n, uint64_t from, struct slice payload);

/* member_known.c */
int members_load(struct node *n); /* from the store: at first, and whenever an entry changed it */
void members_forget(struct node *n);
const struct member_known *members_known(const struct node *n, uint64_t id);
void members_disconnected(struct node *n, uint64_t peer);
/* What that member's program can apply, by the connection or by what it published. False: neither is there. */
bool members_version(const struct node *n, uint64_t id, uint32_t *ret_version);
/* It runs a program that does not know what is newer than the first version. */
bool members_is_older(const struct node *n, uint64_t id);
bool members_any_older(const struct node *n);
int members_is_removed(struct node *n, uint64_t id, bool *ret_removed);

/* read.c */
void reads_init(struct node *n);
void reads_fini(struct node *n, uint16_t status);
void reads_open(struct node *n); /* before anything is sent in this turn: its appends carry the round */
void reads_ask(struct node *n);  /* whoever none of them went to */
void reads_pump(struct node *n);
void reads_expire(struct node *n);
void reads_fail_all(struct node *n);
void reads_leader_changed(struct node *n); /* leader, term or membership */
int reads_receive_index(struct node *n, uint64_t from, struct slice payload);
int reads_receive_reply(struct node *n, uint64_t from, struct slice payload);
int reads_receive_confirm(struct node *n, uint64_t from, struct slice payload);
int reads_receive_confirmed(struct node *n, uint64_t from, struct slice payload);
uint64_t reads_round_for(const struct node *n, uint64_t peer); /* that an append to it may carry now; 0: none */
void reads_round_sent(struct node *n, uint64_t peer, uint64_t round); /* 0: nothing */
void reads_round_came(struct node *n, uint64_t from, uint64_t term, uint64_t round); /* with an append */
/* That the answer to an append carries; it is owed no more. */
uint64_t reads_round_back(struct node *n, uint64_t to, uint64_t term);
void reads_answer(struct node *n); /* a round that no answer to an append carries back soon */
void reads_round_confirmed(struct node *n, uint64_t from, uint64_t term, uint64_t round);

#endif
