/* ctl.h - what the parts of quorumctl share: its options, its connection, its output.
 *
 * Process: quorumctl.
 * Thread:  one.
 * Errors:  0, or -1 after one line on standard error has said what is wrong.
 * Memory:  ctl_close() frees what a struct ctl holds; an arena holds what is parsed.
 * Units:   milliseconds where the name says so. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include "base/arena.h"
#include "base/bytes.h"
#include "raft/client.h"
#include "store/store.h"

enum ctl_command {
    CTL_STATUS,
    CTL_GET,
    CTL_PUT,
    CTL_DEL,
    CTL_TXN,
    CTL_WATCH,
    CTL_COMPACT, CTL_FS,
    CTL_LOG,
    CTL_MEMBER,
    CTL_MOVE_LEADER,
    CTL_VERSION,
    CTL_HELP
};

struct ctl_options {
    enum ctl_command command;
    char **args; /* what is left of the command line behind the command's name */
    size_t n_args;
    const char *socket;
    uint64_t timeout_ms;
    bool json, hex, local;
    bool prefix, from_key, keys_only, value_only, count_only, prev_kv, ignore_value, ignore_lease;
    int64_t rev, limit, lease;
    enum sort_order sort_order;
    enum sort_target sort_target;
    const char *peer_urls;
    bool learner;
    bool help;
};

/* ---- ctl_options.c ---- */

/* A command line, the program's name first. argv is reordered. */
int ctl_options_parse(int argc, char **argv, struct ctl_options *ret_options);
/* A line of a txn: "get", "put" or "del" with its arguments, into op. stdin is not read. */
int ctl_options_parse_op(int argc, char **argv, struct arena *arena, struct op *ret_op);
int ctl_range_from(const struct ctl_options *o, struct arena *arena, struct op_range *ret_op);
int ctl_delete_from(const struct ctl_options *o, struct arena *arena, struct op_delete *ret_op);
/* The value must be in args unless it is ignored. */
int ctl_put_from(const struct ctl_options *o, struct op_put *ret_op);
void ctl_usage(struct bytes *out);

/* ---- ctl_txn.c ---- */

int ctl_txn_parse(const char *text, size_t len, struct arena *arena, struct txn *ret_txn);
int ctl_txn_parse_json(const char *text, size_t len, struct arena *arena, struct txn *ret_txn);

/* ---- ctl_out.c ---- */

struct ctl_out {
    struct bytes buf;
    bool json, hex;
};

/* One line on standard error; returns -1. */
int ctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes all to standard output. A reader that went away is no reason for words: -1 without a line. */
int ctl_out_flush(struct ctl_out *o);
void ctl_out_text(struct ctl_out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ctl_out_base64(struct ctl_out *o, struct slice s); /* in quotes */
void ctl_out_quoted(struct ctl_out *o, struct slice s); /* in quotes, with escapes, on one line */
void ctl_out_line(struct ctl_out *o, struct slice s);   /* as it is, or all of it as \x escapes with --hex */
void ctl_out_kv_json(struct ctl_out *o, const struct kv *kv);
void ctl_out_range_json(struct ctl_out *o, const struct range_result *r); /* members of an object, without braces */
void ctl_out_range(struct ctl_out *o, const struct ctl_options *opts, const struct range_result *r);

/* ---- ctl_line.c ---- */

struct ctl {
    const struct ctl_options *opts;
    struct ctl_out out;
    struct client *client;
    struct store *store; /* NULL until ctl_store() */
    bool refused;
    char socket[108];
};

/* Finds the node's socket and connects. */
int ctl_open(const struct ctl_options *opts, struct ctl *ret_ctl);
void ctl_close(struct ctl *c);
/* Proposes and waits. The result's slices live in arena. A status other than OK is told and -1. */
int ctl_propose(struct ctl *c, const struct command *cmd, struct arena *arena, struct result *ret_result);
/* Waits until all that was acknowledged anywhere is readable here, unless --consistency=local. */
int ctl_barrier(struct ctl *c);
/* Opens the store of the node's current epoch, or opens it anew if that changed. */
int ctl_store(struct ctl *c);
int ctl_fail_status(uint16_t status);
uint64_t ctl_deadline(const struct ctl *c);

/* ---- the commands ---- */

int ctl_status(struct ctl *c);
int ctl_get(struct ctl *c);
int ctl_put(struct ctl *c);
int ctl_del(struct ctl *c);
int ctl_txn(struct ctl *c);
int ctl_watch(struct ctl *c);
int ctl_compact(struct ctl *c);
int ctl_fs(struct ctl *c);
int ctl_log(struct ctl *c);
int ctl_member(struct ctl *c);
int ctl_move_leader(struct ctl *c);
/* All of standard input, at most max bytes. */
int ctl_read_stdin(size_t max_bytes, struct bytes *out);

#endif
