/* limits.h - every limit of the sidecar, with what happens there. docs/grpc.md lists them for operators.
 *
 * Process: quorumfs-grpc.  Thread: constants.  Errors: none.  Memory: none.
 * Units:   in each name. */
#ifndef SIDECAR_LIMITS_H
#define SIDECAR_LIMITS_H

#include "store/command.h"

/* One gRPC message from a client: etcd's default, --max-request-bytes and 512 KiB for what is around it. Over it:
 * ResourceExhausted, with gRPC's own text. Between REQUEST_MAX_BYTES and this: etcd's "request is too large". */
#define GRPC_MESSAGE_MAX_BYTES (REQUEST_MAX_BYTES + 512 * 1024)

/* Messages that have come in part, of one connection and of all: the call that passes it is refused. */
#define CONN_INPUT_MAX_BYTES (32u * 1024 * 1024)
#define SERVER_INPUT_MAX_BYTES (256u * 1024 * 1024)

/* Answers waiting for their client to read them. A connection, or the program, beyond it: further unary requests are
 * refused ("too many requests"), so that what was accepted can drain. */
#define CONN_OUTPUT_MAX_BYTES (64u * 1024 * 1024)
#define SERVER_OUTPUT_MAX_BYTES (512u * 1024 * 1024)

/* An answer to Range that takes more is sent in pieces, as its client reads it (range_stream.h) ... */
#define RANGE_WHOLE_BYTES (1024u * 1024)
#define RANGE_PIECE_BYTES (256u * 1024)
#define RANGE_QUEUE_BYTES (256u * 1024)
/* ... also one in another order than the store's: sorted by rounds over the range, each of which keeps so much. Past so many
 * rounds (3 million keys, or 256 MiB of values if they are what is compared): ResourceExhausted. */
#define RANGE_SORT_BYTES (4u * 1024 * 1024)
#define RANGE_SORT_ROUNDS_MAX 64
/* What a Txn that only reads answers is held as a whole: past this, ResourceExhausted. */
#define RANGE_ANSWER_MAX_BYTES (256u * 1024 * 1024)

/* Requests under way at the node, in bytes: past it "too many requests". */
#define SERVER_PENDING_MAX_BYTES (128u * 1024 * 1024)

/* A watch stream holds this much unread output; past it its watchers keep only their cursor until it has drained to
 * half. With more than SERVER_WATCH_BUFFER_BYTES held by all streams, a stream counts as full at STREAM_BUFFER_MIN_BYTES.
 * The answer for one revision is never cut (etcd's atomicity), so a stream may pass its limit by one message. */
#define STREAM_BUFFER_BYTES (1024u * 1024)
#define STREAM_BUFFER_MIN_BYTES (16u * 1024)
#define SERVER_WATCH_BUFFER_BYTES (256u * 1024 * 1024)
/* Answers to a watch stream's own requests (created, canceled, progress) are not held back by the limit above; a
 * stream that goes on asking and does not read is ended with ResourceExhausted at this. */
#define STREAM_CONTROL_MAX_BYTES (32u * 1024 * 1024)

/* Against rapid reset and floods: each new stream, reset, ping, setting, window update and empty piece
 * of data costs one unit; a connection without
 * units is not read from until some have come back. nghttp2's own guard (GOAWAY for all) is set out of the way. */
#define CONN_WORK_BURST 200000
#define CONN_WORK_PER_SECOND 100000
#define CONN_WORK_TICK_MS 10
#define GUNZIP_BYTES_PER_UNIT 4096 /* of a compressed message, unpacked */

/* Concurrent streams of one connection. What is announced starts low, is doubled whenever half of it is in use, and
 * falls again: nghttp2 keeps as many closed streams as are announced, 250 bytes each. */
#define CONN_STREAMS_MAX 10000
#define CONN_STREAMS_MIN 100
#define LOOPS_MAX 64 /* --grpc-loops; what is said here of "all" and of SERVER_... holds for each loop */
#define LOOP_GIFTS_MAX 1024 /* connections handed to a loop that has not taken them yet: then the accepting one serves them */
#define LOOP_FIGURES_MS 1000 /* for the other loops' counters in /metrics; then those of the last time are taken */
#define SERVER_STREAMS_MAX 200000 /* of all: further ones are refused (REFUSED_STREAM) */
#define SERVER_CONNS_MAX 10000    /* further ones are closed at once */
#define CONN_HEADERS_MAX_BYTES 16384 /* names and values of one request's headers: 431 or RST */
#define CONN_CONTROL_QUEUE_MAX 1000  /* nghttp2's frames waiting while the socket is full: then we stop reading */

#define CONN_HANDSHAKE_TIMEOUT_MS 10000 /* to the whole preface, or a whole HTTP/1.1 request */
#define HTTP1_IDLE_TIMEOUT_MS 60000

/* etcd's defaults. A client's pings: at most one in KEEPALIVE_MIN_MS, two strikes are free; ours: after so long a silence,
 * and then so long a wait for anything. Looked at once a second. */
#define KEEPALIVE_MIN_MS 5000
#define KEEPALIVE_INTERVAL_MS (2 * 3600 * 1000)
#define KEEPALIVE_TIMEOUT_MS 20000
#define PING_STRIKES_MAX 2

#define TLS_UNSENT_MAX_BYTES (64u * 1024) /* records that TLS itself owes to one that does not read: then closed */

#define H2_STREAM_WINDOW_BYTES (1024 * 1024)
#define H2_CONN_WINDOW_BYTES (8 * 1024 * 1024)

#define WRITE_GATHER_BYTES (256u * 1024) /* written to one socket at a time */
#define WRITE_TURN_BYTES (1024u * 1024)  /* to one connection before the others get their turn */

#define DRAIN_NOTICE_MS 250 /* from SIGTERM until new calls are refused and streams end: what was under way arrives */
#define DRAIN_GRACE_MS 2000 /* ... until connections that are still open are closed */

/* Calls of Lock and Campaign that wait for their turn: past it "too many requests". */
#define SERVER_TURNS_MAX 10000

/* Requests of one LeaseKeepAlive: at the node at a time, and all that are not answered; past it the stream ends with "too
 * many requests". */
#define LEASE_STREAM_UNDER_WAY 1024
#define LEASE_STREAM_QUEUE_MAX 100000
#define SERVER_BEATS_MAX 500000 /* of all streams: the same */
/* Keys in LeaseTimeToLive's answer, leases in LeaseLeases': past it ResourceExhausted. */
#define LEASE_KEYS_MAX_BYTES (64u * 1024 * 1024)

/* Snapshots that are sent or written at a time: past it "too many requests". Each holds a piece and its queue. */
#define SNAPSHOTS_MAX 8
#define HASHES_MAX 2 /* calls of Hash and HashKV at a time, in workers: the same */
#define SNAPSHOT_PIECE_BYTES (256u * 1024)
#define SNAPSHOT_QUEUE_BYTES (256u * 1024)
#define SNAPSHOT_WRITE_MS (30 * 60 * 1000) /* for the node to write the file, then "request timed out" */

/* Pages of plain HTTP that wait for the node: past it their checks of the cluster fail, and /metrics goes without the
 * node's figures. */
#define PAGES_WAITING_MAX 1000
#define METRICS_WAIT_MS 1000 /* for the node's figures */

#define COMPACT_LOOK_MS 5                 /* Compact with "physical" looks whether all is removed, */
#define COMPACT_WAIT_MS (30 * 60 * 1000) /* until then: "request timed out", and the removal goes on */

#define ROLE_ASK_MS 500 /* a learner asks its node whether it still is one, */
#define ROLE_SURE_MS 5000 /* and so does a voter */

/* A turn of the watch feed, then other work runs. */
#define FEED_TURN_EVENTS 2000
#define FEED_SLICE_ROWS 1000
#define FEED_SLICE_BYTES (1024u * 1024)
#define FEED_SLICE_MS 2
#define FEED_KEYS_PER_JOB 256
#define FEED_EVENTS_PER_KEY 64
#define FEED_RETRY_MS 200
#define WATCH_PROGRESS_INTERVAL_MS (10 * 60 * 1000) /* etcd's --watch-progress-notify-interval */

#endif
