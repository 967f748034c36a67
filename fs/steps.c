#include "fs/steps.h"

#include <stdlib.h>

static bool is_known_as(const struct seen *told, const struct seen *was)
{
    if (told->type != was->type)
        return false;
    return told->type == 0 || told->ino == was->ino || (told->type == S_IFDIR && (told->implicit || was->implicit));
}

const struct seen *steps_expected(const struct dirty *d)
{
    return d->steps != 0 ? &d->next_told : &d->told;
}

bool steps_can(const struct announce *a, const struct dirty *d)
{
    return !d->behind && !a->steps_full;
}

/* ---- adding ---- */

static void count_in(struct dirty *d, const struct seen *next)
{
    if (d->steps++ == 0)
        list_remove(&d->queue);
    d->next_told = *next;
    d->next_told.node = NULL;
}

static bool push(struct announce *a, const struct step *what, const struct seen *next_from, const struct seen *next_to)
{
    struct step *s;

    if (a->n_steps >= STEPS_MAX)
        a->steps_full = true;
    if (a->steps_full || (s = malloc(sizeof(*s))) == NULL)
        return false;
    *s = *what;
    s->was_to = *steps_expected(s->to);
    s->was_to.node = NULL;
    if (s->from != NULL) {
        s->was_from = *steps_expected(s->from);
        s->was_from.node = NULL;
        count_in(s->from, next_from);
    }
    count_in(s->to, next_to);
    if (s->node != NULL)
        inode_hold(s->node);
    if (s->other != NULL)
        inode_hold(s->other);
    list_init(&s->link);
    list_push_back(&a->steps, &s->link);
    a->n_steps++;
    return true;
}

bool steps_made(struct announce *a, struct dirty *d, struct inode *node, uint64_t size)
{
    const struct step s = {.kind = STEP_MADE, .to = d, .node = node, .size = size};
    const struct seen made = {.type = node->type, .ino = node->ino};

    return steps_can(a, d) && steps_expected(d)->type == 0 && push(a, &s, NULL, &made);
}

bool steps_content(struct announce *a, struct dirty *d, uint64_t ino, uint64_t size)
{
    const struct step s = {.kind = STEP_CONTENT, .to = d, .size = size};
    const struct seen same = *steps_expected(d);

    return steps_can(a, d) && same.type == S_IFREG && same.ino == ino && push(a, &s, NULL, &same);
}

bool steps_attributes(struct announce *a, struct dirty *d)
{
    const struct step s = {.kind = STEP_ATTRIBUTES, .to = d};
    const struct seen same = *steps_expected(d);

    return steps_can(a, d) && same.type != 0 && push(a, &s, NULL, &same);
}

bool steps_gone(struct announce *a, struct dirty *d, bool is_dir)
{
    const struct step s = {.kind = STEP_GONE, .to = d};
    const struct seen gone = {0}, *was = steps_expected(d);

    return steps_can(a, d) && was->type != 0 && (was->type == S_IFDIR) == is_dir && push(a, &s, NULL, &gone);
}

/* The kernel refuses a move over something of the other kind, and there is none in the log. */
static bool can_replace(const struct seen *moved, const struct seen *there)
{
    return there->type == 0 || (moved->type == S_IFDIR) == (there->type == S_IFDIR);
}

bool steps_moved(struct announce *a, struct dirty *from, struct dirty *to, struct inode *node, struct inode *there_node,
                 bool exchange)
{
    const struct step s = {.kind = exchange ? STEP_EXCHANGED : STEP_MOVED, .from = from, .to = to, .node = node,
                           .other = exchange ? there_node : NULL};
    const struct seen gone = {0}, moved = *steps_expected(from), there = *steps_expected(to);
    const struct seen is = {.type = node->type, .implicit = node->implicit, .ino = node->ino};

    if (!steps_can(a, from) || !steps_can(a, to) || from == to || moved.type == 0 || !is_known_as(&moved, &is))
        return false;
    if (exchange ? there.type == 0 : !can_replace(&moved, &there))
        return false;
    return push(a, &s, exchange ? &there : &gone, &moved);
}

/* ---- taking ---- */

struct step *steps_first(const struct announce *a)
{
    return list_empty(&a->steps) ? NULL : LIST_ITEM(a->steps.next, struct step, link);
}

bool steps_follows(const struct step *s)
{
    return is_known_as(&s->to->told, &s->was_to) && (s->from == NULL || is_known_as(&s->from->told, &s->was_from));
}

static void count_out(struct announce *a, struct dirty *d)
{
    if (d != NULL && --d->steps == 0)
        list_push_back(&a->queue, &d->queue);
}

static void remove_step(struct announce *a, struct inode_table *t, struct step *s)
{
    list_remove(&s->link);
    if (--a->n_steps == 0)
        a->steps_full = false;
    count_out(a, s->from);
    count_out(a, s->to);
    if (s->node != NULL)
        inode_release(t, s->node);
    if (s->other != NULL)
        inode_release(t, s->other);
    free(s);
}

void steps_taken(struct announce *a, struct inode_table *t, struct step *s)
{
    remove_step(a, t, s);
}

void steps_give_up(struct announce *a, struct inode_table *t, struct step *s)
{
    s->to->behind = true;
    s->to->content = s->to->content || s->kind == STEP_CONTENT || (s->kind == STEP_MADE && s->size != 0);
    s->to->attributes = s->to->attributes || s->kind == STEP_ATTRIBUTES;
    if (s->from != NULL)
        s->from->behind = true;
    remove_step(a, t, s);
}

void steps_overtaken(struct announce *a, struct inode_table *t, struct dirty *d)
{
    if (d->steps == 0)
        return;
    LIST_FOREACH_SAFE(it, &a->steps) {
        struct step *s = LIST_ITEM(it, struct step, link);

        if ((s->to != d && s->from != d) || s->sent)
            continue;
        steps_give_up(a, t, s);
    }
}

void steps_give_up_all(struct announce *a, struct inode_table *t)
{
    LIST_FOREACH_SAFE(it, &a->steps) {
        struct step *s = LIST_ITEM(it, struct step, link);

        if (s->sent) { /* its answer is awaited: it will not be tried again */
            s->tries = STEPS_TRIES;
            s->to->behind = true;
            if (s->from != NULL)
                s->from->behind = true;
        } else {
            steps_give_up(a, t, s);
        }
    }
}
