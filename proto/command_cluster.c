/* Bodies of the commands about leases, alarms, quota and version. */
#include <errno.h>

#include "proto/command_body.h"
#include "proto/wire.h"

/* ---- leases ---- */

static void emit_grant(struct wire_out *o, const struct lease_op *op)
{
    wire_int(o, 1, op->ttl_s);
    wire_int(o, 2, op->id);
}
WIRE_MESSAGE(grant, const struct lease_op *)

static void emit_grant_response(struct wire_out *o, const struct lease_op *op)
{
    wire_int(o, 2, op->id);
    wire_int(o, 3, op->ttl_s);
}
WIRE_MESSAGE(grant_response, const struct lease_op *)

static void emit_revoke(struct wire_out *o, const struct lease_op *op)
{
    wire_int(o, 1, op->id);
}
WIRE_MESSAGE(revoke, const struct lease_op *)

static void emit_expire(struct wire_out *o, const struct lease_op *op)
{
    wire_int(o, 1, op->id);
    wire_uint(o, 2, op->term);
}
WIRE_MESSAGE(expire, const struct lease_op *)

static void emit_checkpoint(struct wire_out *o, const struct lease_checkpoint *c)
{
    wire_int(o, 1, c->id);
    wire_int(o, 2, c->remaining_s);
}
WIRE_MESSAGE(checkpoint, const struct lease_checkpoint *)

struct checkpoint_list {
    const struct lease_checkpoint *items;
    size_t n;
};

static void emit_checkpoints(struct wire_out *o, struct checkpoint_list l)
{
    for (size_t i = 0; i < l.n; i++)
        field_checkpoint(o, 1, &l.items[i]);
}
WIRE_MESSAGE(checkpoints, struct checkpoint_list)

void body_lease_grant_encode(const struct lease_op *op, struct bytes *out)
{
    append_grant(op, out);
}

void body_lease_grant_response_encode(int64_t id, int64_t ttl_s, struct bytes *out)
{
    const struct lease_op op = {.id = id, .ttl_s = ttl_s};

    append_grant_response(&op, out);
}

void body_lease_revoke_encode(const struct lease_op *op, struct bytes *out)
{
    append_revoke(op, out);
}

void body_lease_expire_encode(const struct lease_op *op, struct bytes *out)
{
    append_expire(op, out);
}

void body_lease_checkpoint_encode(const struct lease_checkpoint *items, size_t n, struct bytes *out)
{
    append_checkpoints((struct checkpoint_list){items, n}, out);
}

/* The numbers of all these messages, by field. */
struct numbers {
    uint64_t v[4];
};

static int decode_numbers(struct slice in, struct numbers *ret_numbers)
{
    struct reader r = reader_make(in);
    struct numbers n = {0};
    struct wire_field f;

    while (wire_next(&r, &f))
        if (f.number < sizeof(n.v) / sizeof(n.v[0]))
            n.v[f.number] = wire_get_uint(&r, &f);
    if (r.status < 0)
        return r.status;
    *ret_numbers = n;
    return 0;
}

int body_lease_grant_decode(struct slice in, struct lease_op *ret_op)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_op = (struct lease_op){.ttl_s = (int64_t)n.v[1], .id = (int64_t)n.v[2]};
    return rc;
}

int body_lease_grant_response_decode(struct slice in, int64_t *ret_id, int64_t *ret_ttl_s)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    int64_t id = 0, ttl_s = 0;

    while (wire_next(&r, &f)) {
        if (f.number == 2)
            id = wire_get_int(&r, &f);
        else if (f.number == 3)
            ttl_s = wire_get_int(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_id = id;
    *ret_ttl_s = ttl_s;
    return 0;
}

int body_lease_revoke_decode(struct slice in, struct lease_op *ret_op)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_op = (struct lease_op){.id = (int64_t)n.v[1]};
    return rc;
}

int body_lease_expire_decode(struct slice in, struct lease_op *ret_op)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_op = (struct lease_op){.id = (int64_t)n.v[1], .term = n.v[2]};
    return rc;
}

static size_t count_field(struct slice in, uint32_t number)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n = 0;

    while (wire_next(&r, &f))
        n += f.number == number;
    return n;
}

int body_lease_checkpoint_decode(struct slice in, struct arena *arena, struct lease_checkpoint **ret_items,
                                 size_t *ret_n)
{
    struct lease_checkpoint *items = arena_array(arena, count_field(in, 1), sizeof(*items));
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n = 0;

    if (items == NULL)
        return -ENOMEM;
    while (wire_next(&r, &f)) {
        struct slice inner = {NULL, 0};
        struct numbers c;

        if (f.number != 1)
            continue;
        wire_get_bytes(&r, &f, &inner);
        if (decode_numbers(inner, &c) < 0)
            return -EBADMSG;
        items[n++] = (struct lease_checkpoint){(int64_t)c.v[1], (int64_t)c.v[2]};
    }
    if (r.status < 0)
        return r.status;
    *ret_items = items;
    *ret_n = n;
    return 0;
}

/* ---- alarms ---- */

static void emit_alarm(struct wire_out *o, const struct alarm_op *op)
{
    wire_int(o, 1, op->action);
    wire_uint(o, 2, op->member_id);
    wire_int(o, 3, op->type);
}
WIRE_MESSAGE(alarm, const struct alarm_op *)

static void emit_alarm_member(struct wire_out *o, const struct alarm *a)
{
    wire_uint(o, 1, a->member_id);
    wire_int(o, 2, a->type);
}
WIRE_MESSAGE(alarm_member, const struct alarm *)

struct alarm_list {
    const struct alarm *items;
    size_t n;
};

static void emit_alarm_response(struct wire_out *o, struct alarm_list l)
{
    for (size_t i = 0; i < l.n; i++)
        field_alarm_member(o, 2, &l.items[i]);
}
WIRE_MESSAGE(alarm_response, struct alarm_list)

void body_alarm_encode(const struct alarm_op *op, struct bytes *out)
{
    append_alarm(op, out);
}

void body_alarm_response_encode(const struct alarm *items, size_t n, struct bytes *out)
{
    append_alarm_response((struct alarm_list){items, n}, out);
}

int body_alarm_decode(struct slice in, struct alarm_op *ret_op)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_op = (struct alarm_op){.action = (int32_t)n.v[1], .member_id = n.v[2], .type = (int32_t)n.v[3]};
    return rc;
}

int body_alarm_response_decode(struct slice in, struct arena *arena, struct alarm **ret_items, size_t *ret_n)
{
    struct alarm *items = arena_array(arena, count_field(in, 2), sizeof(*items));
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n = 0;

    if (items == NULL)
        return -ENOMEM;
    while (wire_next(&r, &f)) {
        struct slice inner = {NULL, 0};
        struct numbers a;

        if (f.number != 2)
            continue;
        wire_get_bytes(&r, &f, &inner);
        if (decode_numbers(inner, &a) < 0)
            return -EBADMSG;
        items[n++] = (struct alarm){a.v[1], (int32_t)a.v[2]};
    }
    if (r.status < 0)
        return r.status;
    *ret_items = items;
    *ret_n = n;
    return 0;
}

/* ---- quota, version ---- */

static void emit_quota(struct wire_out *o, uint64_t bytes)
{
    wire_uint(o, 1, bytes);
}
WIRE_MESSAGE(quota, uint64_t)

void body_quota_encode(uint64_t bytes, struct bytes *out)
{
    append_quota(bytes, out);
}

int body_quota_decode(struct slice in, uint64_t *ret_bytes)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_bytes = n.v[1];
    return rc;
}

void body_cluster_version_encode(uint32_t version, struct bytes *out)
{
    append_quota(version, out);
}

int body_cluster_version_decode(struct slice in, uint32_t *ret_version)
{
    struct numbers n;
    int rc = decode_numbers(in, &n);

    if (rc == 0)
        *ret_version = (uint32_t)n.v[1];
    return rc;
}
