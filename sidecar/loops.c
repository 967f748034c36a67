#include "sidecar/loops.h"

#include "sidecar/listen.h"
#include "sidecar/role.h"
#include "sidecar/turn.h"
#include "tls/tls.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_BROKEN 1
#define EXIT_UNUSABLE 2 /* a restart mends nothing: docs/supervisor.md */

/* A connection on its way from the loop that has accepted it. */
struct gift {
    int fd;
    unsigned security;
    bool is_unix;
};

struct loop {
    struct app app; /* first: services see only this */
    uv_loop_t loop;
    uv_async_t wake; /* gifts, or the end */
    uv_thread_t thread; /* but the first one's, which is main's */
    struct tls_context *tls; /* NULL: no https URL */
    struct list questions; /* its own, that not all have answered */
    uv_timer_t patience;   /* with the first of them */
    /* under the lock of all */
    struct gift gifts[LOOP_GIFTS_MAX];
    size_t n_gifts;
    struct figures figures; /* as of the question with the number `told` */
    uint64_t told;
    bool asks; /* it has questions */
};

/* How the counters of all loops stand. */
struct question {
    struct list link;
    uint64_t number, asked_ms;
    loops_figures_fn done;
    void *ctx;
};

struct loops {
    const struct options *options;
    struct logger log;
    void (*on_ready)(void *ctx);
    void *ctx;
    struct store_share *share;
    struct loop *loops;
    unsigned n;
    unsigned next; /* of the first loop: who got the last connection */
    uv_signal_t sigterm, sigint;
    uv_mutex_t lock;
    /* under it */
    unsigned n_ready;
    uint64_t asked; /* number of the last question */
    bool stopping;
    int exit_status;
};

/* ---- the end ---- */

static void on_grpc_stopped(void *ctx)
{
    struct loop *l = ctx;
    struct loops *all = l->app.loops;

    feed_close(l->app.feed);
    node_line_close(l->app.line);
    role_close(&l->app);
    compact_close(&l->app);
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_close((uv_handle_t *)&l->patience, NULL);
    if (l == all->loops) {
        uv_close((uv_handle_t *)&all->sigterm, NULL);
        uv_close((uv_handle_t *)&all->sigint, NULL);
    }
}

/* From any loop: all end. */
static void stop(struct loops *all, int exit_status)
{
    uv_mutex_lock(&all->lock);
    if (!all->stopping) {
        all->stopping = true;
        all->exit_status = exit_status;
        for (unsigned i = 0; i < all->n; i++)
            uv_async_send(&all->loops[i].wake);
    }
    uv_mutex_unlock(&all->lock);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loops *all = handle->data;

    log_info(&all->log, "stopping");
    stop(all, 0);
}

/* ---- counters of all loops: whoever wants the sum asks, and each loop leaves its own ---- */

/* Under the lock. */
static bool all_told(const struct loops *all, const struct loop *asking, uint64_t number)
{
    for (unsigned i = 0; i < all->n; i++)
        if (&all->loops[i] != asking && all->loops[i].told < number)
            return false;
    return true;
}

/* Leaves this loop's counters, if somebody has asked since it last did. */
static void tell(struct loop *l)
{
    struct loops *all = l->app.loops;

    uv_mutex_lock(&all->lock);
    if (l->told < all->asked) {
        figures_fini(&l->figures);
        figures_add_app(&l->figures, &l->app); /* without memory a part is missing */
        l->told = all->asked;
        for (unsigned i = 0; i < all->n && !all->stopping; i++)
            if (all->loops[i].asks && &all->loops[i] != l)
                uv_async_send(&all->loops[i].wake);
    }
    uv_mutex_unlock(&all->lock);
}

int loops_sum(const struct app *app, struct figures *ret_figures)
{
    struct loops *all = app->loops;
    struct figures f = {.n_methods = 0};
    int rc = figures_add_app(&f, app);

    if (all != NULL) {
        uv_mutex_lock(&all->lock);
        for (unsigned i = 0; i < all->n && rc == 0; i++)
            if (&all->loops[i].app != app)
                rc = figures_add(&f, &all->loops[i].figures);
        uv_mutex_unlock(&all->lock);
    }
    if (rc < 0)
        figures_fini(&f);
    else
        *ret_figures = f;
    return rc;
}

static void answer(struct loop *l, struct question *q)
{
    struct figures f = {.n_methods = 0};

    loops_sum(&l->app, &f);
    q->done(q->ctx, &f);
    figures_fini(&f);
    free(q);
}

static void on_patience(uv_timer_t *timer);

/* Answers what all have answered, or has waited for long enough. */
static void settle(struct loop *l)
{
    struct loops *all = l->app.loops;
    uint64_t now = uv_now(&l->loop);

    while (!list_empty(&l->questions)) {
        struct question *q = LIST_ITEM(l->questions.next, struct question, link);
        bool ready = now - q->asked_ms >= LOOP_FIGURES_MS;

        uv_mutex_lock(&all->lock);
        ready = ready || all->stopping || all_told(all, l, q->number);
        l->asks = !ready || q->link.next != &l->questions;
        uv_mutex_unlock(&all->lock);
        if (!ready) {
            uv_timer_start(&l->patience, on_patience, LOOP_FIGURES_MS - (now - q->asked_ms), 0);
            return;
        }
        list_remove(&q->link);
        answer(l, q);
    }
    if (!uv_is_closing((uv_handle_t *)&l->patience))
        uv_timer_stop(&l->patience);
}

static void on_patience(uv_timer_t *timer)
{
    settle(timer->data);
}

int loops_ask(struct app *app, loops_figures_fn done, void *ctx)
{
    struct loops *all = app->loops;
    struct loop *l = (struct loop *)app; /* its first member */
    struct question *q;
    bool stopping;

    uv_mutex_lock(&all->lock);
    stopping = all->stopping;
    uv_mutex_unlock(&all->lock);
    q = stopping ? NULL : malloc(sizeof *q);
    if (q == NULL)
        return stopping ? -ESHUTDOWN : -ENOMEM;
    *q = (struct question){.asked_ms = uv_now(&l->loop), .done = done, .ctx = ctx};
    list_push_back(&l->questions, &q->link);
    uv_mutex_lock(&all->lock);
    q->number = ++all->asked;
    l->asks = true;
    for (unsigned i = 0; i < all->n && !all->stopping; i++)
        uv_async_send(&all->loops[i].wake); /* its own as well: the answer comes in a later turn */
    uv_mutex_unlock(&all->lock);
    return 0;
}

/* ---- between loops ---- */

static void on_wake(uv_async_t *wake)
{
    struct loop *l = wake->data;
    struct loops *all = l->app.loops;
    struct gift gifts[LOOP_GIFTS_MAX];
    size_t n;
    bool stopping;

    uv_mutex_lock(&all->lock);
    n = l->n_gifts;
    memcpy(gifts, l->gifts, n * sizeof gifts[0]);
    l->n_gifts = 0;
    stopping = all->stopping;
    uv_mutex_unlock(&all->lock);
    for (size_t i = 0; i < n; i++)
        grpc_server_adopt(l->app.grpc, gifts[i].fd, gifts[i].security, gifts[i].is_unix);
    tell(l);
    settle(l);
    if (stopping && !l->app.stopping) {
        l->app.stopping = true;
        grpc_server_stop(l->app.grpc, on_grpc_stopped);
    }
}

/* Each loop in turn. */
static bool wants_to_give(void *app)
{
    struct loops *all = ((struct app *)app)->loops;

    all->next = (all->next + 1) % all->n;
    return all->next != 0;
}

/* Whoever does not come to take what it was given gets no more. */
static bool give(void *app, int fd, unsigned security, bool is_unix)
{
    struct loops *all = ((struct app *)app)->loops;
    struct loop *l = &all->loops[all->next];
    bool taken = false;

    uv_mutex_lock(&all->lock);
    if (!all->stopping && l->n_gifts < LOOP_GIFTS_MAX) {
        l->gifts[l->n_gifts++] = (struct gift){fd, security, is_unix};
        taken = true;
        uv_async_send(&l->wake); /* under the lock: it is not closed before it has heard of the end */
    }
    uv_mutex_unlock(&all->lock);
    return taken;
}

/* ---- what a loop hears ---- */

static void on_ready(void *ctx)
{
    struct loop *l = ctx;
    struct loops *all = l->app.loops;
    bool last;

    uv_mutex_lock(&all->lock);
    last = ++all->n_ready == all->n;
    uv_mutex_unlock(&all->lock);
    if (!last)
        return;
    log_info(&all->log, "serving member %llx", (unsigned long long)node_line_member_id(l->app.line));
    all->on_ready(all->ctx);
}

static void on_revision(void *ctx, int64_t revision)
{
    struct loop *l = ctx;

    feed_on_revision(l->app.feed, revision);
}

static void on_leader(void *ctx, uint64_t leader)
{
    struct loop *l = ctx;

    feed_on_leader(l->app.feed, leader);
    l->app.leader_changes += leader != 0 && leader != l->app.last_leader;
    l->app.last_leader = leader;
    role_ask(&l->app);
}

static void on_refused(void *ctx, const char *text)
{
    struct loop *l = ctx;

    log_error(&l->app.log, "the node refuses us: %s", text);
    stop(l->app.loops, EXIT_UNUSABLE);
}

static void on_turn(void *ctx)
{
    struct app *app = ctx;

    if (app->line == NULL)
        return;
    turns_run(app);
    observers_run(app);
    health_turn(app);
    node_line_turn(app->line);
}

/* ---- opening ---- */

static void on_tls_report(void *ctx, enum tls_report what, const char *text)
{
    const struct loop *l = ctx;

    if (what == TLS_RELOADED)
        log_info(&l->app.log, "certificates are loaded anew: %s", text);
    else
        log_warn(&l->app.log, "%s", text);
}

static int open_tls(struct loop *l)
{
    const struct options *o = l->app.loops->options;
    struct tls_options t = {.cert_file = o->cert_file,
                            .key_file = o->key_file,
                            .ca_file = o->ca_file,
                            .crl_file = o->crl_file,
                            .cipher_suites = o->cipher_suites,
                            .allowed_hostname = o->allowed_hostname,
                            .client_cert_auth = o->client_cert_auth,
                            .http2 = true,
                            .report = on_tls_report,
                            .ctx = l};
    char text[TLS_TEXT_MAX_BYTES];
    bool wanted = false;

    for (size_t i = 0; i < o->n_urls; i++)
        wanted = wanted || o->urls[i].scheme == URL_HTTPS || o->urls[i].scheme == URL_UNIXS;
    if (!wanted)
        return 0;
    if (o->cert_file == NULL || o->key_file == NULL) {
        log_error(&l->app.log, "--listen-client-urls: TLS needs --cert-file and --key-file");
        return -EINVAL;
    }
    if (tls_context_open(&t, &l->tls, text, sizeof text) < 0) {
        log_error(&l->app.log, "%s", text);
        return -EINVAL;
    }
    return 0;
}

/* 0, or the exit status. */
static int open_loop(struct loops *all, struct loop *l)
{
    const struct options *o = all->options;
    struct app *app = &l->app;
    struct grpc_config config = {.methods = services_methods,
                                 .page = pages_answer,
                                 .turn = on_turn,
                                 .app = app,
                                 .log = &app->log,
                                 .max_streams = o->max_streams,
                                 .wants_to_give = wants_to_give,
                                 .give = l == all->loops && all->n > 1 ? give : NULL,
                                 .keepalive_min_ms = o->keepalive_min_ms,
                                 .keepalive_interval_ms = o->keepalive_interval_ms,
                                 .keepalive_timeout_ms = o->keepalive_timeout_ms};
    struct node_line_callbacks cb = {
        .ctx = l, .on_ready = on_ready, .on_revision = on_revision, .on_leader = on_leader, .on_refused = on_refused};
    int rc;

    app->loops = all;
    app->log = all->log;
    if (open_tls(l) < 0)
        return EXIT_UNUSABLE;
    config.tls = l->tls;
    if (uv_loop_init(&l->loop) < 0 || uv_async_init(&l->loop, &l->wake, on_wake) < 0)
        return EXIT_BROKEN;
    uv_timer_init(&l->loop, &l->patience);
    l->wake.data = l->patience.data = l;
    list_init(&l->questions);
    app->loop = &l->loop;
    role_init(app);
    compact_init(app);
    list_init(&app->health_watches);
    list_init(&app->turns_woken);
    list_init(&app->keepalive_streams);
    list_init(&app->observers_woken);
    rc = grpc_server_new(&l->loop, &config, &app->grpc);
    if (rc == 0)
        rc = feed_new(app, o->progress_interval_ms, &app->feed);
    if (rc < 0) {
        log_error(&app->log, "starting: %s", strerror(-rc));
        return EXIT_BROKEN;
    }
    rc = node_line_open(&l->loop, o->socket_path, all->share, &app->log, &cb, &app->line);
    if (rc < 0) {
        log_error(&app->log, "the node's socket %s: %s", o->socket_path, strerror(-rc));
        return EXIT_UNUSABLE;
    }
    return 0;
}

static int open_signals(struct loops *all)
{
    uv_loop_t *loop = &all->loops[0].loop;
    int rc = uv_signal_init(loop, &all->sigterm);

    all->sigterm.data = all->sigint.data = all;
    if (rc == 0)
        rc = uv_signal_init(loop, &all->sigint);
    if (rc == 0)
        rc = uv_signal_start(&all->sigterm, on_signal, SIGTERM);
    if (rc == 0)
        rc = uv_signal_start(&all->sigint, on_signal, SIGINT);
    if (rc < 0)
        log_error(&all->log, "signals: %s", uv_strerror(rc));
    return rc < 0 ? EXIT_BROKEN : 0;
}

static void run_loop(void *arg)
{
    struct loop *l = arg;

    uv_run(&l->loop, UV_RUN_DEFAULT);
}

static int start(struct loops *all)
{
    char text[512];
    int status = 0;

    for (unsigned i = 0; i < all->n && status == 0; i++)
        status = open_loop(all, &all->loops[i]);
    if (status != 0)
        return status;
    if (listen_urls(all->loops[0].app.grpc, all->options->urls, all->options->n_urls, text, sizeof text) < 0) {
        log_error(&all->log, "%s", text);
        return EXIT_UNUSABLE;
    }
    status = open_signals(all);
    for (unsigned i = 1; i < all->n && status == 0; i++) {
        if (uv_thread_create(&all->loops[i].thread, run_loop, &all->loops[i]) < 0) {
            log_error(&all->log, "a thread cannot be started");
            status = EXIT_BROKEN;
        }
    }
    return status;
}

static void close_loop(struct loop *l)
{
    feed_free(l->app.feed);
    node_line_free(l->app.line);
    grpc_server_free(l->app.grpc);
    tls_context_close(l->tls);
    figures_fini(&l->figures);
    uv_loop_close(&l->loop);
}

int loops_run(const struct options *options, const struct logger *log, void (*ready)(void *ctx), void *ctx)
{
    struct loops all = {.options = options, .log = *log, .on_ready = ready, .ctx = ctx, .n = options->loops};
    int status = EXIT_BROKEN;

    all.loops = calloc(all.n, sizeof *all.loops);
    all.share = store_share_new();
    if (all.loops != NULL && all.share != NULL && uv_mutex_init(&all.lock) == 0)
        status = start(&all);
    if (status != 0)
        _exit(status); /* the system takes back what a start that failed has opened */
    run_loop(&all.loops[0]);
    for (unsigned i = 1; i < all.n; i++)
        uv_thread_join(&all.loops[i].thread);
    for (unsigned i = 0; i < all.n; i++)
        close_loop(&all.loops[i]);
    store_share_free(all.share);
    uv_mutex_destroy(&all.lock);
    free(all.loops);
    return all.exit_status;
}
