/* raft/compactor: etcd's rules of auto-compaction in virtual time, and the values of its flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <errno.h>
#include <cmocka.h>

#include "raft/compactor.h"

#define MINUTE_MS ((uint64_t)60 * 1000)
#define HOUR_MS ((uint64_t)3600 * 1000)

static int parse(const char *mode, const char *retention, struct compactor_options *o)
{
    const char *why;

    return compactor_parse(mode, retention, o, &why);
}

static void the_flags_are_etcds(void **state)
{
    static const struct {
        const char *retention;
        uint64_t ms;
    } good[] = {{"1", HOUR_MS}, {"12", 12 * HOUR_MS}, {"30m", 30 * MINUTE_MS}, {"1h30m", 90 * MINUTE_MS}, {"90s", 90000},
                {"1500ms", 1500}};
    static const char *const bad[] = {"", "h", "1x", "-1", "1h30", "999999999999", "1.5h", "99999999h", "5ms", " 1"};
    struct compactor_options o;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(parse("periodic", good[i].retention, &o), 0);
        assert_true(o.mode == COMPACTOR_PERIODIC && o.period_ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse("periodic", bad[i], &o), -EINVAL);
    assert_int_equal(parse("periodic", "0", &o), 0);
    assert_int_equal(o.mode, COMPACTOR_OFF);
    assert_int_equal(parse("revision", "1000", &o), 0);
    assert_true(o.mode == COMPACTOR_REVISION && o.keep_revisions == 1000);
    assert_int_equal(parse("revision", "0", &o), 0);
    assert_int_equal(o.mode, COMPACTOR_OFF);
    assert_int_equal(parse("revision", "1h", &o), -EINVAL);
    assert_int_equal(parse("sometimes", "1", &o), -EINVAL);
}

/* A revision a minute: what is asked for at each minute, 0 for nothing. */
static int64_t at_minute(struct compactor *c, uint64_t minute, bool leader)
{
    int64_t revision = 0;

    return compactor_tick(c, minute * MINUTE_MS, (int64_t)minute, leader, &revision) ? revision : 0;
}

static void periodic_keeps_what_is_younger_than_an_hour(void **state)
{
    struct compactor_options o;
    struct compactor c;

    parse("periodic", "1", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 1), 0);
    for (uint64_t m = 1; m < 60; m++)
        assert_int_equal(at_minute(&c, m, true), 0);
    assert_int_equal(at_minute(&c, 60, true), 1);
    for (uint64_t m = 61; m < 120; m++)
        assert_int_equal(at_minute(&c, m, true), 0);
    assert_int_equal(at_minute(&c, 120, true), 54); /* the youngest that was noted more than an hour ago, as in etcd */
    compactor_fini(&c);
}

static void a_longer_retention_is_looked_at_every_hour(void **state)
{
    struct compactor_options o;
    struct compactor c;
    int64_t got;

    parse("periodic", "5h", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 1), 0);
    for (uint64_t m = 1; m <= 600; m++) {
        got = at_minute(&c, m, true);
        if (m < 300 || m % 60 != 0)
            assert_int_equal(got, 0);
        else
            assert_int_equal(got, m == 300 ? 1 : (int64_t)m - 306);
    }
    compactor_fini(&c);
}

static void a_follower_notes_and_a_new_leader_goes_on(void **state)
{
    struct compactor_options o;
    struct compactor c;

    parse("periodic", "1h", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 1), 0);
    for (uint64_t m = 1; m <= 90; m++)
        assert_int_equal(at_minute(&c, m, false), 0);
    for (uint64_t m = 91; m < 96; m++)
        assert_int_equal(at_minute(&c, m, true), 0); /* its notes come every six minutes */
    assert_int_equal(at_minute(&c, 96, true), 30);
    compactor_fini(&c);
}

static void nothing_new_is_not_compacted_again(void **state)
{
    struct compactor_options o;
    struct compactor c;
    int64_t revision;
    int asked = 0;

    parse("periodic", "1h", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 7), 0);
    for (uint64_t m = 1; m <= 600; m++)
        asked += compactor_tick(&c, m * MINUTE_MS, 7, true, &revision);
    assert_int_equal(asked, 1);
    compactor_fini(&c);
}

static void by_revision_keeps_so_many(void **state)
{
    struct compactor_options o;
    struct compactor c;

    parse("revision", "10", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 1), 0);
    for (uint64_t m = 1; m <= 30; m++)
        assert_int_equal(at_minute(&c, m, true), m % 5 == 0 && m > 10 ? (int64_t)m - 10 : 0);
    compactor_fini(&c);
}

static void off_never_asks(void **state)
{
    struct compactor_options o;
    struct compactor c;

    parse("periodic", "0", &o);
    assert_int_equal(compactor_init(&c, &o, 0, 1), 0);
    assert_true(c.next_ms == UINT64_MAX);
    compactor_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_flags_are_etcds),
        cmocka_unit_test(periodic_keeps_what_is_younger_than_an_hour),
        cmocka_unit_test(a_longer_retention_is_looked_at_every_hour),
        cmocka_unit_test(a_follower_notes_and_a_new_leader_goes_on),
        cmocka_unit_test(nothing_new_is_not_compacted_again),
        cmocka_unit_test(by_revision_keeps_so_many),
        cmocka_unit_test(off_never_asks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
