package clientv3

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// StormKill is Storm on three nodes of which sidecars and leaders are killed with SIGKILL in between: many watchers of one prefix get
// every event, once and in order, beside 1,000 watches that never read, others that come and go, and compaction behind all that read.
func StormKill(t *testing.T) {
	s := &stormKill{T: t, watchers: 1000, rounds: 2, each: 5, value: strings.Repeat("k", 2000)}
	if Soak() {
		s.watchers, s.rounds, s.each = 10000, 10, 5
	}
	s.Cluster = cluster.Start(t, cluster.Options{Nodes: 3})
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(context.Background(), time.Duration(4*s.rounds)*cluster.Bound)
	defer cancel()
	for range 4 {
		s.clients = append(s.clients, connect(t, s.Nodes...))
	}
	s.watch()
	for _, n := range s.Nodes {
		s.silence(n)
	}
	stop := s.churn()
	anon := map[*cluster.Node]int64{}
	for round := range s.rounds {
		s.puts(round == 0)
		s.killSidecar(s.Nodes[round%3])
		s.puts(true)
		leader := s.Leader()
		leader.Kill()
		s.puts(true)
		leader.Start()
		s.silence(leader)
		for _, n := range s.Nodes {
			anon[n] = max(anon[n], metric(t, n, metricAnon))
			if v := metric(t, n, metricAnon); v > stormKillAnon && !sanitized(n) {
				t.Errorf("round %d: %s holds %d bytes of anonymous memory", round, n.Name, v)
			}
			if v := metric(t, n, metricOutput); v > silentStreams*(3<<20) {
				t.Errorf("round %d: %s holds %d bytes of output", round, n.Name, v)
			}
		}
	}
	close(stop)
	s.puts(false) // for those who came last
	s.done()
	fmt.Fprintf(os.Stderr, "storm with kills: %d rounds, %d events for %d watchers, %d watches came and went, %d overtaken by compaction, anonymous memory at most %d kB\n",
		s.rounds, s.put*s.watchers, s.watchers, s.churned.Load(), s.overtaken, max(anon[s.Nodes[0]], anon[s.Nodes[1]], anon[s.Nodes[2]])/1024)
}

const stormKillPrefix = "/storm-kill/"

// Of a sidecar with a third of the watchers, or for a time all of them, and a third of the silent streams.
const stormKillAnon = 48 << 20

type stormKill struct {
	*testing.T
	*cluster.Cluster
	watchers, rounds, each int
	value                  string
	ctx                    context.Context
	clients                []*clientv3.Client
	reached                []atomic.Int64 // how many events each watcher has, all in order
	wrong                  []string
	reading                sync.WaitGroup
	ended                  context.CancelFunc
	churning               sync.WaitGroup
	churned                atomic.Int64
	put                    int
	revisions              []int64
	silent                 map[*cluster.Node][]pb.Watch_WatchClient
	endSilent              map[*cluster.Node]context.CancelFunc
	overtaken              int
}

func (s *stormKill) watch() {
	ctx, cancel := context.WithCancel(s.ctx)
	s.ended = cancel
	start := put(s.T, s.clients[0], "/storm-kill-begin", "").Header.Revision + 1
	s.reached = make([]atomic.Int64, s.watchers)
	s.wrong = make([]string, s.watchers)
	for i := range s.watchers {
		ch := s.clients[i%len(s.clients)].Watch(ctx, stormKillPrefix, clientv3.WithPrefix(), clientv3.WithRev(start))
		s.reading.Add(1)
		go func() {
			defer s.reading.Done()
			for r := range ch {
				if r.Err() != nil && ctx.Err() == nil {
					s.wrong[i] = r.Err().Error()
				}
				for _, e := range r.Events {
					at := s.reached[i].Load()
					if string(e.Kv.Key) != fmt.Sprint(stormKillPrefix, at) || len(e.Kv.Value) != len(s.value) {
						s.wrong[i] = fmt.Sprintf("event %d is %s at %d", at, e.Kv.Key, e.Kv.ModRevision)
					}
					s.reached[i].Add(1)
				}
			}
		}()
	}
}

// silence opens streams to a node, each with many watches, and never reads them again.
func (s *stormKill) silence(n *cluster.Node) {
	s.Helper()
	if s.silent == nil {
		s.silent, s.endSilent = map[*cluster.Node][]pb.Watch_WatchClient{}, map[*cluster.Node]context.CancelFunc{}
	}
	if end := s.endSilent[n]; end != nil {
		end()
	}
	var ctx context.Context
	ctx, s.endSilent[n] = context.WithCancel(s.ctx)
	s.silent[n] = nil
	client := connect(s.T, n)
	get(s.T, client, "/storm-kill-begin")
	for range (silentStreams + 2) / 3 {
		stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
		if err != nil {
			s.Fatal(err)
		}
		for range silentEach {
			stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
				Key: []byte(stormKillPrefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(stormKillPrefix))}}})
		}
		for created := 0; created < silentEach; {
			r, err := stream.Recv()
			if err != nil {
				s.Fatal(err)
			}
			if r.Created {
				created++
			}
		}
		s.silent[n] = append(s.silent[n], stream)
	}
}

func (s *stormKill) churn() chan struct{} {
	stop := make(chan struct{})
	for g := range 6 {
		s.churning.Add(1)
		go func() {
			defer s.churning.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				one, end := context.WithTimeout(s.ctx, cluster.Bound)
				ch := s.clients[(g+i)%len(s.clients)].Watch(one, fmt.Sprint(stormKillPrefix, i%7), clientv3.WithCreatedNotify(), clientv3.WithPrefix())
				<-ch
				end()
				for range ch {
				}
				s.churned.Add(1)
			}
		}()
	}
	return stop
}

// putOne makes the key, once, whatever becomes of the tries.
func (s *stormKill) putOne(key string) int64 {
	s.Helper()
	var revision int64
	cluster.Until(s.T, "a put", func() (bool, string) {
		one, done := context.WithTimeout(s.ctx, 5*time.Second)
		defer done()
		r, err := s.clients[s.put%len(s.clients)].Txn(one).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, s.value)).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return false, err.Error()
		}
		revision = r.Header.Revision
		if !r.Succeeded {
			revision = r.Responses[0].GetResponseRange().Kvs[0].ModRevision
		}
		return true, ""
	})
	return revision
}

// puts makes a few, waits until all that read have them, and compacts behind.
func (s *stormKill) puts(compact bool) {
	s.Helper()
	for range s.each {
		s.revisions = append(s.revisions, s.putOne(fmt.Sprint(stormKillPrefix, s.put)))
		s.put++
	}
	cluster.UntilWithin(s.T, 4*cluster.Bound, "every watcher has all events", func() (bool, string) {
		for i := range s.reached {
			if v := s.reached[i].Load(); v < int64(s.put) {
				return false, fmt.Sprintf("watcher %d has %d of %d, %s", i, v, s.put, s.wrong[i])
			}
		}
		return true, ""
	})
	if !compact {
		return
	}
	cluster.Until(s.T, "compaction", func() (bool, string) {
		one, done := context.WithTimeout(s.ctx, 5*time.Second)
		defer done()
		_, err := s.clients[0].Compact(one, s.revisions[s.put-1])
		return err == nil || strings.Contains(err.Error(), "compacted"), fmt.Sprint(err)
	})
}

func (s *stormKill) killSidecar(n *cluster.Node) {
	s.Helper()
	pid := n.Child("quorumfs-grpc")
	if pid == 0 {
		s.Fatalf("%s has no sidecar", n.Name)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	cluster.Until(s.T, "a new sidecar", func() (bool, string) {
		now := n.Child("quorumfs-grpc")
		if now == 0 || now == pid {
			return false, "none yet"
		}
		_, body, err := fetch(n, "/health")
		return err == nil && strings.Contains(body, `"true"`), fmt.Sprint(body, err)
	})
	s.silence(n)
}

// done reads the silent streams at last: each watch has events without a gap, and then the newest one or its end by compaction.
func (s *stormKill) done() {
	s.Helper()
	for n, streams := range s.silent {
		for _, stream := range streams {
			at := make([]int64, silentEach)
			for over := 0; over < silentEach; {
				r, err := stream.Recv()
				if err != nil {
					s.Fatalf("a silent stream to %s: %v", n.Name, err)
				}
				if r.Canceled && r.CompactRevision <= at[r.WatchId] {
					s.Errorf("a silent watch has events up to %d and is told of compaction at %d", at[r.WatchId], r.CompactRevision)
				}
				if r.Canceled {
					s.overtaken++
					over++
				}
				for _, e := range r.Events {
					if e.Kv.ModRevision <= at[r.WatchId] {
						s.Fatalf("a silent watch: revision %d after %d", e.Kv.ModRevision, at[r.WatchId])
					}
					at[r.WatchId] = e.Kv.ModRevision
					if e.Kv.ModRevision == s.revisions[s.put-1] {
						over++
					}
				}
			}
		}
	}
	s.ended()
	s.reading.Wait()
	s.churning.Wait()
	for i := range s.wrong {
		if s.wrong[i] != "" || s.reached[i].Load() != int64(s.put) {
			s.Fatalf("watcher %d: %d events of %d, %s", i, s.reached[i].Load(), s.put, s.wrong[i])
		}
	}
	for _, end := range s.endSilent {
		end()
	}
}
