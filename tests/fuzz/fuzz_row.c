/* Rows of the store from any bytes, as a damaged environment could hold them; the first byte says which. */
#include <errno.h>

#include "store/row.h"
#include "tests/fuzz/fuzz.h"

static bool known(int rc)
{
    return rc == 0 || rc == -EUCLEAN || rc == -EPROTONOSUPPORT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in;
    struct node node;
    struct chain chain;
    struct log_row row;
    struct rev rev = {5, 1};
    uint16_t piece;
    int rc;

    if (size < 1)
        return 0;
    in = slice_make(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        rc = node_row_decode(in, &node);
        FUZZ_MUST(known(rc));
        FUZZ_MUST(rc < 0 || (node.chain.n_skip <= SKIP_LEVELS && node.value.len <= in.len));
        break;
    case 1:
        rc = gone_row_decode(in, &chain);
        FUZZ_MUST(known(rc));
        FUZZ_MUST(rc < 0 || chain.n_skip <= SKIP_LEVELS);
        break;
    case 2:
        rc = log_row_decode(in, rev, &row);
        FUZZ_MUST(known(rc));
        FUZZ_MUST(rc < 0 || row.n_skip <= SKIP_LEVELS);
        break;
    default:
        FUZZ_MUST(known(log_key_decode(in, &rev, &piece)));
        break;
    }
    return 0;
}
