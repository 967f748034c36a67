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
#define STATE_FIRST_WORDS 12 /* of version 0.1 */
#define STATE_WORDS 24

static void state_words(const struct state *s, uint64_t words[STATE_WORDS])
{
    const uint64_t fields[STATE_WORDS] = {
        s->applied_index,
        s->applied_term,
        s->part_index,
        s->part_next,
        (uint64_t)s->revision,
        (uint64_t)s->compacted,
        (uint64_t)s->removal.main,
        (uint64_t)s->removal.sub,
        s->next_inode,
        s->next_layer,
        s->session_uses,
        s->membership_index,
        s->usage.row_bytes,
        s->usage.live_bytes,
        s->usage.log_bytes,
        s->usage.base_log_bytes,
        s->usage.base_live_bytes,
        s->usage.sampled_log_bytes,
        s->quota_bytes,
        s->lock_serial,
        s->lock_count,
        s->cluster_version,
        s->alarms,
        s->xattr_count,
    };

    memcpy(words, fields, sizeof(fields));
}

static void state_from_words(const uint64_t words[STATE_WORDS], struct state *s)
{
    *s = (struct state){
        .applied_index = words[0],
        .applied_term = words[1],
        .part_index = words[2],
        .part_next = words[3],
        .revision = (int64_t)words[4],
        .compacted = (int64_t)words[5],
        .removal = {(int64_t)words[6], (int64_t)words[7]},
        .next_inode = words[8],
        .next_layer = words[9],
        .session_uses = words[10],
        .membership_index = words[11],
        .usage = {words[12], words[13], words[14], words[15], words[16], words[17]},
        .quota_bytes = words[18],
        .lock_serial = words[19],
        .lock_count = words[20],
        .cluster_version = words[21],
        .alarms = words[22],
        .xattr_count = words[23],
    };
}

int state_load(MDB_txn *txn, MDB_dbi main_dbi, struct state *ret_state, bool *ret_counted)
{
    uint64_t words[STATE_WORDS] = {0};
    struct slice body;
    struct reader r;
    struct state s;
    int rc = meta_row_get(txn, main_dbi, "state", &body);

    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    r = reader_make(body);
    for (size_t i = 0; i < STATE_WORDS && (i < STATE_FIRST_WORDS || !reader_at_end(&r)); i++)
        words[i] = reader_u64(&r);
    state_from_words(words, &s);
    if (reader_status(&r) < 0 || s.revision < 1 || s.compacted < 0 || s.compacted > s.revision)
        return -EUCLEAN;
    if (ret_counted != NULL)
        *ret_counted = body.len >= STATE_WORDS * sizeof(uint64_t);
    *ret_state = s;
    return 0;
}

int state_save(MDB_txn *txn, MDB_dbi main_dbi, const struct state *state)
{
    uint64_t words[STATE_WORDS];
    uint8_t body[sizeof(words)];

    state_words(state, words);
    for (size_t i = 0; i < STATE_WORDS; i++)
        put_le64(body + i * sizeof(words[0]), words[i]);
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
