#include "raft/env_uv.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

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
    uv_poll_t done; /* of done_fd */
    int done_fd;    /* written by workers that have put something on an empty list */
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

/* Not by uv_async_send(): the loop, woken by it, spins until the sender has left it, and that is seldom soon when the
 * loop's thread has taken the sender's processor. */
static void wake_loop(struct env_uv *e)
{
    const uint64_t one = 1;
    ssize_t n;

    do
        n = write(e->done_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

static void *worker(void *arg)
{
    struct queue *q = arg;
    bool was_empty;

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
        was_empty = q->done_first == NULL;
        *q->done_last = w;
        q->done_last = &w->next;
        pthread_mutex_unlock(&q->mutex);
        if (was_empty) /* else the loop has been woken and has not come yet */
            wake_loop(q->env);
        pthread_mutex_lock(&q->mutex);
    }
    pthread_mutex_unlock(&q->mutex);
    return NULL;
}

static void on_done(uv_poll_t *poll, int status, int events)
{
    struct env_uv *e = poll->data;
    uint64_t times;

    if (read(e->done_fd, &times, sizeof(times)) < 0) /* before the lists: what comes behind writes anew */
        return;
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

    if (--e->handles > 0)
        return;
    close(e->done_fd);
    free(e);
}

static void close_handles(struct env_uv *e)
{
    uv_close((uv_handle_t *)&e->timer, on_closed);
    uv_close((uv_handle_t *)&e->done, on_closed);
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
    e->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->done_fd < 0) {
        rc = -errno;
        free(e);
        return rc;
    }
    rc = uv_poll_init(loop, &e->done, e->done_fd);
    if (rc < 0) {
        close(e->done_fd);
        free(e);
        return err_from_uv(rc);
    }
    uv_timer_init(loop, &e->timer); /* cannot fail */
    e->done.data = e->timer.data = e;
    e->handles = 2;
    uv_poll_start(&e->done, UV_READABLE, on_done); /* cannot fail on an open handle */
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
