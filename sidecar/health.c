/* health.c - grpc.health.v1: whether this server is of use, for clients that switch endpoints by it. It is while the
 * line to the node is up; the one service it knows is "", as with etcd. */
#include "proto/wire.h"
#include "sidecar/app.h"

#include <stdlib.h>

enum serving { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

struct health_watch {
    struct list link;
    struct grpc_call *call;
    bool asked;
};

static enum serving serving_now(const struct app *app)
{
    return node_line_ready(app->line) && node_line_connected(app->line) ? SERVING : NOT_SERVING;
}

/* The service's name; false: the request is damaged. */
static bool decode(struct slice message, struct slice *ret_service)
{
    struct reader r = reader_make(message);
    struct wire_field f;

    *ret_service = slice_make(NULL, 0);
    while (wire_next(&r, &f))
        if (f.number == 1)
            wire_get_bytes(&r, &f, ret_service);
    return reader_status(&r) == 0;
}

static void send_serving(struct grpc_call *call, enum serving serving)
{
    uint8_t body[] = {1 << 3 | WIRE_VARINT, (uint8_t)serving};

    grpc_send_bytes(call, slice_make(NULL, 0), slice_make(body, sizeof body));
}

static void check_message(struct grpc_call *call, struct slice message)
{
    struct slice service;

    if (!decode(message, &service)) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
    } else if (service.len > 0) {
        grpc_finish(call, GRPC_NOT_FOUND, "unknown service");
    } else {
        send_serving(call, serving_now(app_of(call)));
        grpc_finish(call, GRPC_OK, NULL);
    }
}

static void watch_start(struct grpc_call *call)
{
    struct health_watch *w = calloc(1, sizeof *w);

    if (w == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    w->call = call;
    list_init(&w->link);
    grpc_set_state(call, w);
}

static void watch_message(struct grpc_call *call, struct slice message)
{
    struct health_watch *w = grpc_state(call);
    struct app *app = app_of(call);
    struct slice service;

    if (w == NULL || w->asked)
        return;
    w->asked = true;
    if (!decode(message, &service)) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
    } else if (service.len > 0) {
        send_serving(call, SERVICE_UNKNOWN);
    } else {
        list_push_back(&app->health_watches, &w->link);
        send_serving(call, serving_now(app));
    }
}

static void watch_end(struct grpc_call *call)
{
    struct health_watch *w = grpc_state(call);

    if (w != NULL)
        list_remove(&w->link);
    free(w);
}

void health_turn(struct app *app)
{
    enum serving serving = serving_now(app);

    if (app->serving == (int)serving)
        return;
    app->serving = (int)serving;
    LIST_FOREACH_SAFE(it, &app->health_watches)
    {
        struct health_watch *w = LIST_ITEM(it, struct health_watch, link);

        if (grpc_queued(w->call) < STREAM_BUFFER_MIN_BYTES)
            send_serving(w->call, serving);
    }
}

const struct grpc_method health_check = {
    .path = "/grpc.health.v1.Health/Check", .kind = GRPC_UNARY, .message = check_message};
const struct grpc_method health_watch = {.path = "/grpc.health.v1.Health/Watch",
                                         .kind = GRPC_STREAM,
                                         .start = watch_start,
                                         .message = watch_message,
                                         .end = watch_end};
