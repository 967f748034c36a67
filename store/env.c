#include "store/env.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "store/checkpoint_file.h"
#include "store/current.h"
#include "store/usage.h"

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

/* ---- opening ---- */

static int open_env(struct store *s, const char *dir, const struct store_options *options)
{
    char path[CURRENT_PATH_BYTES];
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    int rc = current_env_path(path, dir, s->epoch);

    if (rc == 0)
        rc = err_from_mdb(mdb_env_create(&s->env));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_set_maxdbs(s->env, STORE_MAX_TABLES));
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
    flags |= (s->flags & (STORE_NOSYNC | STORE_UNSYNCED)) != 0 ? MDB_NOSYNC : MDB_NOMETASYNC;
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

/* The tables that version 0.1 did not have. -ENOENT: this environment has not got all of them. */
static int open_later_tables(struct store *s, MDB_txn *txn, unsigned flags)
{
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } tables[] = {
        {"leases", &s->leases}, {"lease_keys", &s->lease_keys}, {"xattrs", &s->xattrs},
        {"locks", &s->locks},   {"usage", &s->usage},
    };
    int rc = 0;

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
    if (reader_status(&r) < 0 || format == 0 || (s->epoch != 0 && epoch != s->epoch))
        return -EUCLEAN;
    s->epoch = epoch;
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
        rc = open_later_tables(s, txn, MDB_CREATE);
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

/* Gives an environment of version 0.1 what it lacks, in one transaction. */
static int tables_upgrade(struct store *s)
{
    struct snap snap = {.store = s};
    bool counted;
    int rc = err_from_mdb(mdb_txn_begin(s->env, NULL, 0, &snap.txn));

    if (rc < 0)
        return rc;
    rc = open_later_tables(s, snap.txn, MDB_CREATE);
    if (rc == 0)
        rc = state_load(snap.txn, s->main, &snap.state, &counted);
    if (rc == 0 && !counted)
        rc = usage_count(&snap);
    if (rc == 0)
        rc = state_save(snap.txn, s->main, &snap.state);
    if (rc < 0) {
        mdb_txn_abort(snap.txn);
        return rc;
    }
    return err_from_mdb(mdb_txn_commit(snap.txn));
}

static int tables_open(struct store *s, uint64_t cluster_id)
{
    struct state state;
    bool complete = true, counted = true;
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
        rc = state_load(txn, s->main, &state, &counted);
    if (rc == 0) {
        rc = open_later_tables(s, txn, 0);
        complete = rc == 0;
        rc = rc == -ENOENT ? 0 : rc;
    }
    if (rc < 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = err_from_mdb(mdb_txn_commit(txn)); /* keeps the table handles */
    if (rc == 0 && (!complete || !counted) && (s->flags & STORE_WRITER) != 0)
        rc = tables_upgrade(s);
    return rc;
}

/* A new, empty environment of that epoch, and only then its name. */
static int create_env(struct store *s, const char *dir, uint64_t epoch, const struct store_options *options)
{
    char path[CURRENT_PATH_BYTES];
    int rc = current_env_path(path, dir, epoch);

    if (rc == 0)
        rc = current_remove_env(dir, epoch); /* left by a creation that did not end: nobody has seen it */
    if (rc < 0)
        return rc;
    if (mkdir(path, 0770) < 0)
        return -errno;
    s->epoch = epoch;
    rc = open_env(s, dir, options);
    if (rc == 0)
        rc = tables_create(s, options->cluster_id);
    if (rc == 0)
        rc = current_sync_directory(path);
    return rc == 0 ? current_write(dir, epoch) : rc;
}

static int open_current(struct store *s, const char *dir, const struct store_options *options)
{
    int rc = open_env(s, dir, options);

    if (rc == -ENOENT)
        rc = -EUCLEAN; /* CURRENT names what is not there */
    return rc == 0 ? tables_open(s, options->cluster_id) : rc;
}

/* In place of one that cannot be trusted: the next epoch, from the newest checkpoint, or empty when the log has all. */
static int open_again(struct store *s, const char *dir, uint64_t epoch, const struct store_options *options)
{
    const uint64_t at_least = options->log_first > 1 ? options->log_first - 1 : 0;
    int rc = checkpoint_recover(dir, options->cluster_id, at_least, epoch);

    s->origin = STORE_FROM_CHECKPOINT;
    if (rc == 0) {
        rc = current_write(dir, epoch);
        s->epoch = epoch;
        return rc == 0 ? open_current(s, dir, options) : rc;
    }
    if (rc != -ENOENT && rc != -EUCLEAN)
        return rc;
    s->origin = STORE_FROM_LOG;
    return at_least == 0 ? create_env(s, dir, epoch, options) : -ENODATA;
}

/* The directory has a store: the environment of that epoch if it can be trusted, else a new one. */
static int open_there(struct store *s, const char *dir, uint64_t epoch, bool marks, const struct store_options *options)
{
    const bool has_log = (s->flags & (STORE_UNSYNCED | STORE_NOSYNC)) != 0;
    bool trusted = true;
    int rc = marks ? mark_is_trusted(dir, epoch, &trusted) : 0;

    if (rc < 0)
        return rc;
    s->epoch = epoch;
    if (trusted) {
        rc = open_current(s, dir, options);
        if (rc == 0 && marks && (s->flags & STORE_UNSYNCED) == 0)
            rc = err_from_mdb(mdb_env_sync(s->env, 1)); /* what a run without syncs may have left to be written */
        if (rc != -EUCLEAN || !has_log)
            return rc;
        mdb_env_close(s->env); /* damaged, or not there at all */
        s->env = NULL;
    }
    return open_again(s, dir, epoch + 1, options);
}

/* Nothing is named. What a checkpoint or a trimmed log says was here all the same is not begun anew. */
static int open_first(struct store *s, const char *dir, const struct store_options *options)
{
    struct checkpoint_info *latest = malloc(sizeof(*latest));
    int rc = latest == NULL ? -ENOMEM : checkpoint_latest(dir, latest);
    uint64_t epoch = rc == 0 ? latest->epoch + 1 : 1;

    free(latest);
    if (rc == 0 || (rc == -ENOENT && options->log_first > 1))
        return open_again(s, dir, epoch, options);
    s->origin = STORE_NEW;
    return rc == -ENOENT ? create_env(s, dir, epoch, options) : rc;
}

static int open_writer(struct store *s, const char *dir, const struct store_options *options)
{
    const bool marks = (s->flags & STORE_NOSYNC) == 0; /* a simulated machine has no boots */
    uint64_t epoch;
    int rc, dead;

    rc = current_make_directory(dir);
    if (rc < 0)
        return rc;
    rc = current_read(dir, &epoch);
    if (rc == -ENOENT)
        rc = open_first(s, dir, options);
    else if (rc == 0)
        rc = open_there(s, dir, epoch, marks, options);
    if (rc == 0 && marks)
        rc = mark_write(dir, s->epoch, (s->flags & STORE_UNSYNCED) != 0 ? MARK_RUNNING : MARK_SYNCED);
    if (rc == 0)
        rc = current_remove_others(dir, s->epoch);
    if (rc < 0)
        return rc;
    s->marked = marks && (s->flags & STORE_UNSYNCED) != 0;
    return err_from_mdb(mdb_reader_check(s->env, &dead));
}

int store_open(const char *dir, const struct store_options *options, struct store **ret_store)
{
    struct store *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return -ENOMEM;
    s->flags = options->flags;
    s->dir = strdup(dir);
    if (s->dir == NULL) {
        store_close(s);
        return -ENOMEM;
    }
    if ((s->flags & STORE_WRITER) != 0) {
        rc = open_writer(s, dir, options);
    } else {
        rc = current_read(dir, &s->epoch);
        if (rc == 0)
            rc = open_current(s, dir, options);
    }
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

/* Written and synced in full: then the next start need not ask whether the machine went down meanwhile. After a failed
 * commit the mark stays, after a failed sync it says that the environment is not to be trusted. Nothing of that when
 * another one has taken its place. */
static void leave_synced(struct store *s)
{
    uint64_t current;

    if (s->failed || current_read(s->dir, &current) < 0 || current != s->epoch)
        return;
    if (mark_write(s->dir, s->epoch, MARK_SYNCING) == 0 && mdb_env_sync(s->env, 1) == 0)
        (void)mark_write(s->dir, s->epoch, MARK_SYNCED);
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->marked)
        leave_synced(s);
    if (s->env != NULL)
        mdb_env_close(s->env);
    free(s->session_uses);
    free(s->dir);
    free(s);
}

uint64_t store_epoch(const struct store *s)
{
    return s->epoch;
}

enum store_origin store_origin(const struct store *s)
{
    return s->origin;
}

int store_open_next(const char *dir, uint64_t epoch, const struct store_options *options, struct store **ret_store)
{
    struct store *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return -ENOMEM;
    s->flags = options->flags;
    s->epoch = epoch;
    s->origin = STORE_FROM_CHECKPOINT;
    s->dir = strdup(dir);
    rc = s->dir != NULL ? open_current(s, dir, options) : -ENOMEM;
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

int store_publish(struct store *s, struct store *old)
{
    const bool marks = (s->flags & STORE_NOSYNC) == 0;
    uint64_t current;
    int rc = 0;

    /* Between the two neither environment is trusted, and a start recovers from the newest checkpoint. */
    if (marks)
        rc = mark_write(s->dir, s->epoch, (s->flags & STORE_UNSYNCED) != 0 ? MARK_RUNNING : MARK_SYNCED);
    if (rc == 0)
        rc = current_write(s->dir, s->epoch);
    if (rc < 0) {
        if (current_read(s->dir, &current) < 0 || current != old->epoch)
            return -EIO;
        if (old->marked)
            (void)mark_write(old->dir, old->epoch, MARK_RUNNING); /* else a start takes the checkpoint */
        return rc;
    }
    s->marked = marks && (s->flags & STORE_UNSYNCED) != 0;
    return 0;
}

int store_clean(struct store *s)
{
    return current_remove_others(s->dir, s->epoch);
}

int store_open_image(const char *path, struct store **ret_store)
{
    struct store *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return -ENOMEM;
    rc = err_from_mdb(mdb_env_create(&s->env));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_set_maxdbs(s->env, STORE_MAX_TABLES));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_open(s->env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0));
    if (rc == 0)
        rc = tables_open(s, 0);
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *ret_store = s;
    return 0;
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
