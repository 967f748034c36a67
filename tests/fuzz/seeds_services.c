/* Seeds of the targets whose inputs are lists: messages of clients, rows of tables; and of command lines, checkpoint files and what
 * a fetching member is sent. */
#include <string.h>

#include "raft/peer_frame.h"
#include "sidecar/app.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"

enum { LEADER = 1, SAME = 2, HALF_CLOSE = 4, GONE = 8, UNREAD = 16, REFUSE = 32, LATER = 64 };

/* path NULL: a page */
static void add(struct bytes *b, const char *path, uint8_t flags, struct slice message)
{
    uint8_t n = 0;

    while (services_methods[n] != NULL && (path == NULL || strcmp(services_methods[n]->path, path) != 0))
        n++;
    FUZZ_MUST(path == NULL || services_methods[n] != NULL);
    bytes_u8(b, n);
    bytes_u8(b, flags);
    bytes_u16(b, (uint16_t)message.len);
    bytes_append(b, message);
}

#define KV "/etcdserverpb.KV/"
#define LEASE "/etcdserverpb.Lease/"
#define WATCH "/etcdserverpb.Watch/Watch"
#define MAINTENANCE "/etcdserverpb.Maintenance/"
#define CLUSTER "/etcdserverpb.Cluster/"
#define ELECTION "/v3electionpb.Election/"

static void seeds_kv(struct bytes *b)
{
    add(b, KV "Put", 0, TEXT("\x0a\x02/x\x12\x01v\x18\x07\x20\x01"));
    add(b, KV "Range", 0, TEXT("\x0a\x02/a\x12\x02/b\x18\x02\x28\x02\x30\x03"));
    add(b, KV "Range", 0, TEXT("\x0a\x01\x00\x12\x01\x00\x38\x01\x50\x02\x58\x09"));
    add(b, KV "RangeStream", HALF_CLOSE, TEXT("\x0a\x01\x00\x12\x01\x00"));
    add(b, KV "DeleteRange", 0, TEXT("\x0a\x02/a\x12\x02/b\x18\x01"));
    seed_save_bytes("services", "kv", -1, b);
    add(b, KV "Txn", 0, TEXT("\x0a\x08\x10\x02\x1a\x02/a\x20\x07\x12\x0a\x12\x08\x0a\x02/a\x12\x02zz\x1a\x06\x0a\x04\x0a\x02/a"));
    add(b, KV "Txn", 0, TEXT("\x12\x08\x0a\x06\x0a\x02/a\x38\x01"));
    add(b, KV "Compact", 0, TEXT("\x08\x05\x10\x01"));
    add(b, KV "Range", 0, TEXT("\x0a\x02/a\x20\x02"));
    add(b, KV "Put", REFUSE, TEXT("\x0a\x02/x"));
    seed_save_bytes("services", "txn", -1, b);
}

static void seeds_watch(struct bytes *b)
{
    add(b, WATCH, 0, TEXT("\x0a\x0a\x0a\x02/a\x12\x02/b\x20\x01"));
    add(b, WATCH, SAME, TEXT("\x0a\x0c\x0a\x02/a\x18\x05\x30\x01\x38\x09\x40\x01"));
    add(b, KV "Put", 0, TEXT("\x0a\x02/a\x12\x01v"));
    add(b, WATCH, SAME, TEXT("\x1a\x00"));
    add(b, WATCH, SAME, TEXT("\x12\x02\x08\x09"));
    add(b, KV "DeleteRange", 0, TEXT("\x0a\x02/a"));
    add(b, WATCH, SAME | HALF_CLOSE, TEXT("\x0a\x06\x0a\x02/a\x18\x01"));
    seed_save_bytes("services", "watch", -1, b);
    add(b, WATCH, UNREAD | LEADER, TEXT("\x0a\x09\x0a\x01\x00\x12\x01\x00\x2a\x01\x01"));
    add(b, KV "Put", LATER, TEXT("\x0a\x02/c"));
    add(b, KV "Compact", 0, TEXT("\x08\x08"));
    add(b, WATCH, SAME, TEXT("\x0a\x08\x0a\x02/a\x18\x01\x38\x00"));
    add(b, "/grpc.health.v1.Health/Watch", 0, TEXT(""));
    add(b, "/grpc.health.v1.Health/Check", 0, TEXT("\x0a\x01x"));
    seed_save_bytes("services", "watch-unread", -1, b);
}

static void seeds_lease(struct bytes *b)
{
    add(b, LEASE "LeaseGrant", 0, TEXT("\x08\x1e\x10\x09"));
    add(b, LEASE "LeaseGrant", 0, TEXT("\x08\x01"));
    add(b, LEASE "LeaseKeepAlive", 0, TEXT("\x08\x07"));
    add(b, LEASE "LeaseKeepAlive", SAME | HALF_CLOSE, TEXT("\x08\x08"));
    add(b, LEASE "LeaseTimeToLive", 0, TEXT("\x08\x07\x10\x01"));
    add(b, LEASE "LeaseLeases", 0, TEXT(""));
    add(b, LEASE "LeaseRevoke", 0, TEXT("\x08\x07"));
    seed_save_bytes("services", "lease", -1, b);
}

static void seeds_queues(struct bytes *b)
{
    add(b, "/v3lockpb.Lock/Lock", 0, TEXT("\x0a\x01l\x10\x07"));
    add(b, "/v3lockpb.Lock/Lock", 0, TEXT("\x0a\x01l"));
    add(b, "/v3lockpb.Lock/Lock", GONE, TEXT("\x0a\x04lock"));
    add(b, "/v3lockpb.Lock/Lock", 0, TEXT("\x0a\x04lock"));
    add(b, "/v3lockpb.Lock/Unlock", 0, TEXT("\x0a\x03l/7"));
    add(b, "/v3lockpb.Lock/Unlock", 0, TEXT("\x0a\x06lock/7"));
    seed_save_bytes("services", "lock", -1, b);
    add(b, ELECTION "Observe", 0, TEXT("\x0a\x01" "e"));
    add(b, ELECTION "Campaign", 0, TEXT("\x0a\x01" "e\x10\x07\x1a\x03one"));
    add(b, ELECTION "Leader", 0, TEXT("\x0a\x01" "e"));
    add(b, ELECTION "Proclaim", 0, TEXT("\x0a\x0c\x0a\x01" "e\x12\x03" "e/7\x18\x0b\x20\x07\x12\x03two"));
    add(b, ELECTION "Campaign", GONE, TEXT("\x0a\x01" "e\x1a\x05later"));
    add(b, ELECTION "Resign", 0, TEXT("\x0a\x0c\x0a\x01" "e\x12\x03" "e/7\x18\x0b\x20\x07"));
    seed_save_bytes("services", "election", -1, b);
}

static void seeds_cluster(struct bytes *b)
{
    add(b, CLUSTER "MemberAdd", 0, TEXT("\x0a\x0chttp://h:238\x10\x01"));
    add(b, CLUSTER "MemberUpdate", 0, TEXT("\x08\x02\x12\x0chttp://h:238"));
    add(b, CLUSTER "MemberPromote", 0, TEXT("\x08\x02"));
    add(b, CLUSTER "MemberRemove", REFUSE, TEXT("\x08\x02"));
    add(b, CLUSTER "MemberList", 0, TEXT("\x08\x01"));
    seed_save_bytes("services", "cluster", -1, b);
    add(b, MAINTENANCE "Status", 0, TEXT(""));
    add(b, MAINTENANCE "Alarm", 0, TEXT("\x08\x01\x10\x01\x18\x01"));
    add(b, MAINTENANCE "Alarm", 0, TEXT("\x18\x00"));
    add(b, MAINTENANCE "Defragment", 0, TEXT(""));
    add(b, MAINTENANCE "Hash", 0, TEXT(""));
    add(b, MAINTENANCE "HashKV", 0, TEXT("\x08\x05"));
    add(b, MAINTENANCE "MoveLeader", 0, TEXT("\x08\x02"));
    add(b, MAINTENANCE "Downgrade", 0, TEXT("\x08\x01\x12\x05" "3.5.0"));
    add(b, MAINTENANCE "Downgrade", 0, TEXT("\x08\x02"));
    add(b, MAINTENANCE "Snapshot", HALF_CLOSE, TEXT(""));
    seed_save_bytes("services", "maintenance", -1, b);
}

static void seeds_pages(struct bytes *b)
{
    static const char *const pages[] = {"/health?exclude=NOSPACE&serializable=true", "/livez?verbose", "/readyz?exclude=non_learner",
                                        "/readyz/linearizable_read", "/version", "/metrics", "/nothing?=&&=x"};

    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        add(b, NULL, i % 2 ? LATER : 0, slice_from_str(pages[i]));
    seed_save_bytes("services", "pages", -1, b);
}

void seeds_services(struct bytes *b)
{
    seeds_kv(b);
    seeds_watch(b);
    seeds_lease(b);
    seeds_queues(b);
    seeds_cluster(b);
    seeds_pages(b);
}

/* ---- rows ---- */

static void patch(struct bytes *b, uint8_t table, uint8_t place, uint8_t at, struct slice over)
{
    bytes_u8(b, 0x80 | table);
    bytes_u8(b, place);
    bytes_u8(b, 0);
    bytes_u16(b, (uint16_t)(over.len + 1));
    bytes_u8(b, at);
    bytes_append(b, over);
}

void seeds_tables(struct bytes *b)
{
    static const char *const words[] = {
        "--name=n1\n--data-dir\n/d\n--initial-cluster=n1=http://h:1,n2=http://i:1\n--initial-advertise-peer-urls\nhttp://h:1"
        "\n--auto-compaction-retention=1h\n--quota-backend-bytes=100",
        "--socket\n/s\n--listen-client-urls=https://0.0.0.0:1\n--cert-file=a\n--key-file=b\n--grpc-keepalive-interval=10s",
        "/mnt\n-o\nnode=/s,prefix=/a,uid=1,umask=077,lock_ttl=5",
        "get\n/a\n--prefix\n--rev=5\n--sort-by=mod\n--order=descend",
        "put\na\nb\n--lease=7f",
        "periodic\n1h30m",
    };
    struct bytes chunk = {0};
    char name[32];

    for (uint8_t table = 0; table < 12; table++) {
        patch(b, table, 0, 0, TEXT("\x01"));
        patch(b, table, 1, 9, TEXT("\xff\xff\xff"));
        snprintf(name, sizeof(name), "patch-%u", table);
        seed_save_bytes("table", name, -1, b);
    }
    bytes_raw(b, "\x07\xff\x08\x03\x00", 5);
    bytes_raw(b, "\x00\x00\x00\x00\x00\x00\x00\x09\x01\x1e\x00", 11);
    seed_save_bytes("table", "lease", -1, b);
    bytes_raw(b, "\x00\xff\x06\x0a\x00" "alarms" "\x01\x07\x00\x00\x00\x00\x00\x00\x00\x02", 21);
    seed_save_bytes("table", "alarms", -1, b);
    seed_save("checkpoint", "raw", 0, TEXT("\x08\x00\x00\x00QFSCKPT\n----"));
    seed_save("checkpoint", "trailer", 1, TEXT("\x58\x00\xff\xff\xff\x7f"));
    seed_save("checkpoint", "trailer-padded", 5, TEXT("\x10\x00\x07"));
    seed_save("checkpoint", "image", 2, TEXT("\x10\x00\x07"));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        snprintf(name, sizeof(name), "%zu", i);
        seed_save("words", name, (int)i, slice_from_str(words[i]));
    }
    bytes_raw(b, "\x08\x03\x00" "abc" "\x08\x02\x00" "de" "\x09\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", 22);
    seed_save("fetch", "framed", 0xc0, bytes_slice(b));
    seed_save("fetch", "framed-wrong", 0x87, bytes_slice(b));
    bytes_reset(b);
    bytes_u64(&chunk, 0);
    bytes_raw(&chunk, "some of the file", 16);
    peer_frame_encode(b, PEER_FRAME_CHUNK, bytes_slice(&chunk));
    seed_save_bytes("fetch", "raw", 0, b);
    bytes_fini(&chunk);
}
