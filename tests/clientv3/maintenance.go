package clientv3

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"quorumfs.test/e2e/cluster"
)

// Alarm: raised by hand, it stops writes that take room, shows in Status and /health, and goes when it is told to.
func Alarm(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		put(t, c, "/alarm", "before")
		lease := grant(t, c, 100)
		raw := pb.NewMaintenanceClient(c.ActiveConnection())
		status, err := c.Status(ctx, n.Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		member := status.Header.MemberId
		r, err := raw.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE})
		if err != nil || len(r.Alarms) != 1 || r.Alarms[0].MemberID != member || r.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
			t.Errorf("activate: %v %v", r, err)
		}
		if l, err := c.AlarmList(ctx); err != nil || len(l.Alarms) != 1 || l.Alarms[0].MemberID != member {
			t.Errorf("list: %v %v", l, err)
		}
		for what, op := range map[string]func() error{
			"put":   func() error { _, err := c.Put(ctx, "/alarm", "x"); return err },
			"txn":   func() error { _, err := c.Txn(ctx).Then(clientv3.OpPut("/alarm", "x")).Commit(); return err },
			"grant": func() error { _, err := c.Grant(ctx, 10); return err },
		} {
			if err := op(); !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := c.Delete(ctx, "/alarm"); err != nil {
			t.Errorf("delete: %v", err)
		}
		if _, err := c.Compact(ctx, get(t, c, "/alarm").Header.Revision); err != nil {
			t.Errorf("compaction: %v", err)
		}
		if _, err := c.KeepAliveOnce(ctx, lease); err != nil {
			t.Errorf("keep-alive: %v", err)
		}
		if status, err = c.Status(ctx, n.Endpoint()); err != nil || len(status.Errors) != 1 ||
			status.Errors[0] != fmt.Sprintf("memberID:%d alarm:NOSPACE ", member) {
			t.Errorf("status: %v %v", status, err)
		}
		for path, want := range map[string]int{"/health": http.StatusServiceUnavailable, "/health?exclude=NOSPACE": http.StatusOK,
			"/readyz": http.StatusOK} {
			if code, body, err := fetch(n, path); err != nil || code != want || (code != http.StatusOK && !strings.Contains(body, `"reason":"ALARM NOSPACE"`)) {
				t.Errorf("%s: %d %q %v", path, code, body, err)
			}
		}
		if r, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil || len(r.Alarms) != 1 {
			t.Errorf("disarm: %v %v", r, err)
		}
		put(t, c, "/alarm", "after")
		if l, err := c.AlarmList(ctx); err != nil || len(l.Alarms) != 0 {
			t.Errorf("list: %v %v", l, err)
		}
		if _, err := c.Revoke(ctx, lease); err != nil {
			t.Error(err)
		}
	}
	// A corrupt cluster serves nothing but the way out.
	c := connect(t, one.Nodes[0])
	ctx := within(t)
	raw := pb.NewMaintenanceClient(c.ActiveConnection())
	if _, err := raw.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 7, Alarm: pb.AlarmType_CORRUPT}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "/alarm", "x"); !errors.Is(err, rpctypes.ErrCorrupt) {
		t.Errorf("put: %v", err)
	}
	if _, err := c.Delete(ctx, "/alarm"); !errors.Is(err, rpctypes.ErrCorrupt) {
		t.Errorf("delete: %v", err)
	}
	code, body, err := fetch(one.Nodes[0], "/readyz")
	if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "[-]data_corruption failed: alarm activated: CORRUPT\n") {
		t.Errorf("/readyz: %d %q %v", code, body, err)
	}
	if _, err := raw.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 7, Alarm: pb.AlarmType_CORRUPT}); err != nil {
		t.Error(err)
	}
	put(t, c, "/alarm", "healed")
}

// Quota: reached, it raises the alarm by itself; what was freed does not lower it, disarming does.
func Quota(t *testing.T) {
	const quota = 4 << 20
	c := cluster.Start(t, cluster.Options{Flags: func(*cluster.Node) []string { return []string{"--quota-backend-bytes", fmt.Sprint(quota)} }})
	client := connect(t, c.Nodes[0])
	ctx := within(t)
	cluster.Until(t, "the quota is the cluster's", func() (bool, string) {
		v := metric(t, c.Nodes[0], "etcd_server_quota_backend_bytes")
		return v == quota, fmt.Sprint(v)
	})
	value := strings.Repeat("q", 100000)
	written := 0
	for ; written < 1000; written++ {
		if _, err := client.Put(ctx, "/quota", value); err != nil {
			if !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Fatalf("put %d: %v", written, err)
			}
			break
		}
	}
	if written*len(value) < quota/2 || written*len(value) > quota {
		t.Errorf("%d puts of %d bytes fit a quota of %d", written, len(value), quota)
	}
	if l, err := client.AlarmList(ctx); err != nil || len(l.Alarms) != 1 || l.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
		t.Errorf("alarms: %v %v", l, err)
	}
	r := get(t, client, "/quota")
	if _, err := client.Compact(ctx, r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Error(err)
	}
	if _, err := client.Put(ctx, "/quota", "x"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("with the alarm: %v", err)
	}
	if _, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Error(err)
	}
	put(t, client, "/quota", "x")
}

// Hashes: equal on all members for the same revision, whatever a member has compacted away already.
func Hashes(t *testing.T, one, three *cluster.Cluster) {
	ctx := within(t)
	writer := connect(t, three.Nodes[0])
	var middle, last int64
	for i := range 300 {
		last = put(t, writer, fmt.Sprintf("/hash/%d", i%70), fmt.Sprint(i)).Header.Revision
		if i == 150 {
			middle = last
		}
	}
	if _, err := writer.Delete(ctx, "/hash/1"); err != nil {
		t.Fatal(err)
	}
	same := func(what string, revision int64) uint32 {
		t.Helper()
		var hashes []uint32
		for _, n := range three.Nodes {
			c := connect(t, n)
			get(t, c, "/hash/0") // as far as the others
			r, err := c.HashKV(ctx, n.Endpoint(), revision)
			if err != nil {
				t.Fatalf("%s at %s: %v", what, n.Name, err)
			}
			if r.Header.Revision < last || r.CompactRevision > revision {
				t.Errorf("%s at %s: %v", what, n.Name, r)
			}
			whole, err := invoke(ctx, c, "/etcdserverpb.Maintenance/HashKV", appendInt(nil, 1, revision))
			if err != nil || whole.Fields[4] != fmt.Sprint(revision) || whole.Fields[2] != fmt.Sprint(r.Hash) {
				t.Errorf("%s at %s: %v %v", what, n.Name, whole, err)
			}
			hashes = append(hashes, r.Hash)
		}
		if hashes[0] != hashes[1] || hashes[1] != hashes[2] {
			t.Errorf("%s: %v", what, hashes)
		}
		return hashes[0]
	}
	a, b := same("now", last), same("in the middle", middle)
	if a == b {
		t.Error("two revisions have one hash")
	}
	if _, err := writer.Compact(ctx, middle-10); err != nil {
		t.Fatal(err)
	}
	if same("in the middle, compacted", middle) == b {
		t.Error("compaction did not change the hash of what it took")
	}
	c := connect(t, three.Follower())
	if _, err := c.HashKV(ctx, three.Follower().Endpoint(), last+1000); !errors.Is(rpctypes.Error(err), rpctypes.ErrFutureRev) {
		t.Errorf("in the future: %v", err)
	}
	if _, err := c.HashKV(ctx, three.Follower().Endpoint(), middle-20); !errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		t.Errorf("compacted: %v", err)
	}
	r, err := pb.NewMaintenanceClient(c.ActiveConnection()).Hash(ctx, &pb.HashRequest{})
	if err != nil || r.Hash == 0 || r.Header.Revision < last {
		t.Errorf("hash: %v %v", r, err)
	}
}

// Maintenance: the calls that change nothing that a client sees.
func Maintenance(t *testing.T, one, three *cluster.Cluster) {
	ctx := within(t)
	leader := three.Leader()
	for _, n := range append([]*cluster.Node{one.Nodes[0]}, three.Nodes...) {
		c := connect(t, n)
		before := put(t, c, "/maintenance", n.Name)
		if _, err := c.Defragment(ctx, n.Endpoint()); err != nil {
			t.Errorf("defragment: %v", err)
		}
		if r := get(t, c, "/maintenance"); string(r.Kvs[0].Value) != n.Name || r.Header.Revision != before.Header.Revision {
			t.Errorf("after it: %v", r)
		}
		put(t, c, "/maintenance", "still")
		raw := pb.NewMaintenanceClient(c.ActiveConnection())
		down := func(action pb.DowngradeRequest_DowngradeAction, version string) error {
			_, err := raw.Downgrade(ctx, &pb.DowngradeRequest{Action: action, Version: version})
			return err
		}
		isStatus(t, "downgrade", down(pb.DowngradeRequest_VALIDATE, "3.5"), codes.InvalidArgument, "etcdserver: invalid downgrade target version")
		isStatus(t, "downgrade", down(pb.DowngradeRequest_ENABLE, "3.5.0"), codes.InvalidArgument, "etcdserver: invalid downgrade target version")
		isStatus(t, "downgrade", down(pb.DowngradeRequest_ENABLE, "three"), codes.InvalidArgument, "etcdserver: wrong downgrade target version format")
		isStatus(t, "downgrade", down(9, "3.5"), codes.Unknown, "etcdserver: unknown method")
		if r, err := raw.Downgrade(ctx, &pb.DowngradeRequest{Action: pb.DowngradeRequest_CANCEL}); err != nil || r.Version != "3.6" || r.Header.Revision == 0 {
			t.Errorf("cancel: %v %v", r, err)
		}
	}
	// Leadership moves to whom it is told to; only the leader is asked, and only members may be named.
	follower := connect(t, three.Follower())
	_, err := follower.MoveLeader(ctx, 1)
	if !errors.Is(err, rpctypes.ErrNotLeader) {
		t.Errorf("asked of a follower: %v", err)
	}
	c := connect(t, leader)
	if _, err := c.MoveLeader(ctx, 1); !errors.Is(err, rpctypes.ErrBadLeaderTransferee) {
		t.Errorf("to nobody: %v", err)
	}
	target := three.Others(leader)[0]
	status, err := connect(t, target).Status(ctx, target.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.MoveLeader(ctx, status.Header.MemberId); err != nil {
		t.Errorf("moved: %v", err)
	}
	cluster.Until(t, "the other one leads", func() (bool, string) {
		l := three.Leader()
		return l == target, l.Name
	})
	put(t, c, "/maintenance", "moved")
}

// Snapshot: the image, whole, with what etcd's clients check; taken while others write, and read slowly.
func Snapshot(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		value := strings.Repeat("snapshot", 10000)
		for i := range 40 {
			put(t, c, fmt.Sprintf("/snapshot/%d", i), value)
		}
		r, err := c.Snapshot(within(t))
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(all[:max(len(all)-32, 0)])
		if len(all)%512 != 32 || string(all[len(all)-32:]) != string(sum[:]) || len(all) < 40*len(value) {
			t.Errorf("%d bytes, trailer %x, sum %x", len(all), all[max(len(all)-32, 0):], sum)
		}
		// Message by message: what remains is told truly, and an unread stream holds its queue alone.
		s, err := pb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(within(t), &pb.SnapshotRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int
		var remaining []uint64
		for {
			m, err := s.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if v := metric(t, n, metricOutput); v > 2<<20 {
				t.Errorf("%d bytes wait", v)
			}
			sizes = append(sizes, len(m.Blob))
			remaining = append(remaining, m.RemainingBytes)
		}
		last := len(sizes) - 1
		if last < 2 || sizes[last] != 32 || remaining[last] != 0 {
			t.Fatalf("%v %v", sizes, remaining)
		}
		for i := last - 2; i >= 0; i-- {
			if remaining[i] != remaining[i+1]+uint64(sizes[i+1]) {
				t.Errorf("piece %d of %v: %v remain", i, sizes, remaining)
			}
		}
		untilMetric(t, n, "quorumfs_grpc_snapshots", 0)
	}
}
