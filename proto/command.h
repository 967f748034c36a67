/* command.h - the log's commands and their answers as bytes (docs/commands.md fixes every byte).
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that lie, -ENOTSUP for a format or kind newer than this program, -E2BIG over a limit.
 * Memory:  decoding borrows from the bytes and takes arrays from the arena.
 * Units:   bytes.
 *
 * Envelope, little-endian, fixed so that a node can stamp it without decoding the body:
 *   0 u8 format = 1   1 u8 zero   2 u16 kind    4 u32 min_version
 *   8 u64 session    16 u64 sequence   24 u64 origin   32 u64 request
 *  40 u64 auth_revision   48 i64 time_ns   56 u16 user length   58 u16 zero   60 u32 body length
 *  64 user, body
 * Bodies are protobuf: PUT, DELETE_RANGE, TXN, COMPACT carry etcd's own messages (PutRequest, ...); the others the
 * messages of proto/quorumfs.proto. Answers likewise (PutResponse, ... without header; FileResponse), so that the
 * sidecar hands bodies through in both directions: a header in front of one is one message by
 * protobuf's rule of concatenation. */
#ifndef PROTO_COMMAND_H
#define PROTO_COMMAND_H

#include "base/arena.h"
#include "base/bytes.h"
#include "store/command.h"

#define COMMAND_FORMAT 1
#define COMMAND_ENVELOPE_BYTES 64

void command_encode(const struct command *cmd, struct bytes *out); /* out->status tells of lack of memory */
/* Envelope only around a body that is encoded already; cmd's union is ignored. */
void command_encode_raw(const struct command *cmd, struct slice body, struct bytes *out);
/* Whole and exact: trailing bytes are an error. */
int command_decode(struct slice in, struct arena *arena, struct command *ret_cmd);
/* The envelope alone, and where the body is. */
int command_decode_envelope(struct slice in, struct command *ret_cmd, struct slice *ret_body);
/* Overwrites origin and request, and time if it is 0, in an encoded command (checked by decode_envelope before). */
void command_stamp(uint8_t *encoded, uint64_t origin, uint64_t request, int64_t time_ns);

/* Overwrites session and sequence likewise: a front end encodes before it knows the lane. */
void command_set_session(uint8_t *encoded, uint64_t session, uint64_t sequence);

/* The checks that need no store: key given, limits, duplicate keys in a txn, sort options. For proposers, before they
 * propose, in etcd's order and with etcd's answers; STATUS_OK or what is wrong. */
uint16_t command_check(const struct command *cmd);
/* The same for a range outside a txn: whoever reads asks before store_range(). */
uint16_t command_check_range(const struct op_range *op);

void result_encode(const struct result *r, struct bytes *out); /* body only; empty unless status is OK */
int result_decode(uint16_t kind, struct slice body, struct arena *arena, struct result *ret_result);

#endif
