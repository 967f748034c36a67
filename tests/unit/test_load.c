/* tools/load_figures: what the load generator calls a percentile is one. */
#include "tests/unit/wire_check.h"

#include "tools/load.h"

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void percentiles_are_within_two_percent_of_the_sorted_ones(void **state)
{
    enum { N = 20000 };
    static uint64_t all[N];
    struct load_figures *f = calloc(1, sizeof(*f));
    struct dice d = dice_new();

    assert_non_null(f);
    for (int i = 0; i < N; i++) {
        all[i] = dice_roll(&d) >> (24 + dice_below(&d, 30)); /* from a few microseconds to minutes */
        load_record(f, 0, all[i], 10);
    }
    qsort(all, N, sizeof(all[0]), compare_u64);
    for (int percent = 1; percent < 100; percent++) {
        double want = (double)all[N * percent / 100], got = (double)load_percentile_ns(f, percent / 100.0);

        assert_true(got >= want * 0.98 - 1 && got <= want * 1.02 + 1);
    }
    assert_true(f->max_ns == all[N - 1] && f->done[0] == N && f->answer_bytes == N * 10);
    free(f);
}

static void failures_have_no_latency(void **state)
{
    struct load_figures *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    load_record(f, 14, 1000000, 0);
    load_record(f, LOAD_NO_STATUS, 1000000, 0);
    load_record(f, 0, 500, 0);
    assert_true(f->done[14] == 1 && f->done[LOAD_NO_STATUS] == 1 && f->max_ns == 500);
    assert_in_range(load_percentile_ns(f, 0.99), 490, 510);
    free(f);
}

static void the_largest_number_has_a_bucket(void **state)
{
    struct load_figures *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    load_record(f, 0, UINT64_MAX, 0);
    load_record(f, 0, 0, 0);
    assert_int_equal(load_percentile_ns(f, 0.1), 0);
    assert_true(load_percentile_ns(f, 0.9) > UINT64_MAX / 100 * 98);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_two_percent_of_the_sorted_ones),
        cmocka_unit_test(failures_have_no_latency),
        cmocka_unit_test(the_largest_number_has_a_bucket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
