/* ask.h - what the calls of all services have in common that wait for the node: a ticket that is given up when the call
 * ends, refusals that come first, and unary answers.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  a call that cannot go on is finished, and the function says so by NULL or false.
 * Memory:  a struct ask is the call's state (grpc_set_state) and is freed by ask_end(), a method's `end`.
 * Units:   bytes. */
#ifndef SIDECAR_ASK_H
#define SIDECAR_ASK_H

#include "sidecar/app.h"

/* First member of what a call keeps, or all of it. */
struct ask {
    struct grpc_call *call;
    struct app *app;
    int64_t ticket;       /* of the request at the node; 0: none */
    size_t pending_bytes; /* of a proposal, as app->pending_bytes counts them */
};

/* size: of the structure that begins with the ask; zeroed. NULL: the call has ended. */
void *ask_begin(struct grpc_call *call, size_t size);
/* What client_*() gave: false if it was an error, and then the call has ended. */
bool ask_waits(struct ask *a, int64_t ticket);
/* A callback's first line: the request has ended. */
static inline void ask_done(struct ask *a)
{
    a->app->pending_bytes -= a->pending_bytes;
    a->pending_bytes = 0;
    a->ticket = 0;
}
/* Gives the ticket up; for methods that free their state themselves. */
void ask_cancel(struct ask *a);
void ask_end(struct grpc_call *call);

/* Proposes an encoded command; fn gets a. False: the call has ended. */
bool ask_propose(struct ask *a, uint16_t kind, struct slice body, client_answer_fn fn);
/* Proposes it and answers the call with header and body. */
void ask_propose_and_answer(struct grpc_call *call, uint16_t kind, struct slice body);

/* True: the node is not there, the leader that the metadata asks for is not known, or this member is a learner; the call
 * has ended. */
bool ask_refused(struct grpc_call *call);
/* The same for calls that a learner answers too. */
bool ask_refused_even_of_learners(struct grpc_call *call);
/* A request's bytes are no such message. */
void ask_malformed(struct grpc_call *call);
void ask_no_memory(struct grpc_call *call);

/* Sends header and body as the one answer of a unary call, and ends it. term 0: the node's. */
void answer_unary(struct app *app, struct grpc_call *call, int64_t revision, uint64_t term, struct slice body);

#endif
