/* client_impl.h - what the files of the client share. raft/client.h is the face.
 *
 * Process: front ends.
 * Thread:  the owner's.
 * Errors:  negative errno.
 * Memory:  a request is freed when it ends; the client when client_close() and every call on the stack are done.
 * Units:   milliseconds of CLOCK_MONOTONIC.
 *
 * A request is in exactly one place, by state:
 *
 *   client_propose --> QUEUED ----------- pump -----------> SENT -- answer --> finish
 *        |               ^  ^                               |  |
 *        | no free lane  |  | lane freed        lost, retry |  | unknown outcome, CLIENT_RETRY
 *        +------> WAIT_LANE |  <----------------------------+  v
 *        |                  +----------- wake_ms ---------- DELAYED
 *        +--> DOOMED (ends with doomed_status at the next client_process)
 *
 * All but DOOMED stand in the heap with the moment at which something happens to them: the deadline, or
 * for DELAYED the next attempt if that comes first. */
#ifndef RAFT_CLIENT_IMPL_H
#define RAFT_CLIENT_IMPL_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "base/list.h"
#include "raft/client.h"

#define BACKOFF_MIN_MS 10
#define BACKOFF_MAX_MS 1000
#define WELCOME_WAIT_MS 5000              /* for the node's answer to our hello */
#define RETRY_MIN_MS 10                   /* between attempts after an unknown outcome */
#define RETRY_MAX_MS 500
#define OUT_HIGH_BYTES (1024 * 1024)      /* past it requests stay in the queue, where they can still be cancelled */
#define RECEIVE_CHUNK_BYTES (64 * 1024)
#define RECEIVE_CHUNKS 16                 /* per client_process: a flood of notices does not hold the owner up */

enum request_kind { REQUEST_PROPOSE, REQUEST_BARRIER, REQUEST_STATUS, REQUEST_KEEPALIVE, REQUEST_LEASE_TIME,
                    REQUEST_MEMBER, REQUEST_MAINTAIN };
enum request_state { STATE_QUEUED, STATE_WAIT_LANE, STATE_SENT, STATE_DELAYED, STATE_DOOMED };

struct request {
    struct list link;
    struct request *table_next;
    size_t heap_at;
    uint64_t ticket;      /* and the tag of its frames */
    uint64_t wake_ms, deadline_ms;
    enum request_kind kind;
    enum request_state state;
    unsigned flags, attempts, renewals;
    bool once;            /* never sent twice */
    bool uncertain;       /* an attempt was made whose outcome nobody told us */
    int lane;             /* -1: none */
    uint16_t doomed_status;
    struct bytes payload; /* the encoded command */
    size_t payload_bytes; /* as counted in queued_bytes */
    union {
        client_answer_fn answer;
        client_barrier_fn barrier;
        client_status_fn status;
        client_keepalive_fn keepalive;
        client_lease_time_fn lease_time;
        client_member_fn member;
        client_maintain_fn maintain;
    } fn;
    void *arg;
};

struct lane {
    uint64_t session;
    uint64_t sequence; /* the last one used */
    struct request *request;
};

enum client_state {
    CLIENT_AWAY,     /* no connection; the next try is at connect_ms */
    CLIENT_GREETING, /* hello sent; given up at connect_ms */
    CLIENT_READY,
    CLIENT_REFUSED,
};

struct client {
    struct sockaddr_un address;
    char *program;
    struct client_callbacks cb;
    int epoll_fd, timer_fd, socket_fd;
    unsigned epoll_events; /* asked for on the socket */
    enum client_state state;
    bool broken;           /* sending failed outside client_process */
    bool sent_this_turn;   /* since the last client_process: what comes now waits for the next one */
    bool closed;
    unsigned depth;        /* calls of client_process and client_wait on the stack */
    uint64_t connect_ms, backoff_ms, armed_ms;

    struct bytes in, out;
    size_t in_at, out_at;  /* what is done with already */

    struct client_info info;
    char *name, *store_dir;
    bool welcomed;
    uint64_t leader, term, epoch;
    int64_t revision;

    struct list queue, sent, wait_lane, doomed;
    uint64_t next_ticket;
    size_t n_requests, queued_bytes;

    struct request **table; /* by ticket */
    size_t table_size;      /* a power of two */
    struct request **heap;
    size_t heap_size, heap_cap;

    struct lane lanes[CLIENT_LANES];
    uint64_t busy_lanes;    /* a bit each */
    uint64_t session_seed[2], sessions_made;
};

/* ---- client_queue.c: who waits ---- */

int requests_init(struct client *c);
void requests_fini(struct client *c);
/* Into table and heap. -ENOMEM. */
int request_add(struct client *c, struct request *r);
struct request *request_find(const struct client *c, uint64_t ticket);
void request_set_wake(struct client *c, struct request *r, uint64_t wake_ms);
/* Out of everything, its lane freed; and its memory. */
void request_remove(struct client *c, struct request *r);
void request_free(struct request *r);
void request_move(struct client *c, struct request *r, enum request_state state);
/* Gives the request a lane and its session and number, or lets it wait for one. */
void lane_take(struct client *c, struct request *r);
/* The lane's session is given up, since nobody knows which of its numbers are used. */
void lane_renew(struct client *c, struct lane *l);
void lane_stamp(struct client *c, struct request *r);

/* ---- client_line.c: the connection ---- */

void line_connect(struct client *c, uint64_t now_ms);
void line_drop(struct client *c);
/* Frames from the node; calls back. */
void line_receive(struct client *c);
/* Queue to buffer, buffer to socket. */
void line_pump(struct client *c);
void line_send(struct client *c);
void line_want_write(struct client *c, bool want);

/* ---- client.c: how requests begin and end ---- */

/* -ESHUTDOWN, -ENOMEM: the payload is freed. */
int client_request_new(struct client *c, enum request_kind kind, uint64_t deadline_ms, void *arg,
                       struct request **ret_request);
int64_t client_submit(struct client *c, struct request *r, uint16_t doomed_status);

void client_arm(struct client *c, uint64_t at_ms);
void client_answered(struct client *c, struct request *r, const struct client_answer *answer);
void client_finish(struct client *c, struct request *r, uint16_t status);
void client_finish_barrier(struct client *c, struct request *r, uint16_t status, uint64_t epoch, int64_t revision);
void client_finish_status(struct client *c, struct request *r, uint16_t status, struct slice json);
/* The reply to a request of one of the services. -EBADMSG: not one that this request can have. */
int client_service_done(struct client *c, struct request *r, uint8_t type, struct slice payload);
/* Calls back without a reply. */
void client_service_failed(const struct request *r, uint16_t status);

#endif
