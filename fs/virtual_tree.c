/* .quorumfs/rev/N/...: the tree as it was at revision N. .quorumfs/history/PATH/: a file's revisions. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/mount.h"

#define OLD_SLICE_ROWS 1000 /* of the log, in one turn of the loop */

/* ---- revisions that are looked at ---- */

static struct virtual_old *find_slot(struct mount *m, int64_t revision)
{
    struct virtual_tree *v = &m->virtual;
    struct virtual_old *best = NULL;

    for (size_t i = 0; i < VIRTUAL_OLD_MAX; i++) {
        struct virtual_old *o = &v->old[i];

        if (o->old != NULL && store_old_revision(o->old) == revision)
            return o;
        if (!o->wanted && (best == NULL || o->old == NULL || (best->old != NULL && o->used < best->used)))
            best = o;
    }
    if (best == NULL)
        return NULL; /* all are being collected for others: later */
    store_old_free(best->old);
    *best = (struct virtual_old){0};
    return store_old_new(revision, &best->old) < 0 ? NULL : best;
}

/* Reads on to the mount's revision, if that is not far. */
static int read_on(struct mount *m, struct virtual_old *o)
{
    uint16_t status;
    bool more;
    int rc = store_old_advance(o->old, m->read, OLD_SLICE_ROWS, &more, &status);

    if (rc < 0)
        return rc;
    switch (status) {
    case STATUS_OK:
        return more ? -EAGAIN : 0;
    case STATUS_COMPACTED:
        return -ESTALE;
    case STATUS_FUTURE_REVISION:
        return -ENOENT;
    default:
        return -EFBIG;
    }
}

static int get_old(struct mount *m, int64_t revision, const struct store_old **ret_old)
{
    struct virtual_old *o = revision > 0 ? find_slot(m, revision) : NULL;
    int rc;

    if (revision <= 0)
        return -ESTALE;
    if (o == NULL)
        return -EAGAIN;
    o->used = ++m->virtual.uses;
    rc = o->wanted ? -EAGAIN : read_on(m, o);
    o->wanted = rc == -EAGAIN;
    *ret_old = o->old;
    return rc;
}

void virtual_old_work(struct mount *m)
{
    for (size_t i = 0; i < VIRTUAL_OLD_MAX; i++) {
        struct virtual_old *o = &m->virtual.old[i];

        if (o->wanted) {
            o->wanted = read_on(m, o) == -EAGAIN;
            return; /* one slice a turn */
        }
    }
}

void virtual_old_free(struct mount *m)
{
    for (size_t i = 0; i < VIRTUAL_OLD_MAX; i++) {
        store_old_free(m->virtual.old[i].old);
        m->virtual.old[i] = (struct virtual_old){0};
    }
}

/* ---- places ---- */

static const struct virtual_kind *kind_of_old(mode_t type);

/* The directory rev/N that a node is below. */
static const struct inode *top_of_old(const struct inode *i)
{
    while (i->parent != NULL && i->parent->kind != virtual_kind_rev())
        i = i->parent;
    return i;
}

/* ---- rev/N/... ---- */

static int old_source(struct mount *m, const struct inode *i, struct name_place *p, struct view_source *ret_source)
{
    const struct inode *top = top_of_old(i);
    int rc;

    ret_source->r = m->read;
    ret_source->ever = false;
    rc = get_old(m, top->number, &ret_source->old);
    return rc == 0 ? view_place_below(m, top, i, p) : rc;
}

static int old_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                      int64_t *ret_number)
{
    struct view_source source;
    struct name_place p;
    struct view v;
    int rc;

    name_place_init(&p);
    rc = old_source(m, dir, &p, &source);
    if (rc == 0)
        rc = name_step(&p, name);
    if (rc == 0)
        rc = view_at_source(m, &source, &p, &v);
    if (rc == 0 && v.seen.type == 0)
        rc = -ENOENT;
    name_place_fini(&p);
    if (rc < 0)
        return rc;
    *ret_kind = kind_of_old(v.seen.type);
    *ret_number = 0;
    return 0;
}

struct relabel {
    const struct inode *dir;
    virtual_emit emit;
    void *ctx;
};

static int emit_old(void *ctx, struct slice name, const struct view *view)
{
    struct relabel *r = ctx;
    struct view v;

    virtual_view(r->dir, name, kind_of_old(view->seen.type), &v);
    return r->emit(r->ctx, name, &v);
}

static int old_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct relabel r = {dir, emit, ctx};
    struct view_source source;
    struct name_place p;
    int rc;

    name_place_init(&p);
    rc = old_source(m, dir, &p, &source);
    if (rc == 0)
        rc = view_list_source(m, &source, &p, emit_old, &r);
    name_place_fini(&p);
    return rc;
}

static int old_attributes(struct mount *m, const struct inode *i, struct stat *st)
{
    uint64_t ino = st->st_ino;
    struct view_source source;
    struct name_place p;
    struct view v;
    int rc;

    name_place_init(&p);
    rc = old_source(m, i, &p, &source);
    if (rc == 0)
        rc = view_at_source(m, &source, &p, &v);
    if (rc == 0 && v.seen.type != i->type)
        rc = -ESTALE;
    if (rc == 0)
        view_fill(m, &v, st);
    st->st_ino = ino; /* not the file's own: it is not the same file, and cp would take it for one */
    name_place_fini(&p);
    return rc;
}

static int old_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    struct view_source source;
    struct name_place p;
    struct arena arena;
    struct slice value;
    uint16_t status = STATUS_OK;
    int rc;

    arena_init(&arena);
    name_place_init(&p);
    rc = old_source(m, i, &p, &source);
    if (rc == 0)
        rc = store_value_at(m->read, bytes_slice(&p.key), store_old_revision(source.old), &arena, &value, &status);
    if (rc == 0 && status != STATUS_OK)
        rc = -ESTALE;
    if (rc == 0)
        bytes_append(out, value);
    name_place_fini(&p);
    arena_fini(&arena);
    return rc;
}

static const struct virtual_kind kind_old_dir = {.mode = S_IFDIR | 0555, .lookup = old_lookup, .list = old_list,
                                                 .attributes = old_attributes};
static const struct virtual_kind kind_old_file = {.mode = S_IFREG | 0444, .content = old_content, .attributes = old_attributes};
static const struct virtual_kind kind_old_link = {.mode = S_IFLNK | 0777, .content = old_content, .attributes = old_attributes};
static const struct virtual_kind kind_old_fifo = {.mode = S_IFIFO | 0444, .attributes = old_attributes};
static const struct virtual_kind kind_old_socket = {.mode = S_IFSOCK | 0444, .attributes = old_attributes};

static const struct virtual_kind *kind_of_old(mode_t type)
{
    switch (type) {
    case S_IFDIR:
        return &kind_old_dir;
    case S_IFLNK:
        return &kind_old_link;
    case S_IFIFO:
        return &kind_old_fifo;
    case S_IFSOCK:
        return &kind_old_socket;
    default:
        return &kind_old_file;
    }
}

static int rev_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                      int64_t *ret_number)
{
    int rc = virtual_number(name, ret_number);

    *ret_kind = &kind_old_dir;
    if (rc == 0 && *ret_number > m->revision)
        rc = -ENOENT; /* not yet */
    if (rc == 0 && *ret_number < store_read_compacted(m->read))
        rc = -ESTALE; /* not any more */
    return rc;
}

/* The oldest and the newest that there are; the others have no names of their own to be shown. */
static int rev_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    int64_t oldest = store_read_compacted(m->read) > 0 ? store_read_compacted(m->read) : 1;
    int rc = 0;

    for (int i = 0; rc == 0 && i < (oldest < m->revision ? 2 : 1); i++) {
        char name[32];
        struct view v;

        snprintf(name, sizeof(name), "%" PRId64, i == 0 ? oldest : m->revision);
        virtual_view(dir, slice_from_str(name), &kind_old_dir, &v);
        rc = emit(ctx, slice_from_str(name), &v);
    }
    return rc;
}

const struct virtual_kind *virtual_kind_rev(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0555, .lookup = rev_lookup, .list = rev_list};

    return &kind;
}

/* ---- history/PATH/N ---- */

static const struct virtual_kind *kind_history_tree(void);
static const struct virtual_kind *kind_versions(void);

/* The place of a node below history/, and of what is its own: for a revision that of the file. */
static int history_place(struct mount *m, const struct inode *i, struct name_place *p)
{
    const struct inode *top = i;

    if (!S_ISDIR(i->kind->mode))
        i = i->parent;
    for (top = i; top != NULL && top->kind != virtual_kind_history();)
        top = top->parent;
    return i == NULL || top == NULL ? -ESTALE : view_place_below(m, top, i, p);
}

static int history_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                          int64_t *ret_number)
{
    const struct view_source ever = {.r = m->read, .ever = true};
    struct name_place p;
    struct view v;
    int rc;

    name_place_init(&p);
    rc = history_place(m, dir, &p);
    if (rc == 0)
        rc = name_step(&p, name);
    if (rc == 0)
        rc = view_at_source(m, &ever, &p, &v);
    if (rc == 0 && v.seen.type == 0)
        rc = -ENOENT;
    name_place_fini(&p);
    if (rc < 0)
        return rc;
    *ret_kind = v.seen.type == S_IFDIR ? kind_history_tree() : kind_versions();
    *ret_number = 0;
    return 0;
}

static int emit_history(void *ctx, struct slice name, const struct view *view)
{
    struct relabel *r = ctx;
    struct view v;

    virtual_view(r->dir, name, view->seen.type == S_IFDIR ? kind_history_tree() : kind_versions(), &v);
    return r->emit(r->ctx, name, &v);
}

static int history_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    const struct view_source ever = {.r = m->read, .ever = true};
    struct relabel r = {dir, emit, ctx};
    struct name_place p;
    int rc;

    name_place_init(&p);
    rc = history_place(m, dir, &p);
    if (rc == 0)
        rc = view_list_source(m, &ever, &p, emit_history, &r);
    name_place_fini(&p);
    return rc;
}

/* Who may look into a directory may see what was in it. What has no directory any more is the mount's own user's. */
static int history_attributes(struct mount *m, const struct inode *i, struct stat *st)
{
    uint64_t ino = st->st_ino;
    struct name_place p;
    struct view v = {0};
    int rc;

    name_place_init(&p);
    rc = history_place(m, i, &p);
    if (rc == 0)
        rc = view_at(m, m->read, &p, &v);
    name_place_fini(&p);
    if (rc == 0 && v.seen.type == S_IFDIR) {
        view_fill(m, &v, st);
        st->st_mode &= ~(mode_t)0222;
    } else if (rc == 0 && i->kind == kind_history_tree()) {
        st->st_mode = S_IFDIR | 0500;
    }
    st->st_ino = ino;
    return rc;
}

/* A revision of the file. */
static int get_version(struct mount *m, const struct inode *i, int64_t revision, struct arena *arena, struct event *ret_event)
{
    struct name_place p;
    int rc;

    name_place_init(&p);
    rc = history_place(m, i, &p);
    if (rc == 0)
        rc = store_key_version(m->read, bytes_slice(&p.key), revision, arena, ret_event);
    name_place_fini(&p);
    return rc;
}

static int version_attributes(struct mount *m, const struct inode *i, struct stat *st)
{
    struct view v = {.uid = m->opt.uid, .gid = m->opt.gid};
    uint64_t ino = st->st_ino;
    struct arena arena;
    struct event e;
    int rc;

    arena_init(&arena);
    rc = get_version(m, i, i->number, &arena, &e);
    if (rc == 0) {
        v.mode = S_IFREG | ((e.attrs.has & ATTR_MODE ? e.attrs.mode : 0666 & ~m->opt.umask) & 0555);
        if (e.attrs.has & ATTR_UID)
            v.uid = e.attrs.uid;
        if (e.attrs.has & ATTR_GID)
            v.gid = e.attrs.gid;
        v.size = e.value_len;
        v.ctime_ns = e.time_ns;
        v.mtime_ns = e.attrs.has & ATTR_MTIME ? e.attrs.mtime_ns : e.time_ns;
        view_fill(m, &v, st);
        st->st_ino = ino;
    }
    arena_fini(&arena);
    return rc == -ENOENT ? -ESTALE : rc;
}

static int version_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    struct arena arena;
    struct slice value = {NULL, 0};
    struct event e;
    int rc;

    arena_init(&arena);
    rc = get_version(m, i, i->number, &arena, &e);
    if (rc == 0 && e.kind != EVENT_DELETE)
        rc = store_event_value(m->read, &e, &arena, &value);
    if (rc == 0)
        bytes_append(out, value);
    arena_fini(&arena);
    return rc == -ENOENT ? -ESTALE : rc;
}

static const struct virtual_kind kind_version = {.mode = S_IFREG | 0444, .content = version_content,
                                                 .attributes = version_attributes};

static const char deleted[] = ".deleted";

static int versions_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                           int64_t *ret_number)
{
    size_t suffix = sizeof(deleted) - 1;
    bool wants_deleted = name.len > suffix && memcmp(name.data + name.len - suffix, deleted, suffix) == 0;
    struct arena arena;
    struct event e;
    int rc = virtual_number(slice_make(name.data, name.len - (wants_deleted ? suffix : 0)), ret_number);

    arena_init(&arena);
    if (rc == 0)
        rc = get_version(m, dir, *ret_number, &arena, &e);
    if (rc == 0 && (e.kind == EVENT_DELETE) != wants_deleted)
        rc = -ENOENT;
    arena_fini(&arena);
    *ret_kind = &kind_version;
    return rc;
}

struct versions {
    int64_t revisions[VIRTUAL_HISTORY_MAX]; /* negative: deleted then */
    size_t n;
};

static int take_version(void *ctx, const struct event *e)
{
    struct versions *v = ctx;

    /* Deleted and made again in one revision, as a rename onto itself may do: the later row counts. */
    if (v->n > 0 && llabs(v->revisions[v->n - 1]) == e->rev.main)
        return 0;
    v->revisions[v->n++] = e->kind == EVENT_DELETE ? -e->rev.main : e->rev.main;
    return 0;
}

static int versions_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct versions *v = calloc(1, sizeof(*v));
    struct name_place p;
    int rc;

    if (v == NULL)
        return -ENOMEM;
    name_place_init(&p);
    rc = history_place(m, dir, &p);
    if (rc == 0)
        rc = store_key_history(m->read, bytes_slice(&p.key), VIRTUAL_HISTORY_MAX, take_version, v);
    for (size_t i = v->n; rc == 0 && i-- > 0;) { /* the newest last */
        char name[64];
        struct view view;

        snprintf(name, sizeof(name), "%lld%s", llabs(v->revisions[i]), v->revisions[i] < 0 ? deleted : "");
        virtual_view(dir, slice_from_str(name), &kind_version, &view);
        rc = emit(ctx, slice_from_str(name), &view);
    }
    name_place_fini(&p);
    free(v);
    return rc;
}

static const struct virtual_kind *kind_history_tree(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0555, .lookup = history_lookup, .list = history_list,
                                             .attributes = history_attributes};

    return &kind;
}

static const struct virtual_kind *kind_versions(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0555, .lookup = versions_lookup, .list = versions_list};

    return &kind;
}

const struct virtual_kind *virtual_kind_history(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0555, .lookup = history_lookup, .list = history_list,
                                             .attributes = history_attributes};

    return &kind;
}
