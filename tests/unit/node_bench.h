/* node_bench.h - one node by itself, the other members are the test: time, network and workers by hand; disk and store are
 * real, in a new directory.
 *
 * Process: test programs.  Thread: one.  Errors: cmocka's assertions.  Memory: bench_free() frees all.  Units: milliseconds. */
#ifndef TESTS_UNIT_NODE_BENCH_H
#define TESTS_UNIT_NODE_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/command.h"
#include "raft/node_state.h"
#include "raft/peer_frame.h"

#define MAX_SENT 4096
#define ELECTION_MS 1000

struct sent {
    uint64_t to;
    uint8_t type;
    struct bytes payload;
};

struct bench { /* a node on the bench */
    char dir[64], store_dir[80];
    struct disk real, disk; /* disk: the real one behind the faults */
    int sync_error, zero_error;
    uint64_t now, timer, random;
    struct work *work[WORK_QUEUES];
    bool idle; /* work may be done in line */
    struct sent sent[MAX_SENT];
    size_t n_sent;
    size_t unsent; /* that the network claims to hold for each peer */
    uint64_t unsent_only; /* for this one alone; 0: for all */
    unsigned protocol;    /* that the other members speak */
    struct node *node;
    char text[512];
    unsigned fatals, leaders, no_leaders, removals;
    uint64_t forgotten;
    unsigned fetches, replaced;
    struct fetch fetched; /* as last asked for */
    size_t n_peers; /* as last set */
    bool lax;       /* no strict check of changes of membership */
    int fatal_error;
    char fatal_text[512];
    int64_t revision;
    struct compactor_options compaction;
    int64_t quota_bytes;
};

/* ---- the tables ---- */

static inline uint64_t now_ms(void *ctx)
{
    return ((struct bench *)ctx)->now;
}

static inline int64_t wall_ns(void *ctx)
{
    return 1700000000000000000;
}

static inline uint64_t random_u64(void *ctx)
{
    struct bench *b = ctx;

    return b->random = b->random * 6364136223846793005u + 1442695040888963407u;
}

static inline void set_timer(void *ctx, uint64_t at_ms)
{
    ((struct bench *)ctx)->timer = at_ms;
}

static inline size_t unsent(void *ctx, uint64_t to)
{
    const struct bench *b = ctx;

    return b->unsent_only == 0 || b->unsent_only == to ? b->unsent : 0;
}

static inline unsigned protocol(void *ctx, uint64_t to)
{
    const struct bench *b = ctx;

    return b->protocol;
}

static inline void send_frame(void *ctx, uint64_t to, uint8_t type, struct slice payload)
{
    struct bench *b = ctx;
    struct sent *s = &b->sent[b->n_sent++ % MAX_SENT];

    bytes_fini(&s->payload);
    *s = (struct sent){.to = to, .type = type};
    bytes_append(&s->payload, payload);
}

static inline void set_peers(void *ctx, const uint64_t *ids, const char *const *urls, size_t n)
{
    ((struct bench *)ctx)->n_peers = n;
}

static inline void push_out(void *ctx)
{
}

static inline void forget(void *ctx, uint64_t id)
{
    ((struct bench *)ctx)->forgotten = id;
}

static inline void fetch(void *ctx, const struct fetch *f)
{
    struct bench *b = ctx;

    b->fetches++;
    b->fetched = *f;
}

static inline void fetch_end(void *ctx)
{
}

static inline void on_replaced(void *ctx)
{
    ((struct bench *)ctx)->replaced++;
}

static inline void on_removed(void *ctx, const char *text)
{
    ((struct bench *)ctx)->removals++;
}

static inline void submit(void *ctx, enum work_queue queue, struct work *w)
{
    struct bench *b = ctx;

    assert_null(b->work[queue]);
    b->work[queue] = w;
}

static inline bool idle(void *ctx, enum work_queue queue)
{
    struct bench *b = ctx;

    return b->idle && b->work[queue] == NULL;
}

static inline void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    ((struct bench *)ctx)->revision = revision;
}

static inline void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct bench *b = ctx;

    b->leaders += leader != 0;
    b->no_leaders += leader == 0;
}

static inline void on_fatal(void *ctx, int error, const char *text)
{
    struct bench *b = ctx;

    b->fatals++;
    b->fatal_error = error;
    snprintf(b->fatal_text, sizeof b->fatal_text, "%s", text);
}

static inline int faulty_sync(void *ctx, struct disk_file *f)
{
    struct bench *b = ctx;

    return b->sync_error != 0 ? b->sync_error : b->real.sync(b->real.ctx, f);
}

static inline int faulty_zero(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len)
{
    struct bench *b = ctx;

    return b->zero_error != 0 ? b->zero_error : b->real.zero(b->real.ctx, f, offset, len);
}

#define PASS(name, parameters, ...)                            \
    static inline int pass_##name parameters                         \
    {                                                          \
        struct bench *b = ctx;                                 \
        return b->real.name(b->real.ctx, __VA_ARGS__);         \
    }
PASS(open, (void *ctx, const char *path, unsigned flags, struct disk_file **ret_file), path, flags, ret_file)
PASS(size, (void *ctx, struct disk_file *f, uint64_t *ret_bytes), f, ret_bytes)
PASS(read, (void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len), f, offset, buf, len,
     ret_len)
PASS(write, (void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len), f, offset, buf, len)
PASS(truncate, (void *ctx, struct disk_file *f, uint64_t len), f, len)
PASS(rename, (void *ctx, const char *from, const char *to), from, to)
PASS(remove, (void *ctx, const char *path), path)
PASS(mkdir, (void *ctx, const char *path), path)
PASS(sync_dir, (void *ctx, const char *path), path)
PASS(list, (void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg), path, fn, arg)

static inline void pass_close(void *ctx, struct disk_file *f)
{
    struct bench *b = ctx;

    b->real.close(b->real.ctx, f);
}

/* ---- life ---- */

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    struct stat st;

    snprintf(b->dir, sizeof b->dir, "%s/test-node-XXXXXX", stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->store_dir, sizeof b->store_dir, "%s/store", b->dir);
    mkdir(b->store_dir, 0700);
    assert_int_equal(disk_posix_open(b->dir, &b->real), 0);
    b->disk = (struct disk){b, pass_open, pass_close, pass_size, pass_read, pass_write, faulty_zero, pass_truncate,
                            faulty_sync, pass_rename, pass_remove, pass_mkdir, pass_sync_dir, pass_list};
    b->now = 1000;
    b->random = 7;
    b->idle = true;
    b->protocol = PEER_PROTOCOL;
    return b;
}

/* Member 1 of so many. */
static inline int bench_open(struct bench *b, unsigned members)
{
    static const struct node_member all[3] = {
        {.id = 3, .name = "c", .peer_url = "c:1", .voter = true},
        {.id = 1, .name = "a", .peer_url = "a:1", .voter = true},
        {.id = 2, .name = "b", .peer_url = "b:1", .voter = true},
    };
    struct node_config config = {.id = 1, .cluster_id = 9, .lax_reconfig = b->lax, .name = "a", .members = members == 1 ? all + 1 : all,
                                 .n_members = members, .heartbeat_ms = 100, .election_ms = ELECTION_MS,
                                 .store_dir = b->store_dir, .store_flags = STORE_NOSYNC,
                                 .store_map_bytes = (size_t)1 << 30,
                                 .compaction = b->compaction, .quota_bytes = b->quota_bytes};
    struct clock clock = {b, now_ms, wall_ns, random_u64, set_timer};
    struct network network = {b, send_frame, set_peers, push_out, forget, fetch, fetch_end, unsent, protocol};
    struct workers workers = {b, submit, idle};
    struct node_callbacks callbacks = {b, on_revision, on_leader, on_fatal, on_removed, on_replaced, NULL};

    return node_open(&config, &b->disk, &clock, &network, &workers, &callbacks, &b->node, b->text, sizeof b->text);
}

static inline struct bench *bench_start(unsigned members)
{
    struct bench *b = bench_new();

    assert_int_equal(bench_open(b, members), 0);
    assert_int_equal(node_start(b->node), 0);
    return b;
}

static inline void bench_free(struct bench *b)
{
    node_close(b->node);
    disk_posix_close(&b->real);
    for (size_t i = 0; i < MAX_SENT; i++)
        bytes_fini(&b->sent[i].payload);
    remove_tree(b->dir);
    free(b);
}

/* Does what is due: work, then the timer, until this moment is over. */
static inline void settle(struct bench *b)
{
    for (bool more = true; more;) {
        more = false;
        for (int q = 0; q < WORK_QUEUES; q++) {
            struct work *w = b->work[q];

            if (w == NULL)
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

static inline void pass_time(struct bench *b, uint64_t ms)
{
    for (uint64_t end = b->now + ms; b->now < end;) {
        b->now = b->timer > b->now && b->timer < end ? b->timer : end;
        settle(b);
    }
}

static inline const struct sent *last_sent(const struct bench *b, uint8_t type)
{
    for (size_t i = b->n_sent; i-- > 0 && b->n_sent - i < MAX_SENT;)
        if (b->sent[i % MAX_SENT].type == type)
            return &b->sent[i % MAX_SENT];
    return NULL;
}

static inline size_t count_sent(const struct bench *b, uint8_t type)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n_sent && i < MAX_SENT; i++)
        n += b->sent[i].type == type;
    return n;
}

/* ---- the other members ---- */

static inline int from_peer(struct bench *b, const struct peer_message *m)
{
    struct bytes out = {0};
    int rc;

    peer_message_encode(m, &out);
    rc = node_receive(b->node, m->peer, (uint8_t)m->type, bytes_slice(&out));
    bytes_fini(&out);
    settle(b);
    return rc;
}

/* A follower has all that this leader has. */
static inline void has_all(struct bench *b, uint64_t peer)
{
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = peer};
    struct node_status s;

    node_status(b->node, &s);
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index, 0};
    from_peer(b, &heard);
}

static inline int append_from(struct bench *b, uint64_t leader, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                       struct log_entry *entries, size_t n)
{
    struct peer_message m = {.type = PEER_APPEND, .peer = leader};

    m.append = (struct peer_append){term, prev, prev_term, commit, entries, n, 0};
    return from_peer(b, &m);
}

static inline void elect(struct bench *b)
{
    struct peer_message vote = {.type = PEER_VOTE_RESULT, .peer = 2};
    struct peer_message heard = {.type = PEER_APPEND_RESULT, .peer = 2};
    struct node_status s;

    for (int i = 0; i < 100; i++) {
        node_status(b->node, &s);
        if (s.is_leader)
            break;
        pass_time(b, 100);
        vote.vote_result = (struct peer_vote_result){s.term + 1, true, true};
        from_peer(b, &vote);
        vote.vote_result = (struct peer_vote_result){s.term + 1, true, false};
        from_peer(b, &vote);
    }
    node_status(b->node, &s);
    assert_true(s.is_leader);
    heard.append_result = (struct peer_append_result){s.term, 0, s.last_index, 0}; /* its first entry commits */
    from_peer(b, &heard);
}

/* ---- requests ---- */

struct put {
    struct node_proposal p;
    unsigned ended;
    uint16_t status;
    int64_t revision;
};

static inline void put_done(struct node_proposal *p, uint16_t status, int64_t revision, struct slice body)
{
    struct put *put = LIST_ITEM(p, struct put, p);

    put->ended++;
    put->status = status;
    put->revision = revision;
}

static inline uint8_t *encode_put(size_t value_bytes, uint64_t origin, size_t *ret_len)
{
    struct command cmd = {.kind = COMMAND_PUT, .origin = origin};
    struct bytes value = {0}, out = {0};

    if (value_bytes > 0)
        memset(bytes_grow(&value, value_bytes), 'v', value_bytes);
    cmd.put.key = slice_from_str("key");
    cmd.put.value = bytes_slice(&value);
    command_encode(&cmd, &out);
    bytes_fini(&value);
    return bytes_take(&out, ret_len);
}

static inline void propose(struct bench *b, struct put *put, size_t value_bytes)
{
    memset(put, 0, sizeof *put);
    put->p.take_command = encode_put(value_bytes, 0, &put->p.command_len);
    put->p.done = put_done;
    node_propose(b->node, &put->p);
    assert_int_equal(put->ended, 0); /* never from within */
}

struct wait {
    struct node_barrier b;
    unsigned ended;
    uint16_t status;
};

static inline void wait_done(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct wait *w = LIST_ITEM(b, struct wait, b);

    w->ended++;
    w->status = status;
}

static inline void barrier(struct bench *b, struct wait *w)
{
    memset(w, 0, sizeof *w);
    w->b.done = wait_done;
    node_barrier(b->node, &w->b);
    assert_int_equal(w->ended, 0);
}

#endif
