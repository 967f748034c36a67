#include "proto/command_body.h"

#include <errno.h>

#include "proto/wire.h"

static void emit_attrs(struct wire_out *o, const struct attrs *a)
{
    wire_uint(o, 1, a->has);
    wire_uint(o, 2, a->mode);
    wire_uint(o, 3, a->uid);
    wire_uint(o, 4, a->gid);
    wire_int(o, 5, a->mtime_ns);
    wire_uint(o, 6, a->ino);
    wire_uint(o, 7, a->size);
}
WIRE_MESSAGE(attrs, const struct attrs *)

static void emit_file(struct wire_out *o, const struct file_op *op)
{
    wire_bytes(o, 1, op->path);
    wire_bytes(o, 2, op->path2);
    wire_bytes(o, 3, op->value);
    wire_uint(o, 4, op->ino);
    wire_uint(o, 5, op->ino2);
    wire_uint(o, 6, op->flags);
    wire_int(o, 7, op->expect_rev);
    if (size_attrs(&op->attrs) != 0)
        field_attrs(o, 8, &op->attrs);
    wire_int(o, 9, op->fence);
}
WIRE_MESSAGE(file, const struct file_op *)

static void emit_file_response(struct wire_out *o, const struct body_file_response *r)
{
    wire_uint(o, 1, r->ino);
    wire_uint(o, 2, r->size);
    wire_uint(o, 3, r->changed);
}
WIRE_MESSAGE(file_response, const struct body_file_response *)

static void emit_member(struct wire_out *o, const struct member_info *m)
{
    wire_uint(o, 1, m->id);
    wire_bytes(o, 2, m->name);
    for (size_t i = 0; i < m->n_client_urls; i++)
        wire_bytes_always(o, 3, m->client_urls[i]);
    wire_uint(o, 4, m->version);
    wire_uint(o, 5, m->instance);
}
WIRE_MESSAGE(member, const struct member_info *)

static void emit_alloc_inodes(struct wire_out *o, uint32_t count)
{
    wire_uint(o, 1, count);
}
WIRE_MESSAGE(alloc_inodes, uint32_t)

struct compact_parts {
    int64_t revision;
    bool physical;
};

static void emit_compact(struct wire_out *o, struct compact_parts c)
{
    wire_int(o, 1, c.revision);
    wire_uint(o, 2, c.physical);
}
WIRE_MESSAGE(compact, struct compact_parts)

void body_file_encode(const struct file_op *op, struct bytes *out)
{
    append_file(op, out);
}

void body_file_response_encode(const struct body_file_response *r, struct bytes *out)
{
    append_file_response(r, out);
}

void body_member_encode(const struct member_info *m, struct bytes *out)
{
    append_member(m, out);
}

void body_alloc_inodes_encode(uint32_t count, struct bytes *out)
{
    append_alloc_inodes(count, out);
}

void body_compact_encode(int64_t revision, bool physical, struct bytes *out)
{
    append_compact((struct compact_parts){revision, physical}, out);
}

static uint32_t get_u32(struct reader *r, const struct wire_field *f)
{
    return (uint32_t)wire_get_uint(r, f);
}

/* The attributes may come in several pieces, as protobuf allows for an inner message: later fields win. */
static void decode_attrs(struct reader *outer, struct slice in, struct attrs *a)
{
    struct reader r = reader_make(in);
    struct wire_field f;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            a->has = get_u32(&r, &f);
            break;
        case 2:
            a->mode = get_u32(&r, &f);
            break;
        case 3:
            a->uid = get_u32(&r, &f);
            break;
        case 4:
            a->gid = get_u32(&r, &f);
            break;
        case 5:
            a->mtime_ns = wire_get_int(&r, &f);
            break;
        case 6:
            a->ino = wire_get_uint(&r, &f);
            break;
        case 7:
            a->size = wire_get_uint(&r, &f);
            break;
        }
    }
    if (r.status < 0)
        reader_fail(outer);
}

int body_file_decode(struct slice in, struct file_op *ret_op)
{
    struct reader r = reader_make(in);
    struct file_op op = {0};
    struct slice attrs;
    struct wire_field f;

    while (wire_next(&r, &f)) {
        switch (f.number) {
        case 1:
            wire_get_bytes(&r, &f, &op.path);
            break;
        case 2:
            wire_get_bytes(&r, &f, &op.path2);
            break;
        case 3:
            wire_get_bytes(&r, &f, &op.value);
            break;
        case 4:
            op.ino = wire_get_uint(&r, &f);
            break;
        case 5:
            op.ino2 = wire_get_uint(&r, &f);
            break;
        case 6:
            op.flags = get_u32(&r, &f);
            break;
        case 7:
            op.expect_rev = wire_get_int(&r, &f);
            break;
        case 8:
            attrs = slice_make(NULL, 0);
            wire_get_bytes(&r, &f, &attrs);
            decode_attrs(&r, attrs, &op.attrs);
            break;
        case 9:
            op.fence = wire_get_int(&r, &f);
            break;
        }
    }
    if (r.status < 0)
        return r.status;
    *ret_op = op;
    return 0;
}

int body_file_response_decode(struct slice in, struct body_file_response *ret_r)
{
    struct reader r = reader_make(in);
    struct body_file_response res = {0};
    struct wire_field f;

    while (wire_next(&r, &f)) {
        if (f.number == 1)
            res.ino = wire_get_uint(&r, &f);
        else if (f.number == 2)
            res.size = wire_get_uint(&r, &f);
        else if (f.number == 3)
            res.changed = wire_get_bool(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_r = res;
    return 0;
}

static size_t count_urls(struct slice in)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    size_t n = 0;

    while (wire_next(&r, &f))
        n += f.number == 3;
    return n;
}

int body_member_decode(struct slice in, struct arena *arena, struct member_info *ret_m)
{
    struct reader r = reader_make(in);
    struct member_info m = {0};
    struct wire_field f;

    m.client_urls = arena_array(arena, count_urls(in), sizeof(*m.client_urls));
    if (m.client_urls == NULL)
        return -ENOMEM;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            m.id = wire_get_uint(&r, &f);
        else if (f.number == 2)
            wire_get_bytes(&r, &f, &m.name);
        else if (f.number == 3)
            wire_get_bytes(&r, &f, &m.client_urls[m.n_client_urls++]);
        else if (f.number == 4)
            m.version = get_u32(&r, &f);
        else if (f.number == 5)
            m.instance = wire_get_uint(&r, &f);
    }
    if (r.status < 0)
        return r.status;
    *ret_m = m;
    return 0;
}

int body_alloc_inodes_decode(struct slice in, uint32_t *ret_count)
{
    struct reader r = reader_make(in);
    struct wire_field f;
    uint32_t count = 0;

    while (wire_next(&r, &f))
        if (f.number == 1)
            count = get_u32(&r, &f);
    if (r.status < 0)
        return r.status;
    *ret_count = count;
    return 0;
}
