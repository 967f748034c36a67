/* The flags of auto-compaction, of the quota and of checkpoints. */
#include "raft/config_impl.h"

#include <errno.h>
#include <stdlib.h>

static int take_number(struct parse *p, enum flag f, uint64_t *ret_number)
{
    const char *text = config_value(p, f);
    uint64_t v = 0;

    for (const char *s = text; *s != '\0'; s++) {
        if (*s < '0' || *s > '9' || s - text >= 18)
            return config_refuse(p, "--%s: '%s' is not a number", config_flag_name(f), text);
        v = v * 10 + (uint64_t)(*s - '0');
    }
    if (text[0] == '\0')
        return config_refuse(p, "--%s needs a number", config_flag_name(f));
    *ret_number = v;
    return 0;
}

static int take_snapshots(struct parse *p)
{
    struct config *c = &p->c;

    if (take_number(p, FLAG_SNAPSHOT_COUNT, &c->snapshot_count) < 0 ||
        take_number(p, FLAG_SNAPSHOT_BYTES, &c->snapshot_bytes) < 0 ||
        take_number(p, FLAG_CATCHUP, &c->catchup_entries) < 0 ||
        take_number(p, FLAG_SNAPSHOT_RATE, &c->snapshot_rate_bytes) < 0 ||
        take_number(p, FLAG_MAX_LEARNERS, &c->max_learners) < 0 ||
        take_number(p, FLAG_READER_TIMEOUT, &c->reader_timeout_s) < 0)
        return -EINVAL;
    if (c->max_learners == 0 || c->max_learners > NODE_MAX_MEMBERS)
        return config_refuse(p, "--max-learners must be from 1 to %d", NODE_MAX_MEMBERS);
    c->lax_reconfig = strcmp(config_value(p, FLAG_STRICT), "false") == 0;
    c->force_new_cluster = config_is_set(p, FLAG_FORCE_NEW);
    if (c->reader_timeout_s > 86400)
        return config_refuse(p, "--reader-timeout %llu: at most a day", (unsigned long long)c->reader_timeout_s);
    if (c->snapshot_bytes < 1 << 20)
        return config_refuse(p, "--snapshot-bytes %llu must be at least 1048576", (unsigned long long)c->snapshot_bytes);
    return 0;
}

int config_take_upkeep(struct parse *p)
{
    const char *mode = config_value(p, FLAG_COMPACTION_MODE), *retention = config_value(p, FLAG_COMPACTION_RETENTION);
    const char *quota = config_value(p, FLAG_QUOTA), *why = NULL;
    char *end;

    if (compactor_parse(mode, retention, &p->c.compaction, &why) < 0) {
        if (why == NULL)
            return config_refuse(p, "--auto-compaction-mode: '%s' is neither periodic nor revision", mode);
        return config_refuse(p, "--auto-compaction-retention: '%s' %s", retention, why);
    }
    errno = 0;
    p->c.quota_bytes = strtoll(quota, &end, 10);
    if (errno != 0 || end == quota || *end != '\0')
        return config_refuse(p, "--quota-backend-bytes: '%s' is not a number of bytes", quota);
    return take_snapshots(p);
}
