/* compact.c - etcdserverpb.KV/Compact. It is answered when the log has it; if "physical" is asked for, when the node has removed
 * what it took from this member's store. The node removes by and by and tells nobody, so that is looked at. */
#include "proto/command.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <stdlib.h>

struct compact_call {
    struct ask ask;
    struct list link; /* app->compactions */
    bool physical;
    int64_t revision; /* of the answer's header */
    uint64_t term;
    uint64_t deadline_ms;
};

static bool is_removed(struct app *app)
{
    struct store_read *r = node_line_read(app->line);
    struct store_meta meta;

    return r != NULL && store_read_meta(r, &meta) == 0 && meta.removal.main > meta.compacted;
}

static void on_timer(uv_timer_t *timer)
{
    struct app *app = timer->data;
    bool removed = is_removed(app);

    LIST_FOREACH_SAFE(it, &app->compactions)
    {
        struct compact_call *c = LIST_ITEM(it, struct compact_call, link);

        if (removed)
            answer_unary(app, c->ask.call, c->revision, c->term, slice_make(NULL, 0));
        else if (client_now_ms() >= c->deadline_ms)
            grpc_finish_status(c->ask.call, STATUS_TIMEOUT);
    }
    if (list_empty(&app->compactions))
        uv_timer_stop(&app->compact_timer);
}

static void on_compacted(void *arg, const struct client_answer *answer)
{
    struct compact_call *c = arg;
    struct app *app = c->ask.app;

    ask_done(&c->ask);
    if (answer->status != STATUS_OK) {
        grpc_finish_status(c->ask.call, answer->status);
    } else if (!c->physical || is_removed(app)) {
        answer_unary(app, c->ask.call, answer->revision, answer->term, answer->body);
    } else {
        c->revision = answer->revision;
        c->term = answer->term;
        c->deadline_ms = client_now_ms() + COMPACT_WAIT_MS;
        list_push_back(&app->compactions, &c->link);
        uv_timer_start(&app->compact_timer, on_timer, COMPACT_LOOK_MS, COMPACT_LOOK_MS);
    }
}

static void compact_message(struct grpc_call *call, struct slice message)
{
    struct command cmd = {.kind = COMMAND_COMPACT};
    struct compact_call *c;
    uint16_t status;

    if (ask_refused(call))
        return;
    if (etcd_compact_decode(message, &cmd.compact.revision, &cmd.compact.physical) < 0) {
        ask_malformed(call);
        return;
    }
    status = command_check(&cmd);
    if (status != STATUS_OK) {
        grpc_finish_status(call, status);
        return;
    }
    c = ask_begin(call, sizeof *c);
    if (c == NULL)
        return;
    list_init(&c->link);
    c->physical = cmd.compact.physical;
    grpc_changes(call);
    ask_propose(&c->ask, COMMAND_COMPACT, message, on_compacted);
}

static void compact_end(struct grpc_call *call)
{
    struct compact_call *c = grpc_state(call);

    if (c != NULL)
        list_remove(&c->link);
    ask_end(call);
}

void compact_init(struct app *app)
{
    list_init(&app->compactions);
    uv_timer_init(app->loop, &app->compact_timer);
    app->compact_timer.data = app;
}

void compact_close(struct app *app)
{
    uv_close((uv_handle_t *)&app->compact_timer, NULL);
}

const struct grpc_method kv_compact = {
    .path = "/etcdserverpb.KV/Compact", .kind = GRPC_UNARY, .message = compact_message, .end = compact_end};
