/* fuzz.h - what every fuzz target has: the entry that libFuzzer or the replay calls, and a way to say that something that
 * must hold does not.
 *
 * Process: tests.  Thread: one.  Errors: FUZZ_MUST aborts, which is how a finding looks.  Memory: none.
 * Units:   bytes. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_MUST(condition)                                                                            \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                                    \
        }                                                                                               \
    } while (0)

#endif
