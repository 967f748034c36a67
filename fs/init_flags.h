/* init_flags.h - what the mount asks the kernel for that libfuse before 3.17 cannot ask.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  negative errno.
 * Memory:  none.
 * Units:   none.
 *
 * The kernel and the file system agree on what they can in the first message, INIT. libfuse 3.14 passes the flags that it knows.
 * Shared mappings of files that are read past the page cache (Linux 6.6) is none of them, and without it a program that maps a
 * file to read it gets ENODEV. So the reply is looked at on its way, and the flag set when the kernel has offered it. */
#ifndef FS_INIT_FLAGS_H
#define FS_INIT_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct init_flags {
    uint64_t unique; /* of INIT; 0: not seen, or answered */
    bool may_map;    /* the kernel offers it */
};

/* After fuse_session_mount(). The session's userdata is a struct mount. */
int init_flags_watch(struct fuse_session *session);
/* One message of the kernel, and one to it, which is changed in place. Nothing is expected of their length. */
void init_flags_request(struct init_flags *f, const void *message, size_t len);
void init_flags_reply(struct init_flags *f, const void *header, size_t header_len, void *body, size_t body_len);

#endif
