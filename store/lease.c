/* Leases: when one ends, its keys are deleted and its locks released, in one revision. Time is the leader's business: here
 * a lease is a number, its TTL, and what the last checkpoint said to remain of it.
 *
 *   leases      id                        -> TTL, what remains
 *   lease_keys  id, create revision       -> the key
 *
 * A live key's create revision is its alone, and stays while it lives, so it stands for the key, which may be too long
 * for one of LMDB's. A row of lease_keys is written and removed with the key's own (lease_note). */
#include "store/lease.h"

#include <errno.h>
#include <stdlib.h>

#include "store/lock.h"
#include "store/usage.h"

#define LEASE_KEY_BYTES 8
#define ATTACHED_KEY_BYTES 20
#define LEASE_TTL_MIN_S 1

/* ---- rows ---- */

static int decode_lease(const MDB_val *key, const MDB_val *val, struct lease_info *ret_lease)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    struct reader r = reader_make(row);
    struct lease_info lease;
    uint8_t format;

    if (row_check(key, row) < 0 || key->mv_size != LEASE_KEY_BYTES)
        return -EUCLEAN;
    reader_u32(&r);
    format = reader_u8(&r);
    lease.id = (int64_t)get_be64(key->mv_data);
    lease.ttl_s = (int64_t)reader_varint(&r);
    lease.remaining_s = (int64_t)reader_varint(&r);
    if (reader_status(&r) < 0 || format == 0)
        return -EUCLEAN;
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    *ret_lease = lease;
    return 0;
}

static int save_lease(struct apply *a, const struct lease_info *lease)
{
    struct bytes *out = &a->b->scratch;
    uint8_t key_bytes[LEASE_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes}, val;

    bytes_reset(out);
    bytes_u32(out, 0);
    bytes_u8(out, ROW_FORMAT);
    bytes_varint(out, (uint64_t)lease->ttl_s);
    bytes_varint(out, (uint64_t)lease->remaining_s);
    if (bytes_status(out) < 0)
        return bytes_status(out);
    put_be64(key_bytes, (uint64_t)lease->id);
    put_le32(out->data, row_crc(&key, out->data + ROW_CRC_BYTES, out->len - ROW_CRC_BYTES));
    val = (MDB_val){out->len, out->data};
    return err_from_mdb(mdb_put(a->snap->txn, a->snap->store->leases, &key, &val, 0));
}

int lease_get(struct snap *p, int64_t id, struct lease_info *ret_lease)
{
    uint8_t key_bytes[LEASE_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes}, val;
    int rc;

    if (p->store->leases == 0)
        return -ENOENT;
    put_be64(key_bytes, (uint64_t)id);
    rc = err_from_mdb(mdb_get(p->txn, p->store->leases, &key, &val));
    return rc == 0 ? decode_lease(&key, &val, ret_lease) : rc;
}

int lease_check(struct snap *p, int64_t id, uint16_t *ret_status)
{
    struct lease_info lease;
    int rc = lease_get(p, id, &lease);

    *ret_status = rc == -ENOENT ? STATUS_LEASE_NOT_FOUND : STATUS_OK;
    return rc == -ENOENT ? 0 : rc;
}

/* ---- keys ---- */

static void attached_key(uint8_t *out, int64_t id, struct rev create)
{
    put_be64(out, (uint64_t)id);
    put_be64(out + 8, (uint64_t)create.main);
    put_be32(out + 16, (uint32_t)create.sub);
}

static int detach(struct apply *a, int64_t id, struct rev create, struct slice key)
{
    uint8_t key_bytes[ATTACHED_KEY_BYTES];
    MDB_val mdb_key = {sizeof(key_bytes), key_bytes};

    attached_key(key_bytes, id, create);
    usage_rows(&a->snap->state.usage, -(int64_t)(USAGE_LEASE_KEY_BYTES + key.len));
    return err_from_mdb(mdb_del(a->snap->txn, a->snap->store->lease_keys, &mdb_key, NULL));
}

static int attach(struct apply *a, int64_t id, struct rev create, struct slice key)
{
    uint8_t key_bytes[ATTACHED_KEY_BYTES];
    MDB_val mdb_key = {sizeof(key_bytes), key_bytes}, val = {ROW_CRC_BYTES + 1 + key.len, NULL};
    uint8_t *row;
    int rc;

    attached_key(key_bytes, id, create);
    rc = err_from_mdb(mdb_put(a->snap->txn, a->snap->store->lease_keys, &mdb_key, &val, MDB_RESERVE));
    if (rc < 0)
        return rc;
    usage_rows(&a->snap->state.usage, (int64_t)(USAGE_LEASE_KEY_BYTES + key.len));
    row = val.mv_data;
    row[ROW_CRC_BYTES] = ROW_FORMAT;
    memcpy(row + ROW_CRC_BYTES + 1, key.data, key.len);
    mdb_key = (MDB_val){sizeof(key_bytes), key_bytes};
    put_le32(row, row_crc(&mdb_key, row + ROW_CRC_BYTES, val.mv_size - ROW_CRC_BYTES));
    return 0;
}

int lease_note(struct apply *a, struct slice key, const struct node *before, const struct node *after)
{
    const int64_t old = before != NULL ? before->lease : 0, new = after != NULL ? after->lease : 0;
    int rc = 0;

    if (old == new)
        return 0; /* a key that lives on keeps its create revision */
    if (old != 0)
        rc = detach(a, old, before->create, key);
    if (rc == 0 && new != 0)
        rc = attach(a, new, after->create, key);
    return rc;
}

static int walk_keys(struct snap *p, int64_t id, store_lease_key_fn emit, void *ctx)
{
    uint8_t prefix[LEASE_KEY_BYTES];
    MDB_val key = {sizeof(prefix), prefix}, val;
    MDB_cursor *cursor;
    int rc;

    if (p->store->lease_keys == 0)
        return 0;
    rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->lease_keys, &cursor));
    if (rc < 0)
        return rc;
    put_be64(prefix, (uint64_t)id);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    while (rc == 0 && key.mv_size == ATTACHED_KEY_BYTES && memcmp(key.mv_data, prefix, sizeof(prefix)) == 0) {
        struct slice row = slice_make(val.mv_data, val.mv_size);

        rc = row_check(&key, row);
        if (rc == 0 && row.len <= ROW_CRC_BYTES + 1)
            rc = -EUCLEAN;
        if (rc == 0)
            rc = emit(ctx, slice_make(row.data + ROW_CRC_BYTES + 1, row.len - ROW_CRC_BYTES - 1));
        if (rc == 0)
            rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT));
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT || rc > 0 ? 0 : rc;
}

/* ---- the end of a lease ---- */

struct key_list {
    struct arena *arena;
    struct slice *keys;
    size_t n, cap;
};

static int collect_key(void *ctx, struct slice key)
{
    struct key_list *l = ctx;

    if (l->n == l->cap) {
        size_t cap = l->cap != 0 ? l->cap * 2 : 16;
        struct slice *keys = arena_array(l->arena, cap, sizeof(*keys));

        if (keys == NULL)
            return -ENOMEM;
        if (l->n > 0)
            memcpy(keys, l->keys, l->n * sizeof(*keys));
        l->keys = keys;
        l->cap = cap;
    }
    return arena_copy(l->arena, key, &l->keys[l->n++]);
}

static int order_keys(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* In key order, as etcd has it. */
static int delete_keys(struct apply *a, int64_t id)
{
    struct key_list l = {.arena = a->arena};
    int rc = walk_keys(a->snap, id, collect_key, &l);

    if (rc == 0 && l.n > 1)
        qsort(l.keys, l.n, sizeof(l.keys[0]), order_keys);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct node node;

        rc = range_get(a->snap, l.keys[i], &node);
        if (rc == 0 && node.lease != id)
            rc = -EUCLEAN;
        if (rc == 0)
            rc = apply_key_delete(a, l.keys[i], &node, 0);
    }
    return rc;
}

static int end_lease(struct apply *a, int64_t id)
{
    uint8_t key_bytes[LEASE_KEY_BYTES];
    MDB_val key = {sizeof(key_bytes), key_bytes};
    int rc = delete_keys(a, id);

    if (rc == 0)
        rc = lock_release_lease(a, id);
    if (rc < 0)
        return rc;
    put_be64(key_bytes, (uint64_t)id);
    usage_rows(&a->snap->state.usage, -USAGE_LEASE_BYTES);
    return err_from_mdb(mdb_del(a->snap->txn, a->snap->store->leases, &key, NULL));
}

/* ---- commands ---- */

static int grant(struct apply *a, struct result *result)
{
    const struct lease_op *op = &a->cmd->lease;
    struct lease_info lease = {.id = op->id, .ttl_s = op->ttl_s > LEASE_TTL_MIN_S ? op->ttl_s : LEASE_TTL_MIN_S};
    struct lease_info other;
    int rc;

    if (op->id == 0)
        result->status = STATUS_LEASE_NOT_FOUND;
    else if (op->ttl_s > LEASE_TTL_MAX_S)
        result->status = STATUS_LEASE_TTL_TOO_LARGE;
    if (result->status != STATUS_OK)
        return 0;
    rc = lease_get(a->snap, op->id, &other);
    if (rc == 0)
        result->status = STATUS_LEASE_EXISTS;
    if (rc != -ENOENT)
        return rc;
    usage_rows(&a->snap->state.usage, USAGE_LEASE_BYTES);
    result->lease.id = lease.id;
    result->lease.ttl_s = lease.ttl_s;
    return save_lease(a, &lease);
}

static int revoke(struct apply *a, struct result *result)
{
    int rc;

    if (a->cmd->kind == COMMAND_LEASE_EXPIRE && a->cmd->lease.term != a->term) {
        result->status = STATUS_NOT_LEADER; /* whose clock said so is not the leader any more */
        return 0;
    }
    rc = lease_check(a->snap, a->cmd->lease.id, &result->status);
    return rc == 0 && result->status == STATUS_OK ? end_lease(a, a->cmd->lease.id) : rc;
}

static int checkpoint(struct apply *a, struct result *result)
{
    int rc = 0;

    if (a->cmd->checkpoint.n_items > LEASE_CHECKPOINT_MAX)
        result->status = STATUS_TOO_LARGE;
    for (size_t i = 0; i < a->cmd->checkpoint.n_items; i++)
        if (a->cmd->checkpoint.items[i].remaining_s < 0)
            result->status = STATUS_INVALID_REQUEST;
    for (size_t i = 0; rc == 0 && result->status == STATUS_OK && i < a->cmd->checkpoint.n_items; i++) {
        const struct lease_checkpoint *c = &a->cmd->checkpoint.items[i];
        struct lease_info lease;

        rc = lease_get(a->snap, c->id, &lease);
        if (rc == -ENOENT) { /* it has ended meanwhile */
            rc = 0;
            continue;
        }
        lease.remaining_s = c->remaining_s;
        if (rc == 0)
            rc = save_lease(a, &lease);
    }
    return rc;
}

int apply_lease(struct apply *a, struct result *result)
{
    switch (a->cmd->kind) {
    case COMMAND_LEASE_GRANT:
        return grant(a, result);
    case COMMAND_LEASE_CHECKPOINT:
        return checkpoint(a, result);
    default:
        return revoke(a, result);
    }
}

/* ---- reads ---- */

int store_lease_get(struct store_read *r, int64_t id, struct lease_info *ret_lease)
{
    return lease_get(&r->snap, id, ret_lease);
}

int store_leases(struct store_read *r, int64_t after_id, store_lease_fn emit, void *ctx)
{
    uint8_t from[LEASE_KEY_BYTES];
    MDB_val key = {sizeof(from), from}, val;
    MDB_cursor *cursor;
    int rc;

    if (r->snap.store->leases == 0 || after_id == -1)
        return 0;
    rc = err_from_mdb(mdb_cursor_open(r->snap.txn, r->snap.store->leases, &cursor));
    if (rc < 0)
        return rc;
    put_be64(from, (uint64_t)after_id + 1);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    while (rc == 0) {
        struct lease_info lease;

        rc = decode_lease(&key, &val, &lease);
        if (rc == 0)
            rc = emit(ctx, &lease);
        if (rc == 0)
            rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT));
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT || rc > 0 ? 0 : rc;
}

int store_lease_keys(struct store_read *r, int64_t id, store_lease_key_fn emit, void *ctx)
{
    return walk_keys(&r->snap, id, emit, ctx);
}
