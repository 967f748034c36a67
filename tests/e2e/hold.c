/* hold - a front end that does not let go: takes a snapshot of a store, says "holds" and a newline on standard output, and
 * waits for a signal.
 *
 *   hold STORE_DIR */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/store.h"

int main(int argc, char **argv)
{
    struct store_options options = {0};
    struct store_read *read;
    struct store *store;
    int rc;

    if (argc != 2)
        return 2;
    rc = store_open(argv[1], &options, &store);
    if (rc == 0)
        rc = store_read_begin(store, &read);
    if (rc < 0) {
        fprintf(stderr, "hold: %s: %s\n", argv[1], strerror(-rc));
        return 1;
    }
    puts("holds");
    fflush(stdout);
    for (;;)
        pause();
}
