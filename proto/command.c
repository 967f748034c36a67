#include "proto/command.h"

#include <assert.h>
#include <errno.h>

#include "proto/command_body.h"
#include "proto/etcd.h"

/* Where the envelope's fields stand; docs/commands.md has the same table. */
enum {
    AT_FORMAT = 0,
    AT_ZERO1 = 1,
    AT_KIND = 2,
    AT_MIN_VERSION = 4,
    AT_SESSION = 8,
    AT_SEQUENCE = 16,
    AT_ORIGIN = 24,
    AT_REQUEST = 32,
    AT_AUTH_REVISION = 40,
    AT_TIME = 48,
    AT_USER_LEN = 56,
    AT_ZERO2 = 58,
    AT_BODY_LEN = 60,
};

static bool is_file_kind(uint16_t kind)
{
    return kind >= COMMAND_FILE_WRITE && kind <= COMMAND_FILE_REMOVEXATTR;
}

static bool is_lock_kind(uint16_t kind)
{
    return kind >= COMMAND_FILE_LOCK && kind <= COMMAND_FILE_LOCK_CANCEL;
}

/* The cluster version from which on every member knows the kind. */
static uint32_t kind_version(uint16_t kind)
{
    bool first = kind <= COMMAND_COMPACT || kind == COMMAND_MEMBER_PUBLISH || kind == COMMAND_ALLOC_INODES ||
                 (kind >= COMMAND_FILE_WRITE && kind <= COMMAND_FILE_SETATTR);

    return first ? 0 : 0u << 16 | 2u;
}

static uint32_t command_version(const struct command *cmd)
{
    uint32_t version = kind_version(cmd->kind);

    if (is_file_kind(cmd->kind) && cmd->file.fence != 0 && version < (0u << 16 | 2u))
        version = 0u << 16 | 2u; /* who does not know the field would write what others refuse */
    return cmd->min_version > version ? cmd->min_version : version;
}

/* Returns where the envelope begins in out; its body length is not known yet. */
static size_t append_envelope(const struct command *cmd, struct bytes *out)
{
    size_t start = out->len;
    uint8_t *p = bytes_grow(out, COMMAND_ENVELOPE_BYTES);

    assert(cmd->user.len <= UINT16_MAX);
    if (p == NULL)
        return start;
    memset(p, 0, COMMAND_ENVELOPE_BYTES);
    p[AT_FORMAT] = COMMAND_FORMAT;
    put_le16(p + AT_KIND, cmd->kind);
    put_le32(p + AT_MIN_VERSION, command_version(cmd));
    put_le64(p + AT_SESSION, cmd->session);
    put_le64(p + AT_SEQUENCE, cmd->sequence);
    put_le64(p + AT_ORIGIN, cmd->origin);
    put_le64(p + AT_REQUEST, cmd->request);
    put_le64(p + AT_AUTH_REVISION, cmd->auth_revision);
    put_le64(p + AT_TIME, (uint64_t)cmd->time_ns);
    put_le16(p + AT_USER_LEN, (uint16_t)cmd->user.len);
    bytes_append(out, cmd->user);
    return start;
}

static void encode_body(const struct command *cmd, struct bytes *out)
{
    if (is_file_kind(cmd->kind)) {
        body_file_encode(&cmd->file, out);
        return;
    }
    if (is_lock_kind(cmd->kind)) {
        body_lock_encode(&cmd->lock, out);
        return;
    }
    switch (cmd->kind) {
    case COMMAND_PUT:
        etcd_put_encode(&cmd->put, out);
        break;
    case COMMAND_DELETE_RANGE:
        etcd_delete_encode(&cmd->del, out);
        break;
    case COMMAND_TXN:
        etcd_txn_encode(&cmd->txn, out);
        break;
    case COMMAND_COMPACT:
        body_compact_encode(cmd->compact.revision, cmd->compact.physical, out);
        break;
    case COMMAND_MEMBER_PUBLISH:
        body_member_encode(&cmd->member, out);
        break;
    case COMMAND_ALLOC_INODES:
        body_alloc_inodes_encode(cmd->alloc_inodes.count, out);
        break;
    case COMMAND_LEASE_GRANT:
        body_lease_grant_encode(&cmd->lease, out);
        break;
    case COMMAND_LEASE_REVOKE:
        body_lease_revoke_encode(&cmd->lease, out);
        break;
    case COMMAND_LEASE_EXPIRE:
        body_lease_expire_encode(&cmd->lease, out);
        break;
    case COMMAND_LEASE_CHECKPOINT:
        body_lease_checkpoint_encode(cmd->checkpoint.items, cmd->checkpoint.n_items, out);
        break;
    case COMMAND_ALARM:
        body_alarm_encode(&cmd->alarm, out);
        break;
    case COMMAND_QUOTA_SET:
        body_quota_encode(cmd->quota.bytes, out);
        break;
    case COMMAND_CLUSTER_VERSION:
        body_cluster_version_encode(cmd->cluster_version.version, out);
        break;
    default:
        assert(cmd->kind == COMMAND_NOOP);
        break;
    }
}

void command_encode(const struct command *cmd, struct bytes *out)
{
    size_t start = append_envelope(cmd, out);
    size_t body_start = out->len;

    encode_body(cmd, out);
    bytes_patch_u32(out, start + AT_BODY_LEN, (uint32_t)(out->len - body_start));
}

void command_encode_raw(const struct command *cmd, struct slice body, struct bytes *out)
{
    size_t start = append_envelope(cmd, out);

    assert(body.len <= UINT32_MAX);
    bytes_append(out, body);
    bytes_patch_u32(out, start + AT_BODY_LEN, (uint32_t)body.len);
}

int command_decode_envelope(struct slice in, struct command *ret_cmd, struct slice *ret_body)
{
    const uint8_t *p = in.data;
    struct command cmd;
    size_t user_len, body_len;

    if (in.len > COMMAND_MAX_BYTES)
        return -E2BIG;
    if (in.len < COMMAND_ENVELOPE_BYTES)
        return -EBADMSG;
    if (p[AT_FORMAT] > COMMAND_FORMAT)
        return -ENOTSUP;
    if (p[AT_FORMAT] != COMMAND_FORMAT)
        return -EBADMSG;
    if (p[AT_ZERO1] != 0 || get_le16(p + AT_ZERO2) != 0)
        return -ENOTSUP; /* whoever gives these a meaning may not be misread by us */
    memset(&cmd, 0, sizeof(cmd));
    cmd.kind = get_le16(p + AT_KIND);
    cmd.min_version = get_le32(p + AT_MIN_VERSION);
    cmd.session = get_le64(p + AT_SESSION);
    cmd.sequence = get_le64(p + AT_SEQUENCE);
    cmd.origin = get_le64(p + AT_ORIGIN);
    cmd.request = get_le64(p + AT_REQUEST);
    cmd.auth_revision = get_le64(p + AT_AUTH_REVISION);
    cmd.time_ns = (int64_t)get_le64(p + AT_TIME);
    user_len = get_le16(p + AT_USER_LEN);
    body_len = get_le32(p + AT_BODY_LEN);
    if (in.len - COMMAND_ENVELOPE_BYTES != user_len + body_len)
        return -EBADMSG;
    cmd.user = slice_make(p + COMMAND_ENVELOPE_BYTES, user_len);
    *ret_cmd = cmd;
    *ret_body = slice_make(p + COMMAND_ENVELOPE_BYTES + user_len, body_len);
    return 0;
}

static int decode_body(struct command *cmd, struct slice body, struct arena *arena)
{
    if (is_file_kind(cmd->kind))
        return body_file_decode(body, &cmd->file);
    if (is_lock_kind(cmd->kind))
        return body_lock_decode(body, &cmd->lock);
    switch (cmd->kind) {
    case COMMAND_NOOP:
        return body.len == 0 ? 0 : -EBADMSG;
    case COMMAND_PUT:
        return etcd_put_decode(body, &cmd->put);
    case COMMAND_DELETE_RANGE:
        return etcd_delete_decode(body, &cmd->del);
    case COMMAND_TXN:
        return etcd_txn_decode(body, arena, &cmd->txn);
    case COMMAND_COMPACT:
        return etcd_compact_decode(body, &cmd->compact.revision, &cmd->compact.physical);
    case COMMAND_MEMBER_PUBLISH:
        return body_member_decode(body, arena, &cmd->member);
    case COMMAND_ALLOC_INODES:
        return body_alloc_inodes_decode(body, &cmd->alloc_inodes.count);
    case COMMAND_LEASE_GRANT:
        return body_lease_grant_decode(body, &cmd->lease);
    case COMMAND_LEASE_REVOKE:
        return body_lease_revoke_decode(body, &cmd->lease);
    case COMMAND_LEASE_EXPIRE:
        return body_lease_expire_decode(body, &cmd->lease);
    case COMMAND_LEASE_CHECKPOINT:
        return body_lease_checkpoint_decode(body, arena, &cmd->checkpoint.items, &cmd->checkpoint.n_items);
    case COMMAND_ALARM:
        return body_alarm_decode(body, &cmd->alarm);
    case COMMAND_QUOTA_SET:
        return body_quota_decode(body, &cmd->quota.bytes);
    case COMMAND_CLUSTER_VERSION:
        return body_cluster_version_decode(body, &cmd->cluster_version.version);
    case 0:
        return -EBADMSG;
    }
    return -ENOTSUP;
}

int command_decode(struct slice in, struct arena *arena, struct command *ret_cmd)
{
    struct command cmd;
    struct slice body;
    int rc = command_decode_envelope(in, &cmd, &body);

    if (rc == 0)
        rc = decode_body(&cmd, body, arena);
    if (rc == 0)
        *ret_cmd = cmd;
    return rc;
}

void command_stamp(uint8_t *encoded, uint64_t origin, uint64_t request, int64_t time_ns)
{
    put_le64(encoded + AT_ORIGIN, origin);
    put_le64(encoded + AT_REQUEST, request);
    if (get_le64(encoded + AT_TIME) == 0)
        put_le64(encoded + AT_TIME, (uint64_t)time_ns);
}

void command_set_session(uint8_t *encoded, uint64_t session, uint64_t sequence)
{
    put_le64(encoded + AT_SESSION, session);
    put_le64(encoded + AT_SEQUENCE, sequence);
}

void result_encode(const struct result *r, struct bytes *out)
{
    struct body_file_response file;

    if (r->status != STATUS_OK)
        return;
    if (is_file_kind(r->kind) || r->kind == COMMAND_ALLOC_INODES) {
        file = (struct body_file_response){r->file.ino, r->file.size, r->file.changed};
        body_file_response_encode(&file, out);
    } else if (r->kind == COMMAND_PUT || r->kind == COMMAND_DELETE_RANGE) {
        etcd_op_result_encode(&r->op, r->revision, out);
    } else if (r->kind == COMMAND_TXN) {
        etcd_txn_response_encode(&r->txn, r->revision, out);
    } else if (r->kind == COMMAND_LEASE_GRANT) {
        body_lease_grant_response_encode(r->lease.id, r->lease.ttl_s, out);
    } else if (r->kind == COMMAND_ALARM) {
        body_alarm_response_encode(r->alarms.items, r->alarms.n_items, out);
    } else if (is_lock_kind(r->kind)) {
        body_lock_response_encode(r->lock.granted, r->lock.token, out);
    }
}

int result_decode(uint16_t kind, struct slice body, struct arena *arena, struct result *ret_result)
{
    struct body_file_response file;
    struct op_result op;
    struct result res;
    int rc;

    memset(&res, 0, sizeof(res));
    res.kind = kind;
    if (is_file_kind(kind) || kind == COMMAND_ALLOC_INODES) {
        rc = body_file_response_decode(body, &file);
        if (rc < 0)
            return rc;
        res.file.ino = file.ino;
        res.file.size = file.size;
        res.file.changed = file.changed;
    } else if (kind == COMMAND_TXN) {
        rc = etcd_op_result_decode(OP_TXN, body, arena, &op);
        if (rc < 0)
            return rc;
        res.txn = *op.txn;
    } else if (kind == COMMAND_PUT || kind == COMMAND_DELETE_RANGE) {
        rc = etcd_op_result_decode(kind == COMMAND_PUT ? OP_PUT : OP_DELETE, body, arena, &res.op);
        if (rc < 0)
            return rc;
    } else if (kind == COMMAND_LEASE_GRANT) {
        rc = body_lease_grant_response_decode(body, &res.lease.id, &res.lease.ttl_s);
        if (rc < 0)
            return rc;
    } else if (kind == COMMAND_ALARM) {
        rc = body_alarm_response_decode(body, arena, &res.alarms.items, &res.alarms.n_items);
        if (rc < 0)
            return rc;
    } else if (is_lock_kind(kind)) {
        rc = body_lock_response_decode(body, &res.lock.granted, &res.lock.token);
        if (rc < 0)
            return rc;
    } else if (body.len != 0) {
        return -EBADMSG;
    }
    *ret_result = res;
    return 0;
}
