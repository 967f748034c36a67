/* The local socket's frames from any bytes, cut as a stream is, each payload by its type. */
#include <errno.h>

#include "proto/socket.h"
#include "tests/fuzz/fuzz.h"

#define ROUND(name)                                                                                     \
    do {                                                                                                \
        struct socket_##name m[2];                                                                      \
        int rc = socket_##name##_decode(payload, &m[0]);                                                \
                                                                                                        \
        FUZZ_MUST(rc == 0 || rc == -EBADMSG || rc == -EPROTONOSUPPORT);                                 \
        if (rc == 0) {                                                                                  \
            socket_##name##_encode(&m[0], &once);                                                       \
            FUZZ_MUST(socket_##name##_decode(bytes_slice(&once), &m[1]) == 0);                          \
            socket_##name##_encode(&m[1], &twice);                                                      \
            FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));                            \
        }                                                                                               \
    } while (0)

static void check(uint8_t type, struct slice payload)
{
    struct bytes once, twice;

    bytes_init(&once);
    bytes_init(&twice);
    switch (type) {
    case SOCKET_HELLO:
        ROUND(hello);
        break;
    case SOCKET_WELCOME:
        ROUND(welcome);
        break;
    case SOCKET_PROPOSED:
        ROUND(proposed);
        break;
    case SOCKET_BARRIER_DONE:
        ROUND(barrier_done);
        break;
    case SOCKET_NOTICE:
        ROUND(notice);
        break;
    case SOCKET_LEADER:
        ROUND(leader);
        break;
    default:
        break;
    }
    bytes_fini(&once);
    bytes_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size);

    for (;;) {
        struct socket_head head;
        int rc = socket_head_decode(rest, 65536, &head);

        FUZZ_MUST(rc == 0 || rc == 1 || rc == -EBADMSG);
        if (rc <= 0)
            return 0;
        FUZZ_MUST(head.payload_bytes <= 65536);
        if (rest.len - SOCKET_HEAD_BYTES < head.payload_bytes)
            return 0;
        check(head.type, slice_make(rest.data + SOCKET_HEAD_BYTES, head.payload_bytes));
        rest.data += SOCKET_HEAD_BYTES + head.payload_bytes;
        rest.len -= SOCKET_HEAD_BYTES + head.payload_bytes;
    }
}
