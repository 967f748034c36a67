/* The way to the node: its socket, proposals and barriers that are waited for, and the store it names. */
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/command.h"
#include "tools/ctl.h"

#define CONNECT_WAIT_MS 2000 /* a node that is being restarted comes back within this; else it is said to be away */

uint64_t ctl_deadline(const struct ctl *c)
{
    return client_now_ms() + c->opts->timeout_ms;
}

int ctl_fail_status(uint16_t status)
{
    return ctl_fail("%s", status_text(status));
}

static int find_socket(const struct ctl_options *opts, char *ret_path, size_t size)
{
    const char *path = opts->socket != NULL ? opts->socket : getenv("QUORUMFS_SOCKET");
    glob_t found = {0};
    int n, rc = 0;

    if (path == NULL || *path == '\0') {
        path = "/var/lib/quorumfs/node.sock";
        if (glob("*.quorumfs/node.sock", 0, NULL, &found) == 0) {
            if (found.gl_pathc > 1)
                rc = ctl_fail("there are several nodes here: choose one by --socket (%s, %s, ...)", found.gl_pathv[0],
                              found.gl_pathv[1]);
            path = found.gl_pathv[0];
        }
    }
    n = snprintf(ret_path, size, "%s", path);
    if (rc == 0 && (size_t)n >= size)
        rc = ctl_fail("the socket's path is too long: %s", path);
    globfree(&found);
    return rc;
}

static void on_refused(void *ctx, const char *text)
{
    struct ctl *c = ctx;

    c->refused = true;
    ctl_fail("the node refuses us: %s", text);
}

static bool is_connected(void *ctx)
{
    struct ctl *c = ctx;

    return c->refused || client_connected(c->client);
}

int ctl_open(const struct ctl_options *opts, struct ctl *c)
{
    struct client_callbacks callbacks = {.ctx = c, .on_refused = on_refused};
    uint64_t wait_ms = opts->timeout_ms < CONNECT_WAIT_MS ? opts->timeout_ms : CONNECT_WAIT_MS;
    int rc;

    *c = (struct ctl){.opts = opts, .out = {.json = opts->json, .hex = opts->hex}};
    if (find_socket(opts, c->socket, sizeof(c->socket)) < 0)
        return -1;
    if (access(c->socket, F_OK) < 0 && errno == ENOENT)
        return ctl_fail("there is no node at %s", c->socket);
    if (access(c->socket, W_OK) < 0)
        return ctl_fail("cannot use %s: %s", c->socket, strerror(errno));
    rc = client_open(c->socket, "quorumctl", &callbacks, &c->client);
    if (rc < 0)
        return ctl_fail("cannot use %s: %s", c->socket, strerror(-rc));
    if (client_wait(c->client, is_connected, c, client_now_ms() + wait_ms) < 0)
        return ctl_fail("the node at %s does not answer", c->socket);
    return c->refused ? -1 : 0;
}

void ctl_close(struct ctl *c)
{
    client_close(c->client);
    store_close(c->store);
    bytes_fini(&c->out.buf);
}

struct wait {
    struct ctl *ctl;
    bool done;
    uint16_t status;
    uint64_t epoch;
    int64_t revision;
    struct arena *arena;
    struct slice body;
    int error;
};

static bool is_done(void *ctx)
{
    struct wait *w = ctx;

    return w->done || w->ctl->refused;
}

/* The request ends by its own deadline; the margin only keeps a fault of ours from becoming a wait for ever. */
static int await(struct wait *w)
{
    if (client_wait(w->ctl->client, is_done, w, ctl_deadline(w->ctl) + 1000) < 0)
        return ctl_fail_status(STATUS_TIMEOUT);
    return w->ctl->refused ? -1 : 0;
}

static void on_answer(void *arg, const struct client_answer *answer)
{
    struct wait *w = arg;

    w->done = true;
    w->status = answer->status;
    w->revision = answer->revision;
    w->error = arena_copy(w->arena, answer->body, &w->body);
}

/* A repeated command's answer is kept only if it is short (SESSION_BODY_MAX_BYTES), and an answer that was not kept
 * looks like one that says "nothing": so only what needs no long answer is repeated. */
static unsigned flags_of(const struct command *cmd)
{
    bool short_answer = (cmd->kind == COMMAND_PUT && !cmd->put.prev_kv) ||
                        (cmd->kind == COMMAND_DELETE_RANGE && !cmd->del.prev_kv);

    return short_answer ? CLIENT_RETRY : 0;
}

int ctl_propose(struct ctl *c, const struct command *cmd, struct arena *arena, struct result *ret_result)
{
    struct wait w = {.ctl = c, .arena = arena};
    uint16_t status = command_check(cmd);
    struct result res;

    if (status != STATUS_OK)
        return ctl_fail_status(status);
    if (client_propose(c->client, cmd, flags_of(cmd), ctl_deadline(c), on_answer, &w) < 0)
        return ctl_fail("out of memory");
    if (await(&w) < 0)
        return -1;
    if (w.status != STATUS_OK)
        return ctl_fail_status(w.status);
    if (w.error < 0 || result_decode(cmd->kind, w.body, arena, &res) < 0)
        return ctl_fail("the node's answer cannot be read");
    res.revision = w.revision;
    *ret_result = res;
    return 0;
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct wait *w = arg;

    w->done = true;
    w->status = status;
    w->epoch = epoch;
    w->revision = revision;
}

int ctl_barrier(struct ctl *c)
{
    struct wait w = {.ctl = c};

    if (c->opts->local)
        return 0;
    if (client_barrier(c->client, ctl_deadline(c), on_barrier, &w) < 0)
        return ctl_fail("out of memory");
    if (await(&w) < 0)
        return -1;
    return w.status == STATUS_OK ? 0 : ctl_fail_status(w.status);
}

int ctl_store(struct ctl *c)
{
    const struct client_info *info = client_get_info(c->client);
    struct store_options options = {0};
    uint64_t epoch;
    int64_t revision;
    int rc;

    client_revision(c->client, &epoch, &revision);
    if (c->store != NULL && store_epoch(c->store) >= epoch)
        return 0;
    store_close(c->store);
    c->store = NULL;
    rc = store_open(info->store_dir, &options, &c->store);
    if (rc < 0)
        return ctl_fail("cannot open the store in %s: %s", info->store_dir, strerror(-rc));
    if (store_epoch(c->store) < epoch)
        return ctl_fail("the store in %s is older than the node says", info->store_dir);
    return 0;
}
