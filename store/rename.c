/* Renames. What a subtree has is collected first (bounded by RENAME_MAX_*), so that every decision is made before
 * the first row and no iterator stands in a table that changes. Rows: the header, the puts at the new names, the
 * deletes at the old ones; each key changes once. Content is referred to, not written again.
 *
 * A node keeps its identity: rows at the new name carry its inode number, also where it was derived. (A
 * directory without a row of its own below the moved one goes on being one, under the number of its new path.) */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/apply.h"

/* A key or directory on its way. */
struct moved {
    struct slice suffix; /* of its path, after the path that is renamed */
    bool has_row;        /* false: an implicit directory, which the new name makes explicit */
    struct node node;
    struct change change; /* of a key: content and attributes at the new name */
};

struct moved_list {
    struct moved *items; /* by suffix */
    size_t n, cap;
};

struct side {
    struct target at;
    bool as_dir; /* the directory is meant, not the key of the same name */
    bool exists;
    uint64_t ino;
    struct moved_list keys, dirs;
};

struct rename {
    struct apply *a;
    const struct file_op *op;
    struct side from, to;
    uint64_t bytes; /* what is collected */
    size_t count;
    uint16_t status;
};

/* ---- collecting ---- */

static int list_add(struct rename *r, struct moved_list *l, struct slice suffix, const struct node *node,
                    struct moved **ret_item)
{
    struct moved *m;
    int rc;

    if (l->n == l->cap) {
        size_t cap = l->cap != 0 ? l->cap * 2 : 16;
        struct moved *grown = arena_array(r->a->arena, cap, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        if (l->n > 0)
            memcpy(grown, l->items, l->n * sizeof(*grown));
        l->items = grown;
        l->cap = cap;
    }
    m = &l->items[l->n];
    *m = (struct moved){.has_row = true, .node = *node};
    m->node.value = slice_make(NULL, 0); /* in the map, which is about to change */
    rc = arena_copy(r->a->arena, suffix, &m->suffix);
    if (rc < 0)
        return rc;
    l->n++;
    r->count++;
    r->bytes += 2 * (r->op->path.len + r->op->path2.len + 2 * suffix.len) + (node->is_inline ? node->value_len : 0);
    if (r->count > RENAME_MAX_KEYS || r->bytes > RENAME_MAX_BYTES)
        r->status = STATUS_CROSS_DEVICE;
    *ret_item = m;
    return 0;
}

/* The same node under another name. */
static struct attrs attrs_that_move(const struct node *node, uint64_t ino)
{
    struct attrs attrs = node->attrs;

    if ((attrs.has & ATTR_MTIME) == 0)
        attrs.mtime_ns = node->time_ns;
    attrs.has |= ATTR_INO | ATTR_MTIME;
    attrs.ino = ino;
    return attrs;
}

static int add_key(struct rename *r, struct side *s, struct slice suffix, const struct node *node)
{
    struct moved *m;
    int rc = list_add(r, &s->keys, suffix, node, &m);

    if (rc < 0)
        return rc;
    m->change = (struct change){
        .kind = EVENT_PUT,
        .flags = EVENT_OF_RENAME,
        .lease = node->lease,
        .attrs = attrs_that_move(node, view_ino(node)),
    };
    return apply_keep_value(r->a, node, &m->change);
}

static int add_dir(struct rename *r, struct side *s, struct slice suffix, const struct node *node)
{
    struct moved *m;

    return list_add(r, &s->dirs, suffix, node, &m);
}

static int add_below(struct rename *r, struct side *s, struct tree tree,
                     int (*add)(struct rename *, struct side *, struct slice, const struct node *))
{
    struct slice path = s->at.path;
    struct tree_iter it;
    struct bytes prefix;
    int rc;

    bytes_init(&prefix);
    bytes_append(&prefix, path);
    bytes_u8(&prefix, '/');
    tree_iter_init(&it, &tree);
    rc = bytes_status(&prefix);
    if (rc == 0)
        rc = tree_iter_seek(&it, bytes_slice(&prefix));
    while (rc == 0 && r->status == STATUS_OK && it.valid && slice_has_prefix(it.key, bytes_slice(&prefix))) {
        struct node node;

        rc = row_check(&it.raw_key, it.value);
        if (rc == 0)
            rc = node_row_decode(it.value, &node);
        if (rc == 0)
            rc = add(r, s, slice_make(it.key.data + path.len, it.key.len - path.len), &node);
        if (rc == 0)
            rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    bytes_fini(&prefix);
    return rc;
}

static int collect(struct rename *r, struct side *s)
{
    static const struct node nothing;
    const struct slice own = slice_make(NULL, 0);
    struct moved *m;
    int rc = 0;

    if (s->at.has_key)
        rc = add_key(r, s, own, &s->at.key);
    if (rc < 0 || !s->as_dir)
        return rc;
    rc = list_add(r, &s->dirs, own, s->at.has_dir ? &s->at.dir : &nothing, &m);
    if (rc < 0)
        return rc;
    m->has_row = s->at.has_dir;
    rc = add_below(r, s, snap_keys(r->a->snap), add_key);
    return rc == 0 ? add_below(r, s, snap_dirs(r->a->snap), add_dir) : rc;
}

/* ---- checks ---- */

static bool is_below(struct slice path, struct slice dir)
{
    return path.len > dir.len && slice_has_prefix(path, dir) && path.data[dir.len] == '/';
}

/* Who is meant by the name. A path that is a key and a directory is the directory, unless ino names the key. */
static int load_side(struct rename *r, struct side *s, struct slice path, uint64_t ino)
{
    int rc = view_load(r->a->snap, path, &s->at);

    if (rc < 0)
        return rc;
    s->as_dir = s->at.is_dir && !(s->at.has_key && ino == s->at.key_ino);
    s->exists = s->at.is_dir || s->at.has_key;
    s->ino = s->as_dir ? s->at.dir_ino : s->at.key_ino;
    return 0;
}

static uint16_t check_source(const struct rename *r)
{
    const struct side *from = &r->from, *to = &r->to;
    const bool exchange = (r->op->flags & FILE_EXCHANGE) != 0;

    if (!from->exists)
        return (r->op->flags & FILE_WITH_VALUE) != 0 && r->op->ino == 0 ? STATUS_OK : STATUS_NO_ENTRY;
    if (r->op->ino != 0 && r->op->ino != from->ino)
        return STATUS_STALE;
    if (from->as_dir && (r->op->flags & FILE_WITH_VALUE) != 0)
        return STATUS_IS_DIRECTORY;
    if (from->as_dir && is_below(to->at.path, from->at.path))
        return STATUS_INVALID_MOVE;
    if (exchange && to->as_dir && is_below(from->at.path, to->at.path))
        return STATUS_INVALID_MOVE;
    /* A key that is a directory too can move away from it, but nothing can take its place there. */
    if (exchange && (from->at.is_dir != from->as_dir || to->at.is_dir != to->as_dir))
        return STATUS_INVALID_REQUEST;
    return STATUS_OK;
}

static int check_target(struct rename *r)
{
    const struct side *from = &r->from, *to = &r->to;
    int rc;

    if ((r->op->flags & FILE_EXCHANGE) != 0) {
        if (!to->exists)
            r->status = STATUS_NO_ENTRY;
        else if (r->op->ino2 != to->ino)
            r->status = STATUS_STALE;
        return 0;
    }
    if (slice_equal(from->at.path, to->at.path)) {
        r->status = (r->op->flags & FILE_NOREPLACE) != 0 ? STATUS_EXISTS : STATUS_OK;
        return 0;
    }
    rc = apply_check_new_path(r->a, to->at.path, &r->status);
    if (rc < 0 || r->status != STATUS_OK || !to->exists)
        return rc; /* gone meanwhile: the outcome is the one that was wanted */
    if ((r->op->flags & FILE_NOREPLACE) != 0)
        r->status = STATUS_EXISTS;
    else if (r->op->ino2 != to->ino)
        r->status = STATUS_STALE;
    else if (!from->as_dir && to->as_dir)
        r->status = STATUS_IS_DIRECTORY;
    else if (from->as_dir && !to->as_dir)
        r->status = STATUS_NOT_DIRECTORY;
    else if (to->as_dir && (to->at.has_key || !to->at.has_dir))
        r->status = STATUS_NOT_EMPTY;
    if (r->status != STATUS_OK || !to->as_dir)
        return 0;
    rc = view_has_below(r->a->snap, to->at.path);
    if (rc == 1)
        r->status = STATUS_NOT_EMPTY;
    return rc < 0 ? rc : 0;
}

static uint16_t check_shape(const struct file_op *op)
{
    const uint32_t exclusive = op->flags & (FILE_NOREPLACE | FILE_EXCHANGE);

    if (view_is_root(op->path) || view_is_root(op->path2))
        return STATUS_INVALID_REQUEST;
    if (op->path.len > KEY_MAX_BYTES || op->path2.len > KEY_MAX_BYTES)
        return STATUS_NAME_TOO_LONG;
    if ((op->flags & FILE_WITH_VALUE) != 0 && slice_equal(op->path, op->path2))
        return STATUS_INVALID_REQUEST;
    if (exclusive == (FILE_NOREPLACE | FILE_EXCHANGE) ||
        (op->flags & (FILE_WITH_VALUE | FILE_EXCHANGE)) == (FILE_WITH_VALUE | FILE_EXCHANGE) ||
        ((op->attrs.has & ATTR_INO) != 0 && (op->attrs.ino <= INO_ROOT || op->attrs.ino >= INO_IMPLICIT_BIT)))
        return STATUS_INVALID_REQUEST;
    return op->value.len > FILE_MAX_BYTES ? STATUS_TOO_LARGE : STATUS_OK;
}

/* No name may get too long on the way. */
static uint16_t check_lengths(const struct moved_list *l, struct slice to)
{
    for (size_t i = 0; i < l->n; i++)
        if (to.len + l->items[i].suffix.len > KEY_MAX_BYTES)
            return STATUS_NAME_TOO_LONG;
    return STATUS_OK;
}

/* ---- rows ---- */

static int join(struct bytes *out, struct slice path, struct slice suffix)
{
    bytes_reset(out);
    bytes_append(out, path);
    bytes_append(out, suffix);
    return bytes_status(out);
}

static bool list_has(const struct moved_list *l, struct slice suffix)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_cmp(l->items[middle].suffix, suffix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->n && slice_equal(l->items[low].suffix, suffix);
}

/* The content of the key at that name, which is about to get another's, goes elsewhere by reference. */
static uint32_t value_moved(const struct node *prev, bool exchange)
{
    return exchange && prev->value_len >= SHARED_VALUE_MIN_BYTES ? EVENT_VALUE_MOVED : 0;
}

static int put_keys(struct rename *r, const struct moved_list *l, struct slice to, bool exchange)
{
    struct bytes *key = &r->a->b->scratch_value;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < l->n; i++) {
        struct change change = l->items[i].change;
        struct node prev;

        rc = join(key, to, l->items[i].suffix);
        if (rc < 0)
            return rc;
        rc = range_get(r->a->snap, bytes_slice(key), &prev);
        if (rc == 0)
            change.flags |= value_moved(&prev, exchange);
        if (rc == 0 || rc == -ENOENT)
            rc = apply_key_put(r->a, bytes_slice(key), rc == 0 ? &prev : NULL, &change);
    }
    return rc;
}

static int put_dirs(struct rename *r, const struct side *s, struct slice to, const struct side *other)
{
    struct bytes *path = &r->a->b->scratch_value;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < s->dirs.n; i++) {
        const struct moved *m = &s->dirs.items[i];
        const bool own = m->suffix.len == 0;
        struct attrs attrs = m->node.attrs;
        struct node prev;
        bool existed = own && other->as_dir;

        if (m->has_row)
            attrs = attrs_that_move(&m->node, view_ino(&m->node));
        else
            attrs = (struct attrs){.has = ATTR_INO, .ino = s->ino};
        rc = join(path, to, m->suffix);
        if (rc < 0)
            return rc;
        rc = view_dir_row(r->a->snap, bytes_slice(path), &prev);
        existed = existed || rc == 0;
        if (rc == 0 || rc == -ENOENT)
            rc = apply_dir_put(r->a, bytes_slice(path), rc == 0 ? &prev : NULL, &attrs,
                               EVENT_OF_RENAME | (existed ? 0 : EVENT_CREATED));
    }
    return rc;
}

/* What the side had and does not get back: children before parents. */
static int delete_side(struct rename *r, const struct side *s, const struct side *other, bool exchange)
{
    struct bytes *path = &r->a->b->scratch_value;
    int rc = 0;

    for (size_t i = s->keys.n; rc == 0 && i-- > 0;) {
        const struct moved *m = &s->keys.items[i];
        uint32_t flags = EVENT_OF_RENAME | (m->change.value_rev.main != 0 ? EVENT_VALUE_MOVED : 0);

        if (exchange && list_has(&other->keys, m->suffix))
            continue;
        rc = join(path, s->at.path, m->suffix);
        if (rc == 0)
            rc = apply_key_delete(r->a, bytes_slice(path), &m->node, flags);
    }
    for (size_t i = s->dirs.n; rc == 0 && i-- > 0;) {
        const struct moved *m = &s->dirs.items[i];

        if (!m->has_row || (exchange && list_has(&other->dirs, m->suffix)))
            continue;
        rc = join(path, s->at.path, m->suffix);
        if (rc == 0)
            rc = apply_dir_delete(r->a, bytes_slice(path), &m->node, EVENT_OF_RENAME);
    }
    return rc;
}

/* New content with the move, or in place of a source that was never committed. */
static void take_new_content(struct rename *r, struct change *change)
{
    const struct file_op *op = r->op;
    const struct attrs *given = &op->attrs;

    change->value = op->value;
    change->value_len = op->value.len;
    change->value_rev = (struct rev){0, 0};
    if ((given->has & ATTR_MODE) != 0)
        change->attrs.mode = S_IFREG | (given->mode & 07777);
    if ((given->has & ATTR_UID) != 0)
        change->attrs.uid = given->uid;
    if ((given->has & ATTR_GID) != 0)
        change->attrs.gid = given->gid;
    change->attrs.mtime_ns = (given->has & ATTR_MTIME) != 0 ? given->mtime_ns : r->a->cmd->time_ns;
    change->attrs.has |= ATTR_MTIME | (given->has & (ATTR_MODE | ATTR_UID | ATTR_GID));
}

static int write_new_file(struct rename *r, struct result *result)
{
    struct change change = {.kind = EVENT_PUT};
    struct node prev;
    int rc = range_get(r->a->snap, r->op->path2, &prev);
    const bool exists = rc == 0;

    if (rc < 0 && rc != -ENOENT)
        return rc;
    take_new_content(r, &change);
    change.attrs.has |= ATTR_INO; /* a new node, also where the key lives on */
    change.attrs.ino = (r->op->attrs.has & ATTR_INO) != 0 ? r->op->attrs.ino : view_derived_ino(r->a->next);
    rc = apply_key_put(r->a, r->op->path2, exists ? &prev : NULL, &change);
    result->file.ino = change.attrs.ino;
    result->file.size = change.value_len;
    result->file.changed = true;
    return rc;
}

static int write_rows(struct rename *r, struct result *result)
{
    const bool exchange = (r->op->flags & FILE_EXCHANGE) != 0;
    struct slice from = r->from.at.path, to = r->to.at.path;
    int rc = apply_rename_header(r->a, from, to, exchange ? EVENT_EXCHANGE : 0);

    r->a->exchanges = exchange;
    if (rc == 0)
        rc = put_dirs(r, &r->from, to, &r->to);
    if (rc == 0)
        rc = put_keys(r, &r->from.keys, to, exchange);
    if (rc == 0 && exchange)
        rc = put_dirs(r, &r->to, from, &r->from);
    if (rc == 0 && exchange)
        rc = put_keys(r, &r->to.keys, from, true);
    if (rc == 0)
        rc = delete_side(r, &r->from, &r->to, exchange);
    if (rc == 0 && exchange)
        rc = delete_side(r, &r->to, &r->from, true);
    if (rc == 0)
        rc = apply_keep_parent(r->a, from);
    result->file.ino = r->from.ino;
    result->file.size = r->from.as_dir ? 0 : r->from.keys.items[0].change.value_len;
    result->file.changed = true;
    return rc;
}

static int check_all(struct rename *r)
{
    int rc;

    r->status = check_shape(r->op);
    if (r->status != STATUS_OK)
        return 0;
    rc = load_side(r, &r->from, r->op->path, r->op->ino);
    if (rc == 0)
        rc = load_side(r, &r->to, r->op->path2, r->op->ino2);
    if (rc < 0)
        return rc;
    r->status = check_source(r);
    return r->status == STATUS_OK ? check_target(r) : 0;
}

static int collect_all(struct rename *r)
{
    int rc = collect(r, &r->from);

    if (rc == 0 && (r->op->flags & FILE_EXCHANGE) != 0)
        rc = collect(r, &r->to);
    if (rc < 0 || r->status != STATUS_OK)
        return rc;
    r->status = check_lengths(&r->from.keys, r->op->path2);
    if (r->status == STATUS_OK)
        r->status = check_lengths(&r->from.dirs, r->op->path2);
    if (r->status == STATUS_OK)
        r->status = check_lengths(&r->to.keys, r->op->path);
    if (r->status == STATUS_OK)
        r->status = check_lengths(&r->to.dirs, r->op->path);
    return 0;
}

int apply_rename(struct apply *a, struct result *ret_result)
{
    struct rename r = {.a = a, .op = &a->cmd->file};
    int rc = check_all(&r);

    if (rc < 0 || r.status != STATUS_OK)
        goto done;
    if (slice_equal(r.op->path, r.op->path2)) { /* POSIX: nothing to do, and that succeeds */
        ret_result->file.ino = r.from.ino;
        goto done;
    }
    if (!r.from.exists) {
        rc = write_new_file(&r, ret_result);
        goto done;
    }
    rc = collect_all(&r);
    if (rc < 0 || r.status != STATUS_OK)
        goto done;
    if ((r.op->flags & FILE_WITH_VALUE) != 0)
        take_new_content(&r, &r.from.keys.items[0].change);
    rc = write_rows(&r, ret_result);
done:
    ret_result->status = r.status;
    return rc;
}
