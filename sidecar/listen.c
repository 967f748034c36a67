#include "sidecar/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/un.h>

/* getaddrinfo's own codes are not errno. */
static int err_from_gai(int rc)
{
    if (rc == EAI_SYSTEM)
        return -errno;
    return rc == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
}

static bool is_unix(const struct url *u)
{
    return u->scheme == URL_UNIX || u->scheme == URL_UNIXS;
}

static unsigned security_of(const struct url *u)
{
    return u->scheme == URL_HTTPS || u->scheme == URL_UNIXS ? GRPC_TLS : GRPC_PLAIN;
}

/* http and https of one address are one socket, as with etcd. */
static bool same_place(const struct url *a, const struct url *b)
{
    return is_unix(a) == is_unix(b) && a->port == b->port && (is_unix(a) ? strcmp : strcasecmp)(a->host, b->host) == 0;
}

static int listen_path(struct grpc_server *s, const struct url *u, unsigned security)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(u->host) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    strcpy(address.sun_path, u->host);
    return grpc_server_listen(s, (struct sockaddr *)&address, security, NULL);
}

static int listen_url(struct grpc_server *s, const struct url *u, unsigned security, char *text, size_t text_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    char port[8], address[URL_TEXT_MAX_BYTES];
    int rc, worst = 0, listening = 0;

    snprintf(port, sizeof port, "%u", u->port);
    url_format_address(u, address, sizeof address);
    if (is_unix(u)) {
        rc = listen_path(s, u, security);
        if (rc < 0)
            snprintf(text, text_size, "listening on %s: %s", address, strerror(-rc));
        return rc;
    }
    rc = getaddrinfo(u->host, port, &hints, &list);
    if (rc != 0) {
        snprintf(text, text_size, "listening on %s: %s", address, gai_strerror(rc));
        return err_from_gai(rc);
    }
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        rc = grpc_server_listen(s, a->ai_addr, security, NULL);
        if (rc == 0)
            listening++;
        else if (worst == 0 || rc == -EADDRINUSE)
            worst = rc;
    }
    freeaddrinfo(list);
    if (worst == 0 || (listening > 0 && worst != -EADDRINUSE))
        return 0;
    snprintf(text, text_size, "listening on %s: %s", address, strerror(-worst));
    return worst;
}

int listen_urls(struct grpc_server *s, const struct url *urls, size_t n_urls, char *ret_text, size_t text_size)
{
    int rc = 0;

    for (size_t i = 0; i < n_urls && rc == 0; i++) {
        unsigned security = 0;
        bool earlier = false;

        for (size_t k = 0; k < n_urls; k++) {
            if (!same_place(&urls[i], &urls[k]))
                continue;
            security |= security_of(&urls[k]);
            earlier = earlier || k < i;
        }
        if (!earlier)
            rc = listen_url(s, &urls[i], security, ret_text, text_size);
    }
    return rc;
}
