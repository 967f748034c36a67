/* base/url: what is an address and what is not, and that equal addresses become equal texts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/url.h"

static void good_urls_have_one_spelling(void **state)
{
    static const struct {
        const char *text, *canonical, *address, *host;
        enum url_scheme scheme;
        int port;
    } cases[] = {
        {"http://localhost:2379", "http://localhost:2379", "localhost:2379", "localhost", URL_HTTP, 2379},
        {"HTTPS://10.0.0.1:1/", "https://10.0.0.1:1", "10.0.0.1:1", "10.0.0.1", URL_HTTPS, 1},
        {"http://[::1]:65535", "http://[::1]:65535", "[::1]:65535", "::1", URL_HTTP, 65535},
        {"http://[fe80::1%eth0]:80", "http://[fe80::1%eth0]:80", "[fe80::1%eth0]:80", "fe80::1%eth0", URL_HTTP, 80},
        {"http://a-b.example_x:0080", "http://a-b.example_x:80", "a-b.example_x:80", "a-b.example_x", URL_HTTP, 80},
        {"unix:///run/q.sock", "unix:///run/q.sock", "/run/q.sock", "/run/q.sock", URL_UNIX, 0},
        {"unixs://q.sock", "unixs://q.sock", "q.sock", "q.sock", URL_UNIXS, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[URL_TEXT_MAX_BYTES];
        const char *why = NULL;
        struct url u;

        assert_int_equal(url_parse(slice_from_str(cases[i].text), &u, &why), 0);
        assert_int_equal(u.scheme, cases[i].scheme);
        assert_int_equal(u.port, cases[i].port);
        assert_string_equal(u.host, cases[i].host);
        url_format(&u, text, sizeof(text));
        assert_string_equal(text, cases[i].canonical);
        url_format_address(&u, text, sizeof(text));
        assert_string_equal(text, cases[i].address);
    }
}

static void bad_urls_are_refused_with_a_reason(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "begin with"},
        {"127.0.0.1", "begin with"},
        {"localhost:2379", "begin with"},
        {"ftp://a:1", "begin with"},
        {"http://", "host is missing"},
        {"http:///", "host is missing"},
        {"http://:80", "host is missing"},
        {"http://a", "port is missing"},
        {"http://a:", "port is missing"},
        {"http://a:b", "port is missing"},
        {"http://a:+1", "port is missing"},
        {"http://a:123456", "port is missing"},
        {"http://a:0", "out of range"},
        {"http://a:70000", "out of range"},
        {"http://a:80/path", "path"},
        {"http://a b:80", "character"},
        {"http://u@a:80", "character"},
        {"http://fe80::1:80", "port is missing"},
        {"http://[::1:80", "not closed"},
        {"http://[::1]80", "port is missing"},
        {"http://[::1]", "port is missing"},
        {"http://[abc]:80", "no IPv6"},
        {"unix://", "path is missing"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = "";
        struct url u;

        if (url_parse(slice_from_str(cases[i].text), &u, &why) != -EINVAL || strstr(why, cases[i].why) == NULL)
            fail_msg("'%s': '%s'", cases[i].text, why);
    }
}

static void hosts_and_paths_have_limits(void **state)
{
    char text[600];
    const char *why = "";
    struct url u;

    snprintf(text, sizeof(text), "http://%0253d:1", 0);
    assert_int_equal(url_parse(slice_from_str(text), &u, &why), 0);
    snprintf(text, sizeof(text), "http://%0254d:1", 0);
    assert_int_equal(url_parse(slice_from_str(text), &u, &why), -EINVAL);
    snprintf(text, sizeof(text), "unix:///%0106d", 0);
    assert_int_equal(url_parse(slice_from_str(text), &u, &why), 0);
    snprintf(text, sizeof(text), "unix:///%0107d", 0);
    assert_int_equal(url_parse(slice_from_str(text), &u, &why), -EINVAL);
}

static void lists_name_their_bad_item(void **state)
{
    struct url urls[2];
    struct slice bad;
    const char *why;
    size_t n = 77;

    assert_int_equal(url_list_parse(slice_from_str("http://a:1,http://b:2"), urls, 2, &n, &bad, &why), 0);
    assert_int_equal(n, 2);
    assert_string_equal(urls[1].host, "b");
    n = 77;
    assert_int_equal(url_list_parse(slice_from_str("http://a:1,b:2,c"), urls, 2, &n, &bad, &why), -EINVAL);
    assert_true(slice_equal(bad, slice_from_str("b:2")));
    assert_int_equal(url_list_parse(slice_from_str("http://a:1,"), urls, 2, &n, &bad, &why), -EINVAL);
    assert_int_equal(bad.len, 0);
    assert_int_equal(url_list_parse(slice_from_str("http://a:1,http://a:2,http://a:3"), urls, 2, &n, &bad, &why),
                     -EINVAL);
    assert_true(slice_equal(bad, slice_from_str("http://a:3")));
    assert_int_equal(n, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls_have_one_spelling),
        cmocka_unit_test(bad_urls_are_refused_with_a_reason),
        cmocka_unit_test(hosts_and_paths_have_limits),
        cmocka_unit_test(lists_name_their_bad_item),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
