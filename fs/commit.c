/* From a write buffer to the cluster. One proposal a node at a time; who wants the node committed waits for the one under
 * way, and for another if more was written meanwhile. */
#include <errno.h>

#include "fs/mount.h"

#define SWEEP_MS 5000

int commit_possible(const struct mount *m)
{
    const struct client_info *info = client_get_info(m->client);

    if (m->opt.read_only)
        return EROFS;
    if (m->leaderless_since_ms == 0)
        return 0;
    return client_now_ms() > m->leaderless_since_ms + 3 * (info != NULL ? info->election_ms : 1000) ? EROFS : 0;
}

/* ---- buffers ---- */

int commit_buffer(struct mount *m, struct inode *i, bool truncate, struct buffer **ret_buffer)
{
    struct slice content = {NULL, 0};
    struct name_place p;
    struct arena arena;
    int rc = 0;

    if (i->buffer != NULL) {
        *ret_buffer = i->buffer;
        return 0;
    }
    arena_init(&arena);
    name_place_init(&p);
    if (!truncate) {
        rc = view_place(m, i, &p);
        if (rc == 0)
            rc = view_content(m, m->read, &p, &arena, &content);
        if (rc == -ENOENT)
            rc = -ESTALE;
    }
    if (rc == 0)
        rc = buffer_new(&m->buffers, content, &i->buffer);
    if (rc == 0)
        *ret_buffer = i->buffer;
    name_place_fini(&p);
    arena_fini(&arena);
    return rc;
}

void commit_drop_buffer(struct inode *i)
{
    buffer_free(i->buffer);
    i->buffer = NULL;
}

void commit_expected(struct mount *m, struct inode *i)
{
    i->expect_rev = 0;
    m->expecting--;
    inode_release(&m->inodes, i);
}

/* Nobody writes to it and it will not be committed. */
static void drop_if_over(const struct mount *m, struct inode *i)
{
    if (i->buffer != NULL && i->n_writers == 0 && !i->committing &&
        (inode_is_dead(&m->inodes, i) || !i->buffer->dirty))
        commit_drop_buffer(i);
}

/* ---- proposing ---- */

static void commit_done(struct waiting *c, int error);

static int set_command(struct waiting *c, struct inode *i)
{
    const struct buffer *b = i->buffer;
    struct file_op *f = &c->cmd.file;
    struct name_place p;
    struct slice value;
    int rc;

    name_place_init(&p);
    rc = i->lock_lost ? -EIO : view_place(c->m, i, &p);
    if (rc == 0)
        rc = arena_copy(&c->arena, bytes_slice(&p.key), &f->path);
    if (rc < 0)
        goto done;
    if (p.kind != NAME_NODE) {
        struct op_put put = {.key = f->path, .ignore_lease = !i->fresh};

        rc = arena_copy(&c->arena, buffer_content(b), &put.value);
        c->cmd.kind = COMMAND_PUT;
        c->cmd.put = put;
        goto done;
    }
    f->ino = i->fresh ? 0 : i->ino;
    f->fence = locks_fence(c->m, i);
    if (b->append_only && !i->fresh && b->attrs.has == 0 && i->expect_rev == 0) {
        c->cmd.kind = COMMAND_FILE_APPEND;
        value = buffer_tail(b);
    } else {
        c->cmd.kind = COMMAND_FILE_WRITE;
        value = buffer_content(b);
        f->attrs = b->attrs;
        f->attrs.mode = S_IFREG | (b->attrs.mode & 07777);
        if (i->expect_rev != 0) {
            f->flags |= FILE_EXPECT_REV;
            f->expect_rev = i->expect_rev;
        }
        if (i->fresh) {
            f->flags |= FILE_CREATE | (b->untouched ? FILE_EXCLUSIVE : 0);
            f->attrs.has |= ATTR_INO;
            f->attrs.ino = i->ino;
        }
    }
    rc = arena_copy(&c->arena, value, &f->value);
done:
    name_place_fini(&p);
    return rc;
}

/* Only when none is under way and there is something. */
static void launch(struct mount *m, struct inode *i)
{
    struct waiting *c = wait_new(m, NULL, commit_done);
    int rc;

    if (c == NULL) {
        commit_ended(m, i, ENOMEM);
        if (i->n_writers == 0)
            commit_drop_buffer(i);
        return;
    }
    c->node = i;
    inode_hold(i);
    i->committing = true;
    c->changes = i->buffer->changes;
    c->ino = i->buffer->size - i->buffer->base_bytes; /* as far as an append reaches */
    rc = set_command(c, i);
    if (rc < 0) {
        commit_done(c, errno_of(rc));
        return;
    }
    wait_propose(c);
}

static bool has_moved(const struct waiting *c)
{
    struct name_place p;
    bool moved;

    name_place_init(&p);
    moved = view_place(c->m, c->node, &p) == 0 && p.kind == NAME_NODE &&
            !slice_equal(bytes_slice(&p.key), c->cmd.file.path);
    name_place_fini(&p);
    return moved;
}

/* A new file that nothing was written to was made elsewhere too: this mount has read so far now, and it is that one. */
static void adopted(struct waiting *c, int error)
{
    struct mount *m = c->m;
    struct inode *i = c->node;

    i->committing = false;
    if (i->buffer != NULL && ((!i->fresh && i->buffer->untouched) || (error != 0 && i->n_writers == 0))) {
        commit_drop_buffer(i);
        if (i->fresh)
            tail_detach(m, i);
    }
    commit_ended(m, i, error);
    commit_rest(m, i);
    wait_free(c);
}

static void commit_done(struct waiting *c, int error)
{
    struct mount *m = c->m;
    struct inode *i = c->node;
    struct buffer *b = i->buffer;
    bool moved = false;

    if (error == EEXIST && c->cmd.kind == COMMAND_FILE_WRITE && (c->cmd.file.flags & FILE_EXCLUSIVE) != 0) {
        c->then = adopted;
        wait_newest(c);
        return;
    }
    i->committing = false;
    if (error == 0) {
        i->own_rev = c->revision;
        i->fresh = false;
        if (c->cmd.kind != COMMAND_PUT && c->result_ino != 0 && !inode_is_dead(&m->inodes, i))
            inode_renumber(i, c->result_ino);
        if (b != NULL && b->changes == c->changes) {
            commit_drop_buffer(i);
        } else if (b != NULL && b->append_only) { /* more was written meanwhile */
            b->base_bytes += (size_t)c->ino;
        }
    } else if ((error == ESTALE || error == ENOENT) && c->cmd.kind != COMMAND_PUT && has_moved(c)) {
        error = 0; /* renamed before this arrived: what is left is committed under its new name */
        moved = true;
    } else if (c->status == STATUS_FENCED) {
        locks_lose(m);
    } else if (inode_is_dead(&m->inodes, i) && i->unlinked_here) {
        error = 0; /* written to a file that has no name any more: gone with its last handle */
    }
    b = i->buffer;
    if (!moved && (error == 0 || error == ESTALE || error == ENOENT) && c->cmd.kind == COMMAND_FILE_WRITE &&
        (c->cmd.file.flags & FILE_EXPECT_REV) != 0 && i->expect_rev != 0) {
        commit_expected(m, i);
        if (error == ESTALE && b != NULL) { /* not to be tried again without the condition */
            commit_drop_buffer(i);
            b = NULL;
        }
    }
    if (i->lock_lost && b != NULL) { /* meanwhile: what is left was written under a lock that is gone */
        error = error != 0 || b->changes != c->changes ? EIO : 0;
        commit_drop_buffer(i);
        b = NULL;
    }
    if (error != 0 && b != NULL && i->n_writers == 0) {
        log_warn(&m->log, "what was written to %.*s is lost: %s", (int)i->name.len, i->name.data, strerror(error));
        commit_drop_buffer(i);
        if (i->fresh)
            tail_detach(m, i);
    }
    drop_if_over(m, i);
    commit_ended(m, i, error);
    commit_rest(m, i);
    wait_free(c);
}

void commit_ended(struct mount *m, struct inode *i, int error)
{
    struct list round;

    list_init(&round);
    while (!list_empty(&i->commit_waiters)) {
        struct list *it = i->commit_waiters.next;

        list_remove(it);
        list_push_back(&round, it);
    }
    inode_hold(i);
    while (!list_empty(&round)) {
        struct waiting *w = LIST_ITEM(round.next, struct waiting, link);

        list_remove(&w->link);
        w->state = WAIT_IDLE;
        w->again(w, error);
    }
    inode_release(&m->inodes, i);
}

/* A waiter's turn: what it wants may be done, or need another proposal. */
static void commit_again(struct waiting *w, int error)
{
    struct inode *i = w->node;

    if (error == 0 && i->buffer != NULL && i->buffer->dirty && i->buffer->changes <= w->changes) {
        commit_start(w, i);
        return;
    }
    w->then(w, error);
}

bool commit_busy(struct waiting *w, struct inode *i, wait_then again)
{
    if (!i->committing)
        return false;
    w->state = WAIT_OTHER;
    w->again = again;
    list_remove(&w->link);
    list_push_back(&i->commit_waiters, &w->link);
    return true;
}

void commit_start(struct waiting *w, struct inode *i)
{
    const struct buffer *b = i->buffer;

    if (inode_is_dead(&w->m->inodes, i)) {
        w->then(w, b != NULL && b->dirty && !i->unlinked_here ? ESTALE : 0);
        return;
    }
    if (b == NULL || !b->dirty) {
        w->then(w, 0);
        return;
    }
    w->changes = b->changes;
    if (commit_busy(w, i, commit_again))
        return;
    w->state = WAIT_OTHER;
    w->again = commit_again;
    list_push_back(&i->commit_waiters, &w->link);
    launch(w->m, i);
}

void commit_quietly(struct mount *m, struct inode *i)
{
    drop_if_over(m, i);
    if (i->buffer != NULL && i->buffer->dirty && !i->committing && !inode_is_dead(&m->inodes, i))
        launch(m, i);
}

void commit_rest(struct mount *m, struct inode *i)
{
    if (i->n_writers == 0)
        commit_quietly(m, i);
}

/* ---- what has been dirty for long ---- */

bool commit_any(const struct mount *m)
{
    for (size_t s = 0; s < m->inodes.size; s++)
        for (const struct inode *i = m->inodes.by_id[s]; i != NULL; i = i->id_next)
            if (i->committing || (i->buffer != NULL && i->buffer->dirty && !inode_is_dead(&m->inodes, i)))
                return true;
    return false;
}

void commit_sweep(struct mount *m)
{
    uint64_t now_ms = client_now_ms();

    if (now_ms < m->next_sweep_ms && !m->stopping)
        return;
    m->next_sweep_ms = now_ms + SWEEP_MS;
    for (size_t s = 0; s < m->inodes.size; s++) {
        for (struct inode *i = m->inodes.by_id[s]; i != NULL; i = i->id_next) {
            const struct buffer *b = i->buffer;

            if (b != NULL && b->dirty && !i->committing && !inode_is_dead(&m->inodes, i) &&
                (m->stopping || now_ms > b->dirty_since_ms + DIRTY_MAX_MS))
                launch(m, i);
        }
    }
}
