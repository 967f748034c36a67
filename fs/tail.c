/* From one revision to the next. The new read transaction is opened while the old one is still held; for every name that a row
 * of the log touches, and that a watcher could know, what it was before goes into the overlay of announced names. Then
 * users see the new revision; watchers are told by and by (reconcile.c).
 *
 * Rows that this mount made itself raise events by themselves, when their requests are answered: for these the overlay notes
 * what the kernel will then know. */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount.h"

#define TAIL_CHUNK_ROWS 4096 /* kept in memory at once; whole revisions */

struct row {
    enum event_kind kind;
    uint32_t flags;
    int64_t revision;
    uint64_t session, sequence;
    struct attrs attrs;
    struct slice key, to; /* to: of a rename */
};

struct rename {
    struct slice from, to;
    bool exchange;
};

struct touched {
    struct inode *dir; /* held */
    struct slice name;
};

struct tail {
    struct mount *m;
    struct store_read *old, *new;
    struct arena arena; /* of the whole advance: renames, touched names */
    struct row *rows; /* of one chunk */
    size_t n_rows;
    int64_t last_revision, next;
    struct rename *renames;
    size_t n_renames, renames_cap;
    struct touched *touched;
    size_t n_touched, touched_cap;
    int rc;
};

static bool is_known(const struct mount *m, const struct inode *i)
{
    return i != NULL && (i->nlookup > 0 || i == m->inodes.root);
}

static int grow_array(void **array, size_t n, size_t *cap, size_t item_bytes)
{
    size_t want = *cap != 0 ? *cap * 2 : 64;
    void *p;

    if (n < *cap)
        return 0;
    p = realloc(*array, want * item_bytes);
    if (p == NULL)
        return -ENOMEM;
    *array = p;
    *cap = want;
    return 0;
}

/* ---- before and after ---- */

static bool is_beneath(struct slice key, struct slice dir)
{
    return key.len > dir.len && slice_has_prefix(key, dir) && key.data[dir.len] == '/';
}

static void replace_prefix(struct bytes *key, size_t old_len, struct slice prefix, struct bytes *scratch)
{
    bytes_reset(scratch);
    bytes_append(scratch, prefix);
    bytes_raw(scratch, key->data + old_len, key->len - old_len);
    bytes_reset(key);
    bytes_append(key, bytes_slice(scratch));
}

/* Where a place below directories that were renamed in this advance was before them. -ENOENT: nowhere. */
static int place_before(const struct tail *t, struct name_place *p)
{
    struct bytes scratch;
    int rc = 0;

    bytes_init(&scratch);
    for (size_t i = t->n_renames; rc == 0 && i-- > 0;) {
        const struct rename *r = &t->renames[i];
        struct slice key = bytes_slice(&p->key);

        if (is_beneath(key, r->to)) {
            if (p->kind == NAME_PIECE)
                p->dir_len = p->dir_len - r->to.len + r->from.len;
            replace_prefix(&p->key, r->to.len, r->from, &scratch);
        } else if (is_beneath(key, r->from)) {
            if (!r->exchange) {
                rc = -ENOENT;
                break;
            }
            replace_prefix(&p->key, r->from.len, r->to, &scratch);
        }
        rc = bytes_status(&p->key);
    }
    bytes_fini(&scratch);
    return rc;
}

/* What users saw under a name until now. */
static int view_before(struct tail *t, struct inode *dir, struct slice name, struct view *v)
{
    struct mount *m = t->m;
    struct inode *child = inode_child(&m->inodes, dir, name);
    struct name_place p;
    int rc;

    *v = (struct view){0};
    name_place_init(&p);
    rc = view_place_of(m, dir, name, &p);
    if (rc == 0 && child != NULL && child->fresh) {
        v->seen = (struct seen){.type = S_IFREG, .ino = child->ino, .node = child};
    } else if (rc == 0) {
        rc = place_before(t, &p);
        if (rc == 0)
            rc = view_at(m, t->old, &p, v);
        if (rc == 0 && v->seen.type != 0 && child != NULL && child->type == v->seen.type)
            v->seen.node = child;
    }
    name_place_fini(&p);
    return rc == -ENOENT || rc == -ESTALE ? 0 : rc;
}

static int view_after(struct tail *t, struct inode *dir, struct slice name, struct view *v)
{
    struct name_place p;
    int rc;

    *v = (struct view){0};
    name_place_init(&p);
    rc = view_place_of(t->m, dir, name, &p);
    if (rc == 0)
        rc = view_at(t->m, t->new, &p, v);
    name_place_fini(&p);
    return rc == -ESTALE ? 0 : rc;
}

/* ---- names ---- */

static void note_touched(struct tail *t, struct inode *dir, struct slice name)
{
    struct touched *at;

    if (grow_array((void **)&t->touched, t->n_touched, &t->touched_cap, sizeof(*t->touched)) < 0) {
        t->rc = -ENOMEM;
        return;
    }
    at = &t->touched[t->n_touched];
    if (arena_copy(&t->arena, name, &at->name) < 0) {
        t->rc = -ENOMEM;
        return;
    }
    at->dir = dir;
    inode_hold(dir);
    t->n_touched++;
}

static bool attributes_differ(const struct view *a, const struct view *b)
{
    if (a->seen.type == 0 || b->seen.type == 0)
        return false;
    return a->mode != b->mode || a->uid != b->uid || a->gid != b->gid ||
           ((b->has & ATTR_MTIME) != 0 && a->mtime_ns != b->mtime_ns);
}

enum touch { TOUCH_NAME, TOUCH_CONTENT, TOUCH_ATTRIBUTES, TOUCH_COMPARE };

/* A foreign row may have changed this name. Its record, if it has one now. */
static struct dirty *touch(struct tail *t, struct inode *dir, struct slice name, enum touch how)
{
    struct mount *m = t->m;
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct view before = {0}, after;
    bool content = false, attributes = false;
    int rc = 0;

    note_touched(t, dir, name);
    if (!is_known(m, dir) && !is_known(m, inode_child(&m->inodes, dir, name)) && d == NULL)
        return NULL; /* nobody can watch it */
    if (d == NULL || how == TOUCH_ATTRIBUTES || how == TOUCH_COMPARE)
        rc = view_before(t, dir, name, &before);
    if (rc == 0)
        rc = view_after(t, dir, name, &after);
    if (rc < 0) {
        t->rc = rc == -EINVAL || rc == -ENAMETOOLONG ? t->rc : rc;
        return d;
    }
    if (after.seen.type == S_IFREG)
        content = how == TOUCH_CONTENT || (how == TOUCH_COMPARE && before.seen.type != 0 && before.rev != after.rev);
    if (how == TOUCH_ATTRIBUTES || how == TOUCH_COMPARE)
        attributes = attributes_differ(&before, &after);
    if (d == NULL && seen_same(&before.seen, &after.seen) && !content && !attributes)
        return NULL;
    if (d == NULL)
        d = announce_add(&m->announce, dir, name, &before.seen);
    if (d == NULL) {
        m->overlay_lost++;
        return NULL;
    }
    d->content = d->content || content;
    d->attributes = d->attributes || attributes;
    return d;
}

/* The name's place in the table after an own row: what the kernel will know when that is answered. */
static void tell_own(struct tail *t, struct inode *dir, struct slice name, const struct seen *seen)
{
    struct mount *m = t->m;
    struct dirty *d = announce_find(&m->announce, dir, name);

    note_touched(t, dir, name);
    if (d != NULL)
        announce_tell(&m->announce, &m->inodes, d, seen);
    else if (announce_add(&m->announce, dir, name, seen) == NULL)
        m->overlay_lost++;
}

/* Follows a way below the root as far as the table goes, with each name on it. Returns the directory of the last name, or
 * NULL if it is not in the table. */
static struct inode *walk(struct tail *t, struct slice way, bool ancestors, struct slice *ret_last)
{
    struct inode *dir = t->m->inodes.root;

    for (;;) {
        const uint8_t *end = way.len != 0 ? memchr(way.data, '/', way.len) : NULL;
        struct slice name = slice_make(way.data, end != NULL ? (size_t)(end - way.data) : way.len);

        if (end == NULL) {
            *ret_last = name;
            return dir;
        }
        if (ancestors)
            touch(t, dir, name, TOUCH_NAME);
        dir = inode_child(&t->m->inodes, dir, name);
        if (dir == NULL || dir->type != S_IFDIR)
            return NULL;
        way = slice_make(end + 1, way.len - name.len - 1);
    }
}

static int way_to(const struct mount *m, struct slice key, bool is_dir, struct bytes *ret_way)
{
    struct name_place root;
    bool slash = key.len != 0 && key.data[key.len - 1] == '/';
    int rc;

    name_place_init(&root);
    rc = name_root(slice_from_str(m->opt.prefix), &root);
    /* Whether a key is a file or %:value of a directory: the way to the path serves both. */
    if (rc == 0)
        rc = name_path(&root, key, is_dir || !slash, false, ret_way);
    name_place_fini(&root);
    return rc;
}

/* The same with the directories made if they are not in the table yet. Held. */
static struct inode *walk_making(struct tail *t, struct slice way, struct slice *ret_last)
{
    struct mount *m = t->m;
    struct inode *dir = m->inodes.root;

    inode_hold(dir);
    for (;;) {
        const uint8_t *end = memchr(way.data, '/', way.len);
        struct slice name = slice_make(way.data, end != NULL ? (size_t)(end - way.data) : way.len);
        struct inode *next;
        struct view v;

        if (end == NULL) {
            *ret_last = name;
            return dir;
        }
        next = inode_child(&m->inodes, dir, name);
        if (next != NULL) {
            inode_hold(next);
        } else if (view_after(t, dir, name, &v) == 0 && (v.seen.type == S_IFDIR ||
                   (view_before(t, dir, name, &v) == 0 && v.seen.type == S_IFDIR))) {
            next = inode_new(&m->inodes, dir, name, S_IFDIR, v.seen.ino);
            if (next != NULL)
                next->implicit = v.seen.implicit;
        }
        inode_release(&m->inodes, dir);
        if (next == NULL || next->type != S_IFDIR) {
            if (next != NULL)
                inode_release(&m->inodes, next);
            return NULL;
        }
        dir = next;
        way = slice_make(end + 1, way.len - name.len - 1);
    }
}

/* ---- rows ---- */

static void row_own(struct tail *t, const struct row *row, struct inode *dir, struct slice name)
{
    struct inode *child = inode_child(&t->m->inodes, dir, name);
    struct seen seen = {0};
    struct view v;

    switch (row->kind) {
    case EVENT_PUT:
    case EVENT_DIR_PUT:
    case EVENT_ATTR:
        if (((row->flags & EVENT_CREATED) == 0 && ((row->attrs.has & ATTR_INO) == 0 || child == NULL ||
                                                   child->ino == row->attrs.ino)) ||
            (child != NULL && child->fresh && child->ino == row->attrs.ino)) {
            note_touched(t, dir, name); /* watchers know the name already */
            return;
        }
        if ((row->attrs.has & ATTR_INO) != 0) {
            seen.type = row->kind == EVENT_DIR_PUT ? S_IFDIR : row->attrs.mode & S_IFMT;
            seen.type = seen.type != 0 ? seen.type : S_IFREG;
            seen.ino = row->attrs.ino;
        } else if (view_after(t, dir, name, &v) == 0) {
            seen = v.seen;
        }
        if (child != NULL && child->ino == seen.ino && child->type == seen.type)
            seen.node = child;
        break;
    case EVENT_DELETE:
    case EVENT_DIR_DELETE:
    default:
        break;
    }
    tell_own(t, dir, name, &seen);
}

static void row_change(struct tail *t, const struct row *row, bool own)
{
    struct mount *m = t->m;
    bool is_dir = row->kind == EVENT_DIR_PUT || row->kind == EVENT_DIR_DELETE;
    bool structural = (row->flags & EVENT_CREATED) != 0 || row->kind == EVENT_DELETE || row->kind == EVENT_DIR_DELETE;
    enum touch how = row->kind == EVENT_PUT ? TOUCH_CONTENT : TOUCH_NAME;
    struct inode *dir, *child;
    struct slice name;
    struct bytes way;

    if (row->kind == EVENT_ATTR || (row->kind == EVENT_DIR_PUT && !structural))
        how = TOUCH_ATTRIBUTES;
    bytes_init(&way);
    if (way_to(m, row->key, is_dir, &way) == 0) {
        if (way.len == 0) { /* the root's own */
            if (!is_dir)
                touch(t, m->inodes.root, slice_from_str("%:value"), how);
        } else if ((dir = walk(t, bytes_slice(&way), structural, &name)) != NULL) {
            child = inode_child(&m->inodes, dir, name);
            if (own && (child == NULL || child->type != S_IFDIR || is_dir))
                row_own(t, row, dir, name);
            else if (own)
                row_own(t, row, child, slice_from_str("%:value"));
            else
                touch(t, dir, name, how);
            if (!own && !is_dir && child != NULL && child->type == S_IFDIR)
                touch(t, child, slice_from_str("%:value"), how);
        }
    }
    bytes_fini(&way);
}

static void push_rename(struct tail *t, const struct row *row)
{
    if (grow_array((void **)&t->renames, t->n_renames, &t->renames_cap, sizeof(*t->renames)) < 0) {
        t->rc = -ENOMEM;
        return;
    }
    t->renames[t->n_renames++] = (struct rename){row->key, row->to, (row->flags & EVENT_EXCHANGE) != 0};
}

/* The table follows: node to its new name, what had that away. */
static void move_node(struct tail *t, struct inode *node, struct inode *dir2, struct slice name2, bool exchange)
{
    struct mount *m = t->m;
    struct inode *there = inode_child(&m->inodes, dir2, name2);
    struct view v;

    if (there == node || node == NULL || inode_is_below(dir2, node))
        return;
    if (there != NULL && exchange && !inode_is_below(there, node) && !inode_is_below(node, there)) {
        inode_exchange(&m->inodes, node, there);
        return;
    }
    if (there != NULL) {
        inode_hold(there);
        tail_detach(m, there);
        inode_release(&m->inodes, there);
    }
    if (inode_move(&m->inodes, node, dir2, name2) < 0) {
        t->rc = -ENOMEM;
        return;
    }
    /* A directory that nobody made has its number from its path. */
    if (node->type == S_IFDIR && view_after(t, dir2, name2, &v) == 0 && v.seen.type == S_IFDIR) {
        node->ino = v.seen.ino;
        node->implicit = v.seen.implicit;
    }
}

static void rename_known(struct tail *t, const struct row *row, bool own, struct inode *dir, struct slice name,
                         struct inode *dir2, struct slice name2)
{
    struct mount *m = t->m;
    struct inode *node = inode_child(&m->inodes, dir, name), *there = inode_child(&m->inodes, dir2, name2);
    bool exchange = (row->flags & EVENT_EXCHANGE) != 0;
    struct dirty *d, *d2;
    struct view v;

    /* Both names need a node to be matched by: is the one thing there the other thing that was here. */
    if (node == NULL && view_before(t, dir, name, &v) == 0 && v.seen.type != 0)
        node = inode_new(&m->inodes, dir, name, v.seen.type, v.seen.ino);
    else if (node != NULL)
        inode_hold(node);
    if (exchange && there == NULL && view_before(t, dir2, name2, &v) == 0 && v.seen.type != 0)
        there = inode_new(&m->inodes, dir2, name2, v.seen.type, v.seen.ino);
    else if (there != NULL)
        inode_hold(there);
    d = touch(t, dir, name, TOUCH_NAME);
    d2 = touch(t, dir2, name2, TOUCH_NAME);
    if (own) {
        struct seen gone = {0}, here = {0}, back = {0};

        if (node != NULL)
            here = (struct seen){.type = node->type, .ino = node->ino, .node = node};
        if (exchange && there != NULL)
            back = (struct seen){.type = there->type, .ino = there->ino, .node = there};
        tell_own(t, dir, name, &gone); /* first: a node is shown at one name */
        tell_own(t, dir2, name2, &here);
        if (exchange)
            tell_own(t, dir, name, &back);
    } else if (node != NULL && node->type == S_IFDIR) {
        if (d != NULL)
            d->rename = true;
        if (d2 != NULL)
            d2->rename = true;
    }
    move_node(t, node, dir2, name2, exchange);
    if (node != NULL)
        inode_release(&m->inodes, node);
    if (there != NULL)
        inode_release(&m->inodes, there);
}

static void row_rename(struct tail *t, const struct row *row, bool own)
{
    struct mount *m = t->m;
    struct bytes from, to;
    struct inode *dir = NULL, *dir2 = NULL;
    struct slice name, name2;
    bool known, has_from, has_to;

    bytes_init(&from);
    bytes_init(&to);
    has_from = way_to(m, row->key, false, &from) == 0 && from.len != 0;
    has_to = way_to(m, row->to, false, &to) == 0 && to.len != 0;
    if (has_from)
        dir = walk(t, bytes_slice(&from), true, &name);
    if (has_to)
        dir2 = walk(t, bytes_slice(&to), true, &name2);
    known = is_known(m, dir) || is_known(m, dir2) || (dir != NULL && inode_child(&m->inodes, dir, name) != NULL);
    if (has_from && has_to && known) {
        dir = walk_making(t, bytes_slice(&from), &name);
        dir2 = walk_making(t, bytes_slice(&to), &name2);
        if (dir != NULL && dir2 != NULL)
            rename_known(t, row, own, dir, name, dir2, name2);
        else if (dir != NULL)
            touch(t, dir, name, TOUCH_NAME);
        else if (dir2 != NULL)
            touch(t, dir2, name2, TOUCH_NAME);
        if (dir != NULL)
            inode_release(&m->inodes, dir);
        if (dir2 != NULL)
            inode_release(&m->inodes, dir2);
    } else if (dir != NULL && has_from) { /* out of or into what this mount shows */
        touch(t, dir, name, TOUCH_NAME);
    } else if (dir2 != NULL && has_to) {
        touch(t, dir2, name2, TOUCH_NAME);
    }
    push_rename(t, row);
    bytes_fini(&from);
    bytes_fini(&to);
}

static int collect_row(void *ctx, const struct event *e)
{
    struct tail *t = ctx;
    struct row *row;

    if (t->n_rows >= TAIL_CHUNK_ROWS && e->rev.main != t->last_revision) {
        t->next = e->rev.main; /* this row again, with the next chunk */
        return 1;
    }
    if ((e->flags & EVENT_OF_RENAME) != 0)
        return 0;
    if ((t->n_rows & (t->n_rows - 1)) == 0) {
        row = realloc(t->rows, (t->n_rows != 0 ? t->n_rows * 2 : 1) * sizeof(*row));
        if (row == NULL) {
            t->rc = -ENOMEM;
            return 1;
        }
        t->rows = row;
    }
    row = &t->rows[t->n_rows];
    *row = (struct row){.kind = e->kind, .flags = e->flags, .revision = e->rev.main, .session = e->session,
                        .sequence = e->sequence, .attrs = e->attrs};
    if (arena_copy(&t->arena, e->key, &row->key) < 0)
        t->rc = -ENOMEM;
    if (e->kind == EVENT_RENAME && t->rc == 0)
        t->rc = store_event_value(t->new, e, &t->arena, &row->to);
    if (t->rc < 0)
        return 1;
    t->last_revision = e->rev.main;
    t->n_rows++;
    return 0;
}

static int read_rows(struct tail *t)
{
    struct mount *m = t->m;
    uint16_t status;
    int rc = 0;

    t->next = m->revision + 1;
    while (rc == 0 && t->next <= store_read_revision(t->new)) {
        int64_t from = t->next, next;

        t->n_rows = 0;
        t->next = 0;
        rc = store_events(t->new, from, collect_row, t, &next, &status);
        if (rc == 0 && status != STATUS_OK)
            return 1; /* compacted */
        if (t->next == 0)
            t->next = next;
        rc = rc < 0 ? rc : t->rc;
        for (size_t i = 0; rc == 0 && i < t->n_rows; i++) {
            const struct row *row = &t->rows[i];
            bool own = wait_is_own(m, row->revision, row->session, row->sequence);

            if (row->kind == EVENT_RENAME)
                row_rename(t, row, own);
            else
                row_change(t, row, own);
            rc = t->rc;
        }
    }
    return rc;
}

/* ---- without rows: after compaction has overtaken, or in another epoch ---- */

struct comparison {
    struct tail *t;
    struct inode *dir;
};

static int compare_name(void *ctx, struct slice name, const struct view *view)
{
    struct comparison *c = ctx;

    touch(c->t, c->dir, name, TOUCH_COMPARE);
    return c->t->rc;
}

static int compare_all(struct tail *t)
{
    struct inode_table *table = &t->m->inodes;
    struct inode **dirs = malloc(table->count * sizeof(*dirs));
    size_t n = 0;
    int rc = 0;

    if (dirs == NULL)
        return -ENOMEM;
    for (size_t s = 0; s < table->size; s++) {
        for (struct inode *i = table->by_id[s]; i != NULL; i = i->id_next) {
            if (i->type == S_IFDIR && !inode_is_dead(table, i)) {
                inode_hold(i);
                dirs[n++] = i;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        struct comparison c = {t, dirs[i]};

        if (rc == 0)
            rc = view_list(t->m, t->old, dirs[i], compare_name, &c);
        if (rc == 0)
            rc = view_list(t->m, t->new, dirs[i], compare_name, &c);
        inode_release(table, dirs[i]);
    }
    free(dirs);
    return rc;
}

/* ---- the table follows ---- */

void tail_detach(struct mount *m, struct inode *i)
{
    struct store_read *r = m->tail != NULL ? m->tail->old : m->read;
    struct name_place p;
    struct slice content;
    struct arena arena;
    struct view v;
    int rc;

    if (i->parent == NULL)
        return;
    arena_init(&arena);
    name_place_init(&p);
    rc = view_place(m, i, &p);
    if (rc == 0 && m->tail != NULL)
        rc = place_before(m->tail, &p);
    if (rc == 0 && view_at(m, r, &p, &v) == 0 && v.seen.type == i->type) {
        view_fill(m, &v, &i->last);
        /* A file that is open lives on for its handles; those that only read have their copy. */
        if (i->type == S_IFREG && i->n_writers > 0 && i->buffer == NULL &&
            view_content(m, r, &p, &arena, &content) == 0)
            buffer_new(&m->buffers, content, &i->buffer);
    }
    name_place_fini(&p);
    arena_fini(&arena);
    i->fresh = false;
    inode_detach(&m->inodes, i);
}

static void sync_name(struct tail *t, const struct touched *at)
{
    struct mount *m = t->m;
    struct inode *child = inode_child(&m->inodes, at->dir, at->name);
    struct view v;

    if (child == NULL || inode_is_dead(&m->inodes, at->dir) || view_after(t, at->dir, at->name, &v) < 0)
        return;
    if (child->fresh) {
        if (v.seen.type == 0)
            return;
        if (v.seen.type == S_IFREG) { /* made by somebody too, or by our own commit: it is that one now */
            child->fresh = false;
            child->ino = v.seen.ino;
            return;
        }
    } else {
        struct seen known = {.type = child->type, .implicit = child->implicit, .ino = child->ino};

        if (seen_same(&known, &v.seen)) {
            child->ino = v.seen.ino;
            child->implicit = v.seen.implicit;
            return;
        }
    }
    inode_hold(child);
    tail_detach(m, child);
    inode_release(&m->inodes, child);
}

/* ---- advancing ---- */

static int open_epoch(struct mount *m, struct store **ret_store)
{
    const struct client_info *info = client_get_info(m->client);
    const struct store_options options = {0};

    return info != NULL ? store_open(info->store_dir, &options, ret_store) : -EAGAIN;
}

static void finish(struct tail *t)
{
    struct mount *m = t->m;

    for (size_t i = 0; i < t->n_touched; i++)
        inode_release(&m->inodes, t->touched[i].dir);
    free(t->touched);
    free(t->renames);
    free(t->rows);
    arena_fini(&t->arena);
}

int tail_advance(struct mount *m)
{
    struct tail t = {.m = m, .old = m->read};
    struct store *store = m->store;
    int rc = 0;

    arena_init(&t.arena);
    if (store == NULL || m->wanted_epoch > m->epoch)
        rc = open_epoch(m, &store);
    if (rc == 0)
        rc = store_read_begin(store, &t.new);
    if (rc < 0)
        goto done;
    if (t.old != NULL && (store_read_revision(t.new) > m->revision || store != m->store)) {
        m->tail = &t;
        rc = store_read_revision(t.new) >= m->revision ? read_rows(&t) : 1;
        if (rc == 1)
            rc = compare_all(&t);
        if (rc == 0)
            for (size_t i = 0; i < t.n_touched; i++)
                sync_name(&t, &t.touched[i]);
        m->tail = NULL;
    }
    if (rc < 0) {
        /* What was noted in the overlay stays: it says what is announced, which is still so. */
        log_warn(&m->log, "cannot read on from revision %lld: %s", (long long)m->revision, strerror(-rc));
        goto done;
    }
    store_read_end(t.old);
    if (m->store != NULL && m->store != store)
        store_close(m->store);
    m->store = store;
    m->read = t.new;
    m->epoch = store_epoch(store);
    m->revision = store_read_revision(t.new);
    t.new = NULL;
    store = NULL;
done:
    store_read_end(t.new);
    if (store != NULL && store != m->store)
        store_close(store);
    finish(&t);
    return rc;
}
