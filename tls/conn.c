/* One connection: bytes through OpenSSL and back, over a BIO that is a view of the caller's buffers. */
#include "tls/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES 16384 /* a record's worth */

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *buf, size_t len, size_t *ret_len)
{
    struct tls_conn *t = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (t->in.len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    if (len > t->in.len)
        len = t->in.len;
    memcpy(buf, t->in.data, len);
    t->in = slice_make(t->in.data + len, t->in.len - len);
    *ret_len = len;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t len, size_t *ret_len)
{
    struct tls_conn *t = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (t->out == NULL)
        return 0;
    bytes_raw(t->out, data, len);
    if (bytes_status(t->out) < 0)
        return 0;
    *ret_len = len;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *conn_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "quorumfs buffers");

    if (m != NULL &&
        (!BIO_meth_set_read_ex(m, bio_read) || !BIO_meth_set_write_ex(m, bio_write) || !BIO_meth_set_ctrl(m, bio_ctrl))) {
        BIO_meth_free(m);
        m = NULL;
    }
    return m;
}

/* ---- what OpenSSL asks and tells ---- */

static bool is_address(const char *host)
{
    uint8_t binary[16];

    return inet_pton(AF_INET, host, binary) == 1 || inet_pton(AF_INET6, host, binary) == 1;
}

static bool cert_is_for(X509 *x, const char *host)
{
    if (is_address(host))
        return X509_check_ip_asc(x, host, 0) == 1;
    return X509_check_host(x, host, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

static bool common_name(const X509 *x, char *out, size_t size)
{
    int n = X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, NULL, 0);

    return n > 0 && (size_t)n < size &&
           X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, (int)size) == n &&
           strlen(out) == (size_t)n;
}

/* After OpenSSL's own judgement of each certificate of the chain; the last is the other side's. */
int conn_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *t = SSL_get_app_data(ssl);
    const struct tls_options *o = &t->c->o;
    X509 *x = X509_STORE_CTX_get_current_cert(store);
    char name[256];

    if (!ok) {
        if (x != NULL && t->why[0] == '\0') {
            bool named = common_name(x, name, sizeof(name));

            snprintf(t->why, sizeof(t->why), "its certificate is refused: %s%s%s%s",
                     X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)), named ? " (" : "", named ? name : "",
                     named ? ")" : "");
        }
        return 0;
    }
    if (policy_is_revoked(t->c->now.crls, x)) {
        snprintf(t->why, sizeof(t->why), "a certificate of its chain was revoked (%s)",
                 common_name(x, name, sizeof(name)) ? name : "without a common name");
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(store) != 0)
        return 1;
    if (o->allowed_hostname != NULL && !cert_is_for(x, o->allowed_hostname))
        snprintf(t->why, sizeof(t->why), "its certificate is not for %s, the one host name allowed", o->allowed_hostname);
    else if (o->allowed_cn != NULL && (!common_name(x, name, sizeof(name)) || strcmp(name, o->allowed_cn) != 0))
        snprintf(t->why, sizeof(t->why), "the common name of its certificate is not %s, the one allowed", o->allowed_cn);
    else
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

void conn_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
    struct tls_conn *t = SSL_get_app_data(ssl);

    if (t != NULL && !write_p && type == SSL3_RT_HANDSHAKE && t->established)
        t->rekeys++;
}

/* ---- errors ---- */

static void say(struct tls_conn *t, const char *text)
{
    if (t->why[0] == '\0')
        snprintf(t->why, sizeof(t->why), "%s", text);
}

static int fail(struct tls_conn *t)
{
    unsigned long e = ERR_peek_error();
    const char *s = ERR_reason_error_string(e);
    int r = ERR_GET_REASON(e);

    t->failed = true;
    if (t->out != NULL && bytes_status(t->out) < 0) {
        say(t, "out of memory");
        ERR_clear_error();
        return -ENOMEM;
    }
    if (t->why[0] != '\0') {
        /* the verification has said it */
    } else if (r == SSL_R_HTTP_REQUEST) {
        say(t, "it speaks plain HTTP, not TLS");
    } else if (r == SSL_R_WRONG_VERSION_NUMBER || r == SSL_R_UNKNOWN_PROTOCOL || r == SSL_R_PACKET_LENGTH_TOO_LONG) {
        say(t, "it does not speak TLS");
    } else if (r == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        say(t, "it shows no certificate, and one is wanted");
    } else if (r >= SSL_AD_REASON_OFFSET && r < SSL_AD_REASON_OFFSET + 256) {
        bool missing = r - SSL_AD_REASON_OFFSET == SSL_AD_CERTIFICATE_REQUIRED; /* OpenSSL 3.0 has no text for it */

        snprintf(t->why, sizeof(t->why), "it ends the connection: %s",
                 missing ? "certificate required" : SSL_alert_desc_string_long(r - SSL_AD_REASON_OFFSET));
    } else {
        snprintf(t->why, sizeof(t->why), "TLS: %s", s != NULL ? s : "an error without a reason");
    }
    ERR_clear_error();
    return -EPROTO;
}

/* What a call of SSL_* with a result other than success means. */
static int judge(struct tls_conn *t, int rc)
{
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        t->ended = true;
        say(t, "closed by the other side");
        return -ECONNRESET;
    default:
        return fail(t);
    }
}

/* ---- the life of a connection ---- */

static int set_host(struct tls_conn *t, const char *host)
{
    X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);

    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1 ? 0 : -ENOMEM;
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_host(p, host, 0) != 1 || SSL_set_tlsext_host_name(t->ssl, host) != 1)
        return -ENOMEM;
    return 0;
}

int tls_conn_new(struct tls_context *c, enum tls_side side, const char *host, struct tls_conn **ret_conn)
{
    struct tls_conn *t;
    SSL_CTX *ctx;
    BIO *bio;
    int rc = 0;

    tls_context_refresh(c);
    ctx = side == TLS_SERVER ? c->now.server : c->now.client;
    if (ctx == NULL)
        return -EINVAL;
    ERR_clear_error();
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    t->c = c;
    t->side = side;
    t->ssl = SSL_new(ctx);
    bio = t->ssl != NULL ? BIO_new(c->bio) : NULL;
    if (bio == NULL) {
        tls_conn_free(t);
        ERR_clear_error();
        return -ENOMEM;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    if (side == TLS_SERVER)
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);
    if (side == TLS_CLIENT && host != NULL && host[0] != '\0')
        rc = set_host(t, host);
    if (rc < 0) {
        tls_conn_free(t);
        ERR_clear_error();
        return rc;
    }
    *ret_conn = t;
    return 0;
}

void tls_conn_free(struct tls_conn *t)
{
    if (t == NULL)
        return;
    t->out = NULL;
    SSL_free(t->ssl);
    free(t);
}

static int handshake(struct tls_conn *t)
{
    int rc;

    if (t->established)
        return 0;
    rc = SSL_do_handshake(t->ssl);
    t->established = rc == 1;
    return rc == 1 ? 0 : judge(t, rc);
}

static int begin(struct tls_conn *t, struct slice in, struct bytes *out)
{
    if (t->failed)
        return -EPROTO;
    if (t->ended)
        return -ECONNRESET;
    ERR_clear_error();
    t->in = in;
    t->out = out;
    return 0;
}

static int end(struct tls_conn *t, int rc)
{
    t->in = slice_make(NULL, 0);
    t->out = NULL;
    return rc;
}

int tls_conn_start(struct tls_conn *t, struct bytes *ret_out)
{
    int rc = begin(t, slice_make(NULL, 0), ret_out);

    if (rc < 0 || t->side == TLS_SERVER)
        return end(t, rc);
    return end(t, handshake(t));
}

static int read_plain(struct tls_conn *t, struct bytes *plain)
{
    for (;;) {
        uint8_t *room = bytes_grow(plain, PIECE_BYTES);
        size_t n = 0;
        int rc;

        if (room == NULL)
            return -ENOMEM;
        rc = SSL_read_ex(t->ssl, room, PIECE_BYTES, &n);
        plain->len -= PIECE_BYTES - (rc == 1 ? n : 0);
        if (t->rekeys > TLS_REKEY_FREE + t->received_bytes / TLS_REKEY_BYTES) {
            t->failed = true;
            say(t, "it changes its keys again and again");
            return -EPROTO;
        }
        if (rc != 1)
            return judge(t, rc);
    }
}

int tls_conn_feed(struct tls_conn *t, struct slice in, struct bytes *ret_plain, struct bytes *ret_out)
{
    int rc = begin(t, in, ret_out);

    if (rc < 0)
        return end(t, rc);
    t->received_bytes += in.len;
    rc = handshake(t);
    if (rc == 0 && t->established)
        rc = read_plain(t, ret_plain);
    return end(t, rc);
}

int tls_conn_send(struct tls_conn *t, struct slice plain, struct bytes *ret_out)
{
    size_t n;
    int rc = 0;

    if (!tls_conn_established(t))
        return -EPROTO;
    if (plain.len == 0)
        return 0;
    ERR_clear_error();
    t->out = ret_out; /* also after the other side's end: it may still read */
    if (SSL_write_ex(t->ssl, plain.data, plain.len, &n) != 1 || n != plain.len)
        rc = fail(t);
    return end(t, rc);
}

void tls_conn_end(struct tls_conn *t, struct bytes *ret_out)
{
    if (!tls_conn_established(t))
        return;
    ERR_clear_error();
    t->out = ret_out;
    SSL_shutdown(t->ssl);
    ERR_clear_error();
    end(t, 0);
}

/* ---- what is known of it ---- */

bool tls_conn_established(const struct tls_conn *t)
{
    return t->established && !t->failed;
}

const char *tls_conn_why(const struct tls_conn *t)
{
    return t->why[0] != '\0' ? t->why : "closed";
}

bool tls_conn_http2(const struct tls_conn *t)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(t->ssl, &name, &len);
    return len == 2 && memcmp(name, "h2", 2) == 0;
}

bool tls_conn_has_cert(const struct tls_conn *t)
{
    return SSL_get0_peer_certificate(t->ssl) != NULL && (SSL_get_verify_mode(t->ssl) & SSL_VERIFY_PEER) != 0 &&
           SSL_get_verify_result(t->ssl) == X509_V_OK;
}

bool tls_conn_cert_is_for(const struct tls_conn *t, const char *host)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);

    return x != NULL && cert_is_for(x, host);
}

bool tls_conn_common_name(const struct tls_conn *t, char *out, size_t size)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);

    return x != NULL && common_name(x, out, size);
}
