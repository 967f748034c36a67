/* Attributes that the kernel keeps. It asks for those of each directory on the way to a file, and once more for what it has
 * just looked up, unless it may keep them for a while. It may, until what they would be is another thing: then it is told to
 * ask again, before anything is answered from the new revision, so nobody sees an older state than without.
 *
 * This is no notify_*_entry: the kernel takes no directory's lock for it and asks nothing back. It does look its node up, and
 * that waits for one that is being thrown out, which in turn waits for pages that are being read or written back. Only a file
 * that somebody has open has such pages. So nothing is kept of what is open here, and the kernel is told when it is opened. */
#include <errno.h>

#include "fs/mount.h"

double cached_for(struct mount *m, struct inode *i)
{
    if (i->n_handles > 0 || i->buffer != NULL || i->fresh || i->committing || inode_is_dead(&m->inodes, i))
        return 0;
    i->cached = true;
    return CACHED_S;
}

/* False: the kernel does not know the node, or is about to make it from an answer that it has not looked at yet. */
static bool tell(struct mount *m, struct inode *i)
{
    if (fuse_lowlevel_notify_inval_inode(m->session, i->id, -1, 0) == -ENOENT)
        return false;
    i->cached = false;
    return true;
}

void cached_end(struct mount *m, struct inode *i)
{
    if (!i->cached || tell(m, i) || !list_empty(&i->untold))
        return;
    inode_hold(i);
    i->untold_ms = client_now_ms();
    list_push_back(&m->untold, &i->untold);
}

void cached_end_below(struct mount *m, struct inode *i)
{
    cached_end(m, i);
    LIST_FOREACH(it, &i->children)
        cached_end_below(m, LIST_ITEM(it, struct inode, sibling));
}

void cached_again(struct mount *m)
{
    uint64_t now_ms = list_empty(&m->untold) ? 0 : client_now_ms();

    LIST_FOREACH_SAFE(it, &m->untold) {
        struct inode *i = LIST_ITEM(it, struct inode, untold);
        bool wanted = i->cached && i->nlookup > 0 && i->n_handles == 0 && now_ms < i->untold_ms + CACHED_UNTOLD_MS;

        if (wanted && !tell(m, i))
            continue;
        list_remove(it);
        inode_release(&m->inodes, i);
    }
}

int cached_timeout_ms(const struct mount *m)
{
    return list_empty(&m->untold) ? -1 : CACHED_AGAIN_MS;
}
