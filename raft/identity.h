/* identity.h - the data directory: whose it is, in which format, and that nobody else uses it
 * (docs/data-directory.md fixes its files).
 *
 * Process: supervisor (identity_prepare, and a first look with the rest), node.
 * Thread:  one.
 * Errors:  negative errno with one line of text for the operator, that names the directory. Nothing of these mends itself
 *          by a restart.
 * Memory:  none kept; the lock is a descriptor.
 * Units:   none. */
#ifndef RAFT_IDENTITY_H
#define RAFT_IDENTITY_H

#include "base/bytes.h"
#include "raft/config.h"

#define IDENTITY_FORMAT 2 /* 1 is read as well: it has no data, instance and begin */
#define IDENTITY_MAX_BYTES 4096

struct identity {
    uint32_t format;
    uint64_t cluster_id, member_id;
    uint64_t data_id;  /* the cluster's number that log and store carry: not the same after --force-new-cluster */
    uint64_t instance; /* a random number of this directory: a member that begins anew is told apart; 0: of format 1 */
    bool joined;       /* an existing cluster: it never begins one, also while its log is empty */
    char name[CONFIG_NAME_MAX_BYTES + 1];
};

/* The file's bytes. decode: -EBADMSG for damage, -EPROTONOSUPPORT for a newer format. */
void identity_encode(const struct identity *id, struct bytes *out);
int identity_decode(struct slice in, struct identity *ret_id);

/* Makes the directory if it is not there (its parent must be), gives it to uid and gid unless they are -1, with mode
 * 0700, or 0750 for a group of its own. */
int identity_prepare(const struct config *c, int uid, int gid, char *ret_text, size_t text_size);

/* Takes the lock: a descriptor to keep open as long as the directory is used. -EBUSY: another process has it. */
int identity_lock(const struct config *c, int *ret_fd, char *ret_text, size_t text_size);

/* Reads whose directory it is and compares with the flags; changes nothing. *ret_new: it is empty, a new member's;
 * with --initial-cluster-state existing the numbers are 0 then, and asked for. -EXDEV:
 * another cluster's or member's, -EEXIST: etcd's, -EPROTONOSUPPORT: newer, -EUCLEAN: damaged. */
int identity_check(const struct config *c, struct identity *ret_id, bool *ret_new, char *ret_text, size_t text_size);

/* --force-new-cluster: another number for the cluster, so that lost members that come back are strangers. In memory alone:
 * identity_create() writes it when the membership is written. Once in a directory's life, so that a restart with the same
 * flag does not throw out who has joined since: false if that has been. */
bool identity_force(struct identity *id);
/* A number for a new directory. */
uint64_t identity_new_instance(void);
/* Writes the identity, durably: of a new member, or another one in the place of the old. */
int identity_create(const struct config *c, const struct identity *id, char *ret_text, size_t text_size);

#endif
