/* eventlog.h - inside store/: rows of the table "log", and a key's history along them.
 *
 * Process: any.  Thread: that of the snapshot.
 * Errors:  negative errno; -ENOENT: no such row; -EUCLEAN: damaged rows.
 * Memory:  slices point into the map (not while writing: then into arena) or into arena.
 * Units:   revisions. */
#ifndef STORE_EVENTLOG_H
#define STORE_EVENTLOG_H

#include "store/env.h"
#include "store/row.h"

/* Writes row (event.key and all) and, if value_rev is its own revision, the value. Revisions must ascend. */
int eventlog_append(struct snap *p, const struct log_row *row, struct slice value, struct bytes *scratch);

/* The row at rev. Without arena (NULL) a key longer than the first piece stays incomplete. */
int eventlog_get(struct snap *p, struct rev rev, struct arena *arena, struct log_row *ret_row);
/* The content that a row has or refers to. */
int eventlog_value(struct snap *p, const struct log_row *row, struct arena *arena, struct slice *ret_value);
/* The value in the row at value_rev, of which the caller knows the length. */
int eventlog_value_at(struct snap *p, struct rev value_rev, uint64_t len, struct arena *arena,
                      struct slice *ret_value);
/* Removes a row and its pieces; fine if it is not there. */
int eventlog_delete(struct snap *p, struct rev rev);

/* Decodes the row that the log's cursor stands on, given what it returned. */
int eventlog_row_at_cursor(struct snap *p, const MDB_val *key, const MDB_val *val, struct arena *arena,
                           struct log_row *ret_row);

/* The newest row of a history at or before main revision `want`, along the links, which are followed only
 * down to the first row at or before it: so from want = compacted on never onto a removed one.
 * 1 and the row; 0 if there is none (or it was a removed one). */
int eventlog_find(struct snap *p, const struct chain *chain, int64_t want, struct arena *arena,
                  struct log_row *ret_row);

/* Where the history of a key ends, a deleted one's too. -ENOENT. */
int eventlog_key_chain(struct snap *p, struct slice key, struct chain *ret_chain);

/* The live node that a put row describes. */
void eventlog_node(const struct log_row *row, struct node *ret_node);

#endif
