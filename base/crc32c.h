/* crc32c.h - the Castagnoli CRC (RFC 3720, appendix B.4) that guards every record, frame and row.
 *
 * Process: any.  Thread: any.  Errors: none.  Memory: none.
 * Units:   bytes. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues from a former result; start with 0. crc32c(crc32c(0, a), b) equals that of a then b. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
