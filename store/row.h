/* row.h - the bytes of table rows (docs/disk.md has every one of them).
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  -EUCLEAN for bytes that lie, -EPROTONOSUPPORT for a row of a later format; encoders leave -ENOMEM
 *          in the buffer.
 * Memory:  decoding borrows.
 * Units:   bytes, revisions.
 *
 * Every row starts with four bytes for its CRC, which the table code fills in and checks. */
#ifndef STORE_ROW_H
#define STORE_ROW_H

#include "base/bytes.h"
#include "store/store.h"

#define ROW_FORMAT 1
#define ROW_CRC_BYTES 4

/* A row of the log whose depth in its key's history is divisible by 64, 4096, ... names the one before it. */
#define SKIP_LEVELS 4
#define SKIP_STEP 64

#define INLINE_VALUE_MAX_BYTES 512 /* a longer value stands in the log alone */
#define SHARED_VALUE_MIN_BYTES 65  /* a shorter one is written again rather than referred to */
#define LOG_PIECE_BYTES 1328       /* three pieces fill a page of LMDB */

/* Inside only, beside enum event_flags: the key's value before this row moved on to another key. */
#define EVENT_VALUE_MOVED 0x10000u

/* Where a key's history stands: enough to write its next row. */
struct chain {
    struct rev last;   /* the newest row; main 0: no history */
    uint64_t depth;    /* of that row, from 1 */
    unsigned n_skip;
    struct rev skip[SKIP_LEVELS]; /* [i]: the newest row with a depth divisible by 64^(i+1) */
};

/* A live key, or a directory. */
struct node {
    struct rev create;
    struct chain chain; /* chain.last is the mod revision */
    int64_t version, lease, time_ns;
    struct attrs attrs;
    uint64_t value_len;
    struct rev value_rev; /* the log row that holds the value; chain.last or an older one */
    bool is_inline;
    struct slice value; /* if inline */
};

void node_row_encode(const struct node *n, struct bytes *out);
int node_row_decode(struct slice row, struct node *ret_node);

void gone_row_encode(const struct chain *c, struct bytes *out);
int gone_row_decode(struct slice row, struct chain *ret_chain);

/* A row of the log. What follows its head is the key and, unless it refers to another row's, the value; all of
 * it is one stream of bytes cut into pieces of LOG_PIECE_BYTES. */
struct log_row {
    struct event event;   /* event.key may be incomplete after log_row_decode, see key_offset */
    struct rev value_rev; /* event.rev, or the row that holds the value */
    unsigned n_skip;
    struct rev skip[SKIP_LEVELS];
    size_t key_len, key_offset; /* in the stream */
    size_t value_offset;        /* in the stream, if the value is this row's own */
};

/* The head and the key, without room for a CRC. */
void log_row_encode(const struct log_row *row, struct bytes *out);
/* piece: the first piece of the stream, without its CRC; rev: from the LMDB key. */
int log_row_decode(struct slice piece, struct rev rev, struct log_row *ret_row);

#define LOG_KEY_BYTES 14
void log_key_encode(uint8_t *out, struct rev rev, uint16_t piece);
int log_key_decode(struct slice key, struct rev *ret_rev, uint16_t *ret_piece);

static inline int rev_cmp(struct rev a, struct rev b)
{
    if (a.main != b.main)
        return a.main < b.main ? -1 : 1;
    return (a.sub > b.sub) - (a.sub < b.sub);
}

#endif
