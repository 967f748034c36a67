/* seeds.h - how the files that write the corpus's seeds share it.
 *
 * Process: tests.  Thread: one.  Errors: FUZZ_MUST.  Memory: none kept.  Units: bytes. */
#ifndef TESTS_FUZZ_SEEDS_H
#define TESTS_FUZZ_SEEDS_H

#include "base/bytes.h"

#define TEXT(s) slice_make(s, sizeof(s) - 1)

/* corpus/TARGET/seed-NAME: first, unless negative, then the content. */
void seed_save(const char *target, const char *name, int first, struct slice content);
/* The same, and empties b. */
void seed_save_bytes(const char *target, const char *name, int first, struct bytes *b);

void seeds_services(struct bytes *b); /* seeds_services.c */
void seeds_tables(struct bytes *b);   /* the rest of it: table, checkpoint, words, fetch */

#endif
