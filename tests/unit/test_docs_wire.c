/* docs/commands.md, docs/socket.md, docs/errors.md: their tables say what the code does. Run from the top folder. */
#include "tests/unit/wire_check.h"

#include <errno.h>

#include "proto/command.h"
#include "proto/socket.h"

/* ---- reading tables ---- */

struct page {
    char *text;
    char *next; /* where the next line begins */
};

static struct page open_page(const char *path)
{
    FILE *f = fopen(path, "r");
    struct page p = {calloc(1, 1 << 20), NULL};

    assert_non_null(f);
    assert_true(fread(p.text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    p.next = p.text;
    return p;
}

/* On to the first row of the table below a heading. */
static void find_table(struct page *p, const char *heading)
{
    p->next = strstr(p->text, heading);
    assert_non_null(p->next);
    p->next = strstr(p->next, "\n| ---");
    assert_non_null(p->next);
    p->next = strchr(p->next + 1, '\n') + 1;
}

/* The cells of the next row, cut in place; 0 behind the table. */
static int next_row(struct page *p, char *cells[8])
{
    int n = 0;
    char *end = strchr(p->next, '\n'), *cell = p->next;

    if (*cell != '|')
        return 0;
    *end = '\0';
    p->next = end + 1;
    for (cell++; *cell != '\0' && n < 8; n++) {
        char *bar = strchr(cell, '|'), *last;

        assert_non_null(bar);
        *bar = '\0';
        while (*cell == ' ')
            cell++;
        for (last = bar; last > cell && last[-1] == ' '; last--)
            last[-1] = '\0';
        cells[n] = cell;
        cell = bar + 1;
    }
    return n;
}

/* ---- layouts ---- */

struct want {
    const char *name;
    uint64_t value; /* of a "bytes" field: ignored */
    const char *bytes;
};

static size_t type_bytes(const char *type)
{
    if (strcmp(type, "bytes") == 0)
        return 0;
    return (size_t)atoi(type + 1) / 8;
}

static uint64_t read_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* Each row of the table is the next of want, adjoins the one before it, and finds its value in the encoded bytes. */
static void check_layout(const char *path, const char *heading, const struct want *want, size_t n, struct slice encoded)
{
    struct page p = open_page(path);
    char *cells[8];
    size_t i = 0, end = 0;

    find_table(&p, heading);
    while (next_row(&p, cells) > 0) {
        size_t at = (size_t)atoi(cells[0]), len = type_bytes(cells[1]);

        assert_true(i < n);
        assert_string_equal(cells[2], want[i].name);
        assert_int_equal(at, end);
        if (len == 0) {
            len = strlen(want[i].bytes);
            assert_true(at + len <= encoded.len);
            assert_memory_equal(encoded.data + at, want[i].bytes, len);
        } else {
            assert_true(at + len <= encoded.len);
            assert_true(read_le(encoded.data + at, len) == want[i].value);
        }
        end = at + len;
        i++;
    }
    assert_int_equal(i, n);
    free(p.text);
}

#define CHECK_LAYOUT(path, heading, encoded, ...)                                                                   \
    check_layout(path, heading, (const struct want[]){__VA_ARGS__},                                                 \
                 sizeof((const struct want[]){__VA_ARGS__}) / sizeof(struct want), encoded)

static void the_envelopes_table_is_true(void **state)
{
    struct command cmd = {.kind = COMMAND_ALLOC_INODES, .session = 101, .sequence = 102, .origin = 103,
                          .request = 104, .auth_revision = 105, .time_ns = 106, .min_version = 107,
                          .user = slice_from_str("ann"), .alloc_inodes.count = 1};
    struct bytes b;

    bytes_init(&b);
    command_encode(&cmd, &b);
    CHECK_LAYOUT("docs/commands.md", "## Envelope", bytes_slice(&b), {"format", 1, NULL}, {"zero", 0, NULL},
                 {"kind", COMMAND_ALLOC_INODES, NULL}, {"min_version", 107, NULL}, {"session", 101, NULL}, {"sequence", 102, NULL},
                 {"origin", 103, NULL}, {"request", 104, NULL}, {"auth_revision", 105, NULL}, {"time_ns", 106, NULL}, {"user_bytes", 3, NULL},
                 {"zero", 0, NULL}, {"body_bytes", 2, NULL}, {"user", 0, "ann"});
    bytes_fini(&b);
}

#define KIND(name) {#name, COMMAND_##name, NULL}

static void the_kinds_have_their_numbers(void **state)
{
    static const struct want kinds[] = {
        KIND(NOOP), KIND(PUT), KIND(DELETE_RANGE), KIND(TXN), KIND(COMPACT), KIND(LEASE_GRANT), KIND(LEASE_REVOKE),
        KIND(LEASE_EXPIRE), KIND(LEASE_CHECKPOINT), KIND(ALARM), KIND(QUOTA_SET), KIND(MEMBER_PUBLISH),
        KIND(ALLOC_INODES), KIND(CLUSTER_VERSION), KIND(FILE_WRITE), KIND(FILE_APPEND), KIND(FILE_MKDIR),
        KIND(FILE_SYMLINK), KIND(FILE_UNLINK), KIND(FILE_RMDIR), KIND(FILE_RENAME), KIND(FILE_SETATTR),
        KIND(FILE_SETXATTR), KIND(FILE_REMOVEXATTR), KIND(FILE_LOCK), KIND(FILE_UNLOCK), KIND(FILE_LOCK_CANCEL),
    };
    struct page p = open_page("docs/commands.md");
    char *cells[8];
    size_t i = 0;

    find_table(&p, "## Kinds");
    for (; next_row(&p, cells) > 0; i++) {
        assert_true(i < sizeof(kinds) / sizeof(kinds[0]));
        assert_int_equal(atoi(cells[0]), kinds[i].value);
        assert_string_equal(cells[1], kinds[i].name);
    }
    assert_int_equal(i, sizeof(kinds) / sizeof(kinds[0]));
    free(p.text);
    p = open_page("docs/commands.md");
    assert_non_null(strstr(p.text, "8,454,144 bytes"));
    assert_int_equal(COMMAND_MAX_BYTES, 8454144);
    free(p.text);
}

#define TYPE(name) {#name, SOCKET_##name, NULL}

static void the_frames_tables_are_true(void **state)
{
    static const struct want types[] = {
        TYPE(HELLO), TYPE(WELCOME), TYPE(REFUSED), TYPE(PROPOSE), TYPE(PROPOSED), TYPE(BARRIER), TYPE(BARRIER_DONE),
        TYPE(NOTICE), TYPE(LEADER), TYPE(STATUS), TYPE(STATUS_REPLY),
        TYPE(KEEPALIVE), TYPE(KEEPALIVE_DONE), TYPE(LEASE_TIME), TYPE(LEASE_TIME_DONE), TYPE(MEMBER), TYPE(MEMBER_DONE),
        TYPE(MAINTAIN), TYPE(MAINTAIN_DONE),
    };
    struct page p = open_page("docs/socket.md");
    struct bytes b;
    char *cells[8];
    size_t i = 0;

    bytes_init(&b);
    socket_frame(&b, SOCKET_PROPOSE, 101, slice_from_str("abc"));
    CHECK_LAYOUT("docs/socket.md", "## Frame", bytes_slice(&b), {"length", 15, NULL}, {"type", SOCKET_PROPOSE, NULL},
                 {"zero", 0, NULL}, {"zero", 0, NULL}, {"tag", 101, NULL});
    find_table(&p, "## Types");
    for (; next_row(&p, cells) > 0; i++) {
        assert_true(i < sizeof(types) / sizeof(types[0]));
        assert_int_equal(atoi(cells[0]), types[i].value);
        assert_string_equal(cells[1], types[i].name);
    }
    assert_int_equal(i, sizeof(types) / sizeof(types[0]));
    free(p.text);
    p = open_page("docs/socket.md");
    assert_non_null(strstr(p.text, "8,458,240 bytes"));
    assert_int_equal(SOCKET_FRAME_MAX_BYTES, 8458240);
    assert_non_null(strstr(p.text, "67,108,864"));
    assert_int_equal(SOCKET_ANSWER_MAX_BYTES, 67108864);
    bytes_fini(&b);
    free(p.text);
}

static void the_payloads_tables_are_true(void **state)
{
    const char *path = "docs/socket.md";
    struct bytes b;

    bytes_init(&b);
    socket_hello_encode(&(struct socket_hello){SOCKET_VERSION, slice_from_str("ctl"), 101}, &b);
    CHECK_LAYOUT(path, "## HELLO", bytes_slice(&b), {"version", 1, NULL}, {"pid", 101, NULL}, {"program_bytes", 3, NULL},
                 {"program", 0, "ctl"});
    bytes_reset(&b);
    socket_welcome_encode(&(struct socket_welcome){SOCKET_VERSION, 101, 102, 103, 104, 105, 106, 107, 108,
                                                   slice_from_str("n1"), slice_from_str("/d")}, &b);
    CHECK_LAYOUT(path, "## WELCOME", bytes_slice(&b), {"version", 1, NULL}, {"zero", 0, NULL}, {"cluster_id", 101, NULL},
                 {"member_id", 102, NULL}, {"leader", 103, NULL}, {"term", 104, NULL}, {"epoch", 105, NULL}, {"revision", 106, NULL},
                 {"heartbeat_ms", 107, NULL}, {"election_ms", 108, NULL}, {"name_bytes", 2, NULL}, {"name", 0, "n1"});
    bytes_reset(&b);
    socket_proposed_encode(&(struct socket_proposed){101, 102, 103, slice_from_str("body")}, &b);
    CHECK_LAYOUT(path, "## PROPOSED", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL}, {"revision", 102, NULL},
                 {"term", 103, NULL}, {"body", 0, "body"});
    bytes_reset(&b);
    socket_barrier_done_encode(&(struct socket_barrier_done){101, 102, 103, 104}, &b);
    CHECK_LAYOUT(path, "## BARRIER_DONE", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL}, {"epoch", 102, NULL},
                 {"term", 103, NULL}, {"revision", 104, NULL});
    bytes_reset(&b);
    socket_notice_encode(&(struct socket_notice){101, 102}, &b);
    CHECK_LAYOUT(path, "## NOTICE", bytes_slice(&b), {"epoch", 101, NULL}, {"revision", 102, NULL});
    bytes_reset(&b);
    socket_leader_encode(&(struct socket_leader){101, 102}, &b);
    CHECK_LAYOUT(path, "## LEADER", bytes_slice(&b), {"leader", 101, NULL}, {"term", 102, NULL});
    bytes_fini(&b);
}

static void the_services_tables_are_true(void **state)
{
    const char *path = "docs/socket.md";
    struct socket_member_done done = {.status = 101, .id = 102, .n_members = 1};
    struct bytes b;

    bytes_init(&b);
    socket_lease_encode(&(struct socket_lease){101}, &b);
    CHECK_LAYOUT(path, "## KEEPALIVE and LEASE_TIME", bytes_slice(&b), {"lease", 101, NULL});
    bytes_reset(&b);
    socket_keepalive_done_encode(&(struct socket_keepalive_done){101, 102}, &b);
    CHECK_LAYOUT(path, "## KEEPALIVE_DONE", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL},
                 {"ttl_s", 102, NULL});
    bytes_reset(&b);
    socket_lease_time_done_encode(&(struct socket_lease_time_done){101, 102, 103}, &b);
    CHECK_LAYOUT(path, "## LEASE_TIME_DONE", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL},
                 {"granted_s", 102, NULL}, {"remaining_s", 103, NULL});
    bytes_reset(&b);
    socket_member_change_encode(&(struct socket_member_change){SOCKET_MEMBER_ADD, true, 101, slice_from_str("http://h:1")}, &b);
    CHECK_LAYOUT(path, "## MEMBER", bytes_slice(&b), {"op", 1, NULL}, {"learner", 1, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL},
                 {"id", 101, NULL}, {"urls_bytes", 10, NULL}, {"urls", 0, "http://h:1"});
    bytes_reset(&b);
    done.members[0] = (struct socket_member){103, true, slice_from_str("n1"), slice_from_str("a"), slice_from_str("b")};
    socket_member_done_encode(&done, &b);
    CHECK_LAYOUT(path, "## MEMBER_DONE", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"n_members", 1, NULL},
                 {"changed", 102, NULL}, {"id", 103, NULL}, {"learner", 1, NULL}, {"name_bytes", 2, NULL}, {"name", 0, "n1"});
    bytes_reset(&b);
    socket_maintain_encode(&(struct socket_maintain){SOCKET_MAINTAIN_MOVE_LEADER, 101}, &b);
    CHECK_LAYOUT(path, "## MAINTAIN", bytes_slice(&b), {"op", 3, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL},
                 {"arg", 101, NULL});
    bytes_reset(&b);
    socket_maintain_done_encode(&(struct socket_maintain_done){101, 102, slice_from_str("/d/c")}, &b);
    CHECK_LAYOUT(path, "## MAINTAIN_DONE", bytes_slice(&b), {"status", 101, NULL}, {"zero", 0, NULL}, {"zero", 0, NULL},
                 {"index", 102, NULL}, {"path_bytes", 4, NULL}, {"path", 0, "/d/c"});
    bytes_fini(&b);
}

static const char *code_name(enum grpc_code code)
{
    static const char *const names[] = {
        "OK", "CANCELED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
        "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    };

    return names[code];
}

static const char *or_dash(const char *text)
{
    return text != NULL && *text != '\0' ? text : "-";
}

static void the_error_table_is_the_codes(void **state)
{
#define ROW_NUMBER(name, number, errno_value, code, text) number,
    static const uint16_t numbers[] = {STATUS_TABLE(ROW_NUMBER)};
    struct page p = open_page("docs/errors.md");
    char *cells[8];
    size_t i = 0;

    find_table(&p, "# Errors");
    for (; next_row(&p, cells) > 0; i++) {
        uint16_t s = (uint16_t)atoi(cells[0]);

        assert_true(i < sizeof(numbers) / sizeof(numbers[0]));
        assert_int_equal(s, numbers[i]);
        assert_string_equal(cells[1], status_name(s));
        assert_string_equal(cells[2], s == STATUS_OK ? "-" : strerrorname_np(status_errno(s)));
        assert_string_equal(cells[3], code_name(status_grpc_code(s)));
        assert_string_equal(cells[4], or_dash(status_text(s)));
    }
    assert_int_equal(i, sizeof(numbers) / sizeof(numbers[0]));
    free(p.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_envelopes_table_is_true),
        cmocka_unit_test(the_kinds_have_their_numbers),
        cmocka_unit_test(the_frames_tables_are_true),
        cmocka_unit_test(the_payloads_tables_are_true),
        cmocka_unit_test(the_services_tables_are_true),
        cmocka_unit_test(the_error_table_is_the_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
