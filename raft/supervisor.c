/* The supervisor's life:
 *
 *  first look (in a process of its own)  ->  RUNNING: children start, end, start again
 *    -- SIGTERM, SIGINT, SIGHUP, or an end that no restart mends -->  STOPPING mounts -> sidecar -> node  ->  exit
 *
 * Each stage of stopping: SIGTERM, wait, then SIGKILL at its bound. */
#include "raft/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raft/child.h"
#include "raft/identity.h"
#include "raft/listen.h"
#include "raft/node_main.h"

#define CHILDREN_MAX (2 + CONFIG_MOUNTS_MAX)
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define HEALTHY_MS 10000 /* ready for so long: the next restart is quick again */
#define LOOK_AGAIN_MS 1000 /* for a lock or an address that is taken */
#define STOP_MS 5000
#define STOP_NODE_MS 10000

enum stage { STAGE_RUNNING, STAGE_MOUNTS, STAGE_SIDECAR, STAGE_NODE, STAGE_OVER };

struct supervisor {
    const struct config *config;
    struct logger logger;
    struct child children[CHILDREN_MAX];
    size_t n_children;
    struct child_user stay, service;
    int signal_fd, parent_read, parent_write;
    enum stage stage;
    uint64_t stage_end_ms;
    bool killed;    /* this stage's SIGKILL was sent */
    bool told_ready;
    int exit_status;
};

/* ---- the first look: everything that can be refused is refused before anything runs, with one line ---- */

static int look_once(const struct config *c, char *text, size_t size)
{
    struct identity id;
    bool is_new;
    int lock_fd = -1, rc = identity_check(c, &id, &is_new, text, size);

    if (rc == 0)
        rc = identity_lock(c, &lock_fd, text, size);
    if (rc == 0)
        rc = config_tls_make(c, text, size);
    if (rc == 0)
        rc = config_tls_check(c, text, size);
    if (rc == 0)
        rc = listen_probe(c->listen_peer.urls, c->listen_peer.count, text, size);
    if (rc == 0 && c->sidecar)
        rc = listen_probe(c->listen_client.urls, c->listen_client.count, text, size);
    if (lock_fd >= 0)
        close(lock_fd);
    return rc;
}

static int look(const struct supervisor *s)
{
    const struct timespec nap = {0, 20 * 1000 * 1000};
    uint64_t end_ms = child_now_ms() + LOOK_AGAIN_MS;
    char text[LOG_LINE_BYTES] = "";
    int rc = child_drop(&s->service);

    if (rc < 0)
        snprintf(text, sizeof(text), "the user %s cannot be assumed: %s", s->service.name, strerror(-rc));
    else
        rc = look_once(s->config, text, sizeof(text));
    /* The children of a supervisor that was killed a moment ago may not have gone yet. */
    while ((rc == -EBUSY || rc == -EADDRINUSE) && child_now_ms() < end_ms) {
        nanosleep(&nap, NULL);
        rc = look_once(s->config, text, sizeof(text));
    }
    if (rc < 0)
        log_error(&s->logger, "%s", text);
    return rc;
}

/* In a child: it may ask a resolver, and it does so as the user that will serve. */
static int look_first(const struct supervisor *s)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(look(s) < 0 ? 1 : 0);
    }
    if (pid < 0)
        return -errno;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EINVAL;
}

/* ---- what children there are ---- */

static int sibling(const char *name, char *out, size_t size)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return -errno;
    self[n] = '\0';
    slash = strrchr(self, '/');
    if (slash == NULL)
        return -ENOENT;
    *slash = '\0';
    if ((size_t)snprintf(out, size, "%s/%s", self, name) >= size)
        return -ENAMETOOLONG;
    return access(out, X_OK) == 0 ? 0 : -errno;
}

static struct child *add_child(struct supervisor *s, enum child_kind kind, const char *title)
{
    struct child *c = &s->children[s->n_children++];

    c->kind = kind;
    c->ready_fd = -1;
    c->backoff_ms = BACKOFF_MIN_MS;
    c->user = kind == CHILD_MOUNT ? &s->stay : &s->service;
    snprintf(c->title, sizeof(c->title), "%s", title);
    return c;
}

static int add_words(struct child *c, const char *const *words)
{
    int rc = 0;

    for (; rc == 0 && *words != NULL; words++)
        rc = child_add_word(c, *words);
    return rc;
}

/* By the link that names this very program: after an upgrade on disk the old supervisor still starts the node it fits. */
static int add_node(struct supervisor *s, int n_words, char *const *words)
{
    static const char name[] = "quorumfsd";
    struct child *c = add_child(s, CHILD_NODE, "node");
    const char *const first[] = {"/proc/self/exe", SUPERVISOR_NODE_WORD, NULL};
    int rc = add_words(c, first);

    c->argv0 = name;
    for (int i = 0; rc == 0 && i < n_words; i++)
        rc = child_add_word(c, words[i]);
    return rc;
}

/* "--name" and value; nothing for a value that is not there. */
static int add_pair(struct child *c, const char *name, const char *value)
{
    int rc = value != NULL ? child_add_word(c, name) : 0;

    return rc == 0 && value != NULL ? child_add_word(c, value) : rc;
}

static int add_sidecar_flags(const struct config *c, struct child *child)
{
    const struct {
        const char *name, *value;
    } pairs[] = {{"--socket", c->socket_path},
                 {"--listen-client-urls", c->listen_client.text},
                 {"--advertise-client-urls", c->advertise_client.text},
                 {"--name", c->name},
                 {"--log-level", c->log_level_text},
                 {"--cert-file", c->client_tls.cert_file},
                 {"--key-file", c->client_tls.key_file},
                 {"--trusted-ca-file", c->client_tls.ca_file},
                 {"--client-cert-allowed-hostname", c->client_tls.allowed_hostname},
                 {"--client-crl-file", c->client_tls.crl_file},
                 {"--cipher-suites", c->client_tls.cipher_suites}};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(pairs) / sizeof(pairs[0]); i++)
        rc = add_pair(child, pairs[i].name, pairs[i].value);
    if (rc == 0 && c->client_tls.client_cert_auth)
        rc = child_add_word(child, "--client-cert-auth");
    for (size_t i = 0; rc == 0 && i < c->n_sidecar_words; i++)
        rc = child_add_word(child, c->sidecar_words[i]);
    return rc;
}

static int add_sidecar(struct supervisor *s)
{
    const struct config *c = s->config;
    char path[4096];
    struct child *child;
    int rc;

    if (!c->sidecar)
        return 0;
    if (sibling("quorumfs-grpc", path, sizeof(path)) < 0) {
        log_warn(&s->logger, "quorumfs-grpc is not beside quorumfsd: etcd's API is not served");
        return 0;
    }
    child = add_child(s, CHILD_SIDECAR, "sidecar");
    rc = child_add_word(child, path);
    return rc == 0 ? add_sidecar_flags(c, child) : rc;
}

static int add_mount(struct supervisor *s, const struct config_mount *m)
{
    char path[4096], options[8192], title[64];
    const char *const words[] = {path, m->dir, "-f", "-o", options, NULL};
    struct child *c;
    int n;

    if (sibling("quorumfs", path, sizeof(path)) < 0) {
        log_error(&s->logger, "quorumfs is not beside quorumfsd: %s cannot be mounted", m->dir);
        return -ENOENT;
    }
    n = snprintf(options, sizeof(options), "node=%s%s%s", s->config->socket_path, m->options[0] != '\0' ? "," : "",
                 m->options);
    if (n < 0 || (size_t)n >= sizeof(options)) {
        log_error(&s->logger, "the options of the mount %s are too long", m->dir);
        return -E2BIG;
    }
    snprintf(title, sizeof(title), "mount %.50s", m->dir);
    c = add_child(s, CHILD_MOUNT, title);
    c->mount_dir = m->dir;
    return add_words(c, words);
}

static int add_children(struct supervisor *s, int n_words, char *const *words)
{
    int rc = add_node(s, n_words, words);

    if (rc == 0)
        rc = add_sidecar(s);
    for (size_t i = 0; rc == 0 && i < s->config->n_mounts; i++)
        rc = add_mount(s, &s->config->mounts[i]);
    return rc;
}

/* ---- running ---- */

static void schedule_restart(struct supervisor *s, struct child *c)
{
    c->restart_ms = child_now_ms() + c->backoff_ms;
    c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void start(struct supervisor *s, struct child *c)
{
    int rc;

    c->restart_ms = 0;
    if (c->kind == CHILD_MOUNT)
        child_mount_clear(c, &s->logger);
    rc = child_start(c, s->parent_read);
    if (rc < 0) {
        log_error(&s->logger, "%s cannot be started: %s", c->title, strerror(-rc));
        schedule_restart(s, c);
        return;
    }
    log_debug(&s->logger, "%s is process %d", c->title, (int)c->pid);
}

static void tell_ready(struct supervisor *s)
{
    if (s->told_ready || s->stage != STAGE_RUNNING)
        return;
    for (size_t i = 0; i < s->n_children; i++)
        if (!s->children[i].ready && !s->children[i].finished)
            return;
    s->told_ready = true;
    /* whatever the level: programs and people wait for this line */
    logger_line(&(struct logger){LOG_LEVEL_INFO, s->logger.program}, LOG_LEVEL_INFO,
                "'%s' is ready to serve client requests", s->config->name);
}

static enum stage stage_of(enum child_kind kind)
{
    return kind == CHILD_MOUNT ? STAGE_MOUNTS : kind == CHILD_SIDECAR ? STAGE_SIDECAR : STAGE_NODE;
}

/* Begins the first stage from `stage` on that has something to stop. */
static void stop_stage(struct supervisor *s, enum stage stage)
{
    for (; stage < STAGE_OVER; stage++) {
        bool any = false;

        for (size_t i = 0; i < s->n_children; i++) {
            struct child *c = &s->children[i];

            if (stage_of(c->kind) == stage && c->pid != 0) {
                kill(c->pid, SIGTERM);
                any = true;
            }
        }
        if (any)
            break;
    }
    s->stage = stage;
    s->killed = false;
    s->stage_end_ms = child_now_ms() + (stage == STAGE_NODE ? STOP_NODE_MS : STOP_MS);
}

static void stop(struct supervisor *s, int exit_status)
{
    if (s->stage != STAGE_RUNNING)
        return;
    s->exit_status = exit_status;
    stop_stage(s, STAGE_MOUNTS);
}

/* Everything of every stage that is left: bounds are over. */
static void kill_stage(struct supervisor *s, bool all)
{
    s->killed = true;
    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];

        if (c->pid == 0 || (!all && stage_of(c->kind) != s->stage))
            continue;
        log_warn(&s->logger, "%s does not stop: killed", c->title);
        if (c->kind == CHILD_MOUNT)
            child_mount_abort(c, &s->logger);
        kill(c->pid, SIGKILL);
    }
}

static bool stage_is_over(const struct supervisor *s)
{
    for (size_t i = 0; i < s->n_children; i++)
        if (stage_of(s->children[i].kind) == s->stage && s->children[i].pid != 0)
            return false;
    return true;
}

static void describe_end(char *out, size_t size, int status)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
}

static bool is_fatal(const struct child *c, int status)
{
    if (!WIFEXITED(status) || (c->kind != CHILD_NODE && c->ever_ready))
        return false;
    return WEXITSTATUS(status) == CHILD_EXIT_FATAL || (c->kind == CHILD_NODE && WEXITSTATUS(status) == CHILD_EXIT_REMOVED) ||
           (c->kind == CHILD_MOUNT && WEXITSTATUS(status) == CHILD_EXIT_MOUNT_POINT);
}

static void on_end(struct supervisor *s, struct child *c, int status)
{
    bool stopped = WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_STOPPED;
    bool healthy = c->ready && child_now_ms() - c->ready_ms >= HEALTHY_MS;
    char how[128];

    child_ended(c);
    if (c->kind == CHILD_MOUNT && !stopped)
        child_mount_abort(c, &s->logger);
    describe_end(how, sizeof(how), status);
    if (s->stage != STAGE_RUNNING) {
        if (!stopped && !s->killed)
            log_warn(&s->logger, "%s %s while it stopped", c->title, how);
        return;
    }
    if (is_fatal(c, status)) {
        log_debug(&s->logger, "%s %s", c->title, how); /* it has said why itself */
        stop(s, WEXITSTATUS(status) == CHILD_EXIT_REMOVED ? CHILD_EXIT_REMOVED : 1);
        return;
    }
    if (c->kind == CHILD_MOUNT && stopped && c->ever_ready) {
        log_info(&s->logger, "%s was unmounted", c->title);
        c->finished = true;
        return;
    }
    if (c->kind == CHILD_NODE && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_AGAIN) {
        log_info(&s->logger, "%s goes on with the state that it was sent", c->title);
        c->backoff_ms = BACKOFF_MIN_MS;
        schedule_restart(s, c);
        return;
    }
    if (healthy)
        c->backoff_ms = BACKOFF_MIN_MS;
    log_warn(&s->logger, "%s %s; it is started again in %llu ms", c->title, how, (unsigned long long)c->backoff_ms);
    schedule_restart(s, c);
}

static void reap(struct supervisor *s)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->n_children; i++)
            if (s->children[i].pid == pid) {
                on_end(s, &s->children[i], status);
                break;
            }
}

/* A front end that does not let go of an old snapshot is started again. Others are no business of ours. */
static void end_stuck(struct supervisor *s, pid_t pid)
{
    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];

        if (c->pid != pid || c->kind == CHILD_NODE)
            continue;
        log_warn(&s->logger, "%s holds an old snapshot and does not let go: killed", c->title);
        kill(pid, SIGKILL);
    }
}

/* All that were named since the last time: a node names each but once. */
static void take_stuck(struct supervisor *s, struct child *node)
{
    for (size_t i = 0; i < node->n_stuck && s->stage == STAGE_RUNNING; i++)
        end_stuck(s, node->stuck[i]);
    node->n_stuck = 0;
}

static void take_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue; /* reap() follows */
        if (s->stage == STAGE_RUNNING)
            stop(s, 0);
        else if (info.ssi_signo == SIGINT) /* a person presses ^C again; timeout(1) sends SIGTERM twice */
            kill_stage(s, true);
    }
}

/* Milliseconds until something is due; -1: nothing. */
static int time_left(const struct supervisor *s, uint64_t now_ms)
{
    uint64_t due_ms = UINT64_MAX;

    if (s->stage != STAGE_RUNNING && !s->killed)
        due_ms = s->stage_end_ms;
    for (size_t i = 0; i < s->n_children && s->stage == STAGE_RUNNING; i++)
        if (s->children[i].restart_ms != 0 && s->children[i].restart_ms < due_ms)
            due_ms = s->children[i].restart_ms;
    if (due_ms == UINT64_MAX)
        return -1;
    return due_ms > now_ms ? (int)(due_ms - now_ms) : 0;
}

static void take_due(struct supervisor *s)
{
    uint64_t now_ms = child_now_ms();

    if (s->stage == STAGE_OVER)
        return;
    if (s->stage != STAGE_RUNNING) {
        if (stage_is_over(s))
            stop_stage(s, s->stage + 1);
        else if (now_ms >= s->stage_end_ms && !s->killed)
            kill_stage(s, false);
        return;
    }
    for (size_t i = 0; i < s->n_children; i++)
        if (s->children[i].restart_ms != 0 && now_ms >= s->children[i].restart_ms)
            start(s, &s->children[i]);
    tell_ready(s);
}

static void run(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_children; i++)
        start(s, &s->children[i]);
    while (s->stage != STAGE_OVER) {
        struct pollfd fds[1 + CHILDREN_MAX];

        fds[0] = (struct pollfd){s->signal_fd, POLLIN, 0};
        for (size_t i = 0; i < s->n_children; i++)
            fds[1 + i] = (struct pollfd){s->children[i].ready_fd, POLLIN, 0}; /* -1 is skipped */
        if (poll(fds, 1 + s->n_children, time_left(s, child_now_ms())) < 0 && errno != EINTR)
            break;
        for (size_t i = 0; i < s->n_children; i++)
            if (fds[1 + i].revents != 0 && child_read(&s->children[i]))
                log_debug(&s->logger, "%s is ready", s->children[i].title);
        for (size_t i = 0; i < s->n_children; i++)
            take_stuck(s, &s->children[i]);
        take_signals(s);
        reap(s);
        take_due(s);
    }
}

/* ---- all ---- */

static void find_service_user(struct supervisor *s)
{
    const struct passwd *pw = geteuid() == 0 ? getpwnam("quorumfs") : NULL;

    s->stay = s->service = (struct child_user){.uid = -1, .gid = -1};
    if (pw == NULL)
        return;
    s->service.uid = (int)pw->pw_uid;
    s->service.gid = (int)pw->pw_gid;
    snprintf(s->service.name, sizeof(s->service.name), "%s", pw->pw_name);
}

static int open_signals(struct supervisor *s)
{
    struct sigaction hup;
    sigset_t set;
    int fds[2];

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    /* A terminal that closes stops everything in order, unless it was started with nohup(1). */
    if (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0 || pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    s->parent_read = fds[0];
    s->parent_write = fds[1]; /* never written; closed by this process's end */
    return 0;
}

int supervisor_run(const struct config *c, int n_words, char *const *words)
{
    struct supervisor *s = calloc(1, sizeof(*s));
    char text[LOG_LINE_BYTES] = "";
    int rc, status = 1;

    if (s == NULL)
        return 1;
    s->config = c;
    s->logger = (struct logger){c->log_level, "quorumfsd"};
    find_service_user(s);
    rc = identity_prepare(c, s->service.uid, s->service.gid, text, sizeof(text));
    if (rc < 0) {
        log_error(&s->logger, "%s", text);
        goto done;
    }
    if (look_first(s) < 0)
        goto done;
    if (c->peer_tls.unused)
        log_warn(&s->logger, "no URL of --listen-peer-urls is https: nobody is served by the --peer-... certificate files");
    if (c->client_tls.unused)
        log_warn(&s->logger, "no URL of --listen-client-urls is https: nobody is served by the certificate files");
    rc = open_signals(s);
    if (rc == 0)
        rc = add_children(s, n_words, words);
    if (rc < 0)
        goto done;
    run(s);
    status = s->exit_status;
done:
    for (size_t i = 0; i < s->n_children; i++)
        child_free_words(&s->children[i]);
    free(s);
    return status;
}
