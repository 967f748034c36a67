/* Alarms, the quota, and which commands they refuse.
 *
 * Alarms stand in the meta row "alarms": format, then member (8 bytes) and type (1 byte) of each, ascending; the state
 * row tells which types are active on any member. As in etcd:
 *   - NOSPACE refuses what adds: puts, transactions with a put on either side, grants of leases (NO_SPACE). Deletes,
 *     compaction and the end of leases go on, and so does moving and removing files, so that there can be room again. It stays
 *     until somebody deactivates it.
 *   - CORRUPT refuses whatever reads or changes keys (CORRUPT).
 * A command that would pass the quota is refused and raises NOSPACE for the member that proposed it, in one step: the
 * one case in which a refused command leaves something behind. */
#include "store/alarm.h"

#include <errno.h>

#include "store/usage.h"

#define ALARMS_ROW "alarms"
#define ALARM_BYTES 9
/* As etcd counts before it writes: what a put needs beside key and value, and a lease. */
#define COST_PUT_BYTES 256
#define COST_LEASE_BYTES 64

/* ---- the row ---- */

static int load_alarms(struct snap *p, struct alarm *alarms, size_t *ret_count)
{
    struct slice body;
    struct reader r;
    size_t n = 0;
    uint8_t format;
    int rc = meta_row_get(p->txn, p->store->main, ALARMS_ROW, &body);

    if (rc < 0) {
        *ret_count = 0;
        return rc == -ENOENT ? 0 : rc;
    }
    r = reader_make(body);
    format = reader_u8(&r);
    if (format > ROW_FORMAT)
        return -EPROTONOSUPPORT;
    while (reader_left(&r) > 0 && n < STORE_ALARMS_MAX) {
        alarms[n].member_id = reader_u64(&r);
        alarms[n].type = reader_u8(&r);
        n++;
    }
    if (reader_status(&r) < 0 || reader_left(&r) > 0 || format == 0)
        return -EUCLEAN;
    *ret_count = n;
    return 0;
}

static int save_alarms(struct apply *a, const struct alarm *alarms, size_t n)
{
    struct bytes *out = &a->b->scratch;

    bytes_reset(out);
    bytes_u8(out, ROW_FORMAT);
    a->snap->state.alarms = 0;
    for (size_t i = 0; i < n; i++) {
        bytes_u64(out, alarms[i].member_id);
        bytes_u8(out, (uint8_t)alarms[i].type);
        a->snap->state.alarms |= 1ull << alarms[i].type;
    }
    if (bytes_status(out) < 0)
        return bytes_status(out);
    return meta_row_put(a->snap->txn, a->snap->store->main, ALARMS_ROW, bytes_slice(out));
}

static int order(struct alarm a, struct alarm b)
{
    if (a.member_id != b.member_id)
        return a.member_id < b.member_id ? -1 : 1;
    return (a.type > b.type) - (a.type < b.type);
}

/* Where it is, or would be. */
static size_t place(const struct alarm *alarms, size_t n, struct alarm wanted, bool *ret_there)
{
    size_t i = 0;

    while (i < n && order(alarms[i], wanted) < 0)
        i++;
    *ret_there = i < n && order(alarms[i], wanted) == 0;
    return i;
}

/* ---- commands ---- */

static int activate(struct apply *a, struct alarm wanted, uint16_t *ret_status)
{
    struct alarm alarms[STORE_ALARMS_MAX];
    size_t n, at;
    bool there;
    int rc = load_alarms(a->snap, alarms, &n);

    if (rc < 0)
        return rc;
    at = place(alarms, n, wanted, &there);
    if (there)
        return 0;
    if (n == STORE_ALARMS_MAX) {
        *ret_status = STATUS_TOO_MANY_REQUESTS;
        return 0;
    }
    memmove(&alarms[at + 1], &alarms[at], (n - at) * sizeof(alarms[0]));
    alarms[at] = wanted;
    return save_alarms(a, alarms, n + 1);
}

static int deactivate(struct apply *a, struct alarm wanted, bool *ret_there)
{
    struct alarm alarms[STORE_ALARMS_MAX];
    size_t n, at;
    int rc = load_alarms(a->snap, alarms, &n);

    if (rc < 0)
        return rc;
    at = place(alarms, n, wanted, ret_there);
    if (!*ret_there)
        return 0;
    memmove(&alarms[at], &alarms[at + 1], (n - at - 1) * sizeof(alarms[0]));
    return save_alarms(a, alarms, n - 1);
}

static int answer(struct apply *a, const struct alarm *alarms, size_t n, int type, struct result *result)
{
    struct alarm *items = arena_array(a->arena, n, sizeof(*items));

    if (items == NULL)
        return -ENOMEM;
    result->alarms.items = items;
    for (size_t i = 0; i < n; i++)
        if (type == ALARM_NONE || alarms[i].type == type)
            items[result->alarms.n_items++] = alarms[i];
    return 0;
}

int apply_alarm(struct apply *a, struct result *result)
{
    const struct alarm_op *op = &a->cmd->alarm;
    const struct alarm wanted = {op->member_id, op->type};
    struct alarm alarms[STORE_ALARMS_MAX];
    bool there = true;
    size_t n;
    int rc;

    if ((unsigned)op->type > ALARM_CORRUPT || (unsigned)op->action > ALARM_DEACTIVATE) {
        result->status = STATUS_INVALID_REQUEST;
        return 0;
    }
    if (op->action == ALARM_GET) {
        rc = load_alarms(a->snap, alarms, &n);
        return rc == 0 ? answer(a, alarms, n, op->type, result) : rc;
    }
    if (op->type == ALARM_NONE)
        return 0;
    rc = op->action == ALARM_ACTIVATE ? activate(a, wanted, &result->status) : deactivate(a, wanted, &there);
    return rc == 0 && there ? answer(a, &wanted, 1, op->type, result) : rc;
}

int apply_quota_set(struct apply *a)
{
    struct state *state = &a->snap->state;
    const bool first = state->quota_bytes == 0 && a->cmd->quota.bytes != 0;

    state->quota_bytes = a->cmd->quota.bytes;
    return first ? usage_forget_history(a->snap) : 0;
}

/* ---- what is refused ---- */

static void add_txn_cost(const struct txn *t, uint64_t *cost);

static uint64_t ops_cost(const struct op *ops, size_t n)
{
    uint64_t cost = 0;

    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == OP_PUT)
            cost += COST_PUT_BYTES + ops[i].put.key.len + ops[i].put.value.len;
        else if (ops[i].kind == OP_TXN && ops[i].txn != NULL)
            add_txn_cost(ops[i].txn, &cost);
    }
    return cost;
}

/* The dearer side, and nested ones with it (etcd overlooks those). */
static void add_txn_cost(const struct txn *t, uint64_t *cost)
{
    uint64_t success = ops_cost(t->success, t->n_success), failure = ops_cost(t->failure, t->n_failure);

    *cost += success > failure ? success : failure;
}

/* To cut a file short is how to make room: to nothing, or by its size alone. */
static int file_cost(struct apply *a, uint64_t *ret_cost)
{
    const struct file_op *op = &a->cmd->file;
    const uint64_t cost = COST_PUT_BYTES + op->path.len + op->value.len;
    struct node node;
    int rc;

    switch (a->cmd->kind) {
    case COMMAND_FILE_APPEND:
    case COMMAND_FILE_MKDIR:
    case COMMAND_FILE_SYMLINK:
    case COMMAND_FILE_SETXATTR:
        *ret_cost = cost;
        return 0;
    case COMMAND_FILE_RENAME:
        *ret_cost = (op->flags & FILE_WITH_VALUE) != 0 ? cost + op->path2.len : 0;
        return 0;
    case COMMAND_FILE_WRITE:
    case COMMAND_FILE_SETATTR:
        rc = range_get(a->snap, op->path, &node);
        if (rc < 0 && rc != -ENOENT)
            return rc;
        if (a->cmd->kind == COMMAND_FILE_WRITE)
            *ret_cost = rc == 0 && op->value.len == 0 ? 0 : cost;
        else
            *ret_cost = rc == 0 && (op->attrs.has & ATTR_SIZE) != 0 && op->attrs.size > node.value_len
                            ? cost + op->attrs.size
                            : 0;
        return 0;
    default:
        *ret_cost = 0;
        return 0;
    }
}

static int command_cost(struct apply *a, uint64_t *ret_cost)
{
    const struct command *cmd = a->cmd;

    *ret_cost = 0;
    switch (cmd->kind) {
    case COMMAND_PUT:
        *ret_cost = COST_PUT_BYTES + cmd->put.key.len + cmd->put.value.len;
        return 0;
    case COMMAND_TXN:
        add_txn_cost(&cmd->txn, ret_cost);
        return 0;
    case COMMAND_LEASE_GRANT:
        *ret_cost = COST_LEASE_BYTES;
        return 0;
    }
    return cmd->kind >= COMMAND_FILE_WRITE && cmd->kind <= COMMAND_FILE_REMOVEXATTR ? file_cost(a, ret_cost) : 0;
}

static bool goes_on_when_corrupt(uint16_t kind)
{
    switch (kind) {
    case COMMAND_NOOP:
    case COMMAND_LEASE_CHECKPOINT:
    case COMMAND_ALARM:
    case COMMAND_QUOTA_SET:
    case COMMAND_MEMBER_PUBLISH:
    case COMMAND_ALLOC_INODES:
    case COMMAND_CLUSTER_VERSION:
    case COMMAND_FILE_UNLOCK:
    case COMMAND_FILE_LOCK_CANCEL:
        return true;
    }
    return false;
}

int apply_gate(struct apply *a, uint16_t *ret_status)
{
    const struct state *state = &a->snap->state;
    uint64_t cost;
    int rc;

    if ((state->alarms & 1ull << ALARM_CORRUPT) != 0 && !goes_on_when_corrupt(a->cmd->kind)) {
        *ret_status = STATUS_CORRUPT;
        return 0;
    }
    if (state->quota_bytes == 0 && (state->alarms & 1ull << ALARM_NOSPACE) == 0)
        return 0;
    rc = command_cost(a, &cost);
    if (rc < 0 || cost == 0)
        return rc;
    if ((state->alarms & 1ull << ALARM_NOSPACE) != 0) {
        *ret_status = STATUS_NO_SPACE;
        return 0;
    }
    if (usage_bytes(&state->usage) + cost <= state->quota_bytes)
        return 0;
    *ret_status = STATUS_NO_SPACE;
    return activate(a, (struct alarm){a->cmd->origin, ALARM_NOSPACE}, ret_status);
}

/* ---- reads ---- */

int store_alarms(struct store_read *r, struct arena *arena, struct alarm **ret_alarms, size_t *ret_count)
{
    struct alarm *alarms = arena_array(arena, STORE_ALARMS_MAX, sizeof(*alarms));
    int rc;

    if (alarms == NULL)
        return -ENOMEM;
    rc = load_alarms(&r->snap, alarms, ret_count);
    if (rc == 0)
        *ret_alarms = alarms;
    return rc;
}
