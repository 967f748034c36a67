/* A main for a fuzz target where there is no libFuzzer: runs each file, or each file of each directory, given. Ends with
 * the number of inputs; a crash is the target's own. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX_BYTES (1u << 20)
#define PATH_BYTES 4096

static size_t inputs;

static void run_file(const char *path)
{
    uint8_t *data = malloc(INPUT_MAX_BYTES), *exact;
    FILE *f = fopen(path, "rb");
    size_t len;

    if (f == NULL || data == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    len = fread(data, 1, INPUT_MAX_BYTES, f);
    fclose(f);
    exact = malloc(len != 0 ? len : 1); /* so that a sanitizer sees a read past the end */
    if (exact == NULL)
        exit(1);
    memcpy(exact, data, len);
    free(data);
    printf("%s\n", path);
    fflush(stdout); /* the last line says which one it was */
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    inputs++;
}

static void run_path(const char *path)
{
    struct stat st;
    struct dirent **list;
    int n;

    if (stat(path, &st) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char child[PATH_BYTES];

        if (list[i]->d_name[0] != '.') {
            snprintf(child, sizeof(child), "%s/%s", path, list[i]->d_name);
            run_path(child);
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        run_path(argv[i]);
    printf("inputs %zu\n", inputs);
    return inputs == 0; /* a corpus that is not there is a mistake */
}
