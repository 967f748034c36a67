/* A node and its checkpoints: when one is written, what the log gives up then and what it does not, what a start makes of
 * them, and another store in place of the one that runs. Time and workers are by hand, disk and store are real.
 *
 * wrap: fsync statvfs */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/command.h"
#include "raft/checkpoint.h"
#include "tests/unit/temp_dir.h"

struct bench {
    char dir[80], store_dir[96];
    struct disk disk;
    uint64_t now, timer, random;
    struct work *work[WORK_QUEUES];
    bool hold[WORK_QUEUES]; /* what is out stays out */
    struct node *node;
    char text[512];
    unsigned fatals;
    char fatal_text[512];
    uint64_t epoch;
    int64_t revision;
    uint64_t catchup, reader_timeout;
    unsigned stuck;
    int stuck_pid;
};

static int sync_error;
static uint64_t free_bytes;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    errno = sync_error;
    return sync_error != 0 ? -1 : __real_fsync(fd);
}

int __real_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st);
int __wrap_statvfs(const char *path, struct statvfs *st)
{
    int rc = __real_statvfs(path, st);

    if (free_bytes != 0)
        st->f_bavail = free_bytes / st->f_frsize;
    return rc;
}

/* ---- the tables ---- */

static uint64_t now_ms(void *ctx)
{
    return ((struct bench *)ctx)->now;
}

static int64_t wall_ns(void *ctx)
{
    return 1700000000000000000;
}

static uint64_t random_u64(void *ctx)
{
    struct bench *b = ctx;

    return b->random = b->random * 6364136223846793005u + 1442695040888963407u;
}

static void set_timer(void *ctx, uint64_t at_ms)
{
    ((struct bench *)ctx)->timer = at_ms;
}

static void send_frame(void *ctx, uint64_t to, uint8_t type, struct slice payload)
{
}

static void set_peers(void *ctx, const uint64_t *ids, const char *const *urls, size_t n)
{
}

static void push_out(void *ctx)
{
}

static void forget(void *ctx, uint64_t id)
{
}

static void submit(void *ctx, enum work_queue queue, struct work *w)
{
    struct bench *b = ctx;

    assert_null(b->work[queue]);
    b->work[queue] = w;
}

static bool idle(void *ctx, enum work_queue queue)
{
    return false;
}

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct bench *b = ctx;

    assert_true(epoch > b->epoch || (epoch == b->epoch && revision > b->revision));
    assert_true(revision >= b->revision); /* also across epochs */
    b->epoch = epoch;
    b->revision = revision;
}

static void on_fatal(void *ctx, int error, const char *text)
{
    struct bench *b = ctx;

    b->fatals++;
    snprintf(b->fatal_text, sizeof b->fatal_text, "%s", text);
}

static void on_stuck_reader(void *ctx, int pid)
{
    struct bench *b = ctx;

    b->stuck++;
    b->stuck_pid = pid;
}

/* ---- life ---- */

static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);

    sync_error = 0;
    free_bytes = 0;
    temp_dir(b->dir, sizeof b->dir, "test-node-checkpoint");
    snprintf(b->store_dir, sizeof b->store_dir, "%s/store", b->dir);
    mkdir(b->store_dir, 0700);
    assert_int_equal(disk_posix_open(b->dir, &b->disk), 0);
    b->now = 1000;
    b->random = 7;
    return b;
}

static int bench_open(struct bench *b)
{
    static const struct node_member self = {.id = 1, .name = "a", .peer_url = "a:1", .voter = true};
    struct node_config config = {
        .id = 1, .cluster_id = 9, .name = "a", .members = &self, .n_members = 1, .heartbeat_ms = 100,
        .election_ms = 1000, .store_dir = b->store_dir, .store_flags = STORE_UNSYNCED,
        .store_map_bytes = (size_t)1 << 30, .log_segment_bytes = 64 << 10, .log_cache_bytes = 64 << 10,
        .checkpoint_bytes = 256 << 10, .catchup_entries = b->catchup,
        .reader_timeout_ms = b->reader_timeout};
    struct clock clock = {b, now_ms, wall_ns, random_u64, set_timer};
    struct network network = {.ctx = b, .send = send_frame, .set_peers = set_peers, .push_out = push_out, .forget = forget};
    struct workers workers = {b, submit, idle};
    struct node_callbacks callbacks = {.ctx = b, .on_revision = on_revision, .on_fatal = on_fatal,
                                       .on_stuck_reader = on_stuck_reader};

    b->epoch = 0;
    b->revision = 0;
    return node_open(&config, &b->disk, &clock, &network, &workers, &callbacks, &b->node, b->text, sizeof b->text);
}

static void settle(struct bench *b)
{
    for (bool more = true; more;) {
        more = false;
        for (int q = 0; q < WORK_QUEUES; q++) {
            struct work *w = b->work[q];

            if (w == NULL || b->hold[q])
                continue;
            b->work[q] = NULL;
            w->run(w);
            w->done(w);
            more = true;
        }
        if (b->timer != 0 && b->timer <= b->now) {
            b->timer = 0;
            node_timer(b->node);
            more = true;
        }
    }
}

static void pass_time(struct bench *b, uint64_t ms)
{
    for (uint64_t end = b->now + ms; b->now < end;) {
        b->now = b->timer > b->now && b->timer < end ? b->timer : end;
        settle(b);
    }
}

static void start(struct bench *b)
{
    int rc = bench_open(b);

    if (rc < 0)
        fail_msg("node_open: %s", b->text);
    assert_int_equal(0, node_start(b->node));
    settle(b);
}

static void bench_close(struct bench *b)
{
    node_close(b->node);
    b->node = NULL;
    b->timer = 0;
}

static void bench_free(struct bench *b)
{
    char command[128];

    node_close(b->node);
    disk_posix_close(&b->disk);
    snprintf(command, sizeof command, "rm -rf '%s'", b->dir);
    assert_int_equal(0, system(command));
    free(b);
}

/* The machine goes down: nothing of the environment is believed. */
static void lose_environment(struct bench *b)
{
    char path[128];

    bench_close(b);
    snprintf(path, sizeof path, "%s/RUN", b->store_dir);
    assert_int_equal(0, unlink(path));
}

/* ---- requests ---- */

struct put {
    struct node_proposal p;
    unsigned ended;
};

static void put_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct put *put = LIST_ITEM(p, struct put, p);

    assert_int_equal(STATUS_OK, status);
    put->ended++;
}

static void propose(struct bench *b, struct put *put, unsigned key, unsigned value, size_t len)
{
    struct command cmd = {.kind = COMMAND_PUT};
    char name[32], *text = calloc(1, len + 32);
    struct bytes out = {0};

    snprintf(name, sizeof name, "/k/%06u", key);
    snprintf(text, 32, "%010u", value);
    memset(text + 10, 'v', len);
    cmd.put.key = slice_from_str(name);
    cmd.put.value = slice_make(text, len + 10);
    memset(put, 0, sizeof *put);
    command_encode(&cmd, &out);
    put->p.take_command = bytes_take(&out, &put->p.command_len);
    put->p.done = put_done;
    node_propose(b->node, &put->p);
    free(text);
}

static void put_one(struct bench *b, unsigned key, unsigned value, size_t len)
{
    struct put put;

    propose(b, &put, key, value, len);
    settle(b);
    assert_int_equal(1, put.ended);
}

static void put_many(struct bench *b, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        put_one(b, i, i, 1000);
}

static void check_value(struct bench *b, unsigned key, unsigned value)
{
    struct store_read *r;
    struct arena arena;
    struct slice s;
    char name[32], text[16];

    snprintf(name, sizeof name, "/k/%06u", key);
    snprintf(text, sizeof text, "%010u", value);
    arena_init(&arena);
    assert_int_equal(0, store_read_begin(node_store(b->node), &r));
    assert_int_equal(0, store_value(r, slice_from_str(name), &arena, &s));
    assert_true(s.len >= 10);
    assert_memory_equal(text, s.data, 10);
    store_read_end(r);
    arena_fini(&arena);
}

static void check_values(struct bench *b, unsigned to)
{
    for (unsigned i = 0; i < to; i++)
        check_value(b, i, i);
}

struct order {
    struct node_maintain m;
    unsigned ended;
    uint16_t status;
    uint64_t index;
    char path[256];
};

static void order_done(struct node_maintain *m, uint16_t status, uint64_t index, const char *path)
{
    struct order *o = LIST_ITEM(m, struct order, m);

    o->ended++;
    o->status = status;
    o->index = index;
    snprintf(o->path, sizeof o->path, "%s", path);
}

static void order(struct bench *b, struct order *o, uint8_t op)
{
    memset(o, 0, sizeof *o);
    o->m.op = op;
    o->m.done = order_done;
    node_maintain(b->node, &o->m);
    assert_int_equal(0, o->ended);
}

static struct node_status status_of(struct bench *b)
{
    struct node_status s;

    node_status(b->node, &s);
    return s;
}

/* ---- when, and what follows ---- */

static void the_log_is_trimmed_behind_a_checkpoint_alone(void **state)
{
    struct bench *b = bench_new();
    struct node_status s;

    b->catchup = 50;
    start(b);
    b->hold[WORK_CHECKPOINT] = true;
    put_many(b, 0, 1000); /* 1 MB: three times what is enough */
    s = status_of(b);
    assert_true(s.checkpoint.running);
    assert_int_equal(1, s.log_first_index); /* it is due, and not yet there */
    b->hold[WORK_CHECKPOINT] = false;
    settle(b);
    s = status_of(b);
    assert_int_equal(1, s.checkpoint.made >= 1);
    assert_true(s.log_first_index > 700); /* by whole segments of 64 KiB */
    assert_true(s.log_first_index <= s.checkpoint.index - 50 + 1);
    put_many(b, 1000, 3000);
    s = status_of(b);
    assert_true(s.checkpoint.made >= 2);
    assert_true(s.last_index - s.log_first_index < 2100);
    check_values(b, 3000);
    lose_environment(b);
    start(b);
    assert_int_equal(2, status_of(b).epoch);
    check_values(b, 3000);
    bench_free(b);
}

static void publish(struct bench *b, uint32_t version)
{
    struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH,
                          .member = {.id = b->node->config.id, .name = slice_from_str("m"), .version = version}};
    struct bytes out = {0};
    struct put put = {.p.done = put_done};

    command_encode(&cmd, &out);
    put.p.take_command = bytes_take(&out, &put.p.command_len);
    node_propose(b->node, &put.p);
    settle(b);
    assert_int_equal(1, put.ended);
}

/* It could not be given a file instead. */
static void the_log_stays_whole_for_a_member_of_the_first_version(void **state)
{
    struct bench *b = bench_new();
    struct node_status s;

    b->catchup = 50;
    start(b);
    publish(b, 0);
    put_many(b, 0, 1500);
    s = status_of(b);
    assert_true(s.checkpoint.made >= 1);
    assert_int_equal(1, s.log_first_index);
    publish(b, APPLY_VERSION);
    put_many(b, 1500, 3000);
    s = status_of(b);
    assert_true(s.log_first_index > 700);
    bench_free(b);
}

static void without_room_the_log_grows(void **state)
{
    struct bench *b = bench_new();
    struct node_status s;

    start(b);
    free_bytes = CHECKPOINT_LEAVE_BYTES;
    put_many(b, 0, 1000);
    s = status_of(b);
    assert_int_equal(0, s.checkpoint.made);
    assert_int_equal(1, s.checkpoint.failed); /* it is not tried again with every entry */
    assert_int_equal(-ENOSPC, s.checkpoint.error);
    assert_int_equal(1, s.log_first_index);
    assert_int_equal(0, b->fatals);
    pass_time(b, 2 * CHECKPOINT_RETRY_MS);
    assert_int_equal(3, status_of(b).checkpoint.failed);
    free_bytes = 0;
    pass_time(b, CHECKPOINT_RETRY_MS);
    s = status_of(b);
    assert_int_equal(1, s.checkpoint.made);
    assert_int_equal(0, s.checkpoint.error);
    assert_true(s.log_first_index > 700);
    bench_free(b);
}

static void a_failed_sync_of_a_checkpoint_stops_the_node_and_trims_nothing(void **state)
{
    struct bench *b = bench_new();
    struct order o;

    start(b);
    put_many(b, 0, 100);
    order(b, &o, SOCKET_MAINTAIN_CHECKPOINT);
    sync_error = EIO;
    settle(b);
    assert_int_equal(1, b->fatals);
    assert_non_null(strstr(b->fatal_text, "checkpoint"));
    assert_int_equal(1, log_first_index(b->node->log));
    sync_error = 0;
    bench_close(b);
    assert_int_equal(STATUS_STOPPED, o.status);
    start(b);
    check_values(b, 100);
    bench_free(b);
}

static void one_is_written_on_demand(void **state)
{
    struct bench *b = bench_new();
    struct checkpoint_info info;
    struct order o[3];

    start(b);
    put_many(b, 0, 10);
    for (int i = 0; i < 3; i++)
        order(b, &o[i], SOCKET_MAINTAIN_CHECKPOINT);
    settle(b);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(1, o[i].ended);
        assert_int_equal(STATUS_OK, o[i].status);
        assert_int_equal(status_of(b).applied_index, o[i].index);
    }
    assert_int_equal(0, checkpoint_verify(o[0].path, &info));
    assert_int_equal(o[0].index, info.applied_index);
    assert_int_equal(1, status_of(b).checkpoint.made); /* one for all three */
    assert_true(info.membership_index > 0);
    order(b, &o[0], SOCKET_MAINTAIN_CHECKPOINT);
    free_bytes = CHECKPOINT_LEAVE_BYTES;
    settle(b);
    assert_int_equal(STATUS_DISK_FULL, o[0].status);
    free_bytes = 0;
    order(b, &o[0], SOCKET_MAINTAIN_CHECKPOINT);
    bench_close(b);
    assert_int_equal(STATUS_STOPPED, o[0].status);
    bench_free(b);
}

static void a_planned_stop_leaves_one(void **state)
{
    struct bench *b = bench_new();
    struct checkpoint_info info;
    uint64_t applied;

    start(b);
    put_many(b, 0, 10);
    applied = status_of(b).applied_index;
    node_prepare_stop(b->node);
    assert_false(node_is_idle(b->node));
    settle(b);
    assert_true(node_is_idle(b->node));
    bench_close(b);
    assert_int_equal(0, checkpoint_latest(b->store_dir, &info));
    assert_int_equal(applied, info.applied_index);
    start(b);
    settle(b);
    assert_int_equal(1, status_of(b).epoch); /* the environment is as good */
    bench_free(b);
}

/* ---- a start ---- */

static void a_start_without_any_way_back_is_refused(void **state)
{
    struct bench *b = bench_new();
    struct order o;
    int fd;

    start(b);
    put_many(b, 0, 1000);
    order(b, &o, SOCKET_MAINTAIN_CHECKPOINT);
    settle(b);
    put_many(b, 1000, 1100);
    assert_true(status_of(b).log_first_index > 700);
    lose_environment(b);
    fd = open(o.path, O_RDWR, 0);
    assert_int_equal(4, pwrite(fd, "dead", 4, 9000));
    assert_int_equal(-ENODATA, bench_open(b)); /* the older one is too old for this log */
    assert_non_null(strstr(b->text, "checkpoint"));
    assert_non_null(strstr(b->text, "remove the member"));
    close(fd);
    bench_free(b);
}

static void the_older_one_serves_while_the_log_reaches_it(void **state)
{
    struct bench *b = bench_new();
    struct order o[2];
    int fd;

    b->catchup = 1000;
    start(b);
    put_many(b, 0, 100);
    order(b, &o[0], SOCKET_MAINTAIN_CHECKPOINT);
    settle(b);
    put_many(b, 100, 200);
    order(b, &o[1], SOCKET_MAINTAIN_CHECKPOINT);
    settle(b);
    put_many(b, 200, 300);
    lose_environment(b);
    fd = open(o[1].path, O_RDWR, 0);
    assert_int_equal(4, pwrite(fd, "dead", 4, 9000));
    close(fd);
    start(b);
    check_values(b, 300);
    assert_int_equal(301, b->revision != 0 ? b->revision : status_of(b).revision);
    bench_free(b);
}

/* ---- another store in place ---- */

static void a_defragmented_store_takes_over(void **state)
{
    struct bench *b = bench_new();
    struct store_read *r;
    struct store_meta before, after;
    struct order o;

    start(b);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 200; i++)
            put_one(b, i, i, 5000);
    assert_int_equal(0, store_read_begin(node_store(b->node), &r));
    assert_int_equal(0, store_read_meta(r, &before));
    store_read_end(r);
    order(b, &o, SOCKET_MAINTAIN_DEFRAGMENT);
    settle(b);
    assert_int_equal(1, o.ended);
    assert_int_equal(STATUS_OK, o.status);
    assert_int_equal(2, b->epoch);
    assert_int_equal(before.revision, b->revision);
    assert_int_equal(0, store_read_begin(node_store(b->node), &r));
    assert_int_equal(0, store_read_meta(r, &after));
    assert_int_equal(before.applied_index, after.applied_index);
    assert_int_equal(before.revision, after.revision);
    assert_true(after.db_bytes < before.db_bytes);
    store_read_end(r);
    check_values(b, 200);
    put_many(b, 200, 300);
    bench_close(b);
    start(b); /* trusted: its mark and its sync are its own */
    assert_int_equal(2, status_of(b).epoch);
    check_values(b, 300);
    lose_environment(b);
    start(b);
    assert_int_equal(3, status_of(b).epoch);
    check_values(b, 300);
    bench_free(b);
}

static void entries_applied_meanwhile_are_in_the_new_store(void **state)
{
    struct bench *b = bench_new();
    struct put put[2];
    struct order o;
    unsigned key = 100, steps = 0;

    start(b);
    put_many(b, 0, 100);
    order(b, &o, SOCKET_MAINTAIN_DEFRAGMENT);
    b->hold[WORK_CHECKPOINT] = true;
    while (o.ended == 0 && steps++ < 20) {
        struct work *w;

        settle(b);
        w = b->work[WORK_CHECKPOINT];
        b->work[WORK_CHECKPOINT] = NULL;
        if (w == NULL)
            continue;
        w->run(w);
        if (!b->node->apply_held)
            for (unsigned i = 0; i < (steps < 3 ? 700 : 5); i++, key++) /* more than may be held, then fewer */
                put_one(b, key, key, 10);
        w->done(w);
    }
    assert_int_equal(STATUS_OK, o.status);
    assert_true(key > 1000);
    assert_int_equal(2, b->epoch);
    b->hold[WORK_CHECKPOINT] = false;
    propose(b, &put[0], key, key, 10);
    settle(b);
    assert_int_equal(1, put[0].ended);
    check_values(b, key + 1);
    assert_int_equal((int64_t)key + 2, b->revision);
    bench_free(b);
}

/* A job of applies is out when the rest is to be done: it comes first. */
static void applies_that_are_out_come_first(void **state)
{
    struct bench *b = bench_new();
    struct put put[2];
    struct order o;

    start(b);
    put_many(b, 0, 100);
    order(b, &o, SOCKET_MAINTAIN_DEFRAGMENT);
    b->hold[WORK_APPLY] = true;
    propose(b, &put[0], 100, 100, 10);
    settle(b); /* until the swap waits for that job */
    assert_int_equal(0, o.ended);
    propose(b, &put[1], 101, 101, 10);
    settle(b);
    assert_int_equal(0, put[0].ended);
    b->hold[WORK_APPLY] = false;
    settle(b);
    assert_int_equal(1, o.ended);
    assert_int_equal(STATUS_OK, o.status);
    assert_int_equal(1, put[0].ended);
    assert_int_equal(1, put[1].ended);
    check_values(b, 102);
    bench_free(b);
}

static void a_defragmentation_without_room_changes_nothing(void **state)
{
    struct bench *b = bench_new();
    struct order o;

    start(b);
    put_many(b, 0, 100);
    order(b, &o, SOCKET_MAINTAIN_DEFRAGMENT);
    free_bytes = CHECKPOINT_LEAVE_BYTES;
    settle(b);
    assert_int_equal(STATUS_DISK_FULL, o.status);
    assert_int_equal(1, status_of(b).epoch);
    put_many(b, 100, 120);
    check_values(b, 120);
    free_bytes = 0;
    order(b, &o, SOCKET_MAINTAIN_DEFRAGMENT);
    settle(b);
    assert_int_equal(STATUS_OK, o.status);
    assert_int_equal(2, status_of(b).epoch);
    check_values(b, 120);
    bench_free(b);
}

/* Another member's state, installed over an older one: a start takes the epoch and everything else from it, and begins the log
 * anew. */
static void an_installed_checkpoint_is_what_a_start_finds(void **state)
{
    struct bench *from = bench_new(), *to = bench_new();
    struct checkpoint_info info;
    struct order o;
    uint64_t epoch;

    start(from);
    put_many(from, 0, 300);
    order(from, &o, SOCKET_MAINTAIN_CHECKPOINT);
    settle(from);
    start(to);
    put_many(to, 0, 10);
    assert_int_equal(0, checkpoint_adopt(to->store_dir, o.path, &info));
    assert_int_equal(0, checkpoint_install(to->store_dir, info.path, 9, &epoch));
    bench_close(to);
    start(to);
    assert_int_equal(2, status_of(to).epoch);
    assert_int_equal(301, status_of(to).revision);
    assert_int_equal(info.applied_index + 1, status_of(to).log_first_index);
    check_values(to, 300);
    put_many(to, 300, 310);
    lose_environment(to);
    start(to);
    check_values(to, 310);
    bench_free(to);
    bench_free(from);
}

/* ---- readers ---- */

/* A process with a snapshot of now, until it is killed. */
static pid_t hold_snapshot(struct bench *b)
{
    struct store_options options = {0};
    struct store_read *r;
    struct store *s;
    int ends[2];
    char byte;
    pid_t child;

    assert_int_equal(0, pipe(ends));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (store_open(b->store_dir, &options, &s) < 0 || store_read_begin(s, &r) < 0 || write(ends[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(1, read(ends[0], &byte, 1));
    close(ends[0]);
    close(ends[1]);
    return child;
}

static void a_reader_that_does_not_let_go_is_told_of(void **state)
{
    struct bench *b = bench_new();
    pid_t child;

    b->reader_timeout = 1000;
    start(b);
    put_one(b, 0, 0, 10);
    child = hold_snapshot(b);
    pass_time(b, 5000);
    assert_int_equal(0, status_of(b).readers_pinning); /* nothing was changed since: it holds nothing back */
    put_one(b, 1, 1, 10);
    pass_time(b, 600);
    assert_int_equal(1, status_of(b).readers_pinning);
    assert_true(status_of(b).oldest_reader_ms >= 1000);
    pass_time(b, 3000);
    assert_int_equal(1, b->stuck); /* once */
    assert_int_equal(child, b->stuck_pid);
    kill(child, SIGKILL);
    assert_int_equal(child, waitpid(child, NULL, 0));
    put_many(b, 0, 100); /* the writer clears slots of the dead */
    pass_time(b, 600);
    assert_int_equal(0, status_of(b).readers_pinning);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_does_not_let_go_is_told_of),
        cmocka_unit_test(the_log_is_trimmed_behind_a_checkpoint_alone),
        cmocka_unit_test(the_log_stays_whole_for_a_member_of_the_first_version),
        cmocka_unit_test(without_room_the_log_grows),
        cmocka_unit_test(a_failed_sync_of_a_checkpoint_stops_the_node_and_trims_nothing),
        cmocka_unit_test(one_is_written_on_demand),
        cmocka_unit_test(a_planned_stop_leaves_one),
        cmocka_unit_test(a_start_without_any_way_back_is_refused),
        cmocka_unit_test(the_older_one_serves_while_the_log_reaches_it),
        cmocka_unit_test(a_defragmented_store_takes_over),
        cmocka_unit_test(entries_applied_meanwhile_are_in_the_new_store),
        cmocka_unit_test(applies_that_are_out_come_first),
        cmocka_unit_test(a_defragmentation_without_room_changes_nothing),
        cmocka_unit_test(an_installed_checkpoint_is_what_a_start_finds),
    };

    return cmocka_run_group_tests_name("node_checkpoint", tests, NULL, NULL);
}
