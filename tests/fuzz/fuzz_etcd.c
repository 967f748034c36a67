/* etcd's messages from any bytes; the first byte says which decoder. What was decoded survives being encoded. */
#include <errno.h>

#include "proto/etcd.h"
#include "tests/fuzz/fuzz.h"

/* Decoding, encoding, and both again must end at the same bytes. */
#define ROUND(decode, encode, first, second)                                                            \
    do {                                                                                                \
        if (decode(in, first) == 0) {                                                                   \
            encode(first, &once);                                                                       \
            FUZZ_MUST(decode(bytes_slice(&once), second) == 0);                                         \
            encode(second, &twice);                                                                     \
            FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));                            \
        }                                                                                               \
    } while (0)

static struct arena *scratch;

static int txn_decode(struct slice in, struct txn *ret_txn)
{
    int rc = etcd_txn_decode(in, scratch, ret_txn);

    FUZZ_MUST(rc == 0 || rc == -EBADMSG || rc == -E2BIG || rc == -ENOMEM);
    return rc;
}

static int range_result_decode(struct slice in, struct range_result *ret_result)
{
    return etcd_range_response_decode(in, scratch, ret_result);
}

static void check(uint8_t which, struct slice in, struct arena *arena)
{
    struct bytes once, twice;
    struct op_put put[2];
    struct op_delete del[2];
    struct op_range range[2];
    struct txn txn[2];
    struct range_result answer[2];
    struct op_result op;
    struct kv kv[2];
    int64_t revision;
    bool physical;

    bytes_init(&once);
    bytes_init(&twice);
    scratch = arena;
    switch (which) {
    case 0:
        ROUND(etcd_put_decode, etcd_put_encode, &put[0], &put[1]);
        break;
    case 1:
        ROUND(etcd_delete_decode, etcd_delete_encode, &del[0], &del[1]);
        break;
    case 2:
        ROUND(etcd_range_decode, etcd_range_encode, &range[0], &range[1]);
        break;
    case 3:
        ROUND(txn_decode, etcd_txn_encode, &txn[0], &txn[1]);
        break;
    case 4:
        ROUND(etcd_kv_decode, etcd_kv_encode, &kv[0], &kv[1]);
        break;
    case 5:
        ROUND(range_result_decode, etcd_range_response_encode, &answer[0], &answer[1]);
        break;
    case 6:
        etcd_compact_decode(in, &revision, &physical);
        break;
    default:
        etcd_op_result_decode((enum op_kind)(which - 6), in, arena, &op);
        break;
    }
    scratch = NULL;
    bytes_fini(&once);
    bytes_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;

    if (size < 1)
        return 0;
    arena_init(&arena);
    check(data[0] % 11, slice_make(data + 1, size - 1), &arena);
    arena_fini(&arena);
    return 0;
}
