/* Certificates and keys from files into OpenSSL's contexts. */
#include "tls/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int __attribute__((format(printf, 4, 5))) refuse(int error, char *text, size_t size, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, size, format, ap);
    va_end(ap);
    ERR_clear_error();
    return error;
}

/* The innermost reason that OpenSSL gives. */
static const char *reason(void)
{
    const char *s = ERR_reason_error_string(ERR_peek_last_error());

    return s != NULL ? s : "no reason is given";
}

int file_read(const char *what, const char *path, struct bytes *ret_bytes, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
    struct stat st;
    ssize_t n = 0;

    if (fd < 0)
        return refuse(-errno, text, size, "%s file %s: %s", what, path, strerror(errno));
    if (fstat(fd, &st) < 0)
        rc = refuse(-errno, text, size, "%s file %s: %s", what, path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = refuse(-EINVAL, text, size, "%s file %s: it is not a regular file", what, path);
    while (rc == 0) {
        uint8_t piece[8192];

        n = read(fd, piece, sizeof(piece));
        if (n < 0)
            rc = refuse(-errno, text, size, "%s file %s: %s", what, path, strerror(errno));
        if (n <= 0)
            break;
        bytes_raw(ret_bytes, piece, (size_t)n);
        if (ret_bytes->len > TLS_FILE_MAX_BYTES)
            rc = refuse(-EINVAL, text, size, "%s file %s: it is larger than %d bytes", what, path, TLS_FILE_MAX_BYTES);
    }
    close(fd);
    if (rc == 0 && bytes_status(ret_bytes) < 0)
        rc = refuse(-ENOMEM, text, size, "%s file %s: out of memory", what, path);
    return rc;
}

/* ---- certificates ---- */

/* All certificates of a PEM text, in order; at least one. */
static int read_certs(const char *what, const char *path, STACK_OF(X509) **ret_certs, char *text, size_t size)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    struct bytes file;
    BIO *bio = NULL;
    X509 *x;
    int rc;

    bytes_init(&file);
    rc = file_read(what, path, &file, text, size);
    if (rc == 0 && certs != NULL)
        bio = BIO_new_mem_buf(file.len != 0 ? file.data : (const void *)"", (int)file.len);
    if (rc == 0 && bio == NULL)
        rc = refuse(-ENOMEM, text, size, "%s file %s: out of memory", what, path);
    while (rc == 0 && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(certs, x) == 0) {
            X509_free(x);
            rc = refuse(-ENOMEM, text, size, "%s file %s: out of memory", what, path);
        }
    }
    if (rc == 0 && sk_X509_num(certs) == 0)
        rc = refuse(-EINVAL, text, size, "%s file %s: there is no certificate in PEM form in it", what, path);
    else if (rc == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        rc = refuse(-EINVAL, text, size, "%s file %s: certificate %d is damaged: %s", what, path, sk_X509_num(certs) + 1,
                    reason());
    ERR_clear_error(); /* the end of the file counts as one */
    BIO_free(bio);
    bytes_fini(&file);
    if (rc == 0)
        *ret_certs = certs;
    else
        sk_X509_pop_free(certs, X509_free);
    return rc;
}

static void print_time(const ASN1_TIME *t, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int n = 0;

    if (bio != NULL && ASN1_TIME_print(bio, t) == 1)
        n = BIO_read(bio, out, (int)size - 1);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(bio);
}

bool cert_in_date(const char *path, const X509 *x, char *text, size_t size)
{
    char when[64];

    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0) {
        print_time(X509_get0_notAfter(x), when, sizeof(when));
        snprintf(text, size, "certificate file %s: it has expired on %s", path, when);
        return false;
    }
    if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0) {
        print_time(X509_get0_notBefore(x), when, sizeof(when));
        snprintf(text, size, "certificate file %s: it is not valid before %s", path, when);
        return false;
    }
    return true;
}

/* ---- the key ---- */

static int refuse_passphrase(char *buf, int size, int rwflag, void *asked)
{
    *(bool *)asked = true;
    return -1;
}

static int read_key(const char *path, EVP_PKEY **ret_key, char *text, size_t size)
{
    struct bytes file;
    bool asked = false;
    BIO *bio = NULL;
    EVP_PKEY *key = NULL;
    int rc;

    bytes_init(&file);
    rc = file_read("key", path, &file, text, size);
    if (rc == 0 && (bio = BIO_new_mem_buf(file.len != 0 ? file.data : (const void *)"", (int)file.len)) == NULL)
        rc = refuse(-ENOMEM, text, size, "key file %s: out of memory", path);
    if (rc == 0) {
        key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
        if (key == NULL && asked)
            rc = refuse(-EINVAL, text, size, "key file %s: it is locked by a passphrase; a key without one is needed", path);
        else if (key == NULL)
            rc = refuse(-EINVAL, text, size, "key file %s: there is no private key in PEM form in it", path);
    }
    BIO_free(bio);
    if (file.len != 0)
        OPENSSL_cleanse(file.data, file.len);
    bytes_fini(&file);
    if (rc == 0)
        *ret_key = key;
    return rc;
}

/* ---- contexts ---- */

static int use_chain(const struct tls_context *c, SSL_CTX *ctx, STACK_OF(X509) *certs, EVP_PKEY *key, char *text,
                     size_t size)
{
    const char *cert_file = c->o.cert_file, *key_file = c->o.key_file;

    if (X509_check_private_key(sk_X509_value(certs, 0), key) != 1)
        return refuse(-EINVAL, text, size, "the key in %s does not belong to the certificate in %s", key_file, cert_file);
    if (SSL_CTX_use_certificate(ctx, sk_X509_value(certs, 0)) != 1)
        return refuse(-EINVAL, text, size, "certificate file %s: it cannot be used: %s", cert_file, reason());
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        return refuse(-EINVAL, text, size, "key file %s: it cannot be used: %s", key_file, reason());
    for (int i = 1; i < sk_X509_num(certs); i++)
        if (SSL_CTX_add1_chain_cert(ctx, sk_X509_value(certs, i)) != 1)
            return refuse(-EINVAL, text, size, "certificate file %s: certificate %d cannot be used: %s", cert_file, i + 1,
                          reason());
    return 0;
}

static int trust(const struct tls_context *c, SSL_CTX *ctx, STACK_OF(X509) *cas, char *text, size_t size)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);

    for (int i = 0; i < sk_X509_num(cas); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(cas, i)) != 1)
            return refuse(-EINVAL, text, size, "trusted CA file %s: certificate %d cannot be used: %s", c->o.ca_file, i + 1,
                          reason());
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN); /* what the file holds is trusted, also if it is no root */
    return 0;
}

static SSL_CTX *new_ctx(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    /* No sessions are resumed: they would outlive a reload of the trusted certificates. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_msg_callback(ctx, conn_message);
    return ctx;
}

/* In the server's order of preference. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
                           void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int make_server(const struct tls_context *c, STACK_OF(X509) *cas, SSL_CTX *ctx, char *text, size_t size)
{
    int rc = 0;

    if (c->o.http2)
        SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (cas == NULL)
        return 0;
    rc = trust(c, ctx, cas, text, size);
    for (int i = 0; rc == 0 && i < sk_X509_num(cas); i++)
        if (SSL_CTX_add_client_CA(ctx, sk_X509_value(cas, i)) != 1)
            rc = refuse(-ENOMEM, text, size, "trusted CA file %s: out of memory", c->o.ca_file);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, conn_verify);
    return rc;
}

static int make_client(const struct tls_context *c, STACK_OF(X509) *cas, SSL_CTX *ctx, char *text, size_t size)
{
    static const unsigned char h2[] = "\x02h2";

    if (c->o.http2 && SSL_CTX_set_alpn_protos(ctx, h2, sizeof(h2) - 1) != 0) /* this one says 0 for success */
        return refuse(-ENOMEM, text, size, "TLS: out of memory");
    if (c->o.trust_any_server)
        return 0;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, conn_verify);
    if (cas != NULL)
        return trust(c, ctx, cas, text, size);
    if (SSL_CTX_set_default_verify_paths(ctx) != 1)
        return refuse(-EINVAL, text, size, "the system's trusted certificates cannot be used: %s", reason());
    return 0;
}

int files_load(const struct tls_context *c, struct loaded *ret_loaded, char *text, size_t size)
{
    struct loaded l = {NULL};
    STACK_OF(X509) *certs = NULL, *cas = NULL;
    EVP_PKEY *key = NULL;
    int rc = 0;

    ERR_clear_error();
    if (c->o.cert_file != NULL) {
        rc = read_certs("certificate", c->o.cert_file, &certs, text, size);
        if (rc == 0)
            rc = read_key(c->o.key_file, &key, text, size);
    }
    if (rc == 0 && c->o.ca_file != NULL)
        rc = read_certs("trusted CA", c->o.ca_file, &cas, text, size);
    if (rc == 0 && c->o.crl_file != NULL)
        rc = policy_read_crls(c->o.crl_file, &l.crls, text, size);
    if (rc == 0 && ((l.client = new_ctx(TLS_client_method())) == NULL ||
                    (certs != NULL && (l.server = new_ctx(TLS_server_method())) == NULL)))
        rc = refuse(-ENOMEM, text, size, "TLS: out of memory");
    if (rc == 0 && c->o.cipher_suites != NULL && c->o.cipher_suites[0] != '\0') {
        rc = policy_use_ciphers(l.client, c->o.cipher_suites, text, size);
        if (rc == 0 && l.server != NULL)
            rc = policy_use_ciphers(l.server, c->o.cipher_suites, text, size);
    }
    if (rc == 0)
        rc = make_client(c, cas, l.client, text, size);
    if (rc == 0 && certs != NULL)
        rc = use_chain(c, l.client, certs, key, text, size);
    if (rc == 0 && l.server != NULL)
        rc = make_server(c, cas, l.server, text, size);
    if (rc == 0 && l.server != NULL)
        rc = use_chain(c, l.server, certs, key, text, size);
    if (rc == 0 && certs != NULL)
        cert_in_date(c->o.cert_file, sk_X509_value(certs, 0), l.date_text, sizeof(l.date_text));
    EVP_PKEY_free(key);
    sk_X509_pop_free(certs, X509_free);
    sk_X509_pop_free(cas, X509_free);
    if (rc < 0)
        files_unload(&l);
    else
        *ret_loaded = l;
    return rc;
}

void files_unload(struct loaded *l)
{
    SSL_CTX_free(l->server);
    SSL_CTX_free(l->client);
    sk_X509_CRL_pop_free(l->crls, X509_CRL_free);
    *l = (struct loaded){NULL};
}
