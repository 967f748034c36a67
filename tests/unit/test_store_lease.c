/* Leases in the store: which keys hang on one, and what happens when it ends. */
#include "tests/unit/store_fixture.h"

#include <errno.h>

static uint16_t grant(struct fixture *f, int64_t id, int64_t ttl_s)
{
    struct result r = fixture_apply(f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = id, .ttl_s = ttl_s}});

    if (r.status == STATUS_OK)
        assert_int_equal(id, r.lease.id);
    return r.status;
}

static struct result end_lease(struct fixture *f, int64_t id)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease = {.id = id}});
}

static struct result put(struct fixture *f, struct op_put op)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_PUT, .put = op});
}

struct key_text {
    char text[256];
};

static int note_key(void *ctx, struct slice key)
{
    struct key_text *t = ctx;
    size_t n = strlen(t->text);

    snprintf(t->text + n, sizeof(t->text) - n, "%.*s ", (int)key.len, (const char *)key.data);
    return 0;
}

static void expect_keys(struct fixture *f, int64_t id, const char *expected)
{
    struct key_text t = {""};
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_lease_keys(r, id, note_key, &t));
    store_read_end(r);
    assert_string_equal(expected, t.text);
}

static struct lease_info info(struct fixture *f, int64_t id)
{
    struct lease_info lease = {0};
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_lease_get(r, id, &lease));
    store_read_end(r);
    return lease;
}

static uint64_t logical_bytes(struct fixture *f)
{
    struct store_meta meta;
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    store_read_end(r);
    return meta.logical_bytes;
}

static void grants_answer_as_etcd_does(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    assert_int_equal(STATUS_LEASE_NOT_FOUND, grant(&f, 0, 10));
    assert_int_equal(STATUS_LEASE_TTL_TOO_LARGE, grant(&f, 7, LEASE_TTL_MAX_S + 1));
    assert_int_equal(STATUS_OK, grant(&f, 7, LEASE_TTL_MAX_S));
    assert_int_equal(STATUS_LEASE_EXISTS, grant(&f, 7, 10));
    assert_int_equal(STATUS_LEASE_TTL_TOO_LARGE, grant(&f, 7, LEASE_TTL_MAX_S + 1)); /* asked before whether it is there */
    assert_int_equal(STATUS_OK, grant(&f, -3, -5));
    assert_int_equal(1, info(&f, -3).ttl_s);
    assert_true(info(&f, 7).ttl_s == LEASE_TTL_MAX_S);
    assert_int_equal(STATUS_LEASE_NOT_FOUND, end_lease(&f, 8).status);
    assert_int_equal(1, end_lease(&f, 7).revision); /* without keys it takes no revision */
    assert_int_equal(STATUS_LEASE_NOT_FOUND, end_lease(&f, 7).status);
    fixture_end(&f);
}

static void a_put_moves_keeps_or_detaches(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    assert_int_equal(STATUS_LEASE_NOT_FOUND, put(&f, (struct op_put){.key = S("a"), .lease = 1}).status);
    grant(&f, 1, 10);
    grant(&f, 2, 10);
    put(&f, (struct op_put){.key = S("a"), .lease = 1});
    put(&f, (struct op_put){.key = S("b"), .lease = 1});
    expect_keys(&f, 1, "a b ");
    put(&f, (struct op_put){.key = S("a"), .lease = 1, .value = S("v")});
    expect_keys(&f, 1, "a b ");
    put(&f, (struct op_put){.key = S("a"), .lease = 2});
    expect_keys(&f, 1, "b ");
    expect_keys(&f, 2, "a ");
    put(&f, (struct op_put){.key = S("a"), .ignore_lease = true, .value = S("w")});
    expect_keys(&f, 2, "a ");
    put(&f, (struct op_put){.key = S("a"), .value = S("x")});
    expect_keys(&f, 2, "");
    assert_int_equal(STATUS_LEASE_PROVIDED,
                     put(&f, (struct op_put){.key = S("a"), .ignore_lease = true, .lease = 2}).status);
    assert_int_equal(STATUS_KEY_NOT_FOUND, put(&f, (struct op_put){.key = S("no"), .ignore_lease = true}).status);
    /* etcd looks for the lease first in a put, last in a transaction */
    assert_int_equal(STATUS_LEASE_NOT_FOUND,
                     put(&f, (struct op_put){.key = S("no"), .ignore_value = true, .lease = 9}).status);
    fixture_delete(&f, "b", S(""));
    expect_keys(&f, 1, "");
    fixture_end(&f);
}

static void the_end_deletes_its_keys_in_one_revision(void **state)
{
    static const char *const keys[] = {"z", "a", "m"};
    struct fixture f;
    struct store_read *r;
    struct event event;
    uint64_t before;
    int64_t revision;

    fixture_begin(&f);
    fixture_put(&f, "b", "stays");
    before = logical_bytes(&f);
    grant(&f, 5, 10);
    for (int i = 0; i < 3; i++)
        revision = put(&f, (struct op_put){.key = S(keys[i]), .lease = 5}).revision;
    assert_int_equal(revision + 1, end_lease(&f, 5).revision);
    assert_int_equal(1, fixture_range(&f, (struct op_range){.key = S("a"), .range_end = S("zz")}, STATUS_OK).count);
    assert_int_equal(0, store_read_begin(f.store, &r));
    for (int i = 0; i < 3; i++) { /* in key order, as in etcd */
        assert_int_equal(0, store_event_at(r, (struct rev){revision + 1, i}, &f.arena, &event));
        assert_int_equal(EVENT_DELETE, event.kind);
        assert_slice(((const char *const[]){"a", "m", "z"})[i], event.key);
    }
    assert_int_equal(-ENOENT, store_event_at(r, (struct rev){revision + 1, 3}, &f.arena, &event));
    store_read_end(r);
    expect_keys(&f, 5, "");
    assert_int_equal(STATUS_LEASE_NOT_FOUND, end_lease(&f, 5).status);
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = revision + 1});
    assert_int_equal(before, logical_bytes(&f));
    fixture_end(&f);
}

/* The leader's clock has no say any more when another one leads. */
static void expiry_counts_in_its_own_term_only(void **state)
{
    struct command cmd = {.kind = COMMAND_LEASE_EXPIRE, .lease = {.id = 5, .term = 2}};
    struct fixture f;

    fixture_begin(&f);
    grant(&f, 5, 10);
    put(&f, (struct op_put){.key = S("a"), .lease = 5});
    assert_int_equal(STATUS_NOT_LEADER, fixture_apply(&f, cmd).status); /* entries of the fixture are of term 1 */
    expect_keys(&f, 5, "a ");
    cmd.lease.term = 1;
    assert_int_equal(STATUS_OK, fixture_apply(&f, cmd).status);
    assert_int_equal(0, fixture_range(&f, (struct op_range){.key = S("a")}, STATUS_OK).count);
    assert_int_equal(STATUS_LEASE_NOT_FOUND, fixture_apply(&f, cmd).status);
    fixture_end(&f);
}

static int count_lease(void *ctx, const struct lease_info *lease)
{
    return ++*(int *)ctx == 2;
}

static void checkpoints_say_what_remains(void **state)
{
    struct lease_checkpoint points[] = {{1, 7}, {9, 5}, {2, 8}};
    struct command cmd = {.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {points, 3}};
    struct store_read *r;
    struct fixture f;
    int n = 0;

    fixture_begin(&f);
    grant(&f, 1, 10);
    grant(&f, 2, 20);
    grant(&f, 3, 30);
    assert_int_equal(STATUS_OK, fixture_apply(&f, cmd).status); /* 9 has ended meanwhile */
    assert_int_equal(7, info(&f, 1).remaining_s);
    assert_int_equal(10, info(&f, 1).ttl_s);
    assert_int_equal(8, info(&f, 2).remaining_s);
    assert_int_equal(0, info(&f, 3).remaining_s);
    points[0].remaining_s = 0; /* it was kept alive */
    fixture_apply(&f, cmd);
    assert_int_equal(0, info(&f, 1).remaining_s);
    points[0].remaining_s = -1;
    assert_int_equal(STATUS_INVALID_REQUEST, fixture_apply(&f, cmd).status);
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_leases(r, 0, count_lease, &n));
    assert_int_equal(2, n); /* stopped */
    assert_int_equal(0, store_leases(r, 2, count_lease, &n));
    assert_int_equal(3, n);
    store_read_end(r);
    fixture_end(&f);
}

static struct result file(struct fixture *f, enum command_kind kind, struct file_op op)
{
    return fixture_apply(f, (struct command){.kind = (uint16_t)kind, .file = op});
}

/* Files made by clientv3 with a lease keep it through what a mount does to them. */
static void files_keep_their_lease(void **state)
{
    struct fixture f;
    uint64_t ino_a, ino_b;

    fixture_begin(&f);
    grant(&f, 5, 10);
    put(&f, (struct op_put){.key = S("/d/a"), .lease = 5});
    file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/a"), .value = S("more")});
    file(&f, COMMAND_FILE_SETATTR, (struct file_op){.path = S("/d/a"), .attrs = {.has = ATTR_MODE, .mode = 0600}});
    expect_keys(&f, 5, "/d/a ");
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/d"), .path2 = S("/e")}).status);
    expect_keys(&f, 5, "/e/a ");
    fixture_put(&f, "/e/b", "");
    ino_a = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/e/a"), .value = S("x")}).file.ino;
    ino_b = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/e/b"), .value = S("x")}).file.ino;
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME,
                                     (struct file_op){.path = S("/e/a"), .path2 = S("/e/b"), .ino = ino_a, .ino2 = ino_b,
                                                      .flags = FILE_EXCHANGE}).status);
    expect_keys(&f, 5, "/e/b ");
    file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("/e/b")});
    expect_keys(&f, 5, "");
    fixture_end(&f);
}

static void keys_of_any_length_hang_on_a_lease(void **state)
{
    static uint8_t big[KEY_MAX_BYTES];
    struct fixture f;

    fixture_begin(&f);
    memset(big, 'k', sizeof(big));
    grant(&f, 5, 10);
    for (size_t len = 400; len <= KEY_MAX_BYTES; len += 1776)
        assert_int_equal(STATUS_OK, put(&f, (struct op_put){.key = slice_make(big, len), .lease = 5}).status);
    assert_int_equal(10, fixture_range(&f, (struct op_range){.key = S("k"), .range_end = S("l")}, STATUS_OK).count);
    assert_int_equal(STATUS_OK, end_lease(&f, 5).status);
    assert_int_equal(0, fixture_range(&f, (struct op_range){.key = S("k"), .range_end = S("l")}, STATUS_OK).count);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants_answer_as_etcd_does),
        cmocka_unit_test(a_put_moves_keeps_or_detaches),
        cmocka_unit_test(the_end_deletes_its_keys_in_one_revision),
        cmocka_unit_test(expiry_counts_in_its_own_term_only),
        cmocka_unit_test(checkpoints_say_what_remains),
        cmocka_unit_test(files_keep_their_lease),
        cmocka_unit_test(keys_of_any_length_hang_on_a_lease),
    };

    return cmocka_run_group_tests_name("store_lease", tests, NULL, NULL);
}
