/* Reading a transaction: etcdctl's text, or the JSON of etcd's gateway.
 *
 *   mod("k") > "0"
 *   value("k") = "old"
 *
 *   put k "new value"
 *   get --prefix dir/
 *
 *   del k
 *
 * Three parts, each ended by an empty line or the end of the text: compares, operations if all of them hold,
 * operations if not. Words are bare, 'as they are' or "with \n \t \" \\ and \x61 escapes". */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "tools/ctl.h"

#define LINE_WORDS 64

/* ---- words ---- */

struct text {
    const char *p, *end;
    size_t line;
    struct arena *arena;
};

static int fail_line(const struct text *t, const char *what)
{
    return ctl_fail("txn: line %zu: %s", t->line, what);
}

static void skip_blanks(struct text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\t' || *t->p == '\r'))
        t->p++;
}

static bool at_line_end(const struct text *t)
{
    return t->p == t->end || *t->p == '\n';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind a backslash, in double quotes. */
static int read_escape(struct text *t, char *ret_c)
{
    char c = *t->p++;

    switch (c) {
    case 'n':
        *ret_c = '\n';
        return 0;
    case 't':
        *ret_c = '\t';
        return 0;
    case 'r':
        *ret_c = '\r';
        return 0;
    case '"':
    case '\\':
        *ret_c = c;
        return 0;
    case 'x':
        if (t->end - t->p < 2 || hex_digit(t->p[0]) < 0 || hex_digit(t->p[1]) < 0)
            return fail_line(t, "\\x takes two hexadecimal digits");
        *ret_c = (char)(hex_digit(t->p[0]) * 16 + hex_digit(t->p[1]));
        t->p += 2;
        return 0;
    }
    return fail_line(t, "unknown escape");
}

/* One word, ended by a blank, a line's end or, where stop is given, that character. */
static int read_word(struct text *t, char stop, struct slice *ret_word)
{
    char *word = arena_alloc(t->arena, (size_t)(t->end - t->p) + 1);
    char quote = *t->p == '"' || *t->p == '\'' ? *t->p : 0;
    size_t n = 0;

    if (word == NULL)
        return ctl_fail("out of memory");
    t->p += quote != 0;
    for (;; n++) {
        if (at_line_end(t)) {
            if (quote != 0)
                return fail_line(t, "a quote is not closed");
            break;
        }
        if (quote == 0 && (*t->p == ' ' || *t->p == '\t' || *t->p == '\r' || (stop != 0 && *t->p == stop)))
            break;
        if (quote != 0 && *t->p == quote) {
            t->p++;
            break;
        }
        word[n] = *t->p++;
        if (quote == '"' && word[n] == '\\' && (at_line_end(t) || read_escape(t, &word[n]) < 0))
            return at_line_end(t) ? fail_line(t, "a quote is not closed") : -1;
    }
    *ret_word = slice_make(word, n);
    return 0;
}

/* ---- compares ---- */

static int parse_number(const struct text *t, struct slice s, int base, int64_t *ret_n)
{
    char *end;
    const char *text = (const char *)s.data; /* a word is followed by a NUL */

    errno = 0;
    *ret_n = strtoll(text, &end, base);
    if (errno != 0 || s.len == 0 || end != text + s.len)
        return fail_line(t, "a number is expected");
    return 0;
}

static int find_target(const struct text *t, struct slice name, struct op_compare *c)
{
    static const struct {
        const char *name;
        enum compare_target target;
    } names[] = {
        {"ver", COMPARE_VERSION}, {"version", COMPARE_VERSION}, {"c", COMPARE_CREATE}, {"create", COMPARE_CREATE},
        {"m", COMPARE_MOD},       {"mod", COMPARE_MOD},         {"val", COMPARE_VALUE}, {"value", COMPARE_VALUE},
        {"lease", COMPARE_LEASE},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal(name, slice_from_str(names[i].name))) {
            c->target = names[i].target;
            return 0;
        }
    }
    return fail_line(t, "a compare begins with version, create, mod, value or lease");
}

static int read_relation(struct text *t, struct op_compare *c)
{
    if (t->end - t->p >= 2 && t->p[0] == '!' && t->p[1] == '=') {
        c->result = COMPARE_NOT_EQUAL;
        t->p += 2;
        return 0;
    }
    if (t->p < t->end && strchr("=<>", *t->p) != NULL && *t->p != '\0') {
        c->result = *t->p == '=' ? COMPARE_EQUAL : *t->p == '<' ? COMPARE_LESS : COMPARE_GREATER;
        t->p++;
        return 0;
    }
    return fail_line(t, "one of = != < > is expected");
}

/* target("key") relation "value" */
static int parse_compare(struct text *t, struct op_compare *c)
{
    struct slice word;

    if (read_word(t, '(', &word) < 0 || find_target(t, word, c) < 0)
        return -1;
    skip_blanks(t);
    if (t->p == t->end || *t->p++ != '(')
        return fail_line(t, "( is expected");
    skip_blanks(t);
    if (at_line_end(t) || read_word(t, ')', &c->key) < 0)
        return at_line_end(t) ? fail_line(t, "a key is expected") : -1;
    skip_blanks(t);
    if (t->p == t->end || *t->p++ != ')')
        return fail_line(t, ") is expected");
    skip_blanks(t);
    if (read_relation(t, c) < 0)
        return -1;
    skip_blanks(t);
    if (at_line_end(t) || read_word(t, 0, &word) < 0)
        return at_line_end(t) ? fail_line(t, "a value to compare with is expected") : -1;
    skip_blanks(t);
    if (!at_line_end(t))
        return fail_line(t, "there is something behind the compare");
    if (c->target == COMPARE_VALUE) {
        c->value = word;
        return 0;
    }
    return parse_number(t, word, c->target == COMPARE_LEASE ? 16 : 10, &c->number);
}

static int parse_op(struct text *t, struct op *op)
{
    char *argv[LINE_WORDS + 1];
    int argc = 0;

    while (!at_line_end(t)) {
        struct slice word;

        if (argc == LINE_WORDS)
            return fail_line(t, "too many words");
        if (read_word(t, 0, &word) < 0)
            return -1;
        if (memchr(word.data, 0, word.len) != NULL)
            return fail_line(t, "NUL bytes can only be given in JSON");
        argv[argc++] = (char *)word.data;
        skip_blanks(t);
    }
    argv[argc] = NULL;
    return ctl_options_parse_op(argc, argv, t->arena, op);
}

/* ---- the three parts ---- */

static size_t count_lines(const struct text *t)
{
    size_t n = 1;

    for (const char *p = t->p; p < t->end; p++)
        n += *p == '\n';
    return n;
}

/* Whether there is a line with something in it, up to the empty one that ends the part; skips that one. */
static bool next_line(struct text *t)
{
    if (t->p == t->end)
        return false;
    skip_blanks(t);
    if (!at_line_end(t))
        return true;
    if (t->p < t->end)
        t->p++;
    t->line++;
    return false;
}

static void end_line(struct text *t)
{
    if (t->p < t->end)
        t->p++;
    t->line++;
}

static int parse_ops(struct text *t, struct op **ret_ops, size_t *ret_n)
{
    struct op *ops = arena_array(t->arena, count_lines(t), sizeof(*ops));
    size_t n = 0;

    if (ops == NULL)
        return ctl_fail("out of memory");
    for (; next_line(t); n++) {
        if (parse_op(t, &ops[n]) < 0)
            return -1;
        end_line(t);
    }
    *ret_ops = ops;
    *ret_n = n;
    return 0;
}

int ctl_txn_parse(const char *text, size_t len, struct arena *arena, struct txn *ret_txn)
{
    struct text t = {text, text + len, 1, arena};
    struct txn txn = {0};

    txn.compares = arena_array(arena, count_lines(&t), sizeof(*txn.compares));
    if (txn.compares == NULL)
        return ctl_fail("out of memory");
    for (; next_line(&t); txn.n_compares++) {
        if (parse_compare(&t, &txn.compares[txn.n_compares]) < 0)
            return -1;
        end_line(&t);
    }
    if (parse_ops(&t, &txn.success, &txn.n_success) < 0 || parse_ops(&t, &txn.failure, &txn.n_failure) < 0)
        return -1;
    for (; t.p < t.end; t.p++)
        if (!isspace((unsigned char)*t.p))
            return fail_line(&t, "there is something behind the third part");
    *ret_txn = txn;
    return 0;
}
