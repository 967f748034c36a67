/* maintenance.c - etcdserverpb.Maintenance: Status, and Alarm as far as `etcdctl endpoint health` asks for it. */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

struct status_call {
    struct grpc_call *call;
    struct app *app;
    int64_t ticket;
};

/* What the node's JSON holds of it; numbers may be JSON numbers or, beyond 2^53, decimal strings. */
static uint64_t number_of(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    if (json_is_integer(v))
        return (uint64_t)json_integer_value(v);
    if (json_is_string(v))
        return strtoull(json_string_value(v), NULL, 0);
    return 0;
}

struct status_answer {
    uint64_t leader, index, term, applied, db_bytes, db_bytes_in_use, quota_bytes;
    bool learner, no_leader;
};

static void emit_status(struct wire_out *o, const struct status_answer *a)
{
    wire_bytes(o, 2, slice_from_str(ETCD_API_VERSION));
    wire_uint(o, 3, a->db_bytes);
    wire_uint(o, 4, a->leader);
    wire_uint(o, 5, a->index);
    wire_uint(o, 6, a->term);
    wire_uint(o, 7, a->applied);
    if (a->no_leader)
        wire_bytes(o, 8, slice_from_str(status_text(STATUS_NO_LEADER)));
    wire_uint(o, 9, a->db_bytes_in_use);
    wire_uint(o, 10, a->learner);
    wire_bytes(o, 11, slice_from_str(ETCD_CLUSTER_VERSION));
    wire_uint(o, 12, a->quota_bytes);
}

WIRE_MESSAGE(status, const struct status_answer *)

static void answer_status(struct status_call *sc, const json_t *json)
{
    struct store_read *r = node_line_read(sc->app->line);
    struct store_meta meta;
    struct status_answer a;
    struct bytes body;

    if (r == NULL || store_read_meta(r, &meta) < 0) {
        grpc_finish_status(sc->call, STATUS_TIMEOUT);
        return;
    }
    a = (struct status_answer){
        .leader = client_leader(node_line_client(sc->app->line)),
        .term = client_term(node_line_client(sc->app->line)),
        .index = number_of(json, "commit_index"),
        .applied = meta.applied_index,
        .db_bytes = meta.db_bytes,
        .db_bytes_in_use = meta.db_bytes_in_use,
        .quota_bytes = number_of(json, "quota_bytes"),
        .learner = json_is_true(json_object_get(json, "learner")),
    };
    a.no_leader = a.leader == 0;
    if (a.index < a.applied)
        a.index = a.applied;
    bytes_init(&body);
    append_status(&a, &body);
    if (bytes_status(&body) < 0)
        grpc_finish(sc->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else
        answer_unary(sc->app, sc->call, meta.revision, a.term, bytes_slice(&body));
    bytes_fini(&body);
}

static void on_status(void *arg, uint16_t status, struct slice text)
{
    struct status_call *sc = arg;
    json_t *json = NULL;

    sc->ticket = 0;
    if (status == STATUS_OK)
        json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (status != STATUS_OK)
        grpc_finish_status(sc->call, status);
    else if (!json_is_object(json))
        grpc_finish(sc->call, GRPC_INTERNAL, "quorumfs: the node's status is not understood");
    else
        answer_status(sc, json);
    json_decref(json);
}

static void status_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct status_call *sc = calloc(1, sizeof *sc);

    if (sc == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *sc = (struct status_call){.call = call, .app = app};
    grpc_set_state(call, sc);
    sc->ticket = client_status(node_line_client(app->line), node_line_deadline_ms(app->line), on_status, sc);
    if (sc->ticket < 0)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    node_line_touch(app->line);
}

static void status_end(struct grpc_call *call)
{
    struct status_call *sc = grpc_state(call);

    if (sc != NULL && sc->ticket > 0 && node_line_client(sc->app->line) != NULL)
        client_cancel(node_line_client(sc->app->line), sc->ticket);
    free(sc);
}

/* No alarm can be raised yet, so the list is empty in truth; raising and clearing are not there. */
static void alarm_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct reader r = reader_make(message);
    struct store_read *read;
    struct wire_field f;
    uint64_t action = 0;

    while (wire_next(&r, &f))
        if (f.number == 1)
            action = wire_get_uint(&r, &f);
    if (reader_status(&r) < 0) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    if (action != 0) {
        grpc_finish(call, GRPC_UNIMPLEMENTED, "method Alarm of service etcdserverpb.Maintenance: only GET is implemented");
        return;
    }
    read = node_line_read(app->line);
    if (read == NULL)
        grpc_finish_status(call, STATUS_TIMEOUT);
    else
        answer_unary(app, call, store_read_revision(read), 0, slice_make(NULL, 0));
}

const struct grpc_method maintenance_status = {.path = "/etcdserverpb.Maintenance/Status",
                                               .kind = GRPC_UNARY,
                                               .message = status_message,
                                               .end = status_end};
const struct grpc_method maintenance_alarm = {
    .path = "/etcdserverpb.Maintenance/Alarm", .kind = GRPC_UNARY, .message = alarm_message};
