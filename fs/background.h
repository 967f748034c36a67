/* background.h - for mount(8), which waits for the program that it runs: the mount goes on behind, and its log lines go to
 * syslog, when it can be used.
 *
 * Process: background_start() makes a second one; the first ends with what the second says, the second is the monitor.
 * Thread:  main.
 * Errors:  negative errno.
 * Memory:  one unfinished line.
 * Units:   milliseconds. */
#ifndef FS_BACKGROUND_H
#define FS_BACKGROUND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/logger.h"

#define BACKGROUND_WAIT_MS 30000 /* for the mount to be there; then it is given up */

struct background {
    int ready_fd;  /* to the process that waits; -1: told */
    int lines_fd;  /* what this process and its children say; -1: none of this is so */
    int stderr_fd; /* the caller's, until the mount is ready; -1: syslog */
    char line[LOG_LINE_BYTES + 1];
    size_t line_len;
};

/* 0: this is the process behind. 1: this is the caller's, which is to end with *ret_status. */
int background_start(struct background *b, int *ret_status);
/* The mount can be used: the caller's process ends, and nothing of its terminal is kept. */
void background_ready(struct background *b);
/* Passes on the lines that there are. */
void background_relay(struct background *b);

#endif
