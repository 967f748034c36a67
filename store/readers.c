/* Who reads: LMDB's table of readers, which all processes share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/env.h"

struct listing {
    store_reader_fn emit;
    void *ctx;
    bool stopped;
};

/* LMDB has no other way out than text: a head line, then "pid thread txnid" in decimal, hexadecimal, decimal or "-". */
static int take_line(const char *line, void *ctx)
{
    struct listing *l = ctx;
    struct store_reader reader = {0};
    long long pid;
    unsigned long long thread, txn;

    if (l->stopped || sscanf(line, "%lld %llx %llu", &pid, &thread, &txn) != 3)
        return 0; /* the head, or a slot without a snapshot */
    reader.pid = (int)pid;
    reader.thread = thread;
    reader.snapshot = txn;
    l->stopped = l->emit(l->ctx, &reader) != 0;
    return 0;
}

int store_readers(struct store *s, uint64_t *ret_newest, store_reader_fn emit, void *ctx)
{
    struct listing l = {emit, ctx, false};
    MDB_envinfo info;
    int rc = mdb_reader_list(s->env, take_line, &l);

    if (rc < 0)
        return -EIO;
    rc = err_from_mdb(mdb_env_info(s->env, &info));
    if (rc == 0)
        *ret_newest = info.me_last_txnid;
    return rc;
}
