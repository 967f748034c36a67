#include "raft/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"

static int __attribute__((format(printf, 4, 5))) say(int rc, char *text, size_t size, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, size, format, ap);
    va_end(ap);
    return rc;
}

/* ---- the file ---- */

void identity_encode(const struct identity *id, struct bytes *out)
{
    char text[IDENTITY_MAX_BYTES];
    int n = snprintf(text, sizeof(text), "quorumfs-data %u\ncluster %016" PRIx64 "\nmember %016" PRIx64 "\n", id->format,
                     id->cluster_id, id->member_id);
    uint32_t crc;

    if (id->format > 1)
        n += snprintf(text + n, sizeof(text) - (size_t)n,
                      "data %016" PRIx64 "\ninstance %016" PRIx64 "\nbegin %s\n", id->data_id, id->instance,
                      id->joined ? "joined" : "new");
    n += snprintf(text + n, sizeof(text) - (size_t)n, "name %s\n", id->name);
    crc = crc32c(0, text, (size_t)n);

    n += snprintf(text + n, sizeof(text) - (size_t)n, "crc32c %08x\n", crc);
    bytes_raw(out, text, (size_t)n);
}

/* The line at *at, which must begin with key and a blank; without its newline. */
static bool take_line(const char **at, const char *key, const char **ret_value, size_t *ret_len)
{
    const char *end = strchr(*at, '\n');
    size_t len = strlen(key);

    if (end == NULL || strncmp(*at, key, len) != 0 || (*at)[len] != ' ')
        return false;
    *ret_value = *at + len + 1;
    *ret_len = (size_t)(end - *ret_value);
    *at = end + 1;
    return true;
}

static bool take_hex(const char **at, const char *key, size_t digits, uint64_t *ret_v)
{
    const char *value;
    uint64_t v = 0;
    size_t len;

    if (!take_line(at, key, &value, &len) || len != digits)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (memchr("0123456789abcdef", value[i], 16) == NULL)
            return false;
        v = v << 4 | (uint64_t)(value[i] <= '9' ? value[i] - '0' : value[i] - 'a' + 10);
    }
    *ret_v = v;
    return true;
}

static bool take_begin(const char **at, struct identity *id)
{
    const char *value;
    size_t len;

    if (!take_hex(at, "data", 16, &id->data_id) || !take_hex(at, "instance", 16, &id->instance) ||
        !take_line(at, "begin", &value, &len) || id->data_id == 0)
        return false;
    id->joined = len == 6 && memcmp(value, "joined", 6) == 0;
    return id->joined || (len == 3 && memcmp(value, "new", 3) == 0);
}

int identity_decode(struct slice in, struct identity *ret_id)
{
    char text[IDENTITY_MAX_BYTES + 1];
    struct identity id = {.format = 0};
    const char *at = text, *value;
    uint64_t crc;
    size_t len;

    if (in.len == 0 || in.len > IDENTITY_MAX_BYTES || memchr(in.data, 0, in.len) != NULL)
        return -EBADMSG;
    memcpy(text, in.data, in.len);
    text[in.len] = '\0';
    if (!take_line(&at, "quorumfs-data", &value, &len) || len == 0 || len > 9)
        return -EBADMSG;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return -EBADMSG;
        id.format = id.format * 10 + (uint32_t)(value[i] - '0');
    }
    if (id.format > IDENTITY_FORMAT)
        return -EPROTONOSUPPORT; /* the rest is that format's business */
    if (id.format == 0 || !take_hex(&at, "cluster", 16, &id.cluster_id) || !take_hex(&at, "member", 16, &id.member_id))
        return -EBADMSG;
    id.data_id = id.cluster_id;
    if (id.format > 1 && !take_begin(&at, &id))
        return -EBADMSG;
    if (!take_line(&at, "name", &value, &len) || len == 0 || len > CONFIG_NAME_MAX_BYTES)
        return -EBADMSG;
    memcpy(id.name, value, len);
    len = (size_t)(at - text);
    if (!take_hex(&at, "crc32c", 8, &crc) || *at != '\0' || crc != crc32c(0, text, len) || id.cluster_id == 0 ||
        id.member_id == 0)
        return -EBADMSG;
    *ret_id = id;
    return 0;
}

/* ---- the directory ---- */

static bool is_there(const struct config *c, const char *name)
{
    char path[4096];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", c->data_dir, name);
    return lstat(path, &st) == 0;
}

/* What may lie in a directory that is new to us: the traces of a first start that got no further, and a file system's. */
static bool may_be_new(const char *name)
{
    static const char *const names[] = {".", "..", "lock", "identity.tmp", "fixtures", "lost+found"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Nothing may be written into, or given away of, a directory with somebody else's files. */
static int look_inside(const struct config *c, char *text, size_t size)
{
    struct dirent *e;
    int rc = 0;
    DIR *dir;

    if (is_there(c, "member/wal") || is_there(c, "member/snap"))
        return say(-EEXIST, text, size, "data directory %s is one of etcd; its data are not converted", c->data_dir);
    if (is_there(c, "identity"))
        return 0;
    dir = opendir(c->data_dir);
    if (dir == NULL)
        return say(-errno, text, size, "data directory %s: %s", c->data_dir, strerror(errno));
    while (rc == 0 && (e = readdir(dir)) != NULL)
        if (!may_be_new(e->d_name))
            rc = say(-EUCLEAN, text, size, "data directory %s holds '%s' but no file identity: it is not a node's, or damaged",
                     c->data_dir, e->d_name);
    closedir(dir);
    return rc;
}

/* The directory and what an earlier run as root left in it. */
static int give_away(const struct config *c, int uid, int gid, char *text, size_t size)
{
    char *paths[] = {c->data_dir, NULL};
    FTS *walk;
    FTSENT *e;
    int rc = 0;

    walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (walk == NULL)
        return say(-errno, text, size, "data directory %s: %s", c->data_dir, strerror(errno));
    while (rc == 0 && (e = fts_read(walk)) != NULL)
        if (e->fts_info != FTS_DP && lchown(e->fts_path, (uid_t)uid, (gid_t)gid) < 0)
            rc = say(-errno, text, size, "data directory %s: %s: %s", c->data_dir, e->fts_path, strerror(errno));
    fts_close(walk);
    if (rc == 0 && chmod(c->data_dir, 0750) < 0)
        rc = say(-errno, text, size, "data directory %s: %s", c->data_dir, strerror(errno));
    return rc;
}

int identity_prepare(const struct config *c, int uid, int gid, char *ret_text, size_t text_size)
{
    mode_t mode = gid >= 0 ? 0750 : 0700;
    struct stat st;
    int rc;

    if (mkdir(c->data_dir, mode) == 0) {
        if (chmod(c->data_dir, mode) < 0) /* whatever the umask is */
            return say(-errno, ret_text, text_size, "data directory %s: %s", c->data_dir, strerror(errno));
    } else if (errno != EEXIST) {
        return say(-errno, ret_text, text_size, "data directory %s cannot be made: %s", c->data_dir, strerror(errno));
    }
    if (stat(c->data_dir, &st) < 0)
        return say(-errno, ret_text, text_size, "data directory %s: %s", c->data_dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return say(-ENOTDIR, ret_text, text_size, "data directory %s: %s", c->data_dir, strerror(ENOTDIR));
    rc = look_inside(c, ret_text, text_size);
    if (rc < 0 || uid < 0 || (st.st_uid == (uid_t)uid && st.st_gid == (gid_t)gid))
        return rc;
    return give_away(c, uid, gid, ret_text, text_size);
}

int identity_lock(const struct config *c, int *ret_fd, char *ret_text, size_t text_size)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/lock", c->data_dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return say(-errno, ret_text, text_size, "data directory %s cannot be written: %s", c->data_dir,
                   strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;

        close(fd);
        return say(rc, ret_text, text_size, "data directory %s is in use by another process", c->data_dir);
    }
    *ret_fd = fd;
    return 0;
}

static int read_identity(const struct config *c, struct identity *ret_id, char *ret_text, size_t text_size)
{
    char path[4096];
    uint8_t data[IDENTITY_MAX_BYTES + 1];
    ssize_t n;
    int fd, rc;

    snprintf(path, sizeof(path), "%s/identity", c->data_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT : say(-errno, ret_text, text_size, "%s: %s", path, strerror(errno));
    n = read(fd, data, sizeof(data));
    if (n < 0)
        rc = say(-errno, ret_text, text_size, "%s: %s", path, strerror(errno));
    else
        rc = identity_decode(slice_make(data, (size_t)n), ret_id);
    close(fd);
    if (rc == -EPROTONOSUPPORT)
        return say(rc, ret_text, text_size, "data directory %s is of a newer format than this program knows (%d)",
                   c->data_dir, IDENTITY_FORMAT);
    if (rc == -EBADMSG)
        return say(-EUCLEAN, ret_text, text_size, "data directory %s: the file identity is damaged", c->data_dir);
    return rc;
}

uint64_t identity_new_instance(void)
{
    uint64_t v = 0;

    while (v == 0 || v > UINT64_MAX / 2)
        if (getrandom(&v, sizeof(v), 0) != sizeof(v))
            v = 0;
    return v;
}

int identity_check(const struct config *c, struct identity *ret_id, bool *ret_new, char *ret_text, size_t text_size)
{
    struct identity id;
    int rc;

    rc = look_inside(c, ret_text, text_size);
    if (rc < 0)
        return rc;
    rc = read_identity(c, &id, ret_text, text_size);
    if (rc == -ENOENT) {
        id = (struct identity){.format = IDENTITY_FORMAT, .joined = c->existing, .instance = identity_new_instance()};
        if (!c->existing) {
            id.cluster_id = id.data_id = c->cluster_id;
            id.member_id = c->members[c->self].id;
        }
        snprintf(id.name, sizeof(id.name), "%s", c->name);
        *ret_id = id;
        *ret_new = true;
        return 0;
    }
    if (rc < 0)
        return rc;
    /* Once members have changed the --initial- flags describe the past: "existing" says not to look at them. */
    if (c->initial_given && !c->existing) {
        if (id.data_id != c->cluster_id)
            return say(-EXDEV, ret_text, text_size,
                       "data directory %s belongs to another cluster (%016" PRIx64 ", the flags say %016" PRIx64 ")",
                       c->data_dir, id.cluster_id, c->cluster_id);
        if (id.member_id != c->members[c->self].id)
            return say(-EXDEV, ret_text, text_size, "data directory %s belongs to another member of the cluster, '%s'",
                       c->data_dir, id.name);
    }
    *ret_id = id;
    *ret_new = false;
    return 0;
}

static int write_all(int fd, struct slice s)
{
    while (s.len != 0) {
        ssize_t n = write(fd, s.data, s.len);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            s = slice_make(s.data + n, s.len - (size_t)n);
    }
    return 0;
}

int identity_create(const struct config *c, const struct identity *id, char *ret_text, size_t text_size)
{
    int dir = open(c->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, rc = 0;
    struct bytes b;

    bytes_init(&b);
    identity_encode(id, &b);
    if (bytes_status(&b) < 0) {
        rc = -ENOMEM;
        goto done;
    }
    fd = dir >= 0 ? openat(dir, "identity.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (fd < 0) {
        rc = -errno;
        goto done;
    }
    rc = write_all(fd, bytes_slice(&b));
    if (rc == 0 && (fsync(fd) < 0 || renameat(dir, "identity.tmp", dir, "identity") < 0 || fsync(dir) < 0))
        rc = -errno;
done:
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    bytes_fini(&b);
    if (rc < 0)
        return say(rc, ret_text, text_size, "data directory %s cannot be written: %s", c->data_dir, strerror(-rc));
    return 0;
}

bool identity_force(struct identity *id)
{
    if (id->cluster_id != id->data_id)
        return false;
    id->format = IDENTITY_FORMAT;
    id->cluster_id = identity_new_instance();
    if (id->instance == 0)
        id->instance = identity_new_instance();
    return true;
}
