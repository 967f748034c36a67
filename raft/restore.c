#include "raft/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/core.h"
#include "raft/identity.h"
#include "store/checkpoint.h"

static int compare_members(const void *a, const void *b)
{
    const struct core_member *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static int encode_membership(const struct config *c, struct bytes *out)
{
    struct core_member members[NODE_MAX_MEMBERS];

    for (size_t i = 0; i < c->n_members; i++)
        members[i] = (struct core_member){.id = c->members[i].id, .address = c->members[i].peer_urls, .voter = true};
    qsort(members, c->n_members, sizeof members[0], compare_members);
    return core_membership_encode(members, c->n_members, out);
}

static int make_store(const struct config *c, struct checkpoint_info *ret_info, char *text, size_t size)
{
    char dir[256];
    struct bytes membership;
    int rc;

    bytes_init(&membership);
    if ((size_t)snprintf(dir, sizeof dir, "%s/store", c->data_dir) >= sizeof dir)
        return -ENAMETOOLONG;
    rc = encode_membership(c, &membership);
    if (rc == 0 && mkdir(dir, 0770) < 0)
        rc = -errno;
    if (rc == 0)
        rc = checkpoint_restore(dir, c->restore, c->cluster_id, bytes_slice(&membership), ret_info);
    bytes_fini(&membership);
    if (rc < 0)
        snprintf(text, size, "the key space cannot be made from %s: %s", c->restore,
                 rc == -EUCLEAN ? "the file is damaged, or none of quorumfs" :
                 rc == -EPROTONOSUPPORT ? "it is of a newer version" : strerror(-rc));
    return rc;
}

int restore_run(const struct config *c, char *ret_text, size_t text_size)
{
    struct checkpoint_info info;
    struct identity id;
    bool is_new = false;
    int lock_fd = -1, rc = checkpoint_read_info(c->restore, &info);

    ret_text[0] = '\0';
    if (rc < 0) {
        snprintf(ret_text, text_size, "%s: %s", c->restore, rc == -EUCLEAN ? "no checkpoint of quorumfs, or damaged" :
                 rc == -EPROTONOSUPPORT ? "of a newer version" : strerror(-rc));
        return rc;
    }
    rc = identity_prepare(c, -1, -1, ret_text, text_size);
    if (rc == 0)
        rc = identity_lock(c, &lock_fd, ret_text, text_size);
    if (rc == 0)
        rc = identity_check(c, &id, &is_new, ret_text, text_size);
    if (rc == 0 && !is_new) {
        rc = -EEXIST;
        snprintf(ret_text, text_size, "data directory %s has a member in it: a backup needs a new directory", c->data_dir);
    }
    if (rc == 0)
        rc = make_store(c, &info, ret_text, text_size);
    if (rc == 0) /* last: without it the directory is no node's */
        rc = identity_create(c, &id, ret_text, text_size);
    if (rc == 0)
        snprintf(ret_text, text_size, "restored %s: member %016llx of the new cluster %016llx in %s, revision %lld",
                 c->restore, (unsigned long long)id.member_id, (unsigned long long)id.cluster_id, c->data_dir,
                 (long long)info.revision);
    if (lock_fd >= 0)
        close(lock_fd);
    return rc;
}
