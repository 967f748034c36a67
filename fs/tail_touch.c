/* What a row of the log means for one name: what it was, what it will be, and what watchers have to be told. */
#include "fs/tail.h"

#include <errno.h>
#include <stdlib.h>

bool tail_is_known(const struct mount *m, const struct inode *i)
{
    return i != NULL && (i->nlookup > 0 || i == m->inodes.root);
}

int tail_grow(void **array, size_t n, size_t *cap, size_t item_bytes)
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
int tail_place_before(const struct tail *t, struct name_place *p)
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
int tail_view_before(struct tail *t, struct inode *dir, struct slice name, struct view *v)
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
        rc = tail_place_before(t, &p);
        if (rc == 0)
            rc = view_at(m, t->old, &p, v);
        if (rc == 0 && v->seen.type != 0 && child != NULL && child->type == v->seen.type)
            v->seen.node = child;
    }
    name_place_fini(&p);
    return rc == -ENOENT || rc == -ESTALE ? 0 : rc;
}

int tail_view_after(struct tail *t, struct inode *dir, struct slice name, struct view *v)
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

void tail_note(struct tail *t, struct inode *dir, struct slice name)
{
    struct touched *at;

    if (tail_grow((void **)&t->touched, t->n_touched, &t->touched_cap, sizeof(*t->touched)) < 0) {
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

/* A foreign row may have changed this name. Its record, if it has one now. */
struct dirty *tail_touch(struct tail *t, struct inode *dir, struct slice name, enum touch how)
{
    struct mount *m = t->m;
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct view before = {0}, after;
    bool content = false, attributes = false;
    int rc = 0;

    tail_note(t, dir, name);
    if (!tail_is_known(m, dir) && !tail_is_known(m, inode_child(&m->inodes, dir, name)) && d == NULL)
        return NULL; /* nobody can watch it */
    if (d == NULL || how >= TOUCH_ATTRIBUTES)
        rc = tail_view_before(t, dir, name, &before);
    if (rc == 0)
        rc = tail_view_after(t, dir, name, &after);
    if (rc < 0) {
        t->rc = rc == -EINVAL || rc == -ENAMETOOLONG ? t->rc : rc;
        return d;
    }
    if (how == TOUCH_CONTENT) /* or it was written and then moved away */
        content = after.seen.type == S_IFREG || (d != NULL ? d->told.type : before.seen.type) == S_IFREG;
    else if (after.seen.type == S_IFREG)
        content = (how == TOUCH_COMPARE && before.seen.type != 0 && before.rev != after.rev);
    if (how == TOUCH_ATTRIBUTES)
        attributes = before.seen.type != 0 && after.seen.type != 0;
    else if (how == TOUCH_DIRECTORY || how == TOUCH_COMPARE)
        attributes = attributes_differ(&before, &after);
    if (d == NULL && seen_same(&before.seen, &after.seen) && !content && !attributes)
        return NULL;
    if (d == NULL)
        d = announce_add(&m->announce, dir, name, &before.seen);
    if (d == NULL) {
        m->overlay_lost++;
        return NULL;
    }
    d->behind = true;
    d->content = d->content || content;
    d->attributes = d->attributes || attributes;
    return d;
}

/* When all rows are read: a name that seemed unchanged, since a directory above it had moved on by the revision that is read. */
void tail_touch_again(struct tail *t, struct inode *dir, struct slice name)
{
    struct mount *m = t->m;
    struct view before, after;
    struct dirty *d;

    if (inode_is_dead(&m->inodes, dir) || announce_find(&m->announce, dir, name) != NULL ||
        (!tail_is_known(m, dir) && !tail_is_known(m, inode_child(&m->inodes, dir, name))) ||
        tail_view_before(t, dir, name, &before) < 0 || tail_view_after(t, dir, name, &after) < 0 ||
        seen_same(&before.seen, &after.seen))
        return;
    d = announce_add(&m->announce, dir, name, &before.seen);
    if (d != NULL)
        d->behind = true;
    else
        m->overlay_lost++;
}

/* The record of a name that is to get a step, made if there is none. NULL: nobody can watch it, or there is no room. */
struct dirty *tail_record(struct tail *t, struct inode *dir, struct slice name, bool known)
{
    struct mount *m = t->m;
    struct dirty *d = announce_find(&m->announce, dir, name);
    struct view before;

    if (d != NULL || (!known && !tail_is_known(m, dir) && !tail_is_known(m, inode_child(&m->inodes, dir, name))))
        return d;
    if (m->announce.steps_full || tail_view_before(t, dir, name, &before) < 0)
        return NULL; /* tail_touch() will say */
    return announce_add(&m->announce, dir, name, &before.seen);
}

/* The name's place in the table after an own row: what the kernel will know when that is answered. */
void tail_tell_own(struct tail *t, struct inode *dir, struct slice name, const struct seen *seen)
{
    struct mount *m = t->m;
    struct dirty *d = announce_find(&m->announce, dir, name);

    tail_note(t, dir, name);
    if (d == NULL) {
        if (announce_add(&m->announce, dir, name, seen) == NULL)
            m->overlay_lost++;
        return;
    }
    steps_overtaken(&m->announce, &m->inodes, d);
    announce_tell(&m->announce, &m->inodes, d, seen);
    d->next_told = (struct seen){.type = seen->type, .implicit = seen->implicit, .ino = seen->ino};
    d->behind = d->content || d->attributes || m->echo.to == d || m->echo.from == d;
}
