package clientv3

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// Storm: many watchers of one prefix get every event, once and in order, beside 1,000 watchers that never read, others that
// are created and cancelled all the time, and compaction that overtakes those who do not read: they are told with
// compact_revision, and have missed nothing before.
func Storm(t *testing.T, one, three *cluster.Cluster) {
	watchers, puts := 1000, 60
	if Soak() {
		watchers, puts = 10000, 100
	}
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		storm(t, n, watchers, puts)
	}
}

const (
	silentStreams = 10
	silentEach    = 100
)

func storm(t *testing.T, n *cluster.Node, watchers, puts int) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*cluster.Bound)
	if Soak() {
		ctx, cancel = context.WithTimeout(context.Background(), 40*cluster.Bound)
	}
	defer cancel()
	clients := []*clientv3.Client{connect(t, n), connect(t, n), connect(t, n), connect(t, n)}
	before := metric(t, n, metricWatchers)
	prefix := fmt.Sprintf("/storm/%s/", n.Name)

	silent := make([]pb.Watch_WatchClient, silentStreams)
	silentCtx, endSilent := context.WithCancel(ctx)
	defer endSilent()
	for i := range silent {
		s, err := pb.NewWatchClient(clients[i%2].ActiveConnection()).Watch(silentCtx)
		if err != nil {
			t.Fatal(err)
		}
		for range silentEach {
			s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
				Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix))}}})
			if r, err := s.Recv(); err != nil || !r.Created {
				t.Fatal(r, err)
			}
		}
		silent[i] = s
	}
	channels := make([]clientv3.WatchChan, watchers)
	parallel(watchers, func(i int) {
		channels[i] = clients[i%len(clients)].Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	})
	for _, ch := range channels {
		next(t, ch)
	}
	anon := metric(t, n, metricAnon)

	// Others come and go; what they see they see in order.
	stop := make(chan struct{})
	var churn, readers sync.WaitGroup
	var churned atomic.Int64
	for g := range 6 {
		churn.Add(1)
		go func() {
			defer churn.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				one, end := context.WithCancel(ctx)
				ch := clients[(g+i)%len(clients)].Watch(one, fmt.Sprint(prefix, i%7), clientv3.WithCreatedNotify(), clientv3.WithPrefix())
				if r, ok := <-ch; !ok || !r.Created {
					t.Errorf("a watch that comes and goes: %v %v", r, r.Err())
				}
				end()
				for range ch {
				}
				churned.Add(1)
			}
		}()
	}

	value := strings.Repeat("s", 2000)
	revisions := make([]int64, puts)
	reached := make([]atomic.Int64, watchers)
	done := make(chan error, 1)
	go func() {
		for i := range revisions {
			r, err := clients[0].Put(ctx, fmt.Sprint(prefix, i), fmt.Sprint(value, i))
			if err != nil {
				done <- err
				return
			}
			revisions[i] = r.Header.Revision
			if i%10 == 9 { // behind all that read; who does not is overtaken
				for w := 0; w < watchers; {
					if reached[w].Load() >= int64(i-5) || ctx.Err() != nil {
						w++
					} else {
						time.Sleep(time.Millisecond)
					}
				}
				if _, err := clients[1].Compact(ctx, r.Header.Revision-5); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	bad := make([]string, watchers)
	for i, ch := range channels {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for at := 0; at < puts; {
				r, ok := <-ch
				if !ok || r.Err() != nil {
					reached[i].Store(int64(puts))
					bad[i] = fmt.Sprintf("ended after %d events: %v", at, r.Err())
					return
				}
				for _, e := range r.Events {
					if at >= puts || string(e.Kv.Key) != fmt.Sprint(prefix, at) || len(e.Kv.Value) != len(value)+len(fmt.Sprint(at)) {
						reached[i].Store(int64(puts))
						bad[i] = fmt.Sprintf("event %d is %s at %d", at, e.Kv.Key, e.Kv.ModRevision)
						return
					}
					at++
				}
				reached[i].Store(int64(at))
			}
		}()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	close(stop)
	churn.Wait()
	broken := 0
	for i, text := range bad {
		if text != "" {
			if broken++; broken < 10 {
				t.Errorf("watcher %d: %s", i, text)
			}
		}
	}
	if v := metric(t, n, metricOutput); v > silentStreams*(3<<20) {
		t.Errorf("%d bytes wait for %d streams that do not read", v, silentStreams)
	}

	held := metric(t, n, metricAnon)
	if held > anon+neverAnon && !sanitized(n) {
		t.Errorf("anonymous memory rose from %d to %d while %d watches were not read", anon, held, silentStreams*silentEach)
	}

	// Read at last, each silent watch has a beginning of the events without a gap, and then the rest or its end.
	overtaken := 0
	for _, s := range silent {
		at := make([]int, silentEach)
		over := 0
		for over < silentEach {
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			i := int(r.WatchId)
			if r.Canceled {
				if at[i] == puts || r.CompactRevision <= revisions[at[i]] {
					t.Errorf("silent watch %d has %d events and is told of compaction at %d", i, at[i], r.CompactRevision)
				}
				overtaken++
				over++
			}
			for _, e := range r.Events {
				if at[i] >= puts || e.Kv.ModRevision != revisions[at[i]] {
					t.Fatalf("silent watch %d, event %d: %s at %d", i, at[i], e.Kv.Key, e.Kv.ModRevision)
				}
				at[i]++
				if at[i] == puts {
					over++
				}
			}
		}
	}
	if overtaken == 0 {
		t.Error("compaction has overtaken nobody")
	}
	fmt.Fprintf(os.Stderr, "storm: %d events for %d watchers, %d watches came and went, %d of %d silent ones overtaken by compaction, anonymous memory %+d kB\n",
		watchers*puts, watchers, churned.Load(), overtaken, silentStreams*silentEach, (held-anon)/1024)
	endSilent()
	cancel()
	for _, ch := range channels {
		for range ch {
		}
	}
	untilMetric(t, n, metricWatchers, before)
}
