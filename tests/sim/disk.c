/* disk.c - see world.h. A file has a durable content and a list of writes since the last sync; a directory likewise. */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SECTOR 512
#define MAX_FILES 2048

struct pending_write {
    uint64_t offset, len;
    uint8_t *data;      /* NULL: zeros */
    bool truncate;      /* to offset */
};

struct content {
    uint8_t *data;
    uint64_t len, cap;
};

struct sim_file { /* an inode */
    struct content now, durable;
    struct pending_write *pending;
    size_t n_pending, cap_pending;
    unsigned refs; /* names and handles */
};

struct name {
    char path[128];
    struct sim_file *file; /* NULL: a directory */
};

struct names {
    struct name at[MAX_FILES];
    size_t n;
};

struct disk_file {
    struct sim_file *file;
    bool read_only;
};

struct sim_disk {
    uint64_t *rng;
    struct names now;
    struct names durable;
    unsigned die_after; /* 0: lives */
    bool dead, full;
    uint64_t syncs;
};

static bool lying;

static void content_resize(struct content *c, uint64_t len)
{
    if (len > c->cap) {
        uint64_t cap = c->cap == 0 ? 4096 : c->cap;

        while (cap < len)
            cap *= 2;
        c->data = realloc(c->data, cap);
        if (c->data == NULL)
            abort();
        c->cap = cap;
    }
    if (len > c->len)
        memset(c->data + c->len, 0, len - c->len);
    c->len = len;
}

static void content_write(struct content *c, uint64_t offset, const uint8_t *data, uint64_t len)
{
    if (offset + len > c->len)
        content_resize(c, offset + len);
    if (len == 0)
        return;
    if (data != NULL)
        memcpy(c->data + offset, data, len);
    else
        memset(c->data + offset, 0, len);
}

static void content_apply(struct content *c, const struct pending_write *w)
{
    if (w->truncate)
        content_resize(c, w->offset);
    else
        content_write(c, w->offset, w->data, w->len);
}

static void pending_clear(struct sim_file *f)
{
    for (size_t i = 0; i < f->n_pending; i++)
        free(f->pending[i].data);
    f->n_pending = 0;
}

static void pending_add(struct sim_file *f, uint64_t offset, const void *data, uint64_t len, bool truncate)
{
    struct pending_write *w;

    if (f->n_pending == f->cap_pending) {
        f->cap_pending = f->cap_pending == 0 ? 16 : f->cap_pending * 2;
        f->pending = realloc(f->pending, f->cap_pending * sizeof *f->pending);
        if (f->pending == NULL)
            abort();
    }
    w = &f->pending[f->n_pending++];
    *w = (struct pending_write){.offset = offset, .len = len, .truncate = truncate};
    if (data != NULL && len > 0) {
        w->data = malloc(len);
        if (w->data == NULL)
            abort();
        memcpy(w->data, data, len);
    }
    content_apply(&f->now, w);
}

static void file_unref(struct sim_file *f)
{
    if (f == NULL || --f->refs > 0)
        return;
    pending_clear(f);
    free(f->pending);
    free(f->now.data);
    free(f->durable.data);
    free(f);
}

static struct name *find(struct names *names, const char *path)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->at[i].path, path) == 0)
            return &names->at[i];
    return NULL;
}

static void add_name(struct names *names, const char *path, struct sim_file *f)
{
    struct name *at = &names->at[names->n++];

    if (names->n > MAX_FILES || strlen(path) >= sizeof at->path)
        abort();
    strcpy(at->path, path);
    at->file = f;
    if (f != NULL)
        f->refs++;
}

static void drop_name(struct names *names, struct name *at)
{
    struct sim_file *f = at->file;

    *at = names->at[--names->n];
    file_unref(f);
}

/* Before every operation that changes something. */
static int alive(struct sim_disk *d)
{
    if (d->dead)
        return -EIO;
    if (d->die_after > 0 && --d->die_after == 0) {
        d->dead = true;
        return -EIO;
    }
    return 0;
}

static int disk_open(void *ctx, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct sim_disk *d = ctx;
    struct name *at = find(&d->now, path);
    struct disk_file *f;

    if (at != NULL && (flags & DISK_EXCLUSIVE) != 0)
        return -EEXIST;
    if (at == NULL) {
        int rc;

        if ((flags & DISK_CREATE) == 0)
            return -ENOENT;
        rc = alive(d);
        if (rc == 0 && d->full)
            rc = -ENOSPC;
        if (rc < 0)
            return rc;
        add_name(&d->now, path, calloc(1, sizeof(struct sim_file)));
        at = find(&d->now, path);
    }
    if (at->file == NULL)
        return -EISDIR;
    f = malloc(sizeof *f);
    *f = (struct disk_file){.file = at->file, .read_only = (flags & DISK_READ_ONLY) != 0};
    at->file->refs++;
    *ret_file = f;
    return 0;
}

static void disk_close(void *ctx, struct disk_file *f)
{
    if (f == NULL)
        return;
    file_unref(f->file);
    free(f);
}

static int disk_size(void *ctx, struct disk_file *f, uint64_t *ret_bytes)
{
    *ret_bytes = f->file->now.len;
    return 0;
}

static int disk_read(void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len)
{
    const struct content *c = &f->file->now;
    size_t n = offset >= c->len ? 0 : c->len - offset < len ? c->len - offset : len;

    if (n > 0)
        memcpy(buf, c->data + offset, n);
    *ret_len = n;
    return 0;
}

/* A machine that stops in the middle of a write leaves a part of it. */
static int disk_write(void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len)
{
    struct sim_disk *d = ctx;
    bool was_dead = d->dead;
    int rc = alive(d);

    if (f->read_only)
        return -EBADF;
    if (rc == 0 && d->full && offset + len > f->file->now.len)
        return -ENOSPC;
    if (rc < 0 && !was_dead)
        len = rng_below(d->rng, len + 1);
    if (rc == 0 || !was_dead)
        pending_add(f->file, offset, buf, len, false);
    return rc;
}

static int disk_zero(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len)
{
    const struct sim_disk *d = ctx;
    int rc = alive(ctx);

    if (rc == 0 && d->full)
        rc = -ENOSPC;
    if (rc == 0)
        pending_add(f->file, offset, NULL, len, false);
    return rc;
}

static int disk_truncate(void *ctx, struct disk_file *f, uint64_t len)
{
    int rc = alive(ctx);

    if (rc == 0)
        pending_add(f->file, len, NULL, 0, true);
    return rc;
}

static int disk_sync(void *ctx, struct disk_file *f)
{
    struct sim_disk *d = ctx;
    int rc = alive(d);

    if (rc < 0 || lying)
        return rc;
    for (size_t i = 0; i < f->file->n_pending; i++)
        content_apply(&f->file->durable, &f->file->pending[i]);
    pending_clear(f->file);
    d->syncs++;
    return 0;
}

static int disk_rename(void *ctx, const char *from, const char *to)
{
    struct sim_disk *d = ctx;
    struct name *source = find(&d->now, from), *target = find(&d->now, to);
    int rc = alive(d);

    if (rc < 0)
        return rc;
    if (source == NULL)
        return -ENOENT;
    if (target != NULL) {
        drop_name(&d->now, target);
        source = find(&d->now, from);
    }
    if (strlen(to) >= sizeof source->path)
        return -ENAMETOOLONG;
    strcpy(source->path, to);
    return 0;
}

static int disk_remove(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    struct name *at = find(&d->now, path);
    int rc = alive(d);

    if (rc < 0)
        return rc;
    if (at == NULL)
        return -ENOENT;
    drop_name(&d->now, at);
    return 0;
}

static int disk_mkdir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    int rc = alive(d);

    if (rc < 0)
        return rc;
    if (find(&d->now, path) != NULL)
        return -EEXIST;
    add_name(&d->now, path, NULL);
    return 0;
}

static const char *base_of(const char *path, size_t *ret_dir_len)
{
    const char *slash = strrchr(path, '/');

    *ret_dir_len = slash != NULL ? (size_t)(slash - path) : 0;
    return slash != NULL ? slash + 1 : path;
}

static bool in_dir(const char *path, const char *dir)
{
    size_t dir_len;

    base_of(path, &dir_len);
    if (strcmp(dir, ".") == 0)
        dir = "";
    return dir_len == strlen(dir) && memcmp(path, dir, dir_len) == 0;
}

/* The names of one directory become durable as they are now. */
static void settle_dir(struct sim_disk *d, const char *dir)
{
    for (size_t i = 0; i < d->durable.n;)
        if (in_dir(d->durable.at[i].path, dir))
            drop_name(&d->durable, &d->durable.at[i]);
        else
            i++;
    for (size_t i = 0; i < d->now.n; i++)
        if (in_dir(d->now.at[i].path, dir))
            add_name(&d->durable, d->now.at[i].path, d->now.at[i].file);
}

static int disk_sync_dir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    int rc = alive(d);

    if (rc < 0 || lying)
        return rc;
    settle_dir(d, path);
    d->syncs++;
    return 0;
}

static int disk_list(void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg)
{
    struct sim_disk *d = ctx;
    struct names copy = d->now;

    for (size_t i = 0; i < copy.n; i++) {
        size_t dir_len;

        if (in_dir(copy.at[i].path, path) && fn(arg, base_of(copy.at[i].path, &dir_len)) != 0)
            break;
    }
    return 0;
}

struct sim_disk *sim_disk_new(uint64_t *rng)
{
    struct sim_disk *d = calloc(1, sizeof *d);

    d->rng = rng;
    return d;
}

static void names_clear(struct names *names)
{
    while (names->n > 0)
        drop_name(names, &names->at[0]);
}

void sim_disk_free(struct sim_disk *d)
{
    names_clear(&d->now);
    names_clear(&d->durable);
    free(d);
}

struct disk sim_disk_table(struct sim_disk *d)
{
    return (struct disk){
        .ctx = d,
        .open = disk_open,
        .close = disk_close,
        .size = disk_size,
        .read = disk_read,
        .write = disk_write,
        .zero = disk_zero,
        .truncate = disk_truncate,
        .sync = disk_sync,
        .rename = disk_rename,
        .remove = disk_remove,
        .mkdir = disk_mkdir,
        .sync_dir = disk_sync_dir,
        .list = disk_list,
    };
}

/* Each unsynced write is kept, lost, or kept up to some sector. */
static void crash_file(struct sim_disk *d, struct sim_file *f)
{
    unsigned keep = (unsigned)rng_below(d->rng, 3) * 500; /* none, half, all: per mille */

    for (size_t i = 0; i < f->n_pending; i++) {
        struct pending_write *w = &f->pending[i];

        if (!rng_chance(d->rng, keep))
            continue;
        if (!w->truncate && w->len > SECTOR && rng_chance(d->rng, 300))
            w->len = rng_below(d->rng, w->len / SECTOR + 1) * SECTOR;
        content_apply(&f->durable, w);
    }
    pending_clear(f);
    content_resize(&f->now, 0);
    content_write(&f->now, 0, f->durable.data, f->durable.len);
}

void sim_disk_crash(struct sim_disk *d)
{
    struct names old = d->now;

    /* Names changed since the last sync of their directory: all of them or none. */
    if (rng_chance(d->rng, 500)) {
        struct names empty = {0};

        names_clear(&d->durable);
        d->durable = empty;
        for (size_t i = 0; i < old.n; i++)
            add_name(&d->durable, old.at[i].path, old.at[i].file);
    }
    names_clear(&d->now);
    for (size_t i = 0; i < d->durable.n; i++)
        add_name(&d->now, d->durable.at[i].path, d->durable.at[i].file);
    for (size_t i = 0; i < d->now.n; i++)
        if (d->now.at[i].file != NULL)
            crash_file(d, d->now.at[i].file);
    d->dead = false;
    d->die_after = 0;
}

void sim_disk_die_after(struct sim_disk *d, unsigned n)
{
    d->die_after = n;
}

void sim_disk_set_full(struct sim_disk *d, bool full)
{
    d->full = full;
}

void sim_disk_lie(bool lie)
{
    lying = lie;
}

uint64_t sim_disk_syncs(const struct sim_disk *d)
{
    return d->syncs;
}
