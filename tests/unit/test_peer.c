/* What members say to each other: the examples of docs/peer.md byte for byte, and that no other bytes pass.
 * Run from the top folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <cmocka.h>

#include "raft/lease_message.h"
#include "base/status.h"
#include "raft/message.h"

#define MAX_BYTES 512

struct example {
    uint8_t bytes[MAX_BYTES];
    size_t len;
};

/* The hexadecimal bytes of the line "Example: `...`" below a heading of the page. */
static struct example example_of(const char *heading)
{
    static char page[1 << 16];
    FILE *f = fopen("docs/peer.md", "r");
    struct example e = {{0}, 0};
    char *p;
    int n;

    assert_non_null(f);
    page[fread(page, 1, sizeof page - 1, f)] = '\0';
    fclose(f);
    p = strstr(page, heading);
    assert_non_null(p);
    p = strstr(p, "Example: `");
    assert_non_null(p);
    for (p += strlen("Example: `"); *p != '`'; p += n) {
        unsigned byte;

        assert_int_equal(sscanf(p, " %2x%n", &byte, &n), 1);
        assert_true(e.len < MAX_BYTES);
        e.bytes[e.len++] = (uint8_t)byte;
        while (p[n] == ' ' || p[n] == '\n')
            n++;
    }
    return e;
}

static void assert_example(const char *heading, const struct bytes *out)
{
    struct example e = example_of(heading);

    assert_int_equal(bytes_status(out), 0);
    if (out->len != e.len || memcmp(out->data, e.bytes, e.len) != 0) {
        printf("%s:", heading);
        for (size_t i = 0; i < out->len; i++)
            printf(" %02x", out->data[i]);
        printf("\n");
    }
    assert_int_equal(out->len, e.len);
    assert_memory_equal(out->data, e.bytes, e.len);
}

static const struct log_entry entries[2] = {
    {.index = 10, .term = 4, .type = LOG_ENTRY_BARRIER, .payload = {NULL, 0}},
    {.index = 11, .term = 5, .type = LOG_ENTRY_COMMANDS, .payload = {(const uint8_t *)"abc", 3}},
};

static const struct {
    const char *heading;
    struct peer_message message;
} messages[] = {
    {"### VOTE (", {.type = PEER_VOTE, .vote = {7, 0x0102030405, 6, false, true}}},
    {"### VOTE_RESULT (", {.type = PEER_VOTE_RESULT, .vote_result = {7, true, false}}},
    {"### APPEND (", {.type = PEER_APPEND, .append = {5, 9, 4, 8, entries, 2, 0}}},
    {"### APPEND_RESULT (", {.type = PEER_APPEND_RESULT, .append_result = {5, 9, 8, 0}}},
    {"### TIMEOUT_NOW (", {.type = PEER_TIMEOUT_NOW, .timeout_now = {5, 11, 5}}},
};

static void messages_are_the_bytes_of_the_page(void **state)
{
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        const struct peer_message *want = &messages[i].message;
        struct peer_message got = {.peer = 3};
        struct example e = example_of(messages[i].heading);
        struct arena arena;
        struct bytes out;

        bytes_init(&out);
        arena_init(&arena);
        peer_message_encode(want, &out);
        assert_example(messages[i].heading, &out);
        assert_int_equal(peer_message_decode((uint8_t)want->type, slice_make(e.bytes, e.len), &arena, &got), 0);
        assert_int_equal(got.type, want->type);
        assert_int_equal(got.peer, 3);
        if (want->type == PEER_APPEND) {
            assert_int_equal(got.append.n_entries, 2);
            assert_int_equal(got.append.entries[1].index, 11);
            assert_int_equal(got.append.entries[1].term, 5);
            assert_true(slice_equal(got.append.entries[1].payload, slice_from_str("abc")));
        }
        /* The same bytes again from what was read. */
        bytes_reset(&out);
        peer_message_encode(&got, &out);
        assert_example(messages[i].heading, &out);
        bytes_fini(&out);
        arena_fini(&arena);
    }
}

/* A round stands behind all the rest, so that who has none sends what the first protocol knows. */
static void a_round_is_eight_bytes_at_the_end(void **state)
{
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct peer_message m = messages[i].message, got = {.peer = 3};
        struct example e = example_of(messages[i].heading);
        struct arena arena;
        struct bytes out;

        if (m.type != PEER_APPEND && m.type != PEER_APPEND_RESULT)
            continue;
        bytes_init(&out);
        arena_init(&arena);
        m.append.round = m.type == PEER_APPEND ? 17 : m.append.round;
        m.append_result.round = m.type == PEER_APPEND_RESULT ? 17 : m.append_result.round;
        peer_message_encode(&m, &out);
        assert_int_equal(out.len, e.len + 8);
        assert_memory_equal(out.data, e.bytes, e.len);
        assert_memory_equal(out.data + e.len, "\x11\0\0\0\0\0\0\0", 8);
        assert_int_equal(peer_message_decode((uint8_t)m.type, bytes_slice(&out), &arena, &got), 0);
        assert_int_equal(m.type == PEER_APPEND ? got.append.round : got.append_result.round, 17);
        for (size_t cut = 1; cut < 8; cut++)
            assert_int_equal(peer_message_decode((uint8_t)m.type, slice_make(out.data, out.len - cut), &arena, &got), -EBADMSG);
        out.data[e.len] = 0; /* none would not be sent */
        assert_int_equal(peer_message_decode((uint8_t)m.type, bytes_slice(&out), &arena, &got), -EBADMSG);
        bytes_fini(&out);
        arena_fini(&arena);
    }
}

static void our_own_are_the_bytes_of_the_page(void **state)
{
    const struct slice commands[2] = {slice_from_str("one"), slice_from_str("three")};
    const struct peer_forward forward = {5, 0xAABB, 2, commands, 2};
    const struct peer_forward_reject reject = {5, 2, PEER_FORWARD_BUSY};
    const struct peer_read_index question = {0x1122334455667788};
    const struct peer_read_index_reply reply = {0x1122334455667788, true, 99};
    const struct peer_read_confirm confirm = {5, 17};
    const struct peer_commit commit = {5, 11, 4};
    const struct peer_member_change change = {5, 1, true, 0, slice_from_str("http://h:1")};
    const struct peer_member_result result = {5, STATUS_OK, 99, 9};
    const struct peer_snapshot_offer offer = {5, 99, 4, 1 << 20, 0x0A0B0C0D};
    const struct peer_snapshot_reply told = {5, 99, PEER_SNAPSHOT_INSTALLED};
    struct peer_snapshot_offer offer2;
    struct peer_snapshot_reply told2;
    struct peer_member_change change2;
    struct peer_member_result result2;
    struct peer_forward forward2;
    struct peer_forward_reject reject2;
    struct peer_read_index question2;
    struct peer_read_index_reply reply2;
    struct peer_read_confirm confirm2;
    struct peer_commit commit2;
    struct arena arena;
    struct bytes out;

    bytes_init(&out);
    arena_init(&arena);
    peer_forward_encode(&forward, &out);
    assert_example("### FORWARD (", &out);
    assert_int_equal(peer_forward_decode(bytes_slice(&out), &arena, &forward2), 0);
    assert_true(forward2.term == 5 && forward2.life == 0xAABB && forward2.sequence == 2 && forward2.n_commands == 2);
    assert_true(slice_equal(forward2.commands[1], commands[1]));
    bytes_reset(&out);
    peer_forward_reject_encode(&reject, &out);
    assert_example("### FORWARD_REJECT (", &out);
    assert_int_equal(peer_forward_reject_decode(bytes_slice(&out), &reject2), 0);
    assert_true(reject2.term == 5 && reject2.sequence == 2 && reject2.reason == PEER_FORWARD_BUSY);
    bytes_reset(&out);
    peer_read_index_encode(&question, &out);
    assert_example("### READ_INDEX (", &out);
    assert_int_equal(peer_read_index_decode(bytes_slice(&out), &question2), 0);
    assert_int_equal(question2.sequence, question.sequence);
    bytes_reset(&out);
    peer_read_index_reply_encode(&reply, &out);
    assert_example("### READ_INDEX_REPLY (", &out);
    assert_int_equal(peer_read_index_reply_decode(bytes_slice(&out), &reply2), 0);
    assert_true(reply2.ok && reply2.index == 99 && reply2.sequence == reply.sequence);
    bytes_reset(&out);
    peer_read_confirm_encode(&confirm, &out);
    assert_example("### READ_CONFIRM (", &out);
    assert_int_equal(peer_read_confirm_decode(bytes_slice(&out), &confirm2), 0);
    assert_true(confirm2.term == 5 && confirm2.sequence == 17);
    bytes_reset(&out);
    peer_commit_encode(&commit, &out);
    assert_example("### COMMIT (", &out);
    assert_int_equal(peer_commit_decode(bytes_slice(&out), &commit2), 0);
    assert_true(commit2.term == 5 && commit2.index == 11 && commit2.index_term == 4);
    bytes_reset(&out);
    peer_snapshot_offer_encode(&offer, &out);
    assert_example("### SNAPSHOT_OFFER (", &out);
    assert_int_equal(peer_snapshot_offer_decode(bytes_slice(&out), &offer2), 0);
    assert_memory_equal(&offer2, &offer, sizeof offer);
    bytes_reset(&out);
    peer_snapshot_reply_encode(&told, &out);
    assert_example("### SNAPSHOT_REPLY (", &out);
    assert_int_equal(peer_snapshot_reply_decode(bytes_slice(&out), &told2), 0);
    assert_true(told2.term == 5 && told2.index == 99 && told2.code == PEER_SNAPSHOT_INSTALLED);
    bytes_reset(&out);
    peer_member_change_encode(&change, &out);
    assert_example("### MEMBER_CHANGE (", &out);
    assert_int_equal(peer_member_change_decode(bytes_slice(&out), &change2), 0);
    assert_true(change2.sequence == 5 && change2.op == 1 && change2.learner && slice_equal(change2.peer_urls, change.peer_urls));
    bytes_reset(&out);
    peer_member_result_encode(&result, &out);
    assert_example("### MEMBER_RESULT (", &out);
    assert_int_equal(peer_member_result_decode(bytes_slice(&out), &result2), 0);
    assert_true(result2.sequence == 5 && result2.status == STATUS_OK && result2.index == 99 && result2.id == 9);
    bytes_fini(&out);
    arena_fini(&arena);
}

static void questions_about_leases_are_the_bytes_of_the_page(void **state)
{
    const struct peer_lease_item items[2] = {{true, 5}, {false, -1}};
    const struct peer_lease_answer answers[1] = {{STATUS_LEASE_NOT_FOUND, 60, 7}};
    struct peer_lease lease;
    struct peer_lease_reply reply;
    struct arena arena;
    struct bytes out;

    bytes_init(&out);
    arena_init(&arena);
    peer_lease_encode(&(struct peer_lease){9, items, 2}, &out);
    assert_example("### LEASE (", &out);
    assert_int_equal(peer_lease_decode(bytes_slice(&out), &arena, &lease), 0);
    assert_true(lease.sequence == 9 && lease.n_items == 2 && lease.items[0].prolong && lease.items[0].id == 5);
    assert_true(!lease.items[1].prolong && lease.items[1].id == -1);
    bytes_reset(&out);
    peer_lease_reply_encode(&(struct peer_lease_reply){9, answers, 1}, &out);
    assert_example("### LEASE_REPLY (", &out);
    assert_int_equal(peer_lease_reply_decode(bytes_slice(&out), &arena, &reply), 0);
    assert_true(reply.sequence == 9 && reply.n_answers == 1 && reply.answers[0].status == STATUS_LEASE_NOT_FOUND);
    assert_true(reply.answers[0].granted_s == 60 && reply.answers[0].remaining_s == 7);
    bytes_fini(&out);
    arena_fini(&arena);
}

static void an_entry_of_commands_is_the_bytes_of_the_page(void **state)
{
    struct slice *commands;
    struct arena arena;
    struct bytes out;
    size_t n;

    bytes_init(&out);
    arena_init(&arena);
    entry_begin(&out);
    entry_add(&out, slice_from_str("one"));
    entry_add(&out, slice_from_str("three"));
    assert_example("## Entries of commands", &out);
    assert_int_equal(entry_count(bytes_slice(&out)), 2);
    assert_int_equal(entry_decode(bytes_slice(&out), &arena, &commands, &n), 0);
    assert_int_equal(n, 2);
    assert_true(slice_equal(commands[0], slice_from_str("one")) && slice_equal(commands[1], slice_from_str("three")));
    out.data[0] = 2;
    assert_int_equal(entry_decode(bytes_slice(&out), &arena, &commands, &n), -ENOTSUP);
    bytes_fini(&out);
    arena_fini(&arena);
}

/* ---- bytes that lie ---- */

static int decode_any(uint8_t type, struct slice in, struct arena *arena)
{
    struct peer_message m = {0};
    struct peer_forward forward;
    struct peer_forward_reject reject;
    struct peer_read_index question;
    struct peer_read_index_reply reply;
    struct peer_read_confirm confirm;
    struct peer_commit commit;
    struct peer_member_change change;
    struct peer_snapshot_offer offer;
    struct peer_snapshot_reply told;
    struct peer_member_result result;

    switch (type) {
    case PEER_FORWARD:
        return peer_forward_decode(in, arena, &forward);
    case PEER_FORWARD_REJECT:
        return peer_forward_reject_decode(in, &reject);
    case PEER_READ_INDEX:
        return peer_read_index_decode(in, &question);
    case PEER_READ_INDEX_REPLY:
        return peer_read_index_reply_decode(in, &reply);
    case PEER_READ_CONFIRM:
    case PEER_READ_CONFIRMED:
        return peer_read_confirm_decode(in, &confirm);
    case PEER_COMMIT:
        return peer_commit_decode(in, &commit);
    case PEER_LEASE:
        return peer_lease_decode(in, arena, &(struct peer_lease){0});
    case PEER_LEASE_REPLY:
        return peer_lease_reply_decode(in, arena, &(struct peer_lease_reply){0});
    case PEER_SNAPSHOT_OFFER:
        return peer_snapshot_offer_decode(in, &offer);
    case PEER_SNAPSHOT_REPLY:
        return peer_snapshot_reply_decode(in, &told);
    case PEER_MEMBER_CHANGE:
        return peer_member_change_decode(in, &change);
    case PEER_MEMBER_RESULT:
        return peer_member_result_decode(in, &result);
    default:
        return peer_message_decode(type, in, arena, &m);
    }
}

static const struct {
    const char *heading;
    uint8_t type;
} all[] = {
    {"### VOTE (", PEER_VOTE},
    {"### VOTE_RESULT (", PEER_VOTE_RESULT},
    {"### APPEND (", PEER_APPEND},
    {"### APPEND_RESULT (", PEER_APPEND_RESULT},
    {"### TIMEOUT_NOW (", PEER_TIMEOUT_NOW},
    {"### FORWARD (", PEER_FORWARD},
    {"### FORWARD_REJECT (", PEER_FORWARD_REJECT},
    {"### READ_INDEX (", PEER_READ_INDEX},
    {"### READ_INDEX_REPLY (", PEER_READ_INDEX_REPLY},
    {"### READ_CONFIRM (", PEER_READ_CONFIRM},
    {"### COMMIT (", PEER_COMMIT},
    {"### LEASE (", PEER_LEASE},
    {"### LEASE_REPLY (", PEER_LEASE_REPLY},
};

static void payloads_cut_short_or_too_long_do_not_pass(void **state)
{
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct example e = example_of(all[i].heading);

        assert_int_equal(decode_any(all[i].type, slice_make(e.bytes, e.len), &arena), 0);
        for (size_t len = 0; len < e.len; len++) {
            uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees a read past the end */

            memcpy(exact, e.bytes, len);
            assert_int_equal(decode_any(all[i].type, slice_make(exact, len), &arena), -EBADMSG);
            free(exact);
        }
        e.bytes[e.len] = 0;
        assert_int_equal(decode_any(all[i].type, slice_make(e.bytes, e.len + 1), &arena), -EBADMSG);
        e.bytes[0] = PEER_PAYLOAD_VERSION + 1;
        assert_int_equal(decode_any(all[i].type, slice_make(e.bytes, e.len), &arena), -EPROTONOSUPPORT);
        e.bytes[0] = 0;
        assert_int_equal(decode_any(all[i].type, slice_make(e.bytes, e.len), &arena), -EBADMSG);
    }
    arena_fini(&arena);
}

static void numbers_that_cannot_be_do_not_pass(void **state)
{
    struct peer_message m = {.type = PEER_VOTE, .vote = {.term = 0}};
    struct log_entry list[2] = {entries[0], entries[1]};
    struct arena arena;
    struct bytes out;

#define REFUSED()                                                                                       \
    do {                                                                                                \
        bytes_reset(&out);                                                                              \
        peer_message_encode(&m, &out);                                                                  \
        assert_int_equal(decode_any((uint8_t)m.type, bytes_slice(&out), &arena), -EBADMSG);             \
    } while (0)
    bytes_init(&out);
    arena_init(&arena);
    REFUSED(); /* no term */
    m.vote.term = PEER_NUMBER_MAX + 1;
    REFUSED(); /* sums would overflow */
    m.type = PEER_APPEND;
    m.append = (struct peer_append){5, 0, 3, 0, NULL, 0, 0};
    REFUSED(); /* nothing has a term */
    m.append = (struct peer_append){5, 3, 0, 0, NULL, 0, 0};
    REFUSED(); /* something has none */
    m.append = (struct peer_append){5, 3, 6, 0, NULL, 0, 0};
    REFUSED(); /* an entry of the future */
    m.append = (struct peer_append){5, 9, 4, 0, list, 2, 0};
    list[0].term = 3;
    REFUSED(); /* terms go back */
    list[0].term = 6;
    REFUSED(); /* above the leader's */
    list[0].term = 5;
    list[1].type = (enum log_entry_type)4;
    REFUSED(); /* no such type */
    bytes_fini(&out);
    arena_fini(&arena);
#undef REFUSED
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void damaged_payloads_never_do_harm(void **state)
{
    const char *given = getenv("SEED");
    uint64_t seed = given != NULL && *given != '\0' ? strtoull(given, NULL, 0) : 1, rng = seed;
    struct arena arena;

    printf("seed %llu\n", (unsigned long long)seed);
    arena_init(&arena);
    for (int round = 0; round < 20000; round++) {
        size_t i = next(&rng) % (sizeof all / sizeof all[0]);
        struct example e = example_of(all[i].heading);
        size_t len = e.len - next(&rng) % 3 * (next(&rng) % 4 == 0);
        uint8_t *exact = malloc(len);

        memcpy(exact, e.bytes, len);
        for (int flips = 0; flips < 3; flips++)
            exact[next(&rng) % len] = (uint8_t)next(&rng);
        decode_any(all[i].type, slice_make(exact, len), &arena);
        assert_true(arena.total_bytes < 1 << 20); /* no length from outside is believed */
        arena_reset(&arena);
        free(exact);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_the_bytes_of_the_page),
        cmocka_unit_test(a_round_is_eight_bytes_at_the_end),
        cmocka_unit_test(our_own_are_the_bytes_of_the_page),
        cmocka_unit_test(questions_about_leases_are_the_bytes_of_the_page),
        cmocka_unit_test(an_entry_of_commands_is_the_bytes_of_the_page),
        cmocka_unit_test(payloads_cut_short_or_too_long_do_not_pass),
        cmocka_unit_test(numbers_that_cannot_be_do_not_pass),
        cmocka_unit_test(damaged_payloads_never_do_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
