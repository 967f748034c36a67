/* Commands and answers from any bytes: decoding says yes or a known no, and what was decoded survives being encoded. */
#include <errno.h>

#include "proto/command.h"
#include "tests/fuzz/fuzz.h"

static void check_result(struct slice in, struct arena *arena)
{
    struct result r;
    uint16_t kind;

    if (in.len < 1)
        return;
    kind = in.data[0] % 48;
    r = (struct result){0};
    in = slice_make(in.data + 1, in.len - 1);
    if (result_decode(kind, in, arena, &r) == 0) {
        struct bytes once, twice;
        struct result again = {0};

        bytes_init(&once);
        bytes_init(&twice);
        r.kind = kind;
        result_encode(&r, &once);
        FUZZ_MUST(result_decode(kind, bytes_slice(&once), arena, &again) == 0);
        again.kind = kind;
        result_encode(&again, &twice);
        FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));
        bytes_fini(&once);
        bytes_fini(&twice);
    }
}

static void check_command(struct slice in, struct arena *arena)
{
    struct command cmd, again;
    struct bytes once, twice;
    struct slice body;
    int rc = command_decode(in, arena, &cmd);

    FUZZ_MUST(rc == 0 || rc == -EBADMSG || rc == -ENOTSUP || rc == -E2BIG || rc == -ENOMEM);
    if (rc < 0)
        return;
    FUZZ_MUST(command_decode_envelope(in, &again, &body) == 0);
    FUZZ_MUST(again.kind == cmd.kind && again.session == cmd.session && again.request == cmd.request);
    FUZZ_MUST(body.len <= in.len);
    command_check(&cmd);
    bytes_init(&once);
    bytes_init(&twice);
    command_encode(&cmd, &once);
    FUZZ_MUST(bytes_status(&once) == 0);
    FUZZ_MUST(command_decode(bytes_slice(&once), arena, &again) == 0);
    command_encode(&again, &twice);
    FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));
    command_stamp(once.data, 1, 2, 3);
    FUZZ_MUST(command_decode(bytes_slice(&once), arena, &again) == 0);
    FUZZ_MUST(again.origin == 1 && again.request == 2 && again.time_ns == (cmd.time_ns != 0 ? cmd.time_ns : 3));
    bytes_fini(&once);
    bytes_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;

    if (size < 1)
        return 0;
    arena_init(&arena);
    if (data[0] == 0xff) /* no format of a command */
        check_result(slice_make(data + 1, size - 1), &arena);
    else
        check_command(slice_make(data, size), &arena);
    arena_fini(&arena);
    return 0;
}
