/* message_member.c - what members say to each other about membership and checkpoints. */
#include "raft/message_parts.h"

void peer_member_change_encode(const struct peer_member_change *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->sequence);
    bytes_u8(out, m->op);
    bytes_u8(out, m->learner);
    bytes_u64(out, m->id);
    bytes_u32_slice(out, m->peer_urls);
}

int peer_member_change_decode(struct slice in, struct peer_member_change *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_member_change m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    m.op = reader_u8(&r);
    m.learner = part_read_bool(&r);
    m.id = reader_u64(&r);
    m.peer_urls = reader_u32_slice(&r);
    rc = part_finish(&r);
    if (rc == 0 && (m.peer_urls.len > PEER_URLS_MAX_BYTES ||
                    (m.peer_urls.len != 0 && memchr(m.peer_urls.data, 0, m.peer_urls.len) != NULL)))
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_member_result_encode(const struct peer_member_result *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->sequence);
    bytes_u16(out, m->status);
    bytes_u64(out, m->index);
    bytes_u64(out, m->id);
}

int peer_member_result_decode(struct slice in, struct peer_member_result *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_member_result m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    m.status = reader_u16(&r);
    m.index = part_read_number(&r);
    m.id = reader_u64(&r);
    rc = part_finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_snapshot_offer_encode(const struct peer_snapshot_offer *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->index);
    bytes_u64(out, m->index_term);
    bytes_u64(out, m->bytes);
    bytes_u32(out, m->crc);
}

int peer_snapshot_offer_decode(struct slice in, struct peer_snapshot_offer *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_snapshot_offer m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.index = part_read_term(&r);
    m.index_term = part_read_term(&r);
    m.bytes = part_read_term(&r);
    m.crc = reader_u32(&r);
    rc = part_finish(&r);
    if (rc == 0 && m.index_term > m.term)
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_snapshot_reply_encode(const struct peer_snapshot_reply *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->index);
    bytes_u8(out, m->code);
}

int peer_snapshot_reply_decode(struct slice in, struct peer_snapshot_reply *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_snapshot_reply m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.index = part_read_term(&r);
    m.code = reader_u8(&r);
    rc = part_finish(&r);
    if (rc == 0 && m.code > PEER_SNAPSHOT_INSTALLED)
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}
