/* The mount's life: helper first, then /dev/fuse, the client's line and the loop that serves all three. */
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fs/ready.h"

#define RENEW_MS 2000       /* an idle mount lets go of its snapshot, whose pages could not be used again */
#define STOP_COMMIT_MS 2000 /* for what is dirty, when asked to stop */
#define STOP_LOCKS_MS 500   /* for the end of the lock session */
#define STOP_HELPER_MS 2000 /* for the helper's last command */
#define FIRST_STORE_MS 15000 /* for the node's welcome and its store */

int64_t mount_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void mount_release(struct mount *m, struct inode *i)
{
    inode_release(i->kind != NULL ? &m->virtual.nodes : &m->inodes, i);
}

/* ---- the client's notices ---- */

static void on_connected(void *ctx, const struct client_info *info)
{
    struct mount *m = ctx;

    m->welcomed = true;
    client_revision(m->client, &m->wanted_epoch, &m->wanted_revision);
    wait_leader_changed(m);
    log_debug(&m->log, "welcomed by %s", info->name);
}

static void on_disconnected(void *ctx)
{
    struct mount *m = ctx;

    log_warn(&m->log, "the node is away; trying again");
}

static void on_revision(void *ctx, uint64_t epoch, int64_t revision)
{
    struct mount *m = ctx;

    m->wanted_epoch = epoch;
    m->wanted_revision = revision;
}

static void on_leader(void *ctx, uint64_t leader, uint64_t term)
{
    wait_leader_changed(ctx);
}

static void on_refused(void *ctx, const char *text)
{
    struct mount *m = ctx;

    log_error(&m->log, "refused by the node: %s", text);
    m->refused = true;
}

/* ---- opening ---- */

enum first { FIRST_NONE, FIRST_ASKED, FIRST_PASSED, FIRST_FAILED };

static void on_first_barrier(void *arg, uint16_t status, uint64_t epoch, int64_t revision)
{
    *(enum first *)arg = status == STATUS_OK ? FIRST_PASSED : FIRST_FAILED;
}

/* Until the node has said where its store is, the store can be read, and the node has passed a barrier: it may still be filling
 * its store from the log, and a mount that began in the past would tell of all of it. Without a leader that wait has the bound
 * of all others, then the mount begins with what there is. Nobody can use it yet. */
static int wait_for_store(struct mount *m, int signal_fd)
{
    uint64_t deadline_ms = client_now_ms() + FIRST_STORE_MS, barrier_ms = 0;
    enum first first = FIRST_NONE;
    int64_t ticket = 0;
    bool said = false;

    for (;;) {
        struct pollfd p[2] = {{client_fd(m->client), POLLIN, 0}, {signal_fd, POLLIN, 0}};

        client_process(m->client);
        if (m->refused)
            return -EPERM;
        if (m->welcomed && (first == FIRST_NONE || first == FIRST_FAILED)) {
            if (barrier_ms == 0)
                barrier_ms = client_now_ms() + m->opt.timeout_ms;
            ticket = client_barrier(m->client, barrier_ms, on_first_barrier, &first);
            first = ticket > 0 ? FIRST_ASKED : FIRST_FAILED;
        }
        if (m->welcomed && (first == FIRST_PASSED || client_now_ms() >= barrier_ms) && tail_advance(m) == 0) {
            if (first == FIRST_ASKED)
                client_cancel(m->client, ticket);
            return 0;
        }
        if (p[1].revents != 0)
            return -EINTR;
        if (client_now_ms() > deadline_ms && !said) {
            log_warn(&m->log, "waiting for the node at %s", m->opt.node);
            said = true;
        }
        poll(p, 2, 100);
        if (p[1].revents != 0)
            return -EINTR;
    }
}

/* The number of our mount, from the kernel's list: asking the mount itself would be a call on it. */
static int find_device(const char *mountpoint, uint32_t *ret_device)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t cap = 0;
    int rc = -ENOENT;

    if (f == NULL)
        return -errno;
    while (getline(&line, &cap, f) > 0) {
        unsigned major_number, minor_number;
        char *at, *out;
        int offset = 0;

        if (sscanf(line, "%*d %*d %u:%u %*s %n", &major_number, &minor_number, &offset) < 2 || offset == 0)
            continue;
        at = out = line + offset;
        while (*at != 0 && *at != ' ') { /* spaces and the like are written \040 */
            if (*at == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] != 0 && at[3] != 0) {
                *out++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
                at += 4;
            } else {
                *out++ = *at++;
            }
        }
        if (*at == ' ' && (size_t)(out - (line + offset)) == strlen(mountpoint) &&
            memcmp(line + offset, mountpoint, strlen(mountpoint)) == 0) {
            *ret_device = (uint32_t)makedev(major_number, minor_number); /* the last one is on top */
            rc = 0;
        }
    }
    free(line);
    fclose(f);
    return rc;
}

/* Commas separate options, so one in a name has a backslash before it. */
static void append_escaped(struct bytes *b, const char *text)
{
    for (; *text != 0; text++) {
        if (*text == ',' || *text == '\\')
            bytes_u8(b, '\\');
        bytes_u8(b, (uint8_t)*text);
    }
}

static void append_text(struct bytes *b, const char *text)
{
    bytes_append(b, slice_from_str(text));
}

static int open_session(struct mount *m)
{
    const struct mount_options *o = &m->opt;
    bool root = geteuid() == 0;
    struct bytes options;
    int rc;

    bytes_init(&options);
    append_text(&options, "subtype=quorumfs,fsname=");
    append_escaped(&options, o->source != NULL ? o->source : "quorumfs"); /* by which mount(8) knows that it is mounted */
    append_text(&options, o->allow_other ? ",allow_other" : "");
    /* As root, or for others, the kernel checks modes; alone, one's own mount is one's own, and the helper, which has no
     * privileges then, must be able to repeat what others did. */
    append_text(&options, root || o->allow_other ? ",default_permissions" : "");
    append_text(&options, o->read_only ? ",ro" : "");
    append_text(&options, o->no_exec ? ",noexec" : "");
    append_text(&options, o->no_atime ? ",noatime" : "");
    bytes_u8(&options, 0);
    rc = bytes_status(&options);
    if (rc == 0) {
        char *argv[] = {"quorumfs", "-o", (char *)options.data, NULL};
        struct fuse_args args = FUSE_ARGS_INIT(3, argv);

        m->session = fuse_session_new(&args, ops_table(), sizeof(struct fuse_lowlevel_ops), m);
        fuse_opt_free_args(&args); /* the library has put a copy of its own there */
        rc = m->session == NULL ? -EINVAL : 0;
    }
    bytes_fini(&options);
    if (rc == 0 && fuse_session_mount(m->session, o->mountpoint) != 0)
        rc = -ENODEV;
    if (rc == 0)
        rc = fcntl(fuse_session_fd(m->session), F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (rc == 0)
        rc = init_flags_watch(m->session);
    if (rc == 0)
        rc = find_device(o->mountpoint, &m->echo.device);
    return rc;
}

int mount_open(struct mount *m, const struct mount_options *options)
{
    const struct client_callbacks callbacks = {m, on_connected, on_disconnected, on_revision, on_leader, on_refused};
    int rc;

    *m = (struct mount){.opt = *options, .log = {options->log_level, "quorumfs"}};
    m->buffers.max_bytes = BUFFERS_MAX_BYTES;
    m->echo.fd = -1;
    list_init(&m->parked);
    list_init(&m->answered);
    list_init(&m->delayed);
    list_init(&m->interrupted);
    list_init(&m->ino_waiters);
    locks_init(&m->locks);
    list_init(&m->untold);
    list_init(&m->root_waiters);
    rc = inode_table_init(&m->inodes);
    if (rc == 0)
        rc = virtual_init(m);
    if (rc == 0)
        rc = announce_init(&m->announce);
    if (rc == 0)
        rc = client_open(m->opt.node, "quorumfs", &callbacks, &m->client);
    return rc;
}

void mount_close(struct mount *m)
{
    if (m->session != NULL)
        fuse_session_destroy(m->session);
    client_close(m->client);
    echo_reap(&m->echo);
    announce_fini(&m->announce, &m->inodes);
    for (size_t s = 0; m->inodes.by_id != NULL && s < m->inodes.size; s++)
        for (struct inode *i = m->inodes.by_id[s]; i != NULL; i = i->id_next)
            commit_drop_buffer(i);
    locks_fini(m);
    inode_table_fini(&m->inodes);
    virtual_fini(m);
    store_read_end(m->read);
    if (m->store != NULL)
        store_close(m->store);
}

/* ---- the loop ---- */

static int serve_kernel(struct mount *m, struct fuse_buf *buf)
{
    for (int i = 0; i < REQUESTS_PER_TURN && !fuse_session_exited(m->session); i++) {
        int n = fuse_session_receive_buf(m->session, buf);

        if (n == -EAGAIN || n == -EINTR || n == 0)
            return 0;
        if (n < 0)
            return n;
        fuse_session_process_buf(m->session, buf);
    }
    return 0;
}

static void serve_helper(struct mount *m)
{
    int error;
    int rc;

    if (m->echo.fd < 0)
        return;
    rc = echo_receive(&m->echo, &error);
    if (rc == 0) {
        reconcile_done(m, error);
    } else if (rc == -EPIPE) {
        bool busy = m->echo.busy;

        if (!m->stopping)
            log_warn(&m->log, "the helper has ended");
        echo_reap(&m->echo);
        if (busy)
            reconcile_done(m, -EPIPE);
    }
}

static int earliest(int a, int b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

/* One turn: what is due, then what is readable, waiting at most limit_ms for it. */
static int turn(struct mount *m, struct fuse_buf *buf, int signal_fd, int limit_ms)
{
    struct pollfd p[4] = {{fuse_session_fd(m->session), POLLIN, 0}, {client_fd(m->client), POLLIN, 0},
                          {signal_fd, POLLIN, 0}, {m->echo.fd, POLLIN, 0}};
    uint64_t now_ms = client_now_ms();
    int timeout_ms, rc = 0;

    if (now_ms >= m->next_renew_ms) {
        tail_advance(m);
        m->next_renew_ms = now_ms + RENEW_MS;
    }
    wait_settle(m);
    virtual_work(m);
    locks_work(m);
    commit_sweep(m);
    reconcile_next(m);
    cached_again(m);
    timeout_ms = earliest(earliest(wait_timeout_ms(m), reconcile_timeout_ms(m)), limit_ms);
    timeout_ms = earliest(timeout_ms, earliest(client_timeout_ms(m->client), RENEW_MS));
    timeout_ms = earliest(timeout_ms, cached_timeout_ms(m));
    timeout_ms = earliest(timeout_ms, earliest(virtual_timeout_ms(m), locks_timeout_ms(m)));
    p[3].fd = m->echo.fd;
    if (poll(p, 4, timeout_ms) < 0)
        return errno == EINTR ? 0 : -errno;
    if (p[2].revents != 0) {
        struct signalfd_siginfo info;

        if (read(signal_fd, &info, sizeof(info)) == sizeof(info))
            m->stopping = true;
    }
    if (p[0].revents != 0)
        rc = serve_kernel(m, buf);
    if (p[1].revents != 0 || !list_empty(&m->parked))
        client_process(m->client);
    if (p[3].revents != 0)
        serve_helper(m);
    return rc;
}

static bool goes_on(const struct mount *m, int rc)
{
    return rc == 0 && !fuse_session_exited(m->session);
}

/* In this order: what was written is committed, waits end, the helper finishes its command, and only then the loop ends. */
static int stop(struct mount *m, struct fuse_buf *buf, int signal_fd)
{
    uint64_t until_ms = client_now_ms() + STOP_COMMIT_MS;
    int rc = 0;

    while (goes_on(m, rc) && commit_any(m) && client_now_ms() < until_ms)
        rc = turn(m, buf, signal_fd, 50);
    locks_end(m);
    until_ms = client_now_ms() + 200; /* the answers to what is parked, if they are on their way */
    while (goes_on(m, rc) && !list_empty(&m->parked) && client_now_ms() < until_ms)
        rc = turn(m, buf, signal_fd, 20);
    for (int i = 0; goes_on(m, rc) && !list_empty(&m->parked) && i < 1000; i++) {
        struct waiting *w = LIST_ITEM(m->parked.next, struct waiting, all);

        if (w->ticket != 0)
            client_cancel(m->client, w->ticket);
        wait_end(w, ETIMEDOUT);
    }
    echo_stop(&m->echo);
    until_ms = client_now_ms() + STOP_HELPER_MS;
    while (goes_on(m, rc) && m->echo.fd >= 0 && client_now_ms() < until_ms)
        rc = turn(m, buf, signal_fd, 20);
    return rc;
}

/* Unmounted: others need not wait for the locks until the lease ends. */
static void end_locks(struct mount *m)
{
    uint64_t until_ms = client_now_ms() + STOP_LOCKS_MS;

    locks_end(m);
    while (!list_empty(&m->parked) && client_now_ms() < until_ms) {
        struct pollfd p = {client_fd(m->client), POLLIN, 0};

        poll(&p, 1, 20);
        client_process(m->client);
        wait_settle(m);
    }
}

int mount_run(struct mount *m)
{
    struct fuse_buf buf = {0};
    sigset_t signals;
    int signal_fd, rc;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0)
        return -errno;
    rc = echo_start(&m->echo, m->opt.mountpoint);
    if (rc == 0)
        rc = wait_for_store(m, signal_fd);
    if (rc == 0)
        rc = open_session(m);
    if (rc < 0)
        goto done;
    ready_fuse(minor(m->echo.device));
    ready_done();
    log_info(&m->log, "%s is mounted, revision %lld", m->opt.mountpoint, (long long)m->revision);
    wait_ask_inodes(m);
    while (goes_on(m, rc) && !m->stopping)
        rc = turn(m, &buf, signal_fd, -1);
    if (m->stopping)
        rc = stop(m, &buf, signal_fd);
    log_info(&m->log, "%s: end (%llu echoes, %llu again)", m->opt.mountpoint, (unsigned long long)m->echoes,
             (unsigned long long)m->echo_retries);
    fuse_session_unmount(m->session);
    end_locks(m);
done:
    if (rc == -EINTR)
        rc = 0;
    free(buf.mem);
    close(signal_fd);
    return rc;
}
