/* loops.h - the event loops of one sidecar: each in a thread of its own, with a server, a line to the node, a feed of watches and
 * a snapshot of its own. They share the open store (store_share.h) and nothing else; the first one accepts connections and
 * hands them out in turn.
 *
 * Process: quorumfs-grpc.
 * Thread:  loops_run() by main; the others by any loop.
 * Errors:  exit statuses; what is wrong has been logged.
 * Memory:  everything lives until loops_run() returns.
 * Units:   none. */
#ifndef SIDECAR_LOOPS_H
#define SIDECAR_LOOPS_H

#include "sidecar/figures.h"
#include "sidecar/options.h"

/* Serves until a signal or a fault; the exit status. on_ready: once, when all loops serve. */
int loops_run(const struct options *options, const struct logger *log, void (*on_ready)(void *ctx), void *ctx);

/* Asks every loop for its counters, and calls done in a later turn, once: with the sum of all as they stood after the call.
 * A loop that has not answered within LOOP_FIGURES_MS, or when the process stops, counts as it did when it last answered.
 * figures: borrowed; without methods if there was no memory. -ENOMEM; -ESHUTDOWN: done does not come. */
typedef void (*loops_figures_fn)(void *ctx, const struct figures *figures);
int loops_ask(struct app *app, loops_figures_fn done, void *ctx);
/* The same without asking: the caller's own as they are now, the others' as they last answered. -ENOMEM. */
int loops_sum(const struct app *app, struct figures *ret_figures);

#endif
