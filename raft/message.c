/* message.c - see message.h. One encoder and one decoder a payload; each decoder ends with the checks that the core relies on. */
#include "raft/message.h"

#include <errno.h>

#include "raft/message_parts.h"

/* ---- messages of the core ---- */

/* At the end of an append and of its answer, or nothing: members of the first protocol take no byte more than they know. */
static void round_encode(uint64_t round, struct bytes *out)
{
    if (round != 0)
        bytes_u64(out, round);
}

static uint64_t round_decode(struct reader *r)
{
    uint64_t round;

    if (reader_status(r) < 0 || reader_left(r) == 0)
        return 0;
    round = reader_u64(r);
    if (round == 0)
        reader_fail(r);
    return round;
}

static void append_encode(const struct peer_append *m, struct bytes *out)
{
    bytes_u64(out, m->term);
    bytes_u64(out, m->prev_index);
    bytes_u64(out, m->prev_term);
    bytes_u64(out, m->commit);
    bytes_u32(out, (uint32_t)m->n_entries);
    for (size_t i = 0; i < m->n_entries; i++) {
        bytes_u64(out, m->entries[i].term);
        bytes_u8(out, (uint8_t)m->entries[i].type);
        bytes_u32_slice(out, m->entries[i].payload);
    }
    round_encode(m->round, out);
}

void peer_message_encode(const struct peer_message *m, struct bytes *out)
{
    part_begin(out);
    switch (m->type) {
    case PEER_VOTE:
        bytes_u64(out, m->vote.term);
        bytes_u64(out, m->vote.last_index);
        bytes_u64(out, m->vote.last_term);
        bytes_u8(out, m->vote.disrupt_leader);
        bytes_u8(out, m->vote.pre_vote);
        break;
    case PEER_VOTE_RESULT:
        bytes_u64(out, m->vote_result.term);
        bytes_u8(out, m->vote_result.granted);
        bytes_u8(out, m->vote_result.pre_vote);
        break;
    case PEER_APPEND:
        append_encode(&m->append, out);
        break;
    case PEER_APPEND_RESULT:
        bytes_u64(out, m->append_result.term);
        bytes_u64(out, m->append_result.rejected);
        bytes_u64(out, m->append_result.last_index);
        round_encode(m->append_result.round, out);
        break;
    case PEER_TIMEOUT_NOW:
        bytes_u64(out, m->timeout_now.term);
        bytes_u64(out, m->timeout_now.last_index);
        bytes_u64(out, m->timeout_now.last_term);
        break;
    default:
        break;
    }
}

static int append_decode(struct reader *r, struct arena *arena, struct peer_append *ret_m)
{
    struct peer_append m = {0};
    struct log_entry *entries = NULL;
    uint64_t last_term;
    uint32_t n;

    m.term = part_read_term(r);
    m.prev_index = part_read_number(r);
    m.prev_term = part_read_number(r);
    m.commit = part_read_number(r);
    n = reader_u32(r);
    if (reader_status(r) < 0 || n > APPEND_MAX_ENTRIES || (m.prev_index == 0) != (m.prev_term == 0))
        return -EBADMSG;
    if (m.prev_term > m.term)
        return -EBADMSG;
    if (n > 0) {
        entries = arena_array(arena, n, sizeof *entries);
        if (entries == NULL)
            return -ENOMEM;
    }
    last_term = m.prev_term;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t type;

        entries[i].index = m.prev_index + 1 + i;
        entries[i].term = part_read_term(r);
        type = reader_u8(r);
        entries[i].payload = reader_u32_slice(r);
        if (reader_status(r) < 0 || entries[i].term < last_term || entries[i].term > m.term)
            return -EBADMSG;
        if (type < LOG_ENTRY_COMMANDS || type > LOG_ENTRY_MEMBERSHIP || entries[i].payload.len > ENTRY_MAX_BYTES)
            return -EBADMSG;
        entries[i].type = (enum log_entry_type)type;
        last_term = entries[i].term;
    }
    m.entries = entries;
    m.n_entries = n;
    m.round = round_decode(r);
    *ret_m = m;
    return 0;
}

int peer_message_decode(uint8_t type, struct slice in, struct arena *arena, struct peer_message *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_message m = {.type = (enum peer_type)type, .peer = ret_m->peer};
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    switch (type) {
    case PEER_VOTE:
        m.vote.term = part_read_term(&r);
        m.vote.last_index = part_read_number(&r);
        m.vote.last_term = part_read_number(&r);
        m.vote.disrupt_leader = part_read_bool(&r);
        m.vote.pre_vote = part_read_bool(&r);
        break;
    case PEER_VOTE_RESULT:
        m.vote_result.term = part_read_term(&r);
        m.vote_result.granted = part_read_bool(&r);
        m.vote_result.pre_vote = part_read_bool(&r);
        break;
    case PEER_APPEND:
        rc = append_decode(&r, arena, &m.append);
        if (rc < 0)
            return rc;
        break;
    case PEER_APPEND_RESULT:
        m.append_result.term = part_read_term(&r);
        m.append_result.rejected = part_read_number(&r);
        m.append_result.last_index = part_read_number(&r);
        m.append_result.round = round_decode(&r);
        break;
    case PEER_TIMEOUT_NOW:
        m.timeout_now.term = part_read_term(&r);
        m.timeout_now.last_index = part_read_number(&r);
        m.timeout_now.last_term = part_read_number(&r);
        break;
    default:
        return -EBADMSG;
    }
    rc = part_finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

/* ---- our own ---- */

void peer_forward_encode(const struct peer_forward *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->life);
    bytes_u64(out, m->sequence);
    bytes_u32(out, (uint32_t)m->n_commands);
    for (size_t i = 0; i < m->n_commands; i++)
        bytes_u32_slice(out, m->commands[i]);
}

static int read_commands(struct reader *r, struct arena *arena, struct slice **ret_commands, size_t *ret_count)
{
    uint32_t n = reader_u32(r);
    struct slice *commands;

    if (reader_status(r) < 0 || n == 0 || n > ENTRY_MAX_COMMANDS)
        return -EBADMSG;
    commands = arena_array(arena, n, sizeof *commands);
    if (commands == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        commands[i] = reader_u32_slice(r);
        if (reader_status(r) < 0 || commands[i].len > COMMAND_MAX_BYTES)
            return -EBADMSG;
    }
    if (part_finish(r) < 0)
        return -EBADMSG;
    *ret_commands = commands;
    *ret_count = n;
    return 0;
}

int peer_forward_decode(struct slice in, struct arena *arena, struct peer_forward *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_forward m = {0};
    struct slice *commands = NULL;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.life = reader_u64(&r);
    m.sequence = reader_u64(&r);
    rc = read_commands(&r, arena, &commands, &m.n_commands);
    if (rc < 0)
        return rc;
    m.commands = commands;
    *ret_m = m;
    return 0;
}

void peer_forward_reject_encode(const struct peer_forward_reject *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->sequence);
    bytes_u8(out, m->reason);
}

int peer_forward_reject_decode(struct slice in, struct peer_forward_reject *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_forward_reject m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.sequence = reader_u64(&r);
    m.reason = reader_u8(&r);
    rc = part_finish(&r);
    if (rc == 0 && m.reason != PEER_FORWARD_NOT_LEADER && m.reason != PEER_FORWARD_BUSY)
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_read_index_encode(const struct peer_read_index *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->sequence);
}

int peer_read_index_decode(struct slice in, struct peer_read_index *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_read_index m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    rc = part_finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_read_index_reply_encode(const struct peer_read_index_reply *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->sequence);
    bytes_u8(out, m->ok);
    bytes_u64(out, m->index);
}

int peer_read_index_reply_decode(struct slice in, struct peer_read_index_reply *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_read_index_reply m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.sequence = reader_u64(&r);
    m.ok = part_read_bool(&r);
    m.index = part_read_number(&r);
    rc = part_finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_read_confirm_encode(const struct peer_read_confirm *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->sequence);
}

int peer_read_confirm_decode(struct slice in, struct peer_read_confirm *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_read_confirm m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.sequence = reader_u64(&r);
    rc = part_finish(&r);
    if (rc == 0)
        *ret_m = m;
    return rc;
}

void peer_commit_encode(const struct peer_commit *m, struct bytes *out)
{
    part_begin(out);
    bytes_u64(out, m->term);
    bytes_u64(out, m->index);
    bytes_u64(out, m->index_term);
}

int peer_commit_decode(struct slice in, struct peer_commit *ret_m)
{
    struct reader r = reader_make(in);
    struct peer_commit m;
    int rc = part_check_version(&r);

    if (rc < 0)
        return rc;
    m.term = part_read_term(&r);
    m.index = part_read_term(&r);
    m.index_term = part_read_term(&r);
    rc = part_finish(&r);
    if (rc == 0 && m.index_term > m.term)
        rc = -EBADMSG;
    if (rc == 0)
        *ret_m = m;
    return rc;
}

/* ---- entries of commands ---- */

void entry_begin(struct bytes *out)
{
    bytes_u8(out, ENTRY_FORMAT);
    bytes_u32(out, 0);
}

void entry_add(struct bytes *out, struct slice command)
{
    bytes_u32_slice(out, command);
    if (bytes_status(out) == 0)
        bytes_patch_u32(out, 1, get_le32(out->data + 1) + 1);
}

size_t entry_count(struct slice payload)
{
    return payload.len >= 5 ? get_le32(payload.data + 1) : 0;
}

int entry_decode(struct slice payload, struct arena *arena, struct slice **ret_commands, size_t *ret_count)
{
    struct reader r = reader_make(payload);
    uint8_t format = reader_u8(&r);

    if (reader_status(&r) < 0)
        return -EBADMSG;
    if (format != ENTRY_FORMAT)
        return -ENOTSUP;
    return read_commands(&r, arena, ret_commands, ret_count);
}
