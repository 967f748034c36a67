/* Whether everything in a store fits. What is compared:
 *
 *   each row       its CRC and its bytes; the pieces of a log row follow on and make its stream, no more and no less
 *   log            a row's previous one is of the same key and older, or compaction has taken it; so is each link, and the
 *                  number of links follows from the depth; a value elsewhere stands in a row that has one of its own, as long
 *   keys, gone     the newest row of the log says the same; the chain from there has as many rows as the depth says, down to
 *                  what compaction took; what is beside the key is what the log has
 *   log, again     every row of a key's history is on the chain of a key that is there or gone (while nothing is compacted)
 *   layers         every row is part of a key that can be reached
 *   leases         each key that has one is in its list, each in a list has it */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/env.h"
#include "store/eventlog.h"
#include "store/inspect.h"

struct check {
    struct store_read *r;
    struct snap *p;
    store_problem_fn tell;
    void *ctx;
    struct store_check sums;
    struct arena arena;       /* of one row */
    struct arena other_arena; /* of another that it names */
    uint64_t history_rows;    /* rows of the log that are some key's history */
    uint64_t leased_keys;
    int64_t lease;
};

static void __attribute__((format(printf, 2, 3))) problem(struct check *c, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    c->sums.problems++;
    c->tell(c->ctx, text);
}

#define REV_FORMAT "%lld.%lld"
#define REV(r) (long long)(r).main, (long long)(r).sub

/* What a damaged row costs is that row; everything else (memory, the disk) ends the walk. */
static int damage(struct check *c, int rc, const char *what, struct rev rev)
{
    if (rc != -EUCLEAN && rc != -ENOENT && rc != -EPROTONOSUPPORT)
        return rc;
    problem(c, "log " REV_FORMAT ": %s: %s", REV(rev), what,
            rc == -ENOENT ? "it is not there" : rc == -EUCLEAN ? "its bytes are damaged" : "of a later format");
    return 0;
}

/* ---- the log ---- */

/* A row that `from` names as an earlier one of its key. *ret_there false: compaction took it. */
static int check_earlier(struct check *c, const struct log_row *from, struct rev to, const char *what)
{
    struct log_row row;
    int rc;

    if (rev_cmp(to, from->event.rev) >= 0) {
        problem(c, "log " REV_FORMAT ": its %s, " REV_FORMAT ", is not before it", REV(from->event.rev), what, REV(to));
        return 0;
    }
    arena_reset(&c->other_arena);
    rc = eventlog_get(c->p, to, &c->other_arena, &row);
    if (rc == -ENOENT && to.main <= c->p->state.compacted)
        return 0;
    if (rc < 0)
        return damage(c, rc, what, from->event.rev);
    if (!slice_equal(row.event.key, from->event.key))
        problem(c, "log " REV_FORMAT ": its %s, " REV_FORMAT ", is of another key", REV(from->event.rev), what, REV(to));
    return 0;
}

static bool is_history(const struct event *e)
{
    return e->kind == EVENT_PUT || e->kind == EVENT_DELETE || e->kind == EVENT_ATTR;
}

static int check_row(struct check *c, const struct log_row *row, uint64_t stream_bytes)
{
    const struct event *e = &row->event;
    bool own = rev_cmp(row->value_rev, e->rev) == 0;
    size_t expected = own ? row->value_offset + e->value_len : row->key_offset + row->key_len;
    struct log_row holder;
    int rc = 0;

    c->sums.log_rows++;
    c->history_rows += is_history(e);
    if (e->kind != EVENT_RENAME && own && stream_bytes != expected)
        problem(c, "log " REV_FORMAT ": it has %llu bytes instead of %zu", REV(e->rev), (unsigned long long)stream_bytes,
                expected);
    if (e->rev.main > c->p->state.revision)
        problem(c, "log " REV_FORMAT ": it is behind the newest revision", REV(e->rev));
    if (e->create.main != 0 && rev_cmp(e->create, e->rev) > 0)
        problem(c, "log " REV_FORMAT ": its key came to be after it", REV(e->rev));
    if (e->prev.main != 0)
        rc = check_earlier(c, row, e->prev, "previous row");
    for (unsigned i = 0; rc == 0 && i < row->n_skip; i++) {
        c->sums.links++;
        if (row->skip[i].main != 0)
            rc = check_earlier(c, row, row->skip[i], "link");
    }
    if (rc < 0 || own || row->value_rev.main == 0)
        return rc;
    c->sums.values++;
    rc = eventlog_get(c->p, row->value_rev, NULL, &holder);
    if (rc < 0)
        return damage(c, rc, "the row with its value", e->rev);
    if (rev_cmp(holder.value_rev, row->value_rev) != 0 || holder.event.value_len != e->value_len)
        problem(c, "log " REV_FORMAT ": the row with its value, " REV_FORMAT ", has another", REV(e->rev),
                REV(row->value_rev));
    return 0;
}

/* The pieces of one row, from the cursor's place on; leaves the cursor on the next row's first. */
static int check_pieces(struct check *c, MDB_cursor *cursor, MDB_val *key, MDB_val *val, bool *ret_more)
{
    struct log_row row;
    struct rev rev, at;
    uint16_t number, expected = 0;
    uint64_t bytes = 0;
    bool good = true, more = true;
    size_t last = 0;
    int rc = log_key_decode(slice_make(key->mv_data, key->mv_size), &rev, &number);

    if (rc < 0) {
        problem(c, "log: a row's key is none");
        rc = err_from_mdb(mdb_cursor_get(cursor, key, val, MDB_NEXT));
        *ret_more = rc == 0;
        return rc == -ENOENT ? 0 : rc;
    }
    arena_reset(&c->arena);
    rc = eventlog_row_at_cursor(c->p, key, val, &c->arena, &row);
    if (rc < 0) {
        rc = damage(c, rc, "the row", rev);
        good = false;
    }
    while (rc == 0) {
        if (number != expected++ || (bytes > 0 && last != LOG_PIECE_BYTES))
            problem(c, "log " REV_FORMAT ": its pieces do not follow on", REV(rev));
        if (row_check(key, slice_make(val->mv_data, val->mv_size)) < 0 && good && number > 0)
            problem(c, "log " REV_FORMAT ": piece %u is damaged", REV(rev), number);
        last = val->mv_size - ROW_CRC_BYTES;
        bytes += last;
        c->sums.log_pieces++;
        rc = err_from_mdb(mdb_cursor_get(cursor, key, val, MDB_NEXT));
        if (rc == -ENOENT) {
            more = false;
            rc = 0;
            break;
        }
        if (rc < 0 || log_key_decode(slice_make(key->mv_data, key->mv_size), &at, &number) < 0 || rev_cmp(at, rev) != 0)
            break;
    }
    *ret_more = more;
    return rc == 0 && good ? check_row(c, &row, bytes) : rc;
}

static int check_log(struct check *c)
{
    MDB_cursor *cursor;
    MDB_val key, val;
    bool more = true;
    int rc = err_from_mdb(mdb_cursor_open(c->p->txn, c->p->store->log, &cursor));

    if (rc < 0)
        return rc;
    rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_FIRST));
    if (rc == -ENOENT) {
        more = false;
        rc = 0;
    }
    while (rc == 0 && more)
        rc = check_pieces(c, cursor, &key, &val, &more);
    mdb_cursor_close(cursor);
    return rc;
}

/* ---- histories ---- */

static unsigned levels_of(uint64_t depth)
{
    unsigned n = 0;

    while (n < SKIP_LEVELS && depth != 0 && depth % SKIP_STEP == 0) {
        depth /= SKIP_STEP;
        n++;
    }
    return n;
}

static const char *shown(struct slice key, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < key.len && n + 5 < size; i++)
        n += (size_t)snprintf(out + n, size - n, key.data[i] >= 0x20 && key.data[i] < 0x7f ? "%c" : "\\x%02x", key.data[i]);
    return out;
}

/* Down the chain: each row's depth is one less; links name the newest row of each level below. */
static int check_chain(struct check *c, const char *table, struct slice key, const struct chain *chain)
{
    struct rev at = chain->last, expected[SKIP_LEVELS] = {{0, 0}};
    unsigned open[SKIP_LEVELS] = {0}; /* a link of this level waits for its row */
    uint64_t depth = chain->depth;
    char name[120];
    int rc = 0;

    for (unsigned i = 0; i < chain->n_skip; i++) {
        expected[i] = chain->skip[i];
        open[i] = chain->skip[i].main != 0;
    }
    for (; at.main != 0; depth--) {
        struct log_row row;
        unsigned levels = levels_of(depth);

        arena_reset(&c->other_arena);
        rc = eventlog_get(c->p, at, &c->other_arena, &row);
        if (rc == -ENOENT && at.main <= c->p->state.compacted)
            return 0;
        if (rc < 0)
            return damage(c, rc, "a row of a history", at);
        if (!slice_equal(row.event.key, key) || depth == 0 || !is_history(&row.event)) {
            problem(c, "%s %s: its history leads to log " REV_FORMAT ", which is not of it", table,
                    shown(key, name, sizeof(name)), REV(at));
            return 0;
        }
        c->sums.chain_rows++;
        if (row.n_skip != levels)
            problem(c, "log " REV_FORMAT ": %u links at depth %llu", REV(at), row.n_skip, (unsigned long long)depth);
        for (unsigned i = 0; i < levels && i < row.n_skip; i++) {
            if (open[i] && rev_cmp(expected[i], at) != 0)
                problem(c, "%s %s: a link passes over log " REV_FORMAT, table, shown(key, name, sizeof(name)), REV(at));
            expected[i] = row.skip[i];
            open[i] = row.skip[i].main != 0;
        }
        if (at.main <= c->p->state.compacted)
            return 0; /* what is behind may be there or not */
        at = row.event.prev;
    }
    if (depth != 0 && c->p->state.compacted == 0)
        problem(c, "%s %s: %llu rows of its history are missing", table, shown(key, name, sizeof(name)),
                (unsigned long long)depth);
    return rc;
}

static int check_live(struct check *c, struct slice key, const struct node *n)
{
    struct log_row row;
    struct slice value;
    char name[120];
    int rc;

    arena_reset(&c->arena);
    rc = eventlog_get(c->p, n->chain.last, &c->arena, &row);
    if (rc < 0)
        return damage(c, rc, "the newest row of a key", n->chain.last);
    if (!slice_equal(row.event.key, key) || row.event.kind == EVENT_DELETE || row.event.version != n->version ||
        row.event.lease != n->lease || rev_cmp(row.event.create, n->create) != 0 ||
        row.event.value_len != n->value_len || rev_cmp(row.value_rev, n->value_rev) != 0)
        problem(c, "keys %s: log " REV_FORMAT " says something else", shown(key, name, sizeof(name)), REV(n->chain.last));
    else if (n->is_inline) {
        rc = eventlog_value(c->p, &row, &c->arena, &value);
        if (rc < 0)
            return damage(c, rc, "a value", n->chain.last);
        if (!slice_equal(value, n->value))
            problem(c, "keys %s: its value is not that of log " REV_FORMAT, shown(key, name, sizeof(name)),
                    REV(n->chain.last));
    }
    if (n->lease != 0)
        c->leased_keys++;
    return check_chain(c, "keys", key, &n->chain);
}

static int check_gone(struct check *c, struct slice key, const struct chain *chain)
{
    struct log_row row;
    int rc = eventlog_get(c->p, chain->last, NULL, &row);

    if (rc == -ENOENT && chain->last.main < c->p->state.compacted)
        return 0; /* both go, in any order */
    if (rc < 0)
        return damage(c, rc, "a tombstone", chain->last);
    if (row.event.kind != EVENT_DELETE)
        problem(c, "log " REV_FORMAT ": a deleted key's newest row is no tombstone", REV(chain->last));
    return check_chain(c, "gone", key, chain);
}

static int check_table_row(struct check *c, enum store_rows rows, const struct tree_iter *it)
{
    static const char *const names[] = {"keys", "dirs", "gone"};
    struct chain chain;
    struct node node;
    char name[120];
    int rc = row_check(&it->raw_key, it->value);

    if (rc == 0)
        rc = rows == STORE_ROWS_GONE ? gone_row_decode(it->value, &chain) : node_row_decode(it->value, &node);
    if (it->depth > 0)
        c->sums.layered_keys++;
    if (rc < 0) {
        problem(c, "%s %s: the row is damaged", names[rows], shown(it->key, name, sizeof(name)));
        return 0;
    }
    if (rows == STORE_ROWS_KEYS) {
        c->sums.keys++;
        return check_live(c, it->key, &node);
    }
    if (rows == STORE_ROWS_GONE) {
        c->sums.gone++;
        return check_gone(c, it->key, &chain);
    }
    c->sums.dirs++;
    return 0;
}

static int check_table(struct check *c, enum store_rows rows)
{
    struct tree tree = rows == STORE_ROWS_KEYS ? snap_keys(c->p) :
                       rows == STORE_ROWS_DIRS ? snap_dirs(c->p) : snap_gone(c->p);
    struct tree_iter it;
    int rc;

    tree_iter_init(&it, &tree);
    rc = tree_iter_seek(&it, slice_make(NULL, 0));
    while (rc == 0 && it.valid) {
        rc = check_table_row(c, rows, &it);
        if (rc == 0)
            rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    if (rc == -EUCLEAN) {
        problem(c, "a table's layers do not fit");
        rc = 0;
    }
    return rc;
}

/* ---- layers, leases ---- */

static int count_layer_rows(struct check *c)
{
    MDB_cursor *cursor;
    MDB_val key, val;
    int rc = err_from_mdb(mdb_cursor_open(c->p->txn, c->p->store->layers, &cursor));

    if (rc < 0)
        return rc;
    for (rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_FIRST)); rc == 0;
         rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_NEXT)))
        if (key.mv_size != TREE_LAYER_ID_BYTES + TREE_PIECE_BYTES + 1) /* a marker */
            c->sums.layer_rows++;
    mdb_cursor_close(cursor);
    return rc == -ENOENT ? 0 : rc;
}

static int check_lease_key(void *ctx, struct slice key)
{
    struct check *c = ctx;
    struct node_stat st;
    char name[120];
    int rc = store_stat_key(c->r, key, &st);

    if (rc < 0 && rc != -ENOENT)
        return rc;
    c->sums.lease_keys++;
    if (rc < 0 || st.type == NODE_NONE || st.lease != c->lease)
        problem(c, "lease %llx: it has a key that has not it: %s", (unsigned long long)c->lease,
                shown(key, name, sizeof(name)));
    return 0;
}

static int check_lease(void *ctx, const struct lease_info *lease)
{
    struct check *c = ctx;

    c->lease = lease->id;
    return store_lease_keys(c->r, lease->id, check_lease_key, c);
}

static int check_all(struct check *c)
{
    int rc = check_log(c);

    if (rc == 0)
        rc = check_table(c, STORE_ROWS_KEYS);
    if (rc == 0)
        rc = check_table(c, STORE_ROWS_GONE);
    if (rc == 0)
        rc = check_table(c, STORE_ROWS_DIRS);
    if (rc == 0 && c->p->state.compacted == 0 && c->history_rows != c->sums.chain_rows)
        problem(c, "%llu rows of the log are on no key's history",
                (unsigned long long)(c->history_rows - c->sums.chain_rows));
    if (rc == 0)
        rc = count_layer_rows(c);
    if (rc == 0 && c->sums.layer_rows != c->sums.layered_keys)
        problem(c, "%llu rows of layers, and %llu keys in them", (unsigned long long)c->sums.layer_rows,
                (unsigned long long)c->sums.layered_keys);
    if (rc == 0 && c->p->store->leases != 0)
        rc = store_leases(c->r, 0, check_lease, c);
    if (rc == 0 && c->p->store->leases != 0 && c->sums.lease_keys != c->leased_keys)
        problem(c, "%llu keys have a lease, and leases have %llu keys", (unsigned long long)c->leased_keys,
                (unsigned long long)c->sums.lease_keys);
    return rc;
}

int store_check(struct store_read *r, store_problem_fn tell, void *ctx, struct store_check *ret_sums)
{
    struct check c = {.r = r, .p = &r->snap, .tell = tell, .ctx = ctx};
    int rc;

    arena_init(&c.arena);
    arena_init(&c.other_arena);
    rc = check_all(&c);
    arena_fini(&c.arena);
    arena_fini(&c.other_arena);
    if (rc == 0)
        *ret_sums = c.sums;
    return rc;
}
