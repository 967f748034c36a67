/* tls/policy: revoked certificates, by issuer and number, taken anew when the file changes; cipher suites by their standard names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/certs.h"
#include "tests/unit/temp_dir.h"
#include "tls/impl.h"

#include <errno.h>

struct place {
    char dir[100];
    char ca_file[128], cert[128], key[128], client_cert[128], client_key[128], crl[128];
    struct cert ca, other_ca, server, client;
};

static void place_open(struct place *p)
{
    memset(p, 0, sizeof(*p));
    temp_dir(p->dir, sizeof(p->dir), "policy");
    snprintf(p->ca_file, sizeof(p->ca_file), "%s/ca.pem", p->dir);
    snprintf(p->cert, sizeof(p->cert), "%s/cert.pem", p->dir);
    snprintf(p->key, sizeof(p->key), "%s/key.pem", p->dir);
    snprintf(p->client_cert, sizeof(p->client_cert), "%s/client.pem", p->dir);
    snprintf(p->client_key, sizeof(p->client_key), "%s/client.key", p->dir);
    snprintf(p->crl, sizeof(p->crl), "%s/crl", p->dir);
    p->ca = cert_make(NULL, (struct cert_spec){.cn = "authority", .is_ca = true});
    p->other_ca = cert_make(NULL, (struct cert_spec){.cn = "another", .is_ca = true});
    p->server = cert_make(&p->ca, (struct cert_spec){.cn = "server", .names = "DNS:localhost"});
    p->client = cert_make(&p->ca, (struct cert_spec){.cn = "some client"});
    cert_write(&p->ca, p->ca_file);
    cert_write(&p->server, p->cert);
    cert_write_key(&p->server, p->key);
    cert_write(&p->client, p->client_cert);
    cert_write_key(&p->client, p->client_key);
}

static void place_close(struct place *p)
{
    const char *files[] = {p->ca_file, p->cert, p->key, p->client_cert, p->client_key, p->crl};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        remove(files[i]);
    assert_int_equal(rmdir(p->dir), 0);
    cert_free(&p->ca);
    cert_free(&p->other_ca);
    cert_free(&p->server);
    cert_free(&p->client);
}

/* A list of the issuer with one certificate's number (NULL: none), as a file of one form or the other. */
static void write_crl(struct place *p, const struct cert *issuer, const struct cert *revoked, bool pem)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *now = ASN1_TIME_adj(NULL, time(NULL), 0, -60);
    FILE *f = cert_open(p->crl);

    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x));
    X509_CRL_set1_lastUpdate(crl, now);
    X509_CRL_set1_nextUpdate(crl, now); /* over already: dates are not looked at */
    if (revoked != NULL) {
        X509_REVOKED *r = X509_REVOKED_new();

        X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(revoked->x));
        X509_REVOKED_set_revocationDate(r, now);
        assert_int_equal(X509_CRL_add0_revoked(crl, r), 1);
    }
    X509_CRL_sort(crl);
    assert_true(X509_CRL_sign(crl, issuer->key, EVP_sha256()) != 0);
    assert_int_equal(pem ? PEM_write_X509_CRL(f, crl) : i2d_X509_CRL_fp(f, crl), 1);
    fclose(f);
    ASN1_TIME_free(now);
    X509_CRL_free(crl);
}

static struct tls_options server_options(struct place *p)
{
    return (struct tls_options){.cert_file = p->cert, .key_file = p->key, .ca_file = p->ca_file, .client_cert_auth = true};
}

static struct tls_options client_options(struct place *p)
{
    return (struct tls_options){.cert_file = p->client_cert, .key_file = p->client_key, .ca_file = p->ca_file};
}

static struct tls_context *open_context(struct tls_options o)
{
    struct tls_context *c = NULL;
    char text[TLS_TEXT_MAX_BYTES] = "";

    if (tls_context_open(&o, &c, text, sizeof(text)) < 0)
        fail_msg("%s", text);
    return c;
}

/* A handshake. True: both ends have ended it well; then ret_cipher is what they speak. Otherwise why the server thinks it failed. */
static bool shake(struct tls_context *server, struct tls_context *client, int max_version, char *ret_cipher, char *ret_why)
{
    struct bytes up = {0}, down = {0}, plain = {0};
    struct tls_conn *s, *c;
    bool good = true;

    assert_int_equal(tls_conn_new(server, TLS_SERVER, NULL, &s), 0);
    assert_int_equal(tls_conn_new(client, TLS_CLIENT, "localhost", &c), 0);
    assert_int_equal(SSL_set_max_proto_version(c->ssl, max_version), 1);
    assert_int_equal(tls_conn_start(c, &up), 0);
    while (good && up.len + down.len != 0) {
        good = tls_conn_feed(s, bytes_slice(&up), &plain, &down) == 0;
        bytes_reset(&up);
        good = (down.len == 0 || tls_conn_feed(c, bytes_slice(&down), &plain, &up) == 0) && good;
        bytes_reset(&down);
    }
    good = good && tls_conn_established(s) && tls_conn_established(c);
    snprintf(ret_cipher, 100, "%s", good ? SSL_CIPHER_standard_name(SSL_get_current_cipher(s->ssl)) : "none");
    snprintf(ret_why, TLS_TEXT_MAX_BYTES, "%s", tls_conn_why(s));
    tls_conn_free(s);
    tls_conn_free(c);
    bytes_fini(&up);
    bytes_fini(&down);
    bytes_fini(&plain);
    return good;
}

static void revoked_certificates_are_refused(void **state)
{
    struct place p;
    struct tls_options o;
    struct tls_context *server, *client;
    char cipher[100], why[TLS_TEXT_MAX_BYTES];

    place_open(&p);
    o = server_options(&p);
    o.crl_file = p.crl;
    write_crl(&p, &p.ca, NULL, true);
    server = open_context(o);
    client = open_context(client_options(&p));
    assert_true(shake(server, client, 0, cipher, why));
    write_crl(&p, &p.ca, &p.server, true); /* another's number */
    assert_true(shake(server, client, 0, cipher, why));
    write_crl(&p, &p.other_ca, &p.client, true); /* the number, of another issuer's */
    assert_true(shake(server, client, 0, cipher, why));
    for (int pem = 0; pem < 2; pem++) {
        write_crl(&p, &p.ca, &p.client, pem);
        assert_false(shake(server, client, 0, cipher, why));
        assert_non_null(strstr(why, "was revoked (some client)"));
        write_crl(&p, &p.ca, NULL, pem);
        assert_true(shake(server, client, 0, cipher, why));
    }
    tls_context_close(client);
    o = client_options(&p); /* a client looks at the server's */
    o.crl_file = p.crl;
    write_crl(&p, &p.ca, &p.server, false);
    tls_context_close(server);
    server = open_context(server_options(&p));
    client = open_context(o);
    assert_false(shake(server, client, 0, cipher, why));
    tls_context_close(client);
    tls_context_close(server);
    place_close(&p);
}

static void expect_refused(struct tls_options o, const char *part)
{
    struct tls_context *c;
    char text[TLS_TEXT_MAX_BYTES] = "";

    assert_true(tls_context_open(&o, &c, text, sizeof(text)) < 0);
    if (strstr(text, part) == NULL)
        fail_msg("'%s' does not say '%s'", text, part);
}

static void what_cannot_be_used_is_said(void **state)
{
    struct place p;
    struct tls_options o;
    FILE *f;

    place_open(&p);
    o = server_options(&p);
    o.crl_file = p.crl;
    expect_refused(o, "CRL file");
    f = cert_open(p.crl);
    fputs("no list", f);
    fclose(f);
    expect_refused(o, "no list of revoked certificates");
    f = cert_open(p.crl);
    fclose(f);
    expect_refused(o, "no list of revoked certificates");
    o.crl_file = NULL;
    o.cipher_suites = "TLS_AES_128_GCM_SHA256,TLS_NONE_SUCH";
    expect_refused(o, "cipher suite TLS_NONE_SUCH: it is not known");
    o.cipher_suites = ",";
    expect_refused(o, "it is not known");
    o.cipher_suites = "ECDHE-RSA-AES128-GCM-SHA256"; /* OpenSSL's own names are not etcd's */
    expect_refused(o, "it is not known");
    place_close(&p);
}

static void the_suites_named_are_spoken(void **state)
{
#define OLD_CHACHA "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"
    static const struct {
        const char *suites;
        int max_version;
        const char *spoken;
    } cases[] = {
        {NULL, TLS1_2_VERSION, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {"", TLS1_2_VERSION, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS1_2_VERSION,
         "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
        {OLD_CHACHA, TLS1_2_VERSION, OLD_CHACHA "_SHA256"}, /* as Go had it first */
        {OLD_CHACHA "_SHA256", 0, "TLS_AES_256_GCM_SHA384"}, /* TLS 1.3 has its own */
        {"TLS_CHACHA20_POLY1305_SHA256", 0, "TLS_CHACHA20_POLY1305_SHA256"},
        {"TLS_CHACHA20_POLY1305_SHA256", TLS1_2_VERSION, "none"},
        {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS1_2_VERSION, "none"}, /* of a key that this server does not have */
    };
    struct place p;
    char cipher[100], why[TLS_TEXT_MAX_BYTES];

    place_open(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_options o = server_options(&p);
        struct tls_context *server, *client = open_context(client_options(&p));

        o.cipher_suites = cases[i].suites;
        server = open_context(o);
        shake(server, client, cases[i].max_version, cipher, why);
        assert_string_equal(cipher, cases[i].spoken);
        tls_context_close(client);
        tls_context_close(server);
    }
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoked_certificates_are_refused),
        cmocka_unit_test(what_cannot_be_used_is_said),
        cmocka_unit_test(the_suites_named_are_spoken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
