/* transport.h - the struct network of a real node: frames over TCP (docs/peer.md, "Framing").
 *
 * Process: node.
 * Thread:  the loop's; all callbacks too.
 * Errors:  negative errno from open, with a line of text that names the address. Later faults are a peer's or the network's:
 *          logged once each, and tried again.
 * Memory:  copies what it is given; frames handed out are borrowed for the call.
 * Units:   bytes, milliseconds.
 *
 * Every node dials every peer and sends only on the connection that it has dialled; it receives on those that it has
 * accepted. So there is no agreement needed which connection counts, and each direction fails and mends by itself.
 *
 * https: TLS below the frames, in both directions (docs/peer.md, "TLS"); http and https may stand beside each other.
 *
 * A dialled connection:  WAITING -> RESOLVING -> CONNECTING -> GREETING -> UP, and from each back to WAITING.
 * What is sent while it is not UP is dropped; what is in its queues when it breaks is lost. Raft sends again. */
#ifndef RAFT_TRANSPORT_H
#define RAFT_TRANSPORT_H

#include <uv.h>

#include "base/logger.h"
#include "base/url.h"
#include "raft/env.h"

#define TRANSPORT_QUEUE_MAX_BYTES (64 * 1024 * 1024) /* unsent, for each peer; past it frames are dropped */
#define TRANSPORT_ACCEPTED_MAX 256                   /* connections; past it a new one is closed at once */
#define TRANSPORT_CHUNK_BYTES (128 * 1024)           /* of a file, in one frame */
#define TRANSPORT_BULK_MAX 8                         /* files being sent at a time; more are asked to come again */
#define TRANSPORT_BULK_SILENCE_MS 10000              /* of a file that comes, until it is asked for anew */
#define TRANSPORT_GUESTS_MAX 64                      /* peers that dial us and are no members yet; past it they get no answers */
#define TRANSPORT_HELLO_WAIT_MS 5000                 /* for the first frame of an accepted connection */

struct transport;
struct peer_answer;
struct tls_context;

struct transport_options {
    uint64_t cluster_id, id;
    uint64_t instance; /* of this member's data directory */
    uint32_t program;  /* what this program can apply; the others are told */
    const struct url *listen;
    size_t n_listen;
    const char *urls; /* what the others are told in the hello: where this member listens */
    uint64_t election_ms;
    /* For https URLs, to listen on and to dial; NULL: there are none. Outlives the transport. */
    struct tls_context *tls;
    bool any_cert_name; /* a peer's certificate needs not be for a host of its member's URLs */
    const struct logger *logger;
    void *ctx;
    /* -EBADMSG: the connection that it came on is closed. */
    int (*receive)(void *ctx, uint64_t from, uint8_t type, struct slice payload);
    /* Of a peer that says hello: whether it may, or an enum peer_hello_code with a text; NULL: everybody may. */
    uint32_t (*admit)(void *ctx, uint64_t from, uint64_t instance, char *ret_text, size_t text_size);
    /* Fills in the answer to one that asks which member has these URLs; NULL: nobody is answered. */
    void (*lookup)(void *ctx, struct slice urls, struct peer_answer *ret_answer);
    /* Opens the checkpoint file of that index and checksum, to be sent; a descriptor, or -ENOENT. NULL: there are none. */
    int (*open_checkpoint)(void *ctx, uint64_t index, uint32_t crc);
    void (*fetched)(void *ctx, int error); /* network.fetch() has come to an end */
    uint64_t bulk_bytes_per_s;             /* of each file that is sent; 0: no limit */
    void (*answered)(void *ctx, const struct peer_answer *answer); /* to transport_ask(), as often as somebody answers */
    void (*refused)(void *ctx, uint64_t peer, uint32_t code, const char *text); /* by that peer; may be NULL */
    void (*connected)(void *ctx, uint64_t peer, uint32_t program); /* program: as it says; 0: it does not */
    void (*disconnected)(void *ctx, uint64_t peer);
};

struct transport_counters {
    uint64_t bulk_bytes_sent, bulk_bytes_received, bulk_breaks;
    uint64_t frames_sent, frames_dropped, frames_received, bytes_sent, bytes_received, refused, tls_failed;
};

/* Binds and listens at once; options are copied. */
int transport_open(uv_loop_t *loop, const struct transport_options *options, struct transport **ret_transport,
                   char *ret_text, size_t text_size);
void transport_table(struct transport *t, struct network *ret_network);
struct transport_counters transport_counters(const struct transport *t);
/* Asks whoever listens at these URLs which member this is; answered() tells, if somebody does. Until transport_identify(). */
int transport_ask(struct transport *t, const char *urls);
/* Who this is, when it was not known at transport_open(); ends the asking. */
void transport_identify(struct transport *t, uint64_t cluster_id, uint64_t id);
/* No callback of the options comes any more. Calls closed(ctx) when the last handle is gone; t is freed then. */
void transport_close(struct transport *t, void (*closed)(void *ctx), void *ctx);

#endif
