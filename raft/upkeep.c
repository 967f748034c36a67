/* upkeep.c - what the leader proposes without being asked: compactions, the quota that its flag names, and the cluster's
 * version, when every member's program knows it. Until then no member proposes what an older one would stop at.
 *
 * These are the leader's own commands, in its term or not at all (proposals_submit_own()): one that is lost with
 * leadership is the next leader's business. */
#include "raft/node_state.h"

#include <errno.h>

#include "base/url.h"

#define LOOK_MS 1000
#define QUOTA_DEFAULT_BYTES ((uint64_t)2 * 1024 * 1024 * 1024) /* etcd's */
#define QUOTA_NONE_BYTES ((uint64_t)INT64_MAX)
#define QUOTA_VERSION (0u << 16 | 2u) /* the cluster's, that knows the command */

int upkeep_init(struct node *n)
{
    return compactor_init(&n->upkeep.compactor, &n->config.compaction, node_now(n), n->revision);
}

void upkeep_fini(struct node *n)
{
    compactor_fini(&n->upkeep.compactor);
}

uint64_t upkeep_timeout_ms(const struct node *n)
{
    uint64_t at = n->upkeep.compactor.next_ms;

    return node_is_leader(n) && n->upkeep.look_ms < at ? n->upkeep.look_ms : at;
}

/* Its first entry is applied, so what it reads of its store is no older than its term. */
static bool leads(const struct node *n)
{
    return node_is_leader(n) && n->noop_term == core_term(n->core) && n->applied_index >= n->noop_index &&
           proposals_have_room(n);
}

static uint64_t wanted_quota(const struct node *n, uint64_t current_bytes)
{
    if (n->config.quota_bytes < 0)
        return QUOTA_NONE_BYTES;
    if (n->config.quota_bytes > 0)
        return (uint64_t)n->config.quota_bytes;
    return current_bytes != 0 ? current_bytes : QUOTA_DEFAULT_BYTES; /* not given: whatever the cluster has */
}

static int read_meta(struct node *n, struct store_meta *ret_meta)
{
    struct store_read *read = NULL;
    int rc = store_read_begin(n->store, &read);

    if (rc == 0)
        rc = store_read_meta(read, ret_meta);
    store_read_end(read);
    return rc;
}

static void settle_quota(struct node *n, const struct store_meta *meta)
{
    struct command cmd = {.kind = COMMAND_QUOTA_SET};
    uint64_t index;

    if (meta->cluster_version < QUOTA_VERSION)
        return; /* an older member would stop at this command */
    cmd.quota.bytes = wanted_quota(n, meta->quota_bytes);
    if (cmd.quota.bytes != meta->quota_bytes)
        proposals_submit_own(n, &cmd, 1, &index);
    n->upkeep.quota_term = core_term(n->core);
}

/* A member that is back to an older program says so when it is connected; what it published is told again without its
 * version, so that whoever leads next knows it too, connected or not. */
static void publish_older(struct node *n, uint64_t id)
{
    const struct member_known *k = members_known(n, id);
    struct slice urls[URL_LIST_MAX];
    struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH};
    const char *at;
    uint64_t index;

    if (k == NULL || k->version < APPLY_VERSION || !leads(n))
        return;
    cmd.member = (struct member_info){.id = id, .name = slice_from_str(k->name), .client_urls = urls, .instance = k->instance};
    at = k->client_urls;
    while (*at != '\0' && cmd.member.n_client_urls < URL_LIST_MAX) {
        size_t len = strcspn(at, ",");

        urls[cmd.member.n_client_urls++] = slice_make(at, len);
        at += len + (at[len] == ',');
    }
    proposals_submit_own(n, &cmd, 1, &index);
}

/* The version rises when every member can apply it. One that has neither published nor been connected has not run yet. */
static void settle_version(struct node *n, const struct store_meta *meta)
{
    struct core_member members[NODE_MAX_MEMBERS];
    size_t count = core_members(n->core, members, NODE_MAX_MEMBERS);
    struct command cmd = {.kind = COMMAND_CLUSTER_VERSION};
    uint32_t oldest = APPLY_VERSION, version;
    uint64_t index;
    bool all = true;

    n->upkeep.cluster_version = meta->cluster_version;
    n->upkeep.version_settled = meta->cluster_version >= APPLY_VERSION;
    if (n->upkeep.version_settled)
        return;
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++) {
        if (!members_version(n, members[i].id, &version)) {
            all = false;
            continue;
        }
        all &= members_known(n, members[i].id) != NULL;
        oldest = version < oldest ? version : oldest;
        if (version < APPLY_VERSION)
            publish_older(n, members[i].id);
    }
    cmd.cluster_version.version = oldest;
    if (all && oldest >= QUOTA_VERSION && oldest > meta->cluster_version && leads(n))
        proposals_submit_own(n, &cmd, 1, &index);
}

void upkeep_pump(struct node *n)
{
    uint64_t now = node_now(n), index;
    struct store_meta meta;
    int64_t revision;

    if (now >= n->upkeep.compactor.next_ms &&
        compactor_tick(&n->upkeep.compactor, now, n->revision, leads(n), &revision)) {
        struct command cmd = {.kind = COMMAND_COMPACT, .compact = {.revision = revision}};

        proposals_submit_own(n, &cmd, 1, &index);
    }
    if (now < n->upkeep.look_ms || n->failed)
        return;
    n->upkeep.look_ms = now + LOOK_MS;
    if (n->upkeep.version_settled && (n->upkeep.quota_term == core_term(n->core) || !leads(n)))
        return;
    if (read_meta(n, &meta) < 0)
        return;
    settle_version(n, &meta);
    if (n->upkeep.quota_term != core_term(n->core) && leads(n))
        settle_quota(n, &meta);
}
