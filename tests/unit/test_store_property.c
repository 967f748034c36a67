/* store/ against a naive model: random commands, then every kind of read compared.
 * SEED=n replays a run; OPS=n sets its length. */
#include "tests/unit/store_fixture.h"

#include <sys/stat.h>
#include <time.h>

#include "store/eventlog.h"
#include "store/inspect.h"
#include "tests/unit/store_model.h"

#define MAX_OPS 6

struct world {
    struct fixture f;
    struct fixture twin; /* another node: the same commands in other batches, so removal is elsewhere */
    struct model m;
    struct arena arena;  /* of the step */
    uint64_t random;
    struct store_batch *batch;
};

/* ---- random things ---- */

static uint64_t next_random(struct world *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t below(struct world *w, size_t n)
{
    return next_random(w) % n;
}

/* Few different components, so that names meet; some as long as a piece of a layer, about. */
static struct slice random_path(struct world *w)
{
    static const char *const short_ones[] = {"a", "b", "a.b", "a-", "", "c", "ab"};
    static const size_t long_ones[] = {499, 500, 501, 502, 503, 1003, 1004, 1005, 3000};
    uint8_t *p = arena_alloc(&w->arena, KEY_MAX_BYTES);
    size_t n = 0, parts = 1 + below(w, 4);

    if (below(w, 12) == 0)
        parts = 1; /* a bare key */
    else
        p[n++] = '/';
    for (size_t i = 0; i < parts; i++) {
        if (i > 0)
            p[n++] = '/';
        if (below(w, 10) == 0) {
            size_t len = long_ones[below(w, sizeof(long_ones) / sizeof(long_ones[0]))];

            memset(p + n, 'a', len);
            n += len;
            if (below(w, 2) == 0)
                p[n - 1] = (uint8_t)(below(w, 2) == 0 ? 0 : 0xff);
        } else {
            const char *s = short_ones[below(w, sizeof(short_ones) / sizeof(short_ones[0]))];

            memcpy(p + n, s, strlen(s));
            n += strlen(s);
        }
    }
    if (n == 0 || (n == 1 && p[0] == '/'))
        p[n++] = 'z';
    return slice_make(p, n);
}

/* Mostly one that is there. */
static struct slice random_key(struct world *w)
{
    if (w->m.n_keys > 0 && below(w, 3) != 0)
        return w->m.keys[below(w, w->m.n_keys)].key;
    return random_path(w);
}

static struct slice random_dir(struct world *w)
{
    struct slice key = random_key(w), parent;

    if (w->m.n_dirs > 0 && below(w, 2) == 0)
        return w->m.dirs[below(w, w->m.n_dirs)].path;
    return below(w, 3) != 0 && model_parent(key, &parent) ? parent : key;
}

static struct slice random_value(struct world *w)
{
    static const size_t sizes[] = {0, 1, 10, 64, 65, 66, 511, 512, 513, 1200, 1328, 1400, 4000, 20000};
    size_t len = sizes[below(w, sizeof(sizes) / sizeof(sizes[0]))];
    uint8_t *p = arena_alloc(&w->arena, len + 1);

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(next_random(w) >> 13);
    return slice_make(p, len);
}

/* One that the caller gets back at the prefix's end, now and then. */
static struct slice random_end(struct world *w, struct slice key)
{
    uint8_t *p;

    switch (below(w, 5)) {
    case 0:
        return slice_make(NULL, 0);
    case 1:
        return slice_make("", 1);
    case 2:
        p = arena_alloc(&w->arena, key.len + 1);
        memcpy(p, key.data, key.len);
        p[key.len] = '0';
        return slice_make(p, key.len + 1);
    default:
        return random_key(w);
    }
}

/* ---- commands, and what must come of them ---- */

static struct result apply(struct world *w, struct command cmd)
{
    struct result result;
    bool fresh;

    cmd.time_ns = w->f.time_ns++;
    cmd.origin = 3;
    w->f.index++;
    assert_int_equal(0, store_apply(w->batch, w->f.index, 1, 0, &cmd, &w->arena, &result, &fresh));
    assert_true(fresh);
    assert_int_equal(0, store_batch_advance(w->batch, w->f.index, 1));
    return result;
}

static struct result apply_to_both(struct world *w, struct command cmd)
{
    struct result result = apply(w, cmd), other;

    cmd.time_ns = w->f.time_ns - 1;
    cmd.origin = 3;
    w->twin.index = w->f.index - 1;
    other = fixture_apply(&w->twin, cmd);
    assert_int_equal(result.status, other.status);
    assert_int_equal(result.revision, other.revision);
    return result;
}

static void check_end(struct world *w, const struct result *r, uint16_t expected)
{
    model_end(&w->m);
    if (r->status != expected)
        fail_msg("status %d (%s), expected %d (%s)", r->status, status_text(r->status), expected,
                 status_text(expected));
    assert_int_equal(w->m.revision, r->revision);
}

static void do_put(struct world *w)
{
    struct command cmd = {.kind = COMMAND_PUT, .put = {.key = random_key(w), .value = random_value(w)}};
    struct version *old = model_live(&w->m, cmd.put.key);
    struct result r;
    struct version before = old != NULL ? *old : (struct version){0};

    cmd.put.prev_kv = true;
    r = apply_to_both(w, cmd);
    assert_int_equal(before.version > 0, r.op.put.prev_kv != NULL);
    if (before.version > 0) {
        assert_int_equal(before.main, r.op.put.prev_kv->mod_revision);
        assert_true(slice_equal(slice_make(before.value, before.len), r.op.put.prev_kv->value));
    }
    model_put(&w->m, cmd.put.key, cmd.put.value, 0, false);
    check_end(w, &r, STATUS_OK);
}

static void do_delete(struct world *w)
{
    struct slice key = random_key(w), end = below(w, 4) == 0 ? random_end(w, key) : slice_make(NULL, 0);
    struct command cmd = {.kind = COMMAND_DELETE_RANGE, .del = {.key = key, .range_end = end}};
    struct result r;

    if (end.len == 1 && below(w, 10) != 0)
        return; /* everything, not too often */
    r = apply_to_both(w, cmd);
    assert_int_equal(model_delete_range(&w->m, key, end), r.op.del.deleted);
    check_end(w, &r, STATUS_OK);
}

static void do_txn(struct world *w)
{
    struct op ops[MAX_OPS] = {0};
    size_t n = 1 + below(w, MAX_OPS);
    struct slice key = random_key(w);
    struct version *v = model_live(&w->m, key);
    struct op_compare compare = {.key = key, .target = COMPARE_VERSION, .result = COMPARE_EQUAL, .number = 1};
    const bool holds = v != NULL && v->version == 1;
    struct command cmd = {.kind = COMMAND_TXN, .txn = {.compares = &compare, .n_compares = 1}};
    bool duplicate = false;
    struct result r;

    for (size_t i = 0; i < n; i++) {
        struct slice k = random_key(w);

        if (below(w, 3) != 0)
            ops[i] = (struct op){.kind = OP_PUT, .put = {.key = k, .value = random_value(w)}};
        else if (below(w, 2) != 0)
            ops[i] = (struct op){.kind = OP_DELETE, .del = {.key = k}};
        else
            ops[i] = (struct op){.kind = OP_RANGE, .range = {.key = k}};
        for (size_t j = 0; j < i; j++)
            duplicate |= (ops[i].kind == OP_PUT && ops[j].kind == OP_PUT && slice_equal(k, ops[j].put.key)) ||
                         (ops[i].kind == OP_PUT && ops[j].kind == OP_DELETE && slice_equal(k, ops[j].del.key)) ||
                         (ops[i].kind == OP_DELETE && ops[j].kind == OP_PUT && slice_equal(k, ops[j].put.key));
    }
    cmd.txn.success = cmd.txn.failure = ops;
    cmd.txn.n_success = cmd.txn.n_failure = n;
    r = apply_to_both(w, cmd);
    if (!duplicate)
        assert_int_equal(holds, r.txn.succeeded);
    for (size_t i = 0; !duplicate && i < n; i++) {
        if (ops[i].kind == OP_PUT)
            model_put(&w->m, ops[i].put.key, ops[i].put.value, 0, false);
        else if (ops[i].kind == OP_DELETE)
            assert_int_equal(model_delete_range(&w->m, ops[i].del.key, slice_make(NULL, 0)),
                             r.txn.ops[i].del.deleted);
        else
            assert_int_equal(model_live(&w->m, ops[i].range.key) != NULL, r.txn.ops[i].range.n_kvs);
    }
    check_end(w, &r, duplicate ? STATUS_DUPLICATE_KEY : STATUS_OK);
}

/* ---- file commands ---- */

static uint16_t parent_status(struct world *w, struct slice path)
{
    struct slice parent;

    if (!model_parent(path, &parent) || model_is_dir(&w->m, parent))
        return STATUS_OK;
    return model_live(&w->m, parent) != NULL ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
}

static void keep_parent(struct world *w, struct slice path)
{
    struct slice parent;

    if (model_parent(path, &parent) && !model_is_dir(&w->m, parent)) {
        struct mdir *d;

        model_dir_put(&w->m, parent, 1); /* its number comes from the path: take the store's word for it */
        d = model_dir(&w->m, parent, false);
        d->ino = 0;
    }
}

static void do_write(struct world *w)
{
    struct file_op op = {.path = random_key(w), .value = random_value(w), .flags = FILE_CREATE};
    struct version *v = model_live(&w->m, op.path);
    uint16_t expected = STATUS_OK;
    bool append = below(w, 3) == 0;
    struct slice content = op.value;
    struct result r;

    if (v != NULL && below(w, 8) == 0)
        op.ino = v->ino + 1;
    if (append) {
        expected = v == NULL ? STATUS_NO_ENTRY : op.ino != 0 ? STATUS_STALE : STATUS_OK;
        if (v != NULL) {
            uint8_t *p = arena_alloc(&w->arena, v->len + op.value.len + 1);

            memcpy(p, v->value, v->len);
            memcpy(p + v->len, op.value.data, op.value.len);
            content = slice_make(p, v->len + op.value.len);
        }
    } else if (v == NULL) {
        expected = model_is_dir(&w->m, op.path) ? STATUS_IS_DIRECTORY : parent_status(w, op.path);
    } else if (op.ino != 0) {
        expected = STATUS_STALE;
    }
    r = apply_to_both(w, (struct command){.kind = append ? COMMAND_FILE_APPEND : COMMAND_FILE_WRITE, .file = op});
    if (expected == STATUS_OK) {
        model_put(&w->m, op.path, content, 0, false);
        assert_true(model_live(&w->m, op.path)->ino == r.file.ino);
    }
    check_end(w, &r, expected);
}

static void do_mkdir(struct world *w)
{
    struct file_op op = {.path = random_dir(w)};
    uint16_t expected = model_live(&w->m, op.path) != NULL || model_is_dir(&w->m, op.path) ? STATUS_EXISTS
                                                                                          : parent_status(w, op.path);
    struct result r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_MKDIR, .file = op});

    if (expected == STATUS_OK) {
        model_dir_put(&w->m, op.path, 0);
        assert_true(model_dir(&w->m, op.path, false)->ino == r.file.ino);
    }
    check_end(w, &r, expected);
}

static void do_unlink(struct world *w)
{
    struct file_op op = {.path = random_key(w)};
    uint16_t expected = model_is_dir(&w->m, op.path)              ? STATUS_IS_DIRECTORY
                        : model_live(&w->m, op.path) == NULL ? STATUS_NO_ENTRY
                                                             : STATUS_OK;
    struct result r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_UNLINK, .file = op});

    if (expected == STATUS_OK) {
        model_delete(&w->m, op.path);
        keep_parent(w, op.path);
    }
    check_end(w, &r, expected);
}

static void do_rmdir(struct world *w)
{
    struct file_op op = {.path = random_dir(w)};
    struct version *v = model_live(&w->m, op.path);
    uint16_t expected = STATUS_OK;
    struct result r;

    if (!model_is_dir(&w->m, op.path))
        expected = v != NULL ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
    else if (v != NULL || model_has_below(&w->m, op.path))
        expected = STATUS_NOT_EMPTY;
    r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_RMDIR, .file = op});
    if (expected == STATUS_OK) {
        model_dir_delete(&w->m, op.path);
        keep_parent(w, op.path);
    }
    check_end(w, &r, expected);
}

static void do_setattr(struct world *w)
{
    struct file_op op = {.path = random_key(w), .attrs = {.has = ATTR_MODE | ATTR_MTIME, .mode = 0600}};
    struct version *v = model_live(&w->m, op.path);
    bool truncate = below(w, 3) == 0;
    struct result r;

    op.attrs.mtime_ns = w->f.time_ns; /* new each time: always a change */
    if (model_is_dir(&w->m, op.path))
        return; /* a directory's are checked elsewhere */
    if (truncate) {
        op.attrs.has |= ATTR_SIZE;
        op.attrs.size = v != NULL ? v->len / 2 : 0;
    }
    r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_SETATTR, .file = op});
    if (v != NULL) {
        size_t len = truncate ? v->len / 2 : v->len;

        model_put(&w->m, op.path, slice_make(v->value, len), 0, len == v->len);
    }
    check_end(w, &r, v != NULL ? STATUS_OK : STATUS_NO_ENTRY);
}

/* ---- rename ---- */

static uint64_t store_ino(struct world *w, struct slice path)
{
    struct version *v = model_live(&w->m, path);
    struct mdir *d = model_dir(&w->m, path, false);

    if (d != NULL && d->ino != 0)
        return d->ino;
    return model_is_dir(&w->m, path) ? 0 : v != NULL ? v->ino : 0;
}

static struct slice moved_path(struct world *w, struct slice path, struct slice from, struct slice to)
{
    uint8_t *p = arena_alloc(&w->arena, path.len + to.len + 1);

    memcpy(p, to.data, to.len);
    memcpy(p + to.len, path.data + from.len, path.len - from.len);
    return slice_make(p, to.len + path.len - from.len);
}

/* The effects of a rename that is allowed, in the order of the rows. */
static void move_all(struct world *w, struct slice from, struct slice to, bool as_dir)
{
    struct model *m = &w->m;
    struct slice *keys = arena_array(&w->arena, m->n_keys + 1, sizeof(*keys));
    struct slice *dirs = arena_array(&w->arena, m->n_dirs + 1, sizeof(*dirs));
    size_t n_keys = 0, n_dirs = 0;
    bool implicit = as_dir && model_dir(m, from, false) == NULL;

    for (size_t i = 0; i < m->n_keys; i++)
        if (model_at(&m->keys[i], INT64_MAX) != NULL &&
            (slice_equal(m->keys[i].key, from) || (as_dir && model_is_below(m->keys[i].key, from))))
            keys[n_keys++] = m->keys[i].key;
    for (size_t i = 0; i < m->n_dirs; i++)
        if (as_dir && m->dirs[i].live && (slice_equal(m->dirs[i].path, from) || model_is_below(m->dirs[i].path, from)))
            dirs[n_dirs++] = m->dirs[i].path;
    m->sub++; /* the header */
    if (implicit) {
        model_dir_put(m, to, 1);
        model_dir(m, to, false)->ino = 0;
    }
    for (size_t i = 0; i < n_dirs; i++) {
        uint64_t ino = model_dir(m, dirs[i], false)->ino;

        model_dir_put(m, moved_path(w, dirs[i], from, to), ino != 0 ? ino : 1);
        model_dir(m, moved_path(w, dirs[i], from, to), false)->ino = ino;
    }
    for (size_t i = 0; i < n_keys; i++) {
        struct version *v = model_live(m, keys[i]);
        struct slice value = slice_make(v->value, v->len);

        model_put(m, moved_path(w, keys[i], from, to), value, v->ino, false);
    }
    for (size_t i = n_keys; i-- > 0;)
        model_delete(m, keys[i]);
    for (size_t i = n_dirs; i-- > 0;)
        model_dir_delete(m, dirs[i]);
    keep_parent(w, from);
}

static void do_rename(struct world *w)
{
    struct slice from = below(w, 2) == 0 ? random_dir(w) : random_key(w);
    struct slice to = below(w, 3) == 0 ? random_dir(w) : below(w, 2) == 0 ? random_path(w) : random_key(w);
    struct model *m = &w->m;
    struct file_op op = {.path = from, .path2 = to, .flags = below(w, 4) == 0 ? FILE_NOREPLACE : 0};
    bool from_dir = model_is_dir(m, from), to_dir = model_is_dir(m, to);
    bool from_is = from_dir || model_live(m, from) != NULL, to_is = to_dir || model_live(m, to) != NULL;
    uint16_t expected = STATUS_OK;
    struct result r;

    op.ino2 = store_ino(w, to);
    if (to_is && op.ino2 == 0) {
        struct store_read *read; /* an implicit directory: only the store knows its number */
        struct node_stat stat;

        assert_int_equal(0, store_batch_commit(w->batch));
        assert_int_equal(0, store_read_begin(w->f.store, &read));
        assert_int_equal(0, store_stat(read, to, &stat));
        op.ino2 = stat.ino;
        store_read_end(read);
        assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
    }
    if (model_is_root(from) || model_is_root(to))
        expected = STATUS_INVALID_REQUEST;
    else if (!from_is)
        expected = STATUS_NO_ENTRY;
    else if (from_dir && model_is_below(to, from))
        expected = STATUS_INVALID_MOVE;
    else if (slice_equal(from, to))
        expected = op.flags != 0 ? STATUS_EXISTS : STATUS_OK;
    else if (parent_status(w, to) != STATUS_OK)
        expected = parent_status(w, to);
    else if (to_is && op.flags != 0)
        expected = STATUS_EXISTS;
    else if (to_dir && !from_dir)
        expected = STATUS_IS_DIRECTORY;
    else if (to_is && !to_dir && from_dir)
        expected = STATUS_NOT_DIRECTORY;
    else if (to_dir && (model_live(m, to) != NULL || model_has_below(m, to)))
        expected = STATUS_NOT_EMPTY;
    r = apply_to_both(w, (struct command){.kind = COMMAND_FILE_RENAME, .file = op});
    if (r.status == STATUS_NAME_TOO_LONG)
        return;
    if (expected == STATUS_OK && !slice_equal(from, to))
        move_all(w, from, to, from_dir);
    check_end(w, &r, expected);
}

/* ---- reads ---- */

static void check_kv(const struct kv *kv, const struct mkey *k, const struct version *v)
{
    assert_true(slice_equal(k->key, kv->key));
    assert_int_equal(v->main, kv->mod_revision);
    assert_int_equal(v->create, kv->create_revision);
    assert_int_equal(v->version, kv->version);
    assert_true(slice_equal(slice_make(v->value, v->len), kv->value));
}

static void check_range(struct world *w, struct store_read *r)
{
    struct slice key = random_key(w), end = random_end(w, key);
    int64_t oldest = w->m.compacted > 0 ? w->m.compacted : 1;
    int64_t revision = below(w, 2) == 0 ? 0 : oldest + (int64_t)below(w, (size_t)(w->m.revision - oldest + 1));
    struct op_range op = {.key = key, .range_end = end, .revision = revision, .limit = (int64_t)below(w, 5)};
    struct range_result range;
    uint16_t status;
    size_t n = 0;

    assert_int_equal(0, store_range(r, &op, &w->arena, 0, &range, &status));
    assert_int_equal(STATUS_OK, status);
    for (size_t i = 0; i < w->m.n_keys; i++) {
        struct version *v = model_at(&w->m.keys[i], revision != 0 ? revision : INT64_MAX);

        if (v == NULL || !model_in(w->m.keys[i].key, key, end))
            continue;
        if (n < range.n_kvs)
            check_kv(&range.kvs[n], &w->m.keys[i], v);
        n++;
    }
    assert_int_equal(n, range.count);
    assert_int_equal(op.limit > 0 && (int64_t)n > op.limit ? (size_t)op.limit : n, range.n_kvs);
    assert_int_equal(range.n_kvs < n, range.more);
}

struct expected_children {
    struct world *w;
    struct slice names[256];
    bool is_key[256], is_dir[256];
    size_t n, seen;
};

static void expect_child(struct expected_children *e, struct slice name, bool is_key, bool is_dir)
{
    size_t i = 0;

    while (i < e->n && slice_cmp(e->names[i], name) < 0)
        i++;
    if (i == e->n || !slice_equal(e->names[i], name)) {
        assert_true(e->n < 256);
        for (size_t j = e->n; j > i; j--) {
            e->names[j] = e->names[j - 1];
            e->is_key[j] = e->is_key[j - 1];
            e->is_dir[j] = e->is_dir[j - 1];
        }
        e->names[i] = name;
        e->is_key[i] = e->is_dir[i] = false;
        e->n++;
    }
    e->is_key[i] |= is_key;
    e->is_dir[i] |= is_dir;
}

static void expect_path(struct expected_children *e, struct slice path, struct slice dir, bool bare_root, bool is_key)
{
    struct slice rest = path;
    const uint8_t *slash;

    if (!bare_root) {
        if (!model_is_below(path, dir))
            return;
        rest = slice_make(path.data + dir.len + 1, path.len - dir.len - 1);
    }
    slash = rest.len > 0 ? memchr(rest.data, '/', rest.len) : NULL;
    if (bare_root && slash == rest.data)
        return;
    if (slash != NULL)
        expect_child(e, slice_make(rest.data, (size_t)(slash - rest.data)), false, true);
    else
        expect_child(e, rest, is_key, !is_key);
}

static int see_child(void *ctx, const struct store_child *c)
{
    struct expected_children *e = ctx;

    assert_true(e->seen < e->n);
    assert_true(slice_equal(e->names[e->seen], c->component));
    assert_int_equal(e->is_key[e->seen], c->is_key);
    assert_int_equal(e->is_dir[e->seen], c->is_dir);
    e->seen++;
    return 0;
}

static void check_list(struct world *w, struct store_read *r)
{
    struct expected_children e = {.w = w};
    bool bare_root = below(w, 10) == 0;
    struct slice dir = bare_root || below(w, 5) == 0 ? slice_make(NULL, 0) : random_dir(w), after = {0};

    for (size_t i = 0; i < w->m.n_keys; i++)
        if (model_at(&w->m.keys[i], INT64_MAX) != NULL)
            expect_path(&e, w->m.keys[i].key, dir, bare_root, true);
    for (size_t i = 0; i < w->m.n_dirs; i++)
        if (w->m.dirs[i].live)
            expect_path(&e, w->m.dirs[i].path, dir, bare_root, false);
    if (e.n > 0 && below(w, 2) == 0) {
        e.seen = below(w, e.n);
        after = e.names[e.seen];
        e.seen += after.len > 0; /* "" is the start */
    }
    if (bare_root)
        assert_int_equal(0, store_list_bare(r, dir, after, see_child, &e));
    else
        assert_int_equal(0, store_list(r, dir, after, see_child, &e));
    assert_int_equal(e.n, e.seen);
}

static void check_stat(struct world *w, struct store_read *r)
{
    struct slice path = below(w, 2) == 0 ? random_dir(w) : random_key(w);
    struct version *v = model_live(&w->m, path);
    struct mdir *d = model_dir(&w->m, path, false);
    struct node_stat stat;

    assert_int_equal(0, store_stat(r, path, &stat));
    if (model_is_dir(&w->m, path)) {
        assert_int_equal(NODE_DIRECTORY, stat.type);
        assert_int_equal(v != NULL, stat.also_key);
        assert_int_equal(d == NULL, stat.implicit);
        if (d != NULL && d->ino != 0)
            assert_true(d->ino == stat.ino);
    } else if (v != NULL) {
        assert_int_equal(NODE_FILE, stat.type);
        assert_int_equal(v->len, stat.size);
        assert_true(v->ino == stat.ino);
        assert_int_equal(v->version, stat.version);
    } else {
        assert_int_equal(NODE_NONE, stat.type);
    }
}

struct event_check {
    struct world *w;
    struct store_read *r;
    size_t seen;
};

static int see_event(void *ctx, const struct event *e)
{
    struct event_check *c = ctx;
    struct mkey *k;
    struct kv kv, prev;
    size_t i = 0;
    int rc;

    if (!event_is_public(e))
        return 0;
    c->seen++;
    k = model_key(&c->w->m, e->key, false);
    assert_non_null(k);
    while (i < k->n && k->versions[i].main != e->rev.main)
        i++;
    assert_true(i < k->n);
    assert_int_equal(k->versions[i].sub, e->rev.sub);
    assert_int_equal(k->versions[i].deleted, e->kind == EVENT_DELETE);
    assert_int_equal(k->versions[i].attr_only, e->kind == EVENT_ATTR);
    assert_int_equal(0, store_event_kv(c->r, e, &c->w->arena, &kv));
    if (e->kind != EVENT_DELETE)
        check_kv(&kv, k, &k->versions[i]);
    rc = store_event_prev_kv(c->r, e, &c->w->arena, &prev);
    assert_int_equal(i > 0 && !k->versions[i - 1].deleted && e->rev.main > c->w->m.compacted, rc);
    if (rc == 1)
        check_kv(&prev, k, &k->versions[i - 1]);
    return 0;
}

static void check_events(struct world *w, struct store_read *r)
{
    int64_t from = w->m.compacted + (int64_t)below(w, (size_t)(w->m.revision - w->m.compacted + 1));
    struct event_check c = {.w = w, .r = r};
    int64_t next;
    uint16_t status;
    size_t expected = 0;

    if (w->m.revision - from > 200)
        from = w->m.revision - 200;
    assert_int_equal(0, store_events(r, from, see_event, &c, &next, &status));
    assert_int_equal(STATUS_OK, status);
    assert_int_equal(w->m.revision + 1, next);
    for (size_t i = 0; i < w->m.n_keys; i++)
        for (size_t j = 0; j < w->m.keys[i].n; j++)
            expected += w->m.keys[i].versions[j].main >= from;
    assert_int_equal(expected, c.seen);
}

static void check_key_events(struct world *w, struct store_read *r)
{
    struct mkey *k = &w->m.keys[below(w, w->m.n_keys)];
    int64_t from = w->m.compacted + (int64_t)below(w, (size_t)(w->m.revision - w->m.compacted + 1));
    size_t max = 1 + below(w, 4), count, i = 0;
    struct event *events;
    uint16_t status;
    bool more;

    assert_int_equal(0, store_key_events(r, k->key, from, &w->arena, max, &events, &count, &more, &status));
    while (i < k->n && k->versions[i].main < from)
        i++;
    assert_int_equal(k->n - i > max, more);
    assert_int_equal(k->n - i > max ? max : k->n - i, count);
    for (size_t j = 0; j < count; j++) {
        assert_int_equal(k->versions[i + j].main, events[j].rev.main);
        assert_true(slice_equal(k->key, events[j].key));
    }
}

static void check_reads(struct world *w)
{
    struct store_read *r;

    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(w->m.revision, store_read_revision(r));
    for (int i = 0; i < 4; i++) {
        check_range(w, r);
        check_list(w, r);
        check_stat(w, r);
    }
    if (w->m.n_keys > 0)
        check_key_events(w, r);
    check_events(w, r);
    store_read_end(r);
}

/* ---- compaction ---- */

static void do_compact(struct world *w)
{
    struct command cmd = {.kind = COMMAND_COMPACT};
    int64_t revision = w->m.revision + 2 - (int64_t)below(w, 40);
    uint16_t expected = revision <= w->m.compacted ? STATUS_COMPACTED
                        : revision > w->m.revision ? STATUS_FUTURE_REVISION
                                                   : STATUS_OK;
    struct result r;

    if (below(w, 4) != 0)
        return;
    cmd.compact.revision = revision;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK)
        w->m.compacted = revision;
    check_end(w, &r, expected);
}

/* Is the row what a reader at or after the compacted revision may need? */
static bool is_needed(struct world *w, const struct log_row *row)
{
    struct mkey *k = model_key(&w->m, row->event.key, false);
    size_t i = 0;

    if (row->event.rev.main >= w->m.compacted)
        return true;
    if (row->event.kind == EVENT_DIR_PUT) {
        struct mdir *d = model_dir(&w->m, row->event.key, true);

        for (size_t j = 0; j < d->n_changes; j++)
            if (d->changes[j] > row->event.rev.main && d->changes[j] <= w->m.compacted)
                return false;
        return d->n_changes > 0;
    }
    if ((row->event.kind != EVENT_PUT && row->event.kind != EVENT_ATTR) || k == NULL)
        return false;
    while (i < k->n && k->versions[i].main != row->event.rev.main)
        i++;
    return i < k->n && (i + 1 == k->n || k->versions[i + 1].main > w->m.compacted);
}

/* Only tombstones that can still be asked for have a row in `gone`. */
static void check_gone(struct world *w, struct store_read *r)
{
    struct tree gone = snap_gone(&r->snap);
    struct tree_iter it;
    struct chain chain;

    tree_iter_init(&it, &gone);
    assert_int_equal(0, tree_iter_seek(&it, S("")));
    while (it.valid) {
        assert_int_equal(0, gone_row_decode(it.value, &chain));
        assert_true(chain.last.main >= w->m.compacted);
        assert_int_equal(0, tree_iter_next(&it));
    }
    tree_iter_fini(&it);
}

/* After the removal has come to its end no row is left that nobody can need. */
static void check_nothing_is_left(struct world *w)
{
    struct rev *referred = NULL, *unneeded = NULL;
    size_t n_referred = 0, n_unneeded = 0;
    struct store_read *r;
    MDB_cursor *cursor;
    MDB_val k, v;
    bool more = true;
    int rc;

    assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
    while (more)
        assert_int_equal(0, store_batch_compact(w->batch, 7, &more));
    assert_int_equal(0, store_batch_commit(w->batch));
    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(0, mdb_cursor_open(r->snap.txn, w->f.store->log, &cursor));
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct log_row row;

        if (get_be16((uint8_t *)k.mv_data + 12) != 0)
            continue;
        assert_int_equal(0, eventlog_row_at_cursor(&r->snap, &k, &v, &w->arena, &row));
        if (rev_cmp(row.value_rev, row.event.rev) != 0 && is_needed(w, &row)) {
            referred = realloc(referred, (n_referred + 1) * sizeof(*referred));
            referred[n_referred++] = row.value_rev;
        } else if (!is_needed(w, &row)) {
            unneeded = realloc(unneeded, (n_unneeded + 1) * sizeof(*unneeded));
            unneeded[n_unneeded++] = row.event.rev;
        }
    }
    for (size_t i = 0; i < n_unneeded; i++) {
        size_t j = 0;

        while (j < n_referred && rev_cmp(referred[j], unneeded[i]) != 0)
            j++;
        if (j == n_referred)
            fail_msg("row %lld/%lld is left, compacted %lld", (long long)unneeded[i].main,
                     (long long)unneeded[i].sub, (long long)w->m.compacted);
    }
    mdb_cursor_close(cursor);
    check_gone(w, r);
    store_read_end(r);
    free(referred);
    free(unneeded);
}

/* ---- nodes are equal ---- */

struct event_list {
    struct arena arena;
    struct event *events;
    size_t n, cap;
};

static int keep_event(void *ctx, const struct event *e)
{
    struct event_list *l = ctx;

    if (l->n == l->cap) {
        l->cap = l->cap != 0 ? l->cap * 2 : 64;
        l->events = realloc(l->events, l->cap * sizeof(*l->events));
    }
    l->events[l->n] = *e;
    return arena_copy(&l->arena, e->key, &l->events[l->n++].key);
}

static struct event_list all_events(struct fixture *f)
{
    struct event_list l = {.n = 0};
    struct store_read *r;
    int64_t next;
    uint16_t status;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_events(r, store_read_compacted(r), keep_event, &l, &next, &status));
    assert_int_equal(STATUS_OK, status);
    store_read_end(r);
    return l;
}

static void check_twin(struct world *w)
{
    struct event_list a = all_events(&w->f), b = all_events(&w->twin);

    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        const struct event *x = &a.events[i], *y = &b.events[i];

        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->flags, y->flags);
        assert_int_equal(0, rev_cmp(x->rev, y->rev));
        assert_int_equal(0, rev_cmp(x->prev, y->prev));
        assert_int_equal(0, rev_cmp(x->create, y->create));
        assert_int_equal(x->version, y->version);
        assert_int_equal(x->time_ns, y->time_ns);
        assert_int_equal(x->value_len, y->value_len);
        assert_true(slice_equal(x->key, y->key));
        assert_memory_equal(&x->attrs, &y->attrs, sizeof(x->attrs));
    }
    arena_fini(&a.arena);
    arena_fini(&b.arena);
    free(a.events);
    free(b.events);
}

/* ---- the run ---- */

static void step(struct world *w)
{
    static void (*const commands[])(struct world *) = {do_put,   do_put,   do_put,    do_delete, do_txn,
                                                       do_write, do_write, do_mkdir,  do_unlink, do_rmdir,
                                                       do_setattr, do_rename, do_rename, do_compact};
    size_t n = 1 + below(w, 8);

    assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
    for (size_t i = 0; i < n; i++)
        commands[below(w, sizeof(commands) / sizeof(commands[0]))](w);
    assert_int_equal(0, store_batch_commit(w->batch));
    if (below(w, 20) == 0) { /* an aborted batch leaves no trace */
        struct command cmd = {.kind = COMMAND_DELETE_RANGE, .del = {.key = S("/"), .range_end = S("0")}};

        assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
        apply(w, cmd);
        w->f.index--;
        store_batch_abort(w->batch);
    }
    if (below(w, 10) == 0 && w->m.compacted > 0)
        check_nothing_is_left(w);
    if (below(w, 50) == 0) {
        store_close(w->f.store);
        fixture_open(&w->f);
    }
    check_reads(w);
    if (below(w, 20) == 0)
        check_twin(w);
    arena_reset(&w->arena);
    arena_reset(&w->twin.arena);
}

static void tell_problem(void *ctx, const char *text)
{
    print_error("%s\n", text);
}

static void check_everything_fits(struct world *w)
{
    struct store_check sums;
    struct store_read *r;

    assert_int_equal(0, store_read_begin(w->f.store, &r));
    assert_int_equal(0, store_check(r, tell_problem, NULL, &sums));
    assert_int_equal(0, sums.problems);
    store_read_end(r);
}

static void store_is_like_the_model(void **state)
{
    const char *seed = getenv("SEED"), *ops = getenv("OPS");
    struct world w = {.random = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL)};
    unsigned long steps = ops != NULL ? strtoul(ops, NULL, 10) : 400;

    printf("SEED=%llu OPS=%lu\n", (unsigned long long)w.random, steps);
    fflush(stdout);
    w.m.revision = 1;
    arena_init(&w.arena);
    fixture_begin(&w.f);
    fixture_begin(&w.twin);
    for (unsigned long i = 0; i < steps; i++) {
        step(&w);
        if (i % 40 == 0)
            check_everything_fits(&w);
    }
    check_twin(&w);
    fixture_end(&w.f);
    fixture_end(&w.twin);
    arena_fini(&w.arena);
    model_free(&w.m);
}

/* One key's history of many versions: the links of every level. */
static void long_histories_are_found(void **state)
{
    enum { VERSIONS = 9000 };
    struct fixture f;
    struct store_batch *b;
    struct store_read *r;
    struct store_check sums;
    struct result result;
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    for (int i = 0; i < VERSIONS; i++) {
        struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("k"), .value = slice_make(&i, sizeof(i))}};

        if (i % 1000 == 500) /* a history goes on over deletes */
            cmd = (struct command){.kind = COMMAND_DELETE_RANGE, .del = {.key = S("k")}};
        assert_int_equal(0, store_apply(b, ++f.index, 1, 0, &cmd, &f.arena, &result, &fresh));
    }
    assert_int_equal(0, store_batch_commit(b));
    assert_int_equal(0, store_read_begin(f.store, &r));
    for (int i = 0; i < VERSIONS; i += i < 200 ? 1 : 37) {
        struct slice value;
        uint16_t status;

        assert_int_equal(0, store_value_at(r, S("k"), i + 2, &f.arena, &value, &status));
        assert_int_equal(i % 1000 == 500 ? STATUS_KEY_NOT_FOUND : STATUS_OK, status);
        if (status == STATUS_OK)
            assert_memory_equal(&i, value.data, sizeof(i));
    }
    assert_int_equal(0, store_check(r, tell_problem, NULL, &sums));
    assert_int_equal(0, sums.problems);
    assert_int_equal(VERSIONS, sums.chain_rows);
    store_read_end(r);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_is_like_the_model),
        cmocka_unit_test(long_histories_are_found),
    };

    return cmocka_run_group_tests_name("store_property", tests, NULL, NULL);
}
