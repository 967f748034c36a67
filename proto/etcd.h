/* etcd.h - the hot messages of etcd's API (api/v3 etcdserverpb rpc.proto, mvccpb kv.proto) by hand: requests decoded
 * without copying, answers encoded straight from kvs. All other messages go through protobuf-c (etcd.proto).
 *
 * Process: any.  Thread: pure functions.
 * Errors:  -EBADMSG for bytes that are no such message. Unknown fields are skipped, repeated scalars: the last wins.
 * Memory:  decoding borrows from the bytes and takes arrays from the arena.
 * Units:   bytes. */
#ifndef PROTO_ETCD_H
#define PROTO_ETCD_H

#include "base/arena.h"
#include "base/bytes.h"
#include "store/command.h"

int etcd_put_decode(struct slice in, struct op_put *ret_op);
int etcd_delete_decode(struct slice in, struct op_delete *ret_op);
int etcd_range_decode(struct slice in, struct op_range *ret_op);
/* -E2BIG: nested deeper than TXN_MAX_DEPTH or more than TXN_DECODE_MAX_OPS compares and operations in all; the answer
 * to that is STATUS_TOO_MANY_OPS. An operation that says nothing gets kind 0, which command_check() refuses. */
#define TXN_DECODE_MAX_OPS 16384 /* an operation costs two bytes on the wire and some hundred decoded */
int etcd_txn_decode(struct slice in, struct arena *arena, struct txn *ret_txn);
int etcd_compact_decode(struct slice in, int64_t *ret_revision, bool *ret_physical);
void etcd_put_encode(const struct op_put *op, struct bytes *out);
void etcd_delete_encode(const struct op_delete *op, struct bytes *out);
void etcd_range_encode(const struct op_range *op, struct bytes *out);
void etcd_txn_encode(const struct txn *txn, struct bytes *out);
/* What the encoders of the same name append. */
size_t etcd_put_size(const struct op_put *op);
size_t etcd_delete_size(const struct op_delete *op);
size_t etcd_txn_size(const struct txn *txn);

struct etcd_header {
    uint64_t cluster_id, member_id, raft_term;
    int64_t revision;
};
/* Field 1 of every response. */
void etcd_header_encode(const struct etcd_header *h, struct bytes *out);
void etcd_kv_encode(const struct kv *kv, struct bytes *out); /* the message, without tag and length */
/* Response bodies without their header. In a txn's answers the inner headers hold the revision, as etcd's do. */
void etcd_range_response_encode(const struct range_result *r, struct bytes *out);
/* PutResponse, DeleteRangeResponse, RangeResponse or TxnResponse. */
void etcd_op_result_encode(const struct op_result *r, int64_t revision, struct bytes *out);
void etcd_txn_response_encode(const struct txn_result *r, int64_t revision, struct bytes *out);
int etcd_range_response_decode(struct slice in, struct arena *arena, struct range_result *ret_result);
int etcd_op_result_decode(enum op_kind kind, struct slice in, struct arena *arena, struct op_result *ret_result);
int etcd_kv_decode(struct slice in, struct kv *ret_kv);

/* One mvccpb.Event, as it stands behind tag and length in WatchResponse.events; prev may be NULL. */
void etcd_event_encode(bool is_delete, const struct kv *kv, const struct kv *prev, struct bytes *out);

#endif
