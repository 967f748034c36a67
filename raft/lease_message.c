#include "raft/lease_message.h"

#include <errno.h>

static int check_version(struct reader *r)
{
    uint8_t version = reader_u8(r);

    if (reader_status(r) < 0 || version == 0)
        return -EBADMSG;
    return version == PEER_PAYLOAD_VERSION ? 0 : -EPROTONOSUPPORT;
}

static int finish(const struct reader *r)
{
    return reader_status(r) == 0 && reader_left(r) == 0 ? 0 : -EBADMSG;
}

void peer_lease_encode(const struct peer_lease *m, struct bytes *out)
{
    bytes_u8(out, PEER_PAYLOAD_VERSION);
    bytes_u64(out, m->sequence);
    bytes_u32(out, (uint32_t)m->n_items);
    for (size_t i = 0; i < m->n_items; i++) {
        bytes_u8(out, m->items[i].prolong);
        bytes_u64(out, (uint64_t)m->items[i].id);
    }
}

int peer_lease_decode(struct slice in, struct arena *arena, struct peer_lease *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_lease m = {0};
    struct peer_lease_item *items;
    int rc = check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    m.n_items = reader_u32(&r);
    if (reader_status(&r) < 0 || m.n_items == 0 || m.n_items > LEASE_FRAME_ITEMS)
        return -EBADMSG;
    items = arena_array(arena, m.n_items, sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m.n_items; i++) {
        uint8_t prolong = reader_u8(&r);

        if (prolong > 1)
            return -EBADMSG;
        items[i] = (struct peer_lease_item){prolong == 1, (int64_t)reader_u64(&r)};
    }
    rc = finish(&r);
    m.items = items;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_lease_reply_encode(const struct peer_lease_reply *m, struct bytes *out)
{
    bytes_u8(out, PEER_PAYLOAD_VERSION);
    bytes_u64(out, m->sequence);
    bytes_u32(out, (uint32_t)m->n_answers);
    for (size_t i = 0; i < m->n_answers; i++) {
        bytes_u16(out, m->answers[i].status);
        bytes_u64(out, (uint64_t)m->answers[i].granted_s);
        bytes_u64(out, (uint64_t)m->answers[i].remaining_s);
    }
}

int peer_lease_reply_decode(struct slice in, struct arena *arena, struct peer_lease_reply *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_lease_reply m = {0};
    struct peer_lease_answer *answers;
    int rc = check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    m.n_answers = reader_u32(&r);
    if (reader_status(&r) < 0 || m.n_answers > LEASE_FRAME_ITEMS)
        return -EBADMSG;
    answers = arena_array(arena, m.n_answers + 1, sizeof *answers);
    if (answers == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m.n_answers; i++) {
        answers[i].status = reader_u16(&r);
        answers[i].granted_s = (int64_t)reader_u64(&r);
        answers[i].remaining_s = (int64_t)reader_u64(&r);
    }
    rc = finish(&r);
    m.answers = answers;
    if (rc == 0)
        *ret_m = m;
    return rc;
}
