/* The flags as words: their table, the texts of --help, the command line and the environment. */
#include "raft/config_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    const char *initial; /* the default; NULL: follows from others or none */
    bool is_switch;
} flags[FLAGS] = {
    [FLAG_NAME] = {"name", "default", false},
    [FLAG_DATA_DIR] = {"data-dir", NULL, false},
    [FLAG_LISTEN_CLIENT] = {"listen-client-urls", "http://localhost:2379", false},
    [FLAG_ADVERTISE_CLIENT] = {"advertise-client-urls", "http://localhost:2379", false},
    [FLAG_LISTEN_PEER] = {"listen-peer-urls", "http://localhost:2380", false},
    [FLAG_ADVERTISE_PEER] = {"initial-advertise-peer-urls", "http://localhost:2380", false},
    [FLAG_CLUSTER] = {"initial-cluster", NULL, false},
    [FLAG_STATE] = {"initial-cluster-state", "new", false},
    [FLAG_TOKEN] = {"initial-cluster-token", "etcd-cluster", false},
    [FLAG_HEARTBEAT] = {"heartbeat-interval", "100", false},
    [FLAG_ELECTION] = {"election-timeout", "1000", false},
    [FLAG_COMPACTION_MODE] = {"auto-compaction-mode", "periodic", false},
    [FLAG_COMPACTION_RETENTION] = {"auto-compaction-retention", "0", false},
    [FLAG_QUOTA] = {"quota-backend-bytes", "0", false},
    [FLAG_SNAPSHOT_COUNT] = {"snapshot-count", "0", false},
    [FLAG_SNAPSHOT_BYTES] = {"snapshot-bytes", "67108864", false},
    [FLAG_CATCHUP] = {"snapshot-catchup-entries", "5000", false},
    [FLAG_SNAPSHOT_RATE] = {"snapshot-rate-bytes", "67108864", false},
    [FLAG_MAX_LEARNERS] = {"max-learners", "1", false},
    [FLAG_STRICT] = {"strict-reconfig-check", "true", true},
    [FLAG_FORCE_NEW] = {"force-new-cluster", NULL, true},
    [FLAG_READER_TIMEOUT] = {"reader-timeout", "30", false},
    [FLAG_LOG_LEVEL] = {"log-level", "info", false},
    [FLAG_PEER_CERT] = {"peer-cert-file", NULL, false},
    [FLAG_PEER_KEY] = {"peer-key-file", NULL, false},
    [FLAG_PEER_CA] = {"peer-trusted-ca-file", NULL, false},
    [FLAG_PEER_AUTH] = {"peer-client-cert-auth", NULL, true},
    [FLAG_PEER_AUTO] = {"peer-auto-tls", NULL, true},
    [FLAG_PEER_HOSTNAME] = {"peer-cert-allowed-hostname", NULL, false},
    [FLAG_PEER_CN] = {"peer-cert-allowed-cn", NULL, false},
    [FLAG_PEER_CRL] = {"peer-crl-file", NULL, false},
    [FLAG_CLIENT_CERT] = {"cert-file", NULL, false},
    [FLAG_CLIENT_KEY] = {"key-file", NULL, false},
    [FLAG_CLIENT_CA] = {"trusted-ca-file", NULL, false},
    [FLAG_CLIENT_AUTH] = {"client-cert-auth", NULL, true},
    [FLAG_CLIENT_AUTO] = {"auto-tls", NULL, true},
    [FLAG_CLIENT_HOSTNAME] = {"client-cert-allowed-hostname", NULL, false},
    [FLAG_CLIENT_CRL] = {"client-crl-file", NULL, false},
    [FLAG_CIPHERS] = {"cipher-suites", NULL, false},
    [FLAG_MAX_STREAMS] = {"max-concurrent-streams", NULL, false},
    [FLAG_GRPC_LOOPS] = {"grpc-loops", NULL, false},
    [FLAG_KEEPALIVE_MIN] = {"grpc-keepalive-min-time", NULL, false},
    [FLAG_KEEPALIVE_INTERVAL] = {"grpc-keepalive-interval", NULL, false},
    [FLAG_KEEPALIVE_TIMEOUT] = {"grpc-keepalive-timeout", NULL, false},
    [FLAG_WATCH_PROGRESS] = {"watch-progress-notify-interval", NULL, false},
    [FLAG_MOUNT] = {"mount", NULL, false},
    [FLAG_NO_SIDECAR] = {"no-sidecar", NULL, true},
    [FLAG_RESTORE] = {"restore-snapshot", NULL, false},
    [FLAG_VERSION] = {"version", NULL, true},
    [FLAG_HELP] = {"help", NULL, true},
};

static const char usage[] =
    "Usage: quorumfsd [--FLAG VALUE | --FLAG=VALUE]...\n"
    "One member of a quorumfs cluster. Flags and defaults are etcd's.\n"
    "\n"
    "  --name NAME                          this member's name (default)\n"
    "  --data-dir DIR                       where everything is kept (NAME.quorumfs)\n"
    "  --listen-client-urls URLS            addresses for clients (http://localhost:2379)\n"
    "  --advertise-client-urls URLS         the same as clients reach them (http://localhost:2379)\n"
    "  --listen-peer-urls URLS              addresses for peers (http://localhost:2380)\n"
    "  --initial-advertise-peer-urls URLS   the same as peers reach them (http://localhost:2380)\n"
    "  --initial-cluster NAME=URL,...       all members of a new cluster (NAME=initial-advertise-peer-urls)\n"
    "  --initial-cluster-state STATE        new or existing (new)\n"
    "  --initial-cluster-token TEXT         tells clusters with the same members apart (etcd-cluster)\n"
    "  --heartbeat-interval MS              how often a leader is heard (100)\n"
    "  --election-timeout MS                how long a silent leader is believed (1000)\n"
    "  --auto-compaction-mode MODE          periodic or revision (periodic)\n"
    "  --auto-compaction-retention VALUE    hours or a duration, or a number of revisions; 0: off (0)\n"
    "  --quota-backend-bytes BYTES          of the cluster's data; 0: as it is, 2 GiB at first; below 0: none (0)\n"
    "  --snapshot-bytes BYTES               a checkpoint when the log behind the last has grown by so much, and by\n"
    "                                       as much as it is large (67108864)\n"
    "  --snapshot-count N                   and after so many entries; 0: by size alone (0)\n"
    "  --snapshot-catchup-entries N         entries that the log keeps before a checkpoint (5000)\n"
    "  --snapshot-rate-bytes N              bytes a second at which a member is sent a checkpoint; 0: no limit (67108864)\n"
    "  --max-learners N                     learners at a time (1)\n"
    "  --strict-reconfig-check=false        take changes of members that may cost the quorum\n"
    "  --force-new-cluster                  when the others are lost for good: this member alone is the cluster\n"
    "  --reader-timeout S                   a process that reads one snapshot for so long is told of, and restarted\n"
    "                                       after twice that if it is a front end of this node; 0: never (30)\n"
    "  --log-level LEVEL                    debug, info, warn or error (info)\n"
    "\n"
    "  --cert-file, --key-file PATH         certificate and key for clients, in PEM form: https client URLs\n"
    "  --trusted-ca-file PATH               clients must show a certificate that one of these has signed\n"
    "  --client-cert-auth                   the same, said explicitly; needs --trusted-ca-file\n"
    "  --client-cert-allowed-hostname NAME  ... and that is for this name\n"
    "  --client-crl-file PATH               ... and that this list does not name as revoked\n"
    "  --auto-tls                           make a certificate for clients in the data directory\n"
    "  --peer-cert-file, --peer-key-file, --peer-trusted-ca-file PATH, --peer-client-cert-auth,\n"
    "  --peer-cert-allowed-hostname, --peer-cert-allowed-cn NAME, --peer-crl-file PATH, --peer-auto-tls\n"
    "                                       the same between members: https peer URLs\n"
    "  --cipher-suites NAMES                of both, comma-separated; OpenSSL's choice without\n"
    "\n"
    "  --max-concurrent-streams N           of one client connection (10000)\n"
    "  --grpc-loops N                       threads that serve clients (1)\n"
    "  --grpc-keepalive-min-time D          clients that ping more often are sent away (5s)\n"
    "  --grpc-keepalive-interval D          clients that are silent for so long are pinged (2h)\n"
    "  --grpc-keepalive-timeout D           and closed when they do not answer within this (20s)\n"
    "  --watch-progress-notify-interval D   how often idle watches hear of the revision (10m)\n"
    "\n"
    "  --mount DIR[,OPTION...]              mount the keys there; may be repeated\n"
    "  --no-sidecar                         do not serve etcd's API\n"
    "  --restore-snapshot FILE              make a new data directory from that backup, and do nothing else\n"
    "  --version                            print the version\n"
    "  --help                               print this\n"
    "\n"
    "ETCD_NAME in the environment stands for --name, and so on for each flag of etcd's.\n";

const char *config_usage(void)
{
    return usage;
}

const char *config_flag_name(enum flag f)
{
    return flags[f].name;
}

int config_refuse(struct parse *p, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(p->text, p->text_size, format, ap);
    va_end(ap);
    return -EINVAL;
}

const char *config_value(const struct parse *p, enum flag f)
{
    return p->value[f] != NULL ? p->value[f] : flags[f].initial;
}

bool config_is_set(const struct parse *p, enum flag f)
{
    return p->value[f] != NULL && strcmp(p->value[f], "false") != 0 && p->value[f][0] != '\0';
}

/* ---- words ---- */

static int find_flag(const char *word, size_t len)
{
    for (int f = 0; f < FLAGS; f++)
        if (strlen(flags[f].name) == len && memcmp(flags[f].name, word, len) == 0)
            return f;
    return -1;
}

static int take_flag(struct parse *p, int f, const char *value)
{
    if (f != FLAG_MOUNT) {
        p->value[f] = value;
        return 0;
    }
    if (p->n_mounts == CONFIG_MOUNTS_MAX)
        return config_refuse(p, "--mount: at most %d mounts", CONFIG_MOUNTS_MAX);
    p->mounts[p->n_mounts++] = value;
    return 0;
}

int config_read_words(struct parse *p, int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *equals;
        size_t len;
        int f;

        if (word[0] != '-' || word[1] == '\0')
            return config_refuse(p, "'%s' is not a flag of quorumfsd", word);
        word += word[1] == '-' ? 2 : 1;
        equals = strchr(word, '=');
        len = equals != NULL ? (size_t)(equals - word) : strlen(word);
        f = len == 1 && word[0] == 'h' ? FLAG_HELP : find_flag(word, len);
        if (f < 0)
            return config_refuse(p, "unknown flag '%s' (--help lists the flags)", argv[i]);
        if (flags[f].is_switch) {
            if (equals != NULL && strcmp(equals, "=true") != 0 && strcmp(equals, "=false") != 0)
                return config_refuse(p, "--%s takes no value", flags[f].name);
            p->value[f] = equals != NULL ? equals + 1 : "true";
            continue;
        }
        if (equals == NULL && i + 1 == argc)
            return config_refuse(p, "--%s needs a value", flags[f].name);
        if (take_flag(p, f, equals != NULL ? equals + 1 : argv[++i]) < 0)
            return -EINVAL;
    }
    return 0;
}

/* As with etcd: ETCD_NAME stands for --name, and so on; a flag on the command line has precedence. */
void config_read_environment(struct parse *p)
{
    for (int f = 0; f < FLAG_MOUNT; f++) {
        char name[64] = "ETCD_";
        size_t at = strlen(name);

        for (const char *s = flags[f].name; *s != '\0'; s++)
            name[at++] = *s == '-' ? '_' : (char)(*s - 'a' + 'A');
        name[at] = '\0';
        if (p->value[f] == NULL)
            p->value[f] = getenv(name);
    }
}

/* As --name=value: what they must be the sidecar knows. */
int config_take_sidecar_words(struct parse *p)
{
    for (int f = FLAG_SIDECAR_FIRST; f <= FLAG_SIDECAR_LAST; f++) {
        if (p->value[f] == NULL)
            continue;
        if (asprintf(&p->c.sidecar_words[p->c.n_sidecar_words], "--%s=%s", flags[f].name, p->value[f]) < 0)
            return config_refuse(p, "out of memory");
        p->c.n_sidecar_words++;
    }
    return 0;
}
