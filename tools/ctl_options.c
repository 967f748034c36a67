#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "tools/ctl.h"

enum option_id {
    OPT_SOCKET = 256,
    OPT_OUTPUT,
    OPT_TIMEOUT,
    OPT_HEX,
    OPT_HELP,
    OPT_VERSION,
    OPT_CONSISTENCY,
    OPT_PREFIX,
    OPT_FROM_KEY,
    OPT_REV,
    OPT_FROM,
    OPT_LIMIT,
    OPT_SORT_BY,
    OPT_ORDER,
    OPT_KEYS_ONLY,
    OPT_VALUE_ONLY,
    OPT_COUNT_ONLY,
    OPT_PREV_KV,
    OPT_LEASE,
    OPT_IGNORE_VALUE,
    OPT_IGNORE_LEASE,
    OPT_PEER_URLS,
    OPT_LEARNER,
};

#define BIT(id) (1u << ((id)-OPT_SOCKET))
#define OF_ALL (BIT(OPT_SOCKET) | BIT(OPT_OUTPUT) | BIT(OPT_TIMEOUT) | BIT(OPT_HEX) | BIT(OPT_HELP) | BIT(OPT_VERSION))

static const struct option long_options[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"hex", no_argument, NULL, OPT_HEX},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"consistency", required_argument, NULL, OPT_CONSISTENCY},
    {"prefix", no_argument, NULL, OPT_PREFIX},
    {"from-key", no_argument, NULL, OPT_FROM_KEY},
    {"rev", required_argument, NULL, OPT_REV},
    {"from", required_argument, NULL, OPT_FROM},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"sort-by", required_argument, NULL, OPT_SORT_BY},
    {"order", required_argument, NULL, OPT_ORDER},
    {"keys-only", no_argument, NULL, OPT_KEYS_ONLY},
    {"print-value-only", no_argument, NULL, OPT_VALUE_ONLY},
    {"count-only", no_argument, NULL, OPT_COUNT_ONLY},
    {"prev-kv", no_argument, NULL, OPT_PREV_KV},
    {"lease", required_argument, NULL, OPT_LEASE},
    {"ignore-value", no_argument, NULL, OPT_IGNORE_VALUE},
    {"ignore-lease", no_argument, NULL, OPT_IGNORE_LEASE},
    {"peer-urls", required_argument, NULL, OPT_PEER_URLS},
    {"learner", no_argument, NULL, OPT_LEARNER},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name;
    enum ctl_command command;
    unsigned allowed;
    size_t min_args, max_args;
} commands[] = {
    {"status", CTL_STATUS, 0, 0, 0},
    {"get", CTL_GET,
     BIT(OPT_CONSISTENCY) | BIT(OPT_PREFIX) | BIT(OPT_FROM_KEY) | BIT(OPT_REV) | BIT(OPT_LIMIT) | BIT(OPT_SORT_BY) |
         BIT(OPT_ORDER) | BIT(OPT_KEYS_ONLY) | BIT(OPT_VALUE_ONLY) | BIT(OPT_COUNT_ONLY), 1, 2},
    {"put", CTL_PUT, BIT(OPT_PREV_KV) | BIT(OPT_LEASE) | BIT(OPT_IGNORE_VALUE) | BIT(OPT_IGNORE_LEASE), 1, 2},
    {"del", CTL_DEL, BIT(OPT_PREFIX) | BIT(OPT_FROM_KEY) | BIT(OPT_PREV_KV), 1, 2},
    {"txn", CTL_TXN, 0, 0, 0},
    {"watch", CTL_WATCH, BIT(OPT_PREFIX) | BIT(OPT_FROM_KEY) | BIT(OPT_REV) | BIT(OPT_PREV_KV), 1, 2},
    {"compact", CTL_COMPACT, 0, 1, 1},
    {"fs", CTL_FS, BIT(OPT_CONSISTENCY) | BIT(OPT_REV) | BIT(OPT_LIMIT), 2, 2},
    {"log", CTL_LOG, BIT(OPT_FROM), 1, 1},
    {"member", CTL_MEMBER, BIT(OPT_PEER_URLS) | BIT(OPT_LEARNER), 1, 2},
    {"move-leader", CTL_MOVE_LEADER, 0, 1, 1},
    {"version", CTL_VERSION, 0, 0, 0},
    {"help", CTL_HELP, 0, 0, 1},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int parse_number(const char *name, const char *text, int base, int64_t *ret_n)
{
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, base);
    if (errno != 0 || end == text || *end != '\0' || n < 0)
        return ctl_fail("--%s takes a number, not '%s'", name, text);
    *ret_n = n;
    return 0;
}

static int parse_word(const char *name, const char *text, const char *const *words, size_t n, unsigned *ret_at)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_at = (unsigned)i;
            return 0;
        }
    }
    return ctl_fail("--%s does not know '%s'", name, text);
}

#define WORDS(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static int take_output(const char *text, struct ctl_options *o)
{
    unsigned at = 0;

    if (parse_word("output", text, WORDS("text", "simple", "json"), &at) < 0)
        return -1;
    o->json = at == 2;
    return 0;
}

static int take_timeout(const char *text, struct ctl_options *o)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || (*end != '\0' && strcmp(end, "s") != 0) || !(seconds > 0 && seconds < 1e6))
        return ctl_fail("--timeout takes seconds, not '%s'", text);
    o->timeout_ms = (uint64_t)(seconds * 1000);
    return 0;
}

static int take_enum(int id, const char *text, struct ctl_options *o)
{
    unsigned at = 0;

    if (id == OPT_CONSISTENCY) {
        if (parse_word("consistency", text, WORDS("l", "linearizable", "s", "serializable", "local"), &at) < 0)
            return -1;
        o->local = at >= 2;
    } else if (id == OPT_SORT_BY) {
        if (parse_word("sort-by", text, WORDS("key", "version", "create", "modify", "value"), &at) < 0)
            return -1;
        o->sort_target = (enum sort_target)at;
        if (o->sort_order == SORT_NONE)
            o->sort_order = SORT_ASCEND;
    } else {
        if (parse_word("order", text, WORDS("none", "ascend", "descend"), &at) < 0)
            return -1;
        o->sort_order = (enum sort_order)at;
    }
    return 0;
}

static int take_option(int id, const char *arg, struct ctl_options *o)
{
    switch (id) {
    case OPT_SOCKET:
        o->socket = arg;
        return 0;
    case OPT_OUTPUT:
        return take_output(arg, o);
    case OPT_TIMEOUT:
        return take_timeout(arg, o);
    case OPT_HEX:
        o->hex = true;
        return 0;
    case OPT_HELP:
        o->help = true;
        return 0;
    case OPT_PREFIX:
        o->prefix = true;
        return 0;
    case OPT_FROM_KEY:
        o->from_key = true;
        return 0;
    case OPT_REV:
        return parse_number("rev", arg, 10, &o->rev);
    case OPT_FROM:
        return parse_number("from", arg, 10, &o->rev);
    case OPT_LIMIT:
        return parse_number("limit", arg, 10, &o->limit);
    case OPT_LEASE:
        return parse_number("lease", arg, 16, &o->lease);
    case OPT_KEYS_ONLY:
        o->keys_only = true;
        return 0;
    case OPT_VALUE_ONLY:
        o->value_only = true;
        return 0;
    case OPT_COUNT_ONLY:
        o->count_only = true;
        return 0;
    case OPT_PREV_KV:
        o->prev_kv = true;
        return 0;
    case OPT_IGNORE_VALUE:
        o->ignore_value = true;
        return 0;
    case OPT_IGNORE_LEASE:
        o->ignore_lease = true;
        return 0;
    case OPT_PEER_URLS:
        o->peer_urls = arg;
        return 0;
    case OPT_LEARNER:
        o->learner = true;
        return 0;
    }
    return take_enum(id, arg, o);
}

/* All options into o, their bits into used; argv is reordered so that the rest stands behind optind. */
static int take_options(int argc, char **argv, struct ctl_options *o, unsigned *ret_used)
{
    unsigned used = 0;
    int id;

    optind = 0; /* a fresh start for GNU's getopt */
    opterr = 0;
    while ((id = getopt_long(argc, argv, "o:w:h", long_options, NULL)) != -1) {
        if (id == 'o' || id == 'w')
            id = OPT_OUTPUT;
        else if (id == 'h')
            id = OPT_HELP;
        else if (id == OPT_VERSION)
            o->command = CTL_VERSION;
        if (id == '?')
            return ctl_fail("%s is not an option, or its value is missing (--help lists them)", argv[optind - 1]);
        if (id != OPT_VERSION && take_option(id, optarg, o) < 0)
            return -1;
        used |= BIT(id);
    }
    *ret_used = used;
    return 0;
}

static int check_allowed(size_t at, unsigned used)
{
    unsigned wrong = used & ~(commands[at].allowed | OF_ALL);

    for (size_t i = 0; long_options[i].name != NULL; i++)
        if ((wrong & BIT(long_options[i].val)) != 0)
            return ctl_fail("--%s is not an option of %s", long_options[i].name, commands[at].name);
    return 0;
}

static int find_command(const char *name, size_t *ret_at)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            *ret_at = i;
            return 0;
        }
    }
    return ctl_fail("'%s' is not a command (--help lists them)", name);
}

int ctl_options_parse(int argc, char **argv, struct ctl_options *ret_options)
{
    struct ctl_options o = {.command = CTL_HELP, .timeout_ms = 10000};
    unsigned used = 0;
    size_t at = 0;

    if (take_options(argc, argv, &o, &used) < 0)
        return -1;
    if (o.help || o.command == CTL_VERSION)
        goto done;
    if (optind == argc)
        return ctl_fail("a command is missing (--help lists them)");
    if (find_command(argv[optind], &at) < 0 || check_allowed(at, used) < 0)
        return -1;
    o.command = commands[at].command;
    o.args = argv + optind + 1;
    o.n_args = (size_t)(argc - optind - 1);
    if (o.n_args < commands[at].min_args || o.n_args > commands[at].max_args)
        return ctl_fail("%s: wrong number of arguments (--help shows them)", commands[at].name);
done:
    *ret_options = o;
    return 0;
}

/* The end of the range of all keys with the prefix; "\0" where there is no end. */
static int prefix_end(struct slice key, struct arena *arena, struct slice *ret_end)
{
    uint8_t *p;
    size_t n = key.len;

    while (n > 0 && key.data[n - 1] == 0xff)
        n--;
    if (n == 0) {
        *ret_end = slice_make("\0", 1);
        return 0;
    }
    p = arena_alloc(arena, n);
    if (p == NULL)
        return ctl_fail("out of memory");
    memcpy(p, key.data, n);
    p[n - 1]++;
    *ret_end = slice_make(p, n);
    return 0;
}

/* key [range_end], --prefix, --from-key: as etcdctl reads them; an empty key then means the first possible one. */
static int key_and_end(const struct ctl_options *o, struct arena *arena, struct slice *ret_key, struct slice *ret_end)
{
    struct slice key = slice_from_str(o->args[0]), end = {NULL, 0};

    if ((o->prefix && o->from_key) || (o->n_args == 2 && (o->prefix || o->from_key)))
        return ctl_fail("a range's end, --prefix and --from-key exclude each other");
    if (o->n_args == 2)
        end = slice_from_str(o->args[1]);
    if (key.len == 0 && (o->prefix || o->from_key)) {
        key = slice_make("\0", 1);
        end = slice_make("\0", 1);
    } else if (o->from_key) {
        end = slice_make("\0", 1);
    } else if (o->prefix && prefix_end(key, arena, &end) < 0) {
        return -1;
    }
    *ret_key = key;
    *ret_end = end;
    return 0;
}

int ctl_range_from(const struct ctl_options *o, struct arena *arena, struct op_range *ret_op)
{
    struct op_range op = {
        .limit = o->limit,
        .revision = o->rev,
        .sort_order = o->sort_order,
        .sort_target = o->sort_target,
        .serializable = o->local,
        .keys_only = o->keys_only,
        .count_only = o->count_only,
    };

    if (o->keys_only && (o->value_only || o->count_only))
        return ctl_fail("--keys-only, --print-value-only and --count-only exclude each other");
    if (key_and_end(o, arena, &op.key, &op.range_end) < 0)
        return -1;
    *ret_op = op;
    return 0;
}

int ctl_delete_from(const struct ctl_options *o, struct arena *arena, struct op_delete *ret_op)
{
    struct op_delete op = {.prev_kv = o->prev_kv};

    if (key_and_end(o, arena, &op.key, &op.range_end) < 0)
        return -1;
    *ret_op = op;
    return 0;
}

int ctl_put_from(const struct ctl_options *o, struct op_put *ret_op)
{
    struct op_put op = {
        .key = slice_from_str(o->args[0]),
        .lease = o->lease,
        .prev_kv = o->prev_kv,
        .ignore_value = o->ignore_value,
        .ignore_lease = o->ignore_lease,
    };

    if (o->ignore_value && o->n_args == 2)
        return ctl_fail("put: a value and --ignore-value exclude each other");
    if (o->n_args == 2)
        op.value = slice_from_str(o->args[1]);
    *ret_op = op;
    return 0;
}

int ctl_options_parse_op(int argc, char **argv, struct arena *arena, struct op *ret_op)
{
    struct ctl_options o = {0};
    struct op op = {0};
    unsigned used = 0;
    size_t at = 0;
    int rc;

    if (take_options(argc, argv, &o, &used) < 0 || find_command(argv[0], &at) < 0 || check_allowed(at, used) < 0)
        return -1;
    o.args = argv + optind;
    o.n_args = (size_t)(argc - optind);
    if (o.n_args < commands[at].min_args || o.n_args > commands[at].max_args)
        return ctl_fail("txn: %s: wrong number of arguments", argv[0]);
    switch (commands[at].command) {
    case CTL_GET:
        op.kind = OP_RANGE;
        rc = ctl_range_from(&o, arena, &op.range);
        break;
    case CTL_PUT:
        op.kind = OP_PUT;
        if (o.n_args == 1 && !o.ignore_value)
            return ctl_fail("txn: put takes a key and a value");
        rc = ctl_put_from(&o, &op.put);
        break;
    case CTL_DEL:
        op.kind = OP_DELETE;
        rc = ctl_delete_from(&o, arena, &op.del);
        break;
    default:
        return ctl_fail("txn: '%s' is not an operation; get, put and del are", argv[0]);
    }
    if (rc == 0)
        *ret_op = op;
    return rc;
}

void ctl_usage(struct bytes *out)
{
    static const char text[] =
        "quorumctl - look into and change a quorumfs cluster through a node of it\n"
        "\n"
        "  quorumctl [OPTIONS] COMMAND [ARGUMENTS]\n"
        "\n"
        "  status                     members, leader, term, revision, lag\n"
        "  get KEY [END]              --prefix --from-key --rev N --limit N --sort-by key|version|create|modify|value\n"
        "                             --order ascend|descend --keys-only --print-value-only --count-only\n"
        "                             --consistency linearizable|local\n"
        "  put KEY [VALUE]            the value from standard input if it is not given; --prev-kv --lease HEX\n"
        "                             --ignore-value --ignore-lease\n"
        "  del KEY [END]              --prefix --from-key --prev-kv\n"
        "  txn                        from standard input: compares, operations if they hold, operations if not,\n"
        "                             each part ended by an empty line; or JSON with -o json\n"
        "  watch KEY [END]            each change once, in order: --prefix --from-key --rev N --prev-kv\n"
        "  fs ls|cat|history PATH     files as a mount shows them: --rev N; history --limit N; --consistency\n"
        "  compact REV                forget what was before revision REV\n"
        "  member list | add NAME --peer-urls URLS [--learner] | remove ID | update ID --peer-urls URLS | promote ID\n"
        "  move-leader ID             another member leads\n"
        "  log dump                   the node's log of changes: --from N\n"
        "  db stat|check|dump [keys|log|dirs|gone|leases|members]\n"
        "                             of the node's data, of --data-dir DIR, or of a checkpoint --file FILE: statistics;\n"
        "                             whether everything fits; rows, with --values, the log --from N\n"
        "  db defragment              gives free space inside the node's file back, while it runs\n"
        "  snapshot save FILE         a backup, from the node; snapshot status FILE verifies one\n"
        "  snapshot restore FILE ...  a new data directory from one: flags of quorumfsd follow\n"
        "  version\n"
        "\n"
        "  --socket PATH              the node's socket; else $QUORUMFS_SOCKET, the only *.quorumfs/node.sock here, or\n"
        "                             /var/lib/quorumfs/node.sock\n"
        "  -o, --output text|json     JSON has keys and values in base64\n"
        "  --hex                      keys and values as \\x escapes\n"
        "  --timeout SECONDS          10; a watch waits for ever\n"
        "  -h, --help  --version\n";

    bytes_append(out, slice_from_str(text));
}
