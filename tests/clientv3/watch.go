package clientv3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// next is the next response of a watch, or a failure.
func next(t testing.TB, ch clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case r, ok := <-ch:
		if !ok {
			t.Fatal("the watch has ended")
		}
		return r
	case <-time.After(cluster.Bound):
		t.Fatal("no response of the watch")
	}
	panic("not reached")
}

// events reads n events and checks that their revisions never fall.
func events(t testing.TB, ch clientv3.WatchChan, n int) []*clientv3.Event {
	t.Helper()
	var all []*clientv3.Event
	for len(all) < n {
		r := next(t, ch)
		if err := r.Err(); err != nil {
			t.Fatalf("after %d of %d events: %v", len(all), n, err)
		}
		all = append(all, r.Events...)
		if r.Header.Revision < all[max(len(all)-1, 0)].Kv.ModRevision {
			t.Errorf("header at revision %d before its event at %d", r.Header.Revision, all[len(all)-1].Kv.ModRevision)
		}
	}
	for i := 1; i < len(all); i++ {
		if all[i].Kv.ModRevision < all[i-1].Kv.ModRevision {
			t.Fatalf("revision %d after %d", all[i].Kv.ModRevision, all[i-1].Kv.ModRevision)
		}
	}
	if len(all) != n {
		t.Fatalf("%d events instead of %d", len(all), n)
	}
	return all
}

func text(all []*clientv3.Event) string {
	var b strings.Builder
	for _, e := range all {
		key := string(e.Kv.Key)
		fmt.Fprintf(&b, "%s %s=%s;", e.Type, key[strings.LastIndex(key, "/")+1:], e.Kv.Value)
	}
	return b.String()
}

// WatchHistory: from a past revision, from a future one, keys and ranges, on leader and follower.
func WatchHistory(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		start := put(t, c, "/hist/a", "1").Header.Revision
		put(t, c, "/hist/b", "2")
		put(t, c, "/other", "x")
		if _, err := c.Delete(within(t), "/hist/a"); err != nil {
			t.Fatal(err)
		}
		future := put(t, c, "/hist/a", "3").Header.Revision + 3
		ctx := within(t)
		all := c.Watch(ctx, "/hist/", clientv3.WithPrefix(), clientv3.WithRev(start))
		single := c.Watch(ctx, "/hist/a", clientv3.WithRev(start))
		later := c.Watch(ctx, "/hist/", clientv3.WithPrefix(), clientv3.WithRev(start+1))
		ahead := c.Watch(ctx, "/hist/", clientv3.WithPrefix(), clientv3.WithRev(future))
		if got := text(events(t, all, 4)); got != "PUT a=1;PUT b=2;DELETE a=;PUT a=3;" {
			t.Errorf("from the start: %s", got)
		}
		if got := text(events(t, single, 3)); got != "PUT a=1;DELETE a=;PUT a=3;" {
			t.Errorf("one key: %s", got)
		}
		if got := text(events(t, later, 3)); got != "PUT b=2;DELETE a=;PUT a=3;" {
			t.Errorf("from the second: %s", got)
		}
		for i := 0; i < 5; i++ { // revisions future-2 to future+2
			put(t, c, "/hist/f", fmt.Sprint(i))
		}
		if got := text(events(t, ahead, 3)); got != "PUT f=2;PUT f=3;PUT f=4;" {
			t.Errorf("from the future: %s", got)
		}
		if got := text(events(t, all, 5)); !strings.HasSuffix(got, "PUT f=4;") {
			t.Errorf("live after history: %s", got)
		}
	}
}

// WatchOptions: prev_kv, filters, ranges of all forms, created notices, cancel.
func WatchOptions(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	c := connect(t, n)
	before := metric(t, n, metricWatchers)
	ctx, cancel := context.WithCancel(within(t))
	put(t, c, "/wo/a", "before")
	prev := c.Watch(ctx, "/wo/a", clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	puts := c.Watch(ctx, "/wo/", clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	deletes := c.Watch(ctx, "/wo/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	from := c.Watch(ctx, "/wo/b", clientv3.WithFromKey(), clientv3.WithCreatedNotify())
	ranged := c.Watch(ctx, "/wo/a", clientv3.WithRange("/wo/b"), clientv3.WithCreatedNotify())
	everything := c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for _, ch := range []clientv3.WatchChan{prev, puts, deletes, from, ranged, everything} {
		if r := next(t, ch); !r.Created || r.Header.Revision == 0 {
			t.Errorf("instead of a created notice: %v", r)
		}
	}
	put(t, c, "/wo/a", "1")
	put(t, c, "/wo/b", "2")
	c.Delete(within(t), "/wo/", clientv3.WithPrefix())
	got := events(t, prev, 2)
	if got[0].PrevKv == nil || string(got[0].PrevKv.Value) != "before" || got[1].PrevKv == nil || string(got[1].PrevKv.Value) != "1" {
		t.Errorf("prev_kv: %v", got)
	}
	if got[0].IsCreate() || !got[0].IsModify() || got[1].Kv.CreateRevision != 0 || got[1].Kv.Version != 0 {
		t.Errorf("events: %v", got)
	}
	if s := text(events(t, puts, 2)); s != "PUT a=1;PUT b=2;" {
		t.Errorf("without deletes: %s", s)
	}
	if s := text(events(t, deletes, 2)); s != "DELETE a=;DELETE b=;" {
		t.Errorf("without puts: %s", s)
	}
	if s := text(events(t, from, 2)); s != "PUT b=2;DELETE b=;" {
		t.Errorf("from a key: %s", s)
	}
	if s := text(events(t, ranged, 2)); s != "PUT a=1;DELETE a=;" {
		t.Errorf("a range: %s", s)
	}
	if s := text(events(t, everything, 4)); s != "PUT a=1;PUT b=2;DELETE a=;DELETE b=;" {
		t.Errorf("everything: %s", s)
	}
	if v := metric(t, n, metricWatchers); v != before+6 {
		t.Errorf("%d watchers, before %d", v, before)
	}
	cancel()
	untilMetric(t, n, metricWatchers, before)
}

// WatchRaw: what clientv3 never sends or hides: client-chosen ids, wrong requests, cancel of what is not there.
func WatchRaw(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	put(t, c, "/raw/k", "0")
	s, err := pb.NewWatchClient(c.ActiveConnection()).Watch(within(t))
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *pb.WatchRequest) {
		t.Helper()
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	create := func(r *pb.WatchCreateRequest) *pb.WatchResponse {
		t.Helper()
		send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
		a, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, x := range []struct {
		request *pb.WatchCreateRequest
		id      int64
		reason  string
	}{
		{&pb.WatchCreateRequest{Key: []byte("/raw/k")}, 0, ""},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k")}, 1, ""},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), WatchId: 2}, 2, ""},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), WatchId: 77}, 77, ""},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k")}, 3, ""},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), WatchId: 77}, -1, "mvcc: duplicate watch ID provided on the WatchStream"},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), RangeEnd: []byte("/raw/k")}, -1, "mvcc: watcher range is empty"},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), RangeEnd: []byte("/a")}, -1, "mvcc: watcher range is empty"},
		{&pb.WatchCreateRequest{Key: []byte("/raw/k"), StartRevision: -1}, -1, "mvcc: required revision has been compacted"},
	} {
		r := create(x.request)
		if !r.Created || r.WatchId != x.id || r.Canceled != (x.reason != "") || r.CancelReason != x.reason || r.Header.Revision == 0 {
			t.Errorf("%v: %v", x.request, r)
		}
	}
	send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 999}}})
	send(&pb.WatchRequest{})
	for _, id := range []int64{77, 0, 1, 2} {
		send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
		if r, err := s.Recv(); err != nil || !r.Canceled || r.Created || r.WatchId != id || r.CancelReason != "" {
			t.Errorf("cancel of %d: %v %v", id, r, err)
		}
	}
	put(t, c, "/raw/k", "1")
	if r, err := s.Recv(); err != nil || r.WatchId != 3 || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "1" {
		t.Errorf("the one that is left: %v %v", r, err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Recv(); err == nil {
		t.Errorf("after the half-close: %v", r)
	}
}

// WatchProgress: a request is answered at a revision that everything before has been delivered for.
func WatchProgress(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		start := put(t, c, "/progress/k", "first").Header.Revision
		b := c.Watch(ctx, "/progress/none", clientv3.WithCreatedNotify())
		next(t, b)
		const txns, size = 60, 100 // history enough for the request to come before it has been read
		var last int64
		for i := 0; i < txns; i++ {
			var ops []clientv3.Op
			for j := 0; j < size; j++ {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("/progress/%d", j), fmt.Sprint(i)))
			}
			r, err := c.Txn(ctx).Then(ops...).Commit()
			if err != nil {
				t.Fatal(err)
			}
			last = r.Header.Revision
		}
		a := c.Watch(ctx, "/progress/", clientv3.WithPrefix(), clientv3.WithRev(start), clientv3.WithCreatedNotify())
		next(t, a)
		if err := c.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		if r := next(t, b); !r.IsProgressNotify() || r.Header.Revision < last {
			t.Errorf("progress at %d, the last put was %d: %v", r.Header.Revision, last, r)
		}
		seen := 0
		for {
			r := next(t, a)
			if r.IsProgressNotify() {
				break
			}
			seen += len(r.Events)
		}
		if seen != 1+txns*size {
			t.Errorf("%d of %d events before the progress notice", seen, 1+txns*size)
		}
	}
}

// WatchTxnTogether: all events of one revision come in one response.
func WatchTxnTogether(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	ctx := within(t)
	live := c.Watch(ctx, "/together/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(t, live)
	var ops []clientv3.Op
	for i := 0; i < 100; i++ {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("/together/%02d", i), "x"))
	}
	var first int64
	for i := 0; i < 5; i++ {
		r, err := c.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = r.Header.Revision
		}
	}
	late := c.Watch(ctx, "/together/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFragment())
	for _, ch := range []clientv3.WatchChan{live, late} {
		for i := 0; i < 5; i++ {
			r := next(t, ch)
			if len(r.Events) != 100 {
				t.Fatalf("revision %d: %d events of 100", r.Header.Revision, len(r.Events))
			}
			for j, e := range r.Events {
				if e.Kv.ModRevision != r.Header.Revision || string(e.Kv.Key) != fmt.Sprintf("/together/%02d", j) {
					t.Fatalf("event %d: %v", j, e)
				}
			}
		}
	}
	// A revision larger than one message may be: a watcher that asks for it gets it in fragments, joined by clientv3.
	big := strings.Repeat("b", 60000)
	for i := 0; i < 100; i += 20 {
		var puts []clientv3.Op
		for j := i; j < i+20; j++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("/fragment/%02d", j), big))
		}
		if _, err := c.Txn(ctx).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte("/fragment/"), RangeEnd: []byte("/fragment0"), PrevKv: true, Fragment: true}}})
	if r, err := s.Recv(); err != nil || !r.Created {
		t.Fatal(r, err)
	}
	if _, err := c.Delete(ctx, "/fragment/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	count, fragments := 0, 0
	for {
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.Size() > 2<<20 {
			t.Errorf("a fragment of %d bytes", r.Size())
		}
		for _, e := range r.Events {
			if string(e.Kv.Key) != fmt.Sprintf("/fragment/%02d", count) || e.PrevKv == nil || string(e.PrevKv.Value) != big {
				t.Fatalf("event %d of fragment %d is wrong", count, fragments)
			}
			count++
		}
		fragments++
		if !r.Fragment {
			break
		}
	}
	if count != 100 || fragments < 3 {
		t.Errorf("%d events in %d fragments", count, fragments)
	}
	if _, err := c.Get(ctx, "/x", clientv3.WithRev(1<<50)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Error(err)
	}
}

// CompactPhysical: answered when what it took is removed from the member that was asked.
func CompactPhysical(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		var last int64
		for i := range 30 {
			var ops []clientv3.Op
			for j := range 100 {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("/physical/%d", j), fmt.Sprint(i)))
			}
			r, err := c.Txn(within(t)).Then(ops...).Commit()
			if err != nil {
				t.Fatal(err)
			}
			last = r.Header.Revision
		}
		if _, err := c.Compact(within(t), last, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		if removed := metric(t, n, "quorumfs_store_removed_revision"); removed <= last {
			t.Errorf("removed up to %d, compacted at %d", removed, last)
		}
	}
}

// Compact: old revisions cannot be read; watches from before, and those that were overtaken, are told; others go on.
func Compact(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		first := put(t, c, "/compact/k", "1").Header.Revision
		second := put(t, c, "/compact/k", "2").Header.Revision
		third := put(t, c, "/compact/k", "3").Header.Revision
		live := c.Watch(ctx, "/compact/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		next(t, live)
		// A stream that is not read until compaction has overtaken its watches, one on the key and one on a range.
		s, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*pb.WatchCreateRequest{{Key: []byte("/compact/k")}, {Key: []byte("/compact/"), RangeEnd: []byte("/compact0")}} {
			s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
			if a, err := s.Recv(); err != nil || !a.Created {
				t.Fatal(a, err)
			}
		}
		big := strings.Repeat("x", 500000)
		var last int64
		for i := 0; i < 12; i++ { // more than the stream's buffer and the client's window hold
			last = put(t, c, "/compact/k", fmt.Sprint(big, i)).Header.Revision
		}
		events(t, live, 12)
		if _, err := c.Compact(ctx, 1<<40); !errors.Is(err, rpctypes.ErrFutureRev) {
			t.Errorf("compaction at a future revision: %v", err)
		}
		if r, err := c.Compact(ctx, second); err != nil || r.Header.Revision < last {
			t.Errorf("compaction: %v %v", r, err)
		}
		if _, err := c.Compact(ctx, second); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("the same again: %v", err)
		}
		if _, err := c.Get(ctx, "/compact/k", clientv3.WithRev(first)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("a read below: %v", err)
		}
		if r := get(t, c, "/compact/k", clientv3.WithRev(second)); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "2" {
			t.Errorf("a read at it: %v", r.Kvs)
		}
		for _, opts := range [][]clientv3.OpOption{nil, {clientv3.WithPrefix()}} {
			old := c.Watch(ctx, "/compact/k", append(opts, clientv3.WithRev(first))...)
			if r := next(t, old); !r.Canceled || r.CompactRevision != second || !errors.Is(r.Err(), rpctypes.ErrCompacted) {
				t.Errorf("a watch from below: %v %v", r, r.Err())
			}
			at := c.Watch(ctx, "/compact/k", append(opts, clientv3.WithRev(second))...)
			if all := events(t, at, 14); string(all[0].Kv.Value) != "2" || all[1].Kv.ModRevision != third {
				t.Errorf("a watch from the very revision: %v", all[0])
			}
		}
		if _, err := c.Compact(ctx, last); err != nil {
			t.Error(err)
		}
		canceled := map[int64]int64{}
		seen := map[int64]int64{}
		for len(canceled) < 2 {
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.Canceled {
				canceled[r.WatchId] = r.CompactRevision
			}
			for _, e := range r.Events {
				if canceled[r.WatchId] != 0 || e.Kv.ModRevision <= seen[r.WatchId] {
					t.Errorf("watch %d: revision %d after %d", r.WatchId, e.Kv.ModRevision, seen[r.WatchId])
				}
				seen[r.WatchId] = e.Kv.ModRevision
			}
		}
		if canceled[0] != last || canceled[1] != last || seen[0] >= last || seen[1] >= last {
			t.Errorf("overtaken watches: canceled %v, seen %v, compacted at %d", canceled, seen, last)
		}
		put(t, c, "/compact/k", "after")
		if got := events(t, live, 1); string(got[0].Kv.Value) != "after" {
			t.Errorf("the watch that was up to date: %v", got)
		}
	}
}
