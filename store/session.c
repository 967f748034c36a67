#include <errno.h>
#include <stdlib.h>

#include "store/batch.h"

/* The row of a session: CRC, format, sequence, status, revision, use, body. `use` counts saves of
 * all sessions: the least one was used longest ago, the same on every node. */

#define SESSION_KEY_BYTES 8

struct session_row {
    uint64_t sequence, use;
    int64_t revision;
    uint16_t status;
    struct slice body;
};

static int decode_row(const MDB_val *key, const MDB_val *val, struct session_row *ret_row)
{
    struct slice bytes = slice_make(val->mv_data, val->mv_size);
    struct session_row row;
    struct reader r = reader_make(bytes);
    uint8_t format;
    int rc = row_check(key, bytes);

    if (rc < 0 || key->mv_size != SESSION_KEY_BYTES)
        return -EUCLEAN;
    reader_u32(&r);
    format = reader_u8(&r);
    row.sequence = reader_varint(&r);
    row.status = reader_u16(&r);
    row.revision = (int64_t)reader_varint(&r);
    row.use = reader_varint(&r);
    row.body = reader_varint_slice(&r);
    if (reader_status(&r) < 0 || format == 0)
        return -EUCLEAN;
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    *ret_row = row;
    return 0;
}

static int load_rows(struct store_batch *b, MDB_cursor *cursor)
{
    struct store *s = b->snap.store;
    MDB_val key, val;
    int rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_FIRST));

    for (; rc == 0; rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT))) {
        struct session_row row;

        rc = decode_row(&key, &val, &row);
        if (rc == 0 && s->n_session_uses > SESSION_MAX_COUNT)
            rc = -EUCLEAN;
        if (rc < 0)
            return rc;
        s->session_uses[s->n_session_uses++] = (struct session_use){get_be64(key.mv_data), row.use};
    }
    return rc == -ENOENT ? 0 : rc;
}

int session_load(struct store_batch *b)
{
    struct store *s = b->snap.store;
    MDB_cursor *cursor;
    int rc;

    if (s->session_uses != NULL)
        return 0;
    s->session_uses = calloc(SESSION_MAX_COUNT + 1, sizeof(*s->session_uses));
    if (s->session_uses == NULL)
        return -ENOMEM;
    s->n_session_uses = 0;
    rc = err_from_mdb(mdb_cursor_open(b->snap.txn, s->sessions, &cursor));
    if (rc == 0) {
        rc = load_rows(b, cursor);
        mdb_cursor_close(cursor);
    }
    return rc;
}

void session_unload(struct store *s)
{
    free(s->session_uses);
    s->session_uses = NULL;
    s->n_session_uses = 0;
}

int store_session_find(struct store_batch *b, uint64_t session, uint64_t sequence, int *ret_found,
                       uint16_t *ret_status, int64_t *ret_revision, struct slice *ret_body)
{
    uint8_t key_bytes[SESSION_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes}, val;
    struct session_row row;
    struct slice body;
    int rc;

    put_be64(key_bytes, session);
    rc = err_from_mdb(mdb_get(b->snap.txn, b->snap.store->sessions, &key, &val));
    if (rc == -ENOENT) {
        *ret_found = sequence == 1 ? 0 : 2;
        *ret_status = STATUS_SESSION_EXPIRED;
        *ret_revision = b->snap.state.revision;
        *ret_body = slice_make(NULL, 0);
        return 0;
    }
    if (rc == 0)
        rc = decode_row(&key, &val, &row);
    if (rc == 0)
        rc = arena_copy(&b->arena, row.body, &body);
    if (rc < 0)
        return rc;
    *ret_found = sequence > row.sequence ? 0 : sequence == row.sequence ? 1 : 2;
    *ret_status = *ret_found == 1 ? row.status : STATUS_SEQUENCE_OLD;
    *ret_revision = *ret_found == 1 ? row.revision : b->snap.state.revision;
    *ret_body = *ret_found == 1 ? body : slice_make(NULL, 0);
    return 0;
}

static int forget_oldest(struct store_batch *b)
{
    struct store *s = b->snap.store;
    uint8_t key_bytes[SESSION_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes};
    size_t oldest = 0;
    int rc;

    for (size_t i = 1; i < s->n_session_uses; i++)
        if (s->session_uses[i].use < s->session_uses[oldest].use)
            oldest = i;
    put_be64(key_bytes, s->session_uses[oldest].session);
    rc = err_from_mdb(mdb_del(b->snap.txn, s->sessions, &key, NULL));
    if (rc == 0)
        s->session_uses[oldest] = s->session_uses[--s->n_session_uses];
    return rc;
}

/* Notes that session is used now. */
static int note_use(struct store_batch *b, uint64_t session, uint64_t use)
{
    struct store *s = b->snap.store;

    for (size_t i = s->n_session_uses; i-- > 0;) {
        if (s->session_uses[i].session == session) { /* to the end, where busy ones are found at once */
            s->session_uses[i] = s->session_uses[s->n_session_uses - 1];
            s->session_uses[s->n_session_uses - 1] = (struct session_use){session, use};
            return 0;
        }
    }
    s->session_uses[s->n_session_uses++] = (struct session_use){session, use};
    return s->n_session_uses > SESSION_MAX_COUNT ? forget_oldest(b) : 0;
}

int store_session_save(struct store_batch *b, uint64_t session, uint64_t sequence, uint16_t status,
                       int64_t revision, struct slice body)
{
    uint8_t key_bytes[SESSION_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes}, val;
    struct bytes *out = &b->scratch;
    uint64_t use = ++b->snap.state.session_uses;
    int rc;

    bytes_reset(out);
    bytes_u32(out, 0);
    bytes_u8(out, ROW_FORMAT);
    bytes_varint(out, sequence);
    bytes_u16(out, status);
    bytes_varint(out, (uint64_t)revision);
    bytes_varint(out, use);
    bytes_varint_slice(out, body.len <= SESSION_BODY_MAX_BYTES ? body : slice_make(NULL, 0));
    put_be64(key_bytes, session);
    rc = bytes_status(out);
    if (rc == 0) {
        put_le32(out->data, row_crc(&key, out->data + ROW_CRC_BYTES, out->len - ROW_CRC_BYTES));
        val = (MDB_val){out->len, out->data};
        rc = err_from_mdb(mdb_put(b->snap.txn, b->snap.store->sessions, &key, &val, 0));
    }
    if (rc == 0)
        rc = note_use(b, session, use);
    if (rc < 0)
        b->status = rc;
    return rc;
}
