#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/socket_impl.h"

#define GROUPS_MAX 1024

static bool has_group(int fd, const struct ucred *cred, gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof(groups);

    if (cred->gid == gid)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
        return false;
    for (size_t i = 0; i < len / sizeof(groups[0]); i++)
        if (groups[i] == gid)
            return true;
    return false;
}

int socket_peer_check(int fd, const char *path)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    struct stat st;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || stat(path, &st) < 0)
        return -errno;
    if (cred.uid == 0 || cred.uid == geteuid() || has_group(fd, &cred, st.st_gid))
        return 0;
    return -EACCES;
}
