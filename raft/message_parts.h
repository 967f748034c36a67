/* message_parts.h - what every payload of a peer begins with, ends with and is made of; for message*.c alone.
 *
 * Process: node.  Thread: pure functions.  Errors: as raft/message.h; readers are sticky.  Memory: none.  Units: none. */
#ifndef RAFT_MESSAGE_PARTS_H
#define RAFT_MESSAGE_PARTS_H

#include <errno.h>

#include "raft/message.h"

static inline void part_begin(struct bytes *out)
{
    bytes_u8(out, PEER_PAYLOAD_VERSION);
}

/* Reads the version; a newer one is told apart from damage, so that the log line can say "upgrade". */
static inline int part_check_version(struct reader *r)
{
    uint8_t version = reader_u8(r);

    if (reader_status(r) < 0)
        return -EBADMSG;
    if (version > PEER_PAYLOAD_VERSION)
        return -EPROTONOSUPPORT;
    return version == PEER_PAYLOAD_VERSION ? 0 : -EBADMSG;
}

static inline int part_finish(const struct reader *r)
{
    return reader_status(r) == 0 && reader_left(r) == 0 ? 0 : -EBADMSG;
}

static inline uint64_t part_read_number(struct reader *r)
{
    uint64_t v = reader_u64(r);

    if (v > PEER_NUMBER_MAX)
        reader_fail(r);
    return v;
}

static inline uint64_t part_read_term(struct reader *r)
{
    uint64_t v = part_read_number(r);

    if (v == 0)
        reader_fail(r);
    return v;
}

static inline bool part_read_bool(struct reader *r)
{
    uint8_t v = reader_u8(r);

    if (v > 1)
        reader_fail(r);
    return v == 1;
}

#endif
