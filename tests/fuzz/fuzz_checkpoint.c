/* Checkpoint files from any bytes, as a disk, another member or an operator could hand them in. The first byte says how: 0 the
 * input is the file; 1 it is written over the trailer of a good file, and the trailer's sum made good; 2 over its image, whose sum
 * is made good; with bit 2 etcd's padding and digest follow. A no is a known one, and leaves nothing behind; a yes is as the file says. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/checkpoint_file.h"
#include "store/inspect.h"
#include "store/store.h"
#include "tests/fuzz/fuzz.h"

struct world {
    char dir[100], file[120], store[120], other[120];
    uint8_t *good; /* a whole file */
    size_t good_len, image_len;
};

static struct world world;

static bool known(int rc)
{
    return rc >= 0 || rc == -EUCLEAN || rc == -EPROTONOSUPPORT || rc == -EXDEV || rc == -ENODATA || rc == -ENOENT;
}

static void remove_env(const char *dir, unsigned epoch)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    char path[200];

    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/env.%u/%s", dir, epoch, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/env.%u", dir, epoch);
    rmdir(path);
}

/* Nothing but what is named may be in there. */
static void remove_store(const char *dir)
{
    struct checkpoint_info infos[CHECKPOINT_MAX];
    size_t n = 0;
    static const char *const files[] = {"CURRENT", "RUN"};
    char path[200];

    if (checkpoint_list(dir, infos, CHECKPOINT_MAX, &n, NULL) == 0)
        for (size_t i = 0; i < n; i++)
            unlink(infos[i].path);
    remove_env(dir, 1);
    remove_env(dir, 2);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    FUZZ_MUST(rmdir(dir) == 0 || errno == ENOENT);
}

static void remove_world(void)
{
    unlink(world.file);
    remove_store(world.store);
    remove_store(world.other);
    rmdir(world.dir);
    free(world.good);
}

static void read_good(const char *path)
{
    FILE *f = fopen(path, "rb");

    FUZZ_MUST(f != NULL);
    world.good = malloc(1u << 20);
    FUZZ_MUST(world.good != NULL);
    world.good_len = fread(world.good, 1, 1u << 20, f);
    fclose(f);
    FUZZ_MUST(world.good_len > 0 && world.good_len < 1u << 20);
}

static void start(void)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_NOSYNC, .cluster_id = 7, .map_bytes = 64u << 20};
    struct command put = {.kind = COMMAND_PUT, .time_ns = 1, .put = {.key = slice_from_str("/a"), .value = slice_from_str("v")}};
    struct checkpoint_info info;
    struct store_batch *b;
    struct store *s;
    struct arena arena;
    struct result result;
    bool fresh;

    snprintf(world.dir, sizeof(world.dir), "%.60s/fuzz-checkpoint.XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    FUZZ_MUST(mkdtemp(world.dir) != NULL);
    atexit(remove_world);
    snprintf(world.file, sizeof(world.file), "%s/file", world.dir);
    snprintf(world.store, sizeof(world.store), "%s/store", world.dir);
    snprintf(world.other, sizeof(world.other), "%s/other", world.dir);
    FUZZ_MUST(store_open(world.store, &options, &s) == 0);
    arena_init(&arena);
    FUZZ_MUST(store_batch_begin(s, &b) == 0);
    FUZZ_MUST(store_apply(b, 1, 1, 0, &put, &arena, &result, &fresh) == 0);
    FUZZ_MUST(store_batch_set_membership(b, 1, slice_from_str("membership")) == 0);
    FUZZ_MUST(store_batch_advance(b, 1, 1) == 0 && store_batch_commit(b) == 0);
    arena_fini(&arena);
    FUZZ_MUST(checkpoint_write(s, &info) == 0);
    store_close(s);
    read_good(info.path);
    world.image_len = info.image_bytes;
    remove_store(world.store);
}

static void over(uint8_t *file, size_t begin, size_t end, struct slice in)
{
    size_t at = in.len > 1 ? begin + get_le16(in.data) % (end - begin) : begin;
    struct slice patch = in.len > 2 ? slice_make(in.data + 2, in.len - 2) : slice_make(NULL, 0);
    size_t n = patch.len < end - at ? patch.len : end - at;

    if (n > 0)
        memcpy(file + at, patch.data, n);
}

/* The file that the input stands for; malloc'ed. */
static uint8_t *make_file(uint8_t how, struct slice in, size_t *ret_len)
{
    uint8_t *file;

    if (how % 4 == 0) {
        file = malloc(in.len + 1);
        FUZZ_MUST(file != NULL);
        memcpy(file, in.data, in.len);
        *ret_len = in.len;
        return file;
    }
    file = malloc(world.good_len);
    FUZZ_MUST(file != NULL);
    memcpy(file, world.good, world.good_len);
    if (how % 4 == 1) {
        over(file, world.image_len, world.good_len - 4, in);
    } else {
        over(file, 0, world.image_len, in);
        put_le64(file + world.image_len + 8, crc32c(0, file, world.image_len));
    }
    put_le32(file + world.good_len - 4, crc32c(0, file + world.image_len, world.good_len - world.image_len - 4));
    *ret_len = world.good_len;
    return file;
}

static void write_file(uint8_t how, const uint8_t *data, size_t len)
{
    static const uint8_t zeros[SNAPSHOT_BLOCK_BYTES + SNAPSHOT_DIGEST_BYTES];
    int fd = open(world.file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t pad = (SNAPSHOT_BLOCK_BYTES - len % SNAPSHOT_BLOCK_BYTES) % SNAPSHOT_BLOCK_BYTES + SNAPSHOT_DIGEST_BYTES;

    FUZZ_MUST(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    if (how & 4)
        FUZZ_MUST(write(fd, zeros, pad) == (ssize_t)pad);
    close(fd);
}

static void try(bool image_is_good)
{
    struct checkpoint_info info, again;
    struct slice membership;
    struct arena arena;
    int rc = checkpoint_read_info(world.file, &info);

    FUZZ_MUST(known(rc));
    if (rc == 0)
        FUZZ_MUST(info.image_bytes <= info.bytes && info.revision >= 1 && info.compacted <= info.revision);
    arena_init(&arena);
    FUZZ_MUST(checkpoint_membership(world.file, &arena, &membership) == rc);
    arena_fini(&arena);
    rc = checkpoint_verify(world.file, &again);
    FUZZ_MUST(known(rc));
    /* LMDB believes its own pages: an image with a good sum is opened only if it is the one that was written. */
    if (rc < 0 || !image_is_good)
        return;
    FUZZ_MUST(mkdir(world.store, 0700) == 0);
    FUZZ_MUST(known(checkpoint_make(world.store, world.file, 7, 2)));
    remove_store(world.store);
    FUZZ_MUST(mkdir(world.other, 0700) == 0);
    rc = checkpoint_restore(world.other, world.file, 8, slice_from_str("new"), &again);
    FUZZ_MUST(known(rc));
    remove_store(world.other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file;
    size_t len;

    if (world.good == NULL)
        start();
    if (size < 1)
        return 0;
    file = make_file(data[0], slice_make(data + 1, size - 1), &len);
    write_file(data[0], file, len);
    try(data[0] % 4 == 1);
    free(file);
    return 0;
}
