package clientv3

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"quorumfs.test/e2e/cluster"
)

var everyMethod = []string{
	"etcdserverpb.KV/Range", "etcdserverpb.KV/RangeStream", "etcdserverpb.KV/Put", "etcdserverpb.KV/DeleteRange", "etcdserverpb.KV/Txn",
	"etcdserverpb.KV/Compact", "etcdserverpb.Watch/Watch", "etcdserverpb.Lease/LeaseGrant", "etcdserverpb.Lease/LeaseRevoke",
	"etcdserverpb.Lease/LeaseKeepAlive", "etcdserverpb.Lease/LeaseTimeToLive", "etcdserverpb.Lease/LeaseLeases",
	"etcdserverpb.Cluster/MemberAdd", "etcdserverpb.Cluster/MemberRemove", "etcdserverpb.Cluster/MemberUpdate",
	"etcdserverpb.Cluster/MemberPromote", "etcdserverpb.Cluster/MemberList", "etcdserverpb.Maintenance/Status",
	"etcdserverpb.Maintenance/Alarm", "etcdserverpb.Maintenance/Hash", "etcdserverpb.Maintenance/HashKV",
	"etcdserverpb.Maintenance/MoveLeader", "etcdserverpb.Maintenance/Snapshot", "etcdserverpb.Maintenance/Downgrade", "v3lockpb.Lock/Lock",
	"v3lockpb.Lock/Unlock", "v3electionpb.Election/Campaign", "v3electionpb.Election/Proclaim", "v3electionpb.Election/Leader",
	"v3electionpb.Election/Observe", "v3electionpb.Election/Resign", "grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
}

// garbage is bytes that are often some message with small fields, sometimes nested, and at times nothing of the kind.
func garbage(r *rand.Rand, depth int) []byte {
	var m []byte
	for range r.Intn(6) {
		number := protowire.Number(1 + r.Intn(12))
		switch r.Intn(5) {
		case 0:
			m = protowire.AppendTag(m, number, protowire.BytesType)
			if depth < 3 && r.Intn(2) == 0 {
				m = protowire.AppendBytes(m, garbage(r, depth+1))
			} else {
				m = protowire.AppendBytes(m, []byte("garbage/")[:r.Intn(9)])
			}
		case 1:
			m = protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), r.Uint64())
		default:
			m = protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(r.Intn(5)))
		}
	}
	if r.Intn(5) == 0 && len(m) > 0 {
		m[r.Intn(len(m))] ^= byte(1 << r.Intn(8))
	}
	if r.Intn(10) == 0 {
		m = m[:r.Intn(len(m)+1)]
	}
	return m
}

// Garbage: whatever messages come to whatever method, it is answered, and the server and its node go on.
func Garbage(t *testing.T) {
	seed := time.Now().UnixNano()
	if text := os.Getenv("SEED"); text != "" {
		seed, _ = strconv.ParseInt(text, 0, 64)
	}
	fmt.Fprintf(os.Stderr, "garbage: SEED=%d\n", seed)
	rounds := 40
	if Soak() {
		rounds = 5000
	}
	c := cluster.Start(t, cluster.Options{})
	n := c.Nodes[0]
	client := connect(t, n)
	put(t, client, "garbage/a", "x")
	pids := []int{n.Child("quorumfs-grpc"), n.PID()}
	// Each method has random numbers of its own, since they run beside each other.
	parallel(len(everyMethod), func(i int) {
		r := rand.New(rand.NewSource(seed + int64(i)))
		for range rounds {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // of waiters, observers, watches
			s, err := client.ActiveConnection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
				"/"+everyMethod[i], grpc.ForceCodec(rawBytes{}))
			if err != nil {
				t.Errorf("%s: %v", everyMethod[i], err)
				cancel()
				return
			}
			for range 1 + r.Intn(2) {
				m := garbage(r, 0)
				s.SendMsg(&m)
				if everyMethod[i] != "etcdserverpb.Watch/Watch" && everyMethod[i] != "etcdserverpb.Lease/LeaseKeepAlive" {
					break
				}
			}
			s.CloseSend()
			var got []byte
			for err = nil; err == nil; {
				err = s.RecvMsg(&got)
			}
			if code := status.Code(err); err != io.EOF && (code == codes.Unimplemented && everyMethod[i] != "etcdserverpb.KV/RangeStream") {
				t.Errorf("%s: %v", everyMethod[i], err)
			}
			cancel()
		}
	})
	cluster.Until(t, "nobody waits any more", func() (bool, string) {
		v, w := metric(t, n, "quorumfs_grpc_lock_waiters"), metric(t, n, metricWatchers)
		return v == 0 && w == 0, fmt.Sprint(v, " ", w)
	})
	for what, now := range map[string]int{"the sidecar": n.Child("quorumfs-grpc"), "the supervisor": n.PID()} {
		if now != pids[0] && now != pids[1] || now == 0 {
			t.Errorf("%s is another process", what)
		}
	}
	if v := metric(t, n, "quorumfs_grpc_pending_bytes"); v != 0 {
		t.Errorf("%d bytes are said to be under way", v)
	}
}
