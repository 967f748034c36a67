#include "fs/init_flags.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/mount.h"

#define MAY_MAP (1u << 4) /* FUSE_DIRECT_IO_ALLOW_MMAP, which is 1 << 36: older headers have no name for it */

void init_flags_request(struct init_flags *f, const void *message, size_t len)
{
    struct fuse_in_header header;
    struct fuse_init_in init;

    if (len < sizeof(header) + sizeof(init))
        return;
    memcpy(&header, message, sizeof(header));
    if (header.opcode != FUSE_INIT)
        return;
    memcpy(&init, (const char *)message + sizeof(header), sizeof(init));
    f->unique = header.unique;
    f->may_map = (init.flags & FUSE_INIT_EXT) != 0 && (init.flags2 & MAY_MAP) != 0;
}

void init_flags_reply(struct init_flags *f, const void *header, size_t header_len, void *body, size_t body_len)
{
    struct fuse_out_header head;
    struct fuse_init_out init;

    if (f->unique == 0 || header_len != sizeof(head))
        return;
    memcpy(&head, header, sizeof(head));
    if (head.unique != f->unique)
        return;
    f->unique = 0;
    if (!f->may_map || head.error != 0 || body_len != sizeof(init))
        return;
    memcpy(&init, body, sizeof(init));
    init.flags |= FUSE_INIT_EXT;
    init.flags2 |= MAY_MAP;
    memcpy(body, &init, sizeof(init));
}

static ssize_t receive(int fd, void *buf, size_t len, void *userdata)
{
    struct mount *m = userdata;
    ssize_t n = read(fd, buf, len);

    if (n > 0 && !m->init_answered)
        init_flags_request(&m->init, buf, (size_t)n);
    return n;
}

static ssize_t reply(int fd, struct iovec *iov, int count, void *userdata)
{
    struct mount *m = userdata;

    if (m->init.unique != 0 && count == 2) {
        init_flags_reply(&m->init, iov[0].iov_base, iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
        m->init_answered = m->init.unique == 0;
    }
    return writev(fd, iov, count);
}

int init_flags_watch(struct fuse_session *session)
{
    const struct fuse_custom_io io = {.writev = reply, .read = receive};

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
