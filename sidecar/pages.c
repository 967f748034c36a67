/* pages.c - plain HTTP on the client port: /health, /version, /metrics. docs/metrics.md lists what the last one says. */
#include "sidecar/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static void put(struct bytes *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct bytes *out, const char *format, ...)
{
    char line[512];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    if (n > 0)
        bytes_raw(out, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static const char *const code_names[] = {
    "OK",           "Canceled",          "Unknown",            "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted",  "FailedPrecondition", "Aborted",       "OutOfRange",
    "Unimplemented", "Internal",         "Unavailable",        "DataLoss",        "Unauthenticated",
};

/* ---- /health ---- */

static void health(struct app *app, struct http_reply *reply)
{
    const char *wrong = NULL;

    if (!node_line_ready(app->line) || !node_line_connected(app->line))
        wrong = "NODE IS AWAY";
    else if (client_leader(node_line_client(app->line)) == 0)
        wrong = "RAFT NO LEADER";
    reply->status = wrong == NULL ? 200 : 503;
    reply->content_type = "application/json";
    put(&reply->body, "{\"health\":\"%s\",\"reason\":\"%s\"}", wrong == NULL ? "true" : "false", wrong != NULL ? wrong : "");
}

/* ---- /livez, /readyz: etcd's checks as far as they have a meaning here ---- */

static void checks(struct app *app, const struct http_request *request, bool ready, struct http_reply *reply)
{
    bool leader = node_line_connected(app->line) && client_leader(node_line_client(app->line)) != 0;
    const struct {
        const char *name;
        bool ok, asked;
    } list[] = {
        {"serializable_read", node_line_read(app->line) != NULL, true},
        {"linearizable_read", leader, ready},
    };
    bool all = true, verbose = slice_has_prefix(request->query, slice_from_str("verbose"));

    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        all = all && (list[i].ok || !list[i].asked);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i].asked && (verbose || !all))
            put(&reply->body, "[%c]%s %s\n", list[i].ok ? '+' : '-', list[i].name, list[i].ok ? "ok" : "failed");
    reply->status = all ? 200 : 503;
    if (all)
        put(&reply->body, "ok\n");
    else
        put(&reply->body, "%s check failed\n", ready ? "readyz" : "livez");
}

/* ---- /metrics ---- */

static void family(struct bytes *out, const char *name, const char *type, const char *help)
{
    put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct bytes *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    put(out, "%s %llu\n", name, (unsigned long long)value);
}

static void memory(struct bytes *out)
{
    unsigned long size = 0, resident = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);

    if (f == NULL)
        return;
    if (fscanf(f, "%lu %lu %lu", &size, &resident, &shared) == 3) {
        single(out, "process_resident_memory_bytes", "gauge", "Resident memory, the map of the store included.",
               resident * page);
        single(out, "quorumfs_grpc_anonymous_memory_bytes", "gauge", "Resident memory without files and maps.",
               (resident - shared) * page);
    }
    fclose(f);
}

static void label_method(struct bytes *out, const struct grpc_method *m)
{
    const char *slash = strrchr(m->path, '/');

    put(out, "grpc_method=\"%s\",grpc_service=\"%.*s\",grpc_type=\"%s\"", slash + 1, (int)(slash - m->path - 1),
        m->path + 1, m->kind == GRPC_UNARY ? "unary" : "bidi_stream");
}

static void calls(struct app *app, struct bytes *out)
{
    size_t n;
    const struct grpc_method_counts *m = grpc_server_methods(app->grpc, &n);

    family(out, "grpc_server_started_total", "counter", "Calls begun, by method.");
    for (size_t i = 0; i < n; i++) {
        put(out, "grpc_server_started_total{");
        label_method(out, m[i].method);
        put(out, "} %llu\n", (unsigned long long)m[i].started);
    }
    family(out, "grpc_server_handled_total", "counter", "Calls ended, by method and code.");
    for (size_t i = 0; i < n; i++) {
        for (size_t code = 0; code < sizeof code_names / sizeof code_names[0]; code++) {
            if (m[i].by_code[code] == 0)
                continue;
            put(out, "grpc_server_handled_total{grpc_code=\"%s\",", code_names[code]);
            label_method(out, m[i].method);
            put(out, "} %llu\n", (unsigned long long)m[i].by_code[code]);
        }
    }
}

static void watches(struct app *app, struct bytes *out)
{
    const struct feed_counters *c = feed_counters(app->feed);

    single(out, "etcd_debugging_mvcc_watcher_total", "gauge", "Watches.", c->watches);
    single(out, "etcd_debugging_mvcc_watch_stream_total", "gauge", "Watch streams.", c->streams);
    single(out, "etcd_debugging_mvcc_slow_watcher_total", "gauge", "Watches that lag behind the log's end.", c->lagging);
    single(out, "etcd_debugging_mvcc_events_total", "counter", "Events sent to watches.", c->events_sent);
    single(out, "quorumfs_grpc_watch_messages_total", "counter", "WatchResponses with events.", c->messages_sent);
    single(out, "quorumfs_grpc_watch_fell_behind_total", "counter",
           "Times that a watch met a full stream and kept its cursor only.", c->fell_behind);
    single(out, "quorumfs_grpc_watch_compacted_total", "counter", "Watches ended since their cursor was compacted.",
           c->compacted);
    single(out, "quorumfs_grpc_watch_slices_live_total", "counter", "Slices of the log read for live watches.",
           c->slices_live);
    single(out, "quorumfs_grpc_watch_slices_sweep_total", "counter", "Slices of the log read by the sweep.",
           c->slices_sweep);
    single(out, "quorumfs_grpc_watch_key_jobs_total", "counter", "Rounds of catching up single keys.", c->key_jobs);
}

static void connections(struct app *app, struct bytes *out)
{
    const struct grpc_counters *c = grpc_server_counters(app->grpc);

    single(out, "quorumfs_grpc_connections", "gauge", "Open client connections.", c->conns_open);
    single(out, "quorumfs_grpc_connections_accepted_total", "counter", "Connections accepted.", c->conns_accepted);
    single(out, "quorumfs_grpc_connections_refused_total", "counter", "Connections closed at the limit.", c->conns_refused);
    single(out, "quorumfs_grpc_streams", "gauge", "Open calls of streaming methods.", c->streams_open);
    single(out, "quorumfs_grpc_calls", "gauge", "Open HTTP/2 streams of any kind.", c->calls_open);
    single(out, "quorumfs_grpc_unknown_methods_total", "counter", "Calls of methods that are not there.", c->unknown_methods);
    single(out, "quorumfs_grpc_resets_received_total", "counter", "RST_STREAM frames received.", c->resets_received);
    single(out, "quorumfs_grpc_goaways_sent_total", "counter", "GOAWAY frames sent.", c->goaways_sent);
    single(out, "quorumfs_grpc_throttled_total", "counter", "Times that a connection had spent its work budget.", c->throttled);
    single(out, "quorumfs_grpc_ping_strikes_total", "counter", "Pings that came too soon.", c->ping_strikes);
    single(out, "quorumfs_grpc_deadline_exceeded_total", "counter", "Calls ended at their deadline.", c->deadline_exceeded);
    single(out, "etcd_network_client_grpc_received_bytes_total", "counter", "Bytes received from clients.", c->bytes_in);
    single(out, "etcd_network_client_grpc_sent_bytes_total", "counter", "Bytes sent to clients.", c->bytes_out);
    single(out, "quorumfs_grpc_input_bytes", "gauge", "Bytes of messages that have come in part.", c->input_bytes);
    single(out, "quorumfs_grpc_output_bytes", "gauge", "Bytes of answers and events that wait for their reader.",
           c->output_bytes);
    single(out, "quorumfs_grpc_pending_bytes", "gauge", "Bytes of requests under way at the node.", app->pending_bytes);
}

static void metrics(struct app *app, struct http_reply *reply)
{
    struct bytes *out = &reply->body;
    struct client *client = node_line_client(app->line);

    reply->status = 200;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    single(out, "etcd_server_has_leader", "gauge", "Whether the node knows a leader.",
           client != NULL && node_line_connected(app->line) && client_leader(client) != 0);
    single(out, "quorumfs_grpc_node_connected", "gauge", "Whether the line to the node is up.",
           node_line_connected(app->line));
    watches(app, out);
    connections(app, out);
    calls(app, out);
    memory(out);
}

void pages_answer(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct app *app = ctx;

    if (slice_equal(request->path, slice_from_str("/health"))) {
        health(app, reply);
    } else if (slice_equal(request->path, slice_from_str("/livez"))) {
        checks(app, request, false, reply);
    } else if (slice_equal(request->path, slice_from_str("/readyz"))) {
        checks(app, request, true, reply);
    } else if (slice_equal(request->path, slice_from_str("/version"))) {
        reply->status = 200;
        reply->content_type = "application/json";
        put(&reply->body, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\"}", ETCD_API_VERSION, ETCD_CLUSTER_VERSION);
    } else if (slice_equal(request->path, slice_from_str("/metrics"))) {
        metrics(app, reply);
    } else {
        reply->status = 404;
        put(&reply->body, "404 page not found\n");
    }
}
