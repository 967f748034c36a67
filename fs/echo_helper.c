/* The helper process: reads a command, makes the system calls, answers. It is told names and nothing else, and takes no
 * decision: the front end, which answers these calls, has already taken it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bytes.h"
#include "fs/echo.h"

#define NODE_HANDLE 0x81     /* the kernel's type of a handle of FUSE: node id and generation */
#define NODE_GENERATION 1    /* of all nodes: their ids are never used again */
#define PATH_PART_BYTES 4000 /* of a path that one system call can take */

struct helper {
    int fd;
    const char *mountpoint;
    uint32_t device;
    bool no_handles; /* the kernel does not let us */
};

struct text { /* a name as system calls want it */
    char bytes[256];
};

static int text_of(struct slice s, struct text *t)
{
    if (s.len == 0 || s.len >= sizeof(t->bytes) || memchr(s.data, 0, s.len) != NULL || memchr(s.data, '/', s.len) != NULL)
        return -EINVAL;
    memcpy(t->bytes, s.data, s.len);
    t->bytes[s.len] = 0;
    return 0;
}

/* The root of the mount, and of nothing else: after an unmount the directory below it has the same path. */
static int open_root(const struct helper *h)
{
    struct statx sx;
    int fd = open(h->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &sx) < 0 ||
        makedev(sx.stx_dev_major, sx.stx_dev_minor) != h->device) {
        close(fd);
        return -ENODEV;
    }
    return fd;
}

/* By the id that the kernel knows it by. Which mount is meant is said by the working directory: a descriptor would have to be
 * more than O_PATH for that, and then opening it would be an event. */
static int open_node(struct helper *h, int root, uint64_t id)
{
    union {
        struct file_handle head;
        uint8_t bytes[sizeof(struct file_handle) + 12];
    } handle = {.head = {.handle_bytes = 12, .handle_type = NODE_HANDLE}};
    const uint32_t words[3] = {(uint32_t)(id >> 32), (uint32_t)id, NODE_GENERATION};
    int fd = -1;

    if (id == 0 || h->no_handles)
        return -1;
    memcpy(handle.bytes + sizeof(struct file_handle), words, sizeof(words));
    if (fchdir(root) == 0) {
        fd = open_by_handle_at(AT_FDCWD, &handle.head, O_PATH | O_DIRECTORY | O_CLOEXEC);
        h->no_handles = fd < 0 && errno != ESTALE;
    }
    if (chdir("/") < 0)
        abort(); /* it would keep the mount busy */
    return fd;
}

/* O_PATH raises no event of its own. A path longer than a system call takes is walked in parts. */
static int open_dir(struct helper *h, uint64_t id, struct slice path)
{
    int fd = open_root(h), node = fd >= 0 && path.len != 0 ? open_node(h, fd, id) : -1;

    if (node >= 0) {
        close(fd);
        return node;
    }
    while (fd >= 0 && path.len != 0) {
        char part[PATH_PART_BYTES + 1];
        size_t len = path.len;
        int next;

        if (len > PATH_PART_BYTES)
            for (len = PATH_PART_BYTES; len != 0 && path.data[len] != '/';)
                len--;
        if (len == 0 || memchr(path.data, 0, len) != NULL) {
            close(fd);
            return -EINVAL;
        }
        memcpy(part, path.data, len);
        part[len] = 0;
        next = openat(fd, part, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (next < 0)
            next = -errno;
        close(fd);
        fd = next;
        if (len < path.len)
            len++;
        path = slice_make(path.data + len, path.len - len);
    }
    return fd;
}

/* What changes content: one byte over what is there, whatever it is, since the front end takes it as written already, and the
 * file is open in a way that leaves nothing of it in the page cache. For a file that is empty that would be one byte too much. */
static int touch_content(int fd, uint64_t size)
{
    if (size != 0)
        return pwrite(fd, "", 1, 0) != 1 ? -errno : 0;
    return ftruncate(fd, 0) < 0 ? -errno : 0;
}

static int do_create(int dir, const char *name, const struct echo_command *c)
{
    int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, c->mode & 07777);
    int rc = 0;

    if (fd < 0)
        return -errno;
    if (c->size != 0)
        rc = touch_content(fd, c->size);
    close(fd);
    return rc;
}

static int do_modify(int dir, const char *name, const struct echo_command *c)
{
    int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc;

    if (fd < 0)
        return -errno;
    rc = touch_content(fd, c->size);
    close(fd);
    return rc;
}

/* The look at the source first brings a directory that users have met at its new place back to the old one: inside
 * renameat2 the kernel could not move it and would say ESTALE. */
static int do_rename(struct helper *h, int dir, const char *name, const struct echo_command *c)
{
    int dir2 = open_dir(h, c->dir2_id, c->dir2), rc;
    struct text name2;
    struct stat st;

    if (dir2 < 0)
        return dir2;
    rc = text_of(c->name2, &name2);
    if (rc == 0 && S_ISDIR(c->mode) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        rc = -errno;
    if (rc == 0 && renameat2(dir, name, dir2, name2.bytes, c->flags) < 0)
        rc = -errno;
    close(dir2);
    return rc;
}

static int act(struct helper *h, const struct echo_command *c)
{
    struct text name;
    int dir, rc = text_of(c->name, &name);

    if (rc < 0)
        return rc;
    dir = open_dir(h, c->dir_id, c->dir);
    if (dir < 0)
        return dir;
    switch (c->verb) {
    case ECHO_CREATE:
        rc = do_create(dir, name.bytes, c);
        break;
    case ECHO_MODIFY:
        rc = do_modify(dir, name.bytes, c);
        break;
    case ECHO_MKDIR:
        rc = mkdirat(dir, name.bytes, c->mode & 07777) < 0 ? -errno : 0;
        break;
    case ECHO_SYMLINK: /* where it points to is not asked for again */
        rc = symlinkat("-", dir, name.bytes) < 0 ? -errno : 0;
        break;
    case ECHO_MKNOD:
        rc = mknodat(dir, name.bytes, c->mode, 0) < 0 ? -errno : 0;
        break;
    case ECHO_UNLINK:
        rc = unlinkat(dir, name.bytes, 0) < 0 ? -errno : 0;
        break;
    case ECHO_RMDIR:
        rc = unlinkat(dir, name.bytes, AT_REMOVEDIR) < 0 ? -errno : 0;
        break;
    case ECHO_RENAME:
        rc = do_rename(h, dir, name.bytes, c);
        break;
    case ECHO_CHMOD:
        /* chmod would follow a link. Both times together are an attribute, the mtime alone a change of content. */
        if (S_ISLNK(c->mode))
            rc = utimensat(dir, name.bytes, NULL, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
        else
            rc = fchmodat(dir, name.bytes, c->mode & 07777, 0) < 0 ? -errno : 0;
        break;
    default:
        rc = -EINVAL;
    }
    close(dir);
    return rc;
}

/* 1: answered; 0: the front end is gone or wants no more. */
static int serve_one(struct helper *h, uint8_t *packet)
{
    struct pollfd p = {h->fd, POLLIN, 0};
    ssize_t n = recv(h->fd, packet, ECHO_PACKET_MAX_BYTES, 0);
    uint8_t answer[12];
    struct echo_command c;
    struct reader r;
    uint64_t number;
    int rc;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        poll(&p, 1, -1); /* until a command comes or the front end ends */
        return 1;
    }
    if (n <= 0)
        return 0;
    r = reader_make(slice_make(packet, (size_t)n));
    number = reader_u64(&r);
    c.verb = reader_u32(&r);
    c.flags = reader_u32(&r);
    c.mode = reader_u32(&r);
    h->device = reader_u32(&r);
    c.size = reader_u64(&r);
    c.dir_id = reader_u64(&r);
    c.dir2_id = reader_u64(&r);
    c.dir = reader_u32_slice(&r);
    c.name = reader_u32_slice(&r);
    c.dir2 = reader_u32_slice(&r);
    c.name2 = reader_u32_slice(&r);
    rc = reader_status(&r) < 0 ? -EINVAL : act(h, &c);
    put_le64(answer, number);
    put_le32(answer + 8, (uint32_t)-rc);
    return send(h->fd, answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer);
}

int echo_helper_main(int argc, char **argv)
{
    const struct rlimit no_limit = {RLIM_INFINITY, RLIM_INFINITY};
    struct helper h = {.fd = -1};
    uint8_t *packet;

    if (argc != 4)
        return 2;
    h.fd = atoi(argv[2]);
    h.mountpoint = argv[3];
    fcntl(h.fd, F_SETFD, FD_CLOEXEC);
    umask(0);
    signal(SIGTERM, SIG_IGN); /* the front end says when to stop */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_NAME, "quorumfs-echo");
    setrlimit(RLIMIT_FSIZE, &no_limit); /* best effort: a limit would break ftruncate */
    if (chdir("/") < 0)
        return 1;
    packet = malloc(ECHO_PACKET_MAX_BYTES);
    if (packet == NULL)
        return 1;
    while (serve_one(&h, packet))
        ;
    free(packet);
    return 0;
}
