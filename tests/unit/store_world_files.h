/* store_world_files.h - random file commands, and what must come of them.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the world's.  Units: bytes. */
#ifndef TESTS_UNIT_STORE_WORLD_FILES_H
#define TESTS_UNIT_STORE_WORLD_FILES_H

#include "tests/unit/store_world.h"

static inline uint16_t parent_status(struct world *w, struct slice path)
{
    struct slice parent;

    if (!model_parent(path, &parent) || model_is_dir(&w->m, parent))
        return STATUS_OK;
    return model_live(&w->m, parent) != NULL ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
}

static inline void keep_parent(struct world *w, struct slice path)
{
    struct slice parent;

    if (model_parent(path, &parent) && !model_is_dir(&w->m, parent)) {
        struct mdir *d;

        model_dir_put(&w->m, parent, 1); /* its number comes from the path: take the store's word for it */
        d = model_dir(&w->m, parent, false);
        d->ino = 0;
    }
}

static inline void do_write(struct world *w)
{
    struct file_op op = {.path = random_key(w), .value = random_value(w), .flags = FILE_CREATE};
    struct version *v = model_live(&w->m, op.path);
    uint16_t expected = STATUS_OK;
    bool append = below(w, 3) == 0;
    struct slice content = op.value;
    struct command cmd;
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
    op.fence = one_in(w, 8) ? 1 + (int64_t)below(w, MODEL_LEASES) : 0;
    cmd = (struct command){.kind = append ? COMMAND_FILE_APPEND : COMMAND_FILE_WRITE, .file = op};
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK) {
        model_put(&w->m, op.path, content, 0, false, MODEL_KEEP_LEASE);
        assert_true(model_live(&w->m, op.path)->ino == r.file.ino);
    }
    check_end(w, &r, expected);
}

static inline void do_mkdir(struct world *w)
{
    struct file_op op = {.path = random_dir(w)};
    uint16_t expected = model_live(&w->m, op.path) != NULL || model_is_dir(&w->m, op.path) ? STATUS_EXISTS
                                                                                          : parent_status(w, op.path);
    struct command cmd = {.kind = COMMAND_FILE_MKDIR, .file = op};
    struct result r;

    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK) {
        model_dir_put(&w->m, op.path, 0);
        assert_true(model_dir(&w->m, op.path, false)->ino == r.file.ino);
    }
    check_end(w, &r, expected);
}

static inline void do_unlink(struct world *w)
{
    struct file_op op = {.path = random_key(w)};
    uint16_t expected = model_is_dir(&w->m, op.path)              ? STATUS_IS_DIRECTORY
                        : model_live(&w->m, op.path) == NULL ? STATUS_NO_ENTRY
                                                             : STATUS_OK;
    struct command cmd = {.kind = COMMAND_FILE_UNLINK, .file = op};
    struct result r;

    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK) {
        model_delete(&w->m, op.path);
        keep_parent(w, op.path);
    }
    check_end(w, &r, expected);
}

static inline void do_rmdir(struct world *w)
{
    struct file_op op = {.path = random_dir(w)};
    struct version *v = model_live(&w->m, op.path);
    uint16_t expected = STATUS_OK;
    struct command cmd;
    struct result r;

    if (!model_is_dir(&w->m, op.path))
        expected = v != NULL ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
    else if (v != NULL || model_has_below(&w->m, op.path))
        expected = STATUS_NOT_EMPTY;
    cmd = (struct command){.kind = COMMAND_FILE_RMDIR, .file = op};
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK) {
        model_dir_delete(&w->m, op.path);
        keep_parent(w, op.path);
    }
    check_end(w, &r, expected);
}

static inline void do_setattr(struct world *w)
{
    struct file_op op = {.path = random_key(w), .attrs = {.has = ATTR_MODE | ATTR_MTIME, .mode = 0600}};
    struct version *v = model_live(&w->m, op.path);
    bool truncate = below(w, 3) == 0;
    struct command cmd;
    struct result r;

    op.attrs.mtime_ns = w->f.time_ns; /* new each time: always a change */
    if (model_is_dir(&w->m, op.path))
        return; /* a directory's are checked elsewhere */
    if (truncate) {
        op.attrs.has |= ATTR_SIZE;
        op.attrs.size = v != NULL ? v->len / 2 : 0;
    }
    cmd = (struct command){.kind = COMMAND_FILE_SETATTR, .file = op};
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (v != NULL) {
        size_t len = truncate ? v->len / 2 : v->len;

        model_put(&w->m, op.path, slice_make(v->value, len), 0, len == v->len, MODEL_KEEP_LEASE);
    }
    check_end(w, &r, v != NULL ? STATUS_OK : STATUS_NO_ENTRY);
}

/* ---- rename ---- */

static inline uint64_t store_ino(struct world *w, struct slice path)
{
    struct version *v = model_live(&w->m, path);
    struct mdir *d = model_dir(&w->m, path, false);

    if (d != NULL && d->ino != 0)
        return d->ino;
    return model_is_dir(&w->m, path) ? 0 : v != NULL ? v->ino : 0;
}

static inline struct slice moved_path(struct world *w, struct slice path, struct slice from, struct slice to)
{
    uint8_t *p = arena_alloc(&w->arena, path.len + to.len + 1);

    memcpy(p, to.data, to.len);
    memcpy(p + to.len, path.data + from.len, path.len - from.len);
    return slice_make(p, to.len + path.len - from.len);
}

/* The effects of a rename that is allowed, in the order of the rows. */
static inline void move_all(struct world *w, struct slice from, struct slice to, bool as_dir)
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

        model_put(m, moved_path(w, keys[i], from, to), value, v->ino, false, v->lease);
    }
    for (size_t i = n_keys; i-- > 0;)
        model_delete(m, keys[i]);
    for (size_t i = n_dirs; i-- > 0;)
        model_dir_delete(m, dirs[i]);
    keep_parent(w, from);
}

static inline void do_rename(struct world *w)
{
    struct slice from = below(w, 2) == 0 ? random_dir(w) : random_key(w);
    struct slice to = below(w, 3) == 0 ? random_dir(w) : below(w, 2) == 0 ? random_path(w) : random_key(w);
    struct model *m = &w->m;
    struct file_op op = {.path = from, .path2 = to, .flags = below(w, 4) == 0 ? FILE_NOREPLACE : 0};
    bool from_dir = model_is_dir(m, from), to_dir = model_is_dir(m, to);
    bool from_is = from_dir || model_live(m, from) != NULL, to_is = to_dir || model_live(m, to) != NULL;
    uint16_t expected = STATUS_OK;
    struct command cmd;
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
    op.fence = one_in(w, 8) ? 1 + (int64_t)below(w, MODEL_LEASES) : 0;
    cmd = (struct command){.kind = COMMAND_FILE_RENAME, .file = op};
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (r.status == STATUS_NAME_TOO_LONG)
        return;
    if (expected == STATUS_OK && !slice_equal(from, to))
        move_all(w, from, to, from_dir);
    check_end(w, &r, expected);
}

/* ---- attributes ---- */

static inline void do_xattr(struct world *w)
{
    static const char *const names[] = {"user.a", "user.b", "user.ab"};
    static const size_t sizes[] = {0, 1, 100, 1324, 1325, 3000};
    const bool of_dir = one_in(w, 4) && w->m.n_dirs > 0, set = !one_in(w, 3);
    struct file_op op = {.path = of_dir ? w->m.dirs[below(w, w->m.n_dirs)].path : random_key(w),
                         .path2 = S(names[below(w, 3)])};
    struct command cmd = {.kind = set ? COMMAND_FILE_SETXATTR : COMMAND_FILE_REMOVEXATTR};
    struct version *v = model_live(&w->m, op.path);
    struct mdir *d = model_dir(&w->m, op.path, false);
    uint64_t ino = d != NULL ? d->ino : v != NULL ? v->ino : 0;
    uint16_t expected = STATUS_OK;
    struct mxattr *x;
    struct result r;

    if (d == NULL && model_is_dir(&w->m, op.path))
        return; /* implicit ones are checked elsewhere */
    if (d != NULL && d->ino == 0)
        return; /* only the store knows its number */
    if (set) {
        size_t len = sizes[below(w, sizeof(sizes) / sizeof(sizes[0]))];
        uint8_t *p = arena_alloc(&w->arena, len + 1);

        memset(p, (int)below(w, 256), len);
        op.value = slice_make(p, len);
        op.flags = one_in(w, 4) ? FILE_CREATE : one_in(w, 4) ? FILE_REPLACE : 0;
    }
    cmd.file = op;
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    x = model_xattr(&w->m, ino, op.path2, false);
    if (ino == 0)
        expected = STATUS_NO_ENTRY;
    else if (x == NULL && (!set || op.flags == FILE_REPLACE))
        expected = STATUS_NO_ATTRIBUTE;
    else if (x != NULL && op.flags == FILE_CREATE)
        expected = STATUS_EXISTS;
    if (expected == STATUS_OK) {
        assert_true(r.file.ino == ino);
        if (d != NULL)
            model_dir_put(&w->m, op.path, 0);
        else
            model_put(&w->m, op.path, slice_make(v->value, v->len), 0, true, MODEL_KEEP_LEASE);
        x = model_xattr(&w->m, ino, op.path2, true);
        free((void *)x->value.data);
        x->there = set;
        x->value = set ? model_copy(op.value) : slice_make(NULL, 0);
    }
    check_end(w, &r, expected);
}

#endif
