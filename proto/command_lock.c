/* Bodies of the commands about file locks. */
#include "proto/command_body.h"
#include "proto/wire.h"

static void emit_lock(struct wire_out *o, const struct lock_op *op)
{
    wire_uint(o, 1, op->ino);
    wire_uint(o, 2, op->session);
    wire_uint(o, 3, op->owner);
    wire_uint(o, 4, op->request);
    wire_int(o, 5, op->kind);
    wire_int(o, 6, op->type);
    wire_uint(o, 7, op->start);
    wire_uint(o, 8, op->end);
    wire_uint(o, 9, op->pid);
    wire_uint(o, 10, op->wait);
    wire_uint(o, 11, op->all);
    wire_int(o, 12, op->lease);
}
WIRE_MESSAGE(lock, const struct lock_op *)

void body_lock_encode(const struct lock_op *op, struct bytes *out)
{
    append_lock(op, out);
}

static void lock_field(struct reader *r, const struct wire_field *f, struct lock_op *op)
{
    switch (f->number) {
    case 1:
        op->ino = wire_get_uint(r, f);
        break;
    case 2:
        op->session = wire_get_uint(r, f);
        break;
    case 3:
        op->owner = wire_get_uint(r, f);
        break;
    case 4:
        op->request = wire_get_uint(r, f);
        break;
    case 5:
        op->kind = (int)(int32_t)wire_get_uint(r, f);
        break;
    case 6:
        op->type = (int)(int32_t)wire_get_uint(r, f);
        break;
    case 7:
        op->start = wire_get_uint(r, f);
        break;
    case 8:
        op->end = wire_get_uint(r, f);
        break;
    case 9:
        op->pid = (uint32_t)wire_get_uint(r, f);
        break;
    case 10:
        op->wait = wire_get_bool(r, f);
        break;
    case 11:
        op->all = wire_get_bool(r, f);
        break;
    case 12:
        op->lease = wire_get_int(r, f);
        break;
    }
}

int body_lock_decode(struct slice in, struct lock_op *ret_op)
{
    struct reader r = reader_make(in);
    struct lock_op op = {0};
    struct wire_field f;

    while (wire_next(&r, &f))
        lock_field(&r, &f, &op);
    if (r.status < 0)
        return r.status;
    *ret_op = op;
    return 0;
}

struct lock_answer {
    bool granted;
    uint64_t token;
};

static void emit_lock_response(struct wire_out *o, struct lock_answer a)
{
    wire_uint(o, 1, a.granted);
    wire_uint(o, 2, a.token);
}
WIRE_MESSAGE(lock_response, struct lock_answer)

void body_lock_response_encode(bool granted, uint64_t token, struct bytes *out)
{
    append_lock_response((struct lock_answer){granted, token}, out);
}

int body_lock_response_decode(struct slice in, bool *ret_granted, uint64_t *ret_token)
{
    struct reader r = reader_make(in);
    struct lock_answer a = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            a.granted = wire_get_bool(&r, &f);
        else if (f.number == 2)
            a.token = wire_get_uint(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_granted = a.granted;
    *ret_token = a.token;
    return 0;
}
