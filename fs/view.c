/* The committed name space as users see it: names to keys, rows to attributes. Nothing is kept between calls. */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount.h"

#define INO_VIRTUAL (1ULL << 62) /* of directories that are in no table: %:bare, pieces of long names */

/* ---- places ---- */

int view_place_below(const struct mount *m, const struct inode *top, const struct inode *i, struct name_place *p)
{
    const struct inode *way[KEY_MAX_BYTES / 2 + 8];
    size_t depth = 0;
    int rc;

    for (; i != top; i = i->parent) {
        if (i->parent == NULL)
            return -ESTALE;
        if (depth == sizeof(way) / sizeof(way[0]))
            return -ENAMETOOLONG;
        way[depth++] = i;
    }
    rc = name_root(slice_from_str(m->opt.prefix), p);
    while (rc == 0 && depth > 0)
        rc = name_step(p, way[--depth]->name);
    return rc;
}

int view_place(const struct mount *m, const struct inode *i, struct name_place *p)
{
    return view_place_below(m, m->inodes.root, i, p);
}

int view_place_of(const struct mount *m, const struct inode *dir, struct slice name, struct name_place *p)
{
    int rc = view_place(m, dir, p);

    return rc < 0 ? rc : name_step(p, name);
}

static uint64_t virtual_ino(const struct name_place *p)
{
    uint64_t h = 0xcbf29ce484222325ULL + p->kind;

    for (size_t i = 0; i < p->key.len; i++)
        h = (h ^ p->key.data[i]) * 0x100000001b3ULL;
    return INO_VIRTUAL | (h >> 2);
}

/* ---- what is there ---- */

static void set_virtual_dir(const struct mount *m, const struct name_place *p, struct view *v)
{
    v->seen = (struct seen){.type = S_IFDIR, .implicit = true, .ino = virtual_ino(p)};
    v->mode = S_IFDIR | (0777 & ~m->opt.umask);
}

static void from_row(const struct mount *m, const struct node_stat *st, struct view *v)
{
    const struct attrs *a = &st->attrs;
    bool is_dir = st->type == NODE_DIRECTORY;

    v->has = a->has;
    v->seen.implicit = is_dir && st->implicit;
    v->seen.ino = st->ino;
    v->mode = a->has & ATTR_MODE ? a->mode : (is_dir ? 0777 : 0666) & ~(uint32_t)m->opt.umask;
    if (is_dir)
        v->mode = (v->mode & 07777) | S_IFDIR;
    else if ((v->mode & S_IFMT) != S_IFLNK && (v->mode & S_IFMT) != S_IFIFO && (v->mode & S_IFMT) != S_IFSOCK)
        v->mode = (v->mode & 07777) | S_IFREG;
    v->seen.type = v->mode & S_IFMT;
    if (a->has & ATTR_UID)
        v->uid = a->uid;
    if (a->has & ATTR_GID)
        v->gid = a->gid;
    v->size = is_dir ? 0 : st->size;
    v->ctime_ns = st->time_ns;
    v->mtime_ns = a->has & ATTR_MTIME ? a->mtime_ns : st->time_ns;
    v->rev = st->mod.main;
}

struct any_match {
    const struct name_place *piece;
    bool found;
    int rc;
};

static int match_piece(void *ctx, const struct store_child *child)
{
    struct any_match *match = ctx;
    struct bytes name;
    bool piece;
    int rc;

    bytes_init(&name);
    rc = name_of_child(match->piece, child->component, &name, &piece);
    bytes_fini(&name);
    if (rc == -ENOENT)
        return 0;
    match->rc = rc;
    match->found = true;
    return 1;
}

/* ---- what was there: the same questions to another time ---- */

static int source_list(const struct view_source *s, struct slice key, bool bare, store_child_fn emit, void *ctx)
{
    const struct slice start = {NULL, 0};

    if (s->old != NULL)
        return (bare ? store_list_bare_at : store_list_at)(s->r, s->old, key, emit, ctx);
    if (s->ever)
        return (bare ? store_list_bare_ever : store_list_ever)(s->r, key, emit, ctx);
    return (bare ? store_list_bare : store_list)(s->r, key, start, emit, ctx);
}

static int stat_ever(const struct view_source *s, struct slice path, bool key_alone, struct node_stat *st)
{
    bool key, dir;
    int rc = store_was(s->r, path, &key, &dir);

    if (rc < 0)
        return rc;
    *st = (struct node_stat){.type = !key_alone && dir ? NODE_DIRECTORY : key ? NODE_FILE : NODE_NONE, .also_key = key};
    return 0;
}

static int source_stat(const struct view_source *s, struct slice path, struct node_stat *st)
{
    if (s->old != NULL)
        return store_stat_at(s->r, s->old, path, st);
    return s->ever ? stat_ever(s, path, false, st) : store_stat(s->r, path, st);
}

static int source_stat_key(const struct view_source *s, struct slice key, struct node_stat *st)
{
    if (s->old != NULL)
        return store_stat_key_at(s->r, s->old, key, st);
    return s->ever ? stat_ever(s, key, true, st) : store_stat_key(s->r, key, st);
}

static int list_level(const struct view_source *s, enum name_kind kind, struct slice key, store_child_fn emit, void *ctx)
{
    bool bare = kind == NAME_RAW || kind == NAME_BARE || (key.len != 0 && key.data[0] != '/');

    return source_list(s, key, bare, emit, ctx);
}

/* A piece is there while a long name needs it. */
static int view_piece(const struct mount *m, const struct view_source *s, const struct name_place *p, struct view *v)
{
    struct any_match match = {.piece = p};
    int rc = list_level(s, p->above, slice_make(p->key.data, p->dir_len), match_piece, &match);

    if (rc < 0)
        return rc;
    if (match.found && match.rc == 0)
        set_virtual_dir(m, p, v);
    return match.rc;
}

int view_at(const struct mount *m, struct store_read *r, const struct name_place *p, struct view *v)
{
    const struct view_source now = {.r = r};

    return view_at_source(m, &now, p, v);
}

int view_at_source(const struct mount *m, const struct view_source *s, const struct name_place *p, struct view *v)
{
    struct slice key = bytes_slice(&p->key);
    struct node_stat st = {0};
    int rc;

    *v = (struct view){.uid = m->opt.uid, .gid = m->opt.gid};
    switch (p->kind) {
    case NAME_RAW:
    case NAME_BARE:
        set_virtual_dir(m, p, v);
        return 0;
    case NAME_PIECE:
        return view_piece(m, s, p, v);
    case NAME_VALUE:
        rc = source_stat(s, key, &st);
        if (rc < 0 || st.type != NODE_DIRECTORY || !st.also_key)
            return rc;
        rc = source_stat_key(s, key, &st);
        break;
    case NAME_SLASH:
        rc = source_stat_key(s, key, &st);
        break;
    case NAME_NODE:
    default:
        rc = source_stat(s, key, &st);
        /* An empty component is a directory or nothing: its key is %:slash in the directory above. */
        if (rc == 0 && st.type == NODE_FILE && key.len != 0 && key.data[key.len - 1] == '/')
            return 0;
    }
    if (rc < 0 || st.type == NODE_NONE) {
        if (rc == 0 && p->root)
            set_virtual_dir(m, p, v);
        return rc;
    }
    from_row(m, &st, v);
    return 0;
}

static void view_fresh(const struct inode *i, struct view *v)
{
    const struct buffer *b = i->buffer;

    *v = (struct view){.seen = {.type = i->type, .ino = i->ino, .node = (struct inode *)i}};
    v->mode = S_IFREG | (b->attrs.mode & 07777);
    v->uid = b->attrs.uid;
    v->gid = b->attrs.gid;
    v->size = b->size;
    v->mtime_ns = v->ctime_ns = b->mtime_ns;
    v->has = ATTR_MODE | ATTR_UID | ATTR_GID;
}

int view_name(const struct mount *m, const struct inode *dir, struct slice name, struct view *v)
{
    struct inode *child = inode_child(&m->inodes, dir, name);
    struct name_place place;
    int rc;

    *v = (struct view){0};
    if (inode_is_dead(&m->inodes, dir))
        return 0;
    name_place_init(&place);
    rc = view_place_of(m, dir, name, &place);
    if (rc == 0 && child != NULL && child->fresh)
        view_fresh(child, v);
    else if (rc == 0)
        rc = view_at(m, m->read, &place, v);
    if (rc == 0 && v->seen.type != 0 && child != NULL && v->seen.node == NULL) {
        struct seen known = {.type = child->type, .implicit = child->implicit, .ino = child->ino};

        if (seen_same(&known, &v->seen))
            v->seen.node = child;
    }
    name_place_fini(&place);
    return rc == -ESTALE ? 0 : rc;
}

int view_content(const struct mount *m, struct store_read *r, const struct name_place *p, struct arena *arena,
                 struct slice *ret_content)
{
    if (p->kind != NAME_NODE && p->kind != NAME_VALUE && p->kind != NAME_SLASH)
        return -EISDIR;
    return store_value(r, bytes_slice(&p->key), arena, ret_content);
}

/* ---- attributes for the kernel ---- */

static struct timespec time_of(int64_t ns)
{
    int64_t rest = ns % 1000000000;

    return (struct timespec){ns / 1000000000 - (rest < 0), rest + (rest < 0 ? 1000000000 : 0)};
}

void view_fill(const struct mount *m, const struct view *v, struct stat *st)
{
    *st = (struct stat){.st_ino = v->seen.ino, .st_mode = v->mode, .st_uid = v->uid, .st_gid = v->gid};
    st->st_nlink = v->seen.type == S_IFDIR ? 2 : 1;
    st->st_size = (off_t)v->size;
    st->st_blksize = 4096;
    st->st_blocks = (blkcnt_t)((v->size + 511) / 512);
    st->st_mtim = st->st_atim = time_of(v->mtime_ns);
    st->st_ctim = time_of(v->ctime_ns);
}

void view_stat_dead(const struct inode *i, bool linked, struct stat *st)
{
    *st = i->last;
    st->st_ino = i->ino;
    if ((st->st_mode & S_IFMT) != i->type)
        st->st_mode = i->type | (i->type == S_IFDIR ? 0755 : 0644);
    if (i->buffer != NULL)
        st->st_size = (off_t)i->buffer->size;
    /* The kernel lowers the count itself when it unlinks; only what it has unlinked already has none. */
    st->st_nlink = !linked ? 0 : i->type == S_IFDIR ? 2 : 1;
}

int view_stat(const struct mount *m, const struct inode *i, struct stat *st)
{
    const struct buffer *b = i->buffer;
    struct name_place place;
    struct view v;
    int rc;

    if (inode_is_dead(&m->inodes, i)) {
        view_stat_dead(i, false, st);
        return 0;
    }
    if (i->fresh) {
        view_fresh(i, &v);
    } else {
        name_place_init(&place);
        rc = view_place(m, i, &place);
        if (rc == 0)
            rc = view_at(m, m->read, &place, &v);
        name_place_fini(&place);
        if (rc < 0)
            return rc;
        if (v.seen.type != i->type)
            return -ESTALE;
        v.seen.ino = i->shown_ino != 0 ? i->shown_ino : i->ino;
        if (b != NULL) {
            v.size = b->size;
            v.mtime_ns = v.ctime_ns = b->mtime_ns;
            if (b->attrs.has & ATTR_MODE)
                v.mode = (v.mode & S_IFMT) | (b->attrs.mode & 07777);
            if (b->attrs.has & ATTR_UID)
                v.uid = b->attrs.uid;
            if (b->attrs.has & ATTR_GID)
                v.gid = b->attrs.gid;
        }
    }
    if (b != NULL && b->attrs.has & ATTR_MTIME)
        v.mtime_ns = b->attrs.mtime_ns;
    view_fill(m, &v, st);
    return 0;
}

/* ---- listing ---- */

#define HAS_STAT 4

struct listing {
    const struct mount *m;
    const struct view_source *source;
    const struct name_place *dir;
    struct bytes components; /* u32 length, bytes, u8 is_key | is_dir << 1 | HAS_STAT, then struct node_stat */
    struct bytes pieces;     /* names shown already */
    size_t count;
};

static int collect(void *ctx, const struct store_child *child)
{
    struct listing *l = ctx;

    bytes_u32_slice(&l->components, child->component);
    bytes_u8(&l->components, (uint8_t)(child->is_key | child->is_dir << 1 | (child->stat != NULL ? HAS_STAT : 0)));
    if (child->stat != NULL)
        bytes_raw(&l->components, child->stat, sizeof(*child->stat));
    l->count++;
    return bytes_status(&l->components) < 0 || l->count > DIRECTORY_MAX_NAMES;
}

static int found(void *ctx, const struct store_child *child)
{
    *(bool *)ctx = true;
    return 1;
}

/* stat NULL: it has to be asked for. */
static int show(struct listing *l, struct slice name, const struct node_stat *stat, view_name_fn emit, void *ctx)
{
    struct name_place place;
    struct view v = {.uid = l->m->opt.uid, .gid = l->m->opt.gid};
    int rc;

    if (stat != NULL) {
        from_row(l->m, stat, &v);
        return emit(ctx, name, &v);
    }
    name_place_init(&place);
    rc = name_place_copy(&place, l->dir);
    if (rc == 0)
        rc = name_step(&place, name);
    if (rc == 0)
        rc = view_at_source(l->m, l->source, &place, &v);
    name_place_fini(&place);
    if (rc == 0 && v.seen.type != 0)
        rc = emit(ctx, name, &v);
    return rc == -ENAMETOOLONG ? 0 : rc;
}

static bool shown_before(struct listing *l, struct slice piece)
{
    for (size_t at = 0; at + piece.len <= l->pieces.len; at += piece.len)
        if (memcmp(l->pieces.data + at, piece.data, piece.len) == 0)
            return true;
    bytes_append(&l->pieces, piece);
    return false;
}

static int show_component(struct listing *l, struct slice component, unsigned flags, const struct node_stat *stat,
                          view_name_fn emit, void *ctx)
{
    struct bytes name;
    bool piece = false;
    int rc = 0;

    if (component.len == 0 && (flags & 1) != 0 && l->dir->kind == NAME_NODE)
        rc = show(l, slice_from_str("%:slash"), NULL, emit, ctx);
    if (rc < 0 || (component.len == 0 && (flags & 2) == 0))
        return rc;
    bytes_init(&name);
    rc = name_of_child(l->dir, component, &name, &piece);
    if (rc == 0 && !(piece && shown_before(l, bytes_slice(&name))))
        rc = show(l, bytes_slice(&name), piece ? NULL : stat, emit, ctx);
    bytes_fini(&name);
    return rc == -ENOENT ? 0 : rc;
}

/* What a directory has beside its components. */
static int show_words(struct listing *l, view_name_fn emit, void *ctx)
{
    const struct name_place *dir = l->dir;
    bool any = false;
    int rc = 0;

    if (dir->kind == NAME_NODE && dir->key.len != 0 && dir->key.data[dir->key.len - 1] != '/')
        rc = show(l, slice_from_str("%:value"), NULL, emit, ctx);
    if (rc == 0 && dir->root && dir->key.len == 0) {
        if (dir->kind == NAME_RAW)
            rc = source_list(l->source, slice_make(NULL, 0), false, found, &any);
        else
            rc = source_list(l->source, slice_make(NULL, 0), true, found, &any);
        if (rc == 0 && any)
            rc = show(l, slice_from_str(dir->kind == NAME_RAW ? "%:" : "%:bare"), NULL, emit, ctx);
    }
    return rc;
}

static int list_place(struct listing *l, view_name_fn emit, void *ctx)
{
    const struct name_place *dir = l->dir;
    size_t len = dir->kind == NAME_PIECE ? dir->dir_len : dir->key.len;
    struct reader in;
    int rc;

    rc = list_level(l->source, dir->kind == NAME_PIECE ? dir->above : dir->kind, slice_make(dir->key.data, len), collect, l);
    if (rc == 0)
        rc = bytes_status(&l->components);
    if (rc == 0 && l->count > DIRECTORY_MAX_NAMES)
        rc = -E2BIG;
    in = reader_make(bytes_slice(&l->components));
    while (rc == 0 && !reader_at_end(&in)) {
        struct slice component = reader_u32_slice(&in);
        unsigned flags = reader_u8(&in);
        struct slice raw = reader_raw(&in, (flags & HAS_STAT) != 0 ? sizeof(struct node_stat) : 0);
        struct node_stat stat;

        if (raw.len == sizeof(stat))
            memcpy(&stat, raw.data, sizeof(stat));
        rc = show_component(l, component, flags, raw.len == sizeof(stat) ? &stat : NULL, emit, ctx);
    }
    if (rc == 0 && dir->kind != NAME_PIECE)
        rc = show_words(l, emit, ctx);
    return rc;
}

int view_list_source(const struct mount *m, const struct view_source *s, const struct name_place *place, view_name_fn emit,
                     void *ctx)
{
    struct listing l = {.m = m, .source = s, .dir = place};
    int rc;

    bytes_init(&l.components);
    bytes_init(&l.pieces);
    rc = list_place(&l, emit, ctx);
    bytes_fini(&l.pieces);
    bytes_fini(&l.components);
    return rc;
}

int view_list(const struct mount *m, struct store_read *r, const struct inode *dir, view_name_fn emit, void *ctx)
{
    const struct view_source now = {.r = r};
    struct name_place place;
    int rc;

    if (inode_is_dead(&m->inodes, dir))
        return 0;
    name_place_init(&place);
    rc = view_place(m, dir, &place);
    if (rc == 0)
        rc = view_list_source(m, &now, &place, emit, ctx);
    name_place_fini(&place);
    if (rc != 0)
        return rc;
    LIST_FOREACH(it, &dir->children) {
        const struct inode *child = LIST_ITEM(it, struct inode, sibling);
        struct view v;

        if (!child->fresh)
            continue;
        view_fresh(child, &v);
        rc = emit(ctx, child->name, &v);
        if (rc != 0)
            break;
    }
    return rc;
}

static int stop_at_once(void *ctx, struct slice name, const struct view *view)
{
    return 1;
}

int view_is_empty(const struct mount *m, const struct inode *dir)
{
    int rc = view_list(m, m->read, dir, stop_at_once, NULL);

    return rc < 0 ? rc : rc == 0;
}

struct inode *view_node(struct mount *m, struct inode *dir, struct slice name, const struct seen *seen)
{
    struct inode *i = seen->node;

    if (i != NULL) {
        inode_hold(i);
        if (!i->fresh) {
            i->ino = seen->ino;
            i->implicit = seen->implicit;
        }
        return i;
    }
    i = inode_child(&m->inodes, dir, name);
    if (i != NULL) { /* somebody else's by now */
        inode_hold(i);
        tail_detach(m, i);
        inode_release(&m->inodes, i);
    }
    i = inode_new(&m->inodes, dir, name, seen->type, seen->ino);
    if (i != NULL)
        i->implicit = seen->implicit;
    return i;
}
