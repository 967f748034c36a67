/* .quorumfs/leases/ID and .quorumfs/locks/INO: what ends by itself, and who holds what. They name keys and processes, so they are
 * the mounting user's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/json.h"
#include "fs/mount.h"

#define LEASE_KEYS_MAX 10000 /* shown of one lease */
#define NAMES_MAX 100000     /* in these directories; the rest is not listed, and is there */

/* Leases and locks come and go without a revision: the snapshot that requests see may be older than they are. */
static int look_anew(struct mount *m)
{
    return tail_advance(m);
}

/* ---- leases ---- */

struct lease_writer {
    struct bytes *out;
    size_t n;
};

static int put_key(void *ctx, struct slice key)
{
    struct lease_writer *w = ctx;

    if (w->n++ >= LEASE_KEYS_MAX)
        return 1;
    json_open(w->out, '{');
    json_bytes(w->out, "key", key);
    json_close(w->out, '}');
    return bytes_status(w->out);
}

static int lease_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    struct lease_writer w = {.out = out};
    struct lease_info lease;
    int rc = look_anew(m);

    if (rc == 0)
        rc = store_lease_get(m->read, i->number, &lease);
    if (rc < 0)
        return rc == -ENOENT ? -ESTALE : rc;
    json_open(out, '{');
    json_name(out, "id");
    json_hex(out, (uint64_t)lease.id);
    json_name(out, "ttl_s");
    json_number(out, lease.ttl_s);
    json_name(out, "of_this_mount");
    json_bool(out, lease.id == m->locks.lease);
    json_name(out, "keys");
    json_open(out, '[');
    rc = store_lease_keys(m->read, lease.id, put_key, &w);
    json_close(out, ']');
    json_close(out, '}');
    bytes_u8(out, '\n');
    return rc;
}

static const struct virtual_kind kind_lease = {.mode = S_IFREG | 0400, .content = lease_content, .asks = ASK_BARRIER};

static int leases_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                         int64_t *ret_number)
{
    struct lease_info lease;
    int rc = virtual_hex(name, ret_number);

    *ret_kind = &kind_lease;
    if (rc == 0)
        rc = look_anew(m);
    return rc < 0 ? rc : store_lease_get(m->read, *ret_number, &lease);
}

struct lister {
    const struct inode *dir;
    virtual_emit emit;
    void *ctx;
    uint64_t last;
    size_t n;
    int rc;
};

static int emit_name(struct lister *l, const char *name, const struct virtual_kind *kind)
{
    struct view v;

    if (l->n++ >= NAMES_MAX)
        return 1;
    virtual_view(l->dir, slice_from_str(name), kind, &v);
    l->rc = l->emit(l->ctx, slice_from_str(name), &v);
    return l->rc;
}

static int list_lease(void *ctx, const struct lease_info *lease)
{
    char name[32];

    snprintf(name, sizeof(name), "%" PRIx64, (uint64_t)lease->id);
    return emit_name(ctx, name, &kind_lease);
}

static int leases_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct lister l = {.dir = dir, .emit = emit, .ctx = ctx};
    int rc = look_anew(m);

    if (rc == 0)
        rc = store_leases(m->read, 0, list_lease, &l);

    return rc < 0 ? rc : l.rc;
}

/* ---- locks ---- */

struct lock_writer {
    const struct mount *m;
    struct bytes *out;
    uint64_t ino;
    bool found;
};

static void put_number(struct bytes *out, const char *name, uint64_t v)
{
    json_name(out, name);
    json_number(out, (int64_t)v);
}

static int put_lock(void *ctx, const struct lock_op *lock, uint64_t token)
{
    struct lock_writer *w = ctx;
    struct bytes *out = w->out;

    if (lock->ino != w->ino)
        return w->found; /* they come by inode */
    w->found = true;
    if (out == NULL)
        return 1;
    json_open(out, '{');
    json_name(out, "kind");
    json_text(out, slice_from_str(lock->kind == LOCK_FLOCK ? "flock" : "fcntl"));
    json_name(out, "type");
    json_text(out, slice_from_str(lock->type == LOCK_SHARED ? "shared" : "exclusive"));
    put_number(out, "start", lock->start);
    if (lock->end != UINT64_MAX)
        put_number(out, "end", lock->end);
    json_name(out, "waiting");
    json_bool(out, lock->wait);
    if (!lock->wait)
        put_number(out, "token", token);
    json_name(out, "of_this_mount");
    json_bool(out, lock->session == w->m->locks.session);
    put_number(out, "pid", lock->pid);
    json_name(out, "owner");
    json_hex(out, lock->owner);
    json_name(out, "session");
    json_hex(out, lock->session);
    json_name(out, "lease");
    json_hex(out, (uint64_t)lock->lease);
    json_close(out, '}');
    bytes_u8(out, '\n');
    return bytes_status(out);
}

static int lock_content(struct mount *m, const struct inode *i, struct slice node, struct bytes *out)
{
    struct lock_writer w = {.m = m, .out = out, .ino = (uint64_t)i->number};
    int rc = look_anew(m);

    if (rc == 0)
        rc = store_locks(m->read, put_lock, &w);
    return rc < 0 ? rc : 0; /* empty: it was unlocked */
}

static const struct virtual_kind kind_lock = {.mode = S_IFREG | 0400, .content = lock_content, .asks = ASK_BARRIER};

static int unsigned_number(struct slice text, uint64_t *ret_number)
{
    uint64_t n = 0;

    if (text.len == 0 || text.len > 20 || text.data[0] == '0')
        return -ENOENT;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';

        if (digit > 9 || n > (UINT64_MAX - digit) / 10)
            return -ENOENT;
        n = n * 10 + digit;
    }
    *ret_number = n;
    return 0;
}

static int locks_lookup(struct mount *m, const struct inode *dir, struct slice name, const struct virtual_kind **ret_kind,
                        int64_t *ret_number)
{
    struct lock_writer w = {.m = m};
    int rc = unsigned_number(name, &w.ino);

    if (rc == 0)
        rc = look_anew(m);
    if (rc == 0)
        rc = store_locks(m->read, put_lock, &w);
    *ret_kind = &kind_lock;
    *ret_number = (int64_t)w.ino;
    return rc < 0 ? rc : w.found ? 0 : -ENOENT;
}

static int list_lock(void *ctx, const struct lock_op *lock, uint64_t token)
{
    struct lister *l = ctx;
    char name[32];

    if (lock->ino == l->last)
        return 0;
    l->last = lock->ino;
    snprintf(name, sizeof(name), "%" PRIu64, lock->ino);
    return emit_name(l, name, &kind_lock);
}

static int locks_list(struct mount *m, const struct inode *dir, virtual_emit emit, void *ctx)
{
    struct lister l = {.dir = dir, .emit = emit, .ctx = ctx};
    int rc = look_anew(m);

    if (rc == 0)
        rc = store_locks(m->read, list_lock, &l);

    return rc < 0 ? rc : l.rc;
}

const struct virtual_kind *virtual_kind_leases(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0500, .lookup = leases_lookup, .list = leases_list};

    return &kind;
}

const struct virtual_kind *virtual_kind_locks(void)
{
    static const struct virtual_kind kind = {.mode = S_IFDIR | 0500, .lookup = locks_lookup, .list = locks_list};

    return &kind;
}
