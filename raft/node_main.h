/* node_main.h - the node's process: one loop, one struct node, and what connects it to the world.
 *
 * Process: node.  Thread: the main one, and the workers of env_uv.  Errors: one line to the operator and an exit status
 *          (docs/supervisor.md).  Memory: the process's.  Units: milliseconds. */
#ifndef RAFT_NODE_MAIN_H
#define RAFT_NODE_MAIN_H

#include "raft/config.h"

/* Exit statuses of children. */
#define CHILD_EXIT_STOPPED 0
#define CHILD_EXIT_BROKEN 1
#define CHILD_EXIT_FATAL 2 /* a restart mends nothing */
#define CHILD_EXIT_MOUNT_POINT 3
#define CHILD_EXIT_AGAIN 5   /* a node only: start it at once, its state was replaced by a checkpoint */
#define CHILD_EXIT_REMOVED 4 /* this member is not one any more; the supervisor's own status too */

/* Runs until SIGTERM or SIGINT; returns the exit status. */
int node_main(const struct config *c);

#endif
