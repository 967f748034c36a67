/* tls.h - TLS as a filter without I/O: certificates in a context, one struct tls_conn for each connection.
 *
 * Process: any that talks over a network (node, sidecar, tools).
 * Thread:  a context and its connections belong to one thread.
 * Errors:  negative errno; where there is a text it names the file or says in an operator's words what is wrong.
 * Memory:  a context copies its options and outlives its connections. Bytes go in as slices, borrowed for the call, and come out
 *          at the end of the caller's buffers: a connection keeps none, so an idle one costs what OpenSSL needs for its
 *          keys. Only a record that has come in part is held.
 * Units:   bytes; days where named.
 *
 * A connection:  HANDSHAKE -> ESTABLISHED -> ended by the other side's close, or by an error. Whatever a call appends to
 * ret_out has to be sent, also when the call fails: it is the alert that tells the other side why. */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "base/bytes.h"

#define TLS_FILE_MAX_BYTES (1024 * 1024)  /* a file of certificates or a key */
#define TLS_TEXT_MAX_BYTES 512            /* room for every text of this header */
#define TLS_SELF_SIGNED_DAYS 365          /* etcd's --self-signed-cert-validity: a year */
/* Post-handshake messages (KeyUpdate) of the other side: each costs a derivation of keys, so a flood of them ends the
 * connection. So many are free, then one for each TLS_REKEY_BYTES received. */
#define TLS_REKEY_FREE 32
#define TLS_REKEY_BYTES (1024 * 1024)

struct tls_context;
struct tls_conn;

enum tls_side { TLS_SERVER, TLS_CLIENT };
enum tls_report { TLS_RELOADED, TLS_KEPT_OLD, TLS_BAD_DATE };

struct tls_options {
    const char *cert_file, *key_file; /* PEM: this side's chain, leaf first, and its key; both or none (a client without) */
    const char *ca_file;              /* PEM: whom to trust; NULL: servers by the system's roots, clients not asked */
    const char *crl_file;             /* PEM or DER: certificates that were revoked, by who has issued them; NULL: none. Its own
                                       * signature and dates are not looked at, as with etcd */
    const char *cipher_suites;        /* comma-separated, by the standard's names (TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256); NULL or
                                       * empty: OpenSSL's choice */
    const char *allowed_hostname;     /* the other side's certificate must have this name; NULL: any */
    const char *allowed_cn;           /* ... this common name */
    bool client_cert_auth;            /* a server wants a certificate of its clients; so it does with a ca_file, as etcd has it */
    bool trust_any_server;            /* a client takes every certificate (of peers that have made their own) */
    bool http2;                       /* ALPN h2 and http/1.1 */
    /* What happened to the files later: one line of text. May be NULL. */
    void (*report)(void *ctx, enum tls_report what, const char *text);
    void *ctx;
};

/* Reads all files. -EINVAL: a file is not what it should be; else the errno of reading it; -ENOMEM. ret_text says all. */
int tls_context_open(const struct tls_options *options, struct tls_context **ret_context, char *ret_text, size_t text_size);
void tls_context_close(struct tls_context *c); /* NULL is fine */
/* Looks whether the files have changed and loads them if so; connections that there are keep what they have. A set that cannot
 * be loaded leaves the old one in use, and is told once. Done by each tls_conn_new() too. */
void tls_context_refresh(struct tls_context *c);

/* Writes cert.pem and key.pem into dir (made if need be), self-signed, for the hosts (names or addresses), valid for a year;
 * what is there already and not about to expire is used. The paths fit PATH_MAX. */
int tls_self_signed(const char *dir, const char *const *hosts, size_t n_hosts, char *ret_cert_file, char *ret_key_file,
                    size_t path_size, char *ret_text, size_t text_size);

/* host, of a client: the server's name, sent as SNI and checked against its certificate; an IP address is checked only.
 * NULL: no name is checked. */
int tls_conn_new(struct tls_context *c, enum tls_side side, const char *host, struct tls_conn **ret_conn);
void tls_conn_free(struct tls_conn *t); /* NULL is fine */
/* A client's first bytes; nothing for a server. */
int tls_conn_start(struct tls_conn *t, struct bytes *ret_out);
/* Takes bytes from the network and appends what was in them to ret_plain.
 * -ECONNRESET: the other side has ended the stream in order. -EPROTO: it cannot go on, tls_conn_why() says why. -ENOMEM. */
int tls_conn_feed(struct tls_conn *t, struct slice in, struct bytes *ret_plain, struct bytes *ret_out);
/* Encrypts; only once established. Gather before: every call makes a record of its own at least. */
int tls_conn_send(struct tls_conn *t, struct slice plain, struct bytes *ret_out);
/* Says good-bye, if that can still be said. */
void tls_conn_end(struct tls_conn *t, struct bytes *ret_out);

bool tls_conn_established(const struct tls_conn *t);
const char *tls_conn_why(const struct tls_conn *t); /* made to stand behind the other side's name; never NULL */
bool tls_conn_http2(const struct tls_conn *t);      /* ALPN chose h2 */
bool tls_conn_has_cert(const struct tls_conn *t);   /* the other side showed one, and it was verified */
/* The other side's certificate names this host (DNS name with wildcards, or IP address) among its subject alternative names. */
bool tls_conn_cert_is_for(const struct tls_conn *t, const char *host);
/* Its common name; false if there is none that fits. */
bool tls_conn_common_name(const struct tls_conn *t, char *out, size_t size);

/* What is said to an operator of connections that failed. Strangers can make them fail as often as they like: each text
 * once, and at most TLS_COMPLAINTS_MAX of them, in TLS_COMPLAINTS_MS; the next line says how many there were beside. */
#define TLS_COMPLAINTS_MAX 8
#define TLS_COMPLAINTS_MS 10000

struct tls_complaints {
    uint64_t begun_ms, untold;
    uint32_t told[TLS_COMPLAINTS_MAX];
    size_t n_told;
};

/* True: to be said; *ret_untold is how many were not since the last one. */
bool tls_complaint_is_due(struct tls_complaints *c, uint64_t now_ms, const char *why, uint64_t *ret_untold);

/* If these are the first bytes of a connection, does it speak TLS? (A handshake record.) */
static inline bool tls_is_hello(uint8_t first_byte)
{
    return first_byte == 0x16;
}

#endif
