/* store/ against a naive model: random commands and reads, compared throughout.
 *
 * A run is many episodes, each a process of its own that begins with an empty store. An episode is a list of
 * operations; each draws from a random source of its own, so a shorter list of them is a run too. When an episode fails, its list is
 * made as short as can be (delta debugging), and what is left is printed with the seed.
 *
 * OPS=n: how many operations. SEED=n: replays. KEEP=i,j,..: only these of the first episode. TRACE=1: prints them.
 * QUORUMFS_SOAK=1: ten million operations. */
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/store_world_checks.h"
#include "tests/unit/store_world_files.h"
#include "tests/unit/store_world_kv.h"
#include "tests/unit/store_world_locks.h"

#define EPISODE_OPS 4000
#define OPS_CHECK 100000
#define OPS_SANITIZED 20000
#define OPS_SOAK 10000000
#define SHRINK_RUNS_MAX 300
#define EPISODE_TEXT_BYTES 16384

/* ---- operations ---- */

static void begin_batch(struct world *w)
{
    assert_int_equal(0, store_batch_begin(w->f.store, &w->batch));
}

static void commit_batch(struct world *w)
{
    assert_int_equal(0, store_batch_commit(w->batch));
}

static void do_commit(struct world *w)
{
    commit_batch(w);
    if (one_in(w, 3))
        check_reads(w);
    begin_batch(w);
}

/* An aborted batch leaves no trace. */
static void do_abort(struct world *w)
{
    struct command cmd = {.kind = COMMAND_DELETE_RANGE, .del = {.key = S("/"), .range_end = S("0")}};

    commit_batch(w);
    begin_batch(w);
    apply(w, cmd);
    w->f.index--;
    store_batch_abort(w->batch);
    check_reads(w);
    begin_batch(w);
}

static void do_reopen(struct world *w)
{
    struct fixture *f = one_in(w, 3) ? &w->twin : &w->f;

    commit_batch(w);
    store_close(f->store);
    fixture_open(f);
    check_reads(w);
    begin_batch(w);
}

static void do_look(struct world *w)
{
    commit_batch(w);
    if (one_in(w, 3))
        check_nothing_is_left(w);
    check_everything_fits(w);
    check_twin(w);
    begin_batch(w);
}

static const struct {
    unsigned weight;
    void (*run)(struct world *w);
    const char *name;
} operations[] = {
    {30, do_put, "put"},           {10, do_delete, "delete"},
    {10, do_txn, "txn"},           {20, do_write, "write"},
    {10, do_mkdir, "mkdir"},       {10, do_unlink, "unlink"},
    {10, do_rmdir, "rmdir"},       {10, do_setattr, "setattr"},
    {20, do_rename, "rename"},     {10, do_compact, "compact"},
    {12, do_xattr, "xattr"},       {8, do_grant, "grant"},
    {3, do_revoke, "revoke"},      {2, do_lease_checkpoint, "lease checkpoint"},
    {12, do_lock, "lock"},         {8, do_unlock, "unlock"},
    {4, do_lock_cancel, "cancel"}, {3, do_alarm, "alarm"},
    {2, do_quota, "quota"},
    {40, do_commit, "commit"},     {2, do_abort, "abort"},
    {1, do_reopen, "reopen"},      {4, do_look, "look"},
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

/* What stands in the way of little else for long. */
static void end_alarms(struct world *w)
{
    for (int i = 0; i < 64 && (w->m.nospace || w->m.corrupt); i++)
        do_alarm(w);
}

static void run_operation(struct world *w, uint64_t seed, size_t number)
{
    size_t roll, total = 0, i = 0;

    w->random = (seed + number) * 0x9e3779b97f4a7c15;
    for (size_t k = 0; k < N_OPERATIONS; k++)
        total += operations[k].weight;
    for (roll = below(w, total); roll >= operations[i].weight; i++)
        roll -= operations[i].weight;
    if (w->trace)
        printf("%zu: %s\n", number, operations[i].name);
    operations[i].run(w);
    if (one_in(w, 16))
        end_alarms(w);
    arena_reset(&w->arena);
    arena_reset(&w->twin.arena);
}

/* ---- an episode ---- */

static struct {
    uint64_t seed;
    size_t ops, *keep, n_keep; /* keep: of those only these */
} episode;

static void an_episode(void **state)
{
    struct world w = {.trace = getenv("TRACE") != NULL};
    size_t n = episode.keep != NULL ? episode.n_keep : episode.ops;

    w.m.revision = 1;
    arena_init(&w.arena);
    fixture_begin(&w.f);
    fixture_begin(&w.twin);
    begin_batch(&w);
    for (size_t i = 0; i < n; i++)
        run_operation(&w, episode.seed, episode.keep != NULL ? episode.keep[i] : i);
    commit_batch(&w);
    w.random = episode.seed;
    check_everything_fits(&w);
    check_twin(&w);
    fixture_end(&w.f);
    fixture_end(&w.twin);
    arena_fini(&w.arena);
    model_free(&w.m);
}

static size_t *parse_list(const char *text, size_t *ret_n)
{
    size_t *list = calloc(strlen(text) / 2 + 1, sizeof(*list));
    char *end;

    for (*ret_n = 0; *text != '\0'; text = *end == ',' ? end + 1 : end) {
        list[*ret_n] = strtoul(text, &end, 10);
        if (end == text)
            break;
        (*ret_n)++;
    }
    return list;
}

static int episode_main(char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_episode)};
    int rc;

    episode.seed = strtoull(argv[2], NULL, 10);
    episode.ops = strtoul(argv[3], NULL, 10);
    if (argv[4] != NULL)
        episode.keep = parse_list(argv[4], &episode.n_keep);
    rc = cmocka_run_group_tests_name("episode", tests, NULL, NULL);
    free(episode.keep);
    return rc;
}

/* ---- a process for each ---- */

static char *print_list(const size_t *list, size_t n)
{
    char *text = malloc(n * 21 + 1), *p = text;

    *p = '\0';
    for (size_t i = 0; i < n; i++)
        p += sprintf(p, i > 0 ? ",%zu" : "%zu", list[i]);
    return text;
}

static void read_text(int fd, char *text)
{
    ssize_t n = pread(fd, text, EPISODE_TEXT_BYTES - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

/* 0: it passed. What it printed (the begin) goes to text. Its files are below a directory that goes with it. */
static int run_episode(uint64_t seed, size_t ops, const size_t *keep, size_t n_keep, bool trace, char *text)
{
    char seed_text[32], ops_text[32], dir[128], remove[160];
    char *keep_text = keep != NULL ? print_list(keep, n_keep) : NULL;
    const char *argv[] = {"test_store_property", "episode", seed_text, ops_text, keep_text, NULL};
    FILE *out = tmpfile();
    int status;
    pid_t child;

    assert_non_null(out);
    temp_dir(dir, sizeof(dir), "episode");
    snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
    snprintf(ops_text, sizeof(ops_text), "%zu", ops);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("TMPDIR", dir, 1);
        if (trace)
            setenv("TRACE", "1", 1);
        dup2(fileno(out), 1);
        dup2(fileno(out), 2);
        execv("/proc/self/exe", (char *const *)argv);
        _exit(127);
    }
    assert_int_equal(child, waitpid(child, &status, 0));
    if (text != NULL)
        read_text(fileno(out), text);
    fclose(out);
    free(keep_text);
    if (status == 0) {
        assert_int_equal(0, rmdir(dir));
    } else {
        snprintf(remove, sizeof(remove), "rm -rf '%s'", dir);
        (void)!system(remove);
    }
    return status;
}

/* ---- shrinking ---- */

typedef bool (*fails_fn)(void *ctx, const size_t *list, size_t n);

/* Zeller's ddmin: takes out ever smaller parts of the list as long as it still fails without them. */
static size_t shrink(size_t *list, size_t n, fails_fn fails, void *ctx, int runs)
{
    size_t *without = calloc(n + 1, sizeof(*without));

    for (size_t part = n / 2; part > 0 && n > 1 && runs > 0;) {
        bool less = false;

        for (size_t at = 0; at < n && runs > 0;) {
            size_t gone = at + part < n ? part : n - at;

            memcpy(without, list, at * sizeof(*list));
            memcpy(without + at, list + at + gone, (n - at - gone) * sizeof(*list));
            runs--;
            if (n > gone && fails(ctx, without, n - gone)) {
                n -= gone;
                memcpy(list, without, n * sizeof(*list));
                less = true;
            } else {
                at += gone;
            }
        }
        if (!less || part > n / 2)
            part = part > 1 ? (part + 1) / 2 : less ? 1 : 0;
    }
    free(without);
    return n;
}

static bool episode_fails(void *ctx, const size_t *list, size_t n)
{
    return run_episode(*(uint64_t *)ctx, EPISODE_OPS, list, n, false, NULL) != 0;
}

static void report(uint64_t seed, size_t ops)
{
    size_t *list = calloc(ops, sizeof(*list)), n = ops;
    char *text = calloc(1, EPISODE_TEXT_BYTES), *keep;

    for (size_t i = 0; i < n; i++)
        list[i] = i;
    n = shrink(list, n, episode_fails, &seed, SHRINK_RUNS_MAX);
    keep = print_list(list, n);
    run_episode(seed, ops, list, n, true, text);
    printf("%s\n%zu of %zu operations fail: SEED=%llu KEEP=%s\n", text, n, ops, (unsigned long long)seed, keep);
    fflush(stdout);
    free(keep);
    free(list);
    free(text);
    fail();
}

/* ---- the tests ---- */

static unsigned long wanted_ops(void)
{
    const char *ops = getenv("OPS");

    if (ops != NULL)
        return strtoul(ops, NULL, 10);
    if (getenv("QUORUMFS_SOAK") != NULL)
        return OPS_SOAK;
#ifdef __SANITIZE_ADDRESS__
    return OPS_SANITIZED;
#else
    return OPS_CHECK;
#endif
}

static void store_is_like_the_model(void **state)
{
    const char *seed_text = getenv("SEED"), *keep_text = getenv("KEEP");
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL) * 1000003;
    unsigned long ops = wanted_ops();
    char *text;

    if (keep_text != NULL) {
        size_t n, *keep = parse_list(keep_text, &n);

        text = calloc(1, EPISODE_TEXT_BYTES);
        assert_int_equal(0, run_episode(seed, EPISODE_OPS, keep, n, true, text));
        printf("%s", text);
        free(text);
        free(keep);
        return;
    }
    printf("SEED=%llu OPS=%lu\n", (unsigned long long)seed, ops);
    fflush(stdout);
    for (unsigned long done = 0; done < ops; done += EPISODE_OPS, seed += EPISODE_OPS) {
        size_t n = ops - done < EPISODE_OPS ? ops - done : EPISODE_OPS;

        if (run_episode(seed, n, NULL, 0, false, NULL) != 0)
            report(seed, n);
    }
}

struct planted {
    size_t needs[3]; /* fails when all of these are in the list, in this order */
    int runs;
};

static bool planted_fails(void *ctx, const size_t *list, size_t n)
{
    struct planted *p = ctx;
    size_t met = 0;

    p->runs++;
    for (size_t i = 0; i < n && met < 3; i++)
        met += list[i] == p->needs[met];
    return met == 3;
}

static void failing_sequences_are_shrunk(void **state)
{
    struct planted p = {.needs = {17, 18, EPISODE_OPS - 1}};
    size_t list[EPISODE_OPS], n;

    for (size_t i = 0; i < EPISODE_OPS; i++)
        list[i] = i;
    n = shrink(list, EPISODE_OPS, planted_fails, &p, SHRINK_RUNS_MAX);
    assert_int_equal(3, n);
    assert_memory_equal(p.needs, list, sizeof(p.needs));
    assert_true(p.runs < SHRINK_RUNS_MAX);
}

/* One key's history of many versions: the links of every level. */
static void long_histories_are_found(void **state)
{
    enum { VERSIONS = 9000 };
    struct fixture f;
    struct store_batch *b;
    struct store_read *r;
    struct store_check sums;
    struct result result;
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    for (int i = 0; i < VERSIONS; i++) {
        struct command cmd = {.kind = COMMAND_PUT, .put = {.key = S("k"), .value = slice_make(&i, sizeof(i))}};

        if (i % 1000 == 500) /* a history goes on over deletes */
            cmd = (struct command){.kind = COMMAND_DELETE_RANGE, .del = {.key = S("k")}};
        assert_int_equal(0, store_apply(b, ++f.index, 1, 0, &cmd, &f.arena, &result, &fresh));
    }
    assert_int_equal(0, store_batch_commit(b));
    assert_int_equal(0, store_read_begin(f.store, &r));
    for (int i = 0; i < VERSIONS; i += i < 200 ? 1 : 37) {
        struct slice value;
        uint16_t status;

        assert_int_equal(0, store_value_at(r, S("k"), i + 2, &f.arena, &value, &status));
        assert_int_equal(i % 1000 == 500 ? STATUS_KEY_NOT_FOUND : STATUS_OK, status);
        if (status == STATUS_OK)
            assert_memory_equal(&i, value.data, sizeof(i));
    }
    assert_int_equal(0, store_check(r, tell_problem, NULL, &sums));
    assert_int_equal(0, sums.problems);
    assert_int_equal(VERSIONS, sums.chain_rows);
    store_read_end(r);
    fixture_end(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_is_like_the_model),
        cmocka_unit_test(failing_sequences_are_shrunk),
        cmocka_unit_test(long_histories_are_found),
    };

    if (argc > 3 && strcmp(argv[1], "episode") == 0)
        return episode_main(argv);
    return cmocka_run_group_tests_name("store_property", tests, NULL, NULL);
}
