/* The node's process.
 *
 *  open: lock, identity, transport, log and store, socket  ->  run  -- SIGTERM -->  HANDING_OVER (a leader looks for
 *  another)  ->  DRAINING (what was asked is answered)  ->  QUIET (nothing comes in any more, work that is out comes back,
 *  a last checkpoint is written)
 *  ->  closed. Each step has a bound; that of QUIET is the supervisor's. */
#include "raft/node_main.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/timeslice.h"
#include "raft/env_uv.h"
#include "raft/identity.h"
#include "raft/join.h"
#include "raft/node.h"
#include "raft/peer_frame.h"
#include "raft/publish.h"
#include "raft/socket_server.h"
#include "raft/stream.h"
#include "raft/transport.h"
#include "store/checkpoint.h"
#include "tls/tls.h"

#define DRAIN_MS 3000 /* for requests under way at SIGTERM; then they end with STOPPED */
#define CHECKPOINT_MS 3000 /* for the last checkpoint; without it the store is synced as it is */
#define CLOSE_MS 1000 /* for the resolver's threads and the like */
#define READY_RETRY_MS 100
#define SLICE_US 100 /* less than a front end's: it does not wait for those that hand out its events */

enum phase { PHASE_RUNNING, PHASE_HANDING_OVER, PHASE_DRAINING, PHASE_QUIET, PHASE_CLOSED };

struct program {
    const struct config *config;
    struct logger logger;
    struct identity identity;
    struct join join;
    bool joining; /* it does not know yet who it is */
    bool forcing; /* the cluster's new number is not written yet */
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    uv_prepare_t prepare;
    uv_timer_t timer; /* the readiness's retry, then the present phase's bound */
    struct env_uv *env;
    struct tls_context *tls; /* of connections to peers; NULL: plain */
    struct transport *transport;
    struct socket_server *server;
    struct node *node;
    struct disk disk;
    enum phase phase;
    int ready_fd; /* -1: told, or nobody asks */
    struct node_barrier barrier;   /* these two: asked on the way to readiness, */
    struct node_proposal proposal; /* one after the other */
    bool asking, ready;
    int exit_status;
};

/* What is wrong with the machine may pass; what is wrong with the data or the command line stays. */
static int status_of(int error)
{
    switch (error) {
    case -ENOMEM:
    case -EIO:
    case -ENOSPC:
    case -EDQUOT:
    case -EMFILE:
    case -ENFILE:
    case -EAGAIN:
    case -ETIMEDOUT:
        return CHILD_EXIT_BROKEN;
    case -EIDRM:
        return CHILD_EXIT_REMOVED;
    default:
        return CHILD_EXIT_FATAL;
    }
}

/* ---- readiness ---- */

static int take_ready_fd(void)
{
    const char *text = getenv("QUORUMFS_READY_FD");
    char *end;
    long fd;

    if (text == NULL)
        return -1;
    fd = strtol(text, &end, 10);
    if (*end != '\0' || end == text || fd < 3 || fd > 65535 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)fd;
}

static void ask_ready(struct program *p);

static void on_ready_timer(uv_timer_t *t)
{
    ask_ready(t->data);
}

static void become_ready(struct program *p)
{
    if (p->ready)
        return;
    p->ready = true;
    log_info(&p->logger, "member %016llx of cluster %016llx serves", (unsigned long long)p->identity.member_id,
             (unsigned long long)p->identity.cluster_id);
    if (p->ready_fd >= 0 && write(p->ready_fd, "ready\n", 6) < 0)
        log_warn(&p->logger, "the supervisor cannot be told: %s", strerror(errno));
}

static void ask_ready_later(struct program *p)
{
    if (p->phase == PHASE_RUNNING)
        uv_timer_start(&p->timer, on_ready_timer, READY_RETRY_MS, 0);
}

static void on_published(struct node_proposal *proposal, uint16_t status, int64_t revision, struct slice body)
{
    struct program *p = (struct program *)((char *)proposal - offsetof(struct program, proposal));

    p->asking = false;
    if (p->phase != PHASE_RUNNING)
        return;
    if (status != STATUS_OK) {
        log_debug(&p->logger, "name and client URLs could not be published: %s", status_text(status));
        ask_ready_later(p); /* and look whether it took effect */
        return;
    }
    become_ready(p);
}

static void publish(struct program *p)
{
    struct bytes b;

    bytes_init(&b);
    if (publish_encode(p->identity.member_id, p->identity.instance, p->config, &b) < 0) {
        bytes_fini(&b);
        ask_ready_later(p);
        return;
    }
    memset(&p->proposal, 0, sizeof(p->proposal));
    p->proposal.take_command = bytes_take(&b, &p->proposal.command_len);
    p->proposal.done = on_published;
    p->asking = true;
    node_propose(p->node, &p->proposal);
}

/* While the cluster's version is an older one, some members may have kept what was published without its version, because
 * they did not know of that yet: whoever comes to lead is told again. */
static void publish_again(struct program *p)
{
    if (p->ready && !p->asking && p->phase == PHASE_RUNNING && !publish_is_known(node_store(p->node)))
        publish(p);
}

static void on_ready_barrier(struct node_barrier *b, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct program *p = (struct program *)((char *)b - offsetof(struct program, barrier));

    p->asking = false;
    if (p->phase != PHASE_RUNNING)
        return;
    if (status != STATUS_OK)
        ask_ready_later(p);
    else if (publish_is_current(node_store(p->node), p->identity.member_id, p->identity.instance, p->config))
        become_ready(p);
    else
        publish(p);
}

/* A barrier of its own, so it has caught up; then its name and addresses, if they are news. */
static void ask_ready(struct program *p)
{
    if (p->ready || p->asking || p->phase != PHASE_RUNNING)
        return;
    p->asking = true;
    memset(&p->barrier, 0, sizeof(p->barrier));
    p->barrier.done = on_ready_barrier;
    node_barrier(p->node, &p->barrier);
}

/* ---- what the node and the world tell each other ---- */

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct program *p = ctx;

    if (p->server != NULL)
        socket_server_on_revision(p->server, epoch, revision);
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct program *p = ctx;

    if (leader == 0)
        log_warn(&p->logger, "no leader (term %llu)", (unsigned long long)term);
    else
        log_info(&p->logger, "leader %016llx, term %llu", (unsigned long long)leader, (unsigned long long)term);
    if (p->server != NULL)
        socket_server_on_leader(p->server, leader, term);
    if (leader != 0)
        ask_ready(p);
    if (leader != 0)
        publish_again(p);
}

static void on_fatal(void *ctx, int error, const char *text)
{
    struct program *p = ctx;

    log_error(&p->logger, "%s", text);
    p->exit_status = error == -EUCLEAN ? CHILD_EXIT_FATAL : CHILD_EXIT_BROKEN;
    uv_stop(&p->loop);
}

static void on_stuck_reader(void *ctx, int pid)
{
    struct program *p = ctx;
    char line[32];
    int n = snprintf(line, sizeof(line), "stuck %d\n", pid);

    if (p->ready_fd >= 0 && write(p->ready_fd, line, (size_t)n) < 0)
        log_warn(&p->logger, "the supervisor cannot be told: %s", strerror(errno));
}

static void on_env_timer(void *ctx)
{
    struct program *p = ctx;

    if (p->node != NULL && p->phase < PHASE_QUIET)
        node_timer(p->node);
}

static int on_receive(void *ctx, uint64_t from, uint8_t type, struct slice payload)
{
    struct program *p = ctx;
    int rc = p->phase < PHASE_QUIET ? node_receive(p->node, from, type, payload) : 0;

    if (rc < 0)
        log_warn(&p->logger, "peer %016llx sent a message of type %u that is none: %s", (unsigned long long)from, type,
                 strerror(-rc));
    return rc;
}

static void on_connected(void *ctx, uint64_t peer, uint32_t program)
{
    node_peer_runs(((struct program *)ctx)->node, peer, program);
    node_peer_connected(((struct program *)ctx)->node, peer);
}

static void on_disconnected(void *ctx, uint64_t peer)
{
    node_peer_disconnected(((struct program *)ctx)->node, peer);
}

static uint32_t on_admit(void *ctx, uint64_t from, uint64_t instance, char *ret_text, size_t text_size)
{
    struct program *p = ctx;

    if (p->node == NULL || p->phase >= PHASE_QUIET) {
        snprintf(ret_text, text_size, "it is starting or stopping");
        return PEER_HELLO_BUSY;
    }
    switch (node_admits(p->node, from, instance, ret_text, text_size)) {
    case NODE_REMOVED:
        return PEER_HELLO_REMOVED;
    case NODE_REPLACED:
        return PEER_HELLO_REPLACED;
    default:
        return PEER_HELLO_OK;
    }
}

static void on_lookup(void *ctx, struct slice urls, struct peer_answer *ret_answer)
{
    struct program *p = ctx;
    char text[4096];
    bool ran = false;

    if (p->node == NULL || p->phase >= PHASE_QUIET || urls.len >= sizeof(text))
        return;
    snprintf(text, sizeof(text), "%.*s", (int)urls.len, urls.len != 0 ? (const char *)urls.data : "");
    ret_answer->cluster_id = p->identity.cluster_id;
    ret_answer->data_id = p->identity.data_id;
    if (!node_lookup(p->node, text, &ret_answer->member_id, &ran)) {
        ret_answer->code = PEER_HELLO_WRONG_MEMBER;
        ret_answer->text = slice_from_str("no member has these peer URLs: quorumctl member add comes first");
    } else if (ran) {
        ret_answer->code = PEER_HELLO_REPLACED;
        ret_answer->text = slice_from_str("the member with these peer URLs has run already, with another data directory: "
                                          "remove it and add it anew");
    } else {
        ret_answer->code = PEER_HELLO_OK;
        ret_answer->text = slice_from_str("");
    }
}

static int on_open_checkpoint(void *ctx, uint64_t index, uint32_t crc)
{
    struct program *p = ctx;
    struct checkpoint_info infos[8];
    size_t n = 0, bad = 0;
    char dir[256];

    snprintf(dir, sizeof(dir), "%s/store", p->config->data_dir);
    if (checkpoint_list(dir, infos, sizeof(infos) / sizeof(infos[0]), &n, &bad) < 0)
        return -ENOENT;
    for (size_t i = 0; i < n; i++)
        if (infos[i].applied_index == index && infos[i].crc == crc) {
            int fd = open(infos[i].path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

            return fd >= 0 ? fd : -ENOENT;
        }
    return -ENOENT;
}

static void on_fetched(void *ctx, int error)
{
    struct program *p = ctx;

    if (p->node != NULL && p->phase < PHASE_QUIET)
        node_fetched(p->node, error);
}

static void on_answered(void *ctx, const struct peer_answer *answer)
{
    join_answered(&((struct program *)ctx)->join, answer);
}

static void on_refused(void *ctx, uint64_t peer, uint32_t code, const char *text)
{
    struct program *p = ctx;

    if (p->node != NULL && p->phase < PHASE_QUIET)
        node_peer_refused(p->node, peer,
                          code == PEER_HELLO_REMOVED    ? NODE_REMOVED :
                          code == PEER_HELLO_REPLACED ? NODE_REPLACED : NODE_ADMIT,
                          text);
}

static void add_status(void *ctx, struct bytes *json)
{
    struct program *p = ctx;
    struct transport_counters c = transport_counters(p->transport);
    char text[512];
    int n = snprintf(text, sizeof(text),
                     ",\"peer_frames_sent\":%llu,\"peer_frames_dropped\":%llu,\"peer_frames_received\":%llu,"
                     "\"peer_bytes_sent\":%llu,\"peer_bytes_received\":%llu,\"peers_refused\":%llu,"
                     "\"peer_file_bytes_sent\":%llu,\"peer_file_bytes_received\":%llu,\"peer_file_breaks\":%llu",
                     (unsigned long long)c.frames_sent, (unsigned long long)c.frames_dropped,
                     (unsigned long long)c.frames_received, (unsigned long long)c.bytes_sent,
                     (unsigned long long)c.bytes_received, (unsigned long long)c.refused,
                     (unsigned long long)c.bulk_bytes_sent, (unsigned long long)c.bulk_bytes_received,
                     (unsigned long long)c.bulk_breaks);

    bytes_raw(json, text, (size_t)n);
}

/* ---- stopping ---- */

static void close_all(struct program *p)
{
    p->phase = PHASE_CLOSED;
    transport_close(p->transport, NULL, NULL); /* first: it calls the node */
    node_close(p->node);
    socket_server_close(p->server); /* after the node: it sends what the node has ended */
    env_uv_close(p->env);
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->interrupt, NULL);
    uv_close((uv_handle_t *)&p->prepare, NULL);
}

static void on_close_bound(uv_timer_t *t)
{
    struct program *p = t->data;

    uv_stop(&p->loop);
}

static void on_drain_bound(uv_timer_t *t)
{
    /* on_prepare looks at it: expired means inactive */
}

static void drain(struct program *p)
{
    p->phase = PHASE_DRAINING;
    socket_server_stop(p->server);
    uv_timer_start(&p->timer, on_drain_bound, DRAIN_MS, 0);
}

static void on_removed(void *ctx, const char *text)
{
    struct program *p = ctx;

    log_error(&p->logger, "%s", text);
    p->exit_status = CHILD_EXIT_REMOVED;
    if (p->phase == PHASE_RUNNING)
        drain(p); /* what it was asked is answered, that it be removed among it */
}

/* The new state is on disk under its name: what recovers after a crash opens it, so nothing else has to know how. */
static void on_replaced(void *ctx)
{
    struct program *p = ctx;

    p->exit_status = CHILD_EXIT_AGAIN;
    uv_stop(&p->loop);
}

static void on_handover_bound(uv_timer_t *t)
{
    drain(t->data);
}

static void on_checkpoint_bound(uv_timer_t *t)
{
    node_checkpoint_cancel(((struct program *)t->data)->node);
}

static void quiet(struct program *p)
{
    p->phase = PHASE_QUIET;
    node_prepare_stop(p->node);
    uv_timer_start(&p->timer, on_checkpoint_bound, CHECKPOINT_MS, 0);
}

/* Once a turn of the loop: is the present phase over? */
static void on_prepare(uv_prepare_t *h)
{
    struct program *p = h->data;
    bool in_time = uv_is_active((uv_handle_t *)&p->timer);
    struct node_status st;

    if (p->phase == PHASE_HANDING_OVER) {
        node_status(p->node, &st);
        if (!st.is_leader)
            drain(p);
    }
    if (p->phase == PHASE_DRAINING && (socket_server_counters(p->server).requests == 0 || !in_time))
        quiet(p); /* under load the workers would never be seen idle */
    if (p->phase != PHASE_QUIET || !node_is_idle(p->node))
        return;
    close_all(p);
    uv_timer_start(&p->timer, on_close_bound, CLOSE_MS, 0);
    uv_unref((uv_handle_t *)&p->timer); /* a bound, nothing to wait for */
}

static void on_signal(uv_signal_t *h, int number)
{
    struct program *p = h->data;
    struct node_status st;

    if (p->phase != PHASE_RUNNING)
        return;
    log_info(&p->logger, "stopping");
    p->phase = PHASE_HANDING_OVER;
    uv_timer_start(&p->timer, on_handover_bound, p->config->election_ms, 0);
    node_status(p->node, &st);
    if (st.is_leader && st.n_members > 1)
        node_transfer(p->node);
    else
        drain(p);
}

/* ---- starting ---- */

static int say(struct program *p, int rc, const char *text)
{
    log_error(&p->logger, "%s", text[0] != '\0' ? text : strerror(-rc));
    return rc;
}

static int open_data_dir(struct program *p)
{
    const struct config *c = p->config;
    char text[LOG_LINE_BYTES] = "";
    struct stat st;
    bool is_new;
    int lock_fd, rc;

    /* A directory that the group may enter is one whose environment the group may map: docs/data-directory.md. */
    umask(stat(c->data_dir, &st) == 0 && (st.st_mode & S_IXGRP) != 0 ? 0007 : 0077);
    rc = identity_lock(c, &lock_fd, text, sizeof(text)); /* kept until the process ends */
    if (rc == 0)
        rc = identity_check(c, &p->identity, &is_new, text, sizeof(text));
    p->joining = rc == 0 && is_new && p->identity.joined;
    if (rc == 0 && !is_new && c->force_new_cluster) {
        p->forcing = identity_force(&p->identity);
        if (!p->forcing)
            log_warn(&p->logger, "--force-new-cluster: that has been done, the flag has no effect");
    }
    if (rc == 0 && is_new && !p->joining)
        rc = identity_create(c, &p->identity, text, sizeof(text));
    if (rc == 0)
        rc = disk_posix_open(c->data_dir, &p->disk);
    return rc < 0 ? say(p, rc, text) : 0;
}

static int open_transport(struct program *p)
{
    struct transport_options options = {
        .cluster_id = p->identity.cluster_id,
        .id = p->identity.member_id,
        .instance = p->identity.instance,
        .program = APPLY_VERSION,
        .listen = p->config->listen_peer.urls,
        .n_listen = p->config->listen_peer.count,
        .urls = p->config->advertise_peer.text,
        .election_ms = p->config->election_ms,
        .any_cert_name = p->config->peer_tls.allowed_hostname != NULL || p->config->peer_tls.allowed_cn != NULL,
        .logger = &p->logger,
        .ctx = p,
        .receive = on_receive,
        .admit = on_admit,
        .lookup = on_lookup,
        .open_checkpoint = on_open_checkpoint,
        .fetched = on_fetched,
        .bulk_bytes_per_s = p->config->snapshot_rate_bytes,
        .answered = on_answered,
        .refused = on_refused,
        .connected = on_connected,
        .disconnected = on_disconnected,
    };
    char text[LOG_LINE_BYTES] = "";
    int rc = 0;

    if (config_tls_wanted(p->config))
        rc = config_tls_open_peer(p->config, &p->logger, &p->tls, text, sizeof(text));
    options.tls = p->tls;
    if (rc == 0)
        rc = transport_open(&p->loop, &options, &p->transport, text, sizeof(text));
    return rc < 0 ? say(p, rc, text) : 0;
}

static int join(struct program *p)
{
    char text[LOG_LINE_BYTES] = "";
    int rc;

    p->join.loop = &p->loop;
    p->join.logger = &p->logger;
    rc = join_ask(&p->join, p->transport, p->config, &p->identity, text, sizeof(text));
    if (rc == 0)
        rc = identity_create(p->config, &p->identity, text, sizeof(text));
    return rc < 0 ? say(p, rc, text) : 0;
}

static int open_node(struct program *p, const char *store_dir)
{
    const struct config *c = p->config;
    struct node_member members[NODE_MAX_MEMBERS];
    struct node_config config = {
        .id = p->identity.member_id,
        .cluster_id = p->identity.cluster_id,
        .data_id = p->identity.data_id,
        .instance = p->identity.instance,
        .name = c->name,
        .members = members,
        .n_members = p->identity.joined ? 0 : c->n_members,
        .joined = p->identity.joined,
        .alone = p->forcing,
        .max_learners = (size_t)c->max_learners,
        .lax_reconfig = c->lax_reconfig,
        .heartbeat_ms = c->heartbeat_ms,
        .election_ms = c->election_ms,
        .compaction = c->compaction,
        .quota_bytes = c->quota_bytes,
        .reader_timeout_ms = c->reader_timeout_s * 1000,
        .checkpoint_entries = c->snapshot_count,
        .checkpoint_bytes = c->snapshot_bytes,
        .catchup_entries = c->catchup_entries,
        .store_dir = store_dir,
        .store_flags = STORE_UNSYNCED, /* checkpoints and the log make a store again that a crash spoilt */
        .logger = &p->logger,
    };
    struct node_callbacks callbacks = {.ctx = p,
                                       .on_revision = on_revision,
                                       .on_leader = on_leader,
                                       .on_fatal = on_fatal,
                                       .on_removed = on_removed,
                                       .on_replaced = on_replaced,
                                       .on_stuck_reader = on_stuck_reader};
    char text[LOG_LINE_BYTES] = "";
    struct network network;
    struct workers workers;
    struct clock clock;
    int rc;

    for (size_t i = 0; i < c->n_members; i++)
        members[i] = (struct node_member){c->members[i].id, c->members[i].name, c->members[i].peer_urls, true};
    env_uv_tables(p->env, &clock, &workers);
    transport_table(p->transport, &network);
    rc = node_open(&config, &p->disk, &clock, &network, &workers, &callbacks, &p->node, text, sizeof(text));
    return rc < 0 ? say(p, rc, text) : 0;
}

static int open_socket(struct program *p, const char *store_dir)
{
    struct socket_server_options options = {
        .path = p->config->socket_path,
        .name = p->config->name,
        .store_dir = store_dir,
        .cluster_id = p->identity.cluster_id,
        .member_id = p->identity.member_id,
        .heartbeat_ms = p->config->heartbeat_ms,
        .election_ms = p->config->election_ms,
        .node = p->node,
        .logger = &p->logger,
        .ctx = p,
        .add_status = add_status,
    };
    char text[LOG_LINE_BYTES] = "";
    int rc = socket_server_open(&p->loop, &options, &p->server, text, sizeof(text));

    return rc < 0 ? say(p, rc, text) : 0;
}

static int open_loop(struct program *p)
{
    int rc = err_from_uv(uv_loop_init(&p->loop));

    if (rc < 0)
        return say(p, rc, "");
    rc = err_from_uv(uv_signal_init(&p->loop, &p->term)); /* makes the loop's pipe for signals */
    if (rc == 0)
        rc = err_from_uv(uv_signal_init(&p->loop, &p->interrupt));
    if (rc < 0)
        return say(p, rc, "");
    uv_prepare_init(&p->loop, &p->prepare); /* these two cannot fail */
    uv_timer_init(&p->loop, &p->timer);
    p->term.data = p->interrupt.data = p->prepare.data = p->timer.data = p;
    rc = env_uv_open(&p->loop, on_env_timer, p, &p->env);
    return rc < 0 ? say(p, rc, "") : 0;
}

static int open_all(struct program *p)
{
    char store_dir[256]; /* the socket's path beside it fits 107 */
    int rc = open_data_dir(p);

    snprintf(store_dir, sizeof(store_dir), "%s/store", p->config->data_dir);
    if (rc == 0 && mkdir(store_dir, 0770) < 0 && errno != EEXIST) {
        char text[LOG_LINE_BYTES];

        rc = -errno;
        snprintf(text, sizeof(text), "data directory: %s: %s", store_dir, strerror(-rc));
        say(p, rc, text);
    }
    if (rc == 0)
        rc = open_loop(p);
    if (rc == 0)
        rc = open_transport(p);
    if (rc == 0 && p->joining)
        rc = join(p);
    if (rc == 0)
        rc = open_node(p, store_dir);
    if (rc == 0 && p->forcing) {
        char text[LOG_LINE_BYTES] = "";

        rc = identity_create(p->config, &p->identity, text, sizeof(text));
        if (rc < 0)
            say(p, rc, text);
    }
    if (rc == 0)
        rc = open_socket(p, store_dir);
    return rc;
}

/* 1,024 front ends and 256 connections of peers are more than the usual soft limit. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int node_main(const struct config *c)
{
    struct program *p = calloc(1, sizeof(*p));
    int rc;

    if (p == NULL)
        return CHILD_EXIT_BROKEN;
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    p->config = c;
    p->logger = (struct logger){c->log_level, "node"};
    rc = timeslice_set(SLICE_US);
    if (rc < 0)
        log_debug(&p->logger, "shorter turns on the processors: %s", strerror(-rc));
    p->ready_fd = take_ready_fd();
    rc = open_all(p);
    if (rc < 0)
        _exit(status_of(rc)); /* the kernel frees what was opened; threads may run */
    rc = err_from_uv(uv_signal_start(&p->term, on_signal, SIGTERM));
    if (rc == 0)
        rc = err_from_uv(uv_signal_start(&p->interrupt, on_signal, SIGINT));
    if (rc < 0)
        _exit(status_of(say(p, rc, "")));
    uv_prepare_start(&p->prepare, on_prepare);
    log_info(&p->logger, "'%s': peers on %s, socket %s", c->name, c->listen_peer.text, c->socket_path);
    rc = node_start(p->node); /* on_fatal has told why */
    if (rc == 0)
        uv_run(&p->loop, UV_RUN_DEFAULT);
    if (p->phase != PHASE_CLOSED)
        _exit(p->exit_status != 0 ? p->exit_status : CHILD_EXIT_BROKEN);
    log_info(&p->logger, "stopped");
    disk_posix_close(&p->disk);
    uv_close((uv_handle_t *)&p->timer, NULL);
    uv_run(&p->loop, UV_RUN_NOWAIT);
    if (uv_loop_close(&p->loop) < 0)
        _exit(p->exit_status); /* the resolver still runs */
    tls_context_close(p->tls);
    rc = p->exit_status;
    free(p);
    return rc;
}
