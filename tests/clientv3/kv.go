package clientv3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"quorumfs.test/e2e/cluster"
)

// KV: what is put at one node is read at every other, old revisions stay, deletes delete.
func KV(t *testing.T, one, three *cluster.Cluster) {
	for _, c := range []*cluster.Cluster{one, three} {
		writer := connect(t, c.Nodes[0])
		for i, n := range c.Nodes {
			reader := connect(t, n)
			key := fmt.Sprintf("/kv/%d", i)
			first := put(t, writer, key, "old")
			second := put(t, writer, key, "new", clientv3.WithPrevKV())
			if second.PrevKv == nil || string(second.PrevKv.Value) != "old" {
				t.Errorf("prev_kv of the second put: %v", second.PrevKv)
			}
			r := get(t, reader, key) // linearizable: no wait between
			if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "new" || r.Kvs[0].Version != 2 ||
				r.Kvs[0].CreateRevision != first.Header.Revision || r.Kvs[0].ModRevision != second.Header.Revision {
				t.Errorf("%s at %s: %v", key, n.Name, r.Kvs)
			}
			if r.Header.Revision < second.Header.Revision || r.Header.ClusterId == 0 || r.Header.MemberId == 0 || r.Header.RaftTerm == 0 {
				t.Errorf("header %v", r.Header)
			}
			r = get(t, reader, key, clientv3.WithRev(first.Header.Revision))
			if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "old" {
				t.Errorf("%s at revision %d: %v", key, first.Header.Revision, r.Kvs)
			}
			d, err := writer.Delete(within(t), key, clientv3.WithPrevKV())
			if err != nil || d.Deleted != 1 || len(d.PrevKvs) != 1 || string(d.PrevKvs[0].Value) != "new" {
				t.Errorf("delete: %v %v", d, err)
			}
			if r = get(t, reader, key); len(r.Kvs) != 0 || r.Count != 0 {
				t.Errorf("after the delete: %v", r)
			}
			if s := get(t, reader, key, clientv3.WithSerializable()); len(s.Kvs) != 0 {
				t.Errorf("serializable after a linearizable read: %v", s.Kvs)
			}
		}
	}
}

// KVOptions: limits, sorting, counts, filters, empty and large values.
func KVOptions(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	for i := 0; i < 10; i++ {
		put(t, c, fmt.Sprintf("/opt/%d", i), fmt.Sprint("v", 9-i))
	}
	put(t, c, "/opt/5", "again")
	keys := func(r *clientv3.GetResponse) string {
		var all []string
		for _, kv := range r.Kvs {
			all = append(all, strings.TrimPrefix(string(kv.Key), "/opt/"))
		}
		return strings.Join(all, "")
	}
	prefix := clientv3.WithPrefix()
	for _, x := range []struct {
		want  string
		count int64
		more  bool
		opts  []clientv3.OpOption
	}{
		{"0123456789", 10, false, nil},
		{"012", 10, true, []clientv3.OpOption{clientv3.WithLimit(3)}},
		{"", 10, false, []clientv3.OpOption{clientv3.WithCountOnly()}},
		{"9876543210", 10, false, []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}},
		{"0123467895", 10, false, []clientv3.OpOption{clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend)}},
		{"5", 10, true, []clientv3.OpOption{clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1)}},
		{"5987643210", 10, false, []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}},
		{"0", 10, true, []clientv3.OpOption{clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(1)}},
		{"0123456789", 10, false, []clientv3.OpOption{clientv3.WithKeysOnly()}},
	} {
		r := get(t, c, "/opt/", append(x.opts, prefix)...)
		if keys(r) != x.want || r.Count != x.count || r.More != x.more {
			t.Errorf("want %q %d %v, got %q %d %v", x.want, x.count, x.more, keys(r), r.Count, r.More)
		}
	}
	r := get(t, c, "/opt/", prefix, clientv3.WithKeysOnly())
	for _, kv := range r.Kvs {
		if len(kv.Value) != 0 {
			t.Errorf("keys only, but %s has a value", kv.Key)
		}
	}
	last := get(t, c, "/opt/5").Kvs[0].ModRevision
	if r = get(t, c, "/opt/", prefix, clientv3.WithMinModRev(last)); keys(r) != "5" {
		t.Errorf("min mod revision: %s", keys(r))
	}
	if r = get(t, c, "/opt/5", clientv3.WithFromKey(), clientv3.WithLimit(2)); keys(r) != "56" {
		t.Errorf("from key: %s", keys(r))
	}
	put(t, c, "/opt/empty", "")
	if r = get(t, c, "/opt/empty"); len(r.Kvs) != 1 || len(r.Kvs[0].Value) != 0 {
		t.Errorf("empty value: %v", r.Kvs)
	}
	big := strings.Repeat("x", 1<<20)
	put(t, c, "/opt/big", big)
	if r = get(t, c, "/opt/big"); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != big {
		t.Error("a value of 1 MiB did not come back")
	}
	for _, k := range []string{"\x00", "\x00\xff\x00", string([]byte{0xff, 0xff}), "no/slash", "//", "/trailing/"} {
		put(t, c, k, k)
		if r = get(t, c, k); len(r.Kvs) != 1 || string(r.Kvs[0].Key) != k {
			t.Errorf("key %q: %v", k, r.Kvs)
		}
	}
}

// Txn: compares, branches, nesting, one revision.
func Txn(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, three.Follower())
	put(t, c, "/txn/a", "1")
	r, err := c.Txn(within(t)).If(clientv3.Compare(clientv3.Value("/txn/a"), "=", "1"),
		clientv3.Compare(clientv3.Version("/txn/none"), "=", 0)).
		Then(clientv3.OpPut("/txn/a", "2"), clientv3.OpGet("/txn/a"), clientv3.OpPut("/txn/b", "3"),
			clientv3.OpDelete("/txn/none"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("/txn/c", "4")}, nil)).
		Else(clientv3.OpPut("/txn/wrong", "")).Commit()
	if err != nil || !r.Succeeded || len(r.Responses) != 5 {
		t.Fatalf("txn: %v %v", r, err)
	}
	if kv := r.Responses[1].GetResponseRange().Kvs; len(kv) != 1 || string(kv[0].Value) != "2" {
		t.Errorf("a read in a txn sees the put before it: %v", kv)
	}
	all := get(t, c, "/txn/", clientv3.WithPrefix())
	if len(all.Kvs) != 3 {
		t.Fatalf("after the txn: %v", all.Kvs)
	}
	for _, kv := range all.Kvs {
		if kv.ModRevision != r.Header.Revision {
			t.Errorf("%s has revision %d, the txn %d", kv.Key, kv.ModRevision, r.Header.Revision)
		}
	}
	r, err = c.Txn(within(t)).If(clientv3.Compare(clientv3.CreateRevision("/txn/a"), "=", 0)).
		Then(clientv3.OpPut("/txn/wrong", "")).Else(clientv3.OpGet("/txn/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
	if err != nil || r.Succeeded || r.Responses[0].GetResponseRange().Count != 3 {
		t.Errorf("else: %v %v", r, err)
	}
	// One that only reads takes no entry of the log.
	before := metric(t, three.Follower(), "etcd_server_proposals_applied_total")
	for range 10 {
		if r, err = c.Txn(within(t)).If(clientv3.Compare(clientv3.Value("/txn/b"), "=", "3")).Then(clientv3.OpGet("/txn/a"), clientv3.OpGet("/txn/c")).Commit(); err != nil ||
			!r.Succeeded || string(r.Responses[1].GetResponseRange().Kvs[0].Value) != "4" || r.Header.Revision < all.Header.Revision {
			t.Fatalf("reading: %v %v", r, err)
		}
	}
	if after := metric(t, three.Follower(), "etcd_server_proposals_applied_total"); after != before {
		t.Errorf("reading took %d entries", after-before)
	}
	// A counter that all nodes increment by compare-and-swap counts every success once.
	var wg sync.WaitGroup
	put(t, c, "/txn/n", "0")
	for _, n := range three.Nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := connect(t, n)
			for done := 0; done < 10; {
				kv := get(t, c, "/txn/n").Kvs[0]
				var v int
				fmt.Sscan(string(kv.Value), &v)
				r, err := c.Txn(within(t)).If(clientv3.Compare(clientv3.ModRevision("/txn/n"), "=", kv.ModRevision)).
					Then(clientv3.OpPut("/txn/n", fmt.Sprint(v+1))).Commit()
				if err != nil {
					t.Error(err)
					return
				}
				if r.Succeeded {
					done++
				}
			}
		}()
	}
	wg.Wait()
	if kv := get(t, c, "/txn/n").Kvs[0]; string(kv.Value) != "30" {
		t.Errorf("the counter is %s, not 30", kv.Value)
	}
}

// LongList: an answer that takes many frames and a worker.
func LongList(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	value := strings.Repeat("v", 1000)
	const n = 3000
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/long/%05d", j), value))
		}
		if _, err := c.Txn(within(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	r := get(t, c, "/long/", clientv3.WithPrefix())
	if len(r.Kvs) != n || r.Count != n {
		t.Fatalf("%d of %d keys", len(r.Kvs), n)
	}
	for i, kv := range r.Kvs {
		if string(kv.Key) != fmt.Sprintf("/long/%05d", i) || string(kv.Value) != value {
			t.Fatalf("place %d: %s", i, kv.Key)
		}
	}
}

// LongRange: an answer of any length, whole and of one revision while others write, in bounded memory.
func LongRange(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	c := connect(t, n)
	const keys, size = 48, 1 << 20
	value := func(i, version int) string { return strings.Repeat(fmt.Sprintf("%03d%03d--", i, version), size/8) }
	key := func(i int) string { return fmt.Sprintf("/longrange/%03d", i) }
	for i := range keys {
		put(t, c, key(i), value(i, 0))
	}
	revision := put(t, c, "/longrange-more", "x").Header.Revision
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for v := 1; ; v++ {
			for i := range keys {
				select {
				case <-stop:
					return
				default:
					put(t, c, key(i), value(i, v%1000)[:100])
				}
			}
		}
	}()
	before := metric(t, n, metricAnon)
	var most int64
	check := func(r *clientv3.GetResponse, want int, more bool) {
		t.Helper()
		if len(r.Kvs) != want || r.Count != keys || r.More != more {
			t.Errorf("%d keys of %d, count %d, more %v", len(r.Kvs), want, r.Count, r.More)
			return
		}
		for i, kv := range r.Kvs {
			if string(kv.Key) != key(i) || string(kv.Value) != value(i, 0) {
				t.Errorf("place %d: %s with %d bytes", i, kv.Key, len(kv.Value))
				return
			}
		}
	}
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			c := connect(t, n)
			check(get(t, c, "/longrange/", clientv3.WithPrefix(), clientv3.WithRev(revision)), keys, false)
			check(get(t, c, "/longrange/", clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithLimit(40),
				clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend)), 40, true)
			check(get(t, c, "/longrange/", clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithSerializable()), keys, false)
		}()
	}
	done := make(chan struct{})
	go func() {
		readers.Wait()
		close(done)
	}()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		default:
			most = max(most, metric(t, n, metricAnon))
		}
	}
	close(stop)
	writer.Wait()
	if limit := before + 24<<20; most > limit && !sanitized(n) {
		t.Errorf("anonymous memory rose from %d to %d while 4 clients read %d MiB each", before, most, keys)
	}
	// The newest revision, whatever it is, is one revision: no key is older than one before it in the round.
	r := get(t, c, "/longrange/", clientv3.WithPrefix())
	if len(r.Kvs) != keys {
		t.Errorf("%d keys of %d", len(r.Kvs), keys)
	}
	// Many small keys.
	const small = 30000
	for i := 0; i < small; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/longsmall/%06d", j), fmt.Sprint(j)))
		}
		if _, err := c.Txn(within(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int64{0, 25000} {
		r = get(t, c, "/longsmall/", clientv3.WithPrefix(), clientv3.WithLimit(limit))
		if want := small - int(limit)*(small-25000)/25000; len(r.Kvs) != want || r.Count != small || r.More != (limit != 0) {
			t.Fatalf("%d keys, count %d, more %v", len(r.Kvs), r.Count, r.More)
		}
		for i, kv := range r.Kvs {
			if string(kv.Key) != fmt.Sprintf("/longsmall/%06d", i) || string(kv.Value) != fmt.Sprint(i) {
				t.Fatalf("place %d: %s=%s", i, kv.Key, kv.Value)
			}
		}
	}
}

// Errors: clientv3 knows them by exact text and code.
func Errors(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	ctx := within(t)
	expect := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) && (err == nil || err.Error() != want.Error()) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	_, err := c.Get(ctx, "")
	expect("get without key", err, rpctypes.ErrEmptyKey)
	_, err = c.Put(ctx, "", "x")
	expect("put without key", err, rpctypes.ErrEmptyKey)
	_, err = c.Delete(ctx, "")
	expect("delete without key", err, rpctypes.ErrEmptyKey)
	_, err = c.Get(ctx, "k", clientv3.WithRev(1<<40))
	expect("get in the future", err, rpctypes.ErrFutureRev)
	_, err = c.Put(ctx, "/none", "", clientv3.WithIgnoreValue())
	expect("ignore_value without a key", err, rpctypes.ErrKeyNotFound)
	_, err = c.Put(ctx, "/none", "x", clientv3.WithLease(12345))
	expect("put with no such lease", err, rpctypes.ErrLeaseNotFound)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("/dup", "1"), clientv3.OpPut("/dup", "2")).Commit()
	expect("the same key twice", err, rpctypes.ErrDuplicateKey)
	var many []clientv3.Op
	for i := 0; i < 129; i++ {
		many = append(many, clientv3.OpPut(fmt.Sprint("/many/", i), ""))
	}
	_, err = c.Txn(ctx).Then(many...).Commit()
	expect("too many operations", err, rpctypes.ErrTooManyOps)
	_, err = c.Put(ctx, "/large", strings.Repeat("x", 1536*1024+1))
	expect("too large", err, rpctypes.ErrRequestTooLarge)
	kv := pb.NewKVClient(c.ActiveConnection())
	_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreValue: true})
	expect("value with ignore_value", rpctypes.Error(err), rpctypes.ErrValueProvided)
	_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: 1, IgnoreLease: true})
	expect("lease with ignore_lease", rpctypes.Error(err), rpctypes.ErrLeaseProvided)
	_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), SortOrder: 9})
	if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != "etcdserver: invalid sort option" {
		t.Errorf("sort order: %v", err)
	}
	_, err = kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{}}})
	expect("empty operation", rpctypes.Error(err), rpctypes.ErrKeyNotFound)
	_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 2<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("beyond the transport's limit: %v", err)
	}
}

// Unimplemented: what is not there says so by name, and nothing else.
func Unimplemented(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	conn := c.ActiveConnection()
	for _, method := range []string{
		"etcdserverpb.Auth/AuthEnable", "etcdserverpb.Auth/UserAdd", "etcdserverpb.Maintenance/Nothing",
		"nobody.Knows/This",
	} {
		err := conn.Invoke(within(t), "/"+method, &pb.StatusRequest{}, &pb.StatusResponse{})
		service, name, _ := strings.Cut(method, "/")
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), service) ||
			(service != "nobody.Knows" && strings.Contains(err.Error(), "unknown method") && !strings.Contains(err.Error(), name)) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// Addresses: several URLs at once, IPv6 and host names.
func Addresses(t *testing.T, one, three *cluster.Cluster) {
	var urls []string
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
		urls = append(urls, fmt.Sprintf("%s://%s:%d", cluster.Scheme(), host, cluster.FreePort(t)))
	}
	c := cluster.New(t, cluster.Options{Flags: func(n *cluster.Node) []string {
		return []string{"--listen-client-urls", strings.Join(urls, ",")}
	}})
	c.StartAll()
	for i, url := range urls {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: cluster.Bound, TLS: cluster.ClientTLS(), Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		put(t, client, "/address", url)
		if r := get(t, client, "/address"); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != url || r.Kvs[0].Version != int64(i+1) {
			t.Errorf("%s: %v", url, r.Kvs)
		}
		client.Close()
	}
}

// Status: what etcdctl endpoint status shows.
func Status(t *testing.T, one, three *cluster.Cluster) {
	leaders := map[uint64]bool{}
	for _, n := range three.Nodes {
		c := connect(t, n)
		put(t, c, "/status", n.Name)
		s, err := c.Status(within(t), n.Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		if s.Version == "" || s.Leader == 0 || s.RaftTerm == 0 || s.RaftIndex == 0 || s.RaftAppliedIndex == 0 ||
			s.DbSize == 0 || s.DbSizeInUse == 0 || s.DbSizeInUse > s.DbSize || s.IsLearner || len(s.Errors) != 0 ||
			s.RaftAppliedIndex > s.RaftIndex {
			t.Errorf("%s: %v", n.Name, s)
		}
		leaders[s.Leader] = true
	}
	if len(leaders) != 1 {
		t.Errorf("leaders: %v", leaders)
	}
}

// Members: who they are, with the URLs they were given; clientv3's Sync and etcdctl live on it.
func Members(t *testing.T, one, three *cluster.Cluster) {
	for _, c := range []*cluster.Cluster{one, three} {
		want := map[string]*cluster.Node{}
		for _, n := range c.Nodes {
			want[n.Name] = n
		}
		for _, n := range c.Nodes {
			client := connect(t, n)
			r, err := client.MemberList(within(t))
			if err != nil {
				t.Fatal(err)
			}
			ids := map[uint64]bool{}
			for _, m := range r.Members {
				w := want[m.Name]
				if w == nil || len(m.PeerURLs) != 1 || m.PeerURLs[0] != w.PeerURL || len(m.ClientURLs) != 1 ||
					m.ClientURLs[0] != w.ClientURL || m.IsLearner || m.ID == 0 {
					t.Errorf("member %v", m)
				}
				ids[m.ID] = true
			}
			if len(ids) != len(c.Nodes) || !ids[r.Header.MemberId] {
				t.Errorf("members %v, answered by %x", ids, r.Header.MemberId)
			}
			if err := client.Sync(within(t)); err != nil {
				t.Error(err)
			}
			if e := client.Endpoints(); len(e) != len(c.Nodes) {
				t.Errorf("endpoints after Sync: %v", e)
			}
			put(t, client, "/members", "x")
		}
	}
}

// Health: grpc.health.v1 as grpc's own clients ask it.
func Health(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	h := healthpb.NewHealthClient(c.ActiveConnection())
	if r, err := h.Check(within(t), &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("check: %v %v", r, err)
	}
	if _, err := h.Check(within(t), &healthpb.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("check of x: %v", err)
	}
	for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"": healthpb.HealthCheckResponse_SERVING, "x": healthpb.HealthCheckResponse_SERVICE_UNKNOWN} {
		s, err := h.Watch(within(t), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err != nil || r.Status != want {
			t.Errorf("watch of %q: %v %v", service, r, err)
		}
	}
}

// Deadline: a context's end ends the call, and the connection stays good.
func Deadline(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, three.Nodes[0])
	put(t, c, "/deadline", "x")
	for i := 0; i < 20; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
		c.Get(ctx, "/deadline")
		c.Put(ctx, "/deadline", "y")
		cancel()
	}
	get(t, c, "/deadline")
	put(t, c, "/deadline", "z")
}

// CancelBurst: thousands of calls cancelled at once must not cost the connection, on which a watch lives.
func CancelBurst(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	c := connect(t, n)
	before := metric(t, n, "quorumfs_grpc_goaways_sent_total")
	events := c.Watch(within(t), "/burst/watched", clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("not created: %v", r)
	}
	var wg sync.WaitGroup
	for i := 0; i < 3000; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ctx, cancel := context.WithCancel(context.Background())
			go cancel()
			c.Put(ctx, "/burst/put", "x")
		}()
	}
	wg.Wait()
	put(t, c, "/burst/watched", "still there")
	if r := <-events; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "still there" {
		t.Errorf("the watch has suffered: %v %v", r, r.Err())
	}
	if after := metric(t, n, "quorumfs_grpc_goaways_sent_total"); after != before {
		t.Errorf("%d GOAWAYs", after-before)
	}
}
