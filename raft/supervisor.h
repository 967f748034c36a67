/* supervisor.h - the first process: starts node, sidecar and mounts, restarts them, stops them
 * (docs/supervisor.md is the contract with the children).
 *
 * Process: supervisor.
 * Thread:  one. It reads signals, its children's ready lines and their exit statuses, and nothing from a network.
 * Errors:  one line to the operator; exit status 1.
 * Memory:  the process's.
 * Units:   milliseconds. */
#ifndef RAFT_SUPERVISOR_H
#define RAFT_SUPERVISOR_H

#include "raft/config.h"

/* The first argument of the node's process; the words of the command line follow. */
#define SUPERVISOR_NODE_WORD "--internal-node"

/* Runs until everything has stopped; returns the exit status. words: the command line without the program's name. */
int supervisor_run(const struct config *c, int n_words, char *const *words);

#endif
