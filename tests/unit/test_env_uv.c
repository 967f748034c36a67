/* raft/env_uv: each queue keeps its order and runs beside the loop, done() comes on the loop, the timer is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <pthread.h>
#include <cmocka.h>

#include "raft/env_uv.h"

#define ITEMS 2000

struct item {
    struct work work;
    struct world *world;
    enum work_queue queue;
    int number;
    bool ran;
};

struct world {
    uv_loop_t loop;
    struct env_uv *env;
    struct clock clock;
    struct workers workers;
    pthread_t loop_thread;
    struct item items[WORK_QUEUES][ITEMS];
    int ran[WORK_QUEUES], done[WORK_QUEUES]; /* the next number expected; ran: of that worker alone */
    atomic_bool gate;                        /* items 0 wait for it */
    int timers, resubmitted;
    uint64_t due_ms;
};

static void run_item(struct work *w)
{
    struct item *it = (struct item *)w;

    assert_false(pthread_equal(pthread_self(), it->world->loop_thread));
    while (it->number == 0 && !atomic_load(&it->world->gate))
        sched_yield();
    assert_int_equal(it->world->ran[it->queue]++, it->number);
    it->ran = true;
}

static void item_done(struct work *w)
{
    struct item *it = (struct item *)w;

    assert_true(pthread_equal(pthread_self(), it->world->loop_thread));
    assert_true(it->ran);
    assert_int_equal(it->world->done[it->queue]++, it->number);
}

static void on_timer(void *ctx)
{
    struct world *w = ctx;

    w->timers++;
    assert_true(w->clock.now_ms(w->clock.ctx) >= w->due_ms);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(env_uv_open(&w->loop, on_timer, w, &w->env), 0);
    env_uv_tables(w->env, &w->clock, &w->workers);
    w->loop_thread = pthread_self();
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    env_uv_close(w->env);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

static void submit(struct world *w, enum work_queue queue, int number)
{
    struct item *it = &w->items[queue][number];

    *it = (struct item){.work = {.run = run_item, .done = item_done}, .world = w, .queue = queue, .number = number};
    w->workers.submit(w->workers.ctx, queue, &it->work);
}

static void each_queue_keeps_its_order(void **state)
{
    struct world *w = *state;

    assert_true(w->workers.idle(w->workers.ctx, WORK_LOG));
    for (int i = 0; i < ITEMS; i++)
        for (int q = 0; q < WORK_QUEUES; q++)
            submit(w, (enum work_queue)q, i);
    assert_false(w->workers.idle(w->workers.ctx, WORK_LOG));
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->done[WORK_LOG], 0);
    atomic_store(&w->gate, true);
    while (w->done[WORK_LOG] < ITEMS || w->done[WORK_APPLY] < ITEMS || w->done[WORK_CHECKPOINT] < ITEMS)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_true(w->workers.idle(w->workers.ctx, WORK_LOG));
    assert_true(w->workers.idle(w->workers.ctx, WORK_APPLY));
}

static void done_again(struct work *work)
{
    struct item *it = (struct item *)work;
    struct world *w = it->world;

    item_done(work);
    assert_true(w->workers.idle(w->workers.ctx, it->queue)); /* a new one may run in line from here */
    if (it->number + 1 == 100)
        return;
    it->number++;
    it->ran = false;
    w->resubmitted++;
    w->workers.submit(w->workers.ctx, it->queue, work);
}

static void an_item_may_be_submitted_again_by_its_own_end(void **state)
{
    struct world *w = *state;
    struct item *it = &w->items[WORK_APPLY][0];

    atomic_store(&w->gate, true);
    *it = (struct item){.work = {.run = run_item, .done = done_again}, .world = w, .queue = WORK_APPLY};
    w->workers.submit(w->workers.ctx, WORK_APPLY, &it->work);
    while (w->done[WORK_APPLY] < 100)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->resubmitted, 99);
}

static void the_timer_is_one_and_the_last_counts(void **state)
{
    struct world *w = *state;
    uint64_t now = w->clock.now_ms(w->clock.ctx);

    w->clock.set_timer(w->clock.ctx, now + 100000);
    w->due_ms = now + 20;
    w->clock.set_timer(w->clock.ctx, now + 20);
    while (w->timers == 0) /* NOWAIT: one that fires first thing would leave nothing to wait for */
        uv_run(&w->loop, UV_RUN_NOWAIT);
    w->due_ms = 0;
    w->clock.set_timer(w->clock.ctx, 0); /* long past: at once, but not from within */
    assert_int_equal(w->timers, 1);
    while (w->timers == 1)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->timers, 2);
    assert_true(w->clock.random(w->clock.ctx) != w->clock.random(w->clock.ctx));
    assert_true(w->clock.wall_ns(w->clock.ctx) > 1000000000000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_queue_keeps_its_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_item_may_be_submitted_again_by_its_own_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_timer_is_one_and_the_last_counts, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
