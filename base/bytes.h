/* bytes.h - a growable buffer to encode into, and a bounds-checked reader to decode from.
 *
 * Process: any.
 * Thread:  one owner each.
 * Errors:  bytes_* set a sticky -ENOMEM in the buffer (check bytes_status() once, at the end);
 *          reader_* set a sticky flag and yield zeros past the end (check reader_status() once).
 *          So codecs are straight lines and no length from outside is trusted.
 * Memory:  a buffer owns its bytes until bytes_fini() or bytes_take(); a reader borrows.
 * Units:   bytes; integers are little-endian unless the name says be. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include "base/slice.h"

struct bytes {
    uint8_t *data;
    size_t len;
    size_t cap;
    int status; /* 0 or -ENOMEM */
};

void bytes_init(struct bytes *b);
void bytes_fini(struct bytes *b);
void bytes_reset(struct bytes *b); /* keeps the memory, forgets content and status */
int bytes_status(const struct bytes *b);
/* The content as a slice that lives until the next change of b. */
struct slice bytes_slice(const struct bytes *b);
/* Gives the memory away (free() it) and leaves b empty; NULL when empty or after -ENOMEM. */
uint8_t *bytes_take(struct bytes *b, size_t *ret_len);

/* Room for n more bytes, uninitialised and already counted in len; NULL after -ENOMEM. */
uint8_t *bytes_grow(struct bytes *b, size_t n);
void bytes_u8(struct bytes *b, uint8_t v);
void bytes_u16(struct bytes *b, uint16_t v);
void bytes_u32(struct bytes *b, uint32_t v);
void bytes_u64(struct bytes *b, uint64_t v);
void bytes_varint(struct bytes *b, uint64_t v); /* LEB128, as protobuf has it */
void bytes_raw(struct bytes *b, const void *data, size_t len);
void bytes_append(struct bytes *b, struct slice s);      /* the bytes alone */
void bytes_u32_slice(struct bytes *b, struct slice s);   /* u32 length, then the bytes */
void bytes_varint_slice(struct bytes *b, struct slice s); /* varint length, then the bytes */
/* Overwrites four bytes at an offset below len, for lengths known only afterwards. */
void bytes_patch_u32(struct bytes *b, size_t offset, uint32_t v);

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    int status; /* 0 or -EBADMSG */
};

struct reader reader_make(struct slice s);
int reader_status(const struct reader *r);
size_t reader_left(const struct reader *r);
bool reader_at_end(const struct reader *r); /* true after an error too */
void reader_fail(struct reader *r);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
uint64_t reader_varint(struct reader *r); /* at most ten bytes, else an error */
struct slice reader_raw(struct reader *r, size_t len);
struct slice reader_u32_slice(struct reader *r);
struct slice reader_varint_slice(struct reader *r);

static inline void put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
    put_le16(p, (uint16_t)v);
    put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void put_le64(uint8_t *p, uint64_t v)
{
    put_le32(p, (uint32_t)v);
    put_le32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_le32(const uint8_t *p)
{
    return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

static inline uint64_t get_le64(const uint8_t *p)
{
    return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static inline void put_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    put_be16(p, (uint16_t)(v >> 16));
    put_be16(p + 2, (uint16_t)v);
}

static inline void put_be64(uint8_t *p, uint64_t v)
{
    put_be32(p, (uint32_t)(v >> 32));
    put_be32(p + 4, (uint32_t)v);
}

static inline uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static inline uint64_t get_be64(const uint8_t *p)
{
    return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

#endif
