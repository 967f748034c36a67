/* conn.h - inside of the gRPC server: the server, its connections and calls.
 *
 * Process: quorumfs-grpc; included by the files of the gRPC layer alone (grpc.c, server.c, conn.c, h2.c, http1.c).
 * Thread:  the loop's.
 * Errors:  negative errno; a connection that cannot go on is closed.
 * Memory:  a connection owns its calls; it is freed in libuv's close callback.
 * Units:   bytes; milliseconds of the loop's clock.
 *
 * Invariants:
 *  1. nghttp2 does not tell of streams when a session is deleted: `calls` has them all, and conn_close ends them.
 *  2. At most one write is under way per connection; while it is, nothing is pulled from nghttp2, so what waits stays in
 *     the calls' bounded queues.
 *  3. Connections are closed only from the outermost frame (read, flush, timer), never within nghttp2's callbacks. */
#ifndef SIDECAR_CONN_H
#define SIDECAR_CONN_H

#include "sidecar/grpc.h"
#include "sidecar/grpc_text.h"
#include "sidecar/h2_check.h"
#include "sidecar/limits.h"

#include <nghttp2/nghttp2.h>

#include "tls/tls.h"

enum conn_kind { CONN_SNIFF, CONN_H2, CONN_HTTP1 };

struct grpc_server {
    uv_loop_t *loop;
    struct grpc_config config;
    struct grpc_method_counts *methods; /* sorted by path */
    size_t n_methods;
    nghttp2_session_callbacks *h2_callbacks;
    nghttp2_option *h2_option;
    struct list conns, dirty, throttled, drained; /* drained: calls */
    struct list listeners;
    struct deadlines deadlines;
    uv_timer_t timer, throttle_timer, sweep_timer, stop_timer;
    uv_prepare_t prepare;
    uv_idle_t again; /* active while a flush was cut short */
    struct grpc_counters counters;
    bool stopping, refusing; /* refusing: no new calls either */
    void (*stopped)(void *app);
    unsigned handles; /* of the server's own, until closed */
    uint8_t *read_scratch, *write_scratch;
    struct bytes plain, sealed; /* of TLS: what has come in a read, what goes out in a write */
    struct tls_complaints complaints;
};

struct listener {
    struct list link;
    struct grpc_server *server;
    unsigned security;
    bool is_unix;
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
};

struct conn {
    struct grpc_server *server;
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    unsigned security; /* the listener's */
    struct tls_conn *tls;  /* NULL: plain, or not known yet */
    struct bytes tls_out;  /* what TLS itself has to say */
    enum conn_kind kind;
    struct list link;       /* server's conns */
    struct list dirty_link, throttled_link;
    struct list calls;
    size_t n_calls;
    nghttp2_session *h2;
    uint32_t stream_limit; /* announced last */
    uint64_t opened_ms, last_request_ms;
    size_t input_bytes, output_bytes; /* held by its calls */
    /* work budget */
    int64_t work;
    uint64_t work_ms;
    /* pings */
    uint64_t last_ping_ms;
    unsigned strikes;
    uint64_t heard_ms, pinged_ms; /* pinged_ms: 0 when nothing is waited for */
    /* writing */
    uv_write_t write;
    uint8_t *write_buf;
    bool writing, read_paused, closing, close_after_flush, goaway;
    /* HTTP/1.1, and the preface while it is not whole */
    struct bytes in, out;
    struct page_wait *page; /* HTTP/1.1: the answer that comes later; nothing behind it is read until then */
};

/* Of a request, or of its answer. */
struct metadata {
    struct metadata *next;
    enum { METADATA_RECEIVED, METADATA_HEAD, METADATA_END } where;
    uint32_t name_len, value_len;
    uint8_t bytes[]; /* name, value */
};

enum call_encoding { ENCODING_NONE, ENCODING_GZIP, ENCODING_UNKNOWN };

struct grpc_call {
    struct conn *conn;
    int32_t stream_id;
    struct list link; /* conn's calls */
    struct list drained_link;
    struct grpc_method_counts *method; /* NULL: unknown, or plain HTTP */
    void *state;
    struct grpc_frames frames;
    struct grpc_out *out_first, **out_last;
    size_t out_offset, out_bytes; /* offset within the first */
    size_t drained_mark;
    struct deadline deadline;
    struct metadata *metadata;
    uint64_t timeout_ms;
    char *path;   /* of an unknown method or a page; or the name of an encoding that is not known */
    struct page_wait *page; /* that is answered later */
    struct h2_check check;
    size_t headers_bytes;
    char *message; /* of the trailer */
    uint8_t code;
    uint8_t encoding; /* enum call_encoding */
    uint8_t http_method; /* 'G' GET, 'H' HEAD, 'P' POST, 0 another */
    bool malformed, begun, is_grpc, bad_timeout, require_leader, has_timeout;
    bool in_message; /* grpc_send_part: the last one has not come */
    bool responded, deferred, finished, ended, remote_closed, got_message, want_drained, trailers_sent, is_page;
    bool changes; /* grpc_changes() */
};

#define CONN_READ_BYTES (64 * 1024)
#define CONN_WRITE_ROOM (WRITE_GATHER_BYTES + 128 * 1024)

/* server.c */
void server_check_stopped(struct grpc_server *s);
void server_arm_timer(struct grpc_server *s);

/* conn.c */
void conn_accept(struct listener *l);
void conn_mark_dirty(struct conn *c);
void conn_flush(struct conn *c);
void conn_close(struct conn *c);
void conn_charge(struct conn *c, unsigned units);
void conn_receive(struct conn *c, const uint8_t *data, size_t len); /* plain bytes */
/* Writes what it can; the rest is copied and left to libuv. */
int conn_write(struct conn *c, const uint8_t *data, size_t len);
/* Once a second: pings who was silent for long, closes who does not answer. */
void conn_keep_alive(struct conn *c, uint64_t now_ms);

/* conn_tls.c */
/* By the first byte of a connection: makes it one of TLS, or leaves it plain; false: it was turned away. */
bool conn_tls_choose(struct conn *c, uint8_t first);
void conn_tls_receive(struct conn *c, struct slice in);
int conn_tls_write(struct conn *c, const uint8_t *data, size_t len);
void conn_tls_close(struct conn *c);

/* h2.c: the nghttp2 side */
int h2_setup(struct grpc_server *s);
void h2_teardown(struct grpc_server *s);
int h2_open(struct conn *c);
int h2_receive(struct conn *c, const uint8_t *data, size_t len);
/* Appends frames to at most cap bytes at out; the count, or a negative errno. */
ssize_t h2_pull(struct conn *c, uint8_t *out, size_t cap);
bool h2_alive(struct conn *c);
/* Lowers the announced limit of streams when little of it is in use. */
void h2_lower_streams(struct conn *c);
void h2_goaway(struct conn *c, uint32_t error, const char *text);
void h2_notice(struct conn *c); /* GOAWAY that allows what is under way */
void h2_ping(struct conn *c);
void h2_submit_error(struct grpc_call *call);   /* trailers only */
void h2_submit_response(struct grpc_call *call); /* headers; data follow from the queue */
void h2_resume(struct grpc_call *call);
void h2_reset(struct grpc_call *call, uint32_t error);
void h2_submit_page(struct grpc_call *call, const struct http_reply *reply);

/* grpc.c: the call side */
struct grpc_call *call_new(struct conn *c, int32_t stream_id);
void call_free(struct grpc_call *call); /* ends it if it has not ended */
void call_header(struct grpc_call *call, struct slice name, struct slice value);
void call_begin(struct grpc_call *call, bool half_closed);
void call_data(struct grpc_call *call, struct slice data);
void call_half_close(struct grpc_call *call);
/* Copies out what is queued; sets *ret_done when all has gone and the call is finished. */
size_t call_read(struct grpc_call *call, uint8_t *buf, size_t len, bool *ret_done);
void server_run_drained(struct grpc_server *s);

/* page.c: answers of plain HTTP that come later */
struct page_origin {
    struct conn *conn;
    struct grpc_call *call; /* NULL: HTTP/1.1 */
    bool head_only, keep;
    struct page_wait *wait; /* out: page_later() was called */
};
void page_gone(struct page_wait *w); /* its client; NULL is fine */

/* http1.c */
void http1_answer(struct conn *c, const struct http_reply *reply, bool head_only, bool keep);
/* Answers what is whole in c->in into c->out; -EBADMSG: answer and close. */
void http1_receive(struct conn *c);

#endif
