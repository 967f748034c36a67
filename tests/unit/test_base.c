/* base/: buffers that grow, readers that never pass the end, the CRC's published values, arenas, errors. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/list.h"
#include "base/logger.h"
#include "base/status.h"
#include "base/streams.h"
#include "base/timeslice.h"

#define crc32c crc32c_again /* for its static parts: the portable one never runs on most machines */
uint32_t crc32c_again(uint32_t crc, const void *data, size_t len);
#include "base/crc32c.c"
#undef crc32c

static void crc32c_is_the_same_without_the_instruction(void **state)
{
    uint8_t data[257];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 167 + 13);
    for (size_t len = 0; len <= sizeof(data); len++)
        assert_int_equal(~crc_portable(~0u, data, len), crc32c(0, data, len));
}

static void integers_round_trip_in_little_endian(void **state)
{
    struct bytes b;
    struct reader r;

    bytes_init(&b);
    bytes_u8(&b, 0x12);
    bytes_u16(&b, 0x3456);
    bytes_u32(&b, 0x789abcde);
    bytes_u64(&b, 0x0123456789abcdefULL);
    assert_int_equal(bytes_status(&b), 0);
    assert_memory_equal(b.data, "\x12\x56\x34\xde\xbc\x9a\x78\xef\xcd\xab\x89\x67\x45\x23\x01", 15);
    r = reader_make(bytes_slice(&b));
    assert_int_equal(reader_u8(&r), 0x12);
    assert_int_equal(reader_u16(&r), 0x3456);
    assert_int_equal(reader_u32(&r), 0x789abcde);
    assert_int_equal(reader_u64(&r), 0x0123456789abcdefULL);
    assert_true(reader_at_end(&r));
    assert_int_equal(reader_status(&r), 0);
    bytes_fini(&b);
}

static void varints_round_trip(void **state)
{
    static const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX};
    struct bytes b;

    bytes_init(&b);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        bytes_varint(&b, values[i]);
    struct reader r = reader_make(bytes_slice(&b));
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_int_equal(reader_varint(&r), values[i]);
    assert_true(reader_at_end(&r) && reader_status(&r) == 0);
    bytes_fini(&b);
}

static void varints_that_lie_are_refused(void **state)
{
    static const char *const bad[] = {"\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
                                      "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"};

    for (size_t i = 0; i < 3; i++) {
        struct reader r = reader_make(slice_from_str(bad[i]));

        assert_int_equal(reader_varint(&r), 0);
        assert_int_equal(reader_status(&r), -EBADMSG);
    }
}

static void a_length_past_the_end_yields_nothing_and_sticks(void **state)
{
    struct reader r = reader_make(slice_make("\x05\x00\x00\x00"
                                             "abc",
                                             7));
    struct slice s = reader_u32_slice(&r);

    assert_int_equal(s.len, 0);
    assert_int_equal(reader_status(&r), -EBADMSG);
    assert_int_equal(reader_u8(&r), 0); /* not 'a': an error is final */
    assert_true(reader_at_end(&r));
    r = reader_make(slice_make("\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9));
    assert_int_equal(reader_varint_slice(&r).len, 0);
    assert_int_equal(reader_status(&r), -EBADMSG);
}

static void an_empty_slice_reads_as_the_end(void **state)
{
    struct reader r = reader_make(slice_make(NULL, 0));

    assert_true(reader_at_end(&r));
    assert_int_equal(reader_status(&r), 0);
    assert_int_equal(reader_raw(&r, 0).len, 0);
    assert_int_equal(reader_status(&r), 0);
}

static void taken_bytes_leave_an_empty_buffer(void **state)
{
    struct bytes b;
    size_t len = 0;
    uint8_t *p;

    bytes_init(&b);
    for (int i = 0; i < 1000; i++)
        bytes_u32(&b, 0);
    bytes_patch_u32(&b, 3996, 0x64636261);
    p = bytes_take(&b, &len);
    assert_int_equal(len, 4000);
    assert_memory_equal(p + 3996, "abcd", 4);
    assert_int_equal(b.len, 0);
    free(p);
    bytes_fini(&b);
}

static void a_size_past_all_memory_is_a_sticky_error(void **state)
{
    struct bytes b;

    bytes_init(&b);
    bytes_u8(&b, 1);
    assert_null(bytes_grow(&b, SIZE_MAX / 2));
    bytes_u8(&b, 2);
    assert_int_equal(bytes_status(&b), -ENOMEM);
    bytes_fini(&b);
}

/* Values of RFC 3720, B.4, and that pieces in any cut give the whole. */
static void crc32c_has_the_published_values(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];

    memset(ones, 0xff, 32);
    for (int i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(crc32c(0, up, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c(crc32c(0, up, cut), up + cut, 32 - cut), 0x46dd794e);
}

static void slices_order_by_bytes_and_then_length(void **state)
{
    assert_true(slice_cmp(slice_from_str("a"), slice_from_str("b")) < 0);
    assert_true(slice_cmp(slice_from_str("a"), slice_from_str("a/b")) < 0);
    assert_true(slice_cmp(slice_make("\xff", 1), slice_make("\x7f", 1)) > 0);
    assert_true(slice_cmp(slice_make(NULL, 0), slice_make("", 0)) == 0);
    assert_true(slice_has_prefix(slice_from_str("/a/b"), slice_from_str("/a")));
    assert_false(slice_has_prefix(slice_from_str("/a"), slice_from_str("/a/b")));
}

static void arena_memory_is_zeroed_aligned_and_counted(void **state)
{
    struct arena a;
    struct slice copy;

    arena_init(&a);
    for (size_t n = 1; n < 20000; n = n * 3 + 1) {
        uint8_t *p = arena_alloc(&a, n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
    }
    assert_int_equal(arena_copy(&a, slice_from_str("text"), &copy), 0);
    assert_memory_equal(copy.data, "text", 4);
    assert_null(arena_array(&a, SIZE_MAX / 4, 8));
    arena_reset(&a);
    assert_true(a.total_bytes <= 8192);
    arena_fini(&a);
}

static void a_list_removes_while_walking(void **state)
{
    struct item {
        int n;
        struct list link;
    } items[5];
    struct list head;
    int sum = 0;

    list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i].n = i;
        list_push_back(&head, &items[i].link);
    }
    LIST_FOREACH_SAFE(it, &head) {
        struct item *item = LIST_ITEM(it, struct item, link);

        if (item->n % 2 == 1)
            list_remove(it);
    }
    LIST_FOREACH(it, &head)
        sum = sum * 10 + LIST_ITEM(it, struct item, link)->n;
    assert_int_equal(sum, 24);
    list_remove(&items[1].link); /* again: harmless */
}

static void every_status_has_its_row_and_unknown_ones_too(void **state)
{
    assert_string_equal(status_text(STATUS_COMPACTED), "etcdserver: mvcc: required revision has been compacted");
    assert_int_equal(status_grpc_code(STATUS_COMPACTED), GRPC_OUT_OF_RANGE);
    assert_int_equal(status_errno(STATUS_NO_SPACE), ENOSPC);
    assert_string_equal(status_name(STATUS_NOT_EMPTY), "NOT_EMPTY");
    assert_int_equal(status_grpc_code(9999), GRPC_UNKNOWN);
    assert_int_equal(status_errno(9999), EIO);
}

static void log_levels_are_etcds(void **state)
{
    enum log_level level;

    assert_true(logger_level_parse("warn", &level));
    assert_int_equal(level, LOG_LEVEL_WARN);
    assert_false(logger_level_parse("loud", &level));
}

static void closed_standard_streams_become_nobodys_files(void **state)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        for (int fd = 0; fd <= 2; fd++)
            close(fd);
        if (streams_hold() < 0 || open("/dev/null", O_RDWR) <= 2)
            _exit(1);
        _exit(write(1, "x", 1) < 0 && errno == EBADF ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* 0 if the thread's turns are as long, or the kernel knows of none (before 6.12). */
static int check_slice(uint64_t slice_us)
{
    uint64_t a[6] = {0}; /* the kernel's struct: size and policy; flags; nice and priority; the turn; two more */

    if (syscall(SYS_sched_getattr, 0, a, sizeof(a), 0) < 0)
        return 3;
    return a[3] == slice_us * 1000 || a[3] == 0 ? 0 : 4;
}

static int in_a_child(int (*fn)(void))
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(fn());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int shorten(void)
{
    const struct sched_param none = {0};
    int rc;

    if (sched_setscheduler(0, SCHED_OTHER, &none) < 0 || setpriority(PRIO_PROCESS, 0, 7) < 0)
        return 1;
    if (timeslice_set(300) < 0)
        return 2;
    rc = check_slice(300);
    return rc != 0 ? rc : getpriority(PRIO_PROCESS, 0) == 7 ? 0 : 5;
}

static int shorten_idle(void)
{
    const struct sched_param none = {0};

    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
        return 1;
    return timeslice_set(300) == -EINVAL && sched_getscheduler(0) == SCHED_IDLE ? 0 : 2;
}

static void a_thread_gets_shorter_turns_and_keeps_its_priority(void **state)
{
    assert_int_equal(in_a_child(shorten), 0);
    assert_int_equal(in_a_child(shorten_idle), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_round_trip_in_little_endian),
        cmocka_unit_test(varints_round_trip),
        cmocka_unit_test(varints_that_lie_are_refused),
        cmocka_unit_test(a_length_past_the_end_yields_nothing_and_sticks),
        cmocka_unit_test(an_empty_slice_reads_as_the_end),
        cmocka_unit_test(taken_bytes_leave_an_empty_buffer),
        cmocka_unit_test(a_size_past_all_memory_is_a_sticky_error),
        cmocka_unit_test(crc32c_has_the_published_values),
        cmocka_unit_test(crc32c_is_the_same_without_the_instruction),
        cmocka_unit_test(slices_order_by_bytes_and_then_length),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_counted),
        cmocka_unit_test(a_list_removes_while_walking),
        cmocka_unit_test(every_status_has_its_row_and_unknown_ones_too),
        cmocka_unit_test(log_levels_are_etcds),
        cmocka_unit_test(closed_standard_streams_become_nobodys_files),
        cmocka_unit_test(a_thread_gets_shorter_turns_and_keeps_its_priority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
