#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/env.h"

int meta_row_get(MDB_txn *txn, MDB_dbi main_dbi, const char *name, struct slice *ret_body)
{
    MDB_val key = {strlen(name), (void *)name}, val;
    struct slice row;
    int rc = err_from_mdb(mdb_get(txn, main_dbi, &key, &val));

    if (rc < 0)
        return rc;
    row = slice_make(val.mv_data, val.mv_size);
    rc = row_check(&key, row);
    if (rc == 0)
        *ret_body = slice_make(row.data + 4, row.len - 4);
    return rc;
}

int meta_row_put(MDB_txn *txn, MDB_dbi main_dbi, const char *name, struct slice body)
{
    MDB_val key = {strlen(name), (void *)name};
    MDB_val val = {body.len + 4, NULL};
    int rc = err_from_mdb(mdb_put(txn, main_dbi, &key, &val, MDB_RESERVE));

    if (rc < 0)
        return rc;
    if (body.len > 0)
        memcpy((uint8_t *)val.mv_data + 4, body.data, body.len);
    put_le32(val.mv_data, row_crc(&key, (uint8_t *)val.mv_data + 4, body.len));
    return 0;
}

/* Fixed places, so that a batch rewrites the row where it stands. Later fields go to the end. */
#define STATE_BYTES (12 * 8)

int state_load(MDB_txn *txn, MDB_dbi main_dbi, struct state *ret_state)
{
    struct slice body;
    struct reader r;
    struct state s;
    int rc = meta_row_get(txn, main_dbi, "state", &body);

    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    r = reader_make(body);
    s.applied_index = reader_u64(&r);
    s.applied_term = reader_u64(&r);
    s.part_index = reader_u64(&r);
    s.part_next = reader_u64(&r);
    s.revision = (int64_t)reader_u64(&r);
    s.compacted = (int64_t)reader_u64(&r);
    s.removal.main = (int64_t)reader_u64(&r);
    s.removal.sub = (int64_t)reader_u64(&r);
    s.next_inode = reader_u64(&r);
    s.next_layer = reader_u64(&r);
    s.session_uses = reader_u64(&r);
    s.membership_index = reader_u64(&r);
    if (reader_status(&r) < 0 || s.revision < 1 || s.compacted < 0 || s.compacted > s.revision)
        return -EUCLEAN;
    *ret_state = s;
    return 0;
}

int state_save(MDB_txn *txn, MDB_dbi main_dbi, const struct state *state)
{
    const uint64_t fields[] = {
        state->applied_index,
        state->applied_term,
        state->part_index,
        state->part_next,
        (uint64_t)state->revision,
        (uint64_t)state->compacted,
        (uint64_t)state->removal.main,
        (uint64_t)state->removal.sub,
        state->next_inode,
        state->next_layer,
        state->session_uses,
        state->membership_index,
    };
    uint8_t body[STATE_BYTES];

    _Static_assert(sizeof(fields) == STATE_BYTES, "one word a field");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        put_le64(body + i * 8, fields[i]);
    return meta_row_put(txn, main_dbi, "state", slice_make(body, sizeof(body)));
}

int begun_put(MDB_txn *txn, MDB_dbi main_dbi, enum env_begun how, uint64_t index, uint64_t term)
{
    uint8_t body[24];

    put_le64(body, (uint64_t)how);
    put_le64(body + 8, index);
    put_le64(body + 16, term);
    return meta_row_put(txn, main_dbi, "begun", slice_make(body, sizeof(body)));
}

int begun_get(MDB_txn *txn, MDB_dbi main_dbi, struct store_meta *meta)
{
    struct slice body;
    struct reader r;
    uint64_t how;
    int rc = meta_row_get(txn, main_dbi, "begun", &body);

    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    r = reader_make(body);
    how = reader_u64(&r);
    meta->begun_index = reader_u64(&r);
    meta->begun_term = reader_u64(&r);
    if (reader_status(&r) < 0 || how < ENV_BEGUN_INSTALLED || how > ENV_BEGUN_RESTORED)
        return -EUCLEAN;
    meta->restored = how == ENV_BEGUN_RESTORED && meta->applied_index == meta->begun_index;
    return 0;
}
