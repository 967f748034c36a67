/* impl.h - what the files of tls/ share.
 *
 * Process: any.  Thread: the context's.  Errors: negative errno.  Memory: see each structure.  Units: bytes. */
#ifndef TLS_IMPL_H
#define TLS_IMPL_H

#include "tls/tls.h"

#include <openssl/ssl.h>
#include <sys/stat.h>

enum { FILE_CERT, FILE_KEY, FILE_CA, FILE_CRL, FILES };

/* What tells one content of a file from another without reading it. */
struct stamp { /* compared as bytes: zeroed before it is filled */
    int error; /* errno of stat */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed, modified;
};

/* A set of files as OpenSSL knows it. */
struct loaded {
    SSL_CTX *server, *client; /* server: NULL without a certificate */
    STACK_OF(X509_CRL) *crls; /* NULL: none */
    char date_text[TLS_TEXT_MAX_BYTES]; /* not empty: the certificate is not valid today */
};

struct tls_context {
    struct tls_options o; /* with the strings below */
    char *strings[7];
    BIO_METHOD *bio;
    struct stamp stamps[FILES];
    struct loaded now;
};

struct tls_conn {
    struct tls_context *c;
    SSL *ssl;
    enum tls_side side;
    struct slice in;   /* during a call */
    struct bytes *out; /* likewise */
    bool established, failed, ended;
    uint64_t received_bytes, rekeys;
    char why[TLS_TEXT_MAX_BYTES];
};

/* ---- files.c ---- */
int files_load(const struct tls_context *c, struct loaded *ret_loaded, char *text, size_t size);
void files_unload(struct loaded *l);
/* Reads a whole file; -EINVAL with a text if it cannot be one of ours. */
int file_read(const char *what, const char *path, struct bytes *ret_bytes, char *text, size_t size);
/* False, with a text, if x is not valid now. */
bool cert_in_date(const char *path, const X509 *x, char *text, size_t size);

/* ---- policy.c ---- */
int policy_read_crls(const char *path, STACK_OF(X509_CRL) **ret_crls, char *text, size_t size);
bool policy_is_revoked(const STACK_OF(X509_CRL) *crls, X509 *x); /* crls NULL: nothing is */
int policy_use_ciphers(SSL_CTX *ctx, const char *names, char *text, size_t size);

/* ---- conn.c ---- */
BIO_METHOD *conn_bio_method(void);
int conn_verify(int ok, X509_STORE_CTX *store);
void conn_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg);

#endif
