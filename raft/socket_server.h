/* socket_server.h - the node's local socket: front ends propose, wait for barriers, are told of revisions
 * (docs/socket.md fixes the frames and their legal replies).
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  negative errno from open, with a line of text. A front end that breaks a rule is disconnected.
 * Memory:  requests are the server's until their reply is queued; a connection's end cancels its requests.
 * Units:   bytes. */
#ifndef RAFT_SOCKET_SERVER_H
#define RAFT_SOCKET_SERVER_H

#include <uv.h>

#include "base/bytes.h"
#include "base/logger.h"
#include "raft/node.h"

/* Limits, and what happens there. */
#define SOCKET_CONNECTIONS_MAX 1024                   /* a new one is REFUSED */
#define SOCKET_REQUESTS_MAX 32768                     /* unanswered, of a connection: TOO_MANY_REQUESTS at once */
#define SOCKET_REQUEST_BYTES_MAX (128 * 1024 * 1024)  /* of their commands: the same */
#define SOCKET_OUT_PAUSE_BYTES (1024 * 1024)          /* unsent replies: nothing more is read until they are gone */
#define SOCKET_OUT_MAX_BYTES (128 * 1024 * 1024)      /* unsent replies: disconnected */
#define SOCKET_HELLO_WAIT_MS 5000                     /* for the first frame, then disconnected */

struct socket_server;

struct socket_server_options {
    const char *path, *name, *store_dir; /* copied */
    uint64_t cluster_id, member_id, heartbeat_ms, election_ms;
    struct node *node;
    const struct logger *logger;
    void *ctx;
    /* more members of the status object, each ",\"name\":value"; may be NULL */
    void (*add_status)(void *ctx, struct bytes *json);
};

struct socket_server_counters {
    uint64_t accepted, refused, proposals, barriers, too_many, overflowed;
    size_t connections, requests;
};

/* Binds the path (a stale socket there is removed: the data directory's lock says that it is stale) and listens. */
int socket_server_open(uv_loop_t *loop, const struct socket_server_options *options, struct socket_server **ret_server,
                       char *ret_text, size_t text_size);
/* What the node's callbacks of the same names say. */
void socket_server_on_revision(struct socket_server *s, uint64_t epoch, int64_t revision);
void socket_server_on_leader(struct socket_server *s, uint64_t leader, uint64_t term);
struct socket_server_counters socket_server_counters(const struct socket_server *s);
/* Takes no more connections and frames; what was asked is still answered. */
void socket_server_stop(struct socket_server *s);
/* After stop, and after node_close(), which has ended all requests: sends what fits, removes the socket, closes. The server
 * is freed when the loop has run its closing handles. */
void socket_server_close(struct socket_server *s);

#endif
