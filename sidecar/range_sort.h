/* range_sort.h - a range in another order than the store's, in bounded memory: by selection. A round goes over all of it and
 * keeps the smallest keys behind the last one of the round before, as many as fit; they are sent, and the next round follows.
 *
 * Process: quorumfs-grpc.
 * Thread:  one at a time.
 * Errors:  -ENOMEM.
 * Memory:  a sort owns what it keeps: at most its bound, and one entry. What it hands out lives to the next round.
 * Units:   bytes. */
#ifndef SIDECAR_RANGE_SORT_H
#define SIDECAR_RANGE_SORT_H

#include "store/store.h"

struct range_sort;

/* op's order; NULL without memory. */
struct range_sort *range_sort_new(const struct op_range *op, size_t max_bytes);
void range_sort_free(struct range_sort *s); /* NULL is fine */
/* From the first entry again. */
void range_sort_rewind(struct range_sort *s);

/* A round: begin, an offer for each kv of the range, end. At most `want` entries are kept. */
void range_sort_begin(struct range_sort *s, int64_t want);
/* size is only kept. A kv of op's order by value must have its value. */
int range_sort_offer(struct range_sort *s, const struct kv *kv, uint64_t size);
void range_sort_end(struct range_sort *s);

/* What the round has kept, in order. */
size_t range_sort_count(const struct range_sort *s);
struct slice range_sort_key(const struct range_sort *s, size_t i);
uint64_t range_sort_size(const struct range_sort *s, size_t i);
/* There are more behind the last one. */
bool range_sort_goes_on(const struct range_sort *s);

#endif
