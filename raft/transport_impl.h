/* transport_impl.h - what the files of the transport share.
 *
 * Process: node.  Thread: the loop's.  Errors: negative errno.  Memory: see each structure.  Units: bytes, milliseconds. */
#ifndef RAFT_TRANSPORT_IMPL_H
#define RAFT_TRANSPORT_IMPL_H

#include "base/list.h"
#include "raft/listen.h"
#include "raft/node.h"
#include "raft/peer_frame.h"
#include "raft/stream.h"
#include "raft/transport.h"
#include "tls/tls.h"

#define READ_BUFFER_BYTES (256 * 1024) /* kept by a connection between reads */

/* One TCP connection, dialled or accepted: frames in, frames out. Freed after its handle has closed. */
struct peer_conn {
    struct stream stream;
    struct transport *t;
    struct dial *dial; /* of a dialled one */
    struct bulk *bulk; /* a file is sent on it, and nothing else */
    bool greeted;      /* hello passed */
    unsigned protocol; /* of a dialled one, then */
    uint64_t peer;     /* after the hello */
    uint64_t made_ms, heard_ms;
    struct list link; /* transport.conns */
};

enum dial_use { DIAL_FOR_PEER, DIAL_FOR_ASKING, DIAL_FOR_FETCHING };
enum dial_state { DIAL_WAITING, DIAL_RESOLVING, DIAL_CONNECTING, DIAL_GREETING, DIAL_UP };

/* A peer that we send to; or somebody of whom we want one thing, over a connection of its own. */
struct dial {
    struct transport *t;
    enum dial_use use;
    uint64_t id; /* of a peer */
    char *text; /* the URLs as given */
    struct url urls[URL_LIST_MAX];
    size_t n_urls, next_url;
    enum dial_state state;
    uint64_t due_ms; /* when WAITING ends, or the state's patience, or the next ping */
    uint64_t backoff_ms;
    struct resolve *resolve;
    struct addrinfo *found, *next; /* addresses not tried yet begin at next */
    struct peer_conn *conn;
    bool complained; /* this outage was logged */
    bool refused;    /* and that the peer does not want us */
    bool tls_failed; /* and that TLS with it fails */
    bool guest;      /* not of set_peers(): it has dialled us, and is answered as long as it stays connected */
    struct list link;
};

/* Outlives its dial: the resolver cannot be interrupted. */
struct resolve {
    uv_getaddrinfo_t req;
    struct transport *t;
    struct dial *dial; /* NULL: nobody waits */
};

struct listener {
    uv_tcp_t tcp;
    struct transport *t;
    bool tls;
};

struct transport {
    uv_loop_t *loop;
    struct transport_options o;
    char *urls;
    struct listener *listeners[LISTEN_MAX];
    size_t n_listeners;
    uv_prepare_t prepare; /* sends what a turn of the loop has collected */
    uv_timer_t timer;
    struct list dials, conns;
    size_t n_accepted;
    struct {
        uint64_t from;
        uint32_t code;
    } refused[16]; /* told to the operator already */
    size_t n_refused;
    struct tls_complaints complaints; /* of accepted connections whose TLS failed */
    size_t n_bulk;
    struct {
        struct dial *dial; /* NULL: none */
        uint64_t from, index, bytes, offset;
        uint32_t crc;
        int fd;
    } fetch;
    struct transport_counters counters;
    int pending; /* handles and resolver requests that are open */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

uint64_t transport_now_ms(const struct transport *t);
void transport_release(struct transport *t); /* one pending less */
/* Makes the timer due at at_ms or before. */
void transport_arm(struct transport *t, uint64_t at_ms);
uint64_t transport_ping_ms(const struct transport *t);
uint64_t transport_dead_ms(const struct transport *t); /* silence of a peer that ends a connection */

/* ---- transport_conn.c ---- */
int conn_new(struct transport *t, struct peer_conn **ret_conn); /* its handle is open: close with conn_close */
/* Before it starts; host: of the server that is dialled, NULL for an accepted one. */
int conn_use_tls(struct peer_conn *c, const char *host);
int conn_start(struct peer_conn *c);                            /* begins to read */
void conn_close(struct peer_conn *c);                           /* tells nobody; harmless when closing already */
bool conn_queue(struct peer_conn *c, uint8_t type, struct slice payload); /* false: dropped */
/* The connection broke by itself, or a frame on it lied; for both kinds. */
void conn_broke(struct peer_conn *c, const char *why);

/* ---- transport_accept.c ---- */
void accept_connection(uv_stream_t *listener, int status);
void accept_tls_failed(struct peer_conn *c, const char *why);
int accept_take_frame(struct peer_conn *c, uint8_t type, struct slice payload);
uint32_t accept_judge(struct peer_conn *c, const struct peer_hello *m, char *ret_text, size_t size);
void accept_tick(struct peer_conn *c, uint64_t now_ms);

/* ---- transport_dial.c ---- */
struct dial *dial_find(struct transport *t, uint64_t id); /* of a peer */
int dial_new(struct transport *t, enum dial_use use, uint64_t id, const char *urls);
void dial_free(struct dial *d);
/* The peer is, or will be, at other URLs: a connection that is up is kept, the next is made there. */
int dial_move(struct dial *d, const char *urls);
void dial_set_state(struct dial *d, enum dial_state state, uint64_t due_ms);
int dial_hello(struct dial *d, uint64_t to, struct bytes *out); /* appends the payload of a hello */
int dial_take_frame(struct dial *d, uint8_t type, struct slice payload);
void dial_drop(struct dial *d, const char *why);
void dial_tls_failed(struct dial *d); /* before the drop */
void dial_tick(struct dial *d, uint64_t now_ms);

/* ---- transport_bulk.c: files ---- */
int bulk_take_fetch(struct peer_conn *c, struct slice payload);
void bulk_pump(struct peer_conn *c);
void bulk_free(struct peer_conn *c);
int fetch_greet(struct dial *d);
int fetch_take_frame(struct dial *d, uint8_t type, struct slice payload);
void transport_fetch(void *ctx, const struct fetch *f);
void transport_fetch_end(void *ctx);

/* ---- transport_side.c: connections with one purpose ---- */
int side_greet(struct dial *d);
int side_take_frame(struct dial *d, uint8_t type, struct slice payload);
int side_take_ask(struct peer_conn *c, struct slice payload);

#endif
