/* mount_options.h - the command line of a mount. docs/man/quorumfs.1 has the list.
 *
 * Process: quorumfs.
 * Thread:  main, before anything else.
 * Errors:  -EINVAL with a text that says what is wrong; -ENOMEM.
 * Memory:  strings are copies of the options' own.
 * Units:   milliseconds, bytes. */
#ifndef FS_MOUNT_OPTIONS_H
#define FS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/logger.h"

struct mount_options {
    char *mountpoint; /* absolute */
    char *node;       /* the node's socket */
    char *source;     /* as mount(8) gave it, and as the list of mounts shows it; NULL: it was not that way */
    char *prefix;
    uint64_t timeout_ms;
    bool allow_other, local_reads, stale_without_quorum, read_only;
    uid_t uid; /* of keys that have no owner of their own */
    gid_t gid;
    mode_t umask;
    size_t max_file_bytes;
    int64_t lock_ttl_s; /* how long locks outlive a mount that is not heard of */
    bool no_exec, no_atime;
    bool background;  /* mount(8) waits for us to return: when the mount can be used */
    enum log_level log_level;
    bool show_help, show_version;
};

int mount_options_parse(struct mount_options *o, int argc, char **argv, char *ret_error, size_t error_bytes);
void mount_options_fini(struct mount_options *o);
extern const char mount_options_help[];

#endif
