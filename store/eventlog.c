#include "store/eventlog.h"

#include <errno.h>

#define PIECES_MAX 65536

static int check_piece(const MDB_val *key, const MDB_val *val, struct slice *ret_piece)
{
    struct slice row = slice_make(val->mv_data, val->mv_size);
    int rc = row_check(key, row);

    if (rc == 0)
        *ret_piece = slice_make(row.data + ROW_CRC_BYTES, row.len - ROW_CRC_BYTES);
    return rc;
}

/* ---- writing ---- */

/* Copies the part of the stream (head, then value) that begins at offset. */
static void copy_stream(uint8_t *out, size_t n, size_t offset, struct slice head, struct slice value)
{
    if (offset < head.len) {
        size_t part = head.len - offset < n ? head.len - offset : n;

        memcpy(out, head.data + offset, part);
        out += part;
        n -= part;
        offset += part;
    }
    if (n > 0)
        memcpy(out, value.data + (offset - head.len), n);
}

int eventlog_append(struct snap *p, const struct log_row *row, struct slice value, struct bytes *scratch)
{
    bool own = rev_cmp(row->value_rev, row->event.rev) == 0;
    uint8_t key_bytes[LOG_KEY_BYTES];
    MDB_cursor *cursor;
    struct slice head;
    size_t total, offset = 0;
    unsigned piece = 0;
    int rc = snap_log_cursor(p, &cursor);

    if (rc < 0)
        return rc;
    bytes_reset(scratch);
    log_row_encode(row, scratch);
    if (bytes_status(scratch) < 0)
        return bytes_status(scratch);
    head = bytes_slice(scratch);
    total = head.len + (own ? value.len : 0);
    if (total / LOG_PIECE_BYTES + 1 > PIECES_MAX)
        return -EFBIG;
    do {
        size_t n = total - offset < LOG_PIECE_BYTES ? total - offset : LOG_PIECE_BYTES;
        MDB_val key = {LOG_KEY_BYTES, key_bytes}, val = {n + ROW_CRC_BYTES, NULL};
        uint8_t *out;

        log_key_encode(key_bytes, row->event.rev, (uint16_t)piece);
        rc = err_from_mdb(mdb_cursor_put(cursor, &key, &val, MDB_APPEND | MDB_RESERVE));
        if (rc < 0)
            return rc;
        out = val.mv_data;
        copy_stream(out + ROW_CRC_BYTES, n, offset, head, value);
        key = (MDB_val){LOG_KEY_BYTES, key_bytes};
        put_le32(out, row_crc(&key, out + ROW_CRC_BYTES, n));
        offset += n;
        piece++;
    } while (offset < total);
    return 0;
}

int eventlog_delete(struct snap *p, struct rev rev)
{
    uint8_t key_bytes[LOG_KEY_BYTES];
    MDB_val key = {LOG_KEY_BYTES, key_bytes}, val;
    MDB_cursor *cursor;
    int rc = snap_log_cursor(p, &cursor);

    if (rc < 0)
        return rc;
    log_key_encode(key_bytes, rev, 0);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    while (rc == 0 && key.mv_size == LOG_KEY_BYTES && memcmp(key.mv_data, key_bytes, 12) == 0) {
        rc = err_from_mdb(mdb_cursor_del(cursor, 0));
        if (rc < 0)
            return rc;
        /* After a delete the cursor stands on the next row, which GET_CURRENT may miss at a page's end. */
        key = (MDB_val){LOG_KEY_BYTES, key_bytes};
        rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    }
    return rc == -ENOENT ? 0 : rc;
}

/* ---- reading ---- */

static int get_piece(struct snap *p, struct rev rev, unsigned piece, struct slice *ret_piece)
{
    uint8_t key_bytes[LOG_KEY_BYTES];
    MDB_val key = {LOG_KEY_BYTES, key_bytes}, val;
    MDB_cursor *cursor;
    int rc = snap_log_cursor(p, &cursor);

    if (rc < 0)
        return rc;
    log_key_encode(key_bytes, rev, (uint16_t)piece);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_KEY));
    return rc == 0 ? check_piece(&key, &val, ret_piece) : rc;
}

static int next_piece(struct snap *p, struct rev rev, unsigned piece, struct slice *ret_piece)
{
    uint8_t expected[LOG_KEY_BYTES];
    MDB_val key, val;
    int rc = err_from_mdb(mdb_cursor_get(p->log_cursor, &key, &val, MDB_NEXT));

    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    log_key_encode(expected, rev, (uint16_t)piece);
    if (key.mv_size != LOG_KEY_BYTES || memcmp(key.mv_data, expected, LOG_KEY_BYTES) != 0)
        return -EUCLEAN;
    return check_piece(&key, &val, ret_piece);
}

/* Bytes [offset, offset + len) of the stream of the row at rev. */
static int read_stream(struct snap *p, struct rev rev, size_t offset, size_t len, struct arena *arena,
                       struct slice *ret_bytes)
{
    unsigned piece = (unsigned)(offset / LOG_PIECE_BYTES);
    size_t skip = offset % LOG_PIECE_BYTES, done = 0;
    struct slice part;
    uint8_t *out;
    int rc;

    if (len == 0) {
        *ret_bytes = slice_make(NULL, 0);
        return 0;
    }
    if ((offset + len - 1) / LOG_PIECE_BYTES >= PIECES_MAX)
        return -EUCLEAN;
    rc = get_piece(p, rev, piece, &part);
    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    if (part.len < skip || (part.len != LOG_PIECE_BYTES && part.len < skip + len))
        return -EUCLEAN;
    if (skip + len <= part.len)
        return snap_keep(p, slice_make(part.data + skip, len), arena, ret_bytes);
    out = arena_alloc(arena, len);
    if (out == NULL)
        return -ENOMEM;
    for (;;) {
        size_t n = part.len - skip < len - done ? part.len - skip : len - done;

        memcpy(out + done, part.data + skip, n);
        done += n;
        if (done == len)
            break;
        if (part.len != LOG_PIECE_BYTES)
            return -EUCLEAN;
        rc = next_piece(p, rev, ++piece, &part);
        if (rc < 0)
            return rc;
        skip = 0;
    }
    *ret_bytes = slice_make(out, len);
    return 0;
}

static int decode_row(struct snap *p, struct rev rev, struct slice piece, struct arena *arena,
                      struct log_row *ret_row)
{
    struct log_row row;
    int rc = log_row_decode(piece, rev, &row);

    if (rc == 0 && arena != NULL) {
        if (row.event.key.len < row.key_len)
            rc = read_stream(p, rev, row.key_offset, row.key_len, arena, &row.event.key);
        else
            rc = snap_keep(p, row.event.key, arena, &row.event.key);
    }
    if (rc == 0)
        *ret_row = row;
    return rc;
}

int eventlog_get(struct snap *p, struct rev rev, struct arena *arena, struct log_row *ret_row)
{
    struct slice piece;
    int rc;

    if (rev.main <= 0)
        return -ENOENT;
    rc = get_piece(p, rev, 0, &piece);
    return rc == 0 ? decode_row(p, rev, piece, arena, ret_row) : rc;
}

int eventlog_row_at_cursor(struct snap *p, const MDB_val *key, const MDB_val *val, struct arena *arena,
                           struct log_row *ret_row)
{
    struct slice piece;
    struct rev rev;
    uint16_t number;
    int rc = log_key_decode(slice_make(key->mv_data, key->mv_size), &rev, &number);

    if (rc == 0 && number != 0)
        rc = -EUCLEAN;
    if (rc == 0)
        rc = check_piece(key, val, &piece);
    return rc == 0 ? decode_row(p, rev, piece, arena, ret_row) : rc;
}

int eventlog_value(struct snap *p, const struct log_row *row, struct arena *arena, struct slice *ret_value)
{
    if (rev_cmp(row->value_rev, row->event.rev) != 0)
        return eventlog_value_at(p, row->value_rev, row->event.value_len, arena, ret_value);
    return read_stream(p, row->event.rev, row->value_offset, row->event.value_len, arena, ret_value);
}

int eventlog_value_at(struct snap *p, struct rev value_rev, uint64_t len, struct arena *arena,
                      struct slice *ret_value)
{
    struct log_row holder;
    int rc;

    if (len == 0) {
        *ret_value = slice_make(NULL, 0);
        return 0;
    }
    rc = eventlog_get(p, value_rev, NULL, &holder);
    if (rc == -ENOENT)
        return -EUCLEAN;
    if (rc < 0)
        return rc;
    if (rev_cmp(holder.value_rev, value_rev) != 0 || holder.event.value_len != len)
        return -EUCLEAN; /* only a row with a value of its own is referred to */
    return read_stream(p, value_rev, holder.value_offset, len, arena, ret_value);
}

/* ---- a key's history ---- */

/* The farthest link that stays above `want`; main 0: none does. */
static struct rev skip_above(const struct rev *skip, unsigned n_skip, int64_t want)
{
    while (n_skip > 0) {
        n_skip--;
        if (skip[n_skip].main > want)
            return skip[n_skip];
    }
    return (struct rev){0, 0};
}

int eventlog_find(struct snap *p, const struct chain *chain, int64_t want, struct arena *arena,
                  struct log_row *ret_row)
{
    struct rev at = chain->last;
    struct log_row row;
    int rc;

    if (at.main > want) {
        struct rev far = skip_above(chain->skip, chain->n_skip, want);

        if (far.main != 0)
            at = far;
    }
    while (at.main > want) {
        struct rev next;

        rc = eventlog_get(p, at, NULL, &row);
        if (rc < 0)
            return rc == -ENOENT ? -EUCLEAN : rc; /* rows above a readable revision are never removed */
        next = skip_above(row.skip, row.n_skip, want);
        if (next.main == 0)
            next = row.event.prev;
        if (next.main >= at.main)
            return -EUCLEAN;
        at = next;
    }
    if (at.main == 0)
        return 0;
    rc = eventlog_get(p, at, arena, ret_row);
    if (rc == -ENOENT)
        return at.main <= p->state.compacted ? 0 : -EUCLEAN;
    return rc < 0 ? rc : 1;
}

void eventlog_node(const struct log_row *row, struct node *ret_node)
{
    const struct event *e = &row->event;

    *ret_node = (struct node){
        .create = e->create,
        .chain.last = e->rev,
        .version = e->version,
        .lease = e->lease,
        .time_ns = e->time_ns,
        .attrs = e->attrs,
        .value_len = e->value_len,
        .value_rev = row->value_rev,
    };
}
