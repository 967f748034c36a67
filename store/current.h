/* current.h - inside store/: the files beside the environments: which one is current, and whether it can be trusted.
 *
 * Process: the writer writes, all read CURRENT.
 * Thread:  any, at open and close.
 * Errors:  negative errno; -EUCLEAN for a file that says something else.
 * Memory:  none.
 * Units:   epochs count from 1. */
#ifndef STORE_CURRENT_H
#define STORE_CURRENT_H

#include <stdbool.h>
#include <stdint.h>

#define CURRENT_PATH_BYTES 4096

int current_env_path(char *out, const char *dir, uint64_t epoch);
int current_read(const char *dir, uint64_t *ret_epoch); /* -ENOENT: there is none yet */
int current_write(const char *dir, uint64_t epoch);
int current_sync_directory(const char *dir);
int current_make_directory(const char *dir); /* durably, in a parent that is there; fine if it is there */
/* Fine if it is not there. */
int current_remove_env(const char *dir, uint64_t epoch);
/* What is left of changes that did not come to their end, or that did: every environment but that of this epoch, and
 * files that were being written. */
int current_remove_others(const char *dir, uint64_t epoch);

/* The mark RUN: whether an environment is written without syncs, in which boot of the machine, and in which file. Pages
 * that were not synced outlive their process, not their machine, nor a sync that failed. */
enum mark {
    MARK_RUNNING, /* trusted in this boot, and this file */
    MARK_SYNCING, /* never: a sync has begun, and if it fails the kernel may drop what it did not write */
    MARK_SYNCED,  /* always */
};
int mark_write(const char *dir, uint64_t epoch, enum mark mark);
/* False: it ran unsynced when the machine went down. */
int mark_is_trusted(const char *dir, uint64_t epoch, bool *ret_trusted);

#endif
