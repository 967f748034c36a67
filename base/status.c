#include "base/status.h"

#include <errno.h>
#include <stddef.h>

struct row {
    uint16_t number;
    uint16_t code;
    int errno_value;
    const char *name;
    const char *text;
};

static const struct row *find_row(uint16_t status)
{
    static const struct row rows[] = {
#define STATUS_ROW(name, number, errno_value, code, text) {number, code, errno_value, #name, text},
        STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].number == status)
            return &rows[i];
    return NULL;
}

const char *status_name(uint16_t status)
{
    const struct row *r = find_row(status);

    return r != NULL ? r->name : "UNKNOWN";
}

const char *status_text(uint16_t status)
{
    const struct row *r = find_row(status);

    return r != NULL ? r->text : "quorumfs: unknown status";
}

enum grpc_code status_grpc_code(uint16_t status)
{
    const struct row *r = find_row(status);

    return r != NULL ? (enum grpc_code)r->code : GRPC_UNKNOWN;
}

int status_errno(uint16_t status)
{
    const struct row *r = find_row(status);

    return r != NULL ? r->errno_value : EIO;
}
