/* Names below a mount from any bytes. First byte: bit 0, the bytes are a way from the root (names between slashes), else a
 * key; bits 1 and 2: which root. A name that is accepted is the one and only spelling of its key. */
#include <errno.h>
#include <string.h>

#include "fs/name.h"
#include "store/command.h"
#include "tests/fuzz/fuzz.h"

static const char *const prefixes[] = {"/", "", "/config", "/a/%:b"};

/* Walks a way; 0 and the place, or the error of a step. */
static int walk(struct slice prefix, struct slice way, struct name_place *p)
{
    size_t at = 0;
    int rc = name_root(prefix, p);

    while (rc == 0 && at < way.len) {
        const uint8_t *slash = memchr(way.data + at, '/', way.len - at);
        size_t end = slash != NULL ? (size_t)(slash - way.data) : way.len;

        rc = name_step(p, slice_make(way.data + at, end - at));
        at = end + 1;
    }
    FUZZ_MUST(rc == 0 || rc == -EINVAL || rc == -ENAMETOOLONG || rc == -ENOMEM);
    return rc;
}

static void check_way(struct slice prefix, struct slice way)
{
    struct name_place root, p;
    struct bytes back;
    int rc;

    name_place_init(&root);
    name_place_init(&p);
    bytes_init(&back);
    if (way.len > 0 && way.data[way.len - 1] != '/' && walk(prefix, way, &p) == 0 && p.kind == NAME_NODE) {
        FUZZ_MUST(p.key.len <= KEY_MAX_BYTES);
        FUZZ_MUST(name_root(prefix, &root) == 0);
        /* A key that ends in a slash has one name as a file and another as the path of a directory. */
        rc = name_path(&root, bytes_slice(&p.key), false, false, &back);
        if (rc < 0 || !slice_equal(bytes_slice(&back), way)) {
            bytes_reset(&back);
            rc = name_path(&root, bytes_slice(&p.key), true, false, &back);
        }
        FUZZ_MUST(rc == 0);
        FUZZ_MUST(slice_equal(bytes_slice(&back), way));
    }
    bytes_fini(&back);
    name_place_fini(&p);
    name_place_fini(&root);
}

static void check_key(struct slice prefix, struct slice key)
{
    struct name_place root, p;
    struct bytes way;

    if (key.len == 0 || key.len > KEY_MAX_BYTES)
        return;
    name_place_init(&root);
    name_place_init(&p);
    bytes_init(&way);
    FUZZ_MUST(name_root(prefix, &root) == 0);
    if (name_path(&root, key, false, false, &way) == 0 && way.len > 0) {
        FUZZ_MUST(walk(prefix, bytes_slice(&way), &p) == 0);
        if (p.kind == NAME_NODE)
            FUZZ_MUST(slice_equal(bytes_slice(&p.key), key));
    }
    bytes_fini(&way);
    name_place_fini(&p);
    name_place_fini(&root);
}

static void check_component(struct slice component)
{
    struct bytes text, back;

    if (memchr(component.data, '/', component.len) != NULL)
        return;
    bytes_init(&text);
    bytes_init(&back);
    for (int root = 0; root < 2; root++) {
        bytes_reset(&text);
        bytes_reset(&back);
        if (name_of_component(component, root, &text) < 0)
            continue;
        FUZZ_MUST(name_to_component(bytes_slice(&text), root, &back) == 0);
        FUZZ_MUST(slice_equal(bytes_slice(&back), component));
    }
    bytes_fini(&text);
    bytes_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice prefix, rest;

    if (size < 2)
        return 0;
    prefix = slice_from_str(prefixes[data[0] >> 1 & 3]);
    rest = slice_make(data + 1, size - 1);
    if (data[0] & 1) {
        check_way(prefix, rest);
    } else {
        check_key(prefix, rest);
        check_component(rest);
    }
    return 0;
}
