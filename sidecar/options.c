#include "sidecar/options.h"

#include "sidecar/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: quorumfs-grpc --socket PATH [--listen-client-urls URLS] [options]\n"
    "\n"
    "Serves etcd's v3 API for the quorumfs node behind the socket PATH; quorumfsd starts it.\n"
    "\n"
    "  --socket PATH                         the node's local socket (DATA/node.sock)\n"
    "  --listen-client-urls URLS             comma-separated; default http://localhost:2379\n"
    "  --advertise-client-urls URLS          taken for the sake of one command line; the node publishes them\n"
    "  --name NAME                           likewise\n"
    "  --cert-file, --key-file PATH          for https URLs: certificate with its chain, and key, in PEM form\n"
    "  --trusted-ca-file PATH                clients must show a certificate that one of these has signed\n"
    "  --client-cert-auth                    the same, said explicitly\n"
    "  --client-cert-allowed-hostname NAME   ... and that is for this name\n"
    "  --client-crl-file PATH                ... and that this list does not name as revoked\n"
    "  --cipher-suites NAMES                 comma-separated; default OpenSSL's choice\n"
    "  --grpc-loops N                        event loops, each a thread that takes its share of the connections;\n"
    "                                        default 1\n"
    "  --grpc-keepalive-min-time D           clients that ping more often are sent away; default 5s\n"
    "  --grpc-keepalive-interval D           clients that are silent for so long are pinged; default 2h\n"
    "  --grpc-keepalive-timeout D            and closed when they do not answer within this; default 20s\n"
    "  --log-level LEVEL                     debug, info, warn, error; default info\n"
    "  --max-concurrent-streams N            streams of one connection; default 10000\n"
    "  --watch-progress-notify-interval D    as 10m, 30s or 500ms; at least 100ms, default 10m\n"
    "  --help, --version\n";

const char *options_usage(void)
{
    return usage;
}

/* Go's notation, one unit: 10m, 30s, 500ms, 1h. */
static int parse_duration(const char *text, uint64_t *ret_ms)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || text[0] == '-' || n > 1000000000)
        return -EINVAL;
    if (strcmp(end, "ms") == 0)
        *ret_ms = n;
    else if (strcmp(end, "s") == 0)
        *ret_ms = n * 1000;
    else if (strcmp(end, "m") == 0)
        *ret_ms = n * 60 * 1000;
    else if (strcmp(end, "h") == 0)
        *ret_ms = n * 3600 * 1000;
    else
        return -EINVAL;
    return *ret_ms >= 100 ? 0 : -EINVAL;
}

static int parse_urls(struct options *o, const char *value, char *text, size_t text_size)
{
    struct slice bad;
    const char *why;

    if (url_list_parse(slice_from_str(value), o->urls, URL_LIST_MAX, &o->n_urls, &bad, &why) < 0) {
        snprintf(text, text_size, "--listen-client-urls: %.*s: %s", (int)bad.len, (const char *)bad.data, why);
        return -EINVAL;
    }
    return 0;
}

static int set_level(struct options *o, const char *value, char *text, size_t text_size)
{
    if (logger_level_parse(value, &o->log_level))
        return 0;
    snprintf(text, text_size, "--log-level: %s is not a level", value);
    return -EINVAL;
}

static int set_streams(struct options *o, const char *value, char *text, size_t text_size)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    if (*end != '\0' || n == 0 || n > SERVER_STREAMS_MAX) {
        snprintf(text, text_size, "--max-concurrent-streams: 1 to %d", SERVER_STREAMS_MAX);
        return -EINVAL;
    }
    o->max_streams = (uint32_t)n;
    return 0;
}

static int set_loops(struct options *o, const char *value, char *text, size_t text_size)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    if (*end != '\0' || n == 0 || n > LOOPS_MAX) {
        snprintf(text, text_size, "--grpc-loops: 1 to %d", LOOPS_MAX);
        return -EINVAL;
    }
    o->loops = (unsigned)n;
    return 0;
}

static bool is_switch(const char *name)
{
    return strcmp(name, "client-cert-auth") == 0;
}

static int set(struct options *o, const char *name, const char *value, char *text, size_t text_size)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"socket", &o->socket_path},         {"cert-file", &o->cert_file},
                 {"key-file", &o->key_file},          {"trusted-ca-file", &o->ca_file},
                 {"client-cert-allowed-hostname", &o->allowed_hostname},
                 {"client-crl-file", &o->crl_file},   {"cipher-suites", &o->cipher_suites}};
    const struct {
        const char *name;
        uint64_t *ms;
    } durations[] = {{"grpc-keepalive-min-time", &o->keepalive_min_ms},
                     {"grpc-keepalive-interval", &o->keepalive_interval_ms},
                     {"grpc-keepalive-timeout", &o->keepalive_timeout_ms},
                     {"watch-progress-notify-interval", &o->progress_interval_ms}};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = value;
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        if (strcmp(name, durations[i].name) == 0) {
            if (parse_duration(value, durations[i].ms) == 0)
                return 0;
            snprintf(text, text_size, "--%s: %s is not a duration of at least 100ms", name, value);
            return -EINVAL;
        }
    }
    if (strcmp(name, "listen-client-urls") == 0)
        return parse_urls(o, value, text, text_size);
    if (strcmp(name, "log-level") == 0)
        return set_level(o, value, text, text_size);
    if (strcmp(name, "max-concurrent-streams") == 0)
        return set_streams(o, value, text, text_size);
    if (strcmp(name, "grpc-loops") == 0)
        return set_loops(o, value, text, text_size);
    if (strcmp(name, "client-cert-auth") == 0) {
        o->client_cert_auth = strcmp(value, "false") != 0;
        return 0;
    }
    if (strcmp(name, "name") == 0 || strcmp(name, "advertise-client-urls") == 0)
        return 0;
    snprintf(text, text_size, "unknown option --%s", name);
    return -EINVAL;
}

int options_parse(int argc, char *const *argv, struct options *ret_options, char *ret_text, size_t text_size)
{
    struct options o = {.log_level = LOG_LEVEL_INFO, .progress_interval_ms = WATCH_PROGRESS_INTERVAL_MS, .loops = 1};
    int rc = parse_urls(&o, "http://localhost:2379", ret_text, text_size);

    for (int i = 0; i < argc && rc == 0 && o.action == OPTIONS_RUN; i++) {
        const char *word = argv[i], *value = strchr(word, '=');
        char name[64];

        while (*word == '-')
            word++;
        if (word == argv[i] || (size_t)snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word) >= sizeof name) {
            snprintf(ret_text, text_size, "unexpected argument %.80s", argv[i]);
            return -EINVAL;
        }
        if (strcmp(name, "help") == 0) {
            o.action = OPTIONS_HELP;
        } else if (strcmp(name, "version") == 0) {
            o.action = OPTIONS_VERSION;
        } else if (value == NULL && is_switch(name)) {
            rc = set(&o, name, "true", ret_text, text_size);
        } else if (value == NULL && i + 1 == argc) {
            snprintf(ret_text, text_size, "--%s needs a value", name);
            return -EINVAL;
        } else {
            rc = set(&o, name, value != NULL ? value + 1 : argv[++i], ret_text, text_size);
        }
    }
    if (rc == 0 && o.action == OPTIONS_RUN && o.socket_path == NULL) {
        snprintf(ret_text, text_size, "--socket is missing");
        rc = -EINVAL;
    }
    if (rc == 0)
        *ret_options = o;
    return rc;
}
