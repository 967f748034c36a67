/* child.h - one child of the supervisor: how it is started, what it says, how it is ended.
 *
 * Process: supervisor.
 * Thread:  one.
 * Errors:  negative errno.
 * Memory:  a child owns its words; its descriptor is closed when it ends.
 * Units:   milliseconds of CLOCK_MONOTONIC. */
#ifndef RAFT_CHILD_H
#define RAFT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/logger.h"

#define CHILD_WORDS_MAX 512
#define CHILD_LINE_MAX_BYTES 128
#define CHILD_READ_BYTES 512
#define CHILD_STUCK_MAX (CHILD_READ_BYTES / 8) /* lines "stuck N" that fit into one reading */

enum child_kind { CHILD_NODE, CHILD_SIDECAR, CHILD_MOUNT };

struct child_user { /* whom to become; uid -1: stay */
    int uid, gid;
    char name[64];
};

struct child {
    enum child_kind kind;
    char title[64];
    char *words[CHILD_WORDS_MAX]; /* the program's path first, NULL last */
    const char *argv0;            /* what the program sees as its name */
    const char *mount_dir;        /* of a mount; borrowed */
    const struct child_user *user;
    pid_t pid;                    /* 0: does not run */
    int ready_fd;                 /* our end; -1: closed */
    char line[CHILD_LINE_MAX_BYTES];
    size_t line_len;
    bool skip_line;               /* the rest of one that is too long */
    bool ready, ever_ready;       /* this run; any run */
    bool finished;                /* not to be started again */
    uint64_t ready_ms, restart_ms, backoff_ms;
    unsigned fuse;                /* connection of a mount */
    bool has_fuse;
    pid_t stuck[CHILD_STUCK_MAX]; /* said by a node: these processes hold an old snapshot */
    size_t n_stuck;
};

uint64_t child_now_ms(void);
int child_add_word(struct child *c, const char *word); /* copies */
void child_free_words(struct child *c);
/* parent_fd: the end of the pipe that tells children of the supervisor's end. */
int child_start(struct child *c, int parent_fd);
/* Reads what the child has said; calls nothing. True when it has just become ready. */
bool child_read(struct child *c);
/* It has ended (waitpid said so): closes what belongs to this run. */
void child_ended(struct child *c);
/* In the child of a fork: gives privileges up. */
int child_drop(const struct child_user *user);

/* ---- mounts: child_mount.c ---- */
/* Ends the connection of a mount whose process has gone, and takes the directory off the tree. */
void child_mount_abort(struct child *c, const struct logger *l);
/* Before the first start: is there a dead mount? Then it is detached. */
void child_mount_clear(const struct child *c, const struct logger *l);

#endif
