#include "fs/name.h"

#include <errno.h>

#include "store/command.h"

static const struct slice ESCAPE = {(const uint8_t *)"%:", 2};

static bool slice_is(struct slice s, const char *text)
{
    return slice_equal(s, slice_from_str(text));
}

static struct slice slice_skip(struct slice s, size_t n)
{
    return slice_make(s.data + n, s.len - n);
}

/* ---- places ---- */

void name_place_init(struct name_place *p)
{
    *p = (struct name_place){.kind = NAME_NODE};
    bytes_init(&p->key);
}

void name_place_fini(struct name_place *p)
{
    bytes_fini(&p->key);
}

int name_place_copy(struct name_place *to, const struct name_place *from)
{
    bytes_reset(&to->key);
    bytes_append(&to->key, bytes_slice(&from->key));
    to->kind = from->kind;
    to->above = from->above;
    to->root = from->root;
    to->dir_len = from->dir_len;
    return bytes_status(&to->key);
}

int name_root(struct slice prefix, struct name_place *p)
{
    if (prefix.len > KEY_MAX_BYTES)
        return -ENAMETOOLONG;
    bytes_reset(&p->key);
    p->kind = prefix.len == 0 ? NAME_RAW : NAME_NODE;
    p->root = true;
    p->dir_len = 0;
    if (prefix.len != 0 && prefix.data[prefix.len - 1] == '/')
        prefix.len--;
    bytes_append(&p->key, prefix);
    return bytes_status(&p->key);
}

/* ---- one component ---- */

static bool needs_escape(struct slice c, bool root)
{
    if (c.len == 0 || slice_is(c, ".") || slice_is(c, "..") || slice_has_prefix(c, ESCAPE))
        return true;
    if (root && slice_is(c, ".quorumfs"))
        return true;
    return memchr(c.data, 0, c.len) != NULL;
}

int name_of_component(struct slice component, bool root, struct bytes *out)
{
    if (!needs_escape(component, root)) {
        bytes_append(out, component);
        return bytes_status(out);
    }
    bytes_append(out, ESCAPE);
    for (size_t i = 0; i < component.len; i++) {
        uint8_t c = component.data[i];

        if (c == '%')
            bytes_raw(out, "%25", 3);
        else if (c == 0)
            bytes_raw(out, "%00", 3);
        else
            bytes_u8(out, c);
    }
    return bytes_status(out);
}

static int unescape(struct slice text, struct bytes *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != '%') {
            bytes_u8(out, text.data[i]);
            continue;
        }
        if (text.len - i < 3)
            return -EINVAL;
        if (memcmp(text.data + i, "%25", 3) == 0)
            bytes_u8(out, '%');
        else if (memcmp(text.data + i, "%00", 3) == 0)
            bytes_u8(out, 0);
        else
            return -EINVAL;
        i += 2;
    }
    return bytes_status(out);
}

int name_to_component(struct slice text, bool root, struct bytes *out)
{
    size_t start = out->len;
    int rc = 0;

    if (memchr(text.data, '/', text.len) != NULL || memchr(text.data, 0, text.len) != NULL)
        return -EINVAL;
    if (slice_has_prefix(text, ESCAPE)) {
        rc = unescape(slice_skip(text, ESCAPE.len), out);
        /* "%:bare" is how nothing is written: the component "bare" needs no escape. Likewise every other one. */
        if (rc == 0 && !needs_escape(slice_make(out->data + start, out->len - start), root))
            rc = -EINVAL;
    } else if (needs_escape(text, root)) {
        rc = -EINVAL;
    } else {
        bytes_append(out, text);
    }
    if (rc < 0) {
        out->len = start;
        return rc;
    }
    return bytes_status(out);
}

bool name_is_piece(struct slice name)
{
    return name.len == NAME_PIECE_BYTES + 2 && memcmp(name.data + NAME_PIECE_BYTES, "%+", 2) == 0;
}

/* A text that looks like a piece is cut too, so that pieces are told by their looks alone. */
size_t name_cut(struct slice text)
{
    return text.len > NAME_LONGEST_BYTES || name_is_piece(text) ? NAME_PIECE_BYTES : 0;
}

/* ---- walking down ---- */

/* key becomes the child's: below a path with a slash, at the top of bare and raw keys without. */
static int join(struct name_place *p, enum name_kind kind, struct slice component)
{
    if (kind == NAME_BARE && component.len == 0)
        return -EINVAL; /* a key with a leading slash is not bare */
    if (kind == NAME_NODE)
        bytes_u8(&p->key, '/');
    bytes_append(&p->key, component);
    p->kind = NAME_NODE;
    p->root = false;
    if (p->key.len > KEY_MAX_BYTES)
        return -ENAMETOOLONG;
    return bytes_status(&p->key);
}

static int step_component(struct name_place *p, enum name_kind kind, struct slice text, bool root)
{
    struct bytes component;
    int rc;

    bytes_init(&component);
    rc = name_to_component(text, root, &component);
    if (rc == 0)
        rc = join(p, kind, bytes_slice(&component));
    bytes_fini(&component);
    return rc;
}

/* The texts that end in a piece's directory are those that name_cut() would cut exactly so: everything else there is a
 * second spelling. */
static int step_in_piece(struct name_place *p, struct slice name)
{
    struct bytes text;
    int rc;

    if (name_is_piece(name)) {
        bytes_raw(&p->key, name.data, NAME_PIECE_BYTES);
        if (p->key.len > 4 * KEY_MAX_BYTES) /* each byte is at most three of the text */
            return -ENAMETOOLONG;
        return bytes_status(&p->key);
    }
    /* Left of a text after 250 bytes: 6 or more, or "%+" of a text that only looked like a piece. */
    if (name.len <= NAME_LONGEST_BYTES - NAME_PIECE_BYTES && !slice_is(name, "%+"))
        return -EINVAL;
    bytes_init(&text);
    bytes_raw(&text, p->key.data + p->dir_len, p->key.len - p->dir_len);
    bytes_append(&text, name);
    rc = bytes_status(&text);
    if (rc == 0) {
        p->key.len = p->dir_len;
        rc = step_component(p, p->above, bytes_slice(&text), p->root);
    }
    bytes_fini(&text);
    return rc;
}

/* The words that stand for something else than a component. 1: name was one and the step is done. */
static int step_reserved(struct name_place *p, struct slice name)
{
    bool top = p->kind != NAME_NODE;

    if (slice_is(name, "%:value")) {
        /* A path that ends in a slash is that of an empty component; its key is the directory above's %:slash. */
        if (top || p->key.len == 0 || p->key.data[p->key.len - 1] == '/')
            return -EINVAL;
        p->kind = NAME_VALUE;
    } else if (slice_is(name, "%:slash")) {
        if (top)
            return -EINVAL;
        bytes_u8(&p->key, '/');
        p->kind = NAME_SLASH;
    } else if (slice_is(name, "%:bare")) {
        if (top || !p->root || p->key.len != 0)
            return -EINVAL;
        p->kind = NAME_BARE;
    } else {
        return 0;
    }
    p->root = false;
    return bytes_status(&p->key) < 0 ? -ENOMEM : 1;
}

int name_step(struct name_place *p, struct slice name)
{
    int rc;

    if (name.len > NAME_LONGEST_BYTES)
        return -ENAMETOOLONG;
    if (name.len == 0 || p->kind == NAME_VALUE || p->kind == NAME_SLASH)
        return -EINVAL;
    if (memchr(name.data, '/', name.len) != NULL || memchr(name.data, 0, name.len) != NULL)
        return -EINVAL;
    if (p->kind == NAME_PIECE)
        return step_in_piece(p, name);
    if (name_is_piece(name)) {
        p->above = p->kind;
        p->kind = NAME_PIECE;
        p->dir_len = p->key.len;
        bytes_raw(&p->key, name.data, NAME_PIECE_BYTES);
        return bytes_status(&p->key);
    }
    rc = step_reserved(p, name);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return step_component(p, p->kind, name, p->root);
}

/* ---- names of children, and whole ways ---- */

int name_of_child(const struct name_place *p, struct slice component, struct bytes *out, bool *ret_piece)
{
    struct bytes text;
    struct slice rest;
    size_t cut;
    int rc;

    bytes_init(&text);
    rc = name_of_component(component, p->root, &text);
    if (rc < 0)
        goto done;
    rest = bytes_slice(&text);
    if (p->kind == NAME_PIECE) {
        struct slice so_far = slice_make(p->key.data + p->dir_len, p->key.len - p->dir_len);

        /* A text no longer than a name is whole in its own directory, unless it looks like a piece. */
        rc = -ENOENT;
        if (rest.len <= so_far.len || !slice_has_prefix(rest, so_far) || name_cut(rest) == 0)
            goto done;
        for (size_t at = 0; at < so_far.len; at += NAME_PIECE_BYTES)
            if (name_cut(slice_skip(bytes_slice(&text), at)) == 0)
                goto done;
        rest = slice_skip(rest, so_far.len);
    }
    cut = name_cut(rest);
    bytes_raw(out, rest.data, cut != 0 ? cut : rest.len);
    if (cut != 0)
        bytes_raw(out, "%+", 2);
    rc = bytes_status(out);
    if (rc == 0)
        *ret_piece = cut != 0;
done:
    bytes_fini(&text);
    return rc;
}

static int append_text(struct slice text, struct bytes *out)
{
    size_t cut;

    while ((cut = name_cut(text)) != 0) {
        bytes_raw(out, text.data, cut);
        bytes_raw(out, "%+/", 3);
        text = slice_skip(text, cut);
    }
    bytes_append(out, text);
    return bytes_status(out);
}

static int append_component(struct slice component, bool root, struct bytes *out, size_t start)
{
    struct bytes text;
    int rc;

    if (out->len != start)
        bytes_u8(out, '/');
    bytes_init(&text);
    rc = name_of_component(component, root, &text);
    if (rc == 0)
        rc = append_text(bytes_slice(&text), out);
    bytes_fini(&text);
    return rc;
}

static void append_word(struct bytes *out, size_t start, const char *word)
{
    if (out->len != start)
        bytes_u8(out, '/');
    bytes_raw(out, word, strlen(word));
}

/* What of key is below the root, without the slash between; -ENOENT. ret_bare: by way of %:bare. */
static int below_root(const struct name_place *root, struct slice key, struct slice *ret_rest, bool *ret_bare)
{
    struct slice prefix = bytes_slice(&root->key);

    *ret_bare = false;
    *ret_rest = key;
    if (root->kind == NAME_RAW)
        return 0;
    if (slice_has_prefix(key, prefix) && key.len > prefix.len && key.data[prefix.len] == '/') {
        *ret_rest = slice_skip(key, prefix.len + 1);
        return 0;
    }
    if (prefix.len != 0)
        return -ENOENT;
    *ret_bare = true;
    return key.len == 0 ? -ENOENT : 0;
}

int name_path(const struct name_place *root, struct slice key, bool is_dir, bool also_dir, struct bytes *out)
{
    size_t start = out->len;
    bool at_root = true, bare, slash;
    struct slice rest;
    int rc;

    if (!is_dir && key.len == 0)
        return -ENOENT; /* the path of a directory at most */
    if (slice_equal(key, bytes_slice(&root->key)) && root->kind == NAME_NODE) {
        if (!is_dir)
            append_word(out, start, "%:value");
        return bytes_status(out);
    }
    rc = below_root(root, key, &rest, &bare);
    if (rc < 0)
        return rc;
    if (bare) {
        append_word(out, start, "%:bare");
        at_root = false;
    }
    slash = !is_dir && key.data[key.len - 1] == '/';
    if (slash && rest.len == 0) { /* the root's own */
        append_word(out, start, "%:slash");
        return bytes_status(out);
    }
    if (slash)
        rest.len--;
    for (;;) {
        const uint8_t *end = rest.len != 0 ? memchr(rest.data, '/', rest.len) : NULL;
        size_t len = end != NULL ? (size_t)(end - rest.data) : rest.len;

        rc = append_component(slice_make(rest.data, len), at_root, out, start);
        if (rc < 0)
            return rc;
        at_root = false;
        if (end == NULL)
            break;
        rest = slice_skip(rest, len + 1);
    }
    if (slash)
        append_word(out, start, "%:slash");
    else if (!is_dir && also_dir)
        append_word(out, start, "%:value");
    return bytes_status(out);
}
