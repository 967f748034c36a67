/* pages.c - plain HTTP on the client port: /health, /livez, /readyz with the checks of etcd 3.6, /version, /metrics.
 *
 * A check that asks the cluster waits for a barrier, and /metrics for the node's status: such a page is answered later. */
#include "sidecar/pages.h"

#include "sidecar/loops.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void page_put(struct bytes *out, const char *format, ...)
{
    char line[512];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    if (n > 0)
        bytes_raw(out, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* ---- queries ---- */

/* The next NAME or NAME=VALUE of a query; false: no more. */
static bool next_pair(struct slice *query, struct slice *ret_name, struct slice *ret_value)
{
    const uint8_t *end, *equals;
    struct slice pair;

    if (query->len == 0)
        return false;
    end = memchr(query->data, '&', query->len);
    pair = slice_make(query->data, end != NULL ? (size_t)(end - query->data) : query->len);
    *query = slice_make(query->data + pair.len + (end != NULL), query->len - pair.len - (end != NULL));
    equals = pair.len > 0 ? memchr(pair.data, '=', pair.len) : NULL;
    *ret_name = slice_make(pair.data, equals != NULL ? (size_t)(equals - pair.data) : pair.len);
    *ret_value = equals != NULL ? slice_make(equals + 1, pair.len - ret_name->len - 1) : slice_make(NULL, 0);
    return true;
}

static bool query_has(struct slice query, const char *name, const char *value)
{
    struct slice n, v;

    while (next_pair(&query, &n, &v))
        if (slice_equal(n, slice_from_str(name)) && (value == NULL || slice_equal(v, slice_from_str(value))))
            return true;
    return false;
}

/* ---- checks ---- */

static const struct check {
    const char *name;
    bool livez, readyz;
} checks[HEALTH_CHECKS] = {
    [CHECK_DATA_CORRUPTION] = {"data_corruption", false, true},
    [CHECK_SERIALIZABLE_READ] = {"serializable_read", true, true},
    [CHECK_LINEARIZABLE_READ] = {"linearizable_read", false, true},
    [CHECK_NON_LEARNER] = {"non_learner", false, true},
};

const char *health_check_name(enum health_check check)
{
    return checks[check].name;
}

enum page_kind { PAGE_HEALTH, PAGE_LIVEZ, PAGE_READYZ };

struct run {
    struct app *app;
    struct page_wait *wait; /* NULL: answered within the request */
    enum page_kind kind;
    unsigned asked;         /* checks, as bits */
    bool verbose, serializable;
    const char *alarm;      /* that says /health is false; NULL: none */
    const char *wrong[HEALTH_CHECKS]; /* NULL: ok */
};

/* The alarm of that type, or the first that the query does not exclude. */
static const char *alarm_text(const struct alarm *alarms, size_t n, struct slice query)
{
    for (size_t i = 0; i < n; i++) {
        bool no_space = alarms[i].type == ALARM_NOSPACE, corrupt = alarms[i].type == ALARM_CORRUPT;

        if (!query_has(query, "exclude", no_space ? "NOSPACE" : corrupt ? "CORRUPT" : "NONE"))
            return no_space ? "ALARM NOSPACE" : corrupt ? "ALARM CORRUPT" : "ALARM UNKNOWN";
    }
    return NULL;
}

/* What needs no answer from the node. */
static void check_here(struct run *run, struct slice query)
{
    struct app *app = run->app;
    struct store_read *r = node_line_read(app->line);
    struct alarm *alarms;
    struct arena arena;
    size_t n = 0;

    arena_init(&arena);
    if (r == NULL || store_alarms(r, &arena, &alarms, &n) < 0) {
        run->wrong[CHECK_SERIALIZABLE_READ] = status_text(STATUS_TIMEOUT);
    } else {
        run->alarm = alarm_text(alarms, n, query);
        for (size_t i = 0; i < n; i++)
            if (alarms[i].type == ALARM_CORRUPT)
                run->wrong[CHECK_DATA_CORRUPTION] = "alarm activated: CORRUPT";
    }
    arena_fini(&arena);
    if (app->learner)
        run->wrong[CHECK_NON_LEARNER] = "not supported for learner";
    if (!node_line_connected(app->line))
        run->wrong[CHECK_LINEARIZABLE_READ] = status_text(STATUS_TIMEOUT);
    else if (client_leader(node_line_client(app->line)) == 0)
        run->wrong[CHECK_LINEARIZABLE_READ] = status_text(STATUS_NO_LEADER);
}

static void write_health(const struct run *run, struct http_reply *reply)
{
    const struct client *c = node_line_client(run->app->line);
    char text[256] = "";
    bool linearizable = !run->serializable;
    enum health_check read = linearizable ? CHECK_LINEARIZABLE_READ : CHECK_SERIALIZABLE_READ;

    if (run->alarm != NULL)
        snprintf(text, sizeof text, "%s", run->alarm);
    else if (linearizable && node_line_connected(run->app->line) && client_leader(c) == 0)
        snprintf(text, sizeof text, "RAFT NO LEADER");
    else if (run->wrong[read] != NULL)
        snprintf(text, sizeof text, "RANGE ERROR:%s", run->wrong[read]);
    if (text[0] == '\0')
        run->app->health.success++;
    else
        run->app->health.failures++;
    reply->status = text[0] == '\0' ? 200 : 503;
    reply->content_type = text[0] == '\0' ? "application/json" : "text/plain; charset=utf-8";
    page_put(&reply->body, "{\"health\":\"%s\",\"reason\":\"%s\"}%s", text[0] == '\0' ? "true" : "false", text,
             text[0] == '\0' ? "" : "\n");
}

static void write_checks(const struct run *run, struct http_reply *reply)
{
    struct health_counters *c = &run->app->health;
    size_t type = run->kind == PAGE_READYZ;
    bool all = true;

    for (size_t i = 0; i < HEALTH_CHECKS; i++)
        all = all && ((run->asked & 1u << i) == 0 || run->wrong[i] == NULL);
    for (size_t i = 0; i < HEALTH_CHECKS; i++) {
        if ((run->asked & 1u << i) == 0)
            continue;
        c->checks[type][i][run->wrong[i] != NULL]++;
        c->failing[type][i] = run->wrong[i] != NULL;
        if (run->wrong[i] != NULL)
            page_put(&reply->body, "[-]%s failed: %s\n", checks[i].name, run->wrong[i]);
        else if (run->verbose || !all)
            page_put(&reply->body, "[+]%s ok\n", checks[i].name);
    }
    reply->status = all ? 200 : 503;
    page_put(&reply->body, all ? "ok\n" : "\n");
}

static void write_page(const struct run *run, struct http_reply *reply)
{
    if (run->kind == PAGE_HEALTH)
        write_health(run, reply);
    else
        write_checks(run, reply);
}

static void answer_later(struct run *run)
{
    struct http_reply reply = {.status = 503, .content_type = "text/plain; charset=utf-8"};

    bytes_init(&reply.body);
    write_page(run, &reply);
    page_answer(run->wait, &reply);
    bytes_fini(&reply.body);
    free(run);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct run *run = arg;

    run->app->pages_waiting--;
    if (status != STATUS_OK)
        run->wrong[CHECK_LINEARIZABLE_READ] = status_text(status);
    answer_later(run);
}

/* Asks the cluster; false: no more than it is known to be away or too much asks already, and the page is answered at once. */
static bool ask_cluster(const struct run *from, const struct http_request *request)
{
    struct app *app = from->app;
    struct run *run;

    if ((from->asked & 1u << CHECK_LINEARIZABLE_READ) == 0 || from->wrong[CHECK_LINEARIZABLE_READ] != NULL)
        return false;
    run = app->pages_waiting < PAGES_WAITING_MAX ? malloc(sizeof *run) : NULL;
    if (run == NULL)
        return false;
    *run = *from;
    if (client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, run) < 0) {
        free(run);
        return false;
    }
    node_line_touch(app->line);
    app->pages_waiting++;
    run->wait = page_later(request);
    return true;
}

static void run_checks(struct app *app, const struct http_request *request, enum page_kind kind, unsigned asked,
                       struct http_reply *reply)
{
    struct run run = {.app = app,
                      .kind = kind,
                      .asked = asked,
                      .verbose = query_has(request->query, "verbose", NULL),
                      .serializable = query_has(request->query, "serializable", "true")};

    check_here(&run, kind == PAGE_HEALTH ? request->query : slice_make(NULL, 0));
    if (kind == PAGE_HEALTH)
        run.asked = run.serializable || run.alarm != NULL ? 0 : 1u << CHECK_LINEARIZABLE_READ;
    if (ask_cluster(&run, request))
        return;
    if ((run.asked & 1u << CHECK_LINEARIZABLE_READ) != 0 && run.wrong[CHECK_LINEARIZABLE_READ] == NULL)
        run.wrong[CHECK_LINEARIZABLE_READ] = status_text(STATUS_TOO_MANY_REQUESTS);
    write_page(&run, reply);
}

/* /livez, /readyz and one check of either: /readyz/linearizable_read. */
static bool check_page(struct app *app, const struct http_request *request, const char *root, enum page_kind kind,
                       struct http_reply *reply)
{
    struct slice path = request->path;
    size_t len = strlen(root);
    unsigned asked = 0;

    if (!slice_has_prefix(path, slice_from_str(root)))
        return false;
    path = slice_make(path.data + len, path.len - len);
    for (size_t i = 0; i < HEALTH_CHECKS; i++) {
        bool has = kind == PAGE_LIVEZ ? checks[i].livez : checks[i].readyz;
        struct slice name = slice_from_str(checks[i].name);

        if (has && path.len == 0 && !query_has(request->query, "exclude", checks[i].name))
            asked |= 1u << i;
        if (has && path.len == name.len + 1 && path.data[0] == '/' &&
            slice_equal(slice_make(path.data + 1, name.len), name))
            asked |= 1u << i;
    }
    if (path.len > 0 && asked == 0 && !(kind == PAGE_LIVEZ && slice_equal(path, slice_from_str("/ping"))))
        return false;
    run_checks(app, request, kind, asked, reply);
    return true;
}

/* ---- /metrics: first what the loops count, then the node's own figures ---- */

struct metrics_run {
    struct app *app;
    struct page_wait *wait;
    struct figures figures;
};

static void write_metrics(struct app *app, const struct figures *figures, struct slice json, struct http_reply *reply)
{
    reply->status = 200;
    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_write(app, figures, json, &reply->body);
}

static void on_status(void *arg, uint16_t status, struct slice json)
{
    struct metrics_run *run = arg;
    struct http_reply reply = {.status = 503};

    run->app->pages_waiting--;
    bytes_init(&reply.body);
    write_metrics(run->app, &run->figures, status == STATUS_OK ? json : slice_make(NULL, 0), &reply);
    page_answer(run->wait, &reply);
    bytes_fini(&reply.body);
    figures_fini(&run->figures);
    free(run);
}

/* Waits for the node's own figures, but not for long: without them the rest is said. */
static void on_figures(void *arg, const struct figures *figures)
{
    struct metrics_run *run = arg;
    struct node_line *line = run->app->line;

    figures_add(&run->figures, figures); /* a copy */
    if (node_line_connected(line) &&
        client_status(node_line_client(line), client_now_ms() + METRICS_WAIT_MS, on_status, run) > 0)
        node_line_touch(line);
    else
        on_status(run, STATUS_TIMEOUT, slice_make(NULL, 0));
}

static void metrics(struct app *app, const struct http_request *request, struct http_reply *reply)
{
    struct metrics_run *run = app->pages_waiting < PAGES_WAITING_MAX ? calloc(1, sizeof *run) : NULL;
    struct figures figures = {.n_methods = 0};

    if (run != NULL) {
        run->app = app;
        if (loops_ask(app, on_figures, run) == 0) {
            app->pages_waiting++;
            run->wait = page_later(request);
            return;
        }
        free(run);
    }
    loops_sum(app, &figures);
    write_metrics(app, &figures, slice_make(NULL, 0), reply);
    figures_fini(&figures);
}

void pages_answer(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct app *app = ctx;

    reply->status = 503; /* also what a page says that comes later, if there is no memory to wait with */
    if (slice_equal(request->path, slice_from_str("/health"))) {
        run_checks(app, request, PAGE_HEALTH, 0, reply);
    } else if (check_page(app, request, "/livez", PAGE_LIVEZ, reply) ||
               check_page(app, request, "/readyz", PAGE_READYZ, reply)) {
        return;
    } else if (slice_equal(request->path, slice_from_str("/version"))) {
        reply->status = 200;
        reply->content_type = "application/json";
        page_put(&reply->body, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\",\"storage\":\"%s\"}", ETCD_API_VERSION,
                 ETCD_CLUSTER_VERSION, ETCD_CLUSTER_VERSION);
    } else if (slice_equal(request->path, slice_from_str("/metrics"))) {
        metrics(app, request, reply);
    } else {
        reply->status = 404;
        page_put(&reply->body, "404 page not found\n");
    }
}
