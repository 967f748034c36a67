#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void bytes_init(struct bytes *b)
{
    *b = (struct bytes){0};
}

void bytes_fini(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

void bytes_reset(struct bytes *b)
{
    b->len = 0;
    b->status = 0;
}

int bytes_status(const struct bytes *b)
{
    return b->status;
}

struct slice bytes_slice(const struct bytes *b)
{
    return slice_make(b->data, b->len);
}

uint8_t *bytes_take(struct bytes *b, size_t *ret_len)
{
    uint8_t *data = b->data;

    if (b->status < 0 || b->len == 0) {
        bytes_fini(b);
        *ret_len = 0;
        return NULL;
    }
    *ret_len = b->len;
    *b = (struct bytes){0};
    return data;
}

uint8_t *bytes_grow(struct bytes *b, size_t n)
{
    uint8_t *p;

    if (b->status < 0)
        return NULL;
    if (n > b->cap - b->len) {
        size_t cap = b->cap != 0 ? b->cap : 64;

        if (n > SIZE_MAX / 2 - b->len)
            goto fail;
        while (cap < b->len + n)
            cap *= 2;
        p = realloc(b->data, cap);
        if (p == NULL)
            goto fail;
        b->data = p;
        b->cap = cap;
    }
    p = b->data + b->len;
    b->len += n;
    return p;
fail:
    b->status = -ENOMEM;
    return NULL;
}

void bytes_u8(struct bytes *b, uint8_t v)
{
    uint8_t *p = bytes_grow(b, 1);

    if (p != NULL)
        *p = v;
}

void bytes_u16(struct bytes *b, uint16_t v)
{
    uint8_t *p = bytes_grow(b, 2);

    if (p != NULL)
        put_le16(p, v);
}

void bytes_u32(struct bytes *b, uint32_t v)
{
    uint8_t *p = bytes_grow(b, 4);

    if (p != NULL)
        put_le32(p, v);
}

void bytes_u64(struct bytes *b, uint64_t v)
{
    uint8_t *p = bytes_grow(b, 8);

    if (p != NULL)
        put_le64(p, v);
}

void bytes_varint(struct bytes *b, uint64_t v)
{
    uint8_t tmp[10];
    size_t n = 0;

    while (v >= 0x80) {
        tmp[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    tmp[n++] = (uint8_t)v;
    bytes_raw(b, tmp, n);
}

void bytes_raw(struct bytes *b, const void *data, size_t len)
{
    uint8_t *p;

    if (len == 0)
        return;
    p = bytes_grow(b, len);
    if (p != NULL)
        memcpy(p, data, len);
}

void bytes_append(struct bytes *b, struct slice s)
{
    bytes_raw(b, s.data, s.len);
}

void bytes_u32_slice(struct bytes *b, struct slice s)
{
    assert(s.len <= UINT32_MAX);
    bytes_u32(b, (uint32_t)s.len);
    bytes_append(b, s);
}

void bytes_varint_slice(struct bytes *b, struct slice s)
{
    bytes_varint(b, s.len);
    bytes_append(b, s);
}

void bytes_patch_u32(struct bytes *b, size_t offset, uint32_t v)
{
    if (b->status < 0)
        return;
    assert(offset + 4 <= b->len);
    put_le32(b->data + offset, v);
}

struct reader reader_make(struct slice s)
{
    return (struct reader){s.data, s.data != NULL ? s.data + s.len : NULL, 0};
}

int reader_status(const struct reader *r)
{
    return r->status;
}

size_t reader_left(const struct reader *r)
{
    return r->p != NULL ? (size_t)(r->end - r->p) : 0;
}

bool reader_at_end(const struct reader *r)
{
    return r->p == r->end;
}

void reader_fail(struct reader *r)
{
    r->status = -EBADMSG;
    r->p = r->end;
}

struct slice reader_raw(struct reader *r, size_t len)
{
    struct slice s;

    if (len > reader_left(r)) {
        reader_fail(r);
        return slice_make(NULL, 0);
    }
    s = slice_make(r->p, len);
    if (len != 0)
        r->p += len;
    return s;
}

uint8_t reader_u8(struct reader *r)
{
    struct slice s = reader_raw(r, 1);

    return s.len == 1 ? s.data[0] : 0;
}

uint16_t reader_u16(struct reader *r)
{
    struct slice s = reader_raw(r, 2);

    return s.len == 2 ? get_le16(s.data) : 0;
}

uint32_t reader_u32(struct reader *r)
{
    struct slice s = reader_raw(r, 4);

    return s.len == 4 ? get_le32(s.data) : 0;
}

uint64_t reader_u64(struct reader *r)
{
    struct slice s = reader_raw(r, 8);

    return s.len == 8 ? get_le64(s.data) : 0;
}

uint64_t reader_varint(struct reader *r)
{
    uint64_t v = 0;
    unsigned shift = 0;

    for (; shift < 70; shift += 7) {
        uint8_t c;

        if (reader_left(r) == 0)
            break;
        c = *r->p++;
        if (shift == 63 && c > 1)
            break;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            return v;
    }
    reader_fail(r);
    return 0;
}

struct slice reader_u32_slice(struct reader *r)
{
    return reader_raw(r, reader_u32(r));
}

struct slice reader_varint_slice(struct reader *r)
{
    uint64_t len = reader_varint(r);

    if (len > reader_left(r)) {
        reader_fail(r);
        return slice_make(NULL, 0);
    }
    return reader_raw(r, (size_t)len);
}
