/* The flags of TLS: what they must be together, the certificates that are made, contexts of the files. */
#include "raft/config_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "tls/tls.h"

/* The same flags twice: of clients, and of peers with a prefix. */
struct names {
    enum flag cert, key, ca, auth, automatic, hostname, cn, crl, listen;
    const char *prefix, *fixture;
};

static const struct names peer_names = {
    FLAG_PEER_CERT,     FLAG_PEER_KEY, FLAG_PEER_CA,     FLAG_PEER_AUTH, FLAG_PEER_AUTO,
    FLAG_PEER_HOSTNAME, FLAG_PEER_CN,  FLAG_PEER_CRL,  FLAG_LISTEN_PEER, "peer-", "peer",
};
static const struct names client_names = {
    FLAG_CLIENT_CERT,     FLAG_CLIENT_KEY, FLAG_CLIENT_CA,     FLAG_CLIENT_AUTH, FLAG_CLIENT_AUTO,
    FLAG_CLIENT_HOSTNAME, FLAGS,           FLAG_CLIENT_CRL,  FLAG_LISTEN_CLIENT, "", "client",
};

static bool speaks_tls(const struct url *u)
{
    return u->scheme == URL_HTTPS || u->scheme == URL_UNIXS;
}

static bool any_tls(const struct config_urls *urls)
{
    for (size_t i = 0; i < urls->count; i++)
        if (speaks_tls(&urls->urls[i]))
            return true;
    return false;
}

static int take_path(struct parse *p, enum flag f, char **ret_path)
{
    if (p->value[f] == NULL || p->value[f][0] == '\0')
        return 0;
    return config_absolute(p, p->value[f], ret_path);
}

static int use_fixture(struct parse *p, const struct names *n, struct config_tls *t)
{
    if (asprintf(&t->cert_file, "%s/fixtures/%s/cert.pem", p->c.data_dir, n->fixture) < 0) {
        t->cert_file = NULL;
        return config_refuse(p, "out of memory");
    }
    if (asprintf(&t->key_file, "%s/fixtures/%s/key.pem", p->c.data_dir, n->fixture) < 0) {
        t->key_file = NULL;
        return config_refuse(p, "out of memory");
    }
    return 0;
}

static int take_one(struct parse *p, const struct names *n, const struct config_urls *listen, struct config_tls *t)
{
    if (take_path(p, n->cert, &t->cert_file) < 0 || take_path(p, n->key, &t->key_file) < 0 ||
        take_path(p, n->ca, &t->ca_file) < 0 || take_path(p, n->crl, &t->crl_file) < 0)
        return -EINVAL;
    t->client_cert_auth = config_is_set(p, n->auth);
    t->auto_tls = config_is_set(p, n->automatic) && t->cert_file == NULL && t->key_file == NULL; /* files have precedence */
    t->allowed_hostname = p->value[n->hostname];
    t->allowed_cn = n->cn != FLAGS ? p->value[n->cn] : NULL;
    t->cipher_suites = p->value[FLAG_CIPHERS];
    if ((t->cert_file == NULL) != (t->key_file == NULL))
        return config_refuse(p, "--%scert-file and --%skey-file belong together", n->prefix, n->prefix);
    if (t->client_cert_auth && t->ca_file == NULL)
        return config_refuse(p, "--%sclient-cert-auth needs --%strusted-ca-file", n->prefix, n->prefix);
    if (t->crl_file != NULL && t->ca_file == NULL)
        return config_refuse(p, "--%s needs --%strusted-ca-file", config_flag_name(n->crl), n->prefix);
    if ((t->allowed_hostname != NULL || t->allowed_cn != NULL) && t->ca_file == NULL)
        return config_refuse(p, "--%s needs --%strusted-ca-file",
                             config_flag_name(t->allowed_hostname != NULL ? n->hostname : n->cn), n->prefix);
    if (any_tls(listen) && t->cert_file == NULL && !t->auto_tls)
        return config_refuse(p, "--%s: '%s': TLS needs --%scert-file and --%skey-file, or --%sauto-tls",
                             config_flag_name(n->listen), listen->text, n->prefix, n->prefix, n->prefix);
    t->unused = (t->cert_file != NULL || t->ca_file != NULL || t->auto_tls) && !any_tls(listen);
    return t->auto_tls ? use_fixture(p, n, t) : 0;
}

int config_take_tls(struct parse *p)
{
    int rc = take_one(p, &peer_names, &p->c.listen_peer, &p->c.peer_tls);

    return rc < 0 ? rc : take_one(p, &client_names, &p->c.listen_client, &p->c.client_tls);
}

void config_tls_fini(struct config_tls *t)
{
    free(t->cert_file);
    free(t->key_file);
    free(t->ca_file);
    free(t->crl_file);
}

/* ---- files ---- */

static int make_one(const struct config *c, const struct config_tls *t, const char *fixture, const struct config_urls *listen,
                    const struct config_urls *advertised, char *text, size_t size)
{
    char dir[PATH_MAX], cert[PATH_MAX], key[PATH_MAX], why[TLS_TEXT_MAX_BYTES];
    const char *hosts[2 * URL_LIST_MAX];
    size_t n = 0;
    int rc;

    if (!t->auto_tls)
        return 0;
    for (size_t i = 0; i < listen->count; i++)
        if (listen->urls[i].port != 0)
            hosts[n++] = listen->urls[i].host;
    for (size_t i = 0; i < advertised->count; i++)
        if (advertised->urls[i].port != 0)
            hosts[n++] = advertised->urls[i].host;
    snprintf(dir, sizeof(dir), "%s/fixtures/%s", c->data_dir, fixture);
    rc = tls_self_signed(dir, hosts, n, cert, key, sizeof(cert), why, sizeof(why));
    if (rc < 0)
        snprintf(text, size, "auto-tls: %s", why);
    return rc;
}

int config_tls_make(const struct config *c, char *ret_text, size_t text_size)
{
    int rc = make_one(c, &c->peer_tls, "peer", &c->listen_peer, &c->advertise_peer, ret_text, text_size);

    return rc < 0 ? rc : make_one(c, &c->client_tls, "client", &c->listen_client, &c->advertise_client, ret_text, text_size);
}

static void on_report(void *ctx, enum tls_report what, const char *text)
{
    const struct logger *logger = ctx;

    if (what == TLS_RELOADED)
        log_info(logger, "certificates are loaded anew: %s", text);
    else
        log_warn(logger, "%s", text);
}

static int open_one(const struct config_tls *t, const char *prefix, const struct logger *logger, struct tls_context **ret_tls,
                    char *text, size_t size)
{
    struct tls_options o = {
        .cert_file = t->cert_file,
        .key_file = t->key_file,
        .ca_file = t->ca_file,
        .crl_file = t->crl_file,
        .cipher_suites = t->cipher_suites,
        .allowed_hostname = t->allowed_hostname,
        .allowed_cn = t->allowed_cn,
        .client_cert_auth = t->client_cert_auth,
        .trust_any_server = t->auto_tls,
        .report = logger != NULL ? on_report : NULL,
        .ctx = (void *)(uintptr_t)logger,
    };
    char why[TLS_TEXT_MAX_BYTES];
    int rc = tls_context_open(&o, ret_tls, why, sizeof(why));

    if (rc < 0)
        snprintf(text, size, "--%scert-file and the like: %s", prefix, why);
    return rc;
}

bool config_tls_wanted(const struct config *c)
{
    const struct config_tls *t = &c->peer_tls;

    if (t->cert_file != NULL || t->ca_file != NULL || any_tls(&c->listen_peer))
        return true;
    for (size_t i = 0; i < c->n_members; i++)
        if (strstr(c->members[i].peer_urls, "https://") != NULL)
            return true;
    return false;
}

int config_tls_open_peer(const struct config *c, const struct logger *logger, struct tls_context **ret_tls, char *ret_text,
                         size_t text_size)
{
    return open_one(&c->peer_tls, "peer-", logger, ret_tls, ret_text, text_size);
}

int config_tls_check(const struct config *c, char *ret_text, size_t text_size)
{
    struct tls_context *tls;
    int rc = 0;

    if (config_tls_wanted(c)) {
        rc = open_one(&c->peer_tls, "peer-", NULL, &tls, ret_text, text_size);
        if (rc == 0)
            tls_context_close(tls);
    }
    if (rc == 0 && c->sidecar && c->client_tls.cert_file != NULL) {
        rc = open_one(&c->client_tls, "", NULL, &tls, ret_text, text_size);
        if (rc == 0)
            tls_context_close(tls);
    }
    return rc;
}
