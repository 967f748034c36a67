/* swap.c - another store in place of the node's, while it runs: for defragmentation, onto a fresh checkpoint of its own.
 *
 *  MAKING       worker: a checkpoint is written and becomes env.<epoch + 1>, which nobody knows of
 *  CATCHING_UP  worker: entries that were applied meanwhile are applied to it too, in rounds, from the log, which holds them;
 *               when few are left, applies are held until the end
 *  PUBLISHING   worker: its mark, and CURRENT; both stores have applied the same entries
 *  then         the node takes it, tells the new epoch at the same revision, and applies go on
 *  CLEANING     worker: the old one is closed and its files removed; front ends that still map them lose nothing
 *
 * Until PUBLISHING an error costs nothing: what was made is dropped. Answers are given by the first application alone. */
#include "raft/checkpoint.h"

#include <errno.h>
#include <stdio.h>

#include "store/checkpoint.h"

static struct store_options next_options(const struct node *n)
{
    return (struct store_options){
        .flags = STORE_WRITER | n->config.store_flags,
        .map_bytes = n->config.store_map_bytes,
        .cluster_id = n->config.cluster_id,
    };
}

/* ---- in the worker ---- */

static void make_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);
    const struct node *n = c->node;
    struct store_options options = next_options(n);

    arena_reset(&c->arena);
    c->membership = slice_make(NULL, 0);
    c->rc = checkpoint_write(n->store, &c->info);
    if (c->rc == 0)
        c->rc = checkpoint_membership(c->info.path, &c->arena, &c->membership);
    if (c->rc == 0)
        c->rc = checkpoint_make(n->store_dir, c->info.path, n->config.cluster_id, c->next_epoch);
    if (c->rc == 0)
        c->rc = store_open_next(n->store_dir, c->next_epoch, &options, &c->next);
}

static void catch_up_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);

    c->rc = apply_other_run(c->job);
}

static void publish_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);

    c->rc = store_publish(c->next, c->node->store);
}

static void clean_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);

    store_close(c->old);
    c->old = NULL;
    c->rc = store_clean(c->node->store); /* or the next start does it */
}

static void drop_run(struct work *w)
{
    struct checkpoints *c = LIST_ITEM(w, struct checkpoints, work);

    store_close(c->next);
    c->next = NULL;
    (void)store_clean(c->node->store);
}

/* ---- on the loop ---- */

void swap_begin(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    c->next_epoch = n->epoch + 1;
    c->rc = c->job == NULL ? apply_other_new(n, &c->job) : 0;
    if (c->rc < 0)
        checkpoints_failed(n, "the store cannot be defragmented");
    else
        checkpoints_submit(n, CP_MAKING, make_run);
}

static void give_up(struct node *n, const char *what)
{
    n->apply_held = false;
    checkpoints_failed(n, what);
    if (!n->failed)
        checkpoints_submit(n, CP_DROPPING, drop_run);
}

/* A round of entries, or on to the end when there are none. */
static void catch_up(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    if (n->applied_index - c->next_applied <= SWAP_HELD_ENTRIES)
        n->apply_held = true; /* a job that is out may still end */
    if (n->apply_held && n->apply_out)
        return;
    if (n->applied_index == c->next_applied) {
        checkpoints_submit(n, CP_PUBLISHING, publish_run);
        return;
    }
    c->rc = apply_other_fill(n, c->job, c->next, c->next_applied, &c->round_last);
    if (c->rc < 0)
        give_up(n, "the store cannot be defragmented: the log cannot be read");
    else
        checkpoints_submit(n, CP_CATCHING_UP, catch_up_run);
}

static void take_next(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    c->old = n->store;
    n->store = c->next;
    c->next = NULL;
    n->epoch = c->next_epoch;
    n->apply_held = false;
    n->removal.more = true;
    if (n->config.logger != NULL)
        log_info(n->config.logger, "the store is defragmented: epoch %llu, %llu bytes",
                 (unsigned long long)n->epoch, (unsigned long long)c->info.image_bytes);
    if (n->callbacks.on_revision != NULL)
        n->callbacks.on_revision(n->callbacks.ctx, n->epoch, n->revision);
    checkpoints_end_running(n, STATUS_OK);
    checkpoints_submit(n, CP_CLEANING, clean_run);
}

void swap_step(struct node *n)
{
    struct checkpoints *c = n->checkpoints;

    switch (c->phase) {
    case CP_MAKING:
        if (c->rc < 0) {
            give_up(n, "the store cannot be defragmented");
            break;
        }
        checkpoints_made(n);
        c->next_applied = c->info.applied_index;
        c->phase = CP_CATCHING_UP;
        if (!n->failed)
            catch_up(n);
        break;
    case CP_CATCHING_UP:
        if (c->rc < 0) {
            give_up(n, "the store cannot be defragmented");
            break;
        }
        if (c->round_last > c->next_applied)
            c->next_applied = c->round_last;
        catch_up(n);
        break;
    case CP_PUBLISHING:
        if (c->rc < 0)
            give_up(n, "the defragmented store cannot take the place of the other");
        else
            take_next(n);
        break;
    case CP_CLEANING:
    case CP_DROPPING:
        c->phase = CP_IDLE;
        break;
    case CP_IDLE:
    case CP_WRITING:
        break;
    }
}
