/* Compaction at C keeps, of every key, the newest row at or before C, and all rows after it. So
 *   - each row in (old C, C] removes its predecessor,
 *   - each tombstone in [old C, C) removes itself, and the row of `gone` that tells of it. One at exactly C stays until
 *     the next compaction: a watch from C may still ask for it. The same for other rows that leave nothing
 *     behind (a directory's delete, a rename's header, a lock's grant).
 * Reads never follow a link onto a removed row (eventlog_find), and apply takes a tombstone below C for absent whether it
 * has been removed or not. So nodes may be at different places of the removal and give the same answers.
 *
 * Content that a later row refers to outlives its own row's key history. It has one user at a time: the row that
 * removes its predecessor keeps the predecessor's content if it refers to the same, or if it is marked as the
 * place from which the content moved to another key; otherwise the content goes as well. */
#include "store/compact.h"

#include <errno.h>

#include "store/batch.h"
#include "store/eventlog.h"
#include "store/usage.h"

int compact_begin(struct snap *p, int64_t revision)
{
    struct state *state = &p->state;
    const struct rev last = {state->compacted, 0}; /* what stayed because it stood at the last one */

    if (rev_cmp(state->removal, last) > 0)
        state->removal = last;
    state->compacted = revision;
    return usage_compact(p, revision);
}

static bool refers_to_other(const struct log_row *row)
{
    return rev_cmp(row->value_rev, row->event.rev) != 0;
}

/* Removes the row before `row` in its key's history. */
static int remove_predecessor(struct snap *p, const struct log_row *row)
{
    struct log_row prev;
    bool keep_value;
    int rc;

    rc = eventlog_get(p, row->event.prev, NULL, &prev);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc; /* done before */
    keep_value = prev.event.value_len > 0 && ((row->event.flags & EVENT_VALUE_MOVED) != 0 ||
                                              rev_cmp(row->value_rev, prev.value_rev) == 0);
    if (!refers_to_other(&prev))
        return keep_value ? 0 : eventlog_delete(p, prev.event.rev);
    rc = eventlog_delete(p, prev.event.rev);
    return rc < 0 || keep_value ? rc : eventlog_delete(p, prev.value_rev);
}

/* Removes a tombstone's row of `gone`, unless the key has a later one. */
static int remove_gone(struct snap *p, struct rev rev, struct slice key)
{
    struct tree gone = snap_gone(p);
    struct chain chain;
    struct slice row;
    int rc = tree_get(&gone, key, &row);

    if (rc == 0)
        rc = gone_row_decode(row, &chain);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    return rev_cmp(chain.last, rev) == 0 ? tree_del(&gone, key) : 0;
}

static int compact_row(struct snap *p, const struct log_row *row)
{
    const enum event_kind kind = row->event.kind;
    const bool leaves_nothing = kind == EVENT_DELETE || kind == EVENT_DIR_DELETE || kind == EVENT_RENAME ||
                                kind == EVENT_LOCK;
    int rc = 0;

    if (row->event.prev.main != 0)
        rc = remove_predecessor(p, row);
    if (rc < 0 || !leaves_nothing || row->event.rev.main >= p->state.compacted)
        return rc;
    if (kind == EVENT_DELETE)
        rc = remove_gone(p, row->event.rev, row->event.key);
    return rc == 0 ? eventlog_delete(p, row->event.rev) : rc;
}

/* The first row at or after state.removal, if it is within the compaction. 1 and the row; 0. */
static int next_row(struct snap *p, struct arena *arena, struct log_row *ret_row)
{
    uint8_t key_bytes[LOG_KEY_BYTES];
    MDB_val key = {LOG_KEY_BYTES, key_bytes}, val;
    MDB_cursor *cursor;
    uint16_t piece;
    struct rev rev;
    int rc = snap_log_cursor(p, &cursor);

    if (rc < 0)
        return rc;
    log_key_encode(key_bytes, p->state.removal, 0);
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
    if (rc == 0)
        rc = log_key_decode(slice_make(key.mv_data, key.mv_size), &rev, &piece);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    if (rev.main > p->state.compacted)
        return 0;
    rc = eventlog_row_at_cursor(p, &key, &val, arena, ret_row);
    return rc < 0 ? rc : 1;
}

int store_batch_compact(struct store_batch *b, size_t max_rows, bool *ret_more)
{
    struct snap *p = &b->snap;
    struct arena arena;
    bool more = p->state.removal.main <= p->state.compacted && p->state.compacted > 0;
    int rc = b->status;

    arena_init(&arena);
    for (size_t i = 0; rc == 0 && more && i < max_rows; i++) {
        struct log_row row;

        arena_reset(&arena);
        rc = next_row(p, &arena, &row);
        if (rc < 0)
            break;
        if (rc == 0) {
            p->state.removal = (struct rev){p->state.compacted + 1, 0};
            more = false;
            break;
        }
        rc = compact_row(p, &row);
        p->state.removal = (struct rev){row.event.rev.main, row.event.rev.sub + 1};
    }
    arena_fini(&arena);
    if (rc < 0)
        b->status = rc;
    else
        *ret_more = more;
    return rc;
}
