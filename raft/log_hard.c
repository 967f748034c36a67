/* The hard state: term and vote in one file of two pages, written in turn.
 *
 * Invariants:
 *  1. State number s stands in page s mod 2, so a write never touches the newest durable state.
 *  2. Each page holds the state twice, in two sectors: a torn write leaves each sector old or new, so a page without
 *     any good copy is damage and no torn write. It might have held the newest vote: refuse, never guess.
 *  3. The numbers of the two pages differ by one, from the file's creation on (which writes 1 and 2). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "raft/log_parts.h"

#define HARD_NAME "vote"
#define HARD_NEW_NAME "vote.tmp"
#define PAGE_BYTES 4096
#define FILE_BYTES (2 * PAGE_BYTES)
#define COPIES 2

static const char remedy[] = "This member may have voted and cannot know for whom: restore its data directory, or remove "
                             "it from the cluster, delete the data directory and add it again.";

static void encode_page(const struct log_hard *h, uint8_t *page)
{
    memset(page, 0, PAGE_BYTES);
    for (size_t i = 0; i < COPIES; i++)
        log_hard_encode(h, page + i * LOG_SECTOR_BYTES);
}

static int write_page(struct log *l, struct disk_file *f, const struct log_hard *h)
{
    uint8_t page[PAGE_BYTES];

    encode_page(h, page);
    return l->disk->write(l->disk->ctx, f, (h->sequence & 1) * PAGE_BYTES, page, COPIES * LOG_SECTOR_BYTES);
}

static int create_file(struct log *l)
{
    struct disk *d = l->disk;
    struct log_hard h = {.cluster_id = l->options.cluster_id, .sequence = 1};
    char path[LOG_PATH_BYTES], final[LOG_PATH_BYTES];
    uint8_t content[FILE_BYTES];
    struct disk_file *f;
    int rc;

    log_path_name(l, HARD_NEW_NAME, path);
    log_path_name(l, HARD_NAME, final);
    encode_page(&h, content + PAGE_BYTES);
    h.sequence = 2;
    encode_page(&h, content);
    rc = d->open(d->ctx, path, DISK_CREATE, &f);
    if (rc < 0)
        return rc;
    rc = d->truncate(d->ctx, f, 0);
    if (rc == 0)
        rc = d->write(d->ctx, f, 0, content, sizeof(content));
    if (rc == 0)
        rc = d->sync(d->ctx, f);
    d->close(d->ctx, f);
    if (rc == 0)
        rc = d->rename(d->ctx, path, final);
    if (rc == 0)
        rc = d->sync_dir(d->ctx, l->dir);
    return rc;
}

static int decode_page(const uint8_t *page, unsigned number, struct log_hard *ret_hard)
{
    int found = -EUCLEAN;

    for (size_t i = 0; i < COPIES; i++) {
        struct log_hard h;
        int rc = log_hard_decode(page + i * LOG_SECTOR_BYTES, &h);

        if (rc == -EPROTONOSUPPORT)
            return rc;
        if (rc < 0 || (h.sequence & 1) != number)
            continue;
        if (found == -EUCLEAN || h.sequence > ret_hard->sequence)
            *ret_hard = h;
        found = 0;
    }
    return found;
}

static int decode_file(struct log *l, const uint8_t *content, size_t len, char *text, size_t text_size)
{
    struct log_hard page[2];
    const struct log_hard *newest;

    if (len != FILE_BYTES) {
        log_say(text, text_size, "%s/" HARD_NAME ": %zu bytes instead of %d. %s", l->dir, len, FILE_BYTES, remedy);
        return -EUCLEAN;
    }
    for (unsigned i = 0; i < 2; i++) {
        int rc = decode_page(content + i * PAGE_BYTES, i, &page[i]);

        if (rc == -EPROTONOSUPPORT)
            log_say(text, text_size, "%s/" HARD_NAME ": written by a newer version of quorumfs; start that version",
                    l->dir);
        else if (rc < 0)
            log_say(text, text_size, "%s/" HARD_NAME ": damaged at offset %u. %s", l->dir, i * PAGE_BYTES, remedy);
        if (rc < 0)
            return rc;
    }
    newest = &page[page[1].sequence > page[0].sequence];
    if (page[0].sequence + page[1].sequence + 1 != 2 * newest->sequence) {
        log_say(text, text_size, "%s/" HARD_NAME ": its two pages do not belong together. %s", l->dir, remedy);
        return -EUCLEAN;
    }
    if (newest->cluster_id != l->options.cluster_id) {
        log_say(text, text_size, "%s: belongs to cluster %016llx, this is %016llx", l->dir,
                (unsigned long long)newest->cluster_id, (unsigned long long)l->options.cluster_id);
        return -EXDEV;
    }
    l->hard.now = *newest;
    return 0;
}

int log_hard_load(struct log *l, bool is_new, char *text, size_t text_size)
{
    struct disk *d = l->disk;
    char path[LOG_PATH_BYTES];
    uint8_t content[FILE_BYTES + 1];
    size_t len;
    int rc;

    if (is_new) {
        rc = create_file(l);
        if (rc < 0)
            goto fail;
    }
    log_path_name(l, HARD_NAME, path);
    rc = d->open(d->ctx, path, 0, &l->hard.file);
    if (rc == -ENOENT) {
        log_say(text, text_size, "%s/" HARD_NAME " is missing beside log segments. %s", l->dir, remedy);
        return -EUCLEAN;
    }
    if (rc == 0)
        rc = d->read(d->ctx, l->hard.file, 0, content, sizeof(content), &len);
    if (rc < 0)
        goto fail;
    rc = decode_file(l, content, len, text, text_size);
    if (rc < 0)
        return rc;
    /* What we read may be in the page cache alone: of a process that was killed before its sync, or whose sync failed
     * (after which the kernel takes the pages for clean). Written again and synced, it is what we act on. */
    rc = write_page(l, l->hard.file, &l->hard.now);
    if (rc == 0)
        rc = d->sync(d->ctx, l->hard.file);
    if (rc == 0)
        return 0;
fail:
    log_say(text, text_size, "%s/" HARD_NAME ": %s", l->dir, strerror(-rc));
    return rc;
}

int log_hard_store(struct log *l, struct log_hard_state hs, uint64_t durable_flush)
{
    struct log_hard next = {
        .cluster_id = l->options.cluster_id,
        .sequence = l->hard.now.sequence + 1,
        .term = hs.term,
        .voted_for = hs.voted_for,
        .durable_flush = durable_flush,
    };
    int rc = write_page(l, l->hard.file, &next);

    if (rc == -ENOSPC || rc == -EDQUOT)
        return -ENOSPC; /* the same page will be written again */
    if (rc == 0)
        rc = l->disk->sync(l->disk->ctx, l->hard.file);
    if (rc < 0) {
        log_poison(l);
        return -EIO;
    }
    l->hard.now = next;
    return 0;
}
