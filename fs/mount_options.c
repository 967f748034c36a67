#include "fs/mount_options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/command.h"

#define TIMEOUT_DEFAULT_MS 10000
#define LOCK_TTL_DEFAULT_S 10
#define LOCK_TTL_MIN_S 2
#define LOCK_TTL_MAX_S 3600
#define TIMEOUT_MAX_S 3600

const char mount_options_help[] =
    "usage: quorumfs MOUNTPOINT -o node=SOCKET[,OPTION...]\n"
    "       quorumfs SOCKET MOUNTPOINT [-o OPTION,...]\n"
    "Shows the keys of a quorumfs cluster as files. Stays in the foreground in the first form; in the second, which is\n"
    "mount(8)'s, it returns when the mount can be used, and logs to syslog then.\n"
    "  -o node=SOCKET         local socket of a node (DATA-DIR/node.sock)\n"
    "  -o prefix=KEY          mount the keys below this one; default /\n"
    "  -o timeout=SECONDS     bound of every wait for the cluster; default 10\n"
    "  -o lock_ttl=SECONDS    how long file locks outlive a mount that is not heard of; default 10\n"
    "  -o consistency=local   never ask the cluster before reading\n"
    "  -o noquorum=stale      read on when there is no quorum\n"
    "  -o allow_other         for all users of this machine\n"
    "  -o uid=N,gid=N,umask=N owner and mode of keys that have none of their own\n"
    "  -o max_file_bytes=N    largest file; default 8388608, which is also the most\n"
    "  -o ro                  read-only\n"
    "  -f                     stay in the foreground\n"
    "  --log-level LEVEL      debug, info, warn or error; default info\n"
    "  --version, --help\n"
    "The man page quorumfs(1) and docs/mount.md say more.\n";

static int fail(char *text, size_t n, const char *format, const char *arg)
{
    snprintf(text, n, format, arg);
    return -EINVAL;
}

static bool parse_number(const char *text, int base, uint64_t max, uint64_t *ret_value)
{
    char *end;
    unsigned long long v;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, base);
    if (errno != 0 || *end != 0 || v > max)
        return false;
    *ret_value = v;
    return true;
}

static int set_string(char **field, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

static int set_absolute(char **field, const char *value)
{
    char *cwd, *path = NULL;
    int n;

    if (value[0] == '/')
        return set_string(field, value);
    cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        return -errno;
    n = asprintf(&path, "%s/%s", cwd, value);
    free(cwd);
    if (n < 0)
        return -ENOMEM;
    free(*field);
    *field = path;
    return 0;
}

/* One word of -o. */
static int set_option(struct mount_options *o, const char *word, char *text, size_t n)
{
    /* What mount(8) and fstab pass along and what is so anyway: no mount of ours has devices or set-user-id programs. */
    static const char *const ignored[] = {"rw", "nodev", "nosuid", "dev", "suid", "exec", "auto", "noauto", "user", "users",
                                          "nouser", "owner", "group", "_netdev", "nofail", "default_permissions", "async",
                                          "relatime", "norelatime", "strictatime", "atime", "diratime", "nodiratime",
                                          "defaults", "comment"};
    const char *value = strchr(word, '=');
    size_t key_len = value != NULL ? (size_t)(value - word) : strlen(word);
    uint64_t number;

#define IS(key) (key_len == strlen(key) && strncmp(word, key, key_len) == 0)
    value = value != NULL ? value + 1 : "";
    if (IS("node"))
        return *value != 0 ? set_absolute(&o->node, value) : fail(text, n, "node= needs the path of a socket%s", "");
    if (IS("prefix"))
        return set_string(&o->prefix, value);
    if (IS("lock_ttl")) {
        if (!parse_number(value, 10, LOCK_TTL_MAX_S, &number) || number < LOCK_TTL_MIN_S)
            return fail(text, n, "lock_ttl=%s: a number of seconds from 2 to 3600 is expected", value);
        o->lock_ttl_s = (int64_t)number;
        return 0;
    }
    if (IS("timeout")) {
        if (!parse_number(value, 10, TIMEOUT_MAX_S, &number) || number == 0)
            return fail(text, n, "timeout=%s: a number of seconds from 1 to 3600 is expected", value);
        o->timeout_ms = number * 1000;
    } else if (IS("consistency")) {
        if (strcmp(value, "local") != 0 && strcmp(value, "linearizable") != 0)
            return fail(text, n, "consistency=%s: local or linearizable is expected", value);
        o->local_reads = strcmp(value, "local") == 0;
    } else if (IS("noquorum")) {
        if (strcmp(value, "stale") != 0 && strcmp(value, "fail") != 0)
            return fail(text, n, "noquorum=%s: stale or fail is expected", value);
        o->stale_without_quorum = strcmp(value, "stale") == 0;
    } else if (IS("uid") || IS("gid")) {
        if (!parse_number(value, 10, UINT32_MAX - 1, &number))
            return fail(text, n, "%s: a number is expected", word);
        if (IS("uid"))
            o->uid = (uid_t)number;
        else
            o->gid = (gid_t)number;
    } else if (IS("umask")) {
        if (!parse_number(value, 8, 0777, &number))
            return fail(text, n, "umask=%s: an octal number is expected", value);
        o->umask = (mode_t)number;
    } else if (IS("max_file_bytes")) {
        if (!parse_number(value, 10, FILE_MAX_BYTES, &number) || number == 0)
            return fail(text, n, "max_file_bytes=%s: a number from 1 to 8388608 is expected", value);
        o->max_file_bytes = number;
    } else if (IS("allow_other")) {
        o->allow_other = true;
    } else if (IS("ro")) {
        o->read_only = true;
    } else if (IS("noexec")) {
        o->no_exec = true;
    } else if (IS("noatime")) {
        o->no_atime = true;
    } else if (strncmp(word, "x-", 2) == 0 || strncmp(word, "X-", 2) == 0) {
        return 0; /* of other programs: x-systemd.automount and the like */
    } else {
        for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
            if (IS(ignored[i]))
                return 0;
        return fail(text, n, "unknown option -o %s", word);
    }
#undef IS
    return 0;
}

static int set_words(struct mount_options *o, const char *list, char *text, size_t n)
{
    char *copy = strdup(list), *save = NULL;
    int rc = copy != NULL ? 0 : -ENOMEM;

    for (char *word = copy != NULL ? strtok_r(copy, ",", &save) : NULL; rc == 0 && word != NULL;
         word = strtok_r(NULL, ",", &save))
        rc = set_option(o, word, text, n);
    free(copy);
    return rc;
}

/* One path is the mount point; two are what mount(8) gives: the source, which is the node's socket unless node= says
 * that, and the mount point. */
static int set_paths(struct mount_options *o, const char *const *paths, size_t n_paths)
{
    int rc = n_paths == 0 ? 0 : set_absolute(&o->mountpoint, paths[n_paths - 1]);

    if (rc == 0 && n_paths == 2)
        rc = set_string(&o->source, paths[0]); /* as it was written: mount(8) compares it with its list */
    if (rc == 0 && n_paths == 2 && o->node == NULL)
        rc = set_absolute(&o->node, paths[0]);
    return rc;
}

static int check(struct mount_options *o, bool foreground, char *text, size_t n)
{
    if (o->mountpoint == NULL)
        return fail(text, n, "a mount point is expected; see --help%s", "");
    if (o->node == NULL)
        return fail(text, n, "-o node=SOCKET is missing%s", "");
    if (strlen(o->prefix) > KEY_MAX_BYTES)
        return fail(text, n, "the prefix is too long%s", "");
    for (size_t len; (len = strlen(o->mountpoint)) > 1 && o->mountpoint[len - 1] == '/';)
        o->mountpoint[len - 1] = 0;
    o->background = o->source != NULL && !foreground;
    return 0;
}

int mount_options_parse(struct mount_options *o, int argc, char **argv, char *text, size_t n)
{
    const char *paths[2] = {NULL, NULL};
    bool foreground = false;
    size_t n_paths = 0;
    int rc = 0;

    *o = (struct mount_options){.timeout_ms = TIMEOUT_DEFAULT_MS, .lock_ttl_s = LOCK_TTL_DEFAULT_S,
                                .uid = geteuid(), .gid = getegid(), .umask = 022,
                          .max_file_bytes = FILE_MAX_BYTES, .log_level = LOG_LEVEL_INFO};
    rc = set_string(&o->prefix, "/");
    for (int i = 1; rc == 0 && i < argc; i++) {
        const char *a = argv[i];

        if (strcmp(a, "-o") == 0) {
            rc = ++i < argc ? set_words(o, argv[i], text, n) : fail(text, n, "-o needs a list of options%s", "");
        } else if (strncmp(a, "-o", 2) == 0) {
            rc = set_words(o, a + 2, text, n);
        } else if (strcmp(a, "-f") == 0) {
            foreground = true;
        } else if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            o->show_help = true;
        } else if (strcmp(a, "--version") == 0 || strcmp(a, "-V") == 0) {
            o->show_version = true;
        } else if (strcmp(a, "--log-level") == 0) {
            if (++i == argc || !logger_level_parse(argv[i], &o->log_level))
                rc = fail(text, n, "--log-level: debug, info, warn or error is expected%s", "");
        } else if (a[0] == '-') {
            rc = fail(text, n, "unknown argument %s", a);
        } else if (n_paths == 2) {
            rc = fail(text, n, "a source and a mount point are expected, %s is one too many", a);
        } else {
            paths[n_paths++] = a;
        }
    }
    if (rc == 0)
        rc = set_paths(o, paths, n_paths);
    if (rc < 0 || o->show_help || o->show_version)
        return rc;
    return check(o, foreground, text, n);
}

void mount_options_fini(struct mount_options *o)
{
    free(o->mountpoint);
    free(o->node);
    free(o->source);
    free(o->prefix);
    *o = (struct mount_options){0};
}
