#include "store/member.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMBER_PREFIX "member/"
#define MEMBER_NAME_BYTES (sizeof(MEMBER_PREFIX) + 16)
#define MEMBER_TEXT_MAX_BYTES 4096
#define MEMBER_URLS_MAX 64

int member_save(struct store_batch *b, const struct member_info *member, uint16_t *ret_status)
{
    char name[MEMBER_NAME_BYTES];
    struct bytes *out = &b->scratch;
    size_t text = member->name.len;

    for (size_t i = 0; i < member->n_client_urls; i++)
        text += member->client_urls[i].len;
    if (member->id == 0 || member->n_client_urls > MEMBER_URLS_MAX || text > MEMBER_TEXT_MAX_BYTES) {
        *ret_status = STATUS_INVALID_REQUEST;
        return 0;
    }
    bytes_reset(out);
    bytes_u8(out, ROW_FORMAT);
    bytes_varint_slice(out, member->name);
    bytes_varint(out, member->n_client_urls);
    for (size_t i = 0; i < member->n_client_urls; i++)
        bytes_varint_slice(out, member->client_urls[i]);
    if (member->version != 0 || member->instance != 0)
        bytes_varint(out, member->version);
    if (member->instance != 0)
        bytes_varint(out, member->instance);
    if (bytes_status(out) < 0)
        return bytes_status(out);
    snprintf(name, sizeof(name), MEMBER_PREFIX "%016" PRIx64, member->id);
    return meta_row_put(b->snap.txn, b->snap.store->main, name, bytes_slice(out));
}

int member_forget(struct store_batch *b, uint64_t id)
{
    char name[MEMBER_NAME_BYTES];
    MDB_val key = {MEMBER_NAME_BYTES - 1, name};
    int rc;

    snprintf(name, sizeof(name), MEMBER_PREFIX "%016" PRIx64, id);
    rc = err_from_mdb(mdb_del(b->snap.txn, b->snap.store->main, &key, NULL));
    return rc == -ENOENT ? 0 : rc;
}

static int decode_member(struct slice body, struct arena *arena, struct member_info *m)
{
    struct reader r = reader_make(body);
    uint8_t format = reader_u8(&r);
    uint64_t n;
    int rc;

    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    rc = arena_copy(arena, reader_varint_slice(&r), &m->name);
    n = reader_varint(&r);
    if (rc < 0)
        return rc;
    if (reader_status(&r) < 0 || n > MEMBER_URLS_MAX)
        return -EUCLEAN;
    m->n_client_urls = (size_t)n;
    m->client_urls = arena_array(arena, n, sizeof(*m->client_urls));
    if (m->client_urls == NULL)
        return -ENOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = arena_copy(arena, reader_varint_slice(&r), &m->client_urls[i]);
    m->version = reader_left(&r) > 0 ? (uint32_t)reader_varint(&r) : 0;
    m->instance = reader_left(&r) > 0 ? reader_varint(&r) : 0;
    return rc == 0 && reader_status(&r) < 0 ? -EUCLEAN : rc;
}

static int load_members(struct store_read *r, MDB_cursor *cursor, struct arena *arena, struct member_info *members,
                        size_t *ret_count)
{
    MDB_val key = {sizeof(MEMBER_PREFIX) - 1, MEMBER_PREFIX}, val;
    size_t n = 0;
    int rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));

    while (rc == 0 && key.mv_size == MEMBER_NAME_BYTES - 1 &&
           memcmp(key.mv_data, MEMBER_PREFIX, sizeof(MEMBER_PREFIX) - 1) == 0) {
        struct slice row = slice_make(val.mv_data, val.mv_size);
        char name[MEMBER_NAME_BYTES];

        if (n == STORE_MEMBERS_MAX)
            return -EUCLEAN;
        memcpy(name, key.mv_data, MEMBER_NAME_BYTES - 1);
        name[MEMBER_NAME_BYTES - 1] = '\0';
        rc = row_check(&key, row);
        if (rc == 0)
            rc = decode_member(slice_make(row.data + ROW_CRC_BYTES, row.len - ROW_CRC_BYTES), arena, &members[n]);
        members[n].id = strtoull(name + sizeof(MEMBER_PREFIX) - 1, NULL, 16);
        n++;
        if (rc == 0)
            rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT));
    }
    if (rc == 0 || rc == -ENOENT)
        *ret_count = n;
    return rc == -ENOENT ? 0 : rc;
}

int store_members(struct store_read *r, struct arena *arena, struct member_info **ret_members, size_t *ret_count)
{
    struct member_info *members = arena_array(arena, STORE_MEMBERS_MAX, sizeof(*members));
    MDB_cursor *cursor;
    int rc;

    if (members == NULL)
        return -ENOMEM;
    rc = err_from_mdb(mdb_cursor_open(r->snap.txn, r->snap.store->main, &cursor));
    if (rc < 0)
        return rc;
    rc = load_members(r, cursor, arena, members, ret_count);
    mdb_cursor_close(cursor);
    if (rc == 0)
        *ret_members = members;
    return rc;
}
