/* core_membership.c - memberships: the library's encoding, read with bounds (guard 8 of core.c). */
#include <errno.h>
#include <stdio.h>

#include "raft/core_library.h"

#define MEMBERSHIP_FORMAT 1
#define MEMBERSHIP_MAX_MEMBERS 64
#define JOINING_MARK '+' /* no URL begins with it */

int core_err_from_raft(int rv)
{
    switch (rv) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return -ENOMEM;
    case RAFT_BADID:
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
    case RAFT_BADROLE:
        return -EINVAL;
    case RAFT_MALFORMED:
        return -EBADMSG;
    default:
        return -EPROTO;
    }
}

/* Twice the same member is what the library refuses later, and then the whole node stops. */
int core_membership_check(struct slice payload)
{
    struct slice addresses[MEMBERSHIP_MAX_MEMBERS];
    uint64_t ids[MEMBERSHIP_MAX_MEMBERS];
    struct reader r = reader_make(payload);
    uint64_t n;

    if (reader_u8(&r) != MEMBERSHIP_FORMAT)
        return -EBADMSG;
    n = reader_u64(&r);
    if (reader_status(&r) < 0 || n == 0 || n > MEMBERSHIP_MAX_MEMBERS)
        return -EBADMSG;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *end;
        uint64_t id = reader_u64(&r);

        if (reader_status(&r) < 0 || id == 0)
            return -EBADMSG;
        end = memchr(r.p, 0, reader_left(&r));
        if (end == NULL)
            return -EBADMSG;
        ids[i] = id;
        addresses[i] = reader_raw(&r, (size_t)(end - r.p) + 1);
        for (uint64_t j = 0; j < i; j++)
            if (ids[j] == id || slice_equal(addresses[j], addresses[i]))
                return -EBADMSG;
        if (reader_u8(&r) > RAFT_SPARE || reader_status(&r) < 0)
            return -EBADMSG;
    }
    while (reader_left(&r) > 0)
        if (reader_u8(&r) != 0)
            return -EBADMSG;
    return 0;
}

void core_member_from(uint64_t id, const char *address, int role, struct core_member *ret_member)
{
    bool joining = role == RAFT_STANDBY && address[0] == JOINING_MARK;

    *ret_member = (struct core_member){id, address + joining, role == RAFT_VOTER, joining};
}

int core_membership_read(struct slice payload, struct core_member *ret_members, size_t max, size_t *ret_count)
{
    struct reader r = reader_make(payload);
    uint64_t n;

    if (core_membership_check(payload) < 0)
        return -EBADMSG;
    reader_u8(&r);
    n = reader_u64(&r);
    if (n > max)
        return -EBADMSG;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t id = reader_u64(&r);
        const char *address = (const char *)r.p;

        reader_raw(&r, strlen(address) + 1);
        core_member_from(id, address, reader_u8(&r), &ret_members[i]);
    }
    *ret_count = (size_t)n;
    return 0;
}

int core_membership_encode(const struct core_member *members, size_t n, struct bytes *out)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    size_t used = 1 + sizeof(uint64_t); /* of the encoding, before its padding */
    int rc = 0;

    if (n == 0 || n > MEMBERSHIP_MAX_MEMBERS)
        return -EINVAL;
    raft_configuration_init(&conf);
    for (size_t i = 0; i < n && rc == 0; i++) {
        char marked[PEER_URLS_MAX_BYTES + 2];
        int n_text = snprintf(marked, sizeof(marked), "%s%s", members[i].joining ? (char[]){JOINING_MARK, 0} : "",
                              members[i].address);

        if (members[i].id == 0 || n_text < 0 || (size_t)n_text >= sizeof(marked) || (members[i].joining && members[i].voter))
            rc = -EINVAL;
        else
            rc = core_err_from_raft(raft_configuration_add(&conf, members[i].id, marked,
                                                      members[i].voter ? RAFT_VOTER : RAFT_STANDBY));
        used += sizeof(uint64_t) + (size_t)(n_text > 0 ? n_text : 0) + 2;
    }
    if (rc == 0)
        rc = core_err_from_raft(raft_configuration_encode(&conf, &buf));
    if (rc == 0) {
        if (used < buf.len)
            memset((uint8_t *)buf.base + used, 0, buf.len - used); /* 0.22.0 leaves there what was in memory */
        bytes_raw(out, buf.base, buf.len);
        raft_free(buf.base);
        rc = bytes_status(out);
    }
    raft_configuration_close(&conf);
    return rc;
}

int core_membership_decode(struct slice payload, struct raft_configuration *ret_conf)
{
    struct raft_buffer buf = {.base = (void *)(uintptr_t)payload.data, .len = payload.len};
    int rc = core_membership_check(payload);

    return rc < 0 ? rc : core_err_from_raft(raft_configuration_decode(&buf, ret_conf));
}

bool core_is_sole_voter(const struct raft_configuration *conf, uint64_t id)
{
    bool is_voter = false;

    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].role != RAFT_VOTER)
            continue;
        if (conf->servers[i].id != id)
            return false;
        is_voter = true;
    }
    return is_voter;
}

bool core_can_change(const struct core *c)
{
    return core_can_submit(c) && c->raft.configuration_uncommitted_index == 0;
}

int core_change(struct core *c, uint64_t now_ms, const struct core_member *members, size_t n, uint64_t *ret_index)
{
    struct log_entry e = {.type = LOG_ENTRY_MEMBERSHIP};
    struct bytes payload;
    int rc;

    bytes_init(&payload);
    rc = core_membership_encode(members, n, &payload);
    e.payload = bytes_slice(&payload);
    if (rc == 0 && core_membership_check(e.payload) < 0)
        rc = -EINVAL;
    if (rc == 0 && !core_can_change(c))
        rc = core_fail(c, -EPROTO, "a change of membership that may not begin");
    if (rc == 0)
        rc = core_submit(c, now_ms, &e, 1);
    if (rc == 0)
        *ret_index = e.index;
    bytes_fini(&payload);
    return rc;
}

/* ---- what the log no longer has ---- */

uint64_t core_trimmed_index(const struct core *c)
{
    return c->raft.trail.snapshot.index;
}

int core_trimmed(struct core *c, uint64_t now_ms, uint64_t index, uint64_t membership_index, struct slice membership,
                 uint64_t first_index)
{
    struct raft_event e = {.type = RAFT_SNAPSHOT};
    int rc;

    /* Guard 14: the library wants an entry at that index in its trail, and no such snapshot yet. */
    if (index <= core_trimmed_index(c) || index > core_last_index(c) || index > c->commit)
        return 0;
    rc = core_membership_decode(membership, &e.snapshot.metadata.configuration);
    if (rc < 0)
        return core_fail(c, rc, "the membership of a checkpoint is damaged");
    core_set_now(c, now_ms);
    e.snapshot.metadata.index = index;
    e.snapshot.metadata.configuration_index = membership_index;
    e.snapshot.trailing = first_index <= index ? (unsigned)(index + 1 - first_index) : 0;
#if RAFT_VERSION_NUMBER < 2201
    raft_set_snapshot_trailing(&c->raft, e.snapshot.trailing); /* 0.22.0 cuts by this, and not by the event */
#endif
    return core_step(c, &e);
}

int core_membership_copy(const struct raft_configuration *from, struct raft_configuration *ret_conf)
{
    struct raft_configuration copy;

    raft_configuration_init(&copy);
    for (unsigned i = 0; i < from->n; i++) {
        int rc = core_err_from_raft(raft_configuration_add(&copy, from->servers[i].id, from->servers[i].address,
                                                      from->servers[i].role));
        if (rc < 0) {
            raft_configuration_close(&copy);
            return rc;
        }
    }
    *ret_conf = copy;
    return 0;
}

static int be_voter(struct raft_configuration *conf, uint64_t id)
{
    char address[32];

    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].id != id)
            continue;
        conf->servers[i].role = RAFT_VOTER;
        return 0;
    }
    snprintf(address, sizeof address, "guest %llx", (unsigned long long)id); /* no URL, so nobody has it */
    return core_err_from_raft(raft_configuration_add(conf, id, address, RAFT_VOTER));
}

int core_membership_with_voters(const struct raft_configuration *from, uint64_t a, uint64_t b,
                                struct raft_configuration *ret_conf)
{
    struct raft_configuration conf;
    int rc = core_membership_copy(from, &conf);

    if (rc < 0)
        return rc;
    rc = be_voter(&conf, a);
    if (rc == 0)
        rc = be_voter(&conf, b);
    if (rc < 0) {
        raft_configuration_close(&conf);
        return rc;
    }
    *ret_conf = conf;
    return 0;
}
