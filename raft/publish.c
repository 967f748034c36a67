#include "raft/publish.h"

#include "proto/command.h"

/* The member as the flags describe it; texts borrowed from c and from the room given. */
static void describe(uint64_t id, uint64_t instance, const struct config *c, struct slice *urls, char (*text)[URL_TEXT_MAX_BYTES],
                     struct member_info *ret_m)
{
    for (size_t i = 0; i < c->advertise_client.count; i++) {
        url_format(&c->advertise_client.urls[i], text[i], URL_TEXT_MAX_BYTES);
        urls[i] = slice_from_str(text[i]);
    }
    *ret_m = (struct member_info){
        .id = id, .name = slice_from_str(c->name), .client_urls = urls, .n_client_urls = c->advertise_client.count,
        .version = APPLY_VERSION, .instance = instance};
}

static bool is_same(const struct member_info *a, const struct member_info *b)
{
    if (a->id != b->id || a->version != b->version || a->instance != b->instance || !slice_equal(a->name, b->name) ||
        a->n_client_urls != b->n_client_urls)
        return false;
    for (size_t i = 0; i < a->n_client_urls; i++)
        if (!slice_equal(a->client_urls[i], b->client_urls[i]))
            return false;
    return true;
}

bool publish_is_current(struct store *s, uint64_t id, uint64_t instance, const struct config *c)
{
    char text[URL_LIST_MAX][URL_TEXT_MAX_BYTES];
    struct slice urls[URL_LIST_MAX];
    struct member_info want, *found = NULL;
    struct store_read *r = NULL;
    struct arena arena;
    bool same = false;
    size_t n = 0;

    arena_init(&arena);
    describe(id, instance, c, urls, text, &want);
    if (store_read_begin(s, &r) == 0 && store_members(r, &arena, &found, &n) == 0)
        for (size_t i = 0; i < n && !same; i++)
            same = is_same(&found[i], &want);
    store_read_end(r);
    arena_fini(&arena);
    return same;
}

bool publish_is_known(struct store *s)
{
    struct store_read *r = NULL;
    struct store_meta meta = {0};
    bool known = store_read_begin(s, &r) == 0 && store_read_meta(r, &meta) == 0 && meta.cluster_version >= APPLY_VERSION;

    store_read_end(r);
    return known;
}

int publish_encode(uint64_t id, uint64_t instance, const struct config *c, struct bytes *out)
{
    char text[URL_LIST_MAX][URL_TEXT_MAX_BYTES];
    struct slice urls[URL_LIST_MAX];
    struct command cmd = {.kind = COMMAND_MEMBER_PUBLISH};

    describe(id, instance, c, urls, text, &cmd.member);
    command_encode(&cmd, out);
    return bytes_status(out);
}
