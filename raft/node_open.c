/* node_open.c - a node's beginning and end: log and store are opened and compared, a new cluster is begun. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int copy_config(struct node *n, const struct node_config *config)
{
    n->config = *config;
    n->name = strdup(config->name != NULL ? config->name : "");
    n->store_dir = strdup(config->store_dir);
    if (n->name == NULL || n->store_dir == NULL)
        return -ENOMEM;
    n->config.name = n->name;
    n->config.store_dir = n->store_dir;
    n->config.members = NULL;
    if (n->config.data_id == 0)
        n->config.data_id = config->cluster_id;
    if (n->config.max_learners == 0)
        n->config.max_learners = 1;
    if (n->config.proposal_timeout_ms == 0)
        n->config.proposal_timeout_ms = 5000 + 2 * config->election_ms;
    if (config->n_members > NODE_MAX_MEMBERS)
        return -EINVAL;
    for (size_t i = 0; i < config->n_members; i++) {
        n->names[i].id = config->members[i].id;
        n->names[i].name = strdup(config->members[i].name != NULL ? config->members[i].name : "");
        if (n->names[i].name == NULL)
            return -ENOMEM;
        n->n_names++;
    }
    return 0;
}

static int compare_members(const void *a, const void *b)
{
    const struct core_member *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* The first entry, the same bytes on every member: the membership that all of them were told. */
static int bootstrap(struct node *n, const struct node_config *config, char *text, size_t text_size)
{
    struct core_member members[NODE_MAX_MEMBERS];
    struct log_entry e = {.index = 1, .term = 1, .type = LOG_ENTRY_MEMBERSHIP};
    struct bytes payload;
    uint64_t synced = 0;
    int rc;

    if (config->n_members == 0) {
        snprintf(text, text_size, "the data directory is new and no members of a cluster were given");
        return -EINVAL;
    }
    for (size_t i = 0; i < config->n_members; i++)
        members[i] = (struct core_member){config->members[i].id, config->members[i].peer_url, config->members[i].voter, false};
    qsort(members, config->n_members, sizeof members[0], compare_members);
    bytes_init(&payload);
    rc = core_membership_encode(members, config->n_members, &payload);
    if (rc == -EINVAL)
        snprintf(text, text_size, "two members have one id or one peer URL");
    if (rc == 0)
        rc = log_set_hard_state(n->log, (struct log_hard_state){.term = 1});
    e.payload = bytes_slice(&payload);
    if (rc == 0)
        rc = log_append(n->log, &e, 1);
    if (rc == 0)
        rc = log_flush(n->log, &synced);
    if (rc == 0 && log_flushed(n->log, synced) != 1)
        rc = -EIO;
    bytes_fini(&payload);
    return rc;
}

/* An environment that was made from a checkpoint and has applied nothing since may be ahead of the log, or beside it: the
 * checkpoint came from another member, and the machine went down before the log was begun anew behind it. */
static int reset_log(struct node *n, const struct store_meta *meta)
{
    struct log_hard_state hs = log_hard_state(n->log);
    uint64_t synced = 0;
    int rc = 0;

    if (meta->restored && hs.term < meta->applied_term)
        rc = log_set_hard_state(n->log, (struct log_hard_state){.term = meta->applied_term});
    if (rc == 0)
        rc = log_reset(n->log, meta->applied_index, meta->applied_term);
    if (rc == 0)
        rc = log_flush(n->log, &synced);
    if (rc == 0)
        log_flushed(n->log, synced);
    return rc;
}

static bool may_reset_log(struct node *n, const struct store_meta *meta)
{
    struct log_hard_state hs = log_hard_state(n->log);

    if (meta->begun_index == 0 || meta->begun_index != meta->applied_index)
        return false;
    if (meta->restored) /* by an operator, without a log */
        return log_last_index(n->log) == 0 && hs.term == 0;
    return hs.term >= meta->applied_term;
}

/* What the store has applied must stand in the log: this node applies only what its log has made durable. */
static int compare_log_and_store(struct node *n, const struct store_meta *meta, char *text, size_t text_size)
{
    uint64_t first = log_first_index(n->log), last = log_last_index(n->log);
    uint64_t term = n->applied_index >= first ? log_term_at(n->log, n->applied_index) : n->applied_term;

    if (n->applied_index <= last && n->applied_index + 1 >= first &&
        (n->applied_index == 0 || term == n->applied_term) && log_hard_state(n->log).term >= n->applied_term)
        return 0;
    if (may_reset_log(n, meta)) {
        int rc = reset_log(n, meta);

        if (rc < 0)
            snprintf(text, text_size, "the raft log cannot be begun behind the checkpoint: %s", strerror(-rc));
        return rc;
    }
    snprintf(text, text_size,
             "log and store do not fit: the store has applied entry %llu of term %llu, the log holds %llu to %llu "
             "(entry of that index: term %llu). Has a part of the data directory been replaced or lost? This "
             "member may have forgotten what it acknowledged: it must not go on, nor begin with an empty directory",
             (unsigned long long)n->applied_index, (unsigned long long)n->applied_term, (unsigned long long)first,
             (unsigned long long)last, (unsigned long long)term);
    return -EUCLEAN;
}

static int read_membership(struct node *n, uint64_t index, struct core_member *members, size_t *ret_count)
{
    struct log_entry e;
    int rc;

    arena_reset(&n->arena);
    rc = log_get(n->log, index, &n->arena, &e);
    if (rc < 0 || e.type != LOG_ENTRY_MEMBERSHIP)
        return rc < 0 ? rc : -ENOENT;
    return core_membership_read(e.payload, members, NODE_MAX_MEMBERS, ret_count);
}

/* The members as the log has them last, or as they are applied. */
static int newest_membership(struct node *n, const struct store_meta *meta, struct core_member *members, size_t *ret_count)
{
    for (uint64_t i = log_last_index(n->log); i >= log_first_index(n->log) && i > meta->applied_index; i--) {
        int rc = read_membership(n, i, members, ret_count);

        if (rc != -ENOENT)
            return rc;
    }
    return core_membership_read(meta->membership, members, NODE_MAX_MEMBERS, ret_count);
}

/* The others are lost for good. What this member's log holds becomes the truth, whether it was committed or not. */
static int stand_alone(struct node *n, char *text, size_t text_size)
{
    struct core_member members[NODE_MAX_MEMBERS];
    char address[PEER_URLS_MAX_BYTES + 1];
    struct log_entry e = {.type = LOG_ENTRY_MEMBERSHIP};
    struct store_read *read = NULL;
    struct store_meta meta;
    struct bytes payload;
    uint64_t synced = 0;
    size_t count = 0, own = 0;
    int rc = store_read_begin(n->store, &read);

    bytes_init(&payload);
    if (rc == 0)
        rc = store_read_meta(read, &meta);
    if (rc == 0)
        rc = newest_membership(n, &meta, members, &count);
    while (rc == 0 && own < count && members[own].id != n->config.id)
        own++;
    if (rc == 0 && own == count)
        rc = -EIDRM;
    if (rc == 0 && count == 1 && members[0].voter)
        goto done; /* it is so already: a restart with the same flag */
    if (rc == 0) {
        snprintf(address, sizeof address, "%s", members[own].address);
        members[0] = (struct core_member){n->config.id, address, true, false};
        rc = core_membership_encode(members, 1, &payload);
    }
    e.index = log_last_index(n->log) + 1;
    e.term = log_hard_state(n->log).term + 1;
    e.payload = bytes_slice(&payload);
    if (rc == 0)
        rc = log_set_hard_state(n->log, (struct log_hard_state){e.term, n->config.id});
    if (rc == 0)
        rc = log_append(n->log, &e, 1);
    if (rc == 0)
        rc = log_flush(n->log, &synced);
    if (rc == 0)
        log_flushed(n->log, synced);
    if (rc == 0 && n->config.logger != NULL)
        log_warn(n->config.logger, "this member alone is the cluster from now on; what the others had is given up");
done:
    if (rc < 0)
        snprintf(text, text_size, "--force-new-cluster: the membership cannot be written: %s", strerror(-rc));
    store_read_end(read);
    bytes_fini(&payload);
    arena_reset(&n->arena);
    return rc;
}

static int open_store(struct node *n, const struct node_config *config, char *text, size_t text_size)
{
    struct store_options options = {
        .flags = STORE_WRITER | config->store_flags,
        .map_bytes = config->store_map_bytes,
        .cluster_id = n->config.data_id,
        .log_first = log_first_index(n->log),
    };
    int rc = store_open(n->store_dir, &options, &n->store);

    if (rc == -ENODATA)
        snprintf(text, text_size,
                 "the key space in %s did not survive, and there is no whole checkpoint that the log (from entry %llu) goes "
                 "on from. Put a checkpoint file of this member back there, or remove the member, delete its data "
                 "directory and add it again: it gets everything from the others; if it was the only one: quorumctl "
                 "snapshot restore", n->store_dir, (unsigned long long)options.log_first);
    else if (rc < 0)
        snprintf(text, text_size, "the store in %s cannot be opened: %s", n->store_dir,
                 rc == -EXDEV ? "it belongs to another cluster" :
                 rc == -EPROTONOSUPPORT ? "its format is newer than this program" :
                 rc == -ENOSPC ? "the disk has no room to make it again from its checkpoint" : strerror(-rc));
    if (rc < 0 || config->logger == NULL)
        return rc;
    if (store_origin(n->store) == STORE_FROM_CHECKPOINT)
        log_warn(config->logger, "the key space did not survive, it is made again from a checkpoint and the log");
    else if (store_origin(n->store) == STORE_FROM_LOG)
        log_warn(config->logger, "the key space did not survive, it is made again from the log");
    return 0;
}

/* Where the store is; and the log's begin or end where one of the two is missing. */
static int read_store(struct node *n, const struct node_config *config, char *text, size_t text_size)
{
    struct log_hard_state hs = log_hard_state(n->log);
    struct store_read *read = NULL;
    struct store_meta meta;
    bool removed = false;
    int rc = store_read_begin(n->store, &read);

    if (rc == 0)
        rc = store_read_meta(read, &meta);
    if (rc == 0) {
        n->applied_index = meta.applied_index;
        n->applied_term = meta.applied_term;
        n->epoch = meta.epoch;
        n->revision = meta.revision;
        n->removal.more = meta.compacted > 0 && meta.removal.main <= meta.compacted;
        rc = members_load(n);
    }
    if (rc == 0)
        rc = members_is_removed(n, n->config.id, &removed);
    if (rc < 0)
        snprintf(text, text_size, "the store in %s cannot be read: %s", n->store_dir, strerror(-rc));
    store_read_end(read);
    if (rc == 0 && removed) {
        snprintf(text, text_size, "this member was removed from the cluster; its data directory is of no use to it any more");
        rc = -EIDRM;
    }
    if (rc < 0)
        return rc;
    if (config->joined && log_last_index(n->log) == 0 && n->applied_index == 0)
        return 0; /* the leader fills it */
    if (log_last_index(n->log) == 0 && n->applied_index == 0 && hs.term <= 1 && hs.voted_for == 0) {
        rc = bootstrap(n, config, text, text_size);
        if (rc < 0 && text[0] == '\0')
            snprintf(text, text_size, "the raft log cannot be begun: %s", strerror(-rc));
        return rc;
    }
    return compare_log_and_store(n, &meta, text, text_size);
}

static int open_log(struct node *n, const struct node_config *config, char *text, size_t text_size)
{
    struct log_options options = {
        .segment_bytes = config->log_segment_bytes,
        .cache_bytes = config->log_cache_bytes,
        .cluster_id = n->config.data_id,
    };
    int rc = log_open(&n->disk, "raft", &options, &n->log, text, text_size);

    if (rc < 0 && text[0] == '\0')
        snprintf(text, text_size, "the raft log cannot be opened: %s",
                 rc == -EXDEV ? "it belongs to another cluster" : strerror(-rc));
    return rc;
}

int node_open(const struct node_config *config, const struct disk *disk, const struct clock *clock,
              const struct network *network, const struct workers *workers, const struct node_callbacks *callbacks,
              struct node **ret_node, char *ret_text, size_t text_size)
{
    struct core_options core_options = {
        .id = config->id, .heartbeat_ms = config->heartbeat_ms, .election_ms = config->election_ms, .ready = node_ready};
    struct node *n;
    int rc;

    ret_text[0] = '\0';
    rc = core_check_version(ret_text, text_size);
    if (rc < 0)
        return rc;
    n = calloc(1, sizeof *n);
    if (n == NULL)
        return -ENOMEM;
    n->disk = *disk;
    n->clock = *clock;
    n->network = *network;
    n->workers = *workers;
    n->callbacks = *callbacks;
    arena_init(&n->arena);
    arena_init(&n->send_arena);
    bytes_init(&n->frame);
    reads_init(n);
    leases_init(n);
    services_init(n);
    readers_init(n);
    members_init(n);
    n->send_entries = calloc(APPEND_MAX_ENTRIES, sizeof *n->send_entries);
    rc = proposals_init(n);
    if (rc == 0)
        rc = apply_init(n);
    if (rc == 0)
        rc = checkpoints_init(n);
    if (rc == 0 && n->send_entries == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = copy_config(n, config);
    if (rc == 0)
        rc = snapshots_init(n);
    if (rc == 0)
        rc = open_log(n, config, ret_text, text_size);
    if (rc == 0)
        rc = open_store(n, config, ret_text, text_size);
    if (rc == 0)
        rc = read_store(n, config, ret_text, text_size);
    if (rc == 0 && config->alone)
        rc = stand_alone(n, ret_text, text_size);
    if (rc == 0)
        rc = leases_load(n);
    if (rc == 0)
        rc = upkeep_init(n);
    if (rc == 0)
        rc = checkpoints_start(n);
    core_options.ctx = n;
    core_options.seed = clock->random(clock->ctx);
    if (rc == 0)
        rc = core_new(&core_options, &n->core);
    if (rc < 0) {
        if (ret_text[0] == '\0')
            snprintf(ret_text, text_size, "%s", strerror(-rc));
        node_close(n);
        return rc;
    }
    *ret_node = n;
    return 0;
}

static int start_entry(void *ctx, uint64_t index, struct log_entry *ret_entry)
{
    struct node *n = ctx;

    arena_reset(&n->arena);
    return log_get(n->log, index, &n->arena, ret_entry);
}

int node_start(struct node *n)
{
    struct core_start start = {
        .hard_state = log_hard_state(n->log),
        .first_index = log_first_index(n->log),
        .last_index = log_last_index(n->log),
        .base_index = n->applied_index,
        .base_term = n->applied_term,
        .entry = start_entry,
        .ctx = n,
    };
    struct store_read *read = NULL;
    struct store_meta meta;
    int rc = store_read_begin(n->store, &read);

    if (rc == 0)
        rc = store_read_meta(read, &meta);
    if (rc == 0) {
        start.membership_index = meta.membership_index;
        start.membership = meta.membership;
        n->no_leader_since_ms = node_now(n);
        rc = core_start(n->core, node_now(n), &start);
        if (rc < 0)
            node_fail(n, rc, "%s", core_error(n->core));
    }
    store_read_end(read);
    arena_reset(&n->arena);
    if (rc < 0)
        return rc;
    n->started = true;
    node_advance(n);
    return 0;
}

void node_close(struct node *n)
{
    if (n == NULL)
        return;
    n->failed = true; /* callbacks may ask for more: nothing happens any more */
    proposals_fini(n, STATUS_STOPPED);
    reads_fini(n, STATUS_STOPPED);
    leases_fini(n, STATUS_STOPPED);
    upkeep_fini(n);
    services_fini(n, STATUS_STOPPED);
    members_fini(n, STATUS_STOPPED);
    checkpoints_fini(n);
    members_forget(n);
    snapshots_fini(n);
    apply_fini(n);
    core_free(n->core);
    if (n->log != NULL)
        log_close(n->log);
    store_close(n->store);
    for (size_t i = 0; i < n->n_names; i++)
        free(n->names[i].name);
    free(n->name);
    free(n->store_dir);
    free(n->send_entries);
    bytes_fini(&n->frame);
    arena_fini(&n->arena);
    arena_fini(&n->send_arena);
    free(n);
}
