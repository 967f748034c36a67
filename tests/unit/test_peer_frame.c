/* raft/peer_frame: the examples of docs/peer.md, "Framing", byte for byte, and that no other bytes pass. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "raft/peer_frame.h"

static const struct peer_hello hello = {.version = 1, .min_version = 1, .cluster_id = 0x1112131415161718,
                                        .from = 0x2122232425262728, .to = 0x3132333435363738, .instance = 0x0A0B0C0D};
static const struct peer_hello_reply reply = {.version = 1, .code = PEER_HELLO_WRONG_CLUSTER,
                                              .cluster_id = 0x4142434445464748, .member_id = 0x3132333435363738,
                                              .program = 0 << 16 | 2};

/* The hexadecimal bytes of the line "Example: `...`" below a heading of the page. */
static size_t example_of(const char *heading, uint8_t *out, size_t size)
{
    static char page[1 << 16];
    FILE *f = fopen("docs/peer.md", "r");
    size_t len = 0;
    char *p;
    int n;

    assert_non_null(f);
    page[fread(page, 1, sizeof(page) - 1, f)] = '\0';
    fclose(f);
    p = strstr(page, heading);
    assert_non_null(p);
    p = strstr(p, "Example: `");
    assert_non_null(p);
    for (p += strlen("Example: `"); *p != '`'; p += n) {
        unsigned byte;

        assert_int_equal(sscanf(p, " %2x%n", &byte, &n), 1);
        assert_true(len < size);
        out[len++] = (uint8_t)byte;
        while (p[n] == ' ' || p[n] == '\n')
            n++;
    }
    return len;
}

static void assert_example(const char *heading, const struct bytes *b)
{
    uint8_t want[512];
    size_t len = example_of(heading, want, sizeof(want));

    if (len != b->len || memcmp(want, b->data, len) != 0) {
        printf("%s:", heading);
        for (size_t i = 0; i < b->len; i++)
            printf(" %02x", b->data[i]);
        printf("\n");
        fail();
    }
}

static struct bytes make_hello(void)
{
    struct peer_hello m = hello;
    struct bytes b;

    m.urls = slice_from_str("http://h:1");
    bytes_init(&b);
    peer_hello_encode(&m, &b);
    return b;
}

static void the_bytes_are_those_of_the_page(void **state)
{
    struct bytes payload = make_hello(), frame;
    struct peer_hello_reply r = reply;

    assert_example("### HELLO (", &payload);
    bytes_init(&frame);
    peer_frame_encode(&frame, PEER_FRAME_PING, slice_make(NULL, 0));
    assert_example("### PING (", &frame);
    bytes_reset(&frame);
    peer_frame_encode(&frame, 18, slice_from_str("abc"));
    assert_example("## Framing", &frame);
    bytes_reset(&payload);
    r.text = slice_from_str("no");
    peer_hello_reply_encode(&r, &payload);
    assert_example("### HELLO_REPLY (", &payload);
    bytes_fini(&payload);
    bytes_fini(&frame);
}

static void what_was_written_is_read(void **state)
{
    struct bytes payload = make_hello(), frame;
    struct peer_hello_reply r = reply, got_reply;
    struct peer_frame_head head;
    struct peer_hello got;

    bytes_init(&frame);
    peer_frame_encode(&frame, PEER_FRAME_HELLO, bytes_slice(&payload));
    assert_int_equal(peer_frame_head_decode(bytes_slice(&frame), 4096, &head), 1);
    assert_int_equal(head.type, PEER_FRAME_HELLO);
    assert_int_equal(head.payload_bytes, payload.len);
    assert_int_equal(peer_frame_verify(bytes_slice(&frame)), 0);
    assert_int_equal(peer_hello_decode(bytes_slice(&payload), &got), 0);
    assert_true(got.version == 1 && got.min_version == 1 && got.cluster_id == hello.cluster_id &&
                got.from == hello.from && got.to == hello.to);
    assert_true(slice_equal(got.urls, slice_from_str("http://h:1")));
    bytes_reset(&payload);
    r.text = slice_from_str("another cluster");
    peer_hello_reply_encode(&r, &payload);
    assert_int_equal(peer_hello_reply_decode(bytes_slice(&payload), &got_reply), 0);
    assert_true(got_reply.code == r.code && got_reply.cluster_id == r.cluster_id && got_reply.member_id == r.member_id);
    assert_true(slice_equal(got_reply.text, r.text));
    assert_int_equal(got_reply.program, 2);
    assert_int_equal(peer_hello_reply_decode(slice_make(payload.data, payload.len - 4), &got_reply), 0);
    assert_int_equal(got_reply.program, 0); /* of the first version, which did not say */
    bytes_fini(&payload);
    bytes_fini(&frame);
}

static void a_changed_bit_is_noticed(void **state)
{
    struct bytes frame;

    bytes_init(&frame);
    peer_frame_encode(&frame, 18, slice_from_str("some payload"));
    for (size_t bit = 0; bit < frame.len * 8; bit++) {
        struct peer_frame_head head;
        int rc;

        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        rc = peer_frame_head_decode(bytes_slice(&frame), PEER_FRAME_MAX_BYTES, &head);
        assert_true(rc == -EBADMSG || peer_frame_verify(bytes_slice(&frame)) == -EBADMSG);
        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(peer_frame_verify(bytes_slice(&frame)), 0);
    bytes_fini(&frame);
}

static void heads_are_bounded_and_may_be_cut(void **state)
{
    static const uint8_t large[4] = {0x01, 0x10, 0, 0};
    struct peer_frame_head head;
    struct bytes frame;

    assert_int_equal(peer_frame_head_decode(slice_make(large, 4), 0x1000, &head), -EBADMSG);
    assert_int_equal(peer_frame_head_decode(slice_make(large, 4), 0x1001, &head), 0);
    bytes_init(&frame);
    peer_frame_encode(&frame, 18, slice_from_str("abc"));
    for (size_t len = 0; len < PEER_FRAME_HEAD_BYTES; len++)
        assert_int_equal(peer_frame_head_decode(slice_make(frame.data, len), 4096, &head), 0);
    bytes_fini(&frame);
}

static void a_cut_hello_is_none_and_a_longer_one_is_newer(void **state)
{
    struct bytes payload = make_hello();
    struct peer_hello got;
    size_t len = payload.len;

    for (size_t i = 0; i < len; i++) /* the first programs sent no instance */
        assert_int_equal(peer_hello_decode(slice_make(payload.data, i), &got), i == len - 8 ? 0 : -EBADMSG);
    assert_int_equal(got.instance, 0);
    bytes_u64(&payload, 7);
    assert_int_equal(peer_hello_decode(bytes_slice(&payload), &got), 0);
    payload.data[0] = 'q';
    assert_int_equal(peer_hello_decode(bytes_slice(&payload), &got), -EBADMSG);
    bytes_fini(&payload);
}

static void a_question_and_its_answer_are_read_again(void **state)
{
    struct peer_ask ask = {1, 1, slice_from_str("http://h:1")}, got_ask;
    struct peer_answer answer = {1, PEER_HELLO_OK, 0x1112131415161718, 0x2122232425262728, 0x3132333435363738, slice_from_str("no")};
    struct peer_answer got;
    struct peer_fetch fetch = {slice_from_str("hi"), 99, 1 << 21, 0x0A0B0C0D}, got_fetch;
    struct bytes b;

    bytes_init(&b);
    peer_ask_encode(&ask, &b);
    assert_example("### ASK (5)", &b);
    for (size_t i = 0; i < b.len; i++)
        assert_int_equal(peer_ask_decode(slice_make(b.data, i), &got_ask), -EBADMSG);
    assert_int_equal(peer_ask_decode(bytes_slice(&b), &got_ask), 0);
    assert_true(slice_equal(got_ask.urls, ask.urls));
    bytes_reset(&b);
    peer_answer_encode(&answer, &b);
    assert_example("### ANSWER (6)", &b);
    for (size_t i = 0; i < b.len; i++)
        assert_int_equal(peer_answer_decode(slice_make(b.data, i), &got), -EBADMSG);
    assert_int_equal(peer_answer_decode(bytes_slice(&b), &got), 0);
    assert_true(got.cluster_id == answer.cluster_id && got.data_id == answer.data_id && got.member_id == answer.member_id);
    bytes_reset(&b);
    answer.member_id = 0;
    peer_answer_encode(&answer, &b);
    assert_int_equal(peer_answer_decode(bytes_slice(&b), &got), -EBADMSG); /* nobody is member 0 */
    bytes_reset(&b);
    peer_fetch_encode(&fetch, &b);
    assert_example("### FETCH (7)", &b);
    for (size_t i = 0; i < b.len; i++)
        assert_int_equal(peer_fetch_decode(slice_make(b.data, i), &got_fetch), -EBADMSG);
    assert_int_equal(peer_fetch_decode(bytes_slice(&b), &got_fetch), 0);
    assert_true(got_fetch.index == 99 && got_fetch.offset == 1 << 21 && got_fetch.crc == fetch.crc);
    bytes_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_page),
        cmocka_unit_test(a_question_and_its_answer_are_read_again),
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(a_changed_bit_is_noticed),
        cmocka_unit_test(heads_are_bounded_and_may_be_cut),
        cmocka_unit_test(a_cut_hello_is_none_and_a_longer_one_is_newer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
