/* tree.h - ordered tables whose keys may be longer than LMDB's, by cutting long keys in layers.
 *
 * Process: any.
 * Thread:  that of the transaction.
 * Errors:  negative errno; -ENOENT for "no such row", -EUCLEAN for rows that lie.
 * Memory:  values and short keys point into the map: until the transaction's next write or its end. An
 *          iterator owns a buffer in which it puts long keys together: until it moves.
 * Units:   bytes.
 *
 * A layer holds pieces of at most TREE_PIECE_BYTES. A key that goes on after a whole piece P has a marker there, the
 * LMDB key P and one zero byte, whose value names the layer with the rests. No key of a layer is that long,
 * so markers cannot be mistaken, and the marker of P stands right after the key P itself and
 * before anything else: the exact byte order of whole keys.
 *
 *   table "keys":   "aaa...a" (502)          row of that key
 *                   "aaa...a" (502) 00       marker -> layer 7
 *   table "layers": 00 00 00 00 00 00 00 07 "bcd"   row of the key aaa...abcd
 *
 * The first layer of a table is a database of its own; all others share the database "layers". */
#ifndef STORE_TREE_H
#define STORE_TREE_H

#include <lmdb.h>

#include "base/slice.h"

#define TREE_PIECE_BYTES 502
#define TREE_LAYER_ID_BYTES 8
#define TREE_KEY_MAX_BYTES 16640 /* a little over KEY_MAX_BYTES, for bounds like prefix + "0" */
#define TREE_MAX_DEPTH (TREE_KEY_MAX_BYTES / TREE_PIECE_BYTES + 2)
#define TREE_MARKER_BYTES 12 /* CRC32C of LMDB key and rest, layer id */

struct tree {
    MDB_txn *txn;
    MDB_dbi root, layers;
};

int tree_get(const struct tree *t, struct slice key, struct slice *ret_value);
/* next_layer: the store's counter of layer ids, raised when the key needs new ones. */
int tree_put(const struct tree *t, struct slice key, struct slice value, uint64_t *next_layer);
int tree_del(const struct tree *t, struct slice key);

struct tree_level {
    MDB_cursor *cursor;
    uint64_t id;
    size_t prefix_len; /* of the whole key, that stands in the layers above */
};

/* Ascending. Not valid across writes to its tree: seek again. */
struct tree_iter {
    struct tree tree;
    struct slice key, value; /* of the current row; value without any check */
    MDB_val raw_key;         /* LMDB's key of the current row, what its CRC covers */
    unsigned depth;          /* levels in use less one */
    bool valid;              /* there is a current row */
    uint8_t *buffer;
    struct tree_level levels[TREE_MAX_DEPTH];
};

void tree_iter_init(struct tree_iter *it, const struct tree *t);
void tree_iter_fini(struct tree_iter *it);
/* To the first key >= key (which may be empty). Past the end it->valid is false and 0 is returned. */
int tree_iter_seek(struct tree_iter *it, struct slice key);
int tree_iter_next(struct tree_iter *it);

/* The CRC that starts every row of every table: over the LMDB key and what follows the CRC. */
uint32_t row_crc(const MDB_val *raw_key, const uint8_t *data, size_t len);
/* 0 if the first four bytes of the row are that CRC; -EUCLEAN. */
int row_check(const MDB_val *raw_key, struct slice row);

#endif
