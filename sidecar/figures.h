/* figures.h - the counters of a loop, and their sums over all loops of the process.
 *
 * Process: quorumfs-grpc.
 * Thread:  each loop publishes its own; any may ask for the sum.
 * Errors:  -ENOMEM.
 * Memory:  a struct figures owns its list of methods.
 * Units:   as in the structures that are summed. */
#ifndef SIDECAR_FIGURES_H
#define SIDECAR_FIGURES_H

#include "sidecar/app.h"
#include "sidecar/watch.h"

struct figures {
    struct grpc_counters grpc;
    struct feed_counters feed;
    struct health_counters health;
    uint64_t pending_bytes, turns, beats, snapshots;
    struct grpc_method_counts *methods;
    size_t n_methods;
};

void figures_fini(struct figures *f);
/* What app's loop counts, added to f. */
int figures_add_app(struct figures *f, const struct app *app);
int figures_add(struct figures *f, const struct figures *more);

#endif
