/* world.h - a whole cluster in one process: virtual time, a network and disks that misbehave, and the daemon's own node.
 *
 * Process: the simulation.
 * Thread:  one; worker queues are events in virtual time.
 * Errors:  a broken promise ends the run: world_violation() prints it with the seed and exits with status 1.
 * Memory:  world_free() frees all.
 * Units:   virtual microseconds.
 *
 * All chance comes from world.rng, and every event goes into world.trace: one seed, one run. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "raft/node.h"

#define WORLD_MAX_NODES 7
#define VALUE_END '#'
#define MS 1000u
#define SECOND 1000000u

struct world;
struct sim_disk;
struct clients;
struct holders;
struct operator;
struct checker;

/* ---- chance ---- */
uint64_t rng_next(uint64_t *state);
uint64_t rng_below(uint64_t *state, uint64_t n);
bool rng_chance(uint64_t *state, unsigned per_mille);

/* ---- disk.c: files in memory; what is not synced may be lost, or torn, at a crash ---- */
struct sim_disk *sim_disk_new(uint64_t *rng);
void sim_disk_free(struct sim_disk *d);
struct disk sim_disk_table(struct sim_disk *d);
/* The machine stops: unsynced writes are kept, lost or torn one by one, names likewise. */
void sim_disk_crash(struct sim_disk *d);
/* From now on, the n-th operation that changes something and all after it fail: it dies in the middle of them. */
void sim_disk_die_after(struct sim_disk *d, unsigned n);
/* No room for anything new. */
void sim_disk_set_full(struct sim_disk *d, bool full);
/* For mutants: the syncs of all disks succeed and do nothing. */
void sim_disk_lie(bool lie);
uint64_t sim_disk_syncs(const struct sim_disk *d);

/* ---- world.c ---- */
struct sim_event {
    uint64_t at, order;
    int kind;
    int node;             /* to whom */
    int from;             /* frames */
    uint64_t life;        /* incarnation of the node that it concerns */
    uint64_t number;
    uint8_t type;
    uint8_t *data;
    size_t len;
    struct work *work;
    enum work_queue queue;
};

struct sim_node {
    struct world *world;
    int index;
    uint64_t id;
    char dir[128];
    struct sim_disk *disk;
    struct node *node;  /* NULL: down */
    uint64_t life, instance;
    unsigned protocol; /* that its program speaks to other members */
    char url[32];
    /* As the operator believes; joined: after the cluster began; removal_asked: once, it may take effect at any time. */
    bool member, learner, joined, removal_asked, removing;
    struct {
        uint64_t number, from, index, bytes; /* number 0: none */
        char path[512];
    } fetch;
    uint64_t timer_number;
    bool crash_wanted, full;
    unsigned busy[WORK_QUEUES];
    struct work *pending[WORK_QUEUES];     /* submitted, not run */
    struct work *running[WORK_QUEUES];     /* run, not done */
    uint64_t disk_latency;                 /* of a flush */
    uint64_t paused_until; /* as by SIGSTOP */
    bool in_order;         /* then all that has come meanwhile is met as it came */
    uint64_t clock_ahead;  /* of its monotonic clock, which never goes back */
    int64_t wall_off_ns;   /* of its wall clock */
    uint64_t leader_seen;
    int64_t revision_told;
    uint64_t epoch_told;
};

struct faults { /* per mille, or times */
    unsigned loss, duplicate, reorder;
    uint64_t latency;
    bool crashes, partitions, slow_disks, transfers, pauses, full_disks, dying_starts, stores_lost;
    bool flaps, clock_jumps, dying_disks, upkeep, members;
};

struct stats {
    uint64_t events, messages, lost, duplicated, crashes, partitions, elections, transfers, pauses, full_disks, stores_lost, dead_starts;
    uint64_t proposed, acknowledged, unknown, refused, retried, barriers, barriers_ok;
    uint64_t flaps, clock_jumps, dying_disks, checkpoints, defragmentations, added, promoted, removed, fetched, replaced, swaps, swapped, leases_granted, leases_ended, keepalives;
    uint64_t duels, duels_fought, duels_old, duels_new, duel_puts;
    uint64_t standstills, standstills_met, standstill_keepalives;
};

enum world_plot { PLOT_CHANCE, PLOT_DUEL, PLOT_STANDSTILL }; /* chance alone, or a schedule that chance does not find */

struct world {
    uint64_t seed, rng, now, order, trace;
    int n_nodes; /* machines: members, and those that may become ones */
    int n_first; /* members of the new cluster */
    struct {
        uint64_t id;
        char url[32];
    } first[WORLD_MAX_NODES];
    bool members_change, lax_reconfig;
    enum world_plot plot;
    bool quick_disks;
    size_t append_piece_bytes;
    bool old_programs; /* some members are of an older version, as in a rolling upgrade */
    struct sim_node nodes[WORLD_MAX_NODES];
    bool cut[WORLD_MAX_NODES][WORLD_MAX_NODES], flapping[WORLD_MAX_NODES][WORLD_MAX_NODES];
    unsigned flaps_left;
    struct sim_event *heap;
    size_t n_events, cap_events;
    struct faults faults;
    struct stats stats;
    struct clients *clients;
    struct holders *holders;
    struct operator *operator;
    struct checker *checker;
    char dir[96];
    bool verbose, ending;
    unsigned padding;         /* values are longer by up to so many bytes VALUE_END */
    uint64_t segment_bytes;   /* of the raft logs */
    uint64_t checkpoint_entries, catchup_entries;
};

/* Of another plot than chance: with the faults of duel_run() or standstill_run() alone. */
struct world *world_new(uint64_t seed, const char *dir, bool verbose, enum world_plot plot);
void world_free(struct world *w);
void world_violation(struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
void world_note(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A call in so many microseconds; kind and number are the caller's. */
enum { SIM_TIMER = 1, SIM_FRAME, SIM_RUN, SIM_DONE, SIM_FAULT, SIM_CLIENT, SIM_START, SIM_HOLDER, SIM_FLAP, SIM_STOP, SIM_MEMBERS, SIM_GONE,
       SIM_CONNECT, SIM_FETCH, SIM_REPLACED, SIM_GREET };
void world_at(struct world *w, uint64_t delay, int kind, int node, uint64_t number);
/* Runs until that time, or until nothing is left to do. */
void world_run(struct world *w, uint64_t until);
void world_step(struct world *w, uint64_t until); /* the next event, or until that time when none comes before */
void world_start_node(struct world *w, int i);
void world_crash_node(struct world *w, int i);
void world_pause_node(struct world *w, int i, uint64_t until, bool in_order); /* as by SIGSTOP */
void world_stop_node(struct world *w, int i); /* for good */
void world_make_dir(const char *path);
struct sim_node *world_first_member(struct world *w);
void world_remove_tree(const char *path);
/* Everything is repaired: no loss, no cuts, all nodes up. */
void world_heal(struct world *w);

/* ---- clients.c ---- */
struct clients *clients_new(struct world *w);
void clients_free(struct clients *c);
void clients_event(struct world *w, uint64_t number);
bool clients_idle(const struct world *w);
void clients_stop(struct world *w);

/* ---- leases.c ---- */
struct holders *holders_new(struct world *w);
void holders_free(struct holders *h);
void holders_event(struct world *w, uint64_t number);
bool holders_idle(const struct world *w);
void holders_stop(struct world *w);
void check_lease_gone(struct world *w, int node, int64_t id);
void check_leases_final(struct world *w);

/* ---- members.c ---- */
struct operator *operator_new(struct world *w);
void operator_free(struct operator *o);
void operator_event(struct world *w);
void operator_greets(struct world *w, struct sim_node *leader);
void operator_removes(struct world *w, struct sim_node *by, int slot);
bool operator_idle(const struct world *w);
void operator_removed(struct world *w, struct sim_node *s);
void operator_gone(struct world *w, struct sim_node *s, uint64_t id);

/* ---- check.c ---- */
struct checker *checker_new(void);
void checker_free(struct checker *c);
void check_node(struct world *w, struct sim_node *s);     /* after each event at that node */
void check_store_lost(struct world *w, int node);        /* its store begins anew, from the log */
void check_logs(struct world *w);                          /* log matching, all pairs */
void check_converged(struct world *w);                     /* after healing: all levels equal */
bool check_is_level(const struct world *w);
void check_acknowledged(struct world *w, const char *key, const char *value, int64_t revision);
void check_refused(struct world *w, const char *value); /* a definite refusal: it must never appear */
int64_t check_read(struct world *w, struct store_read *read, const char *key, int64_t bound); /* its revision; 0: none */
void check_swapped(struct world *w, const char *key, int64_t from, int64_t at); /* nothing came in between */
int64_t check_newest_acknowledged(const struct world *w);
void check_final(struct world *w);

/* ---- quiet.c ---- */
void check_quiet_latency(struct world *w);

/* For standstill.c, of one holder that does nothing by itself. */
void holders_direct(struct world *w);
void holder_grants(struct world *w, int node);
bool holder_holds(const struct world *w);
bool holder_is_idle(const struct world *w);
void holder_keeps_alive(struct world *w, int node);

/* ---- standstill.c ---- */
void standstill_world(struct world *w);
void standstill_run(struct world *w);

/* ---- duel.c ---- */
void duel_world(struct world *w);
void duel_run(struct world *w);

/* ---- cover.c: mutants, and which branches of the driver were reached, by the calls between its files ---- */
bool mutant_is(const char *name);
bool mutant_set(const char *name); /* false: no such */
void mutant_list(void);
void cover_print(void);
size_t cover_missing(void);

#endif
