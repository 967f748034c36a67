#include "sidecar/node_line.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct node_line {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t retry; /* opening a store that is not there yet */
    bool poll_closed, timer_closed;
    const struct logger *log;
    struct store_share *share;
    struct node_line_callbacks cb;
    struct client *client;
    bool touched, ready, closing;
    struct store_lease *current; /* NULL: none */
    struct store_read *read;
    uint64_t epoch;   /* announced */
    int64_t revision; /* announced */
    uint64_t cluster_id, member_id, election_ms;
    char *store_dir;
};

#define STORE_RETRY_MS 50
#define REQUEST_TIMEOUT_MS 5000

/* ---- stores ---- */

static void drop_read(struct node_line *n)
{
    store_read_end(n->read);
    n->read = NULL;
}

static void on_retry(uv_timer_t *timer);

static void open_store(struct node_line *n)
{
    int rc;

    if (n->store_dir == NULL || n->epoch == 0 || (n->current != NULL && store_lease_epoch(n->current) >= n->epoch))
        return;
    drop_read(n);
    store_lease_unref(n->current); /* never serve an older epoch */
    n->current = NULL;
    rc = store_share_open(n->share, n->store_dir, n->epoch, &n->current);
    if (rc < 0) {
        if (rc != -EAGAIN && rc != -ENOENT)
            log_warn(n->log, "opening the store in %s: %s", n->store_dir, strerror(-rc));
        uv_timer_start(&n->retry, on_retry, STORE_RETRY_MS, 0);
        return;
    }
    if (!n->ready) {
        n->ready = true;
        n->cb.on_ready(n->cb.ctx);
    }
    n->cb.on_revision(n->cb.ctx, n->revision);
}

static void on_retry(uv_timer_t *timer)
{
    open_store(timer->data);
}

struct store_lease *node_line_lease(struct node_line *n)
{
    return n->current != NULL ? store_lease_ref(n->current) : NULL;
}

void node_line_release(struct node_line *n, struct store_lease *l)
{
    store_lease_unref(l);
}

struct store_read *node_line_read(struct node_line *n)
{
    int rc;

    if (n->current == NULL)
        return NULL;
    rc = n->read != NULL ? store_read_renew(n->read) : store_read_begin(store_lease_store(n->current), &n->read);
    if (rc < 0) {
        log_warn(n->log, "reading the store: %s", strerror(-rc));
        drop_read(n);
        return NULL;
    }
    return n->read;
}

/* ---- what the node says ---- */

static void on_connected(void *ctx, const struct client_info *info)
{
    struct node_line *n = ctx;

    n->cluster_id = info->cluster_id;
    n->member_id = info->member_id;
    n->election_ms = info->election_ms;
    if (n->store_dir == NULL || strcmp(n->store_dir, info->store_dir) != 0) {
        free(n->store_dir);
        n->store_dir = strdup(info->store_dir);
    }
    client_revision(n->client, &n->epoch, &n->revision);
    open_store(n);
}

static void on_disconnected(void *ctx)
{
}

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct node_line *n = ctx;

    n->epoch = epoch;
    n->revision = revision;
    open_store(n);
    if (n->current != NULL)
        n->cb.on_revision(n->cb.ctx, revision);
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    struct node_line *n = ctx;

    n->cb.on_leader(n->cb.ctx, leader);
}

static void on_refused(void *ctx, const char *text)
{
    struct node_line *n = ctx;

    n->cb.on_refused(n->cb.ctx, text);
}

/* ---- life ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct node_line *n = poll->data;

    client_process(n->client);
}

int node_line_open(uv_loop_t *loop, const char *socket_path, struct store_share *share, const struct logger *log,
                   const struct node_line_callbacks *callbacks, struct node_line **ret_line)
{
    struct node_line *n = calloc(1, sizeof *n);
    struct client_callbacks cb = {.ctx = n,
                                  .on_connected = on_connected,
                                  .on_disconnected = on_disconnected,
                                  .on_revision = on_revision,
                                  .on_leader = on_leader,
                                  .on_refused = on_refused};
    int rc;

    if (n == NULL)
        return -ENOMEM;
    n->loop = loop;
    n->log = log;
    n->share = share;
    n->cb = *callbacks;
    n->election_ms = 1000;
    rc = client_open(socket_path, "quorumfs-grpc", &cb, &n->client);
    if (rc < 0) {
        free(n);
        return rc;
    }
    uv_timer_init(loop, &n->retry);
    rc = uv_poll_init(loop, &n->poll, client_fd(n->client));
    n->poll.data = n->retry.data = n;
    if (rc == 0)
        rc = uv_poll_start(&n->poll, UV_READABLE, on_poll);
    *ret_line = n;
    return rc;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct node_line *n = handle->data;

    n->poll_closed = true;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct node_line *n = handle->data;

    n->timer_closed = true;
}

void node_line_close(struct node_line *n)
{
    if (n->closing)
        return;
    n->closing = true;
    uv_poll_stop(&n->poll);
    client_close(n->client);
    n->client = NULL;
    uv_close((uv_handle_t *)&n->poll, on_poll_closed);
    uv_close((uv_handle_t *)&n->retry, on_timer_closed);
    drop_read(n);
}

void node_line_free(struct node_line *n)
{
    if (n == NULL)
        return;
    assert(n->poll_closed && n->timer_closed);
    store_lease_unref(n->current);
    free(n->store_dir);
    free(n);
}

struct client *node_line_client(struct node_line *n)
{
    return n->client;
}

void node_line_touch(struct node_line *n)
{
    n->touched = true;
}

void node_line_turn(struct node_line *n)
{
    if (n->touched && n->client != NULL) {
        n->touched = false;
        client_process(n->client);
    }
    drop_read(n);
}

bool node_line_ready(const struct node_line *n)
{
    return n->ready;
}

uint64_t node_line_epoch(const struct node_line *n)
{
    return n->current != NULL ? store_lease_epoch(n->current) : 0;
}

bool node_line_connected(const struct node_line *n)
{
    return n->client != NULL && client_connected(n->client);
}

uint64_t node_line_deadline_ms(const struct node_line *n)
{
    return client_now_ms() + REQUEST_TIMEOUT_MS + 2 * n->election_ms;
}

uint64_t node_line_election_ms(const struct node_line *n)
{
    return n->election_ms;
}

int64_t node_line_revision(const struct node_line *n)
{
    return n->revision;
}

uint64_t node_line_member_id(const struct node_line *n)
{
    return n->member_id;
}

struct etcd_header node_line_header(const struct node_line *n, int64_t revision)
{
    return (struct etcd_header){.cluster_id = n->cluster_id,
                                .member_id = n->member_id,
                                .raft_term = n->client != NULL ? client_term(n->client) : 0,
                                .revision = revision};
}
