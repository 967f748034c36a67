/* wire.h - protobuf's wire format, the few parts that codecs written by hand need.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  reading fails the reader (base/bytes.h); writing cannot fail.
 * Memory:  reading borrows; writing goes to room that was counted first.
 * Units:   bytes.
 *
 * Writing happens twice with the same function: once without a base, to count, once into a buffer of
 * that size. So a message has one function and lengths of inner messages need no patching.
 * Fields that have protobuf's default value are left out, as every encoder of proto3 does. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <assert.h>

#include "base/bytes.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* ---- writing ---- */

struct wire_out {
    uint8_t *base; /* NULL: count only */
    size_t n;
};

static inline void wire_varint(struct wire_out *o, uint64_t v)
{
    if (o->base == NULL) {
        do
            o->n++;
        while ((v >>= 7) != 0);
        return;
    }
    while (v >= 0x80) {
        o->base[o->n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    o->base[o->n++] = (uint8_t)v;
}

static inline void wire_uint_always(struct wire_out *o, unsigned field, uint64_t v)
{
    wire_varint(o, field << 3 | WIRE_VARINT);
    wire_varint(o, v);
}

static inline void wire_uint(struct wire_out *o, unsigned field, uint64_t v)
{
    if (v != 0)
        wire_uint_always(o, field, v);
}

static inline void wire_int(struct wire_out *o, unsigned field, int64_t v)
{
    wire_uint(o, field, (uint64_t)v);
}

/* Tag and length of bytes or of an inner message. */
static inline void wire_head(struct wire_out *o, unsigned field, size_t len)
{
    wire_varint(o, field << 3 | WIRE_BYTES);
    wire_varint(o, len);
}

static inline void wire_bytes_always(struct wire_out *o, unsigned field, struct slice s)
{
    wire_head(o, field, s.len);
    if (o->base != NULL && s.len != 0)
        memcpy(o->base + o->n, s.data, s.len);
    o->n += s.len;
}

static inline void wire_bytes(struct wire_out *o, unsigned field, struct slice s)
{
    if (s.len != 0)
        wire_bytes_always(o, field, s);
}

/* Defines size_NAME(m), the length of the message that emit_NAME(o, m) writes, field_NAME(o, field, m), the same
 * message inside another one, and append_NAME(m, out). */
#define WIRE_MESSAGE(name, type)                                                                        \
    __attribute__((unused)) static size_t size_##name(type m)                                           \
    {                                                                                                   \
        struct wire_out o = {NULL, 0};                                                                  \
                                                                                                        \
        emit_##name(&o, m);                                                                             \
        return o.n;                                                                                     \
    }                                                                                                   \
    __attribute__((unused)) static void field_##name(struct wire_out *o, unsigned field, type m)        \
    {                                                                                                   \
        size_t len = size_##name(m);                                                                    \
                                                                                                        \
        wire_head(o, field, len);                                                                       \
        if (o->base == NULL)                                                                            \
            o->n += len;                                                                                \
        else                                                                                            \
            emit_##name(o, m);                                                                          \
    }                                                                                                   \
    __attribute__((unused)) static void append_##name(type m, struct bytes *out)                        \
    {                                                                                                   \
        size_t len = size_##name(m);                                                                    \
        struct wire_out o = {len != 0 ? bytes_grow(out, len) : NULL, 0};                                \
                                                                                                        \
        if (o.base == NULL)                                                                             \
            return;                                                                                     \
        emit_##name(&o, m);                                                                             \
        assert(o.n == len);                                                                             \
    }

/* ---- reading ---- */

struct wire_field {
    uint32_t number;
    uint8_t type;
    uint64_t value;     /* of WIRE_VARINT */
    struct slice bytes; /* of WIRE_BYTES */
};

static inline uint64_t wire_read_varint(struct reader *r)
{
    if (r->p != r->end && *r->p < 0x80)
        return *r->p++;
    return reader_varint(r);
}

/* The next field; false at the end and after damage (reader_status tells). Groups are damage: no message of ours or of
 * etcd's has ever had one. */
static inline bool wire_next(struct reader *r, struct wire_field *f)
{
    uint64_t tag;

    if (r->p == r->end)
        return false;
    tag = wire_read_varint(r);
    f->number = (uint32_t)(tag >> 3);
    f->type = tag & 7;
    f->value = 0;
    f->bytes = slice_make(NULL, 0);
    if (f->number == 0 || tag > UINT32_MAX)
        goto fail;
    switch (f->type) {
    case WIRE_VARINT:
        f->value = wire_read_varint(r);
        break;
    case WIRE_FIXED64:
        reader_raw(r, 8);
        break;
    case WIRE_BYTES: {
        uint64_t len = wire_read_varint(r);

        if (len > (uint64_t)(r->end - r->p))
            goto fail;
        f->bytes = slice_make(r->p, (size_t)len);
        r->p += len;
        break;
    }
    case WIRE_FIXED32:
        reader_raw(r, 4);
        break;
    default:
        goto fail;
    }
    return r->status == 0;
fail:
    reader_fail(r);
    return false;
}

static inline void wire_get_bytes(struct reader *r, const struct wire_field *f, struct slice *s)
{
    if (f->type == WIRE_BYTES)
        *s = f->bytes;
    else
        reader_fail(r);
}

static inline uint64_t wire_get_uint(struct reader *r, const struct wire_field *f)
{
    if (f->type == WIRE_VARINT)
        return f->value;
    reader_fail(r);
    return 0;
}

static inline int64_t wire_get_int(struct reader *r, const struct wire_field *f)
{
    return (int64_t)wire_get_uint(r, f);
}

static inline bool wire_get_bool(struct reader *r, const struct wire_field *f)
{
    return wire_get_uint(r, f) != 0;
}

/* protobuf truncates an enum to 32 bits; a number without a name is kept for whoever checks the request. */
static inline unsigned wire_get_enum(struct reader *r, const struct wire_field *f)
{
    return (unsigned)wire_get_uint(r, f);
}

#endif
