/* certs.h - certificates for tests: authorities, servers, clients, good ones and others.
 *
 * Process: tests.  Thread: one.  Errors: assertions of cmocka.
 * Memory:  cert_free().
 * Units:   seconds from now. */
#ifndef TESTS_UNIT_CERTS_H
#define TESTS_UNIT_CERTS_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct cert {
    X509 *x;
    EVP_PKEY *key;
};

struct cert_spec {
    const char *cn, *names; /* names: "DNS:localhost,IP:127.0.0.1" */
    const char *usage;      /* NULL: both */
    long from_s, to_s;      /* 0: valid now */
    bool is_ca;
};

static inline void cert_extend(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* issuer NULL: signed by itself */
static inline struct cert cert_make(const struct cert *issuer, struct cert_spec spec)
{
    struct cert c = {X509_new(), EVP_EC_gen("P-256")};
    static long serial;
    X509_NAME *name = X509_get_subject_name(c.x);

    X509_set_version(c.x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x), ++serial);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)spec.cn, -1, -1, 0);
    X509_set_issuer_name(c.x, issuer != NULL ? X509_get_subject_name(issuer->x) : name);
    X509_gmtime_adj(X509_getm_notBefore(c.x), spec.from_s != 0 ? spec.from_s : -60);
    X509_gmtime_adj(X509_getm_notAfter(c.x), spec.to_s != 0 ? spec.to_s : 3600);
    X509_set_pubkey(c.x, c.key);
    cert_extend(c.x, NID_basic_constraints, spec.is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!spec.is_ca)
        cert_extend(c.x, NID_ext_key_usage, spec.usage != NULL ? spec.usage : "serverAuth,clientAuth");
    if (spec.names != NULL)
        cert_extend(c.x, NID_subject_alt_name, spec.names);
    assert_true(X509_sign(c.x, issuer != NULL ? issuer->key : c.key, EVP_sha256()) != 0);
    return c;
}

static inline void cert_free(struct cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
}

/* Anew each time, as tools do it: another inode. */
static inline FILE *cert_open(const char *path)
{
    FILE *f;

    remove(path);
    f = fopen(path, "we");
    assert_non_null(f);
    return f;
}

static inline void cert_write(const struct cert *c, const char *path)
{
    FILE *f = cert_open(path);

    assert_int_equal(PEM_write_X509(f, c->x), 1);
    fclose(f);
}

static inline void cert_write_key(const struct cert *c, const char *path)
{
    FILE *f = cert_open(path);

    assert_int_equal(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

#endif
