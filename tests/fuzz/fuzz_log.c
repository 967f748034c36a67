/* Recovery of the log from any bytes: whatever the files hold, opening says yes or a known no, and after a yes the log
 * can be read, goes on, and is found again.
 *
 * The first byte says how the rest becomes files: bit 0: it is `vote`, else the newest segment; bit 1: CRCs are made good, so
 * that what lies behind them is reached; bit 2: a good segment 1 is before it, which ends where the head says. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft/log.h"
#include "raft/log_record.h"
#include "tests/crash/disk_memory.h"
#include "tests/fuzz/fuzz.h"

#define CLUSTER 7
#define SEG1 "log/seg-0000000000000001"
#define SEG2 "log/seg-0000000000000002"

enum { AS_VOTE = 1, SEALED = 2, SECOND = 4 };

static const struct log_options options = {.segment_bytes = 8192, .cache_bytes = 64, .cluster_id = CLUSTER};

static void make_good(struct disk_memory *m)
{
    struct log *l;
    struct log_entry e = {1, 1, LOG_ENTRY_BARRIER, {0}};
    uint64_t synced;

    FUZZ_MUST(log_open(disk_memory_disk(m), "log", &options, &l, NULL, 0) == 0);
    FUZZ_MUST(log_append(l, &e, 1) == 0 && log_flush(l, &synced) == 0);
    log_close(l);
}

static void seal_block(uint8_t *p, size_t len, const char *magic)
{
    memcpy(p, magic, 8);
    put_le32(p + 8, 1);
    put_le64(p + 16, CLUSTER);
    put_le32(p + len - 4, crc32c(0, p, len - 4));
}

/* Makes the CRCs of a segment good along the lengths that it names. */
static void seal_segment(uint8_t *p, size_t len, bool second)
{
    struct log_head h;
    uint32_t seed;

    if (len < LOG_HEAD_BYTES)
        return;
    put_le64(p + 24, second ? 2 : 1);
    put_le64(p + 48, second ? LOG_HEAD_AREA_BYTES + LOG_SECTOR_BYTES : 0);
    if (second) {
        put_le64(p + 32, 1);
        put_le64(p + 40, 1);
        put_le64(p + 56, 1);
    }
    seal_block(p, LOG_HEAD_BYTES, "QFSLOG\r\n");
    if (log_head_decode(p, &h) < 0)
        return;
    seed = log_head_seed(&h);
    for (size_t at = LOG_HEAD_AREA_BYTES; at + LOG_MARK_BYTES <= len;) {
        size_t bytes = get_le32(p + at + 40), in = LOG_MARK_BYTES;

        put_le32(p + at + 8, LOG_MARK_BYTES - LOG_RECORD_BYTES);
        p[at + 12] = LOG_RECORD_MARK;
        put_le16(p + at + 14, 0);
        put_le32(p + at + 4, crc32c(0, p + at + LOG_RECORD_BYTES, LOG_MARK_BYTES - LOG_RECORD_BYTES));
        log_record_seal(p + at, seed, at);
        if (bytes > len - at || bytes < LOG_MARK_BYTES)
            return;
        while (in + LOG_RECORD_BYTES <= bytes) {
            uint8_t *r = p + at + in;
            uint32_t payload = get_le32(r + 8);

            if (payload > bytes - in || log_record_size(payload) > bytes - in)
                break;
            put_le32(r + 4, crc32c(0, r + LOG_RECORD_BYTES, payload));
            log_record_seal(r, seed, at + in);
            in += log_record_size(payload);
        }
        at += (bytes + LOG_SECTOR_BYTES - 1) / LOG_SECTOR_BYTES * LOG_SECTOR_BYTES;
    }
}

static void seal_vote(uint8_t *p, size_t len)
{
    for (size_t at = 0; at + LOG_HARD_BYTES <= len; at += LOG_SECTOR_BYTES)
        if (p[at] != 0)
            seal_block(p + at, LOG_HARD_BYTES, "QFSVOTE\n");
}

static void read_all(struct log *l)
{
    uint64_t first = log_first_index(l), last = log_last_index(l);
    struct arena arena;

    FUZZ_MUST(last + 1 >= first);
    FUZZ_MUST(log_synced_index(l) == last);
    arena_init(&arena);
    for (uint64_t i = first; i <= last; i++) {
        struct log_entry e;

        FUZZ_MUST(log_get(l, i, &arena, &e) == 0);
        FUZZ_MUST(e.index == i && e.term == log_term_at(l, i) && e.term >= log_term_at(l, i - 1));
    }
    arena_fini(&arena);
}

/* What was opened goes on, and is there again. */
static void go_on(struct disk_memory *m, struct log *l)
{
    struct log_entry e = {log_last_index(l) + 1, log_term_at(l, log_last_index(l)), LOG_ENTRY_BARRIER, {0}};
    uint64_t synced;

    read_all(l);
    FUZZ_MUST(log_append(l, &e, 1) == 0 && log_flush(l, &synced) == 0 && log_flushed(l, synced) == e.index);
    log_close(l);
    FUZZ_MUST(log_open(disk_memory_disk(m), "log", &options, &l, NULL, 0) == 0);
    FUZZ_MUST(log_last_index(l) == e.index && log_term_at(l, e.index) == e.term);
    read_all(l);
    log_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk_memory *m = disk_memory_new();
    uint8_t how = size > 0 ? data[0] : 0;
    bool as_vote = how & AS_VOTE, second = how & SECOND;
    const char *path = as_vote ? "log/vote" : second ? SEG2 : SEG1;
    struct log *l = NULL;
    char text[64]; /* short on purpose */
    uint8_t *p;
    size_t len;
    int rc;

    make_good(m);
    if (size > 0)
        disk_memory_put(m, path, data + 1, size - 1);
    p = disk_memory_content(m, path, &len);
    if (p != NULL && (how & SEALED))
        as_vote ? seal_vote(p, len) : seal_segment(p, len, second);
    rc = log_open(disk_memory_disk(m), "log", &options, &l, text, sizeof(text));
    if (rc == 0)
        go_on(m, l);
    else
        FUZZ_MUST(rc == -EUCLEAN || rc == -EPROTONOSUPPORT || rc == -EXDEV);
    disk_memory_free(m);
    return 0;
}
