/* store_model.h - the key space as naively as can be: all versions of all keys in arrays, every question answered by
 * looking at everything. What the property test compares store/ with. */
#ifndef TESTS_UNIT_STORE_MODEL_H
#define TESTS_UNIT_STORE_MODEL_H

#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tests/unit/store_model_locks.h"

#define MODEL_LEASES 6 /* their ids are 1 to that */

struct version {
    int64_t main, sub, create, version;
    int64_t lease;
    bool deleted, attr_only;
    uint8_t *value;
    size_t len;
    uint64_t ino;
};

struct mkey {
    struct slice key;
    struct version *versions;
    size_t n;
};

struct mdir {
    struct slice path;
    bool live;
    uint64_t ino;
    int64_t *changes; /* revisions */
    size_t n_changes;
};

struct mlease {
    bool live;
    int64_t ttl_s, remaining_s;
};

struct mxattr {
    uint64_t ino;
    struct slice name, value;
    bool there;
};

struct model {
    struct mkey *keys; /* sorted */
    size_t n_keys;
    struct mdir *dirs; /* sorted */
    size_t n_dirs;
    int64_t revision, compacted;
    int64_t sub; /* rows of the command under way */
    struct mlease leases[MODEL_LEASES + 1]; /* by id */
    struct mxattr *xattrs;
    size_t n_xattrs;
    struct mfile_locks locks[MODEL_LOCK_INODES];
    bool nospace, corrupt;
    uint64_t quota;
};

static inline struct slice model_copy(struct slice s)
{
    uint8_t *p = malloc(s.len + 1);

    if (s.len > 0)
        memcpy(p, s.data, s.len);
    return slice_make(p, s.len);
}

static inline struct mkey *model_key(struct model *m, struct slice key, bool make)
{
    size_t i = 0;

    while (i < m->n_keys && slice_cmp(m->keys[i].key, key) < 0)
        i++;
    if (i < m->n_keys && slice_equal(m->keys[i].key, key))
        return &m->keys[i];
    if (!make)
        return NULL;
    m->keys = realloc(m->keys, (m->n_keys + 1) * sizeof(*m->keys));
    memmove(&m->keys[i + 1], &m->keys[i], (m->n_keys - i) * sizeof(*m->keys));
    m->n_keys++;
    m->keys[i] = (struct mkey){.key = model_copy(key)};
    return &m->keys[i];
}

/* The version at a revision; NULL if the key was not there. */
static inline struct version *model_at(struct mkey *k, int64_t revision)
{
    struct version *found = NULL;

    for (size_t i = 0; k != NULL && i < k->n; i++)
        if (k->versions[i].main <= revision)
            found = &k->versions[i];
    return found != NULL && !found->deleted ? found : NULL;
}

static inline struct version *model_live(struct model *m, struct slice key)
{
    return model_at(model_key(m, key, false), INT64_MAX);
}

static inline struct mdir *model_dir(struct model *m, struct slice path, bool make)
{
    size_t i = 0;

    while (i < m->n_dirs && slice_cmp(m->dirs[i].path, path) < 0)
        i++;
    if (i < m->n_dirs && slice_equal(m->dirs[i].path, path))
        return make || m->dirs[i].live ? &m->dirs[i] : NULL;
    if (!make)
        return NULL;
    m->dirs = realloc(m->dirs, (m->n_dirs + 1) * sizeof(*m->dirs));
    memmove(&m->dirs[i + 1], &m->dirs[i], (m->n_dirs - i) * sizeof(*m->dirs));
    m->n_dirs++;
    m->dirs[i] = (struct mdir){.path = model_copy(path)};
    return &m->dirs[i];
}

static inline bool model_is_below(struct slice path, struct slice dir)
{
    return path.len > dir.len && slice_has_prefix(path, dir) && path.data[dir.len] == '/';
}

static inline bool model_has_below(struct model *m, struct slice dir)
{
    for (size_t i = 0; i < m->n_keys; i++)
        if (model_at(&m->keys[i], INT64_MAX) != NULL && model_is_below(m->keys[i].key, dir))
            return true;
    for (size_t i = 0; i < m->n_dirs; i++)
        if (m->dirs[i].live && model_is_below(m->dirs[i].path, dir))
            return true;
    return false;
}

static inline bool model_is_root(struct slice path)
{
    return path.len == 0 || (path.len == 1 && path.data[0] == '/');
}

static inline bool model_is_dir(struct model *m, struct slice path)
{
    return model_is_root(path) || model_dir(m, path, false) != NULL || model_has_below(m, path);
}

/* False: the parent always exists. */
static inline bool model_parent(struct slice path, struct slice *parent)
{
    for (size_t i = path.len; i-- > 0;) {
        if (path.data[i] == '/') {
            *parent = slice_make(path.data, i);
            return !model_is_root(*parent);
        }
    }
    return false;
}

static inline uint64_t model_ino(int64_t main, int64_t sub)
{
    return 1ull << 63 | (uint64_t)main << 16 | (uint64_t)sub;
}

/* ---- changes; each is one row of the revision under way ---- */

static inline struct version *model_add(struct model *m, struct slice key)
{
    struct mkey *k = model_key(m, key, true);

    k->versions = realloc(k->versions, (k->n + 1) * sizeof(*k->versions));
    k->versions[k->n] = (struct version){.main = m->revision + 1, .sub = m->sub++};
    return &k->versions[k->n++];
}

#define MODEL_KEEP_LEASE INT64_MIN

/* ino 0: that of the key, or a new one. */
static inline void model_put(struct model *m, struct slice key, struct slice value, uint64_t ino, bool attr_only,
                             int64_t lease)
{
    struct version *old = model_live(m, key);
    struct version before = old != NULL ? *old : (struct version){0};
    struct slice copy = model_copy(value);
    struct version *v = model_add(m, key);

    v->create = before.version > 0 ? before.create : v->main;
    v->version = before.version + 1;
    v->value = (uint8_t *)copy.data;
    v->len = copy.len;
    v->attr_only = attr_only;
    v->lease = lease != MODEL_KEEP_LEASE ? lease : before.version > 0 ? before.lease : 0;
    v->ino = ino != 0 ? ino : before.version > 0 ? before.ino : model_ino(v->main, v->sub);
}

static inline void model_delete(struct model *m, struct slice key)
{
    model_add(m, key)->deleted = true;
}

static inline void model_dir_note(struct model *m, struct mdir *d)
{
    d->changes = realloc(d->changes, (d->n_changes + 1) * sizeof(*d->changes));
    d->changes[d->n_changes++] = m->revision + 1;
    m->sub++;
}

static inline void model_dir_put(struct model *m, struct slice path, uint64_t ino)
{
    struct mdir *d = model_dir(m, path, true);

    d->ino = ino != 0 ? ino : d->live ? d->ino : model_ino(m->revision + 1, m->sub);
    d->live = true;
    model_dir_note(m, d);
}

static inline void model_dir_delete(struct model *m, struct slice path)
{
    struct mdir *d = model_dir(m, path, false);

    d->live = false;
    model_dir_note(m, d);
}

/* ---- leases, attributes ---- */

static inline struct mlease *model_lease(struct model *m, int64_t id)
{
    return id >= 1 && id <= MODEL_LEASES && m->leases[id].live ? &m->leases[id] : NULL;
}

/* Each owner of locks has the lease of its number. */
static inline void model_locks_end_lease(struct model *m, int64_t id)
{
    for (size_t i = 0; i < MODEL_LOCK_INODES && id < MODEL_LOCK_OWNERS; i++)
        m->sub += model_lock_drop_owner(&m->locks[i], (uint64_t)id);
}

static inline bool model_ino_lives(struct model *m, uint64_t ino)
{
    for (size_t i = 0; i < m->n_keys; i++) {
        struct version *v = model_at(&m->keys[i], INT64_MAX);

        if (v != NULL && v->ino == ino)
            return true;
    }
    for (size_t i = 0; i < m->n_dirs; i++)
        if (m->dirs[i].live && m->dirs[i].ino == ino)
            return true;
    return false;
}

/* Attributes of a node that has gone are not looked for: numbers do not come back. */
static inline struct mxattr *model_xattr(struct model *m, uint64_t ino, struct slice name, bool make)
{
    for (size_t i = 0; i < m->n_xattrs; i++)
        if (m->xattrs[i].ino == ino && slice_equal(m->xattrs[i].name, name))
            return m->xattrs[i].there || make ? &m->xattrs[i] : NULL;
    if (!make)
        return NULL;
    m->xattrs = realloc(m->xattrs, (m->n_xattrs + 1) * sizeof(*m->xattrs));
    m->xattrs[m->n_xattrs] = (struct mxattr){.ino = ino, .name = model_copy(name)};
    return &m->xattrs[m->n_xattrs++];
}

static inline void model_end(struct model *m)
{
    m->revision += m->sub > 0;
    m->sub = 0;
}

static inline bool model_in(struct slice key, struct slice from, struct slice end)
{
    if (end.len == 0)
        return slice_equal(key, from);
    return slice_cmp(key, from) >= 0 && ((end.len == 1 && end.data[0] == 0) || slice_cmp(key, end) < 0);
}

static inline int64_t model_delete_range(struct model *m, struct slice from, struct slice end)
{
    int64_t deleted = 0;

    for (size_t i = 0; i < m->n_keys; i++) {
        if (model_in(m->keys[i].key, from, end) && model_at(&m->keys[i], INT64_MAX) != NULL) {
            model_delete(m, m->keys[i].key);
            deleted++;
        }
    }
    for (size_t i = m->n_dirs; end.len > 0 && i-- > 0;)
        if (m->dirs[i].live && model_in(m->dirs[i].path, from, end))
            model_dir_delete(m, m->dirs[i].path);
    return deleted;
}

static inline void model_free(struct model *m)
{
    for (size_t i = 0; i < m->n_keys; i++) {
        for (size_t j = 0; j < m->keys[i].n; j++)
            free(m->keys[i].versions[j].value);
        free(m->keys[i].versions);
        free((void *)m->keys[i].key.data);
    }
    for (size_t i = 0; i < m->n_dirs; i++) {
        free((void *)m->dirs[i].path.data);
        free(m->dirs[i].changes);
    }
    for (size_t i = 0; i < m->n_xattrs; i++) {
        free((void *)m->xattrs[i].name.data);
        free((void *)m->xattrs[i].value.data);
    }
    free(m->xattrs);
    free(m->keys);
    free(m->dirs);
}

#endif
