/* store_world_kv.h - random puts, deletes, transactions, leases, compactions, and what must come of them.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the world's.  Units: bytes. */
#ifndef TESTS_UNIT_STORE_WORLD_KV_H
#define TESTS_UNIT_STORE_WORLD_KV_H

#include "tests/unit/store_world.h"

#define MAX_OPS 6

/* Mostly one that is there; sometimes none. */
static inline int64_t random_lease(struct world *w)
{
    int64_t id = 0;

    if (one_in(w, 2))
        return 0;
    for (int i = 0; i < 4 && (id == 0 || model_lease(&w->m, id) == NULL); i++)
        id = 1 + (int64_t)below(w, MODEL_LEASES);
    return id;
}

static inline void do_put(struct world *w)
{
    struct command cmd = {.kind = COMMAND_PUT,
                          .put = {.key = random_key(w), .value = random_value(w), .lease = random_lease(w), .prev_kv = true}};
    struct version *old = model_live(&w->m, cmd.put.key);
    struct version before = old != NULL ? *old : (struct version){0};
    uint16_t expected = STATUS_OK;
    struct result r;

    if (one_in(w, 10)) {
        cmd.put.ignore_value = true;
        cmd.put.value = one_in(w, 10) ? cmd.put.value : slice_make(NULL, 0);
    }
    if (one_in(w, 10)) {
        cmd.put.ignore_lease = true;
        cmd.put.lease = one_in(w, 10) ? cmd.put.lease : 0;
    }
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (cmd.put.ignore_value && cmd.put.value.len > 0)
        expected = STATUS_VALUE_PROVIDED;
    else if (cmd.put.ignore_lease && cmd.put.lease != 0)
        expected = STATUS_LEASE_PROVIDED;
    else if (cmd.put.lease != 0 && model_lease(&w->m, cmd.put.lease) == NULL)
        expected = STATUS_LEASE_NOT_FOUND;
    else if ((cmd.put.ignore_value || cmd.put.ignore_lease) && old == NULL)
        expected = STATUS_KEY_NOT_FOUND;
    if (expected == STATUS_OK) {
        struct slice value = cmd.put.ignore_value ? slice_make(before.value, before.len) : cmd.put.value;

        assert_int_equal(before.version > 0, r.op.put.prev_kv != NULL);
        if (before.version > 0) {
            assert_int_equal(before.main, r.op.put.prev_kv->mod_revision);
            assert_int_equal(before.lease, r.op.put.prev_kv->lease);
            assert_true(slice_equal(slice_make(before.value, before.len), r.op.put.prev_kv->value));
        }
        model_put(&w->m, cmd.put.key, value, 0, false, cmd.put.ignore_lease ? MODEL_KEEP_LEASE : cmd.put.lease);
    }
    check_end(w, &r, expected);
}

static inline void do_delete(struct world *w)
{
    struct slice key = random_key(w), end = below(w, 4) == 0 ? random_end(w, key) : slice_make(NULL, 0);
    struct command cmd = {.kind = COMMAND_DELETE_RANGE, .del = {.key = key, .range_end = end}};
    struct result r;

    if (end.len == 1 && below(w, 10) != 0)
        return; /* everything, not too often */
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    assert_int_equal(model_delete_range(&w->m, key, end), r.op.del.deleted);
    check_end(w, &r, STATUS_OK);
}

/* ---- transactions ---- */

static inline struct op_compare random_compare(struct world *w)
{
    struct op_compare c = {.key = random_key(w), .result = (enum compare_result)below(w, 4),
                           .target = (enum compare_target)below(w, 5)};
    struct version *v = model_live(&w->m, c.key);

    if (one_in(w, 4))
        c.range_end = random_end(w, c.key);
    if (c.target == COMPARE_VALUE)
        c.value = v != NULL && !one_in(w, 3) ? slice_make(v->value, v->len) : random_value(w);
    else if (v != NULL && !one_in(w, 3))
        c.number = c.target == COMPARE_VERSION  ? v->version
                   : c.target == COMPARE_CREATE ? v->create
                   : c.target == COMPARE_MOD    ? v->main
                                                : v->lease;
    else
        c.number = (int64_t)below(w, 3);
    return c;
}

static inline bool order_holds(enum compare_result result, int order)
{
    return result == COMPARE_EQUAL       ? order == 0
           : result == COMPARE_NOT_EQUAL ? order != 0
           : result == COMPARE_GREATER   ? order > 0
                                         : order < 0;
}

static inline bool compare_holds(const struct op_compare *c, const struct version *v)
{
    int64_t n = c->target == COMPARE_VERSION  ? v->version
                : c->target == COMPARE_CREATE ? v->create
                : c->target == COMPARE_MOD    ? v->main
                                              : v->lease;

    if (c->target == COMPARE_VALUE)
        return order_holds(c->result, slice_cmp(slice_make(v->value, v->len), c->value));
    return order_holds(c->result, (n > c->number) - (n < c->number));
}

/* All keys of the range; without any, of a key that is all zeros, and a value never compares. */
static inline bool model_compare(struct model *m, const struct op_compare *c)
{
    static const struct version nothing;
    size_t n = 0;

    for (size_t i = 0; i < m->n_keys; i++) {
        struct version *v = model_at(&m->keys[i], INT64_MAX);

        if (v == NULL || !model_in(m->keys[i].key, c->key, c->range_end))
            continue;
        n++;
        if (!compare_holds(c, v))
            return false;
    }
    return n > 0 || (c->target != COMPARE_VALUE && compare_holds(c, &nothing));
}

static inline void do_txn(struct world *w)
{
    struct op ops[MAX_OPS] = {0};
    size_t n = 1 + below(w, MAX_OPS);
    struct op_compare compares[2] = {random_compare(w), random_compare(w)};
    struct command cmd = {.kind = COMMAND_TXN, .txn = {.compares = compares, .n_compares = below(w, 3)}};
    bool holds = true;
    struct txn inner = {0};
    struct op nested = {.kind = OP_TXN, .txn = &inner};
    struct txn_result results;
    bool duplicate = false;
    struct result r;

    for (size_t i = 0; i < n; i++) {
        struct slice k = random_key(w);
        int64_t lease = one_in(w, 3) ? random_lease(w) : 0;

        if (lease != 0 && model_lease(&w->m, lease) == NULL)
            lease = 0;
        if (below(w, 3) != 0)
            ops[i] = (struct op){.kind = OP_PUT, .put = {.key = k, .value = random_value(w), .lease = lease}};
        else if (below(w, 2) != 0)
            ops[i] = (struct op){.kind = OP_DELETE, .del = {.key = k}};
        else
            ops[i] = (struct op){.kind = OP_RANGE, .range = {.key = k}};
        for (size_t j = 0; j < i; j++)
            duplicate |= (ops[i].kind == OP_PUT && ops[j].kind == OP_PUT && slice_equal(k, ops[j].put.key)) ||
                         (ops[i].kind == OP_PUT && ops[j].kind == OP_DELETE && slice_equal(k, ops[j].del.key)) ||
                         (ops[i].kind == OP_DELETE && ops[j].kind == OP_PUT && slice_equal(k, ops[j].put.key));
    }
    for (size_t i = 0; i < cmd.txn.n_compares; i++)
        holds = holds && model_compare(&w->m, &compares[i]);
    inner.success = inner.failure = ops;
    inner.n_success = inner.n_failure = n;
    if (one_in(w, 3)) { /* one deeper: its compares see the same state */
        inner.compares = compares;
        inner.n_compares = cmd.txn.n_compares;
        cmd.txn.success = cmd.txn.failure = &nested;
        cmd.txn.n_success = cmd.txn.n_failure = 1;
    } else {
        cmd.txn.success = cmd.txn.failure = ops;
        cmd.txn.n_success = cmd.txn.n_failure = n;
    }
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    results = r.txn;
    if (!duplicate)
        assert_int_equal(holds, results.succeeded);
    if (!duplicate && cmd.txn.success == &nested) {
        results = *results.ops[0].txn;
        assert_int_equal(holds, results.succeeded);
    }
    for (size_t i = 0; !duplicate && i < n; i++) {
        if (ops[i].kind == OP_PUT)
            model_put(&w->m, ops[i].put.key, ops[i].put.value, 0, false, ops[i].put.lease);
        else if (ops[i].kind == OP_DELETE)
            assert_int_equal(model_delete_range(&w->m, ops[i].del.key, slice_make(NULL, 0)),
                             results.ops[i].del.deleted);
        else
            assert_int_equal(model_live(&w->m, ops[i].range.key) != NULL, results.ops[i].range.n_kvs);
    }
    check_end(w, &r, duplicate ? STATUS_DUPLICATE_KEY : STATUS_OK);
}

static inline void do_compact(struct world *w)
{
    struct command cmd = {.kind = COMMAND_COMPACT};
    int64_t revision = w->m.revision + 2 - (int64_t)below(w, 40);
    uint16_t expected = revision <= w->m.compacted ? STATUS_COMPACTED
                        : revision > w->m.revision ? STATUS_FUTURE_REVISION
                                                   : STATUS_OK;
    struct result r;

    if (below(w, 4) != 0)
        return;
    cmd.compact.revision = revision;
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (expected == STATUS_OK)
        w->m.compacted = revision;
    check_end(w, &r, expected);
}

/* ---- leases ---- */

static inline void do_grant(struct world *w)
{
    struct command cmd = {.kind = COMMAND_LEASE_GRANT,
                          .lease = {.id = 1 + (int64_t)below(w, MODEL_LEASES), .ttl_s = (int64_t)below(w, 20) - 2}};
    struct mlease *l = model_lease(&w->m, cmd.lease.id);
    struct result r;

    if (one_in(w, 20))
        cmd.lease.ttl_s = LEASE_TTL_MAX_S + 1;
    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (cmd.lease.ttl_s > LEASE_TTL_MAX_S) {
        check_end(w, &r, STATUS_LEASE_TTL_TOO_LARGE);
    } else {
        if (l == NULL)
            w->m.leases[cmd.lease.id] = (struct mlease){true, cmd.lease.ttl_s < 1 ? 1 : cmd.lease.ttl_s, 0};
        check_end(w, &r, l == NULL ? STATUS_OK : STATUS_LEASE_EXISTS);
    }
}

static inline void do_revoke(struct world *w)
{
    struct command cmd = {.kind = one_in(w, 2) ? COMMAND_LEASE_REVOKE : COMMAND_LEASE_EXPIRE,
                          .lease = {.id = 1 + (int64_t)below(w, MODEL_LEASES), .term = one_in(w, 5) ? 2 : 1}};
    const bool stale = cmd.kind == COMMAND_LEASE_EXPIRE && cmd.lease.term != 1;
    struct mlease *l = model_lease(&w->m, cmd.lease.id);
    struct result r;

    if (is_refused(w, &cmd))
        return;
    r = apply_to_both(w, cmd);
    if (l != NULL && !stale) {
        for (size_t i = 0; i < w->m.n_keys; i++) {
            struct version *v = model_at(&w->m.keys[i], INT64_MAX);

            if (v != NULL && v->lease == cmd.lease.id)
                model_delete(&w->m, w->m.keys[i].key);
        }
        l->live = false;
        model_locks_end_lease(&w->m, cmd.lease.id);
    }
    check_end(w, &r, stale ? STATUS_NOT_LEADER : l == NULL ? STATUS_LEASE_NOT_FOUND : STATUS_OK);
}

static inline void do_lease_checkpoint(struct world *w)
{
    struct lease_checkpoint points[3];
    struct command cmd = {.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {points, below(w, 4)}};
    struct result r;

    for (size_t i = 0; i < cmd.checkpoint.n_items; i++) {
        struct mlease *l;

        points[i] = (struct lease_checkpoint){1 + (int64_t)below(w, MODEL_LEASES), (int64_t)below(w, 10)};
        l = model_lease(&w->m, points[i].id);
        if (l != NULL)
            l->remaining_s = points[i].remaining_s;
    }
    r = apply_to_both(w, cmd);
    check_end(w, &r, STATUS_OK);
}

/* ---- alarms, the quota ---- */

/* A little above what there is, or none. */
static inline void do_quota(struct world *w)
{
    struct command cmd = {.kind = COMMAND_QUOTA_SET};
    struct result r;

    if (w->m.quota == 0 || one_in(w, 3))
        cmd.quota.bytes = twin_bytes(w) + below(w, 30000);
    r = apply_to_both(w, cmd);
    w->m.quota = cmd.quota.bytes;
    check_end(w, &r, STATUS_OK);
}

static inline void do_alarm(struct world *w)
{
    bool *active = one_in(w, 2) ? &w->m.nospace : &w->m.corrupt;
    struct command cmd = {.kind = COMMAND_ALARM,
                          .alarm = {.member_id = 3, .type = active == &w->m.nospace ? ALARM_NOSPACE : ALARM_CORRUPT}};
    struct result r;

    if (!*active && !one_in(w, 8))
        return;
    cmd.alarm.action = *active ? ALARM_DEACTIVATE : ALARM_ACTIVATE;
    r = apply_to_both(w, cmd);
    assert_int_equal(1, r.alarms.n_items);
    *active = !*active;
    check_end(w, &r, STATUS_OK);
}

#endif
