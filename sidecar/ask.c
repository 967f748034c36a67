/* ask.c - calls that wait for the node. */
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

void ask_no_memory(struct grpc_call *call)
{
    grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void ask_malformed(struct grpc_call *call)
{
    grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
}

void *ask_begin(struct grpc_call *call, size_t size)
{
    struct ask *a = calloc(1, size);

    if (a == NULL) {
        ask_no_memory(call);
        return NULL;
    }
    a->call = call;
    a->app = app_of(call);
    grpc_set_state(call, a);
    return a;
}

bool ask_waits(struct ask *a, int64_t ticket)
{
    if (ticket < 0) {
        if (ticket == -ESHUTDOWN)
            grpc_finish_status(a->call, STATUS_STOPPED);
        else
            ask_no_memory(a->call);
        return false;
    }
    a->ticket = ticket;
    node_line_touch(a->app->line);
    return true;
}

void ask_cancel(struct ask *a)
{
    if (a->ticket > 0 && node_line_client(a->app->line) != NULL)
        client_cancel(node_line_client(a->app->line), a->ticket);
    ask_done(a);
}

void ask_end(struct grpc_call *call)
{
    struct ask *a = grpc_state(call);

    if (a == NULL)
        return;
    ask_cancel(a);
    free(a);
}

bool ask_refused_even_of_learners(struct grpc_call *call)
{
    struct app *app = app_of(call);

    if (!node_line_ready(app->line)) {
        grpc_finish_status(call, STATUS_TIMEOUT);
        return true;
    }
    if (grpc_require_leader(call) && client_leader(node_line_client(app->line)) == 0) {
        grpc_finish_status(call, STATUS_NO_LEADER);
        return true;
    }
    return false;
}

bool ask_refused(struct grpc_call *call)
{
    if (ask_refused_even_of_learners(call))
        return true;
    if (!app_of(call)->learner)
        return false;
    grpc_finish_status(call, STATUS_NOT_SUPPORTED_FOR_LEARNER);
    return true;
}

bool ask_propose(struct ask *a, uint16_t kind, struct slice body, client_answer_fn fn)
{
    struct app *app = a->app;
    int64_t ticket;

    if (body.len > REQUEST_MAX_BYTES) {
        grpc_finish_status(a->call, STATUS_TOO_LARGE);
        return false;
    }
    if (app->pending_bytes + body.len > SERVER_PENDING_MAX_BYTES) {
        grpc_finish_status(a->call, STATUS_TOO_MANY_REQUESTS);
        return false;
    }
    ticket = client_propose_raw(node_line_client(app->line), kind, slice_make(NULL, 0), body, 0,
                                node_line_deadline_ms(app->line), fn, a);
    if (!ask_waits(a, ticket))
        return false;
    a->pending_bytes = body.len;
    app->pending_bytes += body.len;
    return true;
}

static void on_proposed(void *arg, const struct client_answer *answer)
{
    struct ask *a = arg;

    ask_done(a);
    if (answer->status != STATUS_OK)
        grpc_finish_status(a->call, answer->status);
    else
        answer_unary(a->app, a->call, answer->revision, answer->term, answer->body);
}

void ask_propose_and_answer(struct grpc_call *call, uint16_t kind, struct slice body)
{
    struct ask *a = ask_begin(call, sizeof *a);

    if (a == NULL)
        return;
    grpc_changes(call);
    ask_propose(a, kind, body, on_proposed);
}

void answer_unary(struct app *app, struct grpc_call *call, int64_t revision, uint64_t term, struct slice body)
{
    struct etcd_header header = node_line_header(app->line, revision);
    struct bytes head;

    if (term != 0)
        header.raft_term = term;
    bytes_init(&head);
    etcd_header_encode(&header, &head);
    if (bytes_status(&head) == 0) {
        grpc_send_bytes(call, bytes_slice(&head), body);
        grpc_finish(call, GRPC_OK, NULL);
    } else {
        ask_no_memory(call);
    }
    bytes_fini(&head);
}
