/* Writes the seeds of the corpus: what the encoders make of typical values, so that a fuzzer starts behind the first
 * checks. seeds DIRECTORY. Files found by fuzzing that are worth keeping stand beside them under names of their own. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <nghttp2/nghttp2.h>

#include "proto/command.h"
#include "proto/etcd.h"
#include "proto/socket.h"
#include "raft/core.h"
#include "raft/identity.h"
#include "raft/log.h"
#include "raft/lease_message.h"
#include "raft/message.h"
#include "raft/peer_frame.h"
#include "sidecar/grpc_text.h"
#include "store/row.h"
#include "tests/crash/disk_memory.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tls/tls.h"

static const char *corpus;

void seed_save(const char *target, const char *name, int first, struct slice content)
{
    char path[4096];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", corpus, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/seed-%s", corpus, target, name);
    f = fopen(path, "wb");
    FUZZ_MUST(f != NULL);
    if (first >= 0)
        fputc(first, f);
    FUZZ_MUST(content.len == 0 || fwrite(content.data, 1, content.len, f) == content.len);
    FUZZ_MUST(fclose(f) == 0);
}

void seed_save_bytes(const char *target, const char *name, int first, struct bytes *b)
{
    FUZZ_MUST(bytes_status(b) == 0);
    seed_save(target, name, first, bytes_slice(b));
    bytes_reset(b);
}

static void seeds_log(void)
{
    struct log_options options = {.segment_bytes = 8192, .cluster_id = 7};
    struct disk_memory *m = disk_memory_new();
    struct log_entry e = {.term = 1, .type = LOG_ENTRY_COMMANDS, .payload = TEXT("some payload")};
    struct log *l;
    uint64_t synced;
    uint8_t *p;
    size_t len;

    FUZZ_MUST(log_open(disk_memory_disk(m), "log", &options, &l, NULL, 0) == 0);
    for (e.index = 1; e.index <= 6; e.index++) {
        e.term = e.index;
        FUZZ_MUST(log_append(l, &e, 1) == 0);
        if (e.index % 3 == 0)
            FUZZ_MUST(log_flush(l, &synced) == 0);
    }
    FUZZ_MUST(log_truncate(l, 5) == 0 && log_reset(l, 9, 9) == 0 && log_flush(l, &synced) == 0);
    FUZZ_MUST(log_set_hard_state(l, (struct log_hard_state){3, 2}) == 0);
    log_close(l);
    p = disk_memory_content(m, "log/seg-0000000000000001", &len);
    seed_save("log", "segment", 0, slice_make(p, 4096 + 3 * 512));
    seed_save("log", "segment-sealed", 2, slice_make(p, 4096 + 3 * 512));
    seed_save("log", "second-sealed", 6, slice_make(p, 4096 + 3 * 512));
    p = disk_memory_content(m, "log/vote", &len);
    seed_save("log", "vote", 1, slice_make(p, len));
    seed_save("log", "vote-sealed", 3, slice_make(p, len));
    disk_memory_free(m);
}

static void seeds_command(struct bytes *b)
{
    static const uint16_t file_kinds[] = {COMMAND_FILE_WRITE, COMMAND_FILE_MKDIR, COMMAND_FILE_RENAME,
                                          COMMAND_FILE_SETATTR, COMMAND_FILE_UNLINK, COMMAND_FILE_SETXATTR};
    struct command put = {.kind = COMMAND_PUT, .session = 9, .sequence = 2, .user = TEXT("root"), .time_ns = 1700};
    struct op_compare compare = {.target = COMPARE_MOD, .key = TEXT("/a"), .number = 7};
    struct op ops[2] = {{.kind = OP_PUT}, {.kind = OP_RANGE}};
    struct command txn = {.kind = COMMAND_TXN, .txn = {&compare, ops, ops + 1, 1, 2, 1}};
    struct command noop = {.kind = COMMAND_NOOP};
    struct lease_checkpoint items[] = {{7, 30}, {8, 0}};
    struct command points = {.kind = COMMAND_LEASE_CHECKPOINT, .checkpoint = {items, 2}};
    struct command alarm = {.kind = COMMAND_ALARM, .alarm = {ALARM_ACTIVATE, ALARM_NOSPACE, 5}};
    struct command lock = {.kind = COMMAND_FILE_LOCK,
                           .lock = {7, 8, 9, 10, LOCK_POSIX, LOCK_EXCLUSIVE, 0, UINT64_MAX, 11, true, false, 12}};
    char name[32];

    put.put = (struct op_put){.key = TEXT("/registry/pods/x"), .value = TEXT("value"), .lease = 5, .prev_kv = true};
    command_encode(&put, b);
    seed_save_bytes("command", "put", -1, b);
    ops[0].put = put.put;
    ops[1].range = (struct op_range){.key = TEXT("/a"), .range_end = TEXT("/b"), .limit = 3};
    command_encode(&txn, b);
    seed_save_bytes("command", "txn", -1, b);
    command_encode(&noop, b);
    seed_save_bytes("command", "noop", -1, b);
    for (size_t i = 0; i < sizeof(file_kinds) / sizeof(file_kinds[0]); i++) {
        struct command file = {.kind = file_kinds[i], .session = 1, .sequence = 1};

        file.file = (struct file_op){.path = TEXT("/dir/file"), .path2 = TEXT("/dir/other"), .value = TEXT("content"),
                                     .ino = 77, .flags = FILE_CREATE,
                                     .attrs = {.has = ATTR_MODE | ATTR_MTIME, .mode = 0100644, .mtime_ns = 5}};
        command_encode(&file, b);
        snprintf(name, sizeof(name), "file-%u", file_kinds[i]);
        seed_save_bytes("command", name, -1, b);
    }
    command_encode(&lock, b);
    seed_save_bytes("command", "lock", -1, b);
    command_encode(&points, b);
    seed_save_bytes("command", "lease-checkpoint", -1, b);
    command_encode(&alarm, b);
    seed_save_bytes("command", "alarm", -1, b);
    etcd_txn_encode(&txn.txn, b);
    seed_save_bytes("etcd", "txn", 3, b);
    etcd_put_encode(&put.put, b);
    seed_save_bytes("etcd", "put", 0, b);
    etcd_range_encode(&ops[1].range, b);
    seed_save_bytes("etcd", "range", 2, b);
}

static void seeds_etcd(struct bytes *b)
{
    struct kv kv = {TEXT("/a"), TEXT("v"), 2, 3, 2, 0};
    struct range_result range = {&kv, 1, 5, true};
    struct op_delete del = {TEXT("/a"), TEXT("/b"), true};

    etcd_delete_encode(&del, b);
    seed_save_bytes("etcd", "delete", 1, b);
    etcd_kv_encode(&kv, b);
    seed_save_bytes("etcd", "kv", 4, b);
    etcd_range_response_encode(&range, b);
    seed_save_bytes("etcd", "range-response", 5, b);
    seed_save("etcd", "compact", 6, TEXT("\x08\x05\x10\x01"));
    etcd_range_response_encode(&range, b);
    seed_save_bytes("etcd", "op-range", 7, b);
    seed_save("command", "result-put", 0xff, TEXT("\x02\x12\x04\x0a\x02/a"));
}

static void frame(struct bytes *out, uint8_t type, struct bytes *payload)
{
    socket_frame(out, type, 5, bytes_slice(payload));
    bytes_reset(payload);
}

static void seeds_socket(struct bytes *b)
{
    struct socket_hello hello = {SOCKET_VERSION, TEXT("quorumctl"), 77};
    struct socket_welcome welcome = {.version = SOCKET_VERSION, .cluster_id = 1, .member_id = 2, .epoch = 1, .revision = 9,
                                     .heartbeat_ms = 100, .name = TEXT("n1"), .store_dir = TEXT("/var/lib/x")};
    struct socket_proposed proposed = {.revision = 4, .term = 2, .body = TEXT("body")};
    struct socket_barrier_done barrier = {0, 1, 2, 3};
    struct socket_notice notice = {1, 9};
    struct socket_leader leader = {2, 3};
    struct bytes out;

    bytes_init(&out);
    socket_hello_encode(&hello, b);
    frame(&out, SOCKET_HELLO, b);
    socket_welcome_encode(&welcome, b);
    frame(&out, SOCKET_WELCOME, b);
    seed_save_bytes("socket", "hello", -1, &out);
    socket_hello_encode(&hello, b);
    frame(&out, SOCKET_HELLO, b);
    frame(&out, SOCKET_BARRIER, b);
    frame(&out, SOCKET_STATUS, b);
    command_encode(&(struct command){.kind = COMMAND_PUT, .session = 9, .sequence = 1, .put = {.key = TEXT("/a")}}, b);
    frame(&out, SOCKET_PROPOSE, b);
    seed_save("server", "whole", 0, bytes_slice(&out));
    seed_save_bytes("server", "pieces", 7, &out);
    frame(&out, SOCKET_BARRIER, b);
    frame(&out, SOCKET_STATUS, b);
    seed_save_bytes("server", "behind-hello", 0x80, &out);
    socket_lease_encode(&(struct socket_lease){.id = 7}, b);
    frame(&out, SOCKET_KEEPALIVE, b);
    socket_lease_encode(&(struct socket_lease){.id = 7}, b);
    frame(&out, SOCKET_LEASE_TIME, b);
    socket_member_change_encode(&(struct socket_member_change){.op = SOCKET_MEMBER_ADD, .learner = true,
                                                               .peer_urls = TEXT("http://h:1")}, b);
    frame(&out, SOCKET_MEMBER, b);
    socket_maintain_encode(&(struct socket_maintain){.op = SOCKET_MAINTAIN_CHECKPOINT}, b);
    frame(&out, SOCKET_MAINTAIN, b);
    seed_save("server", "services", 0x80, bytes_slice(&out));
    seed_save_bytes("server", "services-unanswered", 0xc0, &out);
    socket_proposed_encode(&proposed, b);
    frame(&out, SOCKET_PROPOSED, b);
    socket_barrier_done_encode(&barrier, b);
    frame(&out, SOCKET_BARRIER_DONE, b);
    socket_notice_encode(&notice, b);
    frame(&out, SOCKET_NOTICE, b);
    socket_leader_encode(&leader, b);
    frame(&out, SOCKET_LEADER, b);
    seed_save_bytes("socket", "answers", -1, &out);
    bytes_fini(&out);
}

static void seeds_peer(struct bytes *b)
{
    struct log_entry entries[2] = {{8, 2, LOG_ENTRY_COMMANDS, {0}}, {9, 3, LOG_ENTRY_BARRIER, {0}}};
    struct slice commands[2] = {TEXT("first command"), TEXT("second")};
    struct peer_message vote = {.type = PEER_VOTE, .vote = {3, 9, 2, true, false}};
    struct peer_message append = {.type = PEER_APPEND, .append = {3, 7, 2, 6, entries, 2}};
    struct peer_message result = {.type = PEER_APPEND_RESULT, .append_result = {3, 0, 9}};
    struct peer_forward forward = {3, 99, 1, commands, 2};
    struct peer_lease_item leases[2] = {{true, 7}, {false, 8}};
    struct peer_lease_answer times[2] = {{0, 60, 0}, {0, 60, 59}};
    struct bytes payload;

    bytes_init(&payload);
    entry_begin(&payload);
    entry_add(&payload, commands[0]);
    entry_add(&payload, commands[1]);
    seed_save("peer", "entry", 0, bytes_slice(&payload));
    entries[0].payload = bytes_slice(&payload);
    peer_message_encode(&vote, b);
    seed_save_bytes("peer", "vote", PEER_VOTE, b);
    peer_message_encode(&append, b);
    seed_save_bytes("peer", "append", PEER_APPEND, b);
    peer_message_encode(&result, b);
    seed_save_bytes("peer", "append-result", PEER_APPEND_RESULT, b);
    peer_forward_encode(&forward, b);
    seed_save_bytes("peer", "forward", PEER_FORWARD, b);
    peer_read_confirm_encode(&(struct peer_read_confirm){3, 4}, b);
    seed_save_bytes("peer", "read-confirm", PEER_READ_CONFIRM, b);
    peer_commit_encode(&(struct peer_commit){5, 4, 3}, b);
    seed_save_bytes("peer", "commit", PEER_COMMIT, b);
    peer_read_index_reply_encode(&(struct peer_read_index_reply){3, true, 4}, b);
    seed_save_bytes("peer", "read-index-reply", PEER_READ_INDEX_REPLY, b);
    peer_lease_encode(&(struct peer_lease){5, leases, 2}, b);
    seed_save_bytes("peer", "lease", PEER_LEASE, b);
    peer_lease_reply_encode(&(struct peer_lease_reply){5, times, 2}, b);
    seed_save_bytes("peer", "lease-reply", PEER_LEASE_REPLY, b);
    bytes_fini(&payload);
}

static void seeds_texts(struct bytes *b)
{
    static const char zeros[300] = {0};
    uint8_t prefix[GRPC_PREFIX_BYTES];

    seed_save("name", "plain-way", 1, TEXT("registry/pods/x"));
    seed_save("name", "escaped-way", 1, TEXT("a/%:/%:..%00/%:value"));
    seed_save("name", "bare-way", 1, TEXT("%:bare/foo"));
    seed_save("name", "raw-way", 3, TEXT("foo/bar"));
    seed_save("name", "key", 0, TEXT("/a//b/./..%:c/"));
    seed_save("name", "raw-key", 2, TEXT("foo/%:bare"));
    seed_save("name", "long-key", 0, slice_make(zeros, sizeof(zeros)));
    for (int i = 0; i < 2; i++) {
        grpc_prefix_put(prefix, 12);
        bytes_raw(b, prefix, sizeof(prefix));
        bytes_raw(b, "some message", 12);
    }
    seed_save_bytes("grpc", "two-messages", 3, b);
    seed_save("grpc", "timeout", 1, TEXT("12345678m"));
    seed_save("grpc", "text", 1, TEXT("a % and \xc3\xbc"));
}

static void seeds_row(struct bytes *b)
{
    struct chain chain = {.last = {9, 0}, .depth = 64, .n_skip = 1, .skip = {{5, 0}}};
    struct node node = {.create = {3, 0}, .chain = chain, .version = 2, .value_len = 5, .value_rev = {9, 0},
                        .is_inline = true, .value = TEXT("value"), .attrs = {.has = ATTR_MODE, .mode = 0100644}};
    struct log_row row = {.event = {.kind = EVENT_PUT, .rev = {9, 0}, .prev = {5, 0}, .create = {3, 0}, .version = 2,
                                    .key = TEXT("/key"), .value_len = 5},
                          .value_rev = {9, 0}, .key_len = 4};
    uint8_t key[LOG_KEY_BYTES];

    node_row_encode(&node, b);
    seed_save_bytes("row", "node", 0, b);
    gone_row_encode(&chain, b);
    seed_save_bytes("row", "gone", 1, b);
    log_row_encode(&row, b);
    seed_save_bytes("row", "log", 2, b);
    row = (struct log_row){.event = {.kind = EVENT_LOCK, .rev = {9, 0}, .key = TEXT("session!"), .lock = {2, 3, 4, 5}},
                           .value_rev = {9, 0}};
    log_row_encode(&row, b);
    seed_save_bytes("row", "log-lock", 2, b);
    log_key_encode(key, (struct rev){9, 1}, 2);
    seed_save("row", "log-key", 3, slice_make(key, sizeof(key)));
}

static void seeds_frame(struct bytes *b)
{
    struct peer_hello hello = {1, 1, 7, 1, 2, TEXT("http://127.0.0.1:2380"), 77};
    struct peer_hello_reply reply = {1, PEER_HELLO_BUSY, 7, 2, TEXT("busy"), 2};
    struct bytes out;

    bytes_init(&out);
    peer_hello_encode(&hello, b);
    peer_frame_encode(&out, PEER_FRAME_HELLO, bytes_slice(b));
    bytes_reset(b);
    peer_hello_reply_encode(&reply, b);
    peer_frame_encode(&out, PEER_FRAME_HELLO_REPLY, bytes_slice(b));
    bytes_reset(b);
    peer_frame_encode(&out, PEER_FRAME_PING, bytes_slice(b));
    peer_ask_encode(&(struct peer_ask){1, 1, TEXT("http://127.0.0.1:2380")}, b);
    peer_frame_encode(&out, PEER_FRAME_ASK, bytes_slice(b));
    bytes_reset(b);
    peer_answer_encode(&(struct peer_answer){1, PEER_HELLO_BUSY, 7, 8, 9, TEXT("busy")}, b);
    peer_frame_encode(&out, PEER_FRAME_ANSWER, bytes_slice(b));
    bytes_reset(b);
    peer_fetch_encode(&(struct peer_fetch){TEXT("hello"), 5, 4096, 9}, b);
    peer_frame_encode(&out, PEER_FRAME_FETCH, bytes_slice(b));
    bytes_reset(b);
    seed_save("frame", "verified", 0, bytes_slice(&out));
    seed_save("frame", "as-they-are", 0x80, bytes_slice(&out));
    bytes_fini(&out);
}

static void seeds_text(struct bytes *b)
{
    struct identity id = {.format = IDENTITY_FORMAT, .cluster_id = 7, .member_id = 9, .name = "n1"};
    struct core_member members[2] = {{.id = 1, .address = "http://127.0.0.1:2380", .voter = true},
                                     {.id = 2, .address = "http://[::1]:2380"}};

    identity_encode(&id, b);
    seed_save_bytes("text", "identity", 0, b);
    seed_save("text", "urls", 1, TEXT("http://127.0.0.1:2380,https://[::1]:2380/,unix:///run/x"));
    FUZZ_MUST(core_membership_encode(members, 2, b) == 0);
    seed_save_bytes("text", "membership", 2, b);
    seed_save("text", "headers", 3, TEXT(":method:POST\n:scheme:http\n:path:/a.B/C\n:authority:x\ncontent-length:5\nte:trailers"));
    seed_save("text", "txn", 4, TEXT("mod(\"a\") > \"0\"\n\nput a \"b c\"\n\nget a\n\n"));
    seed_save("text", "txn-json", 5, TEXT("{\"compare\":[{\"key\":\"YQ==\",\"result\":\"EQUAL\",\"target\":\"MOD\"}],"
                                     "\"success\":[{\"requestPut\":{\"key\":\"YQ==\",\"value\":\"Yg==\"}}]}"));
}

static ssize_t read_request(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t len, uint32_t *flags,
                            nghttp2_data_source *source, void *user)
{
    grpc_prefix_put(buf, 5);
    memcpy(buf + GRPC_PREFIX_BYTES, "hello", 5);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return GRPC_PREFIX_BYTES + 5;
}

#define HEADER(n, v) {(uint8_t *)n, (uint8_t *)v, sizeof(n) - 1, sizeof(v) - 1, NGHTTP2_NV_FLAG_NONE}

static void seeds_conn(struct bytes *b)
{
    nghttp2_nv unary[] = {HEADER(":method", "POST"), HEADER(":scheme", "http"), HEADER(":path", "/test.T/Echo"),
                          HEADER(":authority", "x"), HEADER("te", "trailers"), HEADER("grpc-timeout", "1S"),
                          HEADER("content-type", "application/grpc")};
    nghttp2_nv stream[] = {HEADER(":method", "POST"), HEADER(":scheme", "http"), HEADER(":path", "/test.T/Stream"),
                           HEADER(":authority", "x"), HEADER("te", "trailers"), HEADER("content-type", "application/grpc")};
    nghttp2_data_provider provider = {.read_callback = read_request};
    struct peer_hello hello = {1, 1, 7, 2, 1, TEXT("http://127.0.0.1:2"), 78};
    struct peer_message vote = {.type = PEER_VOTE, .vote = {3, 9, 2, true, false}};
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    const uint8_t *data;
    struct bytes out;
    ssize_t n;

    FUZZ_MUST(nghttp2_session_callbacks_new(&callbacks) == 0);
    FUZZ_MUST(nghttp2_session_client_new(&session, callbacks, NULL) == 0);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0);
    nghttp2_submit_request(session, NULL, unary, 7, &provider, NULL);
    nghttp2_submit_request(session, NULL, stream, 6, &provider, NULL);
    nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL);
    while ((n = nghttp2_session_mem_send(session, &data)) > 0)
        bytes_raw(b, data, (size_t)n);
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
    seed_save("conn", "h2", 0, bytes_slice(b));
    seed_save("conn", "h2-by-tls", 0x80, bytes_slice(b));
    seed_save("conn", "h2-by-tls-pieces", 0x87, bytes_slice(b));
    seed_save("conn", "h2-by-tls-damaged", 0xc3, bytes_slice(b));
    seed_save("conn", "h2-to-both", 0x40, bytes_slice(b));
    seed_save("conn", "h2-to-https", 0x60, bytes_slice(b));
    seed_save_bytes("conn", "h2-pieces", 7, b);
    seed_save("conn", "http1", 0, TEXT("GET /health?a=b HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.0\r\n\r\n"));
    seed_save("conn", "http1-by-tls", 0x80, TEXT("GET /health?a=b HTTP/1.1\r\nHost: x\r\n\r\n"));
    seed_save("conn", "http1-to-https", 0x60, TEXT("GET / HTTP/1.1\r\n\r\n"));
    seed_save("conn", "http1-body", 3, TEXT("POST /x HTTP/1.1\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbodyPUT /y "
                                      "HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    seed_save("conn", "http1-upgrade", 0, TEXT("GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                                         "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"));
    seed_save("conn", "proxy", 0, TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n"));
    bytes_init(&out);
    peer_hello_encode(&hello, b);
    peer_frame_encode(&out, PEER_FRAME_HELLO, bytes_slice(b));
    bytes_reset(b);
    peer_frame_encode(&out, PEER_FRAME_PING, bytes_slice(b));
    peer_message_encode(&vote, b);
    peer_frame_encode(&out, PEER_VOTE, bytes_slice(b));
    bytes_reset(b);
    seed_save("transport", "whole", 0, bytes_slice(&out));
    seed_save("transport", "by-tls", 0x40, bytes_slice(&out));
    seed_save("transport", "by-tls-damaged", 0x63, bytes_slice(&out));
    seed_save("transport", "plain-to-https", 0x20, bytes_slice(&out));
    seed_save("transport", "pieces", 7, bytes_slice(&out));
    bytes_reset(&out);
    peer_message_encode(&vote, b);
    peer_frame_encode(&out, PEER_VOTE, bytes_slice(b));
    bytes_reset(b);
    seed_save("transport", "behind-hello", 0x80, bytes_slice(&out));
    seed_save("transport", "behind-hello-by-tls", 0xc2, bytes_slice(&out));
    seed_save("transport", "behind-fetch", 0x10, bytes_slice(&out));
    seed_save("transport", "behind-fetch-by-tls", 0x50, bytes_slice(&out));
    bytes_reset(&out);
    peer_ask_encode(&(struct peer_ask){1, 1, TEXT("http://127.0.0.1:2")}, b);
    peer_frame_encode(&out, PEER_FRAME_ASK, bytes_slice(b));
    bytes_reset(b);
    seed_save("transport", "ask", 0, bytes_slice(&out));
    bytes_fini(&out);
}

/* What each end says first: to the other, and to one that has its keys already. Of other keys each time it is written. */
static void seeds_tls(void)
{
    static const char *const hosts[] = {"localhost"};
    char dir[] = "/tmp/seeds-tls-XXXXXX", command[64], cert[100], key[100], text[TLS_TEXT_MAX_BYTES];
    struct tls_options o = {.cert_file = cert, .key_file = key, .ca_file = cert, .http2 = true};
    struct tls_context *c;
    struct tls_conn *server, *client;
    struct bytes up = {0}, down = {0}, plain = {0}, one = {0};

    FUZZ_MUST(mkdtemp(dir) != NULL);
    FUZZ_MUST(tls_self_signed(dir, hosts, 1, cert, key, sizeof(cert), text, sizeof(text)) == 0);
    FUZZ_MUST(tls_context_open(&o, &c, text, sizeof(text)) == 0);
    FUZZ_MUST(tls_conn_new(c, TLS_SERVER, NULL, &server) == 0 && tls_conn_new(c, TLS_CLIENT, "localhost", &client) == 0);
    bytes_u8(&one, 0); /* in one piece */
    FUZZ_MUST(tls_conn_start(client, &up) == 0);
    bytes_append(&one, bytes_slice(&up));
    seed_save("tls", "client-hello", 0, bytes_slice(&one));
    seed_save("tls", "hello-again", 2, bytes_slice(&one));
    FUZZ_MUST(tls_conn_feed(server, bytes_slice(&up), &plain, &down) == 0);
    one.len = 1;
    bytes_append(&one, bytes_slice(&down));
    seed_save("tls", "server-flight", 1, bytes_slice(&one));
    seed_save("tls", "server-flight-late", 3, bytes_slice(&one));
    seed_save("tls", "plain-http", 0, slice_from_str("\x07" "GET / HTTP/1.1\r\n\r\n"));
    tls_conn_free(server);
    tls_conn_free(client);
    tls_context_close(c);
    bytes_fini(&up);
    bytes_fini(&down);
    bytes_fini(&one);
    bytes_fini(&plain);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    FUZZ_MUST(system(command) == 0);
}

int main(int argc, char **argv)
{
    struct bytes b;

    if (argc != 2) {
        fprintf(stderr, "seeds DIRECTORY\n");
        return 2;
    }
    corpus = argv[1];
    mkdir(corpus, 0777);
    bytes_init(&b);
    seeds_log();
    seeds_command(&b);
    seeds_etcd(&b);
    seeds_socket(&b);
    seeds_peer(&b);
    seeds_texts(&b);
    seeds_row(&b);
    seeds_frame(&b);
    seeds_text(&b);
    seeds_conn(&b);
    seeds_tls();
    seeds_services(&b);
    seeds_tables(&b);
    bytes_fini(&b);
    return 0;
}
