#include "sidecar/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>

/* getaddrinfo's own codes are not errno. */
static int err_from_gai(int rc)
{
    if (rc == EAI_SYSTEM)
        return -errno;
    return rc == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
}

static int listen_url(struct grpc_server *s, const struct url *u, char *text, size_t text_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    char port[8], address[URL_TEXT_MAX_BYTES];
    int rc, worst = 0, listening = 0;

    snprintf(port, sizeof port, "%u", u->port);
    url_format_address(u, address, sizeof address);
    rc = getaddrinfo(u->host, port, &hints, &list);
    if (rc != 0) {
        snprintf(text, text_size, "listening on %s: %s", address, gai_strerror(rc));
        return err_from_gai(rc);
    }
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        rc = grpc_server_listen(s, a->ai_addr, NULL);
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

    for (size_t i = 0; i < n_urls && rc == 0; i++)
        rc = listen_url(s, &urls[i], ret_text, text_size);
    return rc;
}
