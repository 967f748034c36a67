/* tools/ctl: quorumctl's command line, its transactions and its output. */
#include "tests/unit/wire_check.h"

#include <fcntl.h>
#include <unistd.h>

#include "tools/ctl.h"

static void expect(struct slice got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.data, want, got.len);
}

/* Errors say a line on standard error, which is of no interest here. Returns what to give to unhush(). */
static int hush(void)
{
    int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(null, STDERR_FILENO);
    close(null);
    return saved;
}

static void unhush(int saved)
{
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
}

/* ---- options ---- */

#define PARSE(o, ...)                                                                                               \
    ctl_options_parse((int)(sizeof((char *[]){"quorumctl", __VA_ARGS__}) / sizeof(char *)),                         \
                      (char *[]){"quorumctl", __VA_ARGS__, NULL}, o)

static void options_stand_before_and_behind_the_command(void **state)
{
    struct ctl_options o;

    assert_int_equal(PARSE(&o, "--socket", "/s", "-o", "json", "get", "k", "--consistency", "local", "--rev=7"), 0);
    assert_int_equal(o.command, CTL_GET);
    assert_string_equal(o.socket, "/s");
    assert_true(o.json && o.local && o.rev == 7 && o.n_args == 1);
    assert_string_equal(o.args[0], "k");
    assert_int_equal(PARSE(&o, "put", "--", "-k", "-v"), 0);
    assert_string_equal(o.args[0], "-k");
    assert_string_equal(o.args[1], "-v");
    assert_int_equal(PARSE(&o, "--timeout", "2.5", "status"), 0);
    assert_int_equal(o.timeout_ms, 2500);
    assert_int_equal(PARSE(&o, "--version"), 0);
    assert_int_equal(o.command, CTL_VERSION);
    assert_int_equal(PARSE(&o, "--help"), 0);
    assert_true(o.help);
}

static void wrong_command_lines_are_refused(void **state)
{
    struct ctl_options o;
    int saved = hush();

    assert_int_equal(PARSE(&o, "gett", "k"), -1);
    assert_int_equal(PARSE(&o, "get"), -1);
    assert_int_equal(PARSE(&o, "get", "a", "b", "c"), -1);
    assert_int_equal(PARSE(&o, "put", "k", "v", "--limit", "3"), -1);
    assert_int_equal(PARSE(&o, "get", "k", "--limit", "x"), -1);
    assert_int_equal(PARSE(&o, "get", "k", "--rev", "-1"), -1);
    assert_int_equal(PARSE(&o, "get", "k", "--nonsense"), -1);
    assert_int_equal(PARSE(&o, "get", "k", "--limit"), -1);
    assert_int_equal(PARSE(&o, "-o", "xml", "status"), -1);
    assert_int_equal(PARSE(&o, "--timeout", "0", "status"), -1);
    assert_int_equal(PARSE(&o, "-o", "json"), -1);
    unhush(saved);
}

static void range_of(struct arena *arena, struct op_range *op, int want, struct ctl_options o, int argc, char **argv)
{
    int saved = hush(), rc;

    o.args = argv;
    o.n_args = (size_t)argc;
    rc = ctl_range_from(&o, arena, op);
    unhush(saved);
    assert_int_equal(rc, want);
}

static void ranges_are_those_of_etcdctl(void **state)
{
    struct ctl_options prefix = {.prefix = true}, from = {.from_key = true}, both = {.prefix = true, .from_key = true};
    struct arena arena;
    struct op_range op;

    arena_init(&arena);
    range_of(&arena, &op, 0, prefix, 1, (char *[]){"ab"});
    expect(op.key, "ab");
    expect(op.range_end, "ac");
    range_of(&arena, &op, 0, prefix, 1, (char *[]){"a\xff\xff"});
    expect(op.range_end, "b");
    range_of(&arena, &op, 0, prefix, 1, (char *[]){"\xff"});
    assert_true(op.range_end.len == 1 && op.range_end.data[0] == 0);
    range_of(&arena, &op, 0, prefix, 1, (char *[]){""});
    assert_true(op.key.len == 1 && op.key.data[0] == 0 && op.range_end.len == 1 && op.range_end.data[0] == 0);
    range_of(&arena, &op, 0, from, 1, (char *[]){"k"});
    expect(op.key, "k");
    assert_true(op.range_end.len == 1 && op.range_end.data[0] == 0);
    range_of(&arena, &op, 0, (struct ctl_options){0}, 2, (char *[]){"a", "c"});
    expect(op.range_end, "c");
    range_of(&arena, &op, -1, both, 1, (char *[]){"a"});
    range_of(&arena, &op, -1, prefix, 2, (char *[]){"a", "b"});
    arena_fini(&arena);
}

/* ---- transactions as text ---- */

static int parse(const char *text, struct arena *arena, struct txn *t)
{
    int saved = hush(), rc = ctl_txn_parse(text, strlen(text), arena, t);

    unhush(saved);
    return rc;
}

static void a_transaction_has_three_parts(void **state)
{
    struct arena arena;
    struct txn t;

    arena_init(&arena);
    assert_int_equal(parse("mod(\"key1\") > \"0\"\n"
                           "value(k) = 'a b'\n"
                           " lease ( \"k\" ) != ff\n"
                           "ver(\"k\")<3\n"
                           "\n"
                           "put key1 \"over\\twrote\\x00\\\"\"\n"
                           "get --prefix dir/ --limit 5\n"
                           "\n"
                           "del key1 --prev-kv\n"
                           "put 'k 2' ''", &arena, &t), -1); /* a NUL cannot come this way */
    assert_int_equal(parse("mod(\"key1\") > \"0\"\n"
                           "value(k) = 'a b'\n"
                           " lease ( \"k\" ) != ff\n"
                           "ver(\"k\")<3\n"
                           "\n"
                           "put key1 \"over\\twrote\\x7f\\\"\"\n"
                           "get --prefix dir/ --limit 5\n"
                           "\n"
                           "del key1 --prev-kv\n"
                           "put 'k 2' ''", &arena, &t), 0);
    assert_true(t.n_compares == 4 && t.n_success == 2 && t.n_failure == 2);
    assert_true(t.compares[0].target == COMPARE_MOD && t.compares[0].result == COMPARE_GREATER);
    expect(t.compares[0].key, "key1");
    assert_int_equal(t.compares[0].number, 0);
    expect(t.compares[1].value, "a b");
    assert_true(t.compares[2].target == COMPARE_LEASE && t.compares[2].number == 255 &&
                t.compares[2].result == COMPARE_NOT_EQUAL);
    assert_true(t.compares[3].target == COMPARE_VERSION && t.compares[3].result == COMPARE_LESS &&
                t.compares[3].number == 3);
    assert_int_equal(t.success[0].kind, OP_PUT);
    expect(t.success[0].put.value, "over\twrote\x7f\"");
    assert_true(t.success[1].kind == OP_RANGE && t.success[1].range.limit == 5);
    expect(t.success[1].range.range_end, "dir0");
    assert_true(t.failure[0].kind == OP_DELETE && t.failure[0].del.prev_kv);
    expect(t.failure[1].put.key, "k 2");
    assert_int_equal(t.failure[1].put.value.len, 0);
    arena_fini(&arena);
}

static void parts_may_be_empty(void **state)
{
    struct arena arena;
    struct txn t;

    arena_init(&arena);
    assert_int_equal(parse("", &arena, &t), 0);
    assert_true(t.n_compares == 0 && t.n_success == 0 && t.n_failure == 0);
    assert_int_equal(parse("\n\nput a b\n\n", &arena, &t), 0);
    assert_true(t.n_compares == 0 && t.n_success == 0 && t.n_failure == 1);
    assert_int_equal(parse("\r\nput a b\r\n\r\n", &arena, &t), 0);
    assert_true(t.n_success == 1 && t.n_failure == 0);
    expect(t.success[0].put.value, "b");
    arena_fini(&arena);
}

static void text_that_is_no_transaction_is_refused(void **state)
{
    static const char *const wrong[] = {
        "mod(\"k\")",         "mod(\"k\") ~ 1",   "mod k = 1",          "size(\"k\") = 1",  "mod(\"k\") = x",
        "mod(\"k) = 1",       "mod(\"k\") = 1 2", "\nput a\n",        "\nput a b c\n",
        "\nwatch a\n",        "\nput a \"b\n",    "\nput a \"\\q\"\n",  "\nput a \"\\x1\"", "\nget a --lease 1\n",
        "\n\n\nput late b\n", "value(\"k\") =",   "mod(\"k\") = \"1\\", "(",                "mod(",
    };
    struct arena arena;
    struct txn t;

    arena_init(&arena);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (parse(wrong[i], &arena, &t) != -1) {
            printf("accepted: %s\n", wrong[i]);
            fail();
        }
    }
    arena_fini(&arena);
}

static void random_text_is_harmless(void **state)
{
    static const char pieces[] = "mod(\"k\") > 1\nput get del \\x --prefix \"'\n\n = != value(lease 0 a";
    struct dice d = dice_new();
    struct arena arena;
    int saved = hush();

    arena_init(&arena);
    for (int i = 0; i < 20000; i++) {
        size_t n = dice_below(&d, 60);
        char *text = malloc(n + 1);
        struct txn t;

        for (size_t k = 0; k < n; k++)
            text[k] = dice_below(&d, 20) == 0 ? (char)dice_roll(&d) : pieces[dice_below(&d, sizeof(pieces) - 1)];
        ctl_txn_parse(text, n, &arena, &t);
        ctl_txn_parse_json(text, n, &arena, &t);
        free(text);
        arena_reset(&arena);
    }
    unhush(saved);
    arena_fini(&arena);
}

/* ---- transactions as JSON ---- */

static int parse_json(const char *text, struct arena *arena, struct txn *t)
{
    int saved = hush(), rc = ctl_txn_parse_json(text, strlen(text), arena, t);

    unhush(saved);
    return rc;
}

static void json_is_that_of_etcds_gateway(void **state)
{
    struct arena arena;
    struct txn t;

    arena_init(&arena);
    assert_int_equal(parse_json("{\"compare\":[{\"key\":\"Zm9v\",\"result\":\"GREATER\",\"target\":\"CREATE\","
                                "\"createRevision\":\"2\"},"
                                "{\"key\":\"AA==\",\"range_end\":\"AA==\",\"target\":\"VALUE\",\"value\":\"//8=\"}],"
                                "\"success\":[{\"requestPut\":{\"key\":\"Zm9v\",\"value\":\"YmFy\",\"prevKv\":true}},"
                                "{\"request_txn\":{\"failure\":[{\"requestRange\":{\"key\":\"Zg==\",\"limit\":3}}]}}],"
                                "\"failure\":[{\"request_delete_range\":{\"key\":\"Zm9v\",\"rangeEnd\":\"AA\"}}]}",
                                &arena, &t), 0);
    assert_true(t.n_compares == 2 && t.n_success == 2 && t.n_failure == 1);
    expect(t.compares[0].key, "foo");
    assert_true(t.compares[0].number == 2 && t.compares[0].result == COMPARE_GREATER);
    assert_true(t.compares[1].key.len == 1 && t.compares[1].key.data[0] == 0);
    expect(t.compares[1].value, "\xff\xff");
    expect(t.success[0].put.value, "bar");
    assert_true(t.success[0].put.prev_kv);
    assert_true(t.success[1].txn->failure[0].range.limit == 3);
    assert_int_equal(t.failure[0].del.range_end.len, 1);
    assert_int_equal(parse_json("{\"success\":[{\"put\":{}}]}", &arena, &t), -1);
    assert_int_equal(parse_json("{\"compare\":{}}", &arena, &t), -1);
    assert_int_equal(parse_json("{\"compare\":[{\"key\":\"*\"}]}", &arena, &t), -1);
    assert_int_equal(parse_json("{\"compare\":[{\"key\":5}]}", &arena, &t), -1);
    assert_int_equal(parse_json("[", &arena, &t), -1);
    arena_fini(&arena);
}

/* ---- output ---- */

static void output_holds_any_bytes(void **state)
{
    struct ctl_out o = {.json = true};

    ctl_out_base64(&o, slice_make("", 0));
    ctl_out_base64(&o, slice_make("\xff", 1));
    ctl_out_base64(&o, slice_make("\xff\x00", 2));
    ctl_out_base64(&o, slice_make("foo", 3));
    ctl_out_base64(&o, slice_make("foob", 4));
    expect(bytes_slice(&o.buf), "\"\"\"/w==\"\"/wA=\"\"Zm9v\"\"Zm9vYg==\"");
    bytes_reset(&o.buf);
    ctl_out_quoted(&o, slice_make("a\"\\\n\t\0\xc3\xa4", 8));
    expect(bytes_slice(&o.buf), "\"a\\\"\\\\\\n\\t\\x00\xc3\xa4\"");
    bytes_reset(&o.buf);
    o.hex = true;
    ctl_out_line(&o, slice_make("a\xff", 2));
    expect(bytes_slice(&o.buf), "\\x61\\xff\n");
    bytes_fini(&o.buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_before_and_behind_the_command),
        cmocka_unit_test(wrong_command_lines_are_refused),
        cmocka_unit_test(ranges_are_those_of_etcdctl),
        cmocka_unit_test(a_transaction_has_three_parts),
        cmocka_unit_test(parts_may_be_empty),
        cmocka_unit_test(text_that_is_no_transaction_is_refused),
        cmocka_unit_test(random_text_is_harmless),
        cmocka_unit_test(json_is_that_of_etcds_gateway),
        cmocka_unit_test(output_holds_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
