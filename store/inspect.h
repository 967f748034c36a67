/* inspect.h - looking into a store from outside: statistics of its tables, rows as they stand, and whether everything fits.
 *
 * Process: any; also on a checkpoint file (store_open_image()).
 * Thread:  that of the store_read.
 * Errors:  negative errno; what does not fit is told to a function, and goes on.
 * Memory:  slices live until emit returns.
 * Units:   bytes, revisions. */
#ifndef STORE_INSPECT_H
#define STORE_INSPECT_H

#include "store/store.h"

struct store_table {
    const char *name;
    uint64_t rows, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages;
    uint64_t page_bytes;
};
typedef int (*store_table_fn)(void *ctx, const struct store_table *table); /* 1 stops */
int store_tables(struct store_read *r, store_table_fn emit, void *ctx);

enum store_rows { STORE_ROWS_KEYS, STORE_ROWS_DIRS, STORE_ROWS_GONE };

struct store_row {
    struct slice key;
    struct rev mod, create; /* of gone: mod is the tombstone's */
    int64_t version, lease, time_ns;
    uint64_t depth, value_len;
    bool is_inline;
    struct rev value_rev; /* the row of the log that holds the value */
    struct attrs attrs;
};
typedef int (*store_row_fn)(void *ctx, const struct store_row *row); /* 1 stops */
int store_each_row(struct store_read *r, enum store_rows rows, store_row_fn emit, void *ctx);

/* Whether the environment that dir names may be believed while no node runs: see the mark RUN in docs/disk.md. */
int store_is_trusted(const char *dir, bool *ret_trusted);

struct store_check {
    uint64_t keys, gone, dirs, log_rows, log_pieces, chain_rows, links, values, layered_keys, layer_rows, lease_keys;
    uint64_t problems;
};
/* One that is found: where, and what is wrong. */
typedef void (*store_problem_fn)(void *ctx, const char *text);
/* Walks everything: sums of each row, each key's whole history along its chain with its links, values where they are
 * referred to, keys in layers, keys of leases; and what each table says of the others. Long, of one snapshot. */
int store_check(struct store_read *r, store_problem_fn tell, void *ctx, struct store_check *ret_sums);

#endif
