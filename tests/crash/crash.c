/* Crash states of the log: a random workload on a disk that knows what a power cut could leave (disk_memory.h). After
 * every call that changes the disk several such states are made; each must be recovered to a log that the workload
 * could have left: everything acknowledged, nothing invented, the hard state not older than what was set.
 *
 * Usage: crash [STATES [MUTANT]]; SEED in the environment replays. MUTANT "sync" or "sync_dir": the disk
 * claims to have synced and has not, which is what a log that acknowledges too early looks like; the run must then
 * find a violation (status 1). */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "raft/log.h"
#include "tests/crash/disk_memory.h"

#define ENTRIES_MAX 512
#define CANDIDATES_MAX 16
#define PAYLOAD_MAX 1600
#define CLUSTER 0xc1

/* One state that the log may be found in: entries base + 1 .. base + count. */
struct state {
    uint64_t base, base_term;
    size_t count;
    uint64_t first_max; /* it may begin here at the latest */
    struct {
        uint64_t term, tag;
        size_t len;
    } entry[ENTRIES_MAX];
};

struct seen {
    uint64_t *hashes;
    size_t cap, count;
};

struct run {
    uint64_t seed, random;
    struct disk_memory *disk;
    struct log *log;
    struct log_options options;

    struct state now;                        /* appended */
    struct state candidates[CANDIDATES_MAX]; /* [0]: acknowledged; others: attempts since */
    size_t n_candidates;
    struct log_hard_state hard[CANDIDATES_MAX]; /* likewise */
    size_t n_hard;
    uint64_t tag;

    struct seen seen;
    uint64_t made, opened, violations;
    uint64_t cut_after;          /* the power goes after so many calls from now on; 0: it stays on */
    struct disk_memory *left;    /* and leaves this */
    struct state left_candidates[CANDIDATES_MAX];
    size_t n_left;
    struct log_hard_state left_hard[CANDIDATES_MAX];
    size_t n_left_hard;
    unsigned samples;
};

static uint64_t pick(struct run *r, uint64_t n)
{
    return disk_memory_next_random(&r->random) % n;
}

static void fill(uint8_t *p, uint64_t tag, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0)
            tag = tag * 6364136223846793005 + 1442695040888963407;
        p[i] = (uint8_t)(tag >> (i % 8 * 8));
    }
}

/* True if it was not there before. */
static bool see(struct seen *s, uint64_t hash)
{
    size_t i;

    if (2 * (s->count + 1) > s->cap) {
        struct seen bigger = {.cap = s->cap != 0 ? s->cap * 2 : 65536};

        bigger.hashes = calloc(bigger.cap, sizeof(*bigger.hashes));
        assert(bigger.hashes != NULL);
        for (i = 0; i < s->cap; i++)
            if (s->hashes[i] != 0)
                see(&bigger, s->hashes[i]);
        free(s->hashes);
        *s = bigger;
    }
    hash += hash == 0;
    for (i = hash % s->cap; s->hashes[i] != 0; i = (i + 1) % s->cap)
        if (s->hashes[i] == hash)
            return false;
    s->hashes[i] = hash;
    s->count++;
    return true;
}

/* ---- what must hold ---- */

static uint64_t state_last(const struct state *s)
{
    return s->base + s->count;
}

static uint64_t state_term(const struct state *s, uint64_t index)
{
    return index == s->base ? s->base_term : s->entry[index - s->base - 1].term;
}

/* NULL if the log l is in this state, or what differs. */
static const char *compare(struct log *l, const struct state *s, struct arena *arena)
{
    uint64_t first = log_first_index(l);
    uint8_t want[PAYLOAD_MAX];

    if (log_last_index(l) != state_last(s))
        return "another last index";
    if (first < s->base + 1 || first > s->first_max)
        return "another first index";
    if (log_synced_index(l) != log_last_index(l))
        return "not all is durable";
    if (log_term_at(l, first - 1) != state_term(s, first - 1))
        return "another term before the first entry";
    for (uint64_t i = first; i <= log_last_index(l); i++) {
        size_t at = (size_t)(i - s->base - 1);
        struct log_entry e;

        arena_reset(arena);
        if (log_get(l, i, arena, &e) < 0)
            return "an entry cannot be read";
        fill(want, s->entry[at].tag, s->entry[at].len);
        if (e.term != s->entry[at].term || !slice_equal(e.payload, slice_make(want, s->entry[at].len)))
            return "another entry";
    }
    return NULL;
}

static bool same_hard(struct log_hard_state a, struct log_hard_state b)
{
    return a.term == b.term && a.voted_for == b.voted_for;
}

/* Which candidate the log is; -1 and a complaint if none. */
static int identify(struct run *r, struct log *l)
{
    const struct state *candidates = r->candidates;
    size_t n = r->n_candidates;
    bool hard_found = false;
    const char *why[CANDIDATES_MAX] = {0};
    struct log_hard_state h = log_hard_state(l);
    struct arena arena;
    int found = -1;

    arena_init(&arena);
    for (size_t i = 0; i < n && found < 0; i++) {
        why[i] = compare(l, &candidates[i], &arena);
        if (why[i] == NULL)
            found = (int)i;
    }
    arena_fini(&arena);
    for (size_t i = 0; i < r->n_hard; i++)
        hard_found = hard_found || same_hard(h, r->hard[i]);
    if (found >= 0 && hard_found)
        return found;
    r->violations++;
    fprintf(stderr, "VIOLATION seed %" PRIu64 ": log %" PRIu64 "..%" PRIu64 "\n", r->seed, log_first_index(l),
            log_last_index(l));
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "  state %zu: %" PRIu64 "..%" PRIu64 ": %s\n", i, candidates[i].base + 1,
                state_last(&candidates[i]), why[i] != NULL ? why[i] : "the same");
    fprintf(stderr, "  term %" PRIu64 " vote %" PRIu64 ", which was%s set\n", h.term, h.voted_for,
            hard_found ? "" : " not");
    return -1;
}

/* The log goes on after recovery: what is appended then must be found by the next start. */
static void go_on(struct run *r, struct disk_memory *m, struct log **l)
{
    struct log_entry e = {log_last_index(*l) + 1, log_term_at(*l, log_last_index(*l)) + 1, LOG_ENTRY_BARRIER,
                          slice_from_str("after the crash")};
    struct log_hard_state h = {e.term, 3};
    uint64_t synced;
    int rc;

    if (log_append(*l, &e, 1) < 0 || log_flush(*l, &synced) < 0 || log_set_hard_state(*l, h) < 0 ||
        log_flushed(*l, synced) != e.index)
        rc = -EIO;
    else {
        log_close(*l);
        *l = NULL;
        rc = log_open(disk_memory_disk(m), "log", &r->options, l, NULL, 0);
    }
    if (rc < 0 || log_last_index(*l) != e.index || log_term_at(*l, e.index) != e.term ||
        !same_hard(log_hard_state(*l), h)) {
        r->violations++;
        fprintf(stderr, "VIOLATION seed %" PRIu64 ": what was appended after recovery is not there (%d)\n", r->seed, rc);
    }
}

static void check_state(struct run *r, struct disk_memory *m)
{
    struct log *l = NULL;
    char text[512];
    int rc;

    r->made++;
    if (!see(&r->seen, disk_memory_hash(m)))
        return;
    r->opened++;
    rc = log_open(disk_memory_disk(m), "log", &r->options, &l, text, sizeof(text));
    if (rc < 0) {
        r->violations++;
        fprintf(stderr, "VIOLATION seed %" PRIu64 ": open says %d: %s\n", r->seed, rc, text);
        return;
    }
    if (identify(r, l) >= 0 && r->opened % 4 == 0)
        go_on(r, m, &l);
    log_close(l);
}

/* Called by the disk after each change. */
static void sample(void *arg)
{
    static const enum disk_memory_cut hows[] = {CUT_NOTHING_PENDING, CUT_ALL_PENDING, CUT_RANDOM,
                                                CUT_MOST, CUT_FEW, CUT_RANDOM};
    struct run *r = arg;

    for (unsigned i = 0; i < r->samples && r->violations < 3; i++) {
        struct disk_memory *m = disk_memory_cut(r->disk, hows[i % 6], &r->random);

        check_state(r, m);
        disk_memory_free(m);
    }
    if (r->cut_after == 0 || --r->cut_after > 0)
        return;
    r->left = disk_memory_cut(r->disk, pick(r, 2) ? CUT_RANDOM : CUT_MOST, &r->random);
    memcpy(r->left_candidates, r->candidates, r->n_candidates * sizeof(r->candidates[0]));
    r->n_left = r->n_candidates;
    memcpy(r->left_hard, r->hard, r->n_hard * sizeof(r->hard[0]));
    r->n_left_hard = r->n_hard;
    disk_memory_faults(r->disk)->fail_at = disk_memory_calls(r->disk) + 1; /* the machine is off */
    disk_memory_faults(r->disk)->fail_with = -EIO;
    disk_memory_faults(r->disk)->fail_ever_after = true;
}

/* ---- the workload ---- */

static void acknowledge(struct run *r)
{
    r->candidates[0] = r->now;
    r->n_candidates = 1;
}

static void do_append(struct run *r)
{
    size_t n = 1 + pick(r, 6);

    for (size_t i = 0; i < n && r->now.count < ENTRIES_MAX; i++) {
        uint64_t last = state_last(&r->now);
        uint8_t payload[PAYLOAD_MAX];
        struct log_entry e = {.index = last + 1, .type = LOG_ENTRY_COMMANDS};
        size_t len = pick(r, 4) == 0 ? pick(r, PAYLOAD_MAX) : pick(r, 200);

        e.term = state_term(&r->now, last) + (pick(r, 8) == 0);
        e.term += e.term == 0;
        r->tag++;
        fill(payload, r->tag, len);
        e.payload = slice_make(payload, len);
        if (log_append(r->log, &e, 1) < 0)
            return;
        r->now.entry[r->now.count].term = e.term;
        r->now.entry[r->now.count].tag = r->tag;
        r->now.entry[r->now.count].len = len;
        r->now.count++;
    }
}

static void do_flush(struct run *r)
{
    uint64_t synced;
    int rc;

    if (r->n_candidates == CANDIDATES_MAX)
        return;
    if (log_pending(r->log))
        r->candidates[r->n_candidates++] = r->now;
    rc = log_flush(r->log, &synced);
    if (rc < 0)
        return;
    assert(synced == state_last(&r->now));
    assert(log_flushed(r->log, synced) == synced);
    acknowledge(r);
}

static void do_truncate(struct run *r)
{
    uint64_t first = log_first_index(r->log), last = log_last_index(r->log), index;

    if (last < first)
        return;
    index = last - pick(r, last - first + 1 < 12 ? last - first + 1 : 12);
    if (log_truncate(r->log, index) == 0)
        r->now.count = (size_t)(index - r->now.base - 1);
}

static void do_reset(struct run *r)
{
    uint64_t index = log_last_index(r->log) + pick(r, 40), term = state_term(&r->now, state_last(&r->now)) + pick(r, 2);

    if (log_reset(r->log, index, term) < 0)
        return;
    r->now.base = index;
    r->now.base_term = term;
    r->now.count = 0;
    r->now.first_max = index + 1;
}

static void do_trim(struct run *r)
{
    uint64_t first = log_first_index(r->log), last = log_synced_index(r->log), index;

    if (last < first)
        return;
    index = first + pick(r, last - first + 1);
    log_trim(r->log, index);
    for (size_t i = 0; i <= r->n_candidates; i++) {
        struct state *s = i == 0 ? &r->now : &r->candidates[i - 1];

        if (s->first_max < index + 1)
            s->first_max = index + 1;
        if (s->first_max > state_last(s) + 1)
            s->first_max = state_last(s) + 1;
    }
}

static void do_hard(struct run *r)
{
    struct log_hard_state h = {r->hard[0].term + pick(r, 3), pick(r, 5)};

    if (r->n_hard == CANDIDATES_MAX)
        return;
    r->hard[r->n_hard++] = h;
    if (log_set_hard_state(r->log, h) < 0)
        return;
    r->hard[0] = h;
    r->n_hard = 1;
}

/* Reading while the log is written: from memory or from its files. */
static void do_read(struct run *r)
{
    uint64_t first = log_first_index(r->log), last = log_last_index(r->log), index;
    uint8_t want[PAYLOAD_MAX];
    struct log_entry e;
    struct arena arena;

    if (last < first || r->left != NULL)
        return;
    arena_init(&arena);
    index = first + pick(r, last - first + 1);
    for (uint64_t i = index; i <= last && i < index + 4; i++) {
        size_t at = (size_t)(i - r->now.base - 1);
        int rc = log_get(r->log, i, &arena, &e);

        fill(want, r->now.entry[at].tag, r->now.entry[at].len);
        if (rc == -EIO || rc == -ENOSPC) /* injected */
            break;
        if (rc < 0 || e.term != r->now.entry[at].term ||
            !slice_equal(e.payload, slice_make(want, r->now.entry[at].len))) {
            r->violations++;
            fprintf(stderr, "VIOLATION seed %" PRIu64 ": entry %" PRIu64 " reads as another one (%d)\n", r->seed, i, rc);
        }
    }
    arena_fini(&arena);
}

static void inject(struct run *r)
{
    struct disk_memory_faults *f = disk_memory_faults(r->disk);

    if (r->left != NULL)
        return;
    f->fail_at = disk_memory_calls(r->disk) + 1 + pick(r, 4);
    f->fail_with = pick(r, 2) ? -ENOSPC : -EIO;
}

static void step(struct run *r)
{
    uint64_t what = pick(r, 100);

    if (what < 38)
        do_append(r);
    else if (what < 70)
        do_flush(r);
    else if (what < 77)
        do_truncate(r);
    else if (what < 84)
        do_hard(r);
    else if (what < 90)
        do_trim(r);
    else if (what < 93)
        log_tend(r->log);
    else if (what < 96)
        do_read(r);
    else if (what < 97)
        do_reset(r);
    else
        inject(r);
    disk_memory_faults(r->disk)->full_bytes = pick(r, 50) == 0 ? 40000 : 0;
}

/* Opens what is there, which must be one of the candidates, and takes that for the truth from now on. */
static bool start(struct run *r)
{
    char text[512];
    int which, rc = log_open(disk_memory_disk(r->disk), "log", &r->options, &r->log, text, sizeof(text));

    if (r->left != NULL) {
        if (rc == 0)
            log_close(r->log);
        return false; /* the power went meanwhile */
    }
    if (rc < 0) {
        r->violations++;
        fprintf(stderr, "VIOLATION seed %" PRIu64 ": restart says %d: %s\n", r->seed, rc, text);
        return false;
    }
    which = identify(r, r->log);
    if (which < 0) {
        log_close(r->log);
        return false;
    }
    r->now = r->candidates[which];
    acknowledge(r);
    r->hard[0] = log_hard_state(r->log);
    r->n_hard = 1;
    return true;
}

/* One life of the process, then a kill (the page cache stays) or a power cut. */
static void live(struct run *r)
{
    unsigned steps = 20 + (unsigned)pick(r, 60);

    r->cut_after = pick(r, 2) ? 1 + pick(r, 120) : 0;
    disk_memory_watch(r->disk, sample, r);
    if (start(r)) {
        for (unsigned i = 0; i < steps && r->left == NULL && r->violations == 0; i++)
            step(r);
        log_close(r->log);
    }
    if (r->left != NULL) {
        disk_memory_free(r->disk);
        r->disk = r->left;
        r->left = NULL;
        memcpy(r->candidates, r->left_candidates, r->n_left * sizeof(r->candidates[0]));
        r->n_candidates = r->n_left;
        memcpy(r->hard, r->left_hard, r->n_left_hard * sizeof(r->hard[0]));
        r->n_hard = r->n_left_hard;
    } else {
        disk_memory_faults(r->disk)->fail_at = 0;
        disk_memory_faults(r->disk)->full_bytes = 0;
    }
}

static void run_seed(struct run *r, uint64_t seed, const char *mutant)
{
    r->seed = r->random = seed;
    r->options = (struct log_options){
        .segment_bytes = 8192u << pick(r, 3), .cache_bytes = 1 + pick(r, 4000), .cluster_id = CLUSTER};
    r->samples = 6;
    r->disk = disk_memory_new();
    memset(&r->now, 0, sizeof(r->now));
    r->now.first_max = 1;
    acknowledge(r);
    r->hard[0] = (struct log_hard_state){0};
    r->n_hard = 1;
    for (unsigned i = 0; i < 6 && r->violations == 0; i++) {
        disk_memory_faults(r->disk)->lying_sync = i > 0 && strcmp(mutant, "sync") == 0;
        disk_memory_faults(r->disk)->lying_sync_dir = i > 0 && strcmp(mutant, "sync_dir") == 0;
        live(r);
    }
    disk_memory_free(r->disk);
    r->disk = NULL;
}

int main(int argc, char **argv)
{
    uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    const char *mutant = argc > 2 ? argv[2] : "";
    const char *env = getenv("SEED");
    uint64_t seed = env != NULL ? strtoull(env, NULL, 10) : (uint64_t)time(NULL);
    struct run *r = calloc(1, sizeof(*r));
    uint64_t seeds = 0;

    assert(r != NULL);
    printf("seed SEED=%" PRIu64 "%s%s\n", seed, mutant[0] != '\0' ? " mutant " : "", mutant);
    while (r->seen.count < wanted && r->violations == 0) {
        run_seed(r, seed + seeds, mutant);
        seeds++;
        if (env != NULL && wanted == 1)
            break;
    }
    printf("states %zu distinct of %" PRIu64 " made, from %" PRIu64 " workloads\n", r->seen.count, r->made, seeds);
    printf("%s - a power cut loses nothing that was acknowledged: %" PRIu64 " violations\n",
           r->violations == 0 ? "ok" : "not ok", r->violations);
    free(r->seen.hashes);
    seeds = r->violations;
    free(r);
    return seeds != 0;
}
