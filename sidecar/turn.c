#include "sidecar/turn.h"

#include <assert.h>
#include <errno.h>

#define TURN_READ_MAX_BYTES (64u * 1024 * 1024)

static void wake(struct turn *t)
{
    list_remove(&t->link);
    list_push_back(&t->app->turns_woken, &t->link);
}

static void on_events(void *ctx, int64_t revision, const struct slice_event *const *events, size_t n)
{
    wake(ctx);
}

static void on_compacted(void *ctx, int64_t compacted)
{
    wake(ctx);
}

static const struct watch_sink turn_sink = {on_events, on_compacted};

static void end(struct turn *t)
{
    if (t->watches == NULL)
        return;
    watch_stream_free(t->watches);
    t->watches = NULL;
    t->app->turns--;
}

static void finish(struct turn *t, uint16_t status)
{
    end(t);
    t->done(t, status);
}

int turn_prefix_end(struct slice prefix, struct arena *arena, struct slice *ret_end)
{
    uint8_t *end = arena_alloc(arena, prefix.len);

    assert(prefix.len > 0 && prefix.data[prefix.len - 1] == '/');
    if (end == NULL)
        return -ENOMEM;
    memcpy(end, prefix.data, prefix.len);
    end[prefix.len - 1]++;
    *ret_end = slice_make(end, prefix.len);
    return 0;
}

/* The youngest key that is older than ours. */
static int find_in_front(struct turn *t, struct store_read *r, struct arena *arena, struct slice *ret_key, uint16_t *ret_status)
{
    struct op_range op = {.key = t->prefix,
                          .limit = 1,
                          .sort_order = SORT_DESCEND,
                          .sort_target = SORT_BY_CREATE,
                          .keys_only = true,
                          .max_create_revision = t->revision - 1};
    struct range_result result;
    int rc = turn_prefix_end(t->prefix, arena, &op.range_end);

    *ret_key = slice_make(NULL, 0);
    if (rc == 0)
        rc = store_range(r, &op, arena, TURN_READ_MAX_BYTES, &result, ret_status);
    if (rc == 0 && *ret_status == STATUS_OK && result.n_kvs > 0)
        *ret_key = result.kvs[0].key;
    return rc;
}

static void look(struct turn *t)
{
    struct store_read *r = node_line_read(t->app->line);
    uint16_t status = STATUS_OK;
    struct arena arena;
    struct slice key;
    int rc;

    if (r == NULL) { /* between two epochs: the new one's first notice is a turn of its own */
        wake(t);
        return;
    }
    arena_init(&arena);
    rc = find_in_front(t, r, &arena, &key, &status);
    watch_stream_clear(t->watches);
    if (rc == 0 && status == STATUS_OK && key.len > 0)
        rc = watch_stream_add(t->watches, key, slice_make(NULL, 0), store_read_revision(r) + 1, WATCH_NOPUT);
    arena_fini(&arena);
    t->waited = t->waited || key.len > 0;
    if (rc < 0)
        finish(t, STATUS_TOO_MANY_REQUESTS);
    else if (status != STATUS_OK || key.len == 0)
        finish(t, status);
}

void turn_wait(struct turn *t, struct grpc_call *call, struct slice prefix, int64_t revision,
               void (*done)(struct turn *t, uint16_t status))
{
    struct app *app = app_of(call);

    *t = (struct turn){.app = app, .call = call, .prefix = prefix, .revision = revision, .done = done};
    list_init(&t->link);
    if (app->turns >= SERVER_TURNS_MAX || (t->watches = watch_stream_new(call, &turn_sink, t)) == NULL) {
        done(t, STATUS_TOO_MANY_REQUESTS);
        return;
    }
    app->turns++;
    wake(t);
}

void turn_cancel(struct turn *t)
{
    if (t->app == NULL)
        return;
    list_remove(&t->link);
    end(t);
}

void turns_run(struct app *app)
{
    struct list woken;

    list_init(&woken);
    while (!list_empty(&app->turns_woken)) {
        struct list *it = app->turns_woken.next;

        list_remove(it);
        list_push_back(&woken, it);
    }
    while (!list_empty(&woken)) { /* done() may end calls, but no other waiter's */
        struct turn *t = LIST_ITEM(woken.next, struct turn, link);

        list_remove(&t->link);
        look(t);
    }
}
