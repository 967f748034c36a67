/* fileop - file operations one by one, as its arguments say, for the tests of the mount's events. Ends with status 1 and the
 * operation that failed, unless the word before it is "fails".
 *
 *     fileop open f w,creat,excl write text fsync close   rename f g noreplace   fails link g h
 *
 * The descriptor of the last open is what write, fsync and the like are about. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fd = -1;

static int flags_of(const char *words)
{
    static const struct {
        const char *name;
        int flag;
    } known[] = {{"r", O_RDONLY},     {"w", O_WRONLY},       {"rw", O_RDWR},     {"creat", O_CREAT},
                 {"excl", O_EXCL},    {"trunc", O_TRUNC},    {"append", O_APPEND}, {"sync", O_SYNC},
                 {"noreplace", RENAME_NOREPLACE},            {"exchange", RENAME_EXCHANGE}, {"plain", 0}};
    char copy[256], *save = NULL;
    int flags = 0;

    snprintf(copy, sizeof(copy), "%s", words);
    for (char *word = strtok_r(copy, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save))
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (strcmp(word, known[i].name) == 0)
                flags |= known[i].flag;
    return flags;
}

static int open_file(char **a) { return (fd = open(a[0], flags_of(a[1]) | O_CLOEXEC, 0644)) < 0 ? -1 : 0; }
static int close_file(char **a) { return close(fd); }
static int write_text(char **a) { return write(fd, a[0], strlen(a[0])) == (ssize_t)strlen(a[0]) ? 0 : -1; }
static int sync_file(char **a) { return fsync(fd); }
static int cut_open(char **a) { return ftruncate(fd, atol(a[0])); }
static int cut(char **a) { return truncate(a[0], atol(a[1])); }
static int allocate(char **a) { return fallocate(fd, 0, 0, atol(a[0])); }
static int change_mode_open(char **a) { return fchmod(fd, (mode_t)strtol(a[0], NULL, 8)); }
static int change_mode(char **a) { return chmod(a[0], (mode_t)strtol(a[1], NULL, 8)); }
static int change_owner(char **a) { return lchown(a[0], (uid_t)atoi(a[1]), (gid_t)atoi(a[2])); }
static int touch_open(char **a) { return futimens(fd, NULL); }
static int move(char **a) { return renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], (unsigned)flags_of(a[2])); }
static int make_node(char **a) { return mknod(a[0], S_IFREG | 0644, 0); }
static int make_fifo(char **a) { return mkfifo(a[0], 0644); }
static int make_dir(char **a) { return mkdir(a[0], 0755); }
static int remove_dir(char **a) { return rmdir(a[0]); }
static int remove_file(char **a) { return unlink(a[0]); }
static int make_symlink(char **a) { return symlink(a[0], a[1]); }
static int make_link(char **a) { return link(a[0], a[1]); }
static int set_attribute(char **a) { return setxattr(a[0], a[1], a[2], strlen(a[2]), 0); }
static int remove_attribute(char **a) { return removexattr(a[0], a[1]); }

static int write_at(char **a)
{
    return pwrite(fd, a[1], strlen(a[1]), atol(a[0])) == (ssize_t)strlen(a[1]) ? 0 : -1;
}

static int set_times(char **a)
{
    const struct timespec times[2] = {{981158400, 0}, {atol(a[1]), 5}};

    return utimensat(AT_FDCWD, a[0], times, AT_SYMLINK_NOFOLLOW);
}

static int write_mapped(char **a)
{
    struct stat st;
    char *map;

    if (fstat(fd, &st) < 0)
        return -1;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -1;
    memcpy(map + atol(a[0]), a[1], strlen(a[1]));
    return munmap(map, (size_t)st.st_size);
}

static int copy_range(char **a)
{
    int from = open(a[0], O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;

    if (from >= 0) {
        n = copy_file_range(from, NULL, fd, NULL, 1 << 20, 0);
        close(from);
    }
    return n < 0 ? -1 : 0;
}

static int bind_socket(char **a)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    snprintf(to.sun_path, sizeof(to.sun_path), "%s", a[0]);
    rc = bind(s, (struct sockaddr *)&to, sizeof(to));
    close(s);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int arguments;
        int (*run)(char **a);
    } table[] = {{"open", 2, open_file},       {"close", 0, close_file},     {"write", 1, write_text},
                 {"pwrite", 2, write_at},      {"fsync", 0, sync_file},      {"ftruncate", 1, cut_open},
                 {"truncate", 2, cut},         {"fallocate", 1, allocate},   {"fchmod", 1, change_mode_open},
                 {"chmod", 2, change_mode},    {"chown", 3, change_owner},   {"futimens", 0, touch_open},
                 {"utimes", 2, set_times},     {"rename", 3, move},          {"mknod", 1, make_node},
                 {"mkfifo", 1, make_fifo},     {"mkdir", 1, make_dir},       {"rmdir", 1, remove_dir},
                 {"unlink", 1, remove_file},   {"symlink", 2, make_symlink}, {"link", 2, make_link},
                 {"setxattr", 3, set_attribute}, {"removexattr", 2, remove_attribute}, {"mmap", 2, write_mapped},
                 {"copy", 1, copy_range},      {"bind", 1, bind_socket}};
    const size_t known = sizeof(table) / sizeof(table[0]);
    int fails = 0;

    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        int rc;

        if (strcmp(argv[i], "fails") == 0) {
            fails = 1;
            continue;
        }
        while (k < known && strcmp(argv[i], table[k].name) != 0)
            k++;
        if (k == known || i + table[k].arguments >= argc) {
            fprintf(stderr, "fileop: %s: no such operation, or not enough arguments\n", argv[i]);
            return 2;
        }
        rc = table[k].run(argv + i + 1);
        if ((rc != 0) != fails) {
            fprintf(stderr, "fileop: %s %s: %s\n", argv[i], table[k].arguments > 0 ? argv[i + 1] : "",
                    rc != 0 ? strerror(errno) : "it should have failed");
            return 1;
        }
        fails = 0;
        i += table[k].arguments;
    }
    return 0;
}
