/* quorumfs-grpc - etcd's v3 API in front of one quorumfs node. docs/grpc.md says what it serves, docs/supervisor.md how
 * quorumfsd runs it.
 *
 * One thread, one loop; two kinds of work go to libuv's workers: long Ranges and the catching up of watches.
 * Nothing here is state that a restart would lose. */
#include "base/streams.h"
#include "sidecar/app.h"
#include "sidecar/listen.h"
#include "sidecar/options.h"
#include "sidecar/role.h"
#include "sidecar/turn.h"
#include "sidecar/watch.h"
#include "tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_BROKEN 1
#define EXIT_UNUSABLE 2 /* a restart mends nothing: docs/supervisor.md */

struct program {
    struct app app;
    struct options options;
    struct tls_context *tls; /* NULL: no https URL */
    uv_loop_t loop;
    uv_signal_t sigterm, sigint;
    int ready_fd;
    int exit_status;
};

/* Inherited open, to be kept from our own children. */
static int take_fd(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long fd;

    if (text == NULL)
        return -1;
    fd = strtol(text, &end, 10);
    if (*end != '\0' || fd < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)fd;
}

/* Large messages come and go: their memory goes back at once instead of staying with each worker's arena. */
static void tame_malloc(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

static void raise_files_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void on_grpc_stopped(void *ctx)
{
    struct app *app = ctx;
    struct program *p = (struct program *)ctx; /* app is its first member */

    feed_close(app->feed);
    node_line_close(app->line);
    role_close(app);
    compact_close(app);
    uv_close((uv_handle_t *)&p->sigterm, NULL);
    uv_close((uv_handle_t *)&p->sigint, NULL);
}

static void stop(struct program *p, int exit_status)
{
    if (p->app.stopping)
        return;
    p->app.stopping = true;
    p->exit_status = exit_status;
    grpc_server_stop(p->app.grpc, on_grpc_stopped);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct program *p = handle->data;

    log_info(&p->app.log, "stopping");
    stop(p, 0);
}

static void on_ready(void *ctx)
{
    struct program *p = ctx;

    log_info(&p->app.log, "serving member %llx", (unsigned long long)node_line_member_id(p->app.line));
    if (p->ready_fd >= 0 && write(p->ready_fd, "ready\n", 6) != 6)
        log_warn(&p->app.log, "telling the supervisor: %s", strerror(errno));
}

static void on_revision(void *ctx, int64_t revision)
{
    struct program *p = ctx;

    feed_on_revision(p->app.feed, revision);
}

static void on_leader(void *ctx, uint64_t leader)
{
    struct program *p = ctx;

    feed_on_leader(p->app.feed, leader);
    p->app.leader_changes += leader != 0 && leader != p->app.last_leader;
    p->app.last_leader = leader;
    role_ask(&p->app);
}

static void on_refused(void *ctx, const char *text)
{
    struct program *p = ctx;

    log_error(&p->app.log, "the node refuses us: %s", text);
    stop(p, EXIT_UNUSABLE);
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

static void on_tls_report(void *ctx, enum tls_report what, const char *text)
{
    const struct program *p = ctx;

    if (what == TLS_RELOADED)
        log_info(&p->app.log, "certificates are loaded anew: %s", text);
    else
        log_warn(&p->app.log, "%s", text);
}

static int open_tls(struct program *p)
{
    const struct options *o = &p->options;
    struct tls_options t = {.cert_file = o->cert_file,
                            .key_file = o->key_file,
                            .ca_file = o->ca_file,
                            .allowed_hostname = o->allowed_hostname,
                            .client_cert_auth = o->client_cert_auth,
                            .http2 = true,
                            .report = on_tls_report,
                            .ctx = p};
    char text[TLS_TEXT_MAX_BYTES];
    bool wanted = false;

    for (size_t i = 0; i < o->n_urls; i++)
        wanted = wanted || o->urls[i].scheme == URL_HTTPS || o->urls[i].scheme == URL_UNIXS;
    if (!wanted)
        return 0;
    if (o->cert_file == NULL || o->key_file == NULL) {
        log_error(&p->app.log, "--listen-client-urls: TLS needs --cert-file and --key-file");
        return -EINVAL;
    }
    if (tls_context_open(&t, &p->tls, text, sizeof text) < 0) {
        log_error(&p->app.log, "%s", text);
        return -EINVAL;
    }
    return 0;
}

static int start(struct program *p)
{
    struct app *app = &p->app;
    struct grpc_config config = {.methods = services_methods,
                                 .page = pages_answer,
                                 .turn = on_turn,
                                 .app = app,
                                 .log = &app->log,
                                 .max_streams = p->options.max_streams,
                                 .keepalive_min_ms = p->options.keepalive_min_ms,
                                 .keepalive_interval_ms = p->options.keepalive_interval_ms,
                                 .keepalive_timeout_ms = p->options.keepalive_timeout_ms};
    struct node_line_callbacks cb = {.ctx = p,
                                     .on_ready = on_ready,
                                     .on_revision = on_revision,
                                     .on_leader = on_leader,
                                     .on_refused = on_refused};
    char text[512];
    int rc;

    if (open_tls(p) < 0)
        return EXIT_UNUSABLE;
    config.tls = p->tls;
    app->loop = &p->loop;
    role_init(app);
    compact_init(app);
    list_init(&app->health_watches);
    list_init(&app->turns_woken);
    list_init(&app->keepalive_streams);
    list_init(&app->observers_woken);
    rc = grpc_server_new(&p->loop, &config, &app->grpc);
    if (rc == 0)
        rc = feed_new(app, p->options.progress_interval_ms, &app->feed);
    if (rc < 0) {
        log_error(&app->log, "starting: %s", strerror(-rc));
        return EXIT_BROKEN;
    }
    rc = node_line_open(&p->loop, p->options.socket_path, &app->log, &cb, &app->line);
    if (rc < 0) {
        log_error(&app->log, "the node's socket %s: %s", p->options.socket_path, strerror(-rc));
        return EXIT_UNUSABLE;
    }
    rc = listen_urls(app->grpc, p->options.urls, p->options.n_urls, text, sizeof text);
    if (rc < 0) {
        log_error(&app->log, "%s", text);
        return EXIT_UNUSABLE;
    }
    p->sigterm.data = p->sigint.data = p;
    rc = uv_signal_init(&p->loop, &p->sigterm);
    if (rc == 0)
        rc = uv_signal_init(&p->loop, &p->sigint);
    if (rc == 0)
        rc = uv_signal_start(&p->sigterm, on_signal, SIGTERM);
    if (rc == 0)
        rc = uv_signal_start(&p->sigint, on_signal, SIGINT);
    if (rc < 0) {
        log_error(&app->log, "signals: %s", uv_strerror(rc));
        return EXIT_BROKEN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct program program = {0}, *p = &program;
    char text[512];

    if (streams_hold() < 0)
        return EXIT_UNUSABLE;
    p->app.log = (struct logger){.level = LOG_LEVEL_INFO, .program = "quorumfs-grpc"};
    if (options_parse(argc - 1, argv + 1, &p->options, text, sizeof text) < 0) {
        log_error(&p->app.log, "%s", text);
        return EXIT_UNUSABLE;
    }
    if (p->options.action != OPTIONS_RUN) {
        if (p->options.action == OPTIONS_HELP)
            fputs(options_usage(), stdout);
        else
            printf("quorumfs-grpc Version: %s\nAPI of etcd Version: %s\n", QUORUMFS_VERSION, ETCD_API_VERSION);
        return 0;
    }
    p->app.log.level = p->options.log_level;
    p->ready_fd = take_fd("QUORUMFS_READY_FD");
    take_fd("QUORUMFS_PARENT_FD");
    signal(SIGPIPE, SIG_IGN);
    raise_files_limit();
    tame_malloc();
    if (uv_loop_init(&p->loop) < 0)
        return EXIT_BROKEN;
    p->exit_status = start(p);
    if (p->exit_status != 0)
        _exit(p->exit_status); /* the system takes back what a start that failed has opened */
    uv_run(&p->loop, UV_RUN_DEFAULT);
    feed_free(p->app.feed);
    node_line_free(p->app.line);
    grpc_server_free(p->app.grpc);
    tls_context_close(p->tls);
    uv_loop_close(&p->loop);
    return p->exit_status;
}
