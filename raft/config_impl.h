/* config_impl.h - what the files of the command line's reader share.
 *
 * Process: supervisor, node.  Thread: one.  Errors: -EINVAL with a text in the parse.  Memory: values are borrowed from argv and
 * the environment.  Units: milliseconds. */
#ifndef RAFT_CONFIG_IMPL_H
#define RAFT_CONFIG_IMPL_H

#include "raft/config.h"

enum flag {
    FLAG_NAME,
    FLAG_DATA_DIR,
    FLAG_LISTEN_CLIENT,
    FLAG_ADVERTISE_CLIENT,
    FLAG_LISTEN_PEER,
    FLAG_ADVERTISE_PEER,
    FLAG_CLUSTER,
    FLAG_STATE,
    FLAG_TOKEN,
    FLAG_HEARTBEAT,
    FLAG_ELECTION,
    FLAG_COMPACTION_MODE,
    FLAG_COMPACTION_RETENTION,
    FLAG_QUOTA,
    FLAG_SNAPSHOT_COUNT,
    FLAG_SNAPSHOT_BYTES,
    FLAG_CATCHUP,
    FLAG_SNAPSHOT_RATE,
    FLAG_MAX_LEARNERS,
    FLAG_STRICT,
    FLAG_FORCE_NEW,
    FLAG_READER_TIMEOUT,
    FLAG_LOG_LEVEL,
    FLAG_PEER_CERT,
    FLAG_PEER_KEY,
    FLAG_PEER_CA,
    FLAG_PEER_AUTH,
    FLAG_PEER_AUTO,
    FLAG_PEER_HOSTNAME,
    FLAG_PEER_CN,
    FLAG_PEER_CRL,
    FLAG_CLIENT_CERT,
    FLAG_CLIENT_KEY,
    FLAG_CLIENT_CA,
    FLAG_CLIENT_AUTH,
    FLAG_CLIENT_AUTO,
    FLAG_CLIENT_HOSTNAME,
    FLAG_CLIENT_CRL,
    FLAG_CIPHERS,
    FLAG_SIDECAR_FIRST, /* from here to FLAG_SIDECAR_LAST: handed to the sidecar as they are */
    FLAG_MAX_STREAMS = FLAG_SIDECAR_FIRST,
    FLAG_GRPC_LOOPS,
    FLAG_KEEPALIVE_MIN,
    FLAG_KEEPALIVE_INTERVAL,
    FLAG_KEEPALIVE_TIMEOUT,
    FLAG_WATCH_PROGRESS,
    FLAG_SIDECAR_LAST = FLAG_WATCH_PROGRESS,
    FLAG_MOUNT, /* those before it may come from the environment */
    FLAG_NO_SIDECAR,
    FLAG_RESTORE,
    FLAG_VERSION,
    FLAG_HELP,
    FLAGS,
};

struct parse {
    struct config c;
    const char *value[FLAGS]; /* NULL: not given */
    const char *mounts[CONFIG_MOUNTS_MAX];
    size_t n_mounts;
    char *text;
    size_t text_size;
};

/* ---- config_flags.c ---- */
const char *config_flag_name(enum flag f);
int config_refuse(struct parse *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *config_value(const struct parse *p, enum flag f); /* given, or the default, which may be NULL */
bool config_is_set(const struct parse *p, enum flag f);       /* a switch */
int config_read_words(struct parse *p, int argc, char *const *argv);
void config_read_environment(struct parse *p);
int config_take_sidecar_words(struct parse *p);

/* ---- config.c ---- */
int config_absolute(struct parse *p, const char *path, char **ret_path);

/* ---- config_upkeep.c ---- */
int config_take_upkeep(struct parse *p);

/* ---- config_tls.c ---- */
int config_take_tls(struct parse *p); /* after the URLs and the data directory */
void config_tls_fini(struct config_tls *t);

#endif
