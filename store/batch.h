/* batch.h - inside store/: the writer's transaction.
 *
 * Process: the node.
 * Thread:  the batch's.
 * Errors:  negative errno; a failed command poisons its batch, whose commit then fails the same way.
 * Memory:  arena lives as long as the batch.
 * Units:   revisions. */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include "base/bytes.h"
#include "store/env.h"
#include "store/row.h"

struct store_batch {
    struct snap snap;
    struct arena arena;   /* what is handed out until the batch ends */
    struct bytes scratch; /* a row being encoded */
    struct bytes scratch_value;
    int status;           /* the first failure */
};

/* What LMDB says of a write: it calls one that is cut short an EIO, and a full disk is what cuts them short. Then -ENOSPC. */
int batch_error(const struct store *s, int rc);
int session_load(struct store_batch *b);   /* the index of who was used when, if it is not loaded */
void session_unload(struct store *s);      /* after an aborted batch: what it says may not be so */

#endif
