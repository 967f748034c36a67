/* fs/init_flags: the first message of the kernel and the reply to it, by their bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <linux/fuse.h>

#include "fs/init_flags.h"

#define MAY_MAP (1u << 4)

struct request {
    struct fuse_in_header header;
    struct fuse_init_in init;
};

static struct request request_of(uint32_t flags, uint32_t flags2)
{
    struct request r = {.header = {.len = sizeof(r), .opcode = FUSE_INIT, .unique = 2}};

    r.init.major = 7;
    r.init.minor = 39;
    r.init.flags = flags;
    r.init.flags2 = flags2;
    return r;
}

static uint32_t reply_to(struct init_flags *f, uint64_t unique, int error, struct fuse_init_out *init)
{
    struct fuse_out_header head = {.unique = unique, .error = error};

    init_flags_reply(f, &head, sizeof(head), init, sizeof(*init));
    return init->flags2;
}

static void what_the_kernel_offers_is_asked_for_once(void **state)
{
    struct request r = request_of(FUSE_INIT_EXT | FUSE_ASYNC_READ, MAY_MAP | 1);
    struct fuse_init_out init = {.flags = FUSE_ASYNC_READ}, other = {0};
    struct init_flags f = {0};

    init_flags_request(&f, &r, sizeof(r));
    assert_true(f.may_map);
    assert_int_equal(reply_to(&f, 7, 0, &other), 0); /* to something else */
    assert_int_equal(reply_to(&f, 2, 0, &init), MAY_MAP);
    assert_int_equal(init.flags, FUSE_ASYNC_READ | FUSE_INIT_EXT);
    assert_int_equal(reply_to(&f, 2, 0, &other), 0);
    assert_int_equal(other.flags, 0);
}

static void what_it_does_not_offer_is_not(void **state)
{
    struct request old = request_of(FUSE_ASYNC_READ, MAY_MAP), less = request_of(FUSE_INIT_EXT, 0), other = less;
    struct fuse_init_out init = {0};
    struct init_flags f = {0};

    init_flags_request(&f, &old, sizeof(old)); /* without the extension the second word means nothing */
    assert_int_equal(reply_to(&f, 2, 0, &init), 0);
    init_flags_request(&f, &less, sizeof(less));
    assert_int_equal(reply_to(&f, 2, 0, &init), 0);
    assert_int_equal(init.flags, 0);
    f = (struct init_flags){0};
    other.header.opcode = FUSE_GETATTR;
    init_flags_request(&f, &other, sizeof(other));
    assert_int_equal(f.unique, 0);
}

/* An older kernel's INIT is shorter, a refusal has no body, and whatever else comes is left alone. */
static void other_shapes_are_left_alone(void **state)
{
    struct request r = request_of(FUSE_INIT_EXT, MAY_MAP);
    struct fuse_out_header head = {.unique = 2};
    struct fuse_init_out init = {0};
    struct init_flags f = {0};

    for (size_t len = 0; len < sizeof(r); len++)
        init_flags_request(&f, &r, len);
    assert_int_equal(f.unique, 0);
    init_flags_request(&f, &r, sizeof(r));
    init_flags_reply(&f, &head, sizeof(head) - 1, &init, sizeof(init));
    assert_int_equal(f.unique, 2);
    init_flags_reply(&f, &head, sizeof(head), &init, sizeof(init) - 1);
    assert_int_equal(f.unique, 0);
    init_flags_request(&f, &r, sizeof(r));
    assert_int_equal(reply_to(&f, 2, -EPROTO, &init), 0);
    assert_int_equal(init.flags, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_kernel_offers_is_asked_for_once),
        cmocka_unit_test(what_it_does_not_offer_is_not),
        cmocka_unit_test(other_shapes_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
