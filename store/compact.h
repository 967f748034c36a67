/* compact.h - inside store/: removing what no readable revision needs.
 *
 * Process: the node.  Thread: the batch's.  Errors: negative errno.  Memory: none.  Units: revisions. */
#ifndef STORE_COMPACT_H
#define STORE_COMPACT_H

#include "store/env.h"

/* From now on revisions below `revision` cannot be read, and their rows are removed. */
int compact_begin(struct snap *p, int64_t revision);

#endif
