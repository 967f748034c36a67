/* grpc.c - calls: from headers and DATA to messages, and from messages to an answer. */
#include "sidecar/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- bodies and messages ---- */

struct body *body_new(size_t len)
{
    struct body *b = len <= UINT32_MAX ? malloc(sizeof *b + len) : NULL;

    if (b == NULL)
        return NULL;
    b->refs = 1;
    b->len = (uint32_t)len;
    return b;
}

struct body *body_copy(struct slice s)
{
    struct body *b = body_new(s.len);

    if (b != NULL && s.len > 0)
        memcpy(b->data, s.data, s.len);
    return b;
}

void body_unref(struct body *b)
{
    if (b != NULL && --b->refs == 0)
        free(b);
}

struct grpc_out *grpc_out_new(size_t head_len, size_t n_bodies)
{
    size_t head = GRPC_PREFIX_BYTES + head_len;
    size_t padded = (head + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    struct grpc_out *out = malloc(sizeof *out + padded + n_bodies * sizeof(struct body *));

    if (out == NULL)
        return NULL;
    *out = (struct grpc_out){.head_len = (uint32_t)head, .n_bodies = (uint32_t)n_bodies};
    out->bodies = (struct body **)(void *)(out->head + padded);
    memset(out->bodies, 0, n_bodies * sizeof(struct body *));
    return out;
}

void grpc_out_free(struct grpc_out *out)
{
    if (out == NULL)
        return;
    for (uint32_t i = 0; i < out->n_bodies; i++)
        body_unref(out->bodies[i]);
    free(out);
}

/* ---- accounting ---- */

static void account_output(struct grpc_call *call, ssize_t delta)
{
    call->out_bytes = (size_t)((ssize_t)call->out_bytes + delta);
    call->conn->output_bytes = (size_t)((ssize_t)call->conn->output_bytes + delta);
    call->conn->server->counters.output_bytes = (size_t)((ssize_t)call->conn->server->counters.output_bytes + delta);
}

static void account_input(struct grpc_call *call, size_t before)
{
    ssize_t delta = (ssize_t)grpc_frames_held(&call->frames) - (ssize_t)before;

    call->conn->input_bytes = (size_t)((ssize_t)call->conn->input_bytes + delta);
    call->conn->server->counters.input_bytes = (size_t)((ssize_t)call->conn->server->counters.input_bytes + delta);
}

/* Drops queued messages; the one that is partly out stays. */
static void drop_output(struct grpc_call *call, bool all)
{
    struct grpc_out *out = call->out_first;

    if (out != NULL && call->out_offset > 0 && !all) {
        struct grpc_out *rest = out->next;

        out->next = NULL;
        call->out_last = &out->next;
        out = rest;
    } else {
        if (out != NULL)
            account_output(call, (ssize_t)call->out_offset); /* what has gone was accounted for already */
        call->out_first = NULL;
        call->out_last = &call->out_first;
        call->out_offset = 0;
    }
    while (out != NULL) {
        struct grpc_out *next = out->next;

        account_output(call, -(ssize_t)out->total);
        grpc_out_free(out);
        out = next;
    }
}

/* ---- the life of a call ---- */

struct grpc_call *call_new(struct conn *c, int32_t stream_id)
{
    struct grpc_call *call = calloc(1, sizeof *call);

    if (call == NULL)
        return NULL;
    call->conn = c;
    call->stream_id = stream_id;
    call->out_last = &call->out_first;
    list_init(&call->drained_link);
    list_push_back(&c->calls, &call->link);
    c->n_calls++;
    c->server->counters.calls_open++;
    return call;
}

static void end_call(struct grpc_call *call)
{
    if (call->ended)
        return;
    call->ended = true;
    if (call->begun && call->method != NULL) {
        if (call->method->method->kind == GRPC_STREAM)
            call->conn->server->counters.streams_open--;
        if (call->method->method->end != NULL)
            call->method->method->end(call);
    }
    call->state = NULL;
}

void call_free(struct grpc_call *call)
{
    size_t held = grpc_frames_held(&call->frames);

    if (!call->finished && call->begun && call->method != NULL)
        call->method->by_code[GRPC_CANCELED]++;
    call->finished = true;
    end_call(call);
    drop_output(call, true);
    grpc_frames_fini(&call->frames);
    account_input(call, held);
    deadlines_remove(&call->conn->server->deadlines, &call->deadline);
    page_gone(call->page);
    list_remove(&call->drained_link);
    list_remove(&call->link);
    call->conn->n_calls--;
    call->conn->server->counters.calls_open--;
    while (call->metadata != NULL) {
        struct metadata *m = call->metadata;

        call->metadata = m->next;
        free(m);
    }
    free(call->path);
    free(call->message);
    free(call);
}

static bool slice_is(struct slice s, const char *text)
{
    return slice_equal(s, slice_from_str(text));
}

static struct grpc_method_counts *find_method(struct grpc_server *s, struct slice path)
{
    size_t low = 0, high = s->n_methods;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int c = slice_cmp(path, slice_from_str(s->methods[middle].method->path));

        if (c == 0)
            return &s->methods[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- metadata ---- */

static int add_metadata(struct grpc_call *call, int where, struct slice name, struct slice value)
{
    struct metadata *m = malloc(sizeof *m + name.len + value.len), **at = &call->metadata;

    if (m == NULL)
        return -ENOMEM;
    *m = (struct metadata){NULL, where, (uint32_t)name.len, (uint32_t)value.len};
    memcpy(m->bytes, name.data, name.len);
    if (value.len > 0)
        memcpy(m->bytes + name.len, value.data, value.len);
    while (*at != NULL) /* there are few, and they keep their order */
        at = &(*at)->next;
    *at = m;
    return 0;
}

/* What a service asks for is kept; bounded, as all headers are. */
static void keep_metadata(struct grpc_call *call, struct slice name, struct slice value)
{
    const char *const *wanted = call->conn->server->config.metadata;

    for (; wanted != NULL && *wanted != NULL; wanted++)
        if (slice_is(name, *wanted))
            add_metadata(call, METADATA_RECEIVED, name, value);
}

struct slice grpc_metadata(const struct grpc_call *call, const char *name)
{
    for (const struct metadata *m = call->metadata; m != NULL; m = m->next)
        if (m->where == METADATA_RECEIVED && slice_is(slice_make(m->bytes, m->name_len), name))
            return slice_make(m->bytes + m->name_len, m->value_len);
    return slice_make(NULL, 0);
}

int grpc_add_metadata(struct grpc_call *call, bool at_end, const char *name, struct slice value)
{
    int where = at_end ? METADATA_END : METADATA_HEAD, n = 0;

    for (const struct metadata *m = call->metadata; m != NULL; m = m->next)
        n += (int)m->where == where;
    return n < GRPC_METADATA_MAX ? add_metadata(call, where, slice_from_str(name), value) : -E2BIG;
}

static void take_encoding(struct grpc_call *call, struct slice value)
{
    call->encoding = slice_is(value, "identity") ? ENCODING_NONE : slice_is(value, "gzip") ? ENCODING_GZIP : ENCODING_UNKNOWN;
    if (call->encoding == ENCODING_UNKNOWN && call->path == NULL)
        call->path = strndup((const char *)value.data, value.len < 64 ? value.len : 64);
}

void call_header(struct grpc_call *call, struct slice name, struct slice value)
{
    call->headers_bytes += name.len + value.len + 32;
    if (name.len == 0)
        return;
    if (call->conn->server->config.metadata != NULL)
        keep_metadata(call, name, value);
    switch (name.data[0]) {
    case ':':
        if (slice_is(name, ":path")) {
            call->method = find_method(call->conn->server, value);
            if (call->method == NULL && call->path == NULL)
                call->path = strndup((const char *)value.data, value.len < 1024 ? value.len : 1024);
        } else if (slice_is(name, ":method")) {
            call->http_method = slice_is(value, "GET")    ? 'G'
                                : slice_is(value, "HEAD") ? 'H'
                                : slice_is(value, "POST") ? 'P'
                                                          : 0;
        }
        break;
    case 'c':
        if (slice_is(name, "content-type")) {
            struct slice grpc = slice_from_str("application/grpc");

            call->is_grpc = slice_has_prefix(value, grpc) &&
                            (value.len == grpc.len || value.data[grpc.len] == '+' || value.data[grpc.len] == ';');
        }
        break;
    case 'g':
        if (slice_is(name, "grpc-timeout")) {
            call->has_timeout = true;
            call->bad_timeout = grpc_timeout_parse(value, &call->timeout_ms) < 0;
        } else if (slice_is(name, "grpc-encoding")) {
            take_encoding(call, value);
        }
        break;
    case 'h':
        if (slice_is(name, "hasleader"))
            call->require_leader = slice_is(value, "true");
        break;
    default:
        break;
    }
}

static void finish_unknown(struct grpc_call *call)
{
    char text[1400];
    const char *path = call->path != NULL ? call->path : "";
    const char *slash = strrchr(path, '/');
    bool known = false;

    call->conn->server->counters.unknown_methods++;
    if (path[0] != '/' || slash == path) {
        snprintf(text, sizeof text, "malformed method name: \"%s\"", path);
        grpc_finish(call, GRPC_UNIMPLEMENTED, text);
        return;
    }
    for (size_t i = 0; i < call->conn->server->n_methods; i++) {
        const char *p = call->conn->server->methods[i].method->path;

        known = known || strncmp(p, path, (size_t)(slash - path) + 1) == 0;
    }
    if (known)
        snprintf(text, sizeof text, "unknown method %s for service %.*s", slash + 1, (int)(slash - path - 1), path + 1);
    else
        snprintf(text, sizeof text, "unknown service %.*s", (int)(slash - path - 1), path + 1);
    grpc_finish(call, GRPC_UNIMPLEMENTED, text);
}

static void answer_page(struct grpc_call *call)
{
    struct grpc_server *s = call->conn->server;
    struct http_reply reply = {.status = 404, .content_type = "text/plain; charset=utf-8"};
    const char *path = call->path != NULL ? call->path : "";
    const char *query = strchr(path, '?');
    struct page_origin origin = {.conn = call->conn, .call = call};
    struct http_request request = {
        .method = slice_from_str(call->http_method == 'G' ? "GET" : call->http_method == 'H' ? "HEAD" : "POST"),
        .path = slice_make(path, query != NULL ? (size_t)(query - path) : strlen(path)),
        .query = slice_from_str(query != NULL ? query + 1 : ""),
        .origin = &origin,
    };

    call->is_page = true;
    call->method = NULL;
    bytes_init(&reply.body);
    if (call->http_method == 'G' || call->http_method == 'H')
        s->config.page(s->config.app, &request, &reply);
    else
        reply.status = 415;
    call->page = origin.wait;
    if (call->page == NULL)
        h2_submit_page(call, &reply);
    bytes_fini(&reply.body);
}

void call_begin(struct grpc_call *call, bool half_closed)
{
    struct grpc_server *s = call->conn->server;

    call->remote_closed = half_closed;
    if (!call->is_grpc) {
        if (half_closed)
            answer_page(call); /* else when the request is whole */
        return;
    }
    if (call->method == NULL) {
        finish_unknown(call);
        return;
    }
    call->begun = true;
    call->method->started++;
    if (call->method->method->kind == GRPC_STREAM)
        s->counters.streams_open++;
    if (call->http_method != 'P' || call->bad_timeout) {
        grpc_finish(call, GRPC_INTERNAL, call->bad_timeout ? "malformed grpc-timeout" : "gRPC calls are POST");
        return;
    }
    if (call->encoding == ENCODING_UNKNOWN) {
        char text[128];

        snprintf(text, sizeof text, "grpc: Decompressor is not installed for grpc-encoding \"%s\"",
                 call->path != NULL ? call->path : "");
        grpc_finish(call, GRPC_UNIMPLEMENTED, text);
        return;
    }
    if (call->has_timeout) {
        if (call->timeout_ms > UINT32_MAX)
            call->timeout_ms = UINT32_MAX; /* 49 days */
        if (deadlines_add(&s->deadlines, &call->deadline, uv_now(s->loop) + call->timeout_ms) < 0) {
            grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
            return;
        }
        server_arm_timer(s);
    }
    if (s->refusing) {
        grpc_finish_status(call, STATUS_STOPPED);
        return;
    }
    if (call->method->method->start != NULL)
        call->method->method->start(call);
    if (half_closed)
        call_half_close(call);
}

static int take_message(struct grpc_call *call, struct slice message)
{
    const struct grpc_method *m = call->method->method;

    if (m->kind == GRPC_UNARY) {
        if (call->got_message) {
            grpc_finish(call, GRPC_INTERNAL, "a unary call has one message");
            return 1;
        }
        call->got_message = true;
        if (!grpc_output_allowed(call)) {
            grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
            return 1;
        }
    }
    m->message(call, message);
    return call->finished ? 1 : 0;
}

static int take_packed(struct grpc_call *call, struct slice packed)
{
    char text[128];
    uint8_t *data;
    size_t len;
    int rc;

    if (call->encoding == ENCODING_NONE) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
        return 1;
    }
    rc = grpc_gunzip(packed, GRPC_MESSAGE_MAX_BYTES, &data, &len);
    if (rc == 0) {
        call->conn->server->counters.messages_decompressed++;
        conn_charge(call->conn, (unsigned)(len / GUNZIP_BYTES_PER_UNIT));
        rc = take_message(call, slice_make(data, len));
        free(data);
        return rc;
    }
    if (rc == -EMSGSIZE) {
        conn_charge(call->conn, GRPC_MESSAGE_MAX_BYTES / GUNZIP_BYTES_PER_UNIT);
        snprintf(text, sizeof text, "grpc: received message after decompression larger than max %u",
                 (unsigned)GRPC_MESSAGE_MAX_BYTES);
    } else {
        snprintf(text, sizeof text, "grpc: failed to decompress the received message: %s",
                 rc == -ENOMEM ? "out of memory" : "it is not of gzip");
    }
    grpc_finish(call, rc == -EBADMSG ? GRPC_INTERNAL : GRPC_RESOURCE_EXHAUSTED, text);
    return 1;
}

static int on_message(void *ctx, struct slice message, bool compressed)
{
    return compressed ? take_packed(ctx, message) : take_message(ctx, message);
}

void call_data(struct grpc_call *call, struct slice data)
{
    size_t held = grpc_frames_held(&call->frames);
    char text[128];
    int rc;

    if (call->finished || call->method == NULL || !call->begun)
        return;
    rc = grpc_frames_feed(&call->frames, data, GRPC_MESSAGE_MAX_BYTES, on_message, call);
    account_input(call, held);
    if (call->finished || rc == 0) {
        if (!call->finished && (call->conn->input_bytes > CONN_INPUT_MAX_BYTES ||
                                call->conn->server->counters.input_bytes > SERVER_INPUT_MAX_BYTES))
            grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
    } else if (rc == -EMSGSIZE) {
        snprintf(text, sizeof text, "grpc: received message larger than max (%zu vs. %u)", call->frames.length,
                 (unsigned)GRPC_MESSAGE_MAX_BYTES);
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, text);
    } else if (rc == -ENOMEM) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else if (rc < 0) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: malformed message prefix");
    }
    if (call->finished) {
        held = grpc_frames_held(&call->frames);
        grpc_frames_fini(&call->frames);
        account_input(call, held);
    }
}

void call_half_close(struct grpc_call *call)
{
    call->remote_closed = true;
    if (!call->is_grpc && !call->is_page)
        answer_page(call);
    if (call->finished || call->method == NULL || !call->begun)
        return;
    if (grpc_frames_partial(&call->frames))
        grpc_finish(call, GRPC_INTERNAL, "unexpected EOF");
    else if (call->method->method->kind == GRPC_UNARY && !call->got_message)
        grpc_finish(call, GRPC_INTERNAL, "a unary call has one message");
    else if (call->method->method->half_close != NULL)
        call->method->method->half_close(call);
}

/* ---- output ---- */

static void queue_out(struct grpc_call *call, struct grpc_out *out)
{
    *call->out_last = out;
    call->out_last = &out->next;
    account_output(call, (ssize_t)out->total);
    call->conn->strikes = 0;
    if (!call->responded)
        h2_submit_response(call);
    else
        h2_resume(call);
    conn_mark_dirty(call->conn);
}

void grpc_send(struct grpc_call *call, struct grpc_out *out)
{
    if (call->finished) {
        grpc_out_free(out);
        return;
    }
    out->total = out->head_len;
    for (uint32_t i = 0; i < out->n_bodies; i++)
        out->total += out->bodies[i]->len;
    grpc_prefix_put(out->head, out->total - GRPC_PREFIX_BYTES);
    queue_out(call, out);
}

int grpc_send_part(struct grpc_call *call, struct slice part, bool last)
{
    struct grpc_out *out;

    if (call->finished)
        return 0;
    out = grpc_out_new(part.len, 0);
    if (out == NULL)
        return -ENOMEM;
    if (part.len > 0)
        memcpy(out->head, part.data, part.len);
    out->head_len = (uint32_t)part.len;
    out->total = part.len;
    call->in_message = !last;
    queue_out(call, out);
    return 0;
}

void grpc_send_bytes(struct grpc_call *call, struct slice head, struct slice message)
{
    struct grpc_out *out = head.len + message.len < UINT32_MAX / 2 ? grpc_out_new(head.len + message.len, 0) : NULL;

    if (out == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    if (head.len > 0)
        memcpy(grpc_out_head(out), head.data, head.len);
    if (message.len > 0)
        memcpy(grpc_out_head(out) + head.len, message.data, message.len);
    grpc_send(call, out);
}

size_t call_read(struct grpc_call *call, uint8_t *buf, size_t len, bool *ret_done)
{
    size_t n = 0;

    while (call->out_first != NULL && n < len) {
        struct grpc_out *out = call->out_first;
        size_t offset = call->out_offset, start = 0, before = n;

        for (uint32_t i = 0; i <= out->n_bodies && n < len; i++) {
            const uint8_t *data = i == 0 ? out->head : out->bodies[i - 1]->data;
            size_t size = i == 0 ? out->head_len : out->bodies[i - 1]->len;

            if (offset < start + size) {
                size_t skip = offset - start;
                size_t part = size - skip < len - n ? size - skip : len - n;

                memcpy(buf + n, data + skip, part);
                n += part;
                offset += part;
            }
            start += size;
        }
        account_output(call, -(ssize_t)(n - before));
        call->out_offset = offset;
        if (offset < out->total)
            break;
        call->out_first = out->next;
        if (call->out_first == NULL)
            call->out_last = &call->out_first;
        call->out_offset = 0;
        grpc_out_free(out);
    }
    if (call->want_drained && call->out_bytes <= call->drained_mark) {
        call->want_drained = false;
        list_remove(&call->drained_link);
        list_push_back(&call->conn->server->drained, &call->drained_link);
    }
    *ret_done = call->out_first == NULL && call->finished;
    return n;
}

void server_run_drained(struct grpc_server *s)
{
    while (!list_empty(&s->drained)) {
        struct grpc_call *call = LIST_ITEM(s->drained.next, struct grpc_call, drained_link);

        list_remove(&call->drained_link);
        if (!call->finished && call->method != NULL && call->method->method->drained != NULL)
            call->method->method->drained(call);
    }
}

void grpc_finish(struct grpc_call *call, enum grpc_code code, const char *text)
{
    if (call->finished)
        return;
    call->finished = true;
    call->code = (uint8_t)code;
    if (call->begun && call->method != NULL)
        call->method->by_code[code]++;
    if (text != NULL && text[0] != '\0') {
        struct bytes b;
        size_t len;

        bytes_init(&b);
        grpc_percent_encode(slice_from_str(text), &b);
        bytes_u8(&b, 0);
        call->message = (char *)bytes_take(&b, &len);
    }
    end_call(call);
    if (code != GRPC_OK)
        drop_output(call, false);
    if (!call->responded)
        h2_submit_error(call);
    else if (code != GRPC_OK && (call->out_first != NULL || call->in_message))
        h2_reset(call, NGHTTP2_CANCEL); /* cut within a message: nothing else can say so */
    else
        h2_resume(call);
    conn_mark_dirty(call->conn);
}

void grpc_finish_status(struct grpc_call *call, uint16_t status)
{
    grpc_finish(call, status_grpc_code(status), status_text(status));
}

/* ---- what services ask ---- */

void grpc_set_state(struct grpc_call *call, void *state)
{
    call->state = state;
}

void *grpc_state(const struct grpc_call *call)
{
    return call->state;
}

struct grpc_server *grpc_call_server(const struct grpc_call *call)
{
    return call->conn->server;
}

void *grpc_app(const struct grpc_call *call)
{
    return call->conn->server->config.app;
}

size_t grpc_queued(const struct grpc_call *call)
{
    return call->out_bytes;
}

void grpc_want_drained(struct grpc_call *call, size_t mark_bytes)
{
    call->drained_mark = mark_bytes;
    call->want_drained = call->out_bytes > mark_bytes;
    if (!call->want_drained) {
        list_remove(&call->drained_link);
        list_push_back(&call->conn->server->drained, &call->drained_link);
    }
}

uint64_t grpc_deadline_ms(const struct grpc_call *call)
{
    return call->deadline.place != 0 ? call->deadline.at_ms : 0;
}

void grpc_changes(struct grpc_call *call)
{
    call->changes = true;
}

bool grpc_require_leader(const struct grpc_call *call)
{
    return call->require_leader;
}

bool grpc_output_allowed(const struct grpc_call *call)
{
    return call->conn->output_bytes < CONN_OUTPUT_MAX_BYTES &&
           call->conn->server->counters.output_bytes < SERVER_OUTPUT_MAX_BYTES;
}
