/* xattr.h - inside store/: extended attributes of files and directories.
 *
 * Process: the node.  Thread: the batch's.
 * Errors:  negative errno.
 * Memory:  borrows.
 * Units:   bytes. */
#ifndef STORE_XATTR_H
#define STORE_XATTR_H

#include "store/apply.h"

int apply_xattr(struct apply *a, struct result *result);
/* The node of that number is no more. */
int xattr_forget(struct apply *a, uint64_t ino);

#endif
