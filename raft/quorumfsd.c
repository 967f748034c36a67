/* quorumfsd - one member of a cluster: the supervisor, and, with a hidden first word, the node below it. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/streams.h"
#include "raft/config.h"
#include "raft/node_main.h"
#include "raft/restore.h"
#include "raft/supervisor.h"

int main(int argc, char **argv)
{
    bool is_node = argc > 1 && strcmp(argv[1], SUPERVISOR_NODE_WORD) == 0;
    int skip = is_node ? 2 : 1, status;
    char text[LOG_LINE_BYTES];
    struct config c;

    if (argc < 1 || streams_hold() < 0)
        return 1;
    if (config_parse(argc - skip, argv + skip, &c, text, sizeof(text)) < 0) {
        struct logger l = {LOG_LEVEL_INFO, "quorumfsd"};

        log_error(&l, "%s", text);
        return is_node ? CHILD_EXIT_FATAL : 1;
    }
    if (c.action == CONFIG_HELP || c.action == CONFIG_VERSION) {
        if (c.action == CONFIG_HELP)
            fputs(config_usage(), stdout);
        else
            printf("quorumfsd %s\n", QUORUMFS_VERSION);
        config_fini(&c);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (c.action == CONFIG_RESTORE) {
        struct logger l = {LOG_LEVEL_INFO, "quorumfsd"};
        int rc = restore_run(&c, text, sizeof(text));

        if (rc < 0)
            log_error(&l, "%s", text);
        else
            puts(text);
        config_fini(&c);
        return rc < 0 || fflush(stdout) != 0 ? 1 : 0;
    }
    if (is_node) {
        prctl(PR_SET_NAME, "quorumfsd"); /* it was started by the name of a link */
        status = node_main(&c);
    } else {
        status = supervisor_run(&c, argc - skip, argv + skip);
    }
    config_fini(&c);
    return status;
}
