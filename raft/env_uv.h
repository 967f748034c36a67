/* env_uv.h - the clock and the worker threads of a node, on a libuv loop.
 *
 * Process: node.
 * Thread:  the loop's; run() of a work item in one of WORK_QUEUES threads.
 * Errors:  negative errno from open.
 * Memory:  work items are the node's; nothing is allocated for one.
 * Units:   milliseconds, nanoseconds. */
#ifndef RAFT_ENV_UV_H
#define RAFT_ENV_UV_H

#include <uv.h>

#include "raft/env.h"

struct env_uv;

/* on_timer comes when the timer of clock.set_timer is due: pass it to node_timer(). */
int env_uv_open(uv_loop_t *loop, void (*on_timer)(void *ctx), void *ctx, struct env_uv **ret_env);
/* The tables; they live as long as the environment. */
void env_uv_tables(struct env_uv *e, struct clock *ret_clock, struct workers *ret_workers);
/* Joins the threads; no work may be out. Frees once the loop has run its closing handles. */
void env_uv_close(struct env_uv *e);

#endif
