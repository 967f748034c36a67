/* .quorumfs/events: changes as lines of JSON, for cat. A stream is a cursor in the log and the lines read ahead of its reader:
 * one that never reads costs a bounded buffer, and delays nobody. A read with nothing to give waits; a signal ends it at once. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "fs/json.h"
#include "fs/mount.h"

struct event_stream {
    struct list link; /* mount.virtual.streams */
    int64_t next;     /* revision to go on from */
    struct bytes lines;
    size_t given;     /* of lines */
    bool ended;       /* compaction has overtaken it, and the last line said so */
    int error;
    struct list readers; /* struct waiting */
    struct fuse_pollhandle *poll;
};

struct event_stream *events_open(struct mount *m, int64_t from)
{
    struct event_stream *s = m->virtual.n_streams < VIRTUAL_STREAMS_MAX ? calloc(1, sizeof(*s)) : NULL;

    if (s == NULL)
        return NULL;
    s->next = from != 0 ? from : m->revision + 1;
    bytes_init(&s->lines);
    list_init(&s->readers);
    list_push_back(&m->virtual.streams, &s->link);
    m->virtual.n_streams++;
    return s;
}

void events_close(struct mount *m, struct event_stream *s)
{
    if (s->poll != NULL)
        fuse_pollhandle_destroy(s->poll);
    list_remove(&s->link);
    m->virtual.n_streams--;
    bytes_fini(&s->lines);
    free(s);
}

/* ---- lines ---- */

struct writer {
    struct mount *m;
    struct event_stream *s;
    struct name_place root;
    struct bytes path;
    size_t rows;
    int64_t last, stopped; /* stopped: at the first row of that revision, which is for the next time */
};

/* The path below this mount; false: it is not below it. */
static bool put_path(struct writer *w, const char *name, struct slice key, bool is_dir)
{
    struct node_stat st;
    bool also_dir = !is_dir && store_stat(w->m->read, key, &st) == 0 && st.type == NODE_DIRECTORY;

    bytes_reset(&w->path);
    if (name_path(&w->root, key, is_dir, also_dir, &w->path) < 0)
        return false;
    json_bytes(&w->s->lines, name, bytes_slice(&w->path));
    return true;
}

static const char *type_of(const struct event *e)
{
    switch (e->kind) {
    case EVENT_PUT:
        return "put";
    case EVENT_DELETE:
        return "delete";
    case EVENT_DIR_PUT:
        return (e->flags & EVENT_CREATED) != 0 ? "mkdir" : "attributes";
    case EVENT_DIR_DELETE:
        return "rmdir";
    case EVENT_RENAME:
        return "rename";
    case EVENT_ATTR:
        return "attributes";
    default:
        return NULL;
    }
}

static int put_rename(struct writer *w, const struct event *e, bool *ret_shown)
{
    struct bytes *out = &w->s->lines;
    struct arena arena;
    struct slice to;
    int rc;

    arena_init(&arena);
    rc = store_event_value(w->m->read, e, &arena, &to);
    if (rc == 0) {
        bool from_shown = put_path(w, "path", e->key, true), to_shown = put_path(w, "to", to, true);

        *ret_shown = from_shown || to_shown;
        if ((e->flags & EVENT_EXCHANGE) != 0) {
            json_name(out, "exchange");
            json_bool(out, true);
        }
    }
    arena_fini(&arena);
    return rc;
}

static int put_line(void *ctx, const struct event *e)
{
    struct writer *w = ctx;
    struct bytes *out = &w->s->lines;
    bool is_dir = e->kind == EVENT_DIR_PUT || e->kind == EVENT_DIR_DELETE, shown = true;
    size_t start = out->len;
    int rc = 0;

    if ((out->len >= VIRTUAL_STREAM_BYTES || w->rows++ >= VIRTUAL_STREAM_ROWS) && e->rev.main != w->last) {
        w->stopped = e->rev.main;
        return 1;
    }
    w->last = e->rev.main;
    if (type_of(e) == NULL || (e->flags & EVENT_OF_RENAME) != 0)
        return 0;
    json_open(out, '{');
    json_name(out, "revision");
    json_number(out, e->rev.main);
    json_name(out, "type");
    json_text(out, slice_from_str(type_of(e)));
    if (e->kind == EVENT_RENAME)
        rc = put_rename(w, e, &shown);
    else
        shown = put_path(w, "path", e->key, is_dir);
    if (e->kind == EVENT_PUT) {
        json_name(out, "size");
        json_number(out, (int64_t)e->value_len);
        if ((e->flags & EVENT_CREATED) != 0) {
            json_name(out, "created");
            json_bool(out, true);
        }
    }
    json_name(out, "time_ns");
    json_number(out, e->time_ns);
    json_close(out, '}');
    bytes_u8(out, '\n');
    if (!shown || rc < 0)
        out->len = start;
    return rc < 0 ? rc : bytes_status(out);
}

static void put_overtaken(struct mount *m, struct event_stream *s)
{
    struct bytes *out = &s->lines;

    json_open(out, '{');
    json_name(out, "type");
    json_text(out, slice_from_str("compacted"));
    json_name(out, "compact_revision");
    json_number(out, store_read_compacted(m->read));
    json_close(out, '}');
    bytes_u8(out, '\n');
    s->ended = true;
    s->error = ESTALE;
}

/* Reads on, if the reader has taken what there was. */
static void fill(struct mount *m, struct event_stream *s)
{
    struct writer w = {.m = m, .s = s};
    uint16_t status = STATUS_OK;
    int64_t next = s->next;
    int rc;

    if (s->ended || s->lines.len > s->given || s->next > m->revision)
        return;
    bytes_reset(&s->lines);
    s->given = 0;
    name_place_init(&w.root);
    bytes_init(&w.path);
    rc = name_root(slice_from_str(m->opt.prefix), &w.root);
    if (rc == 0)
        rc = store_events(m->read, s->next, put_line, &w, &next, &status);
    if (rc < 0) {
        s->ended = true;
        s->error = errno_of(rc);
    } else if (status != STATUS_OK) {
        put_overtaken(m, s);
    } else {
        s->next = w.stopped != 0 ? w.stopped : next;
    }
    bytes_fini(&w.path);
    name_place_fini(&w.root);
}

/* ---- reading ---- */

static bool has_something(const struct event_stream *s)
{
    return s->lines.len > s->given || s->ended;
}

static void give(fuse_req_t req, struct event_stream *s, size_t size)
{
    size_t left = s->lines.len - s->given, n = left < size ? left : size;

    if (left == 0) {
        fuse_reply_err(req, s->error);
        return;
    }
    fuse_reply_buf(req, (const char *)s->lines.data + s->given, n);
    s->given += n;
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct waiting *w = data;

    if (list_empty(&w->interrupted)) /* libfuse still needs the request here: the loop answers it */
        list_push_back(&w->m->virtual.interrupted, &w->interrupted);
}

static void end_read(struct waiting *w, int error)
{
    fuse_req_interrupt_func(w->req, NULL, NULL);
    if (error == EINTR)
        fuse_reply_err(w->req, EINTR);
    else
        fuse_reply_buf(w->req, NULL, 0); /* the mount ends: so does the stream */
    wait_free(w);
}

void events_read(struct mount *m, fuse_req_t req, struct event_stream *s, size_t size)
{
    struct waiting *w;

    fill(m, s);
    if (has_something(s) && list_empty(&s->readers)) {
        give(req, s, size);
        return;
    }
    w = wait_new(m, req, end_read);
    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    m->virtual.streams_behind = true; /* the loop looks */
    w->state = WAIT_OTHER;
    w->ino = size;
    list_push_back(&s->readers, &w->link);
    fuse_req_interrupt_func(req, on_interrupt, w);
}

unsigned events_poll(struct mount *m, struct event_stream *s, struct fuse_pollhandle *ph)
{
    fill(m, s);
    if (ph != NULL) {
        if (s->poll != NULL)
            fuse_pollhandle_destroy(s->poll);
        s->poll = ph;
        m->virtual.streams_behind = true;
    }
    return has_something(s) ? POLLIN | POLLRDNORM : 0;
}

/* False: it is waited for, and what there is has not all been looked at. */
static bool serve(struct mount *m, struct event_stream *s)
{
    if (list_empty(&s->readers) && s->poll == NULL)
        return true; /* what nobody waits for is read when somebody asks */
    fill(m, s);
    while (has_something(s) && !list_empty(&s->readers)) {
        struct waiting *w = LIST_ITEM(s->readers.next, struct waiting, link);

        fuse_req_interrupt_func(w->req, NULL, NULL);
        give(w->req, s, w->ino);
        wait_free(w);
        fill(m, s);
    }
    if (has_something(s) && s->poll != NULL) {
        fuse_lowlevel_notify_poll(s->poll);
        fuse_pollhandle_destroy(s->poll);
        s->poll = NULL;
    }
    return has_something(s) || s->next > m->revision || (list_empty(&s->readers) && s->poll == NULL);
}

void events_work(struct mount *m)
{
    struct virtual_tree *v = &m->virtual;

    while (!list_empty(&v->interrupted)) {
        struct waiting *w = LIST_ITEM(v->interrupted.next, struct waiting, interrupted);

        list_remove(&w->interrupted);
        end_read(w, EINTR);
    }
    if (v->streamed == m->revision && !v->streams_behind)
        return;
    v->streamed = m->revision;
    v->streams_behind = false;
    LIST_FOREACH(it, &v->streams)
        if (!serve(m, LIST_ITEM(it, struct event_stream, link)))
            v->streams_behind = true;
}
