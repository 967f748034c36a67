#include "tests/crash/disk_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define NAME_BYTES 64
#define NAMES_MAX 256

struct version {
    struct version *older;
    uint8_t bytes[SECTOR];
};

struct inode {
    int refs; /* of names now, durable names, pending operations, open files */
    uint8_t *now, *durable;
    size_t len, durable_len, cap;
    struct version **pending; /* newest first, by sector */
    size_t *lengths;          /* since the last sync */
    size_t lengths_count, lengths_cap;
};

struct names {
    size_t count;
    struct {
        char name[NAME_BYTES];
        struct inode *inode; /* NULL: a directory */
    } at[NAMES_MAX];
};

struct operation {
    char from[NAME_BYTES], to[NAME_BYTES]; /* from "": to begins; to "": from ends */
    struct inode *inode;
};

struct disk_file {
    struct inode *inode;
    bool read_only;
};

struct disk_memory {
    struct disk disk;
    struct disk_memory_faults faults;
    uint64_t calls;
    struct names now, durable;
    struct operation *operations;
    size_t operations_count, operations_cap;
    void (*watch)(void *arg);
    void *watch_arg;
    bool watching;
};

static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

uint64_t disk_memory_next_random(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* ---- inodes ---- */

static struct inode *inode_new(void)
{
    return must(calloc(1, sizeof(struct inode)));
}

static void forget_pending(struct inode *i)
{
    for (size_t s = 0; s < i->cap / SECTOR; s++) {
        while (i->pending[s] != NULL) {
            struct version *v = i->pending[s];

            i->pending[s] = v->older;
            free(v);
        }
    }
    i->lengths_count = 0;
}

static void inode_unref(struct inode *i)
{
    if (i == NULL || --i->refs > 0)
        return;
    forget_pending(i);
    free(i->now);
    free(i->durable);
    free(i->pending);
    free(i->lengths);
    free(i);
}

static struct inode *inode_ref(struct inode *i)
{
    if (i != NULL)
        i->refs++;
    return i;
}

static void inode_reserve(struct inode *i, size_t len)
{
    size_t cap = i->cap != 0 ? i->cap : 4096;

    while (cap < len)
        cap *= 2;
    if (cap == i->cap)
        return;
    i->now = must(realloc(i->now, cap));
    i->durable = must(realloc(i->durable, cap));
    i->pending = must(realloc(i->pending, cap / SECTOR * sizeof(*i->pending)));
    memset(i->now + i->cap, 0, cap - i->cap);
    memset(i->durable + i->cap, 0, cap - i->cap);
    memset(i->pending + i->cap / SECTOR, 0, (cap - i->cap) / SECTOR * sizeof(*i->pending));
    i->cap = cap;
}

static void note_length(struct inode *i, size_t len)
{
    if (i->len == len)
        return;
    if (i->lengths_count == i->lengths_cap) {
        i->lengths_cap = i->lengths_cap * 2 + 8;
        i->lengths = must(realloc(i->lengths, i->lengths_cap * sizeof(*i->lengths)));
    }
    i->lengths[i->lengths_count++] = len;
    i->len = len;
}

static void note_sectors(struct inode *i, size_t offset, size_t len)
{
    if (len == 0)
        return;
    for (size_t s = offset / SECTOR; s <= (offset + len - 1) / SECTOR; s++) {
        const uint8_t *old = i->pending[s] != NULL ? i->pending[s]->bytes : i->durable + s * SECTOR;
        struct version *v;

        if (memcmp(old, i->now + s * SECTOR, SECTOR) == 0)
            continue;
        v = must(malloc(sizeof(*v)));
        memcpy(v->bytes, i->now + s * SECTOR, SECTOR);
        v->older = i->pending[s];
        i->pending[s] = v;
    }
}

static void inode_write(struct inode *i, size_t offset, const uint8_t *data, size_t len)
{
    inode_reserve(i, offset + len);
    if (data != NULL)
        memcpy(i->now + offset, data, len);
    else
        memset(i->now + offset, 0, len);
    note_sectors(i, offset, len);
    if (offset + len > i->len)
        note_length(i, offset + len);
}

static void inode_truncate(struct inode *i, size_t len)
{
    inode_reserve(i, len);
    if (len < i->len) {
        memset(i->now + len, 0, i->len - len);
        note_sectors(i, len, i->len - len);
    }
    note_length(i, len);
}

static void inode_sync(struct inode *i)
{
    for (size_t s = 0; s < i->cap / SECTOR; s++)
        if (i->pending[s] != NULL)
            memcpy(i->durable + s * SECTOR, i->pending[s]->bytes, SECTOR);
    i->durable_len = i->len;
    forget_pending(i);
}

/* ---- names ---- */

static size_t find_name(const struct names *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->at[i].name, name) == 0)
            return i;
    return NAMES_MAX;
}

static void set_name(struct names *n, const char *name, struct inode *inode)
{
    size_t i = find_name(n, name);

    inode_ref(inode);
    if (i < NAMES_MAX) {
        inode_unref(n->at[i].inode);
    } else {
        assert(n->count < NAMES_MAX && strlen(name) < NAME_BYTES);
        i = n->count++;
        snprintf(n->at[i].name, NAME_BYTES, "%s", name);
    }
    n->at[i].inode = inode;
}

static void end_name(struct names *n, const char *name)
{
    size_t i = find_name(n, name);

    if (i == NAMES_MAX)
        return;
    inode_unref(n->at[i].inode);
    n->at[i] = n->at[--n->count];
}

static void do_operation(struct names *n, const struct operation *o)
{
    inode_ref(o->inode);
    if (o->from[0] != '\0')
        end_name(n, o->from);
    if (o->to[0] != '\0')
        set_name(n, o->to, o->inode);
    inode_unref(o->inode);
}

static void change_names(struct disk_memory *m, const char *from, const char *to, struct inode *inode)
{
    struct operation *o;

    if (m->operations_count == m->operations_cap) {
        m->operations_cap = m->operations_cap * 2 + 8;
        m->operations = must(realloc(m->operations, m->operations_cap * sizeof(*o)));
    }
    o = &m->operations[m->operations_count++];
    memset(o, 0, sizeof(*o));
    snprintf(o->from, NAME_BYTES, "%s", from);
    snprintf(o->to, NAME_BYTES, "%s", to);
    o->inode = inode_ref(inode);
    do_operation(&m->now, o);
}

static bool is_in(const char *name, const char *dir)
{
    const char *slash = strrchr(name, '/');

    if (slash == NULL)
        return strcmp(dir, ".") == 0;
    return strlen(dir) == (size_t)(slash - name) && strncmp(name, dir, strlen(dir)) == 0;
}

/* ---- the table of functions ---- */

static int count_call(struct disk_memory *m)
{
    uint64_t call = ++m->calls;

    if (m->faults.fail_at != 0 &&
        (call == m->faults.fail_at || (m->faults.fail_ever_after && call > m->faults.fail_at)))
        return m->faults.fail_with;
    return 0;
}

static void changed(struct disk_memory *m)
{
    if (m->watch == NULL || m->watching)
        return;
    m->watching = true;
    m->watch(m->watch_arg);
    m->watching = false;
}

static int mem_open(void *ctx, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct disk_memory *m = ctx;
    size_t i = find_name(&m->now, path);
    struct disk_file *f;
    int rc = count_call(m);

    if (rc < 0)
        return rc;
    if (i == NAMES_MAX && !(flags & DISK_CREATE))
        return -ENOENT;
    if (i < NAMES_MAX && (flags & DISK_EXCLUSIVE))
        return -EEXIST;
    if (i < NAMES_MAX && m->now.at[i].inode == NULL)
        return -EISDIR;
    if (i == NAMES_MAX) {
        change_names(m, "", path, inode_new());
        i = find_name(&m->now, path);
        changed(m);
    }
    f = must(malloc(sizeof(*f)));
    f->inode = inode_ref(m->now.at[i].inode);
    f->read_only = flags & DISK_READ_ONLY;
    *ret_file = f;
    return 0;
}

static void mem_close(void *ctx, struct disk_file *f)
{
    if (f == NULL)
        return;
    inode_unref(f->inode);
    free(f);
}

static int mem_size(void *ctx, struct disk_file *f, uint64_t *ret_bytes)
{
    int rc = count_call(ctx);

    if (rc < 0)
        return rc;
    *ret_bytes = f->inode->len;
    return 0;
}

static int mem_read(void *ctx, struct disk_file *f, uint64_t offset, void *buf, size_t len, size_t *ret_len)
{
    struct inode *i = f->inode;
    int rc = count_call(ctx);

    if (rc < 0)
        return rc;
    *ret_len = offset >= i->len ? 0 : i->len - offset < len ? i->len - (size_t)offset : len;
    if (*ret_len > 0)
        memcpy(buf, i->now + offset, *ret_len);
    return 0;
}

static int write_or_zero(struct disk_memory *m, struct disk_file *f, uint64_t offset, const void *buf, size_t len)
{
    int rc = count_call(m);
    uint64_t sum = 0;

    assert(!f->read_only);
    for (size_t i = 0; i < m->now.count; i++)
        if (m->now.at[i].inode != NULL && m->now.at[i].inode != f->inode)
            sum += m->now.at[i].inode->len;
    if (rc == 0 && m->faults.full_bytes != 0 && offset + len > f->inode->len &&
        sum + offset + len > m->faults.full_bytes)
        rc = -ENOSPC;
    if (rc < 0)
        len /= 2; /* a part arrived */
    if (len > 0)
        inode_write(f->inode, (size_t)offset, buf, len);
    changed(m);
    return rc;
}

static int mem_write(void *ctx, struct disk_file *f, uint64_t offset, const void *buf, size_t len)
{
    return write_or_zero(ctx, f, offset, buf, len);
}

static int mem_zero(void *ctx, struct disk_file *f, uint64_t offset, uint64_t len)
{
    return write_or_zero(ctx, f, offset, NULL, (size_t)len);
}

static int mem_truncate(void *ctx, struct disk_file *f, uint64_t len)
{
    int rc = count_call(ctx);

    if (rc < 0)
        return rc;
    inode_truncate(f->inode, (size_t)len);
    changed(ctx);
    return 0;
}

static int mem_sync(void *ctx, struct disk_file *f)
{
    struct disk_memory *m = ctx;
    int rc = count_call(m);

    if (rc < 0) {
        forget_pending(f->inode); /* clean, and not durable */
        return rc;
    }
    if (!m->faults.lying_sync)
        inode_sync(f->inode);
    changed(m);
    return 0;
}

static int mem_rename(void *ctx, const char *from, const char *to)
{
    struct disk_memory *m = ctx;
    size_t i = find_name(&m->now, from);
    int rc = count_call(m);

    if (rc < 0)
        return rc;
    if (i == NAMES_MAX)
        return -ENOENT;
    change_names(m, from, to, m->now.at[i].inode);
    changed(m);
    return 0;
}

static int mem_remove(void *ctx, const char *path)
{
    struct disk_memory *m = ctx;
    int rc = count_call(m);

    if (rc < 0)
        return rc;
    if (find_name(&m->now, path) == NAMES_MAX)
        return -ENOENT;
    change_names(m, path, "", NULL);
    changed(m);
    return 0;
}

static int mem_mkdir(void *ctx, const char *path)
{
    struct disk_memory *m = ctx;
    int rc = count_call(m);

    if (rc < 0)
        return rc;
    if (find_name(&m->now, path) < NAMES_MAX)
        return -EEXIST;
    change_names(m, "", path, NULL);
    changed(m);
    return 0;
}

static int mem_sync_dir(void *ctx, const char *path)
{
    struct disk_memory *m = ctx;
    int rc = count_call(m);
    size_t kept = 0;

    if (rc < 0)
        return rc;
    if (m->faults.lying_sync_dir)
        return 0;
    for (size_t i = 0; i < m->operations_count; i++) {
        struct operation *o = &m->operations[i];

        if (!is_in(o->to[0] != '\0' ? o->to : o->from, path)) {
            m->operations[kept++] = *o;
            continue;
        }
        do_operation(&m->durable, o);
        inode_unref(o->inode);
    }
    m->operations_count = kept;
    changed(m);
    return 0;
}

static int mem_list(void *ctx, const char *path, int (*fn)(void *arg, const char *name), void *arg)
{
    struct disk_memory *m = ctx;
    int rc = count_call(m);

    if (rc < 0)
        return rc;
    if (strcmp(path, ".") != 0 && find_name(&m->now, path) == NAMES_MAX)
        return -ENOENT;
    for (size_t i = 0; i < m->now.count; i++) {
        const char *slash = strrchr(m->now.at[i].name, '/');

        if (is_in(m->now.at[i].name, path) && fn(arg, slash != NULL ? slash + 1 : m->now.at[i].name) != 0)
            break;
    }
    return 0;
}

struct disk_memory *disk_memory_new(void)
{
    struct disk_memory *m = must(calloc(1, sizeof(*m)));

    m->disk = (struct disk){
        .ctx = m,
        .open = mem_open,
        .close = mem_close,
        .size = mem_size,
        .read = mem_read,
        .write = mem_write,
        .zero = mem_zero,
        .truncate = mem_truncate,
        .sync = mem_sync,
        .rename = mem_rename,
        .remove = mem_remove,
        .mkdir = mem_mkdir,
        .sync_dir = mem_sync_dir,
        .list = mem_list,
    };
    return m;
}

void disk_memory_free(struct disk_memory *m)
{
    if (m == NULL)
        return;
    while (m->now.count > 0)
        end_name(&m->now, m->now.at[0].name);
    while (m->durable.count > 0)
        end_name(&m->durable, m->durable.at[0].name);
    for (size_t i = 0; i < m->operations_count; i++)
        inode_unref(m->operations[i].inode);
    free(m->operations);
    free(m);
}

struct disk *disk_memory_disk(struct disk_memory *m)
{
    return &m->disk;
}

struct disk_memory_faults *disk_memory_faults(struct disk_memory *m)
{
    return &m->faults;
}

uint64_t disk_memory_calls(const struct disk_memory *m)
{
    return m->calls;
}

void disk_memory_watch(struct disk_memory *m, void (*fn)(void *arg), void *arg)
{
    m->watch = fn;
    m->watch_arg = arg;
}

/* ---- power cuts ---- */

/* Which of n pending things (1..n, newest n) is there after the cut; 0: the durable one. */
static size_t choose(enum disk_memory_cut how, size_t n, uint64_t *random)
{
    uint64_t r = disk_memory_next_random(random);

    switch (how) {
    case CUT_NOTHING_PENDING:
        return 0;
    case CUT_ALL_PENDING:
        return n;
    case CUT_MOST:
        return r % 8 != 0 ? n : (r >> 8) % (n + 1);
    case CUT_FEW:
        return r % 8 != 0 ? 0 : (r >> 8) % (n + 1);
    case CUT_RANDOM:
        break;
    }
    return (r >> 8) % (n + 1);
}

static struct inode *cut_inode(const struct inode *i, enum disk_memory_cut how, uint64_t *random)
{
    struct inode *c = inode_new();
    size_t pick = choose(how, i->lengths_count, random);

    c->len = c->durable_len = pick == 0 ? i->durable_len : i->lengths[pick - 1];
    if (i->cap == 0)
        return c;
    inode_reserve(c, i->cap);
    memcpy(c->now, i->durable, i->cap);
    for (size_t s = 0; s < i->cap / SECTOR; s++) {
        size_t n = 0;

        for (const struct version *v = i->pending[s]; v != NULL; v = v->older)
            n++;
        pick = n > 0 ? choose(how, n, random) : 0;
        if (pick == 0)
            continue;
        for (const struct version *v = i->pending[s]; v != NULL; v = v->older, n--)
            if (n == pick)
                memcpy(c->now + s * SECTOR, v->bytes, SECTOR);
    }
    memset(c->now + c->len, 0, i->cap - c->len);
    memcpy(c->durable, c->now, i->cap);
    return c;
}

static bool has_parent(const struct names *n, const char *name)
{
    const char *slash = strrchr(name, '/');
    char parent[NAME_BYTES];

    if (slash == NULL)
        return true;
    snprintf(parent, sizeof(parent), "%.*s", (int)(slash - name), name);
    return find_name(n, parent) < NAMES_MAX;
}

/* What is in a directory whose own name was lost is lost. */
static void drop_orphans(struct names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        if (has_parent(n, n->at[i].name))
            continue;
        end_name(n, n->at[i].name);
        i = SIZE_MAX; /* from the start: it may have been a directory */
    }
}

struct disk_memory *disk_memory_cut(const struct disk_memory *m, enum disk_memory_cut how, uint64_t *random)
{
    struct disk_memory *c = disk_memory_new();
    struct names left = {0};

    for (size_t i = 0; i < m->durable.count; i++)
        set_name(&left, m->durable.at[i].name, m->durable.at[i].inode);
    for (size_t i = 0; i < m->operations_count; i++)
        if (choose(how, 1, random) == 1)
            do_operation(&left, &m->operations[i]);
    drop_orphans(&left);
    for (size_t i = 0; i < left.count; i++) {
        struct inode *inode = left.at[i].inode != NULL ? cut_inode(left.at[i].inode, how, random) : NULL;

        set_name(&c->now, left.at[i].name, inode);
        set_name(&c->durable, left.at[i].name, inode);
    }
    while (left.count > 0)
        end_name(&left, left.at[0].name);
    return c;
}

static uint64_t mix(uint64_t h, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15;
        h ^= h >> 29;
    }
    for (; len > 0; len--)
        h = (h ^ *p++) * 0x9e3779b97f4a7c15;
    return h ^ h >> 32;
}

uint64_t disk_memory_hash(const struct disk_memory *m)
{
    uint64_t sum = 0; /* of the files, so that the order of names does not count */

    for (size_t i = 0; i < m->now.count; i++) {
        const struct inode *n = m->now.at[i].inode;
        uint64_t h = mix(1, (const uint8_t *)m->now.at[i].name, strlen(m->now.at[i].name));

        if (n != NULL && n->len > 0)
            h = mix(h ^ n->len, n->now, n->len);
        sum += h;
    }
    return sum;
}

/* ---- direct access ---- */

uint8_t *disk_memory_content(struct disk_memory *m, const char *path, size_t *ret_len)
{
    size_t i = find_name(&m->now, path);

    if (i == NAMES_MAX || m->now.at[i].inode == NULL)
        return NULL;
    inode_reserve(m->now.at[i].inode, 1); /* not NULL, which is no file */
    *ret_len = m->now.at[i].inode->len;
    return m->now.at[i].inode->now;
}

void disk_memory_put(struct disk_memory *m, const char *path, const void *data, size_t len)
{
    struct inode *i = inode_new();

    inode_write(i, 0, data, len);
    inode_sync(i);
    set_name(&m->now, path, i);
    set_name(&m->durable, path, i);
}

void disk_memory_drop(struct disk_memory *m, const char *path)
{
    end_name(&m->now, path);
    end_name(&m->durable, path);
}
