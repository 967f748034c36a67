/* gRPC's framing and its texts from any bytes. The first byte is the length of the pieces in which the rest comes: however it
 * is cut, the same messages come out. */
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "sidecar/grpc_text.h"
#include "tests/fuzz/fuzz.h"

#define MESSAGE_MAX 4096

struct seen {
    size_t count;
    uint32_t crc;
};

static int see(void *ctx, struct slice message, bool compressed)
{
    struct seen *s = ctx;

    FUZZ_MUST(message.len <= MESSAGE_MAX);
    s->count++;
    s->crc = crc32c(s->crc, message.data, message.len);
    return s->count == 100 ? 77 : 0;
}

static int feed(struct slice in, size_t piece, struct seen *ret_seen, bool *ret_partial)
{
    struct grpc_frames f = {0};
    int rc = 0;

    for (size_t at = 0; at < in.len && rc == 0; at += piece) {
        size_t n = in.len - at < piece ? in.len - at : piece;

        rc = grpc_frames_feed(&f, slice_make(in.data + at, n), MESSAGE_MAX, see, ret_seen);
        FUZZ_MUST(grpc_frames_held(&f) <= MESSAGE_MAX);
    }
    FUZZ_MUST(rc == 0 || rc == 77 || rc == -EMSGSIZE || rc == -EBADMSG);
    *ret_partial = grpc_frames_partial(&f);
    grpc_frames_fini(&f);
    return rc;
}

static void check_frames(struct slice in, size_t piece)
{
    struct seen whole = {0}, pieces = {0};
    bool whole_partial, pieces_partial;
    int rc = feed(in, in.len, &whole, &whole_partial);

    FUZZ_MUST(feed(in, piece, &pieces, &pieces_partial) == rc);
    FUZZ_MUST(whole.count == pieces.count && whole.crc == pieces.crc);
    FUZZ_MUST(rc != 0 || whole_partial == pieces_partial);
}

static void check_gunzip(struct slice in)
{
    uint8_t *data;
    size_t len;
    int rc = grpc_gunzip(in, MESSAGE_MAX, &data, &len);

    FUZZ_MUST(rc == 0 || rc == -EMSGSIZE || rc == -EBADMSG);
    if (rc == 0) {
        FUZZ_MUST(len <= MESSAGE_MAX);
        free(data);
    }
}

static void check_texts(struct slice in)
{
    struct bytes out;
    uint64_t ms;
    int rc = grpc_timeout_parse(in, &ms);

    FUZZ_MUST(rc == 0 || rc == -EBADMSG);
    bytes_init(&out);
    grpc_percent_encode(in, &out);
    FUZZ_MUST(out.len >= in.len && out.len <= 3 * in.len);
    for (size_t i = 0; i < out.len; i++)
        FUZZ_MUST(out.data[i] >= 0x20 && out.data[i] < 0x7f);
    bytes_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in;

    if (size < 2)
        return 0;
    in = slice_make(data + 1, size - 1);
    check_frames(in, data[0] != 0 ? data[0] : 1);
    check_texts(in);
    check_gunzip(in);
    return 0;
}
