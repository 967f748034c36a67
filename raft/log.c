#include "raft/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "raft/log_parts.h"

#define DEFAULT_SEGMENT_BYTES (16ull << 20)
#define WAITING_MAX_BYTES (256ull << 20)
/* Before the first record of `waiting`: its mark goes there. */
#define FRONT LOG_MARK_BYTES

void log_say(char *text, size_t size, const char *format, ...)
{
    va_list ap;

    if (text == NULL || size == 0)
        return;
    va_start(ap, format);
    vsnprintf(text, size, format, ap);
    va_end(ap);
}

int log_reserve(void **array, size_t *cap, size_t count, size_t item_bytes)
{
    size_t more = *cap != 0 ? *cap * 2 : 16;
    void *p;

    if (count < *cap)
        return 0;
    p = realloc(*array, more * item_bytes);
    if (p == NULL)
        return -ENOMEM;
    *array = p;
    *cap = more;
    return 0;
}

void log_poison(struct log *l)
{
    pthread_mutex_lock(&l->mutex);
    l->error = -EIO;
    pthread_mutex_unlock(&l->mutex);
}

/* ---- slots ---- */

struct log_slot *log_slot_at(const struct log *l, uint64_t index)
{
    if (index <= l->base_index || index - l->base_index > l->slots_count)
        return NULL;
    return &l->slots[l->slots_head + (size_t)(index - l->base_index - 1)];
}

static void drop_payload(struct log *l, struct log_slot *s)
{
    if (s->payload == NULL)
        return;
    l->cached_bytes -= s->len;
    free(s->payload);
    s->payload = NULL;
}

/* Room for n more slots; moves them to the front of the array when half of it is trimmed. */
static int reserve_slots(struct log *l, size_t n)
{
    if (l->slots_head > 0 && l->slots_head >= l->slots_count) {
        memmove(l->slots, l->slots + l->slots_head, l->slots_count * sizeof(*l->slots));
        l->slots_head = 0;
    }
    while (l->slots_cap - l->slots_head - l->slots_count < n) {
        int rc = log_reserve((void **)&l->slots, &l->slots_cap, l->slots_cap, sizeof(*l->slots));

        if (rc < 0)
            return rc;
    }
    return 0;
}

int log_slot_push(struct log *l, const struct log_entry *e, uint32_t segment, uint64_t where)
{
    struct log_slot s = {
        .term = e->term,
        .where = where,
        .segment = segment,
        .len = (uint32_t)e->payload.len & 0xfffffff,
        .type = (unsigned)e->type & 0xf,
    };
    int rc = reserve_slots(l, 1);

    if (rc < 0)
        return rc;
    if (e->payload.len > 0) {
        s.payload = malloc(e->payload.len);
        if (s.payload == NULL)
            return -ENOMEM;
        memcpy(s.payload, e->payload.data, e->payload.len);
        l->cached_bytes += e->payload.len;
    }
    l->slots[l->slots_head + l->slots_count++] = s;
    return 0;
}

void log_slots_cut(struct log *l, uint64_t index)
{
    while (log_last_index(l) >= index)
        drop_payload(l, &l->slots[l->slots_head + --l->slots_count]);
    if (l->durable_index > index - 1)
        l->durable_index = index - 1;
    if (l->cached_from > index)
        l->cached_from = index;
}

void log_slots_clear(struct log *l, uint64_t base_index, uint64_t base_term)
{
    for (size_t i = 0; i < l->slots_count; i++)
        drop_payload(l, &l->slots[l->slots_head + i]);
    l->slots_head = l->slots_count = 0;
    l->base_index = base_index;
    l->base_term = base_term;
    l->durable_index = base_index;
    l->cached_from = base_index + 1;
}

/* Forgets the oldest payloads past the budget; only what can be read back. */
void log_evict(struct log *l)
{
    while (l->cached_bytes > l->options.cache_bytes && l->cached_from <= l->durable_index)
        drop_payload(l, log_slot_at(l, l->cached_from++));
}

/* ---- open and close ---- */

static int make_dir(struct log *l)
{
    struct disk *d = l->disk;
    char parent[sizeof(l->dir)];
    char *slash;
    int rc = d->mkdir(d->ctx, l->dir);

    if (rc == -EEXIST)
        rc = 0;
    if (rc < 0)
        return rc;
    snprintf(parent, sizeof(parent), "%s", l->dir);
    slash = strrchr(parent, '/');
    if (slash != NULL)
        *slash = '\0';
    return d->sync_dir(d->ctx, slash != NULL ? parent : ".");
}

int log_open(struct disk *disk, const char *dir, const struct log_options *options, struct log **ret_log,
             char *ret_text, size_t text_size)
{
    struct log *l = calloc(1, sizeof(*l));
    int rc;

    if (ret_text != NULL && text_size > 0)
        ret_text[0] = '\0';
    if (l == NULL)
        return -ENOMEM;
    assert(strlen(dir) < sizeof(l->dir));
    l->disk = disk;
    snprintf(l->dir, sizeof(l->dir), "%s", dir);
    l->options = *options;
    if (l->options.segment_bytes == 0)
        l->options.segment_bytes = DEFAULT_SEGMENT_BYTES;
    if (l->options.cache_bytes == 0)
        l->options.cache_bytes = LOG_CACHE_BYTES;
    if (l->options.waiting_bytes == 0 || l->options.waiting_bytes > WAITING_MAX_BYTES)
        l->options.waiting_bytes = WAITING_MAX_BYTES;
    l->step_bytes = l->options.segment_bytes < LOG_STEP_BYTES ? l->options.segment_bytes : LOG_STEP_BYTES;
    pthread_mutex_init(&l->mutex, NULL);
    bytes_init(&l->waiting);
    bytes_init(&l->taken);
    log_slots_clear(l, 0, 0);
    rc = make_dir(l);
    if (rc < 0)
        log_say(ret_text, text_size, "%s: %s", l->dir, strerror(-rc));
    else
        rc = log_recover(l, ret_text, text_size);
    if (rc < 0) {
        log_close(l);
        return rc;
    }
    l->durable_index = log_last_index(l);
    l->durable_flush = l->writer.flush;
    log_evict(l);
    *ret_log = l;
    return 0;
}

void log_close(struct log *l)
{
    if (l == NULL)
        return;
    log_readers_close(l, 0);
    if (l->writer.file != NULL)
        l->disk->close(l->disk->ctx, l->writer.file);
    if (l->hard.file != NULL)
        l->disk->close(l->disk->ctx, l->hard.file);
    log_slots_clear(l, 0, 0);
    bytes_fini(&l->waiting);
    bytes_fini(&l->taken);
    free(l->slots);
    free(l->window);
    free(l->placed);
    free(l->segments);
    free(l->retired);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

/* ---- the loop's side ---- */

uint64_t log_first_index(const struct log *l)
{
    return l->base_index + 1;
}

uint64_t log_last_index(const struct log *l)
{
    return l->base_index + l->slots_count;
}

uint64_t log_synced_index(const struct log *l)
{
    return l->durable_index;
}

uint64_t log_term_at(const struct log *l, uint64_t index)
{
    const struct log_slot *s = log_slot_at(l, index);

    if (s != NULL)
        return s->term;
    return index == l->base_index ? l->base_term : 0;
}

uint64_t log_bytes_behind(const struct log *l, uint64_t index)
{
    uint64_t sum = 0;
    const struct log_slot *s;

    for (uint64_t i = index < l->base_index ? l->base_index + 1 : index + 1; (s = log_slot_at(l, i)) != NULL; i++)
        sum += log_record_size(s->len);
    return sum;
}

struct log_hard_state log_hard_state(const struct log *l)
{
    return (struct log_hard_state){l->hard.now.term, l->hard.now.voted_for};
}

int log_set_hard_state(struct log *l, struct log_hard_state hs)
{
    uint64_t flush;
    int error;

    pthread_mutex_lock(&l->mutex);
    error = l->error;
    flush = l->durable_flush;
    pthread_mutex_unlock(&l->mutex);
    return error < 0 ? error : log_hard_store(l, hs, flush);
}

/* Puts one record behind those that wait; the caller holds the mutex and has checked for room. */
static void put_record(struct log *l, const struct log_record *r, struct slice payload)
{
    size_t size = log_record_size(r->payload_len);
    uint8_t *p;

    if (l->waiting.len == 0) {
        bytes_grow(&l->waiting, FRONT);
        l->waiting_begin = l->stream;
    }
    p = bytes_grow(&l->waiting, size);
    assert(p != NULL);
    log_record_encode(r, p);
    if (payload.len > 0)
        memcpy(p + LOG_RECORD_BYTES, payload.data, payload.len);
    memset(p + LOG_RECORD_BYTES + payload.len, 0, size - LOG_RECORD_BYTES - payload.len);
    l->stream += size;
    l->waiting_records++;
    l->waiting_last_index = r->index;
    l->waiting_last_term = r->term;
}

/* Memory for so many more bytes of records, so that putting them cannot fail half-way. The caller holds the mutex. */
static int reserve_waiting(struct log *l, size_t bytes)
{
    size_t len = l->waiting.len;

    if (l->error < 0)
        return l->error;
    if (bytes_grow(&l->waiting, FRONT + bytes) == NULL) {
        l->waiting.status = 0;
        return -ENOMEM;
    }
    l->waiting.len = len;
    return 0;
}

static int check_append(const struct log *l, const struct log_entry *entries, size_t n, size_t *ret_bytes)
{
    uint64_t index = log_last_index(l) + 1;
    uint64_t term = log_term_at(l, index - 1);
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++, index++) {
        if (entries[i].index != index || entries[i].term < term || (unsigned)entries[i].type > 15)
            return -EINVAL;
        if (entries[i].payload.len > LOG_PAYLOAD_MAX_BYTES)
            return -E2BIG;
        term = entries[i].term;
        bytes += log_record_size((uint32_t)entries[i].payload.len);
        if (bytes > l->options.waiting_bytes)
            return -ENOBUFS;
    }
    *ret_bytes = bytes;
    return 0;
}

int log_append(struct log *l, const struct log_entry *entries, size_t n)
{
    uint64_t last = log_last_index(l);
    uint64_t where = l->stream;
    size_t bytes = 0;
    int rc = check_append(l, entries, n, &bytes);

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = log_slot_push(l, &entries[i], 0, where);
        where += log_record_size((uint32_t)entries[i].payload.len);
    }
    if (rc < 0)
        goto fail;
    pthread_mutex_lock(&l->mutex);
    rc = l->waiting.len + bytes > l->options.waiting_bytes && l->waiting.len > 0 ? -ENOBUFS : reserve_waiting(l, bytes);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct log_entry *e = &entries[i];
        struct log_record r = {
            .payload_crc = crc32c(0, e->payload.data, e->payload.len),
            .payload_len = (uint32_t)e->payload.len,
            .kind = LOG_RECORD_ENTRY,
            .type = (uint8_t)e->type,
            .index = e->index,
            .term = e->term,
        };

        put_record(l, &r, e->payload);
    }
    pthread_mutex_unlock(&l->mutex);
    if (rc < 0)
        goto fail;
    log_evict(l);
    return 0;
fail:
    log_slots_cut(l, last + 1);
    return rc;
}

static int append_mark_of_cut(struct log *l, enum log_record_kind kind, uint64_t index, uint64_t term)
{
    struct log_record r = {.kind = (uint8_t)kind, .index = index, .term = term};
    int rc;

    pthread_mutex_lock(&l->mutex);
    rc = reserve_waiting(l, LOG_RECORD_BYTES);
    if (rc == 0) {
        put_record(l, &r, slice_make(NULL, 0));
        if (kind == LOG_RECORD_TRUNCATE)
            l->waiting_last_index = index - 1;
    }
    pthread_mutex_unlock(&l->mutex);
    return rc;
}

int log_truncate(struct log *l, uint64_t index)
{
    int rc;

    if (index <= l->base_index)
        return -EINVAL;
    if (index > log_last_index(l))
        return 0;
    rc = append_mark_of_cut(l, LOG_RECORD_TRUNCATE, index, log_term_at(l, index - 1));
    if (rc == 0)
        log_slots_cut(l, index);
    return rc;
}

int log_reset(struct log *l, uint64_t index, uint64_t term)
{
    int rc = append_mark_of_cut(l, LOG_RECORD_RESET, index, term);

    if (rc == 0)
        log_slots_clear(l, index, term);
    return rc;
}

static int read_record(struct log *l, const struct log_slot *s, uint64_t index, struct slice *ret_payload)
{
    const uint8_t *data;
    struct log_record r;
    uint32_t seed = 0;
    int rc = log_segment_read(l, s->segment, s->where, LOG_RECORD_BYTES + s->len, &data);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&l->mutex);
    for (size_t i = 0; i < l->segments_count; i++)
        if ((uint32_t)l->segments[i].sequence == s->segment)
            seed = l->segments[i].seed;
    pthread_mutex_unlock(&l->mutex);
    if (log_record_decode(data, seed, s->where, &r) < 0 || r.kind != LOG_RECORD_ENTRY || r.index != index ||
        r.term != s->term || r.payload_len != s->len ||
        crc32c(0, data + LOG_RECORD_BYTES, s->len) != r.payload_crc)
        return -EUCLEAN;
    *ret_payload = slice_make(data + LOG_RECORD_BYTES, s->len);
    return 0;
}

static int read_back(struct log *l, const struct log_slot *s, uint64_t index, struct slice *ret_payload)
{
    int rc = read_record(l, s, index, ret_payload);

    if (rc != -EUCLEAN)
        return rc;
    /* The window may have been read when the end of it was not written yet: look at the file itself. */
    l->window_len = 0;
    return read_record(l, s, index, ret_payload);
}

int log_get(struct log *l, uint64_t index, struct arena *arena, struct log_entry *ret_entry)
{
    const struct log_slot *s = log_slot_at(l, index);
    struct log_entry e;
    int rc = 0;

    if (s == NULL)
        return -ENOENT;
    e = (struct log_entry){.index = index, .term = s->term, .type = (enum log_entry_type)s->type};
    if (s->payload != NULL || s->len == 0)
        e.payload = slice_make(s->payload, s->len);
    else
        rc = read_back(l, s, index, &e.payload);
    if (rc == 0)
        rc = arena_copy(arena, e.payload, &e.payload);
    if (rc == 0)
        *ret_entry = e;
    return rc;
}

int log_trim(struct log *l, uint64_t index)
{
    int rc = 0;

    if (index > l->durable_index)
        index = l->durable_index;
    for (;;) {
        struct log_segment next, old;
        bool drop;

        pthread_mutex_lock(&l->mutex);
        drop = l->segments_count > 1 && l->segments[1].base_index <= index;
        if (drop) {
            rc = log_reserve((void **)&l->retired, &l->retired_cap, l->retired_count, sizeof(*l->retired));
            drop = rc == 0;
        }
        if (drop) {
            old = l->segments[0];
            next = l->segments[1];
            l->retired[l->retired_count++] = old.sequence;
            l->segments_count--;
            memmove(l->segments, l->segments + 1, l->segments_count * sizeof(*l->segments));
        }
        pthread_mutex_unlock(&l->mutex);
        if (!drop)
            return rc;
        log_readers_close(l, (uint32_t)old.sequence);
        while (l->base_index < next.base_index) {
            struct log_slot *s = &l->slots[l->slots_head];

            drop_payload(l, s);
            l->base_term = s->term;
            l->base_index++;
            l->slots_head++;
            l->slots_count--;
        }
        if (l->cached_from <= l->base_index)
            l->cached_from = l->base_index + 1;
    }
}

bool log_pending(const struct log *l)
{
    struct log *m = (struct log *)(uintptr_t)l; /* the mutex is no part of the value */
    bool pending;

    pthread_mutex_lock(&m->mutex);
    pending = l->waiting_records > 0;
    pthread_mutex_unlock(&m->mutex);
    return pending;
}

uint64_t log_flushed(struct log *l, uint64_t synced)
{
    struct log_placed p[16];
    size_t n;

    do {
        pthread_mutex_lock(&l->mutex);
        n = l->placed_count < 16 ? l->placed_count : 16;
        if (n > 0)
            memcpy(p, l->placed, n * sizeof(p[0]));
        l->placed_count -= n;
        if (n > 0)
            memmove(l->placed, l->placed + n, l->placed_count * sizeof(*l->placed));
        pthread_mutex_unlock(&l->mutex);
        for (size_t i = 0; i < n; i++) {
            struct log_slot *s;

            /* A slot in front of this part of the stream was placed before, one behind it waits for its turn. */
            while ((s = log_slot_at(l, l->durable_index + 1)) != NULL && s->where >= p[i].stream_begin &&
                   s->where < p[i].stream_end) {
                s->where = s->where - p[i].stream_begin + p[i].offset;
                s->segment = p[i].segment;
                l->durable_index++;
            }
        }
    } while (n > 0);
    log_evict(l);
    return l->durable_index;
}

/* ---- the log thread's side ---- */

/* Seals the records and the mark for the place where they go. */
static void seal_flush(struct log_writer *w, struct bytes *b, size_t len, uint32_t records)
{
    struct log_mark m = {
        .flush = w->flush + 1,
        .bytes = (uint32_t)len,
        .records = records,
        .index = w->last_index,
        .term = w->last_term,
    };

    log_mark_encode(&m, b->data);
    for (size_t at = 0; at < len; at += log_record_size(get_le32(b->data + at + 8)))
        log_record_seal(b->data + at, w->seed, w->end + at);
}

static int write_flush(struct log *l, size_t len, uint32_t records)
{
    struct log_writer *w = &l->writer;
    size_t padded = (len + LOG_SECTOR_BYTES - 1) & ~(size_t)(LOG_SECTOR_BYTES - 1);
    uint8_t *pad = bytes_grow(&l->taken, padded - len);
    int rc = 0;

    if (pad == NULL) {
        l->taken.status = 0;
        return -ENOMEM;
    }
    memset(pad, 0, padded - len);
    if (w->end > LOG_HEAD_AREA_BYTES && w->end + padded > l->options.segment_bytes) {
        log_segment_retire(l); /* its failure costs space only, and is met again */
        rc = log_segment_roll(l);
    }
    if (rc == 0)
        rc = log_segment_room(l, w->end + padded);
    if (rc < 0)
        return rc;
    seal_flush(w, &l->taken, len, records);
    rc = l->disk->write(l->disk->ctx, w->file, w->end, l->taken.data, padded);
    if (rc < 0)
        return rc;
    if (l->disk->sync(l->disk->ctx, w->file) < 0)
        return -EIO;
    w->end += padded;
    w->flush++;
    return 0;
}

/* Takes what waits. Memory for its `placed` is there when it is taken, for then nothing may fail any more. */
static int take_waiting(struct log *l, struct log_placed *ret_placed, uint32_t *ret_records, uint64_t *ret_index,
                        uint64_t *ret_term)
{
    struct bytes b;
    int rc;

    pthread_mutex_lock(&l->mutex);
    rc = l->error;
    if (rc == 0)
        rc = log_reserve((void **)&l->placed, &l->placed_cap, l->placed_count, sizeof(*l->placed));
    if (rc == 0) {
        b = l->taken;
        l->taken = l->waiting;
        l->waiting = b;
        bytes_reset(&l->waiting);
        *ret_records = l->waiting_records;
        l->waiting_records = 0;
        *ret_placed = (struct log_placed){
            .stream_begin = l->waiting_begin,
            .stream_end = l->waiting_begin + l->taken.len - (*ret_records > 0 ? FRONT : 0),
        };
        *ret_index = l->waiting_last_index;
        *ret_term = l->waiting_last_term;
    }
    pthread_mutex_unlock(&l->mutex);
    return rc;
}

/* What could not be written waits again, in front of what came meanwhile. */
static void put_back(struct log *l, const struct log_placed *p, size_t len, uint32_t records)
{
    bool fits = true;

    l->taken.len = len;
    pthread_mutex_lock(&l->mutex);
    if (l->waiting_records > 0) {
        bytes_raw(&l->taken, l->waiting.data + FRONT, l->waiting.len - FRONT);
        fits = bytes_status(&l->taken) == 0;
    }
    if (fits) {
        struct bytes b = l->waiting;

        l->waiting = l->taken;
        l->taken = b;
        l->waiting_begin = p->stream_begin;
        l->waiting_records += records;
    } else {
        l->error = -EIO; /* part of the log is lost from memory: as bad as a failed write */
    }
    pthread_mutex_unlock(&l->mutex);
}

int log_flush(struct log *l, uint64_t *ret_synced)
{
    struct log_writer *w = &l->writer;
    struct log_placed placed = {0};
    uint64_t last_index = 0, last_term = 0;
    uint32_t records = 0;
    size_t len;
    int rc = take_waiting(l, &placed, &records, &last_index, &last_term);

    if (rc < 0)
        return rc;
    if (records == 0) {
        *ret_synced = w->last_index;
        return 0;
    }
    len = l->taken.len;
    rc = write_flush(l, len, records);
    if (rc == -EDQUOT)
        rc = -ENOSPC;
    if (rc == -ENOSPC || rc == -ENOMEM) {
        put_back(l, &placed, len, records);
        return rc;
    }
    if (rc < 0) {
        log_poison(l);
        return -EIO;
    }
    w->last_index = last_index;
    w->last_term = last_term;
    placed.segment = (uint32_t)w->sequence;
    placed.offset = w->end - ((len + LOG_SECTOR_BYTES - 1) & ~(size_t)(LOG_SECTOR_BYTES - 1)) + FRONT;
    pthread_mutex_lock(&l->mutex);
    l->durable_flush = w->flush;
    l->placed[l->placed_count++] = placed;
    pthread_mutex_unlock(&l->mutex);
    if (l->taken.cap > LOG_KEEP_BYTES)
        bytes_fini(&l->taken);
    *ret_synced = last_index;
    return 0;
}

static bool wants_room(const struct log *l)
{
    return l->writer.room - l->writer.end < l->step_bytes / 2 && l->writer.room < l->options.segment_bytes;
}

bool log_wants_tending(struct log *l)
{
    bool wants;

    pthread_mutex_lock(&l->mutex);
    wants = l->error == 0 && l->retired_count > 0;
    pthread_mutex_unlock(&l->mutex);
    return wants || wants_room(l);
}

int log_tend(struct log *l)
{
    struct log_writer *w = &l->writer;
    int rc, error;

    pthread_mutex_lock(&l->mutex);
    error = l->error;
    pthread_mutex_unlock(&l->mutex);
    if (error < 0)
        return error;
    rc = log_segment_retire(l);
    if (rc < 0 || !wants_room(l))
        return rc;
    rc = log_segment_room(l, w->room + 1);
    if (rc == 0 && l->disk->sync(l->disk->ctx, w->file) < 0) {
        log_poison(l);
        return -EIO;
    }
    return rc;
}
