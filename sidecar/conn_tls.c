/* conn_tls.c - connections of TLS: who is let in by which listener, records in, records out. */
#include "sidecar/conn.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>

static void say_failed(struct conn *c, const char *why)
{
    struct grpc_server *s = c->server;
    struct sockaddr_storage from;
    int len = sizeof from;
    char host[64] = "a local socket", others[64] = "";
    uint64_t untold;

    s->counters.tls_failed++;
    if (!tls_complaint_is_due(&s->complaints, uv_now(s->loop), why, &untold))
        return;
    if (untold != 0)
        snprintf(others, sizeof others, " (and %llu others before)", (unsigned long long)untold);
    if (c->uv.stream.type == UV_TCP && uv_tcp_getpeername(&c->uv.tcp, (struct sockaddr *)&from, &len) == 0)
        getnameinfo((struct sockaddr *)&from, (socklen_t)len, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    log_warn(s->config.log, "a client, from %s: %s%s", host, why, others);
}

bool conn_tls_choose(struct conn *c, uint8_t first)
{
    static const char plain[] = "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n"
                                "Client sent an HTTP request to an HTTPS server.\n";

    if ((c->security & GRPC_TLS) != 0 && ((c->security & GRPC_PLAIN) == 0 || tls_is_hello(first))) {
        if (!tls_is_hello(first)) {
            say_failed(c, "it speaks no TLS, and this is an https URL");
            if (first == 'P') { /* HTTP/2 with prior knowledge: there is no answer that it would understand; or a POST */
                conn_close(c);
                return false;
            }
            bytes_raw(&c->out, plain, sizeof plain - 1);
            c->close_after_flush = true;
            conn_mark_dirty(c);
            return false;
        }
        if (c->server->config.tls == NULL || tls_conn_new(c->server->config.tls, TLS_SERVER, NULL, &c->tls) < 0) {
            conn_close(c);
            return false;
        }
        c->server->counters.conns_tls++;
    }
    return true;
}

void conn_tls_receive(struct conn *c, struct slice in)
{
    struct bytes *plain = &c->server->plain;
    int rc;

    bytes_reset(plain);
    rc = tls_conn_feed(c->tls, in, plain, &c->tls_out);
    if (rc == -EPROTO)
        say_failed(c, tls_conn_why(c->tls));
    if (plain->len > 0 && rc != -EPROTO)
        conn_receive(c, plain->data, plain->len);
    if (c->closing)
        return;
    if (rc == -ECONNRESET || rc == -ENOMEM || (c->writing && c->tls_out.len > TLS_UNSENT_MAX_BYTES)) {
        conn_close(c);
        return;
    }
    if (rc < 0)
        c->close_after_flush = true; /* the alert goes out first */
    if (c->tls_out.len > 0 || rc < 0)
        conn_mark_dirty(c);
}

int conn_tls_write(struct conn *c, const uint8_t *data, size_t len)
{
    struct bytes *sealed = &c->server->sealed;
    int rc = 0;

    bytes_reset(sealed);
    bytes_append(sealed, bytes_slice(&c->tls_out));
    bytes_fini(&c->tls_out); /* an idle connection holds none */
    bytes_init(&c->tls_out);
    if (len > 0)
        rc = tls_conn_send(c->tls, slice_make(data, len), sealed);
    if (rc == 0)
        rc = bytes_status(sealed);
    return rc == 0 && sealed->len > 0 ? conn_write(c, sealed->data, sealed->len) : rc;
}

void conn_tls_close(struct conn *c)
{
    struct bytes *sealed = &c->server->sealed;
    uv_buf_t buf;

    if (c->writing)
        return;
    bytes_reset(sealed);
    tls_conn_end(c->tls, sealed);
    buf = uv_buf_init((char *)sealed->data, (unsigned)sealed->len);
    if (sealed->len > 0)
        uv_try_write(&c->uv.stream, &buf, 1);
}
