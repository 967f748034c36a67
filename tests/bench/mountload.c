/* mountload - file operations against a directory, for tests/bench/mount.
 *
 *     mountload DIR [--processes N] [--seconds S] [--fsync] [--pid P,...] [--label TEXT] [--cases create,rewrite,...]
 *     mountload --watch DIR2 DIR [--rate N] [--count N] [--directories N] [--pid P,...] [--label TEXT]
 *
 * The first form runs each case in N processes, each in a directory of its own. The second writes new files in DIR at a rate and
 * takes the time from the return of each close() to its CLOSE_WRITE event in DIR2, which is the same directory on another mount. A line
 * of JSON for each. CPU is that of the processes named. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 20000
#define BUCKETS 1024   /* 16 for each doubling of nanoseconds */
#define WRITERS 8
#define LOST_AFTER_S 30

static const char *label = "", *pids = "";
static double seconds = 2;
static int do_fsync;

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static unsigned bucket_of(int64_t ns)
{
    unsigned top = 63 - (unsigned)__builtin_clzll((uint64_t)ns | 16);

    return (top - 4) * 16 + (unsigned)((uint64_t)ns >> (top - 4) & 15);
}

static double bucket_us(unsigned b) { return (double)((16 + b % 16) << (b / 16)) / 1000; }

static double percentile_us(const uint64_t *histogram, double part)
{
    uint64_t all = 0, sum = 0;

    for (unsigned b = 0; b < BUCKETS; b++)
        all += histogram[b];
    for (unsigned b = 0; b < BUCKETS; b++) {
        sum += histogram[b];
        if (all != 0 && (double)sum >= part * (double)all)
            return bucket_us(b);
    }
    return 0;
}

static double cpu_us(void)
{
    double all = 0;

    for (const char *at = pids; at != NULL && *at != 0;) {
        char path[64], text[1024];
        unsigned long user, system;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/stat", atoi(at));
        f = fopen(path, "re");
        if (f != NULL && fgets(text, sizeof(text), f) != NULL && strrchr(text, ')') != NULL &&
            sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
            all += (double)(user + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
        if (f != NULL)
            fclose(f);
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    return all;
}

/* ---- cases ---- */

struct worker { /* shared with the parent */
    uint64_t ops, errors, files;
    uint64_t histogram[BUCKETS];
};

static char content[512 * 1024];

static int write_file(const char *path, int flags, size_t size, size_t part)
{
    int fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0644), rc = 0;

    if (fd < 0)
        return -1;
    for (size_t at = 0; at < size && rc == 0; at += part)
        rc = write(fd, content, part) == (ssize_t)part ? 0 : -1;
    if (rc == 0 && do_fsync)
        rc = fsync(fd);
    return close(fd) < 0 ? -1 : rc;
}

static int read_file(const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (fd >= 0)
        close(fd);
    return n > 0 ? 0 : -1;
}

static int list_directory(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    if (d == NULL)
        return -1;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n >= 1000 ? 0 : -1;
}

static int sync_parent(const char *dir, int rc)
{
    int fd = rc == 0 && do_fsync ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) { /* what a disk needs for a name to stay */
        rc = fsync(fd);
        close(fd);
    }
    return rc;
}

static int operate(const char *name, const char *dir, uint64_t i)
{
    char path[8192], other[4096];
    struct stat st;

    snprintf(path, sizeof(path), "%s/f%llu", dir, (unsigned long long)i);
    if (strcmp(name, "create") == 0)
        return sync_parent(dir, write_file(path, O_CREAT | O_TRUNC, 256, 256));
    if (strcmp(name, "rewrite") == 0)
        return write_file(path, O_TRUNC, 256, 256);
    if (strcmp(name, "stat") == 0)
        return stat(path, &st);
    if (strcmp(name, "read") == 0)
        return read_file(path);
    if (strcmp(name, "unlink") == 0)
        return sync_parent(dir, unlink(path));
    if (strcmp(name, "rename") == 0) { /* there, and back */
        snprintf(other, sizeof(other), "%s/g%llu", dir, (unsigned long long)i);
        return sync_parent(dir, rename(path, other) < 0 ? -1 : rename(other, path));
    }
    if (strcmp(name, "big") == 0) {
        snprintf(path, sizeof(path), "%s/big", dir);
        return write_file(path, O_CREAT | O_TRUNC, 500 * 1024, 4096);
    }
    snprintf(path, sizeof(path), "%s/list", dir);
    return list_directory(path);
}

static void work(const char *name, const char *dir, struct worker *w, int64_t start_ns)
{
    int64_t end_ns = start_ns + (int64_t)(seconds * 1e9);
    uint64_t i = 0;

    while (now_ns() < start_ns)
        usleep(100);
    for (;;) {
        int64_t began_ns = now_ns(), took_ns;
        int rc;

        if (began_ns >= end_ns || (i == FILES_MAX && strcmp(name, "create") == 0) || (i == w->files && strcmp(name, "unlink") == 0))
            break;
        rc = operate(name, dir, strcmp(name, "create") == 0 || w->files == 0 ? i : i % w->files);
        took_ns = now_ns() - began_ns;
        i++;
        if (rc < 0) {
            if (w->errors++ == 0)
                fprintf(stderr, "mountload: %s in %s: %s\n", name, dir, strerror(errno));
            continue;
        }
        w->ops++;
        w->histogram[bucket_of(took_ns)]++;
    }
    if (strcmp(name, "create") == 0)
        w->files = i;
}

static void prepare_list(const char *dir)
{
    char path[64];

    if (chdir(dir) < 0 || mkdir("list", 0755) < 0)
        return;
    for (int i = 0; i < 1000; i++) {
        snprintf(path, sizeof(path), "list/name%d", i);
        if (write_file(path, O_CREAT, 0, 1) < 0)
            return;
    }
}

static int run_case(const char *name, const char *top, int processes, struct worker *workers)
{
    static uint64_t histogram[BUCKETS];
    uint64_t ops = 0, errors = 0;
    double cpu = cpu_us(), took_s;
    int64_t start_ns = now_ns() + 50000000;

    for (int p = 0; p < processes; p++) {
        if (fork() == 0) {
            char dir[3000];

            snprintf(dir, sizeof(dir), "%s/p%d", top, p);
            work(name, dir, &workers[p], start_ns);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    took_s = (double)(now_ns() - start_ns) / 1e9;
    cpu = cpu_us() - cpu;
    memset(histogram, 0, sizeof(histogram));
    for (int p = 0; p < processes; p++) {
        ops += workers[p].ops;
        errors += workers[p].errors;
        for (unsigned b = 0; b < BUCKETS; b++)
            histogram[b] += workers[p].histogram[b];
        workers[p].ops = workers[p].errors = 0;
        memset(workers[p].histogram, 0, sizeof(workers[p].histogram));
    }
    printf("{\"case\":\"%s\",\"processes\":%d,\"label\":\"%s\",\"ops_per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"cpu_us\":%.1f,"
           "\"errors\":%llu}\n",
           name, processes, label, (double)ops / took_s, percentile_us(histogram, 0.5), percentile_us(histogram, 0.99),
           ops != 0 ? cpu / (double)ops : 0, (unsigned long long)errors);
    fflush(stdout);
    return errors == 0 ? 0 : 1;
}

static int run_cases(const char *top, int processes, char *cases)
{
    struct worker *workers = mmap(NULL, sizeof(*workers) * (size_t)processes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *save = NULL, path[8192];
    int rc = 0;

    if (workers == MAP_FAILED)
        return 1;
    for (int p = 0; p < processes; p++) {
        snprintf(path, sizeof(path), "%s/p%d", top, p);
        if (mkdir(path, 0755) < 0 && errno != EEXIST) {
            fprintf(stderr, "mountload: %s: %s\n", path, strerror(errno));
            return 1;
        }
        if (strstr(cases, "readdir") != NULL && fork() == 0) {
            prepare_list(path);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    for (char *name = strtok_r(cases, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save))
        rc |= run_case(name, top, processes, workers);
    return rc;
}

/* ---- from close() there to the event here ---- */

struct run {
    const char *dir;
    long count, directories;
    double rate;
    int64_t start_ns;
    int64_t *closed_ns, *event_ns; /* 0: not yet */
    int fd;
    int *watches;                  /* of each directory */
    int overflow;
};

struct writer {
    struct run *run;
    int number;
    pthread_t thread;
};

static void *write_files(void *arg)
{
    struct writer *w = arg;
    struct run *r = w->run;

    for (long i = w->number; i < r->count; i += WRITERS) {
        int64_t at_ns = r->start_ns + (int64_t)((double)i * 1e9 / r->rate);
        char path[8192];

        while (now_ns() < at_ns)
            usleep((useconds_t)((at_ns - now_ns()) / 1000 + 1));
        snprintf(path, sizeof(path), "%s/d%ld/f%ld", r->dir, i % r->directories, i);
        if (write_file(path, O_CREAT, 256, 256) < 0)
            fprintf(stderr, "mountload: %s: %s\n", path, strerror(errno));
        __atomic_store_n(&r->closed_ns[i], now_ns(), __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Until all events are here, or none has come for long. */
static long read_events(struct run *r)
{
    struct pollfd p = {r->fd, POLLIN, 0};
    char buf[65536] __attribute__((aligned(8)));
    long seen = 0;

    while (seen < r->count && poll(&p, 1, LOST_AFTER_S * 1000) > 0) {
        ssize_t n = read(r->fd, buf, sizeof(buf));
        int64_t now = now_ns();

        for (char *at = buf; n > 0 && at < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)at;
            long i = e->len != 0 && e->name[0] == 'f' ? atol(e->name + 1) : -1;

            if ((e->mask & IN_Q_OVERFLOW) != 0)
                r->overflow = 1;
            if (i >= 0 && i < r->count && (e->mask & IN_CLOSE_WRITE) != 0 && r->event_ns[i] == 0) {
                r->event_ns[i] = now;
                seen++;
            }
            at += sizeof(*e) + e->len;
        }
    }
    return seen;
}

static int run_latency(struct run *r, const char *watched)
{
    static uint64_t histogram[BUCKETS];
    struct writer writers[WRITERS];
    double cpu;
    long seen;

    r->closed_ns = calloc((size_t)r->count, sizeof(int64_t));
    r->event_ns = calloc((size_t)r->count, sizeof(int64_t));
    r->fd = inotify_init1(IN_CLOEXEC);
    if (r->closed_ns == NULL || r->event_ns == NULL || r->fd < 0)
        return 1;
    for (long d = 0; d < r->directories; d++) {
        char path[8192];
        int tries = 0;

        snprintf(path, sizeof(path), "%s/d%ld", r->dir, d);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return 1;
        snprintf(path, sizeof(path), "%s/d%ld", watched, d);
        while (inotify_add_watch(r->fd, path, IN_CLOSE_WRITE) < 0)
            if (errno != ENOENT || tries++ > 1000 || usleep(10000) < 0) {
                fprintf(stderr, "mountload: watch on %s: %s\n", path, strerror(errno));
                return 1;
            }
    }
    cpu = cpu_us();
    r->start_ns = now_ns() + 100000000;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.run = r, .number = i};
        if (pthread_create(&writers[i].thread, NULL, write_files, &writers[i]) != 0)
            return 1;
    }
    seen = read_events(r);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    cpu = cpu_us() - cpu;
    for (long i = 0; i < r->count; i++)
        if (r->event_ns[i] != 0) /* an event that is here before close() has returned took nothing */
            histogram[bucket_of(r->event_ns[i] > r->closed_ns[i] ? r->event_ns[i] - r->closed_ns[i] : 1)]++;
    printf("{\"case\":\"event at %.0f/s\",\"processes\":1,\"label\":\"%s\",\"ops_per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"cpu_us\":%.1f,\"errors\":%ld}\n",
           r->rate, label, (double)seen * 1e9 / (double)(now_ns() - r->start_ns), percentile_us(histogram, 0.5),
           percentile_us(histogram, 0.99), cpu / (double)r->count, r->count - seen);
    if (r->overflow)
        fprintf(stderr, "mountload: the reader's queue ran over\n");
    return seen == r->count && !r->overflow ? 0 : 1;
}

int main(int argc, char **argv)
{
    char cases[256] = "create,rewrite,stat,read,readdir,rename,big,unlink";
    struct run r = {.count = 100, .directories = 1, .rate = 100};
    const char *watched = NULL;
    int processes = 1;

    memset(content, 'x', sizeof(content));
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--fsync") == 0) {
            do_fsync = 1;
            continue;
        }
        if (argv[i][0] != '-') {
            r.dir = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--processes") == 0)
            processes = atoi(value);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(value);
        else if (strcmp(argv[i], "--pid") == 0)
            pids = value;
        else if (strcmp(argv[i], "--label") == 0)
            label = value;
        else if (strcmp(argv[i], "--cases") == 0)
            snprintf(cases, sizeof(cases), "%s", value);
        else if (strcmp(argv[i], "--watch") == 0)
            watched = value;
        else if (strcmp(argv[i], "--rate") == 0)
            r.rate = atof(value);
        else if (strcmp(argv[i], "--count") == 0)
            r.count = atol(value);
        else if (strcmp(argv[i], "--directories") == 0)
            r.directories = atol(value);
        else
            return 2;
        i++;
    }
    if (r.dir == NULL || processes < 1 || r.count < 1 || r.directories < 1 || r.rate <= 0)
        return 2;
    return watched != NULL ? run_latency(&r, watched) : run_cases(r.dir, processes, cases);
}
