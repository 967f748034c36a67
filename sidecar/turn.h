/* turn.h - waiting for one's turn: among the keys below a prefix the one created first is in front, as etcd's
 * concurrency package has it. A waiter watches the key in front of its own, so that an unlock wakes one of them.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  the waiting ends with a status.
 * Memory:  embedded by its owner, who calls turn_cancel() before it goes. prefix is borrowed until then.
 * Units:   create revisions. */
#ifndef SIDECAR_TURN_H
#define SIDECAR_TURN_H

#include "sidecar/watch.h"

struct turn {
    struct app *app;
    struct grpc_call *call;
    struct slice prefix;
    int64_t revision;             /* of the waiter's own key */
    struct watch_stream *watches; /* on the key in front; NULL: not begun, or over */
    struct list link;             /* app->turns_woken */
    bool waited;                  /* somebody was in front */
    void (*done)(struct turn *t, uint16_t status);
};

/* Calls done, in a later turn of the loop, when no key below prefix is older than revision; with TOO_MANY_REQUESTS past
 * SERVER_TURNS_MAX waiters. */
void turn_wait(struct turn *t, struct grpc_call *call, struct slice prefix, int64_t revision,
               void (*done)(struct turn *t, uint16_t status));
/* done will not come. Also of one that has never waited, if zeroed. */
void turn_cancel(struct turn *t);
/* The end of the range of a prefix that ends in '/'. -ENOMEM. */
int turn_prefix_end(struct slice prefix, struct arena *arena, struct slice *ret_end);
/* Once per turn of the loop: those that something has happened to. */
void turns_run(struct app *app);

#endif
