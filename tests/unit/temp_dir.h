/* temp_dir.h - a test's own directory, where ./check looks for what is left: below $TMPDIR, else /tmp.
 *
 * Process: a test.  Thread: one.  Errors: fail the test.  Memory: the caller's.  Units: bytes. */
#ifndef TESTS_UNIT_TEMP_DIR_H
#define TESTS_UNIT_TEMP_DIR_H

#include <stdio.h>
#include <stdlib.h>

static inline void temp_dir(char *dir, size_t size, const char *name)
{
    const char *top = getenv("TMPDIR");

    assert_true((size_t)snprintf(dir, size, "%s/%s-XXXXXX", top != NULL ? top : "/tmp", name) < size);
    assert_non_null(mkdtemp(dir));
}

#endif
