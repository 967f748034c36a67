#include "sidecar/h2_check.h"

enum { SEEN_METHOD = 1, SEEN_SCHEME = 2, SEEN_PATH = 4, SEEN_AUTHORITY = 8 };

static bool is(struct slice s, const char *text)
{
    return slice_equal(s, slice_from_str(text));
}

/* A token of lower-case letters; a leading colon is the caller's matter. */
static bool name_ok(struct slice name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    if (name.len == 0)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && (c == 0 || strchr(others, c) == NULL))
            return false;
    }
    return true;
}

static bool value_ok(struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            return false;
    return value.len == 0 || (value.data[0] != ' ' && value.data[0] != '\t' && value.data[value.len - 1] != ' ' &&
                              value.data[value.len - 1] != '\t');
}

static bool pseudo_ok(struct h2_check *c, struct slice name, struct slice value)
{
    uint8_t bit;

    if (is(name, ":method"))
        bit = SEEN_METHOD;
    else if (is(name, ":scheme"))
        bit = SEEN_SCHEME;
    else if (is(name, ":path"))
        bit = SEEN_PATH;
    else if (is(name, ":authority"))
        bit = SEEN_AUTHORITY;
    else
        return false;
    if (c->regular || (c->seen & bit) != 0 || !value_ok(value))
        return false;
    c->seen |= bit;
    if (bit == SEEN_PATH)
        return value.len > 0 && (value.data[0] == '/' || is(value, "*"));
    return bit == SEEN_AUTHORITY || value.len > 0;
}

static bool take_length(struct h2_check *c, struct slice value)
{
    uint64_t n = 0;

    if (c->has_length || value.len == 0 || value.len > 18)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(value.data[i] - '0');
    }
    c->has_length = true;
    c->length = n;
    return true;
}

bool h2_check_header(struct h2_check *c, struct slice name, struct slice value, bool trailer)
{
    if (name.len > 0 && name.data[0] == ':')
        return !trailer && pseudo_ok(c, name, value);
    c->regular = true;
    if (!name_ok(name) || !value_ok(value))
        return false;
    switch (name.data[0]) {
    case 'c':
        if (is(name, "content-length"))
            return !trailer && take_length(c, value);
        return !is(name, "connection");
    case 'k':
        return !is(name, "keep-alive");
    case 'p':
        return !is(name, "proxy-connection");
    case 't':
        return !is(name, "transfer-encoding") && (!is(name, "te") || is(value, "trailers"));
    case 'u':
        return !is(name, "upgrade");
    default:
        return true;
    }
}

bool h2_check_request(const struct h2_check *c)
{
    const uint8_t needed = SEEN_METHOD | SEEN_SCHEME | SEEN_PATH;

    return (c->seen & needed) == needed;
}

bool h2_check_data(struct h2_check *c, size_t len)
{
    c->received += len;
    return !c->has_length || c->received <= c->length;
}

bool h2_check_end(const struct h2_check *c)
{
    return !c->has_length || c->received == c->length;
}
