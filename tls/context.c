/* A context: its options, and the set of files that is in use. */
#include "tls/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void report(const struct tls_context *c, enum tls_report what, const char *text)
{
    if (c->o.report != NULL)
        c->o.report(c->o.ctx, what, text);
}

static void take_stamp(const char *path, struct stamp *s)
{
    struct stat st;

    memset(s, 0, sizeof(*s));
    if (path == NULL)
        return;
    if (stat(path, &st) < 0) {
        s->error = errno;
        return;
    }
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    s->size = st.st_size;
    s->changed = st.st_ctim;
    s->modified = st.st_mtim;
}

static void take_stamps(const struct tls_context *c, struct stamp stamps[FILES])
{
    take_stamp(c->o.cert_file, &stamps[FILE_CERT]);
    take_stamp(c->o.key_file, &stamps[FILE_KEY]);
    take_stamp(c->o.ca_file, &stamps[FILE_CA]);
    take_stamp(c->o.crl_file, &stamps[FILE_CRL]);
}

void tls_context_refresh(struct tls_context *c)
{
    struct stamp stamps[FILES];
    char text[TLS_TEXT_MAX_BYTES], line[TLS_TEXT_MAX_BYTES + 64];
    struct loaded l;

    take_stamps(c, stamps); /* before reading: a change meanwhile is seen next time */
    if (memcmp(stamps, c->stamps, sizeof(stamps)) == 0)
        return;
    memcpy(c->stamps, stamps, sizeof(stamps));
    if (files_load(c, &l, text, sizeof(text)) < 0) {
        snprintf(line, sizeof(line), "%s; the certificates from before stay in use", text);
        report(c, TLS_KEPT_OLD, line);
        return;
    }
    files_unload(&c->now); /* connections that there are have references of their own */
    c->now = l;
    report(c, TLS_RELOADED, c->o.cert_file != NULL ? c->o.cert_file : c->o.ca_file);
    if (l.date_text[0] != '\0')
        report(c, TLS_BAD_DATE, l.date_text);
}

static int copy(struct tls_context *c, size_t i, const char **field)
{
    if (*field == NULL)
        return 0;
    c->strings[i] = strdup(*field);
    *field = c->strings[i];
    return *field != NULL ? 0 : -ENOMEM;
}

static int copy_options(struct tls_context *c, const struct tls_options *o)
{
    c->o = *o;
    if (copy(c, 0, &c->o.cert_file) < 0 || copy(c, 1, &c->o.key_file) < 0 || copy(c, 2, &c->o.ca_file) < 0 ||
        copy(c, 3, &c->o.allowed_hostname) < 0 || copy(c, 4, &c->o.allowed_cn) < 0 ||
        copy(c, 5, &c->o.crl_file) < 0 || copy(c, 6, &c->o.cipher_suites) < 0)
        return -ENOMEM;
    return 0;
}

int tls_context_open(const struct tls_options *options, struct tls_context **ret_context, char *ret_text, size_t text_size)
{
    struct tls_context *c;
    int rc;

    if ((options->cert_file != NULL) != (options->key_file != NULL)) {
        snprintf(ret_text, text_size, "a certificate file and a key file are needed, there is only the %s",
                 options->cert_file != NULL ? "certificate" : "key");
        return -EINVAL;
    }
    if (options->client_cert_auth && options->ca_file == NULL) {
        snprintf(ret_text, text_size, "certificates of clients are wanted, but there is no trusted CA file to check them by");
        return -EINVAL;
    }
    c = calloc(1, sizeof(*c));
    rc = c != NULL ? copy_options(c, options) : -ENOMEM;
    if (rc == 0 && (c->bio = conn_bio_method()) == NULL)
        rc = -ENOMEM;
    if (rc < 0) {
        snprintf(ret_text, text_size, "TLS: out of memory");
    } else {
        take_stamps(c, c->stamps);
        rc = files_load(c, &c->now, ret_text, text_size);
    }
    if (rc < 0) {
        tls_context_close(c);
        return rc;
    }
    if (c->now.date_text[0] != '\0')
        report(c, TLS_BAD_DATE, c->now.date_text);
    *ret_context = c;
    return 0;
}

void tls_context_close(struct tls_context *c)
{
    if (c == NULL)
        return;
    files_unload(&c->now);
    BIO_meth_free(c->bio);
    for (size_t i = 0; i < sizeof(c->strings) / sizeof(c->strings[0]); i++)
        free(c->strings[i]);
    free(c);
}
