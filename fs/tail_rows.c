/* Rows of the log, one after the other: which names each one touches. */
#include "fs/tail.h"

#include <errno.h>
#include <stdlib.h>

enum ancestors { ANCESTORS_STAY, ANCESTORS_COME, ANCESTORS_GO }; /* of the name, if nobody made them */

/* Whether what a row does below a name leaves that the directory that it is. */
static bool stays_directory(const struct tail *t, const struct inode *dir, struct slice name, enum ancestors ancestors)
{
    const struct inode *child = inode_child(&t->m->inodes, dir, name);
    const struct dirty *d = announce_find(&t->m->announce, dir, name);

    return child != NULL && child->type == S_IFDIR && (ancestors == ANCESTORS_COME || !child->implicit) &&
           (d == NULL || (!d->behind && steps_expected(d)->type == S_IFDIR));
}

/* Follows a way below the root as far as the table goes, with each name on it. Returns the directory of the last name, or
 * NULL if it is not in the table. */
static struct inode *walk(struct tail *t, struct slice way, enum ancestors ancestors, struct slice *ret_last)
{
    struct inode *dir = t->m->inodes.root;

    for (;;) {
        const uint8_t *end = way.len != 0 ? memchr(way.data, '/', way.len) : NULL;
        struct slice name = slice_make(way.data, end != NULL ? (size_t)(end - way.data) : way.len);

        if (end == NULL) {
            *ret_last = name;
            return dir;
        }
        if (ancestors != ANCESTORS_STAY && !stays_directory(t, dir, name, ancestors))
            tail_touch(t, dir, name, TOUCH_NAME);
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
        } else if (tail_view_after(t, dir, name, &v) == 0 && (v.seen.type == S_IFDIR ||
                   (tail_view_before(t, dir, name, &v) == 0 && v.seen.type == S_IFDIR))) {
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
            tail_note(t, dir, name); /* watchers know the name already */
            return;
        }
        if ((row->attrs.has & ATTR_INO) != 0) {
            seen.type = row->kind == EVENT_DIR_PUT ? S_IFDIR : row->attrs.mode & S_IFMT;
            seen.type = seen.type != 0 ? seen.type : S_IFREG;
            seen.ino = row->attrs.ino;
        } else if (tail_view_after(t, dir, name, &v) == 0) {
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
    tail_tell_own(t, dir, name, &seen);
}

static void fill_last(const struct mount *m, const struct row *row, struct inode *node)
{
    const struct attrs *a = &row->attrs;
    struct view v = {.seen = {.type = node->type, .ino = node->ino}, .uid = m->opt.uid, .gid = m->opt.gid};

    v.mode = a->has & ATTR_MODE ? a->mode : (node->type == S_IFDIR ? 0777 : 0666) & ~(uint32_t)m->opt.umask;
    v.mode = (v.mode & 07777) | node->type;
    v.uid = a->has & ATTR_UID ? a->uid : v.uid;
    v.gid = a->has & ATTR_GID ? a->gid : v.gid;
    v.size = node->type == S_IFDIR ? 0 : row->size;
    v.mtime_ns = a->has & ATTR_MTIME ? a->mtime_ns : row->time_ns;
    v.ctime_ns = row->time_ns;
    view_fill(m, &v, &node->last);
}

/* The node that a row makes, in the table: it is to be known also when it has moved on or gone by the time that it is
 * told of. Held. */
static struct inode *row_node(struct tail *t, const struct row *row, struct inode *dir, struct slice name, mode_t type)
{
    struct inode_table *table = &t->m->inodes;
    struct inode *child = inode_child(table, dir, name);

    if (child != NULL && child->fresh)
        return NULL; /* a file that is being made here too: sync_name() makes one of the two */
    if (child != NULL) {
        inode_hold(child);
        if (child->type == type && child->ino == row->ino)
            return child;
        tail_detach(t->m, child);
        inode_release(table, child);
    }
    child = inode_new(table, dir, name, type, row->ino);
    if (child != NULL)
        fill_last(t->m, row, child);
    return child;
}

static bool step_made(struct tail *t, const struct row *row, struct inode *dir, struct slice name, struct dirty *d)
{
    const struct attrs *a = &row->attrs;
    mode_t type = row->kind == EVENT_DIR_PUT ? S_IFDIR : a->has & ATTR_MODE ? a->mode & S_IFMT : 0;
    struct inode *node;
    bool pushed;

    if (!steps_can(&t->m->announce, d) || steps_expected(d)->type != 0)
        return false;
    node = row_node(t, row, dir, name, type != 0 ? type : S_IFREG);
    if (node == NULL)
        return false;
    pushed = steps_made(&t->m->announce, d, node, node->type == S_IFREG ? row->size : 0);
    inode_release(&t->m->inodes, node);
    return pushed;
}

/* Whether watchers are told of the row by itself. */
static bool row_step(struct tail *t, const struct row *row, struct inode *dir, struct slice name)
{
    struct announce *a = &t->m->announce;
    bool is_dir = row->kind == EVENT_DIR_PUT || row->kind == EVENT_DIR_DELETE, stepped = false;
    struct dirty *d;

    if (row->kind == EVENT_DIR_PUT && (row->flags & EVENT_CREATED) == 0 && row->version <= 1)
        return false; /* it was there, and is only kept */
    d = tail_record(t, dir, name, false);
    if (d == NULL)
        return false;
    if (row->kind == EVENT_DELETE || row->kind == EVENT_DIR_DELETE)
        stepped = steps_gone(a, d, is_dir);
    else if ((row->flags & EVENT_CREATED) != 0)
        stepped = step_made(t, row, dir, name, d);
    else if (row->kind == EVENT_PUT && steps_expected(d)->ino != row->ino) /* over a link, or by a move of what nobody knew */
        stepped = steps_gone(a, d, false) && step_made(t, row, dir, name, d);
    else if (row->kind == EVENT_PUT)
        stepped = steps_content(a, d, row->ino, row->size);
    else if ((steps_expected(d)->type == S_IFDIR) == is_dir)
        stepped = steps_attributes(a, d);
    if (stepped)
        tail_note(t, dir, name);
    return stepped;
}

/* The directory that is mounted has no name here that a row could touch. */
static void root_change(struct mount *m, const struct row *row, bool structural)
{
    struct slice prefix = slice_from_str(m->opt.prefix);

    if (row->kind == EVENT_RENAME && (slice_has_prefix(prefix, row->key) || slice_has_prefix(prefix, row->to)))
        cached_end_below(m, m->inodes.root);
    else if (row->kind == EVENT_RENAME || row->kind == EVENT_DIR_PUT || row->kind == EVENT_DIR_DELETE ||
             (structural && prefix.len > 1)) /* it is there for what is below it */
        cached_end(m, m->inodes.root);
}

static void row_change(struct tail *t, const struct row *row, bool own)
{
    struct mount *m = t->m;
    bool is_dir = row->kind == EVENT_DIR_PUT || row->kind == EVENT_DIR_DELETE;
    bool gone = row->kind == EVENT_DELETE || row->kind == EVENT_DIR_DELETE;
    bool structural = (row->flags & EVENT_CREATED) != 0 || gone;
    enum ancestors ancestors = gone ? ANCESTORS_GO : structural ? ANCESTORS_COME : ANCESTORS_STAY;
    enum touch how = row->kind == EVENT_PUT ? TOUCH_CONTENT : TOUCH_NAME;
    struct inode *dir, *child;
    struct slice name;
    struct bytes way;

    if (row->kind == EVENT_ATTR || (row->kind == EVENT_DIR_PUT && !structural && row->version > 1))
        how = TOUCH_ATTRIBUTES;
    else if (row->kind == EVENT_DIR_PUT && !structural)
        how = TOUCH_DIRECTORY;
    bytes_init(&way);
    root_change(m, row, structural);
    if (way_to(m, row->key, is_dir, &way) == 0) {
        if (way.len == 0) { /* the root's own */
            if (!is_dir)
                tail_touch(t, m->inodes.root, slice_from_str("%:value"), how);
        } else if ((dir = walk(t, bytes_slice(&way), ancestors, &name)) != NULL) {
            child = inode_child(&m->inodes, dir, name);
            if (own && (child == NULL || child->type != S_IFDIR || is_dir))
                row_own(t, row, dir, name);
            else if (own)
                row_own(t, row, child, slice_from_str("%:value"));
            else if (!row_step(t, row, dir, name))
                tail_touch(t, dir, name, how);
            if (!own && !is_dir && child != NULL && child->type == S_IFDIR)
                tail_touch(t, child, slice_from_str("%:value"), how);
        }
    }
    bytes_fini(&way);
}

static void push_rename(struct tail *t, const struct row *row)
{
    if (tail_grow((void **)&t->renames, t->n_renames, &t->renames_cap, sizeof(*t->renames)) < 0) {
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
        cached_end_below(m, node);
        cached_end_below(m, there);
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
    cached_end_below(m, node); /* what is below has got other rows */
    /* A directory that nobody made is somebody's now, unless it has moved on. */
    if (node->type == S_IFDIR && node->implicit && tail_view_after(t, dir2, name2, &v) == 0 && v.seen.type == S_IFDIR) {
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
    struct dirty *d = NULL, *d2 = NULL;
    bool stepped = false;
    struct view v;

    /* Both names need a node to be matched by: is the one thing there the other thing that was here. */
    if (node == NULL && tail_view_before(t, dir, name, &v) == 0 && v.seen.type != 0)
        node = inode_new(&m->inodes, dir, name, v.seen.type, v.seen.ino);
    else if (node != NULL)
        inode_hold(node);
    if (exchange && there == NULL && tail_view_before(t, dir2, name2, &v) == 0 && v.seen.type != 0)
        there = inode_new(&m->inodes, dir2, name2, v.seen.type, v.seen.ino);
    else if (there != NULL)
        inode_hold(there);
    if (!own && node != NULL) {
        d = tail_record(t, dir, name, true);
        d2 = tail_record(t, dir2, name2, true);
        stepped = d != NULL && d2 != NULL && steps_moved(&m->announce, d, d2, node, there, exchange);
    }
    if (stepped) {
        tail_note(t, dir, name);
        tail_note(t, dir2, name2);
    } else {
        tail_touch(t, dir, name, TOUCH_NAME);
        tail_touch(t, dir2, name2, TOUCH_NAME);
    }
    if (own) {
        struct seen gone = {0}, here = {0}, back = {0};

        if (node != NULL)
            here = (struct seen){.type = node->type, .ino = node->ino, .node = node};
        if (exchange && there != NULL)
            back = (struct seen){.type = there->type, .ino = there->ino, .node = there};
        tail_tell_own(t, dir, name, &gone); /* first: a node is shown at one name */
        tail_tell_own(t, dir2, name2, &here);
        if (exchange)
            tail_tell_own(t, dir, name, &back);
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
        dir = walk(t, bytes_slice(&from), ANCESTORS_GO, &name);
    if (has_to)
        dir2 = walk(t, bytes_slice(&to), ANCESTORS_COME, &name2);
    known = tail_is_known(m, dir) || tail_is_known(m, dir2) || (dir != NULL && inode_child(&m->inodes, dir, name) != NULL);
    if (has_from && has_to && known) {
        dir = walk_making(t, bytes_slice(&from), &name);
        dir2 = walk_making(t, bytes_slice(&to), &name2);
        if (dir != NULL && dir2 != NULL)
            rename_known(t, row, own, dir, name, dir2, name2);
        else if (dir != NULL)
            tail_touch(t, dir, name, TOUCH_NAME);
        else if (dir2 != NULL)
            tail_touch(t, dir2, name2, TOUCH_NAME);
        if (dir != NULL)
            inode_release(&m->inodes, dir);
        if (dir2 != NULL)
            inode_release(&m->inodes, dir2);
    } else if (dir != NULL && has_from) { /* out of or into what this mount shows */
        tail_touch(t, dir, name, TOUCH_NAME);
    } else if (dir2 != NULL && has_to) {
        tail_touch(t, dir2, name2, TOUCH_NAME);
    }
    push_rename(t, row);
    root_change(m, row, true);
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
    if (e->kind == EVENT_LOCK)
        locks_row(t->m, e);
    if ((e->flags & EVENT_OF_RENAME) != 0 || e->kind == EVENT_LOCK)
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
    *row = (struct row){.kind = e->kind, .flags = e->flags, .revision = e->rev.main, .version = e->version,
                        .session = e->session, .sequence = e->sequence, .attrs = e->attrs, .time_ns = e->time_ns,
                        .ino = store_event_ino(e), .size = e->value_len};
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

int tail_read_rows(struct tail *t)
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
