/* The command line of db and snapshot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ctl_data.h"

/* An option that is followed by its value as a word. */
static bool takes_value(const char *word)
{
    static const char *const names[] = {"--socket", "--output", "-o", "-w", "--timeout", "--data-dir", "--file", "--from"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(word, names[i]) == 0)
            return true;
    return false;
}

bool ctl_is_data(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-')
            return strcmp(argv[i], "db") == 0 || strcmp(argv[i], "snapshot") == 0;
        if (takes_value(argv[i]))
            i++;
    }
    return false;
}

static int take_option(struct ctl_data *d, const char *name, const char *value)
{
    if (strcmp(name, "--socket") == 0)
        d->opts.socket = value;
    else if (strcmp(name, "--data-dir") == 0)
        d->data_dir = value;
    else if (strcmp(name, "--file") == 0)
        d->file = value;
    else if (strcmp(name, "--from") == 0)
        d->opts.rev = strtoll(value, NULL, 10);
    else if (strcmp(name, "--timeout") == 0)
        d->opts.timeout_ms = (uint64_t)(strtod(value, NULL) * 1000);
    else if (strcmp(value, "json") == 0 || strcmp(value, "text") == 0 || strcmp(value, "simple") == 0)
        d->opts.json = strcmp(value, "json") == 0;
    else
        return ctl_fail("%s does not know '%s'", name, value);
    return 0;
}

/* Everything behind "snapshot restore FILE" is quorumfsd's business. */
static bool is_restore(const struct ctl_data *d)
{
    return d->n_words == 3 && strcmp(d->words[0], "snapshot") == 0 && strcmp(d->words[1], "restore") == 0;
}

static int parse(struct ctl_data *d, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char name[32];
        const char *equals = strchr(argv[i], '=');
        size_t len = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);

        if (is_restore(d)) {
            d->rest = argv + i;
            d->n_rest = (size_t)(argc - i);
            return 0;
        }
        if (argv[i][0] != '-') {
            if (d->n_words == 3)
                return ctl_fail("'%s' is one word too many", argv[i]);
            d->words[d->n_words++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            d->opts.help = true;
            return 0;
        }
        if (strcmp(argv[i], "--hex") == 0) {
            d->opts.hex = true;
            continue;
        }
        if (strcmp(argv[i], "--values") == 0) {
            d->values = true;
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", (int)(len < 31 ? len : 31), argv[i]);
        if (!takes_value(name))
            return ctl_fail("%s is not an option of %s, or it stands in the wrong place (--help lists them)", argv[i],
                            d->n_words > 0 ? d->words[0] : "quorumctl");
        if (equals == NULL && i + 1 == argc)
            return ctl_fail("%s needs a value", argv[i]);
        if (take_option(d, name, equals != NULL ? equals + 1 : argv[++i]) < 0)
            return -1;
    }
    return 0;
}

int ctl_data_main(int argc, char **argv)
{
    struct ctl_data d = {.opts = {.timeout_ms = 600000}}; /* a checkpoint of a large key space takes its time */
    int rc = parse(&d, argc, argv);

    d.ctl.out.json = d.opts.json;
    d.ctl.out.hex = d.opts.hex;
    if (rc == 0 && d.opts.help) {
        ctl_usage(&d.ctl.out.buf);
        rc = ctl_out_flush(&d.ctl.out);
    } else if (rc == 0)
        rc = strcmp(d.words[0], "db") == 0 ? ctl_db(&d) : ctl_snapshot(&d);
    ctl_close(&d.ctl);
    return rc < 0 ? 1 : 0;
}

void ctl_checkpoint_json(struct ctl_out *o, const struct checkpoint_info *info)
{
    ctl_out_text(o, "{\"file\":");
    ctl_out_quoted(o, slice_from_str(info->path));
    ctl_out_text(o,
                 ",\"index\":%llu,\"term\":%llu,\"revision\":%lld,\"compacted\":%lld,\"cluster_id\":\"%016llx\",\"epoch\":%llu,"
                 "\"bytes\":%llu,\"crc32c\":\"%08x\",\"time_ns\":%lld}",
                 (unsigned long long)info->applied_index, (unsigned long long)info->applied_term, (long long)info->revision,
                 (long long)info->compacted, (unsigned long long)info->cluster_id, (unsigned long long)info->epoch,
                 (unsigned long long)info->bytes, info->crc, (long long)info->time_ns);
}

void ctl_checkpoint_line(struct ctl_out *o, const struct checkpoint_info *info)
{
    ctl_out_text(o, "%s: entry %llu, revision %lld, %llu bytes\n", info->path, (unsigned long long)info->applied_index,
                 (long long)info->revision, (unsigned long long)info->bytes);
}
