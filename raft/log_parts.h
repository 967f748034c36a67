/* log_parts.h - how the parts of the log fit together; for raft/log*.c and their tests alone.
 *
 * Process: node.
 * Thread:  struct log's fields are grouped by owner: the loop, the log thread, or both under the mutex.
 * Errors:  negative errno.
 * Memory:  struct log owns everything that it points to.
 * Units:   bytes; a stream position counts the bytes of records ever appended by this process.
 *
 * The way of an entry: log_append() writes its record into `waiting` and its payload into a slot. log_flush()
 * takes `waiting`, puts a mark in front, seals each record for its place, writes, syncs, and leaves a `placed`
 * that says where this part of the stream is now. log_flushed() turns slots' stream positions into places. So
 * "is it durable" is asked of the slot itself, and what was truncated meanwhile has no slot to be believed. */
#ifndef RAFT_LOG_PARTS_H
#define RAFT_LOG_PARTS_H

#include <pthread.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "raft/disk.h"
#include "raft/log.h"
#include "raft/log_record.h"

#define LOG_PATH_BYTES 512
#define LOG_STEP_BYTES (2u << 20)         /* zeroed ahead at a time, or a segment if that is smaller */
#define LOG_READ_BYTES (256u << 10)       /* read at a time for old entries */
#define LOG_RECOVER_BYTES (1u << 20)      /* read at a time at start */
#define LOG_KEEP_BYTES (4u << 20)         /* of a flush's buffer for the next */
#define LOG_SPARES_MAX 2                  /* trimmed files kept for reuse; others are removed */
#define LOG_READ_ONLY_FILES_MAX 4         /* open at a time for old entries */
#define LOG_INDEX_MAX (UINT64_MAX / 2)    /* of a segment's or reset's base: so that indexes cannot wrap */
#define LOG_SEGMENTS_MAX (1u << 20)       /* in one directory; more is refused at start */

struct log_slot {
    uint64_t term;
    uint64_t where;     /* offset in the segment, or stream position while segment is 0 */
    uint8_t *payload;   /* NULL: not in memory (or empty) */
    uint32_t segment;   /* low half of the sequence number; 0: not durable yet */
    uint32_t len : 28;
    uint32_t type : 4;
};

struct log_segment {
    uint64_t sequence, base_index, base_term;
    uint32_t seed;
};

struct log_placed {
    uint64_t stream_begin, stream_end;
    uint64_t offset; /* of stream_begin */
    uint32_t segment;
};

struct log_hard_file {
    struct disk_file *file;
    struct log_hard now;
};

struct log_writer {
    struct disk_file *file;
    uint64_t sequence;
    uint32_t seed;
    uint64_t end;                    /* where the next flush goes */
    uint64_t room;                   /* zeroed or recycled up to here */
    uint64_t flush;                  /* number of the last durable flush */
    uint64_t last_index, last_term;  /* the log's end as of that flush */
};

struct log_reader_file {
    uint32_t segment; /* 0: unused */
    uint64_t used;
    struct disk_file *file;
};

struct log {
    struct disk *disk;
    char dir[LOG_PATH_BYTES / 2];
    struct log_options options;
    uint64_t step_bytes;

    /* The loop's. */
    struct log_slot *slots; /* of first_index.. at slots_head */
    size_t slots_head, slots_count, slots_cap;
    uint64_t base_index, base_term;  /* the entry before the first */
    uint64_t durable_index;          /* every slot up to here has a place */
    uint64_t cached_from;            /* no slot below has its payload in memory */
    uint64_t cached_bytes;
    uint64_t stream;                 /* position behind the last record appended */
    struct log_hard_file hard;
    struct log_reader_file readers[LOG_READ_ONLY_FILES_MAX];
    uint64_t readers_clock;
    uint8_t *window;                 /* a piece of a file, for reading old entries in order */
    uint32_t window_segment;
    uint64_t window_offset;
    size_t window_len;

    /* The log thread's. */
    struct log_writer writer;
    struct bytes taken;

    /* Both, under the mutex. */
    pthread_mutex_t mutex;
    int error;                       /* -EIO once a write or sync has failed */
    struct bytes waiting;            /* room for a mark, then records */
    uint64_t waiting_begin;          /* stream position of its first record */
    uint32_t waiting_records;
    uint64_t waiting_last_index, waiting_last_term; /* the log's end behind its last record */
    uint64_t durable_flush;
    struct log_placed *placed;
    size_t placed_count, placed_cap;
    struct log_segment *segments;    /* oldest first, the writer's last */
    size_t segments_count, segments_cap;
    uint64_t *retired;               /* sequence numbers of trimmed segments, to be renamed or removed */
    size_t retired_count, retired_cap;
    uint64_t spares[LOG_SPARES_MAX]; /* numbers of spare-N files */
    size_t spares_count;
};

/* ---- log.c ---- */

/* Adds a slot for an entry behind the last. The slot's payload is a copy. */
int log_slot_push(struct log *l, const struct log_entry *e, uint32_t segment, uint64_t where);
void log_slots_cut(struct log *l, uint64_t index);  /* drops index and all behind it */
void log_slots_clear(struct log *l, uint64_t base_index, uint64_t base_term);
void log_evict(struct log *l);
struct log_slot *log_slot_at(const struct log *l, uint64_t index);
void log_poison(struct log *l);
/* Grows an array by one item when it is full. */
int log_reserve(void **array, size_t *cap, size_t count, size_t item_bytes);
void log_say(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- log_segment.c: files by name, and the writer's end ---- */

void log_path(const struct log *l, const char *prefix, uint64_t number, char *out); /* LOG_PATH_BYTES */
void log_path_name(const struct log *l, const char *name, char *out);
bool log_parse_name(const char *name, const char *prefix, uint64_t *ret_number);
/* Makes the next segment and lets the writer go on in it. -ENOSPC: the writer is as it was. */
int log_segment_roll(struct log *l);
/* Zeroes at least up to `upto`. */
int log_segment_room(struct log *l, uint64_t upto);
/* Gives trimmed files up, oldest first. */
int log_segment_retire(struct log *l);
/* Exactly len bytes of a segment that holds them, by the loop; *ret_data lives to the next call. */
int log_segment_read(struct log *l, uint32_t segment, uint64_t offset, size_t len, const uint8_t **ret_data);
void log_readers_close(struct log *l, uint32_t segment); /* 0: all */

/* ---- log_hard.c ---- */

/* Loads the hard state, or makes the file if is_new. */
int log_hard_load(struct log *l, bool is_new, char *text, size_t text_size);
int log_hard_store(struct log *l, struct log_hard_state hs, uint64_t durable_flush);

/* ---- log_recover.c ---- */

int log_recover(struct log *l, char *text, size_t text_size);

#endif
