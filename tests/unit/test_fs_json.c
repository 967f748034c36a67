/* fs/json: texts of any bytes become JSON that any reader takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <jansson.h>

#include "fs/json.h"

static void commas_stand_between_values(void **state)
{
    static const char want[] = "{\"a\":[\"x\",\"y\",{}],\"b\":-5,\"c\":true,\"d\":\"ff\"}\n{\"e\":[]}";
    struct bytes out;

    bytes_init(&out);
    json_open(&out, '{');
    json_name(&out, "a");
    json_open(&out, '[');
    json_text(&out, slice_from_str("x"));
    json_text(&out, slice_from_str("y"));
    json_open(&out, '{');
    json_close(&out, '}');
    json_close(&out, ']');
    json_name(&out, "b");
    json_number(&out, -5);
    json_name(&out, "c");
    json_bool(&out, true);
    json_name(&out, "d");
    json_hex(&out, 255);
    json_close(&out, '}');
    bytes_u8(&out, '\n');
    json_open(&out, '{');
    json_name(&out, "e");
    json_open(&out, '[');
    json_close(&out, ']');
    json_close(&out, '}');
    assert_int_equal(out.len, sizeof(want) - 1);
    assert_memory_equal(out.data, want, out.len);
    bytes_fini(&out);
}

/* Read back by another implementation. */
static void any_bytes_can_be_read_back(void **state)
{
    unsigned seed = 1;

    for (int round = 0; round < 3000; round++) {
        uint8_t text[24];
        size_t len = (size_t)rand_r(&seed) % sizeof(text);
        struct bytes out;
        json_t *object, *value;

        for (size_t i = 0; i < len; i++)
            text[i] = (uint8_t)(rand_r(&seed) % (round % 2 ? 128 : 256));
        bytes_init(&out);
        json_open(&out, '{');
        json_bytes(&out, "t", slice_make(text, len));
        json_close(&out, '}');
        object = json_loadb((const char *)out.data, out.len, JSON_ALLOW_NUL, NULL);
        assert_non_null(object);
        value = json_object_get(object, "t");
        assert_int_equal(value != NULL, json_is_utf8(slice_make(text, len)));
        if (value != NULL) {
            assert_int_equal(json_string_length(value), len);
            assert_memory_equal(json_string_value(value), text, len);
        } else {
            assert_int_equal(json_string_length(json_object_get(object, "t_base64")), (len + 2) / 3 * 4);
        }
        json_decref(object);
        bytes_fini(&out);
    }
}

static void utf8_is_told_from_what_is_not(void **state)
{
    static const char *const good[] = {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf"};
    static const char *const bad[] = {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "a\xe2\x82"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(json_is_utf8(slice_from_str(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(json_is_utf8(slice_from_str(bad[i])));
}

static void base64_is_as_everywhere(void **state)
{
    struct bytes out;

    bytes_init(&out);
    json_bytes(&out, "x", slice_make("\xff\xfe\xfd\xfc", 4));
    assert_int_equal(out.len, strlen("\"x_base64\":\"//79/A==\""));
    assert_memory_equal(out.data, "\"x_base64\":\"//79/A==\"", out.len);
    bytes_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_stand_between_values),
        cmocka_unit_test(any_bytes_can_be_read_back),
        cmocka_unit_test(utf8_is_told_from_what_is_not),
        cmocka_unit_test(base64_is_as_everywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
