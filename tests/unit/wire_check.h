/* wire_check.h - what the tests of codecs share: seeded random numbers and the comparison of bytes with hex text.
 *
 * Process: test programs.  Thread: one.  Errors: cmocka's assertions.  Memory: none kept.  Units: bytes. */
#ifndef TESTS_UNIT_WIRE_CHECK_H
#define TESTS_UNIT_WIRE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/bytes.h"

struct dice {
    uint64_t state;
};

/* From SEED in the environment, else from the clock; printed, so that a run can be repeated. */
static inline struct dice dice_new(void)
{
    const char *text = getenv("SEED");
    struct dice d = {text != NULL ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock()};

    printf("SEED=%llu\n", (unsigned long long)d.state);
    return d;
}

static inline uint64_t dice_roll(struct dice *d)
{
    uint64_t z = d->state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline uint64_t dice_below(struct dice *d, uint64_t n)
{
    return dice_roll(d) % n;
}

/* Of any size, with zero and the extremes not rare: where varints and signs go wrong. */
static inline uint64_t dice_number(struct dice *d)
{
    switch (dice_below(d, 6)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX - dice_below(d, 3);
    case 2:
        return dice_below(d, 300);
    case 3:
        return (uint64_t)INT64_MAX + dice_below(d, 2);
    }
    return dice_roll(d) >> dice_below(d, 64);
}

/* hex: pairs of digits, blanks between them as one likes. A failure prints both. */
static inline void check_hex(struct slice got, const char *hex)
{
    struct bytes want;

    bytes_init(&want);
    for (; *hex != '\0'; hex++) {
        char pair[3] = {hex[0], hex[1], 0};

        if (*hex == ' ' || *hex == '\n')
            continue;
        bytes_u8(&want, (uint8_t)strtoul(pair, NULL, 16));
        hex++;
    }
    if (!slice_equal(got, bytes_slice(&want))) {
        printf("got  ");
        for (size_t i = 0; i < got.len; i++)
            printf("%02x", got.data[i]);
        printf("\nwant ");
        for (size_t i = 0; i < want.len; i++)
            printf("%02x", want.data[i]);
        printf("\n");
        fail_msg("the bytes differ");
    }
    bytes_fini(&want);
}

/* A copy in memory of its own exact size, so that ASan sees a read of the byte behind it. */
static inline uint8_t *exact_copy(struct slice s)
{
    uint8_t *p = malloc(s.len != 0 ? s.len : 1);

    assert_non_null(p);
    if (s.len != 0)
        memcpy(p, s.data, s.len);
    return p;
}

#endif
