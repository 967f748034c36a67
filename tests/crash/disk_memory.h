/* disk_memory.h - a disk (raft/disk.h) in memory that knows what a power cut could leave: for tests.
 *
 * Process: tests.
 * Thread:  one.
 * Errors:  negative errno, real or injected.
 * Memory:  disk_memory_free() frees all; close every file before.
 * Units:   bytes; a sector is 512 of them.
 *
 * What it models. Writes go to a page cache; each sector keeps every version since the last sync of its file, and
 * after a power cut holds any one of them or the durable one. So do the file's lengths. Names change in a list of
 * operations; a power cut keeps any subset of those since the last sync_dir, in order. A failed sync makes
 * the cached pages clean without their being durable, as Linux does: only what is written again can become so. */
#ifndef TESTS_DISK_MEMORY_H
#define TESTS_DISK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/disk.h"

enum disk_memory_cut { CUT_NOTHING_PENDING, CUT_ALL_PENDING, CUT_RANDOM, CUT_MOST, CUT_FEW };

struct disk_memory;

struct disk_memory_faults {
    uint64_t fail_at;      /* the number of the call that fails (see calls); 0: none */
    int fail_with;         /* the negative errno */
    bool fail_ever_after;
    bool lying_sync;       /* sync and sync_dir claim success and do nothing: the mutants */
    bool lying_sync_dir;
    uint64_t full_bytes;   /* writes past this sum of lengths are -ENOSPC; 0: no limit */
};

struct disk_memory *disk_memory_new(void);
void disk_memory_free(struct disk_memory *m);
struct disk *disk_memory_disk(struct disk_memory *m);
struct disk_memory_faults *disk_memory_faults(struct disk_memory *m);
uint64_t disk_memory_calls(const struct disk_memory *m); /* that change something or read */
/* Called after every call that changes anything (also one that failed half-way). */
void disk_memory_watch(struct disk_memory *m, void (*fn)(void *arg), void *arg);

/* What one power cut now could leave. random: a generator's state. */
struct disk_memory *disk_memory_cut(const struct disk_memory *m, enum disk_memory_cut how, uint64_t *random);
uint64_t disk_memory_hash(const struct disk_memory *m); /* of what can be read now */
uint64_t disk_memory_next_random(uint64_t *random);

/* Direct access to one file's content, for damage: NULL if there is none. */
uint8_t *disk_memory_content(struct disk_memory *m, const char *path, size_t *ret_len);
void disk_memory_put(struct disk_memory *m, const char *path, const void *data, size_t len);
void disk_memory_drop(struct disk_memory *m, const char *path);

#endif
