/* name.h - keys as names below a mount point, and back. docs/mount.md has the rules with examples.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  -EINVAL: not the canonical spelling of any key (or nothing can have that name there);
 *          -ENAMETOOLONG: the key would pass KEY_MAX_BYTES; -ENOMEM.
 * Memory:  results are appended to a struct bytes of the caller.
 * Units:   bytes.
 *
 * A *component* is what stands between two slashes of a key, any bytes but '/'; a *name* is what stands in a
 * directory of the mount. Most components are their own name; the others are "%:" and the component with '%' and
 * NUL written %25 and %00. That text, when it is longer than a name can be, is cut into nested directories.
 *
 * A *place* is where a walk from the mount's root has got to. Whether a NAME_NODE is a file or a directory
 * only the store can say. */
#ifndef FS_NAME_H
#define FS_NAME_H

#include "base/bytes.h"
#include "base/slice.h"

#define NAME_LONGEST_BYTES 255 /* NAME_MAX of Linux */
#define NAME_PIECE_BYTES 250   /* of a long name's text in each directory but the last */

enum name_kind {
    NAME_NODE,  /* key: of the file, or the path of the directory (no slash at its end) */
    NAME_RAW,   /* root of a mount with an empty prefix: the keys as they are; key: empty */
    NAME_BARE,  /* %:bare: the keys without a leading slash; key: empty */
    NAME_VALUE, /* %:value: a file, the value of key, which is also the path of the directory it is in */
    NAME_SLASH, /* %:slash: a file, the value of key, which ends in '/' */
    NAME_PIECE, /* part of a long name: a directory; key: path of the directory it is in, then its text so far */
};

struct name_place {
    enum name_kind kind;
    enum name_kind above; /* NAME_PIECE: kind of the directory that the long name is in */
    bool root;            /* of the mount: where .quorumfs is reserved */
    size_t dir_len;       /* NAME_PIECE: how much of key is that directory's path; the text follows */
    struct bytes key;
};

void name_place_init(struct name_place *p);
void name_place_fini(struct name_place *p);
int name_place_copy(struct name_place *to, const struct name_place *from); /* to is initialised */

/* The root of a mount with that prefix: "/" all keys with a leading slash, "/config" the keys below it, "" all keys.
 * One slash at the end is dropped. */
int name_root(struct slice prefix, struct name_place *p);

/* Moves p from a directory to what has that name in it. On an error p is unusable but can be finished. */
int name_step(struct name_place *p, struct slice name);

/* The text of a component in a directory; root: of the directory. Longer than NAME_LONGEST_BYTES, or what name_cut()
 * says otherwise: see there. */
int name_of_component(struct slice component, bool root, struct bytes *out);
/* And back. -EINVAL for a reserved word too. */
int name_to_component(struct slice text, bool root, struct bytes *out);

/* How many bytes of a text, or of the rest of one, go into a directory of their own; 0: none, the rest is a name. */
size_t name_cut(struct slice text);
bool name_is_piece(struct slice name);

/* What a listing of the place shows for a child with that component: its name, cut to one level. For a piece: -ENOENT
 * when the component does not go on from the piece's text. ret_piece: the name is a directory whatever the child is. */
int name_of_child(const struct name_place *p, struct slice component, struct bytes *out, bool *ret_piece);

/* The whole way below the root to a key, names joined by '/'. is_dir: the way to the directory of that path; else to the
 * file, which is %:value in the directory of the same path if also_dir. -ENOENT: not below this root. */
int name_path(const struct name_place *root, struct slice key, bool is_dir, bool also_dir, struct bytes *out);

#endif
