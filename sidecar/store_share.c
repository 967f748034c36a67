#include "sidecar/store_share.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

struct store_lease {
    struct store_share *share;
    struct store *store;
    char *dir;
    uint64_t epoch;
    unsigned refs; /* under the share's lock */
};

struct store_share {
    uv_mutex_t lock;
    struct store_lease *newest; /* without a reference of its own: whoever was last takes it away */
};

struct store_share *store_share_new(void)
{
    struct store_share *s = calloc(1, sizeof *s);

    if (s != NULL && uv_mutex_init(&s->lock) < 0) {
        free(s);
        return NULL;
    }
    return s;
}

void store_share_free(struct store_share *s)
{
    if (s == NULL)
        return;
    uv_mutex_destroy(&s->lock);
    free(s);
}

/* Under the lock, so that nobody opens the same path meanwhile. */
static int open_new(struct store_share *s, const char *dir, uint64_t epoch, struct store_lease **ret_lease)
{
    struct store_lease *l = calloc(1, sizeof *l);
    struct store_options options = {0};
    int rc = l != NULL && (l->dir = strdup(dir)) != NULL ? store_open(dir, &options, &l->store) : -ENOMEM;

    if (rc == 0 && store_epoch(l->store) < epoch) { /* CURRENT is not renamed yet */
        store_close(l->store);
        rc = -EAGAIN;
    }
    if (rc < 0) {
        if (l != NULL)
            free(l->dir);
        free(l);
        return rc;
    }
    l->share = s;
    l->epoch = store_epoch(l->store);
    l->refs = 1;
    s->newest = l;
    *ret_lease = l;
    return 0;
}

int store_share_open(struct store_share *s, const char *dir, uint64_t epoch, struct store_lease **ret_lease)
{
    int rc = 0;

    uv_mutex_lock(&s->lock);
    if (s->newest != NULL && s->newest->epoch >= epoch && strcmp(s->newest->dir, dir) == 0) {
        s->newest->refs++;
        *ret_lease = s->newest;
    } else {
        rc = open_new(s, dir, epoch, ret_lease);
    }
    uv_mutex_unlock(&s->lock);
    return rc;
}

struct store_lease *store_lease_ref(struct store_lease *l)
{
    uv_mutex_lock(&l->share->lock);
    l->refs++;
    uv_mutex_unlock(&l->share->lock);
    return l;
}

void store_lease_unref(struct store_lease *l)
{
    struct store_share *s;

    if (l == NULL)
        return;
    s = l->share;
    uv_mutex_lock(&s->lock);
    if (--l->refs == 0) {
        if (s->newest == l)
            s->newest = NULL;
        store_close(l->store);
        free(l->dir);
        free(l);
    }
    uv_mutex_unlock(&s->lock);
}

struct store *store_lease_store(const struct store_lease *l)
{
    return l->store;
}

uint64_t store_lease_epoch(const struct store_lease *l)
{
    return l->epoch;
}
