/* Nothing is asked: what a server takes by itself, and for connections that only stand there. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tools/load.h"

/* Serves the connections until then: settings are acknowledged, pings answered. */
static int serve_until(int epoll_fd, uint64_t end_ns)
{
    struct epoll_event events[256];

    while (load_now_ns() < end_ns) {
        int n = epoll_wait(epoll_fd, events, 256, 50);

        for (int i = 0; i < n; i++)
            if (load_line_event(events[i].data.ptr, events[i].events) < 0)
                return -1;
    }
    return 0;
}

static int measure(const struct load_options *o, struct load_line *lines, unsigned n_lines, int epoll_fd,
                   nghttp2_session_callbacks *callbacks)
{
    uint64_t second = 1000000000ull, begin_ns;
    struct load_usage before, opened, after;
    double seconds;

    if (load_usage_read(o, &before) < 0)
        return -1;
    for (unsigned i = 0; i < n_lines; i++) {
        if (load_line_open(&lines[i], &o->endpoints[i % o->n_endpoints], epoll_fd, callbacks, NULL) < 0 ||
            load_line_flush(&lines[i]) < 0)
            return -1;
    }
    if (serve_until(epoll_fd, load_now_ns() + second) < 0 || load_usage_read(o, &opened) < 0)
        return -1;
    begin_ns = load_now_ns();
    if (serve_until(epoll_fd, begin_ns + (uint64_t)(o->seconds * 1e9)) < 0 || load_usage_read(o, &after) < 0)
        return -1;
    seconds = (double)(load_now_ns() - begin_ns) / 1e9;
    printf("{\"label\":\"%s\",\"op\":\"idle\",\"connections\":%u,\"seconds\":%.3f,\"cpu_ms_per_s\":%.2f,\"anon_bytes\":%llu,"
           "\"bytes_per_connection\":%.0f}\n", o->label, n_lines, seconds,
           (after.cpu_seconds - opened.cpu_seconds) * 1e3 / seconds, (unsigned long long)after.anon_bytes,
           n_lines > 0 ? ((double)opened.anon_bytes - (double)before.anon_bytes) / n_lines : 0);
    return 0;
}

int load_idle(const struct load_options *o)
{
    unsigned n_lines = o->clients > 1 ? o->connections : 0; /* one client: none stands there */
    struct load_line *lines = calloc(n_lines + 1, sizeof(*lines));
    nghttp2_session_callbacks *callbacks = NULL;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), rc = -1;

    for (unsigned i = 0; lines != NULL && i < n_lines; i++)
        lines[i].fd = -1;
    if (lines == NULL || epoll_fd < 0 || nghttp2_session_callbacks_new(&callbacks) != 0)
        load_fail("start", "no memory");
    else
        rc = measure(o, lines, n_lines, epoll_fd, callbacks);
    for (unsigned i = 0; lines != NULL && i < n_lines; i++)
        load_line_close(&lines[i]);
    nghttp2_session_callbacks_del(callbacks);
    if (epoll_fd >= 0)
        close(epoll_fd);
    free(lines);
    return rc;
}
