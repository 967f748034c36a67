/* What the quota limits must be the same number on all nodes at the same applied index, though each is at another place
 * of a compaction's removal. So nothing is counted when it is removed, but when that is decided:
 *
 *   usage = rows of the tables of what is there now                       (row_bytes)
 *         + rows of the log that were still needed at revision B          (base_live_bytes)
 *         + rows of the log after B                                       (log_bytes - base_log_bytes)
 *
 * B is the newest place at or below the compacted revision of which the two sums are known: the compacted revision
 * itself if it was the newest one when the command was applied, otherwise the last sample before it. A sample is taken once
 * in USAGE_SAMPLE_BYTES of log (table `usage`: revision -> log_bytes, live_bytes). Sums of the present change with
 * each row that is written; both are functions of the log alone. */
#include "store/usage.h"

#include <errno.h>

#include "store/eventlog.h"

#define SAMPLE_KEY_BYTES 8
#define SAMPLE_BYTES (ROW_CRC_BYTES + 1 + 16)

void usage_rows(struct usage *u, int64_t bytes)
{
    u->row_bytes += (uint64_t)bytes;
}

void usage_key(struct usage *u, int sign, size_t key_bytes, const struct node *node)
{
    uint64_t row = USAGE_KEY_BYTES + key_bytes + (node->is_inline ? node->value_len : 0);
    uint64_t live = USAGE_LOG_BYTES + key_bytes + node->value_len;

    u->row_bytes += sign > 0 ? row : -row;
    u->live_bytes += sign > 0 ? live : -live;
}

void usage_dir(struct usage *u, int sign, size_t path_bytes)
{
    usage_rows(u, sign * (int64_t)(USAGE_DIR_BYTES + path_bytes));
}

void usage_log(struct usage *u, size_t key_bytes, size_t own_value_bytes)
{
    u->log_bytes += USAGE_LOG_BYTES + key_bytes + own_value_bytes;
}

/* ---- samples ---- */

struct sample {
    int64_t revision;
    uint64_t log_bytes, live_bytes;
};

static int decode_sample(const MDB_val *key, const MDB_val *val, struct sample *ret_sample)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    struct reader r = reader_make(row);
    struct sample s;
    uint8_t format;

    if (row_check(key, row) < 0 || key->mv_size != SAMPLE_KEY_BYTES)
        return -EUCLEAN;
    reader_u32(&r);
    format = reader_u8(&r);
    s.revision = (int64_t)get_be64(key->mv_data);
    s.log_bytes = reader_u64(&r);
    s.live_bytes = reader_u64(&r);
    if (reader_status(&r) < 0 || format == 0)
        return -EUCLEAN;
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    *ret_sample = s;
    return 0;
}

int usage_sample(struct snap *p)
{
    struct usage *u = &p->state.usage;
    uint8_t key_bytes[SAMPLE_KEY_BYTES], row[SAMPLE_BYTES] = {0};
    MDB_val key = {sizeof(key_bytes), key_bytes}, val = {sizeof(row), row};

    if (u->log_bytes - u->sampled_log_bytes < USAGE_SAMPLE_BYTES)
        return 0;
    u->sampled_log_bytes = u->log_bytes;
    put_be64(key_bytes, (uint64_t)p->state.revision);
    row[ROW_CRC_BYTES] = ROW_FORMAT;
    put_le64(row + ROW_CRC_BYTES + 1, u->log_bytes);
    put_le64(row + ROW_CRC_BYTES + 9, u->live_bytes);
    put_le32(row, row_crc(&key, row + ROW_CRC_BYTES, sizeof(row) - ROW_CRC_BYTES));
    return err_from_mdb(mdb_put(p->txn, p->store->usage, &key, &val, 0));
}

/* Takes the samples up to revision out of the table. *ret_found: the last of them is in *ret_last. */
static int take_samples(struct snap *p, int64_t revision, struct sample *ret_last, bool *ret_found)
{
    MDB_cursor *cursor;
    MDB_val key, val;
    bool found = false;
    int rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->usage, &cursor));

    if (rc < 0)
        return rc;
    for (;;) {
        struct sample s;

        rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_FIRST));
        if (rc == 0)
            rc = decode_sample(&key, &val, &s);
        if (rc < 0 || s.revision > revision)
            break;
        rc = err_from_mdb(mdb_cursor_del(cursor, 0));
        if (rc < 0)
            break;
        *ret_last = s;
        found = true;
    }
    mdb_cursor_close(cursor);
    *ret_found = found;
    return rc == -ENOENT ? 0 : rc;
}

int usage_compact(struct snap *p, int64_t revision)
{
    struct usage *u = &p->state.usage;
    struct sample last = {0};
    bool found;
    int rc = take_samples(p, revision, &last, &found);

    if (rc < 0)
        return rc;
    if (revision == p->state.revision) {
        last = (struct sample){revision, u->log_bytes, u->live_bytes};
        found = true;
    }
    if (found) {
        u->base_log_bytes = last.log_bytes;
        u->base_live_bytes = last.live_bytes;
    }
    return 0;
}

int usage_forget_history(struct snap *p)
{
    struct usage *u = &p->state.usage;
    struct sample last;
    bool found;

    u->log_bytes = u->base_log_bytes = u->sampled_log_bytes = 0;
    u->base_live_bytes = u->live_bytes;
    return take_samples(p, INT64_MAX, &last, &found);
}

/* ---- an environment of version 0.1 ---- */

static int count_tree(struct snap *p, struct tree tree, bool dirs)
{
    struct usage *u = &p->state.usage;
    struct tree_iter it;
    int rc;

    tree_iter_init(&it, &tree);
    rc = tree_iter_seek(&it, slice_make(NULL, 0));
    while (rc == 0 && it.valid) {
        struct node node;

        rc = row_check(&it.raw_key, it.value);
        if (rc == 0)
            rc = node_row_decode(it.value, &node);
        if (rc < 0)
            break;
        if (dirs)
            usage_dir(u, 1, it.key.len);
        else
            usage_key(u, 1, it.key.len, &node);
        rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    return rc;
}

int usage_count(struct snap *p)
{
    int rc;

    p->state.usage = (struct usage){0};
    rc = count_tree(p, snap_keys(p), false);
    if (rc == 0)
        rc = count_tree(p, snap_dirs(p), true);
    return rc == 0 ? usage_forget_history(p) : rc;
}
