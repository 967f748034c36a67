/* fake_calls.h - sidecar/grpc.h for a fuzz target: calls without connections. The linker takes these in place of sidecar/grpc.c,
 * server.c and page.c. What a method sends must be whole messages; after its end it may not be touched (it is freed).
 *
 * Process: tests.  Thread: one.  Errors: FUZZ_MUST.  Memory: calls_reap().  Units: bytes. */
#ifndef TESTS_FUZZ_FAKE_CALLS_H
#define TESTS_FUZZ_FAKE_CALLS_H

#include <string.h>

#include "sidecar/app.h"
#include "tests/fuzz/fuzz.h"

struct grpc_call {
    struct list link;
    const struct grpc_method *method;
    struct app *app;
    void *state;
    bool finished, require_leader, unread, in_message, want_drained;
    enum grpc_code code;
    size_t queued, mark, messages;
    struct bytes sent; /* since the last whole message */
};

struct page_wait {
    int unused;
};

static struct list calls_open, calls_ended;
static unsigned pages_later;

/* ---- bodies and messages ---- */

struct body *body_new(size_t len)
{
    struct body *b = malloc(sizeof(*b) + len);

    FUZZ_MUST(b != NULL);
    *b = (struct body){1, (uint32_t)len};
    return b;
}

struct body *body_copy(struct slice s)
{
    struct body *b = body_new(s.len);

    if (s.len > 0)
        memcpy(b->data, s.data, s.len);
    return b;
}

void body_unref(struct body *b)
{
    if (b != NULL && --b->refs == 0)
        free(b);
}

struct grpc_out *grpc_out_new(size_t head_len, size_t n_bodies)
{
    size_t at = (sizeof(struct grpc_out) + 5 + head_len + 7) / 8 * 8;
    struct grpc_out *out = calloc(1, at + n_bodies * sizeof(struct body *));

    FUZZ_MUST(out != NULL);
    out->head_len = (uint32_t)head_len + 5;
    out->n_bodies = (uint32_t)n_bodies;
    out->bodies = (struct body **)(void *)((uint8_t *)out + at);
    return out;
}

void grpc_out_free(struct grpc_out *out)
{
    for (uint32_t i = 0; i < out->n_bodies; i++)
        body_unref(out->bodies[i]);
    free(out);
}

/* ---- output ---- */

/* Takes whole messages off; what a part begins stays. */
static void call_check_sent(struct grpc_call *call)
{
    size_t at = 0;

    while (call->sent.len - at >= 5) {
        size_t len = get_be32(call->sent.data + at + 1);

        FUZZ_MUST(call->sent.data[at] == 0);
        if (call->sent.len - at - 5 < len)
            break;
        at += 5 + len;
        call->messages++;
    }
    memmove(call->sent.data, call->sent.data + at, call->sent.len - at);
    call->sent.len -= at;
}

static void call_queue(struct grpc_call *call, struct slice s)
{
    bytes_append(&call->sent, s);
    FUZZ_MUST(bytes_status(&call->sent) == 0);
    call->queued += s.len;
}

void grpc_send(struct grpc_call *call, struct grpc_out *out)
{
    size_t total = out->head_len - 5;

    for (uint32_t i = 0; i < out->n_bodies; i++)
        total += out->bodies[i]->len;
    out->head[0] = 0;
    put_be32(out->head + 1, (uint32_t)total);
    if (!call->finished) {
        FUZZ_MUST(!call->in_message);
        call_queue(call, slice_make(out->head, out->head_len));
        for (uint32_t i = 0; i < out->n_bodies; i++)
            call_queue(call, slice_make(out->bodies[i]->data, out->bodies[i]->len));
        call_check_sent(call);
        FUZZ_MUST(call->sent.len == 0);
    }
    grpc_out_free(out);
}

void grpc_send_bytes(struct grpc_call *call, struct slice head, struct slice message)
{
    struct grpc_out *out = grpc_out_new(head.len + message.len, 0);

    if (head.len > 0)
        memcpy(grpc_out_head(out), head.data, head.len);
    if (message.len > 0)
        memcpy(grpc_out_head(out) + head.len, message.data, message.len);
    grpc_send(call, out);
}

int grpc_send_part(struct grpc_call *call, struct slice part, bool last)
{
    if (call->finished)
        return 0;
    call->in_message = !last;
    call_queue(call, part);
    call_check_sent(call);
    FUZZ_MUST(!last || call->sent.len == 0);
    return 0;
}

/* ---- the end ---- */

static void call_end(struct grpc_call *call)
{
    call->finished = true;
    list_remove(&call->link);
    list_push_back(&calls_ended, &call->link);
    if (call->method->end != NULL)
        call->method->end(call);
    call->state = NULL;
}

void grpc_finish(struct grpc_call *call, enum grpc_code code, const char *text)
{
    if (call->finished)
        return;
    FUZZ_MUST((unsigned)code <= GRPC_UNAUTHENTICATED);
    FUZZ_MUST(code == GRPC_OK || text == NULL || strlen(text) < 1000);
    FUZZ_MUST(code != GRPC_OK || (!call->in_message && (call->method->kind == GRPC_STREAM || call->messages == 1)));
    call->code = code;
    call_end(call);
}

void grpc_finish_status(struct grpc_call *call, uint16_t status)
{
    grpc_finish(call, status_grpc_code(status), status_text(status));
}

static void calls_reap(void)
{
    while (!list_empty(&calls_ended)) {
        struct grpc_call *call = LIST_ITEM(calls_ended.next, struct grpc_call, link);

        list_remove(&call->link);
        bytes_fini(&call->sent);
        free(call);
    }
}

/* ---- what services ask ---- */

void grpc_set_state(struct grpc_call *call, void *state)
{
    call->state = state;
}

void *grpc_state(const struct grpc_call *call)
{
    return call->state;
}

void *grpc_app(const struct grpc_call *call)
{
    return call->app;
}

size_t grpc_queued(const struct grpc_call *call)
{
    return call->queued;
}

void grpc_want_drained(struct grpc_call *call, size_t mark_bytes)
{
    call->want_drained = true;
    call->mark = mark_bytes;
}

void grpc_changes(struct grpc_call *call)
{
    (void)call;
}

bool grpc_require_leader(const struct grpc_call *call)
{
    return call->require_leader;
}

bool grpc_output_allowed(const struct grpc_call *call)
{
    return true;
}

/* The clients read: true if a method heard of it. */
static bool calls_drain(void)
{
    bool any = false;

    LIST_FOREACH(it, &calls_open)
    {
        struct grpc_call *call = LIST_ITEM(it, struct grpc_call, link);

        if (!call->unread)
            call->queued = 0;
        if (call->want_drained && call->queued <= call->mark) {
            call->want_drained = false;
            call->method->drained(call);
            any = true;
            break; /* it may have ended: the list is another one */
        }
    }
    return any;
}

/* ---- pages ---- */

struct page_wait *page_later(const struct http_request *request)
{
    pages_later++;
    return calloc(1, sizeof(struct page_wait));
}

void page_answer(struct page_wait *take_wait, const struct http_reply *reply)
{
    FUZZ_MUST(take_wait != NULL && reply->status >= 200 && reply->status < 600);
    pages_later--;
    free(take_wait);
}

/* All is read in the turn's end anyway. */
void grpc_server_send(struct grpc_server *s)
{
}

const struct grpc_counters *grpc_server_counters(const struct grpc_server *s)
{
    static const struct grpc_counters none;

    return &none;
}

const struct grpc_method_counts *grpc_server_methods(const struct grpc_server *s, size_t *ret_count)
{
    static const struct grpc_method_counts one = {.method = &kv_put};

    *ret_count = 1;
    return &one;
}

#endif
