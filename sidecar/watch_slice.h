/* watch_slice.h - pieces of the log as encoded events, each body encoded once for all who will get it.
 *
 * Process: quorumfs-grpc.
 * Thread:  any, with a struct store_read of its own; a slice has one owner at a time.
 * Errors:  negative errno; that the log was compacted is a field.
 * Memory:  a slice owns its keys and one reference of each body.
 * Units:   bytes, rows, revisions. */
#ifndef SIDECAR_WATCH_SLICE_H
#define SIDECAR_WATCH_SLICE_H

#include "sidecar/grpc.h"
#include "store/store.h"

struct slice_event {
    int64_t revision;
    bool is_delete;
    struct slice key;     /* in the slice's arena */
    struct body *plain;   /* WatchResponse.events with tag and length */
    struct body *with_prev; /* NULL: the same as plain */
};

struct watch_slice {
    struct slice_event *events;
    size_t n_events, cap;
    int64_t next;       /* the revision to go on from; every revision in the slice is whole */
    int64_t snapshot;   /* newest revision of the snapshot that was read */
    int64_t compacted;  /* >0: the log starts at this, nothing was read */
    bool more;          /* next is at most snapshot */
    size_t bytes;       /* of bodies */
    struct arena keys;
};

/* What is wanted of an event: bits of the answer. NULL: all events, with prev_kv. */
enum slice_want { SLICE_SKIP = 0, SLICE_PLAIN = 1, SLICE_PREV = 2 };
typedef unsigned (*slice_want_fn)(void *ctx, struct slice key, bool is_delete);

void watch_slice_init(struct watch_slice *s);
void watch_slice_fini(struct watch_slice *s);
void watch_slice_reset(struct watch_slice *s);

/* The log from `from` on: whole revisions until FEED_SLICE_ROWS rows, FEED_SLICE_BYTES or FEED_SLICE_MS are passed. */
int watch_slice_read(struct store_read *r, int64_t from, slice_want_fn want, void *ctx, struct watch_slice *s);
/* One key's events along its chain; at most FEED_EVENTS_PER_KEY, and until max_bytes. */
int watch_slice_read_key(struct store_read *r, struct slice key, int64_t from, bool prev_kv, size_t max_bytes,
                         struct watch_slice *s);

#endif
