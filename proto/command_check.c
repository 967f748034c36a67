/* The checks of a command that need no store.
 *
 * For the KV commands these are etcd's, in etcd's order. One is stricter: etcd looks for a key that one txn
 * changes twice with rules that miss some cases (an inner txn's put before a later inner txn's delete,
 * and deletes up to the end of the key space). The store relies on "a key changes at most once in one
 * revision", so here two changes of one key are refused whenever both could take place. */
#include "proto/command.h"

#include <stdlib.h>

#include "proto/etcd.h"

/* ---- keys that one txn would change twice ---- */

/* One side of one txn. Two changes exclude each other if some txn has them on different sides. */
struct branch {
    const struct branch *parent; /* the branch that the txn stands in; NULL: the outermost txn */
    const struct txn *txn;
    unsigned depth;
    bool is_else;
};

struct change {
    struct slice key;
    struct slice end; /* of a delete of a range */
    bool is_range;
    const struct branch *branch;
};

struct changes {
    struct arena arena;
    struct change *puts, *dels;
    size_t n_puts, n_dels;
};

static void count_changes(const struct txn *t, size_t *n_puts, size_t *n_dels)
{
    for (size_t i = 0; i < t->n_success + t->n_failure; i++) {
        const struct op *op = i < t->n_success ? &t->success[i] : &t->failure[i - t->n_success];

        *n_puts += op->kind == OP_PUT;
        *n_dels += op->kind == OP_DELETE;
        if (op->kind == OP_TXN)
            count_changes(op->txn, n_puts, n_dels);
    }
}

static bool collect_txn(struct changes *c, const struct txn *t, const struct branch *parent);

static bool collect_side(struct changes *c, const struct op *ops, size_t n, const struct branch *b)
{
    for (size_t i = 0; i < n; i++) {
        const struct op *op = &ops[i];

        if (op->kind == OP_PUT)
            c->puts[c->n_puts++] = (struct change){.key = op->put.key, .branch = b};
        else if (op->kind == OP_DELETE)
            c->dels[c->n_dels++] =
                (struct change){op->del.key, op->del.range_end, op->del.range_end.len != 0, b};
        else if (op->kind == OP_TXN && !collect_txn(c, op->txn, b))
            return false;
    }
    return true;
}

static bool collect_txn(struct changes *c, const struct txn *t, const struct branch *parent)
{
    struct branch *b = arena_array(&c->arena, 2, sizeof(*b));

    if (b == NULL)
        return false;
    b[0] = (struct branch){parent, t, parent != NULL ? parent->depth + 1 : 0, false};
    b[1] = b[0];
    b[1].is_else = true;
    return collect_side(c, t->success, t->n_success, &b[0]) && collect_side(c, t->failure, t->n_failure, &b[1]);
}

static bool both_can_happen(const struct branch *a, const struct branch *b)
{
    while (a->depth > b->depth)
        a = a->parent;
    while (b->depth > a->depth)
        b = b->parent;
    while (a != NULL && a != b) {
        if (a->txn == b->txn)
            return false;
        a = a->parent;
        b = b->parent;
    }
    return true;
}

static int compare_changes(const void *a, const void *b)
{
    return slice_cmp(((const struct change *)a)->key, ((const struct change *)b)->key);
}

static bool put_twice(const struct changes *c)
{
    for (size_t i = 0; i < c->n_puts; i++)
        for (size_t j = i + 1; j < c->n_puts && slice_equal(c->puts[i].key, c->puts[j].key); j++)
            if (both_can_happen(c->puts[i].branch, c->puts[j].branch))
                return true;
    return false;
}

static bool is_in(const struct change *del, struct slice key)
{
    if (!del->is_range)
        return slice_equal(del->key, key);
    if (del->end.len == 1 && del->end.data[0] == 0)
        return true;
    return slice_cmp(key, del->end) < 0;
}

static bool put_and_deleted(const struct changes *c)
{
    for (size_t i = 0; i < c->n_dels; i++) {
        const struct change *del = &c->dels[i];
        size_t lo = 0, hi = c->n_puts;

        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;

            if (slice_cmp(c->puts[mid].key, del->key) < 0)
                lo = mid + 1;
            else
                hi = mid;
        }
        for (; lo < c->n_puts && is_in(del, c->puts[lo].key); lo++)
            if (both_can_happen(del->branch, c->puts[lo].branch))
                return true;
    }
    return false;
}

static uint16_t check_changes(const struct txn *t)
{
    struct changes c = {0};
    size_t n_puts = 0, n_dels = 0;
    uint16_t status = STATUS_TOO_MANY_REQUESTS; /* no memory for it now */

    count_changes(t, &n_puts, &n_dels);
    if (n_puts == 0 || n_puts + n_dels < 2)
        return STATUS_OK;
    arena_init(&c.arena);
    c.puts = arena_array(&c.arena, n_puts, sizeof(*c.puts));
    c.dels = arena_array(&c.arena, n_dels, sizeof(*c.dels));
    if (c.puts != NULL && c.dels != NULL && collect_txn(&c, t, NULL)) {
        qsort(c.puts, c.n_puts, sizeof(*c.puts), compare_changes);
        status = put_twice(&c) || put_and_deleted(&c) ? STATUS_DUPLICATE_KEY : STATUS_OK;
    }
    arena_fini(&c.arena);
    return status;
}

/* ---- the single requests ---- */

/* The end of a range, and its start when a listing goes on behind a longest key, may be a byte longer than a key. */
static bool range_too_long(struct slice key, struct slice end)
{
    return key.len > KEY_MAX_BYTES + 1 || end.len > KEY_MAX_BYTES + 1;
}

uint16_t command_check_range(const struct op_range *op)
{
    if (op->key.len == 0)
        return STATUS_EMPTY_KEY;
    if ((unsigned)op->sort_order > SORT_DESCEND || (unsigned)op->sort_target > SORT_BY_VALUE)
        return STATUS_INVALID_SORT;
    return range_too_long(op->key, op->range_end) ? STATUS_TOO_LARGE : STATUS_OK;
}

static uint16_t check_put(const struct op_put *op)
{
    if (op->key.len == 0)
        return STATUS_EMPTY_KEY;
    if (op->ignore_value && op->value.len != 0)
        return STATUS_VALUE_PROVIDED;
    if (op->ignore_lease && op->lease != 0)
        return STATUS_LEASE_PROVIDED;
    return op->key.len > KEY_MAX_BYTES ? STATUS_TOO_LARGE : STATUS_OK;
}

static uint16_t check_delete(const struct op_delete *op)
{
    if (op->key.len == 0)
        return STATUS_EMPTY_KEY;
    return range_too_long(op->key, op->range_end) ? STATUS_TOO_LARGE : STATUS_OK;
}

static uint16_t check_compare(const struct op_compare *c)
{
    if (c->key.len == 0)
        return STATUS_EMPTY_KEY;
    if ((unsigned)c->result > COMPARE_NOT_EQUAL || (unsigned)c->target > COMPARE_LEASE)
        return STATUS_INVALID_REQUEST;
    return range_too_long(c->key, c->range_end) ? STATUS_TOO_LARGE : STATUS_OK;
}

static uint16_t check_txn(const struct txn *t, size_t max_ops);

static uint16_t check_op(const struct op *op, size_t max_ops)
{
    switch (op->kind) {
    case OP_RANGE:
        return command_check_range(&op->range);
    case OP_PUT:
        return check_put(&op->put);
    case OP_DELETE:
        return check_delete(&op->del);
    case OP_TXN:
        return check_txn(op->txn, max_ops);
    }
    return STATUS_KEY_NOT_FOUND; /* etcd's answer to an operation that says nothing */
}

static uint16_t check_txn(const struct txn *t, size_t max_ops)
{
    size_t n = t->n_compares;
    uint16_t status = STATUS_OK;

    if (n < t->n_success)
        n = t->n_success;
    if (n < t->n_failure)
        n = t->n_failure;
    if (n > max_ops)
        return STATUS_TOO_MANY_OPS;
    for (size_t i = 0; status == STATUS_OK && i < t->n_compares; i++)
        status = check_compare(&t->compares[i]);
    for (size_t i = 0; status == STATUS_OK && i < t->n_success; i++)
        status = check_op(&t->success[i], max_ops - n);
    for (size_t i = 0; status == STATUS_OK && i < t->n_failure; i++)
        status = check_op(&t->failure[i], max_ops - n);
    return status;
}

static uint16_t check_size(size_t body_bytes)
{
    return body_bytes + COMMAND_ENVELOPE_BYTES > REQUEST_MAX_BYTES ? STATUS_TOO_LARGE : STATUS_OK;
}

/* ---- files ---- */

#define KNOWN_FLAGS                                                                                                 \
    (FILE_CREATE | FILE_EXCLUSIVE | FILE_NOREPLACE | FILE_EXCHANGE | FILE_EXPECT_REV | FILE_WITH_VALUE | FILE_REPLACE)
#define KNOWN_ATTRS                                                                                                 \
    (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME | ATTR_SIZE | ATTR_INO | ATTR_ATIME)

static uint16_t check_xattr(uint16_t kind, const struct file_op *f)
{
    if (f->path2.len == 0 || memchr(f->path2.data, 0, f->path2.len) != NULL ||
        (f->flags & (FILE_CREATE | FILE_REPLACE)) == (FILE_CREATE | FILE_REPLACE))
        return STATUS_INVALID_REQUEST;
    if (f->path2.len > XATTR_NAME_MAX_BYTES)
        return STATUS_NAME_TOO_LONG;
    return kind == COMMAND_FILE_SETXATTR && f->value.len > XATTR_VALUE_MAX_BYTES ? STATUS_ATTRIBUTE_TOO_LARGE
                                                                                 : STATUS_OK;
}

static uint16_t check_lock(uint16_t kind, const struct lock_op *l)
{
    const bool all = kind == COMMAND_FILE_UNLOCK && l->all;

    if (l->ino == 0 || l->session == 0)
        return STATUS_INVALID_REQUEST;
    if (!all && ((l->kind != LOCK_POSIX && l->kind != LOCK_FLOCK) || l->start > l->end))
        return STATUS_INVALID_REQUEST;
    if (kind != COMMAND_FILE_UNLOCK && l->type != LOCK_SHARED && l->type != LOCK_EXCLUSIVE)
        return STATUS_INVALID_REQUEST;
    return STATUS_OK;
}

static uint16_t check_file(uint16_t kind, const struct file_op *f)
{
    const bool renames = kind == COMMAND_FILE_RENAME;
    const bool is_xattr = kind == COMMAND_FILE_SETXATTR || kind == COMMAND_FILE_REMOVEXATTR;

    /* An empty path is the root directory, which has attributes and nothing else. */
    if (f->path.len == 0 && kind != COMMAND_FILE_SETATTR && !is_xattr)
        return STATUS_INVALID_REQUEST;
    if (renames && f->path2.len == 0)
        return STATUS_INVALID_REQUEST;
    if (is_xattr && check_xattr(kind, f) != STATUS_OK)
        return check_xattr(kind, f);
    if (f->path.len > KEY_MAX_BYTES || f->path2.len > KEY_MAX_BYTES)
        return STATUS_NAME_TOO_LONG;
    if (f->value.len > FILE_MAX_BYTES)
        return STATUS_TOO_LARGE;
    if ((f->attrs.has & ATTR_SIZE) != 0 && f->attrs.size > FILE_MAX_BYTES)
        return STATUS_TOO_LARGE;
    if ((f->flags & ~(uint32_t)KNOWN_FLAGS) != 0 || (f->attrs.has & ~(uint32_t)KNOWN_ATTRS) != 0)
        return STATUS_INVALID_REQUEST;
    if ((f->flags & FILE_NOREPLACE) != 0 && (f->flags & FILE_EXCHANGE) != 0)
        return STATUS_INVALID_REQUEST;
    return STATUS_OK;
}

/* ---- leases, alarms, versions ---- */

static uint16_t check_checkpoint(const struct command *cmd)
{
    for (size_t i = 0; i < cmd->checkpoint.n_items; i++)
        if (cmd->checkpoint.items[i].id == 0 || cmd->checkpoint.items[i].remaining_s < 0)
            return STATUS_INVALID_REQUEST;
    return cmd->checkpoint.n_items > LEASE_CHECKPOINT_MAX ? STATUS_TOO_LARGE : STATUS_OK;
}

static uint16_t check_alarm(const struct alarm_op *a)
{
    return (unsigned)a->action <= ALARM_DEACTIVATE && (unsigned)a->type <= ALARM_CORRUPT ? STATUS_OK
                                                                                        : STATUS_INVALID_REQUEST;
}

static uint16_t check_cluster(const struct command *cmd)
{
    switch (cmd->kind) {
    case COMMAND_LEASE_GRANT:
        if (cmd->lease.id == 0)
            return STATUS_INVALID_REQUEST;
        return cmd->lease.ttl_s > LEASE_TTL_MAX_S ? STATUS_LEASE_TTL_TOO_LARGE : STATUS_OK;
    case COMMAND_LEASE_REVOKE:
    case COMMAND_LEASE_EXPIRE:
        return cmd->lease.id != 0 ? STATUS_OK : STATUS_LEASE_NOT_FOUND;
    case COMMAND_LEASE_CHECKPOINT:
        return check_checkpoint(cmd);
    case COMMAND_ALARM:
        return check_alarm(&cmd->alarm);
    case COMMAND_QUOTA_SET:
        return cmd->quota.bytes <= INT64_MAX ? STATUS_OK : STATUS_INVALID_REQUEST;
    case COMMAND_CLUSTER_VERSION:
        return cmd->cluster_version.version != 0 ? STATUS_OK : STATUS_INVALID_REQUEST;
    }
    return STATUS_UNIMPLEMENTED;
}

static uint16_t check_body(const struct command *cmd)
{
    uint16_t status;

    switch (cmd->kind) {
    case COMMAND_PUT:
        status = check_put(&cmd->put);
        return status != STATUS_OK ? status : check_size(etcd_put_size(&cmd->put));
    case COMMAND_DELETE_RANGE:
        status = check_delete(&cmd->del);
        return status != STATUS_OK ? status : check_size(etcd_delete_size(&cmd->del));
    case COMMAND_TXN:
        status = check_txn(&cmd->txn, TXN_MAX_OPS);
        if (status == STATUS_OK)
            status = check_changes(&cmd->txn);
        return status != STATUS_OK ? status : check_size(etcd_txn_size(&cmd->txn));
    case COMMAND_NOOP:
    case COMMAND_COMPACT:
        return STATUS_OK;
    case COMMAND_MEMBER_PUBLISH:
        return cmd->member.id != 0 ? STATUS_OK : STATUS_INVALID_REQUEST;
    case COMMAND_ALLOC_INODES:
        return cmd->alloc_inodes.count != 0 ? STATUS_OK : STATUS_INVALID_REQUEST;
    }
    if (cmd->kind >= COMMAND_FILE_WRITE && cmd->kind <= COMMAND_FILE_REMOVEXATTR)
        return check_file(cmd->kind, &cmd->file);
    if (cmd->kind >= COMMAND_FILE_LOCK && cmd->kind <= COMMAND_FILE_LOCK_CANCEL)
        return check_lock(cmd->kind, &cmd->lock);
    return check_cluster(cmd);
}

uint16_t command_check(const struct command *cmd)
{
    if (cmd->user.len > UINT16_MAX || (cmd->session != 0 && cmd->sequence == 0))
        return STATUS_INVALID_REQUEST;
    return check_body(cmd);
}
