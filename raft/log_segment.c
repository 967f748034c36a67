/* The log's segment files: seg-N while in use, spare-N once trimmed, roll.tmp while being made.
 *
 * Invariants:
 *  1. seg-N gets its name only when its head is durable, so a seg-N with a bad head is damage.
 *  2. seg-N+1 is made only when everything in seg-N is durable; its head says where seg-N ends.
 *  3. Trimmed segments lose their names oldest first, each durably before the next and before the file is used again:
 *     after any crash the numbers that are left have no gap. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/log_parts.h"

void log_path_name(const struct log *l, const char *name, char *out)
{
    snprintf(out, LOG_PATH_BYTES, "%s/%s", l->dir, name);
}

void log_path(const struct log *l, const char *prefix, uint64_t number, char *out)
{
    snprintf(out, LOG_PATH_BYTES, "%s/%s%016llx", l->dir, prefix, (unsigned long long)number);
}

bool log_parse_name(const char *name, const char *prefix, uint64_t *ret_number)
{
    size_t n = strlen(prefix);
    uint64_t number = 0;

    if (strncmp(name, prefix, n) != 0 || strlen(name) != n + 16)
        return false;
    for (const char *p = name + n; *p != '\0'; p++) {
        if (*p >= '0' && *p <= '9')
            number = number << 4 | (uint64_t)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            number = number << 4 | (uint64_t)(*p - 'a' + 10);
        else
            return false;
    }
    *ret_number = number;
    return number != 0;
}

static bool no_space(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT;
}

/* Opens a trimmed file, or a new one, as roll.tmp. */
static int open_rolling(struct log *l, const char *path, struct disk_file **ret_file)
{
    struct disk *d = l->disk;
    char spare[LOG_PATH_BYTES];
    uint64_t number = 0;
    int rc;

    pthread_mutex_lock(&l->mutex);
    if (l->spares_count > 0)
        number = l->spares[--l->spares_count];
    pthread_mutex_unlock(&l->mutex);
    if (number != 0) {
        log_path(l, "spare-", number, spare);
        rc = d->rename(d->ctx, spare, path);
        if (rc < 0 && rc != -ENOENT)
            return rc;
    }
    return d->open(d->ctx, path, DISK_CREATE, ret_file);
}

/* Gives the file its head and its first room. */
static int prepare(struct log *l, struct disk_file *f, const struct log_head *h, uint64_t *ret_room)
{
    struct disk *d = l->disk;
    uint8_t area[LOG_HEAD_AREA_BYTES] = {0};
    uint64_t size;
    int rc = d->size(d->ctx, f, &size);

    if (rc < 0)
        return rc;
    if (size < LOG_HEAD_AREA_BYTES + l->step_bytes / 2) {
        rc = d->zero(d->ctx, f, size, LOG_HEAD_AREA_BYTES + l->step_bytes - size);
        size = LOG_HEAD_AREA_BYTES + l->step_bytes;
    }
    log_head_encode(h, area);
    if (rc == 0)
        rc = d->write(d->ctx, f, 0, area, sizeof(area));
    if (rc == 0) {
        *ret_room = size;
        rc = d->sync(d->ctx, f);
        if (rc < 0)
            return -EIO; /* whatever it was, ENOSPC too: nothing may be assumed after a failed sync */
    }
    return rc;
}

int log_segment_roll(struct log *l)
{
    struct disk *d = l->disk;
    struct log_writer *w = &l->writer;
    struct log_head h = {
        .cluster_id = l->options.cluster_id,
        .sequence = w->sequence + 1,
        .base_index = w->last_index,
        .base_term = w->last_term,
        .prev_end = w->file != NULL ? w->end : 0,
        .prev_flush = w->flush,
    };
    struct log_segment segment = {h.sequence, h.base_index, h.base_term, log_head_seed(&h)};
    char path[LOG_PATH_BYTES], final[LOG_PATH_BYTES];
    struct disk_file *f = NULL;
    uint64_t room = 0;
    int rc;

    pthread_mutex_lock(&l->mutex);
    rc = log_reserve((void **)&l->segments, &l->segments_cap, l->segments_count, sizeof(*l->segments));
    pthread_mutex_unlock(&l->mutex);
    if (rc < 0)
        return rc;
    log_path_name(l, "roll.tmp", path);
    log_path(l, "seg-", h.sequence, final);
    rc = open_rolling(l, path, &f);
    if (rc == 0)
        rc = prepare(l, f, &h, &room);
    if (rc == 0)
        rc = d->rename(d->ctx, path, final);
    if (rc < 0) {
        if (f != NULL)
            d->close(d->ctx, f);
        if (no_space(rc))
            d->remove(d->ctx, path); /* may make room for what is smaller */
        return rc;
    }
    rc = d->sync_dir(d->ctx, l->dir);
    if (rc < 0) {
        d->close(d->ctx, f);
        return -EIO; /* there may be a segment or not: only a new start can tell */
    }
    d->close(d->ctx, w->file);
    w->file = f;
    w->sequence = h.sequence;
    w->seed = segment.seed;
    w->end = LOG_HEAD_AREA_BYTES;
    w->room = room;
    pthread_mutex_lock(&l->mutex);
    l->segments[l->segments_count++] = segment;
    pthread_mutex_unlock(&l->mutex);
    return 0;
}

int log_segment_room(struct log *l, uint64_t upto)
{
    struct disk *d = l->disk;
    struct log_writer *w = &l->writer;
    uint64_t want, step;
    int rc;

    if (upto <= w->room)
        return 0;
    want = upto - w->room;
    step = want > l->step_bytes ? want : l->step_bytes;
    rc = d->zero(d->ctx, w->file, w->room, step);
    if (no_space(rc) && step > want) {
        step = want;
        rc = d->zero(d->ctx, w->file, w->room, step);
    }
    if (rc == 0)
        w->room += step;
    return rc;
}

int log_segment_retire(struct log *l)
{
    struct disk *d = l->disk;

    for (;;) {
        char path[LOG_PATH_BYTES], spare[LOG_PATH_BYTES];
        uint64_t number = 0;
        bool keep;
        int rc;

        pthread_mutex_lock(&l->mutex);
        if (l->retired_count > 0)
            number = l->retired[0];
        keep = l->spares_count < LOG_SPARES_MAX;
        pthread_mutex_unlock(&l->mutex);
        if (number == 0)
            return 0;
        log_path(l, "seg-", number, path);
        log_path(l, "spare-", number, spare);
        rc = keep ? d->rename(d->ctx, path, spare) : d->remove(d->ctx, path);
        if (rc == -ENOENT) { /* done by a try before, whose sync_dir failed */
            keep = false;
            rc = 0;
        }
        if (rc == 0)
            rc = d->sync_dir(d->ctx, l->dir);
        if (rc < 0)
            return rc;
        pthread_mutex_lock(&l->mutex);
        l->retired_count--;
        memmove(l->retired, l->retired + 1, l->retired_count * sizeof(*l->retired));
        if (keep)
            l->spares[l->spares_count++] = number;
        pthread_mutex_unlock(&l->mutex);
    }
}

/* ---- reading, by the loop ---- */

void log_readers_close(struct log *l, uint32_t segment)
{
    for (size_t i = 0; i < LOG_READ_ONLY_FILES_MAX; i++) {
        struct log_reader_file *r = &l->readers[i];

        if (r->segment == 0 || (segment != 0 && r->segment != segment))
            continue;
        l->disk->close(l->disk->ctx, r->file);
        *r = (struct log_reader_file){0};
    }
    if (segment == 0 || l->window_segment == segment)
        l->window_len = 0;
}

static int find_reader(struct log *l, uint32_t segment, struct disk_file **ret_file)
{
    struct log_reader_file *r = &l->readers[0];
    struct log_reader_file next = {.segment = segment};
    char path[LOG_PATH_BYTES];
    uint64_t sequence = 0;
    int rc;

    for (size_t i = 0; i < LOG_READ_ONLY_FILES_MAX; i++) {
        if (l->readers[i].segment == segment) {
            l->readers[i].used = ++l->readers_clock;
            *ret_file = l->readers[i].file;
            return 0;
        }
        if (l->readers[i].used < r->used)
            r = &l->readers[i];
    }
    pthread_mutex_lock(&l->mutex);
    for (size_t i = 0; i < l->segments_count; i++)
        if ((uint32_t)l->segments[i].sequence == segment)
            sequence = l->segments[i].sequence;
    pthread_mutex_unlock(&l->mutex);
    if (sequence == 0)
        return -EUCLEAN;
    log_path(l, "seg-", sequence, path);
    rc = l->disk->open(l->disk->ctx, path, DISK_READ_ONLY, &next.file);
    if (rc < 0)
        return rc;
    if (r->segment != 0)
        l->disk->close(l->disk->ctx, r->file);
    next.used = ++l->readers_clock;
    *r = next;
    *ret_file = r->file;
    return 0;
}

int log_segment_read(struct log *l, uint32_t segment, uint64_t offset, size_t len, const uint8_t **ret_data)
{
    size_t want = len > LOG_READ_BYTES ? len : LOG_READ_BYTES;
    struct disk_file *f;
    uint8_t *p;
    int rc;

    if (l->window_len > 0 && l->window_segment == segment && offset >= l->window_offset &&
        offset + len <= l->window_offset + l->window_len) {
        *ret_data = l->window + (offset - l->window_offset);
        return 0;
    }
    rc = find_reader(l, segment, &f);
    if (rc < 0)
        return rc;
    l->window_len = 0;
    p = realloc(l->window, want);
    if (p == NULL)
        return -ENOMEM;
    l->window = p;
    rc = l->disk->read(l->disk->ctx, f, offset, p, want, &l->window_len);
    if (rc < 0) {
        l->window_len = 0;
        return rc;
    }
    l->window_segment = segment;
    l->window_offset = offset;
    if (l->window_len < len)
        return -EUCLEAN;
    *ret_data = p;
    return 0;
}
