/* snapshot.c - a member that needs what the leader's log has no more gets the leader's newest checkpoint.
 *
 *   leader:    the core asks for it --> OFFER, again with every heartbeat, until the member says INSTALLED
 *   follower:  OFFER --> FETCHING --whole--> CHECKING --it still helps--> INSTALLING --> on_replaced: close and open again
 *
 * The library never sees a snapshot being installed. The follower's old state goes on while the file comes: it knows its
 * leader, votes, answers reads that need not be new, and takes entries if another leader can still send them. Only when the
 * file is whole and checked, and the log does not hold the entry that it reaches to, are entries refused and applies stopped;
 * then the new environment is made and named. A stop at any point leaves the old state or the new one: node_open() begins the
 * log anew behind an environment that is ahead of it. What breaks is fetched on from where it was; what turns out to be
 * damaged, or of no use any more, is dropped, and the old state has never been touched. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "raft/checkpoint.h"

#define OFFER_SILENCE_MS 60000 /* a member that says nothing for so long is not waited for: the log may go */

enum fetch_state { FETCH_NONE, FETCH_FETCHING, FETCH_CHECKING, FETCH_QUIETING, FETCH_INSTALLING };

/* ---- on the leader ---- */

static struct snapshot_offer *offer_slot(struct node *n, uint64_t peer)
{
    struct snapshot_offer *free_slot = NULL;

    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        if (n->snapshots.offers[i].peer == peer)
            return &n->snapshots.offers[i];
        if (free_slot == NULL && n->snapshots.offers[i].peer == 0)
            free_slot = &n->snapshots.offers[i];
    }
    return free_slot;
}

void snapshots_wanted(struct node *n, uint64_t peer)
{
    struct snapshot_offer *o = offer_slot(n, peer);

    if (o == NULL)
        return;
    if (o->peer == 0)
        *o = (struct snapshot_offer){.peer = peer, .heard_ms = node_now(n)};
    o->wanted = true;
}

static void checkpoint_there(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    struct node *n = LIST_ITEM(m, struct node, snapshots.request);

    n->snapshots.requested = false; /* the next offer looks for it */
}

static void request_checkpoint(struct node *n)
{
    struct snapshots *s = &n->snapshots;

    if (s->requested || node_now(n) < s->request_ms)
        return;
    s->requested = true;
    s->request_ms = node_now(n) + n->config.election_ms; /* one that fails is not asked for at every turn */
    s->request = (struct node_maintain){.op = SOCKET_MAINTAIN_CHECKPOINT, .done = checkpoint_there};
    checkpoints_request(n, &s->request);
}

/* The log must go on behind the checkpoint, and the core know the term of its last entry. */
static bool is_of_use(const struct node *n, const struct checkpoint_info *info)
{
    return info->applied_index <= core_commit(n->core) &&
           (log_first_index(n->log) <= info->applied_index || core_trimmed_index(n->core) == info->applied_index);
}

/* The newest; but as long as the one is there that the member is fetching, that: another would begin at its start, and where they
 * are made faster than one is fetched, none would come to its end. */
static int choose(const struct node *n, const struct snapshot_offer *o, struct checkpoint_info *ret_info)
{
    struct checkpoint_info infos[CHECKPOINT_KEEP];
    size_t count, bad, at = 0;
    int rc = checkpoint_list(n->store_dir, infos, CHECKPOINT_KEEP, &count, &bad);

    if (rc < 0 || count == 0)
        return rc < 0 ? rc : -ENOENT;
    for (size_t i = 1; i < count && o->index != 0; i++)
        if (infos[i].applied_index == o->index && is_of_use(n, &infos[i]))
            at = i;
    *ret_info = infos[at];
    return is_of_use(n, ret_info) ? 0 : -ENOENT;
}

static void send_offer(struct node *n, struct snapshot_offer *o)
{
    struct peer_snapshot_offer m = {.term = core_term(n->core)};
    struct checkpoint_info info;

    o->wanted = false;
    o->offered_ms = node_now(n);
    if (choose(n, o, &info) < 0) {
        request_checkpoint(n);
        return;
    }
    o->index = info.applied_index;
    m.index = info.applied_index;
    m.index_term = info.applied_term;
    m.bytes = info.bytes;
    m.crc = info.crc;
    bytes_reset(&n->frame);
    peer_snapshot_offer_encode(&m, &n->frame);
    node_send(n, o->peer, PEER_SNAPSHOT_OFFER, &n->frame);
}

/* Entries behind what is being fetched stay in the log: without them the file would be of no use. */
static void pump_offers(struct node *n)
{
    uint64_t now = node_now(n), hold = 0;

    for (size_t i = 0; i < NODE_MAX_MEMBERS; i++) {
        struct snapshot_offer *o = &n->snapshots.offers[i];

        if (o->peer == 0)
            continue;
        if (!node_is_leader(n) || !core_is_member(n->core, o->peer) || now >= o->heard_ms + OFFER_SILENCE_MS ||
            (o->index != 0 && core_match_index(n->core, o->peer) >= o->index)) {
            *o = (struct snapshot_offer){0};
            continue;
        }
        if (o->wanted && now >= o->offered_ms + n->config.heartbeat_ms / 2)
            send_offer(n, o);
        if (o->index > 1 && (hold == 0 || o->index - 1 < hold))
            hold = o->index - 1; /* its own entry stays: the core goes on behind it, and asks for its term */
    }
    n->trim_hold_index = hold;
}

int snapshots_receive_reply(struct node *n, uint64_t from, struct slice payload)
{
    struct peer_snapshot_reply m;
    struct snapshot_offer *o;
    int rc = peer_snapshot_reply_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (!node_is_leader(n) || m.term != core_term(n->core))
        return 0;
    o = offer_slot(n, from);
    if (o != NULL && o->peer == from)
        o->heard_ms = node_now(n);
    if (m.code == PEER_SNAPSHOT_INSTALLED && log_term_at(n->log, m.index) != 0)
        node_core_ok(n, core_installed(n->core, node_now(n), from, m.index));
    return 0;
}

/* ---- on the follower ---- */

static void reply(struct node *n, uint64_t to, uint64_t index, uint8_t code)
{
    struct peer_snapshot_reply m = {.term = core_term(n->core), .index = index, .code = code};

    bytes_reset(&n->frame);
    peer_snapshot_reply_encode(&m, &n->frame);
    node_send(n, to, PEER_SNAPSHOT_REPLY, &n->frame);
}

/* Everything up to that entry is here, durable and the leader's. */
static bool has_entry(const struct node *n, uint64_t index, uint64_t term)
{
    return n->applied_index >= index || (log_synced_index(n->log) >= index && log_term_at(n->log, index) == term);
}

static void drop_fetch(struct node *n)
{
    struct snapshots *s = &n->snapshots;

    if (s->state == FETCH_FETCHING && n->network.fetch_end != NULL)
        n->network.fetch_end(n->network.ctx);
    if (s->path != NULL)
        unlink(s->path);
    s->state = FETCH_NONE;
}

static void begin_fetch(struct node *n, uint64_t from, const struct peer_snapshot_offer *m)
{
    struct snapshots *s = &n->snapshots;

    drop_fetch(n);
    s->offer = *m;
    s->from = from;
    s->state = FETCH_FETCHING;
    if (n->config.logger != NULL)
        log_info(n->config.logger, "fetching the checkpoint as of entry %llu from member %016llx: %llu bytes",
                 (unsigned long long)m->index, (unsigned long long)from, (unsigned long long)m->bytes);
    n->network.fetch(n->network.ctx, &(struct fetch){from, m->index, m->bytes, m->crc, s->path});
}

int snapshots_receive_offer(struct node *n, uint64_t from, struct slice payload)
{
    struct snapshots *s = &n->snapshots;
    struct peer_snapshot_offer m;
    int rc = peer_snapshot_offer_decode(payload, &m);

    if (rc < 0)
        return rc;
    if (m.term != core_term(n->core) || from != core_leader(n->core) || node_is_leader(n) || n->network.fetch == NULL)
        return 0;
    if (has_entry(n, m.index, m.index_term)) {
        reply(n, from, m.index, PEER_SNAPSHOT_INSTALLED);
        return 0;
    }
    if (s->state == FETCH_NONE ||
        (s->state == FETCH_FETCHING && (s->from != from || s->offer.index != m.index || s->offer.crc != m.crc)))
        begin_fetch(n, from, &m);
    reply(n, from, m.index, PEER_SNAPSHOT_FETCHING);
    return 0;
}

static void check_run(struct work *w)
{
    struct snapshots *s = LIST_ITEM(w, struct snapshots, work);

    s->rc = checkpoint_verify(s->path, &s->info);
}

static void install_run(struct work *w)
{
    struct snapshots *s = LIST_ITEM(w, struct snapshots, work);
    struct node *n = LIST_ITEM(s, struct node, snapshots);
    struct checkpoint_info info;
    uint64_t epoch;

    s->rc = checkpoint_adopt(n->store_dir, s->path, &info);
    if (s->rc == 0)
        s->rc = checkpoint_install(n->store_dir, info.path, n->config.data_id, &epoch);
}

static void give_up(struct node *n, const char *what)
{
    if (n->config.logger != NULL)
        log_error(n->config.logger, "the checkpoint that was fetched %s: %s; it is fetched again", what,
                  strerror(-n->snapshots.rc));
    n->snapshots.replacing = false;
    drop_fetch(n);
}

static bool fits(const struct node *n, const struct snapshots *s)
{
    return s->info.applied_index == s->offer.index && s->info.applied_term == s->offer.index_term &&
           s->info.cluster_id == n->config.data_id;
}

static void work_done(struct work *w)
{
    struct snapshots *s = LIST_ITEM(w, struct snapshots, work);
    struct node *n = LIST_ITEM(s, struct node, snapshots);

    s->out = false;
    if (n->failed)
        return;
    if (s->rc == -EIO) {
        node_fail(n, s->rc, "a checkpoint cannot be installed: the disk fails");
        return;
    }
    if (s->state == FETCH_CHECKING && (s->rc < 0 || !fits(n, s))) {
        s->rc = s->rc < 0 ? s->rc : -EUCLEAN;
        give_up(n, "is none");
    } else if (s->state == FETCH_CHECKING && has_entry(n, s->offer.index, s->offer.index_term)) {
        drop_fetch(n); /* it has come another way meanwhile */
    } else if (s->state == FETCH_CHECKING) {
        s->replacing = true; /* from here on no entry comes in: what is acknowledged behind the file would be lost with the log */
        s->state = FETCH_QUIETING;
    } else if (s->rc < 0) {
        give_up(n, "cannot be installed");
    } else {
        if (n->config.logger != NULL)
            log_info(n->config.logger, "the checkpoint as of entry %llu is installed", (unsigned long long)s->offer.index);
        if (n->callbacks.on_replaced != NULL)
            n->callbacks.on_replaced(n->callbacks.ctx);
        return;
    }
    node_advance(n);
}

static void submit(struct node *n, enum fetch_state state, void (*run)(struct work *w))
{
    struct snapshots *s = &n->snapshots;

    s->state = state;
    s->out = true;
    s->work.run = run;
    s->work.done = work_done;
    n->workers.submit(n->workers.ctx, WORK_CHECKPOINT, &s->work);
}

void node_fetched(struct node *n, int error)
{
    struct snapshots *s = &n->snapshots;

    if (n->failed || s->state != FETCH_FETCHING)
        return;
    if (error < 0) { /* it is not there any more: another is offered */
        drop_fetch(n);
        return;
    }
    s->fetched = true;
    node_want_turn(n);
}

/* ---- both ---- */

int snapshots_init(struct node *n)
{
    size_t size = strlen(n->store_dir) + sizeof "/incoming";

    n->snapshots.path = malloc(size);
    if (n->snapshots.path == NULL)
        return -ENOMEM;
    snprintf(n->snapshots.path, size, "%s/incoming", n->store_dir);
    unlink(n->snapshots.path); /* of a former life: another may be offered now */
    return 0;
}

void snapshots_fini(struct node *n)
{
    free(n->snapshots.path);
    n->snapshots.path = NULL;
}

bool snapshots_busy(const struct node *n)
{
    return n->snapshots.out || n->snapshots.replacing;
}

void snapshots_pump(struct node *n)
{
    struct snapshots *s = &n->snapshots;

    pump_offers(n);
    if (s->out || checkpoints_busy(n))
        return;
    if (s->state == FETCH_FETCHING && s->fetched) {
        s->fetched = false;
        if (n->network.fetch_end != NULL)
            n->network.fetch_end(n->network.ctx);
        submit(n, FETCH_CHECKING, check_run);
    } else if (s->state == FETCH_QUIETING && !n->apply_out && !n->flush_out) {
        submit(n, FETCH_INSTALLING, install_run);
    }
}
