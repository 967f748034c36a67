/* store_old, store_key_history, store_list_ever: what a random history left at each of its revisions is written down while it
 * happens, and asked for afterwards, with and without compaction. */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"
#include "tests/unit/store_fixture.h"

#define STEPS 400

/* ---- a tree as text ---- */

struct source {
    struct store_read *r;
    struct store_old *o; /* NULL: the newest */
    struct bytes text;
};

struct names {
    struct bytes all; /* u32 length, bytes, u8 key, u8 directory */
};

static void say(struct bytes *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct bytes *out, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    bytes_raw(out, text, (size_t)vsnprintf(text, sizeof(text), format, ap));
    va_end(ap);
}

static int take_child(void *ctx, const struct store_child *child)
{
    struct names *n = ctx;

    bytes_u32_slice(&n->all, child->component);
    bytes_u8(&n->all, child->is_key);
    bytes_u8(&n->all, child->is_dir);
    return 0;
}

static void say_stat(struct source *s, struct slice path, bool key_alone)
{
    struct node_stat st;
    int rc;

    if (s->o == NULL)
        rc = key_alone ? store_stat_key(s->r, path, &st) : store_stat(s->r, path, &st);
    else
        rc = key_alone ? store_stat_key_at(s->r, s->o, path, &st) : store_stat_at(s->r, s->o, path, &st);
    assert_int_equal(rc, 0);
    say(&s->text, "%.*s %d %d %d ino %" PRIx64 " size %" PRIu64 " has %x mode %o", (int)path.len,
        path.data != NULL ? (const char *)path.data : "", st.type, st.implicit, st.also_key, st.ino, st.size, st.attrs.has,
        st.attrs.mode);
    say(&s->text, " mod %" PRId64 ".%" PRId64 " create %" PRId64 " version %" PRId64 " time %" PRId64 "\n", st.mod.main,
        st.mod.sub, st.create.main, st.version, st.time_ns);
}

static void say_level(struct source *s, struct slice dir, bool bare, int depth)
{
    struct names n;
    struct reader in;

    bytes_init(&n.all);
    if (s->o == NULL)
        assert_int_equal((bare ? store_list_bare : store_list)(s->r, dir, slice_make(NULL, 0), take_child, &n), 0);
    else
        assert_int_equal((bare ? store_list_bare_at : store_list_at)(s->r, s->o, dir, take_child, &n), 0);
    in = reader_make(bytes_slice(&n.all));
    while (!reader_at_end(&in)) {
        struct slice component = reader_u32_slice(&in);
        bool is_key = reader_u8(&in), is_dir = reader_u8(&in);
        struct bytes path;

        bytes_init(&path);
        bytes_append(&path, dir);
        if (!(bare && dir.len == 0))
            bytes_u8(&path, '/');
        bytes_append(&path, component);
        say(&s->text, "%d%d ", is_key, is_dir);
        say_stat(s, bytes_slice(&path), false);
        if (is_key)
            say_stat(s, bytes_slice(&path), true);
        if (is_dir && depth < 8)
            say_level(s, bytes_slice(&path), bare, depth + 1);
        bytes_fini(&path);
    }
    bytes_fini(&n.all);
}

static char *say_tree(struct store_read *r, struct store_old *o)
{
    struct source s = {.r = r, .o = o};
    size_t len;

    bytes_init(&s.text);
    say_stat(&s, slice_make("", 0), false);
    say_level(&s, slice_make("", 0), false, 0);
    say_level(&s, slice_make("", 0), true, 0);
    bytes_u8(&s.text, 0);
    return (char *)bytes_take(&s.text, &len);
}

/* ---- a random history ---- */

static const char *const names[] = {"/a",       "/a/b", "/a/b/c", "/a/b.x", "/a/b/c/d", "/d",  "/d/e",
                                    "/d//f", "/d/g/h/i", "/a.b", "bare",   "bare/x", "/z/",      "/d/e/f"};
#define PATH names[(unsigned)rand() % (sizeof(names) / sizeof(names[0]))]

static struct command random_command(void)
{
    struct command c = {.kind = COMMAND_PUT};
    struct attrs attrs = {.has = ATTR_MODE, .mode = S_IFREG | (unsigned)rand() % 512};

    switch (rand() % 10) {
    case 0:
    case 1:
        c.put.key = S(PATH);
        c.put.value = slice_make("valuevaluevalue", (unsigned)rand() % 12);
        break;
    case 2:
        c.kind = COMMAND_DELETE_RANGE;
        c.del.key = S(PATH);
        if (rand() % 4 == 0)
            c.del.range_end = S("/a0");
        break;
    case 3:
    case 4:
        c.kind = COMMAND_FILE_MKDIR;
        c.file.path = S(PATH);
        c.file.attrs = attrs;
        c.file.attrs.mode = S_IFDIR | (attrs.mode & 0777);
        break;
    case 5:
        c.kind = rand() % 2 ? COMMAND_FILE_RMDIR : COMMAND_FILE_UNLINK;
        c.file.path = S(PATH);
        break;
    case 6:
        c.kind = COMMAND_FILE_RENAME;
        c.file.path = S(PATH);
        c.file.path2 = S(PATH);
        c.file.flags = rand() % 3 == 0 ? FILE_EXCHANGE : 0;
        break;
    case 7:
        c.kind = COMMAND_FILE_SETATTR;
        c.file.path = S(PATH);
        c.file.attrs = (struct attrs){.has = ATTR_MODE, .mode = (unsigned)rand() % 512};
        break;
    default:
        c.kind = COMMAND_FILE_WRITE;
        c.file.path = S(PATH);
        c.file.flags = FILE_CREATE;
        c.file.attrs = attrs;
        c.file.value = slice_make("contentcontent", (unsigned)rand() % 12);
    }
    return c;
}

static void compare(struct fixture *f, char **was, int64_t newest, int64_t compacted)
{
    struct store_read *r;
    uint16_t status;
    bool more;

    assert_int_equal(store_read_begin(f->store, &r), 0);
    for (int64_t revision = 1; revision <= newest + 1; revision++) {
        struct store_old *o;
        char *now;

        assert_int_equal(store_old_new(revision, &o), 0);
        do
            assert_int_equal(store_old_advance(o, r, 1 + (unsigned)rand() % 50, &more, &status), 0);
        while (more && status == STATUS_OK);
        if (revision > newest || revision < compacted) {
            struct node_stat st;

            assert_int_equal(status, revision > newest ? STATUS_FUTURE_REVISION : STATUS_COMPACTED);
            if (revision < compacted)
                assert_int_equal(store_stat_at(r, o, S("/a"), &st), -ESTALE);
        } else {
            assert_int_equal(status, STATUS_OK);
            now = say_tree(r, o);
            if (strcmp(now, was[revision]) != 0) {
                print_error("at revision %" PRId64 " of %" PRId64 ", compacted at %" PRId64 "\n-- then\n%s-- now\n%s",
                            revision, newest, compacted, was[revision], now);
                fail();
            }
            free(now);
        }
        store_old_free(o);
    }
    store_read_end(r);
}

static void each_revision_is_as_it_was(void **state)
{
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    char *was[STEPS + 8] = {0};
    int64_t newest = 1;
    struct store_read *r;
    struct fixture f;

    print_message("seed %u\n", seed);
    srand(seed);
    fixture_begin(&f);
    for (int step = 0; step <= STEPS; step++) {
        if (step != 0)
            newest = fixture_apply(&f, random_command()).revision;
        assert_int_equal(store_read_begin(f.store, &r), 0);
        free(was[newest]);
        was[newest] = say_tree(r, NULL);
        store_read_end(r);
    }
    compare(&f, was, newest, 0);
    for (int i = 1; i <= 3; i++) {
        struct command compact = {.kind = COMMAND_COMPACT, .compact = {.revision = newest * i / 4}};

        assert_int_equal(fixture_apply(&f, compact).status, STATUS_OK);
        compare(&f, was, newest, newest * i / 4);
    }
    for (int64_t i = 0; i <= newest; i++)
        free(was[i]);
    fixture_end(&f);
}

/* One struct follows a growing log, and what it collected before stays true. */
static void it_follows_the_log(void **state)
{
    struct store_old *o;
    struct store_read *r;
    struct fixture f;
    uint16_t status;
    bool more;
    char *was, *now;

    fixture_begin(&f);
    fixture_apply(&f, (struct command){.kind = COMMAND_FILE_MKDIR,
                                       .file = {.path = S("/a"), .attrs = {.has = ATTR_MODE, .mode = 0755}}});
    assert_int_equal(store_read_begin(f.store, &r), 0);
    assert_int_equal(store_old_new(store_read_revision(r), &o), 0);
    assert_int_equal(store_old_advance(o, r, 10, &more, &status), 0);
    was = say_tree(r, o);
    store_read_end(r);
    fixture_apply(&f, (struct command){.kind = COMMAND_FILE_RENAME, .file = {.path = S("/a"), .path2 = S("/b")}});
    assert_int_equal(store_read_begin(f.store, &r), 0);
    assert_int_equal(store_list_at(r, o, S(""), NULL, NULL), -EAGAIN);
    assert_int_equal(store_old_advance(o, r, 10, &more, &status), 0);
    now = say_tree(r, o);
    assert_string_equal(was, now);
    free(now);
    free(was);
    store_read_end(r);
    store_old_free(o);
    fixture_end(&f);
}

/* ---- one key ---- */

static int take_event(void *ctx, const struct event *e)
{
    say(ctx, "%d@%" PRId64 "(%" PRIu64 ") ", e->kind, e->rev.main, e->value_len);
    return 0;
}

static int take_name(void *ctx, const struct store_child *child)
{
    say(ctx, "%.*s:%d%d ", (int)child->component.len, child->component.data, child->is_key, child->is_dir);
    return 0;
}

static void expect_history(struct fixture *f, const char *key, size_t max, const char *wanted)
{
    struct store_read *r;
    struct bytes text;

    bytes_init(&text);
    assert_int_equal(store_read_begin(f->store, &r), 0);
    assert_int_equal(store_key_history(r, S(key), max, take_event, &text), 0);
    assert_slice(wanted, bytes_slice(&text));
    store_read_end(r);
    bytes_fini(&text);
}

static void expect_ever(struct fixture *f, const char *dir, const char *wanted)
{
    struct store_read *r;
    struct bytes text;

    bytes_init(&text);
    assert_int_equal(store_read_begin(f->store, &r), 0);
    assert_int_equal(store_list_ever(r, S(dir), take_name, &text), 0);
    assert_slice(wanted, bytes_slice(&text));
    store_read_end(r);
    bytes_fini(&text);
}

static void a_key_has_its_history_until_compaction(void **state)
{
    struct store_read *r;
    struct event e;
    struct fixture f;
    bool key, dir;

    fixture_begin(&f);
    fixture_put(&f, "/d/k", "1");        /* 2 */
    fixture_put(&f, "/d/k", "22");       /* 3 */
    fixture_put(&f, "/other", "x");      /* 4 */
    fixture_delete(&f, "/d/k", S(""));   /* 5 */
    fixture_put(&f, "/d/k", "333");      /* 6 */
    fixture_delete(&f, "/d/k", S(""));   /* 7 */
    expect_history(&f, "/d/k", 100, "2@7(0) 1@6(3) 2@5(0) 1@3(2) 1@2(1) ");
    expect_history(&f, "/d/k", 2, "2@7(0) 1@6(3) ");
    expect_history(&f, "/nothing", 2, "");
    expect_ever(&f, "", "d:01 other:10 ");
    expect_ever(&f, "/d", "k:10 ");
    assert_int_equal(store_read_begin(f.store, &r), 0);
    assert_int_equal(store_key_version(r, S("/d/k"), 3, &f.arena, &e), 0);
    assert_int_equal(e.value_len, 2);
    assert_int_equal(store_key_version(r, S("/d/k"), 4, &f.arena, &e), -ENOENT);
    assert_int_equal(store_key_version(r, S("/d/k"), 8, &f.arena, &e), -ENOENT);
    assert_int_equal(store_was(r, S("/d/k"), &key, &dir), 0);
    assert_true(key && !dir);
    assert_int_equal(store_was(r, S("/d"), &key, &dir), 0);
    assert_true(!key && dir);
    assert_int_equal(store_was(r, S("/e"), &key, &dir), 0);
    assert_true(!key && !dir);
    store_read_end(r);
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact = {.revision = 6}});
    expect_history(&f, "/d/k", 100, "2@7(0) 1@6(3) ");
    fixture_put(&f, "/other", "y");
    fixture_apply(&f, (struct command){.kind = COMMAND_COMPACT, .compact = {.revision = 8}});
    expect_history(&f, "/d/k", 100, "");
    expect_ever(&f, "", "other:10 ");
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_revision_is_as_it_was),
        cmocka_unit_test(it_follows_the_log),
        cmocka_unit_test(a_key_has_its_history_until_compaction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
