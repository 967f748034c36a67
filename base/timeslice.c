#include "base/timeslice.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr, version 0; the C library has none yet. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

int timeslice_set(uint64_t slice_us)
{
    struct attributes a;

    if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0)
        return -errno;
    if (a.policy != SCHED_OTHER && a.policy != SCHED_BATCH)
        return -EINVAL;
    a.size = sizeof(a);
    a.runtime_ns = slice_us * 1000;
    return syscall(SYS_sched_setattr, 0, &a, 0) < 0 ? -errno : 0;
}
