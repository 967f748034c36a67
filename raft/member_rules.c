#include <stdlib.h>

#include "base/url.h"
#include "raft/member.h"

/* etcd's: a learner that has nine tenths of the leader's log may be promoted. */
#define LEARNER_READY_PERCENT 90

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool member_urls_canonical(const char *text, char *ret_urls, size_t size)
{
    char items[URL_LIST_MAX][URL_TEXT_MAX_BYTES];
    struct url urls[URL_LIST_MAX];
    struct slice bad;
    const char *why;
    size_t n, len = 0;

    if (url_list_parse(slice_from_str(text), urls, URL_LIST_MAX, &n, &bad, &why) < 0 || n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (urls[i].scheme == URL_UNIX)
            return false;
        url_format(&urls[i], items[i], sizeof(items[i]));
    }
    qsort(items, n, sizeof(items[0]), compare_texts);
    for (size_t i = 0; i < n; i++) {
        size_t item = strlen(items[i]);

        if ((i > 0 && strcmp(items[i], items[i - 1]) == 0) || len + item + 2 > size)
            return false;
        if (i > 0)
            ret_urls[len++] = ',';
        memcpy(ret_urls + len, items[i], item + 1);
        len += item;
    }
    return true;
}

/* Whether the comma-separated lists have an item in common. */
static bool share_url(const char *a, const char *b)
{
    while (*a != '\0') {
        size_t len = strcspn(a, ",");

        for (const char *p = b; *p != '\0';) {
            size_t other = strcspn(p, ",");

            if (other == len && memcmp(a, p, len) == 0)
                return true;
            p += other + (p[other] == ',');
        }
        a += len + (a[len] == ',');
    }
    return false;
}

static const struct member_state *find(const struct member_view *v, uint64_t id)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->members[i].member.id == id)
            return &v->members[i];
    return NULL;
}

static bool url_is_taken(const struct member_view *v, const char *urls, uint64_t but)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->members[i].member.id != but && share_url(urls, v->members[i].member.address))
            return true;
    return false;
}

struct count {
    size_t voters, started, reachable, learners; /* voters: those that become ones when they have caught up, too */
    size_t voting;                               /* now */
};

static struct count count(const struct member_view *v, uint64_t without)
{
    struct count c = {0};

    for (size_t i = 0; i < v->n; i++) {
        const struct member_state *m = &v->members[i];

        if (m->member.id == without)
            continue;
        if (!m->member.voter && !m->member.joining) {
            c.learners++;
            continue;
        }
        c.voters++;
        c.voting += m->member.voter;
        c.started += m->started;
        c.reachable += m->connected;
    }
    return c;
}

/* Another voter that has never run: the started ones must be a quorum with it. One member may grow to two all the same. */
static uint16_t may_add(const struct member_view *v, bool learner)
{
    struct count c = count(v, 0);

    if (learner && c.learners >= v->max_learners)
        return STATUS_TOO_MANY_LEARNERS;
    if (!v->strict)
        return STATUS_OK;
    if (!learner && !(c.started == 1 && c.voters == 1) && c.started < (c.voters + 1) / 2 + 1)
        return STATUS_NOT_ENOUGH_STARTED;
    return c.reachable < c.voters ? STATUS_UNHEALTHY : STATUS_OK;
}

static uint16_t add(const struct member_view *v, const struct member_change *change, const char *urls,
                    struct core_member *members, size_t *n)
{
    uint16_t status;

    if (find(v, change->id) != NULL)
        return STATUS_MEMBER_EXISTS;
    if (url_is_taken(v, urls, 0))
        return STATUS_PEER_URL_EXISTS;
    if (v->n >= NODE_MAX_MEMBERS)
        return STATUS_TOO_MANY_REQUESTS;
    status = may_add(v, change->learner);
    if (status == STATUS_OK)
        members[(*n)++] = (struct core_member){change->id, urls, false, !change->learner};
    return status;
}

static uint16_t remove_one(const struct member_view *v, const struct member_state *m, struct core_member *members, size_t *n)
{
    struct count rest = count(v, m->member.id);
    size_t at = (size_t)(m - v->members);

    if (m->member.voter) {
        if (rest.voting == 0 || (v->strict && rest.started < rest.voters / 2 + 1))
            return STATUS_NOT_ENOUGH_STARTED;
        /* One that is down is missed by nobody. */
        if (v->strict && m->connected && rest.reachable < rest.voters / 2 + 1)
            return STATUS_UNHEALTHY;
    }
    memmove(members + at, members + at + 1, (*n - at - 1) * sizeof(*members));
    (*n)--;
    return STATUS_OK;
}

static uint16_t promote(const struct member_view *v, const struct member_state *m, struct core_member *members)
{
    struct count c = count(v, 0);

    if (m->member.voter || m->member.joining)
        return STATUS_MEMBER_NOT_LEARNER;
    if (!m->connected || m->match_index * 100 < v->last_index * LEARNER_READY_PERCENT)
        return STATUS_LEARNER_NOT_READY;
    if (v->strict && c.started + 1 < (c.voters + 1) / 2 + 1)
        return STATUS_NOT_ENOUGH_STARTED;
    members[m - v->members].voter = true;
    return STATUS_OK;
}

/* One of the first version that stays would not know what to do with another membership. */
static bool older_stays(const struct member_view *v, const struct member_change *change)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->members[i].older && !(change->op == MEMBER_REMOVE && v->members[i].member.id == change->id))
            return true;
    return false;
}

uint16_t member_change_apply(const struct member_view *v, const struct member_change *change, char *urls, size_t urls_size,
                             struct core_member *ret_members, size_t *ret_n)
{
    const struct member_state *m = find(v, change->id);

    for (size_t i = 0; i < v->n; i++)
        ret_members[i] = v->members[i].member;
    *ret_n = v->n;
    if ((change->op == MEMBER_ADD || change->op == MEMBER_UPDATE) && !member_urls_canonical(change->peer_urls, urls, urls_size))
        return STATUS_BAD_MEMBER_URLS;
    if (change->op == MEMBER_ADD && older_stays(v, change))
        return STATUS_NOT_CAPABLE;
    if (change->op == MEMBER_ADD)
        return add(v, change, urls, ret_members, ret_n);
    if (change->op == MEMBER_MOVE_LEADER)
        return change->id == 0 || (m != NULL && m->member.voter) ? STATUS_OK : STATUS_BAD_TRANSFEREE;
    if (m == NULL)
        return STATUS_MEMBER_NOT_FOUND;
    if (older_stays(v, change))
        return STATUS_NOT_CAPABLE;
    switch (change->op) {
    case MEMBER_REMOVE:
        return remove_one(v, m, ret_members, ret_n);
    case MEMBER_PROMOTE:
        return promote(v, m, ret_members);
    case MEMBER_UPDATE:
        if (url_is_taken(v, urls, change->id))
            return STATUS_PEER_URL_EXISTS;
        ret_members[m - v->members].address = urls;
        return STATUS_OK;
    default:
        return STATUS_INVALID_REQUEST;
    }
}
