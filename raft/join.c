#include "raft/join.h"

#include <errno.h>
#include <stdio.h>

#include "raft/stream.h"

void join_answered(struct join *j, const struct peer_answer *answer)
{
    if (j->known || j->refused)
        return;
    if (answer->code == PEER_HELLO_OK) {
        j->known = true;
        j->cluster_id = answer->cluster_id;
        j->data_id = answer->data_id;
        j->member_id = answer->member_id;
        return;
    }
    j->refused = answer->code == PEER_HELLO_REPLACED || answer->code == PEER_HELLO_WRONG_VERSION;
    snprintf(j->text, sizeof(j->text), "%.*s", (int)(answer->text.len < 255 ? answer->text.len : 255),
             answer->text.len != 0 ? (const char *)answer->text.data : "");
}

static void on_bound(uv_timer_t *t)
{
    *(bool *)t->data = true;
}

int join_ask(struct join *j, struct transport *t, const struct config *c, struct identity *id, char *ret_text, size_t text_size)
{
    bool over = false;
    uv_timer_t bound;
    int rc = 0;

    if (c->n_members < 2) {
        snprintf(ret_text, text_size,
                 "--initial-cluster-state existing: --initial-cluster must name members that are there already");
        return -EINVAL;
    }
    log_info(j->logger, "joining: asking the members of --initial-cluster who this is");
    for (size_t i = 0; i < c->n_members && rc == 0; i++)
        if (i != c->self)
            rc = transport_ask(t, c->members[i].peer_urls);
    if (rc < 0)
        return rc;
    uv_timer_init(j->loop, &bound);
    bound.data = &over;
    uv_timer_start(&bound, on_bound, JOIN_WAIT_MS, 0);
    while (!j->known && !j->refused && !over)
        uv_run(j->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&bound, NULL);
    transport_identify(t, j->cluster_id, j->member_id);
    uv_run(j->loop, UV_RUN_NOWAIT); /* the timer is on this stack: closed before it goes */
    if (j->known) {
        id->cluster_id = j->cluster_id;
        id->data_id = j->data_id;
        id->member_id = j->member_id;
        log_info(j->logger, "this is member %016llx of cluster %016llx", (unsigned long long)id->member_id,
                 (unsigned long long)id->cluster_id);
        return 0;
    }
    snprintf(ret_text, text_size, "the cluster cannot be joined: %s",
             j->text[0] != '\0' ? j->text : "none of its members answers");
    return j->refused ? -EPERM : -ETIMEDOUT;
}
