/* h2_check.h - the rules of RFC 9113, sections 8.1 to 8.3, for the headers and the length of a request.
 *
 * Process: quorumfs-grpc.
 * Thread:  pure functions on a struct that has one owner.
 * Errors:  false: the request is malformed (a stream error of type PROTOCOL_ERROR).
 * Memory:  none.
 * Units:   bytes.
 *
 * nghttp2 could check this itself, but it then also refuses every :authority that is no authority, and clientv3 3.5.0
 * and the `endpoint status` of etcdctl 3.4 send such ("#initially=[...]", "http://host:port"). So its checks are
 * switched off as a whole and stand here, with that one left out. */
#ifndef SIDECAR_H2_CHECK_H
#define SIDECAR_H2_CHECK_H

#include "base/slice.h"

struct h2_check {
    uint8_t seen;      /* pseudo-headers */
    bool regular;      /* a regular header has come: no pseudo-header may follow */
    bool has_length;
    uint64_t length;   /* content-length */
    uint64_t received; /* of DATA */
};

bool h2_check_header(struct h2_check *c, struct slice name, struct slice value, bool trailer);
/* After the last header of the request. */
bool h2_check_request(const struct h2_check *c);
bool h2_check_data(struct h2_check *c, size_t len);
bool h2_check_end(const struct h2_check *c);

#endif
