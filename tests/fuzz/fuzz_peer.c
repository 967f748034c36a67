/* Peer messages from any bytes; the first byte is the type. A peer may lie, but what passes keeps to the limits that the core
 * relies on. */
#include <errno.h>

#include "raft/lease_message.h"
#include "raft/message.h"
#include "tests/fuzz/fuzz.h"

#define ROUND(name, type)                                                                               \
    do {                                                                                                \
        struct peer_##type m[2];                                                                        \
                                                                                                        \
        if (peer_##name##_decode(in, &m[0]) == 0) {                                                     \
            peer_##name##_encode(&m[0], &once);                                                         \
            FUZZ_MUST(peer_##name##_decode(bytes_slice(&once), &m[1]) == 0);                            \
            peer_##name##_encode(&m[1], &twice);                                                        \
            FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));                            \
        }                                                                                               \
    } while (0)

static void check_append(const struct peer_append *a, struct arena *arena)
{
    uint64_t term = a->prev_term;

    FUZZ_MUST(a->n_entries <= APPEND_MAX_ENTRIES);
    for (size_t i = 0; i < a->n_entries; i++) {
        const struct log_entry *e = &a->entries[i];
        struct slice *commands;
        size_t count;

        FUZZ_MUST(e->index == a->prev_index + 1 + i);
        FUZZ_MUST(e->term >= term && e->term <= a->term);
        FUZZ_MUST(e->payload.len <= ENTRY_MAX_BYTES);
        term = e->term;
        if (e->type == LOG_ENTRY_COMMANDS)
            entry_decode(e->payload, arena, &commands, &count);
    }
}

static void check_entry(struct slice in, struct arena *arena)
{
    struct slice *commands;
    size_t count;

    entry_count(in);
    if (entry_decode(in, arena, &commands, &count) < 0)
        return;
    FUZZ_MUST(count <= ENTRY_MAX_COMMANDS && count == entry_count(in));
    for (size_t i = 0; i < count; i++)
        FUZZ_MUST(commands[i].len <= in.len);
}

/* Arrays from the arena: decoded, encoded, decoded, encoded. */
#define ROUND_IN_ARENA(type, n)                                                                         \
    do {                                                                                                \
        struct peer_##type m[2];                                                                        \
                                                                                                        \
        if (peer_##type##_decode(in, arena, &m[0]) == 0) {                                              \
            FUZZ_MUST(m[0].n <= LEASE_FRAME_ITEMS);                                                     \
            peer_##type##_encode(&m[0], &once);                                                         \
            FUZZ_MUST(peer_##type##_decode(bytes_slice(&once), arena, &m[1]) == 0);                     \
            peer_##type##_encode(&m[1], &twice);                                                        \
            FUZZ_MUST(slice_equal(bytes_slice(&once), bytes_slice(&twice)));                            \
        }                                                                                               \
    } while (0)

static void check(uint8_t type, struct slice in, struct arena *arena)
{
    struct peer_message core = {0};
    struct peer_forward f;
    struct bytes once, twice;

    bytes_init(&once);
    bytes_init(&twice);
    switch (type) {
    case PEER_FORWARD:
        if (peer_forward_decode(in, arena, &f) == 0)
            FUZZ_MUST(f.n_commands <= ENTRY_MAX_COMMANDS);
        break;
    case PEER_FORWARD_REJECT:
        ROUND(forward_reject, forward_reject);
        break;
    case PEER_READ_INDEX:
        ROUND(read_index, read_index);
        break;
    case PEER_READ_INDEX_REPLY:
        ROUND(read_index_reply, read_index_reply);
        break;
    case PEER_READ_CONFIRM:
    case PEER_READ_CONFIRMED:
        ROUND(read_confirm, read_confirm);
        break;
    case PEER_COMMIT:
        ROUND(commit, commit);
        break;
    case PEER_LEASE:
        ROUND_IN_ARENA(lease, n_items);
        break;
    case PEER_LEASE_REPLY:
        ROUND_IN_ARENA(lease_reply, n_answers);
        break;
    case PEER_MEMBER_CHANGE:
        ROUND(member_change, member_change);
        break;
    case PEER_MEMBER_RESULT:
        ROUND(member_result, member_result);
        break;
    case PEER_SNAPSHOT_OFFER:
        ROUND(snapshot_offer, snapshot_offer);
        break;
    case PEER_SNAPSHOT_REPLY:
        ROUND(snapshot_reply, snapshot_reply);
        break;
    case 0:
        check_entry(in, arena);
        break;
    default:
        if (peer_message_decode(type, in, arena, &core) == 0 && core.type == PEER_APPEND)
            check_append(&core.append, arena);
        break;
    }
    bytes_fini(&once);
    bytes_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;

    if (size < 1)
        return 0;
    arena_init(&arena);
    check(data[0], slice_make(data + 1, size - 1), &arena);
    arena_fini(&arena);
    return 0;
}
