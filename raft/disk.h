/* disk.h - the file operations that the log and the hard state stand on, as a table of functions, so
 * that the simulation's disk loses, tears and refuses without a line of test code in the daemon.
 *
 * Process: node.
 * Thread:  any thread may call; one file by one thread at a time.
 * Errors:  negative errno. A short read is a result; a short write never is (retried or an error).
 * Memory:  a struct disk_file is freed by close.
 * Units:   bytes.
 *
 * What may be lost until fdatasync (content, length) and sync_dir (names) follows POSIX: nothing else
 * is durable, and after a failed sync nothing that was not yet synced may be assumed to be. */
#ifndef RAFT_DISK_H
#define RAFT_DISK_H

#include <stddef.h>
#include <stdint.h>

struct disk_file;

enum disk_open_flags { DISK_CREATE = 1, DISK_EXCLUSIVE = 2, DISK_READ_ONLY = 4 };

struct disk {
    void *ctx;
    /* Paths are relative to the data directory, '/'-separated. */
    int (*open)(void *ctx, const char *path, unsigned flags, struct disk_file **ret_file);
    void (*close)(void *ctx, struct disk_file *f);
    int (*size)(void *ctx, struct disk_file *f, uint64_t *ret_bytes);
    int (*read)(void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len);
    int (*write)(void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len);
    /* Allocates and writes zeros, so that later writes change no metadata. */
    int (*zero)(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len);
    int (*truncate)(void *ctx, struct disk_file *f, uint64_t len);
    int (*sync)(void *ctx, struct disk_file *f); /* fdatasync */
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*remove)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path); /* -EEXIST is an error like any other */
    int (*sync_dir)(void *ctx, const char *path);
    /* Calls fn for each name in the directory, in no order; fn returns non-zero to stop. */
    int (*list)(void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg);
};

/* The real one, on the directory dir (kept open). */
int disk_posix_open(const char *dir, struct disk *ret_disk);
void disk_posix_close(struct disk *d);

#endif
