/* Checkpoint files, each over a connection of its own, so that they stand in nobody's way. Who wants one dials and says from
 * which offset on; chunks come back as fast as the limit and the connection let them. After a break it dials again and goes on
 * where the file ends. Memory does not depend on the file's size: a chunk or two on each side. */
#include "raft/transport_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNKS_AT_ONCE 4                      /* then others have their turn */
#define READ_AHEAD_BYTES (4 * 1024 * 1024)    /* asked of the kernel, so that a read does not keep the loop waiting */
#define WRITE_BEHIND_BYTES (4 * 1024 * 1024)  /* dirty pages at most, or the last sync would be a long one */

/* ---- who sends ---- */

struct bulk {
    int fd;
    uint64_t offset, end;
    uint64_t due_us; /* by the rate limit; in microseconds of the loop's clock */
    uint8_t chunk[8 + TRANSPORT_CHUNK_BYTES];
};

void bulk_free(struct peer_conn *c)
{
    if (c->bulk == NULL)
        return;
    c->t->n_bulk--;
    close(c->bulk->fd);
    free(c->bulk);
    c->bulk = NULL;
}

static int refuse(struct peer_conn *c, uint32_t code, const char *text)
{
    struct bytes b;
    bool ok;

    bytes_init(&b);
    bytes_u32(&b, code);
    bytes_u32_slice(&b, slice_from_str(text));
    ok = bytes_status(&b) == 0 && conn_queue(c, PEER_FRAME_FETCH_END, bytes_slice(&b));
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM;
}

int bulk_take_fetch(struct peer_conn *c, struct slice payload)
{
    struct transport *t = c->t;
    struct peer_fetch m;
    struct peer_hello hello;
    char text[256] = "";
    struct stat st;
    uint32_t code;
    int fd;

    if (peer_fetch_decode(payload, &m) < 0 || peer_hello_decode(m.hello, &hello) < 0)
        return -EBADMSG;
    code = accept_judge(c, &hello, text, sizeof(text));
    if (code == PEER_HELLO_OK && t->n_bulk >= TRANSPORT_BULK_MAX)
        code = PEER_HELLO_BUSY;
    if (code != PEER_HELLO_OK)
        return refuse(c, code, text);
    fd = t->o.open_checkpoint != NULL ? t->o.open_checkpoint(t->o.ctx, m.index, m.crc) : -ENOENT;
    if (fd < 0)
        return refuse(c, PEER_HELLO_OK, "that checkpoint is not here any more");
    c->bulk = malloc(sizeof(*c->bulk));
    if (c->bulk == NULL || fstat(fd, &st) < 0 || m.offset > (uint64_t)st.st_size) {
        free(c->bulk);
        c->bulk = NULL;
        close(fd);
        return -EBADMSG;
    }
    t->n_bulk++;
    c->bulk->fd = fd;
    c->bulk->offset = m.offset;
    c->bulk->end = (uint64_t)st.st_size;
    c->bulk->due_us = 0;
    c->greeted = true;
    c->peer = hello.from;
    log_info(t->o.logger, "sending a checkpoint to member %016llx, from byte %llu of %llu on", (unsigned long long)c->peer,
             (unsigned long long)m.offset, (unsigned long long)st.st_size);
    bulk_pump(c);
    return 0;
}

static bool send_chunk(struct peer_conn *c)
{
    struct bulk *b = c->bulk;
    size_t want = b->end - b->offset < TRANSPORT_CHUNK_BYTES ? (size_t)(b->end - b->offset) : TRANSPORT_CHUNK_BYTES;
    ssize_t n = pread(b->fd, b->chunk + 8, want, (off_t)b->offset);

    if (n <= 0)
        return false;
    put_le64(b->chunk, b->offset);
    if (!conn_queue(c, PEER_FRAME_CHUNK, slice_make(b->chunk, 8 + (size_t)n)))
        return false;
    b->offset += (uint64_t)n;
    c->t->counters.bulk_bytes_sent += (uint64_t)n;
    if (b->offset % READ_AHEAD_BYTES < TRANSPORT_CHUNK_BYTES)
        posix_fadvise(b->fd, (off_t)b->offset, 2 * READ_AHEAD_BYTES, POSIX_FADV_WILLNEED);
    if (c->t->o.bulk_bytes_per_s != 0)
        b->due_us += (uint64_t)n * 1000000 / c->t->o.bulk_bytes_per_s;
    return true;
}

static bool has_room(const struct peer_conn *c)
{
    return stream_unsent(&c->stream) < 2 * TRANSPORT_CHUNK_BYTES;
}

void bulk_pump(struct peer_conn *c)
{
    struct transport *t = c->t;
    struct bulk *b = c->bulk;
    uint64_t now_us = transport_now_ms(t) * 1000;

    if (b->due_us + 100000 < now_us)
        b->due_us = now_us - 100000; /* what was not used is not saved up for more than a tenth of a second */
    for (int i = 0; i < CHUNKS_AT_ONCE && b->offset < b->end && b->due_us <= now_us && has_room(c); i++) {
        int rc = send_chunk(c) ? stream_flush(&c->stream) : -EIO;

        if (rc < 0) {
            conn_broke(c, rc == -EIO ? "the checkpoint cannot be read" : strerror(-rc));
            return;
        }
    }
    if (b->offset == b->end)
        return;
    if (has_room(c)) { /* else it goes on when the kernel has taken what there is */
        c->heard_ms = transport_now_ms(t);
        transport_arm(t, b->due_us > now_us ? b->due_us / 1000 + 1 : now_us / 1000 + 1);
    }
}

/* ---- who fetches ---- */

int fetch_greet(struct dial *d)
{
    struct transport *t = d->t;
    struct peer_fetch m = {.index = t->fetch.index, .crc = t->fetch.crc, .offset = t->fetch.offset};
    struct bytes hello, b;
    bool ok;

    bytes_init(&hello);
    bytes_init(&b);
    ok = dial_hello(d, t->fetch.from, &hello) == 0;
    m.hello = bytes_slice(&hello);
    peer_fetch_encode(&m, &b);
    ok = ok && bytes_status(&b) == 0 && conn_queue(d->conn, PEER_FRAME_FETCH, bytes_slice(&b));
    d->conn->greeted = true; /* chunks are longer than a hello */
    bytes_fini(&hello);
    bytes_fini(&b);
    return ok ? 0 : -ENOMEM;
}

static void finish(struct transport *t, int error)
{
    transport_fetch_end(t);
    if (t->o.fetched != NULL)
        t->o.fetched(t->o.ctx, error);
}

static int take_chunk(struct dial *d, struct slice payload)
{
    struct transport *t = d->t;
    size_t len = payload.len - 8;

    if (payload.len <= 8 || get_le64(payload.data) != t->fetch.offset || len > t->fetch.bytes - t->fetch.offset)
        return -EBADMSG;
    if (pwrite(t->fetch.fd, payload.data + 8, len, (off_t)t->fetch.offset) != (ssize_t)len) {
        log_error(t->o.logger, "a checkpoint cannot be written: %s", strerror(errno));
        finish(t, errno == ENOSPC ? -ENOSPC : -EIO);
        return 0;
    }
    t->fetch.offset += len;
    t->counters.bulk_bytes_received += len;
    if (t->fetch.offset % WRITE_BEHIND_BYTES < len)
        sync_file_range(t->fetch.fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    d->backoff_ms = 20;
    if (t->fetch.offset == t->fetch.bytes)
        finish(t, 0);
    else
        dial_set_state(d, DIAL_UP, transport_now_ms(t) + TRANSPORT_BULK_SILENCE_MS);
    return 0;
}

int fetch_take_frame(struct dial *d, uint8_t type, struct slice payload)
{
    struct reader r = reader_make(payload);
    uint32_t code;

    if (type == PEER_FRAME_CHUNK)
        return take_chunk(d, payload);
    code = reader_u32(&r);
    if (type != PEER_FRAME_FETCH_END || reader_status(&r) < 0)
        return -EBADMSG;
    if (code == PEER_HELLO_OK)
        finish(d->t, -ENOENT);
    else
        dial_drop(d, "it sends no file now");
    return 0;
}

void transport_fetch(void *ctx, const struct fetch *f)
{
    struct transport *t = ctx;
    struct dial *peer = dial_find(t, f->from);
    struct stat st;
    int rc;

    transport_fetch_end(t);
    t->fetch.from = f->from;
    t->fetch.index = f->index;
    t->fetch.bytes = f->bytes;
    t->fetch.crc = f->crc;
    t->fetch.fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    rc = t->fetch.fd < 0 ? -errno : fstat(t->fetch.fd, &st) < 0 ? -errno : 0;
    t->fetch.offset = rc == 0 && (uint64_t)st.st_size < f->bytes ? (uint64_t)st.st_size : 0;
    if (rc == 0)
        rc = peer != NULL ? dial_new(t, DIAL_FOR_FETCHING, f->from, peer->text) : -ENOENT;
    if (rc == 0) {
        t->fetch.dial = LIST_ITEM(t->dials.prev, struct dial, link);
        return;
    }
    log_error(t->o.logger, "a checkpoint cannot be fetched: %s", strerror(-rc));
    if (t->fetch.fd >= 0)
        close(t->fetch.fd);
    if (t->o.fetched != NULL)
        t->o.fetched(t->o.ctx, rc);
}

void transport_fetch_end(void *ctx)
{
    struct transport *t = ctx;
    struct dial *d = t->fetch.dial;

    if (d == NULL)
        return;
    t->fetch.dial = NULL;
    close(t->fetch.fd);
    dial_free(d);
}
