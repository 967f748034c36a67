/* shim.c - a disk that is slow or fails, and clocks that jump, for one process: preloaded into it by tests/e2e/faults.
 *
 * QUORUMFS_SHIM names a file of four little-endian 64-bit numbers, which the test writes while the process runs:
 *   milliseconds that each fdatasync takes longer; not 0: each fdatasync fails with EIO;
 *   nanoseconds by which the wall clock is off; nanoseconds by which the monotonic clock is ahead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int64_t sync_ms, sync_fails, wall_ns, ahead_ns;
};

static struct control none;
static struct control *control = &none;
static int (*real_fdatasync)(int fd);
static int (*real_timerfd_settime)(int fd, int flags, const struct itimerspec *value, struct itimerspec *old);
static int (*real_clock_gettime)(clockid_t id, struct timespec *ts);

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("QUORUMFS_SHIM");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd >= 0 ? mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (p != MAP_FAILED)
        control = p;
    if (fd >= 0)
        close(fd);
}

static void add(struct timespec *ts, int64_t ns)
{
    int64_t all = ts->tv_nsec + ns % 1000000000;

    ts->tv_sec += ns / 1000000000;
    if (all < 0) {
        all += 1000000000;
        ts->tv_sec--;
    } else if (all >= 1000000000) {
        all -= 1000000000;
        ts->tv_sec++;
    }
    ts->tv_nsec = all;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc;

    if (real_clock_gettime == NULL)
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    rc = real_clock_gettime(id, ts);
    if (rc == 0 && id == CLOCK_REALTIME)
        add(ts, control->wall_ns);
    else if (rc == 0 && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_BOOTTIME))
        add(ts, control->ahead_ns);
    return rc;
}

/* A moment that was reckoned by the clock above; the kernel has another. */
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    struct itimerspec real = *value;

    if (real_timerfd_settime == NULL)
        real_timerfd_settime = dlsym(RTLD_NEXT, "timerfd_settime");
    if ((flags & TFD_TIMER_ABSTIME) != 0 && (real.it_value.tv_sec | real.it_value.tv_nsec) != 0) {
        add(&real.it_value, -control->ahead_ns);
        if (real.it_value.tv_sec < 0 || (real.it_value.tv_sec | real.it_value.tv_nsec) == 0)
            real.it_value = (struct timespec){0, 1};
    }
    return real_timerfd_settime(fd, flags, &real, old);
}

int fdatasync(int fd)
{
    struct timespec slow = {control->sync_ms / 1000, control->sync_ms % 1000 * 1000000};

    if (control->sync_fails != 0) {
        errno = EIO;
        return -1;
    }
    while (slow.tv_sec + slow.tv_nsec != 0 && nanosleep(&slow, &slow) < 0)
        ;
    return real_fdatasync(fd);
}
