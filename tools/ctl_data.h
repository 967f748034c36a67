/* ctl_data.h - quorumctl's commands about data rather than keys: db and snapshot, with a command line of their own.
 *
 * Process: quorumctl.
 * Thread:  one.
 * Errors:  0, or -1 after one line on standard error.
 * Memory:  ctl_data_close() frees.
 * Units:   none. */
#ifndef TOOLS_CTL_DATA_H
#define TOOLS_CTL_DATA_H

#include "store/checkpoint.h"
#include "tools/ctl.h"

struct ctl_data {
    struct ctl ctl; /* of a running node, if asked for */
    struct ctl_options opts;
    const char *words[3]; /* "db", "stat", ... */
    size_t n_words;
    const char *data_dir, *file;
    bool values;
    char **rest; /* of snapshot restore: flags of quorumfsd */
    size_t n_rest;
};

/* True if the first word of the command line is one of these commands. */
bool ctl_is_data(int argc, char **argv);
/* All of it; the exit status. */
int ctl_data_main(int argc, char **argv);

/* Asks a running node to do something with its data (enum socket_maintain_op) and waits. */
int ctl_data_ask(struct ctl_data *d, uint8_t op, char *ret_path, size_t size);
int ctl_db(struct ctl_data *d);
int ctl_snapshot(struct ctl_data *d);
void ctl_checkpoint_json(struct ctl_out *o, const struct checkpoint_info *info);
void ctl_checkpoint_line(struct ctl_out *o, const struct checkpoint_info *info);

#endif
