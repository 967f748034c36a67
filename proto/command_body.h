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
void body_compact_encode(int64_t revision, bool physical, struct bytes *out); /* etcd's CompactionRequest */

#endif
