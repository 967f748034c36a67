/* gRPC over nghttp2 in the clear: each client has one request under way, clients share connections round robin. */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/etcd.h"
#include "proto/wire.h"
#include "tools/load.h"

#define DRAIN_SECONDS 20 /* for the last answers */
#define LEASE_BASE 1000000

struct client {
    struct load_run *run;
    struct load_line *line;
    uint64_t begin_ns;
    struct bytes request; /* gRPC's five bytes and the message */
    size_t sent;
    unsigned status;
    size_t answer_bytes;
};

struct load_run {
    const struct load_options *o;
    struct load_figures *figures;
    struct load_line *lines;
    struct client *clients;
    int epoll_fd;
    uint64_t random, started, flying;
    uint64_t measure_ns, stop_ns;
    bool measuring, stopping, broken;
    uint8_t *value, *key;
};

/* ---- requests ---- */

static uint64_t next_random(struct load_run *r)
{
    uint64_t z = r->random += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static struct slice pick_key(struct load_run *r)
{
    uint64_t n = r->o->sequential ? r->started % r->o->keys : next_random(r) % r->o->keys;
    char text[32];
    int len = snprintf(text, sizeof(text), "bench/%010llu", (unsigned long long)n);

    memset(r->key, 'x', r->o->key_bytes);
    memcpy(r->key, text, (size_t)len < r->o->key_bytes ? (size_t)len : r->o->key_bytes);
    return slice_make(r->key, r->o->key_bytes);
}

/* LeaseGrantRequest, with a TTL that no benchmark outlives, or LeaseKeepAliveRequest. */
static void lease_request(struct bytes *out, bool grant, uint64_t id)
{
    uint8_t text[32];
    struct wire_out o = {text, 0};

    if (grant)
        wire_uint(&o, 1, 36000);
    wire_uint(&o, grant ? 2 : 1, id);
    bytes_raw(out, text, o.n);
}

static void encode_request(struct load_run *r, struct bytes *out)
{
    struct slice key = pick_key(r), value = slice_make(r->value, r->o->value_bytes);
    struct op_range range = {.key = key, .serializable = r->o->serializable};

    switch (r->o->op) {
    case LOAD_PUT:
        etcd_put_encode(&(struct op_put){.key = key, .value = value}, out);
        break;
    case LOAD_RANGE:
        etcd_range_encode(&range, out);
        break;
    case LOAD_LIST:
        range.key = slice_from_str("bench/");
        range.range_end = slice_from_str("bench0");
        etcd_range_encode(&range, out);
        break;
    case LOAD_GRANT:
        lease_request(out, true, LEASE_BASE + r->started % r->o->keys);
        break;
    case LOAD_KEEPALIVE:
        lease_request(out, false, LEASE_BASE + next_random(r) % r->o->keys);
        break;
    case LOAD_WATCH: /* load_watch.c */
    case LOAD_FANOUT:
    case LOAD_IDLE:
    case LOAD_OPS:
        break;
    case LOAD_TXN: {
        struct op_compare compare = {.result = COMPARE_GREATER, .target = COMPARE_MOD, .key = key, .number = 0};
        struct op put = {.kind = OP_PUT, .put = {.key = key, .value = value}};
        struct op get = {.kind = OP_RANGE, .range = {.key = key}};

        etcd_txn_encode(&(struct txn){&compare, &put, &get, 1, 1, 1}, out);
        break;
    }
    }
}

static const char *const paths[] = {
    [LOAD_PUT] = "/etcdserverpb.KV/Put",
    [LOAD_RANGE] = "/etcdserverpb.KV/Range",
    [LOAD_LIST] = "/etcdserverpb.KV/Range",
    [LOAD_TXN] = "/etcdserverpb.KV/Txn",
    [LOAD_GRANT] = "/etcdserverpb.Lease/LeaseGrant",
    [LOAD_KEEPALIVE] = "/etcdserverpb.Lease/LeaseKeepAlive", /* one stream each, as clientv3's KeepAliveOnce */
};

static ssize_t read_request(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                            nghttp2_data_source *source, void *arg)
{
    struct client *c = source->ptr;
    size_t left = c->request.len - c->sent, n = left < len ? left : len;

    memcpy(buf, c->request.data + c->sent, n);
    c->sent += n;
    if (c->sent == c->request.len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static void start_request(struct client *c)
{
    struct load_run *r = c->run;
    nghttp2_nv headers[] = {
        header(":method", "POST"), header(":scheme", "http"), header(":path", paths[r->o->op]),
        header(":authority", c->line->authority), header("content-type", "application/grpc"), header("te", "trailers"),
    };
    nghttp2_data_provider provider = {{.ptr = c}, read_request};

    if (r->stopping || (r->o->count != 0 && r->started >= r->o->count))
        return;
    bytes_reset(&c->request);
    bytes_u8(&c->request, 0);
    bytes_u32(&c->request, 0);
    encode_request(r, &c->request);
    if (bytes_status(&c->request) < 0) {
        r->broken = true;
        return;
    }
    put_be32(c->request.data + 1, (uint32_t)(c->request.len - 5));
    c->sent = 0;
    c->answer_bytes = 0;
    c->status = LOAD_NO_STATUS;
    c->begin_ns = load_now_ns();
    if (nghttp2_submit_request(c->line->session, NULL, headers, sizeof(headers) / sizeof(headers[0]), &provider, c) < 0)
        r->broken = true;
    r->started++;
    r->flying++;
}

/* ---- nghttp2's callbacks ---- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct client *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    char text[8] = {0};

    if (c == NULL || name_len != 11 || memcmp(name, "grpc-status", 11) != 0 || value_len >= sizeof(text))
        return 0;
    memcpy(text, value, value_len);
    c->status = (unsigned)atoi(text) < LOAD_NO_STATUS ? (unsigned)atoi(text) : LOAD_NO_STATUS;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
    struct client *c = nghttp2_session_get_stream_user_data(session, id);

    if (c != NULL)
        c->answer_bytes += len;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
    struct client *c = nghttp2_session_get_stream_user_data(session, id);
    struct load_run *r;

    if (c == NULL)
        return 0;
    r = c->run;
    r->flying--;
    if (r->measuring && (r->measure_ns <= c->begin_ns || r->o->count != 0))
        load_record(r->figures, c->status == 0 && c->answer_bytes < 5 ? LOAD_NO_STATUS : c->status,
                    load_now_ns() - c->begin_ns, c->answer_bytes);
    start_request(c);
    return 0;
}

/* ---- the run ---- */

static nghttp2_session_callbacks *new_callbacks(void)
{
    nghttp2_session_callbacks *callbacks;

    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return callbacks;
}

int load_run_open(const struct load_options *o, struct load_figures *figures, struct load_run **ret_run)
{
    struct load_run *r = calloc(1, sizeof(*r));
    nghttp2_session_callbacks *callbacks = new_callbacks();
    int rc = -1;

    if (r == NULL || callbacks == NULL) {
        load_fail("start", "no memory");
        free(r);
        nghttp2_session_callbacks_del(callbacks);
        return -1;
    }
    *r = (struct load_run){.o = o, .figures = figures, .random = o->seed};
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->lines = calloc(o->connections, sizeof(*r->lines));
    r->clients = calloc(o->clients, sizeof(*r->clients));
    r->key = malloc(o->key_bytes);
    r->value = malloc(o->value_bytes + 1);
    if (r->epoll_fd < 0 || r->lines == NULL || r->clients == NULL || r->key == NULL || r->value == NULL) {
        load_fail("start", "no memory");
        goto done;
    }
    for (size_t i = 0; i < o->value_bytes; i++)
        r->value[i] = (uint8_t)next_random(r);
    for (unsigned i = 0; i < o->connections; i++)
        r->lines[i].fd = -1;
    for (unsigned i = 0; i < o->connections; i++)
        if (load_line_open(&r->lines[i], &o->endpoints[i % o->n_endpoints], r->epoll_fd, callbacks, r) < 0)
            goto done;
    for (unsigned i = 0; i < o->clients; i++)
        r->clients[i] = (struct client){.run = r, .line = &r->lines[i % o->connections]};
    rc = 0;
done:
    nghttp2_session_callbacks_del(callbacks);
    if (rc < 0)
        load_run_close(r);
    else
        *ret_run = r;
    return rc;
}

void load_run_close(struct load_run *r)
{
    if (r == NULL)
        return;
    for (unsigned i = 0; r->lines != NULL && i < r->o->connections; i++)
        load_line_close(&r->lines[i]);
    for (unsigned i = 0; r->clients != NULL && i < r->o->clients; i++)
        bytes_fini(&r->clients[i].request);
    close(r->epoll_fd);
    free(r->lines);
    free(r->clients);
    free(r->key);
    free(r->value);
    free(r);
}

/* Begins and ends the time in which requests count. */
static int keep_time(struct load_run *r, uint64_t now_ns)
{
    struct load_figures *f = r->figures;

    if (!r->measuring && !r->stopping && now_ns >= r->measure_ns) {
        r->measuring = true;
        f->begin_ns = now_ns;
        if (load_usage_read(r->o, &f->before) < 0)
            return -1;
    }
    if (r->measuring && !r->stopping &&
        (now_ns >= r->stop_ns || (r->o->count != 0 && r->started >= r->o->count && r->flying == 0))) {
        r->stopping = true;
        r->measuring = false;
        f->end_ns = now_ns;
        r->stop_ns = now_ns;
        if (load_usage_read(r->o, &f->after) < 0)
            return -1;
    }
    return 0;
}

static int turn(struct load_run *r)
{
    struct epoll_event events[256];
    int n = epoll_wait(r->epoll_fd, events, 256, 10);

    if (n < 0 && errno != EINTR)
        return load_fail("epoll", strerror(errno));
    for (int i = 0; i < n; i++)
        if (load_line_event(events[i].data.ptr, events[i].events) < 0)
            return -1;
    return r->broken ? load_fail("start", "no memory") : 0;
}

int load_run_go(struct load_run *r)
{
    const struct load_options *o = r->o;
    uint64_t now_ns = load_now_ns();

    r->measure_ns = now_ns + (uint64_t)(o->warm_up_seconds * 1e9);
    r->stop_ns = o->count != 0 ? UINT64_MAX : r->measure_ns + (uint64_t)(o->seconds * 1e9);
    if (keep_time(r, now_ns) < 0)
        return -1;
    for (unsigned i = 0; i < o->clients; i++)
        start_request(&r->clients[i]);
    for (unsigned i = 0; i < o->connections; i++)
        if (load_line_flush(&r->lines[i]) < 0)
            return -1;
    while (!r->stopping || r->flying > 0) {
        if (turn(r) < 0)
            return -1;
        now_ns = load_now_ns();
        if (keep_time(r, now_ns) < 0)
            return -1;
        if (r->stopping && now_ns > r->stop_ns + DRAIN_SECONDS * 1000000000ull)
            return load_fail("end", "the last answers do not come");
    }
    return 0;
}
