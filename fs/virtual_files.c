/* What stands directly in .quorumfs: one value a file where that fits, JSON where not. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/json.h"
#include "fs/mount.h"

static void __attribute__((format(printf, 2, 3))) put(struct bytes *out, const char *format, ...)
{
    char text[512];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    bytes_raw(out, text, n > 0 ? ((size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1) : 0);
}

/* ---- status, health, revision ---- */

static size_t count_parked(const struct mount *m)
{
    size_t n = 0;

    LIST_FOREACH(it, &m->parked)
        n++;
    return n;
}

static int status_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    const uint64_t oldest_ms = announce_oldest(&m->announce);

    json_open(out, '{');
    json_name(out, "mountpoint");
    json_text(out, slice_from_str(m->opt.mountpoint));
    json_name(out, "prefix");
    json_text(out, slice_from_str(m->opt.prefix));
    json_name(out, "version");
    json_text(out, slice_from_str(QUORUMFS_VERSION));
    json_name(out, "connected");
    json_bool(out, client_connected(m->client));
    json_name(out, "leader");
    json_hex(out, client_leader(m->client));
    json_name(out, "term");
    json_number(out, (int64_t)client_term(m->client));
    json_name(out, "epoch");
    json_number(out, (int64_t)m->epoch);
    json_name(out, "revision");
    json_number(out, m->revision);
    json_name(out, "lag");
    json_number(out, m->wanted_revision > m->revision ? m->wanted_revision - m->revision : 0);
    json_name(out, "compacted");
    json_number(out, store_read_compacted(m->read));
    json_name(out, "echo_backlog");
    json_number(out, (int64_t)m->announce.count);
    json_name(out, "echo_lag_ms");
    json_number(out, oldest_ms != 0 ? (int64_t)(client_now_ms() - oldest_ms) : 0);
    json_name(out, "requests_waiting");
    json_number(out, (int64_t)count_parked(m) - 1); /* not this one */
    json_name(out, "node");
    if (node.len != 0)
        bytes_append(out, node);
    else
        bytes_raw(out, "null", 4);
    json_close(out, '}');
    bytes_u8(out, '\n');
    return 0;
}

/* node: what the barrier ended with; empty: it passed. */
static int health_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    if (node.len == 0)
        put(out, "ok\n");
    else
        put(out, "unavailable: %.*s\n", (int)node.len, node.data);
    return 0;
}

static int revision_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    put(out, "%" PRId64 "\n", m->revision);
    return 0;
}

/* ---- metrics ---- */

struct gauge {
    const char *name, *type, *help;
    uint64_t value;
};

static int metrics_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    const uint64_t oldest_ms = announce_oldest(&m->announce);
    const struct echo *e = &m->echo;
    const struct gauge gauges[] = {
        {"revision", "gauge", "revision that requests see", (uint64_t)m->revision},
        {"revision_lag", "gauge", "revisions that the node has beyond it",
         (uint64_t)(m->wanted_revision > m->revision ? m->wanted_revision - m->revision : 0)},
        {"epoch", "gauge", "of the node's store", m->epoch},
        {"connected", "gauge", "whether the node is there", client_connected(m->client)},
        {"has_leader", "gauge", "whether the node knows a leader", client_leader(m->client) != 0},
        {"requests_waiting", "gauge", "requests that are answered later", count_parked(m) - 1},
        {"inodes", "gauge", "nodes in the table", m->inodes.count},
        {"virtual_inodes", "gauge", "nodes below .quorumfs", m->virtual.nodes.count},
        {"event_streams", "gauge", "open events files", m->virtual.n_streams},
        {"write_buffer_bytes", "gauge", "written and not committed", m->buffers.used_bytes},
        {"write_buffer_max_bytes", "gauge", "its limit", m->buffers.max_bytes},
        {"read_copy_bytes", "gauge", "content held by open handles", m->content_bytes},
        {"echo_backlog", "gauge", "names that inotify's readers have yet to be told of", m->announce.count},
        {"echo_lag_ms", "gauge", "how long the longest waiting of them waits", oldest_ms != 0 ? client_now_ms() - oldest_ms : 0},
        {"echo_busy_ms", "gauge", "how long the helper has been at its command", e->busy ? client_now_ms() - e->started_ms : 0},
        {"echo_helper_up", "gauge", "whether the helper runs", e->pid > 0},
        {"echoes_total", "counter", "commands to the helper", m->echoes},
        {"echo_retries_total", "counter", "commands that have to be tried again", m->echo_retries},
        {"echo_lost_total", "counter", "names whose events were lost for want of room", m->overlay_lost},
        {"helper_restarts_total", "counter", "times that the helper was started again", e->restarted},
        {"locks_marked", "gauge", "owners of this mount that have locks of a file", m->locks.n_marks},
        {"locks_waiting", "gauge", "requests of this mount that wait for locks", m->locks.n_waiters},
        {"lock_grants_total", "counter", "locks granted to this mount", m->locks.grants},
        {"locks_lost_total", "counter", "locks lost with a lease", m->locks.lost},
        {"virtual_requests_total", "counter", "requests below .quorumfs", m->virtual.requests},
    };

    for (size_t g = 0; g < sizeof(gauges) / sizeof(gauges[0]); g++) {
        put(out, "# HELP quorumfs_mount_%s %s\n", gauges[g].name, gauges[g].help);
        put(out, "# TYPE quorumfs_mount_%s %s\n", gauges[g].name, gauges[g].type);
        put(out, "quorumfs_mount_%s %" PRIu64 "\n", gauges[g].name, gauges[g].value);
    }
    return 0;
}

/* ---- members ---- */

int virtual_hex(struct slice text, int64_t *ret_number)
{
    uint64_t n = 0;

    if (text.len == 0 || text.len > 16 || text.data[0] == '0')
        return -ENOENT;
    for (size_t i = 0; i < text.len; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, text.data[i]);

        if (at == NULL || *at == 0)
            return -ENOENT;
        n = n << 4 | (uint64_t)(at - digits);
    }
    *ret_number = (int64_t)n;
    return 0;
}

static int find_member(struct mount *m, struct arena *arena, uint64_t id, struct member_info *ret_member)
{
    struct member_info *members;
    size_t n;
    int rc = store_members(m->read, arena, &members, &n);

    for (size_t k = 0; rc == 0 && k < n; k++) {
        if (members[k].id == id) {
            *ret_member = members[k];
            return 0;
        }
    }
    return rc < 0 ? rc : -ENOENT;
}

static int member_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    const struct client_info *info = client_get_info(m->client);
    struct member_info member;
    struct arena arena;
    int rc;

    arena_init(&arena);
    rc = find_member(m, &arena, (uint64_t)i->number, &member);
    if (rc == 0) {
        json_open(out, '{');
        json_name(out, "id");
        json_hex(out, member.id);
        json_bytes(out, "name", member.name);
        json_name(out, "client_urls");
        json_open(out, '[');
        for (size_t u = 0; u < member.n_client_urls; u++)
            json_text(out, member.client_urls[u]);
        json_close(out, ']');
        json_name(out, "leader");
        json_bool(out, client_leader(m->client) == member.id);
        json_name(out, "here");
        json_bool(out, info != NULL && info->member_id == member.id);
        json_close(out, '}');
        bytes_u8(out, '\n');
    }
    arena_fini(&arena);
    return rc;
}

static const struct virtual_kind kind_member = {.mode = S_IFREG | 0444, .content = member_content, .asks = ASK_BARRIER};

static int members_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                          int64_t *ret_number)
{
    struct member_info member;
    struct arena arena;
    int rc = virtual_hex(name, ret_number);

    arena_init(&arena);
    if (rc == 0)
        rc = find_member(m, &arena, (uint64_t)*ret_number, &member);
    arena_fini(&arena);
    *ret_kind = &kind_member;
    return rc;
}

static int members_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct member_info *members;
    struct arena arena;
    size_t n = 0;
    int rc;

    arena_init(&arena);
    rc = store_members(m->read, &arena, &members, &n);
    for (size_t k = 0; rc == 0 && k < n; k++) {
        char name[32];
        struct view v;

        snprintf(name, sizeof(name), "%" PRIx64, members[k].id);
        virtual_view(dir, slice_from_str(name), &kind_member, &v);
        rc = emit(ctx, slice_from_str(name), &v);
    }
    arena_fini(&arena);
    return rc;
}

/* ---- the top ---- */

static const struct virtual_kind kind_status = {.mode = S_IFREG | 0444, .content = status_content, .asks = ASK_STATUS};
static const struct virtual_kind kind_health = {.mode = S_IFREG | 0444, .content = health_content, .asks = ASK_HEALTH};
static const struct virtual_kind kind_revision = {.mode = S_IFREG | 0444, .content = revision_content, .asks = ASK_BARRIER};
static const struct virtual_kind kind_metrics = {.mode = S_IFREG | 0444, .content = metrics_content};
static const struct virtual_kind kind_members = {.mode = S_IFDIR | 0555, .lookup = members_lookup, .list = members_list};

struct entry {
    const char *name;
    const struct virtual_kind *kind;
};

#define N_ENTRIES 10

static void get_entries(struct entry *entries)
{
    const struct entry all[N_ENTRIES] = {
        {"status", &kind_status},   {"health", &kind_health},
        {"revision", &kind_revision}, {"metrics", &kind_metrics},
        {"events", virtual_kind_events()}, {"rev", virtual_kind_rev()},
        {"history", virtual_kind_history()}, {"members", &kind_members},
        {"leases", virtual_kind_leases()}, {"locks", virtual_kind_locks()},
    };

    memcpy(entries, all, sizeof(all));
}

static int top_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                      int64_t *ret_number)
{
    const struct slice from = slice_from_str("events@");
    struct entry entries[N_ENTRIES];

    get_entries(entries);
    for (size_t i = 0; i < N_ENTRIES; i++) {
        if (slice_equal(name, slice_from_str(entries[i].name))) {
            *ret_kind = entries[i].kind;
            *ret_number = 0;
            return 0;
        }
    }
    *ret_kind = virtual_kind_events();
    return slice_has_prefix(name, from) ? virtual_number(slice_make(name.data + from.len, name.len - from.len), ret_number)
                                        : -ENOENT;
}

static int top_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct entry entries[N_ENTRIES];
    int rc = 0;

    get_entries(entries);
    for (size_t i = 0; rc == 0 && i < N_ENTRIES; i++) {
        struct view v;

        virtual_view(dir, slice_from_str(entries[i].name), entries[i].kind, &v);
        rc = emit(ctx, slice_from_str(entries[i].name), &v);
    }
    return rc;
}

const struct virtual_kind *virtual_top(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0555, .lookup = top_lookup, .list = top_list};

    return &kind;
}

const struct virtual_kind *virtual_kind_events(void)
{
    /* It names all keys, whatever the directories above them permit: for the mount's own user. */
    static const struct virtual_kind kind = {.mode = S_IFREG | 0400, .stream = true, .asks = ASK_BARRIER};

    return &kind;
}
