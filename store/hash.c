/* Hashes that are equal on nodes with equal data, though their tables are not: rows that a compaction has given up may
 * still be there or not, layers have other numbers, samples of usage stand elsewhere. So what is hashed is what can be
 * asked for:
 *   - every key as it was at the compacted revision C, in key order; for most of them the row in `keys` says so,
 *   - then every row of the log in (C, revision], in order.
 * The whole hash adds the other tables, of which each row follows from the log. */
#include <errno.h>

#include "base/crc32c.h"
#include "store/eventlog.h"
#include "store/range.h"

#define HASH_SLICE_ROWS 4096 /* then store_hash_kv() takes a new snapshot */
#define HASH_RESTARTS_MAX 8  /* after compactions */

struct hash {
    uint32_t crc;
    struct store_read *r;
    struct arena arena; /* of one row */
    int64_t last;       /* revision to be hashed up to */
    size_t rows_left;   /* of the slice */
    struct bytes from;  /* the next key */
    int64_t current;    /* main revision of the row hashed last */
};

static void add_u64(struct hash *h, uint64_t v)
{
    uint8_t bytes[8];

    put_le64(bytes, v);
    h->crc = crc32c(h->crc, bytes, sizeof(bytes));
}

static void add_rev(struct hash *h, struct rev rev)
{
    add_u64(h, (uint64_t)rev.main);
    add_u64(h, (uint64_t)rev.sub);
}

static void add_slice(struct hash *h, struct slice s)
{
    add_u64(h, s.len);
    if (s.len > 0)
        h->crc = crc32c(h->crc, s.data, s.len);
}

static void add_attrs(struct hash *h, const struct attrs *a)
{
    add_u64(h, a->has);
    add_u64(h, (a->has & ATTR_MODE) != 0 ? a->mode : 0);
    add_u64(h, (a->has & ATTR_UID) != 0 ? a->uid : 0);
    add_u64(h, (a->has & ATTR_GID) != 0 ? a->gid : 0);
    add_u64(h, (a->has & ATTR_MTIME) != 0 ? (uint64_t)a->mtime_ns : 0);
    add_u64(h, (a->has & ATTR_INO) != 0 ? a->ino : 0);
}

/* ---- keys at the compacted revision ---- */

static int hash_node(void *ctx, struct slice key, const struct node *n)
{
    struct hash *h = ctx;
    struct slice value;
    int rc;

    if (h->rows_left == 0) { /* this one begins the next slice */
        bytes_reset(&h->from);
        bytes_append(&h->from, key);
        return bytes_status(&h->from) < 0 ? bytes_status(&h->from) : SCAN_STOP;
    }
    h->rows_left--;
    arena_reset(&h->arena);
    rc = range_value(&h->r->snap, n, &h->arena, &value);
    if (rc < 0)
        return rc;
    add_slice(h, key);
    add_rev(h, n->create);
    add_rev(h, n->chain.last);
    add_u64(h, (uint64_t)n->version);
    add_u64(h, (uint64_t)n->lease);
    add_attrs(h, &n->attrs);
    add_slice(h, value);
    return SCAN_GO_ON;
}

/* One slice. *ret_more: there are further keys, from h->from on. */
static int hash_keys(struct hash *h, bool *ret_more)
{
    struct bytes start;
    int64_t count;
    int rc;

    *ret_more = false;
    if (h->r->snap.state.compacted == 0)
        return 0;
    bytes_init(&start);
    bytes_append(&start, bytes_slice(&h->from));
    if (start.len == 0)
        bytes_u8(&start, 0); /* the least key */
    bytes_reset(&h->from);
    rc = bytes_status(&start);
    if (rc == 0) {
        const struct interval rest = {bytes_slice(&start), slice_make("", 1)};

        rc = range_scan(&h->r->snap, &rest, h->r->snap.state.compacted, hash_node, h, &count);
    }
    *ret_more = h->from.len > 0;
    bytes_fini(&start);
    return rc;
}

/* ---- rows behind it ---- */

static int hash_event(void *ctx, const struct event *e)
{
    struct hash *h = ctx;
    struct slice value = {NULL, 0};
    int rc = 0;

    if (e->rev.main > h->last)
        return 1;
    if (e->value_len > 0) {
        arena_reset(&h->arena);
        rc = store_event_value(h->r, e, &h->arena, &value);
    }
    if (rc < 0)
        return rc;
    add_rev(h, e->rev);
    add_rev(h, e->prev);
    add_rev(h, e->create);
    add_u64(h, e->kind);
    add_u64(h, e->flags);
    add_u64(h, (uint64_t)e->version);
    add_u64(h, (uint64_t)e->lease);
    add_u64(h, (uint64_t)e->time_ns);
    add_u64(h, e->session);
    add_u64(h, e->sequence);
    add_u64(h, e->origin);
    add_u64(h, e->lock.ino);
    add_u64(h, e->lock.owner);
    add_u64(h, e->lock.request);
    add_u64(h, e->lock.token);
    add_attrs(h, &e->attrs);
    add_slice(h, e->key);
    add_slice(h, value);
    return 0;
}

struct event_slice {
    struct hash *h;
    size_t left;
};

/* Ends a slice in front of a revision. */
static int slice_event(void *ctx, const struct event *e)
{
    struct event_slice *s = ctx;

    if (s->left == 0 && e->rev.main != s->h->current)
        return 1;
    s->h->current = e->rev.main;
    s->left -= s->left > 0;
    return hash_event(s->h, e);
}

/* Rows from revision *from on; *ret_more and *from: where it goes on. */
static int hash_rows(struct hash *h, int64_t *from, size_t rows, bool *ret_more)
{
    struct event_slice s = {h, rows};
    int64_t next;
    uint16_t status;
    int rc;

    h->current = 0;
    rc = store_events(h->r, *from, slice_event, &s, &next, &status);
    if (rc == 0 && status != STATUS_OK)
        rc = -EUCLEAN; /* the caller has looked at what is compacted */
    if (rc < 0)
        return rc;
    /* A row that ended the slice was not hashed: its revision comes again. */
    *from = s.left == 0 && h->current != 0 && h->current < h->last ? h->current + 1 : next;
    *ret_more = s.left == 0 && *from <= h->last;
    return 0;
}

/* ---- HashKV ---- */

/* One run against one compacted revision; *ret_overtaken: another one came meanwhile. renew: between slices. */
static int hash_run(struct hash *h, bool renew, bool *ret_overtaken)
{
    const int64_t compacted = h->r->snap.state.compacted;
    int64_t from = compacted + 1;
    bool more = true, keys = true;
    int rc = 0;

    h->crc = 0;
    bytes_reset(&h->from);
    *ret_overtaken = false;
    while (rc == 0 && more && !*ret_overtaken) {
        h->rows_left = renew ? HASH_SLICE_ROWS : SIZE_MAX;
        if (keys) {
            rc = hash_keys(h, &keys);
            more = true;
        } else {
            rc = hash_rows(h, &from, h->rows_left, &more);
        }
        if (rc == 0 && renew && more) {
            rc = store_read_renew(h->r);
            *ret_overtaken = h->r->snap.state.compacted != compacted;
        }
    }
    return rc;
}

static void hash_init(struct hash *h, struct store_read *r, int64_t last)
{
    *h = (struct hash){.r = r, .last = last};
    arena_init(&h->arena);
    bytes_init(&h->from);
}

static void hash_fini(struct hash *h)
{
    arena_fini(&h->arena);
    bytes_fini(&h->from);
}

int store_hash_kv(struct store_read *r, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                  int64_t *ret_hash_revision, uint16_t *ret_status)
{
    const int64_t last = revision <= 0 ? r->snap.state.revision : revision;
    uint16_t status = STATUS_OK;
    bool overtaken = true;
    int64_t compacted = 0;
    struct hash h;
    int rc = 0;

    hash_init(&h, r, last);
    for (int i = 0; rc == 0 && overtaken && status == STATUS_OK; i++) {
        compacted = r->snap.state.compacted;
        status = range_check_revision(&r->snap, last, r->snap.state.revision);
        if (status == STATUS_OK && i == HASH_RESTARTS_MAX)
            status = STATUS_COMPACTED;
        if (status == STATUS_OK)
            rc = hash_run(&h, true, &overtaken);
    }
    if (rc == 0 && status == STATUS_OK) {
        *ret_hash = h.crc;
        *ret_compact_revision = compacted > 0 ? compacted : -1;
        *ret_hash_revision = last;
    }
    hash_fini(&h);
    if (rc == 0)
        *ret_status = status;
    return rc;
}

/* ---- everything ---- */

static int hash_table(struct hash *h, MDB_dbi dbi)
{
    MDB_cursor *cursor;
    MDB_val key, val;
    int rc;

    if (dbi == 0)
        return 0;
    rc = err_from_mdb(mdb_cursor_open(h->r->snap.txn, dbi, &cursor));
    if (rc < 0)
        return rc;
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_FIRST));
    while (rc == 0) {
        struct slice row = slice_make(val.mv_data, val.mv_size);

        rc = row_check(&key, row);
        add_slice(h, slice_make(key.mv_data, key.mv_size));
        add_slice(h, row);
        if (rc == 0)
            rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT));
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT ? 0 : rc;
}

static int hash_dirs(struct hash *h)
{
    struct tree dirs = snap_dirs(&h->r->snap);
    struct tree_iter it;
    int rc;

    tree_iter_init(&it, &dirs);
    rc = tree_iter_seek(&it, slice_make(NULL, 0));
    while (rc == 0 && it.valid) {
        rc = row_check(&it.raw_key, it.value);
        add_slice(h, it.key);
        if (rc == 0)
            add_slice(h, slice_make(it.value.data + ROW_CRC_BYTES, it.value.len - ROW_CRC_BYTES));
        if (rc == 0)
            rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    return rc;
}

static int hash_meta(struct hash *h)
{
    const struct state *s = &h->r->snap.state;
    const uint64_t words[] = {s->applied_index, (uint64_t)s->revision, (uint64_t)s->compacted, s->next_inode,
                              s->session_uses,  s->lock_serial,        s->lock_count,          s->xattr_count,
                              s->quota_bytes,   s->cluster_version,    s->alarms};
    struct member_info *members;
    struct alarm *alarms;
    size_t n;
    int rc;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        add_u64(h, words[i]);
    arena_reset(&h->arena);
    rc = store_alarms(h->r, &h->arena, &alarms, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        add_u64(h, alarms[i].member_id);
        add_u64(h, (uint64_t)alarms[i].type);
    }
    if (rc == 0)
        rc = store_members(h->r, &h->arena, &members, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        add_u64(h, members[i].id);
        add_slice(h, members[i].name);
        for (size_t j = 0; j < members[i].n_client_urls; j++)
            add_slice(h, members[i].client_urls[j]);
    }
    return rc;
}

int store_hash(struct store_read *r, uint32_t *ret_hash, int64_t *ret_revision, uint64_t *ret_applied_index)
{
    const struct store *s = r->snap.store;
    const MDB_dbi tables[] = {s->leases, s->lease_keys, s->xattrs, s->locks, s->sessions};
    struct hash h;
    bool overtaken;
    int rc;

    hash_init(&h, r, r->snap.state.revision);
    rc = hash_run(&h, false, &overtaken);
    if (rc == 0)
        rc = hash_dirs(&h);
    for (size_t i = 0; rc == 0 && i < sizeof(tables) / sizeof(tables[0]); i++)
        rc = hash_table(&h, tables[i]);
    if (rc == 0)
        rc = hash_meta(&h);
    if (rc == 0) {
        *ret_hash = h.crc;
        *ret_revision = r->snap.state.revision;
        *ret_applied_index = r->snap.state.applied_index;
    }
    hash_fini(&h);
    return rc;
}
