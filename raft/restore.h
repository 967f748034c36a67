/* restore.h - a data directory from a backup: the first state of a new cluster's member.
 *
 * Process: quorumfsd, started to do this alone.
 * Thread:  one.
 * Errors:  negative errno with one line of text; what was begun has to be removed by the operator.
 * Memory:  none kept.
 * Units:   none. */
#ifndef RAFT_RESTORE_H
#define RAFT_RESTORE_H

#include <stddef.h>

struct config;

/* c->restore names the checkpoint file; the other flags say whose directory is made, as at a first start. ret_text: one line
 * of what was done, or of what is wrong. */
int restore_run(const struct config *c, char *ret_text, size_t text_size);

#endif
