/* member list, add, remove, update, promote; move-leader. Output as etcdctl's. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/ctl.h"

#define ID_TEXT "%" PRIx64

struct member_wait {
    struct ctl *ctl;
    bool done;
    uint16_t status;
    struct arena *arena;
    struct socket_member_done result;
};

static bool is_done(void *ctx)
{
    struct member_wait *w = ctx;

    return w->done || w->ctl->refused;
}

static void on_members(void *arg, const struct socket_member_done *done)
{
    struct member_wait *w = arg;

    w->done = true;
    w->status = done->status;
    w->result = *done;
    for (size_t i = 0; i < done->n_members; i++) {
        struct socket_member *m = &w->result.members[i];

        if (arena_copy(w->arena, m->name, &m->name) < 0 || arena_copy(w->arena, m->peer_urls, &m->peer_urls) < 0 ||
            arena_copy(w->arena, m->client_urls, &m->client_urls) < 0)
            w->result.n_members = i;
    }
}

static void on_maintained(void *arg, const struct socket_maintain_done *done)
{
    struct member_wait *w = arg;

    w->done = true;
    w->status = done->status;
}

static int await(struct member_wait *w, int64_t ticket)
{
    if (ticket < 0)
        return ctl_fail("out of memory");
    if (client_wait(w->ctl->client, is_done, w, ctl_deadline(w->ctl) + 1000) < 0)
        return ctl_fail_status(STATUS_TIMEOUT);
    if (w->ctl->refused)
        return -1;
    return w->status == STATUS_OK ? 0 : ctl_fail_status(w->status);
}

static int parse_id(const char *text, uint64_t *ret_id)
{
    char *end;

    *ret_id = strtoull(text, &end, 16);
    if (end == text || *end != '\0')
        return ctl_fail("bad member ID arg (%s), expecting ID in Hex", text);
    return 0;
}

/* ---- output ---- */

static void json_urls(struct ctl_out *o, const char *name, struct slice urls)
{
    const char *text = urls.len != 0 ? (const char *)urls.data : "";
    size_t at = 0;

    ctl_out_text(o, ",\"%s\":[", name);
    while (at < urls.len) {
        const char *comma = memchr(text + at, ',', urls.len - at);
        size_t len = comma != NULL ? (size_t)(comma - (text + at)) : urls.len - at;

        ctl_out_text(o, at != 0 ? "," : "");
        ctl_out_quoted(o, slice_make((const uint8_t *)text + at, len));
        at += len + 1;
    }
    ctl_out_text(o, "]");
}

static void json_members(struct ctl *c, const struct socket_member_done *r, bool with_id)
{
    const struct client_info *info = client_get_info(c->client);
    struct ctl_out *o = &c->out;

    ctl_out_text(o, "{\"header\":{\"cluster_id\":%" PRIu64 ",\"member_id\":%" PRIu64 "}", info->cluster_id, info->member_id);
    if (with_id)
        ctl_out_text(o, ",\"id\":%" PRIu64, r->id);
    ctl_out_text(o, ",\"members\":[");
    for (size_t i = 0; i < r->n_members; i++) {
        const struct socket_member *m = &r->members[i];

        ctl_out_text(o, "%s{\"ID\":%" PRIu64 ",\"name\":", i != 0 ? "," : "", m->id);
        ctl_out_quoted(o, m->name);
        json_urls(o, "peerURLs", m->peer_urls);
        json_urls(o, "clientURLs", m->client_urls);
        ctl_out_text(o, "%s}", m->learner ? ",\"isLearner\":true" : "");
    }
    ctl_out_text(o, "]}\n");
}

static int slice_width(struct slice s)
{
    return (int)s.len;
}

static void text_members(struct ctl_out *o, const struct socket_member_done *r)
{
    for (size_t i = 0; i < r->n_members; i++) {
        const struct socket_member *m = &r->members[i];

        ctl_out_text(o, ID_TEXT ", %s, %.*s, %.*s, %.*s, %s\n", m->id, m->name.len != 0 ? "started" : "unstarted",
                     slice_width(m->name), (const char *)m->name.data, slice_width(m->peer_urls),
                     (const char *)m->peer_urls.data, slice_width(m->client_urls), (const char *)m->client_urls.data,
                     m->learner ? "true" : "false");
    }
}

/* What the new member is to be started with. */
static void text_start(struct ctl_out *o, const struct socket_member_done *r, const char *name)
{
    struct slice own = slice_make(NULL, 0);
    bool first = true;

    ctl_out_text(o, "\nETCD_NAME=\"%s\"\nETCD_INITIAL_CLUSTER=\"", name);
    for (size_t i = 0; i < r->n_members; i++) {
        const struct socket_member *m = &r->members[i];
        const char *text = (const char *)m->peer_urls.data;
        struct slice its = m->id == r->id ? slice_from_str(name) : m->name;

        if (m->id == r->id)
            own = m->peer_urls;
        for (size_t at = 0; at < m->peer_urls.len;) {
            const char *comma = memchr(text + at, ',', m->peer_urls.len - at);
            size_t len = comma != NULL ? (size_t)(comma - (text + at)) : m->peer_urls.len - at;

            ctl_out_text(o, "%s%.*s=%.*s", first ? "" : ",", slice_width(its), (const char *)its.data, (int)len, text + at);
            first = false;
            at += len + 1;
        }
    }
    ctl_out_text(o, "\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"%.*s\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", slice_width(own),
                 (const char *)own.data);
}

/* ---- the commands ---- */

static int parse_change(const struct ctl_options *o, struct socket_member_change *m)
{
    static const struct {
        const char *word;
        uint8_t op;
        bool wants_arg, wants_urls;
    } words[] = {
        {"list", SOCKET_MEMBER_LIST, false, false},   {"add", SOCKET_MEMBER_ADD, true, true},
        {"remove", SOCKET_MEMBER_REMOVE, true, false}, {"update", SOCKET_MEMBER_UPDATE, true, true},
        {"promote", SOCKET_MEMBER_PROMOTE, true, false},
    };
    size_t at = 0;

    while (at < sizeof(words) / sizeof(words[0]) && strcmp(o->args[0], words[at].word) != 0)
        at++;
    if (at == sizeof(words) / sizeof(words[0]))
        return ctl_fail("member does not know '%s'; it knows list, add, remove, update and promote", o->args[0]);
    if ((o->n_args == 2) != words[at].wants_arg)
        return ctl_fail("member %s: wrong number of arguments", words[at].word);
    if ((o->peer_urls != NULL) != words[at].wants_urls)
        return ctl_fail(words[at].wants_urls ? "member %s: --peer-urls is missing" : "member %s takes no --peer-urls",
                        words[at].word);
    if (o->learner && words[at].op != SOCKET_MEMBER_ADD)
        return ctl_fail("member %s takes no --learner", words[at].word);
    *m = (struct socket_member_change){.op = words[at].op, .learner = o->learner};
    if (o->peer_urls != NULL)
        m->peer_urls = slice_from_str(o->peer_urls);
    if (words[at].wants_arg && m->op != SOCKET_MEMBER_ADD)
        return parse_id(o->args[1], &m->id);
    return 0;
}

int ctl_member(struct ctl *c)
{
    static const char *const done[] = {
        [SOCKET_MEMBER_ADD] = "added to", [SOCKET_MEMBER_REMOVE] = "removed from",
        [SOCKET_MEMBER_UPDATE] = "updated in", [SOCKET_MEMBER_PROMOTE] = "promoted in",
    };
    struct socket_member_change change;
    struct member_wait w = {.ctl = c};
    struct arena arena;
    int rc;

    if (parse_change(c->opts, &change) < 0)
        return -1;
    arena_init(&arena);
    w.arena = &arena;
    rc = await(&w, client_member(c->client, &change, ctl_deadline(c), on_members, &w));
    if (rc == 0) {
        uint64_t id = change.op == SOCKET_MEMBER_ADD ? w.result.id : change.id;

        if (c->opts->json)
            json_members(c, &w.result, change.op != SOCKET_MEMBER_LIST);
        else if (change.op == SOCKET_MEMBER_LIST)
            text_members(&c->out, &w.result);
        else
            ctl_out_text(&c->out, "Member " ID_TEXT " %s cluster " ID_TEXT "\n", id, done[change.op],
                         client_get_info(c->client)->cluster_id);
        if (!c->opts->json && change.op == SOCKET_MEMBER_ADD)
            text_start(&c->out, &w.result, c->opts->args[1]);
        rc = ctl_out_flush(&c->out);
    }
    arena_fini(&arena);
    return rc;
}

int ctl_move_leader(struct ctl *c)
{
    struct socket_maintain m = {.op = SOCKET_MAINTAIN_MOVE_LEADER};
    struct member_wait w = {.ctl = c};
    uint64_t before = client_leader(c->client);

    if (parse_id(c->opts->args[0], &m.arg) < 0 ||
        await(&w, client_maintain(c->client, &m, ctl_deadline(c), on_maintained, &w)) < 0)
        return -1;
    if (c->opts->json)
        ctl_out_text(&c->out, "{\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}\n", before, m.arg);
    else
        ctl_out_text(&c->out, "Leadership transferred from " ID_TEXT " to " ID_TEXT "\n", before, m.arg);
    return ctl_out_flush(&c->out);
}
