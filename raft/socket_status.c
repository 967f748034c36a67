/* The status as JSON, written by hand: a handful of names and numbers, and texts that may hold anything. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "raft/socket_impl.h"

static void __attribute__((format(printf, 2, 3))) add(struct bytes *out, const char *format, ...)
{
    char text[512];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    bytes_raw(out, text, n > 0 && (size_t)n < sizeof(text) ? (size_t)n : 0);
}

static void add_text(struct bytes *out, const char *s)
{
    bytes_u8(out, '"');
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            bytes_u8(out, '\\');
        if (c >= 0x20 && c < 0x7f)
            bytes_u8(out, c);
        else
            add(out, "\\u%04x", c); /* bytes of no known encoding: each one character */
    }
    bytes_u8(out, '"');
}

/* etcd's spelling of member numbers. As texts: 64 bits do not fit the numbers of most readers of JSON. */
static void add_id(struct bytes *out, const char *name, uint64_t id)
{
    add(out, "\"%s\":\"%" PRIx64 "\",", name, id);
}

static void add_number(struct bytes *out, const char *name, uint64_t v)
{
    add(out, "\"%s\":%" PRIu64 ",", name, v);
}

/* As APPLY_VERSION; "" when it is not known. */
static void add_version(struct bytes *out, const char *name, uint32_t version)
{
    char text[24] = "";

    if (version != 0)
        snprintf(text, sizeof(text), "%u.%u", version >> 16, version & 0xffff);
    add(out, "\"%s\":\"%s\"", name, text);
}

static void add_member(struct bytes *out, const struct node_member_status *m, const struct node_status *st)
{
    bytes_u8(out, '{');
    add_id(out, "id", m->member.id);
    add(out, "\"name\":");
    add_text(out, m->member.name);
    add(out, ",\"peer_urls\":");
    add_text(out, m->member.peer_url);
    add(out, ",\"voter\":%s,\"leader\":%s,\"connected\":%s,", m->member.voter ? "true" : "false",
        m->member.id == st->leader ? "true" : "false",
        m->connected || m->member.id == st->id ? "true" : "false");
    if (st->is_leader) { /* nobody else knows */
        add_number(out, "match_index", m->match_index);
        add_number(out, "lag", st->last_index > m->match_index ? st->last_index - m->match_index : 0);
    }
    add_version(out, "version", m->version);
    bytes_u8(out, '}');
}

void socket_status_json(const struct socket_server *s, struct bytes *out)
{
    struct node_status st;

    node_status(s->o.node, &st);
    bytes_u8(out, '{');
    add_id(out, "cluster_id", st.cluster_id);
    add_id(out, "member_id", st.id);
    add(out, "\"name\":");
    add_text(out, s->name);
    add(out, ",\"version\":\"%s\",", QUORUMFS_VERSION);
    add_version(out, "cluster_version", st.cluster_version);
    bytes_u8(out, ',');
    add_id(out, "leader", st.leader);
    add(out, "\"is_leader\":%s,\"has_quorum\":%s,", st.is_leader ? "true" : "false", st.has_quorum ? "true" : "false");
    add_number(out, "term", st.term);
    add_number(out, "epoch", st.epoch);
    add_number(out, "revision", (uint64_t)st.revision);
    add_number(out, "last_index", st.last_index);
    add_number(out, "synced_index", st.synced_index);
    add_number(out, "commit_index", st.commit_index);
    add_number(out, "applied_index", st.applied_index);
    add_number(out, "log_first_index", st.log_first_index);
    add(out, "\"disk_full\":%s,", st.disk_full ? "true" : "false");
    add_number(out, "readers_pinning", st.readers_pinning);
    add_number(out, "oldest_reader_ms", st.oldest_reader_ms);
    add_number(out, "checkpoint_index", st.checkpoint.index);
    add_number(out, "checkpoint_bytes", st.checkpoint.bytes);
    add_number(out, "checkpoint_log_bytes", st.checkpoint.log_bytes);
    add_number(out, "checkpoints_total", st.checkpoint.made);
    add_number(out, "checkpoints_failed_total", st.checkpoint.failed);
    add(out, "\"checkpoint_error\":");
    add_text(out, st.checkpoint.error != 0 ? strerror(-st.checkpoint.error) : "");
    bytes_u8(out, ',');
    add_number(out, "lag", st.commit_index > st.applied_index ? st.commit_index - st.applied_index : 0);
    add_number(out, "proposals_waiting", st.proposals_waiting);
    add_number(out, "barriers_waiting", st.barriers_waiting);
    add_number(out, "connections", s->counters.connections);
    add_number(out, "requests", s->counters.requests);
    add_number(out, "proposals_total", s->counters.proposals);
    add_number(out, "barriers_total", s->counters.barriers);
    add_number(out, "refused_total", s->counters.refused);
    add_number(out, "too_many_total", s->counters.too_many);
    add_number(out, "overflowed_total", s->counters.overflowed);
    add(out, "\"members\":[");
    for (size_t i = 0; i < st.n_members; i++) {
        if (i != 0)
            bytes_u8(out, ',');
        add_member(out, &st.members[i], &st);
    }
    bytes_u8(out, ']');
    if (s->o.add_status != NULL)
        s->o.add_status(s->o.ctx, out);
    bytes_u8(out, '}');
}
