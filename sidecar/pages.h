/* pages.h - plain HTTP, what its files share.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  lack of memory is noted in the reply's body.
 * Memory:  none kept.
 * Units:   none. */
#ifndef SIDECAR_PAGES_H
#define SIDECAR_PAGES_H

#include "sidecar/figures.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

void page_put(struct bytes *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *health_check_name(enum health_check check);
/* figures: of all loops, without methods if there was no memory for them; json: the node's status; empty if it did not come. */
void metrics_write(struct app *app, const struct figures *figures, struct slice json, struct bytes *out);

#endif
