/* streams.h - descriptors 0, 1 and 2 are the standard streams, or nothing at all.
 *
 * Process: programs, first thing in main().
 * Thread:  before there are others.
 * Errors:  -1 when /dev/null cannot be opened.
 * Memory:  none. */
#ifndef BASE_STREAMS_H
#define BASE_STREAMS_H

/* A standard stream that was closed by our caller must not become the number of another file: what we print would
 * then go there, to the store's lock file for one. Opens /dev/null for the other direction, so that
 * using it is an error. */
int streams_hold(void);

#endif
