/* One level of a directory, in byte order of the components.
 *
 * Rows come in byte order of whole keys, which is another: below "a", the rows
 *     "a/x"  "a/x.y"  "a/x/z"
 * name the components "x", "x.y" and again "x" (a directory), since '.' sorts before '/'. So
 *   - a component is asked at its first row whether it is a directory too ("x": is there anything at "x/"?),
 *   - a row of a component that is not later than the last one told is skipped together with all below it,
 *   - and where only "a/x.y" and "a/x/z" exist, "x" must be told when "x.y" is met: each beginning of a new
 *     component that goes on with a byte below '/' may be such a directory. */
#include <errno.h>
#include <stdlib.h>

#include "store/range.h"
#include "store/view.h"

struct lister {
    struct snap *snap;
    struct bytes at;    /* prefix, and where to seek */
    size_t prefix_len;
    struct bytes last;  /* the component told last */
    bool has_last, bare_root;
    struct tree_iter keys, dirs;
    store_child_fn emit;
    void *ctx;
    bool stopped;
};

static struct slice prefix_of(const struct lister *l)
{
    return slice_make(l->at.data, l->prefix_len);
}

/* Sets l->at to prefix, component and one more byte (or none), and both iterators there. */
static int seek_to(struct lister *l, struct slice component, int next_byte)
{
    int rc;

    l->at.len = l->prefix_len;
    bytes_append(&l->at, component);
    if (next_byte >= 0)
        bytes_u8(&l->at, (uint8_t)next_byte);
    rc = bytes_status(&l->at);
    if (rc == 0)
        rc = tree_iter_seek(&l->keys, bytes_slice(&l->at));
    if (rc == 0)
        rc = tree_iter_seek(&l->dirs, bytes_slice(&l->at));
    return rc;
}

static bool is_inside(const struct lister *l, const struct tree_iter *it)
{
    return it->valid && slice_has_prefix(it->key, prefix_of(l));
}

/* Does anything begin with prefix + component + "/", or is it a row of dirs? 1, 0. */
static int is_directory(struct lister *l, struct slice component)
{
    struct node node;
    int rc;

    l->at.len = l->prefix_len;
    bytes_append(&l->at, component);
    rc = bytes_status(&l->at);
    if (rc < 0)
        return rc;
    if (l->at.len > 0 && !view_is_root(bytes_slice(&l->at))) {
        rc = view_dir_row(l->snap, bytes_slice(&l->at), &node);
        if (rc != -ENOENT)
            return rc < 0 ? rc : 1;
    }
    return view_has_below(l->snap, bytes_slice(&l->at));
}

static int tell(struct lister *l, struct slice component, bool is_key, bool is_dir, const struct node_stat *stat)
{
    const struct store_child child = {component, is_key, is_dir, is_dir ? NULL : stat};
    int rc;

    bytes_reset(&l->last);
    bytes_append(&l->last, component);
    rc = bytes_status(&l->last);
    l->has_last = true;
    if (rc == 0)
        rc = l->emit(l->ctx, &child);
    if (rc > 0)
        l->stopped = true;
    return rc < 0 ? rc : 0;
}

/* Directories without a row of their own that sort before component but whose rows come after it. */
static int tell_beginnings(struct lister *l, struct slice component)
{
    for (size_t n = 0; n < component.len && !l->stopped; n++) {
        struct slice beginning = slice_make(component.data, n);
        int rc;

        if (component.data[n] >= '/' || (l->has_last && slice_cmp(beginning, bytes_slice(&l->last)) <= 0))
            continue;
        if (l->bare_root && n == 0)
            continue;
        rc = is_directory(l, beginning);
        if (rc == 1)
            rc = tell(l, beginning, false, true, NULL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The component at the lower of both iterators, copied; *ret_deeper: it is met in a longer path. False: the end. */
static bool lowest(const struct lister *l, struct bytes *component, bool *ret_deeper)
{
    bool has_key = is_inside(l, &l->keys), has_dir = is_inside(l, &l->dirs);
    const uint8_t *slash;
    struct slice rest;

    if (!has_key && !has_dir)
        return false;
    rest = !has_dir || (has_key && slice_cmp(l->keys.key, l->dirs.key) <= 0) ? l->keys.key : l->dirs.key;
    rest = slice_make(rest.data + l->prefix_len, rest.len - l->prefix_len);
    slash = rest.len > 0 ? memchr(rest.data, '/', rest.len) : NULL;
    *ret_deeper = slash != NULL;
    if (slash != NULL)
        rest.len = (size_t)(slash - rest.data);
    bytes_reset(component);
    bytes_append(component, rest);
    return true;
}

/* The iterator stands on exactly prefix + component. */
static bool is_at(const struct lister *l, const struct tree_iter *it, struct slice component)
{
    return is_inside(l, it) && it->key.len == l->prefix_len + component.len &&
           (component.len == 0 || memcmp(it->key.data + l->prefix_len, component.data, component.len) == 0);
}

/* The iterator's row is after prefix + component: can a later one be below it? */
static bool may_meet_below(const struct lister *l, const struct tree_iter *it)
{
    struct slice name = bytes_slice(&l->at);

    return it->valid && slice_has_prefix(it->key, name) && it->key.len > name.len && it->key.data[name.len] <= '/';
}

/* A component met as a row of its own: tells it, and leaves the iterators on the rows after it. */
static int list_own_row(struct lister *l, struct slice component)
{
    bool is_key = is_at(l, &l->keys, component), is_dir = is_at(l, &l->dirs, component);
    struct node_stat stat;
    struct node node;
    int rc = 0;

    if (view_is_root(prefix_of(l)) && l->prefix_len == 1 && component.len == 0)
        is_dir = false; /* the root's own attributes */
    if (is_key) {
        rc = node_row_decode(l->keys.value, &node);
        if (rc == 0) {
            view_stat_node(&node, NODE_FILE, view_ino(&node), &stat);
            rc = tree_iter_next(&l->keys);
        }
    }
    if (rc == 0 && is_at(l, &l->dirs, component))
        rc = tree_iter_next(&l->dirs);
    if (rc == 0 && !is_dir) {
        l->at.len = l->prefix_len;
        bytes_append(&l->at, component);
        rc = bytes_status(&l->at);
        if (rc == 0 && (may_meet_below(l, &l->keys) || may_meet_below(l, &l->dirs))) {
            rc = is_directory(l, component);
            is_dir = rc == 1;
        }
    }
    if (rc >= 0)
        rc = is_key || is_dir ? tell(l, component, is_key, is_dir, is_key ? &stat : NULL) : 0;
    return rc;
}

static int list_all(struct lister *l, struct bytes *component)
{
    bool deeper;
    int rc = 0;

    while (rc == 0 && !l->stopped && lowest(l, component, &deeper)) {
        struct slice c = bytes_slice(component);

        rc = bytes_status(component);
        if (rc < 0)
            break;
        if ((l->has_last && slice_cmp(c, bytes_slice(&l->last)) <= 0) || (l->bare_root && deeper && c.len == 0)) {
            rc = seek_to(l, c, '/' + 1);
            continue;
        }
        rc = tell_beginnings(l, c);
        if (rc < 0 || l->stopped)
            break;
        if (!deeper) {
            rc = list_own_row(l, c);
        } else {
            rc = tell(l, c, false, true, NULL);
            if (rc == 0)
                rc = seek_to(l, c, '/' + 1);
        }
    }
    return rc;
}

static int list_level(struct store_read *r, struct slice dir, bool bare, struct slice after, store_child_fn emit,
                      void *ctx)
{
    struct lister l = {.snap = &r->snap, .emit = emit, .ctx = ctx, .bare_root = bare && dir.len == 0};
    struct tree keys = snap_keys(&r->snap), dirs = snap_dirs(&r->snap);
    struct bytes component;
    int rc;

    bytes_init(&component);
    bytes_init(&l.at);
    bytes_init(&l.last);
    tree_iter_init(&l.keys, &keys);
    tree_iter_init(&l.dirs, &dirs);
    bytes_append(&l.at, dir);
    if (!l.bare_root)
        bytes_u8(&l.at, '/');
    l.prefix_len = l.at.len;
    if (after.len > 0) {
        bytes_append(&l.last, after);
        l.has_last = true;
    }
    rc = bytes_status(&l.at) < 0 ? bytes_status(&l.at) : bytes_status(&l.last);
    if (rc == 0)
        rc = seek_to(&l, after, after.len > 0 ? 0 : -1);
    if (rc == 0)
        rc = list_all(&l, &component);
    tree_iter_fini(&l.keys);
    tree_iter_fini(&l.dirs);
    bytes_fini(&l.last);
    bytes_fini(&l.at);
    bytes_fini(&component);
    return rc;
}

int store_list(struct store_read *r, struct slice dir, struct slice after, store_child_fn emit, void *ctx)
{
    return list_level(r, dir, false, after, emit, ctx);
}

int store_list_bare(struct store_read *r, struct slice dir, struct slice after, store_child_fn emit, void *ctx)
{
    return list_level(r, dir, true, after, emit, ctx);
}
