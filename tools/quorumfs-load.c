/* quorumfs-load - asks an etcd v3 server (etcd's or ours) as fast as it answers, and says how fast that was. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/load.h"

static const char usage[] =
    "quorumfs-load --endpoint HOST:PORT [--endpoint ...] [OPTIONS] - load on an etcd v3 server, over gRPC without TLS\n"
    "\n"
    "  --op put|range|list|txn   what to ask (put); list is a range over all keys of the benchmark\n"
    "  --op watch                a watcher on its own key for each client, a stream for each connection; then each key\n"
    "                            is put, at most 100 at a time, and every watcher has to see its own event\n"
    "  --op grant                a lease for each of --keys, with --count and --sequential; --op keepalive: for one of those\n"
    "  --op fanout               all clients' watchers on one prefix; then --count puts (100), one at a time, whose latency\n"
    "                            is taken, while every watcher has to see every event\n"
    "  --op idle                 asks nothing for the duration: what the processes take by themselves, and for each of\n"
    "                            --connections\n"
    "  --clients N               requests under way at a time (1)\n"
    "  --connections N           shared by the clients (1)\n"
    "  --duration SECONDS        of measuring (5), after --warm-up SECONDS (1)\n"
    "  --count N                 instead of a duration: so many requests, without a warm-up\n"
    "  --key-size N --value-size N   bytes (32, 256)\n"
    "  --keys N                  chosen at random from so many (10000), with --seed N; --sequential: in order\n"
    "  --serializable            for reads\n"
    "  --pid N[,N...]            the server's processes, for CPU and memory\n"
    "  --disk PATH               a file on the disk whose writes and flushes are counted, whoever makes them\n"
    "  --label TEXT  --json      what to call it; only the line for machines\n"
    "\n"
    "Only an answer with grpc-status 0 counts. Exit status 1 if any request failed or none succeeded.\n";

enum { OPT_ENDPOINT = 256, OPT_OP, OPT_CLIENTS, OPT_CONNECTIONS, OPT_DURATION, OPT_WARM_UP, OPT_COUNT, OPT_KEY_SIZE,
       OPT_VALUE_SIZE, OPT_KEYS, OPT_SEED, OPT_SEQUENTIAL, OPT_SERIALIZABLE, OPT_PID, OPT_DISK, OPT_LABEL, OPT_JSON, OPT_HELP };

static const struct option long_options[] = {
    {"endpoint", required_argument, NULL, OPT_ENDPOINT},
    {"op", required_argument, NULL, OPT_OP},
    {"clients", required_argument, NULL, OPT_CLIENTS},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"warm-up", required_argument, NULL, OPT_WARM_UP},
    {"count", required_argument, NULL, OPT_COUNT},
    {"key-size", required_argument, NULL, OPT_KEY_SIZE},
    {"value-size", required_argument, NULL, OPT_VALUE_SIZE},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"sequential", no_argument, NULL, OPT_SEQUENTIAL},
    {"serializable", no_argument, NULL, OPT_SERIALIZABLE},
    {"pid", required_argument, NULL, OPT_PID},
    {"disk", required_argument, NULL, OPT_DISK},
    {"label", required_argument, NULL, OPT_LABEL},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int complain(const char *what, const char *text)
{
    fprintf(stderr, "quorumfs-load: %s: %s\n", what, text);
    return -1;
}

static int take_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_n)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < min || n > max)
        return complain("this number is not possible here", text);
    *ret_n = n;
    return 0;
}

static int take_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0 && seconds < 1e6))
        return complain("these are no seconds", text);
    *ret_seconds = seconds;
    return 0;
}

static int take_endpoint(const char *text, struct load_options *o)
{
    struct load_endpoint *e = &o->endpoints[o->n_endpoints];
    const char *colon;

    if (o->n_endpoints == LOAD_MAX_ENDPOINTS)
        return complain("too many endpoints", text);
    if (strncmp(text, "http://", 7) == 0)
        text += 7;
    colon = strrchr(text, ':');
    if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof(e->host) || strlen(colon + 1) >= sizeof(e->port))
        return complain("an endpoint is HOST:PORT", text);
    if (*text == '[' && colon[-1] == ']')
        snprintf(e->host, sizeof(e->host), "%.*s", (int)(colon - text) - 2, text + 1);
    else
        snprintf(e->host, sizeof(e->host), "%.*s", (int)(colon - text), text);
    snprintf(e->port, sizeof(e->port), "%s", colon + 1);
    o->n_endpoints++;
    return 0;
}

static int take_op(const char *text, struct load_options *o)
{
    for (unsigned i = 0; i < LOAD_OPS; i++) {
        if (strcmp(text, load_op_names[i]) == 0) {
            o->op = (enum load_op)i;
            return 0;
        }
    }
    return complain("unknown operation", text);
}

static int take_pids(const char *text, struct load_options *o)
{
    while (*text != '\0') {
        char *end;
        long pid = strtol(text, &end, 10);

        if (end == text || pid <= 0 || pid > INT32_MAX || o->n_pids == LOAD_MAX_PIDS || (*end != ',' && *end != '\0'))
            return complain("these are no process numbers", text);
        o->pids[o->n_pids++] = (int)pid;
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

static int take_size(int id, const char *arg, struct load_options *o)
{
    uint64_t n = 0;

    switch (id) {
    case OPT_CLIENTS:
        if (take_number(arg, 1, LOAD_MAX_CLIENTS, &n) < 0)
            return -1;
        o->clients = (unsigned)n;
        return 0;
    case OPT_CONNECTIONS:
        if (take_number(arg, 1, LOAD_MAX_CONNECTIONS, &n) < 0)
            return -1;
        o->connections = (unsigned)n;
        return 0;
    case OPT_COUNT:
        return take_number(arg, 1, UINT64_MAX, &o->count);
    case OPT_KEYS:
        return take_number(arg, 1, 10000000000ull, &o->keys);
    case OPT_SEED:
        return take_number(arg, 0, UINT64_MAX, &o->seed);
    case OPT_KEY_SIZE:
        if (take_number(arg, 16, 16384, &n) < 0)
            return -1;
        o->key_bytes = n;
        return 0;
    default:
        if (take_number(arg, 0, 1024 * 1024, &n) < 0)
            return -1;
        o->value_bytes = n;
        return 0;
    }
}

static int take_option(int id, const char *arg, struct load_options *o)
{
    switch (id) {
    case OPT_ENDPOINT:
        return take_endpoint(arg, o);
    case OPT_OP:
        return take_op(arg, o);
    case OPT_DURATION:
        return take_seconds(arg, &o->seconds);
    case OPT_WARM_UP:
        return take_seconds(arg, &o->warm_up_seconds);
    case OPT_PID:
        return take_pids(arg, o);
    case OPT_SEQUENTIAL:
        o->sequential = true;
        return 0;
    case OPT_SERIALIZABLE:
        o->serializable = true;
        return 0;
    case OPT_DISK:
        o->disk = arg;
        return 0;
    case OPT_LABEL:
        o->label = arg;
        return 0;
    case OPT_JSON:
        o->json_only = true;
        return 0;
    }
    return take_size(id, arg, o);
}

/* 1: help was asked for. */
static int parse(int argc, char **argv, struct load_options *o)
{
    int id;

    *o = (struct load_options){.label = "server", .clients = 1, .connections = 1, .key_bytes = 32, .value_bytes = 256,
                               .keys = 10000, .seconds = 5, .warm_up_seconds = 1, .seed = 1};
    while ((id = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (id == 'h' || id == OPT_HELP)
            return 1;
        if (id == '?' || take_option(id, optarg, o) < 0)
            return -1;
    }
    if (optind != argc)
        return complain("what is this", argv[optind]);
    if (o->n_endpoints == 0)
        return complain("--endpoint", "is missing");
    if (strpbrk(o->label, "\"\\") != NULL)
        return complain("a label has no quotes", o->label);
    if (o->count != 0)
        o->warm_up_seconds = 0;
    if (o->connections > o->clients)
        o->connections = o->clients;
    return 0;
}

int main(int argc, char **argv)
{
    struct load_options o;
    struct load_figures *figures = NULL;
    struct load_run *run = NULL;
    int rc = parse(argc, argv, &o);
    bool clean = false;

    signal(SIGPIPE, SIG_IGN);
    if (rc == 1) {
        fputs(usage, stdout);
        return 0;
    }
    if (rc < 0)
        return 1;
    figures = calloc(1, sizeof(*figures));
    if (figures == NULL)
        return 1;
    if (o.op == LOAD_WATCH || o.op == LOAD_FANOUT)
        rc = load_watch(&o, figures);
    else if (o.op == LOAD_IDLE)
        return load_idle(&o) < 0;
    else if (load_run_open(&o, figures, &run) < 0 || load_run_go(run) < 0)
        rc = -1;
    if (rc == 0) {
        load_report(&o, figures);
        clean = figures->done[0] != 0;
        for (unsigned s = 1; s < LOAD_STATUSES; s++)
            clean = clean && figures->done[s] == 0;
    }
    load_run_close(run);
    free(figures);
    return clean ? 0 : 1;
}
