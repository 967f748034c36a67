#include "fs/json.h"

#include <inttypes.h>
#include <stdio.h>

static void comma(struct bytes *out)
{
    if (out->len == 0 || strchr("{[:\n", out->data[out->len - 1]) == NULL)
        bytes_raw(out, ",", out->len != 0);
}

void json_open(struct bytes *out, char bracket)
{
    comma(out);
    bytes_u8(out, (uint8_t)bracket);
}

void json_close(struct bytes *out, char bracket)
{
    bytes_u8(out, (uint8_t)bracket);
}

static void put_text(struct bytes *out, struct slice text)
{
    bytes_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c == '"' || c == '\\') {
            bytes_u8(out, '\\');
            bytes_u8(out, c);
        } else if (c < 0x20 || c == 0x7f) {
            char escape[8];

            bytes_raw(out, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c));
        } else {
            bytes_u8(out, c);
        }
    }
    bytes_u8(out, '"');
}

void json_name(struct bytes *out, const char *name)
{
    comma(out);
    put_text(out, slice_from_str(name));
    bytes_u8(out, ':');
}

void json_text(struct bytes *out, struct slice text)
{
    comma(out);
    put_text(out, text);
}

void json_number(struct bytes *out, int64_t v)
{
    char text[32];

    comma(out);
    bytes_raw(out, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v));
}

void json_bool(struct bytes *out, bool v)
{
    comma(out);
    bytes_raw(out, v ? "true" : "false", v ? 4 : 5);
}

void json_hex(struct bytes *out, uint64_t id)
{
    char text[32];

    comma(out);
    bytes_raw(out, text, (size_t)snprintf(text, sizeof(text), "\"%" PRIx64 "\"", id));
}

/* How many bytes the character at p has; 0: none that UTF-8 knows. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    uint32_t c = n > 1 ? p[0] & (0x7fu >> n) : p[0];

    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

bool json_is_utf8(struct slice text)
{
    for (size_t at = 0, n; at < text.len; at += n) {
        n = utf8_length(text.data + at, text.len - at);
        if (n == 0)
            return false;
    }
    return true;
}

static void put_base64(struct bytes *out, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)s.data[i] << 16 | (n > 1 ? (uint32_t)s.data[i + 1] << 8 : 0) | (n > 2 ? s.data[i + 2] : 0);

        for (size_t d = 0; d < 4; d++)
            bytes_u8(out, d <= n ? (uint8_t)digits[v >> (18 - 6 * d) & 63] : '=');
    }
}

void json_bytes(struct bytes *out, const char *name, struct slice text)
{
    char encoded[64];

    if (json_is_utf8(text)) {
        json_name(out, name);
        put_text(out, text);
        return;
    }
    snprintf(encoded, sizeof(encoded), "%s_base64", name);
    json_name(out, encoded);
    bytes_u8(out, '"');
    put_base64(out, text);
    bytes_u8(out, '"');
}
