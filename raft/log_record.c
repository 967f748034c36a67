#include "raft/log_record.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

static const char head_magic[8] = {'Q', 'F', 'S', 'L', 'O', 'G', '\r', '\n'};
static const char hard_magic[8] = {'Q', 'F', 'S', 'V', 'O', 'T', 'E', '\n'};

/* Magic, format and a CRC at the end of the block stand at the same places in every format, so "newer" and
 * "damaged" can be told apart. */
static int check_block(const uint8_t *in, size_t len, const char magic[8])
{
    if (memcmp(in, magic, 8) != 0 || crc32c(0, in, len - 4) != get_le32(in + len - 4))
        return -EBADMSG;
    return get_le32(in + 8) == LOG_FORMAT ? 0 : -EPROTONOSUPPORT;
}

static void begin_block(uint8_t *out, size_t len, const char magic[8])
{
    memset(out, 0, len);
    memcpy(out, magic, 8);
    put_le32(out + 8, LOG_FORMAT);
}

void log_head_encode(const struct log_head *h, uint8_t *out)
{
    begin_block(out, LOG_HEAD_BYTES, head_magic);
    put_le64(out + 16, h->cluster_id);
    put_le64(out + 24, h->sequence);
    put_le64(out + 32, h->base_index);
    put_le64(out + 40, h->base_term);
    put_le64(out + 48, h->prev_end);
    put_le64(out + 56, h->prev_flush);
    put_le32(out + LOG_HEAD_BYTES - 4, crc32c(0, out, LOG_HEAD_BYTES - 4));
}

int log_head_decode(const uint8_t *in, struct log_head *ret_head)
{
    int rc = check_block(in, LOG_HEAD_BYTES, head_magic);

    if (rc < 0)
        return rc;
    *ret_head = (struct log_head){
        .cluster_id = get_le64(in + 16),
        .sequence = get_le64(in + 24),
        .base_index = get_le64(in + 32),
        .base_term = get_le64(in + 40),
        .prev_end = get_le64(in + 48),
        .prev_flush = get_le64(in + 56),
    };
    return 0;
}

uint32_t log_head_seed(const struct log_head *h)
{
    uint8_t id[16];

    put_le64(id, h->cluster_id);
    put_le64(id + 8, h->sequence);
    return crc32c(0, id, sizeof(id));
}

size_t log_record_size(uint32_t payload_len)
{
    return LOG_RECORD_BYTES + (((size_t)payload_len + 7) & ~(size_t)7);
}

void log_record_encode(const struct log_record *r, uint8_t *out)
{
    put_le32(out, 0);
    put_le32(out + 4, r->payload_crc);
    put_le32(out + 8, r->payload_len);
    out[12] = r->kind;
    out[13] = r->type;
    put_le16(out + 14, 0);
    put_le64(out + 16, r->index);
    put_le64(out + 24, r->term);
}

static uint32_t record_crc(const uint8_t *record, uint32_t seed, uint64_t offset)
{
    uint8_t place[8];

    put_le64(place, offset);
    return crc32c(crc32c(seed, place, sizeof(place)), record + 4, LOG_RECORD_BYTES - 4);
}

void log_record_seal(uint8_t *record, uint32_t seed, uint64_t offset)
{
    put_le32(record, record_crc(record, seed, offset));
}

int log_record_decode(const uint8_t *in, uint32_t seed, uint64_t offset, struct log_record *ret_record)
{
    if (get_le32(in) != record_crc(in, seed, offset))
        return -EBADMSG;
    if (get_le16(in + 14) != 0)
        return -EPROTONOSUPPORT;
    *ret_record = (struct log_record){
        .payload_crc = get_le32(in + 4),
        .payload_len = get_le32(in + 8),
        .kind = in[12],
        .type = in[13],
        .index = get_le64(in + 16),
        .term = get_le64(in + 24),
    };
    return 0;
}

void log_mark_encode(const struct log_mark *m, uint8_t *out)
{
    uint8_t *payload = out + LOG_RECORD_BYTES;
    struct log_record r = {
        .payload_len = LOG_MARK_BYTES - LOG_RECORD_BYTES,
        .kind = LOG_RECORD_MARK,
        .index = m->index,
        .term = m->term,
    };

    put_le64(payload, m->flush);
    put_le32(payload + 8, m->bytes);
    put_le32(payload + 12, m->records);
    r.payload_crc = crc32c(0, payload, r.payload_len);
    log_record_encode(&r, out);
}

int log_mark_decode(const uint8_t *in, uint32_t seed, uint64_t offset, struct log_mark *ret_mark)
{
    const uint8_t *payload = in + LOG_RECORD_BYTES;
    struct log_record r;
    int rc = log_record_decode(in, seed, offset, &r);

    if (rc < 0)
        return rc;
    if (r.kind != LOG_RECORD_MARK || r.payload_len != LOG_MARK_BYTES - LOG_RECORD_BYTES ||
        crc32c(0, payload, r.payload_len) != r.payload_crc)
        return -EBADMSG;
    *ret_mark = (struct log_mark){
        .flush = get_le64(payload),
        .bytes = get_le32(payload + 8),
        .records = get_le32(payload + 12),
        .index = r.index,
        .term = r.term,
    };
    return 0;
}

void log_hard_encode(const struct log_hard *h, uint8_t *out)
{
    begin_block(out, LOG_HARD_BYTES, hard_magic);
    put_le64(out + 16, h->cluster_id);
    put_le64(out + 24, h->sequence);
    put_le64(out + 32, h->term);
    put_le64(out + 40, h->voted_for);
    put_le64(out + 48, h->durable_flush);
    put_le32(out + LOG_HARD_BYTES - 4, crc32c(0, out, LOG_HARD_BYTES - 4));
}

int log_hard_decode(const uint8_t *in, struct log_hard *ret_hard)
{
    int rc = check_block(in, LOG_HARD_BYTES, hard_magic);

    if (rc < 0)
        return rc;
    *ret_hard = (struct log_hard){
        .cluster_id = get_le64(in + 16),
        .sequence = get_le64(in + 24),
        .term = get_le64(in + 32),
        .voted_for = get_le64(in + 40),
        .durable_flush = get_le64(in + 48),
    };
    return 0;
}
