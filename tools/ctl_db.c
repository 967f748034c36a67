/* db stat, dump, check: of a running node, of a data directory, of a checkpoint file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/checkpoint.h"
#include "store/inspect.h"
#include "tools/ctl_data.h"

struct db {
    struct ctl_data *d;
    struct ctl_out *out;
    struct store *store;
    struct store_read *r;
    char dir[PATH_MAX]; /* "" for a file */
    bool first;
    struct arena arena;
};

static int open_db(struct db *db)
{
    struct ctl_data *d = db->d;
    struct store_options options = {0};
    int rc;

    if (d->file != NULL) {
        rc = store_open_image(d->file, &db->store);
        if (rc < 0)
            return ctl_fail("%s: %s", d->file, rc == -EUCLEAN ? "damaged, or no environment of quorumfs" : strerror(-rc));
    } else if (d->data_dir != NULL) {
        snprintf(db->dir, sizeof(db->dir), "%s/store", d->data_dir);
        rc = store_open(db->dir, &options, &db->store);
        if (rc < 0)
            return ctl_fail("%s: %s", db->dir, rc == -ENOENT ? "there is no key space in it" : strerror(-rc));
    } else {
        if (ctl_open(&d->opts, &d->ctl) < 0 || ctl_store(&d->ctl) < 0)
            return -1;
        snprintf(db->dir, sizeof(db->dir), "%s", client_get_info(d->ctl.client)->store_dir);
        db->store = d->ctl.store;
        d->ctl.store = NULL; /* ours */
    }
    rc = store_read_begin(db->store, &db->r);
    return rc < 0 ? ctl_fail("the key space cannot be read: %s", strerror(-rc)) : 0;
}

static void close_db(struct db *db)
{
    store_read_end(db->r);
    store_close(db->store);
    arena_fini(&db->arena);
}

static int failed(int rc)
{
    return rc < 0 ? ctl_fail("the key space cannot be read: %s", rc == -EUCLEAN ? "it is damaged (db check says where)" :
                                                                 strerror(-rc)) : 0;
}

/* Text that leaves early, so that a dump of any size needs no memory. */
static int flushed(struct db *db)
{
    return db->out->buf.len < (1 << 16) ? 0 : ctl_out_flush(db->out) < 0 ? -EPIPE : 0;
}

/* ---- stat ---- */

static int show_table(void *ctx, const struct store_table *t)
{
    struct db *db = ctx;
    uint64_t bytes = (t->branch_pages + t->leaf_pages + t->overflow_pages) * t->page_bytes;

    if (db->d->opts.json)
        ctl_out_text(db->out, "%s{\"name\":\"%s\",\"rows\":%llu,\"depth\":%llu,\"bytes\":%llu}", db->first ? "" : ",", t->name,
                     (unsigned long long)t->rows, (unsigned long long)t->depth, (unsigned long long)bytes);
    else
        ctl_out_text(db->out, "table %-10s %12llu rows, %llu levels, %llu bytes\n", t->name, (unsigned long long)t->rows,
                     (unsigned long long)t->depth, (unsigned long long)bytes);
    db->first = false;
    return 0;
}

static void show_checkpoints(struct db *db)
{
    struct checkpoint_info *infos = calloc(CHECKPOINT_MAX, sizeof(*infos));
    size_t n = 0, bad = 0;

    if (infos == NULL || db->dir[0] == '\0' || checkpoint_list(db->dir, infos, CHECKPOINT_MAX, &n, &bad) < 0)
        n = bad = 0;
    if (db->d->opts.json)
        ctl_out_text(db->out, ",\"checkpoints_damaged\":%zu,\"checkpoints\":[", bad);
    else if (bad > 0)
        ctl_out_text(db->out, "%zu damaged checkpoints\n", bad);
    for (size_t i = 0; i < n; i++) {
        if (db->d->opts.json) {
            ctl_out_text(db->out, "%s", i > 0 ? "," : "");
            ctl_checkpoint_json(db->out, &infos[i]);
        } else {
            ctl_out_text(db->out, "checkpoint ");
            ctl_checkpoint_line(db->out, &infos[i]);
        }
    }
    if (db->d->opts.json)
        ctl_out_text(db->out, "]");
    free(infos);
}

static int stat_db(struct db *db)
{
    struct store_meta m;
    bool trusted = true;
    int rc = store_read_meta(db->r, &m);

    if (rc == 0 && db->dir[0] != '\0' && db->d->data_dir != NULL)
        rc = store_is_trusted(db->dir, &trusted);
    if (rc < 0)
        return failed(rc);
    db->first = true;
    ctl_out_text(db->out, db->d->opts.json ?
                 "{\"cluster_id\":\"%016llx\",\"epoch\":%llu,\"revision\":%lld,\"compacted\":%lld,\"applied_index\":%llu,"
                 "\"applied_term\":%llu,\"membership_index\":%llu,\"bytes\":%llu,\"bytes_in_use\":%llu,\"quota_bytes\":%llu,"
                 "\"logical_bytes\":%llu" :
                 "cluster %016llx, epoch %llu\nrevision %lld, compacted %lld\napplied entry %llu of term %llu, membership of "
                 "entry %llu\nfile %llu bytes, %llu in use; quota %llu (0: none), %llu taken\n",
                 (unsigned long long)m.cluster_id, (unsigned long long)m.epoch, (long long)m.revision,
                 (long long)m.compacted, (unsigned long long)m.applied_index, (unsigned long long)m.applied_term,
                 (unsigned long long)m.membership_index, (unsigned long long)m.db_bytes,
                 (unsigned long long)m.db_bytes_in_use, (unsigned long long)m.quota_bytes,
                 (unsigned long long)m.logical_bytes);
    if (db->d->opts.json)
        ctl_out_text(db->out, ",\"trusted\":%s,\"tables\":[", trusted ? "true" : "false");
    else if (!trusted)
        ctl_out_text(db->out, "not to be believed: the machine went down while it was written; a start makes it again\n");
    rc = store_tables(db->r, show_table, db);
    if (db->d->opts.json)
        ctl_out_text(db->out, "]");
    show_checkpoints(db);
    ctl_out_text(db->out, db->d->opts.json ? "}\n" : "");
    return rc < 0 ? failed(rc) : ctl_out_flush(db->out);
}

/* ---- dump ---- */

static int dump_row(void *ctx, const struct store_row *row)
{
    struct db *db = ctx;

    ctl_out_quoted(db->out, row->key);
    ctl_out_text(db->out, " mod %lld.%d", (long long)row->mod.main, (int)row->mod.sub);
    if (row->create.main != 0)
        ctl_out_text(db->out, " create %lld.%d", (long long)row->create.main, (int)row->create.sub);
    if (row->version != 0)
        ctl_out_text(db->out, " version %lld", (long long)row->version);
    if (row->depth != 0)
        ctl_out_text(db->out, " depth %llu", (unsigned long long)row->depth);
    if (row->lease != 0)
        ctl_out_text(db->out, " lease %llx", (unsigned long long)row->lease);
    if (row->attrs.has & ATTR_MODE)
        ctl_out_text(db->out, " mode %o", row->attrs.mode);
    if (row->attrs.has & ATTR_INO)
        ctl_out_text(db->out, " inode %llu", (unsigned long long)row->attrs.ino);
    ctl_out_text(db->out, " bytes %llu%s", (unsigned long long)row->value_len, row->is_inline ? "" : " (in the log)");
    if (db->d->values) {
        struct slice value;

        if (store_value(db->r, row->key, &db->arena, &value) == 0) {
            ctl_out_text(db->out, " ");
            ctl_out_quoted(db->out, value);
        }
        arena_reset(&db->arena);
    }
    ctl_out_text(db->out, "\n");
    return flushed(db);
}

static int dump_event(void *ctx, const struct event *e)
{
    static const char *const kinds[] = {"?", "put", "delete", "mkdir", "rmdir", "rename", "attributes", "lock"};
    struct db *db = ctx;
    struct slice value;

    ctl_out_text(db->out, "%lld.%d %s ", (long long)e->rev.main, (int)e->rev.sub,
                 (size_t)e->kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[e->kind] : "?");
    ctl_out_quoted(db->out, e->key);
    if (e->prev.main != 0)
        ctl_out_text(db->out, " previous %lld.%d", (long long)e->prev.main, (int)e->prev.sub);
    if (e->create.main != 0)
        ctl_out_text(db->out, " create %lld.%d", (long long)e->create.main, (int)e->create.sub);
    if (e->version != 0)
        ctl_out_text(db->out, " version %lld", (long long)e->version);
    if (e->lease != 0)
        ctl_out_text(db->out, " lease %llx", (unsigned long long)e->lease);
    ctl_out_text(db->out, " time %lld bytes %llu", (long long)e->time_ns, (unsigned long long)e->value_len);
    if (db->d->values && store_event_value(db->r, e, &db->arena, &value) == 0) {
        ctl_out_text(db->out, " ");
        ctl_out_quoted(db->out, value);
    }
    arena_reset(&db->arena);
    ctl_out_text(db->out, "\n");
    return flushed(db);
}

static int dump_log(struct db *db)
{
    int64_t next, from = db->d->opts.rev;
    uint16_t status;
    int rc;

    if (from < store_read_compacted(db->r))
        from = store_read_compacted(db->r);
    rc = store_events(db->r, from > 0 ? from : 1, dump_event, db, &next, &status);
    return rc == 0 && status != STATUS_OK ? ctl_fail_status(status) : rc;
}

static int dump_lease_key(void *ctx, struct slice key)
{
    struct db *db = ctx;

    ctl_out_text(db->out, "  ");
    ctl_out_quoted(db->out, key);
    ctl_out_text(db->out, "\n");
    return flushed(db);
}

static int dump_lease(void *ctx, const struct lease_info *lease)
{
    struct db *db = ctx;

    ctl_out_text(db->out, "%016llx ttl %lld remaining %lld\n", (unsigned long long)lease->id, (long long)lease->ttl_s,
                 (long long)lease->remaining_s);
    return store_lease_keys(db->r, lease->id, dump_lease_key, db);
}

static int dump_members(struct db *db)
{
    struct member_info *members;
    size_t n;
    int rc = store_members(db->r, &db->arena, &members, &n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        ctl_out_text(db->out, "%016llx ", (unsigned long long)members[i].id);
        ctl_out_quoted(db->out, members[i].name);
        for (size_t u = 0; u < members[i].n_client_urls; u++) {
            ctl_out_text(db->out, " ");
            ctl_out_quoted(db->out, members[i].client_urls[u]);
        }
        ctl_out_text(db->out, "\n");
    }
    return rc;
}

static int dump_db(struct db *db)
{
    const char *what = db->d->n_words > 2 ? db->d->words[2] : "keys";
    int rc;

    if (strcmp(what, "keys") == 0)
        rc = store_each_row(db->r, STORE_ROWS_KEYS, dump_row, db);
    else if (strcmp(what, "dirs") == 0)
        rc = store_each_row(db->r, STORE_ROWS_DIRS, dump_row, db);
    else if (strcmp(what, "gone") == 0)
        rc = store_each_row(db->r, STORE_ROWS_GONE, dump_row, db);
    else if (strcmp(what, "log") == 0)
        rc = dump_log(db);
    else if (strcmp(what, "leases") == 0)
        rc = store_leases(db->r, 0, dump_lease, db);
    else if (strcmp(what, "members") == 0)
        rc = dump_members(db);
    else
        return ctl_fail("db dump knows keys, log, dirs, gone, leases and members, not '%s'", what);
    if (rc == -EPIPE || rc == -1)
        return -1;
    return rc < 0 ? failed(rc) : ctl_out_flush(db->out);
}

/* ---- check ---- */

static void tell(void *ctx, const char *text)
{
    struct db *db = ctx;

    if (db->d->opts.json) {
        ctl_out_text(db->out, "%s", db->first ? "" : ",");
        ctl_out_quoted(db->out, slice_from_str(text));
    } else {
        ctl_out_text(db->out, "%s\n", text);
    }
    db->first = false;
}

static int check_db(struct db *db)
{
    struct store_check s;
    uint32_t hash = 0;
    int64_t revision = 0;
    uint64_t index = 0;
    int rc;

    db->first = true;
    if (db->d->opts.json)
        ctl_out_text(db->out, "{\"problems\":[");
    rc = store_check(db->r, tell, db, &s);
    if (rc == 0 && s.problems == 0)
        rc = store_hash(db->r, &hash, &revision, &index);
    if (rc < 0)
        return failed(rc);
    ctl_out_text(db->out, db->d->opts.json ?
                 "],\"keys\":%llu,\"gone\":%llu,\"dirs\":%llu,\"log_rows\":%llu,\"log_pieces\":%llu,\"history_rows\":%llu,"
                 "\"links\":%llu,\"values_elsewhere\":%llu,\"layered_keys\":%llu,\"lease_keys\":%llu" :
                 "%llu keys, %llu deleted, %llu directories; %llu rows of the log in %llu pieces, %llu on a key's history, "
                 "%llu links, %llu values elsewhere; %llu long keys; %llu keys of leases\n",
                 (unsigned long long)s.keys, (unsigned long long)s.gone, (unsigned long long)s.dirs,
                 (unsigned long long)s.log_rows, (unsigned long long)s.log_pieces, (unsigned long long)s.chain_rows,
                 (unsigned long long)s.links, (unsigned long long)s.values, (unsigned long long)s.layered_keys,
                 (unsigned long long)s.lease_keys);
    if (s.problems == 0)
        ctl_out_text(db->out, db->d->opts.json ? ",\"hash\":\"%08x\",\"revision\":%lld,\"applied_index\":%llu" :
                     "hash %08x at revision %lld, entry %llu\n", hash, (long long)revision, (unsigned long long)index);
    ctl_out_text(db->out, db->d->opts.json ? "}\n" : s.problems == 0 ? "everything fits\n" : "");
    if (ctl_out_flush(db->out) < 0)
        return -1;
    return s.problems == 0 ? 0 : ctl_fail("%llu things do not fit", (unsigned long long)s.problems);
}

/* ---- defragment ---- */

static int defragment(struct ctl_data *d)
{
    char path[PATH_MAX];

    if (d->data_dir != NULL || d->file != NULL)
        return ctl_fail("only a running node defragments; one that starts anew behind a crash is as compact");
    if (ctl_data_ask(d, SOCKET_MAINTAIN_DEFRAGMENT, path, sizeof(path)) < 0)
        return -1;
    ctl_out_text(&d->ctl.out, d->opts.json ? "{}\n" : "OK\n");
    return ctl_out_flush(&d->ctl.out);
}

int ctl_db(struct ctl_data *d)
{
    struct db db = {.d = d, .out = &d->ctl.out};
    const char *what = d->n_words > 1 ? d->words[1] : "";
    int rc = -1;

    if (strcmp(what, "defragment") == 0)
        return defragment(d);
    arena_init(&db.arena);
    if (strcmp(what, "stat") != 0 && strcmp(what, "dump") != 0 && strcmp(what, "check") != 0)
        rc = ctl_fail("db takes: stat, dump [keys|log|dirs|gone|leases|members], check, or defragment");
    else if (open_db(&db) == 0)
        rc = what[0] == 's' ? stat_db(&db) : what[0] == 'd' ? dump_db(&db) : check_db(&db);
    close_db(&db);
    return rc;
}
