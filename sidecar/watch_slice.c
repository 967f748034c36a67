#include "sidecar/watch_slice.h"

#include "proto/etcd.h"
#include "sidecar/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define EVENTS_FIELD_TAG (11 << 3 | 2)

void watch_slice_init(struct watch_slice *s)
{
    *s = (struct watch_slice){0};
    arena_init(&s->keys);
}

void watch_slice_reset(struct watch_slice *s)
{
    for (size_t i = 0; i < s->n_events; i++) {
        body_unref(s->events[i].plain);
        body_unref(s->events[i].with_prev);
    }
    s->n_events = 0;
    s->next = s->snapshot = s->compacted = 0;
    s->more = false;
    s->bytes = 0;
    arena_reset(&s->keys);
}

void watch_slice_fini(struct watch_slice *s)
{
    watch_slice_reset(s);
    free(s->events);
    arena_fini(&s->keys);
    *s = (struct watch_slice){0};
}

static size_t varint_len(size_t v)
{
    size_t n = 1;

    while ((v >>= 7) != 0)
        n++;
    return n;
}

/* Tag, length and the event, in a body. */
static struct body *encode_event(bool is_delete, const struct kv *kv, const struct kv *prev, struct bytes *scratch)
{
    struct body *b;
    size_t n;
    uint8_t *p;

    bytes_reset(scratch);
    etcd_event_encode(is_delete, kv, prev, scratch);
    if (bytes_status(scratch) < 0)
        return NULL;
    n = 1 + varint_len(scratch->len);
    b = body_new(n + scratch->len);
    if (b == NULL)
        return NULL;
    p = b->data;
    *p++ = EVENTS_FIELD_TAG;
    for (size_t v = scratch->len; n > 1; n--, v >>= 7)
        *p++ = (uint8_t)((v & 0x7f) | (n > 2 ? 0x80 : 0));
    if (scratch->len > 0)
        memcpy(p, scratch->data, scratch->len);
    return b;
}

static int append_event(struct store_read *r, const struct event *e, unsigned want, struct arena *arena,
                        struct bytes *scratch, struct watch_slice *s)
{
    struct slice_event *out;
    struct kv kv, prev;
    int rc;

    if (s->n_events == s->cap) {
        size_t cap = s->cap != 0 ? s->cap * 2 : 64;
        struct slice_event *events = realloc(s->events, cap * sizeof *events);

        if (events == NULL)
            return -ENOMEM;
        s->events = events;
        s->cap = cap;
    }
    rc = store_event_kv(r, e, arena, &kv);
    if (rc < 0)
        return rc;
    out = &s->events[s->n_events];
    *out = (struct slice_event){.revision = e->rev.main, .is_delete = e->kind == EVENT_DELETE};
    if (arena_copy(&s->keys, e->key, &out->key) < 0)
        return -ENOMEM;
    out->plain = encode_event(out->is_delete, &kv, NULL, scratch);
    if (out->plain == NULL)
        return -ENOMEM;
    s->n_events++;
    s->bytes += out->plain->len;
    if ((want & SLICE_PREV) != 0 && e->prev.main != 0) {
        rc = store_event_prev_kv(r, e, arena, &prev);
        if (rc < 0)
            return rc;
        if (rc == 1) {
            out->with_prev = encode_event(out->is_delete, &kv, &prev, scratch);
            if (out->with_prev == NULL)
                return -ENOMEM;
            s->bytes += out->with_prev->len;
        }
    }
    return 0;
}

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct reading {
    struct store_read *read;
    slice_want_fn want;
    void *ctx;
    struct watch_slice *slice;
    struct arena arena;
    struct bytes scratch;
    size_t rows;
    uint64_t started_us;
    int64_t revision; /* of the row before */
    bool full;
    int error;
};

static int on_event(void *ctx, const struct event *e)
{
    struct reading *g = ctx;
    unsigned want;

    if (e->rev.main != g->revision) {
        if (g->rows >= FEED_SLICE_ROWS || g->slice->bytes >= FEED_SLICE_BYTES ||
            ((g->rows & 63) == 63 && now_us() - g->started_us > FEED_SLICE_MS * 1000)) {
            g->full = true;
            g->slice->next = e->rev.main;
            return 1;
        }
        g->revision = e->rev.main;
    }
    g->rows++;
    if (!event_is_public(e))
        return 0;
    want = g->want != NULL ? g->want(g->ctx, e->key, e->kind == EVENT_DELETE) : (SLICE_PLAIN | SLICE_PREV);
    if (want == SLICE_SKIP)
        return 0;
    g->error = append_event(g->read, e, want, &g->arena, &g->scratch, g->slice);
    arena_reset(&g->arena);
    return g->error < 0 ? 1 : 0;
}

int watch_slice_read(struct store_read *r, int64_t from, slice_want_fn want, void *ctx, struct watch_slice *s)
{
    struct reading g = {.read = r, .want = want, .ctx = ctx, .slice = s, .started_us = now_us()};
    uint16_t status;
    int64_t next;
    int rc;

    watch_slice_reset(s);
    arena_init(&g.arena);
    bytes_init(&g.scratch);
    rc = store_events(r, from, on_event, &g, &next, &status);
    if (rc == 0)
        rc = g.error;
    if (rc == 0 && status == STATUS_COMPACTED) {
        s->compacted = store_read_compacted(r);
        s->snapshot = store_read_revision(r);
        s->next = from;
    } else if (rc == 0) {
        s->snapshot = store_read_revision(r);
        if (!g.full)
            s->next = s->snapshot + 1 > from ? s->snapshot + 1 : from;
        s->more = g.full;
    }
    bytes_fini(&g.scratch);
    arena_fini(&g.arena);
    if (rc < 0)
        watch_slice_reset(s);
    return rc;
}

int watch_slice_read_key(struct store_read *r, struct slice key, int64_t from, bool prev_kv, size_t max_bytes,
                         struct watch_slice *s)
{
    struct event *events;
    struct bytes scratch;
    struct arena arena;
    uint16_t status;
    size_t count, i;
    bool more;
    int rc;

    watch_slice_reset(s);
    arena_init(&arena);
    bytes_init(&scratch);
    s->snapshot = store_read_revision(r);
    rc = store_key_events(r, key, from, &arena, FEED_EVENTS_PER_KEY, &events, &count, &more, &status);
    if (rc < 0)
        goto done;
    if (status == STATUS_COMPACTED) {
        s->compacted = store_read_compacted(r);
        s->next = from;
        goto done;
    }
    s->next = from;
    for (i = 0; i < count && (i == 0 || s->bytes < max_bytes); i++) {
        s->next = events[i].rev.main + 1;
        if (!event_is_public(&events[i]))
            continue;
        rc = append_event(r, &events[i], SLICE_PLAIN | (prev_kv ? SLICE_PREV : 0), &arena, &scratch, s);
        if (rc < 0)
            goto done;
    }
    s->more = more || i < count;
    if (!s->more)
        s->next = s->snapshot + 1 > from ? s->snapshot + 1 : from;
done:
    bytes_fini(&scratch);
    arena_fini(&arena);
    if (rc < 0)
        watch_slice_reset(s);
    return rc;
}
