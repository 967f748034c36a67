/* main.c - sim [-v] [-n seeds] [-t seconds] [-m mutant] [seed]; sim -l lists the mutants. Runs one seed, or so many from
 * it on, or as many as that time allows. Exit status 1 at the first broken promise.
 * SEED and SEEDS in the environment do the same. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/world.h"

#define FAULTY_TIME (20 * SECOND)
#define COVER_SEEDS 200 /* so many seeds must reach every branch that is counted */
#define HEALING_TIME (60 * SECOND)
#define PLOT_EVERY 4 /* seeds: the first of them has a duel too, the third a standstill */

static struct stats total;
static uint64_t total_virtual;

static char work_dir[64];

static void clean_up(void)
{
    if (work_dir[0] != '\0')
        world_remove_tree(work_dir);
}

static void make_dir(void)
{
    struct stat st;
    const char *tmp = getenv("TMPDIR");

    snprintf(work_dir, sizeof work_dir, "%.40s/quorumfs-sim-XXXXXX",
             stat("/dev/shm", &st) == 0 && access("/dev/shm", W_OK) == 0 ? "/dev/shm" :
             tmp != NULL                                                ? tmp :
                                                                          "/tmp");
    if (mkdtemp(work_dir) == NULL) {
        perror(work_dir);
        exit(2);
    }
}

static void add_stats(const struct stats *s)
{
    uint64_t *to = (uint64_t *)&total;
    const uint64_t *from = (const uint64_t *)s;

    for (size_t i = 0; i < sizeof *s / sizeof *to; i++)
        to[i] += from[i];
}

/* Peace: everything that was asked is answered, all nodes become equal, and the books are balanced. */
static uint64_t end_world(struct world *w)
{
    uint64_t hash, deadline;

    world_heal(w);
    clients_stop(w);
    holders_stop(w);
    deadline = w->now + HEALING_TIME;
    while (w->now < deadline && !(clients_idle(w) && holders_idle(w) && operator_idle(w) && check_is_level(w)))
        world_run(w, w->now + 100 * MS);
    if (!clients_idle(w))
        world_violation(w, "requests are still not answered %u s after healing", HEALING_TIME / SECOND);
    if (!operator_idle(w))
        world_violation(w, "the list of members cannot be read %u s after healing", HEALING_TIME / SECOND);
    if (!holders_idle(w))
        world_violation(w, "leases that nobody keeps alive still live %u s after healing", HEALING_TIME / SECOND);
    if (!check_is_level(w))
        world_violation(w, "the nodes are not level %u s after healing", HEALING_TIME / SECOND);
    check_logs(w);
    check_converged(w);
    check_final(w);
    check_leases_final(w);
    check_quiet_latency(w);
    hash = w->trace;
    add_stats(&w->stats);
    total_virtual += w->now;
    world_free(w);
    clean_up();
    work_dir[0] = '\0';
    return hash;
}

static uint64_t run_seed(uint64_t seed, bool verbose)
{
    struct world *w;
    uint64_t hash;

    make_dir();
    w = world_new(seed, work_dir, verbose, PLOT_CHANCE);
    world_run(w, FAULTY_TIME);
    hash = end_world(w);
    if (seed % PLOT_EVERY % 2 != 0)
        return hash;
    make_dir();
    w = world_new(seed, work_dir, verbose, seed % PLOT_EVERY == 0 ? PLOT_DUEL : PLOT_STANDSTILL);
    if (w->plot == PLOT_DUEL)
        duel_run(w);
    else
        standstill_run(w);
    return hash * 31 + end_world(w);
}

static void print_stats(uint64_t seeds, double seconds)
{
    const struct stats *s = &total;

    printf("sim: %llu seeds in %.1f s, %llu s of virtual time, %llu events\n", (unsigned long long)seeds, seconds,
           (unsigned long long)(total_virtual / SECOND), (unsigned long long)s->events);
    printf("sim: %llu messages (%llu lost, %llu twice), %llu crashes, %llu partitions, %llu elections, %llu transfers, %llu pauses, %llu full disks, "
           "%llu stores lost, "
           "%llu starts that died\n",
           (unsigned long long)s->messages, (unsigned long long)s->lost, (unsigned long long)s->duplicated,
           (unsigned long long)s->crashes, (unsigned long long)s->partitions, (unsigned long long)s->elections,
           (unsigned long long)s->transfers, (unsigned long long)s->pauses,
           (unsigned long long)s->full_disks, (unsigned long long)s->stores_lost, (unsigned long long)s->dead_starts);
    printf("sim: %llu puts: %llu acknowledged, %llu refused, %llu unknown, %llu retries; %llu of %llu barriers passed, "
           "%llu of %llu swaps succeeded\n",
           (unsigned long long)s->proposed, (unsigned long long)s->acknowledged, (unsigned long long)s->refused,
           (unsigned long long)s->unknown, (unsigned long long)s->retried, (unsigned long long)s->barriers_ok,
           (unsigned long long)s->barriers, (unsigned long long)s->swapped, (unsigned long long)s->swaps);
    printf("sim: %llu leases, %llu of them ended by the clock, %llu keep-alives confirmed; %llu flapping partitions, "
           "%llu clock jumps, %llu disks that died, %llu checkpoints asked for, %llu defragmentations; %llu members added, "
           "%llu promoted, %llu removed; %llu checkpoints fetched from a peer, %llu installed\n",
           (unsigned long long)s->leases_granted, (unsigned long long)s->leases_ended, (unsigned long long)s->keepalives,
           (unsigned long long)s->flaps, (unsigned long long)s->clock_jumps, (unsigned long long)s->dying_disks,
           (unsigned long long)s->checkpoints, (unsigned long long)s->defragmentations,
           (unsigned long long)s->added, (unsigned long long)s->promoted, (unsigned long long)s->removed,
           (unsigned long long)s->fetched, (unsigned long long)s->replaced);
    printf("sim: %llu duels of two changes of membership, %llu fought out: %llu times the new leader had committed (%llu puts "
           "acknowledged), %llu times the old one was elected again\n",
           (unsigned long long)s->duels, (unsigned long long)s->duels_fought, (unsigned long long)s->duels_new,
           (unsigned long long)s->duel_puts, (unsigned long long)s->duels_old);
    printf("sim: %llu standstills of a leader, %llu until another was elected, with %llu keep-alives asked of it\n",
           (unsigned long long)s->standstills, (unsigned long long)s->standstills_met,
           (unsigned long long)s->standstill_keepalives);
}

static double seconds_since(const struct timespec *begin)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begin->tv_sec) + (double)(now.tv_nsec - begin->tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
    const char *env_seed = getenv("SEED"), *env_seeds = getenv("SEEDS");
    uint64_t seed = env_seed != NULL && *env_seed != '\0' ? strtoull(env_seed, NULL, 0) : 1;
    uint64_t seeds = env_seeds != NULL && *env_seeds != '\0' ? strtoull(env_seeds, NULL, 0) : 1;
    struct timespec begin;
    uint64_t seconds = 0, done = 0;
    bool verbose = false, mutated = false;
    int option;

    while ((option = getopt(argc, argv, "vln:t:m:")) != -1) {
        if (option == 'v')
            verbose = true;
        else if (option == 'n')
            seeds = strtoull(optarg, NULL, 0);
        else if (option == 't') {
            seconds = strtoull(optarg, NULL, 0);
            seeds = UINT64_MAX;
        } else if (option == 'l') {
            mutant_list();
            return 0;
        } else if (option == 'm' && mutant_set(optarg))
            mutated = true;
        else
            return 2;
    }
    if (optind < argc)
        seed = strtoull(argv[optind], NULL, 0);
    atexit(clean_up);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t i = 0; i < seeds && (seconds == 0 || seconds_since(&begin) < (double)seconds); i++, done++) {
        uint64_t hash = run_seed(seed + i, verbose);

        if (seeds == 1) {
            printf("sim: seed %llu: trace %016llx\n", (unsigned long long)seed, (unsigned long long)hash);
            if (run_seed(seed, false) != hash) {
                printf("sim: FAILED; the same seed took another course\n");
                return 1;
            }
        } else if (i < 3 && run_seed(seed + i, false) != hash) {
            printf("sim: FAILED; seed %llu took another course\n", (unsigned long long)(seed + i));
            return 1;
        }
    }
    print_stats(done, seconds_since(&begin));
    cover_print();
    /* a spoilt driver may leave branches out: that alone does not find it */
    if (!mutated && done >= COVER_SEEDS && cover_missing() > 0) {
        printf("sim: FAILED; %llu seeds must reach every branch\n", (unsigned long long)done);
        return 1;
    }
    return 0;
}
