/* Transactions, in the order that etcd takes: every compare, those of nested transactions too, sees the state before the
 * transaction; then the operations on the paths so chosen are checked; then they run in order, and each range
 * sees the operations before it. */
#include <errno.h>
#include <stdlib.h>

#include "store/apply.h"

/* What is known of a transaction before it runs. */
struct plan {
    struct apply *a;
    uint16_t status;
    bool *paths; /* which way each transaction goes, depth first, nested ones of the chosen way only */
    size_t n_paths, cap_paths, next_path;
    struct slice *puts; /* keys put on the chosen paths */
    size_t n_puts, cap_puts;
    const struct op_delete **dels;
    size_t n_dels, cap_dels;
};

static int grow(struct arena *arena, void **array, size_t n, size_t *cap, size_t size)
{
    size_t more = *cap != 0 ? *cap * 2 : 16;
    void *grown;

    if (n < *cap)
        return 0;
    grown = arena_array(arena, more, size);
    if (grown == NULL)
        return -ENOMEM;
    if (n > 0)
        memcpy(grown, *array, n * size);
    *array = grown;
    *cap = more;
    return 0;
}

/* ---- shape: what is wrong whatever the data ---- */

static uint16_t check_shape(const struct txn *t, size_t max_ops, unsigned depth);

static uint16_t check_op_shape(const struct op *op, size_t max_ops, unsigned depth)
{
    switch (op->kind) {
    case OP_RANGE:
        if (op->range.key.len == 0)
            return STATUS_EMPTY_KEY;
        return (unsigned)op->range.sort_order > SORT_DESCEND || (unsigned)op->range.sort_target > SORT_BY_VALUE
                   ? STATUS_INVALID_SORT
                   : STATUS_OK;
    case OP_PUT:
        return apply_check_put_shape(&op->put);
    case OP_DELETE:
        return op->del.key.len == 0 ? STATUS_EMPTY_KEY : STATUS_OK;
    case OP_TXN:
        return op->txn == NULL ? STATUS_INVALID_REQUEST : check_shape(op->txn, max_ops, depth + 1);
    }
    return STATUS_INVALID_REQUEST;
}

static uint16_t check_shape(const struct txn *t, size_t max_ops, unsigned depth)
{
    size_t ops = t->n_compares;
    uint16_t status = STATUS_OK;

    ops = t->n_success > ops ? t->n_success : ops;
    ops = t->n_failure > ops ? t->n_failure : ops;
    if (ops > max_ops || depth > TXN_MAX_DEPTH)
        return STATUS_TOO_MANY_OPS;
    for (size_t i = 0; i < t->n_compares; i++)
        if (t->compares[i].key.len == 0)
            return STATUS_EMPTY_KEY;
    for (size_t i = 0; status == STATUS_OK && i < t->n_success; i++)
        status = check_op_shape(&t->success[i], max_ops - ops, depth);
    for (size_t i = 0; status == STATUS_OK && i < t->n_failure; i++)
        status = check_op_shape(&t->failure[i], max_ops - ops, depth);
    return status;
}

/* ---- compares ---- */

struct compare_scan {
    struct apply *a;
    const struct op_compare *compare;
    bool holds;
};

static bool holds_for(enum compare_result result, int order)
{
    switch (result) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_NOT_EQUAL:
        return order != 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    }
    return true; /* an unknown one holds, as in etcd */
}

static int order_of(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_node(void *ctx, struct slice key, const struct node *n)
{
    struct compare_scan *s = ctx;
    const struct op_compare *c = s->compare;
    struct slice value;
    int order = 0, rc;

    switch (c->target) {
    case COMPARE_VERSION:
        order = order_of(n->version, c->number);
        break;
    case COMPARE_CREATE:
        order = order_of(n->create.main, c->number);
        break;
    case COMPARE_MOD:
        order = order_of(n->chain.last.main, c->number);
        break;
    case COMPARE_LEASE:
        order = order_of(n->lease, c->number);
        break;
    case COMPARE_VALUE:
        rc = range_value(s->a->snap, n, s->a->arena, &value);
        if (rc < 0)
            return rc;
        order = slice_cmp(value, c->value);
        break;
    }
    s->holds = holds_for(c->result, order);
    return s->holds ? SCAN_GO_ON : SCAN_STOP;
}

static int run_compare(struct apply *a, const struct op_compare *c, bool *ret_holds)
{
    static const struct node nothing;
    const struct interval interval = {c->key, c->range_end};
    struct compare_scan s = {.a = a, .compare = c, .holds = true};
    int64_t count;
    int rc = range_scan(a->snap, &interval, SCAN_NEWEST, compare_node, &s, &count);

    if (rc < 0)
        return rc;
    if (count == 0) { /* no key: a value never compares, everything else is 0 */
        if (c->target == COMPARE_VALUE)
            s.holds = false;
        else
            compare_node(&s, c->key, &nothing);
    }
    *ret_holds = s.holds;
    return 0;
}

static int choose_paths(struct plan *p, const struct txn *t)
{
    bool holds = true;
    const struct op *ops;
    size_t n;
    int rc = 0;

    for (size_t i = 0; rc == 0 && holds && i < t->n_compares; i++)
        rc = run_compare(p->a, &t->compares[i], &holds);
    if (rc == 0)
        rc = grow(p->a->arena, (void **)&p->paths, p->n_paths, &p->cap_paths, sizeof(*p->paths));
    if (rc < 0)
        return rc;
    p->paths[p->n_paths++] = holds;
    ops = holds ? t->success : t->failure;
    n = holds ? t->n_success : t->n_failure;
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (ops[i].kind == OP_TXN)
            rc = choose_paths(p, ops[i].txn);
    return rc;
}

/* ---- checks along the chosen paths ---- */

static int check_op(struct plan *p, const struct op *op);

static int check_path(struct plan *p, const struct txn *t)
{
    const bool holds = p->paths[p->next_path++];
    const struct op *ops = holds ? t->success : t->failure;
    size_t n = holds ? t->n_success : t->n_failure;
    int rc = 0;

    for (size_t i = 0; rc == 0 && p->status == STATUS_OK && i < n; i++)
        rc = check_op(p, &ops[i]);
    return rc;
}

static int check_op(struct plan *p, const struct op *op)
{
    struct arena *arena = p->a->arena;
    int rc = 0;

    switch (op->kind) {
    case OP_RANGE:
        p->status = range_check_revision(p->a->snap, op->range.revision, p->a->snap->state.revision);
        return 0;
    case OP_PUT:
        rc = apply_check_put(p->a, &op->put, &p->status);
        if (rc == 0)
            rc = grow(arena, (void **)&p->puts, p->n_puts, &p->cap_puts, sizeof(*p->puts));
        if (rc == 0)
            p->puts[p->n_puts++] = op->put.key;
        return rc;
    case OP_DELETE:
        rc = grow(arena, (void **)&p->dels, p->n_dels, &p->cap_dels, sizeof(*p->dels));
        if (rc == 0)
            p->dels[p->n_dels++] = &op->del;
        return rc;
    case OP_TXN:
        return check_path(p, op->txn);
    }
    return -EINVAL;
}

static int order_slices(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* A key changes at most once in one revision: links between rows count on it. */
static uint16_t check_duplicates(struct plan *p)
{
    if (p->n_puts == 0)
        return STATUS_OK;
    qsort(p->puts, p->n_puts, sizeof(p->puts[0]), order_slices);
    for (size_t i = 1; i < p->n_puts; i++)
        if (slice_equal(p->puts[i - 1], p->puts[i]))
            return STATUS_DUPLICATE_KEY;
    for (size_t i = 0; i < p->n_dels; i++) {
        const struct interval interval = {p->dels[i]->key, p->dels[i]->range_end};
        size_t low = 0, high = p->n_puts;

        while (low < high) { /* the first put at or after the interval's start */
            size_t middle = low + (high - low) / 2;

            if (slice_cmp(p->puts[middle], interval.key) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < p->n_puts && interval_has(&interval, p->puts[low]))
            return STATUS_DUPLICATE_KEY;
    }
    return STATUS_OK;
}

/* ---- running ---- */

static int run_path(struct plan *p, const struct txn *t, struct txn_result *result);

static int run_range(struct apply *a, const struct op_range *op, struct op_result *result)
{
    /* As in etcd the transaction's own revision counts as current once it has written. */
    int64_t current = a->next.sub > 0 ? a->next.main : a->snap->state.revision;
    uint16_t status;
    int rc = range_run(a->snap, op, current, a->arena, 0, &result->range, &status);

    return rc == 0 && status != STATUS_OK ? -EINVAL : rc; /* the checks before left none */
}

static int run_op(struct plan *p, const struct op *op, struct op_result *result)
{
    result->kind = op->kind;
    switch (op->kind) {
    case OP_RANGE:
        return run_range(p->a, &op->range, result);
    case OP_PUT:
        return apply_put(p->a, &op->put, result);
    case OP_DELETE:
        return apply_delete(p->a, &op->del, result);
    case OP_TXN:
        result->txn = arena_alloc(p->a->arena, sizeof(*result->txn));
        return result->txn != NULL ? run_path(p, op->txn, result->txn) : -ENOMEM;
    }
    return -EINVAL;
}

static int run_path(struct plan *p, const struct txn *t, struct txn_result *result)
{
    const struct op *ops;
    int rc = 0;

    result->succeeded = p->paths[p->next_path++];
    ops = result->succeeded ? t->success : t->failure;
    result->n_ops = result->succeeded ? t->n_success : t->n_failure;
    result->ops = arena_array(p->a->arena, result->n_ops, sizeof(*result->ops));
    if (result->ops == NULL)
        return -ENOMEM;
    for (size_t i = 0; rc == 0 && i < result->n_ops; i++)
        rc = run_op(p, &ops[i], &result->ops[i]);
    return rc;
}

int apply_txn(struct apply *a, const struct txn *txn, struct txn_result *ret_result, uint16_t *ret_status)
{
    struct plan plan = {.a = a, .status = check_shape(txn, TXN_MAX_OPS, 1)};
    int rc;

    if (plan.status != STATUS_OK)
        goto refused;
    rc = choose_paths(&plan, txn);
    if (rc == 0)
        rc = check_path(&plan, txn);
    if (rc < 0)
        return rc;
    if (plan.status == STATUS_OK)
        plan.status = check_duplicates(&plan);
    if (plan.status != STATUS_OK)
        goto refused;
    plan.next_path = 0;
    return run_path(&plan, txn, ret_result);
refused:
    *ret_status = plan.status;
    return 0;
}
