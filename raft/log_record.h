/* log_record.h - the bytes of the log's files: segment head, records, marks, hard-state slots. Bytes in, values out,
 * no I/O. docs/disk-log.md fixes every byte; tests/unit/test_log_record.c holds golden bytes.
 *
 * Process: node.
 * Thread:  pure functions.
 * Errors:  -EBADMSG for bytes that are not what they should be, -EPROTONOSUPPORT for a newer format.
 * Memory:  none.
 * Units:   bytes; integers are little-endian. */
#ifndef RAFT_LOG_RECORD_H
#define RAFT_LOG_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define LOG_FORMAT 1
#define LOG_SECTOR_BYTES 512     /* a flush begins on such a boundary and shares no sector with another */
#define LOG_HEAD_BYTES 128       /* of a segment; in every format the first 128 bytes end in their CRC */
#define LOG_HEAD_AREA_BYTES 4096 /* where the first flush begins */
#define LOG_RECORD_BYTES 32      /* head of a record */
#define LOG_MARK_BYTES 48        /* a whole mark record */
#define LOG_HARD_BYTES 64        /* one copy of a hard state */

/* On disk: never renumber. */
enum log_record_kind {
    LOG_RECORD_MARK = 1,     /* first of each flush */
    LOG_RECORD_ENTRY = 2,    /* index, term, entry type and payload */
    LOG_RECORD_TRUNCATE = 3, /* drops index and all behind it; term is that of index - 1 */
    LOG_RECORD_RESET = 4,    /* drops everything; the log goes on behind index, whose term is term */
};

struct log_head {
    uint64_t cluster_id;
    uint64_t sequence;              /* 1, 2, ...: never used twice in one directory */
    uint64_t base_index, base_term; /* the last entry before this segment */
    uint64_t prev_end;              /* where the segment before ends; 0: there was none */
    uint64_t prev_flush;            /* number of the last flush before this segment */
};

struct log_record {
    uint32_t payload_crc, payload_len;
    uint8_t kind, type;
    uint64_t index, term;
};

struct log_mark {
    uint64_t flush;          /* 1, 2, ... through all segments */
    uint32_t bytes;          /* of the flush: this record to the end of its last */
    uint32_t records;        /* behind the mark */
    uint64_t index, term;    /* the last entry when the flush before this one was durable */
};

struct log_hard {
    uint64_t cluster_id, sequence;
    uint64_t term, voted_for;
    uint64_t durable_flush; /* a flush known to be durable when this was written */
};

void log_head_encode(const struct log_head *h, uint8_t *out);
int log_head_decode(const uint8_t *in, struct log_head *ret_head);
/* What the CRC of each record of the segment starts from: another segment's records, left in a recycled file,
 * do not match. */
uint32_t log_head_seed(const struct log_head *h);

size_t log_record_size(uint32_t payload_len); /* with head and padding */
/* Head of a record without its CRC, which depends on the place: log_record_seal() adds it. */
void log_record_encode(const struct log_record *r, uint8_t *out);
void log_record_seal(uint8_t *record, uint32_t seed, uint64_t offset);
/* Checks the head alone: the payload is checked against payload_crc by who has it. */
int log_record_decode(const uint8_t *in, uint32_t seed, uint64_t offset, struct log_record *ret_record);

void log_mark_encode(const struct log_mark *m, uint8_t *out); /* sealed by log_record_seal() */
int log_mark_decode(const uint8_t *in, uint32_t seed, uint64_t offset, struct log_mark *ret_mark);

void log_hard_encode(const struct log_hard *h, uint8_t *out);
int log_hard_decode(const uint8_t *in, struct log_hard *ret_hard);

#endif
