/* Frames between members from any bytes, cut as a stream is; hellos, questions and requests for files by their type. Bit 7 of the first byte: CRCs are made good,
 * so that what lies behind them is reached. */
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "raft/peer_frame.h"
#include "tests/fuzz/fuzz.h"

#define LIMIT 65536

#define ROUND(name)                                                                                     \
    do {                                                                                                \
        struct peer_##name m[2];                                                                        \
        int rc = peer_##name##_decode(payload, &m[0]);                                                  \
                                                                                                        \
        FUZZ_MUST(rc == 0 || rc == -EBADMSG);                                                           \
        if (rc == 0) {                                                                                  \
            peer_##name##_encode(&m[0], &once);                                                         \
            FUZZ_MUST(peer_##name##_decode(bytes_slice(&once), &m[1]) == 0);                            \
            peer_##name##_encode(&m[1], &twice);                                                        \
            FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));                            \
        }                                                                                               \
    } while (0)

static void check(uint8_t type, struct slice payload)
{
    struct bytes once, twice, framed;
    struct peer_frame_head head;

    bytes_init(&once);
    bytes_init(&twice);
    bytes_init(&framed);
    if (type == PEER_FRAME_HELLO)
        ROUND(hello);
    else if (type == PEER_FRAME_HELLO_REPLY)
        ROUND(hello_reply);
    else if (type == PEER_FRAME_ASK)
        ROUND(ask);
    else if (type == PEER_FRAME_ANSWER)
        ROUND(answer);
    else if (type == PEER_FRAME_FETCH)
        ROUND(fetch);
    peer_frame_encode(&framed, type, payload);
    FUZZ_MUST(peer_frame_head_decode(bytes_slice(&framed), LIMIT, &head) == 1);
    FUZZ_MUST(head.type == type && head.payload_bytes == payload.len);
    FUZZ_MUST(peer_frame_verify(bytes_slice(&framed)) == 0);
    framed.data[framed.len - 1] ^= 1;
    FUZZ_MUST(peer_frame_verify(bytes_slice(&framed)) == -EBADMSG);
    bytes_fini(&framed);
    bytes_fini(&once);
    bytes_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest;
    bool verified_only;

    if (size < 1)
        return 0;
    verified_only = !(data[0] & 0x80);
    rest = slice_make(data + 1, size - 1);
    for (;;) {
        struct peer_frame_head head;
        int rc = peer_frame_head_decode(rest, LIMIT, &head);
        size_t whole;

        FUZZ_MUST(rc == 0 || rc == 1 || rc == -EBADMSG);
        if (rc <= 0)
            return 0;
        FUZZ_MUST(head.payload_bytes <= LIMIT);
        whole = PEER_FRAME_HEAD_BYTES + head.payload_bytes;
        if (rest.len < whole)
            return 0;
        if (peer_frame_verify(slice_make(rest.data, whole)) == 0 || !verified_only)
            check(head.type, slice_make(rest.data + PEER_FRAME_HEAD_BYTES, head.payload_bytes));
        rest.data += whole;
        rest.len -= whole;
    }
}
