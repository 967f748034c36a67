/* snapshot save, status, restore. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/checkpoint.h"
#include "tools/ctl_data.h"

/* ---- save ---- */

struct answer {
    struct ctl *ctl;
    bool done;
    uint16_t status;
    char path[PATH_MAX];
};

static void on_done(void *arg, const struct socket_maintain_done *m)
{
    struct answer *a = arg;

    a->done = true;
    a->status = m->status;
    snprintf(a->path, sizeof(a->path), "%.*s", (int)m->path.len, (const char *)m->path.data);
}

static bool is_done(void *ctx)
{
    struct answer *a = ctx;

    return a->done || a->ctl->refused;
}

int ctl_data_ask(struct ctl_data *d, uint8_t op, char *ret_path, size_t size)
{
    struct socket_maintain m = {.op = op};
    struct answer a = {.ctl = &d->ctl};

    if (ctl_open(&d->opts, &d->ctl) < 0)
        return -1;
    if (client_maintain(d->ctl.client, &m, ctl_deadline(&d->ctl), on_done, &a) < 0)
        return ctl_fail("out of memory");
    if (client_wait(d->ctl.client, is_done, &a, ctl_deadline(&d->ctl) + 1000) < 0)
        return ctl_fail_status(STATUS_TIMEOUT);
    if (d->ctl.refused)
        return -1;
    if (a.status != STATUS_OK)
        return ctl_fail_status(a.status);
    snprintf(ret_path, size, "%s", a.path);
    return 0;
}

static int copy_bytes(int from, int to)
{
    char *buffer = malloc(1 << 20);
    int rc = buffer == NULL ? -ENOMEM : 0;

    while (rc == 0) {
        ssize_t n = read(from, buffer, 1 << 20);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : 0;
            break;
        }
        for (ssize_t at = 0; rc == 0 && at < n;) {
            ssize_t put = write(to, buffer + at, (size_t)(n - at));

            if (put < 0 && errno != EINTR)
                rc = -errno;
            at += put > 0 ? put : 0;
        }
    }
    free(buffer);
    if (rc == 0 && fsync(to) < 0)
        rc = -errno;
    return rc;
}

/* Whole or not at all. */
static int copy_file(const char *from, const char *to, struct checkpoint_info *ret_info)
{
    char part[PATH_MAX];
    int in, out, rc;

    if ((size_t)snprintf(part, sizeof(part), "%s.part", to) >= sizeof(part))
        return ctl_fail("%s: the path is too long", to);
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return ctl_fail("%s: %s", from, strerror(errno));
    out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) {
        rc = ctl_fail("%s: %s", part, strerror(errno));
        close(in);
        return rc;
    }
    rc = copy_bytes(in, out);
    close(in);
    if (close(out) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0)
        rc = checkpoint_verify(part, ret_info);
    if (rc == 0 && rename(part, to) < 0)
        rc = -errno;
    if (rc < 0) {
        unlink(part);
        return ctl_fail("%s: %s", to, strerror(-rc));
    }
    snprintf(ret_info->path, sizeof(ret_info->path), "%s", to);
    return 0;
}

static void show(struct ctl_data *d, const struct checkpoint_info *info)
{
    if (d->opts.json)
        ctl_checkpoint_json(&d->ctl.out, info);
    else
        ctl_checkpoint_line(&d->ctl.out, info);
    if (d->opts.json)
        ctl_out_text(&d->ctl.out, "\n");
}

static int save(struct ctl_data *d)
{
    struct checkpoint_info info;
    char path[PATH_MAX];

    if (ctl_data_ask(d, SOCKET_MAINTAIN_CHECKPOINT, path, sizeof(path)) < 0 || copy_file(path, d->words[2], &info) < 0)
        return -1;
    show(d, &info);
    return ctl_out_flush(&d->ctl.out);
}

/* ---- status ---- */

static int status(struct ctl_data *d)
{
    struct checkpoint_info info;
    int rc = checkpoint_verify(d->words[2], &info);

    if (rc < 0)
        return ctl_fail("%s: %s", d->words[2], rc == -EUCLEAN ? "damaged, or no checkpoint of quorumfs" :
                        rc == -EPROTONOSUPPORT ? "of a newer version" : strerror(-rc));
    show(d, &info);
    return ctl_out_flush(&d->ctl.out);
}

/* ---- restore ---- */

/* What makes data directories is quorumfsd; it knows members and clusters. The one beside this program, or that of the PATH. */
static int restore(struct ctl_data *d)
{
    char self[PATH_MAX - 16], beside[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char **argv = calloc(d->n_rest + 4, sizeof(*argv));
    char *slash;

    if (argv == NULL)
        return ctl_fail("out of memory");
    argv[0] = (char *)"quorumfsd";
    argv[1] = (char *)"--restore-snapshot";
    argv[2] = (char *)d->words[2];
    memcpy(argv + 3, d->rest, d->n_rest * sizeof(*argv));
    self[n > 0 ? n : 0] = '\0';
    slash = strrchr(self, '/');
    if (slash != NULL) {
        slash[1] = '\0';
        snprintf(beside, sizeof(beside), "%squorumfsd", self);
        if (access(beside, X_OK) == 0)
            execv(beside, argv);
    }
    execvp("quorumfsd", argv);
    ctl_fail("quorumfsd cannot be run: %s", strerror(errno));
    free(argv);
    return -1;
}

int ctl_snapshot(struct ctl_data *d)
{
    const char *what = d->n_words > 1 ? d->words[1] : "";

    if (d->n_words != 3 || (strcmp(what, "save") != 0 && strcmp(what, "status") != 0 && strcmp(what, "restore") != 0))
        return ctl_fail("snapshot takes: save FILE, status FILE, or restore FILE with the flags of quorumfsd");
    return what[0] == 'r' ? restore(d) : strcmp(what, "save") == 0 ? save(d) : status(d);
}
