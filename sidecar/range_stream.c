#include "sidecar/range_stream.h"

#include "proto/wire.h"
#include "sidecar/grpc_text.h"
#include "sidecar/range_sort.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define JOB_MS 20 /* one read transaction of the measuring pass */
#define KVS_FIELD 2
#define MESSAGE_MAX INT32_MAX /* etcd's servers send no more, its clients take no more */

struct range_stream {
    struct app *app;
    struct grpc_call *call; /* NULL: ended while a job was out */
    struct op_range op;     /* key: in from */
    uint8_t *end;           /* of op.range_end */
    struct bytes from, key; /* of the job under way; where the next one goes on */
    struct etcd_header header;
    bool chunks; /* RangeStream: every piece is a message, and nothing is measured */
    bool measuring, began, stopped, at_end, more;
    int64_t left;           /* kvs of the limit; INT64_MAX without one */
    int64_t count;          /* of the whole range */
    uint64_t total, sent;   /* bytes of the message */
    int64_t measured_left;  /* what left is at the begin of the second pass */
    struct bytes first_key;
    bool filtered; /* by revisions: what is left of the range shows when it is read */
    /* another order than the store's: rounds (range_sort.h), of which each is first scanned, then sent */
    struct range_sort *sort;
    bool limited;       /* not all of the range is in the answer: measuring has to sort too */
    bool cut_first;     /* etcd's: a target without an order is sorted after the limit was applied in key order */
    bool in_round, scanned; /* scanned: it is being sent */
    unsigned rounds;
    size_t next;        /* of the round's entries */
    int64_t seen, matches; /* in this round, in the first one */
    /* the job */
    uv_work_t work;
    bool working;
    struct store_lease *lease;
    struct bytes scratch, piece;
    uint64_t started_ms;
    int rc;
    uint16_t status;
};

static bool has_filters(const struct op_range *op)
{
    return op->min_mod_revision != 0 || op->max_mod_revision != 0 || op->min_create_revision != 0 ||
           op->max_create_revision != 0;
}

static bool is_sorted(const struct op_range *op)
{
    return op->sort_target != SORT_BY_KEY || op->sort_order == SORT_DESCEND;
}

bool range_stream_possible(const struct op_range *op)
{
    return op->range_end.len != 0 && !op->count_only;
}

static void stream_free(struct range_stream *s)
{
    bytes_fini(&s->from);
    bytes_fini(&s->key);
    bytes_fini(&s->first_key);
    bytes_fini(&s->scratch);
    bytes_fini(&s->piece);
    range_sort_free(s->sort);
    free(s->end);
    free(s);
}

/* ---- in the worker ---- */

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static size_t head_len(size_t len)
{
    struct wire_out o = {NULL, 0};

    wire_head(&o, KVS_FIELD, len);
    return o.n;
}

/* Whether there can be keys from s->key on. */
static bool range_goes_on(const struct range_stream *s)
{
    bool to_infinity = s->op.range_end.len == 1 && s->op.range_end.data[0] == 0;

    return to_infinity || slice_cmp(bytes_slice(&s->key), s->op.range_end) < 0;
}

static int on_kv(void *ctx, const struct kv *kv)
{
    struct range_stream *s = ctx;

    bytes_reset(&s->scratch);
    etcd_kv_encode(kv, &s->scratch);
    bytes_reset(&s->key); /* the smallest key behind this one */
    bytes_append(&s->key, kv->key);
    bytes_u8(&s->key, 0);
    if (bytes_status(&s->scratch) < 0 || bytes_status(&s->key) < 0)
        return -ENOMEM;
    if (s->left == 0) { /* filtered: only now is it known that there is one more */
        s->more = true;
        return 1;
    }
    s->left--;
    s->count += s->chunks;
    if (s->measuring) {
        s->total += head_len(s->scratch.len) + s->scratch.len;
        s->stopped = s->left > 0 && (s->left & 63) == 0 && now_ms() - s->started_ms > JOB_MS;
    } else {
        bytes_u8(&s->piece, KVS_FIELD << 3 | WIRE_BYTES);
        bytes_varint_slice(&s->piece, bytes_slice(&s->scratch));
        s->stopped = s->piece.len >= RANGE_PIECE_BYTES;
    }
    return (s->left == 0 && !(s->measuring && s->filtered)) || s->stopped;
}

static void emit_tail(struct wire_out *o, const struct range_stream *s)
{
    wire_uint(o, 3, s->more);
    wire_int(o, 4, s->count);
}

WIRE_MESSAGE(tail, const struct range_stream *)

/* What the answer holds beside kvs: counted in the first job's transaction, which also fixes the revision. */
static int begin_measuring(struct range_stream *s, struct store_read *r)
{
    struct op_range op = s->op;
    struct range_result result;
    struct arena arena;
    struct bytes header;
    int rc;

    op.count_only = true;
    arena_init(&arena);
    rc = store_range(r, &op, &arena, 0, &result, &s->status);
    arena_fini(&arena);
    if (rc < 0 || s->status != STATUS_OK)
        return rc;
    s->header.revision = store_read_revision(r);
    if (s->op.revision <= 0)
        s->op.revision = s->header.revision;
    s->count = result.count;
    s->more = !s->filtered && s->count > s->left;
    s->limited = s->sort != NULL && !s->cut_first && s->op.limit > 0 && (s->filtered || s->more);
    bytes_init(&header);
    etcd_header_encode(&s->header, &header);
    s->total = header.len; /* the tail follows when it is known */
    rc = bytes_status(&header);
    bytes_fini(&header);
    return rc;
}

/* The revision of all chunks; what is wrong with it the first read says. */
static void begin_chunks(struct range_stream *s, struct store_read *r)
{
    s->header.revision = store_read_revision(r);
    if (s->op.revision <= 0)
        s->op.revision = s->header.revision;
}

/* How many keys of the range there are from s->key on. */
static int count_from_key(struct range_stream *s, struct store_read *r, int64_t *ret_count)
{
    struct op_range op = s->op;
    struct range_result result;
    struct arena arena;
    int rc;

    op.key = bytes_slice(&s->key);
    op.count_only = true;
    arena_init(&arena);
    rc = store_range(r, &op, &arena, 0, &result, &s->status);
    arena_fini(&arena);
    if (rc == 0 && s->status == STATUS_OK)
        *ret_count = result.count;
    return rc;
}

/* The limit has been reached, or nothing but the count was asked for: what is behind is counted. */
static int count_rest(struct range_stream *s, struct store_read *r)
{
    int64_t rest = 0;
    int rc = 0;

    if (s->op.count_only || (s->op.range_end.len != 0 && range_goes_on(s)))
        rc = count_from_key(s, r, &rest);
    s->count += rest;
    s->more = rest > 0 && !s->op.count_only;
    return rc;
}

/* The message's prefix and header, at the begin of the second pass. */
static void begin_sending(struct range_stream *s)
{
    uint8_t *prefix = bytes_grow(&s->piece, GRPC_PREFIX_BYTES);

    if (prefix == NULL)
        return;
    prefix[0] = 0;
    put_be32(prefix + 1, (uint32_t)s->total);
    etcd_header_encode(&s->header, &s->piece);
}

static int read_some(struct range_stream *s, struct store_read *r)
{
    int64_t emitted;
    int rc;

    bytes_reset(&s->from);
    bytes_append(&s->from, bytes_slice(&s->key));
    if (bytes_status(&s->from) < 0)
        return -ENOMEM;
    s->op.key = bytes_slice(&s->from);
    s->op.limit = 0; /* left does it */
    s->stopped = false;
    rc = s->left > 0 ? store_range_each(r, &s->op, on_kv, s, &emitted, &s->status) : 0;
    if (rc < 0 || s->status != STATUS_OK)
        return rc;
    s->at_end = !s->stopped || s->left == 0;
    if (s->chunks && s->left == 0) {
        rc = count_rest(s, r);
        if (rc < 0 || s->status != STATUS_OK)
            return rc;
    }
    if (!s->measuring && s->at_end)
        append_tail(s, &s->piece);
    return bytes_status(&s->piece);
}

/* ---- another order: rounds ---- */

static int on_sorted_kv(void *ctx, const struct kv *kv)
{
    struct range_stream *s = ctx;
    uint64_t size = 0;
    int rc;

    if (s->cut_first && s->seen == s->measured_left)
        return 1;
    s->seen++;
    if (s->measuring) {
        bytes_reset(&s->scratch);
        etcd_kv_encode(kv, &s->scratch);
        size = s->scratch.len;
    }
    bytes_reset(&s->key);
    bytes_append(&s->key, kv->key);
    bytes_u8(&s->key, 0);
    if (bytes_status(&s->scratch) < 0 || bytes_status(&s->key) < 0)
        return -ENOMEM;
    rc = range_sort_offer(s->sort, kv, size);
    if (rc < 0)
        return rc;
    s->stopped = (s->seen & 63) == 0 && now_ms() - s->started_ms > JOB_MS;
    return s->stopped;
}

static int begin_round(struct range_stream *s)
{
    if (!s->in_round)
        range_sort_rewind(s->sort);
    s->in_round = true;
    s->scanned = false;
    s->seen = 0;
    s->next = 0;
    s->rounds++;
    range_sort_begin(s->sort, s->left);
    bytes_reset(&s->key);
    bytes_append(&s->key, bytes_slice(&s->first_key));
    return bytes_status(&s->key);
}

/* All of it was measured: now it is known what the message holds. */
static void measure_round(struct range_stream *s)
{
    size_t n = range_sort_count(s->sort);

    for (size_t i = 0; i < n && s->left > 0; i++, s->left--)
        s->total += head_len(range_sort_size(s->sort, i)) + range_sort_size(s->sort, i);
    s->next = n;
}

/* What the round has kept goes into the piece, each key read once more. */
static int send_round(struct range_stream *s, struct store_read *r)
{
    struct op_range op = {.revision = s->op.revision, .keys_only = s->op.keys_only};
    struct arena arena;
    int rc = 0;

    arena_init(&arena);
    for (; rc == 0 && s->next < range_sort_count(s->sort) && s->left > 0 && s->piece.len < RANGE_PIECE_BYTES; s->next++) {
        struct range_result result;

        arena_reset(&arena);
        op.key = range_sort_key(s->sort, s->next);
        rc = store_range(r, &op, &arena, 0, &result, &s->status);
        if (rc < 0 || s->status != STATUS_OK)
            break;
        if (result.n_kvs != 1) {
            rc = -EIO;
            break;
        }
        bytes_reset(&s->scratch);
        etcd_kv_encode(&result.kvs[0], &s->scratch);
        bytes_u8(&s->piece, KVS_FIELD << 3 | WIRE_BYTES);
        bytes_varint_slice(&s->piece, bytes_slice(&s->scratch));
        rc = bytes_status(&s->scratch);
        s->left--;
    }
    arena_fini(&arena);
    return rc;
}

/* One slice of a round's scan, or, once that is over, what it has found. */
static int sort_some(struct range_stream *s, struct store_read *r)
{
    int64_t emitted;
    int rc = 0;

    if (!s->in_round || (s->scanned && s->next == range_sort_count(s->sort)))
        rc = begin_round(s);
    if (rc == 0 && !s->scanned) {
        bytes_reset(&s->from);
        bytes_append(&s->from, bytes_slice(&s->key));
        s->op.key = bytes_slice(&s->from);
        s->op.limit = 0;
        s->stopped = false;
        rc = bytes_status(&s->from);
        if (rc == 0) {
            bool keys_only = s->op.keys_only;

            /* values are read where they are measured or compared */
            s->op.keys_only = keys_only || (!s->measuring && s->op.sort_target != SORT_BY_VALUE);
            rc = store_range_each(r, &s->op, on_sorted_kv, s, &emitted, &s->status);
            s->op.keys_only = keys_only;
        }
        if (rc < 0 || s->status != STATUS_OK || s->stopped)
            return rc;
        s->scanned = true;
        range_sort_end(s->sort);
        if (s->measuring && s->rounds == 1) {
            s->matches = s->seen;
            s->more = s->matches > s->measured_left;
        }
        if (s->measuring)
            measure_round(s);
        return 0;
    }
    return rc == 0 ? send_round(s, r) : rc;
}

/* -EFBIG: not in bounded time. */
static int read_sorted(struct range_stream *s, struct store_read *r)
{
    int rc = sort_some(s, r);
    bool over;

    if (rc < 0 || s->status != STATUS_OK || !s->scanned)
        return rc;
    over = s->next == range_sort_count(s->sort) || s->left == 0;
    s->at_end = over && (s->left == 0 || !range_sort_goes_on(s->sort));
    if (over && !s->at_end && s->rounds >= RANGE_SORT_ROUNDS_MAX)
        return -EFBIG;
    if (s->at_end && !s->measuring)
        append_tail(s, &s->piece);
    return bytes_status(&s->piece);
}

static void stream_work(uv_work_t *work)
{
    struct range_stream *s = work->data;
    struct store_read *r;

    s->started_ms = now_ms();
    s->status = STATUS_OK;
    s->rc = store_read_begin(store_lease_store(s->lease), &r);
    if (s->rc < 0)
        return;
    if (!s->began) {
        s->began = true;
        if (s->chunks)
            begin_chunks(s, r);
        else if (s->measuring)
            s->rc = begin_measuring(s, r);
        else
            begin_sending(s);
    }
    if (s->rc == 0 && s->status == STATUS_OK)
        s->rc = s->sort != NULL && (s->limited || !s->measuring) ? read_sorted(s, r) : read_some(s, r);
    store_read_end(r);
}

/* ---- in the loop ---- */

static void start_job(struct range_stream *s);

static void start_second_pass(struct range_stream *s)
{
    char text[96];

    s->total += size_tail(s);
    s->in_round = false;
    s->rounds = 0;
    if (s->total > MESSAGE_MAX) {
        snprintf(text, sizeof text, "grpc: trying to send message larger than max (%llu vs. %d)",
                 (unsigned long long)s->total, MESSAGE_MAX);
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    s->measuring = s->began = s->at_end = false;
    s->left = s->measured_left;
    bytes_reset(&s->key);
    bytes_append(&s->key, bytes_slice(&s->first_key));
    start_job(s);
}

static void send_piece(struct range_stream *s)
{
    struct grpc_call *call = s->call;
    bool last = s->at_end;
    size_t len = s->piece.len;

    s->sent += len;
    if (s->sent > s->total + GRPC_PREFIX_BYTES || (last && s->sent != s->total + GRPC_PREFIX_BYTES)) {
        log_error(&s->app->log, "range: the second pass came to %llu bytes, the first to %llu", (unsigned long long)s->sent,
                  (unsigned long long)s->total + GRPC_PREFIX_BYTES);
        grpc_finish(s->call, GRPC_INTERNAL, "quorumfs: the range changed while it was read");
        return;
    }
    if (grpc_send_part(call, bytes_slice(&s->piece), last) < 0) {
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    bytes_reset(&s->piece);
    if (last)
        grpc_finish(call, GRPC_OK, NULL);
    else
        grpc_want_drained(call, RANGE_QUEUE_BYTES);
}

/* One RangeStreamResponse: the kvs of the piece, and in the last one the header. */
static void send_chunk(struct range_stream *s)
{
    struct bytes head, header;
    uint8_t tag[16];
    struct wire_out o = {tag, 0};

    bytes_init(&head);
    bytes_init(&header);
    if (s->at_end)
        etcd_header_encode(&s->header, &header);
    wire_head(&o, 1, header.len + s->piece.len);
    bytes_raw(&head, tag, o.n);
    bytes_append(&head, bytes_slice(&header));
    if (bytes_status(&header) < 0 || bytes_status(&head) < 0) {
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else {
        struct grpc_call *call = s->call;
        bool last = s->at_end;

        grpc_send_bytes(call, bytes_slice(&head), bytes_slice(&s->piece));
        bytes_reset(&s->piece);
        if (last)
            grpc_finish(call, GRPC_OK, NULL);
        else
            grpc_want_drained(call, RANGE_QUEUE_BYTES);
    }
    bytes_fini(&header);
    bytes_fini(&head);
}

static void stream_worked(uv_work_t *work, int status)
{
    struct range_stream *s = work->data;

    s->working = false;
    node_line_release(s->app->line, s->lease);
    if (s->call == NULL) {
        stream_free(s);
    } else if (s->rc == -ENOMEM) {
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else if (s->rc == -EFBIG) {
        grpc_finish(s->call, GRPC_RESOURCE_EXHAUSTED, "quorumfs: answer is too large to be sorted, use a limit");
    } else if (s->rc < 0) {
        log_error(&s->app->log, "range: %s", strerror(-s->rc));
        grpc_finish(s->call, GRPC_INTERNAL, "quorumfs: reading the store failed");
    } else if (s->status != STATUS_OK) {
        grpc_finish_status(s->call, s->status);
    } else if (s->chunks) {
        send_chunk(s);
    } else if (!s->measuring && s->sort != NULL && !s->at_end && s->piece.len < RANGE_PIECE_BYTES) {
        start_job(s); /* nothing to send yet */
    } else if (!s->measuring) {
        send_piece(s);
    } else if (s->at_end) {
        start_second_pass(s);
    } else {
        start_job(s);
    }
}

static void start_job(struct range_stream *s)
{
    s->lease = node_line_lease(s->app->line);
    if (s->lease == NULL) {
        grpc_finish_status(s->call, STATUS_TIMEOUT);
        return;
    }
    s->working = true;
    s->work.data = s;
    uv_queue_work(s->app->loop, &s->work, stream_work, stream_worked);
}

int range_stream_start(struct app *app, struct grpc_call *call, const struct op_range *op, enum range_stream_form form,
                       struct range_stream **ret_stream)
{
    struct range_stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ENOMEM;
    s->app = app;
    s->call = call;
    s->op = *op;
    s->left = s->measured_left = op->count_only ? 0 : op->limit > 0 ? op->limit : INT64_MAX;
    s->chunks = form == RANGE_IN_CHUNKS;
    s->measuring = !s->chunks;
    s->filtered = has_filters(op);
    s->cut_first = op->sort_order == SORT_NONE && op->sort_target != SORT_BY_KEY && !s->filtered && op->limit > 0;
    s->sort = is_sorted(op) ? range_sort_new(op, RANGE_SORT_BYTES) : NULL;
    s->header = node_line_header(app->line, 0);
    s->end = malloc(op->range_end.len + 1);
    bytes_append(&s->key, op->key);
    bytes_append(&s->first_key, op->key);
    if (s->end == NULL || (s->sort == NULL && is_sorted(op)) || bytes_status(&s->key) < 0 || bytes_status(&s->first_key) < 0) {
        stream_free(s);
        return -ENOMEM;
    }
    if (op->range_end.len > 0)
        memcpy(s->end, op->range_end.data, op->range_end.len);
    s->op.range_end = slice_make(s->end, op->range_end.len);
    *ret_stream = s; /* before the job: that may end the call */
    start_job(s);
    return 0;
}

void range_stream_drained(struct range_stream *s)
{
    if (s != NULL && !s->working)
        start_job(s);
}

void range_stream_end(struct range_stream *s)
{
    if (s == NULL)
        return;
    s->call = NULL;
    if (!s->working)
        stream_free(s);
}
