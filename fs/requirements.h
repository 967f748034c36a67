/* requirements.h - what a mount needs of the machine, and a clear text where it is not there.
 *
 * Process: quorumfs, before it mounts.
 * Thread:  main.
 * Errors:  -ENOTSUP with a text; -EINVAL where a release cannot be read.
 * Memory:  none.
 * Units:   none. */
#ifndef FS_REQUIREMENTS_H
#define FS_REQUIREMENTS_H

#include <stddef.h>

/* The oldest that the tests run on: Debian 12's. How the kernel looks names up again for O_EXCL, which the echo of remote
 * changes relies on, was not tried on older ones. */
#define KERNEL_LEAST_MAJOR 6
#define KERNEL_LEAST_MINOR 1
#define LIBFUSE_LEAST 314 /* major * 100 + minor; what this is compiled for, and the library of the same name may be older */

int requirements_check_kernel(const char *release, char *ret_text, size_t text_bytes);
int requirements_check_libfuse(int version, char *ret_text, size_t text_bytes);
/* Both, of this machine, and /dev/fuse. */
int requirements_check(char *ret_text, size_t text_bytes);

#endif
