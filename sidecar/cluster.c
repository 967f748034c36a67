/* cluster.c - etcdserverpb.Cluster: MemberList. Who is a member and its peer URLs come from the node's status, the names
 * and client URLs from what each member has published in the store. */
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#define PEER_URLS_MAX 16 /* of one member; further ones are left out */

struct list_call {
    struct grpc_call *call;
    struct app *app;
    int64_t ticket;
};

struct member {
    uint64_t id;
    struct slice name;
    struct slice peer_urls[PEER_URLS_MAX];
    size_t n_peer_urls;
    const struct member_info *published; /* NULL: not yet */
    bool learner;
};

static void emit_member(struct wire_out *o, const struct member *m)
{
    wire_uint(o, 1, m->id);
    /* A member without a name has not started yet: that is how etcd's clients read it. */
    if (m->published != NULL)
        wire_bytes(o, 2, m->published->name);
    for (size_t i = 0; i < m->n_peer_urls; i++)
        wire_bytes_always(o, 3, m->peer_urls[i]);
    for (size_t i = 0; m->published != NULL && i < m->published->n_client_urls; i++)
        wire_bytes_always(o, 4, m->published->client_urls[i]);
    wire_uint(o, 5, m->learner);
}

WIRE_MESSAGE(member, const struct member *)

static void split_urls(struct member *m, const char *text)
{
    while (*text != '\0' && m->n_peer_urls < PEER_URLS_MAX) {
        size_t len = strcspn(text, ",");

        m->peer_urls[m->n_peer_urls++] = slice_make(text, len);
        text += len + (text[len] == ',');
    }
}

/* Appends the members of the node's status; -EBADMSG: not what a node says. */
static int append_members(const json_t *status, const struct member_info *published, size_t n_published, struct bytes *out)
{
    const json_t *members = json_object_get(status, "members"), *item;
    size_t i;

    if (!json_is_array(members))
        return -EBADMSG;
    json_array_foreach(members, i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));
        const char *urls = json_string_value(json_object_get(item, "peer_urls"));
        struct member m = {.learner = json_is_false(json_object_get(item, "voter"))};
        struct bytes one;

        if (id == NULL || urls == NULL)
            return -EBADMSG;
        m.id = strtoull(id, NULL, 16);
        split_urls(&m, urls);
        for (size_t j = 0; j < n_published; j++)
            if (published[j].id == m.id)
                m.published = &published[j];
        bytes_init(&one);
        append_member(&m, &one);
        bytes_u8(out, 2 << 3 | WIRE_BYTES);
        bytes_varint_slice(out, bytes_slice(&one));
        bytes_fini(&one);
    }
    return bytes_status(out);
}

static void answer_members(struct list_call *lc, const json_t *status)
{
    struct store_read *r = node_line_read(lc->app->line);
    struct member_info *published;
    size_t n_published;
    struct arena arena;
    struct bytes body;
    int rc;

    if (r == NULL) {
        grpc_finish_status(lc->call, STATUS_TIMEOUT);
        return;
    }
    arena_init(&arena);
    bytes_init(&body);
    rc = store_members(r, &arena, &published, &n_published);
    if (rc == 0)
        rc = append_members(status, published, n_published, &body);
    if (rc < 0) {
        log_error(&lc->app->log, "member list: %s", strerror(-rc));
        grpc_finish(lc->call, GRPC_INTERNAL, "quorumfs: the members are not known");
    } else {
        answer_unary(lc->app, lc->call, store_read_revision(r), 0, bytes_slice(&body));
    }
    bytes_fini(&body);
    arena_fini(&arena);
}

static void on_status(void *arg, uint16_t status, struct slice text)
{
    struct list_call *lc = arg;
    json_t *json;

    lc->ticket = 0;
    if (status != STATUS_OK) {
        grpc_finish_status(lc->call, status);
        return;
    }
    json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    answer_members(lc, json);
    json_decref(json);
}

static void ask_status(struct list_call *lc)
{
    struct node_line *line = lc->app->line;

    lc->ticket = client_status(node_line_client(line), node_line_deadline_ms(line), on_status, lc);
    node_line_touch(line);
    if (lc->ticket < 0)
        grpc_finish(lc->call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct list_call *lc = arg;

    lc->ticket = 0;
    if (status != STATUS_OK)
        grpc_finish_status(lc->call, status);
    else
        ask_status(lc);
}

static void list_message(struct grpc_call *call, struct slice message)
{
    struct app *app = app_of(call);
    struct reader r = reader_make(message);
    struct wire_field f;
    bool linearizable = false;
    struct list_call *lc;

    while (wire_next(&r, &f))
        if (f.number == 1)
            linearizable = wire_get_bool(&r, &f);
    if (reader_status(&r) < 0) {
        grpc_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    lc = calloc(1, sizeof *lc);
    if (lc == NULL) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *lc = (struct list_call){.call = call, .app = app};
    grpc_set_state(call, lc);
    if (!linearizable) {
        ask_status(lc);
        return;
    }
    lc->ticket = client_barrier(node_line_client(app->line), node_line_deadline_ms(app->line), on_barrier, lc);
    node_line_touch(app->line);
    if (lc->ticket < 0)
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void list_end(struct grpc_call *call)
{
    struct list_call *lc = grpc_state(call);

    if (lc != NULL && lc->ticket > 0 && node_line_client(lc->app->line) != NULL)
        client_cancel(node_line_client(lc->app->line), lc->ticket);
    free(lc);
}

const struct grpc_method cluster_member_list = {
    .path = "/etcdserverpb.Cluster/MemberList", .kind = GRPC_UNARY, .message = list_message, .end = list_end};
