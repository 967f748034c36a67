/* services.c - the table of methods. What is not in it answers Unimplemented with its name; Lease, Auth, v3lock
 * and v3election have their place here when they come. */
#include "sidecar/app.h"

const struct grpc_method *const services_methods[] = {
    &kv_range,           &kv_put,      &kv_delete_range, &kv_txn, &kv_compact, &watch_watch,
    &maintenance_status, &maintenance_alarm, &cluster_member_list, &health_check, &health_watch, NULL,
};
