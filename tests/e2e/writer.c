/* writer - a steady load through one node's socket, for tests: every put is retried in its session until it is
 * answered, so that it takes effect exactly once whatever happens to the node.
 *
 *   writer SOCKET PREFIX [WINDOW [INTERVAL_MS [DEADLINE_MS]]]
 *
 * Puts PREFIX/K = "PREFIX:N" for N from 1, K going round 20 keys, WINDOW of them under way, one per INTERVAL_MS at
 * most. Prints "ok N REVISION" for each acknowledged one and "unknown N STATUS" for each other. Ends when its standard
 * input does: waits for what is under way and prints "end N", the number of puts made. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/command.h"
#include "raft/client.h"

#define WINDOW_MAX 64
#define KEYS 20

struct writer;

struct slot { /* one put under way */
    struct writer *writer;
    uint64_t number; /* 0: free */
};

struct writer {
    struct client *client;
    const char *prefix, *refused;
    unsigned window, interval_ms, deadline_ms, busy;
    uint64_t count;
    struct slot slots[WINDOW_MAX];
};

static void on_answer(void *arg, const struct client_answer *answer)
{
    struct slot *slot = arg;

    if (answer->status == STATUS_OK)
        printf("ok %" PRIu64 " %" PRId64 "\n", slot->number, answer->revision);
    else
        printf("unknown %" PRIu64 " %s\n", slot->number, status_name(answer->status));
    slot->number = 0;
    slot->writer->busy--;
}

static void on_refused(void *ctx, const char *text)
{
    struct writer *w = ctx;

    fprintf(stderr, "writer: refused: %s\n", text);
    w->refused = "refused";
}

static int put_next(struct writer *w)
{
    struct slot *slot = w->slots;
    struct command cmd = {.kind = COMMAND_PUT};
    char key[256], value[256];
    int64_t ticket;

    while (slot->number != 0)
        slot++;
    slot->number = ++w->count;
    slot->writer = w;
    snprintf(key, sizeof key, "%s/%" PRIu64, w->prefix, w->count % KEYS);
    snprintf(value, sizeof value, "%s:%" PRIu64, w->prefix, w->count);
    cmd.put.key = slice_from_str(key);
    cmd.put.value = slice_from_str(value);
    w->busy++;
    ticket = client_propose(w->client, &cmd, CLIENT_RETRY, client_now_ms() + w->deadline_ms, on_answer, slot);
    return ticket < 0 ? (int)ticket : 0;
}

/* 1 until standard input ends and everything is answered. */
static int turn(struct writer *w, bool *open, uint64_t *next_ms)
{
    struct pollfd fds[2] = {{.fd = client_fd(w->client), .events = POLLIN}, {.fd = *open ? 0 : -1, .events = POLLIN}};
    uint64_t now = client_now_ms();
    int timeout = client_timeout_ms(w->client);
    char byte;
    int rc;

    if (*open && w->busy < w->window) {
        int until = *next_ms > now ? (int)(*next_ms - now) : 0;

        if (timeout < 0 || until < timeout)
            timeout = until;
    }
    if (poll(fds, 2, timeout) < 0 && errno != EINTR)
        return -errno;
    client_process(w->client);
    if (*open && fds[1].revents != 0 && read(0, &byte, 1) <= 0)
        *open = false;
    now = client_now_ms();
    if (*open && w->busy < w->window && now >= *next_ms) {
        rc = put_next(w);
        if (rc < 0)
            return rc;
        *next_ms = now + w->interval_ms;
    }
    return *open || w->busy > 0;
}

int main(int argc, char **argv)
{
    struct writer w = {.window = 4, .interval_ms = 2, .deadline_ms = 30000};
    struct client_callbacks callbacks = {.ctx = &w, .on_refused = on_refused};
    bool open = true;
    uint64_t next_ms = 0;
    int rc;

    if (argc < 3) {
        fprintf(stderr, "usage: writer SOCKET PREFIX [WINDOW [INTERVAL_MS [DEADLINE_MS]]]\n");
        return 2;
    }
    w.prefix = argv[2];
    if (argc > 3)
        w.window = (unsigned)atoi(argv[3]);
    if (argc > 4)
        w.interval_ms = (unsigned)atoi(argv[4]);
    if (argc > 5)
        w.deadline_ms = (unsigned)atoi(argv[5]);
    if (w.window == 0 || w.window > WINDOW_MAX)
        w.window = WINDOW_MAX;
    setvbuf(stdout, NULL, _IOLBF, 0);
    rc = client_open(argv[1], "writer", &callbacks, &w.client);
    if (rc < 0) {
        fprintf(stderr, "writer: %s: %s\n", argv[1], strerror(-rc));
        return 1;
    }
    do
        rc = turn(&w, &open, &next_ms);
    while (rc == 1 && w.refused == NULL);
    client_close(w.client);
    if (rc < 0) {
        fprintf(stderr, "writer: %s\n", strerror(-rc));
        return 1;
    }
    printf("end %" PRIu64 "\n", w.count);
    return w.refused == NULL ? 0 : 1;
}
