#include "raft/compactor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_MS ((uint64_t)3600 * 1000)

static bool read_number(const char **p, uint64_t *ret_v)
{
    uint64_t v = 0;
    const char *s = *p;

    for (; *s >= '0' && *s <= '9'; s++) {
        if (v > UINT64_MAX / 1000000)
            return false;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    *ret_v = v;
    return s != *p && (*p = s, true);
}

/* Go's durations: numbers with units one behind the other; no fractions. */
static bool read_duration(const char *text, uint64_t *ret_ms)
{
    uint64_t total = 0, v, unit;

    while (*text != '\0') {
        if (!read_number(&text, &v))
            return false;
        if (strncmp(text, "ms", 2) == 0)
            unit = 1, text += 2;
        else if (*text == 'h')
            unit = HOUR_MS, text++;
        else if (*text == 'm')
            unit = 60 * 1000, text++;
        else if (*text == 's')
            unit = 1000, text++;
        else
            return false;
        if (v > COMPACTOR_PERIOD_MAX_MS / unit)
            return false;
        total += v * unit;
    }
    *ret_ms = total;
    return total <= COMPACTOR_PERIOD_MAX_MS;
}

int compactor_parse(const char *mode, const char *retention, struct compactor_options *ret_options, const char **ret_why)
{
    struct compactor_options o = {COMPACTOR_OFF, 0, 0};
    const char *p = retention;
    uint64_t v = 0;
    bool number = read_number(&p, &v) && *p == '\0';

    if (strcmp(mode, "periodic") == 0) {
        o.mode = COMPACTOR_PERIODIC;
        if (number && v <= COMPACTOR_PERIOD_MAX_MS / HOUR_MS)
            o.period_ms = v * HOUR_MS;
        else if (number || retention[0] == '\0' || !read_duration(retention, &o.period_ms))
            return *ret_why = "is neither hours nor a duration like 90m or 1h30m", -EINVAL;
        if (o.period_ms != 0 && o.period_ms < 1000)
            return *ret_why = "is below a second", -EINVAL;
    } else if (strcmp(mode, "revision") == 0) {
        o.mode = COMPACTOR_REVISION;
        if (!number || v > INT64_MAX)
            return *ret_why = "is not a number of revisions", -EINVAL;
        o.keep_revisions = (int64_t)v;
    } else {
        return *ret_why = NULL, -EINVAL;
    }
    if (o.period_ms == 0 && o.keep_revisions == 0)
        o.mode = COMPACTOR_OFF;
    *ret_options = o;
    return 0;
}

static void note(struct compactor *c, int64_t revision)
{
    if (c->count == c->cap) {
        c->front = (c->front + 1) % c->cap;
        c->count--;
    }
    c->noted[(c->front + c->count++) % c->cap] = revision;
}

int compactor_init(struct compactor *c, const struct compactor_options *options, uint64_t now_ms, int64_t revision)
{
    memset(c, 0, sizeof *c);
    c->options = *options;
    c->next_ms = UINT64_MAX;
    c->last_ms = now_ms;
    if (options->mode == COMPACTOR_REVISION) {
        c->retry_ms = COMPACTOR_REVISION_INTERVAL_MS;
    } else if (options->mode == COMPACTOR_PERIODIC) {
        uint64_t interval_ms = options->period_ms < HOUR_MS ? options->period_ms : HOUR_MS;

        c->wait_ms = options->period_ms;
        c->retry_ms = interval_ms / 10;
        c->cap = (size_t)(options->period_ms / c->retry_ms + 1);
        c->noted = calloc(c->cap, sizeof *c->noted);
        if (c->noted == NULL)
            return -ENOMEM;
        note(c, revision);
    } else {
        return 0;
    }
    c->next_ms = now_ms + c->retry_ms;
    return 0;
}

void compactor_fini(struct compactor *c)
{
    free(c->noted);
    c->noted = NULL;
}

static bool periodic(struct compactor *c, uint64_t now_ms, bool is_leader, int64_t *ret_revision)
{
    int64_t oldest = c->noted[c->front];

    if (!is_leader || now_ms - c->last_ms < c->wait_ms || oldest == c->last_revision)
        return false;
    c->wait_ms = c->options.period_ms < HOUR_MS ? c->options.period_ms : HOUR_MS; /* the first time it was the retention */
    c->last_ms = now_ms;
    *ret_revision = oldest;
    return true;
}

static bool by_revision(struct compactor *c, int64_t revision, bool is_leader, int64_t *ret_revision)
{
    int64_t target = revision - c->options.keep_revisions;

    if (!is_leader || target <= 0 || target == c->last_revision)
        return false;
    *ret_revision = target;
    return true;
}

bool compactor_tick(struct compactor *c, uint64_t now_ms, int64_t revision, bool is_leader, int64_t *ret_revision)
{
    bool wanted;

    if (now_ms < c->next_ms)
        return false;
    c->next_ms = now_ms + c->retry_ms;
    if (c->options.mode == COMPACTOR_PERIODIC) {
        wanted = periodic(c, now_ms, is_leader, ret_revision);
        note(c, revision);
    } else {
        wanted = by_revision(c, revision, is_leader, ret_revision);
    }
    if (wanted)
        c->last_revision = *ret_revision;
    return wanted;
}
