#include "fs/requirements.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

int requirements_check_kernel(const char *release, char *text, size_t n)
{
    unsigned major, minor;

    if (sscanf(release, "%u.%u", &major, &minor) != 2) {
        snprintf(text, n, "the kernel calls itself %s: a release like 6.1 is expected", release);
        return -EINVAL;
    }
    if (major > KERNEL_LEAST_MAJOR || (major == KERNEL_LEAST_MAJOR && minor >= KERNEL_LEAST_MINOR))
        return 0;
    snprintf(text, n, "Linux %d.%d or later is needed, this is %s", KERNEL_LEAST_MAJOR, KERNEL_LEAST_MINOR, release);
    return -ENOTSUP;
}

int requirements_check_libfuse(int version, char *text, size_t n)
{
    if (version >= LIBFUSE_LEAST)
        return 0;
    snprintf(text, n, "libfuse 3.%d or later is needed, this machine's is %d.%d", LIBFUSE_LEAST % 100, version / 100,
             version % 100);
    return -ENOTSUP;
}

int requirements_check(char *text, size_t n)
{
    struct utsname name;
    int rc = uname(&name) < 0 ? -errno : requirements_check_kernel(name.release, text, n);

    if (rc == 0)
        rc = requirements_check_libfuse(fuse_version(), text, n);
    if (rc == 0 && access("/dev/fuse", R_OK | W_OK) < 0) {
        rc = -errno;
        snprintf(text, n, "/dev/fuse: %s%s", strerror(errno),
                 errno == ENOENT ? " (modprobe fuse; a container has to be given the device)"
                                 : errno == EACCES ? " (it is open to everybody on most systems: mode 0666)" : "");
    }
    return rc;
}
