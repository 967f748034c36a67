/* cluster.c - etcdserverpb.Cluster. Changes are the leader's business. MemberList is made of the node's status, and of names
 * and client URLs that each member has published in the store. */
#include "base/url.h"
#include "proto/wire.h"
#include "sidecar/ask.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#define PEER_URLS_MAX 16 /* of one member; further ones are left out */

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

static void answer_members(struct ask *a, const json_t *status)
{
    struct store_read *r = node_line_read(a->app->line);
    struct member_info *published;
    size_t n_published;
    struct arena arena;
    struct bytes body;
    int rc;

    if (r == NULL) {
        grpc_finish_status(a->call, STATUS_TIMEOUT);
        return;
    }
    arena_init(&arena);
    bytes_init(&body);
    rc = store_members(r, &arena, &published, &n_published);
    if (rc == 0)
        rc = append_members(status, published, n_published, &body);
    if (rc < 0) {
        log_error(&a->app->log, "member list: %s", strerror(-rc));
        grpc_finish(a->call, GRPC_INTERNAL, "quorumfs: the members are not known");
    } else {
        answer_unary(a->app, a->call, 0, 0, bytes_slice(&body));
    }
    bytes_fini(&body);
    arena_fini(&arena);
}

static void on_status(void *arg, uint16_t status, struct slice text)
{
    struct ask *a = arg;
    json_t *json;

    ask_done(a);
    if (status != STATUS_OK) {
        grpc_finish_status(a->call, status);
        return;
    }
    json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    answer_members(a, json);
    json_decref(json);
}

static void ask_status(struct ask *a)
{
    struct node_line *line = a->app->line;

    ask_waits(a, client_status(node_line_client(line), node_line_deadline_ms(line), on_status, a));
}

/* ---- what the leader answers ---- */

static void split_into(struct slice urls[static PEER_URLS_MAX], size_t *ret_n, struct slice text)
{
    *ret_n = 0;
    while (text.len > 0 && *ret_n < PEER_URLS_MAX) {
        const uint8_t *comma = memchr(text.data, ',', text.len);
        size_t len = comma != NULL ? (size_t)(comma - text.data) : text.len;

        urls[(*ret_n)++] = slice_make(text.data, len);
        len += comma != NULL;
        text = slice_make(text.data + len, text.len - len);
    }
}

static void append_listed(const struct socket_member *from, unsigned field, struct bytes *out)
{
    struct slice client_urls[PEER_URLS_MAX];
    struct member_info published = {.id = from->id, .name = from->name, .client_urls = client_urls};
    struct member m = {.id = from->id, .learner = from->learner, .published = &published};
    struct bytes one;

    split_into(m.peer_urls, &m.n_peer_urls, from->peer_urls);
    split_into(client_urls, &published.n_client_urls, from->client_urls);
    bytes_init(&one);
    append_member(&m, &one);
    bytes_u8(out, (uint8_t)(field << 3 | WIRE_BYTES));
    bytes_varint_slice(out, bytes_slice(&one));
    if (bytes_status(&one) < 0)
        out->status = bytes_status(&one);
    bytes_fini(&one);
}

struct change_call {
    struct ask ask;
    uint8_t op;
};

/* MemberAddResponse names the new member before it lists all; the others only list. */
static void on_members(void *arg, const struct socket_member_done *done)
{
    struct change_call *c = arg;
    struct bytes body;

    ask_done(&c->ask);
    if (done->status != STATUS_OK) {
        grpc_finish_status(c->ask.call, done->status);
        return;
    }
    bytes_init(&body);
    for (size_t i = 0; c->op == SOCKET_MEMBER_ADD && i < done->n_members; i++)
        if (done->members[i].id == done->id)
            append_listed(&done->members[i], 2, &body);
    for (size_t i = 0; i < done->n_members; i++)
        append_listed(&done->members[i], c->op == SOCKET_MEMBER_ADD ? 3 : 2, &body);
    if (bytes_status(&body) < 0)
        ask_no_memory(c->ask.call);
    else
        answer_unary(c->ask.app, c->ask.call, 0, 0, bytes_slice(&body)); /* etcd's says no revision here */
    bytes_fini(&body);
}

static void ask_members(struct grpc_call *call, const struct socket_member_change *change)
{
    struct change_call *c = ask_begin(call, sizeof *c);
    struct node_line *line;

    if (c == NULL)
        return;
    c->op = change->op;
    if (c->op != SOCKET_MEMBER_LIST)
        grpc_changes(call);
    line = c->ask.app->line;
    ask_waits(&c->ask,
              client_member(node_line_client(line), change, node_line_deadline_ms(line), on_members, c));
}

/* ---- requests ---- */

static bool urls_are_valid(struct slice list)
{
    struct url urls[URL_LIST_MAX];
    struct slice bad;
    const char *why;
    size_t n;

    return url_list_parse(list, urls, URL_LIST_MAX, &n, &bad, &why) == 0 && n > 0;
}

static void change_message(struct grpc_call *call, struct slice message, uint8_t op)
{
    unsigned urls_field = op == SOCKET_MEMBER_ADD ? 1 : op == SOCKET_MEMBER_UPDATE ? 2 : 0;
    struct socket_member_change change = {.op = op};
    struct reader r = reader_make(message);
    struct wire_field f;
    struct bytes urls;
    bool comma = false;

    bytes_init(&urls);
    while (wire_next(&r, &f)) {
        struct slice url = slice_make(NULL, 0);

        if (f.number == urls_field) {
            wire_get_bytes(&r, &f, &url);
            comma = comma || (url.len > 0 && memchr(url.data, ',', url.len) != NULL);
            if (urls.len > 0)
                bytes_u8(&urls, ',');
            bytes_append(&urls, url);
        } else if (f.number == 1) {
            change.id = wire_get_uint(&r, &f);
        } else if (f.number == 2) {
            change.learner = wire_get_bool(&r, &f);
        }
    }
    change.peer_urls = bytes_slice(&urls);
    if (reader_status(&r) < 0)
        ask_malformed(call);
    else if (bytes_status(&urls) < 0)
        ask_no_memory(call);
    else if (ask_refused(call))
        ;
    else if (urls_field != 0 && (comma || !urls_are_valid(change.peer_urls)))
        grpc_finish_status(call, STATUS_BAD_MEMBER_URLS);
    else
        ask_members(call, &change);
    bytes_fini(&urls);
}

static void add_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, SOCKET_MEMBER_ADD);
}

static void remove_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, SOCKET_MEMBER_REMOVE);
}

static void update_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, SOCKET_MEMBER_UPDATE);
}

static void promote_message(struct grpc_call *call, struct slice message)
{
    change_message(call, message, SOCKET_MEMBER_PROMOTE);
}

static void on_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    struct ask *a = arg;

    ask_done(a);
    if (status != STATUS_OK)
        grpc_finish_status(a->call, status);
    else
        ask_status(a);
}

/* This node's list; a linearizable one waits until the node has applied what was committed before. */
static void list_message(struct grpc_call *call, struct slice message)
{
    struct node_line *line = app_of(call)->line;
    struct reader r = reader_make(message);
    struct wire_field f;
    bool linearizable = false;
    struct ask *a;

    while (wire_next(&r, &f))
        if (f.number == 1)
            linearizable = wire_get_bool(&r, &f);
    if (reader_status(&r) < 0) {
        ask_malformed(call);
        return;
    }
    a = ask_refused(call) ? NULL : ask_begin(call, sizeof *a);
    if (a == NULL)
        return;
    if (linearizable)
        ask_waits(a, client_barrier(node_line_client(line), node_line_deadline_ms(line), on_barrier, a));
    else
        ask_status(a);
}

const struct grpc_method cluster_member_add = {
    .path = "/etcdserverpb.Cluster/MemberAdd", .kind = GRPC_UNARY, .message = add_message, .end = ask_end};
const struct grpc_method cluster_member_remove = {
    .path = "/etcdserverpb.Cluster/MemberRemove", .kind = GRPC_UNARY, .message = remove_message, .end = ask_end};
const struct grpc_method cluster_member_update = {
    .path = "/etcdserverpb.Cluster/MemberUpdate", .kind = GRPC_UNARY, .message = update_message, .end = ask_end};
const struct grpc_method cluster_member_promote = {
    .path = "/etcdserverpb.Cluster/MemberPromote", .kind = GRPC_UNARY, .message = promote_message, .end = ask_end};
const struct grpc_method cluster_member_list = {
    .path = "/etcdserverpb.Cluster/MemberList", .kind = GRPC_UNARY, .message = list_message, .end = ask_end};
