/* Many watchers, each on its own key, then a put of each key: every watcher has to see its own event, once. Or all of them on
 * one prefix (fanout), and then puts below it, one at a time: every watcher has to see each of them.
 *
 * A connection has one Watch stream with its share of the watchers, as a client of etcd has. The puts go over a
 * connection of their own. Latency is from the put's start to its event; memory and CPU of the server are
 * taken around the creation of the watchers and around the puts. */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/etcd.h"
#include "proto/wire.h"
#include "tools/load.h"

#define PUTS_AT_A_TIME 100
#define SILENCE_SECONDS 20 /* after which what has not come is lost */

struct watch_stream {
    struct load_line line;
    struct watch_run *run;
    struct bytes out;  /* create requests, framed */
    size_t out_at;
    struct bytes in;   /* an unfinished message */
    int32_t id;
};

struct put_slot {
    struct watch_run *run;
    struct bytes request;
    size_t sent;
    unsigned status, at; /* at: which put it is */
};

struct watch_run {
    const struct load_options *o;
    struct load_figures *figures;
    struct watch_stream *streams;
    struct load_line puts;
    struct put_slot slots[PUTS_AT_A_TIME];
    uint64_t *put_ns;  /* by watcher, or by put of a fanout; 0: not put yet */
    uint8_t *seen;     /* events of each watcher */
    unsigned created, next_put, puts_done, n_puts;
    uint64_t events;
    uint64_t last_ns;  /* when something came last */
    int epoll_fd;
    bool broken;
    uint8_t *value;
};

static bool is_fanout(const struct watch_run *r)
{
    return r->o->op == LOAD_FANOUT;
}

static struct slice watch_key(unsigned n, char *text, size_t size)
{
    int len = snprintf(text, size, "/watch-test/watcher-%u", n);

    return slice_make(text, (size_t)len);
}

/* gRPC's five bytes in front of a message, the length in them when its end is known. */
static void begin_message(struct bytes *b, size_t *ret_at)
{
    *ret_at = b->len;
    bytes_u8(b, 0);
    bytes_u32(b, 0);
}

static void end_message(struct bytes *b, size_t at)
{
    if (bytes_status(b) == 0)
        put_be32(b->data + at + 1, (uint32_t)(b->len - at - 5));
}

static void append_create(struct bytes *b, unsigned n, bool prefix)
{
    char text[64];
    struct slice key = prefix ? slice_from_str("/watch-test/") : watch_key(n, text, sizeof(text));
    struct slice end = slice_from_str(prefix ? "/watch-test0" : "");
    struct wire_out size = {NULL, 0}, o;
    size_t at;

    begin_message(b, &at);
    wire_bytes(&size, 1, key);
    wire_bytes(&size, 2, end);
    bytes_u8(b, 1 << 3 | WIRE_BYTES); /* WatchRequest.create_request */
    bytes_varint(b, size.n);
    o = (struct wire_out){bytes_grow(b, size.n), 0};
    if (o.base != NULL) {
        wire_bytes(&o, 1, key);
        wire_bytes(&o, 2, end);
    }
    end_message(b, at);
}

/* ---- what comes ---- */

static void take_event(struct watch_run *r, struct slice event)
{
    struct reader in = reader_make(event);
    struct wire_field f;
    struct kv kv = {0};
    unsigned n;
    char text[64];

    while (wire_next(&in, &f))
        if (f.number == 2 && f.type == WIRE_BYTES && etcd_kv_decode(f.bytes, &kv) < 0)
            r->broken = true;
    if (kv.key.len >= sizeof(text))
        return;
    memcpy(text, kv.key.data, kv.key.len);
    text[kv.key.len] = '\0';
    if (sscanf(text, "/watch-test/watcher-%u", &n) != 1 || n >= r->n_puts || r->put_ns[n] == 0) {
        load_fail("an event that nobody asked for", text);
        r->broken = true;
        return;
    }
    r->events++;
    if (is_fanout(r))
        return; /* that they are as many as they should be is what is checked; the latency is the put's */
    if (r->seen[n]++ != 0) {
        load_fail("an event came twice", text);
        r->broken = true;
    }
    load_record(r->figures, 0, load_now_ns() - r->put_ns[n], event.len);
}

static void take_message(struct watch_run *r, struct slice message)
{
    struct reader in = reader_make(message);
    struct wire_field f;

    while (wire_next(&in, &f)) {
        if (f.number == 3)
            r->created += f.value != 0;
        if (f.number == 4 && f.value != 0) {
            load_fail("watch", "the server cancelled a watcher");
            r->broken = true;
        }
        if (f.number == 11 && f.type == WIRE_BYTES)
            take_event(r, f.bytes);
    }
    if (reader_status(&in) < 0)
        r->broken = true;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
    struct watch_stream *s = arg;
    size_t at = 0;

    if (s == NULL) /* the connection of the puts */
        return 0;
    s->run->last_ns = load_now_ns();
    bytes_raw(&s->in, data, len);
    while (s->in.len - at >= 5) {
        size_t n = get_be32(s->in.data + at + 1);

        if (s->in.len - at - 5 < n)
            break;
        take_message(s->run, slice_make(s->in.data + at + 5, n));
        at += 5 + n;
    }
    memmove(s->in.data, s->in.data + at, s->in.len - at);
    s->in.len -= at;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct put_slot *p = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    if (arg == NULL && p != NULL && name_len == 11 && memcmp(name, "grpc-status", 11) == 0 && value_len == 1)
        p->status = (unsigned)(value[0] - '0');
    return 0;
}

static void start_put(struct put_slot *p);

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
    struct put_slot *p = nghttp2_session_get_stream_user_data(session, id);

    if (arg != NULL) {
        load_fail("watch", "the server ended a stream");
        ((struct watch_stream *)arg)->run->broken = true;
        return 0;
    }
    if (p == NULL)
        return 0;
    if (p->status == 0 && is_fanout(p->run))
        load_record(p->run->figures, 0, load_now_ns() - p->run->put_ns[p->at], 0);
    if (p->status != 0)
        load_record(p->run->figures, p->status < LOAD_STATUSES ? p->status : LOAD_NO_STATUS, 0, 0);
    p->run->puts_done++;
    p->run->last_ns = load_now_ns();
    start_put(p);
    return 0;
}

/* ---- what goes ---- */

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static int submit(struct load_line *l, const char *path, nghttp2_data_provider *provider, void *user)
{
    nghttp2_nv headers[] = {
        header(":method", "POST"), header(":scheme", "http"), header(":path", path),
        header(":authority", l->authority), header("content-type", "application/grpc"), header("te", "trailers"),
    };

    return nghttp2_submit_request(l->session, NULL, headers, sizeof(headers) / sizeof(headers[0]), provider, user);
}

static ssize_t read_creates(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                            nghttp2_data_source *source, void *arg)
{
    struct watch_stream *s = source->ptr;
    size_t left = s->out.len - s->out_at, n = left < len ? left : len;

    if (n == 0)
        return NGHTTP2_ERR_DEFERRED; /* the stream stays open for the answers */
    memcpy(buf, s->out.data + s->out_at, n);
    s->out_at += n;
    return (ssize_t)n;
}

static ssize_t read_put(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                        nghttp2_data_source *source, void *arg)
{
    struct put_slot *p = source->ptr;
    size_t left = p->request.len - p->sent, n = left < len ? left : len;

    memcpy(buf, p->request.data + p->sent, n);
    p->sent += n;
    if (p->sent == p->request.len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void start_put(struct put_slot *p)
{
    struct watch_run *r = p->run;
    nghttp2_data_provider provider = {{.ptr = p}, read_put};
    struct op_put op = {.value = slice_make(r->value, r->o->value_bytes)};
    char text[64];
    size_t at;

    if (r->next_put == r->n_puts)
        return;
    op.key = watch_key(r->next_put, text, sizeof(text));
    bytes_reset(&p->request);
    begin_message(&p->request, &at);
    etcd_put_encode(&op, &p->request);
    end_message(&p->request, at);
    p->sent = 0;
    p->status = LOAD_NO_STATUS;
    p->at = r->next_put;
    r->put_ns[r->next_put++] = load_now_ns();
    if (bytes_status(&p->request) < 0 || submit(&r->puts, "/etcdserverpb.KV/Put", &provider, p) < 0)
        r->broken = true;
}

/* ---- the run ---- */

static int open_all(struct watch_run *r)
{
    const struct load_options *o = r->o;
    nghttp2_session_callbacks *callbacks;
    int rc = 0;

    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return load_fail("start", "no memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    for (unsigned i = 0; rc == 0 && i < o->connections; i++)
        rc = load_line_open(&r->streams[i].line, &o->endpoints[i % o->n_endpoints], r->epoll_fd, callbacks,
                            &r->streams[i]);
    if (rc == 0)
        rc = load_line_open(&r->puts, &o->endpoints[0], r->epoll_fd, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    return rc;
}

static int create_watchers(struct watch_run *r)
{
    for (unsigned n = 0; n < r->o->clients; n++)
        append_create(&r->streams[n % r->o->connections].out, n, is_fanout(r));
    for (unsigned i = 0; i < r->o->connections; i++) {
        struct watch_stream *s = &r->streams[i];
        nghttp2_data_provider provider = {{.ptr = s}, read_creates};

        if (bytes_status(&s->out) < 0 || (s->id = submit(&s->line, "/etcdserverpb.Watch/Watch", &provider, NULL)) < 0)
            return load_fail("watch", "no memory");
        if (load_line_flush(&s->line) < 0)
            return -1;
    }
    return 0;
}

enum counter { CREATED, PUTS_DONE, EVENTS };

static uint64_t counted(const struct watch_run *r, enum counter counter)
{
    return counter == CREATED ? r->created : counter == PUTS_DONE ? r->puts_done : r->events;
}

/* Until so many are counted. What is missing after a long silence is lost. */
static int run_until(struct watch_run *r, enum counter counter, uint64_t want, const char *what)
{
    struct epoll_event events[256];

    r->last_ns = load_now_ns();
    while (counted(r, counter) < want) {
        int n = epoll_wait(r->epoll_fd, events, 256, 100);

        for (int i = 0; i < n; i++) {
            if (load_line_event(events[i].data.ptr, events[i].events) < 0)
                return -1;
            /* The one who puts is somebody else than those who watch: its answer does not wait for their events. */
            if (is_fanout(r) && load_line_event(&r->puts, EPOLLIN) < 0)
                return -1;
        }
        if (r->broken)
            return -1;
        if (load_now_ns() - r->last_ns > SILENCE_SECONDS * 1000000000ull) {
            char text[64];

            snprintf(text, sizeof(text), "%llu of %llu and no more", (unsigned long long)counted(r, counter),
                     (unsigned long long)want);
            return load_fail(what, text);
        }
    }
    return 0;
}

static int measure(struct watch_run *r)
{
    const struct load_options *o = r->o;
    struct load_usage before, created;
    uint64_t begin_ns = load_now_ns(), created_ns, events;

    if (load_usage_read(o, &before) < 0 || create_watchers(r) < 0 ||
        run_until(r, CREATED, o->clients, "watchers created") < 0 || load_usage_read(o, &created) < 0)
        return -1;
    created_ns = load_now_ns();
    if (!o->json_only)
        printf("%-14s %u watchers on %u streams created in %.2f s: %.1f us of CPU and %.0f bytes of memory each\n", o->label,
               o->clients, o->connections, (double)(created_ns - begin_ns) / 1e9,
               (created.cpu_seconds - before.cpu_seconds) * 1e6 / o->clients,
               ((double)created.anon_bytes - (double)before.anon_bytes) / o->clients);
    printf("{\"label\":\"%s\",\"op\":\"watch-create\",\"clients\":%u,\"connections\":%u,\"seconds\":%.3f,"
           "\"cpu_us_per_op\":%.2f,\"bytes_per_watch\":%.0f}\n", o->label, o->clients, o->connections,
           (double)(created_ns - begin_ns) / 1e9, (created.cpu_seconds - before.cpu_seconds) * 1e6 / o->clients,
           ((double)created.anon_bytes - (double)before.anon_bytes) / o->clients);
    r->figures->before = created;
    r->figures->begin_ns = load_now_ns();
    for (unsigned i = 0; i < (is_fanout(r) ? 1 : PUTS_AT_A_TIME); i++) {
        r->slots[i].run = r;
        start_put(&r->slots[i]);
    }
    events = is_fanout(r) ? (uint64_t)r->n_puts * o->clients : r->n_puts;
    if (load_line_flush(&r->puts) < 0 || run_until(r, PUTS_DONE, r->n_puts, "puts") < 0 ||
        run_until(r, EVENTS, events, "events") < 0)
        return -1;
    if (r->events != events)
        return load_fail("events", "more than there should be");
    r->figures->end_ns = load_now_ns();
    return load_usage_read(o, &r->figures->after);
}

int load_watch(const struct load_options *o, struct load_figures *figures)
{
    struct watch_run *r = calloc(1, sizeof(*r));
    int rc = -1;

    if (r == NULL)
        return load_fail("start", "no memory");
    *r = (struct watch_run){.o = o, .figures = figures, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    r->puts.fd = -1;
    r->n_puts = o->op != LOAD_FANOUT ? o->clients : o->count != 0 ? (unsigned)o->count : 100;
    r->streams = calloc(o->connections, sizeof(*r->streams));
    for (unsigned i = 0; r->streams != NULL && i < o->connections; i++) {
        r->streams[i].run = r;
        r->streams[i].line.fd = -1;
    }
    r->put_ns = calloc(r->n_puts, sizeof(*r->put_ns));
    r->seen = calloc(o->clients, 1);
    r->value = calloc(1, o->value_bytes + 1);
    if (r->epoll_fd < 0 || r->streams == NULL || r->put_ns == NULL || r->seen == NULL || r->value == NULL)
        load_fail("start", "no memory");
    else if (open_all(r) == 0)
        rc = measure(r);
    for (unsigned i = 0; r->streams != NULL && i < o->connections; i++) {
        load_line_close(&r->streams[i].line);
        bytes_fini(&r->streams[i].in);
        bytes_fini(&r->streams[i].out);
    }
    load_line_close(&r->puts);
    for (unsigned i = 0; i < PUTS_AT_A_TIME; i++)
        bytes_fini(&r->slots[i].request);
    if (r->epoll_fd >= 0)
        close(r->epoll_fd);
    free(r->streams);
    free(r->put_ns);
    free(r->seen);
    free(r->value);
    free(r);
    return rc;
}
