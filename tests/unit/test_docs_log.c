/* docs/disk-log.md: its tables of bytes say what the code writes. Run from the top folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft/log_record.h"

/* What stands in a field, by the words that its row begins with. */
struct field {
    const char *words;
    uint64_t value;
};

static char *read_page(void)
{
    FILE *f = fopen("docs/disk-log.md", "r");
    char *text = calloc(1, 1 << 16);

    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
    fclose(f);
    return text;
}

static uint64_t number_at(const uint8_t *p, size_t size)
{
    uint64_t v = 0;

    assert_true(size <= 8);
    for (size_t i = size; i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

/* Each row of the table below the heading: offsets follow on up to total, and in the bytes stands what fields say; a row that
 * begins with "zero" means that, and each field must have its row. */
static void check_table(const char *heading, const uint8_t *bytes, size_t total, const struct field *fields)
{
    char *page = read_page(), *row = strstr(page, heading);
    size_t at = 0, matched = 0, wanted = 0;

    assert_non_null(row);
    row = strstr(row, "\n| ---");
    assert_non_null(row);
    while ((row = strchr(row + 1, '\n')) != NULL && row[1] == '|') {
        unsigned offset, size;
        char words[400];

        assert_int_equal(sscanf(row + 1, "| %u | %u | %399[^|]", &offset, &size, words), 3);
        assert_int_equal(offset, at);
        at += size;
        if (strncmp(words, "zero", 4) == 0)
            for (unsigned i = 0; i < size; i++)
                assert_int_equal(bytes[offset + i], 0);
        for (const struct field *f = fields; f->words != NULL; f++) {
            if (strncmp(words, f->words, strlen(f->words)) != 0)
                continue;
            assert_int_equal(number_at(bytes + offset, size), f->value);
            matched++;
        }
    }
    for (; fields->words != NULL; fields++)
        wanted++;
    assert_int_equal(matched, wanted);
    assert_int_equal(at, total);
    free(page);
}

static void the_head_of_a_segment(void **state)
{
    struct log_head h = {11, 12, 13, 14, 15, 16};
    uint8_t b[LOG_HEAD_BYTES];

    log_head_encode(&h, b);
    check_table("## Segment", b, LOG_HEAD_BYTES,
                (struct field[]){{"`QFSLOG\\r\\n`", number_at((const uint8_t *)"QFSLOG\r\n", 8)},
                                 {"format: 1", 1},
                                 {"cluster id", 11},
                                 {"sequence", 12},
                                 {"index of the last entry", 13},
                                 {"its term", 14},
                                 {"offset at which the segment before ends", 15},
                                 {"number of the last flush", 16},
                                 {"CRC of bytes 0 to 123", crc32c(0, b, 124)},
                                 {NULL, 0}});
}

static void the_head_of_a_record(void **state)
{
    struct log_record r = {21, 22, LOG_RECORD_ENTRY, 3, 24, 25};
    uint8_t b[LOG_RECORD_BYTES], prefix[24];

    put_le64(prefix, 11);
    put_le64(prefix + 8, 12);
    put_le64(prefix + 16, 4144);
    log_record_encode(&r, b);
    log_record_seal(b, log_head_seed(&(struct log_head){.cluster_id = 11, .sequence = 12}), 4144);
    check_table("## Records", b, LOG_RECORD_BYTES,
                (struct field[]){{"CRC over:", crc32c(crc32c(0, prefix, sizeof(prefix)), b + 4, 28)},
                                 {"CRC of the payload", 21},
                                 {"length of the payload, at most 64 MiB", 22},
                                 {"kind", LOG_RECORD_ENTRY},
                                 {"type of an entry", 3},
                                 {"flags: 0", 0},
                                 {"index", 24},
                                 {"term", 25},
                                 {NULL, 0}});
}

static void the_hard_state(void **state)
{
    struct log_hard h = {31, 32, 33, 34, 35};
    uint8_t b[LOG_HARD_BYTES];

    log_hard_encode(&h, b);
    check_table("## The hard state", b, LOG_HARD_BYTES,
                (struct field[]){{"`QFSVOTE\\n`", number_at((const uint8_t *)"QFSVOTE\n", 8)},
                                 {"format: 1", 1},
                                 {"cluster id", 31},
                                 {"number of the state", 32},
                                 {"term", 33},
                                 {"member voted for", 34},
                                 {"number of a flush that was durable", 35},
                                 {"CRC of bytes 0 to 59", crc32c(0, b, 60)},
                                 {NULL, 0}});
}

static void the_kinds_of_records(void **state)
{
    static const struct {
        const char *row;
        int kind;
    } kinds[] = {{"| 1 mark |", LOG_RECORD_MARK},
                 {"| 2 entry |", LOG_RECORD_ENTRY},
                 {"| 3 truncate |", LOG_RECORD_TRUNCATE},
                 {"| 4 reset |", LOG_RECORD_RESET}};
    char *page = read_page();

    for (size_t i = 0; i < 4; i++) {
        assert_non_null(strstr(page, kinds[i].row));
        assert_int_equal(kinds[i].kind, i + 1);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_of_a_segment),
        cmocka_unit_test(the_head_of_a_record),
        cmocka_unit_test(the_hard_state),
        cmocka_unit_test(the_kinds_of_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
