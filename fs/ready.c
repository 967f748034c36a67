#include "fs/ready.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void tell(const char *line)
{
    const char *number = getenv(READY_VARIABLE);
    int fd = number != NULL ? atoi(number) : -1;

    if (fd > 2 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && write(fd, line, strlen(line)) < 0)
        return; /* nobody listens any more: then nobody needs it */
}

void ready_fuse(uint32_t connection)
{
    char line[32];

    snprintf(line, sizeof(line), "fuse %u\n", connection);
    tell(line);
}

void ready_done(void)
{
    tell("ready\n");
}
