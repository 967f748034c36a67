/* app.h - what the services of one sidecar share.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  none.
 * Memory:  owned by main; everything in it lives until the loop has ended.
 * Units:   in the names. */
#ifndef SIDECAR_APP_H
#define SIDECAR_APP_H

#include "base/logger.h"
#include "sidecar/grpc.h"
#include "sidecar/limits.h"
#include "sidecar/node_line.h"

/* What clients are told: the version of etcd whose API this is, since they compare it. Our own stands in /metrics. */
#define ETCD_API_VERSION "3.6.4"
#define ETCD_CLUSTER_VERSION "3.6.0"

struct feed;

/* The checks of /livez and /readyz, and how they came out. */
enum health_check {
    CHECK_DATA_CORRUPTION,
    CHECK_SERIALIZABLE_READ,
    CHECK_LINEARIZABLE_READ,
    CHECK_NON_LEARNER,
    HEALTH_CHECKS,
};

struct health_counters {
    uint64_t success, failures;             /* of /health */
    uint64_t checks[2][HEALTH_CHECKS][2];   /* livez, readyz; passed, failed */
    bool failing[2][HEALTH_CHECKS];         /* the last time */
};

struct loops;

struct app {
    uv_loop_t *loop;
    struct loops *loops; /* all of the process */
    struct logger log;
    struct grpc_server *grpc;
    struct node_line *line;
    struct feed *feed;
    size_t pending_bytes; /* of requests at the node */
    uint64_t ranges_in_workers;
    struct list turns_woken, observers_woken; /* turn.h, election.c: to be looked at in this turn of the loop */
    unsigned turns;                           /* that wait */
    unsigned hashes;                          /* in workers */
    unsigned snapshots;                       /* being written or sent */
    struct list keepalive_streams;
    size_t beats;                             /* requests of LeaseKeepAlive that are not answered */
    struct health_counters health;
    unsigned pages_waiting; /* for the node */
    uint64_t leader_changes, last_leader;
    struct list health_watches;
    int serving; /* what they were told last */
    bool learner; /* this member does not vote: it answers serializable reads and Status alone */
    struct list compactions; /* calls of Compact that wait for the removal */
    uv_timer_t compact_timer, role_timer;
    int64_t role_ticket; /* of the question; 0: none */
    bool stopping;
};

static inline struct app *app_of(const struct grpc_call *call)
{
    return grpc_app(call);
}

/* The tables of the services; NULL-terminated. */
extern const struct grpc_method *const services_methods[];
extern const struct grpc_method kv_range, kv_range_stream, kv_put, kv_delete_range, kv_txn, kv_compact;
extern const struct grpc_method watch_watch;
extern const struct grpc_method maintenance_status, maintenance_alarm, maintenance_defragment, maintenance_hash,
    maintenance_hash_kv, maintenance_move_leader, maintenance_downgrade, maintenance_snapshot;
extern const struct grpc_method cluster_member_add, cluster_member_remove, cluster_member_update, cluster_member_promote,
    cluster_member_list;
extern const struct grpc_method lease_grant, lease_revoke, lease_keep_alive, lease_time_to_live, lease_leases;
extern const struct grpc_method lock_lock, lock_unlock;
extern const struct grpc_method election_campaign, election_proclaim, election_leader, election_observe, election_resign;
extern const struct grpc_method health_check, health_watch;

/* keepalive.c: ends the streams that want a leader. */
void keepalive_no_leader(struct app *app);

/* compact.c: its timer. */
void compact_init(struct app *app);
void compact_close(struct app *app);

/* election.c: those who observe and to whom something has happened. */
void observers_run(struct app *app);

/* Tells those who watch the health of a change, if there is one. */
void health_turn(struct app *app);

/* pages.c: plain HTTP. */
void pages_answer(void *app, const struct http_request *request, struct http_reply *reply);

#endif
