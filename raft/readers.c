/* readers.c - who holds an old snapshot of the store, so that what is changed meanwhile cannot use the same space again and the
 * file grows: told after --reader-timeout, and after twice that the supervisor is asked to end it, if it is a front end of
 * its own. Slots of processes that are gone are given up by the store itself. */
#include "raft/node_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void readers_init(struct node *n)
{
    n->readers.next_ms = UINT64_MAX;
}

struct look {
    struct node *n;
    uint64_t now_ms;
    struct known_reader seen[NODE_READERS_MAX];
    size_t count;
};

static const struct known_reader *find(const struct node *n, const struct store_reader *r)
{
    for (size_t i = 0; i < n->readers.count; i++) {
        const struct known_reader *k = &n->readers.known[i];

        if (k->reader.pid == r->pid && k->reader.thread == r->thread && k->reader.snapshot == r->snapshot)
            return k;
    }
    return NULL;
}

static int see(void *ctx, const struct store_reader *r)
{
    struct look *l = ctx;
    const struct known_reader *before = find(l->n, r);

    if (r->pid == getpid())
        return 0; /* a checkpoint: it ends by itself */
    if (l->count == NODE_READERS_MAX)
        return 1;
    l->seen[l->count++] = before != NULL ? *before : (struct known_reader){.reader = *r, .since_ms = l->now_ms};
    return 0;
}

static void program_of(int pid, char *out, size_t size)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    f = fopen(path, "r");
    if (f == NULL || fgets(out, (int)size, f) == NULL)
        snprintf(out, size, "?");
    out[strcspn(out, "\n")] = '\0';
    if (f != NULL)
        fclose(f);
}

/* It holds something back only if there was a change since. */
static void judge(struct node *n, struct known_reader *k, uint64_t newest, uint64_t now)
{
    uint64_t age = now - k->since_ms;
    char program[32];

    if (k->reader.snapshot >= newest || age < n->config.reader_timeout_ms)
        return;
    n->readers.pinned++;
    if (age > n->readers.oldest_ms)
        n->readers.oldest_ms = age;
    if (!k->told && n->config.logger != NULL) {
        program_of(k->reader.pid, program, sizeof program);
        log_warn(n->config.logger, "process %d (%s) holds a snapshot that is %llu s old: the store's file grows meanwhile",
                 k->reader.pid, program, (unsigned long long)(age / 1000));
    }
    k->told = true;
    if (age < 2 * n->config.reader_timeout_ms || k->asked)
        return;
    k->asked = true;
    if (n->callbacks.on_stuck_reader != NULL)
        n->callbacks.on_stuck_reader(n->callbacks.ctx, k->reader.pid);
}

void readers_pump(struct node *n)
{
    uint64_t now = node_now(n), newest = 0;
    struct look l = {.n = n, .now_ms = now};

    if (n->config.reader_timeout_ms == 0)
        return;
    if (n->readers.next_ms != UINT64_MAX && now < n->readers.next_ms)
        return;
    n->readers.next_ms = now + n->config.reader_timeout_ms / 4 + 1;
    n->readers.pinned = 0;
    n->readers.oldest_ms = 0;
    if (store_readers(n->store, &newest, see, &l) < 0)
        return;
    memcpy(n->readers.known, l.seen, l.count * sizeof l.seen[0]);
    n->readers.count = l.count;
    for (size_t i = 0; i < l.count; i++)
        judge(n, &n->readers.known[i], newest, now);
}
