/* Extended attributes. They belong to a node, so they stand under its inode number and stay with it under any name:
 *
 *   xattrs  inode number (8 BE), name, a zero byte, piece (2 BE) -> format, length and value, cut as rows of the log are
 *
 * A change is a change of the node's attributes too: its row and one of the log (EVENT_ATTR, EVENT_DIR_PUT), so that
 * everybody who follows the log sees that there is something new. When the node goes, or another takes its name
 * (xattr_forget), so do they. */
#include "store/xattr.h"

#include <errno.h>

#include "store/usage.h"

#define INO_BYTES 8
#define TAIL_BYTES 3 /* the zero byte and the piece's number */
#define KEY_BYTES (INO_BYTES + XATTR_NAME_MAX_BYTES + TAIL_BYTES)

struct xattr_key {
    uint8_t bytes[KEY_BYTES];
    MDB_val val;
};

static void make_key(struct xattr_key *k, uint64_t ino, struct slice name, uint16_t piece)
{
    put_be64(k->bytes, ino);
    memcpy(k->bytes + INO_BYTES, name.data, name.len);
    k->bytes[INO_BYTES + name.len] = 0;
    put_be16(k->bytes + INO_BYTES + name.len + 1, piece);
    k->val = (MDB_val){INO_BYTES + name.len + TAIL_BYTES, k->bytes};
}

/* ---- walking ---- */

struct head {
    struct slice name; /* in the map */
    uint64_t len;      /* of the value */
    struct slice part; /* of it, that stands in the first piece */
};

static int decode_head(const MDB_val *key, const MDB_val *val, struct head *ret_head)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    struct reader r = reader_make(row);
    struct head h;
    uint8_t format;

    if (row_check(key, row) < 0 || key->mv_size <= INO_BYTES + TAIL_BYTES)
        return -EUCLEAN;
    h.name = slice_make((uint8_t *)key->mv_data + INO_BYTES, key->mv_size - INO_BYTES - TAIL_BYTES);
    reader_u32(&r);
    format = reader_u8(&r);
    h.len = reader_varint(&r);
    h.part = slice_make(r.p, reader_left(&r));
    if (reader_status(&r) < 0 || format == 0 || h.len > XATTR_VALUE_MAX_BYTES || h.part.len > h.len)
        return -EUCLEAN;
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    *ret_head = h;
    return 0;
}

typedef int (*head_fn)(void *ctx, const struct head *head); /* 1 stops */

/* The attributes of a node, by name. */
static int walk(struct snap *p, uint64_t ino, head_fn emit, void *ctx)
{
    uint8_t prefix[INO_BYTES];
    MDB_val key = {sizeof(prefix), prefix}, val;
    MDB_cursor *cursor;
    int rc;

    if (p->store->xattrs == 0 || p->state.xattr_count == 0)
        return 0;
    rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->xattrs, &cursor));
    if (rc < 0)
        return rc;
    put_be64(prefix, ino);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    while (rc == 0 && key.mv_size > INO_BYTES && memcmp(key.mv_data, prefix, INO_BYTES) == 0) {
        struct xattr_key after;
        struct head h;

        rc = decode_head(&key, &val, &h);
        if (rc == 0)
            rc = emit(ctx, &h);
        if (rc != 0)
            break;
        make_key(&after, ino, h.name, UINT16_MAX); /* behind all its pieces */
        key = after.val;
        rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT || rc > 0 ? 0 : rc;
}

static int find(struct snap *p, uint64_t ino, struct slice name, struct head *ret_head)
{
    struct xattr_key k;
    MDB_val val;
    int rc;

    if (p->store->xattrs == 0 || p->state.xattr_count == 0 || name.len == 0 || name.len > XATTR_NAME_MAX_BYTES)
        return -ENODATA;
    make_key(&k, ino, name, 0);
    rc = err_from_mdb(mdb_get(p->txn, p->store->xattrs, &k.val, &val));
    if (rc == -ENOENT)
        return -ENODATA;
    return rc == 0 ? decode_head(&k.val, &val, ret_head) : rc;
}

/* ---- writing ---- */


static int put_value(struct apply *a, uint64_t ino, struct slice name, struct slice value)
{
    struct bytes *head = &a->b->scratch;
    size_t total, offset = 0;
    uint16_t piece = 0;
    int rc;

    bytes_reset(head);
    bytes_u8(head, ROW_FORMAT);
    bytes_varint(head, value.len);
    bytes_append(head, value);
    rc = bytes_status(head);
    total = head->len;
    while (rc == 0 && offset < total) {
        size_t n = total - offset < LOG_PIECE_BYTES ? total - offset : LOG_PIECE_BYTES;
        MDB_val val = {n + ROW_CRC_BYTES, NULL};
        struct xattr_key k;
        uint8_t *row;

        make_key(&k, ino, name, piece++);
        rc = err_from_mdb(mdb_put(a->snap->txn, a->snap->store->xattrs, &k.val, &val, MDB_RESERVE));
        if (rc < 0)
            return rc;
        row = val.mv_data;
        memcpy(row + ROW_CRC_BYTES, head->data + offset, n);
        put_le32(row, row_crc(&k.val, row + ROW_CRC_BYTES, n));
        offset += n;
    }
    usage_rows(&a->snap->state.usage, (int64_t)(USAGE_XATTR_BYTES + name.len + value.len));
    a->snap->state.xattr_count++;
    return rc;
}

/* The attribute is there. name must not stand in the map. */
static int remove_value(struct apply *a, uint64_t ino, struct slice name, uint64_t value_len)
{
    uint16_t piece = 0;

    for (;;) {
        struct xattr_key k;
        int rc;

        make_key(&k, ino, name, piece);
        rc = err_from_mdb(mdb_del(a->snap->txn, a->snap->store->xattrs, &k.val, NULL));
        if (rc == -ENOENT && piece > 0)
            break;
        if (rc < 0)
            return rc;
        piece++;
    }
    usage_rows(&a->snap->state.usage, -(int64_t)(USAGE_XATTR_BYTES + name.len + value_len));
    a->snap->state.xattr_count--;
    return 0;
}

struct first {
    uint8_t name[XATTR_NAME_MAX_BYTES];
    size_t name_len;
    uint64_t value_len;
    bool found;
};

static int take_first(void *ctx, const struct head *h)
{
    struct first *f = ctx;

    if (h->name.len > sizeof(f->name))
        return -EUCLEAN;
    memcpy(f->name, h->name.data, h->name.len);
    f->name_len = h->name.len;
    f->value_len = h->len;
    f->found = true;
    return 1;
}

int xattr_forget(struct apply *a, uint64_t ino)
{
    while (a->snap->state.xattr_count > 0) {
        struct first f = {.found = false};
        int rc = walk(a->snap, ino, take_first, &f);

        if (rc < 0 || !f.found)
            return rc;
        rc = remove_value(a, ino, slice_make(f.name, f.name_len), f.value_len);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- commands ---- */

struct total {
    struct slice except;
    uint64_t bytes, names_bytes;
};

static int add_up(void *ctx, const struct head *h)
{
    struct total *t = ctx;

    if (slice_equal(h->name, t->except))
        return 0;
    t->bytes += XATTR_OVERHEAD_BYTES + h->name.len + h->len;
    t->names_bytes += h->name.len + 1;
    return 0;
}

static uint16_t check_shape(const struct command *cmd)
{
    const struct file_op *op = &cmd->file;

    if (op->path2.len == 0 || memchr(op->path2.data, 0, op->path2.len) != NULL ||
        (op->flags & (FILE_CREATE | FILE_REPLACE)) == (FILE_CREATE | FILE_REPLACE))
        return STATUS_INVALID_REQUEST;
    if (op->path2.len > XATTR_NAME_MAX_BYTES)
        return STATUS_NAME_TOO_LONG;
    return cmd->kind == COMMAND_FILE_SETXATTR && op->value.len > XATTR_VALUE_MAX_BYTES ? STATUS_ATTRIBUTE_TOO_LARGE
                                                                                       : STATUS_OK;
}

static int check_room(struct apply *a, uint64_t ino, uint16_t *ret_status)
{
    const struct file_op *op = &a->cmd->file;
    struct total t = {.except = op->path2};
    int rc = walk(a->snap, ino, add_up, &t);

    t.bytes += XATTR_OVERHEAD_BYTES + op->path2.len + op->value.len;
    t.names_bytes += op->path2.len + 1;
    if (t.bytes > XATTR_NODE_MAX_BYTES || t.names_bytes > XATTR_NAMES_MAX_BYTES)
        *ret_status = STATUS_ATTRIBUTES_FULL;
    return rc;
}

int apply_xattr(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    const bool set = a->cmd->kind == COMMAND_FILE_SETXATTR;
    struct target t;
    struct head old;
    bool as_dir, exists;
    uint64_t ino;
    int rc;

    result->status = check_shape(a->cmd);
    if (result->status != STATUS_OK)
        return 0;
    rc = apply_find_node(a, &t, &as_dir, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    ino = as_dir ? t.dir_ino : t.key_ino;
    rc = find(a->snap, ino, op->path2, &old);
    if (rc < 0 && rc != -ENODATA)
        return rc;
    exists = rc == 0;
    rc = 0;
    if (!exists && (!set || (op->flags & FILE_REPLACE) != 0))
        result->status = STATUS_NO_ATTRIBUTE;
    else if (exists && set && (op->flags & FILE_CREATE) != 0)
        result->status = STATUS_EXISTS;
    else if (set)
        rc = check_room(a, ino, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    rc = apply_touch_node(a, &t, as_dir, result);
    if (rc == 0 && exists)
        rc = remove_value(a, ino, op->path2, old.len);
    return rc == 0 && set ? put_value(a, ino, op->path2, op->value) : rc;
}

/* ---- reads ---- */

static int node_ino(struct store_read *r, struct slice path, uint64_t *ret_ino)
{
    struct target t;
    int rc = view_load(&r->snap, path, &t);

    if (rc < 0)
        return rc;
    if (!t.is_dir && !t.has_key)
        return -ENOENT;
    *ret_ino = t.is_dir ? t.dir_ino : t.key_ino;
    return 0;
}

int store_xattr_get_ino(struct store_read *r, uint64_t ino, struct slice name, struct arena *arena,
                        struct slice *ret_value)
{
    struct snap *p = &r->snap;
    uint16_t piece = 0;
    struct head h;
    uint8_t *out;
    size_t done;
    int rc = find(p, ino, name, &h);

    if (rc < 0)
        return rc;
    out = arena_alloc(arena, h.len != 0 ? h.len : 1);
    if (out == NULL)
        return -ENOMEM;
    memcpy(out, h.part.data, h.part.len);
    for (done = h.part.len; done < h.len;) {
        struct xattr_key k;
        struct slice row;
        MDB_val val;

        make_key(&k, ino, name, ++piece);
        rc = err_from_mdb(mdb_get(p->txn, p->store->xattrs, &k.val, &val));
        if (rc < 0)
            return rc == -ENOENT ? -EUCLEAN : rc;
        row = slice_make(val.mv_data, val.mv_size);
        if (row_check(&k.val, row) < 0 || row.len == ROW_CRC_BYTES || row.len - ROW_CRC_BYTES > h.len - done)
            return -EUCLEAN;
        memcpy(out + done, row.data + ROW_CRC_BYTES, row.len - ROW_CRC_BYTES);
        done += row.len - ROW_CRC_BYTES;
    }
    *ret_value = slice_make(out, h.len);
    return 0;
}

int store_xattr_get(struct store_read *r, struct slice path, struct slice name, struct arena *arena,
                    struct slice *ret_value)
{
    uint64_t ino;
    int rc = node_ino(r, path, &ino);

    return rc == 0 ? store_xattr_get_ino(r, ino, name, arena, ret_value) : rc;
}

struct list {
    store_xattr_fn emit;
    void *ctx;
};

static int emit_head(void *ctx, const struct head *h)
{
    struct list *l = ctx;

    return l->emit(l->ctx, h->name, h->len);
}

int store_xattr_list_ino(struct store_read *r, uint64_t ino, store_xattr_fn emit, void *ctx)
{
    struct list l = {emit, ctx};

    return walk(&r->snap, ino, emit_head, &l);
}

int store_xattr_list(struct store_read *r, struct slice path, store_xattr_fn emit, void *ctx)
{
    uint64_t ino;
    int rc = node_ino(r, path, &ino);

    return rc == 0 ? store_xattr_list_ino(r, ino, emit, ctx) : rc;
}
