#include "store/view.h"

#include <errno.h>

#include "store/eventlog.h"
#include "store/range.h"

bool view_is_root(struct slice path)
{
    return path.len == 0 || (path.len == 1 && path.data[0] == '/');
}

struct slice view_normal(struct slice path)
{
    return path.len == 0 ? slice_make("/", 1) : path;
}

bool view_parent(struct slice path, struct slice *ret_parent)
{
    size_t at = path.len;

    while (at > 0 && path.data[at - 1] != '/')
        at--;
    if (at <= 1) /* no slash: bare; the first byte: the root */
        return false;
    *ret_parent = slice_make(path.data, at - 1);
    return !view_is_root(*ret_parent);
}

uint64_t view_derived_ino(struct rev create)
{
    return INO_DERIVED_BIT | (uint64_t)create.main << 16 | ((uint64_t)create.sub & 0xffff);
}

uint64_t view_ino(const struct node *n)
{
    return (n->attrs.has & ATTR_INO) != 0 ? n->attrs.ino : view_derived_ino(n->create);
}

uint64_t store_event_ino(const struct event *e)
{
    return (e->attrs.has & ATTR_INO) != 0 ? e->attrs.ino : view_derived_ino(e->create);
}

/* FNV-1a, then mixed: short names must differ in the upper half too. */
uint64_t view_implicit_ino(struct slice path)
{
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < path.len; i++)
        h = (h ^ path.data[i]) * 0x100000001b3;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15;
    h ^= h >> 29;
    return (h & (INO_IMPLICIT_BIT - 1)) | INO_IMPLICIT_BIT;
}

int view_dir_row(struct snap *p, struct slice path, struct node *ret_node)
{
    struct tree dirs = snap_dirs(p);
    struct slice row;
    int rc = tree_get(&dirs, view_normal(path), &row);

    return rc == 0 ? node_row_decode(row, ret_node) : rc;
}

static int has_prefix(const struct tree *tree, struct slice prefix)
{
    struct tree_iter it;
    int rc;

    tree_iter_init(&it, tree);
    rc = tree_iter_seek(&it, prefix);
    if (rc == 0)
        rc = it.valid && slice_has_prefix(it.key, prefix);
    tree_iter_fini(&it);
    return rc;
}

int view_has_below(struct snap *p, struct slice path)
{
    struct tree keys = snap_keys(p), dirs = snap_dirs(p);
    uint8_t prefix[KEY_MAX_BYTES + 1];
    int rc;

    if (path.len >= KEY_MAX_BYTES)
        return 0; /* nothing fits below it */
    if (path.len > 0)
        memcpy(prefix, path.data, path.len);
    prefix[path.len] = '/';
    rc = has_prefix(&keys, slice_make(prefix, path.len + 1));
    return rc == 0 ? has_prefix(&dirs, slice_make(prefix, path.len + 1)) : rc;
}

int view_is_dir(struct snap *p, struct slice path)
{
    struct node node;
    int rc;

    if (view_is_root(path))
        return 1;
    rc = view_dir_row(p, path, &node);
    if (rc != -ENOENT)
        return rc < 0 ? rc : 1;
    return view_has_below(p, path);
}

int view_load(struct snap *p, struct slice path, struct target *ret_target)
{
    struct target t = {.path = path};
    int rc = range_get(p, path, &t.key);

    if (rc < 0 && rc != -ENOENT)
        return rc;
    t.has_key = rc == 0;
    if (t.has_key)
        t.key_ino = view_ino(&t.key);
    rc = view_dir_row(p, path, &t.dir);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    t.has_dir = t.is_dir = rc == 0;
    if (view_is_root(path)) {
        t.is_dir = true;
        t.dir_ino = INO_ROOT;
    } else if (t.has_dir) {
        t.dir_ino = view_ino(&t.dir);
    } else {
        rc = view_has_below(p, path);
        if (rc < 0)
            return rc;
        t.is_dir = rc == 1;
        t.dir_ino = t.is_dir ? view_implicit_ino(path) : 0;
    }
    *ret_target = t;
    return 0;
}

/* ---- the public reads ---- */

void view_stat_node(const struct node *n, enum node_type type, uint64_t ino, struct node_stat *ret_stat)
{
    *ret_stat = (struct node_stat){
        .type = type,
        .ino = ino,
        .size = n->value_len,
        .attrs = n->attrs,
        .create = n->create,
        .mod = n->chain.last,
        .version = n->version,
        .lease = n->lease,
        .time_ns = n->time_ns,
    };
}

int store_stat(struct store_read *r, struct slice path, struct node_stat *ret_stat)
{
    struct target t;
    int rc = view_load(&r->snap, path, &t);

    if (rc < 0)
        return rc;
    if (t.is_dir) {
        view_stat_node(&t.dir, NODE_DIRECTORY, t.dir_ino, ret_stat);
        ret_stat->implicit = !t.has_dir;
        ret_stat->also_key = t.has_key;
    } else if (t.has_key) {
        view_stat_node(&t.key, NODE_FILE, t.key_ino, ret_stat);
    } else {
        *ret_stat = (struct node_stat){.type = NODE_NONE};
    }
    return 0;
}

int store_stat_key(struct store_read *r, struct slice key, struct node_stat *ret_stat)
{
    struct node node;
    int rc = range_get(&r->snap, key, &node);

    if (rc == 0)
        view_stat_node(&node, NODE_FILE, view_ino(&node), ret_stat);
    else if (rc == -ENOENT)
        *ret_stat = (struct node_stat){.type = NODE_NONE};
    return rc == -ENOENT ? 0 : rc;
}

int store_value(struct store_read *r, struct slice key, struct arena *arena, struct slice *ret_value)
{
    struct node node;
    int rc = range_get(&r->snap, key, &node);

    return rc == 0 ? range_value(&r->snap, &node, arena, ret_value) : rc;
}

struct value_at {
    struct snap *snap;
    struct arena *arena;
    struct slice value;
};

static int take_value(void *ctx, struct slice key, const struct node *node)
{
    struct value_at *v = ctx;

    return range_value(v->snap, node, v->arena, &v->value);
}

int store_value_at(struct store_read *r, struct slice key, int64_t revision, struct arena *arena,
                   struct slice *ret_value, uint16_t *ret_status)
{
    const struct interval interval = {.key = key};
    struct value_at v = {.snap = &r->snap, .arena = arena};
    int64_t current = r->snap.state.revision, count = 0;
    int rc;

    *ret_status = range_check_revision(&r->snap, revision, current);
    if (*ret_status != STATUS_OK)
        return 0;
    rc = range_scan(&r->snap, &interval, revision <= 0 || revision == current ? SCAN_NEWEST : revision, take_value,
                    &v, &count);
    if (rc < 0)
        return rc;
    if (count == 0)
        *ret_status = STATUS_KEY_NOT_FOUND;
    else
        *ret_value = v.value;
    return 0;
}
