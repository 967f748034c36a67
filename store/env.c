#include "store/env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define FIRST_INODE 2 /* 1 is the root's */

int err_from_mdb(int mdb_rc)
{
    switch (mdb_rc) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
        return -ENOSPC;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_KEYEXIST: /* only of an append out of order: the table is not what its state says */
        return -EUCLEAN;
    case MDB_VERSION_MISMATCH:
        return -EPROTONOSUPPORT;
    case MDB_READERS_FULL:
        return -EUSERS;
    case MDB_MAP_RESIZED:
        return -ESTALE;
    case MDB_BAD_VALSIZE:
    case MDB_BAD_TXN:
    case MDB_BAD_DBI:
        return -EINVAL;
    default:
        return mdb_rc > 0 ? -mdb_rc : -EIO; /* LMDB hands on positive errno */
    }
}

/* ---- CURRENT: which environment is the one ---- */

static int join_path(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, name);

    return n > 0 && n < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static int current_read(const char *dir, uint64_t *ret_epoch)
{
    char path[PATH_BYTES], text[64];
    char *end;
    unsigned long long epoch;
    ssize_t n;
    int fd, rc = join_path(path, dir, "CURRENT");

    if (rc < 0)
        return rc;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof(text) - 1);
    rc = n < 0 ? -errno : 0;
    close(fd);
    if (rc < 0)
        return rc;
    text[n] = '\0';
    if (strncmp(text, "env.", 4) != 0 || text[4] < '1' || text[4] > '9')
        return -EUCLEAN;
    errno = 0;
    epoch = strtoull(text + 4, &end, 10);
    if (errno != 0 || strcmp(end, "\n") != 0)
        return -EUCLEAN;
    *ret_epoch = epoch;
    return 0;
}

static int sync_directory(const char *dir)
{
    int rc = 0, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

static int current_write(const char *dir, uint64_t epoch)
{
    char temporary[PATH_BYTES], path[PATH_BYTES], text[64];
    int fd, rc = join_path(temporary, dir, "CURRENT.new"), n;

    if (rc == 0)
        rc = join_path(path, dir, "CURRENT");
    if (rc < 0)
        return rc;
    n = snprintf(text, sizeof(text), "env.%" PRIu64 "\n", epoch);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);
    if (fd < 0)
        return -errno;
    if (write(fd, text, (size_t)n) != n || fsync(fd) < 0)
        rc = errno != 0 ? -errno : -EIO;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    return rc == 0 ? sync_directory(dir) : rc;
}

/* ---- opening ---- */

static int open_env(struct store *s, const char *dir, const struct store_options *options)
{
    char path[PATH_BYTES], name[64];
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    int rc;

    snprintf(name, sizeof(name), "env.%" PRIu64, s->epoch);
    rc = join_path(path, dir, name);
    if (rc == 0)
        rc = err_from_mdb(mdb_env_create(&s->env));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_set_maxdbs(s->env, 32));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_set_maxreaders(s->env, STORE_MAX_READERS));
    /* A reader takes the writer's size from the file unless told otherwise. */
    if (rc == 0 && ((s->flags & STORE_WRITER) != 0 || options->map_bytes != 0))
        rc = err_from_mdb(mdb_env_set_mapsize(s->env, options->map_bytes != 0 ? options->map_bytes
                                                                              : STORE_MAP_BYTES));
    if (rc < 0)
        return rc;
    flags |= (s->flags & STORE_WRITER) != 0 ? 0 : MDB_RDONLY;
    /* Without the sync of LMDB's meta page a crash of the machine may undo the last batch, whole: the log has it. */
    flags |= (s->flags & STORE_NOSYNC) != 0 ? MDB_NOSYNC : MDB_NOMETASYNC;
    return err_from_mdb(mdb_env_open(s->env, path, flags, 0660));
}

static int open_tables(struct store *s, MDB_txn *txn, unsigned flags)
{
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } tables[] = {
        {"keys", &s->keys}, {"gone", &s->gone},     {"dirs", &s->dirs},
        {"log", &s->log},   {"layers", &s->layers}, {"sessions", &s->sessions},
    };
    int rc = err_from_mdb(mdb_dbi_open(txn, NULL, 0, &s->main));

    for (size_t i = 0; rc == 0 && i < sizeof(tables) / sizeof(tables[0]); i++)
        rc = err_from_mdb(mdb_dbi_open(txn, tables[i].name, flags, tables[i].dbi));
    return rc;
}

/* The row "format" never changes: format version, environment id, cluster id, epoch. */
static int format_create(struct store *s, MDB_txn *txn, uint64_t cluster_id)
{
    uint8_t body[32] = {0};

    if (getrandom(&s->env_id, sizeof(s->env_id), 0) != sizeof(s->env_id))
        return -EIO;
    s->cluster_id = cluster_id;
    put_le64(body, STORE_FORMAT);
    put_le64(body + 8, s->env_id);
    put_le64(body + 16, s->cluster_id);
    put_le64(body + 24, s->epoch);
    return meta_row_put(txn, s->main, "format", slice_make(body, sizeof(body)));
}

static int format_check(struct store *s, MDB_txn *txn, uint64_t cluster_id)
{
    struct slice body;
    struct reader r;
    uint64_t format, epoch;
    int rc = meta_row_get(txn, s->main, "format", &body);

    if (rc < 0)
        return rc == -ENOENT ? -EUCLEAN : rc;
    r = reader_make(body);
    format = reader_u64(&r);
    if (reader_status(&r) == 0 && format > STORE_FORMAT)
        return -EPROTONOSUPPORT;
    s->env_id = reader_u64(&r);
    s->cluster_id = reader_u64(&r);
    epoch = reader_u64(&r);
    if (reader_status(&r) < 0 || format == 0 || epoch != s->epoch)
        return -EUCLEAN;
    return cluster_id != 0 && s->cluster_id != cluster_id ? -EXDEV : 0;
}

static int tables_create(struct store *s, uint64_t cluster_id)
{
    const struct state fresh = {.revision = 1, .next_inode = FIRST_INODE, .next_layer = 1};
    MDB_txn *txn;
    int rc = err_from_mdb(mdb_txn_begin(s->env, NULL, 0, &txn));

    if (rc < 0)
        return rc;
    rc = open_tables(s, txn, MDB_CREATE);
    if (rc == 0)
        rc = format_create(s, txn, cluster_id);
    if (rc == 0)
        rc = state_save(txn, s->main, &fresh);
    if (rc < 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = err_from_mdb(mdb_txn_commit(txn));
    return rc == 0 ? err_from_mdb(mdb_env_sync(s->env, 1)) : rc;
}

static int tables_open(struct store *s, uint64_t cluster_id)
{
    struct state state;
    MDB_txn *txn;
    int rc = err_from_mdb(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));

    if (rc < 0)
        return rc;
    rc = open_tables(s, txn, 0);
    if (rc == -ENOENT)
        rc = -EUCLEAN;
    if (rc == 0)
        rc = format_check(s, txn, cluster_id);
    if (rc == 0)
        rc = state_load(txn, s->main, &state);
    if (rc < 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return err_from_mdb(mdb_txn_commit(txn)); /* keeps the table handles */
}

/* What a creation left that CURRENT never came to name: nobody has seen it. */
static int remove_leftover(const char *dir)
{
    static const char *const names[] = {"env.1/data.mdb", "env.1/lock.mdb", "CURRENT.new"};
    char path[PATH_BYTES];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int rc = join_path(path, dir, names[i]);

        if (rc < 0)
            return rc;
        if (unlink(path) < 0 && errno != ENOENT)
            return -errno;
    }
    return 0;
}

static int create_all(struct store *s, const char *dir, const struct store_options *options)
{
    char path[PATH_BYTES];
    int rc = join_path(path, dir, "env.1");

    if (rc < 0)
        return rc;
    s->epoch = 1;
    if (mkdir(dir, 0770) < 0 && errno != EEXIST)
        return -errno;
    rc = remove_leftover(dir);
    if (rc < 0)
        return rc;
    if (mkdir(path, 0770) < 0 && errno != EEXIST)
        return -errno;
    rc = open_env(s, dir, options);
    if (rc == 0)
        rc = tables_create(s, options->cluster_id);
    if (rc == 0)
        rc = sync_directory(path);
    return rc == 0 ? current_write(dir, s->epoch) : rc;
}

int store_open(const char *dir, const struct store_options *options, struct store **ret_store)
{
    struct store *s = calloc(1, sizeof(*s));
    int rc, dead;

    if (s == NULL)
        return -ENOMEM;
    s->flags = options->flags;
    rc = current_read(dir, &s->epoch);
    if (rc == -ENOENT && (s->flags & STORE_WRITER) != 0) {
        rc = create_all(s, dir, options);
    } else if (rc == 0) {
        rc = open_env(s, dir, options);
        if (rc == -ENOENT)
            rc = -EUCLEAN; /* CURRENT names what is not there */
        if (rc == 0)
            rc = tables_open(s, options->cluster_id);
    }
    if (rc == 0 && (s->flags & STORE_WRITER) != 0)
        rc = err_from_mdb(mdb_reader_check(s->env, &dead));
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->env != NULL)
        mdb_env_close(s->env);
    free(s->session_uses);
    free(s);
}

uint64_t store_epoch(const struct store *s)
{
    return s->epoch;
}

/* ---- snapshots ---- */

struct tree snap_keys(const struct snap *p)
{
    return (struct tree){p->txn, p->store->keys, p->store->layers};
}

struct tree snap_gone(const struct snap *p)
{
    return (struct tree){p->txn, p->store->gone, p->store->layers};
}

struct tree snap_dirs(const struct snap *p)
{
    return (struct tree){p->txn, p->store->dirs, p->store->layers};
}

int snap_log_cursor(struct snap *p, MDB_cursor **ret_cursor)
{
    int rc = 0;

    if (p->log_cursor == NULL)
        rc = err_from_mdb(mdb_cursor_open(p->txn, p->store->log, &p->log_cursor));
    if (rc == 0)
        *ret_cursor = p->log_cursor;
    return rc;
}

int snap_keep(const struct snap *p, struct slice s, struct arena *arena, struct slice *ret_kept)
{
    if (p->writing)
        return arena_copy(arena, s, ret_kept);
    *ret_kept = s;
    return 0;
}
