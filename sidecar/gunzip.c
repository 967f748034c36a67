/* gunzip.c - messages of grpc-encoding gzip, by zlib: into a buffer that grows as bytes come out, to its limit. */
#include "sidecar/grpc_text.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#define GZIP_ONLY (15 + 16) /* window bits, and no other wrapping than gzip's */
#define FIRST_BYTES 4096

/* Room for more, or the end: one byte more than max_bytes tells "just so many" from "too many". */
static int grow(uint8_t **data, size_t *cap, size_t max_bytes)
{
    size_t next = *cap == 0 ? FIRST_BYTES : *cap * 2;
    uint8_t *more;

    if (*cap > max_bytes)
        return -EMSGSIZE;
    if (next > max_bytes + 1)
        next = max_bytes + 1;
    more = realloc(*data, next);
    if (more == NULL)
        return -ENOMEM;
    *data = more;
    *cap = next;
    return 0;
}

/* One after the other, as gzip has it: members may follow each other. */
static int inflate_all(z_stream *z, size_t max_bytes, uint8_t **data, size_t *ret_len)
{
    size_t cap = 0, len = 0;

    for (;;) {
        int rc = len == cap ? grow(data, &cap, max_bytes) : 0;

        if (rc < 0)
            return rc;
        z->next_out = *data + len;
        z->avail_out = (uInt)(cap - len);
        rc = inflate(z, Z_NO_FLUSH);
        len = cap - z->avail_out;
        if (rc == Z_STREAM_END && z->avail_in == 0)
            break;
        if (rc == Z_STREAM_END)
            rc = inflateReset(z);
        if (rc == Z_MEM_ERROR)
            return -ENOMEM;
        if (rc != Z_OK && !(rc == Z_BUF_ERROR && z->avail_out == 0))
            return -EBADMSG;
        if (z->avail_in == 0 && z->avail_out != 0)
            return -EBADMSG; /* cut */
    }
    if (len > max_bytes)
        return -EMSGSIZE;
    *ret_len = len;
    return 0;
}

int grpc_gunzip(struct slice packed, size_t max_bytes, uint8_t **ret_data, size_t *ret_len)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)packed.data, .avail_in = (uInt)packed.len};
    uint8_t *data = NULL;
    int rc;

    if (packed.len > UINT32_MAX || max_bytes >= UINT32_MAX)
        return -EMSGSIZE;
    if (inflateInit2(&z, GZIP_ONLY) != Z_OK)
        return -ENOMEM;
    rc = inflate_all(&z, max_bytes, &data, ret_len);
    inflateEnd(&z);
    if (rc < 0)
        free(data);
    else
        *ret_data = data;
    return rc;
}
