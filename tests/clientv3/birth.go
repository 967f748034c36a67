package clientv3

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"quorumfs.test/e2e/cluster"
)

// Birth is the test that this project was born from: watchers, each on its own key, then a put to each key, without a
// sleep; every watcher gets exactly its event, as the log's dump has it; then they are cancelled and none is left.
func Birth(t *testing.T, one, three *cluster.Cluster) {
	for _, c := range []struct {
		name string
		node *cluster.Node
	}{{"one", one.Nodes[0]}, {"follower", three.Follower()}} {
		for i := 0; i < 20; i++ {
			t.Run(fmt.Sprintf("%s/100/%d", c.name, i), func(t *testing.T) { birth(t, c.node, 100) })
		}
		sizes := []int{1000, 10000}
		if Soak() {
			sizes = append(sizes, 100000)
		}
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s/%d", c.name, n), func(t *testing.T) { birth(t, c.node, n) })
		}
	}
}

func birth(t *testing.T, n *cluster.Node, watchers int) {
	client := connect(t, n)
	clients := []*clientv3.Client{client}
	for watchers >= 10000 && len(clients) < 4 {
		clients = append(clients, connect(t, n))
	}
	before := metric(t, n, metricWatchers)
	ctx, cancel := context.WithTimeout(context.Background(), 10*cluster.Bound)
	defer cancel()
	key := func(i int) string { return fmt.Sprintf("/watch-test/watcher-%d", i) }
	channels := make([]clientv3.WatchChan, watchers)
	parallel(watchers, func(i int) { channels[i] = clients[i%len(clients)].Watch(ctx, key(i), clientv3.WithCreatedNotify()) })
	for i, ch := range channels {
		if r := <-ch; !r.Created {
			t.Fatalf("watcher %d: %v %v", i, r, r.Err())
		}
	}
	if v := metric(t, n, metricWatchers); v != before+int64(watchers) {
		t.Errorf("%d watchers, before %d", v, before)
	}
	revisions := make([]int64, watchers)
	parallel(watchers, func(i int) {
		r, err := client.Put(ctx, key(i), fmt.Sprintf("value-%d", i))
		if err != nil {
			t.Errorf("put %d: %v", i, err)
			return
		}
		revisions[i] = r.Header.Revision
	})
	got := map[int64]string{}
	for i, ch := range channels {
		r := <-ch
		if len(r.Events) != 1 {
			t.Fatalf("watcher %d: %d events, %v", i, len(r.Events), r.Err())
		}
		kv := r.Events[0].Kv
		if string(kv.Key) != key(i) || string(kv.Value) != fmt.Sprintf("value-%d", i) || kv.ModRevision != revisions[i] {
			t.Fatalf("watcher %d: %v, put at %d", i, kv, revisions[i])
		}
		got[kv.ModRevision] = string(kv.Key) + "=" + string(kv.Value)
	}
	rows := 0
	for _, row := range n.DumpFrom(slices.Min(revisions)) {
		if want, ok := got[row.Revision]; ok {
			rows++
			if row.Key+"="+row.Value != want {
				t.Errorf("revision %d: the log has %s=%s, the watcher got %s", row.Revision, row.Key, row.Value, want)
			}
		}
	}
	if rows != watchers {
		t.Errorf("%d rows of the log for %d events", rows, watchers)
	}
	cancel()
	for i, ch := range channels {
		for r := range ch {
			if len(r.Events) > 0 {
				t.Fatalf("watcher %d got more: %v", i, r.Events)
			}
		}
	}
	untilMetric(t, n, metricWatchers, before)
	if watchers >= 10000 {
		fmt.Fprintf(os.Stderr, "birth: %d own-key watchers over %d connections, each got its event\n", watchers, len(clients))
	}
}

// parallel runs f(0) to f(n-1) in a bounded number of goroutines.
func parallel(n int, f func(i int)) {
	var at atomic.Int64
	var wg sync.WaitGroup
	for g := 0; g < min(n, 200); g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(at.Add(1)) - 1; i < n; i = int(at.Add(1)) - 1 {
				f(i)
			}
		}()
	}
	wg.Wait()
}

// FanOut: many watchers on one prefix, nothing lost, repeated or out of order.
func FanOut(t *testing.T, one, three *cluster.Cluster) {
	watchers := 1000
	if Soak() {
		watchers = 10000
	}
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		fanOut(t, n, connect(t, n), watchers, 100, 0)
		fmt.Fprintf(os.Stderr, "fan-out: %d events for %d watchers, none lost, repeated or out of order\n", watchers*100, watchers)
	}
}

// fanOut opens watchers on one prefix, puts, and checks what each gets.
func fanOut(t *testing.T, n *cluster.Node, client *clientv3.Client, watchers, puts, valueBytes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*cluster.Bound)
	defer cancel()
	prefix := fmt.Sprintf("/fan-out/%s/", t.Name())
	channels := make([]clientv3.WatchChan, watchers)
	parallel(watchers, func(i int) {
		channels[i] = client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	})
	for _, ch := range channels {
		next(t, ch)
	}
	value := make([]byte, valueBytes)
	revisions := make([]int64, puts)
	done := make(chan error, 1)
	go func() {
		for i := range revisions {
			r, err := client.Put(ctx, fmt.Sprint(prefix, i), string(value))
			if err != nil {
				done <- err
				return
			}
			revisions[i] = r.Header.Revision
		}
		done <- nil
	}()
	var wg sync.WaitGroup
	keys := make([][]string, watchers)
	revs := make([][]int64, watchers)
	for i, ch := range channels {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for len(revs[i]) < puts {
				r, ok := <-ch
				if !ok || r.Err() != nil {
					t.Errorf("watcher %d has ended after %d events: %v", i, len(revs[i]), r.Err())
					return
				}
				for _, e := range r.Events {
					keys[i] = append(keys[i], string(e.Kv.Key))
					revs[i] = append(revs[i], e.Kv.ModRevision)
				}
			}
		}()
	}
	if err := <-done; err != nil {
		t.Fatalf("put: %v", err)
	}
	wg.Wait()
	for i := range channels {
		for j := range min(len(revs[i]), puts) {
			if revs[i][j] != revisions[j] || keys[i][j] != fmt.Sprint(prefix, j) {
				t.Fatalf("watcher %d, event %d: %s at %d, put at %d", i, j, keys[i][j], revs[i][j], revisions[j])
			}
		}
	}
}

// ManyStreams: far more streams on one connection than are announced at first; the limit follows.
func ManyStreams(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	client := connect(t, n)
	put(t, client, "/streams", "before")
	before := metric(t, n, metricWatchers)
	const streams = 2000
	ctx, cancel := context.WithTimeout(context.Background(), 2*cluster.Bound)
	defer cancel()
	all := make([]pb.Watch_WatchClient, streams)
	for i := range all {
		s, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("/streams")}}})
		if r, err := s.Recv(); err != nil || !r.Created {
			t.Fatalf("stream %d: %v %v", i, r, err)
		}
		all[i] = s
	}
	put(t, client, "/streams", "after")
	for i, s := range all {
		if r, err := s.Recv(); err != nil || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "after" {
			t.Fatalf("stream %d: %v %v", i, r, err)
		}
	}
	cancel()
	untilMetric(t, n, metricWatchers, before)
	put(t, client, "/streams", "last")
}

// stalling is a connection that stops reading when it is told to.
type stalling struct {
	net.Conn
	stalled *atomic.Bool
	closed  chan struct{}
	once    sync.Once
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.stalled.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.Conn.Read(p)
}

func (s *stalling) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

const (
	neverWatchers = 100
	neverPuts     = 100
	neverBytes    = 10000
	// One stream that is not read holds STREAM_BUFFER_BYTES and one message; twice that with what nghttp2 and the
	// socket's writer hold, and the healthy stream may hold as much. Without a limit it would be 100 MB.
	neverOutput = 2*(1<<20+neverBytes+200) + 1<<20
	neverAnon   = 48 << 20
)

// NeverReadsConnection: one client opens watchers and then never reads its connection again. Others go on.
func NeverReadsConnection(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	var stalled atomic.Bool
	silent, err := clientv3.New(clientv3.Config{Endpoints: []string{n.Endpoint()}, DialTimeout: cluster.Bound, TLS: cluster.ClientTLS(), Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Endpoint())
			if err != nil {
				return nil, err
			}
			return &stalling{Conn: conn, stalled: &stalled, closed: make(chan struct{})}, nil
		})}})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	before := metric(t, n, metricWatchers)
	neverReads(t, n, connect(t, n), func(ctx context.Context, prefix string) {
		for range neverWatchers {
			next(t, silent.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify()))
		}
		stalled.Store(true)
	})
	silent.Close()
	untilMetric(t, n, metricWatchers, before)
}

// NeverReadsStream: the stream that is not read is one of several on a connection.
func NeverReadsStream(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	client := connect(t, n)
	before := metric(t, n, metricWatchers)
	var s pb.Watch_WatchClient
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	neverReads(t, n, client, func(_ context.Context, prefix string) {
		var err error
		if s, err = pb.NewWatchClient(client.ActiveConnection()).Watch(ctx); err != nil {
			t.Fatal(err)
		}
		for range neverWatchers {
			s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
				Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix))}}})
			if r, err := s.Recv(); err != nil || !r.Created {
				t.Fatal(r, err)
			}
		}
	})
	// Read after all, it gets everything that it has missed, once and in order.
	last := make([]int64, neverWatchers)
	count := make([]int, neverWatchers)
	for total := 0; total < neverWatchers*neverPuts; {
		r, err := s.Recv()
		if err != nil {
			t.Fatalf("after %d events: %v", total, err)
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision <= last[r.WatchId] {
				t.Fatalf("watcher %d: revision %d after %d", r.WatchId, e.Kv.ModRevision, last[r.WatchId])
			}
			last[r.WatchId] = e.Kv.ModRevision
			count[r.WatchId]++
			total++
		}
	}
	for i, v := range count {
		if v != neverPuts {
			t.Errorf("watcher %d got %d events of %d", i, v, neverPuts)
		}
	}
	cancel()
	untilMetric(t, n, metricWatchers, before)
}

// sanitized says whether the sidecar was built with a sanitizer, which keeps what was freed.
func sanitized(n *cluster.Node) bool {
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", n.Child("quorumfs-grpc")))
	return strings.Contains(string(maps), "libasan") || strings.Contains(string(maps), "libtsan")
}

func neverReads(t *testing.T, n *cluster.Node, healthy *clientv3.Client, open func(ctx context.Context, prefix string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*cluster.Bound)
	t.Cleanup(cancel)
	watchers := 1000
	anon := metric(t, n, metricAnon)
	open(ctx, fmt.Sprintf("/fan-out/%s/", t.Name()))
	fanOut(t, n, healthy, watchers, neverPuts, neverBytes)
	if v := metric(t, n, metricOutput); v > neverOutput {
		t.Errorf("%d bytes of output are held, at most %d may be", v, neverOutput)
	}
	if v := metric(t, n, metricAnon); v > anon+neverAnon && !sanitized(n) {
		t.Errorf("anonymous memory rose from %d to %d", anon, v)
	}
	if v := metric(t, n, "etcd_debugging_mvcc_slow_watcher_total"); v < 1 {
		t.Errorf("no watcher counts as lagging, but %d do not read", neverWatchers)
	}
	put(t, healthy, "/never/after", "x")
}
