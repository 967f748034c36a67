#include "fs/buffer.h"

#include <errno.h>
#include <stdlib.h>

/* Doubling, so that a large file in small writes costs its size, not its square. */
static int reserve(struct buffer *b, size_t size)
{
    size_t cap = b->cap != 0 ? b->cap : 4096;
    uint8_t *data;

    if (size <= b->cap)
        return 0;
    while (cap < size)
        cap *= 2;
    if (cap - b->cap > b->budget->max_bytes - b->budget->used_bytes)
        return -ENOSPC;
    data = realloc(b->data, cap);
    if (data == NULL)
        return -ENOMEM;
    b->budget->used_bytes += cap - b->cap;
    b->data = data;
    b->cap = cap;
    return 0;
}

int buffer_new(struct buffer_budget *budget, struct slice base, struct buffer **ret_buffer)
{
    struct buffer *b = calloc(1, sizeof(*b));
    int rc;

    if (b == NULL)
        return -ENOMEM;
    b->budget = budget;
    rc = reserve(b, base.len);
    if (rc < 0) {
        free(b);
        return rc;
    }
    if (base.len != 0)
        memcpy(b->data, base.data, base.len);
    b->size = b->base_bytes = base.len;
    b->append_only = true;
    *ret_buffer = b;
    return 0;
}

void buffer_free(struct buffer *b)
{
    if (b == NULL)
        return;
    b->budget->used_bytes -= b->cap;
    free(b->data);
    free(b);
}

/* Room for size, zeros between the old end and it. */
static int extend(struct buffer *b, uint64_t size, size_t max_bytes)
{
    int rc;

    if (size > max_bytes)
        return -EFBIG;
    rc = reserve(b, (size_t)size);
    if (rc < 0)
        return rc;
    if (size > b->size) {
        memset(b->data + b->size, 0, (size_t)size - b->size);
        b->size = (size_t)size;
    }
    return 0;
}

int buffer_write(struct buffer *b, uint64_t offset, struct slice data, size_t max_bytes)
{
    int rc;

    if (offset > max_bytes || data.len > max_bytes)
        return -EFBIG;
    rc = extend(b, offset + data.len, max_bytes);
    if (rc < 0)
        return rc;
    if (data.len != 0)
        memcpy(b->data + offset, data.data, data.len);
    b->append_only = false;
    return 0;
}

int buffer_append(struct buffer *b, struct slice data, size_t max_bytes)
{
    bool append_only = b->append_only;
    int rc = buffer_write(b, b->size, data, max_bytes);

    b->append_only = append_only;
    return rc;
}

int buffer_truncate(struct buffer *b, uint64_t size, size_t max_bytes)
{
    int rc = extend(b, size, max_bytes);

    if (rc < 0)
        return rc;
    b->size = (size_t)size;
    b->append_only = false;
    return 0;
}

void buffer_zero(struct buffer *b, uint64_t start, uint64_t end)
{
    if (end > b->size)
        end = b->size;
    if (start < end)
        memset(b->data + start, 0, (size_t)(end - start));
    b->append_only = false;
}

void buffer_clear(struct buffer *b)
{
    b->size = 0;
    b->append_only = false;
}

void buffer_touch(struct buffer *b, int64_t now_ns, uint64_t now_ms)
{
    if (!b->dirty)
        b->dirty_since_ms = now_ms;
    b->dirty = true;
    b->untouched = false;
    b->changes++;
    b->mtime_ns = now_ns;
    b->attrs.has &= ~(uint32_t)ATTR_MTIME;
}

struct slice buffer_content(const struct buffer *b)
{
    return slice_make(b->data, b->size);
}

struct slice buffer_tail(const struct buffer *b)
{
    return slice_make(b->data + b->base_bytes, b->size - b->base_bytes);
}
