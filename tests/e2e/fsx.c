/* fsx - random I/O on one file, each step compared with a model in memory.
 *
 *     fsx FILE [--other FILE]... [--seed N] [--seconds S] [--max-bytes N]
 *
 * Two handles that read and write and one that appends are used at the same time, with mappings, truncation, fsync, closing and
 * opening anew. After what commits (close, fsync) each --other, the same file on another mount, must have the content of the
 * model to who opens it. On a difference it says the seed and the last steps, and ends with status 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEPS_KEPT 24
#define OTHERS_MAX 8

struct fsx {
    const char *path, *others[OTHERS_MAX];
    size_t n_others;
    uint64_t random;
    size_t max, size;
    uint8_t *model, *scratch;
    int fd[2], append_fd;
    unsigned long step;
    char kept[STEPS_KEPT][96];
};

static uint64_t next(struct fsx *x)
{
    uint64_t z = x->random += 0x9e3779b97f4a7c15ULL;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static size_t below(struct fsx *x, size_t n) { return n != 0 ? (size_t)(next(x) % n) : 0; }

static void note(struct fsx *x, const char *what, size_t a, size_t b)
{
    snprintf(x->kept[x->step % STEPS_KEPT], sizeof(x->kept[0]), "%lu: %s %zu %zu", x->step, what, a, b);
}

static _Noreturn void fail(struct fsx *x, const char *what)
{
    printf("fsx: %s, %s (%s); size %zu; the last steps:\n", x->path, what, strerror(errno), x->size);
    for (unsigned long s = x->step > STEPS_KEPT ? x->step - STEPS_KEPT + 1 : 1; s <= x->step; s++)
        printf("    %s\n", x->kept[s % STEPS_KEPT]);
    exit(1);
}

static void compare(struct fsx *x, const uint8_t *got, size_t at, size_t len, const char *where)
{
    for (size_t i = 0; i < len; i++) {
        if (got[i] != x->model[at + i]) {
            printf("fsx: at %zu: 0x%02x, expected 0x%02x\n", at + i, got[i], x->model[at + i]);
            errno = 0;
            fail(x, where);
        }
    }
}

static void open_all(struct fsx *x, int flags)
{
    for (int i = 0; i < 2; i++) {
        x->fd[i] = open(x->path, O_RDWR | O_CREAT | O_CLOEXEC | (i == 0 ? flags : 0), 0644);
        if (x->fd[i] < 0)
            fail(x, "open");
    }
    x->append_fd = open(x->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (x->append_fd < 0)
        fail(x, "open to append");
}

static void close_all(struct fsx *x)
{
    if (close(x->fd[0]) < 0 || close(x->fd[1]) < 0 || close(x->append_fd) < 0)
        fail(x, "close");
}

static void check_file(struct fsx *x, const char *path, const char *where)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t at = 0;
    ssize_t n;

    if (fd < 0)
        fail(x, where);
    while ((n = read(fd, x->scratch, x->max + 1)) > 0) {
        if (at + (size_t)n > x->size)
            fail(x, where);
        compare(x, x->scratch, at, (size_t)n, where);
        at += (size_t)n;
    }
    if (n < 0 || at != x->size)
        fail(x, where);
    close(fd);
}

/* An empty file that nothing was written to is committed after close() has returned: to look at it elsewhere takes an fsync. */
static void sync_if_empty(struct fsx *x)
{
    if (x->size == 0 && fsync(x->fd[0]) < 0)
        fail(x, "fsync");
}

static void check_others(struct fsx *x)
{
    for (size_t i = 0; i < x->n_others; i++)
        check_file(x, x->others[i], "the file on another mount");
}

static void fill(struct fsx *x, uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(next(x) | 1);
}

static void grow_to(struct fsx *x, size_t size)
{
    if (size > x->size) {
        memset(x->model + x->size, 0, size - x->size);
        x->size = size;
    }
}

static void do_write(struct fsx *x, int fd)
{
    size_t at = below(x, x->max), len = below(x, x->max - at < 20000 ? x->max - at : 20000);

    note(x, "write", at, len);
    fill(x, x->scratch, len);
    if (pwrite(fd, x->scratch, len, (off_t)at) != (ssize_t)len)
        fail(x, "write");
    if (len == 0)
        return;
    grow_to(x, at + len);
    memcpy(x->model + at, x->scratch, len);
}

static void do_append(struct fsx *x)
{
    size_t len = below(x, 3000);

    if (x->size + len > x->max)
        return;
    note(x, "append", x->size, len);
    fill(x, x->scratch, len);
    if (write(x->append_fd, x->scratch, len) != (ssize_t)len)
        fail(x, "append");
    memcpy(x->model + x->size, x->scratch, len);
    x->size += len;
}

static void do_read(struct fsx *x, int fd)
{
    size_t at = below(x, x->size + 100), len = below(x, 20000);
    size_t want = at >= x->size ? 0 : x->size - at < len ? x->size - at : len;
    ssize_t n;

    note(x, "read", at, len);
    n = pread(fd, x->scratch, len, (off_t)at);
    if (n < 0 || (size_t)n != want)
        fail(x, "read: the length");
    compare(x, x->scratch, at, want, "read");
}

static void do_truncate(struct fsx *x, int fd)
{
    size_t size = below(x, x->max);

    note(x, "truncate", size, x->size);
    if (ftruncate(fd, (off_t)size) < 0)
        fail(x, "truncate");
    grow_to(x, size);
    x->size = size;
}

static void do_map(struct fsx *x, int fd)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), at, len, start;
    uint8_t *map;

    if (x->size < 2)
        return;
    at = below(x, x->size);
    len = below(x, x->size - at < 9000 ? x->size - at : 9000) + 1;
    if (at + len > x->size)
        return;
    start = at / page * page;
    note(x, "map", at, len);
    map = mmap(NULL, at + len - start, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
    if (map == MAP_FAILED)
        fail(x, "map");
    compare(x, map + (at - start), at, len, "read through a mapping");
    fill(x, x->scratch, len);
    memcpy(map + (at - start), x->scratch, len);
    memcpy(x->model + at, x->scratch, len);
    if (msync(map, at + len - start, MS_SYNC) < 0 || munmap(map, at + len - start) < 0)
        fail(x, "msync");
}

static void do_stat(struct fsx *x, int fd)
{
    struct stat st;

    note(x, "stat", 0, 0);
    if (fstat(fd, &st) < 0 || (size_t)st.st_size != x->size)
        fail(x, "fstat: the size");
    if (stat(x->path, &st) < 0 || (size_t)st.st_size != x->size)
        fail(x, "stat: the size");
}

static void one_step(struct fsx *x)
{
    int fd = x->fd[below(x, 2)];

    x->step++;
    switch (below(x, 20)) {
    case 0: case 1: case 2: case 3: case 4:
        do_write(x, fd);
        break;
    case 5: case 6: case 7: case 8:
        do_read(x, fd);
        break;
    case 9:
        do_append(x);
        break;
    case 10: case 11:
        do_truncate(x, fd);
        break;
    case 12: case 13:
        do_map(x, fd);
        break;
    case 14:
        do_stat(x, fd);
        break;
    case 15:
        note(x, "a reader", 0, 0);
        check_file(x, x->path, "the file to a reader here");
        break;
    case 16:
        note(x, "fsync", 0, 0);
        if (fsync(fd) < 0)
            fail(x, "fsync");
        check_others(x);
        break;
    case 17:
        note(x, "close and open", 0, 0);
        sync_if_empty(x);
        close_all(x);
        check_others(x);
        check_file(x, x->path, "the closed file");
        open_all(x, 0);
        break;
    case 18:
        if (below(x, 4) != 0)
            break;
        note(x, "close and open with O_TRUNC", 0, 0);
        close_all(x);
        open_all(x, O_TRUNC);
        x->size = 0;
        break;
    default:
        note(x, "unlink and create", 0, 0);
        if (below(x, 8) != 0)
            break;
        close_all(x);
        if (unlink(x->path) < 0)
            fail(x, "unlink");
        x->size = 0;
        open_all(x, 0);
    }
}

int main(int argc, char **argv)
{
    struct fsx x = {.max = 120000, .random = (uint64_t)time(NULL)};
    double seconds = 10;
    struct timespec now, end;
    uint64_t seed;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (argv[i][0] != '-') {
            x.path = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--other") == 0 && x.n_others < OTHERS_MAX)
            x.others[x.n_others++] = value;
        else if (strcmp(argv[i], "--seed") == 0)
            x.random = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(value);
        else if (strcmp(argv[i], "--max-bytes") == 0)
            x.max = (size_t)atol(value);
        else
            return 2;
        i++;
    }
    seed = x.random;
    if (x.path == NULL || x.max < 10)
        return 2;
    printf("fsx: seed %llu\n", (unsigned long long)seed);
    x.model = malloc(x.max + 1);
    x.scratch = malloc(x.max + 20000 + 1);
    if (x.model == NULL || x.scratch == NULL)
        return 2;
    open_all(&x, O_TRUNC);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)seconds;
    do {
        for (int i = 0; i < 16; i++)
            one_step(&x);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
    sync_if_empty(&x);
    close_all(&x);
    check_others(&x);
    printf("fsx: %lu steps\n", x.step);
    return 0;
}
