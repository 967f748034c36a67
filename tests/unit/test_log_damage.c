/* Recovery of the log: a torn tail is dropped, damage to anything durable refuses, and what is newer is called that. */
#include "tests/unit/log_fixture.h"

/* ---- a torn tail ---- */

static const char longer[] = "and a longer one behind it, of some more bytes";

/* Where the last record of each flush below ends. */
#define USED (LOG_MARK_BYTES + log_record_size(5) + log_record_size(sizeof(longer) - 1))
#define PADDING (log_record_size(sizeof(longer) - 1) - LOG_RECORD_BYTES - (sizeof(longer) - 1))

static struct disk_memory *three_flushes(size_t end[4])
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);

    end[0] = LOG_HEAD_AREA_BYTES;
    for (size_t i = 1; i <= 3; i++) {
        assert_int_equal(append(l, i, "entry"), 0);
        assert_int_equal(append(l, i, longer), 0);
        flush(l);
        end[i] = end[i - 1] + LOG_SECTOR_BYTES;
    }
    log_close(l);
    return m;
}

static void a_tail_torn_anywhere_is_dropped_and_the_log_goes_on(void **state)
{
    static const uint8_t fillings[] = {0x00, 0xff, 0x41};
    size_t end[4], used = USED;

    for (size_t cut = 0; cut < used; cut++) {
        for (size_t f = 0; f < sizeof(fillings); f++) {
            struct disk_memory *m = three_flushes(end);
            size_t len;
            uint8_t *p = disk_memory_content(m, SEG1, &len);
            struct log *l;

            memset(p + end[2] + cut, fillings[f], used - cut);
            l = must_open(m, &options);
            assert_int_equal(log_last_index(l), cut >= used - PADDING ? 6 : 4);
            expect(l, 4, 2, longer);
            assert_int_equal(append(l, 7, "after"), 0);
            flush(l);
            log_close(l);
            l = must_open(m, &options);
            expect(l, log_last_index(l), 7, "after");
            log_close(l);
            disk_memory_free(m);
        }
    }
}

static void a_file_cut_short_anywhere_in_the_last_flush_is_a_torn_tail(void **state)
{
    size_t end[4];

    for (size_t cut = 0; cut < LOG_SECTOR_BYTES; cut += 7) {
        struct disk_memory *m = three_flushes(end);
        size_t len;
        uint8_t *p = disk_memory_content(m, SEG1, &len);
        uint8_t *copy = malloc(end[2] + cut);
        struct log *l;

        assert_non_null(copy);
        memcpy(copy, p, end[2] + cut);
        disk_memory_put(m, SEG1, copy, end[2] + cut);
        l = must_open(m, &options);
        assert_int_equal(log_last_index(l), cut < USED ? 4 : 6);
        assert_int_equal(append(l, 7, "after"), 0);
        flush(l);
        log_close(l);
        l = must_open(m, &options);
        expect(l, log_last_index(l), 7, "after");
        log_close(l);
        free(copy);
        disk_memory_free(m);
    }
}

/* ---- damage ---- */

/* Of the first segment's bytes, up to the last flush: has a check that it is as it was. */
static bool is_checked(size_t at)
{
    size_t in_flush = (at - LOG_HEAD_AREA_BYTES) % LOG_SECTOR_BYTES, first = LOG_MARK_BYTES + LOG_RECORD_BYTES + 5;

    if (at < LOG_HEAD_AREA_BYTES)
        return at < LOG_HEAD_BYTES;
    return in_flush < USED - PADDING && (in_flush < first || in_flush >= LOG_MARK_BYTES + log_record_size(5));
}

static void damage_to_anything_durable_refuses_with_place_and_remedy_and_changes_nothing(void **state)
{
    size_t end[4], len, tried = 0;

    for (size_t at = 0; at < LOG_HEAD_AREA_BYTES + 2 * LOG_SECTOR_BYTES; at++) {
        struct disk_memory *m;
        uint64_t hash;

        if (!is_checked(at))
            continue;
        m = three_flushes(end);
        disk_memory_content(m, SEG1, &len)[at] ^= 0x10;
        hash = disk_memory_hash(m);
        assert_int_equal(try_open(m), -EUCLEAN);
        assert_non_null(strstr(text, SEG1));
        assert_non_null(strstr(text, "offset"));
        assert_non_null(strstr(text, "Restore"));
        assert_int_equal(disk_memory_hash(m), hash);
        disk_memory_free(m);
        tried++;
    }
    assert_true(tried > 400);
}

static void a_last_flush_known_to_be_durable_by_the_vote_is_not_dropped(void **state)
{
    size_t end[4], len;
    struct disk_memory *m = three_flushes(end);
    struct log *l = must_open(m, &options);

    assert_int_equal(log_set_hard_state(l, (struct log_hard_state){5, 1}), 0);
    log_close(l);
    disk_memory_content(m, SEG1, &len)[end[2] + 60] ^= 1;
    assert_int_equal(try_open(m), -EUCLEAN);
    assert_non_null(strstr(text, "3 was durable"));
    disk_memory_free(m);
}

static struct disk_memory *several_segments(void)
{
    struct disk_memory *m = disk_memory_new();
    struct log *l = must_open(m, &options);
    char payload[2000];

    memset(payload, 'y', sizeof(payload));
    payload[1999] = '\0';
    for (int i = 0; i < 30; i++) {
        assert_int_equal(append(l, 1, payload), 0);
        flush(l);
    }
    log_close(l);
    return m;
}

static void an_older_segment_must_be_whole_to_where_the_next_says_that_it_ends(void **state)
{
    struct disk_memory *m = several_segments();
    size_t len;
    uint8_t *p = disk_memory_content(m, SEG2, &len);
    uint64_t end = get_le64(disk_memory_content(m, "log/seg-0000000000000003", &len) + 48);

    p[end - LOG_SECTOR_BYTES - 1] ^= 1; /* in the last flush: in the newest segment that would be a torn tail */
    assert_int_equal(try_open(m), -EUCLEAN);
    assert_non_null(strstr(text, SEG2));
    disk_memory_free(m);
}

static void a_missing_file_refuses(void **state)
{
    static const char *const names[] = {SEG2, "log/vote"};

    for (size_t i = 0; i < 2; i++) {
        struct disk_memory *m = several_segments();

        disk_memory_drop(m, names[i]);
        assert_int_equal(try_open(m), -EUCLEAN);
        assert_non_null(strstr(text, names[i]));
        disk_memory_free(m);
    }
}

static void all_segments_missing_refuses_if_the_vote_knows_of_one(void **state)
{
    size_t end[4];
    struct disk_memory *m = three_flushes(end);
    struct log *l = must_open(m, &options);

    assert_int_equal(log_set_hard_state(l, (struct log_hard_state){5, 1}), 0);
    log_close(l);
    disk_memory_drop(m, SEG1);
    assert_int_equal(try_open(m), -EUCLEAN);
    disk_memory_free(m);
}

static void one_damaged_copy_of_the_vote_is_repaired_and_a_damaged_page_refuses(void **state)
{
    for (size_t i = 0; i < 4; i++) {
        size_t page = i / 2 * 4096, copy = i % 2 * 512, end[4], len;
        struct disk_memory *m = three_flushes(end);
        struct log *l = must_open(m, &options);
        uint8_t *p;

        assert_int_equal(log_set_hard_state(l, (struct log_hard_state){5, 1}), 0);
        assert_int_equal(log_set_hard_state(l, (struct log_hard_state){6, 3}), 0);
        log_close(l);
        p = disk_memory_content(m, "log/vote", &len);
        p[page + copy + 33] ^= 4;
        l = must_open(m, &options);
        assert_int_equal(log_hard_state(l).term, 6);
        assert_int_equal(log_hard_state(l).voted_for, 3);
        log_close(l);
        p = disk_memory_content(m, "log/vote", &len);
        memset(p + page + 33, 0x77, 4);
        memset(p + page + 512 + 33, 0x77, 4);
        assert_int_equal(try_open(m), -EUCLEAN);
        assert_non_null(strstr(text, "log/vote"));
        disk_memory_free(m);
    }
}

static void another_clusters_log_is_refused(void **state)
{
    size_t end[4];
    struct disk_memory *m = three_flushes(end);
    struct log_options other = options;
    struct log *l;

    other.cluster_id = 8;
    assert_int_equal(log_open(disk_memory_disk(m), "log", &other, &l, text, sizeof(text)), -EXDEV);
    assert_non_null(strstr(text, "belongs to cluster 0000000000000007"));
    disk_memory_free(m);
}

static void reseal_block(uint8_t *p, size_t len)
{
    put_le32(p + len - 4, crc32c(0, p, len - 4));
}

static void a_newer_format_is_refused_as_such(void **state)
{
    for (int what = 0; what < 4; what++) {
        size_t end[4], len;
        struct disk_memory *m = three_flushes(end);
        uint8_t *p = disk_memory_content(m, what == 1 ? "log/vote" : SEG1, &len);
        struct log_head h;
        size_t at = end[1] + LOG_MARK_BYTES;

        assert_true(what == 1 || log_head_decode(p, &h) == 0);
        if (what == 0) {
            p[8] = 2;
            reseal_block(p, LOG_HEAD_BYTES);
        } else if (what == 1) {
            p[8] = 2;
            reseal_block(p, LOG_HARD_BYTES);
        } else {
            if (what == 2)
                p[at + 12] = 99; /* a kind */
            else
                p[at + 14] = 1; /* a flag */
            log_record_seal(p + at, log_head_seed(&h), at);
        }
        assert_int_equal(try_open(m), -EPROTONOSUPPORT);
        assert_non_null(strstr(text, "newer version"));
        disk_memory_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tail_torn_anywhere_is_dropped_and_the_log_goes_on),
        cmocka_unit_test(a_file_cut_short_anywhere_in_the_last_flush_is_a_torn_tail),
        cmocka_unit_test(damage_to_anything_durable_refuses_with_place_and_remedy_and_changes_nothing),
        cmocka_unit_test(a_last_flush_known_to_be_durable_by_the_vote_is_not_dropped),
        cmocka_unit_test(an_older_segment_must_be_whole_to_where_the_next_says_that_it_ends),
        cmocka_unit_test(a_missing_file_refuses),
        cmocka_unit_test(all_segments_missing_refuses_if_the_vote_knows_of_one),
        cmocka_unit_test(one_damaged_copy_of_the_vote_is_repaired_and_a_damaged_page_refuses),
        cmocka_unit_test(another_clusters_log_is_refused),
        cmocka_unit_test(a_newer_format_is_refused_as_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
