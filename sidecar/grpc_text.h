/* grpc_text.h - the textual corners of gRPC over HTTP/2: grpc-timeout, grpc-message, message framing.
 *
 * Process: quorumfs-grpc.
 * Thread:  pure functions; a struct grpc_frames has one owner.
 * Errors:  negative errno as said at each.
 * Memory:  grpc_frames owns one partial message at most.
 * Units:   bytes, milliseconds.
 *
 * Rules: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#ifndef SIDECAR_GRPC_TEXT_H
#define SIDECAR_GRPC_TEXT_H

#include "base/bytes.h"
#include "base/slice.h"

/* One to eight digits and a unit of H M S m u n; rounded up to whole milliseconds. -EBADMSG. */
int grpc_timeout_parse(struct slice text, uint64_t *ret_ms);

/* grpc-message: everything but printable ASCII without '%' becomes %XX. */
void grpc_percent_encode(struct slice text, struct bytes *out);

#define GRPC_PREFIX_BYTES 5
void grpc_prefix_put(uint8_t *p, size_t message_bytes); /* uncompressed flag and big-endian length */

/* Cuts a call's DATA bytes into messages. */
struct grpc_frames {
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t n_prefix;
    uint8_t *message; /* partial */
    size_t length, got;
};

typedef int (*grpc_message_fn)(void *ctx, struct slice message, bool compressed);

void grpc_frames_fini(struct grpc_frames *f);
/* Calls fn for each whole message, borrowed for that call; a nonzero return of fn stops and is returned.
 * -EMSGSIZE: one announces more than max_bytes (f->length says how much). -EBADMSG: the flag byte is neither 0 nor 1. -ENOMEM. */
int grpc_frames_feed(struct grpc_frames *f, struct slice data, size_t max_bytes, grpc_message_fn fn, void *ctx);
/* Bytes held for a message that has come in part. */
static inline size_t grpc_frames_held(const struct grpc_frames *f)
{
    return f->message != NULL ? f->length : 0;
}
/* At the end of the stream: true if it cuts a message in two. */
static inline bool grpc_frames_partial(const struct grpc_frames *f)
{
    return f->n_prefix != 0;
}

/* Unpacks a message of grpc-encoding gzip; *ret_data is to be freed. A few bytes may stand for any number, so it ends with
 * -EMSGSIZE as soon as there are more than max_bytes. -EBADMSG, -ENOMEM. */
int grpc_gunzip(struct slice packed, size_t max_bytes, uint8_t **ret_data, size_t *ret_len);

#endif
