/* From one revision to the next. The new read transaction is opened while the old one is still held; for every name that a row
 * of the log touches, and that a watcher could know, what it was before goes into the overlay of announced names. Then
 * users see the new revision; watchers are told by and by (reconcile.c).
 *
 * Rows that this mount made itself raise events by themselves, when their requests are answered: for these the overlay notes
 * what the kernel will then know. */
#include "fs/tail.h"

#include <errno.h>
#include <stdlib.h>

/* ---- without rows: after compaction has overtaken, or in another epoch ---- */

struct comparison {
    struct tail *t;
    struct inode *dir;
};

static int compare_name(void *ctx, struct slice name, const struct view *view)
{
    struct comparison *c = ctx;

    tail_touch(c->t, c->dir, name, TOUCH_COMPARE);
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
    steps_give_up_all(&t->m->announce, table);
    cached_end_below(t->m, table->root);
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
    cached_end_below(m, i);
    arena_init(&arena);
    name_place_init(&p);
    rc = view_place(m, i, &p);
    if (rc == 0 && m->tail != NULL)
        rc = tail_place_before(m->tail, &p);
    if (rc == 0 && view_at(m, r, &p, &v) == 0 && v.seen.type == i->type) {
        if (i->last.st_mode == 0 || v.seen.implicit || v.seen.ino == i->ino) /* else it was another's place then */
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
    if (i->expect_rev != 0)
        commit_expected(m, i);
}

static void sync_name(struct tail *t, const struct touched *at)
{
    struct mount *m = t->m;
    struct inode *child = inode_child(&m->inodes, at->dir, at->name);
    struct view v;

    if (child != NULL)
        cached_end(m, child);
    if (child == NULL || inode_is_dead(&m->inodes, at->dir) || tail_view_after(t, at->dir, at->name, &v) < 0)
        return;
    if (child->fresh) {
        if (v.seen.type == 0)
            return;
        if (v.seen.type == S_IFREG) { /* made by somebody too, or by our own commit: it is that one now */
            child->fresh = false;
            inode_renumber(child, v.seen.ino);
            if (child->buffer != NULL && child->buffer->untouched && !child->committing)
                commit_drop_buffer(child); /* there was nothing of ours in it */
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
    bool compared = false;
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
        rc = store_read_revision(t.new) >= m->revision ? tail_read_rows(&t) : 1;
        compared = rc == 1;
        if (rc == 1)
            rc = compare_all(&t);
        for (size_t i = 0; rc == 0 && t.n_renames != 0 && i < t.n_touched; i++)
            tail_touch_again(&t, t.touched[i].dir, t.touched[i].name);
        for (size_t i = 0; rc == 0 && i < t.n_touched; i++)
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
    if (compared)
        locks_compare(m);
    t.new = NULL;
    store = NULL;
done:
    store_read_end(t.new);
    if (store != NULL && store != m->store)
        store_close(store);
    finish(&t);
    return rc;
}
