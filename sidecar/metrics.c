/* metrics.c - /metrics in Prometheus' text format; docs/metrics.md lists what it says. */
#include "sidecar/pages.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const code_names[] = {
    "OK",           "Canceled",          "Unknown",            "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted",  "FailedPrecondition", "Aborted",       "OutOfRange",
    "Unimplemented", "Internal",         "Unavailable",        "DataLoss",        "Unauthenticated",
};

/* ---- /metrics ---- */

static void family(struct bytes *out, const char *name, const char *type, const char *help)
{
    page_put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct bytes *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    page_put(out, "%s %llu\n", name, (unsigned long long)value);
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

    page_put(out, "grpc_method=\"%s\",grpc_service=\"%.*s\",grpc_type=\"%s\"", slash + 1, (int)(slash - m->path - 1),
        m->path + 1, m->kind == GRPC_UNARY ? "unary" : "bidi_stream");
}

static void calls(const struct figures *f, struct bytes *out)
{
    const struct grpc_method_counts *m = f->methods;
    size_t n = f->n_methods;

    family(out, "grpc_server_started_total", "counter", "Calls begun, by method.");
    for (size_t i = 0; i < n; i++) {
        page_put(out, "grpc_server_started_total{");
        label_method(out, m[i].method);
        page_put(out, "} %llu\n", (unsigned long long)m[i].started);
    }
    family(out, "grpc_server_handled_total", "counter", "Calls ended, by method and code.");
    for (size_t i = 0; i < n; i++) {
        for (size_t code = 0; code < sizeof code_names / sizeof code_names[0]; code++) {
            if (m[i].by_code[code] == 0)
                continue;
            page_put(out, "grpc_server_handled_total{grpc_code=\"%s\",", code_names[code]);
            label_method(out, m[i].method);
            page_put(out, "} %llu\n", (unsigned long long)m[i].by_code[code]);
        }
    }
}

static void watches(const struct figures *f, struct bytes *out)
{
    const struct feed_counters *c = &f->feed;

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

static void connections(const struct figures *f, struct bytes *out)
{
    const struct grpc_counters *c = &f->grpc;

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
    single(out, "quorumfs_grpc_connections_tls_total", "counter", "Connections of TLS, good or not.", c->conns_tls);
    single(out, "quorumfs_grpc_tls_failed_total", "counter", "Connections whose TLS failed.", c->tls_failed);
    single(out, "quorumfs_grpc_connections_silent_total", "counter", "Connections closed since they answered no ping.",
           c->conns_silent);
    single(out, "quorumfs_grpc_messages_decompressed_total", "counter", "Requests that came compressed.",
           c->messages_decompressed);
    single(out, "etcd_network_client_grpc_received_bytes_total", "counter", "Bytes received from clients.", c->bytes_in);
    single(out, "etcd_network_client_grpc_sent_bytes_total", "counter", "Bytes sent to clients.", c->bytes_out);
    single(out, "quorumfs_grpc_input_bytes", "gauge", "Bytes of messages that have come in part.", c->input_bytes);
    single(out, "quorumfs_grpc_output_bytes", "gauge", "Bytes of answers and events that wait for their reader.",
           c->output_bytes);
    single(out, "quorumfs_grpc_pending_bytes", "gauge", "Bytes of requests under way at the node.", f->pending_bytes);
}

/* ---- the node ---- */

static uint64_t number_of(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return json_is_integer(v) ? (uint64_t)json_integer_value(v) : 0;
}

static void node_figures(const json_t *status, struct bytes *out)
{
    single(out, "etcd_server_proposals_committed_total", "gauge", "Index of the last entry that was committed.",
           number_of(status, "commit_index"));
    single(out, "etcd_server_proposals_applied_total", "gauge", "Index of the last entry that was applied.",
           number_of(status, "applied_index"));
    single(out, "etcd_server_proposals_pending", "gauge", "Proposals under way at the node.",
           number_of(status, "proposals_waiting"));
    single(out, "quorumfs_node_barriers_pending", "gauge", "Linearizable reads under way at the node.",
           number_of(status, "barriers_waiting"));
    single(out, "quorumfs_node_checkpoint_index", "gauge", "Entry of the log as of which the newest checkpoint is.",
           number_of(status, "checkpoint_index"));
    single(out, "quorumfs_node_checkpoint_bytes", "gauge", "Size of the newest checkpoint.",
           number_of(status, "checkpoint_bytes"));
    single(out, "quorumfs_node_checkpoint_log_bytes", "gauge", "Bytes of the log applied since.",
           number_of(status, "checkpoint_log_bytes"));
    single(out, "quorumfs_node_checkpoints_total", "counter", "Checkpoints that the node's process has written.",
           number_of(status, "checkpoints_total"));
    single(out, "quorumfs_node_checkpoints_failed_total", "counter", "Checkpoints that it could not write.",
           number_of(status, "checkpoints_failed_total"));
    single(out, "quorumfs_node_disk_full", "gauge", "Whether the node waits for room on its disk.",
           json_is_true(json_object_get(status, "disk_full")));
    single(out, "quorumfs_node_readers_pinning", "gauge", "Processes that hold an old snapshot of the store.",
           number_of(status, "readers_pinning"));
}

static void node(struct app *app, struct slice json, struct bytes *out)
{
    struct client *client = node_line_client(app->line);
    bool connected = node_line_connected(app->line);
    uint64_t leader = client != NULL && connected ? client_leader(client) : 0;
    json_t *status = json.len > 0 ? json_loadb((const char *)json.data, json.len, 0, NULL) : NULL;

    single(out, "etcd_server_has_leader", "gauge", "Whether the node knows a leader.", leader != 0);
    single(out, "etcd_server_is_leader", "gauge", "Whether the node is the leader.",
           leader != 0 && leader == node_line_member_id(app->line));
    single(out, "etcd_server_is_learner", "gauge", "Whether the node is a learner.", app->learner);
    single(out, "etcd_server_leader_changes_seen_total", "counter", "Leaders that this process has seen come.",
           app->leader_changes);
    single(out, "quorumfs_grpc_node_connected", "gauge", "Whether the line to the node is up.", connected);
    family(out, "etcd_server_id", "gauge", "The member's id.");
    page_put(out, "etcd_server_id{server_id=\"%llx\"} 1\n", (unsigned long long)node_line_member_id(app->line));
    family(out, "etcd_server_version", "gauge", "The version of etcd whose API this is.");
    page_put(out, "etcd_server_version{server_version=\"%s\"} 1\n", ETCD_API_VERSION);
    family(out, "etcd_cluster_version", "gauge", "The cluster version that clients are told.");
    page_put(out, "etcd_cluster_version{cluster_version=\"%.3s\"} 1\n", ETCD_CLUSTER_VERSION);
    family(out, "quorumfs_grpc_version", "gauge", "The version of this program.");
    page_put(out, "quorumfs_grpc_version{version=\"%s\"} 1\n", QUORUMFS_VERSION);
    if (json_is_object(status))
        node_figures(status, out);
    json_decref(status);
}

static void store(struct app *app, struct bytes *out)
{
    struct store_read *r = node_line_read(app->line);
    struct store_meta m;

    if (r == NULL || store_read_meta(r, &m) < 0)
        return;
    single(out, "etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the store's file.", m.db_bytes);
    single(out, "etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Of it in use.", m.db_bytes_in_use);
    single(out, "etcd_server_quota_backend_bytes", "gauge", "The quota; 0: none.", m.quota_bytes);
    single(out, "quorumfs_store_logical_bytes", "gauge", "What the quota limits: keys, values and their history.",
           m.logical_bytes);
    single(out, "etcd_debugging_mvcc_current_revision", "gauge", "The newest revision.", (uint64_t)m.revision);
    single(out, "etcd_debugging_mvcc_compact_revision", "gauge", "The revision of the last compaction.",
           (uint64_t)m.compacted);
    single(out, "quorumfs_store_removed_revision", "gauge", "What a compaction under way has removed lies before it.",
           (uint64_t)m.removal.main);
}

/* ---- health checks ---- */

static void health(const struct figures *f, struct bytes *out)
{
    static const char *const types[] = {"livez", "readyz"}, *const results[] = {"success", "error"};
    const struct health_counters *c = &f->health;

    single(out, "etcd_server_health_success", "counter", "/health answered true.", c->success);
    single(out, "etcd_server_health_failures", "counter", "/health answered false.", c->failures);
    family(out, "etcd_server_healthcheck", "gauge", "Whether the check passed the last time.");
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < HEALTH_CHECKS; i++)
            if (c->checks[t][i][0] + c->checks[t][i][1] > 0)
                page_put(out, "etcd_server_healthcheck{name=\"%s\",type=\"%s\"} %d\n", health_check_name((enum health_check)i),
                         types[t], !c->failing[t][i]);
    family(out, "etcd_server_healthchecks_total", "counter", "Checks by how they ended.");
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < HEALTH_CHECKS; i++)
            for (size_t r = 0; r < 2; r++)
                if (c->checks[t][i][r] > 0)
                    page_put(out, "etcd_server_healthchecks_total{name=\"%s\",status=\"%s\",type=\"%s\"} %llu\n",
                             health_check_name((enum health_check)i), results[r], types[t],
                             (unsigned long long)c->checks[t][i][r]);
}

/* ---- the process ---- */

static unsigned open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n > 3 ? n - 3 : 0; /* without ".", ".." and the directory itself */
}

static void process(struct bytes *out)
{
    struct rusage usage;
    struct rlimit limit;

    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        family(out, "process_cpu_seconds_total", "counter", "CPU time, of the system too.");
        page_put(out, "process_cpu_seconds_total %.3f\n",
                 (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    }
    single(out, "process_open_fds", "gauge", "Open descriptors.", open_files());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        single(out, "process_max_fds", "gauge", "Descriptors at most.", limit.rlim_cur);
    memory(out);
}

static void services(const struct figures *f, struct bytes *out)
{
    single(out, "quorumfs_grpc_lock_waiters", "gauge", "Calls of Lock and Campaign that wait for their turn.", f->turns);
    single(out, "quorumfs_grpc_keepalives_pending", "gauge", "Requests of LeaseKeepAlive that are not answered.", f->beats);
    single(out, "quorumfs_grpc_snapshots", "gauge", "Snapshots being written or sent.", f->snapshots);
}

void metrics_write(struct app *app, const struct figures *f, struct slice json, struct bytes *out)
{
    node(app, json, out);
    store(app, out);
    if (f->methods != NULL) {
        watches(f, out);
        services(f, out);
        connections(f, out);
        calls(f, out);
        health(f, out);
    }
    process(out);
}
