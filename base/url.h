/* url.h - the addresses on command lines: http://host:port, https://host:port, unix://path, unixs://path.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  -EINVAL, with a static text that says what is wrong, made to stand behind the URL in a message.
 * Memory:  none; hosts are kept in place.
 * Units:   bytes. */
#ifndef BASE_URL_H
#define BASE_URL_H

#include "base/slice.h"

#define URL_HOST_MAX_BYTES 253  /* of a DNS name; longer than any address */
#define URL_TEXT_MAX_BYTES 280  /* what url_format() needs, terminator included */
#define URL_LIST_MAX 16         /* URLs of one flag */

enum url_scheme { URL_HTTP, URL_HTTPS, URL_UNIX, URL_UNIXS }; /* those with an s: by TLS */

struct url {
    enum url_scheme scheme;
    uint16_t port;                     /* 0 for unix */
    char host[URL_HOST_MAX_BYTES + 1]; /* without the brackets of IPv6; for unix the path */
};

/* Exactly one URL. As etcd has it: a scheme, a host and a port, and nothing else (one slash at the end is taken). */
int url_parse(struct slice text, struct url *ret_url, const char **ret_why);
/* Comma-separated, no empty item, at most max. The text says what is wrong with the slice at *ret_bad. */
int url_list_parse(struct slice text, struct url *ret_urls, size_t max, size_t *ret_count, struct slice *ret_bad,
                   const char **ret_why);
/* The canonical spelling (lower-case scheme, brackets around IPv6), so that equal URLs are equal texts. */
void url_format(const struct url *u, char *out, size_t size);
/* host:port, with brackets where needed: what messages and Host headers say; the path of a unix URL. */
void url_format_address(const struct url *u, char *out, size_t size);

#endif
