/* queue.h - a key of one's own below a prefix, PREFIX/LEASE in hex, and waiting until it is in front: what v3lock's Lock
 * and v3election's Campaign have in common. The keys are those of etcd's concurrency package to the byte, so that
 * programs that use it and callers of these services queue up together.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  the call is finished.
 * Memory:  an entry is its call's state; it outlives the call when a request is under way that decides whether a key
 *          has to be taken back.
 * Units:   none. */
#ifndef SIDECAR_QUEUE_H
#define SIDECAR_QUEUE_H

#include "sidecar/ask.h"
#include "sidecar/turn.h"

struct queue_entry {
    struct ask ask; /* call NULL: it has ended */
    struct turn turn;
    struct bytes name, prefix, key, value;
    int64_t lease;
    int64_t created;  /* revision of the key; 0: it is not there yet */
    int64_t revision; /* that the answer's header says */
    bool waited;      /* somebody was in front */
    void (*front)(struct queue_entry *q);
};

/* Puts the key with the lease (0: a new one of 60 s, as etcd does) and calls front when it is its turn. */
void queue_enter(struct grpc_call *call, struct slice name, int64_t lease, struct slice value,
                 void (*front)(struct queue_entry *q));
/* Deletes the key if it is still that one. Nobody hears how that ends; if it does not, the lease's end takes the key. */
void queue_take_back(struct queue_entry *q);
/* A method's end: who waits leaves the queue. */
void queue_end(struct grpc_call *call);

/* If the key still has that create revision: puts value with the lease, or deletes it (lease < 0). The answer is a txn's. */
bool queue_change(struct ask *a, struct slice key, int64_t created, struct slice value, int64_t lease, client_answer_fn fn);
/* Whether the txn's compare held; ends the call if the answer is an error. */
bool queue_changed(struct ask *a, const struct client_answer *answer, bool *ret_held);
/* etcd's services go through a client of their own: what is wrong with a request comes with its text but as Unknown. */
void queue_fail(struct grpc_call *call, uint16_t status);
/* The key below prefix that was created first. */
int queue_first(struct store_read *r, struct slice prefix, struct arena *arena, struct kv *ret_kv, bool *ret_found);

#endif
