/* ready.h - what a mount tells whoever started it (docs/supervisor.md): lines on the descriptor QUORUMFS_READY_FD.
 *
 * Process: the mount's front end; its monitor reads them.
 * Thread:  main.
 * Errors:  none: without a descriptor nothing is told.
 * Memory:  none.
 * Units:   none. */
#ifndef FS_READY_H
#define FS_READY_H

#include <stdint.h>

#define READY_VARIABLE "QUORUMFS_READY_FD"

void ready_fuse(uint32_t connection); /* "fuse N": the mount is there, and this is how to abort it */
void ready_done(void);                /* "ready" */

#endif
