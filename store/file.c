/* The file commands but for rename. Each looks at everything first, decides its status, then writes rows. */
#include <errno.h>
#include <sys/stat.h>

#include "store/apply.h"
#include "store/xattr.h"

#define ATTR_CHANGEABLE (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME)
#define PERMISSION_BITS 07777u

/* ---- what all of them need ---- */

static uint16_t check_path(struct slice path)
{
    if (path.len > KEY_MAX_BYTES)
        return STATUS_NAME_TOO_LONG;
    return STATUS_OK;
}

int apply_check_new_path(struct apply *a, struct slice path, uint16_t *ret_status)
{
    struct target parent;
    int rc;

    *ret_status = view_is_root(path) ? STATUS_EXISTS : check_path(path);
    if (*ret_status != STATUS_OK || !view_parent(path, &parent.path))
        return 0;
    rc = view_load(a->snap, parent.path, &parent);
    if (rc < 0)
        return rc;
    if (!parent.is_dir)
        *ret_status = parent.has_key ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
    return 0;
}

struct attrs apply_new_attrs(const struct apply *a, const struct attrs *given, uint32_t type)
{
    struct attrs attrs = *given;

    attrs.has &= ATTR_CHANGEABLE | ATTR_INO;
    if ((attrs.has & ATTR_MODE) != 0)
        attrs.mode = type | (attrs.mode & PERMISSION_BITS);
    if ((attrs.has & ATTR_MTIME) == 0)
        attrs.mtime_ns = a->cmd->time_ns;
    attrs.has |= ATTR_MTIME;
    return attrs;
}

/* Given numbers stay clear of those that are derived. */
static bool ino_is_proper(const struct attrs *given)
{
    return (given->has & ATTR_INO) == 0 || (given->ino > INO_ROOT && given->ino < INO_IMPLICIT_BIT);
}

/* given over old; a type never changes, and content that stays keeps its time. */
static struct attrs merge_attrs(const struct node *old, const struct attrs *given, uint32_t default_type)
{
    struct attrs attrs = old->attrs;
    uint32_t type = (old->attrs.has & ATTR_MODE) != 0 ? old->attrs.mode & S_IFMT : default_type;

    if ((given->has & ATTR_MODE) != 0)
        attrs.mode = type | (given->mode & PERMISSION_BITS);
    if ((given->has & ATTR_UID) != 0)
        attrs.uid = given->uid;
    if ((given->has & ATTR_GID) != 0)
        attrs.gid = given->gid;
    if ((given->has & ATTR_MTIME) != 0)
        attrs.mtime_ns = given->mtime_ns;
    else if ((old->attrs.has & ATTR_MTIME) == 0)
        attrs.mtime_ns = old->time_ns;
    attrs.has |= (given->has & ATTR_CHANGEABLE) | ATTR_MTIME;
    return attrs;
}

static bool attrs_equal(const struct attrs *a, const struct attrs *b)
{
    return a->has == b->has && ((a->has & ATTR_MODE) == 0 || a->mode == b->mode) &&
           ((a->has & ATTR_UID) == 0 || a->uid == b->uid) && ((a->has & ATTR_GID) == 0 || a->gid == b->gid) &&
           ((a->has & ATTR_MTIME) == 0 || a->mtime_ns == b->mtime_ns);
}

static bool is_regular(const struct node *n)
{
    uint32_t type = (n->attrs.has & ATTR_MODE) != 0 ? n->attrs.mode & S_IFMT : 0;

    return type == 0 || type == S_IFREG;
}

int apply_keep_parent(struct apply *a, struct slice path)
{
    struct attrs attrs = {.has = ATTR_INO};
    struct slice parent;
    int rc;

    if (!view_parent(path, &parent))
        return 0;
    rc = view_is_dir(a->snap, parent);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    attrs.ino = view_implicit_ino(parent); /* who it was while it was implicit */
    return apply_dir_put(a, parent, NULL, &attrs, 0);
}

static void answer(struct result *result, uint64_t ino, uint64_t size)
{
    result->file.ino = ino;
    result->file.size = size;
    result->file.changed = true;
}

/* Writes the key's row and answers for the node. ino 0: from its new create revision. */
static int put_file(struct apply *a, struct slice path, const struct node *prev, const struct change *change,
                    struct result *result)
{
    struct node made = {.create = prev != NULL ? prev->create : a->next, .attrs = change->attrs};
    int rc = apply_key_put(a, path, prev, change);

    if (rc == 0)
        answer(result, view_ino(&made), change->value_len);
    return rc;
}

/* ---- content ---- */

static int file_create(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct change change = {.kind = EVENT_PUT, .value = op->value, .value_len = op->value.len};
    int rc;

    if ((op->flags & FILE_EXPECT_REV) != 0 && op->expect_rev != 0)
        result->status = STATUS_STALE;
    else if ((op->flags & FILE_CREATE) == 0 || op->ino != 0)
        result->status = STATUS_NO_ENTRY;
    else if (!ino_is_proper(&op->attrs))
        result->status = STATUS_INVALID_REQUEST;
    if (result->status != STATUS_OK)
        return 0;
    rc = view_is_dir(a->snap, op->path);
    if (rc == 1)
        result->status = STATUS_IS_DIRECTORY;
    else if (rc == 0)
        rc = apply_check_new_path(a, op->path, &result->status);
    if (rc < 0 || result->status != STATUS_OK)
        return rc < 0 ? rc : 0;
    change.attrs = apply_new_attrs(a, &op->attrs, S_IFREG);
    return put_file(a, op->path, NULL, &change, result);
}

static int file_write(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct change change = {.kind = EVENT_PUT, .value = op->value, .value_len = op->value.len};
    struct attrs given = op->attrs;
    struct node prev;
    int rc = range_get(a->snap, op->path, &prev);

    if (rc == -ENOENT)
        return file_create(a, result);
    if (rc < 0)
        return rc;
    if ((op->flags & FILE_EXCLUSIVE) != 0)
        result->status = STATUS_EXISTS;
    else if (!is_regular(&prev) || (op->ino != 0 && op->ino != view_ino(&prev)) ||
             ((op->flags & FILE_EXPECT_REV) != 0 && op->expect_rev != prev.chain.last.main))
        result->status = STATUS_STALE;
    if (result->status != STATUS_OK)
        return 0;
    if ((op->flags & FILE_CREATE) != 0 && op->ino == 0) /* made elsewhere meanwhile: it stays as its maker made it */
        given.has &= ATTR_MTIME;
    if ((given.has & ATTR_MTIME) == 0) {
        given.has |= ATTR_MTIME;
        given.mtime_ns = a->cmd->time_ns;
    }
    change.attrs = merge_attrs(&prev, &given, S_IFREG);
    change.lease = prev.lease;
    return put_file(a, op->path, &prev, &change, result);
}

/* prev's content, then more; cut or filled with zeros to size. */
static int resized_value(struct apply *a, const struct node *prev, struct slice more, uint64_t size,
                         struct change *change)
{
    struct slice old;
    uint8_t *value;
    size_t n;
    int rc = range_value(a->snap, prev, a->arena, &old);

    if (rc < 0)
        return rc;
    value = arena_alloc(a->arena, size);
    if (value == NULL)
        return -ENOMEM;
    n = old.len < size ? old.len : size;
    if (n > 0)
        memcpy(value, old.data, n);
    if (more.len > 0)
        memcpy(value + n, more.data, more.len);
    change->value = slice_make(value, size);
    change->value_len = size;
    return 0;
}

static int file_append(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct change change = {.kind = EVENT_PUT};
    struct attrs given = {.has = ATTR_MTIME, .mtime_ns = a->cmd->time_ns};
    struct node prev;
    int rc = range_get(a->snap, op->path, &prev);

    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (rc == -ENOENT)
        result->status = STATUS_NO_ENTRY;
    else if (!is_regular(&prev) || (op->ino != 0 && op->ino != view_ino(&prev)))
        result->status = STATUS_STALE;
    else if (prev.value_len + op->value.len > FILE_MAX_BYTES)
        result->status = STATUS_TOO_LARGE;
    if (result->status != STATUS_OK)
        return 0;
    rc = resized_value(a, &prev, op->value, prev.value_len + op->value.len, &change);
    if (rc < 0)
        return rc;
    change.attrs = merge_attrs(&prev, &given, S_IFREG);
    change.lease = prev.lease;
    return put_file(a, op->path, &prev, &change, result);
}

/* ---- names ---- */

/* For MKDIR and SYMLINK: nothing has the name, and it can be made. */
static int check_free_name(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct target t;
    int rc = view_load(a->snap, op->path, &t);

    if (rc < 0)
        return rc;
    if (t.has_key || t.is_dir)
        result->status = STATUS_EXISTS;
    else if (!ino_is_proper(&op->attrs))
        result->status = STATUS_INVALID_REQUEST;
    else
        rc = apply_check_new_path(a, op->path, &result->status);
    return rc;
}

static int file_mkdir(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct node made = {.create = a->next};
    int rc = check_free_name(a, result);

    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    made.attrs = apply_new_attrs(a, &op->attrs, S_IFDIR);
    rc = apply_dir_put(a, op->path, NULL, &made.attrs, EVENT_CREATED);
    if (rc == 0)
        answer(result, view_ino(&made), 0);
    return rc;
}

static int file_symlink(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct change change = {.kind = EVENT_PUT, .value = op->value, .value_len = op->value.len};
    uint32_t type = (op->attrs.has & ATTR_MODE) != 0 ? op->attrs.mode & S_IFMT : 0;
    int rc;

    if (type != S_IFLNK && type != S_IFIFO && type != S_IFSOCK) {
        result->status = STATUS_INVALID_REQUEST;
        return 0;
    }
    rc = check_free_name(a, result);
    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    change.attrs = apply_new_attrs(a, &op->attrs, type);
    return put_file(a, op->path, NULL, &change, result);
}

static int file_unlink(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct target t;
    int rc = view_load(a->snap, op->path, &t);

    if (rc < 0)
        return rc;
    /* A path that is a key and a directory: the key is meant only by its own number. */
    if (t.is_dir && !(t.has_key && op->ino == t.key_ino))
        result->status = op->ino == 0 || op->ino == t.dir_ino ? STATUS_IS_DIRECTORY : STATUS_STALE;
    else if (!t.has_key)
        result->status = STATUS_NO_ENTRY;
    else if (op->ino != 0 && op->ino != t.key_ino)
        result->status = STATUS_STALE;
    if (result->status != STATUS_OK)
        return 0;
    rc = apply_key_delete(a, op->path, &t.key, 0);
    if (rc == 0)
        rc = apply_keep_parent(a, op->path);
    if (rc == 0)
        answer(result, t.key_ino, 0);
    return rc;
}

static int file_rmdir(struct apply *a, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct target t;
    int rc = view_load(a->snap, op->path, &t);

    if (rc < 0)
        return rc;
    if (view_is_root(op->path))
        result->status = STATUS_INVALID_REQUEST;
    else if (!t.is_dir)
        result->status = t.has_key ? STATUS_NOT_DIRECTORY : STATUS_NO_ENTRY;
    else if (op->ino != 0 && op->ino != t.dir_ino)
        result->status = STATUS_STALE;
    else if (!t.has_dir || t.has_key) /* its own value is listed in it */
        result->status = STATUS_NOT_EMPTY;
    if (result->status != STATUS_OK)
        return 0;
    rc = view_has_below(a->snap, op->path);
    if (rc != 0) {
        result->status = rc == 1 ? STATUS_NOT_EMPTY : result->status;
        return rc < 0 ? rc : 0;
    }
    rc = apply_dir_delete(a, op->path, &t.dir, 0);
    if (rc == 0)
        rc = apply_keep_parent(a, op->path);
    if (rc == 0)
        answer(result, t.dir_ino, 0);
    return rc;
}

/* ---- attributes ---- */

static int setattr_dir(struct apply *a, const struct target *t, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    struct attrs attrs = merge_attrs(&t->dir, &op->attrs, S_IFDIR);
    int rc = 0;

    if ((op->attrs.has & ATTR_SIZE) != 0) {
        result->status = STATUS_IS_DIRECTORY;
        return 0;
    }
    if (!t->has_dir) { /* it becomes explicit, and stays who it is */
        if ((op->attrs.has & ATTR_MTIME) == 0)
            attrs.mtime_ns = a->cmd->time_ns;
        attrs.has |= ATTR_INO;
        attrs.ino = t->dir_ino;
    }
    if (!t->has_dir || !attrs_equal(&attrs, &t->dir.attrs)) {
        rc = apply_dir_put(a, view_normal(t->path), t->has_dir ? &t->dir : NULL, &attrs, 0);
        result->file.changed = true;
    }
    result->file.ino = t->dir_ino;
    return rc;
}

static int setattr_key(struct apply *a, const struct target *t, struct result *result)
{
    const struct file_op *op = &a->cmd->file;
    const bool resize = (op->attrs.has & ATTR_SIZE) != 0 && op->attrs.size != t->key.value_len;
    struct change change = {.kind = resize ? EVENT_PUT : EVENT_ATTR, .lease = t->key.lease};
    struct attrs given = op->attrs;
    int rc;

    if ((op->attrs.has & ATTR_SIZE) != 0 && !is_regular(&t->key))
        result->status = STATUS_INVALID_REQUEST;
    else if (resize && op->attrs.size > FILE_MAX_BYTES)
        result->status = STATUS_TOO_LARGE;
    if (result->status != STATUS_OK)
        return 0;
    if ((op->attrs.has & ATTR_SIZE) != 0 && (given.has & ATTR_MTIME) == 0) {
        given.has |= ATTR_MTIME;
        given.mtime_ns = a->cmd->time_ns;
    }
    change.attrs = merge_attrs(&t->key, &given, S_IFREG);
    result->file.ino = t->key_ino;
    result->file.size = t->key.value_len;
    if (!resize && (given.has & ATTR_CHANGEABLE) == 0)
        return 0; /* an access time alone, which is not kept */
    if (!resize && attrs_equal(&change.attrs, &t->key.attrs))
        return 0;
    rc = resize ? resized_value(a, &t->key, slice_make(NULL, 0), op->attrs.size, &change)
                : apply_keep_value(a, &t->key, &change);
    return rc == 0 ? put_file(a, op->path, &t->key, &change, result) : rc;
}

int apply_find_node(struct apply *a, struct target *ret_target, bool *ret_as_dir, uint16_t *ret_status)
{
    const struct file_op *op = &a->cmd->file;
    struct target *t = ret_target;
    int rc = view_load(a->snap, op->path, t);

    if (rc < 0)
        return rc;
    *ret_as_dir = t->is_dir && (op->ino == 0 || op->ino == t->dir_ino);
    if (!*ret_as_dir && !(t->has_key && (op->ino == 0 || op->ino == t->key_ino)))
        *ret_status = t->has_key || t->is_dir ? STATUS_STALE : STATUS_NO_ENTRY;
    return 0;
}

static int file_setattr(struct apply *a, struct result *result)
{
    struct target t;
    bool as_dir;
    int rc = apply_find_node(a, &t, &as_dir, &result->status);

    if (rc < 0 || result->status != STATUS_OK)
        return rc;
    return as_dir ? setattr_dir(a, &t, result) : setattr_key(a, &t, result);
}

int apply_touch_node(struct apply *a, const struct target *t, bool as_dir, struct result *result)
{
    static const struct attrs none;
    struct change change = {.kind = EVENT_ATTR, .lease = t->key.lease};
    struct attrs attrs;
    int rc;

    if (!as_dir) {
        change.attrs = merge_attrs(&t->key, &none, S_IFREG);
        rc = apply_keep_value(a, &t->key, &change);
        return rc == 0 ? put_file(a, t->path, &t->key, &change, result) : rc;
    }
    attrs = merge_attrs(&t->dir, &none, S_IFDIR);
    if (!t->has_dir) {
        attrs.mtime_ns = a->cmd->time_ns;
        attrs.has |= ATTR_INO;
        attrs.ino = t->dir_ino;
    }
    answer(result, t->dir_ino, 0);
    return apply_dir_put(a, view_normal(t->path), t->has_dir ? &t->dir : NULL, &attrs, 0);
}

int apply_file(struct apply *a, struct result *ret_result)
{
    const struct file_op *op = &a->cmd->file;

    ret_result->status = check_path(op->path);
    if (ret_result->status == STATUS_OK && op->value.len > FILE_MAX_BYTES)
        ret_result->status = STATUS_TOO_LARGE;
    if (ret_result->status == STATUS_OK && op->path.len == 0 && a->cmd->kind < COMMAND_FILE_SETATTR)
        ret_result->status = a->cmd->kind == COMMAND_FILE_MKDIR ? STATUS_EXISTS : STATUS_INVALID_REQUEST;
    if (ret_result->status != STATUS_OK)
        return 0;
    switch ((enum command_kind)a->cmd->kind) {
    case COMMAND_FILE_WRITE:
        return file_write(a, ret_result);
    case COMMAND_FILE_APPEND:
        return file_append(a, ret_result);
    case COMMAND_FILE_MKDIR:
        return file_mkdir(a, ret_result);
    case COMMAND_FILE_SYMLINK:
        return file_symlink(a, ret_result);
    case COMMAND_FILE_UNLINK:
        return file_unlink(a, ret_result);
    case COMMAND_FILE_RMDIR:
        return file_rmdir(a, ret_result);
    case COMMAND_FILE_SETATTR:
        return file_setattr(a, ret_result);
    case COMMAND_FILE_SETXATTR:
    case COMMAND_FILE_REMOVEXATTR:
        return apply_xattr(a, ret_result);
    default:
        return -EINVAL;
    }
}
