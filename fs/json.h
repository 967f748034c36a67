/* json.h - writes JSON, by hand: a few names, numbers and texts that may be any bytes.
 *
 * Process: any.
 * Thread:  pure functions.
 * Errors:  without memory the buffer says so (bytes_status()).
 * Memory:  appends to the caller's buffer.
 * Units:   bytes.
 *
 * Between values a comma is put where one is needed: behind anything but an opening bracket, a colon or the start of a line. */
#ifndef FS_JSON_H
#define FS_JSON_H

#include "base/bytes.h"

void json_open(struct bytes *out, char bracket);
void json_close(struct bytes *out, char bracket);
void json_name(struct bytes *out, const char *name); /* "name": */
void json_text(struct bytes *out, struct slice text);
void json_number(struct bytes *out, int64_t v);
void json_bool(struct bytes *out, bool v);
void json_hex(struct bytes *out, uint64_t id); /* as a text: 64 bits do not fit the numbers of most readers */
/* "name":"text", or "name_base64":"..." when it is no UTF-8. */
void json_bytes(struct bytes *out, const char *name, struct slice text);
bool json_is_utf8(struct slice text);

#endif
