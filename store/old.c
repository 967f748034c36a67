/* The tree as it was at a revision.
 *
 * Keys: each has its history, kept back to the last compaction, so their state is asked of the tables (range_scan).
 * Directories made by mkdir have rows in the log and their present state in `dirs`, no more. So a struct store_old collects
 * from the log the first row after its revision of each directory, which names the row before it: that one says what the
 * directory was. A directory without such a row is what `dirs` says.
 *
 *     revision  5: mkdir /d      20: chmod /d      30: rmdir /d
 *     at 10: the first row after it is 20, whose predecessor is 5: /d was as 5 has it
 *     at 30 and later: no row after it, and `dirs` has none: /d was not there */
#include <errno.h>
#include <stdlib.h>

#include "store/children.h"
#include "store/eventlog.h"
#include "store/range.h"
#include "store/view.h"

struct old_dir {
    struct slice path; /* in the arena */
    struct rev before; /* the row that says what it was; main 0: it was not there */
    int64_t main;      /* of the row that changed it */
    int32_t sub;
};

struct store_old {
    int64_t revision, done; /* done: the log has been read up to there */
    struct old_dir *dirs;   /* the first n_sorted in order and each path once */
    size_t n_dirs, n_sorted, cap;
    struct arena arena;
};

int store_old_new(int64_t revision, struct store_old **ret_old)
{
    struct store_old *o = calloc(1, sizeof(*o));

    if (o == NULL)
        return -ENOMEM;
    o->revision = o->done = revision;
    arena_init(&o->arena);
    *ret_old = o;
    return 0;
}

void store_old_free(struct store_old *o)
{
    if (o == NULL)
        return;
    arena_fini(&o->arena);
    free(o->dirs);
    free(o);
}

int64_t store_old_revision(const struct store_old *o)
{
    return o->revision;
}

/* ---- collecting ---- */

static int compare_dirs(const void *x, const void *y)
{
    const struct old_dir *a = x, *b = y;
    int c = slice_cmp(a->path, b->path);

    if (c == 0)
        c = (a->main > b->main) - (a->main < b->main);
    return c != 0 ? c : (a->sub > b->sub) - (a->sub < b->sub);
}

/* Of each path the first row counts. */
static void sort_dirs(struct store_old *o)
{
    size_t n = 0;

    if (o->n_sorted == o->n_dirs)
        return;
    qsort(o->dirs, o->n_dirs, sizeof(o->dirs[0]), compare_dirs);
    for (size_t i = 0; i < o->n_dirs; i++)
        if (n == 0 || !slice_equal(o->dirs[n - 1].path, o->dirs[i].path))
            o->dirs[n++] = o->dirs[i];
    o->n_dirs = o->n_sorted = n;
}

struct collecting {
    struct store_old *o;
    size_t left;
    int64_t last;
    bool stopped;
};

static int collect_dir(void *ctx, const struct event *e)
{
    struct collecting *c = ctx;
    struct store_old *o = c->o;
    struct old_dir *d;

    if (c->left == 0 && e->rev.main != c->last) {
        c->stopped = true; /* this row again, next time */
        return 1;
    }
    c->left -= c->left > 0;
    c->last = e->rev.main;
    if (e->kind != EVENT_DIR_PUT && e->kind != EVENT_DIR_DELETE)
        return 0;
    if (o->n_dirs == o->cap) {
        size_t cap = o->cap != 0 ? o->cap * 2 : 64;

        d = realloc(o->dirs, cap * sizeof(*d));
        if (d == NULL)
            return -ENOMEM;
        o->dirs = d;
        o->cap = cap;
    }
    d = &o->dirs[o->n_dirs];
    *d = (struct old_dir){.before = e->prev, .main = e->rev.main, .sub = (int32_t)e->rev.sub};
    if (arena_copy(&o->arena, e->key, &d->path) < 0)
        return -ENOMEM;
    o->n_dirs++;
    return 0;
}

int store_old_advance(struct store_old *o, struct store_read *r, size_t max_rows, bool *ret_more, uint16_t *ret_status)
{
    struct collecting c = {.o = o, .left = max_rows != 0 ? max_rows : 1};
    int64_t newest = r->snap.state.revision, next;
    int rc;

    *ret_status = range_check_revision(&r->snap, o->revision, newest);
    *ret_more = false;
    if (*ret_status != STATUS_OK || o->done >= newest)
        return 0;
    rc = store_events(r, o->done + 1, collect_dir, &c, &next, ret_status);
    if (rc < 0 || *ret_status != STATUS_OK)
        return rc;
    o->done = c.stopped ? c.last : newest;
    *ret_more = c.stopped;
    if (!c.stopped || o->n_dirs > 2 * o->n_sorted + 65536)
        sort_dirs(o);
    if (o->n_sorted > OLD_DIRECTORIES_MAX)
        *ret_status = STATUS_TOO_LARGE;
    return 0;
}

/* ---- asking ---- */

static int check(const struct store_read *r, const struct store_old *o)
{
    if (o->revision < r->snap.state.compacted)
        return -ESTALE;
    return o->done < r->snap.state.revision || o->n_sorted != o->n_dirs ? -EAGAIN : 0;
}

static int64_t scan_revision(const struct store_read *r, const struct store_old *o)
{
    return o->revision >= r->snap.state.revision ? SCAN_NEWEST : o->revision;
}

/* The first of the sorted ones at or after path. */
static size_t lower_bound(const struct store_old *o, struct slice path)
{
    size_t low = 0, high = o->n_sorted;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_cmp(o->dirs[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct old_dir *find_dir(const struct store_old *o, struct slice path)
{
    size_t at = lower_bound(o, path);

    return at < o->n_sorted && slice_equal(o->dirs[at].path, path) ? &o->dirs[at] : NULL;
}

/* What the row before a change says: -ENOENT if there was no directory. */
static int node_before(struct snap *p, struct rev before, struct node *ret_node)
{
    struct log_row row;
    int rc;

    if (before.main == 0)
        return -ENOENT;
    rc = eventlog_get(p, before, NULL, &row);
    if (rc == -ENOENT && before.main > p->state.compacted)
        return -EUCLEAN;
    if (rc == 0 && row.event.kind != EVENT_DIR_PUT)
        rc = -ENOENT;
    if (rc == 0)
        eventlog_node(&row, ret_node);
    return rc;
}

static int dir_at(struct snap *p, const struct store_old *o, struct slice path, struct node *ret_node)
{
    const struct old_dir *d = find_dir(o, view_normal(path));

    return d != NULL ? node_before(p, d->before, ret_node) : view_dir_row(p, path, ret_node);
}

static int take_node(void *ctx, struct slice key, const struct node *node)
{
    *(struct node *)ctx = *node;
    ((struct node *)ctx)->value = slice_make(NULL, 0); /* borrowed from the scan */
    ((struct node *)ctx)->is_inline = false;
    return SCAN_STOP;
}

/* 1 and the node, 0. */
static int key_at(struct snap *p, int64_t revision, struct slice key, struct node *ret_node)
{
    const struct interval interval = {.key = key};
    int64_t count;
    int rc = range_scan(p, &interval, revision, take_node, ret_node, &count);

    return rc < 0 ? rc : count > 0;
}

static int stop_at_once(void *ctx, struct slice key, const struct node *node)
{
    return SCAN_STOP;
}

/* Does any directory that was there begin with prefix? 1, 0. */
static int dirs_below(struct snap *p, const struct store_old *o, struct slice prefix)
{
    struct tree dirs = snap_dirs(p);
    struct tree_iter it;
    struct node node;
    int rc;

    for (size_t i = lower_bound(o, prefix); i < o->n_sorted && slice_has_prefix(o->dirs[i].path, prefix); i++) {
        rc = node_before(p, o->dirs[i].before, &node);
        if (rc != -ENOENT)
            return rc < 0 ? rc : 1;
    }
    tree_iter_init(&it, &dirs);
    rc = tree_iter_seek(&it, prefix);
    while (rc == 0 && it.valid && slice_has_prefix(it.key, prefix) && find_dir(o, it.key) != NULL)
        rc = tree_iter_next(&it);
    if (rc == 0)
        rc = it.valid && slice_has_prefix(it.key, prefix);
    tree_iter_fini(&it);
    return rc;
}

static int has_below_at(struct snap *p, const struct store_old *o, int64_t revision, struct slice path)
{
    uint8_t from[KEY_MAX_BYTES + 1], to[KEY_MAX_BYTES + 1];
    struct interval interval = {{from, path.len + 1}, {to, path.len + 1}};
    int64_t count;
    int rc;

    if (path.len >= KEY_MAX_BYTES)
        return 0;
    if (path.len > 0) {
        memcpy(from, path.data, path.len);
        memcpy(to, path.data, path.len);
    }
    from[path.len] = '/';
    to[path.len] = '/' + 1;
    rc = range_scan(p, &interval, revision, stop_at_once, NULL, &count);
    if (rc < 0 || count > 0)
        return rc < 0 ? rc : 1;
    return dirs_below(p, o, interval.key);
}

static void set_stat(const struct node *n, enum node_type type, uint64_t ino, struct node_stat *st)
{
    *st = (struct node_stat){
        .type = type, .ino = ino, .size = n->value_len, .attrs = n->attrs, .create = n->create, .mod = n->chain.last,
        .version = n->version, .lease = n->lease, .time_ns = n->time_ns,
    };
}

int store_stat_key_at(struct store_read *r, const struct store_old *o, struct slice key, struct node_stat *ret_stat)
{
    struct node node;
    int rc = check(r, o);

    if (rc == 0)
        rc = key_at(&r->snap, scan_revision(r, o), key, &node);
    if (rc == 1)
        set_stat(&node, NODE_FILE, view_ino(&node), ret_stat);
    else if (rc == 0)
        *ret_stat = (struct node_stat){.type = NODE_NONE};
    return rc < 0 ? rc : 0;
}

int store_stat_at(struct store_read *r, const struct store_old *o, struct slice path, struct node_stat *ret_stat)
{
    struct snap *p = &r->snap;
    struct node key = {0}, dir = {0};
    bool root = view_is_root(path), has_dir, has_key, below = false;
    int rc = check(r, o);

    if (rc < 0)
        return rc;
    rc = key_at(p, scan_revision(r, o), path, &key);
    if (rc < 0)
        return rc;
    has_key = rc == 1;
    rc = dir_at(p, o, path, &dir);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    has_dir = rc == 0;
    if (!root && !has_dir) {
        rc = has_below_at(p, o, scan_revision(r, o), path);
        if (rc < 0)
            return rc;
        below = rc == 1;
    }
    if (root || has_dir || below) {
        set_stat(&dir, NODE_DIRECTORY, root ? INO_ROOT : has_dir ? view_ino(&dir) : view_implicit_ino(path), ret_stat);
        ret_stat->implicit = !has_dir;
        ret_stat->also_key = has_key;
    } else if (has_key) {
        set_stat(&key, NODE_FILE, view_ino(&key), ret_stat);
    } else {
        *ret_stat = (struct node_stat){.type = NODE_NONE};
    }
    return 0;
}

/* ---- listing ---- */

struct level_scan {
    struct children *children;
    bool deeper; /* the scan stopped in a longer path: go on behind it */
};

static int scan_key(void *ctx, struct slice key, const struct node *node)
{
    struct level_scan *s = ctx;
    int rc = children_add(s->children, key, true);

    if (rc < 0)
        return rc;
    s->deeper = rc == 1;
    return s->deeper ? SCAN_STOP : SCAN_GO_ON;
}

/* Goes on behind each component with something below it, so the cost is by children that were there. */
static int list_keys_at(struct snap *p, int64_t revision, struct children *c)
{
    struct interval interval = {{NULL, 0}, bytes_slice(&c->end)};
    int64_t count;
    int rc;

    bytes_reset(&c->at);
    bytes_append(&c->at, bytes_slice(&c->prefix));
    for (;;) {
        struct level_scan s = {.children = c};

        interval.key = bytes_slice(&c->at);
        rc = bytes_status(&c->at);
        if (rc == 0)
            rc = range_scan(p, &interval, revision, scan_key, &s, &count);
        if (rc < 0 || !s.deeper)
            return rc;
        children_skip(c);
    }
}

static int list_dirs_at(struct snap *p, const struct store_old *o, struct children *c)
{
    struct tree dirs = snap_dirs(p);
    struct tree_iter it;
    struct slice prefix = bytes_slice(&c->prefix);
    struct node node;
    int rc = 0;

    for (size_t i = lower_bound(o, prefix); rc >= 0 && i < o->n_sorted && slice_has_prefix(o->dirs[i].path, prefix); i++) {
        rc = node_before(p, o->dirs[i].before, &node);
        if (rc == 0)
            rc = children_add(c, o->dirs[i].path, false);
        else if (rc == -ENOENT)
            rc = 0;
    }
    tree_iter_init(&it, &dirs);
    if (rc >= 0)
        rc = tree_iter_seek(&it, prefix);
    while (rc == 0 && it.valid && slice_has_prefix(it.key, prefix)) {
        if (find_dir(o, it.key) == NULL)
            rc = children_add(c, it.key, false);
        if (rc == 1) {
            children_skip(c);
            rc = tree_iter_seek(&it, bytes_slice(&c->at));
        } else if (rc == 0) {
            rc = tree_iter_next(&it);
        }
    }
    tree_iter_fini(&it);
    return rc < 0 ? rc : 0;
}

static int list_at(struct store_read *r, const struct store_old *o, struct slice dir, bool bare, store_child_fn emit,
                   void *ctx)
{
    struct children c;
    int rc = check(r, o);

    if (rc < 0)
        return rc;
    rc = children_init(&c, dir, bare);
    if (rc == 0)
        rc = list_keys_at(&r->snap, scan_revision(r, o), &c);
    if (rc == 0)
        rc = list_dirs_at(&r->snap, o, &c);
    if (rc == 0)
        rc = children_tell(&c, emit, ctx);
    children_fini(&c);
    return rc;
}

int store_list_at(struct store_read *r, const struct store_old *o, struct slice dir, store_child_fn emit, void *ctx)
{
    return list_at(r, o, dir, false, emit, ctx);
}

int store_list_bare_at(struct store_read *r, const struct store_old *o, struct slice dir, store_child_fn emit, void *ctx)
{
    return list_at(r, o, dir, true, emit, ctx);
}
