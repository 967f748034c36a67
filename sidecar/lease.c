/* lease.c - etcdserverpb.Lease but for LeaseKeepAlive: grants and revokes are commands of the log, what is left of a lease is
 * known to the leader's clock, and the list is this member's. */
#include "sidecar/lease.h"

#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

int64_t lease_new_id(void)
{
    uint64_t id = 0;

    while (id == 0) {
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            return 0;
        id &= INT64_MAX;
    }
    return (int64_t)id;
}

struct grant {
    int64_t ttl, id;
};

static void emit_grant(struct wire_out *o, const struct grant *g)
{
    wire_int(o, 1, g->ttl);
    wire_int(o, 2, g->id);
}

WIRE_MESSAGE(grant, const struct grant *)

void lease_grant_encode(int64_t id, int64_t ttl_s, struct bytes *out)
{
    append_grant(&(struct grant){ttl_s, id}, out);
}

/* The first two fields, which all requests of this service have or lack. */
static bool decode_two(struct grpc_call *call, struct slice message, int64_t *ret_first, int64_t *ret_second)
{
    struct reader r = reader_make(message);
    struct wire_field f;

    *ret_first = *ret_second = 0;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            *ret_first = wire_get_int(&r, &f);
        else if (f.number == 2)
            *ret_second = wire_get_int(&r, &f);
    }
    if (reader_status(&r) == 0)
        return true;
    ask_malformed(call);
    return false;
}

/* ---- LeaseGrant, LeaseRevoke ---- */

/* A lease outlives an election: etcd's smallest, one and a half election timeouts. */
static int64_t ttl_min_s(const struct app *app)
{
    return ((int64_t)node_line_election_ms(app->line) * 3 / 2 + 999) / 1000;
}

static void grant_message(struct grpc_call *call, struct slice message)
{
    struct grant g;
    struct bytes body;

    if (!decode_two(call, message, &g.ttl, &g.id) || ask_refused(call))
        return;
    if (g.ttl > LEASE_TTL_MAX_S) {
        grpc_finish_status(call, STATUS_LEASE_TTL_TOO_LARGE);
        return;
    }
    if (g.ttl < ttl_min_s(app_of(call)))
        g.ttl = ttl_min_s(app_of(call));
    if (g.id == 0)
        g.id = lease_new_id();
    bytes_init(&body);
    append_grant(&g, &body);
    if (g.id == 0 || bytes_status(&body) < 0)
        ask_no_memory(call);
    else
        ask_propose_and_answer(call, COMMAND_LEASE_GRANT, bytes_slice(&body));
    bytes_fini(&body);
}

static void revoke_message(struct grpc_call *call, struct slice message)
{
    int64_t id, unused;

    if (decode_two(call, message, &id, &unused) && !ask_refused(call))
        ask_propose_and_answer(call, COMMAND_LEASE_REVOKE, message);
}

/* ---- LeaseTimeToLive ---- */

struct time_call {
    struct ask ask;
    int64_t id;
    bool keys;
    int64_t granted, remaining;
    struct bytes body;
};

static int add_key(void *ctx, struct slice key)
{
    struct bytes *out = ctx;

    bytes_u8(out, 5 << 3 | WIRE_BYTES);
    bytes_varint_slice(out, key);
    if (out->len > LEASE_KEYS_MAX_BYTES)
        return -E2BIG;
    return bytes_status(out);
}

struct time_left {
    int64_t id, remaining, granted;
};

static void emit_time(struct wire_out *o, const struct time_left *t)
{
    wire_int(o, 2, t->id);
    wire_int(o, 3, t->remaining);
    wire_int(o, 4, t->granted);
}

WIRE_MESSAGE(time, const struct time_left *)

static void answer_time(struct time_call *t, uint16_t status)
{
    struct store_read *r = node_line_read(t->ask.app->line);
    struct time_left left = {t->id, t->remaining, t->granted};
    struct bytes body;
    int rc = 0;

    if (status != STATUS_OK && status != STATUS_LEASE_NOT_FOUND) {
        grpc_finish_status(t->ask.call, status);
        return;
    }
    if (r == NULL) {
        grpc_finish_status(t->ask.call, STATUS_TIMEOUT);
        return;
    }
    if (status == STATUS_LEASE_NOT_FOUND)
        left = (struct time_left){t->id, -1, 0};
    bytes_init(&body);
    append_time(&left, &body);
    if (status == STATUS_OK && t->keys)
        rc = store_lease_keys(r, t->id, add_key, &body);
    if (rc == -E2BIG)
        grpc_finish(t->ask.call, GRPC_RESOURCE_EXHAUSTED, "quorumfs: answer is too large");
    else if (rc < 0 || bytes_status(&body) < 0)
        ask_no_memory(t->ask.call);
    else
        answer_unary(t->ask.app, t->ask.call, store_read_revision(r), 0, bytes_slice(&body));
    bytes_fini(&body);
}

static void on_lease_time(void *arg, uint16_t status, int64_t granted_s, int64_t remaining_s)
{
    struct time_call *t = arg;

    ask_done(&t->ask);
    t->granted = granted_s;
    t->remaining = remaining_s;
    answer_time(t, status);
}

static void ask_time(struct time_call *t)
{
    struct node_line *line = t->ask.app->line;

    ask_waits(&t->ask, client_lease_time(node_line_client(line), t->id, node_line_deadline_ms(line), on_lease_time, t));
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct time_call *t = arg;

    ask_done(&t->ask);
    if (status != STATUS_OK)
        grpc_finish_status(t->ask.call, status);
    else
        ask_time(t);
}

/* The keys are read here: a barrier first, so that none is missing that was attached before. */
static void time_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct time_call *t;
    int64_t id, keys;

    if (!decode_two(call, message, &id, &keys) || ask_refused(call))
        return;
    t = ask_begin(call, sizeof *t);
    if (t == NULL)
        return;
    t->id = id;
    t->keys = keys != 0;
    if (t->keys)
        ask_waits(&t->ask, client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, t));
    else
        ask_time(t);
}

/* ---- LeaseLeases ---- */

static int add_lease(void *ctx, const struct lease_info *lease)
{
    struct bytes *out = ctx;
    uint8_t one[11];
    struct wire_out o = {one, 0};

    wire_int(&o, 1, lease->id);
    bytes_u8(out, 2 << 3 | WIRE_BYTES);
    bytes_varint_slice(out, slice_make(one, o.n));
    if (out->len > LEASE_KEYS_MAX_BYTES)
        return -E2BIG;
    return bytes_status(out);
}

static void leases_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct store_read *r;
    struct bytes body;
    int rc;

    if (ask_refused(call))
        return;
    r = node_line_read(app->line);
    if (r == NULL) {
        grpc_finish_status(call, STATUS_TIMEOUT);
        return;
    }
    bytes_init(&body);
    rc = store_leases(r, 0, add_lease, &body);
    if (rc == -E2BIG)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "quorumfs: answer is too large");
    else if (rc < 0)
        ask_no_memory(call);
    else
        answer_unary(app, call, store_read_revision(r), 0, bytes_slice(&body));
    bytes_fini(&body);
}

const struct grpc_method lease_grant = {
    .path = "/etcdserverpb.Lease/LeaseGrant", .kind = GRPC_UNARY, .message = grant_message, .end = ask_end};
const struct grpc_method lease_revoke = {
    .path = "/etcdserverpb.Lease/LeaseRevoke", .kind = GRPC_UNARY, .message = revoke_message, .end = ask_end};
const struct grpc_method lease_time_to_live = {
    .path = "/etcdserverpb.Lease/LeaseTimeToLive", .kind = GRPC_UNARY, .message = time_message, .end = ask_end};
const struct grpc_method lease_leases = {
    .path = "/etcdserverpb.Lease/LeaseLeases", .kind = GRPC_UNARY, .message = leases_message, .end = ask_end};
