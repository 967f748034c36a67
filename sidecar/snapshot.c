/* snapshot.c - etcdserverpb.Maintenance/Snapshot: the newest checkpoint file (docs/disk.md), made for this call, with zeros up to
 * a multiple of 512 bytes behind it and then its SHA-256, as etcd's clients expect it.
 *
 * The file is read as the client takes it, a piece at a time in a worker; nothing ever writes into it, and the open
 * descriptor keeps it when a newer one replaces it. */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 512
#define DIGEST_BYTES 32

struct snapshot {
    struct ask ask; /* call NULL: ended while a worker has it */
    int fd;
    uint64_t file_bytes, total_bytes, sent_bytes;
    EVP_MD_CTX *digest;
    bool counted;
    /* the worker's */
    uv_work_t work;
    bool working;
    uint8_t *piece; /* SNAPSHOT_PIECE_BYTES */
    size_t piece_bytes;
    int rc;
};

static void snapshot_free(struct snapshot *s)
{
    if (s->fd >= 0)
        close(s->fd);
    EVP_MD_CTX_free(s->digest);
    s->ask.app->snapshots -= s->counted;
    free(s->piece);
    free(s);
}

static void emit_piece(struct wire_out *o, uint64_t remaining, struct slice blob)
{
    wire_uint(o, 2, remaining);
    wire_bytes(o, 3, blob);
    wire_bytes(o, 4, slice_from_str(ETCD_CLUSTER_VERSION));
}

static bool send_piece(struct snapshot *s, struct slice blob, uint64_t remaining)
{
    struct wire_out o = {NULL, 0};
    struct grpc_out *out;

    emit_piece(&o, remaining, blob);
    out = grpc_out_new(o.n, 0);
    if (out == NULL) {
        ask_no_memory(s->ask.call);
        return false;
    }
    o = (struct wire_out){grpc_out_head(out), 0};
    emit_piece(&o, remaining, blob);
    grpc_send(s->ask.call, out);
    return true;
}

/* ---- in the worker ---- */

static int read_piece(struct snapshot *s)
{
    uint64_t left = s->total_bytes - s->sent_bytes;
    size_t want = left < SNAPSHOT_PIECE_BYTES ? (size_t)left : SNAPSHOT_PIECE_BYTES;
    size_t got = 0;

    while (got < want && s->sent_bytes + got < s->file_bytes) {
        uint64_t of_file = s->file_bytes - s->sent_bytes - got;
        size_t size = want - got < of_file ? want - got : (size_t)of_file;
        ssize_t n = pread(s->fd, s->piece + got, size, (off_t)(s->sent_bytes + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EUCLEAN;
        got += (size_t)n;
    }
    memset(s->piece + got, 0, want - got);
    s->piece_bytes = want;
    return EVP_DigestUpdate(s->digest, s->piece, want) == 1 ? 0 : -EIO;
}

static void snapshot_work(uv_work_t *work)
{
    struct snapshot *s = work->data;

    s->rc = read_piece(s);
}

/* ---- in the loop ---- */

static void send_digest(struct snapshot *s)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_DigestFinal_ex(s->digest, sum, &len) != 1 || len != DIGEST_BYTES)
        grpc_finish(s->ask.call, GRPC_INTERNAL, "quorumfs: SHA-256 failed");
    else if (send_piece(s, slice_make(sum, len), 0))
        grpc_finish(s->ask.call, GRPC_OK, NULL);
}

static void snapshot_worked(uv_work_t *work, int status);

static void read_next(struct snapshot *s)
{
    s->working = true;
    s->work.data = s;
    uv_queue_work(s->ask.app->loop, &s->work, snapshot_work, snapshot_worked);
}

static void snapshot_worked(uv_work_t *work, int status)
{
    struct snapshot *s = work->data;

    s->working = false;
    if (s->ask.call == NULL) {
        snapshot_free(s);
        return;
    }
    if (s->rc < 0) {
        log_error(&s->ask.app->log, "reading a checkpoint: %s", strerror(-s->rc));
        grpc_finish(s->ask.call, GRPC_INTERNAL, "quorumfs: reading the checkpoint failed");
        return;
    }
    s->sent_bytes += s->piece_bytes;
    if (!send_piece(s, slice_make(s->piece, s->piece_bytes), s->total_bytes - s->sent_bytes))
        return;
    if (s->sent_bytes == s->total_bytes)
        send_digest(s);
    else
        grpc_want_drained(s->ask.call, SNAPSHOT_QUEUE_BYTES);
}

static int open_file(struct snapshot *s, struct slice path)
{
    char name[PATH_MAX];
    struct stat st;

    if (path.len == 0 || path.len >= sizeof name)
        return -ENAMETOOLONG;
    memcpy(name, path.data, path.len);
    name[path.len] = '\0';
    s->fd = open(name, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        return -errno;
    s->file_bytes = (uint64_t)st.st_size;
    s->total_bytes = (s->file_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    s->piece = malloc(SNAPSHOT_PIECE_BYTES);
    s->digest = EVP_MD_CTX_new();
    if (s->piece == NULL || s->digest == NULL || EVP_DigestInit_ex(s->digest, EVP_sha256(), NULL) != 1)
        return -ENOMEM;
    return s->file_bytes > 0 ? 0 : -EUCLEAN;
}

static void on_checkpoint(void *arg, const struct socket_maintain_done *done)
{
    struct snapshot *s = arg;
    int rc;

    ask_done(&s->ask);
    if (done->status != STATUS_OK) {
        grpc_finish_status(s->ask.call, done->status);
        return;
    }
    rc = open_file(s, done->path);
    if (rc < 0) {
        log_error(&s->ask.app->log, "opening the checkpoint: %s", strerror(-rc));
        grpc_finish(s->ask.call, GRPC_INTERNAL, "quorumfs: opening the checkpoint failed");
        return;
    }
    read_next(s);
}

static void snapshot_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct socket_maintain m = {.op = SOCKET_MAINTAIN_CHECKPOINT};
    struct snapshot *s;

    if (grpc_state(call) != NULL) {
        grpc_finish(call, GRPC_INTERNAL, "a call of Snapshot has one request");
        return;
    }
    if (ask_refused_even_of_learners(call))
        return;
    if (app->snapshots >= SNAPSHOTS_MAX) {
        grpc_finish_status(call, STATUS_TOO_MANY_REQUESTS);
        return;
    }
    s = ask_begin(call, sizeof *s);
    if (s == NULL)
        return;
    s->fd = -1;
    s->counted = true;
    app->snapshots++;
    ask_waits(&s->ask, client_maintain(node_line_client(app->line), &m, client_now_ms() + SNAPSHOT_WRITE_MS, on_checkpoint, s));
}

static void snapshot_half_close(struct grpc_call *call)
{
    if (grpc_state(call) == NULL)
        grpc_finish(call, GRPC_INTERNAL, "a call of Snapshot has one request");
}

static void snapshot_drained(struct grpc_call *call)
{
    struct snapshot *s = grpc_state(call);

    if (s != NULL && !s->working)
        read_next(s);
}

static void snapshot_end(struct grpc_call *call)
{
    struct snapshot *s = grpc_state(call);

    if (s == NULL)
        return;
    ask_cancel(&s->ask);
    s->ask.call = NULL;
    if (!s->working)
        snapshot_free(s);
}

const struct grpc_method maintenance_snapshot = {.path = "/etcdserverpb.Maintenance/Snapshot",
                                                 .kind = GRPC_STREAM,
                                                 .message = snapshot_message,
                                                 .half_close = snapshot_half_close,
                                                 .drained = snapshot_drained,
                                                 .end = snapshot_end};
