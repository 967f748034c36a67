// Package clientv3 holds the tests that every version of etcd's client has to pass. It is a module of its own and
// no test program: tests/e2e/clientv3_35 and tests/e2e/clientv3_36 each run it with their version of the client.
//
// Nothing here sleeps for a condition. Each test has a watchdog, and QUORUMFS_SOAK=1 asks for the full figures.
package clientv3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"quorumfs.test/e2e/cluster"
)

// Soak says whether the full figures are wanted.
func Soak() bool { return os.Getenv("QUORUMFS_SOAK") != "" || os.Getenv("SOAK") != "" }

// All runs every test of the suite as a subtest.
func All(t *testing.T) {
	cluster.Need(t, "quorumfsd", "quorumfs-grpc", "quorumctl", "e2e/dump")
	one := cluster.Start(t, cluster.Options{})
	three := cluster.Start(t, cluster.Options{Nodes: 3})
	for _, c := range []struct {
		name string
		run  func(t *testing.T, one, three *cluster.Cluster)
	}{
		{"KV", KV},
		{"KVOptions", KVOptions},
		{"Txn", Txn},
		{"LongList", LongList},
		{"LongRange", LongRange},
		{"RangeStream", RangeStream},
		{"BigRange", BigRange},
		{"Errors", Errors},
		{"Unimplemented", Unimplemented},
		{"Addresses", Addresses},
		{"Secure", Secure},
		{"Status", Status},
		{"Members", Members},
		{"Health", Health},
		{"HTTP", HTTP},
		{"Deadline", Deadline},
		{"CancelBurst", CancelBurst},
		{"WatchHistory", WatchHistory},
		{"WatchOptions", WatchOptions},
		{"WatchRaw", WatchRaw},
		{"WatchProgress", WatchProgress},
		{"WatchTxnTogether", WatchTxnTogether},
		{"Birth", Birth},
		{"ManyStreams", ManyStreams},
		{"FanOut", FanOut},
		{"NeverReadsConnection", NeverReadsConnection},
		{"NeverReadsStream", NeverReadsStream},
		{"Lease", Lease},
		{"LeaseErrors", LeaseErrors},
		{"LeaseExpires", LeaseExpires},
		{"LeaseStream", LeaseStream},
		{"KeepAliveEnds", KeepAliveEnds},
		{"Lock", Lock},
		{"LockMany", LockMany},
		{"Elect", Elect},
		{"ObserveUnread", ObserveUnread},
		{"Concurrency", Concurrency},
		{"Mirror", Mirror},
		{"Namespace", Namespace},
		{"Ordering", Ordering},
		{"Leasing", Leasing},
		{"Naming", Naming},
		{"Alarm", Alarm},
		{"Hashes", Hashes},
		{"Maintenance", Maintenance},
		{"Snapshot", Snapshot},
		{"Storm", Storm},
		{"Etcdctl", Etcdctl},
		{"EtcdctlMore", EtcdctlMore},
		{"Compact", Compact},
		{"CompactPhysical", CompactPhysical},
		{"Program", Program},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer watchdog(t, 120*time.Second)()
			c.run(t, one, three)
		})
	}
	t.Run("Mount", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		Mount(t)
	})
	t.Run("Cluster", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		Cluster(t)
	})
	t.Run("Quota", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		Quota(t)
	})
	t.Run("Garbage", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		Garbage(t)
	})
	t.Run("KillServices", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		KillServices(t)
	})
	t.Run("NoQuorum", func(t *testing.T) {
		defer watchdog(t, 120*time.Second)()
		NoQuorum(t)
	})
	t.Run("StormKill", func(t *testing.T) {
		defer watchdog(t, 300*time.Second)()
		StormKill(t)
	})
	t.Run("Kill", func(t *testing.T) {
		defer watchdog(t, 300*time.Second)()
		Kill(t)
	})
}

// watchdog ends the program with all stacks when a test takes too long; stop it with what it returns.
func watchdog(t *testing.T, bound time.Duration) func() {
	if Soak() {
		bound *= 10
	}
	timer := time.AfterFunc(bound, func() {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s did not end within %v\n%s\n", t.Name(), bound, buf[:runtime.Stack(buf, true)])
		os.Exit(3)
	})
	return func() { timer.Stop() }
}

func connect(t testing.TB, nodes ...*cluster.Node) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, n.Endpoint())
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: cluster.Bound, TLS: cluster.ClientTLS(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// within is a context for one step of a test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, c *clientv3.Client, key, value string, opts ...clientv3.OpOption) *clientv3.PutResponse {
	t.Helper()
	r, err := c.Put(within(t), key, value, opts...)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return r
}

func get(t testing.TB, c *clientv3.Client, key string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	r, err := c.Get(within(t), key, opts...)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return r
}

func fetch(n *cluster.Node, path string) (int, string, error) {
	client := http.Client{Timeout: cluster.Bound, Transport: &http.Transport{TLSClientConfig: cluster.ClientTLS(), DisableKeepAlives: true}}
	r, err := client.Get(n.ClientURL + path)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r.StatusCode, string(body), err
}

// metric reads one number from /metrics; labels are part of the name.
func metric(t testing.TB, n *cluster.Node, name string) int64 {
	t.Helper()
	_, body, err := fetch(n, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(body, "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("/metrics has no %s", name)
	return 0
}

const (
	metricWatchers = "etcd_debugging_mvcc_watcher_total"
	metricOutput   = "quorumfs_grpc_output_bytes"
	metricAnon     = "quorumfs_grpc_anonymous_memory_bytes"
)

func untilMetric(t testing.TB, n *cluster.Node, name string, want int64) {
	t.Helper()
	cluster.Until(t, fmt.Sprintf("%s is %d", name, want), func() (bool, string) {
		v := metric(t, n, name)
		return v == want, fmt.Sprint("it is ", v)
	})
}
