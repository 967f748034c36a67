/* The file commands of store/, and the key space seen as files. */
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <sys/stat.h>

static struct result file(struct fixture *f, enum command_kind kind, struct file_op op)
{
    return fixture_apply(f, (struct command){.kind = kind, .file = op});
}

static struct result write_file(struct fixture *f, const char *path, const char *value)
{
    return file(f, COMMAND_FILE_WRITE,
                (struct file_op){.path = S(path), .value = S(value), .flags = FILE_CREATE,
                                 .attrs = {.has = ATTR_MODE | ATTR_UID, .mode = 0640, .uid = 5}});
}

static struct node_stat stat_of(struct fixture *f, const char *path)
{
    struct store_read *r;
    struct node_stat stat;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_stat(r, S(path), &stat));
    store_read_end(r);
    return stat;
}

static struct slice content(struct fixture *f, const char *path)
{
    struct range_result range = fixture_range(f, (struct op_range){.key = S(path)}, STATUS_OK);

    return range.n_kvs == 1 ? range.kvs[0].value : S("(none)");
}

/* ---- listing ---- */

struct listing {
    char text[512];
    int stop_after;
};

static int note_child(void *ctx, const struct store_child *c)
{
    struct listing *l = ctx;
    size_t n = strlen(l->text);

    snprintf(l->text + n, sizeof(l->text) - n, "[%.*s%s%s]", (int)c->component.len,
             c->component.len > 0 ? (const char *)c->component.data : "", c->is_key ? " key" : "",
             c->is_dir ? " dir" : "");
    return l->stop_after > 0 && --l->stop_after == 0;
}

static struct listing list_of(struct fixture *f, const char *dir, const char *after, bool bare, int stop_after)
{
    struct listing l = {.stop_after = stop_after};
    struct store_read *r;

    assert_int_equal(0, store_read_begin(f->store, &r));
    if (bare)
        assert_int_equal(0, store_list_bare(r, S(dir), S(after), note_child, &l));
    else
        assert_int_equal(0, store_list(r, S(dir), S(after), note_child, &l));
    store_read_end(r);
    return l;
}

static void one_level_is_listed_in_order(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    fixture_put(&f, "/a/x.y", "");
    fixture_put(&f, "/a/x/deep/er", "");
    fixture_put(&f, "/a/x/other", "");
    fixture_put(&f, "/a/b", "");
    fixture_put(&f, "/a/b/c", "");
    fixture_put(&f, "/a/", "");
    fixture_put(&f, "/a//e", "");
    fixture_put(&f, "/a/-", "");
    fixture_put(&f, "/a", "");
    fixture_put(&f, "bare", "");
    fixture_put(&f, "bare/x", "");
    fixture_put(&f, "-b/x", "");
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/a/m")});
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/a/m/n")});
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/zz")});
    assert_string_equal("[a key dir][zz dir]", list_of(&f, "", "", false, 0).text);
    assert_string_equal("[ key dir][- key][b key dir][m dir][x dir][x.y key]", list_of(&f, "/a", "", false, 0).text);
    assert_string_equal("[m dir][x dir][x.y key]", list_of(&f, "/a", "b", false, 0).text);
    assert_string_equal("[x.y key]", list_of(&f, "/a", "x", false, 0).text);
    assert_string_equal("[ key dir][- key]", list_of(&f, "/a", "", false, 2).text);
    assert_string_equal("[n dir]", list_of(&f, "/a/m", "", false, 0).text);
    assert_string_equal("[e key]", list_of(&f, "/a/", "", false, 0).text);
    assert_string_equal("[-b dir][bare key dir]", list_of(&f, "", "", true, 0).text);
    assert_string_equal("[x key]", list_of(&f, "bare", "", true, 0).text);
    assert_string_equal("", list_of(&f, "/nothing", "", false, 0).text);
    fixture_end(&f);
}

/* ---- content and names ---- */

static void write_makes_and_keeps(void **state)
{
    struct fixture f;
    struct result result;
    struct node_stat stat;
    uint64_t ino;

    fixture_begin(&f);
    assert_int_equal(STATUS_NO_ENTRY, write_file(&f, "/d/f", "x").status);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/d")}).status);
    result = write_file(&f, "/d/f", "one");
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(3, result.revision);
    ino = result.file.ino;
    stat = stat_of(&f, "/d/f");
    assert_int_equal(NODE_FILE, stat.type);
    assert_true(ino == stat.ino);
    assert_int_equal(S_IFREG | 0640, stat.attrs.mode);
    assert_int_equal(5, stat.attrs.uid);
    assert_int_equal(3, stat.size);
    fixture_put(&f, "/d/f", "from clientv3"); /* keeps owner and mode */
    stat = stat_of(&f, "/d/f");
    assert_int_equal(S_IFREG | 0640, stat.attrs.mode);
    assert_true(ino == stat.ino);
    result = file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/f"), .ino = ino + 1, .value = S("x")});
    assert_int_equal(STATUS_STALE, result.status);
    result = file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/f"), .ino = ino, .value = S("two")});
    assert_int_equal(STATUS_OK, result.status);
    result = file(&f, COMMAND_FILE_APPEND, (struct file_op){.path = S("/d/f"), .ino = ino, .value = S("!")});
    assert_slice("two!", content(&f, "/d/f"));
    assert_int_equal(4, result.file.size);
    result = file(&f, COMMAND_FILE_WRITE, (struct file_op){.path = S("/d/f"), .flags = FILE_CREATE | FILE_EXCLUSIVE});
    assert_int_equal(STATUS_EXISTS, result.status);
    result = file(&f, COMMAND_FILE_WRITE,
                  (struct file_op){.path = S("/d/f"), .flags = FILE_EXPECT_REV, .expect_rev = 2});
    assert_int_equal(STATUS_STALE, result.status);
    assert_int_equal(STATUS_NOT_DIRECTORY, write_file(&f, "/d/f/g", "x").status);
    assert_int_equal(STATUS_IS_DIRECTORY, write_file(&f, "/d", "x").status);
    fixture_end(&f);
}

static void put_over_symlink_makes_a_file(void **state)
{
    struct fixture f;
    struct file_op op = {.path = S("/l"), .value = S("target"), .attrs = {.has = ATTR_MODE, .mode = S_IFLNK | 0777}};
    struct node_stat before, after;

    fixture_begin(&f);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_SYMLINK, op).status);
    assert_int_equal(STATUS_EXISTS, file(&f, COMMAND_FILE_SYMLINK, op).status);
    before = stat_of(&f, "/l");
    assert_int_equal(S_IFLNK | 0777, before.attrs.mode);
    fixture_put(&f, "/l", "content");
    after = stat_of(&f, "/l");
    assert_int_equal(S_IFREG | 0644, after.attrs.mode);
    assert_true(before.ino != after.ino);
    fixture_end(&f);
}

static void unlink_keeps_an_implicit_parent(void **state)
{
    struct fixture f;
    struct node_stat before, after;
    struct result result;

    fixture_begin(&f);
    fixture_put(&f, "/p/q/f", "x");
    before = stat_of(&f, "/p/q");
    assert_true(before.implicit);
    assert_int_equal(NODE_DIRECTORY, before.type);
    assert_int_equal(STATUS_IS_DIRECTORY, file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("/p/q")}).status);
    assert_int_equal(STATUS_NOT_EMPTY, file(&f, COMMAND_FILE_RMDIR, (struct file_op){.path = S("/p/q")}).status);
    result = file(&f, COMMAND_FILE_UNLINK, (struct file_op){.path = S("/p/q/f")});
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(3, result.revision);
    after = stat_of(&f, "/p/q");
    assert_int_equal(NODE_DIRECTORY, after.type);
    assert_false(after.implicit);
    assert_true(before.ino == after.ino);
    assert_int_equal(3, after.mod.main);
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_RMDIR, (struct file_op){.path = S("/p/q")}).status);
    assert_int_equal(NODE_DIRECTORY, stat_of(&f, "/p").type);
    assert_int_equal(STATUS_NOT_DIRECTORY, file(&f, COMMAND_FILE_RMDIR,
                     (struct file_op){.path = (fixture_put(&f, "/k", "v"), S("/k"))}).status);
    assert_int_equal(STATUS_NO_ENTRY, file(&f, COMMAND_FILE_RMDIR, (struct file_op){.path = S("/no")}).status);
    fixture_put(&f, "/v/f", "x");
    fixture_delete(&f, "/v/f", S("")); /* through clientv3 it vanishes */
    assert_int_equal(NODE_NONE, stat_of(&f, "/v").type);
    fixture_delete(&f, "/", S("0")); /* covers directories */
    assert_int_equal(NODE_NONE, stat_of(&f, "/p").type);
    fixture_end(&f);
}

static void setattr_refers_to_the_content(void **state)
{
    struct fixture f;
    char *big = calloc(1, 5001);
    struct file_op op = {.path = S("/big"), .attrs = {.has = ATTR_MODE, .mode = 0600}};
    struct result result;
    struct node_stat stat;

    memset(big, 'x', 5000);
    fixture_begin(&f);
    fixture_put(&f, "/big", big);
    result = file(&f, COMMAND_FILE_SETATTR, op);
    assert_int_equal(STATUS_OK, result.status);
    assert_true(result.file.changed);
    assert_slice(big, content(&f, "/big"));
    stat = stat_of(&f, "/big");
    assert_int_equal(S_IFREG | 0600, stat.attrs.mode);
    assert_int_equal(2, stat.version);
    result = file(&f, COMMAND_FILE_SETATTR, op);
    assert_false(result.file.changed);
    assert_int_equal(3, result.revision);
    op.attrs = (struct attrs){.has = ATTR_SIZE, .size = 2};
    file(&f, COMMAND_FILE_SETATTR, op);
    assert_slice("xx", content(&f, "/big"));
    op.attrs.size = 3;
    file(&f, COMMAND_FILE_SETATTR, op);
    assert_int_equal(3, content(&f, "/big").len);
    assert_slice(big, fixture_range(&f, (struct op_range){.key = S("/big"), .revision = 3}, STATUS_OK).kvs[0].value);
    op = (struct file_op){.attrs = {.has = ATTR_MODE, .mode = 0700}}; /* the root */
    assert_int_equal(STATUS_OK, file(&f, COMMAND_FILE_SETATTR, op).status);
    assert_int_equal(S_IFDIR | 0700, stat_of(&f, "").attrs.mode);
    assert_string_equal("[big key]", list_of(&f, "", "", false, 0).text);
    free(big);
    fixture_end(&f);
}

/* ---- rename ---- */

static struct result rename_path(struct fixture *f, const char *from, const char *to, uint32_t flags)
{
    struct node_stat target = stat_of(f, to);

    return file(f, COMMAND_FILE_RENAME,
                (struct file_op){.path = S(from), .path2 = S(to), .ino2 = target.ino, .flags = flags});
}

struct trace {
    char text[1024];
};

static int note_event(void *ctx, const struct event *e)
{
    static const char *const kinds[] = {"?", "put", "delete", "dir-put", "dir-delete", "rename", "attr"};
    struct trace *t = ctx;
    size_t n = strlen(t->text);

    snprintf(t->text + n, sizeof(t->text) - n, "%s %.*s%s%s; ", kinds[e->kind], (int)e->key.len,
             (const char *)e->key.data, (e->flags & EVENT_OF_RENAME) != 0 ? " moved" : "",
             (e->flags & EVENT_CREATED) != 0 ? " new" : "");
    return 0;
}

static struct trace trace_from(struct fixture *f, int64_t from)
{
    struct trace t = {0};
    struct store_read *r;
    int64_t next;
    uint16_t status;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_events(r, from, note_event, &t, &next, &status));
    store_read_end(r);
    return t;
}

static void rename_moves_a_file(void **state)
{
    struct fixture f;
    struct node_stat before, after;
    struct result result;

    fixture_begin(&f);
    write_file(&f, "/a", "content");
    fixture_put(&f, "/t", "replaced");
    before = stat_of(&f, "/a");
    assert_int_equal(STATUS_EXISTS, rename_path(&f, "/a", "/t", FILE_NOREPLACE).status);
    result = file(&f, COMMAND_FILE_RENAME, (struct file_op){.path = S("/a"), .path2 = S("/t")});
    assert_int_equal(STATUS_STALE, result.status); /* nobody was expected there */
    result = rename_path(&f, "/a", "/t", 0);
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(4, result.revision);
    after = stat_of(&f, "/t");
    assert_true(before.ino == after.ino);
    assert_int_equal(before.attrs.mtime_ns, after.attrs.mtime_ns);
    assert_int_equal(S_IFREG | 0640, after.attrs.mode);
    assert_int_equal(2, after.version);
    assert_slice("content", content(&f, "/t"));
    assert_int_equal(NODE_NONE, stat_of(&f, "/a").type);
    assert_string_equal("rename /a; put /t moved; delete /a moved; ", trace_from(&f, 4).text);
    assert_int_equal(STATUS_OK, rename_path(&f, "/t", "/t", 0).status);
    assert_int_equal(STATUS_NO_ENTRY, rename_path(&f, "/a", "/b", 0).status);
    assert_int_equal(STATUS_NO_ENTRY, rename_path(&f, "/t", "/no/b", 0).status);
    result = file(&f, COMMAND_FILE_RENAME,
                  (struct file_op){.path = S("/never"), .path2 = S("/t"), .ino2 = after.ino, .value = S("new"),
                                   .flags = FILE_WITH_VALUE, .attrs = {.has = ATTR_INO | ATTR_MODE, .ino = 77}});
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(77, stat_of(&f, "/t").ino);
    assert_slice("new", content(&f, "/t"));
    assert_string_equal("put /t; ", trace_from(&f, 5).text);
    fixture_end(&f);
}

static void rename_moves_a_directory(void **state)
{
    struct fixture f;
    struct result result;
    struct node_stat before;

    fixture_begin(&f);
    fixture_put(&f, "/src/k", "1");
    fixture_put(&f, "/src/sub/k", "2");
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/src/empty")});
    file(&f, COMMAND_FILE_MKDIR, (struct file_op){.path = S("/dst")});
    fixture_put(&f, "/src.other", "stays");
    before = stat_of(&f, "/src");
    assert_int_equal(STATUS_INVALID_MOVE, rename_path(&f, "/src", "/src/sub/x", 0).status);
    assert_int_equal(STATUS_IS_DIRECTORY, rename_path(&f, "/src.other", "/src", 0).status);
    assert_int_equal(STATUS_NOT_DIRECTORY, rename_path(&f, "/src", "/src.other", 0).status);
    assert_int_equal(STATUS_NOT_EMPTY, rename_path(&f, "/dst", "/src", 0).status);
    result = rename_path(&f, "/src", "/dst", 0);
    assert_int_equal(STATUS_OK, result.status);
    assert_int_equal(7, result.revision);
    assert_string_equal("rename /src; dir-put /dst moved; dir-put /dst/empty moved new; put /dst/k moved new; "
                        "put /dst/sub/k moved new; delete /src/sub/k moved; delete /src/k moved; "
                        "dir-delete /src/empty moved; ",
                        trace_from(&f, 7).text);
    assert_true(before.ino == stat_of(&f, "/dst").ino);
    assert_slice("2", content(&f, "/dst/sub/k"));
    assert_string_equal("[dst dir][src.other key]", list_of(&f, "", "", false, 0).text);
    fixture_end(&f);
}

static void exchange_changes_each_key_once(void **state)
{
    struct fixture f;
    struct result result;
    struct node_stat a, b;

    fixture_begin(&f);
    fixture_put(&f, "/a/both", "a");
    fixture_put(&f, "/a/only-a", "1");
    fixture_put(&f, "/b/both", "b");
    fixture_put(&f, "/b/only-b", "2");
    a = stat_of(&f, "/a/both");
    b = stat_of(&f, "/b/both");
    result = rename_path(&f, "/a", "/b", FILE_EXCHANGE);
    assert_int_equal(STATUS_OK, result.status);
    assert_slice("b", content(&f, "/a/both"));
    assert_slice("a", content(&f, "/b/both"));
    assert_slice("2", content(&f, "/a/only-b"));
    assert_slice("1", content(&f, "/b/only-a"));
    assert_slice("(none)", content(&f, "/a/only-a"));
    assert_true(a.ino == stat_of(&f, "/b/both").ino);
    assert_true(b.ino == stat_of(&f, "/a/both").ino);
    fixture_put(&f, "/file", "f");
    result = rename_path(&f, "/file", "/a", FILE_EXCHANGE);
    assert_int_equal(STATUS_OK, result.status);
    assert_slice("f", content(&f, "/a"));
    assert_slice("b", content(&f, "/file/both"));
    assert_int_equal(STATUS_NO_ENTRY, rename_path(&f, "/a", "/none", FILE_EXCHANGE).status);
    fixture_end(&f);
}

static void too_much_to_move_is_refused(void **state)
{
    struct fixture f;
    struct store_batch *b;
    struct result result;
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    for (int i = 0; i <= RENAME_MAX_KEYS; i++) {
        char key[32];
        struct command cmd = {.kind = COMMAND_PUT};

        snprintf(key, sizeof(key), "/d/%d", i);
        cmd.put.key = S(key);
        assert_int_equal(0, store_apply(b, ++f.index, 1, 0, &cmd, &f.arena, &result, &fresh));
    }
    assert_int_equal(0, store_batch_commit(b));
    assert_int_equal(STATUS_CROSS_DEVICE, rename_path(&f, "/d", "/e", 0).status);
    fixture_delete(&f, "/d/1", S(""));
    fixture_delete(&f, "/d/2", S(""));
    assert_int_equal(STATUS_OK, rename_path(&f, "/d", "/e", 0).status);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_level_is_listed_in_order),
        cmocka_unit_test(write_makes_and_keeps),
        cmocka_unit_test(put_over_symlink_makes_a_file),
        cmocka_unit_test(unlink_keeps_an_implicit_parent),
        cmocka_unit_test(setattr_refers_to_the_content),
        cmocka_unit_test(rename_moves_a_file),
        cmocka_unit_test(rename_moves_a_directory),
        cmocka_unit_test(exchange_changes_each_key_once),
        cmocka_unit_test(too_much_to_move_is_refused),
    };

    return cmocka_run_group_tests_name("store_files", tests, NULL, NULL);
}
