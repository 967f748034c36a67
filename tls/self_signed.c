/* Certificates that a member makes for itself (auto-tls): encryption without anybody to vouch for it. */
#include "tls/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define RENEW_S (3600 * 24 * 30) /* one that expires within this is made anew at a start */
#define BACKDATE_S 300           /* clocks differ */

static int say(int error, const char *path, const char *what, char *text, size_t size)
{
    snprintf(text, size, "%s: %s", path, what);
    ERR_clear_error();
    return error;
}

/* ---- what is there ---- */

/* 1: a pair that will do; 0: none, or one that is to be replaced. */
static int look(const char *cert_file, const char *key_file, char *text, size_t size)
{
    struct tls_options o = {.cert_file = cert_file, .key_file = key_file, .trust_any_server = true};
    struct tls_context *c;
    time_t soon = time(NULL) + RENEW_S;
    X509 *x;
    int rc;

    if (access(cert_file, F_OK) < 0 || access(key_file, F_OK) < 0)
        return 0;
    rc = tls_context_open(&o, &c, text, size); /* a damaged pair is not overwritten: it may be somebody's */
    if (rc < 0)
        return rc;
    x = SSL_CTX_get0_certificate(c->now.server);
    rc = X509_cmp_time(X509_get0_notAfter(x), &soon) > 0;
    tls_context_close(c);
    return rc;
}

/* ---- making one ---- */

static int add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    int ok;

    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    if (e == NULL)
        return -ENOMEM;
    ok = X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    return ok == 1 ? 0 : -ENOMEM;
}

static int add_names(X509 *x, const char *const *hosts, size_t n)
{
    struct bytes names;
    int rc;

    bytes_init(&names);
    for (size_t i = 0; i < n; i++) {
        uint8_t binary[16];
        bool address = inet_pton(AF_INET, hosts[i], binary) == 1 || inet_pton(AF_INET6, hosts[i], binary) == 1;

        if (names.len != 0)
            bytes_u8(&names, ',');
        bytes_append(&names, slice_from_str(address ? "IP:" : "DNS:"));
        bytes_append(&names, slice_from_str(hosts[i]));
    }
    bytes_u8(&names, 0);
    rc = bytes_status(&names);
    if (rc == 0 && n != 0)
        rc = add_extension(x, NID_subject_alt_name, (const char *)names.data);
    bytes_fini(&names);
    return rc;
}

static int set_serial(X509 *x)
{
    unsigned char random[16];
    BIGNUM *n = RAND_bytes(random, sizeof(random)) == 1 ? BN_bin2bn(random, sizeof(random), NULL) : NULL;
    int ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;

    BN_free(n);
    return ok ? 0 : -ENOMEM;
}

static int fill(X509 *x, EVP_PKEY *key, const char *const *hosts, size_t n)
{
    X509_NAME *name = X509_get_subject_name(x);

    if (X509_set_version(x, X509_VERSION_3) != 1 || set_serial(x) < 0 ||
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"quorumfs", -1, -1, 0) != 1 ||
        X509_set_issuer_name(x, name) != 1 || X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATE_S) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(x), (long)TLS_SELF_SIGNED_DAYS * 24 * 3600) == NULL || X509_set_pubkey(x, key) != 1)
        return -ENOMEM;
    if (add_extension(x, NID_basic_constraints, "critical,CA:FALSE") < 0 ||
        add_extension(x, NID_key_usage, "critical,digitalSignature,keyEncipherment") < 0 ||
        add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth") < 0 || add_names(x, hosts, n) < 0)
        return -EINVAL;
    return X509_sign(x, key, EVP_sha256()) != 0 ? 0 : -ENOMEM;
}

/* ---- files ---- */

static int make_directories(const char *dir)
{
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path))
        return -ENAMETOOLONG;
    for (char *s = path + 1;; s++) {
        char was = *s;

        if (was != '/' && was != '\0')
            continue;
        *s = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return -errno;
        *s = was;
        if (was == '\0')
            return 0;
    }
}

/* As a whole or not at all. */
static int write_file(const char *path, mode_t mode, BIO *pem)
{
    char temporary[PATH_MAX];
    char *data;
    long len = BIO_get_mem_data(pem, &data);
    int fd, rc = 0;

    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
        return -ENAMETOOLONG;
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, mode) < 0 || write(fd, data, (size_t)len) != len || fsync(fd) < 0)
        rc = errno != 0 ? -errno : -EIO;
    close(fd);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(temporary);
    return rc;
}

static int write_pair(const char *cert_file, const char *key_file, const X509 *x, EVP_PKEY *key, char *text, size_t size)
{
    BIO *cert_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_mem());
    int rc = -ENOMEM;

    if (cert_pem == NULL || key_pem == NULL || PEM_write_bio_X509(cert_pem, x) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) != 1) {
        say(rc, cert_file, "a certificate cannot be written in PEM form", text, size);
    } else {
        rc = write_file(key_file, 0600, key_pem);
        if (rc < 0)
            say(rc, key_file, strerror(-rc), text, size);
        else if ((rc = write_file(cert_file, 0644, cert_pem)) < 0)
            say(rc, cert_file, strerror(-rc), text, size);
    }
    BIO_free(cert_pem);
    BIO_free(key_pem);
    return rc;
}

static int make_pair(const char *cert_file, const char *key_file, const char *const *hosts, size_t n, char *text, size_t size)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    int rc = key != NULL && x != NULL ? fill(x, key, hosts, n) : -ENOMEM;

    if (rc < 0)
        say(rc, cert_file, "a certificate cannot be made for the hosts of the URLs", text, size);
    else
        rc = write_pair(cert_file, key_file, x, key, text, size);
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

int tls_self_signed(const char *dir, const char *const *hosts, size_t n_hosts, char *ret_cert_file, char *ret_key_file,
                    size_t path_size, char *ret_text, size_t text_size)
{
    int rc;

    if ((size_t)snprintf(ret_cert_file, path_size, "%s/cert.pem", dir) >= path_size ||
        (size_t)snprintf(ret_key_file, path_size, "%s/key.pem", dir) >= path_size)
        return say(-ENAMETOOLONG, dir, strerror(ENAMETOOLONG), ret_text, text_size);
    rc = look(ret_cert_file, ret_key_file, ret_text, text_size);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = make_directories(dir);
    if (rc < 0)
        return say(rc, dir, strerror(-rc), ret_text, text_size);
    return make_pair(ret_cert_file, ret_key_file, hosts, n_hosts, ret_text, text_size);
}
