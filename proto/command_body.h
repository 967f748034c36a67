/* command_body.h - the messages of proto/quorumfs.proto by hand.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that are no such message.
 * Memory:  decoding borrows, and takes arrays from the arena.
 * Units:   bytes. */
#ifndef PROTO_COMMAND_BODY_H
#define PROTO_COMMAND_BODY_H

#include "base/arena.h"
#include "base/bytes.h"
#include "store/command.h"

struct body_file_response {
    uint64_t ino, size;
    bool changed;
};

void body_file_encode(const struct file_op *op, struct bytes *out);
int body_file_decode(struct slice in, struct file_op *ret_op);
void body_file_response_encode(const struct body_file_response *r, struct bytes *out);
int body_file_response_decode(struct slice in, struct body_file_response *ret_r);
void body_member_encode(const struct member_info *m, struct bytes *out);
int body_member_decode(struct slice in, struct arena *arena, struct member_info *ret_m);
void body_alloc_inodes_encode(uint32_t count, struct bytes *out);
int body_alloc_inodes_decode(struct slice in, uint32_t *ret_count);
void body_cluster_version_encode(uint32_t version, struct bytes *out);
int body_cluster_version_decode(struct slice in, uint32_t *ret_version);
void body_quota_encode(uint64_t bytes, struct bytes *out);
int body_quota_decode(struct slice in, uint64_t *ret_bytes);
void body_lease_expire_encode(const struct lease_op *op, struct bytes *out);
int body_lease_expire_decode(struct slice in, struct lease_op *ret_op);
void body_lock_encode(const struct lock_op *op, struct bytes *out);
int body_lock_decode(struct slice in, struct lock_op *ret_op);
void body_lock_response_encode(bool granted, uint64_t token, struct bytes *out);
int body_lock_response_decode(struct slice in, bool *ret_granted, uint64_t *ret_token);

/* etcd's LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseCheckpointRequest, AlarmRequest,
 * AlarmResponse (answers without header). A list that decodes has at most as many items as its bytes can hold. */
void body_lease_grant_encode(const struct lease_op *op, struct bytes *out);
int body_lease_grant_decode(struct slice in, struct lease_op *ret_op);
void body_lease_grant_response_encode(int64_t id, int64_t ttl_s, struct bytes *out);
int body_lease_grant_response_decode(struct slice in, int64_t *ret_id, int64_t *ret_ttl_s);
void body_lease_revoke_encode(const struct lease_op *op, struct bytes *out);
int body_lease_revoke_decode(struct slice in, struct lease_op *ret_op);
void body_lease_checkpoint_encode(const struct lease_checkpoint *items, size_t n, struct bytes *out);
int body_lease_checkpoint_decode(struct slice in, struct arena *arena, struct lease_checkpoint **ret_items,
                                 size_t *ret_n);
void body_alarm_encode(const struct alarm_op *op, struct bytes *out);
int body_alarm_decode(struct slice in, struct alarm_op *ret_op);
void body_alarm_response_encode(const struct alarm *items, size_t n, struct bytes *out);
int body_alarm_response_decode(struct slice in, struct arena *arena, struct alarm **ret_items, size_t *ret_n);

void body_compact_encode(int64_t revision, bool physical, struct bytes *out); /* etcd's CompactionRequest */

#endif
