/* maintenance.c - etcdserverpb.Maintenance but for Snapshot (snapshot.c), Hash and HashKV (hash.c). */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Status ---- */

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
    struct alarm *alarms;
    size_t n_alarms;
};

static const char *alarm_name(int type)
{
    return type == ALARM_NOSPACE ? "NOSPACE" : type == ALARM_CORRUPT ? "CORRUPT" : "NONE";
}

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
    for (size_t i = 0; i < a->n_alarms; i++) {
        char text[64];

        snprintf(text, sizeof text, "memberID:%llu alarm:%s ", (unsigned long long)a->alarms[i].member_id,
                 alarm_name(a->alarms[i].type));
        wire_bytes(o, 8, slice_from_str(text));
    }
    wire_uint(o, 9, a->db_bytes_in_use);
    wire_uint(o, 10, a->learner);
    wire_bytes(o, 11, slice_from_str(ETCD_CLUSTER_VERSION));
    wire_uint(o, 12, a->quota_bytes);
    wire_bytes_always(o, 13, slice_make(NULL, 0)); /* DowngradeInfo: none */
}

WIRE_MESSAGE(status, const struct status_answer *)

static void answer_status(struct ask *ask, const json_t *json)
{
    struct app *app = ask->app;
    struct store_read *r = node_line_read(app->line);
    struct store_meta meta;
    struct status_answer a;
    struct arena arena;
    struct bytes body;
    int rc;

    if (r == NULL || store_read_meta(r, &meta) < 0) {
        grpc_finish_status(ask->call, STATUS_TIMEOUT);
        return;
    }
    a = (struct status_answer){
        .leader = client_leader(node_line_client(app->line)),
        .term = client_term(node_line_client(app->line)),
        .index = number_of(json, "commit_index"),
        .applied = meta.applied_index,
        .db_bytes = meta.db_bytes,
        .db_bytes_in_use = meta.db_bytes_in_use,
        .quota_bytes = meta.quota_bytes,
        .learner = app->learner,
    };
    a.no_leader = a.leader == 0;
    if (a.index < a.applied)
        a.index = a.applied;
    arena_init(&arena);
    bytes_init(&body);
    rc = store_alarms(r, &arena, &a.alarms, &a.n_alarms);
    if (rc == 0)
        append_status(&a, &body);
    if (rc < 0 && rc != -ENOMEM)
        grpc_finish(ask->call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    else if (rc < 0 || bytes_status(&body) < 0)
        ask_no_memory(ask->call);
    else
        answer_unary(app, ask->call, meta.revision, a.term, bytes_slice(&body));
    bytes_fini(&body);
    arena_fini(&arena);
}

static void on_status(void *arg, uint16_t status, struct slice text)
{
    struct ask *a = arg;
    json_t *json = NULL;

    ask_done(a);
    if (status == STATUS_OK)
        json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (status != STATUS_OK)
        grpc_finish_status(a->call, status);
    else if (!json_is_object(json))
        grpc_finish(a->call, GRPC_INTERNAL, "quorumfs: the node's status is not understood");
    else
        answer_status(a, json);
    json_decref(json);
}

static void status_message(struct grpc_call *call, struct slice message)
{
    struct node_line *line = app_of(call)->line;
    struct ask *a = ask_refused_even_of_learners(call) ? NULL : ask_begin(call, sizeof *a);

    if (a != NULL)
        ask_waits(a, client_status(node_line_client(line), node_line_deadline_ms(line), on_status, a));
}

/* ---- Alarm ---- */

static void emit_alarm(struct wire_out *o, const struct alarm *a)
{
    wire_uint(o, 1, a->member_id);
    wire_uint(o, 2, (uint64_t)a->type);
}

WIRE_MESSAGE(alarm, const struct alarm *)

struct alarm_call {
    struct ask ask;
    uint64_t type; /* 0: all */
};

static void on_alarm_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct alarm_call *c = arg;
    struct store_read *r = node_line_read(c->ask.app->line);
    struct alarm *alarms;
    struct arena arena;
    struct bytes body;
    size_t n;
    int rc;

    ask_done(&c->ask);
    if (status == STATUS_OK && r == NULL)
        status = STATUS_TIMEOUT;
    if (status != STATUS_OK) {
        grpc_finish_status(c->ask.call, status);
        return;
    }
    arena_init(&arena);
    bytes_init(&body);
    rc = store_alarms(r, &arena, &alarms, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (c->type != ALARM_NONE && c->type != (uint64_t)alarms[i].type)
            continue;
        bytes_u8(&body, 2 << 3 | WIRE_BYTES);
        bytes_varint(&body, size_alarm(&alarms[i]));
        append_alarm(&alarms[i], &body);
    }
    if (rc < 0 && rc != -ENOMEM)
        grpc_finish(c->ask.call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    else if (rc < 0 || bytes_status(&body) < 0)
        ask_no_memory(c->ask.call);
    else
        answer_unary(c->ask.app, c->ask.call, store_read_revision(r), 0, bytes_slice(&body));
    bytes_fini(&body);
    arena_fini(&arena);
}

static void alarm_message(struct grpc_call *call, struct slice message)
{
    struct node_line *line = app_of(call)->line;
    struct reader r = reader_make(message);
    struct wire_field f;
    struct alarm_call *c;
    uint64_t action = 0, type = 0;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            action = wire_get_uint(&r, &f);
        else if (f.number == 3)
            type = wire_get_uint(&r, &f);
    }
    if (reader_status(&r) < 0) {
        ask_malformed(call);
    } else if (ask_refused(call)) {
        ;
    } else if (action != ALARM_GET) {
        ask_propose_and_answer(call, COMMAND_ALARM, message);
    } else if ((c = ask_begin(call, sizeof *c)) != NULL) {
        c->type = type;
        ask_waits(&c->ask, client_barrier(node_line_client(line), node_line_deadline_ms(line), on_alarm_barrier, c));
    }
}

/* ---- what the node does: Defragment, MoveLeader ---- */

/* etcd's answers have no header here. */
static void on_maintained(void *arg, const struct socket_maintain_done *done)
{
    struct ask *a = arg;

    ask_done(a);
    if (done->status != STATUS_OK) {
        grpc_finish_status(a->call, done->status);
        return;
    }
    grpc_send_bytes(a->call, slice_make(NULL, 0), slice_make(NULL, 0));
    grpc_finish(a->call, GRPC_OK, NULL);
}

static void maintain(struct grpc_call *call, uint8_t op, uint64_t arg, uint64_t deadline_ms)
{
    struct socket_maintain m = {op, arg};
    struct ask *a = ask_begin(call, sizeof *a);

    if (a != NULL)
        ask_waits(a, client_maintain(node_line_client(a->app->line), &m, deadline_ms, on_maintained, a));
}

static void defragment_message(struct grpc_call *call, struct slice message)
{
    if (!ask_refused(call))
        maintain(call, SOCKET_MAINTAIN_DEFRAGMENT, 0, client_now_ms() + SNAPSHOT_WRITE_MS);
}

static void move_leader_message(struct grpc_call *call, struct slice message)
{
    struct node_line *line = app_of(call)->line;
    struct reader r = reader_make(message);
    struct wire_field f;
    uint64_t target = 0;

    while (wire_next(&r, &f))
        if (f.number == 1)
            target = wire_get_uint(&r, &f);
    if (reader_status(&r) < 0)
        ask_malformed(call);
    else if (ask_refused(call))
        ;
    else if (client_leader(node_line_client(line)) != node_line_member_id(line))
        grpc_finish_status(call, STATUS_NOT_LEADER);
    else
        maintain(call, SOCKET_MAINTAIN_MOVE_LEADER, target, node_line_deadline_ms(line));
}

/* ---- Downgrade ---- */

/* MAJOR.MINOR or MAJOR.MINOR.PATCH, as etcd reads it. */
static bool is_version(struct slice s)
{
    size_t dots = 0, digits = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] >= '0' && s.data[i] <= '9') {
            digits++;
        } else if (s.data[i] == '.' && digits > 0 && dots < 2) {
            dots++;
            digits = 0;
        } else {
            return false;
        }
    }
    return digits > 0 && dots >= 1;
}

/* The data have one format only: no version can be gone back to, and no job to do so is ever under way. */
static void downgrade_message(struct grpc_call *call, struct slice message)
{
    struct reader r = reader_make(message);
    struct slice version = slice_make(NULL, 0);
    struct wire_field f;
    struct bytes body;
    uint64_t action = 0;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            action = wire_get_uint(&r, &f);
        else if (f.number == 2)
            wire_get_bytes(&r, &f, &version);
    }
    if (reader_status(&r) < 0) {
        ask_malformed(call);
        return;
    }
    if (ask_refused(call))
        return;
    if (action > 2) {
        grpc_finish(call, GRPC_UNKNOWN, "etcdserver: unknown method");
    } else if (action < 2) {
        grpc_finish(call, GRPC_INVALID_ARGUMENT,
                    is_version(version) ? "etcdserver: invalid downgrade target version"
                                        : "etcdserver: wrong downgrade target version format");
    } else {
        bytes_init(&body);
        bytes_u8(&body, 2 << 3 | WIRE_BYTES);
        bytes_varint_slice(&body, slice_make(ETCD_CLUSTER_VERSION, strlen(ETCD_CLUSTER_VERSION) - 2)); /* without .0 */
        if (bytes_status(&body) < 0)
            ask_no_memory(call);
        else
            answer_unary(app_of(call), call, node_line_revision(app_of(call)->line), 0, bytes_slice(&body));
        bytes_fini(&body);
    }
}

const struct grpc_method maintenance_status = {
    .path = "/etcdserverpb.Maintenance/Status", .kind = GRPC_UNARY, .message = status_message, .end = ask_end};
const struct grpc_method maintenance_alarm = {
    .path = "/etcdserverpb.Maintenance/Alarm", .kind = GRPC_UNARY, .message = alarm_message, .end = ask_end};
const struct grpc_method maintenance_defragment = {
    .path = "/etcdserverpb.Maintenance/Defragment", .kind = GRPC_UNARY, .message = defragment_message, .end = ask_end};
const struct grpc_method maintenance_move_leader = {
    .path = "/etcdserverpb.Maintenance/MoveLeader", .kind = GRPC_UNARY, .message = move_leader_message, .end = ask_end};
const struct grpc_method maintenance_downgrade = {
    .path = "/etcdserverpb.Maintenance/Downgrade", .kind = GRPC_UNARY, .message = downgrade_message, .end = ask_end};
