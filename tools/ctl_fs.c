/* quorumctl fs: files as a mount shows them, for machines without one; now and at a revision. A path is a key's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tools/ctl.h"

#define SLICE_ROWS 100000

struct fs {
    struct ctl *c;
    struct store_read *read;
    struct store_old *old; /* NULL: now */
    struct slice dir;
    int64_t count;
};

static int fail_errno(int rc)
{
    return ctl_fail("cannot read the store: %s", strerror(-rc));
}

static int begin(struct fs *f)
{
    struct ctl *c = f->c;
    uint16_t status = STATUS_OK;
    bool more = c->opts->rev != 0;
    int rc;

    if (ctl_barrier(c) < 0 || ctl_store(c) < 0)
        return -1;
    rc = store_read_begin(c->store, &f->read);
    if (rc == 0 && c->opts->rev != 0)
        rc = store_old_new(c->opts->rev, &f->old);
    while (rc == 0 && more && status == STATUS_OK)
        rc = store_old_advance(f->old, f->read, SLICE_ROWS, &more, &status);
    if (rc < 0)
        return fail_errno(rc);
    return status != STATUS_OK ? ctl_fail_status(status) : 0;
}

static void end(struct fs *f)
{
    store_read_end(f->read);
    store_old_free(f->old);
}

/* ---- ls ---- */

static int get_stat(struct fs *f, struct slice path, bool key_alone, struct node_stat *st)
{
    if (f->old == NULL)
        return (key_alone ? store_stat_key : store_stat)(f->read, path, st);
    return (key_alone ? store_stat_key_at : store_stat_at)(f->read, f->old, path, st);
}

static const char *type_of(const struct node_stat *st)
{
    if (st->type == NODE_DIRECTORY)
        return "directory";
    switch (st->attrs.has & ATTR_MODE ? st->attrs.mode & S_IFMT : S_IFREG) {
    case S_IFLNK:
        return "link";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    default:
        return "file";
    }
}

static void print_time(struct ctl_out *out, int64_t time_ns)
{
    time_t seconds = (time_t)(time_ns / 1000000000);
    char text[64] = "";
    struct tm tm;

    if (gmtime_r(&seconds, &tm) != NULL)
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    ctl_out_text(out, "%s", text);
}

static int print_child(void *ctx, const struct store_child *child)
{
    struct fs *f = ctx;
    struct ctl_out *out = &f->c->out;
    struct node_stat st;
    struct bytes path;
    int rc;

    bytes_init(&path);
    bytes_append(&path, f->dir);
    bytes_u8(&path, '/');
    bytes_append(&path, child->component);
    rc = bytes_status(&path);
    if (rc == 0)
        rc = get_stat(f, bytes_slice(&path), !child->is_dir, &st);
    bytes_fini(&path);
    if (rc < 0)
        return rc;
    if (out->json) {
        ctl_out_text(out, "%s{\"name\":", f->count++ != 0 ? "," : "");
        ctl_out_base64(out, child->component);
        ctl_out_text(out, ",\"type\":\"%s\",\"size\":%" PRIu64 ",\"revision\":%" PRId64 ",\"also_key\":%s", type_of(&st), st.size,
                     st.mod.main, child->is_key && child->is_dir ? "true" : "false");
        if (st.attrs.has & ATTR_MODE)
            ctl_out_text(out, ",\"mode\":\"%o\"", st.attrs.mode & 07777);
        ctl_out_text(out, "}");
    } else {
        ctl_out_text(out, "%-9s %9" PRIu64 " %9" PRId64 " ", type_of(&st), st.size, st.mod.main);
        ctl_out_line(out, child->component);
    }
    return 0;
}

static int list(struct fs *f, struct slice path)
{
    struct ctl_out *out = &f->c->out;
    int rc;

    f->dir = path.len != 0 && path.data[path.len - 1] == '/' ? slice_make(path.data, path.len - 1) : path;
    if (out->json)
        ctl_out_text(out, "{\"entries\":[");
    rc = f->old != NULL ? store_list_at(f->read, f->old, f->dir, print_child, f)
                        : store_list(f->read, f->dir, slice_make(NULL, 0), print_child, f);
    if (out->json)
        ctl_out_text(out, "]}\n");
    return rc < 0 ? fail_errno(rc) : 0;
}

/* ---- cat ---- */

static int print_content(struct fs *f, struct slice path)
{
    uint16_t status = STATUS_OK;
    struct slice value;
    struct arena arena;
    int rc;

    arena_init(&arena);
    rc = store_value_at(f->read, path, f->c->opts->rev, &arena, &value, &status);
    if (rc == 0 && status == STATUS_OK)
        bytes_append(&f->c->out.buf, value);
    arena_fini(&arena);
    return rc < 0 ? fail_errno(rc) : status != STATUS_OK ? ctl_fail_status(status) : 0;
}

/* ---- history ---- */

struct versions {
    struct event *events;
    size_t n, cap;
};

static int take_version(void *ctx, const struct event *e)
{
    struct versions *v = ctx;

    if (v->n == v->cap) {
        size_t cap = v->cap != 0 ? v->cap * 2 : 64;
        struct event *events = realloc(v->events, cap * sizeof(*events));

        if (events == NULL)
            return -ENOMEM;
        v->events = events;
        v->cap = cap;
    }
    v->events[v->n++] = *e;
    return 0;
}

static void print_version(struct ctl_out *out, const struct event *e, bool first)
{
    const char *what = e->kind == EVENT_DELETE ? "delete" : e->kind == EVENT_ATTR ? "attributes" : "put";

    if (out->json) {
        ctl_out_text(out, "%s{\"revision\":%" PRId64 ",\"type\":\"%s\",", first ? "" : ",", e->rev.main, what);
        ctl_out_text(out, "\"size\":%" PRIu64 ",\"version\":%" PRId64 ",\"time\":\"", e->value_len, e->version);
        print_time(out, e->time_ns);
        ctl_out_text(out, "\"}");
    } else {
        ctl_out_text(out, "%9" PRId64 " %-10s %9" PRIu64 " ", e->rev.main, what, e->value_len);
        print_time(out, e->time_ns);
        ctl_out_text(out, "\n");
    }
}

static int print_history(struct fs *f, struct slice path)
{
    struct ctl_out *out = &f->c->out;
    struct versions v = {0};
    int rc = store_key_history(f->read, path, f->c->opts->limit != 0 ? (size_t)f->c->opts->limit : SIZE_MAX, take_version, &v);

    if (rc == 0 && out->json)
        ctl_out_text(out, "{\"versions\":[");
    for (size_t i = v.n; rc == 0 && i-- > 0;) /* the newest last */
        print_version(out, &v.events[i], i + 1 == v.n);
    if (rc == 0 && out->json)
        ctl_out_text(out, "]}\n");
    free(v.events);
    return rc < 0 ? fail_errno(rc) : 0;
}

int ctl_fs(struct ctl *c)
{
    const char *verb = c->opts->args[0];
    struct slice path = slice_from_str(c->opts->args[1]);
    struct fs f = {.c = c};
    int (*run)(struct fs *f, struct slice path) = strcmp(verb, "ls") == 0        ? list
                                                  : strcmp(verb, "cat") == 0     ? print_content
                                                  : strcmp(verb, "history") == 0 ? print_history
                                                                                 : NULL;
    int rc;

    if (run == NULL)
        return ctl_fail("fs: '%s' is not a command; ls, cat and history are", verb);
    rc = begin(&f);
    if (rc == 0)
        rc = run(&f, path);
    end(&f); /* before a reader of ours can make us wait */
    return rc == 0 ? ctl_out_flush(&c->out) : rc;
}
