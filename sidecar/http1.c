/* http1.c - just enough HTTP/1.1 (RFC 9112) for /health, /version and /metrics on the client port: requests without a
 * body, keep-alive, pipelining. Anything else is answered and the connection closed. */
#include "sidecar/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

static void put_text(struct bytes *out, const char *text)
{
    bytes_append(out, slice_from_str(text));
}

void http1_answer(struct conn *c, const struct http_reply *reply, bool head_only, bool keep)
{
    char head[256];

    snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", reply->status,
             reason(reply->status), reply->content_type, reply->body.len, keep ? "" : "Connection: close\r\n");
    put_text(&c->out, head);
    if (!head_only)
        bytes_append(&c->out, bytes_slice(&reply->body));
    if (!keep || bytes_status(&c->out) < 0)
        c->close_after_flush = true;
}

static void refuse(struct conn *c, int status)
{
    struct http_reply reply = {.status = status, .content_type = "text/plain; charset=utf-8"};

    bytes_init(&reply.body);
    put_text(&reply.body, reason(status));
    put_text(&reply.body, "\n");
    http1_answer(c, &reply, false, false);
    bytes_fini(&reply.body);
}

/* A line up to CRLF (or a bare LF); false if there is none. */
static bool take_line(struct slice *in, struct slice *ret_line)
{
    const uint8_t *end = in->len > 0 ? memchr(in->data, '\n', in->len) : NULL;
    size_t len;

    if (end == NULL)
        return false;
    len = (size_t)(end - in->data);
    *ret_line = slice_make(in->data, len > 0 && in->data[len - 1] == '\r' ? len - 1 : len);
    in->data += len + 1;
    in->len -= len + 1;
    return true;
}

static bool take_word(struct slice *line, struct slice *ret_word)
{
    const uint8_t *end = line->len > 0 ? memchr(line->data, ' ', line->len) : NULL;

    if (end == NULL || end == line->data)
        return false;
    *ret_word = slice_make(line->data, (size_t)(end - line->data));
    line->data = end + 1;
    line->len -= ret_word->len + 1;
    return true;
}

static bool header_value(struct slice line, const char *name, struct slice *ret_value)
{
    size_t len = strlen(name);

    if (line.len <= len || line.data[len] != ':' || strncasecmp((const char *)line.data, name, len) != 0)
        return false;
    line = slice_make(line.data + len + 1, line.len - len - 1);
    while (line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t'))
        line = slice_make(line.data + 1, line.len - 1);
    while (line.len > 0 && (line.data[line.len - 1] == ' ' || line.data[line.len - 1] == '\t'))
        line.len--;
    *ret_value = line;
    return true;
}

static bool value_is(struct slice value, const char *text)
{
    return value.len == strlen(text) && strncasecmp((const char *)value.data, text, value.len) == 0;
}

/* One request at the start of in: bytes used, 0 if it is not whole, negative HTTP status if it is wrong. */
static ssize_t one_request(struct conn *c, struct slice in)
{
    struct slice whole = in, line, method, target, value;
    struct http_reply reply = {.status = 404, .content_type = "text/plain; charset=utf-8"};
    struct http_request request;
    struct page_origin origin;
    struct grpc_server *s = c->server;
    bool keep, body = false, host = false;
    const uint8_t *query;

    if (!take_line(&in, &line))
        return in.len > CONN_HEADERS_MAX_BYTES ? -431 : 0;
    if (!take_word(&line, &method) || !take_word(&line, &target) || target.data[0] != '/' ||
        (!value_is(line, "HTTP/1.1") && !value_is(line, "HTTP/1.0")))
        return -400;
    keep = value_is(line, "HTTP/1.1");
    for (;;) {
        if (!take_line(&in, &line))
            return whole.len > CONN_HEADERS_MAX_BYTES ? -431 : 0;
        if (line.len == 0)
            break;
        if (header_value(line, "connection", &value))
            keep = value_is(value, "keep-alive") || (keep && !value_is(value, "close"));
        else if (header_value(line, "content-length", &value))
            body = body || !value_is(value, "0");
        else if (header_value(line, "transfer-encoding", &value))
            body = true;
        else if (header_value(line, "host", &value))
            host = true;
    }
    if (body)
        return -413;
    if (!host && keep)
        return -400;
    query = memchr(target.data, '?', target.len);
    origin = (struct page_origin){.conn = c, .head_only = value_is(method, "HEAD"), .keep = keep};
    request = (struct http_request){.method = method, .path = target, .origin = &origin};
    if (query != NULL) {
        request.path.len = (size_t)(query - target.data);
        request.query = slice_make(query + 1, target.len - request.path.len - 1);
    }
    bytes_init(&reply.body);
    if (value_is(method, "GET") || value_is(method, "HEAD")) {
        s->config.page(s->config.app, &request, &reply);
    } else {
        reply.status = 405;
        put_text(&reply.body, "Method Not Allowed\n");
    }
    c->page = origin.wait;
    if (c->page == NULL)
        http1_answer(c, &reply, origin.head_only, keep);
    bytes_fini(&reply.body);
    c->last_request_ms = uv_now(s->loop);
    conn_charge(c, 100);
    return (ssize_t)(whole.len - in.len);
}

void http1_receive(struct conn *c)
{
    struct slice in = bytes_slice(&c->in);
    size_t used = 0;

    while (in.len > 0 && c->page == NULL && !c->close_after_flush && c->out.len < WRITE_TURN_BYTES) {
        ssize_t n = one_request(c, in);

        if (n < 0) {
            refuse(c, (int)-n);
            break;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        in = slice_make(in.data + n, in.len - (size_t)n);
    }
    memmove(c->in.data, c->in.data + used, c->in.len - used);
    c->in.len -= used;
    conn_mark_dirty(c);
}
