/* config.h - the command line of quorumfsd: etcd's flags with etcd's defaults and checks, and a few of our own.
 *
 * Process: supervisor; the node is given the same words again and parses them again.
 * Thread:  one.
 * Errors:  -EINVAL with one line of text for the operator; nothing was allocated then.
 * Memory:  a config owns its strings until config_fini().
 * Units:   milliseconds. */
#ifndef RAFT_CONFIG_H
#define RAFT_CONFIG_H

#include "base/logger.h"
#include "base/url.h"
#include "raft/node.h"

#define CONFIG_MOUNTS_MAX 16
#define CONFIG_NAME_MAX_BYTES 255
#define CONFIG_SIDECAR_WORDS_MAX 32

struct config_urls {
    struct url urls[URL_LIST_MAX];
    size_t count;
    char *text; /* canonical, comma-separated */
};

struct config_member {
    char *name;
    char *peer_urls; /* canonical, sorted, comma-separated */
    uint64_t id;
};

struct config_mount {
    char *dir;     /* absolute */
    char *options; /* what followed the first comma; "" */
};

/* Flags of one kind of connection: between members, or of clients. */
struct config_tls {
    char *cert_file, *key_file, *ca_file, *crl_file; /* absolute; NULL: not given. With auto_tls they are in the data directory */
    const char *allowed_hostname, *allowed_cn; /* of the other side's certificate; NULL: any */
    const char *cipher_suites; /* NULL: any */
    bool client_cert_auth, auto_tls;
    bool unused; /* files were given, and no URL to listen on is https */
};

struct tls_context;

enum config_action { CONFIG_RUN, CONFIG_RESTORE, CONFIG_HELP, CONFIG_VERSION };

struct config {
    enum config_action action;
    char *name;
    char *data_dir;    /* absolute */
    char *socket_path; /* fits a socket address */
    char *restore;     /* of CONFIG_RESTORE: the backup */
    struct config_urls listen_client, advertise_client, listen_peer, advertise_peer;
    char *token;
    struct config_member members[NODE_MAX_MEMBERS];
    size_t n_members, self; /* self: index of this one */
    uint64_t cluster_id;    /* of a new cluster of these members */
    bool initial_given;     /* some flag that cluster_id follows from was on the command line */
    bool existing;          /* --initial-cluster-state existing */
    uint64_t heartbeat_ms, election_ms;
    uint64_t snapshot_count, snapshot_bytes, catchup_entries, reader_timeout_s;
    uint64_t snapshot_rate_bytes; /* a second, to each member that is sent a checkpoint; 0: no limit */
    uint64_t max_learners;
    bool lax_reconfig, force_new_cluster;
    enum log_level log_level;
    const char *log_level_text;
    struct config_mount mounts[CONFIG_MOUNTS_MAX];
    size_t n_mounts;
    bool sidecar;
    struct config_tls peer_tls, client_tls;
    char *sidecar_words[CONFIG_SIDECAR_WORDS_MAX]; /* flags that are the sidecar's to check: "--name=value" */
    size_t n_sidecar_words;
    struct compactor_options compaction;
    int64_t quota_bytes; /* 0: not given */
};

/* argv without the program's name. */
int config_parse(int argc, char *const *argv, struct config *ret_config, char *ret_text, size_t text_size);
void config_fini(struct config *c);
/* The text of --help. */
const char *config_usage(void);

/* Makes the certificates that auto-tls flags ask for, in the data directory. */
int config_tls_make(const struct config *c, char *ret_text, size_t text_size);
/* Whether connections to peers can be of TLS: files were given, or auto-tls, or https URLs of members. */
bool config_tls_wanted(const struct config *c);
/* Contexts of the files; report as in tls/tls.h. Their texts begin with the flag. */
int config_tls_open_peer(const struct config *c, const struct logger *logger, struct tls_context **ret_tls, char *ret_text,
                         size_t text_size);
/* Opens and closes what the node and the sidecar will open, for its errors. */
int config_tls_check(const struct config *c, char *ret_text, size_t text_size);

/* Numbers as etcd computes them: a member's is the first eight bytes, big-endian, of SHA-1 over its peer URLs, sorted
 * and joined without a separator, and the token; the cluster's that of SHA-1 over the sorted member numbers, big-endian. */
uint64_t config_member_id(const struct url *urls, size_t count, const char *token);
uint64_t config_cluster_id(const uint64_t *member_ids, size_t count);

#endif
