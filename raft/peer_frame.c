#include "raft/peer_frame.h"

#include <assert.h>
#include <errno.h>

#include "base/crc32c.h"

/* "QFSPEER" and a byte that is no text, so that a browser or a peer of etcd is told apart at once. */
static const uint8_t magic[8] = {'Q', 'F', 'S', 'P', 'E', 'E', 'R', 0xa6};

static uint32_t frame_crc(const uint8_t *head, struct slice payload)
{
    uint32_t crc = crc32c(0, head, 4);

    crc = crc32c(crc, head + 8, 4);
    return crc32c(crc, payload.data, payload.len);
}

void peer_frame_encode(struct bytes *out, uint8_t type, struct slice payload)
{
    size_t at = out->len;
    uint8_t *p = bytes_grow(out, PEER_FRAME_HEAD_BYTES);

    assert(payload.len <= PEER_FRAME_MAX_BYTES);
    if (p == NULL)
        return;
    memset(p, 0, PEER_FRAME_HEAD_BYTES);
    put_le32(p, (uint32_t)payload.len);
    p[8] = type;
    put_le32(p + 4, frame_crc(p, payload));
    bytes_append(out, payload);
    if (bytes_status(out) < 0)
        out->len = at; /* never half a frame */
}

int peer_frame_head_decode(struct slice in, uint32_t limit_bytes, struct peer_frame_head *ret_head)
{
    const uint8_t *p = in.data;

    if (in.len < 4)
        return 0;
    if (get_le32(p) > limit_bytes)
        return -EBADMSG;
    if (in.len < PEER_FRAME_HEAD_BYTES)
        return 0;
    if (p[8] == 0 || p[9] != 0 || get_le16(p + 10) != 0)
        return -EBADMSG;
    *ret_head = (struct peer_frame_head){get_le32(p), get_le32(p + 4), p[8]};
    return 1;
}

int peer_frame_verify(struct slice frame)
{
    assert(frame.len >= PEER_FRAME_HEAD_BYTES);
    if (get_le32(frame.data + 4) !=
        frame_crc(frame.data, slice_make(frame.data + PEER_FRAME_HEAD_BYTES, frame.len - PEER_FRAME_HEAD_BYTES)))
        return -EBADMSG;
    return 0;
}

static int finish(struct reader *r, const uint8_t *found)
{
    if (reader_status(r) == 0 && found != NULL && memcmp(found, magic, sizeof(magic)) != 0)
        reader_fail(r);
    return reader_status(r);
}

/* Bytes behind the known fields are a newer version's: they are skipped. */
void peer_hello_encode(const struct peer_hello *m, struct bytes *out)
{
    bytes_raw(out, magic, sizeof(magic));
    bytes_u32(out, m->version);
    bytes_u32(out, m->min_version);
    bytes_u64(out, m->cluster_id);
    bytes_u64(out, m->from);
    bytes_u64(out, m->to);
    bytes_u32_slice(out, m->urls);
    bytes_u64(out, m->instance);
}

int peer_hello_decode(struct slice in, struct peer_hello *ret_m)
{
    struct reader r = reader_make(in);
    struct slice found = reader_raw(&r, sizeof(magic));
    struct peer_hello m;
    int rc;

    m.version = reader_u32(&r);
    m.min_version = reader_u32(&r);
    m.cluster_id = reader_u64(&r);
    m.from = reader_u64(&r);
    m.to = reader_u64(&r);
    m.urls = reader_u32_slice(&r);
    m.instance = reader_left(&r) != 0 ? reader_u64(&r) : 0; /* the first programs did not send it */
    rc = finish(&r, found.data);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_hello_reply_encode(const struct peer_hello_reply *m, struct bytes *out)
{
    bytes_raw(out, magic, sizeof(magic));
    bytes_u32(out, m->version);
    bytes_u32(out, m->code);
    bytes_u64(out, m->cluster_id);
    bytes_u64(out, m->member_id);
    bytes_u32_slice(out, m->text);
    bytes_u32(out, m->program);
}

int peer_hello_reply_decode(struct slice in, struct peer_hello_reply *ret_m)
{
    struct reader r = reader_make(in);
    struct slice found = reader_raw(&r, sizeof(magic));
    struct peer_hello_reply m;
    int rc;

    m.version = reader_u32(&r);
    m.code = reader_u32(&r);
    m.cluster_id = reader_u64(&r);
    m.member_id = reader_u64(&r);
    m.text = reader_u32_slice(&r);
    m.program = reader_left(&r) != 0 ? reader_u32(&r) : 0; /* the first programs did not send it */
    rc = finish(&r, found.data);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_ask_encode(const struct peer_ask *m, struct bytes *out)
{
    bytes_raw(out, magic, sizeof(magic));
    bytes_u32(out, m->version);
    bytes_u32(out, m->min_version);
    bytes_u32_slice(out, m->urls);
}

int peer_ask_decode(struct slice in, struct peer_ask *ret_m)
{
    struct reader r = reader_make(in);
    struct slice found = reader_raw(&r, sizeof(magic));
    struct peer_ask m;
    int rc;

    m.version = reader_u32(&r);
    m.min_version = reader_u32(&r);
    m.urls = reader_u32_slice(&r);
    rc = finish(&r, found.data);
    if (rc == 0 && m.urls.len != 0 && memchr(m.urls.data, 0, m.urls.len) != NULL)
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_answer_encode(const struct peer_answer *m, struct bytes *out)
{
    bytes_raw(out, magic, sizeof(magic));
    bytes_u32(out, m->version);
    bytes_u32(out, m->code);
    bytes_u64(out, m->cluster_id);
    bytes_u64(out, m->data_id);
    bytes_u64(out, m->member_id);
    bytes_u32_slice(out, m->text);
}

int peer_answer_decode(struct slice in, struct peer_answer *ret_m)
{
    struct reader r = reader_make(in);
    struct slice found = reader_raw(&r, sizeof(magic));
    struct peer_answer m;
    int rc;

    m.version = reader_u32(&r);
    m.code = reader_u32(&r);
    m.cluster_id = reader_u64(&r);
    m.data_id = reader_u64(&r);
    m.member_id = reader_u64(&r);
    m.text = reader_u32_slice(&r);
    rc = finish(&r, found.data);
    if (rc == 0 && m.code == PEER_HELLO_OK && (m.cluster_id == 0 || m.data_id == 0 || m.member_id == 0))
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_fetch_encode(const struct peer_fetch *m, struct bytes *out)
{
    bytes_u32_slice(out, m->hello);
    bytes_u64(out, m->index);
    bytes_u64(out, m->offset);
    bytes_u32(out, m->crc);
}

int peer_fetch_decode(struct slice in, struct peer_fetch *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_fetch m;

    m.hello = reader_u32_slice(&r);
    m.index = reader_u64(&r);
    m.offset = reader_u64(&r);
    m.crc = reader_u32(&r);
    if (reader_status(&r) < 0)
        return -EBADMSG;
    *ret_m = m;
    return 0;
}
