/* store_fixture.h - a store in a temporary directory, and short ways to drive it in tests. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store.h"
#include "tests/unit/temp_dir.h"

struct fixture {
    char dir[128], store_dir[144];
    struct store *store;
    struct arena arena;
    uint64_t index;  /* of the last entry */
    int64_t time_ns; /* of the next command */
};

static inline void fixture_open(struct fixture *f)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 1u << 30};

    assert_int_equal(0, store_open(f->store_dir, &options, &f->store));
}

static inline void fixture_begin(struct fixture *f)
{
    *f = (struct fixture){.time_ns = 1000};
    temp_dir(f->dir, sizeof(f->dir), "quorumfs-store");
    snprintf(f->store_dir, sizeof(f->store_dir), "%s/store", f->dir);
    arena_init(&f->arena);
    fixture_open(f);
}

static inline void fixture_end(struct fixture *f)
{
    static const char *const files[] = {"store/env.1/data.mdb", "store/env.1/lock.mdb", "store/CURRENT"};
    char path[192];

    store_close(f->store);
    arena_fini(&f->arena);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/env.1", f->store_dir);
    rmdir(path);
    rmdir(f->store_dir);
    assert_int_equal(0, rmdir(f->dir));
}

/* One entry with one command. */
static inline struct result fixture_apply(struct fixture *f, struct command cmd)
{
    struct store_batch *b;
    struct result result;
    bool fresh;

    if (cmd.time_ns == 0)
        cmd.time_ns = f->time_ns++;
    f->index++;
    assert_int_equal(0, store_batch_begin(f->store, &b));
    assert_int_equal(0, store_apply(b, f->index, 1, 0, &cmd, &f->arena, &result, &fresh));
    assert_true(fresh);
    assert_int_equal(0, store_batch_advance(b, f->index, 1));
    assert_int_equal(0, store_batch_commit(b));
    return result;
}

static inline struct slice S(const char *s)
{
    return slice_from_str(s);
}

static inline struct result fixture_put(struct fixture *f, const char *key, const char *value)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = {.key = S(key), .value = S(value)}});
}

static inline struct result fixture_delete(struct fixture *f, const char *key, struct slice end)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_DELETE_RANGE,
                                             .del = {.key = S(key), .range_end = end, .prev_kv = true}});
}

static inline struct range_result fixture_range(struct fixture *f, struct op_range op, uint16_t expected)
{
    struct range_result result = {0};
    struct store_read *r;
    uint16_t status;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_range(r, &op, &f->arena, 0, &result, &status));
    assert_int_equal(expected, status);
    for (size_t i = 0; i < result.n_kvs; i++) /* to outlive the snapshot */
        assert_int_equal(0, arena_copy(&f->arena, result.kvs[i].value, &result.kvs[i].value));
    store_read_end(r);
    return result;
}

#define assert_slice(text, s)                                                                                \
    do {                                                                                                     \
        struct slice slice_ = (s);                                                                           \
        assert_int_equal(strlen(text), slice_.len);                                                          \
        assert_memory_equal(text, slice_.data != NULL ? slice_.data : (const uint8_t *)"", slice_.len);      \
    } while (0)

#endif
