/* Rows of the table `locks`:
 *
 *   0, inode (8 BE), id (8 BE)                          a lock or a waiter
 *   1, lease (8 BE), inode (8 BE)                       the lease has something on the inode
 *   2, session (8 BE), owner (8 BE), inode, id (8 BE)   the owner has that, or waits for it
 *
 * An inode has at most LOCK_NODE_MAX of them, so a command takes all of them into memory, decides, and writes what
 * changed. */
#include "store/lock_table.h"

#include <errno.h>

#include "store/row.h"
#include "store/usage.h"

enum { BY_INODE = 0, BY_LEASE = 1, BY_OWNER = 2 };

#define INODE_KEY_BYTES 17
#define LEASE_KEY_BYTES 17
#define OWNER_KEY_BYTES 33
#define FLAG_WAITS 1

/* ---- rows ---- */

static int decode_item(const MDB_val *key, const MDB_val *val, struct lock_item *ret_item)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    struct reader r = reader_make(row);
    struct lock_item item = {.stored = true};
    uint8_t format;

    if (row_check(key, row) < 0 || key->mv_size != INODE_KEY_BYTES)
        return -EUCLEAN;
    item.op.ino = get_be64((uint8_t *)key->mv_data + 1);
    item.id = get_be64((uint8_t *)key->mv_data + 9);
    reader_u32(&r);
    format = reader_u8(&r);
    item.op.wait = (reader_u8(&r) & FLAG_WAITS) != 0;
    item.op.kind = reader_u8(&r);
    item.op.type = reader_u8(&r);
    item.op.pid = reader_u32(&r);
    item.op.session = reader_u64(&r);
    item.op.owner = reader_u64(&r);
    item.op.request = reader_u64(&r);
    item.op.start = reader_u64(&r);
    item.op.end = reader_u64(&r);
    item.op.lease = (int64_t)reader_u64(&r);
    item.token = reader_u64(&r);
    if (reader_status(&r) < 0 || format == 0 || item.op.start > item.op.end)
        return -EUCLEAN;
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    *ret_item = item;
    return 0;
}

static int put_row(struct lock_table *t, MDB_val *key, struct bytes *row)
{
    MDB_val val;

    if (bytes_status(row) < 0)
        return bytes_status(row);
    put_le32(row->data, row_crc(key, row->data + ROW_CRC_BYTES, row->len - ROW_CRC_BYTES));
    val = (MDB_val){row->len, row->data};
    return err_from_mdb(mdb_put(t->snap->txn, t->snap->store->locks, key, &val, 0));
}

static int delete_row(struct lock_table *t, MDB_val *key)
{
    return err_from_mdb(mdb_del(t->snap->txn, t->snap->store->locks, key, NULL));
}

static MDB_val inode_key(uint8_t *out, uint64_t ino, uint64_t id)
{
    out[0] = BY_INODE;
    put_be64(out + 1, ino);
    put_be64(out + 9, id);
    return (MDB_val){INODE_KEY_BYTES, out};
}

static MDB_val lease_key(uint8_t *out, int64_t lease, uint64_t ino)
{
    out[0] = BY_LEASE;
    put_be64(out + 1, (uint64_t)lease);
    put_be64(out + 9, ino);
    return (MDB_val){LEASE_KEY_BYTES, out};
}

static MDB_val owner_key(uint8_t *out, const struct lock_op *op, uint64_t ino, uint64_t id)
{
    out[0] = BY_OWNER;
    put_be64(out + 1, op->session);
    put_be64(out + 9, op->owner);
    put_be64(out + 17, ino);
    put_be64(out + 25, id);
    return (MDB_val){OWNER_KEY_BYTES, out};
}

static void begin_row(struct bytes *row)
{
    bytes_reset(row);
    bytes_u32(row, 0);
    bytes_u8(row, ROW_FORMAT);
}

static int put_item(struct lock_table *t, const struct lock_item *item, struct bytes *row)
{
    uint8_t key_bytes[OWNER_KEY_BYTES];
    MDB_val key = inode_key(key_bytes, t->ino, item->id);
    int rc;

    begin_row(row);
    bytes_u8(row, item->op.wait ? FLAG_WAITS : 0);
    bytes_u8(row, (uint8_t)item->op.kind);
    bytes_u8(row, (uint8_t)item->op.type);
    bytes_u32(row, item->op.pid);
    bytes_u64(row, item->op.session);
    bytes_u64(row, item->op.owner);
    bytes_u64(row, item->op.request);
    bytes_u64(row, item->op.start);
    bytes_u64(row, item->op.end);
    bytes_u64(row, (uint64_t)item->op.lease);
    bytes_u64(row, item->token);
    rc = put_row(t, &key, row);
    if (rc < 0)
        return rc;
    key = owner_key(key_bytes, &item->op, t->ino, item->id);
    begin_row(row);
    return put_row(t, &key, row);
}

static int delete_item(struct lock_table *t, const struct lock_item *item)
{
    uint8_t key_bytes[OWNER_KEY_BYTES];
    MDB_val key = inode_key(key_bytes, t->ino, item->id);
    int rc = delete_row(t, &key);

    if (rc < 0)
        return rc;
    key = owner_key(key_bytes, &item->op, t->ino, item->id);
    return delete_row(t, &key);
}

/* The row that leads from a lease to this inode, if that changed. */
static int save_lease(struct lock_table *t, int64_t lease, struct bytes *row)
{
    uint8_t key_bytes[LEASE_KEY_BYTES];
    MDB_val key = lease_key(key_bytes, lease, t->ino);
    bool before = false, after = false;

    for (size_t i = 0; i < t->n; i++) {
        before |= t->items[i].op.lease == lease && t->items[i].stored;
        after |= t->items[i].op.lease == lease && !t->items[i].gone;
    }
    if (before == after)
        return 0;
    if (!after) { /* it may be the second look at the same lease */
        int rc = delete_row(t, &key);

        return rc == -ENOENT ? 0 : rc;
    }
    begin_row(row);
    return put_row(t, &key, row);
}

static bool has_changed(const struct lock_item *item)
{
    return item->stored == item->gone;
}

int lock_table_save(struct lock_table *t, struct bytes *scratch)
{
    struct state *state = &t->snap->state;
    int64_t saved = 0, more;
    int rc = 0;

    lock_table_count(t, &more);
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        const struct lock_item *item = &t->items[i];

        if (!has_changed(item))
            continue;
        rc = item->gone ? delete_item(t, item) : put_item(t, item, scratch);
        if (rc == 0 && item->op.lease != 0 && item->op.lease != saved)
            rc = save_lease(t, item->op.lease, scratch);
        saved = item->op.lease;
    }
    state->lock_count += (uint64_t)more;
    usage_rows(&state->usage, more * USAGE_LOCK_BYTES);
    return rc;
}

size_t lock_table_count(const struct lock_table *t, int64_t *ret_more)
{
    size_t n = 0;

    *ret_more = 0;
    for (size_t i = 0; i < t->n; i++) {
        n += !t->items[i].gone;
        *ret_more += (int)!t->items[i].gone - (int)t->items[i].stored;
    }
    return n;
}

/* ---- reading ---- */

static int walk_prefix(struct snap *p, const uint8_t *prefix, size_t len,
                       int (*emit)(void *ctx, const MDB_val *key, const MDB_val *val), void *ctx)
{
    MDB_val key = {len, (void *)prefix}, val;
    MDB_cursor *cursor;
    int rc;

    if (p->store->locks == 0 || p->state.lock_count == 0)
        return 0;
    rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->locks, &cursor));
    if (rc < 0)
        return rc;
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    while (rc == 0 && key.mv_size >= len && memcmp(key.mv_data, prefix, len) == 0) {
        rc = emit(ctx, &key, &val);
        if (rc == 0)
            rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT));
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT || rc > 0 ? 0 : rc;
}

struct item_walk {
    lock_item_fn emit;
    void *ctx;
};

static int emit_item(void *ctx, const MDB_val *key, const MDB_val *val)
{
    struct item_walk *w = ctx;
    struct lock_item item;
    int rc = decode_item(key, val, &item);

    return rc == 0 ? w->emit(w->ctx, &item) : rc;
}

int lock_walk(struct snap *p, uint64_t ino, bool one_inode, lock_item_fn emit, void *ctx)
{
    struct item_walk w = {emit, ctx};
    uint8_t prefix[INODE_KEY_BYTES];

    inode_key(prefix, ino, 0);
    return walk_prefix(p, prefix, one_inode ? 9 : 1, emit_item, &w);
}

struct place_walk {
    lock_place_fn emit;
    void *ctx;
    size_t key_bytes, ino_at;
};

static int emit_place(void *ctx, const MDB_val *key, const MDB_val *val)
{
    struct place_walk *w = ctx;
    const uint8_t *bytes = key->mv_data;

    if (key->mv_size != w->key_bytes || row_check(key, slice_make(val->mv_data, val->mv_size)) < 0)
        return -EUCLEAN;
    return w->emit(w->ctx, get_be64(bytes + w->ino_at),
                   w->key_bytes == OWNER_KEY_BYTES ? get_be64(bytes + w->ino_at + 8) : 0);
}

int lock_owner_items(struct snap *p, const struct lock_op *owner, lock_place_fn emit, void *ctx)
{
    struct place_walk w = {emit, ctx, OWNER_KEY_BYTES, 17};
    uint8_t prefix[OWNER_KEY_BYTES];

    owner_key(prefix, owner, 0, 0);
    return walk_prefix(p, prefix, 17, emit_place, &w);
}

int lock_lease_inodes(struct snap *p, int64_t lease, lock_place_fn emit, void *ctx)
{
    struct place_walk w = {emit, ctx, LEASE_KEY_BYTES, 9};
    uint8_t prefix[LEASE_KEY_BYTES];

    lease_key(prefix, lease, 0);
    return walk_prefix(p, prefix, 9, emit_place, &w);
}

static int add_item(struct lock_table *t, const struct lock_item *item)
{
    if (t->n == t->cap) {
        size_t cap = t->cap != 0 ? t->cap * 2 : 16;
        struct lock_item *items = arena_array(t->arena, cap, sizeof(*items));

        if (items == NULL)
            return -ENOMEM;
        if (t->n > 0)
            memcpy(items, t->items, t->n * sizeof(*items));
        t->items = items;
        t->cap = cap;
    }
    t->items[t->n++] = *item;
    t->n_held += !item->op.wait;
    return 0;
}

static int take_item(void *ctx, const struct lock_item *item)
{
    return add_item(ctx, item);
}

int lock_table_load(struct snap *p, uint64_t ino, struct arena *arena, struct lock_table *ret_table)
{
    *ret_table = (struct lock_table){.snap = p, .arena = arena, .ino = ino};
    return lock_walk(p, ino, true, take_item, ret_table);
}

int lock_table_add(struct lock_table *t, const struct lock_op *op, uint64_t token)
{
    struct lock_item item = {.op = *op, .id = ++t->snap->state.lock_serial, .token = token};

    item.op.ino = t->ino;
    return add_item(t, &item);
}

void lock_table_drop(struct lock_table *t, struct lock_item *item)
{
    t->n_held -= !item->gone && !item->op.wait;
    item->gone = true;
}

/* ---- ranges ---- */

static bool overlaps(const struct lock_op *a, const struct lock_op *b)
{
    return a->start <= b->end && b->start <= a->end;
}

static bool touches(const struct lock_op *a, const struct lock_op *b)
{
    return overlaps(a, b) || (a->end != UINT64_MAX && a->end + 1 == b->start) ||
           (b->end != UINT64_MAX && b->end + 1 == a->start);
}

bool lock_conflicts(const struct lock_op *a, const struct lock_op *b)
{
    return a->kind == b->kind && !lock_same_owner(a, b) && overlaps(a, b) &&
           (a->type == LOCK_EXCLUSIVE || b->type == LOCK_EXCLUSIVE);
}

/* Does the waiter wait for a lock of op's owner? From the youngest: in a long queue those that are held came last. */
static bool waits_for(const struct lock_table *t, const struct lock_item *waiter, const struct lock_op *op)
{
    size_t left = t->n_held;

    for (size_t i = t->n; left > 0 && i-- > 0;) {
        const struct lock_item *item = &t->items[i];

        if (item->gone || item->op.wait)
            continue;
        if (lock_same_owner(&item->op, op) && lock_conflicts(&item->op, &waiter->op))
            return true;
        left--;
    }
    return false;
}

struct lock_item *lock_table_blocker(const struct lock_table *t, const struct lock_op *op, uint64_t id, bool queue,
                                     size_t *at)
{
    for (; *at < t->n; (*at)++) {
        struct lock_item *item = &t->items[*at];

        if (item->gone || !lock_conflicts(&item->op, op))
            continue;
        if (item->op.wait && (!queue || item->id >= id || waits_for(t, item, op)))
            continue;
        (*at)++;
        return item;
    }
    return NULL;
}

/* What is left of an item around op's range. */
static int keep_rests(struct lock_table *t, struct lock_item item, const struct lock_op *op)
{
    struct lock_op rest = item.op;
    int rc = 0;

    if (item.op.start < op->start) {
        rest.end = op->start - 1;
        rc = lock_table_add(t, &rest, item.token);
    }
    rest = item.op;
    if (rc == 0 && item.op.end > op->end) {
        rest.start = op->end + 1;
        rc = lock_table_add(t, &rest, item.token);
    }
    return rc;
}

int lock_table_free(struct lock_table *t, const struct lock_op *op)
{
    const size_t n = t->n;

    for (size_t i = 0; i < n; i++) {
        struct lock_item *item = &t->items[i];
        int rc;

        if (item->gone || item->op.wait || item->op.kind != op->kind || !lock_same_owner(&item->op, op) ||
            !overlaps(&item->op, op))
            continue;
        lock_table_drop(t, item);
        rc = keep_rests(t, *item, op);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int lock_table_hold(struct lock_table *t, const struct lock_op *op, uint64_t token)
{
    struct lock_op held = *op;
    int rc = lock_table_free(t, op);

    held.wait = false;
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        struct lock_item *item = &t->items[i];

        if (item->gone || item->op.wait || item->op.kind != op->kind || item->op.type != op->type ||
            !lock_same_owner(&item->op, op) || !touches(&item->op, op))
            continue;
        lock_table_drop(t, item);
        held.start = item->op.start < held.start ? item->op.start : held.start;
        held.end = item->op.end > held.end ? item->op.end : held.end;
    }
    return rc == 0 ? lock_table_add(t, &held, token) : rc;
}
