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

struct app {
    uv_loop_t *loop;
    struct logger log;
    struct grpc_server *grpc;
    struct node_line *line;
    struct feed *feed;
    size_t pending_bytes; /* of requests at the node */
    uint64_t ranges_in_workers;
    struct list health_watches;
    int serving; /* what they were told last */
    bool stopping;
};

static inline struct app *app_of(const struct grpc_call *call)
{
    return grpc_app(call);
}

/* The tables of the services; NULL-terminated. */
extern const struct grpc_method *const services_methods[];
extern const struct grpc_method kv_range, kv_put, kv_delete_range, kv_txn, kv_compact;
extern const struct grpc_method watch_watch;
extern const struct grpc_method maintenance_status, maintenance_alarm;
extern const struct grpc_method cluster_member_list;
extern const struct grpc_method health_check, health_watch;

/* Tells those who watch the health of a change, if there is one. */
void health_turn(struct app *app);

/* pages.c: plain HTTP. */
void pages_answer(void *app, const struct http_request *request, struct http_reply *reply);

/* Sends header and body as the one answer of a unary call, and ends it. */
void answer_unary(struct app *app, struct grpc_call *call, int64_t revision, uint64_t term, struct slice body);

#endif
