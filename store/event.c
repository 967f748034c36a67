#include <errno.h>
#include <stdlib.h>

#include "store/eventlog.h"
#include "store/range.h"

#define EVENT_FLAGS_PUBLIC (EVENT_OF_RENAME | EVENT_CREATED | EVENT_EXCHANGE)

static struct event public_event(const struct log_row *row)
{
    struct event e = row->event;

    e.flags &= EVENT_FLAGS_PUBLIC;
    return e;
}

/* The cursor on the first piece of the first row at or after rev; -ENOENT. */
static int seek_row(MDB_cursor *cursor, struct rev rev, MDB_val *ret_key, MDB_val *ret_val)
{
    uint8_t bytes[LOG_KEY_BYTES];

    log_key_encode(bytes, rev, 0);
    *ret_key = (MDB_val){LOG_KEY_BYTES, bytes};
    return err_from_mdb(mdb_cursor_get(cursor, ret_key, ret_val, MDB_SET_RANGE));
}

/* From a row to the next row's first piece. */
static int next_row(MDB_cursor *cursor, struct rev rev, MDB_val *ret_key, MDB_val *ret_val)
{
    struct rev found;
    uint16_t piece;
    int rc = err_from_mdb(mdb_cursor_get(cursor, ret_key, ret_val, MDB_NEXT));

    if (rc == 0)
        rc = log_key_decode(slice_make(ret_key->mv_data, ret_key->mv_size), &found, &piece);
    if (rc < 0 || piece == 0)
        return rc;
    return seek_row(cursor, (struct rev){rev.main, rev.sub + 1}, ret_key, ret_val);
}

int store_events(struct store_read *r, int64_t from, store_event_fn emit, void *ctx, int64_t *ret_next,
                 uint16_t *ret_status)
{
    struct snap *p = &r->snap;
    struct arena arena;
    MDB_cursor *cursor;
    MDB_val key, val;
    int64_t next = p->state.revision + 1;
    bool stop = false;
    int rc;

    if (from < p->state.compacted) {
        *ret_status = STATUS_COMPACTED;
        return 0;
    }
    /* Its own cursor: emit may ask for values, which move the snapshot's. */
    rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->log, &cursor));
    if (rc < 0)
        return rc;
    arena_init(&arena);
    rc = seek_row(cursor, (struct rev){from, 0}, &key, &val);
    while (rc == 0) {
        struct log_row row;
        struct event e;

        if (stop) { /* what is next says whether the revision is complete */
            struct rev at;
            uint16_t piece;

            rc = log_key_decode(slice_make(key.mv_data, key.mv_size), &at, &piece);
            if (rc == 0)
                next = at.main < next ? at.main : next;
            break;
        }
        arena_reset(&arena);
        rc = eventlog_row_at_cursor(p, &key, &val, &arena, &row);
        if (rc < 0)
            break;
        e = public_event(&row);
        rc = emit(ctx, &e);
        if (rc < 0)
            break;
        if (rc > 0) {
            stop = true;
            next = row.event.rev.main + 1;
        }
        rc = next_row(cursor, row.event.rev, &key, &val);
    }
    arena_fini(&arena);
    mdb_cursor_close(cursor);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    *ret_next = next > from ? next : from;
    *ret_status = STATUS_OK;
    return 0;
}

int store_event_at(struct store_read *r, struct rev rev, struct arena *arena, struct event *ret_event)
{
    struct log_row row;
    int rc = eventlog_get(&r->snap, rev, arena, &row);

    if (rc == 0)
        *ret_event = public_event(&row);
    return rc;
}

int store_event_value(struct store_read *r, const struct event *e, struct arena *arena, struct slice *ret_value)
{
    struct log_row row;
    int rc = eventlog_get(&r->snap, e->rev, NULL, &row);

    return rc == 0 ? eventlog_value(&r->snap, &row, arena, ret_value) : rc;
}

static int row_kv(struct snap *p, const struct log_row *row, struct arena *arena, struct kv *ret_kv)
{
    const struct event *e = &row->event;
    struct kv kv = {.key = e->key, .mod_revision = e->rev.main};
    int rc = 0;

    if (e->kind != EVENT_DELETE) {
        kv.create_revision = e->create.main;
        kv.version = e->version;
        kv.lease = e->lease;
        rc = eventlog_value(p, row, arena, &kv.value);
    }
    if (rc == 0)
        *ret_kv = kv;
    return rc;
}

int store_event_kv(struct store_read *r, const struct event *e, struct arena *arena, struct kv *ret_kv)
{
    struct log_row row;
    int rc = eventlog_get(&r->snap, e->rev, arena, &row);

    return rc == 0 ? row_kv(&r->snap, &row, arena, ret_kv) : rc;
}

int store_event_prev_kv(struct store_read *r, const struct event *e, struct arena *arena, struct kv *ret_kv)
{
    struct log_row row;
    int rc;

    if (e->prev.main == 0 || e->rev.main <= r->snap.state.compacted)
        return 0;
    rc = eventlog_get(&r->snap, e->prev, arena, &row);
    if (rc == -ENOENT && e->prev.main <= r->snap.state.compacted)
        return 0;
    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    if (row.event.kind == EVENT_DELETE || row.event.kind == EVENT_DIR_DELETE)
        return 0;
    rc = row_kv(&r->snap, &row, arena, ret_kv);
    return rc < 0 ? rc : 1;
}

/* ---- one key's rows ---- */

/* The last `max` rows met on the way back are the oldest ones wanted: a ring. */
static int walk_back(struct snap *p, const struct chain *chain, int64_t from, struct rev *ring, size_t max,
                     size_t *ret_total)
{
    struct rev at = chain->last;
    size_t total = 0;

    while (at.main >= from && at.main != 0) {
        struct log_row row;
        int rc = eventlog_get(p, at, NULL, &row);

        if (rc < 0)
            return rc == -ENOENT ? -EUCLEAN : rc;
        ring[total++ % max] = at;
        at = row.event.prev;
    }
    *ret_total = total;
    return 0;
}

int eventlog_key_chain(struct snap *p, struct slice key, struct chain *ret_chain)
{
    struct tree gone = snap_gone(p);
    struct node node;
    struct slice row;
    int rc = range_get(p, key, &node);

    if (rc == 0) {
        *ret_chain = node.chain;
        return 0;
    }
    if (rc == -ENOENT)
        rc = tree_get(&gone, key, &row);
    return rc == 0 ? gone_row_decode(row, ret_chain) : rc;
}

int store_key_events(struct store_read *r, struct slice key, int64_t from, struct arena *arena, size_t max,
                     struct event **ret_events, size_t *ret_count, bool *ret_more, uint16_t *ret_status)
{
    struct snap *p = &r->snap;
    struct chain chain = {0};
    struct event *events = NULL;
    struct rev *ring = NULL;
    size_t total = 0, count;
    int rc;

    if (from < p->state.compacted) {
        *ret_status = STATUS_COMPACTED;
        return 0;
    }
    if (max == 0)
        return -EINVAL;
    rc = eventlog_key_chain(p, key, &chain);
    if (rc == 0) {
        ring = arena_array(arena, max, sizeof(*ring));
        rc = ring != NULL ? walk_back(p, &chain, from, ring, max, &total) : -ENOMEM;
    }
    if (rc < 0 && rc != -ENOENT)
        return rc;
    count = total < max ? total : max;
    if (count > 0) {
        events = arena_array(arena, count, sizeof(*events));
        if (events == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) { /* the last met is the oldest */
        struct log_row row;

        rc = eventlog_get(p, ring[(total - 1 - i) % max], arena, &row);
        if (rc < 0)
            return rc == -ENOENT ? -EUCLEAN : rc;
        events[i] = public_event(&row);
    }
    *ret_events = events;
    *ret_count = count;
    *ret_more = total > max;
    *ret_status = STATUS_OK;
    return 0;
}
