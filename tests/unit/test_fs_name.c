/* fs/name: the documented examples, and random keys and names both ways. QUORUMFS_SEED=n replays. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "fs/name.h"
#include "store/command.h"

#define S(text) slice_make(text, sizeof(text) - 1)

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % n);
}

static int walk(struct slice prefix, struct slice path, struct name_place *p)
{
    int rc = name_root(prefix, p);

    while (rc == 0 && path.len != 0) {
        const uint8_t *end = memchr(path.data, '/', path.len);
        size_t len = end != NULL ? (size_t)(end - path.data) : path.len;

        rc = name_step(p, slice_make(path.data, len));
        path = slice_make(path.data + len + (end != NULL), path.len - len - (end != NULL));
    }
    return rc;
}

static void check_both_ways(struct slice prefix, struct slice key, bool is_dir, bool also_dir, const char *path,
                            enum name_kind kind)
{
    struct name_place root, p;
    struct bytes out;

    name_place_init(&root);
    name_place_init(&p);
    bytes_init(&out);
    assert_int_equal(name_root(prefix, &root), 0);
    assert_int_equal(name_path(&root, key, is_dir, also_dir, &out), 0);
    bytes_u8(&out, 0);
    assert_string_equal((char *)out.data, path);
    assert_int_equal(walk(prefix, slice_from_str(path), &p), 0);
    assert_int_equal(p.kind, kind);
    assert_true(slice_equal(bytes_slice(&p.key), key));
    bytes_fini(&out);
    name_place_fini(&p);
    name_place_fini(&root);
}

static void the_examples_of_the_page(void **state)
{
    const struct slice all = S("/"), config = S("/config"), raw = S("");

    check_both_ways(all, S("/registry/pods/x"), false, false, "registry/pods/x", NAME_NODE);
    check_both_ways(all, S("/100%"), false, false, "100%", NAME_NODE);
    check_both_ways(all, S("/a%20b"), false, false, "a%20b", NAME_NODE);
    check_both_ways(all, S("/%:x%"), false, false, "%:%25:x%25", NAME_NODE);
    check_both_ways(all, S("/a\0b"), false, false, "%:a%00b", NAME_NODE);
    check_both_ways(all, S("/."), false, false, "%:.", NAME_NODE);
    check_both_ways(all, S("/a/.."), false, false, "a/%:..", NAME_NODE);
    check_both_ways(all, S("/a//b"), false, false, "a/%:/b", NAME_NODE);
    check_both_ways(all, S("/a"), false, true, "a/%:value", NAME_VALUE);
    check_both_ways(all, S("/a"), true, true, "a", NAME_NODE);
    check_both_ways(all, S("/a/"), false, false, "a/%:slash", NAME_SLASH);
    check_both_ways(all, S("/a//"), false, false, "a/%:/%:slash", NAME_SLASH);
    check_both_ways(all, S("/"), false, false, "%:slash", NAME_SLASH);
    check_both_ways(all, S("foo"), false, false, "%:bare/foo", NAME_NODE);
    check_both_ways(all, S("foo/bar"), false, false, "%:bare/foo/bar", NAME_NODE);
    check_both_ways(all, S("foo/"), false, false, "%:bare/foo/%:slash", NAME_SLASH);
    check_both_ways(all, S("/.quorumfs"), false, false, "%:.quorumfs", NAME_NODE);
    check_both_ways(all, S("/a/.quorumfs"), false, false, "a/.quorumfs", NAME_NODE);
    check_both_ways(all, S("/bare"), false, false, "bare", NAME_NODE);
    check_both_ways(all, S("/%:bare"), false, false, "%:%25:bare", NAME_NODE);
    check_both_ways(config, S("/config/x"), false, false, "x", NAME_NODE);
    check_both_ways(config, S("/config"), false, true, "%:value", NAME_VALUE);
    check_both_ways(config, S("/config/"), false, false, "%:slash", NAME_SLASH);
    check_both_ways(config, S("/config"), true, false, "", NAME_NODE);
    check_both_ways(raw, S("foo"), false, false, "foo", NAME_NODE);
    check_both_ways(raw, S("/foo"), false, false, "%:/foo", NAME_NODE);
    check_both_ways(raw, S("/"), false, false, "%:/%:slash", NAME_SLASH);
}

static void long_components_become_directories(void **state)
{
    char key[1 + 600 + 1], path[700], *at = path;

    memset(key, 'a', sizeof(key));
    key[0] = '/';
    at += sprintf(at, "%.250s%%+/%.50s", key + 1, key + 1);
    check_both_ways(S("/"), slice_make(key, 301), false, false, path, NAME_NODE);
    sprintf(path, "%.255s", key + 1);
    check_both_ways(S("/"), slice_make(key, 256), false, false, path, NAME_NODE);
    sprintf(path, "%.250s%%+/%.250s%%+/%.100s", key + 1, key + 1, key + 1);
    check_both_ways(S("/"), slice_make(key, 601), false, false, path, NAME_NODE);
    memcpy(key + 251, "%+", 2); /* looks like a piece, so it is cut like one */
    sprintf(path, "%.250s%%+/%%+", key + 1);
    check_both_ways(S("/"), slice_make(key, 253), false, false, path, NAME_NODE);
}

static void second_spellings_are_refused(void **state)
{
    static const char *const bad[] = {
        "%:a",     "%:bare",   "%:%",     "%:%2",        "%:%41",  "%:a%2500", "%:x/y", "a/%:bare", "%:/%:value", "%:value",
        "%:bare/%:", "%:bare/%:slash", "%:bare/%:value", ".quorumfs", "a/%:value/b", "a/%:slash/b",
    };
    static const bool good[sizeof(bad) / sizeof(bad[0])] = {[1] = true};
    struct name_place p;
    char piece[600];

    name_place_init(&p);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (walk(S("/"), slice_from_str(bad[i]), &p) != (good[i] ? 0 : -EINVAL))
            fail_msg("%s", bad[i]);
    memset(piece, 'a', sizeof(piece));
    memcpy(piece + 250, "%+/", 3);
    assert_int_equal(walk(S("/"), slice_make(piece, 253 + 5), &p), -EINVAL); /* 255 bytes are a name */
    assert_int_equal(walk(S("/"), slice_make(piece, 253 + 6), &p), 0);
    assert_int_equal(walk(S("/"), slice_make(piece, 253 + 256), &p), -ENAMETOOLONG);
    name_place_fini(&p);
}

static size_t random_text(uint8_t *buf, size_t max, bool path)
{
    static const char *const bits[] = {"%:", "%", ":", "+", "%+", "%25", "%00", ".", "..", "/", "//", "a",
                                       "value", "slash", "bare", ".quorumfs", "\xff", "\xc3\xa4", "%:value", "/%:slash"};
    size_t len = 0, want = random_below(12) == 0 ? random_below((uint32_t)max) : random_below(24);

    while (len < want) {
        uint32_t what = random_below(24);

        if (what < 20) {
            size_t n = strlen(bits[what]);

            if (len + n > max)
                break;
            memcpy(buf + len, bits[what], n);
            len += n;
        } else if (what == 20) {
            size_t n = random_below(3) == 0 ? 250 : random_below(260);

            if (len + n > max)
                break;
            memset(buf + len, 'x', n);
            len += n;
        } else if (len < max) {
            buf[len++] = path ? (uint8_t)(1 + random_below(255)) : (uint8_t)random_below(256);
        }
    }
    return len;
}

/* key -> path -> key, for files and directories below each kind of root. */
static void random_keys_survive_the_way_there_and_back(void **state)
{
    const struct slice prefixes[] = {S("/"), S(""), S("/config"), S("bare")};
    uint8_t key[2048];
    struct name_place root, p;
    struct bytes out;
    unsigned n_mapped = 0;

    name_place_init(&root);
    name_place_init(&p);
    bytes_init(&out);
    for (int i = 0; i < 60000; i++) {
        struct slice prefix = prefixes[random_below(4)], k;
        bool is_dir = random_below(3) == 0, also_dir = random_below(2) == 0;
        size_t len = 0;
        int rc;

        if (prefix.len > 1) {
            memcpy(key, prefix.data, prefix.len);
            len = prefix.len;
        }
        if (prefix.len != 0 && random_below(4) != 0)
            key[len++] = '/';
        k = slice_make(key, len + random_text(key + len, 1500, false));
        if (k.len == 0)
            continue;
        assert_int_equal(name_root(prefix, &root), 0);
        bytes_reset(&out);
        rc = name_path(&root, k, is_dir, also_dir, &out);
        if (rc == -ENOENT)
            continue;
        assert_int_equal(rc, 0);
        for (size_t at = 0; at < out.len;) { /* every name can be one */
            const uint8_t *end = memchr(out.data + at, '/', out.len - at);
            struct slice name = slice_make(out.data + at, end != NULL ? (size_t)(end - out.data) - at : out.len - at);

            assert_in_range(name.len, 1, NAME_LONGEST_BYTES);
            assert_false(slice_equal(name, S(".")) || slice_equal(name, S("..")));
            assert_null(memchr(name.data, 0, name.len));
            at += name.len + 1;
        }
        if (walk(prefix, bytes_slice(&out), &p) != 0)
            fail_msg("no way back: %.*s", (int)out.len, out.data);
        assert_true(slice_equal(bytes_slice(&p.key), k));
        assert_true(is_dir ? p.kind == NAME_NODE : p.kind != NAME_PIECE);
        n_mapped++;
    }
    assert_true(n_mapped > 30000);
    bytes_fini(&out);
    name_place_fini(&p);
    name_place_fini(&root);
}

/* path -> key -> the same path, or the path is refused: no key has two spellings. */
static void random_paths_are_refused_or_canonical(void **state)
{
    const struct slice prefixes[] = {S("/"), S(""), S("/config")};
    uint8_t path[2048];
    struct name_place root, p;
    struct bytes out;
    unsigned n_mapped = 0;

    name_place_init(&root);
    name_place_init(&p);
    bytes_init(&out);
    for (int i = 0; i < 120000; i++) {
        struct slice prefix = prefixes[random_below(3)];
        struct slice t = slice_make(path, random_text(path, 1500, true));
        bool is_dir;

        if (t.len == 0 || path[t.len - 1] == '/' || walk(prefix, t, &p) != 0 || p.kind == NAME_PIECE || p.kind == NAME_BARE)
            continue;
        is_dir = p.kind == NAME_NODE && p.key.len != 0 && p.key.data[p.key.len - 1] == '/';
        is_dir = is_dir || p.key.len == 0;
        assert_int_equal(name_root(prefix, &root), 0);
        bytes_reset(&out);
        assert_int_equal(name_path(&root, bytes_slice(&p.key), is_dir, p.kind == NAME_VALUE, &out), 0);
        if (!slice_equal(bytes_slice(&out), t))
            fail_msg("%.*s came back as %.*s", (int)t.len, t.data, (int)out.len, out.data);
        n_mapped++;
    }
    assert_true(n_mapped > 10000);
    bytes_fini(&out);
    name_place_fini(&p);
    name_place_fini(&root);
}

/* What a listing shows for a component is the step towards it. */
static void listings_agree_with_walks(void **state)
{
    uint8_t component[1200];
    struct name_place p;
    struct bytes name, way;

    name_place_init(&p);
    bytes_init(&name);
    bytes_init(&way);
    for (int i = 0; i < 20000; i++) {
        struct slice c = slice_make(component, random_text(component, 1000, false));
        bool piece = true;

        for (size_t j = 0; j < c.len; j++)
            if (component[j] == '/')
                component[j] = '_';
        assert_int_equal(name_root(S("/"), &p), 0);
        while (piece) {
            bytes_reset(&name);
            assert_int_equal(name_of_child(&p, c, &name, &piece), 0);
            assert_int_equal(name_step(&p, bytes_slice(&name)), 0);
        }
        bytes_reset(&way);
        bytes_u8(&way, '/');
        bytes_append(&way, c);
        assert_true(slice_equal(bytes_slice(&p.key), bytes_slice(&way)));
    }
    bytes_fini(&way);
    bytes_fini(&name);
    name_place_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_page),
        cmocka_unit_test(long_components_become_directories),
        cmocka_unit_test(second_spellings_are_refused),
        cmocka_unit_test(random_keys_survive_the_way_there_and_back),
        cmocka_unit_test(random_paths_are_refused_or_canonical),
        cmocka_unit_test(listings_agree_with_walks),
    };
    const char *seed = getenv("QUORUMFS_SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
    printf("seed %llu (QUORUMFS_SEED)\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
