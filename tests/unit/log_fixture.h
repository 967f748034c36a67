/* log_fixture.h - a log on a disk in memory, and short ways to drive it in tests.
 *
 * Process: test programs.  Thread: one.  Errors: cmocka's assertions.  Memory: the tests free what they make.
 * Units:   bytes. */
#ifndef TESTS_UNIT_LOG_FIXTURE_H
#define TESTS_UNIT_LOG_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft/log.h"
#include "raft/log_record.h"
#include "tests/crash/disk_memory.c" /* in a folder of its own, for tests/crash and tests/fuzz too */

#define SEG1 "log/seg-0000000000000001"
#define SEG2 "log/seg-0000000000000002"
#define SMALL 16384

static const struct log_options options = {.segment_bytes = SMALL, .cache_bytes = 100, .cluster_id = 7};
static char text[512];

static inline struct log *must_open(struct disk_memory *m, const struct log_options *o)
{
    struct log *l = NULL;
    int rc = log_open(disk_memory_disk(m), "log", o, &l, text, sizeof(text));

    if (rc < 0)
        print_message("open: %d %s\n", rc, text);
    assert_int_equal(rc, 0);
    return l;
}

static inline int try_open(struct disk_memory *m)
{
    struct log *l = NULL;
    int rc = log_open(disk_memory_disk(m), "log", &options, &l, text, sizeof(text));

    if (rc == 0)
        log_close(l);
    return rc;
}

static inline int append(struct log *l, uint64_t term, const char *payload)
{
    struct log_entry e = {log_last_index(l) + 1, term, LOG_ENTRY_COMMANDS, slice_from_str(payload)};

    return log_append(l, &e, 1);
}

static inline void flush(struct log *l)
{
    uint64_t synced;

    assert_int_equal(log_flush(l, &synced), 0);
    assert_int_equal(log_flushed(l, synced), log_last_index(l));
}

static inline void expect(struct log *l, uint64_t index, uint64_t term, const char *payload)
{
    struct log_entry e;
    struct arena arena;

    arena_init(&arena);
    assert_int_equal(log_get(l, index, &arena, &e), 0);
    assert_int_equal(e.index, index);
    assert_int_equal(e.term, term);
    assert_int_equal(log_term_at(l, index), term);
    assert_int_equal(e.type, LOG_ENTRY_COMMANDS);
    assert_true(slice_equal(e.payload, slice_from_str(payload)));
    arena_fini(&arena);
}

#endif
