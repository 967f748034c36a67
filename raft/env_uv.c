#include "raft/env_uv.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "raft/stream.h"

struct queue {
    struct env_uv *env;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct work *first, **last;          /* waiting, under the mutex */
    struct work *done_first, **done_last; /* ran, under the mutex */
    bool stop;                           /* under the mutex */
    unsigned out;                        /* submitted and not yet done(): the loop's */
};

struct env_uv {
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_async_t async;
    void (*on_timer)(void *ctx);
    void *ctx;
    uint64_t random_state;
    struct queue queues[WORK_QUEUES];
    int handles; /* open libuv handles */
};

/* ---- clock ---- */

static uint64_t clock_now_ms(void *ctx)
{
    return uv_hrtime() / 1000000;
}

static int64_t clock_wall_ns(void *ctx)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* splitmix64 (Steele, Lea, Flood 2014) from a seed of the kernel's: not for secrets. */
static uint64_t clock_random(void *ctx)
{
    struct env_uv *e = ctx;
    uint64_t z = e->random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void on_uv_timer(uv_timer_t *t)
{
    struct env_uv *e = t->data;

    e->on_timer(e->ctx);
}

static void clock_set_timer(void *ctx, uint64_t at_ms)
{
    struct env_uv *e = ctx;
    uint64_t now = clock_now_ms(e);

    uv_update_time(e->loop); /* the delay counts from the loop's idea of now */
    uv_timer_start(&e->timer, on_uv_timer, at_ms > now ? at_ms - now : 0, 0);
}

/* ---- workers ---- */

static void *worker(void *arg)
{
    struct queue *q = arg;

    pthread_mutex_lock(&q->mutex);
    for (;;) {
        struct work *w = q->first;

        if (w == NULL && q->stop)
            break;
        if (w == NULL) {
            pthread_cond_wait(&q->wake, &q->mutex);
            continue;
        }
        q->first = w->next;
        if (q->first == NULL)
            q->last = &q->first;
        pthread_mutex_unlock(&q->mutex);
        w->run(w);
        pthread_mutex_lock(&q->mutex);
        w->next = NULL;
        *q->done_last = w;
        q->done_last = &w->next;
        pthread_mutex_unlock(&q->mutex);
        uv_async_send(&q->env->async);
        pthread_mutex_lock(&q->mutex);
    }
    pthread_mutex_unlock(&q->mutex);
    return NULL;
}

static void on_async(uv_async_t *a)
{
    struct env_uv *e = a->data;

    for (int i = 0; i < WORK_QUEUES; i++) {
        struct queue *q = &e->queues[i];
        struct work *w;

        pthread_mutex_lock(&q->mutex);
        w = q->done_first;
        q->done_first = NULL;
        q->done_last = &q->done_first;
        pthread_mutex_unlock(&q->mutex);
        while (w != NULL) {
            struct work *next = w->next;

            q->out--;
            w->done(w); /* may submit it again */
            w = next;
        }
    }
}

static void workers_submit(void *ctx, enum work_queue queue, struct work *w)
{
    struct env_uv *e = ctx;
    struct queue *q = &e->queues[queue];

    w->next = NULL;
    q->out++;
    pthread_mutex_lock(&q->mutex);
    *q->last = w;
    q->last = &w->next;
    pthread_mutex_unlock(&q->mutex);
    pthread_cond_signal(&q->wake); /* not before: the thread would wake to wait for the mutex */
}

static bool workers_idle(void *ctx, enum work_queue queue)
{
    struct env_uv *e = ctx;

    return e->queues[queue].out == 0;
}

static int start_queue(struct env_uv *e, struct queue *q)
{
    sigset_t all, before;
    int rc;

    q->env = e;
    q->last = &q->first;
    q->done_last = &q->done_first;
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->wake, NULL);
    sigfillset(&all); /* signals are the loop thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&q->thread, NULL, worker, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

static void stop_queue(struct queue *q)
{
    pthread_mutex_lock(&q->mutex);
    q->stop = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->mutex);
    pthread_join(q->thread, NULL);
    pthread_mutex_destroy(&q->mutex);
    pthread_cond_destroy(&q->wake);
}

/* ---- all ---- */

static void on_closed(uv_handle_t *h)
{
    struct env_uv *e = h->data;

    if (--e->handles == 0)
        free(e);
}

static void close_handles(struct env_uv *e)
{
    uv_close((uv_handle_t *)&e->timer, on_closed);
    uv_close((uv_handle_t *)&e->async, on_closed);
}

int env_uv_open(uv_loop_t *loop, void (*on_timer)(void *ctx), void *ctx, struct env_uv **ret_env)
{
    struct env_uv *e = calloc(1, sizeof(*e));
    int rc;

    if (e == NULL)
        return -ENOMEM;
    if (getrandom(&e->random_state, sizeof(e->random_state), 0) != sizeof(e->random_state)) {
        free(e);
        return -EIO;
    }
    e->loop = loop;
    e->on_timer = on_timer;
    e->ctx = ctx;
    rc = uv_async_init(loop, &e->async, on_async);
    if (rc < 0) {
        free(e);
        return err_from_uv(rc);
    }
    uv_timer_init(loop, &e->timer); /* cannot fail */
    e->async.data = e->timer.data = e;
    e->handles = 2;
    for (int i = 0; i < WORK_QUEUES; i++) {
        rc = start_queue(e, &e->queues[i]);
        if (rc < 0) {
            while (i-- > 0)
                stop_queue(&e->queues[i]);
            close_handles(e);
            return rc;
        }
    }
    *ret_env = e;
    return 0;
}

void env_uv_tables(struct env_uv *e, struct clock *ret_clock, struct workers *ret_workers)
{
    *ret_clock = (struct clock){e, clock_now_ms, clock_wall_ns, clock_random, clock_set_timer};
    *ret_workers = (struct workers){e, workers_submit, workers_idle};
}

void env_uv_close(struct env_uv *e)
{
    for (int i = 0; i < WORK_QUEUES; i++) {
        assert(e->queues[i].out == 0);
        stop_queue(&e->queues[i]);
    }
    close_handles(e);
}
