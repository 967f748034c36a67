/* status, get, put, del, txn. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/command.h"
#include "tools/ctl.h"

int ctl_read_stdin(size_t max_bytes, struct bytes *out)
{
    for (;;) {
        uint8_t *p = bytes_grow(out, 65536);
        ssize_t n;

        if (p == NULL)
            return ctl_fail("out of memory");
        n = read(STDIN_FILENO, p, 65536);
        out->len -= 65536 - (n > 0 ? (size_t)n : 0);
        if (n < 0 && errno != EINTR)
            return ctl_fail("cannot read standard input: %s", strerror(errno));
        if (n == 0)
            return 0;
        if (out->len > max_bytes)
            return ctl_fail("standard input is longer than %zu bytes", max_bytes);
    }
}

/* ---- get ---- */

int ctl_get(struct ctl *c)
{
    struct store_read *read = NULL;
    struct range_result res;
    struct op_range op;
    struct arena arena;
    uint16_t status;
    int rc = -1, err;

    arena_init(&arena);
    if (ctl_range_from(c->opts, &arena, &op) < 0)
        goto done;
    status = command_check_range(&op);
    if (status != STATUS_OK) {
        ctl_fail_status(status);
        goto done;
    }
    if (ctl_barrier(c) < 0 || ctl_store(c) < 0)
        goto done;
    err = store_read_begin(c->store, &read);
    if (err == 0)
        err = store_range(read, &op, &arena, 0, &res, &status);
    if (err < 0) {
        ctl_fail("cannot read the store: %s", strerror(-err));
        goto done;
    }
    if (status != STATUS_OK) {
        ctl_fail_status(status);
        goto done;
    }
    if (c->out.json) {
        ctl_out_text(&c->out, "{\"revision\":%lld,", (long long)store_read_revision(read));
        ctl_out_range_json(&c->out, &res);
        ctl_out_text(&c->out, "}\n");
    } else {
        ctl_out_range(&c->out, c->opts, &res);
    }
    store_read_end(read); /* before a reader of ours can make us wait */
    read = NULL;
    rc = ctl_out_flush(&c->out);
done:
    store_read_end(read);
    arena_fini(&arena);
    return rc;
}

/* ---- put, del ---- */

static void print_prev(struct ctl_out *o, const struct kv *kv)
{
    if (kv == NULL)
        return;
    ctl_out_line(o, kv->key);
    ctl_out_line(o, kv->value);
}

int ctl_put(struct ctl *c)
{
    struct command cmd = {.kind = COMMAND_PUT};
    struct ctl_out *o = &c->out;
    struct arena arena;
    struct result res;
    struct bytes value;
    int rc = -1;

    arena_init(&arena);
    bytes_init(&value);
    if (ctl_put_from(c->opts, &cmd.put) < 0)
        goto done;
    if (c->opts->n_args == 1 && !c->opts->ignore_value) {
        if (ctl_read_stdin(REQUEST_MAX_BYTES, &value) < 0)
            goto done;
        cmd.put.value = bytes_slice(&value);
    }
    if (ctl_propose(c, &cmd, &arena, &res) < 0)
        goto done;
    if (o->json) {
        ctl_out_text(o, "{\"revision\":%lld", (long long)res.revision);
        if (res.op.put.prev_kv != NULL) {
            ctl_out_text(o, ",\"prev_kv\":");
            ctl_out_kv_json(o, res.op.put.prev_kv);
        }
        ctl_out_text(o, "}\n");
    } else {
        ctl_out_text(o, "OK\n");
        print_prev(o, res.op.put.prev_kv);
    }
    rc = ctl_out_flush(o);
done:
    bytes_fini(&value);
    arena_fini(&arena);
    return rc;
}

static void print_kvs_json(struct ctl_out *o, const struct kv *kvs, size_t n)
{
    ctl_out_text(o, "[");
    for (size_t i = 0; i < n; i++) {
        if (i != 0)
            ctl_out_text(o, ",");
        ctl_out_kv_json(o, &kvs[i]);
    }
    ctl_out_text(o, "]");
}

static void print_deleted_json(struct ctl_out *o, const struct op_result *r)
{
    ctl_out_text(o, "\"deleted\":%lld", (long long)r->del.deleted);
    if (r->del.n_prev_kvs == 0)
        return;
    ctl_out_text(o, ",\"prev_kvs\":");
    print_kvs_json(o, r->del.prev_kvs, r->del.n_prev_kvs);
}

static void print_deleted(struct ctl_out *o, const struct op_result *r)
{
    ctl_out_text(o, "%lld\n", (long long)r->del.deleted);
    for (size_t i = 0; i < r->del.n_prev_kvs; i++)
        print_prev(o, &r->del.prev_kvs[i]);
}

int ctl_del(struct ctl *c)
{
    struct command cmd = {.kind = COMMAND_DELETE_RANGE};
    struct arena arena;
    struct result res;
    int rc = -1;

    arena_init(&arena);
    if (ctl_delete_from(c->opts, &arena, &cmd.del) < 0 || ctl_propose(c, &cmd, &arena, &res) < 0)
        goto done;
    if (c->out.json) {
        ctl_out_text(&c->out, "{\"revision\":%lld,", (long long)res.revision);
        print_deleted_json(&c->out, &res.op);
        ctl_out_text(&c->out, "}\n");
    } else {
        print_deleted(&c->out, &res.op);
    }
    rc = ctl_out_flush(&c->out);
done:
    arena_fini(&arena);
    return rc;
}

/* ---- compact ---- */

int ctl_compact(struct ctl *c)
{
    struct command cmd = {.kind = COMMAND_COMPACT};
    const char *text = c->opts->args[0];
    struct arena arena;
    struct result res;
    char *end;
    int rc = -1;

    cmd.compact.revision = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || cmd.compact.revision <= 0)
        return ctl_fail("compact takes a revision, not '%s'", text);
    arena_init(&arena);
    if (ctl_propose(c, &cmd, &arena, &res) == 0) {
        if (c->out.json)
            ctl_out_text(&c->out, "{\"revision\":%lld}\n", (long long)res.revision);
        else
            ctl_out_text(&c->out, "compacted revision %lld\n", (long long)cmd.compact.revision);
        rc = ctl_out_flush(&c->out);
    }
    arena_fini(&arena);
    return rc;
}

/* ---- txn ---- */

static void print_txn_json(struct ctl_out *o, const struct txn_result *t);

static void print_op_json(struct ctl_out *o, const struct op_result *r)
{
    switch (r->kind) {
    case OP_RANGE:
        ctl_out_text(o, "{\"range\":{");
        ctl_out_range_json(o, &r->range);
        break;
    case OP_PUT:
        ctl_out_text(o, "{\"put\":{");
        if (r->put.prev_kv != NULL) {
            ctl_out_text(o, "\"prev_kv\":");
            ctl_out_kv_json(o, r->put.prev_kv);
        }
        break;
    case OP_DELETE:
        ctl_out_text(o, "{\"delete\":{");
        print_deleted_json(o, r);
        break;
    case OP_TXN:
        ctl_out_text(o, "{\"txn\":{");
        print_txn_json(o, r->txn);
        break;
    }
    ctl_out_text(o, "}}");
}

static void print_txn_json(struct ctl_out *o, const struct txn_result *t)
{
    ctl_out_text(o, "\"succeeded\":%s,\"responses\":[", t->succeeded ? "true" : "false");
    for (size_t i = 0; i < t->n_ops; i++) {
        if (i != 0)
            ctl_out_text(o, ",");
        print_op_json(o, &t->ops[i]);
    }
    ctl_out_text(o, "]");
}

static void print_txn(struct ctl_out *o, const struct txn_result *t)
{
    ctl_out_text(o, t->succeeded ? "SUCCESS\n" : "FAILURE\n");
    for (size_t i = 0; i < t->n_ops; i++) {
        const struct op_result *r = &t->ops[i];

        ctl_out_text(o, "\n");
        switch (r->kind) {
        case OP_RANGE:
            ctl_out_range(o, NULL, &r->range);
            break;
        case OP_PUT:
            ctl_out_text(o, "OK\n");
            print_prev(o, r->put.prev_kv);
            break;
        case OP_DELETE:
            print_deleted(o, r);
            break;
        case OP_TXN:
            print_txn(o, r->txn);
            break;
        }
    }
}

int ctl_txn(struct ctl *c)
{
    struct command cmd = {.kind = COMMAND_TXN};
    struct arena arena;
    struct result res;
    struct bytes in;
    int rc = -1;

    arena_init(&arena);
    bytes_init(&in);
    if (ctl_read_stdin(4 * REQUEST_MAX_BYTES, &in) < 0)
        goto done;
    rc = c->out.json ? ctl_txn_parse_json((const char *)in.data, in.len, &arena, &cmd.txn)
                     : ctl_txn_parse((const char *)in.data, in.len, &arena, &cmd.txn);
    if (rc < 0)
        goto done;
    rc = ctl_propose(c, &cmd, &arena, &res);
    if (rc < 0)
        goto done;
    if (c->out.json) {
        ctl_out_text(&c->out, "{\"revision\":%lld,", (long long)res.revision);
        print_txn_json(&c->out, &res.txn);
        ctl_out_text(&c->out, "}\n");
    } else {
        print_txn(&c->out, &res.txn);
    }
    rc = ctl_out_flush(&c->out);
done:
    bytes_fini(&in);
    arena_fini(&arena);
    return rc;
}

/* ---- status ---- */

struct answer {
    bool done;
    uint16_t status;
    struct bytes json;
    struct ctl *ctl;
};

static void on_status(void *arg, uint16_t status, struct slice json)
{
    struct answer *a = arg;

    a->done = true;
    a->status = status;
    bytes_append(&a->json, json);
}

static bool is_answered(void *ctx)
{
    struct answer *a = ctx;

    return a->done || a->ctl->refused;
}

static void print_json_value(struct ctl_out *o, const json_t *v)
{
    char *text;

    if (json_is_string(v)) {
        ctl_out_text(o, "%s", json_string_value(v));
        return;
    }
    text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    ctl_out_text(o, "%s", text != NULL ? text : "?");
    free(text);
}

#define STATUS_NAME_WIDTH 24 /* of the longest */

/* What the node says, whatever it is: members one a line, everything else by name. */
static void print_status(struct ctl_out *o, const json_t *status)
{
    const char *key, *inner_key;
    json_t *value, *member, *inner;
    size_t i;

    json_object_foreach((json_t *)status, key, value)
    {
        if (json_is_array(value) && json_is_object(json_array_get(value, 0)))
            continue;
        ctl_out_text(o, "%-*s ", STATUS_NAME_WIDTH, key);
        print_json_value(o, value);
        ctl_out_text(o, "\n");
    }
    json_array_foreach(json_object_get(status, "members"), i, member)
    {
        ctl_out_text(o, "member");
        json_object_foreach(member, inner_key, inner)
        {
            ctl_out_text(o, "  %s=", inner_key);
            print_json_value(o, inner);
        }
        ctl_out_text(o, "\n");
    }
}

int ctl_status(struct ctl *c)
{
    struct answer a = {.ctl = c};
    json_t *status = NULL;
    int rc = -1;

    bytes_init(&a.json);
    if (client_status(c->client, ctl_deadline(c), on_status, &a) < 0) {
        ctl_fail("out of memory");
        goto done;
    }
    if (client_wait(c->client, is_answered, &a, ctl_deadline(c) + 1000) < 0)
        a.status = STATUS_TIMEOUT;
    if (c->refused)
        goto done;
    if (a.status != STATUS_OK) {
        ctl_fail_status(a.status);
        goto done;
    }
    status = json_loadb((const char *)a.json.data, a.json.len, 0, NULL);
    if (!json_is_object(status)) {
        ctl_fail("the node's status cannot be read");
        goto done;
    }
    if (c->out.json) {
        bytes_append(&c->out.buf, bytes_slice(&a.json));
        if (a.json.data[a.json.len - 1] != '\n')
            ctl_out_text(&c->out, "\n");
    } else {
        print_status(&c->out, status);
    }
    rc = ctl_out_flush(&c->out);
done:
    json_decref(status);
    bytes_fini(&a.json);
    return rc;
}
