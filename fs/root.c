/* The directory that a mount shows, where nothing in the store makes it: `prefix=/a/b` of a cluster without such keys, or whose
 * last key clientv3 has deleted. It can be looked at all the same; the first thing that is made in it makes it. Without, the
 * cluster would refuse a file whose directory is not there, when the file is closed, which shells do not notice. */
#include <errno.h>

#include "fs/mount.h"

static void level_made(struct waiting *r, int error);

/* The first directory on the way to the root that is not there. -EEXIST: all are. */
static int missing_level(struct mount *m, struct arena *arena, struct slice *ret_path)
{
    struct name_place p;
    struct view v;
    size_t at = 1;
    int rc;

    name_place_init(&p);
    rc = view_place(m, m->inodes.root, &p);
    if (rc == 0 && (p.kind != NAME_NODE || p.key.len == 0))
        rc = -EEXIST; /* of all keys, or of those without a slash */
    while (rc == 0) {
        size_t len = p.key.len;
        struct name_place level = p;
        const uint8_t *slash = at < len ? memchr(p.key.data + at, '/', len - at) : NULL;

        level.key.len = slash != NULL ? (size_t)(slash - p.key.data) : len;
        level.root = false;
        rc = view_at(m, m->read, &level, &v);
        if (rc == 0 && v.seen.type == 0) {
            rc = arena_copy(arena, slice_make(p.key.data, level.key.len), ret_path);
            break;
        }
        if (rc == 0 && v.seen.type != S_IFDIR)
            rc = -ENOTDIR;
        else if (rc == 0 && level.key.len == len)
            rc = -EEXIST;
        at = level.key.len + 1;
    }
    name_place_fini(&p);
    return rc;
}

static void release_waiters(struct mount *m, int error)
{
    struct list round;

    list_init(&round);
    while (!list_empty(&m->root_waiters)) {
        struct list *it = m->root_waiters.next;

        list_remove(it);
        list_push_back(&round, it);
    }
    while (!list_empty(&round))
        wait_end(LIST_ITEM(round.next, struct waiting, link), error);
}

/* Makes the next level, or lets those go on who wait. */
static void next_level(struct waiting *r, int error)
{
    struct mount *m = r->m;
    struct file_op *f = &r->cmd.file;
    int rc = error != 0 ? -error : missing_level(m, &r->arena, &f->path);

    if (rc == 0 && wait_ino(r, &r->ino) < 0)
        return;
    if (rc == 0) {
        r->cmd.kind = COMMAND_FILE_MKDIR;
        f->attrs = (struct attrs){.has = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_INO, .uid = m->opt.uid, .gid = m->opt.gid,
                                  .mode = S_IFDIR | (0777 & ~m->opt.umask), .ino = r->ino};
        r->then = level_made;
        wait_propose(r);
        return;
    }
    wait_free(r);
    m->root_making = false;
    release_waiters(m, rc == -EEXIST ? 0 : errno_of(rc));
}

static void level_made(struct waiting *r, int error)
{
    r->then = next_level;
    next_level(r, error == EEXIST ? 0 : error); /* somebody else has made it */
}

bool root_wait(struct waiting *w)
{
    struct mount *m = w->m;
    struct slice path;
    struct waiting *r;

    if (w->dir != m->inodes.root || missing_level(m, &w->arena, &path) != 0)
        return false;
    w->state = WAIT_OTHER;
    list_remove(&w->link);
    list_push_back(&m->root_waiters, &w->link);
    if (m->root_making)
        return true;
    r = wait_new(m, NULL, next_level);
    if (r == NULL) {
        release_waiters(m, ENOMEM);
        return true;
    }
    m->root_making = true;
    next_level(r, 0);
    return true;
}
