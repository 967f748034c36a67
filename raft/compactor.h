/* compactor.h - when to compact, and up to where: etcd's auto-compaction, without I/O.
 *
 * Process: node.
 * Thread:  the loop's.
 * Errors:  -EINVAL, -ENOMEM.
 * Memory:  periodic: a revision for each tenth of the interval that is kept.
 * Units:   milliseconds.
 *
 * periodic: keeps what is younger than the retention. Every member notes the revision ten times an interval (the
 *   retention, at most an hour); the leader compacts once an interval, to what was noted a retention ago, or a tenth
 *   of an interval before.
 * revision: keeps so many revisions; looked at every five minutes. */
#ifndef RAFT_COMPACTOR_H
#define RAFT_COMPACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPACTOR_REVISION_INTERVAL_MS ((uint64_t)5 * 60 * 1000)
#define COMPACTOR_PERIOD_MAX_MS ((uint64_t)10 * 365 * 24 * 3600 * 1000)

enum compactor_mode { COMPACTOR_OFF, COMPACTOR_PERIODIC, COMPACTOR_REVISION };

struct compactor_options {
    enum compactor_mode mode;
    uint64_t period_ms;   /* PERIODIC */
    int64_t keep_revisions; /* REVISION */
};

/* The values of --auto-compaction-mode and --auto-compaction-retention. Hours, or a duration as Go writes it ("1h30m",
 * "90s"); or a number of revisions. 0: off. -EINVAL with a text. */
int compactor_parse(const char *mode, const char *retention, struct compactor_options *ret_options, const char **ret_why);

struct compactor {
    struct compactor_options options;
    uint64_t next_ms; /* nothing to do before; UINT64_MAX: never */
    uint64_t retry_ms, wait_ms, last_ms;
    int64_t last_revision;
    int64_t *noted; /* ring */
    size_t cap, front, count;
};

int compactor_init(struct compactor *c, const struct compactor_options *options, uint64_t now_ms, int64_t revision);
void compactor_fini(struct compactor *c);
/* To be called from next_ms on, also on followers. True: propose a compaction to that revision, which counts as done. */
bool compactor_tick(struct compactor *c, uint64_t now_ms, int64_t revision, bool is_leader, int64_t *ret_revision);

#endif
