/* dump - prints a store's log, for tests: one row a line, straight from the environment and not through the node.
 *
 *   dump STORE_DIR [FROM_REVISION]
 *
 * Columns, separated by blanks: main sub kind key value create version session sequence. Key and value in
 * hexadecimal, "-" when empty. The last line is "end REVISION", so that a cut output is noticed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "store/store.h"

struct dump {
    struct store_read *read;
    struct arena arena;
    int error;
};

static void print_hex(struct slice s)
{
    if (s.len == 0)
        fputs(" -", stdout);
    else
        fputc(' ', stdout);
    for (size_t i = 0; i < s.len; i++)
        printf("%02x", s.data[i]);
}

static const char *kind_name(enum event_kind kind)
{
    switch (kind) {
    case EVENT_PUT:
        return "put";
    case EVENT_DELETE:
        return "delete";
    case EVENT_DIR_PUT:
        return "dir-put";
    case EVENT_DIR_DELETE:
        return "dir-delete";
    case EVENT_RENAME:
        return "rename";
    case EVENT_ATTR:
        return "attr";
    case EVENT_LOCK:
        return "lock";
    }
    return "unknown";
}

static int print_event(void *ctx, const struct event *e)
{
    struct dump *d = ctx;
    struct slice value = {0};

    arena_reset(&d->arena);
    if (e->kind == EVENT_PUT || e->kind == EVENT_RENAME)
        d->error = store_event_value(d->read, e, &d->arena, &value);
    if (d->error < 0)
        return 1;
    printf("%" PRId64 " %" PRId64 " %s", e->rev.main, e->rev.sub, kind_name(e->kind));
    print_hex(e->key);
    print_hex(value);
    printf(" %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 "\n", e->create.main, e->version, e->session, e->sequence);
    return 0;
}

int main(int argc, char **argv)
{
    struct dump d = {0};
    struct store *store = NULL;
    struct store_options options = {0};
    uint16_t status = STATUS_OK;
    int64_t from = argc > 2 ? strtoll(argv[2], NULL, 10) : 1;
    int64_t next;
    int rc;

    if (argc < 2) {
        fprintf(stderr, "usage: dump STORE_DIR [FROM_REVISION]\n");
        return 2;
    }
    rc = store_open(argv[1], &options, &store);
    if (rc < 0) {
        fprintf(stderr, "dump: %s: %s\n", argv[1], strerror(-rc));
        return 1;
    }
    arena_init(&d.arena);
    rc = store_read_begin(store, &d.read);
    if (rc == 0)
        rc = store_events(d.read, from, print_event, &d, &next, &status);
    if (rc == 0)
        rc = d.error;
    if (rc == 0 && status == STATUS_OK)
        printf("end %" PRId64 "\n", store_read_revision(d.read));
    else
        fprintf(stderr, "dump: %s\n", rc < 0 ? strerror(-rc) : status_text(status));
    store_read_end(d.read);
    arena_fini(&d.arena);
    store_close(store);
    return rc == 0 && status == STATUS_OK ? 0 : 1;
}
