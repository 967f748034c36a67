/* WatchResponse as watch.c writes it, against protobuf-c: header fields by hand, events as shared bodies behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "proto/etcd.h"
#include "proto/etcd.pb-c.h"
#include "sidecar/watch.h"

static struct bytes joined(const struct grpc_out *out)
{
    struct bytes b;

    bytes_init(&b);
    bytes_raw(&b, out->head + 5, out->head_len - 5);
    for (uint32_t i = 0; i < out->n_bodies; i++)
        bytes_raw(&b, out->bodies[i]->data, out->bodies[i]->len);
    return b;
}

static int64_t random_number(void)
{
    static const int64_t edges[] = {0, 1, 127, 128, 16383, 16384, INT64_MAX, -1, INT64_MIN};

    return rand() % 3 == 0 ? edges[rand() % 9] : (int64_t)rand() << (rand() % 33);
}

static void check(const struct watch_head *h, size_t n_events)
{
    struct grpc_out *out = watch_head_out(h, n_events);
    Etcd__WatchResponse *r;
    struct bytes b;

    assert_non_null(out);
    for (size_t i = 0; i < n_events; i++) {
        struct kv kv = {.key = slice_from_str("key"), .mod_revision = (int64_t)i + 1};
        struct bytes event, field;

        bytes_init(&event);
        bytes_init(&field);
        etcd_event_encode(i % 2 == 1, &kv, NULL, &event);
        bytes_u8(&field, 11 << 3 | 2);
        bytes_varint_slice(&field, bytes_slice(&event));
        out->bodies[i] = body_copy(bytes_slice(&field));
        bytes_fini(&event);
        bytes_fini(&field);
    }
    b = joined(out);
    r = etcd__watch_response__unpack(NULL, b.len, b.data);
    assert_non_null(r);
    assert_int_equal(r->header->cluster_id, h->header.cluster_id);
    assert_int_equal(r->header->member_id, h->header.member_id);
    assert_int_equal(r->header->revision, h->header.revision);
    assert_int_equal(r->header->raft_term, h->header.raft_term);
    assert_int_equal(r->watch_id, h->watch_id);
    assert_int_equal(r->created, h->created);
    assert_int_equal(r->canceled, h->canceled);
    assert_int_equal(r->fragment, h->fragment);
    assert_int_equal(r->compact_revision, h->compact_revision);
    assert_string_equal(r->cancel_reason, h->reason != NULL ? h->reason : "");
    assert_int_equal(r->n_events, n_events);
    for (size_t i = 0; i < n_events; i++) {
        assert_int_equal(r->events[i]->type, i % 2);
        assert_int_equal(r->events[i]->kv->mod_revision, i + 1);
    }
    /* and byte for byte what protobuf-c makes of it again */
    assert_int_equal(etcd__watch_response__get_packed_size(r), b.len);
    {
        uint8_t *again = malloc(b.len + 1);

        assert_int_equal(etcd__watch_response__pack(r, again), b.len);
        assert_memory_equal(again, b.data, b.len);
        free(again);
    }
    etcd__watch_response__free_unpacked(r, NULL);
    bytes_fini(&b);
    grpc_out_free(out);
}

static void heads_and_events_are_what_protobuf_reads(void **state)
{
    static const char *const reasons[] = {NULL, "mvcc: watcher range is empty"};
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);

    printf("SEED=%u\n", seed);
    srand(seed);
    for (int i = 0; i < 3000; i++) {
        struct watch_head h = {.header = {.cluster_id = (uint64_t)random_number(),
                                          .member_id = (uint64_t)random_number(),
                                          .revision = random_number(),
                                          .raft_term = (uint64_t)random_number()},
                               .watch_id = random_number(),
                               .created = rand() % 2 == 0,
                               .canceled = rand() % 2 == 0,
                               .fragment = rand() % 2 == 0,
                               .compact_revision = random_number(),
                               .reason = reasons[rand() % 2]};

        check(&h, (size_t)(rand() % 4));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads_and_events_are_what_protobuf_reads)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
