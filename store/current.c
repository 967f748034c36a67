#include "store/current.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_BYTES 256
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* ---- small files ---- */

static int join_path(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, CURRENT_PATH_BYTES, "%s/%s", dir, name);

    return n > 0 && n < CURRENT_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* The file's text, ended by a zero byte. */
static int read_text(const char *path, char *text)
{
    ssize_t n;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    n = read(fd, text, TEXT_BYTES - 1);
    if (n < 0)
        rc = -errno;
    else
        text[n] = '\0';
    close(fd);
    return rc;
}

int current_sync_directory(const char *dir)
{
    int rc = 0, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int current_make_directory(const char *dir)
{
    char parent[CURRENT_PATH_BYTES];

    if (mkdir(dir, 0770) < 0)
        return errno == EEXIST ? 0 : -errno;
    if (join_path(parent, dir, "..") < 0)
        return -ENAMETOOLONG;
    return current_sync_directory(parent);
}

static int write_synced(const char *path, const char *text)
{
    size_t len = strlen(text);
    ssize_t n;
    int rc = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);

    if (fd < 0)
        return -errno;
    n = write(fd, text, len);
    if (n < 0)
        rc = -errno;
    else if ((size_t)n != len)
        rc = -ENOSPC;
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* Whole or not at all, also through a crash. */
static int replace_text(const char *dir, const char *name, const char *text)
{
    char path[CURRENT_PATH_BYTES], temporary[CURRENT_PATH_BYTES];
    int rc = join_path(path, dir, name), n;

    if (rc < 0)
        return rc;
    n = snprintf(temporary, sizeof(temporary), "%s/%s.new", dir, name);
    if (n < 0 || n >= CURRENT_PATH_BYTES)
        return -ENAMETOOLONG;
    rc = write_synced(temporary, text);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    return rc == 0 ? current_sync_directory(dir) : rc;
}

/* ---- CURRENT ---- */

int current_env_path(char *out, const char *dir, uint64_t epoch)
{
    int n = snprintf(out, CURRENT_PATH_BYTES, "%s/env.%" PRIu64, dir, epoch);

    return n > 0 && n < CURRENT_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

int current_read(const char *dir, uint64_t *ret_epoch)
{
    char path[CURRENT_PATH_BYTES], text[TEXT_BYTES];
    char *end;
    unsigned long long epoch;
    int rc = join_path(path, dir, "CURRENT");

    if (rc == 0)
        rc = read_text(path, text);
    if (rc < 0)
        return rc;
    if (strncmp(text, "env.", 4) != 0 || text[4] < '1' || text[4] > '9')
        return -EUCLEAN;
    errno = 0;
    epoch = strtoull(text + 4, &end, 10);
    if (errno != 0 || strcmp(end, "\n") != 0)
        return -EUCLEAN;
    *ret_epoch = epoch;
    return 0;
}

int current_write(const char *dir, uint64_t epoch)
{
    char text[TEXT_BYTES];

    snprintf(text, sizeof(text), "env.%" PRIu64 "\n", epoch);
    return replace_text(dir, "CURRENT", text);
}

int current_remove_env(const char *dir, uint64_t epoch)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char env[CURRENT_PATH_BYTES], path[CURRENT_PATH_BYTES];
    int rc = current_env_path(env, dir, epoch);

    for (size_t i = 0; rc == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        rc = join_path(path, env, names[i]);
        if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
            rc = -errno;
    }
    if (rc == 0 && rmdir(env) < 0 && errno != ENOENT)
        rc = -errno;
    return rc;
}

/* The epoch of "env.N", 0 for another name. */
static uint64_t env_epoch(const char *name)
{
    char *end;
    unsigned long long epoch;

    if (strncmp(name, "env.", 4) != 0 || name[4] < '1' || name[4] > '9')
        return 0;
    errno = 0;
    epoch = strtoull(name + 4, &end, 10);
    return errno == 0 && *end == '\0' ? epoch : 0;
}

int current_remove_others(const char *dir, uint64_t epoch)
{
    static const char *const files[] = {"checkpoint.new", "CURRENT.new", "RUN.new"};
    char path[CURRENT_PATH_BYTES];
    uint64_t others[64];
    size_t n = 0;
    struct dirent *e;
    int rc = 0;
    DIR *d = opendir(dir);

    if (d == NULL)
        return -errno;
    while (n < sizeof(others) / sizeof(others[0]) && (e = readdir(d)) != NULL)
        if (env_epoch(e->d_name) != 0 && env_epoch(e->d_name) != epoch)
            others[n++] = env_epoch(e->d_name);
    closedir(d);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = current_remove_env(dir, others[i]);
    for (size_t i = 0; rc == 0 && i < sizeof(files) / sizeof(files[0]); i++) {
        rc = join_path(path, dir, files[i]);
        if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
            rc = -errno;
    }
    return rc;
}

/* ---- RUN ---- */

/* Names the file as well: a copy that was made while a node ran is not what that node's memory held. */
static int running_text(char *text, const char *dir, uint64_t epoch)
{
    char env[CURRENT_PATH_BYTES], path[CURRENT_PATH_BYTES], boot[TEXT_BYTES];
    struct stat st;
    int rc = current_env_path(env, dir, epoch);

    if (rc == 0)
        rc = join_path(path, env, "data.mdb");
    if (rc == 0 && stat(path, &st) < 0)
        rc = -errno;
    if (rc == 0)
        rc = read_text(BOOT_ID_FILE, boot);
    if (rc < 0)
        return rc;
    boot[strcspn(boot, "\n")] = '\0';
    snprintf(text, TEXT_BYTES, "env.%" PRIu64 " running in boot %.64s, file %" PRIu64 ":%" PRIu64 "\n", epoch, boot,
             (uint64_t)st.st_dev, (uint64_t)st.st_ino);
    return 0;
}

static void synced_text(char *text, uint64_t epoch)
{
    snprintf(text, TEXT_BYTES, "env.%" PRIu64 " synced\n", epoch);
}

int mark_write(const char *dir, uint64_t epoch, enum mark mark)
{
    char text[TEXT_BYTES];
    int rc = 0;

    if (mark == MARK_RUNNING)
        rc = running_text(text, dir, epoch);
    else if (mark == MARK_SYNCED)
        synced_text(text, epoch);
    else
        snprintf(text, TEXT_BYTES, "env.%" PRIu64 " syncing\n", epoch);
    return rc == 0 ? replace_text(dir, "RUN", text) : rc;
}

int mark_is_trusted(const char *dir, uint64_t epoch, bool *ret_trusted)
{
    char path[CURRENT_PATH_BYTES], text[TEXT_BYTES], expected[TEXT_BYTES];
    int rc = join_path(path, dir, "RUN");

    if (rc == 0)
        rc = read_text(path, text);
    if (rc == -ENOENT) { /* lost, so it tells nothing */
        *ret_trusted = false;
        return 0;
    }
    if (rc < 0)
        return rc;
    synced_text(expected, epoch);
    *ret_trusted = strcmp(text, expected) == 0;
    if (*ret_trusted)
        return 0;
    rc = running_text(expected, dir, epoch);
    if (rc == 0)
        *ret_trusted = strcmp(text, expected) == 0;
    return rc == -ENOENT ? 0 : rc; /* its file is gone: not trusted */
}
