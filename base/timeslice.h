/* timeslice.h - how soon a thread that wakes gets a processor that others are using.
 *
 * Process: any.
 * Thread:  the calling one; those that it starts later inherit it, as what it executes does.
 * Errors:  negative errno; nothing has changed then, and nothing depends on it.
 * Memory:  none.
 * Units:   microseconds.
 *
 * Linux shares the processors among equals by turns of some milliseconds, looked at by the timer's tick. A thread that does a
 * little and then waits, as a server's do between a request and the disk, would wait for such a turn at each
 * step. From Linux 6.12 on a thread may ask for shorter turns: it gets no more of the processors, but when it wakes it need
 * not wait for the end of a longer one (sched(7), sched_attr::sched_runtime). Before 6.12 the kernel ignores it. */
#ifndef BASE_TIMESLICE_H
#define BASE_TIMESLICE_H

#include <stdint.h>

/* -EINVAL: the thread is scheduled by another policy than the usual one, which is left as it is. */
int timeslice_set(uint64_t slice_us);

#endif
