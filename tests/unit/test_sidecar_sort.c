/* sidecar/range_sort: rounds of selection come to what one sort of everything comes to, however little a round may keep. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "sidecar/range_sort.h"

#define KVS 2000

struct model {
    struct kv kvs[KVS];
    char keys[KVS][24], values[KVS][40];
    size_t n;
};

static int compare_for(const void *x, const void *y, void *arg)
{
    const struct op_range *op = arg;
    const struct kv *a = *(struct kv *const *)x, *b = *(struct kv *const *)y;
    int64_t l = op->sort_target == SORT_BY_VERSION ? a->version : op->sort_target == SORT_BY_CREATE ? a->create_revision : a->mod_revision;
    int64_t r = op->sort_target == SORT_BY_VERSION ? b->version : op->sort_target == SORT_BY_CREATE ? b->create_revision : b->mod_revision;
    int c = op->sort_target == SORT_BY_KEY     ? slice_cmp(a->key, b->key)
            : op->sort_target == SORT_BY_VALUE ? slice_cmp(a->value, b->value)
                                               : (l > r) - (l < r);

    c = op->sort_order == SORT_DESCEND ? -c : c;
    return c != 0 ? c : slice_cmp(a->key, b->key);
}

static void make_model(struct model *m, size_t n)
{
    m->n = n;
    for (size_t i = 0; i < n; i++) { /* in key order, as the store has them */
        snprintf(m->keys[i], sizeof(m->keys[i]), "key %06zu", i);
        snprintf(m->values[i], sizeof(m->values[i]), "%d%.*s", rand() % 50, rand() % 30, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        m->kvs[i] = (struct kv){.key = slice_from_str(m->keys[i]), .value = slice_from_str(m->values[i]), .version = rand() % 20,
                                .create_revision = rand() % 1000, .mod_revision = rand()};
    }
}

/* The first `limit` by rounds; in *ret_rounds how many it took. */
static size_t by_rounds(const struct model *m, const struct op_range *op, size_t max_bytes, size_t limit, struct slice *keys,
                        size_t *ret_rounds)
{
    struct range_sort *s = range_sort_new(op, max_bytes);
    size_t n = 0;

    assert_non_null(s);
    *ret_rounds = 0;
    do {
        range_sort_begin(s, (int64_t)(limit - n));
        for (size_t i = 0; i < m->n; i++)
            assert_int_equal(range_sort_offer(s, &m->kvs[i], i), 0);
        range_sort_end(s);
        for (size_t i = 0; i < range_sort_count(s) && n < limit; i++) {
            size_t at = range_sort_size(s, i); /* which one it is */

            assert_true(slice_equal(range_sort_key(s, i), m->kvs[at].key));
            keys[n++] = m->kvs[at].key;
        }
        (*ret_rounds)++;
        assert_true(*ret_rounds <= m->n + 1);
    } while (n < limit && range_sort_goes_on(s));
    range_sort_rewind(s);
    range_sort_free(s);
    return n;
}

static void rounds_come_to_what_one_sort_does(void **state)
{
    static const size_t bounds[] = {0, 200, 3000, 30000, 10000000};
    static struct model m;
    static struct kv *sorted[KVS];
    static struct slice keys[KVS];
    unsigned seed = getenv("SEED") != NULL ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);

    print_message("SEED=%u\n", seed);
    srand(seed);
    for (int run = 0; run < 120; run++) {
        struct op_range op = {.sort_order = run % 2 != 0 ? SORT_DESCEND : SORT_ASCEND, .sort_target = (enum sort_target)(run / 2 % 5)};
        size_t limit = run % 3 == 0 ? 1 + (size_t)rand() % 50 : KVS, bound = bounds[run % 5], rounds, n, want;

        make_model(&m, (size_t)rand() % (bound < 3000 ? 200 : KVS));
        for (size_t i = 0; i < m.n; i++)
            sorted[i] = &m.kvs[i];
        qsort_r(sorted, m.n, sizeof(sorted[0]), compare_for, &op);
        n = by_rounds(&m, &op, bound, limit, keys, &rounds);
        want = m.n < limit ? m.n : limit;
        assert_int_equal(n, want);
        for (size_t i = 0; i < n; i++)
            assert_true(slice_equal(keys[i], sorted[i]->key));
        if (bound == 10000000)
            assert_int_equal(rounds, 1);
        else if (bound == 0 && want > 1)
            assert_int_equal(rounds, want); /* one at a time */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_come_to_what_one_sort_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
