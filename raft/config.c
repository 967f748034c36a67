/* What each flag must be, then what they must be together. */
#include "raft/config_impl.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- single values ---- */

static int dup_text(struct parse *p, const char *text, char **ret_text)
{
    *ret_text = strdup(text);
    return *ret_text != NULL ? 0 : config_refuse(p, "out of memory");
}

int config_absolute(struct parse *p, const char *path, char **ret_path)
{
    char *cwd = NULL;
    int n;

    if (path[0] == '/')
        return dup_text(p, path, ret_path);
    cwd = getcwd(NULL, 0);
    n = cwd != NULL ? asprintf(ret_path, "%s/%s", cwd, path) : -1;
    free(cwd);
    if (n < 0) {
        *ret_path = NULL;
        return config_refuse(p, "'%s': the working directory is not known", path);
    }
    return 0;
}

static int compare_urls(const void *a, const void *b)
{
    char text_a[URL_TEXT_MAX_BYTES], text_b[URL_TEXT_MAX_BYTES];

    url_format(a, text_a, sizeof(text_a));
    url_format(b, text_b, sizeof(text_b));
    return strcmp(text_a, text_b);
}

static char *join_urls(const struct url *urls, size_t count)
{
    char *out = calloc(count, URL_TEXT_MAX_BYTES);
    size_t len = 0;

    for (size_t i = 0; out != NULL && i < count; i++) {
        if (i != 0)
            out[len++] = ',';
        url_format(&urls[i], out + len, URL_TEXT_MAX_BYTES);
        len += strlen(out + len);
    }
    return out;
}

static int parse_urls(struct parse *p, enum flag f, struct config_urls *out)
{
    const char *text = config_value(p, f), *why;
    struct slice bad;

    if (url_list_parse(slice_from_str(text), out->urls, URL_LIST_MAX, &out->count, &bad, &why) < 0)
        return config_refuse(p, "--%s: '%.*s': %s", config_flag_name(f), (int)(bad.len < 300 ? bad.len : 300),
                      (const char *)bad.data, why);
    if (f == FLAG_LISTEN_PEER || f == FLAG_ADVERTISE_PEER)
        for (size_t i = 0; i < out->count; i++)
            if (out->urls[i].scheme != URL_HTTP && out->urls[i].scheme != URL_HTTPS)
                return config_refuse(p, "--%s: '%s': peers speak http or https", config_flag_name(f), text);
    out->text = join_urls(out->urls, out->count);
    return out->text != NULL ? 0 : config_refuse(p, "out of memory");
}

static int parse_ms(struct parse *p, enum flag f, uint64_t *ret_ms)
{
    const char *text = config_value(p, f);
    uint64_t v = 0;

    for (const char *s = text; *s != '\0'; s++) {
        if (*s < '0' || *s > '9' || s - text >= 9)
            return config_refuse(p, "--%s: '%s' is not a number of milliseconds", config_flag_name(f), text);
        v = v * 10 + (uint64_t)(*s - '0');
    }
    if (v == 0)
        return config_refuse(p, "--%s: '%s' must be above 0", config_flag_name(f), text);
    *ret_ms = v;
    return 0;
}

static int parse_timing(struct parse *p)
{
    struct config *c = &p->c;

    if (parse_ms(p, FLAG_HEARTBEAT, &c->heartbeat_ms) < 0 || parse_ms(p, FLAG_ELECTION, &c->election_ms) < 0)
        return -EINVAL;
    if (c->election_ms < 5 * c->heartbeat_ms)
        return config_refuse(p, "--election-timeout %llu must be at least 5 times --heartbeat-interval %llu",
                      (unsigned long long)c->election_ms, (unsigned long long)c->heartbeat_ms);
    if (c->election_ms > 50000)
        return config_refuse(p, "--election-timeout %llu is too long: at most 50000", (unsigned long long)c->election_ms);
    return 0;
}

/* ---- the cluster ---- */

static uint64_t first_bytes_of_sha1(const void *data, size_t len)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    uint64_t v = 0;

    if (EVP_Digest(data, len, digest, NULL, EVP_sha1(), NULL) != 1)
        abort(); /* a library without SHA-1: nothing of this can work */
    for (int i = 0; i < 8; i++)
        v = v << 8 | digest[i];
    return v != 0 ? v : 1; /* 0 is "none" */
}

uint64_t config_member_id(const struct url *urls, size_t count, const char *token)
{
    struct url sorted[URL_LIST_MAX];
    char *text = calloc(1, count * URL_TEXT_MAX_BYTES + strlen(token) + 1);
    size_t len = 0;
    uint64_t id;

    if (text == NULL || count > URL_LIST_MAX)
        abort();
    memcpy(sorted, urls, count * sizeof(*urls));
    qsort(sorted, count, sizeof(*sorted), compare_urls);
    for (size_t i = 0; i < count; i++) {
        url_format(&sorted[i], text + len, URL_TEXT_MAX_BYTES);
        len += strlen(text + len);
    }
    memcpy(text + len, token, strlen(token));
    id = first_bytes_of_sha1(text, len + strlen(token));
    free(text);
    return id;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t config_cluster_id(const uint64_t *member_ids, size_t count)
{
    uint64_t sorted[NODE_MAX_MEMBERS];
    uint8_t bytes[NODE_MAX_MEMBERS * 8];

    if (count > NODE_MAX_MEMBERS)
        abort();
    memcpy(sorted, member_ids, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_ids);
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < 8; b++)
            bytes[i * 8 + (size_t)b] = (uint8_t)(sorted[i] >> (56 - 8 * b));
    return first_bytes_of_sha1(bytes, count * 8);
}

/* The URLs of one member while the list is read: "a=u1,b=u2,a=u3" is two members, as with etcd. */
struct cluster_urls {
    struct url urls[NODE_MAX_MEMBERS][URL_LIST_MAX];
    size_t count[NODE_MAX_MEMBERS];
};

static int find_member(const struct config *c, const char *name, size_t len)
{
    for (size_t i = 0; i < c->n_members; i++)
        if (strlen(c->members[i].name) == len && memcmp(c->members[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

static int take_member(struct parse *p, struct cluster_urls *cu, struct slice item)
{
    struct config *c = &p->c;
    const char *name = (const char *)item.data, *why;
    const uint8_t *equals = memchr(item.data, '=', item.len);
    size_t len = equals != NULL ? (size_t)(equals - item.data) : 0;
    struct url url;
    int m;

    if (len == 0 || len > CONFIG_NAME_MAX_BYTES)
        return config_refuse(p, "--initial-cluster: '%.*s' is not NAME=URL", (int)item.len, name);
    if (url_parse(slice_make(equals + 1, item.len - len - 1), &url, &why) < 0)
        return config_refuse(p, "--initial-cluster: '%.*s': %s", (int)item.len, name, why);
    if (url.scheme != URL_HTTP && url.scheme != URL_HTTPS)
        return config_refuse(p, "--initial-cluster: '%.*s': peers speak http or https", (int)item.len, name);
    for (size_t i = 0; i < c->n_members; i++)
        for (size_t k = 0; k < cu->count[i]; k++)
            if (compare_urls(&cu->urls[i][k], &url) == 0)
                return config_refuse(p, "--initial-cluster: '%.*s': the URL is there twice", (int)item.len, name);
    m = find_member(c, name, len);
    if (m < 0) {
        if (c->n_members == NODE_MAX_MEMBERS)
            return config_refuse(p, "--initial-cluster: more than %d members", NODE_MAX_MEMBERS);
        c->members[c->n_members].name = strndup(name, len);
        if (c->members[c->n_members].name == NULL)
            return config_refuse(p, "out of memory");
        m = (int)c->n_members++;
    }
    if (cu->count[m] == URL_LIST_MAX)
        return config_refuse(p, "--initial-cluster: '%.*s': too many URLs of one member", (int)item.len, name);
    cu->urls[m][cu->count[m]++] = url;
    return 0;
}

static int take_members(struct parse *p, struct cluster_urls *cu)
{
    const char *text = p->value[FLAG_CLUSTER];
    int m;

    if (text == NULL) { /* this member alone */
        p->c.members[0].name = strdup(p->c.name);
        if (p->c.members[0].name == NULL)
            return config_refuse(p, "out of memory");
        p->c.n_members = 1;
        cu->count[0] = p->c.advertise_peer.count;
        memcpy(cu->urls[0], p->c.advertise_peer.urls, sizeof(cu->urls[0]));
        return 0;
    }
    for (;;) {
        size_t len = strcspn(text, ",");

        if (take_member(p, cu, slice_make(text, len)) < 0)
            return -EINVAL;
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    m = find_member(&p->c, p->c.name, strlen(p->c.name));
    if (m < 0)
        return config_refuse(p, "--initial-cluster: it does not contain this member's --name '%s'", p->c.name);
    p->c.self = (size_t)m;
    return 0;
}

static int number_members(struct parse *p, struct cluster_urls *cu)
{
    struct config *c = &p->c;
    uint64_t ids[NODE_MAX_MEMBERS];

    for (size_t i = 0; i < c->n_members; i++) {
        qsort(cu->urls[i], cu->count[i], sizeof(struct url), compare_urls);
        c->members[i].peer_urls = join_urls(cu->urls[i], cu->count[i]);
        if (c->members[i].peer_urls == NULL)
            return config_refuse(p, "out of memory");
        ids[i] = c->members[i].id = config_member_id(cu->urls[i], cu->count[i], c->token);
    }
    c->cluster_id = config_cluster_id(ids, c->n_members);
    return 0;
}

static int parse_cluster(struct parse *p)
{
    struct config *c = &p->c;
    struct cluster_urls *cu = calloc(1, sizeof(*cu));
    struct url own[URL_LIST_MAX];
    char *own_text = NULL;
    int rc;

    if (cu == NULL)
        return config_refuse(p, "out of memory");
    rc = take_members(p, cu);
    if (rc == 0)
        rc = number_members(p, cu);
    if (rc < 0)
        goto done;
    memcpy(own, c->advertise_peer.urls, sizeof(own));
    qsort(own, c->advertise_peer.count, sizeof(*own), compare_urls);
    own_text = join_urls(own, c->advertise_peer.count);
    if (own_text == NULL)
        rc = config_refuse(p, "out of memory");
    else if (strcmp(own_text, c->members[c->self].peer_urls) != 0)
        rc = config_refuse(p, "--initial-cluster has '%s=%s', --initial-advertise-peer-urls has '%s': they must be the same",
                    c->name, c->members[c->self].peer_urls, own_text);
done:
    free(own_text);
    free(cu);
    return rc;
}

/* ---- all ---- */

static int parse_mounts(struct parse *p)
{
    for (size_t i = 0; i < p->n_mounts; i++) {
        struct config_mount *m = &p->c.mounts[p->c.n_mounts];
        size_t len = strcspn(p->mounts[i], ",");
        char *dir = strndup(p->mounts[i], len);

        if (dir == NULL)
            return config_refuse(p, "out of memory");
        if (len == 0) {
            free(dir);
            return config_refuse(p, "--mount '%s': the directory is missing", p->mounts[i]);
        }
        p->c.n_mounts++;
        if (config_absolute(p, dir, &m->dir) < 0) {
            free(dir);
            return -EINVAL;
        }
        free(dir);
        if (dup_text(p, p->mounts[i][len] == ',' ? p->mounts[i] + len + 1 : "", &m->options) < 0)
            return -EINVAL;
    }
    return 0;
}

static int parse_data_dir(struct parse *p)
{
    struct config *c = &p->c;
    char *by_name = NULL;
    int rc;

    if (p->value[FLAG_DATA_DIR] != NULL && p->value[FLAG_DATA_DIR][0] == '\0')
        return config_refuse(p, "--data-dir: the directory is missing");
    if (p->value[FLAG_DATA_DIR] == NULL && asprintf(&by_name, "%s.quorumfs", c->name) < 0)
        return config_refuse(p, "out of memory");
    rc = config_absolute(p, by_name != NULL ? by_name : p->value[FLAG_DATA_DIR], &c->data_dir);
    free(by_name);
    if (rc < 0)
        return rc;
    if (asprintf(&c->socket_path, "%s/node.sock", c->data_dir) < 0) {
        c->socket_path = NULL;
        return config_refuse(p, "out of memory");
    }
    if (strlen(c->socket_path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return config_refuse(p, "--data-dir: the path of the socket is too long for the system (%zu bytes, at most %zu): '%s'",
                      strlen(c->socket_path), sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1, c->socket_path);
    if (strchr(c->data_dir, ',') != NULL && p->n_mounts != 0)
        return config_refuse(p, "--data-dir: a path with a comma cannot be combined with --mount: '%s'", c->data_dir);
    return 0;
}

static int parse_names(struct parse *p)
{
    struct config *c = &p->c;
    const char *name = config_value(p, FLAG_NAME), *state = config_value(p, FLAG_STATE);

    if (name[0] == '\0' || strlen(name) > CONFIG_NAME_MAX_BYTES || strpbrk(name, "=,/\n\r") != NULL)
        return config_refuse(p, "--name: '%.300s' cannot be a name", name);
    if (strcmp(state, "new") != 0 && strcmp(state, "existing") != 0)
        return config_refuse(p, "--initial-cluster-state: '%s' is neither new nor existing", state);
    c->existing = strcmp(state, "existing") == 0;
    c->log_level_text = config_value(p, FLAG_LOG_LEVEL);
    if (!logger_level_parse(c->log_level_text, &c->log_level))
        return config_refuse(p, "--log-level: '%s' is none of debug, info, warn, error", c->log_level_text);
    if (dup_text(p, name, &c->name) < 0)
        return -EINVAL;
    return dup_text(p, config_value(p, FLAG_TOKEN), &c->token);
}

static int parse_values(struct parse *p)
{
    struct config *c = &p->c;

    if (parse_names(p) < 0 || parse_timing(p) < 0 || config_take_upkeep(p) < 0)
        return -EINVAL;
    if (parse_urls(p, FLAG_LISTEN_CLIENT, &c->listen_client) < 0 ||
        parse_urls(p, FLAG_ADVERTISE_CLIENT, &c->advertise_client) < 0 ||
        parse_urls(p, FLAG_LISTEN_PEER, &c->listen_peer) < 0 ||
        parse_urls(p, FLAG_ADVERTISE_PEER, &c->advertise_peer) < 0)
        return -EINVAL;
    if (p->value[FLAG_LISTEN_CLIENT] != NULL && p->value[FLAG_ADVERTISE_CLIENT] == NULL)
        return config_refuse(p, "--advertise-client-urls is required when --listen-client-urls is given");
    if (parse_cluster(p) < 0 || parse_data_dir(p) < 0)
        return -EINVAL;
    c->initial_given = p->value[FLAG_CLUSTER] != NULL || p->value[FLAG_TOKEN] != NULL ||
                       p->value[FLAG_ADVERTISE_PEER] != NULL;
    c->sidecar = !config_is_set(p, FLAG_NO_SIDECAR);
    if (config_take_tls(p) < 0 || config_take_sidecar_words(p) < 0)
        return -EINVAL;
    return parse_mounts(p);
}

int config_parse(int argc, char *const *argv, struct config *ret_config, char *ret_text, size_t text_size)
{
    struct parse p = {.text = ret_text, .text_size = text_size};
    int rc = config_read_words(&p, argc, argv);

    config_read_environment(&p);
    if (rc == 0 && config_is_set(&p, FLAG_HELP))
        p.c.action = CONFIG_HELP;
    else if (rc == 0 && config_is_set(&p, FLAG_VERSION))
        p.c.action = CONFIG_VERSION;
    else if (rc == 0)
        rc = parse_values(&p);
    if (rc == 0 && p.c.action == CONFIG_RUN && p.value[FLAG_RESTORE] != NULL) {
        p.c.action = CONFIG_RESTORE;
        rc = dup_text(&p, p.value[FLAG_RESTORE], &p.c.restore);
    }
    if (rc < 0) {
        config_fini(&p.c);
        return rc;
    }
    *ret_config = p.c;
    return 0;
}

void config_fini(struct config *c)
{
    free(c->name);
    free(c->data_dir);
    free(c->socket_path);
    free(c->restore);
    free(c->token);
    free(c->listen_client.text);
    free(c->advertise_client.text);
    free(c->listen_peer.text);
    free(c->advertise_peer.text);
    for (size_t i = 0; i < c->n_members; i++) {
        free(c->members[i].name);
        free(c->members[i].peer_urls);
    }
    for (size_t i = 0; i < c->n_mounts; i++) {
        free(c->mounts[i].dir);
        free(c->mounts[i].options);
    }
    config_tls_fini(&c->peer_tls);
    config_tls_fini(&c->client_tls);
    for (size_t i = 0; i < c->n_sidecar_words; i++)
        free(c->sidecar_words[i]);
    memset(c, 0, sizeof(*c));
}
