/* Start: reads all segments, decides what their end means, and makes what was found durable.
 *
 * Invariants:
 *  1. Flush n+1 is written only after flush n is durable. So in the newest segment bytes that are no whole flush are a torn
 *     write, and never were acknowledged, only if no later flush is anywhere: not behind them, and not in the durable
 *     flush number of the hard state. Everything else that does not fit is damage: -EUCLEAN, nothing changed.
 *  2. An older segment ends exactly where the head of the next says.
 *  3. After recovery all behind the end of the newest segment is zero, and the last flush has been written and
 *     synced again: it may have been in the page cache alone, of a process killed before its sync or told that it failed. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "raft/log_parts.h"

struct replay {
    struct log *l;
    char *text;
    size_t text_size;

    uint64_t *sequences; /* of the segments, rising */
    size_t count, cap;
    bool has_vote;
    int status;          /* of the listing */

    struct disk_file *file; /* being read */
    uint64_t sequence;
    uint64_t size;
    struct log_head head;
    uint32_t seed;
    uint8_t *buf;
    size_t buf_cap, buf_len;
    uint64_t buf_offset;

    uint64_t flush;                 /* the last one replayed */
    uint64_t flush_begin, flush_end; /* its place, if in the newest segment; 0: none there */
};

static const char remedy[] = "Nothing was changed. Restore this member's data directory, or remove the member from the "
                             "cluster, delete the data directory and add it again.";

__attribute__((format(printf, 3, 4))) static int damaged(struct replay *r, uint64_t offset, const char *format, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    log_say(r->text, r->text_size, "%s/seg-%016llx: damaged at offset %llu: %s. %s", r->l->dir,
            (unsigned long long)r->sequence, (unsigned long long)offset, what, remedy);
    return -EUCLEAN;
}

static int newer(struct replay *r)
{
    log_say(r->text, r->text_size, "%s/seg-%016llx: written by a newer version of quorumfs; start that version",
            r->l->dir, (unsigned long long)r->sequence);
    return -EPROTONOSUPPORT;
}

static int failed(struct replay *r, int rc)
{
    log_say(r->text, r->text_size, "%s/seg-%016llx: %s", r->l->dir, (unsigned long long)r->sequence, strerror(-rc));
    return rc;
}

/* ---- what is there ---- */

static int add_name(void *arg, const char *name)
{
    struct replay *r = arg;
    struct log *l = r->l;
    uint64_t number;

    if (strcmp(name, "vote") == 0)
        r->has_vote = true;
    if (log_parse_name(name, "spare-", &number) && l->spares_count < LOG_SPARES_MAX)
        l->spares[l->spares_count++] = number;
    if (!log_parse_name(name, "seg-", &number))
        return 0;
    r->status = r->count < LOG_SEGMENTS_MAX ? 0 : -E2BIG;
    if (r->status == 0)
        r->status = log_reserve((void **)&r->sequences, &r->cap, r->count, sizeof(*r->sequences));
    if (r->status == 0)
        r->sequences[r->count++] = number;
    return r->status;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static int list_files(struct replay *r)
{
    struct disk *d = r->l->disk;
    int rc = d->list(d->ctx, r->l->dir, add_name, r);

    if (rc == 0)
        rc = r->status;
    if (rc < 0) {
        log_say(r->text, r->text_size, "%s: %s", r->l->dir, strerror(-rc));
        return rc;
    }
    if (r->count > 0)
        qsort(r->sequences, r->count, sizeof(*r->sequences), compare_numbers);
    for (size_t i = 1; i < r->count; i++) {
        r->sequence = r->sequences[i - 1] + 1;
        if (r->sequences[i] != r->sequence)
            return damaged(r, 0, "the file is missing");
    }
    return 0;
}

/* ---- reading one segment ---- */

/* The bytes [offset, offset + len), or fewer at the end of the file. */
static int view(struct replay *r, uint64_t offset, size_t len, const uint8_t **ret_data, size_t *ret_len)
{
    struct disk *d = r->l->disk;
    size_t want = len > LOG_RECOVER_BYTES ? len : LOG_RECOVER_BYTES;
    int rc;

    if (offset < r->buf_offset || offset + len > r->buf_offset + r->buf_len) {
        if (want > r->size - offset)
            want = (size_t)(r->size - offset); /* so no length from the disk makes us allocate more than is there */
        if (want > r->buf_cap) {
            uint8_t *p = realloc(r->buf, want);

            if (p == NULL)
                return -ENOMEM;
            r->buf = p;
            r->buf_cap = want;
        }
        r->buf_len = 0;
        rc = d->read(d->ctx, r->file, offset, r->buf, want, &r->buf_len);
        if (rc < 0)
            return rc;
        r->buf_offset = offset;
    }
    *ret_data = r->buf != NULL ? r->buf + (offset - r->buf_offset) : (const uint8_t *)"";
    *ret_len = (size_t)(r->buf_offset + r->buf_len - offset);
    if (*ret_len > len)
        *ret_len = len;
    return 0;
}

static void close_segment(struct replay *r)
{
    if (r->file != NULL)
        r->l->disk->close(r->l->disk->ctx, r->file);
    r->file = NULL;
}

/* Opens it and reads its head. */
static int open_segment(struct replay *r, uint64_t sequence, unsigned flags)
{
    struct disk *d = r->l->disk;
    char path[LOG_PATH_BYTES];
    const uint8_t *data;
    size_t len;
    int rc;

    r->sequence = sequence;
    r->buf_len = 0;
    r->buf_offset = 0;
    log_path(r->l, "seg-", sequence, path);
    rc = d->open(d->ctx, path, flags, &r->file);
    if (rc == 0)
        rc = d->size(d->ctx, r->file, &r->size);
    if (rc == 0)
        rc = view(r, 0, LOG_HEAD_BYTES, &data, &len);
    if (rc < 0)
        return failed(r, rc);
    rc = len == LOG_HEAD_BYTES && r->size >= LOG_HEAD_AREA_BYTES ? log_head_decode(data, &r->head) : -EBADMSG;
    if (rc == -EPROTONOSUPPORT)
        return newer(r);
    if (rc < 0)
        return damaged(r, 0, "no valid head");
    if (r->head.cluster_id != r->l->options.cluster_id) {
        log_say(r->text, r->text_size, "%s: belongs to cluster %016llx, this is %016llx", r->l->dir,
                (unsigned long long)r->head.cluster_id, (unsigned long long)r->l->options.cluster_id);
        return -EXDEV;
    }
    if (r->head.sequence != sequence)
        return damaged(r, 24, "it is segment %llu", (unsigned long long)r->head.sequence);
    r->seed = log_head_seed(&r->head);
    return 0;
}

/* ---- one flush ---- */

/* Whether the bytes are whole and what was written; nothing about their meaning. 0: no. */
static bool flush_is_whole(struct replay *r, uint64_t offset, const struct log_mark *m, const uint8_t *data, size_t len)
{
    uint32_t records = 0;
    size_t at = 0;

    if (len < m->bytes)
        return false;
    while (at + LOG_RECORD_BYTES <= m->bytes) {
        struct log_record rec;
        int rc = log_record_decode(data + at, r->seed, offset + at, &rec);

        if (rc == -EPROTONOSUPPORT) { /* its CRC is right: no torn write */
            rec.payload_len = get_le32(data + at + 8);
            rec.payload_crc = get_le32(data + at + 4);
        } else if (rc < 0) {
            return false;
        }
        if (rec.payload_len > LOG_PAYLOAD_MAX_BYTES || log_record_size(rec.payload_len) > m->bytes - at ||
            crc32c(0, data + at + LOG_RECORD_BYTES, rec.payload_len) != rec.payload_crc)
            return false;
        at += log_record_size(rec.payload_len);
        records++;
    }
    return at == m->bytes && records == m->records + 1;
}

static int replay_record(struct replay *r, uint64_t offset, const uint8_t *data)
{
    struct log *l = r->l;
    struct log_record rec;
    struct log_entry e;
    int rc;

    if (log_record_decode(data, r->seed, offset, &rec) == -EPROTONOSUPPORT)
        return newer(r);
    switch (rec.kind) {
    case LOG_RECORD_ENTRY:
        if (rec.index != log_last_index(l) + 1 || rec.term < log_term_at(l, rec.index - 1))
            return damaged(r, offset, "entry %llu of term %llu behind %llu", (unsigned long long)rec.index,
                           (unsigned long long)rec.term, (unsigned long long)log_last_index(l));
        if (rec.type > 15)
            return newer(r);
        e = (struct log_entry){rec.index, rec.term, (enum log_entry_type)rec.type,
                               slice_make(data + LOG_RECORD_BYTES, rec.payload_len)};
        rc = log_slot_push(l, &e, (uint32_t)r->sequence, offset);
        return rc < 0 ? failed(r, rc) : 0;
    case LOG_RECORD_TRUNCATE:
        if (rec.index == 0 || rec.index > log_last_index(l) + 1)
            return damaged(r, offset, "truncates %llu behind %llu", (unsigned long long)rec.index,
                           (unsigned long long)log_last_index(l));
        if (rec.index <= l->base_index) /* the entries before it were trimmed with an older segment */
            log_slots_clear(l, rec.index - 1, rec.term);
        else if (log_term_at(l, rec.index - 1) != rec.term)
            return damaged(r, offset, "truncates %llu behind another term", (unsigned long long)rec.index);
        else
            log_slots_cut(l, rec.index);
        return 0;
    case LOG_RECORD_RESET:
        if (rec.index > LOG_INDEX_MAX)
            return damaged(r, offset, "index %llu", (unsigned long long)rec.index);
        log_slots_clear(l, rec.index, rec.term);
        return 0;
    case LOG_RECORD_MARK:
        return damaged(r, offset, "a mark inside a flush");
    default:
        return newer(r);
    }
}

/* Replays the flush at offset: 1, 0 if there is none that is whole, or an error. */
static int replay_flush(struct replay *r, uint64_t offset, uint64_t *ret_end)
{
    struct log *l = r->l;
    const uint8_t *data;
    struct log_mark m;
    size_t len;
    int rc = view(r, offset, LOG_MARK_BYTES, &data, &len);

    if (rc < 0)
        return failed(r, rc);
    if (len < LOG_MARK_BYTES)
        return 0;
    rc = log_mark_decode(data, r->seed, offset, &m);
    if (rc == -EPROTONOSUPPORT)
        return newer(r);
    if (rc < 0 || m.bytes > r->size - offset)
        return 0;
    if (m.flush != r->flush + 1)
        return damaged(r, offset, "flush %llu behind %llu", (unsigned long long)m.flush, (unsigned long long)r->flush);
    rc = view(r, offset, m.bytes, &data, &len);
    if (rc < 0)
        return failed(r, rc);
    if (!flush_is_whole(r, offset, &m, data, len))
        return 0;
    if (m.index != log_last_index(l) || m.term != log_term_at(l, m.index))
        return damaged(r, offset, "it goes on behind entry %llu of term %llu, and the log ends at %llu of %llu",
                       (unsigned long long)m.index, (unsigned long long)m.term,
                       (unsigned long long)log_last_index(l),
                       (unsigned long long)log_term_at(l, log_last_index(l)));
    for (size_t at = LOG_MARK_BYTES; at < m.bytes; at += log_record_size(get_le32(data + at + 8))) {
        rc = replay_record(r, offset + at, data + at);
        if (rc < 0)
            return rc;
    }
    l->durable_index = log_last_index(l);
    log_evict(l);
    r->flush++;
    r->flush_begin = offset;
    r->flush_end = offset + m.bytes;
    *ret_end = (offset + m.bytes + LOG_SECTOR_BYTES - 1) & ~(uint64_t)(LOG_SECTOR_BYTES - 1);
    return 1;
}

/* Is any whole mark behind this place? Then what is here was durable once. */
static int find_later_flush(struct replay *r, uint64_t offset, uint64_t *ret_offset, uint64_t *ret_flush)
{
    for (offset += LOG_SECTOR_BYTES; offset < r->size; offset += LOG_SECTOR_BYTES) {
        const uint8_t *data;
        struct log_mark m;
        size_t len;
        int rc = view(r, offset, LOG_MARK_BYTES, &data, &len);

        if (rc < 0)
            return failed(r, rc);
        if (len == LOG_MARK_BYTES && log_mark_decode(data, r->seed, offset, &m) == 0) {
            *ret_offset = offset;
            *ret_flush = m.flush;
            return 1;
        }
    }
    return 0;
}

/* ---- all segments ---- */

static int check_head(struct replay *r)
{
    struct log *l = r->l;
    const struct log_head *h = &r->head;

    if (r->sequence == r->sequences[0]) {
        if ((h->sequence == 1) != (h->prev_end == 0) || h->base_index > LOG_INDEX_MAX)
            return damaged(r, 48, "its head is not that of segment %llu", (unsigned long long)h->sequence);
        log_slots_clear(l, h->base_index, h->base_term);
        r->flush = h->prev_flush;
        return 0;
    }
    if (h->base_index != log_last_index(l) || h->base_term != log_term_at(l, h->base_index) ||
        h->prev_flush != r->flush)
        return damaged(r, 32, "it follows entry %llu of flush %llu, and the segment before ends with %llu of %llu",
                       (unsigned long long)h->base_index, (unsigned long long)h->prev_flush,
                       (unsigned long long)log_last_index(l), (unsigned long long)r->flush);
    return 0;
}

/* limit: where it ends, or 0 for the newest, which ends where its flushes do. */
static int replay_segment(struct replay *r, uint64_t limit, uint64_t *ret_end)
{
    uint64_t end = LOG_HEAD_AREA_BYTES;
    int rc;

    if (limit != 0 && (limit < end || limit > r->size))
        return damaged(r, r->size, "the next segment says that this one ends at %llu", (unsigned long long)limit);
    r->flush_begin = r->flush_end = 0;
    while (end < (limit != 0 ? limit : r->size)) {
        rc = replay_flush(r, end, &end);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
    }
    if (limit != 0 && end != limit)
        return damaged(r, end, "flush %llu is not whole, and later ones are", (unsigned long long)r->flush + 1);
    *ret_end = end;
    return 0;
}

static int add_segment(struct replay *r)
{
    struct log *l = r->l;
    int rc = log_reserve((void **)&l->segments, &l->segments_cap, l->segments_count, sizeof(*l->segments));

    if (rc < 0)
        return failed(r, rc);
    l->segments[l->segments_count++] =
        (struct log_segment){r->sequence, r->head.base_index, r->head.base_term, r->seed};
    return 0;
}

static int next_limit(struct replay *r, size_t i, uint64_t *ret_limit)
{
    int rc = open_segment(r, r->sequences[i], DISK_READ_ONLY);

    if (rc == 0)
        *ret_limit = r->head.prev_end;
    if (rc == 0 && r->head.prev_end == 0)
        rc = damaged(r, 48, "it says that it is the first");
    close_segment(r);
    return rc;
}

/* Replays all; leaves the newest open. */
static int replay_all(struct replay *r, uint64_t *ret_end)
{
    for (size_t i = 0; i < r->count; i++) {
        bool newest = i == r->count - 1;
        uint64_t limit = 0;
        int rc = newest ? 0 : next_limit(r, i + 1, &limit);

        if (rc == 0)
            rc = open_segment(r, r->sequences[i], newest ? 0 : DISK_READ_ONLY);
        if (rc == 0)
            rc = check_head(r);
        if (rc == 0)
            rc = replay_segment(r, limit, ret_end);
        if (rc == 0)
            rc = add_segment(r);
        if (!newest)
            close_segment(r);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_end(struct replay *r, uint64_t end)
{
    uint64_t later = 0, flush = 0;
    int rc = find_later_flush(r, end, &later, &flush);

    if (rc < 0)
        return rc;
    if (rc > 0)
        return damaged(r, end, "flush %llu is not whole, and flush %llu at offset %llu is, so this is no torn write",
                       (unsigned long long)r->flush + 1, (unsigned long long)flush, (unsigned long long)later);
    if (r->flush < r->l->hard.now.durable_flush)
        return damaged(r, end, "flush %llu is not whole, and %llu was durable when the vote was written",
                       (unsigned long long)r->flush + 1, (unsigned long long)r->l->hard.now.durable_flush);
    return 0;
}

/* Whether [end, size) has anything but zeros. */
static int tail_is_dirty(struct replay *r, uint64_t end)
{
    while (end < r->size) {
        const uint8_t *data;
        size_t len;
        int rc = view(r, end, LOG_SECTOR_BYTES, &data, &len);

        if (rc < 0)
            return rc;
        if (len == 0)
            return 0;
        for (size_t i = 0; i < len; i++)
            if (data[i] != 0)
                return 1;
        end += len;
    }
    return 0;
}

/* Invariant 3. */
static int settle(struct replay *r, uint64_t end)
{
    struct disk *d = r->l->disk;
    const uint8_t *data;
    size_t len;
    int rc = tail_is_dirty(r, end);

    if (rc > 0)
        rc = d->zero(d->ctx, r->file, end, r->size - end);
    if (rc == 0 && r->flush_begin != 0) {
        rc = view(r, r->flush_begin, (size_t)(r->flush_end - r->flush_begin), &data, &len);
        if (rc == 0)
            rc = d->write(d->ctx, r->file, r->flush_begin, data, len);
    }
    if (rc == 0)
        rc = d->sync(d->ctx, r->file);
    if (rc == 0)
        rc = d->sync_dir(d->ctx, r->l->dir); /* before a spare is used: its name may not be durable yet */
    return rc < 0 ? failed(r, rc) : 0;
}

static int begin_new(struct replay *r)
{
    struct log *l = r->l;
    int rc;

    if (l->hard.now.durable_flush > 0) {
        r->sequence = 1;
        return damaged(r, 0, "there are no segments, and flush %llu was durable when the vote was written",
                       (unsigned long long)l->hard.now.durable_flush);
    }
    rc = l->disk->sync_dir(l->disk->ctx, l->dir);
    if (rc == 0)
        rc = log_segment_roll(l);
    if (rc < 0)
        log_say(r->text, r->text_size, "%s: %s", l->dir, strerror(-rc));
    return rc;
}

static void adopt_writer(struct replay *r, uint64_t end)
{
    struct log *l = r->l;

    l->writer = (struct log_writer){
        .file = r->file,
        .sequence = r->sequence,
        .seed = r->seed,
        .end = end,
        .room = r->size > end ? r->size : end,
        .flush = r->flush,
        .last_index = log_last_index(l),
        .last_term = log_term_at(l, log_last_index(l)),
    };
    r->file = NULL;
}

int log_recover(struct log *l, char *text, size_t text_size)
{
    struct replay r = {.l = l, .text = text, .text_size = text_size};
    uint64_t end = 0;
    int rc = list_files(&r);

    if (rc == 0)
        rc = log_hard_load(l, !r.has_vote && r.count == 0, text, text_size);
    if (rc == 0 && r.count == 0)
        rc = begin_new(&r);
    if (rc == 0 && r.count > 0) {
        rc = replay_all(&r, &end);
        if (rc == 0)
            rc = check_end(&r, end);
        if (rc == 0)
            rc = settle(&r, end);
        if (rc == 0)
            adopt_writer(&r, end);
    }
    close_segment(&r);
    free(r.sequences);
    free(r.buf);
    return rc;
}
