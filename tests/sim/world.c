/* world.c - the event heap, and the node's tables on top of it: clock, network, workers; and what goes wrong with them. */
#include "tests/sim/world.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "raft/node_state.h"
#include "raft/peer_frame.h"

/* ---- chance ---- */

uint64_t rng_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t rng_below(uint64_t *state, uint64_t n)
{
    return n == 0 ? 0 : rng_next(state) % n;
}

bool rng_chance(uint64_t *state, unsigned per_mille)
{
    return rng_below(state, 1000) < per_mille;
}

/* ---- saying things ---- */

static void print_nodes(const struct world *w)
{
    static const char *const roles[] = {"follower", "candidate", "leader"};

    for (int i = 0; i < w->n_nodes; i++) {
        const struct sim_node *s = &w->nodes[i];
        struct core_member members[NODE_MAX_MEMBERS];
        size_t n;

        if (s->node == NULL) {
            printf("sim: node %d (%llx) is down\n", i, (unsigned long long)s->id);
            continue;
        }
        printf("sim: node %d (%llx) is %s, leader %llx, term %llu, log %llu to %llu, synced %llu, commit %llu, applied %llu;", i,
               (unsigned long long)s->id, roles[core_role(s->node->core)], (unsigned long long)core_leader(s->node->core),
               (unsigned long long)core_term(s->node->core), (unsigned long long)log_first_index(s->node->log),
               (unsigned long long)log_last_index(s->node->log), (unsigned long long)log_synced_index(s->node->log),
               (unsigned long long)core_commit(s->node->core), (unsigned long long)s->node->applied_index);
        n = core_members(s->node->core, members, NODE_MAX_MEMBERS);
        for (size_t m = 0; m < n; m++)
            printf(" %llx%s", (unsigned long long)members[m].id, members[m].voter ? "" : members[m].joining ? " (joins)" :
                   " (learns)");
        printf("\n");
    }
}

void world_violation(struct world *w, const char *format, ...)
{
    va_list args;

    printf("sim: seed %llu at %llu.%03llu ms: ", (unsigned long long)w->seed, (unsigned long long)(w->now / MS),
           (unsigned long long)(w->now % MS));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    print_nodes(w);
    printf("sim: FAILED; replay with: make sim SEED=%llu\n", (unsigned long long)w->seed);
    fflush(stdout);
    exit(1);
}

void world_note(struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->verbose)
        return;
    printf("%9llu.%03llu ", (unsigned long long)(w->now / MS), (unsigned long long)(w->now % MS));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static void trace(struct world *w, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        w->trace = (w->trace ^ p[i]) * 0x100000001B3u;
}

/* ---- the heap ---- */

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct world *w, struct sim_event e)
{
    size_t i = w->n_events++;

    e.order = w->order++;
    if (w->n_events > w->cap_events) {
        w->cap_events = w->cap_events == 0 ? 1024 : w->cap_events * 2;
        w->heap = realloc(w->heap, w->cap_events * sizeof *w->heap);
        if (w->heap == NULL)
            abort();
    }
    while (i > 0 && earlier(&e, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

static struct sim_event pop(struct world *w)
{
    struct sim_event top = w->heap[0], last = w->heap[--w->n_events];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= w->n_events)
            break;
        if (child + 1 < w->n_events && earlier(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!earlier(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

void world_at(struct world *w, uint64_t delay, int kind, int node, uint64_t number)
{
    push(w, (struct sim_event){.at = w->now + delay, .kind = kind, .node = node, .number = number});
}

/* ---- clock ---- */

static uint64_t clock_now(void *ctx)
{
    const struct sim_node *s = ctx;

    return (s->world->now + s->clock_ahead) / MS;
}

static int64_t clock_wall(void *ctx)
{
    const struct sim_node *s = ctx;

    return (int64_t)(1700000000000000000ll + (int64_t)s->world->now * 1000 + s->index * 1000000) + s->wall_off_ns;
}

static uint64_t clock_random(void *ctx)
{
    const struct sim_node *s = ctx;

    return rng_next(&s->world->rng);
}

static void clock_set_timer(void *ctx, uint64_t at_ms)
{
    struct sim_node *s = ctx;
    uint64_t at = at_ms > UINT64_MAX / MS ? UINT64_MAX / 2 : at_ms * MS;

    at = at > s->clock_ahead ? at - s->clock_ahead : 0;
    s->timer_number++;
    push(s->world, (struct sim_event){.at = at > s->world->now ? at : s->world->now,
                                  .kind = SIM_TIMER,
                                  .node = s->index,
                                  .life = s->life,
                                  .number = s->timer_number});
}

/* ---- network ---- */

static void deliver(struct world *w, int from, int to, uint8_t type, struct slice payload)
{
    uint64_t delay = w->faults.latency / 2 + rng_below(&w->rng, w->faults.latency + 1);
    struct sim_event e = {.kind = SIM_FRAME, .node = to, .from = from, .number = w->nodes[from].id, .type = type,
                          .len = payload.len, .life = w->nodes[to].id};

    if (rng_chance(&w->rng, w->faults.reorder))
        delay += rng_below(&w->rng, 40 * MS);
    e.at = w->now + delay;
    e.data = malloc(payload.len + 1);
    if (payload.len > 0)
        memcpy(e.data, payload.data, payload.len);
    push(w, e);
}

/* A program of the first protocol hangs up at a byte that it does not know. */
static void check_protocol(struct world *w, int from, int to, uint8_t type, struct slice payload)
{
    struct peer_message m = {0};
    struct arena a;

    if (w->nodes[to].protocol >= PEER_PROTOCOL_ROUNDS || (type != PEER_APPEND && type != PEER_APPEND_RESULT))
        return;
    arena_init(&a);
    if (peer_message_decode(type, payload, &a, &m) == 0 &&
        (type == PEER_APPEND ? m.append.round : m.append_result.round) != 0)
        world_violation(w, "node %d sends node %d a frame of type %u with what that does not know", from, to, type);
    arena_fini(&a);
}

static void network_send(void *ctx, uint64_t to, uint8_t type, struct slice payload)
{
    struct sim_node *s = ctx;
    struct world *w = s->world;
    int target = -1;

    for (int i = 0; i < w->n_nodes; i++)
        if (w->nodes[i].id == to)
            target = i;
    w->stats.messages++;
    if (target == s->index)
        world_violation(w, "node %d sends a frame to itself", s->index);
    if (target < 0) { /* it is gone */
        w->stats.lost++;
        return;
    }
    check_protocol(w, s->index, target, type, payload);
    if (w->cut[s->index][target] || rng_chance(&w->rng, w->faults.loss)) {
        w->stats.lost++;
        return;
    }
    deliver(w, s->index, target, type, payload);
    if (rng_chance(&w->rng, w->faults.duplicate)) {
        w->stats.duplicated++;
        deliver(w, s->index, target, type, payload);
    }
}

static unsigned network_protocol(void *ctx, uint64_t to)
{
    const struct sim_node *s = ctx;

    for (int i = 0; i < s->world->n_nodes; i++)
        if (s->world->nodes[i].id == to)
            return s->protocol < s->world->nodes[i].protocol ? s->protocol : s->world->nodes[i].protocol;
    return 0;
}

static void network_set_peers(void *ctx, const uint64_t *ids, const char *const *urls, size_t n)
{
    struct sim_node *s = ctx;
    struct world *w = s->world;

    if (!w->members_change && n + 1 != (size_t)w->n_first)
        world_violation(w, "node %d wants %zu peers", s->index, n);
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < w->n_nodes; k++)
            if (w->nodes[k].id == ids[i])
                world_at(w, MS, SIM_CONNECT, s->index, (uint64_t)k);
}

static void network_push_out(void *ctx)
{
    /* everything is on its way at once */
}

/* A part of the file at a time, from whoever has it, as long as he can be reached. */
static void network_fetch(void *ctx, const struct fetch *f)
{
    struct sim_node *s = ctx;

    s->fetch.number = ++s->world->order;
    s->fetch.from = f->from;
    s->fetch.index = f->index;
    s->fetch.bytes = f->bytes;
    snprintf(s->fetch.path, sizeof s->fetch.path, "%s", f->path);
    world_at(s->world, 5 * MS, SIM_FETCH, s->index, s->fetch.number);
}

static void network_fetch_end(void *ctx)
{
    ((struct sim_node *)ctx)->fetch.number = 0;
}

/* 1: all is there; 0: not yet; -ENOENT. */
static int copy_part(const char *from, const char *to, uint64_t bytes, size_t part)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "ab");
    char *buffer = malloc(part);
    uint64_t at;
    size_t n = 0;
    int rc = -ENOENT;

    if (in != NULL && out != NULL) {
        fseek(out, 0, SEEK_END);
        at = (uint64_t)ftell(out);
        if (fseek(in, (long)at, SEEK_SET) == 0)
            n = fread(buffer, 1, part, in);
        rc = fwrite(buffer, 1, n, out) == n && at + n >= bytes ? 1 : 0;
    }
    if (in != NULL)
        fclose(in);
    if (out != NULL)
        fclose(out);
    free(buffer);
    return rc;
}

static void fetch_part(struct world *w, struct sim_node *s, uint64_t number)
{
    struct sim_node *peer = NULL;
    char path[256];
    int rc;

    if (s->node == NULL || s->fetch.number != number || number == 0)
        return;
    for (int i = 0; i < w->n_nodes; i++)
        if (w->nodes[i].id == s->fetch.from && w->nodes[i].node != NULL)
            peer = &w->nodes[i];
    if (peer == NULL || w->cut[s->index][peer->index] || w->cut[peer->index][s->index] || peer->paused_until > w->now) {
        world_at(w, 200 * MS, SIM_FETCH, s->index, number);
        return;
    }
    snprintf(path, sizeof path, "%s/checkpoint-%016llx", peer->dir, (unsigned long long)s->fetch.index);
    rc = copy_part(path, s->fetch.path, s->fetch.bytes, 16384 + (size_t)rng_below(&w->rng, 262144));
    if (rc == 0) {
        world_at(w, 1 + rng_below(&w->rng, 20 * MS), SIM_FETCH, s->index, number);
        return;
    }
    w->stats.fetched += rc == 1;
    node_fetched(s->node, rc == 1 ? 0 : rc);
    check_node(w, s);
}

/* ---- workers ---- */

static void workers_submit(void *ctx, enum work_queue queue, struct work *work)
{
    struct sim_node *s = ctx;
    struct world *w = s->world;
    uint64_t delay = queue == WORK_LOG ? s->disk_latency / 2 + rng_below(&w->rng, s->disk_latency + 1) :
                                         100 + rng_below(&w->rng, queue == WORK_APPLY ? 2 * MS : 60 * MS);

    if (s->busy[queue]++ > 0)
        world_violation(w, "node %d has two work items in one queue", s->index);
    s->pending[queue] = work;
    push(w, (struct sim_event){
                .at = w->now + delay, .kind = SIM_RUN, .node = s->index, .life = s->life, .work = work, .queue = queue});
}

static bool workers_idle(void *ctx, enum work_queue queue)
{
    struct sim_node *s = ctx;

    /* Sometimes not, so that both ways are gone. */
    return s->busy[queue] == 0 && rng_chance(&s->world->rng, 500);
}

/* ---- nodes ---- */

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct sim_node *s = ctx;

    if (epoch < s->epoch_told || revision < s->revision_told ||
        (revision == s->revision_told && epoch == s->epoch_told))
        world_violation(s->world, "node %d tells revision %lld after %lld", s->index, (long long)revision,
                        (long long)s->revision_told);
    s->revision_told = revision;
    s->epoch_told = epoch;
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct sim_node *s = ctx;

    s->leader_seen = leader;
    if (leader == s->id && s->world->members_change && rng_chance(&s->world->rng, 500))
        world_at(s->world, 1, SIM_GREET, s->index, s->life);
    world_note(s->world, "node %d: leader %llx of term %llu", s->index, (unsigned long long)leader,
               (unsigned long long)term);
}

static void on_fatal(void *ctx, int error, const char *text)
{
    struct sim_node *s = ctx;

    if (s->crash_wanted) /* its disk died: as ordered */
        return;
    world_violation(s->world, "node %d stops: %s (%s)", s->index, text, strerror(-error));
}

static void on_removed(void *ctx, const char *text)
{
    struct sim_node *s = ctx;

    world_note(s->world, "node %d: %s", s->index, text);
    operator_removed(s->world, s);
}

/* A checkpoint of the leader took the place of what it had: its process begins again. */
static void on_replaced(void *ctx)
{
    struct sim_node *s = ctx;

    world_note(s->world, "node %d: replaced by a checkpoint", s->index);
    s->world->stats.replaced++;
    world_at(s->world, MS, SIM_REPLACED, s->index, s->life);
}

struct sim_node *world_first_member(struct world *w)
{
    for (int i = 0; i < w->n_nodes; i++)
        if (w->nodes[i].member)
            return &w->nodes[i];
    world_violation(w, "there is no member left");
}

void world_start_node(struct world *w, int i)
{
    struct sim_node *s = &w->nodes[i];
    struct node_member members[WORLD_MAX_NODES];
    char text[512];
    struct node_config config = {
        .id = s->id, .cluster_id = 42, .name = "sim", .members = members,
        .n_members = s->joined ? 0 : (size_t)w->n_first, .joined = s->joined, .instance = s->instance,
        .lax_reconfig = w->lax_reconfig, .max_learners = 2,
        .heartbeat_ms = 50, .election_ms = 500, .proposal_timeout_ms = 3000, .store_dir = s->dir,
        .store_flags = STORE_NOSYNC, .store_map_bytes = (size_t)256 << 20, .log_segment_bytes = w->segment_bytes,
        .log_cache_bytes = 32 * 1024, .append_piece_bytes = w->append_piece_bytes, .lease_note_ms = 1500,
        .checkpoint_entries = w->checkpoint_entries, .catchup_entries = w->catchup_entries};
    struct clock clock = {s, clock_now, clock_wall, clock_random, clock_set_timer};
    struct network network = {s, network_send, network_set_peers, network_push_out, NULL, network_fetch, network_fetch_end, NULL,
                              network_protocol};
    struct workers workers = {s, workers_submit, workers_idle};
    struct node_callbacks callbacks = {.ctx = s,
                                       .on_revision = on_revision,
                                       .on_leader = on_leader,
                                       .on_fatal = on_fatal,
                                       .on_removed = on_removed,
                                       .on_replaced = on_replaced};
    struct disk disk = sim_disk_table(s->disk);
    int rc;

    if (s->node != NULL || s->id == 0)
        return;
    for (int m = 0; m < w->n_first; m++)
        members[m] = (struct node_member){.id = w->first[m].id, .name = "sim", .peer_url = w->first[m].url, .voter = true};
    s->life++;
    s->fetch.number = 0;
    s->crash_wanted = false;
    s->revision_told = 0;
    s->epoch_told = 0;
    s->paused_until = 0;
    memset(s->busy, 0, sizeof s->busy);
    memset(s->pending, 0, sizeof s->pending);
    if (w->faults.dying_starts && rng_chance(&w->rng, 200)) {
        sim_disk_die_after(s->disk, 1 + (unsigned)rng_below(&w->rng, 12)); /* it stops in the middle of recovery */
        s->crash_wanted = true;
    }
    rc = node_open(&config, &disk, &clock, &network, &workers, &callbacks, &s->node, text, sizeof text);
    if ((rc < 0 && s->crash_wanted) || rc == -ENOSPC) {
        w->stats.dead_starts++;
        sim_disk_crash(s->disk);
        sim_disk_set_full(s->disk, false);
        world_at(w, rng_below(&w->rng, 1 * SECOND), SIM_START, i, 0);
        return;
    }
    if (rc < 0)
        world_violation(w, "node %d does not start: %s (%s)", i, text, strerror(-rc));
    sim_disk_die_after(s->disk, 0); /* it did not come to that */
    s->crash_wanted = false;
    world_note(w, "node %d: starts (life %llu)", i, (unsigned long long)s->life);
    rc = node_start(s->node);
    if (rc < 0)
        world_violation(w, "node %d does not start: %s", i, strerror(-rc));
    for (int m = 0; m < w->n_nodes; m++) {
        if (m == i || w->nodes[m].node == NULL)
            continue;
        node_peer_runs(s->node, w->nodes[m].id, APPLY_VERSION);
        node_peer_runs(w->nodes[m].node, s->id, APPLY_VERSION);
        node_peer_connected(s->node, w->nodes[m].id);
        node_peer_connected(w->nodes[m].node, s->id);
    }
    check_node(w, s);
}

void world_remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    char child[512];

    if (dir == NULL) {
        unlink(path);
        return;
    }
    while ((e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        world_remove_tree(child);
    }
    closedir(dir);
    rmdir(path);
}

/* What was never synced; checkpoints and the name of the environment were. */
static void lose_store(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    char child[512];

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (strncmp(e->d_name, "env.", 4) != 0)
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        world_remove_tree(child);
    }
    if (dir != NULL)
        closedir(dir);
}

/* The machine stops. A flush that is under way may have done a part of its work. */
void world_crash_node(struct world *w, int i)
{
    struct sim_node *s = &w->nodes[i];

    if (s->node == NULL)
        return;
    w->stats.crashes++;
    s->crash_wanted = true;
    world_note(w, "node %d: crashes", i);
    if (s->pending[WORK_LOG] != NULL && rng_chance(&w->rng, 700)) {
        sim_disk_die_after(s->disk, 1 + (unsigned)rng_below(&w->rng, 6));
        s->pending[WORK_LOG]->run(s->pending[WORK_LOG]);
    }
    node_close(s->node);
    s->node = NULL;
    sim_disk_crash(s->disk);
    if (w->faults.stores_lost && rng_chance(&w->rng, 300)) {
        /* The store's batches are not synced: behind a crash of the machine it is made anew from a checkpoint and the
         * log. */
        w->stats.stores_lost++;
        world_note(w, "node %d: loses its store", i);
        lose_store(s->dir);
        check_store_lost(w, i);
    }
    for (int m = 0; m < w->n_nodes; m++)
        if (w->nodes[m].node != NULL)
            node_peer_disconnected(w->nodes[m].node, s->id);
}

void world_pause_node(struct world *w, int i, uint64_t until, bool in_order)
{
    w->nodes[i].paused_until = until;
    w->nodes[i].in_order = in_order;
    w->stats.pauses++;
    world_note(w, "node %d: stands still until %llu ms", i, (unsigned long long)(until / MS));
}

/* It is needed no more. */
void world_stop_node(struct world *w, int i)
{
    struct sim_node *s = &w->nodes[i];

    if (s->node == NULL)
        return;
    s->crash_wanted = true;
    node_close(s->node);
    s->node = NULL;
    for (int m = 0; m < w->n_nodes; m++)
        if (w->nodes[m].node != NULL)
            node_peer_disconnected(w->nodes[m].node, s->id);
}

void world_make_dir(const char *path)
{
    mkdir(path, 0700);
}

void world_heal(struct world *w)
{
    w->ending = true;
    w->faults = (struct faults){.latency = 1 * MS};
    memset(w->cut, 0, sizeof w->cut);
    for (int i = 0; i < w->n_nodes; i++) {
        w->nodes[i].disk_latency = 1 * MS;
        w->nodes[i].paused_until = 0;
        sim_disk_set_full(w->nodes[i].disk, false);
        if (w->nodes[i].crash_wanted)
            world_crash_node(w, i);
        world_start_node(w, i);
    }
}

/* ---- faults ---- */

static void make_partition(struct world *w)
{
    uint64_t side = rng_below(&w->rng, 1u << w->n_nodes);
    bool one_way = rng_chance(&w->rng, 200);

    w->stats.partitions++;
    for (int i = 0; i < w->n_nodes; i++)
        for (int j = 0; j < w->n_nodes; j++)
            w->cut[i][j] = i != j && (side >> i & 1) != (side >> j & 1) && !(one_way && (side >> i & 1) != 0);
    world_note(w, "partition %llx%s", (unsigned long long)side, one_way ? ", one way" : "");
}

/* On and off, several times a second. */
static void flap(struct world *w)
{
    if (w->ending || w->flaps_left == 0) {
        w->flaps_left = 0;
        return;
    }
    if (w->flaps_left-- % 2 == 1)
        memset(w->cut, 0, sizeof w->cut);
    else
        memcpy(w->cut, w->flapping, sizeof w->cut);
    world_at(w, 10 * MS + rng_below(&w->rng, 300 * MS), SIM_FLAP, 0, 0);
}

/* The clocks of a machine that was suspended, or set: the monotonic one forwards only. */
static void jump_clock(struct world *w, struct sim_node *s)
{
    w->stats.clock_jumps++;
    if (rng_chance(&w->rng, 500))
        s->clock_ahead += 500 * MS + rng_below(&w->rng, 10 * SECOND);
    s->wall_off_ns = (int64_t)rng_below(&w->rng, 7200u * 1000000000ull) - 3600ll * 1000000000;
    world_note(w, "node %d: clock jumps", s->index);
}

/* Within moments a write or sync of its log fails, and the machine with it. */
static void dying_disk(struct world *w, struct sim_node *s)
{
    w->stats.dying_disks++;
    s->crash_wanted = true;
    sim_disk_die_after(s->disk, 1 + (unsigned)rng_below(&w->rng, 20));
    world_at(w, rng_below(&w->rng, 500 * MS), SIM_STOP, s->index, s->life);
}

static void on_maintained(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    free(m);
}

static void maintain(struct world *w, struct sim_node *s)
{
    struct node_maintain *m = calloc(1, sizeof *m);

    m->op = rng_chance(&w->rng, 500) ? SOCKET_MAINTAIN_CHECKPOINT : SOCKET_MAINTAIN_DEFRAGMENT;
    m->done = on_maintained;
    w->stats.defragmentations += m->op == SOCKET_MAINTAIN_DEFRAGMENT;
    w->stats.checkpoints += m->op == SOCKET_MAINTAIN_CHECKPOINT;
    world_note(w, "node %d: %s", s->index, m->op == SOCKET_MAINTAIN_DEFRAGMENT ? "defragments" : "checkpoint");
    node_maintain(s->node, m);
}

static void one_more_fault(struct world *w, struct sim_node *s)
{
    switch (rng_below(&w->rng, 4)) {
    case 3:
        if (w->faults.upkeep && s->node != NULL && !s->crash_wanted)
            maintain(w, s);
        break;
    case 0:
        if (!w->faults.flaps || w->n_nodes == 1)
            break;
        w->stats.flaps++;
        memcpy(w->flapping, w->cut, sizeof w->cut);
        w->flaps_left = 2 + (unsigned)rng_below(&w->rng, 20);
        flap(w);
        break;
    case 1:
        if (w->faults.clock_jumps)
            jump_clock(w, s);
        break;
    case 2:
        if (w->faults.dying_disks && s->node != NULL && !s->crash_wanted)
            dying_disk(w, s);
        break;
    }
}

static void one_fault(struct world *w)
{
    int i = (int)rng_below(&w->rng, (uint64_t)w->n_nodes);
    struct sim_node *s = &w->nodes[i];

    if (rng_chance(&w->rng, 250)) {
        one_more_fault(w, s);
        return;
    }
    switch (rng_below(&w->rng, 7)) {
    case 0:
        if (!w->faults.crashes || s->node == NULL)
            break;
        world_crash_node(w, i);
        world_at(w, rng_below(&w->rng, 3 * SECOND), SIM_START, i, 0);
        break;
    case 1:
        if (w->faults.partitions && w->n_nodes > 1)
            make_partition(w);
        break;
    case 2:
        memset(w->cut, 0, sizeof w->cut);
        break;
    case 3:
        if (w->faults.slow_disks)
            s->disk_latency = rng_chance(&w->rng, 300) ? 200 * MS : 200 + rng_below(&w->rng, 10 * MS);
        break;
    case 4:
        if (w->faults.transfers && s->node != NULL) {
            w->stats.transfers++;
            node_transfer(s->node);
            check_node(w, s);
        }
        break;
    case 6:
        if (!w->faults.full_disks)
            break;
        s->full = !s->full;
        w->stats.full_disks += s->full;
        sim_disk_set_full(s->disk, s->full);
        world_note(w, "node %d: disk %s", i, s->full ? "full" : "has room");
        break;
    case 5:
        if (!w->faults.pauses || s->node == NULL)
            break;
        world_pause_node(w, i, w->now + rng_below(&w->rng, 3 * SECOND), rng_chance(&w->rng, 500));
        break;
    }
}

/* ---- running ---- */

static void run_work(struct world *w, struct sim_node *s, const struct sim_event *e)
{
    s->pending[e->queue] = NULL;
    s->running[e->queue] = e->work;
    e->work->run(e->work);
    push(w, (struct sim_event){.at = w->now + rng_below(&w->rng, 300), .kind = SIM_DONE, .node = s->index, .life = s->life,
                           .work = e->work, .queue = e->queue});
}

static void frame_arrives(struct world *w, struct sim_node *s, const struct sim_event *e)
{
    char text[256];
    int rc;

    if (getenv("SIM_FRAMES") != NULL) {
        struct arena a;
        struct peer_message m = {0};

        arena_init(&a);
        if (peer_message_decode(e->type, slice_make(e->data, e->len), &a, &m) == 0 && m.type == PEER_APPEND)
            world_note(w, "%d -> %d append term %llu prev %llu n %zu commit %llu", e->from, s->index, (unsigned long long)m.append.term, (unsigned long long)m.append.prev_index, m.append.n_entries, (unsigned long long)m.append.commit);
        else if (m.type == PEER_APPEND_RESULT)
            world_note(w, "%d -> %d result term %llu rejected %llu last %llu", e->from, s->index, (unsigned long long)m.append_result.term, (unsigned long long)m.append_result.rejected, (unsigned long long)m.append_result.last_index);
        arena_fini(&a);
    }
    /* The transport lets nobody in who was removed, and tells him so. */
    if (node_admits(s->node, e->number, w->nodes[e->from].instance, text, sizeof text) == NODE_REMOVED) {
        if (w->nodes[e->from].id == e->number && w->nodes[e->from].node != NULL)
            node_peer_refused(w->nodes[e->from].node, s->id, NODE_REMOVED, text);
        return;
    }
    rc = node_receive(s->node, e->number, e->type, slice_make(e->data, e->len));

    if (rc < 0)
        world_violation(w, "node %d refuses a frame of type %u from node %d: %s", s->index, e->type, e->from,
                        strerror(-rc));
}

static void handle(struct world *w, const struct sim_event *e)
{
    struct sim_node *s = &w->nodes[e->node];
    bool current = s->node != NULL && e->life == s->life;

    if (e->kind <= SIM_DONE && s->paused_until > w->now) { /* its whole process is stopped: all that comes waits */
        struct sim_event later = *e;

        later.at = s->paused_until + (s->in_order ? 0 : rng_below(&w->rng, MS));
        if (e->data != NULL) {
            later.data = malloc(e->len + 1);
            memcpy(later.data, e->data, e->len);
        }
        push(w, later);
        return;
    }
    switch (e->kind) {
    case SIM_TIMER:
        if (current && e->number == s->timer_number)
            node_timer(s->node);
        break;
    case SIM_FRAME:
        if (s->node != NULL && e->life == s->id)
            frame_arrives(w, s, e);
        break;
    case SIM_RUN:
        if (current)
            run_work(w, s, e);
        break;
    case SIM_DONE:
        if (current) {
            s->busy[e->queue]--;
            s->running[e->queue] = NULL;
            e->work->done(e->work);
        }
        break;
    case SIM_FAULT:
        if (w->ending)
            return;
        one_fault(w);
        world_at(w, 50 * MS + rng_below(&w->rng, 800 * MS), SIM_FAULT, 0, 0);
        return;
    case SIM_CLIENT:
        clients_event(w, e->number);
        return;
    case SIM_HOLDER:
        holders_event(w, e->number);
        return;
    case SIM_FLAP:
        flap(w);
        return;
    case SIM_MEMBERS:
        operator_event(w);
        return;
    case SIM_GREET:
        if (s->node != NULL && s->life == e->number)
            operator_greets(w, s);
        return;
    case SIM_GONE:
        operator_gone(w, s, e->number);
        return;
    case SIM_FETCH:
        fetch_part(w, s, e->number);
        return;
    case SIM_REPLACED:
        if (s->node != NULL && s->life == e->number && !s->crash_wanted) { /* else its disk dies, and that ends it */
            world_stop_node(w, e->node);
            world_start_node(w, e->node);
        }
        return;
    case SIM_CONNECT:
        if (s->node != NULL && w->nodes[e->number].node != NULL)
            node_peer_connected(s->node, w->nodes[e->number].id);
        return;
    case SIM_STOP:
        if (s->node != NULL && s->life == e->number) {
            world_crash_node(w, e->node);
            world_at(w, rng_below(&w->rng, 2 * SECOND), SIM_START, e->node, 0);
        }
        return;
    case SIM_START:
        world_start_node(w, e->node);
        break;
    }
    if (s->node != NULL)
        check_node(w, s);
}

void world_run(struct world *w, uint64_t until)
{
    while (w->n_events > 0 && w->heap[0].at <= until) {
        struct sim_event e = pop(w);
        uint64_t mark[4];

        w->now = e.at;
        mark[0] = e.at;
        mark[1] = (uint64_t)e.kind << 32 | (uint64_t)e.node << 16 | e.type;
        mark[2] = e.number;
        /* A checkpoint file's checksum is of its environment's number as well, and that is not of our dice. */
        mark[3] = e.data != NULL && e.type != PEER_SNAPSHOT_OFFER && e.type != PEER_SNAPSHOT_REPLY ?
                      crc32c(0, e.data, e.len) : 0;
        trace(w, mark, sizeof mark);
        handle(w, &e);
        free(e.data);
        if (++w->stats.events % 1024 == 0)
            check_logs(w);
    }
    w->now = until;
}

void world_step(struct world *w, uint64_t until)
{
    world_run(w, w->n_events > 0 && w->heap[0].at < until ? w->heap[0].at : until);
}

/* What may happen in this world, and how often. */
static void throw_dice(struct world *w)
{
    w->n_first = w->n_nodes = rng_chance(&w->rng, 100) ? 1 : rng_chance(&w->rng, 150) ? 5 : 3;
    w->faults.latency = 200 + rng_below(&w->rng, 10 * MS);
    w->faults.loss = rng_chance(&w->rng, 600) ? (unsigned)rng_below(&w->rng, 150) : 0;
    w->faults.duplicate = rng_chance(&w->rng, 600) ? (unsigned)rng_below(&w->rng, 100) : 0;
    w->faults.reorder = rng_chance(&w->rng, 600) ? (unsigned)rng_below(&w->rng, 200) : 0;
    w->faults.crashes = rng_chance(&w->rng, 800);
    w->faults.partitions = rng_chance(&w->rng, 700);
    w->faults.slow_disks = rng_chance(&w->rng, 600);
    w->faults.full_disks = rng_chance(&w->rng, 300);
    w->faults.dying_starts = rng_chance(&w->rng, 500);
    w->faults.stores_lost = rng_chance(&w->rng, 500);
    w->faults.pauses = rng_chance(&w->rng, 500);
    w->faults.transfers = rng_chance(&w->rng, 500);
    w->faults.flaps = rng_chance(&w->rng, 500);
    w->faults.clock_jumps = rng_chance(&w->rng, 300);
    w->faults.dying_disks = rng_chance(&w->rng, 500);
    w->faults.upkeep = rng_chance(&w->rng, 500);
    w->checkpoint_entries = rng_chance(&w->rng, 500) ? 50 + rng_below(&w->rng, 500) : 0;
    w->members_change = w->faults.members = rng_chance(&w->rng, 400);
    w->lax_reconfig = rng_chance(&w->rng, 700);
    if (w->members_change && rng_chance(&w->rng, 400))
        w->n_first = w->n_nodes = 4; /* an even number: two quorums meet in one member alone */
    if (w->members_change)
        w->n_nodes += 2;
    w->catchup_entries = rng_chance(&w->rng, 700) ? rng_below(&w->rng, 300) : 100000;
    w->padding = rng_chance(&w->rng, 600) ? 0 : rng_chance(&w->rng, 900) ? 3000 : 60000;
    w->old_programs = rng_chance(&w->rng, 300);
    /* Rarely and not too small: pieces of one message may overtake each other here, which a connection does not let them. */
    w->append_piece_bytes = rng_chance(&w->rng, 100) ? 10000 + rng_below(&w->rng, 20000) : 0;
    w->quick_disks = rng_chance(&w->rng, 400);
    w->segment_bytes = w->padding <= 3000 && rng_chance(&w->rng, 500) ? 64 * 1024 : 5 * 1024 * 1024;
}

struct world *world_new(uint64_t seed, const char *dir, bool verbose, enum world_plot plot)
{
    struct world *w = calloc(1, sizeof *w);

    w->seed = seed;
    w->rng = seed * 0x2545F4914F6CDD1Du + 1;
    w->trace = 0xCBF29CE484222325u;
    w->verbose = verbose;
    snprintf(w->dir, sizeof w->dir, "%s", dir);
    w->plot = plot;
    if (plot == PLOT_DUEL)
        duel_world(w);
    else if (plot == PLOT_STANDSTILL)
        standstill_world(w);
    else
        throw_dice(w);
    w->checker = checker_new();
    for (int i = 0; i < w->n_nodes; i++) {
        struct sim_node *s = &w->nodes[i];

        s->world = w;
        s->index = i;
        s->instance = rng_next(&w->rng);
        s->protocol = w->old_programs && rng_chance(&w->rng, 500) ? PEER_PROTOCOL_MIN : PEER_PROTOCOL;
        if (i < w->n_first) {
            s->id = w->first[i].id = 0x100u + (uint64_t)i;
            snprintf(s->url, sizeof s->url, "http://sim:%d", 100 + i);
            snprintf(w->first[i].url, sizeof w->first[i].url, "%s", s->url);
            s->member = true;
        }
        s->disk = sim_disk_new(&w->rng);
        s->disk_latency = w->quick_disks ? 50 + rng_below(&w->rng, MS) : 200 + rng_below(&w->rng, 5 * MS);
        snprintf(s->dir, sizeof s->dir, "%.90s/node%d", dir, i);
        mkdir(s->dir, 0700);
    }
    w->clients = clients_new(w);
    w->holders = holders_new(w);
    w->operator = operator_new(w);
    for (int i = 0; i < w->n_first; i++)
        world_at(w, rng_below(&w->rng, 100 * MS), SIM_START, i, 0);
    if (plot == PLOT_CHANCE)
        world_at(w, 2 * SECOND, SIM_FAULT, 0, 0);
    return w;
}

void world_free(struct world *w)
{
    for (int i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i].node != NULL)
            node_close(w->nodes[i].node);
        sim_disk_free(w->nodes[i].disk);
    }
    for (size_t i = 0; i < w->n_events; i++)
        free(w->heap[i].data);
    clients_free(w->clients);
    holders_free(w->holders);
    operator_free(w->operator);
    checker_free(w->checker);
    free(w->heap);
    free(w);
}
