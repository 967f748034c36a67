/* apply.h - inside store/: one command while it is executed.
 *
 * Process: the node.
 * Thread:  the batch's.
 * Errors:  negative errno: the machinery failed and the batch is lost. A request's own outcome is a status,
 *          decided before the first row is written: so a refused command leaves no trace.
 * Memory:  results stand in the caller's arena.
 * Units:   revisions. */
#ifndef STORE_APPLY_H
#define STORE_APPLY_H

#include "store/batch.h"
#include "store/eventlog.h"
#include "store/range.h"
#include "store/view.h"

struct apply {
    struct store_batch *b;
    struct snap *snap;
    const struct command *cmd;
    uint64_t index, term; /* of its entry */
    struct arena *arena;
    struct rev next; /* of the row to be written next: one main revision a command */
    bool exchanges;  /* two nodes change places: neither goes when the other takes its name */
};

/* What a write changes; the rest follows from the key's own past. */
struct change {
    enum event_kind kind; /* EVENT_PUT or EVENT_ATTR */
    uint32_t flags;       /* EVENT_OF_RENAME, EVENT_VALUE_MOVED */
    int64_t lease;
    struct attrs attrs;
    struct slice value;   /* new content; or, when value_rev.main != 0, the inline content of that */
    uint64_t value_len;
    struct rev value_rev; /* main != 0: the row that holds the content already */
};

/* Rows of keys. prev: the live node of that key, NULL if there is none. */
int apply_key_put(struct apply *a, struct slice key, const struct node *prev, const struct change *change);
int apply_key_delete(struct apply *a, struct slice key, const struct node *prev, uint32_t flags);
/* Rows of directories. flags: with EVENT_CREATED if there was none of that name, not even an implicit one. */
int apply_dir_put(struct apply *a, struct slice path, const struct node *prev, const struct attrs *attrs,
                  uint32_t flags);
int apply_dir_delete(struct apply *a, struct slice path, const struct node *prev, uint32_t flags);
/* The header row of a rename. */
int apply_rename_header(struct apply *a, struct slice from, struct slice to, uint32_t flags);

/* Stamps and appends any other row: rev and value_rev are set. */
int apply_append(struct apply *a, struct log_row *row, struct slice key, struct slice value);

/* Makes prev's content that of change: by reference, or again if it is short. Short content needs arena. */
int apply_keep_value(struct apply *a, const struct node *prev, struct change *change);

/* Operations; each may write rows. Their checks have been made. */
int apply_put(struct apply *a, const struct op_put *op, struct op_result *ret_result);
int apply_delete(struct apply *a, const struct op_delete *op, struct op_result *ret_result);
uint16_t apply_check_put_shape(const struct op_put *op);
int apply_check_put(struct apply *a, const struct op_put *op, uint16_t *ret_status);

int apply_lease(struct apply *a, struct result *result);
int apply_txn(struct apply *a, const struct txn *txn, struct txn_result *ret_result, uint16_t *ret_status);
int apply_file(struct apply *a, struct result *ret_result);
/* STATUS_OK if path can be made: it is a proper name and its parent is a directory. */
int apply_check_new_path(struct apply *a, struct slice path, uint16_t *ret_status);
/* The attributes of a new node of that type (S_IFREG, ...), which given.mode may name otherwise. */
struct attrs apply_new_attrs(const struct apply *a, const struct attrs *given, uint32_t type);
/* Who is meant by the command's path and ino; STALE, NO_ENTRY. */
int apply_find_node(struct apply *a, struct target *ret_target, bool *ret_as_dir, uint16_t *ret_status);
/* A row for a node of which something changed that stands elsewhere. */
int apply_touch_node(struct apply *a, const struct target *t, bool as_dir, struct result *result);
/* After something went from path through a mount: its parent stays, if it was there only because of that. */
int apply_keep_parent(struct apply *a, struct slice path);
int apply_rename(struct apply *a, struct result *ret_result);

#endif
