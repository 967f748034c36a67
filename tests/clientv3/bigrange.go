package clientv3

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// bigAnonMax is what a list of any size may add to the sidecar's anonymous memory.
const bigAnonMax = 16 << 20

// BigRange: lists far larger than memory would hold, in every order and with every filter, are right, and raise the sidecar's anonymous
// memory by 16 MiB at most. 1 GB with QUORUMFS_SOAK.
func BigRange(t *testing.T, one, three *cluster.Cluster) {
	c := cluster.Start(t, cluster.Options{})
	n := c.Nodes[0]
	client := connect(t, n)
	seed := time.Now().UnixNano()
	if s := os.Getenv("SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewSource(seed))
	keys, size := 20000, 2000
	if Soak() {
		keys, size = 500000, 2000
	}
	want := make([]*mvccpb.KeyValue, 0, keys)
	filler := make([]byte, 2*size)
	random.Read(filler)
	for i := 0; i < keys; {
		var ops []clientv3.Op
		for ; len(ops) < 128 && i < keys; i++ {
			at := random.Intn(size)
			kv := &mvccpb.KeyValue{Key: []byte(fmt.Sprintf("/big/%07d", i)), Value: filler[at : at+size/2+random.Intn(size/2)], Version: 1}
			want = append(want, kv)
			ops = append(ops, clientv3.OpPut(string(kv.Key), string(kv.Value)))
		}
		r, err := client.Txn(within(t)).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range want[len(want)-len(ops):] {
			kv.CreateRevision, kv.ModRevision = r.Header.Revision, r.Header.Revision
		}
	}
	for i := 0; i < keys/20; i++ { // some are changed, so that versions and revisions differ
		kv := want[random.Intn(keys)]
		kv.ModRevision = put(t, client, string(kv.Key), string(kv.Value)).Header.Revision
		kv.Version++
	}
	revision := want[keys/2].CreateRevision
	before := metric(t, n, metricAnon)
	most := before
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond): // how often it is looked at; nothing waits for it
				most = max(most, metric(t, n, metricAnon))
			}
		}
	}()
	for _, x := range []struct {
		what   string
		opts   []clientv3.OpOption
		filter func(kv *mvccpb.KeyValue) bool
		less   func(a, b *mvccpb.KeyValue) int
		limit  int
	}{
		{what: "as it is"},
		{what: "keys only", opts: []clientv3.OpOption{clientv3.WithKeysOnly(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)},
			less: func(a, b *mvccpb.KeyValue) int { return bytes.Compare(b.Key, a.Key) }},
		{what: "keys descending", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)},
			less: func(a, b *mvccpb.KeyValue) int { return bytes.Compare(b.Key, a.Key) }},
		{what: "newest first", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)},
			less: func(a, b *mvccpb.KeyValue) int { return int(b.ModRevision - a.ModRevision) }},
		{what: "the newest 3", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)}, limit: 3,
			less: func(a, b *mvccpb.KeyValue) int { return int(b.ModRevision - a.ModRevision) }},
		{what: "half of them by version", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByVersion, clientv3.SortAscend)}, limit: keys / 2,
			less: func(a, b *mvccpb.KeyValue) int { return int(a.Version - b.Version) }},
		{what: "by a target without an order", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByVersion, clientv3.SortNone)}, limit: -keys / 2,
			less: func(a, b *mvccpb.KeyValue) int { return int(a.Version - b.Version) }},
		{what: "the smallest 100 values", opts: []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, limit: 100,
			less: func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }},
		{what: "filtered", opts: []clientv3.OpOption{clientv3.WithMinCreateRev(revision)},
			filter: func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision >= revision }},
		{what: "filtered, with a limit that is not reached", opts: []clientv3.OpOption{clientv3.WithMinCreateRev(revision)}, limit: keys - 1,
			filter: func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision >= revision }},
		{what: "filtered, with a limit", opts: []clientv3.OpOption{clientv3.WithMaxModRev(revision)}, limit: keys / 4,
			filter: func(kv *mvccpb.KeyValue) bool { return kv.ModRevision <= revision }},
		{what: "filtered and sorted, with a limit", limit: keys / 4,
			opts:   []clientv3.OpOption{clientv3.WithMaxModRev(revision), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)},
			filter: func(kv *mvccpb.KeyValue) bool { return kv.ModRevision <= revision },
			less:   func(a, b *mvccpb.KeyValue) int { return int(b.ModRevision - a.ModRevision) }},
	} {
		expected := make([]*mvccpb.KeyValue, 0, keys)
		for _, kv := range want {
			if x.filter == nil || x.filter(kv) {
				expected = append(expected, kv)
			}
		}
		opts := append(x.opts, clientv3.WithPrefix())
		more := false
		if x.limit < 0 { // etcd: cut in key order, then sorted
			x.limit = -x.limit
			more = len(expected) > x.limit
			expected = expected[:x.limit]
		}
		if x.limit > 0 {
			opts = append(opts, clientv3.WithLimit(int64(x.limit)))
		}
		if x.less != nil {
			sort.SliceStable(expected, func(i, j int) bool { return x.less(expected[i], expected[j]) < 0 })
		}
		if x.limit > 0 && len(expected) > x.limit {
			expected, more = expected[:x.limit], true
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*cluster.Bound)
		r, err := client.Get(ctx, "/big/", opts...)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", x.what, err)
		}
		if len(r.Kvs) != len(expected) || r.Count != int64(keys) || r.More != more {
			t.Fatalf("%s: %d of %d, count %d, more %v", x.what, len(r.Kvs), len(expected), r.Count, r.More)
		}
		for i, kv := range r.Kvs {
			e := expected[i]
			if x.what == "keys only" {
				e = &mvccpb.KeyValue{Key: e.Key, CreateRevision: e.CreateRevision, ModRevision: e.ModRevision, Version: e.Version}
			}
			if !bytes.Equal(kv.Key, e.Key) || !bytes.Equal(kv.Value, e.Value) || kv.ModRevision != e.ModRevision || kv.Version != e.Version ||
				kv.CreateRevision != e.CreateRevision {
				t.Fatalf("%s: place %d: %s at %d, not %s at %d", x.what, i, kv.Key, kv.ModRevision, e.Key, e.ModRevision)
			}
		}
	}
	if _, err := pb.NewKVClient(client.ActiveConnection()).Range(within(t), &pb.RangeRequest{Key: []byte("/big/"), RangeEnd: []byte("/big0"),
		CountOnly: true, SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND}); err != nil {
		t.Error(err)
	}
	close(stop)
	<-stopped
	t.Logf("anonymous memory: %d kB, at most %d kB while %d MB were read again and again", before>>10, most>>10, keys*size*3/4>>20)
	if most > before+bigAnonMax && !sanitized(n) {
		t.Errorf("anonymous memory rose from %d to %d", before, most)
	}
}
