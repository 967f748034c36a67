#include "sidecar/grpc_text.h"

#include <errno.h>
#include <stdlib.h>

int grpc_timeout_parse(struct slice text, uint64_t *ret_ms)
{
    uint64_t value = 0, ms;

    if (text.len < 2 || text.len > 9)
        return -EBADMSG;
    for (size_t i = 0; i < text.len - 1; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -EBADMSG;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    switch (text.data[text.len - 1]) {
    case 'H':
        ms = value * 3600 * 1000;
        break;
    case 'M':
        ms = value * 60 * 1000;
        break;
    case 'S':
        ms = value * 1000;
        break;
    case 'm':
        ms = value;
        break;
    case 'u':
        ms = (value + 999) / 1000;
        break;
    case 'n':
        ms = (value + 999999) / 1000000;
        break;
    default:
        return -EBADMSG;
    }
    *ret_ms = ms;
    return 0;
}

void grpc_percent_encode(struct slice text, struct bytes *out)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c >= ' ' && c <= '~' && c != '%') {
            bytes_u8(out, c);
        } else {
            bytes_u8(out, '%');
            bytes_u8(out, (uint8_t)hex[c >> 4]);
            bytes_u8(out, (uint8_t)hex[c & 15]);
        }
    }
}

void grpc_prefix_put(uint8_t *p, size_t message_bytes)
{
    p[0] = 0;
    put_be32(p + 1, (uint32_t)message_bytes);
}

void grpc_frames_fini(struct grpc_frames *f)
{
    free(f->message);
    *f = (struct grpc_frames){0};
}

/* Takes prefix bytes; 1 when the prefix is whole and believable. */
static int take_prefix(struct grpc_frames *f, struct slice *data, size_t max_bytes)
{
    while (f->n_prefix < GRPC_PREFIX_BYTES && data->len > 0) {
        f->prefix[f->n_prefix++] = *data->data++;
        data->len--;
    }
    if (f->n_prefix < GRPC_PREFIX_BYTES)
        return 0;
    if (f->prefix[0] > 1)
        return -EBADMSG;
    f->length = get_be32(f->prefix + 1);
    if (f->length > max_bytes)
        return -EMSGSIZE;
    return 1;
}

int grpc_frames_feed(struct grpc_frames *f, struct slice data, size_t max_bytes, grpc_message_fn fn, void *ctx)
{
    while (data.len > 0) {
        struct slice message;
        uint8_t *owned;
        bool compressed;
        int rc;

        if (f->n_prefix < GRPC_PREFIX_BYTES) {
            rc = take_prefix(f, &data, max_bytes);
            if (rc < 0)
                return rc;
            if (rc == 0)
                return 0;
            f->got = 0;
        }
        if (f->message == NULL && data.len >= f->length) { /* whole in this piece: no copy */
            message = slice_make(data.data, f->length);
            data.data += f->length;
            data.len -= f->length;
        } else {
            size_t n = f->length - f->got < data.len ? f->length - f->got : data.len;

            if (f->message == NULL)
                f->message = malloc(f->length);
            if (f->message == NULL)
                return -ENOMEM;
            if (n > 0)
                memcpy(f->message + f->got, data.data, n);
            f->got += n;
            data.data += n;
            data.len -= n;
            if (f->got < f->length)
                return 0;
            message = slice_make(f->message, f->length);
        }
        owned = f->message;
        compressed = f->prefix[0] != 0;
        *f = (struct grpc_frames){0};
        rc = fn(ctx, message, compressed);
        free(owned);
        if (rc != 0)
            return rc;
    }
    return 0;
}
