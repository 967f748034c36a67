/* alarm.h - inside store/: alarms and the quota.
 *
 * Process: the node.  Thread: the batch's.
 * Errors:  negative errno.
 * Memory:  results stand in the command's arena.
 * Units:   bytes. */
#ifndef STORE_ALARM_H
#define STORE_ALARM_H

#include "store/apply.h"

/* *ret_status is set if the command is not to be run: CORRUPT, NO_SPACE. */
int apply_gate(struct apply *a, uint16_t *ret_status);
int apply_alarm(struct apply *a, struct result *result);
int apply_quota_set(struct apply *a);

#endif
