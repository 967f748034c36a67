/* node_line.h - the sidecar's line to its node: requests over client.h, reads from the store's map.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's; a struct store_lease may be read through from a worker thread.
 * Errors:  negative errno; a store that is not there (yet, or between two epochs) is NULL and answered as Unavailable.
 * Memory:  owns the client, and a lease of the store that it shares with the process's other loops (store_share.h).
 * Units:   milliseconds.
 *
 * The epoch's rule: nothing opens an environment before the node has announced its epoch, and once a newer epoch is
 * announced nothing is served from the older one. */
#ifndef SIDECAR_NODE_LINE_H
#define SIDECAR_NODE_LINE_H

#include "base/logger.h"
#include "proto/etcd.h"
#include "raft/client.h"
#include "sidecar/store_share.h"
#include "store/store.h"

#include <uv.h>

struct node_line;

struct node_line_callbacks {
    void *ctx;
    void (*on_ready)(void *ctx);  /* the first time that the node and its store are both there */
    void (*on_revision)(void *ctx, int64_t revision);
    void (*on_leader)(void *ctx, uint64_t leader); /* 0: none */
    void (*on_refused)(void *ctx, const char *text);
};

int node_line_open(uv_loop_t *loop, const char *socket_path, struct store_share *share, const struct logger *log,
                   const struct node_line_callbacks *callbacks, struct node_line **ret_line);
/* Ends what waits with STOPPED, and closes the handles; the loop has to run once more before node_line_free(). */
void node_line_close(struct node_line *n);
void node_line_free(struct node_line *n);

struct client *node_line_client(struct node_line *n);
/* Requests were made: they go out at the end of this turn. */
void node_line_touch(struct node_line *n);
/* The end of a turn: sends requests, lets go of the snapshot. */
void node_line_turn(struct node_line *n);

bool node_line_ready(const struct node_line *n);
uint64_t node_line_epoch(const struct node_line *n); /* of the open store; 0: none */
bool node_line_connected(const struct node_line *n);
/* A fresh snapshot: whatever was announced or answered before this call is in it. Valid until the next call of
 * this function or the end of the turn. NULL: no store. */
struct store_read *node_line_read(struct node_line *n);
/* Deadline for a request to the node by its clock: etcd's request timeout, 5 s and two elections. */
uint64_t node_line_deadline_ms(const struct node_line *n);
uint64_t node_line_election_ms(const struct node_line *n);
int64_t node_line_revision(const struct node_line *n); /* the newest that was announced */
uint64_t node_line_member_id(const struct node_line *n);
struct etcd_header node_line_header(const struct node_line *n, int64_t revision);

/* Keeps a store open for a worker thread. */
struct store_lease *node_line_lease(struct node_line *n); /* NULL: no store */
void node_line_release(struct node_line *n, struct store_lease *l); /* in the loop's thread */

#endif
