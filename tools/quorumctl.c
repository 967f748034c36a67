/* quorumctl - the operator's tool. Its parts are in ctl_*.c; docs/man/quorumctl.1 describes it. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/streams.h"
#include "tools/ctl_data.h"

static int run(const struct ctl_options *opts)
{
    static int (*const runners[])(struct ctl *) = {
        [CTL_STATUS] = ctl_status, [CTL_GET] = ctl_get, [CTL_PUT] = ctl_put,     [CTL_DEL] = ctl_del,
        [CTL_TXN] = ctl_txn,       [CTL_WATCH] = ctl_watch, [CTL_LOG] = ctl_log,
        [CTL_COMPACT] = ctl_compact, [CTL_FS] = ctl_fs, [CTL_MEMBER] = ctl_member, [CTL_MOVE_LEADER] = ctl_move_leader,
    };
    struct ctl c;
    int rc = ctl_open(opts, &c);

    if (rc == 0)
        rc = runners[opts->command](&c);
    ctl_close(&c);
    return rc;
}

static int say(const struct ctl_options *opts)
{
    struct ctl_out out = {.json = opts->json};
    int rc;

    if (opts->help || opts->command == CTL_HELP)
        ctl_usage(&out.buf);
    else if (opts->json)
        ctl_out_text(&out, "{\"version\":\"%s\"}\n", QUORUMFS_VERSION);
    else
        ctl_out_text(&out, "quorumctl version: %s\n", QUORUMFS_VERSION);
    rc = ctl_out_flush(&out);
    bytes_fini(&out.buf);
    return rc;
}

int main(int argc, char **argv)
{
    struct ctl_options opts;
    int rc;

    if (streams_hold() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    if (ctl_is_data(argc, argv))
        return ctl_data_main(argc, argv);
    if (ctl_options_parse(argc, argv, &opts) < 0)
        return 1;
    if (opts.help || opts.command == CTL_HELP || opts.command == CTL_VERSION)
        rc = say(&opts);
    else
        rc = run(&opts);
    return rc < 0 ? 1 : 0;
}
