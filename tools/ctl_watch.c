/* watch and log dump: the rows of the node's log, read from the environment by slices.
 *
 * A slice is collected with a short read transaction and written out after it, so that a slow reader of ours pins no
 * pages. A watch holds nothing but the revision to go on from, so a restart of the node means waiting, no more. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#include "tools/ctl.h"

#define SLICE_BYTES (1024 * 1024)
#define POLL_MS 500 /* at which a lost connection's silence is looked into; news come by themselves */

struct tail {
    struct ctl *ctl;
    struct store_read *read;
    struct arena arena;
    int64_t from;     /* the next revision to print */
    int64_t current;  /* revision of the row before */
    struct slice key, end;
    bool dump;        /* all rows, as they are in the log */
    bool stopped;     /* the slice is full and rows are left */
    int error;
};

static bool in_range(const struct tail *t, struct slice key)
{
    if (t->end.len == 0)
        return slice_equal(key, t->key);
    if (slice_cmp(key, t->key) < 0)
        return false;
    return (t->end.len == 1 && t->end.data[0] == 0) || slice_cmp(key, t->end) < 0;
}

static void print_change(struct tail *t, const struct event *e, const struct kv *kv, const struct kv *prev)
{
    struct ctl_out *o = &t->ctl->out;
    bool deleted = e->kind == EVENT_DELETE;

    if (o->json) {
        ctl_out_text(o, "{\"type\":\"%s\",\"revision\":%lld,\"kv\":", deleted ? "delete" : "put",
                     (long long)e->rev.main);
        ctl_out_kv_json(o, kv);
        if (prev != NULL) {
            ctl_out_text(o, ",\"prev_kv\":");
            ctl_out_kv_json(o, prev);
        }
        ctl_out_text(o, "}\n");
        return;
    }
    ctl_out_text(o, deleted ? "DELETE\n" : "PUT\n");
    if (prev != NULL) {
        ctl_out_line(o, prev->key);
        ctl_out_line(o, prev->value);
    }
    ctl_out_line(o, kv->key);
    ctl_out_line(o, kv->value);
}

static int emit_change(struct tail *t, const struct event *e)
{
    struct kv kv, prev;
    int have_prev = 0, rc;

    if (!event_is_public(e) || !in_range(t, e->key))
        return 0;
    rc = store_event_kv(t->read, e, &t->arena, &kv);
    if (rc == 0 && t->ctl->opts->prev_kv)
        rc = have_prev = store_event_prev_kv(t->read, e, &t->arena, &prev);
    if (rc < 0)
        return rc;
    print_change(t, e, &kv, have_prev > 0 ? &prev : NULL);
    return 0;
}

static const char *kind_name(enum event_kind kind)
{
    static const char *const names[] = {
        [EVENT_PUT] = "put",        [EVENT_DELETE] = "delete", [EVENT_DIR_PUT] = "dir-put", [EVENT_DIR_DELETE] = "dir-delete",
        [EVENT_RENAME] = "rename",  [EVENT_ATTR] = "attr", [EVENT_LOCK] = "lock",
    };

    return (unsigned)kind < sizeof(names) / sizeof(names[0]) && names[kind] != NULL ? names[kind] : "unknown";
}

static int emit_row(struct tail *t, const struct event *e)
{
    struct ctl_out *o = &t->ctl->out;
    struct slice value = {NULL, 0};
    int rc = 0;

    if (e->kind == EVENT_PUT || e->kind == EVENT_RENAME)
        rc = store_event_value(t->read, e, &t->arena, &value);
    if (rc < 0)
        return rc;
    if (!o->json) {
        ctl_out_text(o, "%" PRId64 ".%" PRId64 " %s ", e->rev.main, e->rev.sub, kind_name(e->kind));
        ctl_out_quoted(o, e->key);
        ctl_out_text(o, " ");
        ctl_out_quoted(o, value);
        ctl_out_text(o, "\n");
        return 0;
    }
    ctl_out_text(o, "{\"revision\":%" PRId64 ",\"sub\":%" PRId64 ",\"kind\":\"%s\",\"flags\":%u,\"key\":", e->rev.main,
                 e->rev.sub, kind_name(e->kind), e->flags);
    ctl_out_base64(o, e->key);
    ctl_out_text(o, ",\"value\":");
    ctl_out_base64(o, value);
    ctl_out_text(o, ",\"create_revision\":%" PRId64 ",\"version\":%" PRId64 ",\"lease\":%" PRId64 ",\"time_ns\":%" PRId64,
                 e->create.main, e->version, e->lease, e->time_ns);
    ctl_out_text(o, ",\"session\":%" PRIu64 ",\"sequence\":%" PRIu64 ",\"origin\":%" PRIu64 "}\n", e->session,
                 e->sequence, e->origin);
    return 0;
}

/* Stops only in front of a revision, so that each is printed whole. */
static int emit_event(void *ctx, const struct event *e)
{
    struct tail *t = ctx;

    if (e->rev.main != t->current && t->ctl->out.buf.len >= SLICE_BYTES) {
        t->from = e->rev.main;
        t->stopped = true;
        return 1;
    }
    t->current = e->rev.main;
    arena_reset(&t->arena);
    t->error = t->dump ? emit_row(t, e) : emit_change(t, e);
    return t->error < 0;
}

/* 1: printed up to what the store has; 0: there is more; -1 as usual. */
static int print_slice(struct tail *t)
{
    uint16_t status = STATUS_OK;
    int64_t next, newest = 0, compacted = 0;
    int rc;

    if (ctl_store(t->ctl) < 0)
        return -1;
    rc = store_read_begin(t->ctl->store, &t->read);
    if (rc < 0)
        return ctl_fail("cannot read the store: %s", strerror(-rc));
    newest = store_read_revision(t->read);
    compacted = store_read_compacted(t->read);
    if (t->from == 0)
        t->from = t->dump ? compacted + 1 : newest + 1;
    t->stopped = false;
    if (t->from <= newest)
        rc = store_events(t->read, t->from, emit_event, t, &next, &status);
    store_read_end(t->read);
    if (rc == 0)
        rc = t->error;
    if (rc < 0)
        return ctl_fail("cannot read the store: %s", strerror(-rc));
    if (status == STATUS_COMPACTED)
        return ctl_fail("%s (up to %lld)", status_text(status), (long long)compacted);
    if (status != STATUS_OK)
        return ctl_fail_status(status);
    if (ctl_out_flush(&t->ctl->out) < 0)
        return -1;
    if (!t->stopped && t->from <= newest)
        t->from = newest + 1;
    return !t->stopped;
}

/* Waits for news from the node, or for the reader of our output to go away. */
static int wait_for_news(struct tail *t)
{
    struct client *client = t->ctl->client;
    uint64_t epoch;
    int64_t revision;

    for (;;) {
        struct pollfd p[2] = {{client_fd(client), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};

        client_process(client);
        if (t->ctl->refused)
            return -1;
        client_revision(client, &epoch, &revision);
        if (revision >= t->from || epoch > store_epoch(t->ctl->store))
            return 0;
        if (poll(p, 2, POLL_MS) < 0 && errno != EINTR)
            return ctl_fail("poll: %s", strerror(errno));
        if ((p[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
            return -1;
    }
}

static int key_range(const struct ctl_options *opts, struct tail *t)
{
    struct op_delete op;

    if (ctl_delete_from(opts, &t->arena, &op) < 0)
        return -1;
    if (op.key.len == 0)
        return ctl_fail_status(STATUS_EMPTY_KEY);
    t->key = op.key;
    t->end = op.range_end;
    return 0;
}

int ctl_watch(struct ctl *c)
{
    struct tail t = {.ctl = c, .from = c->opts->rev};
    struct arena keys;
    int rc;

    arena_init(&t.arena);
    rc = key_range(c->opts, &t);
    keys = t.arena; /* the key lives as long as the watch, the rest as long as a row */
    arena_init(&t.arena);
    while (rc == 0) {
        rc = print_slice(&t);
        if (rc == 1)
            rc = wait_for_news(&t);
    }
    arena_fini(&t.arena);
    arena_fini(&keys);
    return rc;
}

int ctl_log(struct ctl *c)
{
    struct tail t = {.ctl = c, .from = c->opts->rev, .dump = true};
    int rc;

    if (strcmp(c->opts->args[0], "dump") != 0)
        return ctl_fail("log: '%s' is not a command; dump is", c->opts->args[0]);
    arena_init(&t.arena);
    do
        rc = print_slice(&t);
    while (rc == 0);
    arena_fini(&t.arena);
    return rc < 0 ? -1 : 0;
}
