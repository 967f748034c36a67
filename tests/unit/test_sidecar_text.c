/* Framing, grpc-timeout, percent-encoding and the deadline heap of the gRPC layer. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <zlib.h>

#include "sidecar/deadlines.h"
#include "sidecar/grpc_text.h"
#include "sidecar/h2_check.h"

static void timeouts_are_read_in_all_units(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t ms;
    } cases[] = {
        {"1H", 0, 3600000}, {"2M", 0, 120000},       {"3S", 0, 3000},     {"4m", 0, 4},
        {"5u", 0, 1},       {"59992191u", 0, 59993}, {"1000001n", 0, 2},  {"0n", 0, 0},
        {"99999999H", 0, 99999999ull * 3600000},     {"123456789m", -EBADMSG, 0}, {"m", -EBADMSG, 0},
        {"", -EBADMSG, 0},  {"5", -EBADMSG, 0},      {"-5m", -EBADMSG, 0}, {"5x", -EBADMSG, 0},
        {"5 m", -EBADMSG, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 77;

        assert_int_equal(grpc_timeout_parse(slice_from_str(cases[i].text), &ms), cases[i].rc);
        assert_int_equal(ms, cases[i].rc == 0 ? cases[i].ms : 77);
    }
}

static void messages_are_percent_encoded(void **state)
{
    struct bytes out;

    bytes_init(&out);
    grpc_percent_encode(slice_from_str("etcdserver: 100% \xc3\xa9\n~"), &out);
    bytes_u8(&out, 0);
    assert_string_equal((char *)out.data, "etcdserver: 100%25 %C3%A9%0A~");
    bytes_fini(&out);
}

struct got {
    struct bytes all;
    size_t count;
    int stop_at;
};

static int on_message(void *ctx, struct slice message, bool compressed)
{
    struct got *g = ctx;

    g->count++;
    bytes_append(&g->all, message);
    bytes_u8(&g->all, '|');
    return g->stop_at != 0 && (int)g->count == g->stop_at ? 7 : 0;
}

static void put_message(struct bytes *b, const char *text)
{
    grpc_prefix_put(bytes_grow(b, GRPC_PREFIX_BYTES), strlen(text));
    bytes_append(b, slice_from_str(text));
}

/* The same bytes cut at every place, and byte by byte, give the same messages. */
static void frames_do_not_depend_on_the_cuts(void **state)
{
    struct bytes wire;
    const char *want = "first||third message|x|";

    bytes_init(&wire);
    put_message(&wire, "first");
    put_message(&wire, "");
    put_message(&wire, "third message");
    put_message(&wire, "x");
    for (size_t cut = 0; cut <= wire.len; cut++) {
        for (size_t second = cut; second <= wire.len; second++) {
            struct grpc_frames f = {0};
            struct got g = {0};

            bytes_init(&g.all);
            assert_int_equal(grpc_frames_feed(&f, slice_make(wire.data, cut), 100, on_message, &g), 0);
            assert_int_equal(grpc_frames_feed(&f, slice_make(wire.data + cut, second - cut), 100, on_message, &g), 0);
            assert_int_equal(grpc_frames_feed(&f, slice_make(wire.data + second, wire.len - second), 100, on_message, &g), 0);
            assert_int_equal(g.count, 4);
            assert_int_equal(g.all.len, strlen(want));
            assert_memory_equal(g.all.data, want, strlen(want));
            assert_false(grpc_frames_partial(&f));
            assert_int_equal(grpc_frames_held(&f), 0);
            grpc_frames_fini(&f);
            bytes_fini(&g.all);
        }
    }
    bytes_fini(&wire);
}

static void frames_refuse_what_is_too_large_or_no_prefix(void **state)
{
    static const uint8_t large[] = {0, 0, 0, 0, 101}, broken[] = {2, 0, 0, 0, 0};
    struct grpc_frames f = {0};
    struct got g = {0};

    bytes_init(&g.all);
    assert_int_equal(grpc_frames_feed(&f, slice_make(large, 5), 100, on_message, &g), -EMSGSIZE);
    assert_int_equal(f.length, 101);
    grpc_frames_fini(&f);
    assert_int_equal(grpc_frames_feed(&f, slice_make(broken, 5), 100, on_message, &g), -EBADMSG);
    grpc_frames_fini(&f);
    assert_int_equal(grpc_frames_feed(&f, slice_make(large, 4), 100, on_message, &g), 0);
    assert_true(grpc_frames_partial(&f));
    grpc_frames_fini(&f);
    assert_int_equal(g.count, 0);
    bytes_fini(&g.all);
}

/* By zlib, at a level. */
static size_t pack(uint8_t *out, size_t cap, struct slice in, int level)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.data, .avail_in = (uInt)in.len, .next_out = out, .avail_out = (uInt)cap};

    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return cap - z.avail_out;
}

static void packed_messages_are_unpacked_up_to_their_limit(void **state)
{
    static uint8_t plain[300000], packed[400000];
    uint8_t *data;
    size_t len, n;

    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i % 7 == 0 ? i * 31 / 5 : i % 13);
    for (size_t size = 0; size <= sizeof(plain); size = size * 3 + 1) {
        n = pack(packed, sizeof(packed), slice_make(plain, size), (int)(size % 10));
        assert_int_equal(grpc_gunzip(slice_make(packed, n), size, &data, &len), 0); /* exactly as large as it may be */
        assert_int_equal(len, size);
        assert_true(size == 0 || memcmp(data, plain, size) == 0);
        free(data);
        if (size > 0)
            assert_int_equal(grpc_gunzip(slice_make(packed, n), size - 1, &data, &len), -EMSGSIZE);
        for (size_t cut = 0; cut < n; cut += 1 + n / 50)
            assert_int_equal(grpc_gunzip(slice_make(packed, cut), size, &data, &len), -EBADMSG);
        packed[n] = 'x'; /* something behind it */
        assert_int_equal(grpc_gunzip(slice_make(packed, n + 1), size + 1, &data, &len), -EBADMSG);
        packed[n / 2] ^= 0x55;
        assert_int_not_equal(grpc_gunzip(slice_make(packed, n), 10 * sizeof(plain), &data, &len), 0);
    }
    n = pack(packed, sizeof(packed), slice_from_str("one, "), 9); /* two members are one message */
    n += pack(packed + n, sizeof(packed) - n, slice_from_str("two"), 1);
    assert_int_equal(grpc_gunzip(slice_make(packed, n), 100, &data, &len), 0);
    assert_int_equal(len, 8);
    assert_memory_equal(data, "one, two", 8);
    free(data);
}

static void a_handler_can_stop_the_feeding(void **state)
{
    struct grpc_frames f = {0};
    struct got g = {.stop_at = 2};
    struct bytes wire;

    bytes_init(&wire);
    bytes_init(&g.all);
    put_message(&wire, "a");
    put_message(&wire, "b");
    put_message(&wire, "c");
    assert_int_equal(grpc_frames_feed(&f, bytes_slice(&wire), 100, on_message, &g), 7);
    assert_int_equal(g.count, 2);
    grpc_frames_fini(&f);
    bytes_fini(&g.all);
    bytes_fini(&wire);
}

static void deadlines_come_in_order(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    struct deadlines d = {0};
    struct deadline items[300] = {0};
    uint64_t last = 0;
    size_t count = 0;

    printf("SEED=%u\n", seed);
    srand(seed);
    for (int step = 0; step < 5000; step++) {
        struct deadline *it = &items[rand() % 300];

        if (rand() % 3 != 0) {
            count += it->place == 0;
            assert_int_equal(deadlines_add(&d, it, (uint64_t)(rand() % 1000)), 0);
        } else {
            count -= it->place != 0;
            deadlines_remove(&d, it);
        }
        assert_int_equal(d.count, count);
        for (size_t i = 0; i < d.count; i++)
            assert_true(deadlines_first(&d)->at_ms <= d.items[i]->at_ms);
    }
    while (deadlines_first(&d) != NULL) {
        assert_true(deadlines_first(&d)->at_ms >= last);
        last = deadlines_first(&d)->at_ms;
        deadlines_remove(&d, deadlines_first(&d));
        count--;
    }
    assert_int_equal(count, 0);
    deadlines_fini(&d);
}

/* A request as lines "name value"; the answer is whether every check held. */
static bool request_ok(const char *const *lines, size_t data)
{
    struct h2_check c = {0};
    bool ok = true;

    for (; *lines != NULL; lines++) {
        const char *blank = strchr(*lines + 1, ' ');

        ok = ok && h2_check_header(&c, slice_make(*lines, (size_t)(blank - *lines)), slice_from_str(blank + 1), false);
    }
    return ok && h2_check_request(&c) && h2_check_data(&c, data) && h2_check_end(&c);
}

#define BASE ":method POST", ":scheme http", ":path /a.B/C"

static void requests_are_checked_as_the_rfc_says(void **state)
{
    static const struct {
        bool ok;
        const char *lines[8];
    } cases[] = {
        {true, {BASE, NULL}},
        {true, {BASE, ":authority #initially=[http://127.0.0.1:1]", "te trailers", NULL}}, /* clientv3 3.5.0 */
        {true, {BASE, ":authority http://127.0.0.1:2379", NULL}},                          /* etcdctl 3.4, status */
        {true, {BASE, "content-length 7", NULL}},
        {false, {BASE, "content-length 6", NULL}},
        {false, {BASE, "content-length 8", NULL}},
        {false, {BASE, "content-length 7", "content-length 7", NULL}},
        {false, {BASE, "content-length -7", NULL}},
        {false, {":method POST", ":scheme http", NULL}},
        {false, {":method POST", ":path /x", NULL}},
        {false, {":scheme http", ":path /x", NULL}},
        {false, {BASE, ":path /x", NULL}},
        {false, {BASE, ":status 200", NULL}},
        {false, {BASE, "x y", ":authority late", NULL}},
        {false, {":method POST", ":scheme http", ":path ", NULL}},
        {false, {":method POST", ":scheme http", ":path x", NULL}},
        {false, {BASE, "Upper x", NULL}},
        {false, {BASE, "connection close", NULL}},
        {false, {BASE, "te gzip", NULL}},
        {false, {BASE, "transfer-encoding chunked", NULL}},
        {false, {BASE, "x  leading", NULL}},
        {false, {BASE, "x a\nb", NULL}},
        {false, {BASE, "x(y z", NULL}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (request_ok(cases[i].lines, 7) != cases[i].ok)
            fail_msg("case %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_read_in_all_units),
        cmocka_unit_test(messages_are_percent_encoded),
        cmocka_unit_test(frames_do_not_depend_on_the_cuts),
        cmocka_unit_test(frames_refuse_what_is_too_large_or_no_prefix),
        cmocka_unit_test(packed_messages_are_unpacked_up_to_their_limit),
        cmocka_unit_test(a_handler_can_stop_the_feeding),
        cmocka_unit_test(deadlines_come_in_order),
        cmocka_unit_test(requests_are_checked_as_the_rfc_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
