/* services.c - the table of methods. What is not in it answers Unimplemented with its name; Auth has its place here
 * when it comes. */
#include "sidecar/app.h"

const struct grpc_method *const services_methods[] = {
    /* KV */
    &kv_range,
    &kv_range_stream,
    &kv_put,
    &kv_delete_range,
    &kv_txn,
    &kv_compact,
    /* Watch */
    &watch_watch,
    /* Lease */
    &lease_grant,
    &lease_revoke,
    &lease_keep_alive,
    &lease_time_to_live,
    &lease_leases,
    /* Cluster */
    &cluster_member_add,
    &cluster_member_remove,
    &cluster_member_update,
    &cluster_member_promote,
    &cluster_member_list,
    /* Maintenance */
    &maintenance_status,
    &maintenance_alarm,
    &maintenance_defragment,
    &maintenance_hash,
    &maintenance_hash_kv,
    &maintenance_move_leader,
    &maintenance_downgrade,
    &maintenance_snapshot,
    /* v3lock, v3election */
    &lock_lock,
    &lock_unlock,
    &election_campaign,
    &election_proclaim,
    &election_leader,
    &election_observe,
    &election_resign,
    /* grpc.health.v1 */
    &health_check,
    &health_watch,
    NULL,
};
