/* What an operator may narrow: certificates that were revoked, and cipher suites. */
#include "tls/impl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

#define LIST_MAX_BYTES 4096

/* ---- lists of revoked certificates ---- */

/* All lists of a PEM text, or the one that the file is in DER form. */
static STACK_OF(X509_CRL) *parse_crls(struct slice file)
{
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    BIO *bio = BIO_new_mem_buf(file.len != 0 ? file.data : (const void *)"", (int)file.len);
    const unsigned char *der = file.data;
    X509_CRL *one;

    while (crls != NULL && bio != NULL && (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
        if (sk_X509_CRL_push(crls, one) == 0)
            X509_CRL_free(one);
    if (crls != NULL && sk_X509_CRL_num(crls) == 0 && file.len != 0 &&
        (one = d2i_X509_CRL(NULL, &der, (long)file.len)) != NULL && sk_X509_CRL_push(crls, one) == 0)
        X509_CRL_free(one);
    BIO_free(bio);
    ERR_clear_error(); /* the end of the file counts as one */
    return crls;
}

int policy_read_crls(const char *path, STACK_OF(X509_CRL) **ret_crls, char *text, size_t size)
{
    STACK_OF(X509_CRL) *crls = NULL;
    struct bytes file;
    int rc;

    bytes_init(&file);
    rc = file_read("CRL", path, &file, text, size);
    if (rc == 0) {
        crls = parse_crls(bytes_slice(&file));
        if (crls == NULL || sk_X509_CRL_num(crls) <= 0) {
            rc = crls == NULL ? -ENOMEM : -EINVAL;
            snprintf(text, size, "CRL file %s: %s", path,
                     crls == NULL ? "out of memory" : "there is no list of revoked certificates in PEM or DER form in it");
        }
    }
    bytes_fini(&file);
    if (rc == 0)
        *ret_crls = crls;
    else
        sk_X509_CRL_pop_free(crls, X509_CRL_free);
    return rc;
}

bool policy_is_revoked(const STACK_OF(X509_CRL) *crls, X509 *x)
{
    for (int i = 0; crls != NULL && i < sk_X509_CRL_num(crls); i++) {
        X509_CRL *crl = sk_X509_CRL_value(crls, i);
        X509_REVOKED *entry;

        if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(x)) == 0 &&
            X509_CRL_get0_by_serial(crl, &entry, X509_get0_serialNumber(x)) == 1)
            return true;
    }
    return false;
}

/* ---- cipher suites ---- */

struct list {
    char text[LIST_MAX_BYTES];
    size_t len;
};

static bool list_add(struct list *l, const char *name)
{
    int n = snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s", l->len != 0 ? ":" : "", name);

    if (n < 0 || (size_t)n >= sizeof(l->text) - l->len)
        return false;
    l->len += (size_t)n;
    return true;
}

/* OpenSSL's name of one that is named as the standard does, or as Go does, where two lack their end. NULL: it knows none. */
static const char *openssl_name(const char *name)
{
    char whole[160];
    const char *found = OPENSSL_cipher_name(name);

    if (strcmp(found, "(NONE)") != 0)
        return found;
    snprintf(whole, sizeof(whole), "%s_SHA256", name);
    found = OPENSSL_cipher_name(whole);
    return strstr(name, "CHACHA20") != NULL && strcmp(found, "(NONE)") != 0 ? found : NULL;
}

static int sort_names(const char *names, struct list *old, struct list *new, char *text, size_t size)
{
    char name[128];

    for (const char *at = names; *at != '\0';) {
        size_t len = strcspn(at, ",");
        const char *found = NULL;

        if (len < sizeof(name) - 16) {
            memcpy(name, at, len);
            name[len] = '\0';
            found = openssl_name(name);
        }
        if (found == NULL || !list_add(strncmp(found, "TLS_", 4) == 0 ? new : old, found)) {
            snprintf(text, size, "cipher suite %.*s: it is not known", (int)(len < 100 ? len : 100), at);
            return -EINVAL;
        }
        at += len + (at[len] == ',');
    }
    return 0;
}

/* Suites of TLS 1.3 have names of a kind of their own. If none of them is named, TLS 1.3 has its usual ones (Go, and so
 * etcd, does not let them be chosen at all); if only such are named, TLS 1.2 is not spoken. */
int policy_use_ciphers(SSL_CTX *ctx, const char *names, char *text, size_t size)
{
    struct list old = {.len = 0}, new = {.len = 0};
    int rc = sort_names(names, &old, &new, text, size);

    if (rc < 0)
        return rc;
    if ((old.len != 0 ? SSL_CTX_set_cipher_list(ctx, old.text) : SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION)) != 1 ||
        (new.len != 0 && SSL_CTX_set_ciphersuites(ctx, new.text) != 1)) {
        snprintf(text, size, "cipher suites %.200s: none of them can be used", names);
        ERR_clear_error();
        return -EINVAL;
    }
    return 0;
}
