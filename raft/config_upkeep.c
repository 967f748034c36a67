/* The flags of auto-compaction and of the quota. */
#include "raft/config_impl.h"

#include <errno.h>
#include <stdlib.h>

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
    return 0;
}
