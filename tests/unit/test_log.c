/* The log on a disk in memory: what survives a restart, what each failing call does, what a flush proves. SEED in the environment
 * replays the random test. */
#include "tests/unit/log_fixture.h"

/* ---- what survives ---- */

static void a_new_log_is_empty(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    struct log_entry e;
    uint64_t synced;

    assert_int_equal(log_first_index(l), 1);
    assert_int_equal(log_last_index(l), 0);
    assert_int_equal(log_synced_index(l), 0);
    assert_int_equal(log_term_at(l, 0), 0);
    assert_int_equal(log_get(l, 1, NULL, &e), -ENOENT);
    assert_int_equal(log_hard_state(l).term, 0);
    assert_false(log_pending(l));
    assert_int_equal(log_flush(l, &synced), 0);
    assert_int_equal(synced, 0);
    log_close(l);
    disk_memory_free(m);
}

static void what_was_flushed_is_there_after_a_restart_and_what_was_not_is_not(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);

    assert_int_equal(append(l, 1, "one"), 0);
    assert_int_equal(append(l, 1, ""), 0);
    assert_true(log_pending(l));
    assert_int_equal(log_synced_index(l), 0);
    flush(l);
    assert_false(log_pending(l));
    assert_int_equal(log_set_hard_state(l, (struct log_hard_state){4, 2}), 0);
    assert_int_equal(append(l, 3, "three"), 0);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_last_index(l), 2);
    assert_int_equal(log_synced_index(l), 2);
    expect(l, 1, 1, "one");
    expect(l, 2, 1, "");
    assert_int_equal(log_hard_state(l).term, 4);
    assert_int_equal(log_hard_state(l).voted_for, 2);
    assert_int_equal(append(l, 4, "three again"), 0);
    flush(l);
    log_close(l);
    l = must_open(m, &options);
    expect(l, 3, 4, "three again");
    log_close(l);
    disk_memory_free(m);
}

static void a_truncate_and_a_reset_are_durable_like_entries(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);

    for (int i = 0; i < 5; i++)
        assert_int_equal(append(l, 1, "old"), 0);
    flush(l);
    assert_int_equal(log_truncate(l, 3), 0);
    assert_int_equal(log_last_index(l), 2);
    assert_int_equal(log_synced_index(l), 2);
    assert_int_equal(append(l, 2, "new"), 0);
    flush(l);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_last_index(l), 3);
    expect(l, 2, 1, "old");
    expect(l, 3, 2, "new");
    assert_int_equal(log_truncate(l, 4), 0); /* nothing is there */
    assert_false(log_pending(l));
    assert_int_equal(log_truncate(l, 0), -EINVAL);

    assert_int_equal(log_reset(l, 100, 9), 0);
    assert_int_equal(log_first_index(l), 101);
    assert_int_equal(log_last_index(l), 100);
    assert_int_equal(log_term_at(l, 100), 9);
    assert_int_equal(log_term_at(l, 3), 0);
    assert_int_equal(append(l, 8, "a term that goes back"), -EINVAL);
    assert_int_equal(append(l, 9, "behind"), 0);
    flush(l);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_first_index(l), 101);
    assert_int_equal(log_term_at(l, 100), 9);
    expect(l, 101, 9, "behind");
    assert_int_equal(log_truncate(l, 100), -EINVAL);
    log_close(l);
    disk_memory_free(m);
}

static void entries_must_follow_on_and_limits_are_kept(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    struct log_entry e[3] = {{1, 1, 1, {0}}, {2, 1, 1, {0}}, {4, 1, 1, {0}}};

    assert_int_equal(log_append(l, e, 3), -EINVAL);
    assert_int_equal(log_last_index(l), 0);
    e[2].index = 3;
    e[2].payload = slice_make(text, LOG_PAYLOAD_MAX_BYTES + 1u);
    assert_int_equal(log_append(l, e, 3), -E2BIG);
    assert_false(log_pending(l));
    e[2].payload.len = 0;
    assert_int_equal(log_append(l, e, 3), 0);
    log_close(l);
    disk_memory_free(m);
}

static void more_than_the_limit_does_not_wait_for_a_flush(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log_options o = options;
    struct log *l;
    char payload[1000];
    uint64_t synced;

    o.waiting_bytes = 8192;
    l = must_open(m, &o);
    memset(payload, 'w', sizeof(payload));
    payload[999] = '\0';
    for (int i = 1; i <= 12; i++)
        assert_int_equal(append(l, 1, payload), i <= 7 ? 0 : -ENOBUFS);
    assert_int_equal(log_last_index(l), 7);
    assert_int_equal(log_truncate(l, 7), 0); /* that is never refused */
    disk_memory_faults(m)->fail_at = disk_memory_calls(m) + 1;
    disk_memory_faults(m)->fail_with = -ENOSPC;
    assert_int_equal(log_flush(l, &synced), -ENOSPC);
    assert_int_equal(append(l, 1, payload), -ENOBUFS);
    flush(l);
    assert_int_equal(append(l, 1, payload), 0);
    log_close(l);
    disk_memory_free(m);
}

static void segments_follow_each_other_and_old_entries_are_read_back(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    char payload[3000];
    size_t len;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 40; i++) {
            snprintf(payload, sizeof(payload), "%02999d", (int)log_last_index(l) + 1);
            assert_int_equal(append(l, 1 + (uint64_t)round, payload), 0);
            if (i % 3 == 0)
                flush(l);
        }
        flush(l);
        for (int i = 1; i <= (round + 1) * 40; i++) {
            snprintf(payload, sizeof(payload), "%02999d", i);
            expect(l, (uint64_t)i, i <= 40 ? 1 : 2, payload);
        }
        log_close(l);
        l = must_open(m, &options);
    }
    assert_non_null(disk_memory_content(m, SEG2, &len));
    log_close(l);
    disk_memory_free(m);
}

/* What is read at a time may reach past the end of what was written then. */
static void entries_written_after_their_surroundings_were_read_are_read(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    char payload[200];

    for (uint64_t i = 1; i <= 40; i++) {
        snprintf(payload, sizeof(payload), "%0199d", (int)i);
        assert_int_equal(append(l, 1, payload), 0);
        flush(l);
        expect(l, i, 1, payload);
        if (i > 2) {
            snprintf(payload, sizeof(payload), "%0199d", (int)i - 2);
            expect(l, i - 2, 1, payload);
        }
    }
    log_close(l);
    disk_memory_free(m);
}

static void damage_to_an_old_entry_is_seen_when_it_is_read(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    struct log_entry e;
    struct arena arena;
    size_t len;

    arena_init(&arena);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(append(l, 1, "a payload that is longer than half of the memory for payloads"), 0);
        flush(l);
    }
    disk_memory_content(m, SEG1, &len)[LOG_HEAD_AREA_BYTES + LOG_MARK_BYTES + LOG_RECORD_BYTES] ^= 1;
    assert_int_equal(log_get(l, 1, &arena, &e), -EUCLEAN);
    assert_int_equal(log_get(l, 2, &arena, &e), 0);
    arena_fini(&arena);
    log_close(l);
    disk_memory_free(m);
}

static void a_flush_larger_than_a_segment_makes_a_larger_one(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    uint8_t *big = calloc(1, 100000);
    struct log_entry e = {2, 1, LOG_ENTRY_COMMANDS, slice_make(big, 100000)};
    struct arena arena;

    assert_non_null(big);
    arena_init(&arena);
    assert_int_equal(append(l, 1, "small"), 0);
    flush(l);
    assert_int_equal(log_append(l, &e, 1), 0);
    flush(l);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_get(l, 2, &arena, &e), 0);
    assert_int_equal(e.payload.len, 100000);
    assert_memory_equal(e.payload.data, big, 100000);
    arena_fini(&arena);
    free(big);
    log_close(l);
    disk_memory_free(m);
}

static int count_spares(void *arg, const char *name)
{
    *(int *)arg += strncmp(name, "spare-", 6) == 0;
    return 0;
}

static void trimmed_segments_are_used_again_and_their_records_are_not_believed(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct disk *d = disk_memory_disk(m);
    struct log *l = must_open(m, &options);
    char payload[1000];
    int spares = 0;

    memset(payload, 'x', sizeof(payload));
    payload[999] = '\0';
    for (int i = 0; i < 120; i++) {
        assert_int_equal(append(l, 1, payload), 0);
        flush(l);
    }
    assert_int_equal(log_trim(l, 100), 0);
    assert_in_range(log_first_index(l), 80, 101);
    assert_true(log_wants_tending(l));
    assert_int_equal(log_tend(l), 0);
    assert_int_equal(d->list(d->ctx, "log", count_spares, &spares), 0);
    assert_int_equal(spares, 2);
    assert_int_equal(log_term_at(l, log_first_index(l) - 1), 1); /* of the entry before the first */
    while (spares > 0) { /* to just behind the roll onto the last spare */
        assert_int_equal(append(l, 2, payload), 0);
        flush(l);
        spares = 0;
        assert_int_equal(d->list(d->ctx, "log", count_spares, &spares), 0);
    }
    spares = (int)log_last_index(l);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_last_index(l), spares);
    expect(l, (uint64_t)spares, 2, payload);
    expect(l, log_first_index(l), 1, payload);
    assert_int_equal(log_term_at(l, log_first_index(l) - 1), 1);
    log_close(l);
    disk_memory_free(m);
}

/* ---- failing calls ---- */

/* A life of the log with all it does; returns the last index that was acknowledged, and the first error. */
static int scenario(struct disk_memory *m, uint64_t *ret_acked, struct log_hard_state *ret_hard)
{
    char payload[700];
    struct log *l;
    int rc = log_open(disk_memory_disk(m), "log", &options, &l, text, sizeof(text));

    *ret_acked = 0;
    *ret_hard = (struct log_hard_state){0};
    if (rc < 0)
        return rc;
    memset(payload, 'z', sizeof(payload));
    payload[699] = '\0';
    for (uint64_t i = 1; i <= 40 && rc == 0; i++) {
        uint64_t synced;

        rc = append(l, i / 10 + 1, payload);
        if (rc == 0)
            rc = log_flush(l, &synced);
        if (rc == 0)
            *ret_acked = log_flushed(l, synced);
        if (rc == 0 && i % 15 == 0) {
            struct log_hard_state h = {i, 2};

            rc = log_set_hard_state(l, h);
            if (rc == 0)
                *ret_hard = h;
        }
        if (rc == 0 && i == 35) {
            log_trim(l, 20);
            rc = log_tend(l);
        }
    }
    log_close(l);
    return rc;
}

static void each_failing_call_loses_nothing_acknowledged(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC};
    unsigned met = 0;

    for (size_t e = 0; e < 2; e++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct disk_memory *m = disk_memory_new();
            struct log_hard_state hard, found;
            uint64_t acked;
            struct log *l;
            int rc;

            disk_memory_faults(m)->fail_at = fail_at;
            disk_memory_faults(m)->fail_with = errors[e];
            rc = scenario(m, &acked, &hard);
            if (disk_memory_calls(m) < fail_at) {
                assert_int_equal(rc, 0);
                disk_memory_free(m);
                break;
            }
            met += rc < 0;
            disk_memory_faults(m)->fail_at = 0;
            l = must_open(m, &options);
            assert_in_range(log_last_index(l), acked, acked + 1);
            found = log_hard_state(l);
            assert_true(found.term >= hard.term && found.term <= hard.term + 15);
            log_close(l);
            disk_memory_free(m);
        }
    }
    assert_true(met > 100);
}

static void after_a_failed_write_or_sync_the_log_is_unusable(void **state)
{
    for (uint64_t call = 1; call <= 2; call++) { /* the write, the sync */
        struct disk_memory *m = disk_memory_new();
        struct log *l = must_open(m, &options);
        uint64_t synced = 77;

        assert_int_equal(append(l, 1, "one"), 0);
        disk_memory_faults(m)->fail_at = disk_memory_calls(m) + call;
        disk_memory_faults(m)->fail_with = call == 2 ? -ENOSPC : -EIO; /* any error of a sync is final */
        assert_int_equal(log_flush(l, &synced), -EIO);
        assert_int_equal(synced, 77);
        assert_int_equal(log_flushed(l, 1), 0);
        assert_int_equal(log_flush(l, &synced), -EIO);
        assert_int_equal(append(l, 1, "two"), -EIO);
        assert_int_equal(log_last_index(l), 1);
        assert_int_equal(log_truncate(l, 1), -EIO);
        assert_int_equal(log_set_hard_state(l, (struct log_hard_state){1, 1}), -EIO);
        assert_int_equal(log_tend(l), -EIO);
        expect(l, 1, 1, "one"); /* reading goes on */
        log_close(l);
        disk_memory_free(m);
    }
}

static void after_a_failed_sync_of_the_vote_the_log_is_unusable(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    uint64_t synced;

    disk_memory_faults(m)->fail_at = disk_memory_calls(m) + 2;
    disk_memory_faults(m)->fail_with = -EIO;
    assert_int_equal(log_set_hard_state(l, (struct log_hard_state){1, 1}), -EIO);
    assert_int_equal(log_hard_state(l).term, 0);
    assert_int_equal(log_set_hard_state(l, (struct log_hard_state){1, 1}), -EIO);
    assert_int_equal(append(l, 1, "one"), -EIO);
    assert_int_equal(log_flush(l, &synced), -EIO);
    log_close(l);
    disk_memory_free(m);
}

static void a_full_disk_is_met_again_until_there_is_room(void **state)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    char payload[3000];
    uint64_t synced, acked = 0;

    memset(payload, 'f', sizeof(payload));
    payload[2999] = '\0';
    disk_memory_faults(m)->full_bytes = 60000;
    for (int i = 0; i < 40; i++) {
        int rc;

        assert_int_equal(append(l, 1, payload), 0);
        rc = log_flush(l, &synced);
        if (rc == 0)
            acked = log_flushed(l, synced);
        else
            assert_int_equal(rc, -ENOSPC);
        assert_int_equal(log_synced_index(l), acked);
    }
    assert_in_range(acked, 5, 25);
    assert_int_equal(log_truncate(l, 39), 0);
    assert_int_equal(append(l, 2, "last"), 0);
    assert_int_equal(log_flush(l, &synced), -ENOSPC);
    disk_memory_faults(m)->full_bytes = 0;
    flush(l);
    assert_int_equal(log_synced_index(l), 39);
    expect(l, 39, 2, "last");
    expect(l, 38, 1, payload);
    log_close(l);
    l = must_open(m, &options);
    assert_int_equal(log_last_index(l), 39);
    for (uint64_t i = 1; i <= 38; i++)
        expect(l, i, 1, payload);
    expect(l, 39, 2, "last");
    log_close(l);
    disk_memory_free(m);
}

/* ---- two threads, as one would see the other ---- */

static struct log *busy; /* the log whose flush is under way */
static int moment;

static void truncate_meanwhile(void *arg)
{
    if (moment++ != 0)
        return;
    assert_int_equal(log_truncate(busy, 2), 0);
    assert_int_equal(append(busy, 2, "another two"), 0);
}

static void a_flush_proves_nothing_about_what_was_truncated_meanwhile(void **state)
{
    struct disk_memory *m = disk_memory_new();
    uint64_t synced;

    busy = must_open(m, &options);
    for (int i = 0; i < 3; i++)
        assert_int_equal(append(busy, 1, "one"), 0);
    moment = 0;
    disk_memory_watch(m, truncate_meanwhile, NULL);
    assert_int_equal(log_flush(busy, &synced), 0);
    disk_memory_watch(m, NULL, NULL);
    assert_int_equal(synced, 3);
    assert_int_equal(log_last_index(busy), 2);
    assert_int_equal(log_flushed(busy, synced), 1); /* not the new entry 2 */
    assert_true(log_pending(busy));
    flush(busy);
    assert_int_equal(log_synced_index(busy), 2);
    log_close(busy);
    busy = must_open(m, &options);
    assert_int_equal(log_last_index(busy), 2);
    expect(busy, 2, 2, "another two");
    log_close(busy);
    disk_memory_free(m);
}

/* ---- against a model ---- */

#define MODEL_MAX 4000

struct model {
    uint64_t first, last;
    struct {
        uint64_t term;
        char payload[24];
    } e[MODEL_MAX];
};

static void check_model(struct log *l, const struct model *w)
{
    assert_int_equal(log_last_index(l), w->last);
    for (uint64_t i = log_first_index(l); i <= w->last; i++)
        expect(l, i, w->e[i].term, w->e[i].payload);
}

static void random_appends_truncates_trims_and_restarts_agree_with_a_model(void **state)
{
    const char *env = getenv("SEED");
    uint64_t seed = env != NULL ? strtoull(env, NULL, 10) : (uint64_t)time(NULL), random = seed;
    struct model *w = calloc(1, sizeof(*w)), *durable = calloc(1, sizeof(*w));
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);

    print_message("SEED=%llu\n", (unsigned long long)seed);
    assert_non_null(w);
    assert_non_null(durable);
    for (int step = 0; step < 3000 && w->last < MODEL_MAX - 10; step++) {
        uint64_t r = disk_memory_next_random(&random), x = r >> 32;

        switch (r % 8) {
        case 0: case 1: case 2: case 3:
            w->last++;
            w->e[w->last].term = w->e[w->last - 1].term + (x % 10 == 0) + (w->last == 1);
            snprintf(w->e[w->last].payload, sizeof(w->e[0].payload), "%llx", (unsigned long long)x);
            assert_int_equal(append(l, w->e[w->last].term, w->e[w->last].payload), 0);
            break;
        case 4:
            flush(l);
            *durable = *w;
            break;
        case 5:
            if (w->last >= log_first_index(l)) {
                uint64_t most = w->last - log_first_index(l) + 1, n = 1 + x % (most < 6 ? most : 6);

                assert_int_equal(log_truncate(l, w->last - n + 1), 0);
                w->last -= n;
            }
            break;
        case 6:
            if (x % 8 == 0 && log_synced_index(l) > 50)
                assert_int_equal(log_trim(l, log_synced_index(l) - 50), 0);
            if (x % 8 == 1)
                assert_int_equal(log_tend(l), 0);
            break;
        default:
            if (x % 16 != 0)
                break;
            log_close(l);
            l = must_open(m, &options);
            *w = *durable;
            check_model(l, w);
        }
    }
    check_model(l, w);
    log_close(l);
    free(w);
    free(durable);
    disk_memory_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_log_is_empty),
        cmocka_unit_test(what_was_flushed_is_there_after_a_restart_and_what_was_not_is_not),
        cmocka_unit_test(a_truncate_and_a_reset_are_durable_like_entries),
        cmocka_unit_test(entries_must_follow_on_and_limits_are_kept),
        cmocka_unit_test(more_than_the_limit_does_not_wait_for_a_flush),
        cmocka_unit_test(segments_follow_each_other_and_old_entries_are_read_back),
        cmocka_unit_test(entries_written_after_their_surroundings_were_read_are_read),
        cmocka_unit_test(damage_to_an_old_entry_is_seen_when_it_is_read),
        cmocka_unit_test(a_flush_larger_than_a_segment_makes_a_larger_one),
        cmocka_unit_test(trimmed_segments_are_used_again_and_their_records_are_not_believed),
        cmocka_unit_test(each_failing_call_loses_nothing_acknowledged),
        cmocka_unit_test(after_a_failed_write_or_sync_the_log_is_unusable),
        cmocka_unit_test(after_a_failed_sync_of_the_vote_the_log_is_unusable),
        cmocka_unit_test(a_full_disk_is_met_again_until_there_is_room),
        cmocka_unit_test(a_flush_proves_nothing_about_what_was_truncated_meanwhile),
        cmocka_unit_test(random_appends_truncates_trims_and_restarts_agree_with_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
