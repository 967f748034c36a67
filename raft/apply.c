/* apply.c - committed and locally durable entries into the store: one job at a time, one transaction a job.
 *
 * The loop copies the entries into the job (a log slice lives only until the next truncation), the worker
 * applies them and encodes the answers that somebody may wait for, the loop hands those out and tells the
 * new revision: commit, then reply, then notify. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/command.h"

struct job_entry {
    uint64_t index, term;
    enum log_entry_type type;
    size_t offset, len; /* in payloads */
};

struct job_answer {
    uint64_t request;
    uint16_t status;
    int64_t revision;
    size_t offset, len; /* in bodies */
};

struct apply_job {
    struct work work;
    struct node *node;
    /* from the loop */
    struct store *store;
    uint64_t member_id;
    struct job_entry entries[NODE_APPLY_ENTRIES];
    size_t n_entries;
    struct bytes payloads;
    /* from the worker */
    struct arena entry_arena;   /* commands of one entry */
    struct arena command_arena; /* one command and its result */
    struct job_answer *answers;
    size_t n_answers, answers_cap;
    struct bytes bodies;
    struct lease_event *lease_events;
    size_t n_lease_events, lease_events_cap;
    int64_t revision; /* 0: nothing said one */
    bool more_removal; /* a compaction is not through yet */
    bool members_changed;
    int error;
    char text[256];
};

static struct apply_job *job_new(struct node *n)
{
    struct apply_job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return NULL;
    job->node = n;
    bytes_init(&job->payloads);
    bytes_init(&job->bodies);
    arena_init(&job->entry_arena);
    arena_init(&job->command_arena);
    return job;
}

int apply_init(struct node *n)
{
    n->job = job_new(n);
    return n->job != NULL ? 0 : -ENOMEM;
}

void apply_job_free(struct apply_job *job)
{
    if (job == NULL)
        return;
    bytes_fini(&job->payloads);
    bytes_fini(&job->bodies);
    arena_fini(&job->entry_arena);
    arena_fini(&job->command_arena);
    free(job->answers);
    free(job->lease_events);
    free(job);
}

void apply_fini(struct node *n)
{
    apply_job_free(n->job);
    n->job = NULL;
}

/* ---- in the worker ---- */

static int job_fail(struct apply_job *job, int error, uint64_t index, const char *what)
{
    snprintf(job->text, sizeof job->text, "entry %llu of the log cannot be applied: %s: %s",
             (unsigned long long)index, what, strerror(-error));
    return error;
}

static int add_answer(struct apply_job *job, const struct command *cmd, uint16_t status, int64_t revision,
                      size_t offset)
{
    if (cmd->origin != job->member_id)
        return 0;
    if (job->n_answers == job->answers_cap) {
        size_t cap = job->answers_cap == 0 ? 64 : job->answers_cap * 2;
        struct job_answer *p = realloc(job->answers, cap * sizeof *p);

        if (p == NULL)
            return -ENOMEM;
        job->answers = p;
        job->answers_cap = cap;
    }
    job->answers[job->n_answers++] = (struct job_answer){cmd->request, status, revision, offset, job->bodies.len - offset};
    return bytes_status(&job->bodies);
}

static int add_lease_event(struct apply_job *job, struct lease_event event)
{
    if (job->n_lease_events == job->lease_events_cap) {
        size_t cap = job->lease_events_cap == 0 ? 64 : job->lease_events_cap * 2;
        struct lease_event *p = realloc(job->lease_events, cap * sizeof *p);

        if (p == NULL)
            return -ENOMEM;
        job->lease_events = p;
        job->lease_events_cap = cap;
    }
    job->lease_events[job->n_lease_events++] = event;
    return 0;
}

/* What the lease clock must know of a command that took effect. */
static int note_leases(struct apply_job *job, uint64_t index, const struct command *cmd)
{
    int rc = 0;

    switch (cmd->kind) {
    case COMMAND_LEASE_GRANT:
        return add_lease_event(job, (struct lease_event){LEASE_GRANTED, cmd->lease.id, cmd->lease.ttl_s, index});
    case COMMAND_LEASE_REVOKE:
    case COMMAND_LEASE_EXPIRE:
        return add_lease_event(job, (struct lease_event){LEASE_GONE, cmd->lease.id, 0, index});
    case COMMAND_LEASE_CHECKPOINT:
        for (size_t i = 0; i < cmd->checkpoint.n_items && rc == 0; i++)
            rc = add_lease_event(job, (struct lease_event){LEASE_NOTED, cmd->checkpoint.items[i].id,
                                                           cmd->checkpoint.items[i].remaining_s, index});
        return rc;
    default:
        return 0;
    }
}

/* The command itself, and its answer where a session or a client of this node wants one. */
static int apply_fresh(struct apply_job *job, struct store_batch *b, const struct job_entry *e, uint32_t position,
                       const struct command *cmd)
{
    size_t offset = job->bodies.len;
    struct result result = {0};
    struct slice body;
    bool fresh = false;
    int rc = store_apply(b, e->index, e->term, position, cmd, &job->command_arena, &result, &fresh);

    if (rc < 0 || !fresh)
        return rc;
    job->revision = result.revision;
    if (result.status == STATUS_OK) {
        rc = note_leases(job, e->index, cmd);
        if (rc < 0)
            return rc;
    }
    job->members_changed |= cmd->kind == COMMAND_MEMBER_PUBLISH;
    if (cmd->session == 0 && cmd->origin != job->member_id)
        return 0;
    result_encode(&result, &job->bodies);
    if (bytes_status(&job->bodies) < 0)
        return -ENOMEM;
    body = slice_make(job->bodies.data + offset, job->bodies.len - offset);
    if (cmd->session != 0)
        rc = store_session_save(b, cmd->session, cmd->sequence, result.status, result.revision, body);
    if (rc == 0)
        rc = add_answer(job, cmd, result.status, result.revision, offset);
    if (cmd->origin != job->member_id)
        job->bodies.len = offset;
    return rc;
}

static int apply_command(struct apply_job *job, struct store_batch *b, const struct job_entry *e, uint32_t position,
                         struct slice encoded)
{
    const uint64_t index = e->index;
    size_t offset = job->bodies.len;
    struct command cmd;
    struct slice body = {0};
    uint16_t status = STATUS_OK;
    int64_t revision = 0;
    int found = 0;
    int rc;

    arena_reset(&job->command_arena);
    rc = command_decode(encoded, &job->command_arena, &cmd);
    if (rc == -ENOTSUP || (rc == 0 && cmd.min_version > APPLY_VERSION))
        return job_fail(job, -ENOTSUP, index, "it holds a command that this version does not know; upgrade this member");
    if (rc < 0)
        return job_fail(job, rc, index, "it holds bytes that are no command");
    if (cmd.session != 0) {
        rc = store_session_find(b, cmd.session, cmd.sequence, &found, &status, &revision, &body);
        if (rc < 0)
            return job_fail(job, rc, index, "the table of sessions");
    }
    if (found == 0) {
        rc = apply_fresh(job, b, e, position, &cmd);
    } else {
        bytes_append(&job->bodies, body);
        rc = add_answer(job, &cmd, status, revision, offset);
    }
    return rc < 0 ? job_fail(job, rc, index, "the store") : 0;
}

/* Who stood in the membership before and does not stand in this one is removed for good. */
static int apply_membership(struct apply_job *job, struct store_batch *b, uint64_t index, struct slice payload)
{
    struct core_member before[NODE_MAX_MEMBERS], after[NODE_MAX_MEMBERS];
    size_t n_before = 0, n_after = 0;
    struct slice old;
    int rc = core_membership_read(payload, after, NODE_MAX_MEMBERS, &n_after);

    job->members_changed = true;
    if (rc < 0)
        return rc;
    rc = store_batch_membership(b, &old);
    if (rc == 0)
        rc = core_membership_read(old, before, NODE_MAX_MEMBERS, &n_before);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    for (size_t i = n_before; i > 0; i--) /* the ids are read, the addresses are gone with the first write */
        for (size_t j = 0; j < n_after; j++)
            if (before[i - 1].id == after[j].id)
                before[i - 1].id = 0;
    rc = 0;
    for (size_t i = 0; i < n_before && rc == 0; i++)
        if (before[i].id != 0)
            rc = store_batch_remove_member(b, index, before[i].id);
    return rc == 0 ? store_batch_set_membership(b, index, payload) : rc;
}

static int apply_entry(struct apply_job *job, struct store_batch *b, const struct job_entry *e)
{
    struct slice payload = slice_make(job->payloads.data + e->offset, e->len);
    struct slice *commands;
    size_t count;
    int rc = 0;

    switch (e->type) {
    case LOG_ENTRY_COMMANDS:
        arena_reset(&job->entry_arena);
        rc = entry_decode(payload, &job->entry_arena, &commands, &count);
        if (rc < 0)
            return job_fail(job, rc, e->index, "its payload is no list of commands");
        for (size_t i = 0; i < count && rc == 0; i++)
            rc = apply_command(job, b, e, (uint32_t)i, commands[i]);
        break;
    case LOG_ENTRY_BARRIER:
        break;
    case LOG_ENTRY_MEMBERSHIP:
        rc = apply_membership(job, b, e->index, payload);
        break;
    default:
        rc = -ENOTSUP;
    }
    if (rc == 0)
        rc = store_batch_advance(b, e->index, e->term);
    if (rc < 0 && job->text[0] == '\0')
        return job_fail(job, rc, e->index, "the store");
    return rc;
}

static void run_entries(struct apply_job *job)
{
    struct store_batch *b;
    int rc = store_batch_begin(job->store, &b);

    if (rc == 0) {
        for (size_t i = 0; i < job->n_entries && rc == 0; i++)
            rc = apply_entry(job, b, &job->entries[i]);
        if (rc == 0)
            rc = store_batch_compact(b, 0, &job->more_removal);
        if (rc == 0)
            rc = store_batch_commit(b);
        else
            store_batch_abort(b);
    }
    if (rc < 0 && job->text[0] == '\0')
        job_fail(job, rc, job->entries[0].index, "the store's transaction");
    job->error = rc;
}

static void job_run(struct work *w)
{
    run_entries(LIST_ITEM(w, struct apply_job, work));
}

int apply_other_run(struct apply_job *job)
{
    if (job->n_entries > 0)
        run_entries(job);
    return job->error;
}

/* ---- on the loop ---- */

static void answer_all(struct node *n, struct apply_job *job)
{
    for (size_t i = 0; i < job->n_answers; i++) {
        const struct job_answer *a = &job->answers[i];

        proposals_answer(n, a->request, a->status, a->revision, slice_make(job->bodies.data + a->offset, a->len));
    }
}

/* One large command does not keep its memory for good. */
static void shrink(struct bytes *b)
{
    if (b->cap > 2 * NODE_APPLY_BYTES)
        bytes_fini(b);
}

static void job_finish(struct node *n)
{
    struct apply_job *job = n->job;
    const struct job_entry *last = &job->entries[job->n_entries - 1];
    bool news = job->revision > n->revision, term_rose = last->term > n->applied_term;
    int rc;

    n->apply_out = false;
    n->apply_took_ms = node_now(n) - n->apply_began_ms;
    if (n->failed)
        return;
    if (job->error == -ENOSPC) { /* nothing of it was applied: the same again when there is room */
        node_disk_full(n, DISK_FULL_FOR_STORE);
        return;
    }
    if (job->error < 0) {
        node_fail(n, job->error, "%s", job->text);
        return;
    }
    node_disk_room(n, DISK_FULL_FOR_STORE);
    checkpoints_applied(n, job->n_entries, job->payloads.len);
    n->applied_index = last->index;
    n->applied_term = last->term;
    n->removal.more = job->more_removal;
    if (news)
        n->revision = job->revision;
    leases_applied(n, job->lease_events, job->n_lease_events);
    if (job->members_changed && (rc = members_load(n)) < 0) {
        node_fail(n, rc, "the members cannot be read from the store: %s", strerror(-rc));
        return;
    }
    answer_all(n, job);
    shrink(&job->payloads);
    shrink(&job->bodies);
    if (term_rose)
        proposals_requeue(n, n->applied_term);
    if (news && n->callbacks.on_revision != NULL)
        n->callbacks.on_revision(n->callbacks.ctx, n->epoch, n->revision);
}

static void job_done(struct work *w)
{
    struct node *n = LIST_ITEM(w, struct apply_job, work)->node;

    job_finish(n);
    node_advance(n);
}

static int fill(struct node *n, struct apply_job *job, uint64_t index, uint64_t until)
{
    job->n_entries = job->n_answers = job->n_lease_events = 0;
    job->revision = 0;
    job->members_changed = false;
    job->error = 0;
    job->text[0] = '\0';
    bytes_reset(&job->payloads);
    bytes_reset(&job->bodies);
    while (index <= until && job->n_entries < NODE_APPLY_ENTRIES && job->payloads.len < NODE_APPLY_BYTES) {
        struct job_entry *to = &job->entries[job->n_entries];
        struct log_entry e;
        int rc = log_get(n->log, index, &n->send_arena, &e);

        if (rc < 0)
            return rc;
        if (job->n_entries > 0 && job->payloads.len + e.payload.len > NODE_APPLY_BYTES)
            break;
        *to = (struct job_entry){e.index, e.term, e.type, job->payloads.len, e.payload.len};
        bytes_append(&job->payloads, e.payload);
        arena_reset(&n->send_arena);
        job->n_entries++;
        index++;
    }
    arena_reset(&n->send_arena);
    return bytes_status(&job->payloads);
}

int apply_other_new(struct node *n, struct apply_job **ret_job)
{
    *ret_job = job_new(n);
    return *ret_job != NULL ? 0 : -ENOMEM;
}

int apply_other_fill(struct node *n, struct apply_job *job, struct store *to, uint64_t from, uint64_t *ret_last)
{
    int rc = fill(n, job, from + 1, n->applied_index);

    job->store = to;
    job->member_id = 0; /* no command's origin */
    if (rc == 0)
        *ret_last = from + job->n_entries;
    return rc;
}

/* Only what this node's own log holds durably, so that the store is never ahead of it. */
static uint64_t applicable(const struct node *n)
{
    uint64_t commit = core_commit(n->core), synced = log_synced_index(n->log);

    return commit < synced ? commit : synced;
}

bool apply_pump(struct node *n)
{
    struct apply_job *job = n->job;
    bool in_line;
    int rc;

    if (n->apply_out || n->apply_held || n->snapshots.replacing || n->failed || node_now(n) < n->disk_full_ms ||
        applicable(n) <= n->applied_index)
        return false;
    rc = fill(n, job, n->applied_index + 1, applicable(n));
    if (rc < 0) {
        node_fail(n, rc, "the log cannot be read: %s", strerror(-rc));
        return false;
    }
    job->store = n->store;
    job->member_id = n->config.id;
    job->work.run = job_run;
    job->work.done = job_done;
    in_line = job->payloads.len <= NODE_INLINE_BYTES && n->apply_took_ms <= NODE_INLINE_MS &&
              n->proposals.count <= 1 && job->n_entries <= NODE_INLINE_ENTRIES && n->workers.idle(n->workers.ctx, WORK_APPLY);
    n->apply_out = true;
    n->apply_began_ms = node_now(n);
    if (!in_line) {
        n->workers.submit(n->workers.ctx, WORK_APPLY, &job->work);
        return false;
    }
    n->network.push_out(n->network.ctx);
    job_run(&job->work);
    job_finish(n);
    return true;
}
