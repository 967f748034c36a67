/* range_stream.h - a Range answer of any length in bounded memory: one message, measured first, then sent in pieces; or
 * RangeStream's messages, one for each piece.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's; reading happens in workers, one job at a time.
 * Errors:  before the first byte a status or errno as for any Range; afterwards the call is reset.
 * Memory:  a stream holds one piece and what the call's queue holds, RANGE_QUEUE_BYTES; no transaction between jobs.
 * Units:   bytes.
 *
 * A gRPC message begins with its length. So a first pass reads the range at a fixed revision and only adds up; the second
 * reads it again, as the client takes it, and must come to the same sum. Compaction that overtakes the revision ends it.
 *
 * Another order than the store's is made by selection (range_sort.h): RANGE_SORT_BYTES hold the keys of one round, and there are
 * as many rounds as it takes, to RANGE_SORT_ROUNDS_MAX. A limit is one round as a rule. */
#ifndef SIDECAR_RANGE_STREAM_H
#define SIDECAR_RANGE_STREAM_H

#include "sidecar/app.h"

struct range_stream;

/* Whether there may be many; in any order, and filtered. */
bool range_stream_possible(const struct op_range *op);
enum range_stream_form {
    RANGE_IN_PIECES, /* of one RangeResponse */
    RANGE_IN_CHUNKS, /* RangeStreamResponses; header, more and count in the last one, as in etcd */
};
/* The call is answered and finished from here on. op's slices are copied. -ENOMEM: nothing was begun. */
int range_stream_start(struct app *app, struct grpc_call *call, const struct op_range *op, enum range_stream_form form,
                       struct range_stream **ret_stream);
void range_stream_drained(struct range_stream *s);
/* The call has ended; frees it, at once or when the job is done. */
void range_stream_end(struct range_stream *s);

#endif
