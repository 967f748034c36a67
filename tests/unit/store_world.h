/* store_world.h - a store, its twin on another node and the naive model of both; random names and values; a command to all
 * three.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the world's arena, emptied after each operation.
 * Units: bytes. */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H

#include <sys/stat.h>

#include "tests/unit/store_fixture.h"
#include "tests/unit/store_model.h"

struct world {
    struct fixture f;
    struct fixture twin; /* another node: the same commands in other batches, so removal is elsewhere */
    struct model m;
    struct arena arena;  /* of the operation */
    uint64_t random;
    struct store_batch *batch;
    uint64_t requests, token; /* of locks: the last number and the highest token */
    bool trace;
};

/* ---- random things ---- */

static inline uint64_t next_random(struct world *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline size_t below(struct world *w, size_t n)
{
    return next_random(w) % n;
}

/* Few different components, so that names meet; some as long as a piece of a layer, about. */
static inline struct slice random_path(struct world *w)
{
    static const char *const short_ones[] = {"a", "b", "a.b", "a-", "", "c", "ab"};
    static const size_t long_ones[] = {499, 500, 501, 502, 503, 1003, 1004, 1005, 3000};
    uint8_t *p = arena_alloc(&w->arena, KEY_MAX_BYTES);
    size_t n = 0, parts = 1 + below(w, 4);

    if (below(w, 12) == 0)
        parts = 1; /* a bare key */
    else
        p[n++] = '/';
    for (size_t i = 0; i < parts; i++) {
        if (i > 0)
            p[n++] = '/';
        if (below(w, 10) == 0) {
            size_t len = long_ones[below(w, sizeof(long_ones) / sizeof(long_ones[0]))];

            memset(p + n, 'a', len);
            n += len;
            if (below(w, 2) == 0)
                p[n - 1] = (uint8_t)(below(w, 2) == 0 ? 0 : 0xff);
        } else {
            const char *s = short_ones[below(w, sizeof(short_ones) / sizeof(short_ones[0]))];

            memcpy(p + n, s, strlen(s));
            n += strlen(s);
        }
    }
    if (n == 0 || (n == 1 && p[0] == '/'))
        p[n++] = 'z';
    return slice_make(p, n);
}

/* Mostly one that is there. */
static inline struct slice random_key(struct world *w)
{
    if (w->m.n_keys > 0 && below(w, 3) != 0)
        return w->m.keys[below(w, w->m.n_keys)].key;
    return random_path(w);
}

static inline struct slice random_dir(struct world *w)
{
    struct slice key = random_key(w), parent;

    if (w->m.n_dirs > 0 && below(w, 2) == 0)
        return w->m.dirs[below(w, w->m.n_dirs)].path;
    return below(w, 3) != 0 && model_parent(key, &parent) ? parent : key;
}

static inline struct slice random_value(struct world *w)
{
    static const size_t sizes[] = {0, 1, 10, 64, 65, 66, 511, 512, 513, 1200, 1328, 1400, 4000, 20000};
    size_t len = sizes[below(w, sizeof(sizes) / sizeof(sizes[0]))];
    uint8_t *p = arena_alloc(&w->arena, len + 1);

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(next_random(w) >> 13);
    return slice_make(p, len);
}

/* One that the caller gets back at the prefix's end, now and then. */
static inline struct slice random_end(struct world *w, struct slice key)
{
    uint8_t *p;

    switch (below(w, 5)) {
    case 0:
        return slice_make(NULL, 0);
    case 1:
        return slice_make("", 1);
    case 2:
        p = arena_alloc(&w->arena, key.len + 1);
        memcpy(p, key.data, key.len);
        p[key.len] = '0';
        return slice_make(p, key.len + 1);
    default:
        return random_key(w);
    }
}

static inline bool one_in(struct world *w, size_t n)
{
    return below(w, n) == 0;
}

/* ---- a command ---- */

static inline void trace_slice(const char *name, struct slice s)
{
    if (s.len == 0)
        return;
    printf(" %s=", name);
    for (size_t i = 0; i < s.len && i < 24; i++)
        putchar(s.data[i] >= 32 && s.data[i] < 127 ? s.data[i] : '?');
    if (s.len > 24)
        printf("..(%zu)", s.len);
}

static inline void trace_command(const struct command *cmd, const struct result *r)
{
    printf("  kind %u", cmd->kind);
    if (cmd->kind == COMMAND_PUT) {
        trace_slice("key", cmd->put.key);
        printf(" lease=%lld%s%s", (long long)cmd->put.lease, cmd->put.ignore_value ? " ignore_value" : "",
               cmd->put.ignore_lease ? " ignore_lease" : "");
    } else if (cmd->kind == COMMAND_DELETE_RANGE) {
        trace_slice("key", cmd->del.key);
        trace_slice("end", cmd->del.range_end);
    } else if (cmd->kind >= COMMAND_FILE_LOCK) {
        printf(" ino=%llu owner=%llu kind=%d type=%d %llu-%llu%s%s request=%llu", (unsigned long long)cmd->lock.ino,
               (unsigned long long)cmd->lock.owner, cmd->lock.kind, cmd->lock.type, (unsigned long long)cmd->lock.start,
               (unsigned long long)cmd->lock.end, cmd->lock.wait ? " wait" : "", cmd->lock.all ? " all" : "",
               (unsigned long long)cmd->lock.request);
    } else if (cmd->kind >= COMMAND_FILE_WRITE) {
        trace_slice("path", cmd->file.path);
        trace_slice("path2", cmd->file.path2);
        printf(" flags=%x", cmd->file.flags);
    } else if (cmd->kind == COMMAND_COMPACT) {
        printf(" revision=%lld", (long long)cmd->compact.revision);
    } else if (cmd->kind != COMMAND_TXN) {
        printf(" id=%lld", (long long)cmd->lease.id);
    }
    printf(" -> %s revision %lld\n", status_name(r->status), (long long)r->revision);
    fflush(stdout);
}

static inline struct result apply(struct world *w, struct command cmd)
{
    struct result result;
    bool fresh;

    cmd.time_ns = w->f.time_ns++;
    cmd.origin = 3;
    w->f.index++;
    assert_int_equal(0, store_apply(w->batch, w->f.index, 1, 0, &cmd, &w->arena, &result, &fresh));
    assert_true(fresh);
    assert_int_equal(0, store_batch_advance(w->batch, w->f.index, 1));
    if (w->trace)
        trace_command(&cmd, &result);
    return result;
}

static inline struct result apply_to_both(struct world *w, struct command cmd)
{
    struct result result = apply(w, cmd), other;

    cmd.time_ns = w->f.time_ns - 1;
    cmd.origin = 3;
    w->twin.index = w->f.index - 1;
    other = fixture_apply(&w->twin, cmd);
    assert_int_equal(result.status, other.status);
    assert_int_equal(result.revision, other.revision);
    return result;
}

static inline void check_end(struct world *w, const struct result *r, uint16_t expected)
{
    model_end(&w->m);
    if (r->status != expected)
        fail_msg("status %d (%s), expected %d (%s)", r->status, status_text(r->status), expected,
                 status_text(expected));
    assert_int_equal(w->m.revision, r->revision);
}

/* ---- alarms, the quota ---- */

static inline uint64_t ops_cost(const struct op *ops, size_t n)
{
    uint64_t cost = 0;

    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == OP_PUT)
            cost += 256 + ops[i].put.key.len + ops[i].put.value.len;
        else if (ops[i].kind == OP_TXN) /* both sides of all are the same */
            cost += ops_cost(ops[i].txn->success, ops[i].txn->n_success);
    }
    return cost;
}

/* What the quota is asked about, and NOSPACE refuses if it is not 0; the commands of this test never make a file longer
 * by its size alone. */
static inline uint64_t cost_of(struct world *w, const struct command *cmd)
{
    switch (cmd->kind) {
    case COMMAND_PUT:
        return 256 + cmd->put.key.len + cmd->put.value.len;
    case COMMAND_LEASE_GRANT:
        return 64;
    case COMMAND_TXN:
        return ops_cost(cmd->txn.success, cmd->txn.n_success);
    case COMMAND_FILE_WRITE:
        if (cmd->file.value.len == 0 && model_live(&w->m, cmd->file.path) != NULL)
            return 0;
        return 256 + cmd->file.path.len + cmd->file.value.len;
    case COMMAND_FILE_APPEND:
    case COMMAND_FILE_MKDIR:
    case COMMAND_FILE_SETXATTR:
        return 256 + cmd->file.path.len + cmd->file.value.len;
    }
    return 0;
}

/* As the other node counts it, which has just committed. */
static inline uint64_t twin_bytes(struct world *w)
{
    struct store_meta meta;
    struct store_read *r;

    assert_int_equal(0, store_read_begin(w->twin.store, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    store_read_end(r);
    return meta.logical_bytes;
}

/* Runs the command if an alarm, the quota or its fence refuses it, and sees that nothing comes of it. */
static inline bool is_refused(struct world *w, const struct command *cmd)
{
    const bool goes_on = cmd->kind == COMMAND_ALARM || cmd->kind == COMMAND_LEASE_CHECKPOINT ||
                         cmd->kind == COMMAND_FILE_UNLOCK || cmd->kind == COMMAND_QUOTA_SET || cmd->kind == COMMAND_FILE_LOCK_CANCEL;
    const bool is_file = cmd->kind >= COMMAND_FILE_WRITE && cmd->kind <= COMMAND_FILE_REMOVEXATTR;
    uint16_t expected = STATUS_OK;
    struct result r;

    if (w->m.corrupt && !goes_on)
        expected = STATUS_CORRUPT;
    else if (cost_of(w, cmd) > 0 && (w->m.nospace || (w->m.quota > 0 && twin_bytes(w) + cost_of(w, cmd) > w->m.quota)))
        expected = STATUS_NO_SPACE;
    if (expected == STATUS_NO_SPACE)
        w->m.nospace = true; /* raised for member 3, the origin of all */
    if (expected == STATUS_OK && is_file && cmd->file.fence != 0 && model_lease(&w->m, cmd->file.fence) == NULL)
        expected = STATUS_FENCED;
    if (expected == STATUS_OK)
        return false;
    r = apply_to_both(w, *cmd);
    check_end(w, &r, expected);
    return true;
}

#endif
