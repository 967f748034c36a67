#include "sidecar/figures.h"

#include <errno.h>
#include <stdlib.h>

/* Structures of nothing but 64-bit counters are added as such. */
_Static_assert(sizeof(struct grpc_counters) % sizeof(uint64_t) == 0 && sizeof(size_t) == sizeof(uint64_t), "counters of 64 bits");
_Static_assert(sizeof(struct feed_counters) % sizeof(uint64_t) == 0, "counters of 64 bits");

static void add_counters(void *sum, const void *more, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t a, b;

        memcpy(&a, (uint8_t *)sum + at, sizeof a);
        memcpy(&b, (const uint8_t *)more + at, sizeof b);
        a += b;
        memcpy((uint8_t *)sum + at, &a, sizeof a);
    }
}

static void add_health(struct health_counters *sum, const struct health_counters *more)
{
    add_counters(sum, more, offsetof(struct health_counters, failing));
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < HEALTH_CHECKS; i++)
            sum->failing[t][i] = sum->failing[t][i] || more->failing[t][i];
}

/* All loops serve the same methods, in the same order. */
static int add_methods(struct figures *f, const struct grpc_method_counts *methods, size_t n)
{
    if (f->methods == NULL && (f->methods = calloc(n + 1, sizeof *f->methods)) == NULL)
        return -ENOMEM;
    f->n_methods = n;
    for (size_t i = 0; i < n; i++) {
        f->methods[i].method = methods[i].method;
        f->methods[i].started += methods[i].started;
        add_counters(f->methods[i].by_code, methods[i].by_code, sizeof methods[i].by_code);
    }
    return 0;
}

void figures_fini(struct figures *f)
{
    free(f->methods);
    *f = (struct figures){.n_methods = 0};
}

int figures_add_app(struct figures *f, const struct app *app)
{
    size_t n;
    const struct grpc_method_counts *methods = grpc_server_methods(app->grpc, &n);

    add_counters(&f->grpc, grpc_server_counters(app->grpc), sizeof f->grpc);
    add_counters(&f->feed, feed_counters(app->feed), sizeof f->feed);
    add_health(&f->health, &app->health);
    f->pending_bytes += app->pending_bytes;
    f->turns += app->turns;
    f->beats += app->beats;
    f->snapshots += app->snapshots;
    return add_methods(f, methods, n);
}

int figures_add(struct figures *f, const struct figures *more)
{
    if (more->methods == NULL)
        return 0; /* has not published yet */
    add_counters(&f->grpc, &more->grpc, sizeof f->grpc);
    add_counters(&f->feed, &more->feed, sizeof f->feed);
    add_health(&f->health, &more->health);
    f->pending_bytes += more->pending_bytes;
    f->turns += more->turns;
    f->beats += more->beats;
    f->snapshots += more->snapshots;
    return add_methods(f, more->methods, more->n_methods);
}
