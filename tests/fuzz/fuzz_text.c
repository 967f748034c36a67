/* The rest of what comes from outside; the first byte says what: 0 the identity of a data directory, 1 URLs of a command line,
 * 2 a membership as a peer sends it, 3 headers of a request (lines "name:value"), 4 and 5 a transaction of quorumctl. */
#include <errno.h>
#include <string.h>

#include "base/url.h"
#include "raft/core_library.h"
#include "raft/identity.h"
#include "sidecar/h2_check.h"
#include "tests/fuzz/fuzz.h"
#include "tools/ctl.h"

static void check_identity(struct slice in)
{
    struct identity id, again;
    struct bytes out;
    int rc = identity_decode(in, &id);

    FUZZ_MUST(rc == 0 || rc == -EBADMSG || rc == -EPROTONOSUPPORT);
    if (rc < 0)
        return;
    bytes_init(&out);
    identity_encode(&id, &out);
    FUZZ_MUST(identity_decode(bytes_slice(&out), &again) == 0);
    FUZZ_MUST(again.cluster_id == id.cluster_id && again.member_id == id.member_id && strcmp(again.name, id.name) == 0);
    bytes_fini(&out);
}

static void check_urls(struct slice in)
{
    struct url urls[URL_LIST_MAX], again;
    size_t count;
    struct slice bad;
    const char *why = NULL;
    int rc = url_list_parse(in, urls, URL_LIST_MAX, &count, &bad, &why);

    FUZZ_MUST(rc == 0 || rc == -EINVAL);
    FUZZ_MUST(rc == 0 || why != NULL);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        char text[2][URL_TEXT_MAX_BYTES];

        url_format(&urls[i], text[0], sizeof(text[0]));
        FUZZ_MUST(url_parse(slice_from_str(text[0]), &again, &why) == 0);
        url_format(&again, text[1], sizeof(text[1]));
        FUZZ_MUST(strcmp(text[0], text[1]) == 0);
        url_format_address(&urls[i], text[0], sizeof(text[0]));
    }
}

static void check_membership(struct slice in)
{
    struct raft_configuration conf;

    int rc = core_membership_decode(in, &conf);

    /* The check is all that stands between a peer's bytes and the library. */
    FUZZ_MUST(rc == core_membership_check(in) || rc == -ENOMEM);
    if (rc < 0)
        return;
    FUZZ_MUST(conf.n > 0 && conf.n <= 64);
    raft_configuration_close(&conf);
}

static void check_headers(struct slice in)
{
    struct h2_check c = {0};

    while (in.len > 0) {
        const uint8_t *end = memchr(in.data, '\n', in.len);
        size_t len = end != NULL ? (size_t)(end - in.data) : in.len;
        const uint8_t *colon = len > 1 ? memchr(in.data + 1, ':', len - 1) : NULL;
        size_t name = colon != NULL ? (size_t)(colon - in.data) : len;
        struct slice value = name < len ? slice_make(in.data + name + 1, len - name - 1) : slice_make(NULL, 0);

        if (!h2_check_header(&c, slice_make(in.data, name), value, false))
            return;
        in = slice_make(in.data + len, in.len - len);
        if (in.len > 0)
            in = slice_make(in.data + 1, in.len - 1);
    }
    if (h2_check_request(&c) && h2_check_data(&c, 5))
        h2_check_end(&c);
}

static void check_txn(struct slice in, bool json)
{
    struct arena arena;
    struct txn txn;

    arena_init(&arena);
    if (json)
        ctl_txn_parse_json((const char *)in.data, in.len, &arena, &txn);
    else
        ctl_txn_parse((const char *)in.data, in.len, &arena, &txn);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in;

    if (size < 1)
        return 0;
    in = slice_make(data + 1, size - 1);
    switch (data[0] % 6) {
    case 0:
        check_identity(in);
        break;
    case 1:
        check_urls(in);
        break;
    case 2:
        check_membership(in);
        break;
    case 3:
        check_headers(in);
        break;
    default:
        check_txn(in, data[0] % 6 == 5);
        break;
    }
    return 0;
}
