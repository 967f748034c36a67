/* check.c - what must hold at every moment, and what must hold at the end. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "raft/node_state.h"

struct acknowledged {
    char key[32], value[48];
    int64_t revision;
};

struct swapped { /* a put that was to happen only if the key was still of revision from */
    char key[32];
    int64_t from, at;
};

struct committed {
    uint64_t term;
    uint32_t crc;
    bool known;
};

struct checker {
    uint64_t *leaders; /* by term */
    size_t n_leaders;
    struct committed *log;
    size_t log_cap;
    uint64_t life[WORLD_MAX_NODES], commit[WORLD_MAX_NODES], checked[WORLD_MAX_NODES], applied[WORLD_MAX_NODES];
    struct acknowledged *acks;
    size_t n_acks, cap_acks;
    char (*refused)[48];
    size_t n_refused, cap_refused;
    struct swapped *swaps;
    size_t n_swaps, cap_swaps;
    int64_t newest;
};

struct checker *checker_new(void)
{
    return calloc(1, sizeof(struct checker));
}

void checker_free(struct checker *c)
{
    free(c->leaders);
    free(c->log);
    free(c->acks);
    free(c->refused);
    free(c->swaps);
    free(c);
}

static void *grow(void *p, size_t *cap, size_t want, size_t size)
{
    size_t old = *cap;

    if (want <= old)
        return p;
    *cap = old == 0 ? 256 : old;
    while (*cap < want)
        *cap *= 2;
    p = realloc(p, *cap * size);
    if (p == NULL)
        abort();
    memset((char *)p + old * size, 0, (*cap - old) * size);
    return p;
}

/* ---- at every moment ---- */

static void check_leader(struct world *w, struct sim_node *s)
{
    struct checker *c = w->checker;
    uint64_t term;

    if (core_role(s->node->core) != CORE_LEADER)
        return;
    term = core_term(s->node->core);
    c->leaders = grow(c->leaders, &c->n_leaders, term + 1, sizeof *c->leaders);
    if (c->leaders[term] == 0) {
        c->leaders[term] = s->id;
        w->stats.elections++;
    }
    if (c->leaders[term] != s->id)
        world_violation(w, "two leaders in term %llu: %llx and %llx", (unsigned long long)term,
                        (unsigned long long)c->leaders[term], (unsigned long long)s->id);
}

static void check_entry(struct world *w, struct sim_node *s, uint64_t index)
{
    struct checker *c = w->checker;
    struct arena arena;
    struct log_entry e;
    uint32_t crc;

    arena_init(&arena);
    if (log_get(s->node->log, index, &arena, &e) < 0)
        world_violation(w, "node %d has committed entry %llu and not got it", s->index, (unsigned long long)index);
    crc = crc32c(e.type, e.payload.data, e.payload.len);
    c->log = grow(c->log, &c->log_cap, index + 1, sizeof *c->log);
    if (c->log[index].known && (c->log[index].term != e.term || c->log[index].crc != crc))
        world_violation(w, "two different entries are committed at %llu: terms %llu and %llu (node %d)",
                        (unsigned long long)index, (unsigned long long)c->log[index].term, (unsigned long long)e.term,
                        s->index);
    c->log[index] = (struct committed){e.term, crc, true};
    arena_fini(&arena);
}

void check_node(struct world *w, struct sim_node *s)
{
    struct checker *c = w->checker;
    uint64_t commit = core_commit(s->node->core);
    int i = s->index;

    if (s->node->failed) /* its disk died in this very event: its core may be ahead of its log, and says nothing any more */
        return;
    if (c->life[i] != s->life) {
        c->life[i] = s->life;
        c->commit[i] = c->checked[i] = 0;
        if (s->node->applied_index < c->applied[i])
            world_violation(w, "node %d had applied %llu before its restart, and now %llu", i,
                            (unsigned long long)c->applied[i], (unsigned long long)s->node->applied_index);
    }
    check_leader(w, s);
    if (commit < c->commit[i])
        world_violation(w, "commit of node %d goes back from %llu to %llu", i, (unsigned long long)c->commit[i],
                        (unsigned long long)commit);
    c->commit[i] = commit;
    if (c->checked[i] + 1 < log_first_index(s->node->log))
        c->checked[i] = log_first_index(s->node->log) - 1;
    while (c->checked[i] < commit)
        check_entry(w, s, ++c->checked[i]);
    if (s->node->applied_index > commit && s->node->applied_index > c->applied[i])
        world_violation(w, "node %d applies %llu beyond its commit %llu", i, (unsigned long long)s->node->applied_index,
                        (unsigned long long)commit);
    if (s->node->applied_index > log_synced_index(s->node->log))
        world_violation(w, "node %d has applied %llu, its log is durable up to %llu", i,
                        (unsigned long long)s->node->applied_index, (unsigned long long)log_synced_index(s->node->log));
    c->applied[i] = s->node->applied_index;
}

void check_store_lost(struct world *w, int node)
{
    w->checker->applied[node] = 0;
}

/* If two logs hold an entry of the same index and term, they are equal up to there. */
void check_logs(struct world *w)
{
    for (int a = 0; a < w->n_nodes; a++) {
        for (int b = a + 1; b < w->n_nodes; b++) {
            struct log *x, *y;
            uint64_t i, first;
            bool same = false;

            if (w->nodes[a].node == NULL || w->nodes[b].node == NULL)
                continue;
            x = w->nodes[a].node->log;
            y = w->nodes[b].node->log;
            i = log_last_index(x) < log_last_index(y) ? log_last_index(x) : log_last_index(y);
            first = log_first_index(x) > log_first_index(y) ? log_first_index(x) : log_first_index(y);
            for (; i >= first; i--) { /* what is before has been trimmed */
                bool equal = log_term_at(x, i) == log_term_at(y, i);

                if (same && !equal)
                    world_violation(w, "log matching: nodes %d and %d differ at %llu and agree behind it", a, b,
                                    (unsigned long long)i);
                same = equal;
            }
        }
    }
}

/* ---- what clients were told ---- */

void check_acknowledged(struct world *w, const char *key, const char *value, int64_t revision)
{
    struct checker *c = w->checker;
    struct acknowledged *a;

    c->acks = grow(c->acks, &c->cap_acks, c->n_acks + 1, sizeof *c->acks);
    a = &c->acks[c->n_acks++];
    snprintf(a->key, sizeof a->key, "%s", key);
    snprintf(a->value, sizeof a->value, "%s", value);
    a->revision = revision;
    if (revision > c->newest)
        c->newest = revision;
}

void check_refused(struct world *w, const char *value)
{
    struct checker *c = w->checker;

    c->refused = grow(c->refused, &c->cap_refused, c->n_refused + 1, sizeof *c->refused);
    snprintf(c->refused[c->n_refused++], sizeof *c->refused, "%s", value);
}

int64_t check_newest_acknowledged(const struct world *w)
{
    return w->checker->newest;
}

/* The newest acknowledged put of that key up to bound, or a later one, must be what is read. */
int64_t check_read(struct world *w, struct store_read *read, const char *key, int64_t bound)
{
    struct checker *c = w->checker;
    struct op_range op = {.key = slice_from_str(key)};
    struct range_result result;
    struct arena arena;
    int64_t want = 0, got;
    uint16_t status;

    for (size_t i = 0; i < c->n_acks; i++)
        if (c->acks[i].revision <= bound && c->acks[i].revision > want && strcmp(c->acks[i].key, key) == 0)
            want = c->acks[i].revision;
    arena_init(&arena);
    if (store_range(read, &op, &arena, 0, &result, &status) < 0 || status != STATUS_OK)
        world_violation(w, "reading %s fails", key);
    got = result.n_kvs > 0 ? result.kvs[0].mod_revision : 0;
    if (got < want)
        world_violation(w, "stale read: %s at revision %lld, %lld was acknowledged before", key, (long long)got,
                        (long long)want);
    arena_fini(&arena);
    return got;
}

void check_swapped(struct world *w, const char *key, int64_t from, int64_t at)
{
    struct checker *c = w->checker;
    struct swapped *x;

    c->swaps = grow(c->swaps, &c->cap_swaps, c->n_swaps + 1, sizeof *c->swaps);
    x = &c->swaps[c->n_swaps++];
    snprintf(x->key, sizeof x->key, "%s", key);
    x->from = from;
    x->at = at;
}

/* ---- at the end ---- */

bool check_is_level(const struct world *w)
{
    uint64_t last = UINT64_MAX;

    for (int i = 0; i < w->n_nodes; i++) {
        const struct node *n = w->nodes[i].node;

        if (!w->nodes[i].member)
            continue;
        if (n == NULL)
            return false;
        if (last == UINT64_MAX)
            last = log_last_index(n->log);
        if (log_last_index(n->log) != last || n->applied_index != last)
            return false;
    }
    return true;
}

struct row {
    char key[32], value[48];
    int64_t revision;
};

struct dump {
    struct store_read *read;
    struct arena arena;
    struct row *rows;
    size_t n, cap;
    uint32_t crc;
    int error;
};

static int dump_event(void *ctx, const struct event *e)
{
    struct dump *d = ctx;
    struct slice value;
    struct row *row;

    d->error = store_event_value(d->read, e, &d->arena, &value);
    if (d->error < 0)
        return 1;
    d->crc = crc32c(d->crc, &e->rev, sizeof e->rev);
    d->crc = crc32c(d->crc, e->key.data, e->key.len);
    d->crc = crc32c(d->crc, value.data, value.len);
    if (e->kind != EVENT_PUT) {
        arena_reset(&d->arena);
        return 0;
    }
    d->rows = grow(d->rows, &d->cap, d->n + 1, sizeof *d->rows);
    row = &d->rows[d->n++];
    snprintf(row->value, sizeof row->value, "%.*s", (int)value.len, (const char *)value.data);
    row->value[strcspn(row->value, (const char[]){VALUE_END, 0})] = '\0';
    row->revision = e->rev.main;
    snprintf(row->key, sizeof row->key, "%.*s", (int)e->key.len, (const char *)e->key.data);
    arena_reset(&d->arena);
    return 0;
}

static int dump_kv(void *ctx, const struct kv *kv)
{
    struct dump *d = ctx;

    d->crc = crc32c(d->crc, kv->key.data, kv->key.len);
    d->crc = crc32c(d->crc, kv->value.data, kv->value.len);
    d->crc = crc32c(d->crc, &kv->create_revision, 4 * sizeof(int64_t));
    return 0;
}

static void dump_node(struct world *w, int i, struct dump *d)
{
    struct op_range all = {.key = slice_make("\0", 1), .range_end = slice_make("\0", 1)};
    int64_t next, count, revision;
    uint64_t index;
    uint32_t hash = 0;
    uint16_t status;

    *d = (struct dump){0};
    arena_init(&d->arena);
    if (store_read_begin(node_store(w->nodes[i].node), &d->read) < 0 ||
        store_events(d->read, 1, dump_event, d, &next, &status) < 0 || d->error < 0 || status != STATUS_OK ||
        store_range_each(d->read, &all, dump_kv, d, &count, &status) < 0 || status != STATUS_OK ||
        store_hash(d->read, &hash, &revision, &index) < 0)
        world_violation(w, "the store of node %d cannot be read", i);
    d->crc = crc32c(d->crc, &hash, sizeof hash); /* the tables that no read above asks */
    store_read_end(d->read);
    arena_fini(&d->arena);
}

void check_converged(struct world *w)
{
    int first = world_first_member(w)->index;
    uint32_t crc = 0;

    for (int i = first; i < w->n_nodes; i++) {
        struct dump d;

        if (!w->nodes[i].member)
            continue;
        dump_node(w, i, &d);
        if (i > first && d.crc != crc)
            world_violation(w, "the stores of nodes %d and %d differ", first, i);
        crc = d.crc;
        free(d.rows);
    }
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->value, ((const struct row *)b)->value);
}

static const struct row *find_row(const struct dump *d, const char *value)
{
    struct row key;

    snprintf(key.value, sizeof key.value, "%s", value);
    return d->n == 0 ? NULL : bsearch(&key, d->rows, d->n, sizeof *d->rows, compare_rows);
}

void check_final(struct world *w)
{
    struct checker *c = w->checker;
    struct dump d;

    dump_node(w, world_first_member(w)->index, &d);
    if (d.n > 0)
        qsort(d.rows, d.n, sizeof *d.rows, compare_rows);
    for (size_t i = 1; i < d.n; i++)
        if (strcmp(d.rows[i - 1].value, d.rows[i].value) == 0)
            world_violation(w, "%s was applied twice, at revisions %lld and %lld", d.rows[i].value,
                            (long long)d.rows[i - 1].revision, (long long)d.rows[i].revision);
    for (size_t i = 0; i < c->n_acks; i++) {
        const struct row *row = find_row(&d, c->acks[i].value);

        if (row == NULL)
            world_violation(w, "acknowledged and lost: %s at revision %lld", c->acks[i].value,
                            (long long)c->acks[i].revision);
        if (row->revision != c->acks[i].revision)
            world_violation(w, "%s was acknowledged with revision %lld and stands at %lld", row->value,
                            (long long)c->acks[i].revision, (long long)row->revision);
    }
    for (size_t i = 0; i < c->n_swaps; i++)
        for (size_t k = 0; k < d.n; k++)
            if (d.rows[k].revision > c->swaps[i].from && d.rows[k].revision < c->swaps[i].at &&
                strcmp(d.rows[k].key, c->swaps[i].key) == 0)
                world_violation(w, "%s was swapped from revision %lld at %lld, and %lld is between", c->swaps[i].key,
                                (long long)c->swaps[i].from, (long long)c->swaps[i].at, (long long)d.rows[k].revision);
    for (size_t i = 0; i < c->n_refused; i++)
        if (find_row(&d, c->refused[i]) != NULL)
            world_violation(w, "%s was refused for certain and applied all the same", c->refused[i]);
    free(d.rows);
}
