/* listen.h - listening sockets for the addresses of a flag.
 *
 * Process: supervisor (its first look, in a child), node.
 * Thread:  one.
 * Errors:  negative errno with one line of text that names the address.
 * Memory:  descriptors belong to the caller.
 * Units:   none.
 *
 * May block in the resolver: only for use before a loop runs. */
#ifndef RAFT_LISTEN_H
#define RAFT_LISTEN_H

#include "base/url.h"

#define LISTEN_MAX 32 /* a name can stand for several addresses */

/* Non-blocking sockets, bound and listening. A host name is bound at each of its addresses that this machine
 * has, at least one. */
int listen_open(const struct url *urls, size_t count, int *ret_fds, size_t *ret_count, char *ret_text,
                size_t text_size);

/* Whether listen_open() of http and https URLs would work now; leaves nothing behind. */
int listen_probe(const struct url *urls, size_t count, char *ret_text, size_t text_size);

#endif
