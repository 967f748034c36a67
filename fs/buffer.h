/* buffer.h - what was written to a file through this mount and is not committed yet: one for each inode.
 *
 * Process: the mount's front end.
 * Thread:  its loop.
 * Errors:  -EFBIG past the file size limit, -ENOSPC past the mount's limit for all buffers, -ENOMEM.
 * Memory:  owns its bytes; a budget shared by all buffers of a mount counts them.
 * Units:   bytes; nanoseconds since 1970, milliseconds of CLOCK_MONOTONIC.
 *
 * There is a buffer while there is something to commit. It starts as a copy of the committed content (or empty, after
 * O_TRUNC) and is what all local handles read and stat meanwhile. */
#ifndef FS_BUFFER_H
#define FS_BUFFER_H

#include "store/command.h"

#define BUFFERS_MAX_BYTES (256u * 1024 * 1024) /* of all write buffers of one mount */

struct buffer_budget {
    size_t used_bytes, max_bytes;
};

struct buffer {
    struct buffer_budget *budget;
    uint8_t *data;
    size_t size, cap;
    bool dirty;
    bool written;      /* changed by more than O_TRUNC: FLUSH commits */
    bool untouched;    /* of a new file that was opened without O_TRUNC: were somebody else's there, it would be that one */
    bool append_only;  /* all changes since the base were appended: committed as an append */
    size_t base_bytes; /* of the committed content that it started with */
    uint64_t changes;  /* counts up, so that a commit knows whether more was written meanwhile */
    int64_t mtime_ns;  /* shown before the commit */
    struct attrs attrs; /* set meanwhile, to be committed with the content; ATTR_MTIME: an explicit one */
    uint64_t dirty_since_ms;
};

/* Starts with a copy of the base. */
int buffer_new(struct buffer_budget *budget, struct slice base, struct buffer **ret_buffer);
void buffer_free(struct buffer *b); /* NULL is fine */

/* The write at offset; a hole before it is zeros. */
int buffer_write(struct buffer *b, uint64_t offset, struct slice data, size_t max_bytes);
/* The write of an O_APPEND handle: at the end, wherever the kernel thought that was. */
int buffer_append(struct buffer *b, struct slice data, size_t max_bytes);
int buffer_truncate(struct buffer *b, uint64_t size, size_t max_bytes);
/* Zeros from start up to end, as far as there is content. */
void buffer_zero(struct buffer *b, uint64_t start, uint64_t end);
/* O_TRUNC at open: a change that FLUSH does not commit. */
void buffer_clear(struct buffer *b);
/* Marks a change of content at a time; an mtime given before it no longer holds. */
void buffer_touch(struct buffer *b, int64_t now_ns, uint64_t now_ms);
struct slice buffer_content(const struct buffer *b);
/* What a commit appends, if append_only. */
struct slice buffer_tail(const struct buffer *b);

#endif
