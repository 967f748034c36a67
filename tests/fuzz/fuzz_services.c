/* All services of the sidecar (and its pages of plain HTTP) from any bytes of clients, over a node of one member with a real store,
 * without connections. An input is a list of messages: which method, flags, length (2 bytes), bytes.
 *
 *   method  modulo the number of them; the last one is a page, its message PATH?QUERY
 *   1       the call wants a leader
 *   2       on the youngest open call of this method, if there is one, not on a new one
 *   4, 8    the client ends its side; it is gone
 *   16      it reads nothing until the input's end
 *   32      the node refuses what is asked of it meanwhile, by the status that the length says modulo 8
 *   64      nothing runs before the next message
 *
 * What must hold: each call ends once; an answer is whole messages; a unary call without a reason to wait has ended when all is
 * still; when all calls have ended nothing is held or counted any more. A store that was changed is thrown away, so that an input
 * does the same whenever it runs. */
#include <uv.h>

#include "sidecar/figures.h"
#include "sidecar/loops.h"
#include "sidecar/role.h"
#include "sidecar/turn.h"
#include "sidecar/watch.h"
#include "tests/fuzz/fake_calls.h"
#include "tests/fuzz/fake_node.h"

#define MESSAGES_MAX 24
#define TURNS_MAX 20000

enum { FLAG_LEADER = 1, FLAG_SAME = 2, FLAG_HALF_CLOSE = 4, FLAG_GONE = 8, FLAG_UNREAD = 16, FLAG_REFUSE = 32, FLAG_LATER = 64 };

struct world {
    char dir[100];
    uv_loop_t loop;
    struct app app;
    struct store_share *share;
    bool open;
};

static struct world world;

int loops_sum(const struct app *app, struct figures *ret_figures)
{
    *ret_figures = (struct figures){.n_methods = 0};
    return figures_add_app(ret_figures, app);
}

/* The counters are asked for, and told in a later turn. */
struct question_of_figures {
    loops_figures_fn done;
    void *ctx;
};

static struct question_of_figures figures_asked[MESSAGES_MAX];
static size_t n_figures_asked;

int loops_ask(struct app *app, loops_figures_fn done, void *ctx)
{
    FUZZ_MUST(n_figures_asked < MESSAGES_MAX);
    figures_asked[n_figures_asked++] = (struct question_of_figures){done, ctx};
    return 0;
}

static bool tell_figures(struct world *w)
{
    struct figures f;

    if (n_figures_asked == 0)
        return false;
    FUZZ_MUST(loops_sum(&w->app, &f) == 0);
    n_figures_asked--;
    figures_asked[n_figures_asked].done(figures_asked[n_figures_asked].ctx, &f);
    figures_fini(&f);
    return true;
}

static void on_ready(void *ctx)
{
}

static void on_revision(void *ctx, int64_t revision)
{
    feed_on_revision(world.app.feed, revision);
}

static void on_leader(void *ctx, uint64_t leader)
{
    feed_on_leader(world.app.feed, leader);
}

static void on_refused(void *ctx, const char *text)
{
}

static void world_open(struct world *w)
{
    struct node_line_callbacks cb = {NULL, on_ready, on_revision, on_leader, on_refused};
    struct app *app = &w->app;

    node_open(w->dir);
    *app = (struct app){.loop = &w->loop, .log = {.level = LOG_LEVEL_ERROR, .program = "fuzz"}};
    FUZZ_MUST(uv_loop_init(&w->loop) == 0);
    w->share = store_share_new();
    role_init(app);
    compact_init(app);
    list_init(&app->health_watches);
    list_init(&app->turns_woken);
    list_init(&app->keepalive_streams);
    list_init(&app->observers_woken);
    FUZZ_MUST(feed_new(app, 600000, &app->feed) == 0);
    FUZZ_MUST(node_line_open(&w->loop, "socket", w->share, &app->log, &cb, &app->line) == 0);
    node->cb.on_connected(node->cb.ctx, &node->info);
    node->cb.on_leader(node->cb.ctx, 1, 1);
    w->open = true;
}

static void world_close(struct world *w)
{
    feed_close(w->app.feed);
    node_line_close(w->app.line);
    role_close(&w->app);
    compact_close(&w->app);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    feed_free(w->app.feed);
    node_line_free(w->app.line);
    FUZZ_MUST(uv_loop_close(&w->loop) == 0);
    store_share_free(w->share);
    node_close(w->dir);
    w->open = false;
}

static void world_remove(void)
{
    if (world.open)
        world_close(&world);
    rmdir(world.dir);
}

/* ---- turns ---- */

/* One turn of the loop; false: nothing has happened, and nothing is under way. */
static bool turn(struct world *w)
{
    bool busy = node_answer(node);

    busy = tell_figures(w) || busy;
    uv_run(&w->loop, UV_RUN_NOWAIT);
    turns_run(&w->app);
    observers_run(&w->app);
    health_turn(&w->app);
    node_line_turn(w->app.line);
    calls_reap();
    busy = calls_drain() || busy;
    if (w->loop.active_reqs.count > 0) { /* a worker is at it */
        uv_run(&w->loop, UV_RUN_ONCE);
        busy = true;
    }
    return busy || !list_empty(&node->asked) || uv_is_active((uv_handle_t *)&w->app.feed->work) ||
           !list_empty(&w->app.turns_woken) || !list_empty(&w->app.observers_woken);
}

static void settle(struct world *w)
{
    unsigned turns = 0;

    for (unsigned still = 0; still < 2; still = turn(w) ? 0 : still + 1)
        FUZZ_MUST(++turns < TURNS_MAX);
}

/* ---- clients ---- */

static struct grpc_call *call_of(struct world *w, const struct grpc_method *m, uint8_t flags)
{
    struct grpc_call *call;

    if (flags & FLAG_SAME && m->kind == GRPC_STREAM)
        for (struct list *it = calls_open.prev; it != &calls_open; it = it->prev)
            if (LIST_ITEM(it, struct grpc_call, link)->method == m)
                return LIST_ITEM(it, struct grpc_call, link);
    call = calloc(1, sizeof(*call));
    FUZZ_MUST(call != NULL);
    call->method = m;
    call->app = &w->app;
    call->require_leader = flags & FLAG_LEADER;
    call->unread = flags & FLAG_UNREAD;
    list_push_back(&calls_open, &call->link);
    if (m->start != NULL)
        m->start(call);
    return call;
}

static void ask_page(struct world *w, struct slice text)
{
    const uint8_t *mark = text.len > 0 ? memchr(text.data, '?', text.len) : NULL;
    size_t n = mark != NULL ? (size_t)(mark - text.data) : text.len;
    struct http_request request = {.method = slice_from_str("GET"), .path = slice_make(text.data, n)};
    struct http_reply reply = {.status = 0};
    unsigned later = pages_later;

    if (mark != NULL)
        request.query = slice_make(mark + 1, text.len - n - 1);
    pages_answer(&w->app, &request, &reply);
    FUZZ_MUST(pages_later > later || (reply.status >= 200 && reply.status < 600));
    bytes_fini(&reply.body);
}

static void message(struct world *w, size_t method, uint8_t flags, struct slice in)
{
    const struct grpc_method *m = services_methods[method];
    struct grpc_call *call;

    if (m == NULL) {
        ask_page(w, in);
        return;
    }
    call = call_of(w, m, flags);
    if (!call->finished)
        m->message(call, in);
    if (!call->finished && flags & FLAG_HALF_CLOSE && m->half_close != NULL)
        m->half_close(call);
    if (!call->finished && flags & FLAG_GONE)
        call_end(call);
}

/* Some wait for others, or for the node's removal; the rest was to be answered. */
static void check_waiting(void)
{
    LIST_FOREACH(it, &calls_open)
    {
        const struct grpc_call *call = LIST_ITEM(it, struct grpc_call, link);

        FUZZ_MUST(call->method->kind == GRPC_STREAM || call->method == &lock_lock || call->method == &election_campaign ||
                  call->unread);
    }
}

static void check_nothing_held(const struct app *app)
{
    const struct feed_counters *f = feed_counters(app->feed);

    FUZZ_MUST(app->pending_bytes == 0 && app->ranges_in_workers == 0 && app->turns == 0 && app->hashes == 0);
    FUZZ_MUST(app->snapshots == 0 && app->beats == 0 && app->pages_waiting == 0 && pages_later == 0);
    FUZZ_MUST(f->watches == 0 && f->streams == 0 && f->lagging == 0);
    FUZZ_MUST(list_empty(&app->health_watches) && list_empty(&app->keepalive_streams) && list_empty(&app->compactions));
}

static void run(struct world *w, struct slice in)
{
    static const uint16_t refusals[8] = {STATUS_TIMEOUT, STATUS_NO_LEADER, STATUS_TOO_MANY_REQUESTS, STATUS_NO_SPACE,
                                         STATUS_STOPPED, STATUS_CORRUPT, STATUS_LEASE_NOT_FOUND, STATUS_INVALID_REQUEST};
    size_t n_methods = 0;

    while (services_methods[n_methods] != NULL)
        n_methods++;
    for (int i = 0; i < MESSAGES_MAX && in.len >= 4; i++) {
        size_t len = get_le16(in.data + 2), take = len < in.len - 4 ? len : in.len - 4;
        uint8_t *copy = malloc(take + 1); /* so that a sanitizer sees a read past the end */

        FUZZ_MUST(copy != NULL);
        memcpy(copy, in.data + 4, take);
        node->refuse = in.data[1] & FLAG_REFUSE ? refusals[len % 8] : STATUS_OK;
        message(w, in.data[0] % (n_methods + 1), in.data[1], slice_make(copy, take));
        free(copy); /* borrowed for the call alone */
        if (!(in.data[1] & FLAG_LATER))
            settle(w);
        in = slice_make(in.data + 4 + take, in.len - 4 - take);
    }
    node->refuse = STATUS_OK;
    settle(w);
    check_waiting();
    while (!list_empty(&calls_open))
        call_end(LIST_ITEM(calls_open.next, struct grpc_call, link));
    settle(w);
    calls_reap();
    check_nothing_held(&w->app);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (world.dir[0] == '\0') {
        snprintf(world.dir, sizeof(world.dir), "%.70s/fuzz-services.XXXXXX",
                 getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
        FUZZ_MUST(mkdtemp(world.dir) != NULL);
        atexit(world_remove);
        list_init(&calls_open);
        list_init(&calls_ended);
    }
    if (!world.open)
        world_open(&world);
    run(&world, slice_make(data, size));
    if (node->changed)
        world_close(&world);
    return 0;
}
