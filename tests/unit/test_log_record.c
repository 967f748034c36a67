/* The bytes of the log's files, fixed: a change here breaks every data directory there is (docs/disk-log.md). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "raft/log_record.h"

static const struct log_head head = {
    .cluster_id = 0x1122334455667788,
    .sequence = 3,
    .base_index = 0x0102,
    .base_term = 5,
    .prev_end = 0x4a00,
    .prev_flush = 17,
};

static void the_head_of_a_segment(void **state)
{
    uint8_t want[LOG_HEAD_BYTES] = {
        'Q', 'F', 'S', 'L', 'O', 'G', '\r', '\n', 1, 0, 0, 0, 0, 0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 0, 0, 0, 0, 0, 0, 0,
        2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        0, 0x4a, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0,
        [124] = 0x2e, 0x10, 0x6d, 0x9d,
    };
    uint8_t got[LOG_HEAD_BYTES];
    struct log_head back;

    log_head_encode(&head, got);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(log_head_decode(got, &back), 0);
    assert_memory_equal(&back, &head, sizeof(head));
    assert_int_equal(log_head_seed(&head), 0xb7b5e86d);
}

static void the_head_of_an_entry(void **state)
{
    static const uint8_t want[LOG_RECORD_BYTES] = {
        0x07, 0x37, 0x89, 0x88, 0x83, 0x92, 0x06, 0xe3, 9, 0, 0, 0, 2, 1, 0, 0,
        3, 1, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
    };
    struct log_record r = {
        .payload_crc = crc32c(0, "123456789", 9), /* RFC 3720's check value, 0xe3069283 */
        .payload_len = 9,
        .kind = LOG_RECORD_ENTRY,
        .type = 1,
        .index = 0x0103,
        .term = 6,
    };
    uint8_t got[LOG_RECORD_BYTES];
    struct log_record back;

    log_record_encode(&r, got);
    log_record_seal(got, log_head_seed(&head), 4096 + LOG_MARK_BYTES);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(log_record_decode(got, log_head_seed(&head), 4096 + LOG_MARK_BYTES, &back), 0);
    assert_int_equal(back.payload_crc, r.payload_crc);
    assert_int_equal(back.payload_len, 9);
    assert_int_equal(back.kind, LOG_RECORD_ENTRY);
    assert_int_equal(back.type, 1);
    assert_int_equal(back.index, 0x0103);
    assert_int_equal(back.term, 6);
    assert_int_equal(log_record_size(0), 32);
    assert_int_equal(log_record_size(9), 48);
    assert_int_equal(log_record_size(16), 48);
}

static void the_kinds_of_records(void **state)
{
    assert_int_equal(LOG_RECORD_MARK, 1);
    assert_int_equal(LOG_RECORD_ENTRY, 2);
    assert_int_equal(LOG_RECORD_TRUNCATE, 3);
    assert_int_equal(LOG_RECORD_RESET, 4);
}

static void truncate_and_reset_are_heads_alone(void **state)
{
    static const uint8_t want[2][LOG_RECORD_BYTES] = {
        {0x69, 0x1c, 0xc0, 0x3c, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0},
        {0x5a, 0xda, 0x0b, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0},
    };
    static const uint8_t kinds[] = {LOG_RECORD_TRUNCATE, LOG_RECORD_RESET};

    for (size_t i = 0; i < 2; i++) {
        struct log_record r = {.kind = kinds[i], .index = 7, .term = 2};
        uint8_t got[LOG_RECORD_BYTES];

        log_record_encode(&r, got);
        log_record_seal(got, log_head_seed(&head), 8192);
        assert_memory_equal(got, want[i], sizeof(got));
    }
}

static void the_mark_of_a_flush(void **state)
{
    static const uint8_t want[LOG_MARK_BYTES] = {
        0xb2, 0xeb, 0x7e, 0x93, 0x4b, 0xdb, 0xe7, 0x7f, 16, 0, 0, 0, 1, 0, 0, 0,
        2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        18, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0,
    };
    struct log_mark m = {.flush = 18, .bytes = 96, .records = 1, .index = 0x0102, .term = 5}, back;
    uint8_t got[LOG_MARK_BYTES];

    log_mark_encode(&m, got);
    log_record_seal(got, log_head_seed(&head), 4096);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(log_mark_decode(got, log_head_seed(&head), 4096, &back), 0);
    assert_memory_equal(&back, &m, sizeof(m));
}

static void the_hard_state(void **state)
{
    static const uint8_t want[LOG_HARD_BYTES] = {
        'Q', 'F', 'S', 'V', 'O', 'T', 'E', '\n', 1, 0, 0, 0, 0, 0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9, 0, 0, 0, 0, 0, 0, 0,
        6, 0, 0, 0, 0, 0, 0, 0, 0xab, 0, 0, 0, 0, 0, 0, 0,
        18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xea, 0x09, 0x7f, 0xc4,
    };
    struct log_hard h = {0x1122334455667788, 9, 6, 0xab, 18}, back;
    uint8_t got[LOG_HARD_BYTES];

    log_hard_encode(&h, got);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(log_hard_decode(got, &back), 0);
    assert_memory_equal(&back, &h, sizeof(h));
}

static void any_flipped_bit_is_seen(void **state)
{
    struct log_record r = {.payload_len = 5, .kind = LOG_RECORD_ENTRY, .type = 1, .index = 9, .term = 3}, record;
    struct log_mark m = {.flush = 18, .bytes = 96, .records = 1, .index = 0x0102, .term = 5}, mark;
    struct log_hard h = {1, 2, 3, 4, 5}, hard;
    struct log_head segment;
    uint8_t bytes[LOG_HEAD_BYTES];

    for (size_t bit = 0; bit < LOG_HEAD_BYTES * 8; bit++) {
        log_head_encode(&head, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(log_head_decode(bytes, &segment), -EBADMSG);
        if (bit < LOG_RECORD_BYTES * 8) {
            log_record_encode(&r, bytes);
            log_record_seal(bytes, 77, 4096);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(log_record_decode(bytes, 77, 4096, &record), -EBADMSG);
        }
        if (bit < LOG_MARK_BYTES * 8) {
            log_mark_encode(&m, bytes);
            log_record_seal(bytes, 77, 4096);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(log_mark_decode(bytes, 77, 4096, &mark), -EBADMSG);
        }
        if (bit < LOG_HARD_BYTES * 8) {
            log_hard_encode(&h, bytes);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(log_hard_decode(bytes, &hard), -EBADMSG);
        }
    }
}

static void a_record_is_bound_to_its_segment_and_place(void **state)
{
    struct log_record r = {.payload_len = 5, .kind = LOG_RECORD_ENTRY, .type = 1, .index = 9, .term = 3}, back;
    struct log_head other = head;
    uint8_t bytes[LOG_RECORD_BYTES];

    log_record_encode(&r, bytes);
    log_record_seal(bytes, log_head_seed(&head), 4608);
    assert_int_equal(log_record_decode(bytes, log_head_seed(&head), 5120, &back), -EBADMSG);
    other.sequence = 4;
    assert_int_equal(log_record_decode(bytes, log_head_seed(&other), 4608, &back), -EBADMSG);
    other.sequence = 3;
    other.cluster_id++;
    assert_int_equal(log_record_decode(bytes, log_head_seed(&other), 4608, &back), -EBADMSG);
}

static void a_newer_format_is_told_from_damage(void **state)
{
    struct log_record r = {.kind = LOG_RECORD_RESET}, record;
    struct log_hard h = {1, 2, 3, 4, 5}, hard;
    struct log_head segment;
    uint8_t bytes[LOG_HEAD_BYTES];
    uint32_t crc;

    log_head_encode(&head, bytes);
    bytes[8] = 2;
    assert_int_equal(log_head_decode(bytes, &segment), -EBADMSG); /* its CRC is that of format 1 */
    crc = crc32c(0, bytes, LOG_HEAD_BYTES - 4);
    for (size_t i = 0; i < 4; i++)
        bytes[LOG_HEAD_BYTES - 4 + i] = (uint8_t)(crc >> 8 * i);
    assert_int_equal(log_head_decode(bytes, &segment), -EPROTONOSUPPORT);

    log_hard_encode(&h, bytes);
    bytes[8] = 2;
    crc = crc32c(0, bytes, LOG_HARD_BYTES - 4);
    for (size_t i = 0; i < 4; i++)
        bytes[LOG_HARD_BYTES - 4 + i] = (uint8_t)(crc >> 8 * i);
    assert_int_equal(log_hard_decode(bytes, &hard), -EPROTONOSUPPORT);

    log_record_encode(&r, bytes);
    bytes[14] = 1; /* flags: none is known */
    log_record_seal(bytes, 77, 4096);
    assert_int_equal(log_record_decode(bytes, 77, 4096, &record), -EPROTONOSUPPORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_of_a_segment),
        cmocka_unit_test(the_head_of_an_entry),
        cmocka_unit_test(the_kinds_of_records),
        cmocka_unit_test(truncate_and_reset_are_heads_alone),
        cmocka_unit_test(the_mark_of_a_flush),
        cmocka_unit_test(the_hard_state),
        cmocka_unit_test(any_flipped_bit_is_seen),
        cmocka_unit_test(a_record_is_bound_to_its_segment_and_place),
        cmocka_unit_test(a_newer_format_is_told_from_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
