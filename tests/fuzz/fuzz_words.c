/* Command lines, words separated by line feeds; the first byte says whose: 0 quorumfsd, 1 quorumfs-grpc, 2 quorumfs, 3 quorumctl,
 * 4 an operation of quorumctl's txn, 5 mode and retention of compaction. A no comes with a text that fits. */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/arena.h"
#include "fs/mount_options.h"
#include "raft/compactor.h"
#include "raft/config.h"
#include "sidecar/options.h"
#include "tests/fuzz/fuzz.h"
#include "tools/ctl.h"

#define WORDS_MAX 40
#define TEXT_BYTES 512

struct text {
    char text[TEXT_BYTES], behind;
};

static void check_text(const struct text *t, int rc)
{
    FUZZ_MUST(rc == 0 || rc == -EINVAL || rc == -ENOMEM);
    FUZZ_MUST(t->behind == 'x' && memchr(t->text, '\0', sizeof(t->text)) != NULL);
    FUZZ_MUST(rc == 0 || t->text[0] != '\0');
}

static void check_ctl(int argc, char **argv, bool op)
{
    struct ctl_options o;
    struct arena arena;
    struct op parsed;

    optind = 0; /* getopt starts anew */
    arena_init(&arena);
    if (op)
        ctl_options_parse_op(argc, argv, &arena, &parsed);
    else
        ctl_options_parse(argc, argv, &o);
    arena_fini(&arena);
}

static void check(uint8_t whose, int argc, char **argv)
{
    struct text t = {.behind = 'x'};
    struct compactor_options compactor;
    const char *why = NULL;
    struct config config;
    struct options options;
    struct mount_options mount;
    int rc;

    switch (whose) {
    case 0:
        rc = config_parse(argc - 1, argv + 1, &config, t.text, sizeof(t.text));
        check_text(&t, rc);
        if (rc == 0)
            config_fini(&config);
        break;
    case 1:
        check_text(&t, options_parse(argc - 1, argv + 1, &options, t.text, sizeof(t.text)));
        break;
    case 2:
        check_text(&t, mount_options_parse(&mount, argc, argv, t.text, sizeof(t.text)));
        mount_options_fini(&mount);
        break;
    case 5:
        rc = argc < 3 ? 0 : compactor_parse(argv[1], argv[2], &compactor, &why);
        FUZZ_MUST(rc == 0 || rc == -EINVAL);
        FUZZ_MUST(rc == 0 || why != NULL || (strcmp(argv[1], "periodic") != 0 && strcmp(argv[1], "revision") != 0));
        break;
    default:
        check_ctl(argc, argv, whose == 4);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy, *argv[WORDS_MAX + 2] = {"program"}, *at;
    int argc = 1;

    if (size < 1)
        return 0;
    copy = malloc(size);
    FUZZ_MUST(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    copy[size - 1] = '\0';
    for (at = copy; at != NULL && *at != '\0' && argc <= WORDS_MAX;)
        argv[argc++] = strsep(&at, "\n");
    check(data[0] % 6, argc, argv);
    free(copy);
    return 0;
}
