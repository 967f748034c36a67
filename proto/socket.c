#include "proto/socket.h"

#include <assert.h>
#include <errno.h>

/* What the head's length counts besides the payload. */
#define HEAD_REST_BYTES (SOCKET_HEAD_BYTES - 4)

int socket_head_decode(struct slice in, uint32_t limit_bytes, struct socket_head *ret_head)
{
    const uint8_t *p = in.data;
    uint32_t len;

    if (in.len < 4)
        return 0;
    len = get_le32(p);
    if (len < HEAD_REST_BYTES || len - HEAD_REST_BYTES > limit_bytes)
        return -EBADMSG;
    if (in.len < SOCKET_HEAD_BYTES)
        return 0;
    if (p[4] == 0 || p[5] != 0 || get_le16(p + 6) != 0)
        return -EBADMSG;
    *ret_head = (struct socket_head){len - HEAD_REST_BYTES, p[4], get_le64(p + 8)};
    return 1;
}

void socket_frame(struct bytes *out, uint8_t type, uint64_t tag, struct slice payload)
{
    uint8_t *p = bytes_grow(out, SOCKET_HEAD_BYTES);

    assert(payload.len <= UINT32_MAX - HEAD_REST_BYTES);
    if (p == NULL)
        return;
    memset(p, 0, SOCKET_HEAD_BYTES);
    put_le32(p, (uint32_t)(payload.len + HEAD_REST_BYTES));
    p[4] = type;
    put_le64(p + 8, tag);
    bytes_append(out, payload);
}

/* A payload that must have been read to its end. */
static int finish(struct reader *r)
{
    if (reader_left(r) != 0)
        reader_fail(r);
    return reader_status(r);
}

static void expect_zero(struct reader *r, uint64_t v)
{
    if (v != 0)
        reader_fail(r);
}

void socket_hello_encode(const struct socket_hello *m, struct bytes *out)
{
    bytes_u32(out, m->version);
    bytes_u32(out, m->pid);
    bytes_u32_slice(out, m->program);
}

int socket_hello_decode(struct slice in, struct socket_hello *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_hello m;
    int rc;

    m.version = reader_u32(&r);
    if (reader_status(&r) == 0 && m.version != SOCKET_VERSION)
        return -EPROTONOSUPPORT; /* what follows is that version's business */
    m.pid = reader_u32(&r);
    m.program = reader_u32_slice(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_welcome_encode(const struct socket_welcome *m, struct bytes *out)
{
    bytes_u32(out, m->version);
    bytes_u32(out, 0);
    bytes_u64(out, m->cluster_id);
    bytes_u64(out, m->member_id);
    bytes_u64(out, m->leader);
    bytes_u64(out, m->term);
    bytes_u64(out, m->epoch);
    bytes_u64(out, (uint64_t)m->revision);
    bytes_u64(out, m->heartbeat_ms);
    bytes_u64(out, m->election_ms);
    bytes_u32_slice(out, m->name);
    bytes_u32_slice(out, m->store_dir);
}

int socket_welcome_decode(struct slice in, struct socket_welcome *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_welcome m;
    int rc;

    m.version = reader_u32(&r);
    if (reader_status(&r) == 0 && m.version != SOCKET_VERSION)
        return -EPROTONOSUPPORT;
    expect_zero(&r, reader_u32(&r));
    m.cluster_id = reader_u64(&r);
    m.member_id = reader_u64(&r);
    m.leader = reader_u64(&r);
    m.term = reader_u64(&r);
    m.epoch = reader_u64(&r);
    m.revision = (int64_t)reader_u64(&r);
    m.heartbeat_ms = reader_u64(&r);
    m.election_ms = reader_u64(&r);
    m.name = reader_u32_slice(&r);
    m.store_dir = reader_u32_slice(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_proposed_encode(const struct socket_proposed *m, struct bytes *out)
{
    bytes_u16(out, m->status);
    bytes_u16(out, 0);
    bytes_u32(out, 0);
    bytes_u64(out, (uint64_t)m->revision);
    bytes_u64(out, m->term);
    bytes_append(out, m->body);
}

int socket_proposed_decode(struct slice in, struct socket_proposed *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_proposed m;

    m.status = reader_u16(&r);
    expect_zero(&r, reader_u16(&r));
    expect_zero(&r, reader_u32(&r));
    m.revision = (int64_t)reader_u64(&r);
    m.term = reader_u64(&r);
    m.body = reader_raw(&r, reader_left(&r));
    if (reader_status(&r) == 0)
        *ret_m = m;
    return reader_status(&r);
}

void socket_barrier_done_encode(const struct socket_barrier_done *m, struct bytes *out)
{
    bytes_u16(out, m->status);
    bytes_u16(out, 0);
    bytes_u32(out, 0);
    bytes_u64(out, m->epoch);
    bytes_u64(out, m->term);
    bytes_u64(out, (uint64_t)m->revision);
}

int socket_barrier_done_decode(struct slice in, struct socket_barrier_done *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_barrier_done m;
    int rc;

    m.status = reader_u16(&r);
    expect_zero(&r, reader_u16(&r));
    expect_zero(&r, reader_u32(&r));
    m.epoch = reader_u64(&r);
    m.term = reader_u64(&r);
    m.revision = (int64_t)reader_u64(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_notice_encode(const struct socket_notice *m, struct bytes *out)
{
    bytes_u64(out, m->epoch);
    bytes_u64(out, (uint64_t)m->revision);
}

int socket_notice_decode(struct slice in, struct socket_notice *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_notice m;
    int rc;

    m.epoch = reader_u64(&r);
    m.revision = (int64_t)reader_u64(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_leader_encode(const struct socket_leader *m, struct bytes *out)
{
    bytes_u64(out, m->leader);
    bytes_u64(out, m->term);
}

int socket_leader_decode(struct slice in, struct socket_leader *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_leader m;
    int rc;

    m.leader = reader_u64(&r);
    m.term = reader_u64(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

/* ---- leases ---- */

/* Every reply but HELLO's begins with a status and fills up to eight bytes. */
static void begin_reply(struct bytes *out, uint16_t status)
{
    bytes_u16(out, status);
    bytes_u16(out, 0);
    bytes_u32(out, 0);
}

static uint16_t read_reply(struct reader *r)
{
    uint16_t status = reader_u16(r);

    expect_zero(r, reader_u16(r));
    expect_zero(r, reader_u32(r));
    return status;
}

static bool read_bool(struct reader *r)
{
    uint8_t v = reader_u8(r);

    if (v > 1)
        reader_fail(r);
    return v == 1;
}

void socket_lease_encode(const struct socket_lease *m, struct bytes *out)
{
    bytes_u64(out, (uint64_t)m->id);
}

int socket_lease_decode(struct slice in, struct socket_lease *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_lease m = {(int64_t)reader_u64(&r)};
    int rc = finish(&r);

    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_keepalive_done_encode(const struct socket_keepalive_done *m, struct bytes *out)
{
    begin_reply(out, m->status);
    bytes_u64(out, (uint64_t)m->ttl_s);
}

int socket_keepalive_done_decode(struct slice in, struct socket_keepalive_done *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_keepalive_done m;
    int rc;

    m.status = read_reply(&r);
    m.ttl_s = (int64_t)reader_u64(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_lease_time_done_encode(const struct socket_lease_time_done *m, struct bytes *out)
{
    begin_reply(out, m->status);
    bytes_u64(out, (uint64_t)m->granted_s);
    bytes_u64(out, (uint64_t)m->remaining_s);
}

int socket_lease_time_done_decode(struct slice in, struct socket_lease_time_done *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_lease_time_done m;
    int rc;

    m.status = read_reply(&r);
    m.granted_s = (int64_t)reader_u64(&r);
    m.remaining_s = (int64_t)reader_u64(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

/* ---- members ---- */

void socket_member_change_encode(const struct socket_member_change *m, struct bytes *out)
{
    bytes_u8(out, m->op);
    bytes_u8(out, m->learner);
    bytes_u16(out, 0);
    bytes_u32(out, 0);
    bytes_u64(out, m->id);
    bytes_u32_slice(out, m->peer_urls);
}

int socket_member_change_decode(struct slice in, struct socket_member_change *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_member_change m;
    int rc;

    m.op = reader_u8(&r);
    m.learner = read_bool(&r);
    expect_zero(&r, reader_u16(&r));
    expect_zero(&r, reader_u32(&r));
    m.id = reader_u64(&r);
    m.peer_urls = reader_u32_slice(&r);
    rc = finish(&r);
    if (rc == 0 && (m.op < SOCKET_MEMBER_ADD || m.op > SOCKET_MEMBER_LIST))
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

static void encode_member(const struct socket_member *m, struct bytes *out)
{
    bytes_u64(out, m->id);
    bytes_u8(out, m->learner);
    bytes_u32_slice(out, m->name);
    bytes_u32_slice(out, m->peer_urls);
    bytes_u32_slice(out, m->client_urls);
}

void socket_member_done_encode(const struct socket_member_done *m, struct bytes *out)
{
    assert(m->n_members <= SOCKET_MEMBERS_MAX);
    bytes_u16(out, m->status);
    bytes_u16(out, 0);
    bytes_u32(out, (uint32_t)m->n_members);
    bytes_u64(out, m->id);
    for (size_t i = 0; i < m->n_members; i++)
        encode_member(&m->members[i], out);
}

static void read_member(struct reader *r, struct socket_member *m)
{
    m->id = reader_u64(r);
    m->learner = read_bool(r);
    m->name = reader_u32_slice(r);
    m->peer_urls = reader_u32_slice(r);
    m->client_urls = reader_u32_slice(r);
}

int socket_member_done_decode(struct slice in, struct socket_member_done *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_member_done m = {0};
    uint32_t n;
    int rc;

    m.status = reader_u16(&r);
    expect_zero(&r, reader_u16(&r));
    n = reader_u32(&r);
    m.id = reader_u64(&r);
    if (reader_status(&r) < 0 || n > SOCKET_MEMBERS_MAX)
        return -EBADMSG;
    for (m.n_members = 0; m.n_members < n; m.n_members++)
        read_member(&r, &m.members[m.n_members]);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

/* ---- maintenance ---- */

void socket_maintain_encode(const struct socket_maintain *m, struct bytes *out)
{
    bytes_u8(out, m->op);
    bytes_u8(out, 0);
    bytes_u16(out, 0);
    bytes_u32(out, 0);
    bytes_u64(out, m->arg);
}

int socket_maintain_decode(struct slice in, struct socket_maintain *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_maintain m;
    int rc;

    m.op = reader_u8(&r);
    expect_zero(&r, reader_u8(&r));
    expect_zero(&r, reader_u16(&r));
    expect_zero(&r, reader_u32(&r));
    m.arg = reader_u64(&r);
    rc = finish(&r);
    if (rc == 0 && (m.op < SOCKET_MAINTAIN_CHECKPOINT || m.op > SOCKET_MAINTAIN_TRANSFER_AWAY))
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void socket_maintain_done_encode(const struct socket_maintain_done *m, struct bytes *out)
{
    begin_reply(out, m->status);
    bytes_u64(out, m->index);
    bytes_u32_slice(out, m->path);
}

int socket_maintain_done_decode(struct slice in, struct socket_maintain_done *ret_m)
{
    struct reader r = reader_make(in);
    struct socket_maintain_done m;
    int rc;

    m.status = read_reply(&r);
    m.index = reader_u64(&r);
    m.path = reader_u32_slice(&r);
    rc = finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}
