/* client.h - a front end's line to its node: propose, wait for barriers, hear of revisions.
 *
 * Process: front ends (mount, sidecar, tools).
 * Thread:  one: the owner's. No thread of its own, no event loop of its own: the owner polls client_fd() and
 *          calls client_process(). All callbacks come from within client_process(), client_wait() or
 *          client_close(), never from within a request call.
 * Errors:  negative errno for the machinery; a request ends with a status (base/status.h), always, exactly once.
 * Memory:  copies what it is given; callback slices are borrowed for the call.
 * Units:   milliseconds of CLOCK_MONOTONIC.
 *
 * Reconnects by itself (backoff 10 ms to 1 s). While it is away requests wait up to their deadline.
 * A proposal made with CLIENT_RETRY is sent again after a reconnect or an unknown outcome, under the same
 * session and sequence number, until it is answered or its deadline passes: it takes effect at most once.
 * An answer over SESSION_BODY_MAX_BYTES (store/store.h) is then not kept: status and revision come, the body is empty.
 * One without is never sent twice; a lost connection ends it with TIMEOUT_CONNECTION_LOST.
 * Sessions are lanes: each retried proposal occupies one of CLIENT_LANES sessions until it ends; past that
 * they queue. At most CLIENT_QUEUE_MAX requests wait, then TOO_MANY_REQUESTS at once. Proposals that depend on
 * each other: await the first. */
#ifndef RAFT_CLIENT_H
#define RAFT_CLIENT_H

#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "proto/socket.h"
#include "store/command.h"

#define CLIENT_LANES 64
#define CLIENT_QUEUE_MAX 65536                     /* requests that have not ended, of all kinds */
#define CLIENT_QUEUE_MAX_BYTES (256 * 1024 * 1024) /* and their commands */

struct client;

struct client_info { /* what the node said in its welcome; strings live as long as the connection */
    uint64_t cluster_id, member_id;
    uint64_t heartbeat_ms, election_ms;
    const char *name, *store_dir;
};

struct client_callbacks {
    void *ctx;
    void (*on_connected)(void *ctx, const struct client_info *info); /* also after each reconnect */
    void (*on_disconnected)(void *ctx);
    void (*on_revision)(void *ctx, uint64_t epoch, int64_t revision); /* ascending; some may be skipped */
    void (*on_leader)(void *ctx, uint64_t leader, uint64_t term);     /* 0: no leader */
    void (*on_refused)(void *ctx, const char *text); /* the node does not want us; it is not tried again,
                                                      * requests end with PERMISSION_DENIED */
};

/* Never blocks; a node that is not there yet is tried again. -ENAMETOOLONG: the path does not fit a socket address. */
int client_open(const char *socket_path, const char *program, const struct client_callbacks *callbacks,
                struct client **ret_client);
/* Ends what waits with STOPPED, calling back. May be called from within a callback; requests made from then on
 * are refused with -ESHUTDOWN. */
void client_close(struct client *c);

int client_fd(const struct client *c);          /* to poll; stable for the client's life (an epoll descriptor) */
/* Milliseconds until client_process() must be called even if the descriptor is quiet; -1: not needed. */
int client_timeout_ms(const struct client *c);
/* Does all that is possible without blocking. */
void client_process(struct client *c);
/* For tools: poll and process until pred(ctx) or the deadline (CLOCK_MONOTONIC ms). 0, -ETIMEDOUT, or -ESHUTDOWN when a
 * callback closed the client. */
int client_wait(struct client *c, bool (*pred)(void *ctx), void *ctx, uint64_t deadline_ms);
uint64_t client_now_ms(void);

bool client_connected(const struct client *c);
const struct client_info *client_get_info(const struct client *c); /* NULL before the first welcome */
uint64_t client_leader(const struct client *c); /* 0: none known */
uint64_t client_term(const struct client *c);
void client_revision(const struct client *c, uint64_t *ret_epoch, int64_t *ret_revision);

struct client_answer {
    uint16_t status;
    int64_t revision;
    uint64_t term;
    struct slice body; /* result_decode() of proto/command.h reads it */
};
typedef void (*client_answer_fn)(void *arg, const struct client_answer *answer);
typedef void (*client_barrier_fn)(void *arg, uint16_t status, uint64_t epoch, int64_t revision);
typedef void (*client_status_fn)(void *arg, uint16_t status, struct slice json);
typedef void (*client_keepalive_fn)(void *arg, uint16_t status, int64_t ttl_s);
typedef void (*client_lease_time_fn)(void *arg, uint16_t status, int64_t granted_s, int64_t remaining_s);
typedef void (*client_member_fn)(void *arg, const struct socket_member_done *done);
typedef void (*client_maintain_fn)(void *arg, const struct socket_maintain_done *done);

enum client_flags { CLIENT_RETRY = 1 };

/* cmd: kind, body, and what the front end knows of user and auth revision; session, sequence, origin, request and
 * time are filled in here and by the node. Each returns a ticket > 0 for client_cancel, or a negative errno
 * (-ENOMEM), and then the callback does not come. */
int64_t client_propose(struct client *c, const struct command *cmd, unsigned flags, uint64_t deadline_ms,
                       client_answer_fn fn, void *arg);
/* The same with the body already encoded (etcd's message as it came in): no second coding on the way. */
int64_t client_propose_raw(struct client *c, uint16_t kind, struct slice user, struct slice body, unsigned flags,
                           uint64_t deadline_ms, client_answer_fn fn, void *arg);
int64_t client_barrier(struct client *c, uint64_t deadline_ms, client_barrier_fn fn, void *arg);
int64_t client_status(struct client *c, uint64_t deadline_ms, client_status_fn fn, void *arg);
/* The leader prolongs the lease; OK comes after a majority confirmed that it still led when it was asked. */
int64_t client_keepalive(struct client *c, int64_t lease, uint64_t deadline_ms, client_keepalive_fn fn, void *arg);
int64_t client_lease_time(struct client *c, int64_t lease, uint64_t deadline_ms, client_lease_time_fn fn, void *arg);
/* Never sent twice, a list of members excepted: a lost connection ends these with TIMEOUT_CONNECTION_LOST. */
int64_t client_member(struct client *c, const struct socket_member_change *change, uint64_t deadline_ms,
                      client_member_fn fn, void *arg);
int64_t client_maintain(struct client *c, const struct socket_maintain *maintain, uint64_t deadline_ms,
                        client_maintain_fn fn, void *arg);
/* Whose proposal has that number of that session and has not been answered yet: its arg; NULL if nobody's. For owners that meet
 * their own change in the store before the answer. */
void *client_proposer(const struct client *c, uint64_t session, uint64_t sequence);
/* The result that an answer with STATUS_OK carries, to a command of that kind. -EBADMSG, -ENOMEM. */
int client_result(uint16_t kind, const struct client_answer *answer, struct arena *arena, struct result *ret_result);
/* The callback will not come. The command may take effect all the same. */
void client_cancel(struct client *c, int64_t ticket);

#endif
