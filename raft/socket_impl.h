/* socket_impl.h - what the files of the socket server share.
 *
 * Process: node.  Thread: the loop's.  Errors: negative errno.  Memory: see each structure.  Units: bytes. */
#ifndef RAFT_SOCKET_IMPL_H
#define RAFT_SOCKET_IMPL_H

#include "base/list.h"
#include "proto/socket.h"
#include "raft/socket_server.h"
#include "raft/stream.h"

#define SOCKET_READ_BYTES (64 * 1024)
#define SOCKET_POOL_MAX 4096 /* request structures kept for reuse */

struct socket_conn {
    struct stream stream;
    struct socket_server *s;
    bool greeted, paused;
    bool last_words; /* close when all is written */
    bool doomed;     /* close when the loop is back: a request's done() may not end other requests */
    uint64_t made_ms;
    bool notice, leader; /* owed: the newest of each, not one for each change */
    struct list requests;
    size_t n_requests, request_bytes;
    struct list link;  /* server.conns */
    struct list dirty; /* server.dirty, while something is to be sent */
};

enum request_kind { REQUEST_PROPOSAL, REQUEST_BARRIER, REQUEST_LEASE, REQUEST_MEMBER, REQUEST_MAINTAIN };

struct socket_request {
    struct list link; /* of its connection, or of the pool */
    struct socket_conn *conn;
    enum request_kind kind;
    uint64_t tag;
    size_t bytes;
    union {
        struct node_proposal proposal;
        struct node_barrier barrier;
        struct node_lease lease;
        struct node_member_change member;
        struct node_maintain maintain;
    };
};

struct socket_server {
    uv_loop_t *loop;
    struct socket_server_options o;
    char *path, *name, *store_dir;
    uv_pipe_t listener;
    uv_prepare_t prepare;
    uv_timer_t timer; /* hellos that do not come */
    struct list conns, dirty, pool;
    size_t n_pool;
    struct bytes scratch; /* of one payload */
    uint64_t epoch, leader, term;
    int64_t revision;
    struct socket_server_counters counters;
    int pending; /* open handles */
    bool stopped, closing;
};

/* ---- socket_server.c ---- */
void socket_conn_close(struct socket_conn *c); /* cancels its requests; harmless when closing */
void socket_conn_dirty(struct socket_conn *c); /* something is to be sent */
/* Queues one frame; past the limit the connection ends. */
void socket_conn_send(struct socket_conn *c, uint8_t type, uint64_t tag, struct slice payload);

/* ---- socket_request.c ---- */
int socket_take_frame(struct socket_conn *c, const struct socket_head *head, struct slice payload);
void socket_requests_cancel(struct socket_conn *c);
void socket_send_owed(struct socket_conn *c); /* notice and leader */
void socket_pool_free(struct socket_server *s);

struct socket_request *socket_request_new(struct socket_conn *c, enum request_kind kind, uint64_t tag, size_t bytes);
void socket_request_free(struct socket_request *r);
bool socket_has_room(const struct socket_conn *c, size_t bytes);

/* ---- socket_service.c ---- */
int socket_take_service(struct socket_conn *c, const struct socket_head *head, struct slice payload);
void socket_service_cancel(struct socket_request *r);

/* ---- socket_peer.c ---- */
/* Whether the process behind fd may use the socket at path: the node's own user, root, or of the socket's group. */
int socket_peer_check(int fd, const char *path);

/* ---- socket_status.c ---- */
void socket_status_json(const struct socket_server *s, struct bytes *out);

#endif
