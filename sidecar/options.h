/* options.h - the command line of quorumfs-grpc.
 *
 * Process: quorumfs-grpc.
 * Thread:  one, at start.
 * Errors:  -EINVAL with a text for the operator.
 * Memory:  strings are those of argv.
 * Units:   milliseconds. */
#ifndef SIDECAR_OPTIONS_H
#define SIDECAR_OPTIONS_H

#include "base/logger.h"
#include "base/url.h"

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

struct options {
    enum options_action action;
    const char *socket_path;
    struct url urls[URL_LIST_MAX];
    size_t n_urls;
    enum log_level log_level;
    uint32_t max_streams;          /* 0: the default */
    unsigned loops;                /* event loops */
    const char *cert_file, *key_file, *ca_file, *crl_file, *allowed_hostname, *cipher_suites; /* NULL: none */
    bool client_cert_auth;
    uint64_t keepalive_min_ms, keepalive_interval_ms, keepalive_timeout_ms; /* 0: the defaults */
    uint64_t progress_interval_ms; /* of watches with progress_notify */
};

int options_parse(int argc, char *const *argv, struct options *ret_options, char *ret_text, size_t text_size);
const char *options_usage(void);

#endif
