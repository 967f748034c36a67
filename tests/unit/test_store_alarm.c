/* The quota and the alarms: what is refused when, and that the count is the same wherever a compaction is. */
#include "tests/unit/store_fixture.h"

#include <lmdb.h>
#include <errno.h>

#include "tests/unit/store_first_version.h"

static struct result alarm_command(struct fixture *f, int action, uint64_t member, int type)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_ALARM, .alarm = {action, type, member}});
}

static void set_quota(struct fixture *f, uint64_t bytes)
{
    assert_int_equal(STATUS_OK,
                     fixture_apply(f, (struct command){.kind = COMMAND_QUOTA_SET, .quota.bytes = bytes}).status);
}

static uint16_t file(struct fixture *f, enum command_kind kind, struct file_op op)
{
    return fixture_apply(f, (struct command){.kind = (uint16_t)kind, .file = op}).status;
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

static void compact(struct fixture *f, int64_t revision)
{
    assert_int_equal(STATUS_OK,
                     fixture_apply(f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = revision}).status);
}

static struct slice filled(struct fixture *f, size_t n)
{
    uint8_t *p = arena_alloc(&f->arena, n);

    memset(p, 'v', n);
    return slice_make(p, n);
}

/* ---- the list ---- */

static void expect_alarms(struct fixture *f, int type, size_t n, const struct alarm *expected)
{
    struct result r = alarm_command(f, ALARM_GET, 0, type);
    struct store_read *read;
    struct alarm *alarms;
    size_t count;

    assert_int_equal(STATUS_OK, r.status);
    assert_int_equal(n, r.alarms.n_items);
    for (size_t i = 0; i < n; i++)
        assert_true(r.alarms.items[i].member_id == expected[i].member_id &&
                    r.alarms.items[i].type == expected[i].type);
    if (type != ALARM_NONE)
        return;
    assert_int_equal(0, store_read_begin(f->store, &read));
    assert_int_equal(0, store_alarms(read, &f->arena, &alarms, &count));
    assert_int_equal(n, count);
    store_read_end(read);
}

static void alarms_are_listed_as_in_etcd(void **state)
{
    const struct alarm all[] = {{1, ALARM_CORRUPT}, {2, ALARM_NOSPACE}, {2, ALARM_CORRUPT}};
    const struct alarm corrupt[] = {all[0], all[2]};
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    expect_alarms(&f, ALARM_NONE, 0, NULL);
    for (int i = 3; i-- > 0;) {
        r = alarm_command(&f, ALARM_ACTIVATE, all[i].member_id, all[i].type);
        assert_true(r.alarms.n_items == 1 && r.alarms.items[0].member_id == all[i].member_id);
    }
    r = alarm_command(&f, ALARM_ACTIVATE, 2, ALARM_NOSPACE); /* again: the one there is */
    assert_int_equal(1, r.alarms.n_items);
    expect_alarms(&f, ALARM_NONE, 3, all);
    expect_alarms(&f, ALARM_CORRUPT, 2, corrupt);
    assert_int_equal(0, alarm_command(&f, ALARM_ACTIVATE, 2, ALARM_NONE).alarms.n_items);
    assert_int_equal(0, alarm_command(&f, ALARM_DEACTIVATE, 9, ALARM_CORRUPT).alarms.n_items);
    r = alarm_command(&f, ALARM_DEACTIVATE, 2, ALARM_NOSPACE);
    assert_true(r.alarms.n_items == 1 && r.alarms.items[0].type == ALARM_NOSPACE);
    expect_alarms(&f, ALARM_NONE, 2, corrupt);
    assert_int_equal(STATUS_INVALID_REQUEST, alarm_command(&f, 3, 0, 0).status);
    assert_int_equal(1, alarm_command(&f, ALARM_GET, 0, 0).revision); /* none of it takes a revision */
    fixture_end(&f);
}

static void so_many_alarms_there_may_be(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    for (uint64_t i = 1; i <= STORE_ALARMS_MAX; i++)
        assert_int_equal(STATUS_OK, alarm_command(&f, ALARM_ACTIVATE, i, ALARM_CORRUPT).status);
    assert_int_equal(STATUS_TOO_MANY_REQUESTS, alarm_command(&f, ALARM_ACTIVATE, 0, ALARM_CORRUPT).status);
    assert_int_equal(STATUS_OK, alarm_command(&f, ALARM_ACTIVATE, 7, ALARM_CORRUPT).status);
    fixture_end(&f);
}

/* ---- what is refused ---- */

static uint16_t put_status(struct fixture *f)
{
    return fixture_put(f, "k", "v").status;
}

static uint16_t txn_status(struct fixture *f, struct op *success, size_t n_success, struct op *failure, size_t n_failure)
{
    return fixture_apply(f, (struct command){.kind = COMMAND_TXN,
                                             .txn = {.success = success, .n_success = n_success, .failure = failure,
                                                     .n_failure = n_failure}}).status;
}

static void nospace_refuses_what_adds(void **state)
{
    struct op put[] = {{.kind = OP_PUT, .put = {.key = S("k")}}};
    struct op other[] = {{.kind = OP_RANGE, .range = {.key = S("k")}}, {.kind = OP_DELETE, .del = {.key = S("k")}}};
    struct txn inner = {.failure = put, .n_failure = 1};
    struct op nested[] = {{.kind = OP_TXN, .txn = &inner}};
    struct fixture f;

    fixture_begin(&f);
    fixture_put(&f, "k", "v");
    fixture_put(&f, "/d/f", "content");
    fixture_put(&f, "/d/g", "content");
    fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 5, .ttl_s = 10}});
    alarm_command(&f, ALARM_ACTIVATE, 1, ALARM_NOSPACE);
    assert_int_equal(STATUS_NO_SPACE, put_status(&f));
    assert_int_equal(STATUS_NO_SPACE, txn_status(&f, put, 1, NULL, 0));
    assert_int_equal(STATUS_NO_SPACE, txn_status(&f, other, 1, put, 1)); /* whichever way it would go */
    assert_int_equal(STATUS_NO_SPACE, txn_status(&f, nested, 1, NULL, 0));
    assert_int_equal(STATUS_OK, txn_status(&f, other, 2, other, 1));
    assert_int_equal(STATUS_NO_SPACE, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT,
                                                                         .lease = {.id = 6, .ttl_s = 10}}).status);
    assert_int_equal(STATUS_OK, fixture_delete(&f, "k", S("")).status);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease.id = 5}).status);
    compact(&f, 3);

    assert_int_equal(STATUS_NO_SPACE, file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/f"), .value = S("x")}));
    assert_int_equal(STATUS_NO_SPACE, file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/n"), .flags = FILE_CREATE}));
    assert_int_equal(STATUS_NO_SPACE, file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/d/f"), .value = S("x")}));
    assert_int_equal(STATUS_NO_SPACE, file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/m")}));
    assert_int_equal(STATUS_NO_SPACE, file(&f, COMMAND_FILE_SYMLINK, (struct file_op){.path = S("/l")}));
    assert_int_equal(STATUS_NO_SPACE,
                     file(&f, COMMAND_FILE_SETXATTR, (struct file_op){.path = S("/d/f"), .path2 = S("user.x")}));
    assert_int_equal(STATUS_NO_SPACE,
                     file(&f, COMMAND_FILE_SETATTR,
                          (struct file_op){.path = S("/d/f"), .attrs = {.has = ATTR_SIZE, .size = 8}}));
    assert_int_equal(STATUS_NO_SPACE,
                     file(&f, COMMAND_FILE_RENAME,
                          (struct file_op){.path = S("/t"), .path2 = S("/d/n"), .flags = FILE_WITH_VALUE}));
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_SETATTR,
                                     (struct file_op){.path = S("/d/f"), .attrs = {.has = ATTR_SIZE, .size = 2}}));
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_SETATTR,
                                     (struct file_op){.path = S("/d/f"), .attrs = {.has = ATTR_MODE, .mode = 0600}}));
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/f")})); /* to nothing */
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/d/f"), .path2 = S("/d/h")}));
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("/d/g")}));
    alarm_command(&f, ALARM_DEACTIVATE, 1, ALARM_NOSPACE);
    assert_int_equal(STATUS_OK, put_status(&f));
    fixture_end(&f);
}

static void corrupt_refuses_all_keys(void **state)
{
    const struct op_range all = {.key = S("a"), .range_end = S("z")};
    struct lock_op lock = {.ino = 5, .session = 1, .kind = LOCK_POSIX, .type = LOCK_SHARED};
    struct fixture f;

    fixture_begin(&f);
    fixture_put(&f, "k", "v");
    fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 5, .ttl_s = 10}});
    alarm_command(&f, ALARM_ACTIVATE, 3, ALARM_CORRUPT);
    assert_int_equal(STATUS_CORRUPT, put_status(&f));
    assert_int_equal(STATUS_CORRUPT, fixture_delete(&f, "k", S("")).status);
    assert_int_equal(STATUS_CORRUPT, txn_status(&f, NULL, 0, NULL, 0));
    assert_int_equal(STATUS_CORRUPT,
                     fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = 2}).status);
    assert_int_equal(STATUS_CORRUPT, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT,
                                                                        .lease = {.id = 6, .ttl_s = 10}}).status);
    assert_int_equal(STATUS_CORRUPT,
                     fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease.id = 5}).status);
    assert_int_equal(STATUS_CORRUPT, file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("k")}));
    assert_int_equal(STATUS_CORRUPT, fixture_apply(&f, (struct command){.kind = COMMAND_FILE_LOCK, .lock = lock}).status);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_FILE_UNLOCK, .lock = lock}).status);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_MEMBER_PUBLISH,
                                                                   .member = {.id = 1, .version = 2}}).status);
    fixture_range(&f, all, STATUS_CORRUPT);
    alarm_command(&f, ALARM_ACTIVATE, 4, ALARM_CORRUPT);
    alarm_command(&f, ALARM_DEACTIVATE, 3, ALARM_CORRUPT);
    assert_int_equal(STATUS_CORRUPT, put_status(&f)); /* the other one's is still active */
    alarm_command(&f, ALARM_DEACTIVATE, 4, ALARM_CORRUPT);
    assert_int_equal(1, fixture_range(&f, all, STATUS_OK).count);
    fixture_end(&f);
}

/* ---- the quota ---- */

static void passing_the_quota_raises_the_alarm(void **state)
{
    const struct alarm raised = {3, ALARM_NOSPACE};
    struct command put = {.kind = COMMAND_PUT, .origin = 3, .put = {.key = S("k"), .value = {0}}};
    struct fixture f;
    int64_t revision;
    int puts = 0;

    fixture_begin(&f);
    put.put.value = filled(&f, 1000);
    set_quota(&f, 20000);
    while (fixture_apply(&f, put).status == STATUS_OK)
        puts++;
    assert_in_range(puts, 10, 19);
    assert_true(logical_bytes(&f) <= 20000);
    expect_alarms(&f, ALARM_NONE, 1, &raised); /* of the member that proposed it */
    revision = fixture_put(&f, "small", "").revision; /* not even that: the alarm stays */
    assert_int_equal(STATUS_NO_SPACE, put_status(&f));
    /* etcd's way back: delete, compact, disarm */
    assert_int_equal(STATUS_OK, fixture_delete(&f, "k", S("")).status);
    compact(&f, revision + 1);
    assert_int_equal(0, logical_bytes(&f));
    assert_int_equal(STATUS_NO_SPACE, put_status(&f));
    alarm_command(&f, ALARM_DEACTIVATE, 3, ALARM_NOSPACE);
    assert_int_equal(STATUS_OK, fixture_apply(&f, put).status);
    set_quota(&f, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(STATUS_OK, fixture_apply(&f, put).status);
    fixture_end(&f);
}

static void a_quota_counts_from_when_it_was_first_set(void **state)
{
    struct fixture f;
    uint64_t before;

    fixture_begin(&f);
    for (int i = 0; i < 50; i++)
        fixture_put(&f, "k", "value");
    before = logical_bytes(&f);
    set_quota(&f, 1 << 20);
    assert_true(logical_bytes(&f) < before / 10); /* one key and its row */
    before = logical_bytes(&f);
    fixture_put(&f, "k", "value");
    assert_true(logical_bytes(&f) > before);
    before = logical_bytes(&f);
    set_quota(&f, 2 << 20); /* another one changes nothing but the bound */
    assert_int_equal(before, logical_bytes(&f));
    fixture_end(&f);
}

/* The same commands, one node far ahead with the removal of rows, the other behind: one count, row by row. */
static void the_count_does_not_depend_on_removal(void **state)
{
    struct fixture a, b;
    uint64_t most = 0;

    fixture_begin(&a);
    fixture_begin(&b);
    for (int i = 0; i < 3000; i++) {
        char key[16];
        struct command cmd = {.kind = COMMAND_PUT};
        struct store_batch *batch;
        bool more = true;

        snprintf(key, sizeof(key), "k%d", i * 7919 % 500);
        cmd.put = (struct op_put){.key = S(key), .value = filled(&a, (size_t)(i * 37 % 4000))};
        if (i % 3 == 2)
            cmd = (struct command){.kind = COMMAND_DELETE_RANGE, .del.key = S(key)};
        cmd.time_ns = 1 + i;
        fixture_apply(&a, cmd);
        fixture_apply(&b, cmd);
        if (i % 500 == 499) {
            int64_t revision = fixture_range(&a, (struct op_range){.key = S("k")}, STATUS_OK).count + i / 2;

            compact(&a, revision);
            compact(&b, revision);
            assert_int_equal(0, store_batch_begin(a.store, &batch));
            while (more)
                assert_int_equal(0, store_batch_compact(batch, 1000, &more));
            assert_int_equal(0, store_batch_commit(batch));
        }
        assert_int_equal(logical_bytes(&a), logical_bytes(&b));
        most = logical_bytes(&a) > most ? logical_bytes(&a) : most;
    }
    assert_true(most > 2 << 20); /* so there were samples */
    assert_true(logical_bytes(&a) < most);
    fixture_end(&a);
    fixture_end(&b);
}

/* ---- version 0.1 ---- */

static int no_lease(void *ctx, const struct lease_info *lease)
{
    fail();
    return 0;
}

static void an_environment_of_the_first_version_is_taken_over(void **state)
{
    const struct store_options reader = {.flags = 0};
    struct lock_op lock = {.ino = 5, .session = 1, .kind = LOCK_POSIX, .type = LOCK_SHARED};
    struct store_read *r;
    struct store_meta meta;
    struct slice value;
    struct fixture f;
    uint64_t counted;
    struct store *s;
    bool found;

    fixture_begin(&f);
    fixture_put(&f, "/d/a", "one");
    fixture_put(&f, "/d/a", "two");
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/m")});
    compact(&f, 4);
    counted = logical_bytes(&f);
    make_first_version(&f);

    assert_int_equal(0, store_open(f.store_dir, &reader, &s)); /* before its writer: nothing of the new is there */
    assert_int_equal(0, store_read_begin(s, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    assert_int_equal(0, store_leases(r, 0, no_lease, NULL));
    assert_int_equal(0, store_lock_query(r, &lock, &lock, &found));
    assert_false(found);
    assert_int_equal(-ENODATA, store_xattr_get(r, S("/m"), S("user.x"), &f.arena, &value));
    assert_int_equal(0, store_value(r, S("/d/a"), &f.arena, &value));
    assert_slice("two", value);
    store_read_end(r);
    store_close(s);

    fixture_open(&f);
    assert_int_equal(counted, logical_bytes(&f));
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT,
                                                                   .lease = {.id = 5, .ttl_s = 10}}).status);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_PUT,
                                                                   .put = {.key = S("/d/a"), .lease = 5}}).status);
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease.id = 5}).status);
    assert_int_equal(0, fixture_range(&f, (struct op_range){.key = S("/d/a")}, STATUS_OK).count);
    fixture_end(&f);
}

static void the_clusters_version_only_rises(void **state)
{
    struct store_read *r;
    struct store_meta meta;
    struct fixture f;

    fixture_begin(&f);
    for (uint32_t v = 3; v > 0; v--)
        assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_CLUSTER_VERSION,
                                                                       .cluster_version.version = v}).status);
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    assert_int_equal(3, meta.cluster_version);
    store_read_end(r);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alarms_are_listed_as_in_etcd),
        cmocka_unit_test(so_many_alarms_there_may_be),
        cmocka_unit_test(nospace_refuses_what_adds),
        cmocka_unit_test(corrupt_refuses_all_keys),
        cmocka_unit_test(passing_the_quota_raises_the_alarm),
        cmocka_unit_test(a_quota_counts_from_when_it_was_first_set),
        cmocka_unit_test(the_count_does_not_depend_on_removal),
        cmocka_unit_test(an_environment_of_the_first_version_is_taken_over),
        cmocka_unit_test(the_clusters_version_only_rises),
    };

    return cmocka_run_group_tests_name("store_alarm", tests, NULL, NULL);
}
