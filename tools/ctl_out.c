#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/ctl.h"

int ctl_fail(const char *format, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    fprintf(stderr, "quorumctl: %s\n", line);
    return -1;
}

int ctl_out_flush(struct ctl_out *o)
{
    size_t at = 0;

    if (bytes_status(&o->buf) < 0)
        return ctl_fail("out of memory");
    while (at < o->buf.len) {
        ssize_t n = write(STDOUT_FILENO, o->buf.data + at, o->buf.len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EPIPE ? -1 : ctl_fail("cannot write the output: %s", strerror(errno));
        at += (size_t)n;
    }
    bytes_reset(&o->buf);
    return 0;
}

void ctl_out_text(struct ctl_out *o, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    bytes_append(&o->buf, slice_from_str(text));
}

void ctl_out_base64(struct ctl_out *o, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *p = bytes_grow(&o->buf, 2 + (s.len + 2) / 3 * 4);

    if (p == NULL)
        return;
    *p++ = '"';
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t v = (uint32_t)s.data[i] << 16 | (left > 1 ? (uint32_t)s.data[i + 1] << 8 : 0) |
                     (left > 2 ? s.data[i + 2] : 0);

        *p++ = (uint8_t)digits[v >> 18];
        *p++ = (uint8_t)digits[v >> 12 & 63];
        *p++ = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        *p++ = left > 2 ? (uint8_t)digits[v & 63] : '=';
    }
    *p = '"';
}

void ctl_out_quoted(struct ctl_out *o, struct slice s)
{
    bytes_u8(&o->buf, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];

        if (c == '"' || c == '\\')
            ctl_out_text(o, "\\%c", c);
        else if (c == '\n')
            ctl_out_text(o, "\\n");
        else if (c == '\t')
            ctl_out_text(o, "\\t");
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && o->hex))
            ctl_out_text(o, "\\x%02x", c);
        else
            bytes_u8(&o->buf, c);
    }
    bytes_u8(&o->buf, '"');
}

void ctl_out_line(struct ctl_out *o, struct slice s)
{
    if (!o->hex)
        bytes_append(&o->buf, s);
    for (size_t i = 0; o->hex && i < s.len; i++)
        ctl_out_text(o, "\\x%02x", s.data[i]);
    bytes_u8(&o->buf, '\n');
}

void ctl_out_kv_json(struct ctl_out *o, const struct kv *kv)
{
    ctl_out_text(o, "{\"key\":");
    ctl_out_base64(o, kv->key);
    ctl_out_text(o, ",\"create_revision\":%lld,\"mod_revision\":%lld,\"version\":%lld", (long long)kv->create_revision,
                 (long long)kv->mod_revision, (long long)kv->version);
    if (kv->lease != 0)
        ctl_out_text(o, ",\"lease\":%lld", (long long)kv->lease);
    ctl_out_text(o, ",\"value\":");
    ctl_out_base64(o, kv->value);
    ctl_out_text(o, "}");
}

void ctl_out_range_json(struct ctl_out *o, const struct range_result *r)
{
    ctl_out_text(o, "\"kvs\":[");
    for (size_t i = 0; i < r->n_kvs; i++) {
        if (i != 0)
            ctl_out_text(o, ",");
        ctl_out_kv_json(o, &r->kvs[i]);
    }
    ctl_out_text(o, "],\"count\":%lld,\"more\":%s", (long long)r->count, r->more ? "true" : "false");
}

void ctl_out_range(struct ctl_out *o, const struct ctl_options *opts, const struct range_result *r)
{
    if (opts != NULL && opts->count_only) {
        ctl_out_text(o, "%lld\n", (long long)r->count);
        return;
    }
    for (size_t i = 0; i < r->n_kvs; i++) {
        if (opts == NULL || !opts->value_only)
            ctl_out_line(o, r->kvs[i].key);
        if (opts == NULL || !opts->keys_only)
            ctl_out_line(o, r->kvs[i].value);
    }
}
