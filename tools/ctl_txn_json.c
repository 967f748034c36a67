/* Reading a transaction in the JSON of etcd's gateway: TxnRequest with its field's names in either spelling
 * (range_end, rangeEnd), bytes in base64, integers as numbers or strings. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "tools/ctl.h"

struct in {
    struct arena *arena;
    bool failed; /* told already */
};

static int fail_json(struct in *in, const char *what, const char *name)
{
    if (!in->failed)
        ctl_fail("txn: %s: %s", name, what);
    in->failed = true;
    return -1;
}

/* A member by its name, or by that name in camel case. */
static json_t *member(json_t *object, const char *name)
{
    char camel[64];
    size_t n = 0;
    json_t *v = json_object_get(object, name);

    for (const char *p = name; v == NULL && *p != '\0' && n + 1 < sizeof(camel); p++)
        camel[n++] = *p == '_' && p[1] != '\0' ? (char)(*++p - 'a' + 'A') : *p;
    if (v != NULL)
        return v;
    camel[n] = '\0';
    return json_object_get(object, camel);
}

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

static struct slice get_bytes(struct in *in, json_t *object, const char *name)
{
    json_t *v = member(object, name);
    const char *text = json_string_value(v);
    size_t len = json_string_length(v), n = 0, bits = 0;
    uint32_t acc = 0;
    uint8_t *p;

    if (v == NULL || json_is_null(v))
        return slice_make(NULL, 0);
    p = arena_alloc(in->arena, len);
    if (text == NULL || p == NULL) {
        fail_json(in, "base64 text is expected", name);
        return slice_make(NULL, 0);
    }
    while (len > 0 && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        if (digit_value(text[i]) < 0) {
            fail_json(in, "this is not base64", name);
            return slice_make(NULL, 0);
        }
        acc = acc << 6 | (uint32_t)digit_value(text[i]);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            p[n++] = (uint8_t)(acc >> bits);
        }
    }
    return slice_make(p, n);
}

static int64_t get_int(struct in *in, json_t *object, const char *name)
{
    json_t *v = member(object, name);
    const char *text = json_string_value(v);
    char *end;
    long long n;

    if (v == NULL || json_is_null(v))
        return 0;
    if (json_is_integer(v))
        return json_integer_value(v);
    errno = 0;
    n = text != NULL ? strtoll(text, &end, 10) : 0;
    if (text == NULL || errno != 0 || end == text || *end != '\0')
        fail_json(in, "a number is expected", name);
    return n;
}

static bool get_bool(struct in *in, json_t *object, const char *name)
{
    json_t *v = member(object, name);

    if (v != NULL && !json_is_boolean(v) && !json_is_null(v))
        fail_json(in, "true or false is expected", name);
    return json_is_true(v);
}

static unsigned get_enum(struct in *in, json_t *object, const char *name, const char *const *words, unsigned n)
{
    json_t *v = member(object, name);
    const char *text = json_string_value(v);

    if (v == NULL || json_is_null(v))
        return 0;
    for (unsigned i = 0; i < n; i++)
        if ((text != NULL && strcasecmp(text, words[i]) == 0) || (json_is_integer(v) && json_integer_value(v) == i))
            return i;
    fail_json(in, "this is none of its values", name);
    return 0;
}

#define WORDS(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static void read_compare(struct in *in, json_t *v, struct op_compare *c)
{
    static const char *const numbers[] = {"version", "create_revision", "mod_revision", NULL, "lease"};

    c->result = (enum compare_result)get_enum(in, v, "result", WORDS("EQUAL", "GREATER", "LESS", "NOT_EQUAL"));
    c->target = (enum compare_target)get_enum(in, v, "target", WORDS("VERSION", "CREATE", "MOD", "VALUE", "LEASE"));
    c->key = get_bytes(in, v, "key");
    c->range_end = get_bytes(in, v, "range_end");
    if (c->target == COMPARE_VALUE)
        c->value = get_bytes(in, v, "value");
    else
        c->number = get_int(in, v, numbers[c->target]);
}

static void read_range(struct in *in, json_t *v, struct op_range *op)
{
    op->key = get_bytes(in, v, "key");
    op->range_end = get_bytes(in, v, "range_end");
    op->limit = get_int(in, v, "limit");
    op->revision = get_int(in, v, "revision");
    op->sort_order = (enum sort_order)get_enum(in, v, "sort_order", WORDS("NONE", "ASCEND", "DESCEND"));
    op->sort_target =
        (enum sort_target)get_enum(in, v, "sort_target", WORDS("KEY", "VERSION", "CREATE", "MOD", "VALUE"));
    op->keys_only = get_bool(in, v, "keys_only");
    op->count_only = get_bool(in, v, "count_only");
    op->min_mod_revision = get_int(in, v, "min_mod_revision");
    op->max_mod_revision = get_int(in, v, "max_mod_revision");
    op->min_create_revision = get_int(in, v, "min_create_revision");
    op->max_create_revision = get_int(in, v, "max_create_revision");
}

static int read_txn(struct in *in, json_t *v, unsigned depth, struct txn *txn);

static int read_op(struct in *in, json_t *v, unsigned depth, struct op *op)
{
    json_t *inner;

    if ((inner = member(v, "request_range")) != NULL) {
        op->kind = OP_RANGE;
        read_range(in, inner, &op->range);
    } else if ((inner = member(v, "request_put")) != NULL) {
        op->kind = OP_PUT;
        op->put = (struct op_put){get_bytes(in, inner, "key"), get_bytes(in, inner, "value"),
                                  get_int(in, inner, "lease"), get_bool(in, inner, "prev_kv"),
                                  get_bool(in, inner, "ignore_value"), get_bool(in, inner, "ignore_lease")};
    } else if ((inner = member(v, "request_delete_range")) != NULL) {
        op->kind = OP_DELETE;
        op->del = (struct op_delete){get_bytes(in, inner, "key"), get_bytes(in, inner, "range_end"),
                                     get_bool(in, inner, "prev_kv")};
    } else if ((inner = member(v, "request_txn")) != NULL) {
        op->kind = OP_TXN;
        op->txn = arena_alloc(in->arena, sizeof(*op->txn));
        if (op->txn == NULL)
            return fail_json(in, "out of memory", "request_txn");
        return read_txn(in, inner, depth + 1, op->txn);
    } else {
        return fail_json(in, "an operation is request_range, request_put, request_delete_range or request_txn",
                         "success or failure");
    }
    return in->failed ? -1 : 0;
}

static int read_ops(struct in *in, json_t *v, const char *name, unsigned depth, struct op **ret_ops, size_t *ret_n)
{
    json_t *list = member(v, name), *item;
    struct op *ops = arena_array(in->arena, json_array_size(list), sizeof(*ops));
    size_t i;

    if (ops == NULL || (list != NULL && !json_is_array(list)))
        return fail_json(in, "a list is expected", name);
    json_array_foreach(list, i, item)
    {
        if (read_op(in, item, depth, &ops[i]) < 0)
            return -1;
    }
    *ret_ops = ops;
    *ret_n = json_array_size(list);
    return 0;
}

static int read_txn(struct in *in, json_t *v, unsigned depth, struct txn *txn)
{
    json_t *list = member(v, "compare"), *item;
    size_t i;

    if (depth > TXN_MAX_DEPTH)
        return fail_json(in, "too deep", "request_txn");
    if (!json_is_object(v) || (list != NULL && !json_is_array(list)))
        return fail_json(in, "a list is expected", "compare");
    txn->n_compares = json_array_size(list);
    txn->compares = arena_array(in->arena, txn->n_compares, sizeof(*txn->compares));
    if (txn->compares == NULL)
        return fail_json(in, "out of memory", "compare");
    json_array_foreach(list, i, item) read_compare(in, item, &txn->compares[i]);
    if (in->failed)
        return -1;
    if (read_ops(in, v, "success", depth, &txn->success, &txn->n_success) < 0)
        return -1;
    return read_ops(in, v, "failure", depth, &txn->failure, &txn->n_failure);
}

int ctl_txn_parse_json(const char *text, size_t len, struct arena *arena, struct txn *ret_txn)
{
    struct in in = {arena, false};
    struct txn txn = {0};
    json_error_t error;
    json_t *v = json_loadb(text, len, 0, &error);
    int rc;

    if (v == NULL)
        return ctl_fail("txn: line %d: %s", error.line, error.text);
    rc = read_txn(&in, v, 1, &txn);
    json_decref(v);
    if (rc == 0)
        *ret_txn = txn;
    return rc;
}
