#include "store/row.h"

#include <errno.h>

/* Which optional fields a row has; the frequent ones first, so that one byte says it. An unknown bit is damage:
 * fields that later versions add go into the extension, which has a length. */
enum present {
    HAS_PREV = 1,
    HAS_CREATE = 2,
    HAS_LEASE = 4,
    HAS_SESSION = 8,
    HAS_ORIGIN = 16,
    HAS_ATTRS = 32,
    HAS_INLINE = 64,
    HAS_SKIP = 128,
    HAS_VALUE_REF = 256,
    HAS_EXTENSION = 512,
    HAS_KNOWN = 1023,
};

#define ATTR_KEPT (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME | ATTR_INO)

/* A revision, as its distance below a later one. */
static void put_rev(struct bytes *out, struct rev from, struct rev rev)
{
    bytes_varint(out, (uint64_t)(from.main - rev.main));
    bytes_varint(out, (uint64_t)rev.sub);
}

static struct rev get_rev(struct reader *r, struct rev from)
{
    uint64_t below = reader_varint(r);
    uint64_t sub = reader_varint(r);

    if (below > (uint64_t)from.main || sub > UINT32_MAX) {
        reader_fail(r);
        return (struct rev){0, 0};
    }
    return (struct rev){from.main - (int64_t)below, (int64_t)sub};
}

static int64_t get_number(struct reader *r)
{
    uint64_t v = reader_varint(r);

    if (v > INT64_MAX) {
        reader_fail(r);
        return 0;
    }
    return (int64_t)v;
}

static void put_attrs(struct bytes *out, const struct attrs *a)
{
    bytes_varint(out, a->has & ATTR_KEPT);
    if ((a->has & ATTR_MODE) != 0)
        bytes_varint(out, a->mode);
    if ((a->has & ATTR_UID) != 0)
        bytes_varint(out, a->uid);
    if ((a->has & ATTR_GID) != 0)
        bytes_varint(out, a->gid);
    if ((a->has & ATTR_MTIME) != 0)
        bytes_u64(out, (uint64_t)a->mtime_ns);
    if ((a->has & ATTR_INO) != 0)
        bytes_varint(out, a->ino);
}

static uint32_t get_u32_varint(struct reader *r)
{
    uint64_t v = reader_varint(r);

    if (v > UINT32_MAX)
        reader_fail(r);
    return (uint32_t)v;
}

static struct attrs get_attrs(struct reader *r)
{
    struct attrs a = {.has = get_u32_varint(r)};

    if ((a.has & ~(uint32_t)ATTR_KEPT) != 0)
        reader_fail(r);
    if ((a.has & ATTR_MODE) != 0)
        a.mode = get_u32_varint(r);
    if ((a.has & ATTR_UID) != 0)
        a.uid = get_u32_varint(r);
    if ((a.has & ATTR_GID) != 0)
        a.gid = get_u32_varint(r);
    if ((a.has & ATTR_MTIME) != 0)
        a.mtime_ns = (int64_t)reader_u64(r);
    if ((a.has & ATTR_INO) != 0)
        a.ino = reader_varint(r);
    return a;
}

static void put_skips(struct bytes *out, struct rev from, const struct rev *skip, unsigned n)
{
    bytes_u8(out, (uint8_t)n);
    for (unsigned i = 0; i < n; i++) {
        if (skip[i].main == 0)
            put_rev(out, from, from); /* none: a row never names one of its own revision */
        else
            put_rev(out, from, skip[i]);
    }
}

static unsigned get_skips(struct reader *r, struct rev from, struct rev *skip)
{
    unsigned n = reader_u8(r);

    if (n > SKIP_LEVELS) {
        reader_fail(r);
        return 0;
    }
    for (unsigned i = 0; i < n; i++)
        skip[i] = get_rev(r, from);
    return n;
}

/* CRC room and format of a row. */
static void begin_row(struct bytes *out)
{
    bytes_u32(out, 0);
    bytes_u8(out, ROW_FORMAT);
}

static int check_format(struct reader *r)
{
    uint8_t format = reader_u8(r);

    if (reader_status(r) < 0 || format == 0)
        return -EUCLEAN;
    return format > ROW_FORMAT ? -EPROTONOSUPPORT : 0;
}

static uint64_t get_present(struct reader *r)
{
    uint64_t present = reader_varint(r);

    if ((present & ~(uint64_t)HAS_KNOWN) != 0)
        reader_fail(r);
    return present;
}

/* ---- live keys and directories ---- */

void node_row_encode(const struct node *n, struct bytes *out)
{
    struct rev mod = n->chain.last;
    bool has_ref = n->value_len > 0 && rev_cmp(n->value_rev, mod) != 0;
    uint64_t present = (n->lease != 0 ? HAS_LEASE : 0) | (n->attrs.has != 0 ? HAS_ATTRS : 0) |
                       (n->chain.n_skip != 0 ? HAS_SKIP : 0) | (has_ref ? HAS_VALUE_REF : 0) |
                       (n->is_inline ? HAS_INLINE : 0);

    begin_row(out);
    bytes_varint(out, present);
    bytes_varint(out, (uint64_t)mod.main);
    bytes_varint(out, (uint64_t)mod.sub);
    put_rev(out, mod, n->create);
    bytes_varint(out, (uint64_t)n->version);
    bytes_varint(out, n->chain.depth);
    bytes_u64(out, (uint64_t)n->time_ns);
    if ((present & HAS_LEASE) != 0)
        bytes_varint(out, (uint64_t)n->lease);
    if ((present & HAS_ATTRS) != 0)
        put_attrs(out, &n->attrs);
    if ((present & HAS_SKIP) != 0)
        put_skips(out, (struct rev){mod.main + 1, 0}, n->chain.skip, n->chain.n_skip);
    if ((present & HAS_VALUE_REF) != 0)
        put_rev(out, mod, n->value_rev);
    bytes_varint(out, n->value_len);
    if (n->is_inline)
        bytes_append(out, n->value);
}

int node_row_decode(struct slice row, struct node *ret_node)
{
    struct reader r = reader_make(row);
    struct node n = {0};
    struct rev mod;
    uint64_t present;
    int rc;

    reader_u32(&r);
    rc = check_format(&r);
    if (rc < 0)
        return rc;
    present = get_present(&r);
    mod.main = get_number(&r);
    mod.sub = get_u32_varint(&r);
    n.chain.last = mod;
    n.create = get_rev(&r, mod);
    n.version = get_number(&r);
    n.chain.depth = reader_varint(&r);
    n.time_ns = (int64_t)reader_u64(&r);
    if ((present & HAS_LEASE) != 0)
        n.lease = (int64_t)reader_varint(&r);
    if ((present & HAS_ATTRS) != 0)
        n.attrs = get_attrs(&r);
    if ((present & HAS_SKIP) != 0 && mod.main < INT64_MAX)
        n.chain.n_skip = get_skips(&r, (struct rev){mod.main + 1, 0}, n.chain.skip);
    n.value_rev = (present & HAS_VALUE_REF) != 0 ? get_rev(&r, mod) : mod;
    if ((present & HAS_EXTENSION) != 0)
        reader_varint_slice(&r);
    n.value_len = reader_varint(&r);
    n.is_inline = (present & HAS_INLINE) != 0;
    if (n.is_inline)
        n.value = reader_raw(&r, n.value_len);
    if (reader_status(&r) < 0 || mod.main == 0)
        return -EUCLEAN;
    *ret_node = n;
    return 0;
}

void gone_row_encode(const struct chain *c, struct bytes *out)
{
    begin_row(out);
    bytes_varint(out, c->n_skip != 0 ? HAS_SKIP : 0);
    bytes_varint(out, (uint64_t)c->last.main);
    bytes_varint(out, (uint64_t)c->last.sub);
    bytes_varint(out, c->depth);
    if (c->n_skip != 0)
        put_skips(out, (struct rev){c->last.main + 1, 0}, c->skip, c->n_skip);
}

int gone_row_decode(struct slice row, struct chain *ret_chain)
{
    struct reader r = reader_make(row);
    struct chain c = {0};
    uint64_t present;
    int rc;

    reader_u32(&r);
    rc = check_format(&r);
    if (rc < 0)
        return rc;
    present = get_present(&r);
    c.last.main = get_number(&r);
    c.last.sub = get_u32_varint(&r);
    c.depth = reader_varint(&r);
    if ((present & HAS_SKIP) != 0 && c.last.main < INT64_MAX)
        c.n_skip = get_skips(&r, (struct rev){c.last.main + 1, 0}, c.skip);
    if (reader_status(&r) < 0 || c.last.main == 0)
        return -EUCLEAN;
    *ret_chain = c;
    return 0;
}

/* ---- the log ---- */

/* The extension is a list of fields, each a number and a text; unknown ones are skipped. */
enum extension { EXTENSION_LOCK = 1 };

#define EXTENSION_LOCK_BYTES 32

static void put_extension(struct bytes *out, const struct event *e)
{
    bytes_varint(out, 2 + EXTENSION_LOCK_BYTES);
    bytes_varint(out, EXTENSION_LOCK);
    bytes_varint(out, EXTENSION_LOCK_BYTES);
    bytes_u64(out, e->lock.ino);
    bytes_u64(out, e->lock.owner);
    bytes_u64(out, e->lock.request);
    bytes_u64(out, e->lock.token);
}

static void get_extension(struct reader *outer, struct event *e)
{
    struct reader r = reader_make(reader_varint_slice(outer));

    while (reader_left(&r) > 0) {
        uint64_t number = reader_varint(&r);
        struct reader field = reader_make(reader_varint_slice(&r));

        if (number == EXTENSION_LOCK) {
            e->lock.ino = reader_u64(&field);
            e->lock.owner = reader_u64(&field);
            e->lock.request = reader_u64(&field);
            e->lock.token = reader_u64(&field);
        }
        if (reader_status(&r) < 0 || reader_status(&field) < 0) {
            reader_fail(outer);
            return;
        }
    }
}

void log_row_encode(const struct log_row *row, struct bytes *out)
{
    const struct event *e = &row->event;
    bool has_ref = e->value_len > 0 && rev_cmp(row->value_rev, e->rev) != 0;
    uint64_t present = (e->prev.main != 0 ? HAS_PREV : 0) | (e->create.main != 0 ? HAS_CREATE : 0) |
                       (e->lease != 0 ? HAS_LEASE : 0) | (e->session != 0 ? HAS_SESSION : 0) |
                       (e->origin != 0 ? HAS_ORIGIN : 0) | (e->attrs.has != 0 ? HAS_ATTRS : 0) |
                       (row->n_skip != 0 ? HAS_SKIP : 0) | (has_ref ? HAS_VALUE_REF : 0) |
                       (e->kind == EVENT_LOCK ? HAS_EXTENSION : 0);

    bytes_u8(out, ROW_FORMAT);
    bytes_u8(out, (uint8_t)e->kind);
    bytes_varint(out, e->flags);
    bytes_varint(out, present);
    bytes_u64(out, (uint64_t)e->time_ns);
    bytes_varint(out, (uint64_t)e->version);
    if ((present & HAS_PREV) != 0)
        put_rev(out, e->rev, e->prev);
    if ((present & HAS_CREATE) != 0)
        put_rev(out, e->rev, e->create);
    if ((present & HAS_LEASE) != 0)
        bytes_varint(out, (uint64_t)e->lease);
    if ((present & HAS_SESSION) != 0) {
        bytes_u64(out, e->session);
        bytes_varint(out, e->sequence);
    }
    if ((present & HAS_ORIGIN) != 0)
        bytes_u64(out, e->origin);
    if ((present & HAS_ATTRS) != 0)
        put_attrs(out, &e->attrs);
    if ((present & HAS_SKIP) != 0)
        put_skips(out, e->rev, row->skip, row->n_skip);
    if ((present & HAS_VALUE_REF) != 0)
        put_rev(out, e->rev, row->value_rev);
    if ((present & HAS_EXTENSION) != 0)
        put_extension(out, e);
    bytes_varint(out, e->key.len);
    bytes_varint(out, e->value_len);
    bytes_append(out, e->key);
}

static void get_links(struct reader *r, uint64_t present, struct log_row *row)
{
    struct event *e = &row->event;

    if ((present & HAS_SKIP) != 0) {
        row->n_skip = get_skips(r, e->rev, row->skip);
        for (unsigned i = 0; i < row->n_skip; i++)
            if (row->skip[i].main == e->rev.main)
                row->skip[i] = (struct rev){0, 0};
    }
    row->value_rev = e->rev;
    if ((present & HAS_VALUE_REF) != 0) {
        row->value_rev = get_rev(r, e->rev);
        if (rev_cmp(row->value_rev, e->rev) >= 0)
            reader_fail(r);
    }
}

int log_row_decode(struct slice piece, struct rev rev, struct log_row *ret_row)
{
    struct reader r = reader_make(piece);
    struct log_row row = {.event.rev = rev};
    struct event *e = &row.event;
    uint64_t present, key_len;
    int rc = check_format(&r);

    if (rc < 0)
        return rc;
    e->kind = (enum event_kind)reader_u8(&r);
    e->flags = get_u32_varint(&r);
    present = get_present(&r);
    e->time_ns = (int64_t)reader_u64(&r);
    e->version = get_number(&r);
    if ((present & HAS_PREV) != 0) {
        e->prev = get_rev(&r, rev);
        if (rev_cmp(e->prev, rev) >= 0)
            reader_fail(&r); /* else a walk back along a history would not end */
    }
    if ((present & HAS_CREATE) != 0)
        e->create = get_rev(&r, rev);
    if ((present & HAS_LEASE) != 0)
        e->lease = (int64_t)reader_varint(&r);
    if ((present & HAS_SESSION) != 0) {
        e->session = reader_u64(&r);
        e->sequence = reader_varint(&r);
    }
    if ((present & HAS_ORIGIN) != 0)
        e->origin = reader_u64(&r);
    if ((present & HAS_ATTRS) != 0)
        e->attrs = get_attrs(&r);
    get_links(&r, present, &row);
    if ((present & HAS_EXTENSION) != 0)
        get_extension(&r, e);
    key_len = reader_varint(&r);
    e->value_len = reader_varint(&r);
    if (reader_status(&r) < 0 || key_len > KEY_MAX_BYTES || e->value_len > INT32_MAX || e->kind < EVENT_PUT ||
        e->kind > EVENT_LOCK)
        return -EUCLEAN;
    row.key_len = key_len;
    row.key_offset = (size_t)(r.p - piece.data);
    row.value_offset = row.key_offset + key_len;
    e->key = slice_make(r.p, key_len < reader_left(&r) ? key_len : reader_left(&r));
    *ret_row = row;
    return 0;
}

void log_key_encode(uint8_t *out, struct rev rev, uint16_t piece)
{
    put_be64(out, (uint64_t)rev.main);
    put_be32(out + 8, (uint32_t)rev.sub);
    put_be16(out + 12, piece);
}

int log_key_decode(struct slice key, struct rev *ret_rev, uint16_t *ret_piece)
{
    if (key.len != LOG_KEY_BYTES || get_be64(key.data) > INT64_MAX)
        return -EUCLEAN;
    *ret_rev = (struct rev){(int64_t)get_be64(key.data), get_be32(key.data + 8)};
    *ret_piece = get_be16(key.data + 12);
    return 0;
}
