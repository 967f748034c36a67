#include "base/logger.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool logger_level_parse(const char *text, enum log_level *ret_level)
{
    static const struct {
        const char *name;
        enum log_level level;
    } names[] = {{"debug", LOG_LEVEL_DEBUG}, {"info", LOG_LEVEL_INFO},   {"warn", LOG_LEVEL_WARN},
                 {"error", LOG_LEVEL_ERROR}, {"panic", LOG_LEVEL_ERROR}, {"fatal", LOG_LEVEL_ERROR}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            *ret_level = names[i].level;
            return true;
        }
    }
    return false;
}

void logger_line(const struct logger *l, enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LOG_LINE_BYTES];
    struct timespec now;
    struct tm tm;
    va_list ap;
    size_t len;
    int n;

    if (l == NULL || level < l->level)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(line + len, sizeof(line) - len, ".%03ldZ %-5s %s: ", now.tv_nsec / 1000000, names[level],
                 l->program != NULL ? l->program : "quorumfs");
    len += n > 0 ? (size_t)n : 0;
    va_start(ap, format);
    n = vsnprintf(line + len, sizeof(line) - len, format, ap);
    va_end(ap);
    len += n > 0 ? (size_t)n : 0;
    if (len > sizeof(line) - 1)
        len = sizeof(line) - 1;
    for (size_t i = 0; i < len; i++) /* an outside text cannot forge a second line */
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return;
}
