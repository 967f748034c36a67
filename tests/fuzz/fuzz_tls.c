/* Both ends of a TLS connection against any bytes. The first byte says where they are put in: to a fresh server, to a fresh client, or
 * (bit 2) into a connection that is established; the second, after how many bytes a piece ends. An end says yes or a known no, and
 * after a no nothing more comes out of it. */
#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tls/tls.h"

struct world {
    struct tls_context *server, *client;
};

static void start(struct world *w)
{
    static const char *const hosts[] = {"localhost"};
    char dir[64] = "/tmp/fuzz-tls-XXXXXX", path[100], cert[100], key[100], text[TLS_TEXT_MAX_BYTES];
    struct tls_options o;

    FUZZ_MUST(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/d", dir);
    FUZZ_MUST(tls_self_signed(path, hosts, 1, cert, key, sizeof(cert), text, sizeof(text)) == 0);
    o = (struct tls_options){.cert_file = cert, .key_file = key, .ca_file = cert, .client_cert_auth = true, .http2 = true};
    FUZZ_MUST(tls_context_open(&o, &w->server, text, sizeof(text)) == 0);
    FUZZ_MUST(tls_context_open(&o, &w->client, text, sizeof(text)) == 0);
    unlink(cert); /* looked for at each connection, told to nobody: the old ones stay in use */
    unlink(key);
    rmdir(path);
    rmdir(dir);
}

static void connect_ends(struct tls_conn *server, struct tls_conn *client)
{
    struct bytes up = {0}, down = {0}, plain = {0};

    FUZZ_MUST(tls_conn_start(client, &up) == 0);
    while (up.len + down.len != 0) {
        FUZZ_MUST(tls_conn_feed(server, bytes_slice(&up), &plain, &down) == 0);
        bytes_reset(&up);
        FUZZ_MUST(tls_conn_feed(client, bytes_slice(&down), &plain, &up) == 0);
        bytes_reset(&down);
    }
    FUZZ_MUST(tls_conn_established(server) && tls_conn_established(client) && plain.len == 0);
    bytes_fini(&up);
    bytes_fini(&down);
    bytes_fini(&plain);
}

static void feed(struct tls_conn *t, struct slice in, size_t step)
{
    struct bytes plain = {0}, out = {0};
    int rc = 0;

    while (in.len > 0) {
        size_t n = step != 0 && step < in.len ? step : in.len, plain_before = plain.len, out_before = out.len;
        int before = rc;

        rc = tls_conn_feed(t, slice_make(in.data, n), &plain, &out);
        FUZZ_MUST(rc == 0 || rc == -EPROTO || rc == -ECONNRESET || rc == -ENOMEM);
        FUZZ_MUST(before == 0 || (rc == before && plain.len == plain_before && out.len == out_before));
        FUZZ_MUST(rc == 0 || !tls_conn_established(t) || rc == -ECONNRESET);
        in = slice_make(in.data + n, in.len - n);
    }
    FUZZ_MUST(tls_conn_why(t)[0] != '\0');
    FUZZ_MUST(plain.len == 0); /* nobody without the keys says anything */
    tls_conn_end(t, &out);
    bytes_fini(&plain);
    bytes_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    struct tls_conn *server, *client;
    struct bytes out = {0};

    if (world.server == NULL)
        start(&world);
    if (size < 3)
        return 0;
    FUZZ_MUST(tls_conn_new(world.server, TLS_SERVER, NULL, &server) == 0);
    FUZZ_MUST(tls_conn_new(world.client, TLS_CLIENT, "localhost", &client) == 0);
    if (data[0] & 2)
        connect_ends(server, client);
    else
        FUZZ_MUST(tls_conn_start(client, &out) == 0);
    feed(data[0] & 1 ? client : server, slice_make(data + 2, size - 2), data[1]);
    tls_conn_free(server);
    tls_conn_free(client);
    bytes_fini(&out);
    return 0;
}
