#include "tls/tls.h"

#include "base/crc32c.h"

bool tls_complaint_is_due(struct tls_complaints *c, uint64_t now_ms, const char *why, uint64_t *ret_untold)
{
    uint32_t sum = crc32c(0, why, strlen(why));

    if (c->n_told != 0 && now_ms - c->begun_ms >= TLS_COMPLAINTS_MS)
        c->n_told = 0;
    for (size_t i = 0; i < c->n_told; i++) {
        if (c->told[i] == sum || c->n_told == TLS_COMPLAINTS_MAX) {
            c->untold++;
            return false;
        }
    }
    if (c->n_told == 0)
        c->begun_ms = now_ms;
    c->told[c->n_told++] = sum;
    *ret_untold = c->untold;
    c->untold = 0;
    return true;
}
