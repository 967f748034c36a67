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
    for (size_t i = 0; i < o->n_urls; i++) {
        if (o->urls[i].scheme != URL_HTTP) {
            snprintf(text, text_size, "--listen-client-urls: only http is served yet");
            return -EINVAL;
        }
    }
    return 0;
}

static int set(struct options *o, const char *name, const char *value, char *text, size_t text_size)
{
    if (strcmp(name, "socket") == 0) {
        o->socket_path = value;
    } else if (strcmp(name, "listen-client-urls") == 0) {
        return parse_urls(o, value, text, text_size);
    } else if (strcmp(name, "log-level") == 0) {
        if (!logger_level_parse(value, &o->log_level)) {
            snprintf(text, text_size, "--log-level: %s is not a level", value);
            return -EINVAL;
        }
    } else if (strcmp(name, "max-concurrent-streams") == 0) {
        char *end;
        unsigned long n = strtoul(value, &end, 10);

        if (*end != '\0' || n == 0 || n > SERVER_STREAMS_MAX) {
            snprintf(text, text_size, "--max-concurrent-streams: 1 to %d", SERVER_STREAMS_MAX);
            return -EINVAL;
        }
        o->max_streams = (uint32_t)n;
    } else if (strcmp(name, "watch-progress-notify-interval") == 0) {
        if (parse_duration(value, &o->progress_interval_ms) < 0) {
            snprintf(text, text_size, "--watch-progress-notify-interval: %s is not a duration of at least 100ms", value);
            return -EINVAL;
        }
    } else if (strcmp(name, "name") != 0 && strcmp(name, "advertise-client-urls") != 0) {
        snprintf(text, text_size, "unknown option --%s", name);
        return -EINVAL;
    }
    return 0;
}

int options_parse(int argc, char *const *argv, struct options *ret_options, char *ret_text, size_t text_size)
{
    struct options o = {.log_level = LOG_LEVEL_INFO, .progress_interval_ms = WATCH_PROGRESS_INTERVAL_MS};
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
