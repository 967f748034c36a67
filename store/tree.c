#include "store/tree.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/env.h"

/* An LMDB key of one layer, being built. */
struct piece {
    uint8_t data[TREE_LAYER_ID_BYTES + TREE_PIECE_BYTES + 1];
    MDB_val val;
};

uint32_t row_crc(const MDB_val *raw_key, const uint8_t *data, size_t len)
{
    return crc32c(crc32c(0, raw_key->mv_data, raw_key->mv_size), data, len);
}

int row_check(const MDB_val *raw_key, struct slice row)
{
    if (row.len < 4 || get_le32(row.data) != row_crc(raw_key, row.data + 4, row.len - 4))
        return -EUCLEAN;
    return 0;
}

/* The LMDB key for what is left of a key in layer id (0: the first): the rest itself, or the marker. */
static void make_piece(struct piece *p, uint64_t id, struct slice rest)
{
    size_t len = 0;

    if (id != 0) {
        put_be64(p->data, id);
        len = TREE_LAYER_ID_BYTES;
    }
    if (rest.len > TREE_PIECE_BYTES) {
        memcpy(p->data + len, rest.data, TREE_PIECE_BYTES);
        len += TREE_PIECE_BYTES;
        p->data[len++] = 0;
    } else if (rest.len > 0) {
        memcpy(p->data + len, rest.data, rest.len);
        len += rest.len;
    }
    p->val = (MDB_val){len, p->data};
}

static struct slice rest_after_piece(struct slice rest)
{
    return slice_make(rest.data + TREE_PIECE_BYTES, rest.len - TREE_PIECE_BYTES);
}

static MDB_dbi layer_dbi(const struct tree *t, uint64_t id)
{
    return id == 0 ? t->root : t->layers;
}

static int marker_read(const MDB_val *key, const MDB_val *val, uint64_t *ret_id)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    int rc = row_check(key, row);

    if (rc < 0 || row.len != TREE_MARKER_BYTES || get_le64(row.data + 4) == 0)
        return -EUCLEAN;
    *ret_id = get_le64(row.data + 4);
    return 0;
}

int tree_get(const struct tree *t, struct slice key, struct slice *ret_value)
{
    uint64_t id = 0;
    MDB_val val;
    int rc;

    if (key.len == 0 || key.len > TREE_KEY_MAX_BYTES)
        return -ENOENT;
    for (;; key = rest_after_piece(key)) {
        struct piece p;

        make_piece(&p, id, key);
        rc = err_from_mdb(mdb_get(t->txn, layer_dbi(t, id), &p.val, &val));
        if (rc < 0)
            return rc;
        if (key.len <= TREE_PIECE_BYTES) {
            rc = row_check(&p.val, slice_make(val.mv_data, val.mv_size));
            if (rc == 0)
                *ret_value = slice_make(val.mv_data, val.mv_size);
            return rc;
        }
        rc = marker_read(&p.val, &val, &id);
        if (rc < 0)
            return rc;
    }
}

/* value: the row with room for its CRC in the first four bytes, which depends on the LMDB key. */
int tree_put(const struct tree *t, struct slice key, struct slice value, uint64_t *next_layer)
{
    uint64_t id = 0;
    MDB_val val;
    int rc;

    if (key.len == 0 || key.len > TREE_KEY_MAX_BYTES || value.len < 4)
        return -EINVAL;
    for (;; key = rest_after_piece(key)) {
        struct piece p;
        uint8_t marker[TREE_MARKER_BYTES];
        MDB_dbi dbi = layer_dbi(t, id);

        make_piece(&p, id, key);
        if (key.len <= TREE_PIECE_BYTES) {
            val = (MDB_val){value.len, NULL};
            rc = err_from_mdb(mdb_put(t->txn, dbi, &p.val, &val, MDB_RESERVE));
            if (rc < 0)
                return rc;
            memcpy((uint8_t *)val.mv_data + 4, value.data + 4, value.len - 4);
            put_le32(val.mv_data, row_crc(&p.val, value.data + 4, value.len - 4));
            return 0;
        }
        rc = err_from_mdb(mdb_get(t->txn, dbi, &p.val, &val));
        if (rc == 0) {
            rc = marker_read(&p.val, &val, &id);
        } else if (rc == -ENOENT) {
            id = (*next_layer)++;
            put_le64(marker + 4, id);
            put_le32(marker, row_crc(&p.val, marker + 4, TREE_MARKER_BYTES - 4));
            val = (MDB_val){sizeof(marker), marker};
            rc = err_from_mdb(mdb_put(t->txn, dbi, &p.val, &val, 0));
        }
        if (rc < 0)
            return rc;
    }
}

/* 1 if a layer has no row any more. */
static int layer_is_empty(const struct tree *t, uint64_t id)
{
    struct piece p;
    MDB_cursor *cursor;
    MDB_val key, val;
    int rc = err_from_mdb(mdb_cursor_open(t->txn, t->layers, &cursor));

    if (rc < 0)
        return rc;
    make_piece(&p, id, slice_make(NULL, 0));
    key = p.val;
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    mdb_cursor_close(cursor);
    if (rc < 0)
        return rc == -ENOENT ? 1 : rc;
    return key.mv_size < TREE_LAYER_ID_BYTES || memcmp(key.mv_data, p.data, TREE_LAYER_ID_BYTES) != 0;
}

int tree_del(const struct tree *t, struct slice key)
{
    uint64_t ids[TREE_MAX_DEPTH];
    struct slice rests[TREE_MAX_DEPTH];
    unsigned depth = 0;
    struct piece p;
    MDB_val val;
    int rc;

    if (key.len == 0 || key.len > TREE_KEY_MAX_BYTES)
        return -ENOENT;
    ids[0] = 0;
    rests[0] = key;
    while (rests[depth].len > TREE_PIECE_BYTES) {
        make_piece(&p, ids[depth], rests[depth]);
        rc = err_from_mdb(mdb_get(t->txn, layer_dbi(t, ids[depth]), &p.val, &val));
        if (rc == 0)
            rc = marker_read(&p.val, &val, &ids[depth + 1]);
        if (rc < 0)
            return rc;
        rests[depth + 1] = rest_after_piece(rests[depth]);
        depth++;
    }
    for (;; depth--) {
        make_piece(&p, ids[depth], rests[depth]);
        rc = err_from_mdb(mdb_del(t->txn, layer_dbi(t, ids[depth]), &p.val, NULL));
        if (rc < 0 || depth == 0)
            return rc;
        rc = layer_is_empty(t, ids[depth]); /* then its marker goes as well */
        if (rc <= 0)
            return rc;
    }
}

/* ---- iterator ---- */

void tree_iter_init(struct tree_iter *it, const struct tree *t)
{
    it->tree = *t;
    it->key = it->value = slice_make(NULL, 0);
    it->depth = 0;
    it->valid = false;
    it->buffer = NULL;
    for (unsigned i = 0; i < TREE_MAX_DEPTH; i++)
        it->levels[i].cursor = NULL;
}

void tree_iter_fini(struct tree_iter *it)
{
    for (unsigned i = 0; i < TREE_MAX_DEPTH && it->levels[i].cursor != NULL; i++)
        mdb_cursor_close(it->levels[i].cursor);
    free(it->buffer);
    it->levels[0].cursor = NULL;
    it->buffer = NULL;
    it->valid = false;
}

static int open_level(struct tree_iter *it, unsigned depth, uint64_t id, size_t prefix_len)
{
    struct tree_level *l = &it->levels[depth];

    if (depth >= TREE_MAX_DEPTH - 1)
        return -EUCLEAN;
    if (depth > 0 && it->buffer == NULL) {
        it->buffer = malloc(TREE_MAX_DEPTH * TREE_PIECE_BYTES);
        if (it->buffer == NULL)
            return -ENOMEM;
    }
    if (l->cursor == NULL) {
        int rc = err_from_mdb(mdb_cursor_open(it->tree.txn, depth == 0 ? it->tree.root : it->tree.layers,
                                              &l->cursor));

        if (rc < 0)
            return rc;
    }
    l->id = id;
    l->prefix_len = prefix_len;
    it->depth = depth;
    return 0;
}

/* Moves the cursor of the current level. 1: it stands on a row of that layer; 0: the layer is at its end. */
static int move(struct tree_iter *it, const struct piece *to, MDB_cursor_op op, MDB_val *ret_key, MDB_val *ret_val)
{
    struct tree_level *l = &it->levels[it->depth];
    int rc;

    if (to != NULL)
        *ret_key = to->val;
    if (to != NULL && to->val.mv_size == 0)
        op = MDB_FIRST;
    rc = err_from_mdb(mdb_cursor_get(l->cursor, ret_key, ret_val, op));
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    if (l->id != 0) {
        if (ret_key->mv_size <= TREE_LAYER_ID_BYTES)
            return -EUCLEAN;
        if (get_be64(ret_key->mv_data) != l->id)
            return 0;
    }
    return 1;
}

/* The cursor of the current level stands on (key, val): is it a marker? Then sets the piece and its layer. */
static bool is_marker(const struct tree_iter *it, const MDB_val *key)
{
    size_t head = it->depth == 0 ? 0 : TREE_LAYER_ID_BYTES;

    return key->mv_size == head + TREE_PIECE_BYTES + 1;
}

/* Goes down from the marker at (key, val). */
static int descend(struct tree_iter *it, const MDB_val *key, const MDB_val *val)
{
    size_t prefix_len = it->levels[it->depth].prefix_len;
    size_t head = it->depth == 0 ? 0 : TREE_LAYER_ID_BYTES;
    uint64_t id;
    int rc = marker_read(key, val, &id);

    if (rc == 0)
        rc = open_level(it, it->depth + 1, id, prefix_len + TREE_PIECE_BYTES);
    if (rc == 0)
        memcpy(it->buffer + prefix_len, (uint8_t *)key->mv_data + head, TREE_PIECE_BYTES);
    return rc;
}

static void set_current(struct tree_iter *it, const MDB_val *key, const MDB_val *val)
{
    struct tree_level *l = &it->levels[it->depth];

    it->raw_key = *key;
    it->value = slice_make(val->mv_data, val->mv_size);
    it->valid = true;
    if (it->depth == 0) {
        it->key = slice_make(key->mv_data, key->mv_size);
        return;
    }
    memcpy(it->buffer + l->prefix_len, (uint8_t *)key->mv_data + TREE_LAYER_ID_BYTES,
           key->mv_size - TREE_LAYER_ID_BYTES);
    it->key = slice_make(it->buffer, l->prefix_len + key->mv_size - TREE_LAYER_ID_BYTES);
}

/* From the cursors' place (found: as move() told) to the nearest row at or after it. */
static int settle(struct tree_iter *it, int found, MDB_val *key, MDB_val *val)
{
    it->valid = false;
    for (;;) {
        if (found < 0)
            return found;
        if (found == 0) {
            if (it->depth == 0)
                return 0;
            it->depth--;
            found = move(it, NULL, MDB_NEXT, key, val);
        } else if (is_marker(it, key)) {
            struct piece first;
            int rc = descend(it, key, val);

            if (rc < 0)
                return rc;
            make_piece(&first, it->levels[it->depth].id, slice_make(NULL, 0));
            found = move(it, &first, MDB_SET_RANGE, key, val);
        } else {
            set_current(it, key, val);
            return 0;
        }
    }
}

int tree_iter_seek(struct tree_iter *it, struct slice key)
{
    struct piece p;
    MDB_val k, v;
    int rc, found;

    it->valid = false;
    if (key.len > TREE_KEY_MAX_BYTES)
        key.len = TREE_KEY_MAX_BYTES; /* no row's key is that long: the same place */
    rc = open_level(it, 0, 0, 0);
    for (;; key = rest_after_piece(key)) {
        if (rc < 0)
            return rc;
        make_piece(&p, it->levels[it->depth].id, key);
        found = move(it, &p, MDB_SET_RANGE, &k, &v);
        if (found <= 0 || key.len <= TREE_PIECE_BYTES || k.mv_size != p.val.mv_size ||
            memcmp(k.mv_data, p.data, k.mv_size) != 0)
            return settle(it, found, &k, &v);
        rc = descend(it, &k, &v);
    }
}

int tree_iter_next(struct tree_iter *it)
{
    MDB_val k, v;

    if (!it->valid)
        return 0;
    return settle(it, move(it, NULL, MDB_NEXT, &k, &v), &k, &v);
}
