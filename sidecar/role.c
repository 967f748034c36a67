#include "sidecar/role.h"

#include <jansson.h>

#include "sidecar/app.h"

#define ROLE_WAIT_MS 5000

/* 1 a learner, 0 a voter, -1: it does not stand among the members (yet, or any more). */
static int learner_of(const json_t *status)
{
    const json_t *self = json_object_get(status, "member_id"), *members = json_object_get(status, "members"), *m;
    size_t i;

    if (!json_is_string(self) || !json_is_array(members))
        return -1;
    json_array_foreach(members, i, m)
    {
        if (json_equal(json_object_get(m, "id"), self))
            return json_is_false(json_object_get(m, "voter"));
    }
    return -1;
}

static void on_timer(uv_timer_t *timer)
{
    role_ask(timer->data);
}

static void on_status(void *arg, uint16_t status, struct slice text)
{
    struct app *app = arg;
    json_t *json = NULL;
    int learner = -1;

    app->role_ticket = 0;
    if (status == STATUS_OK)
        json = json_loadb((const char *)text.data, text.len, 0, NULL);
    if (json != NULL)
        learner = learner_of(json);
    json_decref(json);
    if (learner >= 0) {
        if ((learner == 1) != app->learner)
            log_info(&app->log, learner == 1 ? "this member is a learner" : "this member votes");
        app->learner = learner == 1;
    }
    if (!app->stopping)
        uv_timer_start(&app->role_timer, on_timer, learner == 0 ? ROLE_SURE_MS : ROLE_ASK_MS, 0);
}

void role_init(struct app *app)
{
    uv_timer_init(app->loop, &app->role_timer);
    app->role_timer.data = app;
}

void role_ask(struct app *app)
{
    struct client *c = app->line != NULL ? node_line_client(app->line) : NULL;
    int64_t ticket;

    if (c == NULL || app->role_ticket != 0 || app->stopping)
        return;
    ticket = client_status(c, client_now_ms() + ROLE_WAIT_MS, on_status, app);
    if (ticket > 0)
        app->role_ticket = ticket;
    node_line_touch(app->line);
}

void role_close(struct app *app)
{
    uv_close((uv_handle_t *)&app->role_timer, NULL);
}
