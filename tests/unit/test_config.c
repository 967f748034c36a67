/* raft/config: etcd's flags, its defaults, its rules, and its numbers of members and clusters. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "raft/config.h"

#define WORDS_MAX 24

/* words: separated by blanks */
static int parse(const char *words, struct config *c, char *text, size_t size)
{
    char copy[2048], *argv[WORDS_MAX], *save = NULL;
    int argc = 0, rc;

    snprintf(copy, sizeof(copy), "%s", words);
    for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        assert_true(argc < WORDS_MAX);
        argv[argc++] = w;
    }
    text[0] = '\0';
    rc = config_parse(argc, argv, c, text, size);
    if (rc == 0 && c->log_level_text != NULL)
        c->log_level_text = NULL; /* it pointed into the words */
    return rc;
}

static void defaults_are_etcds(void **state)
{
    struct config c;
    char text[512];

    assert_int_equal(parse("", &c, text, sizeof(text)), 0);
    assert_int_equal(c.action, CONFIG_RUN);
    assert_string_equal(c.name, "default");
    assert_non_null(strstr(c.data_dir, "/default.quorumfs"));
    assert_int_equal(c.data_dir[0], '/');
    assert_string_equal(c.listen_client.text, "http://localhost:2379");
    assert_string_equal(c.advertise_client.text, "http://localhost:2379");
    assert_string_equal(c.listen_peer.text, "http://localhost:2380");
    assert_string_equal(c.advertise_peer.text, "http://localhost:2380");
    assert_string_equal(c.token, "etcd-cluster");
    assert_int_equal(c.heartbeat_ms, 100);
    assert_int_equal(c.election_ms, 1000);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
    assert_int_equal(c.n_members, 1);
    assert_string_equal(c.members[0].name, "default");
    assert_string_equal(c.members[0].peer_urls, "http://localhost:2380");
    assert_false(c.existing);
    assert_false(c.initial_given);
    assert_true(c.sidecar);
    config_fini(&c);
}

/* The published example of etcd: its first log of a node with all defaults says member 8e9e05c52164694d of cluster
 * cdf818194e3a8c32. */
static void numbers_are_etcds(void **state)
{
    struct config c;
    char text[512];

    assert_int_equal(parse("", &c, text, sizeof(text)), 0);
    assert_true(c.members[0].id == 0x8e9e05c52164694d);
    assert_true(c.cluster_id == 0xcdf818194e3a8c32);
    config_fini(&c);
}

static void numbers_do_not_depend_on_order(void **state)
{
    struct config a, b;
    char text[512];

    assert_int_equal(parse("--name a --initial-cluster a=http://h:1,b=http://h:2,a=http://h:3 "
                           "--initial-advertise-peer-urls http://h:1,http://h:3",
                           &a, text, sizeof(text)), 0);
    assert_int_equal(parse("--name=b -initial-cluster=b=http://h:2,a=http://h:3,a=http://h:1 "
                           "-initial-advertise-peer-urls=http://h:2/",
                           &b, text, sizeof(text)), 0);
    assert_int_equal(a.n_members, 2);
    assert_true(a.cluster_id == b.cluster_id);
    assert_true(a.members[0].id == b.members[1].id);
    assert_true(a.members[a.self].id != b.members[b.self].id);
    assert_string_equal(a.members[0].peer_urls, "http://h:1,http://h:3");
    assert_string_equal(b.members[1].peer_urls, "http://h:1,http://h:3");
    config_fini(&a);
    config_fini(&b);
}

static void the_token_makes_another_cluster(void **state)
{
    struct config a, b;
    char text[512];

    assert_int_equal(parse("", &a, text, sizeof(text)), 0);
    assert_int_equal(parse("--initial-cluster-token x", &b, text, sizeof(text)), 0);
    assert_true(a.cluster_id != b.cluster_id);
    assert_true(a.members[0].id != b.members[0].id);
    assert_true(b.initial_given);
    config_fini(&a);
    config_fini(&b);
}

static void our_own_flags(void **state)
{
    struct config c;
    char text[512];

    assert_int_equal(parse("--data-dir /d --mount /m --mount=/n,ro,prefix=/x --no-sidecar", &c, text, sizeof(text)), 0);
    assert_int_equal(c.n_mounts, 2);
    assert_string_equal(c.mounts[0].dir, "/m");
    assert_string_equal(c.mounts[0].options, "");
    assert_string_equal(c.mounts[1].dir, "/n");
    assert_string_equal(c.mounts[1].options, "ro,prefix=/x");
    assert_string_equal(c.socket_path, "/d/node.sock");
    assert_false(c.sidecar);
    config_fini(&c);
    assert_int_equal(parse("--auto-compaction-retention 90m --quota-backend-bytes=-1", &c, text, sizeof(text)), 0);
    assert_true(c.compaction.mode == COMPACTOR_PERIODIC && c.compaction.period_ms == 5400000 && c.quota_bytes == -1);
    config_fini(&c);
    assert_int_equal(parse("--version", &c, text, sizeof(text)), 0);
    assert_int_equal(c.action, CONFIG_VERSION);
    config_fini(&c);
    assert_int_equal(parse("--heartbeat-interval 0 -h", &c, text, sizeof(text)), 0);
    assert_int_equal(c.action, CONFIG_HELP);
    config_fini(&c);
    assert_int_equal(parse("--restore-snapshot f --help", &c, text, sizeof(text)), 0); /* asks, and restores nothing */
    assert_int_equal(c.action, CONFIG_HELP);
    config_fini(&c);
}

static void tls_flags_are_etcds(void **state)
{
    struct config c;
    char text[512];

    assert_int_equal(parse("--data-dir /d --listen-peer-urls https://h:1 --peer-cert-file /c --peer-key-file k --peer-trusted-ca-file /a "
                           "--peer-client-cert-auth --peer-auto-tls --max-concurrent-streams 7 --grpc-keepalive-timeout=3s",
                           &c, text, sizeof(text)), 0);
    assert_string_equal(c.peer_tls.cert_file, "/c");
    assert_int_equal(c.peer_tls.key_file[0], '/'); /* the children's working directory is another */
    assert_string_equal(c.peer_tls.ca_file, "/a");
    assert_true(c.peer_tls.client_cert_auth && !c.peer_tls.auto_tls && !c.peer_tls.unused && config_tls_wanted(&c));
    assert_null(c.client_tls.cert_file);
    assert_int_equal(c.n_sidecar_words, 2);
    assert_string_equal(c.sidecar_words[0], "--max-concurrent-streams=7");
    assert_string_equal(c.sidecar_words[1], "--grpc-keepalive-timeout=3s");
    config_fini(&c);
    assert_int_equal(parse("--data-dir /d --listen-client-urls https://h:1 --advertise-client-urls https://h:1 --auto-tls "
                           "--peer-client-cert-auth=false", &c, text, sizeof(text)), 0);
    assert_string_equal(c.client_tls.cert_file, "/d/fixtures/client/cert.pem");
    assert_string_equal(c.client_tls.key_file, "/d/fixtures/client/key.pem");
    assert_true(c.client_tls.auto_tls && !c.peer_tls.client_cert_auth && !config_tls_wanted(&c));
    config_fini(&c);
    assert_int_equal(parse("--peer-trusted-ca-file /a", &c, text, sizeof(text)), 0);
    assert_true(c.peer_tls.unused);
    config_fini(&c);
    assert_int_equal(parse("--name a --initial-cluster a=http://localhost:2380,b=https://h:1", &c, text, sizeof(text)), 0);
    assert_true(config_tls_wanted(&c)); /* for dialling */
    config_fini(&c);
}

static void wrong_ones_are_named(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"stray", "stray"},
        {"-", "'-'"},
        {"--nam x", "--nam"},
        {"--name", "--name needs a value"},
        {"--name a=b", "--name"},
        {"--no-sidecar=no", "--no-sidecar"},
        {"--heartbeat-interval soon", "'soon'"},
        {"--heartbeat-interval 9999999999", "--heartbeat-interval"},
        {"--heartbeat-interval 0", "above 0"},
        {"--election-timeout 499", "5 times"},
        {"--election-timeout 50001", "at most 50000"},
        {"--log-level loud", "'loud'"},
        {"--auto-compaction-mode never", "'never' is neither"},
        {"--auto-compaction-retention soon", "'soon' is neither hours"},
        {"--auto-compaction-mode revision --auto-compaction-retention 1h", "'1h' is not a number of revisions"},
        {"--quota-backend-bytes 2GB", "'2GB'"},
        {"--initial-cluster-state old", "'old'"},
        {"--listen-client-urls 127.0.0.1", "--listen-client-urls"},
        {"--listen-client-urls http://h:1", "--advertise-client-urls is required"},
        {"--listen-peer-urls unix:///s", "http or https"},
        {"--initial-cluster default=unixs:///s", "http or https"},
        {"--listen-peer-urls https://h:1", "TLS needs --peer-cert-file"},
        {"--listen-peer-urls https://h:1 --auto-tls", "TLS needs --peer-cert-file"},
        {"--listen-client-urls https://h:1 --advertise-client-urls https://h:1", "TLS needs --cert-file"},
        {"--listen-client-urls unixs:///s --advertise-client-urls https://h:1 --peer-auto-tls", "TLS needs --cert-file"},
        {"--peer-cert-file /c", "--peer-cert-file and --peer-key-file belong together"},
        {"--key-file /c", "--cert-file and --key-file belong together"},
        {"--peer-client-cert-auth", "--peer-client-cert-auth needs --peer-trusted-ca-file"},
        {"--client-cert-auth=true", "--client-cert-auth needs --trusted-ca-file"},
        {"--peer-cert-allowed-hostname h", "--peer-cert-allowed-hostname needs --peer-trusted-ca-file"},
        {"--client-crl-file /l", "--client-crl-file needs --trusted-ca-file"},
        {"--peer-crl-file /l", "--peer-crl-file needs --peer-trusted-ca-file"},
        {"--peer-cert-allowed-cn h", "--peer-cert-allowed-cn needs"},
        {"--client-cert-auth=yes", "takes no value"},
        {"--listen-peer-urls http://h:70000", "out of range"},
        {"--name b --initial-cluster a=http://h:1", "'b'"},
        {"--initial-cluster default", "NAME=URL"},
        {"--initial-cluster default=http://h:1", "the same"},
        {"--initial-cluster default=http://localhost:2380,x=http://localhost:2380", "twice"},
        {"--initial-cluster default=http://localhost:2380,", "NAME=URL"},
        {"--mount ,ro", "directory is missing"},
        {"--data-dir=", "directory is missing"},
        {"--data-dir /d,e --mount /m", "comma"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config c = {.n_members = 77};
        char text[512];

        if (parse(cases[i].words, &c, text, sizeof(text)) != -EINVAL || strstr(text, cases[i].says) == NULL ||
            c.n_members != 77)
            fail_msg("'%s': '%s'", cases[i].words, text);
    }
}

static void the_environment_stands_for_missing_flags(void **state)
{
    struct config c;
    char text[512];

    setenv("ETCD_NAME", "e", 1);
    setenv("ETCD_ELECTION_TIMEOUT", "2000", 1);
    assert_int_equal(parse("--election-timeout 3000", &c, text, sizeof(text)), 0);
    assert_string_equal(c.name, "e");
    assert_int_equal(c.election_ms, 3000);
    config_fini(&c);
    setenv("ETCD_ELECTION_TIMEOUT", "soon", 1);
    assert_int_equal(parse("", &c, text, sizeof(text)), -EINVAL);
    unsetenv("ETCD_NAME");
    unsetenv("ETCD_ELECTION_TIMEOUT");
}

static void the_sockets_path_has_a_limit(void **state)
{
    char words[256], text[512];
    struct config c;

    snprintf(words, sizeof(words), "--data-dir /%097d", 0); /* 98 and "/node.sock" */
    assert_int_equal(parse(words, &c, text, sizeof(text)), -EINVAL);
    assert_non_null(strstr(text, "too long"));
    snprintf(words, sizeof(words), "--data-dir /%096d", 0);
    assert_int_equal(parse(words, &c, text, sizeof(text)), 0);
    config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_etcds),
        cmocka_unit_test(numbers_are_etcds),
        cmocka_unit_test(numbers_do_not_depend_on_order),
        cmocka_unit_test(the_token_makes_another_cluster),
        cmocka_unit_test(our_own_flags),
        cmocka_unit_test(tls_flags_are_etcds),
        cmocka_unit_test(wrong_ones_are_named),
        cmocka_unit_test(the_environment_stands_for_missing_flags),
        cmocka_unit_test(the_sockets_path_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
