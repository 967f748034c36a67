/* proto/socket: every frame's bytes are fixed, and nothing but them is accepted. */
#include "tests/unit/wire_check.h"

#include <errno.h>

#include "proto/socket.h"

static const char hello_hex[] = "01000000 39300000 09000000 71756f72756d63746c";
static const char welcome_hex[] =
    "01000000 00000000 1111111111111111 2222222222222222 0300000000000000 0400000000000000 0500000000000000"
    "0600000000000000 6400000000000000 e803000000000000 02000000 6e31 03000000 2f6462";
static const char proposed_hex[] = "0900 0000 00000000 0700000000000000 0800000000000000 0a0b0c";
static const char barrier_done_hex[] = "2000 0000 00000000 0500000000000000 0700000000000000 0900000000000000";
static const char notice_hex[] = "0500000000000000 ffffffffffffff7f";
static const char leader_hex[] = "0201000000000000 0807060504030201";

static const char lease_hex[] = "fbffffffffffffff";
static const char keepalive_done_hex[] = "0c00 0000 00000000 3c00000000000000";
static const char lease_time_done_hex[] = "0000 0000 00000000 3c00000000000000 0700000000000000";
static const char member_hex[] = "01 01 0000 00000000 0000000000000000 03000000 682c69";
static const char member_done_hex[] = "0000 0000 02000000 0900000000000000"
                                      "0800000000000000 00 02000000 6e31 01000000 61 01000000 62"
                                      "0900000000000000 01 00000000 01000000 63 00000000";
static const char maintain_hex[] = "03 00 0000 00000000 0900000000000000";
static const char maintain_done_hex[] = "0000 0000 00000000 0a00000000000000 02000000 2f63";

static const struct socket_welcome welcome = {
    .version = SOCKET_VERSION,
    .cluster_id = 0x1111111111111111,
    .member_id = 0x2222222222222222,
    .leader = 3,
    .term = 4,
    .epoch = 5,
    .revision = 6,
    .heartbeat_ms = 100,
    .election_ms = 1000,
    .name = {(const uint8_t *)"n1", 2},
    .store_dir = {(const uint8_t *)"/db", 3},
};

static void a_head_is_sixteen_bytes(void **state)
{
    struct socket_head head;
    struct bytes b;

    bytes_init(&b);
    socket_frame(&b, SOCKET_PROPOSE, 0x0102030405060708, slice_from_str("abc"));
    check_hex(bytes_slice(&b), "0f000000 04 00 0000 0807060504030201 616263");
    assert_int_equal(socket_head_decode(bytes_slice(&b), 3, &head), 1);
    assert_int_equal(head.payload_bytes, 3);
    assert_int_equal(head.type, SOCKET_PROPOSE);
    assert_int_equal(head.tag, 0x0102030405060708);
    assert_int_equal(socket_head_decode(bytes_slice(&b), 2, &head), -EBADMSG);
    for (size_t n = 0; n < SOCKET_HEAD_BYTES; n++) {
        uint8_t *p = exact_copy(slice_make(b.data, n));

        assert_int_equal(socket_head_decode(slice_make(p, n), 3, &head), 0);
        free(p);
    }
    bytes_fini(&b);
}

static void a_head_that_lies_is_refused_at_once(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } lies[] = {{0, 11}, {1, 1}, {3, 0x80}, {4, 0}, {5, 1}, {6, 1}, {7, 1}};
    struct socket_head head;
    uint8_t head_bytes[SOCKET_HEAD_BYTES] = {12, 0, 0, 0, SOCKET_BARRIER};

    assert_int_equal(socket_head_decode(slice_make(head_bytes, 16), 100, &head), 1);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        uint8_t copy[SOCKET_HEAD_BYTES];

        memcpy(copy, head_bytes, sizeof(copy));
        copy[lies[i].at] = lies[i].value;
        assert_int_equal(socket_head_decode(slice_make(copy, 16), 100, &head), -EBADMSG);
    }
    assert_int_equal(socket_head_decode(slice_make("\xff\xff\xff\xff", 4), 100, &head), -EBADMSG);
}

static void each_payload_has_its_bytes(void **state)
{
    struct socket_hello hello = {SOCKET_VERSION, slice_from_str("quorumctl"), 12345};
    struct socket_proposed proposed = {9, 7, 8, slice_make("\x0a\x0b\x0c", 3)};
    struct socket_barrier_done done = {32, 5, 7, 9};
    struct socket_notice notice = {5, INT64_MAX};
    struct socket_leader leader = {0x0102, 0x0102030405060708};
    struct bytes b;

    bytes_init(&b);
    socket_hello_encode(&hello, &b);
    check_hex(bytes_slice(&b), hello_hex);
    bytes_reset(&b);
    socket_welcome_encode(&welcome, &b);
    check_hex(bytes_slice(&b), welcome_hex);
    bytes_reset(&b);
    socket_proposed_encode(&proposed, &b);
    check_hex(bytes_slice(&b), proposed_hex);
    bytes_reset(&b);
    socket_barrier_done_encode(&done, &b);
    check_hex(bytes_slice(&b), barrier_done_hex);
    bytes_reset(&b);
    socket_notice_encode(&notice, &b);
    check_hex(bytes_slice(&b), notice_hex);
    bytes_reset(&b);
    socket_leader_encode(&leader, &b);
    check_hex(bytes_slice(&b), leader_hex);
    bytes_fini(&b);
}

static void each_payload_of_a_service_has_its_bytes(void **state)
{
    struct socket_member_change change = {SOCKET_MEMBER_ADD, true, 0, slice_from_str("h,i")};
    struct socket_member_done done = {.id = 9, .n_members = 2};
    struct bytes b;

    bytes_init(&b);
    socket_lease_encode(&(struct socket_lease){-5}, &b);
    check_hex(bytes_slice(&b), lease_hex);
    bytes_reset(&b);
    socket_keepalive_done_encode(&(struct socket_keepalive_done){12, 60}, &b);
    check_hex(bytes_slice(&b), keepalive_done_hex);
    bytes_reset(&b);
    socket_lease_time_done_encode(&(struct socket_lease_time_done){0, 60, 7}, &b);
    check_hex(bytes_slice(&b), lease_time_done_hex);
    bytes_reset(&b);
    socket_member_change_encode(&change, &b);
    check_hex(bytes_slice(&b), member_hex);
    bytes_reset(&b);
    done.members[0] = (struct socket_member){8, false, slice_from_str("n1"), slice_from_str("a"), slice_from_str("b")};
    done.members[1] = (struct socket_member){9, true, slice_make(NULL, 0), slice_from_str("c"), slice_make(NULL, 0)};
    socket_member_done_encode(&done, &b);
    check_hex(bytes_slice(&b), member_done_hex);
    bytes_reset(&b);
    socket_maintain_encode(&(struct socket_maintain){SOCKET_MAINTAIN_MOVE_LEADER, 9}, &b);
    check_hex(bytes_slice(&b), maintain_hex);
    bytes_reset(&b);
    socket_maintain_done_encode(&(struct socket_maintain_done){0, 10, slice_from_str("/c")}, &b);
    check_hex(bytes_slice(&b), maintain_done_hex);
    bytes_fini(&b);
}

static void an_unknown_operation_is_damage(void **state)
{
    struct socket_member_change change;
    struct socket_maintain maintain;

    for (uint8_t op = 0; op < 10; op++) {
        uint8_t bytes[20] = {op};

        assert_int_equal(socket_member_change_decode(slice_make(bytes, 20), &change), op >= 1 && op <= 5 ? 0 : -EBADMSG);
        assert_int_equal(socket_maintain_decode(slice_make(bytes, 16), &maintain), op >= 1 && op <= 4 ? 0 : -EBADMSG);
    }
}

static void a_list_of_too_many_members_is_damage(void **state)
{
    struct socket_member_done m;
    struct bytes b;

    bytes_init(&b);
    for (uint32_t n = SOCKET_MEMBERS_MAX; n <= SOCKET_MEMBERS_MAX + 1; n++) {
        bytes_reset(&b);
        bytes_u32(&b, 0);
        bytes_u32(&b, n);
        bytes_u64(&b, 0);
        for (uint32_t i = 0; i < n * 21; i++)
            bytes_u8(&b, 0);
        assert_int_equal(socket_member_done_decode(bytes_slice(&b), &m), n <= SOCKET_MEMBERS_MAX ? 0 : -EBADMSG);
    }
    bytes_fini(&b);
}

/* Decodes with the decoder of that type and encodes what it got again. */
static int recode(int type, struct slice in, struct bytes *out)
{
    union {
        struct socket_hello hello;
        struct socket_welcome welcome;
        struct socket_proposed proposed;
        struct socket_barrier_done done;
        struct socket_notice notice;
        struct socket_leader leader;
        struct socket_lease lease;
        struct socket_keepalive_done keepalive_done;
        struct socket_lease_time_done lease_time_done;
        struct socket_member_change member;
        struct socket_member_done member_done;
        struct socket_maintain maintain;
        struct socket_maintain_done maintain_done;
    } m;
    int rc = 0;

    bytes_reset(out);
    switch (type) {
    case SOCKET_HELLO:
        if ((rc = socket_hello_decode(in, &m.hello)) == 0)
            socket_hello_encode(&m.hello, out);
        break;
    case SOCKET_WELCOME:
        if ((rc = socket_welcome_decode(in, &m.welcome)) == 0)
            socket_welcome_encode(&m.welcome, out);
        break;
    case SOCKET_PROPOSED:
        if ((rc = socket_proposed_decode(in, &m.proposed)) == 0)
            socket_proposed_encode(&m.proposed, out);
        break;
    case SOCKET_BARRIER_DONE:
        if ((rc = socket_barrier_done_decode(in, &m.done)) == 0)
            socket_barrier_done_encode(&m.done, out);
        break;
    case SOCKET_NOTICE:
        if ((rc = socket_notice_decode(in, &m.notice)) == 0)
            socket_notice_encode(&m.notice, out);
        break;
    case SOCKET_KEEPALIVE:
        if ((rc = socket_lease_decode(in, &m.lease)) == 0)
            socket_lease_encode(&m.lease, out);
        break;
    case SOCKET_KEEPALIVE_DONE:
        if ((rc = socket_keepalive_done_decode(in, &m.keepalive_done)) == 0)
            socket_keepalive_done_encode(&m.keepalive_done, out);
        break;
    case SOCKET_LEASE_TIME_DONE:
        if ((rc = socket_lease_time_done_decode(in, &m.lease_time_done)) == 0)
            socket_lease_time_done_encode(&m.lease_time_done, out);
        break;
    case SOCKET_MEMBER:
        if ((rc = socket_member_change_decode(in, &m.member)) == 0)
            socket_member_change_encode(&m.member, out);
        break;
    case SOCKET_MEMBER_DONE:
        if ((rc = socket_member_done_decode(in, &m.member_done)) == 0)
            socket_member_done_encode(&m.member_done, out);
        break;
    case SOCKET_MAINTAIN:
        if ((rc = socket_maintain_decode(in, &m.maintain)) == 0)
            socket_maintain_encode(&m.maintain, out);
        break;
    case SOCKET_MAINTAIN_DONE:
        if ((rc = socket_maintain_done_decode(in, &m.maintain_done)) == 0)
            socket_maintain_done_encode(&m.maintain_done, out);
        break;
    default:
        if ((rc = socket_leader_decode(in, &m.leader)) == 0)
            socket_leader_encode(&m.leader, out);
        break;
    }
    return rc;
}

static const struct {
    int type;
    const char *hex;
    size_t len;
} payloads[] = {
    {SOCKET_HELLO, hello_hex, 21},        {SOCKET_WELCOME, welcome_hex, 85}, {SOCKET_PROPOSED, proposed_hex, 27},
    {SOCKET_BARRIER_DONE, barrier_done_hex, 32}, {SOCKET_NOTICE, notice_hex, 16}, {SOCKET_LEADER, leader_hex, 16},
    {SOCKET_KEEPALIVE, lease_hex, 8},     {SOCKET_KEEPALIVE_DONE, keepalive_done_hex, 16},
    {SOCKET_LEASE_TIME_DONE, lease_time_done_hex, 24}, {SOCKET_MEMBER, member_hex, 23},
    {SOCKET_MEMBER_DONE, member_done_hex, 63}, {SOCKET_MAINTAIN, maintain_hex, 16},
    {SOCKET_MAINTAIN_DONE, maintain_done_hex, 22},
};

static void read_hex(const char *hex, struct bytes *out)
{
    bytes_reset(out);
    for (; *hex != '\0'; hex++) {
        char pair[3] = {hex[0], hex[1], 0};

        if (*hex == ' ')
            continue;
        bytes_u8(out, (uint8_t)strtoul(pair, NULL, 16));
        hex++;
    }
}

static void each_payload_is_read_back_whole_or_not_at_all(void **state)
{
    struct bytes in, out;

    bytes_init(&in);
    bytes_init(&out);
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        read_hex(payloads[i].hex, &in);
        assert_int_equal(in.len, payloads[i].len);
        assert_int_equal(recode(payloads[i].type, bytes_slice(&in), &out), 0);
        assert_true(slice_equal(bytes_slice(&in), bytes_slice(&out)));
        for (size_t n = 0; n < in.len; n++) {
            uint8_t *p = exact_copy(slice_make(in.data, n));
            bool whole = payloads[i].type == SOCKET_PROPOSED && n >= 24; /* its body goes to the end */

            assert_int_equal(recode(payloads[i].type, slice_make(p, n), &out), whole ? 0 : -EBADMSG);
            free(p);
        }
        bytes_u8(&in, 0);
        if (payloads[i].type != SOCKET_PROPOSED)
            assert_int_equal(recode(payloads[i].type, bytes_slice(&in), &out), -EBADMSG);
    }
    bytes_fini(&in);
    bytes_fini(&out);
}

static void another_version_is_told_from_damage(void **state)
{
    struct socket_hello hello;
    struct socket_welcome w;

    assert_int_equal(socket_hello_decode(slice_make("\x02\0\0\0 anything", 13), &hello), -EPROTONOSUPPORT);
    assert_int_equal(socket_welcome_decode(slice_make("\x02\0\0\0", 4), &w), -EPROTONOSUPPORT);
    assert_int_equal(socket_hello_decode(slice_make("\x02\0\0", 3), &hello), -EBADMSG);
}

/* Damaged payloads either fail or say exactly what their bytes say; ASan watches the reads. */
static void random_payloads_are_harmless(void **state)
{
    struct dice d = dice_new();
    struct bytes in, out;

    bytes_init(&in);
    bytes_init(&out);
    for (int i = 0; i < 50000; i++) {
        size_t k = dice_below(&d, sizeof(payloads) / sizeof(payloads[0]));
        uint8_t *p;

        read_hex(payloads[k].hex, &in);
        for (uint64_t n = dice_below(&d, 4); n > 0; n--)
            in.data[dice_below(&d, in.len)] = (uint8_t)dice_number(&d);
        in.len -= dice_below(&d, 3) == 0 ? dice_below(&d, in.len + 1) : 0;
        p = exact_copy(bytes_slice(&in));
        if (recode(payloads[k].type, slice_make(p, in.len), &out) == 0)
            assert_true(slice_equal(bytes_slice(&in), bytes_slice(&out)));
        free(p);
    }
    bytes_fini(&in);
    bytes_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_sixteen_bytes),
        cmocka_unit_test(a_head_that_lies_is_refused_at_once),
        cmocka_unit_test(each_payload_has_its_bytes),
        cmocka_unit_test(each_payload_of_a_service_has_its_bytes),
        cmocka_unit_test(an_unknown_operation_is_damage),
        cmocka_unit_test(a_list_of_too_many_members_is_damage),
        cmocka_unit_test(each_payload_is_read_back_whole_or_not_at_all),
        cmocka_unit_test(another_version_is_told_from_damage),
        cmocka_unit_test(random_payloads_are_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
