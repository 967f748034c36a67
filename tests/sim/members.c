/* members.c - an operator who adds, promotes and removes members and moves the leader, through any node, whatever goes on.
 *
 * A slot of the world is a machine. One that is no member has no number; an added one is started with an empty disk, a
 * removed one is stopped, its disk wiped, and it may be added again as another member. When the outcome of a change is
 * unknown, the operator reads the list of members before the next one, as operators should. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "raft/node_state.h"

/* After its removal the machine goes on: what it may still do is what a duel is about. */
#define LEFT_ALONE (60 * SECOND)

struct operation {
    struct world *world;
    struct node_member_change change;
    struct node_maintain maintain;
    int slot;
};

struct operator {
    bool unsure, told_after_healing;
    unsigned in_flight;
    unsigned generation;
    uint64_t stray;
};

struct operator *operator_new(struct world *w)
{
    struct operator *o = calloc(1, sizeof *o);

    if (w->faults.members)
        world_at(w, 2 * SECOND, SIM_MEMBERS, 0, 0);
    return o;
}

void operator_free(struct operator *o)
{
    free(o);
}

/* What the world believes is what the cluster says, and was asked after the last fault. */
bool operator_idle(const struct world *w)
{
    return !w->members_change || (w->operator->in_flight == 0 && w->operator->told_after_healing);
}

static void slot_free(struct world *w, struct sim_node *s)
{
    world_stop_node(w, s->index);
    sim_disk_free(s->disk);
    s->disk = sim_disk_new(&w->rng);
    s->full = false;
    world_remove_tree(s->dir);
    world_make_dir(s->dir);
    check_store_lost(w, s->index);
    s->id = 0;
    s->member = s->learner = s->removal_asked = s->removing = false;
    s->url[0] = '\0';
}

static void slot_join(struct world *w, struct sim_node *s, uint64_t id)
{
    world_note(w, "node %d is member %llx from now on", s->index, (unsigned long long)id);
    s->id = id;
    s->member = s->joined = true;
    w->stats.added++;
    world_at(w, rng_below(&w->rng, SECOND), SIM_START, s->index, 0);
}

/* This member has been told that it is none any more. */
void operator_removed(struct world *w, struct sim_node *s)
{
    if (!s->removal_asked)
        world_violation(w, "node %d is told that it was removed, and nobody asked for that", s->index);
    world_at(w, rng_below(&w->rng, 100 * MS), SIM_GONE, s->index, s->id);
}

void operator_gone(struct world *w, struct sim_node *s, uint64_t id)
{
    if (s->id == id && id != 0 && s->removal_asked)
        slot_free(w, s);
}

static const struct socket_member *in_list(const struct socket_member_done *done, const struct sim_node *s)
{
    for (size_t i = 0; i < done->n_members; i++)
        if (done->members[i].id == s->id || slice_equal(done->members[i].peer_urls, slice_from_str(s->url)))
            return &done->members[i];
    return NULL;
}

/* An addition of unknown outcome took effect after the list was read that did not have it. */
static void take_late(struct world *w, const struct socket_member *m)
{
    for (int i = 0; i < w->n_nodes; i++) {
        struct sim_node *s = &w->nodes[i];

        if (s->id != 0 || s->node != NULL || s->url[0] != '\0')
            continue;
        snprintf(s->url, sizeof s->url, "%.*s", (int)m->peer_urls.len, (const char *)m->peer_urls.data);
        s->learner = m->learner;
        slot_join(w, s, m->id);
        return;
    }
    w->operator->stray = m->id; /* there is no machine for it */
    w->operator->told_after_healing = false;
}

static void take_list(struct world *w, const struct socket_member_done *done)
{
    w->operator->unsure = false;
    w->operator->told_after_healing = w->ending;
    for (int i = 0; i < w->n_nodes; i++) {
        struct sim_node *s = &w->nodes[i];
        const struct socket_member *m = in_list(done, s);

        if (m != NULL && s->id == 0)
            slot_join(w, s, m->id);
        else if (m == NULL && s->id != 0 && s->removal_asked)
            slot_free(w, s);
        else if (m == NULL && s->id != 0)
            world_violation(w, "node %d is no member any more, and nobody removed it", i);
        else if (m == NULL)
            s->url[0] = '\0'; /* its addition has not happened */
        if (m != NULL) /* it may be removed later all the same */
            s->removing = false;
        if (m != NULL)
            s->learner = m->learner;
    }
    for (size_t i = 0; i < done->n_members; i++) {
        bool known = false;

        for (int k = 0; k < w->n_nodes; k++)
            known |= w->nodes[k].id == done->members[i].id;
        if (!known)
            take_late(w, &done->members[i]);
    }
}

static void change_done(struct node_member_change *m, const struct socket_member_done *done)
{
    struct operation *op = LIST_ITEM(m, struct operation, change);
    struct world *w = op->world;
    struct sim_node *s = &w->nodes[op->slot < 0 ? 0 : op->slot];
    bool unknown = done->status == STATUS_TIMEOUT || done->status == STATUS_LEADER_CHANGED || done->status == STATUS_STOPPED;

    world_note(w, "operator: %s of node %d: %s", m->op == SOCKET_MEMBER_ADD ? "addition" : m->op == SOCKET_MEMBER_REMOVE ?
               "removal" : m->op == SOCKET_MEMBER_PROMOTE ? "promotion" : "list", op->slot, status_name(done->status));
    w->operator->in_flight--;
    w->operator->unsure |= unknown;
    if (op->slot < 0) {
        w->operator->unsure = true;
    } else if (m->op == SOCKET_MEMBER_LIST) {
        if (done->status == STATUS_OK)
            take_list(w, done);
    } else if (done->status == STATUS_OK) {
        if (m->op == SOCKET_MEMBER_ADD)
            slot_join(w, s, done->id);
        else if (m->op == SOCKET_MEMBER_PROMOTE)
            s->learner = false, w->stats.promoted++;
        else
            w->stats.removed++, s->member = false,
                world_at(w, w->plot == PLOT_DUEL ? LEFT_ALONE : 2 * SECOND, SIM_GONE, s->index, s->id);
    } else if (!unknown) {
        if (m->op == SOCKET_MEMBER_ADD)
            s->url[0] = '\0';
        if (m->op == SOCKET_MEMBER_REMOVE)
            s->removing = false;
    }
    free(op);
}

static void maintain_done(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    struct operation *op = LIST_ITEM(m, struct operation, maintain);

    world_note(op->world, "operator: moves the leader: %s", status_name(status));
    op->world->operator->in_flight--;
    free(op);
}

static void ask(struct world *w, struct sim_node *by, int slot, uint8_t kind, bool learner)
{
    struct operation *op = calloc(1, sizeof *op);

    op->world = w;
    op->slot = slot;
    op->change.op = kind;
    op->change.learner = learner;
    op->change.id = slot < 0 ? w->operator->stray : kind == SOCKET_MEMBER_REMOVE || kind == SOCKET_MEMBER_PROMOTE ? w->nodes[slot].id : 0;
    op->change.take_peer_urls = strdup(kind == SOCKET_MEMBER_ADD ? w->nodes[slot].url : "");
    w->operator->stray = 0;
    op->change.done = change_done;
    w->operator->in_flight++;
    node_member_change(by->node, &op->change);
}

static void move_leader(struct world *w, struct sim_node *by)
{
    struct operation *op = calloc(1, sizeof *op);

    op->world = w;
    op->maintain.op = SOCKET_MAINTAIN_MOVE_LEADER;
    op->maintain.arg = w->nodes[rng_below(&w->rng, (uint64_t)w->n_nodes)].id;
    op->maintain.done = maintain_done;
    w->operator->in_flight++;
    node_maintain(by->node, &op->maintain);
}

static int voters(const struct world *w)
{
    int n = 0;

    for (int i = 0; i < w->n_nodes; i++)
        n += w->nodes[i].member && !w->nodes[i].learner;
    return n;
}

void operator_removes(struct world *w, struct sim_node *by, int slot)
{
    w->nodes[slot].removal_asked = w->nodes[slot].removing = true;
    ask(w, by, slot, SOCKET_MEMBER_REMOVE, false);
}

static void change_something(struct world *w, struct sim_node *by)
{
    int slot = (int)rng_below(&w->rng, (uint64_t)w->n_nodes);
    struct sim_node *s = &w->nodes[slot];

    if (s->id == 0 && s->node == NULL && s->url[0] == '\0') {
        snprintf(s->url, sizeof s->url, "http://sim:%u", 1000 + ++w->operator->generation);
        s->learner = rng_chance(&w->rng, 300);
        ask(w, by, slot, SOCKET_MEMBER_ADD, s->learner);
    } else if (s->member && s->learner) {
        ask(w, by, slot, SOCKET_MEMBER_PROMOTE, false);
    } else if (s->member && rng_chance(&w->rng, 200)) {
        move_leader(w, by);
    } else if (s->member && !s->removing && voters(w) > 1) {
        operator_removes(w, by, slot);
    }
}

void operator_event(struct world *w)
{
    struct operator *o = w->operator;
    struct sim_node *by = &w->nodes[rng_below(&w->rng, (uint64_t)w->n_nodes)];

    if (w->ending && o->told_after_healing)
        return;
    world_at(w, 100 * MS + rng_below(&w->rng, w->ending ? 300 * MS : 900 * MS), SIM_MEMBERS, 0, 0);
    if (o->in_flight > 0 || by->node == NULL || !by->member)
        return;
    if (o->stray != 0)
        ask(w, by, -1, SOCKET_MEMBER_REMOVE, false);
    else if (o->unsure || w->ending)
        ask(w, by, 0, SOCKET_MEMBER_LIST, false);
    else
        change_something(w, by);
    check_node(w, by);
}

/* A leader is asked for a change in the moment of its election, whatever else was asked for elsewhere: it must not make it before
 * it has committed something. */
void operator_greets(struct world *w, struct sim_node *leader)
{
    struct operator *o = w->operator;

    if (w->ending || w->plot != PLOT_CHANCE || o->unsure || o->in_flight > 2 || leader->node == NULL || !leader->member)
        return;
    change_something(w, leader);
    check_node(w, leader);
}
