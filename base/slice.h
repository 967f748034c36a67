/* slice.h - borrowed bytes: a pointer and a length, never owned, never terminated.
 *
 * Process: any.
 * Thread:  values; as safe as the bytes they point to.
 * Errors:  none.
 * Memory:  a slice never owns; whoever hands one out says how long it lives.
 * Units:   bytes. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL if len is 0 */
    size_t len;
};

static inline struct slice slice_make(const void *data, size_t len)
{
    return (struct slice){data, len};
}

static inline struct slice slice_from_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

/* Byte order, shorter first among equals: the order of keys everywhere in quorumfs. */
static inline int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n != 0 ? memcmp(a.data, b.data, n) : 0;

    if (c != 0)
        return c;
    return (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_has_prefix(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

#endif
