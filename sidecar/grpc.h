/* grpc.h - a gRPC server over libnghttp2 and libuv: what services see of it.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's; nothing here may be called from another.
 * Errors:  negative errno at start-up; afterwards a call ends with a gRPC code and text.
 * Memory:  a message's slice is borrowed for the call; grpc_send takes over what it is given. Bodies are shared by
 *          reference counts, so that one encoded event can stand in any number of streams' queues.
 * Units:   bytes; milliseconds of the loop's clock.
 *
 * Life of a call, as its method sees it:
 *
 *   start (streams only) -> message ... -> half_close (streams only) -> end
 *
 * end comes exactly once, whatever happens: it is called from within grpc_finish(), or when the client resets the
 * call, its deadline passes or the connection goes. After it the method must not touch the call. */
#ifndef SIDECAR_GRPC_H
#define SIDECAR_GRPC_H

#include "base/bytes.h"
#include "base/list.h"
#include "base/logger.h"
#include "base/slice.h"
#include "base/status.h"
#include "sidecar/deadlines.h"

#include <uv.h>

struct grpc_server;
struct grpc_call;

enum grpc_kind { GRPC_UNARY, GRPC_STREAM };

struct grpc_method {
    const char *path; /* "/package.Service/Method" */
    enum grpc_kind kind;
    void (*start)(struct grpc_call *call);
    void (*message)(struct grpc_call *call, struct slice message);
    void (*half_close)(struct grpc_call *call);
    void (*drained)(struct grpc_call *call); /* after grpc_send() filled it past the mark: below half of it again */
    void (*end)(struct grpc_call *call);
};

/* ---- bodies and messages ---- */

struct body {
    uint32_t refs;
    uint32_t len;
    uint8_t data[];
};

struct body *body_new(size_t len); /* one reference, contents unset; NULL without memory */
struct body *body_copy(struct slice s);
static inline struct body *body_ref(struct body *b)
{
    b->refs++;
    return b;
}
void body_unref(struct body *b); /* NULL is fine */

/* One message on its way out: prefix and own bytes, then shared bodies. */
struct grpc_out {
    struct grpc_out *next;
    uint32_t head_len; /* with the prefix */
    uint32_t n_bodies;
    size_t total;      /* head and bodies */
    struct body **bodies; /* behind head, in the same allocation */
    uint8_t head[];
};

/* Room for a head of head_len bytes after the prefix, and n_bodies references; NULL without memory. */
struct grpc_out *grpc_out_new(size_t head_len, size_t n_bodies);
/* Where the head's own bytes go. */
static inline uint8_t *grpc_out_head(struct grpc_out *out)
{
    return out->head + 5;
}
void grpc_out_free(struct grpc_out *out);

/* ---- a call ---- */

/* Takes the message, whatever happens. */
void grpc_send(struct grpc_call *call, struct grpc_out *take_out);
/* The same for plain bytes; -ENOMEM ends the call with ResourceExhausted. */
void grpc_send_bytes(struct grpc_call *call, struct slice head, struct slice message);
/* A piece of a message that is sent in several, its prefix among the bytes. A call that fails before the last one is
 * reset, since nothing else can say that the message is cut. -ENOMEM: nothing was sent. */
int grpc_send_part(struct grpc_call *call, struct slice part, bool last);
/* Ends the call; text is copied. With GRPC_OK all that was sent goes out first. */
void grpc_finish(struct grpc_call *call, enum grpc_code code, const char *text);
void grpc_finish_status(struct grpc_call *call, uint16_t status);

void grpc_set_state(struct grpc_call *call, void *state);
void *grpc_state(const struct grpc_call *call);
struct grpc_server *grpc_call_server(const struct grpc_call *call);
void *grpc_app(const struct grpc_call *call);
/* Unread output of this call. */
size_t grpc_queued(const struct grpc_call *call);
/* Calls drained() once the unread output is at most mark_bytes. */
void grpc_want_drained(struct grpc_call *call, size_t mark_bytes);
/* The client's deadline on the loop's clock; 0: none. */
uint64_t grpc_deadline_ms(const struct grpc_call *call);
/* From now on its outcome is not known before it is answered: a deadline that passes first ends it as etcd ends a change then,
 * with Unavailable. clientv3 calls again what DEADLINE_EXCEEDED or CANCELLED ended before its own deadline by its own clock. */
void grpc_changes(struct grpc_call *call);
bool grpc_require_leader(const struct grpc_call *call); /* metadata hasleader: true */
/* Metadata of the request whose name stands in the config; the first of that name, an empty slice without one. */
struct slice grpc_metadata(const struct grpc_call *call, const char *name);
/* Metadata of the answer: before its first message, or for its end; a name in small letters, at most GRPC_METADATA_MAX of
 * each. -ENOMEM, -E2BIG. */
#define GRPC_METADATA_MAX 4
int grpc_add_metadata(struct grpc_call *call, bool at_end, const char *name, struct slice value);
/* True if further unary answers of size_hint may be queued on this call's connection. */
bool grpc_output_allowed(const struct grpc_call *call);

/* ---- the server ---- */

struct page_origin;
struct page_wait;

struct http_request {
    struct slice method, path; /* path without query */
    struct slice query;
    struct page_origin *origin; /* for page_later() */
};

struct http_reply {
    int status;
    const char *content_type;
    struct bytes body; /* owned by the caller of the page function */
};

/* For a page that cannot be answered at once: what the function leaves in reply is ignored, and page_answer() is called in a
 * later turn, once, whether the client is still there or not. NULL without memory. */
struct page_wait *page_later(const struct http_request *request);
void page_answer(struct page_wait *take_wait, const struct http_reply *reply);

struct tls_context;

struct grpc_config {
    const struct grpc_method *const *methods; /* NULL-terminated */
    void (*page)(void *app, const struct http_request *request, struct http_reply *reply); /* plain HTTP */
    void (*turn)(void *app); /* once per turn of the loop, before output is written; may be NULL */
    void *app;
    const struct logger *log;
    const char *const *metadata; /* names that are kept for grpc_metadata(); NULL-terminated; may be NULL */
    uint32_t max_streams; /* of one connection; 0: CONN_STREAMS_MAX */
    /* Asked for each connection that was accepted: whether somebody else is to serve it; then give() hands it on, by a
     * descriptor of its own that it takes (grpc_server_adopt). False: it cannot be handed on. Both may be NULL. */
    bool (*wants_to_give)(void *app);
    bool (*give)(void *app, int take_fd, unsigned security, bool is_unix);
    struct tls_context *tls; /* for what listens with GRPC_TLS; outlives the server; may be NULL */
    /* 0: the default of limits.h */
    uint64_t keepalive_min_ms, keepalive_interval_ms, keepalive_timeout_ms;
};

struct grpc_method_counts {
    const struct grpc_method *method;
    uint64_t started;
    uint64_t by_code[GRPC_UNAUTHENTICATED + 1];
};

struct grpc_counters {
    uint64_t conns_accepted, conns_refused, conns_open, conns_http1;
    uint64_t calls_open, streams_open; /* streams: of methods of kind GRPC_STREAM */
    uint64_t unknown_methods, resets_received, goaways_sent, throttled, ping_strikes, deadline_exceeded;
    uint64_t conns_tls, tls_failed, conns_silent, messages_decompressed; /* silent: gave no answer to a ping */
    uint64_t bytes_in, bytes_out;
    size_t input_bytes, output_bytes; /* held now */
};

int grpc_server_new(uv_loop_t *loop, const struct grpc_config *config, struct grpc_server **ret_server);
/* What a listener takes; both: by the first byte of a connection. Beside either HTTP/2 and HTTP/1.1, by the first bytes. */
enum grpc_security { GRPC_PLAIN = 1, GRPC_TLS = 2 };
/* Listens on one address (sockaddr_in, _in6 or _un); a port of 0 is chosen by the kernel and told. ret_port may be NULL. A
 * socket's file that nobody listens on any more is replaced. */
int grpc_server_listen(struct grpc_server *s, const struct sockaddr *address, unsigned security, int *ret_port);
/* What has been queued goes out, to clients and (config.turn) to the node. Done before the loop sleeps; whoever is about to
 * keep the loop busy does it first. From an outermost frame alone. */
void grpc_server_send(struct grpc_server *s);
/* Serves a connection that another loop's server has given away; takes the descriptor. */
void grpc_server_adopt(struct grpc_server *s, int take_fd, unsigned security, bool is_unix);
/* No new connections; clients are told (GOAWAY) and may finish what they had sent before they heard; after
 * DRAIN_NOTICE_MS no new calls, and streams end with Unavailable; done() when the last connection is gone, at the latest after
 * DRAIN_GRACE_MS. */
void grpc_server_stop(struct grpc_server *s, void (*done)(void *app));
void grpc_server_free(struct grpc_server *s); /* after done() and the loop's last turn */
const struct grpc_counters *grpc_server_counters(const struct grpc_server *s);
const struct grpc_method_counts *grpc_server_methods(const struct grpc_server *s, size_t *ret_count);
void *grpc_server_app(const struct grpc_server *s);
uv_loop_t *grpc_server_loop(const struct grpc_server *s);

#endif
