/* member_known.c - what this member knows of the others from its store: what they published, who was removed. It decides who
 * is let in, and notices its own removal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/member.h"
#include "raft/node_state.h"

static void known_free(struct member_known *k)
{
    free(k->name);
    free(k->client_urls);
}

static void forget_known(struct node *n)
{
    for (size_t i = 0; i < n->members.n_known; i++)
        known_free(&n->members.known[i]);
    n->members.n_known = 0;
}


const struct member_known *members_known(const struct node *n, uint64_t id)
{
    for (size_t i = 0; i < n->members.n_known; i++)
        if (n->members.known[i].id == id)
            return &n->members.known[i];
    return NULL;
}

/* ---- what their programs are ---- */

/* Its place among the connected; NODE_MAX_MEMBERS: it has none. */
static size_t heard_place(const struct node *n, uint64_t id)
{
    size_t i = 0;

    while (i < NODE_MAX_MEMBERS && n->members.heard[i].id != id)
        i++;
    return i;
}

void node_peer_runs(struct node *n, uint64_t peer, uint32_t version)
{
    size_t i = heard_place(n, peer);

    if (i == NODE_MAX_MEMBERS) /* one that is free, or of who is no member any more */
        for (i = 0; i < NODE_MAX_MEMBERS && n->members.heard[i].id != 0 && core_is_member(n->core, n->members.heard[i].id);)
            i++;
    if (i == NODE_MAX_MEMBERS)
        return;
    n->members.heard[i] = (struct member_heard){peer, version};
    n->upkeep.look_ms = 0;
}

void members_disconnected(struct node *n, uint64_t peer)
{
    size_t i = heard_place(n, peer);

    if (i < NODE_MAX_MEMBERS)
        n->members.heard[i] = (struct member_heard){0};
}

bool members_version(const struct node *n, uint64_t id, uint32_t *ret_version)
{
    const struct member_known *k = members_known(n, id);
    size_t i = heard_place(n, id);

    if (i < NODE_MAX_MEMBERS)
        *ret_version = n->members.heard[i].version;
    else if (k != NULL)
        *ret_version = k->version;
    return i < NODE_MAX_MEMBERS || k != NULL;
}

bool members_is_older(const struct node *n, uint64_t id)
{
    uint32_t version;

    return !n->upkeep.version_settled && members_version(n, id, &version) && version < APPLY_VERSION;
}

bool members_any_older(const struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    size_t count;

    if (n->upkeep.version_settled)
        return false;
    count = core_members(n->core, members, NODE_MAX_MEMBERS);
    for (size_t i = 0; i < count && i < NODE_MAX_MEMBERS; i++)
        if (members_is_older(n, members[i].id))
            return true;
    return false;
}

/* ---- what they published ---- */

static char *join(const struct slice *items, size_t n)
{
    struct bytes b;
    size_t len;

    bytes_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            bytes_u8(&b, ',');
        bytes_append(&b, items[i]);
    }
    bytes_u8(&b, 0);
    return (char *)bytes_take(&b, &len);
}

static int learn(struct node *n, const struct member_info *m)
{
    struct member_known k = {.id = m->id, .instance = m->instance, .version = m->version};

    if (n->members.n_known == NODE_MAX_MEMBERS)
        return 0; /* rows of no member: nobody asks for them */
    k.name = m->name.len != 0 ? strndup((const char *)m->name.data, m->name.len) : strdup("");
    k.client_urls = join(m->client_urls, m->n_client_urls);
    if (k.name == NULL || k.client_urls == NULL) {
        known_free(&k);
        return -ENOMEM;
    }
    n->members.known[n->members.n_known++] = k;
    return 0;
}

static bool contains(const uint64_t *ids, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void forget_applied(struct node *n)
{
    for (size_t i = 0; i < n->members.n_applied; i++)
        free(n->members.applied_urls[i]);
    n->members.n_applied = 0;
}

static int keep_applied(struct node *n, const struct core_member *members, size_t count)
{
    forget_applied(n);
    for (size_t i = 0; i < count; i++) {
        n->members.applied[i] = members[i].id;
        n->members.applied_urls[i] = strdup(members[i].address);
        if (n->members.applied_urls[i] == NULL)
            return -ENOMEM;
        n->members.n_applied++;
    }
    n->members_version = UINT64_MAX; /* the transport's peers follow from both */
    return 0;
}

/* Who is a member by what is applied; those that were and are not any more are cut off. */
static int note_membership(struct node *n, const struct core_member *members, size_t count)
{
    uint64_t old[NODE_MAX_MEMBERS];
    size_t n_old = n->members.n_applied;
    int rc;

    memcpy(old, n->members.applied, sizeof old);
    rc = keep_applied(n, members, count);
    if (rc < 0 || !n->started)
        return rc;
    for (size_t i = 0; i < n_old; i++) {
        if (contains(n->members.applied, count, old[i]))
            continue;
        if (old[i] == n->config.id)
            node_removed(n, "this member was removed from the cluster; its data directory is of no use to it any more");
        else if (n->network.forget != NULL)
            n->network.forget(n->network.ctx, old[i]);
        if (old[i] == core_leader(n->core))
            node_leader_goes(n);
    }
    return 0;
}

void members_forget(struct node *n)
{
    forget_known(n);
    forget_applied(n);
}

int members_load(struct node *n)
{
    struct core_member members[NODE_MAX_MEMBERS];
    struct member_info *infos = NULL;
    struct store_read *read = NULL;
    struct store_meta meta;
    struct arena arena;
    size_t n_infos = 0, count = 0;
    int rc;

    arena_init(&arena);
    rc = store_read_begin(n->store, &read);
    if (rc == 0)
        rc = store_read_meta(read, &meta);
    if (rc == 0)
        rc = store_members(read, &arena, &infos, &n_infos);
    if (rc == 0 && meta.membership_index != 0 &&
        core_membership_read(meta.membership, members, NODE_MAX_MEMBERS, &count) < 0)
        rc = -EUCLEAN;
    forget_known(n);
    for (size_t i = 0; i < n_infos && rc == 0; i++)
        rc = learn(n, &infos[i]);
    if (rc == 0)
        rc = note_membership(n, members, count);
    store_read_end(read);
    arena_fini(&arena);
    return rc;
}

int members_is_removed(struct node *n, uint64_t id, bool *ret_removed)
{
    struct store_read *read = NULL;
    int rc = store_read_begin(n->store, &read);

    if (rc == 0)
        rc = store_member_removed(read, id, ret_removed);
    store_read_end(read);
    return rc;
}

bool node_lookup(struct node *n, const char *peer_urls, uint64_t *ret_id, bool *ret_ran)
{
    struct core_member members[NODE_MAX_MEMBERS];
    char urls[MEMBER_URLS_MAX_BYTES];
    struct store_read *read = NULL;
    struct store_meta meta;
    size_t count = 0;
    bool found = false;

    if (n->failed || !n->started || !member_urls_canonical(peer_urls, urls, sizeof urls))
        return false;
    if (store_read_begin(n->store, &read) == 0 && store_read_meta(read, &meta) == 0 &&
        core_membership_read(meta.membership, members, NODE_MAX_MEMBERS, &count) == 0)
        for (size_t i = 0; i < count && !found; i++) {
            const struct member_known *k = members_known(n, members[i].id);

            found = strcmp(members[i].address, urls) == 0;
            *ret_id = members[i].id;
            *ret_ran = k != NULL && k->name[0] != '\0';
        }
    store_read_end(read);
    return found;
}

/* ---- at the door ---- */

enum node_admission node_admits(struct node *n, uint64_t peer, uint64_t instance, char *ret_text, size_t text_size)
{
    const struct member_known *k;
    bool removed = false;

    if (n->failed || !n->started)
        return NODE_ADMIT; /* it will be closed anyway, or looked at again */
    if (members_is_removed(n, peer, &removed) == 0 && removed) {
        snprintf(ret_text, text_size, "member %016llx was removed from the cluster", (unsigned long long)peer);
        return NODE_REMOVED;
    }
    k = members_known(n, peer);
    if (k != NULL && k->instance != 0 && instance != 0 && k->instance != instance) {
        snprintf(ret_text, text_size,
                 "member %016llx had another data directory: with a new one it has forgotten its votes and what it "
                 "acknowledged. Remove it, and add it anew",
                 (unsigned long long)peer);
        return NODE_REPLACED;
    }
    return NODE_ADMIT;
}

void node_peer_refused(struct node *n, uint64_t peer, enum node_admission why, const char *text)
{
    if (n->failed || !n->started || why == NODE_ADMIT)
        return;
    node_removed(n, text);
    node_want_turn(n);
}
