#include "store/children.h"

#include <errno.h>
#include <stdlib.h>

int children_init(struct children *c, struct slice dir, bool bare)
{
    *c = (struct children){.bare_root = bare && dir.len == 0};
    bytes_init(&c->prefix);
    bytes_init(&c->end);
    bytes_init(&c->at);
    bytes_init(&c->names);
    if (c->bare_root) {
        bytes_u8(&c->end, 0); /* open */
        return bytes_status(&c->end);
    }
    bytes_append(&c->prefix, dir);
    bytes_u8(&c->prefix, '/');
    bytes_append(&c->end, dir);
    bytes_u8(&c->end, '/' + 1);
    return bytes_status(&c->prefix) < 0 ? -ENOMEM : bytes_status(&c->end);
}

void children_fini(struct children *c)
{
    bytes_fini(&c->prefix);
    bytes_fini(&c->end);
    bytes_fini(&c->at);
    bytes_fini(&c->names);
    free(c->places);
}

static struct slice name_of(const struct children *c, const struct child_place *place)
{
    return slice_make(c->names.data + place->offset, place->len);
}

static int push(struct children *c, struct slice component)
{
    if (c->n_places >= OLD_CHILDREN_MAX)
        return -E2BIG;
    if (c->n_places == c->cap) {
        size_t cap = c->cap != 0 ? c->cap * 2 : 64;
        struct child_place *places = realloc(c->places, cap * sizeof(*places));

        if (places == NULL)
            return -ENOMEM;
        c->places = places;
        c->cap = cap;
    }
    c->places[c->n_places++] = (struct child_place){.offset = c->names.len, .len = component.len};
    bytes_append(&c->names, component);
    return bytes_status(&c->names);
}

int children_add(struct children *c, struct slice path, bool is_key)
{
    struct slice rest = slice_make(path.data + c->prefix.len, path.len - c->prefix.len);
    const uint8_t *slash = rest.len > 0 ? memchr(rest.data, '/', rest.len) : NULL;
    struct child_place *place;
    int rc;

    if (slash != NULL)
        rest.len = (size_t)(slash - rest.data);
    if (slash == NULL && !is_key && rest.len == 0 && c->prefix.len == 1)
        return 0; /* the root's own attributes */
    place = c->n_places > 0 ? &c->places[c->n_places - 1] : NULL;
    if (place == NULL || !slice_equal(name_of(c, place), rest)) {
        rc = push(c, rest);
        if (rc < 0)
            return rc;
        place = &c->places[c->n_places - 1];
    }
    place->is_key = place->is_key || (slash == NULL && is_key);
    place->is_dir = place->is_dir || slash != NULL || !is_key;
    return slash != NULL;
}

void children_skip(struct children *c)
{
    bytes_reset(&c->at);
    bytes_append(&c->at, bytes_slice(&c->prefix));
    bytes_append(&c->at, name_of(c, &c->places[c->n_places - 1]));
    bytes_u8(&c->at, '/' + 1);
}

static int compare_places(const void *x, const void *y, void *arg)
{
    return slice_cmp(name_of(arg, x), name_of(arg, y));
}

int children_tell(struct children *c, store_child_fn emit, void *ctx)
{
    int rc = 0;

    if (c->n_places > 1)
        qsort_r(c->places, c->n_places, sizeof(c->places[0]), compare_places, c);
    for (size_t i = 0, next; rc == 0 && i < c->n_places; i = next) {
        struct store_child child = {name_of(c, &c->places[i]), false, false, NULL};

        for (next = i; next < c->n_places && slice_equal(name_of(c, &c->places[next]), child.component); next++) {
            child.is_key = child.is_key || c->places[next].is_key;
            child.is_dir = child.is_dir || c->places[next].is_dir;
        }
        if (c->bare_root && child.component.len == 0)
            continue; /* what has a leading slash */
        rc = emit(ctx, &child);
    }
    return rc < 0 ? rc : 0;
}
