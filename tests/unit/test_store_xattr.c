/* Extended attributes: they belong to a node, whatever its name, and go with it. */
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <sys/stat.h>

static struct result file(struct fixture *f, enum command_kind kind, struct file_op op)
{
    return fixture_apply(f, (struct command){.kind = (uint16_t)kind, .file = op});
}

static uint16_t set(struct fixture *f, const char *path, const char *name, struct slice value, uint32_t flags)
{
    return file(f, COMMAND_FILE_SETXATTR,
                (struct file_op){.path = S(path), .path2 = S(name), .value = value, .flags = flags}).status;
}

static uint16_t remove_attribute(struct fixture *f, const char *path, const char *name)
{
    return file(f, COMMAND_FILE_REMOVEXATTR, (struct file_op){.path = S(path), .path2 = S(name)}).status;
}

struct names {
    char text[512];
};

static int note_name(void *ctx, struct slice name, uint64_t value_len)
{
    struct names *n = ctx;
    size_t at = strlen(n->text);

    snprintf(n->text + at, sizeof(n->text) - at, "%.*s=%d ", (int)name.len, (const char *)name.data, (int)value_len);
    return 0;
}

static void expect_list(struct fixture *f, const char *path, const char *expected)
{
    struct names n = {""};
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_xattr_list(r, S(path), note_name, &n));
    store_read_end(r);
    assert_string_equal(expected, n.text);
}

static void expect_content(struct fixture *f, const char *path, const char *name, struct slice expected)
{
    struct store_read *r;
    struct slice value;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_xattr_get(r, S(path), S(name), &f->arena, &value));
    assert_true(slice_equal(expected, value));
    store_read_end(r);
}

/* Of all nodes there are. */
static uint64_t logical_bytes(struct fixture *f)
{
    struct store_meta meta;
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_read_meta(r, &meta));
    store_read_end(r);
    return meta.logical_bytes;
}

static struct slice pattern(struct fixture *f, size_t n)
{
    uint8_t *p = arena_alloc(&f->arena, n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 251);
    return slice_make(p, n);
}

static void attributes_are_set_read_listed_and_removed(void **state)
{
    static const size_t sizes[] = {0, 1, 1324, 1325, 1326, 5000, XATTR_VALUE_MAX_BYTES};
    struct store_read *r;
    struct slice value;
    struct fixture f;

    fixture_begin(&f);
    fixture_put(&f, "/d/f", "content");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(STATUS_OK, set(&f, "/d/f", "user.x", pattern(&f, sizes[i]), 0));
        expect_content(&f, "/d/f", "user.x", pattern(&f, sizes[i]));
    }
    assert_int_equal(STATUS_OK, set(&f, "/d/f", "user.x", S("short"), FILE_REPLACE)); /* nothing of the long one is left */
    expect_content(&f, "/d/f", "user.x", S("short"));
    assert_int_equal(STATUS_OK, set(&f, "/d/f", "user.xy", S(""), FILE_CREATE));
    assert_int_equal(STATUS_OK, set(&f, "/d/f", "user.a", S("1"), FILE_CREATE));
    expect_list(&f, "/d/f", "user.a=1 user.x=5 user.xy=0 ");
    assert_int_equal(STATUS_EXISTS, set(&f, "/d/f", "user.a", S(""), FILE_CREATE));
    assert_int_equal(STATUS_NO_ATTRIBUTE, set(&f, "/d/f", "user.b", S(""), FILE_REPLACE));
    assert_int_equal(STATUS_NO_ATTRIBUTE, remove_attribute(&f, "/d/f", "user.b"));
    assert_int_equal(STATUS_OK, remove_attribute(&f, "/d/f", "user.x"));
    expect_list(&f, "/d/f", "user.a=1 user.xy=0 ");
    assert_int_equal(STATUS_NO_ENTRY, set(&f, "/d/g", "user.a", S(""), 0));
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(-ENODATA, store_xattr_get(r, S("/d/f"), S("user.x"), &f.arena, &value));
    assert_int_equal(-ENOENT, store_xattr_get(r, S("/d/g"), S("user.x"), &f.arena, &value));
    store_read_end(r);
    fixture_end(&f);
}

static void a_change_is_one_revision_that_watchers_see(void **state)
{
    struct store_read *r;
    struct node_stat before, after;
    struct result result;
    struct event event;
    struct slice value;
    struct fixture f;

    fixture_begin(&f);
    fixture_put(&f, "/d/f", "content");
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_stat(r, S("/d/f"), &before));
    store_read_end(r);
    result = file(&f, COMMAND_FILE_SETXATTR, (struct file_op){.path = S("/d/f"), .path2 = S("user.x")});
    assert_true(result.revision == 3 && result.file.changed && result.file.ino == before.ino);
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_event_at(r, (struct rev){3, 0}, &f.arena, &event));
    assert_int_equal(EVENT_ATTR, event.kind);
    assert_slice("/d/f", event.key);
    assert_int_equal(-ENOENT, store_event_at(r, (struct rev){3, 1}, &f.arena, &event));
    assert_int_equal(0, store_stat(r, S("/d/f"), &after));
    assert_true(after.ino == before.ino && after.size == 7 && after.version == 2);
    assert_true(after.attrs.mtime_ns == before.time_ns && after.time_ns > before.time_ns); /* only ctime moves */
    assert_int_equal(0, store_value(r, S("/d/f"), &f.arena, &value));
    assert_slice("content", value);
    store_read_end(r);
    assert_int_equal(4, file(&f, COMMAND_FILE_REMOVEXATTR,
                             (struct file_op){.path = S("/d/f"), .path2 = S("user.x")}).revision);
    fixture_end(&f);
}

static void they_stay_with_the_node(void **state)
{
    struct fixture f;
    uint64_t ino;

    fixture_begin(&f);
    fixture_put(&f, "/d/f", "one");
    set(&f, "/d/f", "user.x", S("1"), 0);
    set(&f, "/d", "user.dir", S("2"), 0); /* an implicit directory becomes one that is kept */
    set(&f, "", "user.root", S("3"), 0);
    set(&f, "/", "user.root2", S("4"), 0);
    fixture_put(&f, "/d/f", "by clientv3");
    file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/d/f"), .value = S("+")});
    expect_list(&f, "/d/f", "user.x=1 ");
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/d"), .path2 = S("/e")}).status);
    expect_list(&f, "/e/f", "user.x=1 ");
    expect_list(&f, "/e", "user.dir=1 ");
    expect_list(&f, "/", "user.root=1 user.root2=1 ");
    fixture_put(&f, "/e/g", "another");
    set(&f, "/e/g", "user.g", S("4"), 0);
    ino = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/e/g"), .value = S("+")}).file.ino;
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME,
                                     (struct file_op){.path = S("/e/f"), .path2 = S("/e/g"), .ino2 = ino,
                                                      .flags = FILE_EXCHANGE}).status);
    expect_list(&f, "/e/f", "user.g=1 ");
    expect_list(&f, "/e/g", "user.x=1 ");
    fixture_end(&f);
}

/* Each way in which a node can go. */
static void they_go_with_the_node(void **state)
{
    const struct attrs link = {.has = ATTR_MODE, .mode = S_IFLNK | 0777};
    struct fixture f;
    uint64_t empty, ino;

    fixture_begin(&f);
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/k")});
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = 2});
    empty = logical_bytes(&f);

    fixture_put(&f, "/k/unlinked", "");
    set(&f, "/k/unlinked", "user.x", pattern(&f, 3000), 0);
    set(&f, "/k/unlinked", "user.y", S(""), 0);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("/k/unlinked")}).status);
    fixture_put(&f, "/k/unlinked", "");
    expect_list(&f, "/k/unlinked", "");
    fixture_delete(&f, "/k/unlinked", S(""));

    fixture_put(&f, "/k/deleted", "");
    set(&f, "/k/deleted", "user.x", S("1"), 0);
    fixture_delete(&f, "/k/", S("/k0"));

    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/k/dir")});
    set(&f, "/k/dir", "user.x", S("1"), 0);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RMDIR, (struct file_op){.path = S("/k/dir")}).status);

    file(&f, COMMAND_FILE_SYMLINK, (struct file_op){.path = S("/k/link"), .value = S("to"), .attrs = link});
    set(&f, "/k/link", "trusted.x", S("1"), 0);
    fixture_put(&f, "/k/link", "a file now");
    expect_list(&f, "/k/link", "");
    fixture_delete(&f, "/k/link", S(""));

    fixture_put(&f, "/k/old", "");
    set(&f, "/k/old", "user.old", S("1"), 0);
    ino = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/k/old")}).file.ino;
    fixture_put(&f, "/k/new", "");
    set(&f, "/k/new", "user.new", S("1"), 0);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/k/new"), .path2 = S("/k/old"),
                                                                               .ino2 = ino}).status);
    expect_list(&f, "/k/old", "user.new=1 ");
    ino = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/k/old")}).file.ino;
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, /* a file that was never committed takes the name */
                                     (struct file_op){.path = S("/k/.tmp"), .path2 = S("/k/old"), .value = S("x"),
                                                      .ino2 = ino, .flags = FILE_WITH_VALUE}).status);
    expect_list(&f, "/k/old", "");

    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/k/one")});
    ino = file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/k/two")}).file.ino;
    set(&f, "/k/two", "user.x", S("1"), 0);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/k/one"), .path2 = S("/k/two"),
                                                                               .ino2 = ino}).status);
    expect_list(&f, "/k/two", "");

    fixture_delete(&f, "/k/", S("/k0"));
    fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 5, .ttl_s = 9}});
    fixture_apply(&f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("/k/leased"), .lease = 5}});
    set(&f, "/k/leased", "user.x", S("1"), 0);
    ino = (uint64_t)fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease.id = 5}).revision;
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact.revision = (int64_t)ino});
    assert_int_equal(empty, logical_bytes(&f)); /* nothing is left of any */
    fixture_end(&f);
}

static void limits_are_those_of_linux(void **state)
{
    char name[XATTR_NAME_MAX_BYTES + 2];
    struct fixture f;
    int n = 0;

    fixture_begin(&f);
    fixture_put(&f, "/f", "");
    memset(name, 'n', sizeof(name));
    name[XATTR_NAME_MAX_BYTES + 1] = '\0';
    assert_int_equal(STATUS_NAME_TOO_LONG, set(&f, "/f", name, S(""), 0));
    name[XATTR_NAME_MAX_BYTES] = '\0';
    assert_int_equal(STATUS_OK, set(&f, "/f", name, S(""), 0));
    assert_int_equal(STATUS_ATTRIBUTE_TOO_LARGE, set(&f, "/f", "user.x", pattern(&f, XATTR_VALUE_MAX_BYTES + 1), 0));
    assert_int_equal(STATUS_OK, set(&f, "/f", "user.x", pattern(&f, XATTR_VALUE_MAX_BYTES), 0));
    assert_int_equal(STATUS_ATTRIBUTES_FULL, set(&f, "/f", "user.y", pattern(&f, XATTR_VALUE_MAX_BYTES), 0));
    assert_int_equal(STATUS_OK, set(&f, "/f", "user.x", pattern(&f, XATTR_VALUE_MAX_BYTES), 0)); /* in its own place */
    assert_int_equal(STATUS_OK, remove_attribute(&f, "/f", name));
    assert_int_equal(STATUS_OK, set(&f, "/f", "user.x", S(""), 0));
    for (uint16_t status = STATUS_OK; status == STATUS_OK; n++) { /* names as long as can be: what listxattr can tell */
        for (int i = 1, rest = n; i <= 4; i++, rest /= 10)
            name[XATTR_NAME_MAX_BYTES - i] = (char)('0' + rest % 10);
        status = set(&f, "/f", name, S(""), 0);
        assert_true(status == STATUS_OK || status == STATUS_ATTRIBUTES_FULL);
    }
    assert_int_equal((XATTR_NAMES_MAX_BYTES - 7) / (XATTR_NAME_MAX_BYTES + 1) + 1, n);
    assert_int_equal(STATUS_INVALID_REQUEST, set(&f, "/f", "", S(""), 0));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_set_read_listed_and_removed),
        cmocka_unit_test(a_change_is_one_revision_that_watchers_see),
        cmocka_unit_test(they_stay_with_the_node),
        cmocka_unit_test(they_go_with_the_node),
        cmocka_unit_test(limits_are_those_of_linux),
    };

    return cmocka_run_group_tests_name("store_xattr", tests, NULL, NULL);
}
