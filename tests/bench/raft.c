/* raft.c - the node alone: processes on loopback, each with log, transport and store; the proposer is in the leader's own
 * process. Then the time from kill -9 of a leader to the next one.
 *
 *   raft DIR [nodes] [seconds for a depth] [elections] [readers]
 *
 * Readers: so many barriers of linearizable reads wait beside the commands, one after the other each.
 *
 * Prints a table for docs/bench.md, beside the disk's own rate of fdatasync in the same run. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/command.h"
#include "raft/env_uv.h"
#include "raft/node.h"
#include "raft/stream.h"
#include "raft/transport.h"

#define MAX_NODES 7
#define MAX_DEPTH 1024
#define MAX_SAMPLES (8u << 20)
#define COMMAND_BYTES 200
#define HEARTBEAT_MS 100
#define ELECTION_MS 1000
#define WAIT_S 60
#define SYNC_S 1

struct seat { /* of one node, written by it */
    uint64_t leader, term;       /* as it knows them */
    uint64_t frames;             /* sent to other members */
    uint64_t led_ns;             /* when it became the leader of .term; 0: it is not */
    uint64_t applied;
    pid_t pid;
};

struct shared {
    volatile uint64_t order, done; /* the n-th measurement; done by the leader */
    volatile unsigned depth;
    volatile double seconds;
    struct seat seats[MAX_NODES];
    double ops, p50_us, p99_us;
    double reads, read_p50_us, read_p99_us; /* with readers */
};

static struct shared *shared;
static unsigned n_nodes = 3, first_port, n_readers;
static const char *dir;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "raft: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- a node ---- */

struct bench {
    unsigned index;
    uv_loop_t loop;
    uv_timer_t look;
    struct disk disk;
    struct env_uv *env;
    struct transport *transport;
    struct node *node;
    uint64_t order, begin_ns, end_ns;
    unsigned in_flight;
    uint32_t *samples, *read_samples;
    size_t n_samples, n_read_samples;
    struct looker {
        struct node_barrier barrier;
        struct bench *bench;
        uint64_t began_ns;
    } readers[MAX_DEPTH];
    struct proposer {
        struct node_proposal proposal;
        struct bench *bench;
        uint64_t began_ns;
    } ops[MAX_DEPTH];
    uint8_t command[COMMAND_BYTES];
    size_t command_len;
};

static uint64_t id_of(unsigned i)
{
    return 0x1000 + i;
}

static void url_of(unsigned i, char *text, size_t size)
{
    snprintf(text, size, "http://127.0.0.1:%u", first_port + i);
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct bench *b = ctx;
    struct seat *s = &shared->seats[b->index];

    s->led_ns = leader == id_of(b->index) ? now_ns() : 0;
    s->term = term;
    s->leader = leader;
}

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
}

static void on_fatal(void *ctx, int error, const char *text)
{
    fprintf(stderr, "raft: node stops: %s\n", text);
    _exit(1);
}

static void on_env_timer(void *ctx)
{
    node_timer(((struct bench *)ctx)->node);
}

static int on_receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    return node_receive(((struct bench *)ctx)->node, from, type, payload);
}

static void on_connected(void *ctx, uint64_t peer, uint32_t program)
{
    node_peer_runs(((struct bench *)ctx)->node, peer, program);
    node_peer_connected(((struct bench *)ctx)->node, peer);
}

static void on_disconnected(void *ctx, uint64_t peer)
{
    node_peer_disconnected(((struct bench *)ctx)->node, peer);
}

/* ---- the proposer ---- */

static void propose(struct proposer *op);

static int compare_u32(const void *a, const void *b)
{
    return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

static double percentile_us(uint32_t *samples, size_t n, unsigned percent)
{
    return n > 0 ? samples[n * percent / 100] / 10.0 : 0;
}

static void finish(struct bench *b)
{
    double seconds = (double)(now_ns() - b->begin_ns) / 1e9;

    if (--b->in_flight > 0)
        return;
    qsort(b->samples, b->n_samples, sizeof *b->samples, compare_u32);
    qsort(b->read_samples, b->n_read_samples, sizeof *b->read_samples, compare_u32);
    shared->ops = (double)b->n_samples / seconds;
    shared->p50_us = percentile_us(b->samples, b->n_samples, 50);
    shared->p99_us = percentile_us(b->samples, b->n_samples, 99);
    shared->reads = (double)b->n_read_samples / seconds;
    shared->read_p50_us = percentile_us(b->read_samples, b->n_read_samples, 50);
    shared->read_p99_us = percentile_us(b->read_samples, b->n_read_samples, 99);
    shared->done = b->order;
}

/* ---- the readers ---- */

static void read_again(struct looker *r);

static void on_read(struct node_barrier *barrier, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct looker *r = LIST_ITEM(barrier, struct looker, barrier);
    struct bench *b = r->bench;
    uint64_t now = now_ns();

    if (status != STATUS_OK) {
        fprintf(stderr, "raft: a read ends with %s\n", status_name(status));
        _exit(1);
    }
    if (b->n_read_samples < MAX_SAMPLES)
        b->read_samples[b->n_read_samples++] = (uint32_t)((now - r->began_ns) / 100);
    if (now < b->end_ns)
        read_again(r);
    else
        finish(b);
}

static void read_again(struct looker *r)
{
    memset(&r->barrier, 0, sizeof r->barrier);
    r->barrier.done = on_read;
    r->began_ns = now_ns();
    node_barrier(r->bench->node, &r->barrier);
}

/* ---- the proposer ---- */

static void on_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct proposer *op = LIST_ITEM(p, struct proposer, proposal);
    struct bench *b = op->bench;
    uint64_t now = now_ns();

    if (status != STATUS_OK) {
        fprintf(stderr, "raft: a command ends with %s\n", status_name(status));
        _exit(1);
    }
    if (b->n_samples < MAX_SAMPLES)
        b->samples[b->n_samples++] = (uint32_t)((now - op->began_ns) / 100);
    if (now < b->end_ns)
        propose(op);
    else
        finish(b);
}

static void propose(struct proposer *op)
{
    struct bench *b = op->bench;

    memset(&op->proposal, 0, sizeof op->proposal);
    op->proposal.take_command = malloc(b->command_len);
    memcpy(op->proposal.take_command, b->command, b->command_len);
    op->proposal.command_len = b->command_len;
    op->proposal.done = on_done;
    op->began_ns = now_ns();
    node_propose(b->node, &op->proposal);
}

static void on_look(uv_timer_t *t)
{
    struct bench *b = t->data;
    struct node_status st;

    node_status(b->node, &st);
    shared->seats[b->index].applied = st.applied_index;
    shared->seats[b->index].frames = transport_counters(b->transport).frames_sent;
    if (shared->order == b->order)
        return;
    b->order = shared->order;
    if (!st.is_leader)
        return;
    b->n_samples = b->n_read_samples = 0;
    b->begin_ns = now_ns();
    b->end_ns = b->begin_ns + (uint64_t)(shared->seconds * 1e9);
    b->in_flight = shared->depth + n_readers;
    for (unsigned i = 0; i < shared->depth; i++) {
        b->ops[i].bench = b;
        propose(&b->ops[i]);
    }
    for (unsigned i = 0; i < n_readers; i++) {
        b->readers[i].bench = b;
        read_again(&b->readers[i]);
    }
}

static void encode(struct bench *b)
{
    char value[COMMAND_BYTES];
    struct command cmd = {.kind = COMMAND_PUT, .put.key = slice_from_str("a key of 24 bytes, about")};
    struct bytes out;

    memset(value, 'v', sizeof value);
    bytes_init(&out);
    for (size_t n = COMMAND_BYTES; n > 0; n--) {
        cmd.put.value = slice_make(value, n);
        bytes_reset(&out);
        command_encode(&cmd, &out);
        if (out.len <= COMMAND_BYTES)
            break;
    }
    b->command_len = out.len;
    memcpy(b->command, out.data, out.len);
    bytes_fini(&out);
}

static int open_bench(struct bench *b, char *text, size_t text_size)
{
    static char urls[MAX_NODES][64];
    struct node_member members[MAX_NODES];
    char path[512], store_dir[600];
    struct transport_options options = {.cluster_id = 7, .id = id_of(b->index), .election_ms = ELECTION_MS, .ctx = b,
                                        .n_listen = 1, .program = APPLY_VERSION, .receive = on_receive, .connected = on_connected,
                                        .disconnected = on_disconnected};
    struct node_config config = {.id = id_of(b->index), .cluster_id = 7, .name = "bench", .members = members,
                                 .n_members = n_nodes, .heartbeat_ms = HEARTBEAT_MS, .election_ms = ELECTION_MS,
                                 .store_flags = STORE_UNSYNCED};
    struct node_callbacks callbacks = {.ctx = b, .on_revision = on_revision, .on_leader = on_leader, .on_fatal = on_fatal};
    struct network network;
    struct workers workers;
    struct clock clock;
    struct url url;
    const char *why;
    int rc;

    for (unsigned i = 0; i < n_nodes; i++) {
        url_of(i, urls[i], sizeof urls[i]);
        members[i] = (struct node_member){.id = id_of(i), .name = "bench", .peer_url = urls[i], .voter = true};
    }
    snprintf(path, sizeof path, "%s/node%u", dir, b->index);
    snprintf(store_dir, sizeof store_dir, "%s/store", path);
    mkdir(path, 0700);
    mkdir(store_dir, 0700);
    config.store_dir = store_dir;
    if (url_parse(slice_from_str(urls[b->index]), &url, &why) < 0)
        return -EINVAL;
    options.listen = &url;
    options.urls = urls[b->index];
    rc = disk_posix_open(path, &b->disk);
    if (rc == 0)
        rc = env_uv_open(&b->loop, on_env_timer, b, &b->env);
    if (rc == 0)
        rc = transport_open(&b->loop, &options, &b->transport, text, text_size);
    if (rc < 0)
        return rc;
    env_uv_tables(b->env, &clock, &workers);
    transport_table(b->transport, &network);
    rc = node_open(&config, &b->disk, &clock, &network, &workers, &callbacks, &b->node, text, text_size);
    return rc == 0 ? node_start(b->node) : rc;
}

static void run_node(unsigned index)
{
    struct bench *b = calloc(1, sizeof *b);
    char text[512] = "";
    int rc;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    b->index = index;
    b->order = shared->order;
    b->samples = malloc(MAX_SAMPLES * sizeof *b->samples);
    b->read_samples = malloc(MAX_SAMPLES * sizeof *b->read_samples);
    encode(b);
    uv_loop_init(&b->loop);
    rc = open_bench(b, text, sizeof text);
    if (rc < 0) {
        fprintf(stderr, "raft: node %u: %s: %s\n", index, text, strerror(-rc));
        _exit(1);
    }
    uv_timer_init(&b->loop, &b->look);
    b->look.data = b;
    uv_timer_start(&b->look, on_look, 2, 2);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* ---- the one that measures ---- */

static void start_node(unsigned i)
{
    pid_t pid;

    memset(&shared->seats[i], 0, sizeof shared->seats[i]);
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run_node(i);
    shared->seats[i].pid = pid;
}

static void pause_ms(unsigned ms)
{
    usleep(ms * 1000);
}

/* All know one leader, itself included. */
static int settled_leader(void)
{
    for (unsigned l = 0; l < n_nodes; l++) {
        unsigned agree = 0;

        for (unsigned i = 0; i < n_nodes; i++)
            agree += shared->seats[i].leader == id_of(l) && shared->seats[i].term == shared->seats[l].term;
        if (agree == n_nodes && shared->seats[l].led_ns != 0)
            return (int)l;
    }
    return -1;
}

static unsigned wait_leader(void)
{
    uint64_t give_up = now_ns() + WAIT_S * 1000000000ull;
    int l;

    while ((l = settled_leader()) < 0) {
        if (now_ns() > give_up) {
            fprintf(stderr, "raft: no leader within %d s\n", WAIT_S);
            exit(1);
        }
        pause_ms(1);
    }
    return (unsigned)l;
}

static double cpu_s(void) /* of all nodes and their threads */
{
    double total = 0;

    for (unsigned i = 0; i < n_nodes; i++) {
        char path[64], file[384];
        struct dirent *e;
        DIR *d;

        snprintf(path, sizeof path, "/proc/%d/task", shared->seats[i].pid);
        d = opendir(path);
        while (d != NULL && (e = readdir(d)) != NULL) {
            unsigned long long ns = 0;
            FILE *f;

            snprintf(file, sizeof file, "%s/%s/schedstat", path, e->d_name);
            f = fopen(file, "r");
            if (f != NULL && fscanf(f, "%llu", &ns) == 1)
                total += (double)ns / 1e9;
            if (f != NULL)
                fclose(f);
        }
        if (d != NULL)
            closedir(d);
    }
    return total;
}

/* Of the disk, whoever caused them: a process's own counter takes large pages of the cache for written. */
static double written_bytes(void)
{
    unsigned major, minor;
    unsigned long long sectors = 0, v;
    char line[256];
    struct stat st;
    FILE *f = fopen("/proc/diskstats", "r");

    if (stat(dir, &st) < 0)
        die(dir);
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "%u %u %*s %*u %*u %*u %*u %*u %*u %llu", &major, &minor, &v) == 3 &&
            makedev(major, minor) == st.st_dev)
            sectors = v;
    if (f != NULL)
        fclose(f);
    return (double)sectors * 512;
}

/* How often this disk syncs 4 KiB of a file that is there already: what one client of one node could get at best. */
static double sync_rate(void)
{
    static char block[4096];
    char path[512];
    uint64_t began, n = 0;
    int fd;

    snprintf(path, sizeof path, "%s/sync", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(path);
    for (int i = 0; i < 1024; i++)
        if (write(fd, block, sizeof block) != sizeof block)
            die(path);
    fsync(fd);
    began = now_ns();
    while (now_ns() - began < SYNC_S * 1000000000ull) {
        if (pwrite(fd, block, sizeof block, (off_t)(n % 1024) * 4096) != sizeof block || fdatasync(fd) < 0)
            die(path);
        n++;
    }
    close(fd);
    unlink(path);
    return (double)n / ((double)(now_ns() - began) / 1e9);
}

static double frames_sent(void)
{
    double total = 0;

    for (unsigned i = 0; i < n_nodes; i++)
        total += (double)shared->seats[i].frames;
    return total;
}

static void measure(unsigned depth, double seconds)
{
    double syncs = sync_rate(), cpu, bytes, ops, frames;
    uint64_t give_up;

    wait_leader();
    frames = frames_sent();
    cpu = cpu_s();
    bytes = written_bytes();
    shared->depth = depth;
    shared->seconds = seconds;
    shared->order++;
    give_up = now_ns() + (uint64_t)((seconds + WAIT_S) * 1e9);
    while (shared->done != shared->order) {
        if (now_ns() > give_up) {
            fprintf(stderr, "raft: depth %u does not end\n", depth);
            exit(1);
        }
        pause_ms(1);
    }
    ops = (shared->ops + shared->reads) * seconds;
    printf("| %u | %u | %.0f | %.2f | %.2f | %.1f | %.2f | %.0f | %.2f |", n_nodes, depth, shared->ops,
           shared->p50_us / 1000, shared->p99_us / 1000, (cpu_s() - cpu) / ops * 1e6, (written_bytes() - bytes) / ops / 1000,
           syncs, shared->ops / syncs);
    pause_ms(20); /* the seats say how many frames there were */
    if (n_readers > 0)
        printf(" %u | %.0f | %.2f | %.2f | %.3f |", n_readers, shared->reads, shared->read_p50_us / 1000, shared->read_p99_us / 1000,
               (frames_sent() - frames) / ops);
    printf("\n");
    fflush(stdout);
}

static int compare_double(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void elections(unsigned count)
{
    double *took = calloc(count, sizeof *took);

    for (unsigned k = 0; k < count; k++) {
        unsigned old = wait_leader();
        uint64_t killed, give_up, term = shared->seats[old].term, led = 0;

        pause_ms(200 + k * 7 % 100); /* any moment between two heartbeats */
        old = wait_leader();
        term = shared->seats[old].term;
        killed = now_ns();
        kill(shared->seats[old].pid, SIGKILL);
        give_up = killed + WAIT_S * 1000000000ull;
        while (led == 0 && now_ns() < give_up) {
            for (unsigned i = 0; i < n_nodes; i++)
                if (i != old && shared->seats[i].term > term && shared->seats[i].led_ns > killed)
                    led = shared->seats[i].led_ns;
            pause_ms(1);
        }
        if (led == 0) {
            fprintf(stderr, "raft: no new leader within %d s\n", WAIT_S);
            exit(1);
        }
        took[k] = (double)(led - killed) / 1e6;
        waitpid(shared->seats[old].pid, NULL, 0);
        start_node(old);
    }
    qsort(took, count, sizeof *took, compare_double);
    printf("new leader after kill -9, %u times: median %.0f ms = %.2f election timeouts of %d ms; p90 %.0f ms, longest %.0f ms\n",
           count, took[count / 2], took[count / 2] / ELECTION_MS, ELECTION_MS, took[count * 9 / 10], took[count - 1]);
    free(took);
}

int main(int argc, char **argv)
{
    static const unsigned depths[] = {1, 16, 64, 256, 1024};
    double seconds = argc > 3 ? atof(argv[3]) : 5;
    unsigned count = argc > 4 ? (unsigned)atoi(argv[4]) : 0;

    if (argc < 2) {
        fprintf(stderr, "usage: raft DIR [nodes] [seconds] [elections] [readers]\n");
        return 2;
    }
    dir = argv[1];
    first_port = 21000 + (unsigned)getpid() % 10000;
    if (argc > 2)
        n_nodes = (unsigned)atoi(argv[2]);
    n_readers = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
    if (n_nodes < 1 || n_nodes > MAX_NODES || n_readers > MAX_DEPTH)
        return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    for (unsigned i = 0; i < n_nodes; i++)
        start_node(i);
    for (size_t i = 0; seconds > 0 && i < sizeof depths / sizeof depths[0]; i++)
        measure(depths[i], seconds);
    if (count > 0 && n_nodes > 1)
        elections(count);
    for (unsigned i = 0; i < n_nodes; i++) {
        kill(shared->seats[i].pid, SIGKILL);
        waitpid(shared->seats[i].pid, NULL, 0);
    }
    return 0;
}
