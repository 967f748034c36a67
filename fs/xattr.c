/* Extended attributes: user.* are the file's own, kept in the cluster; user.quorumfs.* say what the cluster knows of the
 * file. Those are not listed, so that cp -a and rsync -X do not try to copy them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "fs/mount.h"

#define OWN_PREFIX "user.quorumfs."
#define EXPECT "expect_revision"

/* NULL: none of ours. */
static const char *own_name(const char *name)
{
    size_t len = strlen(OWN_PREFIX);

    return strncmp(name, OWN_PREFIX, len) == 0 ? name + len : NULL;
}

static bool is_user(const char *name)
{
    return strncmp(name, "user.", 5) == 0 && name[5] != 0;
}

/* ---- reading ---- */

static void reply_value(fuse_req_t req, struct slice value, size_t size)
{
    if (size == 0)
        fuse_reply_xattr(req, value.len);
    else if (size < value.len)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, (const char *)value.data, value.len);
}

static int own_value(const struct mount *m, const struct inode *i, const struct name_place *p, const char *name, char *text,
                     size_t size)
{
    bool key_alone = p->kind == NAME_VALUE || p->kind == NAME_SLASH;
    struct node_stat st;
    int64_t number = 0;
    int rc;

    if (strcmp(name, EXPECT) == 0)
        number = i->expect_rev;
    else if (strcmp(name, "lock_token") == 0)
        number = (int64_t)i->lock_token;
    if (number == 0) {
        if (p->kind != NAME_NODE && !key_alone)
            return -ENODATA;
        rc = (key_alone ? store_stat_key : store_stat)(m->read, bytes_slice(&p->key), &st);
        if (rc < 0 || st.type == NODE_NONE)
            return rc < 0 ? rc : -ENODATA;
        if (strcmp(name, "revision") == 0)
            number = st.mod.main;
        else if (strcmp(name, "create_revision") == 0)
            number = st.create.main;
        else if (strcmp(name, "version") == 0)
            number = st.version;
        else if (strcmp(name, "lease") == 0 && st.lease != 0)
            return snprintf(text, size, "%" PRIx64, st.lease);
    }
    return number != 0 ? snprintf(text, size, "%" PRId64, number) : -ENODATA;
}

void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    const char *own = own_name(name);
    struct slice value = {NULL, 0};
    struct name_place p;
    struct arena arena;
    char text[32];
    int rc = -EOPNOTSUPP;

    if (!is_user(name)) { /* the kernel asks for security.capability at each write, ls and cp for lists of access */
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    arena_init(&arena);
    name_place_init(&p);
    rc = i != NULL ? view_place(m, i, &p) : -ESTALE;
    if (rc == 0 && own != NULL) {
        rc = own_value(m, i, &p, own, text, sizeof(text));
        value = slice_make(text, rc > 0 ? (size_t)rc : 0);
    } else if (rc == 0) {
        rc = p.kind == NAME_NODE && !i->fresh
                 ? store_xattr_get(m->read, bytes_slice(&p.key), slice_from_str(name), &arena, &value)
                 : -ENODATA;
    }
    if (rc < 0)
        fuse_reply_err(req, rc == -ENOENT ? ENODATA : errno_of(rc));
    else
        reply_value(req, value, size);
    name_place_fini(&p);
    arena_fini(&arena);
}

static int add_name(void *ctx, struct slice name, uint64_t value_len)
{
    struct bytes *names = ctx;

    bytes_append(names, name);
    bytes_u8(names, 0);
    return bytes_status(names);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    struct name_place p;
    struct bytes names;
    int rc;

    bytes_init(&names);
    name_place_init(&p);
    rc = i != NULL ? view_place(m, i, &p) : -ESTALE;
    if (rc == 0 && p.kind == NAME_NODE && !i->fresh)
        rc = store_xattr_list(m->read, bytes_slice(&p.key), add_name, &names);
    if (rc < 0 && rc != -ENOENT)
        fuse_reply_err(req, errno_of(rc));
    else
        reply_value(req, bytes_slice(&names), size);
    name_place_fini(&p);
    bytes_fini(&names);
}

/* ---- writing ---- */

static void done(struct waiting *w, int error)
{
    fuse_reply_err(w->req, error);
    wait_free(w);
}

/* A file that nobody else knows of yet becomes one that has attributes: it is committed first. */
static void change_go(struct waiting *w, int error)
{
    struct inode *i = w->node;
    struct name_place p;
    int rc = -error;

    if (rc == 0 && i->fresh) {
        w->then = change_go;
        commit_start(w, i);
        return;
    }
    name_place_init(&p);
    if (rc == 0)
        rc = view_place(w->m, i, &p);
    if (rc == 0 && p.kind != NAME_NODE)
        rc = -EOPNOTSUPP;
    if (rc == 0)
        rc = arena_copy(&w->arena, bytes_slice(&p.key), &w->cmd.file.path);
    name_place_fini(&p);
    if (rc < 0) {
        wait_fail(w, errno_of(rc));
        return;
    }
    w->cmd.kind = w->to_set ? COMMAND_FILE_SETXATTR : COMMAND_FILE_REMOVEXATTR;
    w->cmd.file.ino = i->implicit ? 0 : i->ino;
    w->then = done;
    wait_propose(w);
}

static void change(fuse_req_t req, struct inode *i, const char *name, const char *value, size_t size, uint32_t flags)
{
    struct mount *m = fuse_req_userdata(req);
    struct waiting *w;
    int rc;

    if (commit_possible(m) != 0) {
        fuse_reply_err(req, EROFS);
        return;
    }
    w = wait_new(m, req, done);
    if (w == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->node = i;
    inode_hold(i);
    w->to_set = value != NULL;
    w->cmd.file.flags = flags;
    rc = arena_copy(&w->arena, slice_from_str(name), &w->cmd.file.path2);
    if (rc == 0 && value != NULL)
        rc = arena_copy(&w->arena, slice_make(value, size), &w->cmd.file.value);
    if (rc < 0)
        wait_fail(w, ENOMEM);
    else
        change_go(w, 0);
}

/* What the next commit of the file's content is to find: kept with the node, which is held until then. */
static int expect(struct mount *m, struct inode *i, const char *value, size_t size)
{
    int64_t revision = 0;
    struct name_place p;
    int rc = 0;

    if (value != NULL && virtual_number(slice_make(value, size), &revision) < 0)
        return -EINVAL;
    if (value == NULL && i->expect_rev == 0)
        return -ENODATA;
    if (i->type != S_IFREG)
        return -EOPNOTSUPP;
    name_place_init(&p);
    if (value != NULL)
        rc = view_place(m, i, &p);
    if (rc == 0 && value != NULL && p.kind != NAME_NODE)
        rc = -EOPNOTSUPP;
    name_place_fini(&p);
    if (rc < 0)
        return rc;
    if (i->expect_rev == 0 && m->expecting >= EXPECT_MAX)
        return -ENOSPC;
    if (i->expect_rev == 0) {
        inode_hold(i);
        m->expecting++;
    }
    i->expect_rev = revision;
    if (revision == 0)
        commit_expected(m, i);
    return 0;
}

static bool refuse(fuse_req_t req, const struct inode *i, const char *name)
{
    const char *own = own_name(name);
    int error = 0;

    if (i == NULL)
        error = ESTALE;
    else if (!is_user(name))
        error = EOPNOTSUPP;
    else if (own != NULL && strcmp(own, EXPECT) != 0)
        error = EPERM;
    if (error != 0)
        fuse_reply_err(req, error);
    return error != 0;
}

void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);
    uint32_t file_flags = (flags & XATTR_CREATE ? FILE_CREATE : 0) | (flags & XATTR_REPLACE ? FILE_REPLACE : 0);

    if (refuse(req, i, name))
        return;
    if (own_name(name) != NULL)
        fuse_reply_err(req, errno_of(expect(m, i, value, size)));
    else
        change(req, i, name, value, size, file_flags);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
    struct mount *m = fuse_req_userdata(req);
    struct inode *i = ops_inode(m, id);

    if (refuse(req, i, name))
        return;
    if (own_name(name) != NULL)
        fuse_reply_err(req, errno_of(expect(m, i, NULL, 0)));
    else
        change(req, i, name, NULL, 0, 0);
}
