/* listen.h - from --listen-client-urls to listening sockets.
 *
 * Process: quorumfs-grpc.  Thread: one, at start.
 * Errors:  negative errno with one line of text.
 * Memory:  none of its own.
 * Units:   none. */
#ifndef SIDECAR_LISTEN_H
#define SIDECAR_LISTEN_H

#include "base/url.h"
#include "sidecar/grpc.h"

/* Listens on every address of every URL. A name's addresses that this machine does not have (IPv6 switched off) are
 * passed over as long as one is left. */
int listen_urls(struct grpc_server *s, const struct url *urls, size_t n_urls, char *ret_text, size_t text_size);

#endif
