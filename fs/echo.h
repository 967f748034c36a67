/* echo.h - the helper process that repeats what others changed, as system calls on the mount, so that the kernel tells
 * inotify's readers. reconcile.c decides what it is to do and answers the requests that this makes.
 *
 * Process: the front end has a struct echo; the helper runs echo_helper_main().
 * Thread:  the front end's loop; the helper has one thread.
 * Errors:  negative errno.
 * Memory:  nothing is kept of what is sent.
 * Units:   bytes, milliseconds.
 *
 * The helper is a process of its own that never holds a descriptor of /dev/fuse: were it a thread of the front end, killing
 * the front end would leave it waiting in the kernel for an answer that cannot come, and /dev/fuse open with it.
 * It keeps nothing of the mount open between commands, so that umount is not refused for its sake.
 *
 * Both talk over a SOCK_SEQPACKET pair, one command at a time, one packet each way. Command, little-endian: u64 number,
 * u32 verb, u32 flags, u32 mode, u32 device of the mount, u64 size, u64 and u64 node ids of both directories (0: the kernel does
 * not know it), then four strings, each u32 length and bytes: directory (path below the mount point, no slash at its ends), name,
 * second directory, second name. Answer: u64 number, u32 errno.
 *
 * A directory is opened by its node id, as name_to_handle_at(2) would write it, since that asks the front end nothing; by its
 * path where that is not possible: without the privilege, and when the kernel has only the inode, without a name for it. */
#ifndef FS_ECHO_H
#define FS_ECHO_H

#include <sys/types.h>

#include "base/slice.h"

#define ECHO_PACKET_MAX_BYTES (160 * 1024) /* names beyond it are out of reach, and out of a user's */
#define ECHO_HELPER_ARGUMENT "--echo-helper"

enum echo_verb {
    ECHO_CREATE = 1, /* a regular file; size not 0: and MODIFY */
    ECHO_MODIFY,
    ECHO_MKDIR,
    ECHO_SYMLINK,
    ECHO_MKNOD,      /* mode: S_IFIFO or S_IFSOCK */
    ECHO_UNLINK,
    ECHO_RMDIR,
    ECHO_RENAME,     /* flags: RENAME_EXCHANGE or 0; mode: S_IFDIR if one of the two is a directory */
    ECHO_CHMOD,      /* mode: what it is already */
};

struct echo_command {
    enum echo_verb verb;
    uint32_t flags, mode;
    uint64_t size, dir_id, dir2_id;
    struct slice dir, name, dir2, name2;
};

struct dirty;
struct step;

struct echo {
    pid_t pid;       /* 0: none; requests with it are the helper's */
    int fd;          /* -1: none */
    uint32_t device; /* of the mount */
    uint64_t number; /* of the last command */
    bool busy, slow; /* slow: that was logged */
    /* the command under way */
    enum echo_verb verb;
    uint32_t flags;
    struct dirty *from, *to; /* from: RENAME alone */
    struct step *step;       /* NULL: told as one (steps.h) */
    bool content, attributes; /* what it tells, besides */
    mode_t told;              /* what the name was announced as when it was sent */
    uint64_t told_ino;
    uint64_t started_ms, restart_ms;
    unsigned restarts;        /* in a row */
    uint64_t restarted;       /* in all */
};

/* Starts the helper by executing this program again. Called first before /dev/fuse is opened. */
int echo_start(struct echo *e, const char *mountpoint);
/* -EAGAIN: not now; -EMSGSIZE: never. */
int echo_send(struct echo *e, const struct echo_command *c);
/* The answer, as a negative errno or 0. -EAGAIN: none yet; -EPIPE: the helper is gone. */
int echo_receive(struct echo *e, int *ret_error);
/* No more commands: the helper ends after the one it is at. The loop goes on serving it meanwhile. */
void echo_stop(struct echo *e);
/* Forgets a helper that has ended. Its id first: the number may be anybody's once it is reaped. */
void echo_reap(struct echo *e);

/* The helper itself: `quorumfs --echo-helper FD MOUNTPOINT`. Exit status. */
int echo_helper_main(int argc, char **argv);

#endif
