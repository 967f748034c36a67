#include "store/apply.h"

#include <errno.h>
#include <sys/stat.h>

#include "store/alarm.h"
#include "store/compact.h"
#include "store/lease.h"
#include "store/lock.h"
#include "store/member.h"
#include "store/usage.h"
#include "store/xattr.h"

/* ---- rows ---- */

/* The history to go on from when the key has no live row. A tombstone below the compacted revision counts as
 * absent, whether this node has removed it yet or not: nodes must not differ by timing. */
static int dead_chain(struct apply *a, struct slice key, struct chain *ret_chain)
{
    struct tree gone = snap_gone(a->snap);
    struct slice row;
    int rc = tree_get(&gone, key, &row);

    *ret_chain = (struct chain){0};
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = gone_row_decode(row, ret_chain);
    if (rc < 0)
        return rc;
    if (ret_chain->last.main < a->snap->state.compacted)
        *ret_chain = (struct chain){0};
    return tree_del(&gone, key);
}

/* Adds a row at rev to a history: what the row links to, and where the history stands then. */
static void extend_chain(struct chain *chain, struct rev rev, struct log_row *row)
{
    uint64_t step = SKIP_STEP;

    row->event.prev = chain->last;
    row->event.rev = rev;
    chain->last = rev;
    chain->depth++;
    for (unsigned i = 0; i < SKIP_LEVELS && chain->depth % step == 0; i++, step *= SKIP_STEP) {
        row->skip[i] = i < chain->n_skip ? chain->skip[i] : (struct rev){0, 0};
        row->n_skip = i + 1;
        chain->skip[i] = rev;
        if (chain->n_skip < i + 1)
            chain->n_skip = i + 1;
    }
}

static void stamp_event(const struct apply *a, enum event_kind kind, uint32_t flags, struct slice key,
                        struct event *e)
{
    e->kind = kind;
    e->flags = flags;
    e->key = key;
    e->time_ns = a->cmd->time_ns;
    e->session = a->cmd->session;
    e->sequence = a->cmd->sequence;
    e->origin = a->cmd->origin;
}

static int append_row(struct apply *a, const struct log_row *row, struct slice value)
{
    const bool own = rev_cmp(row->value_rev, row->event.rev) == 0;
    int rc = eventlog_append(a->snap, row, value, &a->b->scratch);

    usage_log(&a->snap->state.usage, row->event.key.len, own ? row->event.value_len : 0);
    a->next.sub++;
    return rc;
}

static int put_node(struct apply *a, struct tree tree, struct slice key, const struct node *n)
{
    bytes_reset(&a->b->scratch);
    node_row_encode(n, &a->b->scratch);
    if (bytes_status(&a->b->scratch) < 0)
        return bytes_status(&a->b->scratch);
    return tree_put(&tree, key, bytes_slice(&a->b->scratch), &a->snap->state.next_layer);
}

/* Another node takes the name of one that goes with that. */
static int forget_replaced(struct apply *a, const struct node *before, const struct node *after)
{
    return a->exchanges || view_ino(before) == view_ino(after) ? 0 : xattr_forget(a, view_ino(before));
}

int apply_key_put(struct apply *a, struct slice key, const struct node *prev, const struct change *change)
{
    const bool refers = change->value_rev.main != 0;
    struct node node = {
        .create = prev != NULL ? prev->create : a->next,
        .version = prev != NULL ? prev->version + 1 : 1,
        .lease = change->lease,
        .time_ns = a->cmd->time_ns,
        .attrs = change->attrs,
        .value_len = change->value_len,
        .value_rev = refers ? change->value_rev : a->next,
        .is_inline = change->value_len <= INLINE_VALUE_MAX_BYTES,
    };
    struct log_row row = {.value_rev = node.value_rev};
    int rc = 0;

    if (prev != NULL)
        node.chain = prev->chain;
    else
        rc = dead_chain(a, key, &node.chain);
    if (rc < 0)
        return rc;
    if (node.is_inline)
        node.value = change->value;
    stamp_event(a, change->kind, change->flags | (prev == NULL ? EVENT_CREATED : 0), key, &row.event);
    row.event.create = node.create;
    row.event.version = node.version;
    row.event.lease = node.lease;
    row.event.attrs = node.attrs;
    row.event.value_len = node.value_len;
    extend_chain(&node.chain, a->next, &row);
    rc = append_row(a, &row, change->value);
    if (prev != NULL)
        usage_key(&a->snap->state.usage, -1, key.len, prev);
    usage_key(&a->snap->state.usage, 1, key.len, &node);
    if (rc == 0)
        rc = lease_note(a, key, prev, &node);
    if (rc == 0 && prev != NULL)
        rc = forget_replaced(a, prev, &node);
    return rc == 0 ? put_node(a, snap_keys(a->snap), key, &node) : rc;
}

int apply_key_delete(struct apply *a, struct slice key, const struct node *prev, uint32_t flags)
{
    struct tree keys = snap_keys(a->snap), gone = snap_gone(a->snap);
    struct chain chain = prev->chain;
    struct log_row row = {.value_rev = a->next};
    int rc;

    stamp_event(a, EVENT_DELETE, flags, key, &row.event);
    row.event.create = prev->create;
    extend_chain(&chain, a->next, &row);
    rc = append_row(a, &row, slice_make(NULL, 0));
    usage_key(&a->snap->state.usage, -1, key.len, prev);
    if (rc == 0)
        rc = lease_note(a, key, prev, NULL);
    if (rc == 0 && (flags & EVENT_OF_RENAME) == 0)
        rc = xattr_forget(a, view_ino(prev));
    if (rc == 0)
        rc = tree_del(&keys, key);
    if (rc < 0)
        return rc;
    bytes_reset(&a->b->scratch);
    gone_row_encode(&chain, &a->b->scratch);
    if (bytes_status(&a->b->scratch) < 0)
        return bytes_status(&a->b->scratch);
    return tree_put(&gone, key, bytes_slice(&a->b->scratch), &a->snap->state.next_layer);
}

/* A directory's history is the chain of its rows while it exists; it has no versions to read. */
static struct log_row dir_row(struct apply *a, enum event_kind kind, uint32_t flags, struct slice path,
                              const struct node *prev)
{
    struct log_row row = {.value_rev = a->next};

    stamp_event(a, kind, flags, path, &row.event);
    row.event.rev = a->next;
    if (prev != NULL)
        row.event.prev = prev->chain.last;
    row.event.create = prev != NULL ? prev->create : a->next;
    return row;
}

int apply_dir_put(struct apply *a, struct slice path, const struct node *prev, const struct attrs *attrs,
                  uint32_t flags)
{
    struct log_row row = dir_row(a, EVENT_DIR_PUT, flags, path, prev);
    struct node node = {
        .create = row.event.create,
        .chain.last = a->next,
        .version = prev != NULL ? prev->version + 1 : 1,
        .time_ns = a->cmd->time_ns,
        .attrs = *attrs,
        .value_rev = a->next,
    };
    int rc;

    row.event.version = node.version;
    row.event.attrs = *attrs;
    if (prev == NULL)
        usage_dir(&a->snap->state.usage, 1, path.len);
    rc = append_row(a, &row, slice_make(NULL, 0));
    if (rc == 0 && prev != NULL)
        rc = forget_replaced(a, prev, &node);
    return rc == 0 ? put_node(a, snap_dirs(a->snap), path, &node) : rc;
}

int apply_dir_delete(struct apply *a, struct slice path, const struct node *prev, uint32_t flags)
{
    struct tree dirs = snap_dirs(a->snap);
    struct log_row row = dir_row(a, EVENT_DIR_DELETE, flags, path, prev);
    int rc = append_row(a, &row, slice_make(NULL, 0));

    usage_dir(&a->snap->state.usage, -1, path.len);
    if (rc == 0 && (flags & EVENT_OF_RENAME) == 0)
        rc = xattr_forget(a, view_ino(prev));
    return rc == 0 ? tree_del(&dirs, path) : rc;
}

int apply_rename_header(struct apply *a, struct slice from, struct slice to, uint32_t flags)
{
    struct log_row row = {.value_rev = a->next};

    stamp_event(a, EVENT_RENAME, flags, from, &row.event);
    row.event.rev = a->next;
    row.event.value_len = to.len;
    return append_row(a, &row, to);
}

int apply_append(struct apply *a, struct log_row *row, struct slice key, struct slice value)
{
    stamp_event(a, row->event.kind, row->event.flags, key, &row->event);
    return append_row(a, row, value);
}

int apply_keep_value(struct apply *a, const struct node *prev, struct change *change)
{
    change->value_len = prev->value_len;
    change->value = slice_make(NULL, 0);
    change->value_rev = prev->value_len >= SHARED_VALUE_MIN_BYTES ? prev->value_rev : (struct rev){0, 0};
    if (prev->value_len > INLINE_VALUE_MAX_BYTES)
        return 0;
    return range_value(a->snap, prev, a->arena, &change->value);
}

/* ---- put and delete ---- */

/* clientv3 wrote over a file: its owner and mode stay; over a symbolic link, FIFO or socket: a new regular file,
 * which must not share the old node's identity, since a node never changes its type. */
static struct attrs attrs_after_put(const struct apply *a, const struct node *prev)
{
    struct attrs attrs = prev->attrs;

    if (attrs.has == 0)
        return attrs;
    if ((attrs.has & ATTR_MODE) != 0 && (attrs.mode & S_IFMT) != S_IFREG && (attrs.mode & S_IFMT) != 0) {
        attrs.mode = S_IFREG | 0644;
        attrs.has |= ATTR_INO;
        attrs.ino = view_derived_ino(a->next);
    }
    attrs.has |= ATTR_MTIME;
    attrs.mtime_ns = a->cmd->time_ns;
    return attrs;
}

uint16_t apply_check_put_shape(const struct op_put *op)
{
    if (op->key.len == 0)
        return STATUS_EMPTY_KEY;
    if (op->key.len > KEY_MAX_BYTES || op->value.len > FILE_MAX_BYTES)
        return STATUS_TOO_LARGE;
    if (op->ignore_value && op->value.len != 0)
        return STATUS_VALUE_PROVIDED;
    if (op->ignore_lease && op->lease != 0)
        return STATUS_LEASE_PROVIDED;
    return STATUS_OK;
}

int apply_check_put(struct apply *a, const struct op_put *op, uint16_t *ret_status)
{
    struct node node;
    int rc;

    *ret_status = apply_check_put_shape(op);
    if (*ret_status != STATUS_OK)
        return 0;
    if (op->ignore_value || op->ignore_lease) {
        rc = range_get(a->snap, op->key, &node);
        if (rc == -ENOENT)
            *ret_status = STATUS_KEY_NOT_FOUND;
        else if (rc < 0)
            return rc;
    }
    if (*ret_status == STATUS_OK && op->lease != 0)
        return lease_check(a->snap, op->lease, ret_status);
    return 0;
}

static int keep_prev_kv(struct apply *a, struct slice key, const struct node *prev, struct kv **ret_kv)
{
    struct kv *kv = arena_alloc(a->arena, sizeof(*kv));
    int rc;

    if (kv == NULL)
        return -ENOMEM;
    rc = range_kv(a->snap, key, prev, true, a->arena, kv);
    if (rc == 0)
        *ret_kv = kv;
    return rc;
}

int apply_put(struct apply *a, const struct op_put *op, struct op_result *ret_result)
{
    struct change change = {.kind = EVENT_PUT, .lease = op->lease};
    struct op_result result = {.kind = OP_PUT};
    struct node prev;
    int rc = range_get(a->snap, op->key, &prev);
    const bool exists = rc == 0;

    if (rc < 0 && rc != -ENOENT)
        return rc;
    rc = 0;
    if (exists && op->prev_kv)
        rc = keep_prev_kv(a, op->key, &prev, &result.put.prev_kv);
    if (rc == 0 && exists && op->ignore_value) {
        rc = apply_keep_value(a, &prev, &change);
    } else {
        change.value = op->value;
        change.value_len = op->value.len;
    }
    if (exists) {
        change.attrs = attrs_after_put(a, &prev);
        if (op->ignore_lease)
            change.lease = prev.lease;
    }
    if (rc == 0)
        rc = apply_key_put(a, op->key, exists ? &prev : NULL, &change);
    if (rc == 0)
        *ret_result = result;
    return rc;
}

static int grow_kvs(struct arena *arena, struct kv **kvs, size_t n, size_t *cap)
{
    size_t more = *cap != 0 ? *cap * 2 : 8;
    struct kv *grown = arena_array(arena, more, sizeof(*grown));

    if (grown == NULL)
        return -ENOMEM;
    if (n > 0)
        memcpy(grown, *kvs, n * sizeof(*grown));
    *kvs = grown;
    *cap = more;
    return 0;
}

/* Seeks anew after each key: an iterator does not stand a write to its table. */
static int delete_keys(struct apply *a, const struct interval *interval, bool want_kvs, struct op_result *result)
{
    struct tree keys = snap_keys(a->snap);
    struct tree_iter it;
    struct bytes at;
    size_t cap = 0;
    int rc;

    bytes_init(&at);
    bytes_append(&at, interval->key);
    tree_iter_init(&it, &keys);
    for (rc = bytes_status(&at); rc == 0;) {
        struct node node;

        rc = tree_iter_seek(&it, bytes_slice(&at));
        if (rc < 0 || !it.valid || !interval_has(interval, it.key))
            break;
        bytes_reset(&at);
        bytes_append(&at, it.key);
        rc = bytes_status(&at);
        if (rc == 0)
            rc = row_check(&it.raw_key, it.value);
        if (rc == 0)
            rc = node_row_decode(it.value, &node);
        if (rc == 0 && want_kvs && result->del.n_prev_kvs == cap)
            rc = grow_kvs(a->arena, &result->del.prev_kvs, result->del.n_prev_kvs, &cap);
        if (rc == 0 && want_kvs)
            rc = range_kv(a->snap, bytes_slice(&at), &node, true, a->arena,
                          &result->del.prev_kvs[result->del.n_prev_kvs++]);
        if (rc == 0)
            rc = apply_key_delete(a, bytes_slice(&at), &node, 0);
        result->del.deleted++;
    }
    tree_iter_fini(&it);
    bytes_fini(&at);
    return rc;
}

/* A range covers the directories in it too; children before parents, as rmdir would have to. */
static int delete_dirs(struct apply *a, const struct interval *interval)
{
    struct found {
        struct found *before;
        struct slice path;
        struct node node;
    } *last = NULL;
    struct tree dirs = snap_dirs(a->snap);
    struct tree_iter it;
    int rc;

    if (interval->end.len == 0)
        return 0;
    tree_iter_init(&it, &dirs);
    rc = tree_iter_seek(&it, interval->key);
    while (rc == 0 && it.valid && interval_has(interval, it.key)) {
        struct found *f = arena_alloc(a->arena, sizeof(*f));

        rc = f != NULL ? row_check(&it.raw_key, it.value) : -ENOMEM;
        if (rc == 0)
            rc = node_row_decode(it.value, &f->node);
        if (rc == 0)
            rc = arena_copy(a->arena, it.key, &f->path);
        if (rc < 0)
            break;
        f->before = last;
        last = f;
        rc = tree_iter_next(&it);
    }
    tree_iter_fini(&it);
    for (; rc == 0 && last != NULL; last = last->before)
        rc = apply_dir_delete(a, last->path, &last->node, 0);
    return rc;
}

int apply_delete(struct apply *a, const struct op_delete *op, struct op_result *ret_result)
{
    const struct interval interval = {op->key, op->range_end};
    struct op_result result = {.kind = OP_DELETE};
    int rc = delete_keys(a, &interval, op->prev_kv, &result);

    if (rc == 0)
        rc = delete_dirs(a, &interval);
    if (rc == 0)
        *ret_result = result;
    return rc;
}

/* ---- commands ---- */

static int run_put(struct apply *a, struct result *result)
{
    int rc = 0;

    /* etcd looks for the lease first here, and last in a transaction. */
    result->status = apply_check_put_shape(&a->cmd->put);
    if (result->status == STATUS_OK && a->cmd->put.lease != 0)
        rc = lease_check(a->snap, a->cmd->put.lease, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    rc = apply_check_put(a, &a->cmd->put, &result->status);
    return rc == 0 && result->status == STATUS_OK ? apply_put(a, &a->cmd->put, &result->op) : rc;
}

static int run_delete(struct apply *a, struct result *result)
{
    if (a->cmd->del.key.len == 0) {
        result->status = STATUS_EMPTY_KEY;
        return 0;
    }
    return apply_delete(a, &a->cmd->del, &result->op);
}

/* Only says so; the rows go in slices, later. */
static int run_compact(struct apply *a, struct result *result)
{
    struct state *state = &a->snap->state;
    int64_t revision = a->cmd->compact.revision;

    if (revision <= state->compacted)
        result->status = STATUS_COMPACTED;
    else if (revision > state->revision)
        result->status = STATUS_FUTURE_REVISION;
    else
        return compact_begin(a->snap, revision);
    return 0;
}

static int run_alloc_inodes(struct apply *a, struct result *result)
{
    struct state *state = &a->snap->state;

    if (a->cmd->alloc_inodes.count == 0 || state->next_inode > INO_IMPLICIT_BIT - UINT32_MAX) {
        result->status = STATUS_INVALID_REQUEST;
        return 0;
    }
    result->file.ino = state->next_inode;
    state->next_inode += a->cmd->alloc_inodes.count;
    return 0;
}

static int run_cluster_version(struct apply *a)
{
    struct state *state = &a->snap->state;

    if (a->cmd->cluster_version.version > state->cluster_version)
        state->cluster_version = a->cmd->cluster_version.version;
    return 0;
}

/* What was written under locks counts only while they are held. */
static int check_fence(struct apply *a, uint16_t *ret_status)
{
    bool is_file = a->cmd->kind >= COMMAND_FILE_WRITE && a->cmd->kind <= COMMAND_FILE_REMOVEXATTR;
    uint16_t status = STATUS_OK;
    int rc = is_file && a->cmd->file.fence != 0 ? lease_check(a->snap, a->cmd->file.fence, &status) : 0;

    if (rc == 0 && status != STATUS_OK)
        *ret_status = STATUS_FENCED;
    return rc;
}

static int run(struct apply *a, struct result *result)
{
    int rc = apply_gate(a, &result->status);

    if (rc == 0 && result->status == STATUS_OK)
        rc = check_fence(a, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    switch ((enum command_kind)a->cmd->kind) {
    case COMMAND_NOOP:
        return 0;
    case COMMAND_PUT:
        return run_put(a, result);
    case COMMAND_DELETE_RANGE:
        return run_delete(a, result);
    case COMMAND_TXN:
        return apply_txn(a, &a->cmd->txn, &result->txn, &result->status);
    case COMMAND_MEMBER_PUBLISH:
        return member_save(a->b, &a->cmd->member, &result->status);
    case COMMAND_ALLOC_INODES:
        return run_alloc_inodes(a, result);
    case COMMAND_FILE_WRITE:
    case COMMAND_FILE_APPEND:
    case COMMAND_FILE_MKDIR:
    case COMMAND_FILE_SYMLINK:
    case COMMAND_FILE_UNLINK:
    case COMMAND_FILE_RMDIR:
    case COMMAND_FILE_SETATTR:
    case COMMAND_FILE_SETXATTR:
    case COMMAND_FILE_REMOVEXATTR:
        return apply_file(a, result);
    case COMMAND_FILE_RENAME:
        return apply_rename(a, result);
    case COMMAND_COMPACT:
        return run_compact(a, result);
    case COMMAND_LEASE_GRANT:
    case COMMAND_LEASE_REVOKE:
    case COMMAND_LEASE_EXPIRE:
    case COMMAND_LEASE_CHECKPOINT:
        return apply_lease(a, result);
    case COMMAND_ALARM:
        return apply_alarm(a, result);
    case COMMAND_QUOTA_SET:
        return apply_quota_set(a);
    case COMMAND_CLUSTER_VERSION:
        return run_cluster_version(a);
    case COMMAND_FILE_LOCK:
    case COMMAND_FILE_UNLOCK:
    case COMMAND_FILE_LOCK_CANCEL:
        return apply_lock(a, result);
    }
    return -EPROTONOSUPPORT; /* a later version's: this node must not go on without it */
}

static bool is_applied(const struct state *s, uint64_t index, uint32_t position)
{
    if (index <= s->applied_index)
        return true;
    return index < s->part_index || (index == s->part_index && position < s->part_next);
}

int store_apply(struct store_batch *b, uint64_t index, uint64_t term, uint32_t position, const struct command *cmd,
                struct arena *arena, struct result *ret_result, bool *ret_fresh)
{
    struct state *state = &b->snap.state;
    struct result result = {.kind = cmd->kind};
    struct apply a = {
        .b = b,
        .snap = &b->snap,
        .cmd = cmd,
        .index = index,
        .term = term,
        .arena = arena,
        .next = {state->revision + 1, 0},
    };
    int rc;

    if (b->status < 0)
        return b->status;
    if (is_applied(state, index, position)) {
        result.revision = state->revision;
        *ret_result = result;
        *ret_fresh = false;
        return 0;
    }
    rc = run(&a, &result);
    if (rc == 0 && a.next.sub > 0) {
        state->revision = a.next.main;
        rc = usage_sample(a.snap);
    }
    if (rc < 0) {
        b->status = rc == -ENOENT ? -EUCLEAN : batch_error(b->snap.store, rc); /* a row that another one promised is missing */
        return b->status;
    }
    state->part_index = index;
    state->part_next = (uint64_t)position + 1;
    if (result.status != STATUS_OK) /* nothing but the status is meant */
        result = (struct result){.status = result.status, .kind = cmd->kind};
    result.revision = state->revision;
    *ret_result = result;
    *ret_fresh = true;
    return 0;
}
