/* From a checkpoint to an environment: at a writer's start, or when a node takes over another state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "store/checkpoint_file.h"
#include "store/current.h"
#include "store/env.h"

/* ---- the copy's own rows ---- */

/* What the new environment is to be, beside the rows of the file. */
struct identity {
    uint64_t cluster_id, epoch;
    const struct slice *membership; /* of a restored one, else NULL */
    bool sent;                      /* by another member, or made beside a log: that is what goes on behind it */
    bool at_start;                  /* no log is written yet that needs room beside it, and without it there is no start */
};

/* Rows of the main database that begin with prefix. */
static int remove_rows(MDB_txn *txn, MDB_dbi main_dbi, const char *prefix)
{
    MDB_cursor *cursor;
    MDB_val key, val;
    int rc = err_from_mdb(mdb_cursor_open(txn, main_dbi, &cursor));

    if (rc < 0)
        return rc;
    for (;;) {
        key = (MDB_val){strlen(prefix), (void *)prefix};
        rc = err_from_mdb(mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE));
        if (rc < 0 || key.mv_size < strlen(prefix) || memcmp(key.mv_data, prefix, strlen(prefix)) != 0)
            break;
        rc = err_from_mdb(mdb_cursor_del(cursor, 0));
        if (rc < 0)
            break;
    }
    mdb_cursor_close(cursor);
    return rc == -ENOENT ? 0 : rc;
}

static int restore_rows(MDB_txn *txn, MDB_dbi main_dbi, struct slice membership)
{
    struct state state;
    bool counted;
    int rc = state_load(txn, main_dbi, &state, &counted);

    if (rc < 0)
        return rc;
    state.membership_index = state.applied_index;
    rc = remove_rows(txn, main_dbi, "member/");
    if (rc == 0)
        rc = remove_rows(txn, main_dbi, "removed/");
    if (rc == 0)
        rc = meta_row_put(txn, main_dbi, "membership", membership);
    return rc == 0 ? state_save(txn, main_dbi, &state) : rc;
}

/* A restored environment that is made again before anything is applied to it is still one. */
static enum env_begun how_begun(MDB_txn *txn, MDB_dbi main_dbi, const struct checkpoint_info *info)
{
    struct store_meta meta = {.applied_index = info->applied_index};

    return begun_get(txn, main_dbi, &meta) == 0 && meta.restored ? ENV_BEGUN_RESTORED : ENV_BEGUN_INSTALLED;
}

static int identify(MDB_txn *txn, const struct checkpoint_info *info, const struct identity *to_be)
{
    enum env_begun how = ENV_BEGUN_RESTORED;
    uint8_t body[32];
    uint64_t id;
    MDB_dbi main_dbi;
    int rc = err_from_mdb(mdb_dbi_open(txn, NULL, 0, &main_dbi));

    if (rc == 0 && getrandom(&id, sizeof(id), 0) != sizeof(id))
        rc = -EIO;
    if (rc < 0)
        return rc;
    put_le64(body, STORE_FORMAT);
    put_le64(body + 8, id);
    put_le64(body + 16, to_be->cluster_id);
    put_le64(body + 24, to_be->epoch);
    rc = meta_row_put(txn, main_dbi, "format", slice_make(body, sizeof(body)));
    if (rc == 0 && to_be->membership != NULL)
        rc = restore_rows(txn, main_dbi, *to_be->membership);
    else if (rc == 0)
        how = to_be->sent ? ENV_BEGUN_INSTALLED : how_begun(txn, main_dbi, info);
    return rc == 0 ? begun_put(txn, main_dbi, how, info->applied_index, info->applied_term) : rc;
}

/* The same rows in another file are another environment. */
static int make_own(const char *path, const struct checkpoint_info *info, const struct identity *to_be)
{
    MDB_env *env = NULL;
    MDB_txn *txn;
    int rc = err_from_mdb(mdb_env_create(&env));

    if (rc < 0)
        return rc;
    /* Nobody else knows of it: no locks. */
    rc = err_from_mdb(mdb_env_set_maxdbs(env, STORE_MAX_TABLES));
    if (rc == 0)
        rc = err_from_mdb(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NORDAHEAD, 0660));
    if (rc == 0)
        rc = err_from_mdb(mdb_txn_begin(env, NULL, 0, &txn));
    if (rc == 0) {
        rc = identify(txn, info, to_be);
        if (rc < 0)
            mdb_txn_abort(txn);
        else
            rc = err_from_mdb(mdb_txn_commit(txn)); /* which syncs */
    }
    mdb_env_close(env);
    return rc;
}

static int fill(const char *dir, const char *env_path, const char *from, struct identity to_be)
{
    struct checkpoint_info info;
    char path[CURRENT_PATH_BYTES];
    struct sink sink;
    int rc = checkpoint_read_info(from, &info);

    if (rc == 0 && to_be.membership == NULL && to_be.cluster_id != 0 && info.cluster_id != to_be.cluster_id)
        rc = -EXDEV;
    if (to_be.cluster_id == 0)
        to_be.cluster_id = info.cluster_id;
    if (rc == 0 && !to_be.at_start)
        rc = checkpoint_room(dir, info.image_bytes);
    if (rc < 0)
        return rc;
    if ((size_t)snprintf(path, sizeof(path), "%s/data.mdb", env_path) >= sizeof(path))
        return -ENAMETOOLONG;
    rc = sink_open(&sink, path);
    if (rc < 0)
        return rc;
    rc = checkpoint_copy_image(from, &sink, &info);
    if (rc == 0)
        rc = sink_finish(&sink);
    if (rc < 0) {
        sink_discard(&sink, path);
        return rc;
    }
    rc = make_own(path, &info, &to_be);
    return rc == 0 ? current_sync_directory(env_path) : rc;
}

static int make_env(const char *dir, const char *path, struct identity to_be)
{
    char env[CURRENT_PATH_BYTES];
    int rc = current_env_path(env, dir, to_be.epoch);

    if (rc == 0)
        rc = current_remove_env(dir, to_be.epoch); /* left by one that did not end: nobody has seen it */
    if (rc < 0)
        return rc;
    if (mkdir(env, 0770) < 0)
        return -errno;
    rc = fill(dir, env, path, to_be);
    if (rc < 0)
        (void)current_remove_env(dir, to_be.epoch); /* or the next one does it */
    return rc;
}

int checkpoint_make(const char *dir, const char *path, uint64_t cluster_id, uint64_t epoch)
{
    return make_env(dir, path, (struct identity){.cluster_id = cluster_id, .epoch = epoch, .sent = true});
}

int checkpoint_restore(const char *dir, const char *path, uint64_t cluster_id, struct slice membership,
                       struct checkpoint_info *ret_info)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = cluster_id};
    struct store *s = NULL;
    uint64_t epoch;
    int rc = current_read(dir, &epoch);

    if (rc != -ENOENT)
        return rc == 0 ? -EEXIST : rc;
    rc = make_env(dir, path, (struct identity){cluster_id, 1, &membership, false, true});
    if (rc == 0)
        rc = mark_write(dir, 1, MARK_SYNCED);
    if (rc == 0)
        rc = current_write(dir, 1);
    if (rc == 0)
        rc = store_open(dir, &options, &s);
    if (rc == 0)
        rc = checkpoint_write(s, ret_info);
    store_close(s);
    return rc;
}

int checkpoint_install(const char *dir, const char *path, uint64_t cluster_id, uint64_t *ret_epoch)
{
    uint64_t epoch;
    int rc = current_read(dir, &epoch);

    if (rc == -ENOENT) {
        epoch = 0;
        rc = 0;
    }
    if (rc == 0)
        rc = checkpoint_make(dir, path, cluster_id, epoch + 1);
    if (rc < 0)
        return rc;
    /* The mark first: between the two neither environment is trusted, and a start recovers from the newest checkpoint. */
    rc = mark_write(dir, epoch + 1, MARK_SYNCED);
    if (rc == 0)
        rc = current_write(dir, epoch + 1);
    if (rc == 0)
        *ret_epoch = epoch + 1;
    return rc;
}

int checkpoint_recover(const char *dir, uint64_t cluster_id, uint64_t at_least, uint64_t epoch)
{
    struct checkpoint_info *infos = calloc(CHECKPOINT_MAX, sizeof(*infos));
    size_t n = 0, bad = 0;
    int rc;

    if (infos == NULL)
        return -ENOMEM;
    rc = checkpoint_list(dir, infos, CHECKPOINT_MAX, &n, &bad);
    if (rc == 0)
        rc = n + bad == 0 ? -ENOENT : -EUCLEAN;
    for (size_t i = 0; rc == -EUCLEAN && i < n && infos[i].applied_index >= at_least; i++)
        rc = make_env(dir, infos[i].path, (struct identity){.cluster_id = cluster_id, .epoch = epoch, .at_start = true});
    free(infos);
    return rc;
}
