#include "base/url.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

static const struct {
    const char *text;
    enum url_scheme scheme;
} schemes[] = {{"http://", URL_HTTP}, {"https://", URL_HTTPS}, {"unix://", URL_UNIX}, {"unixs://", URL_UNIXS}};

static int fail(const char *why, const char **ret_why)
{
    *ret_why = why;
    return -EINVAL;
}

static bool host_byte_ok(uint8_t c, bool bracketed)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_')
        return true;
    return bracketed && (c == ':' || c == '%'); /* an IPv6 address, perhaps with its zone */
}

static int parse_port(struct slice text, uint16_t *ret_port, const char **ret_why)
{
    unsigned long port = 0;

    if (text.len == 0 || text.len > 5)
        return fail("the port is missing or not a number", ret_why);
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return fail("the port is missing or not a number", ret_why);
        port = port * 10 + (unsigned long)(text.data[i] - '0');
    }
    if (port == 0 || port > 65535)
        return fail("the port is out of range", ret_why);
    *ret_port = (uint16_t)port;
    return 0;
}

/* rest: what stands between scheme and port. Copies it if it can be a host. */
static int parse_host(struct slice host, bool bracketed, struct url *u, const char **ret_why)
{
    if (host.len == 0)
        return fail("the host is missing", ret_why);
    if (host.len > URL_HOST_MAX_BYTES)
        return fail("the host is too long", ret_why);
    for (size_t i = 0; i < host.len; i++)
        if (!host_byte_ok(host.data[i], bracketed))
            return fail("the host has a character that no host has", ret_why);
    if (bracketed && memchr(host.data, ':', host.len) == NULL)
        return fail("there is no IPv6 address in the brackets", ret_why);
    memcpy(u->host, host.data, host.len);
    u->host[host.len] = '\0';
    return 0;
}

static int parse_authority(struct slice rest, struct url *u, const char **ret_why)
{
    const uint8_t *end;
    struct slice host;
    bool bracketed = rest.len != 0 && rest.data[0] == '[';

    if (rest.len != 0 && rest.data[rest.len - 1] == '/')
        rest.len--;
    if (rest.len != 0 && memchr(rest.data, '/', rest.len) != NULL)
        return fail("it must not have a path", ret_why);
    if (rest.len == 0)
        return fail("the host is missing", ret_why);
    if (bracketed) {
        end = memchr(rest.data, ']', rest.len);
        if (end == NULL)
            return fail("the bracket is not closed", ret_why);
        host = slice_make(rest.data + 1, (size_t)(end - rest.data) - 1);
        end++;
    } else {
        end = memchr(rest.data, ':', rest.len);
        if (end == NULL)
            return fail("the port is missing or not a number", ret_why);
        host = slice_make(rest.data, (size_t)(end - rest.data));
    }
    if (end == rest.data + rest.len || *end != ':')
        return fail("the port is missing or not a number", ret_why);
    end++;
    if (parse_host(host, bracketed, u, ret_why) < 0)
        return -EINVAL;
    return parse_port(slice_make(end, (size_t)(rest.data + rest.len - end)), &u->port, ret_why);
}

int url_parse(struct slice text, struct url *ret_url, const char **ret_why)
{
    struct url u = {.port = 0};

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t len = strlen(schemes[i].text);
        struct slice rest;

        if (text.len < len || strncasecmp((const char *)text.data, schemes[i].text, len) != 0)
            continue;
        u.scheme = schemes[i].scheme;
        rest = slice_make(text.data + len, text.len - len);
        if (u.scheme != URL_UNIX && u.scheme != URL_UNIXS) {
            if (parse_authority(rest, &u, ret_why) < 0)
                return -EINVAL;
        } else {
            if (rest.len == 0 || memchr(rest.data, 0, rest.len) != NULL)
                return fail("the path is missing", ret_why);
            if (rest.len > 107) /* sun_path */
                return fail("the path is too long for a socket", ret_why);
            memcpy(u.host, rest.data, rest.len);
        }
        *ret_url = u;
        return 0;
    }
    return fail("it must begin with http://, https://, unix:// or unixs://", ret_why);
}

int url_list_parse(struct slice text, struct url *ret_urls, size_t max, size_t *ret_count, struct slice *ret_bad,
                   const char **ret_why)
{
    size_t count = 0;

    for (;;) {
        const uint8_t *comma = text.len != 0 ? memchr(text.data, ',', text.len) : NULL;
        struct slice item = slice_make(text.data, comma != NULL ? (size_t)(comma - text.data) : text.len);

        if (count == max) {
            *ret_bad = item;
            return fail("there are too many URLs", ret_why);
        }
        if (url_parse(item, &ret_urls[count], ret_why) < 0) {
            *ret_bad = item;
            return -EINVAL;
        }
        count++;
        if (comma == NULL)
            break;
        text = slice_make(comma + 1, text.len - item.len - 1);
    }
    *ret_count = count;
    return 0;
}

void url_format_address(const struct url *u, char *out, size_t size)
{
    if (u->scheme == URL_UNIX || u->scheme == URL_UNIXS)
        snprintf(out, size, "%s", u->host);
    else if (strchr(u->host, ':') != NULL)
        snprintf(out, size, "[%s]:%u", u->host, (unsigned)u->port);
    else
        snprintf(out, size, "%s:%u", u->host, (unsigned)u->port);
}

void url_format(const struct url *u, char *out, size_t size)
{
    char address[URL_TEXT_MAX_BYTES];

    url_format_address(u, address, sizeof(address));
    snprintf(out, size, "%s%s", schemes[u->scheme].text, address);
}
