/* The watch index against a naive model: a plain list of ranges, each asked in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "sidecar/watch_index.h"

#define REFS 400
#define STEPS 20000

struct ref {
    struct watch_group *group; /* NULL: free */
    uint8_t key[6], end[6];
    size_t key_len, end_len;
};

static size_t random_key(uint8_t *out)
{
    size_t len = 1 + (size_t)rand() % 5;

    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)("\x00" "ab\xff"[rand() % 4]);
    return len;
}

static bool holds(const struct ref *r, struct slice key)
{
    struct slice start = slice_make(r->key, r->key_len), end = slice_make(r->end, r->end_len);

    if (r->end_len == 0)
        return slice_equal(start, key);
    if (slice_cmp(key, start) < 0)
        return false;
    return (r->end_len == 1 && r->end[0] == 0) || slice_cmp(key, end) < 0;
}

struct seen {
    struct watch_group *groups[REFS];
    size_t n;
};

static void on_match(void *ctx, struct watch_group *g)
{
    struct seen *s = ctx;

    for (size_t i = 0; i < s->n; i++)
        assert_ptr_not_equal(s->groups[i], g); /* each once */
    s->groups[s->n++] = g;
}

static void compare(const struct watch_index *x, const struct ref *refs, struct slice key)
{
    struct seen s = {.n = 0};
    size_t expected = 0;

    watch_index_match(x, key, on_match, &s);
    for (size_t i = 0; i < REFS; i++) {
        bool first = true, found = false;

        if (refs[i].group == NULL)
            continue;
        for (size_t j = 0; j < i; j++)
            first = first && refs[j].group != refs[i].group;
        for (size_t j = 0; j < s.n; j++)
            found = found || s.groups[j] == refs[i].group;
        assert_int_equal(found, holds(&refs[i], key));
        expected += first && found;
    }
    assert_int_equal(s.n, expected);
}

static void matches_as_the_naive_model_does(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    static struct ref refs[REFS];
    struct watch_index x;

    printf("SEED=%u\n", seed);
    srand(seed);
    watch_index_init(&x, (uint64_t)rand());
    for (int step = 0; step < STEPS; step++) {
        struct ref *r = &refs[rand() % REFS];
        uint8_t key[6];

        if (r->group != NULL && rand() % 2 == 0) {
            watch_index_unref(&x, r->group);
            r->group = NULL;
        } else if (r->group == NULL) {
            r->key_len = random_key(r->key);
            r->end_len = 0;
            if (rand() % 4 == 0) {
                r->end[0] = 0;
                r->end_len = 1;
            } else if (rand() % 2 == 0) {
                do
                    r->end_len = random_key(r->end);
                while (slice_cmp(slice_make(r->key, r->key_len), slice_make(r->end, r->end_len)) >= 0 &&
                       slice_cmp(slice_make(r->key, r->key_len), slice_make("\xff", 1)) < 0);
                if (slice_cmp(slice_make(r->key, r->key_len), slice_make(r->end, r->end_len)) >= 0)
                    r->end_len = 0;
            }
            assert_int_equal(watch_index_ref(&x, slice_make(r->key, r->key_len), slice_make(r->end, r->end_len), &r->group), 0);
            for (size_t i = 0; i < REFS; i++) { /* equal ranges share a group, others do not */
                const struct ref *o = &refs[i];

                if (o->group != NULL)
                    assert_int_equal(o->group == r->group,
                                     slice_equal(slice_make(o->key, o->key_len), slice_make(r->key, r->key_len)) &&
                                         slice_equal(slice_make(o->end, o->end_len), slice_make(r->end, r->end_len)));
            }
        }
        if (step % 5 == 0)
            compare(&x, refs, slice_make(key, random_key(key)));
    }
    for (size_t i = 0; i < REFS; i++) {
        if (refs[i].group != NULL)
            watch_index_unref(&x, refs[i].group);
        refs[i].group = NULL;
    }
    watch_index_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_as_the_naive_model_does)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
