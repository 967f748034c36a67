/* logger.h - what a program says to its operator, one line each, on standard error.
 *
 * Process: programs (main files and the node's loop), never libraries or codecs.
 * Thread:  any; a line is one write().
 * Errors:  none; a line that cannot be written is lost.
 * Memory:  none; lines are cut at LOG_LINE_BYTES. */
#ifndef BASE_LOGGER_H
#define BASE_LOGGER_H

#include <stdbool.h>

#define LOG_LINE_BYTES 2048

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

struct logger {
    enum log_level level;  /* lines below it are dropped */
    const char *program;   /* stands in every line */
};

/* "debug", "info", "warn", "error" (and etcd's "panic", "fatal" as error); false otherwise. */
bool logger_level_parse(const char *text, enum log_level *ret_level);

void logger_line(const struct logger *l, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(l, ...) logger_line((l), LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(l, ...) logger_line((l), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(l, ...) logger_line((l), LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(l, ...) logger_line((l), LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
