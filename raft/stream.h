/* stream.h - bytes in and out of one connection, under the frames of the transport and of the local socket.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  negative errno.
 * Memory:  a stream owns its buffers until stream_close() has called closed(), where its owner frees it. Its address must not
 *          change.
 * Units:   bytes.
 *
 * A stream of TLS is the same to its owner: it encodes into out and takes plain bytes. What is queued before the handshake has
 * ended waits for it.
 *
 * Output gathers in one buffer while another is with the kernel; stream_flush() sends what has gathered with one call.
 * It is bounded by the owner, who asks stream_unsent(). Input is bounded by the largest frame that the owner waits for. */
#ifndef RAFT_STREAM_H
#define RAFT_STREAM_H

#include <sys/types.h>
#include <uv.h>

#include "base/bytes.h"

struct tls_conn;

struct stream_calls {
    /* How many bytes of in were whole frames and are done with; or a negative errno, which broken() gets. */
    ssize_t (*take)(void *ctx, struct slice in);
    /* The connection cannot go on; -ECONNRESET when the other side has closed it. Close it. */
    void (*broken)(void *ctx, int error);
    /* What was with the kernel is gone: flush again if more has gathered. May be NULL. */
    void (*written)(void *ctx);
    /* After stream_close(): the last call. */
    void (*closed)(void *ctx);
};

struct stream {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv; /* initialised by the owner before stream_init() */
    const struct stream_calls *calls;
    void *ctx;
    size_t read_bytes; /* size of the input buffer while no frame needs more */
    uint8_t *in;
    size_t in_len, in_cap;
    struct bytes out; /* the owner encodes into it */
    struct bytes busy;
    uv_write_t write;
    bool writing, closing;
    struct tls_conn *tls;    /* NULL: plain */
    uint8_t *cipher_in;      /* where its bytes are read to */
    struct bytes cipher_out; /* sealed, not yet with the kernel */
    size_t sealed;           /* of out */
};

void stream_init(struct stream *s, size_t read_bytes, const struct stream_calls *calls, void *ctx);
/* Makes it one of TLS; before it reads. Takes the connection. */
void stream_set_tls(struct stream *s, struct tls_conn *take_tls);
int stream_read_start(struct stream *s);
void stream_read_stop(struct stream *s);
size_t stream_unsent(const struct stream *s);
/* Nothing happens while a write is with the kernel. */
int stream_flush(struct stream *s);
/* What broken() is told, in words; they live as long as the stream. */
const char *stream_why(const struct stream *s, int error);
/* No call comes any more but closed(). Once. */
void stream_close(struct stream *s);

int err_from_uv(int rc); /* libuv's codes are negated errno on Linux, but for the resolver's */

#endif
