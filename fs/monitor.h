/* monitor.h - a small process that watches over a mount that was started alone, as quorumfsd's supervisor does for its own.
 *
 * Process: the monitor; it opens nothing of the mount.
 * Thread:  main.
 * Errors:  exit statuses, as docs/supervisor.md has them.
 * Memory:  none.
 * Units:   milliseconds. */
#ifndef FS_MONITOR_H
#define FS_MONITOR_H

#include "base/logger.h"

struct background;

typedef int (*monitor_run)(void *arg); /* the front end; its exit status */

/* Runs the front end in a child, again when it breaks: then its connection is aborted first, so that nobody waits in it, and the
 * mount point detached. Ends with the child's status when that ended by itself. background: NULL in the foreground. */
int monitor_main(const struct logger *log, const char *mountpoint, struct background *background, monitor_run run, void *arg);

/* Detaches what a front end that is gone has left on the mount point. */
void monitor_detach_dead(const char *mountpoint);

#endif
